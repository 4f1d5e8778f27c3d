/* Encoding of entries of the cache's memory (cache_sm.h). */
#include "nodes/cache/cache_sm_internal.h"

#include "utils/limits.h"

bool cache_entry_is_bare(enum cache_entry_kind kind)
{
    return kind == CACHE_ENTRY_HOLD || kind == CACHE_ENTRY_UNHOLD || kind == CACHE_ENTRY_DUE || kind == CACHE_ENTRY_BOUND;
}

void cache_put_head(struct buf *out, enum cache_entry_kind kind, struct request_id req, uint64_t low)
{
    buf_put_u8(out, (uint8_t)kind);
    if (cache_entry_is_bare(kind)) {
        return;
    }
    buf_put_u64(out, req.origin);
    buf_put_u64(out, req.seq);
    buf_put_u64(out, low);
}

void cache_put_op(struct buf *out, slice_t key, slice_t op)
{
    buf_put_bytes(out, key);
    buf_put_bytes(out, op);
}

void cache_put_item(struct buf *out, const struct cache_item *item)
{
    buf_put_u8(out, item->exists);
    buf_put_u64(out, item->expire_ms);
    buf_put_u64(out, item->token);
    buf_put_bytes(out, item->guard);
    buf_put_bytes(out, item->exists ? item->value : SLICE_NONE);
}

bool cache_get_item(struct reader *r, struct cache_item *item)
{
    uint8_t exists = reader_u8(r);
    item->exists = exists == 1;
    item->expire_ms = reader_u64(r);
    item->token = reader_u64(r);
    item->guard = reader_bytes(r);
    item->value = reader_bytes(r);
    return r->ok && exists <= 1 && (item->exists || item->value.len == 0) && item->guard.len <= LIMIT_KEY_BYTES;
}

void cache_put_lease(struct buf *out, slice_t key, uint64_t fill_ms, uint64_t stale_ms)
{
    buf_put_bytes(out, key);
    buf_put_u64(out, fill_ms);
    buf_put_u64(out, stale_ms);
}

bool next_op(struct reader *r, struct batch_op *o)
{
    o->key = reader_bytes(r);
    o->op = reader_bytes(r);
    return r->ok && o->key.len <= LIMIT_KEY_BYTES;
}
