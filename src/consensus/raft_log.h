/* The log of one group in memory: entries rest in their encoded form (entry_encode) in arena chunks, so that a run of
 * consecutive entries inside one chunk is one slice that goes to disk and to peers as it is.
 *
 * The entry before the first one is known by index and term only (prev_index, prev_term): what a snapshot covers.
 * Every slice handed out is borrowed until the next call that changes the log. */
#ifndef SYN_CONSENSUS_RAFT_LOG_H
#define SYN_CONSENSUS_RAFT_LOG_H

#include "consensus/consensus.h"

/* Large enough that runs are rarely cut short, small enough that an idle group costs little. */
enum { RAFT_LOG_CHUNK_BYTES = 256 * 1024 };

struct raft_log_slot {
    uint64_t term;
    uint64_t pos;   /* encoded bytes ever appended up to and including this entry: differences are run lengths */
    uint32_t chunk; /* counts all chunks ever made; wraps */
    uint32_t off;
};

struct raft_log_chunk;

struct raft_log {
    uint64_t prev_index;
    uint64_t prev_term;
    uint64_t prev_pos;
    struct raft_log_slot *slots; /* owned; entry i is slots[head + i - prev_index - 1] */
    size_t head;
    size_t count;
    size_t cap;
    struct raft_log_chunk **chunks; /* owned; chunk number n is chunks[chunk_head + n - chunk_base] */
    size_t chunk_head;
    size_t chunk_count;
    size_t chunk_cap;
    uint32_t chunk_base;
    struct raft_log_chunk *spare; /* one empty chunk kept back, so that a busy log does not map and unmap memory */
};

void raft_log_init(struct raft_log *l, uint64_t prev_index, uint64_t prev_term);
void raft_log_fini(struct raft_log *l);

static inline uint64_t raft_log_last(const struct raft_log *l) { return l->prev_index + l->count; }
static inline bool raft_log_has(const struct raft_log *l, uint64_t index)
{
    return index > l->prev_index && index <= l->prev_index + l->count;
}

/* Term of the entry at index; prev_term at prev_index; 0 elsewhere. */
uint64_t raft_log_term(const struct raft_log *l, uint64_t index);
static inline uint64_t raft_log_last_term(const struct raft_log *l) { return raft_log_term(l, raft_log_last(l)); }
/* Encoded bytes of entries (from, to]; indexes before the log count as prev_index, beyond it as the last. */
uint64_t raft_log_bytes(const struct raft_log *l, uint64_t from, uint64_t to);

/* Appends one entry (encodes it), or one that is already encoded. O(length). */
void raft_log_append(struct raft_log *l, uint64_t term, enum entry_type type, slice_t payload);
void raft_log_append_encoded(struct raft_log *l, uint64_t term, slice_t encoded);

/* Forgets entries at and beyond `from` (prev_index < from <= last + 1). */
void raft_log_cut(struct raft_log *l, uint64_t from);
/* Forgets entries up to and including `upto` (prev_index <= upto <= last). */
void raft_log_drop(struct raft_log *l, uint64_t upto);
/* Forgets everything; the log continues after (index, term). */
void raft_log_restart(struct raft_log *l, uint64_t index, uint64_t term);

/* A run that starts at `from`, at most bytes_max long unless the first entry alone is longer; never across a chunk.
 * Returns how many entries *run holds; 0 when the log has none at `from`. */
uint32_t raft_log_run(const struct raft_log *l, uint64_t from, uint64_t bytes_max, slice_t *run);
bool raft_log_entry(const struct raft_log *l, uint64_t index, struct entry *out);
/* The largest i <= index with a term of at most `term`; prev_index - 1 when even prev_term is larger. O(log n). */
uint64_t raft_log_floor(const struct raft_log *l, uint64_t index, uint64_t term);

/* Invariants of the structure; asserts. O(1), except that `whole` walks every entry. */
void raft_log_check(const struct raft_log *l, bool whole);

#endif
