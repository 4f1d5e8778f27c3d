/* See cache_door.h. What waits longer than REQUEST_TIMEOUT without having left this node is answered that nothing was done; what has left is answered by its
 * request (node_route.c). A client that is gone leaves its commands to their end: a write that began is done. */
#include "nodes/doors/cache_door.h"

#include "utils/limits.h"

#include <stdlib.h>

enum { NO_ASK = UINT32_MAX, LIFE_SHIFT = 32 };

void cache_doors_init(struct doors *d)
{
    d->cache = calloc(1, sizeof *d->cache);
    syn_assert(d->cache != NULL);
    d->cache->free_ask = NO_ASK;
    list_init(&d->cache->waiting);
    list_init(&d->cache->joins);
    list_init(&d->cache->polls);
    list_init(&d->cache->flushes);
    map_init(&d->cache->tracked);
    list_init(&d->cache->tracked_all);
    list_init(&d->cache->crowd);
    list_init(&d->cache->bcast);
    list_init(&d->cache->bcast_waits);
    lease_init(d->cache);
}

static void join_free(struct cache_join *j)
{
    list_remove(&j->link);
    for (uint32_t i = 0; j->replies != NULL && i < j->n; i++) {
        buf_fini(&j->replies[i]);
    }
    free(j->replies);
    buf_fini(&j->error);
    buf_fini(&j->key);
    free(j);
}

void cache_doors_free(struct doors *d)
{
    struct cache_doors *c = d->cache;
    list_each_safe(it, &c->joins) {
        join_free(CONTAINER_OF(it, struct cache_join, link));
    }
    cache_polls_free(c);
    cache_flushes_free(c);
    bcast_waits_free(d);
    for (uint32_t i = 0; i < c->cap_asks; i++) {
        free(c->asks[i].used ? c->asks[i].key : NULL);
    }
    map_fini(&c->tracked);
    lease_fini(c);
    buf_fini(&c->op);
    free(c->asks);
    free(c);
    d->cache = NULL;
}

uint32_t cache_group(const struct node *n, slice_t key)
{
    return name_group(key, n->opt.groups);
}

struct cache_place cache_place(const struct node *n, slice_t key)
{
    return cacher_place(n->cache.cacher, cache_group(n, key), key);
}

struct cache_place call_place(const struct call *c)
{
    return c->placed ? c->place : cache_place(c->n, c->argv[1]);
}

bool cache_key_ok(struct call *c, slice_t key)
{
    if (key.len > LIMIT_KEY_BYTES) {
        call_error(c, "ERR", "the key has %zu bytes, the most is %d", key.len, LIMIT_KEY_BYTES);
        return false;
    }
    return true;
}

/* The array may move while the list goes through it: the list is made of numbers' places anew. */
static void asks_grow(struct cache_doors *d)
{
    uint32_t cap = d->cap_asks != 0 ? d->cap_asks * 2 : 256;
    struct cache_ask *all = calloc(cap, sizeof *all);
    syn_assert(all != NULL);
    struct list order;
    list_init(&order);
    list_each(it, &d->waiting) {
        const struct cache_ask *a = CONTAINER_OF(it, struct cache_ask, link);
        struct cache_ask *to = &all[a - d->asks];
        *to = *a;
        list_push_back(&order, &to->link);
    }
    for (uint32_t i = 0; i < d->cap_asks; i++) {
        all[i].life = d->asks[i].life;
    }
    list_init(&d->waiting);
    while (!list_empty(&order)) {
        struct list *it = order.next;
        list_remove(it);
        list_push_back(&d->waiting, it);
    }
    for (uint32_t i = cap; i-- > d->cap_asks;) { /* all former ones are in use */
        all[i].part = d->free_ask;
        d->free_ask = i;
    }
    free(d->asks);
    d->asks = all;
    d->cap_asks = cap;
}

static uint64_t ask_new(struct node *n, conn_id_t conn, uint64_t slot, bool write, struct cache_join *join, uint32_t part)
{
    struct cache_doors *d = n->doors->cache;
    if (d->free_ask == NO_ASK) {
        asks_grow(d);
    }
    uint32_t i = d->free_ask;
    struct cache_ask *a = &d->asks[i];
    d->free_ask = a->part;
    *a = (struct cache_ask){.used = true, .life = a->life + 1, .conn = conn, .slot = slot, .began_ms = n->now_ms, .write = write, .join = join,
                            .part = part};
    list_push_back(&d->waiting, &a->link);
    if (d->n_asks++ == 0) {
        doors_wake(n, n->now_ms + n->opt.request_timeout_ms);
    }
    return (uint64_t)a->life << LIFE_SHIFT | i;
}

static void ask_free(struct cache_doors *d, uint32_t i)
{
    struct cache_ask *a = &d->asks[i];
    list_remove(&a->link);
    a->used = false;
    a->part = d->free_ask;
    d->free_ask = i;
    d->n_asks--;
}

void cache_reply_to(struct node *n, conn_id_t id, uint64_t slot, slice_t reply)
{
    struct conn *conn = conn_find(n, id);
    if (conn != NULL) {
        conn_reply(n, conn, slot, reply);
    }
}

conn_id_t cache_asker(const struct cache_doors *d, uint64_t cookie)
{
    uint32_t i = (uint32_t)cookie;
    bool waits = i < d->cap_asks && d->asks[i].used && d->asks[i].life == (uint32_t)(cookie >> LIFE_SHIFT);
    return waits ? d->asks[i].conn : 0;
}

void doors_cache_reply(struct node *n, uint64_t cookie, slice_t resp)
{
    struct cache_doors *d = n->doors->cache;
    uint32_t i = (uint32_t)cookie;
    if (i >= d->cap_asks || !d->asks[i].used || d->asks[i].life != (uint32_t)(cookie >> LIFE_SHIFT)) {
        return; /* answered already: its time was over */
    }
    struct cache_ask a = d->asks[i];
    ask_free(d, i);
    metrics_request(&n->metrics, a.write ? METRIC_REQUEST_WRITE : METRIC_REQUEST_READ, resp, n->now_ms - a.began_ms);
    if (a.lease != NULL) {
        lease_read(n, a.lease, resp);
    } else if (a.join != NULL) {
        cache_join_reply(n, a.join, a.part, resp);
    } else {
        cache_reply_to(n, a.conn, a.slot, resp);
    }
    struct conn *conn = a.key != NULL ? conn_find(n, a.conn) : NULL;
    if (conn != NULL && conn->tracking && !(resp.len > 0 && resp.ptr[0] == '-')) {
        track_read(n, conn, slice_of(a.key, a.key_len));
    }
    free(a.key);
}

void cache_submit(struct call *c, const slice_t *argv, uint32_t argc, struct cache_join *join, uint32_t part)
{
    struct cache_doors *d = c->n->doors->cache;
    enum cache_access access;
    buf_clear(&d->op);
    buf_clear(c->reply);
    bool ok = cache_op_encode(argv, argc, &d->op, &access, c->reply);
    if (ok && access == CACHE_WRITES && c->n->stopping && c->n->opt.cache_back) {
        resp_error(c->reply, "LOADING", "this node is shutting down and writes back no more: nothing was done, ask another node");
        ok = false;
    }
    if (!ok) {
        if (join != NULL) {
            struct buf error = {0};
            buf_append_slice(&error, buf_slice(c->reply));
            buf_clear(c->reply);
            cache_join_reply(c->n, join, part, buf_slice(&error));
            buf_fini(&error);
        }
        return;
    }
    bool is_object = cache_op_is_object(argv[0]);
    slice_t key = argv[is_object ? 2 : 1];
    struct cache_place at = argv == c->argv && !is_object ? call_place(c) : cache_place(c->n, key);
    c->later = true;
    uint64_t cookie = ask_new(c->n, c->conn->id, c->slot, access == CACHE_WRITES, join, part);
    if (access == CACHE_READS && track_wants(c->conn)) {
        struct cache_ask *a = &d->asks[(uint32_t)cookie];
        a->key = malloc(key.len + 1);
        syn_assert(a->key != NULL);
        memcpy(a->key, key.ptr, key.len);
        a->key_len = (uint32_t)key.len;
    }
    d->writer = c->conn->id;
    cacher_op_at(c->n->cache.cacher, at, key, buf_slice(&d->op), access, cookie);
    d->writer = 0;
}

void cache_read(struct node *n, slice_t key, struct lease_wait *w)
{
    struct cache_doors *d = n->doors->cache;
    const slice_t argv[] = {SLICE_LIT("GET"), key};
    struct buf op = {0}, error = {0};
    enum cache_access access;
    bool ok = cache_op_encode(argv, 2, &op, &access, &error);
    syn_assert(ok);
    uint64_t cookie = ask_new(n, 0, 0, false, NULL, 0);
    d->asks[(uint32_t)cookie].lease = w;
    cacher_op(n->cache.cacher, cache_group(n, key), key, buf_slice(&op), access, cookie);
    buf_fini(&op);
    buf_fini(&error);
}

struct cache_join *cache_join_new(struct call *c, enum cache_join_kind kind, uint32_t n)
{
    struct cache_join *j = calloc(1, sizeof *j);
    syn_assert(j != NULL && n > 0);
    *j = (struct cache_join){.kind = kind, .conn = c->conn->id, .slot = c->slot, .n = n, .left = n};
    bool keeps = kind != JOIN_SUM && kind != JOIN_OK;
    j->replies = keeps ? calloc(n, sizeof *j->replies) : NULL;
    syn_assert(!keeps || j->replies != NULL);
    list_push_back(&c->n->doors->cache->joins, &j->link);
    c->later = true;
    return j;
}

static void put_entry(struct node *n, const struct cache_join *j, struct buf *out)
{
    uint64_t version;
    enum mesi_state s = cacher_state(n->cache.cacher, cache_group(n, buf_slice(&j->key)), buf_slice(&j->key), &version);
    resp_map(out, 4);
    resp_bulk_str(out, "key");
    resp_bulk(out, buf_slice(&j->key));
    resp_bulk_str(out, "value");
    buf_append_slice(out, buf_slice(&j->replies[0]));
    resp_bulk_str(out, "version");
    resp_u64(out, version);
    resp_bulk_str(out, "state");
    resp_bulk_str(out, MESI_STATE_NAMES[s]);
}

/* What GET answered; nothing of a key that does not exist. */
static slice_t value_of(const struct buf *reply)
{
    struct reader r = reader_of(buf_slice(reply));
    struct resp_value v;
    return resp_next(&r, &v) && v.type == RT_BULK ? v.str : SLICE_NONE;
}

static void join_end(struct node *n, struct cache_join *j)
{
    struct buf out = {0};
    if (j->error.len > 0) {
        buf_append_slice(&out, buf_slice(&j->error));
    } else if (j->kind == JOIN_SUM) {
        resp_int(&out, j->sum);
    } else if (j->kind == JOIN_OK) {
        resp_simple(&out, "OK");
    } else if (j->kind == JOIN_ENTRY) {
        put_entry(n, j, &out);
    } else if (j->kind == JOIN_LCS) {
        lcs_reply(value_of(&j->replies[0]), value_of(&j->replies[1]), &j->lcs, &out);
    } else {
        resp_array(&out, j->n);
        for (uint32_t i = 0; i < j->n; i++) {
            buf_append_slice(&out, buf_slice(&j->replies[i]));
        }
    }
    cache_reply_to(n, j->conn, j->slot, buf_slice(&out));
    buf_fini(&out);
    join_free(j);
}

void cache_join_reply(struct node *n, struct cache_join *j, uint32_t part, slice_t reply)
{
    if (reply.len > 0 && reply.ptr[0] == '-') {
        if (j->error.len == 0) {
            buf_append_slice(&j->error, reply);
        }
    } else if (j->replies != NULL) {
        buf_append_slice(&j->replies[part], reply);
    } else if (j->kind == JOIN_SUM) {
        struct reader r = reader_of(reply);
        struct resp_value v;
        j->sum += !resp_next(&r, &v) ? 0 : v.type == RT_INT ? v.num : v.type == RT_SIMPLE; /* OK counts one */
    }
    syn_assert(j->left > 0);
    if (--j->left == 0) {
        join_end(n, j);
    }
}

/* --- time */

static void give_up(struct node *n, uint32_t i)
{
    struct cache_doors *d = n->doors->cache;
    uint64_t cookie = (uint64_t)d->asks[i].life << LIFE_SHIFT | i;
    if (!cacher_cancel(n->cache.cacher, cookie)) {
        return; /* on its way: its request answers */
    }
    struct buf b = {0};
    route_no_leader(n, &b);
    doors_cache_reply(n, cookie, buf_slice(&b));
    buf_fini(&b);
}

void cache_doors_timers(struct node *n)
{
    struct cache_doors *d = n->doors->cache;
    uint64_t timeout = n->opt.request_timeout_ms;
    list_each_safe(it, &d->waiting) {
        struct cache_ask *a = CONTAINER_OF(it, struct cache_ask, link);
        if (n->now_ms < a->began_ms + timeout) {
            doors_wake(n, a->began_ms + timeout);
            break;
        }
        give_up(n, (uint32_t)(a - d->asks));
    }
    if (!list_empty(&d->waiting)) {
        doors_wake(n, n->now_ms + timeout / 4 + 1);
    }
    cache_polls_timers(n);
    cache_crowd_timers(n);
    cache_flushes_timers(n);
    bcast_timers(n);
    lease_timers(n);
}
