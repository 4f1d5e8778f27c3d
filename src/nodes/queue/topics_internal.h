/* Inside the topics of group 0: their records, shared by topics*.c. */
#ifndef SYN_NODES_QUEUE_TOPICS_INTERNAL_H
#define SYN_NODES_QUEUE_TOPICS_INTERNAL_H

#include "nodes/queue/topics.h"
#include "utils/assert.h"
#include "utils/limits.h"
#include "utils/list.h"
#include "utils/map.h"
#include "utils/mutant.h"
#include "utils/timer_wheel.h"

struct topic {
    struct map_node by_name, by_id;
    struct list all;          /* topics.all by id; topics.deleted once it is */
    uint64_t id, version;
    struct topic_config config;
    uint32_t *groups;         /* owned; config.partitions of them */
    bool deleted;
    uint8_t *unconfirmed;     /* owned; by group: 1 while it must still hear of this version (or of the end) */
    uint32_t n_unconfirmed;
    struct list consumer_groups; /* in the order of creation */
    uint32_t n_consumer_groups;
    uint64_t floor;           /* the largest generation of those forgotten; others begin above it */
    uint32_t name_len;
    uint8_t name[];
};

struct consumer_group {
    struct map_node by_name;  /* key: topic id and name */
    struct list of_topic;
    struct topic *topic;
    uint64_t generation;
    uint64_t rebalances;
    struct list changing;     /* in topics.changing: has lost or got members in this operation */
    struct list members;      /* in the order of joining */
    uint32_t n_members;
    uint64_t *since;          /* owned; by partition: generation in which its member got it */
    struct member_row **owner; /* owned; by partition; NULL: nobody */
    uint32_t name_len;
    uint8_t name[];
};

struct member_row {
    struct map_node by_name;  /* key: consumer group and name */
    struct list of_group;
    struct timer timer;
    struct consumer_group *group;
    uint64_t node, ttl_ms, heard_ms;
    uint64_t serial;          /* order of joining, over all */
    uint32_t place;           /* in the list, while an assignment is made */
    uint32_t name_len;
    uint8_t name[];
};

struct topics {
    struct topics_options opt;
    struct dedup dedup;
    struct map by_name, by_id, groups_by_name, members_by_name;
    struct list all, deleted;
    struct list changing;     /* in the order in which they changed; empty between operations */
    uint32_t n_topics;
    uint64_t n_unconfirmed;   /* over all topics */
    struct timer_wheel wheel;
    uint64_t index, term, time_ms, digest, next_serial;
    struct topics_out *out;   /* during an apply */
    struct topics_stats stats;
};

static inline slice_t topic_row_name(const struct topic *t) { return slice_of(t->name, t->name_len); }
static inline slice_t consumer_group_name(const struct consumer_group *g) { return slice_of(g->name, g->name_len); }
static inline slice_t member_name(const struct member_row *m) { return slice_of(m->name, m->name_len); }

/* topics.c */
struct topic *topic_get(const struct topics *t, uint64_t id); /* NULL: unknown, or deleted */
struct topic *topic_find_any(const struct topics *t, uint64_t id); /* deleted or not */
struct topic *topics_new_row(struct topics *t, uint64_t id, slice_t name, const struct topic_config *config);
struct topic_row topic_row_of(const struct topic *x);
void topic_delete(struct topics *t, struct topic *x);
void topic_drop(struct topics *t, struct topic *x);           /* nothing remembers it any more */
/* topics_members.c */
struct consumer_group *consumer_group_find(const struct topics *t, const struct topic *x, slice_t name);
struct consumer_group *consumer_group_new(struct topics *t, struct topic *x, slice_t name);
void consumer_group_free(struct topics *t, struct consumer_group *g);
struct member_row *member_row_find(const struct topics *t, const struct consumer_group *g, slice_t name);
struct member_row *member_row_new(struct topics *t, struct consumer_group *g, slice_t name);
void members_expire(struct topics *t);
void members_number(const struct consumer_group *g);          /* place: 0, 1, ... in the order of joining */
void topic_op_join(struct topics *t, struct reader *r, struct buf *reply);
void topic_op_leave(struct topics *t, struct reader *r, struct buf *reply);
void topic_op_forget(struct topics *t, struct reader *r, struct buf *reply);

#endif
