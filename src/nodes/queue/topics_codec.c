/* How operations on topics are laid out, and topic rows in replies and snapshots. */
#include "nodes/queue/topics.h"

#include "utils/limits.h"

void topic_put_head(struct buf *out, const struct topic_head *h)
{
    buf_put_u8(out, (uint8_t)h->kind);
    buf_put_u64(out, h->req.origin);
    buf_put_u64(out, h->req.seq);
    buf_put_u64(out, h->low);
}

bool topic_get_head(struct reader *r, struct topic_head *h)
{
    h->kind = (enum topic_op_kind)reader_u8(r);
    h->req.origin = reader_u64(r);
    h->req.seq = reader_u64(r);
    h->low = reader_u64(r);
    return r->ok && h->kind >= TOPIC_OP_CREATE && h->kind < TOPIC_OP_MAX;
}

void topic_put_config(struct buf *out, const struct topic_config *c)
{
    buf_put_u32(out, c->partitions);
    buf_put_u32(out, c->max_deliver);
    buf_put_u64(out, c->visibility_ms);
    buf_put_u64(out, c->retention_bytes);
    buf_put_u64(out, c->max_age_ms);
    buf_put_u32(out, c->backoff_ms);
    buf_put_u32(out, c->backoff_ms_max);
    buf_put_u8(out, (uint8_t)(c->ordered | c->stream << 1));
}

bool topic_get_config(struct reader *r, struct topic_config *c)
{
    *c = (struct topic_config){.partitions = reader_u32(r)};
    c->max_deliver = reader_u32(r);
    c->visibility_ms = reader_u64(r);
    c->retention_bytes = reader_u64(r);
    c->max_age_ms = reader_u64(r);
    c->backoff_ms = reader_u32(r);
    c->backoff_ms_max = reader_u32(r);
    uint8_t flags = reader_u8(r);
    c->ordered = flags & 1;
    c->stream = flags >> 1 & 1;
    bool sane = c->partitions >= 1 && c->partitions <= LIMIT_PARTITIONS && flags < 4 && c->visibility_ms <= LIMIT_TTL_MS &&
                c->backoff_ms <= LIMIT_TTL_MS && c->backoff_ms_max <= LIMIT_TTL_MS && (!c->stream || c->partitions == 1);
    return r->ok && sane;
}

void topic_put_create(struct buf *out, const struct topic_create *o)
{
    buf_put_bytes(out, o->name);
    buf_put_u8(out, o->maybe);
    topic_put_config(out, &o->config);
}

void topic_put_delete(struct buf *out, slice_t name)
{
    buf_put_bytes(out, name);
}

void topic_put_confirm(struct buf *out, const struct topic_confirm *o)
{
    buf_put_u64(out, o->topic);
    buf_put_u64(out, o->version);
    buf_put_u32(out, o->group);
}

void topic_put_join(struct buf *out, uint32_t n)
{
    buf_put_u32(out, n);
}

void topic_put_join_item(struct buf *out, const struct topic_join *j)
{
    buf_put_u64(out, j->topic);
    buf_put_bytes(out, j->group);
    buf_put_bytes(out, j->consumer);
    buf_put_u64(out, j->ttl_ms);
    buf_put_u64(out, j->node);
}

void topic_put_member(struct buf *out, const struct topic_member *m)
{
    buf_put_u64(out, m->topic);
    buf_put_bytes(out, m->group);
    buf_put_bytes(out, m->consumer);
}

void topic_put_row(struct buf *out, const struct topic_row *row)
{
    buf_put_u64(out, row->id);
    buf_put_u64(out, row->version);
    buf_put_bytes(out, row->name);
    topic_put_config(out, &row->config);
    for (uint32_t p = 0; p < row->config.partitions; p++) {
        buf_put_u32(out, row->groups[p]);
    }
}

bool topic_get_row(struct reader *r, struct topic_row *row, uint32_t *groups)
{
    row->id = reader_u64(r);
    row->version = reader_u64(r);
    row->name = reader_bytes(r);
    if (!topic_get_config(r, &row->config) || row->name.len == 0 || row->name.len > LIMIT_KEY_BYTES) {
        return false;
    }
    for (uint32_t p = 0; p < row->config.partitions; p++) {
        groups[p] = reader_u32(r);
    }
    row->groups = groups;
    return r->ok;
}
