/* What a script of tests/transcripts/queue acts upon: the topics of group 0, one group with all the partitions, and what members were told. */
#ifndef TESTS_QUEUE_QUEUE_TRANSCRIPT_H
#define TESTS_QUEUE_QUEUE_TRANSCRIPT_H

#include "queue_world.h"
#include "topic_world.h"

enum { SCRIPT_WORDS = 24, SCRIPT_MEMBERS = 16, SCRIPT_LOG = 64, SCRIPT_PARTS = 16, SCRIPT_NAME = 32 };

/* A consumer and what the last answer to its JOIN said: its node claims with that, however old it is. */
struct script_member {
    char group[SCRIPT_NAME], name[SCRIPT_NAME];
    struct joined told;
};

/* An entry that was applied after a snapshot had begun: whoever restores it goes on with these. */
struct script_entry {
    struct buf op;
    uint64_t index, time_ms;
};

/* Who has which partition, as the trace said last; the empty name: nobody. */
struct script_assignment {
    char group[SCRIPT_NAME];
    char owner[SCRIPT_PARTS][SCRIPT_NAME];
};

struct script {
    struct queue_world q;
    struct topic_world t;
    bool open, quiet;
    struct topic_config config;
    struct script_member members[SCRIPT_MEMBERS];
    uint32_t n_members;
    struct script_assignment groups[SCRIPT_MEMBERS];
    uint32_t n_groups;
    bool cutting;                      /* a snapshot was begun; saved: what has come of it */
    bool saved_all;
    struct buf saved;
    uint64_t cut_hash;
    struct script_entry log[SCRIPT_LOG];
    uint32_t n_log;
    struct buf trace, before, after;   /* before, after: the state as lines "key: words" */
    struct buf *out;
    char *words[SCRIPT_WORDS], *options[SCRIPT_WORDS]; /* of this line: without and with a '=' */
    int n, n_options;
};

void script_fail(const struct script *s, const char *what) __attribute__((noreturn));

/* The trace of the operation that was just applied: its reply ("="), what it hands on, and each line of the state that it changed ("|"). */
void print_queue(struct script *s);
void print_topics(struct script *s); /* code, and which assignments have changed ("|") */
void print_told(struct script *s, const char *consumer, const struct joined *j);
void print_changes(struct script *s);
void print_all(struct script *s);    /* the whole state, with what is in flight */

#endif
