/* The queue service's part of a group's state machine: partitions, their consumer groups' positions, what is in flight, what is dead
 * (docs/queue.md).
 *
 * Deterministic (K12): what it does depends on its state and on the applied operations only. Time is the log time of each entry
 * (milliseconds, never falling); wall time comes inside operations and is only shown, and made into message timestamps that never fall.
 *
 * It holds no payloads. A published message is handed on (queue_out.appended) to the node's queue_log, which keeps it in memory or on
 * this node's disk; memory here is bounded by what is in flight, delayed or dead, never by the backlog (decision 008). */
#ifndef SYN_NODES_QUEUE_QUEUE_SM_H
#define SYN_NODES_QUEUE_QUEUE_SM_H

#include "nodes/dedup.h"
#include "utils/buf.h"
#include "utils/slice.h"

/* What a topic is; the same in every group that has partitions of it. Made by group 0 (topics.h), carried here by QUEUE_OP_OPEN. */
struct topic_config {
    uint32_t partitions;
    uint32_t max_deliver;     /* deliveries before a message is dead; 0: no limit (a bare stream) */
    uint64_t visibility_ms;   /* default of CONSUME; 0: never redelivered by itself (a bare stream) */
    uint64_t retention_bytes; /* 0: none. With retention_bytes or max_age_ms the topic is a log: consumed messages stay until then */
    uint64_t max_age_ms;      /* 0: none */
    uint32_t backoff_ms;      /* delay before the second delivery after a NACK without DELAY or an expired visibility; doubles */
    uint32_t backoff_ms_max;
    uint8_t ordered;          /* 1: ORDERED key: of each key at most one message is unacknowledged, per consumer group */
    uint8_t stream;           /* 1: born by XADD: messages go by XTRIM and XDEL only, ids are the client's or ms-seq */
};

struct stream_id { uint64_t ms, seq; };

enum queue_op_kind {
    QUEUE_OP_OPEN = 1,    /* topic id, version, name, config, partitions of this group: made, or brought to a newer version */
    QUEUE_OP_DROP,        /* topic id: everything of it goes; idempotent */
    QUEUE_OP_PUBLISH,     /* a batch of messages for partitions of this group, of any topics */
    QUEUE_OP_CLAIM,       /* up to count messages for a consumer, from the partitions it was assigned */
    QUEUE_OP_SETTLE,      /* acks, nacks and extensions of deliveries of one consumer group */
    QUEUE_OP_RELEASE,     /* a consumer left cleanly: what it has in flight is available at once, uncounted */
    QUEUE_OP_TICK,        /* nothing but its log time: what is due is done */
    QUEUE_OP_GROUP,       /* make, destroy or move a consumer group at one partition; make or delete a consumer (XGROUP) */
    QUEUE_OP_SEEK,        /* move a consumer group: of what it has not done, what is behind its new place is forgotten, the rest begins anew */
    QUEUE_OP_REDRIVE,     /* dead messages are available again with no deliveries counted */
    QUEUE_OP_TRIM,        /* start moves up to an offset (XTRIM), never down */
    QUEUE_OP_ERASE,       /* single offsets are deleted (XDEL) */
    QUEUE_OP_SET_ID,      /* XSETID */
    QUEUE_OP_TAKE,        /* XCLAIM, XAUTOCLAIM: pending messages change their consumer */
    QUEUE_OP_MAX
};

/* How an operation is laid out: queue_codec.c; every one begins with struct queue_head. */
struct queue_head {
    enum queue_op_kind kind;
    struct request_id req; /* origin 0: of the leader itself, never answered */
    uint64_t low;          /* as in lock_op */
    uint64_t wall_ms;      /* Unix time where it was made */
};

enum message_flags {
    MESSAGE_FIELDS = 1,    /* the body is a list of stream fields: (u32 length, bytes) pairs, as XADD got them */
    MESSAGE_ID = 2,        /* PUBLISH: `id` is the client's; refused unless it is above the partition's last */
    MESSAGE_ID_AUTO_SEQ = 4, /* PUBLISH: id.ms is the client's, id.seq is chosen (XADD k 123-*) */
};

/* One message of a PUBLISH. `body` is everything that consumers see and the state machine does not look at: the door encodes key,
 * headers and payload into it (message.h). */
struct publish_item {
    uint64_t topic;        /* id */
    uint32_t partition;
    uint8_t flags;
    uint64_t delay_ms;     /* 0: at once */
    uint32_t key_hash;     /* of its key; 0: no key. Only ORDERED looks at it */
    struct stream_id id;
    slice_t dedup;         /* producer's id for this message, empty: none. The window is per group, by count and log time */
    uint64_t trim_maxlen;  /* XADD MAXLEN: UINT64_MAX: none */
    slice_t guard;         /* FENCE: the resource of `token`, empty: none */
    uint64_t token;        /* refused when a newer one of `guard` came with a publish to this topic in this group, or was granted there */
    slice_t body;
};

enum publish_status { PUBLISH_OK = 0, PUBLISH_DUPLICATE, PUBLISH_NO_TOPIC, PUBLISH_SMALL_ID, PUBLISH_LIMIT, PUBLISH_FENCED };

enum settle_kind { SETTLE_ACK = 1, SETTLE_NACK, SETTLE_EXTEND };
enum nack_mode { NACK_FAIL = 0, NACK_SILENT, NACK_FATAL }; /* counts as a delivery; does not count; dead at once */
#define SETTLE_DELAY_DEFAULT UINT64_MAX

/* Names one delivery (Q6): ack of any other delivery of the same message changes nothing. */
struct receipt {
    uint32_t partition;
    uint64_t generation;   /* of the assignment under which it was delivered */
    uint64_t offset;
    uint64_t delivery;     /* number of this delivery: ascending per consumer group and partition, never used twice */
};

struct settle_item {
    enum settle_kind kind;
    enum nack_mode mode;
    bool by_id;            /* XACK: `id` names it instead of the receipt, and no delivery number is compared */
    struct receipt receipt;
    struct stream_id id;
    uint64_t delay_ms;     /* NACK: SETTLE_DELAY_DEFAULT: back-off. EXTEND: from now */
    slice_t reason;        /* NACK: kept with a dead message, at most LIMIT_REASON_BYTES */
};
enum settle_status { SETTLE_OK = 0, SETTLE_STALE, SETTLE_NO_GROUP };

struct claim_part { uint32_t partition; uint64_t generation; };

enum group_action { GROUP_CREATE = 1, GROUP_DESTROY, GROUP_CREATE_CONSUMER, GROUP_DELETE_CONSUMER };
enum seek_to { SEEK_BEGIN = 1, SEEK_END, SEEK_OFFSET };

/* Decoded operations; slices point into the entry. Arrays come out of iterators, so that nothing is allocated per message. */
struct queue_open { uint64_t topic, version; slice_t name; struct topic_config config; uint32_t n_parts; slice_t parts; /* u32 each */ };
struct queue_claim {
    uint64_t topic;
    slice_t group, consumer;
    uint32_t count;        /* 1.. LIMIT_CLAIM_MESSAGES */
    uint64_t visibility_ms;/* 0: the topic's */
    uint32_t rotate;       /* which of the partitions to look at first */
    bool no_ack;           /* XREADGROUP NOACK: delivered and done at once */
    uint32_t n_parts;
    slice_t parts;         /* u32 partition, u64 generation each */
};
struct queue_settle { uint64_t topic; slice_t group; uint32_t n; slice_t items; };
struct queue_release { uint64_t topic; slice_t group, consumer; };
struct queue_group { uint64_t topic; uint32_t partition; slice_t group, consumer; enum group_action action; enum seek_to start; uint64_t offset; };
struct queue_seek { uint64_t topic; uint32_t partition; slice_t group; enum seek_to to; uint64_t offset; };
struct queue_redrive { uint64_t topic; slice_t group; uint32_t count; };
struct queue_trim { uint64_t topic; uint32_t partition; uint64_t start; };
struct queue_erase { uint64_t topic; uint32_t partition; uint32_t n; slice_t offsets; /* u64 each */ };
struct queue_set_id { uint64_t topic; uint32_t partition; struct stream_id id; uint64_t added; };
struct queue_take {        /* XCLAIM for `offsets`; XAUTOCLAIM when n is 0: from `from` on, up to count, idle for at least min_idle_ms */
    uint64_t topic; uint32_t partition; slice_t group, consumer;
    uint64_t min_idle_ms, idle_ms /* set the idle time to; UINT64_MAX: 0 */;
    uint32_t retries /* set the count to; UINT32_MAX: count it up, or leave it with just_id */;
    bool just_id, force;
    uint64_t from; uint32_t count;
    uint32_t n; slice_t offsets; /* u64 each */
};

/* Encoders append; publish, claim and settle are put together item by item. */
void queue_put_head(struct buf *out, const struct queue_head *h);
bool queue_get_head(struct reader *r, struct queue_head *h);
void queue_put_open(struct buf *out, const struct queue_open *o);
bool queue_get_open(struct reader *r, struct queue_open *o);
void queue_put_drop(struct buf *out, uint64_t topic);
void queue_put_publish(struct buf *out, uint32_t n); /* then n items */
void queue_put_item(struct buf *out, const struct publish_item *it);
bool queue_get_item(struct reader *r, struct publish_item *it);
void queue_put_claim(struct buf *out, const struct queue_claim *c);
bool queue_get_claim(struct reader *r, struct queue_claim *c);
bool queue_get_settle(struct reader *r, struct queue_settle *s);
void queue_put_settle(struct buf *out, uint64_t topic, slice_t group, uint32_t n); /* then n items */
void queue_put_settle_item(struct buf *out, const struct settle_item *it);
bool queue_get_settle_item(struct reader *r, struct settle_item *it);
void queue_put_release(struct buf *out, const struct queue_release *o);
bool queue_get_release(struct reader *r, struct queue_release *o);
void queue_put_group(struct buf *out, const struct queue_group *o);
void queue_put_seek(struct buf *out, const struct queue_seek *o);
void queue_put_redrive(struct buf *out, const struct queue_redrive *o);
bool queue_get_redrive(struct reader *r, struct queue_redrive *o);
void queue_put_trim(struct buf *out, const struct queue_trim *o);
void queue_put_erase(struct buf *out, const struct queue_erase *o);
void queue_put_set_id(struct buf *out, const struct queue_set_id *o);
void queue_put_take(struct buf *out, const struct queue_take *o);

/* Results. The reply of an operation is binary, laid out per kind; doors make RESP and JSON of it. First a u8 queue_code.
 *   OPEN, DROP, RELEASE, TICK      nothing more
 *   PUBLISH                        u32 n, then per message: u8 publish_status, u64 offset, u64 id.ms, u64 id.seq; FENCED: the newest token for the offset
 *   CLAIM                          u32 n, then n deliveries (struct delivery, queue_put_delivery); n = 0 is not remembered: ask again
 *   SETTLE                         u32 n, then u8 settle_status each
 *   GROUP                          u64: pending messages that went with it, or 1 when it was made
 *   SEEK, TRIM, ERASE, REDRIVE     u64: how many messages (ERASE, TRIM: deleted; REDRIVE: available again; SEEK: the new position)
 *   TAKE                           u64 next offset (UINT64_MAX: the end), u32 n deliveries, u32 n_gone and u64 offsets that were deleted */
enum queue_code {
    QUEUE_DONE = 0,
    QUEUE_NO_TOPIC,       /* this group does not have that topic (or partition): the asker's placement is old, or it was deleted */
    QUEUE_NO_GROUP,
    QUEUE_GROUP_EXISTS,
    QUEUE_OLD_GENERATION, /* u64: the generation it would have to be at least */
    QUEUE_BAD_ID,         /* XSETID below the last id */
    QUEUE_LIMIT,          /* text: which */
};

struct delivery {
    struct receipt receipt;
    uint32_t deliveries;   /* this one included */
    struct stream_id id;
};
void queue_put_delivery(struct buf *out, const struct delivery *d);
bool queue_get_delivery(struct reader *r, struct delivery *d);

struct queue_result {
    struct request_id req;
    enum queue_op_kind kind;
    uint64_t topic;        /* CLAIM, TAKE: of its deliveries */
    bool again;            /* a CLAIM that found nothing: not remembered, the leader may park it again */
    size_t reply_off, reply_len; /* in queue_out.replies */
};

/* A message that became part of its partition; body points into the applied entry. */
struct queue_appended { uint64_t topic; uint32_t partition; uint64_t offset; struct stream_id id; uint8_t flags; slice_t body; };
/* Everything below `start` is gone for good (UINT64_MAX: the whole partition). */
struct queue_trimmed { uint64_t topic; uint32_t partition; uint64_t start; };
/* Something may have become available at this partition: consumers that wait are to be asked again. */
struct queue_woken { uint64_t topic; uint32_t partition; };

/* What applies produced; cleared by the caller. `appended` must be taken before the entry's bytes go. */
struct queue_out {
    struct buf replies;
    struct queue_result *results;
    uint32_t n_results, cap_results;
    struct queue_appended *appended;
    uint32_t n_appended, cap_appended;
    struct queue_trimmed *trimmed;
    uint32_t n_trimmed, cap_trimmed;
    struct queue_woken *woken;
    uint32_t n_woken, cap_woken;
};
void queue_out_init(struct queue_out *o);
void queue_out_clear(struct queue_out *o);
void queue_out_fini(struct queue_out *o);

struct queue_sm_options {
    uint32_t group;
    uint64_t hash_key;     /* for tables keyed by client bytes; may differ between replicas */
    uint64_t dedup_ms;     /* producer ids and answered requests are remembered so long by log time, */
    uint32_t dedup_count;  /* and at most so many */
    /* May be NULL. True: of the locks of this group, as they are after the same entries, `resource` has a newer token, and this one holds nothing. */
    bool (*lock_fence)(void *arg, slice_t resource, uint64_t token, uint64_t *newest);
    void *lock_arg;
};
struct queue_sm;
struct queue_sm *queue_sm_new(const struct queue_sm_options *o);
void queue_sm_free(struct queue_sm *sm);
/* Applies one committed operation; what is due by time_ms is done first, whatever the operation. */
void queue_sm_apply(struct queue_sm *sm, uint64_t index, uint64_t term, uint64_t time_ms, slice_t op, struct queue_out *out);
/* The reply to this request is remembered: proposing it again has it repeated. */
bool queue_sm_answered(const struct queue_sm *sm, struct request_id req);
/* Log time at which a TICK would do something; UINT64_MAX: never. */
uint64_t queue_sm_next_due_ms(const struct queue_sm *sm);
/* True when a claim would be answered now, as far as this replica has applied: it would find something, or be refused. Also when it would make
 * its position or take it over (which is done once). No allocation, O(partitions asked for). */
bool queue_sm_available(const struct queue_sm *sm, const struct queue_claim *c);
/* The largest generation seen at a partition for a consumer group; 0: none. */
uint64_t queue_sm_generation(const struct queue_sm *sm, uint64_t topic, uint32_t partition, slice_t group);

/* Look-ins for queries; the leader after a confirmed read, drivers and checkers at any time. */
struct partition_info {
    uint64_t start, end;           /* offsets [start, end), of which `deleted` are gone */
    uint64_t deleted, bytes, delayed;
    uint64_t published, expired;   /* since the beginning */
    struct stream_id first_id, last_id; /* last ever added; first is 0-0 when empty and not known here */
    uint64_t entries_added;        /* XINFO; XSETID may set it */
    struct stream_id max_deleted_id;
    uint32_t groups;
};
struct group_info {
    slice_t name;
    uint64_t generation;
    slice_t owner;                 /* consumer of that generation, empty: none yet */
    uint64_t next;                 /* first offset never delivered */
    uint64_t pending, available, waiting, dead; /* in flight; to be delivered again; delayed or behind their key; dead */
    uint64_t lag;                  /* messages at or beyond next */
    uint64_t delivered, redelivered, acked, dead_lettered, redriven;
    uint64_t oldest_ms;            /* log time since when the oldest message in flight is there; 0: none */
    struct stream_id last_id;      /* of the newest delivered */
    uint32_t consumers;
};
struct dead_info { uint64_t offset; struct stream_id id; uint32_t deliveries; slice_t reason; uint64_t died_wall_ms; };
struct pending_info { uint64_t offset; struct stream_id id; slice_t consumer; uint64_t idle_ms; uint32_t deliveries; uint64_t generation, delivery; };
struct consumer_info { slice_t name; uint64_t pending, idle_ms, inactive_ms; };
bool queue_sm_topic(const struct queue_sm *sm, uint64_t topic, struct topic_config *config, slice_t *name, uint64_t *version);
/* Calls fn for each partition number of the topic in this group, ascending. */
void queue_sm_partitions(const struct queue_sm *sm, uint64_t topic, void (*fn)(void *arg, uint32_t partition), void *arg);
bool queue_sm_partition(const struct queue_sm *sm, uint64_t topic, uint32_t partition, struct partition_info *out);
void queue_sm_groups(const struct queue_sm *sm, uint64_t topic, uint32_t partition, void (*fn)(void *arg, const struct group_info *g), void *arg);
bool queue_sm_group(const struct queue_sm *sm, uint64_t topic, uint32_t partition, slice_t group, struct group_info *out);
/* In the order of offsets from `from` on, at most max. */
void queue_sm_dead(const struct queue_sm *sm, uint64_t topic, uint32_t partition, slice_t group, uint64_t from, uint32_t max,
                   void (*fn)(void *arg, const struct dead_info *d), void *arg);
void queue_sm_pending(const struct queue_sm *sm, uint64_t topic, uint32_t partition, slice_t group, uint64_t now_log_ms, uint64_t from,
                      uint32_t max, void (*fn)(void *arg, const struct pending_info *p), void *arg);
void queue_sm_consumers(const struct queue_sm *sm, uint64_t topic, uint32_t partition, slice_t group, uint64_t now_log_ms,
                        void (*fn)(void *arg, const struct consumer_info *c), void *arg);
/* The first offset whose id is >= id; the partition's end when there is none, UINT64_MAX when there is no such partition. */
uint64_t queue_sm_find_id(const struct queue_sm *sm, uint64_t topic, uint32_t partition, struct stream_id id);
bool queue_sm_deleted(const struct queue_sm *sm, uint64_t topic, uint32_t partition, uint64_t offset); /* below start, or erased */
/* Does anyone still need a message of [from, to]: not consumed by every group, in flight, dead, or retained? For reclaiming space. */
bool queue_sm_needs(const struct queue_sm *sm, uint64_t topic, uint32_t partition, uint64_t from, uint64_t to);

struct queue_sm_stats {
    uint64_t topics, partitions, messages, bytes, in_flight, dead;
    uint64_t published, duplicates, delivered, redelivered, acked, nacked, dead_lettered, redriven, expired, stale, refused_malformed;
    uint64_t memory; /* estimate */
};
void queue_sm_stats(const struct queue_sm *sm, struct queue_sm_stats *out);

/* Snapshots: as in lock_sm.h. A consistent cut at begin; partitions changed meanwhile are saved first, as they were. */
void queue_sm_snapshot_begin(struct queue_sm *sm);
bool queue_sm_snapshot_step(struct queue_sm *sm, size_t max_bytes, struct buf *out);
void queue_sm_snapshot_abort(struct queue_sm *sm);
bool queue_sm_restore_piece(struct queue_sm *sm, slice_t piece);
bool queue_sm_restore_end(struct queue_sm *sm);

uint64_t queue_sm_digest(const struct queue_sm *sm);     /* running, O(1) */
uint64_t queue_sm_state_hash(const struct queue_sm *sm); /* O(n), for tests */
void queue_sm_check(const struct queue_sm *sm);          /* every invariant that holds between applies; asserts */

#endif
