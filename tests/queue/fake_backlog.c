/* A disk for queue_log in memory. It holds queue_log to the contract of options.write: each write is at the end of its file so far. */
#include "fake_backlog.h"

#include "utils/assert.h"

#include <stdlib.h>

struct fake_file *fake_file(struct fake_backlog *b, uint64_t number)
{
    for (uint32_t i = 0; i < b->n_files; i++) {
        if (b->files[i].number == number && !b->files[i].gone) {
            return &b->files[i];
        }
    }
    return NULL;
}

static void on_write(void *arg, uint64_t file, uint64_t offset, struct buf *take_data)
{
    struct fake_backlog *b = arg;
    struct fake_file *f = fake_file(b, file);
    if (f == NULL) {
        syn_assert(b->n_files < FAKE_FILES && offset == 0);
        f = &b->files[b->n_files++];
        *f = (struct fake_file){.number = file};
    }
    syn_assert(offset == f->issued && b->n_writes < FAKE_QUEUE && !f->failed);
    f->issued += take_data->len;
    struct fake_request *r = &b->writes[b->n_writes++];
    *r = (struct fake_request){.file = file, .offset = offset, .seq = ++b->write_seq};
    buf_swap(&r->data, take_data);
    b->all_writes++;
}

static void on_read(void *arg, uint64_t file, uint64_t offset, uint32_t bytes)
{
    struct fake_backlog *b = arg;
    for (uint32_t i = 0; i < b->n_reads; i++) {
        syn_assert(b->reads[i].file != file || b->reads[i].offset != offset);
    }
    syn_assert(b->n_reads < FAKE_QUEUE);
    b->reads[b->n_reads++] = (struct fake_request){.file = file, .offset = offset, .bytes = bytes};
    b->all_reads++;
}

static bool on_needed(void *arg, uint64_t topic, uint32_t partition, uint64_t from, uint64_t to)
{
    struct fake_backlog *b = arg;
    return b->needed != NULL ? b->needed(b, topic, partition, from, to) : to >= b->needed_from;
}

static void open_log(struct fake_backlog *b, const struct queue_log_options *sizes)
{
    struct queue_log_options o = *sizes;
    o.arg = b;
    o.write = on_write;
    o.read = on_read;
    o.needed = on_needed;
    b->q = queue_log_new(&o);
}

void fake_init(struct fake_backlog *b, const struct queue_log_options *sizes)
{
    *b = (struct fake_backlog){0};
    open_log(b, sizes);
}

static void requests_drop(struct fake_backlog *b)
{
    for (uint32_t i = 0; i < b->n_writes; i++) {
        buf_fini(&b->writes[i].data);
    }
    b->n_writes = b->n_reads = 0;
    b->written_seq = b->write_seq;
}

void fake_restart(struct fake_backlog *b, const struct queue_log_options *sizes)
{
    queue_log_free(b->q);
    requests_drop(b);
    open_log(b, sizes);
}

void fake_fini(struct fake_backlog *b)
{
    queue_log_free(b->q);
    requests_drop(b);
    for (uint32_t i = 0; i < b->n_files; i++) {
        buf_fini(&b->files[i].bytes);
    }
}

static struct fake_request shift(struct fake_request *queue, uint32_t *n)
{
    struct fake_request r = queue[0];
    memmove(queue, queue + 1, --*n * sizeof *queue);
    return r;
}

bool fake_write(struct fake_backlog *b, bool ok)
{
    if (b->n_writes == 0) {
        return false;
    }
    struct fake_request r = shift(b->writes, &b->n_writes);
    struct fake_file *f = fake_file(b, r.file);
    syn_assert(f != NULL);
    f->failed = f->failed || !ok;
    if (!f->failed) {
        syn_assert(f->bytes.len == r.offset);
        buf_append_slice(&f->bytes, buf_slice(&r.data));
    }
    b->failed_writes += f->failed;
    b->written_seq = r.seq;
    queue_log_written(b->q, r.file, r.offset, !f->failed);
    buf_fini(&r.data);
    return true;
}

/* The bytes are copied so that a checker of memory sees any use of them after the call. */
bool fake_read(struct fake_backlog *b, bool ok, bool flip)
{
    if (b->n_reads == 0) {
        return false;
    }
    struct fake_request r = shift(b->reads, &b->n_reads);
    const struct fake_file *f = fake_file(b, r.file);
    ok = ok && f != NULL && r.offset + r.bytes <= f->bytes.len;
    struct buf copy = {0};
    if (ok) {
        buf_append(&copy, f->bytes.ptr + r.offset, r.bytes);
        copy.ptr[r.offset * 31 % r.bytes] ^= flip ? 0x10 : 0;
    }
    queue_log_loaded(b->q, r.file, r.offset, buf_slice(&copy), ok);
    buf_fini(&copy);
    return true;
}

void fake_write_all(struct fake_backlog *b)
{
    while (fake_write(b, true)) {
    }
}

void fake_read_all(struct fake_backlog *b)
{
    while (fake_read(b, true, false)) {
    }
}
