/* The clients' history, linearizable per resource (wgl.h). Operations whose outcome the client never learned are settled by the
 * canonical log: a lock that it granted was granted, one that it never granted was not. What only the log knows (expiries) enters as
 * operations of its own, with the time at which the first node applied them as their end. */
#include "sim_internal.h"

#include <stdlib.h>

enum { BUDGET = 4000000 };

struct history {
    struct wgl_op *ops;
    uint64_t *numbers; /* of the workload's operation, for the message */
    size_t n, cap;
};

static void add(struct history *h, struct wgl_op op, uint64_t number)
{
    if (h->n == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 256;
        h->ops = realloc(h->ops, h->cap * sizeof *h->ops);
        h->numbers = realloc(h->numbers, h->cap * sizeof *h->numbers);
        syn_assert(h->ops != NULL && h->numbers != NULL);
    }
    h->numbers[h->n] = number;
    h->ops[h->n++] = op;
}

static void add_acquire(struct history *h, const struct sim_op *o, uint64_t number)
{
    struct wgl_op w = {.call_at = o->call_us, .return_at = o->return_us, .arg = {number, o->mode, o->token}};
    if (o->status == OP_OK) {
        w.kind = WLOCK_ACQUIRE;
        add(h, w, number);
    } else if (o->status == OP_REFUSED && o->wait_ms == 0) {
        w.kind = WLOCK_REFUSED;
        add(h, w, number);
    } else if (o->granted) {
        w.kind = WLOCK_ACQUIRE;
        w.arg[2] = o->grant_token;
        w.return_at = o->grant_us;
        add(h, w, number);
    }
    if (o->ended && o->expired) {
        struct wgl_op e = {.kind = WLOCK_END, .call_at = o->grant_us, .return_at = o->end_us, .arg = {number}};
        add(h, e, number);
    }
}

static void add_held(struct history *h, const struct sim_op *o, uint64_t number)
{
    struct wgl_op w = {.call_at = o->call_us, .return_at = o->return_us, .arg = {o->owner}};
    if (o->status == OP_OK) {
        w.kind = o->kind == OP_RELEASE ? WLOCK_RELEASE : WLOCK_RENEW;
    } else if (o->status == OP_STALE) {
        w.kind = WLOCK_STALE;
    } else if (o->kind == OP_RELEASE && o->status != OP_NOT_DONE) {
        w.kind = WLOCK_MAYBE;
        w.return_at = WGL_NEVER;
    } else {
        return;
    }
    add(h, w, number);
}

static void add_check(struct history *h, const struct sim_op *o, uint64_t number)
{
    if (o->status == OP_OK) {
        struct wgl_op w = {.kind = WLOCK_CHECK, .call_at = o->call_us, .return_at = o->return_us,
                           .arg = {0, o->newest == 0, o->token}, .result = o->newest};
        add(h, w, number);
    }
}

static void check_resource(struct sim *s, uint32_t resource, struct history *h)
{
    h->n = 0;
    for (uint64_t i = 1; i < s->n_ops; i++) {
        const struct sim_op *o = &s->ops[i];
        if (o->resource != resource) {
            continue;
        }
        switch (o->kind) {
        case OP_ACQUIRE: add_acquire(h, o, i); break;
        case OP_RELEASE:
        case OP_RENEW: add_held(h, o, i); break;
        case OP_CHECK: add_check(h, o, i); break;
        default: break;
        }
    }
    size_t deepest, blocked;
    enum wgl_verdict v = wgl_check(&wgl_lock, h->ops, h->n, BUDGET, &deepest, &blocked);
    s->r->checked_ops += h->n;
    if (v == WGL_UNKNOWN) {
        s->r->unknown++;
    } else if (v == WGL_VIOLATION) {
        const struct sim_op *o = &s->ops[h->numbers[blocked]];
        sim_fail(s, "history of %s is not linearizable: %zu of %zu placed, stuck at operation %llu (kind %u, client %u, called %llu us)",
                 s->resources[resource].name, deepest, h->n, (unsigned long long)h->numbers[blocked], o->kind, o->client,
                 (unsigned long long)o->call_us);
    }
}

void history_check(struct sim *s)
{
    struct history h = {0};
    for (uint32_t i = 0; i < SIM_RESOURCES && !s->failed; i++) {
        if (s->resources[i].checked) {
            check_resource(s, i, &h);
        }
    }
    free(h.ops);
    free(h.numbers);
}
