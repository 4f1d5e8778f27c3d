/* The load generator: one thread, one epoll, no allocation per operation.
 *
 * A lane is one client: it acquires a lock of its own, releases it, and begins again; a connection carries `pipeline` lanes.
 * Closed loop: a lane begins again at once; this finds the saturation. Open loop: pairs begin at start + i/rate whether or not
 * earlier ones are done, and latency counts from that scheduled time, so that a stall is not hidden by the load waiting for it
 * (coordinated omission); this is what latencies are read from. */
#ifndef SYN_CLI_BENCH_LOAD_H
#define SYN_CLI_BENCH_LOAD_H

#include "cli/bench_meters.h"
#include "cli/resp_client.h"
#include "utils/hist.h"

#include <stdio.h>

enum { BENCH_GAPS_MAX = 4096 };

struct bench_plan {
    bool redis;
    struct endpoint endpoints[ENDPOINTS_MAX];
    uint32_t n_endpoints;
    const char *password;
    uint32_t connections, pipeline, resources;
    uint64_t rate;      /* pairs a second; 0: closed loop */
    uint64_t hold;      /* acquire this many locks, release none; 0: pairs */
    uint64_t warmup_us, measure_us, ttl_ms;
    uint64_t gaps_us;   /* record every time without a grant longer than this; 0: none */
    bool kill_from_stdin; /* a line with a process id on stdin: kill -9 it and time the next grant */
    int pids[BENCH_PIDS_MAX];
    uint32_t n_pids;
    FILE *bar;          /* progress; NULL: none */
};

struct bench_gap {
    uint64_t from_us, to_us; /* unix time: comparable with other processes' clocks */
};

struct bench_result {
    struct hist acquire, release, pair; /* microseconds */
    uint64_t pairs, acquired, unsent; /* unsent: scheduled pairs that never got a free lane */
    struct bench_meters meters;
    uint64_t reconnects;
    /* failover_us: from the kill to the first grant of a request that was sent a millisecond or more after it, so that no answer
     * the dead process had under way counts; 0: none came. */
    uint64_t killed_us, failover_us;
    struct bench_errors errors;
    struct bench_gap gaps[BENCH_GAPS_MAX];
    uint32_t n_gaps;
};

/* Runs the plan. False: nothing could be measured; a sentence is in why. */
bool bench_load_run(const struct bench_plan *plan, struct bench_result *out, char *why, size_t why_size);

#endif
