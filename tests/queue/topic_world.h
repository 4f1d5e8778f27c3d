/* The topics of group 0 and what a test says to them: one operation, its reply decoded, every invariant checked after it. */
#ifndef TESTS_QUEUE_TOPIC_WORLD_H
#define TESTS_QUEUE_TOPIC_WORLD_H

#include "nodes/queue/topics.h"
#include "utils/limits.h"

enum { TOPIC_WORLD_GROUPS = 4, TOPIC_WORLD_JOINS = 16 };

struct joined {
    enum topic_code code;
    uint64_t generation;
    uint32_t n;
    uint32_t partition[LIMIT_PARTITIONS];
    uint64_t since[LIMIT_PARTITIONS];
};

struct topic_world {
    struct topics *t;
    struct topics_out out;
    uint64_t index, time_ms, seq;
    uint64_t origin;             /* 0: nobody asks */
    struct buf op;
    /* Of the last operation; of one without an answer: code TOPIC_DONE. */
    bool answered, changed;
    enum topic_code code;
    struct topic_row row;        /* CREATE, ALTER; the name lies in `out` */
    uint32_t groups[LIMIT_PARTITIONS];
    uint32_t n;                  /* JOIN, LEAVE */
    struct joined joined[TOPIC_WORLD_JOINS];
};

struct topics *topic_world_table(uint64_t hash_key); /* empty, with TOPIC_WORLD_GROUPS groups */
void topic_world_init(struct topic_world *w);
void topic_world_fini(struct topic_world *w);
void topic_world_begin(struct topic_world *w, enum topic_op_kind kind); /* op: the head; the test appends the rest */
void topic_world_apply(struct topic_world *w);                          /* applies op and takes its reply apart */
/* A new table from what this one saves replaces it: the same hash and digest. */
void topic_world_restore(struct topic_world *w);

struct topic_config topic_world_config(uint32_t partitions);
uint64_t topic_world_create(struct topic_world *w, const char *name, uint32_t partitions); /* its id, 0 when refused */
enum topic_code topic_world_join(struct topic_world *w, uint64_t topic, const char *group, const char *consumer, uint64_t ttl_ms);
enum topic_code topic_world_leave(struct topic_world *w, uint64_t topic, const char *group, const char *consumer);
enum topic_code topic_world_forget(struct topic_world *w, uint64_t topic, const char *group);
void topic_world_confirm(struct topic_world *w, uint64_t topic, uint64_t version, uint32_t group);
enum topic_code topic_world_delete(struct topic_world *w, const char *name);
void topic_world_tick(struct topic_world *w, uint64_t ms);              /* log time goes on by ms, then a TICK */
bool topic_world_group(const struct topic_world *w, uint64_t topic, const char *group, struct topic_group_info *out);

#endif
