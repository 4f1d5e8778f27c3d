/* libFuzzer: the log as an attacker, or a very unlucky disk, left it. The first byte chooses: patches over the bytes of a
 * sound log, raw bytes as a segment, or records in blocks whose checksums are right (so that the decoder and the replay
 * are reached). Opening may refuse; it may not crash, and what it accepts it must accept again, the same (W9, I42). */
#include "storage/block.h"
#include "storage/files_mem.h"
#include "storage/store.h"
#include "utils/assert.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { GROUPS = 2, SEGMENT = 64 * 1024 };

#define LOG_FILE "log-0000000000000001"

static struct store_options options(void)
{
    return (struct store_options){.node_uuid_seed = 1, .self = 1, .node_name = SLICE_LIT("n1"), .cluster_key = 1,
                                  .groups = GROUPS, .segment_bytes = SEGMENT};
}

static enum store_status open_store(struct files_mem *m, struct store **s, struct store_recovery *r)
{
    struct files f = files_mem_table(m);
    struct store_options o = options();
    struct buf error = {0};
    enum store_status st = store_open(&f, &o, s, r, &error);
    syn_assert(st == STORE_OK || error.len > 0);
    buf_fini(&error);
    return st;
}

static struct files_mem *sound_log(void)
{
    struct files_mem *m = files_mem_new();
    struct store *s;
    struct store_recovery r;
    syn_assert(open_store(m, &s, &r) == STORE_OK);
    struct buf b = {0}, run = {0};
    for (uint64_t i = 1; i <= 4; i++) {
        buf_clear(&b);
        buf_clear(&run);
        buf_put_u64(&run, i);
        buf_put_u8(&run, ENTRY_NORMAL);
        buf_put_bytes(&run, SLICE_LIT("payload"));
        log_put_hard_state(&b, 0, i, 1, i);
        log_put_entries(&b, 0, i, 1, buf_slice(&run));
        syn_assert(store_append(s, buf_slice(&b)) == STORE_OK && store_sync(s) == STORE_OK);
    }
    buf_fini(&b);
    buf_fini(&run);
    store_recovered_free(&r);
    store_abandon(s);
    return m;
}

static void put(struct files_mem *m, uint64_t off, slice_t bytes)
{
    struct files f = files_mem_table(m);
    int fd = f.open(f.ctx, LOG_FILE, true);
    f.pwrite(f.ctx, fd, bytes.ptr, bytes.len, off);
    f.sync(f.ctx, fd);
    f.close(f.ctx, fd);
}

/* Where the sound log ends, and the header of its last block. */
static uint64_t log_end(struct files_mem *m, struct block_header *last)
{
    struct files f = files_mem_table(m);
    int fd = f.open(f.ctx, LOG_FILE, false);
    uint8_t p[BLOCK_HEADER_BYTES];
    struct block_header h;
    uint64_t off = 0;
    while (f.pread(f.ctx, fd, p, sizeof p, off) == sizeof p && block_header_decode(p, &h) == BLOCK_OK) {
        *last = h;
        off += block_span(h.body_len);
    }
    f.close(f.ctx, fd);
    return off;
}

/* Each 0xff 0xff in the data begins another block. */
static void put_records(struct files_mem *m, slice_t data)
{
    struct block_header h;
    uint64_t off = log_end(m, &h);
    struct buf b = {0};
    while (data.len > 0) {
        size_t n = 0;
        while (n < data.len && !(data.len - n >= 2 && data.ptr[n] == 0xff && data.ptr[n + 1] == 0xff)) {
            n++;
        }
        buf_clear(&b);
        memset(buf_reserve(&b, BLOCK_HEADER_BYTES), 0, BLOCK_HEADER_BYTES);
        b.len = BLOCK_HEADER_BYTES;
        buf_append(&b, data.ptr, n);
        h.kind = BLOCK_RECORDS;
        h.synced = h.number;
        h.number++;
        h.prev_crc = h.header_crc;
        block_seal(&b, &h);
        put(m, off, buf_slice(&b));
        off += b.len;
        n = n + 2 < data.len ? n + 2 : data.len;
        data = slice_of(data.ptr + n, data.len - n);
    }
    buf_fini(&b);
}

static void damage(struct files_mem *m, const uint8_t *data, size_t size)
{
    switch (data[0] % 3) {
    case 0:
        for (size_t i = 1; i + 3 <= size; i += 3) {
            files_mem_flip(m, LOG_FILE, le16_get(data + i), data[i + 2] & 7);
        }
        break;
    case 1:
        put(m, 0, slice_of(data + 1, size - 1));
        break;
    default:
        put_records(m, slice_of(data + 1, size - 1));
    }
}

static bool same(const struct store_recovery *a, const struct store_recovery *b)
{
    for (uint32_t g = 0; g < GROUPS; g++) {
        const struct store_group *x = &a->groups[g], *y = &b->groups[g];
        if (x->term != y->term || x->vote != y->vote || x->commit != y->commit || x->first_index != y->first_index ||
            x->n_entries != y->n_entries || !slice_eq(buf_slice(&x->run), buf_slice(&y->run))) {
            return false;
        }
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct files_mem *base;
    base = base ? base : sound_log();
    if (size == 0) {
        return 0;
    }
    struct files_mem *m = files_mem_clone(base);
    struct store *s;
    struct store_recovery first = {0}, second = {0};
    damage(m, data, size);
    if (open_store(m, &s, &first) == STORE_OK) {
        store_abandon(s);
        syn_assert(open_store(m, &s, &second) == STORE_OK);
        syn_assert(same(&first, &second));
        store_abandon(s);
    }
    store_recovered_free(&first);
    store_recovered_free(&second);
    files_mem_free(m);
    return 0;
}
