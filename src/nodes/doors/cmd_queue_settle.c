/* QUEUE.* commands on deliveries and positions: ACK, NACK, EXTEND, REDRIVE, SEEK. Each asks every group that it concerns, and sums up. */
#include "nodes/doors/cmd.h"
#include "nodes/doors/queue_door.h"

#include <stdlib.h>

/* Settling: items of one call, group by group. */
static void settled(struct multi *m, uint32_t part, slice_t reply)
{
    (void)part;
    struct reader r = reader_of(reply);
    uint8_t code = reader_u8(&r);
    uint32_t n = code == QUEUE_DONE ? reader_u32(&r) : 0;
    for (uint32_t i = 0; i < n; i++) {
        enum settle_status st = (enum settle_status)reader_u8(&r);
        m->sum += st == SETTLE_OK;
        m->stale += st != SETTLE_OK;
    }
    m->stale += code != QUEUE_DONE;
}

static void end_settled(struct multi *m, struct buf *reply)
{
    if (m->sum == 0 && m->stale > 0) {
        resp_error(reply, "STALERECEIPT", "the delivery is over: it was acknowledged, timed out, or its partition was taken over; nothing was done");
    } else {
        resp_int(reply, (int64_t)m->sum);
    }
}

/* All receipts must be well formed before anything is sent. */
static bool parse_receipts(struct call *c, struct topic_ref *t, uint32_t from, uint32_t to, struct receipt *out)
{
    for (uint32_t i = from; i < to; i++) {
        struct receipt *r = &out[i - from];
        if (!get_receipt(c->argv[i], r) || r->partition >= t->config.partitions) {
            call_error(c, "ERR", "'%.*s' is not a receipt of topic '%.*s'", shown_length(c->argv[i]),
                       (const char *)c->argv[i].ptr, (int)t->name_len, t->name);
            return false;
        }
    }
    return true;
}

static void settle(struct call *c, struct topic_ref *t, slice_t group, const struct receipt *receipts, uint32_t n, const struct settle_item *like)
{
    struct multi *m = multi_new(c, t, settled, end_settled);
    uint8_t *sent = calloc(n, 1);
    struct buf items = {0};
    syn_assert(sent != NULL);
    for (uint32_t i = 0; i < n; i++) {
        if (sent[i]) {
            continue;
        }
        uint32_t g = t->groups[receipts[i].partition], count = 0;
        buf_clear(&items);
        for (uint32_t k = i; k < n; k++) {
            if (t->groups[receipts[k].partition] == g) {
                struct settle_item it = *like;
                it.receipt = receipts[k];
                queue_put_settle_item(&items, &it);
                sent[k] = 1;
                count++;
            }
        }
        struct request *r = multi_op(m, g, QUEUE_OP_SETTLE, 0);
        queue_put_settle(&r->payload, t->id, group, count);
        buf_append_slice(&r->payload, buf_slice(&items));
        request_submit(c->n, r);
    }
    buf_fini(&items);
    free(sent);
    multi_begin(m);
}

static void settle_range(struct call *c, uint32_t from, uint32_t to, slice_t group, const struct settle_item *like)
{
    struct topic_ref *t = call_topic(c, c->argv[1], WANT_TOPIC);
    if (t == NULL) {
        return;
    }
    struct receipt *receipts = malloc((to - from) * sizeof *receipts);
    syn_assert(receipts != NULL);
    if (parse_receipts(c, t, from, to, receipts)) {
        settle(c, t, group, receipts, to - from, like);
    }
    free(receipts);
}

void handle_queue_ack(struct call *c)
{
    slice_t group;
    if (arg_group(c, 2, &group)) {
        settle_range(c, 4, c->argc, group, &(struct settle_item){.kind = SETTLE_ACK});
    }
}

void handle_queue_extend(struct call *c)
{
    slice_t group;
    struct settle_item it = {.kind = SETTLE_EXTEND};
    if (arg_group(c, 2, &group) && arg_u64(c, c->argv[5], "the milliseconds", 0, LIMIT_TTL_MS, &it.delay_ms)) {
        settle_range(c, 4, 5, group, &it);
    }
}

void handle_queue_nack(struct call *c)
{
    slice_t group;
    struct settle_item it = {.kind = SETTLE_NACK, .mode = NACK_FAIL, .delay_ms = SETTLE_DELAY_DEFAULT};
    if (!arg_group(c, 2, &group)) {
        return;
    }
    for (uint32_t i = 5; i < c->argc; i++) {
        slice_t word = c->argv[i], v;
        bool ok = true;
        if (slice_ieq(word, "SILENT")) {
            it.mode = NACK_SILENT;
        } else if (slice_ieq(word, "FAIL")) {
            it.mode = NACK_FAIL;
        } else if (slice_ieq(word, "FATAL")) {
            it.mode = NACK_FATAL;
        } else if (slice_ieq(word, "DELAY")) {
            ok = arg_option(c, i++, &v) && arg_u64(c, v, "DELAY", 0, LIMIT_TTL_MS, &it.delay_ms);
        } else if (slice_ieq(word, "REASON")) {
            ok = arg_option(c, i++, &v) && arg_name(c, v, "REASON", LIMIT_REASON_BYTES);
            it.reason = ok ? v : SLICE_NONE;
        } else {
            ok = arg_unknown(c, word);
        }
        if (!ok) {
            return;
        }
    }
    settle_range(c, 4, 5, group, &it);
}

static void add_sum(struct multi *m, uint32_t part, slice_t reply)
{
    (void)part;
    struct reader r = reader_of(reply);
    if (reader_u8(&r) == QUEUE_DONE) {
        m->sum += reader_u64(&r);
    } else {
        m->stale++;
    }
}

static void end_redriven(struct multi *m, struct buf *reply)
{
    resp_int(reply, (int64_t)m->sum);
}

void handle_queue_redrive(struct call *c)
{
    slice_t group, v;
    uint64_t count = LIMIT_CLAIM_MESSAGES;
    if (!arg_group(c, 2, &group)) {
        return;
    }
    if (c->argc > 4 && (!slice_ieq(c->argv[4], "COUNT") ? !arg_unknown(c, c->argv[4])
                                                        : !arg_option(c, 4, &v) || !arg_u64(c, v, "COUNT", 1, UINT32_MAX, &count))) {
        return;
    }
    if (c->argc > 6) {
        arg_unknown(c, c->argv[6]);
        return;
    }
    struct topic_ref *t = call_topic(c, c->argv[1], WANT_TOPIC);
    if (t == NULL) {
        return;
    }
    struct multi *m = multi_new(c, t, add_sum, end_redriven);
    m->missing_ok = true;
    for (uint32_t g = 0; g < c->n->opt.groups; g++) {
        bool has = false;
        for (uint32_t p = 0; p < t->config.partitions; p++) {
            has |= t->groups[p] == g;
        }
        if (has) {
            struct request *r = multi_op(m, g, QUEUE_OP_REDRIVE, 0);
            queue_put_redrive(&r->payload, &(struct queue_redrive){.topic = t->id, .group = group, .count = (uint32_t)count});
            request_submit(c->n, r);
        }
    }
    multi_begin(m);
}

static void end_seek(struct multi *m, struct buf *reply)
{
    if (m->stale > 0 && m->sum == 0 && m->stale >= m->topic->config.partitions) {
        topic_code_error(reply, TOPIC_NO_GROUP, topic_name(m->topic));
    } else {
        resp_simple(reply, "OK");
    }
}

static void seek_to_offset(struct multi *m, uint32_t partition, slice_t group, enum seek_to to, uint64_t offset)
{
    struct request *r = multi_op(m, m->topic->groups[partition], QUEUE_OP_SEEK, partition);
    queue_put_seek(&r->payload, &(struct queue_seek){.topic = m->topic->id, .partition = partition, .group = group, .to = to, .offset = offset});
    request_submit(m->n, r);
}

/* By time: each partition's group first says which offset that is. */
static void sought(struct multi *m, uint32_t partition, slice_t reply)
{
    struct reader r = reader_of(reply);
    uint8_t code = reader_u8(&r);
    uint64_t offset = reader_u64(&r);
    if (m->args[0] >> 63 && reply.len == 9 && code == QUEUE_DONE && !(m->parts_asked[partition / 64] >> (partition % 64) & 1)) {
        m->parts_asked[partition / 64] |= 1ull << (partition % 64);
        seek_to_offset(m, partition, buf_slice(&m->name), SEEK_OFFSET, offset);
        return;
    }
    add_sum(m, partition, reply);
}

struct seek_args { slice_t group; enum seek_to to; uint64_t value; bool time; uint32_t only; };

/* topic GROUP group <BEGIN | END | [OFFSET] offset | TIME ms> [PARTITION p] */
static bool seek_args(struct call *c, struct seek_args *s)
{
    slice_t word = c->argv[4], v;
    uint64_t partition = 0;
    uint32_t at = 5;
    *s = (struct seek_args){.only = UINT32_MAX};
    s->to = slice_ieq(word, "BEGIN") ? SEEK_BEGIN : slice_ieq(word, "END") ? SEEK_END : SEEK_OFFSET;
    s->time = slice_ieq(word, "TIME");
    if (!arg_group(c, 2, &s->group)) {
        return false;
    }
    if (s->time || slice_ieq(word, "OFFSET")) {
        if (!arg_option(c, 4, &word)) {
            return false;
        }
        at = 6;
    }
    if (s->to == SEEK_OFFSET && !arg_u64(c, word, "the offset or time", 0, UINT64_MAX / 2, &s->value)) {
        return false;
    }
    /* A bare number from 10^12 on is a time: Unix milliseconds since 2001; no partition has so many messages. */
    s->time |= s->to == SEEK_OFFSET && s->value >= 1000000000000ull && at == 5;
    if (at < c->argc) {
        if (!slice_ieq(c->argv[at], "PARTITION")) {
            return arg_unknown(c, c->argv[at]);
        }
        if (!arg_option(c, at, &v) || !arg_u64(c, v, "PARTITION", 0, LIMIT_PARTITIONS - 1, &partition)) {
            return false;
        }
        s->only = (uint32_t)partition;
        at += 2;
    }
    return at >= c->argc || arg_unknown(c, c->argv[at]);
}

void handle_queue_seek(struct call *c)
{
    struct seek_args s;
    struct topic_ref *t = seek_args(c, &s) ? call_topic(c, c->argv[1], WANT_TOPIC) : NULL;
    if (t == NULL) {
        return;
    }
    if (s.only != UINT32_MAX && s.only >= t->config.partitions) {
        call_error(c, "ERR", "topic '%.*s' has partitions 0 to %u", (int)t->name_len, t->name, t->config.partitions - 1);
        return;
    }
    struct multi *m = multi_new(c, t, sought, end_seek);
    m->args[0] = s.time ? 1ull << 63 : 0;
    buf_append_slice(&m->name, s.group);
    for (uint32_t p = 0; p < t->config.partitions; p++) {
        if (s.only != UINT32_MAX && p != s.only) {
            continue;
        }
        if (s.time) {
            struct queue_query q = {.kind = QQ_SEEK, .topic = t->id, .partition = p, .by_id = true, .first = {.ms = s.value}};
            request_submit(c->n, multi_query(m, t->groups[p], p, &q));
        } else {
            seek_to_offset(m, p, s.group, s.to, s.value);
        }
    }
    multi_begin(m);
}

enum { FORGET_IN_GROUP_0 = UINT32_MAX };

static void end_forget(struct multi *m, struct buf *reply)
{
    resp_int(reply, m->sum > 0);
}

/* Group 0 first: it knows whether anybody is a member. Then the partitions let go of the group's positions, and of what only it had kept. */
static void forgotten(struct multi *m, uint32_t part, slice_t reply)
{
    m->sum += reply.ptr[0] == QUEUE_DONE;
    if (part != FORGET_IN_GROUP_0) {
        return;
    }
    if (reply.ptr[0] != TOPIC_DONE && reply.ptr[0] != TOPIC_NO_GROUP) {
        struct buf b = {0};
        topic_code_error(&b, reply.ptr[0], topic_name(m->topic));
        multi_fail(m, buf_slice(&b));
        buf_fini(&b);
        return;
    }
    m->of_group_0 = false;
    m->missing_ok = true;
    for (uint32_t p = 0; p < m->topic->config.partitions; p++) {
        struct request *r = multi_op(m, m->topic->groups[p], QUEUE_OP_GROUP, p);
        queue_put_group(&r->payload, &(struct queue_group){.topic = m->topic->id, .partition = p, .group = buf_slice(&m->name),
                                                           .action = GROUP_DESTROY});
        request_submit(m->n, r);
    }
}

void handle_queue_forget(struct call *c)
{
    slice_t group;
    struct topic_ref *t = arg_group(c, 2, &group) ? call_topic(c, c->argv[1], WANT_TOPIC) : NULL;
    if (t == NULL) {
        return;
    }
    struct multi *m = multi_new(c, t, forgotten, end_forget);
    buf_append_slice(&m->name, group);
    struct request *r = multi_topic_op(m, TOPIC_OP_FORGET);
    r->arg2 = FORGET_IN_GROUP_0;
    topic_put_member(&r->payload, &(struct topic_member){.topic = t->id, .group = group});
    request_submit(c->n, r);
    multi_begin(m);
}
