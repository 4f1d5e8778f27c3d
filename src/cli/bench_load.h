/* Load on locks. A lane acquires a lock of its own, releases it, and begins again: a pair. Loops and phases are bench_loop.h's. */
#ifndef SYN_CLI_BENCH_LOAD_H
#define SYN_CLI_BENCH_LOAD_H

#include "cli/bench_plan.h"
#include "utils/hist.h"

enum { BENCH_GAPS_MAX = 4096 };

struct bench_plan {
    struct bench_run run; /* rate: pairs */
    bool redis;
    uint32_t resources;
    uint64_t hold;        /* acquire this many locks, release none; 0: pairs */
    uint64_t ttl_ms;
    uint64_t gaps_us;     /* record every time without a grant longer than this; 0: none */
};

struct bench_gap {
    uint64_t from_us, to_us; /* unix time: comparable with other processes' clocks */
};

struct bench_result {
    struct hist acquire, release, pair; /* microseconds */
    uint64_t pairs, acquired;
    struct bench_tally tally;
    struct bench_gap gaps[BENCH_GAPS_MAX];
    uint32_t n_gaps;
};

/* Runs the plan. False: nothing could be measured; a sentence is in why. */
bool bench_load_run(const struct bench_plan *plan, struct bench_result *out, char *why, size_t why_size);

#endif
