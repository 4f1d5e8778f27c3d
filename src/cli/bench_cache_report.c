/* Operations a second, percentiles of gets and sets, processor time per operation; of what was answered in the measured time. */
#include "cli/bench_cache_report.h"

#include "cli/bench_report.h"

#include <inttypes.h>

struct figures {
    double seconds, per_second, client_us, server_us; /* per operation */
};

static struct figures figures_of(const struct cache_plan *plan, const struct cache_result *r)
{
    double n = r->all.count > 0 ? (double)r->all.count : 1;
    struct figures f = {.seconds = (double)r->tally.meters.elapsed_us / 1e6};
    f.per_second = r->tally.meters.elapsed_us > 0 ? (double)r->all.count / f.seconds : 0;
    f.client_us = (double)r->tally.meters.client_cpu_us / n;
    f.server_us = (double)bench_meters_servers_us(&r->tally.meters, plan->run.n_pids) / n;
    return f;
}

void bench_cache_print_text(FILE *f, const struct cache_plan *plan, const struct cache_result *r)
{
    struct figures x = figures_of(plan, r);
    fprintf(f, "%s loop: %u connections x %u lanes, %u %% reads of %u keys", plan->run.rate > 0 ? "open" : "closed", plan->run.connections, plan->run.pipeline,
            plan->reads, plan->keys);
    if (plan->zipf > 0) {
        fprintf(f, " by zipf(%g)", plan->zipf);
    }
    fprintf(f, ", %u bytes\n%.0f operations/s over %.1f s\n", plan->bytes, x.per_second, x.seconds);
    bench_print_text_line(f, "get", &r->get);
    bench_print_text_line(f, "set", &r->set);
    fprintf(f, "  client CPU %.2f us per operation", x.client_us);
    if (plan->run.n_pids > 0) {
        fprintf(f, ", server CPU %.2f us per operation (%u processes)", x.server_us, plan->run.n_pids);
    }
    fputc('\n', f);
    if (r->absent > 0) {
        fprintf(f, "  %" PRIu64 " gets found no key%s\n", r->absent, plan->preload ? "" : " (--preload sets all of them first)");
    }
    bench_print_text_tally(f, &r->tally, "operations", "answer");
}

void bench_cache_print_json(FILE *f, const struct cache_plan *plan, const struct cache_result *r)
{
    struct figures x = figures_of(plan, r);
    fprintf(f, "{\"loop\":\"%s\",\"connections\":%u,\"pipeline\":%u,\"reads_percent\":%u,\"keys\":%u,\"zipf\":%g,\"bytes\":%u,\"rate\":%" PRIu64 ",",
            plan->run.rate > 0 ? "open" : "closed", plan->run.connections, plan->run.pipeline, plan->reads, plan->keys, plan->zipf, plan->bytes, plan->run.rate);
    fprintf(f, "\"seconds\":%.3f,\"operations\":%" PRIu64 ",\"operations_per_s\":%.1f,\"absent\":%" PRIu64 ",\"preloaded\":%" PRIu64 ",", x.seconds,
            r->all.count, x.per_second, r->absent, r->preloaded);
    bench_print_json_hist(f, "latency", &r->all);
    bench_print_json_hist(f, "get", &r->get);
    bench_print_json_hist(f, "set", &r->set);
    bench_print_json_errors(f, &r->tally.errors);
    fprintf(f, "\"unsent\":%" PRIu64 ",\"reconnects\":%" PRIu64 ",\"client_cpu_us_per_op\":%.3f,\"server_cpu_us_per_op\":%.3f,", r->tally.unsent, r->tally.reconnects,
            x.client_us, x.server_us);
    fprintf(f, "\"killed\":%s,\"failover_us\":%" PRIu64 "}\n", r->tally.killed_us > 0 ? "true" : "false", r->tally.failover_us);
}
