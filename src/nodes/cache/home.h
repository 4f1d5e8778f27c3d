/* The home of a group's keys: directory, snoops, leases, for as long as this node leads the group in one term (docs/cache.md). Pure.
 *
 * Memory itself is cache_sm.h; the home learns what is proposed and applied, and holds replies back until no older copy can be read. */
#ifndef SYN_NODES_CACHE_HOME_H
#define SYN_NODES_CACHE_HOME_H

#include "consensus/consensus.h"
#include "nodes/cache/cache_msg.h"
#include "nodes/cache/mesi.h"

struct home_options {
    uint32_t group;
    uint64_t epoch;          /* the term */
    uint64_t lease_ms;
    uint64_t hash_key;
    bool back;               /* owners may be dirty */
    bool unholds;            /* with back: it begins without a holder only when memory has forgotten that one (home_to_forget) */
    uint64_t keys_max;       /* of the directory: beyond it the copies of the oldest are called back; 0: no bound */
};

/* A write whose reply may leave once who listens was told of it. */
struct home_written {
    node_id_t writer;        /* whose client wrote; 0: nobody's */
    bool all;                /* every key there was */
    uint32_t n;
    slice_t keys;            /* n of them (buf_put_bytes each); borrowed until the next call */
};

struct home_io {
    void *arg;
    void (*send)(void *arg, node_id_t to, const struct cache_msg *m);
    /* Memory as applied; expire_ms is the time left, 0: never. Borrowed until the next call. */
    void (*lookup)(void *arg, slice_t key, struct cache_item *item, uint64_t *version);
    bool (*flush)(void *arg, node_id_t from, const struct cache_msg *m);   /* proposes a FLUSH entry; false: not now */
    bool (*fence)(void *arg, slice_t key);                                 /* proposes a FENCE entry */
    bool (*hold)(void *arg, node_id_t node);                               /* proposes a HOLD entry */
    void (*vouch)(void *arg);          /* begin a ReadIndex round: home_vouched says when it was begun, once it is confirmed */
    void (*release)(void *arg, uint64_t ticket);                           /* nobody can read what was before: the reply may leave */
    void (*written)(void *arg, uint64_t ticket, struct home_written *w);   /* asked only when somebody listens */
    /* back; may be NULL. True: somebody has the right to fill the key, which a write in an owner's memory would not end. unfill proposes an UNFILL entry. */
    bool (*filling)(void *arg, slice_t key);
    void (*unfill)(void *arg, slice_t key);
    void (*settled)(void *arg);        /* back; may be NULL. A key that is reserved has no owner any more: who waits for it may ask again */
};

struct home;
struct home *home_new(const struct home_options *o, const struct home_io *io, uint64_t now_ms, const node_id_t *holders, uint32_t n);
void home_free(struct home *h);                       /* tickets that were not released are forgotten */
void home_clock(struct home *h, uint64_t now_ms);
bool home_is_active(const struct home *h);            /* writes and grants go on; before, only flushes are taken */
bool home_on(struct home *h, node_id_t from, const struct cache_msg *m); /* false: nothing that a cacher says; refused */
void home_vouched(struct home *h, uint64_t begun_ms);
void home_held(struct home *h, node_id_t node);       /* a HOLD entry was applied */
void home_left(struct home *h, node_id_t node);       /* no member any more: it gets no lease, and is forgotten when those that it had are over */
/* Who may be forgotten: an UNHOLD is to be proposed, now or, when that fails, when it is named again. 0: nobody. With back, also who has not reported in time: its
 * dirty lines may not come to memory any more, as what others are granted from now on could be read already. */
node_id_t home_to_forget(struct home *h);
void home_unheld(struct home *h, node_id_t node);     /* an UNHOLD entry was applied */
void home_timers(struct home *h);
uint64_t home_deadline(const struct home *h);
bool home_is_listened(const struct home *h);          /* somebody wants to hear of every write */

/* Writes through. Each key of a write: home_proposed when its entry is in the log, home_applied when memory has it, home_owned when its reply leaves. `writer`
 * is the node whose client wrote; 0: nobody's, all copies go (expiry, FLUSHALL, commands over several keys). */
void home_proposed(struct home *h, node_id_t writer, slice_t key);
/* ticket: io.release is called with it when every key of it that was told of is free of older copies; home_close ends the telling. */
void home_applied(struct home *h, slice_t key, uint64_t ticket);
void home_close(struct home *h, uint64_t ticket);
/* After the release of ticket: true: the writer owns the line from now on, as of *seq. Ends what home_proposed began. Tickets of several keys are released in
 * another order than applied: only the last write's value is memory's. */
bool home_owned(struct home *h, node_id_t writer, slice_t key, uint64_t ticket, uint64_t *seq);
void home_applied_all(struct home *h, uint64_t ticket); /* everything was deleted */
/* What home_flush or home_fence put into the log is applied. version 0: memory has something newer. */
void home_flushed(struct home *h, node_id_t from, slice_t key, uint64_t txn, uint64_t version);
void home_fenced(struct home *h, slice_t key);
/* back, commands over several keys. True when nobody owns the key; else its owner is asked to give it up. Either way nobody is granted it from now on, until
 * home_owned of nobody, home_unreserve, or a short time: so a command that is asked again finds its keys settled, however many others want them. */
bool home_settle(struct home *h, slice_t key);
void home_unreserve(struct home *h, slice_t key);

struct home_key_info { enum home_state state; node_id_t owner; node_id_t sharers[64]; uint32_t n_sharers; };
void home_info(struct home *h, slice_t key, struct home_key_info *out);
struct home_stats { uint64_t keys, bus_rd, bus_rdx, bus_upgr, writes, invs, downs, flushes, fences, leases, overdue; };
void home_stats(const struct home *h, struct home_stats *s);
bool home_quiet(const struct home *h);

#endif
