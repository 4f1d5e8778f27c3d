/* The cache's commands against a store of one key in the same process: what is sent, what is shown, and exit codes. */
#include "cli/cli.h"
#include "fake_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* Written by the server's thread while a command runs, read by the test after it ended. */
struct store {
    char value[64];
    bool there, close_sets;
    char last[512]; /* the command's words */
    uint32_t sets;
};

static bool says(uint32_t argc, const slice_t *argv, const char *word)
{
    for (uint32_t i = 3; i < argc; i++) {
        if (slice_ieq(argv[i], word)) {
            return true;
        }
    }
    return false;
}

static enum fake_verdict on_set(struct store *s, uint32_t argc, const slice_t *argv, struct buf *out)
{
    s->sets++;
    if (s->close_sets) {
        return FAKE_CLOSE;
    }
    if ((says(argc, argv, "NX") && s->there) || (says(argc, argv, "XX") && !s->there)) {
        resp_null(out);
        return FAKE_REPLY;
    }
    assert_true(argv[2].len < sizeof s->value);
    memcpy(s->value, argv[2].ptr, argv[2].len);
    s->value[argv[2].len] = '\0';
    s->there = true;
    resp_simple(out, "OK");
    return FAKE_REPLY;
}

static void put_state(struct buf *out)
{
    static const char *const names[] = {"n1", "n2"}, *const states[] = {"M", "I"};
    resp_map(out, 3);
    resp_bulk_str(out, "home");
    resp_bulk_str(out, "n2");
    resp_bulk_str(out, "epoch");
    resp_int(out, 7);
    resp_bulk_str(out, "nodes");
    resp_array(out, 2);
    for (uint32_t i = 0; i < 2; i++) {
        resp_map(out, 3);
        resp_bulk_str(out, "node");
        resp_bulk_str(out, names[i]);
        resp_bulk_str(out, "state");
        resp_bulk_str(out, states[i]);
        resp_bulk_str(out, "version");
        resp_int(out, 40 + i);
    }
}

static void put_entry(const struct store *s, struct buf *out)
{
    resp_map(out, 4);
    resp_bulk_str(out, "key");
    resp_bulk_str(out, "k");
    resp_bulk_str(out, "value");
    s->there ? resp_bulk_str(out, s->value) : resp_null(out);
    resp_bulk_str(out, "version");
    resp_int(out, 41);
    resp_bulk_str(out, "state");
    resp_bulk_str(out, "E");
}

static enum fake_verdict serve(void *arg, uint32_t argc, const slice_t *argv, struct buf *out)
{
    struct store *s = arg;
    size_t used = 0;
    for (uint32_t i = 0; i < argc; i++) {
        used += (size_t)snprintf(s->last + used, sizeof s->last - used, "%s%.*s", i > 0 ? " " : "", (int)argv[i].len, (const char *)argv[i].ptr);
    }
    if (slice_ieq(argv[0], "SET")) {
        return on_set(s, argc, argv, out);
    }
    if (slice_ieq(argv[0], "CACHE.GET")) {
        put_entry(s, out);
    } else if (slice_ieq(argv[0], "CACHE.STATE")) {
        put_state(out);
    } else if (slice_ieq(argv[0], "CACHE.STATS")) {
        resp_array(out, 4); /* as RESP2 has it */
        resp_bulk_str(out, "hits");
        resp_int(out, 12);
        resp_bulk_str(out, "memory_with_expiry");
        resp_int(out, 3);
    } else {
        resp_int(out, (int64_t)argc - 1);
    }
    return FAKE_REPLY;
}

static struct store store;
static struct fake_server *server;

static int open_store(void **state)
{
    (void)state;
    store = (struct store){0};
    server = fake_server_start(serve, &store);
    return 0;
}

static int close_store(void **state)
{
    (void)state;
    fake_server_stop(server);
    return 0;
}

/* Runs a command; its exit code, what it printed, and words of what it said. */
static void expect(const char *words, int code, const char *out, const char *said)
{
    uint16_t ports[] = {fake_server_port(server), 0};
    struct fake_output o = fake_run(ports, words);
    if (o.code != code || (out != NULL && strcmp(o.out, out) != 0) || strstr(o.err, said) == NULL) {
        fail_msg("%s: exit code %d, printed '%s', said '%s'", words, o.code, o.out, o.err);
    }
    fake_output_free(&o);
}

static void a_value_is_written_as_it_is(void **state)
{
    (void)state;
    expect("cache get k", CLI_NO_KEY, "", "there is no key 'k'");
    expect("cache get k --json", CLI_NO_KEY, "{\"key\":\"k\",\"value\":null,\"version\":41,\"state\":\"E\"}\n", "");
    expect("cache set k some\x01\\value", CLI_OK, "OK\n", "");
    assert_string_equal(store.last, "SET k some\x01\\value");
    expect("cache get k", CLI_OK, "some\x01\\value", "");
    assert_string_equal(store.last, "CACHE.GET k");
    expect("cache get k --json", CLI_OK, "{\"key\":\"k\",\"value\":\"some\\u0001\\\\value\",\"version\":41,\"state\":\"E\"}\n", "");
}

static void conditions_and_times_are_sent(void **state)
{
    (void)state;
    expect("cache set k v --xx", CLI_FAILED, "", "there is no such key (--xx)");
    expect("cache set k v --nx --ttl 90s", CLI_OK, "OK\n", "");
    assert_string_equal(store.last, "SET k v PX 90000 NX");
    expect("cache set k w --nx", CLI_FAILED, "", "there is such a key (--nx)");
    assert_string_equal(store.value, "v");
    expect("cache set k w --nx --json", CLI_FAILED, "{\"set\":false}\n", "");
    expect("cache set k w --xx --ttl 72h --json", CLI_OK, "{\"set\":true}\n", "");
    assert_string_equal(store.last, "SET k w PX 259200000 XX");
    expect("cache set k w --xx --nx", CLI_USAGE, "", "exclude each other");
}

static void a_condition_is_not_asked_twice(void **state)
{
    (void)state;
    uint16_t ports[] = {fake_server_port(server), fake_server_port(server), 0};
    store.close_sets = true;
    static const struct { const char *words; bool again; } cases[] = {{"cache set k v --nx --timeout 500", false}, {"cache set k v --timeout 500", true}};
    for (uint32_t i = 0; i < 2; i++) {
        store.sets = 0;
        struct fake_output o = fake_run(ports, cases[i].words);
        assert_int_not_equal(o.code, CLI_OK);
        assert_int_equal(store.sets > 1, cases[i].again);
        fake_output_free(&o);
    }
}

static void standard_input_is_a_value(void **state)
{
    (void)state;
    int ends[2], kept = dup(STDIN_FILENO);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "two\nlines\n", 10), 10);
    close(ends[1]);
    dup2(ends[0], STDIN_FILENO);
    clearerr(stdin);
    expect("cache set k -", CLI_OK, "OK\n", "");
    dup2(kept, STDIN_FILENO);
    close(kept);
    close(ends[0]);
    assert_string_equal(store.value, "two\nlines\n");
}

static void the_rest_is_shown(void **state)
{
    (void)state;
    expect("cache del a b c", CLI_OK, "3\n", "");
    assert_string_equal(store.last, "DEL a b c");
    expect("cache invalidate k", CLI_OK, "1\n", "");
    assert_string_equal(store.last, "CACHE.INVALIDATE k");
    expect("cache state k", CLI_OK, "home           n2\nepoch          7\nnodes:\nNODE  STATE  VERSION\nn1    M      40\nn2    I      41\n", "");
    assert_string_equal(store.last, "CACHE.STATE k");
    expect("cache stats", CLI_OK, "COUNT               VALUE\nhits                12\nmemory_with_expiry  3\n", "");
    expect("cache get", CLI_USAGE, "", "too few");
    expect("cache", CLI_USAGE, "", "synaxis: cache: which of its commands? get, set, del, state, stats, invalidate; see synaxis cache --help\n");
    expect("cach", CLI_USAGE, "", "no command 'cach'");
    expect("cache gte k", CLI_USAGE, "", "did you mean 'cache get'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_value_is_written_as_it_is, open_store, close_store),
        cmocka_unit_test_setup_teardown(conditions_and_times_are_sent, open_store, close_store),
        cmocka_unit_test_setup_teardown(a_condition_is_not_asked_twice, open_store, close_store),
        cmocka_unit_test_setup_teardown(standard_input_is_a_value, open_store, close_store),
        cmocka_unit_test_setup_teardown(the_rest_is_shown, open_store, close_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
