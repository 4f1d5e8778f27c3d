/* JSON; see json.h. jansson parses; depth is bounded before it does, since it recurses. */
#include "communication/json.h"

#include "communication/http_path.h"
#include "utils/limits.h"
#include "utils/log.h"
#include "utils/mutant.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum { NAME_SHOWN_BYTES = 64 };

static bool fail(struct json_in *in, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool fail(struct json_in *in, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(in->why, sizeof in->why, fmt, ap);
    va_end(ap);
    return false;
}

/* Brackets outside of strings, counted. */
static bool depth_ok(slice_t s)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > LIMIT_JSON_DEPTH && !MUTANT("I31")) {
                return false;
            }
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return true;
}

bool json_begin(struct json_in *in, slice_t text)
{
    *in = (struct json_in){0};
    if (text.len == 0) {
        return fail(in, "the body must be a JSON object and is empty");
    }
    if (text.len > LIMIT_HTTP_BODY_BYTES) {
        return fail(in, "the JSON is larger than %d bytes", LIMIT_HTTP_BODY_BYTES);
    }
    if (!depth_ok(text)) {
        return fail(in, "the JSON nests deeper than %d", LIMIT_JSON_DEPTH);
    }
    json_error_t e;
    in->root = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (in->root == NULL) {
        return fail(in, "the body is not JSON: line %d, column %d: %.120s", e.line, e.column, e.text);
    }
    return json_is_object(in->root) || fail(in, "the body must be a JSON object");
}

void json_end(struct json_in *in)
{
    json_decref(in->root);
    in->root = NULL;
}

bool json_has(const struct json_in *in, const char *name)
{
    return json_object_get(in->root, name) != NULL;
}

bool json_only(struct json_in *in, const char *const *names)
{
    const char *key;
    json_t *value;
    json_object_foreach(in->root, key, value) {
        const char *const *n = names;
        while (*n != NULL && strcmp(*n, key) != 0) {
            n++;
        }
        if (*n == NULL) {
            int at = snprintf(in->why, sizeof in->why, "unknown field '%.*s'; this path takes", NAME_SHOWN_BYTES, key);
            for (n = names; *n != NULL && at > 0 && (size_t)at < sizeof in->why; n++) {
                at += snprintf(in->why + at, sizeof in->why - (size_t)at, "%s %s", n == names ? "" : ",", *n);
            }
            return false;
        }
    }
    return true;
}

bool json_text(struct json_in *in, const char *name, bool need, size_t bytes_max, slice_t *out)
{
    json_t *v = json_object_get(in->root, name);
    if (v == NULL || json_is_null(v)) {
        return !need || fail(in, "%s is missing: a string of 1 to %zu bytes", name, bytes_max);
    }
    if (!json_is_string(v) || json_string_length(v) == 0 || json_string_length(v) > bytes_max) {
        return fail(in, "%s must be a string of 1 to %zu bytes", name, bytes_max);
    }
    *out = slice_of(json_string_value(v), json_string_length(v));
    return true;
}

bool json_duration_named(struct json_in *in, const char *seconds, const char *ms, uint64_t min_ms, uint64_t max_ms, uint64_t *out_ms)
{
    json_t *s = seconds != NULL ? json_object_get(in->root, seconds) : NULL;
    json_t *m = ms != NULL ? json_object_get(in->root, ms) : NULL;
    if (s != NULL && m != NULL) {
        return fail(in, "%s and %s exclude each other", seconds, ms);
    }
    if (s == NULL && m == NULL) {
        return true;
    }
    if (m != NULL) {
        if (!json_is_integer(m) || json_integer_value(m) < 0 || (uint64_t)json_integer_value(m) < min_ms ||
            (uint64_t)json_integer_value(m) > max_ms) {
            return fail(in, "%s must be whole milliseconds between %llu and %llu", ms, (unsigned long long)min_ms,
                        (unsigned long long)max_ms);
        }
        *out_ms = (uint64_t)json_integer_value(m);
        return true;
    }
    double v = json_is_number(s) ? json_number_value(s) * 1000.0 : -1.0;
    if (!(v >= (double)min_ms) || v > (double)max_ms) {
        return fail(in, "%s must be seconds between %g and %g", seconds, (double)min_ms / 1000.0, (double)max_ms / 1000.0);
    }
    *out_ms = (uint64_t)llround(v);
    return true;
}

bool json_duration(struct json_in *in, const char *name, uint64_t min_ms, uint64_t max_ms, uint64_t *out_ms)
{
    char ms[NAME_SHOWN_BYTES];
    snprintf(ms, sizeof ms, "%s_ms", name);
    return json_duration_named(in, name, ms, min_ms, max_ms, out_ms);
}

bool json_id(struct json_in *in, const char *name, bool need, uint64_t *out)
{
    json_t *v = json_object_get(in->root, name);
    if (v == NULL || json_is_null(v)) {
        return !need || fail(in, "%s is missing: a 64-bit number as a string of digits", name);
    }
    if (json_is_integer(v) && json_integer_value(v) >= 0) {
        *out = (uint64_t)json_integer_value(v);
        return true;
    }
    const char *s = json_string_value(v);
    uint64_t n = 0;
    bool ok = s != NULL && json_string_length(v) > 0;
    for (size_t i = 0; ok && i < json_string_length(v); i++) {
        uint64_t d = (uint64_t)(uint8_t)s[i] - '0';
        ok = s[i] >= '0' && s[i] <= '9' && n <= (UINT64_MAX - d) / 10;
        n = n * 10 + d;
    }
    if (!ok) {
        return fail(in, "%s must be a 64-bit number as a string of digits", name);
    }
    *out = n;
    return true;
}

void json_put_base64(struct buf *out, slice_t s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < s.len; i += 3) {
        size_t left = s.len - i;
        uint32_t v = (uint32_t)s.ptr[i] << 16 | (left > 1 ? (uint32_t)s.ptr[i + 1] << 8 : 0) | (left > 2 ? s.ptr[i + 2] : 0u);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=', left > 2 ? digits[v & 63] : '='};
        buf_append(out, four, sizeof four);
    }
}

void json_put_string(struct buf *out, slice_t s)
{
    if (!utf8_valid(s)) {
        buf_append_str(out, "{\"encoding\":\"base64\",\"data\":\"");
        json_put_base64(out, s);
        buf_append_str(out, "\"}");
        return;
    }
    buf_put_u8(out, '"');
    log_escape_json(out, s);
    buf_put_u8(out, '"');
}

void json_put_str(struct buf *out, const char *s)
{
    json_put_string(out, slice_str(s));
}

void json_key(struct buf *out, const char *name)
{
    uint8_t last = out->len > 0 ? out->ptr[out->len - 1] : 0;
    if (last != '{' && last != 0) {
        buf_put_u8(out, ',');
    }
    buf_put_u8(out, '"');
    buf_append_str(out, name);
    buf_append_str(out, "\":");
}
