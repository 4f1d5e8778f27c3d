/* What the benchmarks read from their options alike. */
#ifndef SYN_CLI_BENCH_PLAN_H
#define SYN_CLI_BENCH_PLAN_H

#include "cli/cli_args.h"

/* --server-pids into pids, at most BENCH_PIDS_MAX. False with a line on c->err. */
bool bench_read_pids(struct cli *c, int *pids, uint32_t *n);

#endif
