/* What a command does to the value of one key: the same code runs on memory (cache_sm.h) and on an owned line (cacher.h).
 *
 * A command's words become an op once, at the door, where everything that does not depend on the value is checked: syntax, integers, ranges,
 * with Redis' own words. An op is opaque bytes, the same on every node. Running one is deterministic: nothing but its arguments. */
#ifndef SYN_NODES_CACHE_CACHE_OPS_H
#define SYN_NODES_CACHE_CACHE_OPS_H

#include "utils/buf.h"

/* A value as it lies in memory or in a line. Times are milliseconds of the clock that `cache_clock.now_ms` shows. */
struct cache_item {
    bool exists;
    slice_t value;
    uint64_t expire_ms;   /* 0: never; at this time and later it does not exist */
    slice_t guard;        /* resource of the newest fencing token seen with a write, empty: none; stays when the value goes ... */
    uint64_t token;       /* ... and that token */
};

/* now_ms: log time at a home, a node's clock on a line. wall_ms: Unix time for EXPIREAT, PEXPIREAT, EXAT, PXAT, EXPIRETIME, PEXPIRETIME. */
struct cache_clock { uint64_t now_ms, wall_ms; };

enum cache_change_kind {
    CACHE_KEEP = 0,       /* nothing changes; the version neither */
    CACHE_PUT,            /* value, expire_ms */
    CACHE_EXPIRE,         /* expire_ms alone */
    CACHE_DELETE,
};
struct cache_change {
    enum cache_change_kind kind;
    struct buf value;     /* the caller's, reused; PUT: all of the new value */
    uint64_t expire_ms;
    bool guarded;         /* the item's guard becomes `guard` (borrowed from the op) with `token` */
    slice_t guard;
    uint64_t token;
};

/* What an op needs of a key. */
enum cache_access { CACHE_READS, CACHE_WRITES };

/* argv: the whole command with its name in any case, for one key (argv[1]; where cache_op_is_object, argv[2]): GET, SET, ... OBJECT IDLETIME has one word more, the
 * seconds. False: `error` has one RESP error. */
bool cache_op_is_object(slice_t name); /* OBJECT and MEMORY: their key comes third */
bool cache_op_encode(const slice_t *argv, uint32_t argc, struct buf *op, enum cache_access *access, struct buf *error);
/* True: op is well-formed and may be run. For bytes that came from a peer or a disk. */
bool cache_op_valid(slice_t op);
/* True: it looks at a key without using it. */
bool cache_op_peeks(slice_t op);
/* True: a write that puts the same value whatever was there: SET without NX, XX, GET, KEEPTTL, IFEQ, IFNE, FENCE, EXAT, PXAT. Run on an absent item it makes the
 * same. DEL is none: what is absent it leaves as it is. */
bool cache_op_overwrites(slice_t op);
/* True: whoever runs it says what the value is now, even where it finds nothing to do: DEL of what is absent. What only looks or moves an expiry does not. */
bool cache_op_ends_fill(slice_t op);
/* Runs an op that cache_op_valid accepted. An item that has expired by the clock is treated as absent. reply gets RESP3 bytes; out->value is cleared first.
 * Errors that depend on the value (not an integer, overflow, too long, -FENCED) are replies, with CACHE_KEEP. */
void cache_op_run(slice_t op, const struct cache_item *in, struct cache_clock clock, struct cache_change *out, struct buf *reply);

#endif
