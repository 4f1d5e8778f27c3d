/* The doors of the cache: commands on keys wait here for the lines of this node (cacher.h), several keys of one command are joined. */
#ifndef SYN_NODES_DOORS_CACHE_DOOR_H
#define SYN_NODES_DOORS_CACHE_DOOR_H

#include "nodes/cache/cache_lcs.h"
#include "nodes/cache/cache_ops.h"
#include "nodes/doors/door.h"

/* One command's answers, from several keys, groups or nodes. */
enum cache_join_kind { JOIN_SUM, JOIN_ARRAY, JOIN_OK, JOIN_ENTRY /* one value, with what this node knows of it */, JOIN_LCS };

struct lease_wait;

struct cache_join {
    struct list link;
    enum cache_join_kind kind;
    conn_id_t conn;
    uint64_t slot;
    uint32_t n, left;
    int64_t sum;
    struct buf error;           /* the first */
    struct buf key;             /* ENTRY */
    struct lcs_options lcs;
    struct buf *replies;        /* of each part, but for SUM and OK */
};

/* A command on one key that waits. Its number in doors.cache.asks is the cacher's cookie. */
struct cache_ask {
    struct list link;           /* in the order in which they came */
    bool used;
    uint32_t life;              /* so that the answer to a former one is not taken for this one's */
    conn_id_t conn;
    uint64_t slot, began_ms;
    bool write;
    struct cache_join *join;
    struct lease_wait *lease;   /* who is told instead (cache_lease.c); NULL: nobody */
    uint32_t part;
    uint8_t *key;               /* of a read that is tracked, else NULL; owned */
    uint32_t key_len;
};

/* A question to all nodes about their lines: CACHE.STATE, CACHE.INVALIDATE. */
enum poll_answer { POLL_WAITS, POLL_SEEN, POLL_UNREACHABLE /* no link with it: it can not answer */ };
struct cache_poll {
    struct list link;
    conn_id_t conn;
    uint64_t slot, txn, until_ms;
    bool drop;
    uint32_t group, left;       /* answers that are waited for */
    struct buf key;
    struct { node_id_t node; enum poll_answer answer; uint8_t state; uint64_t version; } nodes[NODE_MEMBERS_MAX];
    uint32_t n_nodes;
    node_id_t home_asked;       /* whose view of the key is waited for; 0: nobody's */
    uint64_t epoch;
    struct buf home;            /* what it answered to CACHE_QUERY_STATE; empty: nothing */
};

/* A text of a known script that came with a hash of its own (cmd_script.c). */
struct loaded_script { char sha[41]; uint32_t known; };

struct cache_doors {
    struct cache_ask *asks;
    uint32_t n_asks, cap_asks, free_ask;
    struct list waiting, joins, polls, flushes;
    struct map tracked;         /* track.c */
    struct list tracked_all;    /* oldest first */
    struct list crowd;          /* cache_crowd.c */
    struct list bcast;          /* struct conn.of_bcast: those that hear of every write */
    struct list bcast_waits;    /* struct bcast_wait */
    struct map leased;          /* cache_lease.c: struct lease_wait by key, ... */
    struct list leases;         /* ... and all of them */
    uint64_t lease_next_ms;     /* when one of them has something to do */
    conn_id_t writer;           /* whose command is being executed */
    struct loaded_script loaded[64];
    uint32_t n_loaded;
    struct buf op;
    uint64_t next_txn;
};

uint32_t cache_group(const struct node *n, slice_t key);
struct cache_place cache_place(const struct node *n, slice_t key);
struct cache_place call_place(const struct call *c);        /* of argv[1] */
bool cache_key_ok(struct call *c, slice_t key);
/* The command argv, of one key, on its line; the reply goes to the call, or to part `part` of join. */
void cache_submit(struct call *c, const slice_t *argv, uint32_t argc, struct cache_join *join, uint32_t part);
struct cache_join *cache_join_new(struct call *c, enum cache_join_kind kind, uint32_t n);
void cache_join_reply(struct node *n, struct cache_join *j, uint32_t part, slice_t reply);
/* The same with GET, for those who wait for a right to fill: lease_read hears of the value. */
void cache_read(struct node *n, slice_t key, struct lease_wait *w);
conn_id_t cache_asker(const struct cache_doors *d, uint64_t cookie); /* whose command it is; 0: nobody's any more */
void cache_reply_to(struct node *n, conn_id_t id, uint64_t slot, slice_t reply); /* if it is still there */
/* cache_crowd.c. True: the handler has no more to do, its command waits for room or was refused. */
bool cache_put_off(struct call *c);
void cache_crowd_timers(struct node *n);
/* cmd_cache_flush.c */
void cache_flushes_timers(struct node *n);
void cache_flushes_free(struct cache_doors *d);
/* cache_poll.c */
void cache_poll_begin(struct call *c, slice_t key, bool drop);
void cache_polls_timers(struct node *n);
void cache_polls_free(struct cache_doors *d);

/* cache_lease.c */
void lease_init(struct cache_doors *d);
void lease_fini(struct cache_doors *d);
void lease_read(struct node *n, struct lease_wait *w, slice_t reply);
void lease_gone(struct node *n, slice_t key);
void lease_lost(struct node *n, uint32_t group);
void lease_timers(struct node *n);
uint64_t lease_waiters(const struct node *n);                       /* callers that are parked at this node */

#endif
