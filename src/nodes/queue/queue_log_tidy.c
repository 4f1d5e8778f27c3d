/* Giving space back: chunks that nobody needs any more, wherever they are, and files that are mostly dead.
 *
 * queue_log_tidy goes round all chunks, a few hundred at a call. What is not needed goes; what is in a file of which less than a quarter
 * is alive is read (through the cache) and written anew at the end of the current file. The old place stays the true one until the new
 * one is written: a snapshot made meanwhile names the old one, and a chunk that is trimmed meanwhile is dead in both. */
#include "nodes/queue/queue_log_internal.h"

#include <stdlib.h>

static struct move *move_find(struct queue_log *q, const struct part *p, const struct chunk *c)
{
    list_each(it, &q->moves) {
        struct move *m = CONTAINER_OF(it, struct move, link);
        if (m->part == p && m->base == c->base) {
            return m;
        }
    }
    SYN_UNREACHABLE();
}

static void move_end(struct queue_log *q, struct part *p, struct chunk *c)
{
    struct move *m = move_find(q, p, c);
    list_remove(&m->link);
    free(m);
    q->n_moves--;
    c->moving = 0;
}

void move_forget(struct queue_log *q, struct part *p, struct chunk *c)
{
    bool writing = move_find(q, p, c)->writing;
    move_end(q, p, c);
    list_each(it, &q->writes) {
        struct write *w = CONTAINER_OF(it, struct write, all);
        if (writing && w->move && w->part == p && w->base == c->base) {
            write_forget(w);
            return;
        }
    }
    syn_assert(!writing);
}

void move_loaded(struct queue_log *q, struct part *p, struct chunk *c, const struct chunk_data *d)
{
    struct move *m = move_find(q, p, c);
    if (!m->writing) {
        m->writing = true;
        move_write(q, p, c, d);
    }
}

void move_written(struct queue_log *q, struct part *p, struct chunk *c, const struct write *w, bool ok)
{
    syn_assert(c != NULL && c->state == CHUNK_STORED && c->moving && c->bytes == w->bytes);
    move_end(q, p, c);
    if (!ok) {
        w->file->live -= w->bytes;
        return;
    }
    cache_forget(q, c);
    struct log_file *old = c->file;
    old->live -= c->bytes;
    c->file = w->file;
    c->at = w->at;
    file_rest(q, old);
}

static bool mostly_dead(const struct queue_log *q, const struct log_file *f)
{
    return f != q->current && f->writes == 0 && f->live < f->extent / 4;
}

static void move_begin(struct queue_log *q, struct part *p, struct chunk *c)
{
    struct load *l = load_find(q, c->file->number, c->at);
    if (l == NULL && !load_ask(q, p, c, LOADS_MAX / 2)) {
        return;
    }
    struct move *m = malloc(sizeof *m);
    syn_assert(m != NULL);
    *m = (struct move){.part = p, .base = c->base};
    list_push_back(&q->moves, &m->link);
    q->n_moves++;
    c->moving = 1;
    if (l != NULL && l->ready) {
        move_loaded(q, p, c, &l->data);
    }
}

/* Looks at up to `max` chunks from sweep_offset on; returns how many. */
static uint32_t sweep(struct queue_log *q, struct part *p, uint32_t max)
{
    uint32_t from = part_search(p, q->sweep_offset), to = p->n - from < max ? p->n : from + max;
    q->sweep_offset = to < p->n ? part_chunk(p, to)->base : 0;
    for (uint32_t i = from; i < to; i++) {
        struct chunk *c = part_chunk(p, i);
        if (!chunk_needed(q, p, c)) {
            chunk_release(q, p, c);
            continue;
        }
        c->damaged = 0; /* perhaps the disk is well again: it is read anew when somebody wants it */
        if (c->state == CHUNK_STORED && !c->moving && !q->failing && q->n_moves < MOVES_MAX && mostly_dead(q, c->file)) {
            move_begin(q, p, c);
        }
    }
    part_compact(p, from, to);
    return to - from;
}

void queue_log_tidy(struct queue_log *q)
{
    q->may_retry = true;
    log_spill(q);
    uint32_t looked = 0;
    for (size_t parts = q->parts_by_id.count; parts > 0 && looked < SWEEP_CHUNKS; parts--) {
        struct part *p = q->sweep_part != NULL ? q->sweep_part : CONTAINER_OF(q->parts.next, struct part, all);
        q->sweep_part = p;
        looked += 1 + sweep(q, p, SWEEP_CHUNKS - looked);
        if (q->sweep_offset == 0) {
            q->sweep_part = p->all.next != &q->parts ? CONTAINER_OF(p->all.next, struct part, all) : NULL;
        }
    }
}
