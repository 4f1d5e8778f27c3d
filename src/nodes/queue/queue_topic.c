/* Topics of a group: which there are, with which partitions. OPEN and DROP come from the leader of group 0, perhaps more than once and
 * perhaps late: both are idempotent, an older version changes nothing, and what was dropped lately is not made again.
 *
 * Not responsible for names or placement: topics.h. `ordered` and `stream` of a topic never change: messages were kept for them. */
#include "nodes/queue/queue_internal.h"

#include "utils/hash.h"

enum { DROPPED_MAX = 10000 }; /* remembered; by age like answered requests */

static bool topic_eq(const struct map_node *n, const void *key)
{
    return CONTAINER_OF(n, struct topic, by_id)->id == *(const uint64_t *)key;
}

struct topic *topic_find(const struct queue_sm *sm, uint64_t id)
{
    struct map_node *n = map_find((struct map *)&sm->topics, hash_u64(id), &id, topic_eq);
    return n != NULL ? CONTAINER_OF(n, struct topic, by_id) : NULL;
}

struct topic *topic_new(struct queue_sm *sm, uint64_t id, slice_t name)
{
    struct topic *t = calloc(1, sizeof *t + name.len);
    syn_assert(t != NULL);
    t->id = id;
    t->name_len = (uint16_t)name.len;
    memcpy(t->name, name.ptr, name.len);
    map_insert(&sm->topics, &t->by_id, hash_u64(id));
    list_push_back(&sm->topics_all, &t->all);
    sm->stats.topics++;
    return t;
}

/* Index of the first partition with this number or a higher one. */
static uint32_t part_index(const struct topic *t, uint32_t number)
{
    uint32_t low = 0, high = t->n_parts;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (t->parts[mid]->number < number) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct partition *topic_part(const struct topic *t, uint32_t number)
{
    uint32_t i = part_index(t, number);
    return i < t->n_parts && t->parts[i]->number == number ? t->parts[i] : NULL;
}

struct partition *topic_add_part(struct queue_sm *sm, struct topic *t, uint32_t number)
{
    struct partition *p = calloc(1, sizeof *p);
    syn_assert(p != NULL);
    p->topic = t;
    p->number = number;
    p->serial = sm->next_serial++;
    p->age.kind = QDUE_AGE;
    timer_init(&p->age.timer);
    map_init(&p->positions);
    list_init(&p->positions_all);
    p->saved = sm->snap.number;
    list_push_back(&sm->partitions, &p->all);
    sm->n_partitions++;
    uint32_t i = part_index(t, number);
    t->parts = realloc(t->parts, (t->n_parts + 1) * sizeof(struct partition *));
    syn_assert(t->parts != NULL);
    memmove(t->parts + i + 1, t->parts + i, (t->n_parts - i) * sizeof(struct partition *));
    t->parts[i] = p;
    t->n_parts++;
    return p;
}

void topic_free(struct queue_sm *sm, struct topic *t)
{
    for (uint32_t i = 0; i < t->n_parts; i++) {
        struct partition *p = t->parts[i];
        queue_snap_leave(sm, p);
        list_remove(&p->all);
        sm->n_partitions--;
        part_fini(sm, p);
        free(p);
    }
    free(t->parts);
    map_remove(&sm->topics, &t->by_id);
    list_remove(&t->all);
    sm->stats.topics--;
    free(t);
}

static void drops_forget(struct queue_sm *sm)
{
    while (sm->dropped.len > 0) {
        const struct dropped *d = vec_at(&sm->dropped, 0, sizeof *d);
        if (sm->dropped.len <= DROPPED_MAX && sm->time_ms - d->time_ms < sm->opt.dedup_ms) {
            break;
        }
        vec_pop_front(&sm->dropped, 1, sizeof *d);
    }
}

static bool dropped_lately(const struct queue_sm *sm, uint64_t topic)
{
    for (size_t i = 0; i < sm->dropped.len; i++) {
        if (((const struct dropped *)vec_at(&sm->dropped, i, sizeof(struct dropped)))->topic == topic) {
            return true;
        }
    }
    return false;
}

static void topic_configure(struct queue_sm *sm, struct topic *t, const struct queue_open *o, bool is_new)
{
    uint8_t ordered = is_new ? o->config.ordered : t->config.ordered;
    uint8_t stream = is_new ? o->config.stream : t->config.stream;
    t->version = o->version;
    t->config = o->config;
    t->config.ordered = ordered;
    t->config.stream = stream;
    for (uint32_t i = 0; i < o->n_parts; i++) {
        uint32_t number = le32_get(o->parts.ptr + (size_t)i * 4);
        if (topic_part(t, number) == NULL) {
            topic_add_part(sm, t, number);
        }
    }
    for (uint32_t i = 0; i < t->n_parts; i++) {
        queue_snap_touch(sm, t->parts[i]);
        part_dirty(sm, t->parts[i]);
    }
}

void queue_op_open(struct queue_sm *sm, struct reader *r)
{
    struct queue_open o;
    if (!queue_get_open(r, &o)) {
        sm->stats.refused_malformed++;
        return;
    }
    drops_forget(sm);
    struct topic *t = topic_find(sm, o.topic);
    if (t == NULL && !dropped_lately(sm, o.topic)) {
        topic_configure(sm, topic_new(sm, o.topic, o.name), &o, true);
    } else if (t != NULL && o.version > t->version) {
        topic_configure(sm, t, &o, false);
    }
    queue_reply(sm, QUEUE_DONE);
}

void queue_op_drop(struct queue_sm *sm, struct reader *r)
{
    uint64_t id = reader_u64(r);
    if (!reader_done(r)) {
        sm->stats.refused_malformed++;
        return;
    }
    struct topic *t = topic_find(sm, id);
    drops_forget(sm);
    if (!dropped_lately(sm, id)) {
        *(struct dropped *)vec_push(&sm->dropped, sizeof(struct dropped)) = (struct dropped){id, sm->time_ms};
    }
    if (t != NULL) {
        for (uint32_t i = 0; i < t->n_parts; i++) {
            queue_emit_trimmed(sm, t->parts[i], UINT64_MAX);
            queue_emit_woken(sm, t->parts[i]);
        }
        topic_free(sm, t);
        queue_fences_drop(sm, id);
    }
    queue_reply(sm, QUEUE_DONE);
}

struct partition *part_or_refuse(struct queue_sm *sm, uint64_t topic, uint32_t number)
{
    struct topic *t = topic_find(sm, topic);
    struct partition *p = t != NULL ? topic_part(t, number) : NULL;
    if (p == NULL) {
        queue_reply(sm, QUEUE_NO_TOPIC);
        return NULL;
    }
    queue_snap_touch(sm, p);
    return p;
}
