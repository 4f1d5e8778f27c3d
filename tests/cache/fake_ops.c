/* cache_op_run and cache_op_valid for the tests of memory; see fake_ops.h. */
#include "fake_ops.h"

#include "communication/resp.h"

void fake_op(struct buf *out, enum fake_kind kind, uint64_t number, slice_t bytes)
{
    buf_put_u8(out, (uint8_t)kind);
    buf_put_u64(out, number);
    buf_append_slice(out, bytes);
}

bool cache_op_valid(slice_t op)
{
    return op.len >= 9 && op.ptr[0] > 0 && op.ptr[0] < FAKE_MAX;
}

static void put(struct cache_change *out, slice_t a, slice_t b, uint64_t expire_ms)
{
    out->kind = CACHE_PUT;
    buf_append_slice(&out->value, a);
    buf_append_slice(&out->value, b);
    out->expire_ms = expire_ms;
}

void cache_op_run(slice_t op, const struct cache_item *in, struct cache_clock clock, struct cache_change *out, struct buf *reply)
{
    struct reader r = reader_of(op);
    uint8_t kind = reader_u8(&r);
    uint64_t number = reader_u64(&r);
    slice_t bytes = reader_take(&r, reader_left(&r));
    bool lives = in->exists && !(in->expire_ms != 0 && in->expire_ms <= clock.now_ms);
    buf_clear(&out->value);
    out->kind = CACHE_KEEP;
    out->guarded = false;
    switch ((enum fake_kind)kind) {
    case FAKE_GET:
        if (lives) {
            resp_bulk(reply, in->value);
        } else {
            resp_null(reply);
        }
        return;
    case FAKE_SET: put(out, bytes, SLICE_NONE, number); break;
    case FAKE_APPEND: put(out, lives ? in->value : SLICE_NONE, bytes, lives ? in->expire_ms : 0); break;
    case FAKE_DEL: out->kind = lives ? CACHE_DELETE : CACHE_KEEP; break;
    case FAKE_EXPIRE:
        out->kind = lives ? CACHE_EXPIRE : CACHE_KEEP;
        out->expire_ms = number;
        break;
    case FAKE_FENCED:
        if (number < in->token) {
            resp_error(reply, "FENCED", "a newer token was seen");
            return;
        }
        put(out, bytes, SLICE_NONE, 0);
        out->guarded = true;
        out->guard = SLICE_LIT("lock");
        out->token = number;
        break;
    case FAKE_MAX: break;
    }
    resp_int(reply, out->kind != CACHE_KEEP);
}

bool cache_op_ends_fill(slice_t op)
{
    return op.ptr[0] != FAKE_GET && op.ptr[0] != FAKE_EXPIRE;
}
