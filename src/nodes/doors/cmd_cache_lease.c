/* CACHE.LEASE, and SET with FILL: one caller of all nodes may fill a key that is missing, the others wait for it (docs/cache.md, "Filling a miss").
 *
 * Who asks at this node for one key stands together (struct lease_wait). A round reads the key as GET does; when it is absent one LEASE entry asks memory for the
 * right, for all who stood there when the round began. Those who may wait are parked while this node's line says that the key is absent: whatever writes to
 * the key, or gives the right up, invalidates the line first, and that begins the next round, as does the end of the right's time.
 *
 * L1: a right that was given goes to one caller who is still there, else it is given up. L2: who came during a round is served by the next. L3: nothing is asked
 * of the cacher while it is calling: rounds go on in lease_timers. */
#include "nodes/doors/cache_door.h"
#include "nodes/doors/cmd.h"

#include "utils/hash.h"
#include "utils/limits.h"

#include <stdlib.h>

enum { FILL_MS = 5000, LOOK_MS = 1000 /* whether the line is still here, which goes without a word when there is no room */ };

enum lease_state { LEASE_DUE, LEASE_READING, LEASE_ABSENT, LEASE_ASKING, LEASE_PARKED };

struct lease_caller {
    struct list link;
    conn_id_t conn;
    uint64_t slot;
    uint64_t until_ms;            /* 0: does not wait */
    uint64_t stale_ms, fill_ms;
    bool fresh;                   /* came after the round began (L2) */
    bool tracks;                  /* a hit is a read: CLIENT TRACKING tells when it is old */
};

struct lease_wait {
    struct map_node by_key;
    struct list all;              /* cache_doors.leases */
    struct list callers;          /* oldest first */
    enum lease_state state;
    bool gone;                    /* the line went since the round began */
    uint32_t group, key_len;
    uint64_t held_ms, look_ms;    /* PARKED: until when somebody has the right; when the line is looked at */
    uint8_t key[];
};

static slice_t key_of(const struct lease_wait *w)
{
    return slice_of(w->key, w->key_len);
}

static bool wait_is(const struct map_node *n, const void *key)
{
    return slice_eq(key_of(CONTAINER_OF(n, struct lease_wait, by_key)), *(const slice_t *)key);
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

static void caller_free(struct lease_caller *l)
{
    list_remove(&l->link);
    free(l);
}

static void wait_free(struct cache_doors *d, struct lease_wait *w)
{
    list_each_safe(it, &w->callers) {
        caller_free(CONTAINER_OF(it, struct lease_caller, link));
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

/* --- answers */

static void caller_answer(struct node *n, struct lease_caller *l, slice_t reply)
{
    struct conn *c = conn_find(n, l->conn);
    if (c != NULL) {
        conn_reply(n, c, l->slot, reply);
    }
    caller_free(l);
}

static void put_result(struct buf *b, const char *result, uint32_t fields)
{
    resp_map(b, 1 + fields);
    resp_bulk_str(b, "result");
    resp_bulk_str(b, result);
}

static void put_u64(struct buf *b, const char *name, uint64_t v)
{
    resp_bulk_str(b, name);
    resp_u64(b, v);
}

static void put_hit(struct node *n, struct buf *b, uint32_t group, slice_t key, slice_t value_resp)
{
    uint64_t version;
    cacher_state(n->cache.cacher, group, key, &version);
    put_result(b, "hit", 2);
    resp_bulk_str(b, "value");
    buf_append_slice(b, value_resp);
    put_u64(b, "version", version);
}

static void answer_round(struct node *n, struct lease_wait *w, slice_t reply)
{
    list_each_safe(it, &w->callers) {
        struct lease_caller *l = CONTAINER_OF(it, struct lease_caller, link);
        if (!l->fresh) {
            caller_answer(n, l, reply);
        }
    }
}

static void answer_hit(struct node *n, struct lease_wait *w, slice_t reply)
{
    list_each_safe(it, &w->callers) {
        struct lease_caller *l = CONTAINER_OF(it, struct lease_caller, link);
        struct conn *reader = l->tracks ? conn_find(n, l->conn) : NULL;
        if (l->fresh) {
            continue;
        }
        caller_answer(n, l, reply);
        if (reader != NULL && reader->tracking) {
            track_read(n, reader, key_of(w));
        }
    }
}

static void answer_wait(struct node *n, struct lease_caller *l, uint64_t left_ms)
{
    struct buf b = {0};
    put_result(&b, "wait", 1);
    put_u64(&b, "wait_ms", left_ms);
    caller_answer(n, l, buf_slice(&b));
    buf_fini(&b);
}

static void answer_fill(struct node *n, struct lease_caller *l, uint64_t token, uint64_t fill_ms)
{
    struct buf b = {0};
    put_result(&b, "fill", 2);
    put_u64(&b, "token", token);
    put_u64(&b, "fill_ms", fill_ms);
    caller_answer(n, l, buf_slice(&b));
    buf_fini(&b);
}

/* What memory said of a right that somebody has. */
struct held { uint64_t left_ms, age_ms, version; bool has_stale; slice_t value; };

static void answer_stale(struct node *n, struct lease_caller *l, const struct held *h)
{
    struct buf b = {0};
    put_result(&b, "stale", 3);
    resp_bulk_str(&b, "value");
    resp_bulk(&b, h->value);
    put_u64(&b, "version", h->version);
    put_u64(&b, "age_ms", h->age_ms);
    caller_answer(n, l, buf_slice(&b));
    buf_fini(&b);
}

/* --- a request of one key, which is an entry of its own */

static struct request *entry_begin(struct node *n, enum cache_entry_kind kind, uint32_t group, request_done_fn done)
{
    struct request *r = request_new(n, group, REQUEST_WRITE, false, done);
    r->metric = METRIC_REQUEST_WRITE;
    buf_put_u8(&r->payload, SERVICE_CACHE);
    cache_put_head(&r->payload, kind, request_id_of(n, r), request_low(n, group, false));
    return r;
}

static void put_fill(struct buf *out, enum cache_multi multi, uint64_t wall_ms, slice_t key, uint64_t token, slice_t op)
{
    struct buf o = {0};
    buf_put_u64(&o, token);
    buf_append_slice(&o, op);
    buf_put_u8(out, (uint8_t)multi);
    buf_put_u64(out, wall_ms);
    buf_put_u32(out, 1);
    cache_put_op(out, key, buf_slice(&o));
    buf_fini(&o);
}

static void done_nobody(struct node *n, struct request *r, slice_t reply)
{
    (void)n, (void)r, (void)reply;
}

/* L1: whom it was for is gone. Should this be lost, the right ends by its time. */
static void give_up(struct node *n, const struct lease_wait *w, uint64_t token)
{
    struct request *r = entry_begin(n, CACHE_ENTRY_ATOMIC, w->group, done_nobody);
    put_fill(&r->payload, CACHE_MULTI_ABANDON, n->wall_ms, key_of(w), token, SLICE_NONE);
    request_submit(n, r);
}

/* --- rounds */

static bool caller_is_there(struct node *n, const struct lease_caller *l)
{
    return conn_find(n, l->conn) != NULL;
}

static void round_begin(struct node *n, struct lease_wait *w)
{
    list_each_safe(it, &w->callers) {
        struct lease_caller *l = CONTAINER_OF(it, struct lease_caller, link);
        if (!caller_is_there(n, l)) {
            caller_free(l);
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
    cache_read(n, key_of(w), w);
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
        answer_round(n, w, reply);
    } else {
        struct buf b = {0};
        put_hit(n, &b, w->group, key_of(w), reply);
        answer_hit(n, w, buf_slice(&b));
        buf_fini(&b);
    }
    set_due(n, w, LEASE_DUE);
}

static void on_held(struct node *n, struct lease_wait *w, const struct held *h)
{
    bool again = false;
    list_each_safe(it, &w->callers) {
        struct lease_caller *l = CONTAINER_OF(it, struct lease_caller, link);
        if (l->fresh) {
            again = true;
        } else if (h->has_stale && h->age_ms <= l->stale_ms) {
            answer_stale(n, l, h);
        } else if (l->until_ms == 0) {
            answer_wait(n, l, h->left_ms);
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
            caller_free(l);
        } else if (!given) {
            answer_fill(n, l, token, left_ms);
            given = true;
        } else if (l->stale_ms > 0) {
            again = true;
        } else if (l->until_ms == 0 && !l->fresh) {
            answer_wait(n, l, left_ms);
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
    struct held h = {.left_ms = left_ms};
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
        answer_round(n, w, kind == '-' ? said : slice_str("-UNCERTAIN the leader's answer was not understood (mixed versions?)\r\n"));
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
    cache_put_lease(&r->payload, key_of(w), fill_ms, stale_ms);
    w->state = LEASE_ASKING;
    request_submit(n, r);
}

static bool line_says_absent(struct node *n, const struct lease_wait *w)
{
    struct cache_item item;
    return cacher_hit(n->cache.cacher, w->group, key_of(w), &item) && !item.exists;
}

static void parked_look(struct node *n, struct lease_wait *w)
{
    bool looks = n->now_ms >= w->look_ms;
    w->look_ms = looks ? n->now_ms + LOOK_MS : w->look_ms;
    uint64_t next_ms = w->held_ms < w->look_ms ? w->held_ms : w->look_ms;
    list_each_safe(it, &w->callers) {
        struct lease_caller *l = CONTAINER_OF(it, struct lease_caller, link);
        if (n->now_ms >= l->until_ms) {
            answer_wait(n, l, w->held_ms > n->now_ms ? w->held_ms - n->now_ms : 0);
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

/* --- commands */

struct lease_words { uint64_t wait_ms, stale_ms, fill_ms, token; bool abandon; };

static bool lease_words(struct call *c, struct lease_words *o)
{
    const struct { const char *word; uint64_t *to, min, max; } words[] = {
        {"WAIT", &o->wait_ms, 0, LIMIT_WAIT_MS_MAX}, {"STALE", &o->stale_ms, 0, LIMIT_TTL_MS}, {"FILL", &o->fill_ms, 1, CACHE_FILL_MS_MAX}, {"ABANDON", &o->token, 0, UINT64_MAX}};
    for (uint32_t i = 2; i < c->argc; i += 2) {
        uint32_t k = 0;
        while (k < 4 && !slice_ieq(c->argv[i], words[k].word)) {
            k++;
        }
        if (k == 4 || i + 1 == c->argc || (k == 3 && c->argc != 4)) {
            call_error(c, "ERR", "syntax error: CACHE.LEASE key [WAIT ms] [STALE ms] [FILL ms], or CACHE.LEASE key ABANDON token");
            return false;
        }
        if (!arg_u64(c, c->argv[i + 1], words[k].word, words[k].min, words[k].max, words[k].to)) {
            return false;
        }
        o->abandon |= k == 3;
    }
    return true;
}

static void done_fill(struct node *n, struct request *r, slice_t reply)
{
    struct reader in = reader_of(reply);
    if (reply.len > 0 && reply.ptr[0] == '-') {
        door_done(n, r, reply);
        return;
    }
    reader_u64(&in), reader_u32(&in);
    slice_t resp = reader_bytes(&in);
    door_done(n, r, in.ok ? resp : slice_str("-UNCERTAIN the leader's answer was not understood (mixed versions?)\r\n"));
}

static void submit_fill(struct call *c, enum cache_multi multi, uint64_t token, slice_t op)
{
    if (!call_alone(c)) {
        return;
    }
    struct request *r = call_request(c, cache_group(c->n, c->argv[1]), REQUEST_WRITE, false);
    r->done = done_fill;
    buf_put_u8(&r->payload, SERVICE_CACHE);
    cache_put_head(&r->payload, CACHE_ENTRY_ATOMIC, request_id_of(c->n, r), request_low(c->n, r->group, false));
    put_fill(&r->payload, multi, c->n->wall_ms, c->argv[1], token, op);
    call_submit(c, r);
}

static bool answered_here(struct call *c, slice_t key)
{
    struct cache_item item;
    uint32_t group = cache_group(c->n, key);
    if (!cacher_hit(c->n->cache.cacher, group, key, &item) || !item.exists) {
        return false;
    }
    struct buf value = {0};
    resp_bulk(&value, item.value);
    put_hit(c->n, c->reply, group, key, buf_slice(&value));
    buf_fini(&value);
    if (track_wants(c->conn)) {
        track_read(c->n, c->conn, key);
    }
    return true;
}

void handle_cache_lease(struct call *c)
{
    struct lease_words o = {.fill_ms = FILL_MS};
    if (!cache_key_ok(c, c->argv[1]) || !lease_words(c, &o)) {
        return;
    }
    if (o.abandon) {
        submit_fill(c, CACHE_MULTI_ABANDON, o.token, SLICE_NONE);
        return;
    }
    if (answered_here(c, c->argv[1])) {
        return;
    }
    struct lease_wait *w = wait_make(c->n, c->argv[1]);
    bool first = list_empty(&w->callers) && w->state == LEASE_DUE;
    bool parks = w->state == LEASE_PARKED && o.wait_ms > 0 && o.stale_ms == 0 && line_says_absent(c->n, w);
    struct lease_caller *l = calloc(1, sizeof *l);
    syn_assert(l != NULL);
    *l = (struct lease_caller){.conn = c->conn->id, .slot = c->slot, .until_ms = o.wait_ms > 0 ? c->n->now_ms + o.wait_ms : 0, .stale_ms = o.stale_ms,
                               .fill_ms = o.fill_ms, .fresh = !parks, .tracks = track_wants(c->conn)};
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

/* Where FILL stands among SET's options; 0: nowhere. Words behind others may be anything. */
static uint32_t find_fill(const slice_t *argv, uint32_t argc)
{
    static const struct { const char *word; uint32_t words; } skipped[] = {{"EX", 1}, {"PX", 1}, {"EXAT", 1}, {"PXAT", 1}, {"IFEQ", 1}, {"IFNE", 1}, {"FENCE", 2}};
    for (uint32_t i = 3; i < argc; i++) {
        if (slice_ieq(argv[i], "FILL")) {
            return i;
        }
        for (size_t k = 0; k < sizeof skipped / sizeof skipped[0]; k++) {
            if (slice_ieq(argv[i], skipped[k].word)) {
                i += skipped[k].words;
                break;
            }
        }
    }
    return 0;
}

/* SET; with FILL it is an entry of its own, which memory judges: a line knows of no rights. */
void handle_cache_set(struct call *c)
{
    uint32_t at = find_fill(c->argv, c->argc);
    uint64_t token;
    if (at == 0) {
        handle_cache_op(c);
        return;
    }
    if (at + 1 == c->argc) {
        call_error(c, "ERR", "syntax error: FILL token, the token that CACHE.LEASE gave");
        return;
    }
    if (!cache_key_ok(c, c->argv[1]) || !arg_u64(c, c->argv[at + 1], "the token of FILL", 0, UINT64_MAX, &token)) {
        return;
    }
    slice_t *argv = malloc(c->argc * sizeof *argv);
    struct buf op = {0};
    enum cache_access access;
    syn_assert(argv != NULL);
    memcpy(argv, c->argv, at * sizeof *argv);
    memcpy(argv + at, c->argv + at + 2, (c->argc - at - 2) * sizeof *argv);
    if (cache_op_encode(argv, c->argc - 2, &op, &access, c->reply)) {
        submit_fill(c, CACHE_MULTI_FILL, token, buf_slice(&op));
    }
    buf_fini(&op);
    free(argv);
}
