/* String, key and expiry commands: of one key on its line, of several keys joined from such, or as one entry of their group. */
#include "nodes/doors/cache_door.h"
#include "nodes/doors/cmd.h"

#include "utils/limits.h"

enum { KEYS_MAX = 65536 };

/* Every command of one key that is argv[1]. GET of a line that is here needs nothing else. */
void handle_cache_op(struct call *c)
{
    if (!cache_key_ok(c, c->argv[1]) || cache_put_off(c)) {
        return;
    }
    cache_submit(c, c->argv, c->argc, NULL, 0);
}

void handle_cache_get(struct call *c)
{
    struct cache_item item;
    if (!cache_key_ok(c, c->argv[1])) {
        return;
    }
    cache_stay_awake(c->n);
    if (cacher_hit(c->n->cache.cacher, call_place(c), c->argv[1], &item)) {
        if (item.exists) {
            resp_bulk(c->reply, item.value);
        } else {
            resp_null(c->reply);
        }
        if (track_wants(c->conn)) {
            track_read(c->n, c->conn, c->argv[1]);
        }
        return;
    }
    cache_submit(c, c->argv, c->argc, NULL, 0);
}

static bool keys_ok(struct call *c, uint32_t from, uint32_t step)
{
    if (c->argc > KEYS_MAX) {
        call_error(c, "ERR", "too many keys: the most is %d", KEYS_MAX);
        return false;
    }
    for (uint32_t i = from; i < c->argc; i += step) {
        if (!cache_key_ok(c, c->argv[i])) {
            return false;
        }
    }
    return true;
}

/* The same command for each key by itself: what each does is one step, all of them together are not. */
static void each_key(struct call *c, enum cache_join_kind kind, const char *name)
{
    if (!keys_ok(c, 1, 1)) {
        return;
    }
    struct cache_join *j = cache_join_new(c, kind, c->argc - 1);
    for (uint32_t i = 1; i < c->argc; i++) {
        slice_t argv[] = {slice_str(name), c->argv[i]};
        cache_submit(c, argv, 2, j, i - 1);
    }
}

void handle_cache_del(struct call *c)
{
    each_key(c, JOIN_SUM, "DEL");
}

void handle_cache_exists(struct call *c)
{
    each_key(c, JOIN_SUM, "EXISTS");
}

void handle_cache_mget(struct call *c)
{
    each_key(c, JOIN_ARRAY, "GET");
}

void handle_cache_mset(struct call *c)
{
    if (c->argc % 2 == 0) {
        call_error(c, "ERR", "wrong number of arguments for 'mset' command");
        return;
    }
    if (!keys_ok(c, 1, 2) || cache_put_off(c)) {
        return;
    }
    struct cache_join *j = cache_join_new(c, JOIN_OK, c->argc / 2);
    for (uint32_t i = 1; i < c->argc; i += 2) {
        slice_t argv[] = {slice_str("SET"), c->argv[i], c->argv[i + 1]};
        cache_submit(c, argv, 3, j, i / 2);
    }
}

/* --- several keys in one step: one entry of the group that they share */

/* The reply of an entry, which comes as that of a batch of one (node_cache.c). */
static void done_atomic(struct node *n, struct request *r, slice_t reply)
{
    if (reply.len > 0 && reply.ptr[0] == '-') {
        door_done(n, r, reply);
        return;
    }
    struct reader in = reader_of(reply);
    reader_u64(&in), reader_u32(&in);
    slice_t resp = reader_bytes(&in);
    door_done(n, r, in.ok ? resp : slice_str(ANSWER_NOT_UNDERSTOOD));
}

static struct request *atomic_begin(struct call *c, enum cache_multi multi, uint32_t n)
{
    struct request *r = call_request(c, cache_group(c->n, c->argv[1]), REQUEST_WRITE, false);
    r->done = done_atomic;
    buf_put_u8(&r->payload, SERVICE_CACHE);
    cache_put_head(&r->payload, CACHE_ENTRY_ATOMIC, request_id_of(c->n, r), request_low(c->n, r->group, false));
    buf_put_u8(&r->payload, (uint8_t)multi);
    buf_put_u64(&r->payload, c->n->wall_ms);
    buf_put_u32(&r->payload, n);
    return r;
}

static bool one_group(struct call *c, uint32_t last, uint32_t step)
{
    for (uint32_t i = 1 + step; i <= last; i += step) {
        if (cache_group(c->n, c->argv[i]) != cache_group(c->n, c->argv[1])) {
            call_error(c, "CROSSGROUP", "the keys live in different groups: give them one tag, as in {user}:1 {user}:2");
            return false;
        }
    }
    return true;
}

static void two_keys(struct call *c, enum cache_multi multi)
{
    if (!cache_key_ok(c, c->argv[1]) || !cache_key_ok(c, c->argv[2]) || !one_group(c, 2, 1)) {
        return;
    }
    struct request *r = atomic_begin(c, multi, 2);
    cache_put_op(&r->payload, c->argv[1], SLICE_NONE);
    cache_put_op(&r->payload, c->argv[2], SLICE_NONE);
    call_submit(c, r);
}

void handle_cache_rename(struct call *c)
{
    two_keys(c, CACHE_MULTI_RENAME);
}

void handle_cache_renamenx(struct call *c)
{
    two_keys(c, CACHE_MULTI_RENAMENX);
}

static bool digits(slice_t s)
{
    size_t from = s.len > 1 && s.ptr[0] == '-';
    bool all = s.len > from && s.len < 20;
    for (size_t i = from; i < s.len; i++) {
        all &= s.ptr[i] >= '0' && s.ptr[i] <= '9';
    }
    return all;
}

void handle_cache_copy(struct call *c)
{
    bool replace = false;
    for (uint32_t i = 3; i < c->argc; i++) {
        if (slice_ieq(c->argv[i], "REPLACE")) {
            replace = true;
        } else if (slice_ieq(c->argv[i], "DB") && i + 1 < c->argc && slice_eq(c->argv[i + 1], slice_str("0"))) {
            i++;
        } else {
            bool db = slice_ieq(c->argv[i], "DB") && i + 1 < c->argc;
            call_error(c, "ERR", !db ? "syntax error" : digits(c->argv[i + 1]) ? "DB index is out of range" : "value is not an integer or out of range");
            return;
        }
    }
    two_keys(c, replace ? CACHE_MULTI_COPY_REPLACE : CACHE_MULTI_COPY);
}

void handle_cache_msetnx(struct call *c)
{
    if (c->argc % 2 == 0) {
        call_error(c, "ERR", "wrong number of arguments for 'msetnx' command");
        return;
    }
    if (!keys_ok(c, 1, 2) || !one_group(c, c->argc - 2, 2)) {
        return;
    }
    struct buf ops = {0}, op = {0};
    enum cache_access access;
    for (uint32_t i = 1; i < c->argc; i += 2) {
        slice_t argv[] = {slice_str("SET"), c->argv[i], c->argv[i + 1]};
        buf_clear(&op);
        if (!cache_op_encode(argv, 3, &op, &access, c->reply)) {
            buf_fini(&ops);
            buf_fini(&op);
            return;
        }
        cache_put_op(&ops, c->argv[i], buf_slice(&op));
    }
    struct request *r = atomic_begin(c, CACHE_MULTI_MSETNX, c->argc / 2);
    buf_append_slice(&r->payload, buf_slice(&ops));
    buf_fini(&ops);
    buf_fini(&op);
    call_submit(c, r);
}

/* --- everything */

static void done_flush(struct node *n, struct request *r, slice_t reply)
{
    static const char ok[] = "+OK\r\n";
    cache_join_reply(n, (struct cache_join *)(uintptr_t)r->arg, 0, reply.len > 0 && reply.ptr[0] == '-' ? reply : slice_of(ok, sizeof ok - 1));
}

void handle_cache_flushall(struct call *c)
{
    if (c->argc > 2 || (c->argc == 2 && !slice_ieq(c->argv[1], "ASYNC") && !slice_ieq(c->argv[1], "SYNC"))) {
        call_error(c, "ERR", "syntax error");
        return;
    }
    struct cache_join *j = cache_join_new(c, JOIN_OK, c->n->opt.groups);
    for (uint32_t g = 0; g < c->n->opt.groups; g++) {
        struct request *r = request_new(c->n, g, REQUEST_WRITE, false, done_flush);
        r->arg = (uint64_t)(uintptr_t)j;
        buf_put_u8(&r->payload, SERVICE_CACHE);
        cache_put_head(&r->payload, CACHE_ENTRY_CLEAR, request_id_of(c->n, r), request_low(c->n, g, false));
        request_submit(c->n, r);
    }
}

/* --- the cache itself */

void handle_cache_look(struct call *c)
{
    if (cache_key_ok(c, c->argv[1])) {
        struct cache_join *j = cache_join_new(c, JOIN_ENTRY, 1);
        const slice_t argv[] = {SLICE_LIT("GET"), c->argv[1]};
        buf_append_slice(&j->key, c->argv[1]);
        cache_submit(c, argv, 2, j, 0);
    }
}

void handle_cache_state(struct call *c)
{
    if (cache_key_ok(c, c->argv[1])) {
        cache_poll_begin(c, c->argv[1], false);
    }
}

void handle_cache_invalidate(struct call *c)
{
    if (cache_key_ok(c, c->argv[1])) {
        cache_poll_begin(c, c->argv[1], true);
    }
}

void handle_cache_stats(struct call *c)
{
    struct cacher_stats s;
    struct cache_counts k;
    cacher_stats(c->n->cache.cacher, &s);
    cache_counts(c->n, &k);
    const struct { const char *name; uint64_t value; } rows[] = {
        {"lines", s.lines}, {"bytes", s.bytes}, {"dirty", s.dirty}, {"transient", s.busy}, {"hits", s.hits}, {"misses", s.misses},
        {"writes_through", s.writes}, {"bus_rd", s.gets}, {"bus_rdx", s.getx}, {"bus_upgr", s.upgr}, {"flushes", s.flushes},
        {"invalidated", s.invalidated}, {"downgraded", s.downgraded}, {"evicted", s.evicted}, {"lost_writes", s.lost}, {"leases_ended", s.lease_ends},
        {"homes", k.homes}, {"directory_keys", k.home.keys}, {"served_bus_rd", k.home.bus_rd}, {"served_bus_rdx", k.home.bus_rdx},
        {"served_bus_upgr", k.home.bus_upgr}, {"served_flushes", k.home.flushes}, {"served_writes", k.home.writes},
        {"sent_invalidations", k.home.invs}, {"sent_downgrades", k.home.downs}, {"fences", k.home.fences},
        {"leases_granted", k.home.leases}, {"acks_overdue", k.home.overdue}, {"memory_keys", k.memory.keys}, {"memory_bytes", k.memory.bytes}, {"memory_bound", k.memory.bound},
        {"memory_with_expiry", k.memory.with_expiry}, {"memory_expired", k.memory.expired}, {"flushes_refused", k.memory.flushes_refused},
        {"lease_waiters", lease_waiters(c->n)}, {"fills_open", k.memory.fills}, {"stale_copies", k.memory.stales}, {"fill_bytes", k.memory.fill_bytes}};
    uint32_t n = sizeof rows / sizeof rows[0];
    resp_map(c->reply, n);
    for (uint32_t i = 0; i < n; i++) {
        resp_bulk_str(c->reply, rows[i].name);
        resp_u64(c->reply, rows[i].value);
    }
}
