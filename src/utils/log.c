/* Log lines; see log.h. Responsible for what a line looks like and for keeping bytes from clients and peers from forging
 * one (a name may hold newlines or terminal escapes, I12). Not responsible for where lines go, nor
 * for reading the clock. */
#include "utils/log.h"

#include "utils/limits.h"

#include <stdio.h>
#include <string.h>

static const char *const level_names[] = {"debug", "info", "warn", "error"};

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

/* Days since 1970-01-01 to a date of the Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms"). */
static void civil_from_days(uint64_t days, uint64_t *year, unsigned *month, unsigned *day)
{
    uint64_t z = days + 719468, era = z / 146097, doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    *day = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
    *month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    *year = yoe + era * 400 + (*month <= 2);
}

void log_time(struct buf *out, uint64_t wall_ms)
{
    uint64_t seconds = wall_ms / 1000, year;
    unsigned month, day, in_day = (unsigned)(seconds % 86400);
    civil_from_days(seconds / 86400, &year, &month, &day);
    buf_printf(out, "%04llu-%02u-%02uT%02u:%02u:%02u.%03uZ", (unsigned long long)year, month, day, in_day / 3600,
               in_day / 60 % 60, in_day % 60, (unsigned)(wall_ms % 1000));
}

/* Length of the UTF-8 character at s.ptr[i] (RFC 3629: shortest form, no surrogates, up to U+10FFFF), 0 when it is none. */
static size_t utf8_at(slice_t s, size_t i, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t b = s.ptr[i];
    size_t n = b < 0x80 ? 1 : b >> 5 == 6 ? 2 : b >> 4 == 14 ? 3 : b >> 3 == 30 ? 4 : 0;
    if (n == 0 || s.len - i < n) {
        return 0;
    }
    uint32_t c = n == 1 ? b : b & (0x7fu >> n);
    for (size_t k = 1; k < n; k++) {
        if (s.ptr[i + k] >> 6 != 2) {
            return 0;
        }
        c = c << 6 | (s.ptr[i + k] & 0x3f);
    }
    *code = c;
    return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : n;
}

/* C0, DEL, C1, line and paragraph separators, and the marks that reorder text on a screen. */
static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200e && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

void log_escape_text(struct buf *out, slice_t s)
{
    for (size_t i = 0; i < s.len;) {
        uint32_t code = 0;
        size_t n = utf8_at(s, i, &code);
        if (n > 0 && code == '\\') {
            buf_append_str(out, "\\\\");
        } else if (n > 0 && !is_control(code)) {
            buf_append(out, s.ptr + i, n);
        } else {
            n = n > 0 ? n : 1;
            for (size_t k = 0; k < n; k++) {
                buf_printf(out, "\\x%02x", s.ptr[i + k]);
            }
        }
        i += n;
    }
}

void log_escape_json(struct buf *out, slice_t s)
{
    for (size_t i = 0; i < s.len;) {
        uint32_t code = 0;
        size_t n = utf8_at(s, i, &code);
        if (n == 0) {
            buf_append_str(out, "\\ufffd");
            n = 1;
        } else if (code == '"' || code == '\\') {
            buf_printf(out, "\\%c", (char)code);
        } else if (is_control(code)) {
            buf_printf(out, "\\u%04x", code);
        } else {
            buf_append(out, s.ptr + i, n);
        }
        i += n;
    }
}

void log_line(struct buf *out, enum log_format format, uint64_t wall_ms, enum log_level level, const char *node, slice_t text)
{
    bool cut = text.len > LIMIT_LOG_LINE_BYTES;
    text.len = cut ? LIMIT_LOG_LINE_BYTES : text.len;
    if (format == LOG_FORMAT_TEXT) {
        log_time(out, wall_ms);
        buf_printf(out, " %-5s %s%s", log_level_name(level), node, node[0] != '\0' ? " " : "");
        log_escape_text(out, text);
        buf_append_str(out, cut ? "...\n" : "\n");
        return;
    }
    buf_append_str(out, "{\"ts\":\"");
    log_time(out, wall_ms);
    buf_printf(out, "\",\"level\":\"%s\",\"node\":\"", log_level_name(level));
    log_escape_json(out, slice_str(node));
    buf_append_str(out, "\",\"msg\":\"");
    log_escape_json(out, text);
    buf_append_str(out, cut ? "...\"}\n" : "\"}\n");
}

void logger_init(struct logger *l, enum log_level level, enum log_format format, const char *node, struct log_sink sink)
{
    *l = (struct logger){.level = level, .format = format, .sink = sink};
    snprintf(l->node, sizeof l->node, "%s", node);
    buf_init(&l->line);
}

void logger_fini(struct logger *l)
{
    buf_fini(&l->line);
}

void logger_write(struct logger *l, uint64_t wall_ms, enum log_level level, slice_t text)
{
    if (level < l->level) {
        return;
    }
    buf_clear(&l->line);
    log_line(&l->line, l->format, wall_ms, level, l->node, text);
    l->sink.write(l->sink.arg, level, buf_slice(&l->line));
}

bool log_limit_pass(struct log_limit *l, uint64_t now_ms, uint64_t *held_back)
{
    if (now_ms / 1000 != l->window_ms / 1000) {
        l->window_ms = now_ms;
        l->lines = 0;
    }
    if (l->lines >= LIMIT_LOG_LINES_PER_SECOND) {
        l->held_back++;
        return false;
    }
    l->lines++;
    *held_back = l->held_back;
    l->held_back = 0;
    return true;
}
