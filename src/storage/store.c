/* The log side of the store: blocks into the current segment, one sync for all of them (docs/disk.md, "Writing"; W1, W5, W8).
 *
 * Responsible for append, sync, rolling into the next segment, the clean end, and for poisoning. Opening is store_open.c,
 * which segments exist is segments.c, snapshots are snapshot.c.
 * Invariants: a block carries the number of the last block that was durable when it was written; everything in older
 * segments is durable before the first block of a new one is written; after a failed sync nothing is ever reported
 * durable again (W5, S28); an append that answers FULL has changed nothing (W8). */
#include "storage/store_private.h"

#include "utils/assert.h"
#include "utils/mutant.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

bool store_is_failed(const struct store *s)
{
    return atomic_load(&s->failed);
}

enum store_status store_io_error(struct store *s, bool may_be_full, char text[ERROR_BYTES], const char *what,
                                 const char *path, int err)
{
    syn_assert(err < 0);
    if (may_be_full && (err == -ENOSPC || err == -EDQUOT)) {
        snprintf(text, ERROR_BYTES, "cannot %s %s: %s", what, path, strerror(-err));
        atomic_store(&s->last_error, text);
        return STORE_FULL;
    }
    pthread_mutex_lock(&s->lock);
    if (!store_is_failed(s)) { /* the first failure is the one to tell; its text is whole before anybody sees the flag */
        snprintf(s->fatal, ERROR_BYTES, "cannot %s %s: %s; the process must stop: what the disk holds is unknown now",
                 what, path, strerror(-err));
        atomic_store(&s->failed, true);
    }
    pthread_mutex_unlock(&s->lock);
    return STORE_FAILED;
}

const char *store_error(const struct store *s)
{
    return store_is_failed(s) ? s->fatal : atomic_load(&s->last_error);
}

const char *store_upkeep_error(const struct store *s)
{
    return store_is_failed(s) ? s->fatal : s->upkeep_error;
}

void log_group_apply(struct store *s, const struct log_record *r)
{
    struct log_group *g = &s->log.groups[r->group];
    switch (r->type) {
    case LOG_HARD_STATE:
        g->term = r->term;
        g->vote = r->vote;
        g->commit = r->commit;
        break;
    case LOG_ENTRIES:
        g->last_index = r->index + r->n_entries - 1;
        if (r->n_entries > 0) {
            segments_note(s, r->group, g->last_index);
        }
        break;
    case LOG_SNAPSHOT_MARK:
        if (r->index >= g->mark_index) {
            g->mark_index = r->index;
            g->mark_term = r->term;
        }
        break;
    case LOG_GROUP:
        *g = (struct log_group){r->term, r->vote, r->commit, r->mark_index, r->mark_term, r->last_index};
        break;
    default:
        SYN_UNREACHABLE();
    }
    g->last_index = g->last_index < g->mark_index ? g->mark_index : g->last_index;
}

static void put_preamble(struct store *s, struct buf *out)
{
    for (uint32_t i = 0; i < s->options.groups; i++) {
        const struct log_group *g = &s->log.groups[i];
        log_put_group(out, &(struct log_record){.group = i, .term = g->term, .vote = g->vote, .commit = g->commit,
                                                .mark_index = g->mark_index, .mark_term = g->mark_term,
                                                .last_index = g->last_index});
    }
}

/* The records are the node's own: a malformed one, or a gap, is a bug here and now, not a riddle at the next start. */
static void check_records(const struct store *s, slice_t records)
{
    struct reader r = reader_of(records);
    struct log_record rec;
    while (log_record_next(&r, s->options.groups, &rec)) {
        syn_assert(rec.type != LOG_GROUP);
    }
    syn_assert(reader_done(&r));
}

static void apply_records(struct store *s, slice_t records)
{
    struct reader r = reader_of(records);
    struct log_record rec;
    while (log_record_next(&r, s->options.groups, &rec)) {
        syn_assert(rec.type != LOG_ENTRIES || rec.index <= s->log.groups[rec.group].last_index + 1);
        log_group_apply(s, &rec);
    }
}

/* Builds a block for this place and writes it there; the writer itself does not move on. */
static enum store_status write_block(struct store *s, enum block_kind kind, const struct segment_file *f, uint64_t off,
                                     struct block_header *h)
{
    struct buf *b = &s->log.block;
    *h = (struct block_header){.kind = (uint16_t)kind, .node_uuid = s->identity.node_uuid, .segment = f->number,
                               .segment_bytes = f->bytes, .number = s->log.next_block,
                               .synced = atomic_load(&s->synced), .prev_crc = s->log.prev_crc};
    block_seal(b, h);
    uint64_t end = off + b->len;
    if (s->log.scratch_end > end && s->log.scratch_segment == f->number) {
        size_t more = (size_t)(s->log.scratch_end - end);
        memset(buf_reserve(b, more), 0, more);
        b->len += more;
    }
    ssize_t n = s->files.pwrite(s->files.ctx, f->fd, b->ptr, b->len, off);
    if (n < 0) {
        char name[FILE_NAME_BYTES];
        segment_name(name, f->number);
        s->log.scratch_end = off + b->len;
        s->log.scratch_segment = f->number;
        return store_io_error(s, true, s->log_error, "write", name, (int)n);
    }
    syn_assert((size_t)n == b->len);
    atomic_fetch_add(&s->bytes, b->len);
    return STORE_OK;
}

static void advance(struct store *s, uint64_t off, const struct block_header *h)
{
    s->log.off = off + block_span(h->body_len);
    s->log.prev_crc = h->header_crc;
    s->log.next_block++;
    s->log.scratch_end = 0;
    s->log.dirty = true;
}

static void begin_block(struct store *s)
{
    buf_clear(&s->log.block);
    memset(buf_reserve(&s->log.block, BLOCK_HEADER_BYTES), 0, BLOCK_HEADER_BYTES);
    s->log.block.len = BLOCK_HEADER_BYTES;
}

static struct segment_file ready_peek(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    struct segment_file f = s->ready;
    pthread_mutex_unlock(&s->lock);
    return f;
}

/* The block becomes the first of the next segment: preamble and records in one, so that there is no state between. */
static enum store_status append_rolling(struct store *s, slice_t records)
{
    enum store_status st = store_sync(s);
    if (st == STORE_OK) {
        st = segments_prepare_now(s);
    }
    if (st != STORE_OK) {
        return st;
    }
    struct segment_file next = ready_peek(s);
    begin_block(s);
    put_preamble(s, &s->log.block);
    buf_append_slice(&s->log.block, records);
    uint64_t span = block_span(s->log.block.len - BLOCK_HEADER_BYTES);
    if (span > next.bytes) {
        st = segment_extend(s, &next, span);
    }
    struct block_header h;
    if (st != STORE_OK || (st = write_block(s, BLOCK_PREAMBLE, &next, 0, &h)) != STORE_OK) {
        return st;
    }
    if (s->log.file.fd >= 0) {
        s->files.close(s->files.ctx, s->log.file.fd);
    }
    s->log.file = next;
    segments_add(s, next.number, next.bytes, true);
    advance(s, 0, &h);
    return STORE_OK;
}

enum store_status store_append(struct store *s, slice_t records)
{
    if (store_is_failed(s)) {
        return STORE_FAILED;
    }
    check_records(s, records);
    syn_assert(records.len <= BLOCK_BODY_MAX / 2);
    enum store_status st;
    if (s->log.file.fd < 0 || s->log.off + block_span(records.len) > s->log.file.bytes) {
        st = append_rolling(s, records);
    } else {
        struct block_header h;
        begin_block(s);
        buf_append_slice(&s->log.block, records);
        st = write_block(s, BLOCK_RECORDS, &s->log.file, s->log.off, &h);
        if (st == STORE_OK) {
            advance(s, s->log.off, &h);
        }
    }
    if (st == STORE_OK) {
        apply_records(s, records);
        atomic_fetch_add(&s->appends, 1);
    }
    return st;
}

enum store_status store_sync(struct store *s)
{
    if (store_is_failed(s)) {
        return STORE_FAILED;
    }
    if (!s->log.dirty) {
        return STORE_OK;
    }
    int err = MUTANT("S29") ? 0 : s->files.sync(s->files.ctx, s->log.file.fd);
    if (err != 0 && MUTANT("S28")) {
        err = s->files.sync(s->files.ctx, s->log.file.fd);
    }
    if (err != 0) {
        char name[FILE_NAME_BYTES];
        segment_name(name, s->log.file.number);
        return store_io_error(s, false, s->log_error, "sync", name, err);
    }
    s->log.dirty = false;
    atomic_store(&s->synced, s->log.next_block - 1);
    atomic_fetch_add(&s->syncs, 1);
    return STORE_OK;
}

static void write_clean_end(struct store *s)
{
    struct block_header h;
    if (s->log.file.fd < 0 || store_sync(s) != STORE_OK) {
        return;
    }
    if (s->log.off + block_span(0) <= s->log.file.bytes) {
        begin_block(s);
        if (write_block(s, BLOCK_END, &s->log.file, s->log.off, &h) != STORE_OK) {
            return;
        }
        advance(s, s->log.off, &h);
    }
    if (store_sync(s) == STORE_OK) {
        store_write_floor(s);
    }
}

void store_close(struct store *s)
{
    if (s != NULL && !store_is_failed(s)) {
        write_clean_end(s);
    }
    store_abandon(s);
}

void store_abandon(struct store *s)
{
    if (s == NULL) {
        return;
    }
    for (uint32_t g = 0; s->snapshots != NULL && g < s->options.groups; g++) {
        buf_fini(&s->snapshots[g].attached);
        buf_fini(&s->snapshots[g].writer.attached);
        buf_fini(&s->snapshots[g].writer.head);
        if (s->snapshots[g].writer.fd >= 0) {
            s->files.close(s->files.ctx, s->snapshots[g].writer.fd);
        }
    }
    int fds[] = {s->log.file.fd, s->ready.fd};
    for (size_t i = 0; i < 2; i++) {
        if (fds[i] >= 0) {
            s->files.close(s->files.ctx, fds[i]);
        }
    }
    for (size_t i = 0; i < s->n_segments; i++) {
        free(s->segments[i].max_index);
    }
    free(s->segments);
    free(s->snapshots);
    free(s->log.groups);
    buf_fini(&s->log.block);
    identity_fini(&s->identity);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->prepare_lock);
    free(s);
}

void store_stats(const struct store *cs, struct store_stats *out)
{
    struct store *s = (struct store *)(uintptr_t)cs; /* the lock is not part of what the caller sees */
    *out = (struct store_stats){.appends = s->appends, .syncs = s->syncs, .bytes = s->bytes,
                                .snapshot_bytes = s->snapshot_bytes};
    pthread_mutex_lock(&s->lock);
    out->segments = s->n_segments;
    for (size_t i = 0; i < s->n_segments; i++) {
        out->log_bytes += s->segments[i].bytes;
    }
    pthread_mutex_unlock(&s->lock);
}
