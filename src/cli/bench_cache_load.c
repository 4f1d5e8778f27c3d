/* The cache benchmark's loop: lanes, phases, schedules. See bench_cache_load.h.
 *
 * Not here: connections (bench_net.c), bytes and keys (bench_cache_wire.c), printing (bench_cache_report.c).
 * I1: an answer belongs to the lane at the head of its connection's queue: RESP answers in the order of the commands.
 * I2: a lane is in exactly one place: in flight, asleep after a refusal, or at rest. */
#include "cli/bench_cache_load.h"

#include "cli/bench_cache_wire.h"
#include "cli/bench_net.h"
#include "utils/assert.h"

#include <inttypes.h>
#include <stdlib.h>

enum { ABANDONED_US = 1000, DRAIN_US = 2000000, BAR_US = 200000, TURN_US = 50000, SEED = 1 };

enum phase { LOADING, WARMING, MEASURING, DRAINING, DONE };

struct lane {
    uint64_t begun_us; /* when it was to begin: what latency counts from */
    uint64_t sent_us;
    uint32_t key;
    bool set, preload;
};

struct load {
    const struct cache_plan *plan;
    struct cache_result *res;
    struct bench_net net;
    struct cache_wire wire;
    struct zipf zipf;
    struct prng prng;
    struct lane *lanes;
    uint32_t n_lanes, in_flight, next_key; /* next_key: to be loaded */
    struct bench_ring asleep, idle;
    uint64_t *wake_us; /* per lane, while asleep; all sleep equally long, so the ring is in order */
    enum phase phase;
    uint64_t start_us, measure_from_us, end_us, scheduled, done, bar_us, bar_count;
};

static struct bench_conn *conn_of(struct load *l, uint32_t lane)
{
    return &l->net.conns[lane % l->plan->connections];
}

static void sleep_lane(struct load *l, uint32_t lane, uint64_t now)
{
    l->wake_us[lane] = now + NET_RETRY_US;
    bench_ring_push(&l->asleep, lane);
}

static void issue(struct load *l, uint32_t number, uint64_t now)
{
    struct lane *lane = &l->lanes[number];
    struct bench_conn *c = conn_of(l, number);
    if (lane->set) {
        cache_wire_set(&l->wire, &c->out, lane->key);
    } else {
        cache_wire_get(&l->wire, &c->out, lane->key);
    }
    lane->sent_us = now;
    l->in_flight++;
    bench_net_sent(&l->net, c, number);
}

static void begin(struct load *l, uint32_t number, uint64_t begun_us, uint64_t now)
{
    bool set = prng_below(&l->prng, 100) >= l->plan->reads;
    l->lanes[number] = (struct lane){.begun_us = begun_us, .key = zipf_draw(&l->zipf, &l->prng), .set = set};
    issue(l, number, now);
}

/* What a lane without a command does next. */
static void next(struct load *l, uint32_t number, uint64_t now)
{
    if (l->phase == LOADING && l->next_key < l->plan->keys) {
        l->lanes[number] = (struct lane){.begun_us = now, .key = l->next_key++, .set = true, .preload = true};
        issue(l, number, now);
    } else if ((l->phase == WARMING || l->phase == MEASURING) && l->plan->rate == 0) {
        begin(l, number, now, now);
    } else {
        bench_ring_push(&l->idle, number);
    }
}

/* A command to load a key is sent again, until it is done; any other is given up, and counted. */
static void refused(struct load *l, uint32_t number, slice_t word, uint64_t now)
{
    if (l->phase == MEASURING) {
        bench_errors_count(&l->res->errors, word);
    }
    sleep_lane(l, number, now);
}

static void answered(struct load *l, uint32_t number, bool absent, uint64_t now)
{
    struct lane *lane = &l->lanes[number];
    struct cache_result *r = l->res;
    uint64_t took_us = now - lane->begun_us;
    l->done++;
    r->preloaded += lane->preload;
    lane->preload = false;
    if (r->killed_us > 0 && r->failover_us == 0 && lane->sent_us > r->killed_us + ABANDONED_US) {
        r->failover_us = now - r->killed_us;
    }
    if (l->phase == MEASURING) {
        hist_record(&r->all, took_us);
        hist_record(lane->set ? &r->set : &r->get, took_us);
        r->absent += absent;
    }
    next(l, number, now);
}

static bool take_answer(void *owner, struct bench_conn *c, slice_t in, size_t *used, uint64_t now, bool *more)
{
    struct load *l = owner;
    uint32_t number = bench_ring_first(&c->flight);
    slice_t what = SLICE_NONE;
    enum cache_answer a = cache_wire_reply(in, l->lanes[number].set, used, &what);
    *more = a == CACHE_MORE;
    if (a == CACHE_MORE || a == CACHE_BAD) {
        return a == CACHE_MORE;
    }
    bench_ring_pop(&c->flight); /* I1 */
    l->in_flight--;
    if (a == CACHE_REFUSED) {
        refused(l, number, what, now);
    } else {
        answered(l, number, a == CACHE_ABSENT, now);
    }
    return true;
}

static void on_lost(void *owner, uint32_t number, uint64_t now)
{
    struct load *l = owner;
    l->in_flight--;
    refused(l, number, SLICE_LIT("(closed)"), now);
}

static void on_killed(void *owner, uint64_t now)
{
    struct load *l = owner;
    l->res->killed_us = now;
}

/* --- Time. */

static void wake_sleepers(struct load *l, uint64_t now)
{
    for (uint32_t n = l->asleep.count; n > 0 && l->wake_us[bench_ring_first(&l->asleep)] <= now; n--) {
        uint32_t number = bench_ring_pop(&l->asleep);
        if (conn_of(l, number)->fd < 0) {
            sleep_lane(l, number, now);
        } else if (l->lanes[number].preload) {
            issue(l, number, now);
        } else {
            next(l, number, now);
        }
    }
}

/* Open loop: begins what is due as far as lanes are free; returns when the next will be. What waits keeps its scheduled time. */
static uint64_t begin_scheduled(struct load *l, uint64_t now)
{
    while (l->plan->rate > 0 && (l->phase == WARMING || l->phase == MEASURING)) {
        uint64_t due_us = l->start_us + l->scheduled * 1000000 / l->plan->rate;
        if (due_us > now) {
            return due_us;
        }
        if (l->idle.count == 0) {
            return UINT64_MAX; /* an answer will free a lane and wake us */
        }
        uint32_t number = bench_ring_pop(&l->idle);
        if (conn_of(l, number)->fd < 0) {
            sleep_lane(l, number, now);
            continue;
        }
        begin(l, number, due_us, now);
        l->scheduled++;
    }
    return UINT64_MAX;
}

static void start_clock(struct load *l, uint64_t now)
{
    l->start_us = now;
    l->measure_from_us = now + l->plan->warmup_us;
    l->end_us = l->measure_from_us + l->plan->measure_us;
    l->phase = WARMING;
    for (uint32_t n = l->idle.count; n > 0 && l->plan->rate == 0; n--) {
        next(l, bench_ring_pop(&l->idle), now);
    }
}

static void end_measuring(struct load *l)
{
    uint64_t due = l->plan->rate > 0 ? (l->end_us - l->start_us) * l->plan->rate / 1000000 : 0;
    bench_meters_read(&l->res->meters, l->plan->pids, l->plan->n_pids, true);
    l->res->unsent = due > l->scheduled ? due - l->scheduled : 0;
    l->phase = DRAINING;
}

static void change_phase(struct load *l, uint64_t now)
{
    switch (l->phase) {
    case LOADING:
        if (!l->plan->preload || l->res->preloaded == l->plan->keys) {
            start_clock(l, now);
        }
        break;
    case WARMING:
        if (now >= l->measure_from_us) {
            bench_meters_read(&l->res->meters, l->plan->pids, l->plan->n_pids, false);
            l->phase = MEASURING;
        }
        break;
    case MEASURING:
        if (now >= l->end_us) {
            end_measuring(l);
        }
        break;
    case DRAINING:
        if (l->in_flight == 0 || now >= l->end_us + DRAIN_US) {
            l->phase = DONE;
        }
        break;
    case DONE: break;
    }
}

static void show_bar(struct load *l, uint64_t now)
{
    static const char *const names[] = {"preloading", "warm-up", "measuring", "draining", ""};
    if (l->plan->bar == NULL || now < l->bar_us) {
        return;
    }
    uint64_t all = l->plan->warmup_us + l->plan->measure_us;
    uint64_t percent = l->phase == LOADING ? l->res->preloaded * 100 / l->plan->keys : (now - l->start_us) * 100 / (all > 0 ? all : 1);
    percent = percent > 100 ? 100 : percent;
    fprintf(l->plan->bar, "\r\033[K[%.*s%*s] %3u%% %s: %.0f operations/s ", (int)(percent / 4), "#########################", (int)(25 - percent / 4), "",
            (unsigned)percent, names[l->phase], (double)(l->done - l->bar_count) * 1e6 / BAR_US);
    fflush(l->plan->bar);
    l->bar_count = l->done;
    l->bar_us = now + BAR_US;
}

static void loop(struct load *l)
{
    while (l->phase != DONE) {
        uint64_t now = now_us(), until = now + TURN_US;
        change_phase(l, now);
        wake_sleepers(l, now);
        uint64_t due = begin_scheduled(l, now);
        show_bar(l, now);
        until = due < until ? due : until;
        if (l->asleep.count > 0 && l->wake_us[bench_ring_first(&l->asleep)] < until) {
            until = l->wake_us[bench_ring_first(&l->asleep)];
        }
        bench_net_turn(&l->net, until);
    }
    if (l->plan->bar != NULL) {
        fputs("\r\033[K", l->plan->bar);
    }
}

static bool load_open(struct load *l, char *why, size_t why_size)
{
    const struct cache_plan *p = l->plan;
    l->n_lanes = p->connections * p->pipeline;
    l->lanes = calloc(l->n_lanes, sizeof *l->lanes);
    l->wake_us = calloc(l->n_lanes, sizeof *l->wake_us);
    syn_assert(l->lanes != NULL && l->wake_us != NULL);
    bench_ring_init(&l->asleep, l->n_lanes);
    bench_ring_init(&l->idle, l->n_lanes);
    cache_wire_init(&l->wire, p->prefix, p->bytes);
    zipf_init(&l->zipf, p->keys, p->zipf);
    prng_init(&l->prng, SEED);
    l->net = (struct bench_net){.endpoints = p->endpoints, .n_endpoints = p->n_endpoints, .password = p->password, .owner = l,
                                .take = take_answer, .lost = on_lost, .killed = on_killed};
    return bench_net_open(&l->net, p->connections, p->pipeline, p->kill_from_stdin, why, why_size);
}

static void load_close(struct load *l)
{
    l->res->reconnects = l->net.reconnects;
    bench_net_close(&l->net);
    free(l->lanes);
    free(l->wake_us);
    bench_ring_fini(&l->asleep);
    bench_ring_fini(&l->idle);
    cache_wire_fini(&l->wire);
    zipf_fini(&l->zipf);
}

bool bench_cache_run(const struct cache_plan *plan, struct cache_result *out, char *why, size_t why_size)
{
    struct load l = {.plan = plan, .res = out};
    memset(out, 0, sizeof *out);
    hist_init(&out->all);
    hist_init(&out->get);
    hist_init(&out->set);
    bool ok = load_open(&l, why, why_size);
    if (ok) {
        uint64_t now = now_us();
        l.bar_us = l.start_us = now;
        l.next_key = plan->preload ? 0 : plan->keys;
        for (uint32_t i = 0; i < l.n_lanes; i++) {
            next(&l, i, now);
        }
        loop(&l);
    }
    load_close(&l);
    return ok;
}
