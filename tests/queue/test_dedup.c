/* The table of answered requests: what is remembered, for how long, and that it survives a snapshot (R15, K10, S47). */
#include "nodes/dedup.h"
#include "utils/limits.h"
#include "utils/prng.h"

#include "../utils/test.h"

enum { WINDOW_MS = 1000, WINDOW_COUNT = 20, PER_APPLY = 8 };

static struct dedup d;

static int begin(void **state)
{
    (void)state;
    dedup_init(&d, 5, WINDOW_MS, WINDOW_COUNT);
    return 0;
}

static bool restore(struct dedup *to, slice_t saved, uint64_t now_ms)
{
    struct reader r = reader_of(saved);
    dedup_init(to, 99, WINDOW_MS, WINDOW_COUNT);
    while (reader_left(&r) > 0) {
        uint8_t kind = reader_u8(&r);
        slice_t body = reader_bytes(&r);
        if (!r.ok || kind < 30 || !dedup_restore(to, kind - 30, body, now_ms)) {
            return false;
        }
    }
    return true;
}

/* Whatever a test left restores to the same, and saves to the same again. */
static int end(void **state)
{
    (void)state;
    struct buf a = {0}, b = {0};
    struct dedup other;
    dedup_save(&d, &a, 30);
    assert_true(restore(&other, buf_slice(&a), UINT64_MAX));
    assert_true(dedup_hash(&other) == dedup_hash(&d) && other.n_records == d.n_records && other.n_idems == d.n_idems);
    dedup_save(&other, &b, 30);
    assert_true(slice_eq(buf_slice(&a), buf_slice(&b)));
    buf_fini(&a);
    buf_fini(&b);
    dedup_fini(&other);
    dedup_fini(&d);
    return 0;
}

static struct request_id req(uint64_t origin, uint64_t seq)
{
    return (struct request_id){origin, seq};
}

static void answer(uint64_t origin, uint64_t seq, uint64_t low, uint64_t now_ms)
{
    dedup_advance(&d, req(origin, seq), low, now_ms);
    dedup_add(&d, req(origin, seq), now_ms, (uint8_t)seq, SLICE_LIT("reply"));
}

static void an_answer_is_found_by_its_request(void **state)
{
    (void)state;
    answer(1, 7, 0, 10);
    const struct record *r = dedup_find(&d, req(1, 7));
    assert_true(r != NULL && r->code == 7 && r->time_ms == 10 && slice_eq(slice_of(r->reply, r->len), SLICE_LIT("reply")));
    assert_null(dedup_find(&d, req(1, 8)));
    assert_null(dedup_find(&d, req(2, 7)));
    assert_false(dedup_too_old(&d, req(1, 8)) || dedup_too_old(&d, req(2, 0)));
    dedup_add(&d, req(3, 1), 10, 0, SLICE_NONE);
    assert_true(dedup_find(&d, req(3, 1))->len == 0 && dedup_origin_find(&d, 3) != NULL);
}

static void what_its_origin_has_is_forgotten(void **state)
{
    (void)state;
    for (uint64_t seq = 1; seq <= 5; seq++) {
        answer(1, seq, 0, 10);
        answer(2, seq, 0, 10);
    }
    dedup_advance(&d, req(1, 6), 4, 11);
    assert_null(dedup_find(&d, req(1, 3)));
    assert_non_null(dedup_find(&d, req(1, 4)));
    assert_non_null(dedup_find(&d, req(2, 1)));
    assert_true(dedup_too_old(&d, req(1, 3)) && !dedup_too_old(&d, req(1, 4)));
    dedup_advance(&d, req(1, 6), 2, 11); /* an older entry: low never falls */
    assert_true(dedup_too_old(&d, req(1, 3)));
    dedup_advance(&d, req(1, 6), 1000, 11); /* nobody has the answer of what is being asked */
    assert_true(!dedup_too_old(&d, req(1, 6)) && dedup_too_old(&d, req(1, 5)));
}

static void windows_hold_by_time_and_by_count_a_few_at_a_time(void **state)
{
    (void)state;
    for (uint64_t seq = 1; seq <= WINDOW_COUNT + 10; seq++) {
        dedup_add(&d, req(1, seq), 10, 0, SLICE_NONE);
        char id[8];
        dedup_add_idem(&d, slice_of(id, (size_t)snprintf(id, sizeof id, "i%u", (unsigned)seq)), 10, 0, SLICE_LIT("x"));
    }
    dedup_advance(&d, req(0, 0), 0, 10);
    assert_true(d.n_records == WINDOW_COUNT + 10 - PER_APPLY && d.n_idems == d.n_records);
    dedup_advance(&d, req(0, 0), 0, 10);
    dedup_advance(&d, req(0, 0), 0, 10);
    assert_true(d.n_records == WINDOW_COUNT && d.n_idems == WINDOW_COUNT);
    assert_null(dedup_find(&d, req(1, 10)));
    assert_non_null(dedup_find(&d, req(1, 11)));
    assert_null(dedup_find_idem(&d, SLICE_LIT("i10")));
    dedup_advance(&d, req(0, 0), 0, 10 + WINDOW_MS - 1);
    assert_int_equal(d.n_records, WINDOW_COUNT);
    for (int i = 0; i < 3; i++) {
        dedup_advance(&d, req(0, 0), 0, 10 + WINDOW_MS);
    }
    assert_true(d.n_records == 0 && d.n_idems == 0);
}

static void an_answer_is_found_by_the_clients_own_id(void **state)
{
    (void)state;
    dedup_add_idem(&d, SLICE_LIT("order-1"), 10, 3, SLICE_LIT("done"));
    const struct idem *x = dedup_find_idem(&d, SLICE_LIT("order-1"));
    assert_true(x != NULL && x->code == 3 && slice_eq(idem_reply(x), SLICE_LIT("done")) && slice_eq(idem_name(x), SLICE_LIT("order-1")));
    assert_null(dedup_find_idem(&d, SLICE_LIT("order-")));
    assert_null(dedup_find_idem(&d, SLICE_LIT("order-12")));
}

static void an_origin_is_forgotten_unless_something_hangs_on_it(void **state)
{
    (void)state;
    struct list waiter;
    dedup_advance(&d, req(1, 1), 0, 10);
    dedup_advance(&d, req(2, 1), 0, 10);
    answer(3, 1, 0, 400);
    list_push_back(&dedup_origin_find(&d, 2)->waiters, &waiter);
    dedup_advance(&d, req(0, 0), 0, 10 + WINDOW_MS - 1);
    assert_non_null(dedup_origin_find(&d, 1));
    for (int i = 0; i < 6; i++) {
        dedup_advance(&d, req(0, 0), 0, 10 + WINDOW_MS);
    }
    assert_null(dedup_origin_find(&d, 1));
    assert_non_null(dedup_origin_find(&d, 2));
    assert_non_null(dedup_origin_find(&d, 3));
    list_remove(&waiter);
    for (int i = 0; i < 6; i++) {
        dedup_advance(&d, req(0, 0), 0, 400 + WINDOW_MS);
    }
    assert_null(dedup_origin_find(&d, 2));
    assert_null(dedup_origin_find(&d, 3));
}

static bool restore_one(uint8_t which, struct buf *b, uint64_t now_ms)
{
    bool ok = dedup_restore(&d, which, buf_slice(b), now_ms);
    buf_fini(b);
    return ok;
}

static bool restore_record(uint64_t origin, uint64_t seq, uint64_t time_ms)
{
    struct buf b = {0};
    buf_put_u64(&b, origin);
    buf_put_u64(&b, seq);
    buf_put_u64(&b, time_ms);
    buf_put_u8(&b, 1);
    buf_put_bytes(&b, SLICE_LIT("r"));
    return restore_one(1, &b, 100);
}

static bool restore_idem(size_t id_len, uint64_t time_ms)
{
    static const uint8_t id[LIMIT_IDEM_BYTES + 100];
    struct buf b = {0};
    buf_put_u64(&b, time_ms);
    buf_put_u8(&b, 1);
    buf_put_bytes(&b, slice_of(id, id_len));
    buf_put_bytes(&b, SLICE_LIT("r"));
    return restore_one(2, &b, 100);
}

static bool restore_origin(uint64_t id, uint64_t active_ms)
{
    struct buf b = {0};
    buf_put_u64(&b, id);
    buf_put_u64(&b, 3);
    buf_put_u64(&b, active_ms);
    return restore_one(0, &b, 100);
}

static void what_cannot_have_been_saved_is_refused(void **state)
{
    (void)state;
    assert_true(restore_origin(1, 100));
    assert_false(restore_origin(1, 100) || restore_origin(0, 100) || restore_origin(2, 101));
    assert_true(restore_record(1, 3, 100));
    assert_false(restore_record(1, 3, 100) || restore_record(2, 3, 100) || restore_record(1, 4, 101) || restore_record(0, 4, 100));
    assert_true(restore_idem(LIMIT_IDEM_BYTES, 100));
    assert_false(restore_idem(LIMIT_IDEM_BYTES, 100) || restore_idem(0, 100) || restore_idem(7, 101) || restore_idem(LIMIT_IDEM_BYTES + 99, 100));
    assert_false(dedup_restore(&d, 3, SLICE_NONE, 100));
    assert_false(dedup_restore(&d, 0, SLICE_NONE, 100) || dedup_restore(&d, 1, SLICE_NONE, 100) || dedup_restore(&d, 2, SLICE_NONE, 100));
}

/* A restored table forgets, finds and refuses as the one it was saved from does, whatever its hash key. */
static void a_restored_table_lives_on_as_the_saved_one(void **state)
{
    (void)state;
    struct prng g;
    struct dedup twin;
    uint64_t now = 1;
    prng_init(&g, 3);
    dedup_init(&twin, 7, WINDOW_MS, WINDOW_COUNT);
    for (int i = 0; i < 20000; i++) {
        now += prng_below(&g, 40);
        struct request_id r = req(prng_below(&g, 6), 1 + prng_below(&g, 40) + (uint64_t)i / 50);
        uint64_t low = r.seq - prng_below(&g, r.seq + 1);
        struct dedup *both[] = {&d, &twin};
        char id[16];
        slice_t idem = slice_of(id, (size_t)snprintf(id, sizeof id, "k%u", (unsigned)prng_below(&g, 60)));
        for (int k = 0; k < 2; k++) {
            dedup_advance(both[k], r, low, now);
            if (r.origin != 0 && dedup_find(both[k], r) == NULL && !dedup_too_old(both[k], r)) {
                dedup_add(both[k], r, now, (uint8_t)i, idem);
            }
            if (dedup_find_idem(both[k], idem) == NULL) {
                dedup_add_idem(both[k], idem, now, (uint8_t)i, SLICE_LIT("r"));
            }
        }
        assert_true(dedup_hash(&d) == dedup_hash(&twin) && d.n_records <= WINDOW_COUNT + 1 && d.n_idems <= WINDOW_COUNT + 1);
        if (i % 50 == 0) {
            struct buf b = {0};
            dedup_save(&twin, &b, 30);
            dedup_fini(&twin);
            assert_true(restore(&twin, buf_slice(&b), now));
            buf_fini(&b);
        }
    }
    dedup_fini(&twin);
}

static void damaged_bytes_are_refused_or_restored_and_never_assert(void **state)
{
    (void)state;
    struct prng g;
    struct buf b = {0};
    prng_init(&g, 4);
    for (uint64_t seq = 1; seq <= 8; seq++) {
        answer(1 + seq % 3, seq, 0, 10);
    }
    dedup_add_idem(&d, SLICE_LIT("id"), 10, 0, SLICE_LIT("r"));
    dedup_save(&d, &b, 30);
    uint32_t refused = 0;
    for (int i = 0; i < 20000; i++) {
        struct buf bad = {0};
        struct dedup to;
        buf_append_slice(&bad, buf_slice(&b));
        bad.len -= i % 3 == 0 ? prng_below(&g, bad.len) : 0;
        for (uint64_t n = prng_below(&g, 3); n > 0 && bad.len > 0; n--) {
            bad.ptr[prng_below(&g, bad.len)] = (uint8_t)prng_u64(&g);
        }
        refused += !restore(&to, buf_slice(&bad), 10);
        for (int k = 0; k < 4; k++) {
            dedup_advance(&to, req(1, 9), 9, 10 + WINDOW_MS);
        }
        dedup_hash(&to);
        dedup_fini(&to);
        buf_fini(&bad);
    }
    assert_in_range(refused, 1000, 19999);
    buf_fini(&b);
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(an_answer_is_found_by_its_request), T(what_its_origin_has_is_forgotten), T(windows_hold_by_time_and_by_count_a_few_at_a_time),
        T(an_answer_is_found_by_the_clients_own_id), T(an_origin_is_forgotten_unless_something_hangs_on_it),
        T(what_cannot_have_been_saved_is_refused), T(a_restored_table_lives_on_as_the_saved_one),
        T(damaged_bytes_are_refused_or_restored_and_never_assert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
