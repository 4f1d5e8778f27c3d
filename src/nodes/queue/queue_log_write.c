/* Backlog files of the message store: which there are, and writing chunks to them (L3, L5).
 *
 * A chunk is written at the end of the current file; a file that is full, or to which a write failed, is never written again. Young
 * messages beyond young_bytes are written oldest first, unless nobody needs them any more; what was handed to write stays in memory
 * until the answer, and no more than young_bytes is on its way at a time (only a snapshot hands out everything). While writes fail one
 * chunk is tried whenever another one is full, so that a disk that is full for an hour is asked seldom and does not make small chunks. */
#include "nodes/queue/queue_log_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

static bool file_eq(const struct map_node *n, const void *key)
{
    return CONTAINER_OF(n, struct log_file, by_number)->number == *(const uint64_t *)key;
}

struct log_file *file_find(struct queue_log *q, uint64_t number)
{
    struct map_node *n = map_find(&q->files_by_number, hash_u64(number), &number, file_eq);
    return n != NULL ? CONTAINER_OF(n, struct log_file, by_number) : NULL;
}

struct log_file *file_new(struct queue_log *q, uint64_t number)
{
    struct log_file *f = calloc(1, sizeof *f);
    syn_assert(f != NULL);
    f->number = number;
    list_push_back(&q->files, &f->all);
    map_insert(&q->files_by_number, &f->by_number, hash_u64(number));
    return f;
}

void file_rest(struct queue_log *q, struct log_file *f)
{
    if (f != q->current && f->live == 0 && f->writes == 0 && !f->pinned) {
        map_remove(&q->files_by_number, &f->by_number);
        list_remove(&f->all);
        free(f);
    }
}

static void current_leave(struct queue_log *q)
{
    struct log_file *f = q->current;
    q->current = NULL;
    if (f != NULL) {
        file_rest(q, f);
    }
}

/* What is appended later must not share a sector with what a snapshot needs: the write that power failed in may have spoiled all of it. */
static size_t sectors(size_t bytes)
{
    return (bytes + SECTOR_BYTES - 1) / SECTOR_BYTES * SECTOR_BYTES;
}

/* The next place for so many bytes; its number is none of those that a table names. */
static struct log_file *place_take(struct queue_log *q, uint32_t bytes, uint32_t *at)
{
    if (q->current != NULL && q->current_at + bytes > q->o.file_bytes) {
        current_leave(q);
    }
    if (q->current == NULL) {
        while (file_find(q, q->next_file) != NULL) {
            q->next_file++;
        }
        q->current = file_new(q, q->next_file++);
        q->current_at = 0;
    }
    *at = (uint32_t)q->current_at;
    q->current_at += sectors(bytes);
    return q->current;
}

struct place_key { uint64_t file, at; };

static bool write_eq(const struct map_node *n, const void *key)
{
    const struct write *w = CONTAINER_OF(n, struct write, by_place);
    const struct place_key *k = key;
    return w->file->number == k->file && w->at == k->at;
}

struct write *write_find(struct queue_log *q, uint64_t file, uint64_t at)
{
    struct place_key k = {file, at};
    struct map_node *n = map_find(&q->writes_by_place, place_hash(file, at), &k, write_eq);
    return n != NULL ? CONTAINER_OF(n, struct write, by_place) : NULL;
}

static struct write *write_begin(struct queue_log *q, struct part *p, uint64_t base, slice_t bytes, bool move)
{
    struct write *w = malloc(sizeof *w);
    syn_assert(w != NULL);
    *w = (struct write){.bytes = (uint32_t)bytes.len, .part = p, .base = base, .move = move};
    w->file = place_take(q, w->bytes, &w->at);
    w->file->live += w->bytes;
    w->file->writes++;
    w->file->extent = (uint64_t)w->at + w->bytes;
    list_push_back(&q->writes, &w->all);
    map_insert(&q->writes_by_place, &w->by_place, place_hash(w->file->number, w->at));
    return w;
}

/* Hands out a copy of the bytes, and zeros to the end of the sector: the chunk itself stays readable meanwhile. */
static void write_issue(struct queue_log *q, const struct write *w, slice_t bytes)
{
    size_t all = sectors(bytes.len);
    struct buf copy = {.ptr = calloc(1, all), .len = all, .cap = all};
    syn_assert(copy.ptr != NULL);
    memcpy(copy.ptr, bytes.ptr, bytes.len);
    q->o.write(q->o.arg, w->file->number, w->at, &copy);
    buf_fini(&copy);
}

void write_forget(struct write *w)
{
    syn_assert(w != NULL && w->part != NULL && w->file->live >= w->bytes);
    w->file->live -= w->bytes;
    w->part = NULL;
}

void young_close(struct queue_log *q, struct young *y)
{
    struct chunk *c = part_at(y->part, y->base);
    syn_assert(c != NULL && c->state == CHUNK_OPEN && c->young == y);
    c->state = CHUNK_CLOSED;
    chunk_data_fit(&y->data);
    list_remove(&y->link);
    list_push_back(&q->closed, &y->link);
    for (struct list *it = y->link.prev; it != &q->closed && CONTAINER_OF(it, struct young, link)->serial > y->serial; it = y->link.prev) {
        list_remove(&y->link);
        list_push_back(it, &y->link);
    }
}

void young_write(struct queue_log *q, struct young *y)
{
    struct chunk *c = part_at(y->part, y->base);
    syn_assert(c != NULL && c->state == CHUNK_CLOSED && c->young == y);
    chunk_data_seal(&y->data, y->part->topic, y->part->partition, y->base);
    struct write *w = write_begin(q, y->part, y->base, buf_slice(&y->data.bytes), false);
    c->state = CHUNK_WRITING;
    y->file = w->file;
    y->at = w->at;
    q->writing_bytes += c->bytes;
    list_remove(&y->link);
    write_issue(q, w, buf_slice(&y->data.bytes));
}

void move_write(struct queue_log *q, struct part *p, const struct chunk *c, const struct chunk_data *d)
{
    struct write *w = write_begin(q, p, c->base, buf_slice(&d->bytes), true);
    write_issue(q, w, buf_slice(&d->bytes));
}

void log_spill(struct queue_log *q)
{
    while (q->young_bytes - q->writing_bytes > q->o.young_bytes && q->writing_bytes < q->o.young_bytes) {
        if (q->failing && (!q->may_retry || !list_empty(&q->writes))) {
            return;
        }
        if (list_empty(&q->closed)) {
            young_close(q, CONTAINER_OF(q->open.next, struct young, link));
        }
        struct young *y = CONTAINER_OF(q->closed.next, struct young, link);
        if (!chunk_needed(q, y->part, part_at(y->part, y->base))) {
            chunk_drop(q, y->part, y->base);
            continue;
        }
        young_write(q, y);
        q->may_retry = false;
    }
}

static void young_written(struct queue_log *q, const struct write *w, bool ok)
{
    struct chunk *c = part_at(w->part, w->base);
    syn_assert(c != NULL && c->state == CHUNK_WRITING && c->young->file == w->file && c->young->at == w->at);
    struct young *y = c->young;
    q->writing_bytes -= c->bytes;
    if (!ok) {
        w->file->live -= w->bytes;
        c->state = CHUNK_CLOSED;
        y->file = NULL;
        struct list *it = q->closed.next; /* those that are older failed before it */
        while (it != &q->closed && CONTAINER_OF(it, struct young, link)->serial < y->serial) {
            it = it->next;
        }
        list_push_back(it, &y->link);
        return;
    }
    q->young_bytes -= c->bytes;
    c->state = CHUNK_STORED;
    c->file = w->file;
    c->at = w->at;
    chunk_data_fini(&y->data);
    free(y);
}

void queue_log_written(struct queue_log *q, uint64_t file, uint64_t offset, bool ok)
{
    struct write *w = write_find(q, file, offset);
    if (w == NULL) {
        return; /* of a queue_log that was here before a snapshot was installed */
    }
    map_remove(&q->writes_by_place, &w->by_place);
    list_remove(&w->all);
    w->file->writes--;
    if (w->part != NULL && w->move) {
        move_written(q, w->part, part_at(w->part, w->base), w, ok);
    } else if (w->part != NULL) {
        young_written(q, w, ok);
    }
    q->failing = !ok;
    if (!ok && w->file == q->current) {
        q->current = NULL; /* its end is not known any more */
    }
    file_rest(q, w->file);
    free(w);
    log_spill(q);
}
