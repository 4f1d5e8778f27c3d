/* One group's part of the cache: its memory as entries make it, and, while this node leads the group, the home of its keys.
 *
 * Responsible for: applying entries, telling the home of them, keeping replies back until it says that nobody can read what was before. Not for: what the home asks
 * for (node_cache_home.c), lines and messages (node_cacher.c), nor for what is decided (home.h, cache_sm.h).
 *
 * Invariants: H1 a write is answered by the leader alone, and only by a home that is active (MC11). H2 each key of a write is told to the home when it is proposed,
 * when it is applied and when its reply leaves, once each. H3 a home sees every entry of the cache that is applied while it lives. */
#include "nodes/node_internal.h"

#include "communication/resp.h"
#include "utils/hash.h"

#include <stdlib.h>

enum { DUE_RETRY_MS = 20, DEDUP_MS = 120000, DEDUP_COUNT = 100000, CHECK_TURNS = 97, PROPOSED_BYTES = 12, DIRECTORY_KEYS = 4 * 1024 * 1024 /* of all groups */ };
/* Of all groups, before a leader says otherwise. Never to be changed: logs are read with it. */
static const uint64_t MEMORY_AT_FIRST = 8ull << 30;

struct cache_sm *cache_new_sm(const struct node *n, uint32_t group)
{
    struct cache_sm_options o = {.group = group, .hash_key = n->opt.cluster_key, .memory_bytes = MEMORY_AT_FIRST / n->opt.groups, .dedup_ms = DEDUP_MS,
                                 .dedup_count = DEDUP_COUNT};
    return cache_sm_new(&o);
}

void cache_host(struct node *n, struct node_group *g)
{
    struct group_cache *q = &g->cache;
    q->n = n;
    q->group = g->id;
    if (q->sm == NULL) {
        q->sm = cache_new_sm(n, g->id);
    }
}

static void held_free(struct cache_held *h)
{
    list_remove(&h->link);
    buf_fini(&h->keys);
    buf_fini(&h->reply);
    free(h);
}

void cache_leader_lost(struct node *n, struct node_group *g)
{
    struct group_cache *q = &g->cache;
    q->due_index = q->bound_index = 0;
    buf_clear(&q->proposed);
    buf_clear(&q->leasing);
    list_each_safe(it, &q->held) {
        held_free(CONTAINER_OF(it, struct cache_held, link)); /* who waits for it asks the next leader */
    }
    cache_end_home(q);
    cacher_home_changed(n->cache.cacher, g->id);
}

void cache_fini(struct group_cache *q)
{
    cache_end_home(q);
    if (q->sm != NULL) {
        list_each_safe(it, &q->held) {
            held_free(CONTAINER_OF(it, struct cache_held, link));
        }
        cache_end_sm(q);
    }
    buf_fini(&q->proposed);
    buf_fini(&q->written);
    buf_fini(&q->leasing);
}

static struct node_group *group_of(const struct group_cache *q)
{
    return &q->n->groups[q->group];
}

static node_id_t self_or(const struct node *n, node_id_t from)
{
    return from != 0 ? from : n->opt.self;
}

/* --- replies that wait */

/* H2. The reply as the cacher's node wants it: epoch, then each op's result with whether the line is the writer's, and the home's number of that word. */
static void held_send(struct group_cache *q, struct cache_held *h)
{
    struct node *n = q->n;
    struct reader keys = reader_of(buf_slice(&h->keys)), r = reader_of(buf_slice(&h->reply));
    struct buf out = {0};
    uint32_t count = reader_u32(&r), n_keys = reader_u32(&keys);
    buf_put_u64(&out, group_of(q)->term);
    buf_put_u32(&out, count);
    for (uint32_t i = 0; i < n_keys; i++) {
        uint64_t seq = 0;
        bool owned = q->home != NULL && home_owned(q->home, h->writer, reader_bytes(&keys), h->ticket, &seq) && !h->repeated;
        if (i < count) {
            buf_put_bytes(&out, reader_bytes(&r));
            buf_put_u64(&out, reader_u64(&r));
            buf_put_u64(&out, reader_u64(&r));
            buf_put_u8(&out, reader_u8(&r));
            buf_put_u8(&out, owned);
            buf_put_u64(&out, seq);
        }
    }
    for (uint32_t i = n_keys; i < count; i++) { /* FLUSHALL has no keys */
        buf_put_bytes(&out, reader_bytes(&r));
        buf_put_u64(&out, reader_u64(&r));
        buf_put_u64(&out, reader_u64(&r));
        buf_put_u8(&out, reader_u8(&r));
        buf_put_u8(&out, 0);
        buf_put_u64(&out, 0);
    }
    group_send_result(n, group_of(q), h->req, buf_slice(&out));
    buf_fini(&out);
    held_free(h);
}

static void home_release(void *arg, uint64_t ticket)
{
    struct group_cache *q = arg;
    list_each(it, &q->held) {
        struct cache_held *h = CONTAINER_OF(it, struct cache_held, link);
        if (h->ticket == ticket) {
            h->nobodys ? held_free(h) : held_send(q, h);
            return;
        }
    }
}

/* Those keys of a held write that have another version than before. */
static void home_written(void *arg, uint64_t ticket, struct home_written *w)
{
    struct group_cache *q = arg;
    struct cache_held *h = NULL;
    list_each(it, &q->held) {
        h = CONTAINER_OF(it, struct cache_held, link);
        if (h->ticket == ticket) {
            break;
        }
        h = NULL;
    }
    if (h == NULL) {
        return;
    }
    struct reader keys = reader_of(buf_slice(&h->keys)), r = reader_of(buf_slice(&h->reply));
    uint32_t n = reader_u32(&keys), count = h->nobodys ? 0 : reader_u32(&r);
    uint64_t before = 0, version = 1;
    buf_clear(&q->written);
    for (uint32_t i = 0; i < n; i++) {
        slice_t key = reader_bytes(&keys);
        if (i < count) { /* what goes in one step has one answer */
            reader_bytes(&r);
            before = reader_u64(&r);
            version = reader_u64(&r);
            reader_u8(&r);
        }
        if (before != version) {
            buf_put_bytes(&q->written, key);
            w->n++;
        }
    }
    w->writer = h->writer;
    w->all = n == 0;
    w->keys = buf_slice(&q->written);
}

/* The keys of a write, as an entry or a forwarded payload has them; false: of no write. */
static bool write_keys(slice_t op, struct buf *keys)
{
    struct reader r = reader_of(op);
    uint8_t kind = reader_u8(&r);
    if (kind != CACHE_ENTRY_BATCH && kind != CACHE_ENTRY_ATOMIC && kind != CACHE_ENTRY_CLEAR) {
        return false;
    }
    reader_u64(&r), reader_u64(&r), reader_u64(&r); /* the request's head */
    if (kind == CACHE_ENTRY_ATOMIC) {
        reader_u8(&r);
    }
    uint32_t n = 0;
    if (kind != CACHE_ENTRY_CLEAR) {
        reader_u64(&r);
        n = reader_u32(&r);
    }
    buf_put_u32(keys, n);
    for (uint32_t i = 0; i < n && r.ok; i++) {
        buf_put_bytes(keys, reader_bytes(&r));
        reader_bytes(&r);
    }
    return r.ok;
}

/* The key of a LEASE, which changes none and so keeps nobody's copy back; an owner may know more than memory, and goes first. */
static bool lease_key(slice_t op, slice_t *key)
{
    struct reader r = reader_of(op);
    uint8_t kind = reader_u8(&r);
    reader_u64(&r), reader_u64(&r), reader_u64(&r);
    *key = reader_bytes(&r);
    return r.ok && kind == CACHE_ENTRY_LEASE;
}

/* From its proposal on nobody becomes an owner of the key, who could write without a word to memory. */
static void lease_proposed(struct node *n, struct group_cache *q, slice_t key)
{
    if (n->opt.cache_back) {
        buf_put_u64(&q->leasing, hash_bytes(n->hash_key, key));
        home_unreserve(q->home, key);
    }
}

static void lease_applied(struct node *n, struct group_cache *q, slice_t op)
{
    slice_t key;
    if (lease_key(op, &key) && q->leasing.len > 0) {
        syn_assert(le64_get(q->leasing.ptr) == hash_bytes(n->hash_key, key));
        buf_consume(&q->leasing, sizeof(uint64_t));
    }
}

static void each_key(const struct buf *keys, void (*fn)(struct home *h, node_id_t writer, slice_t key, uint64_t arg), struct home *h, node_id_t writer,
                     uint64_t arg)
{
    struct reader r = reader_of(buf_slice(keys));
    uint32_t n = reader_u32(&r);
    for (uint32_t i = 0; i < n; i++) {
        fn(h, writer, reader_bytes(&r), arg);
    }
}

static void tell_proposed(struct home *h, node_id_t writer, slice_t key, uint64_t arg)
{
    (void)arg;
    home_proposed(h, writer, key);
}

/* Commands over several keys have no line of their own that could be owned by who asked. */
static node_id_t writer_of(slice_t op, node_id_t from)
{
    return op.ptr[0] == CACHE_ENTRY_BATCH ? from : 0;
}

static bool all_settled(struct home *h, const struct buf *keys)
{
    struct reader r = reader_of(buf_slice(keys));
    uint32_t n = reader_u32(&r);
    bool all = true;
    for (uint32_t i = 0; i < n; i++) {
        all &= home_settle(h, reader_bytes(&r));
    }
    return all;
}

enum forward_status cache_take(struct node *n, struct node_group *g, node_id_t from, slice_t payload)
{
    struct group_cache *q = &g->cache;
    (void)from;
    if (q->home == NULL || !home_is_active(q->home)) {
        return FORWARD_NOT_READY;
    }
    slice_t op = slice_of(payload.ptr + 1, payload.len - 1);
    struct buf keys = {0};
    slice_t key;
    home_clock(q->home, n->now_ms);
    if (lease_key(op, &key)) {
        return !n->opt.cache_back || home_settle(q->home, key) ? FORWARD_OK : FORWARD_NOT_READY;
    }
    bool ok = op.len > 0 && write_keys(op, &keys) && (op.ptr[0] != CACHE_ENTRY_ATOMIC || !n->opt.cache_back || all_settled(q->home, &keys));
    buf_fini(&keys);
    return ok ? FORWARD_OK : FORWARD_NOT_READY;
}

void cache_proposed(struct node *n, struct node_group *g, node_id_t from, slice_t payload)
{
    slice_t op = slice_of(payload.ptr + 1, payload.len - 1);
    struct buf keys = {0};
    slice_t key;
    if (lease_key(op, &key)) {
        lease_proposed(n, &g->cache, key);
    } else if (write_keys(op, &keys)) {
        each_key(&keys, tell_proposed, g->cache.home, writer_of(op, self_or(n, from)), 0);
    }
    buf_fini(&keys);
}

/* --- applying */

static node_id_t node_of_origin(const struct node *n, uint64_t origin)
{
    if (origin == n->origin) {
        return n->opt.self;
    }
    for (uint32_t i = 0; i < n->n_peers; i++) {
        if (n->peers[i].origin == origin) {
            return n->peers[i].member.id;
        }
    }
    return 0;
}

static void tell_applied(struct home *h, node_id_t writer, slice_t key, uint64_t ticket)
{
    (void)writer;
    home_applied(h, key, ticket);
}

static void write_applied(struct node *n, struct group_cache *q, uint64_t index, slice_t op, const struct cache_result *res)
{
    struct cache_held *h = calloc(1, sizeof *h);
    syn_assert(h != NULL);
    if (!write_keys(op, &h->keys)) {
        free(h);
        return;
    }
    node_id_t from = node_of_origin(n, res->req.origin & ~(uint64_t)1);
    h->ticket = index;
    h->req = res->req;
    h->writer = writer_of(op, from);
    h->repeated = res->repeated;
    buf_append(&h->reply, n->cache.out.replies.ptr + res->reply_off, res->reply_len);
    list_push_back(&q->held, &h->link);
    home_clock(q->home, n->now_ms);
    if (op.ptr[0] == CACHE_ENTRY_CLEAR) {
        home_applied_all(q->home, index);
    }
    struct buf keys = {0};
    buf_append_slice(&keys, buf_slice(&h->keys));
    each_key(&keys, tell_applied, q->home, h->writer, index);
    buf_fini(&keys);
    home_close(q->home, index);
}

static node_id_t take_proposed(struct group_cache *q, uint64_t index)
{
    struct reader r = reader_of(buf_slice(&q->proposed));
    while (reader_left(&r) > 0) {
        uint64_t at = reader_u64(&r);
        uint32_t node = reader_u32(&r);
        if (at == index) {
            buf_consume(&q->proposed, PROPOSED_BYTES);
            return node;
        }
        syn_assert(at > index);
        break;
    }
    return 0;
}

/* The transaction and the key of a FLUSH entry. */
static slice_t flush_of(slice_t op, uint64_t *txn)
{
    struct reader r = reader_of(op);
    reader_u8(&r), reader_u64(&r);
    *txn = reader_u64(&r);
    reader_u64(&r);
    slice_t key = reader_bytes(&r);
    return r.ok ? key : SLICE_NONE;
}

static void flush_applied(struct group_cache *q, uint64_t index, slice_t op, const struct cache_result *res)
{
    struct reader a = reader_of(slice_of(q->n->cache.out.replies.ptr + res->reply_off, res->reply_len));
    node_id_t node = take_proposed(q, index);
    uint64_t txn;
    slice_t key = flush_of(op, &txn);
    reader_u32(&a), reader_bytes(&a), reader_u64(&a);
    uint64_t version = reader_u64(&a);
    if (key.ptr != NULL && a.ok && node != 0) {
        home_flushed(q->home, node, key, txn, version);
    }
}

/* A flush that its owner does not wait for any more: it was sent twice. The home may wait for it. */
static void flush_dropped(struct group_cache *q, uint64_t index, slice_t op)
{
    node_id_t node = take_proposed(q, index);
    uint64_t txn;
    slice_t key = flush_of(op, &txn);
    if (key.ptr != NULL && node != 0) {
        home_flushed(q->home, node, key, txn, 0);
    }
}

/* Lines count a time to live by themselves; who tracks a key, or listens, wants to hear of its end. */
static void due_applied(struct node *n, struct group_cache *q, uint64_t index, const struct cache_result *res)
{
    if (home_is_listened(q->home) && res->n_touched > 0) {
        struct cache_held *h = calloc(1, sizeof *h);
        syn_assert(h != NULL);
        h->ticket = index;
        h->nobodys = true;
        buf_put_u32(&h->keys, res->n_touched);
        for (uint32_t i = 0; i < res->n_touched; i++) {
            buf_put_bytes(&h->keys, n->cache.out.touched[res->first_touched + i].key);
        }
        list_push_back(&q->held, &h->link);
    }
    for (uint32_t i = 0; i < res->n_touched; i++) {
        home_applied(q->home, n->cache.out.touched[res->first_touched + i].key, index);
    }
    home_close(q->home, index);
}

static void told_home(struct node *n, struct group_cache *q, uint64_t index, slice_t op, const struct cache_result *res)
{
    struct reader r = reader_of(op);
    home_clock(q->home, n->now_ms);
    switch (reader_u8(&r)) {
    case CACHE_ENTRY_BATCH:
    case CACHE_ENTRY_ATOMIC:
    case CACHE_ENTRY_CLEAR: write_applied(n, q, index, op, res); break;
    case CACHE_ENTRY_LEASE:
        lease_applied(n, q, op);
        group_send_result(n, group_of(q), res->req, slice_of(n->cache.out.replies.ptr + res->reply_off, res->reply_len));
        break;
    case CACHE_ENTRY_FLUSH: flush_applied(q, index, op, res); break;
    case CACHE_ENTRY_FENCE:
        reader_u64(&r), reader_u64(&r), reader_u64(&r);
        home_fenced(q->home, reader_bytes(&r));
        break;
    case CACHE_ENTRY_DUE: due_applied(n, q, index, res); break;
    case CACHE_ENTRY_UNFILL: /* who waits for the right hears of it by its line's end */
        reader_u64(&r), reader_u64(&r), reader_u64(&r);
        home_applied(q->home, reader_bytes(&r), index);
        home_close(q->home, index);
        break;
    case CACHE_ENTRY_HOLD: home_held(q->home, reader_u32(&r)); break;
    case CACHE_ENTRY_UNHOLD: home_unheld(q->home, reader_u32(&r)); break;
    default: break;
    }
}

static void tell_dropped(struct home *h, node_id_t writer, slice_t key, uint64_t arg)
{
    uint64_t seq;
    (void)writer, (void)arg;
    home_owned(h, 0, key, 0, &seq);
}

/* A write that nobody waits for any more: it was answered long ago. */
static void write_dropped(struct node *n, struct group_cache *q, uint64_t index, slice_t op)
{
    struct buf keys = {0};
    home_clock(q->home, n->now_ms);
    lease_applied(n, q, op);
    if (op.len > 0 && op.ptr[0] == CACHE_ENTRY_FLUSH) {
        flush_dropped(q, index, op);
    }
    if (write_keys(op, &keys)) {
        each_key(&keys, tell_dropped, q->home, 0, 0);
    }
    buf_fini(&keys);
}

/* H3 */
void cache_apply(struct node *n, struct node_group *g, uint64_t index, slice_t op)
{
    struct group_cache *q = &g->cache;
    struct cache_out *out = &n->cache.out;
    cache_out_clear(out);
    cache_sm_apply(q->sm, index, g->applied_time, op, out);
    if (n->observer.cache_applied != NULL) {
        n->observer.cache_applied(n->observer.arg, g->id, index, g->applied_time, op, out);
    }
    if (q->home != NULL && out->n_results > 0) {
        told_home(n, q, index, op, &out->results[0]);
    } else if (q->home != NULL) {
        write_dropped(n, q, index, op);
    }
    if (q->due_index != 0 && index >= q->due_index) {
        q->due_index = 0;
    }
    if (q->bound_index != 0 && index >= q->bound_index) {
        q->bound_index = 0;
    }
}

/* What refuses writes is part of memory, so that all replicas refuse the same: it becomes what this leader's setting says. */
static void say_bound(struct node *n, struct group_cache *q)
{
    uint64_t want = n->opt.cache_memory_bytes / n->opt.groups, index;
    if (want == 0 || q->bound_index != 0 || cache_sm_bound(q->sm) == want) {
        return;
    }
    struct buf e = {0};
    buf_put_u8(&e, SERVICE_CACHE);
    cache_put_head(&e, CACHE_ENTRY_BOUND, (struct request_id){0}, 0);
    buf_put_u64(&e, want);
    if (cache_propose(q, &e, &index)) {
        q->bound_index = index;
    }
    buf_fini(&e);
}

void cache_lead(struct node *n, struct node_group *g)
{
    struct group_cache *q = &g->cache;
    syn_assert(q->home == NULL);
    node_id_t holders[CACHE_HOLDERS_MAX];
    uint32_t count = cache_sm_holders(q->sm, holders);
    struct home_options o = {.group = g->id, .epoch = g->term, .lease_ms = n->opt.cache_lease_ms, .hash_key = n->hash_key, .back = n->opt.cache_back, .unholds = true,
                             .keys_max = (n->opt.cache_directory_keys != 0 ? n->opt.cache_directory_keys : DIRECTORY_KEYS) / n->opt.groups + 1};
    struct home_io io = cache_home_asks(q);
    io.release = home_release;
    io.written = home_written;
    q->home = home_new(&o, &io, n->now_ms, holders, count);
    home_timers(q->home);
    say_bound(n, q);
}

/* --- duties */

uint64_t cache_next_due_ms(const struct node_group *g)
{
    return g->cache.due_index == 0 ? cache_sm_next_due_ms(g->cache.sm) : UINT64_MAX;
}

void cache_due_duty(struct node *n, struct node_group *g)
{
    struct group_cache *q = &g->cache;
    if (!g->ready || q->due_index != 0 || n->now_ms < q->due_retry_ms) {
        return;
    }
    uint64_t now = group_log_now(n, g), index;
    if (cache_sm_next_due_ms(q->sm) > now) {
        return;
    }
    struct buf e = {0};
    buf_put_u8(&e, SERVICE_CACHE);
    cache_put_head(&e, CACHE_ENTRY_DUE, (struct request_id){0}, 0);
    buf_put_u64(&e, now);
    if (!n->space_low && cache_propose(q, &e, &index)) {
        q->due_index = index;
    } else {
        q->due_retry_ms = n->now_ms + DUE_RETRY_MS;
    }
    buf_fini(&e);
}

void cache_home_timers(struct node *n, struct node_group *g)
{
    struct group_cache *q = &g->cache;
    home_clock(q->home, n->now_ms);
    home_timers(q->home);
    for (node_id_t node; (node = home_to_forget(q->home)) != 0;) {
        cache_propose_node(q, CACHE_ENTRY_UNHOLD, node);
    }
}

/* Nodes that have left the cluster are no longer waited for, once their leases are over; a bound that the log did not take is proposed again. */
void cache_housekeeping(struct node *n, struct node_group *g)
{
    if (g->cache.home != NULL) {
        say_bound(n, &g->cache);
    }
    node_id_t holders[CACHE_HOLDERS_MAX];
    uint32_t count = g->cache.home != NULL ? cache_sm_holders(g->cache.sm, holders) : 0;
    for (uint32_t i = 0; i < count; i++) {
        if (holders[i] != n->opt.self && node_peer_of(n, holders[i]) == NULL) {
            home_left(g->cache.home, holders[i]);
        }
    }
}

uint64_t cache_digest(const struct node_group *g)
{
    return cache_sm_digest(g->cache.sm);
}

void cache_check(const struct node *n, const struct node_group *g)
{
    if ((n->turn_no + g->id) % CHECK_TURNS == 0) {
        cache_sm_check(g->cache.sm);
    }
    if ((n->turn_no + n->opt.groups) % CHECK_TURNS == 0 && g->id == 0) {
        cacher_check(n->cache.cacher);
    }
}
