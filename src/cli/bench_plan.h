/* What the benchmarks' plans, options and results have alike. */
#ifndef SYN_CLI_BENCH_PLAN_H
#define SYN_CLI_BENCH_PLAN_H

#include "cli/bench_meters.h"
#include "cli/resp_client.h"

#include <stdio.h>

struct cli;

/* Whom a load runs against, how hard and how long. */
struct bench_run {
    struct endpoint endpoints[ENDPOINTS_MAX];
    uint32_t n_endpoints;
    const char *password;
    uint32_t connections, pipeline; /* lanes = connections x pipeline */
    uint64_t rate;                  /* a second; 0: closed loop */
    uint64_t warmup_us, measure_us;
    bool kill_from_stdin;           /* a line with a process id on stdin: kill -9 it and time the next answer */
    int pids[BENCH_PIDS_MAX];       /* of servers whose processor time is measured */
    uint32_t n_pids;
    FILE *bar;                      /* progress; NULL: none */
};

/* What is counted of any load. */
struct bench_tally {
    struct bench_meters meters;
    struct bench_errors errors;
    uint64_t unsent;      /* scheduled, but no lane was ever free for it */
    uint64_t reconnects;
    /* failover_us: from the kill to the first answer to what was sent a millisecond or more after it, so that no answer the dead process had under way counts;
     * 0: none came. */
    uint64_t killed_us, failover_us;
};

/* From the options that the benchmarks share. CLI_OK, or another exit code with a line on c->err. */
int bench_read_run(struct cli *c, struct bench_run *r);
/* Says on c->err why `what` could not run; CLI_NO_QUORUM. */
int bench_could_not_run(struct cli *c, const char *what, const char *why);

#endif
