/* The phases and the schedule of a load. See bench_loop.h.
 *
 * Not here: connections (bench_net.c), what lanes send (bench_load.c, bench_queue_load.c, bench_cache_load.c), printing of results (bench_*report.c). */
#include "cli/bench_loop.h"

#include "utils/assert.h"

#include <stdlib.h>

enum { ABANDONED_US = 1000, DRAIN_US = 2000000, TURN_US = 50000 };

void bench_loop_sleep(struct bench_loop *l, uint32_t lane, uint64_t now)
{
    l->wake_us[lane] = now + NET_RETRY_US;
    bench_ring_push(&l->asleep, lane);
}

void bench_loop_refused(struct bench_loop *l, uint32_t lane, slice_t word, uint64_t now)
{
    if (l->phase == BENCH_MEASURING) {
        bench_errors_count(&l->tally->errors, word);
    }
    bench_loop_sleep(l, lane, now);
}

void bench_loop_answered(struct bench_loop *l, uint64_t sent_us, uint64_t now)
{
    struct bench_tally *t = l->tally;
    if (t->killed_us > 0 && t->failover_us == 0 && sent_us > t->killed_us + ABANDONED_US) {
        t->failover_us = now - t->killed_us;
    }
}

static void wake_sleepers(struct bench_loop *l, uint64_t now)
{
    for (uint32_t n = l->asleep.count; n > 0 && l->wake_us[bench_ring_first(&l->asleep)] <= now; n--) {
        uint32_t lane = bench_ring_pop(&l->asleep);
        if (l->is->conn_of(l->load, lane)->fd < 0) {
            bench_loop_sleep(l, lane, now);
        } else {
            l->is->woken(l->load, lane, now);
        }
    }
}

/* Open loop: begins what is due as far as lanes are free; returns when the next will be. What waits keeps its scheduled time. */
static uint64_t begin_scheduled(struct bench_loop *l, uint64_t now)
{
    while (l->run->rate > 0 && bench_loop_begins(l)) {
        uint64_t due_us = l->start_us + l->scheduled * l->batch * 1000000 / l->run->rate;
        if (due_us > now) {
            return due_us;
        }
        if (l->idle.count == 0) {
            return UINT64_MAX; /* an answer will free a lane and wake us */
        }
        uint32_t lane = bench_ring_pop(&l->idle);
        if (l->is->conn_of(l->load, lane)->fd < 0) {
            bench_loop_sleep(l, lane, now);
            continue;
        }
        l->is->begin(l->load, lane, due_us, now);
        l->scheduled++;
    }
    return UINT64_MAX;
}

void bench_loop_clock(struct bench_loop *l, uint64_t now)
{
    l->start_us = now;
    l->measure_from_us = now + l->run->warmup_us;
    l->end_us = l->measure_from_us + l->run->measure_us;
    l->phase = BENCH_WARMING;
}

void bench_loop_measure(struct bench_loop *l)
{
    bench_meters_read(&l->tally->meters, l->run->pids, l->run->n_pids, false);
    l->phase = BENCH_MEASURING;
}

static void end_measuring(struct bench_loop *l)
{
    uint64_t due = l->run->rate > 0 ? (l->end_us - l->start_us) * l->run->rate / 1000000 : 0, begun = l->scheduled * l->batch;
    bench_meters_read(&l->tally->meters, l->run->pids, l->run->n_pids, true);
    l->tally->unsent = due > begun ? due - begun : 0;
    l->phase = BENCH_DRAINING;
}

static void change_phase(struct bench_loop *l, uint64_t now)
{
    switch (l->phase) {
    case BENCH_FILLING: l->is->fill(l->load, now); break;
    case BENCH_WARMING:
        if (now >= l->measure_from_us) {
            bench_loop_measure(l);
        }
        break;
    case BENCH_MEASURING:
        if (l->is->measured != NULL ? l->is->measured(l->load, now) : now >= l->end_us) {
            end_measuring(l);
        }
        break;
    case BENCH_DRAINING:
        if ((l->is->drained != NULL ? l->is->drained(l->load) : l->in_flight == 0) || now >= l->end_us + DRAIN_US) {
            l->phase = BENCH_DONE;
        }
        break;
    case BENCH_DONE: break;
    }
}

static void show_bar(struct bench_loop *l, uint64_t now)
{
    if (l->run->bar != NULL && now >= l->bar_us) {
        l->is->show(l->load, now);
        fflush(l->run->bar);
        l->bar_us = now + BENCH_BAR_US;
    }
}

void bench_loop_run(struct bench_loop *l)
{
    while (l->phase != BENCH_DONE) {
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
    if (l->run->bar != NULL) {
        fputs("\r\033[K", l->run->bar);
    }
}

static bool on_answer(void *owner, struct bench_conn *c, slice_t in, size_t *used, uint64_t now, bool *more)
{
    struct bench_loop *l = owner;
    return l->is->take(l->load, c, in, used, now, more);
}

static void on_lost(void *owner, uint32_t lane, uint64_t now)
{
    struct bench_loop *l = owner;
    l->is->lost(l->load, lane, now);
}

static void on_killed(void *owner, uint64_t now)
{
    struct bench_loop *l = owner;
    l->tally->killed_us = now;
}

bool bench_loop_open(struct bench_loop *l, uint32_t conns, uint32_t lanes, uint32_t flight_max, char *why, size_t why_size)
{
    const struct bench_run *r = l->run;
    l->n_lanes = lanes;
    l->wake_us = calloc(lanes, sizeof *l->wake_us);
    syn_assert(l->wake_us != NULL && l->batch > 0);
    bench_ring_init(&l->asleep, lanes);
    bench_ring_init(&l->idle, lanes);
    l->start_us = l->bar_us = now_us();
    l->net = (struct bench_net){.endpoints = r->endpoints, .n_endpoints = r->n_endpoints, .password = r->password, .owner = l,
                                .take = on_answer, .lost = on_lost, .killed = on_killed};
    return bench_net_open(&l->net, conns, flight_max, r->kill_from_stdin, why, why_size);
}

void bench_loop_close(struct bench_loop *l)
{
    l->tally->reconnects = l->net.reconnects;
    bench_net_close(&l->net);
    free(l->wake_us);
    bench_ring_fini(&l->asleep);
    bench_ring_fini(&l->idle);
}
