/* The queue benchmark's loop: publishing lanes, consumers, phases. See bench_queue_load.h.
 *
 * A consumer has two connections: one carries its claim, the other its acknowledgements, so that neither waits behind the other; it claims
 * again as soon as it has messages, and stops when ACKERS acknowledgements are under way.
 * Not here: connections (bench_net.c), bytes (bench_queue_wire.c), making the topic and printing (bench_queue.c).
 * Lanes are numbered: publishers, then claims (one a consumer), then acknowledgements (ACKERS a consumer).
 * I1: a lane is in exactly one place: in flight, asleep after a refusal, or at rest. */
#include "cli/bench_queue_load.h"

#include "cli/bench_net.h"
#include "cli/bench_queue_wire.h"
#include "communication/resp.h"
#include "utils/assert.h"

#include <inttypes.h>
#include <stdlib.h>

enum { ACKERS = 4, BLOCK_MS = 1000, ABANDONED_US = 1000, DRAIN_US = 2000000, STUCK_US = 30000000, BAR_US = 200000, TURN_US = 50000 };

struct publisher {
    uint64_t begun_us; /* when it was to begin: what latency counts from, and the payloads' stamp */
    uint64_t sent_us;
};

struct acker {
    struct buf receipts; /* of the acknowledgement under way; kept until it is answered */
    uint32_t n;          /* 0: at rest */
};

struct consumer {
    char name[32];
    struct buf receipts; /* of the claim that was answered last, when no acker was free */
    uint32_t n;
    struct acker ackers[ACKERS];
};

enum phase { FILLING, WARMING, MEASURING, DRAINING, DONE };

struct load {
    const struct queue_plan *plan;
    struct queue_result *res;
    struct bench_net net;
    struct publisher *publishers;
    struct consumer *consumers;
    uint32_t n_publishers, n_lanes, in_flight; /* in_flight: publishers' commands */
    struct bench_ring asleep, idle;            /* idle: publishers at rest */
    uint64_t *wake_us;
    enum phase phase;
    uint64_t start_us, measure_from_us, end_us, scheduled, issued, published, acked, moved_us, bar_us, bar_count;
};

static bool consuming(const struct load *l)
{
    return l->plan->mode != QUEUE_PUBLISH;
}

static uint32_t claim_lane(const struct load *l, uint32_t consumer)
{
    return l->n_publishers + consumer;
}

static uint32_t acker_lane(const struct load *l, uint32_t consumer, uint32_t acker)
{
    return l->n_publishers + l->plan->consumers + consumer * ACKERS + acker;
}

static struct bench_conn *conn_of(struct load *l, uint32_t lane)
{
    uint32_t c = l->plan->connections;
    if (lane < l->n_publishers) {
        return &l->net.conns[lane % c];
    }
    lane -= l->n_publishers;
    return lane < l->plan->consumers ? &l->net.conns[c + 2 * lane] : &l->net.conns[c + 2 * ((lane - l->plan->consumers) / ACKERS) + 1];
}

static void sleep_lane(struct load *l, uint32_t lane, uint64_t now)
{
    l->wake_us[lane] = now + NET_RETRY_US;
    bench_ring_push(&l->asleep, lane);
}

static void refused(struct load *l, uint32_t lane, slice_t word, uint64_t now)
{
    if (l->phase == MEASURING) {
        bench_errors_count(&l->res->errors, word);
    }
    sleep_lane(l, lane, now);
}

/* --- What lanes send. A consumer's two connections go down separately: what is begun on one that is down begins when it is up. */

static void publish(struct load *l, uint32_t lane, uint64_t begun_us, uint64_t now)
{
    struct bench_conn *c = conn_of(l, lane);
    l->publishers[lane] = (struct publisher){.begun_us = begun_us, .sent_us = now};
    queue_wire_publish(&c->out, l->plan->topic, l->plan->batch, l->plan->bytes, begun_us);
    l->issued += l->plan->batch;
    l->in_flight++;
    bench_net_sent(&l->net, c, lane);
}

static void claim(struct load *l, uint32_t consumer)
{
    struct bench_conn *c = conn_of(l, claim_lane(l, consumer));
    if (c->fd < 0) {
        sleep_lane(l, claim_lane(l, consumer), now_us());
        return;
    }
    queue_wire_consume(&c->out, l->plan->topic, l->consumers[consumer].name, l->plan->count, BLOCK_MS);
    bench_net_sent(&l->net, c, claim_lane(l, consumer));
}

static void acknowledge(struct load *l, uint32_t consumer, uint32_t acker)
{
    struct acker *a = &l->consumers[consumer].ackers[acker];
    struct bench_conn *c = conn_of(l, acker_lane(l, consumer, acker));
    if (c->fd < 0) {
        sleep_lane(l, acker_lane(l, consumer, acker), now_us());
        return;
    }
    queue_wire_ack(&c->out, l->plan->topic, a->n, buf_slice(&a->receipts));
    bench_net_sent(&l->net, c, acker_lane(l, consumer, acker));
}

/* The claim's messages go to an acker that is at rest, and the consumer claims again; without one both wait. */
static void settle(struct load *l, uint32_t consumer)
{
    struct consumer *k = &l->consumers[consumer];
    for (uint32_t i = 0; i < ACKERS && k->n > 0; i++) {
        if (k->ackers[i].n == 0) {
            buf_swap(&k->receipts, &k->ackers[i].receipts);
            k->ackers[i].n = k->n;
            buf_clear(&k->receipts);
            k->n = 0;
            acknowledge(l, consumer, i);
            claim(l, consumer);
        }
    }
}

static bool may_publish(const struct load *l)
{
    if (l->plan->mode == QUEUE_CONSUME) {
        return l->phase == FILLING && l->issued < l->plan->fill;
    }
    return l->phase != DRAINING && l->phase != DONE;
}

static void next_publish(struct load *l, uint32_t lane, uint64_t now)
{
    if (may_publish(l) && l->plan->rate == 0) {
        publish(l, lane, now, now);
    } else {
        bench_ring_push(&l->idle, lane);
    }
}

/* --- What comes back. */

static void on_published(struct load *l, uint32_t lane, slice_t reply, uint64_t now)
{
    struct queue_result *r = l->res;
    struct publisher *p = &l->publishers[lane];
    slice_t error = queue_wire_error(reply);
    l->in_flight--;
    if (error.len > 0) {
        l->issued -= l->plan->batch;
        refused(l, lane, error, now);
        return;
    }
    l->published += l->plan->batch;
    l->moved_us = now;
    if (r->killed_us > 0 && r->failover_us == 0 && p->sent_us > r->killed_us + ABANDONED_US) {
        r->failover_us = now - r->killed_us;
    }
    if (l->phase == MEASURING) {
        hist_record(&r->publish, now - p->begun_us);
        r->published += l->plan->batch;
    }
    next_publish(l, lane, now);
}

static void on_message(struct load *l, struct consumer *k, slice_t message, uint64_t now)
{
    struct resp_value v;
    if (resp_map_get(message, "payload", &v)) {
        uint64_t stamp = queue_wire_stamp(v.str);
        if (l->plan->mode == QUEUE_LATENCY && stamp >= l->measure_from_us && stamp < l->end_us && stamp <= now) {
            hist_record(&l->res->deliver, now - stamp);
        }
    }
    if (resp_map_get(message, "receipt", &v)) {
        queue_wire_receipt(&k->receipts, v.str);
        k->n++;
    }
    l->res->received++;
}

static bool on_claimed(struct load *l, uint32_t consumer, slice_t reply, uint64_t now)
{
    struct consumer *k = &l->consumers[consumer];
    struct reader r = reader_of(reply);
    struct resp_value v;
    if (!resp_next(&r, &v) || (v.type != RT_ARRAY && v.type != RT_NULL && v.type != RT_ERROR)) {
        return false;
    }
    for (uint32_t i = 0; v.type == RT_ARRAY && i < v.count; i++) {
        const uint8_t *from = r.p;
        if (!resp_skip(&r)) {
            return false;
        }
        on_message(l, k, slice_of(from, (size_t)(r.p - from)), now);
    }
    if (v.type == RT_ERROR) {
        refused(l, claim_lane(l, consumer), resp_error_word(reply), now);
    } else if (k->n == 0) {
        sleep_lane(l, claim_lane(l, consumer), now); /* nothing: again in a moment, so that a server that does not wait is not flooded */
    } else {
        settle(l, consumer);
    }
    return true;
}

static bool on_acked(struct load *l, uint32_t lane, slice_t reply, uint64_t now)
{
    uint32_t at = lane - l->n_publishers - l->plan->consumers, consumer = at / ACKERS;
    struct acker *a = &l->consumers[consumer].ackers[at % ACKERS];
    struct reader r = reader_of(reply);
    struct resp_value v;
    if (!resp_next(&r, &v) || (v.type != RT_INT && v.type != RT_ERROR)) {
        return false;
    }
    if (v.type == RT_ERROR) {
        refused(l, lane, resp_error_word(reply), now);
        return true;
    }
    l->acked += (uint64_t)v.num;
    if (l->phase == MEASURING) {
        l->res->acked += (uint64_t)v.num;
    }
    l->moved_us = now;
    buf_clear(&a->receipts);
    a->n = 0;
    settle(l, consumer);
    return true;
}

static bool take_answer(void *owner, struct bench_conn *c, slice_t in, size_t *used, uint64_t now, bool *more)
{
    struct load *l = owner;
    size_t n = resp_reply_size(in);
    *more = n == 0;
    if (n == 0 || n == SIZE_MAX) {
        return n == 0;
    }
    uint32_t lane = bench_ring_pop(&c->flight);
    slice_t reply = slice_of(in.ptr, n);
    *used = n;
    if (lane < l->n_publishers) {
        on_published(l, lane, reply, now);
        return true;
    }
    return lane < l->n_publishers + l->plan->consumers ? on_claimed(l, lane - l->n_publishers, reply, now) : on_acked(l, lane, reply, now);
}

static void on_lost(void *owner, uint32_t lane, uint64_t now)
{
    struct load *l = owner;
    if (lane < l->n_publishers) {
        l->in_flight--;
        l->issued -= l->plan->batch;
    }
    refused(l, lane, SLICE_LIT("(closed)"), now);
}

static void on_killed(void *owner, uint64_t now)
{
    struct load *l = owner;
    l->res->killed_us = now;
}

/* --- Time. */

static void wake_lane(struct load *l, uint32_t lane, uint64_t now)
{
    if (lane < l->n_publishers && conn_of(l, lane)->fd < 0) {
        sleep_lane(l, lane, now);
    } else if (lane < l->n_publishers) {
        next_publish(l, lane, now);
    } else if (lane < l->n_publishers + l->plan->consumers) {
        claim(l, lane - l->n_publishers);
    } else {
        uint32_t at = lane - l->n_publishers - l->plan->consumers;
        acknowledge(l, at / ACKERS, at % ACKERS);
    }
}

static void wake_sleepers(struct load *l, uint64_t now)
{
    for (uint32_t n = l->asleep.count; n > 0 && l->wake_us[bench_ring_first(&l->asleep)] <= now; n--) {
        wake_lane(l, bench_ring_pop(&l->asleep), now);
    }
}

/* Open loop: begins what is due; returns when the next will be. */
static uint64_t begin_scheduled(struct load *l, uint64_t now)
{
    while (l->plan->rate > 0 && may_publish(l)) {
        uint64_t due_us = l->start_us + l->scheduled * l->plan->batch * 1000000 / l->plan->rate;
        if (due_us > now) {
            return due_us;
        }
        if (l->idle.count == 0) {
            return UINT64_MAX; /* an answer will free a lane and wake us */
        }
        uint32_t lane = bench_ring_pop(&l->idle);
        if (conn_of(l, lane)->fd < 0) {
            sleep_lane(l, lane, now);
            continue;
        }
        publish(l, lane, due_us, now);
        l->scheduled++;
    }
    return UINT64_MAX;
}

static void start_consumers(struct load *l)
{
    for (uint32_t i = 0; i < l->plan->consumers && consuming(l); i++) {
        claim(l, i);
    }
}

static void measure(struct load *l, bool end)
{
    bench_meters_read(&l->res->meters, l->plan->pids, l->plan->n_pids, end);
    l->phase = end ? DRAINING : MEASURING;
}

static void end_measuring(struct load *l)
{
    uint64_t due = l->plan->rate > 0 ? (l->end_us - l->start_us) * l->plan->rate / 1000000 : 0;
    measure(l, true);
    l->res->unsent = due > l->scheduled * l->plan->batch ? due - l->scheduled * l->plan->batch : 0;
}

static void change_phase(struct load *l, uint64_t now)
{
    bool all_settled = l->plan->mode == QUEUE_CONSUME && (l->acked >= l->published || now > l->moved_us + STUCK_US);
    bool all_arrived = l->plan->mode != QUEUE_LATENCY || l->res->received >= l->published;
    switch (l->phase) {
    case FILLING:
        if (l->in_flight == 0 && l->issued >= l->plan->fill) {
            l->start_us = l->moved_us = now;
            measure(l, false);
            start_consumers(l);
        }
        break;
    case WARMING:
        if (now >= l->measure_from_us) {
            measure(l, false);
        }
        break;
    case MEASURING:
        if (l->plan->mode == QUEUE_CONSUME ? all_settled : now >= l->end_us) {
            end_measuring(l);
        }
        break;
    case DRAINING:
        if ((l->in_flight == 0 && all_arrived) || l->plan->mode == QUEUE_CONSUME || now >= l->end_us + DRAIN_US) {
            l->phase = DONE;
        }
        break;
    case DONE:
        break;
    }
}

static void show_bar(struct load *l, uint64_t now)
{
    static const char *const names[] = {"filling", "warm-up", "measuring", "draining", ""};
    if (l->plan->bar == NULL || now < l->bar_us) {
        return;
    }
    uint64_t count = l->plan->mode == QUEUE_CONSUME && l->phase != FILLING ? l->acked : l->published;
    fprintf(l->plan->bar, "\r\033[K%s: %" PRIu64 " messages, %.0f/s ", names[l->phase], count, (double)(count - l->bar_count) * 1e6 / BAR_US);
    fflush(l->plan->bar);
    l->bar_count = count;
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
    const struct queue_plan *p = l->plan;
    uint32_t consumers = consuming(l) ? p->consumers : 0;
    uint32_t flight_max = p->pipeline > ACKERS ? p->pipeline : ACKERS;
    l->n_publishers = p->connections * p->pipeline;
    l->n_lanes = l->n_publishers + p->consumers * (1 + ACKERS);
    l->publishers = calloc(l->n_publishers, sizeof *l->publishers);
    l->consumers = calloc(p->consumers, sizeof *l->consumers);
    l->wake_us = calloc(l->n_lanes, sizeof *l->wake_us);
    syn_assert(l->publishers != NULL && l->consumers != NULL && l->wake_us != NULL);
    bench_ring_init(&l->asleep, l->n_lanes);
    bench_ring_init(&l->idle, l->n_publishers);
    for (uint32_t i = 0; i < p->consumers; i++) {
        snprintf(l->consumers[i].name, sizeof l->consumers[i].name, "bench-%u", i);
    }
    l->net = (struct bench_net){.endpoints = p->endpoints, .n_endpoints = p->n_endpoints, .password = p->password, .owner = l,
                                .take = take_answer, .lost = on_lost, .killed = on_killed};
    return bench_net_open(&l->net, p->connections + 2 * consumers, flight_max, p->kill_from_stdin, why, why_size);
}

static void load_close(struct load *l)
{
    l->res->reconnects = l->net.reconnects;
    bench_net_close(&l->net);
    for (uint32_t i = 0; i < l->plan->consumers; i++) {
        buf_fini(&l->consumers[i].receipts);
        for (uint32_t k = 0; k < ACKERS; k++) {
            buf_fini(&l->consumers[i].ackers[k].receipts);
        }
    }
    free(l->publishers);
    free(l->consumers);
    free(l->wake_us);
    bench_ring_fini(&l->asleep);
    bench_ring_fini(&l->idle);
}

static void start(struct load *l)
{
    uint64_t now = now_us();
    l->start_us = l->bar_us = l->moved_us = now;
    l->measure_from_us = now + l->plan->warmup_us;
    l->end_us = l->measure_from_us + l->plan->measure_us;
    l->phase = l->plan->mode == QUEUE_CONSUME ? FILLING : WARMING;
    if (l->plan->mode == QUEUE_LATENCY) {
        start_consumers(l);
    }
    for (uint32_t i = 0; i < l->n_publishers; i++) {
        next_publish(l, i, now);
    }
}

bool bench_queue_run(const struct queue_plan *plan, struct queue_result *out, char *why, size_t why_size)
{
    struct load l = {.plan = plan, .res = out};
    memset(out, 0, sizeof *out);
    hist_init(&out->publish);
    hist_init(&out->deliver);
    bool ok = load_open(&l, why, why_size);
    if (ok) {
        start(&l);
        loop(&l);
    }
    load_close(&l);
    return ok;
}
