/* The RESP command parser: whole commands out of a byte stream, in place (redis.io, "Redis serialization protocol").
 *
 * Responsible for: multibulk and inline commands, limits before anything is believed, Redis' own words for what is wrong. Not for
 * what a command means. A length never sizes an allocation beyond the argument table, which is bounded by args_max (I1-I8).
 *
 * An incomplete command costs one scan: the parser remembers the offset up to which it has checked arguments, and argument
 * positions are kept as offsets, since the caller's buffer may move between calls. */
#include "communication/resp.h"

#include "utils/assert.h"
#include "utils/mutant.h"

#include <stdio.h>
#include <stdlib.h>

enum { LENGTH_DIGITS_MAX = 20, NEGATIVE_DIGITS_MAX = 18 };

void resp_parser_init(struct resp_parser *p, const struct resp_limits *limits)
{
    *p = (struct resp_parser){.limits = *limits};
}

void resp_parser_fini(struct resp_parser *p)
{
    free(p->argv);
    buf_fini(&p->unquoted);
    *p = (struct resp_parser){0};
}

void resp_parser_set_limits(struct resp_parser *p, const struct resp_limits *limits)
{
    p->limits = *limits;
}

bool resp_parser_is_idle(const struct resp_parser *p)
{
    return p->scanned == 0 && !p->in_multibulk;
}

static void parser_reset(struct resp_parser *p)
{
    p->in_multibulk = false;
    p->scanned = 0;
    p->want = 0;
}

static void argv_push(struct resp_parser *p, slice_t arg)
{
    if (p->argc == p->cap) {
        uint32_t cap = p->cap ? p->cap * 2 : 8;
        p->argv = realloc(p->argv, cap * sizeof *p->argv);
        syn_assert(p->argv != NULL);
        p->cap = cap;
    }
    p->argv[p->argc++] = arg;
}

enum line { LINE_OK, LINE_MORE, LINE_BAD };

/* The digits between at and CRLF. Strict: no '+', no blanks, no leading zeros, no -0 (I4); -1 and below are told by *negative. */
static enum line read_length(slice_t in, size_t *at, uint64_t max, uint64_t *out, bool *negative)
{
    size_t i = *at, digits = 0;
    uint64_t v = 0;
    *negative = i < in.len && in.ptr[i] == '-';
    i += *negative;
    size_t first = i;
    while (i < in.len && in.ptr[i] >= '0' && in.ptr[i] <= '9') {
        if (++digits > LENGTH_DIGITS_MAX) {
            return LINE_BAD;
        }
        v = v > max ? v : v * 10 + (uint64_t)(in.ptr[i] - '0');
        i++;
    }
    if (i == in.len) {
        return LINE_MORE;
    }
    if (digits == 0 || in.ptr[i] != '\r' || (in.ptr[first] == '0' && (digits > 1 || *negative))) {
        return LINE_BAD;
    }
    if (*negative && digits > NEGATIVE_DIGITS_MAX) {
        return LINE_BAD; /* below what 64 bits hold (I3) */
    }
    if (i + 1 == in.len) {
        return LINE_MORE;
    }
    if (in.ptr[i + 1] != '\n') {
        return LINE_BAD;
    }
    *at = i + 2;
    *out = v;
    return LINE_OK;
}

static enum resp_status bad(struct resp_parser *p, const char **reason, const char *text)
{
    parser_reset(p);
    *reason = text;
    return RESP_BAD;
}

static const char *expected(struct resp_parser *p, char want, uint8_t got)
{
    snprintf(p->text, sizeof p->text, "expected '%c', got '%c'", want, got >= ' ' && got < 127 ? got : '?');
    return p->text;
}

static enum resp_status parse_header(struct resp_parser *p, slice_t in, const char **reason)
{
    size_t at = 1;
    uint64_t count = 0;
    bool negative;
    switch (read_length(in, &at, p->limits.args_max, &count, &negative)) {
    case LINE_MORE: return RESP_MORE;
    case LINE_BAD: return bad(p, reason, "invalid multibulk length");
    case LINE_OK: break;
    }
    if (count > p->limits.args_max && !negative && !MUTANT("I1")) {
        return bad(p, reason, "invalid multibulk length");
    }
    p->in_multibulk = true;
    p->want = negative ? 0 : (uint32_t)(count > 1u << 20 ? 1u << 20 : count);
    p->scanned = at;
    return RESP_OK;
}

/* One $ argument at p->scanned. */
static enum resp_status parse_bulk(struct resp_parser *p, slice_t in, const char **reason)
{
    size_t at = p->scanned;
    if (at == in.len) {
        return RESP_MORE;
    }
    if (in.ptr[at] != '$') {
        return bad(p, reason, expected(p, '$', in.ptr[at]));
    }
    at++;
    uint64_t len = 0;
    bool negative;
    switch (read_length(in, &at, p->limits.bulk_bytes_max, &len, &negative)) {
    case LINE_MORE: return RESP_MORE;
    case LINE_BAD: return bad(p, reason, "invalid bulk length");
    case LINE_OK: break;
    }
    if (negative || len > p->limits.bulk_bytes_max || at + len > p->limits.command_bytes_max) {
        return bad(p, reason, "invalid bulk length");
    }
    if (in.len - at < len + 2) {
        return RESP_MORE;
    }
    if (in.ptr[at + len] != '\r' || in.ptr[at + len + 1] != '\n') {
        return bad(p, reason, "expected CRLF after bulk");
    }
    /* An offset for now: `in` may be elsewhere when the rest arrives. */
    argv_push(p, (slice_t){(const uint8_t *)(uintptr_t)at, (size_t)len});
    p->scanned = at + (size_t)len + 2;
    return RESP_OK;
}

static enum resp_status parse_multibulk(struct resp_parser *p, slice_t in, size_t *used, const char **reason)
{
    if (!p->in_multibulk) {
        p->argc = 0;
        enum resp_status st = parse_header(p, in, reason);
        if (st != RESP_OK) {
            return st;
        }
    }
    while (p->argc < p->want) {
        enum resp_status st = parse_bulk(p, in, reason);
        if (st != RESP_OK) {
            return st;
        }
    }
    for (uint32_t i = 0; i < p->argc; i++) {
        p->argv[i].ptr = in.ptr + (uintptr_t)p->argv[i].ptr;
    }
    *used = p->scanned;
    parser_reset(p);
    return RESP_OK;
}

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One escape inside double quotes, as sdssplitargs reads it; returns how many bytes of the line it took. */
static size_t unescape(struct buf *out, const uint8_t *s, size_t left)
{
    if (left >= 4 && s[1] == 'x' && hex_digit(s[2]) >= 0 && hex_digit(s[3]) >= 0) {
        buf_put_u8(out, (uint8_t)(hex_digit(s[2]) * 16 + hex_digit(s[3])));
        return 4;
    }
    static const char from[] = "nrtba", to[] = "\n\r\t\b\a";
    const char *at = s[1] != '\0' ? strchr(from, s[1]) : NULL;
    buf_put_u8(out, at != NULL ? (uint8_t)to[at - from] : s[1]);
    return 2;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* What ends a word outside quotes; vertical tab and form feed do not, they are blanks only between words. */
static bool ends_word(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* One word into p->unquoted. False: quotes are unbalanced. *at moves behind it. */
static bool split_word(struct resp_parser *p, slice_t line, size_t *at)
{
    size_t i = *at;
    uint8_t quote = 0;
    for (; i < line.len; i++) {
        uint8_t c = line.ptr[i];
        if (quote == 0 && ends_word(c)) {
            break;
        }
        if (quote == 0 && (c == '"' || c == '\'')) {
            quote = c;
        } else if (quote == '"' && c == '\\' && i + 1 < line.len) {
            i += unescape(&p->unquoted, line.ptr + i, line.len - i) - 1;
        } else if (quote == '\'' && c == '\\' && i + 1 < line.len && line.ptr[i + 1] == '\'') {
            buf_put_u8(&p->unquoted, '\'');
            i++;
        } else if (quote != 0 && c == quote) {
            *at = i + 1;
            return *at == line.len || is_blank(line.ptr[*at]);
        } else {
            buf_put_u8(&p->unquoted, c);
        }
    }
    *at = i;
    return quote == 0;
}

/* A browser was made to talk to this port (I32). As Redis, the words POST and Host:; and any HTTP/1 request line. */
static bool is_http(slice_t line)
{
    static const char version[] = " HTTP/1.";
    size_t word = 0, n = sizeof version - 1;
    while (word < line.len && !is_blank(line.ptr[word])) {
        word++;
    }
    return slice_ieq(slice_of(line.ptr, word), "post") || slice_ieq(slice_of(line.ptr, word), "host:") ||
           (line.len > n && memcmp(line.ptr + line.len - n - 1, version, n) == 0);
}

/* The words of a line, as sdssplitargs of Redis splits them: up to a NUL, which ends its strings. */
static const char *split_line(struct resp_parser *p, slice_t line)
{
    const uint8_t *nul = line.len > 0 ? memchr(line.ptr, '\0', line.len) : NULL;
    line.len = nul != NULL ? (size_t)(nul - line.ptr) : line.len;
    p->argc = 0;
    buf_clear(&p->unquoted);
    for (size_t at = 0;;) {
        while (at < line.len && is_blank(line.ptr[at])) {
            at++;
        }
        if (at == line.len) {
            return NULL;
        }
        size_t start = p->unquoted.len;
        if (!split_word(p, line, &at)) {
            return "unbalanced quotes in request";
        }
        if (p->argc == p->limits.args_max) {
            return "too many arguments";
        }
        argv_push(p, (slice_t){(const uint8_t *)(uintptr_t)start, p->unquoted.len - start});
    }
}

static enum resp_status parse_inline(struct resp_parser *p, slice_t in, size_t *used, const char **reason)
{
    size_t window = in.len < p->limits.inline_bytes_max ? in.len : p->limits.inline_bytes_max;
    size_t from = p->scanned < window ? p->scanned : window;
    const uint8_t *nl = memchr(in.ptr + from, '\n', window - from);
    if (nl == NULL) {
        p->scanned = window;
        return in.len >= p->limits.inline_bytes_max ? bad(p, reason, "too big inline request") : RESP_MORE;
    }
    parser_reset(p);
    slice_t line = slice_of(in.ptr, (size_t)(nl - in.ptr));
    *used = line.len + 1;
    if (line.len > 0 && line.ptr[line.len - 1] == '\r') {
        line.len--;
    }
    if (is_http(line)) {
        return bad(p, reason, "HTTP on the RESP port: the HTTP door has a port of its own");
    }
    const char *why = split_line(p, line);
    if (why != NULL) {
        return bad(p, reason, why);
    }
    for (uint32_t i = 0; i < p->argc; i++) {
        p->argv[i].ptr = p->unquoted.ptr != NULL ? p->unquoted.ptr + (uintptr_t)p->argv[i].ptr : in.ptr;
    }
    return RESP_OK;
}

enum resp_status resp_parse(struct resp_parser *p, slice_t in, size_t *used, const char **reason)
{
    *used = 0;
    if (in.len == 0) {
        return RESP_MORE;
    }
    if (in.ptr[0] == '*') {
        return parse_multibulk(p, in, used, reason);
    }
    /* The other heads of RESP values begin no command, and what follows them would be read as commands (I11). */
    if (in.ptr[0] != '\0' && strchr("$+-:_#,(!=%~>|", in.ptr[0]) != NULL) {
        return bad(p, reason, expected(p, '*', in.ptr[0]));
    }
    return parse_inline(p, in, used, reason);
}
