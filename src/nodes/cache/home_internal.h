/* Inside a home: its records, shared by home*.c. Nothing else includes this. */
#ifndef SYN_NODES_CACHE_HOME_INTERNAL_H
#define SYN_NODES_CACHE_HOME_INTERNAL_H

#include "nodes/cache/home.h"
#include "utils/assert.h"
#include "utils/list.h"
#include "utils/map.h"

enum { HOME_HOLDERS_MAX = 64, HOME_RETRY_MS_MIN = 20, HOME_RETRY_MS_MAX = 500, HOME_RESERVE_MS = 200, NO_SLOT = 255 };

struct holder {
    node_id_t node;
    bool reported;           /* nothing of an older epoch is left there */
    bool held;               /* its HOLD entry is in memory */
    bool hold_asked;
    bool leaves;             /* an UNHOLD is, or will be, on its way: no lease before it is applied, which the next home would not know of */
    bool waits;              /* for a vouched lease, asked for at its clock ... */
    uint64_t asked_txn;
    uint64_t until_ms;       /* its lease ends, by our clock; 0: none was granted in this epoch */
    uint64_t tell_ms;        /* EPOCH is sent again */
    uint64_t listen_seq;     /* greatest of its numbers; odd: it listens */
    uint64_t refused_txn;    /* flushes up to this one came too late for this home */
    uint64_t forget_ms;      /* UNHOLD may be proposed again */
};

struct asking { struct list link; uint64_t txn; uint8_t slot; uint8_t kind; };

/* A key that a command over several keys waits for: nobody becomes its owner until the command is done, or until its time is over. */
struct reservation { struct list link; struct home_key *key; uint64_t until_ms; };

struct ticket_ref { struct list in_key; struct ticket *ticket; };
struct ticket { struct map_node by_no; uint64_t no; uint32_t keys; bool closed; };

struct home_key {
    struct map_node by_key;
    struct list order;       /* home.order */
    struct list snooping;    /* home.snooping while waiting != 0; else unlinked (next NULL) */
    struct list asking;      /* requests that wait, in order */
    struct list tickets;     /* struct ticket_ref */
    struct reservation *reserved; /* NULL: not */
    uint64_t sharers, waiting;
    uint64_t snoop_seq, resend_ms;
    uint64_t flush_txn;      /* the one that was put into the log last, 0: it is in memory */
    uint64_t awaited_txn;    /* OF, XF: the flush that the key waits for */
    uint64_t newest;         /* ticket of the last write that memory has */
    uint32_t writes, tries, key_len;
    uint32_t flushes;        /* in the log: late copies of older ones may be among them */
    uint32_t pins;           /* who looks at it now: it is not freed under their hands */
    uint8_t state, owner, flush_slot, awaited_slot, snoop_kind;
    uint8_t key[];
};

struct home {
    struct home_options o;
    struct home_io io;
    uint64_t now_ms, began_ms;
    bool active;
    struct holder holders[HOME_HOLDERS_MAX];
    uint32_t n_holders;
    uint64_t vouched_ms;     /* when the newest confirmed round was begun; 0: none */
    bool vouching;
    uint64_t vouch_ms;       /* when it was asked for */
    uint64_t seq;
    struct map keys, tickets, notices_by_seq;
    struct list notices;     /* struct notice, in the order of their writes */
    uint64_t notices_ms;     /* when they are looked at */
    uint32_t n_listeners;    /* holders that listen, whether their leases live or not */
    struct list snooping;
    struct list reserved;    /* struct reservation, in the order of their ends */
    struct list order;       /* all keys, from who is next to lose its copies to the newest */
    struct home_stats stats;
};

/* home.c */
void home_acked(struct home *h, struct home_key *k, uint8_t slot, const struct cache_msg *dirty, bool over);
void home_fence_key(struct home *h, struct home_key *k); /* in L: proposes its fence, now or later */
struct home_key *home_key_find(struct home *h, slice_t key);
struct home_key *home_key_make(struct home *h, slice_t key);
bool home_key_settled(const struct home_key *k);                    /* nobody owns it, nor is about to */
void home_key_take_back(struct home *h, struct home_key *k);        /* its owner, if it has one, is asked to give it up */
void home_key_go_on(struct home *h, struct home_key *k);            /* serves who waits, if nothing is in the way; the key may be gone afterwards */
/* home_reserve.c */
void reservation_end(struct home_key *k);
void reservations_timers(struct home *h);
uint64_t reservations_deadline(const struct home *h);
/* home_tickets.c */
void tickets_init(struct home *h);
void tickets_free(struct home *h);
void tickets_release(struct home *h, struct home_key *k);               /* nothing older of this key can be read */
void ticket_waits(struct home *h, struct home_key *k, uint64_t ticket); /* ... something can */
void holder_listens(struct home *h, struct holder *o, uint64_t seq);
void notice_answered(struct home *h, uint8_t slot, uint64_t seq);
void notices_timers(struct home *h);
uint64_t notices_deadline(const struct home *h);
/* home_lease.c */
uint8_t home_holder(const struct home *h, node_id_t node);
bool home_holder_lives(const struct home *h, uint8_t slot);
void holder_on_lease(struct home *h, node_id_t from, const struct cache_msg *m);
void holder_on_report(struct home *h, node_id_t from);
void holders_timers(struct home *h);
uint64_t holders_deadline(const struct home *h);

#endif
