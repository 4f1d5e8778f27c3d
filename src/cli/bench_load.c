/* The generator's loop: lanes and schedules. See bench_load.h for the two loops.
 *
 * Not here: connections (bench_net.c), bytes (bench_wire.c), printing (bench_report.c).
 * I1: an answer belongs to the lane at the head of its connection's queue: RESP answers in the order of the commands.
 * I2: a lane is in exactly one place: in flight, asleep after a refusal, free, or down with its connection. */
#include "cli/bench_load.h"

#include "cli/bench_net.h"
#include "cli/bench_wire.h"
#include "cli/cli_ask.h"
#include "communication/resp.h"
#include "utils/assert.h"

#include <stdlib.h>
#include <time.h>

enum { ABANDONED_US = 1000, DRAIN_US = 2000000, BAR_US = 200000 };

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
    struct bench_wire wire;
    struct bench_net net;
    struct lane *lanes;
    uint32_t n_lanes, in_flight;
    struct bench_ring asleep, idle;
    uint64_t *wake_us; /* per lane, while asleep; all sleep equally long, so the ring is in order */
    uint64_t start_us, measure_from_us, end_us, scheduled, held_next;
    uint64_t last_grant_us, unix_offset_us, bar_us, bar_pairs, total_pairs;
    bool measuring, draining;
};

static void count_error(struct load *l, slice_t word)
{
    if (l->measuring) {
        bench_errors_count(&l->res->errors, word);
    }
}

/* Appends the lane's next command to its connection's output. */
static void issue(struct load *l, uint32_t number, uint64_t now_us)
{
    struct lane *lane = &l->lanes[number];
    struct bench_conn *c = &l->net.conns[lane->conn];
    uint8_t *out = buf_reserve(&c->out, WIRE_COMMAND_MAX);
    c->out.len += lane->releasing ? wire_release(&l->wire, out, number, lane->round, slice_of(lane->id, lane->id_len))
                                  : wire_acquire(&l->wire, out, number, lane->round);
    lane->sent_us = now_us;
    l->in_flight++;
    bench_net_sent(&l->net, c, number);
}

static bool another_allowed(const struct load *l)
{
    return !l->draining && (l->plan->hold == 0 || l->held_next < l->plan->hold);
}

/* Begins a pair: in hold mode with a name that nobody has taken yet. */
static void begin(struct load *l, uint32_t number, uint64_t begun_us, uint64_t now_us)
{
    struct lane *lane = &l->lanes[number];
    lane->releasing = false;
    lane->begun_us = begun_us;
    lane->round = l->plan->hold > 0 ? (uint32_t)l->held_next++ : (lane->round + 1) % l->plan->resources;
    issue(l, number, now_us);
}

/* The lane's pair is over (or failed): what next. */
static void next_pair(struct load *l, uint32_t number, uint64_t now_us)
{
    if (another_allowed(l) && l->plan->rate == 0) {
        begin(l, number, now_us, now_us);
    } else {
        bench_ring_push(&l->idle, number);
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
    if (!l->draining) {
        note_gap(l, now_us);
    }
    if (l->res->killed_us > 0 && l->res->failover_us == 0 && lane->sent_us > l->res->killed_us + ABANDONED_US) {
        l->res->failover_us = now_us - l->res->killed_us;
    }
    if (l->measuring) {
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
    if (l->measuring) {
        hist_record(&l->res->release, now_us - lane->sent_us);
        hist_record(&l->res->pair, now_us - lane->begun_us);
        l->res->pairs++;
    }
    next_pair(l, number, now_us);
}

/* A refusal is counted and the pair given up; after a pause the lane begins another. */
static void on_refused(struct load *l, uint32_t number, slice_t word, uint64_t now_us)
{
    count_error(l, word);
    l->wake_us[number] = now_us + NET_RETRY_US;
    bench_ring_push(&l->asleep, number);
}

static void on_lost(void *owner, uint32_t number, uint64_t now_us)
{
    struct load *l = owner;
    l->in_flight--;
    on_refused(l, number, SLICE_LIT("(closed)"), now_us);
}

/* One answer of a connection; false when its bytes make no sense. */
static bool take_answer(void *owner, struct bench_conn *c, slice_t in, size_t *used, uint64_t now_us, bool *more)
{
    struct load *l = owner;
    uint32_t number = bench_ring_first(&c->flight);
    bool acquire = !l->lanes[number].releasing;
    slice_t what;
    enum wire_answer a = wire_reply(&l->wire, in, acquire, used, &what);
    *more = a == WIRE_MORE;
    if (a == WIRE_MORE || a == WIRE_BAD) {
        return a == WIRE_MORE;
    }
    bench_ring_pop(&c->flight); /* I1 */
    l->in_flight--;
    if (a == WIRE_REFUSED) {
        on_refused(l, number, what, now_us);
    } else if (acquire) {
        on_granted(l, number, what, now_us);
    } else {
        on_released(l, number, now_us);
    }
    return true;
}

static void wake_sleepers(struct load *l, uint64_t now_us)
{
    for (uint32_t n = l->asleep.count; n > 0; n--) {
        uint32_t number = l->asleep.v[l->asleep.head];
        if (l->wake_us[number] > now_us) {
            return;
        }
        bench_ring_pop(&l->asleep);
        if (l->net.conns[l->lanes[number].conn].fd < 0) {
            l->wake_us[number] = now_us + NET_RETRY_US;
            bench_ring_push(&l->asleep, number);
        } else {
            next_pair(l, number, now_us);
        }
    }
}

/* Open loop: begins what was scheduled up to now, as far as lanes are free. What waits keeps its scheduled time. */
static uint64_t begin_scheduled(struct load *l, uint64_t now_us)
{
    uint64_t rate = l->plan->rate, next_us = UINT64_MAX;
    while (rate > 0 && !l->draining) {
        next_us = l->start_us + l->scheduled * 1000000 / rate;
        if (next_us > now_us) {
            return next_us;
        }
        if (l->idle.count == 0) {
            return UINT64_MAX; /* an answer will free a lane and wake us */
        }
        uint32_t number = bench_ring_pop(&l->idle);
        if (l->net.conns[l->lanes[number].conn].fd < 0) {
            l->wake_us[number] = now_us + NET_RETRY_US;
            bench_ring_push(&l->asleep, number);
            continue;
        }
        begin(l, number, next_us, now_us);
        l->scheduled++;
    }
    return next_us;
}

static void change_phase(struct load *l, uint64_t now_us)
{
    bool held_all = l->plan->hold > 0 && l->held_next >= l->plan->hold && l->in_flight == 0;
    if (!l->measuring && !l->draining && now_us >= l->measure_from_us) {
        l->measuring = true;
        bench_meters_read(&l->res->meters, l->plan->pids, l->plan->n_pids, false);
    }
    if (l->measuring && (now_us >= l->end_us || held_all)) {
        l->measuring = false;
        l->draining = true;
        bench_meters_read(&l->res->meters, l->plan->pids, l->plan->n_pids, true);
        note_gap(l, now_us);
        uint64_t due = l->plan->rate > 0 ? (l->end_us - l->start_us) * l->plan->rate / 1000000 : 0;
        l->res->unsent = due > l->scheduled ? due - l->scheduled : 0;
    }
}

static void show_bar(struct load *l, uint64_t now_us)
{
    if (l->plan->bar == NULL || now_us < l->bar_us) {
        return;
    }
    uint64_t done = now_us - l->start_us, all = l->end_us - l->start_us;
    uint64_t percent = l->plan->hold > 0 ? l->held_next * 100 / l->plan->hold : done * 100 / all;
    percent = percent > 100 ? 100 : percent;
    fprintf(l->plan->bar, "\r[%.*s%*s] %3u%% %9.0f %s/s%s ", (int)(percent / 4), "#########################", (int)(25 - percent / 4), "",
            (unsigned)percent, (double)(l->total_pairs - l->bar_pairs) * 1e6 / (double)BAR_US, l->plan->hold > 0 ? "locks" : "pairs",
            l->measuring ? "" : " (warm-up)");
    fflush(l->plan->bar);
    l->bar_pairs = l->total_pairs;
    l->bar_us = now_us + BAR_US;
}

static uint64_t wake_at(const struct load *l, uint64_t scheduled_us, uint64_t now_us)
{
    uint64_t at = now_us + 50000;
    at = scheduled_us < at ? scheduled_us : at;
    if (l->asleep.count > 0 && l->wake_us[l->asleep.v[l->asleep.head]] < at) {
        at = l->wake_us[l->asleep.v[l->asleep.head]];
    }
    return at;
}

static void on_killed(void *owner, uint64_t now_us)
{
    struct load *l = owner;
    l->res->killed_us = now_us;
}

static void loop(struct load *l)
{
    uint64_t now = now_us(), drained_us = l->end_us + DRAIN_US;
    while (!l->draining || (l->in_flight > 0 && now < drained_us)) {
        change_phase(l, now);
        wake_sleepers(l, now);
        uint64_t scheduled_us = begin_scheduled(l, now);
        show_bar(l, now);
        bench_net_turn(&l->net, wake_at(l, scheduled_us, now));
        now = now_us();
    }
}

static bool load_open(struct load *l, char *why, size_t why_size)
{
    const struct bench_plan *p = l->plan;
    l->n_lanes = p->connections * p->pipeline;
    l->lanes = calloc(l->n_lanes, sizeof *l->lanes);
    l->wake_us = calloc(l->n_lanes, sizeof *l->wake_us);
    syn_assert(l->lanes != NULL && l->wake_us != NULL);
    bench_ring_init(&l->asleep, l->n_lanes);
    bench_ring_init(&l->idle, l->n_lanes);
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
}

static void start_lanes(struct load *l)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t now = now_us();
    l->unix_offset_us = (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000 - now;
    l->start_us = l->bar_us = now;
    l->measure_from_us = now + l->plan->warmup_us;
    l->end_us = l->measure_from_us + l->plan->measure_us;
    for (uint32_t i = 0; i < l->n_lanes; i++) {
        l->lanes[i].conn = i % l->plan->connections;
        if (another_allowed(l) && l->plan->rate == 0) {
            begin(l, i, now, now);
        } else {
            bench_ring_push(&l->idle, i);
        }
    }
}

bool bench_load_run(const struct bench_plan *plan, struct bench_result *out, char *why, size_t why_size)
{
    struct load l = {.plan = plan, .res = out};
    char id[17];
    memset(out, 0, sizeof *out);
    hist_init(&out->acquire);
    hist_init(&out->release);
    hist_init(&out->pair);
    cli_random_id(id);
    id[4] = '\0';
    wire_init(&l.wire, plan->redis, plan->ttl_ms, id);
    bool ok = load_open(&l, why, why_size);
    if (ok) {
        start_lanes(&l);
        loop(&l);
        if (plan->bar != NULL) {
            fputs("\r\033[K", plan->bar);
        }
    }
    load_close(&l);
    return ok;
}
