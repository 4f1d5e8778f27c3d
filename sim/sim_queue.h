/* The queue's part of the simulator: what clients ask of it, and what is known of it from the canonical log (docs/simulator.md, "Queues").
 *
 * Rooms: queue_work.c (what clients do), queue_client.c (requests and replies as bytes), check_queue.c (the canonical log against a model
 * of positions), check_queue_part.c (the model's own bookkeeping), check_queue_seen.c (what clients were told, and the end). */
#ifndef SYN_SIM_SIM_QUEUE_H
#define SYN_SIM_SIM_QUEUE_H

#include "sim_internal.h"

#include "nodes/queue/topics.h"

enum {
    QSIM_TOPICS = 4,       /* the last one is made and deleted again and again, and not checked */
    QSIM_SCRATCH = 3,
    QSIM_PARTITIONS = 6,
    QSIM_GROUPS = 3,
    QSIM_KEYS = 5,
    QSIM_RECEIPTS = SIM_HELD_MAX,
    QSIM_NONE = UINT32_MAX,
};

enum ask_kind {
    ASK_CREATE = 1, ASK_DELETE, ASK_PUBLISH, ASK_CONSUME, ASK_ACK, ASK_NACK, ASK_EXTEND, ASK_JOIN, ASK_LEAVE, ASK_REDRIVE, ASK_PEEK, ASK_DLQ,
    ASK_INFO, ASK_LAG, ASK_SEEK,
};

/* What a request of the queue says, beside its sim_op. */
struct queue_ask {
    uint8_t kind, topic, group;
    uint8_t mode;              /* NACK: enum nack_mode */
    bool has_id, acked;        /* PUBLISH ID; */
    uint32_t consumer;         /* number of its name */
    uint32_t partition, key;   /* key QSIM_NONE: none */
    uint64_t offset, ms;       /* PEEK; DELAY, BLOCK, EXTEND (UINT64_MAX: not given) */
    uint32_t count, size;      /* COUNT; bytes of a payload */
    uint32_t n_receipts;
    struct receipt receipts[QSIM_RECEIPTS];
    /* PUBLISH, as the canonical log has it. */
    bool published;
    uint32_t at_partition;
    uint64_t at_offset;
};

/* A published message. */
struct model_message {
    uint64_t op;               /* of its publish */
    uint64_t hash;             /* of its body */
    uint64_t due_ms;           /* 0: at once */
    uint32_t key;              /* hash; 0: none */
    uint32_t seen;             /* times the log had it */
};

enum model_state { MODEL_NEW = 0, MODEL_OUT, MODEL_FREE, MODEL_DEAD, MODEL_DONE, MODEL_NOT_MINE };

/* A message for one consumer group. */
struct model_pend {
    uint8_t state;
    bool redriven, seen;       /* by a client */
    bool died;
    uint32_t deliveries;
    uint64_t delivery, generation, consumer, deadline_ms, not_before_ms;
};

/* Delivery number of a partition. */
struct model_delivery {
    uint64_t offset, generation, consumer;
    uint32_t group, deliveries;
    uint32_t settles;          /* requests of clients to acknowledge or refuse it */
    bool acked;
};

struct model_position {
    bool exists;
    uint64_t generation, owner;
    uint64_t first;            /* every message below it that is not delayed was delivered once */
    struct model_pend *pends;  /* owned; by offset */
    uint64_t cap;
    uint64_t out, dead;
};

struct model_partition {
    uint32_t group;            /* of the cluster */
    struct model_message *messages; /* owned */
    uint64_t count, cap;
    struct model_delivery *deliveries; /* owned; [i - 1] is number i */
    uint64_t n_deliveries, cap_deliveries;
    struct model_position positions[QSIM_GROUPS];
};

struct model_topic {
    char name[16];
    uint64_t id;               /* 0: no entry has opened it */
    struct topic_config config;/* as asked for; visibility and so on are what OPEN said */
    bool made;                 /* some client was told so */
    bool checked, retains;
    struct model_partition parts[QSIM_PARTITIONS];
};

struct sim_queue {
    bool on, locks;            /* which workloads this seed has */
    bool polite;               /* Q13: no faults at all, and nobody misbehaves */
    bool drained;
    uint64_t messages, messages_max;  /* published by clients */
    struct prng prng;
    struct model_topic topics[QSIM_TOPICS];
    uint32_t n_topics, n_groups;
    struct queue_ask *asks;
    uint64_t n_asks, cap_asks;
    uint64_t due_ms[SIM_GROUPS_MAX];  /* the earliest deadline, by group of the cluster */
    struct hash_slot *answered;       /* (group, request) -> hash of its answer */
    uint64_t answered_cap, answered_count;
    struct hash_slot *owners;         /* (topic, group, partition, generation) -> consumer */
    uint64_t owners_cap, owners_count;
    uint64_t entries;
};

/* queue_work.c */
void queue_sim_open(struct sim *s);
void queue_sim_close(struct sim *s);
void queue_next(struct sim *s, struct sim_client *c);
void queue_hold(struct sim *s, struct sim_client *c);
void queue_client_answered(struct sim *s, struct sim_client *c, uint64_t op);
struct queue_ask *queue_ask_of(struct sim *s, const struct sim_op *o);
bool queue_may_retry(struct sim *s, const struct sim_op *o);
bool queue_client(struct sim *s, uint32_t index);
void queue_options(struct sim *s, struct node_options *o);

/* queue_client.c */
void queue_ask_write(struct sim *s, uint64_t op, struct buf *out);
void queue_on_ok(struct sim *s, struct sim_client *c, uint64_t op, slice_t reply);
void queue_on_error(struct sim *s, struct sim_op *o, slice_t text);
uint64_t queue_consumer_hash(uint32_t number);
void queue_payload(struct buf *out, uint64_t op, uint32_t size);

/* check_queue_part.c */
struct model_topic *model_topic_of(struct sim *s, uint64_t id, uint32_t *number);
struct model_pend *model_pend(struct model_position *pos, uint64_t offset);
void model_position_open(struct sim *s, struct model_topic *t, struct model_partition *p, uint32_t group);
void model_due(struct sim *s, uint32_t group, uint64_t now_ms); /* what is due by then */
void model_set_out(struct model_position *pos, struct model_pend *x, bool out);
void model_fail(struct model_topic *t, struct model_position *pos, struct model_pend *x, uint64_t now_ms, uint64_t delay_ms);
void model_die(struct model_position *pos, struct model_pend *x);
void model_compare(struct sim *s, const struct sim_node *n, uint32_t group); /* counts, against the machine's */
uint64_t model_left(struct sim *s, char *why, size_t size); /* messages that are neither done nor dead, and where the first are */
uint64_t *model_slot(struct hash_slot **slots, uint64_t *cap, uint64_t *count, uint64_t key); /* 0 when it is new */

/* check_queue.c */
void queue_check_applied(void *arg, uint32_t group, uint64_t index, uint64_t time_ms, slice_t op, const struct queue_out *out, uint32_t first);
void topics_check_applied(void *arg, uint64_t index, slice_t op, const struct topics_out *out, uint32_t first);

/* check_queue_seen.c */
void queue_check_published(struct sim *s, uint64_t op, uint32_t partition, uint64_t offset);
void queue_check_message(struct sim *s, struct sim_client *c, uint64_t op, slice_t map); /* one of CONSUME */
void queue_check_settled(struct sim *s, const struct sim_op *o, int64_t count, bool stale);
void queue_check_peeked(struct sim *s, const struct sim_op *o, slice_t map);
void queue_check_dead(struct sim *s, const struct sim_op *o, slice_t map);
void queue_check_refused(struct sim *s, const struct sim_op *o);
void queue_check_end(struct sim *s);

#endif
