/* A queue state machine and what a test says to it: one operation, its reply decoded, every invariant checked after it. */
#ifndef TESTS_QUEUE_QUEUE_WORLD_H
#define TESTS_QUEUE_QUEUE_WORLD_H

#include "nodes/queue/queue_sm.h"

enum { WORLD_GOT_MAX = 1024, WORLD_TOPIC = 7 };

struct queue_world {
    struct queue_sm *sm;
    struct queue_out out;
    uint64_t index, time_ms, wall_ms, seq;
    uint64_t origin;               /* 0: nobody asks */
    struct buf op;
    /* Of the last operation. */
    bool answered, again;
    enum queue_code code;
    uint64_t value, offset;        /* offset, id: of the last message published */
    struct stream_id id;
    uint8_t status[WORLD_GOT_MAX]; /* PUBLISH, SETTLE */
    uint32_t n;
    struct delivery got[WORLD_GOT_MAX]; /* CLAIM, TAKE */
    uint64_t gone[WORLD_GOT_MAX];
    uint32_t n_gone;
};

void world_init(struct queue_world *w);
void world_fini(struct queue_world *w);
void world_begin(struct queue_world *w, enum queue_op_kind kind); /* op: the head; the test appends the rest */
void world_apply(struct queue_world *w);                          /* applies op and takes its reply apart */
/* A new state machine from a snapshot of this one, handed over in pieces of `piece` bytes, replaces it: the same hash and digest. */
void world_restore(struct queue_world *w, size_t piece);

void world_open(struct queue_world *w, uint64_t version, const struct topic_config *c, uint32_t parts); /* partitions 0.. parts - 1 */
enum publish_status world_publish(struct queue_world *w, const struct publish_item *it); /* topic WORLD_TOPIC */
enum publish_status world_pub(struct queue_world *w, uint32_t partition, const char *body);
uint32_t world_claim(struct queue_world *w, const char *group, const char *consumer, uint32_t partition, uint64_t generation, uint32_t count);
enum settle_status world_settle(struct queue_world *w, const char *group, const struct settle_item *it);
enum settle_status world_ack(struct queue_world *w, const char *group, struct receipt r);
enum settle_status world_nack(struct queue_world *w, const char *group, struct receipt r, enum nack_mode mode, uint64_t delay_ms);
void world_tick(struct queue_world *w, uint64_t ms);              /* log and wall time go on by ms, then a TICK */
struct group_info world_group(struct queue_world *w, uint32_t partition, const char *group);
struct partition_info world_part(struct queue_world *w, uint32_t partition);
bool world_woken(const struct queue_world *w, uint32_t partition); /* by the last operation */

#endif
