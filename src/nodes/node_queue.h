/* What a node keeps for the queue part of one group, beside the state machine itself. Shared by node_queue*.c; node_internal.h embeds it. */
#ifndef SYN_NODES_NODE_QUEUE_H
#define SYN_NODES_NODE_QUEUE_H

#include "nodes/node.h"
#include "nodes/queue/queue_log.h"
#include "nodes/queue/topics.h"
#include "utils/list.h"
#include "utils/map.h"

struct node;
struct node_group;
struct event;

struct group_queue {
    struct node *n;             /* for the callbacks of log */
    uint32_t group;
    struct queue_sm *sm;
    struct queue_log *log;
    uint32_t logs_made;         /* numbers of backlog files differ between them */
    struct topics *topics;      /* group 0; elsewhere NULL */
    uint64_t due_index;         /* our TICK in flight; 0: none */
    uint64_t topics_due_index;
    uint64_t due_retry_ms;
    uint64_t carry_retry_ms;    /* OPEN and DROP to the other groups */
    uint64_t tidy_ms;
    bool damaged;               /* a chunk could not be read, or is not what was written (node_fills.c) */
    uint64_t damaged_retry_ms;
    struct list parked;         /* leader: claims that found nothing, or are in the log (node_claims.c) */
    struct map parked_by_req, parked_at;
    uint32_t n_parked;
    struct list fills;          /* answers that wait for messages to be read, or to come (node_fills.c) */
    uint32_t n_waiting_fills;
    uint64_t fills_at_ms;       /* when the first of those that wait has waited enough */
    struct buf side;            /* of the snapshot being made: what comes before the state machines' own pieces */
    size_t side_at;
    struct buf files;           /* and the backlog files it needs */
    bool attached;
};

/* How a claim travels: u8 SERVICE_CLAIM, u8 1 when it may wait, then the operation. */
enum { CLAIM_OP_AT = 2 };

/* Queries of the queue, after the service byte (node_queries.c). Replies: u8 queue_code or topic_code, then
 *   TOPIC      topic row                      LIST       u32 n, then rows
 *   GROUPS     u32 n, then (name, u64 generation, u32 members, u64 rebalances)
 *   MEMBERS    u32 n, then (consumer, u64 node, u64 ttl_ms, u64 since heard, u32 n, u32 partitions)
 *   INFO       u32 n partitions, each: u32 number, the fields of partition_info in order as u64, u32 n groups, then group rows
 *   RANGE      u32 n messages (fill_put_message)
 *   DEAD       u32 n, each: u32 partition, u32 deliveries, u64 died wall ms, reason, then a message
 *   SEEK       u64 offset
 *   PENDING    u32 n rows    CONSUMERS  u32 n rows    RESOLVE  u32 n, u64 offsets (UINT64_MAX: no such id)
 *   FETCH      u32 n messages, one for each offset asked for; flags 255: it is gone */
enum queue_query_kind {
    QQ_TOPIC = 1, QQ_LIST, QQ_GROUPS, QQ_MEMBERS, QQ_INFO, QQ_RANGE, QQ_DEAD, QQ_SEEK, QQ_PENDING, QQ_CONSUMERS, QQ_RESOLVE, QQ_FETCH, QQ_MAX
};
struct queue_query {
    enum queue_query_kind kind;
    slice_t name;               /* TOPIC: of the topic. MEMBERS, DEAD, PENDING, CONSUMERS: of the consumer group; INFO: that group only */
    uint64_t topic;
    uint32_t partition;
    bool by_id, reverse;        /* RANGE: first and last are stream ids */
    struct stream_id first, last; /* offsets in .ms unless by_id; both included. SEEK: first. PENDING: offsets */
    uint32_t count;
    uint32_t wait_ms;           /* RANGE: nothing there yet: answered when there is, or after so long */
    slice_t ids;                /* RESOLVE: u64 ms, u64 seq each. FETCH: u64 offset each. PENDING: this consumer's alone */
};
void queue_query_encode(struct buf *out, const struct queue_query *q);
bool queue_query_decode(slice_t bytes, struct queue_query *q);

/* node_queue.c: the group's replica */
void queue_host(struct node *n, struct node_group *g);      /* fresh machines, if it has none */
void queue_fini(struct group_queue *q);
void queue_prepare_install(struct node *n, struct node_group *g, struct group_queue *q); /* empty machines to restore into */
void queue_install(struct node *n, struct node_group *g, struct group_queue *take_q);     /* they take the place of the old ones */
struct queue_sm *queue_new_sm(const struct node *n, uint32_t group);
struct topics *queue_new_topics(const struct node *n);
void queue_carry_duty(struct node *n, struct node_group *g);
void queue_apply(struct node *n, struct node_group *g, uint64_t index, uint64_t term, slice_t op);
void queue_topics_apply(struct node *n, struct node_group *g, uint64_t index, uint64_t term, slice_t op);
void queue_deliver(struct node *n, struct node_group *g);   /* results and wake-ups of what was applied since */
void queue_due_duty(struct node *n, struct node_group *g);
uint64_t queue_next_due_ms(const struct node_group *g);     /* log time */
void queue_housekeeping(struct node *n, struct node_group *g);
void queue_leader_lost(struct node *n, struct node_group *g);
uint64_t queue_digest(const struct node_group *g);
void queue_check(const struct node *n, const struct node_group *g); /* every invariant of its machines, now and then; asserts */

/* node_claims.c: consumers that wait at the leader */
/* A claim came in, from another node or (from = 0) from here. */
enum forward_status queue_claim_take(struct node *n, struct node_group *g, node_id_t from, uint64_t seq, slice_t payload);
void queue_claim_cancel(struct node *n, struct node_group *g, node_id_t from, uint64_t seq);
/* A claim of req was applied. True: it is parked again or was somebody's who is gone, there is nothing to answer. */
bool queue_claim_applied(struct node *n, struct node_group *g, const struct queue_result *r);
void queue_claims_wake(struct node *n, struct node_group *g, uint64_t topic, uint32_t partition);
void queue_claims_behind(struct node *n, struct node_group *g, slice_t op); /* op was proposed; if it is a PUBLISH, claims follow it */
void claims_free(struct group_queue *q);
void queue_claims_drop(struct node *n, struct node_group *g, node_id_t from); /* from 0: all */

/* node_fills.c: answers with messages in them */
void fill_put_message(struct buf *out, uint64_t offset, const struct queue_message *m); /* u64 offset, id, u8 flags, body */
bool fill_get_message(struct reader *r, struct queue_message *m);
/* The result of a claim or take: its deliveries with their messages, sent when they are read. */
void fill_deliveries(struct node *n, struct node_group *g, const struct queue_result *r, slice_t reply);
/* A query that reads messages. from as in pending_read. */
void fill_query(struct node *n, struct node_group *g, uint64_t req, node_id_t from, const struct queue_query *q);
void fills_go_on(struct node *n, struct node_group *g);
uint64_t fills_deadline(const struct group_queue *q);
void fills_free(struct group_queue *q);
void fills_drop(struct node *n, struct node_group *g, node_id_t from, bool reads_only);

/* node_queries.c. False: it reads messages, fill_query answers it. */
bool queue_query_execute(struct node *n, struct node_group *g, const struct queue_query *q, struct buf *reply);

/* node_queue_log.c: backlog files and snapshots */
/* q: what the log asks whether a message is needed, and in whose name it writes: the group's own, or one being installed. */
struct queue_log *queue_log_make(struct node *n, struct node_group *g, struct group_queue *q);
void queue_backlog_written(struct node *n, struct node_group *g, const struct event *ev);
void queue_backlog_loaded(struct node *n, struct node_group *g, const struct event *ev);
void queue_backlog_keep(struct node *n, struct node_group *g);
void queue_snapshot_begin(struct node *n, struct node_group *g);
void queue_snapshot_abort(struct node_group *g);

#endif
