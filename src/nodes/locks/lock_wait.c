/* Waiters: places in queues, granting in order, leaving.
 *
 * Invariants: K6 a waiter is granted only when it is first in every queue it stands in, but for what its owner holds already. K7
 * whenever a holder or a first place goes, its queue is looked at again before the apply ends. K11 a waiter that left is never
 * granted, and its request is never queued again. ACQUIREALL takes all in one step and nothing before it. */
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

void waiter_list(struct lock_sm *sm, struct waiter *w)
{
    map_insert(&sm->waiters, &w->by_request, request_hash(w->req));
    if (w->idem != NULL) {
        map_insert(&sm->waiting_idems, &w->by_idem, hash_bytes(sm->opt.hash_key, waiter_idem(w)));
    }
    list_push_back(&sm->waiters_all, &w->all);
    list_push_back(&dedup_origin(&sm->dedup, w->req.origin, sm->time_ms)->waiters, &w->in_origin);
    struct owner_waits *ow = owner_waits_get(w->owner);
    list_push_back(&ow->list, &w->in_owner);
    ow->n++;
    list_init(&w->in_session);
    if (w->session != NULL) {
        list_push_back(&w->session->waiters, &w->in_session);
    }
}

static void waiter_unlist(struct lock_sm *sm, struct waiter *w)
{
    map_remove(&sm->waiters, &w->by_request);
    if (w->idem != NULL) {
        map_remove(&sm->waiting_idems, &w->by_idem);
    }
    list_remove(&w->all);
    list_remove(&w->in_origin);
    list_remove(&w->in_owner);
    list_remove(&w->in_session);
    w->owner->waits->n--;
    owner_waits_rest(w->owner);
}

static bool idem_eq(const struct map_node *n, const void *key)
{
    return slice_eq(waiter_idem(CONTAINER_OF(n, struct waiter, by_idem)), *(const slice_t *)key);
}

struct waiter *waiter_find_idem(struct lock_sm *sm, slice_t idem)
{
    struct map_node *n = map_find(&sm->waiting_idems, hash_bytes(sm->opt.hash_key, idem), &idem, idem_eq);
    return n != NULL ? CONTAINER_OF(n, struct waiter, by_idem) : NULL;
}

/* The client asks again, perhaps through another node: the new request has the old one's places, the old one is answered. */
void waiter_take_over(struct lock_sm *sm, struct waiter *w, struct request_id req)
{
    struct request_id old = w->req;
    waiter_unlist(sm, w);
    w->req = req;
    w->serial = sm->next_serial++;
    waiter_list(sm, w);
    for (uint32_t i = 0; i < w->n; i++) {
        snap_touch(sm, w->places[i].resource);
    }
    reply_error(sm, old, SLICE_NONE, "UNBLOCKED", "the same IDEM id was asked again and waits in this request's place");
}

/* Behind those that stand ahead already, before everybody else. */
static void place_ahead(struct resource *r, struct place *p)
{
    struct list *at = r->places.next;
    while (at != &r->places && CONTAINER_OF(at, struct place, in_resource)->ahead) {
        at = at->next;
    }
    list_push_back(at, &p->in_resource);
}

static void waiter_enter(struct lock_sm *sm, struct waiter *w, struct resource **rs)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct place *p = &w->places[i];
        *p = (struct place){.waiter = w, .resource = rs[i], .ahead = holder_of(rs[i], w->owner) != NULL};
        snap_touch(sm, rs[i]);
        if (p->ahead) {
            place_ahead(rs[i], p);
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
        .meta = lock_bytes_new(op->meta),
        .idem = lock_bytes_new(op->idem),
        .serial = sm->next_serial++,
        .n = op->n,
    };
    w->due.kind = DUE_WAITER;
    timer_init(&w->due.timer);
    waiter_list(sm, w);
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
    waiter_unlist(sm, w);
    owner_rest(sm, w->owner);
    free(w->meta);
    free(w->idem);
    free(w);
}

void waiter_refuse(struct lock_sm *sm, struct waiter *w, const char *word, const char *text)
{
    resp_error(reply_begin(sm), word, "%s", text);
    reply_end(sm, w->req, waiter_idem(w), LOCK_ERROR);
    waiter_free(sm, w);
}

/* K8: true when w is on a cycle; it is the one that is refused. */
static bool refuse_cycle(struct lock_sm *sm, struct waiter *w, bool newest)
{
    struct buf cycle = {0};
    bool upgrade_blind = MUTANT("S48") && w->converts != NULL;
    bool found = !upgrade_blind && graph_cycle(sm, w, newest, &cycle);
    if (found) {
        sm->stats.deadlocks++;
        buf_put_u8(&cycle, 0);
        waiter_refuse(sm, w, "DEADLOCK", (const char *)cycle.ptr);
    }
    buf_fini(&cycle);
    return found;
}

void lock_wait(struct lock_sm *sm, const struct lock_op *op, struct owner *o, struct session *s, struct resource **rs,
               struct holder *converts)
{
    struct waiter *w = waiter_new(sm, op, o, s, converts);
    waiter_enter(sm, w, rs);
    if (!refuse_cycle(sm, w, true) && w->until_ms != UINT64_MAX) {
        due_set(sm, &w->due, w->until_ms);
    }
}

/* Where it would stand had its owner not held the resource on arrival. */
static void place_in_turn(struct resource *r, struct place *p)
{
    p->ahead = false;
    list_remove(&p->in_resource);
    struct list *at = &r->places;
    while (at->prev != &r->places) {
        const struct place *before = CONTAINER_OF(at->prev, struct place, in_resource);
        if (before->ahead || before->waiter->serial < p->waiter->serial) {
            break;
        }
        at = at->prev;
    }
    list_push_back(at, &p->in_resource);
}

/* A lock is freed while its owner waits to upgrade it: nothing is left to upgrade. An ACQUIREALL loses its place ahead. */
void waiters_of_holder_gone(struct lock_sm *sm, struct holder *h)
{
    struct owner_waits *ow = h->owner->waits;
    if (ow == NULL) {
        return;
    }
    ow->n++; /* it stays while we look */
    list_each_safe(it, &ow->list) {
        struct waiter *w = CONTAINER_OF(it, struct waiter, in_owner);
        if (w->converts == h) {
            waiter_refuse(sm, w, "STALE", "the lock was freed while its upgrade waited: acquire it anew");
            continue;
        }
        for (uint32_t i = 0; i < w->n; i++) {
            struct place *p = &w->places[i];
            if (p->resource == h->resource && p->ahead) {
                snap_touch(sm, p->resource);
                place_in_turn(p->resource, p);
                recheck_mark(sm, h->owner);
            }
        }
    }
    ow->n--;
    owner_waits_rest(h->owner);
}

void regrant_mark(struct lock_sm *sm, struct resource *r)
{
    if (!r->regrant) {
        r->regrant = true;
        r->next_regrant = sm->regrants;
        sm->regrants = r;
    }
}

void recheck_mark(struct lock_sm *sm, struct owner *o)
{
    if (o->waits != NULL && !o->waits->recheck) {
        o->waits->recheck = true;
        o->waits->next_recheck = sm->rechecks;
        sm->rechecks = o;
    }
}

bool waiter_grantable(struct waiter *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct place *p = &w->places[i];
        struct holder *own = holder_of(p->resource, w->owner);
        if (own != NULL && own->mode >= w->mode) {
            continue;
        }
        if (p->resource->places.next != &p->in_resource || !lock_compatible(p->resource, w->mode, w->owner)) {
            return false;
        }
    }
    return true;
}

static void waiter_grant(struct lock_sm *sm, struct waiter *w)
{
    struct holder *granted[LIMIT_ACQUIREALL_NAMES];
    syn_assert(w->session == NULL || !w->session->ended || MUTANT("S43")); /* K4 */
    if (w->converts != NULL) {
        granted[0] = w->converts;
        if (w->converts->mode != LOCK_EXCLUSIVE) {
            lock_upgrade(sm, w->converts);
        }
    }
    for (uint32_t i = 0; i < w->n && w->converts == NULL; i++) {
        struct lock_grant g = {.resource = w->places[i].resource, .owner = w->owner, .session = w->session, .mode = w->mode,
                               .ttl_ms = w->ttl_ms, .maxhold_ms = w->maxhold_ms,
                               .meta = w->meta ? slice_of(w->meta->bytes, w->meta->len) : SLICE_NONE};
        granted[i] = lock_grant(sm, &g);
    }
    reply_grants(sm, w->req, waiter_idem(w), granted, w->n, sm->time_ms - w->began_ms);
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

/* The first of its requests that may go on or must not wait any longer; false: none. */
static bool recheck_one(struct lock_sm *sm, struct owner *o)
{
    list_each(it, &o->waits->list) {
        struct waiter *w = CONTAINER_OF(it, struct waiter, in_owner);
        if (waiter_grantable(w)) {
            waiter_grant(sm, w);
            return true;
        }
        if (refuse_cycle(sm, w, false)) {
            return true;
        }
    }
    return false;
}

static void recheck(struct lock_sm *sm, struct owner *o)
{
    while (recheck_one(sm, o)) {
    }
    o->waits->recheck = false;
    owner_waits_rest(o);
    owner_rest(sm, o);
}

/* Granting one waiter may open another queue it stood in, or let its owner's other requests in: until nothing is marked. Marks
 * are stacks, so the order is the same on every replica. */
void regrant_all(struct lock_sm *sm)
{
    while (sm->regrants != NULL || sm->rechecks != NULL) {
        if (sm->regrants != NULL) {
            struct resource *r = sm->regrants;
            sm->regrants = r->next_regrant;
            r->next_regrant = NULL;
            regrant(sm, r);
            r->regrant = false;
            resource_rest(sm, r);
        } else {
            struct owner *o = sm->rechecks;
            sm->rechecks = o->waits->next_recheck;
            o->waits->next_recheck = NULL;
            recheck(sm, o);
        }
    }
}

/* S48, planted: the request leaves its queues, its edges stay. */
static void ghost(struct waiter *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        list_remove(&w->places[i].in_resource);
        w->places[i].resource->n_places--;
    }
}

/* A request that was not seen yet may still be in the log behind this entry: it is withdrawn all the same (K11, S47). */
void lock_op_cancel(struct lock_sm *sm, const struct lock_op *op)
{
    struct waiter *w = MUTANT("K11") ? NULL : waiter_find(sm, op->target);
    resp_int(reply_begin(sm), w != NULL);
    reply_end(sm, op->req, op->idem, LOCK_DONE);
    if (w != NULL && MUTANT("S48-phantom")) {
        ghost(w);
        return;
    }
    if (w != NULL) {
        waiter_free(sm, w);
    }
    if (!MUTANT("K11")) {
        lock_withdraw(sm, op->target);
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
