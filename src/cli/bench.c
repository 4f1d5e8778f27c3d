/* synaxis bench lock: from options to a plan, and from a result to what is printed. */
#include "cli/bench_load.h"
#include "cli/bench_plan.h"
#include "cli/bench_report.h"
#include "cli/bench_wire.h"
#include "cli/cli.h"
#include "cli/commands.h"

#include <stdlib.h>
#include <string.h>

static int make_plan(struct cli *c, struct bench_plan *p)
{
    const struct cli_options *o = &c->opt;
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
        .resources = (uint32_t)o->resources,
        .hold = o->hold,
        .ttl_ms = o->ttl_ms,
        .gaps_us = o->gaps_ms * 1000,
    };
    int code = bench_read_run(c, &p->run);
    if (o->hold > 0) { /* until all are held */
        p->run.warmup_us = 0;
        p->run.measure_us = 3600ull * 1000000;
    }
    return code;
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
        code = bench_could_not_run(c, "lock", why);
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
