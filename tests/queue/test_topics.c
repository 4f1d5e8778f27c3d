/* Every operation on topics and every refusal, one rule of docs/queue.md a test, by its number where it has one. */
#include "topic_world.h"

#include "../utils/test.h"
#include "utils/hash_ring.h"

static struct topic_world w;

static int begin(void **state)
{
    (void)state;
    topic_world_init(&w);
    return 0;
}

/* What a test left must restore to the same. */
static int end(void **state)
{
    (void)state;
    topic_world_restore(&w);
    topic_world_fini(&w);
    return 0;
}

static enum topic_code config_op(enum topic_op_kind kind, const char *name, const struct topic_config *config, bool maybe)
{
    struct topic_create c = {.name = slice_str(name), .maybe = maybe, .config = *config};
    topic_world_begin(&w, kind);
    topic_put_create(&w.op, &c);
    topic_world_apply(&w);
    return w.code;
}

struct heard { uint64_t topic; uint32_t groups; uint32_t calls; bool open; };

static void hear(void *arg, const struct topic_row *row, uint32_t group, bool open)
{
    struct heard *h = arg;
    h->calls++;
    if (row->id == h->topic) {
        h->groups |= 1u << group;
        h->open = open;
    }
}

/* The groups that must still hear of it, as a set. */
static uint32_t unconfirmed(uint64_t topic, bool *open)
{
    struct heard h = {.topic = topic};
    topics_unconfirmed(w.t, 1000, hear, &h);
    if (open != NULL) {
        *open = h.open;
    }
    return h.groups;
}

static void a_topic_is_spread_from_its_names_group_on(void **state)
{
    (void)state;
    uint64_t id = topic_world_create(&w, "orders", 6);
    assert_true(id == w.index && w.row.version == id && w.changed);
    uint32_t first = name_group(SLICE_LIT("orders"), TOPIC_WORLD_GROUPS);
    for (uint32_t p = 0; p < 6; p++) {
        assert_int_equal(w.groups[p], (first + p) % TOPIC_WORLD_GROUPS);
    }
    assert_int_equal(unconfirmed(id, NULL), 0xf);
    topic_world_create(&w, "{eu}orders", 6);
    for (uint32_t p = 0; p < 6; p++) {
        assert_int_equal(w.groups[p], name_group(SLICE_LIT("{eu}payments"), TOPIC_WORLD_GROUPS));
    }
    assert_int_equal(unconfirmed(w.row.id, NULL), 1u << w.groups[0]);
}

static void a_topic_is_made_once(void **state)
{
    (void)state;
    uint64_t id = topic_world_create(&w, "t", 3);
    assert_int_equal(topic_world_create(&w, "t", 3), id);
    assert_false(w.changed);
    assert_int_equal(topic_world_create(&w, "t", 4), 0);
    assert_int_equal(w.code, TOPIC_EXISTS);
    struct topic_config four = topic_world_config(4);
    assert_int_equal(config_op(TOPIC_OP_CREATE, "t", &four, true), TOPIC_DONE);
    assert_true(w.row.id == id && w.row.config.partitions == 3 && !w.changed);
    topic_world_apply(&w);
    assert_true(w.answered && w.row.id == id);
}

static void configurations_out_of_bounds_are_refused(void **state)
{
    (void)state;
    struct topic_config c = topic_world_config(0);
    assert_int_equal(config_op(TOPIC_OP_CREATE, "t", &c, false), TOPIC_LIMIT);
    c.partitions = LIMIT_PARTITIONS + 1;
    assert_int_equal(config_op(TOPIC_OP_CREATE, "t", &c, false), TOPIC_LIMIT);
    c.partitions = 2;
    c.stream = 1;
    assert_int_equal(config_op(TOPIC_OP_CREATE, "t", &c, false), TOPIC_LIMIT);
    c = topic_world_config(1);
    c.visibility_ms = (uint64_t)LIMIT_TTL_MS + 1;
    assert_int_equal(config_op(TOPIC_OP_CREATE, "t", &c, false), TOPIC_LIMIT);
    c = topic_world_config(1);
    c.backoff_ms_max = LIMIT_TTL_MS + 1;
    assert_int_equal(config_op(TOPIC_OP_CREATE, "t", &c, false), TOPIC_LIMIT);
    c = topic_world_config(LIMIT_PARTITIONS);
    assert_int_equal(config_op(TOPIC_OP_CREATE, "", &c, false), TOPIC_LIMIT);
    char name[LIMIT_KEY_BYTES + 2];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert_int_equal(config_op(TOPIC_OP_CREATE, name, &c, false), TOPIC_LIMIT);
    assert_int_equal(config_op(TOPIC_OP_CREATE, name + 1, &c, false), TOPIC_DONE);
}

static void a_change_has_a_version_that_every_group_confirms(void **state)
{
    (void)state;
    uint64_t id = topic_world_create(&w, "t", 2);
    uint32_t a = w.groups[0], b = w.groups[1];
    topic_world_confirm(&w, id, id, a);
    topic_world_confirm(&w, id, id, a);
    assert_int_equal(unconfirmed(id, NULL), 1u << b);
    struct topic_config c = topic_world_config(2);
    assert_int_equal(config_op(TOPIC_OP_ALTER, "t", &c, false), TOPIC_DONE);
    assert_true(!w.changed && w.row.version == id);
    c.max_deliver = 9;
    assert_int_equal(config_op(TOPIC_OP_ALTER, "t", &c, false), TOPIC_DONE);
    assert_true(w.changed && w.row.version == w.index && w.row.id == id && w.row.config.max_deliver == 9);
    uint64_t version = w.row.version;
    assert_int_equal(unconfirmed(id, NULL), 1u << a | 1u << b);
    topic_world_confirm(&w, id, id, a); /* of the older version */
    topic_world_confirm(&w, id, version, 99);
    topic_world_confirm(&w, id + 1, version, a);
    assert_int_equal(unconfirmed(id, NULL), 1u << a | 1u << b);
    topic_world_confirm(&w, id, version, a);
    topic_world_confirm(&w, id, version, b);
    assert_int_equal(unconfirmed(id, NULL), 0);
}

static void what_a_topic_is_cannot_change(void **state)
{
    (void)state;
    topic_world_create(&w, "t", 2);
    struct topic_config c = topic_world_config(3);
    assert_int_equal(config_op(TOPIC_OP_ALTER, "t", &c, false), TOPIC_BAD_CHANGE);
    c = topic_world_config(2);
    c.ordered = 1;
    assert_int_equal(config_op(TOPIC_OP_ALTER, "t", &c, false), TOPIC_BAD_CHANGE);
    topic_world_create(&w, "s", 1);
    c = topic_world_config(1);
    c.stream = 1;
    assert_int_equal(config_op(TOPIC_OP_ALTER, "s", &c, false), TOPIC_BAD_CHANGE);
    assert_int_equal(config_op(TOPIC_OP_ALTER, "other", &c, false), TOPIC_UNKNOWN);
    c.partitions = 0;
    assert_int_equal(config_op(TOPIC_OP_ALTER, "s", &c, false), TOPIC_LIMIT);
}

static void a_deleted_topic_frees_its_name_and_is_dropped_everywhere(void **state)
{
    (void)state;
    struct topic_row row;
    bool open = true;
    uint64_t id = topic_world_create(&w, "t", 2);
    uint32_t a = w.groups[0], b = w.groups[1];
    topic_world_join(&w, id, "g", "c", 1000);
    assert_int_equal(topic_world_delete(&w, "t"), TOPIC_DONE);
    uint64_t version = w.index;
    assert_false(topics_find(w.t, SLICE_LIT("t"), &row) || topics_find_id(w.t, id, &row));
    assert_int_equal(topic_world_delete(&w, "t"), TOPIC_UNKNOWN);
    assert_int_equal(topic_world_join(&w, id, "g", "c", 1000), TOPIC_UNKNOWN);
    assert_true(unconfirmed(id, &open) == (1u << a | 1u << b) && !open);
    uint64_t other = topic_world_create(&w, "t", 2); /* Q11: another id */
    assert_true(other > id && topics_find(w.t, SLICE_LIT("t"), &row) && row.id == other);
    topic_world_restore(&w);
    topic_world_confirm(&w, id, id, a); /* of the OPEN, late */
    topic_world_confirm(&w, id, version, a);
    assert_int_equal(unconfirmed(id, &open), 1u << b);
    topic_world_confirm(&w, id, version, b);
    assert_int_equal(unconfirmed(id, NULL), 0);
    struct topics_stats s;
    topics_stats(w.t, &s);
    assert_true(s.topics == 1 && s.groups == 0 && s.members == 0);
}

static void what_must_still_be_heard_is_told_oldest_first_up_to_a_number(void **state)
{
    (void)state;
    uint64_t first = topic_world_create(&w, "a", 4);
    topic_world_create(&w, "b", 4);
    struct heard h = {.topic = first};
    topics_unconfirmed(w.t, 5, hear, &h);
    assert_true(h.calls == 5 && h.groups == 0xf);
    h = (struct heard){0};
    topics_unconfirmed(w.t, 100, hear, &h);
    assert_int_equal(h.calls, 8);
}

struct listing { uint64_t ids[8]; uint32_t n, stop; };

static bool list_row(void *arg, const struct topic_row *row)
{
    struct listing *l = arg;
    l->ids[l->n++] = row->id;
    return l->n < l->stop;
}

static void topics_are_listed_by_id(void **state)
{
    (void)state;
    uint64_t a = topic_world_create(&w, "z", 1), b = topic_world_create(&w, "y", 1), c = topic_world_create(&w, "x", 1);
    struct listing l = {.stop = 2};
    topics_list(w.t, 0, list_row, &l);
    assert_true(l.n == 2 && l.ids[0] == a && l.ids[1] == b);
    l.stop = 8;
    topics_list(w.t, b, list_row, &l);
    assert_true(l.n == 3 && l.ids[2] == c);
}

static void members_share_the_partitions(void **state)
{
    (void)state;
    uint64_t id = topic_world_create(&w, "t", 5);
    assert_int_equal(topic_world_join(&w, id, "g", "a", 1000), TOPIC_DONE);
    assert_true(w.joined[0].generation == 1 && w.joined[0].n == 5 && w.out.n_changed == 1);
    assert_true(w.out.changed[0].topic == id && w.out.changed[0].generation == 1);
    topic_world_join(&w, id, "g", "b", 1000);
    assert_true(w.joined[0].generation == 2 && w.joined[0].n == 2 && w.joined[0].since[0] == 2);
    topic_world_join(&w, id, "g", "a", 1000);
    assert_true(w.joined[0].generation == 2 && w.joined[0].n == 3 && w.joined[0].since[0] == 1); /* kept */
    topic_world_join(&w, id, "other", "a", 1000);
    assert_true(w.joined[0].generation == 1 && w.joined[0].n == 5);
    assert_int_equal(topic_world_leave(&w, id, "g", "a"), TOPIC_DONE);
    assert_true(w.joined[0].generation == 2 && w.joined[0].n == 3); /* what it had */
    topic_world_join(&w, id, "g", "b", 1000);
    assert_true(w.joined[0].generation == 3 && w.joined[0].n == 5);
}

static void being_heard_of_changes_nothing_but_the_deadline(void **state)
{
    (void)state;
    struct topic_group_info before, after;
    uint64_t id = topic_world_create(&w, "t", 3);
    topic_world_join(&w, id, "g", "a", 1000);
    topic_world_join(&w, id, "g", "b", 1000);
    assert_true(topic_world_group(&w, id, "g", &before));
    for (int i = 0; i < 10; i++) {
        w.time_ms += 900;
        topic_world_join(&w, id, "g", "a", 1000);
        assert_int_equal(w.out.n_changed, i == 1 ? 1 : 0); /* b dies at 1000 */
        if (i == 0) {
            assert_true(topic_world_group(&w, id, "g", &after));
            assert_true(after.generation == before.generation && after.rebalances == before.rebalances && after.members == 2);
        }
    }
    assert_true(topic_world_group(&w, id, "g", &after) && after.members == 1 && after.generation == before.generation + 1);
}

static void who_is_not_heard_of_leaves_at_the_next_operation(void **state)
{
    (void)state;
    struct topic_group_info g;
    uint64_t id = topic_world_create(&w, "t", 4);
    topic_world_join(&w, id, "g", "a", 1000);
    topic_world_join(&w, id, "g", "b", 500);
    assert_true(topics_next_due_ms(w.t) <= w.time_ms + 500);
    topic_world_tick(&w, 499);
    assert_true(topic_world_group(&w, id, "g", &g) && g.members == 2 && g.generation == 2);
    topic_world_restore(&w);
    topic_world_tick(&w, 1);
    assert_true(topic_world_group(&w, id, "g", &g) && g.members == 1 && g.generation == 3);
    w.time_ms += 100;
    topic_world_join(&w, id, "g", "a", 1000);
    for (uint32_t i = 0; i < 4; i++) { /* S50b: what b had is a's in a new generation */
        assert_int_equal(w.joined[0].since[i], w.joined[0].partition[i] < 2 ? 1 : 3);
    }
    topic_world_tick(&w, 1000);
    assert_true(topic_world_group(&w, id, "g", &g) && g.members == 0 && g.generation == 4);
    assert_int_equal(topics_next_due_ms(w.t), UINT64_MAX);
    topic_world_join(&w, id, "g", "a", 1000);
    assert_true(w.joined[0].generation == 5 && w.joined[0].since[0] == 5);
}

static void put_joins(uint64_t topic, const char *group, uint32_t n, uint32_t first)
{
    topic_world_begin(&w, TOPIC_OP_JOIN);
    topic_put_join(&w.op, n);
    for (uint32_t i = 0; i < n; i++) {
        char name[16];
        slice_t consumer = slice_of(name, (size_t)snprintf(name, sizeof name, "c%u", first + i));
        topic_put_join_item(&w.op, &(struct topic_join){topic, slice_str(group), consumer, 1000, 7});
    }
}

/* An entry that changes the members changes the assignment, once. */
static void those_who_join_or_die_together_have_one_new_assignment(void **state)
{
    (void)state;
    struct topic_group_info g;
    uint64_t id = topic_world_create(&w, "t", 8);
    put_joins(id, "g", 4, 0);
    topic_world_apply(&w);
    assert_true(w.n == 4 && w.out.n_changed == 1);
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(w.joined[i].generation == 1 && w.joined[i].n == 2);
    }
    topic_world_tick(&w, 1000);
    assert_true(topic_world_group(&w, id, "g", &g) && g.members == 0 && g.generation == 2 && w.out.n_changed == 1);
}

static void a_join_cut_short_changes_nothing(void **state)
{
    (void)state;
    struct topic_group_info g;
    uint64_t id = topic_world_create(&w, "t", 8);
    put_joins(id, "g", 4, 0);
    w.op.len -= 3;
    topic_world_apply(&w);
    assert_int_equal(w.code, TOPIC_LIMIT);
    assert_false(topic_world_group(&w, id, "g", &g));
    struct topics_stats s;
    topics_stats(w.t, &s);
    assert_int_equal(s.refused_malformed, 1);
}

static void joins_out_of_bounds_are_refused_one_by_one(void **state)
{
    (void)state;
    struct topic_group_info g;
    uint64_t id = topic_world_create(&w, "t", 2);
    char name[LIMIT_CONSUMER_BYTES + 2];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    assert_int_equal(topic_world_join(&w, id, "g", "", 1000), TOPIC_LIMIT);
    assert_int_equal(topic_world_join(&w, id, "", "c", 1000), TOPIC_LIMIT);
    assert_int_equal(topic_world_join(&w, id, "g", name, 1000), TOPIC_LIMIT);
    assert_int_equal(topic_world_join(&w, id, name, "c", 1000), TOPIC_LIMIT);
    assert_int_equal(topic_world_join(&w, id, "g", "c", 0), TOPIC_LIMIT);
    assert_int_equal(topic_world_join(&w, id, "g", "c", (uint64_t)LIMIT_TTL_MS + 1), TOPIC_LIMIT);
    assert_int_equal(topic_world_join(&w, id + 9, "g", "c", 1000), TOPIC_UNKNOWN);
    assert_false(topic_world_group(&w, id, "g", &g));
    topic_world_begin(&w, TOPIC_OP_JOIN);
    topic_put_join(&w.op, 3);
    topic_put_join_item(&w.op, &(struct topic_join){id + 9, SLICE_LIT("g"), SLICE_LIT("c"), 1000, 7});
    topic_put_join_item(&w.op, &(struct topic_join){id, SLICE_LIT("g"), SLICE_LIT(""), 1000, 7});
    topic_put_join_item(&w.op, &(struct topic_join){id, SLICE_LIT("g"), slice_str(name + 1), 1000, 7});
    topic_world_apply(&w);
    assert_true(w.joined[0].code == TOPIC_UNKNOWN && w.joined[1].code == TOPIC_LIMIT && w.joined[2].code == TOPIC_DONE && w.joined[2].n == 2);
}

static void consumer_groups_and_members_are_bounded(void **state)
{
    (void)state;
    uint64_t id = topic_world_create(&w, "t", 1);
    char group[16];
    for (uint32_t i = 0; i < LIMIT_GROUPS_PER_TOPIC; i++) {
        snprintf(group, sizeof group, "g%u", i);
        assert_int_equal(topic_world_join(&w, id, group, "c", 100000), TOPIC_DONE);
    }
    assert_int_equal(topic_world_join(&w, id, "more", "c", 100000), TOPIC_LIMIT);
    assert_int_equal(topic_world_join(&w, id, "g7", "d", 100000), TOPIC_DONE);
    w.origin = 0; /* 10,000 answers would be remembered */
    uint64_t other = w.index + 1;
    struct topic_create c = {.name = SLICE_LIT("u"), .config = topic_world_config(3)};
    topic_world_begin(&w, TOPIC_OP_CREATE);
    topic_put_create(&w.op, &c);
    topic_world_apply(&w);
    for (uint32_t i = 0; i < LIMIT_MEMBERS_PER_GROUP; i += 1000) {
        put_joins(other, "g", 1000, i);
        topic_world_apply(&w);
    }
    w.origin = 1;
    assert_int_equal(topic_world_join(&w, other, "g", "more", 1000), TOPIC_LIMIT);
    assert_int_equal(topic_world_join(&w, other, "g", "c9999", 1000), TOPIC_DONE);
    assert_int_equal(w.joined[0].n, 0);
}

static void topics_are_bounded(void **state)
{
    (void)state;
    struct topic_create c = {.config = topic_world_config(1)};
    char name[16];
    for (uint32_t i = 0; i < LIMIT_TOPICS; i++) { /* without a look at all of them after each */
        c.name = slice_of(name, (size_t)snprintf(name, sizeof name, "t%u", i));
        buf_clear(&w.op);
        topic_put_head(&w.op, &(struct topic_head){.kind = TOPIC_OP_CREATE});
        topic_put_create(&w.op, &c);
        topics_apply(w.t, ++w.index, 1, w.time_ms, buf_slice(&w.op), &w.out);
    }
    assert_int_equal(topic_world_create(&w, "more", 1), 0);
    assert_int_equal(w.code, TOPIC_LIMIT);
    assert_int_equal(topic_world_create(&w, "t99999", 1), LIMIT_TOPICS);
    assert_int_equal(topic_world_delete(&w, "t5"), TOPIC_DONE);
    uint64_t id = topic_world_create(&w, "more", 1);
    assert_true(id == w.index && id > LIMIT_TOPICS);
}

static void refusals_of_members(void **state)
{
    (void)state;
    uint64_t id = topic_world_create(&w, "t", 2);
    assert_int_equal(topic_world_leave(&w, id, "g", "a"), TOPIC_NO_GROUP);
    assert_int_equal(topic_world_leave(&w, id + 9, "g", "a"), TOPIC_UNKNOWN);
    topic_world_join(&w, id, "g", "a", 1000);
    assert_int_equal(topic_world_leave(&w, id, "g", "b"), TOPIC_NO_MEMBER);
    assert_int_equal(topic_world_forget(&w, id, "g"), TOPIC_HAS_MEMBERS);
    assert_int_equal(topic_world_forget(&w, id, "h"), TOPIC_NO_GROUP);
    topic_world_leave(&w, id, "g", "a");
    assert_int_equal(w.joined[0].n, 2);
}

/* Partitions have seen its generations: a consumer group of the same name must not use them again (S50). */
static void a_forgotten_consumer_group_comes_back_above_its_generations(void **state)
{
    (void)state;
    struct topic_group_info g;
    uint64_t id = topic_world_create(&w, "t", 2);
    topic_world_join(&w, id, "g", "a", 1000);
    topic_world_join(&w, id, "g", "b", 1000);
    topic_world_leave(&w, id, "g", "a");
    topic_world_leave(&w, id, "g", "b");
    assert_int_equal(topic_world_forget(&w, id, "g"), TOPIC_DONE);
    assert_false(topic_world_group(&w, id, "g", &g));
    topic_world_restore(&w);
    topic_world_join(&w, id, "g", "a", 1000);
    assert_true(w.joined[0].generation == 5 && w.joined[0].since[1] == 5);
}

static void a_request_that_is_asked_again_is_answered_again(void **state)
{
    (void)state;
    uint64_t id = topic_world_create(&w, "t", 4);
    topic_world_join(&w, id, "g", "a", 1000);
    topic_world_leave(&w, id, "g", "a");
    uint64_t generation = w.joined[0].generation, hash = topics_state_hash(w.t);
    topic_world_apply(&w);
    assert_true(w.answered && w.code == TOPIC_DONE && w.joined[0].generation == generation && w.joined[0].n == 4);
    topic_world_restore(&w);
    topic_world_apply(&w);
    assert_true(w.code == TOPIC_DONE && w.joined[0].n == 4 && topics_state_hash(w.t) == hash);
    struct buf old = {0};
    buf_append_slice(&old, buf_slice(&w.op));
    for (int i = 0; i < 20; i++) {
        topic_world_tick(&w, 1);
    }
    buf_clear(&w.op);
    buf_append_slice(&w.op, buf_slice(&old));
    topic_world_apply(&w); /* S47: its origin has had the answer */
    assert_false(w.answered);
    buf_fini(&old);
}

static void collect(void *arg, const struct topic_member_info *m)
{
    struct buf *b = arg;
    buf_printf(b, "%.*s@%llu:", (int)m->consumer.len, (const char *)m->consumer.ptr, (unsigned long long)m->node);
    for (uint32_t i = 0; i < m->n_parts; i++) {
        buf_printf(b, "%u,", m->parts[i]);
    }
    buf_printf(b, " ");
}

static void members_are_listed_with_what_they_have(void **state)
{
    (void)state;
    struct buf b = {0};
    uint64_t id = topic_world_create(&w, "t", 5);
    topic_world_join(&w, id, "g", "b", 1000);
    topic_world_join(&w, id, "g", "a", 1000);
    topics_members(w.t, id, SLICE_LIT("g"), collect, &b);
    topics_members(w.t, id, SLICE_LIT("none"), collect, &b);
    topics_members(w.t, id + 9, SLICE_LIT("g"), collect, &b);
    assert_true(slice_eq(buf_slice(&b), SLICE_LIT("b@3:0,1,2, a@3:3,4, ")));
    buf_fini(&b);
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_topic_is_spread_from_its_names_group_on), T(a_topic_is_made_once), T(configurations_out_of_bounds_are_refused),
        T(a_change_has_a_version_that_every_group_confirms), T(what_a_topic_is_cannot_change),
        T(a_deleted_topic_frees_its_name_and_is_dropped_everywhere), T(what_must_still_be_heard_is_told_oldest_first_up_to_a_number),
        T(topics_are_listed_by_id), T(members_share_the_partitions), T(being_heard_of_changes_nothing_but_the_deadline),
        T(who_is_not_heard_of_leaves_at_the_next_operation), T(those_who_join_or_die_together_have_one_new_assignment),
        T(a_join_cut_short_changes_nothing), T(joins_out_of_bounds_are_refused_one_by_one), T(consumer_groups_and_members_are_bounded),
        T(topics_are_bounded), T(refusals_of_members), T(a_forgotten_consumer_group_comes_back_above_its_generations),
        T(a_request_that_is_asked_again_is_answered_again), T(members_are_listed_with_what_they_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
