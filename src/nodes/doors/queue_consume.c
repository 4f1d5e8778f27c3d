/* One CONSUME on its way: its member's partitions are asked group after group, then, if it may block, all groups at once until one has
 * something (docs/queue.md, "Claims"). Here it begins, hears of its member and of time, and ends; its claims are queue_consume_claims.c's.
 *
 * Invariants: X1 a consume is answered exactly once. X2 deliveries that came for a consume that was answered, or whose client is gone, are given
 * back uncounted. X3 it is freed only when none of its claims is on its way. */
#include "nodes/doors/queue_consume.h"

#include <stdlib.h>

void consume_free(struct consume *x)
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

void consume_reply(struct node *n, struct consume *x, slice_t reply)
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

/* Every way out of these rooms' code ends here: freed now, or when the last claim has come back. */
static void consume_settle(struct node *n, struct consume *x)
{
    if (x->state != CONSUME_ENDED || x->busy > 0) {
        return;
    }
    if (x->n_sent == 0) {
        consume_free(x);
    } else if (!x->withdrawn) {
        x->withdrawn = true;
        consume_withdraw(n, x);
    }
}

void consume_leave(struct node *n, struct consume *x)
{
    syn_assert(x->busy > 0);
    x->busy--;
    consume_settle(n, x);
}

void consume_reply_nothing(struct node *n, struct consume *x)
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
            consume_reply(n, x, error);
        } else if (x->state == CONSUME_JOINING || (x->state == CONSUME_WAITING && x->n_sent == 0)) {
            consume_start(n, x);
        } else if (x->state == CONSUME_WAITING && !x->restart) {
            x->restart = true;
            consume_withdraw(n, x);
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
                consume_reply(n, x, error);
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
    } else if (late && x->n_sent == 0 && x->state == CONSUME_JOINING) {
        x->over = true; /* it has not looked yet: once, when it is a member */
    } else if (late && x->n_sent == 0) {
        consume_reply_nothing(n, x);
    } else if (late) {
        x->over = true; /* what is on its way may still bring something */
        if (x->state == CONSUME_WAITING || x->state == CONSUME_JOINING) {
            consume_withdraw(n, x);
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
