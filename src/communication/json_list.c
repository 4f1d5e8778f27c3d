/* JSON bodies, the parts that are not single fields: lists, objects of strings, counts, and bytes that may be base64; see json.h. */
#include "communication/json.h"

#include <jansson.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static bool fail(struct json_in *in, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool fail(struct json_in *in, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(in->why, sizeof in->why, fmt, ap);
    va_end(ap);
    return false;
}

bool json_count(struct json_in *in, const char *name, uint64_t min, uint64_t max, uint64_t *out)
{
    json_t *v = json_object_get(in->root, name);
    if (v == NULL || json_is_null(v)) {
        return true;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) < min || (uint64_t)json_integer_value(v) > max) {
        return fail(in, "%s must be a whole number between %llu and %llu", name, (unsigned long long)min, (unsigned long long)max);
    }
    *out = (uint64_t)json_integer_value(v);
    return true;
}

bool json_list(struct json_in *in, const char *name, size_t max, size_t *n)
{
    json_t *v = json_object_get(in->root, name);
    *n = 0;
    if (v == NULL || json_is_null(v)) {
        return true;
    }
    if (!json_is_array(v) || json_array_size(v) == 0 || json_array_size(v) > max) {
        return fail(in, "%s must be a list of 1 to %zu", name, max);
    }
    *n = json_array_size(v);
    return true;
}

bool json_list_object(struct json_in *in, const char *name, size_t i, struct json_in *item)
{
    *item = (struct json_in){.root = json_array_get(json_object_get(in->root, name), i)};
    return json_is_object(item->root) || fail(in, "%s[%zu] must be an object", name, i);
}

bool json_object_in(struct json_in *in, const char *name, struct json_in *item)
{
    *item = (struct json_in){.root = json_object_get(in->root, name)};
    return item->root == NULL || json_is_object(item->root) || fail(in, "%s must be an object", name);
}

bool json_list_text(struct json_in *in, const char *name, size_t i, size_t bytes_max, slice_t *out)
{
    json_t *v = json_array_get(json_object_get(in->root, name), i);
    if (!json_is_string(v) || json_string_length(v) == 0 || json_string_length(v) > bytes_max) {
        return fail(in, "%s[%zu] must be a string of 1 to %zu bytes", name, i, bytes_max);
    }
    *out = slice_of(json_string_value(v), json_string_length(v));
    return true;
}

bool json_pairs(struct json_in *in, const char *name, size_t max, bool (*fn)(void *arg, slice_t key, slice_t value), void *arg)
{
    json_t *object = json_object_get(in->root, name), *value;
    const char *key;
    if (object == NULL || json_is_null(object)) {
        return true;
    }
    if (!json_is_object(object) || json_object_size(object) > max) {
        return fail(in, "%s must be an object of at most %zu strings", name, max);
    }
    json_object_foreach(object, key, value) {
        if (!json_is_string(value) || key[0] == '\0') {
            return fail(in, "%s.%.64s must be a string under a name that is not empty", name, key);
        }
        if (!fn(arg, slice_str(key), slice_of(json_string_value(value), json_string_length(value)))) {
            return fail(in, "%s has too many entries", name);
        }
    }
    return true;
}

static bool unbase64(struct json_in *in, const char *name, slice_t s, struct buf *out)
{
    size_t len = 0, at = out->len;
    uint8_t *to = buf_reserve(out, s.len + 1);
    if (sodium_base642bin(to, s.len, (const char *)s.ptr, s.len, NULL, &len, NULL, sodium_base64_VARIANT_ORIGINAL) != 0) {
        return fail(in, "%s is not base64 (RFC 4648 section 4, padded), as its encoding says", name);
    }
    out->len = at + len;
    return true;
}

bool json_bytes(struct json_in *in, const char *name, size_t bytes_max, struct buf *out)
{
    json_t *v = json_object_get(in->root, name), *e = json_object_get(in->root, "encoding");
    bool coded = json_is_string(e) && slice_ieq(slice_str(json_string_value(e)), "base64");
    if (e != NULL && !json_is_null(e) && !coded && !(json_is_string(e) && slice_ieq(slice_str(json_string_value(e)), "utf-8"))) {
        return fail(in, "encoding must be \"base64\" or \"utf-8\"");
    }
    if (v == NULL || (coded && !json_is_string(v))) {
        return fail(in, "%s is missing: a string%s", name, coded ? " of base64" : ", or any other JSON, which is kept as its text");
    }
    size_t at = out->len;
    if (json_is_string(v)) {
        slice_t s = slice_of(json_string_value(v), json_string_length(v));
        if (coded && !unbase64(in, name, s, out)) {
            return false;
        }
        if (!coded) {
            buf_append_slice(out, s);
        }
    } else {
        char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
        buf_append_str(out, text != NULL ? text : "null");
        free(text);
    }
    return out->len - at <= bytes_max || fail(in, "%s is larger than %zu bytes", name, bytes_max);
}

bool json_value(struct json_in *in, const char *name, size_t bytes_max, struct buf *out)
{
    struct json_in coded = {.root = json_object_get(in->root, name)};
    if (json_object_size(coded.root) != 2 || !json_has(&coded, "encoding") || !json_has(&coded, "data")) {
        return json_bytes(in, name, bytes_max, out);
    }
    return json_bytes(&coded, "data", bytes_max, out) || fail(in, "%s.%.200s", name, coded.why);
}
