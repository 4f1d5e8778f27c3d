/* Positions: what one consumer group has taken up of one partition and not done, and the states a message goes through there.
 *
 *   (backlog) -> IN_FLIGHT -> done
 *   (backlog) -> WAITING or BLOCKED -> AVAILABLE -> IN_FLIGHT; IN_FLIGHT -> WAITING or AVAILABLE; IN_FLIGHT -> DEAD -> AVAILABLE (redriven)
 *
 * Invariants: every message below `next` that has no pend is done for this group; a pend is in exactly the lists of its state; Q4 of a
 * key at most one pend is not BLOCKED (the chain's active one) unless it is dead; Q8 dead is a state, so a message is dead or in its queue, never
 * both. */
#include "nodes/queue/queue_internal.h"

#include "utils/hash.h"

static bool position_eq(const struct map_node *n, const void *key)
{
    return slice_eq(position_name(CONTAINER_OF(n, struct position, by_name)), *(const slice_t *)key);
}

static bool consumer_eq(const struct map_node *n, const void *key)
{
    return slice_eq(consumer_name(CONTAINER_OF(n, struct consumer, by_name)), *(const slice_t *)key);
}

static bool pend_eq(const struct map_node *n, const void *key)
{
    return CONTAINER_OF(n, struct pend, by_offset)->offset == *(const uint64_t *)key;
}

static bool chain_eq(const struct map_node *n, const void *key)
{
    return CONTAINER_OF(n, struct key_chain, by_key)->key == *(const uint32_t *)key;
}

struct position *position_find(const struct queue_sm *sm, const struct partition *p, slice_t name)
{
    struct map_node *n = map_find((struct map *)&p->positions, hash_bytes(sm->opt.hash_key, name), &name, position_eq);
    return n != NULL ? CONTAINER_OF(n, struct position, by_name) : NULL;
}

struct position *position_new(struct queue_sm *sm, struct partition *p, slice_t name)
{
    struct position *pos = calloc(1, sizeof *pos + name.len);
    syn_assert(pos != NULL);
    pos->part = p;
    pos->serial = sm->next_serial++;
    pos->next = p->floor;
    pos->name_len = (uint16_t)name.len;
    memcpy(pos->name, name.ptr, name.len);
    map_init(&pos->pends_by_offset);
    map_init(&pos->keys);
    map_init(&pos->consumers_by_name);
    list_init(&pos->pends);
    list_init(&pos->consumers);
    map_insert(&p->positions, &pos->by_name, hash_bytes(sm->opt.hash_key, name));
    list_push_back(&p->positions_all, &pos->all);
    p->n_positions++;
    return pos;
}

/* Its group has not seen r, which another one has: an own pend of the same message. */
static void adopt(struct queue_sm *sm, struct position *pos, const struct pend *r)
{
    if (pend_find(pos, r->offset) == NULL && !part_erased(pos->part, r->offset)) {
        struct pend *mine = pend_new(sm, pos, r->offset, r->id);
        mine->not_before_ms = r->delivery == 0 ? r->not_before_ms : 0;
        mine->key = r->key;
    }
}

void position_adopt(struct queue_sm *sm, struct position *pos)
{
    struct partition *p = pos->part;
    if (p->topic->config.stream || topic_is_log(p->topic) || p->start == p->floor) {
        return;
    }
    list_each(it, &p->positions_all) {
        struct position *other = CONTAINER_OF(it, struct position, all);
        for (struct list *in = other->pends.next; other != pos && in != &other->pends; in = in->next) {
            const struct pend *r = CONTAINER_OF(in, struct pend, all);
            if (r->offset >= p->floor) {
                break;
            }
            adopt(sm, pos, r);
        }
    }
    position_ready_new(sm, pos); /* only now: one group holds what another has done (Q4) */
}

void position_ready_new(struct queue_sm *sm, struct position *pos)
{
    list_each(it, &pos->pends) {
        struct pend *r = CONTAINER_OF(it, struct pend, all);
        if (r->state == PEND_NEW && pend_take_key(sm, r, r->key)) { /* what is dead stays so */
            pend_ready(sm, r);
        }
    }
}

void position_free(struct queue_sm *sm, struct position *pos)
{
    while (!list_empty(&pos->pends)) { /* from the back: nobody behind it in its key becomes ready */
        struct pend *r = CONTAINER_OF(pos->pends.prev, struct pend, all);
        pend_leave(sm, r);
        if (r->chain != NULL) {
            r->chain->active = r->chain->active == r ? NULL : r->chain->active;
            pend_drop_key(sm, r);
        }
        pend_free(sm, r);
    }
    list_each_safe(it, &pos->consumers) {
        consumer_free(pos, CONTAINER_OF(it, struct consumer, all));
    }
    map_fini(&pos->pends_by_offset);
    map_fini(&pos->keys);
    map_fini(&pos->consumers_by_name);
    map_remove(&pos->part->positions, &pos->by_name);
    list_remove(&pos->all);
    pos->part->n_positions--;
    free(pos);
}

struct consumer *consumer_find(const struct queue_sm *sm, const struct position *pos, slice_t name)
{
    struct map_node *n = map_find((struct map *)&pos->consumers_by_name, hash_bytes(sm->opt.hash_key, name), &name, consumer_eq);
    return n != NULL ? CONTAINER_OF(n, struct consumer, by_name) : NULL;
}

struct consumer *consumer_get(struct queue_sm *sm, struct position *pos, slice_t name)
{
    struct consumer *c = consumer_find(sm, pos, name);
    if (c != NULL) {
        return c;
    }
    c = calloc(1, sizeof *c + name.len);
    syn_assert(c != NULL);
    c->seen_ms = sm->time_ms;
    c->active_ms = UINT64_MAX;
    c->name_len = (uint16_t)name.len;
    memcpy(c->name, name.ptr, name.len);
    list_init(&c->pends);
    map_insert(&pos->consumers_by_name, &c->by_name, hash_bytes(sm->opt.hash_key, name));
    list_push_back(&pos->consumers, &c->all);
    pos->n_consumers++;
    return c;
}

void consumer_free(struct position *pos, struct consumer *c)
{
    syn_assert(c->n_pends == 0 && list_empty(&c->pends));
    pos->owner = pos->owner == c ? NULL : pos->owner;
    map_remove(&pos->consumers_by_name, &c->by_name);
    list_remove(&c->all);
    pos->n_consumers--;
    free(c);
}

void consumer_rest(struct position *pos, struct consumer *c)
{
    if (c != NULL && c->n_pends == 0 && !c->held && pos->owner != c && !pos->part->topic->config.stream) {
        consumer_free(pos, c);
    }
}

struct pend *pend_find(const struct position *pos, uint64_t offset)
{
    struct map_node *n = map_find((struct map *)&pos->pends_by_offset, hash_u64(offset), &offset, pend_eq);
    return n != NULL ? CONTAINER_OF(n, struct pend, by_offset) : NULL;
}

static struct pend *pend_alloc(struct queue_sm *sm)
{
    if (sm->free_pends == NULL) {
        struct pend_slab *s = malloc(sizeof *s);
        syn_assert(s != NULL);
        s->next = sm->slabs;
        sm->slabs = s;
        sm->n_slabs++;
        for (int i = PENDS_PER_SLAB - 1; i >= 0; i--) {
            s->pends[i].left = sm->free_pends;
            sm->free_pends = &s->pends[i];
        }
    }
    struct pend *r = sm->free_pends;
    sm->free_pends = r->left;
    return r;
}

struct pend *pend_new(struct queue_sm *sm, struct position *pos, uint64_t offset, struct stream_id id)
{
    struct pend *r = pend_alloc(sm);
    *r = (struct pend){.pos = pos, .offset = offset, .id = id};
    r->due.kind = QDUE_PEND;
    timer_init(&r->due.timer);
    list_init(&r->in_consumer);
    list_init(&r->in_chain);
    map_insert(&pos->pends_by_offset, &r->by_offset, hash_u64(offset));
    struct list *at = &pos->pends;
    while (at->prev != &pos->pends && CONTAINER_OF(at->prev, struct pend, all)->offset > offset) {
        at = at->prev;
    }
    list_push_back(at, &r->all);
    return r;
}

void pend_leave(struct queue_sm *sm, struct pend *r)
{
    struct position *pos = r->pos;
    switch (r->state) {
    case PEND_IN_FLIGHT:
        wheel_cancel(&sm->wheel, &r->due.timer);
        list_remove(&r->in_consumer);
        r->consumer->n_pends--;
        r->consumer = NULL;
        pos->n_in_flight--;
        sm->stats.in_flight--;
        break;
    case PEND_AVAILABLE:
        tree_remove(&pos->available, r);
        pos->n_available--;
        break;
    case PEND_WAITING:
        wheel_cancel(&sm->wheel, &r->due.timer);
        pos->n_waiting--;
        break;
    case PEND_BLOCKED: pos->n_waiting--; break;
    case PEND_DEAD:
        tree_remove(&pos->dead, r);
        free(r->note);
        r->note = NULL;
        pos->n_dead--;
        sm->stats.dead--;
        break;
    default: break;
    }
    r->state = PEND_NEW;
}

void pend_free(struct queue_sm *sm, struct pend *r)
{
    struct position *pos = r->pos;
    syn_assert(r->state == PEND_NEW && r->chain == NULL && r->note == NULL);
    if (pos->pends.next == &r->all) {
        part_dirty(sm, pos->part);
    }
    map_remove(&pos->pends_by_offset, &r->by_offset);
    list_remove(&r->all);
    r->left = sm->free_pends;
    sm->free_pends = r;
}

void pend_set_in_flight(struct queue_sm *sm, struct pend *r, struct consumer *c, uint64_t deadline_ms)
{
    syn_assert(r->state == PEND_NEW);
    r->state = PEND_IN_FLIGHT;
    r->consumer = c;
    c->n_pends++;
    list_push_back(&c->pends, &r->in_consumer);
    r->pos->n_in_flight++;
    sm->stats.in_flight++;
    if (deadline_ms != UINT64_MAX) {
        wheel_set(&sm->wheel, &r->due.timer, deadline_ms);
    }
}

void pend_set_available(struct pend *r)
{
    syn_assert(r->state == PEND_NEW);
    r->state = PEND_AVAILABLE;
    tree_add(&r->pos->available, r);
    r->pos->n_available++;
}

void pend_set_waiting(struct queue_sm *sm, struct pend *r)
{
    syn_assert(r->state == PEND_NEW);
    r->state = PEND_WAITING;
    wheel_set(&sm->wheel, &r->due.timer, r->not_before_ms);
    r->pos->n_waiting++;
}

void pend_set_blocked(struct pend *r)
{
    syn_assert(r->state == PEND_NEW && r->chain != NULL);
    r->state = PEND_BLOCKED;
    r->pos->n_waiting++;
}

void pend_set_dead(struct queue_sm *sm, struct pend *r, uint64_t wall_ms, slice_t reason)
{
    syn_assert(r->state == PEND_NEW && r->chain == NULL);
    r->state = PEND_DEAD;
    r->note = malloc(sizeof *r->note + reason.len);
    syn_assert(r->note != NULL);
    r->note->wall_ms = wall_ms;
    r->note->len = (uint32_t)reason.len;
    if (reason.len > 0) {
        memcpy(r->note->reason, reason.ptr, reason.len);
    }
    tree_add(&r->pos->dead, r);
    r->pos->n_dead++;
    sm->stats.dead++;
}

struct key_chain *chain_get(struct queue_sm *sm, struct position *pos, uint32_t key)
{
    struct map_node *n = map_find(&pos->keys, hash_u64(key), &key, chain_eq);
    if (n != NULL) {
        return CONTAINER_OF(n, struct key_chain, by_key);
    }
    struct key_chain *ch = sm->free_chains;
    if (ch != NULL) {
        sm->free_chains = ch->next_free;
    } else {
        ch = malloc(sizeof *ch);
        syn_assert(ch != NULL);
    }
    *ch = (struct key_chain){.key = key};
    list_init(&ch->pends);
    map_insert(&pos->keys, &ch->by_key, hash_u64(key));
    return ch;
}

void chain_insert(struct key_chain *ch, struct pend *r)
{
    struct list *at = &ch->pends;
    while (at->prev != &ch->pends && CONTAINER_OF(at->prev, struct pend, in_chain)->offset > r->offset) {
        at = at->prev;
    }
    list_push_back(at, &r->in_chain);
    r->chain = ch;
}

bool pend_take_key(struct queue_sm *sm, struct pend *r, uint32_t key)
{
    r->key = key;
    if (key == 0 || MUTANT("Q4")) {
        return true;
    }
    struct key_chain *ch = chain_get(sm, r->pos, key);
    chain_insert(ch, r);
    if (ch->active == NULL) {
        ch->active = r;
        return true;
    }
    pend_set_blocked(r);
    return false;
}

void pend_drop_key(struct queue_sm *sm, struct pend *r)
{
    struct key_chain *ch = r->chain;
    if (ch == NULL) {
        return;
    }
    list_remove(&r->in_chain);
    r->chain = NULL;
    bool was_active = ch->active == r;
    ch->active = was_active ? NULL : ch->active;
    if (list_empty(&ch->pends)) {
        map_remove(&r->pos->keys, &ch->by_key);
        ch->next_free = sm->free_chains;
        sm->free_chains = ch;
    } else if (was_active) {
        struct pend *next = CONTAINER_OF(ch->pends.next, struct pend, in_chain);
        syn_assert(next->state == PEND_BLOCKED);
        ch->active = next;
        pend_leave(sm, next);
        pend_ready(sm, next);
    }
}

void pend_ready(struct queue_sm *sm, struct pend *r)
{
    if (r->not_before_ms > sm->time_ms) {
        pend_set_waiting(sm, r);
    } else {
        pend_set_available(r);
        queue_emit_woken(sm, r->pos->part);
    }
}

void pend_done(struct queue_sm *sm, struct pend *r)
{
    struct position *pos = r->pos;
    struct consumer *c = r->consumer;
    pend_leave(sm, r);
    pend_drop_key(sm, r);
    pend_free(sm, r);
    consumer_rest(pos, c);
}

void pend_die(struct queue_sm *sm, struct pend *r, slice_t reason)
{
    struct position *pos = r->pos;
    struct consumer *c = r->consumer;
    pos->dead_lettered++;
    sm->stats.dead_lettered++;
    if (MUTANT("S54")) {
        pend_done(sm, r);
        return;
    }
    pend_leave(sm, r);
    pend_drop_key(sm, r);
    pend_set_dead(sm, r, sm->wall_ms, reason);
    consumer_rest(pos, c);
}

void pend_return(struct queue_sm *sm, struct pend *r, uint64_t not_before_ms)
{
    struct position *pos = r->pos;
    struct consumer *c = r->consumer;
    if (part_erased(pos->part, r->offset) && !pos->part->topic->config.stream) {
        pend_done(sm, r);
        return;
    }
    pend_leave(sm, r);
    r->not_before_ms = not_before_ms;
    pend_ready(sm, r);
    consumer_rest(pos, c);
}
