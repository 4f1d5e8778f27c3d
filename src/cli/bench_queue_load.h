/* Load on a topic: publishers, and consumers that acknowledge. Loops and phases are bench_loop.h's.
 *
 *   publish   lanes publish a message (or a batch) each and wait for its acknowledgement
 *   consume   the topic is filled first; then the clock runs from the first claim to the last acknowledgement
 *   latency   open loop; messages carry when they were due, and are timed when a consumer has them */
#ifndef SYN_CLI_BENCH_QUEUE_LOAD_H
#define SYN_CLI_BENCH_QUEUE_LOAD_H

#include "cli/bench_plan.h"
#include "utils/hist.h"

enum queue_mode { QUEUE_PUBLISH, QUEUE_CONSUME, QUEUE_LATENCY };

struct queue_plan {
    struct bench_run run;      /* connections and pipeline of publishers; rate: messages */
    enum queue_mode mode;
    const char *topic;         /* exists already */
    uint32_t batch, bytes;     /* messages in a command, bytes of each */
    uint32_t consumers, count; /* of one group; messages asked for at once */
    uint64_t fill;             /* consume: messages to publish first */
};

struct queue_result {
    struct hist publish, deliver; /* microseconds: until acknowledged, until a consumer had it */
    uint64_t published, received, acked;
    struct bench_tally tally;
};

/* Runs the plan. False: nothing could be measured; a sentence is in why. */
bool bench_queue_run(const struct queue_plan *plan, struct queue_result *out, char *why, size_t why_size);

#endif
