/* One CONSUME on its way: its member's partitions are asked group after group, then, if it may block, all groups at once until one has
 * something (docs/queue.md, "Claims").
 *
 * Invariants: X1 a consume is answered exactly once. X2 deliveries that came for a consume that was answered, or whose client is gone, are given
 * back uncounted. X3 it is freed only when none of its claims is on its way. */
#include "nodes/doors/queue_door.h"

#include <stdlib.h>

enum consume_state {
    CONSUME_JOINING, /* its member has no assignment yet, or a new one is on its way */
    CONSUME_TRYING,  /* one group is asked, at once */
    CONSUME_WAITING, /* parked at every group of its partitions, or nothing is assigned */
    CONSUME_RETRY,   /* a group did not know the topic yet */
    CONSUME_ENDED,   /* answered, or its client is gone: claims are being withdrawn */
};

struct claim_sent { uint64_t seq; uint32_t group; };

struct consume {
    struct list all, of_member, of_conn;
    struct timer timer;
    enum consume_state state;
    conn_id_t conn;
    uint64_t slot;
    struct member *member;    /* NULL once it has left */
    struct topic_ref *topic;
    uint64_t topic_id;
    struct buf group, consumer; /* names: its member may have left when deliveries come */
    struct consume_options o;
    uint64_t began_ms, until_ms;
    uint32_t tried;
    bool restart;             /* its member's assignment changed while it waited */
    bool over;                /* its time is up */
    bool withdrawn;           /* X3: its claims were asked to come back */
    uint32_t busy;            /* inside its own code: answers that come at once must not free it */
    struct claim_sent *sent;  /* owned */
    uint32_t n_sent, cap_sent;
};

static void consume_start(struct node *n, struct consume *x);

static void consume_free(struct consume *x)
{
    syn_assert(x->n_sent == 0);
    list_remove(&x->all);
    list_remove(&x->of_member);
    list_remove(&x->of_conn);
    buf_fini(&x->group);
    buf_fini(&x->consumer);
    free(x->sent);
    free(x);
}

static void consume_reply(struct node *n, struct consume *x, slice_t reply)
{
    syn_assert(x->state != CONSUME_ENDED);
    x->state = CONSUME_ENDED;
    wheel_cancel(&n->doors->consume_wheel, &x->timer);
    list_remove(&x->of_member);
    x->member = NULL;
    struct conn *c = x->conn != 0 ? conn_find(n, x->conn) : NULL;
    if (c != NULL) {
        metrics_request(&n->metrics, METRIC_REQUEST_WRITE, reply, n->now_ms - x->began_ms);
        list_remove(&x->of_conn);
        x->conn = 0;
        conn_reply(n, c, x->slot, reply);
    }
}

/* Answers may come at once: x may be freed behind the last of them unless it is busy. */
static void withdraw_all(struct node *n, struct consume *x)
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

/* Every way out of this file's code ends here: freed now, or when the last claim has come back. */
static void consume_settle(struct node *n, struct consume *x)
{
    if (x->state != CONSUME_ENDED || x->busy > 0) {
        return;
    }
    if (x->n_sent == 0) {
        consume_free(x);
    } else if (!x->withdrawn) {
        x->withdrawn = true;
        withdraw_all(n, x);
    }
}

static void consume_leave(struct node *n, struct consume *x)
{
    syn_assert(x->busy > 0);
    x->busy--;
    consume_settle(n, x);
}

static void reply_nothing(struct node *n, struct consume *x)
{
    struct buf b = {0};
    if (x->o.view == VIEW_STREAM) {
        resp_null(&b);
    } else {
        resp_array(&b, 0);
    }
    consume_reply(n, x, buf_slice(&b));
    buf_fini(&b);
}

static void reply_error(struct node *n, struct consume *x, slice_t error)
{
    consume_reply(n, x, error);
}

void put_receipt(struct buf *b, const struct receipt *r)
{
    char text[96];
    int len = snprintf(text, sizeof text, "%u-%llu-%llu-%llu", r->partition, (unsigned long long)r->generation,
                       (unsigned long long)r->offset, (unsigned long long)r->delivery);
    resp_bulk(b, slice_of(text, (size_t)len));
}

static bool receipt_number(slice_t s, size_t *at, uint64_t max, uint64_t *out)
{
    size_t from = *at;
    uint64_t v = 0;
    for (; *at < s.len && s.ptr[*at] >= '0' && s.ptr[*at] <= '9'; (*at)++) {
        uint64_t d = (uint64_t)(s.ptr[*at] - '0');
        if (v > (max - d) / 10) {
            return false;
        }
        v = v * 10 + d;
    }
    *out = v;
    return *at > from;
}

bool get_receipt(slice_t s, struct receipt *r)
{
    size_t at = 0;
    uint64_t v[4];
    for (int i = 0; i < 4; i++) {
        if (!receipt_number(s, &at, i == 0 ? UINT32_MAX : UINT64_MAX, &v[i]) || (i < 3 && (at >= s.len || s.ptr[at++] != '-'))) {
            return false;
        }
    }
    *r = (struct receipt){.partition = (uint32_t)v[0], .generation = v[1], .offset = v[2], .delivery = v[3]};
    return at == s.len;
}

void put_message_id(struct buf *b, const struct topic_ref *t, uint32_t partition, uint64_t offset)
{
    char tail[48];
    uint8_t text[LIMIT_KEY_BYTES + sizeof tail];
    int len = snprintf(tail, sizeof tail, ":%u:%llu", partition, (unsigned long long)offset);
    memcpy(text, t->name, t->name_len);
    memcpy(text + t->name_len, tail, (size_t)len);
    resp_bulk(b, slice_of(text, t->name_len + (size_t)len));
}

static void put_stream_fields(struct buf *b, slice_t body)
{
    struct reader r = reader_of(body);
    uint32_t n = reader_u32(&r);
    resp_array(b, n);
    for (uint32_t i = 0; i < n; i++) {
        resp_bulk(b, reader_bytes(&r));
    }
}

/* A native message seen as a stream entry. */
static void put_native_fields(struct buf *b, slice_t body)
{
    struct message msg;
    slice_t name, value;
    message_get(body, &msg);
    resp_array(b, 2 + 2 * msg.has_key + 2 * msg.n_headers);
    resp_bulk_str(b, "payload");
    resp_bulk(b, msg.payload);
    if (msg.has_key) {
        resp_bulk_str(b, "key");
        resp_bulk(b, msg.key);
    }
    struct reader r = reader_of(msg.headers);
    for (uint32_t i = 0; i < msg.n_headers && message_next_header(&r, &name, &value); i++) {
        resp_bulk(b, name);
        resp_bulk(b, value);
    }
}

static void put_headers(struct buf *b, const struct message *msg)
{
    struct reader r = reader_of(msg->headers);
    slice_t name, value;
    resp_bulk_str(b, "headers");
    resp_map(b, msg->n_headers);
    for (uint32_t i = 0; i < msg->n_headers && message_next_header(&r, &name, &value); i++) {
        resp_bulk(b, name);
        resp_bulk(b, value);
    }
}

void put_message(struct buf *b, const struct topic_ref *t, const struct delivery *d, uint32_t partition, const struct queue_message *m)
{
    struct message msg = {0};
    bool fields = m->flags != 255 && (m->flags & MESSAGE_FIELDS) != 0;
    if (!fields && m->flags != 255) {
        message_get(m->body, &msg);
    }
    resp_map(b, d != NULL ? 7 : 5);
    resp_bulk_str(b, "id");
    put_message_id(b, t, partition, m->offset);
    resp_bulk_str(b, "key");
    if (msg.has_key) {
        resp_bulk(b, msg.key);
    } else {
        resp_null(b);
    }
    resp_bulk_str(b, "payload");
    if (fields) {
        put_stream_fields(b, m->body);
    } else {
        resp_bulk(b, msg.payload);
    }
    put_headers(b, &msg);
    resp_bulk_str(b, "timestamp");
    resp_int(b, (int64_t)(fields ? m->id.ms : msg.wall_ms));
    if (d != NULL) {
        resp_bulk_str(b, "deliveries");
        resp_int(b, d->deliveries);
        resp_bulk_str(b, "receipt");
        put_receipt(b, &d->receipt);
    }
}

void put_stream_id(struct buf *b, struct stream_id id)
{
    char text[48];
    int len = snprintf(text, sizeof text, "%llu-%llu", (unsigned long long)id.ms, (unsigned long long)id.seq);
    resp_bulk(b, slice_of(text, (size_t)len));
}

void put_stream_entry(struct buf *b, const struct queue_message *m)
{
    resp_array(b, 2);
    put_stream_id(b, m->id);
    if (m->flags == 255) {
        resp_null(b);
    } else if (m->flags & MESSAGE_FIELDS) {
        put_stream_fields(b, m->body);
    } else {
        put_native_fields(b, m->body);
    }
}

/* XREAD and XREADGROUP: RESP3 has a map of keys, RESP2 an array of pairs. */
void put_streams_head(struct buf *b, int proto, uint32_t n)
{
    if (proto == 3) {
        resp_map(b, n);
    } else {
        resp_array(b, n);
    }
}

void put_streams_key(struct buf *b, int proto, slice_t key)
{
    if (proto != 3) {
        resp_array(b, 2);
    }
    resp_bulk(b, key);
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
        reply_nothing(n, x);
    }
}

static void consume_start(struct node *n, struct consume *x)
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
        reply_error(n, x, buf_slice(&b));
        buf_fini(&b);
    } else if (code == QUEUE_OLD_GENERATION && !x->over) {
        x->state = CONSUME_JOINING;
        member_join(n, x->member);
        withdraw_all(n, x); /* what it waits for under the old assignment */
    } else if (code == QUEUE_OLD_GENERATION) {
        if (x->n_sent == 0) {
            reply_nothing(n, x);
        }
    } else if (code != QUEUE_DONE) {
        topic_refresh(n, x->topic);
        if (n->now_ms - x->began_ms < n->opt.request_timeout_ms) {
            retry_later(n, x);
        } else {
            struct buf b = {0};
            topic_code_error(&b, TOPIC_UNKNOWN, topic_name(x->topic));
            reply_error(n, x, buf_slice(&b));
            buf_fini(&b);
        }
    } else if (x->state == CONSUME_TRYING) {
        try_next(n, x);
    } else if (x->over) {
        if (x->n_sent == 0) {
            reply_nothing(n, x);
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
        reply_error(n, x, reply);
    } else if (count > 0) {
        reply_messages(n, x, group, reply);
    } else {
        claim_brought_none(n, x, code);
    }
    consume_leave(n, x);
}

void consume_begin(struct call *c, struct member *m, const struct consume_options *o)
{
    struct node *n = c->n;
    struct consume *x = calloc(1, sizeof *x);
    syn_assert(x != NULL);
    *x = (struct consume){.conn = c->conn->id, .slot = c->slot, .member = m, .topic = m->topic, .topic_id = m->topic_id, .o = *o,
                          .began_ms = n->now_ms, .state = CONSUME_JOINING};
    x->until_ms = o->block && o->block_ms > 0 ? n->now_ms + o->block_ms : UINT64_MAX;
    timer_init(&x->timer);
    buf_append_slice(&x->group, member_group(m));
    buf_append_slice(&x->consumer, member_consumer(m));
    list_push_back(&n->doors->consumes, &x->all);
    list_push_back(&m->consumes, &x->of_member);
    list_push_back(&c->conn->consumes, &x->of_conn);
    m->conn = c->conn->id;
    c->later = true;
    if (x->until_ms != UINT64_MAX) {
        wheel_set(&n->doors->consume_wheel, &x->timer, x->until_ms);
    }
    x->busy++;
    if (!m->joined) {
        member_join(n, m);
    } else {
        consume_start(n, x);
    }
    consume_leave(n, x);
}

void consumes_of_member(struct node *n, struct member *m, slice_t error)
{
    list_each_safe(it, &m->consumes) {
        struct consume *x = CONTAINER_OF(it, struct consume, of_member);
        x->busy++;
        if (error.len > 0) {
            reply_error(n, x, error);
        } else if (x->state == CONSUME_JOINING || (x->state == CONSUME_WAITING && x->n_sent == 0)) {
            consume_start(n, x);
        } else if (x->state == CONSUME_WAITING && !x->restart) {
            x->restart = true;
            withdraw_all(n, x);
        }
        consume_leave(n, x);
    }
}

void consumes_joined(struct node *n, struct member *m, slice_t error)
{
    list_each_safe(it, &m->consumes) {
        struct consume *x = CONTAINER_OF(it, struct consume, of_member);
        if (x->state == CONSUME_JOINING) {
            x->busy++;
            if (error.len > 0) {
                reply_error(n, x, error);
            } else {
                consume_start(n, x);
            }
            consume_leave(n, x);
        }
    }
}

void consumes_closed(struct node *n, struct conn *c)
{
    while (!list_empty(&c->consumes)) {
        struct consume *x = CONTAINER_OF(c->consumes.next, struct consume, of_conn);
        list_remove(&x->of_conn);
        x->conn = 0;
        consume_reply(n, x, SLICE_NONE);
        consume_settle(n, x);
    }
}

static void consume_due(struct node *n, struct consume *x)
{
    bool late = n->now_ms >= x->until_ms;
    x->busy++;
    if (x->state == CONSUME_RETRY) {
        if (x->until_ms != UINT64_MAX && !late) {
            wheel_set(&n->doors->consume_wheel, &x->timer, x->until_ms);
        }
        x->over = late;
        consume_start(n, x);
    } else if (late && x->n_sent == 0) {
        reply_nothing(n, x);
    } else if (late) {
        x->over = true; /* what is on its way may still bring something */
        if (x->state == CONSUME_WAITING || x->state == CONSUME_JOINING) {
            withdraw_all(n, x);
        }
    }
    consume_leave(n, x);
}

void consume_timers(struct node *n)
{
    struct list due;
    list_init(&due);
    wheel_advance(&n->doors->consume_wheel, n->now_ms, &due);
    while (!list_empty(&due)) {
        struct consume *x = CONTAINER_OF(due.next, struct consume, timer.link);
        list_remove(due.next);
        consume_due(n, x);
    }
}

uint64_t consume_deadline(const struct node *n)
{
    return wheel_next_ms(&n->doors->consume_wheel);
}

void queue_consume_fini(struct doors *d)
{
    wheel_fini(&d->consume_wheel);
    while (!list_empty(&d->consumes)) {
        struct consume *x = CONTAINER_OF(d->consumes.next, struct consume, all);
        x->n_sent = 0;
        consume_free(x);
    }
}
