/* The claims of a consume: which groups it asks, and what their answers mean for it (docs/queue.md, "Claims"). The invariants are queue_consume.c's.
 *
 * Not here: its beginning, its end and its time (queue_consume.c), what a message looks like (queue_view.c). */
#include "nodes/doors/queue_consume.h"

#include <stdlib.h>

void consume_withdraw(struct node *n, struct consume *x)
{
    uint32_t count = x->n_sent;
    uint64_t *seqs = malloc((count + 1) * sizeof *seqs);
    syn_assert(seqs != NULL);
    for (uint32_t i = 0; i < count; i++) {
        seqs[i] = x->sent[i].seq;
    }
    for (uint32_t i = 0; i < count; i++) {
        request_withdraw_claim(n, seqs[i]);
    }
    free(seqs);
}

static void done_nothing(struct node *n, struct request *r, slice_t reply)
{
    (void)n;
    (void)r;
    (void)reply;
}

void queue_give_back(struct node *n, uint32_t group, uint64_t topic, slice_t consumer_group, uint32_t count, slice_t items)
{
    struct request *r = queue_request(n, group, QUEUE_OP_SETTLE, done_nothing);
    queue_put_settle(&r->payload, topic, consumer_group, count);
    buf_append_slice(&r->payload, items);
    request_submit(n, r);
}

/* All deliveries of an answer, unseen. */
static void give_back_all(struct node *n, struct consume *x, uint32_t group, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct buf items = {0};
    reader_u8(&r);
    uint32_t count = reader_u32(&r);
    for (uint32_t i = 0; i < count; i++) {
        struct delivery d;
        struct queue_message m;
        if (!queue_get_delivery(&r, &d) || !fill_get_message(&r, &m)) {
            break;
        }
        queue_put_settle_item(&items, &(struct settle_item){.kind = SETTLE_NACK, .mode = NACK_SILENT, .receipt = d.receipt});
    }
    count += reader_u32(&r);
    buf_append(&items, r.p, reader_left(&r));
    queue_give_back(n, group, x->topic_id, buf_slice(&x->group), count, buf_slice(&items));
    buf_fini(&items);
}

static void reply_messages(struct node *n, struct consume *x, uint32_t group, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct buf b = {0};
    reader_u8(&r);
    uint32_t count = reader_u32(&r);
    if (x->o.view == VIEW_STREAM) {
        const struct conn *c = conn_find(n, x->conn);
        put_streams_head(&b, c != NULL ? c->proto : 3, 1);
        put_streams_key(&b, c != NULL ? c->proto : 3, topic_name(x->topic));
    }
    resp_array(&b, count);
    for (uint32_t i = 0; i < count; i++) {
        struct delivery d;
        struct queue_message m;
        bool ok = queue_get_delivery(&r, &d) && fill_get_message(&r, &m);
        syn_assert(ok);
        if (x->o.view == VIEW_STREAM) {
            put_stream_entry(&b, &m);
        } else {
            put_message(&b, x->topic, &d, d.receipt.partition, &m);
        }
    }
    uint32_t rest = reader_u32(&r);
    if (rest > 0) {
        queue_give_back(n, group, x->topic_id, buf_slice(&x->group), rest, slice_of(r.p, reader_left(&r)));
    }
    consume_reply(n, x, buf_slice(&b));
    buf_fini(&b);
}

static void sent_remove(struct consume *x, uint64_t seq)
{
    for (uint32_t i = 0; i < x->n_sent; i++) {
        if (x->sent[i].seq == seq) {
            x->sent[i] = x->sent[--x->n_sent];
            return;
        }
    }
    SYN_UNREACHABLE();
}

/* The groups of a member's partitions lie together; the k-th of them. */
static uint32_t member_groups(const struct member *m)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_parts; i++) {
        n += i == 0 || m->parts[i].group != m->parts[i - 1].group;
    }
    return n;
}

static uint32_t member_group_from(const struct member *m, uint32_t k)
{
    uint32_t at = 0;
    for (uint32_t i = 1; i < m->n_parts && k > 0; i++) {
        if (m->parts[i].group != m->parts[i - 1].group) {
            k--;
            at = i;
        }
    }
    return at;
}

static void claim_done(struct node *n, struct request *r, slice_t reply);

static void send_claim(struct node *n, struct consume *x, uint32_t first, bool wait)
{
    struct member *m = x->member;
    uint32_t group = m->parts[first].group;
    struct request *r = request_new(n, group, REQUEST_WRITE, wait, claim_done);
    r->arg = (uintptr_t)x;
    r->wait_ms = LOCK_WAIT_FOREVER;
    struct buf parts = {0};
    struct queue_claim c = {.topic = x->topic_id, .group = member_group(m), .consumer = member_consumer(m), .count = x->o.count,
                            .visibility_ms = x->o.visibility_ms, .rotate = m->rotate++, .no_ack = x->o.no_ack};
    for (uint32_t i = first; i < m->n_parts && m->parts[i].group == group; i++) {
        buf_put_u32(&parts, m->parts[i].partition);
        buf_put_u64(&parts, m->parts[i].since);
        c.n_parts++;
    }
    c.parts = buf_slice(&parts);
    buf_put_u8(&r->payload, SERVICE_CLAIM);
    buf_put_u8(&r->payload, wait);
    queue_put_head(&r->payload, &(struct queue_head){.kind = QUEUE_OP_CLAIM, .req = request_id_of(n, r), .low = request_low(n, group, wait),
                                                     .wall_ms = n->wall_ms});
    queue_put_claim(&r->payload, &c);
    buf_fini(&parts);
    if (x->n_sent == x->cap_sent) {
        x->cap_sent = x->cap_sent ? x->cap_sent * 2 : 4;
        x->sent = realloc(x->sent, x->cap_sent * sizeof *x->sent);
        syn_assert(x->sent != NULL);
    }
    x->sent[x->n_sent++] = (struct claim_sent){.seq = r->seq, .group = group};
    request_submit(n, r);
}

static void wait_everywhere(struct node *n, struct consume *x)
{
    x->state = CONSUME_WAITING;
    x->restart = false;
    uint32_t groups = member_groups(x->member);
    for (uint32_t k = 0; k < groups && x->state == CONSUME_WAITING && !x->restart; k++) {
        send_claim(n, x, member_group_from(x->member, k), true);
    }
}

static void try_next(struct node *n, struct consume *x)
{
    uint32_t groups = member_groups(x->member);
    if (x->tried < groups) {
        x->state = CONSUME_TRYING;
        uint32_t k = (x->member->rotate + x->tried++) % groups;
        send_claim(n, x, member_group_from(x->member, k), false);
    } else if (x->o.block && !x->over) {
        x->member->idle = true;
        wait_everywhere(n, x);
    } else {
        consume_reply_nothing(n, x);
    }
}

void consume_start(struct node *n, struct consume *x)
{
    struct member *m = x->member;
    x->restart = false;
    x->tried = 0;
    if (!m->joined || m->rejoin) {
        x->state = CONSUME_JOINING;
        return;
    }
    if (m->n_parts == 0 && x->o.block && !x->over) {
        x->state = CONSUME_WAITING; /* until the assignment changes */
        return;
    }
    if (m->idle && x->o.block && !x->over) {
        wait_everywhere(n, x);
    } else {
        try_next(n, x);
    }
}

static void retry_later(struct node *n, struct consume *x)
{
    x->state = CONSUME_RETRY;
    wheel_set(&n->doors->consume_wheel, &x->timer, n->now_ms + RETRY_TOPIC_MS);
}

/* What a claim that brought no messages means for its consume. */
static void claim_brought_none(struct node *n, struct consume *x, uint8_t code)
{
    if (code == QUEUE_NO_GROUP) {
        struct buf b = {0};
        resp_error(&b, "NOGROUP", "No such key '%.*s' or consumer group '%.*s' in XREADGROUP with GROUP option", (int)x->topic->name_len,
                   x->topic->name, (int)x->group.len, (const char *)x->group.ptr);
        consume_reply(n, x, buf_slice(&b));
        buf_fini(&b);
    } else if (code == QUEUE_OLD_GENERATION && !x->over) {
        x->state = CONSUME_JOINING;
        member_join(n, x->member);
        consume_withdraw(n, x); /* what it waits for under the old assignment */
    } else if (code == QUEUE_OLD_GENERATION) {
        if (x->n_sent == 0) {
            consume_reply_nothing(n, x);
        }
    } else if (code != QUEUE_DONE) {
        topic_refresh(n, x->topic);
        if (n->now_ms - x->began_ms < n->opt.request_timeout_ms) {
            retry_later(n, x);
        } else {
            struct buf b = {0};
            topic_code_error(&b, TOPIC_UNKNOWN, topic_name(x->topic));
            consume_reply(n, x, buf_slice(&b));
            buf_fini(&b);
        }
    } else if (x->state == CONSUME_TRYING) {
        try_next(n, x);
    } else if (x->over) {
        if (x->n_sent == 0) {
            consume_reply_nothing(n, x);
        }
    } else if (x->n_sent == 0 && x->state != CONSUME_JOINING) {
        consume_start(n, x); /* its assignment changed, or a leader let it go */
    }
}

static void claim_done(struct node *n, struct request *r, slice_t reply)
{
    struct consume *x = (struct consume *)(uintptr_t)r->arg;
    uint32_t group = r->group;
    sent_remove(x, r->seq);
    bool error = reply.len > 0 && reply.ptr[0] == '-';
    struct reader rd = reader_of(reply);
    uint8_t code = reader_u8(&rd);
    uint32_t count = !error && code == QUEUE_DONE ? reader_u32(&rd) : 0;
    if (x->state == CONSUME_ENDED) {
        if (count > 0) {
            give_back_all(n, x, group, reply); /* X2 */
            struct member *m = x->topic->id == x->topic_id ? member_find(n, x->topic, buf_slice(&x->group), buf_slice(&x->consumer)) : NULL;
            if (m != NULL) {
                m->idle = false; /* more than one group has something */
            }
        }
        if (x->n_sent == 0 && x->busy == 0) {
            consume_free(x);
        }
        return;
    }
    x->busy++;
    if (error) {
        consume_reply(n, x, reply);
    } else if (count > 0) {
        reply_messages(n, x, group, reply);
    } else {
        claim_brought_none(n, x, code);
    }
    consume_leave(n, x);
}
