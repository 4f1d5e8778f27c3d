/* Random operations on topics, consumer groups and members, without a model: invariants after each, two replicas with other hash keys answer and
 * hash the same, one of them is restored from a snapshot again and again. Requests come twice; operations and snapshots cut short or with
 * flipped bits are refused or applied, and never assert.
 *
 * test_topic_chaos [SEED [STEPS]] */
#include "topic_world.h"

#include "utils/assert.h"
#include "utils/prng.h"

#include <stdio.h>
#include <stdlib.h>

enum { KINDS = TOPIC_OP_MAX, HEAD_BYTES = 4 + 7 * 8, LATER = 200, OPS_KEPT = 16 };

static struct prng g;
static struct topics *one, *two;
static struct topics_out out_one, out_two;
static uint64_t now_ms = 1, at, next_seq = 1;
static uint64_t n_answered, n_damaged_ok, n_damaged_refused;
static struct buf kept[OPS_KEPT];

static uint64_t below(uint64_t n)
{
    return prng_below(&g, n);
}

static slice_t pick(const char *const *names, uint64_t n)
{
    return slice_str(names[below(n)]);
}

static slice_t topic_name(void)
{
    static const char *const names[] = {"a", "b", "{x}c", "{x}d", "events"};
    return pick(names, 5);
}

static slice_t group_name(void)
{
    static const char *const names[] = {"g", "h", "i"};
    return pick(names, 3);
}

static slice_t consumer_name(void)
{
    static const char *const names[] = {"c1", "c2", "c3", "c4", "c5", "c6"};
    return pick(names, 6);
}

/* Mostly that of a topic that is there. */
static uint64_t topic_id(void)
{
    struct topic_row row;
    return below(10) > 0 && topics_find(one, topic_name(), &row) ? row.id : below(at + 2);
}

static void put_config_op(struct buf *b)
{
    struct topic_create c = {.name = topic_name(), .maybe = below(2) == 0, .config = topic_world_config(1 + (uint32_t)below(7))};
    struct topic_row row;
    if (below(2) == 0 && topics_find(one, c.name, &row)) {
        c.config = row.config;
        c.config.max_deliver = (uint32_t)below(3);
    }
    topic_put_create(b, &c);
}

static void put_joins(struct buf *b)
{
    uint32_t n = 1 + (uint32_t)below(5);
    topic_put_join(b, n);
    for (uint32_t i = 0; i < n; i++) {
        topic_put_join_item(b, &(struct topic_join){topic_id(), group_name(), consumer_name(), 1 + below(300), below(5)});
    }
}

static void put_op(struct buf *b)
{
    static const uint8_t kinds[] = {TOPIC_OP_CREATE, TOPIC_OP_ALTER, TOPIC_OP_DELETE, TOPIC_OP_CONFIRM, TOPIC_OP_CONFIRM, TOPIC_OP_JOIN, TOPIC_OP_JOIN,
                                    TOPIC_OP_JOIN, TOPIC_OP_JOIN, TOPIC_OP_LEAVE, TOPIC_OP_FORGET, TOPIC_OP_TICK, TOPIC_OP_CREATE};
    enum topic_op_kind kind = (enum topic_op_kind)kinds[below(sizeof kinds)];
    uint64_t seq = next_seq++;
    topic_put_head(b, &(struct topic_head){kind, {below(4), seq}, seq > 20 ? seq - 20 : 0});
    if (kind == TOPIC_OP_CREATE || kind == TOPIC_OP_ALTER) {
        put_config_op(b);
    } else if (kind == TOPIC_OP_DELETE) {
        topic_put_delete(b, topic_name());
    } else if (kind == TOPIC_OP_CONFIRM) {
        topic_put_confirm(b, &(struct topic_confirm){topic_id(), below(at + 2), (uint32_t)below(6)});
    } else if (kind == TOPIC_OP_JOIN) {
        put_joins(b);
    } else if (kind != TOPIC_OP_TICK) {
        topic_put_member(b, &(struct topic_member){topic_id(), group_name(), consumer_name()});
    }
}

static void damage(struct buf *b, size_t from)
{
    if (below(2) == 0) {
        b->len = from + below(b->len - from + 1);
    }
    for (uint64_t n = 1 + below(3); n > 0 && b->len > from; n--) {
        b->ptr[from + below(b->len - from)] ^= (uint8_t)(1u << below(8));
    }
}

/* What is told is confirmed after a while: the groups' part of OPEN and DROP. */
static void confirm_one(void *arg, const struct topic_row *row, uint32_t group, bool open)
{
    struct buf *b = arg;
    (void)open;
    if (b->len == 0 && below(4) == 0) {
        topic_put_head(b, &(struct topic_head){TOPIC_OP_CONFIRM, {0, 0}, 0});
        topic_put_confirm(b, &(struct topic_confirm){row->id, row->version, group});
    }
}

static void next_op(struct buf *b)
{
    if (below(5) == 0) {
        topics_unconfirmed(one, 16, confirm_one, b);
    }
    const struct buf *before = &kept[below(OPS_KEPT)];
    if (b->len == 0 && below(8) == 0 && before->len > 0) {
        buf_append_slice(b, buf_slice(before)); /* once more */
    } else if (b->len == 0) {
        put_op(b);
        if (below(10) == 0) {
            damage(b, below(3) == 0 ? 0 : 25);
        }
    }
    struct buf *keep = &kept[below(OPS_KEPT)];
    buf_clear(keep);
    buf_append_slice(keep, buf_slice(b));
}

static void step(void)
{
    struct buf b = {0};
    next_op(&b);
    now_ms += below(30) == 0 ? below(400) : below(10);
    at += 1 + below(3);
    topics_out_clear(&out_one);
    topics_out_clear(&out_two);
    topics_apply(one, at, 1, now_ms, buf_slice(&b), &out_one);
    topics_apply(two, at, 1, now_ms, buf_slice(&b), &out_two);
    buf_fini(&b);
    topics_check(one);
    syn_assert(topics_next_due_ms(one) > now_ms); /* all that is due is done */
    syn_assert(topics_digest(one) == topics_digest(two) && topics_state_hash(one) == topics_state_hash(two));
    syn_assert(slice_eq(buf_slice(&out_one.replies), buf_slice(&out_two.replies)) && slice_eq(buf_slice(&out_one.names), buf_slice(&out_two.names)));
    syn_assert(out_one.n_results == out_two.n_results && out_one.n_changed == out_two.n_changed);
    for (uint32_t i = 0; i < out_one.n_changed; i++) {
        syn_assert(out_one.changed[i].generation == out_two.changed[i].generation && out_one.changed[i].topic == out_two.changed[i].topic);
    }
    n_answered += out_one.n_results;
}

static void restore_two(void)
{
    struct buf b = {0}, again = {0};
    topics_save(one, &b);
    topics_free(two);
    two = topic_world_table(below(1000));
    bool ok = topics_restore(two, buf_slice(&b));
    syn_assert(ok);
    topics_check(two);
    topics_save(two, &again);
    syn_assert(slice_eq(buf_slice(&b), buf_slice(&again)));
    buf_fini(&b);
    buf_fini(&again);
}

/* Behind the head: what that says is the caller's to compare with the snapshot's own. */
static void restore_damaged(void)
{
    struct buf b = {0}, tick = {0};
    struct topics *t = topic_world_table(1);
    topics_save(one, &b);
    damage(&b, HEAD_BYTES);
    if (topics_restore(t, buf_slice(&b))) {
        n_damaged_ok++;
        topics_check(t);
        for (uint64_t i = 1; i <= 4; i++) {
            buf_clear(&tick);
            put_op(&tick);
            topics_out_clear(&out_two);
            topics_apply(t, at + i, 1, now_ms + i * LATER, buf_slice(&tick), &out_two);
            topics_check(t);
        }
    } else {
        n_damaged_refused++;
    }
    topics_free(t);
    buf_fini(&b);
    buf_fini(&tick);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    long steps = argc > 2 ? strtol(argv[2], NULL, 10) : 30000;
    prng_init(&g, seed);
    one = topic_world_table(11);
    two = topic_world_table(12);
    topics_out_init(&out_one);
    topics_out_init(&out_two);
    for (long i = 0; i < steps; i++) {
        step();
        if (below(20) == 0) {
            restore_two();
        }
        if (below(3) == 0) {
            restore_damaged();
        }
    }
    struct topics_stats s;
    topics_stats(one, &s);
    printf("seed %llu: %ld steps, %llu answers, %llu rebalances, %llu members died, damaged snapshots %llu refused and %llu restored\n",
           (unsigned long long)seed, steps, (unsigned long long)n_answered, (unsigned long long)s.rebalances, (unsigned long long)s.expired_members,
           (unsigned long long)n_damaged_refused, (unsigned long long)n_damaged_ok);
    syn_assert(steps < 1000 || (s.expired_members > 10 && n_damaged_ok > 10 && n_damaged_refused > 10));
    for (int i = 0; i < OPS_KEPT; i++) {
        buf_fini(&kept[i]);
    }
    topics_out_fini(&out_one);
    topics_out_fini(&out_two);
    topics_free(one);
    topics_free(two);
    return 0;
}
