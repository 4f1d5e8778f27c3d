/* An op as bytes: u8 kind, u16 flags where the kind has any, then the fields that kind and flags call for. O2: nothing more, nothing in another form.
 *
 * Bytes may come from a peer or a disk: whatever cache_op_run relies on is checked here. */
#include "nodes/cache/cache_op_internal.h"

#include "utils/assert.h"
#include "utils/limits.h"

enum { TIME = 1, A = 2, B = 4, VALUE = 8 };

#define RANGE_FLAGS (OP_FROM | OP_TO | OP_BITS)

/* Which fields and flags an op of a kind may have. */
static const struct { uint32_t fields, flags; } shapes[OP_WRITES_END] = {
    [OP_GETRANGE] = {A | B, 0},
    [OP_TTL] = {0, OP_SECONDS | OP_UNIX},
    [OP_GETBIT] = {A, 0},
    [OP_BITCOUNT] = {0, RANGE_FLAGS},
    [OP_BITPOS] = {0, RANGE_FLAGS | OP_NEGATIVE},
    [OP_IDLETIME] = {A, 0},
    [OP_USAGE] = {A, 0},
    [OP_SET] = {TIME | VALUE, OP_NX | OP_XX | OP_IFEQ | OP_IFNE | OP_FENCE | OP_OLD | OP_COUNT},
    [OP_GETEX] = {TIME, 0},
    [OP_APPEND] = {VALUE, 0},
    [OP_SETRANGE] = {A | VALUE, 0},
    [OP_INCRBY] = {A, 0},
    [OP_INCRBYFLOAT] = {A | B, OP_NEGATIVE},
    [OP_DELEX] = {0, OP_IFEQ | OP_IFNE},
    [OP_EXPIRE] = {TIME, OP_NX | OP_XX | OP_GT | OP_LT | OP_IFEQ | OP_ADD},
    [OP_SETBIT] = {A | B, 0},
};

static uint32_t fields_of(const struct op *o)
{
    return shapes[o->kind].fields | (o->flags & OP_FROM ? A : 0) | (o->flags & OP_TO ? B : 0);
}

static bool has_time_ms(const struct op *o)
{
    return o->time == OP_TIME_IN || o->time == OP_TIME_AT;
}

void op_put(struct buf *out, const struct op *o)
{
    syn_assert((o->flags & ~shapes[o->kind].flags) == 0);
    uint32_t fields = fields_of(o);
    buf_put_u8(out, (uint8_t)o->kind);
    if (shapes[o->kind].flags != 0) {
        buf_put_u16(out, (uint16_t)o->flags);
    }
    if (fields & TIME) {
        buf_put_u8(out, (uint8_t)o->time);
        if (has_time_ms(o)) {
            buf_put_u64(out, (uint64_t)o->time_ms);
        }
    }
    if (fields & A) {
        buf_put_u64(out, (uint64_t)o->a);
    }
    if (fields & B) {
        buf_put_u64(out, (uint64_t)o->b);
    }
    if (fields & VALUE) {
        buf_put_bytes(out, o->value);
    }
    if (o->flags & (OP_IFEQ | OP_IFNE)) {
        buf_put_bytes(out, o->other);
    }
    if (o->flags & OP_FENCE) {
        buf_put_u64(out, o->token);
        buf_put_bytes(out, o->guard);
    }
}

static bool at_most_one(uint32_t flags)
{
    return (flags & (flags - 1)) == 0;
}

static bool is_time_sound(const struct op *o)
{
    bool bounded = o->time != OP_TIME_IN || o->time_ms <= OP_TTL_MS_MAX;
    switch (o->kind) {
    case OP_SET: return bounded && o->time <= OP_TIME_KEEP && (!has_time_ms(o) || o->time_ms > 0);
    case OP_GETEX: return bounded && o->time != OP_TIME_NONE && o->time != OP_TIME_KEEP && (!has_time_ms(o) || o->time_ms > 0);
    case OP_EXPIRE: return bounded && has_time_ms(o);
    default: return true;
    }
}

static bool is_bit_offset(int64_t a)
{
    return a >= 0 && a / 8 < LIMIT_VALUE_BYTES;
}

static bool is_sound(const struct op *o)
{
    switch (o->kind) {
    case OP_SET: return at_most_one(o->flags & (OP_NX | OP_XX | OP_IFEQ | OP_IFNE)) && at_most_one(o->flags & (OP_OLD | OP_COUNT));
    case OP_DELEX: return o->flags != 0 && at_most_one(o->flags);
    case OP_EXPIRE:
        return (!(o->flags & OP_NX) || (o->flags & (OP_XX | OP_GT | OP_LT)) == 0) && at_most_one(o->flags & (OP_GT | OP_LT)) &&
               (!(o->flags & OP_ADD) || (o->flags & OP_IFEQ && o->time == OP_TIME_IN));
    case OP_BITCOUNT: return !(o->flags & OP_FROM) == !(o->flags & OP_TO) && (!(o->flags & OP_BITS) || o->flags & OP_TO);
    case OP_BITPOS: return (!(o->flags & OP_TO) || o->flags & OP_FROM) && (!(o->flags & OP_BITS) || o->flags & OP_TO);
    case OP_IDLETIME: return o->a >= 0;
    case OP_USAGE: return o->a >= 0 && o->a <= LIMIT_KEY_BYTES;
    case OP_SETRANGE: return o->a >= 0;
    case OP_GETBIT: return is_bit_offset(o->a);
    case OP_SETBIT: return is_bit_offset(o->a) && (o->b == 0 || o->b == 1);
    case OP_INCRBYFLOAT: /* a negative mantissa has its highest bit set; zero has one form */
        return o->b < 0 ? o->a >= REAL_EXP_MIN && o->a <= REAL_EXP_MAX : o->b == 0 && o->a == 0 && o->flags == 0;
    default: return true;
    }
}

bool op_get(slice_t bytes, struct op *o)
{
    struct reader r = reader_of(bytes);
    *o = (struct op){.kind = (enum op_kind)reader_u8(&r)};
    if (o->kind == 0 || o->kind >= OP_WRITES_END || (o->kind >= OP_READS_END && o->kind < OP_SET)) {
        return false;
    }
    o->flags = shapes[o->kind].flags != 0 ? reader_u16(&r) : 0;
    if (o->flags & ~shapes[o->kind].flags) {
        return false;
    }
    uint32_t fields = fields_of(o);
    if (fields & TIME) {
        uint8_t time = reader_u8(&r);
        if (time >= OP_TIME_END) {
            return false;
        }
        o->time = (enum op_time)time;
        o->time_ms = has_time_ms(o) ? (int64_t)reader_u64(&r) : 0;
    }
    o->a = fields & A ? (int64_t)reader_u64(&r) : 0;
    o->b = fields & B ? (int64_t)reader_u64(&r) : 0;
    o->value = fields & VALUE ? reader_bytes(&r) : SLICE_NONE;
    o->other = o->flags & (OP_IFEQ | OP_IFNE) ? reader_bytes(&r) : SLICE_NONE;
    o->token = o->flags & OP_FENCE ? reader_u64(&r) : 0;
    o->guard = o->flags & OP_FENCE ? reader_bytes(&r) : SLICE_NONE;
    return reader_done(&r) && o->value.len <= LIMIT_VALUE_BYTES && o->other.len <= LIMIT_VALUE_BYTES && o->guard.len <= LIMIT_KEY_BYTES &&
           !(o->flags & OP_FENCE && o->guard.len == 0) && is_time_sound(o) && is_sound(o);
}
