/* Partitions of the message store and their arrays of chunk descriptors.
 *
 * Responsible for which chunks there are and for finding them by offset and by id (L1), and for counting a chunk off everywhere when it
 * goes. Not for what is in a chunk (queue_log_chunk.c), nor where it is written (queue_log_write.c). The array is a deque: chunks come
 * at its end and mostly go at its front; taking some out of the middle moves the descriptors behind them. */
#include "nodes/queue/queue_log_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

struct part_key { uint64_t topic; uint32_t partition; };

static bool part_eq(const struct map_node *n, const void *key)
{
    const struct part *p = CONTAINER_OF(n, struct part, by_id);
    const struct part_key *k = key;
    return p->topic == k->topic && p->partition == k->partition;
}

static uint64_t part_hash(uint64_t topic, uint32_t partition)
{
    return hash_u64(topic ^ hash_u64(partition));
}

struct part *part_find(struct queue_log *q, uint64_t topic, uint32_t partition)
{
    struct part_key k = {topic, partition};
    struct map_node *n = map_find(&q->parts_by_id, part_hash(topic, partition), &k, part_eq);
    return n != NULL ? CONTAINER_OF(n, struct part, by_id) : NULL;
}

struct part *part_get(struct queue_log *q, uint64_t topic, uint32_t partition)
{
    struct part *p = part_find(q, topic, partition);
    if (p == NULL) {
        p = malloc(sizeof *p);
        syn_assert(p != NULL);
        *p = (struct part){.topic = topic, .partition = partition};
        list_push_back(&q->parts, &p->all);
        map_insert(&q->parts_by_id, &p->by_id, part_hash(topic, partition));
    }
    return p;
}

void part_free(struct queue_log *q, struct part *p)
{
    for (uint32_t i = 0; i < p->n; i++) {
        chunk_release(q, p, part_chunk(p, i));
    }
    if (q->sweep_part == p) {
        q->sweep_part = p->all.next != &q->parts ? CONTAINER_OF(p->all.next, struct part, all) : NULL;
        q->sweep_offset = 0;
    }
    map_remove(&q->parts_by_id, &p->by_id);
    list_remove(&p->all);
    free(p->chunks);
    free(p);
}

static void part_resize(struct part *p, uint32_t cap)
{
    if (p->head > 0) {
        memmove(p->chunks, p->chunks + p->head, p->n * sizeof *p->chunks);
        p->head = 0;
    }
    p->chunks = realloc(p->chunks, cap * sizeof *p->chunks);
    syn_assert(p->chunks != NULL);
    p->cap = cap;
}

struct chunk *part_push(struct part *p)
{
    if (p->head + p->n == p->cap) {
        part_resize(p, p->head > p->n / 2 ? p->cap : p->cap + p->cap / 2 + 4);
    }
    struct chunk *c = &p->chunks[p->head + p->n++];
    *c = (struct chunk){0};
    return c;
}

uint32_t part_search(const struct part *p, uint64_t offset)
{
    uint32_t lo = 0, hi = p->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (chunk_last(part_chunk(p, mid)) < offset) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

uint32_t part_search_id(const struct part *p, struct stream_id id)
{
    uint32_t lo = 0, hi = p->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (id_less(part_chunk(p, mid)->last_id, id)) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

struct chunk *part_at(const struct part *p, uint64_t base)
{
    uint32_t i = part_search(p, base);
    return i < p->n && part_chunk(p, i)->base == base ? part_chunk(p, i) : NULL;
}

bool chunk_needed(const struct queue_log *q, const struct part *p, const struct chunk *c)
{
    return q->o.needed(q->o.arg, p->topic, p->partition, c->base, chunk_last(c));
}

static void stored_release(struct queue_log *q, struct part *p, struct chunk *c)
{
    if (c->moving) {
        move_forget(q, p, c);
    }
    cache_forget(q, c);
    syn_assert(c->file->live >= c->bytes);
    c->file->live -= c->bytes;
    file_rest(q, c->file);
}

void chunk_release(struct queue_log *q, struct part *p, struct chunk *c)
{
    syn_assert(c->count > 0);
    if (c->state == CHUNK_STORED) {
        stored_release(q, p, c);
    } else {
        struct young *y = c->young;
        syn_assert(q->young_bytes >= c->bytes);
        q->young_bytes -= c->bytes;
        if (c->state == CHUNK_WRITING) {
            q->writing_bytes -= c->bytes;
            write_forget(write_find(q, y->file->number, y->at));
        }
        list_remove(&y->link);
        chunk_data_fini(&y->data);
        free(y);
    }
    c->count = 0;
}

void part_compact(struct part *p, uint32_t from, uint32_t to)
{
    syn_assert(from <= to && to <= p->n);
    uint32_t kept = from;
    for (uint32_t i = from; i < to; i++) {
        if (part_chunk(p, i)->count > 0) {
            *part_chunk(p, kept++) = *part_chunk(p, i);
        }
    }
    uint32_t gone = to - kept;
    if (kept == 0) {
        p->head += gone;
    } else if (gone > 0) {
        memmove(part_chunk(p, kept), part_chunk(p, to), (p->n - to) * sizeof *p->chunks);
    }
    p->n -= gone;
    if (p->n == 0) {
        p->head = 0;
    }
    if (p->cap > 64 && p->n < p->cap / 4) {
        part_resize(p, p->cap / 2);
    }
}

void chunk_drop(struct queue_log *q, struct part *p, uint64_t base)
{
    uint32_t i = part_search(p, base);
    syn_assert(i < p->n && part_chunk(p, i)->base == base);
    chunk_release(q, p, part_chunk(p, i));
    part_compact(p, i, i + 1);
}
