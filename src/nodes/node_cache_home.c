/* What the home of a group's keys asks its node for (home.h): messages, memory as applied, entries in the log, a round of reads that vouches for it.
 *
 * Not for what follows when such an entry is applied, nor for replies that wait (node_cache.c). */
#include "nodes/node_internal.h"

#include "utils/hash.h"

/* Flushes are numbered by the cacher, beside the requests of its node. */
static const uint64_t FLUSH_ORIGIN = 1ull << 63;

static struct node_group *group_of(const struct group_cache *q)
{
    return &q->n->groups[q->group];
}

static void home_send(void *arg, node_id_t to, const struct cache_msg *m)
{
    struct group_cache *q = arg;
    cache_send(q->n, to, m);
}

static void home_lookup(void *arg, slice_t key, struct cache_item *item, uint64_t *version)
{
    struct group_cache *q = arg;
    uint64_t now = group_log_now(q->n, group_of(q));
    cache_sm_get(q->sm, key, now, item, version);
    item->expire_ms = item->exists && item->expire_ms != 0 ? item->expire_ms - now : 0;
}

bool cache_propose(struct group_cache *q, const struct buf *entry, uint64_t *index)
{
    return group_propose(q->n, group_of(q), buf_slice(entry), index) == PROPOSE_OK;
}

static uint64_t origin_of(const struct node *n, node_id_t id)
{
    if (id == n->opt.self) {
        return n->origin;
    }
    for (uint32_t i = 0; i < n->n_peers; i++) {
        if (n->peers[i].member.id == id) {
            return n->peers[i].origin;
        }
    }
    return 0;
}

static bool home_flush(void *arg, node_id_t from, const struct cache_msg *m)
{
    struct group_cache *q = arg;
    struct node *n = q->n;
    uint64_t origin = origin_of(n, from), index;
    if (origin == 0) {
        return false;
    }
    struct cache_item item = m->item;
    item.expire_ms = item.exists && item.expire_ms != 0 ? item.expire_ms + group_log_now(n, group_of(q)) : 0;
    struct buf e = {0};
    buf_put_u8(&e, SERVICE_CACHE);
    cache_put_head(&e, CACHE_ENTRY_FLUSH, (struct request_id){origin ^ FLUSH_ORIGIN, m->txn}, m->low);
    buf_put_bytes(&e, m->key);
    buf_put_u64(&e, m->version);
    cache_put_item(&e, &item);
    bool ok = cache_propose(q, &e, &index);
    if (ok) {
        buf_put_u64(&q->proposed, index);
        buf_put_u32(&q->proposed, from);
    }
    buf_fini(&e);
    return ok;
}

static bool home_fence(void *arg, slice_t key)
{
    struct group_cache *q = arg;
    struct buf e = {0};
    uint64_t index;
    buf_put_u8(&e, SERVICE_CACHE);
    cache_put_head(&e, CACHE_ENTRY_FENCE, (struct request_id){0}, 0);
    buf_put_bytes(&e, key);
    bool ok = cache_propose(q, &e, &index);
    buf_fini(&e);
    return ok;
}

/* Of keys with one hash both are. */
static bool home_filling(void *arg, slice_t key)
{
    const struct group_cache *q = arg;
    uint64_t hash = hash_bytes(q->n->hash_key, key);
    bool asked = false;
    for (size_t at = 0; at < q->leasing.len && !asked; at += sizeof hash) {
        asked = le64_get(q->leasing.ptr + at) == hash;
    }
    return asked || cache_sm_filling(q->sm, key);
}

static void home_unfill(void *arg, slice_t key)
{
    struct group_cache *q = arg;
    struct buf e = {0};
    uint64_t index;
    buf_put_u8(&e, SERVICE_CACHE);
    cache_put_head(&e, CACHE_ENTRY_UNFILL, (struct request_id){0}, 0);
    buf_put_bytes(&e, key);
    cache_propose(q, &e, &index);
    buf_fini(&e);
}

void cache_unfill(struct node_group *g, slice_t key)
{
    if (g->cache.home != NULL && cache_sm_filling(g->cache.sm, key)) {
        home_unfill(&g->cache, key);
    }
}

bool cache_propose_node(struct group_cache *q, enum cache_entry_kind kind, node_id_t node)
{
    struct buf e = {0};
    uint64_t index;
    buf_put_u8(&e, SERVICE_CACHE);
    cache_put_head(&e, kind, (struct request_id){0}, 0);
    buf_put_u32(&e, node);
    bool ok = cache_propose(q, &e, &index);
    buf_fini(&e);
    return ok;
}

static bool home_hold(void *arg, node_id_t node)
{
    return cache_propose_node(arg, CACHE_ENTRY_HOLD, node);
}

/* A read round that begins now: when it is confirmed nobody else led before. */
static void home_vouch(void *arg)
{
    struct group_cache *q = arg;
    struct buf query = {0};
    buf_put_u8(&query, SERVICE_CACHE);
    buf_put_u8(&query, CACHE_QUERY_VOUCH);
    buf_put_u64(&query, q->n->now_ms);
    buf_put_u64(&query, group_of(q)->term);
    reads_add(q->n, group_of(q), 0, 0, buf_slice(&query));
    buf_fini(&query);
}

void cache_vouched(struct node *n, struct node_group *g, slice_t query)
{
    struct reader r = reader_of(query);
    reader_u8(&r);
    uint64_t begun = reader_u64(&r), term = reader_u64(&r);
    if (r.ok && term == g->term && g->cache.home != NULL) {
        home_clock(g->cache.home, n->now_ms);
        home_vouched(g->cache.home, begun);
    }
}

static void home_settled(void *arg)
{
    struct group_cache *q = arg;
    q->n->parked_retry_ms = 0;
}

struct home_io cache_home_asks(struct group_cache *q)
{
    struct home_io io = {.arg = q, .send = home_send, .lookup = home_lookup, .flush = home_flush, .fence = home_fence, .hold = home_hold, .vouch = home_vouch};
    if (q->n->opt.cache_back) {
        io.filling = home_filling;
        io.unfill = home_unfill;
        io.settled = home_settled;
    }
    return io;
}
