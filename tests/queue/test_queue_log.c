/* The message store, one behaviour at a time: what is young, what is written and when, what is read back and what is not believed. */
#include "queue_log_fixture.h"

#include "utils/crc32c.h"
#include "utils/prng.h"

/* ---- young ---- */

static void test_young(void **state)
{
    (void)state;
    assert_int_equal(get(0, 0), QUEUE_LOG_GONE);
    append_range(0, 5, 8);
    append(0, 12);
    append(0, 30);
    append(1, 5);
    for (uint64_t o = 0; o < 40; o++) {
        assert_int_equal(get(0, o), (o >= 5 && o < 8) || o == 12 || o == 30 ? QUEUE_LOG_OK : QUEUE_LOG_GONE);
    }
    assert_int_equal(get(1, 5), QUEUE_LOG_OK);
    assert_int_equal(get(2, 5), QUEUE_LOG_GONE);
    assert_int_equal(queue_log_young_bytes(disk.q), 2 * HEAD + 6 * RECORD);
    struct queue_message m;
    assert_int_equal(queue_log_next(disk.q, TOPIC, 0, 0, 100, &m), QUEUE_LOG_OK);
    assert_message(&m, 0, 5);
    assert_int_equal(queue_log_next(disk.q, TOPIC, 0, 13, 31, &m), QUEUE_LOG_OK);
    assert_message(&m, 0, 30);
    assert_int_equal(queue_log_next(disk.q, TOPIC, 0, 13, 30, &m), QUEUE_LOG_GONE);
    assert_int_equal(queue_log_next(disk.q, TOPIC, 0, 31, 100, &m), QUEUE_LOG_GONE);
    assert_int_equal(disk.all_writes + disk.all_reads, 0);
}

/* Consecutive chunks far apart, and offsets too far apart for one chunk. */
static void test_far_gap(void **state)
{
    (void)state;
    append(0, 1);
    append(0, 1 + (uint64_t)UINT32_MAX);
    append(0, 2 + (uint64_t)UINT32_MAX * 3);
    assert_int_equal(get(0, 1), QUEUE_LOG_OK);
    assert_int_equal(get(0, 1 + (uint64_t)UINT32_MAX), QUEUE_LOG_OK);
    assert_int_equal(get(0, 2 + (uint64_t)UINT32_MAX * 3), QUEUE_LOG_OK);
    assert_int_equal(get(0, 2 + (uint64_t)UINT32_MAX), QUEUE_LOG_GONE);
}

static void test_trim(void **state)
{
    (void)state;
    append_range(0, 0, 35);
    queue_log_trim(disk.q, TOPIC, 0, 15);
    disk.needed_from = 15;
    queue_log_trim(disk.q, TOPIC, 0, 15); /* now nobody needs the first chunk */
    queue_log_check(disk.q);
    assert_int_equal(get(0, 9), QUEUE_LOG_GONE);
    assert_int_equal(get(0, 10), QUEUE_LOG_OK);
    assert_int_equal(queue_log_young_bytes(disk.q), 3 * HEAD + 25 * RECORD);
    disk.needed_from = 35;
    queue_log_trim(disk.q, TOPIC, 0, 35);
    assert_int_equal(queue_log_young_bytes(disk.q), 0);
    append_range(0, 35, 40);
    assert_int_equal(get(0, 35), QUEUE_LOG_OK);
    disk.needed_from = 0;
    queue_log_trim(disk.q, TOPIC, 0, UINT64_MAX);
    assert_int_equal(get(0, 39), QUEUE_LOG_GONE);
    assert_int_equal(queue_log_young_bytes(disk.q), 0);
    queue_log_trim(disk.q, TOPIC, 9, 1);
    assert_int_equal(disk.all_writes, 0);
}

static bool needs_12(struct fake_backlog *b, uint64_t topic, uint32_t partition, uint64_t from, uint64_t to)
{
    (void)b;
    (void)topic;
    (void)partition;
    return (from <= 12 && 12 <= to) || to >= 45;
}

/* One that is in flight keeps its chunk, though start is far beyond; tidy takes chunks out of the middle. */
static void test_trim_spares_what_is_needed(void **state)
{
    (void)state;
    append_range(0, 0, 50);
    disk.needed = needs_12;
    queue_log_trim(disk.q, TOPIC, 0, 30);
    assert_int_equal(get(0, 5), QUEUE_LOG_GONE);
    assert_int_equal(get(0, 12), QUEUE_LOG_OK);
    assert_int_equal(get(0, 25), QUEUE_LOG_GONE);
    assert_int_equal(get(0, 35), QUEUE_LOG_OK);
    queue_log_tidy(disk.q);
    queue_log_check(disk.q);
    assert_int_equal(get(0, 12), QUEUE_LOG_OK);
    assert_int_equal(get(0, 35), QUEUE_LOG_GONE);
    assert_int_equal(get(0, 45), QUEUE_LOG_OK);
}

/* ---- written ---- */

static uint64_t written_base(uint32_t i)
{
    return le64_get(disk.writes[i].data.ptr + 20);
}

static void test_spill_oldest_first(void **state)
{
    (void)state;
    append_range(0, 0, 40);
    assert_int_equal(disk.n_writes, 0);
    append_range(1, 0, 21);
    assert_int_equal(disk.n_writes, 3);
    assert_int_equal(written_base(0), 0);
    assert_int_equal(written_base(2), 20);
    assert_int_equal(queue_log_young_bytes(disk.q), 7 * HEAD + 61 * RECORD); /* all of it, until it is written */
    assert_readable(0, 0, 40);
    assert_true(fake_write(&disk, true));
    assert_int_equal(queue_log_young_bytes(disk.q), 6 * HEAD + 51 * RECORD);
    assert_int_equal(get(0, 3), QUEUE_LOG_LOADING);
    assert_int_equal(get(0, 13), QUEUE_LOG_OK);
    fake_write_all(&disk);
    assert_readable(0, 0, 40);
    assert_readable(1, 0, 21);
}

static void test_spill_drops_what_is_not_needed(void **state)
{
    (void)state;
    append_range(0, 0, 40);
    disk.needed_from = 20;
    append_range(0, 40, 45);
    assert_int_equal(disk.all_writes, 0);
    assert_int_equal(get(0, 5), QUEUE_LOG_GONE);
    assert_int_equal(get(0, 25), QUEUE_LOG_OK);
}

/* Many partitions with little each: the oldest open chunks are closed and written, memory stays bounded. */
static void test_open_chunks_are_bounded(void **state)
{
    (void)state;
    for (uint32_t p = 0; p < 200; p++) {
        append(p, 0);
        fake_write_all(&disk);
        assert_true(queue_log_young_bytes(disk.q) <= SIZES.young_bytes);
    }
    assert_readable(0, 0, 1);
    assert_readable(199, 0, 1);
}

/* A disk that does not answer gets no more than young_bytes at a time; the rest follows when it does. */
static void test_writes_are_bounded(void **state)
{
    (void)state;
    append_range(0, 0, 300);
    assert_int_equal(disk.n_writes, 4);
    assert_readable(0, 0, 300);
    fake_write_all(&disk);
    queue_log_check(disk.q);
    assert_true(queue_log_young_bytes(disk.q) <= SIZES.young_bytes);
    assert_readable(0, 0, 300);
}

static void test_trimmed_while_written(void **state)
{
    (void)state;
    append_range(0, 0, 51);
    assert_int_equal(disk.n_writes, 2);
    disk.needed_from = 20;
    queue_log_trim(disk.q, TOPIC, 0, 20);
    queue_log_check(disk.q);
    assert_int_equal(queue_log_young_bytes(disk.q), 4 * HEAD + 31 * RECORD);
    fake_write_all(&disk);
    queue_log_check(disk.q);
    assert_int_equal(get(0, 15), QUEUE_LOG_GONE);
    assert_readable(0, 20, 51);
}

/* Nothing is lost, the file that failed is left alone, one chunk is tried at a time until one succeeds. */
static void test_write_failure(void **state)
{
    (void)state;
    append_range(0, 0, 61);
    assert_int_equal(disk.n_writes, 3);
    while (fake_write(&disk, false)) {
        queue_log_check(disk.q);
    }
    assert_int_equal(disk.failed_writes, 3);
    assert_int_equal(queue_log_young_bytes(disk.q), 7 * HEAD + 61 * RECORD);
    assert_readable(0, 0, 61);
    append_range(0, 61, 70);
    assert_int_equal(disk.n_writes, 1); /* a chunk was closed */
    assert_int_equal(written_base(0), 0);
    fake_write(&disk, false);
    queue_log_check(disk.q);
    assert_int_equal(disk.n_writes, 0);
    queue_log_tidy(disk.q);
    assert_int_equal(disk.n_writes, 1);
    fake_write(&disk, true);
    assert_int_equal(disk.n_writes, 2); /* it is well again: all that is too much */
    assert_int_equal(written_base(0), 10);
    fake_write_all(&disk);
    queue_log_check(disk.q);
    assert_readable(0, 0, 70);
}

/* ---- read ---- */

static void test_load_once_and_ahead(void **state)
{
    (void)state;
    write_backlog(0, 0, 60);
    assert_int_equal(get(0, 3), QUEUE_LOG_LOADING);
    assert_int_equal(get(0, 4), QUEUE_LOG_LOADING);
    assert_int_equal(disk.n_reads, 1); /* in the middle: nobody knows yet where this reader goes */
    fake_read_all(&disk);
    assert_int_equal(get(0, 9), QUEUE_LOG_OK);
    assert_int_equal(get(0, 10), QUEUE_LOG_LOADING);
    assert_int_equal(disk.n_reads, 2); /* the next one and the one behind it */
    fake_read_all(&disk);
    assert_readable(0, 10, 20);
    assert_int_equal(disk.n_reads, 0);
    assert_int_equal(get(0, 20), QUEUE_LOG_OK);
    assert_int_equal(disk.n_reads, 1);
    fake_read_all(&disk);
    assert_readable(0, 21, 60);
    assert_int_equal(disk.all_reads, 6);
}

static void test_cache_bound(void **state)
{
    (void)state;
    write_backlog(0, 0, 100);
    for (uint64_t o = 95; o < 100; o -= 10) { /* backwards: nothing is read ahead */
        assert_int_equal(get(0, o), QUEUE_LOG_LOADING);
        fake_read_all(&disk);
        assert_int_equal(get(0, o), QUEUE_LOG_OK);
        queue_log_check(disk.q); /* L4 */
    }
    uint64_t reads = disk.all_reads;
    assert_int_equal(get(0, 5), QUEUE_LOG_OK);
    assert_int_equal(get(0, 35), QUEUE_LOG_OK);
    assert_int_equal(disk.all_reads, reads);
    assert_int_equal(get(0, 45), QUEUE_LOG_LOADING);
}

static void test_loads_are_bounded(void **state)
{
    (void)state;
    for (uint32_t p = 0; p < 50; p++) {
        write_backlog(p, 0, 1);
    }
    for (uint32_t p = 0; p < 50; p++) {
        assert_int_equal(get(p, 0), QUEUE_LOG_LOADING);
    }
    assert_true(disk.n_reads < 50);
    bool had[50] = {false};
    uint32_t n = 0;
    while (fake_read(&disk, true, false)) { /* who waits asks again after each: everybody gets his own */
        queue_log_check(disk.q);
        for (uint32_t p = 0; p < 50; p++) {
            if (!had[p] && get(p, 0) == QUEUE_LOG_OK) {
                had[p] = true;
                n++;
            }
        }
    }
    assert_int_equal(n, 50);
    assert_int_equal(disk.all_reads, 50);
}

static void test_read_failure(void **state)
{
    (void)state;
    write_backlog(0, 0, 30);
    assert_int_equal(get(0, 3), QUEUE_LOG_LOADING);
    fake_read(&disk, false, false);
    assert_int_equal(get(0, 3), QUEUE_LOG_DAMAGED);
    assert_int_equal(disk.n_reads, 0);
    struct queue_message m;
    assert_int_equal(queue_log_next(disk.q, TOPIC, 0, 3, 30, &m), QUEUE_LOG_DAMAGED);
    assert_int_equal(m.offset, 9);
    assert_readable(0, 10, 30);
    queue_log_tidy(disk.q);
    assert_readable(0, 0, 10);
    queue_log_loaded(disk.q, 12345, 0, SLICE_NONE, true); /* nobody asked */
    queue_log_written(disk.q, 12345, 0, false);
}

/* No bit of a chunk can be another without its being noticed. */
static void test_flipped_bits(void **state)
{
    (void)state;
    write_backlog(0, 0, 3);
    struct fake_file *f = fake_file(&disk, 100);
    assert_non_null(f);
    for (size_t bit = 0; bit < (HEAD + 3 * RECORD) * 8; bit++) {
        f->bytes.ptr[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(get(0, 1), QUEUE_LOG_LOADING);
        fake_read_all(&disk);
        assert_int_equal(get(0, 1), QUEUE_LOG_DAMAGED);
        f->bytes.ptr[bit / 8] ^= (uint8_t)(1 << bit % 8);
        queue_log_tidy(disk.q);
    }
    assert_readable(0, 0, 3);
}

/* A right checksum over wrong records: no byte of a disk reaches an assert or memory that is not ours. */
static void test_forged_chunks(void **state)
{
    (void)state;
    write_backlog(0, 0, 5);
    struct fake_file *f = fake_file(&disk, 100);
    assert_non_null(f);
    struct buf good = {0};
    buf_append(&good, f->bytes.ptr, HEAD + 5 * RECORD);
    struct prng g;
    prng_init(&g, 3);
    for (int i = 0; i < 20000; i++) {
        for (uint64_t n = 1 + prng_below(&g, 3); n > 0; n--) {
            size_t at = prng_chance(&g, 500000) ? HEAD + RECORD * prng_below(&g, 5) + prng_below(&g, 25) : prng_below(&g, good.len);
            f->bytes.ptr[at] = (uint8_t)(prng_chance(&g, 500000) ? prng_u64(&g) : f->bytes.ptr[at] + 1u);
        }
        le32_put(f->bytes.ptr + 4, crc32c(0, f->bytes.ptr + 8, good.len - 8));
        struct queue_message m;
        assert_int_equal(queue_log_get(disk.q, TOPIC, 0, 2, &m), QUEUE_LOG_LOADING);
        fake_read_all(&disk);
        if (queue_log_get(disk.q, TOPIC, 0, 2, &m) == QUEUE_LOG_OK) { /* only bodies, flags and ids in the middle may differ */
            assert_int_equal(m.offset, 2);
            struct queue_log_options o = SIZES;
            struct buf table = {0}, files = {0};
            queue_log_snapshot(disk.q, &table, &files);
            fake_restart(&disk, &o);
            assert_true(queue_log_restore(disk.q, buf_slice(&table)));
            buf_fini(&table);
            buf_fini(&files);
        }
        memcpy(f->bytes.ptr, good.ptr, good.len);
        queue_log_tidy(disk.q);
    }
    buf_fini(&good);
}

/* Each field of a header, and the last record's offset, must be what was asked for, right checksum or not. */
static void test_wrong_chunks(void **state)
{
    (void)state;
    write_backlog(0, 0, 5);
    struct fake_file *f = fake_file(&disk, 100);
    assert_non_null(f);
    static const size_t AT[] = {0, 8, 16, 20, 28, 32, HEAD + 4 * RECORD};
    for (size_t i = 0; i < sizeof AT / sizeof AT[0]; i++) {
        f->bytes.ptr[AT[i]]++;
        le32_put(f->bytes.ptr + 4, crc32c(0, f->bytes.ptr + 8, HEAD + 5 * RECORD - 8));
        assert_int_equal(get(0, 1), QUEUE_LOG_LOADING);
        fake_read_all(&disk);
        assert_int_equal(get(0, 1), QUEUE_LOG_DAMAGED);
        f->bytes.ptr[AT[i]]--;
        queue_log_tidy(disk.q);
    }
    le32_put(f->bytes.ptr + 4, crc32c(0, f->bytes.ptr + 8, HEAD + 5 * RECORD - 8));
    assert_readable(0, 0, 5);
}

static void test_seek(void **state)
{
    (void)state;
    uint64_t offset;
    assert_int_equal(queue_log_seek(disk.q, TOPIC, 0, (struct stream_id){0, 0}, 0, &offset), QUEUE_LOG_OK);
    assert_int_equal(offset, 0);
    write_backlog(0, 0, 40);
    append_range(0, 40, 45);
    for (uint64_t o = 0; o < 45; o++) {
        struct stream_id id = {1000 + o / 4, o % 4};
        if (queue_log_seek(disk.q, TOPIC, 0, id, 45, &offset) == QUEUE_LOG_LOADING) {
            fake_read_all(&disk);
            assert_int_equal(queue_log_seek(disk.q, TOPIC, 0, id, 45, &offset), QUEUE_LOG_OK);
        }
        assert_int_equal(offset, o);
    }
    assert_int_equal(queue_log_seek(disk.q, TOPIC, 0, (struct stream_id){1000, 9}, 45, &offset), QUEUE_LOG_OK);
    assert_int_equal(offset, 4);
    assert_int_equal(queue_log_seek(disk.q, TOPIC, 0, (struct stream_id){2000, 0}, 45, &offset), QUEUE_LOG_OK);
    assert_int_equal(offset, 45);
    assert_int_equal(queue_log_seek(disk.q, TOPIC, 0, (struct stream_id){1010, 3}, 43, &offset), QUEUE_LOG_OK);
    assert_int_equal(offset, 43);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_young),
        TEST(test_far_gap),
        TEST(test_trim),
        TEST(test_trim_spares_what_is_needed),
        TEST(test_spill_oldest_first),
        TEST(test_spill_drops_what_is_not_needed),
        TEST(test_open_chunks_are_bounded),
        TEST(test_writes_are_bounded),
        TEST(test_trimmed_while_written),
        TEST(test_write_failure),
        TEST(test_load_once_and_ahead),
        TEST(test_cache_bound),
        TEST(test_loads_are_bounded),
        TEST(test_read_failure),
        TEST(test_flipped_bits),
        TEST(test_forged_chunks),
        TEST(test_wrong_chunks),
        TEST(test_seek),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
