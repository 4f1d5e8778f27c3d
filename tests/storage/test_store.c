/* The store one promise at a time: damage of every byte (W3, S23, S30, S31, D3, D5, D6, D14), full disks (W8, D9),
 * failing syncs (W5, S28), mismatched directories. Snapshots and trimming are in test_snapshot.c. */
#include "fixture.h"

#include "storage/block.h"
#include "storage/log_codec.h"
#include "utils/crc32c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A log of several blocks in one segment; the last is synced too. */
static struct files_mem *small_log(struct model *m, unsigned blocks, bool clean)
{
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    struct buf b = {0};
    for (unsigned i = 0; i < blocks; i++) {
        model_hard_state(m, &b, 0, i + 1, 1, i);
        model_entries(m, &b, 0, m->g[0].last + 1, 2, i + 1);
        append_sync(s, &b);
    }
    buf_fini(&b);
    if (clean) {
        store_close(s);
    } else {
        store_abandon(s);
    }
    return disk;
}

static const char *last_log(struct files_mem *disk)
{
    const char *found = NULL, *name;
    for (size_t i = 0; (name = files_mem_name(disk, i)) != NULL; i++) {
        found = strncmp(name, "log-", 4) == 0 ? name : found;
    }
    return found;
}

static void write_file(struct files_mem *disk, const char *name, uint64_t off, slice_t bytes)
{
    struct files f = files_mem_table(disk);
    int fd = f.open(f.ctx, name, true);
    assert_int_equal(f.pwrite(f.ctx, fd, bytes.ptr, bytes.len, off), bytes.len);
    assert_int_equal(f.sync(f.ctx, fd), 0);
    f.close(f.ctx, fd);
    f.sync_dir(f.ctx);
}

/* Offsets of the blocks of a segment; returns how many. */
static size_t block_offsets(struct files_mem *disk, const char *name, uint64_t *at, size_t max)
{
    struct buf b = {0};
    size_t n = 0;
    uint64_t off = 0;
    struct block_header h;
    disk_read(disk, name, &b);
    while (n < max && off + BLOCK_ALIGN <= b.len && block_header_decode(b.ptr + off, &h) == BLOCK_OK) {
        at[n++] = off;
        off += block_span(h.body_len);
    }
    at[n] = off;
    buf_fini(&b);
    return n;
}

/* The group as it was before the last block: what a cut of an unprotected last block may leave. */
static struct model without_last(const struct model *m)
{
    struct model c = *m;
    c.g[0].last -= 2;
    c.g[0].term -= 1;
    c.g[0].commit -= 1;
    return c;
}

static void flip_everywhere(bool clean)
{
    struct model m = {0};
    struct files_mem *disk = small_log(&m, 6, clean);
    uint64_t at[16];
    const char *name = last_log(disk);
    size_t blocks = block_offsets(disk, name, at, 15);
    struct model before = without_last(&m);
    uint64_t last_data = at[6]; /* block 0 is the preamble, 1 ... 6 hold data */
    assert_int_equal(blocks, clean ? 8 : 7);
    unsigned found = 0, cuts = 0;
    for (uint64_t byte = 0; byte < at[blocks] + 600; byte++) {
        struct files_mem *c = files_mem_clone(disk);
        struct store_recovery r;
        struct buf error = {0};
        files_mem_flip(c, name, byte, (unsigned)(byte % 8));
        enum store_status st = reopen(c, &r, &error);
        if (st == STORE_CORRUPT) {
            found++;
            assert_true(byte < at[blocks]);
            assert_non_null(memmem(error.ptr, error.len, "log-", 4) ? (void *)error.ptr : memmem(error.ptr, error.len, "block", 5));
            assert_non_null(memmem(error.ptr, error.len, "CLUSTER.REMOVE", 14));
        } else {
            assert_int_equal(st, STORE_OK);
            bool whole = model_equals(&m, &r);
            if (!whole) { /* only the last block, and only when nothing says that it was durable */
                assert_true(!clean && byte >= last_data && model_equals(&before, &r) && r.torn_bytes > 0);
                cuts++;
            }
        }
        store_recovered_free(&r);
        buf_fini(&error);
        files_mem_free(c);
    }
    assert_true(found > 400);
    assert_true(clean ? cuts == 0 : cuts > 50);
    files_mem_free(disk);
}

static void test_flip_every_byte_after_a_crash(void **state)
{
    (void)state;
    flip_everywhere(false);
}

static void test_flip_every_byte_after_a_clean_stop(void **state)
{
    (void)state;
    flip_everywhere(true);
}

/* S23: a byte of entry 5 of 8; what was acknowledged behind it must not vanish. */
static void test_rot_in_the_middle_is_refused(void **state)
{
    (void)state;
    struct model m = {0};
    struct files_mem *disk = small_log(&m, 8, false);
    uint64_t at[16];
    struct buf error = {0};
    struct store_recovery r;
    block_offsets(disk, last_log(disk), at, 15);
    files_mem_flip(disk, last_log(disk), at[5] + BLOCK_HEADER_BYTES + 3, 1);
    assert_int_equal(reopen(disk, &r, &error), STORE_CORRUPT);
    assert_non_null(memmem(error.ptr, error.len, "body", 4));
    store_recovered_free(&r);
    buf_fini(&error);
    files_mem_free(disk);
}

/* Two appends in one sync; the first was lost, the second reached the disk: neither was durable, both go, and the second
 * must not come back behind what is written then (S25). */
static void test_unsynced_hole_is_cut_for_good(void **state)
{
    (void)state;
    struct model m = {0};
    struct files_mem *disk = small_log(&m, 3, false);
    struct store *s = fixture_open(disk, NULL);
    struct model lost = m;
    struct buf b = {0};
    uint64_t at[16];
    const char *name = last_log(disk);
    size_t first = block_offsets(disk, name, at, 15);
    for (int i = 0; i < 2; i++) {
        model_hard_state(&lost, &b, 1, 50, (node_id_t)(2 + i), 0);
        assert_int_equal(store_append(s, buf_slice(&b)), STORE_OK);
        buf_clear(&b);
    }
    store_abandon(s);
    uint64_t hole = at[first];
    static const uint8_t zeros[BLOCK_ALIGN];
    write_file(disk, name, hole, slice_of(zeros, sizeof zeros));
    struct store_recovery r;
    s = fixture_open(disk, &r);
    assert_true(model_equals(&m, &r) && r.torn_bytes > 0);
    store_recovered_free(&r);
    model_hard_state(&m, &b, 1, 60, 1, 0);
    append_sync(s, &b);
    store_abandon(s);
    s = fixture_open(disk, &r);
    assert_true(model_equals(&m, &r));
    assert_int_equal(r.torn_bytes, 0);
    store_recovered_free(&r);
    store_abandon(s);
    buf_fini(&b);
    files_mem_free(disk);
}

static void test_zeros_never_pass(void **state)
{
    (void)state;
    uint8_t zeros[BLOCK_HEADER_BYTES] = {0};
    struct block_header h;
    struct log_record rec;
    assert_int_equal(block_header_decode(zeros, &h), BLOCK_ZERO);
    struct reader r = reader_of(slice_of(zeros, sizeof zeros));
    assert_false(log_record_next(&r, GROUPS, &rec));
    assert_false(r.ok);
}

static void name_of(char out[32], unsigned n)
{
    snprintf(out, 32, "log-%016x", n);
}

/* S30, D5, D6: a recycled file, another segment's bytes under this name, a block of another node. */
static void test_segments_in_the_wrong_place(void **state)
{
    (void)state;
    struct model m = {0};
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    append_until(s, &m, 4);
    store_abandon(s);
    char a[32], b[32];
    for (unsigned from = 1; from <= 4; from++) {
        for (unsigned to = 1; to <= 4; to++) {
            struct files_mem *c = files_mem_clone(disk);
            struct buf bytes = {0}, error = {0};
            struct store_recovery r;
            name_of(a, from);
            name_of(b, to);
            disk_read(c, a, &bytes);
            write_file(c, b, 0, buf_slice(&bytes));
            assert_int_equal(reopen(c, &r, &error), from == to ? STORE_OK : STORE_CORRUPT);
            store_recovered_free(&r);
            buf_fini(&bytes);
            buf_fini(&error);
            files_mem_free(c);
        }
    }
    files_mem_free(disk);
}

/* A recycled segment carries old valid blocks until it is zeroed; none of them may follow a new one. */
static void test_recycled_segment_is_clean(void **state)
{
    (void)state;
    struct model m = {0};
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    append_until(s, &m, 3);
    uint64_t none[GROUPS] = {0};
    assert_int_equal(store_trim(s, none), STORE_OK); /* hard states only: the preamble of the newest has them */
    append_until(s, &m, 2);
    struct store_stats st;
    store_stats(s, &st);
    assert_int_equal(st.segments, 2);
    struct store_recovery r;
    store_abandon(s);
    s = fixture_open(disk, &r);
    assert_true(model_equals(&m, &r));
    assert_int_equal(r.torn_bytes, 0);
    store_recovered_free(&r);
    store_abandon(s);
    files_mem_free(disk);
}

/* S31: the last block of a full segment is gone, and only hard states were in it, so that no index shows the gap. */
static void test_missing_end_of_a_segment(void **state)
{
    (void)state;
    struct model m = {0};
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    append_until(s, &m, 2);
    store_abandon(s);
    uint64_t at[256];
    char name[32];
    name_of(name, 1);
    size_t n = block_offsets(disk, name, at, 250);
    uint8_t *zeros = calloc(1, at[n] - at[n - 1]);
    write_file(disk, name, at[n - 1], slice_of(zeros, at[n] - at[n - 1]));
    free(zeros);
    struct buf error = {0};
    struct store_recovery r;
    assert_int_equal(reopen(disk, &r, &error), STORE_CORRUPT);
    store_recovered_free(&r);
    buf_fini(&error);
    files_mem_free(disk);
}

/* D14: deleted, emptied and cut files. */
static void test_files_deleted_or_cut(void **state)
{
    (void)state;
    struct model m = {0};
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    append_until(s, &m, 3);
    assert_int_equal(store_prepare(s), STORE_OK);
    store_abandon(s);
    for (unsigned k = 1; k <= 3; k++) {
        for (int how = 0; how < 3; how++) {
            struct files_mem *c = files_mem_clone(disk);
            struct files f = files_mem_table(c);
            struct buf error = {0};
            struct store_recovery r;
            char name[32];
            name_of(name, k);
            int fd = f.open(f.ctx, name, false);
            if (how == 0) {
                f.unlink(f.ctx, name);
            } else {
                f.truncate(f.ctx, fd, how == 1 ? 0 : 1024);
            }
            enum store_status st = reopen(c, &r, &error);
            /* A missing oldest segment without entries loses nothing: the next preamble says it all. */
            assert_true(st == STORE_CORRUPT || (k == 1 && how == 0 && st == STORE_OK && model_equals(&m, &r)));
            store_recovered_free(&r);
            buf_fini(&error);
            files_mem_free(c);
        }
    }
    struct files f = files_mem_table(disk);
    struct buf error = {0};
    struct store_recovery r;
    f.unlink(f.ctx, "IDENTITY");
    assert_int_equal(reopen(disk, &r, &error), STORE_CORRUPT);
    buf_fini(&error);
    files_mem_free(disk);
}

static void test_mismatch(void **state)
{
    (void)state;
    struct files_mem *disk = files_mem_new();
    store_close(fixture_open(disk, NULL));
    struct files f = files_mem_table(disk);
    for (int i = 0; i < 5; i++) {
        struct store_options o = fixture_options();
        struct store *s;
        struct store_recovery r;
        struct buf error = {0};
        o.node_name = i == 0 ? SLICE_LIT("n2") : o.node_name;
        o.self = i == 1 ? 2 : o.self;
        o.cluster_key = i == 2 ? 43 : o.cluster_key;
        o.groups = i == 3 ? 4 : o.groups;
        enum store_status st = store_open(&f, &o, &s, &r, &error);
        assert_int_equal(st, i == 4 ? STORE_OK : STORE_MISMATCH);
        assert_true(i == 4 || error.len > 20);
        if (i == 4) {
            assert_false(r.fresh);
            assert_int_equal(r.incarnation, 2);
            store_abandon(s);
        }
        store_recovered_free(&r);
        buf_fini(&error);
    }
    struct buf id = {0};
    disk_read(disk, "IDENTITY", &id);
    le16_put(id.ptr + 4, 2); /* a newer format, with a right checksum */
    le32_put(id.ptr + id.len - 4, crc32c(0, id.ptr, id.len - 4));
    write_file(disk, "IDENTITY", 0, buf_slice(&id));
    struct store_recovery r;
    struct buf error = {0};
    assert_int_equal(reopen(disk, &r, &error), STORE_MISMATCH);
    assert_non_null(memmem(error.ptr, error.len, "newer", 5));
    buf_fini(&error);
    buf_fini(&id);
    files_mem_free(disk);
}

/* W8, D9: a full disk shows in prepare; what is in flight fits; with room again everything goes on. */
static void test_full_disk(void **state)
{
    (void)state;
    struct model m = {0};
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    struct buf b = {0};
    assert_int_equal(store_prepare(s), STORE_OK);
    files_mem_quota(disk, disk_used(disk) + 100);
    append_until(s, &m, 2);
    assert_true(store_needs_prepare(s));
    assert_int_equal(store_prepare(s), STORE_FULL);
    assert_true(strlen(store_error(s)) > 10);
    enum store_status st = STORE_OK;
    unsigned fitted = 0;
    while (st == STORE_OK) {
        struct model next = m;
        model_hard_state(&next, &b, 0, m.g[0].term + 1, 2, 0);
        st = store_append(s, buf_slice(&b));
        m = st == STORE_OK ? next : m;
        fitted += st == STORE_OK;
        buf_clear(&b);
    }
    assert_int_equal(st, STORE_FULL);
    assert_true(fitted > 50);
    assert_int_equal(store_sync(s), STORE_OK);
    assert_int_equal(snapshot_make(s, 0, 1, 1), STORE_FULL);
    assert_int_equal(files_mem_size(disk, "prepare.tmp"), -ENOENT);
    files_mem_quota(disk, 0);
    assert_int_equal(store_prepare(s), STORE_OK);
    model_hard_state(&m, &b, 1, 9, 3, 0);
    append_sync(s, &b);
    store_abandon(s);
    struct store_recovery r;
    s = fixture_open(disk, &r);
    assert_true(model_equals(&m, &r));
    store_recovered_free(&r);
    store_abandon(s);
    buf_fini(&b);
    files_mem_free(disk);
}

/* W5, S28, D7: after a failed sync nothing is durable, whatever the next sync says. */
static void test_failed_sync_is_final(void **state)
{
    (void)state;
    struct model m = {0};
    struct files_mem *disk = small_log(&m, 2, false);
    struct store *s = fixture_open(disk, NULL);
    struct buf b = {0};
    struct model lost = m;
    model_entries(&lost, &b, 0, lost.g[0].last + 1, 3, 2);
    assert_int_equal(store_append(s, buf_slice(&b)), STORE_OK);
    files_mem_fail(disk, FILES_MEM_SYNC, 1, EIO);
    enum store_status st = store_sync(s);
    enum store_status again = store_sync(s);
    store_abandon(s);
    struct prng g;
    prng_init(&g, 1);
    files_mem_crash(disk, &g);
    struct store_recovery r;
    s = fixture_open(disk, &r);
    assert_true(st != STORE_OK || model_equals(&lost, &r)); /* said durable: must be there */
    assert_int_equal(st, STORE_FAILED);
    assert_int_equal(again, STORE_FAILED);
    assert_true(model_equals(&m, &r));
    store_recovered_free(&r);
    store_abandon(s);
    buf_fini(&b);
    files_mem_free(disk);
}

/* A record whose checksum is right but which cannot follow: an own bug or a crafted file, never a state. */
static void test_gap_in_entries_is_refused(void **state)
{
    (void)state;
    struct model m = {0};
    struct files_mem *disk = small_log(&m, 2, false);
    struct buf file = {0}, b = {0}, error = {0};
    uint64_t at[16];
    const char *name = last_log(disk);
    size_t n = block_offsets(disk, name, at, 15);
    disk_read(disk, name, &file);
    struct block_header h;
    assert_int_equal(block_header_decode(file.ptr + at[n - 1], &h), BLOCK_OK);
    memset(buf_reserve(&b, BLOCK_HEADER_BYTES), 0, BLOCK_HEADER_BYTES);
    b.len = BLOCK_HEADER_BYTES;
    model_entries(&m, &b, 0, m.g[0].last + 2, 1, 9);
    h.number++;
    h.synced++;
    h.prev_crc = h.header_crc;
    block_seal(&b, &h);
    write_file(disk, name, at[n], buf_slice(&b));
    struct store_recovery r;
    assert_int_equal(reopen(disk, &r, &error), STORE_CORRUPT);
    assert_non_null(memmem(error.ptr, error.len, "gap", 3));
    buf_fini(&error);
    buf_fini(&file);
    buf_fini(&b);
    files_mem_free(disk);
}

/* One block larger than a segment, and the next one after it. */
static void test_block_larger_than_a_segment(void **state)
{
    (void)state;
    struct files_mem *disk = files_mem_new();
    struct store *s = fixture_open(disk, NULL);
    struct buf run = {0}, b = {0};
    buf_put_u64(&run, 1);
    buf_put_u8(&run, ENTRY_NORMAL);
    buf_put_u32(&run, 3 * SEGMENT);
    memset(buf_reserve(&run, 3 * SEGMENT), 0x5a, 3 * SEGMENT);
    run.len += 3 * SEGMENT;
    for (uint64_t i = 1; i <= 3; i++) {
        log_put_entries(&b, 0, i, 1, buf_slice(&run));
        append_sync(s, &b);
    }
    store_abandon(s);
    struct store_recovery r;
    s = fixture_open(disk, &r);
    assert_int_equal(r.groups[0].n_entries, 3);
    assert_int_equal(r.groups[0].run.len, 3 * run.len);
    store_recovered_free(&r);
    store_close(s);
    buf_fini(&b);
    buf_fini(&run);
    files_mem_free(disk);
}

/* Rot at rest on both sides of a clean stop is found even when the end marker itself went (the identity's floor). */
static void test_clean_stop_protects_the_last_block(void **state)
{
    (void)state;
    struct model m = {0};
    struct files_mem *disk = small_log(&m, 4, true);
    uint64_t at[16];
    const char *name = last_log(disk);
    size_t n = block_offsets(disk, name, at, 15);
    uint8_t zeros[4096] = {0};
    write_file(disk, name, at[n - 2], slice_of(zeros, sizeof zeros));
    struct buf error = {0};
    struct store_recovery r;
    assert_int_equal(reopen(disk, &r, &error), STORE_CORRUPT);
    buf_fini(&error);
    files_mem_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flip_every_byte_after_a_crash),
        cmocka_unit_test(test_flip_every_byte_after_a_clean_stop),
        cmocka_unit_test(test_rot_in_the_middle_is_refused),
        cmocka_unit_test(test_unsynced_hole_is_cut_for_good),
        cmocka_unit_test(test_zeros_never_pass),
        cmocka_unit_test(test_segments_in_the_wrong_place),
        cmocka_unit_test(test_recycled_segment_is_clean),
        cmocka_unit_test(test_missing_end_of_a_segment),
        cmocka_unit_test(test_files_deleted_or_cut),
        cmocka_unit_test(test_mismatch),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_failed_sync_is_final),
        cmocka_unit_test(test_gap_in_entries_is_refused),
        cmocka_unit_test(test_block_larger_than_a_segment),
        cmocka_unit_test(test_clean_stop_protects_the_last_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
