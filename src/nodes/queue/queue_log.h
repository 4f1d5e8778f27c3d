/* Where a group's messages are on this node: in memory while they are young, in backlog files once they are not (docs/queue.md, "The log is
 * the queue"; decision 008).
 *
 * Node-local: two replicas with equal state machines may keep their messages in different files. A message that is consumed soon is never
 * written here: it was written once, in the write-ahead log. What is still needed when the group makes a snapshot, or when the memory
 * for young messages is full, is written in chunks: consecutive messages of one partition, with a checksum.
 *
 * Pure: it asks for reads and writes through its callbacks and is told when they are done, later: no callback calls back into it. */
#ifndef SYN_NODES_QUEUE_QUEUE_LOG_H
#define SYN_NODES_QUEUE_QUEUE_LOG_H

#include "nodes/queue/queue_sm.h"

struct queue_log_options {
    uint64_t file_base;         /* numbers of this process's files begin here; unique among all nodes and starts */
    uint32_t chunk_bytes;       /* a chunk is closed at this size, default 256 KiB */
    uint64_t young_bytes;       /* more than this young: the oldest chunks are written, so many at a time; default 8 MiB */
    uint64_t cache_bytes;       /* chunks read back are kept up to this, least recently used first out, default 4 MiB */
    uint64_t file_bytes;        /* a file is closed at this size, default 16 MiB */
    void *arg;
    /* At the end of the file so far, whole sectors of 512 bytes; answered by queue_log_written. After a failure the file is left alone: a new one is begun. */
    void (*write)(void *arg, uint64_t file, uint64_t offset, struct buf *take_data);
    void (*read)(void *arg, uint64_t file, uint64_t offset, uint32_t bytes);         /* answered by queue_log_loaded */
    bool (*needed)(void *arg, uint64_t topic, uint32_t partition, uint64_t from, uint64_t to); /* queue_sm_needs */
};
struct queue_log;
struct queue_log *queue_log_new(const struct queue_log_options *o);
void queue_log_free(struct queue_log *q);
void queue_log_set_owner(struct queue_log *q, void *arg); /* what the callbacks get from now on */

/* Offsets of a partition rise; gaps are fine (a trimmed or restored start). A restored table that claims to have the offset already loses
 * what it has from there on. */
void queue_log_append(struct queue_log *q, const struct queue_appended *m);
/* Chunks that end below start go, unless options.needed says that something in them is still needed (then a later trim or tidy takes them).
 * UINT64_MAX: the whole partition goes, whatever is needed. */
void queue_log_trim(struct queue_log *q, uint64_t topic, uint32_t partition, uint64_t start);

enum queue_log_got { QUEUE_LOG_OK, QUEUE_LOG_GONE /* trimmed, or was never here */, QUEUE_LOG_LOADING /* asked for: ask again when told */,
                     QUEUE_LOG_DAMAGED /* its chunk cannot be read or its checksum is wrong */ };
struct queue_message { uint64_t offset; struct stream_id id; uint8_t flags; slice_t body; }; /* body: borrowed until the next call */
enum queue_log_got queue_log_get(struct queue_log *q, uint64_t topic, uint32_t partition, uint64_t offset, struct queue_message *out);
/* The first message at or after offset (below `end`): skips gaps; GONE: there is none. DAMAGED: out->offset is the last one that cannot be read. */
enum queue_log_got queue_log_next(struct queue_log *q, uint64_t topic, uint32_t partition, uint64_t offset, uint64_t end, struct queue_message *out);
/* The first offset whose id is >= id; `end` when there is none. LOADING as above; DAMAGED: it is within the chunk that begins at *offset. */
enum queue_log_got queue_log_seek(struct queue_log *q, uint64_t topic, uint32_t partition, struct stream_id id, uint64_t end, uint64_t *offset);

/* Answers to write and read; one that nothing waits for is ignored. Not ok: kept in memory, written again later (elsewhere); not readable until
 * tidy has come by, then tried again. */
void queue_log_written(struct queue_log *q, uint64_t file, uint64_t offset, bool ok);
void queue_log_loaded(struct queue_log *q, uint64_t file, uint64_t offset, slice_t data, bool ok);

uint64_t queue_log_young_bytes(const struct queue_log *q); /* in memory and not written: what back-pressure looks at */

/* A snapshot: everything still needed is closed and handed to write; out gets the table of chunks, files the pairs (u64 file, u64 bytes)
 * that the snapshot needs, ascending. The caller makes them durable before the snapshot counts; if a write to one of them fails until then, the
 * snapshot must not count. */
void queue_log_snapshot(struct queue_log *q, struct buf *out, struct buf *files);
/* Into an empty queue_log: the table as written above. False: malformed, and it is empty again. */
bool queue_log_restore(struct queue_log *q, slice_t table);
/* Numbers (u64 each, ascending) of the files that this queue_log still refers to or is writing, and of those that its newest snapshot named:
 * with those of the newest durable snapshot, all that must be kept. */
void queue_log_files(const struct queue_log *q, struct buf *out);
/* Called now and then, looks at a few hundred chunks: those not needed go, wherever they are; those in files less than a quarter alive are
 * read and written anew; those that could not be read may be tried again, and so may writes. */
void queue_log_tidy(struct queue_log *q);
/* Asserts every invariant (queue_log_internal.h); O(everything). */
void queue_log_check(const struct queue_log *q);

#endif
