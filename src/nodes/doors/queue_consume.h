/* Inside a consume: what the rooms of queue_consume*.c share (docs/queue.md, "Claims"). */
#ifndef SYN_NODES_DOORS_QUEUE_CONSUME_H
#define SYN_NODES_DOORS_QUEUE_CONSUME_H

#include "nodes/doors/queue_door.h"

enum consume_state {
    CONSUME_JOINING, /* its member has no assignment yet, or a new one is on its way */
    CONSUME_TRYING,  /* one group is asked, at once */
    CONSUME_WAITING, /* parked at every group of its partitions, or nothing is assigned */
    CONSUME_RETRY,   /* a group did not know the topic yet */
    CONSUME_ENDED,   /* answered, or its client is gone: claims are being withdrawn */
};

struct claim_sent { uint64_t seq; uint32_t group; };

struct consume {
    struct list all, of_member, of_conn;
    struct timer timer;
    enum consume_state state;
    conn_id_t conn;
    uint64_t slot;
    struct member *member;    /* NULL once it has left */
    struct topic_ref *topic;
    uint64_t topic_id;
    struct buf group, consumer; /* names: its member may have left when deliveries come */
    struct consume_options o;
    uint64_t began_ms, until_ms;
    uint32_t tried;
    bool restart;             /* its member's assignment changed while it waited */
    bool over;                /* its time is up */
    bool withdrawn;           /* X3: its claims were asked to come back */
    uint32_t busy;            /* inside its own code: answers that come at once must not free it */
    struct claim_sent *sent;  /* owned */
    uint32_t n_sent, cap_sent;
};

/* queue_consume.c. Code of these rooms counts itself in x->busy while it runs and ends with consume_leave, which may free x. */
void consume_leave(struct node *n, struct consume *x);
void consume_free(struct consume *x);                                  /* X3 */
void consume_reply(struct node *n, struct consume *x, slice_t reply);  /* X1 */
void consume_reply_nothing(struct node *n, struct consume *x);

/* queue_consume_claims.c */
void consume_start(struct node *n, struct consume *x);    /* asks the groups of its member's partitions, from the first */
/* Asks for its claims back. Answers may come at once: x may be freed behind the last of them unless it is busy. */
void consume_withdraw(struct node *n, struct consume *x);

#endif
