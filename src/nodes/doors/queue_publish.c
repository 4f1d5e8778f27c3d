/* Publishing: everything that is published in a loop turn for one group is one request, one entry (docs/queue.md, "Publishing").
 *
 * A message's reply place is remembered beside its batch; the batch's answer fills them all. A group that does not know the topic yet (its
 * OPEN is on its way) or any more is asked again for a while under a fresh row. Not responsible for which partition (queue_topics.c). */
#include "nodes/doors/queue_door.h"

#include <stdlib.h>

enum { BATCH_BYTES_MAX = 512 * 1024, BATCH_MESSAGES_MAX = 8192 };

struct publish_target {
    conn_id_t conn;
    uint64_t slot;
    struct topic_ref *topic;
    struct publish_multi *multi;
    uint64_t began_ms;
    uint32_t partition;
    uint32_t at;
    uint8_t view;
};

struct publish_multi {
    struct list link;
    conn_id_t conn;
    uint64_t slot;
    uint32_t n, left;
    struct buf *parts; /* n of them */
};

/* What is gathered for one group, then what its request answers for. */
struct publish_batch {
    struct list link;
    uint32_t group;
    struct buf items;
    struct publish_target *targets;
    uint32_t n, cap;
};

struct publish_retry {
    struct list link;
    uint64_t at_ms;
    struct publish_target target;
    struct buf item;
};

struct publish_multi *publish_multi_new(struct call *c, uint32_t n)
{
    struct publish_multi *m = calloc(1, sizeof *m);
    syn_assert(m != NULL && n > 0);
    *m = (struct publish_multi){.conn = c->conn->id, .slot = c->slot, .n = n, .left = n};
    m->parts = calloc(n, sizeof *m->parts);
    syn_assert(m->parts != NULL);
    list_push_back(&c->n->doors->publish_multis, &m->link);
    return m;
}

static void multi_free(struct publish_multi *m)
{
    for (uint32_t i = 0; i < m->n; i++) {
        buf_fini(&m->parts[i]);
    }
    list_remove(&m->link);
    free(m->parts);
    free(m);
}

static struct publish_batch *batch_of(struct node *n, uint32_t group)
{
    struct doors *d = n->doors;
    if (d->publishing == NULL) {
        d->publishing = calloc(n->opt.groups, sizeof *d->publishing);
        syn_assert(d->publishing != NULL);
    }
    struct publish_batch *b = d->publishing[group];
    if (b == NULL) {
        b = d->free_batches;
        if (b != NULL) {
            d->free_batches = (struct publish_batch *)b->link.next;
        } else {
            b = calloc(1, sizeof *b);
            syn_assert(b != NULL);
        }
        b->group = group;
        b->n = 0;
        buf_clear(&b->items);
        d->publishing[group] = b;
        list_init(&b->link);
        list_push_back(&d->batches, &b->link);
    }
    return b;
}

static void batch_done(struct node *n, struct request *r, slice_t reply);

static void batch_submit(struct node *n, struct publish_batch *b)
{
    list_remove(&b->link);
    list_push_back(&n->doors->batches_sent, &b->link);
    n->doors->publishing[b->group] = NULL;
    struct request *r = queue_request(n, b->group, QUEUE_OP_PUBLISH, batch_done);
    r->arg = (uintptr_t)b;
    queue_put_publish(&r->payload, b->n);
    buf_append_slice(&r->payload, buf_slice(&b->items));
    request_submit(n, r);
}

static void batch_add(struct node *n, uint32_t group, const struct publish_target *t, slice_t item)
{
    struct publish_batch *b = batch_of(n, group);
    if (b->n == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 64;
        b->targets = realloc(b->targets, b->cap * sizeof *b->targets);
        syn_assert(b->targets != NULL);
    }
    b->targets[b->n++] = *t;
    buf_append_slice(&b->items, item);
    if (b->items.len >= BATCH_BYTES_MAX || b->n >= BATCH_MESSAGES_MAX) {
        batch_submit(n, b);
    }
}

void publish_add(struct call *c, struct topic_ref *t, struct publish_item *it, enum publish_view view, struct publish_multi *multi, uint32_t at)
{
    struct node *n = c->n;
    struct publish_target target = {.conn = c->conn->id, .slot = c->slot, .topic = t, .multi = multi, .at = at, .view = (uint8_t)view,
                                    .partition = it->partition, .began_ms = c->began_ms != 0 ? c->began_ms : n->now_ms};
    it->topic = t->id;
    uint32_t group = t->groups[it->partition];
    struct publish_batch *b = batch_of(n, group);
    if (b->n == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 64;
        b->targets = realloc(b->targets, b->cap * sizeof *b->targets);
        syn_assert(b->targets != NULL);
    }
    b->targets[b->n++] = target;
    queue_put_item(&b->items, it);
    c->later = true;
    if (b->items.len >= BATCH_BYTES_MAX || b->n >= BATCH_MESSAGES_MAX) {
        batch_submit(n, b);
    }
}

void publish_flush(struct node *n)
{
    struct doors *d = n->doors;
    while (!list_empty(&d->batches)) {
        batch_submit(n, CONTAINER_OF(d->batches.next, struct publish_batch, link));
    }
}

static void multi_part(struct node *n, struct publish_multi *m, uint32_t at, slice_t reply)
{
    buf_append_slice(&m->parts[at], reply);
    if (--m->left > 0) {
        return;
    }
    struct conn *c = conn_find(n, m->conn);
    if (c != NULL) {
        struct buf b = {0};
        resp_array(&b, m->n);
        for (uint32_t i = 0; i < m->n; i++) {
            buf_append_slice(&b, buf_slice(&m->parts[i]));
        }
        conn_reply(n, c, m->slot, buf_slice(&b));
        buf_fini(&b);
    }
    multi_free(m);
}

static void target_reply(struct node *n, const struct publish_target *t, slice_t reply)
{
    metrics_request(&n->metrics, METRIC_REQUEST_WRITE, reply, n->now_ms - t->began_ms);
    if (t->multi != NULL) {
        multi_part(n, t->multi, t->at, reply);
        return;
    }
    struct conn *c = conn_find(n, t->conn);
    if (c != NULL) {
        conn_reply(n, c, t->slot, reply);
    }
}

static void put_id(struct buf *b, const struct publish_target *t, uint64_t offset, struct stream_id id)
{
    if (t->view == VIEW_MESSAGE_ID) {
        put_message_id(b, t->topic, t->partition, offset);
        return;
    }
    char text[48];
    int len = snprintf(text, sizeof text, "%llu-%llu", (unsigned long long)id.ms, (unsigned long long)id.seq);
    resp_bulk(b, slice_of(text, (size_t)len));
}

/* newest: of a fencing token that was refused; items: at this message, when it was. */
static void put_refusal(struct buf *b, enum publish_status st, const struct publish_target *t, uint64_t newest, struct reader items)
{
    struct publish_item it = {0};
    switch (st) {
    case PUBLISH_SMALL_ID:
        resp_error(b, "ERR", "The ID specified in XADD is equal or smaller than the target stream top item");
        break;
    case PUBLISH_LIMIT:
        resp_error(b, "BUSY", "the partition holds as many delayed messages as it may: nothing was done, retry later");
        break;
    case PUBLISH_FENCED:
        queue_get_item(&items, &it);
        resp_error(b, "FENCED", "token %llu of '%.*s' is old, %llu was seen", (unsigned long long)it.token,
                   it.guard.len < LIMIT_ERROR_ECHO_BYTES ? (int)it.guard.len : LIMIT_ERROR_ECHO_BYTES, (const char *)it.guard.ptr, (unsigned long long)newest);
        break;
    default: topic_code_error(b, TOPIC_UNKNOWN, topic_name(t->topic)); break;
    }
}

/* Its group does not have the topic yet, or any more: the row is asked for anew, and the message sent again. */
static bool try_again(struct node *n, const struct publish_target *t, struct reader *items)
{
    const uint8_t *from = items->p;
    struct publish_item it;
    if (!queue_get_item(items, &it) || n->now_ms - t->began_ms >= n->opt.request_timeout_ms) {
        return false;
    }
    topic_refresh(n, t->topic);
    struct publish_retry *r = calloc(1, sizeof *r);
    syn_assert(r != NULL);
    r->at_ms = n->now_ms + RETRY_TOPIC_MS;
    r->target = *t;
    buf_append(&r->item, from, (size_t)(items->p - from));
    list_push_back(&n->doors->publish_retries, &r->link);
    doors_wake(n, r->at_ms);
    return true;
}

static void batch_answers(struct node *n, struct publish_batch *b, struct reader items, slice_t reply)
{
    struct reader r = reader_of(reply);
    reader_u8(&r);
    uint32_t count = reader_u32(&r);
    struct buf out = {0};
    syn_assert(count == b->n);
    for (uint32_t i = 0; i < count; i++) {
        const struct publish_target *t = &b->targets[i];
        enum publish_status st = (enum publish_status)reader_u8(&r);
        uint64_t offset = reader_u64(&r);
        struct stream_id id = {.ms = reader_u64(&r)};
        id.seq = reader_u64(&r);
        if (st == PUBLISH_NO_TOPIC && try_again(n, t, &items)) {
            continue;
        }
        buf_clear(&out);
        if (st == PUBLISH_OK || st == PUBLISH_DUPLICATE) {
            put_id(&out, t, offset, id);
        } else {
            put_refusal(&out, st, t, offset, items);
        }
        if (st != PUBLISH_NO_TOPIC && n->doors->walking_items) {
            struct publish_item skip;
            queue_get_item(&items, &skip);
        }
        target_reply(n, t, buf_slice(&out));
    }
    buf_fini(&out);
}

/* Items are walked only when one of them must be sent again, or is to be named. */
static bool any_to_walk(slice_t reply)
{
    struct reader r = reader_of(reply);
    reader_u8(&r);
    uint32_t count = reader_u32(&r);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t st = reader_u8(&r);
        if (st == PUBLISH_NO_TOPIC || st == PUBLISH_FENCED) {
            return true;
        }
        reader_take(&r, 24);
    }
    return false;
}

static void batch_done(struct node *n, struct request *r, slice_t reply)
{
    struct publish_batch *b = (struct publish_batch *)(uintptr_t)r->arg;
    if (reply.len > 0 && reply.ptr[0] == QUEUE_DONE) {
        struct reader items = reader_of(slice_of(r->payload.ptr + r->payload.len - b->items.len, b->items.len));
        n->doors->walking_items = any_to_walk(reply);
        batch_answers(n, b, items, reply);
    } else {
        for (uint32_t i = 0; i < b->n; i++) {
            target_reply(n, &b->targets[i], reply);
        }
    }
    if (b->items.cap > BATCH_BYTES_MAX / 4) {
        buf_fini(&b->items);
    }
    list_remove(&b->link);
    b->link.next = (struct list *)n->doors->free_batches;
    n->doors->free_batches = b;
}

/* False: its topic's row is on its way, it comes again. */
static bool retry(struct node *n, struct publish_retry *r)
{
    struct topic_ref *t = r->target.topic;
    if (t->state == TOPIC_ASKED) {
        return false;
    }
    struct reader rd = reader_of(buf_slice(&r->item));
    struct publish_item it;
    bool ok = queue_get_item(&rd, &it);
    syn_assert(ok);
    if (t->state == TOPIC_KNOWN) {
        it.topic = t->id; /* deleted and made again: the name is what was asked for */
        it.partition %= t->config.partitions;
        r->target.partition = it.partition;
        struct buf item = {0};
        queue_put_item(&item, &it);
        batch_add(n, t->groups[it.partition], &r->target, buf_slice(&item));
        buf_fini(&item);
    } else {
        struct buf b = {0};
        topic_code_error(&b, TOPIC_UNKNOWN, topic_name(t));
        target_reply(n, &r->target, buf_slice(&b));
        buf_fini(&b);
    }
    return true;
}

void publish_timers(struct node *n)
{
    struct doors *d = n->doors;
    struct list due;
    list_init(&due);
    list_each_safe(it, &d->publish_retries) {
        struct publish_retry *r = CONTAINER_OF(it, struct publish_retry, link);
        if (r->at_ms <= n->now_ms) {
            list_remove(it);
            list_push_back(&due, it);
        } else {
            doors_wake(n, r->at_ms);
        }
    }
    while (!list_empty(&due)) {
        struct publish_retry *r = CONTAINER_OF(due.next, struct publish_retry, link);
        list_remove(due.next);
        if (!retry(n, r)) {
            r->at_ms = n->now_ms + RETRY_TOPIC_MS;
            list_push_back(&d->publish_retries, &r->link);
            doors_wake(n, r->at_ms);
            continue;
        }
        buf_fini(&r->item);
        free(r);
    }
}

/* Batches leave together with what else this turn proposes. */
void doors_turn(struct node *n)
{
    publish_flush(n);
}

uint64_t doors_queue_deadline(const struct node *n)
{
    uint64_t members = members_deadline(n), consumes = consume_deadline(n);
    return members < consumes ? members : consumes;
}

static void batch_free(struct publish_batch *b)
{
    buf_fini(&b->items);
    free(b->targets);
    free(b);
}

void queue_publish_fini(struct doors *d)
{
    struct list *lists[] = {&d->batches, &d->batches_sent};
    for (int i = 0; i < 2; i++) {
        while (!list_empty(lists[i])) {
            struct publish_batch *b = CONTAINER_OF(lists[i]->next, struct publish_batch, link);
            list_remove(&b->link);
            batch_free(b);
        }
    }
    while (d->free_batches != NULL) {
        struct publish_batch *b = d->free_batches;
        d->free_batches = (struct publish_batch *)b->link.next;
        batch_free(b);
    }
    while (!list_empty(&d->publish_retries)) {
        struct publish_retry *r = CONTAINER_OF(d->publish_retries.next, struct publish_retry, link);
        list_remove(&r->link);
        buf_fini(&r->item);
        free(r);
    }
    while (!list_empty(&d->publish_multis)) {
        multi_free(CONTAINER_OF(d->publish_multis.next, struct publish_multi, link));
    }
    free(d->publishing);
}
