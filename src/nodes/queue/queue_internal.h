/* Inside the queue state machine: its records, shared by the files of this room. Nothing outside src/nodes/queue includes this.
 *
 * A topic has partitions; a partition has offsets [start, end) and positions; a position (a consumer group at a partition) has pends,
 * one for each message that was taken up and is not done: in flight, available again, waiting, behind its key, or dead.
 *
 * `floor` of a partition: everything below it is gone except what some position has a pend of; everything from it on is there unless
 * erased. `start` is the lowest offset that is still there: floor, or the first pend below it. */
#ifndef SYN_NODES_QUEUE_QUEUE_INTERNAL_H
#define SYN_NODES_QUEUE_QUEUE_INTERNAL_H

#include "nodes/queue/queue_sm.h"
#include "nodes/queue/queue_vec.h"
#include "utils/assert.h"
#include "utils/limits.h"
#include "utils/list.h"
#include "utils/map.h"
#include "utils/mutant.h"
#include "utils/timer_wheel.h"

enum { MARK_MESSAGES = 1024, MARK_BYTES = 256 * 1024, MARK_SHARE = 8 /* of RETENTION, of MAXAGE: how exact they are */ };
enum { ID_BLOCK_BYTES = 440, PENDS_PER_SLAB = 128 };

/* In the order in which those of one instant are done. */
enum queue_due_kind { QDUE_PEND = 1, QDUE_DELAYED, QDUE_AGE };
struct queue_due {
    struct timer timer;
    uint8_t kind;
};

enum pend_state { PEND_NEW = 0, PEND_IN_FLIGHT, PEND_AVAILABLE, PEND_WAITING, PEND_BLOCKED, PEND_DEAD };

/* Why and when a message died. */
struct dead_note {
    uint64_t wall_ms;
    uint32_t len;
    uint8_t reason[];
};

struct pend {
    struct queue_due due;      /* IN_FLIGHT: visibility; WAITING: not_before_ms */
    struct map_node by_offset;
    struct list all;           /* position.pends, by offset */
    struct list in_consumer;   /* IN_FLIGHT: consumer.pends, by delivery */
    struct list in_chain;      /* key_chain.pends, by offset; everything but DEAD of a key in an ORDERED topic */
    struct pend *left, *right; /* AVAILABLE, DEAD: a tree by offset (queue_tree.c); unused: the free list by `left` */
    struct position *pos;
    struct consumer *consumer; /* IN_FLIGHT */
    struct key_chain *chain;
    struct dead_note *note;    /* DEAD */
    uint64_t offset;
    struct stream_id id;
    uint64_t delivery;         /* number of the newest; 0: never delivered */
    uint64_t generation;       /* of the newest delivery */
    uint64_t delivered_ms;     /* log time of it, less what XCLAIM IDLE said (modulo 2^64) */
    uint64_t visibility_ms;    /* of it; 0: no deadline */
    uint64_t not_before_ms;    /* WAITING, BLOCKED: not due before this log time */
    uint32_t deliveries;
    uint32_t key;              /* 0: none, or the topic is not ORDERED */
    uint8_t state;
};

/* The pends of one key: at most one is not BLOCKED (Q4). */
struct key_chain {
    struct map_node by_key;
    struct list pends;
    struct pend *active;
    struct key_chain *next_free;
    uint32_t key;
};

struct consumer {
    struct map_node by_name;
    struct list all;           /* position.consumers, in the order of creation */
    struct list pends;
    uint32_t n_pends;
    bool held;                 /* somebody is walking its pends: not to be freed */
    uint64_t seen_ms;          /* log time of its last operation */
    uint64_t active_ms;        /* of its last delivery; UINT64_MAX: none */
    uint16_t name_len;
    uint8_t name[];
};

struct position {
    struct map_node by_name;
    struct list all;           /* partition.positions_all, in the order of creation */
    struct partition *part;
    uint64_t serial;
    uint64_t generation;
    struct consumer *owner;    /* of that generation; NULL: none yet, or it left; streams have none */
    uint64_t next;
    struct map pends_by_offset;
    struct list pends;
    struct pend *available, *dead; /* roots of trees by offset */
    uint32_t n_in_flight, n_available, n_waiting /* and blocked */, n_dead;
    struct map keys;
    struct map consumers_by_name;
    struct list consumers;
    uint32_t n_consumers;
    uint64_t delivered, redelivered, acked, dead_lettered, redriven;
    struct stream_id last_id;
    uint16_t name_len;
    uint8_t name[];
};

/* Consecutive messages, for retention: whole marks go. */
struct mark {
    uint64_t first;            /* offset */
    uint64_t bytes;            /* of the partition before it */
    uint64_t first_ms, last_ms;/* wall clock of the state machine (queue_sm.wall_ms) at its first and last message */
};

/* Ids of consecutive messages: runs of equal ms and consecutive seq, three to four bytes each (queue_ids.c). */
struct id_block {
    uint64_t first;            /* offset */
    struct stream_id base;     /* id of that */
    struct stream_id run;      /* first id of the last run, which is not in bytes */
    uint64_t run_first;        /* offset of that */
    uint32_t run_n;
    uint16_t used;
    uint8_t bytes[ID_BLOCK_BYTES];
};
struct id_index { struct vec blocks; /* struct id_block * */ };
/* Where a reader of ascending offsets stands. Zeroed: nowhere. Good until the index changes. */
struct id_cursor {
    const struct id_block *block;
    size_t at;                 /* next run in block->bytes */
    struct stream_id run;
    uint64_t run_first;
    uint64_t run_n;
};

struct delayed {
    struct queue_due due;
    struct partition *part;
    uint64_t offset;
    bool gone;                 /* due, or trimmed: waits to be taken out of partition.delayed */
};

struct partition {
    struct list all;           /* sm.partitions, in the order of creation */
    struct topic *topic;
    uint64_t serial;
    uint32_t number;
    uint64_t start, floor, end;
    uint64_t deliveries;       /* number of the newest delivery, of any consumer group */
    struct stream_id last_id, max_deleted_id;
    uint64_t entries_added, published, expired, bytes_total;
    struct id_index ids;       /* of [floor, end) at least */
    struct vec marks;          /* struct mark, of [floor, end) at least */
    struct vec keys;           /* uint32_t, ORDERED: of exactly [floor, end) */
    struct vec erased;         /* uint64_t, sorted, in [floor, end) */
    struct vec delayed;        /* struct delayed *, by offset; some are gone */
    uint32_t n_delayed;        /* those that are not */
    struct queue_due age;
    struct map positions;
    struct list positions_all;
    uint32_t n_positions;
    struct partition *next_dirty;
    bool dirty;
    uint64_t woken_index;      /* log index of the last apply that reported it as woken */
    uint32_t saved;            /* number of the snapshot it is in, or after which it was made */
};

struct topic {
    struct map_node by_id;
    struct list all;           /* sm.topics_all, in the order of creation */
    uint64_t id, version;
    struct topic_config config;
    struct partition **parts;  /* by number */
    uint32_t n_parts;
    uint16_t name_len;
    uint8_t name[];
};

struct pend_slab {
    struct pend_slab *next;
    struct pend pends[PENDS_PER_SLAB];
};

/* A topic that was dropped: an OPEN of it that was under way does not make it again. */
struct dropped { uint64_t topic, time_ms; };

struct queue_snap {
    bool active;
    uint32_t number;
    struct list *cursor;       /* next partition in sm.partitions */
    struct buf out;            /* saved, not yet taken */
    uint64_t count;
};

struct queue_restore {
    struct buf in;
    struct partition *part;    /* the positions that come are of this one */
    uint64_t count;
    uint32_t positions_left;
    bool head, bad, done;
};

struct queue_sm {
    struct queue_sm_options opt;
    struct map topics;
    struct list topics_all, partitions;
    uint64_t n_partitions;
    struct vec dropped;        /* struct dropped, oldest first */
    struct dedup dedup;
    struct { struct map by_name; struct list in_use; uint32_t n; uint64_t bytes; } fences; /* queue_fence.c */
    struct timer_wheel wheel;
    struct queue_due **due;    /* scratch: what is due in this apply */
    uint32_t cap_due;
    uint64_t index, term, time_ms;
    uint64_t wall_ms;          /* newest wall time of any operation, running on with log time: for ages, never falling */
    uint64_t digest, next_serial;
    struct partition *dirty;   /* their floor and start are to be looked at before the apply ends */
    struct pend *free_pends;
    struct pend_slab *slabs;
    uint64_t n_slabs;
    struct key_chain *free_chains;
    struct queue_out *out;     /* during an apply */
    struct queue_head head;    /* of the operation */
    struct queue_snap snap;
    struct queue_restore *restore;
    struct queue_sm_stats stats;
};

static inline slice_t topic_name(const struct topic *t) { return slice_of(t->name, t->name_len); }
static inline slice_t position_name(const struct position *p) { return slice_of(p->name, p->name_len); }
static inline slice_t consumer_name(const struct consumer *c) { return slice_of(c->name, c->name_len); }
static inline uint32_t position_unsettled(const struct position *p) { return p->n_in_flight + p->n_available + p->n_waiting; }
static inline bool topic_is_log(const struct topic *t) { return t->config.retention_bytes > 0 || t->config.max_age_ms > 0; }
static inline uint64_t add_sat(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }
static inline int stream_id_cmp(struct stream_id a, struct stream_id b)
{
    return a.ms != b.ms ? (a.ms < b.ms ? -1 : 1) : a.seq != b.seq ? (a.seq < b.seq ? -1 : 1) : 0;
}

/* queue_codec.c: the rest of an operation behind its head; false: malformed. */
bool queue_get_group(struct reader *r, struct queue_group *o);
bool queue_get_seek(struct reader *r, struct queue_seek *o);
bool queue_get_trim(struct reader *r, struct queue_trim *o);
bool queue_get_erase(struct reader *r, struct queue_erase *o);
bool queue_get_set_id(struct reader *r, struct queue_set_id *o);
bool queue_get_take(struct reader *r, struct queue_take *o);
static inline uint64_t slice_u64_at(slice_t s, uint32_t i) { return le64_get(s.ptr + (size_t)i * 8); }

/* queue_sm.c */
struct buf *queue_reply(struct queue_sm *sm, enum queue_code code); /* begins the reply of the operation; what follows is appended */
void queue_reply_u64(struct queue_sm *sm, enum queue_code code, uint64_t value);
void queue_reply_limit(struct queue_sm *sm, const char *which);
void queue_emit_appended(struct queue_sm *sm, const struct queue_appended *m);
void queue_emit_trimmed(struct queue_sm *sm, const struct partition *p, uint64_t start);
void queue_emit_woken(struct queue_sm *sm, struct partition *p);

/* queue_tree.c: ordered sets of pends, by offset. */
void tree_add(struct pend **root, struct pend *r);
void tree_remove(struct pend **root, struct pend *r);
struct pend *tree_from(struct pend *root, uint64_t offset); /* the first at or after offset; NULL: none */

/* queue_ids.c */
void ids_append(struct id_index *ix, uint64_t offset, struct stream_id id); /* offsets consecutive, ids ascending */
struct stream_id ids_get(const struct id_index *ix, struct id_cursor *c, uint64_t offset); /* of a message that is covered */
uint64_t ids_find(const struct id_index *ix, struct stream_id id, uint64_t end); /* first covered offset with an id >= id */
void ids_trim(struct id_index *ix, uint64_t floor);
void ids_fini(struct id_index *ix);
void ids_save(const struct id_index *ix, struct buf *out);
bool ids_load(struct id_index *ix, uint64_t floor, uint64_t end, struct reader *r);
uint64_t ids_covered(const struct id_index *ix, uint64_t *first); /* end of what is covered; 0: nothing */

/* queue_topic.c */
struct topic *topic_find(const struct queue_sm *sm, uint64_t id);
struct topic *topic_new(struct queue_sm *sm, uint64_t id, slice_t name);
struct partition *topic_part(const struct topic *t, uint32_t number);
struct partition *topic_add_part(struct queue_sm *sm, struct topic *t, uint32_t number);
void topic_free(struct queue_sm *sm, struct topic *t);
void queue_op_open(struct queue_sm *sm, struct reader *r);
void queue_op_drop(struct queue_sm *sm, struct reader *r);
/* Of a decoded operation: NULL after answering NO_TOPIC. The partition may be changed (it is saved first when a snapshot is being taken). */
struct partition *part_or_refuse(struct queue_sm *sm, uint64_t topic, uint32_t number);

/* queue_fence.c */
bool queue_fenced(struct queue_sm *sm, const struct publish_item *it, uint64_t *newest); /* false: its token is remembered as the newest */
void queue_fences_drop(struct queue_sm *sm, uint64_t topic);
void queue_fences_init(struct queue_sm *sm);
void queue_fences_fini(struct queue_sm *sm);
void queue_fences_save(const struct queue_sm *sm, struct buf *out);
bool queue_fences_load(struct queue_sm *sm, struct reader *r);
void queue_fences_check(const struct queue_sm *sm);

/* queue_partition.c */
void part_dirty(struct queue_sm *sm, struct partition *p);
void parts_settle(struct queue_sm *sm);   /* all that is dirty: what may go goes, and is reported */
/* The floor rises to at most `to`; the messages that went. */
uint64_t part_raise(struct queue_sm *sm, struct partition *p, uint64_t to);
bool part_erased(const struct partition *p, uint64_t offset);
size_t part_erased_from(const struct partition *p, uint64_t offset); /* index of the first erased one at or after offset */
bool part_deleted(const struct partition *p, uint64_t offset);       /* below the floor or erased */
struct delayed *part_delayed(const struct partition *p, uint64_t offset); /* NULL: due */
void part_delay(struct queue_sm *sm, struct partition *p, uint64_t offset, uint64_t at_ms);
void part_delayed_gone(struct queue_sm *sm, struct delayed *d);
uint64_t part_live(const struct partition *p);  /* messages at or above the floor that are not erased */
uint64_t part_bytes(const struct partition *p);
uint64_t part_min_next(const struct partition *p); /* of its positions; UINT64_MAX: it has none */
void part_fini(struct queue_sm *sm, struct partition *p);
void queue_op_publish(struct queue_sm *sm, struct reader *r);

/* queue_position.c */
struct position *position_find(const struct queue_sm *sm, const struct partition *p, slice_t name);
struct position *position_new(struct queue_sm *sm, struct partition *p, slice_t name); /* its next is the floor */
/* A position at the floor gets pends of what is still there below it because others have it: it begins at the partition's start. Logs and
 * streams have nothing there. */
void position_adopt(struct queue_sm *sm, struct position *pos);
/* Its pends that are PEND_NEW take their keys in the order of offsets, and become available, waiting or blocked. */
void position_ready_new(struct queue_sm *sm, struct position *pos);
void position_free(struct queue_sm *sm, struct position *pos);
struct consumer *consumer_find(const struct queue_sm *sm, const struct position *pos, slice_t name);
struct consumer *consumer_get(struct queue_sm *sm, struct position *pos, slice_t name); /* made when missing */
void consumer_free(struct position *pos, struct consumer *c);
void consumer_rest(struct position *pos, struct consumer *c); /* of a queue topic: freed when it has nothing and does not own the position */
struct pend *pend_find(const struct position *pos, uint64_t offset);
struct pend *pend_new(struct queue_sm *sm, struct position *pos, uint64_t offset, struct stream_id id); /* PEND_NEW */
void pend_leave(struct queue_sm *sm, struct pend *r);     /* its state: PEND_NEW again, in no list but by offset and by key */
void pend_free(struct queue_sm *sm, struct pend *r);      /* PEND_NEW only */
/* A key is asked for; true when it is free, false: r is BLOCKED now. */
bool pend_take_key(struct queue_sm *sm, struct pend *r, uint32_t key);
void pend_drop_key(struct queue_sm *sm, struct pend *r);  /* the next of its key is ready */
void pend_ready(struct queue_sm *sm, struct pend *r);     /* WAITING until not_before_ms, or AVAILABLE */
void pend_done(struct queue_sm *sm, struct pend *r);      /* acknowledged, or forgotten: it is freed */
void pend_die(struct queue_sm *sm, struct pend *r, slice_t reason);
void pend_return(struct queue_sm *sm, struct pend *r, uint64_t not_before_ms); /* from in flight: to be delivered again */
/* Into states as they are; for restoring too. */
void pend_set_in_flight(struct queue_sm *sm, struct pend *r, struct consumer *c, uint64_t deadline_ms /* UINT64_MAX: none */);
void pend_set_available(struct pend *r);
void pend_set_waiting(struct queue_sm *sm, struct pend *r);
void pend_set_blocked(struct pend *r);
void pend_set_dead(struct queue_sm *sm, struct pend *r, uint64_t wall_ms, slice_t reason);
struct key_chain *chain_get(struct queue_sm *sm, struct position *pos, uint32_t key);
void chain_insert(struct key_chain *ch, struct pend *r);

/* queue_claim.c */
void queue_op_claim(struct queue_sm *sm, struct reader *r);
void queue_op_take(struct queue_sm *sm, struct reader *r);
bool pend_exhausted(const struct pend *r);

/* queue_settle.c */
void queue_op_settle(struct queue_sm *sm, struct reader *r);
void queue_op_release(struct queue_sm *sm, struct reader *r);
void queue_op_redrive(struct queue_sm *sm, struct reader *r);
void queue_due_all(struct queue_sm *sm);  /* what is due by sm->time_ms, in a fixed order */
void consumer_release(struct queue_sm *sm, struct position *pos, struct consumer *c);

/* queue_stream.c */
void queue_op_group(struct queue_sm *sm, struct reader *r);
void queue_op_seek(struct queue_sm *sm, struct reader *r);
void queue_op_trim(struct queue_sm *sm, struct reader *r);
void queue_op_erase(struct queue_sm *sm, struct reader *r);
void queue_op_set_id(struct queue_sm *sm, struct reader *r);

/* queue_snapshot.c */
void queue_snap_touch(struct queue_sm *sm, struct partition *p);  /* before p changes for the first time after a cut */
void queue_snap_leave(struct queue_sm *sm, struct partition *p);  /* before p leaves sm.partitions */
void queue_restore_drop(struct queue_sm *sm);

#endif
