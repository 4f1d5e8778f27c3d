/* The wait-for graph: searched from a new waiter at the moment it would wait (K8).
 *
 * Nodes are owners. A waiter's owner waits for (1) the owners of incompatible holders and (2) the owner right ahead of it in each
 * queue, who in turn waits for what is ahead of him: together that is everything that must happen first. The graph is the
 * lock table itself, so it has no stale edges. Breadth first from the new waiter's owner: the cycle that is found is a shortest one.
 * An owner that holds nothing and waits for nothing else cannot be waited for: then there is nothing to search. */
#include "nodes/locks/lock_internal.h"

enum { CYCLE_BYTES_MAX = 1000 };

bool holder_blocks(const struct holder *h, const struct waiter *w)
{
    return h->owner != w->owner && (h->mode == LOCK_EXCLUSIVE || w->mode == LOCK_EXCLUSIVE);
}

struct search {
    struct lock_sm *sm;
    struct owner *start;
    struct owner *tail;  /* of the owners still to visit */
    struct owner *last;  /* found: it waits for start ... */
    struct resource *last_via;
    bool last_queue;
};

/* `from` waits for `to`. True when that closes the cycle. */
static bool edge(struct search *s, struct owner *from, struct owner *to, struct resource *via, bool queue)
{
    if (to == from) {
        return false;
    }
    if (to == s->start) {
        s->last = from;
        s->last_via = via;
        s->last_queue = queue;
        return true;
    }
    if (to->mark != s->sm->search) {
        to->mark = s->sm->search;
        to->from = from;
        to->via = via;
        to->via_queue = queue;
        to->queue = NULL;
        s->tail->queue = to;
        s->tail = to;
    }
    return false;
}

/* Everything ahead of one waiting request. */
static bool visit_waiter(struct search *s, struct waiter *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct place *p = &w->places[i];
        struct resource *r = p->resource;
        list_each(it, &r->holders) {
            struct holder *h = CONTAINER_OF(it, struct holder, in_resource);
            if (holder_blocks(h, w) && edge(s, w->owner, h->owner, r, false)) {
                return true;
            }
        }
        if (p->in_resource.prev != &r->places) {
            struct waiter *ahead = CONTAINER_OF(p->in_resource.prev, struct place, in_resource)->waiter;
            if (edge(s, w->owner, ahead->owner, r, true)) {
                return true;
            }
        }
    }
    return false;
}

static bool visit_owner(struct search *s, struct owner *o)
{
    list_each(it, &o->waits) {
        if (visit_waiter(s, CONTAINER_OF(it, struct waiter, in_owner))) {
            return true;
        }
    }
    return false;
}

static void put_edge(struct buf *out, const struct owner *from, const struct resource *via, bool queue, const struct owner *to)
{
    if (out->len > CYCLE_BYTES_MAX) {
        return;
    }
    buf_printf(out, "%s%.*s waits %.*s %s %.*s", out->len ? ", " : "", (int)from->name_len, (const char *)from->name,
               (int)via->name_len, (const char *)via->name, queue ? "behind" : "held by", (int)to->name_len, (const char *)to->name);
}

/* The path was recorded backwards: from the closing owner to the start. It is turned round in place and printed. */
static void put_cycle(const struct search *s, struct buf *out)
{
    struct owner *path[LIMIT_DEADLOCK_NAMES];
    uint32_t n = 0;
    for (struct owner *o = s->last; o != s->start && n < LIMIT_DEADLOCK_NAMES; o = o->from) {
        path[n++] = o;
    }
    const struct owner *from = s->start;
    while (n-- > 0) {
        put_edge(out, from, path[n]->via, path[n]->via_queue, path[n]);
        from = path[n];
    }
    put_edge(out, from, s->last_via, s->last_queue, s->start);
}

bool graph_cycle(struct lock_sm *sm, struct waiter *w, struct buf *out)
{
    struct owner *o = w->owner;
    uint32_t others = 0;
    list_each(it, &o->holds) {
        others++;
        break;
    }
    if (others == 0 && o->n_waits == 1) {
        return false;
    }
    sm->search++;
    o->mark = sm->search;
    o->queue = NULL;
    struct search s = {.sm = sm, .start = o, .tail = o};
    if (visit_waiter(&s, w)) {
        put_cycle(&s, out);
        return true;
    }
    for (struct owner *next = o->queue; next != NULL; next = next->queue) {
        if (visit_owner(&s, next)) {
            put_cycle(&s, out);
            return true;
        }
    }
    return false;
}
