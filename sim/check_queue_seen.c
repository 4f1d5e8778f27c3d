/* What clients of the queue were told, against the canonical log: nothing is told that the log does not hold (R6), and all of it when a run ends
 * (Q1). */
#include "sim_queue.h"

#include "communication/resp.h"
#include "utils/hash.h"

#include <stdio.h>
#include <stdlib.h>

/* "name:partition:offset" of the topic asked about. */
static struct model_partition *place_of(struct sim *s, const struct queue_ask *a, slice_t map, uint32_t *partition, uint64_t *offset)
{
    const struct model_topic *t = &s->queue->topics[a->topic];
    struct resp_value id;
    char text[96];
    unsigned long long o;
    unsigned p;
    size_t skip = strlen(t->name) + 1;
    if (!resp_map_get(map, "id", &id) || id.str.len <= skip || id.str.len >= sizeof text) {
        sim_fail(s, "a message of %s has no id", t->name);
        return NULL;
    }
    memcpy(text, id.str.ptr, id.str.len);
    text[id.str.len] = 0;
    if (sscanf(text + skip, "%u:%llu", &p, &o) != 2 || p >= t->config.partitions || o >= t->parts[p].count) {
        sim_fail(s, "Q2/S56: a client is shown %s, which no applied entry made", text);
        return NULL;
    }
    *partition = p;
    *offset = o;
    return &s->queue->topics[a->topic].parts[p];
}

/* Q3: the payload is the one that the log has at that offset. A chunk with a flipped bit is not shown: its messages have none. */
static bool check_payload(struct sim *s, const struct queue_ask *a, const struct model_partition *p, uint32_t partition, uint64_t offset, slice_t map)
{
    struct resp_value v = {0};
    struct buf want = {0};
    uint64_t op = p->messages[offset].op;
    queue_payload(&want, op, queue_ask_of(s, &s->ops[op])->size);
    bool same = resp_map_get(map, "payload", &v) && slice_eq(v.str, buf_slice(&want));
    buf_fini(&want);
    bool none = v.type == RT_NULL || v.type == RT_ARRAY || (v.type == RT_BULK && v.str.len == 0);
    if (!same && none && s->r->fired[FAULT_DISK_FLIP] > 0) {
        s->r->holes++;
        return true;
    }
    if (!same) {
        sim_fail(s, "Q3/S56: a client is shown another message at %s:%u:%llu (%.*s, not o%llu)", s->queue->topics[a->topic].name, partition,
                 (unsigned long long)offset, (int)(v.str.len < 40 ? v.str.len : 40), (const char *)v.str.ptr, (unsigned long long)op);
    }
    return same;
}

void queue_check_published(struct sim *s, uint64_t op, uint32_t partition, uint64_t offset)
{
    const struct queue_ask *a = queue_ask_of(s, &s->ops[op]);
    s->r->publishes++;
    if (!a->published || a->at_partition != partition || a->at_offset != offset) {
        sim_fail(s, "Q1/Q9: the client of o%llu was told %u:%llu, the log has %s %u:%llu", (unsigned long long)op, partition, (unsigned long long)offset,
                 a->published ? "it at" : "nothing of it, not even at", a->at_partition, (unsigned long long)a->at_offset);
    }
}

void queue_check_refused(struct sim *s, const struct sim_op *o)
{
    const struct queue_ask *a = queue_ask_of(s, o);
    if (a->kind == ASK_PUBLISH && a->published && !o->retried && a->topic != QSIM_SCRATCH) {
        sim_fail(s, "Q2: the client of o%llu was told that nothing was done, and it is published", (unsigned long long)(o - s->ops));
    }
}

static bool receipt_of(slice_t map, struct receipt *r, uint64_t *deliveries)
{
    struct resp_value v;
    char text[96];
    unsigned p;
    unsigned long long g, o, d;
    if (!resp_map_get(map, "deliveries", &v) || v.type != RT_INT) {
        return false;
    }
    *deliveries = (uint64_t)v.num;
    if (!resp_map_get(map, "receipt", &v) || v.str.len >= sizeof text) {
        return false;
    }
    memcpy(text, v.str.ptr, v.str.len);
    text[v.str.len] = 0;
    bool ok = sscanf(text, "%u-%llu-%llu-%llu", &p, &g, &o, &d) == 4;
    *r = (struct receipt){.partition = p, .generation = g, .offset = o, .delivery = d};
    return ok;
}

/* S56, Q5: the log made this delivery, to this consumer; it is then held by the client. */
void queue_check_message(struct sim *s, struct sim_client *c, uint64_t op, slice_t map)
{
    const struct queue_ask *a = queue_ask_of(s, &s->ops[op]);
    struct receipt r;
    uint64_t offset, deliveries;
    uint32_t partition;
    struct model_partition *p = place_of(s, a, map, &partition, &offset);
    if (p == NULL || !check_payload(s, a, p, partition, offset, map)) {
        return;
    }
    if (!receipt_of(map, &r, &deliveries) || r.partition != partition || r.offset != offset || r.delivery == 0 || r.delivery > p->n_deliveries) {
        sim_fail(s, "Q5: a client is shown %u:%llu under a receipt that the log did not make", partition, (unsigned long long)offset);
        return;
    }
    const struct model_delivery *d = &p->deliveries[r.delivery - 1];
    if (d->offset != offset || d->generation != r.generation || d->group != a->group || d->deliveries != deliveries ||
        d->consumer != queue_consumer_hash(a->consumer)) {
        sim_fail(s, "Q5/Q7: delivery %llu of %s:%u was of %llu to g%u, count %u; the client is told %llu, g%u, count %llu", (unsigned long long)r.delivery,
                 s->queue->topics[a->topic].name, partition, (unsigned long long)d->offset, d->group, d->deliveries, (unsigned long long)offset, a->group,
                 (unsigned long long)deliveries);
        return;
    }
    struct model_pend *x = model_pend(&p->positions[a->group], offset);
    if (x->seen && s->queue->polite) {
        sim_fail(s, "Q13: %s:%u:%llu is shown twice to g%u in a run without faults", s->queue->topics[a->topic].name, partition,
                 (unsigned long long)offset, a->group);
    }
    x->seen = true;
    if (c->n_held < SIM_HELD_MAX) {
        c->held[c->n_held++] = (struct sim_held){.topic = a->topic, .group = a->group, .partition = partition, .generation = r.generation,
                                                 .offset = offset, .delivery = r.delivery, .consumer = a->consumer};
    }
}

/* Q6: a client is told that it has acknowledged so many exactly when the log says so. Only when nobody else tried. */
void queue_check_settled(struct sim *s, const struct sim_op *o, int64_t count, bool stale)
{
    const struct queue_ask *a = queue_ask_of(s, o);
    int64_t acked = 0;
    if (a->kind != ASK_ACK || a->topic == QSIM_SCRATCH || o->retried) {
        return;
    }
    for (uint32_t i = 0; i < a->n_receipts; i++) {
        const struct model_delivery *d = &s->queue->topics[a->topic].parts[a->receipts[i].partition].deliveries[a->receipts[i].delivery - 1];
        if (d->settles > 1) {
            return;
        }
        acked += d->acked;
    }
    if (acked != count) {
        sim_fail(s, "Q6: a client is told that %lld of %u deliveries are acknowledged%s, the log has %lld", (long long)count, a->n_receipts,
                 stale ? " (stale)" : "", (long long)acked);
    }
}

void queue_check_peeked(struct sim *s, const struct sim_op *o, slice_t map)
{
    const struct queue_ask *a = queue_ask_of(s, o);
    uint64_t offset;
    uint32_t partition;
    struct model_partition *p = place_of(s, a, map, &partition, &offset);
    if (p == NULL || !check_payload(s, a, p, partition, offset, map)) {
        return;
    }
    if (partition != a->partition || offset < a->offset) {
        sim_fail(s, "Q3: a client peeked at %u:%llu and is shown %u:%llu", a->partition, (unsigned long long)a->offset, partition,
                 (unsigned long long)offset);
    }
}

/* Q8: what is listed as dead has died at least once. */
void queue_check_dead(struct sim *s, const struct sim_op *o, slice_t map)
{
    const struct queue_ask *a = queue_ask_of(s, o);
    uint64_t offset;
    uint32_t partition;
    struct model_partition *p = place_of(s, a, map, &partition, &offset);
    if (p == NULL || !check_payload(s, a, p, partition, offset, map)) {
        return;
    }
    if (!model_pend(&p->positions[a->group], offset)->died) {
        sim_fail(s, "Q8: %u:%llu is listed as dead for g%u and never died", partition, (unsigned long long)offset, a->group);
    }
}

/* Q8: at the end every replica lists exactly the dead that the log made. */
struct dead_walk {
    struct sim *s;
    struct model_position *pos;
    uint64_t n;
    bool wrong;
};

static void dead_one(void *arg, const struct dead_info *d)
{
    struct dead_walk *w = arg;
    w->n++;
    w->wrong = w->wrong || model_pend(w->pos, d->offset)->state != MODEL_DEAD;
}

static void check_replica(struct sim *s, const struct sim_node *n, uint32_t group)
{
    const struct queue_sm *sm = node_queue(n->node, group);
    for (uint32_t i = 0; i < QSIM_TOPICS && !s->failed; i++) {
        struct model_topic *t = &s->queue->topics[i];
        for (uint32_t k = 0; t->checked && t->id != 0 && k < t->config.partitions; k++) {
            for (uint32_t g = 0; g < QSIM_GROUPS && t->parts[k].group == group; g++) {
                char name[8];
                struct dead_walk w = {.s = s, .pos = &t->parts[k].positions[g]};
                snprintf(name, sizeof name, "g%u", g);
                queue_sm_dead(sm, t->id, k, slice_str(name), 0, UINT32_MAX, dead_one, &w);
                if (w.wrong || w.n != w.pos->dead) {
                    sim_fail(s, "Q8: n%u lists %llu dead of %s:%u for g%u, the log made %llu", n->index + 1, (unsigned long long)w.n, t->name, k, g,
                             (unsigned long long)w.pos->dead);
                    return;
                }
                s->r->dead += w.n;
            }
        }
    }
}

void queue_check_end(struct sim *s)
{
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        const struct sim_node *n = &s->nodes[i];
        for (uint32_t g = 0; g < s->n_groups && n->up && !s->failed; g++) {
            if (node_consensus(n->node, g) != NULL && node_applied(n->node, g) == s->canon[g].count) {
                model_compare(s, n, g);
                check_replica(s, n, g);
            }
        }
    }
}
