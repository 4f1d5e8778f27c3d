/* Settings: which source wins, what is refused and in which words, and the checks across settings (I44, H1, H2). */
#include "test.h"

#include "utils/config.h"

struct fake_file {
    const char *path;
    const char *text;
};

static bool read_fake(void *arg, const char *path, struct buf *out, const char **why)
{
    for (const struct fake_file *f = arg; f != NULL && f->path != NULL; f++) {
        if (strcmp(f->path, path) == 0) {
            buf_append_str(out, f->text);
            return true;
        }
    }
    *why = "No such file or directory";
    return false;
}

static struct config c;
static struct buf error;

/* Words separated by blanks; flags first, then after a lone | the environment. */
static bool load(const char *words, const struct fake_file *files)
{
    static char text[8192];
    char *argv[64], *env[64], *save = NULL;
    int argc = 0, envc = 0;
    bool in_env = false;
    snprintf(text, sizeof text, "%s", words);
    for (char *w = strtok_r(text, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
        if (strcmp(w, "|") == 0) {
            in_env = true;
        } else if (in_env) {
            env[envc++] = w;
        } else {
            argv[argc++] = w;
        }
    }
    env[envc] = NULL;
    union { const struct fake_file *in; void *out; } arg = {.in = files};
    struct config_input in = {argc, argv, env, arg.out, read_fake};
    config_fini(&c);
    buf_clear(&error);
    bool ok = config_load(&c, &in, &error);
    buf_put_u8(&error, 0);
    error.len--;
    return ok;
}

static void accepts(const char *words)
{
    if (!load(words, NULL)) {
        fail_msg("'%s' was refused: %s", words, (char *)error.ptr);
    }
}

/* Refused with one line in which every one of the words (separated by ~) occurs. */
static void refuses(const char *words, const char *mentions)
{
    if (load(words, NULL)) {
        fail_msg("'%s' was accepted", words);
    }
    char text[512], *save = NULL;
    snprintf(text, sizeof text, "%s", mentions);
    for (char *w = strtok_r(text, "~", &save); w != NULL; w = strtok_r(NULL, "~", &save)) {
        if (strstr((char *)error.ptr, w) == NULL) {
            fail_msg("'%s': no '%s' in: %s", words, w, (char *)error.ptr);
        }
    }
    assert_null(strchr((char *)error.ptr, '\n'));
}

static bool warns(const char *text)
{
    return c.warnings.len > 0 && memmem(c.warnings.ptr, c.warnings.len, text, strlen(text)) != NULL;
}

#define THREE "CLUSTER_NODES=n1@127.0.0.1:7380,n2@127.0.0.1:7390,n3@127.0.0.1:7400"

static void defaults_are_one_node_on_loopback(void **state)
{
    (void)state;
    accepts("");
    assert_int_equal(c.n_members, 1);
    assert_string_equal(config_self(&c)->name, "n1");
    assert_int_equal(config_self(&c)->id, 1);
    assert_int_equal(config_self(&c)->port, 7380);
    assert_int_equal(config_number(&c, SETTING_RESP_PORT), 7379);
    assert_int_equal(config_number(&c, SETTING_NODE_PORT), 8000);
    assert_int_equal(config_number(&c, SETTING_GROUPS), 2);
    assert_int_equal(config_number(&c, SETTING_REPLICATION_FACTOR), 1);
    assert_int_equal(config_number(&c, SETTING_NODE_TYPE), 7);
    assert_string_equal(config_text(&c, SETTING_NODE_HOST), "127.0.0.1");
    assert_int_equal(c.warnings.len, 0);
}

static void the_nearer_source_wins(void **state)
{
    (void)state;
    static const struct fake_file files[] = {
        {"f", "# comment\n\nRESP_PORT=1001\r\n NODE_PORT = \"1002\"\nPEER_PORT=1003\nLOG_LEVEL=warn"}, {NULL, NULL}};
    assert_true(load("--config f --resp-port 3001 | RESP_PORT=2001 NODE_PORT=2002 SYNAXIS_NODE_PORT=2012", files));
    assert_int_equal(config_number(&c, SETTING_RESP_PORT), 3001);
    assert_int_equal(c.values[SETTING_RESP_PORT].source, FROM_FLAG);
    assert_int_equal(config_number(&c, SETTING_NODE_PORT), 2012);
    assert_int_equal(c.values[SETTING_NODE_PORT].source, FROM_ENVIRONMENT);
    assert_int_equal(config_number(&c, SETTING_PEER_PORT), 1003);
    assert_int_equal(c.values[SETTING_PEER_PORT].source, FROM_FILE);
    assert_int_equal(config_number(&c, SETTING_LOG_LEVEL), 2);
    assert_int_equal(c.values[SETTING_GROUPS].source, FROM_DEFAULT);
    assert_true(load("--resp-port=3001 | SYNAXIS_CONFIG=f", files));
    assert_int_equal(config_number(&c, SETTING_PEER_PORT), 1003);
    assert_true(load("| RESP_PORT= PATH=/bin SYNAXIS_TOKEN=5 resp_port=x", files));
    assert_int_equal(config_number(&c, SETTING_RESP_PORT), 7379);
}

static void values_have_units(void **state)
{
    (void)state;
    accepts("| LOCK_TTL=2m REQUEST_TIMEOUT=1500 CACHE_LEASE=3s ACK_TIMEOUT=1H CACHE_SIZE=64MB CACHE_WRITE_POLICY=BACK");
    assert_int_equal(config_number(&c, SETTING_LOCK_TTL), 120000);
    assert_int_equal(config_number(&c, SETTING_REQUEST_TIMEOUT), 1500);
    assert_int_equal(config_number(&c, SETTING_CACHE_LEASE), 3000);
    assert_int_equal(config_number(&c, SETTING_ACK_TIMEOUT), 3600000);
    assert_int_equal(config_number(&c, SETTING_CACHE_SIZE), 64 << 20);
    assert_true(c.values[SETTING_CACHE_SIZE].is_bytes);
    assert_int_equal(config_number(&c, SETTING_CACHE_WRITE_POLICY), 1);
    accepts("| CACHE_MEMORY=1048576");
    assert_int_equal(config_number(&c, SETTING_CACHE_MEMORY), 1 << 20);
    accepts("| CACHE_SIZE=1000 NODE_TYPE=queue_node CACHE_MEMORY=2GB");
    assert_true(config_number(&c, SETTING_CACHE_MEMORY) == 2ull << 30);
    assert_int_equal(config_number(&c, SETTING_CACHE_SIZE), 1000);
    assert_false(c.values[SETTING_CACHE_SIZE].is_bytes);
    assert_int_equal(config_number(&c, SETTING_NODE_TYPE), 2);
}

static void bad_values_are_named(void **state)
{
    (void)state;
    static const char *const numbers[] = {"-1", "+5", "0x10", "1e3", "65536", "99999999999999999999", "80a", "8_0"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char words[64], mention[64];
        snprintf(words, sizeof words, "| NODE_PORT=%s", numbers[i]);
        snprintf(mention, sizeof mention, "NODE_PORT=%s~a port from 1 to 65535~environment", numbers[i]);
        refuses(words, mention);
    }
    refuses("| NODE_PORT=0", "NODE_PORT=0");
    refuses("| LOCK_TTL=0", "LOCK_TTL=0~milliseconds from 10");
    refuses("| LOCK_TTL=18446744073709551615d", "LOCK_TTL=");
    refuses("| HEARTBEAT_INTERVAL=0", "HEARTBEAT_INTERVAL=0");
    refuses("--log-level loud", "LOG_LEVEL=loud~flag~debug, info, warn or error");
    refuses("| CONSENSUS_TYPE=paxos", "CONSENSUS_TYPE=paxos~raft or pbft");
    refuses("| NODE_TYPE=lock_manager,brain", "NODE_TYPE=~lock_manager, queue_node and cache_node");
    refuses("| CACHE_SIZE=64tb", "CACHE_SIZE=64tb");
    refuses("| CACHE_MEMORY=1000kb", "CACHE_MEMORY=1000kb~bytes from 1048576");
    refuses("| DATA_DIR=a\nb", "DATA_DIR=a\\x0ab");
    refuses("| NODE_HOST=a;b", "NODE_HOST=a;b");
}

static void names_cannot_be_paths(void **state)
{
    (void)state;
    static const char *const names[] = {"../n1", "a/b", "..", ".", "n1\\x", "-n1", "n1;rm", "n\x01"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char words[64];
        snprintf(words, sizeof words, "| NODE_ID=%s", names[i]);
        refuses(words, "NODE_ID=~letters, digits");
    }
    accepts("| NODE_ID=lock-manager_1");
    assert_int_equal(config_self(&c)->id, 1);
    refuses("| NODE_ID=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "NODE_ID=");
}

static void unknown_names_get_the_nearest(void **state)
{
    (void)state;
    refuses("| SYNAXIS_RESPPORT=1", "SYNAXIS_RESPPORT~RESP_PORT");
    refuses("| SYNAXIS_resp_port=1", "SYNAXIS_resp_port~RESP_PORT");
    refuses("--hearbeat-interval 5", "--hearbeat-interval~HEARTBEAT_INTERVAL");
    refuses("--resp-port", "resp-port~missing");
    refuses("server", "unexpected argument server");
    static const struct fake_file files[] = {{"f", "LOG_LEVEL=info\nLOGLEVEL=info\n"}, {"g", "nonsense\n"}, {NULL, NULL}};
    assert_false(load("--config f", files));
    assert_non_null(strstr((char *)error.ptr, "LOGLEVEL (file, line 2)"));
    assert_false(load("--config g", files));
    assert_non_null(strstr((char *)error.ptr, "line 1"));
    assert_false(load("--config nowhere", files));
    assert_non_null(strstr((char *)error.ptr, "nowhere: No such file"));
}

static void members_are_read(void **state)
{
    (void)state;
    accepts("| NODE_ID=n2 " THREE);
    assert_int_equal(c.n_members, 3);
    assert_int_equal(c.self, 1);
    assert_int_equal(config_number(&c, SETTING_PEER_PORT), 7390);
    assert_int_equal(config_number(&c, SETTING_GROUPS), 6);
    assert_int_equal(config_number(&c, SETTING_REPLICATION_FACTOR), 3);
    accepts("| NODE_ID=n2 CLUSTER_NODES=one:7380,two:7380,[::1]:7380");
    assert_string_equal(config_self(&c)->host, "two");
    assert_string_equal(c.members[2].host, "::1");
    assert_string_equal(c.members[2].name, "n3");
    accepts("| CLUSTER_NODES=n7@127.0.0.1:7381");
    assert_string_equal(config_self(&c)->name, "n7");
    assert_int_equal(config_number(&c, SETTING_PEER_PORT), 7381);
}

static void bad_members_are_refused(void **state)
{
    (void)state;
    refuses("| NODE_ID=n4 " THREE, "NODE_ID=n4~n1, n2, n3");
    refuses("| " THREE, "NODE_ID is not set~n1, n2, n3");
    refuses("| NODE_ID=n1 CLUSTER_NODES=n1@a:1,n1@b:1,n3@c:1", "names n1 twice");
    refuses("| NODE_ID=n1 CLUSTER_NODES=n1@a:1,m1@b:1,n3@c:1", "n1 and m1~node number 1");
    refuses("| NODE_ID=n1 CLUSTER_NODES=n1@a:1,n2@a:1,n3@c:1", "n1 and n2~same address a:1");
    refuses("| NODE_ID=n1 CLUSTER_NODES=n1@a:1,b:1", "either every node has an id");
    refuses("| NODE_ID=n1 CLUSTER_NODES=n1@a:0", "n1@a:0");
    refuses("| NODE_ID=n1 CLUSTER_NODES=n1@a:65536", "n1@a:65536");
    refuses("| NODE_ID=n1 CLUSTER_NODES=n1@a", "n1@a");
    refuses("| NODE_ID=n1 CLUSTER_NODES=n1@:5", "n1@:5");
    refuses("| NODE_ID=n1 CLUSTER_NODES=n1@a:1,", "''");
    refuses("| NODE_ID=n1 CLUSTER_NODES=@a:1", "''");
    refuses("| NODE_ID=n1 CLUSTER_NODES=../x@a:1", "../x");
    refuses("| NODE_ID=n1 CLUSTER_NODES=n1@::1:5", "n1@::1:5");
    char words[8192] = "| NODE_ID=n1 CLUSTER_NODES=a:1";
    for (int i = 0; i < CONFIG_MEMBERS_MAX; i++) {
        char one[32];
        snprintf(one, sizeof one, ",b%d:1", i);
        strcat(words, one);
    }
    refuses(words, "more than 64");
}

static void numbers_of_names(void **state)
{
    (void)state;
    assert_int_equal(config_node_number(SLICE_LIT("n1")), 1);
    assert_int_equal(config_node_number(SLICE_LIT("lock-9999")), 9999);
    assert_int_equal(config_node_number(SLICE_LIT("7")), 7);
    assert_int_equal(config_node_number(SLICE_LIT("n007")), 7);
    static const char *const others[] = {"n10000", "n0", "node", "a1b2", "n99999999999999999999", "n1-"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_true(config_node_number(slice_str(others[i])) >= 10000);
    }
    assert_int_equal(config_node_number(SLICE_LIT("123456789")), 10000 + (0xe3069283u & 0x7fffffff));
}

static void settings_must_agree(void **state)
{
    (void)state;
    refuses("| HEARTBEAT_INTERVAL=150", "HEARTBEAT_INTERVAL=150~ELECTION_TIMEOUT_MIN=150");
    refuses("| ELECTION_TIMEOUT_MIN=400", "ELECTION_TIMEOUT_MIN=400~ELECTION_TIMEOUT_MAX=300");
    refuses("| NODE_ID=n1 CONSENSUS_TYPE=pbft " THREE, "CONSENSUS_TYPE=pbft~3f+1~3");
    refuses("| NODE_ID=n1 CONSENSUS_TYPE=pbft CLUSTER_NODES=a:1,b:1,c:1,d:1,e:1", "3f+1~5");
    accepts("| NODE_ID=n1 CONSENSUS_TYPE=pbft CLUSTER_NODES=a:1,b:1,c:1,d:1");
    refuses("| RESP_PORT=8000", "RESP_PORT~NODE_PORT~8000");
    refuses("| MIN_QUORUM=3 NODE_ID=n1 " THREE, "MIN_QUORUM=3~majority");
    refuses("| TLS_CERT=a", "TLS_CERT~TLS_KEY");
    refuses("| TLS_CA=a", "TLS_CA");
    refuses("| STATE_STORE=redis", "REDIS_URL");
    accepts("| STATE_STORE=redis REDIS_URL=redis://localhost:6379");
    refuses("| PEER_SECRET=short", "PEER_SECRET=***~16 to 255");
}

static void what_is_odd_but_works_is_a_warning(void **state)
{
    (void)state;
    accepts("| NODE_ID=n1 CLUSTER_NODES=a:7380,b:1");
    assert_true(warns("even number"));
    accepts("| NODE_ID=n1 REPLICATION_FACTOR=5 " THREE);
    assert_true(warns("REPLICATION_FACTOR=5"));
    assert_int_equal(config_number(&c, SETTING_REPLICATION_FACTOR), 3);
    accepts("| HEARTBEAT_INTERVAL=100");
    assert_true(warns("late heartbeat"));
    accepts("| NODE_ID=n1 PEER_PORT=9 " THREE);
    assert_true(warns("PEER_PORT=9"));
}

static void open_doors_need_locks(void **state)
{
    (void)state;
    refuses("| NODE_HOST=0.0.0.0", "NODE_HOST=0.0.0.0~REQUIREPASS~PEER_SECRET");
    refuses("| NODE_HOST=:: REQUIREPASS=x", "PEER_SECRET");
    refuses("| NODE_HOST=10.0.0.1 PEER_SECRET=0123456789abcdef", "REQUIREPASS");
    refuses("| NODE_HOST=127.example.com", "NODE_HOST=127.example.com");
    accepts("| NODE_HOST=0.0.0.0 REQUIREPASS=x PEER_SECRET=0123456789abcdef");
    accepts("| NODE_HOST=0.0.0.0 ACL_FILE=users PEER_KEYS=keys");
    accepts("| NODE_HOST=127.0.0.3");
    accepts("| NODE_HOST=localhost");
}

static void secrets_come_from_files_and_are_never_shown(void **state)
{
    (void)state;
    static const struct fake_file files[] = {{"pw", "hunter2\nsecond line\n"}, {"conf", "PEER_SECRET_FILE=ps\n"},
                                             {"ps", "0123456789abcdef0123"},  {NULL, NULL}};
    assert_true(load("--requirepass-file pw --config conf", files));
    assert_string_equal(config_text(&c, SETTING_REQUIREPASS), "hunter2");
    assert_string_equal(config_text(&c, SETTING_PEER_SECRET), "0123456789abcdef0123");
    struct buf out = {0};
    config_print(&c, &out);
    assert_null(memmem(out.ptr, out.len, "hunter2", 7));
    assert_null(memmem(out.ptr, out.len, "0123456789abcdef", 16));
    assert_non_null(memmem(out.ptr, out.len, "REQUIREPASS=***", 15));
    buf_fini(&out);
    assert_true(load("| REQUIREPASS_FILE=pw", files));
    assert_string_equal(config_text(&c, SETTING_REQUIREPASS), "hunter2");
    refuses("| REQUIREPASS_FILE=gone", "REQUIREPASS_FILE~gone");
    refuses("--requirepass hunter2", "requirepass~command line");
    assert_null(strstr((char *)error.ptr, "hunter2"));
    refuses("--node-id-file x", "--node-id-file");
    char words[400] = "| REQUIREPASS=";
    memset(words + strlen(words), 's', 300);
    refuses(words, "REQUIREPASS=***");
}

static void help_names_every_setting(void **state)
{
    (void)state;
    struct buf out = {0};
    config_help(&out);
    for (int i = 0; i < SETTING_COUNT; i++) {
        assert_non_null(memmem(out.ptr, out.len, setting_table[i].name, strlen(setting_table[i].name)));
    }
    buf_fini(&out);
    accepts("--help | NODE_PORT=bad");
    assert_int_equal(c.action, CONFIG_HELP);
    accepts("--check-config");
    assert_int_equal(c.action, CONFIG_CHECK);
}

static void what_is_printed_shows_values_and_sources(void **state)
{
    (void)state;
    accepts("| NODE_ID=n2 LOCK_TTL=2m CACHE_SIZE=64mb " THREE);
    struct buf out = {0};
    config_print(&c, &out);
    buf_put_u8(&out, 0);
    assert_non_null(strstr((char *)out.ptr, "LOCK_TTL=2m "));
    assert_non_null(strstr((char *)out.ptr, "# environment"));
    assert_non_null(strstr((char *)out.ptr, "# this node n2 is node 2 at 127.0.0.1:7390\n"));
    buf_fini(&out);
}

static int finish(void **state)
{
    (void)state;
    config_fini(&c);
    buf_fini(&error);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_one_node_on_loopback),
        cmocka_unit_test(the_nearer_source_wins),
        cmocka_unit_test(values_have_units),
        cmocka_unit_test(bad_values_are_named),
        cmocka_unit_test(names_cannot_be_paths),
        cmocka_unit_test(unknown_names_get_the_nearest),
        cmocka_unit_test(members_are_read),
        cmocka_unit_test(bad_members_are_refused),
        cmocka_unit_test(numbers_of_names),
        cmocka_unit_test(settings_must_agree),
        cmocka_unit_test(what_is_odd_but_works_is_a_warning),
        cmocka_unit_test(open_doors_need_locks),
        cmocka_unit_test(secrets_come_from_files_and_are_never_shown),
        cmocka_unit_test(help_names_every_setting),
        cmocka_unit_test(what_is_printed_shows_values_and_sources),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
