/* How a delivery ends: ACK, NACK, EXTEND, the visibility deadline, RELEASE; and REDRIVE, which begins a dead message anew.
 *
 * Invariants: Q6 only the newest delivery of a message, under the position's generation, can settle it (S51, S53); Q7 what is not acknowledged
 * comes back, counted unless SILENT or released; Q8 a message is dead exactly when its deliveries reached the limit or it was refused for good.
 *
 * Deadlines that pass in one entry are done in the order of (time, topic, partition, kind, position, offset), whatever order they were set in:
 * a restored replica does the same. */
#include "nodes/queue/queue_internal.h"

static uint64_t backoff_ms(const struct pend *r)
{
    const struct topic_config *c = &r->pos->part->topic->config;
    uint64_t ms = c->backoff_ms;
    for (uint32_t i = 1; i < r->deliveries && ms > 0 && ms < c->backoff_ms_max; i++) {
        ms *= 2;
    }
    return ms < c->backoff_ms_max ? ms : c->backoff_ms_max;
}

static void fail(struct queue_sm *sm, struct pend *r, uint64_t delay_ms, slice_t reason)
{
    if (pend_exhausted(r)) {
        pend_die(sm, r, reason);
    } else {
        uint64_t delay = delay_ms == SETTLE_DELAY_DEFAULT ? backoff_ms(r) : delay_ms;
        pend_return(sm, r, delay > 0 ? add_sat(sm->time_ms, delay) : 0);
    }
}

static void nack(struct queue_sm *sm, struct pend *r, const struct settle_item *it)
{
    sm->stats.nacked++;
    slice_t reason = it->reason.len > 0 ? it->reason : SLICE_LIT("nack");
    if (it->mode == NACK_FATAL) {
        pend_die(sm, r, reason);
    } else if (it->mode == NACK_FAIL) {
        fail(sm, r, it->delay_ms, reason);
    } else {
        bool at_once = it->delay_ms == SETTLE_DELAY_DEFAULT || it->delay_ms == 0;
        r->deliveries -= r->deliveries > 0;
        pend_return(sm, r, at_once ? 0 : add_sat(sm->time_ms, it->delay_ms));
    }
}

static void extend(struct queue_sm *sm, struct pend *r, uint64_t delay_ms)
{
    uint64_t ms = delay_ms == SETTLE_DELAY_DEFAULT ? r->visibility_ms : delay_ms;
    if (ms > 0 || delay_ms != SETTLE_DELAY_DEFAULT) {
        wheel_set(&sm->wheel, &r->due.timer, add_sat(sm->time_ms, ms));
    }
}

/* XACK: by the id alone. Pends of what was trimmed are at the front, and the index of ids does not have them. */
static struct pend *find_by_id(const struct position *pos, struct stream_id id)
{
    const struct partition *p = pos->part;
    uint64_t offset = ids_find(&p->ids, id, p->end), first = 0;
    struct pend *r = offset < p->end ? pend_find(pos, offset) : NULL;
    ids_covered(&p->ids, &first);
    if (r == NULL && (offset <= first || offset >= p->end)) {
        list_each(it, (struct list *)&pos->pends) {
            r = CONTAINER_OF(it, struct pend, all);
            if (stream_id_cmp(r->id, id) >= 0) {
                break;
            }
        }
    }
    return r != NULL && stream_id_cmp(r->id, id) == 0 ? r : NULL;
}

/* The pend that the item names, if it may settle it. */
static struct pend *find_delivery(const struct position *pos, const struct settle_item *it)
{
    if (it->by_id) {
        struct pend *r = find_by_id(pos, it->id);
        bool open = r != NULL && r->state != PEND_DEAD && r->delivery > 0;
        return open && (it->kind == SETTLE_ACK || r->state == PEND_IN_FLIGHT) ? r : NULL;
    }
    struct pend *r = pend_find(pos, it->receipt.offset);
    if (r == NULL || r->state == PEND_DEAD || (r->state != PEND_IN_FLIGHT && !MUTANT("S53"))) {
        return NULL;
    }
    bool zombie = it->receipt.generation != pos->generation && !MUTANT("S51");
    bool former = (it->receipt.delivery != r->delivery || it->receipt.generation != r->generation) && !MUTANT("S53");
    return zombie || former ? NULL : r;
}

static enum settle_status settle_one(struct queue_sm *sm, const struct topic *t, slice_t group, const struct settle_item *it)
{
    struct partition *p = topic_part(t, it->receipt.partition);
    struct position *pos = p != NULL ? position_find(sm, p, group) : NULL;
    if (pos == NULL) {
        return p == NULL ? SETTLE_STALE : SETTLE_NO_GROUP;
    }
    struct pend *r = find_delivery(pos, it);
    if (r == NULL || (it->kind != SETTLE_ACK && r->state != PEND_IN_FLIGHT)) {
        sm->stats.stale++;
        return SETTLE_STALE;
    }
    queue_snap_touch(sm, p);
    if (it->kind == SETTLE_ACK) {
        pos->acked++;
        sm->stats.acked++;
        if (MUTANT("Q6")) {
            pend_return(sm, r, 0);
        } else {
            pend_done(sm, r);
        }
    } else if (it->kind == SETTLE_NACK) {
        nack(sm, r, it);
    } else {
        extend(sm, r, it->delay_ms);
    }
    return SETTLE_OK;
}

void queue_op_settle(struct queue_sm *sm, struct reader *r)
{
    struct queue_settle s;
    struct settle_item it;
    bool ok = queue_get_settle(r, &s);
    struct reader items = reader_of(ok ? s.items : SLICE_NONE), again = items;
    for (uint32_t i = 0; ok && i < s.n; i++) {
        ok = queue_get_settle_item(&items, &it);
    }
    if (!ok || !reader_done(&items)) {
        sm->stats.refused_malformed++;
        return;
    }
    const struct topic *t = topic_find(sm, s.topic);
    if (t == NULL) {
        queue_reply(sm, QUEUE_NO_TOPIC);
        return;
    }
    struct buf *out = queue_reply(sm, QUEUE_DONE);
    buf_put_u32(out, s.n);
    for (uint32_t i = 0; i < s.n; i++) {
        queue_get_settle_item(&again, &it);
        bool skip = MUTANT("S52") && i + 1 < s.n;
        buf_put_u8(out, skip ? SETTLE_OK : (uint8_t)settle_one(sm, t, s.group, &it));
    }
}

void consumer_release(struct queue_sm *sm, struct position *pos, struct consumer *c)
{
    c->held = true;
    while (!list_empty(&c->pends)) {
        struct pend *r = CONTAINER_OF(c->pends.next, struct pend, in_consumer);
        r->deliveries -= r->deliveries > 0;
        pend_return(sm, r, 0);
    }
    c->held = false;
    pos->owner = pos->owner == c ? NULL : pos->owner;
    consumer_rest(pos, c);
}

void queue_op_release(struct queue_sm *sm, struct reader *r)
{
    struct queue_release o;
    if (!queue_get_release(r, &o)) {
        sm->stats.refused_malformed++;
        return;
    }
    struct topic *t = topic_find(sm, o.topic);
    for (uint32_t i = 0; t != NULL && i < t->n_parts; i++) {
        struct position *pos = position_find(sm, t->parts[i], o.group);
        struct consumer *c = pos != NULL ? consumer_find(sm, pos, o.consumer) : NULL;
        if (c != NULL) {
            queue_snap_touch(sm, t->parts[i]);
            consumer_release(sm, pos, c);
        }
    }
    queue_reply(sm, t != NULL ? QUEUE_DONE : QUEUE_NO_TOPIC);
}

static void redrive_one(struct queue_sm *sm, struct pend *r)
{
    pend_leave(sm, r);
    r->deliveries = 0;
    r->not_before_ms = 0;
    r->pos->redriven++;
    sm->stats.redriven++;
    if (pend_take_key(sm, r, r->key)) {
        pend_ready(sm, r);
    }
}

void queue_op_redrive(struct queue_sm *sm, struct reader *r)
{
    struct queue_redrive o;
    if (!queue_get_redrive(r, &o)) {
        sm->stats.refused_malformed++;
        return;
    }
    struct topic *t = topic_find(sm, o.topic);
    uint64_t n = 0;
    bool known = false;
    for (uint32_t i = 0; t != NULL && i < t->n_parts; i++) {
        struct position *pos = position_find(sm, t->parts[i], o.group);
        known = known || pos != NULL;
        struct pend *dead = NULL;
        while (pos != NULL && n < o.count && (dead = tree_from(pos->dead, 0)) != NULL) {
            queue_snap_touch(sm, t->parts[i]);
            redrive_one(sm, dead);
            n++;
        }
    }
    if (known) {
        queue_reply_u64(sm, QUEUE_DONE, n);
    } else {
        queue_reply(sm, t != NULL ? QUEUE_NO_GROUP : QUEUE_NO_TOPIC);
    }
}

static struct partition *due_part(const struct queue_due *d)
{
    switch (d->kind) {
    case QDUE_PEND: return CONTAINER_OF(d, struct pend, due)->pos->part;
    case QDUE_DELAYED: return CONTAINER_OF(d, struct delayed, due)->part;
    default: return CONTAINER_OF(d, struct partition, age);
    }
}

static int cmp_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int cmp_due(const void *x, const void *y)
{
    const struct queue_due *a = *(struct queue_due *const *)x, *b = *(struct queue_due *const *)y;
    const struct partition *p = due_part(a), *q = due_part(b);
    int c = cmp_u64(a->timer.at_ms, b->timer.at_ms);
    c = c ? c : cmp_u64(p->topic->id, q->topic->id);
    c = c ? c : cmp_u64(p->number, q->number);
    c = c ? c : (int)a->kind - (int)b->kind;
    if (c == 0 && a->kind == QDUE_PEND) {
        const struct pend *r = CONTAINER_OF(a, struct pend, due), *s = CONTAINER_OF(b, struct pend, due);
        c = cmp_u64(r->pos->serial, s->pos->serial);
        return c ? c : cmp_u64(r->offset, s->offset);
    }
    if (c == 0 && a->kind == QDUE_DELAYED) {
        return cmp_u64(CONTAINER_OF(a, struct delayed, due)->offset, CONTAINER_OF(b, struct delayed, due)->offset);
    }
    return c;
}

static void due_one(struct queue_sm *sm, struct queue_due *d)
{
    struct partition *p = due_part(d);
    if (d->kind == QDUE_AGE) {
        part_dirty(sm, p);
    } else if (d->kind == QDUE_DELAYED) {
        part_delayed_gone(sm, CONTAINER_OF(d, struct delayed, due));
        queue_emit_woken(sm, p);
    } else {
        struct pend *r = CONTAINER_OF(d, struct pend, due);
        if (r->state == PEND_IN_FLIGHT) {
            fail(sm, r, SETTLE_DELAY_DEFAULT, SLICE_LIT("visibility timeout"));
        } else {
            pend_leave(sm, r);
            pend_ready(sm, r);
        }
    }
}

/* Nothing that is done here frees or cancels what is due after it: a key that becomes free readies a BLOCKED pend, which has no timer. */
void queue_due_all(struct queue_sm *sm)
{
    struct list due;
    uint32_t n = 0;
    list_init(&due);
    wheel_advance(&sm->wheel, sm->time_ms, &due);
    while (!list_empty(&due)) {
        struct timer *t = CONTAINER_OF(due.next, struct timer, link);
        queue_snap_touch(sm, due_part(CONTAINER_OF(t, struct queue_due, timer))); /* while it is armed: it was, at the cut */
        list_remove(&t->link);
        if (n == sm->cap_due) {
            sm->cap_due = sm->cap_due ? sm->cap_due * 2 : 64;
            sm->due = realloc(sm->due, sm->cap_due * sizeof(struct queue_due *));
            syn_assert(sm->due != NULL);
        }
        sm->due[n++] = CONTAINER_OF(t, struct queue_due, timer);
    }
    if (n > 1) {
        qsort(sm->due, n, sizeof(struct queue_due *), cmp_due);
    }
    for (uint32_t i = 0; i < n; i++) {
        due_one(sm, sm->due[i]);
    }
}
