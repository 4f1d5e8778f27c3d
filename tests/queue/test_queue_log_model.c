/* The message store against an array: thousands of random steps with a disk that fails, damages, forgets files that it may forget, and with
 * restarts from the newest durable snapshot. After each step every invariant is checked; what is needed is never gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "fake_backlog.h"
#include "utils/assert.h"
#include "utils/prng.h"

#include <stdio.h>
#include <stdlib.h>

enum { PARTS = 4, OFFSETS = 6000, STEPS = 6000, BODY_MAX = 300, TOPIC = 3 };

struct model_message { bool there, needed; uint16_t len; struct stream_id id; };
struct model_part { struct model_message m[OFFSETS]; uint64_t start, end; };

struct model {
    struct prng g;
    struct fake_backlog disk;
    struct model_part parts[PARTS];
    uint64_t incarnation;
    bool snapshot_waits;           /* until its writes are done */
    uint64_t snapshot_seq;
    struct buf table, files;       /* of it */
    uint64_t ends[PARTS];
    struct buf durable_table, durable_files;
    uint64_t durable_ends[PARTS];
    uint64_t lazy;                 /* how far consumers are behind */
    uint64_t gets, damaged, restarts, snapshots;
};

static struct model *M;

static bool model_needed(struct fake_backlog *b, uint64_t topic, uint32_t partition, uint64_t from, uint64_t to)
{
    (void)b;
    syn_assert(topic == TOPIC && partition < PARTS && from <= to && to < OFFSETS);
    for (uint64_t o = from; o <= to; o++) {
        if (M->parts[partition].m[o].needed) {
            return true;
        }
    }
    return false;
}

static struct queue_log_options sizes(void)
{
    return (struct queue_log_options){.file_base = ++M->incarnation * 1000, .chunk_bytes = 800, .young_bytes = 6000, .cache_bytes = 4000,
                                      .file_bytes = 8000};
}

static void body_of(uint32_t partition, uint64_t offset, uint16_t len, uint8_t *body)
{
    for (uint16_t i = 0; i < len; i++) {
        body[i] = (uint8_t)(offset * 31 + partition * 7 + i);
    }
}

static void put(uint32_t partition, uint64_t offset)
{
    const struct model_message *m = &M->parts[partition].m[offset];
    uint8_t body[BODY_MAX];
    body_of(partition, offset, m->len, body);
    struct queue_appended a = {.topic = TOPIC, .partition = partition, .offset = offset, .id = m->id, .flags = (uint8_t)(offset & 7),
                               .body = slice_of(body, m->len)};
    queue_log_append(M->disk.q, &a);
}

static void step_append(uint32_t partition)
{
    struct model_part *p = &M->parts[partition];
    for (uint64_t n = 1 + prng_below(&M->g, 6); n > 0 && p->end < OFFSETS; n--) {
        p->end += prng_chance(&M->g, 50000) ? prng_below(&M->g, 4) : 0;
        if (p->end >= OFFSETS) {
            p->end = OFFSETS;
            return;
        }
        struct model_message *m = &p->m[p->end];
        *m = (struct model_message){.there = true, .needed = true, .len = (uint16_t)prng_below(&M->g, prng_chance(&M->g, 100000) ? BODY_MAX : 40)};
        m->id = (struct stream_id){10 + p->end / 3, p->end % 3};
        put(partition, p->end++);
    }
}

/* Consumed here and there, or everything up to some offset but for a few in flight. */
static void step_consume(uint32_t partition)
{
    struct model_part *p = &M->parts[partition];
    if (prng_chance(&M->g, 500000)) {
        uint64_t from = prng_below(&M->g, p->end + 1), to = from + prng_below(&M->g, 60);
        for (uint64_t o = from; o < to && o < p->end; o++) {
            p->m[o].needed = false;
        }
        return;
    }
    uint64_t start = p->start + prng_below(&M->g, (p->end - p->start) / M->lazy + 1);
    bool all = prng_chance(&M->g, 500000);
    for (uint64_t o = 0; o < start; o++) {
        p->m[o].needed = p->m[o].needed && !all && prng_chance(&M->g, 990000);
    }
    queue_log_trim(M->disk.q, TOPIC, partition, start);
    p->start = start;
}

static void assert_is(uint32_t partition, const struct queue_message *m)
{
    syn_assert(m->offset < M->parts[partition].end);
    const struct model_message *want = &M->parts[partition].m[m->offset];
    uint8_t body[BODY_MAX];
    body_of(partition, m->offset, want->len, body);
    assert_true(want->there && slice_eq(m->body, slice_of(body, want->len)) && m->flags == (m->offset & 7));
    assert_true(m->id.ms == want->id.ms && m->id.seq == want->id.seq);
}

/* Reads until there is an answer, sometimes leaving it in flight, sometimes from a bad disk. */
static bool answer(enum queue_log_got got)
{
    if (got == QUEUE_LOG_DAMAGED) {
        M->damaged++;
        queue_log_tidy(M->disk.q);
        return false;
    }
    if (got == QUEUE_LOG_LOADING) {
        bool any = fake_read(&M->disk, !prng_chance(&M->g, 20000), prng_chance(&M->g, 20000));
        assert_true(any);
    }
    return got == QUEUE_LOG_OK || got == QUEUE_LOG_GONE;
}

static void step_get(uint32_t partition)
{
    struct model_part *p = &M->parts[partition];
    uint64_t offset = prng_below(&M->g, p->end + 3);
    for (uint64_t n = 1 + prng_below(&M->g, 30); n > 0 && offset < p->end; n--, offset++) {
        struct queue_message m;
        enum queue_log_got got = queue_log_get(M->disk.q, TOPIC, partition, offset, &m);
        for (int tries = 0; !answer(got); tries++) {
            syn_assert(tries < 1000);
            got = queue_log_get(M->disk.q, TOPIC, partition, offset, &m);
        }
        assert_true(got == QUEUE_LOG_OK || !p->m[offset].needed);
        if (got == QUEUE_LOG_OK) {
            assert_int_equal(m.offset, offset);
            assert_is(partition, &m);
        }
        M->gets++;
    }
}

static void step_next(uint32_t partition)
{
    struct model_part *p = &M->parts[partition];
    uint64_t offset = prng_below(&M->g, p->end + 1), end = offset + prng_below(&M->g, 200);
    end = end < p->end ? end : p->end;
    struct queue_message m;
    enum queue_log_got got = queue_log_next(M->disk.q, TOPIC, partition, offset, end, &m);
    for (int tries = 0; !answer(got); tries++) {
        syn_assert(tries < 1000);
        got = queue_log_next(M->disk.q, TOPIC, partition, offset, end, &m);
    }
    uint64_t upto = got == QUEUE_LOG_OK ? m.offset : end;
    for (uint64_t o = offset; o < upto; o++) {
        assert_false(p->m[o].needed);
    }
    if (got == QUEUE_LOG_OK) {
        assert_true(m.offset >= offset && m.offset < end);
        assert_is(partition, &m);
    }
}

static void step_seek(uint32_t partition)
{
    struct model_part *p = &M->parts[partition];
    struct stream_id id = {10 + prng_below(&M->g, p->end / 3 + 2), prng_below(&M->g, 4)};
    uint64_t found;
    enum queue_log_got got = queue_log_seek(M->disk.q, TOPIC, partition, id, p->end, &found);
    for (int tries = 0; !answer(got); tries++) {
        syn_assert(tries < 1000);
        got = queue_log_seek(M->disk.q, TOPIC, partition, id, p->end, &found);
    }
    assert_int_equal(got, QUEUE_LOG_OK);
    for (uint64_t o = 0; o < p->end; o++) {
        bool below = p->m[o].id.ms < id.ms || (p->m[o].id.ms == id.ms && p->m[o].id.seq < id.seq);
        assert_true(!p->m[o].needed || o >= found || below);
        assert_true(o != found || (p->m[o].there && !below));
    }
}

/* The disk removes what nobody names any more. */
static void step_collect(void)
{
    struct buf keep = {0};
    queue_log_files(M->disk.q, &keep);
    for (uint32_t i = 0; i < M->disk.n_files; i++) {
        struct fake_file *f = &M->disk.files[i];
        bool named = false;
        for (size_t k = 0; k < keep.len; k += 8) {
            named = named || le64_get(keep.ptr + k) == f->number;
        }
        for (size_t k = 0; k < M->durable_files.len; k += 16) {
            named = named || le64_get(M->durable_files.ptr + k) == f->number;
        }
        if (!named && !f->gone) {
            f->gone = true;
            buf_fini(&f->bytes);
        }
    }
    buf_fini(&keep);
}

static void step_snapshot(void)
{
    buf_clear(&M->table);
    buf_clear(&M->files);
    queue_log_snapshot(M->disk.q, &M->table, &M->files);
    M->snapshot_waits = true;
    M->snapshot_seq = M->disk.write_seq;
    for (uint32_t i = 0; i < PARTS; i++) {
        M->ends[i] = M->parts[i].end;
    }
}

static void step_disk(void)
{
    for (uint64_t n = prng_below(&M->g, 12); n > 0 && M->disk.n_writes > 0; n--) {
        uint64_t failed = M->disk.failed_writes;
        fake_write(&M->disk, !prng_chance(&M->g, 10000));
        M->snapshot_waits = M->snapshot_waits && failed == M->disk.failed_writes;
    }
    for (uint64_t n = prng_below(&M->g, 3); n > 0; n--) {
        fake_read(&M->disk, !prng_chance(&M->g, 20000), prng_chance(&M->g, 20000));
    }
    if (M->snapshot_waits && M->disk.written_seq >= M->snapshot_seq) {
        M->snapshot_waits = false;
        buf_swap(&M->table, &M->durable_table);
        buf_swap(&M->files, &M->durable_files);
        memcpy(M->durable_ends, M->ends, sizeof M->ends);
        M->snapshots++;
        for (size_t k = 0; k < M->durable_files.len; k += 16) {
            const struct fake_file *f = fake_file(&M->disk, le64_get(M->durable_files.ptr + k));
            assert_true(f != NULL && f->bytes.len >= le64_get(M->durable_files.ptr + k + 8));
        }
    }
}

/* Another node, or this one after a crash: the files as far as the snapshot names them, and what was applied since. */
static void step_restart(void)
{
    if (M->durable_table.len == 0) {
        return;
    }
    struct queue_log_options o = sizes();
    fake_restart(&M->disk, &o);
    M->snapshot_waits = false;
    assert_true(queue_log_restore(M->disk.q, buf_slice(&M->durable_table)));
    for (uint32_t i = 0; i < M->disk.n_files; i++) {
        struct fake_file *f = &M->disk.files[i];
        uint64_t bytes = 0;
        for (size_t k = 0; k < M->durable_files.len; k += 16) {
            bytes = le64_get(M->durable_files.ptr + k) == f->number ? le64_get(M->durable_files.ptr + k + 8) : bytes;
        }
        f->bytes.len = bytes < f->bytes.len ? bytes : f->bytes.len;
    }
    step_collect();
    for (uint32_t i = 0; i < PARTS; i++) {
        for (uint64_t k = M->durable_ends[i]; k < M->parts[i].end; k++) {
            if (M->parts[i].m[k].there) {
                put(i, k);
            }
        }
    }
    M->restarts++;
}

static void step(void)
{
    uint32_t partition = (uint32_t)prng_below(&M->g, PARTS);
    uint64_t what = prng_below(&M->g, 1000);
    if (what < 350) {
        step_append(partition);
    } else if (what < 450) {
        step_consume(partition);
    } else if (what < 650) {
        step_get(partition);
    } else if (what < 700) {
        step_next(partition);
    } else if (what < 740) {
        step_seek(partition);
    } else if (what < 900) {
        step_disk();
    } else if (what < 960) {
        queue_log_tidy(M->disk.q);
    } else if (what < 975) {
        step_collect();
    } else if (what < 992) {
        step_snapshot();
    } else {
        step_restart();
    }
    queue_log_check(M->disk.q);
}

static void run(uint64_t seed)
{
    M = calloc(1, sizeof *M);
    assert_non_null(M);
    prng_init(&M->g, seed);
    M->lazy = seed % 4 == 0 ? 2 : 6 * (seed % 4) * (seed % 4);
    struct queue_log_options o = sizes();
    fake_init(&M->disk, &o);
    M->disk.needed = model_needed;
    for (int i = 0; i < STEPS; i++) {
        step();
    }
    print_message("seed %d: %d gets, %d damaged, %d restarts, %d snapshots, %d reads, %d writes, %d failed, %d files\n", (int)seed, (int)M->gets,
                  (int)M->damaged, (int)M->restarts, (int)M->snapshots, (int)M->disk.all_reads, (int)M->disk.all_writes,
                  (int)M->disk.failed_writes, (int)M->disk.n_files);
    assert_true(M->gets > 1000 && M->damaged > 0 && M->restarts > 0 && M->snapshots > 0 && M->disk.failed_writes > 0);
    for (uint32_t i = 0; i < PARTS; i++) { /* in the end nothing is left */
        queue_log_trim(M->disk.q, TOPIC, i, UINT64_MAX);
        queue_log_check(M->disk.q);
    }
    assert_int_equal(queue_log_young_bytes(M->disk.q), 0);
    fake_fini(&M->disk);
    buf_fini(&M->table);
    buf_fini(&M->files);
    buf_fini(&M->durable_table);
    buf_fini(&M->durable_files);
    free(M);
}

static void test_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        run(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
