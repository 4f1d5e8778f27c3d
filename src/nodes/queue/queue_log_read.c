/* Reading messages: young ones from memory, others by way of a small cache of chunks (L4).
 *
 * A chunk that is not in memory is asked for once; whoever wants it is told LOADING until it came. Nothing is freed while a message is
 * looked for, so that what queue_log_get hands out is good until the next call: the cache makes room when a chunk comes in.
 * A reader that enters a chunk at its beginning, or coming from the one before, is taken for a sequential one: the next chunk is asked for
 * ahead of it. */
#include "nodes/queue/queue_log_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

uint64_t place_hash(uint64_t file, uint64_t at)
{
    return hash_u64(file ^ hash_u64(at));
}

struct load_key { uint64_t file, at; };

static bool load_eq(const struct map_node *n, const void *key)
{
    const struct load *l = CONTAINER_OF(n, struct load, by_place);
    const struct load_key *k = key;
    return l->file == k->file && l->at == k->at;
}

struct load *load_find(struct queue_log *q, uint64_t file, uint64_t at)
{
    struct load_key k = {file, at};
    struct map_node *n = map_find(&q->loads_by_place, place_hash(file, at), &k, load_eq);
    return n != NULL ? CONTAINER_OF(n, struct load, by_place) : NULL;
}

bool load_ask(struct queue_log *q, const struct part *p, const struct chunk *c, uint32_t max)
{
    syn_assert(c->state == CHUNK_STORED);
    if (load_find(q, c->file->number, c->at) != NULL) {
        return true;
    }
    if (q->n_loads >= max) {
        return false;
    }
    struct load *l = calloc(1, sizeof *l);
    syn_assert(l != NULL);
    l->file = c->file->number;
    l->at = c->at;
    l->topic = p->topic;
    l->partition = p->partition;
    l->base = c->base;
    list_push_back(&q->loads, &l->link);
    map_insert(&q->loads_by_place, &l->by_place, place_hash(l->file, l->at));
    q->n_loads++;
    q->o.read(q->o.arg, l->file, l->at, c->bytes);
    return true;
}

void load_free(struct queue_log *q, struct load *l)
{
    if (l->ready) {
        q->cache_used -= chunk_data_memory(&l->data);
    } else {
        q->n_loads--;
    }
    map_remove(&q->loads_by_place, &l->by_place);
    list_remove(&l->link);
    chunk_data_fini(&l->data);
    free(l);
}

/* One that is on its way stays until the answer, which then finds no chunk. */
void cache_forget(struct queue_log *q, const struct chunk *c)
{
    struct load *l = load_find(q, c->file->number, c->at);
    if (l != NULL && l->ready) {
        load_free(q, l);
    }
}

/* The chunk that was asked for, if it is still there and still in that place. */
static struct chunk *load_chunk(struct queue_log *q, const struct load *l, struct part **p)
{
    *p = part_find(q, l->topic, l->partition);
    struct chunk *c = *p != NULL ? part_at(*p, l->base) : NULL;
    return c != NULL && c->state == CHUNK_STORED && c->file->number == l->file && c->at == l->at ? c : NULL;
}

static void cache_evict(struct queue_log *q)
{
    while (q->cache_used > q->o.cache_bytes && q->cache.next != q->cache.prev) {
        load_free(q, CONTAINER_OF(q->cache.prev, struct load, link));
    }
}

void queue_log_loaded(struct queue_log *q, uint64_t file, uint64_t offset, slice_t data, bool ok)
{
    struct load *l = load_find(q, file, offset);
    if (l == NULL || l->ready) {
        return;
    }
    struct part *p;
    struct chunk *c = load_chunk(q, l, &p);
    if (c == NULL) {
        load_free(q, l);
        return;
    }
    if (!ok || !chunk_data_load(&l->data, data, l->topic, l->partition, c)) {
        c->damaged = 1;
        load_free(q, l);
        if (c->moving) {
            move_forget(q, p, c);
        }
        return;
    }
    l->ready = true;
    q->n_loads--;
    q->cache_used += chunk_data_memory(&l->data);
    list_remove(&l->link);
    list_push_front(&q->cache, &l->link);
    if (c->moving) {
        move_loaded(q, p, c, &l->data);
    }
    cache_evict(q);
}

static bool is_cached(struct queue_log *q, const struct chunk *c)
{
    struct load *l = c->state == CHUNK_STORED ? load_find(q, c->file->number, c->at) : NULL;
    return l != NULL && l->ready;
}

/* Half of the reads at most are for what nobody has asked for yet. */
static void read_ahead(struct queue_log *q, const struct part *p, uint32_t i, uint64_t offset)
{
    bool sequential = offset == part_chunk(p, i)->base || (i > 0 && is_cached(q, part_chunk(p, i - 1)));
    if (!sequential || i + 1 == p->n) {
        return;
    }
    const struct chunk *next = part_chunk(p, i + 1);
    if (next->state == CHUNK_STORED && !next->damaged) {
        load_ask(q, p, next, LOADS_MAX / 2);
    }
}

/* The data of chunk i, in which `offset` is wanted. */
static enum queue_log_got chunk_access(struct queue_log *q, const struct part *p, uint32_t i, uint64_t offset, const struct chunk_data **d)
{
    const struct chunk *c = part_chunk(p, i);
    if (c->state != CHUNK_STORED) {
        *d = &c->young->data;
        return QUEUE_LOG_OK;
    }
    if (c->damaged) {
        return QUEUE_LOG_DAMAGED;
    }
    struct load *l = load_find(q, c->file->number, c->at);
    if (l == NULL) {
        load_ask(q, p, c, LOADS_MAX);
        read_ahead(q, p, i, offset);
        return QUEUE_LOG_LOADING;
    }
    if (!l->ready) {
        return QUEUE_LOG_LOADING;
    }
    if (!l->ahead) {
        l->ahead = true;
        read_ahead(q, p, i, offset);
    }
    list_remove(&l->link);
    list_push_front(&q->cache, &l->link);
    *d = &l->data;
    return QUEUE_LOG_OK;
}

enum queue_log_got queue_log_get(struct queue_log *q, uint64_t topic, uint32_t partition, uint64_t offset, struct queue_message *out)
{
    const struct part *p = part_find(q, topic, partition);
    uint32_t i = p != NULL ? part_search(p, offset) : 0;
    if (p == NULL || i == p->n || part_chunk(p, i)->base > offset) {
        return QUEUE_LOG_GONE;
    }
    uint64_t base = part_chunk(p, i)->base;
    const struct chunk_data *d;
    enum queue_log_got got = chunk_access(q, p, i, offset, &d);
    if (got != QUEUE_LOG_OK) {
        return got;
    }
    struct queue_message m = chunk_data_message(d, base, chunk_data_find(d, (uint32_t)(offset - base)));
    if (m.offset != offset) {
        return QUEUE_LOG_GONE;
    }
    *out = m;
    return QUEUE_LOG_OK;
}

enum queue_log_got queue_log_next(struct queue_log *q, uint64_t topic, uint32_t partition, uint64_t offset, uint64_t end, struct queue_message *out)
{
    const struct part *p = part_find(q, topic, partition);
    uint32_t i = p != NULL ? part_search(p, offset) : 0;
    if (p == NULL || i == p->n || part_chunk(p, i)->base >= end) {
        return QUEUE_LOG_GONE;
    }
    const struct chunk *c = part_chunk(p, i);
    uint64_t from = offset > c->base ? offset : c->base;
    const struct chunk_data *d;
    enum queue_log_got got = chunk_access(q, p, i, from, &d);
    if (got == QUEUE_LOG_DAMAGED) {
        out->offset = chunk_last(c);
    }
    if (got != QUEUE_LOG_OK) {
        return got;
    }
    struct queue_message m = chunk_data_message(d, c->base, chunk_data_find(d, (uint32_t)(from - c->base)));
    if (m.offset >= end) {
        return QUEUE_LOG_GONE;
    }
    *out = m;
    return QUEUE_LOG_OK;
}

enum queue_log_got queue_log_seek(struct queue_log *q, uint64_t topic, uint32_t partition, struct stream_id id, uint64_t end, uint64_t *offset)
{
    const struct part *p = part_find(q, topic, partition);
    uint32_t i = p != NULL ? part_search_id(p, id) : 0;
    *offset = end;
    if (p == NULL || i == p->n || part_chunk(p, i)->base >= end) {
        return QUEUE_LOG_OK;
    }
    const struct chunk *c = part_chunk(p, i);
    *offset = c->base;
    if (!id_less(c->first_id, id)) {
        return QUEUE_LOG_OK;
    }
    const struct chunk_data *d;
    enum queue_log_got got = chunk_access(q, p, i, c->base + 1, &d);
    if (got != QUEUE_LOG_OK) {
        return got;
    }
    uint32_t k = chunk_data_find_id(d, id);
    uint64_t found = k < d->n ? chunk_data_message(d, c->base, k).offset : chunk_last(c) + 1;
    *offset = found < end ? found : end;
    return QUEUE_LOG_OK;
}
