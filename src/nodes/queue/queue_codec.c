/* Operations of the queue service as bytes: what entries of the log and forwarded requests carry. Little-endian, in the order of the
 * structs of queue_sm.h; optional fields of the items of a batch stand behind a mask, because batches are most of what the log carries.
 *
 * A decoder takes all that is left and refuses bytes left over, unknown bits and lengths beyond limits.h; it never asserts. */
#include "nodes/queue/queue_internal.h"

enum { CLAIM_PART_BYTES = 4 + 8 };
enum item_field { I_DELAY = 1, I_KEY = 2, I_ID = 4, I_DEDUP = 8, I_MAXLEN = 16, I_FENCE = 32, I_ALL = 63 };
enum settle_field { S_KIND = 3, S_MODE_SHIFT = 2, S_BY_ID = 16, S_DELAY = 32, S_REASON = 64, S_ALL = 127 };

static void put_short(struct buf *out, slice_t s)
{
    buf_put_u16(out, (uint16_t)s.len);
    buf_append_slice(out, s);
}

static slice_t get_short(struct reader *r, size_t min, size_t max)
{
    uint16_t len = reader_u16(r);
    r->ok = r->ok && len >= min && len <= max;
    return r->ok ? reader_take(r, len) : SLICE_NONE;
}

static slice_t get_name(struct reader *r)
{
    return get_short(r, 1, LIMIT_KEY_BYTES);
}

/* n items of `width` bytes. */
static slice_t get_array(struct reader *r, uint32_t n, size_t width)
{
    return reader_take(r, (size_t)n * width);
}

void queue_put_head(struct buf *out, const struct queue_head *h)
{
    buf_put_u8(out, (uint8_t)h->kind);
    buf_put_u64(out, h->req.origin);
    buf_put_u64(out, h->req.seq);
    buf_put_u64(out, h->low);
    buf_put_u64(out, h->wall_ms);
}

bool queue_get_head(struct reader *r, struct queue_head *h)
{
    uint8_t kind = reader_u8(r);
    h->kind = (enum queue_op_kind)kind;
    h->req.origin = reader_u64(r);
    h->req.seq = reader_u64(r);
    h->low = reader_u64(r);
    h->wall_ms = reader_u64(r);
    return r->ok && kind > 0 && kind < QUEUE_OP_MAX;
}

void queue_put_open(struct buf *out, const struct queue_open *o)
{
    const struct topic_config *c = &o->config;
    buf_put_u64(out, o->topic);
    buf_put_u64(out, o->version);
    put_short(out, o->name);
    buf_put_u32(out, c->partitions);
    buf_put_u32(out, c->max_deliver);
    buf_put_u64(out, c->visibility_ms);
    buf_put_u64(out, c->retention_bytes);
    buf_put_u64(out, c->max_age_ms);
    buf_put_u32(out, c->backoff_ms);
    buf_put_u32(out, c->backoff_ms_max);
    buf_put_u8(out, c->ordered);
    buf_put_u8(out, c->stream);
    buf_put_u32(out, o->n_parts);
    buf_append_slice(out, o->parts);
}

bool queue_get_open(struct reader *r, struct queue_open *o)
{
    struct topic_config *c = &o->config;
    o->topic = reader_u64(r);
    o->version = reader_u64(r);
    o->name = get_name(r);
    c->partitions = reader_u32(r);
    c->max_deliver = reader_u32(r);
    c->visibility_ms = reader_u64(r);
    c->retention_bytes = reader_u64(r);
    c->max_age_ms = reader_u64(r);
    c->backoff_ms = reader_u32(r);
    c->backoff_ms_max = reader_u32(r);
    c->ordered = reader_u8(r);
    c->stream = reader_u8(r);
    o->n_parts = reader_u32(r);
    o->parts = get_array(r, o->n_parts, 4);
    return reader_done(r) && c->ordered <= 1 && c->stream <= 1 && o->n_parts <= LIMIT_PARTS_PER_CLAIM;
}

void queue_put_drop(struct buf *out, uint64_t topic)
{
    buf_put_u64(out, topic);
}

void queue_put_publish(struct buf *out, uint32_t n)
{
    buf_put_u32(out, n);
}

void queue_put_item(struct buf *out, const struct publish_item *it)
{
    uint8_t m = (uint8_t)((it->delay_ms ? I_DELAY : 0) | (it->key_hash ? I_KEY : 0) | (it->id.ms || it->id.seq ? I_ID : 0) |
                          (it->dedup.len ? I_DEDUP : 0) | (it->trim_maxlen != UINT64_MAX ? I_MAXLEN : 0) | (it->guard.len ? I_FENCE : 0));
    buf_put_u64(out, it->topic);
    buf_put_u32(out, it->partition);
    buf_put_u8(out, it->flags);
    buf_put_u8(out, m);
    if (m & I_DELAY) {
        buf_put_u64(out, it->delay_ms);
    }
    if (m & I_KEY) {
        buf_put_u32(out, it->key_hash);
    }
    if (m & I_ID) {
        buf_put_u64(out, it->id.ms);
        buf_put_u64(out, it->id.seq);
    }
    if (m & I_DEDUP) {
        put_short(out, it->dedup);
    }
    if (m & I_MAXLEN) {
        buf_put_u64(out, it->trim_maxlen);
    }
    if (m & I_FENCE) {
        buf_put_u64(out, it->token);
        put_short(out, it->guard);
    }
    buf_put_bytes(out, it->body);
}

bool queue_get_item(struct reader *r, struct publish_item *it)
{
    it->topic = reader_u64(r);
    it->partition = reader_u32(r);
    it->flags = reader_u8(r);
    uint8_t m = reader_u8(r);
    it->delay_ms = m & I_DELAY ? reader_u64(r) : 0;
    it->key_hash = m & I_KEY ? reader_u32(r) : 0;
    it->id = (struct stream_id){0, 0};
    if (m & I_ID) {
        it->id.ms = reader_u64(r);
        it->id.seq = reader_u64(r);
    }
    it->dedup = m & I_DEDUP ? get_short(r, 1, LIMIT_IDEM_BYTES) : SLICE_NONE;
    it->trim_maxlen = m & I_MAXLEN ? reader_u64(r) : UINT64_MAX;
    it->token = m & I_FENCE ? reader_u64(r) : 0;
    it->guard = m & I_FENCE ? get_name(r) : SLICE_NONE;
    it->body = reader_bytes(r);
    return r->ok && (m & ~I_ALL) == 0 && (it->flags & ~(MESSAGE_FIELDS | MESSAGE_ID | MESSAGE_ID_AUTO_SEQ)) == 0;
}

void queue_put_claim(struct buf *out, const struct queue_claim *c)
{
    buf_put_u64(out, c->topic);
    put_short(out, c->group);
    put_short(out, c->consumer);
    buf_put_u32(out, c->count);
    buf_put_u64(out, c->visibility_ms);
    buf_put_u32(out, c->rotate);
    buf_put_u8(out, c->no_ack);
    buf_put_u32(out, c->n_parts);
    buf_append_slice(out, c->parts);
}

bool queue_get_claim(struct reader *r, struct queue_claim *c)
{
    c->topic = reader_u64(r);
    c->group = get_name(r);
    c->consumer = get_name(r);
    c->count = reader_u32(r);
    c->visibility_ms = reader_u64(r);
    c->rotate = reader_u32(r);
    uint8_t no_ack = reader_u8(r);
    c->no_ack = no_ack != 0;
    c->n_parts = reader_u32(r);
    c->parts = get_array(r, c->n_parts, CLAIM_PART_BYTES);
    return reader_done(r) && no_ack <= 1 && c->count > 0 && c->n_parts > 0 && c->n_parts <= LIMIT_PARTS_PER_CLAIM;
}

void queue_put_settle(struct buf *out, uint64_t topic, slice_t group, uint32_t n)
{
    buf_put_u64(out, topic);
    put_short(out, group);
    buf_put_u32(out, n);
}

bool queue_get_settle(struct reader *r, struct queue_settle *s)
{
    s->topic = reader_u64(r);
    s->group = get_name(r);
    s->n = reader_u32(r);
    s->items = reader_take(r, reader_left(r));
    return r->ok;
}

void queue_put_settle_item(struct buf *out, const struct settle_item *it)
{
    bool delay = it->delay_ms != SETTLE_DELAY_DEFAULT;
    buf_put_u8(out, (uint8_t)(it->kind | it->mode << S_MODE_SHIFT | (it->by_id ? S_BY_ID : 0) | (delay ? S_DELAY : 0) |
                              (it->reason.len ? S_REASON : 0)));
    buf_put_u32(out, it->receipt.partition);
    if (it->by_id) {
        buf_put_u64(out, it->id.ms);
        buf_put_u64(out, it->id.seq);
    } else {
        buf_put_u64(out, it->receipt.generation);
        buf_put_u64(out, it->receipt.offset);
        buf_put_u64(out, it->receipt.delivery);
    }
    if (delay) {
        buf_put_u64(out, it->delay_ms);
    }
    if (it->reason.len > 0) {
        put_short(out, slice_of(it->reason.ptr, it->reason.len < LIMIT_REASON_BYTES ? it->reason.len : LIMIT_REASON_BYTES));
    }
}

bool queue_get_settle_item(struct reader *r, struct settle_item *it)
{
    uint8_t m = reader_u8(r);
    *it = (struct settle_item){.by_id = (m & S_BY_ID) != 0, .delay_ms = SETTLE_DELAY_DEFAULT};
    it->kind = (enum settle_kind)(m & S_KIND);
    it->mode = (enum nack_mode)(m >> S_MODE_SHIFT & 3);
    it->receipt.partition = reader_u32(r);
    if (it->by_id) {
        it->id.ms = reader_u64(r);
        it->id.seq = reader_u64(r);
    } else {
        it->receipt.generation = reader_u64(r);
        it->receipt.offset = reader_u64(r);
        it->receipt.delivery = reader_u64(r);
    }
    it->delay_ms = m & S_DELAY ? reader_u64(r) : SETTLE_DELAY_DEFAULT;
    it->reason = m & S_REASON ? get_short(r, 1, LIMIT_REASON_BYTES) : SLICE_NONE;
    return r->ok && (m & ~S_ALL) == 0 && it->kind >= SETTLE_ACK && it->mode <= NACK_FATAL;
}

void queue_put_release(struct buf *out, const struct queue_release *o)
{
    buf_put_u64(out, o->topic);
    put_short(out, o->group);
    put_short(out, o->consumer);
}

bool queue_get_release(struct reader *r, struct queue_release *o)
{
    o->topic = reader_u64(r);
    o->group = get_name(r);
    o->consumer = get_name(r);
    return reader_done(r);
}

void queue_put_group(struct buf *out, const struct queue_group *o)
{
    buf_put_u64(out, o->topic);
    buf_put_u32(out, o->partition);
    put_short(out, o->group);
    put_short(out, o->consumer);
    buf_put_u8(out, (uint8_t)o->action);
    buf_put_u8(out, (uint8_t)o->start);
    buf_put_u64(out, o->offset);
}

bool queue_get_group(struct reader *r, struct queue_group *o)
{
    o->topic = reader_u64(r);
    o->partition = reader_u32(r);
    o->group = get_name(r);
    o->consumer = get_short(r, 0, LIMIT_KEY_BYTES);
    uint8_t action = reader_u8(r), start = reader_u8(r);
    o->action = (enum group_action)action;
    o->start = (enum seek_to)start;
    o->offset = reader_u64(r);
    bool start_ok = action == GROUP_CREATE ? start >= SEEK_BEGIN && start <= SEEK_OFFSET : start <= SEEK_OFFSET;
    bool named = action < GROUP_CREATE_CONSUMER || o->consumer.len > 0;
    return reader_done(r) && action >= GROUP_CREATE && action <= GROUP_DELETE_CONSUMER && start_ok && named;
}

void queue_put_seek(struct buf *out, const struct queue_seek *o)
{
    buf_put_u64(out, o->topic);
    buf_put_u32(out, o->partition);
    put_short(out, o->group);
    buf_put_u8(out, (uint8_t)o->to);
    buf_put_u64(out, o->offset);
}

bool queue_get_seek(struct reader *r, struct queue_seek *o)
{
    o->topic = reader_u64(r);
    o->partition = reader_u32(r);
    o->group = get_name(r);
    uint8_t to = reader_u8(r);
    o->to = (enum seek_to)to;
    o->offset = reader_u64(r);
    return reader_done(r) && to >= SEEK_BEGIN && to <= SEEK_OFFSET;
}

void queue_put_redrive(struct buf *out, const struct queue_redrive *o)
{
    buf_put_u64(out, o->topic);
    put_short(out, o->group);
    buf_put_u32(out, o->count);
}

bool queue_get_redrive(struct reader *r, struct queue_redrive *o)
{
    o->topic = reader_u64(r);
    o->group = get_name(r);
    o->count = reader_u32(r);
    return reader_done(r);
}

void queue_put_trim(struct buf *out, const struct queue_trim *o)
{
    buf_put_u64(out, o->topic);
    buf_put_u32(out, o->partition);
    buf_put_u64(out, o->start);
}

bool queue_get_trim(struct reader *r, struct queue_trim *o)
{
    o->topic = reader_u64(r);
    o->partition = reader_u32(r);
    o->start = reader_u64(r);
    return reader_done(r);
}

void queue_put_erase(struct buf *out, const struct queue_erase *o)
{
    buf_put_u64(out, o->topic);
    buf_put_u32(out, o->partition);
    buf_put_u32(out, o->n);
    buf_append_slice(out, o->offsets);
}

bool queue_get_erase(struct reader *r, struct queue_erase *o)
{
    o->topic = reader_u64(r);
    o->partition = reader_u32(r);
    o->n = reader_u32(r);
    o->offsets = get_array(r, o->n, 8);
    return reader_done(r);
}

void queue_put_set_id(struct buf *out, const struct queue_set_id *o)
{
    buf_put_u64(out, o->topic);
    buf_put_u32(out, o->partition);
    buf_put_u64(out, o->id.ms);
    buf_put_u64(out, o->id.seq);
    buf_put_u64(out, o->added);
}

bool queue_get_set_id(struct reader *r, struct queue_set_id *o)
{
    o->topic = reader_u64(r);
    o->partition = reader_u32(r);
    o->id.ms = reader_u64(r);
    o->id.seq = reader_u64(r);
    o->added = reader_u64(r);
    return reader_done(r);
}

void queue_put_take(struct buf *out, const struct queue_take *o)
{
    buf_put_u64(out, o->topic);
    buf_put_u32(out, o->partition);
    put_short(out, o->group);
    put_short(out, o->consumer);
    buf_put_u64(out, o->min_idle_ms);
    buf_put_u64(out, o->idle_ms);
    buf_put_u32(out, o->retries);
    buf_put_u8(out, (uint8_t)((o->just_id ? 1 : 0) | (o->force ? 2 : 0)));
    buf_put_u64(out, o->from);
    buf_put_u32(out, o->count);
    buf_put_u32(out, o->n);
    buf_append_slice(out, o->offsets);
}

bool queue_get_take(struct reader *r, struct queue_take *o)
{
    o->topic = reader_u64(r);
    o->partition = reader_u32(r);
    o->group = get_name(r);
    o->consumer = get_name(r);
    o->min_idle_ms = reader_u64(r);
    o->idle_ms = reader_u64(r);
    o->retries = reader_u32(r);
    uint8_t m = reader_u8(r);
    o->just_id = (m & 1) != 0;
    o->force = (m & 2) != 0;
    o->from = reader_u64(r);
    o->count = reader_u32(r);
    o->n = reader_u32(r);
    o->offsets = get_array(r, o->n, 8);
    return reader_done(r) && m <= 3;
}

void queue_put_delivery(struct buf *out, const struct delivery *d)
{
    uint8_t *p = buf_reserve(out, 48);
    le32_put(p, d->receipt.partition);
    le64_put(p + 4, d->receipt.generation);
    le64_put(p + 12, d->receipt.offset);
    le64_put(p + 20, d->receipt.delivery);
    le32_put(p + 28, d->deliveries);
    le64_put(p + 32, d->id.ms);
    le64_put(p + 40, d->id.seq);
    out->len += 48;
}

bool queue_get_delivery(struct reader *r, struct delivery *d)
{
    d->receipt.partition = reader_u32(r);
    d->receipt.generation = reader_u64(r);
    d->receipt.offset = reader_u64(r);
    d->receipt.delivery = reader_u64(r);
    d->deliveries = reader_u32(r);
    d->id.ms = reader_u64(r);
    d->id.seq = reader_u64(r);
    return r->ok;
}
