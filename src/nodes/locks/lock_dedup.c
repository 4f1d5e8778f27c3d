/* Requests that were answered before: by (origin, sequence) for nodes that ask again after a change of leader, by IDEM id for
 * clients that ask again from anywhere (R15, K10). Both live in the replicated state, by count and by log time.
 *
 * An origin says with each request below which sequence number it has all its answers (low). Their records go, and an entry
 * with such a number that is still in the log (it was proposed twice) does nothing (S47). */
#include "nodes/locks/lock_internal.h"

#include "communication/resp.h"
#include "utils/hash.h"

#include <stdlib.h>

enum { FORGET_PER_APPLY = 8 };

static bool origin_eq(const struct map_node *n, const void *key)
{
    return CONTAINER_OF(n, struct origin, by_id)->id == *(const uint64_t *)key;
}

static bool record_eq(const struct map_node *n, const void *key)
{
    const struct request_id *a = &CONTAINER_OF(n, struct record, by_request)->req, *b = key;
    return a->origin == b->origin && a->seq == b->seq;
}

static slice_t idem_id(const struct idem *i)
{
    return slice_of(i->bytes, i->id_len);
}

static bool idem_eq(const struct map_node *n, const void *key)
{
    return slice_eq(idem_id(CONTAINER_OF(n, struct idem, by_id)), *(const slice_t *)key);
}

static uint64_t request_hash(struct request_id req)
{
    return hash_u64(req.origin ^ hash_u64(req.seq));
}

struct origin *origin_get(struct lock_sm *sm, uint64_t id)
{
    struct map_node *n = map_find(&sm->origins, hash_u64(id), &id, origin_eq);
    if (n != NULL) {
        return CONTAINER_OF(n, struct origin, by_id);
    }
    struct origin *o = calloc(1, sizeof *o);
    syn_assert(o != NULL);
    o->id = id;
    o->active_ms = sm->time_ms;
    list_init(&o->records);
    list_init(&o->waiters);
    list_push_back(&sm->origins_all, &o->all);
    map_insert(&sm->origins, &o->by_id, hash_u64(id));
    return o;
}

static void record_free(struct lock_sm *sm, struct record *r)
{
    map_remove(&sm->records, &r->by_request);
    list_remove(&r->in_origin);
    list_remove(&r->in_age);
    sm->n_records--;
    free(r);
}

static void idem_free(struct lock_sm *sm, struct idem *i)
{
    map_remove(&sm->idems, &i->by_id);
    list_remove(&i->in_age);
    sm->n_idems--;
    free(i);
}

static void origin_free(struct lock_sm *sm, struct origin *o)
{
    syn_assert(list_empty(&o->records) && list_empty(&o->waiters));
    map_remove(&sm->origins, &o->by_id);
    list_remove(&o->all);
    free(o);
}

static void forget_by_age(struct lock_sm *sm)
{
    for (int i = 0; i < FORGET_PER_APPLY && !list_empty(&sm->records_all); i++) {
        struct record *r = CONTAINER_OF(sm->records_all.next, struct record, in_age);
        if (sm->n_records <= sm->opt.dedup_count && sm->time_ms - r->time_ms < sm->opt.dedup_ms) {
            break;
        }
        record_free(sm, r);
    }
    for (int i = 0; i < FORGET_PER_APPLY && !list_empty(&sm->idems_all); i++) {
        struct idem *x = CONTAINER_OF(sm->idems_all.next, struct idem, in_age);
        if (sm->n_idems <= sm->opt.dedup_count && sm->time_ms - x->time_ms < sm->opt.dedup_ms) {
            break;
        }
        idem_free(sm, x);
    }
    if (!list_empty(&sm->origins_all)) {
        struct origin *o = CONTAINER_OF(sm->origins_all.next, struct origin, all);
        if (sm->time_ms - o->active_ms >= sm->opt.dedup_ms) {
            if (list_empty(&o->records) && list_empty(&o->waiters)) {
                origin_free(sm, o);
            } else {
                list_remove(&o->all);
                list_push_back(&sm->origins_all, &o->all);
            }
        }
    }
}

void dedup_advance(struct lock_sm *sm, const struct lock_op *op)
{
    forget_by_age(sm);
    if (op->req.origin == 0) {
        return;
    }
    struct origin *o = origin_get(sm, op->req.origin);
    if (o->active_ms != sm->time_ms) {
        o->active_ms = sm->time_ms;
        list_remove(&o->all);
        list_push_back(&sm->origins_all, &o->all);
    }
    uint64_t low = op->low < op->req.seq ? op->low : op->req.seq;
    o->low = low > o->low ? low : o->low;
    for (int i = 0; i < FORGET_PER_APPLY && !list_empty(&o->records); i++) {
        struct record *r = CONTAINER_OF(o->records.next, struct record, in_origin);
        if (r->req.seq >= o->low) {
            break;
        }
        record_free(sm, r);
    }
}

static void replay(struct lock_sm *sm, struct request_id req, uint8_t code, slice_t reply)
{
    struct lock_out *out = sm->out;
    buf_append_slice(reply_begin(sm), reply);
    struct lock_result *r = &out->results[out->n_results - 1];
    r->req = req;
    r->code = (enum lock_code)code;
    r->reply_len = reply.len;
}

bool dedup_has(struct lock_sm *sm, struct request_id req)
{
    return map_find(&sm->records, request_hash(req), &req, record_eq) != NULL;
}

bool dedup_has_idem(struct lock_sm *sm, slice_t id)
{
    return map_find(&sm->idems, hash_bytes(sm->opt.hash_key, id), &id, idem_eq) != NULL;
}

bool dedup_known(struct lock_sm *sm, const struct lock_op *op)
{
    if (MUTANT("K10")) {
        return false;
    }
    struct map_node *n = map_find(&sm->records, request_hash(op->req), &op->req, record_eq);
    if (n != NULL) {
        struct record *r = CONTAINER_OF(n, struct record, by_request);
        replay(sm, op->req, r->code, slice_of(r->reply, r->len));
        return true;
    }
    if ((waiter_find(sm, op->req) != NULL || op->req.seq < origin_get(sm, op->req.origin)->low) && !MUTANT("S47")) {
        return true;
    }
    if (op->idem.len == 0) {
        return false;
    }
    n = map_find(&sm->idems, hash_bytes(sm->opt.hash_key, op->idem), &op->idem, idem_eq);
    if (n != NULL) {
        struct idem *x = CONTAINER_OF(n, struct idem, by_id);
        replay(sm, op->req, x->code, slice_of(x->bytes + x->id_len, x->reply_len));
        return true;
    }
    struct waiter *w = waiter_find_idem(sm, op->idem);
    if (w == NULL || MUTANT("S47")) {
        return false;
    }
    waiter_take_over(sm, w, op->req);
    return true;
}

void dedup_withdraw(struct lock_sm *sm, struct request_id req)
{
    struct buf b = {0};
    bool late = req.origin == 0 || req.seq < origin_get(sm, req.origin)->low;
    if (!late && !dedup_has(sm, req)) {
        resp_error(&b, "UNBLOCKED", "the request was withdrawn before it was granted");
        dedup_restore_record(sm, req, sm->time_ms, LOCK_ERROR, buf_slice(&b));
        buf_fini(&b);
    }
}

void dedup_restore_record(struct lock_sm *sm, struct request_id req, uint64_t time_ms, uint8_t code, slice_t reply)
{
    struct record *r = malloc(sizeof *r + reply.len);
    syn_assert(r != NULL);
    *r = (struct record){.req = req, .time_ms = time_ms, .code = code, .len = (uint32_t)reply.len};
    memcpy(r->reply, reply.ptr, reply.len);
    map_insert(&sm->records, &r->by_request, request_hash(req));
    list_push_back(&origin_get(sm, req.origin)->records, &r->in_origin);
    list_push_back(&sm->records_all, &r->in_age);
    sm->n_records++;
}

void dedup_restore_idem(struct lock_sm *sm, slice_t id, uint64_t time_ms, uint8_t code, slice_t reply)
{
    struct idem *x = malloc(sizeof *x + id.len + reply.len);
    syn_assert(x != NULL);
    *x = (struct idem){.time_ms = time_ms, .code = code, .id_len = (uint16_t)id.len, .reply_len = (uint32_t)reply.len};
    memcpy(x->bytes, id.ptr, id.len);
    memcpy(x->bytes + id.len, reply.ptr, reply.len);
    map_insert(&sm->idems, &x->by_id, hash_bytes(sm->opt.hash_key, id));
    list_push_back(&sm->idems_all, &x->in_age);
    sm->n_idems++;
}

void dedup_record(struct lock_sm *sm, struct request_id req, slice_t idem, enum lock_code code, slice_t reply)
{
    if (req.origin != 0) {
        dedup_restore_record(sm, req, sm->time_ms, (uint8_t)code, reply);
    }
    if (idem.len > 0 && !dedup_has_idem(sm, idem)) {
        dedup_restore_idem(sm, idem, sm->time_ms, (uint8_t)code, reply);
    }
}

/* Its records stay for their time: an origin that was only cut off asks again and must not be served twice. */
void lock_op_origin_gone(struct lock_sm *sm, const struct lock_op *op)
{
    uint64_t id = op->target.origin;
    struct map_node *n = map_find(&sm->origins, hash_u64(id), &id, origin_eq);
    if (n != NULL && id != op->req.origin) {
        struct origin *o = CONTAINER_OF(n, struct origin, by_id);
        while (!list_empty(&o->waiters)) {
            waiter_free(sm, CONTAINER_OF(o->waiters.next, struct waiter, in_origin));
        }
    }
    resp_simple(reply_begin(sm), "OK");
    reply_end(sm, op->req, op->idem, LOCK_DONE);
}

void dedup_fini(struct lock_sm *sm)
{
    while (!list_empty(&sm->records_all)) {
        record_free(sm, CONTAINER_OF(sm->records_all.next, struct record, in_age));
    }
    while (!list_empty(&sm->idems_all)) {
        idem_free(sm, CONTAINER_OF(sm->idems_all.next, struct idem, in_age));
    }
    list_each_safe(it, &sm->origins_all) {
        struct origin *o = CONTAINER_OF(it, struct origin, all);
        map_remove(&sm->origins, &o->by_id);
        free(o);
    }
    map_fini(&sm->origins);
    map_fini(&sm->records);
    map_fini(&sm->idems);
}
