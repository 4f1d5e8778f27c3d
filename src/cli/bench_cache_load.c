/* What lanes of the cache benchmark send, and what answers mean to them. See bench_cache_load.h.
 *
 * Not here: phases and schedules (bench_loop.c), connections (bench_net.c), bytes and keys (bench_cache_wire.c), printing (bench_cache_report.c).
 * I1: an answer belongs to the lane at the head of its connection's queue: RESP answers in the order of the commands. */
#include "cli/bench_cache_load.h"

#include "cli/bench_cache_wire.h"
#include "cli/bench_loop.h"
#include "utils/assert.h"

#include <stdlib.h>

enum { SEED = 1 };

struct lane {
    uint64_t begun_us; /* when it was to begin: what latency counts from */
    uint64_t sent_us;
    uint32_t key;
    bool set, preload;
};

struct load {
    const struct cache_plan *plan;
    struct cache_result *res;
    struct bench_loop loop;
    struct cache_wire wire;
    struct zipf zipf;
    struct prng prng;
    struct lane *lanes;
    uint32_t next_key; /* to be loaded */
    uint64_t done, bar_count;
};

static struct bench_conn *conn_of(void *load, uint32_t lane)
{
    struct load *l = load;
    return &l->loop.net.conns[lane % l->plan->run.connections];
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
    l->loop.in_flight++;
    bench_net_sent(&l->loop.net, c, number);
}

static void begin(void *load, uint32_t number, uint64_t begun_us, uint64_t now)
{
    struct load *l = load;
    bool set = prng_below(&l->prng, 100) >= l->plan->reads;
    l->lanes[number] = (struct lane){.begun_us = begun_us, .key = zipf_draw(&l->zipf, &l->prng), .set = set};
    issue(l, number, now);
}

/* What a lane without a command does next. */
static void next(struct load *l, uint32_t number, uint64_t now)
{
    if (l->loop.phase == BENCH_FILLING && l->next_key < l->plan->keys) {
        l->lanes[number] = (struct lane){.begun_us = now, .key = l->next_key++, .set = true, .preload = true};
        issue(l, number, now);
    } else if (bench_loop_begins(&l->loop) && l->plan->run.rate == 0) {
        begin(l, number, now, now);
    } else {
        bench_ring_push(&l->loop.idle, number);
    }
}

static void answered(struct load *l, uint32_t number, bool absent, uint64_t now)
{
    struct lane *lane = &l->lanes[number];
    struct cache_result *r = l->res;
    uint64_t took_us = now - lane->begun_us;
    l->done++;
    r->preloaded += lane->preload;
    lane->preload = false;
    bench_loop_answered(&l->loop, lane->sent_us, now);
    if (l->loop.phase == BENCH_MEASURING) {
        hist_record(&r->all, took_us);
        hist_record(lane->set ? &r->set : &r->get, took_us);
        r->absent += absent;
    }
    next(l, number, now);
}

static bool take_answer(void *load, struct bench_conn *c, slice_t in, size_t *used, uint64_t now, bool *more)
{
    struct load *l = load;
    uint32_t number = bench_ring_first(&c->flight);
    slice_t what = SLICE_NONE;
    enum cache_answer a = cache_wire_reply(in, l->lanes[number].set, used, &what);
    *more = a == CACHE_MORE;
    if (a == CACHE_MORE || a == CACHE_BAD) {
        return a == CACHE_MORE;
    }
    bench_ring_pop(&c->flight); /* I1 */
    l->loop.in_flight--;
    if (a == CACHE_REFUSED) {
        bench_loop_refused(&l->loop, number, what, now);
    } else {
        answered(l, number, a == CACHE_ABSENT, now);
    }
    return true;
}

static void on_lost(void *load, uint32_t number, uint64_t now)
{
    struct load *l = load;
    l->loop.in_flight--;
    bench_loop_refused(&l->loop, number, SLICE_LIT("(closed)"), now);
}

/* A command to load a key is sent again, until it is done; any other was given up. */
static void woken(void *load, uint32_t number, uint64_t now)
{
    struct load *l = load;
    if (l->lanes[number].preload) {
        issue(l, number, now);
    } else {
        next(l, number, now);
    }
}

static void fill(void *load, uint64_t now)
{
    struct load *l = load;
    if (l->plan->preload && l->res->preloaded < l->plan->keys) {
        return;
    }
    bench_loop_clock(&l->loop, now);
    for (uint32_t n = l->loop.idle.count; n > 0 && l->plan->run.rate == 0; n--) {
        next(l, bench_ring_pop(&l->loop.idle), now);
    }
}

static void show(void *load, uint64_t now)
{
    static const char *const names[] = {"preloading", "warm-up", "measuring", "draining", ""};
    struct load *l = load;
    bool loading = l->loop.phase == BENCH_FILLING;
    uint64_t all = l->plan->run.warmup_us + l->plan->run.measure_us;
    uint64_t percent = loading ? l->res->preloaded * 100 / l->plan->keys : (now - l->loop.start_us) * 100 / (all > 0 ? all : 1);
    percent = percent > 100 ? 100 : percent;
    fprintf(l->plan->run.bar, "\r\033[K[%.*s%*s] %3u%% %s: %.0f operations/s ", (int)(percent / 4), "#########################", (int)(25 - percent / 4), "",
            (unsigned)percent, names[l->loop.phase], (double)(l->done - l->bar_count) * 1e6 / BENCH_BAR_US);
    l->bar_count = l->done;
}

static const struct bench_load CACHE = {.conn_of = conn_of, .begin = begin, .woken = woken, .take = take_answer, .lost = on_lost,
                                        .fill = fill, .show = show};

bool bench_cache_run(const struct cache_plan *plan, struct cache_result *out, char *why, size_t why_size)
{
    struct load l = {.plan = plan, .res = out, .loop = {.is = &CACHE, .load = &l, .run = &plan->run, .tally = &out->tally, .batch = 1}};
    const struct bench_run *r = &plan->run;
    uint32_t n_lanes = r->connections * r->pipeline;
    memset(out, 0, sizeof *out);
    hist_init(&out->all);
    hist_init(&out->get);
    hist_init(&out->set);
    cache_wire_init(&l.wire, plan->prefix, plan->bytes);
    zipf_init(&l.zipf, plan->keys, plan->zipf);
    prng_init(&l.prng, SEED);
    l.lanes = calloc(n_lanes, sizeof *l.lanes);
    syn_assert(l.lanes != NULL);
    bool ok = bench_loop_open(&l.loop, r->connections, n_lanes, r->pipeline, why, why_size);
    if (ok) {
        l.next_key = plan->preload ? 0 : plan->keys;
        for (uint32_t i = 0; i < n_lanes; i++) {
            next(&l, i, now_us());
        }
        bench_loop_run(&l.loop);
    }
    bench_loop_close(&l.loop);
    free(l.lanes);
    cache_wire_fini(&l.wire);
    zipf_fini(&l.zipf);
    return ok;
}
