/* Look-ins: what queries, the leader, drivers and checkers read. Nothing here changes anything that an apply could see (a map that is being
 * resized moves a bucket when it is searched, and that is all). */
#include "nodes/queue/queue_internal.h"

static const struct partition *part_find(const struct queue_sm *sm, uint64_t topic, uint32_t number)
{
    const struct topic *t = topic_find(sm, topic);
    return t != NULL ? topic_part(t, number) : NULL;
}

static const struct position *pos_find(const struct queue_sm *sm, uint64_t topic, uint32_t partition, slice_t group)
{
    const struct partition *p = part_find(sm, topic, partition);
    return p != NULL ? position_find(sm, p, group) : NULL;
}

uint64_t queue_sm_generation(const struct queue_sm *sm, uint64_t topic, uint32_t partition, slice_t group)
{
    const struct position *pos = pos_find(sm, topic, partition, group);
    return pos != NULL ? pos->generation : 0;
}

bool queue_sm_topic(const struct queue_sm *sm, uint64_t topic, struct topic_config *config, slice_t *name, uint64_t *version)
{
    const struct topic *t = topic_find(sm, topic);
    if (t == NULL) {
        return false;
    }
    if (config != NULL) {
        *config = t->config;
    }
    if (name != NULL) {
        *name = topic_name(t);
    }
    if (version != NULL) {
        *version = t->version;
    }
    return true;
}

void queue_sm_partitions(const struct queue_sm *sm, uint64_t topic, void (*fn)(void *arg, uint32_t partition), void *arg)
{
    const struct topic *t = topic_find(sm, topic);
    for (uint32_t i = 0; t != NULL && i < t->n_parts; i++) {
        fn(arg, t->parts[i]->number);
    }
}

/* The first pend of this position at or after offset, below the floor; NULL: none. */
static const struct list *pend_below(const struct position *pos, const struct list *it, uint64_t offset)
{
    for (; it != &pos->pends; it = it->next) {
        const struct pend *r = CONTAINER_OF(it, struct pend, all);
        if (r->offset >= pos->part->floor) {
            return NULL;
        }
        if (r->offset >= offset) {
            return it;
        }
    }
    return NULL;
}

/* Messages below the floor that some position still has: the positions' pends there, merged. */
static uint64_t kept_below(const struct partition *p)
{
    uint64_t n = 0;
    if (p->topic->config.stream || p->start == p->floor) {
        return 0;
    }
    if (p->n_positions == 1) {
        const struct position *pos = CONTAINER_OF(p->positions_all.next, struct position, all);
        for (const struct list *it = pend_below(pos, pos->pends.next, 0); it != NULL; it = pend_below(pos, it->next, 0)) {
            n++;
        }
        return n;
    }
    for (uint64_t offset = p->start; offset < p->floor; offset++) {
        uint64_t low = p->floor;
        list_each(it, (struct list *)&p->positions_all) {
            const struct position *pos = CONTAINER_OF(it, struct position, all);
            const struct list *at = pend_below(pos, pos->pends.next, offset);
            uint64_t first = at != NULL ? CONTAINER_OF(at, struct pend, all)->offset : p->floor;
            low = first < low ? first : low;
        }
        n += low < p->floor;
        offset = low;
    }
    return n;
}

/* The first message at or above the floor that is not erased; p->end: none. */
static uint64_t first_live(const struct partition *p)
{
    uint64_t offset = p->floor;
    for (size_t i = 0; i < p->erased.len && *(uint64_t *)vec_at(&p->erased, i, sizeof(uint64_t)) == offset; i++) {
        offset++;
    }
    return offset;
}

bool queue_sm_partition(const struct queue_sm *sm, uint64_t topic, uint32_t partition, struct partition_info *out)
{
    const struct partition *p = part_find(sm, topic, partition);
    if (p == NULL) {
        return false;
    }
    *out = (struct partition_info){.start = p->start, .end = p->end, .bytes = part_bytes(p), .delayed = p->n_delayed};
    out->deleted = p->end - p->start - part_live(p) - kept_below(p);
    out->published = p->published;
    out->expired = p->expired;
    out->last_id = p->last_id;
    out->entries_added = p->entries_added;
    out->max_deleted_id = p->max_deleted_id;
    out->groups = p->n_positions;
    uint64_t first = first_live(p);
    if (first < p->end) {
        struct id_cursor c = {0};
        out->first_id = ids_get(&p->ids, &c, first);
    }
    return true;
}

uint64_t queue_sm_find_id(const struct queue_sm *sm, uint64_t topic, uint32_t partition, struct stream_id id)
{
    const struct partition *p = part_find(sm, topic, partition);
    if (p == NULL) {
        return UINT64_MAX;
    }
    uint64_t offset = ids_find(&p->ids, id, p->end);
    return offset > p->floor ? offset : p->floor;
}

static void describe(const struct position *pos, struct group_info *g)
{
    const struct partition *p = pos->part;
    *g = (struct group_info){.name = position_name(pos), .generation = pos->generation, .next = pos->next};
    g->owner = pos->owner != NULL ? consumer_name(pos->owner) : SLICE_NONE;
    g->pending = pos->n_in_flight;
    g->available = pos->n_available;
    g->waiting = pos->n_waiting;
    g->dead = pos->n_dead;
    g->lag = p->end - pos->next - (p->erased.len - part_erased_from(p, pos->next));
    g->delivered = pos->delivered;
    g->redelivered = pos->redelivered;
    g->acked = pos->acked;
    g->dead_lettered = pos->dead_lettered;
    g->redriven = pos->redriven;
    g->last_id = pos->last_id;
    g->consumers = pos->n_consumers;
    list_each(it, (struct list *)&pos->consumers) {
        const struct consumer *c = CONTAINER_OF(it, struct consumer, all);
        if (c->n_pends > 0) {
            uint64_t ms = CONTAINER_OF(c->pends.next, struct pend, in_consumer)->delivered_ms;
            g->oldest_ms = g->oldest_ms == 0 || ms < g->oldest_ms ? ms : g->oldest_ms;
        }
    }
}

void queue_sm_groups(const struct queue_sm *sm, uint64_t topic, uint32_t partition, void (*fn)(void *arg, const struct group_info *g), void *arg)
{
    const struct partition *p = part_find(sm, topic, partition);
    if (p == NULL) {
        return;
    }
    list_each(it, (struct list *)&p->positions_all) {
        struct group_info g;
        describe(CONTAINER_OF(it, struct position, all), &g);
        fn(arg, &g);
    }
}

bool queue_sm_group(const struct queue_sm *sm, uint64_t topic, uint32_t partition, slice_t group, struct group_info *out)
{
    const struct position *pos = pos_find(sm, topic, partition, group);
    if (pos != NULL) {
        describe(pos, out);
    }
    return pos != NULL;
}

void queue_sm_dead(const struct queue_sm *sm, uint64_t topic, uint32_t partition, slice_t group, uint64_t from, uint32_t max,
                   void (*fn)(void *arg, const struct dead_info *d), void *arg)
{
    const struct position *pos = pos_find(sm, topic, partition, group);
    const struct pend *r = pos != NULL ? tree_from(pos->dead, from) : NULL;
    for (uint32_t i = 0; i < max && r != NULL; i++) {
        struct dead_info d = {.offset = r->offset, .id = r->id, .deliveries = r->deliveries, .died_wall_ms = r->note->wall_ms};
        d.reason = slice_of(r->note->reason, r->note->len);
        fn(arg, &d);
        r = tree_from(pos->dead, r->offset + 1);
    }
}

void queue_sm_pending(const struct queue_sm *sm, uint64_t topic, uint32_t partition, slice_t group, uint64_t now_log_ms, uint64_t from,
                      uint32_t max, void (*fn)(void *arg, const struct pending_info *p), void *arg)
{
    const struct position *pos = pos_find(sm, topic, partition, group);
    if (pos == NULL) {
        return;
    }
    uint64_t now = now_log_ms > sm->time_ms ? now_log_ms : sm->time_ms;
    uint32_t n = 0;
    list_each(it, (struct list *)&pos->pends) {
        const struct pend *r = CONTAINER_OF(it, struct pend, all);
        if (r->state == PEND_IN_FLIGHT && r->offset >= from) {
            if (n++ == max) {
                return;
            }
            struct pending_info info = {.offset = r->offset, .id = r->id, .deliveries = r->deliveries, .generation = r->generation};
            info.delivery = r->delivery;
            info.idle_ms = now - r->delivered_ms;
            info.consumer = consumer_name(r->consumer);
            fn(arg, &info);
        }
    }
}

void queue_sm_consumers(const struct queue_sm *sm, uint64_t topic, uint32_t partition, slice_t group, uint64_t now_log_ms,
                        void (*fn)(void *arg, const struct consumer_info *c), void *arg)
{
    const struct position *pos = pos_find(sm, topic, partition, group);
    if (pos == NULL) {
        return;
    }
    uint64_t now = now_log_ms > sm->time_ms ? now_log_ms : sm->time_ms;
    list_each(it, (struct list *)&pos->consumers) {
        const struct consumer *c = CONTAINER_OF(it, struct consumer, all);
        struct consumer_info info = {.name = consumer_name(c), .pending = c->n_pends, .idle_ms = now - c->seen_ms};
        info.inactive_ms = c->active_ms == UINT64_MAX ? UINT64_MAX : now - c->active_ms;
        fn(arg, &info);
    }
}

/* Some position has a pend of [from, to], which lies below the floor. */
static bool pends_within(const struct partition *p, uint64_t from, uint64_t to)
{
    list_each(it, (struct list *)&p->positions_all) {
        const struct position *pos = CONTAINER_OF(it, struct position, all);
        if (to - from < pos->pends_by_offset.count) {
            for (uint64_t offset = from; offset <= to; offset++) {
                if (pend_find(pos, offset) != NULL) {
                    return true;
                }
            }
        } else {
            const struct list *at = pend_below(pos, pos->pends.next, from);
            if (at != NULL && CONTAINER_OF(at, struct pend, all)->offset <= to) {
                return true;
            }
        }
    }
    return false;
}

bool queue_sm_deleted(const struct queue_sm *sm, uint64_t topic, uint32_t partition, uint64_t offset)
{
    const struct partition *p = part_find(sm, topic, partition);
    if (p == NULL || offset < p->start || (offset >= p->floor && part_erased(p, offset))) {
        return true;
    }
    return offset < p->floor && !pends_within(p, offset, offset);
}

bool queue_sm_needs(const struct queue_sm *sm, uint64_t topic, uint32_t partition, uint64_t from, uint64_t to)
{
    const struct partition *p = part_find(sm, topic, partition);
    if (p == NULL || from >= p->end) {
        return false;
    }
    to = to < p->end ? to : p->end - 1;
    if (from > to || to < p->start) {
        return false;
    }
    if (to >= p->floor) {
        uint64_t low = from > p->floor ? from : p->floor;
        size_t erased = part_erased_from(p, to + 1) - part_erased_from(p, low);
        if (erased < to - low + 1) {
            return true;
        }
    }
    if (from >= p->floor || p->topic->config.stream) {
        return false;
    }
    return pends_within(p, from, to < p->floor ? to : p->floor - 1);
}

void queue_sm_stats(const struct queue_sm *sm, struct queue_sm_stats *out)
{
    *out = sm->stats;
    out->partitions = sm->n_partitions;
    out->memory = sm->n_slabs * sizeof(struct pend_slab) + sm->n_partitions * sizeof(struct partition);
    list_each(it, (struct list *)&sm->partitions) {
        const struct partition *p = CONTAINER_OF(it, struct partition, all);
        out->messages += part_live(p);
        out->bytes += part_bytes(p);
        out->memory += p->ids.blocks.len * sizeof(struct id_block) + p->marks.cap * sizeof(struct mark) + p->keys.cap * sizeof(uint32_t) +
                       p->erased.cap * sizeof(uint64_t) + p->delayed.len * (sizeof(struct delayed) + sizeof(struct delayed *)) +
                       p->n_positions * sizeof(struct position);
    }
    out->memory += sm->dedup.n_records * (sizeof(struct record) + 128) + sm->dedup.n_idems * (sizeof(struct idem) + 64);
}
