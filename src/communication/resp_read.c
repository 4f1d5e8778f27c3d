/* Reading replies, RESP2 or RESP3, without recursion; and writing RESP3 down to RESP2. See resp.h.
 *
 * Aggregates are heads that are followed by their elements, so nesting is a count of elements still owed, per level. */
#include "communication/resp.h"

#include <stdlib.h>

enum { DEPTH_MAX = 16, LINE_MAX_BYTES = 64 * 1024 };

/* The line at r (without CRLF). */
static bool take_line(struct reader *r, slice_t *line)
{
    const uint8_t *nl = reader_left(r) ? memchr(r->p, '\n', reader_left(r)) : NULL;
    if (nl == NULL || nl == r->p || nl[-1] != '\r') {
        r->ok = false;
        return false;
    }
    *line = slice_of(r->p, (size_t)(nl - r->p) - 1);
    r->p = nl + 1;
    return true;
}

static bool parse_int(slice_t s, int64_t *out)
{
    bool neg = s.len > 0 && s.ptr[0] == '-';
    size_t i = neg || (s.len > 0 && s.ptr[0] == '+');
    uint64_t v = 0;
    if (i == s.len || s.len - i > 19) {
        return false;
    }
    for (; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') {
            return false;
        }
        v = v * 10 + (uint64_t)(s.ptr[i] - '0');
    }
    if (v > (uint64_t)INT64_MAX + neg) {
        return false;
    }
    *out = neg ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

static bool take_text(struct reader *r, struct resp_value *v, int64_t len)
{
    v->str = reader_take(r, (size_t)len);
    slice_t end = reader_take(r, 2);
    r->ok = r->ok && end.ptr[0] == '\r' && end.ptr[1] == '\n';
    return r->ok;
}

static bool read_bulk(struct reader *r, slice_t line, struct resp_value *v, enum resp_type type)
{
    int64_t len;
    if (!parse_int(line, &len) || len < -1) {
        return r->ok = false;
    }
    v->type = len < 0 ? RT_NULL : type;
    if (len < 0) {
        return true;
    }
    if (!take_text(r, v, len)) {
        return false;
    }
    if (type == RT_VERBATIM) {
        if (len < 4) {
            return r->ok = false;
        }
        v->str = slice_of(v->str.ptr + 4, v->str.len - 4);
    }
    return true;
}

static bool read_aggregate(struct reader *r, slice_t line, struct resp_value *v, enum resp_type type)
{
    int64_t n;
    if (!parse_int(line, &n) || n < -1 || n > INT32_MAX) {
        return r->ok = false;
    }
    v->type = n < 0 ? RT_NULL : type;
    v->count = n < 0 ? 0 : (uint32_t)n;
    return true;
}

static bool read_double(slice_t line, struct resp_value *v)
{
    char text[64];
    if (line.len == 0 || line.len >= sizeof text) {
        return false;
    }
    memcpy(text, line.ptr, line.len);
    text[line.len] = '\0';
    char *end;
    v->real = strtod(text, &end);
    v->str = line;
    return *end == '\0';
}

bool resp_next(struct reader *r, struct resp_value *v)
{
    slice_t line;
    *v = (struct resp_value){.type = RT_NONE};
    if (!r->ok || reader_left(r) == 0 || !take_line(r, &line) || line.len == 0) {
        return false;
    }
    uint8_t t = line.ptr[0];
    slice_t rest = slice_of(line.ptr + 1, line.len - 1);
    v->str = rest;
    switch (t) {
    case '+': v->type = RT_SIMPLE; return true;
    case '-': v->type = RT_ERROR; return true;
    case ':': v->type = RT_INT; return r->ok = parse_int(rest, &v->num);
    case '(': v->type = RT_BIG; return true;
    case '_': v->type = RT_NULL; return r->ok = rest.len == 0;
    case '#':
        v->type = RT_BOOL;
        v->num = slice_eq(rest, SLICE_LIT("t"));
        return r->ok = v->num == 1 || slice_eq(rest, SLICE_LIT("f"));
    case ',': v->type = RT_DOUBLE; return r->ok = read_double(rest, v);
    case '$': return read_bulk(r, rest, v, RT_BULK);
    case '=': return read_bulk(r, rest, v, RT_VERBATIM);
    case '!': return read_bulk(r, rest, v, RT_ERROR);
    case '*': return read_aggregate(r, rest, v, RT_ARRAY);
    case '%': return read_aggregate(r, rest, v, RT_MAP);
    case '~': return read_aggregate(r, rest, v, RT_SET);
    case '>': return read_aggregate(r, rest, v, RT_PUSH);
    default: r->ok = false; return false;
    }
}

static uint64_t elements_of(const struct resp_value *v)
{
    switch (v->type) {
    case RT_ARRAY:
    case RT_SET:
    case RT_PUSH: return v->count;
    case RT_MAP: return (uint64_t)v->count * 2;
    default: return 0;
    }
}

bool resp_skip(struct reader *r)
{
    uint64_t owed[DEPTH_MAX];
    int depth = 0;
    owed[0] = 1;
    while (depth >= 0) {
        if (owed[depth] == 0) {
            depth--;
            continue;
        }
        owed[depth]--;
        struct resp_value v;
        if (!resp_next(r, &v)) {
            return false;
        }
        uint64_t n = elements_of(&v);
        if (n > 0) {
            if (depth + 1 == DEPTH_MAX) {
                r->ok = false;
                return false;
            }
            owed[++depth] = n;
        }
    }
    return true;
}

/* Told apart from malformed: every byte so far could still become a reply. */
static bool could_grow(slice_t in)
{
    if (in.len == 0) {
        return true;
    }
    return strchr("+-:(_#,$=!*%~>", in.ptr[0]) != NULL && in.ptr[0] != '\0';
}

size_t resp_reply_size(slice_t in)
{
    uint64_t owed[DEPTH_MAX];
    int depth = 0;
    owed[0] = 1;
    struct reader r = reader_of(in);
    while (depth >= 0) {
        if (owed[depth] == 0) {
            depth--;
            continue;
        }
        owed[depth]--;
        const uint8_t *at = r.p;
        slice_t left = slice_of(at, reader_left(&r));
        const uint8_t *nl = left.len ? memchr(left.ptr, '\n', left.len) : NULL;
        if (nl == NULL) {
            return could_grow(left) && left.len < LINE_MAX_BYTES ? 0 : SIZE_MAX;
        }
        struct resp_value v;
        if (!resp_next(&r, &v)) {
            struct reader head = reader_of(slice_of(at, left.len));
            slice_t line;
            int64_t len;
            bool bulk = strchr("$=!", *at) != NULL && take_line(&head, &line) &&
                        parse_int(slice_of(line.ptr + 1, line.len - 1), &len) && len >= 0;
            return bulk && reader_left(&head) < (uint64_t)len + 2 ? 0 : SIZE_MAX;
        }
        uint64_t n = elements_of(&v);
        if (n > 0) {
            if (depth + 1 == DEPTH_MAX) {
                return SIZE_MAX;
            }
            owed[++depth] = n;
        }
    }
    return (size_t)(r.p - in.ptr);
}

/* Moves r to the value under key. */
static bool map_seek(struct reader *r, const char *key)
{
    struct resp_value head;
    if (!resp_next(r, &head) || (head.type != RT_MAP && head.type != RT_ARRAY)) {
        return false;
    }
    uint64_t pairs = head.type == RT_MAP ? head.count : head.count / 2;
    for (uint64_t i = 0; i < pairs; i++) {
        struct resp_value k;
        if (!resp_next(r, &k)) {
            return false;
        }
        if ((k.type == RT_BULK || k.type == RT_SIMPLE) && slice_eq(k.str, slice_str(key))) {
            return true;
        }
        if (!resp_skip(r)) {
            return false;
        }
    }
    return false;
}

bool resp_map_get(slice_t reply, const char *key, struct resp_value *v)
{
    struct reader r = reader_of(reply);
    return map_seek(&r, key) && resp_next(&r, v);
}

bool resp_map_value(slice_t reply, const char *key, slice_t *value)
{
    struct reader r = reader_of(reply);
    if (!map_seek(&r, key)) {
        return false;
    }
    const uint8_t *at = r.p;
    bool ok = resp_skip(&r);
    if (ok) {
        *value = slice_of(at, (size_t)(r.p - at));
    }
    return ok;
}

static void convert_one(struct buf *out, const struct resp_value *v)
{
    switch (v->type) {
    case RT_SIMPLE: resp_put_line(out, '+', v->str); break;
    case RT_ERROR: resp_put_line(out, '-', v->str); break;
    case RT_INT: resp_int(out, v->num); break;
    case RT_BOOL: resp_int(out, v->num); break;
    case RT_NULL: buf_append(out, "$-1\r\n", 5); break;
    case RT_BULK:
    case RT_VERBATIM:
    case RT_DOUBLE:
    case RT_BIG: resp_bulk(out, v->str); break;
    case RT_ARRAY:
    case RT_SET:
    case RT_PUSH: resp_array(out, v->count); break;
    case RT_MAP: resp_array(out, v->count * 2); break;
    case RT_NONE: break;
    }
}

/* One scalar that RESP2 writes in the same bytes, as most replies are. */
static bool is_same_in_resp2(slice_t resp3)
{
    size_t len = 0, i = 1;
    switch (resp3.len > 0 ? resp3.ptr[0] : '\0') {
    case '+':
    case '-':
    case ':': return memchr(resp3.ptr, '\n', resp3.len) == resp3.ptr + resp3.len - 1;
    case '$':
        for (; i < resp3.len && resp3.ptr[i] >= '0' && resp3.ptr[i] <= '9'; i++) {
            len = len * 10 + (size_t)(resp3.ptr[i] - '0');
        }
        return i > 1 && resp3.len == i + 2 + len + 2; /* not several */
    default: return false;
    }
}

void resp_convert(struct buf *out, slice_t resp3, int proto)
{
    if (proto == 3 || is_same_in_resp2(resp3)) {
        buf_append_slice(out, resp3);
        return;
    }
    struct reader r = reader_of(resp3);
    struct resp_value v;
    if (resp3.len > 0 && resp3.ptr[0] == '>') {
        return;
    }
    while (resp_next(&r, &v)) {
        convert_one(out, &v);
    }
}
