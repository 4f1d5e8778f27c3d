/* synaxis bench cache: from options to a plan, and from a result to what is printed. */
#include "cli/bench_cache_load.h"
#include "cli/bench_cache_report.h"
#include "cli/bench_cache_wire.h"
#include "cli/bench_plan.h"
#include "cli/cli.h"
#include "cli/commands.h"

#include <stdlib.h>
#include <string.h>

enum { LANES_MAX = 1000000, READS_DEFAULT = 90 };

/* get and set are mixtures, too. */
static bool read_workload(struct cli *c, uint32_t *reads)
{
    static const struct { const char *word; uint32_t reads; } words[] = {{"get", 100}, {"set", 0}, {"mixed", READS_DEFAULT}};
    const char *word = c->argc > 0 ? c->argv[0] : "mixed";
    for (uint32_t i = 0; i < 3; i++) {
        if (strcmp(word, words[i].word) == 0) {
            bool mixed = i == 2;
            if (c->opt.reads != CLI_UNSET && !mixed) {
                fprintf(c->err, "synaxis: bench cache: --reads is for the mixed workload\n");
                return false;
            }
            *reads = c->opt.reads != CLI_UNSET ? (uint32_t)c->opt.reads : words[i].reads;
            return true;
        }
    }
    fprintf(c->err, "synaxis: bench cache %s: want get, set or mixed\n", word);
    return false;
}

static bool read_zipf(struct cli *c, double *zipf)
{
    char *end = NULL;
    const char *text = c->opt.zipf != NULL ? c->opt.zipf : "0";
    *zipf = strtod(text, &end);
    if (end == text || *end != '\0' || !(*zipf >= 0 && *zipf <= 10)) {
        fprintf(c->err, "synaxis: --zipf %s: want a number from 0 to 10\n", text);
        return false;
    }
    return true;
}

static int make_plan(struct cli *c, struct cache_plan *p)
{
    const struct cli_options *o = &c->opt;
    uint32_t reads;
    double zipf;
    if (!read_workload(c, &reads) || !read_zipf(c, &zipf)) {
        return CLI_USAGE;
    }
    if (o->connections * o->pipeline > LANES_MAX || (o->name != NULL && strlen(o->name) > CACHE_PREFIX_MAX)) {
        fprintf(c->err, "synaxis: bench cache: too much: --connections times --pipeline, or --name\n");
        return CLI_USAGE;
    }
    *p = (struct cache_plan){
        .prefix = o->name != NULL ? o->name : "bench",
        .keys = (uint32_t)o->keys,
        .bytes = (uint32_t)o->bytes,
        .reads = reads,
        .zipf = zipf,
        .preload = o->preload,
    };
    return bench_read_run(c, &p->run);
}

static int run_plan(struct cli *c, const struct cache_plan *p)
{
    char why[400];
    struct cache_result *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return CLI_FAILED;
    }
    int code = CLI_OK;
    if (!bench_cache_run(p, r, why, sizeof why)) {
        code = bench_could_not_run(c, "cache", why);
    } else if (c->opt.json) {
        bench_cache_print_json(c->out, p, r);
    } else {
        bench_cache_print_text(c->out, p, r);
    }
    if (code == CLI_OK && r->all.count == 0) {
        fprintf(c->err, "synaxis: bench cache: not one operation was answered\n");
        code = CLI_FAILED;
    }
    free(r);
    return code;
}

int cmd_bench_cache(struct cli *c)
{
    struct cache_plan *p = calloc(1, sizeof *p);
    int code = p != NULL ? make_plan(c, p) : CLI_FAILED;
    if (code == CLI_OK) {
        code = run_plan(c, p);
    }
    free(p);
    return code;
}
