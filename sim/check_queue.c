/* What the queue promises, over the canonical order of each group (Q2-Q9, Q12; docs/queue.md): every operation is carried out on the model
 * too, and its answer must be the one that the model allows.
 *
 * Messages name the publish they belong to, consumers and consumer groups the clients that use them. */
#include "sim_queue.h"

#include "nodes/queue/message.h"
#include "utils/hash.h"

#include <stdio.h>
#include <stdlib.h>

struct entry_of {
    struct sim *s;
    uint32_t group;        /* of the cluster */
    uint64_t index, time_ms;
};

static uint32_t group_number(slice_t name)
{
    uint32_t n = name.len == 2 && name.ptr[0] == 'g' ? (uint32_t)(name.ptr[1] - '0') : QSIM_NONE;
    return n < QSIM_GROUPS ? n : QSIM_NONE;
}

static void on_open(struct entry_of *e, struct reader *r)
{
    struct queue_open o;
    if (!queue_get_open(r, &o)) {
        return;
    }
    for (uint32_t i = 0; i < QSIM_TOPICS; i++) {
        struct model_topic *t = &e->s->queue->topics[i];
        if (!t->checked || !slice_eq(slice_str(t->name), o.name)) {
            continue;
        }
        if (t->id != 0 && t->id != o.topic) {
            sim_fail(e->s, "Q11: %s has two ids, %llu and %llu", t->name, (unsigned long long)t->id, (unsigned long long)o.topic);
            return;
        }
        t->id = o.topic;
        t->config = o.config;
        for (uint32_t k = 0; k < o.n_parts; k++) {
            uint32_t number = le32_get(o.parts.ptr + 4 * (size_t)k);
            struct model_partition *p = number < QSIM_PARTITIONS ? &t->parts[number] : NULL;
            if (p == NULL || (p->group != QSIM_NONE && p->group != e->group)) {
                sim_fail(e->s, "Q11: %s:%u is opened in group %u", t->name, number, e->group);
                return;
            }
            p->group = e->group;
        }
    }
}

/* "m<op>:" and padding; 0: not of this workload. */
static uint64_t op_of_body(const struct sim *s, slice_t body)
{
    struct message m;
    uint64_t v = 0;
    if (!message_get(body, &m) || m.payload.len < 2 || m.payload.ptr[0] != 'm') {
        return 0;
    }
    for (size_t i = 1; i < m.payload.len && m.payload.ptr[i] != ':'; i++) {
        v = v * 10 + (uint64_t)(m.payload.ptr[i] - '0');
    }
    return v < s->n_ops ? v : 0;
}

static void message_add(struct model_partition *p, struct model_message m)
{
    if (p->count == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 64;
        p->messages = realloc(p->messages, p->cap * sizeof *p->messages);
        syn_assert(p->messages != NULL);
    }
    p->messages[p->count++] = m;
}

/* Q2, Q3, Q9, Q11: one message, at the next offset, of a publish that was not refused and is not there yet. */
static void on_appended(struct entry_of *e, const struct queue_appended *a, const struct publish_item *it)
{
    uint32_t number;
    struct sim *s = e->s;
    struct model_topic *t = model_topic_of(s, a->topic, &number);
    if (t == NULL) {
        return;
    }
    struct model_partition *p = &t->parts[a->partition];
    uint64_t op = op_of_body(s, a->body);
    struct sim_op *o = &s->ops[op];
    if (a->offset != p->count) {
        sim_fail(s, "Q3: %s:%u gets offset %llu after %llu messages", t->name, a->partition, (unsigned long long)a->offset, (unsigned long long)p->count);
        return;
    }
    if (op == 0 || o->kind != OP_QUEUE || queue_ask_of(s, o)->kind != ASK_PUBLISH || queue_ask_of(s, o)->topic != number) {
        sim_fail(s, "Q2: %s:%u offset %llu holds what nobody published", t->name, a->partition, (unsigned long long)a->offset);
        return;
    }
    struct queue_ask *ask = queue_ask_of(s, o);
    if (ask->published) {
        sim_fail(s, "Q9/Q11: o%llu is published twice, %s:%u:%llu and :%u:%llu", (unsigned long long)op, t->name, ask->at_partition,
                 (unsigned long long)ask->at_offset, a->partition, (unsigned long long)a->offset);
    } else if (o->status == OP_NOT_DONE && !o->retried) {
        sim_fail(s, "Q2: o%llu is published, though its client was told that it was not", (unsigned long long)op);
    }
    ask->published = true;
    ask->at_partition = a->partition;
    ask->at_offset = a->offset;
    struct model_message m = {.op = op, .hash = hash_bytes(1, a->body), .key = it->key_hash};
    m.due_ms = it->delay_ms > 0 ? e->time_ms + it->delay_ms : 0;
    message_add(p, m);
    TRACE(s, "group %u index %llu: %s:%u:%llu is o%llu", e->group, (unsigned long long)e->index, t->name, a->partition, (unsigned long long)a->offset,
          (unsigned long long)op);
}

static void on_publish(struct entry_of *e, struct reader *r, struct reader *reply, const struct queue_out *out)
{
    uint32_t n = reader_u32(r), said = reader_u32(reply), k = 0;
    for (uint32_t i = 0; i < n && r->ok && !e->s->failed; i++) {
        struct publish_item it;
        queue_get_item(r, &it);
        uint8_t st = reader_u8(reply);
        reader_take(reply, 24);
        if (st == PUBLISH_OK && k < out->n_appended) {
            on_appended(e, &out->appended[k++], &it);
        }
    }
    if (!r->ok || !reply->ok || said != n || k != out->n_appended) {
        sim_fail(e->s, "Q1: a batch of %u messages was answered for %u, %u of %u stored", n, said, k, out->n_appended);
    }
}

/* Q4: in an ORDERED topic everything before it of its key is over; else what comes before it and is not delayed was delivered. */
static void check_order(struct sim *s, const struct model_topic *t, struct model_partition *p, struct model_position *pos, uint32_t number, uint64_t offset)
{
    const struct model_message *m = &p->messages[offset];
    for (uint64_t o = 0; t->config.ordered && m->key != 0 && o < p->count; o++) {
        const struct model_pend *x = model_pend(pos, o);
        bool before = o < offset && !x->redriven && !t->retains && (x->state == MODEL_NEW || x->state == MODEL_FREE);
        bool busy = x->state == MODEL_OUT || before;
        if (o != offset && p->messages[o].key == m->key && busy) {
            sim_fail(s, "Q4: %s:%u:%llu is delivered while %llu of its key is not over (state %u, %u deliveries)", t->name, number,
                     (unsigned long long)offset, (unsigned long long)o, x->state, x->deliveries);
            return;
        }
    }
    while (pos->first < offset && !t->config.ordered && !t->retains) {
        const struct model_pend *x = model_pend(pos, pos->first);
        if (x->state == MODEL_NEW && x->delivery == 0 && p->messages[pos->first].due_ms == 0) {
            sim_fail(s, "Q4: %s:%u:%llu is delivered before %llu", t->name, number, (unsigned long long)offset, (unsigned long long)pos->first);
            return;
        }
        pos->first++;
    }
}

static void delivery_add(struct sim *s, const struct model_topic *t, struct model_partition *p, const struct delivery *d, uint32_t group, uint64_t consumer)
{
    if (d->receipt.delivery != p->n_deliveries + 1) {
        sim_fail(s, "Q7: %s:%u has delivery %llu after %llu", t->name, d->receipt.partition, (unsigned long long)d->receipt.delivery,
                 (unsigned long long)p->n_deliveries);
        return;
    }
    if (p->n_deliveries == p->cap_deliveries) {
        p->cap_deliveries = p->cap_deliveries ? p->cap_deliveries * 2 : 64;
        p->deliveries = realloc(p->deliveries, p->cap_deliveries * sizeof *p->deliveries);
        syn_assert(p->deliveries != NULL);
    }
    p->deliveries[p->n_deliveries++] = (struct model_delivery){.offset = d->receipt.offset, .generation = d->receipt.generation, .consumer = consumer,
                                                               .group = group, .deliveries = d->deliveries};
}

/* Q5, Q6, Q7. */
static void check_deliverable(struct entry_of *e, const struct model_topic *t, struct model_partition *p, struct model_position *pos, const struct delivery *d)
{
    const struct model_pend *x = model_pend(pos, d->receipt.offset);
    const char *wrong = NULL;
    uint64_t due = p->messages[d->receipt.offset].due_ms;
    switch (x->state) {
    case MODEL_OUT: wrong = "Q5: it is out with somebody"; break;
    case MODEL_DONE: wrong = "Q6: it was acknowledged"; break;
    case MODEL_DEAD: wrong = "Q8: it is dead"; break;
    case MODEL_NOT_MINE: wrong = "Q6: it was gone before the consumer group came"; break;
    default: break;
    }
    if (wrong == NULL && (x->not_before_ms > e->time_ms || due > e->time_ms)) {
        wrong = "Q7: it is delayed";
    } else if (wrong == NULL && d->deliveries != x->deliveries + 1) {
        wrong = "Q7: its count does not go up by one";
    } else if (wrong == NULL && d->receipt.generation != pos->generation) {
        wrong = "Q5: its generation is not the position's";
    }
    if (wrong != NULL) {
        sim_fail(e->s, "%s: %s:%u:%llu, delivery %llu, count %u after %u, at log time %llu (index %llu)", wrong, t->name, d->receipt.partition,
                 (unsigned long long)d->receipt.offset, (unsigned long long)d->receipt.delivery, d->deliveries, x->deliveries,
                 (unsigned long long)e->time_ms, (unsigned long long)e->index);
    }
}

static void on_delivered(struct entry_of *e, struct model_topic *t, const struct delivery *d, uint32_t group, uint64_t consumer, uint64_t visibility_ms)
{
    struct model_partition *p = &t->parts[d->receipt.partition];
    struct model_position *pos = &p->positions[group];
    if (d->receipt.offset >= p->count) {
        sim_fail(e->s, "Q2: %s:%u:%llu is delivered and was never published", t->name, d->receipt.partition, (unsigned long long)d->receipt.offset);
        return;
    }
    check_deliverable(e, t, p, pos, d);
    if (!e->s->failed) {
        check_order(e->s, t, p, pos, d->receipt.partition, d->receipt.offset);
    }
    if (!e->s->failed) {
        delivery_add(e->s, t, p, d, group, consumer);
    }
    struct model_pend *x = model_pend(pos, d->receipt.offset);
    model_set_out(pos, x, true);
    x->delivery = d->receipt.delivery;
    x->generation = d->receipt.generation;
    x->deliveries = d->deliveries;
    x->consumer = consumer;
    x->deadline_ms = visibility_ms > 0 ? e->time_ms + visibility_ms : UINT64_MAX;
    x->not_before_ms = 0;
    e->s->queue->due_ms[e->group] = x->deadline_ms < e->s->queue->due_ms[e->group] ? x->deadline_ms : e->s->queue->due_ms[e->group];
    e->s->r->deliveries++;
    e->s->r->redelivered += d->deliveries > 1;
    TRACE(e->s, "group %u index %llu: %s:%u:%llu to g%u, delivery %llu, count %u", e->group, (unsigned long long)e->index, t->name, d->receipt.partition,
          (unsigned long long)d->receipt.offset, group, (unsigned long long)d->receipt.delivery, d->deliveries);
}

/* S50, Q5: who may claim under this generation. */
static bool takes_over(struct model_position *pos, uint64_t generation, uint64_t consumer)
{
    bool other = generation > 0 && generation == pos->generation && pos->owner != 0 && pos->owner != consumer;
    if (generation < pos->generation || other) {
        return false;
    }
    pos->generation = generation;
    pos->owner = consumer;
    return true;
}

static void on_claim(struct entry_of *e, struct reader *r, struct reader *reply, uint8_t code)
{
    struct queue_claim c;
    uint32_t number, group;
    struct model_topic *t = queue_get_claim(r, &c) ? model_topic_of(e->s, c.topic, &number) : NULL;
    if (t == NULL || code == QUEUE_NO_TOPIC || (group = group_number(c.group)) == QSIM_NONE) {
        return;
    }
    uint64_t consumer = hash_bytes(3, c.consumer), visibility = c.visibility_ms > 0 ? c.visibility_ms : t->config.visibility_ms;
    uint32_t n = code == QUEUE_DONE ? reader_u32(reply) : 0, left = c.count;
    struct delivery d;
    bool have = n > 0 && queue_get_delivery(reply, &d);
    for (uint32_t i = 0; i < c.n_parts && !e->s->failed; i++) {
        const uint8_t *part = c.parts.ptr + (size_t)((c.rotate + i) % c.n_parts) * 12;
        struct model_partition *p = le32_get(part) < t->config.partitions ? &t->parts[le32_get(part)] : NULL;
        if (p == NULL || p->group != e->group) {
            continue;
        }
        struct model_position *pos = &p->positions[group];
        if (!pos->exists) {
            model_position_open(e->s, t, p, group);
        }
        bool taken = takes_over(pos, le64_get(part + 4), consumer);
        while (taken && have && left > 0 && d.receipt.partition == le32_get(part) && !e->s->failed) {
            on_delivered(e, t, &d, group, consumer, visibility);
            left--;
            have = --n > 0 && queue_get_delivery(reply, &d);
        }
    }
    if (n > 0) {
        sim_fail(e->s, "Q5: a claim of %s for g%u under old generations, or of too many, is granted (index %llu)", t->name, group,
                 (unsigned long long)e->index);
    }
}

static void settle_ok(struct entry_of *e, struct model_topic *t, struct model_position *pos, struct model_pend *x, const struct settle_item *it)
{
    struct model_partition *p = &t->parts[it->receipt.partition];
    if (it->kind == SETTLE_ACK) {
        model_set_out(pos, x, false);
        x->state = MODEL_DONE;
        p->deliveries[it->receipt.delivery - 1].acked = true;
        e->s->r->acks++;
    } else if (it->kind == SETTLE_EXTEND) {
        x->deadline_ms = e->time_ms + it->delay_ms;
        e->s->queue->due_ms[e->group] = 0;
    } else if (it->mode == NACK_FATAL) {
        model_die(pos, x);
    } else if (it->mode == NACK_FAIL) {
        model_fail(t, pos, x, e->time_ms, it->delay_ms);
    } else {
        x->deliveries -= x->deliveries > 0;
        model_set_out(pos, x, false);
        x->not_before_ms = e->time_ms + (it->delay_ms == SETTLE_DELAY_DEFAULT ? 0 : it->delay_ms);
    }
}

/* Q6: accepted if and only if it is the newest delivery, under the position's generation, and its time is not over. */
static void on_settle(struct entry_of *e, struct reader *r, struct reader *reply)
{
    struct queue_settle q;
    uint32_t number, group, n = reader_u32(reply);
    struct model_topic *t = queue_get_settle(r, &q) ? model_topic_of(e->s, q.topic, &number) : NULL;
    if (t == NULL || (group = group_number(q.group)) == QSIM_NONE || n != q.n) {
        return;
    }
    struct reader items = reader_of(q.items);
    for (uint32_t i = 0; i < n && !e->s->failed; i++) {
        struct settle_item it;
        queue_get_settle_item(&items, &it);
        uint8_t st = reader_u8(reply);
        struct model_partition *p = it.receipt.partition < t->config.partitions ? &t->parts[it.receipt.partition] : NULL;
        if (p == NULL || p->group != e->group || it.receipt.offset >= p->count) {
            continue;
        }
        struct model_position *pos = &p->positions[group];
        struct model_pend *x = model_pend(pos, it.receipt.offset);
        bool ok = x->state == MODEL_OUT && x->delivery == it.receipt.delivery && x->generation == it.receipt.generation &&
                  pos->generation == it.receipt.generation;
        TRACE(e->s, "group %u index %llu: %s:%u:%llu g%u delivery %llu settle %u.%u: %u", e->group, (unsigned long long)e->index, t->name,
              it.receipt.partition, (unsigned long long)it.receipt.offset, group, (unsigned long long)it.receipt.delivery, it.kind, it.mode, st);
        if (!ok && x->delivery == it.receipt.delivery && pos->generation != it.receipt.generation) {
            x->seen = false; /* Q13: its partition went to another member meanwhile, which may have it again */
        }
        if (ok != (st == SETTLE_OK)) {
            sim_fail(e->s, "Q6: settling (%u) delivery %llu of %s:%u:%llu for g%u is %s: state %u, newest delivery %llu, generation %llu, position's %llu",
                     it.kind, (unsigned long long)it.receipt.delivery, t->name, it.receipt.partition, (unsigned long long)it.receipt.offset, group,
                     ok ? "refused" : "accepted", x->state, (unsigned long long)x->delivery, (unsigned long long)it.receipt.generation,
                     (unsigned long long)pos->generation);
        } else if (ok) {
            settle_ok(e, t, pos, x, &it);
        }
    }
}

static void on_release(struct entry_of *e, struct reader *r)
{
    struct queue_release o;
    uint32_t number, group;
    struct model_topic *t = queue_get_release(r, &o) ? model_topic_of(e->s, o.topic, &number) : NULL;
    if (t == NULL || (group = group_number(o.group)) == QSIM_NONE) {
        return;
    }
    uint64_t consumer = hash_bytes(3, o.consumer);
    for (uint32_t k = 0; k < t->config.partitions; k++) {
        struct model_partition *p = &t->parts[k];
        struct model_position *pos = &p->positions[group];
        for (uint64_t i = 0; p->group == e->group && i < p->count && i < pos->cap; i++) {
            struct model_pend *x = &pos->pends[i];
            if (x->state == MODEL_OUT && x->consumer == consumer) {
                x->deliveries -= x->deliveries > 0;
                model_set_out(pos, x, false);
                x->not_before_ms = 0;
            }
        }
        if (p->group == e->group && pos->owner == consumer) {
            pos->owner = 0;
        }
    }
}

static void on_redrive(struct entry_of *e, struct reader *r, struct reader *reply, uint8_t code)
{
    struct queue_redrive o;
    uint32_t number, group;
    uint64_t n = 0;
    struct model_topic *t = queue_get_redrive(r, &o) ? model_topic_of(e->s, o.topic, &number) : NULL;
    if (t == NULL || (group = group_number(o.group)) == QSIM_NONE || code != QUEUE_DONE) {
        return;
    }
    for (uint32_t k = 0; k < t->config.partitions; k++) {
        struct model_position *pos = &t->parts[k].positions[group];
        for (uint64_t i = 0; t->parts[k].group == e->group && i < t->parts[k].count && n < o.count; i++) {
            struct model_pend *x = model_pend(pos, i);
            if (x->state == MODEL_DEAD) {
                model_set_out(pos, x, false);
                x->deliveries = 0;
                x->not_before_ms = 0;
                x->redriven = true;
                n++;
            }
        }
    }
    uint64_t said = reader_u64(reply);
    if (said != n) {
        sim_fail(e->s, "Q8: %llu dead messages of %s for g%u are redriven, %llu were dead", (unsigned long long)said, t->name, group, (unsigned long long)n);
    }
}

/* R15: the answer of a request is repeated, its operation is not. */
static bool answered_before(struct sim *s, uint32_t group, const struct queue_head *h, slice_t reply)
{
    struct sim_queue *q = s->queue;
    uint64_t key = hash_u64(h->req.origin ^ hash_u64(h->req.seq << 8 ^ group));
    uint64_t *was = model_slot(&q->answered, &q->answered_cap, &q->answered_count, key), hash = hash_bytes(2, reply) | 1;
    if (*was == 0) {
        *was = hash;
        return false;
    }
    if (*was != hash) {
        sim_fail(s, "K10: request %llu of group %u was answered anew", (unsigned long long)h->req.seq, group);
    }
    return true;
}

static void check_entry(struct entry_of *e, const struct queue_head *h, struct reader *r, const struct queue_out *out, uint32_t first)
{
    const struct queue_result *res = &out->results[first];
    slice_t reply = slice_of(out->replies.ptr + res->reply_off, res->reply_len);
    if (!res->again && answered_before(e->s, e->group, h, reply)) {
        return;
    }
    struct reader rd = reader_of(reply);
    uint8_t code = reader_u8(&rd);
    switch (h->kind) {
    case QUEUE_OP_OPEN: on_open(e, r); break;
    case QUEUE_OP_PUBLISH: on_publish(e, r, &rd, out); break;
    case QUEUE_OP_CLAIM: on_claim(e, r, &rd, code); break;
    case QUEUE_OP_SETTLE: on_settle(e, r, &rd); break;
    case QUEUE_OP_RELEASE: on_release(e, r); break;
    case QUEUE_OP_REDRIVE: on_redrive(e, r, &rd, code); break;
    default: break;
    }
}

/* Only who applies an entry first is looked at; the others must end with the same digest (R5). */
void queue_check_applied(void *arg, uint32_t group, uint64_t index, uint64_t time_ms, slice_t op, const struct queue_out *out, uint32_t first)
{
    struct sim_node *n = arg;
    struct sim *s = n->sim;
    struct entry_of e = {s, group, index, time_ms};
    struct reader r = reader_of(op);
    struct queue_head h;
    if (index != s->canon[group].count + 1 || s->failed || !queue_get_head(&r, &h)) {
        return;
    }
    model_due(s, group, time_ms);
    if (out->n_results > first) {
        check_entry(&e, &h, &r, out, first);
    }
    if (!s->failed && ++s->queue->entries % 16 == 0) {
        model_compare(s, n, group);
    }
}

/* Q5: a partition has one member in a generation. */
static void check_assignment(struct sim *s, uint64_t topic, slice_t group, slice_t consumer, struct reader *r)
{
    struct sim_queue *q = s->queue;
    uint64_t generation = reader_u64(r);
    uint32_t n = reader_u32(r);
    for (uint32_t i = 0; i < n && r->ok; i++) {
        uint32_t partition = reader_u32(r);
        uint64_t since = reader_u64(r), who = hash_bytes(3, consumer) | 1;
        uint64_t key = hash_u64(topic ^ hash_u64(hash_bytes(5, group) ^ hash_u64((uint64_t)partition << 40 ^ since)));
        uint64_t *was = model_slot(&q->owners, &q->owners_cap, &q->owners_count, key);
        if ((*was != 0 && *was != who) || since > generation) {
            sim_fail(s, "Q5: partition %u of topic %llu has two members in generation %llu", partition, (unsigned long long)topic,
                     (unsigned long long)since);
            return;
        }
        *was = who;
        TRACE(s, "topic %llu %.*s: %.*s has %u since %llu", (unsigned long long)topic, (int)group.len, (const char *)group.ptr, (int)consumer.len,
              (const char *)consumer.ptr, partition, (unsigned long long)since);
    }
}

void topics_check_applied(void *arg, uint64_t index, slice_t op, const struct topics_out *out, uint32_t first)
{
    struct sim_node *n = arg;
    struct topic_head h;
    struct reader r = reader_of(op);
    if (index != n->sim->canon[0].count + 1 || !topic_get_head(&r, &h) || h.kind != TOPIC_OP_JOIN || out->n_results <= first) {
        return;
    }
    struct reader rd = reader_of(slice_of(out->replies.ptr + out->results[first].reply_off, out->results[first].reply_len));
    reader_u8(&rd);
    uint32_t members = reader_u32(&rd);
    reader_u32(&r);
    for (uint32_t i = 0; i < members && rd.ok && r.ok; i++) {
        uint64_t topic = reader_u64(&r);
        slice_t group = reader_bytes(&r), consumer = reader_bytes(&r);
        reader_take(&r, 16);
        if (reader_u8(&rd) == TOPIC_DONE) {
            check_assignment(n->sim, topic, group, consumer, &rd);
        }
    }
}
