/* The lines of a node: exact order of LRU against a naive list, both bounds, pinned lines, items of every shape, growth and shrinking of the table and of all
 * memory; and that S3-FIFO keeps what is used while a scan passes by (MC9). */
#include "nodes/cache/lines.h"
#include "utils/prng.h"

#include "../utils/test.h"

#include <stdio.h>

static struct lines s;
static struct prng g;

static void begin(enum lines_policy policy, uint64_t entries_max, uint64_t bytes_max)
{
    lines_init(&s, &(struct lines_options){.hash_key = 3, .entries_max = entries_max, .bytes_max = bytes_max, .policy = policy});
    prng_init(&g, 1);
}

static void end(void)
{
    lines_check(&s);
    lines_fini(&s);
}

static slice_t name(uint32_t k)
{
    static char text[32];
    int n = snprintf(text, sizeof text, "key:%u", k);
    return slice_of(text, (size_t)n);
}

static uint32_t number(const struct line *l)
{
    char text[32] = {0};
    memcpy(text, line_key(l).ptr, l->key_len);
    return (uint32_t)strtoul(text + 4, NULL, 10);
}

static void trim(const struct line *keep)
{
    struct line *l;
    while (lines_are_too_many(&s, 0, 0) && (l = lines_victim(&s, keep)) != NULL) {
        lines_remove(&s, l);
    }
}

/* True: a hit. */
static bool use(uint32_t k)
{
    struct line *l = lines_find(&s, k % 7, name(k));
    if (l != NULL) {
        lines_touch(&s, l);
        return true;
    }
    trim(lines_insert(&s, k % 7, name(k)));
    return false;
}

enum { MODEL = 20 };

/* keys[0] was used last. */
struct model { uint32_t keys[MODEL + 1], n; };

static bool model_use(struct model *m, uint32_t k)
{
    uint32_t at = 0;
    while (at < m->n && m->keys[at] != k) {
        at++;
    }
    bool hit = at < m->n;
    memmove(&m->keys[1], &m->keys[0], at * sizeof m->keys[0]);
    m->keys[0] = k;
    m->n += !hit;
    m->n = m->n > MODEL ? MODEL : m->n;
    return hit;
}

static void test_lru_is_exact(void **state)
{
    (void)state;
    struct model m = {0};
    begin(LINES_LRU, MODEL, 0);
    for (int i = 0; i < 50000; i++) {
        uint32_t k = (uint32_t)prng_below(&g, 2 * MODEL);
        assert_true(use(k) == model_use(&m, k));
        uint32_t at = 0;
        for (const struct line *l = lines_next(&s, NULL); l != NULL; l = lines_next(&s, l)) {
            assert_int_equal(number(l), m.keys[at++]);
        }
        assert_int_equal(at, m.n);
    }
    end();
}

static void test_bytes_bound(void **state)
{
    (void)state;
    uint8_t value[500] = {0};
    begin(LINES_LRU, 0, 20000);
    for (uint32_t k = 0; k < 2000; k++) {
        struct line *l = lines_insert(&s, 1, name(k));
        lines_put(&s, l, &(struct cache_item){.exists = true, .value = slice_of(value, prng_below(&g, sizeof value))});
        trim(l);
        assert_true(s.bytes <= 20000);
        assert_true(lines_find(&s, 1, name(k)) == l && lines_find(&s, 2, name(k)) == NULL);
    }
    assert_true(s.bytes > 19000);
    lines_put(&s, lines_find(&s, 1, name(1999)), &(struct cache_item){.exists = true, .value = slice_of(value, sizeof value)});
    end();
}

static void test_pinned_lines_stay(void **state)
{
    (void)state;
    for (int policy = 0; policy < 2; policy++) {
        begin((enum lines_policy)policy, 100, 0);
        for (uint32_t k = 0; k < 50; k++) {
            use(k);
            lines_find(&s, k % 7, name(k))->bits |= LINE_PINNED;
        }
        for (uint32_t k = 50; k < 5000; k++) {
            use(k);
        }
        assert_int_equal(s.n, 100);
        for (uint32_t k = 0; k < 50; k++) {
            assert_non_null(lines_find(&s, k % 7, name(k)));
        }
        for (struct line *l = lines_next(&s, NULL); l != NULL; l = lines_next(&s, l)) {
            l->bits |= LINE_PINNED;
        }
        assert_null(lines_victim(&s, NULL));
        end();
    }
}

static void assert_item(const struct line *l, const struct cache_item *x)
{
    struct cache_item it = lines_item(l);
    assert_true(it.exists == x->exists && slice_eq(it.value, x->value) && it.expire_ms == x->expire_ms);
    assert_true(slice_eq(it.guard, x->guard) && it.token == x->token);
}

/* Any item after any other, taken from outside or from the line itself. */
static void test_items(void **state)
{
    (void)state;
    uint8_t bytes[64];
    begin(LINES_LRU, 10, 0);
    struct line *l = lines_insert(&s, 1, SLICE_LIT("key"));
    assert_false(l->bits & LINE_HELD);
    for (int i = 0; i < 20000; i++) {
        for (size_t b = 0; b < sizeof bytes; b++) {
            bytes[b] = (uint8_t)prng_u64(&g);
        }
        struct cache_item it = {.exists = prng_below(&g, 4) != 0};
        it.value = it.exists ? slice_of(bytes, prng_below(&g, 4)) : SLICE_NONE;
        it.expire_ms = it.exists ? prng_below(&g, 3) : 0;
        it.guard = prng_below(&g, 2) ? slice_of(bytes + 10, 1 + prng_below(&g, 3)) : SLICE_NONE;
        it.token = it.guard.len > 0 ? prng_u64(&g) : 0;
        lines_put(&s, l, &it);
        assert_item(l, &it);
        assert_true((l->bits & LINE_HELD) == (it.exists || it.guard.len > 0 ? LINE_HELD : 0));
        struct cache_item again = lines_item(l);
        again.expire_ms = again.exists ? prng_below(&g, 3) : 0;
        it.expire_ms = again.expire_ms;
        lines_put(&s, l, &again);
        assert_item(l, &it);
        lines_check(&s);
        assert_true(slice_eq(line_key(l), SLICE_LIT("key")));
    }
    lines_drop(&s, l);
    assert_false(l->bits & LINE_HELD);
    end();
}

static void test_many(void **state)
{
    (void)state;
    enum { MANY = 40000 };
    begin(LINES_S3FIFO, 0, UINT64_MAX);
    for (int round = 0; round < 2; round++) {
        for (uint32_t k = 0; k < MANY; k++) {
            assert_false(use(k));
        }
        lines_check(&s);
        for (uint32_t k = 0; k < MANY; k++) {
            struct line *l = lines_find(&s, k % 7, name(k));
            assert_non_null(l);
            if (k % 50) {
                lines_remove(&s, l);
            }
        }
        lines_check(&s);
        for (uint32_t k = 0; k < MANY; k++) {
            struct line *l = lines_find(&s, k % 7, name(k));
            assert_true((l != NULL) == (k % 50 == 0));
            if (l != NULL) {
                lines_remove(&s, l);
            }
        }
        assert_true(s.n == 0 && s.bytes == 0);
    }
    end();
}

static size_t taken(void)
{
    size_t sum = (size_t)s.n_buckets * sizeof(uint32_t);
    for (int i = 0; i < SLAB_CLASSES; i++) {
        sum += s.slab.classes[i].bytes;
    }
    return sum + (s.n_chunks - s.chunks_gone) * (size_t)512 * sizeof(struct line);
}

/* Lines with values of all lengths, that change, come and go in any order: beside what is counted little is taken, and all of it goes back. */
static void test_memory(void **state)
{
    (void)state;
    enum { MANY = 60000 };
    static uint32_t sizes[MANY];
    static uint8_t value[900];
    begin(LINES_LRU, 0, UINT64_MAX);
    memset(sizes, 0, sizeof sizes);
    for (uint32_t i = 0; i < 6 * MANY; i++) {
        uint32_t k = (uint32_t)prng_below(&g, MANY), size = 1 + (uint32_t)prng_below(&g, prng_below(&g, 20) ? 60 : sizeof value);
        struct line *l = lines_find(&s, 1, name(k));
        assert_true((l != NULL) == (sizes[k] > 0));
        if (l != NULL) {
            assert_int_equal(lines_item(l).value.len, sizes[k]);
            assert_int_equal(lines_item(l).value.ptr[sizes[k] - 1], (uint8_t)k);
        }
        bool goes = l != NULL && prng_below(&g, 4) == 0;
        if (goes) {
            lines_remove(&s, l);
        } else {
            memset(value, (uint8_t)k, size);
            lines_put(&s, l != NULL ? l : lines_insert(&s, 1, name(k)), &(struct cache_item){.exists = true, .value = slice_of(value, size)});
        }
        sizes[k] = goes ? 0 : size;
        if (i % 20000 == 0) {
            lines_check(&s);
        }
    }
    assert_true(taken() > s.bytes - s.bytes / 10 && taken() < s.bytes + s.bytes / 10);
    for (uint32_t i = 0, k = 0; i < MANY; i++, k = (k + 7919) % MANY) {
        struct line *l = lines_find(&s, 1, name(k));
        if (l != NULL) {
            lines_remove(&s, l);
        }
    }
    assert_true(s.n == 0 && s.bytes == 0 && taken() < 1 << 20 && s.n_buckets == 1024);
    end();
}

/* Hits among `hot` keys that are used in turn with a scan of keys that never come back. */
static uint32_t hits_beside_scan(enum lines_policy policy)
{
    enum { HOT = 500, SIZE = 1000 };
    uint32_t hits = 0;
    begin(policy, SIZE, 0);
    for (uint32_t i = 0; i < 5000; i++) {
        use((uint32_t)prng_below(&g, HOT));
    }
    for (uint32_t i = 0; i < 20000; i++) {
        use(1000000 + i);
        if (i % 4 == 0) {
            hits += use((uint32_t)prng_below(&g, HOT));
        }
    }
    end();
    return hits * 100 / 5000;
}

static void test_scan_passes_by(void **state)
{
    (void)state;
    assert_true(hits_beside_scan(LINES_S3FIFO) >= 98);
    assert_true(hits_beside_scan(LINES_LRU) < 50);
}

/* What went unused and comes back soon is worth keeping at once. */
static void test_ghosts(void **state)
{
    (void)state;
    begin(LINES_S3FIFO, 100, 0);
    for (uint32_t k = 0; k < 110; k++) {
        use(k);
    }
    assert_null(lines_find(&s, 0, name(0)));
    use(0);
    assert_false(lines_find(&s, 0, name(0))->bits & LINE_SMALL);
    use(5000);
    assert_true(lines_find(&s, 5000 % 7, name(5000))->bits & LINE_SMALL);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lru_is_exact), cmocka_unit_test(test_bytes_bound), cmocka_unit_test(test_pinned_lines_stay),
        cmocka_unit_test(test_items),        cmocka_unit_test(test_many),        cmocka_unit_test(test_scan_passes_by),
        cmocka_unit_test(test_ghosts),       cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
