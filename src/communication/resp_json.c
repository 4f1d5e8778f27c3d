/* RESP3 replies as JSON; see resp_to_json in resp.h. No recursion: a stack of what is still owed per level.
 *
 * The reply is one of ours and well formed; a malformed one, or one nested deeper than the reader allows, ends as null where it
 * went wrong, with every bracket closed. */
#include "communication/resp.h"

#include "communication/json.h"

#include <math.h>

enum { DEPTH_MAX = 16 };
static const int64_t EXACT_MAX = (int64_t)1 << 53; /* the integers a double keeps apart */

struct level {
    uint64_t owed;
    bool map;
    bool key_next; /* the next value is a member's name */
    bool first;
    bool id;       /* the value of this member is an id: always a string */
};

static bool is_id(const char *const *id_keys, slice_t key)
{
    for (; id_keys != NULL && *id_keys != NULL; id_keys++) {
        if (slice_eq(key, slice_str(*id_keys))) {
            return true;
        }
    }
    return false;
}

static void put_error(struct buf *out, slice_t s)
{
    const uint8_t *space = s.len ? memchr(s.ptr, ' ', s.len) : NULL;
    size_t word = space != NULL ? (size_t)(space - s.ptr) : s.len;
    buf_append_str(out, "{\"error\":");
    json_put_string(out, space != NULL ? slice_of(space + 1, s.len - word - 1) : s);
    buf_append_str(out, ",\"code\":");
    json_put_string(out, slice_of(s.ptr, word));
    buf_put_u8(out, '}');
}

static void put_scalar(struct buf *out, const struct resp_value *v, bool id)
{
    switch (v->type) {
    case RT_INT:
        if (id || v->num > EXACT_MAX || v->num < -EXACT_MAX) {
            buf_printf(out, "\"%lld\"", (long long)v->num);
        } else {
            buf_printf(out, "%lld", (long long)v->num);
        }
        break;
    case RT_DOUBLE:
        if (isfinite(v->real)) {
            buf_printf(out, "%.17g", v->real);
        } else {
            buf_append_str(out, "null");
        }
        break;
    case RT_BOOL: buf_append_str(out, v->num ? "true" : "false"); break;
    case RT_ERROR: put_error(out, v->str); break;
    case RT_SIMPLE:
    case RT_BULK:
    case RT_VERBATIM:
    case RT_BIG: json_put_string(out, v->str); break;
    default: buf_append_str(out, "null"); break;
    }
}

/* Names are strings in JSON: a number keeps its digits, bytes that are not UTF-8 their base64. */
static void put_name(struct buf *out, const struct resp_value *v)
{
    size_t at = out->len;
    put_scalar(out, v, true);
    if (out->ptr[at] != '"') {
        out->len = at;
        buf_put_u8(out, '"');
        json_put_base64(out, v->str);
        buf_put_u8(out, '"');
    }
    buf_put_u8(out, ':');
}

static bool is_aggregate(const struct resp_value *v)
{
    return v->type == RT_ARRAY || v->type == RT_MAP || v->type == RT_SET || v->type == RT_PUSH;
}

static void close_level(struct buf *out, const struct level *l)
{
    buf_put_u8(out, l->map ? '}' : ']');
}

/* What comes before a value: a comma, or nothing. True: the value is a name. */
static bool before_value(struct buf *out, struct level *l)
{
    bool name = l->map && l->key_next;
    if (!l->first && (!l->map || name)) {
        buf_put_u8(out, ',');
    }
    l->first = false;
    l->owed--;
    l->key_next = l->map && !l->key_next;
    return name;
}

void resp_to_json(struct buf *out, slice_t resp3, const char *const *id_keys)
{
    struct level stack[DEPTH_MAX + 1] = {{.owed = 1, .first = true}};
    size_t depth = 0;
    struct reader r = reader_of(resp3);
    bool ok = true;
    while (depth > 0 || stack[0].owed > 0) {
        struct level *l = &stack[depth];
        if (l->owed == 0) {
            close_level(out, l);
            depth--;
            continue;
        }
        struct resp_value v = {.type = RT_NULL};
        ok = ok && resp_next(&r, &v) && (!is_aggregate(&v) || depth < DEPTH_MAX);
        if (!ok) { /* the rest is missing: what is owed here ends */
            v = (struct resp_value){.type = RT_NULL};
            l->owed = l->map && !l->key_next ? 1 : depth == 0 ? l->owed : 0;
            if (l->owed == 0) {
                continue;
            }
        }
        bool name = before_value(out, l);
        if (name) {
            l->id = is_id(id_keys, v.str);
            put_name(out, &v);
        } else if (is_aggregate(&v)) {
            bool map = v.type == RT_MAP;
            buf_put_u8(out, map ? '{' : '[');
            stack[++depth] = (struct level){.owed = (uint64_t)v.count * (map ? 2 : 1), .map = map, .key_next = map, .first = true,
                                            .id = l->id && !map}; /* a list of ids is a list of strings */
        } else {
            put_scalar(out, &v, l->id);
        }
    }
}
