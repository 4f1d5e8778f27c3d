/* synaxis bench lock: from options to a plan, and from a result to what is printed. */
#include "cli/bench_load.h"
#include "cli/bench_plan.h"
#include "cli/bench_report.h"
#include "cli/bench_wire.h"
#include "cli/cli.h"
#include "cli/cli_ask.h"
#include "cli/commands.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool bench_read_pids(struct cli *c, int *pids, uint32_t *n)
{
    const char *at = c->opt.server_pids;
    while (at != NULL && *at != '\0') {
        char *end;
        long pid = strtol(at, &end, 10);
        if (end == at || pid <= 0 || pid > INT32_MAX || (*end != ',' && *end != '\0') || *n == BENCH_PIDS_MAX) {
            fprintf(c->err, "synaxis: --server-pids %s: want at most %d process ids, separated by commas\n", c->opt.server_pids, BENCH_PIDS_MAX);
            return false;
        }
        pids[(*n)++] = (int)pid;
        at = end + (*end == ',');
    }
    return true;
}

static int make_plan(struct cli *c, struct bench_plan *p)
{
    const struct cli_options *o = &c->opt;
    uint64_t warmup_s = o->warmup_s != UINT64_MAX ? o->warmup_s : o->seconds < 2 ? o->seconds : 2;
    bool synaxis = strcmp(o->target, "synaxis") == 0;
    if (!synaxis && strcmp(o->target, "redis") != 0) {
        fprintf(c->err, "synaxis: --target %s: want synaxis or redis\n", o->target);
        return CLI_USAGE;
    }
    if (o->connections * o->pipeline > WIRE_LANES_MAX / 10) {
        fprintf(c->err, "synaxis: --connections times --pipeline is beyond %d\n", WIRE_LANES_MAX / 10);
        return CLI_USAGE;
    }
    if (o->hold > 0 && o->rate > 0) {
        fprintf(c->err, "synaxis: --hold and --rate exclude each other\n");
        return CLI_USAGE;
    }
    *p = (struct bench_plan){
        .redis = !synaxis,
        .password = o->password != NULL ? o->password : getenv("SYNAXIS_PASSWORD"),
        .connections = (uint32_t)o->connections,
        .pipeline = (uint32_t)o->pipeline,
        .resources = (uint32_t)o->resources,
        .rate = o->rate,
        .hold = o->hold,
        .warmup_us = o->hold > 0 ? 0 : warmup_s * 1000000,
        .measure_us = (o->hold > 0 ? 3600 : o->seconds) * 1000000,
        .ttl_ms = o->ttl_ms,
        .gaps_us = o->gaps_ms * 1000,
        .kill_from_stdin = o->kill_from_stdin,
        .bar = isatty(STDERR_FILENO) && !o->quiet ? c->err : NULL,
    };
    return bench_read_pids(c, p->pids, &p->n_pids) ? cli_endpoints(c, p->endpoints, &p->n_endpoints) : CLI_USAGE;
}

static int run_plan(struct cli *c, const struct bench_plan *p)
{
    char why[400];
    struct bench_result *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return CLI_FAILED;
    }
    int code = CLI_OK;
    if (!bench_load_run(p, r, why, sizeof why)) {
        fprintf(c->err, "synaxis: bench lock: %s\n  Name live nodes with --nodes; each must accept connections before the run starts.\n", why);
        code = CLI_NO_QUORUM;
    } else if (c->opt.json) {
        bench_print_json(c->out, p, r);
    } else {
        bench_print_text(c->out, p, r);
    }
    if (code == CLI_OK && r->acquired == 0) {
        fprintf(c->err, "synaxis: bench lock: not one lock was acquired\n");
        code = CLI_FAILED;
    }
    free(r);
    return code;
}

int cmd_bench_lock(struct cli *c)
{
    struct bench_plan *p = calloc(1, sizeof *p);
    int code = p != NULL ? make_plan(c, p) : CLI_FAILED;
    if (code == CLI_OK) {
        code = run_plan(c, p);
    }
    free(p);
    return code;
}
