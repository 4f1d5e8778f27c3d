/* Back-pressure of write-back: while dirty lines that wait for their flush fill the cache beyond its bound, writes are put off until memory has taken some.
 *
 * Responsible for: whose command is put off (nothing of it was done, and what its client sent behind it waits, too), and when it goes on. Not for: which
 * lines go (cacher.h). MC9: dirty lines stay, so who would make more of them waits. A flush that does not end, for want of a quorum say, ends the waiting with
 * an error after REQUEST_TIMEOUT; what stands behind it in a pipeline has waited as long, and is refused with it. */
#include "nodes/doors/cache_door.h"

bool cache_put_off(struct call *c)
{
    struct cache_doors *d = c->n->doors->cache;
    struct conn *conn = c->conn;
    if (!(c->cmd->flags & CMD_WRITE) || conn->kind != DOOR_RESP || !cacher_is_crowded(c->n->cache.cacher)) {
        conn->crowd_ms = 0;
        return false;
    }
    if (conn->crowd_ms == 0) {
        conn->crowd_ms = c->n->now_ms;
    } else if (c->n->now_ms - conn->crowd_ms >= c->n->opt.request_timeout_ms) {
        call_error(c, "BUSY", "memory does not take what was written to this node's lines: nothing was done, retry later or ask another node");
        return true;
    }
    list_push_back(&d->crowd, &conn->crowd);
    doors_wake(c->n, conn->crowd_ms + c->n->opt.request_timeout_ms);
    c->again = true;
    return true;
}

static void go_on(struct node *n, struct conn *c)
{
    list_remove(&c->crowd);
    list_init(&c->crowd);
    c->retry = false;
    conn_resume(n, c);
}

/* The end of a turn: who was put off is looked at again, in the order of their coming. */
void cache_crowd_turn(struct node *n)
{
    struct list *crowd = &n->doors->cache->crowd;
    if (!list_empty(crowd) && !cacher_is_crowded(n->cache.cacher)) {
        list_each_safe(it, crowd) {
            go_on(n, CONTAINER_OF(it, struct conn, crowd));
        }
    }
}

void cache_crowd_timers(struct node *n)
{
    list_each_safe(it, &n->doors->cache->crowd) {
        struct conn *c = CONTAINER_OF(it, struct conn, crowd);
        uint64_t end_ms = c->crowd_ms + n->opt.request_timeout_ms;
        if (n->now_ms >= end_ms) {
            go_on(n, c); /* and is refused */
        } else {
            doors_wake(n, end_ms);
        }
    }
}
