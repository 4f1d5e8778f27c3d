/* What clients do: locks on a few hot names and tagged ones, held, renewed, released or not; reads; sessions; pipelines.
 *
 * Each lock guards a thing that checks fencing tokens (K3): its reader registers its token, a writer with an older token than the
 * newest seen is refused, and no accepted write may overwrite what its writer has not read. */
#include "sim_cache.h"
#include "sim_queue.h"

enum { THINK_US_MEAN = 60000, GIVE_UP_US = 9000000, RES_CHECKED = 6, RES_ALL = 6, RES_CONV = 9, RES_AGAIN = 11 };

static void wait_for(struct sim *s, struct sim_client *c, uint64_t op)
{
    c->op = op;
    c->state = CLIENT_WAITS;
    c->tries = 0;
    uint64_t us = s->ops[op].wait_ms * 1000ull + GIVE_UP_US;
    client_wake(s, c, us);
    op_send(s, c, op);
    if (chance(s, FAULT_CLIENT_DIES)) {
        fire(s, FAULT_CLIENT_DIES);
        client_wake(s, c, draw_exp(&s->prng, 30000)); /* WAITS at its deadline: it closes and forgets */
    }
}

static void idle(struct sim *s, struct sim_client *c)
{
    c->state = CLIENT_IDLE;
    c->op = 0;
    client_wake(s, c, draw_exp(&c->prng, THINK_US_MEAN));
}

static uint64_t new_acquire(struct sim *s, struct sim_client *c, uint32_t resource)
{
    uint64_t op = op_new(s, c, OP_ACQUIRE, resource);
    struct sim_op *o = &s->ops[op];
    o->mode = prng_chance(&c->prng, 700000) ? 2 : 1;
    o->ttl_ms = (uint32_t)prng_range(&c->prng, 200, 3000);
    o->wait_ms = prng_chance(&c->prng, 500000) ? (uint32_t)prng_range(&c->prng, 50, 4000) : 0;
    o->owner = op;
    o->untracked = !s->resources[resource].checked;
    return op;
}

static void start_acquire(struct sim *s, struct sim_client *c)
{
    uint64_t r = prng_below(&c->prng, 100);
    uint32_t resource = r < 75 ? (uint32_t)prng_below(&c->prng, RES_CHECKED) : r < 85 ? RES_ALL : r < 95 ? RES_CONV + (uint32_t)(r & 1) : RES_AGAIN;
    uint64_t op = new_acquire(s, c, resource);
    struct sim_op *o = &s->ops[op];
    if (resource == RES_ALL) {
        o->kind = OP_ACQUIREALL;
    } else if (resource >= RES_CONV && resource < RES_AGAIN) {
        o->mode = 1;
    }
    if (c->session != 0 && prng_chance(&c->prng, 400000)) {
        o->session = c->session;
    } else if (prng_chance(&c->prng, 50000)) {
        o->session = UINT64_MAX; /* CONNECTION */
        o->untracked = true;
    }
    wait_for(s, c, op);
}

static uint64_t some_token(struct sim *s, struct sim_client *c, uint32_t resource)
{
    uint64_t newest = s->resources[resource].fence;
    return prng_chance(&c->prng, 500000) ? newest : newest / 2;
}

static void start_read(struct sim *s, struct sim_client *c)
{
    uint32_t resource = (uint32_t)prng_below(&c->prng, RES_CHECKED);
    uint64_t op = op_new(s, c, prng_chance(&c->prng, 700000) ? OP_CHECK : OP_INFO, resource);
    s->ops[op].token = some_token(s, c, resource);
    wait_for(s, c, op);
}

static void start_session(struct sim *s, struct sim_client *c)
{
    uint64_t op;
    if (c->session == 0) {
        op = op_new(s, c, OP_SESSION_CREATE, 0);
        s->ops[op].ttl_ms = (uint32_t)prng_range(&c->prng, 500, 5000);
    } else {
        op = op_new(s, c, prng_chance(&c->prng, 700000) ? OP_SESSION_KEEPALIVE : OP_SESSION_END, 0);
        s->ops[op].session = c->session;
    }
    wait_for(s, c, op);
}

static void flood(struct sim *s, struct sim_client *c)
{
    fire(s, FAULT_CLIENT_FLOOD);
    for (uint32_t i = 0; i < 48 && c->expect_count < SIM_EXPECT_MAX - 8; i++) {
        uint32_t resource = (uint32_t)prng_below(&c->prng, RES_CHECKED);
        uint64_t op = op_new(s, c, i % 3 == 0 ? OP_CHECK : OP_PING, resource);
        s->ops[op].token = some_token(s, c, resource);
        op_send(s, c, op);
    }
}

void workload_next(struct sim *s, struct sim_client *c)
{
    if (c->conn >= 0 && prng_chance(&c->prng, 20000)) {
        client_close(s, c);
    }
    if (c->conn < 0 && !client_connect(s, c, (uint32_t)prng_below(&c->prng, s->n_nodes))) {
        idle(s, c);
        return;
    }
    if (c->resp3 && !c->told_proto) {
        c->told_proto = true;
        op_send(s, c, op_new(s, c, OP_HELLO, 0));
    }
    if (c->expect_count > SIM_EXPECT_MAX / 2) {
        idle(s, c);
        return;
    }
    if (chance(s, FAULT_CLIENT_FLOOD)) {
        flood(s, c);
    }
    uint64_t r = prng_below(&c->prng, 100);
    if (r < 70) {
        start_acquire(s, c);
    } else if (r < 90) {
        start_read(s, c);
    } else {
        start_session(s, c);
    }
}

/* The guarded thing: reading registers the token. */
static void guarded_read(struct sim *s, struct sim_client *c, const struct sim_op *o)
{
    struct sim_resource *r = &s->resources[o->resource];
    c->will_write = o->mode == 2 && r->checked && o->token >= r->fence;
    if (c->will_write) {
        r->fence = o->token;
        c->value = r->value;
    }
}

static void guarded_write(struct sim *s, struct sim_client *c, const struct sim_op *o)
{
    struct sim_resource *r = &s->resources[o->resource];
    if (!c->will_write || o->token < r->fence) {
        return; /* fenced */
    }
    if (r->value != c->value) {
        sim_fail(s, "K3: a write to %s with token %llu loses an update that it has not read", r->name, (unsigned long long)o->token);
    }
    r->fence = o->token;
    r->value++;
    c->value = r->value;
}

void workload_granted(struct sim *s, struct sim_client *c, uint64_t op)
{
    struct sim_op *o = &s->ops[op];
    c->hold = op;
    c->state = CLIENT_HOLDS;
    c->renews = prng_chance(&c->prng, 150000) ? (uint32_t)prng_range(&c->prng, 1, 3) : 0;
    guarded_read(s, c, o);
    uint64_t us = draw_exp(&c->prng, 80000);
    if (chance(s, FAULT_CLIENT_PAUSE)) {
        fire(s, FAULT_CLIENT_PAUSE);
        us = o->ttl_ms * 1200ull + draw_exp(&c->prng, 1000000);
        c->renews = 0;
    }
    client_wake(s, c, us);
}

static bool hold_more(struct sim *s, struct sim_client *c, const struct sim_op *o)
{
    enum op_kind kind = o->resource >= RES_CONV && o->resource < RES_AGAIN ? OP_CONVERT : OP_RENEW;
    if (c->renews == 0 || s->healed || o->session != 0 || o->kind == OP_ACQUIREALL) {
        return false;
    }
    c->renews--;
    uint8_t mode = o->mode == 2 ? 1 : 2;
    uint32_t ttl = o->ttl_ms, resource = o->resource;
    uint64_t lock_id = o->lock_id, hold = c->hold;
    uint64_t op = op_new(s, c, kind, resource);
    struct sim_op *x = &s->ops[op];
    x->lock_id = lock_id;
    x->owner = hold;
    x->ttl_ms = ttl;
    x->mode = mode;
    wait_for(s, c, op);
    return true;
}

void workload_hold(struct sim *s, struct sim_client *c)
{
    const struct sim_op *o = &s->ops[c->hold];
    guarded_write(s, c, o);
    if (c->conn < 0) {
        client_connect(s, c, (uint32_t)prng_below(&c->prng, s->n_nodes));
    }
    if (s->failed || c->conn < 0 || c->expect_count > SIM_EXPECT_MAX / 2 || prng_chance(&c->prng, 80000)) {
        c->hold = 0; /* it never releases: the TTL does */
        idle(s, c);
        return;
    }
    if (hold_more(s, c, o)) {
        return;
    }
    uint32_t first = o->resource, last = o->kind == OP_ACQUIREALL ? first + 2 : first;
    uint64_t hold = c->hold, lock_id = o->lock_id, op = 0;
    c->hold = 0;
    for (uint32_t i = first; i <= last; i++) {
        op = op_new(s, c, OP_RELEASE, i);
        s->ops[op].lock_id = lock_id;
        s->ops[op].owner = hold;
        if (i < last) {
            op_send(s, c, op);
        }
    }
    wait_for(s, c, op);
}

void client_answered(struct sim *s, struct sim_client *c, uint64_t op)
{
    struct sim_op *o = &s->ops[op];
    if (c->queue) {
        queue_client_answered(s, c, op);
        return;
    }
    if (c->cache) {
        cache_client_answered(s, c, op);
        return;
    }
    if (op != c->op || c->state != CLIENT_WAITS) {
        return; /* one of a pipeline */
    }
    if (o->kind == OP_SESSION_CREATE && o->status == OP_OK) {
        c->session = o->session;
    } else if (o->kind == OP_SESSION_END || o->status == OP_NOT_DONE) {
        c->session = 0;
    }
    bool acquire = o->kind == OP_ACQUIRE || o->kind == OP_ACQUIREALL;
    if (acquire && o->status == OP_OK) {
        c->op = 0;
        workload_granted(s, c, op);
    } else if (acquire && o->status == OP_UNKNOWN) {
        client_forget(s, c);
    } else if (c->hold != 0 && (o->kind == OP_RENEW || o->kind == OP_CONVERT) && o->status == OP_OK) {
        c->op = 0;
        c->state = CLIENT_HOLDS;
        client_wake(s, c, draw_exp(&c->prng, 60000));
    } else {
        c->hold = 0;
        idle(s, c);
    }
}
