/* The snapshots of a store: written beside the newest, swapped in when durable (docs/disk.md, "Snapshots"; W6, W7, S15, S26).
 *
 * Responsible for the life of snapshot files; their format is snapshot_file.c's. Runs on the upkeep side.
 * Invariants: a group's newest snapshot is whole, synced, and its name is in a synced directory before its index is
 * visible to trim (W7) or the older one is removed; the newest never goes backwards; a received file becomes the newest
 * only after all of it was verified, however many of its chunks looked right. */
#include "storage/snapshot_file.h"
#include "storage/store_private.h"

#include "utils/assert.h"
#include "utils/crc32c.h"
#include "utils/mutant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static void tmp_name(char out[FILE_NAME_BYTES], uint32_t group, uint64_t index)
{
    snapshot_name(out, group, index);
    strcat(out, ".tmp");
}

static enum store_status refuse(struct store *s, uint32_t group, uint64_t index, const char *why)
{
    snprintf(s->upkeep_error, ERROR_BYTES, "snapshot %" PRIu64 " of group %" PRIu32 ": %s", index, group, why);
    atomic_store(&s->last_error, s->upkeep_error);
    return STORE_CORRUPT;
}

void store_snapshot_abort(struct store *s, uint32_t group)
{
    syn_assert(group < s->options.groups);
    struct snapshot_writer *w = &s->snapshots[group].writer;
    if (w->fd < 0) {
        return;
    }
    char tmp[FILE_NAME_BYTES];
    tmp_name(tmp, group, w->index);
    s->files.close(s->files.ctx, w->fd);
    w->fd = -1;
    s->files.unlink(s->files.ctx, tmp); /* if it stays, the next start removes it */
    if (w->raw) {
        backlog_forget_received(s, group, buf_slice(&w->attached));
        buf_clear(&w->attached);
    }
}

/* A failed write: without room the snapshot is given up and may be tried again later; otherwise the disk is bad. */
static enum store_status write_failed(struct store *s, uint32_t group, const char *what, int err)
{
    char tmp[FILE_NAME_BYTES];
    tmp_name(tmp, group, s->snapshots[group].writer.index);
    enum store_status st = store_io_error(s, true, s->upkeep_error, what, tmp, err);
    store_snapshot_abort(s, group);
    return st;
}

static int writer_begin(struct store *s, uint32_t group, uint64_t index, uint64_t term, bool raw)
{
    struct snapshot_writer *w = &s->snapshots[group].writer;
    char tmp[FILE_NAME_BYTES];
    store_snapshot_abort(s, group);
    tmp_name(tmp, group, index);
    int fd = s->files.open(s->files.ctx, tmp, true);
    if (raw || w->attach_index != index) {
        buf_clear(&w->attached);
    }
    buf_clear(&w->head);
    *w = (struct snapshot_writer){.fd = fd, .raw = raw, .index = index, .term = term, .attached = w->attached, .head = w->head,
                                  .attach_index = raw ? 0 : index};
    return fd < 0 ? fd : s->files.truncate(s->files.ctx, fd, 0);
}

static int writer_put(struct store *s, struct snapshot_writer *w, slice_t bytes)
{
    ssize_t n = bytes.len == 0 ? 0 : s->files.pwrite(s->files.ctx, w->fd, bytes.ptr, bytes.len, w->file_bytes);
    if (n < 0) {
        return (int)n;
    }
    w->file_bytes += bytes.len;
    w->file_crc = crc32c(w->file_crc, bytes.ptr, bytes.len);
    return 0;
}

/* Header, chunks and end as this call's bytes of the snapshot make them necessary. */
static int writer_put_chunk(struct store *s, uint32_t group, struct snapshot_writer *w, slice_t chunk, bool last)
{
    struct buf b = {0};
    if (w->file_bytes == 0) {
        snapshot_put_header(&b, group, w->index, w->term, buf_slice(&w->attached));
    }
    while (chunk.len > 0) {
        size_t n = chunk.len < SNAPSHOT_CHUNK_MAX ? chunk.len : SNAPSHOT_CHUNK_MAX;
        snapshot_put_chunk(&b, w->chunks++, slice_of(chunk.ptr, n));
        w->raw_bytes += n;
        chunk = slice_of(chunk.ptr + n, chunk.len - n);
    }
    int err = writer_put(s, w, buf_slice(&b));
    if (err == 0 && last) {
        buf_clear(&b);
        snapshot_put_end(&b, w->chunks, w->raw_bytes, w->file_bytes, w->file_crc);
        err = writer_put(s, w, buf_slice(&b));
    }
    buf_fini(&b);
    return err;
}

/* The synced file takes its name; only then is it the newest, and only then does the older one go. */
static enum store_status publish(struct store *s, uint32_t group)
{
    const struct files *f = &s->files;
    struct snapshot *n = &s->snapshots[group];
    char tmp[FILE_NAME_BYTES], name[FILE_NAME_BYTES], old[FILE_NAME_BYTES];
    tmp_name(tmp, group, n->writer.index);
    snapshot_name(name, group, n->writer.index);
    uint64_t before = atomic_load(&n->index);
    snapshot_name(old, group, before);
    int err = f->rename(f->ctx, tmp, name);
    if (err == 0 && !MUTANT("S26")) {
        err = f->sync_dir(f->ctx);
    }
    if (err != 0) {
        return store_io_error(s, false, s->upkeep_error, "rename", tmp, err);
    }
    f->close(f->ctx, n->writer.fd);
    n->writer.fd = -1;
    atomic_fetch_add(&s->snapshot_bytes, n->writer.file_bytes - n->bytes);
    n->bytes = n->writer.file_bytes;
    n->term = n->writer.term;
    n->verified = n->writer.raw;
    buf_clear(&n->attached);
    buf_append_slice(&n->attached, buf_slice(&n->writer.attached));
    buf_clear(&n->writer.attached);
    n->writer.attach_index = 0;
    atomic_store(&n->index, n->writer.index);
    err = before > 0 && before != n->writer.index ? f->unlink(f->ctx, old) : 0;
    if (err == 0 && before > 0 && before != n->writer.index) {
        err = f->sync_dir(f->ctx);
    }
    return err == 0 ? STORE_OK : store_io_error(s, false, s->upkeep_error, "remove", old, err);
}

enum store_status store_snapshot_write(struct store *s, uint32_t group, uint64_t index, uint64_t term, uint64_t offset,
                                       slice_t chunk, bool last)
{
    syn_assert(group < s->options.groups && index > 0);
    struct snapshot_writer *w = &s->snapshots[group].writer;
    if (store_is_failed(s)) {
        return STORE_FAILED;
    }
    if (index < atomic_load(&s->snapshots[group].index)) {
        return refuse(s, group, index, "a newer one is here already");
    }
    if (offset == 0 && w->attach_refused && w->attach_index == index) {
        return refuse(s, group, index, "the backlog files that it needs could not be attached");
    }
    int err = offset == 0 ? writer_begin(s, group, index, term, false) : 0;
    if (err == 0 && (w->fd < 0 || w->raw || w->index != index || w->term != term || w->received != offset)) {
        return refuse(s, group, index, "a chunk came out of order, or after the snapshot was given up");
    }
    err = err == 0 ? writer_put_chunk(s, group, w, chunk, last) : err;
    w->received += chunk.len;
    if (err == 0 && last) {
        err = s->files.sync(s->files.ctx, w->fd);
    }
    if (err != 0) {
        return write_failed(s, group, "write", err);
    }
    if (!last) {
        return STORE_OK;
    }
    enum store_status st = backlog_sync(s, group, buf_slice(&w->attached));
    if (st != STORE_OK) {
        store_snapshot_abort(s, group);
        return st;
    }
    return publish(s, group);
}

enum store_status store_snapshot_attach(struct store *s, uint32_t group, uint64_t index, slice_t pairs)
{
    syn_assert(group < s->options.groups && index > 0 && snapshot_list_bad(pairs) == NULL);
    struct snapshot_writer *w = &s->snapshots[group].writer;
    if (store_is_failed(s)) {
        return STORE_FAILED;
    }
    store_snapshot_abort(s, group);
    buf_clear(&w->attached);
    w->attach_index = index;
    w->attach_refused = pairs.len > SNAPSHOT_ATTACHED_MAX * 16;
    if (w->attach_refused) {
        return refuse(s, group, index, "it needs more backlog files than a snapshot can name");
    }
    buf_append_slice(&w->attached, pairs);
    return STORE_OK;
}

/* Header and list, however few bytes come at a time; chunk becomes what lies behind them. */
static const char *take_head(struct store *s, uint32_t group, struct snapshot_writer *w, slice_t *chunk, int *err)
{
    const char *why = NULL;
    size_t had = w->head.len;
    buf_append_slice(&w->head, *chunk);
    size_t head = snapshot_get_header(buf_slice(&w->head), group, w->index, &w->attached, &why);
    if (head == SIZE_MAX) {
        return why;
    }
    size_t took = head == 0 ? chunk->len : head - had;
    *chunk = slice_of(chunk->ptr + took, chunk->len - took);
    w->received += took;
    if (head > 0) {
        w->head_bytes = head;
        w->attached_bytes = backlog_total(buf_slice(&w->attached));
        *err = writer_put(s, w, slice_of(w->head.ptr, head));
        buf_fini(&w->head);
    }
    return NULL;
}

/* What is received is the header with its list, the attached files, and the rest of the snapshot: each byte goes where it belongs. NULL and
 * *err 0: well. */
static const char *put_received(struct store *s, uint32_t group, struct snapshot_writer *w, slice_t chunk, int *err)
{
    const char *why = w->head_bytes == 0 && chunk.len > 0 ? take_head(s, group, w, &chunk, err) : NULL;
    if (why != NULL) {
        return why;
    }
    uint64_t end = w->head_bytes + w->attached_bytes;
    if (*err == 0 && chunk.len > 0 && w->received < end) {
        size_t take = end - w->received < chunk.len ? (size_t)(end - w->received) : chunk.len;
        *err = backlog_write_attached(s, group, w, w->received - w->head_bytes, slice_of(chunk.ptr, take));
        if (*err == -EBADMSG) {
            *err = 0;
            return "one of its backlog files is damaged where it comes from";
        }
        chunk = slice_of(chunk.ptr + take, chunk.len - take);
        w->received += take;
    }
    *err = *err == 0 ? writer_put(s, w, chunk) : *err;
    w->received += chunk.len;
    return NULL;
}

enum store_status store_snapshot_write_raw(struct store *s, uint32_t group, uint64_t index, uint64_t term, uint64_t offset,
                                           slice_t chunk, bool last)
{
    if (group >= s->options.groups || index == 0) {
        return refuse(s, group, index, "there is no such group or index");
    }
    struct snapshot *n = &s->snapshots[group];
    struct snapshot_writer *w = &n->writer;
    if (store_is_failed(s)) {
        return STORE_FAILED;
    }
    if (index < atomic_load(&n->index)) {
        return refuse(s, group, index, "a newer one is here already");
    }
    int err = offset == 0 ? writer_begin(s, group, index, term, true) : 0;
    if (err == 0 && (w->fd < 0 || !w->raw || w->index != index || w->term != term || w->received != offset)) {
        return refuse(s, group, index, "a chunk came out of order, or after the transfer was given up");
    }
    const char *bad = err == 0 ? put_received(s, group, w, chunk, &err) : NULL;
    if (bad != NULL) {
        store_snapshot_abort(s, group);
        return refuse(s, group, index, bad);
    }
    err = err == 0 && last ? s->files.sync(s->files.ctx, w->fd) : err;
    if (err != 0) {
        return write_failed(s, group, "write", err);
    }
    if (!last) {
        return STORE_OK;
    }
    const char *why = NULL;
    enum snapshot_result r = snapshot_walk(&s->files, w->fd, group, index, term, NULL, NULL, &why, &err);
    if (r == SNAPSHOT_OK && w->received < w->head_bytes + w->attached_bytes) {
        r = SNAPSHOT_BAD;
        why = "its backlog files are not complete";
    }
    if (r == SNAPSHOT_OK) {
        err = backlog_publish(s, group, buf_slice(&w->attached));
        return err == 0 ? publish(s, group) : store_io_error(s, false, s->upkeep_error, "rename", "a received backlog file", err);
    }
    store_snapshot_abort(s, group);
    return r == SNAPSHOT_IO ? store_io_error(s, false, s->upkeep_error, "read", "a received snapshot", err)
                            : refuse(s, group, index, why);
}

static enum store_status newest_open(struct store *s, uint32_t group, uint64_t index, int *fd)
{
    if (store_is_failed(s)) {
        return STORE_FAILED;
    }
    if (group >= s->options.groups || index == 0 || index != atomic_load(&s->snapshots[group].index)) {
        return refuse(s, group, index, "it is not the newest here");
    }
    char name[FILE_NAME_BYTES];
    snapshot_name(name, group, index);
    *fd = s->files.open(s->files.ctx, name, false);
    if (*fd == -ENOENT) {
        return refuse(s, group, index, "the file was deleted");
    }
    return *fd < 0 ? store_io_error(s, false, s->upkeep_error, "open", name, *fd) : STORE_OK;
}

static enum store_status walk_newest(struct store *s, int fd, uint32_t group, bool (*fn)(void *arg, slice_t piece), void *arg)
{
    struct snapshot *n = &s->snapshots[group];
    const char *why = NULL;
    int err = 0;
    uint64_t index = atomic_load(&n->index);
    enum snapshot_result r = snapshot_walk(&s->files, fd, group, index, n->term, fn, arg, &why, &err);
    if (r == SNAPSHOT_IO) {
        return store_io_error(s, false, s->upkeep_error, "read", "a snapshot", err);
    }
    return r == SNAPSHOT_OK ? STORE_OK : refuse(s, group, index, why);
}

/* 0, or -errno; -ENODATA: something is shorter than it was. */
static int read_virtual(struct store *s, uint32_t group, int fd, uint64_t offset, size_t want, struct buf *out)
{
    slice_t attached = buf_slice(&s->snapshots[group].attached);
    uint64_t head = SNAPSHOT_HEADER_BYTES + (attached.len > 0 ? attached.len + 4 : 0), extra = backlog_total(attached);
    while (want > 0) {
        bool in_files = offset >= head && offset < head + extra;
        uint64_t end = offset < head ? head : in_files ? head + extra : UINT64_MAX;
        size_t take = end - offset < want ? (size_t)(end - offset) : want;
        int err = 0;
        if (in_files) {
            err = backlog_read_attached(s, group, attached, offset - head, take, out);
        } else {
            ssize_t got = s->files.pread(s->files.ctx, fd, buf_reserve(out, take), take, offset < head ? offset : offset - extra);
            err = got < 0 ? (int)got : (size_t)got < take ? -ENODATA : 0;
            out->len += err == 0 ? take : 0;
        }
        if (err != 0) {
            return err;
        }
        offset += take;
        want -= take;
    }
    return 0;
}

enum store_status store_snapshot_read_raw(struct store *s, uint32_t group, uint64_t index, uint64_t offset, uint32_t max,
                                          struct buf *out, bool *last)
{
    int fd;
    *last = false;
    enum store_status st = newest_open(s, group, index, &fd);
    if (st != STORE_OK) {
        return st;
    }
    struct snapshot *n = &s->snapshots[group];
    if (!n->verified) { /* a rotten file is found here, not by the peer after the whole transfer */
        st = walk_newest(s, fd, group, NULL, NULL);
        n->verified = st == STORE_OK;
    }
    uint64_t total = n->bytes + backlog_total(buf_slice(&n->attached));
    if (st == STORE_OK && offset <= total) {
        size_t want = total - offset < max ? (size_t)(total - offset) : max;
        int err = read_virtual(s, group, fd, offset, want, out);
        *last = err == 0 && offset + want == total;
        st = err == -ENODATA ? refuse(s, group, index, "the file, or one of its backlog files, was cut") :
             err != 0 ? store_io_error(s, false, s->upkeep_error, "read", "a snapshot", err) : STORE_OK;
    } else if (st == STORE_OK) {
        st = refuse(s, group, index, "the offset lies beyond its end");
    }
    s->files.close(s->files.ctx, fd);
    return st;
}

enum store_status store_snapshot_load(struct store *s, uint32_t group, uint64_t index,
                                      bool (*fn)(void *arg, slice_t piece), void *arg)
{
    int fd;
    enum store_status st = newest_open(s, group, index, &fd);
    if (st == STORE_OK) {
        st = walk_newest(s, fd, group, fn, arg);
        s->files.close(s->files.ctx, fd);
    }
    return st;
}
