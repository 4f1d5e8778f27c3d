/* Snapshots of the queue state machine without stopping it.
 *
 * A cut is consistent as of snapshot_begin: topics and remembered answers are written then (few, and bounded); partitions follow in
 * slices, each with its positions, and one that changes before its turn is written first, as it was (queue_snap_touch). Records are u8 kind,
 * u32 length, body; kinds 1-3 are those of dedup.h. A partition's positions stand behind it. queue_restore.c reads them.
 *
 * What is written is all there is: the state hash is that of these bytes. */
#include "nodes/queue/queue_snapshot.h"

#include "utils/hash.h"

enum { PARTITIONS_PER_SLICE_MAX = 4096 };

static size_t rec_begin(struct buf *out, enum queue_record_kind kind)
{
    buf_put_u8(out, (uint8_t)kind);
    buf_put_u32(out, 0);
    return out->len;
}

static void rec_end(struct buf *out, size_t start)
{
    syn_assert(out->len - start <= UINT32_MAX);
    le32_put(out->ptr + start - 4, (uint32_t)(out->len - start));
}

static void put_id(struct buf *out, struct stream_id id)
{
    buf_put_u64(out, id.ms);
    buf_put_u64(out, id.seq);
}

static void save_head(const struct queue_sm *sm, struct buf *out)
{
    size_t at = rec_begin(out, QREC_HEAD);
    const uint64_t fields[] = {sm->index, sm->term, sm->time_ms, sm->wall_ms, sm->digest, sm->next_serial};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        buf_put_u64(out, fields[i]);
    }
    uint64_t *counts[QUEUE_COUNTERS];
    queue_counters((struct queue_sm_stats *)&sm->stats, counts);
    for (size_t i = 0; i < QUEUE_COUNTERS; i++) {
        buf_put_u64(out, *counts[i]);
    }
    buf_put_u32(out, (uint32_t)sm->dropped.len);
    for (size_t i = 0; i < sm->dropped.len; i++) {
        const struct dropped *d = vec_at(&sm->dropped, i, sizeof *d);
        buf_put_u64(out, d->topic);
        buf_put_u64(out, d->time_ms);
    }
    rec_end(out, at);
}

/* A topic is written as the OPEN that would make it, without partitions. */
static void save_topic(const struct topic *t, struct buf *out)
{
    size_t at = rec_begin(out, QREC_TOPIC);
    queue_put_open(out, &(struct queue_open){.topic = t->id, .version = t->version, .name = topic_name(t), .config = t->config});
    rec_end(out, at);
}

static void save_marks(const struct partition *p, struct buf *out)
{
    buf_put_u32(out, (uint32_t)p->marks.len);
    for (size_t i = 0; i < p->marks.len; i++) {
        const struct mark *m = vec_at(&p->marks, i, sizeof *m);
        buf_put_u64(out, m->first);
        buf_put_u64(out, m->bytes);
        buf_put_u64(out, m->first_ms);
        buf_put_u64(out, m->last_ms);
    }
}

static void save_offsets(const struct partition *p, struct buf *out)
{
    buf_put_u32(out, (uint32_t)p->keys.len);
    for (size_t i = 0; i < p->keys.len; i++) {
        buf_put_u32(out, *(uint32_t *)vec_at(&p->keys, i, sizeof(uint32_t)));
    }
    buf_put_u32(out, (uint32_t)p->erased.len);
    for (size_t i = 0; i < p->erased.len; i++) {
        buf_put_u64(out, *(uint64_t *)vec_at(&p->erased, i, sizeof(uint64_t)));
    }
    buf_put_u32(out, p->n_delayed);
    for (size_t i = 0; i < p->delayed.len; i++) {
        const struct delayed *d = *(struct delayed **)vec_at(&p->delayed, i, sizeof d);
        if (!d->gone) {
            buf_put_u64(out, d->offset);
            buf_put_u64(out, d->due.timer.at_ms);
        }
    }
}

static void save_partition_head(const struct partition *p, struct buf *out)
{
    size_t at = rec_begin(out, QREC_PARTITION);
    buf_put_u64(out, p->topic->id);
    buf_put_u32(out, p->number);
    const uint64_t fields[] = {p->serial,     p->start,         p->floor,     p->end,     p->deliveries,
                               p->entries_added, p->published, p->expired, p->bytes_total};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        buf_put_u64(out, fields[i]);
    }
    put_id(out, p->last_id);
    put_id(out, p->max_deleted_id);
    buf_put_u64(out, timer_armed(&p->age.timer) ? p->age.timer.at_ms : UINT64_MAX);
    save_marks(p, out);
    save_offsets(p, out);
    ids_save(&p->ids, out);
    buf_put_u32(out, p->n_positions);
    rec_end(out, at);
}

static void save_pend(const struct pend *r, struct buf *out)
{
    buf_put_u8(out, r->state);
    buf_put_u64(out, r->offset);
    put_id(out, r->id);
    buf_put_u32(out, r->deliveries);
    buf_put_u32(out, r->key);
    buf_put_u64(out, r->delivery);
    buf_put_u64(out, r->generation);
    buf_put_u64(out, r->delivered_ms);
    buf_put_u64(out, r->visibility_ms);
    buf_put_u64(out, r->not_before_ms);
    if (r->state == PEND_IN_FLIGHT) {
        buf_put_u64(out, timer_armed(&r->due.timer) ? r->due.timer.at_ms : UINT64_MAX);
    } else if (r->state == PEND_DEAD) {
        buf_put_u64(out, r->note->wall_ms);
        buf_put_bytes(out, slice_of(r->note->reason, r->note->len));
    }
}

static void save_position(const struct position *pos, struct buf *out)
{
    size_t at = rec_begin(out, QREC_POSITION);
    buf_put_bytes(out, position_name(pos));
    const uint64_t fields[] = {pos->serial,      pos->generation, pos->next,          pos->delivered,
                               pos->redelivered, pos->acked,      pos->dead_lettered, pos->redriven};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        buf_put_u64(out, fields[i]);
    }
    put_id(out, pos->last_id);
    buf_put_u32(out, pos->n_consumers);
    list_each(it, (struct list *)&pos->consumers) {
        const struct consumer *c = CONTAINER_OF(it, struct consumer, all);
        buf_put_bytes(out, consumer_name(c));
        buf_put_u8(out, pos->owner == c);
        buf_put_u64(out, c->seen_ms);
        buf_put_u64(out, c->active_ms);
        buf_put_u32(out, c->n_pends);
        list_each(in, (struct list *)&c->pends) {
            save_pend(CONTAINER_OF(in, struct pend, in_consumer), out);
        }
    }
    buf_put_u32(out, pos->n_available + pos->n_waiting + pos->n_dead);
    list_each(it, (struct list *)&pos->pends) {
        const struct pend *r = CONTAINER_OF(it, struct pend, all);
        if (r->state != PEND_IN_FLIGHT) {
            save_pend(r, out);
        }
    }
    rec_end(out, at);
}

static void save_partition(const struct partition *p, struct buf *out)
{
    save_partition_head(p, out);
    list_each(it, (struct list *)&p->positions_all) {
        save_position(CONTAINER_OF(it, struct position, all), out);
    }
}

void queue_snap_touch(struct queue_sm *sm, struct partition *p)
{
    if (sm->snap.active && p->saved != sm->snap.number) {
        p->saved = sm->snap.number;
        sm->snap.count++;
        save_partition(p, &sm->snap.out);
    }
}

void queue_snap_leave(struct queue_sm *sm, struct partition *p)
{
    queue_snap_touch(sm, p);
    if (sm->snap.active && sm->snap.cursor == &p->all) {
        sm->snap.cursor = p->all.next;
    }
}

void queue_sm_snapshot_begin(struct queue_sm *sm)
{
    struct queue_snap *s = &sm->snap;
    syn_assert(!s->active);
    s->active = true;
    s->number++;
    s->count = 0;
    buf_clear(&s->out);
    save_head(sm, &s->out);
    list_each(it, &sm->topics_all) {
        save_topic(CONTAINER_OF(it, struct topic, all), &s->out);
    }
    dedup_save(&sm->dedup, &s->out, 1);
    if (sm->fences.n > 0) {
        size_t at = rec_begin(&s->out, QREC_FENCES);
        queue_fences_save(sm, &s->out);
        rec_end(&s->out, at);
    }
    s->cursor = sm->partitions.next;
}

bool queue_sm_snapshot_step(struct queue_sm *sm, size_t max_bytes, struct buf *out)
{
    struct queue_snap *s = &sm->snap;
    syn_assert(s->active);
    for (int i = 0; i < PARTITIONS_PER_SLICE_MAX && s->out.len < max_bytes && s->cursor != &sm->partitions; i++) {
        struct partition *p = CONTAINER_OF(s->cursor, struct partition, all);
        s->cursor = s->cursor->next;
        queue_snap_touch(sm, p);
    }
    bool done = s->cursor == &sm->partitions;
    if (done) {
        size_t at = rec_begin(&s->out, QREC_END);
        buf_put_u64(&s->out, s->count);
        rec_end(&s->out, at);
        s->active = false;
    }
    if (s->out.len > 0) {
        buf_append_slice(out, buf_slice(&s->out));
    }
    buf_clear(&s->out);
    return done;
}

void queue_sm_snapshot_abort(struct queue_sm *sm)
{
    sm->snap.active = false;
    buf_clear(&sm->snap.out);
}

/* Sums, so that the order in which topics and partitions arrived carries no meaning. */
uint64_t queue_sm_state_hash(const struct queue_sm *sm)
{
    struct buf b = {0};
    save_head(sm, &b);
    uint64_t sum = hash_bytes(1, buf_slice(&b)) + dedup_hash(&sm->dedup);
    list_each(it, (struct list *)&sm->topics_all) {
        buf_clear(&b);
        save_topic(CONTAINER_OF(it, struct topic, all), &b);
        sum += hash_bytes(2, buf_slice(&b));
    }
    list_each(it, (struct list *)&sm->partitions) {
        buf_clear(&b);
        save_partition(CONTAINER_OF(it, struct partition, all), &b);
        sum += hash_bytes(3, buf_slice(&b));
    }
    buf_clear(&b);
    queue_fences_save(sm, &b);
    sum += sm->fences.n > 0 ? hash_bytes(4, buf_slice(&b)) : 0;
    buf_fini(&b);
    return sum;
}
