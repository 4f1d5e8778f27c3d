/* CLIENT TRACKING: keys that a connection has read, and the push (RESP3) that tells it when its copy is old.
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

static void push(struct node *n, struct conn *c, slice_t key)
{
    struct buf b = {0};
    resp_push(&b, 2);
    resp_bulk_str(&b, "invalidate");
    resp_array(&b, 1);
    resp_bulk(&b, key);
    conn_push(n, c, buf_slice(&b));
    buf_fini(&b);
}

static void key_gone(struct node *n, struct tracked_key *t)
{
    while (!list_empty(&t->readers)) {
        struct tracker *r = CONTAINER_OF(t->readers.next, struct tracker, of_key);
        struct conn *c = r->conn;
        tracker_free(r);
        if (!(c->track_noloop && n->doors->cache->writer == c->id)) {
            push(n, c, slice_of(t->key, t->len));
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
}

void doors_cache_lost(struct node *n, uint32_t group)
{
    list_each_safe(it, &n->doors->cache->tracked_all) {
        struct tracked_key *t = CONTAINER_OF(it, struct tracked_key, all);
        if (t->group == group) {
            key_gone(n, t);
        }
    }
}

bool track_wants(const struct conn *c)
{
    return c->tracking && (c->track_optin ? c->caching == 1 : c->track_optout ? c->caching != 2 : true);
}

void track_read(struct node *n, struct conn *c, slice_t key)
{
    struct cache_doors *d = n->doors->cache;
    uint32_t group = cache_group(n, key);
    uint64_t version;
    enum mesi_state s = cacher_state(n->cache.cacher, group, key, &version);
    if (s != MESI_S && s != MESI_E && s != MESI_M && s != MESI_MS && s != MESI_MF) {
        push(n, c, key); /* it was good once, and is not kept */
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

/* CLIENT TRACKING <ON | OFF> [OPTIN | OPTOUT] [NOLOOP] */
void client_tracking(struct call *c)
{
    bool on = slice_ieq(c->argv[2], "ON"), optin = false, optout = false, noloop = false;
    if (!on && !slice_ieq(c->argv[2], "OFF")) {
        call_error(c, "ERR", "syntax error");
        return;
    }
    for (uint32_t i = 3; i < c->argc; i++) {
        if (slice_ieq(c->argv[i], "OPTIN")) {
            optin = true;
        } else if (slice_ieq(c->argv[i], "OPTOUT")) {
            optout = true;
        } else if (slice_ieq(c->argv[i], "NOLOOP")) {
            noloop = true;
        } else if (slice_ieq(c->argv[i], "BCAST") || slice_ieq(c->argv[i], "PREFIX") || slice_ieq(c->argv[i], "REDIRECT")) {
            call_error(c, "ERR", "CLIENT TRACKING here knows what a connection has read, and pushes to it alone: no BCAST, PREFIX and REDIRECT; use HELLO 3");
            return;
        } else {
            call_error(c, "ERR", "syntax error");
            return;
        }
    }
    if (optin && optout) {
        call_error(c, "ERR", "You can't use both OPTIN and OPTOUT");
        return;
    }
    if (on && c->conn->proto < 3) {
        call_error(c, "ERR", "CLIENT TRACKING needs RESP3: say HELLO 3 first");
        return;
    }
    if (!on) {
        track_forget(c->n->doors, c->conn);
    }
    c->conn->tracking = on;
    c->conn->track_optin = on && optin;
    c->conn->track_optout = on && optout;
    c->conn->track_noloop = on && noloop;
    resp_simple(c->reply, "OK");
}

/* CLIENT CACHING <YES | NO>: of the next command. */
void client_caching(struct call *c)
{
    bool yes = slice_ieq(c->argv[2], "YES");
    if (!c->conn->tracking || (yes ? !c->conn->track_optin : !c->conn->track_optout)) {
        call_error(c, "ERR", yes ? "CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode." :
                                   "CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");
        return;
    }
    c->conn->caching = yes ? 1 : 2;
    resp_simple(c->reply, "OK");
}

void client_tracking_info(struct call *c)
{
    const struct conn *k = c->conn;
    const char *flags[4];
    uint32_t n = 0;
    flags[n++] = k->tracking ? "on" : "off";
    if (k->track_optin || k->track_optout) {
        flags[n++] = k->track_optin ? "optin" : "optout";
    }
    if (k->track_noloop) {
        flags[n++] = "noloop";
    }
    resp_map(c->reply, 3);
    resp_bulk_str(c->reply, "flags");
    resp_set(c->reply, n);
    for (uint32_t i = 0; i < n; i++) {
        resp_bulk_str(c->reply, flags[i]);
    }
    resp_bulk_str(c->reply, "redirect");
    resp_int(c->reply, k->tracking ? 0 : -1);
    resp_bulk_str(c->reply, "prefixes");
    resp_array(c->reply, 0);
}
