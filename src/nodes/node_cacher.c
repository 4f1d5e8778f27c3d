/* This node's lines (cacher.h), and how they talk with the homes of their keys.
 *
 * Responsible for: carrying messages, many in one; writes through, all of a turn for one group as one request; clocks and timers of the
 * cacher. Not for: what a message means (cacher.h, home.h), nor for the groups' memories (node_cache.c).
 *
 * Invariants: C1 a message to this node itself is handled in the turn in which it was made. C2 every write that the cacher handed out is answered, and the
 * cacher hears of its end, exactly once. */
#include "nodes/node_internal.h"

#include "communication/resp.h"
#include "utils/limits.h"

#include <stdlib.h>

enum { MESSAGES_BYTES_MAX = 256 * 1024, BATCH_BYTES_MAX = 512 * 1024, SELF_ROUNDS_MAX = 1000, ASK_NEXT_MS = 100, TXN_SHIFT = 40, AWAKE_MS = 3 };

static bool for_home(uint8_t kind)
{
    switch (kind) {
    case CACHE_MSG_GETS:
    case CACHE_MSG_GETX:
    case CACHE_MSG_UPGR:
    case CACHE_MSG_FLUSH:
    case CACHE_MSG_ACK:
    case CACHE_MSG_NOTED:
    case CACHE_MSG_LEASE:
    case CACHE_MSG_REPORT: return true;
    default: return false;
    }
}

void cache_send(struct node *n, node_id_t to, const struct cache_msg *m)
{
    if (to == n->opt.self) {
        cache_msg_put(&n->cache.self[0], m);
        return;
    }
    struct node_peer *p = node_peer_of(n, to);
    if (p == NULL || !peer_linked(p)) {
        return; /* lost: whoever waits for the answer asks again */
    }
    struct buf *b = &n->cache.to[p - n->peers];
    cache_msg_put(b, m);
    if (b->len > MESSAGES_BYTES_MAX) {
        cache_flush_links(n);
    }
}

void cache_flush_links(struct node *n)
{
    for (uint32_t i = 0; i < n->n_peers; i++) {
        struct buf *b = &n->cache.to[i];
        if (b->len > 0 && !peer_linked(&n->peers[i])) {
            buf_clear(b); /* the link went down in this turn: lost, as above */
        } else if (b->len > 0) {
            struct peer_msg m = {.kind = PEER_CACHE, .u.cache.messages = buf_slice(b)};
            links_send(n, &n->peers[i], &m);
            buf_clear(b);
        }
    }
}

/* A message for a home that is not here: who has none of the group's replicas learns only so that another node leads now. */
static void refer(struct node *n, node_id_t from, struct node_group *g)
{
    struct node_peer *p = node_peer_of(n, from);
    if (p != NULL && peer_linked(p) && g->leader != 0 && g->leader != n->opt.self && g->leader != from) {
        struct buf config = {0};
        struct peer_msg m = {.kind = PEER_PLACEMENT};
        consensus_config_encode(&g->placement, &config);
        m.u.placement = (struct peer_placement){.group = g->id, .leader = g->leader, .term = g->term, .config = buf_slice(&config)};
        links_send(n, p, &m);
        buf_fini(&config);
    }
}

/* False: nobody who keeps to the protocol sends that. */
static bool dispatch(struct node *n, node_id_t from, const struct cache_msg *m)
{
    struct node_group *g = &n->groups[m->group];
    if (m->kind == CACHE_MSG_LOOK || m->kind == CACHE_MSG_SEEN) {
        doors_cache_seen(n, from, m);
    } else if (!for_home(m->kind)) {
        return cacher_on(n->cache.cacher, m);
    } else if (g->cache.home != NULL) {
        home_clock(g->cache.home, n->now_ms);
        return home_on(g->cache.home, from, m);
    } else if (m->kind == CACHE_MSG_LEASE && from != n->opt.self) {
        refer(n, from, g);
    }
    return true;
}

void cache_stay_awake(struct node *n)
{
    n->cache.awake_until_ms = n->now_ms + AWAKE_MS;
}

/* Believed, it would make this node's lines deaf to all homes that the group will ever have (I38). */
static bool is_out_of_reach(const struct node_group *g, uint64_t epoch)
{
    uint64_t term = g->term > g->heard_term ? g->term : g->heard_term;
    return term > 0 && epoch > term && epoch - term > LIMIT_TERM_JUMP;
}

void cache_on_peer(struct node *n, node_id_t from, slice_t bytes)
{
    struct reader r = reader_of(bytes);
    struct cache_msg m;
    while (reader_left(&r) > 0) {
        if (!cache_msg_get(&r, &m) || m.group >= n->opt.groups || is_out_of_reach(&n->groups[m.group], m.epoch)) {
            metrics_refused(&n->metrics, REFUSED_PEER);
            return;
        }
        if (!dispatch(n, from, &m)) {
            metrics_refused(&n->metrics, REFUSED_PEER);
        }
    }
}

/* The leader; who does not know it and has no replica asks one replica after the other, which will refer it. */
static void on_send(void *arg, const struct cache_msg *m)
{
    struct node *n = arg;
    const struct node_group *g = &n->groups[m->group];
    node_id_t to = group_leader_hint(n, g);
    struct node_peer *p = node_peer_of(n, to);
    bool reaches = to == n->opt.self ? g->hosted : p != NULL && peer_linked(p);
    if (!reaches && !group_takes_part(n, g) && g->placement.count > 0) {
        to = g->placement.members[n->now_ms / ASK_NEXT_MS % g->placement.count].id;
    }
    cache_send(n, to, m);
}

static void on_reply(void *arg, uint64_t cookie, slice_t resp)
{
    doors_cache_reply(arg, cookie, resp);
}

static void on_gone(void *arg, uint32_t group, slice_t key)
{
    (void)group;
    doors_cache_gone(arg, key);
}

static void on_lost(void *arg, uint32_t group)
{
    doors_cache_lost(arg, group);
}

static void on_told(void *arg, uint32_t group, slice_t key, bool all)
{
    (void)group;
    doors_cache_told(arg, key, all, 0);
}

static void batch_free(struct node *n, struct cache_batch *b)
{
    if (n->groups[b->group].cache.batch == b) {
        n->groups[b->group].cache.batch = NULL;
    }
    list_remove(&b->link);
    buf_fini(&b->ops);
    buf_fini(&b->cookies);
    free(b);
}

/* What the bound of memory refuses a line would take: the value that it would have then is nobody's. */
static bool refused_by_bound(slice_t resp, uint64_t before, uint64_t version)
{
    static const char oom[] = "-OOM ";
    return before == version && resp.len >= sizeof oom - 1 && memcmp(resp.ptr, oom, sizeof oom - 1) == 0;
}

/* The answer to one write: its client's, then the cacher's. */
static void write_done(struct node *n, const struct cache_batch *b, uint64_t cookie, slice_t key, slice_t op, uint64_t epoch, struct reader *r)
{
    slice_t resp = reader_bytes(r);
    uint64_t before = reader_u64(r), version = reader_u64(r);
    reader_u8(r);
    bool owned = reader_u8(r) == 1;
    uint64_t seq = reader_u64(r);
    if (before != version) {
        doors_cache_told(n, key, false, cookie);
    }
    doors_cache_reply(n, cookie, resp);
    enum cacher_outcome done = owned ? CACHER_DONE_OWNED : CACHER_DONE;
    cacher_wrote(n->cache.cacher, b->group, key, op, refused_by_bound(resp, before, version) ? CACHER_UNSURE : done, epoch, before, version, seq);
}

static void writes_failed(struct node *n, const struct cache_batch *b, struct reader ops, slice_t error)
{
    static const char uncertain[] = "-UNCERTAIN";
    bool unsure = error.len < sizeof uncertain - 1 || memcmp(error.ptr, uncertain, sizeof uncertain - 1) == 0;
    for (uint32_t i = 0; i < b->n; i++) {
        slice_t key = reader_bytes(&ops), op = reader_bytes(&ops);
        if (unsure) {
            doors_cache_told(n, key, false, 0);
        }
        doors_cache_reply(n, le64_get(b->cookies.ptr + (size_t)i * 8), error);
        cacher_wrote(n->cache.cacher, b->group, key, op, unsure ? CACHER_UNSURE : CACHER_NOT_DONE, 0, 0, 0, 0);
    }
}

static void done_batch(struct node *n, struct request *r, slice_t reply)
{
    struct cache_batch *b = (struct cache_batch *)(uintptr_t)r->arg;
    struct reader in = reader_of(reply), ops = reader_of(buf_slice(&b->ops));
    if (reply.len > 0 && reply.ptr[0] == '-') {
        writes_failed(n, b, ops, reply);
        batch_free(n, b);
        return;
    }
    uint64_t epoch = reader_u64(&in);
    uint32_t count = reader_u32(&in);
    if (!in.ok || count != b->n) {
        writes_failed(n, b, ops, slice_str(ANSWER_NOT_UNDERSTOOD));
        batch_free(n, b);
        return;
    }
    for (uint32_t i = 0; i < b->n; i++) {
        slice_t key = reader_bytes(&ops), op = reader_bytes(&ops);
        write_done(n, b, le64_get(b->cookies.ptr + (size_t)i * 8), key, op, epoch, &in);
    }
    batch_free(n, b);
}

static void batch_submit(struct node *n, struct cache_batch *b)
{
    struct request *r = request_new(n, b->group, REQUEST_WRITE, false, done_batch);
    n->groups[b->group].cache.batch = NULL;
    list_remove(&b->link);
    list_push_back(&n->cache.batches, &b->link);
    r->arg = (uint64_t)(uintptr_t)b;
    r->metric = METRIC_REQUEST_WRITE;
    buf_put_u8(&r->payload, SERVICE_CACHE);
    cache_put_head(&r->payload, CACHE_ENTRY_BATCH, request_id_of(n, r), request_low(n, b->group, false));
    buf_put_u64(&r->payload, n->wall_ms);
    buf_put_u32(&r->payload, b->n);
    buf_append_slice(&r->payload, buf_slice(&b->ops));
    request_submit(n, r);
}

static void on_write(void *arg, uint32_t group, slice_t key, slice_t op, uint64_t cookie)
{
    struct node *n = arg;
    struct group_cache *q = &n->groups[group].cache;
    if (q->batch == NULL) {
        q->batch = calloc(1, sizeof *q->batch);
        syn_assert(q->batch != NULL);
        q->batch->group = group;
        list_push_back(&n->cache.filling, &q->batch->link);
    }
    struct cache_batch *b = q->batch;
    cache_put_op(&b->ops, key, op);
    buf_put_u64(&b->cookies, cookie);
    b->n++;
    if (b->ops.len > BATCH_BYTES_MAX) {
        q->batch = NULL; /* the next begins another; both leave at the end of the turn */
    }
}

/* C1. What is answered here may make further messages and writes: until there are none. */
void cache_turn(struct node *n)
{
    struct node_cache *c = &n->cache;
    uint32_t rounds = 0;
    while (!list_empty(&c->filling) || c->self[0].len > 0) {
        syn_assert(++rounds < SELF_ROUNDS_MAX);
        while (!list_empty(&c->filling)) {
            batch_submit(n, CONTAINER_OF(c->filling.next, struct cache_batch, link));
        }
        buf_swap(&c->self[0], &c->self[1]);
        cache_on_peer(n, n->opt.self, buf_slice(&c->self[1]));
        buf_clear(&c->self[1]);
    }
}

void cache_timers(struct node *n)
{
    cacher_timers(n->cache.cacher);
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        struct home *h = n->groups[i].cache.home;
        if (h != NULL && home_deadline(h) <= n->now_ms) {
            cache_home_timers(n, &n->groups[i]);
        }
    }
}

uint64_t cache_deadline(const struct node *n)
{
    uint64_t at = cacher_deadline(n->cache.cacher);
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        const struct home *h = n->groups[i].cache.home;
        uint64_t due = h != NULL ? home_deadline(h) : UINT64_MAX;
        at = due < at ? due : at;
    }
    return at;
}

void cacher_open(struct node *n)
{
    const struct node_options *o = &n->opt;
    struct cacher_options co = {.groups = o->groups, .hash_key = n->hash_key, .back = o->cache_back, .entries_max = o->cache_entries,
                                .bytes_max = o->cache_bytes, .policy = o->cache_s3fifo ? LINES_S3FIFO : LINES_LRU, .lease_ms = o->cache_lease_ms,
                                .flush_ms = o->cache_flush_ms, .first_txn = o->incarnation << TXN_SHIFT};
    struct cacher_io io = {n, on_send, on_reply, on_write, on_gone, on_lost, on_told};
    list_init(&n->cache.batches);
    list_init(&n->cache.filling);
    cache_out_init(&n->cache.out);
    n->cache.cacher = cacher_new(&co, &io);
    cacher_clock(n->cache.cacher, n->now_ms, n->wall_ms);
}

void cacher_close(struct node *n)
{
    cacher_free(n->cache.cacher);
    cache_out_fini(&n->cache.out);
    struct list *lists[] = {&n->cache.batches, &n->cache.filling};
    for (int i = 0; i < 2; i++) {
        list_each_safe(it, lists[i]) {
            batch_free(n, CONTAINER_OF(it, struct cache_batch, link));
        }
        buf_fini(&n->cache.self[i]);
    }
    for (uint32_t i = 0; i < NODE_MEMBERS_MAX; i++) {
        buf_fini(&n->cache.to[i]);
    }
}
