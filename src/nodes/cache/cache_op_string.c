/* Ops on the bytes of a value: parts of it, and values that are numbers. */
#include "nodes/cache/cache_op_internal.h"

#include "communication/resp.h"

static void copy(uint8_t *to, slice_t s)
{
    if (s.len > 0) {
        memcpy(to, s.ptr, s.len);
    }
}

void run_append(struct op_run *r)
{
    slice_t more = r->op->value;
    uint64_t n = (uint64_t)r->value.len + more.len;
    if (run_too_long(r, n)) {
        return;
    }
    resp_int(r->reply, (int64_t)n);
    if (r->lives && more.len == 0) {
        return;
    }
    uint8_t *p = run_put(r, n, r->expire_ms);
    copy(p, r->value);
    copy(p + r->value.len, more);
}

/* Zeros fill what lies between the old end and the offset. */
void run_setrange(struct op_run *r)
{
    slice_t part = r->op->value;
    uint64_t at = (uint64_t)r->op->a, end = at + part.len;
    if (part.len == 0) {
        resp_int(r->reply, (int64_t)r->value.len);
        return;
    }
    if (run_too_long(r, end)) {
        return;
    }
    uint64_t n = end > r->value.len ? end : r->value.len;
    uint8_t *p = run_put(r, n, r->expire_ms);
    copy(p, r->value);
    if (at > r->value.len) {
        memset(p + r->value.len, 0, at - r->value.len);
    }
    copy(p + at, part);
    resp_int(r->reply, (int64_t)n);
}

/* Negative indexes count from the end. */
void run_getrange(struct op_run *r)
{
    int64_t n = (int64_t)r->value.len, from = r->op->a, to = r->op->b;
    if (n == 0 || (from < 0 && to < 0 && from > to)) {
        resp_bulk(r->reply, SLICE_NONE);
        return;
    }
    from = from < 0 ? from + n : from;
    to = to < 0 ? to + n : to;
    from = from < 0 ? 0 : from;
    to = to < 0 ? 0 : to >= n ? n - 1 : to;
    resp_bulk(r->reply, from > to ? SLICE_NONE : slice_of(r->value.ptr + from, (size_t)(to - from + 1)));
}

void run_incrby(struct op_run *r)
{
    int64_t v = 0;
    if (r->lives && !number_parse(r->value, &v)) {
        resp_error(r->reply, "ERR", "value is not an integer or out of range");
        return;
    }
    if (__builtin_add_overflow(v, r->op->a, &v)) {
        resp_error(r->reply, "ERR", "increment or decrement would overflow");
        return;
    }
    char text[21];
    slice_t s = number_print(text, v);
    copy(run_put(r, s.len, r->expire_ms), s);
    resp_int(r->reply, v);
}

void run_incrbyfloat(struct op_run *r)
{
    const struct op *o = r->op;
    struct real v = {0};
    if (r->lives && !real_parse(r->value, &v)) {
        resp_error(r->reply, "ERR", "value is not a valid float");
        return;
    }
    v = real_add(v, (struct real){.negative = o->flags & OP_NEGATIVE, .m = (uint64_t)o->b, .e = (int32_t)o->a});
    if (v.infinite) {
        resp_error(r->reply, "ERR", "increment would produce NaN or Infinity");
        return;
    }
    run_put(r, 0, r->expire_ms);
    real_print(&r->out->value, v);
    resp_bulk(r->reply, buf_slice(&r->out->value));
}

/* As Redis stores what SET gave it. */
void run_encoding(struct op_run *r)
{
    enum { EMBSTR_MAX = 44 };
    int64_t v;
    if (!r->lives) {
        resp_null(r->reply);
    } else {
        resp_bulk_str(r->reply, number_parse(r->value, &v) ? "int" : r->value.len <= EMBSTR_MAX ? "embstr" : "raw");
    }
}
