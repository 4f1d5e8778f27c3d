/* What a node keeps for the cache: of each group its memory and, at the leader, its home; and once, what this node itself has of all groups.
 * Shared by node_cache*.c; node_internal.h embeds both. */
#ifndef SYN_NODES_NODE_CACHE_H
#define SYN_NODES_NODE_CACHE_H

#include "nodes/cache/cache_sm.h"
#include "nodes/cache/cacher.h"
#include "nodes/cache/home.h"
#include "nodes/node.h"
#include "utils/list.h"

struct node;
struct node_group;
struct request;
struct pending_read;

/* A write that is applied: its reply waits until nobody can read what was before. */
struct cache_held {
    struct list link;
    uint64_t ticket;            /* index of its entry */
    struct request_id req;
    node_id_t writer;
    bool repeated;
    bool nobodys;               /* of expiry: there is no reply */
    struct buf keys;            /* u32 n, then the keys */
    struct buf reply;           /* as cache_sm gave it */
};

/* Writes of this node for one group that leave together. */
struct cache_batch {
    struct list link;           /* node_cache.batches */
    uint32_t group, n;
    struct buf ops;             /* (key, op) each */
    struct buf cookies;         /* u64 each */
};

struct group_cache {
    struct node *n;             /* for the callbacks of home */
    uint32_t group;
    struct cache_sm *sm;
    struct home *home;          /* while this node leads the group and is ready */
    struct list held;           /* struct cache_held, ascending ticket */
    struct buf proposed;        /* flushes in our log: u64 index, u32 node each */
    struct buf written;         /* keys of the write that is told of */
    struct buf leasing;         /* keys that LEASE entries in our log are about: u64 hash each, in the order of the log */
    uint64_t due_index, due_retry_ms;
    uint64_t bound_index;       /* our BOUND in flight; 0: none */
    struct cache_batch *batch;  /* this turn's; NULL: none */
};

/* What homes and memories count, of all groups of a node. */
struct cache_counts {
    uint64_t homes;
    struct home_stats home;
    struct cache_sm_stats memory;
};

struct node_cache {
    struct cacher *cacher;
    struct cache_counts past;   /* of those that are no more: what a node counts never falls */
    struct cache_out out;
    struct list batches;        /* all that are under way */
    struct list filling;        /* ... and not sent yet */
    struct buf self[2];         /* messages of this node to itself */
    struct buf to[NODE_MEMBERS_MAX]; /* this turn's messages, by number of peer */
    struct cache_change change;
    uint64_t awake_until_ms;    /* somebody waits for this node who waits for no log */
};

/* node_cache.c: the group's replica */
struct cache_sm *cache_new_sm(const struct node *n, uint32_t group);
void cache_host(struct node *n, struct node_group *g);
void cache_fini(struct group_cache *q);
void cache_apply(struct node *n, struct node_group *g, uint64_t index, slice_t op);
void cache_lead(struct node *n, struct node_group *g);      /* ready: the home begins */
void cache_leader_lost(struct node *n, struct node_group *g);
enum forward_status cache_take(struct node *n, struct node_group *g, node_id_t from, slice_t payload); /* before it is proposed */
void cache_proposed(struct node *n, struct node_group *g, node_id_t from, slice_t payload);
void cache_unfill(struct node_group *g, slice_t key); /* at its home: whoever has the right to fill the key comes too late */
void cache_due_duty(struct node *n, struct node_group *g);
uint64_t cache_next_due_ms(const struct node_group *g);     /* log time */
void cache_home_timers(struct node *n, struct node_group *g);
void cache_housekeeping(struct node *n, struct node_group *g);
void cache_vouched(struct node *n, struct node_group *g, slice_t query);
bool cache_query_execute(struct node *n, struct node_group *g, slice_t query, struct buf *reply);
uint64_t cache_digest(const struct node_group *g);
void cache_check(const struct node *n, const struct node_group *g);

/* node_cache_counts.c */
void cache_counts(const struct node *n, struct cache_counts *out);
void cache_end_home(struct group_cache *q);                 /* if there is one */
void cache_end_sm(struct group_cache *q);

/* node_cache_home.c */
struct home_io cache_home_asks(struct group_cache *q);      /* without release and written */
bool cache_propose(struct group_cache *q, const struct buf *entry, uint64_t *index); /* false: not now */
bool cache_propose_node(struct group_cache *q, enum cache_entry_kind kind, node_id_t node);

/* node_cacher.c: this node's lines, and messages */
void cacher_open(struct node *n);
void cacher_close(struct node *n);
void cache_send(struct node *n, node_id_t to, const struct cache_msg *m);
void cache_on_peer(struct node *n, node_id_t from, slice_t bytes);
void cache_stay_awake(struct node *n);                      /* for a few milliseconds the loop does not sleep during log writes */
void cache_turn(struct node *n);                            /* batches of the turn, and what this node says to itself */
void cache_flush_links(struct node *n);                     /* this turn's messages into the frames of the peers */
void cache_timers(struct node *n);
uint64_t cache_deadline(const struct node *n);

/* Queries, after the service byte: u8 kind, ... Replies are RESP3, but for SCAN: u64 next cursor, u32 n, keys. */
enum cache_query_kind {
    CACHE_QUERY_VOUCH = 1,      /* the home's own: u64 when it was begun */
    CACHE_QUERY_SCAN,           /* u64 cursor, u32 count */
    CACHE_QUERY_STATE,          /* key: u8 1, u64 epoch, u64 version, u8 exists, u8 home_state, u32 owner, u32 n, u32 sharers */
    CACHE_QUERY_COUNT,          /* u64 keys, u64 bytes */
    CACHE_QUERY_RANDOM,         /* u64 any: u8 found, key */
};

/* doors/cache_door.c, cache_poll.c, track.c */
void doors_cache_reply(struct node *n, uint64_t cookie, slice_t resp);
void cache_crowd_turn(struct node *n);                      /* writes that wait for room (doors/cache_crowd.c) */
void doors_cache_gone(struct node *n, slice_t key);         /* this node's copy is old, or no more */
void doors_cache_lost(struct node *n, uint32_t group);      /* all of the group */
/* To clients that hear of every write (track_bcast.c): the key was written, by the command that waits with this cookie, 0: by anybody; all: any key may have been. */
void doors_cache_told(struct node *n, slice_t key, bool all, uint64_t cookie);
void doors_cache_seen(struct node *n, node_id_t from, const struct cache_msg *m); /* LOOK and SEEN */
void doors_cache_unlinked(struct node *n, node_id_t peer);  /* what it was asked it will not answer */

#endif
