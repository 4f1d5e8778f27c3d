/* CLIENT TRACKING without BCAST: keys that a connection has read, and the push (RESP3) that tells it when its copy is old.
 *
 * A key is tracked while this node has a readable line of it: whatever takes the line, a write here or elsewhere, an eviction, the end of a lease, pushes
 * once and forgets. The push is in the connection's output before the acknowledgement of the snoop leaves this node, so before the write that caused it is
 * acknowledged to anybody. */
#include "nodes/doors/cache_door.h"

#include "utils/hash.h"

#include <stdlib.h>

enum { TRACKED_MAX = 1000000 };

struct tracked_key {
    struct map_node by_key;
    struct list all;
    struct list readers;        /* struct tracker.of_key */
    uint32_t group;
    uint32_t len;
    uint8_t key[];
};

struct tracker {
    struct list of_key, of_conn;
    struct tracked_key *key;
    struct conn *conn;
};

static bool key_eq(const struct map_node *m, const void *key)
{
    const struct tracked_key *t = CONTAINER_OF(m, struct tracked_key, by_key);
    return slice_eq(slice_of(t->key, t->len), *(const slice_t *)key);
}

static struct tracked_key *key_find(struct node *n, slice_t key)
{
    struct map_node *m = map_find(&n->doors->cache->tracked, hash_bytes(n->hash_key, key), &key, key_eq);
    return m != NULL ? CONTAINER_OF(m, struct tracked_key, by_key) : NULL;
}

static void key_free(struct cache_doors *d, struct tracked_key *t)
{
    map_remove(&d->tracked, &t->by_key);
    list_remove(&t->all);
    free(t);
}

static void tracker_free(struct tracker *r)
{
    list_remove(&r->of_key);
    list_remove(&r->of_conn);
    free(r);
}

static void redirect_broken(struct node *n, struct conn *c)
{
    struct buf b = {0};
    c->track_broken = true;
    resp_push(&b, 2);
    resp_bulk_str(&b, "tracking-redir-broken");
    resp_u64(&b, c->track_redirect);
    conn_push(n, c, buf_slice(&b));
    buf_fini(&b);
}

/* As a push, or to a connection of RESP2 that waits for it as a message of a channel. */
void track_push(struct node *n, struct conn *c, const slice_t *key)
{
    struct conn *to = c->track_redirect != 0 ? conn_find(n, c->track_redirect) : c;
    struct buf b = {0};
    if (to == NULL) {
        redirect_broken(n, c);
        return;
    }
    if (to->proto < 3 && !(to != c && to->subscribed)) {
        return;
    }
    if (to->proto < 3) {
        resp_array(&b, 3);
        resp_bulk_str(&b, "message");
        resp_bulk_str(&b, TRACK_CHANNEL);
    } else {
        resp_push(&b, 2);
        resp_bulk_str(&b, "invalidate");
    }
    if (key != NULL) {
        resp_array(&b, 1);
        resp_bulk(&b, *key);
    } else {
        resp_null(&b);
    }
    conn_notify(n, to, buf_slice(&b));
    buf_fini(&b);
}

static void key_gone(struct node *n, struct tracked_key *t)
{
    while (!list_empty(&t->readers)) {
        struct tracker *r = CONTAINER_OF(t->readers.next, struct tracker, of_key);
        struct conn *c = r->conn;
        tracker_free(r);
        if (!(c->track_noloop && n->doors->cache->writer == c->id)) {
            const slice_t key = slice_of(t->key, t->len);
            track_push(n, c, &key);
        }
    }
    key_free(n->doors->cache, t);
}

void doors_cache_gone(struct node *n, slice_t key)
{
    struct tracked_key *t = n->doors->cache->tracked.count > 0 ? key_find(n, key) : NULL;
    if (t != NULL) {
        key_gone(n, t);
    }
    lease_gone(n, key);
}

void doors_cache_lost(struct node *n, uint32_t group)
{
    lease_lost(n, group);
    list_each_safe(it, &n->doors->cache->tracked_all) {
        struct tracked_key *t = CONTAINER_OF(it, struct tracked_key, all);
        if (t->group == group) {
            key_gone(n, t);
        }
    }
}

bool track_wants(const struct conn *c)
{
    return c->tracking && !c->track_bcast && (c->track_optin ? c->caching == 1 : c->track_optout ? c->caching != 2 : true);
}

void track_read(struct node *n, struct conn *c, slice_t key)
{
    struct cache_doors *d = n->doors->cache;
    uint32_t group = cache_group(n, key);
    uint64_t version;
    enum mesi_state s = cacher_state(n->cache.cacher, group, key, &version);
    if (s != MESI_S && s != MESI_E && s != MESI_M && s != MESI_MS && s != MESI_MF) {
        track_push(n, c, &key); /* it was good once, and is not kept */
        return;
    }
    struct tracked_key *t = key_find(n, key);
    if (t == NULL) {
        if (d->tracked.count >= TRACKED_MAX) {
            key_gone(n, CONTAINER_OF(d->tracked_all.next, struct tracked_key, all));
        }
        t = calloc(1, sizeof *t + key.len);
        syn_assert(t != NULL);
        t->group = group;
        t->len = (uint32_t)key.len;
        memcpy(t->key, key.ptr, key.len);
        list_init(&t->readers);
        map_insert(&d->tracked, &t->by_key, hash_bytes(n->hash_key, key));
        list_push_back(&d->tracked_all, &t->all);
    }
    list_each(it, &t->readers) {
        if (CONTAINER_OF(it, struct tracker, of_key)->conn == c) {
            return;
        }
    }
    struct tracker *r = malloc(sizeof *r);
    syn_assert(r != NULL);
    *r = (struct tracker){.key = t, .conn = c};
    list_push_back(&t->readers, &r->of_key);
    list_push_back(&c->tracked, &r->of_conn);
}

void track_forget(struct doors *d, struct conn *c)
{
    c->tracking = false;
    while (!list_empty(&c->tracked)) {
        struct tracker *r = CONTAINER_OF(c->tracked.next, struct tracker, of_conn);
        struct tracked_key *t = r->key;
        tracker_free(r);
        if (list_empty(&t->readers)) {
            key_free(d->cache, t);
        }
    }
}
