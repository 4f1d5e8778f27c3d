/* What clients of the cache do: a few keys that everybody wants, in many ways and often several times at once; counters, keys that expire, keys of one tag;
 * many keys that pass through, so that lines are evicted. After the heal each client reads the contended keys at every node.
 *
 * Whether a seed has a cache, and all that is drawn here, comes from generators of its own: a seed without is the run it always was. */
#include "sim_cache.h"
#include "sim_queue.h"

#include <stdio.h>
#include <stdlib.h>

enum { THINK_US_MEAN = 40000, GIVE_UP_US = 9000000, PIPELINE_MAX = 8, TTL_MS_MIN = 50, TTL_MS_MAX = 3000, TOKENS = 40, LEFT_BEHIND_US = 20000000 };

static void draw_options(struct sim *s, struct sim_cache *q)
{
    static const uint32_t entries[] = {3, 8, 8, 16, 64}, leases[] = {300, 500, 1000, 1000, 2000}, flushes[] = {50, 100, 300, 1000};
    struct prng *g = &q->prng;
    q->back = prng_chance(g, 500000);
    q->entries = entries[prng_below(g, 5)];
    q->contended = (uint32_t)prng_range(g, 1, CSIM_REGISTERS);
    q->lease_ms = leases[prng_below(g, 5)];
    q->flush_ms = flushes[prng_below(g, 4)];
    q->directory_keys = prng_chance(g, 500000) ? prng_range(g, 4, 30) * s->n_groups : 0;
}

static void name_keys(struct sim_cache *q)
{
    static const char *const NAMES[CSIM_CHURN_AT] = {"k0", "k1", "{a}k2", "{a}k3", "c0", "c1", "t0", "t1", "f0", "{m}0", "{m}1", "{s}0", "{s}1"};
    for (uint32_t k = 0; k < CSIM_KEYS; k++) {
        struct csim_key *key = &q->keys[k];
        if (k < CSIM_CHURN_AT) {
            snprintf(key->name, sizeof key->name, "%s", NAMES[k]);
        } else {
            snprintf(key->name, sizeof key->name, "x%u", k - CSIM_CHURN_AT);
        }
    }
}

void cache_sim_open(struct sim *s)
{
    struct sim_cache *q = calloc(1, sizeof *q);
    syn_assert(q != NULL);
    s->cache = q;
    prng_init(&q->prng, s->o.seed ^ 0x5bd1e995c3a5c85cull);
    uint32_t work = s->o.work;
    q->alone = work == SIM_WORK_CACHE;
    q->on = q->alone || work == SIM_WORK_ALL;
    draw_options(s, q);
    name_keys(q);
    q->cap_asks = q->cap_events = 256;
    q->asks = calloc(q->cap_asks, sizeof *q->asks);
    q->events = calloc(q->cap_events, sizeof *q->events);
    syn_assert(q->asks != NULL && q->events != NULL);
    q->n_asks = q->n_events = 1;
}

void cache_sim_close(struct sim *s)
{
    free(s->cache->asks);
    free(s->cache->events);
    free(s->cache->losses);
    free(s->cache->memory);
    free(s->cache);
    s->cache = NULL;
}

/* Beside locks or queues every third client is the cache's. */
bool cache_client(const struct sim *s, uint32_t index)
{
    return s->cache->on && (s->cache->alone || index % 3 == 1);
}

void cache_options(struct sim *s, struct node_options *o)
{
    const struct sim_cache *q = s->cache;
    o->cache_entries = q->on ? q->entries : 64;
    o->cache_lease_ms = q->on ? q->lease_ms : 1000;
    o->cache_flush_ms = q->on ? q->flush_ms : 300;
    o->cache_back = q->on && q->back;
    o->cache_s3fifo = q->on && s->o.seed % 2 == 0;
    o->cache_directory_keys = q->on ? q->directory_keys : 0;
}

struct csim_ask *cache_ask_of(struct sim *s, const struct sim_op *o)
{
    return &s->cache->asks[o->ask];
}

static uint64_t ask_new(struct sim *s, struct sim_client *c, enum csim_form form, uint32_t key)
{
    struct sim_cache *q = s->cache;
    if (q->n_asks == q->cap_asks) {
        q->cap_asks *= 2;
        q->asks = realloc(q->asks, q->cap_asks * sizeof *q->asks);
        syn_assert(q->asks != NULL);
    }
    q->asks[q->n_asks] = (struct csim_ask){.form = (uint8_t)form, .key = key, .first = q->n_events};
    uint64_t op = op_new(s, c, OP_CACHE, 0);
    s->ops[op].ask = (uint32_t)q->n_asks++;
    s->ops[op].untracked = true;
    return op;
}

static struct csim_event *event_new(struct sim *s, uint64_t op, enum csim_kind kind, uint32_t key)
{
    struct sim_cache *q = s->cache;
    if (q->n_events == q->cap_events) {
        q->cap_events *= 2;
        q->events = realloc(q->events, q->cap_events * sizeof *q->events);
        syn_assert(q->events != NULL);
    }
    cache_ask_of(s, &s->ops[op])->n++;
    q->events[q->n_events] = (struct csim_event){.op = op, .kind = (uint8_t)kind, .key = key, .seen_us = UINT64_MAX};
    return &q->events[q->n_events++];
}

static uint64_t one_new(struct sim *s, struct sim_client *c, enum csim_kind kind, uint32_t key)
{
    struct csim_key *k = &s->cache->keys[key];
    bool compares = kind == CSIM_IFEQ || kind == CSIM_DELEX;
    kind = compares && k->last_set == 0 ? CSIM_SET : kind;
    uint64_t op = ask_new(s, c, CSIM_FORM_ONE, key);
    struct csim_event *e = event_new(s, op, kind, key);
    e->arg = kind == CSIM_SETPX || kind == CSIM_EXPIRE ? prng_range(&c->prng, TTL_MS_MIN, TTL_MS_MAX)
             : kind == CSIM_FENCE                      ? s->now_us / 1000000 + prng_below(&c->prng, TOKENS)
             : compares                                ? k->last_set
                                                       : 0;
    bool sets = kind == CSIM_SET || kind == CSIM_SETNX || kind == CSIM_SETXX || kind == CSIM_SETGET || kind == CSIM_IFEQ || kind == CSIM_SETPX;
    k->last_set = sets ? s->cache->n_events - 1 : k->last_set;
    return op;
}

static void wait_for(struct sim *s, struct sim_client *c, uint64_t op)
{
    const struct csim_ask *a = cache_ask_of(s, &s->ops[op]);
    const struct csim_event *e = a->n > 0 ? &s->cache->events[a->first] : NULL;
    TRACE(s, "client %u op %llu asks n%u: form %u kind %u of %s, event %llu", c->index, (unsigned long long)op, c->node + 1, a->form, e ? e->kind : 0,
          s->cache->keys[e ? e->key : a->key].name, (unsigned long long)a->first);
    c->op = op;
    c->state = CLIENT_WAITS;
    c->tries = 0;
    client_wake(s, c, GIVE_UP_US);
    op_send(s, c, op);
    if (chance(s, FAULT_CLIENT_DIES)) {
        fire(s, FAULT_CLIENT_DIES);
        client_wake(s, c, draw_exp(&s->prng, 30000));
    }
}

static void idle(struct sim *s, struct sim_client *c, uint64_t mean_us)
{
    c->state = CLIENT_IDLE;
    c->op = 0;
    client_wake(s, c, draw_exp(&c->prng, mean_us));
}

/* Only what may be done twice. */
bool cache_may_retry(struct sim *s, const struct sim_op *o)
{
    const struct csim_ask *a = cache_ask_of(s, o);
    return a->form == CSIM_FORM_MGET || (a->form == CSIM_FORM_ONE && s->cache->events[a->first].kind == CSIM_GET);
}

/* One of `n` kinds, each as likely as it is often. */
static enum csim_kind some_kind(struct sim_client *c, const uint8_t *kinds, uint32_t n)
{
    return (enum csim_kind)kinds[prng_below(&c->prng, n)];
}

static enum csim_kind kind_for(struct sim_client *c, uint32_t key)
{
    static const uint8_t registers[] = {CSIM_GET, CSIM_GET, CSIM_GET, CSIM_GET, CSIM_GET, CSIM_GET, CSIM_GET, CSIM_SET, CSIM_SET, CSIM_SET, CSIM_SETNX,
                                        CSIM_SETXX, CSIM_SETGET, CSIM_APPEND, CSIM_DEL, CSIM_GETDEL, CSIM_IFEQ, CSIM_IFEQ, CSIM_DELEX};
    static const uint8_t counters[] = {CSIM_GET, CSIM_GET, CSIM_INCR, CSIM_INCR, CSIM_INCR, CSIM_INCR, CSIM_INCR, CSIM_SET};
    static const uint8_t timed[] = {CSIM_GET, CSIM_GET, CSIM_GET, CSIM_GET, CSIM_SETPX, CSIM_SETPX, CSIM_SET, CSIM_DEL, CSIM_EXPIRE, CSIM_PERSIST};
    static const uint8_t fenced[] = {CSIM_GET, CSIM_GET, CSIM_FENCE, CSIM_FENCE, CSIM_DEL};
    static const uint8_t others[] = {CSIM_GET, CSIM_GET, CSIM_GET, CSIM_SET, CSIM_SET, CSIM_DEL};
    if (key < CSIM_COUNTER_AT) {
        return some_kind(c, registers, sizeof registers);
    } else if (key < CSIM_TIMED_AT) {
        return some_kind(c, counters, sizeof counters);
    } else if (key < CSIM_FENCED_AT) {
        return some_kind(c, timed, sizeof timed);
    } else if (key < CSIM_PAIR_AT) {
        return some_kind(c, fenced, sizeof fenced);
    }
    return some_kind(c, others, sizeof others);
}

static uint32_t some_key(struct sim *s, struct sim_client *c)
{
    uint64_t r = prng_below(&c->prng, 100);
    return r < 55   ? (uint32_t)prng_below(&c->prng, s->cache->contended)
           : r < 70 ? CSIM_COUNTER_AT + (uint32_t)(r & 1)
           : r < 80 ? CSIM_TIMED_AT + (uint32_t)(r & 1)
           : r < 87 ? (uint32_t)CSIM_FENCED_AT
                    : CSIM_PAIR_AT + (uint32_t)(r & 1);
}

static void one(struct sim *s, struct sim_client *c)
{
    uint32_t key = some_key(s, c);
    wait_for(s, c, one_new(s, c, kind_for(c, key), key));
}

/* Several of the same key that arrive together, so that one entry has several of its writes. */
static void pipeline(struct sim *s, struct sim_client *c, uint64_t n)
{
    uint32_t key = some_key(s, c);
    uint64_t op = one_new(s, c, kind_for(c, key), key);
    for (uint64_t i = 1; i < n && c->expect_count < SIM_EXPECT_MAX / 2; i++) {
        op_send(s, c, op);
        op = one_new(s, c, kind_for(c, key), key);
    }
    wait_for(s, c, op);
}

static void churn(struct sim *s, struct sim_client *c)
{
    uint64_t n = prng_range(&c->prng, 1, 6), op = 0;
    for (uint64_t i = 0; i < n && c->expect_count < SIM_EXPECT_MAX / 2; i++) {
        uint32_t key = CSIM_CHURN_AT + (uint32_t)prng_below(&c->prng, CSIM_KEYS - CSIM_CHURN_AT);
        if (op != 0) {
            op_send(s, c, op);
        }
        op = one_new(s, c, kind_for(c, key), key);
    }
    wait_for(s, c, op);
}

static uint64_t several_new(struct sim *s, struct sim_client *c, enum csim_form form, enum csim_kind kind, uint32_t from, uint32_t to)
{
    uint64_t op = ask_new(s, c, form, 0);
    for (uint32_t k = from; k < to; k++) {
        event_new(s, op, kind, k);
    }
    return op;
}

static void several(struct sim *s, struct sim_client *c)
{
    uint64_t r = prng_below(&c->prng, 10);
    if (r < 4) {
        wait_for(s, c, several_new(s, c, CSIM_FORM_MGET, CSIM_GET, 0, CSIM_SCRATCH_AT));
    } else if (r < 5) {
        wait_for(s, c, several_new(s, c, CSIM_FORM_MSET, CSIM_SET, 0, CSIM_COUNTER_AT));
    } else if (r < 6) {
        wait_for(s, c, several_new(s, c, CSIM_FORM_MSET, CSIM_SET, CSIM_PAIR_AT, CSIM_SCRATCH_AT));
    } else {
        wait_for(s, c, several_new(s, c, CSIM_FORM_MSETNX, CSIM_SETNX, CSIM_PAIR_AT, CSIM_SCRATCH_AT));
    }
}

static void scratch(struct sim *s, struct sim_client *c)
{
    uint64_t r = prng_below(&c->prng, 10);
    uint32_t key = CSIM_SCRATCH_AT + (uint32_t)(r & 1);
    if (r < 3) {
        wait_for(s, c, one_new(s, c, kind_for(c, key), key));
    } else {
        wait_for(s, c, ask_new(s, c, r < 8 ? CSIM_FORM_RENAME : CSIM_FORM_COPY, key));
    }
}

static void act(struct sim *s, struct sim_client *c)
{
    uint64_t r = prng_below(&c->prng, 1000);
    if (r < 450) {
        one(s, c);
    } else if (r < 620) {
        pipeline(s, c, prng_range(&c->prng, 2, PIPELINE_MAX));
    } else if (r < 780) {
        churn(s, c);
    } else if (r < 880) {
        several(s, c);
    } else if (r < 950) {
        scratch(s, c);
    } else if (r < 985) {
        wait_for(s, c, ask_new(s, c, CSIM_FORM_INVALIDATE, (uint32_t)prng_below(&c->prng, CSIM_SCRATCH_AT)));
    } else if (r < 997) {
        wait_for(s, c, ask_new(s, c, CSIM_FORM_FLUSH, 0));
    } else {
        wait_for(s, c, several_new(s, c, CSIM_FORM_FLUSHALL, CSIM_CLEAR, 0, CSIM_KEYS));
    }
}

/* A replica that left its group's configuration unheard knows no leader, and serves nothing of that group. */
static bool is_left_behind(const struct sim *s, const struct sim_node *n)
{
    bool behind = false;
    for (uint32_t g = 0; n->up && g < s->n_groups; g++) {
        struct consensus_status st = {.leader = 1};
        if (node_consensus(n->node, g) != NULL) {
            consensus_status(node_consensus(n->node, g), &st);
        }
        behind |= st.leader == 0;
    }
    return behind && s->now_us > s->o.seconds * 1000000ull + LEFT_BEHIND_US;
}

bool cache_serves(const struct sim *s, uint32_t node)
{
    const struct sim_node *n = &s->nodes[node];
    return !n->dead_for_good && node + 1 != s->shrank && !is_left_behind(s, n); /* who was removed may never be added again */
}

/* After the heal: what is acknowledged is there, whichever node is asked. */
static void read_all(struct sim *s, struct sim_client *c)
{
    while (c->drain_at < s->n_nodes && !cache_serves(s, c->drain_at)) {
        c->drain_at++;
    }
    if (c->drain_at == s->n_nodes) {
        c->state = CLIENT_STOPPED;
        client_close(s, c);
        return;
    }
    if (c->conn >= 0 && c->node != c->drain_at) {
        client_close(s, c);
    }
    if ((c->conn < 0 && !client_connect(s, c, c->drain_at)) || c->expect_count > SIM_EXPECT_MAX / 2) {
        idle(s, c, THINK_US_MEAN);
        return;
    }
    wait_for(s, c, several_new(s, c, CSIM_FORM_MGET, CSIM_GET, 0, CSIM_SCRATCH_AT));
}

static bool sleeps(struct sim *s, struct sim_client *c)
{
    if (!chance(s, FAULT_CLIENT_PAUSE)) {
        return false;
    }
    fire(s, FAULT_CLIENT_PAUSE);
    idle(s, c, TTL_MS_MAX * 500);
    return true;
}

void cache_next(struct sim *s, struct sim_client *c)
{
    if (s->healed) {
        read_all(s, c);
        return;
    }
    if (c->conn >= 0 && prng_chance(&c->prng, 15000)) {
        client_close(s, c);
    }
    if ((c->conn < 0 && !client_connect(s, c, (uint32_t)prng_below(&c->prng, s->n_nodes))) || c->expect_count > SIM_EXPECT_MAX / 2) {
        idle(s, c, THINK_US_MEAN);
        return;
    }
    if (c->resp3 && !c->told_proto) {
        c->told_proto = true;
        op_send(s, c, op_new(s, c, OP_HELLO, 0));
    }
    if (sleeps(s, c)) {
        return;
    }
    if (chance(s, FAULT_CLIENT_FLOOD)) {
        fire(s, FAULT_CLIENT_FLOOD);
        pipeline(s, c, SIM_EXPECT_MAX / 2);
        return;
    }
    act(s, c);
}

void cache_client_answered(struct sim *s, struct sim_client *c, uint64_t op)
{
    const struct sim_op *o = &s->ops[op];
    if (op != c->op || c->state != CLIENT_WAITS) {
        return; /* one of a pipeline */
    }
    if (s->healed && o->status == OP_OK && cache_ask_of(s, o)->form == CSIM_FORM_MGET && c->node == c->drain_at && o->call_us >= s->o.seconds * 1000000ull) {
        c->drain_at++;
    } else if (s->healed && o->status != OP_OK) {
        client_close(s, c);
    }
    if (o->status == OP_UNKNOWN && cache_may_retry(s, o)) {
        client_forget(s, c);
    } else {
        idle(s, c, THINK_US_MEAN);
    }
}
