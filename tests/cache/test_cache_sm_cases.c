/* Memory behind the cache, one thing at a time: damage, late flushes, the floor, what is due, holders, the bound, SCAN. test_cache_sm.c has the model. */
#include "memory_world.h"

#include <stdlib.h>

enum { KEYS = 60 };

static void put_two_ops(void)
{
    buf_put_u64(&mem.entry, mem.now_ms);
    buf_put_u32(&mem.entry, 2);
    mem_put_op(mem_key((uint32_t)prng_below(&mem.g, KEYS)), FAKE_SET, 0, SLICE_LIT("v"));
    mem_put_op(mem_key((uint32_t)prng_below(&mem.g, KEYS)), FAKE_FENCED, 3, SLICE_LIT("w"));
}

static void put_noise(void)
{
    for (uint64_t n = prng_below(&mem.g, 60); n > 0; n--) {
        buf_put_u8(&mem.entry, prng_below(&mem.g, 2) ? 0 : (uint8_t)prng_u64(&mem.g));
    }
}

/* Bits of valid entries turned, and bytes of any kind: both replicas do the same, and stay whole. */
static void test_damage(void **state)
{
    (void)state;
    prng_init(&mem.g, 11);
    for (int i = 0; i < 20000; i++) {
        mem.now_ms += prng_below(&mem.g, 3);
        mem_put_head((enum cache_entry_kind)prng_range(&mem.g, 0, CACHE_ENTRY_MAX));
        switch (prng_below(&mem.g, 4)) {
        case 0: put_two_ops(); break;
        case 1:
            buf_put_u8(&mem.entry, (uint8_t)prng_below(&mem.g, CACHE_MULTI_MAX + 1));
            put_two_ops();
            break;
        default: put_noise(); break;
        }
        for (uint64_t n = prng_below(&mem.g, 3); n > 0; n--) {
            mem.entry.ptr[prng_below(&mem.g, mem.entry.len)] ^= (uint8_t)(1u << prng_below(&mem.g, 8));
        }
        mem_apply();
        if (i % 100 == 0) {
            cache_sm_check(mem.sm[0]);
        }
    }
}

static void assert_flush(slice_t key, uint64_t base, const char *reply)
{
    mem_put_head(CACHE_ENTRY_FLUSH);
    buf_put_bytes(&mem.entry, key);
    buf_put_u64(&mem.entry, base);
    cache_put_item(&mem.entry, &(struct cache_item){.exists = true, .value = SLICE_LIT("dirty")});
    mem_apply();
    mem_assert_reply(reply);
}

static uint64_t version_of(slice_t key)
{
    struct cache_item it;
    uint64_t version;
    cache_sm_get(mem.sm[0], key, mem.now_ms, &it, &version);
    return version;
}

static const char STALE[] = "-STALE memory has a newer version\r\n";

/* MC8, S64, S66: a late value comes neither over a newer one, nor over a deletion, a fence or a clearing; not later either. */
static void test_flush_guard(void **state)
{
    (void)state;
    prng_init(&mem.g, 13);
    slice_t a = SLICE_LIT("a"), b = SLICE_LIT("b");
    mem_run_op(a, FAKE_SET, 0, "1");
    uint64_t granted = version_of(a);
    mem_run_op(a, FAKE_DEL, 0, "");
    assert_flush(a, granted, STALE);
    uint64_t absent = version_of(a), never = version_of(b);
    mem_run_op(SLICE_LIT("c"), FAKE_SET, 0, "1");
    mem_run_op(SLICE_LIT("c"), FAKE_DEL, 0, "");
    assert_flush(a, absent, "+OK\r\n"); /* another key's deletion does not matter */
    assert_flush(b, never, "+OK\r\n");

    slice_t d = SLICE_LIT("d");
    absent = version_of(d);
    mem_put_head(CACHE_ENTRY_FENCE);
    buf_put_bytes(&mem.entry, d);
    mem_apply();
    assert_flush(d, absent, STALE);
    absent = version_of(d);
    mem_put_head(CACHE_ENTRY_CLEAR);
    mem_apply();
    assert_flush(d, absent, STALE);
    assert_flush(d, version_of(d), "+OK\r\n");
    struct cache_sm_stats s;
    cache_sm_stats(mem.sm[0], &s);
    assert_int_equal(s.flushes_refused, 3);
}

/* An owner was granted a value with an expiry, and took that away: its flush comes after memory let the old one expire. */
static void test_flush_outlives_expiry(void **state)
{
    (void)state;
    prng_init(&mem.g, 14);
    slice_t a = SLICE_LIT("a");
    mem_run_op(a, FAKE_SET, mem.now_ms + 10, "1");
    uint64_t granted = version_of(a);
    mem.now_ms += 20;
    mem_due(UINT64_MAX);
    assert_true(version_of(a) == granted);
    assert_flush(a, granted, "+OK\r\n");
}

/* Deletions that are not known one by one any more: what is older than the newest of them is refused. */
static void test_floor(void **state)
{
    (void)state;
    prng_init(&mem.g, 15);
    slice_t a = SLICE_LIT("a");
    mem_run_op(a, FAKE_SET, 0, "1");
    uint64_t granted = version_of(a);
    mem_run_op(a, FAKE_DEL, 0, "");
    uint64_t deleted = version_of(a);
    for (uint32_t k = 0; k < 40000; k++) {
        mem_run_op(mem_key(k), FAKE_SET, 0, "x");
        mem_run_op(mem_key(k), FAKE_DEL, 0, "");
    }
    assert_true(version_of(a) > deleted);
    assert_flush(a, granted, STALE);
    assert_flush(a, version_of(a), "+OK\r\n");
}

static void test_due_is_bounded(void **state)
{
    (void)state;
    prng_init(&mem.g, 16);
    for (uint32_t k = 0; k < CACHE_DUE_MAX + 10; k++) {
        mem_run_op(mem_key(k), FAKE_SET, mem.now_ms + 5, "x");
    }
    mem_due(UINT64_MAX);
    mem_assert_reply(":0\r\n");
    mem.now_ms += 5;
    mem_due(UINT64_MAX);
    mem_assert_reply(":256\r\n");
    assert_int_equal(mem.out[0].n_touched, CACHE_DUE_MAX);
    assert_int_equal(cache_sm_next_due_ms(mem.sm[0]), mem.now_ms);
    mem_due(UINT64_MAX);
    mem_assert_reply(":10\r\n");
    assert_true(cache_sm_next_due_ms(mem.sm[0]) == UINT64_MAX);
}

static void test_holders(void **state)
{
    (void)state;
    uint32_t holders[CACHE_HOLDERS_MAX];
    prng_init(&mem.g, 17);
    for (uint32_t i = 0; i < CACHE_HOLDERS_MAX + 5; i++) {
        buf_clear(&mem.entry);
        cache_put_head(&mem.entry, CACHE_ENTRY_HOLD, (struct request_id){0}, 0);
        buf_put_u32(&mem.entry, (i * 37) % 1000);
        mem_apply();
    }
    assert_int_equal(cache_sm_holders(mem.sm[0], holders), CACHE_HOLDERS_MAX);
    assert_true(cache_sm_holds(mem.sm[0], 37));
    for (uint32_t i = 1; i < CACHE_HOLDERS_MAX; i++) {
        assert_true(holders[i - 1] < holders[i]);
    }
    buf_clear(&mem.entry);
    cache_put_head(&mem.entry, CACHE_ENTRY_UNHOLD, (struct request_id){0}, 0);
    buf_put_u32(&mem.entry, 37);
    mem_apply();
    assert_false(cache_sm_holds(mem.sm[0], 37));
}

static void test_memory_bound(void **state)
{
    (void)state;
    prng_init(&mem.g, 18);
    for (int i = 0; i < 2; i++) {
        cache_sm_free(mem.sm[i]);
        mem.sm[i] = mem_new((uint64_t)i, 1000);
    }
    const char *oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    mem_run_op(SLICE_LIT("a"), FAKE_SET, 0, "0123456789");
    mem_put_batch(1);
    uint8_t big[960] = {0};
    mem_put_op(SLICE_LIT("b"), FAKE_SET, 0, slice_of(big, sizeof big));
    mem_apply();
    mem_assert_reply(oom);
    assert_int_equal(mem.out[0].n_touched, 0);
    assert_true(mem_reply(0).version == 0 && !mem_reply(0).exists);
    mem_put_multi(CACHE_MULTI_MSETNX, 2);
    mem_put_op(SLICE_LIT("c"), FAKE_SET, 0, slice_of(big, 450));
    mem_put_op(SLICE_LIT("d"), FAKE_SET, 0, slice_of(big, 450));
    mem_apply();
    mem_assert_reply(oom);
    assert_true(version_of(SLICE_LIT("c")) == 0);
    mem_run_op(SLICE_LIT("a"), FAKE_SET, 0, "01");
    mem_assert_reply(":1\r\n");
    mem_run_op(SLICE_LIT("a"), FAKE_DEL, 0, "");
    mem_assert_reply(":1\r\n");
    mem_put_batch(1);
    mem_put_op(SLICE_LIT("b"), FAKE_SET, 0, slice_of(big, 900));
    mem_apply();
    mem_assert_reply(":1\r\n");
}

static void set_bound(uint64_t bytes)
{
    buf_clear(&mem.entry);
    cache_put_head(&mem.entry, CACHE_ENTRY_BOUND, (struct request_id){0}, 0);
    buf_put_u64(&mem.entry, bytes);
    mem_apply();
}

static void set_value(const char *key, size_t size, const char *reply)
{
    static const uint8_t zeroes[1000];
    mem_put_batch(1);
    mem_put_op(slice_str(key), FAKE_SET, 0, slice_of(zeroes, size));
    mem_apply();
    mem_assert_reply(reply);
}

/* What is there stays; last values give way; a snapshot has the bound. */
static void test_bound_moves(void **state)
{
    (void)state;
    const char *oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    struct buf saved = {0};
    struct cache_sm_stats before, after;
    prng_init(&mem.g, 20);
    set_value("a", 900, ":1\r\n");
    set_bound(500);
    assert_true(cache_sm_bound(mem.sm[0]) == 500 && cache_sm_bound(mem.sm[1]) == 500);
    set_value("a", 901, oom);
    set_value("b", 1, oom);
    set_value("a", 899, ":1\r\n");
    cache_sm_stats(mem.sm[0], &before);
    cache_sm_snapshot_begin(mem.sm[0]);
    while (!cache_sm_snapshot_step(mem.sm[0], 100, &saved)) {
    }
    cache_sm_free(mem.sm[1]);
    mem.sm[1] = mem_new(3, 0);
    assert_true(cache_sm_restore_piece(mem.sm[1], buf_slice(&saved)) && cache_sm_restore_end(mem.sm[1]));
    cache_sm_stats(mem.sm[1], &after);
    assert_true(after.bound == 500 && after.bytes == before.bytes);
    set_value("b", 1, oom);
    set_bound(2000);
    set_value("b", 900, ":1\r\n");
    set_bound(0);
    set_value("c", 1000, ":1\r\n");
    assert_true(cache_sm_bound(mem.sm[0]) == 0);
    buf_fini(&saved);
}

static void note_key(void *arg, slice_t key)
{
    uint32_t *seen = arg;
    char text[64];
    assert_true(key.len < sizeof text);
    memcpy(text, key.ptr, key.len);
    text[key.len] = 0;
    uint32_t k = (uint32_t)strtoul(strchr(text, ':') + 1, NULL, 10);
    seen[k < KEYS ? k : KEYS]++;
}

/* Keys that are there all the time are seen, while the table grows and shrinks between the calls. */
static void test_scan(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        uint32_t seen[KEYS + 1] = {0}, others = KEYS;
        prng_init(&mem.g, seed);
        for (uint32_t k = 0; k < KEYS; k++) {
            mem_run_op(mem_key(k), FAKE_SET, 0, "x");
        }
        uint64_t cursor = 0;
        bool grows = seed % 2;
        for (uint32_t k = KEYS; !grows && k < 3000; k++) {
            mem_run_op(mem_key(others++), FAKE_SET, 0, "x");
        }
        do {
            cursor = cache_sm_scan(mem.sm[0], cursor, (uint32_t)prng_range(&mem.g, 1, 5), mem.now_ms, note_key, seen);
            for (int i = 0; i < 60 && (grows ? others < 5000 : others > KEYS); i++) {
                mem_run_op(mem_key(grows ? others++ : --others), grows ? FAKE_SET : FAKE_DEL, 0, "");
            }
        } while (cursor != 0);
        for (uint32_t k = 0; k < KEYS; k++) {
            assert_true(seen[k] >= 1);
        }
        mem_put_head(CACHE_ENTRY_CLEAR);
        mem_apply();
    }
}

/* Marks of snapshots that were begun and given up for ever are not taken for those of a later one. */
static void test_many_snapshots(void **state)
{
    (void)state;
    prng_init(&mem.g, 19);
    struct buf saved = {0};
    struct cache_sm *fresh = mem_new(1, 0);
    for (uint32_t i = 0; i < 65536 + 2; i++) {
        if (i < 6) {
            mem_run_op(mem_key(i), FAKE_SET, 0, "x");
        }
        cache_sm_snapshot_begin(mem.sm[0]);
        cache_sm_snapshot_abort(mem.sm[0]);
    }
    cache_sm_snapshot_begin(mem.sm[0]);
    while (!cache_sm_snapshot_step(mem.sm[0], 100, &saved)) {
    }
    assert_true(cache_sm_restore_piece(fresh, buf_slice(&saved)) && cache_sm_restore_end(fresh));
    assert_true(cache_sm_digest(fresh) == cache_sm_digest(mem.sm[0]));
    cache_sm_free(fresh);
    buf_fini(&saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_damage, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_flush_guard, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_flush_outlives_expiry, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_floor, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_due_is_bounded, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_holders, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_memory_bound, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_bound_moves, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_scan, mem_begin, mem_end),
        cmocka_unit_test_setup_teardown(test_many_snapshots, mem_begin, mem_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
