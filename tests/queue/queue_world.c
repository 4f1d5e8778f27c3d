/* See queue_world.h. Asserts itself that replies are well formed and that invariants hold; what they should say is the tests' business. */
#include "queue_world.h"

#include "utils/assert.h"

#include <stdlib.h>

void world_init(struct queue_world *w)
{
    *w = (struct queue_world){.time_ms = 1000, .wall_ms = 1700000000000, .origin = 1};
    w->sm = queue_sm_new(&(struct queue_sm_options){.hash_key = 5, .dedup_ms = 120000, .dedup_count = 1000});
    queue_out_init(&w->out);
}

void world_fini(struct queue_world *w)
{
    queue_sm_free(w->sm);
    queue_out_fini(&w->out);
    buf_fini(&w->op);
}

void world_begin(struct queue_world *w, enum queue_op_kind kind)
{
    buf_clear(&w->op);
    w->seq++;
    struct queue_head h = {.kind = kind, .req = {w->origin, w->origin ? w->seq : 0}, .low = w->seq > 8 ? w->seq - 8 : 0, .wall_ms = w->wall_ms};
    queue_put_head(&w->op, &h);
}

static void take_deliveries(struct queue_world *w, struct reader *r)
{
    w->n = reader_u32(r);
    syn_assert(w->n <= WORLD_GOT_MAX);
    for (uint32_t i = 0; i < w->n; i++) {
        queue_get_delivery(r, &w->got[i]);
    }
}

static void take_statuses(struct queue_world *w, struct reader *r, bool publish)
{
    w->n = reader_u32(r);
    syn_assert(w->n <= WORLD_GOT_MAX);
    for (uint32_t i = 0; i < w->n; i++) {
        w->status[i] = reader_u8(r);
        if (publish) {
            w->offset = reader_u64(r);
            w->id.ms = reader_u64(r);
            w->id.seq = reader_u64(r);
        }
    }
}

static void take_reply(struct queue_world *w, const struct queue_result *res, struct reader r)
{
    w->answered = true;
    w->again = res->again;
    w->code = (enum queue_code)reader_u8(&r);
    if (w->code == QUEUE_LIMIT) {
        return;
    }
    if (w->code != QUEUE_DONE) {
        w->value = w->code == QUEUE_OLD_GENERATION ? reader_u64(&r) : 0;
    } else if (res->kind == QUEUE_OP_CLAIM) {
        take_deliveries(w, &r);
        syn_assert(res->again == (w->n == 0) && res->topic != 0);
    } else if (res->kind == QUEUE_OP_PUBLISH || res->kind == QUEUE_OP_SETTLE) {
        take_statuses(w, &r, res->kind == QUEUE_OP_PUBLISH);
    } else if (res->kind == QUEUE_OP_TAKE) {
        w->value = reader_u64(&r);
        take_deliveries(w, &r);
        w->n_gone = reader_u32(&r);
        for (uint32_t i = 0; i < w->n_gone; i++) {
            w->gone[i] = reader_u64(&r);
        }
    } else if (res->kind >= QUEUE_OP_GROUP && res->kind <= QUEUE_OP_ERASE) {
        w->value = reader_u64(&r);
    }
    syn_assert(reader_done(&r));
}

void world_apply(struct queue_world *w)
{
    queue_out_clear(&w->out);
    w->answered = w->again = false;
    w->n = w->n_gone = 0;
    w->value = 0;
    queue_sm_apply(w->sm, ++w->index, 1, w->time_ms, buf_slice(&w->op), &w->out);
    queue_sm_check(w->sm);
    syn_assert(w->out.n_results <= 1);
    if (w->out.n_results == 1) {
        const struct queue_result *res = &w->out.results[0];
        take_reply(w, res, reader_of(slice_of(w->out.replies.ptr + res->reply_off, res->reply_len)));
    }
}

void world_restore(struct queue_world *w, size_t piece)
{
    struct buf b = {0};
    queue_sm_snapshot_begin(w->sm);
    while (!queue_sm_snapshot_step(w->sm, piece, &b)) {
    }
    struct queue_sm *sm = queue_sm_new(&(struct queue_sm_options){.hash_key = 99, .dedup_ms = 120000, .dedup_count = 1000});
    for (size_t at = 0; at < b.len; at += piece) {
        bool ok = queue_sm_restore_piece(sm, slice_of(b.ptr + at, b.len - at < piece ? b.len - at : piece));
        syn_assert(ok);
    }
    bool ok = queue_sm_restore_end(sm);
    syn_assert(ok);
    queue_sm_check(sm);
    syn_assert(queue_sm_state_hash(sm) == queue_sm_state_hash(w->sm));
    syn_assert(queue_sm_digest(sm) == queue_sm_digest(w->sm));
    queue_sm_free(w->sm);
    w->sm = sm;
    buf_fini(&b);
}

void world_open(struct queue_world *w, uint64_t version, const struct topic_config *c, uint32_t parts)
{
    uint8_t numbers[64];
    for (uint32_t i = 0; i < parts; i++) {
        le32_put(numbers + (size_t)i * 4, i);
    }
    world_begin(w, QUEUE_OP_OPEN);
    struct queue_open o = {.topic = WORLD_TOPIC, .version = version, .name = SLICE_LIT("t"), .config = *c, .n_parts = parts};
    o.config.partitions = parts;
    o.parts = slice_of(numbers, (size_t)parts * 4);
    queue_put_open(&w->op, &o);
    world_apply(w);
}

enum publish_status world_publish(struct queue_world *w, const struct publish_item *it)
{
    struct publish_item mine = *it;
    mine.topic = mine.topic ? mine.topic : WORLD_TOPIC;
    mine.trim_maxlen = mine.trim_maxlen ? mine.trim_maxlen : UINT64_MAX;
    world_begin(w, QUEUE_OP_PUBLISH);
    queue_put_publish(&w->op, 1);
    queue_put_item(&w->op, &mine);
    world_apply(w);
    syn_assert(w->n == 1);
    return (enum publish_status)w->status[0];
}

enum publish_status world_pub(struct queue_world *w, uint32_t partition, const char *body)
{
    return world_publish(w, &(struct publish_item){.partition = partition, .body = slice_str(body)});
}

uint32_t world_claim(struct queue_world *w, const char *group, const char *consumer, uint32_t partition, uint64_t generation, uint32_t count)
{
    uint8_t part[12];
    le32_put(part, partition);
    le64_put(part + 4, generation);
    struct queue_claim c = {.topic = WORLD_TOPIC, .group = slice_str(group), .consumer = slice_str(consumer), .count = count};
    c.n_parts = 1;
    c.parts = slice_of(part, sizeof part);
    bool promised = queue_sm_available(w->sm, &c);
    world_begin(w, QUEUE_OP_CLAIM);
    queue_put_claim(&w->op, &c);
    uint64_t before = queue_sm_next_due_ms(w->sm);
    world_apply(w);
    syn_assert(promised || w->again || before <= w->time_ms || w->origin == 0);
    return w->n;
}

enum settle_status world_settle(struct queue_world *w, const char *group, const struct settle_item *it)
{
    world_begin(w, QUEUE_OP_SETTLE);
    queue_put_settle(&w->op, WORLD_TOPIC, slice_str(group), 1);
    queue_put_settle_item(&w->op, it);
    world_apply(w);
    syn_assert(w->n == 1);
    return (enum settle_status)w->status[0];
}

enum settle_status world_ack(struct queue_world *w, const char *group, struct receipt r)
{
    return world_settle(w, group, &(struct settle_item){.kind = SETTLE_ACK, .receipt = r, .delay_ms = SETTLE_DELAY_DEFAULT});
}

enum settle_status world_nack(struct queue_world *w, const char *group, struct receipt r, enum nack_mode mode, uint64_t delay_ms)
{
    return world_settle(w, group, &(struct settle_item){.kind = SETTLE_NACK, .mode = mode, .receipt = r, .delay_ms = delay_ms});
}

void world_tick(struct queue_world *w, uint64_t ms)
{
    w->time_ms += ms;
    w->wall_ms += ms;
    world_begin(w, QUEUE_OP_TICK);
    world_apply(w);
}

struct group_info world_group(struct queue_world *w, uint32_t partition, const char *group)
{
    struct group_info g = {0};
    bool ok = queue_sm_group(w->sm, WORLD_TOPIC, partition, slice_str(group), &g);
    syn_assert(ok);
    return g;
}

struct partition_info world_part(struct queue_world *w, uint32_t partition)
{
    struct partition_info p = {0};
    bool ok = queue_sm_partition(w->sm, WORLD_TOPIC, partition, &p);
    syn_assert(ok);
    return p;
}

bool world_woken(const struct queue_world *w, uint32_t partition)
{
    for (uint32_t i = 0; i < w->out.n_woken; i++) {
        if (w->out.woken[i].partition == partition) {
            return true;
        }
    }
    return false;
}
