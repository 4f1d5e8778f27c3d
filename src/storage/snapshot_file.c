/* Snapshot files to bytes and back (docs/disk.md, "Snapshot files"; D3, D12, I42).
 *
 * Responsible for the format only; which file is the newest, and when it is durable, is snapshot.c's.
 * Invariants: nothing read from the file decides how much memory is taken (lengths are checked against constants first);
 * no piece reaches the caller before its checksum was right. */
#include "storage/snapshot_file.h"

#include "utils/assert.h"
#include "utils/crc32c.h"

#include <errno.h>
#include <stdlib.h>
#include <zstd.h>

enum { SNAPSHOT_MAGIC = 0x534e5953 /* "SYNS" */, SNAPSHOT_FORMAT = 2, ATTACHED_BYTES = 16, ZSTD_LEVEL = 1 };

static const uint64_t ATTACHED_TOTAL_MAX = 1ull << 62; /* offsets in a transfer do not overflow */

const char *snapshot_list_bad(slice_t attached)
{
    uint64_t before = 0, sum = 0;
    for (size_t at = 0; at < attached.len; at += ATTACHED_BYTES) {
        uint64_t number = le64_get(attached.ptr + at), bytes = le64_get(attached.ptr + at + 8);
        if (at > 0 && number <= before) {
            return "its list of files is not in order";
        }
        if (bytes == 0 || bytes > ATTACHED_TOTAL_MAX - sum) {
            return "the length of one of its files is wrong";
        }
        before = number;
        sum += bytes;
    }
    return attached.len % ATTACHED_BYTES == 0 ? NULL : "its list of files is cut short";
}

void snapshot_put_header(struct buf *out, uint32_t group, uint64_t index, uint64_t term, slice_t attached)
{
    size_t at = out->len;
    buf_put_u32(out, SNAPSHOT_MAGIC);
    buf_put_u16(out, SNAPSHOT_FORMAT);
    buf_put_u16(out, 0);
    buf_put_u32(out, group);
    buf_put_u32(out, SNAPSHOT_CHUNK_MAX);
    buf_put_u64(out, index);
    buf_put_u64(out, term);
    buf_put_u32(out, (uint32_t)(attached.len / ATTACHED_BYTES));
    buf_put_u32(out, crc32c(0, out->ptr + at, out->len - at));
    syn_assert(out->len - at == SNAPSHOT_HEADER_BYTES && attached.len / ATTACHED_BYTES <= SNAPSHOT_ATTACHED_MAX);
    syn_assert(snapshot_list_bad(attached) == NULL);
    if (attached.len > 0) {
        buf_append_slice(out, attached);
        buf_put_u32(out, crc32c(0, attached.ptr, attached.len));
    }
}

static uint32_t chunk_crc(uint32_t ordinal, const uint8_t lengths[8], slice_t stored)
{
    uint8_t n[4];
    le32_put(n, ordinal);
    return crc32c(crc32c(crc32c(0, n, sizeof n), lengths, 8), stored.ptr, stored.len);
}

void snapshot_put_chunk(struct buf *out, uint32_t ordinal, slice_t raw)
{
    syn_assert(raw.len > 0 && raw.len <= SNAPSHOT_CHUNK_MAX);
    size_t at = out->len, room = ZSTD_compressBound(raw.len);
    uint8_t *p = buf_reserve(out, SNAPSHOT_CHUNK_HEADER_BYTES + room);
    size_t n = ZSTD_compress(p + SNAPSHOT_CHUNK_HEADER_BYTES, room, raw.ptr, raw.len, ZSTD_LEVEL);
    syn_assert(!ZSTD_isError(n));
    le32_put(p, (uint32_t)raw.len);
    le32_put(p + 4, (uint32_t)n);
    le32_put(p + 8, chunk_crc(ordinal, p, slice_of(p + SNAPSHOT_CHUNK_HEADER_BYTES, n)));
    out->len = at + SNAPSHOT_CHUNK_HEADER_BYTES + n;
}

void snapshot_put_end(struct buf *out, uint32_t chunks, uint64_t raw_bytes, uint64_t file_bytes, uint32_t file_crc)
{
    size_t at = out->len;
    buf_put_u32(out, 0);
    buf_put_u32(out, chunks);
    buf_put_u64(out, raw_bytes);
    buf_put_u64(out, file_bytes + SNAPSHOT_END_BYTES);
    buf_put_u32(out, file_crc);
    buf_put_u32(out, crc32c(0, out->ptr + at, out->len - at));
    syn_assert(out->len - at == SNAPSHOT_END_BYTES);
}

/* Exactly n bytes: 0, or -errno; a file that ends before is -ENODATA. */
static int read_exact(const struct files *f, int fd, uint8_t *p, size_t n, uint64_t off)
{
    ssize_t got = f->pread(f->ctx, fd, p, n, off);
    return got < 0 ? (int)got : (size_t)got == n ? 0 : -ENODATA;
}

static enum snapshot_result failed(int e, const char **why, int *err)
{
    *why = "the file ends too early";
    *err = e;
    return e == -ENODATA ? SNAPSHOT_BAD : SNAPSHOT_IO;
}

static const char *header_bad(const uint8_t h[SNAPSHOT_HEADER_BYTES], uint32_t group, uint64_t index)
{
    if (le32_get(h) != SNAPSHOT_MAGIC || crc32c(0, h, SNAPSHOT_HEADER_BYTES - 4) != le32_get(h + 36)) {
        return "the checksum of its header is wrong";
    }
    if (le16_get(h + 4) != SNAPSHOT_FORMAT || le32_get(h + 12) != SNAPSHOT_CHUNK_MAX) {
        return "it has a format that this version does not know";
    }
    return le32_get(h + 8) == group && le64_get(h + 16) == index ? NULL : "it is the snapshot of something else";
}

size_t snapshot_get_header(slice_t in, uint32_t group, uint64_t index, struct buf *attached, const char **why)
{
    if (in.len < SNAPSHOT_HEADER_BYTES) {
        return 0;
    }
    *why = header_bad(in.ptr, group, index);
    size_t n = le32_get(in.ptr + 32), bytes = n * ATTACHED_BYTES, all = SNAPSHOT_HEADER_BYTES + (n > 0 ? bytes + 4 : 0);
    if (*why == NULL && n > SNAPSHOT_ATTACHED_MAX) {
        *why = "it has more attached files than there can be";
    }
    if (*why != NULL) {
        return SIZE_MAX;
    }
    if (in.len < all) {
        return 0;
    }
    const uint8_t *list = in.ptr + SNAPSHOT_HEADER_BYTES;
    if (n > 0 && crc32c(0, list, bytes) != le32_get(list + bytes)) {
        *why = "the checksum of its list of files is wrong";
        return SIZE_MAX;
    }
    *why = snapshot_list_bad(slice_of(list, bytes));
    if (*why != NULL) {
        return SIZE_MAX;
    }
    buf_append(attached, list, bytes);
    return all;
}

static const char *end_bad(const uint8_t e[SNAPSHOT_END_BYTES], uint64_t size)
{
    if (crc32c(0, e, SNAPSHOT_END_BYTES - 4) != le32_get(e + 28) || le32_get(e) != 0) {
        return "the checksum of its end is wrong";
    }
    return le64_get(e + 16) == size ? NULL : "its length is not what its end says";
}

/* The list behind the header h, as far as the file may have one. */
static enum snapshot_result peek_list(const struct files *f, int fd, const uint8_t h[SNAPSHOT_HEADER_BYTES], uint32_t group, uint64_t index,
                                      uint64_t size, struct buf *attached, const char **why, int *err)
{
    uint64_t n = le32_get(h + 32), want = n == 0 ? SNAPSHOT_HEADER_BYTES : SNAPSHOT_HEADER_BYTES + n * ATTACHED_BYTES + 4;
    if (n > SNAPSHOT_ATTACHED_MAX || want > size - SNAPSHOT_END_BYTES) {
        *why = "its list of files is cut short";
        return SNAPSHOT_BAD;
    }
    struct buf all = {0}, list = {0};
    int x = read_exact(f, fd, buf_reserve(&all, (size_t)want), (size_t)want, 0);
    all.len = x == 0 ? (size_t)want : 0;
    bool ok = x == 0 && snapshot_get_header(buf_slice(&all), group, index, &list, why) == want;
    if (ok && attached != NULL) {
        buf_append_slice(attached, buf_slice(&list));
    }
    buf_fini(&all);
    buf_fini(&list);
    return x != 0 ? failed(x, why, err) : ok ? SNAPSHOT_OK : SNAPSHOT_BAD;
}

enum snapshot_result snapshot_peek(const struct files *f, int fd, uint32_t group, uint64_t index, uint64_t *term,
                                   uint64_t *bytes, struct buf *attached, const char **why, int *err)
{
    uint8_t h[SNAPSHOT_HEADER_BYTES], e[SNAPSHOT_END_BYTES];
    int64_t size = f->size(f->ctx, fd);
    if (size < 0) {
        return failed((int)size, why, err);
    }
    if (size < SNAPSHOT_HEADER_BYTES + SNAPSHOT_END_BYTES) {
        return failed(-ENODATA, why, err);
    }
    int x = read_exact(f, fd, h, sizeof h, 0);
    x = x == 0 ? read_exact(f, fd, e, sizeof e, (uint64_t)size - sizeof e) : x;
    if (x != 0) {
        return failed(x, why, err);
    }
    *why = header_bad(h, group, index);
    *why = *why ? *why : end_bad(e, (uint64_t)size);
    *term = le64_get(h + 24);
    *bytes = (uint64_t)size;
    if (*why != NULL) {
        return SNAPSHOT_BAD;
    }
    return peek_list(f, fd, h, group, index, (uint64_t)size, attached, why, err);
}

struct walk {
    const struct files *f;
    int fd;
    uint64_t off;
    uint64_t end;       /* where the end record begins */
    uint64_t raw_bytes;
    uint32_t crc;
    uint32_t chunks;
    uint8_t *stored;    /* owned */
    uint8_t *raw;       /* owned */
};

/* The next chunk into w->raw. NULL and *e == 0: done. */
static const char *walk_chunk(struct walk *w, size_t *raw_len, int *e)
{
    uint8_t h[SNAPSHOT_CHUNK_HEADER_BYTES];
    if (w->end - w->off < sizeof h) {
        return "a chunk is cut short";
    }
    *e = read_exact(w->f, w->fd, h, sizeof h, w->off);
    *raw_len = le32_get(h);
    size_t n = le32_get(h + 4);
    if (*e != 0) {
        return NULL;
    }
    if (*raw_len == 0 || *raw_len > SNAPSHOT_CHUNK_MAX || n > ZSTD_compressBound(SNAPSHOT_CHUNK_MAX) ||
        n > w->end - w->off - sizeof h) {
        return "the length of a chunk is wrong";
    }
    *e = read_exact(w->f, w->fd, w->stored, n, w->off + sizeof h);
    if (*e != 0) {
        return NULL;
    }
    if (chunk_crc(w->chunks, h, slice_of(w->stored, n)) != le32_get(h + 8)) {
        return "the checksum of a chunk is wrong";
    }
    if (ZSTD_decompress(w->raw, SNAPSHOT_CHUNK_MAX, w->stored, n) != *raw_len) {
        return "a chunk does not decompress";
    }
    w->crc = crc32c(crc32c(w->crc, h, sizeof h), w->stored, n);
    w->off += sizeof h + n;
    w->chunks++;
    w->raw_bytes += *raw_len;
    return NULL;
}

static const char *walk_all(struct walk *w, bool (*fn)(void *arg, slice_t piece), void *arg, int *e)
{
    while (w->off < w->end) {
        size_t n;
        const char *why = walk_chunk(w, &n, e);
        if (why != NULL || *e != 0) {
            return why;
        }
        if (fn != NULL && !fn(arg, slice_of(w->raw, n))) {
            return NULL;
        }
    }
    uint8_t end[SNAPSHOT_END_BYTES];
    *e = read_exact(w->f, w->fd, end, sizeof end, w->end);
    bool ok = *e != 0 || (le32_get(end + 4) == w->chunks && le64_get(end + 8) == w->raw_bytes &&
                          le32_get(end + 24) == w->crc);
    return ok ? NULL : "the checksum of the file is wrong";
}

enum snapshot_result snapshot_walk(const struct files *f, int fd, uint32_t group, uint64_t index, uint64_t term,
                                   bool (*fn)(void *arg, slice_t piece), void *arg, const char **why, int *err)
{
    uint64_t found_term, bytes;
    struct buf attached = {0};
    enum snapshot_result r = snapshot_peek(f, fd, group, index, &found_term, &bytes, &attached, why, err);
    size_t head_bytes = SNAPSHOT_HEADER_BYTES + (attached.len > 0 ? attached.len + 4 : 0);
    buf_fini(&attached);
    if (r == SNAPSHOT_OK && found_term != term) {
        *why = "it has another term";
        r = SNAPSHOT_BAD;
    }
    struct buf head = {0};
    int e = r == SNAPSHOT_OK ? read_exact(f, fd, buf_reserve(&head, head_bytes), head_bytes, 0) : 0;
    uint32_t head_crc = r == SNAPSHOT_OK && e == 0 ? crc32c(0, head.ptr, head_bytes) : 0;
    buf_fini(&head);
    if (r != SNAPSHOT_OK || e != 0) {
        return r != SNAPSHOT_OK ? r : failed(e, why, err);
    }
    struct walk w = {.f = f, .fd = fd, .off = head_bytes, .end = bytes - SNAPSHOT_END_BYTES,
                     .crc = head_crc, .stored = malloc(ZSTD_compressBound(SNAPSHOT_CHUNK_MAX)),
                     .raw = malloc(SNAPSHOT_CHUNK_MAX)};
    syn_assert(w.stored != NULL && w.raw != NULL);
    *why = walk_all(&w, fn, arg, &e);
    free(w.stored);
    free(w.raw);
    if (e != 0) {
        return failed(e, why, err);
    }
    return *why ? SNAPSHOT_BAD : SNAPSHOT_OK;
}
