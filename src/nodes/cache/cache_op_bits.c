/* Ops on the bits of a value. The first bit is the highest of the first byte, as in Redis. */
#include "nodes/cache/cache_op_internal.h"

#include "communication/resp.h"

static int bit_at(slice_t value, uint64_t at)
{
    return at / 8 < value.len ? value.ptr[at / 8] >> (7 - at % 8) & 1 : 0;
}

void run_getbit(struct op_run *r)
{
    resp_int(r->reply, bit_at(r->value, (uint64_t)r->op->a));
}

void run_setbit(struct op_run *r)
{
    uint64_t at = (uint64_t)r->op->a, byte = at / 8;
    int was = bit_at(r->value, at);
    resp_int(r->reply, was);
    if (byte < r->value.len && was == r->op->b) {
        return;
    }
    size_t n = byte < r->value.len ? r->value.len : byte + 1;
    uint8_t *p = run_put(r, n, r->expire_ms), mask = (uint8_t)(0x80 >> at % 8);
    if (r->value.len > 0) {
        memcpy(p, r->value.ptr, r->value.len);
    }
    memset(p + r->value.len, 0, n - r->value.len);
    p[byte] = (uint8_t)(r->op->b ? p[byte] | mask : p[byte] & ~mask);
}

/* Which bits a range means, the last included; false: none. */
static bool bit_range(const struct op_run *r, int64_t *from, int64_t *to)
{
    const struct op *o = r->op;
    int64_t unit = o->flags & OP_BITS ? 1 : 8, n = (int64_t)r->value.len * 8 / unit;
    *from = o->flags & OP_FROM ? o->a : 0;
    *to = o->flags & OP_TO ? o->b : n - 1;
    bool backward = *from < 0 && *to < 0 && *from > *to; /* counts nothing, though it may hold a bit when cut to what is there */
    if (n == 0 || (backward && o->kind == OP_BITCOUNT)) {
        return false;
    }
    *from = *from < 0 ? *from + n : *from;
    *to = *to < 0 ? *to + n : *to;
    *from = *from < 0 ? 0 : *from;
    *to = *to < 0 ? 0 : *to >= n ? n - 1 : *to;
    if (*from > *to) {
        return false;
    }
    *from *= unit;
    *to = *to * unit + unit - 1;
    return true;
}

void run_bitcount(struct op_run *r)
{
    int64_t from, to, count = 0;
    if (bit_range(r, &from, &to)) {
        for (; from <= to && from % 8 != 0; from++) {
            count += bit_at(r->value, (uint64_t)from);
        }
        for (; from + 7 <= to; from += 8) {
            count += __builtin_popcount(r->value.ptr[from / 8]);
        }
        for (; from <= to; from++) {
            count += bit_at(r->value, (uint64_t)from);
        }
    }
    resp_int(r->reply, count);
}

/* The first bit of that kind in the range, -1: none. */
static int64_t find_bit(slice_t value, int bit, int64_t from, int64_t to)
{
    uint8_t skip = bit ? 0 : 0xff;
    while (from <= to) {
        if (from % 8 == 0 && from + 7 <= to && value.ptr[from / 8] == skip) {
            from += 8;
        } else if (bit_at(value, (uint64_t)from) == bit) {
            return from;
        } else {
            from++;
        }
    }
    return -1;
}

/* Behind the end there are zeros, unless an end was named. */
void run_bitpos(struct op_run *r)
{
    int64_t from, to, found = -1;
    int bit = !(r->op->flags & OP_NEGATIVE);
    if (!r->lives) {
        resp_int(r->reply, bit ? -1 : 0);
        return;
    }
    if (bit_range(r, &from, &to)) {
        found = find_bit(r->value, bit, from, to);
        if (found < 0 && !bit && !(r->op->flags & OP_TO)) {
            found = (int64_t)r->value.len * 8;
        }
    }
    resp_int(r->reply, found);
}
