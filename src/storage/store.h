/* The embedded state store of one node: one write-ahead log for all its groups, and their snapshots (docs/disk.md; W1-W11).
 *
 * Pure in the sense of docs/architecture.md: it reaches a disk only through `struct files`. It is used by one thread (the
 * simulator) or by two: the log side calls store_append and store_sync, the upkeep side store_prepare, store_trim and
 * store_snapshot_*; each side one call at a time, everything else (open, close) alone. The node describes what to write as records (below) in one buffer
 * per loop turn; store_append puts any number of such buffers into blocks of the current segment, store_sync makes all
 * of them durable with one fdatasync.
 *
 * An error from append or sync other than STORE_FULL poisons the store: every later call answers STORE_FAILED and the
 * process must stop (a failed fdatasync is never retried, W5). */
#ifndef SYN_STORAGE_STORE_H
#define SYN_STORAGE_STORE_H

#include "consensus/consensus.h"
#include "storage/files.h"

enum store_status {
    STORE_OK = 0,
    STORE_FULL,      /* no room (ENOSPC, EDQUOT): nothing of this append was written; it may be tried again */
    STORE_FAILED,    /* the disk failed; store_error() says what and where; the process must stop */
    STORE_CORRUPT,   /* recovery: damage before the end of the log; store_error() names file and offset */
    STORE_LOCKED,    /* another process has this directory */
    STORE_MISMATCH,  /* the directory belongs to another node, cluster, or a newer format */
};

/* Records, concatenated in a buffer by these encoders (storage/log_codec.c). */
void log_put_hard_state(struct buf *out, uint32_t group, uint64_t term, node_id_t vote, uint64_t commit);
/* The run replaces everything of this group at and beyond first_index. */
void log_put_entries(struct buf *out, uint32_t group, uint64_t first_index, uint32_t n_entries, slice_t run);
/* The group's log restarts after index (a snapshot was installed, or made); recovery ignores older entries. */
void log_put_snapshot_mark(struct buf *out, uint32_t group, uint64_t index, uint64_t term, bool installed);

/* How far somebody is with looking at a backlog file from its beginning; all zero there. What it means is for backlog_check to know. */
struct backlog_check {
    uint8_t head[36];
    uint32_t have, crc, left, pad;
};

struct store_options {
    uint64_t node_uuid_seed;   /* randomness for a new node uuid */
    node_id_t self;
    slice_t node_name;         /* checked against the directory's identity */
    uint64_t cluster_key;      /* hash of what must be equal in the whole cluster (initial members, GROUPS, consensus) */
    uint32_t groups;
    uint32_t segment_bytes;    /* 16 MiB by default; tests use small ones */
    /* Looks at the next bytes of a backlog file that a peer sends; end: there are no more. False: they are damaged. NULL: not looked at. */
    bool (*backlog_check)(struct backlog_check *c, slice_t bytes, bool end);
};

struct store_group {            /* what recovery found of one group */
    bool exists;
    uint64_t term;
    node_id_t vote;
    uint64_t commit;
    uint64_t snapshot_index;    /* newest whole snapshot on disk, 0: none */
    uint64_t snapshot_term;
    uint64_t first_index;       /* entries [first_index, first_index + n_entries) */
    uint32_t n_entries;
    struct buf run;             /* owned by the store until store_recovered_free */
};

struct store_recovery {
    bool fresh;                 /* the directory was empty: this node remembers nothing (P8) */
    uint64_t node_uuid;         /* made when the directory was; other nodes tell a wiped disk by it */
    uint64_t incarnation;       /* durable count of starts, grows by one each */
    struct store_group *groups; /* options.groups of them; owned */
    uint32_t n_groups;
    uint64_t torn_bytes;        /* cut from the tail: was never acknowledged */
    uint32_t segments;
};

struct store;

enum store_status store_open(const struct files *files, const struct store_options *o, struct store **out,
                             struct store_recovery *recovered, struct buf *error);
void store_recovered_free(struct store_recovery *r);
void store_close(struct store *s); /* marks a clean end when the store is healthy */
void store_abandon(struct store *s); /* frees the memory and writes nothing: the process died (simulator, tests) */

enum store_status store_append(struct store *s, slice_t records);
enum store_status store_sync(struct store *s);
/* Makes the next segment ready (zeroed and synced) when it is not; call when idle. STORE_FULL: space is low, the node
 * refuses new writes and asks again later; what is in flight still fits. */
enum store_status store_prepare(struct store *s);
bool store_needs_prepare(const struct store *s);

/* Snapshot files, one newest per group. Chunks are written in order; last makes it durable (fsync, rename, fsync of the
 * directory) and only then is it the newest. zstd inside; a CRC32C per chunk; bad or missing bytes answer STORE_CORRUPT. */
enum store_status store_snapshot_write(struct store *s, uint32_t group, uint64_t index, uint64_t term, uint64_t offset,
                                       slice_t chunk, bool last);
/* Backlog files: messages that lie outside the log (docs/disk.md, "Backlog files"). Numbers are the caller's, never used twice by any node. Writes
 * append: offset is the file's length so far, a multiple of BACKLOG_ALIGN (tearing a later append must not reach what was synced); 0 makes it.
 * Not synced. FULL: the file is as it was, and it may be tried again. CORRUPT: the file does not end at offset, or is not there. */
enum { BACKLOG_ALIGN = 512 };
enum store_status store_backlog_write(struct store *s, uint32_t group, uint64_t file, uint64_t offset, slice_t data);
/* Appends exactly these bytes to out. CORRUPT: the file is missing, or ends before. What is in them is for the caller to check. */
enum store_status store_backlog_read(struct store *s, uint32_t group, uint64_t file, uint64_t offset, uint32_t bytes, struct buf *out);
/* Removes the group's backlog files but these, those that its newest snapshot needs, and those of one that is being written or received.
 * Syncs the directory once, when something went. */
enum store_status store_backlog_keep(struct store *s, uint32_t group, const uint64_t *files, size_t n);
/* Names the files that the snapshot of this index needs, as pairs (u64 number, u64 bytes > 0) with ascending numbers, before its first write. They
 * are durable when it is, travel with it (read_raw, write_raw), and stay as long as it is the newest; store_snapshot_load does not deliver them.
 * CORRUPT: there are too many; that snapshot will be refused. One of them is missing or shorter than named when the snapshot is complete: its
 * last write answers CORRUPT. */
enum store_status store_snapshot_attach(struct store *s, uint32_t group, uint64_t index, slice_t pairs);
void store_snapshot_abort(struct store *s, uint32_t group);
/* Raw bytes of the newest snapshot for sending to a peer, and the same on the receiving side: its header with the list, the attached
 * files' first bytes as the list says, and the rest of it. The snapshot is byte-identical there. CORRUPT, reading: it is not the newest, or a file of
 * it is damaged; writing: an offset out of order, or bytes that are not that snapshot, or a backlog file in which backlog_check found damage: nothing
 * of it stays. */
enum store_status store_snapshot_read_raw(struct store *s, uint32_t group, uint64_t index, uint64_t offset, uint32_t max,
                                          struct buf *out, bool *last);
enum store_status store_snapshot_write_raw(struct store *s, uint32_t group, uint64_t index, uint64_t term, uint64_t offset,
                                           slice_t chunk, bool last);
/* Reads and verifies the newest snapshot, calling fn with decompressed pieces in order. fn returns false to stop. */
enum store_status store_snapshot_load(struct store *s, uint32_t group, uint64_t index,
                                      bool (*fn)(void *arg, slice_t piece), void *arg);
/* Which log index each group no longer needs (its durable snapshot covers it). Deletes or recycles whole segments. */
enum store_status store_trim(struct store *s, const uint64_t *snapshot_index_per_group);

struct store_stats { uint64_t appends, syncs, bytes, segments, log_bytes, snapshot_bytes; };
void store_stats(const struct store *s, struct store_stats *out);
/* The failure that poisoned the store, or what the last refused call said; "" when there is none. The second form is for
 * the upkeep thread while a log thread is running: it never shows that thread's texts unless the store is poisoned. */
const char *store_error(const struct store *s);
const char *store_upkeep_error(const struct store *s);

#endif
