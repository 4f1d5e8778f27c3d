/* What publishing lanes and consumers of the queue benchmark send, and what answers mean to them. See bench_queue_load.h.
 *
 * A consumer has two connections: one carries its claim, the other its acknowledgements, so that neither waits behind the other; it claims
 * again as soon as it has messages, and stops when ACKERS acknowledgements are under way.
 * Not here: phases and schedules (bench_loop.c), connections (bench_net.c), bytes (bench_queue_wire.c), making the topic and printing (bench_queue.c).
 * Lanes are numbered: publishers, then claims (one a consumer), then acknowledgements (ACKERS a consumer). */
#include "cli/bench_queue_load.h"

#include "cli/bench_loop.h"
#include "cli/bench_queue_wire.h"
#include "communication/resp.h"
#include "utils/assert.h"

#include <inttypes.h>
#include <stdlib.h>

enum { ACKERS = 4, BLOCK_MS = 1000, STUCK_US = 30000000 };

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

struct load {
    const struct queue_plan *plan;
    struct queue_result *res;
    struct bench_loop loop; /* its in_flight: publishers' commands; its idle: publishers at rest */
    struct publisher *publishers;
    struct consumer *consumers;
    uint32_t n_publishers;
    uint64_t issued, published, acked, moved_us, bar_count;
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

static struct bench_conn *conn_of(void *load, uint32_t lane)
{
    struct load *l = load;
    uint32_t c = l->plan->run.connections;
    if (lane < l->n_publishers) {
        return &l->loop.net.conns[lane % c];
    }
    lane -= l->n_publishers;
    return lane < l->plan->consumers ? &l->loop.net.conns[c + 2 * lane] : &l->loop.net.conns[c + 2 * ((lane - l->plan->consumers) / ACKERS) + 1];
}

/* --- What lanes send. A consumer's two connections go down separately: what is begun on one that is down begins when it is up. */

static void publish(void *load, uint32_t lane, uint64_t begun_us, uint64_t now)
{
    struct load *l = load;
    struct bench_conn *c = conn_of(l, lane);
    l->publishers[lane] = (struct publisher){.begun_us = begun_us, .sent_us = now};
    queue_wire_publish(&c->out, l->plan->topic, l->plan->batch, l->plan->bytes, begun_us);
    l->issued += l->plan->batch;
    l->loop.in_flight++;
    bench_net_sent(&l->loop.net, c, lane);
}

static void claim(struct load *l, uint32_t consumer)
{
    struct bench_conn *c = conn_of(l, claim_lane(l, consumer));
    if (c->fd < 0) {
        bench_loop_sleep(&l->loop, claim_lane(l, consumer), now_us());
        return;
    }
    queue_wire_consume(&c->out, l->plan->topic, l->consumers[consumer].name, l->plan->count, BLOCK_MS);
    bench_net_sent(&l->loop.net, c, claim_lane(l, consumer));
}

static void acknowledge(struct load *l, uint32_t consumer, uint32_t acker)
{
    struct acker *a = &l->consumers[consumer].ackers[acker];
    struct bench_conn *c = conn_of(l, acker_lane(l, consumer, acker));
    if (c->fd < 0) {
        bench_loop_sleep(&l->loop, acker_lane(l, consumer, acker), now_us());
        return;
    }
    queue_wire_ack(&c->out, l->plan->topic, a->n, buf_slice(&a->receipts));
    bench_net_sent(&l->loop.net, c, acker_lane(l, consumer, acker));
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
        return l->loop.phase == BENCH_FILLING && l->issued < l->plan->fill;
    }
    return bench_loop_begins(&l->loop);
}

static void next_publish(struct load *l, uint32_t lane, uint64_t now)
{
    if (may_publish(l) && l->plan->run.rate == 0) {
        publish(l, lane, now, now);
    } else {
        bench_ring_push(&l->loop.idle, lane);
    }
}

/* --- What comes back. */

static void on_published(struct load *l, uint32_t lane, slice_t reply, uint64_t now)
{
    struct queue_result *r = l->res;
    struct publisher *p = &l->publishers[lane];
    slice_t error = queue_wire_error(reply);
    l->loop.in_flight--;
    if (error.len > 0) {
        l->issued -= l->plan->batch;
        bench_loop_refused(&l->loop, lane, error, now);
        return;
    }
    l->published += l->plan->batch;
    l->moved_us = now;
    bench_loop_answered(&l->loop, p->sent_us, now);
    if (l->loop.phase == BENCH_MEASURING) {
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
        if (l->plan->mode == QUEUE_LATENCY && stamp >= l->loop.measure_from_us && stamp < l->loop.end_us && stamp <= now) {
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
        bench_loop_refused(&l->loop, claim_lane(l, consumer), resp_error_word(reply), now);
    } else if (k->n == 0) {
        bench_loop_sleep(&l->loop, claim_lane(l, consumer), now); /* nothing: again in a moment, so that a server that does not wait is not flooded */
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
        bench_loop_refused(&l->loop, lane, resp_error_word(reply), now);
        return true;
    }
    l->acked += (uint64_t)v.num;
    if (l->loop.phase == BENCH_MEASURING) {
        l->res->acked += (uint64_t)v.num;
    }
    l->moved_us = now;
    buf_clear(&a->receipts);
    a->n = 0;
    settle(l, consumer);
    return true;
}

static bool take_answer(void *load, struct bench_conn *c, slice_t in, size_t *used, uint64_t now, bool *more)
{
    struct load *l = load;
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

static void on_lost(void *load, uint32_t lane, uint64_t now)
{
    struct load *l = load;
    if (lane < l->n_publishers) {
        l->loop.in_flight--;
        l->issued -= l->plan->batch;
    }
    bench_loop_refused(&l->loop, lane, SLICE_LIT("(closed)"), now);
}

/* --- Time. */

static void woken(void *load, uint32_t lane, uint64_t now)
{
    struct load *l = load;
    if (lane < l->n_publishers) {
        next_publish(l, lane, now);
    } else if (lane < l->n_publishers + l->plan->consumers) {
        claim(l, lane - l->n_publishers);
    } else {
        uint32_t at = lane - l->n_publishers - l->plan->consumers;
        acknowledge(l, at / ACKERS, at % ACKERS);
    }
}

static void start_consumers(struct load *l)
{
    for (uint32_t i = 0; i < l->plan->consumers && consuming(l); i++) {
        claim(l, i);
    }
}

static void fill(void *load, uint64_t now)
{
    struct load *l = load;
    if (l->loop.in_flight == 0 && l->issued >= l->plan->fill) {
        l->loop.start_us = l->moved_us = now;
        bench_loop_measure(&l->loop);
        start_consumers(l);
    }
}

static bool measured(void *load, uint64_t now)
{
    const struct load *l = load;
    bool all_settled = l->acked >= l->published || now > l->moved_us + STUCK_US;
    return l->plan->mode == QUEUE_CONSUME ? all_settled : now >= l->loop.end_us;
}

static bool drained(const void *load)
{
    const struct load *l = load;
    bool all_arrived = l->plan->mode != QUEUE_LATENCY || l->res->received >= l->published;
    return l->plan->mode == QUEUE_CONSUME || (l->loop.in_flight == 0 && all_arrived);
}

static void show(void *load, uint64_t now)
{
    static const char *const names[] = {"filling", "warm-up", "measuring", "draining", ""};
    struct load *l = load;
    (void)now;
    uint64_t count = l->plan->mode == QUEUE_CONSUME && l->loop.phase != BENCH_FILLING ? l->acked : l->published;
    fprintf(l->plan->run.bar, "\r\033[K%s: %" PRIu64 " messages, %.0f/s ", names[l->loop.phase], count, (double)(count - l->bar_count) * 1e6 / BENCH_BAR_US);
    l->bar_count = count;
}

static const struct bench_load QUEUE = {.conn_of = conn_of, .begin = publish, .woken = woken, .take = take_answer, .lost = on_lost,
                                        .fill = fill, .measured = measured, .drained = drained, .show = show};

static bool load_open(struct load *l, char *why, size_t why_size)
{
    const struct queue_plan *p = l->plan;
    uint32_t consumers = consuming(l) ? p->consumers : 0;
    uint32_t flight_max = p->run.pipeline > ACKERS ? p->run.pipeline : ACKERS;
    l->n_publishers = p->run.connections * p->run.pipeline;
    l->publishers = calloc(l->n_publishers, sizeof *l->publishers);
    l->consumers = calloc(p->consumers, sizeof *l->consumers);
    syn_assert(l->publishers != NULL && l->consumers != NULL);
    for (uint32_t i = 0; i < p->consumers; i++) {
        snprintf(l->consumers[i].name, sizeof l->consumers[i].name, "bench-%u", i);
    }
    return bench_loop_open(&l->loop, p->run.connections + 2 * consumers, l->n_publishers + p->consumers * (1 + ACKERS), flight_max, why, why_size);
}

static void load_close(struct load *l)
{
    bench_loop_close(&l->loop);
    for (uint32_t i = 0; i < l->plan->consumers; i++) {
        buf_fini(&l->consumers[i].receipts);
        for (uint32_t k = 0; k < ACKERS; k++) {
            buf_fini(&l->consumers[i].ackers[k].receipts);
        }
    }
    free(l->publishers);
    free(l->consumers);
}

static void start(struct load *l)
{
    uint64_t now = now_us();
    bench_loop_clock(&l->loop, now);
    l->moved_us = now;
    if (l->plan->mode == QUEUE_CONSUME) {
        l->loop.phase = BENCH_FILLING; /* the clock will run from the first claim */
    } else if (l->plan->mode == QUEUE_LATENCY) {
        start_consumers(l);
    }
    for (uint32_t i = 0; i < l->n_publishers; i++) {
        next_publish(l, i, now);
    }
}

bool bench_queue_run(const struct queue_plan *plan, struct queue_result *out, char *why, size_t why_size)
{
    struct load l = {.plan = plan, .res = out, .loop = {.is = &QUEUE, .load = &l, .run = &plan->run, .tally = &out->tally, .batch = plan->batch}};
    memset(out, 0, sizeof *out);
    hist_init(&out->publish);
    hist_init(&out->deliver);
    bool ok = load_open(&l, why, why_size);
    if (ok) {
        start(&l);
        bench_loop_run(&l.loop);
    }
    load_close(&l);
    return ok;
}
