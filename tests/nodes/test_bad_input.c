/* Bad input at the doors of a node by itself, in virtual time: what takes too long, what is guessed, what is counted (rows of docs/verification.md). */
#include "one_node.h"

#include "nodes/locks/lock_internal.h"
#include "nodes/node_internal.h"
#include "utils/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

enum { HTTP = 5 };

static int begin_with(void **state, const char *password)
{
    static struct one_node o;
    one_start(&o, 1);
    snprintf(o.node->opt.requirepass, sizeof o.node->opt.requirepass, "%s", password);
    *state = &o;
    return 0;
}

static int begin(void **state)
{
    return begin_with(state, "");
}

static int begin_guarded(void **state)
{
    return begin_with(state, "right");
}

static int end(void **state)
{
    one_stop(*state);
    return 0;
}

static uint64_t refused(const struct one_node *o, enum refused_reason reason)
{
    return metrics_get_at(&o->node->metrics, METRIC_REFUSED_TOTAL, reason);
}

static void assert_begins(const char *text, const char *part)
{
    if (strncmp(text, part, strlen(part)) != 0) {
        fail_msg("'%s' does not begin with %s", text, part);
    }
}

/* I9: half a command, and silence. Whole commands may be followed by any silence. */
static void test_i09_half_a_command(void **state)
{
    struct one_node *o = *state;
    one_open(o, 1, DOOR_RESP);
    one_open(o, 2, DOOR_RESP);
    one_send(o, 1, "PING\r\n*2\r\n$4\r\nPI");
    one_send(o, 2, "PING\r\n");
    assert_string_equal(one_take(o, 1), "+PONG\r\n");
    one_run(o, LIMIT_RESP_STALL_MS - 1000);
    one_send(o, 1, "N"); /* a byte gives it new time */
    one_run(o, LIMIT_RESP_STALL_MS - 1000);
    assert_string_equal(one_take(o, 1), "");
    assert_true(o->conns[1].open);
    one_run(o, 2000);
    assert_begins(one_take(o, 1), "-ERR Protocol error: the command came to no end within 60 s");
    assert_false(o->conns[1].open);
    assert_true(o->conns[2].open);
    assert_int_equal(refused(o, REFUSED_SLOW), 1);
}

/* What waits because the node does not read is not the client's debt. */
static void test_i09_a_wait_is_no_half_command(void **state)
{
    struct one_node *o = *state;
    one_open(o, 1, DOOR_RESP);
    one_open(o, 2, DOOR_RESP);
    one_send(o, 1, "LOCK.ACQUIRE a EXCLUSIVE OWNER x TTL 600000\r\n");
    one_send(o, 2, "LOCK.ACQUIRE a EXCLUSIVE OWNER y WAIT 120000\r\n");
    for (int i = 0; i < LIMIT_PIPELINE + 5; i++) {
        buf_append_str(&o->conns[2].in, "PING\r\n");
    }
    one_send(o, 2, "");
    assert_true(o->conns[2].paused);
    one_run(o, 2 * LIMIT_RESP_STALL_MS - 1000);
    assert_true(o->conns[2].open);
    one_run(o, 2000);
    assert_begins(one_take(o, 2), "-TIMEOUT ");
}

static void test_i09_strangers_have_five_seconds(void **state)
{
    struct one_node *o = *state;
    one_open(o, 1, DOOR_RESP);
    one_open(o, 2, DOOR_RESP);
    one_open(o, 3, DOOR_RESP);
    assert_begins(one_ask(o, 2, "AUTH right"), "+OK");
    one_run(o, LIMIT_PREAUTH_MS - 1000);
    one_send(o, 3, "PING\r\n"); /* talking is not enough */
    one_run(o, 2000);
    assert_begins(one_take(o, 1), "-NOAUTH not authenticated within 5 s");
    assert_false(o->conns[1].open || o->conns[3].open);
    assert_true(o->conns[2].open);
    one_ask(o, 2, "RESET");
    one_run(o, LIMIT_PREAUTH_MS - 1000);
    assert_true(o->conns[2].open);
    one_run(o, 2000);
    assert_false(o->conns[2].open);
}

static void test_i14_guessing_is_slow_and_locks_nobody_out(void **state)
{
    struct one_node *o = *state;
    one_open(o, 1, DOOR_RESP);
    for (int i = 0; i < 10; i++) {
        one_send(o, 1, "AUTH wrong\r\n");
        assert_begins(one_take(o, 1), "-WRONGPASS ");
    }
    one_send(o, 1, "AUTH wrong\r\nAUTH right\r\n");
    assert_string_equal(one_take(o, 1), "");
    one_open(o, 2, DOOR_RESP);
    one_send(o, 2, "HELLO 3 AUTH default wrong\r\n");
    assert_string_equal(one_take(o, 2), "");
    one_open(o, 3, DOOR_RESP);
    one_send(o, 3, "AUTH right\r\n");
    assert_begins(one_take(o, 3), "+OK");
    one_run(o, 900);
    assert_string_equal(one_take(o, 1), "");
    one_run(o, 200);
    assert_begins(one_take(o, 1), "-WRONGPASS invalid username-password pair or user is disabled.\r\n+OK\r\n");
    assert_begins(one_take(o, 2), "-WRONGPASS ");
    assert_int_equal(refused(o, REFUSED_AUTH), 12);
    one_run(o, 30 * 1000); /* forgiven */
    one_open(o, 4, DOOR_RESP);
    one_send(o, 4, "AUTH wrong\r\n");
    assert_begins(one_take(o, 4), "-WRONGPASS ");
}

static void test_i14_guessing_over_http(void **state)
{
    struct one_node *o = *state;
    static const char wrong[] = "GET /cluster HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\n\r\n";
    static const char right[] = "GET /cluster HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer right\r\n\r\n";
    one_open(o, HTTP, DOOR_HTTP);
    for (int i = 0; i < 10; i++) {
        one_send(o, HTTP, wrong);
        assert_begins(one_take(o, HTTP), "HTTP/1.1 401 ");
    }
    one_send(o, HTTP, wrong);
    one_send(o, HTTP, right);
    assert_string_equal(one_take(o, HTTP), "");
    one_run(o, 1100);
    const char *out = one_take(o, HTTP);
    assert_begins(out, "HTTP/1.1 401 ");
    assert_non_null(strstr(out, "HTTP/1.1 200 "));
}

/* I17: names without end. The bound is pretended to be reached: ten million of them would take minutes. */
static void test_i17_names_have_an_end(void **state)
{
    struct one_node *o = *state;
    one_open(o, 1, DOOR_RESP);
    assert_begins(one_ask(o, 1, "LOCK.ACQUIRE a EXCLUSIVE TTL 60000"), "*");
    size_t counts[2];
    for (uint32_t g = 0; g < 2; g++) {
        struct map *names = &o->node->groups[g].locks->resources;
        counts[g] = names->count;
        names->count = LIMIT_LOCKS_PER_GROUP;
    }
    const char *full = one_ask(o, 1, "LOCK.ACQUIRE b EXCLUSIVE TTL 60000");
    assert_begins(full, "-LIMIT ");
    for (uint32_t g = 0; g < 2; g++) {
        o->node->groups[g].locks->resources.count = counts[g];
    }
    assert_int_equal(refused(o, REFUSED_LIMIT), 1);
    assert_begins(one_ask(o, 1, "LOCK.ACQUIRE b EXCLUSIVE TTL 60000"), "*");
}

/* I38, of the cache's messages: an epoch that no leader will ever have would make this node deaf to all homes of the group. */
static void test_i38_an_epoch_out_of_reach(void **state)
{
    struct one_node *o = *state;
    struct buf b = {0};
    one_open(o, 1, DOOR_RESP);
    assert_begins(one_ask(o, 1, "SET k v"), "+OK");
    uint64_t before = refused(o, REFUSED_PEER);
    for (uint32_t g = 0; g < 2; g++) {
        struct cache_msg m = {.kind = CACHE_MSG_EPOCH, .group = g, .epoch = UINT64_MAX - 1};
        buf_clear(&b);
        cache_msg_put(&b, &m);
        cache_on_peer(o->node, 2, buf_slice(&b));
    }
    buf_fini(&b);
    assert_int_equal(refused(o, REFUSED_PEER), before + 2);
    assert_begins(one_ask(o, 1, "GET k"), "$1\r\nv");
    assert_begins(one_ask(o, 1, "GET other"), "$-1");
}

static void test_refusals_are_counted_by_reason(void **state)
{
    struct one_node *o = *state;
    static char big[LIMIT_KEY_BYTES + 64];
    static const struct {
        const char *command;
        enum refused_reason reason;
    } rows[] = {{"NOPE", REFUSED_ARGUMENT}, {"LOCK.ACQUIRE", REFUSED_ARGUMENT}, {"LOCK.ACQUIRE a EXCLUSIVE TTL 0", REFUSED_ARGUMENT},
                {"HELLO 4", REFUSED_ARGUMENT}, {big, REFUSED_LIMIT}};
    memset(big, 'x', sizeof big - 1);
    memcpy(big, "LOCK.INFO ", 10);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t before = refused(o, rows[i].reason);
        one_open(o, 1, DOOR_RESP);
        assert_begins(one_ask(o, 1, rows[i].command), "-");
        assert_int_equal(refused(o, rows[i].reason), before + 1);
        assert_true(o->conns[1].open);
        one_close(o, 1);
    }
    uint64_t arguments = refused(o, REFUSED_ARGUMENT);
    one_open(o, 1, DOOR_RESP);
    one_send(o, 1, "*1\r\n$x\r\n");
    assert_int_equal(refused(o, REFUSED_RESP), 1);
    one_open(o, 2, DOOR_RESP);
    one_send(o, 2, "POST / HTTP/1.1\r\n");
    assert_int_equal(refused(o, REFUSED_CROSS_PROTOCOL), 1);
    one_open(o, HTTP, DOOR_HTTP);
    one_send(o, HTTP, "POST /lock/acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n[");
    assert_int_equal(refused(o, REFUSED_JSON), 1);
    one_send(o, HTTP, "GET\r\n");
    assert_int_equal(refused(o, REFUSED_HTTP), 1);
    assert_int_equal(refused(o, REFUSED_ARGUMENT), arguments);
}

static void test_commands_before_the_password_are_counted(void **state)
{
    struct one_node *o = *state;
    one_open(o, 1, DOOR_RESP);
    assert_begins(one_ask(o, 1, "LOCK.INFO a"), "-NOAUTH ");
    assert_int_equal(refused(o, REFUSED_NOAUTH), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_i09_half_a_command, begin, end),
        cmocka_unit_test_setup_teardown(test_i09_a_wait_is_no_half_command, begin, end),
        cmocka_unit_test_setup_teardown(test_i09_strangers_have_five_seconds, begin_guarded, end),
        cmocka_unit_test_setup_teardown(test_i14_guessing_is_slow_and_locks_nobody_out, begin_guarded, end),
        cmocka_unit_test_setup_teardown(test_i14_guessing_over_http, begin_guarded, end),
        cmocka_unit_test_setup_teardown(test_i17_names_have_an_end, begin, end),
        cmocka_unit_test_setup_teardown(test_i38_an_epoch_out_of_reach, begin, end),
        cmocka_unit_test_setup_teardown(test_refusals_are_counted_by_reason, begin, end),
        cmocka_unit_test_setup_teardown(test_commands_before_the_password_are_counted, begin_guarded, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
