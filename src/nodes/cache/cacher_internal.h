/* Inside a cacher: its records, shared by cacher*.c. Nothing else includes this.
 *
 * A line without a transaction is in a stable state. A transaction (struct flight) pins its line. Lines of an ended lease are recognised by their `life`: it is
 * older than the group's, so ending a lease touches dirty lines alone. */
#ifndef SYN_NODES_CACHE_CACHER_INTERNAL_H
#define SYN_NODES_CACHE_CACHER_INTERNAL_H

#include "nodes/cache/cacher.h"
#include "nodes/cache/lines.h"
#include "utils/assert.h"
#include "utils/list.h"

enum {
    RETRY_MS_MIN = 20,   /* a message may be lost: sent again after this, doubling */
    RETRY_MS_MAX = 1000,
    LEASE_MARGIN = 8,    /* a lease ends 1/8 early here: the bound on clock drift is half of that on each side (MC6) */
    LEASE_RENEWALS = 3,  /* asked for so often in a lease */
};

struct waiter {          /* an op that waits at a line */
    struct list link;
    uint64_t cookie;
    uint32_t op_len;
    uint8_t access;
    bool old;            /* it was here before the snoop: data from before that may answer it */
    uint8_t op[];
};

struct flight {
    struct list by_time;     /* cacher.flights */
    struct list in_group;    /* flushes: cacher_group.flushes, ascending txn */
    struct line *line;
    uint64_t txn;            /* of GETS, GETX, UPGR, or of the flush */
    uint64_t snoop_seq;      /* of the newest snoop seen since it began, */
    uint64_t snoop_epoch;    /* in this epoch */
    uint64_t asked_ms;       /* when this txn was first sent; 0: not yet (no lease) */
    uint64_t retry_ms;
    uint32_t tries;
    uint32_t writes;         /* writes through on their way */
    bool unsure;             /* one of them may or may not have been done */
    uint64_t newest;         /* version of the newest of them that is done */
    struct list waiters;
};

/* What few lines have. Freed when neither is the case any more. */
struct line_more {
    struct line_aside aside;
    struct line *line;
    struct list dirty;       /* cacher_group.dirty while M, MF, MI, MS */
    uint64_t dirty_since_ms;
    bool is_dirty;
    bool in_flight;
    struct flight flight;
};
static inline struct line_more *line_more(const struct line *l) /* NULL: none */
{
    return l->is_aside ? CONTAINER_OF(l->aside, struct line_more, aside) : NULL;
}
static inline bool line_is_dirty(const struct line *l) { return l->is_aside && line_more(l)->is_dirty; }
static inline struct flight *line_flight(const struct line *l) /* NULL: none */
{
    return l->is_aside && line_more(l)->in_flight ? &line_more(l)->flight : NULL;
}
static inline struct line_more *dirty_of(struct list *it) { return CONTAINER_OF(it, struct line_more, dirty); }

struct cacher_group {
    uint64_t epoch;          /* newest heard of */
    uint64_t lease_end_ms;   /* lines may be used before this; 0: no lease */
    uint64_t asked_ms, ask_again_ms; /* LEASE sent; when next */
    uint64_t wanted_ms;      /* when a line was last wanted: leases nobody needs are not renewed */
    uint32_t life;
    uint64_t report_epoch;   /* a home of this epoch waits for our report; 0: none */
    uint64_t reported_epoch; /* ... and has had it */
    uint32_t flights;
    uint64_t clean[2];       /* lines in S and in E under this lease */
    bool hears;              /* this lease's home tells us of every write */
    struct list dirty, flushes;
};

struct cacher {
    struct cacher_options o;
    struct cacher_io io;
    uint64_t now_ms, wall_ms;
    uint32_t now_s;          /* for line_use */
    struct cacher_group *groups;
    struct lines lines;
    uint64_t leaving_bytes;  /* of the lines in MI */
    struct list flights;
    uint64_t next_txn;
    uint64_t listen_seq;     /* our number as a listener, growing over all lives; odd: we listen */
    const struct line *fresh; /* ownership of it has just come, with what memory has now; NULL: of none */
    uint64_t next_retry_ms;  /* no flight is due before */
    struct buf reply;
    struct cache_change change;
    struct cacher_stats stats;
};

/* cacher_lines.c */
struct line *line_find(struct cacher *c, uint32_t group, slice_t key);
struct line *line_find_at(struct cacher *c, struct cache_place at, slice_t key);
struct line *line_make(struct cacher *c, uint32_t group, slice_t key);
void line_free(struct cacher *c, struct line *l);
void line_set_state(struct cacher *c, struct line *l, uint8_t state);   /* and counts it */
uint8_t line_counted_as(const struct cacher *c, const struct line *l);  /* its state; I when it is clean and its lease is over */
void lines_lapse(struct cacher *c, uint32_t group);                     /* the group's lease is over */
void line_put(struct cacher *c, struct line *l, const struct cache_item *it); /* expire_ms by our clock */
void line_drop(struct cacher *c, struct line *l);                       /* its value */
struct cache_item line_item(const struct cacher *c, const struct line *l); /* what has expired does not exist */
void line_set_dirty(struct cacher *c, struct line *l, bool dirty);
void lines_trim(struct cacher *c, struct line *keep);                   /* evicts until the bound holds, as far as it can */
struct flight *flight_of(struct cacher *c, struct line *l);             /* made when there is none */
void flight_end(struct cacher *c, struct line *l);                      /* nobody may wait in it */

/* cacher.c: what a cell says is done */
void cacher_step(struct cacher *c, struct line *l, enum mesi_event ev, const struct cache_msg *m, struct waiter *w);
/* cacher_listen.c */
void listen_on_grant(struct cacher *c, const struct cache_msg *m);
void listen_on_note(struct cacher *c, const struct cache_msg *m);
void listen_lost(struct cacher *c, uint32_t group);
/* cacher_lease.c */
bool lease_lives(const struct cacher *c, const struct cacher_group *g);
void lease_want(struct cacher *c, uint32_t group);
void lease_on_grant(struct cacher *c, const struct cache_msg *m);
void lease_on_epoch(struct cacher *c, const struct cache_msg *m);
void lease_end(struct cacher *c, uint32_t group);
void lease_timers(struct cacher *c);
uint64_t lease_deadline(const struct cacher *c);
void lease_try_report(struct cacher *c, uint32_t group);
void flight_send(struct cacher *c, struct line *l);                     /* its request or flush, (again) */
void flight_retry_at(struct cacher *c, struct flight *f, uint64_t at_ms);

#endif
