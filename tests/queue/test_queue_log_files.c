/* The message store and its files: snapshots and what is restored from them, tables that are not believed, files that are emptied. */
#include "queue_log_fixture.h"

#include "nodes/queue/queue_log_verify.h"
#include "utils/prng.h"

static void test_snapshot_and_restore(void **state)
{
    (void)state;
    append_range(0, 0, 75);
    append_range(3, 1000, 1005);
    disk.needed_from = 20;
    queue_log_trim(disk.q, TOPIC, 0, 20);
    struct buf table = {0}, files = {0};
    queue_log_snapshot(disk.q, &table, &files);
    queue_log_check(disk.q);
    fake_write_all(&disk);
    uint64_t before = 0;
    for (size_t i = 0; i < files.len; i += 16) {
        uint64_t number = le64_get(files.ptr + i), bytes = le64_get(files.ptr + i + 8);
        assert_true(number > before);
        before = number;
        assert_true(fake_file(&disk, number)->bytes.len >= bytes && bytes > 0);
    }
    uint64_t newest = before;
    fake_restart(&disk, &SIZES); /* the same file_base: its numbers are taken */
    assert_true(queue_log_restore(disk.q, buf_slice(&table)));
    queue_log_check(disk.q);
    assert_int_equal(get(0, 5), QUEUE_LOG_GONE);
    assert_readable(0, 20, 75);
    assert_readable(3, 1000, 1005);
    append_range(0, 75, 200);
    assert_true(disk.n_writes > 0 && disk.writes[0].file != newest && disk.writes[0].offset == 0);
    fake_write_all(&disk);
    assert_readable(0, 20, 200);
    /* What is applied again wins over a table that says it has it. */
    fake_restart(&disk, &SIZES);
    assert_true(queue_log_restore(disk.q, buf_slice(&table)));
    append(0, 71);
    assert_int_equal(get(0, 71), QUEUE_LOG_OK);
    assert_int_equal(get(0, 72), QUEUE_LOG_GONE);
    buf_fini(&table);
    buf_fini(&files);
}

/* A chunk is read while what is applied again takes its place. */
static void test_replaced_while_loading(void **state)
{
    (void)state;
    append_range(0, 0, 25);
    struct buf table = {0}, files = {0};
    queue_log_snapshot(disk.q, &table, &files);
    fake_write_all(&disk);
    fake_restart(&disk, &SIZES);
    assert_true(queue_log_restore(disk.q, buf_slice(&table)));
    assert_int_equal(get(0, 23), QUEUE_LOG_LOADING);
    append(0, 20);
    fake_read_all(&disk);
    queue_log_check(disk.q);
    assert_int_equal(get(0, 20), QUEUE_LOG_OK);
    assert_int_equal(get(0, 23), QUEUE_LOG_GONE);
    buf_fini(&table);
    buf_fini(&files);
}

static void test_malformed_tables(void **state)
{
    (void)state;
    write_backlog(0, 0, 50);
    append_range(1, 0, 25);
    struct buf table = {0}, files = {0};
    queue_log_snapshot(disk.q, &table, &files);
    fake_write_all(&disk);
    for (size_t n = 0; n < table.len; n++) {
        fake_restart(&disk, &SIZES);
        assert_false(queue_log_restore(disk.q, slice_of(table.ptr, n)));
        queue_log_check(disk.q);
    }
    struct prng g;
    prng_init(&g, 4);
    for (int i = 0; i < 20000; i++) {
        struct buf bad = {0};
        buf_append_slice(&bad, buf_slice(&table));
        for (uint64_t n = 1 + prng_below(&g, 2); n > 0; n--) {
            bad.ptr[prng_below(&g, bad.len)] = (uint8_t)(prng_chance(&g, 500000) ? 255 : prng_below(&g, 3));
        }
        fake_restart(&disk, &SIZES);
        bool ok = queue_log_restore(disk.q, buf_slice(&bad));
        queue_log_check(disk.q);
        for (uint64_t o = 0; ok && o < 50; o += 5) {
            struct queue_message m;
            queue_log_get(disk.q, TOPIC, 0, o, &m);
            fake_read_all(&disk);
            if (queue_log_get(disk.q, TOPIC, 0, o, &m) == QUEUE_LOG_OK) {
                assert_message(&m, 0, o);
            }
            append(0, 50 + o);
        }
        buf_fini(&bad);
    }
    fake_restart(&disk, &SIZES);
    buf_fini(&table);
    buf_fini(&files);
}

static bool needs_some(struct fake_backlog *b, uint64_t topic, uint32_t partition, uint64_t from, uint64_t to)
{
    (void)topic;
    (void)partition;
    return to >= b->needed_from || (from <= 35 && 35 <= to);
}

/* Ten files of four chunks, nearly all dead: one message keeps a chunk, the chunk keeps a file, until tidy moves it. */
static void test_tidy(void **state)
{
    (void)state;
    write_backlog(0, 0, 390);
    assert_int_equal(count_files(), 10);
    disk.needed = needs_some;
    disk.needed_from = 380;
    queue_log_trim(disk.q, TOPIC, 0, 380);
    append(0, 390);
    struct buf table = {0}, files = {0};
    queue_log_snapshot(disk.q, &table, &files); /* the newer one no longer names the dead files */
    fake_write_all(&disk);
    assert_int_equal(files.len / 16, 2);
    assert_int_equal(count_files(), 2);
    assert_int_equal(get(0, 35), QUEUE_LOG_LOADING); /* alive a quarter: it stays where it is */
    fake_read_all(&disk);
    queue_log_tidy(disk.q);
    assert_int_equal(disk.n_writes, 0);
    buf_fini(&table);
    buf_fini(&files);
}

/* Chunks of different sizes, so that one is less than a quarter of its file. */
static void tidy_setup(struct buf *table, struct buf *files)
{
    struct queue_log_options o = SIZES;
    o.file_bytes = 10 * CHUNK;
    fake_restart(&disk, &o);
    write_backlog(0, 0, 195);
    disk.needed = needs_some;
    disk.needed_from = 180;
    queue_log_trim(disk.q, TOPIC, 0, 180);
    buf_clear(table);
    buf_clear(files);
    queue_log_snapshot(disk.q, table, files);
    assert_int_equal(count_files(), 2);
}

static void test_tidy_moves(void **state)
{
    (void)state;
    struct buf table = {0}, files = {0};
    tidy_setup(&table, &files);
    queue_log_tidy(disk.q);
    queue_log_check(disk.q);
    assert_int_equal(disk.n_reads, 1);
    fake_read_all(&disk);
    queue_log_check(disk.q);
    assert_int_equal(disk.n_writes, 1);
    assert_int_equal(get(0, 35), QUEUE_LOG_OK);
    queue_log_tidy(disk.q); /* once is enough */
    assert_int_equal(disk.n_writes, 1);
    fake_write(&disk, false);
    queue_log_check(disk.q);
    assert_readable(0, 30, 40); /* still where it was */
    queue_log_tidy(disk.q);
    assert_int_equal(disk.n_writes, 0); /* not while writes fail */
    append_range(0, 195, 250);
    fake_write_all(&disk);
    queue_log_tidy(disk.q);
    fake_read_all(&disk);
    fake_write_all(&disk);
    queue_log_check(disk.q);
    assert_readable(0, 30, 40);
    uint32_t named = count_files();
    buf_clear(&table);
    buf_clear(&files);
    queue_log_snapshot(disk.q, &table, &files);
    fake_write_all(&disk);
    assert_true(count_files() < named); /* the old file was kept for the snapshot before, and now goes */
    fake_restart(&disk, &SIZES);
    assert_true(queue_log_restore(disk.q, buf_slice(&table)));
    assert_readable(0, 30, 40);
    assert_readable(0, 190, 250);
    buf_fini(&table);
    buf_fini(&files);
}

static void test_tidy_trimmed_meanwhile(void **state)
{
    (void)state;
    struct buf table = {0}, files = {0};
    for (int when = 0; when < 2; when++) {
        tidy_setup(&table, &files);
        queue_log_tidy(disk.q);
        if (when == 1) {
            fake_read_all(&disk);
            assert_int_equal(disk.n_writes, 1);
        }
        disk.needed = NULL;
        queue_log_trim(disk.q, TOPIC, 0, 190);
        queue_log_check(disk.q);
        fake_read_all(&disk);
        fake_write_all(&disk);
        queue_log_check(disk.q);
        assert_int_equal(get(0, 35), QUEUE_LOG_GONE);
        assert_readable(0, 180, 195);
        disk.needed_from = 0;
        fake_restart(&disk, &SIZES);
        for (uint32_t i = 0; i < disk.n_files; i++) {
            disk.files[i].gone = true;
        }
    }
    buf_fini(&table);
    buf_fini(&files);
}

/* The sweep goes on where it was, or at the next partition when that one is gone. */
static void test_sweep_goes_round(void **state)
{
    (void)state;
    write_backlog(0, 0, 3000);
    write_backlog(1, 0, 3000);
    write_backlog(2, 0, 10);
    queue_log_tidy(disk.q);
    queue_log_trim(disk.q, TOPIC, 0, UINT64_MAX);
    queue_log_check(disk.q);
    disk.needed_from = 2990;
    for (int i = 0; i < 3; i++) {
        queue_log_tidy(disk.q);
        queue_log_check(disk.q);
    }
    assert_int_equal(get(1, 2985), QUEUE_LOG_GONE);
    assert_int_equal(get(2, 5), QUEUE_LOG_GONE);
    assert_readable(1, 2990, 3000);
    queue_log_trim(disk.q, TOPIC, 1, UINT64_MAX);
    queue_log_trim(disk.q, TOPIC, 2, UINT64_MAX);
    queue_log_tidy(disk.q);
}

static bool passes(slice_t file, size_t piece)
{
    struct backlog_check c = {0};
    for (size_t at = 0; at < file.len; at += piece) {
        size_t n = file.len - at < piece ? file.len - at : piece;
        if (!queue_log_check_bytes(&c, slice_of(file.ptr + at, n), at + n == file.len)) {
            return false;
        }
    }
    return true;
}

/* What a peer sends: whole in pieces of any length, and each flipped bit and each cut within a chunk is seen. */
static void test_files_from_a_peer(void **state)
{
    (void)state;
    append_range(0, 0, 75);
    append_range(3, 1000, 1005);
    struct buf table = {0}, files = {0};
    queue_log_snapshot(disk.q, &table, &files);
    fake_write_all(&disk);
    assert_true(files.len >= 16);
    for (size_t i = 0; i < files.len; i += 16) {
        uint8_t *all = fake_file(&disk, le64_get(files.ptr + i))->bytes.ptr;
        slice_t file = slice_of(all, le64_get(files.ptr + i + 8));
        assert_true(file.len > 500);
        for (size_t piece = 1; piece <= file.len; piece += piece < 600 ? 1 : 997) {
            assert_true(passes(file, piece));
        }
        for (size_t at = 0; at < file.len; at++) {
            all[at] ^= 4;
            assert_false(passes(file, 333));
            all[at] ^= 4;
        }
        uint32_t first = le32_get(file.ptr + 32);
        for (size_t n = 1; n < first; n++) {
            assert_false(passes(slice_of(file.ptr, n), 100));
        }
        assert_true(passes(slice_of(file.ptr, first), 100));
    }
    buf_fini(&table);
    buf_fini(&files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_snapshot_and_restore),
        TEST(test_replaced_while_loading),
        TEST(test_malformed_tables),
        TEST(test_tidy),
        TEST(test_tidy_moves),
        TEST(test_tidy_trimmed_meanwhile),
        TEST(test_sweep_goes_round),
        TEST(test_files_from_a_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
