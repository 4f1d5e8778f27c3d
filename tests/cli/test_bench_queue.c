/* The queue benchmark against a broker in the same process: what is counted is what the broker has, each message is acknowledged once, and
 * refusals and lost connections end neither. No figure is looked at. */
#include "cli/bench_queue_load.h"
#include "cli/bench_queue_wire.h"
#include "cli/cli.h"
#include "fake_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { STORED_MAX = 1 << 20 };

struct broker {
    uint32_t stored, next, acks, doubles, wrong, calls, made, deleted, refuse_every, close_every;
    uint8_t acked[STORED_MAX];
    char stamps[STORED_MAX][QUEUE_STAMP_BYTES];
};

static bool store(struct broker *b, slice_t payload)
{
    b->wrong += payload.len != 128 || queue_wire_stamp(payload) == 0;
    if (b->stored == STORED_MAX) {
        return false;
    }
    memcpy(b->stamps[b->stored++], payload.ptr, QUEUE_STAMP_BYTES);
    return true;
}

/* As RESP2 has it. */
static void put_message(struct broker *b, struct buf *out)
{
    char receipt[32], payload[129];
    snprintf(receipt, sizeof receipt, "0-1-%u-1", b->next);
    snprintf(payload, sizeof payload, "%.16s%0112d", b->stamps[b->next++], 0);
    resp_array(out, 6);
    resp_bulk_str(out, "id");
    resp_bulk_str(out, receipt);
    resp_bulk_str(out, "payload");
    resp_bulk_str(out, payload);
    resp_bulk_str(out, "receipt");
    resp_bulk_str(out, receipt);
}

static void on_consume(struct broker *b, const slice_t *argv, struct buf *out)
{
    uint32_t count = (uint32_t)strtoul((const char *)argv[7].ptr, NULL, 10), left = b->stored - b->next;
    resp_array(out, count < left ? count : left);
    for (uint32_t i = 0; i < count && i < left; i++) {
        put_message(b, out);
    }
}

static void on_ack(struct broker *b, uint32_t argc, const slice_t *argv, struct buf *out)
{
    for (uint32_t i = 4; i < argc; i++) {
        uint32_t offset = (uint32_t)strtoul((const char *)argv[i].ptr + 4, NULL, 10);
        b->doubles += b->acked[offset];
        b->acked[offset] = 1;
        b->acks++;
    }
    resp_int(out, argc - 4);
}

static enum fake_verdict broker_answer(void *arg, uint32_t argc, const slice_t *argv, struct buf *out)
{
    struct broker *b = arg;
    b->calls++;
    if (b->close_every && b->calls % b->close_every == 0) {
        return FAKE_CLOSE;
    }
    if (b->refuse_every && b->calls % b->refuse_every == 0) {
        resp_error(out, "BUSY", "later");
    } else if (slice_ieq(argv[0], "QUEUE.PUBLISH")) {
        store(b, argv[2]);
        resp_bulk_str(out, "t:0:0");
    } else if (slice_ieq(argv[0], "QUEUE.PUBLISHBATCH")) {
        b->wrong += strtoul((const char *)argv[2].ptr, NULL, 10) != argc - 3;
        resp_array(out, argc - 3);
        for (uint32_t i = 3; i < argc; i++) {
            store(b, argv[i]);
            resp_bulk_str(out, "t:0:0");
        }
    } else if (slice_ieq(argv[0], "QUEUE.CREATE") || slice_ieq(argv[0], "QUEUE.DELETE")) {
        b->made += slice_ieq(argv[0], "QUEUE.CREATE");
        b->deleted += slice_ieq(argv[0], "QUEUE.DELETE");
        resp_simple(out, "OK");
    } else if (slice_ieq(argv[0], "QUEUE.CONSUME")) {
        on_consume(b, argv, out);
    } else {
        on_ack(b, argc, argv, out);
    }
    return FAKE_REPLY;
}

static struct queue_result *run(struct broker *b, const struct queue_plan *base)
{
    struct fake_server *s = fake_server_start(broker_answer, b);
    struct queue_plan *p = malloc(sizeof *p);
    struct queue_result *r = calloc(1, sizeof *r);
    char why[200];
    *p = *base;
    p->run.n_endpoints = 1;
    p->topic = "t";
    p->bytes = 128;
    p->consumers = p->consumers ? p->consumers : 1;
    p->count = 50;
    p->run.endpoints[0] = (struct endpoint){.host = "127.0.0.1", .port = fake_server_port(s)};
    assert_true(bench_queue_run(p, r, why, sizeof why));
    fake_server_stop(s);
    free(p);
    return r;
}

static void what_is_published_is_counted(void **state)
{
    (void)state;
    for (uint32_t batch = 1; batch <= 10; batch += 9) {
        struct broker *b = calloc(1, sizeof *b);
        struct queue_plan p = {.mode = QUEUE_PUBLISH, .run.connections = 4, .run.pipeline = 3, .batch = batch, .run.measure_us = 100000};
        struct queue_result *r = run(b, &p);
        assert_int_equal(b->wrong, 0);
        assert_true(r->published > 0 && r->published <= b->stored && r->published + 12 * batch >= b->stored);
        assert_int_equal(r->tally.errors.n, 0);
        free(r);
        free(b);
    }
}

static void consumers_acknowledge_each_once(void **state)
{
    (void)state;
    for (uint32_t consumers = 1; consumers <= 3; consumers += 2) {
        struct broker *b = calloc(1, sizeof *b);
        struct queue_plan p = {.mode = QUEUE_CONSUME, .run.connections = 2, .run.pipeline = 2, .batch = 20, .fill = 5000, .consumers = consumers};
        struct queue_result *r = run(b, &p);
        assert_int_equal(b->stored, 5000);
        assert_int_equal(b->acks, 5000);
        assert_int_equal(b->doubles, 0);
        assert_int_equal(r->acked, 5000);
        assert_int_equal(r->received, 5000);
        free(r);
        free(b);
    }
}

static void latency_times_every_message(void **state)
{
    (void)state;
    struct broker *b = calloc(1, sizeof *b);
    struct queue_plan p = {.mode = QUEUE_LATENCY, .run.connections = 2, .run.pipeline = 8, .batch = 1, .run.rate = 1000, .run.measure_us = 300000, .run.warmup_us = 100000};
    struct queue_result *r = run(b, &p);
    assert_true(b->stored + r->tally.unsent >= 399 && b->stored + r->tally.unsent <= 401);
    assert_int_equal(r->received, b->stored);
    assert_true(r->deliver.count >= 299 - r->tally.unsent && r->deliver.count <= 301);
    assert_true(r->deliver.max_us < 10000000);
    free(r);
    free(b);
}

static void refusals_and_lost_connections_end_nothing(void **state)
{
    (void)state;
    struct broker *b = calloc(1, sizeof *b);
    struct queue_plan p = {.mode = QUEUE_LATENCY, .run.connections = 2, .run.pipeline = 8, .batch = 2, .run.rate = 4000, .run.measure_us = 400000, .consumers = 2};
    b->refuse_every = 7;
    b->close_every = 101;
    struct queue_result *r = run(b, &p);
    assert_true(r->tally.reconnects > 0);
    assert_int_equal(r->tally.errors.n, 2);
    assert_true(r->received > 0 && r->acked > 0);
    free(r);
    free(b);
}

static void whole_runs_report_what_they_did(void **state)
{
    (void)state;
    static const struct { const char *words, *expect; } cases[] = {
        {"bench queue consume --fill 6400 --count 20 --json -q", "\"acked\":6400,"},
        {"bench queue publish -c 2 -P 2 --batch 4 -s 1 --warmup 0 --partitions 3 --json -q", "\"mode\":\"publish\",\"loop\":\"closed\",\"connections\":2,"},
        {"bench queue latency -c 1 -P 16 --rate 200 -s 1 --warmup 0 -q", "deliver  p50"}};
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct broker *b = calloc(1, sizeof *b);
        struct fake_server *s = fake_server_start(broker_answer, b);
        uint16_t ports[] = {fake_server_port(s), 0};
        struct fake_output o = fake_run(ports, cases[i].words);
        fake_server_stop(s);
        if (o.code != CLI_OK || strstr(o.out, cases[i].expect) == NULL) {
            fail_msg("%s: exit code %d: %s%s", cases[i].words, o.code, o.out, o.err);
        }
        assert_true(b->made == 1 && b->deleted == 1 && b->wrong == 0);
        fake_output_free(&o);
        free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_published_is_counted),
        cmocka_unit_test(consumers_acknowledge_each_once),
        cmocka_unit_test(latency_times_every_message),
        cmocka_unit_test(refusals_and_lost_connections_end_nothing),
        cmocka_unit_test(whole_runs_report_what_they_did),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
