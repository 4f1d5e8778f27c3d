/* One call that asks several groups (or one) and makes one reply of their answers: settling, information, seeking, administration.
 *
 * The first error is the reply. A group that does not know the topic has not been told of it yet, or any more: it has nothing to say where
 * that is harmless (missing_ok), else the topic is reported as unknown, and its row is asked for anew. */
#include "nodes/doors/queue_door.h"

#include <stdlib.h>

struct multi *multi_new(struct call *c, struct topic_ref *t, multi_part_fn part, multi_end_fn end)
{
    struct multi *m = calloc(1, sizeof *m);
    syn_assert(m != NULL);
    *m = (struct multi){.n = c->n, .conn = c->conn->id, .slot = c->slot, .topic = t, .left = 1, .part = part, .end = end,
                        .metric = c->cmd->flags & CMD_WRITE ? METRIC_REQUEST_WRITE : METRIC_REQUEST_READ,
                        .began_ms = c->began_ms != 0 ? c->began_ms : c->n->now_ms};
    list_push_back(&c->n->doors->multis, &m->link);
    c->later = true;
    return m;
}

static void multi_free(struct multi *m)
{
    list_remove(&m->link);
    buf_fini(&m->error);
    buf_fini(&m->out);
    buf_fini(&m->side);
    buf_fini(&m->name);
    free(m->order);
    free(m);
}

static void multi_finish(struct multi *m)
{
    struct node *n = m->n;
    struct conn *c = conn_find(n, m->conn);
    struct buf reply = {0};
    if (c != NULL) {
        if (m->error.len > 0) {
            buf_append_slice(&reply, buf_slice(&m->error));
        } else {
            m->end(m, &reply);
        }
        metrics_request(&n->metrics, m->metric, buf_slice(&reply), n->now_ms - m->began_ms);
        conn_reply(n, c, m->slot, buf_slice(&reply));
    }
    buf_fini(&reply);
    multi_free(m);
}

static void row_done(struct node *n, struct request *r, slice_t reply);

/* Groups that have nothing of a topic: it is new, or was deleted behind this node's back. */
static bool verify(struct multi *m)
{
    if (m->missing == 0 || m->verified || m->error.len > 0 || conn_find(m->n, m->conn) == NULL) {
        return false;
    }
    m->verified = true;
    struct request *r = topic_row_request(m->n, m->topic, row_done);
    r->arg = (uintptr_t)m;
    m->left++;
    request_submit(m->n, r);
    return true;
}

static void multi_took(struct multi *m)
{
    syn_assert(m->left > 0);
    if (--m->left == 0 && !verify(m)) {
        multi_finish(m);
    }
}

static void row_done(struct node *n, struct request *r, slice_t reply)
{
    struct multi *m = (struct multi *)(uintptr_t)r->arg;
    if (reply.len == 0 || reply.ptr[0] == '-') {
        multi_fail(m, reply);
    } else if (!topic_take_row(n, m->topic, reply)) {
        struct buf b = {0};
        topic_code_error(&b, TOPIC_UNKNOWN, topic_name(m->topic));
        multi_fail(m, buf_slice(&b));
        buf_fini(&b);
    }
    multi_took(m);
}

void multi_row_begin(struct multi *m, uint32_t key)
{
    if (m->n_order == m->cap_order) {
        m->cap_order = m->cap_order ? m->cap_order * 2 : 16;
        m->order = realloc(m->order, m->cap_order * sizeof *m->order);
        syn_assert(m->order != NULL);
    }
    m->order[m->n_order++] = (struct multi_row){.key = key, .off = m->out.len};
}

void multi_row_end(struct multi *m)
{
    struct multi_row *row = &m->order[m->n_order - 1];
    row->len = m->out.len - row->off;
}

static int by_key(const void *a, const void *b)
{
    const struct multi_row *x = a, *y = b;
    return x->key < y->key ? -1 : x->key > y->key;
}

void multi_put_rows(struct multi *m, struct buf *reply)
{
    if (m->n_order > 1) {
        qsort(m->order, m->n_order, sizeof *m->order, by_key);
    }
    resp_array(reply, m->n_order);
    for (uint32_t i = 0; i < m->n_order; i++) {
        buf_append(reply, m->out.ptr + m->order[i].off, m->order[i].len);
    }
}

void multi_fail(struct multi *m, slice_t error)
{
    if (m->error.len == 0) {
        buf_append_slice(&m->error, error);
    }
}

static void part_done(struct node *n, struct request *r, slice_t reply)
{
    struct multi *m = (struct multi *)(uintptr_t)r->arg;
    if (m->keep_errors && (reply.len == 0 || reply.ptr[0] == '-')) {
        m->stale++;
    } else if (reply.len == 0 || reply.ptr[0] == '-') {
        multi_fail(m, reply);
    } else if (m->topic != NULL && !m->of_group_0 && reply.ptr[0] == QUEUE_NO_TOPIC) {
        struct buf b = {0};
        if (m->missing_ok) {
            static const uint8_t empty[9] = {QUEUE_DONE}; /* no rows, none of them */
            m->missing++;
            m->part(m, (uint32_t)r->arg2, slice_of(empty, sizeof empty));
        } else {
            topic_refresh(n, m->topic);
            topic_code_error(&b, TOPIC_UNKNOWN, topic_name(m->topic));
            multi_fail(m, buf_slice(&b));
        }
        buf_fini(&b);
    } else {
        m->part(m, (uint32_t)r->arg2, reply);
    }
    multi_took(m);
}

struct request *multi_op(struct multi *m, uint32_t group, enum queue_op_kind kind, uint32_t part)
{
    struct request *r = queue_request(m->n, group, kind, part_done);
    r->arg = (uintptr_t)m;
    r->arg2 = part;
    m->left++;
    return r;
}

struct request *multi_topic_op(struct multi *m, enum topic_op_kind kind)
{
    struct request *r = topics_request(m->n, kind, part_done);
    r->arg = (uintptr_t)m;
    m->of_group_0 = true;
    m->left++;
    return r;
}

struct request *multi_query(struct multi *m, uint32_t group, uint32_t part, const struct queue_query *q)
{
    struct request *r = request_new(m->n, group, REQUEST_READ, false, part_done);
    r->arg = (uintptr_t)m;
    r->arg2 = part;
    buf_put_u8(&r->payload, SERVICE_QUEUE);
    queue_query_encode(&r->payload, q);
    m->of_group_0 |= q->kind <= QQ_MEMBERS;
    m->left++;
    return r;
}

void multi_begin(struct multi *m)
{
    multi_took(m);
}

void queue_multi_fini(struct doors *d)
{
    while (!list_empty(&d->multis)) {
        multi_free(CONTAINER_OF(d->multis.next, struct multi, link));
    }
}
