/* The slab against a list of what was taken from it: contents stay, what it says a block costs is what it takes, and pages go back. */
#include "test.h"

#include "utils/prng.h"
#include "utils/slab.h"

enum { BLOCKS = 4000 };

struct block { uint8_t *at; size_t size; uint8_t mark; };

static struct slab slab;
static struct block blocks[BLOCKS];
static uint32_t n_blocks;
static struct prng g;

static void begin(uint64_t seed)
{
    slab_init(&slab);
    prng_init(&g, seed);
    n_blocks = 0;
}

static size_t pages_bytes(void)
{
    size_t sum = 0;
    for (int i = 0; i < SLAB_CLASSES; i++) {
        sum += slab.classes[i].bytes;
    }
    return sum;
}

static void take(size_t size)
{
    struct block *b = &blocks[n_blocks++];
    *b = (struct block){slab_alloc(&slab, size), size, (uint8_t)prng_u64(&g)};
    if (size > 0) {
        memset(b->at, b->mark, size);
    }
}

static void give(uint32_t i)
{
    const struct block *b = &blocks[i];
    for (size_t at = 0; at < b->size; at++) {
        assert_int_equal(b->at[at], b->mark);
    }
    slab_free(&slab, b->at, b->size);
    blocks[i] = blocks[--n_blocks];
}

static void give_all(void)
{
    while (n_blocks > 0) {
        give((uint32_t)prng_below(&g, n_blocks));
    }
}

static void end(void)
{
    give_all();
    for (int i = 0; i < SLAB_CLASSES; i++) {
        assert_true(slab.classes[i].bytes <= 16384); /* one page */
    }
    slab_fini(&slab);
}

/* Sizes of all classes, and of malloc's; the number of blocks goes up and down. */
static void test_random(void **state)
{
    (void)state;
    static const size_t most[] = {40, 300, SLAB_BLOCK_MAX + 200};
    for (uint32_t round = 0; round < 6; round++) {
        begin(round);
        for (uint32_t i = 0; i < 60000; i++) {
            bool growing = i / 10000 % 2 == 0;
            if (n_blocks < BLOCKS && (n_blocks == 0 || prng_below(&g, 3) < (growing ? 2 : 1))) {
                take(prng_below(&g, most[round % 3] + 1));
            } else {
                give((uint32_t)prng_below(&g, n_blocks));
            }
        }
        end();
    }
}

/* Each size up to the largest and one beyond: all its bytes are the block's own. */
static void test_sizes(void **state)
{
    (void)state;
    begin(1);
    for (size_t size = 0; size <= SLAB_BLOCK_MAX + 1; size++) {
        take(size);
        take(size);
        take(size);
        assert_true(slab_cost(size) >= size);
        assert_true(size > 128 || slab_cost(size) <= size + 16);
        assert_true(size <= 128 || slab_cost(size) <= size + size / 16 + 24);
    }
    end();
}

static void test_cost(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 17, 48, 100, 250, 1000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        begin(s);
        while (n_blocks < BLOCKS) {
            take(sizes[s]);
        }
        size_t told = BLOCKS * slab_cost(sizes[s]);
        assert_true(pages_bytes() >= told && pages_bytes() <= told + told / 4 + 1024);
        end();
    }
}

static void test_room_is_used_again(void **state)
{
    (void)state;
    begin(1);
    while (n_blocks < BLOCKS) {
        take(30);
    }
    size_t full = pages_bytes();
    for (int round = 0; round < 20; round++) {
        while (n_blocks > BLOCKS / 10) {
            give((uint32_t)prng_below(&g, n_blocks));
        }
        while (n_blocks < BLOCKS) {
            take(30);
        }
        assert_true(pages_bytes() <= full + full / 4);
    }
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_cost),
        cmocka_unit_test(test_room_is_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
