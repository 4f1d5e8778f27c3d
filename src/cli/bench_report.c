/* Percentiles and processor time per operation; an operation is one durable write: a pair has two, a held lock one. */
#include "cli/bench_report.h"

#include <inttypes.h>

struct figures {
    uint64_t ops, server_cpu_us;
    double seconds, per_second, client_us_per_op, server_us_per_op;
};

static struct figures figures_of(const struct bench_plan *plan, const struct bench_result *r)
{
    struct figures f = {.ops = r->acquired + r->release.count, .seconds = (double)r->tally.meters.elapsed_us / 1e6};
    f.server_cpu_us = bench_meters_servers_us(&r->tally.meters, plan->run.n_pids);
    uint64_t done = plan->hold > 0 ? r->acquired : r->pairs;
    f.per_second = r->tally.meters.elapsed_us > 0 ? (double)done / f.seconds : 0;
    f.client_us_per_op = f.ops > 0 ? (double)r->tally.meters.client_cpu_us / (double)f.ops : 0;
    f.server_us_per_op = f.ops > 0 ? (double)f.server_cpu_us / (double)f.ops : 0;
    return f;
}

void bench_print_text_line(FILE *f, const char *name, const struct hist *h)
{
    if (h->count > 0) {
        fprintf(f, "  %-8s p50 %8.3f ms   p99 %8.3f ms   p99.9 %8.3f ms   max %8.3f ms\n", name, (double)hist_percentile_us(h, 50) / 1e3,
                (double)hist_percentile_us(h, 99) / 1e3, (double)hist_percentile_us(h, 99.9) / 1e3, (double)h->max_us / 1e3);
    }
}

void bench_print_text_tally(FILE *f, const struct bench_tally *t, const char *things, const char *answer)
{
    for (uint32_t i = 0; i < t->errors.n; i++) {
        fprintf(f, "  refused  %s: %" PRIu64 "\n", t->errors.v[i].word, t->errors.v[i].count);
    }
    if (t->unsent > 0) {
        fprintf(f, "  %" PRIu64 " scheduled %s found no free lane: the rate is beyond what is served, and the latencies are the queue's\n", t->unsent, things);
    }
    if (t->killed_us > 0) {
        fprintf(f, "  killed; next %s after %.1f ms%s\n", answer, (double)t->failover_us / 1e3, t->failover_us > 0 ? "" : " (none came)");
    }
}

void bench_print_text(FILE *f, const struct bench_plan *plan, const struct bench_result *r)
{
    struct figures x = figures_of(plan, r);
    if (plan->run.rate > 0) {
        fprintf(f, "open loop, %" PRIu64 " pairs/s asked, ", plan->run.rate);
    } else {
        fprintf(f, "closed loop, ");
    }
    fprintf(f, "%u connections x %u lanes, %s\n", plan->run.connections, plan->run.pipeline, plan->redis ? "redis: SET NX PX + DEL" : "synaxis: LOCK.ACQUIRE + LOCK.RELEASE");
    fprintf(f, "%.0f %s/s over %.1f s\n", x.per_second, plan->hold > 0 ? "locks" : "pairs", x.seconds);
    bench_print_text_line(f, "acquire", &r->acquire);
    bench_print_text_line(f, "release", &r->release);
    bench_print_text_line(f, "pair", &r->pair);
    fprintf(f, "  client CPU %.2f us per operation", x.client_us_per_op);
    if (plan->run.n_pids > 0) {
        fprintf(f, ", server CPU %.2f us per operation (%u processes)", x.server_us_per_op, plan->run.n_pids);
    }
    fputc('\n', f);
    bench_print_text_tally(f, &r->tally, "pairs", "grant");
    for (uint32_t i = 0; i < r->n_gaps; i++) {
        fprintf(f, "  no grant for %.1f ms\n", (double)(r->gaps[i].to_us - r->gaps[i].from_us) / 1e3);
    }
}

void bench_print_json_hist(FILE *f, const char *name, const struct hist *h)
{
    fprintf(f, "\"%s_us\":{\"count\":%" PRIu64 ",\"mean\":%.1f,\"p50\":%" PRIu64 ",\"p90\":%" PRIu64 ",\"p99\":%" PRIu64 ",\"p999\":%" PRIu64
               ",\"max\":%" PRIu64 "},",
            name, h->count, hist_mean_us(h), hist_percentile_us(h, 50), hist_percentile_us(h, 90), hist_percentile_us(h, 99),
            hist_percentile_us(h, 99.9), h->max_us);
}

/* Error words come from a server: only letters and the parentheses of our own are let through. */
void bench_print_json_errors(FILE *f, const struct bench_errors *e)
{
    fputs("\"errors\":{", f);
    for (uint32_t i = 0; i < e->n; i++) {
        fputs(i > 0 ? ",\"" : "\"", f);
        for (const char *p = e->v[i].word; *p != '\0'; p++) {
            bool plain = (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') || *p == '(' || *p == ')';
            fputc(plain ? *p : '?', f);
        }
        fprintf(f, "\":%" PRIu64, e->v[i].count);
    }
    fputs("},", f);
}

void bench_print_json(FILE *f, const struct bench_plan *plan, const struct bench_result *r)
{
    struct figures x = figures_of(plan, r);
    fprintf(f, "{\"target\":\"%s\",\"mode\":\"%s\",\"connections\":%u,\"pipeline\":%u,\"resources\":%u,\"rate\":%" PRIu64 ",",
            plan->redis ? "redis" : "synaxis", plan->hold > 0 ? "hold" : plan->run.rate > 0 ? "open" : "closed", plan->run.connections, plan->run.pipeline,
            plan->resources, plan->run.rate);
    fprintf(f, "\"seconds\":%.3f,\"pairs\":%" PRIu64 ",\"acquired\":%" PRIu64 ",\"%s\":%.1f,", x.seconds, r->pairs, r->acquired,
            plan->hold > 0 ? "locks_per_s" : "pairs_per_s", x.per_second);
    bench_print_json_hist(f, "acquire", &r->acquire);
    bench_print_json_hist(f, "release", &r->release);
    bench_print_json_hist(f, "pair", &r->pair);
    bench_print_json_errors(f, &r->tally.errors);
    fprintf(f, "\"unsent\":%" PRIu64 ",\"reconnects\":%" PRIu64 ",\"client_cpu_us_per_op\":%.3f,\"server_cpu_us_per_op\":%.3f,\"server_cpu_us\":[",
            r->tally.unsent, r->tally.reconnects, x.client_us_per_op, x.server_us_per_op);
    for (uint32_t i = 0; i < plan->run.n_pids; i++) {
        fprintf(f, "%s%" PRIu64, i > 0 ? "," : "", r->tally.meters.server_cpu_us[i]);
    }
    fprintf(f, "],\"killed\":%s,\"failover_us\":%" PRIu64 ",\"gaps_unix_us\":[", r->tally.killed_us > 0 ? "true" : "false", r->tally.failover_us);
    for (uint32_t i = 0; i < r->n_gaps; i++) {
        fprintf(f, "%s[%" PRIu64 ",%" PRIu64 "]", i > 0 ? "," : "", r->gaps[i].from_us, r->gaps[i].to_us);
    }
    fputs("]}\n", f);
}
