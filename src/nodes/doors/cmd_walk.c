/* Commands that show all groups: one read request after the other, their answers made one.
 *
 * The cursor of LOCK.LIST is the group's own cursor times the number of groups plus the group, so that a listing in pages goes on
 * where it ended. A walk belongs to a reply place; when its connection is gone it ends at the next answer. */
#include "nodes/doors/door.h"

#include "utils/limits.h"

#include <stdlib.h>

struct walk {
    struct list link;
    conn_id_t conn;
    uint64_t slot;
    uint64_t began_ms;
    struct lock_query q;
    struct buf match;
    uint32_t group, last;
    uint32_t want, rows;
    struct buf out; /* rows, edges or Graphviz lines so far */
};

static void walk_done(struct node *n, struct request *r, slice_t reply);

static void walk_free(struct walk *w)
{
    list_remove(&w->link);
    buf_fini(&w->match);
    buf_fini(&w->out);
    free(w);
}

void walks_free(struct doors *d)
{
    while (!list_empty(&d->walks)) {
        walk_free(CONTAINER_OF(d->walks.next, struct walk, link));
    }
}

static void walk_ask(struct node *n, struct conn *c, struct walk *w)
{
    struct request *r = request_new(n, w->group, REQUEST_READ, false, walk_done);
    r->conn = w->conn;
    r->slot = w->slot;
    r->arg = (uintptr_t)w;
    conn_slot(c, w->slot)->req = r->seq;
    w->q.count = w->q.kind == LOCK_Q_LIST ? w->want - w->rows : 0;
    w->q.match = buf_slice(&w->match);
    buf_put_u8(&r->payload, SERVICE_LOCKS);
    lock_query_encode(&r->payload, &w->q);
    request_submit(n, r);
}

void call_walk(struct call *c, const struct lock_query *q, int64_t only)
{
    uint32_t groups = c->n->opt.groups;
    uint32_t first = only >= 0 ? (uint32_t)only : (uint32_t)(q->cursor % groups);
    struct walk *w = calloc(1, sizeof *w);
    syn_assert(w != NULL);
    *w = (struct walk){.conn = c->conn->id, .slot = c->slot, .began_ms = c->n->now_ms, .q = *q, .group = first};
    w->last = only >= 0 ? first : groups - 1;
    w->want = q->count;
    w->q.cursor = q->cursor / groups;
    buf_append_slice(&w->match, q->match);
    list_push_back(&c->n->doors->walks, &w->link);
    c->later = true;
    walk_ask(c->n, c->conn, w);
}

static uint64_t number_of(slice_t s)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s.len; i++) {
        v = v * 10 + (uint64_t)(s.ptr[i] - '0');
    }
    return v;
}

/* [cursor, rows] of one group. False: not what a group answers. */
static bool take_rows(struct walk *w, struct reader *r)
{
    struct resp_value head, cursor, rows;
    if (!resp_next(r, &head) || head.type != RT_ARRAY || !resp_next(r, &cursor) || !resp_next(r, &rows) || rows.type != RT_ARRAY) {
        return false;
    }
    w->q.cursor = number_of(cursor.str);
    w->rows += rows.count;
    buf_append(&w->out, r->p, reader_left(r));
    return true;
}

static bool take_edges(struct walk *w, struct reader *r)
{
    struct resp_value head;
    if (!resp_next(r, &head) || head.type != RT_ARRAY) {
        return false;
    }
    w->rows += head.count;
    buf_append(&w->out, r->p, reader_left(r));
    return true;
}

/* The lines between "digraph waits {" and "}". */
static bool take_dot(struct walk *w, struct reader *r)
{
    struct resp_value text;
    if (!resp_next(r, &text) || text.type != RT_VERBATIM || text.str.len < 2) {
        return false;
    }
    const uint8_t *nl = memchr(text.str.ptr, '\n', text.str.len);
    if (nl != NULL && text.str.ptr + text.str.len - 2 > nl) {
        buf_append(&w->out, nl + 1, text.str.len - 2 - (size_t)(nl + 1 - text.str.ptr));
    }
    return true;
}

static bool walk_take(struct walk *w, slice_t reply)
{
    struct reader r = reader_of(reply);
    return w->q.kind == LOCK_Q_LIST ? take_rows(w, &r) : w->q.kind == LOCK_Q_DOT ? take_dot(w, &r) : take_edges(w, &r);
}

static void walk_reply(const struct node *n, const struct walk *w, struct buf *b)
{
    if (w->q.kind == LOCK_Q_DOT) {
        struct buf text = {0};
        buf_append_str(&text, "digraph waits {\n");
        buf_append_slice(&text, buf_slice(&w->out));
        buf_append_str(&text, "}\n");
        resp_verbatim(b, "txt", buf_slice(&text));
        buf_fini(&text);
        return;
    }
    if (w->q.kind == LOCK_Q_LIST) {
        uint64_t groups = n->opt.groups;
        uint64_t next = w->q.cursor != 0 ? w->q.cursor * groups + w->group : w->group < w->last ? w->group + 1 : 0;
        struct buf text = {0};
        buf_printf(&text, "%llu", (unsigned long long)next);
        resp_array(b, 2);
        resp_bulk(b, buf_slice(&text));
        buf_fini(&text);
    }
    resp_array(b, w->rows);
    buf_append_slice(b, buf_slice(&w->out));
}

static bool walk_goes_on(const struct walk *w)
{
    return w->group < w->last && (w->q.kind != LOCK_Q_LIST || (w->q.cursor == 0 && w->rows < w->want));
}

static void walk_done(struct node *n, struct request *r, slice_t reply)
{
    struct walk *w = (struct walk *)(uintptr_t)r->arg;
    struct conn *c = conn_find(n, w->conn);
    if (c == NULL) {
        walk_free(w);
        return;
    }
    struct buf b = {0};
    if (reply.len == 0 || reply.ptr[0] == '-') {
        buf_append_slice(&b, reply);
    } else if (!walk_take(w, reply)) {
        resp_error(&b, "ERR", "group %u answered something else than a list", w->group);
    } else if (walk_goes_on(w)) {
        w->group++;
        walk_ask(n, c, w);
        return;
    } else {
        walk_reply(n, w, &b);
    }
    metrics_request(&n->metrics, METRIC_REQUEST_READ, buf_slice(&b), n->now_ms - w->began_ms);
    conn_reply(n, c, w->slot, buf_slice(&b));
    buf_fini(&b);
    walk_free(w);
}
