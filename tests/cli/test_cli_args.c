/* Reading a command line: options anywhere, "--", values in bounds, nearest words, and help for every command. */
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/resp_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct cli_command *command(const char *path)
{
    for (uint32_t i = 0; i < CLI_COMMAND_COUNT; i++) {
        if (strcmp(CLI_COMMANDS[i].path, path) == 0) {
            return &CLI_COMMANDS[i];
        }
    }
    fail_msg("no command %s", path);
    return NULL;
}

static char said[4096];

static bool parse(struct cli *c, const char *path, int n, char **words)
{
    *c = (struct cli){.err = fmemopen(said, sizeof said, "w"), .command = command(path)};
    cli_options_init(&c->opt);
    bool ok = cli_parse(c, n, words);
    fclose(c->err);
    return ok;
}

static void options_stand_anywhere(void **state)
{
    (void)state;
    struct cli c;
    char *words[] = {"--ttl", "600", "orders", "--wait=10s", "--json", "-t2s"};
    assert_true(parse(&c, "lock acquire", 6, words));
    assert_int_equal(c.argc, 1);
    assert_string_equal(c.argv[0], "orders");
    assert_null(c.argv[1]);
    assert_int_equal(c.opt.ttl_ms, 600);
    assert_int_equal(c.opt.wait_ms, 10000);
    assert_int_equal(c.opt.timeout_ms, 2000);
    assert_true(c.opt.json && c.opt.wait_given);
}

static void the_commands_own_options_stay_its_own(void **state)
{
    (void)state;
    struct cli c;
    char *dashes[] = {"job", "--ttl", "1s", "--", "sh", "-c", "echo --ttl"}, *plain[] = {"--ttl", "1s", "job", "ls", "-l", "--json"};
    assert_true(parse(&c, "lock run", 7, dashes));
    assert_int_equal(c.argc, 4);
    assert_string_equal(c.argv[2], "-c");
    assert_null(c.argv[4]);
    assert_int_equal(c.opt.ttl_ms, 1000);
    assert_true(parse(&c, "lock run", 6, plain));
    assert_int_equal(c.argc, 4);
    assert_string_equal(c.argv[3], "--json");
    assert_false(c.opt.json);
}

static void bad_options_are_named(void **state)
{
    (void)state;
    struct cli c;
    char *unknown[] = {"x", "--tll", "5"}, *bad[] = {"x", "--ttl", "soon"}, *low[] = {"x", "--ttl", "1"}, *none[] = {"x", "--ttl"},
         *few[] = {"--json"}, *many[] = {"x", "y"};
    assert_false(parse(&c, "lock acquire", 3, unknown));
    assert_non_null(strstr(said, "did you mean --ttl"));
    assert_false(parse(&c, "lock acquire", 3, bad));
    assert_non_null(strstr(said, "--ttl soon"));
    assert_false(parse(&c, "lock acquire", 3, low));
    assert_false(parse(&c, "lock acquire", 2, none));
    assert_non_null(strstr(said, "needs a value"));
    assert_false(parse(&c, "lock acquire", 1, few));
    assert_non_null(strstr(said, "too few operands"));
    assert_false(parse(&c, "lock acquire", 2, many));
}

static void a_lone_run_is_refused(void **state)
{
    (void)state;
    struct cli c;
    char *nothing[] = {"job", "--"}, *name[] = {"job"};
    assert_false(parse(&c, "lock run", 2, nothing));
    assert_false(parse(&c, "lock run", 1, name));
}

static void durations(void **state)
{
    (void)state;
    static const struct { const char *text; bool ok; uint64_t ms; } cases[] = {
        {"0", true, 0}, {"500", true, 500}, {"500ms", true, 500}, {"10s", true, 10000}, {"5m", true, 300000}, {"2h", true, 7200000},
        {"", false, 0}, {"s", false, 0}, {"-1", false, 0}, {" 1", false, 0}, {"1d", false, 0}, {"1.5s", false, 0},
        {"99999999999999999999", false, 0}, {"18446744073709551615h", false, 0}};
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t ms = 0;
        assert_int_equal(cli_duration(cases[i].text, &ms), cases[i].ok);
        assert_int_equal(ms, cases[i].ms);
    }
}

static void nearest_words(void **state)
{
    (void)state;
    static const char *const words[] = {"status", "lock run", "lock acquire"};
    assert_string_equal(cli_nearest("stauts", words, 3), "status");
    assert_string_equal(cli_nearest("lock aquire", words, 3), "lock acquire");
    assert_null(cli_nearest("zebra", words, 3));
    assert_null(cli_nearest("", words, 3));
}

static void addresses(void **state)
{
    (void)state;
    struct endpoint e[ENDPOINTS_MAX];
    char why[200];
    assert_int_equal(endpoints_parse("a:1,[::1]:7379,h.example:65535", e, why, sizeof why), 3);
    assert_string_equal(e[1].host, "::1");
    assert_int_equal(e[2].port, 65535);
    static const char *const bad[] = {"", "a", "a:", ":1", "a:0", "a:65536", "a:1,", "a:1,,b:2", "a:1x", "[]:1"};
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(endpoints_parse(bad[i], e, why, sizeof why), 0);
    }
}

static void every_command_has_help_and_known_options(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < CLI_COMMAND_COUNT; i++) {
        const struct cli_command *m = &CLI_COMMANDS[i];
        char text[8192] = "", copy[64], list[256], *words[4];
        int n = 0;
        snprintf(copy, sizeof copy, "%s", m->path);
        for (char *p = strtok(copy, " "); p != NULL; p = strtok(NULL, " ")) {
            words[n++] = p;
        }
        words[n++] = "--help";
        struct cli c = {.out = fmemopen(text, sizeof text, "w"), .err = stderr};
        cli_options_init(&c.opt);
        assert_int_equal(cli_dispatch(&c, n, words), CLI_OK);
        fclose(c.out);
        assert_non_null(strstr(text, m->summary));
        assert_non_null(strstr(text, "--timeout"));
        snprintf(list, sizeof list, "%s", m->options);
        for (char *p = strtok(list, " "); p != NULL; p = strtok(NULL, " ")) {
            char dashed[40];
            snprintf(dashed, sizeof dashed, "--%s", p);
            assert_non_null(strstr(text, dashed));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_stand_anywhere),
        cmocka_unit_test(the_commands_own_options_stay_its_own),
        cmocka_unit_test(bad_options_are_named),
        cmocka_unit_test(a_lone_run_is_refused),
        cmocka_unit_test(durations),
        cmocka_unit_test(nearest_words),
        cmocka_unit_test(addresses),
        cmocka_unit_test(every_command_has_help_and_known_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
