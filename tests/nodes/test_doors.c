/* The RESP door of a node by itself: handshakes as drivers send them, order of replies, sessions of connections, pushes, refusals. */
#include "nodes/doors/door.h"
#include "one_node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static int begin(void **state)
{
    static struct one_node o;
    one_start(&o, 1);
    one_open(&o, 1, DOOR_RESP);
    one_open(&o, 2, DOOR_RESP);
    *state = &o;
    return 0;
}

static int end(void **state)
{
    one_stop(*state);
    return 0;
}

static void assert_has(const char *text, const char *part)
{
    if (text == NULL || strstr(text, part) == NULL) {
        fail_msg("'%s' is not in: %s", part, text != NULL ? text : "nothing");
    }
}

static void test_handshakes(void **state)
{
    struct one_node *o = *state;
    assert_string_equal(one_ask(o, 1, "PING"), "+PONG\r\n");
    assert_has(one_ask(o, 1, "hello 3"), "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n");
    assert_has(one_ask(o, 1, "HELLO 3 SETNAME me"), "$5\r\nproto\r\n:3\r\n");
    assert_string_equal(one_ask(o, 1, "CLIENT GETNAME"), "$2\r\nme\r\n");
    assert_has(one_ask(o, 1, "HELLO 4"), "-NOPROTO unsupported protocol version");
    assert_string_equal(one_ask(o, 1, "CLIENT SETINFO LIB-NAME redis-py"), "+OK\r\n");
    assert_string_equal(one_ask(o, 1, "CLIENT SETINFO LIB-VER 8.0.0"), "+OK\r\n");
    assert_has(one_ask(o, 1, "CLIENT MAINT_NOTIFICATIONS ON"), "-ERR ");
    assert_string_equal(one_ask(o, 1, "SELECT 0"), "+OK\r\n");
    assert_has(one_ask(o, 1, "SELECT 1"), "-ERR DB index is out of range");
    assert_has(one_ask(o, 2, "INFO"), "loading:0");
    assert_has(one_ask(o, 2, "INFO server"), "redis_version:7.2.4");
    assert_has(one_ask(o, 2, "CONFIG GET save"), "*2\r\n$4\r\nsave\r\n$0\r\n");
}

static void test_unknown_words(void **state)
{
    struct one_node *o = *state;
    assert_string_equal(one_ask(o, 1, "foo bar"), "-ERR unknown command 'foo', with args beginning with: 'bar' \r\n");
    assert_string_equal(one_ask(o, 1, "lock.check"), "-ERR wrong number of arguments for 'lock.check' command\r\n");
    assert_has(one_ask(o, 1, "LOCK.ACQUIRE a SIDEWAYS"), "-ERR the mode must be SHARED or EXCLUSIVE");
    assert_has(one_ask(o, 1, "LOCK.ACQUIRE a EXCLUSIVE TTL 0"), "-ERR TTL must be a whole number between 1 and");
    assert_has(one_ask(o, 1, "LOCK.ACQUIRE a EXCLUSIVE TTL -5"), "-ERR TTL must be");
    assert_has(one_ask(o, 1, "LOCK.ACQUIRE a EXCLUSIVE COLOUR red"), "-ERR syntax error: unknown option 'COLOUR'");
    assert_has(one_ask(o, 1, "LOCK.ACQUIREALL EXCLUSIVE 2 x {foo}y"), "-CROSSGROUP ");
}

static void test_docs_cover_every_command(void **state)
{
    struct one_node *o = *state;
    char count[16];
    snprintf(count, sizeof count, "%s", one_ask(o, 1, "COMMAND COUNT"));
    one_ask(o, 1, "HELLO 3");
    char want[32];
    snprintf(want, sizeof want, "%%%s", count + 1);
    const char *docs = one_ask(o, 1, "COMMAND DOCS");
    assert_memory_equal(docs, want, strlen(want));
    assert_has(docs, "lock.acquire");
    assert_has(docs, "fencing token");
    assert_has(one_ask(o, 1, "COMMAND GETKEYS LOCK.ACQUIRE r SHARED"), "$1\r\nr\r\n");
}

static void test_lock_life(void **state)
{
    struct one_node *o = *state;
    assert_has(one_ask(o, 1, "LOCK.ACQUIRE r EXCLUSIVE OWNER a"), "$9\r\nEXCLUSIVE\r\n");
    assert_has(one_ask(o, 2, "LOCK.ACQUIRE r EXCLUSIVE OWNER b"), "-LOCKED r held by a EXCLUSIVE token ");
    one_send(o, 2, "LOCK.ACQUIRE r EXCLUSIVE OWNER b WAIT 4000\r\n");
    one_run(o, 50);
    assert_string_equal(one_take(o, 2), "");
    one_run(o, 4200);
    assert_has(one_take(o, 2), "-TIMEOUT ");
    one_send(o, 2, "LOCK.ACQUIRE r EXCLUSIVE OWNER b WAIT 4000\r\n");
    one_run(o, 3000); /* past a's TTL of 5 s in all */
    assert_has(one_take(o, 2), "$5\r\nowner\r\n$1\r\nb\r\n");
}

static void test_replies_keep_the_order_of_commands(void **state)
{
    struct one_node *o = *state;
    one_ask(o, 1, "LOCK.ACQUIRE q EXCLUSIVE OWNER a TTL 60000");
    one_send(o, 2, "LOCK.ACQUIRE q EXCLUSIVE OWNER b WAIT 1000\r\nPING\r\nLOCK.ACQUIRE free EXCLUSIVE OWNER b\r\n");
    one_run(o, 20);
    assert_string_equal(one_take(o, 2), ""); /* D1: PING is done, and held */
    assert_has(one_ask(o, 1, "LOCK.INFO free"), "EXCLUSIVE"); /* executed, although its reply waits */
    one_run(o, 1200);
    const char *out = one_take(o, 2);
    const char *timeout = strstr(out, "-TIMEOUT"), *pong = strstr(out, "+PONG"), *lock = strstr(out, "lock_id");
    assert_non_null(timeout);
    assert_true(timeout < pong && pong < lock);
}

static void test_connection_owned_lock_ends_with_it(void **state)
{
    struct one_node *o = *state;
    assert_has(one_ask(o, 1, "LOCK.ACQUIRE c EXCLUSIVE CONNECTION"), "lock_id");
    assert_has(one_ask(o, 2, "LOCK.ACQUIRE c EXCLUSIVE"), "-LOCKED ");
    one_run(o, 30000); /* kept alive by its connection */
    assert_has(one_ask(o, 2, "LOCK.ACQUIRE c EXCLUSIVE"), "-LOCKED ");
    one_close(o, 1);
    one_run(o, 50);
    assert_has(one_ask(o, 2, "LOCK.ACQUIRE c EXCLUSIVE"), "lock_id");
}

static void test_wait_ends_with_its_connection(void **state)
{
    struct one_node *o = *state;
    one_ask(o, 1, "LOCK.ACQUIRE w EXCLUSIVE OWNER a TTL 60000");
    one_send(o, 2, "LOCK.ACQUIRE w EXCLUSIVE OWNER b WAIT FOREVER\r\n");
    one_run(o, 50);
    assert_has(one_ask(o, 1, "LOCK.INFO w"), "$12\r\nqueue_length\r\n:1\r\n");
    one_close(o, 2);
    one_run(o, 50);
    assert_has(one_ask(o, 1, "LOCK.INFO w"), "$12\r\nqueue_length\r\n:0\r\n");
}

/* The line of who waits is looked at once a second: what ends in between, a wait or somebody's right, ends then. */
static void test_lease_waits_end_in_time(void **state)
{
    struct one_node *o = *state;
    assert_has(one_ask(o, 1, "CACHE.LEASE k FILL 1500"), "fill");
    one_send(o, 2, "CACHE.LEASE k WAIT 1200\r\n");
    one_run(o, 1150);
    assert_string_equal(one_take(o, 2), "");
    one_run(o, 100);
    assert_has(one_take(o, 2), "wait_ms");
    one_send(o, 2, "CACHE.LEASE k WAIT 60000\r\n");
    one_run(o, 400);
    assert_has(one_take(o, 2), "fill");
    one_send(o, 1, "CACHE.LEASE k FILL 1200 WAIT 60000\r\n");
    one_run(o, 5100);
    assert_has(one_take(o, 1), "fill");
}

/* Nobody asks for it, and its group has gone to sleep long before. */
static void test_a_key_expires_in_time(void **state)
{
    struct one_node *o = *state;
    assert_has(one_ask(o, 1, "SET k v PX 20000"), "+OK");
    one_run(o, 19900);
    assert_has(one_ask(o, 1, "CACHE.STATS"), "memory_expired\r\n:0\r\n");
    one_run(o, 200);
    assert_has(one_ask(o, 1, "CACHE.STATS"), "memory_expired\r\n:1\r\n");
}

static void test_deadlock_names_its_cycle(void **state)
{
    struct one_node *o = *state;
    one_ask(o, 1, "LOCK.ACQUIRE d1 EXCLUSIVE OWNER a");
    one_ask(o, 2, "LOCK.ACQUIRE d2 EXCLUSIVE OWNER b");
    one_send(o, 1, "LOCK.ACQUIRE d2 EXCLUSIVE OWNER a WAIT 9000\r\n");
    one_run(o, 20);
    assert_has(one_ask(o, 2, "LOCK.ACQUIRE d1 EXCLUSIVE OWNER b WAIT 9000"),
               "-DEADLOCK b waits d1 held by a, a waits d2 held by b\r\n");
}

static void test_deadlock_over_groups(void **state)
{
    struct one_node *o = *state;
    /* d1 is in group 0; the tag is one whose slot is in group 1. */
    one_ask(o, 1, "LOCK.ACQUIRE g1 EXCLUSIVE OWNER a TTL 60000");
    one_ask(o, 2, "LOCK.ACQUIRE {foo}g2 EXCLUSIVE OWNER b TTL 60000");
    one_send(o, 1, "LOCK.ACQUIRE {foo}g2 EXCLUSIVE OWNER a WAIT 20000\r\n");
    one_run(o, 20);
    one_send(o, 2, "LOCK.ACQUIRE g1 EXCLUSIVE OWNER b WAIT 20000\r\n");
    one_run(o, 1000);
    char first[4096], second[4096];
    snprintf(first, sizeof first, "%s", one_take(o, 1));
    snprintf(second, sizeof second, "%s", one_take(o, 2));
    assert_true((strstr(first, "-DEADLOCK") != NULL) + (strstr(second, "-DEADLOCK") != NULL) == 1);
}

static void test_session_reaches_other_groups(void **state)
{
    struct one_node *o = *state;
    const char *id = one_ask(o, 1, "SESSION.CREATE TTL 60000");
    char session[32] = {0}, command[128];
    const char *line = strchr(id, '\n') + 1;
    snprintf(session, sizeof session, "%.*s", (int)strcspn(line, "\r"), line);
    snprintf(command, sizeof command, "LOCK.ACQUIRE {foo}s EXCLUSIVE SESSION %s", session);
    assert_has(one_ask(o, 1, command), "lock_id");
    assert_has(one_ask(o, 2, "LOCK.ACQUIRE {foo}s EXCLUSIVE"), "-LOCKED ");
    snprintf(command, sizeof command, "SESSION.END %s", session);
    assert_string_equal(one_ask(o, 2, command), "+OK\r\n");
    one_run(o, 1000);
    assert_has(one_ask(o, 2, "LOCK.ACQUIRE {foo}s EXCLUSIVE"), "lock_id");
    snprintf(command, sizeof command, "LOCK.ACQUIRE {foo}t EXCLUSIVE SESSION %s", session);
    assert_has(one_ask(o, 1, command), "-NOSESSION ");
}

static void test_watch_pushes(void **state)
{
    struct one_node *o = *state;
    assert_has(one_ask(o, 1, "LOCK.WATCH p"), "-ERR LOCK.WATCH pushes need RESP3");
    one_ask(o, 1, "HELLO 3");
    assert_string_equal(one_ask(o, 1, "LOCK.WATCH p"), "+OK\r\n");
    one_ask(o, 2, "LOCK.ACQUIRE p EXCLUSIVE OWNER a TTL 1000");
    assert_has(one_take(o, 1), ">5\r\n$4\r\nlock\r\n$1\r\np\r\n$7\r\ngranted\r\n");
    one_run(o, 1200);
    assert_has(one_take(o, 1), "$7\r\nexpired\r\n");
    assert_string_equal(one_ask(o, 1, "LOCK.UNWATCH p"), ":1\r\n");
    one_ask(o, 2, "LOCK.ACQUIRE p EXCLUSIVE OWNER a");
    assert_string_equal(one_take(o, 1), "");
}

static void test_pipeline_beyond_the_limit_is_all_answered(void **state)
{
    struct one_node *o = *state;
    for (int i = 0; i < 3000; i++) {
        buf_append_str(&o->conns[1].in, "PING\r\n");
    }
    one_send(o, 1, "PING\r\n");
    one_run(o, 50);
    const char *out = one_take(o, 1);
    size_t pongs = 0;
    for (; *out != '\0'; out++) {
        pongs += *out == '+';
    }
    assert_int_equal(pongs, 3001);
}

static void test_protocol_error_closes(void **state)
{
    struct one_node *o = *state;
    one_send(o, 1, "*1\r\n$9223372036854775807\r\n");
    one_run(o, 5);
    assert_string_equal(one_take(o, 1), "-ERR Protocol error: invalid bulk length\r\n");
    assert_false(o->conns[1].open);
}

static unsigned version_number(const char *text)
{
    unsigned major, minor, patch;
    assert_int_equal(sscanf(text, "%u.%u.%u", &major, &minor, &patch), 3);
    return major * 1000000 + minor * 1000 + patch;
}

/* One version: no command is of a later one, and every door says the same. */
static void test_version(void **state)
{
    struct one_node *o = *state;
    for (uint32_t i = 0; i < command_count(); i++) {
        const struct command *c = command_at(i);
        if (version_number(c->since) > version_number(SYNAXIS_VERSION)) {
            fail_msg("%s is since %s, this is %s", c->name, c->since, SYNAXIS_VERSION);
        }
    }
    one_send(o, 1, "INFO server\r\n");
    assert_has(one_take(o, 1), "\r\nsynaxis_version:" SYNAXIS_VERSION "\r\n");
    one_open(o, 3, DOOR_HTTP);
    one_send(o, 3, "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(one_take(o, 3), "\"version\": \"" SYNAXIS_VERSION "\"");
    one_open(o, 4, DOOR_HTTP);
    one_send(o, 4, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_has(one_take(o, 4), "\"version\":\"" SYNAXIS_VERSION "\"");
}

static void test_minority_refuses(void **state)
{
    (void)state;
    struct one_node o;
    one_start(&o, 3);
    one_open(&o, 1, DOOR_RESP);
    one_send(&o, 1, "LOCK.ACQUIRE a EXCLUSIVE\r\n");
    one_run(&o, 100);
    assert_string_equal(one_take(&o, 1), "");
    one_run(&o, 600);
    assert_has(one_take(&o, 1), "-NOQUORUM this node reaches 1 of 3 members and needs 2: nothing was done");
    assert_true(o.dials > 0);
    one_stop(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_handshakes, begin, end),
        cmocka_unit_test_setup_teardown(test_unknown_words, begin, end),
        cmocka_unit_test_setup_teardown(test_docs_cover_every_command, begin, end),
        cmocka_unit_test_setup_teardown(test_lock_life, begin, end),
        cmocka_unit_test_setup_teardown(test_replies_keep_the_order_of_commands, begin, end),
        cmocka_unit_test_setup_teardown(test_connection_owned_lock_ends_with_it, begin, end),
        cmocka_unit_test_setup_teardown(test_wait_ends_with_its_connection, begin, end),
        cmocka_unit_test_setup_teardown(test_lease_waits_end_in_time, begin, end),
        cmocka_unit_test_setup_teardown(test_a_key_expires_in_time, begin, end),
        cmocka_unit_test_setup_teardown(test_deadlock_names_its_cycle, begin, end),
        cmocka_unit_test_setup_teardown(test_deadlock_over_groups, begin, end),
        cmocka_unit_test_setup_teardown(test_session_reaches_other_groups, begin, end),
        cmocka_unit_test_setup_teardown(test_watch_pushes, begin, end),
        cmocka_unit_test_setup_teardown(test_pipeline_beyond_the_limit_is_all_answered, begin, end),
        cmocka_unit_test_setup_teardown(test_protocol_error_closes, begin, end),
        cmocka_unit_test_setup_teardown(test_version, begin, end),
        cmocka_unit_test(test_minority_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
