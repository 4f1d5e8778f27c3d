/* The generator's bytes, and whole runs against a server in the same process: every acquire has its release, nothing is lost when
 * the server refuses or closes. No figure is looked at. */
#include "cli/bench_load.h"
#include "cli/bench_wire.h"
#include "fake_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void commands_are_well_formed(void **state)
{
    (void)state;
    for (int redis = 0; redis < 2; redis++) {
        struct bench_wire w;
        struct resp_parser p;
        uint8_t out[WIRE_COMMAND_MAX];
        const char *reason;
        size_t used;
        static const struct resp_limits limits = {.args_max = 64, .bulk_bytes_max = 65536, .inline_bytes_max = 4096, .command_bytes_max = 1 << 20};
        wire_init(&w, redis, 86400000, "00ff");
        resp_parser_init(&p, &limits);
        size_t n = wire_acquire(&w, out, 12, 3456789);
        assert_true(n <= sizeof out);
        assert_int_equal(resp_parse(&p, slice_of(out, n), &used, &reason), RESP_OK);
        assert_int_equal(used, n);
        assert_int_equal(p.argc, redis ? 6 : 5);
        assert_true(slice_eq(p.argv[1], SLICE_LIT("b00ff:0000012:3456789")));
        assert_true(slice_eq(p.argv[p.argc - 1], SLICE_LIT("86400000")));
        for (size_t id_len = 1; id_len <= WIRE_ID_MAX; id_len++) {
            n = wire_release(&w, out, 12, 3456789, slice_of("123456789012345678901234", id_len));
            assert_true(n <= sizeof out);
            assert_int_equal(resp_parse(&p, slice_of(out, n), &used, &reason), RESP_OK);
            assert_int_equal(used, n);
            assert_int_equal(p.argc, redis ? 2 : 3);
        }
        resp_parser_fini(&p);
    }
}

static void answers_are_told_apart(void **state)
{
    (void)state;
    struct bench_wire w, r;
    size_t used;
    slice_t what;
    wire_init(&w, false, 1000, "0000");
    wire_init(&r, true, 1000, "0000");
    slice_t grant = SLICE_LIT("*4\r\n$8\r\nresource\r\n$1\r\nx\r\n$7\r\nlock_id\r\n:4711\r\n"), text = SLICE_LIT("*2\r\n$7\r\nlock_id\r\n$4\r\n4711\r\n");
    assert_int_equal(wire_reply(&w, grant, true, &used, &what), WIRE_DONE);
    assert_true(slice_eq(what, SLICE_LIT("4711")) && used == grant.len);
    assert_int_equal(wire_reply(&w, text, true, &used, &what), WIRE_DONE);
    assert_true(slice_eq(what, SLICE_LIT("4711")));
    for (size_t n = 0; n < grant.len; n++) {
        assert_int_equal(wire_reply(&w, slice_of(grant.ptr, n), true, &used, &what), WIRE_MORE);
    }
    assert_int_equal(wire_reply(&w, SLICE_LIT("-LOCKED by a\r\n"), true, &used, &what), WIRE_REFUSED);
    assert_true(slice_eq(what, SLICE_LIT("LOCKED")));
    assert_int_equal(wire_reply(&w, SLICE_LIT(":1\r\n"), false, &used, &what), WIRE_DONE);
    assert_int_equal(wire_reply(&w, SLICE_LIT(":1\r\n"), true, &used, &what), WIRE_BAD);
    assert_int_equal(wire_reply(&w, SLICE_LIT("*0\r\n"), true, &used, &what), WIRE_BAD);
    assert_int_equal(wire_reply(&w, SLICE_LIT("HTTP\r\n"), true, &used, &what), WIRE_BAD);
    assert_int_equal(wire_reply(&r, SLICE_LIT("+OK\r\n"), true, &used, &what), WIRE_DONE);
    assert_int_equal(wire_reply(&r, SLICE_LIT("$-1\r\n"), true, &used, &what), WIRE_REFUSED);
    assert_int_equal(wire_reply(&r, SLICE_LIT(":0\r\n"), false, &used, &what), WIRE_REFUSED);
}

/* A lock table of its own: a lock may be taken once and released by its holder only. */
struct table {
    uint64_t held, acquires, releases, wrong;
    uint32_t refuse_every, close_every;
    uint8_t names[65536];
};

static uint32_t slot_of(slice_t name)
{
    uint32_t lane = (uint32_t)strtoul((const char *)name.ptr + 6, NULL, 10), round = (uint32_t)strtoul((const char *)name.ptr + 14, NULL, 10);
    return lane * 256 + round;
}

static enum fake_verdict table_answer(void *arg, uint32_t argc, const slice_t *argv, struct buf *out)
{
    struct table *t = arg;
    bool acquire = slice_ieq(argv[0], "LOCK.ACQUIRE");
    t->acquires += acquire;
    t->releases += !acquire;
    if (acquire && t->refuse_every && t->acquires % t->refuse_every == 0) {
        resp_error(out, "BUSY", "later");
        return FAKE_REPLY;
    }
    if (t->close_every && (t->acquires + t->releases) % t->close_every == 0) {
        t->held -= !acquire && t->names[slot_of(argv[1])];
        t->names[slot_of(argv[1])] = 0;
        return FAKE_CLOSE;
    }
    uint8_t *slot = &t->names[slot_of(argv[1])];
    t->wrong += acquire ? *slot : !*slot;
    t->held += acquire ? 1 : (uint64_t)-1;
    *slot = acquire;
    return fake_locks(NULL, argc, argv, out);
}

static struct bench_result *run(struct table *t, const struct bench_plan *base)
{
    struct fake_server *s = fake_server_start(table_answer, t);
    struct bench_plan *p = malloc(sizeof *p);
    struct bench_result *r = calloc(1, sizeof *r);
    char why[200];
    *p = *base;
    p->run.n_endpoints = 1;
    p->ttl_ms = 60000;
    p->run.endpoints[0] = (struct endpoint){.host = "127.0.0.1", .port = fake_server_port(s)};
    assert_true(bench_load_run(p, r, why, sizeof why));
    fake_server_stop(s);
    free(p);
    return r;
}

static void a_closed_loop_leaves_nothing_held(void **state)
{
    (void)state;
    struct table t = {0};
    struct bench_plan p = {.run.connections = 8, .run.pipeline = 4, .resources = 5, .run.measure_us = 200000};
    struct bench_result *r = run(&t, &p);
    assert_true(t.acquires > 0);
    assert_int_equal(t.wrong, 0);
    assert_int_equal(t.held, 0);
    assert_int_equal(t.acquires, t.releases);
    assert_int_equal(r->tally.errors.n, 0);
    assert_true(r->pairs > 0 && r->acquire.count >= r->pairs);
    free(r);
}

static void an_open_loop_begins_what_was_scheduled(void **state)
{
    (void)state;
    struct table t = {0};
    struct bench_plan p = {.run.connections = 4, .run.pipeline = 2, .resources = 1, .run.measure_us = 300000, .run.rate = 1000};
    struct bench_result *r = run(&t, &p);
    assert_int_equal(t.wrong, 0);
    assert_int_equal(t.held, 0);
    assert_true(t.acquires + r->tally.unsent >= 299 && t.acquires + r->tally.unsent <= 301);
    free(r);
}

static void holding_takes_each_lock_once(void **state)
{
    (void)state;
    struct table t = {0};
    struct bench_plan p = {.run.connections = 2, .run.pipeline = 3, .resources = 1, .run.measure_us = 3600000000, .hold = 200};
    struct bench_result *r = run(&t, &p);
    assert_int_equal(t.acquires, 200);
    assert_int_equal(t.releases, 0);
    assert_int_equal(t.wrong, 0);
    assert_int_equal(r->acquired, 200);
    free(r);
}

static void refusals_and_lost_connections_are_counted(void **state)
{
    (void)state;
    struct table t = {.refuse_every = 7, .close_every = 101};
    struct bench_plan p = {.run.connections = 4, .run.pipeline = 2, .resources = 100, .run.measure_us = 500000};
    struct bench_result *r = run(&t, &p);
    assert_true(r->tally.reconnects > 0);
    assert_true(r->tally.errors.n == 2);
    assert_true(r->pairs > 0);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_well_formed),
        cmocka_unit_test(answers_are_told_apart),
        cmocka_unit_test(a_closed_loop_leaves_nothing_held),
        cmocka_unit_test(an_open_loop_begins_what_was_scheduled),
        cmocka_unit_test(holding_takes_each_lock_once),
        cmocka_unit_test(refusals_and_lost_connections_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
