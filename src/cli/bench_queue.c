/* synaxis bench queue: from options to a plan, a topic of its own around the load, and from a result to what is printed. */
#include "cli/bench_plan.h"
#include "cli/bench_queue_load.h"
#include "cli/bench_queue_report.h"
#include "cli/cli.h"
#include "cli/cli_ask.h"
#include "cli/commands.h"
#include "communication/resp.h"

#include <stdlib.h>

enum { LANES_MAX = 1000000, LATENCY_RATE = 1000, COUNT_DEFAULT = 256 };

static bool read_mode(struct cli *c, enum queue_mode *mode)
{
    static const char *const words[] = {"publish", "consume", "latency"};
    for (uint32_t i = 0; i < 3; i++) {
        if (c->argc == 0 || strcmp(c->argv[0], words[i]) == 0) {
            *mode = (enum queue_mode)i;
            return true;
        }
    }
    fprintf(c->err, "synaxis: bench queue %s: want publish, consume or latency\n", c->argv[0]);
    return false;
}

static int make_plan(struct cli *c, struct queue_plan *p)
{
    const struct cli_options *o = &c->opt;
    enum queue_mode mode;
    if (!read_mode(c, &mode)) {
        return CLI_USAGE;
    }
    if (o->connections * o->pipeline > LANES_MAX || o->batch * o->bytes > 64 << 20) {
        fprintf(c->err, "synaxis: bench queue: too much at once: --connections times --pipeline, or --batch times --bytes\n");
        return CLI_USAGE;
    }
    bool fill = mode == QUEUE_CONSUME; /* how it is filled is not what is measured: as fast as it goes */
    *p = (struct queue_plan){
        .mode = mode,
        .batch = fill ? 64 : (uint32_t)o->batch,
        .bytes = (uint32_t)o->bytes,
        .consumers = (uint32_t)o->consumers,
        .count = o->count != CLI_UNSET ? (uint32_t)o->count : COUNT_DEFAULT,
        .fill = o->fill,
    };
    int code = bench_read_run(c, &p->run);
    if (fill) {
        p->run.connections = p->run.pipeline = 4;
        p->run.rate = 0;
    } else if (mode == QUEUE_LATENCY && o->rate == 0) {
        p->run.rate = LATENCY_RATE;
    }
    return code;
}

/* QUEUE.CREATE or QUEUE.DELETE of the run's own topic. */
static int ask_topic(struct cli *c, const char *command, const char *topic)
{
    struct words w = {.n = 0};
    struct resp_client client;
    slice_t reply;
    words_add(&w, command);
    words_add(&w, topic);
    if (c->opt.partitions != CLI_UNSET && strcmp(command, "QUEUE.CREATE") == 0) {
        words_add(&w, "PARTITIONS");
        words_number(&w, c->opt.partitions);
    }
    int code = cli_client(c, &client);
    if (code == CLI_OK) {
        code = cli_ask(c, &client, &w, 0, &reply);
        resp_client_fini(&client);
    }
    return code;
}

static bool nothing_done(const struct queue_plan *p, const struct queue_result *r)
{
    return p->mode == QUEUE_CONSUME ? r->acked == 0 : r->published == 0;
}

static int run_plan(struct cli *c, const struct queue_plan *p)
{
    char why[400];
    struct queue_result *r = calloc(1, sizeof *r);
    int code = r != NULL ? CLI_OK : CLI_FAILED;
    if (r == NULL) {
        return code;
    }
    if (!bench_queue_run(p, r, why, sizeof why)) {
        code = bench_could_not_run(c, "queue", why);
    } else if (c->opt.json) {
        bench_queue_print_json(c->out, p, r);
    } else {
        bench_queue_print_text(c->out, p, r);
    }
    if (code == CLI_OK && nothing_done(p, r)) {
        fprintf(c->err, "synaxis: bench queue: not one message was acknowledged\n");
        code = CLI_FAILED;
    }
    free(r);
    return code;
}

int cmd_bench_queue(struct cli *c)
{
    struct queue_plan *p = calloc(1, sizeof *p);
    char id[17], topic[32];
    int code = p != NULL ? make_plan(c, p) : CLI_FAILED;
    cli_random_id(id);
    snprintf(topic, sizeof topic, "bench-%s", id);
    bool own = c->opt.name == NULL;
    if (code == CLI_OK) {
        p->topic = own ? topic : c->opt.name;
        code = own ? ask_topic(c, "QUEUE.CREATE", p->topic) : CLI_OK;
    }
    if (code == CLI_OK) {
        code = run_plan(c, p);
        if (own) {
            ask_topic(c, "QUEUE.DELETE", p->topic);
        }
    }
    free(p);
    return code;
}
