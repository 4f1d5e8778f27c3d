/* What has come due: lock TTLs, MAXHOLDs, waits, sessions. The leader proposes, everybody applies; no clock decides (K5).
 *
 * An item names what the leader saw: the lock_id and its count of renewals, the request and its deadline, the session and its count of
 * renewals. What changed since is left alone at apply. A new leader lets every TTL run in full again (lead_ms). */
#include "nodes/locks/lock_internal.h"

void due_set(struct lock_sm *sm, struct due *d, uint64_t at_ms)
{
    wheel_set(&sm->wheel, &d->timer, at_ms);
}

void due_clear(struct lock_sm *sm, struct due *d)
{
    wheel_cancel(&sm->wheel, &d->timer);
}

void lock_sm_lead(struct lock_sm *sm, uint64_t now_log_ms)
{
    sm->lead_ms = now_log_ms;
}

static uint64_t maxhold_at(const struct holder *h)
{
    return h->maxhold_ms ? h->granted_ms + h->maxhold_ms : UINT64_MAX;
}

/* The earliest time this leader may let it end; waits keep their own. */
static uint64_t leader_grace(const struct lock_sm *sm, const struct due *d)
{
    if (d->kind == DUE_HOLDER) {
        const struct holder *h = CONTAINER_OF(d, struct holder, due);
        uint64_t max = maxhold_at(h), ttl = h->ttl_ms ? sm->lead_ms + h->ttl_ms : 0;
        return ttl < max ? ttl : max;
    }
    if (d->kind == DUE_SESSION) {
        return sm->lead_ms + CONTAINER_OF(d, struct session, due)->ttl_ms;
    }
    return 0;
}

static void put_item(struct buf *out, const struct due *d)
{
    buf_put_u8(out, d->kind);
    if (d->kind == DUE_HOLDER) {
        const struct holder *h = CONTAINER_OF(d, struct holder, due);
        buf_put_bytes(out, resource_name(h->resource));
        buf_put_u64(out, h->lock_id);
        buf_put_u32(out, h->renewals);
    } else if (d->kind == DUE_WAITER) {
        const struct waiter *w = CONTAINER_OF(d, struct waiter, due);
        buf_put_u64(out, w->req.origin);
        buf_put_u64(out, w->req.seq);
    } else {
        const struct session *s = CONTAINER_OF(d, struct session, due);
        buf_put_u64(out, s->id);
        buf_put_u32(out, s->renewals);
    }
}

bool lock_sm_due(struct lock_sm *sm, uint64_t now_log_ms, uint32_t max, struct buf *out)
{
    if (now_log_ms > sm->wheel.now_ms) {
        wheel_advance(&sm->wheel, now_log_ms, &sm->due);
    }
    struct buf items = {0};
    uint32_t n = 0;
    list_each_safe(it, &sm->due) {
        struct due *d = CONTAINER_OF(CONTAINER_OF(it, struct timer, link), struct due, timer);
        uint64_t grace = leader_grace(sm, d);
        if (grace > now_log_ms) {
            due_set(sm, d, grace);
        } else if (n++ < max) {
            put_item(&items, d);
        } else {
            break;
        }
    }
    if (n > 0) {
        struct lock_op op = {.kind = LOCK_OP_DUE, .items = buf_slice(&items)};
        lock_op_encode(out, &op);
    }
    buf_fini(&items);
    return n > 0;
}

uint64_t lock_sm_next_due_ms(const struct lock_sm *sm)
{
    return list_empty(&sm->due) ? wheel_next_ms(&sm->wheel) : 0;
}

static void due_holder(struct lock_sm *sm, struct reader *r)
{
    slice_t name = reader_bytes(r);
    uint64_t lock_id = reader_u64(r);
    uint32_t renewals = reader_u32(r);
    struct resource *res = r->ok ? resource_find(sm, name) : NULL;
    struct holder *h = res != NULL ? holder_find(res, lock_id) : NULL;
    bool renewed = h != NULL && h->renewals != renewals && maxhold_at(h) > sm->time_ms && !MUTANT("K5");
    if (h == NULL || h->lock_id != lock_id || renewed) {
        return;
    }
    sm->stats.expirations++;
    waiters_of_holder_gone(sm, h);
    lock_event(sm, LOCK_EV_EXPIRED, res, h->owner, h->lock_id, h->token);
    holder_free(sm, h);
}

/* The first of its places that is not free for it. */
static uint32_t blocked_place(struct waiter *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct place *p = &w->places[i];
        if (p->resource->places.next != &p->in_resource || !lock_compatible(p->resource, w->mode, w->owner)) {
            return i;
        }
    }
    return 0;
}

static void due_waiter(struct lock_sm *sm, struct reader *r)
{
    struct request_id req = {.origin = reader_u64(r), .seq = 0};
    req.seq = reader_u64(r);
    struct waiter *w = r->ok ? waiter_find(sm, req) : NULL;
    if (w != NULL && w->until_ms <= sm->time_ms) {
        sm->stats.timeouts++;
        struct buf text = {0};
        describe_blocked(w->places[blocked_place(w)].resource, w->owner, &text);
        buf_printf(&text, "; not granted within %llu ms, retry or wait longer", (unsigned long long)(w->until_ms - w->began_ms));
        buf_put_u8(&text, 0);
        waiter_refuse(sm, w, "TIMEOUT", (const char *)text.ptr);
        buf_fini(&text);
    }
}

static void due_session(struct lock_sm *sm, struct reader *r)
{
    uint64_t id = reader_u64(r);
    uint32_t renewals = reader_u32(r);
    struct session *s = r->ok ? session_find(sm, id) : NULL;
    if (s != NULL && !s->ended && s->renewals == renewals) {
        sm->stats.expirations++;
        session_end(sm, s);
        session_settle(sm, s);
    }
}

/* All that is over goes first, then what it freed is granted: nothing is granted to what ends in the same entry (K4). */
void lock_op_due(struct lock_sm *sm, slice_t items)
{
    struct reader r = reader_of(items);
    while (r.ok && reader_left(&r) > 0) {
        switch (reader_u8(&r)) {
        case DUE_HOLDER: due_holder(sm, &r); break;
        case DUE_WAITER: due_waiter(sm, &r); break;
        case DUE_SESSION: due_session(sm, &r); break;
        default: r.ok = false; break;
        }
    }
    if (!r.ok) {
        sm->stats.refused_malformed++;
    }
}
