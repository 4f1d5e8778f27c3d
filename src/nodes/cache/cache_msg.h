/* Messages between cachers and homes (docs/cache.md). They travel in PEER_CACHE, many in one; one that is lost is sent again by whoever waits for its answer,
 * one that comes twice or late changes nothing: txn names the transaction of a cacher, seq orders what a home says about a key within its epoch. */
#ifndef SYN_NODES_CACHE_CACHE_MSG_H
#define SYN_NODES_CACHE_CACHE_MSG_H

#include "nodes/cache/cache_ops.h"

enum cache_msg_kind {
    CACHE_MSG_GETS = 1, /* cacher: txn, key */
    CACHE_MSG_GETX,     /* cacher: txn, key */
    CACHE_MSG_UPGR,     /* cacher: txn, key */
    CACHE_MSG_FLUSH,    /* cacher: txn (of the flush), low, version (base), key, item */
    CACHE_MSG_ACK,      /* cacher: seq of the snoop, key; dirty: with txn, low, version and item of a flush */
    CACHE_MSG_DATA,     /* home: txn, seq, grant, version, key, item; expiry as time left */
    CACHE_MSG_INV,      /* home: seq, key */
    CACHE_MSG_DOWN,     /* home: seq, key */
    CACHE_MSG_FLUSHED,  /* home: txn of the flush, version (0: refused), key */
    CACHE_MSG_UNUSED,   /* a number that is refused */
    CACHE_MSG_LEASE,    /* cacher: txn (its clock), seq (its number as a listener), asks */
    CACHE_MSG_GRANT,    /* home: txn (that clock), seq (the greatest number it has of it), version = milliseconds that are left */
    CACHE_MSG_EPOCH,    /* home: it leads now and wants a report; cacher: answered with by a newer one */
    CACHE_MSG_REPORT,   /* cacher: nothing of an older epoch is left here */
    CACHE_MSG_LOOK,     /* any node to any: what state is your line of key in? txn; dirty: and give it up when it is clean */
    CACHE_MSG_SEEN,     /* the answer: txn, key, version; grant: enum mesi_state before; epoch: the term it knows of */
    CACHE_MSG_NOTE,     /* home, to who listens: seq, version (enum cache_note), key: it was written */
    CACHE_MSG_NOTED,    /* cacher: seq: its clients were told */
    CACHE_MSG_MAX
};

enum cache_note { CACHE_NOTE_KEY = 0, CACHE_NOTE_OWN /* by a client of who is told */, CACHE_NOTE_ALL /* every key of the group */ };
enum cache_grant { CACHE_GRANT_S = 1, CACHE_GRANT_E, CACHE_GRANT_M };

struct cache_msg {
    uint8_t kind;
    uint8_t grant;       /* DATA */
    bool dirty;          /* ACK */
    uint32_t group;
    uint64_t epoch;      /* of the home: its term. Requests: the newest the cacher knows */
    uint64_t txn, seq, low, version;
    slice_t key;         /* borrowed */
    struct cache_item item; /* borrowed; expire_ms is the time left, 0: never */
};

void cache_msg_put(struct buf *out, const struct cache_msg *m);
bool cache_msg_get(struct reader *r, struct cache_msg *m); /* false: malformed */

#endif
