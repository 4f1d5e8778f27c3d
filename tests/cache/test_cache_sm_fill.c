/* Rights to fill and last values in the cache's memory (cache_sm_fill.c), on two replicas whose tables differ; with a naive model of rights. */
#include "memory_world.h"

#include <stdlib.h>

enum { KEYS = 12, FILL_MS = 100, STEPS = 40000, LONG = 1 << 30 };

struct lease { uint8_t kind; uint64_t token, left_ms; bool has_stale; uint64_t age_ms, version; slice_t value; };

static struct lease lease(slice_t key, uint64_t fill_ms, uint64_t stale_ms)
{
    struct lease l = {0};
    mem_put_head(CACHE_ENTRY_LEASE);
    cache_put_lease(&mem.entry, key, fill_ms, stale_ms);
    mem_apply();
    struct reader r = reader_of(mem_reply(0).resp);
    l.kind = reader_u8(&r);
    l.token = reader_u64(&r);
    l.left_ms = reader_u64(&r);
    if (l.kind == CACHE_LEASE_HELD) {
        l.has_stale = reader_u8(&r) == 1;
        l.age_ms = reader_u64(&r);
        l.version = reader_u64(&r);
        l.value = reader_bytes(&r);
    }
    assert_true(l.kind == '-' || reader_done(&r));
    return l;
}

static uint64_t right(slice_t key, uint64_t fill_ms)
{
    struct lease l = lease(key, fill_ms, 0);
    assert_int_equal(l.kind, CACHE_LEASE_GIVEN);
    assert_true(l.token == mem.index && l.left_ms == fill_ms && cache_sm_filling(mem.sm[0], key));
    return l.token;
}

static void put_multi(enum cache_multi kind, slice_t key, uint64_t token, const struct buf *op)
{
    struct buf b = {0};
    buf_put_u64(&b, token);
    buf_append_slice(&b, op != NULL ? buf_slice(op) : SLICE_NONE);
    mem_put_multi(kind, 1);
    cache_put_op(&mem.entry, key, buf_slice(&b));
    mem_apply();
    buf_fini(&b);
}

static bool fill_until(slice_t key, uint64_t token, uint64_t expire_ms, slice_t value)
{
    struct buf op = {0};
    fake_op(&op, FAKE_SET, expire_ms, value);
    put_multi(CACHE_MULTI_FILL, key, token, &op);
    buf_fini(&op);
    struct mem_reply x = mem_reply(0);
    bool done = x.resp.ptr[0] != '-';
    assert_true(done || memcmp(x.resp.ptr, "-STALEFILL ", 11) == 0);
    assert_true(x.version == (done ? mem.index : 0));
    return done;
}

static bool fill(slice_t key, uint64_t token)
{
    return fill_until(key, token, 0, SLICE_LIT("filled"));
}

static bool abandon(slice_t key, uint64_t token)
{
    put_multi(CACHE_MULTI_ABANDON, key, token, NULL);
    return slice_eq(mem_reply(0).resp, slice_str(":1\r\n"));
}

static struct cache_sm_stats stats(void)
{
    struct cache_sm_stats s;
    cache_sm_check(mem.sm[0]);
    cache_sm_check(mem.sm[1]);
    cache_sm_stats(mem.sm[0], &s);
    return s;
}

static void test_one_has_it(void **state)
{
    (void)state;
    slice_t k = SLICE_LIT("k");
    uint64_t token = right(k, FILL_MS);
    mem.now_ms += 40;
    struct lease l = lease(k, FILL_MS, LONG);
    assert_true(l.kind == CACHE_LEASE_HELD && l.left_ms == 60 && !l.has_stale);
    assert_false(fill(k, token + 1));
    assert_false(fill(SLICE_LIT("other"), token));
    assert_true(fill(k, token) && !cache_sm_filling(mem.sm[0], k));
    assert_false(fill(k, token));
    assert_int_equal(lease(k, FILL_MS, LONG).kind, CACHE_LEASE_HIT);
    assert_true(stats().fills == 0);
}

/* A right whose time is over goes to who asks; while nobody does, it is good. */
static void test_time(void **state)
{
    (void)state;
    slice_t k = SLICE_LIT("k"), q = SLICE_LIT("q");
    uint64_t first = right(k, FILL_MS), other = right(q, FILL_MS);
    mem.now_ms += FILL_MS;
    uint64_t second = right(k, FILL_MS);
    assert_true(second > first);
    assert_false(fill(k, first));
    assert_true(fill(k, second) && fill(q, other));
    assert_true(right(SLICE_LIT("dead"), FILL_MS) > 0);
    mem.now_ms += FILL_MS + 60000;
    right(SLICE_LIT("living"), FILL_MS);
    assert_true(stats().fills == 1);
}

static void test_given_up(void **state)
{
    (void)state;
    slice_t k = SLICE_LIT("k");
    uint64_t token = right(k, FILL_MS);
    assert_false(abandon(k, token + 1));
    assert_true(abandon(k, token));
    assert_false(abandon(k, token));
    assert_false(fill(k, token));
    assert_true(right(k, FILL_MS) > token);
    mem_put_head(CACHE_ENTRY_UNFILL);
    buf_put_bytes(&mem.entry, k);
    mem_apply();
    assert_false(cache_sm_filling(mem.sm[0], k));
}

/* Whatever may have written ends it, whether it did or not; what only looks does not. */
static void test_ends(void **state)
{
    (void)state;
    slice_t k = SLICE_LIT("k");
    for (int how = 0; how < 9; how++) {
        uint64_t token = right(k, FILL_MS);
        bool ends = true;
        switch (how) {
        case 0: mem_run_op(k, FAKE_DEL, 0, ""); break;
        case 1: mem_run_op(k, FAKE_SET, mem.now_ms, "over before it began"); break;
        case 2: mem_run_op(k, FAKE_APPEND, 0, "x"); break;
        case 3: mem_run_op(k, FAKE_GET, 0, ""), mem_run_op(k, FAKE_EXPIRE, mem.now_ms + 5, ""), ends = false; break;
        case 4:
        case 5: /* a flush that is taken, one that is not */
            mem_put_head(CACHE_ENTRY_FLUSH);
            buf_put_bytes(&mem.entry, k);
            uint64_t version;
            struct cache_item item;
            cache_sm_get(mem.sm[0], k, mem.now_ms, &item, &version);
            buf_put_u64(&mem.entry, how == 4 ? version : version - 1);
            cache_put_item(&mem.entry, &(struct cache_item){0});
            mem_apply();
            ends = how == 4;
            break;
        case 6:
            mem_put_head(CACHE_ENTRY_FENCE);
            buf_put_bytes(&mem.entry, k);
            mem_apply();
            break;
        case 7:
            mem_run_op(SLICE_LIT("from"), FAKE_SET, 0, "y");
            mem_put_multi(CACHE_MULTI_RENAME, 2);
            cache_put_op(&mem.entry, SLICE_LIT("from"), SLICE_NONE);
            cache_put_op(&mem.entry, k, SLICE_NONE);
            mem_apply();
            break;
        default:
            mem_put_head(CACHE_ENTRY_CLEAR);
            mem_apply();
        }
        assert_true(cache_sm_filling(mem.sm[0], k) == !ends);
        mem_run_op(k, FAKE_GET, 0, "");
        assert_true(fill(k, token) == !ends);
        mem_run_op(k, FAKE_DEL, 0, "");
    }
    assert_true(stats().fills == 0);
}

/* A key that is due goes without an end of the right that was given since it expired. */
static void test_due_keeps_it(void **state)
{
    (void)state;
    slice_t k = SLICE_LIT("k");
    mem_run_op(k, FAKE_SET, mem.now_ms + 10, "v");
    mem.now_ms += 10;
    uint64_t token = right(k, FILL_MS);
    mem_due(mem.now_ms);
    assert_true(fill(k, token));
}

static void test_stale(void **state)
{
    (void)state;
    slice_t k = SLICE_LIT("k"), q = SLICE_LIT("q");
    mem_run_op(q, FAKE_SET, 0, "never filled");
    mem_run_op(q, FAKE_DEL, 0, "");
    assert_true(stats().stales == 0);
    assert_true(fill_until(k, right(k, FILL_MS), mem.now_ms + 10, SLICE_LIT("old")));
    uint64_t version = mem.index;
    mem_run_op(k, FAKE_EXPIRE, mem.now_ms + 20, "");
    version = mem.index;
    mem.now_ms += 25;
    right(k, 10000);
    for (int turn = 0; turn < 2; turn++) { /* expired; then deleted, too */
        mem.now_ms += 5;
        struct lease l = lease(k, FILL_MS, LONG);
        uint64_t age = (uint64_t)(turn == 0 ? 10 : 15);
        assert_true(l.has_stale && l.age_ms == age && l.version == version && slice_eq(l.value, SLICE_LIT("old")));
        assert_true(lease(k, FILL_MS, age).has_stale && !lease(k, FILL_MS, age - 1).has_stale && !lease(k, FILL_MS, 0).has_stale);
        mem_due(mem.now_ms);
        assert_true(stats().stales == 1);
    }
    mem_run_op(k, FAKE_APPEND, 0, "new"); /* the key has a value; when that goes it was not filled */
    assert_true(stats().stales == 0);
    mem_run_op(k, FAKE_DEL, 0, "");
    assert_true(stats().stales == 0);
    assert_true(fill(k, right(k, FILL_MS)));
    mem_run_op(k, FAKE_SET, 0, "written since");
    mem_run_op(k, FAKE_DEL, 0, "");
    right(k, 10000);
    assert_true(slice_eq(lease(k, FILL_MS, LONG).value, SLICE_LIT("written since")));
    mem.now_ms += 10 * 60 * 1000 + 1;
    mem_run_op(q, FAKE_GET, 0, "");
    assert_true(stats().stales == 0 && stats().bytes == 0);
}

static void fill_and_delete(uint32_t number, size_t bytes)
{
    uint8_t *value = calloc(1, bytes);
    uint64_t token = right(mem_key(number), FILL_MS);
    assert_true(fill_until(mem_key(number), token, 0, slice_of(value, bytes)));
    mem_run_op(mem_key(number), FAKE_DEL, 0, "");
    free(value);
}

/* Both count; last values are the first to go, the oldest of them first. */
static void test_bounds(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        cache_sm_free(mem.sm[i]);
        mem.sm[i] = mem_new((uint64_t)i, 100000);
    }
    for (uint32_t i = 0; i < 20; i++) {
        fill_and_delete(i, 1000);
    }
    struct cache_sm_stats s = stats();
    assert_true(s.stales > 5 && s.fill_bytes <= 100000 / 8);
    right(mem_key(0), LONG < 600000 ? LONG : 600000), right(mem_key(19), 600000);
    assert_true(!lease(mem_key(0), FILL_MS, LONG).has_stale && lease(mem_key(19), FILL_MS, LONG).has_stale);
    fill_and_delete(20, 13000); /* larger than all of them may be */
    assert_true(stats().stales == s.stales);
    uint8_t large[90000] = {0};
    struct buf op = {0};
    fake_op(&op, FAKE_SET, 0, slice_of(large, sizeof large));
    mem_put_batch(1);
    cache_put_op(&mem.entry, SLICE_LIT("large"), buf_slice(&op));
    mem_apply();
    buf_fini(&op);
    assert_true(mem_reply(0).resp.ptr[0] != '-');
    assert_true(stats().stales < s.stales && stats().fills == 2);
    uint32_t given = 0;
    while (lease(mem_key(100 + given), FILL_MS, 0).kind == CACHE_LEASE_GIVEN) {
        given++;
    }
    assert_true(given > 10 && given < 1000);
    s = stats();
    assert_true(s.stales == 0 && s.bytes + s.fill_bytes <= 100000);
}

/* --- at random, against a model: who has the right, and whether its fill is taken */

static struct { uint64_t token, until_ms; bool exists; } model[KEYS];

static void step(uint32_t k, uint64_t *tokens)
{
    struct lease l;
    switch (prng_below(&mem.g, 6)) {
    case 0:
    case 1:
        l = lease(mem_key(k), FILL_MS, prng_below(&mem.g, 2) ? LONG : 0);
        assert_int_equal(l.kind, model[k].exists ? CACHE_LEASE_HIT : model[k].token != 0 && mem.now_ms < model[k].until_ms ? CACHE_LEASE_HELD : CACHE_LEASE_GIVEN);
        if (l.kind == CACHE_LEASE_GIVEN) {
            model[k].token = l.token;
            model[k].until_ms = mem.now_ms + FILL_MS;
            tokens[prng_below(&mem.g, 4)] = l.token;
        }
        return;
    case 2:
    case 3: {
        uint64_t token = tokens[prng_below(&mem.g, 4)];
        bool takes = token != 0 && model[k].token == token;
        assert_true(fill(mem_key(k), token) == takes);
        model[k].exists |= takes;
        model[k].token = takes ? 0 : model[k].token;
        return;
    }
    case 4:
        mem_run_op(mem_key(k), FAKE_DEL, 0, "");
        model[k].exists = false;
        model[k].token = 0;
        return;
    default: mem.now_ms += prng_below(&mem.g, FILL_MS / 2); /* far from the minute after which the forgotten go */
    }
}

/* A snapshot as it was begun, taken in slices while entries go on, and what came after it: the same memory. */
static struct cache_sm *restored(struct buf *saved)
{
    struct cache_sm *m = mem_new(mem.index, 0);
    assert_true(cache_sm_restore_piece(m, buf_slice(saved)) && cache_sm_restore_end(m));
    struct cache_out out;
    cache_out_init(&out);
    for (size_t i = 0; i < mem.n_since; i++) {
        cache_out_clear(&out);
        cache_sm_apply(m, mem.since[i].index, mem.since[i].now_ms, buf_slice(&mem.since[i].entry), &out);
    }
    cache_out_fini(&out);
    cache_sm_check(m);
    assert_true(cache_sm_digest(m) == cache_sm_digest(mem.sm[0]));
    mem_forget_log();
    return m;
}

static void test_model(void **state)
{
    (void)state;
    static uint64_t tokens[KEYS][4];
    struct buf saved = {0};
    memset(model, 0, sizeof model);
    prng_init(&mem.g, 5);
    for (int i = 0; i < STEPS; i++) {
        uint32_t k = (uint32_t)prng_below(&mem.g, KEYS);
        step(k, tokens[k]);
        if (i % 200 == 0) {
            stats();
        }
        if (i % 50 == 0) {
            cache_sm_snapshot_begin(mem.sm[0]);
            mem.logging = true;
        } else if (mem.logging && cache_sm_snapshot_step(mem.sm[0], 64, &saved)) {
            mem.logging = false;
            cache_sm_free(mem.sm[1]);
            mem.sm[1] = restored(&saved);
            buf_clear(&saved);
        }
    }
    if (mem.logging) {
        cache_sm_snapshot_abort(mem.sm[0]);
    }
    buf_fini(&saved);
}

/* A snapshot with any bit turned or any end cut off is refused, or restores to something whole. */
static void test_damaged_snapshot(void **state)
{
    (void)state;
    struct buf saved = {0};
    for (uint32_t i = 0; i < 4; i++) {
        fill_and_delete(i, 20);
        right(mem_key(i + 20), FILL_MS);
    }
    assert_true(fill(mem_key(9), right(mem_key(9), FILL_MS)));
    cache_sm_snapshot_begin(mem.sm[0]);
    while (!cache_sm_snapshot_step(mem.sm[0], 1000, &saved)) {
    }
    uint32_t whole = 0;
    for (size_t bit = 0; bit < saved.len * 8; bit++) {
        struct cache_sm *m = mem_new(3, 0);
        saved.ptr[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (cache_sm_restore_piece(m, buf_slice(&saved)) && cache_sm_restore_end(m)) {
            cache_sm_check(m);
            whole++;
        }
        cache_sm_free(m);
        saved.ptr[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(whole < saved.len * 8);
    for (size_t n = 0; n < saved.len; n++) {
        struct cache_sm *m = mem_new(3, 0);
        assert_false(cache_sm_restore_piece(m, slice_of(saved.ptr, n)) && cache_sm_restore_end(m));
        cache_sm_free(m);
    }
    buf_fini(&saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_has_it, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_time, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_given_up, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_ends, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_due_keeps_it, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_stale, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_bounds, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_damaged_snapshot, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_model, mem_begin, mem_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
