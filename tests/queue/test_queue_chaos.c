/* Random operations of every kind on topics of every kind, without a model: invariants after each, a snapshot that is taken in slices while they go on
 * must restore to what was there when it began, and the restored one must do the same from there on. Operations and snapshots cut short or
 * with flipped bits are refused or applied, and never assert.
 *
 * test_queue_chaos [SEED [STEPS]] */
#include "queue_world.h"

#include "utils/assert.h"
#include "utils/prng.h"

#include <stdio.h>
#include <stdlib.h>

enum { TOPICS = 4, PARTS = 2, LATER = 40 };

static struct prng g;
static uint64_t last_offset;
static struct { struct delivery d; uint64_t topic; slice_t group; } seen[64];
static slice_t claimed; /* the group of the newest claim */

static uint64_t below(uint64_t n)
{
    return prng_below(&g, n);
}

static slice_t name(void)
{
    static const char *const names[] = {"a", "b", "c"};
    return slice_str(names[below(3)]);
}

static uint64_t some_offset(void)
{
    return below(4) == 0 ? below(last_offset + 2) : last_offset - below(last_offset < 30 ? last_offset + 1 : 30);
}

static struct topic_config config_of(uint64_t topic)
{
    struct topic_config c = {.partitions = PARTS, .max_deliver = 3, .visibility_ms = 200, .backoff_ms = 20, .backoff_ms_max = 100};
    c.ordered = topic == 2;
    c.max_age_ms = topic == 3 ? 1500 : 0;
    c.retention_bytes = topic == 3 && below(2) == 0 ? 3000 : 0;
    if (topic == 4) {
        c = (struct topic_config){.partitions = 1, .stream = 1, .visibility_ms = below(2) * 300};
    }
    return c;
}

static void put_open(struct buf *b)
{
    uint8_t parts[8] = {0, 0, 0, 0, 1, 0, 0, 0};
    struct queue_open o = {.topic = 1 + below(TOPICS), .version = 1 + below(50), .name = name(), .n_parts = 1 + (uint32_t)below(2)};
    o.config = config_of(o.topic);
    o.parts = slice_of(parts, o.n_parts * (size_t)4);
    queue_put_open(b, &o);
}

static void put_publish(struct buf *b)
{
    static const uint8_t body[64];
    uint32_t n = (uint32_t)below(6);
    queue_put_publish(b, n);
    for (uint32_t i = 0; i < n; i++) {
        struct publish_item it = {.topic = 1 + below(TOPICS), .partition = (uint32_t)below(PARTS), .body = slice_of(body, below(64))};
        it.delay_ms = below(5) == 0 ? below(300) : 0;
        it.key_hash = (uint32_t)below(4);
        it.dedup = below(3) == 0 ? name() : SLICE_NONE;
        it.guard = below(4) == 0 ? name() : SLICE_NONE;
        it.token = it.guard.len > 0 ? below(20) : 0;
        it.trim_maxlen = it.topic == 4 && below(3) == 0 ? below(30) : UINT64_MAX;
        it.flags = it.topic == 4 && below(4) == 0 ? (uint8_t)(2 + 2 * below(2)) : 0;
        it.id = (struct stream_id){1700000000000 + below(100000), below(3)};
        queue_put_item(b, &it);
    }
}

static void put_claim(struct buf *b)
{
    uint8_t parts[24] = {0};
    le64_put(parts + 4, below(4));
    le32_put(parts + 12, 1);
    le64_put(parts + 16, below(4));
    struct queue_claim c = {.topic = 1 + below(TOPICS), .group = name(), .consumer = name(), .count = 1 + (uint32_t)below(8)};
    c.rotate = (uint32_t)prng_u64(&g);
    c.no_ack = below(10) == 0;
    c.n_parts = 1 + (uint32_t)below(2);
    c.parts = slice_of(parts, c.n_parts * (size_t)12);
    claimed = c.group;
    queue_put_claim(b, &c);
}

static void put_settle(struct buf *b)
{
    uint32_t n = (uint32_t)below(5);
    uint64_t topic = seen[below(64)].topic;
    slice_t group = name();
    queue_put_settle(b, topic, group, n);
    for (uint32_t i = 0; i < n; i++) {
        const struct delivery *d = &seen[below(64)].d;
        for (int k = 0; k < 64; k++) { /* of that group, when there is one */
            bool fits = seen[k].topic == topic && slice_eq(seen[k].group, group) && below(4) == 0;
            d = fits ? &seen[k].d : d;
        }
        struct settle_item it = {.kind = (enum settle_kind)(1 + below(3)), .mode = (enum nack_mode)below(3), .receipt = d->receipt, .id = d->id};
        it.by_id = below(3) == 0;
        it.delay_ms = below(2) ? SETTLE_DELAY_DEFAULT : below(200);
        it.reason = below(2) ? name() : SLICE_NONE;
        queue_put_settle_item(b, &it);
    }
}

static void put_take(struct buf *b)
{
    uint8_t offsets[24];
    struct queue_take o = {.topic = 1 + below(TOPICS), .group = name(), .consumer = name(), .min_idle_ms = below(2) * below(300)};
    o.idle_ms = below(2) ? UINT64_MAX : below(1000);
    o.retries = below(2) ? UINT32_MAX : (uint32_t)below(5);
    o.just_id = below(2);
    o.force = below(2);
    o.from = some_offset();
    o.count = (uint32_t)below(5);
    o.n = (uint32_t)below(4);
    for (uint32_t i = 0; i < o.n; i++) {
        le64_put(offsets + (size_t)i * 8, some_offset());
    }
    o.offsets = slice_of(offsets, o.n * (size_t)8);
    queue_put_take(b, &o);
}

static void put_rare(struct buf *b, enum queue_op_kind kind)
{
    uint8_t offset[8];
    uint64_t topic = 1 + below(TOPICS);
    uint32_t part = (uint32_t)below(PARTS);
    le64_put(offset, some_offset());
    enum seek_to to = (enum seek_to)(1 + below(3));
    switch (kind) {
    case QUEUE_OP_DROP: queue_put_drop(b, below(100) == 0 ? topic : 77); break;
    case QUEUE_OP_RELEASE: queue_put_release(b, &(struct queue_release){topic, name(), name()}); break;
    case QUEUE_OP_GROUP:
        queue_put_group(b, &(struct queue_group){topic, part, name(), name(), (enum group_action)(1 + below(4)), to, some_offset()});
        break;
    case QUEUE_OP_SEEK: queue_put_seek(b, &(struct queue_seek){topic, part, name(), to, some_offset()}); break;
    case QUEUE_OP_REDRIVE: queue_put_redrive(b, &(struct queue_redrive){topic, name(), (uint32_t)below(5)}); break;
    case QUEUE_OP_TRIM: queue_put_trim(b, &(struct queue_trim){topic, part, below(3) == 0 ? some_offset() : 0}); break;
    case QUEUE_OP_ERASE: queue_put_erase(b, &(struct queue_erase){topic, part, 1, slice_of(offset, 8)}); break;
    default: queue_put_set_id(b, &(struct queue_set_id){topic, part, {1700000000000 + below(100000), 0}, some_offset()}); break;
    }
}

static void put_any(struct queue_world *w)
{
    static const uint8_t often[] = {QUEUE_OP_PUBLISH, QUEUE_OP_CLAIM, QUEUE_OP_SETTLE, QUEUE_OP_TAKE};
    enum queue_op_kind kind = (enum queue_op_kind)(below(3) ? often[below(4)] : 1 + below(QUEUE_OP_MAX - 1));
    world_begin(w, kind);
    switch (kind) {
    case QUEUE_OP_OPEN: put_open(&w->op); break;
    case QUEUE_OP_PUBLISH: put_publish(&w->op); break;
    case QUEUE_OP_CLAIM: put_claim(&w->op); break;
    case QUEUE_OP_SETTLE: put_settle(&w->op); break;
    case QUEUE_OP_TAKE: put_take(&w->op); break;
    case QUEUE_OP_TICK: break;
    default: put_rare(&w->op, kind); break;
    }
}

/* In the body; a count of messages that a flip makes large is refused before anything is taken. */
static void damage(struct buf *op)
{
    if (below(2) == 0) {
        op->len -= below(op->len + 1);
    } else {
        size_t at = below(op->len);
        op->ptr[at] ^= (uint8_t)(1 << below(8));
    }
}

static void apply(struct queue_world *w)
{
    queue_out_clear(&w->out);
    queue_sm_apply(w->sm, ++w->index, 1, w->time_ms, buf_slice(&w->op), &w->out);
    queue_sm_check(w->sm);
}

static void learn(struct queue_world *w)
{
    for (uint32_t i = 0; i < w->out.n_appended; i++) {
        last_offset = w->out.appended[i].offset;
    }
    for (uint32_t i = 0; i < w->out.n_results; i++) {
        const struct queue_result *res = &w->out.results[i];
        struct reader r = reader_of(slice_of(w->out.replies.ptr + res->reply_off, res->reply_len));
        if (res->kind == QUEUE_OP_CLAIM && reader_u8(&r) == QUEUE_DONE) {
            for (uint32_t n = reader_u32(&r); n > 0; n--) {
                uint64_t at = below(64);
                queue_get_delivery(&r, &seen[at].d);
                seen[at].topic = res->topic;
                seen[at].group = claimed;
            }
        }
    }
}

/* What `from` did since its snapshot, done again by what was restored from it. */
static void follow(struct queue_world *from, const struct buf *snapshot, uint64_t hash, struct buf *ops, const uint64_t *times, const size_t *ends,
                   uint64_t index, int n)
{
    struct queue_world w;
    world_init(&w);
    w.index = index;
    for (size_t at = 0, piece; at < snapshot->len; at += piece) {
        piece = 1 + below(300);
        piece = piece < snapshot->len - at ? piece : snapshot->len - at;
        bool ok = queue_sm_restore_piece(w.sm, slice_of(snapshot->ptr + at, piece));
        syn_assert(ok);
    }
    bool ok = queue_sm_restore_end(w.sm);
    syn_assert(ok);
    queue_sm_check(w.sm);
    syn_assert(queue_sm_state_hash(w.sm) == hash);
    for (int i = 0; i < n; i++) {
        size_t start = i > 0 ? ends[i - 1] : 0;
        buf_clear(&w.op);
        buf_append(&w.op, ops->ptr + start, ends[i] - start);
        w.time_ms = times[i];
        apply(&w);
    }
    syn_assert(queue_sm_state_hash(w.sm) == queue_sm_state_hash(from->sm));
    syn_assert(queue_sm_digest(w.sm) == queue_sm_digest(from->sm));
    syn_assert(queue_sm_next_due_ms(w.sm) == queue_sm_next_due_ms(from->sm));
    world_fini(&w);
}

/* A damaged snapshot restores to something sound, or not at all. */
static void damaged_restore(const struct buf *snapshot)
{
    struct buf b = {0};
    buf_append_slice(&b, buf_slice(snapshot));
    damage(&b);
    struct queue_world w;
    world_init(&w);
    if (queue_sm_restore_piece(w.sm, buf_slice(&b)) && queue_sm_restore_end(w.sm)) {
        queue_sm_state_hash(w.sm);
    }
    world_fini(&w);
    buf_fini(&b);
}

static void one_round(struct queue_world *w)
{
    struct buf snapshot = {0}, ops = {0};
    uint64_t times[LATER], hash = queue_sm_state_hash(w->sm), index = w->index;
    size_t ends[LATER];
    bool done = false;
    int n = (int)below(LATER);
    queue_sm_snapshot_begin(w->sm);
    for (int i = 0; i < n; i++) {
        uint64_t pass = below(4) == 0 ? below(100) : 0;
        w->time_ms += pass;
        w->wall_ms += below(3) == 0 ? 2 * pass : pass;
        put_any(w);
        if (below(15) == 0) {
            damage(&w->op);
        }
        done = done || (below(3) == 0 && queue_sm_snapshot_step(w->sm, 1 + below(200), &snapshot));
        apply(w);
        learn(w);
        buf_append_slice(&ops, buf_slice(&w->op));
        ends[i] = ops.len;
        times[i] = w->time_ms;
    }
    while (!done) {
        done = queue_sm_snapshot_step(w->sm, 100, &snapshot);
    }
    follow(w, &snapshot, hash, &ops, times, ends, index, n);
    for (int i = 0; i < 10; i++) {
        damaged_restore(&snapshot);
    }
    buf_fini(&snapshot);
    buf_fini(&ops);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    int rounds = argc > 2 ? atoi(argv[2]) : 60;
    uint64_t first = seed ? seed : 1, last = seed ? seed : 8;
    for (uint64_t s = first; s <= last; s++) {
        struct queue_world w;
        prng_init(&g, s);
        memset(seen, 0, sizeof seen);
        last_offset = 0;
        world_init(&w);
        for (int i = 0; i < rounds; i++) {
            one_round(&w);
        }
        struct queue_sm_stats st;
        queue_sm_stats(w.sm, &st);
        printf("seed %llu: published %llu delivered %llu acked %llu dead %llu stale %llu refused %llu\n", (unsigned long long)s,
               (unsigned long long)st.published, (unsigned long long)st.delivered, (unsigned long long)st.acked,
               (unsigned long long)st.dead_lettered, (unsigned long long)st.stale, (unsigned long long)st.refused_malformed);
        world_fini(&w);
    }
    return 0;
}
