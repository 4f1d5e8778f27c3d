/* Memory behind the cache: key -> value, version, expiry; one per group, part of its replicated state (docs/cache.md).
 *
 * Entries are batches of ops on keys, flushes, fences, holders and expiries. Versions are log indexes. Clocks are log time; the wall time beside it comes with
 * the entry. Deterministic: equal entries make equal memories, byte for byte in snapshots and in the digest. */
#ifndef SYN_NODES_CACHE_CACHE_SM_H
#define SYN_NODES_CACHE_CACHE_SM_H

#include "nodes/cache/cache_ops.h"
#include "nodes/dedup.h"

enum cache_entry_kind {
    CACHE_ENTRY_BATCH = 1, /* request head, u64 wall_ms, u32 n, n times (key, op): executed in order, all of it or, when it is damaged, nothing */
    CACHE_ENTRY_ATOMIC,    /* as BATCH, for several keys of one command: MSETNX, RENAME, RENAMENX, COPY (request head, u8 cache_multi, then as above) */
    CACHE_ENTRY_FLUSH,     /* request head, then (key, u64 base version, item): an owner's dirty value, taken only if version is still base (MC8) */
    CACHE_ENTRY_FENCE,     /* request head, key: its version becomes this index; an owner that was lost cannot flush any more (S66) */
    CACHE_ENTRY_HOLD,      /* u32 node: it may have a lease from now on */
    CACHE_ENTRY_UNHOLD,    /* u32 node: it has left the cluster */
    CACHE_ENTRY_DUE,       /* u64 now: what has expired by then goes, at most DUE_MAX of them */
    CACHE_ENTRY_CLEAR,     /* request head: everything goes (FLUSHALL) */
    CACHE_ENTRY_LEASE,     /* request head, key, u64 fill_ms, u64 stale_ms: wants the right to fill the key */
    CACHE_ENTRY_UNFILL,    /* request head, key: the right to fill it ends: somebody is to own its line, or wants it to (CACHE.INVALIDATE) */
    CACHE_ENTRY_BOUND,     /* u64 bytes: the bound of memory from now on, 0: none */
    CACHE_ENTRY_MAX
};
/* MSETNX has an op for each key, which writes it; FILL and ABANDON have one; the others have the source and the destination, with empty ops. */
enum cache_multi { CACHE_MULTI_MSETNX = 1, CACHE_MULTI_RENAME, CACHE_MULTI_RENAMENX, CACHE_MULTI_COPY, CACHE_MULTI_COPY_REPLACE,
                   CACHE_MULTI_FILL,    /* one key; op: u64 token of the right, then the op that writes it: -STALEFILL when the right is over */
                   CACHE_MULTI_ABANDON, /* one key; op: u64 token: the right ends; 1, or 0 when it was over */
                   CACHE_MULTI_MAX };
/* What a LEASE is answered: u8 kind, u64 token, u64 left_ms; HELD: u8 has a last value, u64 its age_ms, u64 its version, value. An error is RESP. */
enum cache_lease_kind { CACHE_LEASE_HIT = 1, CACHE_LEASE_GIVEN, CACHE_LEASE_HELD, CACHE_LEASE_MAX };

enum { CACHE_HOLDERS_MAX = 64, CACHE_DUE_MAX = 256, CACHE_FILL_MS_MAX = 10 * 60 * 1000 };

/* hash_key: equal on all replicas, so that a SCAN goes on where it was when another one leads. memory_bytes: the bound before
 * any BOUND: of keys, values and what they cost, 0: none; a write that would grow beyond it is answered with -OOM. dedup_*: as struct dedup has them. */
struct cache_sm_options { uint32_t group; uint64_t hash_key, memory_bytes; uint64_t dedup_ms; uint32_t dedup_count; };

/* One key that an entry changed: for the home, which invalidates copies, and for the simulator's checkers. */
struct cache_touched { slice_t key; uint64_t version; bool exists; };
/* What an entry did. Everything in it is borrowed until the next apply or clear. */
struct cache_result { struct request_id req; uint32_t reply_off, reply_len; uint32_t first_touched, n_touched; bool repeated; };
struct cache_out {
    struct buf replies;            /* of results, one after the other: u32 n, then n times (u32 length, RESP3 bytes, u64 version before the
                                    * op, u64 version, u8 exists): one for each op of a batch, one for any other entry. ATOMIC: version 0: nothing
                                    * changed. FLUSH: version 0: refused, memory has something newer. DUE: how many keys went */
    struct cache_result *results; uint32_t n_results, cap_results;
    struct cache_touched *touched; uint32_t n_touched, cap_touched;
};
void cache_out_init(struct cache_out *o);
void cache_out_fini(struct cache_out *o);
void cache_out_clear(struct cache_out *o);

struct cache_sm;
struct cache_sm *cache_sm_new(const struct cache_sm_options *o);
void cache_sm_free(struct cache_sm *m);
/* Appends to out. A damaged entry changes nothing and has no result, nor has a request whose origin said that it has its answer. One that was answered before
 * gets the same reply again (repeated). HOLD, UNHOLD and DUE have a result with request 0. index grows, now_ms does not fall. */
void cache_sm_apply(struct cache_sm *m, uint64_t index, uint64_t now_ms, slice_t entry, struct cache_out *out);

/* Looking. The item is borrowed until the next apply; one that has expired at now_ms does not exist. version: of the value, or when it is absent, the greatest
 * that any value of the key may have had: of the newest deletions that is known key by key, for older ones it is the group's floor. */
void cache_sm_get(struct cache_sm *m, slice_t key, uint64_t now_ms, struct cache_item *item, uint64_t *version);
bool cache_sm_filling(const struct cache_sm *m, slice_t key);      /* somebody was given the right to fill it, and it did not end */
bool cache_sm_holds(const struct cache_sm *m, uint32_t node);
uint32_t cache_sm_holders(const struct cache_sm *m, uint32_t *out); /* at most CACHE_HOLDERS_MAX, ascending */
uint64_t cache_sm_bound(const struct cache_sm *m);                  /* of memory, in bytes; 0: none */
uint64_t cache_sm_next_due_ms(const struct cache_sm *m);            /* UINT64_MAX: nothing expires */
/* bytes: of keys; fill_bytes: of rights to fill and of last values; bound: what both together are bounded by, 0: nothing. */
struct cache_sm_stats { uint64_t keys, bytes, bound, with_expiry, expired, flushes_refused, fills, stales, fill_bytes; };
void cache_sm_stats(const struct cache_sm *m, struct cache_sm_stats *s);
/* Keys in the order of a cursor that stays good while keys come and go (as Redis' SCAN): calls fn for at least `count` keys or until the end; returns the
 * next cursor, 0: that was all. Expired ones are left out. */
uint64_t cache_sm_scan(struct cache_sm *m, uint64_t cursor, uint32_t count, uint64_t now_ms, void (*fn)(void *arg, slice_t key), void *arg);

/* Encoders of entries. The head of HOLD, UNHOLD and DUE is the kind alone. */
void cache_put_head(struct buf *out, enum cache_entry_kind kind, struct request_id req, uint64_t low);
void cache_put_op(struct buf *out, slice_t key, slice_t op);       /* of a batch; the caller counts */
void cache_put_item(struct buf *out, const struct cache_item *item);
bool cache_get_item(struct reader *r, struct cache_item *item);
void cache_put_lease(struct buf *out, slice_t key, uint64_t fill_ms, uint64_t stale_ms); /* what follows the head */

/* Snapshots in slices while applying goes on, exactly as lock_sm_snapshot_* and lock_sm_restore_* do it (what is seen is the state at _begin). */
void cache_sm_snapshot_begin(struct cache_sm *m);
bool cache_sm_snapshot_step(struct cache_sm *m, size_t bytes, struct buf *out); /* true: that was all */
void cache_sm_snapshot_abort(struct cache_sm *m);
bool cache_sm_restore_piece(struct cache_sm *m, slice_t piece);
bool cache_sm_restore_end(const struct cache_sm *m);
uint64_t cache_sm_digest(const struct cache_sm *m);                 /* equal on replicas with equal histories; O(1) */
void cache_sm_check(const struct cache_sm *m);                      /* asserts every invariant; O(everything) */

#endif
