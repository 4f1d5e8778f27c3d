/* Deliveries: CLAIM (CONSUME, XREADGROUP) and TAKE (XCLAIM, XAUTOCLAIM).
 *
 * Invariants: Q4 first deliveries of a partition are in the order of offsets, and of a key at most one message is out; Q5 a partition is served
 * to one member of one generation, a message has one live delivery; Q7 each delivery counts one. What cannot be delivered yet is put aside
 * as a pend, and `next` goes on: one stuck key stops no other. A position at its bound takes nothing new. */
#include "nodes/queue/queue_internal.h"

#include "utils/hash.h"

struct claiming {
    const struct queue_claim *op;
    struct buf *out;
    uint32_t left, n;
    struct position *pos;
    struct consumer *consumer;
    struct id_cursor ids;
    uint64_t deadline_ms;  /* UINT64_MAX: none */
    uint64_t visibility_ms;
};

bool pend_exhausted(const struct pend *r)
{
    uint32_t max = r->pos->part->topic->config.max_deliver;
    return max > 0 && r->deliveries >= max + (MUTANT("Q8") ? 1 : 0);
}

static void count_delivery(struct queue_sm *sm, struct position *pos, struct stream_id id, bool again)
{
    pos->delivered++;
    pos->redelivered += again;
    sm->stats.delivered++;
    sm->stats.redelivered += again;
    pos->last_id = stream_id_cmp(id, pos->last_id) > 0 ? id : pos->last_id;
}

static void put_delivery(struct claiming *cl, uint64_t offset, uint64_t delivery, uint32_t deliveries, struct stream_id id)
{
    struct receipt receipt = {cl->pos->part->number, cl->pos->generation, offset, delivery};
    queue_put_delivery(cl->out, &(struct delivery){receipt, deliveries, id});
    cl->consumer->active_ms = cl->consumer->seen_ms;
    cl->n++;
    cl->left--;
}

/* r is PEND_NEW and holds its key. */
static void deliver(struct queue_sm *sm, struct claiming *cl, struct pend *r)
{
    bool again = r->deliveries > 0;
    r->deliveries += MUTANT("Q7") && again ? 0 : 1;
    r->delivery = ++cl->pos->part->deliveries;
    r->generation = cl->pos->generation;
    r->delivered_ms = sm->time_ms;
    r->visibility_ms = cl->visibility_ms;
    r->not_before_ms = 0;
    count_delivery(sm, cl->pos, r->id, again);
    put_delivery(cl, r->offset, r->delivery, r->deliveries, r->id);
    if (cl->op->no_ack) {
        pend_drop_key(sm, r);
        pend_free(sm, r);
    } else {
        pend_set_in_flight(sm, r, cl->consumer, cl->deadline_ms);
    }
}

static void claim_available(struct queue_sm *sm, struct claiming *cl)
{
    struct pend *r;
    while (cl->left > 0 && (r = tree_from(cl->pos->available, 0)) != NULL) {
        if (cl->pos->part->topic->config.stream && part_deleted(cl->pos->part, r->offset)) {
            pend_done(sm, r);
        } else if (pend_exhausted(r)) { /* the limit was lowered meanwhile */
            pend_die(sm, r, SLICE_LIT("delivery limit"));
        } else {
            pend_leave(sm, r);
            deliver(sm, cl, r);
        }
    }
}

/* The message at pos->next, which has no pend: delivered, or put aside. */
static void claim_next(struct queue_sm *sm, struct claiming *cl)
{
    struct position *pos = cl->pos;
    struct partition *p = pos->part;
    uint64_t offset = pos->next++;
    struct stream_id id = ids_get(&p->ids, &cl->ids, offset);
    const struct delayed *d = p->n_delayed > 0 ? part_delayed(p, offset) : NULL;
    uint32_t key = p->topic->config.ordered ? *(uint32_t *)vec_at(&p->keys, offset - p->floor, sizeof(uint32_t)) : 0;
    if (cl->op->no_ack && d == NULL && key == 0) {
        count_delivery(sm, pos, id, false);
        put_delivery(cl, offset, ++p->deliveries, 1, id);
        return;
    }
    struct pend *r = pend_new(sm, pos, offset, id);
    r->not_before_ms = d != NULL ? d->due.timer.at_ms : 0;
    if (!pend_take_key(sm, r, key)) {
        return;
    }
    if (d != NULL) {
        pend_set_waiting(sm, r);
    } else {
        deliver(sm, cl, r);
    }
}

/* XCLAIM FORCE, or XGROUP SETID backwards: the message at pos->next is pending already. Redis gives it to the new reader. */
static void claim_again(struct queue_sm *sm, struct claiming *cl, struct pend *r)
{
    cl->pos->next++;
    if (r->state == PEND_IN_FLIGHT) {
        pend_leave(sm, r);
        r->deliveries = 0;
        deliver(sm, cl, r);
    }
}

static bool position_full(const struct position *pos)
{
    return position_unsettled(pos) >= LIMIT_PENDING_PER_POSITION || pos->n_dead >= LIMIT_DEAD_PER_POSITION;
}

static void claim_new(struct queue_sm *sm, struct claiming *cl)
{
    struct position *pos = cl->pos;
    struct partition *p = pos->part;
    size_t hole = part_erased_from(p, pos->next);
    uint64_t last = list_empty(&pos->pends) ? 0 : CONTAINER_OF(pos->pends.prev, struct pend, all)->offset;
    bool ahead = !list_empty(&pos->pends) && last >= pos->next;
    uint64_t before = pos->next;
    while (cl->left > 0 && pos->next < p->end && !position_full(pos)) {
        struct pend *r = ahead && pos->next <= last ? pend_find(pos, pos->next) : NULL;
        if (hole < p->erased.len && *(uint64_t *)vec_at(&p->erased, hole, sizeof(uint64_t)) == pos->next) {
            hole++;
            pos->next++;
        } else if (r != NULL) {
            claim_again(sm, cl, r);
        } else {
            claim_next(sm, cl);
        }
    }
    if (pos->next != before) {
        part_dirty(sm, p);
    }
}

/* Takes the position over under a newer generation; false: refused, *least is what it takes (S50, S51). Streams have no owners. */
static bool claim_generation(struct position *pos, struct consumer *c, uint64_t generation, uint64_t *least)
{
    if (pos->part->topic->config.stream || MUTANT("S50")) {
        return true;
    }
    bool other = generation > 0 && generation == pos->generation && pos->owner != NULL && pos->owner != c;
    if (generation < pos->generation || other) {
        *least = other ? generation + 1 : pos->generation;
        return false;
    }
    struct consumer *former = pos->owner;
    pos->generation = generation;
    pos->owner = c;
    consumer_rest(pos, former);
    return true;
}

static struct consumer *claim_consumer(struct queue_sm *sm, struct position *pos, slice_t name)
{
    struct consumer *c = consumer_find(sm, pos, name);
    if (c == NULL && pos->n_consumers >= LIMIT_CONSUMERS_PER_POSITION) {
        return NULL;
    }
    c = c != NULL ? c : consumer_get(sm, pos, name);
    c->seen_ms = sm->time_ms;
    return c;
}

/* What a claim met at its partitions, when it brings nothing back. */
struct claim_refusal {
    enum queue_code code;  /* DONE: none refused it */
    uint64_t least;
    const char *limit;
};

static void claim_part(struct queue_sm *sm, struct claiming *cl, struct topic *t, struct claim_part part, struct claim_refusal *no)
{
    struct partition *p = topic_part(t, part.partition);
    if (p == NULL) {
        no->code = QUEUE_NO_TOPIC;
        return;
    }
    struct position *pos = position_find(sm, p, cl->op->group);
    if (pos == NULL && t->config.stream) {
        no->code = QUEUE_NO_GROUP;
        return;
    }
    if (pos == NULL && p->n_positions >= LIMIT_GROUPS_PER_PARTITION) {
        *no = (struct claim_refusal){.code = QUEUE_LIMIT, .limit = "consumer groups of a partition"};
        return;
    }
    queue_snap_touch(sm, p);
    if (pos == NULL) {
        pos = position_new(sm, p, cl->op->group);
        position_adopt(sm, pos);
    }
    struct consumer *c = claim_consumer(sm, pos, cl->op->consumer);
    if (c == NULL) {
        *no = (struct claim_refusal){.code = QUEUE_LIMIT, .limit = "consumers of a group"};
        return;
    }
    if (!claim_generation(pos, c, part.generation, &no->least)) {
        no->code = QUEUE_OLD_GENERATION;
        consumer_rest(pos, c);
        return;
    }
    cl->pos = pos;
    cl->consumer = c;
    cl->ids = (struct id_cursor){0};
    claim_available(sm, cl);
    claim_new(sm, cl);
}

/* A claim that brings nothing: refused when any of its partitions refused it, else parked again by whoever asks. */
static void claim_empty(struct queue_sm *sm, size_t reply, const struct claim_refusal *no)
{
    struct buf *out = &sm->out->replies;
    if (no->code == QUEUE_DONE) {
        sm->out->results[sm->out->n_results - 1].again = true;
        return;
    }
    out->len = reply;
    buf_put_u8(out, (uint8_t)no->code);
    if (no->code == QUEUE_OLD_GENERATION) {
        buf_put_u64(out, no->least);
    } else if (no->code == QUEUE_LIMIT) {
        buf_append_str(out, no->limit);
    }
}

void queue_op_claim(struct queue_sm *sm, struct reader *r)
{
    struct queue_claim c;
    if (!queue_get_claim(r, &c)) {
        sm->stats.refused_malformed++;
        return;
    }
    struct topic *t = topic_find(sm, c.topic);
    if (t == NULL) {
        queue_reply(sm, QUEUE_NO_TOPIC);
        return;
    }
    size_t reply = sm->out->replies.len;
    struct claiming cl = {.op = &c, .out = queue_reply(sm, QUEUE_DONE)};
    sm->out->results[sm->out->n_results - 1].topic = c.topic;
    cl.left = c.count < LIMIT_CLAIM_MESSAGES ? c.count : LIMIT_CLAIM_MESSAGES;
    cl.visibility_ms = c.visibility_ms > 0 ? c.visibility_ms : t->config.visibility_ms;
    cl.deadline_ms = cl.visibility_ms > 0 ? add_sat(sm->time_ms, cl.visibility_ms / (MUTANT("Q5") ? 2 : 1)) : UINT64_MAX;
    struct claim_refusal no = {0};
    size_t count = cl.out->len;
    buf_put_u32(cl.out, 0);
    for (uint32_t i = 0; i < c.n_parts; i++) { /* also when nothing is left to take: each begins, or is taken over, now */
        uint32_t at = (uint32_t)(((uint64_t)c.rotate + i) % c.n_parts);
        const uint8_t *part = c.parts.ptr + (size_t)at * 12;
        claim_part(sm, &cl, t, (struct claim_part){le32_get(part), le64_get(part + 4)}, &no);
    }
    le32_put(cl.out->ptr + count, cl.n);
    if (cl.n == 0) {
        claim_empty(sm, reply, &no);
    }
}

/* True when a claim at this position would be answered now, or would make or take over the position. */
static bool part_available(const struct queue_sm *sm, const struct topic *t, const struct queue_claim *c, struct claim_part part)
{
    const struct partition *p = topic_part(t, part.partition);
    const struct position *pos = p != NULL ? position_find(sm, p, c->group) : NULL;
    if (pos == NULL) {
        return true;
    }
    const struct consumer *owner = pos->owner;
    bool other = part.generation > 0 && owner != NULL && !slice_eq(consumer_name(owner), c->consumer);
    if (!t->config.stream && (part.generation != pos->generation || other)) {
        return true;
    }
    return pos->n_available > 0 || (pos->next < p->end && !position_full(pos));
}

bool queue_sm_available(const struct queue_sm *sm, const struct queue_claim *c)
{
    const struct topic *t = topic_find(sm, c->topic);
    if (t == NULL) {
        return true;
    }
    for (uint32_t i = 0; i < c->n_parts; i++) {
        const uint8_t *part = c->parts.ptr + (size_t)i * 12;
        if (part_available(sm, t, c, (struct claim_part){le32_get(part), le64_get(part + 4)})) {
            return true;
        }
    }
    return false;
}

/* TAKE: a pend of a PEL that is no longer in flight under its deadline counts as pending too; never delivered or dead ones do not. */
static bool takeable(const struct queue_sm *sm, const struct queue_take *o, const struct pend *r)
{
    bool pending = r->state == PEND_IN_FLIGHT || ((r->state == PEND_AVAILABLE || r->state == PEND_WAITING) && r->deliveries > 0);
    return pending && (o->min_idle_ms == 0 || sm->time_ms - r->delivered_ms >= o->min_idle_ms);
}

static void take_one(struct queue_sm *sm, struct claiming *cl, const struct queue_take *o, struct pend *r)
{
    struct consumer *former = r->consumer;
    pend_leave(sm, r);
    if (o->retries != UINT32_MAX) {
        r->deliveries = o->retries;
    } else {
        r->deliveries += o->just_id ? 0 : 1;
    }
    r->delivery = ++cl->pos->part->deliveries;
    r->generation = cl->pos->generation;
    r->delivered_ms = sm->time_ms - (o->idle_ms == UINT64_MAX ? 0 : o->idle_ms);
    r->visibility_ms = cl->visibility_ms;
    pend_set_in_flight(sm, r, cl->consumer, cl->deadline_ms);
    put_delivery(cl, r->offset, r->delivery, r->deliveries, r->id);
    consumer_rest(cl->pos, former);
}

/* XCLAIM FORCE: makes a pend of a message that has none; PEND_NEW. */
static struct pend *take_forced(struct queue_sm *sm, struct claiming *cl, const struct queue_take *o, uint64_t offset)
{
    struct partition *p = cl->pos->part;
    if (!o->force || offset >= p->end || part_deleted(p, offset) || position_full(cl->pos) || !p->topic->config.stream) {
        return NULL;
    }
    struct pend *r = pend_new(sm, cl->pos, offset, ids_get(&p->ids, &cl->ids, offset));
    part_dirty(sm, p);
    return r;
}

static void take_listed(struct queue_sm *sm, struct claiming *cl, const struct queue_take *o, struct buf *gone)
{
    for (uint32_t i = 0; i < o->n && cl->left > 0; i++) {
        uint64_t offset = slice_u64_at(o->offsets, i);
        struct pend *r = pend_find(cl->pos, offset);
        if (r != NULL && part_deleted(cl->pos->part, offset) && cl->pos->part->topic->config.stream) {
            pend_done(sm, r);
            buf_put_u64(gone, offset);
        } else if (r != NULL && takeable(sm, o, r)) {
            take_one(sm, cl, o, r);
        } else if (r == NULL && (r = take_forced(sm, cl, o, offset)) != NULL) {
            take_one(sm, cl, o, r);
        }
    }
}

/* Returns where to go on; UINT64_MAX: the end. Redis looks at ten times as many as it wants. */
static uint64_t take_scan(struct queue_sm *sm, struct claiming *cl, const struct queue_take *o, struct buf *gone)
{
    struct position *pos = cl->pos;
    uint64_t tries = (uint64_t)o->count * 10;
    list_each_safe(it, &pos->pends) {
        struct pend *r = CONTAINER_OF(it, struct pend, all);
        if (r->offset < o->from) {
            continue;
        }
        if (cl->left == 0 || tries-- == 0) {
            return r->offset;
        }
        if (pos->part->topic->config.stream && part_deleted(pos->part, r->offset)) {
            buf_put_u64(gone, r->offset);
            pend_done(sm, r);
            cl->left--;
        } else if (takeable(sm, o, r)) {
            take_one(sm, cl, o, r);
        }
    }
    return UINT64_MAX;
}

void queue_op_take(struct queue_sm *sm, struct reader *r)
{
    struct queue_take o;
    if (!queue_get_take(r, &o)) {
        sm->stats.refused_malformed++;
        return;
    }
    struct partition *p = part_or_refuse(sm, o.topic, o.partition);
    if (p == NULL) {
        return;
    }
    struct position *pos = position_find(sm, p, o.group);
    struct consumer *c = pos != NULL ? claim_consumer(sm, pos, o.consumer) : NULL;
    if (c == NULL) {
        if (pos == NULL) {
            queue_reply(sm, QUEUE_NO_GROUP);
        } else {
            queue_reply_limit(sm, "consumers of a group");
        }
        return;
    }
    struct claiming cl = {.out = queue_reply(sm, QUEUE_DONE), .pos = pos, .consumer = c};
    sm->out->results[sm->out->n_results - 1].topic = o.topic;
    cl.left = o.n > 0 ? o.n : o.count < LIMIT_CLAIM_MESSAGES ? o.count : LIMIT_CLAIM_MESSAGES;
    cl.visibility_ms = p->topic->config.visibility_ms;
    cl.deadline_ms = cl.visibility_ms > 0 ? add_sat(sm->time_ms, cl.visibility_ms) : UINT64_MAX;
    size_t at = cl.out->len;
    struct buf gone = {0};
    buf_put_u64(cl.out, UINT64_MAX);
    buf_put_u32(cl.out, 0);
    c->held = true;
    if (o.n > 0) {
        take_listed(sm, &cl, &o, &gone);
    } else {
        uint64_t next = take_scan(sm, &cl, &o, &gone);
        le64_put(cl.out->ptr + at, next);
    }
    c->held = false;
    consumer_rest(pos, c);
    le32_put(cl.out->ptr + at + 8, cl.n);
    buf_put_u32(cl.out, (uint32_t)(gone.len / 8));
    buf_append_slice(cl.out, buf_slice(&gone));
    buf_fini(&gone);
}
