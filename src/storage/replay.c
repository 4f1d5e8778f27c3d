/* The meaning of log records in sequence, for one group (docs/disk.md, "Recovery", step 5).
 *
 * Not responsible for bytes on disk (recovery.c) nor for checksums.
 * Invariants: held entries are dense from base + 1; a run never leaves a gap (W7, D15); a run replaces everything at and
 * beyond its first index, so that applying the same records again changes nothing (W9). Memory is bounded by the bytes
 * of the runs that are held (I42). */
#include "storage/replay.h"

#include "utils/assert.h"
#include "utils/mutant.h"

#include <stdlib.h>

void replay_fini(struct replay *g)
{
    free(g->at);
    buf_fini(&g->run);
    *g = (struct replay){0};
}

static void push_entry(struct replay *g, slice_t bytes)
{
    if (g->count == g->cap) {
        g->cap = g->cap ? g->cap * 2 : 64;
        g->at = realloc(g->at, g->cap * sizeof *g->at);
        syn_assert(g->at != NULL);
    }
    g->at[g->count++] = g->run.len;
    buf_append_slice(&g->run, bytes);
}

static void cut_from(struct replay *g, uint64_t index)
{
    if (index > replay_last(g)) {
        return;
    }
    if (index <= g->base + 1) {
        g->count = 0;
        g->run.len = 0;
        return;
    }
    g->count = index - g->base - 1;
    g->run.len = g->at[g->count];
}

static void drop_through(struct replay *g, uint64_t index)
{
    syn_assert(index >= g->base && index <= replay_last(g));
    uint64_t n = index - g->base;
    size_t bytes = n == g->count ? g->run.len : g->at[n];
    buf_consume(&g->run, bytes);
    g->count -= n;
    g->base = index;
    for (uint64_t i = 0; i < g->count; i++) {
        g->at[i] = g->at[i + n] - bytes;
    }
}

static uint64_t term_at(const struct replay *g, uint64_t index)
{
    syn_assert(index > g->base && index <= replay_last(g));
    return le64_get(g->run.ptr + g->at[index - g->base - 1]);
}

static void restart_after(struct replay *g, uint64_t index)
{
    g->count = 0;
    g->run.len = 0;
    g->base = index;
}

static const char *apply_entries(struct replay *g, const struct log_record *r)
{
    if (r->index > replay_last(g) + 1) {
        return "entries leave a gap behind the ones before";
    }
    if (!MUTANT("W9")) {
        cut_from(g, r->index);
    }
    /* What the snapshot mark covers stays covered; an index that older segments held may come again here. */
    if (r->index <= g->base) {
        g->base = r->index > g->mark_index ? r->index - 1 : g->mark_index;
    }
    struct reader run = reader_of(r->run);
    for (uint64_t i = 0; i < r->n_entries; i++) {
        const uint8_t *from = run.p;
        uint64_t term;
        if (!log_run_next(&run, &term)) {
            return "a run of entries is malformed";
        }
        if (r->index + i == replay_last(g) + 1) {
            push_entry(g, slice_of(from, (size_t)(run.p - from)));
        }
    }
    return reader_done(&run) ? NULL : "a run of entries is longer than it says";
}

/* Raft's rule for an installed snapshot (Ongaro 2014, figure 5.3): when the entry at its index has its term the entries
 * behind it stay, otherwise the whole log goes. */
static const char *apply_mark(struct replay *g, uint64_t index, uint64_t term, bool installed)
{
    if (index < g->mark_index) {
        return NULL; /* made before a newer one was installed: it says nothing new */
    }
    bool same = true;
    if (index > g->base && index <= replay_last(g)) {
        same = term_at(g, index) == term;
    } else if (index == g->mark_index && index > 0) {
        same = g->mark_term == term;
    }
    if (!same && !installed) {
        return "a snapshot mark and the entry at its index have different terms";
    }
    if (!same || index > replay_last(g)) {
        restart_after(g, index);
    } else if (index > g->base) {
        drop_through(g, index);
    }
    g->mark_index = index;
    g->mark_term = term;
    return NULL;
}

const char *replay_apply(struct replay *g, const struct log_record *r, bool first)
{
    switch (r->type) {
    case LOG_ENTRIES:
        g->exists = true;
        return apply_entries(g, r);
    case LOG_SNAPSHOT_MARK:
        g->exists = true;
        return apply_mark(g, r->index, r->term, r->installed);
    case LOG_GROUP:
        if (!first) {
            return NULL;
        }
        g->mark_index = r->mark_index;
        g->mark_term = r->mark_term;
        g->base = r->last_index;
        g->exists = r->term > 0 || r->vote > 0 || r->last_index > 0;
        break;
    case LOG_HARD_STATE:
        g->exists = true;
        break;
    default:
        SYN_UNREACHABLE();
    }
    g->term = r->term;
    g->vote = r->vote;
    g->commit = r->commit;
    return NULL;
}

const char *replay_join_snapshot(struct replay *g, uint64_t index, uint64_t term)
{
    if (g->mark_index > index) {
        return "the snapshot that the log continues from is missing";
    }
    if (g->mark_index == index && g->mark_term != term) {
        return "the snapshot has another term than the log says";
    }
    if (g->base > index) {
        return "entries between the snapshot and the log are missing";
    }
    if (index == 0) {
        return NULL;
    }
    g->exists = true;
    return apply_mark(g, index, term, true);
}
