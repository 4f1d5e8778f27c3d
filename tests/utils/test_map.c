/* The hash map against an array of flags, through growth, shrinking and walks in the middle of both. */
#include "test.h"

#include "utils/hash.h"
#include "utils/list.h"
#include "utils/map.h"
#include "utils/prng.h"

enum { ITEMS = 3000 };

struct item {
    struct map_node node;
    uint32_t key;
    bool in;
    bool walked;
};

static struct item items[ITEMS];
static struct map map;

static bool same_key(const struct map_node *n, const void *key)
{
    return CONTAINER_OF(n, const struct item, node)->key == *(const uint32_t *)key;
}

/* Few distinct hashes when `collide`: equality decides, not the hash. */
static uint64_t hash_of(uint32_t key, bool collide)
{
    return collide ? key % 7 : hash_u64(key);
}

static void walk(void)
{
    size_t seen = 0, want = 0;
    for (struct map_node *n = map_first(&map); n != NULL; n = map_next(&map, n)) {
        struct item *it = CONTAINER_OF(n, struct item, node);
        assert_true(it->in && !it->walked);
        it->walked = true;
        seen++;
    }
    for (int i = 0; i < ITEMS; i++) {
        want += items[i].in;
        items[i].walked = false;
    }
    assert_int_equal(seen, want);
    assert_int_equal(map.count, want);
}

static void churn(bool collide, uint64_t seed)
{
    struct prng g;
    prng_init(&g, seed);
    map_init(&map);
    for (uint32_t i = 0; i < ITEMS; i++) {
        items[i] = (struct item){.key = i};
    }
    uint32_t steps = collide ? 8000 : 60000;
    for (uint32_t step = 0; step < steps; step++) {
        bool growing = step / (steps / 4) % 2 == 0;
        uint32_t key = (uint32_t)prng_below(&g, ITEMS);
        struct map_node *found = map_find(&map, hash_of(key, collide), &key, same_key);
        assert_ptr_equal(found, items[key].in ? &items[key].node : NULL);
        if (found == NULL && (growing || prng_below(&g, 4) == 0)) {
            map_insert(&map, &items[key].node, hash_of(key, collide));
            items[key].in = true;
        } else if (found != NULL && (!growing || prng_below(&g, 4) == 0)) {
            map_remove(&map, found);
            items[key].in = false;
        }
        if (step % 101 == 0) {
            walk();
        }
    }
    walk();
    map_fini(&map);
}

static void behaves_as_a_set(void **state)
{
    (void)state;
    churn(false, 1);
    churn(false, 2);
}

static void survives_collisions(void **state)
{
    (void)state;
    churn(true, 3);
}

static void an_empty_map_finds_nothing(void **state)
{
    (void)state;
    uint32_t key = 1;
    map_init(&map);
    assert_null(map_find(&map, 1, &key, same_key));
    assert_null(map_first(&map));
    map_fini(&map);
}

static void memory_follows_the_count_down(void **state)
{
    (void)state;
    map_init(&map);
    for (uint32_t i = 0; i < ITEMS; i++) {
        items[i] = (struct item){.key = i};
        map_insert(&map, &items[i].node, hash_u64(i));
    }
    for (uint32_t i = 0; i < ITEMS; i++) {
        map_remove(&map, &items[i].node);
    }
    assert_true(map.now.mask < 256);
    map_fini(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_as_a_set),
        cmocka_unit_test(survives_collisions),
        cmocka_unit_test(an_empty_map_finds_nothing),
        cmocka_unit_test(memory_follows_the_count_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
