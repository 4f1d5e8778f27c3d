/* CACHE.FLUSH: this node's dirty lines go to memory; the answer comes when they are there. */
#include "nodes/doors/cache_door.h"
#include "nodes/doors/cmd.h"

#include <stdlib.h>

enum { LOOK_MS = 2 };

struct cache_flush {
    struct list link;
    conn_id_t conn;
    uint64_t slot, mark, until_ms;
};

void handle_cache_flush(struct call *c)
{
    struct node *n = c->n;
    if (cacher_flush_all(n->cache.cacher)) {
        resp_simple(c->reply, "OK");
        return;
    }
    struct cache_flush *f = malloc(sizeof *f);
    syn_assert(f != NULL);
    *f = (struct cache_flush){.conn = c->conn->id, .slot = c->slot, .mark = cacher_flush_mark(n->cache.cacher),
                              .until_ms = n->now_ms + n->opt.request_timeout_ms};
    list_push_back(&n->doors->cache->flushes, &f->link);
    doors_wake(n, n->now_ms + LOOK_MS);
    c->later = true;
}

void cache_flushes_timers(struct node *n)
{
    list_each_safe(it, &n->doors->cache->flushes) {
        struct cache_flush *f = CONTAINER_OF(it, struct cache_flush, link);
        bool done = cacher_flushed(n->cache.cacher, f->mark);
        if (!done && n->now_ms < f->until_ms) {
            doors_wake(n, n->now_ms + LOOK_MS);
            continue;
        }
        struct buf b = {0};
        if (done) {
            resp_simple(&b, "OK");
        } else {
            route_no_leader(n, &b);
        }
        cache_reply_to(n, f->conn, f->slot, buf_slice(&b));
        buf_fini(&b);
        list_remove(it);
        free(f);
    }
}

void cache_flushes_free(struct cache_doors *d)
{
    list_each_safe(it, &d->flushes) {
        list_remove(it);
        free(CONTAINER_OF(it, struct cache_flush, link));
    }
}
