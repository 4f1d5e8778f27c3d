/* See backlog_fixture.h. */
#include "backlog_fixture.h"

#include "utils/hash.h"

#include <stdio.h>
#include <string.h>

static void place_bytes(struct buf *out, uint32_t group, uint64_t file, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        buf_put_u8(out, (uint8_t)(hash_u64(group * 1000003u + file * 7919 + i / 8) >> i % 8 * 8));
    }
}

enum store_status backlog_put(struct store *s, uint32_t group, uint64_t file, uint64_t from, uint64_t to)
{
    struct buf b = {0};
    place_bytes(&b, group, file, from, to);
    enum store_status st = store_backlog_write(s, group, file, from, buf_slice(&b));
    buf_fini(&b);
    return st;
}

bool backlog_is(struct store *s, uint32_t group, uint64_t file, uint64_t bytes)
{
    struct buf want = {0}, got = {0};
    place_bytes(&want, group, file, 0, bytes);
    bool ok = store_backlog_read(s, group, file, 0, (uint32_t)bytes, &got) == STORE_OK && slice_eq(buf_slice(&want), buf_slice(&got));
    buf_fini(&want);
    buf_fini(&got);
    return ok;
}

bool backlog_list_is(struct store *s, uint32_t group, const struct backlog_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        if (!backlog_is(s, group, l->v[i].file, l->v[i].bytes)) {
            return false;
        }
    }
    return true;
}

size_t backlog_count(const struct files_mem *disk, uint32_t group)
{
    char prefix[32];
    size_t n = 0;
    snprintf(prefix, sizeof prefix, "back-%08x-", group);
    for (size_t i = 0; files_mem_name(disk, i) != NULL; i++) {
        const char *name = files_mem_name(disk, i);
        n += strncmp(name, prefix, 14) == 0 && strlen(name) == 30 && strpbrk(name + 14, "ABCDEF") == NULL;
    }
    return n;
}

void backlog_pairs(struct buf *out, const struct backlog_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        buf_put_u64(out, l->v[i].file);
        buf_put_u64(out, l->v[i].bytes);
    }
}

enum store_status backlog_snapshot(struct store *s, uint32_t group, uint64_t index, uint64_t term, const struct backlog_list *l)
{
    struct buf pairs = {0};
    backlog_pairs(&pairs, l);
    enum store_status st = store_snapshot_attach(s, group, index, buf_slice(&pairs));
    buf_fini(&pairs);
    return st == STORE_OK ? snapshot_make(s, group, index, term) : st;
}

struct store *backlog_peer(struct files_mem *disk, uint32_t group, uint64_t index, uint64_t term, const struct backlog_list *l, uint64_t more)
{
    struct store *s = fixture_open(disk, NULL);
    for (size_t i = 0; i < l->n; i++) {
        assert_int_equal(backlog_put(s, group, l->v[i].file, 0, l->v[i].bytes + more), STORE_OK);
    }
    assert_int_equal(backlog_snapshot(s, group, index, term, l), STORE_OK);
    return s;
}

enum store_status backlog_transfer(struct store *from, struct store *to, uint32_t group, uint64_t index, uint64_t term, uint32_t step,
                                   int64_t flip_at)
{
    struct buf chunk = {0};
    bool last = false;
    enum store_status st = STORE_OK;
    for (uint64_t off = 0; !last && st == STORE_OK; off += chunk.len) {
        buf_clear(&chunk);
        assert_int_equal(store_snapshot_read_raw(from, group, index, off, step, &chunk, &last), STORE_OK);
        if (flip_at >= (int64_t)off && flip_at < (int64_t)(off + chunk.len)) {
            chunk.ptr[(uint64_t)flip_at - off] ^= 16;
        }
        st = store_snapshot_write_raw(to, group, index, term, off, buf_slice(&chunk), last);
    }
    buf_fini(&chunk);
    return st;
}
