/* The ring spreads and moves little; placements keep their bounds for every size of cluster. */
#include "test.h"

#include "utils/hash.h"
#include "utils/hash_ring.h"

enum { NODES_MAX = 64, GROUPS_MAX = 1024, KEYS = 20000 };

static uint32_t first[GROUPS_MAX * 16], second[GROUPS_MAX * 16];

static void ids_from(uint32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = i + 1;
    }
}

static slice_t key_of(uint32_t i, char *text)
{
    return slice_of(text, (size_t)snprintf(text, 32, "key:%u", i));
}

static void keys_spread_over_the_nodes(void **state)
{
    (void)state;
    uint32_t ids[9], load[10] = {0};
    char text[32];
    struct hash_ring r;
    ids_from(ids, 9);
    ring_init(&r, ids, 9, 256);
    for (uint32_t i = 0; i < KEYS; i++) {
        load[ring_owner(&r, key_of(i, text))]++;
    }
    for (int id = 1; id <= 9; id++) {
        assert_in_range(load[id], KEYS / 9 * 7 / 10, KEYS / 9 * 13 / 10);
    }
    ring_fini(&r);
}

static void a_new_node_takes_only_its_share(void **state)
{
    (void)state;
    uint32_t ids[10], moved = 0;
    char text[32];
    struct hash_ring nine, ten;
    ids_from(ids, 10);
    ring_init(&nine, ids, 9, 256);
    ring_init(&ten, ids, 10, 256);
    for (uint32_t i = 0; i < KEYS; i++) {
        uint32_t was = ring_owner(&nine, key_of(i, text)), is = ring_owner(&ten, key_of(i, text));
        if (was != is) {
            assert_int_equal(is, 10);
            moved++;
        }
    }
    assert_in_range(moved, KEYS / 10 * 7 / 10, KEYS / 10 * 13 / 10);
    ring_fini(&nine);
    ring_fini(&ten);
}

static void replicas_are_distinct_and_begin_with_the_owner(void **state)
{
    (void)state;
    uint32_t ids[5], out[8];
    char text[32];
    struct hash_ring r;
    ids_from(ids, 5);
    ring_init(&r, ids, 5, 64);
    for (uint32_t i = 0; i < 2000; i++) {
        assert_int_equal(ring_replicas(&r, key_of(i, text), 3, out), 3);
        assert_int_equal(out[0], ring_owner(&r, key_of(i, text)));
        assert_true(out[0] != out[1] && out[1] != out[2] && out[0] != out[2]);
    }
    assert_int_equal(ring_replicas(&r, key_of(1, text), 8, out), 5);
    ring_fini(&r);
}

static uint32_t ceil_bound(uint32_t total, uint32_t n)
{
    return (total * 5 + 4 * n - 1) / (4 * n);
}

static void placement_is_bounded(uint32_t n, uint32_t groups, uint32_t replicas, uint32_t virtual_nodes)
{
    uint32_t ids[NODES_MAX], held[NODES_MAX + 1] = {0}, leads[NODES_MAX + 1] = {0};
    ids_from(ids, n);
    ring_place(ids, n, virtual_nodes, groups, replicas, first);
    for (uint32_t g = 0; g < groups; g++) {
        leads[first[g * replicas]]++;
        for (uint32_t i = 0; i < replicas; i++) {
            held[first[g * replicas + i]]++;
            for (uint32_t j = 0; j < i; j++) {
                assert_true(first[g * replicas + i] != first[g * replicas + j]);
            }
        }
    }
    for (uint32_t id = 1; id <= n; id++) {
        assert_true(held[id] <= ceil_bound(groups * replicas, n));
        assert_true(leads[id] <= ceil_bound(groups, n));
    }
}

static void no_node_is_loaded_beyond_the_bound(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 12; n++) {
        for (uint32_t groups = 1; groups <= 40; groups++) {
            for (uint32_t replicas = 1; replicas <= n && replicas <= 7; replicas++) {
                placement_is_bounded(n, groups, replicas, 128);
                placement_is_bounded(n, groups, replicas, 2); /* lopsided: room runs out on some nodes long before others */
            }
        }
    }
    placement_is_bounded(64, 1024, 3, 128);
    placement_is_bounded(50, 1000, 5, 128);
    placement_is_bounded(17, 1023, 16, 128);
}

static void three_nodes_lead_two_groups_each(void **state)
{
    (void)state;
    uint32_t ids[3], leads[4] = {0};
    ids_from(ids, 3);
    ring_place(ids, 3, 128, 6, 3, first);
    for (uint32_t g = 0; g < 6; g++) {
        leads[first[g * 3]]++;
    }
    assert_int_equal(leads[1], 2);
    assert_int_equal(leads[2], 2);
    assert_int_equal(leads[3], 2);
}

/* Replicas of `a` that are not in the same group's row of `b`. */
static uint32_t count_moved(const uint32_t *a, const uint32_t *b, uint32_t groups, uint32_t replicas)
{
    uint32_t moved = 0;
    for (uint32_t g = 0; g < groups; g++) {
        for (uint32_t i = 0; i < replicas; i++) {
            bool kept = false;
            for (uint32_t j = 0; j < replicas; j++) {
                kept |= a[g * replicas + i] == b[g * replicas + j];
            }
            moved += !kept;
        }
    }
    return moved;
}

static void a_change_of_members_moves_about_one_nth(void **state)
{
    (void)state;
    static const struct { uint32_t n, groups, replicas; } cases[] = {{4, 40, 3}, {9, 180, 3}, {20, 400, 3}, {50, 1000, 3}, {50, 1000, 5}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        uint32_t ids[NODES_MAX], n = cases[c].n, groups = cases[c].groups, replicas = cases[c].replicas;
        ids_from(ids, n + 1);
        ring_place(ids, n, 128, groups, replicas, first);
        ring_place(ids, n + 1, 128, groups, replicas, second);
        uint32_t moved = count_moved(first, second, groups, replicas), share = groups * replicas / (n + 1);
        print_message("%u -> %u nodes, %u groups x %u: %u of %u replicas move, 1/n is %u\n", n, n + 1, groups, replicas, moved,
                      groups * replicas, share);
        assert_true(moved <= share * 5 / 2 + replicas);
    }
}

static void the_order_of_ids_does_not_matter(void **state)
{
    (void)state;
    const uint32_t up[] = {1, 2, 3, 7, 10400}, down[] = {10400, 7, 3, 2, 1};
    ring_place(up, 5, 128, 10, 3, first);
    ring_place(down, 5, 128, 10, 3, second);
    assert_memory_equal(first, second, 10 * 3 * sizeof first[0]);
    for (uint32_t g = 0; g < 10; g++) {
        uint32_t row[3];
        ring_place_group(up, 5, 128, 10, 3, g, row);
        assert_memory_equal(row, &first[g * 3], sizeof row);
    }
}

/* A placement is on disk in other words (configurations); a change of these rows would move every cluster's data. */
static void the_placement_of_a_small_cluster_is_pinned(void **state)
{
    (void)state;
    static const uint32_t ids[] = {1, 2, 3, 4, 5};
    static const uint32_t rows[4][3] = {{4, 5, 2}, {2, 1, 3}, {1, 5, 4}, {5, 4, 1}};
    ring_place(ids, 5, 128, 4, 3, first);
    assert_memory_equal(first, rows, sizeof rows);
}

static void slots_and_names_have_fixed_groups(void **state)
{
    (void)state;
    uint32_t load[7] = {0}, last = 0;
    for (uint32_t slot = 0; slot < RING_SLOTS; slot++) {
        uint32_t g = slot_group((uint16_t)slot, 7);
        assert_true(g == last || g == last + 1);
        last = g;
        load[g]++;
    }
    for (int g = 0; g < 7; g++) {
        assert_in_range(load[g], RING_SLOTS / 7, RING_SLOTS / 7 + 1);
    }
    assert_int_equal(lock_group(SLICE_LIT("orders"), 6), 0);
    assert_int_equal(lock_group(SLICE_LIT("a{}"), 6), 0);
    assert_int_equal(lock_group(SLICE_LIT("x{orders}"), 6), name_group(SLICE_LIT("orders"), 6));
    assert_int_equal(name_group(SLICE_LIT("123456789"), 16384), 0x31c3);
    assert_int_equal(slot_group(RING_SLOTS - 1, 1024), 1023);
    assert_int_equal(slot_group(RING_SLOTS - 1, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_spread_over_the_nodes),
        cmocka_unit_test(a_new_node_takes_only_its_share),
        cmocka_unit_test(replicas_are_distinct_and_begin_with_the_owner),
        cmocka_unit_test(no_node_is_loaded_beyond_the_bound),
        cmocka_unit_test(three_nodes_lead_two_groups_each),
        cmocka_unit_test(a_change_of_members_moves_about_one_nth),
        cmocka_unit_test(the_order_of_ids_does_not_matter),
        cmocka_unit_test(the_placement_of_a_small_cluster_is_pinned),
        cmocka_unit_test(slots_and_names_have_fixed_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
