/* Backlog files one promise at a time: appending, a full disk, what is kept, what a snapshot needs and takes along (W12), and what a start
 * finds. Power losses are in test_backlog_crash.c. */
#include "backlog_fixture.h"

#include "storage/snapshot_file.h"
#include "utils/crc32c.h"

#include <errno.h>
#include <string.h>

static void test_appends_only(void **state)
{
    (void)state;
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    struct buf out = {0};
    assert_int_equal(store_backlog_write(s, 0, 7, 512, SLICE_LIT("x")), STORE_CORRUPT); /* there is none */
    assert_int_equal(files_mem_size(disk, "back-00000000-0000000000000007"), -ENOENT);
    assert_int_equal(backlog_put(s, 0, 7, 0, 3072), STORE_OK);
    assert_int_equal(backlog_put(s, 0, 7, 3072, 4000), STORE_OK);
    assert_int_equal(backlog_put(s, 0, 7, 3584, 5000), STORE_CORRUPT);
    assert_int_equal(backlog_put(s, 0, 7, 4096, 5000), STORE_CORRUPT);
    assert_int_equal(backlog_put(s, 0, 7, 0, 10), STORE_CORRUPT);
    assert_non_null(strstr(store_upkeep_error(s), "0000000000000007"));
    assert_true(backlog_is(s, 0, 7, 4000) && files_mem_size(disk, "back-00000000-0000000000000007") == 4000);
    assert_int_equal(store_backlog_read(s, 0, 7, 3990, 10, &out), STORE_OK);
    assert_int_equal(out.len, 10);
    assert_int_equal(store_backlog_read(s, 0, 7, 3990, 11, &out), STORE_CORRUPT);
    assert_int_equal(store_backlog_read(s, 0, 7, 5000, 1, &out), STORE_CORRUPT);
    assert_int_equal(store_backlog_read(s, 0, 7, UINT64_MAX, UINT32_MAX, &out), STORE_CORRUPT);
    assert_int_equal(store_backlog_read(s, 0, 8, 0, 1, &out), STORE_CORRUPT);
    assert_int_equal(store_backlog_read(s, 1, 7, 0, 1, &out), STORE_CORRUPT);
    assert_true(out.len == 10 && out.cap < 100000); /* what is not there takes no memory */
    buf_fini(&out);
    store_close(s);
    files_mem_free(disk);
}

static void test_full_disk(void **state)
{
    (void)state;
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    assert_int_equal(backlog_put(s, 0, 1, 0, 3072), STORE_OK);
    files_mem_quota(disk, disk_used(disk) + 4000);
    assert_int_equal(backlog_put(s, 0, 1, 3072, 9000), STORE_FULL);
    assert_int_equal(files_mem_size(disk, "back-00000000-0000000000000001"), 3072);
    assert_int_equal(backlog_put(s, 0, 2, 0, 9000), STORE_FULL);
    assert_int_equal(backlog_put(s, 0, 1, 3072, 4096), STORE_OK);
    files_mem_quota(disk, 0);
    assert_int_equal(backlog_put(s, 0, 1, 4096, 9000), STORE_OK);
    assert_int_equal(backlog_put(s, 0, 2, 0, 9216), STORE_OK);
    assert_true(backlog_is(s, 0, 1, 9000) && backlog_is(s, 0, 2, 9216));
    /* Not even room to cut back: not poisoned, but nothing may build on that file. */
    files_mem_fail(disk, FILES_MEM_PWRITE, 1, ENOSPC);
    files_mem_fail(disk, FILES_MEM_TRUNCATE, 1, ENOSPC);
    assert_int_equal(backlog_put(s, 0, 2, 9216, 15000), STORE_FULL);
    assert_int_equal(backlog_put(s, 0, 2, 9216, 15000), STORE_CORRUPT);
    assert_int_equal(backlog_put(s, 0, 3, 0, 100), STORE_OK);
    files_mem_fail(disk, FILES_MEM_OPEN, 1, ENOSPC);
    assert_int_equal(backlog_put(s, 0, 4, 0, 100), STORE_FULL);
    store_close(s);
    files_mem_free(disk);
}

static void test_failed_operations_poison(void **state)
{
    (void)state;
    static const enum files_mem_op ops[] = {FILES_MEM_OPEN, FILES_MEM_PWRITE, FILES_MEM_PREAD, FILES_MEM_UNLINK, FILES_MEM_SYNC_DIR};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        struct files_mem *disk = files_mem_new();
        struct store *s = fixture_open(disk, NULL);
        struct buf out = {0};
        assert_int_equal(backlog_put(s, 0, 1, 0, 512), STORE_OK);
        files_mem_fail(disk, ops[i], 1, EIO);
        enum store_status st = ops[i] == FILES_MEM_PREAD ? store_backlog_read(s, 0, 1, 0, 10, &out) :
                               ops[i] >= FILES_MEM_UNLINK ? store_backlog_keep(s, 0, NULL, 0) : backlog_put(s, 0, 1, 512, 600);
        assert_int_equal(st, STORE_FAILED);
        assert_int_equal(backlog_put(s, 0, 2, 0, 100), STORE_FAILED);
        assert_int_equal(store_backlog_read(s, 0, 1, 0, 10, &out), STORE_FAILED);
        assert_int_equal(store_backlog_keep(s, 0, NULL, 0), STORE_FAILED);
        assert_int_equal(store_snapshot_attach(s, 0, 5, SLICE_NONE), STORE_FAILED);
        assert_int_equal(store_append(s, SLICE_NONE), STORE_FAILED);
        buf_fini(&out);
        store_abandon(s);
        files_mem_free(disk);
    }
}

static void test_keep(void **state)
{
    (void)state;
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    for (uint64_t f = 1; f <= 6; f++) {
        assert_int_equal(backlog_put(s, 0, f, 0, 100 * f), STORE_OK);
        assert_int_equal(backlog_put(s, 1, f, 0, 100 * f), STORE_OK);
    }
    struct backlog_list newest = {1, {{2, 200}}}, coming = {1, {{5, 500}}};
    assert_int_equal(backlog_snapshot(s, 0, 10, 1, &newest), STORE_OK);
    struct buf pairs = {0};
    backlog_pairs(&pairs, &coming);
    assert_int_equal(store_snapshot_attach(s, 0, 20, buf_slice(&pairs)), STORE_OK);
    uint64_t syncs = files_mem_ops(disk, FILES_MEM_SYNC_DIR), files[] = {6, 3, 99}; /* in any order */
    assert_int_equal(store_backlog_keep(s, 0, files, 3), STORE_OK);
    assert_int_equal(files_mem_ops(disk, FILES_MEM_SYNC_DIR), syncs + 1);
    for (uint64_t f = 1; f <= 6; f++) {
        assert_int_equal(backlog_is(s, 0, f, 100 * f), f != 1 && f != 4);
        assert_true(backlog_is(s, 1, f, 100 * f));
    }
    assert_int_equal(store_backlog_keep(s, 0, files, 3), STORE_OK);
    assert_int_equal(files_mem_ops(disk, FILES_MEM_SYNC_DIR), syncs + 1); /* nothing to remove */
    struct buf b = {0};
    snapshot_bytes(&b, 0, 20);
    assert_int_equal(store_snapshot_write(s, 0, 20, 1, 0, buf_slice(&b), true), STORE_OK);
    assert_int_equal(store_backlog_keep(s, 0, NULL, 0), STORE_OK);
    assert_int_equal(backlog_count(disk, 0), 1);
    assert_true(backlog_is(s, 0, 5, 500) && backlog_count(disk, 1) == 6);
    /* The next one needs none: the list was for that index only. */
    assert_int_equal(snapshot_make(s, 0, 30, 1), STORE_OK);
    assert_int_equal(store_backlog_keep(s, 0, NULL, 0), STORE_OK);
    assert_int_equal(backlog_count(disk, 0), 0);
    buf_fini(&b);
    buf_fini(&pairs);
    store_close(s);
    files_mem_free(disk);
}

static void test_snapshot_needs_its_files(void **state)
{
    (void)state;
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    struct backlog_list good = {2, {{3, 700}, {4, 100}}}, missing = {2, {{3, 700}, {9, 1}}}, more = {1, {{3, 801}}};
    assert_int_equal(backlog_put(s, 0, 3, 0, 800), STORE_OK);
    assert_int_equal(backlog_put(s, 0, 4, 0, 100), STORE_OK);
    assert_int_equal(backlog_snapshot(s, 0, 10, 1, &good), STORE_OK);
    assert_int_equal(backlog_snapshot(s, 0, 20, 1, &missing), STORE_CORRUPT);
    assert_int_equal(backlog_snapshot(s, 0, 20, 1, &more), STORE_CORRUPT);
    assert_non_null(strstr(store_upkeep_error(s), "needs more of it"));
    assert_true(snapshot_is(s, 0, 10));
    assert_int_equal(files_mem_size(disk, "snap-00000000-0000000000000014.tmp"), -ENOENT);
    struct buf many = {0};
    for (uint64_t f = 1; f <= SNAPSHOT_ATTACHED_MAX + 1; f++) {
        buf_put_u64(&many, f);
        buf_put_u64(&many, 1);
    }
    assert_int_equal(store_snapshot_attach(s, 0, 20, buf_slice(&many)), STORE_CORRUPT);
    assert_int_equal(snapshot_make(s, 0, 20, 1), STORE_CORRUPT); /* it must not count without them */
    assert_int_equal(snapshot_make(s, 0, 21, 1), STORE_OK);
    assert_int_equal(backlog_snapshot(s, 0, 22, 1, &good), STORE_OK);
    assert_int_equal(files_mem_all_durable(disk), true);
    buf_fini(&many);
    store_close(s);
    struct files_mem *again = files_mem_clone(disk);
    s = fixture_open(again, NULL);
    assert_true(snapshot_is(s, 0, 22) && backlog_is(s, 0, 3, 700) && backlog_is(s, 0, 4, 100));
    store_close(s);
    files_mem_free(again);
    files_mem_free(disk);
}

static void damage(struct files_mem *disk, const char *name, int64_t size)
{
    struct files f = files_mem_table(disk);
    if (size < 0) {
        assert_int_equal(f.unlink(f.ctx, name), 0);
        return;
    }
    int fd = f.open(f.ctx, name, true);
    assert_int_equal(f.truncate(f.ctx, fd, (uint64_t)size), 0);
    f.close(f.ctx, fd);
}

static void expect_refused(const struct files_mem *disk, int64_t size, const char *text)
{
    struct files_mem *c = files_mem_clone(disk);
    struct store_recovery r;
    struct buf error = {0};
    damage(c, "back-00000001-0000000000000abc", size);
    assert_int_equal(reopen(c, &r, &error), STORE_CORRUPT);
    buf_put_u8(&error, 0);
    assert_non_null(strstr((char *)error.ptr, "0000000000000abc"));
    assert_non_null(strstr((char *)error.ptr, text));
    assert_non_null(strstr((char *)error.ptr, "CLUSTER.REMOVE"));
    buf_fini(&error);
    store_recovered_free(&r);
    files_mem_free(c);
}

static void test_start(void **state)
{
    (void)state;
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    struct backlog_list list = {2, {{0xabc, 500}, {0xdef, 600}}};
    assert_int_equal(backlog_put(s, 1, 0xabc, 0, 900), STORE_OK);
    assert_int_equal(backlog_put(s, 1, 0xdef, 0, 600), STORE_OK);
    assert_int_equal(backlog_snapshot(s, 1, 10, 1, &list), STORE_OK);
    assert_int_equal(backlog_put(s, 1, 0xfff, 0, 600), STORE_OK); /* written since */
    assert_int_equal(backlog_put(s, 0, 1, 0, 600), STORE_OK);
    store_close(s);
    expect_refused(disk, -1, "not there");
    expect_refused(disk, 0, "needs more of it than there is");
    expect_refused(disk, 499, "needs more of it than there is");
    damage(disk, "back-00000001-0000000000000abc.tmp", 100);
    damage(disk, "back-00000001-0000000000000ABC", 100); /* not ours: left alone */
    s = fixture_open(disk, NULL);
    assert_int_equal(backlog_count(disk, 0), 0);
    assert_int_equal(backlog_count(disk, 1), 2);
    assert_int_equal(files_mem_size(disk, "back-00000001-0000000000000abc.tmp"), -ENOENT);
    assert_int_equal(files_mem_size(disk, "back-00000001-0000000000000ABC"), 100);
    assert_true(backlog_is(s, 1, 0xabc, 500) && backlog_is(s, 1, 0xdef, 600) && snapshot_is(s, 1, 10));
    store_close(s);
    damage(disk, "IDENTITY", -1);
    damage(disk, "snap-00000001-000000000000000a", -1);
    for (size_t i = 0; files_mem_name(disk, i) != NULL;) { /* backlog files alone are data, too */
        memcmp(files_mem_name(disk, i), "log-", 4) == 0 ? damage(disk, files_mem_name(disk, i), -1) : (void)i++;
    }
    struct store_recovery r;
    struct buf error = {0};
    assert_int_equal(reopen(disk, &r, &error), STORE_CORRUPT);
    buf_fini(&error);
    files_mem_free(disk);
}

/* From here on: transfers. The list and the snapshot's own bytes are checked; what is in the files carries checksums of its owner's. */
static const struct backlog_list travelling = {3, {{0x10, 1500}, {0x20, 1}, {0x30, 900}}};
enum { TRAVEL_GROUP = 2, TRAVEL_INDEX = 20, TRAVEL_HEAD = SNAPSHOT_HEADER_BYTES + 3 * 16 + 4, TRAVEL_FILES = 1500 + 1 + 900 };

static void test_travels_with_its_files(void **state)
{
    (void)state;
    static const uint32_t steps[] = {1, 7, 39, 41, 100, 1000, 1 << 20};
    struct files_mem *da = files_mem_new();
    struct store *a = backlog_peer(da, TRAVEL_GROUP, TRAVEL_INDEX, 3, &travelling, 77);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct files_mem *db = files_mem_new();
        struct store *b = fixture_open(db, NULL);
        assert_int_equal(backlog_transfer(a, b, TRAVEL_GROUP, TRAVEL_INDEX, 3, steps[i], -1), STORE_OK);
        assert_true(snapshot_is(b, TRAVEL_GROUP, TRAVEL_INDEX) && backlog_list_is(b, TRAVEL_GROUP, &travelling));
        assert_int_equal(files_mem_size(db, "back-00000002-0000000000000010"), 1500); /* not what is behind */
        assert_int_equal(backlog_count(db, TRAVEL_GROUP), 3);
        assert_true(files_mem_all_durable(db));
        struct buf x = {0}, y = {0};
        disk_read(da, "snap-00000002-0000000000000014", &x);
        disk_read(db, "snap-00000002-0000000000000014", &y);
        assert_true(slice_eq(buf_slice(&x), buf_slice(&y)));
        buf_fini(&x);
        buf_fini(&y);
        /* And on to a third, from what was received; it keeps them over a start. */
        struct files_mem *dc = files_mem_new();
        struct store *c = fixture_open(dc, NULL);
        assert_int_equal(backlog_transfer(b, c, TRAVEL_GROUP, TRAVEL_INDEX, 3, 333, -1), STORE_OK);
        store_close(c);
        c = fixture_open(dc, NULL);
        assert_true(snapshot_is(c, TRAVEL_GROUP, TRAVEL_INDEX) && backlog_list_is(c, TRAVEL_GROUP, &travelling));
        store_close(c);
        store_close(b);
        files_mem_free(dc);
        files_mem_free(db);
    }
    store_close(a);
    files_mem_free(da);
}

static bool is_file_byte(int64_t i) { return i >= TRAVEL_HEAD && i < TRAVEL_HEAD + TRAVEL_FILES; }

static void test_damaged_on_the_way(void **state)
{
    (void)state;
    struct files_mem *da = files_mem_new(), *db = files_mem_new();
    struct store *a = backlog_peer(da, TRAVEL_GROUP, TRAVEL_INDEX, 3, &travelling, 0), *b = fixture_open(db, NULL);
    int64_t total = files_mem_size(da, "snap-00000002-0000000000000014") + TRAVEL_FILES;
    for (int64_t i = 0; i < total; i++) {
        if (is_file_byte(i)) {
            continue;
        }
        assert_int_equal(backlog_transfer(a, b, TRAVEL_GROUP, TRAVEL_INDEX, 3, 600, i), STORE_CORRUPT);
        assert_int_equal(files_mem_size(db, "snap-00000002-0000000000000014"), -ENOENT);
        assert_int_equal(files_mem_size(db, "back-00000002-0000000000000010.tmp"), -ENOENT);
        assert_int_equal(backlog_count(db, TRAVEL_GROUP), 0);
    }
    /* Cut short, anywhere: last comes too early. */
    struct buf all = {0};
    bool last;
    assert_int_equal(store_snapshot_read_raw(a, TRAVEL_GROUP, TRAVEL_INDEX, 0, 1 << 20, &all, &last), STORE_OK);
    assert_true(last && all.len == (size_t)total);
    for (size_t n = 0; n < all.len; n += n < 200 ? 1 : 97) {
        assert_int_equal(store_snapshot_write_raw(b, TRAVEL_GROUP, TRAVEL_INDEX, 3, 0, slice_of(all.ptr, n), true), STORE_CORRUPT);
    }
    assert_int_equal(backlog_count(db, TRAVEL_GROUP), 0);
    /* A file of the sender's is cut while it is sent: nothing is made up. */
    damage(da, "back-00000002-0000000000000010", 1499);
    buf_clear(&all);
    assert_int_equal(store_snapshot_read_raw(a, TRAVEL_GROUP, TRAVEL_INDEX, 100, 1000, &all, &last), STORE_OK);
    assert_int_equal(store_snapshot_read_raw(a, TRAVEL_GROUP, TRAVEL_INDEX, 1000, 1000, &all, &last), STORE_CORRUPT);
    buf_fini(&all);
    store_close(a);
    store_close(b);
    files_mem_free(da);
    files_mem_free(db);
}

/* Lists that no sound node sends, with checksums that are right. */
static void test_malformed_lists(void **state)
{
    (void)state;
    static const uint64_t bad[][4] = {{5, 1, 5, 1}, {6, 1, 5, 1}, {5, 1, 6, 0}, {5, 0, 6, 1}, {5, UINT64_MAX, 6, 2}, {5, 1ull << 62, 6, 1}};
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buf b = {0}, good = {0};
        backlog_pairs(&good, &(struct backlog_list){2, {{5, 1}, {6, 1}}});
        snapshot_put_header(&b, 0, 9, 1, buf_slice(&good));
        for (size_t k = 0; k < 4; k++) {
            for (size_t byte = 0; byte < 8; byte++) {
                b.ptr[SNAPSHOT_HEADER_BYTES + 8 * k + byte] = (uint8_t)(bad[i][k] >> 8 * byte);
            }
        }
        le32_put(b.ptr + SNAPSHOT_HEADER_BYTES + 32, crc32c(0, b.ptr + SNAPSHOT_HEADER_BYTES, 32));
        buf_append_slice(&b, SLICE_LIT("and what would be the files"));
        assert_int_equal(store_snapshot_write_raw(s, 0, 9, 1, 0, buf_slice(&b), false), STORE_CORRUPT);
        assert_int_equal(store_snapshot_write_raw(s, 0, 9, 1, b.len, SLICE_LIT("x"), true), STORE_CORRUPT);
        buf_fini(&b);
        buf_fini(&good);
    }
    assert_int_equal(backlog_count(disk, 0), 0);
    assert_int_equal(backlog_put(s, 0, 1, 0, 10), STORE_OK);
    store_close(s);
    files_mem_free(disk);
}

/* Numbers are unique, so files of one number differ in length only: the longer one stays, the process may be appending to it. */
static void test_longer_file_stays(void **state)
{
    (void)state;
    struct files_mem *da = files_mem_new(), *db = files_mem_new();
    struct store *a = backlog_peer(da, TRAVEL_GROUP, TRAVEL_INDEX, 3, &travelling, 0), *b = fixture_open(db, NULL);
    assert_int_equal(backlog_put(b, TRAVEL_GROUP, 0x10, 0, 2048), STORE_OK); /* longer */
    assert_int_equal(backlog_put(b, TRAVEL_GROUP, 0x30, 0, 200), STORE_OK);  /* shorter */
    assert_int_equal(backlog_transfer(a, b, TRAVEL_GROUP, TRAVEL_INDEX, 3, 512, -1), STORE_OK);
    assert_true(files_mem_all_durable(db));
    assert_true(backlog_is(b, TRAVEL_GROUP, 0x10, 2048) && backlog_list_is(b, TRAVEL_GROUP, &travelling));
    assert_int_equal(backlog_count(db, TRAVEL_GROUP), 3);
    assert_int_equal(backlog_put(b, TRAVEL_GROUP, 0x10, 2048, 2500), STORE_OK);
    assert_int_equal(files_mem_size(db, "back-00000002-0000000000000010.tmp"), -ENOENT);
    store_close(a);
    store_close(b);
    files_mem_free(da);
    files_mem_free(db);
}

/* A receiver's disk fills; a transfer is given up for a newer one, or for a snapshot of its own: nothing of it is left. */
static void test_transfer_given_up(void **state)
{
    (void)state;
    struct files_mem *da = files_mem_new(), *db = files_mem_new();
    struct store *a = backlog_peer(da, TRAVEL_GROUP, TRAVEL_INDEX, 3, &travelling, 0), *b = fixture_open(db, NULL);
    struct buf part = {0};
    bool last;
    files_mem_quota(db, disk_used(db) + 1000);
    assert_int_equal(backlog_transfer(a, b, TRAVEL_GROUP, TRAVEL_INDEX, 3, 600, -1), STORE_FULL);
    assert_int_equal(files_mem_size(db, "back-00000002-0000000000000010.tmp"), -ENOENT);
    files_mem_quota(db, 0);
    assert_int_equal(store_snapshot_read_raw(a, TRAVEL_GROUP, TRAVEL_INDEX, 0, 1000, &part, &last), STORE_OK);
    assert_int_equal(store_snapshot_write_raw(b, TRAVEL_GROUP, TRAVEL_INDEX, 3, 0, buf_slice(&part), false), STORE_OK);
    assert_true(files_mem_size(db, "back-00000002-0000000000000010.tmp") > 0);
    assert_int_equal(store_backlog_keep(b, TRAVEL_GROUP, NULL, 0), STORE_OK); /* being received: not touched */
    assert_true(files_mem_size(db, "back-00000002-0000000000000010.tmp") > 0);
    assert_int_equal(snapshot_make(b, TRAVEL_GROUP, 5, 1), STORE_OK);
    assert_int_equal(files_mem_size(db, "back-00000002-0000000000000010.tmp"), -ENOENT);
    assert_int_equal(store_snapshot_write_raw(b, TRAVEL_GROUP, TRAVEL_INDEX, 3, part.len, SLICE_LIT("x"), false), STORE_CORRUPT);
    /* An attachment that was named before a transfer came between is not taken for the transfer's. */
    assert_int_equal(backlog_transfer(a, b, TRAVEL_GROUP, TRAVEL_INDEX, 3, 600, -1), STORE_OK);
    assert_true(backlog_list_is(b, TRAVEL_GROUP, &travelling));
    assert_int_equal(snapshot_make(b, TRAVEL_GROUP, TRAVEL_INDEX + 1, 3), STORE_OK);
    assert_int_equal(store_backlog_keep(b, TRAVEL_GROUP, NULL, 0), STORE_OK);
    assert_int_equal(backlog_count(db, TRAVEL_GROUP), 0);
    buf_fini(&part);
    store_close(a);
    store_close(b);
    files_mem_free(da);
    files_mem_free(db);
}

/* Every byte of header, list, chunks and end: seen at the start, at load, or before the first byte is sent. */
static void test_rotten_list(void **state)
{
    (void)state;
    struct files_mem *disk = files_mem_new();
    store_close(backlog_peer(disk, TRAVEL_GROUP, TRAVEL_INDEX, 3, &travelling, 0));
    const char *name = "snap-00000002-0000000000000014";
    for (int64_t i = 0; i < files_mem_size(disk, name); i++) {
        struct files_mem *c = files_mem_clone(disk);
        struct store *s = NULL;
        struct store_recovery r;
        struct buf error = {0}, out = {0};
        bool last;
        files_mem_flip(c, name, (uint64_t)i, (unsigned)i % 8);
        enum store_status st = fixture_try_open(c, &s, &r, &error);
        assert_int_equal(st, i < TRAVEL_HEAD || s == NULL ? STORE_CORRUPT : STORE_OK);
        if (s != NULL) {
            assert_int_equal(store_snapshot_read_raw(s, TRAVEL_GROUP, TRAVEL_INDEX, 0, 100, &out, &last), STORE_CORRUPT);
            assert_false(snapshot_is(s, TRAVEL_GROUP, TRAVEL_INDEX));
            store_abandon(s);
        }
        assert_int_equal(backlog_count(c, TRAVEL_GROUP), 3); /* nothing is thrown away for it */
        store_recovered_free(&r);
        buf_fini(&error);
        buf_fini(&out);
        files_mem_free(c);
    }
    files_mem_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appends_only),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_failed_operations_poison),
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_snapshot_needs_its_files),
        cmocka_unit_test(test_start),
        cmocka_unit_test(test_travels_with_its_files),
        cmocka_unit_test(test_damaged_on_the_way),
        cmocka_unit_test(test_malformed_lists),
        cmocka_unit_test(test_longer_file_stays),
        cmocka_unit_test(test_transfer_given_up),
        cmocka_unit_test(test_rotten_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
