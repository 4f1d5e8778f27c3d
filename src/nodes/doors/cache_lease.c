/* Those who wait at this node for a right to fill: one caller of all nodes may fill a key that is missing (docs/cache.md, "Filling a miss").
 *
 * Who asks at this node for one key stands together (struct lease_wait). A round reads the key as GET does; when it is absent one LEASE entry asks memory for the
 * right, for all who stood there when the round began. Those who may wait are parked while this node's line says that the key is absent: whatever writes to
 * the key, or gives the right up, invalidates the line first, and that begins the next round, as does the end of the right's time.
 *
 * Not here: words and options (cmd_cache_lease.c), answers (cache_lease_reply.c), who gets a right (cache_sm_fill.c).
 * L1: a right that was given goes to one caller who is still there, else it is given up. L2: who came during a round is served by the next. L3: nothing is asked
 * of the cacher while it is calling: rounds go on in lease_timers. */
#include "nodes/doors/cache_lease.h"

#include "utils/hash.h"

#include <stdlib.h>

enum { LOOK_MS = 1000 }; /* whether the line is still here, which goes without a word when there is no room */

static bool wait_is(const struct map_node *n, const void *key)
{
    return slice_eq(lease_key(CONTAINER_OF(n, struct lease_wait, by_key)), *(const slice_t *)key);
}

static struct lease_wait *wait_find(struct node *n, slice_t key)
{
    struct cache_doors *d = n->doors->cache;
    struct map_node *m = d->leased.count > 0 ? map_find(&d->leased, hash_bytes(n->hash_key, key), &key, wait_is) : NULL;
    return m != NULL ? CONTAINER_OF(m, struct lease_wait, by_key) : NULL;
}

static struct lease_wait *wait_make(struct node *n, slice_t key)
{
    struct cache_doors *d = n->doors->cache;
    struct lease_wait *w = wait_find(n, key);
    if (w == NULL) {
        w = calloc(1, sizeof *w + key.len);
        syn_assert(w != NULL);
        w->group = cache_group(n, key);
        w->key_len = (uint32_t)key.len;
        memcpy(w->key, key.ptr, key.len);
        list_init(&w->callers);
        list_push_back(&d->leases, &w->all);
        map_insert(&d->leased, &w->by_key, hash_bytes(n->hash_key, key));
    }
    return w;
}

void lease_caller_free(struct lease_caller *l)
{
    list_remove(&l->link);
    free(l);
}

static void wait_free(struct cache_doors *d, struct lease_wait *w)
{
    list_each_safe(it, &w->callers) {
        lease_caller_free(CONTAINER_OF(it, struct lease_caller, link));
    }
    map_remove(&d->leased, &w->by_key);
    list_remove(&w->all);
    free(w);
}

void lease_init(struct cache_doors *d)
{
    map_init(&d->leased);
    list_init(&d->leases);
    d->lease_next_ms = UINT64_MAX;
}

void lease_fini(struct cache_doors *d)
{
    list_each_safe(it, &d->leases) {
        wait_free(d, CONTAINER_OF(it, struct lease_wait, all));
    }
    map_fini(&d->leased);
}

static void wake_at(struct node *n, uint64_t at_ms)
{
    struct cache_doors *d = n->doors->cache;
    d->lease_next_ms = at_ms < d->lease_next_ms ? at_ms : d->lease_next_ms;
    doors_wake(n, at_ms);
}

static void set_due(struct node *n, struct lease_wait *w, enum lease_state s)
{
    w->state = s;
    wake_at(n, n->now_ms); /* L3 */
}

static struct request *entry_begin(struct node *n, enum cache_entry_kind kind, uint32_t group, request_done_fn done)
{
    struct request *r = request_new(n, group, REQUEST_WRITE, false, done);
    r->metric = METRIC_REQUEST_WRITE;
    buf_put_u8(&r->payload, SERVICE_CACHE);
    cache_put_head(&r->payload, kind, request_id_of(n, r), request_low(n, group, false));
    return r;
}

static void done_nobody(struct node *n, struct request *r, slice_t reply)
{
    (void)n, (void)r, (void)reply;
}

/* L1: whom it was for is gone. Should this be lost, the right ends by its time. */
static void give_up(struct node *n, const struct lease_wait *w, uint64_t token)
{
    struct request *r = entry_begin(n, CACHE_ENTRY_ATOMIC, w->group, done_nobody);
    lease_put_fill(&r->payload, CACHE_MULTI_ABANDON, n->wall_ms, lease_key(w), token, SLICE_NONE);
    request_submit(n, r);
}

static bool caller_is_there(struct node *n, const struct lease_caller *l)
{
    return conn_find(n, l->conn) != NULL;
}

static void round_begin(struct node *n, struct lease_wait *w)
{
    list_each_safe(it, &w->callers) {
        struct lease_caller *l = CONTAINER_OF(it, struct lease_caller, link);
        if (!caller_is_there(n, l)) {
            lease_caller_free(l);
        } else {
            l->fresh = false;
        }
    }
    if (list_empty(&w->callers)) {
        wait_free(n->doors->cache, w);
        return;
    }
    w->gone = false;
    w->state = LEASE_READING;
    cache_read(n, lease_key(w), w);
}

/* After what was asked is answered: whoever is left waits for the end of the right, or for another round. */
static void round_end(struct node *n, struct lease_wait *w, uint64_t left_ms, bool again)
{
    list_each(it, &w->callers) {
        again |= CONTAINER_OF(it, struct lease_caller, link)->fresh;
    }
    if (again || w->gone || list_empty(&w->callers)) {
        set_due(n, w, LEASE_DUE);
        return;
    }
    w->state = LEASE_PARKED;
    w->held_ms = n->now_ms + left_ms;
    w->look_ms = n->now_ms + LOOK_MS;
    wake_at(n, n->now_ms);
}

void lease_read(struct node *n, struct lease_wait *w, slice_t reply)
{
    syn_assert(w->state == LEASE_READING);
    if (reply.len > 0 && reply.ptr[0] == '_') {
        set_due(n, w, LEASE_ABSENT);
        return;
    }
    if (reply.len > 0 && reply.ptr[0] == '-') {
        lease_answer_round(n, w, reply);
    } else {
        struct buf b = {0};
        lease_put_hit(n, &b, w->group, lease_key(w), reply);
        lease_answer_hit(n, w, buf_slice(&b));
        buf_fini(&b);
    }
    set_due(n, w, LEASE_DUE);
}

static void on_held(struct node *n, struct lease_wait *w, const struct lease_held *h)
{
    bool again = false;
    list_each_safe(it, &w->callers) {
        struct lease_caller *l = CONTAINER_OF(it, struct lease_caller, link);
        if (l->fresh) {
            again = true;
        } else if (h->has_stale && h->age_ms <= l->stale_ms) {
            lease_answer_stale(n, l, h);
        } else if (l->until_ms == 0) {
            lease_answer_wait(n, l, h->left_ms);
        }
    }
    round_end(n, w, h->left_ms, again);
}

/* L1. Those who would take a stale copy are asked for anew: an answer that gives the right has none. */
static void on_given(struct node *n, struct lease_wait *w, uint64_t token, uint64_t left_ms)
{
    bool given = false, again = false;
    list_each_safe(it, &w->callers) {
        struct lease_caller *l = CONTAINER_OF(it, struct lease_caller, link);
        if (!caller_is_there(n, l)) {
            lease_caller_free(l);
        } else if (!given) {
            lease_answer_fill(n, l, token, left_ms);
            given = true;
        } else if (l->stale_ms > 0) {
            again = true;
        } else if (l->until_ms == 0 && !l->fresh) {
            lease_answer_wait(n, l, left_ms);
        }
    }
    if (!given) {
        give_up(n, w, token);
    }
    round_end(n, w, left_ms, again);
}

static void done_lease(struct node *n, struct request *r, slice_t reply)
{
    struct lease_wait *w = (struct lease_wait *)(uintptr_t)r->arg;
    struct reader in = reader_of(reply);
    syn_assert(w->state == LEASE_ASKING);
    metrics_request(&n->metrics, r->metric, reply, n->now_ms - r->began_ms);
    slice_t said = reply;
    if (reply.len == 0 || reply.ptr[0] != '-') {
        reader_u32(&in);
        said = reader_bytes(&in);
    }
    struct reader a = reader_of(said);
    uint8_t kind = reader_u8(&a);
    uint64_t token = reader_u64(&a), left_ms = reader_u64(&a);
    struct lease_held h = {.left_ms = left_ms};
    switch (kind) {
    case CACHE_LEASE_HIT: set_due(n, w, LEASE_DUE); return;
    case CACHE_LEASE_GIVEN: on_given(n, w, token, left_ms); return;
    case CACHE_LEASE_HELD:
        h.has_stale = reader_u8(&a) == 1;
        h.age_ms = reader_u64(&a);
        h.version = reader_u64(&a);
        h.value = reader_bytes(&a);
        on_held(n, w, &h);
        return;
    default:
        lease_answer_round(n, w, kind == '-' ? said : slice_str(ANSWER_NOT_UNDERSTOOD));
        set_due(n, w, LEASE_DUE);
    }
}

/* One of the round asks for the right; a last value is wanted as old as any of them takes it. */
static void round_ask(struct node *n, struct lease_wait *w)
{
    uint64_t fill_ms = 0, stale_ms = 0;
    list_each(it, &w->callers) {
        const struct lease_caller *l = CONTAINER_OF(it, struct lease_caller, link);
        if (!l->fresh && caller_is_there(n, l)) {
            fill_ms = fill_ms == 0 ? l->fill_ms : fill_ms;
            stale_ms = l->stale_ms > stale_ms ? l->stale_ms : stale_ms;
        }
    }
    if (fill_ms == 0) {
        round_begin(n, w);
        return;
    }
    struct request *r = entry_begin(n, CACHE_ENTRY_LEASE, w->group, done_lease);
    r->arg = (uint64_t)(uintptr_t)w;
    cache_put_lease(&r->payload, lease_key(w), fill_ms, stale_ms);
    w->state = LEASE_ASKING;
    request_submit(n, r);
}

static bool line_says_absent(struct node *n, const struct lease_wait *w)
{
    struct cache_item item;
    return cacher_hit(n->cache.cacher, cacher_place(n->cache.cacher, w->group, lease_key(w)), lease_key(w), &item) && !item.exists;
}

static void parked_look(struct node *n, struct lease_wait *w)
{
    bool looks = n->now_ms >= w->look_ms;
    w->look_ms = looks ? n->now_ms + LOOK_MS : w->look_ms;
    uint64_t next_ms = w->held_ms < w->look_ms ? w->held_ms : w->look_ms;
    list_each_safe(it, &w->callers) {
        struct lease_caller *l = CONTAINER_OF(it, struct lease_caller, link);
        if (n->now_ms >= l->until_ms) {
            lease_answer_wait(n, l, w->held_ms > n->now_ms ? w->held_ms - n->now_ms : 0);
        } else {
            next_ms = l->until_ms < next_ms ? l->until_ms : next_ms;
        }
    }
    if (list_empty(&w->callers)) {
        wait_free(n->doors->cache, w);
    } else if (n->now_ms >= w->held_ms || (looks && !line_says_absent(n, w))) {
        round_begin(n, w);
    } else {
        wake_at(n, next_ms);
    }
}

void lease_timers(struct node *n)
{
    struct cache_doors *d = n->doors->cache;
    if (n->now_ms < d->lease_next_ms) {
        if (d->lease_next_ms != UINT64_MAX) {
            doors_wake(n, d->lease_next_ms);
        }
        return;
    }
    d->lease_next_ms = UINT64_MAX;
    list_each_safe(it, &d->leases) {
        struct lease_wait *w = CONTAINER_OF(it, struct lease_wait, all);
        switch (w->state) {
        case LEASE_DUE: round_begin(n, w); break;
        case LEASE_ABSENT: round_ask(n, w); break;
        case LEASE_PARKED: parked_look(n, w); break;
        case LEASE_READING:
        case LEASE_ASKING: break;
        }
    }
}

static void line_gone(struct node *n, struct lease_wait *w)
{
    w->gone = true;
    if (w->state == LEASE_PARKED) {
        set_due(n, w, LEASE_DUE);
    }
}

void lease_gone(struct node *n, slice_t key)
{
    struct lease_wait *w = wait_find(n, key);
    if (w != NULL) {
        line_gone(n, w);
    }
}

void lease_lost(struct node *n, uint32_t group)
{
    list_each(it, &n->doors->cache->leases) {
        struct lease_wait *w = CONTAINER_OF(it, struct lease_wait, all);
        if (w->group == group) {
            line_gone(n, w);
        }
    }
}

uint64_t lease_waiters(const struct node *n)
{
    uint64_t count = 0;
    list_each(it, &n->doors->cache->leases) {
        struct lease_wait *w = CONTAINER_OF(it, struct lease_wait, all);
        list_each(c, &w->callers) {
            count += w->state == LEASE_PARKED;
        }
    }
    return count;
}

void lease_join(struct call *c, const struct lease_words *o)
{
    struct lease_wait *w = wait_make(c->n, c->argv[1]);
    bool first = list_empty(&w->callers) && w->state == LEASE_DUE;
    bool parks = w->state == LEASE_PARKED && o->wait_ms > 0 && o->stale_ms == 0 && line_says_absent(c->n, w);
    struct lease_caller *l = calloc(1, sizeof *l);
    syn_assert(l != NULL);
    *l = (struct lease_caller){.conn = c->conn->id, .slot = c->slot, .until_ms = o->wait_ms > 0 ? c->n->now_ms + o->wait_ms : 0, .stale_ms = o->stale_ms,
                               .fill_ms = o->fill_ms, .fresh = !parks, .tracks = track_wants(c->conn)};
    list_push_back(&w->callers, &l->link);
    c->later = true;
    if (first) {
        round_begin(c->n, w);
    } else if (parks) {
        wake_at(c->n, l->until_ms);
    } else if (w->state == LEASE_PARKED) {
        set_due(c->n, w, LEASE_DUE);
    }
}
