/* The cache benchmark against a store in the same process: what is counted is what the store did, keys come as often as they should, and refusals and lost
 * connections end nothing. No figure is looked at. */
#include "cli/bench_cache_load.h"
#include "cli/bench_cache_wire.h"
#include "cli/cli.h"
#include "fake_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEYS = 1000, BYTES = 40 };

struct store {
    bool there[KEYS];
    uint32_t gets, sets, found, wrong, calls, refuse_every, close_every;
};

static enum fake_verdict answer(void *arg, uint32_t argc, const slice_t *argv, struct buf *out)
{
    struct store *s = arg;
    char key[32] = "", value[BYTES];
    bool set = slice_ieq(argv[0], "SET");
    s->calls++;
    if (s->close_every && s->calls % s->close_every == 0) {
        return FAKE_CLOSE;
    }
    if (s->refuse_every && s->calls % s->refuse_every == 0) {
        resp_error(out, "BUSY", "later");
        return FAKE_REPLY;
    }
    bool named = argv[1].len == 11 && memcmp(argv[1].ptr, "t:", 2) == 0;
    memcpy(key, argv[1].ptr, argv[1].len < sizeof key ? argv[1].len : 0);
    uint32_t number = named ? (uint32_t)strtoul(key + 2, NULL, 10) : KEYS;
    if (number >= KEYS || argc != (set ? 3u : 2u) || (set && argv[2].len != BYTES)) {
        s->wrong++;
        number = 0;
    }
    memset(value, 'x', sizeof value);
    if (set) {
        s->sets++;
        s->there[number] = true;
        resp_simple(out, "OK");
    } else if (s->gets++, s->there[number]) {
        s->found++;
        resp_bulk(out, slice_of(value, sizeof value));
    } else {
        buf_append_str(out, s->calls % 2 ? "$-1\r\n" : "_\r\n"); /* as RESP2 has it, and RESP3 */
    }
    return FAKE_REPLY;
}

static struct cache_result *run(struct store *s, const struct cache_plan *base)
{
    struct fake_server *server = fake_server_start(answer, s);
    struct cache_plan *p = malloc(sizeof *p);
    struct cache_result *r = calloc(1, sizeof *r);
    char why[200];
    *p = *base;
    p->prefix = "t";
    p->keys = KEYS;
    p->bytes = BYTES;
    p->run.n_endpoints = 1;
    p->run.endpoints[0] = (struct endpoint){.host = "127.0.0.1", .port = fake_server_port(server)};
    assert_true(bench_cache_run(p, r, why, sizeof why));
    fake_server_stop(server);
    free(p);
    return r;
}

static void what_is_done_is_counted(void **state)
{
    (void)state;
    for (uint32_t reads = 0; reads <= 100; reads += 25) {
        struct store s = {0};
        struct cache_plan p = {.run.connections = 3, .run.pipeline = 4, .reads = reads, .run.measure_us = 100000};
        struct cache_result *r = run(&s, &p);
        uint64_t all = r->all.count;
        assert_int_equal(s.wrong, 0);
        assert_true(all > 0 && all <= s.gets + s.sets && all + 3 * 12 >= s.gets + s.sets); /* some lanes before the clock, some after it */
        assert_int_equal(r->get.count + r->set.count, all);
        assert_true(r->get.count + all / 10 + 12 >= all * reads / 100 && r->get.count <= all * reads / 100 + all / 10 + 12);
        assert_true(r->absent <= s.gets - s.found && (reads != 100 || r->absent == r->get.count));
        assert_int_equal(r->tally.errors.n, 0);
        free(r);
    }
}

static void preload_sets_every_key_once(void **state)
{
    (void)state;
    struct store s = {.refuse_every = 11};
    struct cache_plan p = {.run.connections = 2, .run.pipeline = 8, .reads = 100, .preload = true, .run.measure_us = 50000, .run.warmup_us = 20000};
    struct cache_result *r = run(&s, &p);
    assert_int_equal(s.sets, KEYS);
    assert_int_equal(r->preloaded, KEYS);
    assert_int_equal(r->absent, 0);
    assert_int_equal(r->set.count, 0);
    assert_true(r->get.count > 0 && s.found == s.gets && s.wrong == 0);
    free(r);
}

static void an_open_loop_keeps_its_schedule(void **state)
{
    (void)state;
    struct store s = {0};
    struct cache_plan p = {.run.connections = 2, .run.pipeline = 8, .reads = 50, .run.rate = 1000, .run.measure_us = 300000, .run.warmup_us = 100000};
    struct cache_result *r = run(&s, &p);
    uint64_t sent = s.gets + s.sets;
    assert_true(sent + r->tally.unsent >= 399 && sent + r->tally.unsent <= 401);
    assert_true(r->all.count > 0 && r->all.count <= 302 + 16); /* what a slow machine answers late is not counted, or is that of one of 16 lanes */
    free(r);
}

static void refusals_and_lost_connections_end_nothing(void **state)
{
    (void)state;
    struct store s = {.refuse_every = 7, .close_every = 101};
    struct cache_plan p = {.run.connections = 2, .run.pipeline = 8, .reads = 50, .preload = true, .run.measure_us = 200000};
    struct cache_result *r = run(&s, &p);
    assert_true(r->tally.reconnects > 0 && r->all.count > 0);
    assert_int_equal(r->tally.errors.n, 2);
    assert_int_equal(r->absent, 0);
    assert_true(r->preloaded == KEYS && s.wrong == 0);
    free(r);
}

static bool is_near(double value, double expected, double tolerance)
{
    return value >= expected * (1 - tolerance) && value <= expected * (1 + tolerance);
}

/* Of 100,000 draws: the first keys as often as the law says, to a twentieth; without an exponent all alike. */
static void keys_follow_the_law(void **state)
{
    (void)state;
    enum { DRAWS = 100000 };
    static const struct { double exponent, first, second; } cases[] = {{0, 0.01, 0.01}, {1, 0.19277563, 0.09638781}, {2, 0.61162683, 0.15290671}};
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t times[100] = {0};
        struct zipf z;
        struct prng g;
        prng_init(&g, 7);
        zipf_init(&z, 100, cases[i].exponent);
        for (uint32_t n = 0; n < DRAWS; n++) {
            uint32_t k = zipf_draw(&z, &g);
            assert_true(k < 100);
            times[k]++;
        }
        zipf_fini(&z);
        double tolerance = i == 0 ? 0.1 : 0.05;
        assert_true(is_near(times[0], cases[i].first * DRAWS, tolerance));
        assert_true(is_near(times[1], cases[i].second * DRAWS, tolerance));
        assert_true(i == 2 || times[99] > 0);
    }
}

static void whole_runs_report_what_they_did(void **state)
{
    (void)state;
    static const struct { const char *words, *expect; int code; } cases[] = {
        {"bench cache get --name t --keys 1000 --bytes 40 -c 2 -P 4 -s 1 --warmup 0 --preload --json -q", "\"absent\":0,\"preloaded\":1000,", CLI_OK},
        {"bench cache mixed --reads 50 --zipf 0.99 --name t --keys 1000 --bytes 40 -c 1 -s 1 --warmup 0 -q", "50 % reads of 1000 keys by zipf(0.99), 40 bytes", CLI_OK},
        {"bench cache set --rate 300 --name t --keys 1000 --bytes 40 -c 1 -s 1 --warmup 0 --json -q", "{\"loop\":\"open\",\"connections\":1,", CLI_OK},
        {"bench cache put", "", CLI_USAGE}, {"bench cache --zipf steep", "", CLI_USAGE}, {"bench cache get --reads 5", "", CLI_USAGE}};
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct store s = {0};
        struct fake_server *server = fake_server_start(answer, &s);
        uint16_t ports[] = {fake_server_port(server), 0};
        struct fake_output o = fake_run(ports, cases[i].words);
        fake_server_stop(server);
        if (o.code != cases[i].code || strstr(o.out, cases[i].expect) == NULL || s.wrong > 0) {
            fail_msg("%s: exit code %d: %s%s", cases[i].words, o.code, o.out, o.err);
        }
        fake_output_free(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_done_is_counted),
        cmocka_unit_test(preload_sets_every_key_once),
        cmocka_unit_test(an_open_loop_keeps_its_schedule),
        cmocka_unit_test(refusals_and_lost_connections_end_nothing),
        cmocka_unit_test(keys_follow_the_law),
        cmocka_unit_test(whole_runs_report_what_they_did),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
