/* Waiters: places in queues, granting in order, leaving.
 *
 * Invariants: K6 a waiter is granted only when it is first in every queue it stands in. K7 whenever a holder or a first place goes,
 * its queue is looked at again before the apply ends. K11 a waiter that left is never granted. A waiter holds nothing while it
 * waits (ACQUIREALL takes all in one step), so places alone never deadlock: all queues have them in the order of arrival. */
#include "nodes/locks/lock_internal.h"

#include "communication/resp.h"
#include "utils/hash.h"

#include <stdlib.h>

static bool waiter_eq(const struct map_node *n, const void *key)
{
    const struct request_id *a = &CONTAINER_OF(n, struct waiter, by_request)->req, *b = key;
    return a->origin == b->origin && a->seq == b->seq;
}

static uint64_t request_hash(struct request_id req)
{
    return hash_u64(req.origin ^ hash_u64(req.seq));
}

struct waiter *waiter_find(struct lock_sm *sm, struct request_id req)
{
    struct map_node *n = map_find(&sm->waiters, request_hash(req), &req, waiter_eq);
    return n != NULL ? CONTAINER_OF(n, struct waiter, by_request) : NULL;
}

void waiter_index(struct lock_sm *sm, struct waiter *w)
{
    map_insert(&sm->waiters, &w->by_request, request_hash(w->req));
    list_push_back(&origin_get(sm, w->req.origin)->waiters, &w->in_origin);
}

/* Behind the converters that wait already, ahead of everybody else. */
static void place_converter(struct resource *r, struct place *p)
{
    struct list *at = r->places.next;
    while (at != &r->places && CONTAINER_OF(at, struct place, in_resource)->waiter->converts != NULL) {
        at = at->next;
    }
    list_push_back(at, &p->in_resource);
}

static void waiter_enter(struct lock_sm *sm, struct waiter *w, struct resource **rs)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct place *p = &w->places[i];
        *p = (struct place){.waiter = w, .resource = rs[i]};
        snap_touch(sm, rs[i]);
        if (w->converts != NULL) {
            place_converter(rs[i], p);
        } else {
            list_push_back(&rs[i]->places, &p->in_resource);
        }
        if (rs[i]->n_places++ == 0 && rs[i]->n_holders > 0) {
            const struct holder *h = CONTAINER_OF(rs[i]->holders.next, struct holder, in_resource);
            lock_event(sm, LOCK_EV_CONTENDED, rs[i], h->owner, h->lock_id, h->token);
        }
    }
}

static struct waiter *waiter_new(struct lock_sm *sm, const struct lock_op *op, struct owner *o, struct session *s, struct holder *converts)
{
    struct waiter *w = malloc(sizeof *w + op->n * sizeof w->places[0]);
    syn_assert(w != NULL);
    *w = (struct waiter){
        .owner = o,
        .session = s,
        .converts = converts,
        .req = op->req,
        .began_ms = sm->time_ms,
        .until_ms = op->wait_ms == LOCK_WAIT_FOREVER ? UINT64_MAX : sm->time_ms + op->wait_ms,
        .ttl_ms = (uint32_t)op->ttl_ms,
        .maxhold_ms = (uint32_t)op->maxhold_ms,
        .mode = (uint8_t)op->mode,
        .all = op->n > 1,
        .meta = lock_bytes_new(op->meta),
        .idem = lock_bytes_new(op->idem),
        .serial = sm->next_serial++,
        .n = op->n,
    };
    w->due.kind = DUE_WAITER;
    timer_init(&w->due.timer);
    list_init(&w->in_session);
    list_push_back(&o->waits, &w->in_owner);
    o->n_waits++;
    if (s != NULL) {
        list_push_back(&s->waiters, &w->in_session);
    }
    waiter_index(sm, w);
    return w;
}

void waiter_free(struct lock_sm *sm, struct waiter *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct place *p = &w->places[i];
        snap_touch(sm, p->resource);
        list_remove(&p->in_resource);
        p->resource->n_places--;
        if (!MUTANT("K7")) {
            regrant_mark(sm, p->resource);
        }
    }
    due_clear(sm, &w->due);
    list_remove(&w->in_session);
    list_remove(&w->in_origin);
    list_remove(&w->in_owner);
    w->owner->n_waits--;
    owner_rest(sm, w->owner);
    map_remove(&sm->waiters, &w->by_request);
    free(w->meta);
    free(w->idem);
    free(w);
}

static slice_t waiter_idem(const struct waiter *w)
{
    return w->idem ? slice_of(w->idem->bytes, w->idem->len) : SLICE_NONE;
}

void waiter_refuse(struct lock_sm *sm, struct waiter *w, const char *word, const char *text)
{
    resp_error(reply_begin(sm), word, "%s", text);
    reply_end(sm, w->req, waiter_idem(w), LOCK_ERROR);
    waiter_free(sm, w);
}

void lock_wait(struct lock_sm *sm, const struct lock_op *op, struct owner *o, struct session *s, struct resource **rs,
               struct holder *converts)
{
    struct waiter *w = waiter_new(sm, op, o, s, converts);
    waiter_enter(sm, w, rs);
    struct buf cycle = {0};
    bool upgrade_blind = MUTANT("S48") && converts != NULL;
    if (!upgrade_blind && graph_cycle(sm, w, &cycle)) {
        sm->stats.deadlocks++;
        buf_put_u8(&cycle, 0);
        waiter_refuse(sm, w, "DEADLOCK", (const char *)cycle.ptr);
    } else if (w->until_ms != UINT64_MAX) {
        due_set(sm, &w->due, w->until_ms);
    }
    buf_fini(&cycle);
}

/* A lock is freed while its owner waits to upgrade it: there is nothing left to upgrade. */
void waiters_of_holder_gone(struct lock_sm *sm, struct holder *h)
{
    list_each_safe(it, &h->owner->waits) {
        struct waiter *w = CONTAINER_OF(it, struct waiter, in_owner);
        if (w->converts == h) {
            waiter_refuse(sm, w, "STALE", "the lock was freed while its upgrade waited");
        }
    }
}

void regrant_mark(struct lock_sm *sm, struct resource *r)
{
    if (!r->regrant) {
        r->regrant = true;
        r->next_regrant = sm->regrants;
        sm->regrants = r;
    }
}

static bool waiter_grantable(struct waiter *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct place *p = &w->places[i];
        if (p->resource->places.next != &p->in_resource) {
            return false;
        }
        if (w->converts != NULL ? p->resource->n_holders != 1 : !lock_compatible(p->resource, w->mode, w->owner)) {
            return false;
        }
    }
    return true;
}

static void waiter_grant(struct lock_sm *sm, struct waiter *w)
{
    uint64_t waited = sm->time_ms - w->began_ms;
    struct buf *b = reply_begin(sm);
    if (w->all) {
        resp_array(b, w->n);
    }
    if (w->converts != NULL) {
        lock_upgrade(sm, w->converts);
        reply_grant(sm, b, w->converts, waited);
    }
    for (uint32_t i = 0; i < w->n && w->converts == NULL; i++) {
        struct lock_grant g = {.resource = w->places[i].resource, .owner = w->owner, .session = w->session, .mode = w->mode,
                               .ttl_ms = w->ttl_ms, .maxhold_ms = w->maxhold_ms,
                               .meta = w->meta ? slice_of(w->meta->bytes, w->meta->len) : SLICE_NONE};
        reply_grant(sm, b, lock_grant(sm, &g), waited);
    }
    reply_end(sm, w->req, waiter_idem(w), LOCK_DONE);
    waiter_free(sm, w);
}

static void regrant(struct lock_sm *sm, struct resource *r)
{
    while (!list_empty(&r->places)) {
        struct waiter *w = CONTAINER_OF(r->places.next, struct place, in_resource)->waiter;
        if (!waiter_grantable(w)) {
            return;
        }
        waiter_grant(sm, w);
    }
}

/* Granting one waiter may open another queue it stood in: until nothing is marked. Marks are a stack, so the order is the same on
 * every replica. */
void regrant_all(struct lock_sm *sm)
{
    while (sm->regrants != NULL) {
        struct resource *r = sm->regrants;
        sm->regrants = r->next_regrant;
        r->next_regrant = NULL;
        regrant(sm, r);
        r->regrant = false;
        resource_rest(sm, r);
    }
}

void lock_op_cancel(struct lock_sm *sm, const struct lock_op *op)
{
    struct waiter *w = MUTANT("K11") ? NULL : waiter_find(sm, op->target);
    resp_int(reply_begin(sm), w != NULL);
    reply_end(sm, op->req, op->idem, LOCK_DONE);
    if (w != NULL) {
        waiter_free(sm, w);
    }
}

void lock_op_victim(struct lock_sm *sm, const struct lock_op *op)
{
    struct waiter *w = waiter_find(sm, op->target);
    if (w != NULL) {
        char text[1100];
        size_t n = op->reason.len < sizeof text - 1 ? op->reason.len : sizeof text - 1;
        memcpy(text, op->reason.ptr, n);
        text[n] = '\0';
        sm->stats.deadlocks++;
        waiter_refuse(sm, w, "DEADLOCK", text);
    }
    resp_int(reply_begin(sm), w != NULL);
    reply_end(sm, op->req, op->idem, LOCK_DONE);
}
