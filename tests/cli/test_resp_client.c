/* Deadlines, the next address, what is tried again and what is not; a server that does everything wrong. */
#include "cli/resp_client.h"
#include "fake_server.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { FOREVER_MS = 600000 };

static const slice_t PING[] = {{(const uint8_t *)"PING", 4}};

static enum fake_verdict pong(void *arg, uint32_t argc, const slice_t *argv, struct buf *out)
{
    (void)arg, (void)argc, (void)argv;
    resp_push(out, 1); /* a push on the way is not the answer */
    resp_bulk_str(out, "noise");
    resp_simple(out, "PONG");
    return FAKE_REPLY;
}

static enum fake_verdict closing(void *arg, uint32_t argc, const slice_t *argv, struct buf *out)
{
    (void)arg, (void)argc, (void)argv, (void)out;
    return FAKE_CLOSE;
}

static enum fake_verdict silent(void *arg, uint32_t argc, const slice_t *argv, struct buf *out)
{
    (void)arg, (void)argc, (void)argv, (void)out;
    return FAKE_SILENT;
}

static enum fake_verdict garbage(void *arg, uint32_t argc, const slice_t *argv, struct buf *out)
{
    (void)arg, (void)argc, (void)argv;
    buf_append_str(out, "HTTP/1.1 400 Bad Request\r\n\r\n");
    return FAKE_REPLY;
}

/* LOADING as often as *arg says, then OK. */
static enum fake_verdict loading(void *arg, uint32_t argc, const slice_t *argv, struct buf *out)
{
    int *times = arg;
    (void)argc, (void)argv;
    if ((*times)-- > 0) {
        resp_error(out, "LOADING", "no leader yet");
    } else {
        resp_simple(out, "OK");
    }
    return FAKE_REPLY;
}

static void client_of(struct resp_client *c, uint16_t first, uint16_t second)
{
    struct endpoint e[2] = {{.host = "127.0.0.1", .port = first}, {.host = "127.0.0.1", .port = second}};
    resp_client_init(c, e, second ? 2 : 1, NULL);
}

static void a_reply_after_a_push(void **state)
{
    (void)state;
    struct fake_server *s = fake_server_start(pong, NULL);
    struct resp_client c;
    slice_t reply;
    client_of(&c, fake_server_port(s), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(resp_call(&c, now_ms() + FOREVER_MS, PING, 1, &reply), CALL_OK);
        assert_true(slice_eq(reply, SLICE_LIT("+PONG\r\n")));
    }
    resp_client_fini(&c);
    fake_server_stop(s);
}

static void the_next_address_when_one_fails(void **state)
{
    (void)state;
    struct fake_server *bad = fake_server_start(closing, NULL), *good = fake_server_start(pong, NULL);
    struct resp_client c;
    slice_t reply;
    client_of(&c, fake_server_port(bad), fake_server_port(good));
    assert_int_equal(resp_call(&c, now_ms() + FOREVER_MS, PING, 1, &reply), CALL_OK);
    assert_int_equal(fake_server_commands(bad), 1);
    resp_client_fini(&c);
    uint16_t gone = fake_server_port(bad);
    fake_server_stop(bad);
    client_of(&c, gone, fake_server_port(good));
    assert_int_equal(resp_call(&c, now_ms() + FOREVER_MS, PING, 1, &reply), CALL_OK);
    resp_client_fini(&c);
    fake_server_stop(good);
}

static void nobody_there_is_told_at_once(void **state)
{
    (void)state;
    struct fake_server *s = fake_server_start(pong, NULL);
    struct resp_client c;
    slice_t reply;
    client_of(&c, fake_server_port(s), 0);
    fake_server_stop(s);
    assert_int_equal(resp_call(&c, now_ms() + FOREVER_MS, PING, 1, &reply), CALL_UNREACHABLE);
    assert_non_null(strstr(c.why, "127.0.0.1"));
    resp_client_fini(&c);
}

static void silence_ends_at_the_deadline(void **state)
{
    (void)state;
    struct fake_server *s = fake_server_start(silent, NULL);
    struct resp_client c;
    slice_t reply;
    client_of(&c, fake_server_port(s), 0);
    uint64_t deadline = now_ms() + 300;
    assert_int_equal(resp_call(&c, deadline, PING, 1, &reply), CALL_TIMEOUT);
    assert_true(now_ms() >= deadline);
    assert_int_equal(c.fd, -1); /* a late answer must not be taken for another's */
    resp_client_fini(&c);
    fake_server_stop(s);
}

static void what_is_no_resp_is_refused(void **state)
{
    (void)state;
    struct fake_server *s = fake_server_start(garbage, NULL);
    struct resp_client c;
    slice_t reply;
    client_of(&c, fake_server_port(s), 0);
    assert_int_equal(resp_call(&c, now_ms() + FOREVER_MS, PING, 1, &reply), CALL_UNREACHABLE);
    assert_non_null(strstr(c.why, "not RESP"));
    resp_client_fini(&c);
    fake_server_stop(s);
}

static void loading_is_tried_again(void **state)
{
    (void)state;
    int times = 2, ever = 1 << 30;
    struct fake_server *s = fake_server_start(loading, &times), *t = fake_server_start(loading, &ever);
    struct resp_client c;
    slice_t reply;
    client_of(&c, fake_server_port(s), 0);
    assert_int_equal(resp_call(&c, now_ms() + FOREVER_MS, PING, 1, &reply), CALL_OK);
    assert_true(slice_eq(reply, SLICE_LIT("+OK\r\n")));
    assert_int_equal(fake_server_commands(s), 3);
    resp_client_fini(&c);
    client_of(&c, fake_server_port(t), 0);
    assert_int_equal(resp_call(&c, now_ms() + 200, PING, 1, &reply), CALL_OK);
    assert_true(slice_eq(resp_error_word(reply), SLICE_LIT("LOADING")));
    resp_client_fini(&c);
    fake_server_stop(s);
    fake_server_stop(t);
}

static void error_words(void **state)
{
    (void)state;
    assert_true(slice_eq(resp_error_word(SLICE_LIT("-LOCKED by x\r\n")), SLICE_LIT("LOCKED")));
    assert_true(slice_eq(resp_error_word(SLICE_LIT("-ERR\r\n")), SLICE_LIT("ERR")));
    assert_true(slice_eq(resp_error_word(SLICE_LIT("!8\r\nSTALE 12\r\n")), SLICE_LIT("STALE")));
    assert_int_equal(resp_error_word(SLICE_LIT("+OK\r\n")).len, 0);
    assert_int_equal(resp_error_word(SLICE_NONE).len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reply_after_a_push),
        cmocka_unit_test(the_next_address_when_one_fails),
        cmocka_unit_test(nobody_there_is_told_at_once),
        cmocka_unit_test(silence_ends_at_the_deadline),
        cmocka_unit_test(what_is_no_resp_is_refused),
        cmocka_unit_test(loading_is_tried_again),
        cmocka_unit_test(error_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
