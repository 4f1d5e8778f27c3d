/* A home by itself, message by message: which reply leaves when. The table of its keys is walked by test_mesi.c; here are writes that their nodes have given up,
 * and nodes that listen (docs/cache.md, "Listening"). */
#include "nodes/cache/home.h"

#include "../utils/test.h"

enum { LEASE_MS = 1000, EPOCH = 3, ONE = 1, TWO = 2, SENT_MAX = 64 };

struct sent { node_id_t to; uint8_t kind; uint64_t seq, version; char key[16]; };
static struct sent sent[SENT_MAX];
static uint32_t n_sent;
static uint64_t released, now_ms;
static struct home *home;
static struct home_written written;
static struct buf written_keys;

static void send(void *arg, node_id_t to, const struct cache_msg *m)
{
    (void)arg;
    assert_true(n_sent < SENT_MAX);
    struct sent *s = &sent[n_sent++];
    *s = (struct sent){to, m->kind, m->seq, m->version, {0}};
    if (m->key.len > 0) {
        memcpy(s->key, m->key.ptr, m->key.len);
    }
}

static void lookup(void *arg, slice_t key, struct cache_item *item, uint64_t *version)
{
    (void)arg, (void)key;
    *item = (struct cache_item){.exists = true, .value = SLICE_LIT("v")};
    *version = 7;
}

static bool may_flush, may_fence;

static bool flush(void *arg, node_id_t from, const struct cache_msg *m)
{
    (void)arg, (void)from, (void)m;
    return may_flush;
}

static uint32_t fences;

static bool fence(void *arg, slice_t key)
{
    (void)arg, (void)key;
    fences += may_fence;
    return may_fence;
}

static bool hold(void *arg, node_id_t node)
{
    (void)arg, (void)node;
    return true;
}

static void vouch(void *arg) { (void)arg; }

static void release(void *arg, uint64_t ticket)
{
    (void)arg;
    released = ticket;
}

static void on_written(void *arg, uint64_t ticket, struct home_written *w)
{
    (void)arg, (void)ticket;
    *w = written;
    w->keys = buf_slice(&written_keys);
}

static void say(node_id_t from, struct cache_msg m)
{
    m.epoch = EPOCH;
    home_clock(home, now_ms);
    home_on(home, from, &m);
}

/* A lease for a node, with its number as a listener. */
static void lease(node_id_t node, uint64_t listen_seq)
{
    say(node, (struct cache_msg){.kind = CACHE_MSG_LEASE, .txn = now_ms, .seq = listen_seq});
    say(node, (struct cache_msg){.kind = CACHE_MSG_REPORT});
    home_held(home, node);
    home_vouched(home, now_ms);
}

static uint32_t settlings;

static void on_settled(void *arg)
{
    (void)arg;
    settlings++;
}

static void home_is(bool back, const node_id_t *holders, uint32_t n)
{
    struct home_options o = {.epoch = EPOCH, .lease_ms = LEASE_MS, .back = back, .unholds = true};
    struct home_io io = {NULL, send, lookup, flush, fence, hold, vouch, release, on_written, NULL, NULL, on_settled};
    if (home != NULL) {
        home_free(home);
    }
    home = home_new(&o, &io, now_ms, holders, n);
}

static int begin(void **state)
{
    (void)state;
    now_ms = 1000;
    home_is(false, NULL, 0);
    written = (struct home_written){0};
    buf_clear(&written_keys);
    n_sent = 0;
    released = 0;
    return 0;
}

static int end(void **state)
{
    (void)state;
    home_free(home);
    home = NULL;
    buf_fini(&written_keys);
    return 0;
}

static uint32_t count(node_id_t to, uint8_t kind)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_sent; i++) {
        n += sent[i].to == to && sent[i].kind == kind;
    }
    return n;
}

static const struct sent *last(node_id_t to, uint8_t kind)
{
    for (uint32_t i = n_sent; i > 0; i--) {
        if (sent[i - 1].to == to && sent[i - 1].kind == kind) {
            return &sent[i - 1];
        }
    }
    fail_msg("nothing of kind %u was sent to %u", kind, to);
    return NULL;
}

static void answer(node_id_t from, uint8_t asked, uint8_t with, const char *key)
{
    say(from, (struct cache_msg){.kind = with, .seq = last(from, asked)->seq, .key = slice_str(key)});
}

static void apply(node_id_t writer, const char *key, uint64_t ticket)
{
    written = (struct home_written){.writer = writer, .n = 1};
    buf_clear(&written_keys);
    buf_put_bytes(&written_keys, slice_str(key));
    home_clock(home, now_ms);
    home_applied(home, slice_str(key), ticket);
    home_close(home, ticket);
}

static void write_by(node_id_t writer, const char *key, uint64_t ticket)
{
    home_clock(home, now_ms);
    home_proposed(home, writer, slice_str(key));
    apply(writer, key, ticket);
}

/* Its client had no answer in time, and reads again: the copy that it gets is older than the write that is in the log still. */
static void test_a_writer_that_gave_up_has_no_older_copy(void **state)
{
    (void)state;
    lease(ONE, 0);
    home_proposed(home, ONE, SLICE_LIT("k"));
    say(ONE, (struct cache_msg){.kind = CACHE_MSG_GETS, .txn = 5, .key = SLICE_LIT("k")});
    assert_int_equal(count(ONE, CACHE_MSG_DATA), 1);
    apply(ONE, "k", 9);
    assert_int_equal(count(ONE, CACHE_MSG_INV), 1);
    assert_int_equal(released, 0);
    answer(ONE, CACHE_MSG_INV, CACHE_MSG_ACK, "k");
    assert_int_equal(released, 9);
}

static void test_nobody_listens(void **state)
{
    (void)state;
    lease(ONE, 4); /* it did, and does no more */
    write_by(ONE, "k", 9);
    assert_int_equal(released, 9);
    assert_int_equal(count(ONE, CACHE_MSG_NOTE), 0);
    assert_false(home_is_listened(home));
}

static void test_the_reply_waits_for_all_who_listen(void **state)
{
    (void)state;
    lease(ONE, 5);
    lease(TWO, 5);
    assert_true(last(TWO, CACHE_MSG_GRANT)->seq == 5);
    write_by(ONE, "k", 9);
    assert_int_equal(released, 0);
    assert_int_equal(last(ONE, CACHE_MSG_NOTE)->version, CACHE_NOTE_OWN);
    assert_int_equal(last(TWO, CACHE_MSG_NOTE)->version, CACHE_NOTE_KEY);
    assert_string_equal(last(TWO, CACHE_MSG_NOTE)->key, "k");
    answer(TWO, CACHE_MSG_NOTE, CACHE_MSG_NOTED, "");
    answer(TWO, CACHE_MSG_NOTE, CACHE_MSG_NOTED, ""); /* twice counts once */
    assert_int_equal(released, 0);
    answer(ONE, CACHE_MSG_NOTE, CACHE_MSG_NOTED, "");
    assert_int_equal(released, 9);
    assert_true(home_quiet(home));
}

static void test_copies_go_before_anybody_is_told(void **state)
{
    (void)state;
    lease(ONE, 5);
    lease(TWO, 0);
    say(TWO, (struct cache_msg){.kind = CACHE_MSG_GETS, .txn = 5, .key = SLICE_LIT("k")});
    write_by(0, "k", 9);
    assert_true(count(TWO, CACHE_MSG_INV) > 0);
    assert_int_equal(count(ONE, CACHE_MSG_NOTE), 0);
    answer(TWO, CACHE_MSG_INV, CACHE_MSG_ACK, "k");
    assert_int_equal(count(ONE, CACHE_MSG_NOTE), 1);
    assert_int_equal(released, 0);
    answer(ONE, CACHE_MSG_NOTE, CACHE_MSG_NOTED, "");
    assert_int_equal(released, 9);
}

static void test_a_note_that_is_lost_is_sent_again_until_the_lease_is_over(void **state)
{
    (void)state;
    lease(ONE, 5);
    write_by(0, "k", 9);
    uint64_t begun = now_ms;
    while (released == 0 && now_ms < begun + 2 * LEASE_MS) {
        now_ms = home_deadline(home);
        assert_true(now_ms > begun && now_ms != UINT64_MAX);
        home_clock(home, now_ms);
        home_timers(home);
    }
    assert_true(count(ONE, CACHE_MSG_NOTE) > 3);
    assert_int_equal(released, 9);
    assert_in_range(now_ms, begun + LEASE_MS, begun + LEASE_MS + 20);
    write_by(0, "k", 10); /* who has no lease is not told */
    assert_int_equal(released, 10);
}

/* Numbers only grow: what it said before, and comes late, changes nothing. */
static void test_an_older_number_changes_nothing(void **state)
{
    (void)state;
    lease(ONE, 7);
    lease(ONE, 4);
    assert_true(home_is_listened(home));
    lease(ONE, 8);
    assert_false(home_is_listened(home));
    lease(ONE, 7);
    assert_false(home_is_listened(home));
}

static void test_everything_is_one_note(void **state)
{
    (void)state;
    lease(ONE, 5);
    written = (struct home_written){.all = true};
    home_applied_all(home, 9);
    home_close(home, 9);
    assert_int_equal(count(ONE, CACHE_MSG_NOTE), 1);
    assert_int_equal(last(ONE, CACHE_MSG_NOTE)->version, CACHE_NOTE_ALL);
    assert_int_equal(released, 0);
    answer(ONE, CACHE_MSG_NOTE, CACHE_MSG_NOTED, "");
    assert_int_equal(released, 9);
}

static node_id_t to_forget(uint64_t at_ms)
{
    now_ms = at_ms;
    home_clock(home, now_ms);
    home_timers(home);
    return home_to_forget(home);
}

/* The next home would begin without a word to it, while it reads on. */
static void test_a_member_that_left_is_a_holder_until_its_lease_is_over(void **state)
{
    (void)state;
    lease(ONE, 0);
    uint64_t begun = now_ms;
    home_left(home, ONE);
    assert_int_equal(to_forget(begun + LEASE_MS / 2), 0);
    lease(ONE, 0); /* which would make its time longer */
    assert_int_equal(count(ONE, CACHE_MSG_GRANT), 1);
    assert_int_equal(to_forget(begun + LEASE_MS - 1), 0);
    assert_int_equal(to_forget(begun + LEASE_MS), ONE);
    assert_int_equal(to_forget(now_ms), 0); /* on its way */
    assert_int_equal(to_forget(now_ms + LEASE_MS), ONE);
    home_unheld(home, ONE);
    assert_int_equal(to_forget(now_ms + LEASE_MS), 0);
    lease(ONE, 0); /* it came back */
    assert_int_equal(count(ONE, CACHE_MSG_GRANT), 2);
}

/* An earlier home may have granted it one. */
static void test_a_member_that_left_before_is_a_holder_until_it_reports_or_its_lease_is_over(void **state)
{
    (void)state;
    node_id_t both[] = {ONE, TWO};
    home_is(false, both, 2);
    uint64_t begun = now_ms;
    home_left(home, ONE);
    home_left(home, TWO);
    say(TWO, (struct cache_msg){.kind = CACHE_MSG_REPORT});
    assert_int_equal(to_forget(begun), TWO);
    home_unheld(home, TWO);
    assert_int_equal(to_forget(begun + LEASE_MS), 0);
    assert_int_equal(to_forget(begun + LEASE_MS + LEASE_MS / 16 + 1), ONE);
}

static void test_who_reports_while_it_is_forgotten_has_a_lease_afterwards(void **state)
{
    (void)state;
    node_id_t one[] = {ONE};
    home_is(true, one, 1);
    assert_int_equal(to_forget(now_ms + LEASE_MS + LEASE_MS / 16), ONE);
    say(ONE, (struct cache_msg){.kind = CACHE_MSG_REPORT});
    assert_true(home_is_active(home));
    say(ONE, (struct cache_msg){.kind = CACHE_MSG_LEASE, .txn = now_ms});
    home_vouched(home, now_ms);
    assert_int_equal(count(ONE, CACHE_MSG_GRANT), 0);
    home_unheld(home, ONE);
    assert_int_equal(count(ONE, CACHE_MSG_GRANT), 0);
    home_held(home, ONE);
    assert_int_equal(count(ONE, CACHE_MSG_GRANT), 1);
}

/* An owner is gone with what it may have written, and the log takes nothing just then: the fence is asked for again, and who waits for the key gets it. */
static void test_a_fence_that_was_refused_is_asked_for_again(void **state)
{
    (void)state;
    home_is(true, NULL, 0);
    lease(ONE, 0);
    lease(TWO, 0);
    say(ONE, (struct cache_msg){.kind = CACHE_MSG_GETX, .txn = 1, .key = SLICE_LIT("k")});
    assert_int_equal(count(ONE, CACHE_MSG_DATA), 1);
    now_ms += LEASE_MS - 1;
    lease(TWO, 0);
    say(TWO, (struct cache_msg){.kind = CACHE_MSG_GETS, .txn = 2, .key = SLICE_LIT("k")});
    now_ms += 2;
    fences = 0;
    may_fence = false;
    home_clock(home, now_ms);
    home_timers(home);
    assert_int_equal(fences, 0);
    may_fence = true;
    assert_true(home_deadline(home) <= now_ms + 100);
    now_ms += 100;
    home_clock(home, now_ms);
    home_timers(home);
    assert_int_equal(fences, 1);
    home_timers(home);
    assert_int_equal(fences, 1);
    home_fenced(home, SLICE_LIT("k"));
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 1);
    assert_true(home_quiet(home));
}

/* ONE owns the key, TWO has a lease. */
static void own(void)
{
    may_flush = may_fence = true;
    fences = 0;
    home_is(true, NULL, 0);
    lease(ONE, 0);
    lease(TWO, 0);
    say(ONE, (struct cache_msg){.kind = CACHE_MSG_GETX, .txn = 1, .key = SLICE_LIT("k")});
    assert_int_equal(count(ONE, CACHE_MSG_DATA), 1);
}

static void dirty_answer(uint8_t to, uint64_t version)
{
    say(ONE, (struct cache_msg){.kind = CACHE_MSG_ACK, .dirty = true, .seq = last(ONE, to)->seq, .txn = 5, .version = version, .key = SLICE_LIT("k")});
}

static void read_by_two(void)
{
    say(TWO, (struct cache_msg){.kind = CACHE_MSG_GETS, .txn = 9, .key = SLICE_LIT("k")});
}

static void lease_of_one_is_over(void)
{
    now_ms += LEASE_MS;
    lease(TWO, 0);
    home_clock(home, now_ms);
    home_timers(home);
}

/* An old flush that comes twice more, before and after a newer one. */
static void test_nobody_reads_before_every_flush_is_in_memory(void **state)
{
    (void)state;
    may_flush = true;
    home_is(true, NULL, 0);
    lease(ONE, 0);
    lease(TWO, 0);
    for (uint64_t i = 0; i < 3; i++) {
        say(ONE, (struct cache_msg){.kind = CACHE_MSG_FLUSH, .txn = i == 1 ? 6 : 5, .version = 7, .key = SLICE_LIT("k")});
    }
    read_by_two();
    home_flushed(home, ONE, SLICE_LIT("k"), 5, 0);
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 0);
    home_flushed(home, ONE, SLICE_LIT("k"), 6, 8);
    home_flushed(home, ONE, SLICE_LIT("k"), 5, 0);
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 1);
}

/* A copy of its old request made it the owner once more, before it heard that memory has what it wrote then. */
static void test_what_an_owner_wrote_before_is_not_passed_on(void **state)
{
    (void)state;
    own();
    read_by_two();
    dirty_answer(CACHE_MSG_DOWN, 6);
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 0);
    home_flushed(home, ONE, SLICE_LIT("k"), 5, 0);
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 1);
}

/* The value would be nowhere but at its owner, who may crash. */
static void test_what_the_log_does_not_take_is_not_passed_on(void **state)
{
    (void)state;
    own();
    may_flush = false;
    read_by_two();
    dirty_answer(CACHE_MSG_DOWN, 7);
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 0);
    lease_of_one_is_over();
    assert_int_equal(fences, 1);
    home_fenced(home, SLICE_LIT("k"));
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 1);
}

/* Memory let the value go by itself, and takes what its owner wrote over it, unless that is fenced off. */
static void test_an_owner_that_does_not_hear_of_an_expiry_is_fenced_off(void **state)
{
    (void)state;
    own();
    home_applied(home, SLICE_LIT("k"), 9);
    home_close(home, 9);
    read_by_two();
    assert_int_equal(count(ONE, CACHE_MSG_INV), 1);
    lease_of_one_is_over();
    assert_int_equal(fences, 1);
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 0);
    assert_int_equal(released, 0);
    home_fenced(home, SLICE_LIT("k"));
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 1);
    assert_int_equal(released, 9);
}

static void asks_to_own(node_id_t node, uint64_t txn)
{
    say(node, (struct cache_msg){.kind = CACHE_MSG_GETX, .txn = txn, .key = SLICE_LIT("k")});
}

/* ONE owns the key, a command over several keys wants it, and TWO wants to own it. */
static void reserve(void)
{
    own();
    settlings = 0;
    assert_false(home_settle(home, SLICE_LIT("k")));
    assert_int_equal(count(ONE, CACHE_MSG_INV), 1);
    asks_to_own(TWO, 2);
    assert_int_equal(settlings, 0);
    dirty_answer(CACHE_MSG_INV, 7);
    home_flushed(home, ONE, SLICE_LIT("k"), 5, 8);
    assert_true(settlings > 0);
    read_by_two();
    asks_to_own(TWO, 3);
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 0);
}

static void test_a_key_that_a_command_waits_for_has_no_new_owner(void **state)
{
    (void)state;
    uint64_t seq;
    reserve();
    assert_true(home_settle(home, SLICE_LIT("k")));
    home_proposed(home, TWO, SLICE_LIT("k")); /* of a node by itself: the command still waits */
    home_applied(home, SLICE_LIT("k"), 9);
    home_close(home, 9);
    assert_false(home_owned(home, TWO, SLICE_LIT("k"), 9, &seq));
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 0);
    assert_true(home_settle(home, SLICE_LIT("k")));
    home_proposed(home, 0, SLICE_LIT("k"));
    home_applied(home, SLICE_LIT("k"), 10);
    home_close(home, 10);
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 0);
    assert_false(home_owned(home, 0, SLICE_LIT("k"), 10, &seq));
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 1);
}

static void test_a_command_that_does_not_come_again_holds_a_key_for_a_short_time(void **state)
{
    (void)state;
    reserve();
    now_ms += 100;
    home_clock(home, now_ms);
    assert_true(home_settle(home, SLICE_LIT("k"))); /* that does not make it longer */
    uint64_t over = home_deadline(home);
    assert_true(over > now_ms && over < now_ms + LEASE_MS / 2);
    now_ms = over - 1;
    home_clock(home, now_ms);
    home_timers(home);
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 0);
    now_ms = over;
    home_clock(home, now_ms);
    home_timers(home);
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 1);
    struct home_key_info info;
    home_info(home, SLICE_LIT("k"), &info);
    assert_int_equal(info.owner, TWO);
}

/* Commands one after the other, each proposed before the last is done: when the time of the key is over, further ones wait for who waited all the time. */
static void test_commands_do_not_starve_owners(void **state)
{
    (void)state;
    uint64_t seq;
    reserve();
    assert_true(home_settle(home, SLICE_LIT("k")));
    home_proposed(home, 0, SLICE_LIT("k"));
    assert_true(home_settle(home, SLICE_LIT("k")));
    now_ms = home_deadline(home);
    home_clock(home, now_ms);
    home_timers(home);
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 0);
    assert_false(home_settle(home, SLICE_LIT("k")));
    home_applied(home, SLICE_LIT("k"), 10);
    home_close(home, 10);
    home_owned(home, 0, SLICE_LIT("k"), 10, &seq);
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 1);
    assert_false(home_settle(home, SLICE_LIT("k")));
    assert_int_equal(count(TWO, CACHE_MSG_INV), 1);
}

/* Nothing else is known of it: it is forgotten when it is free again, and not before. */
static void test_a_key_that_is_reserved_is_not_forgotten(void **state)
{
    (void)state;
    struct home_stats stats;
    own();
    assert_true(home_settle(home, SLICE_LIT("other")));
    say(TWO, (struct cache_msg){.kind = CACHE_MSG_FLUSH, .txn = 1, .version = 7, .key = SLICE_LIT("other")});
    home_flushed(home, TWO, SLICE_LIT("other"), 1, 0);
    say(TWO, (struct cache_msg){.kind = CACHE_MSG_GETS, .txn = 2, .key = SLICE_LIT("other")});
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 0);
    home_unreserve(home, SLICE_LIT("other"));
    assert_int_equal(count(TWO, CACHE_MSG_DATA), 1);
    assert_true(home_settle(home, SLICE_LIT("third")));
    home_unreserve(home, SLICE_LIT("third"));
    home_stats(home, &stats);
    assert_int_equal(stats.keys, 2);
}

static void test_nobody_is_dirty_when_writes_go_through(void **state)
{
    (void)state;
    lease(ONE, 0);
    assert_false(home_on(home, ONE, &(struct cache_msg){.kind = CACHE_MSG_FLUSH, .epoch = EPOCH, .txn = 5, .key = SLICE_LIT("k")}));
    assert_false(home_on(home, ONE, &(struct cache_msg){.kind = CACHE_MSG_ACK, .dirty = true, .epoch = EPOCH, .txn = 5, .key = SLICE_LIT("k")}));
    assert_false(home_on(home, ONE, &(struct cache_msg){.kind = CACHE_MSG_DATA, .grant = CACHE_GRANT_S, .epoch = EPOCH, .key = SLICE_LIT("k")}));
    assert_true(home_on(home, ONE, &(struct cache_msg){.kind = CACHE_MSG_ACK, .epoch = EPOCH, .key = SLICE_LIT("k")}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_fence_that_was_refused_is_asked_for_again, begin, end),
        cmocka_unit_test_setup_teardown(test_a_writer_that_gave_up_has_no_older_copy, begin, end),
        cmocka_unit_test_setup_teardown(test_nobody_listens, begin, end),
        cmocka_unit_test_setup_teardown(test_the_reply_waits_for_all_who_listen, begin, end),
        cmocka_unit_test_setup_teardown(test_copies_go_before_anybody_is_told, begin, end),
        cmocka_unit_test_setup_teardown(test_a_note_that_is_lost_is_sent_again_until_the_lease_is_over, begin, end),
        cmocka_unit_test_setup_teardown(test_an_older_number_changes_nothing, begin, end),
        cmocka_unit_test_setup_teardown(test_everything_is_one_note, begin, end),
        cmocka_unit_test_setup_teardown(test_a_member_that_left_is_a_holder_until_its_lease_is_over, begin, end),
        cmocka_unit_test_setup_teardown(test_a_member_that_left_before_is_a_holder_until_it_reports_or_its_lease_is_over, begin, end),
        cmocka_unit_test_setup_teardown(test_who_reports_while_it_is_forgotten_has_a_lease_afterwards, begin, end),
        cmocka_unit_test_setup_teardown(test_nobody_reads_before_every_flush_is_in_memory, begin, end),
        cmocka_unit_test_setup_teardown(test_what_an_owner_wrote_before_is_not_passed_on, begin, end),
        cmocka_unit_test_setup_teardown(test_what_the_log_does_not_take_is_not_passed_on, begin, end),
        cmocka_unit_test_setup_teardown(test_an_owner_that_does_not_hear_of_an_expiry_is_fenced_off, begin, end),
        cmocka_unit_test_setup_teardown(test_a_key_that_a_command_waits_for_has_no_new_owner, begin, end),
        cmocka_unit_test_setup_teardown(test_a_command_that_does_not_come_again_holds_a_key_for_a_short_time, begin, end),
        cmocka_unit_test_setup_teardown(test_commands_do_not_starve_owners, begin, end),
        cmocka_unit_test_setup_teardown(test_a_key_that_is_reserved_is_not_forgotten, begin, end),
        cmocka_unit_test_setup_teardown(test_nobody_is_dirty_when_writes_go_through, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
