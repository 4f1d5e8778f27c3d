/* Backlog files: a group's messages that outlive the log, beside its snapshots (docs/disk.md, "Backlog files").
 *
 * Not responsible for what is in them (nodes/queue/queue_log) nor for which snapshot is the newest (snapshot.c). Runs on the upkeep side.
 * Invariants: W12 a snapshot that counts has its files, synced, under their names, each at least as long as it says; a file is appended to by
 * one process only, under a number that no other file of any node ever has, so two files of one number differ in length only; an append
 * that found no room leaves its file as it was, and no append shares a sector with what came before. */
#include "storage/store_private.h"

#include "utils/assert.h"
#include "utils/mutant.h"

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

/* Half of an append may be there: it goes. Without room for even that, the next append is refused, and so is a snapshot that needs it. */
static enum store_status append_failed(struct store *s, const char *name, int fd, uint64_t offset, int err)
{
    int cut = s->files.truncate(s->files.ctx, fd, offset);
    return store_io_error(s, true, s->upkeep_error, cut == 0 ? "write" : "cut back", name, cut == 0 ? err : cut);
}

enum store_status store_backlog_write(struct store *s, uint32_t group, uint64_t file, uint64_t offset, slice_t data)
{
    const struct files *f = &s->files;
    char name[FILE_NAME_BYTES];
    syn_assert(group < s->options.groups && data.len > 0 && offset % BACKLOG_ALIGN == 0);
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
        st = w < 0 ? append_failed(s, name, fd, offset, (int)w) : STORE_OK;
    }
    f->close(f->ctx, fd);
    return st;
}

/* Exactly n bytes at off of one file: 0, or -errno; -ENODATA when it is missing or ends before. No room is made for bytes that are not there. */
static int read_file(struct store *s, uint32_t group, uint64_t number, uint64_t off, size_t n, struct buf *out)
{
    const struct files *f = &s->files;
    char name[FILE_NAME_BYTES];
    backlog_name(name, group, number);
    int fd = f->open(f->ctx, name, false);
    if (fd < 0) {
        return fd == -ENOENT ? -ENODATA : fd;
    }
    int64_t size = f->size(f->ctx, fd);
    bool there = size >= 0 && off <= (uint64_t)size && n <= (uint64_t)size - off;
    ssize_t got = size < 0 ? size : there ? f->pread(f->ctx, fd, buf_reserve(out, n), n, off) : 0;
    f->close(f->ctx, fd);
    if (got < 0 || !there || (size_t)got < n) {
        return got < 0 ? (int)got : -ENODATA;
    }
    out->len += n;
    return 0;
}

enum store_status store_backlog_read(struct store *s, uint32_t group, uint64_t file, uint64_t offset, uint32_t bytes, struct buf *out)
{
    char name[FILE_NAME_BYTES];
    syn_assert(group < s->options.groups);
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
    uint32_t group;
    uint64_t *kept; /* ascending; owned */
    size_t n;
    char (*gone)[FILE_NAME_BYTES]; /* owned */
    size_t n_gone;
};

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The caller's, those of the newest snapshot, and those of the one that is being written or received. */
static void collect_kept(const struct store *s, struct keeping *k, const uint64_t *files, size_t n)
{
    const struct snapshot *snap = &s->snapshots[k->group];
    slice_t lists[] = {buf_slice(&snap->attached), buf_slice(&snap->writer.attached)};
    k->kept = calloc(n + (lists[0].len + lists[1].len) / PAIR_BYTES + 1, sizeof *k->kept);
    syn_assert(k->kept != NULL);
    for (size_t i = 0; i < n; i++) {
        k->kept[k->n++] = files[i];
    }
    for (size_t l = 0; l < 2; l++) {
        for (size_t i = 0; i < lists[l].len / PAIR_BYTES; i++) {
            k->kept[k->n++] = pair_number(lists[l], i);
        }
    }
    qsort(k->kept, k->n, sizeof *k->kept, by_value);
}

static void keep_name(void *arg, const char *name)
{
    struct keeping *k = arg;
    uint32_t group;
    uint64_t number;
    if (backlog_name_parse(name, &group, &number) && group == k->group &&
        bsearch(&number, k->kept, k->n, sizeof *k->kept, by_value) == NULL) {
        k->gone = realloc(k->gone, (k->n_gone + 1) * sizeof *k->gone);
        syn_assert(k->gone != NULL);
        memcpy(k->gone[k->n_gone++], name, strlen(name) + 1);
    }
}

enum store_status store_backlog_keep(struct store *s, uint32_t group, const uint64_t *files, size_t n)
{
    const struct files *f = &s->files;
    struct keeping k = {.group = group};
    syn_assert(group < s->options.groups);
    if (store_is_failed(s)) {
        return STORE_FAILED;
    }
    collect_kept(s, &k, files, n);
    int err = f->list(f->ctx, keep_name, &k);
    for (size_t i = 0; err == 0 && i < k.n_gone; i++) {
        err = f->unlink(f->ctx, k.gone[i]);
        err = err == -ENOENT ? 0 : err;
    }
    if (err == 0 && k.n_gone > 0) {
        err = f->sync_dir(f->ctx);
    }
    free(k.gone);
    free(k.kept);
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
        err = size < 0 ? (int)size : is_short || MUTANT("W12") ? 0 : f->sync(f->ctx, fd);
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

static bool is_sound(const struct store *s, struct backlog_check *c, slice_t bytes, bool first, bool end)
{
    if (first) {
        *c = (struct backlog_check){0};
    }
    return s->options.backlog_check == NULL || s->options.backlog_check(c, bytes, end);
}

int backlog_write_attached(struct store *s, uint32_t group, struct snapshot_writer *w, uint64_t at, slice_t bytes)
{
    const struct files *f = &s->files;
    slice_t attached = buf_slice(&w->attached);
    while (bytes.len > 0) {
        uint64_t off;
        size_t i = locate(attached, at, &off), left = (size_t)(pair_bytes(attached, i) - off), take = left < bytes.len ? left : bytes.len;
        bool end = off + take == pair_bytes(attached, i);
        if (!is_sound(s, &w->check, slice_of(bytes.ptr, take), off == 0, end)) {
            return -EBADMSG;
        }
        char name[FILE_NAME_BYTES];
        received_name(name, group, pair_number(attached, i));
        int fd = f->open(f->ctx, name, true);
        int err = fd < 0 ? fd : 0;
        err = err == 0 && off == 0 ? f->truncate(f->ctx, fd, 0) : err;
        ssize_t put = err == 0 ? f->pwrite(f->ctx, fd, bytes.ptr, take, off) : 0;
        err = put < 0 ? (int)put : err;
        err = err == 0 && end ? f->sync(f->ctx, fd) : err;
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

/* A longer file of that number begins with the same bytes, and who has more of it needs more of it: the older snapshot, until the new one
 * counts, or this process, which appends to it. It stays. */
static int publish_file(const struct files *f, const char *tmp, const char *name, uint64_t bytes)
{
    int fd = f->open(f->ctx, name, false);
    int64_t size = fd < 0 ? fd : f->size(f->ctx, fd);
    bool longer = size >= 0 && (uint64_t)size > bytes;
    int err = fd == -ENOENT || size >= 0 ? 0 : (int)size;
    err = longer ? f->sync(f->ctx, fd) : err;
    if (fd >= 0) {
        f->close(f->ctx, fd);
    }
    if (err != 0) {
        return err;
    }
    return longer && !MUTANT("W12-longer") ? f->unlink(f->ctx, tmp) : f->rename(f->ctx, tmp, name);
}

int backlog_publish(struct store *s, uint32_t group, slice_t attached)
{
    const struct files *f = &s->files;
    int err = 0;
    for (size_t i = 0; err == 0 && i < attached.len / PAIR_BYTES; i++) {
        char tmp[FILE_NAME_BYTES], name[FILE_NAME_BYTES];
        received_name(tmp, group, pair_number(attached, i));
        backlog_name(name, group, pair_number(attached, i));
        err = publish_file(f, tmp, name, pair_bytes(attached, i));
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
