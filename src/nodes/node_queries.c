/* Queries of the queue, answered by a group's leader after a confirmed read: how they travel, and those that need no message.
 *
 * What reads messages (RANGE, DEAD, SEEK, RESOLVE) is node_fills.c's. Replies are binary (node_queue.h); doors make RESP and JSON of them. */
#include "nodes/node_internal.h"

#include "utils/limits.h"

void queue_query_encode(struct buf *out, const struct queue_query *q)
{
    buf_put_u8(out, (uint8_t)q->kind);
    buf_put_bytes(out, q->name);
    buf_put_u64(out, q->topic);
    buf_put_u32(out, q->partition);
    buf_put_u8(out, (uint8_t)(q->by_id | q->reverse << 1));
    const uint64_t ids[] = {q->first.ms, q->first.seq, q->last.ms, q->last.seq};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        buf_put_u64(out, ids[i]);
    }
    buf_put_u32(out, q->count);
    buf_put_u32(out, q->wait_ms);
    buf_put_bytes(out, q->ids);
}

bool queue_query_decode(slice_t bytes, struct queue_query *q)
{
    struct reader r = reader_of(bytes);
    q->kind = (enum queue_query_kind)reader_u8(&r);
    q->name = reader_bytes(&r);
    q->topic = reader_u64(&r);
    q->partition = reader_u32(&r);
    uint8_t flags = reader_u8(&r);
    q->by_id = flags & 1;
    q->reverse = flags >> 1 & 1;
    q->first.ms = reader_u64(&r);
    q->first.seq = reader_u64(&r);
    q->last.ms = reader_u64(&r);
    q->last.seq = reader_u64(&r);
    q->count = reader_u32(&r);
    q->wait_ms = reader_u32(&r);
    q->ids = reader_bytes(&r);
    size_t each = q->kind == QQ_RESOLVE ? 16 : 8;
    bool ids_ok = (q->kind != QQ_RESOLVE && q->kind != QQ_FETCH) || q->ids.len == (size_t)q->count * each;
    return reader_done(&r) && q->kind >= QQ_TOPIC && q->kind < QQ_MAX && ids_ok;
}

struct rows {
    struct buf *out;
    size_t count_at;
    uint32_t count;
    const struct group_queue *q;
    uint64_t topic;
    slice_t only;     /* INFO: this consumer group alone. PENDING: this consumer */
    uint32_t max;
    uint64_t now;
};

static struct rows rows_begin(struct buf *out)
{
    struct rows rows = {.out = out, .count_at = out->len, .max = LIMIT_LIST_REPLY};
    buf_put_u32(out, 0);
    return rows;
}

static void rows_end(struct rows *rows)
{
    le32_put(rows->out->ptr + rows->count_at, rows->count);
}

static bool put_topic_row(void *arg, const struct topic_row *row)
{
    struct rows *rows = arg;
    topic_put_row(rows->out, row);
    return ++rows->count < rows->max;
}

static void put_topic_group(void *arg, const struct topic_group_info *g)
{
    struct rows *rows = arg;
    buf_put_bytes(rows->out, g->name);
    buf_put_u64(rows->out, g->generation);
    buf_put_u32(rows->out, g->members);
    buf_put_u64(rows->out, g->rebalances);
    rows->count++;
}

static void put_member(void *arg, const struct topic_member_info *m)
{
    struct rows *rows = arg;
    buf_put_bytes(rows->out, m->consumer);
    buf_put_u64(rows->out, m->node);
    buf_put_u64(rows->out, m->ttl_ms);
    buf_put_u64(rows->out, rows->now > m->heard_ms ? rows->now - m->heard_ms : 0);
    buf_put_u32(rows->out, m->n_parts);
    for (uint32_t i = 0; i < m->n_parts; i++) {
        buf_put_u32(rows->out, m->parts[i]);
    }
    rows->count++;
}

static void put_group(void *arg, const struct group_info *g)
{
    struct rows *rows = arg;
    if (rows->only.len > 0 && !slice_eq(rows->only, g->name)) {
        return;
    }
    buf_put_bytes(rows->out, g->name);
    buf_put_bytes(rows->out, g->owner);
    const uint64_t v[] = {g->generation, g->next,     g->pending,       g->available, g->waiting,   g->dead,       g->lag,       g->delivered,
                          g->redelivered, g->acked, g->dead_lettered, g->redriven, g->oldest_ms > 0 && rows->now > g->oldest_ms ? rows->now - g->oldest_ms : 0,
                          g->last_id.ms, g->last_id.seq, g->consumers};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        buf_put_u64(rows->out, v[i]);
    }
    rows->count++;
}

static void put_partition(void *arg, uint32_t partition)
{
    struct rows *rows = arg;
    struct partition_info p;
    if (!queue_sm_partition(rows->q->sm, rows->topic, partition, &p)) {
        return;
    }
    buf_put_u32(rows->out, partition);
    const uint64_t v[] = {p.start, p.end, p.deleted, p.bytes, p.delayed, p.published, p.expired, p.first_id.ms, p.first_id.seq,
                          p.last_id.ms, p.last_id.seq, p.entries_added, p.max_deleted_id.ms, p.max_deleted_id.seq};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        buf_put_u64(rows->out, v[i]);
    }
    struct rows groups = rows_begin(rows->out);
    groups.only = rows->only;
    groups.now = rows->now;
    queue_sm_groups(rows->q->sm, rows->topic, partition, put_group, &groups);
    rows_end(&groups);
    rows->count++;
}

static void put_pending(void *arg, const struct pending_info *p)
{
    struct rows *rows = arg;
    if ((rows->only.len > 0 && !slice_eq(rows->only, p->consumer)) || rows->count >= rows->max) {
        return;
    }
    buf_put_bytes(rows->out, p->consumer);
    const uint64_t v[] = {p->offset, p->id.ms, p->id.seq, p->idle_ms, p->deliveries, p->generation, p->delivery};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        buf_put_u64(rows->out, v[i]);
    }
    rows->count++;
}

static void put_consumer(void *arg, const struct consumer_info *c)
{
    struct rows *rows = arg;
    buf_put_bytes(rows->out, c->name);
    buf_put_u64(rows->out, c->pending);
    buf_put_u64(rows->out, c->idle_ms);
    buf_put_u64(rows->out, c->inactive_ms);
    rows->count++;
}

/* Group 0. */
static void topics_query(struct node_group *g, const struct queue_query *q, uint64_t now, struct buf *reply)
{
    struct topic_row row;
    bool known = q->kind == QQ_TOPIC ? topics_find(g->q.topics, q->name, &row) : q->kind == QQ_LIST || topics_find_id(g->q.topics, q->topic, &row);
    if (!known) {
        buf_put_u8(reply, TOPIC_UNKNOWN);
        return;
    }
    buf_put_u8(reply, TOPIC_DONE);
    if (q->kind == QQ_TOPIC) {
        topic_put_row(reply, &row);
        return;
    }
    struct rows rows = rows_begin(reply);
    rows.now = now;
    if (q->kind == QQ_LIST) {
        rows.max = q->count;
        topics_list(g->q.topics, q->first.ms, put_topic_row, &rows);
    } else if (q->kind == QQ_GROUPS) {
        topics_groups(g->q.topics, q->topic, put_topic_group, &rows);
    } else {
        topics_members(g->q.topics, q->topic, q->name, put_member, &rows);
    }
    rows_end(&rows);
}

static void partition_query(struct node_group *g, const struct queue_query *q, uint64_t now, struct buf *reply)
{
    struct topic_config config;
    slice_t name;
    uint64_t version;
    if (!queue_sm_topic(g->q.sm, q->topic, &config, &name, &version)) {
        buf_put_u8(reply, QUEUE_NO_TOPIC);
        return;
    }
    struct group_info info;
    if (q->kind != QQ_INFO && !queue_sm_group(g->q.sm, q->topic, q->partition, q->name, &info)) {
        buf_put_u8(reply, QUEUE_NO_GROUP);
        return;
    }
    buf_put_u8(reply, QUEUE_DONE);
    struct rows rows = rows_begin(reply);
    rows.q = &g->q;
    rows.topic = q->topic;
    rows.now = now;
    if (q->kind == QQ_INFO) {
        rows.only = q->name;
        queue_sm_partitions(g->q.sm, q->topic, put_partition, &rows);
    } else if (q->kind == QQ_PENDING) {
        rows.only = q->ids;
        rows.max = q->count;
        queue_sm_pending(g->q.sm, q->topic, q->partition, q->name, now, q->first.ms, q->ids.len > 0 ? UINT32_MAX : q->count, put_pending, &rows);
    } else {
        queue_sm_consumers(g->q.sm, q->topic, q->partition, q->name, now, put_consumer, &rows);
    }
    rows_end(&rows);
}

bool queue_query_execute(struct node *n, struct node_group *g, const struct queue_query *q, struct buf *reply)
{
    uint64_t now = group_log_now(n, g);
    switch (q->kind) {
    case QQ_TOPIC:
    case QQ_LIST:
    case QQ_GROUPS:
    case QQ_MEMBERS:
        if (g->q.topics == NULL) {
            buf_put_u8(reply, TOPIC_UNKNOWN);
        } else {
            topics_query(g, q, now, reply);
        }
        return true;
    case QQ_INFO:
    case QQ_PENDING:
    case QQ_CONSUMERS: partition_query(g, q, now, reply); return true;
    default: return false;
    }
}
