/* The store's snapshots one promise at a time: what they let be trimmed (W7, D15), how they travel to a peer (W6, S15, S26),
 * rot in every byte (D3, D12), no room for them. */
#include "fixture.h"

#include "storage/log_codec.h"

#include <errno.h>
#include <string.h>

/* W7: a snapshot that is only being written allows no trimming. */
static void test_trim_waits_for_the_snapshot(void **state)
{
    (void)state;
    struct model m = {0};
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    struct buf b = {0};
    model_entries(&m, &b, 0, 1, 20, 1);
    model_hard_state(&m, &b, 0, 1, 1, 20);
    append_sync(s, &b);
    append_until(s, &m, 3);
    snapshot_bytes(&b, 0, 20);
    assert_int_equal(store_snapshot_write(s, 0, 20, 1, 0, buf_slice(&b), false), STORE_OK);
    uint64_t limit[GROUPS] = {20, 0, 0};
    assert_int_equal(store_trim(s, limit), STORE_OK);
    store_abandon(s);
    struct store_recovery r;
    s = fixture_open(disk, &r);
    assert_true(model_equals(&m, &r));
    store_recovered_free(&r);
    assert_int_equal(snapshot_make(s, 0, 20, 1), STORE_OK);
    assert_int_equal(store_trim(s, limit), STORE_OK);
    struct store_stats st;
    store_stats(s, &st);
    assert_int_equal(st.segments, 1);
    store_abandon(s);
    s = fixture_open(disk, &r);
    assert_true(model_equals(&m, &r) && r.groups[0].snapshot_index == 20);
    store_recovered_free(&r);
    store_abandon(s);
    /* D15: without that snapshot the log has a gap, and it is refused. */
    struct files f = files_mem_table(disk);
    struct buf error = {0};
    f.unlink(f.ctx, "snap-00000000-0000000000000014");
    assert_int_equal(reopen(disk, &r, &error), STORE_CORRUPT);
    assert_non_null(memmem(error.ptr, error.len, "missing", 7));
    buf_fini(&error);
    buf_fini(&b);
    files_mem_free(disk);
}

static void copy_snapshot(struct store *from, struct store *to, uint32_t max, int64_t flip_at, enum store_status *st)
{
    struct buf chunk = {0};
    bool last = false;
    *st = STORE_OK;
    for (uint64_t off = 0; !last && *st == STORE_OK; off += chunk.len) {
        buf_clear(&chunk);
        assert_int_equal(store_snapshot_read_raw(from, 0, 20, off, max, &chunk, &last), STORE_OK);
        if (flip_at >= (int64_t)off && flip_at < (int64_t)(off + chunk.len)) {
            chunk.ptr[(uint64_t)flip_at - off] ^= 4;
        }
        *st = store_snapshot_write_raw(to, 0, 20, 3, off, buf_slice(&chunk), last);
        if (chunk.len == 0) {
            break;
        }
    }
    buf_fini(&chunk);
}

static void test_snapshot_travels_byte_by_byte(void **state)
{
    (void)state;
    struct files_mem *da = files_mem_new(), *db = files_mem_new();
    struct store *a = fixture_open(da, NULL), *b = fixture_open(db, NULL);
    enum store_status st;
    const char *name = "snap-00000000-0000000000000014";
    assert_int_equal(snapshot_make(a, 0, 20, 3), STORE_OK);
    int64_t size = files_mem_size(da, name);
    for (int64_t i = 0; i < size; i++) {
        copy_snapshot(a, b, 4096, i, &st);
        assert_int_equal(st, STORE_CORRUPT);
        assert_int_equal(files_mem_size(db, name), -ENOENT);
    }
    copy_snapshot(a, b, 777, -1, &st);
    assert_int_equal(st, STORE_OK);
    assert_true(snapshot_is(b, 0, 20));
    struct buf x = {0}, y = {0};
    disk_read(da, name, &x);
    disk_read(db, name, &y);
    assert_true(slice_eq(buf_slice(&x), buf_slice(&y)));
    assert_int_equal(store_snapshot_write_raw(b, 0, 30, 3, 5, SLICE_LIT("x"), false), STORE_CORRUPT);
    assert_int_equal(store_snapshot_write_raw(b, 0, 10, 3, 0, SLICE_LIT("x"), false), STORE_CORRUPT);
    assert_int_equal(store_snapshot_write_raw(b, 99, 30, 3, 0, SLICE_LIT("x"), false), STORE_CORRUPT);
    buf_fini(&x);
    buf_fini(&y);
    store_close(a);
    store_close(b);
    files_mem_free(da);
    files_mem_free(db);
}

static bool count(void *arg, slice_t piece)
{
    *(size_t *)arg += piece.len;
    return true;
}

/* D3, D12: no byte of a snapshot file may rot unseen, neither at load nor when it is sent to a peer. */
static void test_rotten_snapshot(void **state)
{
    (void)state;
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    const char *name = "snap-00000001-0000000000000007";
    assert_int_equal(snapshot_make(s, 1, 7, 2), STORE_OK);
    store_close(s);
    int64_t size = files_mem_size(disk, name);
    unsigned at_open = 0;
    for (int64_t i = 0; i < size; i++) {
        struct files_mem *c = files_mem_clone(disk);
        struct store_recovery r;
        struct buf error = {0}, chunk = {0};
        bool last;
        size_t seen = 0;
        files_mem_flip(c, name, (uint64_t)i, (unsigned)i % 8);
        if (fixture_try_open(c, &s, &r, &error) == STORE_OK) {
            assert_int_equal(store_snapshot_load(s, 1, 7, count, &seen), STORE_CORRUPT);
            assert_int_equal(store_snapshot_read_raw(s, 1, 7, 0, 100, &chunk, &last), STORE_CORRUPT);
            assert_true(strlen(store_upkeep_error(s)) > 10);
            store_abandon(s);
        } else {
            at_open++;
            assert_non_null(memmem(error.ptr, error.len, name, strlen(name)));
        }
        store_recovered_free(&r);
        buf_fini(&error);
        buf_fini(&chunk);
        files_mem_free(c);
    }
    assert_int_equal(at_open, 40 + 32); /* header and end */
    files_mem_free(disk);
}

/* The disk fills while a snapshot is written: the old one stays, the store lives, nothing is left behind. */
static void test_snapshot_without_room(void **state)
{
    (void)state;
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    assert_int_equal(snapshot_make(s, 0, 5, 1), STORE_OK);
    files_mem_quota(disk, disk_used(disk) + 100);
    assert_int_equal(snapshot_make(s, 0, 9, 1), STORE_FULL);
    assert_int_equal(files_mem_size(disk, "snap-00000000-0000000000000009.tmp"), -ENOENT);
    files_mem_quota(disk, 0);
    assert_true(snapshot_is(s, 0, 5));
    assert_int_equal(snapshot_make(s, 0, 9, 1), STORE_OK);
    assert_true(snapshot_is(s, 0, 9));
    assert_int_equal(files_mem_size(disk, "snap-00000000-0000000000000005"), -ENOENT);
    store_close(s);
    files_mem_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trim_waits_for_the_snapshot),
        cmocka_unit_test(test_snapshot_travels_byte_by_byte),
        cmocka_unit_test(test_rotten_snapshot),
        cmocka_unit_test(test_snapshot_without_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
