/* Inside the lock state machine: its records, shared by the files of this room. Nothing outside src/nodes/locks includes this.
 *
 * A resource has holders and a FIFO of places; a waiter (one waiting request) has a place in the queue of each resource it
 * asked for; an owner knows what it holds and what it waits for, which is the wait-for graph; a session knows what ends with it. */
#ifndef SYN_NODES_LOCKS_LOCK_INTERNAL_H
#define SYN_NODES_LOCKS_LOCK_INTERNAL_H

#include "nodes/locks/lock_sm.h"
#include "utils/assert.h"
#include "utils/limits.h"
#include "utils/list.h"
#include "utils/map.h"
#include "utils/mutant.h"
#include "utils/timer_wheel.h"

enum due_kind { DUE_HOLDER = 1, DUE_WAITER, DUE_SESSION };

/* A deadline in log time; the leader proposes what has passed (lock_due.c). */
struct due {
    struct timer timer;
    uint8_t kind;
};

/* In the wait-for graph: an owner, or one waiting request (lock_graph.c). */
struct graph_node {
    uint64_t mark;           /* number of the last search that visited it */
    struct graph_node *from; /* who leads here on the path, and for what */
    struct graph_node *next; /* to visit after this one */
    struct resource *via;
    bool is_owner;
    bool behind;             /* `from` stands behind it, rather than waiting for what it holds */
};

/* What an owner needs only while it waits: most never do. */
struct owner_waits {
    struct owner *owner;
    struct list list;      /* waiter.in_owner, in the order of serials */
    struct owner *next_recheck;
    struct graph_node node;
    uint32_t n;
    bool recheck;          /* in sm.rechecks */
};

struct owner {
    struct map_node by_name;
    struct list holds;     /* holder.in_owner */
    struct owner_waits *waits; /* NULL: it waits for nothing */
    uint32_t n_holds;
    uint16_t name_len;
    uint8_t name[];
};

struct resource {
    struct map_node by_name;
    struct list all;       /* sm.resources_all, by serial; sm.retained while it is free */
    struct list holders;   /* holder.in_resource, in the order of granting */
    struct list places;    /* place.in_resource: converters, then the others, each in the order of arrival */
    uint64_t token;        /* newest granted or forced */
    uint64_t serial;       /* order of creation; LOCK.LIST's cursor */
    uint32_t n_holders;
    uint32_t n_places;
    uint32_t saved;        /* snapshot number it was saved in, or born after */
    uint16_t name_len;
    uint8_t mode;          /* of its holders */
    bool regrant;          /* in sm.regrants */
    struct resource *next_regrant;
    uint8_t name[];
};

struct holder {
    struct due due;
    struct list in_resource, in_owner, in_session;
    struct resource *resource;
    struct owner *owner;
    struct session *session; /* NULL: lives by its own TTL */
    uint64_t lock_id;
    uint64_t token;
    uint64_t granted_ms;
    uint32_t ttl_ms;         /* 0: none of its own */
    uint32_t maxhold_ms;     /* 0: unbounded */
    uint32_t renewals;
    uint32_t count;          /* re-entrance */
    uint8_t mode;
    struct lock_bytes *meta; /* owned; NULL: none */
};

struct lock_bytes {
    uint32_t len;
    uint8_t bytes[];
};

struct place {
    struct list in_resource;
    struct waiter *waiter;
    struct resource *resource;
    bool ahead;              /* its owner held the resource on arrival: it stands before those that did not */
};

struct waiter {
    struct due due;
    struct map_node by_request, by_idem;
    struct list all;         /* sm.waiters_all, in the order of serials, as in the three lists below */
    struct list in_owner, in_session, in_origin;
    struct graph_node node;
    struct owner *owner;
    struct session *session;
    struct holder *converts; /* the lock to upgrade; NULL: an acquire */
    struct request_id req;
    uint64_t began_ms;
    uint64_t until_ms;       /* log time; UINT64_MAX: until cancelled */
    uint32_t ttl_ms, maxhold_ms;
    uint8_t mode;
    struct lock_bytes *meta, *idem;
    uint64_t serial;         /* order in which its request was made; names it in a snapshot */
    struct map_node by_serial; /* while restoring */
    uint64_t converts_id;
    uint32_t n;
    struct place places[];
};

struct session {
    struct due due;
    struct map_node by_id;
    struct list all;         /* sm.sessions_all, or sm.sessions_ended */
    struct list holders;     /* holder.in_session */
    struct list waiters;     /* waiter.in_session */
    uint64_t id;
    uint64_t ttl_ms;
    uint64_t ended_ms;
    uint64_t created_ms;
    uint32_t renewals;
    uint32_t n_holders;
    bool ended;              /* group 0: over, perhaps not yet confirmed everywhere; elsewhere: dropped, remembered for a while */
    uint32_t n_groups, cap_groups;
    uint32_t *groups;        /* group 0: attached groups that have not confirmed the end */
    uint16_t name_len;
    uint8_t name[];
};

struct lock_snap {
    bool active;
    uint32_t number;
    struct list *cursor;     /* next resource in sm.resources_all */
    struct buf out;          /* saved, not yet taken */
    uint64_t count;
};

struct lock_restore {
    struct buf in;
    int phase;
    struct map waiters;      /* by serial, while restoring */
    uint64_t expected;
    uint64_t serial;         /* of the last waiter */
    bool head;               /* was read */
    bool bad;
    bool done;
};

struct lock_sm {
    struct lock_sm_options opt;
    struct map resources, owners, sessions, waiters, waiting_idems;
    struct dedup dedup;      /* answered requests; an origin's waiters hang on it */
    struct list resources_all, waiters_all;
    struct list retained;    /* free resources whose token is remembered, oldest first */
    uint32_t n_retained;
    uint64_t floor;          /* tokens of forgotten free resources are at most this */
    struct list sessions_all, sessions_ended;
    struct timer_wheel wheel;
    struct list due;         /* timers whose time has come, not yet applied */
    uint64_t lead_ms;        /* log time when this replica became leader */
    uint64_t index, term, time_ms;
    uint64_t digest;
    uint64_t next_serial;
    uint64_t search;         /* number of the last graph search */
    struct resource *regrants;
    struct owner *rechecks;
    struct lock_out *out;    /* during an apply */
    struct lock_snap snap;
    struct lock_restore *restore;
    struct lock_sm_stats stats;
};

static inline slice_t resource_name(const struct resource *r) { return slice_of(r->name, r->name_len); }
static inline slice_t owner_name(const struct owner *o) { return slice_of(o->name, o->name_len); }
static inline slice_t waiter_idem(const struct waiter *w) { return w->idem ? slice_of(w->idem->bytes, w->idem->len) : SLICE_NONE; }
static inline uint64_t index_token(const struct lock_sm *sm) { return sm->opt.epoch << 48 | sm->index; }
static inline const char *mode_name(uint8_t mode) { return mode == LOCK_SHARED ? "SHARED" : "EXCLUSIVE"; }

/* lock_sm.c */
struct lock_bytes *lock_bytes_new(slice_t s); /* NULL for an empty slice */
struct buf *reply_begin(struct lock_sm *sm);  /* where the reply of the current operation is written */
/* Ends it: the result of req (none for origin 0), remembered by request and by IDEM id. */
void reply_end(struct lock_sm *sm, struct request_id req, slice_t idem, enum lock_code code);
void reply_error(struct lock_sm *sm, struct request_id req, slice_t idem, const char *word, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void lock_event(struct lock_sm *sm, enum lock_event_kind kind, const struct resource *r, const struct owner *o, uint64_t lock_id,
                uint64_t token);
/* lock_table.c */
struct resource *resource_find(struct lock_sm *sm, slice_t name);
struct resource *resource_get(struct lock_sm *sm, slice_t name);    /* made when missing */
void resource_rest(struct lock_sm *sm, struct resource *r);         /* free it is: remembered, forgotten, or nothing */
struct holder *holder_of(struct resource *r, struct owner *o);
struct holder *holder_find(struct resource *r, uint64_t lock_id);   /* by lock_id or token */
struct holder *holder_new(struct lock_sm *sm, struct resource *r, struct owner *o, struct session *s, uint8_t mode);
void holder_free(struct lock_sm *sm, struct holder *h);             /* and marks the resource for regranting */
void holder_arm(struct lock_sm *sm, struct holder *h);
bool lock_compatible(struct resource *r, uint8_t mode, struct owner *o);
struct lock_grant {
    struct resource *resource;
    struct owner *owner;
    struct session *session;
    uint8_t mode;
    uint64_t ttl_ms, maxhold_ms;
    slice_t meta;
};
/* Requires lock_compatible. A new lock, or one that is held already: its count rises, or it is upgraded. */
struct holder *lock_grant(struct lock_sm *sm, const struct lock_grant *g);
void lock_upgrade(struct lock_sm *sm, struct holder *h); /* requires that it is the only one */
void lock_op_acquire(struct lock_sm *sm, const struct lock_op *op);
void lock_op_release(struct lock_sm *sm, const struct lock_op *op);
void lock_op_renew(struct lock_sm *sm, const struct lock_op *op);
void lock_op_convert(struct lock_sm *sm, const struct lock_op *op);
void lock_op_force(struct lock_sm *sm, const struct lock_op *op);
/* lock_wait.c */
struct waiter *waiter_find(struct lock_sm *sm, struct request_id req);
struct waiter *waiter_find_idem(struct lock_sm *sm, slice_t idem);
void waiter_take_over(struct lock_sm *sm, struct waiter *w, struct request_id req);
/* Takes a place in each queue (ahead of the others when it converts `converts`), or answers DEADLOCK. */
void lock_wait(struct lock_sm *sm, const struct lock_op *op, struct owner *o, struct session *s, struct resource **rs,
               struct holder *converts);
void waiters_of_holder_gone(struct lock_sm *sm, struct holder *h);  /* an upgrade that waits for a lock that is being freed */
void waiter_refuse(struct lock_sm *sm, struct waiter *w, const char *word, const char *text); /* answers and frees */
void waiter_free(struct lock_sm *sm, struct waiter *w);             /* leaves its queues; they are marked for regranting */
void regrant_mark(struct lock_sm *sm, struct resource *r);
/* o holds more than before: its other requests may now be re-entrant, or closed into a cycle. */
void recheck_mark(struct lock_sm *sm, struct owner *o);
/* True when nothing stands in w's way; for lock_sm_check. */
bool waiter_grantable(struct waiter *w);
void regrant_all(struct lock_sm *sm);
void lock_op_cancel(struct lock_sm *sm, const struct lock_op *op);
void lock_op_victim(struct lock_sm *sm, const struct lock_op *op);
void waiter_list(struct lock_sm *sm, struct waiter *w); /* into every list and map of waiters; its req, owner, session, idem are set */
/* lock_owner.c */
struct owner *owner_find(struct lock_sm *sm, slice_t name);
struct owner *owner_get(struct lock_sm *sm, slice_t name);
void owner_rest(struct lock_sm *sm, struct owner *o);               /* freed when it neither holds nor waits */
struct owner_waits *owner_waits_get(struct owner *o);               /* made when missing */
void owner_waits_rest(struct owner *o);                             /* freed when it waits for nothing and nobody looks at it */
/* lock_graph.c */
/* The cycle that w is on, as text into out; false: none. */
bool graph_cycle(struct lock_sm *sm, struct waiter *w, bool newest, struct buf *out);
bool holder_blocks(const struct holder *h, const struct waiter *w);
/* lock_session.c */
struct session *session_find(struct lock_sm *sm, uint64_t id);
struct session *session_new(struct lock_sm *sm, uint64_t id, uint64_t ttl_ms, slice_t name);
void session_arm(struct lock_sm *sm, struct session *s);
void session_free(struct lock_sm *sm, struct session *s);
void session_end(struct lock_sm *sm, struct session *s);            /* frees what it holds; the record stays as ended */
bool session_attach(struct session *s, uint32_t group);
void lock_op_session(struct lock_sm *sm, const struct lock_op *op);
void session_settle(struct lock_sm *sm, struct session *s);         /* group 0: an ended session that nobody must confirm goes */
void sessions_forget(struct lock_sm *sm);
/* lock_dedup.c */
/* True when op was answered before (the reply is given again) or still waits: nothing must be applied. */
bool lock_known(struct lock_sm *sm, const struct lock_op *op);
void lock_remember(struct lock_sm *sm, struct request_id req, slice_t idem, enum lock_code code, slice_t reply);
/* What is asked as req from now on is a request that was withdrawn: it does nothing. */
void lock_withdraw(struct lock_sm *sm, struct request_id req);
void lock_op_origin_gone(struct lock_sm *sm, const struct lock_op *op);
/* lock_due.c */
void due_set(struct lock_sm *sm, struct due *d, uint64_t at_ms);
void due_clear(struct lock_sm *sm, struct due *d);
void lock_op_due(struct lock_sm *sm, slice_t items);
/* lock_query.c */
/* The result of req: what was granted, as a map, or for ACQUIREALL (n > 1) an array of maps. */
void reply_grants(struct lock_sm *sm, struct request_id req, slice_t idem, struct holder *const *granted, uint32_t n, uint64_t waited_ms);
/* Who stands in the way of o at r, as the end of a sentence: "r held by b EXCLUSIVE token 7 (+ 0 more), 2 waiting". */
void describe_blocked(const struct resource *r, const struct owner *o, struct buf *out);
/* lock_snapshot.c */
void snap_touch(struct lock_sm *sm, struct resource *r);            /* before r changes for the first time after a cut */
void snap_leave(struct lock_sm *sm, struct resource *r);            /* before r leaves resources_all */

#endif
