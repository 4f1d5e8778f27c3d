/* QUEUE.* commands that look: topics, partitions, consumer groups, messages, the dead. Binary answers of groups (node_queue.h) to RESP. */
#include "nodes/doors/cmd.h"
#include "nodes/doors/queue_door.h"

#include <stdlib.h>

static void put_field(struct buf *b, const char *name, uint64_t v)
{
    resp_bulk_str(b, name);
    resp_u64(b, v);
}

static void put_config(struct buf *b, const struct topic_config *c)
{
    put_field(b, "partitions", c->partitions);
    put_field(b, "max_deliver", c->max_deliver);
    put_field(b, "visibility_ms", c->visibility_ms);
    put_field(b, "retention_bytes", c->retention_bytes);
    put_field(b, "max_age_ms", c->max_age_ms);
    put_field(b, "backoff_ms", c->backoff_ms);
    put_field(b, "backoff_max_ms", c->backoff_ms_max);
    resp_bulk_str(b, "ordered");
    resp_bulk_str(b, c->ordered ? "key" : "none");
    resp_bulk_str(b, "kind");
    resp_bulk_str(b, c->stream ? "stream" : "queue");
}
enum { CONFIG_FIELDS = 9 };

/* LIST: pages of rows until there are no more. */
static void ask_list(struct multi *m, uint64_t after)
{
    struct queue_query q = {.kind = QQ_LIST, .first = {.ms = after}, .count = LIMIT_LIST_REPLY};
    request_submit(m->n, multi_query(m, 0, 0, &q));
}

static void take_list(struct multi *m, uint32_t part, slice_t reply)
{
    (void)part;
    struct reader r = reader_of(reply);
    uint32_t *groups = malloc(LIMIT_PARTITIONS * sizeof *groups);
    syn_assert(groups != NULL);
    reader_u8(&r);
    uint32_t n = reader_u32(&r);
    struct topic_row row = {0};
    for (uint32_t i = 0; i < n && topic_get_row(&r, &row, groups); i++) {
        resp_map(&m->out, 1 + CONFIG_FIELDS);
        resp_bulk_str(&m->out, "topic");
        resp_bulk(&m->out, row.name);
        put_config(&m->out, &row.config);
        m->rows++;
    }
    free(groups);
    if (n == LIMIT_LIST_REPLY) {
        ask_list(m, row.id);
    }
}

static void end_rows(struct multi *m, struct buf *reply)
{
    resp_array(reply, m->rows);
    buf_append_slice(reply, buf_slice(&m->out));
}

void handle_queue_list(struct call *c)
{
    struct multi *m = multi_new(c, NULL, take_list, end_rows);
    ask_list(m, 0);
    multi_begin(m);
}

struct group_row {
    slice_t name, owner;
    uint64_t generation, next, pending, available, waiting, dead, lag, delivered, redelivered, acked, dead_lettered, redriven, oldest_ms;
    uint64_t last_ms, last_seq, consumers;
};

static bool get_group_row(struct reader *r, struct group_row *g)
{
    g->name = reader_bytes(r);
    g->owner = reader_bytes(r);
    uint64_t *const v[] = {&g->generation, &g->next, &g->pending, &g->available, &g->waiting, &g->dead, &g->lag, &g->delivered,
                           &g->redelivered, &g->acked, &g->dead_lettered, &g->redriven, &g->oldest_ms, &g->last_ms, &g->last_seq, &g->consumers};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        *v[i] = reader_u64(r);
    }
    return r->ok;
}

struct part_row { uint32_t number; uint64_t start, end, deleted, bytes, delayed, published, expired, first_ms, first_seq, last_ms, last_seq, added, deleted_ms, deleted_seq; uint32_t groups; };

static bool get_part_row(struct reader *r, struct part_row *p)
{
    p->number = reader_u32(r);
    uint64_t *const v[] = {&p->start, &p->end, &p->deleted, &p->bytes, &p->delayed, &p->published, &p->expired, &p->first_ms, &p->first_seq, &p->last_ms, &p->last_seq,
                           &p->added, &p->deleted_ms, &p->deleted_seq};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        *v[i] = reader_u64(r);
    }
    p->groups = reader_u32(r);
    return r->ok;
}

/* One question to each group that has partitions of the topic. */
static void ask_info(struct multi *m, struct topic_ref *t, slice_t group)
{
    struct queue_query q = {.kind = QQ_INFO, .topic = t->id, .name = group};
    m->missing_ok = true;
    for (uint32_t g = 0; g < m->n->opt.groups; g++) {
        for (uint32_t p = 0; p < t->config.partitions; p++) {
            if (t->groups[p] == g) {
                request_submit(m->n, multi_query(m, g, g, &q));
                break;
            }
        }
    }
}

static void put_group_in_info(struct buf *b, const struct group_row *g)
{
    resp_map(b, 14);
    resp_bulk_str(b, "group");
    resp_bulk(b, g->name);
    resp_bulk_str(b, "consumer");
    resp_bulk(b, g->owner);
    put_field(b, "generation", g->generation);
    put_field(b, "next", g->next);
    put_field(b, "lag", g->lag);
    put_field(b, "in_flight", g->pending);
    put_field(b, "available", g->available);
    put_field(b, "waiting", g->waiting);
    put_field(b, "dead", g->dead);
    put_field(b, "delivered", g->delivered);
    put_field(b, "redelivered", g->redelivered);
    put_field(b, "acked", g->acked);
    put_field(b, "dead_lettered", g->dead_lettered);
    put_field(b, "redriven", g->redriven);
}

static void take_info(struct multi *m, uint32_t part, slice_t reply)
{
    struct reader r = reader_of(reply);
    reader_u8(&r);
    uint32_t n = reader_u32(&r);
    struct part_row p;
    for (uint32_t i = 0; i < n && get_part_row(&r, &p); i++) {
        multi_row_begin(m, p.number);
        resp_map(&m->out, 10);
        put_field(&m->out, "partition", p.number);
        put_field(&m->out, "group", part);
        put_field(&m->out, "start", p.start);
        put_field(&m->out, "end", p.end);
        put_field(&m->out, "messages", p.end - p.start - p.deleted);
        put_field(&m->out, "bytes", p.bytes);
        put_field(&m->out, "delayed", p.delayed);
        put_field(&m->out, "published", p.published);
        put_field(&m->out, "expired", p.expired);
        resp_bulk_str(&m->out, "groups");
        resp_array(&m->out, p.groups);
        m->sum += p.end - p.start - p.deleted;
        m->stale += p.bytes;
        struct group_row g;
        for (uint32_t k = 0; k < p.groups && get_group_row(&r, &g); k++) {
            put_group_in_info(&m->out, &g);
        }
        multi_row_end(m);
    }
}

static void end_info(struct multi *m, struct buf *b)
{
    resp_map(b, 1 + CONFIG_FIELDS + 3);
    resp_bulk_str(b, "topic");
    resp_bulk(b, topic_name(m->topic));
    put_config(b, &m->topic->config);
    put_field(b, "messages", m->sum);
    put_field(b, "bytes", m->stale);
    resp_bulk_str(b, "partition_list");
    multi_put_rows(m, b);
}

void handle_queue_info(struct call *c)
{
    struct topic_ref *t = call_topic(c, c->argv[1], WANT_FRESH);
    if (t != NULL) {
        struct multi *m = multi_new(c, t, take_info, end_info);
        ask_info(m, t, SLICE_NONE);
        multi_begin(m);
    }
}

/* GROUPS: members and generation from group 0, sums over partitions from the others. */
struct lag_sum { uint64_t lag, in_flight, available, waiting, dead, acked, oldest_ms; };

static void take_lag(struct multi *m, uint32_t part, slice_t reply)
{
    (void)part;
    struct reader r = reader_of(reply);
    reader_u8(&r);
    uint32_t n = reader_u32(&r);
    struct part_row p;
    for (uint32_t i = 0; i < n && get_part_row(&r, &p); i++) {
        struct group_row g;
        bool found = false;
        for (uint32_t k = 0; k < p.groups && get_group_row(&r, &g); k++) {
            found = true;
            m->args[6]++;
            m->args[0] += g.lag;
            m->args[1] += g.pending;
            m->args[2] += g.available + g.waiting;
            m->args[3] += g.dead;
            m->sum = g.oldest_ms > m->sum ? g.oldest_ms : m->sum;
            multi_row_begin(m, p.number);
            resp_map(&m->out, 5);
            put_field(&m->out, "partition", p.number);
            put_field(&m->out, "lag", g.lag);
            put_field(&m->out, "in_flight", g.pending);
            put_field(&m->out, "oldest_ms", g.oldest_ms);
            resp_bulk_str(&m->out, "consumer");
            resp_bulk(&m->out, g.owner);
            multi_row_end(m);
        }
        if (!found) { /* nobody has consumed there yet: all of it is to come */
            uint64_t lag = p.end - p.start - p.deleted;
            m->args[0] += lag;
            multi_row_begin(m, p.number);
            resp_map(&m->out, 5);
            put_field(&m->out, "partition", p.number);
            put_field(&m->out, "lag", lag);
            put_field(&m->out, "in_flight", 0);
            put_field(&m->out, "oldest_ms", 0);
            resp_bulk_str(&m->out, "consumer");
            resp_bulk_str(&m->out, "");
            multi_row_end(m);
        }
    }
}

static void end_lag(struct multi *m, struct buf *b)
{
    resp_map(b, 6);
    put_field(b, "lag", m->args[0]);
    put_field(b, "in_flight", m->args[1]);
    put_field(b, "waiting", m->args[2]);
    put_field(b, "dead", m->args[3]);
    put_field(b, "oldest_ms", m->sum);
    resp_bulk_str(b, "partitions");
    multi_put_rows(m, b);
}

void handle_queue_lag(struct call *c)
{
    slice_t group;
    struct topic_ref *t = arg_group(c, 2, &group) ? call_topic(c, c->argv[1], WANT_TOPIC) : NULL;
    if (t != NULL) {
        struct multi *m = multi_new(c, t, take_lag, end_lag);
        ask_info(m, t, group);
        multi_begin(m);
    }
}

static void take_groups(struct multi *m, uint32_t part, slice_t reply)
{
    (void)part;
    struct reader r = reader_of(reply);
    struct buf b = {0};
    if (reader_u8(&r) != TOPIC_DONE) {
        topic_code_error(&b, TOPIC_UNKNOWN, topic_name(m->topic));
        multi_fail(m, buf_slice(&b));
        buf_fini(&b);
        return;
    }
    uint32_t n = reader_u32(&r);
    for (uint32_t i = 0; i < n; i++) {
        slice_t name = reader_bytes(&r);
        uint64_t generation = reader_u64(&r);
        uint32_t members = reader_u32(&r);
        uint64_t rebalances = reader_u64(&r);
        resp_map(&m->out, 4);
        resp_bulk_str(&m->out, "group");
        resp_bulk(&m->out, name);
        put_field(&m->out, "generation", generation);
        put_field(&m->out, "members", members);
        put_field(&m->out, "rebalances", rebalances);
        m->rows++;
    }
}

static void put_members(struct multi *m, struct buf *b, slice_t reply)
{
    struct reader r = reader_of(reply);
    if (reader_u8(&r) != TOPIC_DONE) {
        return;
    }
    uint32_t n = reader_u32(&r);
    for (uint32_t i = 0; i < n; i++) {
        slice_t name = reader_bytes(&r);
        uint64_t node = reader_u64(&r), ttl = reader_u64(&r), heard = reader_u64(&r);
        uint32_t parts = reader_u32(&r);
        resp_map(b, 5);
        resp_bulk_str(b, "consumer");
        resp_bulk(b, name);
        resp_bulk_str(b, "node");
        resp_bulk_str(b, node == m->n->opt.self ? node_name_of(m->n, m->n->opt.self) : node_name_of(m->n, (node_id_t)node));
        put_field(b, "ttl_ms", ttl);
        put_field(b, "heard_ms", heard);
        resp_bulk_str(b, "partitions");
        resp_array(b, parts);
        for (uint32_t k = 0; k < parts; k++) {
            resp_int(b, reader_u32(&r));
        }
        m->rows++;
    }
}

static void take_members(struct multi *m, uint32_t part, slice_t reply)
{
    (void)part;
    put_members(m, &m->out, reply);
}

void handle_queue_groups(struct call *c)
{
    struct topic_ref *t = call_topic(c, c->argv[1], WANT_TOPIC);
    if (t == NULL) {
        return;
    }
    bool members = c->argc == 4 && slice_ieq(c->argv[2], "MEMBERS");
    if (c->argc != 2 && !members) {
        call_error(c, "ERR", "syntax error: QUEUE.GROUPS topic [MEMBERS group]");
        return;
    }
    struct multi *m = multi_new(c, t, members ? take_members : take_groups, end_rows);
    struct queue_query q = {.kind = members ? QQ_MEMBERS : QQ_GROUPS, .topic = t->id, .name = members ? c->argv[3] : SLICE_NONE};
    request_submit(c->n, multi_query(m, 0, 0, &q));
    multi_begin(m);
}

/* A group as one: who is in it, and how far it is. */
enum { PART_MEMBERS = UINT32_MAX, PART_GROUPS = UINT32_MAX - 1 };

static void take_generation(struct multi *m, slice_t reply)
{
    struct reader r = reader_of(reply);
    uint32_t n = reader_u8(&r) == TOPIC_DONE ? reader_u32(&r) : 0;
    for (uint32_t i = 0; i < n; i++) {
        slice_t name = reader_bytes(&r);
        uint64_t generation = reader_u64(&r);
        reader_u32(&r);
        uint64_t rebalances = reader_u64(&r);
        if (slice_eq(name, buf_slice(&m->name))) {
            m->args[4] = generation;
            m->args[5] = rebalances;
            m->args[6]++;
        }
    }
}

static void take_group_part(struct multi *m, uint32_t part, slice_t reply)
{
    if (part == PART_MEMBERS) {
        put_members(m, &m->side, reply);
    } else if (part == PART_GROUPS) {
        take_generation(m, reply);
    } else {
        take_lag(m, part, reply);
    }
}

static void end_group(struct multi *m, struct buf *b)
{
    if (m->args[6] == 0 && m->rows == 0) {
        topic_code_error(b, TOPIC_NO_GROUP, topic_name(m->topic));
        return;
    }
    resp_map(b, 11);
    resp_bulk_str(b, "group");
    resp_bulk(b, buf_slice(&m->name));
    resp_bulk_str(b, "topic");
    resp_bulk(b, topic_name(m->topic));
    put_field(b, "generation", m->args[4]);
    put_field(b, "rebalances", m->args[5]);
    put_field(b, "lag", m->args[0]);
    put_field(b, "in_flight", m->args[1]);
    put_field(b, "waiting", m->args[2]);
    put_field(b, "dead", m->args[3]);
    put_field(b, "oldest_ms", m->sum);
    resp_bulk_str(b, "members");
    resp_array(b, m->rows);
    buf_append_slice(b, buf_slice(&m->side));
    resp_bulk_str(b, "partitions");
    multi_put_rows(m, b);
}

static void group_info(struct call *c)
{
    slice_t group;
    struct topic_ref *t = arg_group(c, 2, &group) ? call_topic(c, c->argv[1], WANT_FRESH) : NULL;
    if (t == NULL) {
        return;
    }
    struct multi *m = multi_new(c, t, take_group_part, end_group);
    buf_append_slice(&m->name, group);
    struct queue_query q = {.kind = QQ_GROUPS, .topic = t->id};
    request_submit(c->n, multi_query(m, 0, PART_GROUPS, &q));
    q = (struct queue_query){.kind = QQ_MEMBERS, .topic = t->id, .name = group};
    request_submit(c->n, multi_query(m, 0, PART_MEMBERS, &q));
    ask_info(m, t, group);
    multi_begin(m);
}

const struct command queue_group_info = {.name = "QUEUE.GROUPS", .flags = CMD_READ, .fn = group_info};

static void take_peek(struct multi *m, uint32_t partition, slice_t reply)
{
    struct reader r = reader_of(reply);
    reader_u8(&r);
    uint32_t n = reader_u32(&r);
    struct queue_message msg;
    for (uint32_t i = 0; i < n && fill_get_message(&r, &msg); i++) {
        put_message(&m->out, m->topic, NULL, partition, &msg);
        m->rows++;
    }
}

void handle_queue_peek(struct call *c)
{
    uint64_t partition, offset, count = 1;
    if (!arg_u64(c, c->argv[2], "the partition", 0, LIMIT_PARTITIONS - 1, &partition) ||
        !arg_u64(c, c->argv[3], "the offset", 0, UINT64_MAX / 2, &offset)) {
        return;
    }
    if (c->argc != 4 && (c->argc != 6 || !slice_ieq(c->argv[4], "COUNT"))) {
        call_error(c, "ERR", "syntax error: QUEUE.PEEK topic partition offset [COUNT count]");
        return;
    }
    if (c->argc == 6 && !arg_u64(c, c->argv[5], "COUNT", 1, LIMIT_CLAIM_MESSAGES, &count)) {
        return;
    }
    struct topic_ref *t = call_topic(c, c->argv[1], WANT_TOPIC);
    if (t == NULL) {
        return;
    }
    if (partition >= t->config.partitions) {
        call_error(c, "ERR", "topic '%.*s' has partitions 0 to %u", (int)t->name_len, t->name, t->config.partitions - 1);
        return;
    }
    struct multi *m = multi_new(c, t, take_peek, end_rows);
    m->missing_ok = true;
    struct queue_query q = {.kind = QQ_RANGE, .topic = t->id, .partition = (uint32_t)partition, .first = {.ms = offset},
                            .last = {.ms = UINT64_MAX}, .count = (uint32_t)count};
    request_submit(c->n, multi_query(m, t->groups[partition], (uint32_t)partition, &q));
    multi_begin(m);
}

static void put_dead(struct buf *b, const struct topic_ref *t, uint32_t partition, uint32_t deliveries, uint64_t died_ms, slice_t reason,
                     const struct queue_message *m)
{
    struct message msg = {0};
    if (m->flags != 255) {
        message_get(m->body, &msg);
    }
    resp_map(b, 7);
    resp_bulk_str(b, "id");
    put_message_id(b, t, partition, m->offset);
    resp_bulk_str(b, "key");
    if (msg.has_key) {
        resp_bulk(b, msg.key);
    } else {
        resp_null(b);
    }
    resp_bulk_str(b, "payload");
    resp_bulk(b, msg.payload);
    resp_bulk_str(b, "reason");
    resp_bulk(b, reason);
    put_field(b, "deliveries", deliveries);
    put_field(b, "timestamp", msg.wall_ms);
    put_field(b, "died", died_ms);
}

/* Partition after partition: the oldest dead of each, until there are enough. */
static void take_dlq(struct multi *m, uint32_t partition, slice_t reply)
{
    struct reader r = reader_of(reply);
    reader_u8(&r);
    uint32_t n = reader_u32(&r);
    for (uint32_t i = 0; i < n && m->rows < m->want; i++) {
        uint32_t deliveries = reader_u32(&r);
        uint64_t died = reader_u64(&r);
        slice_t reason = reader_bytes(&r);
        struct queue_message msg;
        if (!fill_get_message(&r, &msg)) {
            break;
        }
        put_dead(&m->out, m->topic, partition, deliveries, died, reason, &msg);
        m->rows++;
    }
    if (m->rows < m->want && partition + 1 < m->topic->config.partitions) {
        struct queue_query q = {.kind = QQ_DEAD, .topic = m->topic->id, .partition = partition + 1, .name = buf_slice(&m->name),
                                .count = m->want - m->rows};
        request_submit(m->n, multi_query(m, m->topic->groups[partition + 1], partition + 1, &q));
    }
}

void handle_queue_dlq(struct call *c)
{
    slice_t group;
    uint64_t count = 100;
    if (!arg_group(c, 2, &group)) {
        return;
    }
    if (c->argc != 4 && (c->argc != 6 || !slice_ieq(c->argv[4], "COUNT"))) {
        call_error(c, "ERR", "syntax error: QUEUE.DLQ topic GROUP group [COUNT count]");
        return;
    }
    if (c->argc == 6 && !arg_u64(c, c->argv[5], "COUNT", 1, LIMIT_CLAIM_MESSAGES, &count)) {
        return;
    }
    struct topic_ref *t = call_topic(c, c->argv[1], WANT_TOPIC);
    if (t == NULL) {
        return;
    }
    struct multi *m = multi_new(c, t, take_dlq, end_rows);
    m->want = (uint32_t)count;
    m->missing_ok = true;
    buf_append_slice(&m->name, group);
    struct queue_query q = {.kind = QQ_DEAD, .topic = t->id, .partition = 0, .name = group, .count = m->want};
    request_submit(c->n, multi_query(m, t->groups[0], 0, &q));
    multi_begin(m);
}
