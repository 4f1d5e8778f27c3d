/* Load on a cache: lanes that read and write keys, uniformly or by Zipf's law. Loops and phases are
 * bench_loop.h's.
 *
 * The commands are GET and SET: any server that speaks RESP can be measured. */
#ifndef SYN_CLI_BENCH_CACHE_LOAD_H
#define SYN_CLI_BENCH_CACHE_LOAD_H

#include "cli/bench_plan.h"
#include "utils/hist.h"

struct cache_plan {
    struct bench_run run; /* rate: operations */
    const char *prefix;   /* of every key; at most CACHE_PREFIX_MAX bytes */
    uint32_t keys, bytes; /* bytes of a value */
    uint32_t reads;       /* of a hundred operations */
    double zipf;          /* exponent; 0: every key alike */
    bool preload;         /* every key is set once before the clock starts */
};

struct cache_result {
    struct hist all, get, set; /* microseconds */
    uint64_t absent;           /* gets that found no key */
    uint64_t preloaded;
    struct bench_tally tally;
};

/* Runs the plan. False: nothing could be measured; a sentence is in why. */
bool bench_cache_run(const struct cache_plan *plan, struct cache_result *out, char *why, size_t why_size);

#endif
