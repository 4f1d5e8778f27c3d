/* Lock operations that were asked before: what is answered again, and what still waits (R15, K10). The table is nodes/dedup.h's. */
#include "nodes/locks/lock_internal.h"

#include "communication/resp.h"

static void replay(struct lock_sm *sm, struct request_id req, uint8_t code, slice_t reply)
{
    struct lock_out *out = sm->out;
    buf_append_slice(reply_begin(sm), reply);
    struct lock_result *r = &out->results[out->n_results - 1];
    r->req = req;
    r->code = (enum lock_code)code;
    r->reply_len = reply.len;
}

bool lock_known(struct lock_sm *sm, const struct lock_op *op)
{
    if (MUTANT("K10")) {
        return false;
    }
    const struct record *r = dedup_find(&sm->dedup, op->req);
    if (r != NULL) {
        replay(sm, op->req, r->code, slice_of(r->reply, r->len));
        return true;
    }
    if ((waiter_find(sm, op->req) != NULL || dedup_too_old(&sm->dedup, op->req)) && !MUTANT("S47")) {
        return true;
    }
    if (op->idem.len == 0) {
        return false;
    }
    const struct idem *x = dedup_find_idem(&sm->dedup, op->idem);
    if (x != NULL) {
        replay(sm, op->req, x->code, idem_reply(x));
        return true;
    }
    struct waiter *w = waiter_find_idem(sm, op->idem);
    if (w == NULL || MUTANT("S47")) {
        return false;
    }
    waiter_take_over(sm, w, op->req);
    return true;
}

void lock_withdraw(struct lock_sm *sm, struct request_id req)
{
    struct buf b = {0};
    bool late = req.origin == 0 || dedup_too_old(&sm->dedup, req);
    if (!late && dedup_find(&sm->dedup, req) == NULL) {
        resp_error(&b, "UNBLOCKED", "the request was withdrawn before it was granted");
        dedup_add(&sm->dedup, req, sm->time_ms, LOCK_ERROR, buf_slice(&b));
        buf_fini(&b);
    }
}

void lock_remember(struct lock_sm *sm, struct request_id req, slice_t idem, enum lock_code code, slice_t reply)
{
    if (req.origin != 0) {
        dedup_add(&sm->dedup, req, sm->time_ms, (uint8_t)code, reply);
    }
    if (idem.len > 0 && dedup_find_idem(&sm->dedup, idem) == NULL) {
        dedup_add_idem(&sm->dedup, idem, sm->time_ms, (uint8_t)code, reply);
    }
}

/* Its records stay for their time: an origin that was only cut off asks again and must not be served twice. */
void lock_op_origin_gone(struct lock_sm *sm, const struct lock_op *op)
{
    struct origin *o = dedup_origin_find(&sm->dedup, op->target.origin);
    if (o != NULL && op->target.origin != op->req.origin) {
        while (!list_empty(&o->waiters)) {
            waiter_free(sm, CONTAINER_OF(o->waiters.next, struct waiter, in_origin));
        }
    }
    resp_simple(reply_begin(sm), "OK");
    reply_end(sm, op->req, op->idem, LOCK_DONE);
}
