/* Messages a second, percentiles, processor time per message. What counts as a message of the run: published and acknowledged in the measured time;
 * in consume mode, acknowledged by the consumers. */
#include "cli/bench_queue_report.h"

#include "cli/bench_report.h"

#include <inttypes.h>

struct figures {
    uint64_t messages;
    double seconds, per_second, client_us, server_us; /* per message */
};

static struct figures figures_of(const struct queue_plan *plan, const struct queue_result *r)
{
    struct figures f = {.messages = plan->mode == QUEUE_CONSUME ? r->acked : r->published, .seconds = (double)r->tally.meters.elapsed_us / 1e6};
    double n = f.messages > 0 ? (double)f.messages : 1;
    f.per_second = r->tally.meters.elapsed_us > 0 ? (double)f.messages / f.seconds : 0;
    f.client_us = (double)r->tally.meters.client_cpu_us / n;
    f.server_us = (double)bench_meters_servers_us(&r->tally.meters, plan->run.n_pids) / n;
    return f;
}

static const char *mode_name(const struct queue_plan *plan)
{
    static const char *const names[] = {"publish", "consume", "latency"};
    return names[plan->mode];
}

void bench_queue_print_text(FILE *f, const struct queue_plan *plan, const struct queue_result *r)
{
    struct figures x = figures_of(plan, r);
    if (plan->mode == QUEUE_CONSUME) {
        fprintf(f, "consume: %u consumers of one group, up to %u messages a claim, each acknowledged\n", plan->consumers, plan->count);
    } else {
        fprintf(f, "%s, %s loop: %u connections x %u lanes, %u messages of %u bytes a command\n", mode_name(plan), plan->run.rate > 0 ? "open" : "closed",
                plan->run.connections, plan->run.pipeline, plan->batch, plan->bytes);
    }
    fprintf(f, "%.0f messages/s over %.1f s\n", x.per_second, x.seconds);
    if (plan->mode != QUEUE_CONSUME) {
        bench_print_text_line(f, "publish", &r->publish);
    }
    bench_print_text_line(f, "deliver", &r->deliver);
    fprintf(f, "  client CPU %.2f us per message", x.client_us);
    if (plan->run.n_pids > 0) {
        fprintf(f, ", server CPU %.2f us per message (%u processes)", x.server_us, plan->run.n_pids);
    }
    fputc('\n', f);
    bench_print_text_tally(f, &r->tally, "messages", "acknowledged publish");
}

/* "latency_us" is what the mode is about: until acknowledged, or until delivered. */
void bench_queue_print_json(FILE *f, const struct queue_plan *plan, const struct queue_result *r)
{
    struct figures x = figures_of(plan, r);
    fprintf(f, "{\"target\":\"synaxis\",\"mode\":\"%s\",\"loop\":\"%s\",\"connections\":%u,\"pipeline\":%u,\"batch\":%u,\"bytes\":%u,\"consumers\":%u,\"count\":%u,"
               "\"rate\":%" PRIu64 ",",
            mode_name(plan), plan->run.rate > 0 ? "open" : "closed", plan->run.connections, plan->run.pipeline, plan->batch, plan->bytes, plan->consumers, plan->count,
            plan->run.rate);
    fprintf(f, "\"seconds\":%.3f,\"messages\":%" PRIu64 ",\"messages_per_s\":%.1f,\"received\":%" PRIu64 ",\"acked\":%" PRIu64 ",", x.seconds, x.messages,
            x.per_second, r->received, r->acked);
    bench_print_json_hist(f, "publish", &r->publish);
    bench_print_json_hist(f, "latency", plan->mode == QUEUE_LATENCY ? &r->deliver : &r->publish);
    bench_print_json_errors(f, &r->tally.errors);
    fprintf(f, "\"unsent\":%" PRIu64 ",\"reconnects\":%" PRIu64 ",\"client_cpu_us_per_message\":%.3f,\"server_cpu_us_per_message\":%.3f,", r->tally.unsent,
            r->tally.reconnects, x.client_us, x.server_us);
    fprintf(f, "\"server_cpu_us\":%" PRIu64 ",\"killed\":%s,\"failover_us\":%" PRIu64 "}\n", bench_meters_servers_us(&r->tally.meters, plan->run.n_pids),
            r->tally.killed_us > 0 ? "true" : "false", r->tally.failover_us);
}
