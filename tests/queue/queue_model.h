/* The queue as the specification says it, in arrays: one topic, a few messages, everything looked for by walking. */
#ifndef TESTS_QUEUE_QUEUE_MODEL_H
#define TESTS_QUEUE_QUEUE_MODEL_H

#include "nodes/queue/queue_sm.h"

enum { MODEL_MESSAGES = 4096, MODEL_GROUPS = 2, MODEL_PARTS = 2 };
enum model_state { M_BACKLOG = 0, M_IN_FLIGHT, M_AVAILABLE, M_WAITING, M_BLOCKED, M_DEAD, M_DONE };

/* A message as one consumer group has it. */
struct model_copy {
    enum model_state state;
    uint32_t deliveries;
    uint64_t delivery, generation, at_ms /* deadline, or not before */;
    int consumer;
};
struct model_group {
    bool made;
    uint64_t next, generation;
    int owner;                     /* -1: none */
    struct model_copy copy[MODEL_MESSAGES];
};
struct model_part {
    uint64_t floor, end, expired;
    uint32_t key[MODEL_MESSAGES];
    uint64_t not_before[MODEL_MESSAGES];
    struct model_group groups[MODEL_GROUPS];
};
struct model {
    struct topic_config config;
    uint64_t now;
    struct model_part parts[MODEL_PARTS];
};

void model_time(struct model *m, uint64_t now);  /* what is due is done */
void model_publish(struct model *m, uint32_t part, uint32_t key, uint64_t delay);
/* Fills got with what a claim must bring; -1: refused for its generation. Delivery numbers are the state machine's. */
int model_claim(struct model *m, uint32_t part, int group, int consumer, uint64_t generation, uint32_t count, struct delivery *got);
bool model_settle(struct model *m, uint32_t part, int group, const struct settle_item *it); /* false: stale */
void model_release(struct model *m, int group, int consumer);
uint32_t model_redrive(struct model *m, int group, uint32_t count);
void model_floor(struct model *m, uint32_t part);              /* after each of the above */
uint64_t model_start(const struct model *m, uint32_t part);
bool model_there(const struct model *m, uint32_t part, uint64_t offset); /* somebody may still get it */
bool model_consumed(const struct model_part *p, uint64_t offset);       /* every group took it up */
uint32_t model_count(const struct model_part *p, int group, enum model_state state);

#endif
