/* A node in its role of holding lines: hits, misses, writes, snoops, leases (docs/cache.md). Pure: messages go out through cacher_io, time comes in.
 *
 * One per node, for all groups. Keys and ops are borrowed during a call. */
#ifndef SYN_NODES_CACHE_CACHER_H
#define SYN_NODES_CACHE_CACHER_H

#include "nodes/cache/cache_msg.h"
#include "nodes/cache/lines.h"
#include "nodes/cache/mesi.h"

struct cacher_options {
    uint32_t groups;
    uint64_t hash_key;
    bool back;               /* CACHE_WRITE_POLICY */
    uint64_t entries_max;    /* CACHE_SIZE; 0: by bytes alone */
    uint64_t bytes_max;      /* 0: by entries alone */
    enum lines_policy policy; /* CACHE_POLICY */
    uint64_t lease_ms;       /* CACHE_LEASE */
    uint64_t flush_ms;       /* CACHE_FLUSH_INTERVAL */
    uint64_t first_txn;      /* above all that an earlier life of this node used */
};

struct cacher_io {
    void *arg;
    void (*send)(void *arg, const struct cache_msg *m); /* to whoever leads m->group; may be lost */
    void (*reply)(void *arg, uint64_t cookie, slice_t resp);
    /* A write that goes through: to the home, with others of this turn. cacher_wrote is called for each, once. */
    void (*write)(void *arg, uint32_t group, slice_t key, slice_t op, uint64_t cookie);
    /* May be NULL. A copy that could be read here cannot any more, or has another value: one key's; all of a group. */
    void (*gone)(void *arg, uint32_t group, slice_t key);
    void (*lost)(void *arg, uint32_t group);
    /* While this node listens: the key was written, or, all: any key of the group may have been. May be NULL. */
    void (*told)(void *arg, uint32_t group, slice_t key, bool all);
};

enum cacher_outcome { CACHER_DONE, CACHER_DONE_OWNED, CACHER_NOT_DONE, CACHER_UNSURE };

struct cacher_stats {
    uint64_t hits, misses;         /* reads: answered from a line at once, and not */
    uint64_t invalidated, downgraded, evicted, flushes, lost, lease_ends;
    uint64_t gets, getx, upgr, writes;
    uint64_t lines, bytes, dirty, busy;
    uint64_t by_state[MESI_STATES]; /* of all lines; a clean one whose lease is over is in I, until it is looked for or its place is wanted */
};

struct cacher;
struct cacher *cacher_new(const struct cacher_options *o, const struct cacher_io *io);
void cacher_free(struct cacher *c);

/* now_ms: the node's clock, never going back; wall_ms: Unix time. Set before the calls of a turn. */
void cacher_clock(struct cacher *c, uint64_t now_ms, uint64_t wall_ms);
/* Where a key's line is looked for: its group and hash, the same for the cacher's life. Made once for a command that needs it more than once. */
struct cache_place { uint32_t group, hash; };
struct cache_place cacher_place(const struct cacher *c, uint32_t group, slice_t key);
/* True: the line can be read here and now, *item is borrowed until the next call. */
bool cacher_hit(struct cacher *c, struct cache_place at, slice_t key, struct cache_item *item);
/* Keys with these hashes will be asked for soon: what that needs of memory is asked for now and together, so that it need not be waited for. Changes nothing. */
void cacher_expect(const struct cacher *c, const uint32_t *hashes, uint32_t n);
/* Runs an op on a key: the reply comes through io.reply with this cookie, perhaps during the call. */
void cacher_op(struct cacher *c, uint32_t group, slice_t key, slice_t op, enum cache_access access, uint64_t cookie);
void cacher_op_at(struct cacher *c, struct cache_place at, slice_t key, slice_t op, enum cache_access access, uint64_t cookie);
/* The client of a waiting op is gone: it is not answered, and a write that did not leave yet is not done. */
bool cacher_cancel(struct cacher *c, uint64_t cookie); /* false: it does not wait here */
/* A write of io.write has ended; its reply was taken care of. before, version: of the value, before and after it; seq: of the home's word about it, in its
 * epoch. DONE_OWNED: the line is ours from then on. */
void cacher_wrote(struct cacher *c, uint32_t group, slice_t key, slice_t op, enum cacher_outcome outcome, uint64_t epoch, uint64_t before, uint64_t version,
                  uint64_t seq);
/* Since a client of this node last used the key, looks at it (cache_op_peeks) left out. Outlasts leases, not the line; 0 without one. */
uint32_t cacher_idle_s(const struct cacher *c, uint32_t group, slice_t key);
bool cacher_on(struct cacher *c, const struct cache_msg *m); /* false: nothing that a home says; refused */
/* The group has another leader, or none that is known (epoch 0): what waits is asked for anew when it is. */
void cacher_home_changed(struct cacher *c, uint32_t group);
/* Listening (docs/cache.md): from when cacher_hears is true, every write through of any node is told before it is answered. */
void cacher_listen(struct cacher *c, bool on);
bool cacher_hears(const struct cacher *c);               /* of all groups, now */
void cacher_timers(struct cacher *c);
uint64_t cacher_deadline(const struct cacher *c);
/* Writes every dirty line to memory and gives all up, before a shutdown; true: nothing dirty is left. */
bool cacher_flush_all(struct cacher *c);
/* After cacher_flush_all: what was dirty then is memory's when cacher_flushed says so of this mark, whatever was written since. */
uint64_t cacher_flush_mark(const struct cacher *c);
bool cacher_flushed(const struct cacher *c, uint64_t mark);
void cacher_drop(struct cacher *c, uint32_t group, slice_t key); /* CACHE.INVALIDATE at this node: a clean line goes */

enum mesi_state cacher_state(struct cacher *c, uint32_t group, slice_t key, uint64_t *version);
/* The same without touching anything, at a clock that may be ahead of the cacher's. */
struct cacher_view {
    enum mesi_state state;
    bool dirty;              /* has writes that memory does not have, */
    bool orphan;             /* and its lease is over */
    uint64_t dirty_since_ms, lease_end_ms;
};
void cacher_look(const struct cacher *c, uint32_t group, slice_t key, uint64_t now_ms, struct cacher_view *out);
/* Dirty lines alone fill the cache beyond its bound, by an eighth or so: who writes should wait. */
bool cacher_is_crowded(const struct cacher *c);
bool cacher_quiet(const struct cacher *c);                      /* nothing transient, nothing waits (MC4) */
void cacher_stats(const struct cacher *c, struct cacher_stats *s); /* O(1) */
void cacher_check(const struct cacher *c);                      /* asserts what it counts; O(lines) */

#endif
