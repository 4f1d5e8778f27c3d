/* Segment files: made ahead, zero-filled, recycled, deleted (docs/disk.md, "Segments"; T5, W6, W7, W8, S30).
 *
 * Responsible for which segment files exist. Not for blocks in them (store.c, recovery.c).
 * Invariants: numbers on disk are dense, because every name change is followed by a sync of the directory before the
 * next; a segment gets its number only when all of it is zero on disk, so that no block of an earlier life is in it;
 * a segment goes only when each of its entries is covered by a durable snapshot of this store's own (W7). */
#include "storage/store_private.h"

#include "utils/assert.h"
#include "utils/mutant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void segment_name(char out[FILE_NAME_BYTES], uint64_t number)
{
    snprintf(out, FILE_NAME_BYTES, "log-%016" PRIx64, number);
}

static bool parse_hex(const char *p, size_t digits, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < digits; i++) {
        char c = p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
        v = v << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *out = v;
    return true;
}

bool segment_number(const char *name, uint64_t *number)
{
    return strlen(name) == 20 && memcmp(name, "log-", 4) == 0 && parse_hex(name + 4, 16, number) && *number > 0;
}

void snapshot_name(char out[FILE_NAME_BYTES], uint32_t group, uint64_t index)
{
    snprintf(out, FILE_NAME_BYTES, "snap-%08" PRIx32 "-%016" PRIx64, group, index);
}

bool snapshot_name_parse(const char *name, uint32_t *group, uint64_t *index)
{
    uint64_t g;
    if (strlen(name) != 30 || memcmp(name, "snap-", 5) != 0 || name[13] != '-' || !parse_hex(name + 5, 8, &g) ||
        !parse_hex(name + 14, 16, index) || *index == 0) {
        return false;
    }
    *group = (uint32_t)g;
    return true;
}

void segments_add(struct store *s, uint64_t number, uint64_t bytes, bool was_ready)
{
    pthread_mutex_lock(&s->lock);
    syn_assert(s->n_segments == 0 || s->segments[s->n_segments - 1].number + 1 == number);
    s->ready.fd = was_ready ? -1 : s->ready.fd;
    s->segments = realloc(s->segments, (s->n_segments + 1) * sizeof *s->segments);
    syn_assert(s->segments != NULL);
    struct segment *g = &s->segments[s->n_segments++];
    *g = (struct segment){.number = number, .bytes = bytes, .max_index = calloc(s->options.groups, sizeof(uint64_t))};
    syn_assert(g->max_index != NULL);
    pthread_mutex_unlock(&s->lock);
}

void segments_note(struct store *s, uint32_t group, uint64_t index)
{
    pthread_mutex_lock(&s->lock);
    uint64_t *max = &s->segments[s->n_segments - 1].max_index[group];
    *max = index > *max ? index : *max;
    pthread_mutex_unlock(&s->lock);
}

int segment_zero(const struct files *f, int fd, uint64_t from, uint64_t to)
{
    static const uint8_t zeros[64 * 1024];
    uint64_t unsynced = 0;
    for (uint64_t off = from; off < to;) {
        size_t n = to - off < sizeof zeros ? (size_t)(to - off) : sizeof zeros;
        ssize_t w = f->pwrite(f->ctx, fd, zeros, n, off);
        if (w < 0) {
            return (int)w;
        }
        off += n;
        unsynced += n;
        if (unsynced >= SEGMENT_ZERO_SLICE || off == to) {
            int err = f->sync(f->ctx, fd);
            if (err != 0) {
                return err;
            }
            unsynced = 0;
        }
    }
    return 0;
}

enum store_status segment_extend(struct store *s, struct segment_file *f, uint64_t bytes)
{
    int err = segment_zero(&s->files, f->fd, f->bytes, bytes);
    if (err != 0) {
        char name[FILE_NAME_BYTES];
        segment_name(name, f->number);
        s->files.truncate(s->files.ctx, f->fd, f->bytes);
        return store_io_error(s, true, s->log_error, "extend", name, err);
    }
    f->bytes = bytes;
    return STORE_OK;
}

static void ready_set(struct store *s, struct segment_file f)
{
    pthread_mutex_lock(&s->lock);
    s->ready = f;
    pthread_mutex_unlock(&s->lock);
}

bool store_needs_prepare(const struct store *cs)
{
    struct store *s = (struct store *)(uintptr_t)cs; /* the lock is not part of what the caller sees */
    pthread_mutex_lock(&s->lock);
    bool needs = s->ready.fd < 0;
    pthread_mutex_unlock(&s->lock);
    return needs && !store_is_failed(s);
}

/* Zeroes `from`, an old segment or nothing yet, and gives it the next number. */
static int make_ready(struct store *s, const char *from, struct segment_file *out)
{
    const struct files *f = &s->files;
    out->fd = f->open(f->ctx, from, true);
    if (out->fd < 0) {
        return out->fd;
    }
    int64_t size = f->size(f->ctx, out->fd);
    int err = size < 0 ? (int)size : 0;
    if (err == 0 && (uint64_t)size > out->bytes) {
        err = f->truncate(f->ctx, out->fd, out->bytes);
    }
    if (err == 0 && !(MUTANT("S30") && size > 0)) {
        err = segment_zero(f, out->fd, 0, out->bytes);
    }
    char name[FILE_NAME_BYTES];
    segment_name(name, out->number);
    int there = err == 0 ? f->open(f->ctx, name, false) : -ENOENT;
    if (there >= 0) { /* a rename would destroy it, whoever it belongs to */
        f->close(f->ctx, there);
        err = -EEXIST;
    }
    if (err == 0) {
        err = f->rename(f->ctx, from, name);
    }
    if (err == 0 && !MUTANT("S26")) {
        err = f->sync_dir(f->ctx);
    }
    if (err != 0) {
        f->close(f->ctx, out->fd);
        out->fd = -1;
    }
    return err;
}

/* The first segments are small and double, so that a new node has little to zero before it serves; later ones are whole. */
static uint64_t segment_size(const struct store *s, uint64_t number)
{
    uint64_t bytes = number <= SEGMENT_DOUBLINGS ? (uint64_t)SEGMENT_BYTES_FIRST << (number - 1) : s->options.segment_bytes;
    return bytes < s->options.segment_bytes ? bytes : s->options.segment_bytes;
}

static enum store_status prepare_locked(struct store *s, char text[ERROR_BYTES])
{
    pthread_mutex_lock(&s->lock);
    uint64_t number = s->n_segments == 0 ? 1 : s->segments[s->n_segments - 1].number + 1;
    bool have = s->ready.fd >= 0;
    pthread_mutex_unlock(&s->lock);
    if (have) {
        return STORE_OK;
    }
    const char *from = s->have_spare ? SPARE_NAME : PREPARE_NAME;
    struct segment_file f = {.fd = -1, .number = number, .bytes = segment_size(s, number)};
    int err = make_ready(s, from, &f);
    if (err != 0) {
        if (!s->have_spare) {
            s->files.unlink(s->files.ctx, from);
        }
        return store_io_error(s, true, text, "prepare a segment as", from, err);
    }
    s->have_spare = false;
    ready_set(s, f);
    return STORE_OK;
}

enum store_status store_prepare(struct store *s)
{
    if (store_is_failed(s)) {
        return STORE_FAILED;
    }
    pthread_mutex_lock(&s->prepare_lock);
    bool made = store_needs_prepare(s);
    enum store_status st = prepare_locked(s, s->upkeep_error);
    /* Once per segment: a log whose newest files vanished is told from one that never had them. */
    if (st == STORE_OK && made && s->identity.floor > 0) {
        st = store_write_floor(s);
        st = st == STORE_FULL ? STORE_OK : st;
    }
    pthread_mutex_unlock(&s->prepare_lock);
    return st;
}

enum store_status segments_prepare_now(struct store *s)
{
    pthread_mutex_lock(&s->prepare_lock);
    enum store_status st = prepare_locked(s, s->log_error);
    pthread_mutex_unlock(&s->prepare_lock);
    return st;
}

enum store_status store_write_floor(struct store *s)
{
    struct identity id = s->identity;
    id.floor = atomic_load(&s->synced);
    int err = identity_write(&s->files, &id);
    return err == 0 ? STORE_OK : store_io_error(s, true, s->upkeep_error, "write", "IDENTITY", err);
}

/* Takes the oldest segment off the list when every entry in it is covered. */
static bool detach_oldest(struct store *s, const uint64_t *limit, struct segment *out)
{
    pthread_mutex_lock(&s->lock);
    bool ok = s->n_segments > 1;
    for (uint32_t g = 0; ok && g < s->options.groups; g++) {
        ok = s->segments[0].max_index[g] <= limit[g];
    }
    if (ok) {
        *out = s->segments[0];
        memmove(s->segments, s->segments + 1, --s->n_segments * sizeof *s->segments);
    }
    pthread_mutex_unlock(&s->lock);
    return ok;
}

static enum store_status retire(struct store *s, uint64_t number)
{
    const struct files *f = &s->files;
    char name[FILE_NAME_BYTES];
    segment_name(name, number);
    pthread_mutex_lock(&s->prepare_lock);
    bool recycle = !s->have_spare;
    int err = recycle ? f->rename(f->ctx, name, SPARE_NAME) : f->unlink(f->ctx, name);
    if (err == 0) {
        err = f->sync_dir(f->ctx);
    }
    s->have_spare = s->have_spare || (recycle && err == 0);
    pthread_mutex_unlock(&s->prepare_lock);
    return err == 0 ? STORE_OK : store_io_error(s, false, s->upkeep_error, "retire", name, err);
}

enum store_status store_trim(struct store *s, const uint64_t *snapshot_index_per_group)
{
    if (store_is_failed(s)) {
        return STORE_FAILED;
    }
    uint64_t *limit = calloc(s->options.groups, sizeof *limit);
    syn_assert(limit != NULL);
    for (uint32_t g = 0; g < s->options.groups; g++) {
        uint64_t durable = atomic_load(&s->snapshots[g].index);
        limit[g] = snapshot_index_per_group[g];
        limit[g] = limit[g] > durable && !MUTANT("W7") ? durable : limit[g];
    }
    enum store_status st = STORE_OK;
    struct segment old;
    while (st == STORE_OK && detach_oldest(s, limit, &old)) {
        free(old.max_index);
        st = retire(s, old.number);
    }
    free(limit);
    return st;
}
