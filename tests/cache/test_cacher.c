/* A cacher by itself, message by message. The table of its lines is walked by test_mesi.c; here are versions and times, which that leaves out. */
#include "nodes/cache/cache_ops.h"
#include "nodes/cache/cacher.h"

#include "../utils/test.h"

enum { EPOCH = 3, LEASE_MS = 10000, SENT_MAX = 64, FEW = 8 };
#define KEY SLICE_LIT("k")

static struct cache_msg sent[SENT_MAX]; /* slices are not kept */
static uint32_t n_sent;
static struct cacher *cacher;
static struct buf replied, op, error;
static uint64_t now_ms;

static void send(void *arg, const struct cache_msg *m)
{
    (void)arg;
    assert_true(n_sent < SENT_MAX);
    sent[n_sent] = *m;
    sent[n_sent].key = sent[n_sent].item.value = SLICE_NONE;
    n_sent++;
}

static void reply(void *arg, uint64_t cookie, slice_t resp)
{
    (void)arg, (void)cookie;
    buf_clear(&replied);
    buf_append_slice(&replied, resp);
    buf_put_u8(&replied, 0);
}

static void never_write(void *arg, uint32_t group, slice_t key, slice_t o, uint64_t cookie)
{
    (void)arg, (void)group, (void)key, (void)o, (void)cookie;
    fail();
}

static uint32_t writes;
static void on_write(void *arg, uint32_t group, slice_t key, slice_t o, uint64_t cookie)
{
    (void)arg, (void)group, (void)key, (void)o, (void)cookie;
    writes++;
}

static uint32_t told_keys, told_all;
static void on_told(void *arg, uint32_t group, slice_t key, bool all)
{
    (void)arg, (void)group, (void)key;
    told_keys += !all;
    told_all += all;
}

static int begin_with(bool back, uint32_t entries)
{
    struct cacher_options o = {.groups = 1, .back = back, .entries_max = entries, .lease_ms = LEASE_MS, .flush_ms = 1000};
    struct cacher_io io = {.send = send, .reply = reply, .write = back ? never_write : on_write, .told = on_told};
    cacher = cacher_new(&o, &io);
    n_sent = told_keys = told_all = writes = 0;
    now_ms = 1000;
    cacher_clock(cacher, now_ms, now_ms);
    return 0;
}

static int begin(void **state)
{
    (void)state;
    return begin_with(true, 100);
}

static int begin_through(void **state)
{
    (void)state;
    return begin_with(false, 100);
}

static int begin_small(void **state)
{
    (void)state;
    return begin_with(true, FEW);
}

static int end(void **state)
{
    (void)state;
    cacher_free(cacher);
    buf_fini(&replied);
    buf_fini(&op);
    buf_fini(&error);
    return 0;
}

static void run_on(slice_t key, const char *a, const char *b)
{
    const slice_t argv[] = {slice_str(a), key, slice_str(b != NULL ? b : "")};
    enum cache_access access;
    buf_clear(&op);
    buf_clear(&replied);
    buf_put_u8(&replied, 0);
    assert_true(cache_op_encode(argv, b != NULL ? 3 : 2, &op, &access, &error));
    cacher_op(cacher, 0, key, buf_slice(&op), access, 1);
}

static void run(const char *a, const char *b)
{
    run_on(KEY, a, b);
}

static const struct cache_msg *last(uint8_t kind)
{
    for (uint32_t i = n_sent; i > 0; i--) {
        if (sent[i - 1].kind == kind) {
            return &sent[i - 1];
        }
    }
    return NULL;
}

static void lease(void)
{
    cacher_on(cacher, &(struct cache_msg){.kind = CACHE_MSG_GRANT, .epoch = EPOCH, .txn = now_ms, .version = LEASE_MS});
}

/* The home's answer to the newest request of that kind: an absent key, as of a version. */
static void absent(uint8_t asked, enum cache_grant grant, uint64_t seq, uint64_t version)
{
    struct cache_msg m = {.kind = CACHE_MSG_DATA, .grant = (uint8_t)grant, .epoch = EPOCH, .txn = last(asked)->txn, .seq = seq, .version = version, .key = KEY};
    cacher_on(cacher, &m);
}

/* Memory forgets when an absent key went: a write in its line asks for ownership once more, and is flushed with the version that came with it. */
static void test_a_write_where_nothing_is_has_a_new_version(void **state)
{
    (void)state;
    uint64_t version;
    run("GET", NULL);
    lease();
    absent(CACHE_MSG_GETS, CACHE_GRANT_E, 1, 7);
    assert_string_equal((char *)replied.ptr, "_\r\n");
    assert_int_equal(cacher_state(cacher, 0, KEY, &version), MESI_E);
    run("SET", "v");
    assert_string_equal((char *)replied.ptr, "");
    assert_non_null(last(CACHE_MSG_UPGR));
    absent(CACHE_MSG_UPGR, CACHE_GRANT_M, 2, 40000);
    assert_string_equal((char *)replied.ptr, "+OK\r\n");
    assert_int_equal(cacher_state(cacher, 0, KEY, &version), MESI_M);
    run("APPEND", "w"); /* there is a value now: it is written here */
    assert_string_equal((char *)replied.ptr, ":2\r\n");
    assert_false(cacher_flush_all(cacher));
    assert_int_equal(last(CACHE_MSG_FLUSH)->version, 40000);
}

/* Who owns a value writes it without a word; once it has expired nothing is there. */
static void test_a_write_where_a_value_is_needs_no_message(void **state)
{
    (void)state;
    run("GET", NULL);
    lease();
    struct cache_msg m = {.kind = CACHE_MSG_DATA, .grant = CACHE_GRANT_E, .epoch = EPOCH, .txn = last(CACHE_MSG_GETS)->txn, .seq = 1, .version = 7, .key = KEY,
                          .item = {.exists = true, .value = SLICE_LIT("v"), .expire_ms = 500}};
    cacher_on(cacher, &m);
    now_ms += 600;
    cacher_clock(cacher, now_ms, now_ms);
    run("GETDEL", NULL);
    assert_non_null(last(CACHE_MSG_GETX));
    absent(CACHE_MSG_GETX, CACHE_GRANT_M, 2, 9);
    assert_string_equal((char *)replied.ptr, "_\r\n");
    n_sent = 0;
    m.txn = 0;
    run("SET", "x");
    assert_non_null(last(CACHE_MSG_UPGR));
    absent(CACHE_MSG_UPGR, CACHE_GRANT_M, 3, 10);
    n_sent = 0;
    run("SET", "y");
    assert_string_equal((char *)replied.ptr, "+OK\r\n");
    assert_int_equal(n_sent, 0);
}

static void grant(uint64_t listen_seq)
{
    cacher_on(cacher, &(struct cache_msg){.kind = CACHE_MSG_GRANT, .epoch = EPOCH, .txn = now_ms, .seq = listen_seq, .version = LEASE_MS});
}

static void note(void)
{
    cacher_on(cacher, &(struct cache_msg){.kind = CACHE_MSG_NOTE, .epoch = EPOCH, .seq = 9, .key = KEY});
}

/* It hears when a grant has its number, until the lease ends; both are told as that everything may be old. */
static void test_who_listens_hears_under_a_lease(void **state)
{
    (void)state;
    cacher_listen(cacher, true);
    cacher_timers(cacher);
    uint64_t number = last(CACHE_MSG_LEASE)->seq;
    assert_true(number & 1);
    grant(number - 1); /* of before it listened */
    assert_false(cacher_hears(cacher));
    assert_int_equal(told_all, 0);
    grant(number);
    assert_true(cacher_hears(cacher));
    assert_int_equal(told_all, 1);
    note();
    assert_int_equal(told_keys, 1);
    assert_int_equal(last(CACHE_MSG_NOTED)->seq, 9);
    now_ms += LEASE_MS;
    cacher_clock(cacher, now_ms, now_ms);
    assert_false(cacher_hears(cacher));
    cacher_timers(cacher);
    assert_int_equal(told_all, 2);
    grant(number);
    assert_true(cacher_hears(cacher));
    assert_int_equal(told_all, 3);
    cacher_listen(cacher, false);
    cacher_listen(cacher, true);
    cacher_timers(cacher);
    assert_true(last(CACHE_MSG_LEASE)->seq > number);
    grant(number);
    assert_false(cacher_hears(cacher));
}

/* A newer home knows of no listener: what it is told may be is said before it reports. */
static void test_another_home_ends_what_is_heard(void **state)
{
    (void)state;
    cacher_listen(cacher, true);
    cacher_timers(cacher);
    grant(last(CACHE_MSG_LEASE)->seq);
    cacher_on(cacher, &(struct cache_msg){.kind = CACHE_MSG_EPOCH, .epoch = EPOCH + 1});
    assert_false(cacher_hears(cacher));
    assert_int_equal(told_all, 2);
    assert_non_null(last(CACHE_MSG_REPORT));
    note(); /* of the old one */
    assert_null(last(CACHE_MSG_NOTED));
}

static void wrote(const char *a, const char *b, uint64_t version, uint64_t seq)
{
    const slice_t argv[] = {slice_str(a), KEY, slice_str(b)};
    enum cache_access access;
    buf_clear(&op);
    assert_true(cache_op_encode(argv, 3, &op, &access, &error));
    cacher_wrote(cacher, 0, KEY, buf_slice(&op), CACHER_DONE_OWNED, EPOCH, version - 1, version, seq);
}

/* SET 1, GET, SET 2, GET of one pipeline: the second write leaves when the first read has its answer. */
static void test_a_write_through_waits_for_the_read_before_it(void **state)
{
    (void)state;
    run("GET", NULL);
    lease();
    absent(CACHE_MSG_GETS, CACHE_GRANT_E, 1, 7);
    run("SET", "1");
    run("SET", "2"); /* no read in between: with the first */
    assert_int_equal(writes, 2);
    run("GET", NULL);
    run("SET", "3");
    run("GET", NULL);
    assert_int_equal(writes, 2);
    wrote("SET", "1", 8, 2);
    wrote("SET", "2", 9, 3);
    assert_string_equal((char *)replied.ptr, "$1\r\n2\r\n");
    assert_int_equal(writes, 3);
    wrote("SET", "3", 10, 4);
    assert_string_equal((char *)replied.ptr, "$1\r\n3\r\n");
}

/* The line is readable while its flush is under way, but not for who stands behind a write. */
static void test_a_read_waits_for_the_write_before_it(void **state)
{
    (void)state;
    struct cache_item item;
    run("SET", "1");
    lease();
    absent(CACHE_MSG_GETX, CACHE_GRANT_M, 1, 7);
    now_ms += 1000;
    cacher_clock(cacher, now_ms, now_ms);
    cacher_timers(cacher);
    assert_non_null(last(CACHE_MSG_FLUSH));
    assert_true(cacher_hit(cacher, cacher_place(cacher, 0, KEY), KEY, &item));
    run("SET", "2");
    assert_string_equal((char *)replied.ptr, "");
    assert_false(cacher_hit(cacher, cacher_place(cacher, 0, KEY), KEY, &item));
    run("GET", NULL);
    assert_string_equal((char *)replied.ptr, "");
    cacher_on(cacher, &(struct cache_msg){.kind = CACHE_MSG_FLUSHED, .epoch = EPOCH, .txn = last(CACHE_MSG_FLUSH)->txn, .version = 8, .key = KEY});
    assert_string_equal((char *)replied.ptr, "$1\r\n2\r\n");
}

/* S57: what came after a snoop serves those that asked before it once, but none of them that stands behind a write. */
static void test_an_old_value_is_for_no_read_behind_a_write(void **state)
{
    (void)state;
    lease();
    run("GET", NULL);
    run("SET", "1");
    run("GET", NULL);
    const struct cache_msg *gets = last(CACHE_MSG_GETS);
    assert_non_null(gets);
    cacher_on(cacher, &(struct cache_msg){.kind = CACHE_MSG_INV, .epoch = EPOCH, .seq = 5, .key = KEY});
    buf_clear(&replied);
    absent(CACHE_MSG_GETS, CACHE_GRANT_S, 4, 7);
    assert_int_equal(writes, 1);
    wrote("SET", "1", 8, 6);
    assert_string_equal((char *)replied.ptr, "$1\r\n1\r\n");
}

static uint32_t count_sent(uint8_t kind)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_sent; i++) {
        n += sent[i].kind == kind;
    }
    return n;
}

/* A line that waits for its flush is as good as gone: no other goes in its place. */
static void test_one_dirty_line_too_many_begins_one_flush(void **state)
{
    (void)state;
    lease();
    for (uint64_t i = 0; i <= FEW; i++) {
        char name[] = {'a' + (char)i, '\0'};
        slice_t key = slice_str(name);
        run_on(key, "SET", "v");
        struct cache_msg m = {.kind = CACHE_MSG_DATA, .grant = CACHE_GRANT_M, .epoch = EPOCH, .txn = last(CACHE_MSG_GETX)->txn, .seq = i + 1, .version = i, .key = key};
        cacher_on(cacher, &m);
        assert_string_equal((char *)replied.ptr, "+OK\r\n");
    }
    assert_int_equal(count_sent(CACHE_MSG_FLUSH), 1);
    assert_true(cacher_state(cacher, 0, SLICE_LIT("a"), &(uint64_t){0}) == MESI_MI);
    cacher_on(cacher, &(struct cache_msg){.kind = CACHE_MSG_FLUSHED, .epoch = EPOCH, .txn = last(CACHE_MSG_FLUSH)->txn, .version = 20, .key = SLICE_LIT("a")});
    assert_int_equal(count_sent(CACHE_MSG_FLUSH), 1);
    cacher_check(cacher);
}

/* A home answers what was asked, once; the line goes on waiting for that. */
static void test_an_answer_to_another_question_is_refused(void **state)
{
    (void)state;
    uint64_t version;
    run("GET", NULL);
    lease();
    struct cache_msg m = {.kind = CACHE_MSG_DATA, .grant = CACHE_GRANT_M, .epoch = EPOCH, .txn = last(CACHE_MSG_GETS)->txn, .seq = 1, .version = 7, .key = KEY};
    assert_false(cacher_on(cacher, &m));
    assert_int_equal(cacher_state(cacher, 0, KEY, &version), MESI_IS);
    m.grant = CACHE_GRANT_E;
    assert_true(cacher_on(cacher, &m));
    assert_true(cacher_on(cacher, &m)); /* a copy */
    assert_int_equal(cacher_state(cacher, 0, KEY, &version), MESI_E);
    run("SET", "v");
    m.txn = last(CACHE_MSG_UPGR)->txn;
    assert_false(cacher_on(cacher, &m));
    assert_int_equal(cacher_state(cacher, 0, KEY, &version), MESI_SM);
    assert_false(cacher_on(cacher, &(struct cache_msg){.kind = CACHE_MSG_GETS, .epoch = EPOCH, .txn = 1, .key = KEY}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_write_where_nothing_is_has_a_new_version, begin, end),
        cmocka_unit_test_setup_teardown(test_a_write_where_a_value_is_needs_no_message, begin, end),
        cmocka_unit_test_setup_teardown(test_a_write_through_waits_for_the_read_before_it, begin_through, end),
        cmocka_unit_test_setup_teardown(test_a_read_waits_for_the_write_before_it, begin, end),
        cmocka_unit_test_setup_teardown(test_an_old_value_is_for_no_read_behind_a_write, begin_through, end),
        cmocka_unit_test_setup_teardown(test_one_dirty_line_too_many_begins_one_flush, begin_small, end),
        cmocka_unit_test_setup_teardown(test_who_listens_hears_under_a_lease, begin, end),
        cmocka_unit_test_setup_teardown(test_another_home_ends_what_is_heard, begin, end),
        cmocka_unit_test_setup_teardown(test_an_answer_to_another_question_is_refused, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
