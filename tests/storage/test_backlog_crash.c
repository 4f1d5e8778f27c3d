/* The machine loses power before every single file operation of a workload that appends to backlog files, makes snapshots that need them,
 * receives snapshots with theirs, and removes what is not needed; then it recovers. What it finds must be the snapshot that was durable or the
 * one that was being made, all of the files that this one names, and no other file (W12). It loses power again during that recovery.
 *
 * Numbers and lengths are drawn so that received files meet longer and shorter ones of the same number. */
#include "backlog_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INDEX_MAX = 200, FILES = 6, SEEDS = 3, TERM = 1 };

struct run {
    struct files_mem *disk;
    struct store *store;
    struct prng g;
    uint64_t index;                                  /* the last that was given to a snapshot */
    struct backlog_list lists[GROUPS][INDEX_MAX];
    uint64_t durable[GROUPS], attempted[GROUPS];     /* snapshots */
    uint64_t length[GROUPS][FILES];                  /* as far as this process wrote or received */
    bool ours[GROUPS][FILES];                        /* may be appended to */
    uint64_t crashes, received, longer;
};

static void check_recovered(const struct run *w, struct files_mem *disk, struct store *s, const struct store_recovery *r)
{
    for (uint32_t g = 0; g < GROUPS; g++) {
        uint64_t at = r->groups[g].snapshot_index;
        assert_true(at == w->durable[g] || at == w->attempted[g]);
        if (at > 0 && (w->crashes + g) % GROUPS == 0) { /* reading it takes megabytes */
            assert_true(snapshot_is(s, g, at));
        }
        for (size_t i = 0; i < w->lists[g][at].n; i++) {
            if (!backlog_is(s, g, w->lists[g][at].v[i].file, w->lists[g][at].v[i].bytes)) {
                fail_msg("group %u, snapshot %lu: the first %lu bytes of file %lu are not there", g, at, w->lists[g][at].v[i].bytes,
                         w->lists[g][at].v[i].file);
            }
        }
        assert_int_equal(backlog_count(disk, g), w->lists[g][at].n);
    }
    for (size_t i = 0; files_mem_name(disk, i) != NULL; i++) {
        assert_null(strstr(files_mem_name(disk, i), "snap") != NULL ? strstr(files_mem_name(disk, i), ".tmp") : NULL);
        assert_null(strstr(files_mem_name(disk, i), "back") != NULL ? strstr(files_mem_name(disk, i), ".tmp") : NULL);
    }
}

struct second {
    uint64_t at, n;
    struct files_mem *disk, *taken;
};

static void take_second(void *arg, enum files_mem_op op, const char *path)
{
    struct second *c = arg;
    (void)op;
    (void)path;
    if (c->n++ == c->at) {
        c->taken = files_mem_clone(c->disk);
    }
}

static struct files_mem *recover(const struct run *w, struct files_mem *disk, struct prng *g)
{
    struct second c = {.at = prng_below(g, 60), .disk = disk};
    struct store_recovery r;
    files_mem_on_op(disk, take_second, &c);
    struct store *s = fixture_open(disk, &r);
    files_mem_on_op(disk, NULL, NULL);
    check_recovered(w, disk, s, &r);
    store_recovered_free(&r);
    store_abandon(s);
    return c.taken;
}

static void lose_power(void *arg, enum files_mem_op op, const char *path)
{
    struct run *w = arg;
    (void)path;
    if (op == FILES_MEM_PREAD || op == FILES_MEM_LIST || op == FILES_MEM_OPEN) {
        return;
    }
    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        struct prng g;
        prng_init(&g, w->crashes * 1000 + seed);
        struct files_mem *disk = files_mem_clone(w->disk);
        files_mem_crash(disk, &g);
        struct files_mem *second = recover(w, disk, &g);
        files_mem_free(disk);
        if (second != NULL) {
            files_mem_crash(second, &g);
            files_mem_free(recover(w, second, &g));
            files_mem_free(second);
        }
    }
    w->crashes++;
}

static enum store_status step_write(struct run *w, uint32_t g)
{
    size_t f = (size_t)prng_below(&w->g, FILES);
    uint64_t from = w->length[g][f], to = from + BACKLOG_ALIGN * (1 + prng_below(&w->g, 4));
    if (!w->ours[g][f] && from > 0) {
        return STORE_OK;
    }
    enum store_status st = backlog_put(w->store, g, f + 1, from, to);
    if (st == STORE_OK) {
        w->length[g][f] = to;
        w->ours[g][f] = true;
    }
    return st;
}

/* Some of the files, as far as their last chunk goes; of another node's there may be less than here, or more. */
static void draw_list(struct run *w, uint32_t g, bool from_peer, struct backlog_list *l)
{
    l->n = 0;
    for (size_t f = 0; f < FILES; f++) {
        uint64_t have = w->length[g][f];
        uint64_t bytes = from_peer ? 1 + prng_below(&w->g, 3000) : w->ours[g][f] && have > 0 ? have - prng_below(&w->g, 500) : have;
        if (bytes > 0 && prng_below(&w->g, 3) > 0) {
            l->v[l->n].file = f + 1;
            l->v[l->n++].bytes = bytes;
        }
    }
}

static enum store_status step_snapshot(struct run *w, uint32_t g)
{
    uint64_t index = ++w->index;
    draw_list(w, g, false, &w->lists[g][index]);
    w->attempted[g] = index;
    enum store_status st = backlog_snapshot(w->store, g, index, TERM, &w->lists[g][index]);
    w->durable[g] = st == STORE_OK ? index : w->durable[g];
    return st;
}

static enum store_status step_receive(struct run *w, uint32_t g)
{
    uint64_t index = ++w->index;
    struct backlog_list *l = &w->lists[g][index];
    struct files_mem *disk = files_mem_new();
    draw_list(w, g, true, l);
    struct store *peer = backlog_peer(disk, g, index, TERM, l, 0);
    w->attempted[g] = index;
    enum store_status st = backlog_transfer(peer, w->store, g, index, TERM, 2500, -1);
    if (st == STORE_OK) {
        w->durable[g] = index;
        w->received++;
        for (size_t i = 0; i < l->n; i++) {
            size_t f = (size_t)l->v[i].file - 1;
            w->longer += w->length[g][f] > l->v[i].bytes;
            w->ours[g][f] = w->length[g][f] > l->v[i].bytes && w->ours[g][f];
            w->length[g][f] = w->length[g][f] > l->v[i].bytes ? w->length[g][f] : l->v[i].bytes;
        }
    }
    store_abandon(peer);
    files_mem_free(disk);
    return st;
}

static enum store_status step_keep(struct run *w, uint32_t g)
{
    uint64_t files[FILES];
    size_t n = 0;
    const struct backlog_list *l = &w->lists[g][w->durable[g]];
    for (size_t f = 0; f < FILES; f++) {
        bool needed = false;
        for (size_t i = 0; i < l->n; i++) {
            needed |= l->v[i].file == f + 1;
        }
        bool keep = prng_below(&w->g, 2) == 0;
        if (keep) {
            files[n++] = f + 1;
        } else if (!needed) {
            w->length[g][f] = 0; /* the same number again, with the same bytes: as if from another node */
        }
    }
    return store_backlog_keep(w->store, g, files, n);
}

static enum store_status step(struct run *w)
{
    uint32_t g = (uint32_t)prng_below(&w->g, GROUPS);
    uint64_t what = prng_below(&w->g, 10);
    return what < 5 ? step_write(w, g) : what < 7 ? step_snapshot(w, g) : what < 9 ? step_receive(w, g) : step_keep(w, g);
}

static void begin(struct run *w, uint64_t seed, bool crash)
{
    prng_init(&w->g, seed);
    w->disk = files_mem_new();
    w->store = fixture_open(w->disk, NULL);
    files_mem_on_op(w->disk, crash ? lose_power : NULL, w);
}

static void end(struct run *w)
{
    files_mem_free(w->disk);
    free(w);
}

static void test_power_loss_at_every_operation(void **state)
{
    (void)state;
    uint64_t crashes = 0, received = 0, longer = 0;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct run *w = calloc(1, sizeof *w);
        begin(w, seed, true);
        for (unsigned i = 0; i < 60; i++) {
            assert_int_equal(step(w), STORE_OK);
        }
        crashes += w->crashes;
        received += w->received;
        longer += w->longer;
        store_abandon(w->store);
        end(w);
    }
    printf("power lost at %lu operations, %lu snapshots received, %lu longer files met\n", crashes, received, longer);
    assert_true(crashes > 1000 && received > 20 && longer > 20);
}

/* After a failed operation the store answers FAILED, or FULL and goes on; what it called durable is there (W5, W8, W12). */
static void test_any_failing_operation(void **state)
{
    (void)state;
    uint64_t failed = 0, full = 0;
    for (uint64_t nth = 1; nth <= 370; nth++) {
        struct run *w = calloc(1, sizeof *w);
        struct store_recovery r;
        begin(w, nth, false);
        for (unsigned i = 0; i < 12; i++) {
            assert_int_equal(step(w), STORE_OK);
        }
        bool no_room = nth % 2 == 0;
        files_mem_fail(w->disk, FILES_MEM_OPS, nth % 37 + 1, no_room ? 28 : 5);
        enum store_status st = STORE_OK;
        for (unsigned i = 0; i < 12 && st == STORE_OK; i++) {
            st = step(w);
        }
        failed += st == STORE_FAILED;
        full += st == STORE_FULL;
        if (st == STORE_FAILED) {
            assert_int_equal(backlog_put(w->store, 0, 99, 0, 1), STORE_FAILED);
        } else if (st != STORE_OK) {
            assert_int_equal(st, STORE_FULL);
            for (unsigned i = 0; i < 12; i++) {
                assert_int_equal(step(w), STORE_OK);
            }
        }
        store_abandon(w->store);
        files_mem_crash(w->disk, &w->g);
        w->store = fixture_open(w->disk, &r);
        check_recovered(w, w->disk, w->store, &r);
        store_recovered_free(&r);
        store_abandon(w->store);
        end(w);
    }
    printf("%lu failed, %lu had no room\n", failed, full);
    assert_true(failed > 60 && full > 30);
}

/* The process dies and starts again, often: the newest snapshot and its files are there each time, and go on from there. */
static void test_process_death(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct run *w = calloc(1, sizeof *w);
        begin(w, seed, false);
        for (unsigned life = 0; life < 6; life++) {
            struct store_recovery r;
            for (unsigned i = 0; i < 15; i++) {
                assert_int_equal(step(w), STORE_OK);
            }
            store_abandon(w->store);
            files_mem_kill(w->disk);
            w->store = fixture_open(w->disk, &r);
            check_recovered(w, w->disk, w->store, &r);
            store_recovered_free(&r);
            memset(w->ours, 0, sizeof w->ours);
            memset(w->length, 0, sizeof w->length);
            for (uint32_t g = 0; g < GROUPS; g++) { /* what a new process knows is what the snapshot says */
                const struct backlog_list *l = &w->lists[g][w->durable[g]];
                for (size_t i = 0; i < l->n; i++) {
                    w->length[g][l->v[i].file - 1] = l->v[i].bytes;
                }
            }
        }
        store_abandon(w->store);
        end(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power_loss_at_every_operation),
        cmocka_unit_test(test_any_failing_operation),
        cmocka_unit_test(test_process_death),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
