/* lock run against a scripted server: the command's exit code, its environment, losing the lock, signals, and what is released. */
#include "cli/cli.h"
#include "fake_server.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* What the server saw and how it behaves; counters are read after the server's thread has ended. */
struct script {
    uint32_t acquires, waits, renews, releases;
    bool locked_first, stale, silent_renewals;
    pid_t signal_at_renew; /* send SIGTERM to this process at the first renewal */
};

static enum fake_verdict scripted(void *arg, uint32_t argc, const slice_t *argv, struct buf *out)
{
    struct script *s = arg;
    if (slice_ieq(argv[0], "LOCK.ACQUIRE")) {
        s->acquires++;
        for (uint32_t i = 3; i < argc; i++) {
            s->waits += slice_ieq(argv[i], "WAIT");
        }
        if (s->locked_first && s->acquires == 1) {
            resp_error(out, "LOCKED", "job is held by alice");
            return FAKE_REPLY;
        }
    } else if (slice_ieq(argv[0], "LOCK.RENEW")) {
        s->renews++;
        if (s->signal_at_renew && s->renews == 1) {
            kill(s->signal_at_renew, SIGTERM);
        }
        if (s->stale) {
            resp_error(out, "STALE", "job has token 43");
            return FAKE_REPLY;
        }
        if (s->silent_renewals) {
            return FAKE_SILENT;
        }
    } else {
        s->releases++;
    }
    return fake_locks(NULL, argc, argv, out);
}

static struct fake_output run(struct script *s, const char *words)
{
    struct fake_server *server = fake_server_start(scripted, s);
    uint16_t ports[] = {fake_server_port(server), 0};
    struct fake_output o = fake_run(ports, words);
    fake_server_stop(server);
    return o;
}

static void the_exit_code_is_the_commands(void **state)
{
    (void)state;
    struct script s = {0};
    struct fake_output o = run(&s, "lock run job -- sh -c exit${IFS}$((SYNAXIS_TOKEN-35))");
    assert_int_equal(o.code, 7); /* the token is 42 */
    assert_int_equal(s.acquires, 1);
    assert_int_equal(s.releases, 1);
    fake_output_free(&o);
    s = (struct script){0};
    o = run(&s, "lock run job /no/such/program");
    assert_int_equal(o.code, CLI_NOT_FOUND);
    assert_int_equal(s.releases, 1);
    fake_output_free(&o);
}

static void a_wait_is_announced_unless_none_is_wanted(void **state)
{
    (void)state;
    struct script s = {.locked_first = true};
    struct fake_output o = run(&s, "lock run job true");
    assert_int_equal(o.code, 0);
    assert_int_equal(s.waits, 1);
    assert_non_null(strstr(o.err, "alice"));
    fake_output_free(&o);
    s = (struct script){.locked_first = true};
    o = run(&s, "lock run --wait 0 job true");
    assert_int_equal(o.code, CLI_NOT_ACQUIRED);
    assert_int_equal(s.waits, 0);
    assert_int_equal(s.releases, 0);
    fake_output_free(&o);
}

static void a_stale_lock_ends_the_command(void **state)
{
    (void)state;
    struct script s = {.stale = true};
    struct fake_output o = run(&s, "lock run --ttl 900 job sleep 600");
    assert_int_equal(o.code, CLI_LOCK_LOST);
    assert_non_null(strstr(o.err, "job"));
    assert_non_null(strstr(o.err, "STALE"));
    assert_int_equal(s.renews, 1); /* the cluster's word is final: no waiting for the TTL */
    assert_int_equal(s.releases, 0); /* it is another's by now */
    fake_output_free(&o);
}

static void a_command_that_ignores_term_is_killed(void **state)
{
    (void)state;
    struct script s = {.stale = true};
    struct fake_output o = run(&s, "lock run --ttl 100 --grace 10 job -- sh -c trap${IFS}''${IFS}TERM;sleep${IFS}600");
    assert_int_equal(o.code, CLI_LOCK_LOST);
    fake_output_free(&o);
}

static void a_cut_off_holder_stops_before_its_time(void **state)
{
    (void)state;
    struct script s = {.silent_renewals = true};
    struct fake_output o = run(&s, "lock run --ttl 300 --timeout 100 job sleep 600");
    assert_int_equal(o.code, CLI_LOCK_LOST);
    assert_true(s.renews > 0);
    fake_output_free(&o);
}

static void warn_lets_it_go_on(void **state)
{
    (void)state;
    struct script s = {.stale = true};
    /* Ends by itself only after the loss was noticed: the warning is what we wait for. */
    struct fake_output o = run(&s, "lock run --warn --ttl 50 job sleep 1");
    assert_int_equal(o.code, 0);
    assert_non_null(strstr(o.err, "unprotected"));
    fake_output_free(&o);
}

static void signals_are_passed_on_and_the_lock_is_released(void **state)
{
    (void)state;
    struct script s = {.signal_at_renew = getpid()};
    struct fake_output o = run(&s, "lock run --ttl 1500 job sleep 600");
    assert_int_equal(o.code, 128 + SIGTERM);
    assert_int_equal(s.releases, 1);
    fake_output_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_exit_code_is_the_commands),
        cmocka_unit_test(a_wait_is_announced_unless_none_is_wanted),
        cmocka_unit_test(a_stale_lock_ends_the_command),
        cmocka_unit_test(a_command_that_ignores_term_is_killed),
        cmocka_unit_test(a_cut_off_holder_stops_before_its_time),
        cmocka_unit_test(warn_lets_it_go_on),
        cmocka_unit_test(signals_are_passed_on_and_the_lock_is_released),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
