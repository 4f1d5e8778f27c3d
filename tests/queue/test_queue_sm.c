/* Every operation of the queue state machine and every refusal, one rule of docs/queue.md a test, by its number where it has one. */
#include "queue_world.h" /* first: stdio.h has its own SEEK_END */

#include "../utils/test.h"

static struct queue_world w;
static const struct topic_config plain = {.max_deliver = 3, .visibility_ms = 30000, .backoff_ms = 1000, .backoff_ms_max = 3000};
static const struct topic_config stream = {.stream = 1};

static int begin(void **state)
{
    (void)state;
    world_init(&w);
    world_open(&w, 1, &plain, 2);
    return 0;
}

static int begin_stream(void **state)
{
    (void)state;
    world_init(&w);
    world_open(&w, 1, &stream, 1);
    return 0;
}

static int end(void **state)
{
    (void)state;
    world_restore(&w, 7);
    world_fini(&w);
    return 0;
}

static void publish(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(world_pub(&w, 0, "body"), PUBLISH_OK);
    }
}

static struct delivery claim1(const char *consumer, uint64_t generation)
{
    assert_int_equal(world_claim(&w, "g", consumer, 0, generation, 1), 1);
    return w.got[0];
}

static void group_op(enum group_action action, const char *group, const char *consumer, enum seek_to start, uint64_t offset)
{
    world_begin(&w, QUEUE_OP_GROUP);
    queue_put_group(&w.op, &(struct queue_group){WORLD_TOPIC, 0, slice_str(group), slice_str(consumer), action, start, offset});
    world_apply(&w);
}

static void seek(enum seek_to to, uint64_t offset)
{
    world_begin(&w, QUEUE_OP_SEEK);
    queue_put_seek(&w.op, &(struct queue_seek){WORLD_TOPIC, 0, SLICE_LIT("g"), to, offset});
    world_apply(&w);
}

static void redrive(uint32_t count)
{
    world_begin(&w, QUEUE_OP_REDRIVE);
    queue_put_redrive(&w.op, &(struct queue_redrive){WORLD_TOPIC, SLICE_LIT("g"), count});
    world_apply(&w);
}

static void erase(uint64_t offset)
{
    uint8_t bytes[8];
    le64_put(bytes, offset);
    world_begin(&w, QUEUE_OP_ERASE);
    queue_put_erase(&w.op, &(struct queue_erase){WORLD_TOPIC, 0, 1, slice_of(bytes, 8)});
    world_apply(&w);
}

static void published_messages_get_dense_offsets_and_rising_ids(void **state)
{
    (void)state;
    publish(3);
    assert_int_equal(w.offset, 2);
    assert_true(w.id.ms == w.wall_ms && w.id.seq == 2);
    assert_int_equal(w.out.n_appended, 1);
    assert_true(world_woken(&w, 0) && !world_woken(&w, 1));
    w.wall_ms -= 5000; /* a door whose clock is behind */
    publish(1);
    assert_true(w.id.ms == w.wall_ms + 5000 && w.id.seq == 3);
    assert_int_equal(world_part(&w, 0).end, 4);
    assert_int_equal(world_part(&w, 0).bytes, 16);
    assert_int_equal(world_pub(&w, 9, "x"), PUBLISH_NO_TOPIC);
    assert_int_equal(world_publish(&w, &(struct publish_item){.topic = 99, .body = SLICE_LIT("x")}), PUBLISH_NO_TOPIC);
}

static void a_producer_id_meets_its_first_offset(void **state)
{
    (void)state;
    struct publish_item it = {.dedup = SLICE_LIT("p-1"), .body = SLICE_LIT("x")};
    publish(1);
    assert_int_equal(world_publish(&w, &it), PUBLISH_OK);
    publish(1);
    assert_int_equal(world_publish(&w, &it), PUBLISH_DUPLICATE); /* Q9 */
    assert_int_equal(w.offset, 1);
    assert_int_equal(w.out.n_appended, 0);
    world_restore(&w, 100);
    assert_int_equal(world_publish(&w, &it), PUBLISH_DUPLICATE);
    assert_int_equal(world_part(&w, 0).end, 3);
}

static void a_request_that_is_asked_again_has_the_same_answer(void **state)
{
    (void)state;
    publish(2);
    claim1("a", 1);
    struct delivery first = w.got[0];
    world_apply(&w); /* the same bytes */
    assert_int_equal(w.n, 1);
    assert_memory_equal(&w.got[0].receipt, &first.receipt, sizeof first.receipt);
    assert_true(w.answered && !w.again && w.out.results[0].topic == WORLD_TOPIC);
    assert_int_equal(world_group(&w, 0, "g").pending, 1);
    uint64_t seq = w.seq;
    w.seq += 100;
    world_tick(&w, 1);
    w.seq = seq - 1;
    world_claim(&w, "g", "a", 0, 1, 1); /* below its origin's low */
    assert_false(w.answered);
    w.seq += 200;
}

static void an_empty_claim_is_not_remembered(void **state)
{
    (void)state;
    struct buf op = {0};
    world_claim(&w, "g", "a", 0, 1, 5);
    assert_true(w.again);
    buf_append_slice(&op, buf_slice(&w.op));
    publish(2);
    buf_swap(&op, &w.op);
    world_apply(&w);
    assert_int_equal(w.n, 2);
    buf_fini(&op);
    w.origin = 0;
    world_tick(&w, 1);
    assert_false(w.answered); /* nobody asked */
}

static void acknowledged_messages_go_when_every_group_has_them(void **state)
{
    (void)state;
    publish(3);
    world_claim(&w, "g", "a", 0, 1, 3);
    struct delivery d[3];
    memcpy(d, w.got, sizeof d);
    world_claim(&w, "h", "b", 0, 1, 1);
    struct receipt other = w.got[0].receipt;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(world_ack(&w, "g", d[i].receipt), SETTLE_OK);
    }
    assert_int_equal(world_part(&w, 0).start, 0); /* Q12: h has it in flight */
    assert_int_equal(world_ack(&w, "g", d[0].receipt), SETTLE_STALE);
    assert_int_equal(world_ack(&w, "h", other), SETTLE_OK);
    assert_int_equal(world_part(&w, 0).start, 1);
    assert_true(w.out.n_trimmed == 1 && w.out.trimmed[0].start == 1);
    assert_true(queue_sm_needs(w.sm, WORLD_TOPIC, 0, 0, 2) && !queue_sm_needs(w.sm, WORLD_TOPIC, 0, 0, 0));
    assert_int_equal(world_ack(&w, "nobody", d[0].receipt), SETTLE_NO_GROUP);
    group_op(GROUP_DESTROY, "h", "", 0, 0);
    assert_int_equal(world_part(&w, 0).start, 3);
}

static void a_failed_message_comes_back_after_its_backoff_and_dies_at_the_limit(void **state)
{
    (void)state;
    publish(2);
    struct delivery d = claim1("a", 1);
    assert_int_equal(world_nack(&w, "g", d.receipt, NACK_FAIL, SETTLE_DELAY_DEFAULT), SETTLE_OK);
    assert_int_equal(world_group(&w, 0, "g").waiting, 1);
    world_tick(&w, 999);
    assert_int_equal(world_group(&w, 0, "g").available, 0);
    assert_true(queue_sm_next_due_ms(w.sm) <= w.time_ms + 1);
    world_tick(&w, 1);
    assert_true(world_woken(&w, 0));
    d = claim1("a", 1);
    assert_true(d.receipt.offset == 0 && d.deliveries == 2); /* Q7; before the new one */
    assert_int_equal(world_nack(&w, "g", d.receipt, NACK_FAIL, 0), SETTLE_OK);
    d = claim1("a", 1);
    assert_int_equal(d.deliveries, 3);
    world_tick(&w, 30000);
    assert_int_equal(world_group(&w, 0, "g").dead, 1); /* Q8 */
    assert_int_equal(world_ack(&w, "g", d.receipt), SETTLE_STALE);
    assert_int_equal(claim1("a", 1).receipt.offset, 1);
    assert_int_equal(world_part(&w, 0).start, 0);
    assert_true(queue_sm_needs(w.sm, WORLD_TOPIC, 0, 0, 0));
    redrive(10);
    assert_int_equal(w.value, 1);
    assert_true(world_woken(&w, 0));
    d = claim1("a", 1);
    assert_true(d.receipt.offset == 0 && d.deliveries == 1);
}

static void backoff_doubles_up_to_its_bound(void **state)
{
    (void)state;
    struct topic_config c = plain;
    const uint64_t want[] = {1000, 2000, 3000, 3000};
    c.max_deliver = 0;
    world_open(&w, 2, &c, 2);
    publish(1);
    for (int i = 0; i < 4; i++) {
        struct delivery d = claim1("a", 1);
        world_nack(&w, "g", d.receipt, NACK_FAIL, SETTLE_DELAY_DEFAULT);
        world_tick(&w, want[i] - 1);
        assert_int_equal(world_group(&w, 0, "g").available, 0);
        world_tick(&w, 1);
        assert_int_equal(world_group(&w, 0, "g").available, 1);
    }
}

static void silent_does_not_count_and_fatal_kills(void **state)
{
    (void)state;
    publish(1);
    for (int i = 0; i < 5; i++) {
        struct delivery d = claim1("a", 1);
        assert_int_equal(d.deliveries, 1);
        world_nack(&w, "g", d.receipt, NACK_SILENT, SETTLE_DELAY_DEFAULT);
    }
    struct delivery d = claim1("a", 1);
    struct settle_item it = {.kind = SETTLE_NACK, .mode = NACK_FATAL, .receipt = d.receipt, .reason = SLICE_LIT("bad json")};
    assert_int_equal(world_settle(&w, "g", &it), SETTLE_OK);
    assert_int_equal(world_group(&w, 0, "g").dead, 1);
}

static void extend_moves_the_deadline(void **state)
{
    (void)state;
    publish(1);
    struct delivery d = claim1("a", 1);
    world_tick(&w, 29000);
    struct settle_item it = {.kind = SETTLE_EXTEND, .receipt = d.receipt, .delay_ms = 5000};
    assert_int_equal(world_settle(&w, "g", &it), SETTLE_OK);
    world_tick(&w, 4999);
    assert_int_equal(world_group(&w, 0, "g").pending, 1);
    world_tick(&w, 1);
    assert_int_equal(world_group(&w, 0, "g").pending, 0);
    assert_int_equal(world_settle(&w, "g", &it), SETTLE_STALE);
}

static void a_newer_generation_takes_over_and_the_older_is_refused(void **state)
{
    (void)state;
    publish(3);
    struct delivery old = claim1("a", 4);
    struct delivery new = claim1("b", 5);
    assert_int_equal(new.receipt.offset, 1);
    world_claim(&w, "g", "a", 0, 4, 1);
    assert_true(w.code == QUEUE_OLD_GENERATION && w.value == 5); /* S50 */
    assert_int_equal(world_ack(&w, "g", old.receipt), SETTLE_STALE); /* S51 */
    assert_int_equal(world_ack(&w, "g", new.receipt), SETTLE_OK);
    world_claim(&w, "g", "a", 0, 5, 1);
    assert_int_equal(w.code, QUEUE_OLD_GENERATION); /* Q5 */
    assert_int_equal(queue_sm_generation(w.sm, WORLD_TOPIC, 0, SLICE_LIT("g")), 5);
    world_tick(&w, 40000);
    world_tick(&w, 1000);
    assert_int_equal(claim1("b", 5).deliveries, 2);
}

static void a_former_delivery_cannot_acknowledge(void **state)
{
    (void)state;
    publish(1);
    struct delivery first = claim1("a", 1);
    world_tick(&w, 30000);
    assert_int_equal(world_ack(&w, "g", first.receipt), SETTLE_STALE);
    world_tick(&w, 1000);
    struct delivery second = claim1("a", 1);
    assert_true(second.receipt.delivery > first.receipt.delivery);
    assert_int_equal(world_ack(&w, "g", first.receipt), SETTLE_STALE); /* S53 */
    assert_int_equal(world_ack(&w, "g", second.receipt), SETTLE_OK);
}

static void a_released_consumer_gives_back_uncounted(void **state)
{
    (void)state;
    publish(3);
    world_claim(&w, "g", "a", 0, 1, 2);
    world_begin(&w, QUEUE_OP_RELEASE);
    queue_put_release(&w.op, &(struct queue_release){WORLD_TOPIC, SLICE_LIT("g"), SLICE_LIT("a")});
    world_apply(&w);
    assert_true(world_woken(&w, 0) && w.code == QUEUE_DONE);
    assert_int_equal(world_group(&w, 0, "g").consumers, 0);
    assert_int_equal(world_claim(&w, "g", "b", 0, 2, 5), 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(w.got[i].receipt.offset == i && w.got[i].deliveries == 1);
    }
}

static void a_delayed_message_lets_others_pass(void **state)
{
    (void)state;
    world_publish(&w, &(struct publish_item){.delay_ms = 500, .body = SLICE_LIT("later")});
    assert_false(world_woken(&w, 0));
    publish(1);
    assert_int_equal(world_part(&w, 0).delayed, 1);
    assert_int_equal(claim1("a", 1).receipt.offset, 1);
    assert_int_equal(world_group(&w, 0, "g").waiting, 1);
    world_tick(&w, 500);
    assert_true(world_woken(&w, 0));
    assert_int_equal(world_part(&w, 0).delayed, 0);
    struct delivery d = claim1("a", 1);
    assert_true(d.receipt.offset == 0 && d.deliveries == 1);
}

static void of_a_key_one_message_is_out(void **state)
{
    (void)state;
    struct topic_config c = plain;
    c.ordered = 1;
    world_begin(&w, QUEUE_OP_DROP);
    queue_put_drop(&w.op, WORLD_TOPIC);
    world_apply(&w);
    assert_true(w.out.n_trimmed == 2 && w.out.trimmed[0].start == UINT64_MAX);
    world_open(&w, 9, &c, 1); /* a late OPEN of what was dropped */
    assert_false(queue_sm_topic(w.sm, WORLD_TOPIC, NULL, NULL, NULL));
    world_fini(&w);
    world_init(&w);
    world_open(&w, 1, &c, 1);
    const uint32_t keys[] = {5, 5, 6, 0, 5};
    for (int i = 0; i < 5; i++) {
        world_publish(&w, &(struct publish_item){.key_hash = keys[i], .body = SLICE_LIT("x")});
    }
    assert_int_equal(world_claim(&w, "g", "a", 0, 1, 10), 3); /* Q4: 0, 2, 3 */
    assert_true(w.got[0].receipt.offset == 0 && w.got[1].receipt.offset == 2 && w.got[2].receipt.offset == 3);
    struct receipt first = w.got[0].receipt;
    assert_int_equal(world_nack(&w, "g", first, NACK_FAIL, 0), SETTLE_OK);
    struct delivery d = claim1("a", 1);
    assert_int_equal(d.receipt.offset, 0); /* before 1 */
    assert_int_equal(world_claim(&w, "g", "a", 0, 1, 10), 0);
    assert_int_equal(world_nack(&w, "g", d.receipt, NACK_FATAL, 0), SETTLE_OK);
    assert_true(world_woken(&w, 0));
    d = claim1("a", 1);
    assert_int_equal(d.receipt.offset, 1);
    redrive(1);
    assert_int_equal(world_claim(&w, "g", "a", 0, 1, 10), 0);
    assert_int_equal(world_ack(&w, "g", d.receipt), SETTLE_OK);
    assert_int_equal(claim1("a", 1).receipt.offset, 0);
}

static void retention_takes_the_oldest_by_size(void **state)
{
    (void)state;
    struct topic_config c = plain;
    c.retention_bytes = 800;
    world_open(&w, 2, &c, 2);
    char body[101];
    memset(body, 'x', 100);
    body[100] = 0;
    world_pub(&w, 0, body);
    struct delivery d = claim1("a", 1);
    for (int i = 0; i < 20; i++) {
        world_pub(&w, 0, body);
    }
    struct partition_info p = world_part(&w, 0);
    assert_true(p.bytes <= 900 && p.bytes >= 700);
    assert_true(p.start == 0 && p.expired >= 11 && p.expired <= 13); /* what is in flight stays */
    assert_int_equal(p.end - p.start - p.deleted, p.bytes / 100 + 1);
    assert_false(queue_sm_deleted(w.sm, WORLD_TOPIC, 0, 0));
    assert_true(queue_sm_deleted(w.sm, WORLD_TOPIC, 0, 1));
    world_ack(&w, "g", d.receipt);
    assert_true(world_part(&w, 0).start > 10 && world_group(&w, 0, "g").next == world_part(&w, 0).start);
    d = claim1("a", 1);
    world_ack(&w, "g", d.receipt);
    assert_false(queue_sm_deleted(w.sm, WORLD_TOPIC, 0, d.receipt.offset)); /* consumed, and kept */
}

static void age_takes_the_oldest_without_traffic(void **state)
{
    (void)state;
    struct topic_config c = plain;
    c.max_age_ms = 8000;
    world_open(&w, 2, &c, 2);
    publish(5);
    world_tick(&w, 4000);
    publish(5);
    world_tick(&w, 3999);
    assert_int_equal(world_part(&w, 0).start, 0);
    world_tick(&w, 1);
    assert_int_equal(world_part(&w, 0).start, 5);
    uint64_t due = queue_sm_next_due_ms(w.sm);
    assert_true(due > w.time_ms && due <= w.time_ms + 4000);
    world_tick(&w, 4000);
    assert_int_equal(world_part(&w, 0).start, 10);
    assert_int_equal(world_part(&w, 0).expired, 10);
    publish(1);
    assert_int_equal(claim1("a", 1).receipt.offset, 10);
}

static void seek_forgets_what_is_in_flight(void **state)
{
    (void)state;
    publish(6);
    world_claim(&w, "keep", "x", 0, 1, 1); /* holds the floor at 1, the start at 0 */
    world_claim(&w, "g", "a", 0, 1, 4);
    struct receipt first = w.got[0].receipt, last = w.got[3].receipt;
    world_nack(&w, "g", first, NACK_FATAL, 0);
    seek(SEEK_OFFSET, 2);
    assert_int_equal(w.value, 2);
    assert_int_equal(world_group(&w, 0, "g").dead, 1); /* 0 is behind */
    assert_int_equal(world_ack(&w, "g", last), SETTLE_STALE);
    assert_int_equal(claim1("a", 1).receipt.offset, 2);
    seek(SEEK_END, 0);
    assert_int_equal(world_claim(&w, "g", "a", 0, 1, 4), 0);
    seek(SEEK_BEGIN, 0);
    assert_int_equal(w.value, 1);
    assert_int_equal(world_claim(&w, "g", "a", 0, 1, 9), 5);
    assert_int_equal(w.got[0].receipt.offset, 1); /* 0 is dead, and behind */
}

static void groups_are_made_moved_and_destroyed(void **state)
{
    (void)state;
    publish(4);
    group_op(GROUP_CREATE, "g", "", SEEK_OFFSET, 2);
    assert_true(w.code == QUEUE_DONE && w.value == 1);
    group_op(GROUP_CREATE, "g", "", SEEK_BEGIN, 0);
    assert_int_equal(w.code, QUEUE_GROUP_EXISTS);
    assert_int_equal(claim1("a", 0).receipt.offset, 2);
    group_op(GROUP_CREATE_CONSUMER, "g", "b", 0, 0);
    assert_int_equal(w.value, 1);
    group_op(GROUP_DELETE_CONSUMER, "g", "a", 0, 0);
    assert_int_equal(w.value, 1);
    assert_int_equal(world_group(&w, 0, "g").available, 1); /* Q1: a queue topic loses nothing with a consumer */
    group_op(GROUP_DESTROY, "g", "", 0, 0);
    assert_int_equal(w.value, 1);
    group_op(GROUP_DESTROY, "g", "", 0, 0);
    assert_int_equal(w.code, QUEUE_NO_GROUP);
}

static void what_is_unknown_is_refused(void **state)
{
    (void)state;
    world_claim(&w, "g", "a", 9, 1, 1);
    assert_int_equal(w.code, QUEUE_NO_TOPIC);
    redrive(1);
    assert_int_equal(w.code, QUEUE_NO_GROUP);
    world_begin(&w, QUEUE_OP_TRIM);
    queue_put_trim(&w.op, &(struct queue_trim){WORLD_TOPIC, 5, 1});
    world_apply(&w);
    assert_int_equal(w.code, QUEUE_NO_TOPIC);
    world_begin(&w, QUEUE_OP_RELEASE);
    queue_put_release(&w.op, &(struct queue_release){99, SLICE_LIT("g"), SLICE_LIT("a")});
    world_apply(&w);
    assert_int_equal(w.code, QUEUE_NO_TOPIC);
    world_begin(&w, QUEUE_OP_SETTLE);
    queue_put_settle(&w.op, 99, SLICE_LIT("g"), 0);
    world_apply(&w);
    assert_int_equal(w.code, QUEUE_NO_TOPIC);
}

static void an_erased_message_of_a_queue_is_not_delivered(void **state)
{
    (void)state;
    publish(4);
    struct delivery d = claim1("a", 1);
    erase(2);
    assert_int_equal(w.value, 1);
    erase(2);
    assert_int_equal(w.value, 0);
    world_nack(&w, "g", d.receipt, NACK_FAIL, 5000);
    erase(0);
    assert_int_equal(world_group(&w, 0, "g").waiting, 0);
    assert_int_equal(world_claim(&w, "g", "a", 0, 1, 5), 2);
    assert_true(w.got[0].receipt.offset == 1 && w.got[1].receipt.offset == 3);
}

static enum publish_status xadd(uint8_t flags, uint64_t ms, uint64_t seq, uint64_t maxlen)
{
    return world_publish(&w, &(struct publish_item){.flags = flags, .id = {ms, seq}, .trim_maxlen = maxlen, .body = SLICE_LIT("f")});
}

static void stream_ids_rise(void **state)
{
    (void)state;
    assert_int_equal(xadd(MESSAGE_ID, 0, 0, 0), PUBLISH_SMALL_ID);
    assert_int_equal(xadd(MESSAGE_ID, 5, 1, 0), PUBLISH_OK);
    assert_int_equal(xadd(MESSAGE_ID, 5, 1, 0), PUBLISH_SMALL_ID);
    assert_int_equal(xadd(MESSAGE_ID_AUTO_SEQ, 5, 0, 0), PUBLISH_OK);
    assert_true(w.id.ms == 5 && w.id.seq == 2);
    assert_int_equal(xadd(MESSAGE_ID_AUTO_SEQ, 4, 0, 0), PUBLISH_SMALL_ID);
    assert_int_equal(xadd(MESSAGE_ID_AUTO_SEQ, 6, 0, 0), PUBLISH_OK);
    assert_true(w.id.ms == 6 && w.id.seq == 0);
    for (uint64_t i = 0; i < 300; i++) {
        assert_int_equal(xadd(MESSAGE_ID, 1000 + i * 1000000, UINT64_MAX - 1 - i, 0), PUBLISH_OK);
    }
    assert_int_equal(queue_sm_find_id(w.sm, WORLD_TOPIC, 0, (struct stream_id){6, 0}), 2);
    assert_int_equal(queue_sm_find_id(w.sm, WORLD_TOPIC, 0, (struct stream_id){1000 + 200 * 1000000, 5}), 203);
    assert_int_equal(queue_sm_find_id(w.sm, WORLD_TOPIC, 0, (struct stream_id){UINT64_MAX, 5}), 303);
    world_begin(&w, QUEUE_OP_SET_ID);
    queue_put_set_id(&w.op, &(struct queue_set_id){WORLD_TOPIC, 0, {7, 7}, UINT64_MAX});
    world_apply(&w);
    assert_int_equal(w.code, QUEUE_BAD_ID);
    world_begin(&w, QUEUE_OP_SET_ID);
    queue_put_set_id(&w.op, &(struct queue_set_id){WORLD_TOPIC, 0, {UINT64_MAX, UINT64_MAX}, 1000});
    world_apply(&w);
    assert_int_equal(w.code, QUEUE_DONE);
    assert_int_equal(world_part(&w, 0).entries_added, 1000);
    assert_int_equal(xadd(0, 0, 0, 0), PUBLISH_SMALL_ID);
}

static void a_stream_is_trimmed_by_length_and_by_hand(void **state)
{
    (void)state;
    publish(10);
    erase(3);
    assert_int_equal(xadd(0, 0, 0, 5), PUBLISH_OK);
    struct partition_info p = world_part(&w, 0);
    assert_true(p.start == 6 && p.end == 11);
    erase(8);
    assert_int_equal(world_part(&w, 0).deleted, 1);
    assert_true(world_part(&w, 0).max_deleted_id.ms > 0);
    erase(6);
    assert_int_equal(world_part(&w, 0).start, 7);
    world_begin(&w, QUEUE_OP_TRIM);
    queue_put_trim(&w.op, &(struct queue_trim){WORLD_TOPIC, 0, 10});
    world_apply(&w);
    assert_int_equal(w.value, 2);
    assert_int_equal(world_part(&w, 0).start, 10);
    assert_int_equal(world_part(&w, 0).expired, 0);
}

static void take(uint64_t min_idle, uint64_t from, uint32_t n, uint64_t offset, bool force)
{
    uint8_t bytes[8];
    le64_put(bytes, offset);
    struct queue_take o = {.topic = WORLD_TOPIC, .group = SLICE_LIT("g"), .consumer = SLICE_LIT("b"), .min_idle_ms = min_idle};
    o.idle_ms = UINT64_MAX;
    o.retries = UINT32_MAX;
    o.force = force;
    o.from = from;
    o.count = 2;
    o.n = n;
    o.offsets = slice_of(bytes, (size_t)n * 8);
    world_begin(&w, QUEUE_OP_TAKE);
    queue_put_take(&w.op, &o);
    world_apply(&w);
}

static void a_stream_keeps_what_is_pending(void **state)
{
    (void)state;
    publish(6);
    world_claim(&w, "g", "a", 0, 0, 9);
    assert_int_equal(w.code, QUEUE_NO_GROUP);
    group_op(GROUP_CREATE, "g", "", SEEK_BEGIN, 0);
    assert_int_equal(world_claim(&w, "g", "a", 0, 0, 5), 5);
    struct stream_id id = w.got[4].id, gone = w.got[0].id;
    world_tick(&w, 10000);
    assert_int_equal(world_group(&w, 0, "g").pending, 5);
    take(20000, 0, 1, 3, false);
    assert_int_equal(w.n, 0);
    take(10000, 0, 1, 3, false); /* XCLAIM */
    assert_true(w.n == 1 && w.got[0].deliveries == 2);
    take(0, 0, 1, 5, false);
    assert_int_equal(w.n, 0);
    take(0, 0, 1, 5, true);
    assert_int_equal(w.n, 1);
    erase(1);
    xadd(0, 0, 0, 5); /* 2.. are left */
    struct settle_item it = {.kind = SETTLE_ACK, .by_id = true, .id = gone, .delay_ms = SETTLE_DELAY_DEFAULT};
    assert_int_equal(world_settle(&w, "g", &it), SETTLE_OK); /* XACK of a message that was trimmed */
    assert_int_equal(world_settle(&w, "g", &it), SETTLE_STALE);
    take(0, 0, 0, 0, false); /* XAUTOCLAIM */
    assert_true(w.n_gone == 1 && w.gone[0] == 1 && w.n == 1 && w.got[0].receipt.offset == 2 && w.value == 3);
    it.id = id;
    assert_int_equal(world_settle(&w, "g", &it), SETTLE_OK);
    seek(SEEK_BEGIN, 0);
    assert_int_equal(world_group(&w, 0, "g").pending, 3);
    group_op(GROUP_DELETE_CONSUMER, "g", "b", 0, 0);
    assert_int_equal(w.value, 3);
    assert_int_equal(world_group(&w, 0, "g").pending, 0);
}

static void no_ack_leaves_nothing_behind(void **state)
{
    (void)state;
    uint8_t part[12] = {0};
    publish(3);
    struct queue_claim c = {.topic = WORLD_TOPIC, .group = SLICE_LIT("g"), .consumer = SLICE_LIT("a"), .count = 2, .no_ack = true, .n_parts = 1};
    c.parts = slice_of(part, 12);
    world_begin(&w, QUEUE_OP_CLAIM);
    queue_put_claim(&w.op, &c);
    world_apply(&w);
    assert_int_equal(w.n, 2);
    assert_int_equal(world_part(&w, 0).start, 2);
}

#define QUEUE_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
#define STREAM_TEST(f) cmocka_unit_test_setup_teardown(f, begin_stream, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        QUEUE_TEST(published_messages_get_dense_offsets_and_rising_ids),
        QUEUE_TEST(a_producer_id_meets_its_first_offset),
        QUEUE_TEST(a_request_that_is_asked_again_has_the_same_answer),
        QUEUE_TEST(an_empty_claim_is_not_remembered),
        QUEUE_TEST(acknowledged_messages_go_when_every_group_has_them),
        QUEUE_TEST(a_failed_message_comes_back_after_its_backoff_and_dies_at_the_limit),
        QUEUE_TEST(backoff_doubles_up_to_its_bound),
        QUEUE_TEST(silent_does_not_count_and_fatal_kills),
        QUEUE_TEST(extend_moves_the_deadline),
        QUEUE_TEST(a_newer_generation_takes_over_and_the_older_is_refused),
        QUEUE_TEST(a_former_delivery_cannot_acknowledge),
        QUEUE_TEST(a_released_consumer_gives_back_uncounted),
        QUEUE_TEST(a_delayed_message_lets_others_pass),
        QUEUE_TEST(of_a_key_one_message_is_out),
        QUEUE_TEST(retention_takes_the_oldest_by_size),
        QUEUE_TEST(age_takes_the_oldest_without_traffic),
        QUEUE_TEST(seek_forgets_what_is_in_flight),
        QUEUE_TEST(groups_are_made_moved_and_destroyed),
        QUEUE_TEST(what_is_unknown_is_refused),
        QUEUE_TEST(an_erased_message_of_a_queue_is_not_delivered),
        QUEUE_TEST(no_ack_leaves_nothing_behind),
        STREAM_TEST(stream_ids_rise),
        STREAM_TEST(a_stream_is_trimmed_by_length_and_by_hand),
        STREAM_TEST(a_stream_keeps_what_is_pending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
