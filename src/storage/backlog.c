/* Backlog files: a group's messages that outlive the log, beside its snapshots (docs/disk.md, "Backlog files").
 *
 * Not responsible for what is in them (nodes/queue/queue_log) nor for which snapshot is the newest (snapshot.c). Runs on the upkeep side.
 * Invariants: a file is appended to by one process only, under a number that no other file ever has; a failed append leaves it as it was; a
 * snapshot that counts has all its files, synced, under their names. */
#include "storage/store_private.h"

#include "utils/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAIR_BYTES = 16 };

void backlog_name(char out[FILE_NAME_BYTES], uint32_t group, uint64_t number)
{
    snprintf(out, FILE_NAME_BYTES, "back-%08" PRIx32 "-%016" PRIx64, group, number);
}

bool backlog_name_parse(const char *name, uint32_t *group, uint64_t *number)
{
    char again[FILE_NAME_BYTES];
    if (strlen(name) != 30 || sscanf(name, "back-%8" SCNx32 "-%16" SCNx64, group, number) != 2) {
        return false;
    }
    backlog_name(again, *group, *number);
    return strcmp(name, again) == 0;
}

static uint64_t pair_number(slice_t attached, size_t i) { return le64_get(attached.ptr + i * PAIR_BYTES); }
static uint64_t pair_bytes(slice_t attached, size_t i) { return le64_get(attached.ptr + i * PAIR_BYTES + 8); }

uint64_t backlog_total(slice_t attached)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < attached.len / PAIR_BYTES; i++) {
        sum += pair_bytes(attached, i);
    }
    return sum;
}

static enum store_status refuse(struct store *s, uint32_t group, uint64_t file, const char *why)
{
    snprintf(s->upkeep_error, ERROR_BYTES, "backlog file %016" PRIx64 " of group %" PRIu32 ": %s", file, group, why);
    atomic_store(&s->last_error, s->upkeep_error);
    return STORE_CORRUPT;
}

enum store_status store_backlog_write(struct store *s, uint32_t group, uint64_t file, uint64_t offset, slice_t data)
{
    const struct files *f = &s->files;
    char name[FILE_NAME_BYTES];
    syn_assert(group < s->options.groups && data.len > 0);
    if (store_is_failed(s)) {
        return STORE_FAILED;
    }
    backlog_name(name, group, file);
    int fd = f->open(f->ctx, name, offset == 0);
    if (fd == -ENOENT) {
        return refuse(s, group, file, "an append found no file");
    }
    if (fd < 0) {
        return store_io_error(s, true, s->upkeep_error, "open", name, fd);
    }
    int64_t size = f->size(f->ctx, fd);
    enum store_status st = STORE_OK;
    if (size >= 0 && (uint64_t)size != offset) {
        st = refuse(s, group, file, "an append did not begin at its end");
    } else if (size < 0) {
        st = store_io_error(s, false, s->upkeep_error, "look at", name, (int)size);
    } else {
        ssize_t w = f->pwrite(f->ctx, fd, data.ptr, data.len, offset);
        if (w < 0) {
            f->truncate(f->ctx, fd, offset);
            st = store_io_error(s, true, s->upkeep_error, "write", name, (int)w);
        }
    }
    f->close(f->ctx, fd);
    return st;
}

/* Exactly n bytes at off of one file: 0, or -errno; -ENODATA when it is missing or ends before. */
static int read_file(struct store *s, uint32_t group, uint64_t number, uint64_t off, size_t n, struct buf *out)
{
    const struct files *f = &s->files;
    char name[FILE_NAME_BYTES];
    backlog_name(name, group, number);
    int fd = f->open(f->ctx, name, false);
    if (fd < 0) {
        return fd == -ENOENT ? -ENODATA : fd;
    }
    ssize_t got = f->pread(f->ctx, fd, buf_reserve(out, n), n, off);
    f->close(f->ctx, fd);
    if (got >= 0 && (size_t)got == n) {
        out->len += n;
        return 0;
    }
    return got < 0 ? (int)got : -ENODATA;
}

enum store_status store_backlog_read(struct store *s, uint32_t group, uint64_t file, uint64_t offset, uint32_t bytes, struct buf *out)
{
    char name[FILE_NAME_BYTES];
    if (store_is_failed(s)) {
        return STORE_FAILED;
    }
    int err = read_file(s, group, file, offset, bytes, out);
    if (err == -ENODATA) {
        return refuse(s, group, file, "it is missing or too short");
    }
    backlog_name(name, group, file);
    return err == 0 ? STORE_OK : store_io_error(s, false, s->upkeep_error, "read", name, err);
}

struct keeping {
    struct store *s;
    uint32_t group;
    const uint64_t *files;
    size_t n;
    char (*gone)[FILE_NAME_BYTES];
    size_t n_gone;
};

static bool is_kept(const struct keeping *k, uint64_t number)
{
    slice_t attached = buf_slice(&k->s->snapshots[k->group].attached);
    for (size_t i = 0; i < k->n; i++) {
        if (k->files[i] == number) {
            return true;
        }
    }
    for (size_t i = 0; i < attached.len / PAIR_BYTES; i++) {
        if (pair_number(attached, i) == number) {
            return true;
        }
    }
    return false;
}

static void keep_name(void *arg, const char *name)
{
    struct keeping *k = arg;
    uint32_t group;
    uint64_t number;
    if (backlog_name_parse(name, &group, &number) && group == k->group && !is_kept(k, number)) {
        k->gone = realloc(k->gone, (k->n_gone + 1) * sizeof *k->gone);
        syn_assert(k->gone != NULL);
        memcpy(k->gone[k->n_gone++], name, strlen(name) + 1);
    }
}

enum store_status store_backlog_keep(struct store *s, uint32_t group, const uint64_t *files, size_t n)
{
    const struct files *f = &s->files;
    struct keeping k = {.s = s, .group = group, .files = files, .n = n};
    if (store_is_failed(s)) {
        return STORE_FAILED;
    }
    int err = f->list(f->ctx, keep_name, &k);
    for (size_t i = 0; err == 0 && i < k.n_gone; i++) {
        err = f->unlink(f->ctx, k.gone[i]);
        err = err == -ENOENT ? 0 : err;
    }
    if (err == 0 && k.n_gone > 0) {
        err = f->sync_dir(f->ctx);
    }
    free(k.gone);
    return err == 0 ? STORE_OK : store_io_error(s, false, s->upkeep_error, "remove", "a backlog file", err);
}

enum store_status backlog_sync(struct store *s, uint32_t group, slice_t attached)
{
    const struct files *f = &s->files;
    int err = 0;
    for (size_t i = 0; i < attached.len / PAIR_BYTES; i++) {
        char name[FILE_NAME_BYTES];
        backlog_name(name, group, pair_number(attached, i));
        int fd = f->open(f->ctx, name, false);
        if (fd == -ENOENT) {
            return refuse(s, group, pair_number(attached, i), "the snapshot needs it and it is not there");
        }
        int64_t size = fd < 0 ? fd : f->size(f->ctx, fd);
        bool is_short = size >= 0 && (uint64_t)size < pair_bytes(attached, i);
        err = size < 0 ? (int)size : is_short ? 0 : f->sync(f->ctx, fd);
        if (fd >= 0) {
            f->close(f->ctx, fd);
        }
        if (is_short) {
            return refuse(s, group, pair_number(attached, i), "the snapshot needs more of it than there is");
        }
        if (err != 0) {
            return store_io_error(s, false, s->upkeep_error, "sync", name, err);
        }
    }
    err = attached.len > 0 ? f->sync_dir(f->ctx) : 0;
    return err == 0 ? STORE_OK : store_io_error(s, false, s->upkeep_error, "sync", "the data directory", err);
}

/* The file in which the virtual sequence has byte `at`, and where in it. */
static size_t locate(slice_t attached, uint64_t at, uint64_t *off)
{
    size_t i = 0;
    while (at >= pair_bytes(attached, i)) {
        at -= pair_bytes(attached, i++);
        syn_assert(i < attached.len / PAIR_BYTES);
    }
    *off = at;
    return i;
}

int backlog_read_attached(struct store *s, uint32_t group, slice_t attached, uint64_t at, size_t n, struct buf *out)
{
    while (n > 0) {
        uint64_t off;
        size_t i = locate(attached, at, &off), left = (size_t)(pair_bytes(attached, i) - off), take = left < n ? left : n;
        int err = read_file(s, group, pair_number(attached, i), off, take, out);
        if (err != 0) {
            return err;
        }
        at += take;
        n -= take;
    }
    return 0;
}

static void received_name(char out[FILE_NAME_BYTES], uint32_t group, uint64_t number)
{
    backlog_name(out, group, number);
    strcat(out, ".tmp");
}

int backlog_write_attached(struct store *s, uint32_t group, slice_t attached, uint64_t at, slice_t bytes)
{
    const struct files *f = &s->files;
    while (bytes.len > 0) {
        uint64_t off;
        size_t i = locate(attached, at, &off), left = (size_t)(pair_bytes(attached, i) - off), take = left < bytes.len ? left : bytes.len;
        char name[FILE_NAME_BYTES];
        received_name(name, group, pair_number(attached, i));
        int fd = f->open(f->ctx, name, true);
        int err = fd < 0 ? fd : 0;
        err = err == 0 && off == 0 ? f->truncate(f->ctx, fd, 0) : err;
        ssize_t w = err == 0 ? f->pwrite(f->ctx, fd, bytes.ptr, take, off) : 0;
        err = w < 0 ? (int)w : err;
        err = err == 0 && off + take == pair_bytes(attached, i) ? f->sync(f->ctx, fd) : err;
        if (fd >= 0) {
            f->close(f->ctx, fd);
        }
        if (err != 0) {
            return err;
        }
        at += take;
        bytes = slice_of(bytes.ptr + take, bytes.len - take);
    }
    return 0;
}

int backlog_publish(struct store *s, uint32_t group, slice_t attached)
{
    const struct files *f = &s->files;
    int err = 0;
    for (size_t i = 0; err == 0 && i < attached.len / PAIR_BYTES; i++) {
        char tmp[FILE_NAME_BYTES], name[FILE_NAME_BYTES];
        received_name(tmp, group, pair_number(attached, i));
        backlog_name(name, group, pair_number(attached, i));
        err = f->rename(f->ctx, tmp, name);
    }
    return err == 0 && attached.len > 0 ? f->sync_dir(f->ctx) : err;
}

void backlog_forget_received(struct store *s, uint32_t group, slice_t attached)
{
    for (size_t i = 0; i < attached.len / PAIR_BYTES; i++) {
        char tmp[FILE_NAME_BYTES];
        received_name(tmp, group, pair_number(attached, i));
        s->files.unlink(s->files.ctx, tmp); /* if it stays, the next start removes it */
    }
}
