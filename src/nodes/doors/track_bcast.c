/* CLIENT TRACKING BCAST: connections that hear of every write to keys with their prefixes, made at any node, before it is acknowledged.
 *
 * While there is such a connection this node listens (docs/cache.md, "Listening"): what homes tell comes in through doors_cache_told. Nothing is kept about keys.
 * A connection is answered OK, and is `bcast_ready`, when all homes tell; until then it is told nothing. */
#include "nodes/doors/cache_door.h"

#include <stdlib.h>

/* A CLIENT TRACKING that waits for the homes. */
struct bcast_wait {
    struct list link;
    conn_id_t conn;
    uint64_t slot, until_ms;
    uint64_t commands;          /* that the connection had sent; it may have read since then what it is not told of */
};

static bool wants(const struct conn *c, slice_t key)
{
    struct reader r = reader_of(buf_slice(&c->prefixes));
    for (uint32_t i = 0; i < c->n_prefixes; i++) {
        slice_t prefix = reader_bytes(&r);
        if (key.len >= prefix.len && slice_eq(slice_of(key.ptr, prefix.len), prefix)) {
            return true;
        }
    }
    return false;
}

static void wait_end(struct node *n, struct bcast_wait *w, slice_t reply)
{
    struct conn *c = conn_find(n, w->conn);
    if (c != NULL) {
        conn_reply(n, c, w->slot, reply);
    }
    list_remove(&w->link);
    free(w);
}

static void waits_ready(struct node *n)
{
    static const char ok[] = "+OK\r\n";
    list_each_safe(it, &n->doors->cache->bcast_waits) {
        struct bcast_wait *w = CONTAINER_OF(it, struct bcast_wait, link);
        struct conn *c = conn_find(n, w->conn);
        bool unsure = c != NULL && c->track_bcast && c->commands != w->commands;
        if (c != NULL) {
            c->bcast_ready = c->track_bcast;
        }
        wait_end(n, w, slice_of(ok, sizeof ok - 1));
        if (unsure) {
            track_push(n, c, NULL);
        }
    }
}

void doors_cache_told(struct node *n, slice_t key, bool all, uint64_t cookie)
{
    struct cache_doors *d = n->doors->cache;
    conn_id_t writer = !list_empty(&d->bcast) && cookie != 0 ? cache_asker(d, cookie) : 0;
    list_each(it, &d->bcast) {
        struct conn *c = CONTAINER_OF(it, struct conn, of_bcast);
        if (c->bcast_ready && (all || wants(c, key)) && !(c->track_noloop && writer == c->id)) {
            track_push(n, c, all ? NULL : &key);
        }
    }
    if (all && !list_empty(&d->bcast_waits) && cacher_hears(n->cache.cacher)) {
        waits_ready(n);
    }
}

void bcast_begin(struct call *c)
{
    struct node *n = c->n;
    struct cache_doors *d = n->doors->cache;
    if (!c->conn->track_bcast) {
        c->conn->track_bcast = true;
        if (list_empty(&d->bcast)) {
            cacher_listen(n->cache.cacher, true);
        }
        list_push_back(&d->bcast, &c->conn->of_bcast);
    }
    if (cacher_hears(n->cache.cacher)) {
        c->conn->bcast_ready = true;
        resp_simple(c->reply, "OK");
        return;
    }
    struct bcast_wait *w = malloc(sizeof *w);
    syn_assert(w != NULL);
    *w = (struct bcast_wait){.conn = c->conn->id, .slot = c->slot, .until_ms = n->now_ms + n->opt.request_timeout_ms, .commands = c->conn->commands};
    list_push_back(&d->bcast_waits, &w->link);
    doors_wake(n, w->until_ms);
    c->later = true;
}

void bcast_end(struct node *n, struct conn *c)
{
    struct cache_doors *d = n->doors->cache;
    if (c->track_bcast) {
        c->track_bcast = c->bcast_ready = false;
        list_remove(&c->of_bcast);
        if (list_empty(&d->bcast)) {
            cacher_listen(n->cache.cacher, false);
        }
    }
    buf_clear(&c->prefixes);
    c->n_prefixes = 0;
}

/* Some home cannot be reached: as if it had not been asked for. */
void bcast_timers(struct node *n)
{
    list_each_safe(it, &n->doors->cache->bcast_waits) {
        struct bcast_wait *w = CONTAINER_OF(it, struct bcast_wait, link);
        if (n->now_ms < w->until_ms) {
            doors_wake(n, w->until_ms);
            continue;
        }
        struct conn *c = conn_find(n, w->conn);
        struct buf b = {0};
        if (c != NULL && !c->bcast_ready) {
            tracking_off(n, c);
        }
        route_no_leader(n, &b);
        wait_end(n, w, buf_slice(&b));
        buf_fini(&b);
    }
}

void bcast_waits_free(struct doors *d)
{
    list_each_safe(it, &d->cache->bcast_waits) {
        list_remove(it);
        free(CONTAINER_OF(it, struct bcast_wait, link));
    }
}
