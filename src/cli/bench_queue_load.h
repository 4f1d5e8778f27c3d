/* Load on a topic: publishers, and consumers that acknowledge. Closed and open loop mean what they mean in bench_load.h.
 *
 *   publish   lanes publish a message (or a batch) each and wait for its acknowledgement
 *   consume   the topic is filled first; then the clock runs from the first claim to the last acknowledgement
 *   latency   open loop; messages carry when they were due, and are timed when a consumer has them */
#ifndef SYN_CLI_BENCH_QUEUE_LOAD_H
#define SYN_CLI_BENCH_QUEUE_LOAD_H

#include "cli/bench_meters.h"
#include "cli/resp_client.h"
#include "utils/hist.h"

#include <stdio.h>

enum queue_mode { QUEUE_PUBLISH, QUEUE_CONSUME, QUEUE_LATENCY };

struct queue_plan {
    enum queue_mode mode;
    struct endpoint endpoints[ENDPOINTS_MAX];
    uint32_t n_endpoints;
    const char *password;
    const char *topic;              /* exists already */
    uint32_t connections, pipeline; /* of publishers: lanes = connections x pipeline */
    uint32_t batch, bytes;          /* messages in a command, bytes of each */
    uint32_t consumers, count;      /* of one group; messages asked for at once */
    uint64_t rate;                  /* messages a second; 0: closed loop */
    uint64_t fill;                  /* consume: messages to publish first */
    uint64_t warmup_us, measure_us;
    bool kill_from_stdin;
    int pids[BENCH_PIDS_MAX];
    uint32_t n_pids;
    FILE *bar;
};

struct queue_result {
    struct hist publish, deliver; /* microseconds: until acknowledged, until a consumer had it */
    uint64_t published, received, acked, unsent, reconnects;
    struct bench_meters meters;
    uint64_t killed_us, failover_us; /* from the kill to the first acknowledgement of what was sent a millisecond or more after it; 0: none */
    struct bench_errors errors;
};

/* Runs the plan. False: nothing could be measured; a sentence is in why. */
bool bench_queue_run(const struct queue_plan *plan, struct queue_result *out, char *why, size_t why_size);

#endif
