/* Operations and queries of the lock service as bytes: what entries of the log and forwarded requests carry.
 *
 * u8 kind, u32 mask of the fields that follow, then those fields in the order of the enum; little-endian. Unknown bits, bytes left
 * over and lengths beyond limits.h make the whole operation malformed. */
#include "nodes/locks/lock_internal.h"

enum field {
    F_REQ = 1 << 0,
    F_LOW = 1 << 1,
    F_IDEM = 1 << 2,
    F_RESOURCES = 1 << 3,
    F_MODE = 1 << 4,
    F_OWNER = 1 << 5,
    F_SESSION = 1 << 6,
    F_TTL = 1 << 7,
    F_MAXHOLD = 1 << 8,
    F_WAIT = 1 << 9,
    F_META = 1 << 10,
    F_LOCK_ID = 1 << 11,
    F_REASON = 1 << 12,
    F_TARGET = 1 << 13,
    F_GROUP = 1 << 14,
    F_ITEMS = 1 << 15,
    F_ALL = (1 << 16) - 1,
};

static uint32_t mask_of(const struct lock_op *op)
{
    uint32_t m = 0;
    m |= op->req.origin || op->req.seq ? F_REQ : 0;
    m |= op->low ? F_LOW : 0;
    m |= op->idem.len ? F_IDEM : 0;
    m |= op->n ? F_RESOURCES : 0;
    m |= op->mode ? F_MODE : 0;
    m |= op->owner.len ? F_OWNER : 0;
    m |= op->session ? F_SESSION : 0;
    m |= op->ttl_ms ? F_TTL : 0;
    m |= op->maxhold_ms ? F_MAXHOLD : 0;
    m |= op->wait_ms ? F_WAIT : 0;
    m |= op->meta.len ? F_META : 0;
    m |= op->lock_id ? F_LOCK_ID : 0;
    m |= op->reason.len ? F_REASON : 0;
    m |= op->target.origin || op->target.seq ? F_TARGET : 0;
    m |= op->group ? F_GROUP : 0;
    m |= op->items.len ? F_ITEMS : 0;
    return m;
}

static void put_short(struct buf *out, slice_t s)
{
    buf_put_u16(out, (uint16_t)s.len);
    buf_append_slice(out, s);
}

static slice_t take_short(struct reader *r, size_t max)
{
    uint16_t len = reader_u16(r);
    if (len > max) {
        r->ok = false;
    }
    return reader_take(r, len);
}

void lock_op_encode(struct buf *out, const struct lock_op *op)
{
    uint32_t m = mask_of(op);
    buf_put_u8(out, (uint8_t)op->kind);
    buf_put_u32(out, m);
    if (m & F_REQ) {
        buf_put_u64(out, op->req.origin);
        buf_put_u64(out, op->req.seq);
    }
    if (m & F_LOW) {
        buf_put_u64(out, op->low);
    }
    if (m & F_IDEM) {
        put_short(out, op->idem);
    }
    if (m & F_RESOURCES) {
        buf_put_u16(out, (uint16_t)op->n);
        for (uint32_t i = 0; i < op->n; i++) {
            put_short(out, op->resources[i]);
        }
    }
    if (m & F_MODE) {
        buf_put_u8(out, (uint8_t)op->mode);
    }
    if (m & F_OWNER) {
        put_short(out, op->owner);
    }
    const uint64_t numbers[] = {op->session, op->ttl_ms, op->maxhold_ms, op->wait_ms};
    for (int i = 0; i < 4; i++) {
        if (m & (uint32_t)(F_SESSION << i)) {
            buf_put_u64(out, numbers[i]);
        }
    }
    if (m & F_META) {
        put_short(out, op->meta);
    }
    if (m & F_LOCK_ID) {
        buf_put_u64(out, op->lock_id);
    }
    if (m & F_REASON) {
        put_short(out, op->reason);
    }
    if (m & F_TARGET) {
        buf_put_u64(out, op->target.origin);
        buf_put_u64(out, op->target.seq);
    }
    if (m & F_GROUP) {
        buf_put_u32(out, op->group);
    }
    if (m & F_ITEMS) {
        buf_put_bytes(out, op->items);
    }
}

static void take_resources(struct reader *r, struct lock_op *op, slice_t *resources, uint32_t max)
{
    op->n = reader_u16(r);
    if (op->n == 0 || op->n > max) {
        r->ok = false;
        return;
    }
    for (uint32_t i = 0; i < op->n; i++) {
        resources[i] = take_short(r, LIMIT_KEY_BYTES);
        r->ok = r->ok && resources[i].len > 0;
    }
    op->resources = resources;
}

/* What no well-formed operation of its kind lacks. */
static bool op_valid(const struct lock_op *op)
{
    bool mode = op->mode == LOCK_SHARED || op->mode == LOCK_EXCLUSIVE;
    switch (op->kind) {
    case LOCK_OP_ACQUIRE: return op->n >= 1 && mode && op->owner.len > 0;
    case LOCK_OP_RELEASE:
    case LOCK_OP_RENEW: return op->n == 1;
    case LOCK_OP_CONVERT: return op->n == 1 && mode;
    case LOCK_OP_FORCE: return op->n == 1 && op->reason.len > 0;
    default: return op->kind > 0 && op->kind < LOCK_OP_MAX;
    }
}

bool lock_op_decode(slice_t bytes, struct lock_op *op, slice_t *resources, uint32_t max)
{
    struct reader r = reader_of(bytes);
    *op = (struct lock_op){.kind = (enum lock_op_kind)reader_u8(&r)};
    uint32_t m = reader_u32(&r);
    if (!r.ok || (m & ~(uint32_t)F_ALL)) {
        return false;
    }
    if (m & F_REQ) {
        op->req.origin = reader_u64(&r);
        op->req.seq = reader_u64(&r);
    }
    op->low = m & F_LOW ? reader_u64(&r) : 0;
    op->idem = m & F_IDEM ? take_short(&r, LIMIT_IDEM_BYTES) : SLICE_NONE;
    if (m & F_RESOURCES) {
        take_resources(&r, op, resources, max);
    }
    op->mode = m & F_MODE ? (enum lock_mode)reader_u8(&r) : 0;
    op->owner = m & F_OWNER ? take_short(&r, 4 * LIMIT_OWNER_BYTES) : SLICE_NONE;
    op->session = m & F_SESSION ? reader_u64(&r) : 0;
    op->ttl_ms = m & F_TTL ? reader_u64(&r) : 0;
    op->maxhold_ms = m & F_MAXHOLD ? reader_u64(&r) : 0;
    op->wait_ms = m & F_WAIT ? reader_u64(&r) : 0;
    op->meta = m & F_META ? take_short(&r, LIMIT_META_BYTES) : SLICE_NONE;
    op->lock_id = m & F_LOCK_ID ? reader_u64(&r) : 0;
    op->reason = m & F_REASON ? take_short(&r, LIMIT_META_BYTES) : SLICE_NONE;
    if (m & F_TARGET) {
        op->target.origin = reader_u64(&r);
        op->target.seq = reader_u64(&r);
    }
    op->group = m & F_GROUP ? reader_u32(&r) : 0;
    op->items = m & F_ITEMS ? reader_bytes(&r) : SLICE_NONE;
    bool durations = op->ttl_ms <= LIMIT_TTL_MS_MAX && op->maxhold_ms <= LIMIT_TTL_MS_MAX &&
                     (op->wait_ms <= LIMIT_WAIT_MS_MAX || op->wait_ms == LOCK_WAIT_FOREVER);
    return reader_done(&r) && durations && op_valid(op);
}

void lock_query_encode(struct buf *out, const struct lock_query *q)
{
    buf_put_u8(out, (uint8_t)q->kind);
    buf_put_bytes(out, q->resource);
    buf_put_u64(out, q->token);
    buf_put_bytes(out, q->match);
    buf_put_u64(out, q->cursor);
    buf_put_u32(out, q->count);
}

bool lock_query_decode(slice_t bytes, struct lock_query *q)
{
    struct reader r = reader_of(bytes);
    *q = (struct lock_query){.kind = (enum lock_query_kind)reader_u8(&r)};
    q->resource = reader_bytes(&r);
    q->token = reader_u64(&r);
    q->match = reader_bytes(&r);
    q->cursor = reader_u64(&r);
    q->count = reader_u32(&r);
    bool named = q->kind != LOCK_Q_INFO && q->kind != LOCK_Q_CHECK ? true : q->resource.len > 0 && q->resource.len <= LIMIT_KEY_BYTES;
    return reader_done(&r) && q->kind > 0 && q->kind < LOCK_Q_MAX && named && q->match.len <= LIMIT_KEY_BYTES;
}
