/* How evenly work is spread, in numbers: keys over the partitions of a topic, partitions over groups, groups over nodes; and what one more
 * moves. max/mean is the load of the fullest by that of the average. Prints what it measures, and holds it to bounds. */
#include "topic_world.h"

#include "../utils/test.h"
#include "utils/hash_ring.h"

#include <math.h>

enum { KEYS = 200000, POINTS = 128, SIZES = 3, REPLICAS = 3, GROUPS = 1024 };

static const uint32_t sizes[SIZES] = {3, 10, 50};

static uint32_t owner_of(const struct hash_ring *r, uint32_t key)
{
    char text[32];
    return ring_owner(r, slice_of(text, (size_t)snprintf(text, sizeof text, "customer-%u", key)));
}

static struct hash_ring ring_of(uint32_t partitions)
{
    uint32_t ids[64];
    struct hash_ring r;
    for (uint32_t i = 0; i < partitions; i++) {
        ids[i] = i;
    }
    ring_init(&r, ids, partitions, POINTS);
    return r;
}

/* A standard deviation of the share is about 1/sqrt(POINTS) of it; the fullest of 50 is 2.2 above the mean. */
static void keys_spread_over_partitions(void **state)
{
    (void)state;
    for (int s = 0; s < SIZES; s++) {
        uint32_t n = sizes[s], load[64] = {0}, most = 0, moved = 0;
        struct hash_ring now = ring_of(n), more = ring_of(n + 1);
        for (uint32_t k = 0; k < KEYS; k++) {
            uint32_t is = owner_of(&now, k), later = owner_of(&more, k);
            most = ++load[is] > most ? load[is] : most;
            assert_true(is == later || later == n);
            moved += is != later;
        }
        double ratio = (double)most * n / KEYS, share = (double)moved / KEYS;
        printf("  %2u partitions: keys max/mean %.3f; one more moves %.4f of the keys (1/n %.4f)\n", n, ratio, share, 1.0 / (n + 1));
        assert_true(ratio < 1 + 3.5 / sqrt(POINTS));
        assert_true(share > 0.7 / (n + 1) && share < 1.3 / (n + 1));
        ring_fini(&now);
        ring_fini(&more);
    }
}

static uint32_t place_on(uint32_t n, uint32_t *rows)
{
    uint32_t ids[64], load[65] = {0}, most = 0;
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = i + 1;
    }
    ring_place(ids, n, POINTS, GROUPS, REPLICAS, rows);
    for (uint32_t i = 0; i < GROUPS * REPLICAS; i++) {
        most = ++load[rows[i]] > most ? load[rows[i]] : most;
    }
    return most;
}

static bool holds(const uint32_t *row, uint32_t node)
{
    return row[0] == node || row[1] == node || row[2] == node;
}

static void groups_spread_over_nodes(void **state)
{
    (void)state;
    static uint32_t now[GROUPS * REPLICAS], later[GROUPS * REPLICAS];
    for (int s = 0; s < SIZES; s++) {
        uint32_t n = sizes[s], moved = 0, led[65] = {0}, most_led = 0;
        double ratio = (double)place_on(n, now) * n / (GROUPS * REPLICAS);
        place_on(n + 1, later);
        for (uint32_t g = 0; g < GROUPS; g++) {
            most_led = ++led[now[g * REPLICAS]] > most_led ? led[now[g * REPLICAS]] : most_led;
            for (uint32_t i = 0; i < REPLICAS; i++) {
                moved += !holds(&now[g * REPLICAS], later[g * REPLICAS + i]);
            }
        }
        double share = (double)moved / (GROUPS * REPLICAS), leads = (double)most_led * n / GROUPS;
        printf("  %2u nodes: groups max/mean %.3f, led %.3f; one more moves %.4f of the replicas (1/n %.4f)\n", n, ratio, leads, share, 1.0 / (n + 1));
        assert_true(ratio <= 1.25 + (double)n / (GROUPS * REPLICAS) && leads <= 1.25 + (double)n / GROUPS);
        assert_true(share > 0.7 / (n + 1) && share < 2.0 / (n + 1));
    }
}

/* No topic alone, nor many small ones together, load one group. */
static void partitions_spread_over_groups(void **state)
{
    (void)state;
    uint32_t out[64];
    for (int s = 0; s < SIZES; s++) {
        uint32_t n = sizes[s], total[64] = {0}, most = 0;
        for (uint32_t t = 0; t < 3000; t++) {
            char name[32];
            uint32_t load[64] = {0};
            topic_place(slice_of(name, (size_t)snprintf(name, sizeof name, "topic-%u", t)), 8, n, out);
            for (uint32_t p = 0; p < 8; p++) {
                assert_true(out[p] < n && ++load[out[p]] <= (8 + n - 1) / n);
                most = ++total[out[p]] > most ? total[out[p]] : most;
            }
        }
        double ratio = (double)most * n / (3000 * 8);
        printf("  %2u groups: partitions of 3000 topics max/mean %.3f\n", n, ratio);
        assert_true(ratio < 1.2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_spread_over_partitions),
        cmocka_unit_test(groups_spread_over_nodes),
        cmocka_unit_test(partitions_spread_over_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
