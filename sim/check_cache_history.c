/* Each key's history, linearizable over all nodes (MC2, MC3, MC5, MC12; wgl.h): reads and writes of every kind, the ends of times to live, and with write-back what
 * an owner may have lost.
 *
 * A write whose outcome nobody learned may have been done at any time since, or never; when its value was seen, it was done by then. A time to live may end as early
 * as clocks allow; a node may take a value for expired a little before memory does, so a read may find nothing from then on. */
#include "sim_cache.h"

#include <stdio.h>
#include <stdlib.h>

enum { BUDGET = 300000, MODEL_LAPSE = CSIM_KINDS_END, MODEL_LOSS };
#define ANY UINT64_MAX     /* a result that nobody learned; a time to live of which only memory knows */

/* The value's hash (0: none), its length or number, the earliest end of its time to live (0: none), the newest token, the newest loss (loss_order). */
enum { W_HASH, W_LEN, W_TTL, W_TOKEN, W_LOSS };

static void model_init(struct wgl_state *st)
{
    *st = (struct wgl_state){{0}};
}

static bool put(struct wgl_state *st, const struct wgl_op *op, uint64_t ttl)
{
    st->w[W_HASH] = op->arg[0];
    st->w[W_LEN] = op->arg[1];
    st->w[W_TTL] = ttl;
    return true;
}

static bool gone(struct wgl_state *st)
{
    st->w[W_HASH] = st->w[W_LEN] = st->w[W_TTL] = 0;
    return true;
}

static bool fits(const struct wgl_op *op, uint64_t result)
{
    return op->result == ANY || op->result == result;
}

/* A write with a condition: result 1 when it happens. */
static bool put_if(struct wgl_state *st, const struct wgl_op *op, bool happens)
{
    return fits(op, happens) && (!happens || put(st, op, 0));
}

static bool append(struct wgl_state *st, const struct wgl_op *op)
{
    char text[32];
    int n = snprintf(text, sizeof text, "a%llu.", (unsigned long long)op->arg[0]);
    st->w[W_HASH] = cache_hash(st->w[W_HASH] != 0 ? st->w[W_HASH] : CSIM_HASH_NONE, slice_of(text, (size_t)n));
    st->w[W_LEN] += (uint64_t)n;
    return fits(op, st->w[W_LEN]);
}

static bool increment(struct wgl_state *st, const struct wgl_op *op)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)++st->w[W_LEN]);
    st->w[W_HASH] = cache_hash(CSIM_HASH_NONE, slice_of(text, (size_t)n));
    return fits(op, st->w[W_LEN]);
}

static bool may_be_over(const struct wgl_state *st, const struct wgl_op *op)
{
    return st->w[W_TTL] != 0 && (st->w[W_TTL] == ANY || st->w[W_TTL] <= op->return_at);
}

static bool read_step(const struct wgl_state *st, const struct wgl_op *op)
{
    return op->result == st->w[W_HASH] || (op->result == 0 && may_be_over(st, op));
}

static bool expire(struct wgl_state *st, const struct wgl_op *op)
{
    bool there = st->w[W_HASH] != 0;
    if (op->result == 0) {
        return !there || may_be_over(st, op);
    }
    st->w[W_TTL] = there ? op->arg[2] : 0;
    return there || op->result == ANY;
}

static bool persist(struct wgl_state *st, const struct wgl_op *op)
{
    bool timed = st->w[W_HASH] != 0 && st->w[W_TTL] != 0;
    if (op->result == 0) {
        return !timed || may_be_over(st, op);
    }
    st->w[W_TTL] = 0;
    return timed || op->result == ANY;
}

static bool fence(struct wgl_state *st, const struct wgl_op *op)
{
    bool happens = op->arg[2] >= st->w[W_TOKEN];
    st->w[W_TOKEN] = happens ? op->arg[2] : st->w[W_TOKEN];
    return put_if(st, op, happens);
}

static bool lapse(struct wgl_state *st, const struct wgl_op *op)
{
    bool this_one = st->w[W_HASH] != 0 && (st->w[W_TTL] == op->arg[2] || st->w[W_TTL] == ANY);
    return this_one && gone(st);
}

/* Losses come about in the order in which they began, whenever they are found: who owns the key next was made so after the end of who lost it. */
static uint64_t loss_order(const struct csim_loss *l)
{
    return l->from_us << 16 | (l->number & 0xffff);
}

static bool lose(struct wgl_state *st, const struct wgl_op *op)
{
    uint64_t order = op->result >> 1;
    if (st->w[W_LOSS] >= order) {
        return false; /* what an owner lost does not come back, and is lost once */
    }
    st->w[W_LOSS] = order;
    st->w[W_TOKEN] = op->arg[2];
    return put(st, op, op->result & 1 ? ANY : 0);
}

static bool model_step(struct wgl_state *st, const struct wgl_op *op)
{
    bool there = st->w[W_HASH] != 0;
    switch (op->kind) {
    case CSIM_GET: return read_step(st, op);
    case CSIM_SET: return put(st, op, 0);
    case CSIM_SETPX: return put(st, op, op->arg[2]);
    case CSIM_SETNX: return put_if(st, op, !there);
    case CSIM_SETXX: return put_if(st, op, there);
    case CSIM_SETGET: return fits(op, st->w[W_HASH]) && put(st, op, 0);
    case CSIM_IFEQ: return put_if(st, op, there && st->w[W_HASH] == op->arg[2]);
    case CSIM_DEL: return fits(op, there) && gone(st);
    case CSIM_GETDEL: return fits(op, st->w[W_HASH]) && gone(st);
    case CSIM_DELEX: return fits(op, there && st->w[W_HASH] == op->arg[2]) && (st->w[W_HASH] != op->arg[2] || gone(st));
    case CSIM_APPEND: return append(st, op);
    case CSIM_INCR: return increment(st, op);
    case CSIM_EXPIRE: return expire(st, op);
    case CSIM_PERSIST: return persist(st, op);
    case CSIM_FENCE: return fence(st, op);
    case CSIM_CLEAR: st->w[W_TOKEN] = 0; return gone(st);
    case MODEL_LAPSE: return lapse(st, op);
    case MODEL_LOSS: return lose(st, op);
    default: return false;
    }
}

/* A loss, an overwriting and an end of a time to live can be needed together; increments are alike. */
static const struct wgl_model model = {model_init, model_step, 3};

struct history {
    struct wgl_op *ops;
    uint64_t *events;      /* of the workload, for the message; 0: none */
    size_t n, cap;
};

static void add(struct history *h, struct wgl_op op, uint64_t event)
{
    if (h->n == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 256;
        h->ops = realloc(h->ops, h->cap * sizeof *h->ops);
        h->events = realloc(h->events, h->cap * sizeof *h->events);
        syn_assert(h->ops != NULL && h->events != NULL);
    }
    h->events[h->n] = event;
    h->ops[h->n++] = op;
}

static bool reads_only(uint8_t kind)
{
    return kind == CSIM_GET;
}

/* The value that an event writes, hashed; its length, or the number that it is. */
static void value_of(const struct sim_cache *q, uint64_t event, uint64_t *hash, uint64_t *len)
{
    const struct csim_event *e = &q->events[event];
    struct buf v = {0};
    cache_value(q, event, &v);
    *hash = cache_hash(CSIM_HASH_NONE, buf_slice(&v));
    *len = v.len;
    if (e->key >= CSIM_COUNTER_AT && e->key < CSIM_TIMED_AT) {
        struct reader r = reader_of(buf_slice(&v));
        for (*len = 0; reader_left(&r) > 0;) {
            *len = *len * 10 + (uint64_t)(reader_u8(&r) - '0');
        }
    }
    buf_fini(&v);
}

static uint64_t earliest_end(const struct sim_op *o, uint64_t ms)
{
    return o->call_us + ms * 10 * (100 - TTL_MARGIN_PERCENT) - (ms * 10 * (100 - TTL_MARGIN_PERCENT) > 3000 ? 3000 : 0);
}

static void arguments(const struct sim_cache *q, const struct sim_op *o, uint64_t event, struct wgl_op *w)
{
    const struct csim_event *e = &q->events[event];
    uint64_t len;
    switch (e->kind) {
    case CSIM_APPEND: w->arg[0] = event; break;
    case CSIM_IFEQ:
    case CSIM_DELEX: value_of(q, e->arg, &w->arg[2], &len); break;
    case CSIM_SETPX:
    case CSIM_EXPIRE: w->arg[2] = earliest_end(o, e->arg); break;
    case CSIM_FENCE: w->arg[2] = e->arg; break;
    default: break;
    }
    if (e->kind != CSIM_APPEND && e->kind != CSIM_INCR) {
        value_of(q, event, &w->arg[0], &w->arg[1]);
    }
}

static void add_event(const struct sim *s, struct history *h, uint64_t event)
{
    const struct sim_cache *q = s->cache;
    const struct csim_event *e = &q->events[event];
    const struct sim_op *o = &s->ops[e->op];
    bool done = o->status == OP_OK && e->known, refused = o->status == OP_NOT_DONE || (o->status == OP_OK && !e->known);
    bool undecided = q->asks[o->ask].form == CSIM_FORM_MSETNX && done && e->result == 0; /* another of its keys may have been there */
    if (refused || undecided || (!done && reads_only(e->kind))) {
        return;
    }
    struct wgl_op w = {.kind = e->kind, .call_at = o->call_us, .return_at = o->return_us, .result = e->result};
    if (!done) {
        w.return_at = e->seen_us != UINT64_MAX ? e->seen_us : WGL_NEVER;
        w.result = ANY;
    }
    if (e->kind == CSIM_CLEAR || (e->kind == CSIM_DEL && e->key >= CSIM_TIMED_AT && e->key < CSIM_FENCED_AT)) {
        w.result = ANY; /* what has expired may or may not have been there */
    }
    arguments(q, o, event, &w);
    add(h, w, event);
    if (e->kind == CSIM_SETPX || (e->kind == CSIM_EXPIRE && w.result != 0)) {
        struct wgl_op end = {.kind = MODEL_LAPSE, .call_at = w.arg[2], .return_at = WGL_NEVER, .arg = {0, 0, w.arg[2]}};
        add(h, end, 0);
    }
}

static bool is_known_loss(const struct sim_cache *q, uint64_t at)
{
    const struct csim_loss *l = &q->losses[at];
    for (uint64_t i = at; i > 0; i--) {
        const struct csim_loss *o = &q->losses[i - 1];
        if (o->key == l->key && o->number == l->number && o->hash == l->hash && o->token == l->token && o->timed == l->timed) {
            return true;
        }
    }
    return false;
}

static void add_losses(const struct sim_cache *q, struct history *h, uint32_t key)
{
    for (uint64_t i = 0; i < q->n_losses; i++) {
        const struct csim_loss *l = &q->losses[i];
        if (l->key == key && !is_known_loss(q, i)) {
            struct wgl_op w = {.kind = MODEL_LOSS, .call_at = l->from_us, .return_at = WGL_NEVER, .arg = {l->hash, l->len, l->token},
                               .result = loss_order(l) << 1 | l->timed};
            add(h, w, 0);
        }
    }
}

static void trace_history(struct sim *s, const struct history *h, size_t from)
{
    for (size_t i = from > 12 ? from - 12 : 0; i < h->n && i < from + 12; i++) {
        const struct wgl_op *o = &h->ops[i];
        TRACE(s, "event %llu kind %u from %llu to %lld: %llx %llx %llx gives %llx", (unsigned long long)h->events[i], o->kind, (unsigned long long)o->call_at,
              (long long)o->return_at, (unsigned long long)o->arg[0], (unsigned long long)o->arg[1], (unsigned long long)o->arg[2], (unsigned long long)o->result);
    }
    for (size_t i = 0; i < h->n; i++) {
        if (h->ops[i].kind == MODEL_LOSS) {
            TRACE(s, "loss %llu from %llu: %llx", (unsigned long long)h->ops[i].result >> 1 & 0xffff, (unsigned long long)h->ops[i].call_at, (unsigned long long)h->ops[i].arg[0]);
        }
    }
}

static void check_key(struct sim *s, uint32_t key, struct history *h)
{
    const struct sim_cache *q = s->cache;
    size_t deepest, blocked;
    h->n = 0;
    for (uint64_t i = 1; i < q->n_events; i++) {
        if (q->events[i].key == key) {
            add_event(s, h, i);
        }
    }
    add_losses(q, h, key);
    enum wgl_verdict v = wgl_check(&model, h->ops, h->n, BUDGET, &deepest, &blocked);
    s->r->checked_ops += h->n;
    if (v == WGL_OK) {
        return;
    }
    uint64_t e = h->n > 0 ? h->events[blocked] : 0;
    trace_history(s, h, blocked);
    const struct sim_op *o = &s->ops[q->events[e].op];
    if (v == WGL_UNKNOWN) {
        s->r->undecided++;
        TRACE(s, "unknown: %s (%s), %zu operations, %zu placed, stuck at event %llu", q->keys[key].name, q->back ? "back" : "through", h->n, deepest, (unsigned long long)e);
        return;
    }
    sim_fail(s, "MC3: %s (%s) is not linearizable: %zu of %zu placed, stuck at event %llu (kind %u, client %u, called %llu us, answered %llu us)", q->keys[key].name,
             q->back ? "back" : "through", deepest, h->n, (unsigned long long)e, q->events[e].kind, o->client, (unsigned long long)o->call_us,
             (unsigned long long)o->return_us);
}

void cache_history_check(struct sim *s)
{
    struct history h = {0};
    for (uint32_t k = 0; k < CSIM_KEYS && s->cache->on && !s->failed; k++) {
        if (k < CSIM_SCRATCH_AT || k >= CSIM_CHURN_AT) {
            check_key(s, k, &h);
        }
    }
    free(h.ops);
    free(h.events);
}
