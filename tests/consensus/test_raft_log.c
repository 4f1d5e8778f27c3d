/* Unit tests of the log in memory and of the codec: raft_log.c, consensus_codec.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "consensus/raft_log.h"
#include "utils/prng.h"

static void append_number(struct raft_log *l, uint64_t term, uint64_t number, size_t len)
{
    uint8_t payload[4096] = {0};
    le64_put(payload, number);
    raft_log_append(l, term, ENTRY_NORMAL, slice_of(payload, len));
}

static void test_append_and_run(void **state)
{
    (void)state;
    struct raft_log l;
    raft_log_init(&l, 0, 0);
    for (uint64_t i = 1; i <= 1000; i++) {
        append_number(&l, 1 + i / 300, i, 8 + i % 1000);
    }
    raft_log_check(&l, true);
    assert_int_equal(raft_log_last(&l), 1000);
    uint64_t seen = 0;
    slice_t run;
    for (uint64_t at = 1; at <= 1000;) {
        uint32_t n = raft_log_run(&l, at, 5000, &run);
        assert_true(n > 0 && (run.len <= 5000 || n == 1));
        struct reader r = reader_of(run);
        struct entry e;
        for (uint32_t i = 0; i < n; i++) {
            assert_true(entry_decode(&r, &e));
            assert_int_equal(le64_get(e.payload.ptr), ++seen);
            assert_int_equal(e.term, raft_log_term(&l, seen));
        }
        assert_true(reader_done(&r));
        assert_int_equal(run.len, raft_log_bytes(&l, at - 1, at + n - 1));
        at += n;
    }
    assert_int_equal(seen, 1000);
    assert_int_equal(raft_log_run(&l, 1001, 100, &run), 0);
    raft_log_fini(&l);
}

static void test_large_entry(void **state)
{
    (void)state;
    struct raft_log l;
    raft_log_init(&l, 0, 0);
    size_t n = RAFT_LOG_CHUNK_BYTES * 3;
    uint8_t *big = calloc(1, n);
    append_number(&l, 1, 1, 8);
    raft_log_append(&l, 1, ENTRY_NORMAL, slice_of(big, n));
    append_number(&l, 1, 3, 8);
    slice_t run;
    assert_int_equal(raft_log_run(&l, 1, UINT32_MAX, &run), 1);
    assert_int_equal(raft_log_run(&l, 2, 10, &run), 1);
    assert_int_equal(run.len, n + ENTRY_HEADER_BYTES);
    assert_int_equal(raft_log_run(&l, 3, UINT32_MAX, &run), 1);
    raft_log_drop(&l, 2);
    raft_log_check(&l, true);
    raft_log_cut(&l, 3);
    raft_log_check(&l, true);
    assert_int_equal(raft_log_last(&l), 2);
    raft_log_fini(&l);
    free(big);
}

/* The log against an array of numbers, under random appends, cuts, drops and restarts. */
static void test_against_model(void **state)
{
    (void)state;
    struct raft_log l;
    struct prng g;
    static uint64_t model[200000];
    prng_init(&g, 7);
    raft_log_init(&l, 0, 0);
    uint64_t first = 1, last = 0, number = 0, term = 1;
    for (int step = 0; step < 60000; step++) {
        uint64_t dice = prng_below(&g, 1000);
        if (dice < 900 && last + 1 < 200000) {
            model[++last] = ++number;
            append_number(&l, term, number, 8 + prng_below(&g, 3000));
        } else if (dice < 940) {
            uint64_t from = prng_range(&g, first, last + 1);
            raft_log_cut(&l, from);
            last = from - 1;
            term++;
        } else if (dice < 998) {
            uint64_t upto = prng_range(&g, first - 1, last);
            raft_log_drop(&l, upto);
            first = upto + 1;
        } else {
            raft_log_restart(&l, last + 5, term);
            first = last + 6;
            last += 5;
        }
        raft_log_check(&l, step % 500 == 0);
        assert_int_equal(raft_log_last(&l), last);
        assert_int_equal(l.prev_index + 1, first);
        struct entry e;
        if (last >= first) {
            uint64_t i = prng_range(&g, first, last);
            assert_true(raft_log_entry(&l, i, &e));
            assert_int_equal(le64_get(e.payload.ptr), model[i]);
        }
        assert_false(raft_log_entry(&l, first - 1, &e));
        assert_false(raft_log_entry(&l, last + 1, &e));
    }
    raft_log_fini(&l);
}

static void test_floor(void **state)
{
    (void)state;
    struct raft_log l;
    raft_log_init(&l, 10, 3);
    for (uint64_t i = 11; i <= 40; i++) {
        append_number(&l, i / 10 * 2 + 1, i, 8); /* 3 3 .. 5 .. 7 .. 9 */
    }
    assert_int_equal(raft_log_floor(&l, 40, 9), 40);
    assert_int_equal(raft_log_floor(&l, 39, 6), 29);
    assert_int_equal(raft_log_floor(&l, 25, 4), 19);
    assert_int_equal(raft_log_floor(&l, 25, 2), 9);
    assert_int_equal(raft_log_floor(&l, 1000, 100), 40);
    raft_log_fini(&l);
}

static void test_config_codec(void **state)
{
    (void)state;
    struct consensus_config c = {.count = 3, .members = {{1, true, 0}, {2, false, UINT64_MAX}, {9, true, 7}}}, d;
    struct buf b;
    buf_init(&b);
    consensus_config_encode(&c, &b);
    assert_true(consensus_config_decode(buf_slice(&b), &d));
    assert_int_equal(d.count, 3);
    assert_true(d.members[0].voter && !d.members[1].voter && d.members[2].id == 9);
    assert_true(d.members[0].disk == 0 && d.members[1].disk == UINT64_MAX && d.members[2].disk == 7);
    for (size_t n = 0; n < b.len; n++) {
        assert_false(consensus_config_decode(slice_of(b.ptr, n), &d));
    }
    buf_put_u8(&b, 0);
    assert_false(consensus_config_decode(buf_slice(&b), &d)); /* trailing byte */
    b.len--;
    b.ptr[1 + CONSENSUS_MEMBER_BYTES] = 1;
    assert_false(consensus_config_decode(buf_slice(&b), &d)); /* 1 twice */
    b.ptr[1 + CONSENSUS_MEMBER_BYTES] = 0;
    assert_false(consensus_config_decode(buf_slice(&b), &d)); /* nobody */
    b.ptr[0] = 200;
    assert_false(consensus_config_decode(buf_slice(&b), &d));
    buf_fini(&b);
}

static struct consensus_msg good_append(slice_t data, uint32_t n)
{
    return (struct consensus_msg){.type = MSG_APPEND, .from = 1, .to = 2, .term = 5, .index = 7, .log_term = 3, .data = data,
                                  .n_entries = n};
}

static void test_msg_invalid(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b);
    entry_encode(&b, 3, ENTRY_NORMAL, SLICE_LIT("abc"));
    entry_encode(&b, 5, ENTRY_NOOP, SLICE_NONE);
    struct consensus_msg m = good_append(buf_slice(&b), 2);
    assert_null(consensus_msg_invalid(&m));
    m.n_entries = 3;
    assert_string_equal(consensus_msg_invalid(&m), "entry_count");
    m = good_append(slice_of(b.ptr, b.len - 1), 2);
    assert_string_equal(consensus_msg_invalid(&m), "entry_malformed");
    m = good_append(buf_slice(&b), 2);
    m.term = 4;
    assert_string_equal(consensus_msg_invalid(&m), "entry_term");
    m = good_append(buf_slice(&b), 2);
    m.log_term = 4;
    assert_string_equal(consensus_msg_invalid(&m), "entry_term");
    m.log_term = 0;
    assert_string_equal(consensus_msg_invalid(&m), "position");
    m = good_append(buf_slice(&b), 2);
    m.term = UINT64_MAX;
    assert_string_equal(consensus_msg_invalid(&m), "term");
    m = good_append(buf_slice(&b), 2);
    m.index = UINT64_MAX - 1;
    assert_string_equal(consensus_msg_invalid(&m), "index_too_large");
    m = good_append(buf_slice(&b), 2);
    m.type = MSG_CONSENSUS_MAX;
    assert_string_equal(consensus_msg_invalid(&m), "type");
    m.type = MSG_VOTE;
    assert_string_equal(consensus_msg_invalid(&m), "entries_unexpected");
    m.n_entries = 0;
    assert_string_equal(consensus_msg_invalid(&m), "data_unexpected");
    b.ptr[8] = ENTRY_CONFIG;
    m = good_append(buf_slice(&b), 2);
    assert_string_equal(consensus_msg_invalid(&m), "entry_config");
    m = (struct consensus_msg){.type = MSG_SNAPSHOT, .from = 1, .to = 2, .term = 5, .index = 7, .log_term = 3};
    assert_string_equal(consensus_msg_invalid(&m), "snapshot_empty_chunk");
    buf_fini(&b);
}

/* Whatever passes consensus_msg_invalid reaches no assert: random, mostly hostile messages into a live replica. */
static void test_hostile_messages(void **state)
{
    (void)state;
    struct prng g;
    prng_init(&g, 99);
    struct consensus_options o = {.group = 1, .self = 1, .seed = 5, .election_ms_min = 100, .election_ms_max = 200,
                                  .heartbeat_ms = 20};
    struct consensus_recovered r = {.config = {.count = 3, .members = {{1, true, 0}, {2, true, 0}, {3, true, 0}}}};
    struct buf run;
    buf_init(&run);
    for (int round = 0; round < 200; round++) {
        uint64_t now = 0;
        struct consensus *c = consensus_new(&o, &r, now);
        for (int step = 0; step < 200; step++) {
            struct consensus_msg m = {.group = 1, .to = 1};
            m.type = (enum msg_type)prng_range(&g, MSG_PRE_VOTE, MSG_TIMEOUT_NOW);
            m.from = (node_id_t)prng_range(&g, 2, 4);
            m.term = prng_range(&g, 1, 6);
            m.index = prng_below(&g, 12);
            m.log_term = m.index == 0 ? 0 : prng_range(&g, 1, m.term);
            m.commit = prng_below(&g, 20);
            m.ctx = prng_below(&g, 3);
            m.hint = prng_below(&g, 12);
            m.reject = prng_chance(&g, 300000);
            m.quiesce = prng_chance(&g, 300000);
            buf_clear(&run);
            if (m.type == MSG_APPEND) {
                m.n_entries = (uint32_t)prng_below(&g, 4);
                for (uint32_t i = 0; i < m.n_entries; i++) {
                    entry_encode(&run, prng_range(&g, 1, 6), ENTRY_NORMAL, SLICE_LIT("x"));
                }
            } else if (m.type == MSG_SNAPSHOT) {
                buf_append_str(&run, "chunk");
            }
            m.data = buf_slice(&run);
            now += prng_below(&g, 60);
            if (consensus_msg_invalid(&m) == NULL) {
                consensus_step(c, &m, now);
            }
            consensus_tick(c, now);
            struct consensus_persist p;
            while (consensus_take_persist(c, &p)) {
                if (prng_chance(&g, 700000)) {
                    consensus_persisted(c, p.persist_no);
                }
            }
            struct consensus_msg out;
            while (consensus_take_msg(c, &out)) {
                assert_null(consensus_msg_invalid(&out));
            }
            struct consensus_install in;
            if (consensus_take_install(c, &in)) {
                consensus_install_progress(c, in.index, in.offset + in.data.len);
                if (in.last && prng_chance(&g, 500000)) {
                    consensus_install_failed(c, in.index);
                }
            }
            consensus_check(c);
        }
        consensus_free(c);
    }
    buf_fini(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_and_run), cmocka_unit_test(test_large_entry), cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_floor),          cmocka_unit_test(test_config_codec), cmocka_unit_test(test_msg_invalid),
        cmocka_unit_test(test_hostile_messages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
