/* Whole commands: exit codes for refusals, tables, JSON, graphs over several groups, status by the leaders' words. */
#include "cli/cli.h"
#include "fake_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static enum fake_verdict refuse(void *arg, uint32_t argc, const slice_t *argv, struct buf *out)
{
    (void)argc, (void)argv;
    resp_error(out, arg, "for a reason");
    return FAKE_REPLY;
}

static void refusals_have_their_codes(void **state)
{
    (void)state;
    static const struct { const char *word; int code; } cases[] = {
        {"LOCKED", CLI_NOT_ACQUIRED}, {"TIMEOUT", CLI_NOT_ACQUIRED}, {"DEADLOCK", CLI_NOT_ACQUIRED}, {"NOQUORUM", CLI_NO_QUORUM},
        {"LOADING", CLI_NO_QUORUM},   {"UNCERTAIN", CLI_NO_QUORUM},  {"STALE", CLI_FAILED},          {"NOAUTH", CLI_FAILED},
        {"ERR", CLI_FAILED},          {"SURPRISE", CLI_FAILED}};
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fake_server *s = fake_server_start(refuse, (void *)(uintptr_t)cases[i].word);
        uint16_t ports[] = {fake_server_port(s), 0};
        struct fake_output o = fake_run(ports, "lock acquire x --timeout 120");
        assert_int_equal(o.code, cases[i].code);
        assert_non_null(strstr(o.err, cases[i].word));
        assert_string_equal(o.out, "");
        fake_output_free(&o);
        fake_server_stop(s);
    }
}

static void put(struct buf *b, const char *key, const char *value)
{
    resp_bulk_str(b, key);
    resp_bulk_str(b, value);
}

static void put_number(struct buf *b, const char *key, int64_t value)
{
    resp_bulk_str(b, key);
    resp_int(b, value);
}

struct cluster {
    uint16_t port;
    bool leaderless;
};

static void put_group(struct buf *out, int64_t id, const char *leader, int64_t commit, int64_t match)
{
    resp_map(out, 7);
    put_number(out, "group", id);
    put(out, "role", leader[0] ? "LEADER" : "FOLLOWER");
    put(out, "leader", leader);
    put_number(out, "term", 7);
    put_number(out, "commit_index", commit);
    put_number(out, "applied_index", commit);
    resp_bulk_str(out, "replicas");
    resp_array(out, 2);
    resp_map(out, 3);
    put(out, "id", "n1");
    put(out, "state", "self");
    put_number(out, "match", 0);
    resp_map(out, 3);
    put(out, "id", "n2");
    put(out, "state", "replicate");
    put_number(out, "match", match);
}

static void put_node(struct buf *out, const char *id, const char *state, int64_t port)
{
    resp_map(out, 5);
    put(out, "id", id);
    put(out, "state", state);
    put(out, "client_host", "127.0.0.1");
    put_number(out, "resp_port", port);
    put_number(out, "groups_led", 1);
}

static bool has(uint32_t argc, const slice_t *argv, const char *word, const char *value)
{
    for (uint32_t i = 1; i + 1 < argc; i++) {
        if (slice_ieq(argv[i], word) && slice_eq(argv[i + 1], slice_str(value))) {
            return true;
        }
    }
    return false;
}

static void put_edge(struct buf *out, const char *waiter, const char *resource, const char *holder)
{
    resp_map(out, 3);
    put(out, "waiter", waiter);
    put(out, "resource", resource);
    put(out, "holder", holder);
}

/* Two groups: a list of two pages in the first, one of one page in the second. */
static void put_list(struct buf *out, uint32_t argc, const slice_t *argv)
{
    bool first = has(argc, argv, "GROUP", "0"), again = has(argc, argv, "CURSOR", "5");
    resp_array(out, 2);
    resp_int(out, first && !again ? 5 : 0);
    resp_array(out, 1);
    resp_map(out, 2);
    put(out, "resource", !first ? "cherry" : again ? "banana" : "ap\x1bple");
    put_number(out, "token", 9007199254740993);
}

static enum fake_verdict cluster_answer(void *arg, uint32_t argc, const slice_t *argv, struct buf *out)
{
    struct cluster *c = arg;
    if (slice_ieq(argv[0], "CLUSTER.NODES")) {
        resp_array(out, 2);
        put_node(out, "n1", "self", c->port);
        put_node(out, "n2", "down", 0);
    } else if (slice_ieq(argv[0], "CLUSTER.GROUPS")) {
        resp_array(out, 2);
        put_group(out, 0, "n1", 100, 88);
        put_group(out, 1, c->leaderless ? "" : "n1", 5, 5);
    } else if (slice_ieq(argv[0], "LOCK.LIST")) {
        put_list(out, argc, argv);
    } else if (slice_ieq(argv[0], "LOCK.WAITGRAPH")) {
        resp_array(out, has(argc, argv, "GROUP", "0"));
        if (has(argc, argv, "GROUP", "0")) {
            put_edge(out, "alice", "say \"hi\"", "bob");
        }
    } else {
        return fake_locks(NULL, argc, argv, out);
    }
    return FAKE_REPLY;
}

static struct fake_output ask(struct cluster *c, const char *words)
{
    struct fake_server *s = fake_server_start(cluster_answer, c);
    c->port = fake_server_port(s);
    uint16_t ports[] = {c->port, 0};
    struct fake_output o = fake_run(ports, words);
    fake_server_stop(s);
    return o;
}

static void status_in_one_screen(void **state)
{
    (void)state;
    struct cluster c = {0};
    struct fake_output o = ask(&c, "status");
    assert_int_equal(o.code, CLI_OK);
    assert_non_null(strstr(o.out, "DEGRADED: 1 of 2 nodes up, 2 of 2 groups have a leader, largest lag 12 entries"));
    assert_non_null(strstr(o.out, "n2:-12"));
    fake_output_free(&o);
    c.leaderless = true;
    o = ask(&c, "status");
    assert_int_equal(o.code, CLI_NO_QUORUM);
    assert_non_null(strstr(o.out, "NOT SERVING"));
    fake_output_free(&o);
    c.leaderless = false;
    o = ask(&c, "status --json");
    assert_int_equal(o.code, CLI_OK);
    assert_non_null(strstr(o.out, "\"commit_index\":100"));
    fake_output_free(&o);
}

static void lists_cover_all_pages_and_groups(void **state)
{
    (void)state;
    struct cluster c = {0};
    struct fake_output o = ask(&c, "lock list");
    assert_int_equal(o.code, CLI_OK);
    assert_non_null(strstr(o.out, "RESOURCE"));
    assert_non_null(strstr(o.out, "banana"));
    assert_non_null(strstr(o.out, "cherry"));
    assert_non_null(strstr(o.out, "ap\\x1bple")); /* an escape in a name does not reach the terminal */
    assert_null(strchr(o.out, '\x1b'));
    fake_output_free(&o);
    o = ask(&c, "lock list --json");
    assert_non_null(strstr(o.out, "\"9007199254740993\"")); /* beyond 2^53: a string */
    fake_output_free(&o);
}

static void the_graph_for_graphviz(void **state)
{
    (void)state;
    struct cluster c = {0};
    struct fake_output o = ask(&c, "lock graph --dot");
    assert_int_equal(o.code, CLI_OK);
    assert_non_null(strstr(o.out, "digraph"));
    assert_non_null(strstr(o.out, "\"alice\" -> \"bob\" [label=\"say \\\"hi\\\"\"];"));
    fake_output_free(&o);
}

static void acquire_prints_what_release_needs(void **state)
{
    (void)state;
    struct cluster c = {0};
    struct fake_output o = ask(&c, "lock release x 4711");
    assert_int_equal(o.code, CLI_OK);
    fake_output_free(&o);
    o = ask(&c, "lock force x");
    assert_int_equal(o.code, CLI_USAGE);
    assert_non_null(strstr(o.err, "--reason"));
    fake_output_free(&o);
    o = ask(&c, "lock acquire x --mode both");
    assert_int_equal(o.code, CLI_USAGE);
    fake_output_free(&o);
}

static void nobody_there(void **state)
{
    (void)state;
    struct cluster c = {0};
    struct fake_output o = ask(&c, "lock info x");
    fake_output_free(&o);
    uint16_t ports[] = {c.port, 0};
    o = fake_run(ports, "lock info x");
    assert_int_equal(o.code, CLI_NO_QUORUM);
    assert_non_null(strstr(o.err, "no node could be reached"));
    fake_output_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusals_have_their_codes),
        cmocka_unit_test(status_in_one_screen),
        cmocka_unit_test(lists_cover_all_pages_and_groups),
        cmocka_unit_test(the_graph_for_graphviz),
        cmocka_unit_test(acquire_prints_what_release_needs),
        cmocka_unit_test(nobody_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
