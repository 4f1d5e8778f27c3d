/* libFuzzer: a snapshot file from a peer, and one that rotted. The first byte chooses: raw bytes, bytes behind a sound
 * header, a sound file with flipped bits, the same with two backlog files, or any list of backlog files under right checksums. It is received in pieces and then loaded; nothing but a whole file may be
 * accepted, and memory stays bounded whatever its lengths say (I42). */
#include "storage/files_mem.h"
#include "storage/snapshot_file.h"
#include "storage/store.h"
#include "utils/assert.h"
#include "utils/crc32c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INDEX = 9, TERM = 2 };

static struct store *open_store(struct files_mem *m)
{
    struct files f = files_mem_table(m);
    struct store_options o = {.node_uuid_seed = 1, .self = 1, .node_name = SLICE_LIT("n1"), .groups = 1,
                              .segment_bytes = 64 * 1024};
    struct store *s;
    struct store_recovery r;
    struct buf error = {0};
    syn_assert(store_open(&f, &o, &s, &r, &error) == STORE_OK);
    store_recovered_free(&r);
    return s;
}

static void sound_file(struct buf *out, bool attach)
{
    struct files_mem *m = files_mem_new();
    struct store *s = open_store(m);
    bool last = false;
    if (attach) {
        struct buf pairs = {0}, bytes = {0};
        for (uint64_t file = 3; file <= 4; file++) {
            buf_append_slice(&bytes, SLICE_LIT("messages that lie outside the log"));
            syn_assert(store_backlog_write(s, 0, file, 0, buf_slice(&bytes)) == STORE_OK);
            buf_put_u64(&pairs, file);
            buf_put_u64(&pairs, bytes.len - 1);
        }
        syn_assert(store_snapshot_attach(s, 0, INDEX, buf_slice(&pairs)) == STORE_OK);
        buf_fini(&pairs);
        buf_fini(&bytes);
    }
    syn_assert(store_snapshot_write(s, 0, INDEX, TERM, 0, SLICE_LIT("one piece of state"), false) == STORE_OK);
    syn_assert(store_snapshot_write(s, 0, INDEX, TERM, 18, SLICE_LIT("and another"), true) == STORE_OK);
    syn_assert(store_snapshot_read_raw(s, 0, INDEX, 0, 1 << 20, out, &last) == STORE_OK && last);
    store_abandon(s);
    files_mem_free(m);
}

/* The input's first bytes as a list, with its number of files and its checksums right; the others behind it. */
static void any_list(struct buf *out, const uint8_t *data, size_t size)
{
    size_t n = size > 1 ? data[1] % 8 : 0;
    n = size > 2 + 16 * n ? n : 0;
    snapshot_put_header(out, 0, INDEX, TERM, SLICE_NONE);
    le32_put(out->ptr + 32, (uint32_t)n);
    le32_put(out->ptr + 36, crc32c(0, out->ptr, 36));
    if (n > 0) {
        buf_append(out, data + 2, 16 * n);
        buf_put_u32(out, crc32c(0, data + 2, 16 * n));
    }
    if (size > 2) {
        buf_append(out, data + 2 + 16 * n, size - 2 - 16 * n);
    }
}

static void build(struct buf *out, const uint8_t *data, size_t size)
{
    unsigned what = data[0] < 128 ? data[0] % 3u : 3u + data[0] % 2u;
    switch (what) {
    case 0:
        buf_append(out, data + 1, size - 1);
        break;
    case 1:
        snapshot_put_header(out, 0, INDEX, TERM, SLICE_NONE);
        buf_append(out, data + 1, size - 1);
        break;
    case 4:
        any_list(out, data, size);
        break;
    default:
        sound_file(out, what == 3);
        for (size_t i = 1; i + 2 <= size; i += 2) {
            out->ptr[data[i] % out->len] ^= data[i + 1];
        }
    }
}

static bool count(void *arg, slice_t piece)
{
    *(size_t *)arg += piece.len;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct files_mem *m = files_mem_new();
    struct store *s = open_store(m);
    struct buf file = {0};
    enum store_status st = STORE_OK;
    build(&file, data, size);
    buf_reserve(&file, 1);
    size_t off = 0, step = 1 + size % 97;
    do {
        size_t n = file.len - off < step ? file.len - off : step;
        st = store_snapshot_write_raw(s, 0, INDEX, TERM, off, slice_of(file.ptr + off, n), off + n == file.len);
        off += n;
    } while (st == STORE_OK && off < file.len);
    size_t bytes = 0;
    enum store_status loaded = store_snapshot_load(s, 0, INDEX, count, &bytes);
    syn_assert(loaded == (st == STORE_OK ? STORE_OK : STORE_CORRUPT));
    syn_assert(loaded == STORE_OK || files_mem_name(m, 2) == NULL);
    buf_fini(&file);
    store_abandon(s);
    files_mem_free(m);
    return 0;
}
