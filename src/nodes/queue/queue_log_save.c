/* The message store in snapshots: its table of chunks, and the files that a table needs.
 *
 * The table: u32 magic, u32 partitions, then each: u64 topic, u32 partition, u32 chunks, then each: u64 file, u32 at, u32 bytes, u64 base,
 * u32 span, u32 count, first id and last id (u64 ms, u64 seq each). It comes from a disk or from another node: queue_log_restore believes
 * nothing that would break an invariant, and what it names is checked again when it is read.
 *
 * Files that the newest table names are kept (queue_log_files) although chunks have left them since: the snapshot may still be on its
 * way to the disk. */
#include "nodes/queue/queue_log_internal.h"

#include <stdlib.h>

enum { TABLE_MAGIC = 0x31545153 /* "SQT1" */, CHUNK_ROW_BYTES = 64, PART_ROW_BYTES = 16 };

/* Afterwards each chunk has a place in a file, though perhaps it is not written there yet. */
static void write_all(struct queue_log *q)
{
    while (!list_empty(&q->open)) {
        young_close(q, CONTAINER_OF(q->open.next, struct young, link));
    }
    while (!list_empty(&q->closed)) {
        struct young *y = CONTAINER_OF(q->closed.next, struct young, link);
        if (chunk_needed(q, y->part, part_at(y->part, y->base))) {
            young_write(q, y);
        } else {
            chunk_drop(q, y->part, y->base);
        }
    }
}

static void put_id(struct buf *out, struct stream_id id)
{
    buf_put_u64(out, id.ms);
    buf_put_u64(out, id.seq);
}

static void put_chunk(struct buf *out, const struct chunk *c)
{
    struct log_file *f = c->state == CHUNK_STORED ? c->file : c->young->file;
    uint32_t at = c->state == CHUNK_STORED ? c->at : c->young->at;
    uint64_t end = (uint64_t)at + c->bytes;
    f->need = end > f->need ? end : f->need;
    buf_put_u64(out, f->number);
    buf_put_u32(out, at);
    buf_put_u32(out, c->bytes);
    buf_put_u64(out, c->base);
    buf_put_u32(out, c->span);
    buf_put_u32(out, c->count);
    put_id(out, c->first_id);
    put_id(out, c->last_id);
}

static void put_table(struct queue_log *q, struct buf *out)
{
    uint32_t n = 0;
    buf_put_u32(out, TABLE_MAGIC);
    size_t at = out->len;
    buf_put_u32(out, 0);
    list_each(it, &q->parts) {
        const struct part *p = CONTAINER_OF(it, struct part, all);
        if (p->n == 0) {
            continue;
        }
        n++;
        buf_put_u64(out, p->topic);
        buf_put_u32(out, p->partition);
        buf_put_u32(out, p->n);
        for (uint32_t i = 0; i < p->n; i++) {
            put_chunk(out, part_chunk(p, i));
        }
    }
    le32_put(out->ptr + at, n);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = (*(struct log_file *const *)a)->number, y = (*(struct log_file *const *)b)->number;
    return x < y ? -1 : x > y;
}

/* All files by their numbers; to be freed. */
static struct log_file **files_sorted(const struct queue_log *q)
{
    struct log_file **all = malloc((q->files_by_number.count + 1) * sizeof *all);
    syn_assert(all != NULL);
    size_t n = 0;
    list_each(it, &q->files) {
        all[n++] = CONTAINER_OF(it, struct log_file, all);
    }
    syn_assert(n == q->files_by_number.count);
    qsort(all, n, sizeof *all, by_number);
    return all;
}

void queue_log_snapshot(struct queue_log *q, struct buf *out, struct buf *files)
{
    write_all(q);
    list_each(it, &q->files) {
        CONTAINER_OF(it, struct log_file, all)->need = 0;
    }
    put_table(q, out);
    struct log_file **all = files_sorted(q);
    for (size_t i = 0, n = q->files_by_number.count; i < n; i++) {
        struct log_file *f = all[i];
        f->pinned = f->need > 0;
        if (f->need > 0) {
            buf_put_u64(files, f->number);
            buf_put_u64(files, f->need);
        }
        file_rest(q, f);
    }
    free(all);
}

void queue_log_files(const struct queue_log *q, struct buf *out)
{
    struct log_file **all = files_sorted(q);
    for (size_t i = 0; i < q->files_by_number.count; i++) {
        buf_put_u64(out, all[i]->number);
    }
    free(all);
}

static struct stream_id get_id(struct reader *r)
{
    uint64_t ms = reader_u64(r);
    return (struct stream_id){ms, reader_u64(r)};
}

static bool get_chunk(struct queue_log *q, struct reader *r, struct part *p)
{
    uint64_t number = reader_u64(r);
    uint32_t at = reader_u32(r), bytes = reader_u32(r);
    struct chunk c = {.state = CHUNK_STORED, .restored = 1, .at = at, .base = reader_u64(r)};
    c.span = reader_u32(r);
    c.count = reader_u32(r);
    c.first_id = get_id(r);
    c.last_id = get_id(r);
    if (!r->ok || bytes > CHUNK_BYTES_MAX || at > FILE_BYTES_MAX || c.count == 0 || c.span < c.count - 1 || c.base >= UINT64_MAX - c.span ||
        bytes < CHUNK_HEAD_BYTES + (uint64_t)c.count * RECORD_HEAD_BYTES || (p->n > 0 && c.base <= chunk_last(part_chunk(p, p->n - 1)))) {
        return false;
    }
    c.bytes = bytes & 0x3ffffff;
    c.file = file_find(q, number);
    c.file = c.file != NULL ? c.file : file_new(q, number);
    c.file->live += bytes;
    c.file->extent = (uint64_t)at + bytes > c.file->extent ? (uint64_t)at + bytes : c.file->extent;
    *part_push(p) = c;
    return true;
}

static bool get_part(struct queue_log *q, struct reader *r)
{
    uint64_t topic = reader_u64(r);
    uint32_t partition = reader_u32(r), n = reader_u32(r);
    if (!r->ok || n == 0 || n > reader_left(r) / CHUNK_ROW_BYTES || part_find(q, topic, partition) != NULL) {
        return false;
    }
    struct part *p = part_get(q, topic, partition);
    for (uint32_t i = 0; i < n; i++) {
        if (!get_chunk(q, r, p)) {
            return false;
        }
    }
    return true;
}

struct place { uint64_t file; uint32_t at, bytes; };

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->file != y->file) {
        return x->file < y->file ? -1 : 1;
    }
    return x->at < y->at ? -1 : x->at > y->at;
}

/* No two chunks have bytes in common: chunks are told apart by their places. */
static bool places_are_apart(const struct queue_log *q)
{
    size_t n = 0;
    list_each(it, &q->parts) {
        n += CONTAINER_OF(it, struct part, all)->n;
    }
    struct place *all = malloc((n + 1) * sizeof *all);
    syn_assert(all != NULL);
    n = 0;
    list_each(it, &q->parts) {
        const struct part *p = CONTAINER_OF(it, struct part, all);
        for (uint32_t i = 0; i < p->n; i++) {
            const struct chunk *c = part_chunk(p, i);
            all[n++] = (struct place){c->file->number, c->at, c->bytes};
        }
    }
    qsort(all, n, sizeof *all, by_place);
    bool apart = true;
    for (size_t i = 1; i < n && apart; i++) {
        apart = all[i - 1].file != all[i].file || (uint64_t)all[i - 1].at + all[i - 1].bytes <= all[i].at;
    }
    free(all);
    return apart;
}

bool queue_log_restore(struct queue_log *q, slice_t table)
{
    syn_assert(list_empty(&q->parts) && list_empty(&q->files) && list_empty(&q->writes));
    struct reader r = reader_of(table);
    bool ok = reader_u32(&r) == TABLE_MAGIC;
    uint32_t n = reader_u32(&r);
    ok = ok && r.ok && n <= reader_left(&r) / PART_ROW_BYTES;
    for (uint32_t i = 0; i < n && ok; i++) {
        ok = get_part(q, &r);
    }
    ok = ok && reader_done(&r) && places_are_apart(q);
    if (!ok) {
        log_clear(q);
    }
    return ok;
}
