/* Load on a cache: lanes that read and write keys, uniformly or by Zipf's law. Closed and open loop mean what they mean in bench_load.h.
 *
 * The commands are GET and SET: any server that speaks RESP can be measured. */
#ifndef SYN_CLI_BENCH_CACHE_LOAD_H
#define SYN_CLI_BENCH_CACHE_LOAD_H

#include "cli/bench_meters.h"
#include "cli/resp_client.h"
#include "utils/hist.h"

#include <stdio.h>

struct cache_plan {
    struct endpoint endpoints[ENDPOINTS_MAX];
    uint32_t n_endpoints;
    const char *password;
    const char *prefix;             /* of every key; at most CACHE_PREFIX_MAX bytes */
    uint32_t connections, pipeline; /* lanes = connections x pipeline */
    uint32_t keys, bytes;           /* bytes of a value */
    uint32_t reads;                 /* of a hundred operations */
    double zipf;                    /* exponent; 0: every key alike */
    bool preload;                   /* every key is set once before the clock starts */
    uint64_t rate;                  /* operations a second; 0: closed loop */
    uint64_t warmup_us, measure_us;
    bool kill_from_stdin;
    int pids[BENCH_PIDS_MAX];
    uint32_t n_pids;
    FILE *bar;
};

struct cache_result {
    struct hist all, get, set; /* microseconds */
    uint64_t absent;           /* gets that found no key */
    uint64_t preloaded, unsent, reconnects;
    struct bench_meters meters;
    uint64_t killed_us, failover_us; /* from the kill to the first answer to what was sent a millisecond or more after it; 0: none */
    struct bench_errors errors;
};

/* Runs the plan. False: nothing could be measured; a sentence is in why. */
bool bench_cache_run(const struct cache_plan *plan, struct cache_result *out, char *why, size_t why_size);

#endif
