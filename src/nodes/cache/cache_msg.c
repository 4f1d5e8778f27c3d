/* Encoding of the cache's messages: a fixed head, then what the kind has. */
#include "nodes/cache/cache_msg.h"

#include "utils/limits.h"

enum { HAS_KEY = 1, HAS_ITEM = 2, HAS_LOW = 4 };

static uint8_t parts_of(uint8_t kind, bool dirty)
{
    switch (kind) {
    case CACHE_MSG_FLUSH: return HAS_KEY | HAS_ITEM | HAS_LOW;
    case CACHE_MSG_ACK: return dirty ? HAS_KEY | HAS_ITEM | HAS_LOW : HAS_KEY;
    case CACHE_MSG_DATA: return HAS_KEY | HAS_ITEM;
    case CACHE_MSG_LEASE:
    case CACHE_MSG_GRANT:
    case CACHE_MSG_NOTED:
    case CACHE_MSG_EPOCH:
    case CACHE_MSG_REPORT: return 0;
    default: return HAS_KEY;
    }
}

static void put_item(struct buf *out, const struct cache_item *it)
{
    buf_put_u8(out, it->exists);
    buf_put_u64(out, it->expire_ms);
    buf_put_u64(out, it->token);
    buf_put_bytes(out, it->guard);
    buf_put_bytes(out, it->value);
}

static bool get_item(struct reader *r, struct cache_item *it)
{
    uint8_t exists = reader_u8(r);
    it->exists = exists == 1;
    it->expire_ms = reader_u64(r);
    it->token = reader_u64(r);
    it->guard = reader_bytes(r);
    it->value = reader_bytes(r);
    bool fits = it->guard.len <= LIMIT_KEY_BYTES && it->value.len <= LIMIT_VALUE_BYTES;
    return r->ok && exists <= 1 && (it->exists || it->value.len == 0) && fits;
}

void cache_msg_put(struct buf *out, const struct cache_msg *m)
{
    uint8_t parts = parts_of(m->kind, m->dirty);
    buf_put_u8(out, m->kind);
    buf_put_u8(out, (uint8_t)(m->grant | (m->dirty ? 0x80 : 0)));
    buf_put_u32(out, m->group);
    buf_put_u64(out, m->epoch);
    buf_put_u64(out, m->txn);
    buf_put_u64(out, m->seq);
    buf_put_u64(out, m->version);
    if (parts & HAS_LOW) {
        buf_put_u64(out, m->low);
    }
    if (parts & HAS_KEY) {
        buf_put_bytes(out, m->key);
    }
    if (parts & HAS_ITEM) {
        put_item(out, &m->item);
    }
}

bool cache_msg_get(struct reader *r, struct cache_msg *m)
{
    *m = (struct cache_msg){.kind = reader_u8(r)};
    uint8_t bits = reader_u8(r);
    m->grant = bits & 0x7f;
    m->dirty = bits >> 7;
    m->group = reader_u32(r);
    m->epoch = reader_u64(r);
    m->txn = reader_u64(r);
    m->seq = reader_u64(r);
    m->version = reader_u64(r);
    bool is_data = m->kind == CACHE_MSG_DATA;
    if (m->kind == 0 || m->kind == CACHE_MSG_UNUSED || m->kind >= CACHE_MSG_MAX || (m->dirty && m->kind != CACHE_MSG_ACK && m->kind != CACHE_MSG_LOOK)) {
        return false;
    }
    if (m->kind != CACHE_MSG_SEEN && (m->grant > CACHE_GRANT_M || is_data != (m->grant > 0))) {
        return false;
    }
    uint8_t parts = parts_of(m->kind, m->dirty);
    m->low = parts & HAS_LOW ? reader_u64(r) : 0;
    m->key = parts & HAS_KEY ? reader_bytes(r) : SLICE_NONE;
    bool ok = r->ok && m->key.len <= LIMIT_KEY_BYTES;
    return ok && (!(parts & HAS_ITEM) || get_item(r, &m->item));
}
