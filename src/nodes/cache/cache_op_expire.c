/* What ops do with expiries. Every time inside is of the item's clock (now_ms); Unix times are moved by what the two clocks of the run differ. */
#include "nodes/cache/cache_op_internal.h"

#include "communication/resp.h"
#include "utils/assert.h"

static int64_t clamp(__int128 v)
{
    return v > INT64_MAX ? INT64_MAX : v < INT64_MIN ? INT64_MIN : (int64_t)v;
}

static int64_t deadline(const struct op_run *r)
{
    const struct op *o = r->op;
    syn_assert(o->time == OP_TIME_IN || o->time == OP_TIME_AT);
    __int128 from = o->time == OP_TIME_IN ? (__int128)r->clock.now_ms : (__int128)r->clock.now_ms - r->clock.wall_ms;
    return clamp(from + o->time_ms);
}

static bool is_over(const struct op_run *r, int64_t at)
{
    return at <= 0 || (uint64_t)at <= r->clock.now_ms;
}

bool run_deadline(const struct op_run *r, uint64_t *expire_ms)
{
    int64_t at = deadline(r);
    *expire_ms = is_over(r, at) ? 0 : (uint64_t)at;
    return *expire_ms != 0;
}

void run_ttl(struct op_run *r)
{
    if (!r->lives || r->expire_ms == 0) {
        resp_int(r->reply, r->lives ? -1 : -2);
        return;
    }
    __int128 ms = (__int128)r->expire_ms - r->clock.now_ms + (r->op->flags & OP_UNIX ? r->clock.wall_ms : 0);
    resp_int(r->reply, clamp(r->op->flags & OP_SECONDS ? (ms + 500) / 1000 : ms));
}

/* Without an expiry it lives for ever: longer than any. */
static bool allowed(const struct op_run *r, int64_t at)
{
    uint32_t flags = r->op->flags;
    bool has = r->expire_ms != 0, later = has && at > 0 && (uint64_t)at > r->expire_ms, sooner = !has || at < 0 || (uint64_t)at < r->expire_ms;
    return !((flags & OP_NX && has) || (flags & OP_XX && !has) || (flags & OP_GT && !later) || (flags & OP_LT && !sooner));
}

void run_expire(struct op_run *r)
{
    const struct op *o = r->op;
    int64_t at = o->flags & OP_ADD ? clamp((__int128)r->expire_ms + o->time_ms) : deadline(r);
    bool refused = (o->flags & OP_IFEQ && !slice_eq(r->value, o->other)) || (o->flags & OP_ADD && r->expire_ms == 0);
    if (!r->lives || refused || !allowed(r, at)) {
        resp_int(r->reply, 0);
        return;
    }
    r->out->kind = is_over(r, at) ? CACHE_DELETE : CACHE_EXPIRE;
    r->out->expire_ms = is_over(r, at) ? 0 : (uint64_t)at;
    resp_int(r->reply, 1);
}

void run_persist(struct op_run *r)
{
    bool has = r->expire_ms != 0;
    r->out->kind = has ? CACHE_EXPIRE : CACHE_KEEP;
    resp_int(r->reply, has);
}

void run_getex(struct op_run *r)
{
    run_value(r);
    if (!r->lives) {
        return;
    }
    if (r->op->time == OP_TIME_PERSIST) {
        r->out->kind = r->expire_ms != 0 ? CACHE_EXPIRE : CACHE_KEEP;
        return;
    }
    r->out->kind = run_deadline(r, &r->out->expire_ms) ? CACHE_EXPIRE : CACHE_DELETE;
}
