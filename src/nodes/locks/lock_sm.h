/* The lock service's part of a group's state machine: resources, owners, sessions, the wait-for graph (docs/locks.md).
 *
 * Deterministic (K12): what it does depends on its state and on the applied operations only. Time is the leader's log time
 * carried by each entry (milliseconds, never falling); nothing here reads a clock. Every replica applies; only the leader
 * asks what is due (lock_sm_due) and proposes it as an entry.
 *
 * Replies are produced as RESP3 bytes (communication/resp.h); doors copy, down-convert to RESP2, or turn them into JSON. */
#ifndef SYN_NODES_LOCKS_LOCK_SM_H
#define SYN_NODES_LOCKS_LOCK_SM_H

#include "nodes/dedup.h"
#include "utils/buf.h"
#include "utils/slice.h"

enum lock_mode { LOCK_SHARED = 1, LOCK_EXCLUSIVE = 2 };

enum lock_op_kind {
    LOCK_OP_ACQUIRE = 1,      /* n resources: 1, or more for ACQUIREALL (all or nothing, all with one mode) */
    LOCK_OP_RELEASE,          /* resource, lock_id (a lock_id or a token, both accepted) */
    LOCK_OP_RENEW,            /* resource, lock_id, ttl_ms */
    LOCK_OP_CONVERT,          /* resource, lock_id, mode, wait_ms */
    LOCK_OP_FORCE,            /* resource, reason: frees all holders, audited */
    LOCK_OP_CANCEL,           /* the request `target` leaves its queues, or is withdrawn if it was not applied yet (its connection closed) */
    LOCK_OP_ORIGIN_GONE,      /* target.origin is dead, restarted or cut off: all its waiters leave, without an answer */
    LOCK_OP_SESSION_CREATE,   /* ttl_ms, name (in `owner`); group 0. Reply: the id */
    LOCK_OP_SESSION_KEEPALIVE,/* session; group 0 */
    LOCK_OP_SESSION_END,      /* session; group 0: frees everything of it in this group, in this one entry */
    LOCK_OP_SESSION_ATTACH,   /* session, group: group 0 records that `group` may hold something of the session */
    LOCK_OP_SESSION_ADOPT,    /* session: another group learns of an attached session */
    LOCK_OP_SESSION_DROP,     /* session: another group frees everything of an ended session; idempotent */
    LOCK_OP_SESSION_DETACHED, /* session, group: group 0 records that `group` has confirmed the end */
    LOCK_OP_DUE,              /* leader: items = lock TTLs, MAXHOLDs, waits and sessions whose time came (lock_sm_due) */
    LOCK_OP_VICTIM,           /* leader: refuse the waiting request `target` as deadlocked across groups; reason = the cycle */
    LOCK_OP_MAX
};

#define LOCK_WAIT_FOREVER UINT64_MAX

struct lock_op {
    enum lock_op_kind kind;
    struct request_id req;
    uint64_t low;             /* origin's lowest sequence number without an answer: older dedup records may go */
    slice_t idem;             /* IDEM id given by the client, or empty */
    uint32_t n;
    const slice_t *resources; /* n of them (decode: points into the caller's scratch array) */
    enum lock_mode mode;
    slice_t owner;            /* never empty for ACQUIRE: the door chooses one when the client names none */
    uint64_t session;         /* 0: none, the lock lives by its own TTL */
    uint64_t ttl_ms;          /* 0: lock_sm_options.default_ttl_ms */
    uint64_t maxhold_ms;      /* 0: unbounded */
    uint64_t wait_ms;         /* 0: try; LOCK_WAIT_FOREVER: until cancelled */
    slice_t meta;
    uint64_t lock_id;
    slice_t reason;
    struct request_id target;
    uint32_t group;
    slice_t items;            /* LOCK_OP_DUE: encoded by lock_sm_due */
};

void lock_op_encode(struct buf *out, const struct lock_op *op);
/* resources: scratch for at most `max` names. False: malformed (counted and refused; never applied). */
bool lock_op_decode(slice_t bytes, struct lock_op *op, slice_t *resources, uint32_t max);

/* Result codes beside the error words in the reply; NEED_ATTACH never reaches a client. */
enum lock_code { LOCK_DONE, LOCK_ERROR, LOCK_NEED_ATTACH };

struct lock_result {
    struct request_id req;
    enum lock_code code;
    size_t reply_off, reply_len; /* RESP3 bytes in lock_out.replies */
};

enum lock_event_kind { LOCK_EV_GRANTED, LOCK_EV_RELEASED, LOCK_EV_EXPIRED, LOCK_EV_FORCED, LOCK_EV_CONTENDED, LOCK_EV_CONVERTED };

struct lock_event { /* for LOCK.WATCH and holders' pushes; names are offsets into lock_out.names: a reply may be half written */
    enum lock_event_kind kind;
    uint64_t lock_id, token;
    size_t resource_off, resource_len;
    size_t owner_off, owner_len;
};

/* What one or more applies produced; the caller clears it between batches. Owned arrays that keep their memory. */
struct lock_out {
    struct buf replies;
    struct buf names; /* of events */
    struct lock_result *results;
    uint32_t n_results, cap_results;
    struct lock_event *events;
    uint32_t n_events, cap_events;
    bool want_events; /* false: events are not collected */
};
void lock_out_init(struct lock_out *o);
void lock_out_clear(struct lock_out *o);
void lock_out_fini(struct lock_out *o);
static inline slice_t lock_out_reply(const struct lock_out *o, const struct lock_result *r)
{
    return slice_of(o->replies.ptr + r->reply_off, r->reply_len);
}

struct lock_sm_options {
    uint32_t group;             /* 0 is the meta group: sessions live there */
    uint64_t hash_key;          /* for tables keyed by client bytes; may differ between replicas */
    uint64_t epoch;             /* cluster epoch: token = epoch << 48 | log index */
    uint64_t default_ttl_ms;    /* LOCK_TTL */
    uint64_t dedup_ms;          /* IDEM window by log time, default 120000 */
    uint32_t dedup_count;       /* and by count, default 100000 */
    uint32_t retained_count;    /* free resources whose newest token is remembered for CHECK, default 100000 */
};

struct lock_sm;
struct lock_sm *lock_sm_new(const struct lock_sm_options *o);
void lock_sm_free(struct lock_sm *sm);

/* Applies one committed operation. Malformed bytes are a no-op that counts (an older or newer version wrote them). */
void lock_sm_apply(struct lock_sm *sm, uint64_t index, uint64_t term, uint64_t time_ms, slice_t op, struct lock_out *out);

/* Leader duties. On becoming leader: every TTL and session counts in full from now (K5, "a new leader never shortens a TTL"). */
void lock_sm_lead(struct lock_sm *sm, uint64_t now_log_ms);
/* Encodes one LOCK_OP_DUE with at most max items whose time has come; false when nothing is due. Items name what they saw
 * (lock_id, renewal count), so that one that was renewed meanwhile is left alone at apply. Proposing the same item again
 * before it is applied is prevented by the caller through a fresh call only after the former one was applied or lost. */
bool lock_sm_due(struct lock_sm *sm, uint64_t now_log_ms, uint32_t max, struct buf *out);
uint64_t lock_sm_next_due_ms(const struct lock_sm *sm); /* log time; UINT64_MAX: never */

/* Ended sessions that other groups must still confirm (group 0): calls fn for up to max of them, oldest first. */
void lock_sm_unconfirmed(const struct lock_sm *sm, uint32_t max, void (*fn)(void *arg, uint64_t session, uint32_t group), void *arg);

/* Queries: encoded by the door, answered by the leader after a confirmed read, as RESP3. */
enum lock_query_kind {
    LOCK_Q_INFO = 1,   /* resource: map (state, mode, token, holders[], waiters[], queue_length) */
    LOCK_Q_CHECK,      /* resource, token: :1 while it is held under that token or nothing newer was granted, or [0, newest] */
    LOCK_Q_LIST,       /* match (glob without backtracking), cursor, count: [next_cursor, [map...]] in the order of creation; 0: the end */
    LOCK_Q_WAITGRAPH,  /* array of edges {waiter, resource, holder, mode, waited_ms} */
    LOCK_Q_DOT,        /* the same as Graphviz text */
    LOCK_Q_SESSIONS,   /* array of maps (id, name, ttl_ms, locks, ...) */
    LOCK_Q_STATS,      /* map of counters: locks by mode, waiters, sessions, resources, grants, timeouts, deadlocks, expirations */
    LOCK_Q_MAX
};
struct lock_query { enum lock_query_kind kind; slice_t resource; uint64_t token; slice_t match; uint64_t cursor; uint32_t count; };
void lock_query_encode(struct buf *out, const struct lock_query *q);
bool lock_query_decode(slice_t bytes, struct lock_query *q);
/* True: the resource is known here, its newest token is above this one, and this one holds nothing any more. */
bool lock_sm_fenced(const struct lock_sm *sm, slice_t resource, uint64_t token, uint64_t *newest);
void lock_sm_query(const struct lock_sm *sm, uint64_t now_log_ms, const struct lock_query *q, struct buf *reply);

/* Cross-group deadlock probes (Chandy, Misra and Haas 1983, AND model): the waits of an owner in this group, for edge chasing. */
struct lock_wait_edge { slice_t waiter_owner; struct request_id waiter_req; slice_t resource; slice_t holder_owner; uint64_t since_ms; };
/* Calls fn for each edge owner -> holder of this group in which `owner` waits; slices are borrowed for the call. */
void lock_sm_waits_of(const struct lock_sm *sm, slice_t owner, void (*fn)(void *arg, const struct lock_wait_edge *e), void *arg);
/* Calls fn for every edge of waits that began at or before since_ms and whose waiter also might hold locks elsewhere. */
void lock_sm_old_waits(const struct lock_sm *sm, uint64_t since_ms, uint32_t max, void (*fn)(void *arg, const struct lock_wait_edge *e), void *arg);

/* Counters and gauges for metrics; plain numbers, O(1). */
struct lock_sm_stats {
    uint64_t held_shared, held_exclusive, resources, waiters, sessions, owners;
    uint64_t grants, releases, timeouts, deadlocks, expirations, forced, stale, refused_malformed;
    uint64_t bytes; /* estimate of the memory held */
};
void lock_sm_stats(const struct lock_sm *sm, struct lock_sm_stats *out);

/* Snapshots that never stop the loop: begin marks a consistent cut, step emits up to about max bytes of it (records changed
 * meanwhile are saved as of the cut first), true when the cut is complete. Applies may come between steps. abort forgets. */
void lock_sm_snapshot_begin(struct lock_sm *sm);
bool lock_sm_snapshot_step(struct lock_sm *sm, size_t max_bytes, struct buf *out);
void lock_sm_snapshot_abort(struct lock_sm *sm);
/* Restores from pieces (cut anywhere) into a new, empty state machine. False: malformed. end checks completeness. */
bool lock_sm_restore_piece(struct lock_sm *sm, slice_t piece);
bool lock_sm_restore_end(struct lock_sm *sm);

/* Equal on replicas with equal applied histories, snapshot or not (R5, W10): a running digest over applied operations and
 * their results, O(1); and an O(n) hash of the whole state, independent of order, for tests. */
uint64_t lock_sm_digest(const struct lock_sm *sm);
uint64_t lock_sm_state_hash(const struct lock_sm *sm);
/* K1, K6, K7 and structure; asserts. lock_sm_check_resource is the O(1) part, run after applies in the simulator. */
void lock_sm_check(const struct lock_sm *sm);

#endif
