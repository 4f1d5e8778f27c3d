/* One seed from start to end: the calendar's loop, phase one, phase two, the verdict (docs/simulator.md, "A run"). */
#include "sim_cache.h"
#include "sim_queue.h"

#include "utils/hash.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { TRACE_BYTES = 1 << 20, SETTLE_EVERY_US = 200000, LIVENESS_US = 60000000, SECONDS_DEFAULT = 30, SWEEP_EVENTS = 1024 };

void sim_trace(struct sim *s, const char *fmt, ...)
{
    char line[320];
    int n = snprintf(line, sizeof line, "%10.3f ", (double)s->now_us / 1e6);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - (size_t)n, fmt, ap);
    va_end(ap);
    size_t len = (size_t)(n + m) < sizeof line - 1 ? (size_t)(n + m) : sizeof line - 2;
    line[len++] = '\n';
    if (s->o.verbose) {
        fwrite(line, 1, len, stdout);
    }
    if (s->o.trace) {
        if (s->r->trace.len > TRACE_BYTES) {
            buf_consume(&s->r->trace, TRACE_BYTES / 2);
        }
        buf_append(&s->r->trace, line, len);
    }
}

void sim_fail(struct sim *s, const char *fmt, ...)
{
    if (s->failed) {
        return;
    }
    s->failed = s->r->failed = true;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->r->reason, sizeof s->r->reason, fmt, ap);
    va_end(ap);
    TRACE(s, "FAILED: %s", s->r->reason);
}

void sim_mix(struct sim *s, uint64_t v)
{
    s->hash = hash_u64(s->hash ^ v);
}

void sim_at(struct sim *s, uint64_t at_us, enum event_kind kind, uint32_t node, uint64_t a, uint64_t b, void *data)
{
    struct sim_event ev = {.at_us = at_us, .kind = kind, .node = node, .a = a, .b = b, .data = data};
    ev.life = s->nodes[node].life;
    heap_push(&s->heap, ev);
}

/* By a table of -log2 in 256ths: the same on every machine, unlike log(). */
uint64_t draw_exp(struct prng *g, uint64_t mean)
{
    if (mean == 0) {
        return 0;
    }
    uint64_t u = prng_u64(g) | 1, bits = 0;
    while (!(u >> 63)) {
        u <<= 1;
        bits++;
    }
    uint64_t frac = (u << 1) >> 56;                    /* 0..255 of the mantissa */
    uint64_t log2_256 = bits * 256 + (256 - frac);    /* about -log2, linear within an octave */
    uint64_t v = log2_256 * 177 / 256;                 /* times ln 2, in 256ths */
    v = v < 5120 ? v : 5120;
    return mean * v / 256;
}

static void draw_shape(struct sim *s)
{
    static const uint32_t sizes[] = {1, 3, 3, 3, 3, 5, 5, 2, 4, 7};
    struct prng *g = &s->prng;
    uint32_t drawn = sizes[prng_below(g, sizeof sizes / sizeof sizes[0])];
    uint32_t groups = (uint32_t)prng_range(g, 1, 4), clients = (uint32_t)prng_range(g, 2, 10);
    s->n_nodes = s->o.nodes ? s->o.nodes : s->o.lite ? 3 : drawn;
    s->n_groups = s->o.groups ? s->o.groups : s->o.lite ? 1 + groups / 3 : groups;
    s->n_clients = s->o.clients ? s->o.clients : s->o.lite ? 2 + clients / 3 : clients;
}

static void sim_open(struct sim *s, const struct sim_options *o, struct sim_result *r)
{
    *r = (struct sim_result){0};
    s->o = *o;
    s->r = r;
    s->o.seconds = o->seconds ? o->seconds : SECONDS_DEFAULT;
    prng_init(&s->prng, o->seed);
    heap_init(&s->heap);
    s->next_id = 1;
    s->now_us = 1000;
    draw_shape(s);
    faults_draw(s);
    cache_sim_open(s);
    queue_sim_open(s);
    raft_check_init(s);
    resources_init(s);
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        sim_node_make(s, i);
        raft_check_forget(&s->nodes[i]);
        s->nodes[i].starting = true;
        sim_at(s, s->now_us + prng_below(&s->prng, 200000), SIM_START, i, 0, 0, NULL);
    }
    faults_schedule(s);
    clients_start(s);
}

static void sim_close(struct sim *s)
{
    struct sim_event ev;
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        struct sim_node *n = &s->nodes[i];
        n->dead_for_good = true;
        sim_node_die(s, n, DEATH_PROCESS);
    }
    while (heap_pop(&s->heap, &ev)) {
        if (ev.kind == SIM_REPLY) {
            buf_fini(ev.data);
            free(ev.data);
        } else if (ev.data != NULL) {
            sim_node_event(s, &s->nodes[ev.node], &ev);
        }
    }
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        sim_node_unmake(s, &s->nodes[i]);
    }
    clients_fini(s);
    queue_sim_close(s);
    cache_sim_close(s);
    raft_check_fini(s);
    heap_fini(&s->heap);
    free(s->links);
}

static void dispatch(struct sim *s, const struct sim_event *ev)
{
    struct sim_node *n = &s->nodes[ev->node];
    switch (ev->kind) {
    case SIM_START: sim_node_start(s, n); break;
    case SIM_DIAL: net_dial_arrives(s, n, ev); break;
    case SIM_FAULT:
    case SIM_FAULT_END: faults_event(s, ev); break;
    case SIM_CLIENT: client_step(s, ev); break;
    case SIM_REPLY:
    case SIM_HANGUP: sim_conn_to_client(s, ev); break;
    default: sim_node_event(s, n, ev); break;
    }
}

/* Runs until virtual time until_us, or until something fails, or nothing is left to happen. */
static void run_until(struct sim *s, uint64_t until_us)
{
    struct sim_event ev;
    while (!s->failed && s->heap.count > 0 && s->heap.items[0].at_us <= until_us) {
        heap_pop(&s->heap, &ev);
        syn_assert(ev.at_us >= s->now_us);
        s->now_us = ev.at_us;
        sim_mix(s, ev.at_us << 8 ^ ev.kind);
        dispatch(s, &ev);
        if (++s->r->events % SWEEP_EVENTS == 0) {
            net_sweep(s);
        }
    }
    s->now_us = s->failed ? s->now_us : until_us;
}

/* R16 and "every request has an end": within LIVENESS_US of the heal, or of the last message that was done. */
static void phase_two(struct sim *s)
{
    char why[500] = "", left[200];
    uint64_t deadline = s->now_us + LIVENESS_US, fewest = UINT64_MAX;
    faults_heal(s);
    while (!s->failed && s->now_us < deadline) {
        run_until(s, s->now_us + SETTLE_EVERY_US);
        uint32_t pending = clients_pending(s);
        char settled[200] = "settled";
        uint64_t messages = pending > 0 && s->queue->on ? model_left(s, left, sizeof left) : 0;
        if (messages > 0) {
            if (messages < fewest) { /* a long backlog may take its time, as long as it gets shorter */
                fewest = messages;
                deadline = s->now_us + LIVENESS_US;
            }
            raft_settled(s, settled, sizeof settled);
            snprintf(why, sizeof why, "%s; %s", left, settled);
            continue;
        }
        if (pending > 0) {
            snprintf(why, sizeof why, "%u requests have no answer", pending);
        } else if (raft_settled(s, why, sizeof why) && cache_settled(s, why, sizeof why)) {
            return;
        }
    }
    if (!s->failed) {
        s->r->liveness = true;
        cache_trace(s);
        sim_fail(s, "R16 liveness: %u s after the heal: %s", LIVENESS_US / 1000000, why);
    }
}

void sim_run(const struct sim_options *o, struct sim_result *out)
{
    struct sim *s = calloc(1, sizeof *s);
    syn_assert(s != NULL);
    sim_open(s, o, out);
    run_until(s, s->o.seconds * 1000000ull);
    if (!s->failed) {
        phase_two(s);
    }
    if (!s->failed) {
        history_check(s);
    }
    if (!s->failed) {
        cache_history_check(s);
    }
    if (!s->failed && s->queue->on) {
        queue_check_end(s);
    }
    out->trace_hash = s->hash;
    out->virtual_ms = s->now_us / 1000;
    out->ops = s->n_ops;
    sim_close(s);
    free(s);
}
