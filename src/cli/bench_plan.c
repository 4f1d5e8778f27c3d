/* The options that the benchmarks share, read into the part of their plans that they share. */
#include "cli/bench_plan.h"

#include "cli/cli.h"
#include "cli/cli_ask.h"

#include <stdlib.h>
#include <unistd.h>

/* --server-pids; false with a line on c->err. */
static bool read_pids(struct cli *c, struct bench_run *r)
{
    const char *at = c->opt.server_pids;
    while (at != NULL && *at != '\0') {
        char *end;
        long pid = strtol(at, &end, 10);
        if (end == at || pid <= 0 || pid > INT32_MAX || (*end != ',' && *end != '\0') || r->n_pids == BENCH_PIDS_MAX) {
            fprintf(c->err, "synaxis: --server-pids %s: want at most %d process ids, separated by commas\n", c->opt.server_pids, BENCH_PIDS_MAX);
            return false;
        }
        r->pids[r->n_pids++] = (int)pid;
        at = end + (*end == ',');
    }
    return true;
}

int bench_read_run(struct cli *c, struct bench_run *r)
{
    const struct cli_options *o = &c->opt;
    uint64_t warmup_s = o->warmup_s != UINT64_MAX ? o->warmup_s : o->seconds < 2 ? o->seconds : 2;
    *r = (struct bench_run){
        .password = o->password != NULL ? o->password : getenv("SYNAXIS_PASSWORD"),
        .connections = (uint32_t)o->connections,
        .pipeline = (uint32_t)o->pipeline,
        .rate = o->rate,
        .warmup_us = warmup_s * 1000000,
        .measure_us = o->seconds * 1000000,
        .kill_from_stdin = o->kill_from_stdin,
        .bar = isatty(STDERR_FILENO) && !o->quiet ? c->err : NULL,
    };
    return read_pids(c, r) ? cli_endpoints(c, r->endpoints, &r->n_endpoints) : CLI_USAGE;
}

int bench_could_not_run(struct cli *c, const char *what, const char *why)
{
    fprintf(c->err, "synaxis: bench %s: %s\n  Name live nodes with --nodes; each must accept connections before the run starts.\n", what, why);
    return CLI_NO_QUORUM;
}
