/* Publishes with fencing tokens: what is refused, what is remembered, for how long, and whom else it asks (docs/queue.md, "Fenced publishes"). */
#include "queue_world.h" /* first: stdio.h has its own SEEK_END */

#include "../utils/test.h"

enum { OTHER_TOPIC = 8 };

static struct queue_world w;
static const struct topic_config plain = {.partitions = 2, .max_deliver = 3, .visibility_ms = 30000};

static void open_topic(uint64_t id)
{
    uint8_t numbers[8];
    le32_put(numbers, 0);
    le32_put(numbers + 4, 1);
    world_begin(&w, QUEUE_OP_OPEN);
    queue_put_open(&w.op, &(struct queue_open){.topic = id, .version = 1, .name = SLICE_LIT("t"), .config = plain, .n_parts = 2, .parts = slice_of(numbers, 8)});
    world_apply(&w);
}

static int begin(void **state)
{
    (void)state;
    world_init(&w);
    open_topic(WORLD_TOPIC);
    open_topic(OTHER_TOPIC);
    return 0;
}

static int end(void **state)
{
    (void)state;
    world_restore(&w, 7);
    world_fini(&w);
    return 0;
}

static enum publish_status publish(uint64_t topic, uint32_t partition, const char *resource, uint64_t token)
{
    return world_publish(&w, &(struct publish_item){.topic = topic, .partition = partition, .guard = slice_str(resource), .token = token, .body = SLICE_LIT("x")});
}

static void an_older_token_is_refused(void **state)
{
    (void)state;
    assert_int_equal(publish(WORLD_TOPIC, 0, "r", 5), PUBLISH_OK);
    assert_int_equal(publish(WORLD_TOPIC, 0, "r", 5), PUBLISH_OK);
    assert_int_equal(publish(WORLD_TOPIC, 0, "r", 4), PUBLISH_FENCED);
    assert_true(w.offset == 5 && w.out.n_appended == 0);
    assert_int_equal(publish(WORLD_TOPIC, 1, "r", 4), PUBLISH_FENCED); /* a partition of the same group */
    assert_int_equal(world_part(&w, 1).end, 0);
    assert_int_equal(publish(WORLD_TOPIC, 1, "r", 9), PUBLISH_OK);
    assert_int_equal(publish(WORLD_TOPIC, 0, "r", 5), PUBLISH_FENCED);
    assert_int_equal(w.offset, 9);
    assert_int_equal(publish(WORLD_TOPIC, 0, "other", 1), PUBLISH_OK);
    assert_int_equal(publish(OTHER_TOPIC, 0, "r", 1), PUBLISH_OK);
    assert_int_equal(publish(WORLD_TOPIC, 0, "", 0), PUBLISH_OK); /* without FENCE */
    assert_int_equal(world_part(&w, 0).end, 4);
}

/* Of a topic that does not exist none is; what is refused for another reason has shown its token. */
static void a_token_counts_even_when_the_publish_does_not(void **state)
{
    (void)state;
    assert_int_equal(publish(99, 0, "r", 9), PUBLISH_NO_TOPIC);
    assert_int_equal(publish(WORLD_TOPIC, 7, "r", 9), PUBLISH_NO_TOPIC);
    assert_int_equal(publish(WORLD_TOPIC, 0, "r", 3), PUBLISH_OK);
    struct publish_item small = {.guard = SLICE_LIT("r"), .token = 8, .flags = MESSAGE_ID, .id = {0, 1}, .body = SLICE_LIT("x")};
    assert_int_equal(world_publish(&w, &small), PUBLISH_SMALL_ID);
    assert_int_equal(publish(WORLD_TOPIC, 0, "r", 7), PUBLISH_FENCED);
}

static void a_retry_meets_its_first_offset_though_it_is_old(void **state)
{
    (void)state;
    struct publish_item it = {.guard = SLICE_LIT("r"), .token = 3, .dedup = SLICE_LIT("id"), .body = SLICE_LIT("x")};
    assert_int_equal(world_publish(&w, &it), PUBLISH_OK);
    assert_int_equal(publish(WORLD_TOPIC, 0, "r", 4), PUBLISH_OK);
    assert_int_equal(world_publish(&w, &it), PUBLISH_DUPLICATE);
    assert_int_equal(w.offset, 0);
    it.dedup = SLICE_LIT("another");
    assert_int_equal(world_publish(&w, &it), PUBLISH_FENCED);
    it.token = 4;
    assert_int_equal(world_publish(&w, &it), PUBLISH_OK); /* what was refused left no id behind */
}

static void tokens_are_in_snapshots_and_go_with_their_topic(void **state)
{
    (void)state;
    publish(WORLD_TOPIC, 0, "r", 5);
    publish(OTHER_TOPIC, 0, "r", 6);
    uint64_t before = queue_sm_state_hash(w.sm);
    publish(OTHER_TOPIC, 9, "r", 6);
    world_restore(&w, 11);
    assert_int_equal(publish(WORLD_TOPIC, 0, "r", 4), PUBLISH_FENCED);
    assert_int_equal(publish(OTHER_TOPIC, 0, "r", 5), PUBLISH_FENCED);
    assert_true(before != 0);
    world_begin(&w, QUEUE_OP_DROP);
    queue_put_drop(&w.op, OTHER_TOPIC);
    world_apply(&w);
    assert_int_equal(publish(OTHER_TOPIC, 0, "r", 5), PUBLISH_NO_TOPIC);
    assert_int_equal(publish(WORLD_TOPIC, 0, "r", 4), PUBLISH_FENCED);
}

/* 8 MiB of names: the pair that was seen longest ago goes first, another stays. */
static void the_oldest_are_forgotten_at_the_bound(void **state)
{
    (void)state;
    char name[1025];
    uint32_t n = 8 * 1024 * 1024 / 1024 + 8;
    publish(WORLD_TOPIC, 0, "oldest", 5);
    publish(WORLD_TOPIC, 0, "used", 5);
    struct queue_world *one = &w;
    for (uint32_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%01024u", i);
        world_begin(one, QUEUE_OP_PUBLISH); /* as world_publish, but that everything is checked each time */
        queue_put_publish(&one->op, 1);
        queue_put_item(&one->op, &(struct publish_item){.topic = WORLD_TOPIC, .trim_maxlen = UINT64_MAX, .guard = slice_str(name), .token = 1, .body = SLICE_LIT("x")});
        queue_out_clear(&one->out);
        queue_sm_apply(one->sm, ++one->index, 1, one->time_ms, buf_slice(&one->op), &one->out);
        if (i == n / 2) {
            assert_int_equal(publish(WORLD_TOPIC, 0, "used", 6), PUBLISH_OK);
        }
    }
    queue_sm_check(w.sm);
    assert_int_equal(publish(WORLD_TOPIC, 0, "used", 5), PUBLISH_FENCED);
    assert_int_equal(publish(WORLD_TOPIC, 0, "oldest", 4), PUBLISH_OK);
    snprintf(name, sizeof name, "%01024u", n - 1);
    assert_int_equal(publish(WORLD_TOPIC, 0, name, 0), PUBLISH_FENCED);
    world_fini(&w); /* its snapshot in pieces of 7 bytes would take long */
    begin(NULL);
}

/* A table of one lock: "lock" was granted with 10. */
static bool lock_fence(void *arg, slice_t resource, uint64_t token, uint64_t *newest)
{
    uint64_t granted = *(uint64_t *)arg;
    *newest = slice_eq(resource, SLICE_LIT("lock")) && token < granted ? granted : *newest;
    return slice_eq(resource, SLICE_LIT("lock")) && token < granted;
}

static void locks_of_the_group_are_asked(void **state)
{
    (void)state;
    uint64_t granted = 10;
    queue_sm_free(w.sm);
    w.sm = queue_sm_new(&(struct queue_sm_options){.dedup_ms = 1000, .dedup_count = 1000, .lock_fence = lock_fence, .lock_arg = &granted});
    open_topic(WORLD_TOPIC);
    assert_int_equal(publish(WORLD_TOPIC, 0, "lock", 9), PUBLISH_FENCED);
    assert_int_equal(w.offset, 10);
    assert_int_equal(publish(WORLD_TOPIC, 0, "lock", 10), PUBLISH_OK);
    assert_int_equal(publish(WORLD_TOPIC, 0, "no lock", 1), PUBLISH_OK);
    granted = 12;
    assert_int_equal(publish(WORLD_TOPIC, 0, "lock", 11), PUBLISH_FENCED);
    granted = 0; /* forgotten: what was published is not */
    assert_int_equal(publish(WORLD_TOPIC, 0, "lock", 9), PUBLISH_FENCED);
    assert_int_equal(publish(WORLD_TOPIC, 0, "lock", 10), PUBLISH_OK);
}

static void items_are_what_they_were(void **state)
{
    (void)state;
    struct publish_item in = {.topic = 3, .partition = 1, .dedup = SLICE_LIT("d"), .trim_maxlen = 4, .guard = SLICE_LIT("r"), .token = UINT64_MAX, .body = SLICE_LIT("b")}, out;
    struct buf b = {0};
    queue_put_item(&b, &in);
    struct reader r = reader_of(buf_slice(&b));
    assert_true(queue_get_item(&r, &out) && reader_done(&r));
    assert_true(out.token == UINT64_MAX && slice_eq(out.guard, in.guard) && slice_eq(out.dedup, in.dedup) && slice_eq(out.body, in.body) && out.trim_maxlen == 4);
    b.ptr[13] = 64; /* a bit of the mask that nobody knows */
    r = reader_of(buf_slice(&b));
    assert_false(queue_get_item(&r, &out));
    for (size_t n = 0; n + 1 < b.len; n++) {
        b.ptr[13] = 8 | 16 | 32;
        r = reader_of(slice_of(b.ptr, n));
        assert_false(queue_get_item(&r, &out));
    }
    buf_fini(&b);
}

#define FENCE_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FENCE_TEST(an_older_token_is_refused),
        FENCE_TEST(a_token_counts_even_when_the_publish_does_not),
        FENCE_TEST(a_retry_meets_its_first_offset_though_it_is_old),
        FENCE_TEST(tokens_are_in_snapshots_and_go_with_their_topic),
        FENCE_TEST(the_oldest_are_forgotten_at_the_bound),
        FENCE_TEST(locks_of_the_group_are_asked),
        FENCE_TEST(items_are_what_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
