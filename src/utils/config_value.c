/* Values of settings by type: parsing, ranges, and the words for what is accepted. Responsible for one value at a time;
 * what values must have to do with each other is config_check.c. Values come from operators: strict, and never an assert. */
#include "utils/config_internal.h"

#include "utils/assert.h"

static bool is_digit(uint8_t b) { return b >= '0' && b <= '9'; }
static bool is_alpha(uint8_t b) { return (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z'); }

slice_t config_trim(slice_t s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s = slice_of(s.ptr + 1, s.len - 1);
    }
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t' || s.ptr[s.len - 1] == '\r')) {
        s.len--;
    }
    return s;
}

bool config_next(slice_t *rest, char separator, slice_t *item)
{
    if (rest->ptr == NULL) {
        return false;
    }
    const uint8_t *end = rest->len > 0 ? memchr(rest->ptr, separator, rest->len) : NULL;
    size_t n = end != NULL ? (size_t)(end - rest->ptr) : rest->len;
    *item = config_trim(slice_of(rest->ptr, n));
    *rest = end != NULL ? slice_of(end + 1, rest->len - n - 1) : SLICE_NONE;
    return true;
}

/* Leading digits; *unit is what follows them. No sign, no space, no overflow. */
static bool parse_digits(slice_t s, uint64_t *out, slice_t *unit)
{
    uint64_t v = 0;
    size_t i = 0;
    for (; i < s.len && is_digit(s.ptr[i]); i++) {
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, s.ptr[i] - '0', &v)) {
            return false;
        }
    }
    *out = v;
    *unit = slice_of(s.ptr + i, s.len - i);
    return i > 0;
}

struct unit {
    const char *name;
    uint64_t factor;
};
static const struct unit time_units[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
static const struct unit byte_units[] = {{"", 1},         {"b", 1},        {"k", 1 << 10},  {"kb", 1 << 10}, {"m", 1 << 20},
                                         {"mb", 1 << 20}, {"g", 1 << 30}, {"gb", 1 << 30}};

static bool parse_with_unit(slice_t s, const struct unit *units, size_t count, uint64_t *out)
{
    slice_t unit;
    if (!parse_digits(s, out, &unit)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (slice_ieq(unit, units[i].name)) {
            return !__builtin_mul_overflow(*out, units[i].factor, out);
        }
    }
    return false;
}

static bool parse_choice(const char *choices, slice_t s, uint64_t *place)
{
    slice_t rest = slice_str(choices), item;
    for (*place = 0; config_next(&rest, '|', &item); (*place)++) {
        char word[32] = "";
        syn_assert(item.len < sizeof word);
        memcpy(word, item.ptr, item.len);
        if (slice_ieq(s, word)) {
            return true;
        }
    }
    return false;
}

static bool parse_roles(const char *choices, slice_t s, uint64_t *set)
{
    slice_t item;
    uint64_t place;
    *set = 0;
    while (config_next(&s, ',', &item)) {
        if (!parse_choice(choices, item, &place)) {
            return false;
        }
        *set |= (uint64_t)1 << place;
    }
    return *set != 0;
}

/* Letters, digits, dash and underscore, beginning with a letter or digit: safe in a path, a label and a command line. */
bool config_name_ok(slice_t name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t b = name.ptr[i];
        if (!is_alpha(b) && !is_digit(b) && (i == 0 || (b != '-' && b != '_'))) {
            return false;
        }
    }
    return name.len >= 1 && name.len <= 63;
}

static bool host_ok(slice_t s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t b = s.ptr[i];
        if (!is_alpha(b) && !is_digit(b) && b != '.' && b != '-' && b != '_' && b != ':') {
            return false;
        }
    }
    return s.len >= 1 && s.len <= 255;
}

static bool text_ok(const struct setting_info *s, slice_t text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < 0x20 || text.ptr[i] == 0x7f) {
            return false;
        }
    }
    return text.len >= s->min && text.len <= s->max;
}

bool setting_parse(const struct setting_info *s, slice_t text, struct setting_value *v)
{
    slice_t unit;
    switch (s->type) {
    case SETTING_TYPE_TEXT:
    case SETTING_TYPE_SECRET:
    case SETTING_TYPE_MEMBERS: return text_ok(s, text);
    case SETTING_TYPE_NAME: return config_name_ok(text);
    case SETTING_TYPE_HOST: return host_ok(text);
    case SETTING_TYPE_CHOICE: return parse_choice(s->choices, text, &v->number);
    case SETTING_TYPE_ROLES: return parse_roles(s->choices, text, &v->number);
    case SETTING_TYPE_NUMBER:
    case SETTING_TYPE_PORT:
        return parse_digits(text, &v->number, &unit) && unit.len == 0 && v->number >= s->min && v->number <= s->max;
    case SETTING_TYPE_MS:
        return parse_with_unit(text, time_units, sizeof time_units / sizeof *time_units, &v->number) && v->number >= s->min &&
               v->number <= s->max;
    case SETTING_TYPE_BYTES:
        return parse_with_unit(text, byte_units, sizeof byte_units / sizeof *byte_units, &v->number) && v->number >= s->min &&
               v->number <= s->max;
    case SETTING_TYPE_CAPACITY:
        v->is_bytes = !(parse_digits(text, &v->number, &unit) && unit.len == 0);
        return (!v->is_bytes || parse_with_unit(text, byte_units, sizeof byte_units / sizeof *byte_units, &v->number)) &&
               v->number >= s->min && v->number <= s->max;
    }
    SYN_UNREACHABLE();
}

static void append_choices(const char *choices, const char *last, struct buf *out)
{
    slice_t rest = slice_str(choices), item;
    for (int i = 0; config_next(&rest, '|', &item); i++) {
        buf_append_str(out, i == 0 ? "" : rest.ptr != NULL ? ", " : last);
        buf_append_slice(out, item);
    }
}

void setting_accepts(const struct setting_info *s, struct buf *out)
{
    unsigned long long min = s->min, max = s->max;
    switch (s->type) {
    case SETTING_TYPE_TEXT: buf_printf(out, "text of at most %llu bytes", max); break;
    case SETTING_TYPE_SECRET:
        if (min > 0) {
            buf_printf(out, "a secret of %llu to %llu bytes", min, max);
        } else {
            buf_printf(out, "a secret of at most %llu bytes", max);
        }
        break;
    case SETTING_TYPE_NAME: buf_append_str(out, "letters, digits, - and _, at most 63, not beginning with - or _"); break;
    case SETTING_TYPE_MEMBERS: buf_append_str(out, "id@host:port,... or host:port,..."); break;
    case SETTING_TYPE_HOST: buf_append_str(out, "a host name or address"); break;
    case SETTING_TYPE_NUMBER: buf_printf(out, "a number from %llu to %llu", min, max); break;
    case SETTING_TYPE_PORT: buf_printf(out, "a port from %llu to %llu", min, max); break;
    case SETTING_TYPE_MS: buf_printf(out, "milliseconds from %llu to %llu, or a number with ms, s, m, h or d", min, max); break;
    case SETTING_TYPE_CHOICE: append_choices(s->choices, " or ", out); break;
    case SETTING_TYPE_ROLES: append_choices(s->choices, " and ", out); buf_append_str(out, ", comma separated"); break;
    case SETTING_TYPE_BYTES: buf_printf(out, "bytes from %llu to %llu, or a number with b, kb, mb or gb", min, max); break;
    case SETTING_TYPE_CAPACITY: buf_append_str(out, "entries (1000), or bytes with b, kb, mb or gb (64mb)"); break;
    }
}
