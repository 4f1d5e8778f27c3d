/* Group 0's part of the queue: which topics there are and where their partitions live, which consumers make up a consumer group, and
 * which of them has which partition (docs/queue.md, "Topics" and "Consumer groups").
 *
 * Deterministic, as queue_sm.h. Members live by log time: one that was not heard of for its TTL leaves at the next operation; log time
 * stands still during an election, so a change of leader shortens no TTL (K5). */
#ifndef SYN_NODES_QUEUE_TOPICS_H
#define SYN_NODES_QUEUE_TOPICS_H

#include "nodes/queue/queue_sm.h"

enum topic_op_kind {
    TOPIC_OP_CREATE = 1,  /* name, config. Again with the same config: the same topic. MAYBE: any config of an existing one will do */
    TOPIC_OP_ALTER,       /* name, config: everything but partitions, ordered and stream may change; raises the version */
    TOPIC_OP_DELETE,      /* name: gone at once; its partitions go as the groups confirm */
    TOPIC_OP_CONFIRM,     /* topic id, version, group: that group has it (or has dropped it) */
    TOPIC_OP_JOIN,        /* n members: each joins, or is heard of again; replies what each is assigned */
    TOPIC_OP_LEAVE,       /* one member leaves cleanly */
    TOPIC_OP_FORGET,      /* a consumer group without members is forgotten; one of its name goes on above its generations */
    TOPIC_OP_TICK,        /* nothing but its log time */
    TOPIC_OP_MAX
};

struct topic_head { enum topic_op_kind kind; struct request_id req; uint64_t low; };
struct topic_create { slice_t name; bool maybe; struct topic_config config; };
struct topic_confirm { uint64_t topic, version; uint32_t group; };
struct topic_join { uint64_t topic; slice_t group, consumer; uint64_t ttl_ms; uint64_t node; /* node_id_t of the door it came in by */ };
struct topic_member { uint64_t topic; slice_t group, consumer; };

void topic_put_head(struct buf *out, const struct topic_head *h);
bool topic_get_head(struct reader *r, struct topic_head *h);
void topic_put_config(struct buf *out, const struct topic_config *c);
bool topic_get_config(struct reader *r, struct topic_config *c);
void topic_put_create(struct buf *out, const struct topic_create *o);  /* CREATE and ALTER */
void topic_put_delete(struct buf *out, slice_t name);
void topic_put_confirm(struct buf *out, const struct topic_confirm *o);
void topic_put_join(struct buf *out, uint32_t n);                      /* then n members */
void topic_put_join_item(struct buf *out, const struct topic_join *j);
void topic_put_member(struct buf *out, const struct topic_member *m);  /* LEAVE, FORGET */

/* Replies, binary: u8 topic_code, then
 *   CREATE, ALTER      a topic row as topic_put_row writes it, u8 1 when it was made or changed by this operation
 *   DELETE, CONFIRM    nothing
 *   JOIN               u32 n, then per member: u8 topic_code; when OK: u64 generation, u32 n partitions, u32 partition and u64 since each.
 *                      One generation for all that joined; malformed: LIMIT alone, and nobody has joined
 *   LEAVE              as one member of JOIN: what it had
 *   FORGET             nothing */
enum topic_code { TOPIC_DONE = 0, TOPIC_UNKNOWN, TOPIC_EXISTS /* with another config */, TOPIC_BAD_CHANGE /* of what may not change */,
                  TOPIC_LIMIT, TOPIC_NO_GROUP, TOPIC_HAS_MEMBERS, TOPIC_NO_MEMBER };

struct topic_row {
    uint64_t id;          /* index of the entry that made it: never used twice */
    uint64_t version;     /* index of the entry that changed it last */
    slice_t name;
    struct topic_config config;
    const uint32_t *groups; /* config.partitions of them: which group has the partition */
};
void topic_put_row(struct buf *out, const struct topic_row *row);
/* groups: the caller's array of at least LIMIT_PARTITIONS; the row points into it and into the reader's bytes. */
bool topic_get_row(struct reader *r, struct topic_row *row, uint32_t *groups);

/* Where the partitions of a new topic go: with a {tag} all in the tag's group, else in turn from the name's own group on, so that any
 * topic is spread as evenly as its number of partitions allows (Q10). */
void topic_place(slice_t name, uint32_t partitions, uint32_t groups, uint32_t *out);

/* Sticky and balanced (Q10): owner[p] is the member (0..members-1) that has partition p now, or UINT32_MAX; changed in place so that every
 * partition has an owner (when there are members), no member has more than one more than another, and as few as possible move.
 * Members are in the order in which they joined. */
void topic_assign(uint32_t *owner, uint32_t partitions, uint32_t members);

struct topics_result { struct request_id req; size_t reply_off, reply_len; };
/* The assignment of a consumer group has changed: its members' nodes want to know. */
struct topics_changed { uint64_t topic; size_t group_off, group_len; uint64_t generation; };
struct topics_out {
    struct buf replies, names;
    struct topics_result *results;
    uint32_t n_results, cap_results;
    struct topics_changed *changed;
    uint32_t n_changed, cap_changed;
};
void topics_out_init(struct topics_out *o);
void topics_out_clear(struct topics_out *o);
void topics_out_fini(struct topics_out *o);

struct topics_options { uint32_t groups; uint64_t hash_key; uint64_t dedup_ms; uint32_t dedup_count; };
struct topics;
struct topics *topics_new(const struct topics_options *o);
void topics_free(struct topics *t);
void topics_apply(struct topics *t, uint64_t index, uint64_t term, uint64_t time_ms, slice_t op, struct topics_out *out);
uint64_t topics_next_due_ms(const struct topics *t);

/* Look-ups; rows and slices are borrowed until the next apply. */
bool topics_find(const struct topics *t, slice_t name, struct topic_row *out);
bool topics_find_id(const struct topics *t, uint64_t id, struct topic_row *out); /* not those being deleted */
/* In the order of creation, those with an id > after; fn returns false to stop. */
void topics_list(const struct topics *t, uint64_t after, bool (*fn)(void *arg, const struct topic_row *row), void *arg);
struct topic_group_info { slice_t name; uint64_t generation; uint32_t members; uint64_t rebalances; };
void topics_groups(const struct topics *t, uint64_t topic, void (*fn)(void *arg, const struct topic_group_info *g), void *arg);
struct topic_member_info { slice_t consumer; uint64_t node; uint64_t ttl_ms, heard_ms; uint32_t n_parts; const uint32_t *parts; };
void topics_members(const struct topics *t, uint64_t topic, slice_t group, void (*fn)(void *arg, const struct topic_member_info *m), void *arg);
/* What other groups must still hear, oldest first, up to max calls: open says OPEN or DROP. The row of a DROP has id and version only. */
void topics_unconfirmed(const struct topics *t, uint32_t max, void (*fn)(void *arg, const struct topic_row *row, uint32_t group, bool open), void *arg);

struct topics_stats { uint64_t topics, groups, members, rebalances, expired_members, refused_malformed; };
void topics_stats(const struct topics *t, struct topics_stats *out);

/* Snapshots: small, written whole. */
void topics_save(const struct topics *t, struct buf *out);
bool topics_restore(struct topics *t, slice_t saved); /* into a new one; false: malformed, or not what topics_check asserts. Free it then */
uint64_t topics_digest(const struct topics *t);
uint64_t topics_state_hash(const struct topics *t);
void topics_check(const struct topics *t);

#endif
