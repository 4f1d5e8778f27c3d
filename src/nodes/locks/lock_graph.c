/* The wait-for graph: searched from a new waiter at the moment it would wait (K8).
 *
 * Nodes are waiting requests and owners. A request waits for (1) the owners of incompatible holders and (2) the request right
 * ahead of it in each queue, which in turn waits for what is ahead of it: together that is everything that must happen first.
 * An owner that waits at all is taken to free nothing meanwhile: it waits for each of its requests. A request behind
 * another of the same owner does not wait for that owner, so two threads of one owner are no cycle. The graph is the lock
 * table itself and has no stale edges. Breadth first: the cycle that is found is a shortest one.
 *
 * A cycle goes through a new request only when its owner holds something that others wait for. The other moments at which a cycle
 * may close are a grant to an owner that waits elsewhere too, and the loss of a hold that had put a request ahead (recheck_mark). */
#include "nodes/locks/lock_internal.h"

enum { CYCLE_BYTES_MAX = 1000 };

bool holder_blocks(const struct holder *h, const struct waiter *w)
{
    return h->owner != w->owner && (h->mode == LOCK_EXCLUSIVE || w->mode == LOCK_EXCLUSIVE);
}

struct search {
    uint64_t number;
    struct graph_node *start;
    struct graph_node *tail; /* of the nodes still to visit */
    struct graph_node last;  /* found: how the last node leads to start */
};

/* `from` waits for `to`. True when that closes the cycle. */
static bool edge(struct search *s, struct graph_node *from, struct graph_node *to, struct resource *via, bool behind)
{
    if (to == s->start) {
        s->last = (struct graph_node){.from = from, .via = via, .behind = behind};
        return true;
    }
    if (to->mark != s->number) {
        bool is_owner = to->is_owner;
        *to = (struct graph_node){.mark = s->number, .from = from, .via = via, .is_owner = is_owner, .behind = behind};
        s->tail->next = to;
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
        struct holder *own = holder_of(r, w->owner);
        if (own != NULL && own->mode >= w->mode) {
            continue; /* re-entrance waits for nobody */
        }
        list_each(it, &r->holders) {
            struct holder *h = CONTAINER_OF(it, struct holder, in_resource);
            struct owner_waits *blocker = h->owner->waits; /* one that waits for nothing leads nowhere */
            if (blocker != NULL && holder_blocks(h, w) && edge(s, &w->node, &blocker->node, r, false)) {
                return true;
            }
        }
        if (p->in_resource.prev != &r->places && !list_empty(&p->in_resource)) {
            struct waiter *ahead = CONTAINER_OF(p->in_resource.prev, struct place, in_resource)->waiter;
            bool told = ahead->owner->waits->node.mark == s->number; /* its owner leads to it, and says what is held */
            if (!told && edge(s, &w->node, &ahead->node, r, true)) {
                return true;
            }
        }
    }
    return false;
}

static bool visit_owner(struct search *s, struct owner_waits *o)
{
    list_each(it, &o->list) {
        if (edge(s, &o->node, &CONTAINER_OF(it, struct waiter, in_owner)->node, NULL, false)) {
            return true;
        }
    }
    return false;
}

static bool visit(struct search *s, struct graph_node *n)
{
    return n->is_owner ? visit_owner(s, CONTAINER_OF(n, struct owner_waits, node)) : visit_waiter(s, CONTAINER_OF(n, struct waiter, node));
}

static const struct owner *owner_of(const struct graph_node *n)
{
    return n->is_owner ? CONTAINER_OF(n, struct owner_waits, node)->owner : CONTAINER_OF(n, struct waiter, node)->owner;
}

static void put_edge(struct buf *out, const struct owner *from, const struct resource *via, bool behind, const struct owner *to)
{
    if (out->len > CYCLE_BYTES_MAX) {
        return;
    }
    buf_printf(out, "%s%.*s waits %.*s %s %.*s", out->len ? ", " : "", (int)from->name_len, (const char *)from->name,
               (int)via->name_len, (const char *)via->name, behind ? "behind" : "held by", (int)to->name_len, (const char *)to->name);
}

/* The path was recorded backwards, from the closing node to the start. */
static void put_cycle(const struct search *s, struct buf *out)
{
    const struct graph_node *path[2 * LIMIT_DEADLOCK_NAMES];
    uint32_t n = 0;
    for (const struct graph_node *at = s->last.from; at != s->start && n < 2 * LIMIT_DEADLOCK_NAMES; at = at->from) {
        path[n++] = at;
    }
    while (n-- > 0) {
        if (path[n]->via != NULL) {
            put_edge(out, owner_of(path[n]->from), path[n]->via, path[n]->behind, owner_of(path[n]));
        }
    }
    if (s->last.via != NULL) {
        put_edge(out, owner_of(s->last.from), s->last.via, s->last.behind, owner_of(s->start));
    }
}

bool graph_cycle(struct lock_sm *sm, struct waiter *w, bool newest, struct buf *out)
{
    if (newest && list_empty(&w->owner->holds)) {
        return false; /* nobody stands behind it, and nobody waits for what it holds */
    }
    struct search s = {.number = ++sm->search, .start = &w->node, .tail = &w->node};
    w->node = (struct graph_node){.mark = s.number};
    for (struct graph_node *next = s.start; next != NULL; next = next->next) {
        if (visit(&s, next)) {
            put_cycle(&s, out);
            return true;
        }
    }
    return false;
}
