/* What moves or deletes by name: consumer groups (XGROUP), SEEK, TRIM (XTRIM), ERASE (XDEL), XSETID.
 *
 * Streams keep Redis' meaning: what is pending stays pending when its message is deleted or the group is moved. In a queue topic a message that is
 * deleted goes from every position that does not have it in flight, and a consumer's messages outlive the consumer (Q1). */
#include "nodes/queue/queue_internal.h"

static uint64_t seek_target(const struct partition *p, enum seek_to to, uint64_t offset)
{
    uint64_t at = to == SEEK_END ? p->end : to == SEEK_OFFSET ? offset : p->floor;
    at = at < p->floor ? p->floor : at;
    return at < p->end ? at : p->end;
}

static void group_create(struct queue_sm *sm, struct partition *p, const struct queue_group *o)
{
    if (position_find(sm, p, o->group) != NULL) {
        queue_reply(sm, QUEUE_GROUP_EXISTS);
    } else if (p->n_positions >= LIMIT_GROUPS_PER_PARTITION) {
        queue_reply_limit(sm, "consumer groups of a partition");
    } else {
        struct position *pos = position_new(sm, p, o->group);
        pos->next = seek_target(p, o->start, o->offset);
        if (pos->next > p->floor) {
            struct id_cursor c = {0};
            pos->last_id = ids_get(&p->ids, &c, pos->next - 1);
        }
        if (o->start == SEEK_BEGIN) {
            position_adopt(sm, pos);
        }
        part_dirty(sm, p);
        queue_emit_woken(sm, p);
        queue_reply_u64(sm, QUEUE_DONE, 1);
    }
}

static void group_destroy(struct queue_sm *sm, struct partition *p, struct position *pos)
{
    uint64_t pending = position_unsettled(pos);
    position_free(sm, pos);
    part_dirty(sm, p);
    queue_emit_woken(sm, p); /* whoever waits for it is to be told */
    queue_reply_u64(sm, QUEUE_DONE, pending);
}

static void consumer_delete(struct queue_sm *sm, struct position *pos, slice_t name)
{
    struct consumer *c = consumer_find(sm, pos, name);
    uint64_t pending = c != NULL ? c->n_pends : 0;
    if (c != NULL && pos->part->topic->config.stream) {
        while (!list_empty(&c->pends)) {
            pend_done(sm, CONTAINER_OF(c->pends.next, struct pend, in_consumer));
        }
        consumer_free(pos, c);
    } else if (c != NULL) {
        consumer_release(sm, pos, c);
    }
    queue_reply_u64(sm, QUEUE_DONE, pending);
}

static void consumer_create(struct queue_sm *sm, struct position *pos, slice_t name)
{
    bool there = consumer_find(sm, pos, name) != NULL;
    if (!there && pos->n_consumers >= LIMIT_CONSUMERS_PER_POSITION) {
        queue_reply_limit(sm, "consumers of a group");
        return;
    }
    consumer_get(sm, pos, name);
    queue_reply_u64(sm, QUEUE_DONE, !there);
}

void queue_op_group(struct queue_sm *sm, struct reader *r)
{
    struct queue_group o;
    if (!queue_get_group(r, &o)) {
        sm->stats.refused_malformed++;
        return;
    }
    struct partition *p = part_or_refuse(sm, o.topic, o.partition);
    if (p == NULL) {
        return;
    }
    struct position *pos = position_find(sm, p, o.group);
    if (o.action == GROUP_CREATE) {
        group_create(sm, p, &o);
    } else if (pos == NULL) {
        queue_reply(sm, QUEUE_NO_GROUP);
    } else if (o.action == GROUP_DESTROY) {
        group_destroy(sm, p, pos);
    } else if (o.action == GROUP_CREATE_CONSUMER) {
        consumer_create(sm, pos, o.consumer);
    } else {
        consumer_delete(sm, pos, o.consumer);
    }
}

/* All of a queue topic's position but what is dead and stays behind its new place, and what its new place is in front of and `next`, which
 * stops at the floor, is not: that begins anew, or nobody would get it any more (Q1, Q12). From the back: nothing becomes ready on the way. */
static void forget_pends(struct queue_sm *sm, struct position *pos, uint64_t place, uint64_t next)
{
    for (struct list *it = pos->pends.prev, *before; it != &pos->pends; it = before) {
        before = it->prev;
        struct pend *r = CONTAINER_OF(it, struct pend, all);
        if (r->state == PEND_DEAD && r->offset < next) {
            continue;
        }
        struct consumer *c = r->consumer;
        pend_leave(sm, r);
        if (r->chain != NULL) {
            r->chain->active = r->chain->active == r ? NULL : r->chain->active;
            pend_drop_key(sm, r);
        }
        if (r->offset >= place && r->offset < next) {
            r->not_before_ms = r->delivery == 0 ? r->not_before_ms : 0;
            r->deliveries = 0;
        } else {
            pend_free(sm, r);
        }
        consumer_rest(pos, c);
    }
}

void queue_op_seek(struct queue_sm *sm, struct reader *r)
{
    struct queue_seek o;
    if (!queue_get_seek(r, &o)) {
        sm->stats.refused_malformed++;
        return;
    }
    struct partition *p = part_or_refuse(sm, o.topic, o.partition);
    if (p == NULL) {
        return;
    }
    struct position *pos = position_find(sm, p, o.group);
    bool make = pos == NULL && !p->topic->config.stream && p->n_positions < LIMIT_GROUPS_PER_PARTITION;
    pos = make ? position_new(sm, p, o.group) : pos;
    if (pos == NULL) {
        queue_reply(sm, QUEUE_NO_GROUP);
        return;
    }
    uint64_t next = seek_target(p, o.to, o.offset);
    if (!p->topic->config.stream) {
        forget_pends(sm, pos, o.to == SEEK_BEGIN ? 0 : o.to == SEEK_END ? p->end : o.offset, next);
    }
    pos->next = next;
    if (o.to == SEEK_BEGIN) {
        position_adopt(sm, pos);
    }
    position_ready_new(sm, pos);
    struct id_cursor c = {0};
    pos->last_id = next > p->floor ? ids_get(&p->ids, &c, next - 1) : (struct stream_id){0, 0};
    part_dirty(sm, p);
    queue_emit_woken(sm, p);
    queue_reply_u64(sm, QUEUE_DONE, next);
}

void queue_op_trim(struct queue_sm *sm, struct reader *r)
{
    struct queue_trim o;
    if (!queue_get_trim(r, &o)) {
        sm->stats.refused_malformed++;
        return;
    }
    struct partition *p = part_or_refuse(sm, o.topic, o.partition);
    if (p != NULL) {
        queue_reply_u64(sm, QUEUE_DONE, part_raise(sm, p, o.start));
    }
}

/* In a queue topic it goes from every position that does not have it in flight. True: it was somewhere. */
static bool erase_pends(struct queue_sm *sm, struct partition *p, uint64_t offset)
{
    bool was = false;
    list_each(it, &p->positions_all) {
        struct pend *r = pend_find(CONTAINER_OF(it, struct position, all), offset);
        if (r != NULL && r->state != PEND_IN_FLIGHT) {
            pend_done(sm, r);
            was = true;
        }
    }
    return was;
}

static bool erase_one(struct queue_sm *sm, struct partition *p, uint64_t offset)
{
    bool was = !p->topic->config.stream && erase_pends(sm, p, offset);
    if (offset < p->floor || offset >= p->end || part_erased(p, offset)) {
        return was;
    }
    struct id_cursor c = {0};
    struct stream_id id = ids_get(&p->ids, &c, offset);
    p->max_deleted_id = stream_id_cmp(id, p->max_deleted_id) > 0 ? id : p->max_deleted_id;
    *(uint64_t *)vec_insert(&p->erased, part_erased_from(p, offset), sizeof(uint64_t)) = offset;
    part_dirty(sm, p);
    return true;
}

void queue_op_erase(struct queue_sm *sm, struct reader *r)
{
    struct queue_erase o;
    if (!queue_get_erase(r, &o)) {
        sm->stats.refused_malformed++;
        return;
    }
    struct partition *p = part_or_refuse(sm, o.topic, o.partition);
    if (p == NULL) {
        return;
    }
    if (p->erased.len + o.n > LIMIT_ERASED_PER_PARTITION) {
        queue_reply_limit(sm, "deleted messages of a partition");
        return;
    }
    uint64_t n = 0;
    for (uint32_t i = 0; i < o.n; i++) {
        n += erase_one(sm, p, slice_u64_at(o.offsets, i));
    }
    queue_reply_u64(sm, QUEUE_DONE, n);
}

void queue_op_set_id(struct queue_sm *sm, struct reader *r)
{
    struct queue_set_id o;
    if (!queue_get_set_id(r, &o)) {
        sm->stats.refused_malformed++;
        return;
    }
    struct partition *p = part_or_refuse(sm, o.topic, o.partition);
    if (p == NULL) {
        return;
    }
    if (stream_id_cmp(o.id, p->last_id) < 0) {
        queue_reply(sm, QUEUE_BAD_ID);
        return;
    }
    p->last_id = o.id;
    p->entries_added = o.added != UINT64_MAX ? o.added : p->entries_added;
    queue_reply(sm, QUEUE_DONE);
}
