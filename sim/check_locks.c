/* What the lock service promises, over the canonical order of each group (K1, K2, K3, K5, K6, K10, K11; docs/locks.md).
 *
 * Every acquire of the workload has an owner of its own, "o<number>" with the number of its operation, unless it asks for re-entrance;
 * so a grant names the operation that it belongs to. What the log grants and ends is recorded in that operation, for the history check. */
#include "sim_internal.h"

#include "nodes/locks/lock_sm.h"
#include "utils/hash.h"
#include "utils/limits.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const RESOURCE_NAMES[SIM_RESOURCES] = {
    "r0", "r1", "{a}x", "{b}y", "{c}z", "{d}w", /* checked */
    "{all}1", "{all}2", "{all}3",                /* ACQUIREALL */
    "{conv}1", "{conv}2",                        /* CONVERT */
    "again",                                     /* re-entrance: owners are shared */
};

void resources_init(struct sim *s)
{
    for (uint32_t i = 0; i < SIM_RESOURCES; i++) {
        struct sim_resource *r = &s->resources[i];
        *r = (struct sim_resource){.checked = i < 6};
        snprintf(r->name, sizeof r->name, "%s", RESOURCE_NAMES[i]);
    }
}

static struct sim_resource *resource_named(struct sim *s, slice_t name)
{
    for (uint32_t i = 0; i < SIM_RESOURCES; i++) {
        if (slice_eq(slice_str(s->resources[i].name), name)) {
            return &s->resources[i];
        }
    }
    return NULL;
}

/* The operation an owner stands for, or NULL ("a<n>" owners are shared on purpose, others are not the workload's). */
static struct sim_op *op_of_owner(struct sim *s, slice_t owner)
{
    uint64_t v = 0;
    if (owner.len < 2 || owner.ptr[0] != 'o') {
        return NULL;
    }
    for (size_t i = 1; i < owner.len; i++) {
        v = v * 10 + (uint64_t)(owner.ptr[i] - '0');
    }
    return v < s->n_ops ? &s->ops[v] : NULL;
}

/* An acquire enters the canonical log: it is granted by this entry, refused, or queued at this index. */
void lock_check_entry(struct sim *s, uint32_t group, uint64_t index, slice_t payload)
{
    (void)group;
    struct reader r = reader_of(payload);
    slice_t names[LIMIT_ACQUIREALL_NAMES];
    struct lock_op op;
    reader_u64(&r);
    if (reader_u8(&r) != 1 || !r.ok || !lock_op_decode(slice_of(r.p, reader_left(&r)), &op, names, LIMIT_ACQUIREALL_NAMES)) {
        return;
    }
    if (op.kind != LOCK_OP_ACQUIRE) {
        return;
    }
    struct sim_op *o = op_of_owner(s, op.owner);
    if (o != NULL && !o->granted) {
        if (o->enqueued++ == 0) {
            o->enqueue_index = index;
        }
    }
}

static void holder_remove(struct sim_resource *r, uint64_t op)
{
    for (uint32_t i = 0; i < r->n_holders; i++) {
        if (r->holders[i] == op) {
            r->holders[i] = r->holders[--r->n_holders];
            return;
        }
    }
}

/* K1: alone, or among readers only. */
static void check_exclusive(struct sim *s, const struct sim_resource *r, const struct sim_op *o)
{
    for (uint32_t i = 0; i < r->n_holders; i++) {
        const struct sim_op *h = &s->ops[r->holders[i]];
        if (h->mode == 2 || o->mode == 2) {
            sim_fail(s, "K1: %s granted to o%llu (mode %u) while o%llu holds it (mode %u)", r->name, (unsigned long long)(o - s->ops),
                     o->mode, (unsigned long long)r->holders[i], h->mode);
            return;
        }
    }
}

/* K6: those who queued are granted in the order in which they queued. */
static void check_order(struct sim *s, struct sim_resource *r, const struct sim_op *o, uint64_t index)
{
    if (o->enqueued != 1 || o->enqueue_index == index || o->kind != OP_ACQUIRE) {
        return;
    }
    if (o->enqueue_index < r->last_grant_enqueue) {
        sim_fail(s, "K6: %s granted to o%llu, queued at %llu, after somebody who queued at %llu", r->name,
                 (unsigned long long)(o - s->ops), (unsigned long long)o->enqueue_index, (unsigned long long)r->last_grant_enqueue);
    }
    r->last_grant_enqueue = o->enqueue_index;
}

static void on_granted(struct sim *s, struct sim_resource *r, struct sim_op *o, uint64_t index, uint64_t token)
{
    uint64_t number = (uint64_t)(o - s->ops);
    if (o->granted && o->kind == OP_ACQUIRE) {
        sim_fail(s, "K10: o%llu was granted %s twice, at %llu and %llu", (unsigned long long)number, r->name,
                 (unsigned long long)o->grant_index, (unsigned long long)index);
        return;
    }
    if (o->status == OP_NOT_DONE && !o->retried) {
        sim_fail(s, "K11: %s granted to o%llu, which was told that it will not have it", r->name, (unsigned long long)number);
        return;
    }
    check_exclusive(s, r, o);
    check_order(s, r, o, index);
    o->granted = true;
    o->grant_index = index;
    o->grant_token = token;
    o->grant_us = s->now_us;
    s->r->grants++;
    if (r->n_holders < sizeof r->holders / sizeof r->holders[0]) {
        r->holders[r->n_holders++] = number;
    }
}

static void on_converted(struct sim *s, struct sim_resource *r, struct sim_op *o)
{
    uint64_t number = (uint64_t)(o - s->ops);
    o->mode = o->mode == 2 ? 1 : 2;
    holder_remove(r, number);
    check_exclusive(s, r, o);
    r->holders[r->n_holders++] = number;
}

/* K5: no lock ends by time before its TTL has passed since the last renewal that its client knows of, by any clock's rate. */
static void on_ended(struct sim *s, struct sim_resource *r, struct sim_op *o, int kind)
{
    o->ended = true;
    o->expired = kind != LOCK_EV_RELEASED;
    o->end_us = s->now_us;
    holder_remove(r, (uint64_t)(o - s->ops));
    if (kind == LOCK_EV_EXPIRED && s->now_us < o->safe_until_us) {
        sim_fail(s, "K5: o%llu lost %s by expiry %llu ms too early", (unsigned long long)(o - s->ops), r->name,
                 (unsigned long long)(o->safe_until_us - s->now_us) / 1000);
    }
}

/* K2: a resource's tokens grow; readers granted by one entry share one. */
static void check_token(struct sim *s, struct sim_resource *r, uint64_t index, uint64_t token)
{
    if (token < r->token || (token == r->token && index != r->token_index)) {
        sim_fail(s, "K2: %s granted with token %llu after %llu", r->name, (unsigned long long)token, (unsigned long long)r->token);
    }
    r->token = token;
    r->token_index = index;
}

void lock_check_event(void *arg, uint32_t group, uint64_t index, int kind, slice_t resource, uint64_t token, slice_t owner)
{
    struct sim_node *n = arg;
    struct sim *s = n->sim;
    struct sim_resource *r = resource_named(s, resource);
    if (!n->new_entry || r == NULL || kind == LOCK_EV_CONTENDED) {
        return;
    }
    r->group = group;
    struct sim_op *o = op_of_owner(s, owner);
    TRACE(s, "group %u index %llu: %s event %d token %llu owner %.*s", group, (unsigned long long)index, r->name, kind,
          (unsigned long long)token, (int)owner.len, (const char *)owner.ptr);
    if (kind == LOCK_EV_GRANTED) {
        check_token(s, r, index, token);
    }
    if (o == NULL) {
        return;
    }
    switch (kind) {
    case LOCK_EV_GRANTED: on_granted(s, r, o, index, token); break;
    case LOCK_EV_CONVERTED: on_converted(s, r, o); break;
    case LOCK_EV_RELEASED:
    case LOCK_EV_EXPIRED:
    case LOCK_EV_FORCED: on_ended(s, r, o, kind); break;
    default: break;
    }
}

/* What a client was told is what the log says (R6 towards clients: nothing is told before it is committed). */
void lock_check_granted(struct sim *s, struct sim_op *op)
{
    if (!op->granted) {
        sim_fail(s, "R6: o%llu was told that it holds a lock which no applied entry grants", (unsigned long long)(op - s->ops));
    } else if (op->kind == OP_ACQUIRE && op->token != op->grant_token && !op->converted) {
        sim_fail(s, "K10: o%llu was told token %llu, the log granted %llu", (unsigned long long)(op - s->ops),
                 (unsigned long long)op->token, (unsigned long long)op->grant_token);
    }
}
