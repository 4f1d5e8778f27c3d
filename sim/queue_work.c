/* What clients of the queue do: topics of many kinds, producers, consumers of several consumer groups that acknowledge, refuse, extend, die, sleep
 * past their visibility, leave and join; after the heal they drain what is left.
 *
 * Which workload a seed has, and all that is drawn here, comes from generators of its own: a seed with locks only is the run it always was. */
#include "sim_cache.h"
#include "sim_queue.h"

#include <stdio.h>
#include <stdlib.h>

enum { THINK_US_MEAN = 40000, WORK_US_MEAN = 30000, GIVE_UP_US = 9000000, DRAIN_BLOCK_MS = 50, DRAIN_COUNT = SIM_HELD_MAX };

static void draw_topic(struct sim_queue *q, uint32_t i)
{
    static const char *const NAMES[QSIM_TOPICS] = {"q0", "{q}1", "q2", "scratch"};
    struct prng *g = &q->prng;
    struct model_topic *t = &q->topics[i];
    snprintf(t->name, sizeof t->name, "%s", NAMES[i]);
    t->checked = i < q->n_topics;
    t->config = (struct topic_config){.partitions = (uint32_t)prng_range(g, 1, QSIM_PARTITIONS), .ordered = prng_chance(g, 400000)};
    t->config.max_deliver = prng_chance(g, 800000) ? (uint32_t)prng_range(g, 1, 5) : 0;
    t->config.visibility_ms = q->polite ? 20000 : prng_range(g, 100, 3000);
    t->config.backoff_ms = prng_chance(g, 500000) ? 0 : (uint32_t)prng_range(g, 1, 400);
    t->config.backoff_ms_max = t->config.backoff_ms * (uint32_t)prng_range(g, 1, 4);
    t->retains = i == 2 && prng_chance(g, 300000);
    t->config.retention_bytes = t->retains ? prng_range(g, 1000, 20000) : 0;
    for (uint32_t k = 0; k < QSIM_PARTITIONS; k++) {
        t->parts[k].group = QSIM_NONE;
    }
}

void queue_sim_open(struct sim *s)
{
    struct sim_queue *q = calloc(1, sizeof *q);
    syn_assert(q != NULL);
    s->queue = q;
    prng_init(&q->prng, s->o.seed ^ 0x9ae16a3b2f90404full);
    uint32_t drawn = 1 + (uint32_t)prng_below(&q->prng, SIM_WORK_BOTH);
    uint32_t work = s->o.work == SIM_WORK_ALL || s->o.work == 0 ? drawn : s->o.work;
    q->locks = work != SIM_WORK_QUEUES && !s->cache->alone;
    q->on = work != SIM_WORK_LOCKS && !s->cache->alone;
    q->polite = q->on && prng_chance(&q->prng, 40000);
    q->n_topics = (uint32_t)prng_range(&q->prng, 1, QSIM_SCRATCH);
    q->n_groups = (uint32_t)prng_range(&q->prng, 1, QSIM_GROUPS);
    q->messages_max = prng_range(&q->prng, 40, s->o.lite ? 400 : 1200);
    for (uint32_t i = 0; i < QSIM_TOPICS; i++) {
        draw_topic(q, i);
    }
    for (uint32_t g = 0; g < SIM_GROUPS_MAX; g++) {
        q->due_ms[g] = UINT64_MAX;
    }
    if (q->polite) {
        memset(s->on, 0, sizeof s->on);
    }
    q->cap_asks = 256;
    q->asks = calloc(q->cap_asks, sizeof *q->asks);
    syn_assert(q->asks != NULL);
    q->n_asks = 1;
}

void queue_sim_close(struct sim *s)
{
    struct sim_queue *q = s->queue;
    for (uint32_t i = 0; i < QSIM_TOPICS; i++) {
        for (uint32_t k = 0; k < QSIM_PARTITIONS; k++) {
            struct model_partition *p = &q->topics[i].parts[k];
            free(p->messages);
            free(p->deliveries);
            for (uint32_t g = 0; g < QSIM_GROUPS; g++) {
                free(p->positions[g].pends);
            }
        }
    }
    free(q->asks);
    free(q->answered);
    free(q->owners);
    free(q);
    s->queue = NULL;
}

bool queue_client(struct sim *s, uint32_t index)
{
    const struct sim_queue *q = s->queue;
    return q->on && (!q->locks || index % 2 == 0);
}

/* Little memory, small files: what is young is written soon, and read back. */
void queue_options(struct sim *s, struct node_options *o)
{
    struct prng *g = &s->queue->prng;
    bool small = s->on[FAULT_OP_SNAPSHOT] && prng_chance(g, 700000);
    o->queue_chunk_bytes = small ? (uint32_t)prng_range(g, 200, 3000) : 0;
    o->queue_young_bytes = small ? prng_range(g, 500, 10000) : 0;
    o->queue_file_bytes = small ? prng_range(g, 2000, 20000) : 0;
    o->queue_cache_bytes = small ? prng_range(g, 500, 8000) : 0;
    o->held_bytes_max = small && o->queue_young_bytes % 2 == 0 ? 6 * o->groups * (o->snapshot_log_bytes + o->queue_young_bytes) : 0;
}

struct queue_ask *queue_ask_of(struct sim *s, const struct sim_op *o)
{
    return &s->queue->asks[o->ask];
}

static uint64_t ask_new(struct sim *s, struct sim_client *c, enum ask_kind kind, uint32_t topic, uint32_t group)
{
    struct sim_queue *q = s->queue;
    if (q->n_asks == q->cap_asks) {
        q->cap_asks *= 2;
        q->asks = realloc(q->asks, q->cap_asks * sizeof *q->asks);
        syn_assert(q->asks != NULL);
    }
    q->asks[q->n_asks] = (struct queue_ask){.kind = (uint8_t)kind, .topic = (uint8_t)topic, .group = (uint8_t)group, .consumer = c->index,
                                            .key = QSIM_NONE, .ms = UINT64_MAX};
    uint64_t op = op_new(s, c, OP_QUEUE, 0);
    s->ops[op].ask = (uint32_t)q->n_asks++;
    s->ops[op].untracked = true;
    return op;
}

static void wait_for(struct sim *s, struct sim_client *c, uint64_t op)
{
    const struct queue_ask *a = queue_ask_of(s, &s->ops[op]);
    TRACE(s, "client %u op %llu asks n%u: %u of %s g%u", c->index, (unsigned long long)op, c->node + 1, a->kind, s->queue->topics[a->topic].name, a->group);
    c->op = op;
    c->state = CLIENT_WAITS;
    c->tries = 0;
    client_wake(s, c, s->ops[op].wait_ms * 1000ull + GIVE_UP_US);
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

/* One that a retry elsewhere cannot do twice. */
bool queue_may_retry(struct sim *s, const struct sim_op *o)
{
    struct queue_ask *a = queue_ask_of(s, o);
    return (a->kind == ASK_PUBLISH && a->has_id) || a->kind == ASK_ACK || a->kind == ASK_CREATE;
}

static uint64_t new_publish(struct sim *s, struct sim_client *c, uint32_t topic)
{
    uint64_t op = ask_new(s, c, ASK_PUBLISH, topic, 0);
    struct queue_ask *a = queue_ask_of(s, &s->ops[op]);
    a->size = prng_chance(&c->prng, 900000) ? (uint32_t)prng_range(&c->prng, 1, 120) : (uint32_t)prng_range(&c->prng, 500, 5000);
    a->key = prng_chance(&c->prng, 600000) ? (uint32_t)prng_below(&c->prng, QSIM_KEYS) : QSIM_NONE;
    a->has_id = prng_chance(&c->prng, 500000);
    a->ms = prng_chance(&c->prng, 120000) ? prng_range(&c->prng, 0, 3000) : UINT64_MAX;
    s->queue->messages++;
    return op;
}

/* One, or a pipeline of them whose last one is waited for. */
static void publish(struct sim *s, struct sim_client *c, uint32_t topic)
{
    uint64_t n = prng_chance(&c->prng, 400000) ? prng_range(&c->prng, 2, 12) : 1;
    uint64_t op = new_publish(s, c, topic);
    for (uint64_t i = 1; i < n && c->expect_count < SIM_EXPECT_MAX / 2; i++) {
        op_send(s, c, op);
        op = new_publish(s, c, topic);
    }
    wait_for(s, c, op);
}

static void consume(struct sim *s, struct sim_client *c, uint32_t topic, uint32_t group, uint32_t count, uint64_t block_ms)
{
    uint64_t op = ask_new(s, c, ASK_CONSUME, topic, group);
    struct queue_ask *a = queue_ask_of(s, &s->ops[op]);
    a->count = count;
    a->ms = block_ms;
    s->ops[op].wait_ms = block_ms == UINT64_MAX ? 0 : (uint32_t)block_ms;
    wait_for(s, c, op);
}

static void look(struct sim *s, struct sim_client *c, uint32_t topic, uint32_t group)
{
    static const enum ask_kind KINDS[] = {ASK_PEEK, ASK_PEEK, ASK_DLQ, ASK_INFO, ASK_LAG};
    uint64_t op = ask_new(s, c, KINDS[prng_below(&c->prng, 5)], topic, group);
    struct queue_ask *a = queue_ask_of(s, &s->ops[op]);
    struct model_topic *t = &s->queue->topics[topic];
    a->partition = (uint32_t)prng_below(&c->prng, t->config.partitions);
    uint64_t count = t->parts[a->partition].count;
    a->offset = prng_below(&c->prng, count + 2);
    a->count = (uint32_t)prng_range(&c->prng, 1, 20);
    wait_for(s, c, op);
}

static void member(struct sim *s, struct sim_client *c, uint32_t topic, uint32_t group)
{
    static const enum ask_kind KINDS[] = {ASK_JOIN, ASK_LEAVE, ASK_REDRIVE};
    uint64_t op = ask_new(s, c, s->queue->polite ? ASK_JOIN : KINDS[prng_below(&c->prng, 3)], topic, group);
    struct queue_ask *a = queue_ask_of(s, &s->ops[op]);
    a->count = (uint32_t)prng_range(&c->prng, 1, 30);
    a->ms = prng_chance(&c->prng, 500000) ? prng_range(&c->prng, 300, 5000) : UINT64_MAX;
    wait_for(s, c, op);
}

/* A topic that comes and goes; nothing of it is checked but that all of it ends alike everywhere. */
static void scratch(struct sim *s, struct sim_client *c)
{
    static const enum ask_kind KINDS[] = {ASK_CREATE, ASK_DELETE, ASK_PUBLISH, ASK_PUBLISH, ASK_CONSUME, ASK_SEEK, ASK_PUBLISH, ASK_REDRIVE};
    enum ask_kind kind = KINDS[prng_below(&c->prng, 8)];
    if (kind == ASK_PUBLISH) {
        publish(s, c, QSIM_SCRATCH);
    } else if (kind == ASK_CONSUME) {
        consume(s, c, QSIM_SCRATCH, 0, 4, 200);
    } else {
        uint64_t op = ask_new(s, c, kind, QSIM_SCRATCH, 0);
        queue_ask_of(s, &s->ops[op])->mode = prng_chance(&c->prng, 500000);
        queue_ask_of(s, &s->ops[op])->count = 10;
        wait_for(s, c, op);
    }
}

static void act(struct sim *s, struct sim_client *c)
{
    struct sim_queue *q = s->queue;
    uint32_t topic = (uint32_t)prng_below(&c->prng, q->n_topics), group = (uint32_t)prng_below(&c->prng, q->n_groups);
    uint64_t r = prng_below(&c->prng, 100), produce = c->index % 4 == 0 ? 60 : 25;
    if (!q->topics[topic].made) {
        wait_for(s, c, ask_new(s, c, ASK_CREATE, topic, 0));
    } else if (r < produce && q->messages < q->messages_max) {
        publish(s, c, topic);
    } else if (r < 85) {
        bool block = prng_chance(&c->prng, 600000);
        consume(s, c, topic, group, (uint32_t)prng_range(&c->prng, 1, 8), block ? prng_range(&c->prng, 20, 2000) : UINT64_MAX);
    } else if (r < 92) {
        look(s, c, topic, group);
    } else if (r < 97) {
        member(s, c, topic, group);
    } else {
        scratch(s, c);
    }
}

static void settle(struct sim *s, struct sim_client *c, enum ask_kind kind);

/* After the heal: every topic and consumer group in turn, everything acknowledged, until nothing is left. */
static void drain(struct sim *s, struct sim_client *c)
{
    struct sim_queue *q = s->queue;
    char why[200];
    if (q->drained || model_left(s, why, sizeof why) == 0) {
        q->drained = true;
        c->state = CLIENT_STOPPED;
        client_close(s, c);
        return;
    }
    c->drain_at += !c->brought; /* stays where there is something */
    c->brought = false;
    uint32_t at = (c->drain_at + c->index) % (q->n_topics * q->n_groups);
    if (q->topics[at % q->n_topics].id == 0) {
        idle(s, c, THINK_US_MEAN);
        return;
    }
    consume(s, c, at % q->n_topics, at / q->n_topics, DRAIN_COUNT, DRAIN_BLOCK_MS);
}

void queue_next(struct sim *s, struct sim_client *c)
{
    bool lost = s->healed && c->conn >= 0 && c->node + 1 == s->removed; /* who was removed serves nobody */
    if (lost || (c->conn >= 0 && !s->queue->polite && prng_chance(&c->prng, 15000))) {
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
    if (s->healed) {
        drain(s, c);
    } else {
        act(s, c);
    }
}

/* One request for as many of those held as may go into it: of one topic and consumer group, one of them for NACK and EXTEND. */
static void settle(struct sim *s, struct sim_client *c, enum ask_kind kind)
{
    struct sim_held first = c->held[0];
    uint64_t op = ask_new(s, c, kind, first.topic, first.group);
    struct queue_ask *a = queue_ask_of(s, &s->ops[op]);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->n_held; i++) {
        const struct sim_held h = c->held[i];
        bool fits = h.topic == first.topic && h.group == first.group && a->n_receipts < (kind == ASK_ACK ? QSIM_RECEIPTS : 1);
        if (fits) {
            a->receipts[a->n_receipts++] = (struct receipt){h.partition, h.generation, h.offset, h.delivery};
            s->queue->topics[h.topic].parts[h.partition].deliveries[h.delivery - 1].settles += kind != ASK_EXTEND;
        }
        if (!fits || kind == ASK_EXTEND) {
            c->held[kept++] = h;
        }
    }
    c->n_held = kept;
    a->mode = (uint8_t)prng_below(&c->prng, 3);
    a->ms = kind == ASK_EXTEND ? prng_range(&c->prng, 0, 3000) : prng_chance(&c->prng, 300000) ? prng_range(&c->prng, 0, 2000) : UINT64_MAX;
    wait_for(s, c, op);
}

static bool sleeps(struct sim *s, struct sim_client *c)
{
    if (!chance(s, FAULT_CLIENT_PAUSE)) {
        return false;
    }
    fire(s, FAULT_CLIENT_PAUSE);
    client_wake(s, c, s->queue->topics[c->held[0].topic].config.visibility_ms * 1200ull + draw_exp(&c->prng, 1000000));
    return true;
}

void queue_hold(struct sim *s, struct sim_client *c)
{
    bool polite = s->healed || s->queue->polite;
    if (c->conn < 0) {
        client_connect(s, c, (uint32_t)prng_below(&c->prng, s->n_nodes));
    }
    if (c->conn < 0 || c->expect_count > SIM_EXPECT_MAX / 2 || (!polite && prng_chance(&c->prng, 60000))) {
        c->n_held = 0; /* it never says a word: visibility does */
        idle(s, c, THINK_US_MEAN);
        return;
    }
    if (!polite && sleeps(s, c)) {
        return;
    }
    uint64_t r = polite ? 0 : prng_below(&c->prng, 100);
    settle(s, c, r < 75 ? ASK_ACK : r < 93 ? ASK_NACK : ASK_EXTEND);
}

void queue_client_answered(struct sim *s, struct sim_client *c, uint64_t op)
{
    const struct sim_op *o = &s->ops[op];
    if (op != c->op || c->state != CLIENT_WAITS) {
        return; /* one of a pipeline */
    }
    if (s->healed && o->status != OP_OK) {
        client_close(s, c); /* another node may know better */
    }
    if (o->status == OP_UNKNOWN && queue_may_retry(s, o)) {
        client_forget(s, c);
    } else if (c->n_held > 0) {
        c->op = 0;
        c->brought = true;
        c->state = CLIENT_HOLDS;
        client_wake(s, c, draw_exp(&c->prng, WORK_US_MEAN));
    } else {
        idle(s, c, THINK_US_MEAN);
    }
}
