/* What lanes of the lock benchmark send, and what answers mean to them. See bench_load.h.
 *
 * Not here: phases and schedules (bench_loop.c), connections (bench_net.c), bytes (bench_wire.c), printing (bench_report.c).
 * I1: an answer belongs to the lane at the head of its connection's queue: RESP answers in the order of the commands. */
#include "cli/bench_load.h"

#include "cli/bench_loop.h"
#include "cli/bench_wire.h"
#include "cli/cli_ask.h"
#include "communication/resp.h"
#include "utils/assert.h"

#include <stdlib.h>
#include <time.h>

struct lane {
    uint32_t conn, round;
    bool releasing;
    uint8_t id_len;
    uint8_t id[WIRE_ID_MAX];
    uint64_t begun_us; /* when the pair was to begin: what its latency counts from */
    uint64_t sent_us;  /* when the command in flight was handed over */
};

struct load {
    const struct bench_plan *plan;
    struct bench_result *res;
    struct bench_loop loop;
    struct bench_wire wire;
    struct lane *lanes;
    uint64_t held_next, last_grant_us, unix_offset_us, bar_pairs, total_pairs;
};

/* Appends the lane's next command to its connection's output. */
static void issue(struct load *l, uint32_t number, uint64_t now_us)
{
    struct lane *lane = &l->lanes[number];
    struct bench_conn *c = &l->loop.net.conns[lane->conn];
    uint8_t *out = buf_reserve(&c->out, WIRE_COMMAND_MAX);
    c->out.len += lane->releasing ? wire_release(&l->wire, out, number, lane->round, slice_of(lane->id, lane->id_len))
                                  : wire_acquire(&l->wire, out, number, lane->round);
    lane->sent_us = now_us;
    l->loop.in_flight++;
    bench_net_sent(&l->loop.net, c, number);
}

static bool another_allowed(const struct load *l)
{
    return l->loop.phase < BENCH_DRAINING && (l->plan->hold == 0 || l->held_next < l->plan->hold);
}

/* Begins a pair: in hold mode with a name that nobody has taken yet. */
static void begin(void *load, uint32_t number, uint64_t begun_us, uint64_t now_us)
{
    struct load *l = load;
    struct lane *lane = &l->lanes[number];
    lane->releasing = false;
    lane->begun_us = begun_us;
    lane->round = l->plan->hold > 0 ? (uint32_t)l->held_next++ : (lane->round + 1) % l->plan->resources;
    issue(l, number, now_us);
}

/* The lane's pair is over (or failed): what next. */
static void next_pair(void *load, uint32_t number, uint64_t now_us)
{
    struct load *l = load;
    if (another_allowed(l) && l->plan->run.rate == 0) {
        begin(l, number, now_us, now_us);
    } else {
        bench_ring_push(&l->loop.idle, number);
    }
}

/* At each grant, and at the end of the measured time, so that a gap that never closed is seen too. */
static void note_gap(struct load *l, uint64_t now_us)
{
    struct bench_result *r = l->res;
    if (l->plan->gaps_us > 0 && l->last_grant_us > 0 && now_us - l->last_grant_us > l->plan->gaps_us && r->n_gaps < BENCH_GAPS_MAX) {
        r->gaps[r->n_gaps++] = (struct bench_gap){l->last_grant_us + l->unix_offset_us, now_us + l->unix_offset_us};
    }
    l->last_grant_us = now_us;
}

static void on_granted(struct load *l, uint32_t number, slice_t id, uint64_t now_us)
{
    struct lane *lane = &l->lanes[number];
    if (l->loop.phase < BENCH_DRAINING) {
        note_gap(l, now_us);
    }
    bench_loop_answered(&l->loop, lane->sent_us, now_us);
    if (l->loop.phase == BENCH_MEASURING) {
        hist_record(&l->res->acquire, now_us - lane->begun_us);
        l->res->acquired++;
    }
    if (l->plan->hold > 0) {
        l->total_pairs++;
        next_pair(l, number, now_us);
        return;
    }
    memcpy(lane->id, id.ptr, id.len);
    lane->id_len = (uint8_t)id.len;
    lane->releasing = true;
    issue(l, number, now_us);
}

static void on_released(struct load *l, uint32_t number, uint64_t now_us)
{
    struct lane *lane = &l->lanes[number];
    l->total_pairs++;
    if (l->loop.phase == BENCH_MEASURING) {
        hist_record(&l->res->release, now_us - lane->sent_us);
        hist_record(&l->res->pair, now_us - lane->begun_us);
        l->res->pairs++;
    }
    next_pair(l, number, now_us);
}

/* A pair that is refused is given up; after a pause the lane begins another. */
static void on_lost(void *load, uint32_t number, uint64_t now_us)
{
    struct load *l = load;
    l->loop.in_flight--;
    bench_loop_refused(&l->loop, number, SLICE_LIT("(closed)"), now_us);
}

/* One answer of a connection; false when its bytes make no sense. */
static bool take_answer(void *load, struct bench_conn *c, slice_t in, size_t *used, uint64_t now_us, bool *more)
{
    struct load *l = load;
    uint32_t number = bench_ring_first(&c->flight);
    bool acquire = !l->lanes[number].releasing;
    slice_t what;
    enum wire_answer a = wire_reply(&l->wire, in, acquire, used, &what);
    *more = a == WIRE_MORE;
    if (a == WIRE_MORE || a == WIRE_BAD) {
        return a == WIRE_MORE;
    }
    bench_ring_pop(&c->flight); /* I1 */
    l->loop.in_flight--;
    if (a == WIRE_REFUSED) {
        bench_loop_refused(&l->loop, number, what, now_us);
    } else if (acquire) {
        on_granted(l, number, what, now_us);
    } else {
        on_released(l, number, now_us);
    }
    return true;
}

static struct bench_conn *conn_of(void *load, uint32_t number)
{
    struct load *l = load;
    return &l->loop.net.conns[l->lanes[number].conn];
}

static bool measured(void *load, uint64_t now_us)
{
    struct load *l = load;
    bool held_all = l->plan->hold > 0 && l->held_next >= l->plan->hold && l->loop.in_flight == 0;
    bool over = now_us >= l->loop.end_us || held_all;
    if (over) {
        note_gap(l, now_us);
    }
    return over;
}

static void show(void *load, uint64_t now_us)
{
    struct load *l = load;
    uint64_t done = now_us - l->loop.start_us, all = l->loop.end_us - l->loop.start_us;
    uint64_t percent = l->plan->hold > 0 ? l->held_next * 100 / l->plan->hold : done * 100 / all;
    percent = percent > 100 ? 100 : percent;
    fprintf(l->plan->run.bar, "\r[%.*s%*s] %3u%% %9.0f %s/s%s ", (int)(percent / 4), "#########################", (int)(25 - percent / 4), "",
            (unsigned)percent, (double)(l->total_pairs - l->bar_pairs) * 1e6 / (double)BENCH_BAR_US, l->plan->hold > 0 ? "locks" : "pairs",
            l->loop.phase == BENCH_MEASURING ? "" : " (warm-up)");
    l->bar_pairs = l->total_pairs;
}

static const struct bench_load LOCKS = {.conn_of = conn_of, .begin = begin, .woken = next_pair, .take = take_answer, .lost = on_lost,
                                        .measured = measured, .show = show};

static void start_lanes(struct load *l)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t now = now_us();
    l->unix_offset_us = (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000 - now;
    bench_loop_clock(&l->loop, now);
    for (uint32_t i = 0; i < l->loop.n_lanes; i++) {
        l->lanes[i].conn = i % l->plan->run.connections;
        next_pair(l, i, now);
    }
}

bool bench_load_run(const struct bench_plan *plan, struct bench_result *out, char *why, size_t why_size)
{
    struct load l = {.plan = plan, .res = out, .loop = {.is = &LOCKS, .load = &l, .run = &plan->run, .tally = &out->tally, .batch = 1}};
    const struct bench_run *r = &plan->run;
    uint32_t n_lanes = r->connections * r->pipeline;
    char id[17];
    memset(out, 0, sizeof *out);
    hist_init(&out->acquire);
    hist_init(&out->release);
    hist_init(&out->pair);
    cli_random_id(id);
    id[4] = '\0';
    wire_init(&l.wire, plan->redis, plan->ttl_ms, id);
    l.lanes = calloc(n_lanes, sizeof *l.lanes);
    syn_assert(l.lanes != NULL);
    bool ok = bench_loop_open(&l.loop, r->connections, n_lanes, r->pipeline, why, why_size);
    if (ok) {
        start_lanes(&l);
        bench_loop_run(&l.loop);
    }
    bench_loop_close(&l.loop);
    free(l.lanes);
    return ok;
}
