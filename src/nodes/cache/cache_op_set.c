/* SET and all that is one, and DEL: what stands against it, and fencing tokens.
 *
 * O4: of one guard a key takes no write with a token below the newest it has seen; a token counts as seen even when the write's own condition failed. */
#include "nodes/cache/cache_op_internal.h"

#include "communication/resp.h"
#include "utils/limits.h"

/* True: refused, and said so. */
static bool fenced(struct op_run *r)
{
    const struct op *o = r->op;
    bool same = slice_eq(o->guard, r->in->guard);
    if (same && o->token < r->in->token) {
        int n = o->guard.len < LIMIT_ERROR_ECHO_BYTES ? (int)o->guard.len : LIMIT_ERROR_ECHO_BYTES;
        resp_error(r->reply, "FENCED", "token %llu of '%.*s' is old, %llu was seen", (unsigned long long)o->token, n, (const char *)o->guard.ptr,
                   (unsigned long long)r->in->token);
        return true;
    }
    r->out->guarded = !same || o->token > r->in->token;
    r->out->guard = r->out->guarded ? o->guard : SLICE_NONE;
    r->out->token = r->out->guarded ? o->token : 0;
    return false;
}

/* IFEQ is false of what is absent, IFNE true. */
static bool condition_holds(const struct op_run *r)
{
    const struct op *o = r->op;
    bool equal = r->lives && slice_eq(r->value, o->other);
    return !((o->flags & OP_NX && r->lives) || (o->flags & OP_XX && !r->lives) || (o->flags & OP_IFEQ && !equal) || (o->flags & OP_IFNE && equal));
}

static void answer_set(struct op_run *r, bool done)
{
    if (r->op->flags & OP_COUNT) {
        resp_int(r->reply, done);
    } else if (r->op->flags & OP_OLD) {
        run_value(r);
    } else if (done) {
        resp_simple(r->reply, "OK");
    } else {
        resp_null(r->reply);
    }
}

void run_set(struct op_run *r)
{
    const struct op *o = r->op;
    if (o->flags & OP_FENCE && fenced(r)) {
        return;
    }
    bool done = condition_holds(r);
    answer_set(r, done);
    if (!done) {
        return;
    }
    uint64_t expire_ms = o->time == OP_TIME_KEEP ? r->expire_ms : 0;
    if ((o->time == OP_TIME_IN || o->time == OP_TIME_AT) && !run_deadline(r, &expire_ms)) {
        run_delete(r); /* it was over before it began */
        return;
    }
    uint8_t *p = run_put(r, o->value.len, expire_ms);
    memcpy(p, o->value.ptr, o->value.len);
}

void run_del(struct op_run *r)
{
    run_delete(r);
    resp_int(r->reply, r->lives);
}

void run_delex(struct op_run *r)
{
    bool done = r->lives && condition_holds(r);
    if (done) {
        run_delete(r);
    }
    resp_int(r->reply, done);
}

void run_getdel(struct op_run *r)
{
    run_value(r);
    run_delete(r);
}
