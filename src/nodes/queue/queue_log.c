/* The message store of a group: what is appended, what is trimmed.
 *
 * docs/queue.md, "The log is the queue"; decision 008. Messages come in as they are applied and go as soon as nobody needs them; most are
 * never written by this store. Chunks and partitions: queue_log_part.c; bytes of a chunk: queue_log_chunk.c; files and writing:
 * queue_log_write.c; reading and the cache: queue_log_read.c; emptying files that are mostly dead: queue_log_tidy.c; snapshots:
 * queue_log_save.c; the proof of the invariants L1 to L5 (queue_log_internal.h): queue_log_check.c. */
#include "nodes/queue/queue_log_internal.h"

#include <stdlib.h>

enum {
    CHUNK_BYTES_DEFAULT = 256 * 1024,       /* one read of a disk is worth it; one chunk of a thousand open partitions still fits */
    YOUNG_BYTES_DEFAULT = 8 * 1024 * 1024,
    CACHE_BYTES_DEFAULT = 4 * 1024 * 1024,
    FILE_BYTES_DEFAULT = 16 * 1024 * 1024,
};

static uint64_t or_default(uint64_t value, uint64_t otherwise, uint64_t max)
{
    uint64_t v = value > 0 ? value : otherwise;
    return v < max ? v : max;
}

struct queue_log *queue_log_new(const struct queue_log_options *o)
{
    syn_assert(o->write != NULL && o->read != NULL && o->needed != NULL);
    struct queue_log *q = calloc(1, sizeof *q);
    syn_assert(q != NULL);
    q->o = *o;
    q->o.chunk_bytes = (uint32_t)or_default(o->chunk_bytes, CHUNK_BYTES_DEFAULT, CHUNK_BYTES_MAX);
    q->o.young_bytes = or_default(o->young_bytes, YOUNG_BYTES_DEFAULT, UINT64_MAX);
    q->o.cache_bytes = or_default(o->cache_bytes, CACHE_BYTES_DEFAULT, UINT64_MAX);
    q->o.file_bytes = or_default(o->file_bytes, FILE_BYTES_DEFAULT, FILE_BYTES_MAX);
    q->next_file = o->file_base;
    map_init(&q->parts_by_id);
    map_init(&q->files_by_number);
    map_init(&q->writes_by_place);
    map_init(&q->loads_by_place);
    struct list *lists[] = {&q->parts, &q->open, &q->closed, &q->files, &q->writes, &q->loads, &q->cache, &q->moves};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        list_init(lists[i]);
    }
    return q;
}

void log_clear(struct queue_log *q)
{
    while (!list_empty(&q->parts)) {
        part_free(q, CONTAINER_OF(q->parts.next, struct part, all));
    }
    list_each_safe(it, &q->loads) {
        load_free(q, CONTAINER_OF(it, struct load, link));
    }
    list_each_safe(it, &q->writes) {
        struct write *w = CONTAINER_OF(it, struct write, all);
        map_remove(&q->writes_by_place, &w->by_place);
        list_remove(&w->all);
        free(w);
    }
    q->current = NULL;
    list_each_safe(it, &q->files) {
        struct log_file *f = CONTAINER_OF(it, struct log_file, all);
        f->writes = 0;
        f->pinned = false;
        file_rest(q, f);
    }
    syn_assert(list_empty(&q->files) && list_empty(&q->cache) && list_empty(&q->moves) && q->young_bytes == 0 && q->cache_used == 0);
}

void queue_log_free(struct queue_log *q)
{
    if (q == NULL) {
        return;
    }
    log_clear(q);
    map_fini(&q->parts_by_id);
    map_fini(&q->files_by_number);
    map_fini(&q->writes_by_place);
    map_fini(&q->loads_by_place);
    free(q);
}

void queue_log_set_owner(struct queue_log *q, void *arg)
{
    q->o.arg = arg;
}

uint64_t queue_log_young_bytes(const struct queue_log *q)
{
    return q->young_bytes;
}

static struct chunk *open_chunk(struct queue_log *q, struct part *p, const struct queue_appended *m)
{
    struct young *y = calloc(1, sizeof *y);
    syn_assert(y != NULL);
    y->part = p;
    y->base = m->offset;
    y->serial = q->next_serial++;
    chunk_data_begin(&y->data);
    list_push_back(&q->open, &y->link);
    struct chunk *c = part_push(p);
    c->base = m->offset;
    c->bytes = CHUNK_HEAD_BYTES;
    c->state = CHUNK_OPEN;
    c->first_id = m->id;
    c->young = y;
    q->young_bytes += CHUNK_HEAD_BYTES;
    return c;
}

/* The chunk that m goes to: the open one when it has room, else a new one. */
static struct chunk *chunk_for(struct queue_log *q, struct part *p, const struct queue_appended *m)
{
    struct chunk *c = p->n > 0 ? part_chunk(p, p->n - 1) : NULL;
    if (c == NULL || c->state != CHUNK_OPEN) {
        return open_chunk(q, p, m);
    }
    if (m->offset - c->base > UINT32_MAX || c->bytes + RECORD_HEAD_BYTES + m->body.len > q->o.chunk_bytes) {
        young_close(q, c->young);
        q->may_retry = true;
        return open_chunk(q, p, m);
    }
    return c;
}

/* What is appended is the truth; a table that claims to have it, or more, is wrong about that (L1). */
static void disbelieve(struct queue_log *q, struct part *p, uint64_t offset)
{
    while (p->n > 0 && chunk_last(part_chunk(p, p->n - 1)) >= offset) {
        syn_assert(part_chunk(p, p->n - 1)->restored);
        chunk_drop(q, p, part_chunk(p, p->n - 1)->base);
    }
}

void queue_log_append(struct queue_log *q, const struct queue_appended *m)
{
    syn_assert(m->offset < UINT64_MAX && m->body.len <= CHUNK_BYTES_MAX - CHUNK_HEAD_BYTES - RECORD_HEAD_BYTES);
    struct part *p = part_get(q, m->topic, m->partition);
    disbelieve(q, p, m->offset);
    struct chunk *c = chunk_for(q, p, m);
    uint32_t bytes = (uint32_t)(RECORD_HEAD_BYTES + m->body.len);
    c->span = (uint32_t)(m->offset - c->base);
    c->count++;
    c->bytes = (c->bytes + bytes) & 0x3ffffff;
    c->last_id = m->id;
    q->young_bytes += bytes;
    chunk_data_add(&c->young->data, c->span, m);
    syn_assert(c->bytes == c->young->data.bytes.len);
    if (c->bytes >= q->o.chunk_bytes) {
        young_close(q, c->young);
        q->may_retry = true;
    }
    log_spill(q);
}

static void release_unneeded(struct queue_log *q, struct part *p, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        struct chunk *c = part_chunk(p, i);
        if (!chunk_needed(q, p, c)) {
            chunk_release(q, p, c);
        }
    }
    part_compact(p, from, to);
}

/* Chunks that a trim leaves because something in them is still needed are looked at again by later trims, a few of them, and by tidy, all
 * of them: a trim costs what it frees. */
void queue_log_trim(struct queue_log *q, uint64_t topic, uint32_t partition, uint64_t start)
{
    struct part *p = part_find(q, topic, partition);
    if (p == NULL) {
        return;
    }
    if (start == UINT64_MAX) {
        part_free(q, p);
        return;
    }
    uint32_t before = part_search(p, p->start), below = part_search(p, start);
    if (before < below) {
        release_unneeded(q, p, before, below);
    }
    uint32_t again = before < below ? before : below;
    release_unneeded(q, p, 0, again < TRIM_LOOKS ? again : TRIM_LOOKS);
    p->start = start > p->start ? start : p->start;
}
