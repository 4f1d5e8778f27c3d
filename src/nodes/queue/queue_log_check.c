/* The invariants of the message store, L1 to L5 of queue_log_internal.h, proved on the whole of it. Not for ordinary running: O(everything).
 *
 * What is counted is counted again: young bytes and bytes being written (L2), live bytes per file (L3), the cache (L4), writes and
 * moves, each of which must have its chunk (L5). */
#include "nodes/queue/queue_log_internal.h"

#include <stdlib.h>

struct counts { uint64_t young, writing, stored; uint32_t n_young, n_moving, n_writing; };

static void check_young(const struct part *p, const struct chunk *c, struct counts *n)
{
    const struct young *y = c->young;
    const struct chunk_data *d = &y->data;
    syn_assert(y->part == p && y->base == c->base && d->bytes.len == c->bytes && d->n == c->count && d->n <= d->cap);
    syn_assert(!c->damaged && !c->moving && !c->restored);
    syn_assert(chunk_data_message(d, c->base, 0).offset == c->base && chunk_data_message(d, c->base, d->n - 1).offset == chunk_last(c));
    syn_assert((c->state == CHUNK_WRITING) == (y->file != NULL));
    syn_assert((c->state == CHUNK_WRITING) == list_empty(&y->link));
    n->young += c->bytes;
    n->writing += c->state == CHUNK_WRITING ? c->bytes : 0;
    n->n_writing += c->state == CHUNK_WRITING;
    n->n_young += c->state != CHUNK_WRITING;
}

/* L1 */
static void check_part(const struct part *p, struct counts *n)
{
    syn_assert((uint64_t)p->head + p->n <= p->cap);
    for (uint32_t i = 0; i < p->n; i++) {
        const struct chunk *c = part_chunk(p, i);
        syn_assert(c->count > 0 && c->span >= c->count - 1 && c->bytes <= CHUNK_BYTES_MAX);
        syn_assert(i == 0 || chunk_last(part_chunk(p, i - 1)) < c->base);
        syn_assert(c->state != CHUNK_OPEN || i + 1 == p->n);
        if (c->state == CHUNK_STORED) {
            n->stored += c->bytes;
            n->n_moving += c->moving;
            syn_assert(c->file->live >= c->bytes && c->file->extent >= (uint64_t)c->at + c->bytes);
        } else {
            check_young(p, c, n);
        }
    }
}

static uint32_t check_ages(const struct list *l, enum chunk_state state)
{
    uint32_t n = 0;
    uint64_t last = 0;
    list_each(it, l) {
        const struct young *y = CONTAINER_OF(it, struct young, link);
        const struct chunk *c = part_at(y->part, y->base);
        syn_assert(c != NULL && c->state == state && c->young == y && (n == 0 || y->serial > last));
        last = y->serial;
        n++;
    }
    return n;
}

/* L3, L5 */
static void check_files(const struct queue_log *q, const struct counts *n)
{
    uint64_t live = 0, flying = 0;
    size_t files = 0, writes = 0, answers = 0, living = 0, moving = 0;
    list_each(it, &q->files) {
        const struct log_file *f = CONTAINER_OF(it, struct log_file, all);
        syn_assert(f->live > 0 || f->writes > 0 || f->pinned || f == q->current);
        syn_assert(f->live <= f->extent);
        live += f->live;
        answers += f->writes;
        files++;
    }
    list_each(it, &q->writes) {
        const struct write *w = CONTAINER_OF(it, struct write, all);
        writes++;
        if (w->part == NULL) {
            continue;
        }
        const struct chunk *c = part_at(w->part, w->base);
        syn_assert(c != NULL && c->bytes == w->bytes);
        syn_assert(w->move ? c->state == CHUNK_STORED && c->moving : c->state == CHUNK_WRITING && c->young->file == w->file && c->young->at == w->at);
        flying += w->bytes;
        living += !w->move;
        moving += w->move;
    }
    syn_assert(files == q->files_by_number.count && writes == q->writes_by_place.count && writes == answers);
    syn_assert(live == n->stored + flying && living == n->n_writing && moving <= q->n_moves);
}

/* Per file; quadratic, therefore only for small ones. */
static void check_live(const struct queue_log *q, const struct log_file *f)
{
    uint64_t live = 0;
    list_each(it, &q->parts) {
        const struct part *p = CONTAINER_OF(it, struct part, all);
        for (uint32_t i = 0; i < p->n; i++) {
            const struct chunk *c = part_chunk(p, i);
            live += c->state == CHUNK_STORED && c->file == f ? c->bytes : 0;
        }
    }
    list_each(it, &q->writes) {
        const struct write *w = CONTAINER_OF(it, struct write, all);
        live += w->file == f && w->part != NULL ? w->bytes : 0;
    }
    syn_assert(live == f->live);
}

/* L4 */
static void check_cache(const struct queue_log *q)
{
    uint64_t used = 0;
    size_t ready = 0, waiting = 0;
    list_each(it, &q->cache) {
        const struct load *l = CONTAINER_OF(it, struct load, link);
        syn_assert(l->ready && l->data.n > 0);
        used += chunk_data_memory(&l->data);
        ready++;
    }
    list_each(it, &q->loads) {
        syn_assert(!CONTAINER_OF(it, struct load, link)->ready);
        waiting++;
    }
    syn_assert(used == q->cache_used && (used <= q->o.cache_bytes || ready == 1));
    syn_assert(waiting == q->n_loads && waiting <= LOADS_MAX && ready + waiting == q->loads_by_place.count);
}

void queue_log_check(const struct queue_log *q)
{
    struct counts n = {0};
    size_t parts = 0, moves = 0;
    list_each(it, &q->parts) {
        check_part(CONTAINER_OF(it, struct part, all), &n);
        parts++;
    }
    syn_assert(parts == q->parts_by_id.count);
    syn_assert(n.young == q->young_bytes && n.writing == q->writing_bytes);
    syn_assert(check_ages(&q->open, CHUNK_OPEN) + check_ages(&q->closed, CHUNK_CLOSED) == n.n_young);
    list_each(it, &q->moves) {
        const struct move *m = CONTAINER_OF(it, struct move, link);
        const struct chunk *c = part_at(m->part, m->base);
        syn_assert(c != NULL && c->state == CHUNK_STORED && c->moving);
        moves++;
    }
    syn_assert(moves == q->n_moves && moves == n.n_moving && moves <= MOVES_MAX);
    check_files(q, &n);
    check_cache(q);
    if (q->files_by_number.count <= 64) {
        list_each(it, &q->files) {
            check_live(q, CONTAINER_OF(it, struct log_file, all));
        }
    }
}
