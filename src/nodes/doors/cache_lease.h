/* Inside CACHE.LEASE: who waits at this node for a right to fill, and how they are answered (docs/cache.md, "Filling a miss"). */
#ifndef SYN_NODES_DOORS_CACHE_LEASE_H
#define SYN_NODES_DOORS_CACHE_LEASE_H

#include "nodes/doors/cache_door.h"

enum lease_state { LEASE_DUE, LEASE_READING, LEASE_ABSENT, LEASE_ASKING, LEASE_PARKED };

struct lease_caller {
    struct list link;
    conn_id_t conn;
    uint64_t slot;
    uint64_t until_ms;            /* 0: does not wait */
    uint64_t stale_ms, fill_ms;
    bool fresh;                   /* came after the round began (L2) */
    bool tracks;                  /* a hit is a read: CLIENT TRACKING tells when it is old */
};

struct lease_wait {
    struct map_node by_key;
    struct list all;              /* cache_doors.leases */
    struct list callers;          /* oldest first */
    enum lease_state state;
    bool gone;                    /* the line went since the round began */
    uint32_t group, key_len;
    uint64_t held_ms, look_ms;    /* PARKED: until when somebody has the right; when the line is looked at */
    uint8_t key[];
};
static inline slice_t lease_key(const struct lease_wait *w) { return slice_of(w->key, w->key_len); }

/* What memory said of a right that somebody has. */
struct lease_held { uint64_t left_ms, age_ms, version; bool has_stale; slice_t value; };

struct lease_words { uint64_t wait_ms, stale_ms, fill_ms, token; bool abandon; };

/* cache_lease.c */
void lease_join(struct call *c, const struct lease_words *o); /* the caller stands with those who ask for argv[1] */
void lease_caller_free(struct lease_caller *l);

/* cache_lease_reply.c; who is answered is freed */
void lease_put_hit(struct node *n, struct buf *b, uint32_t group, slice_t key, slice_t value_resp);
void lease_answer_round(struct node *n, struct lease_wait *w, slice_t reply); /* all who are not fresh */
void lease_answer_hit(struct node *n, struct lease_wait *w, slice_t reply);   /* the same, for whom it is a read */
void lease_answer_wait(struct node *n, struct lease_caller *l, uint64_t left_ms);
void lease_answer_fill(struct node *n, struct lease_caller *l, uint64_t token, uint64_t fill_ms);
void lease_answer_stale(struct node *n, struct lease_caller *l, const struct lease_held *h);

/* cmd_cache_lease.c: what an ATOMIC entry says of one right, behind its head */
void lease_put_fill(struct buf *out, enum cache_multi multi, uint64_t wall_ms, slice_t key, uint64_t token, slice_t op);

#endif
