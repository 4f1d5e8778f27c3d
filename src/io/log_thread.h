/* Two threads around one store: the log thread makes what it is given durable, group commit by group commit, and the
 * upkeep thread does everything that may take longer (the next segment, snapshots, trimming) without ever delaying it.
 *
 * All functions and all callbacks are for the loop's thread. Callbacks come in the order of the work of their thread. */
#ifndef SYN_IO_LOG_THREAD_H
#define SYN_IO_LOG_THREAD_H

#include "storage/store.h"

#include <uv.h>

struct log_thread;

struct log_thread_callbacks {
    void *arg;
    /* Everything appended up to and including seq is durable; the write and sync took sync_us. */
    void (*done)(void *arg, uint64_t upto_seq, uint64_t sync_us);
    /* The store is poisoned: nothing more will ever become durable, the process must stop. Once. text lives for the call. */
    void (*failed)(void *arg, enum store_status status, const char *text);
    /* low: there is no room for the next segment, or not even for what is in flight. Once per change. */
    void (*space)(void *arg, int level); /* 0: there is room, 1: not for a next segment, 2: none at all */
};

enum log_job_kind { LOG_JOB_SNAPSHOT_WRITE, LOG_JOB_SNAPSHOT_ABORT, LOG_JOB_READ_RAW, LOG_JOB_WRITE_RAW, LOG_JOB_LOAD, LOG_JOB_TRIM,
                    LOG_JOB_ATTACH, LOG_JOB_BACKLOG_WRITE, LOG_JOB_BACKLOG_READ, LOG_JOB_BACKLOG_KEEP };

/* One job of the upkeep thread; the fields are the arguments of the store function of that name. Freed by log_thread after
 * finished; the fields may be read, and data may be swapped out, until then. */
struct log_job {
    enum log_job_kind kind;
    uint32_t group;
    uint64_t index;
    uint64_t term;
    uint64_t offset;
    uint32_t max;           /* READ_RAW, BACKLOG_READ. The index of BACKLOG jobs is the file's number */
    bool last;              /* SNAPSHOT_WRITE, WRITE_RAW: in; READ_RAW: out */
    struct buf data;        /* in: the chunk (TRIM: u64 per group, little-endian). out: READ_RAW, and LOAD: all of the snapshot */
    enum store_status status;
    char text[256];         /* why status is not OK */
    void *owner;            /* the caller's */
    void (*finished)(void *arg, struct log_job *job); /* arg of the callbacks; may be NULL */
    struct log_job *next;   /* log_thread's */
};

/* Starts both threads. The store stays the caller's, who must not touch it until log_thread_stop has returned. NULL: no
 * threads could be made. */
struct log_thread *log_thread_start(struct store *store, uv_loop_t *loop, const struct log_thread_callbacks *callbacks);
/* Records of one loop turn; takes the bytes (records is empty afterwards). seq grows. Never blocks on the disk. */
void log_thread_append(struct log_thread *t, struct buf *take_records, uint64_t seq);
/* Blocks until what was appended up to seq is durable or refused, at most us microseconds. The callback comes by the loop as ever. */
void log_thread_wait(struct log_thread *t, uint64_t seq, uint32_t us);
struct log_job *log_job_new(enum log_job_kind kind, uint32_t group, uint64_t index);
/* Jobs run in the order given, on the upkeep thread; but BACKLOG_READ comes before what waits, a
 * consumer is waiting for it; after 16 of them in a row one other job has its turn. What a read needs must have been written: it does not wait
 * for jobs given before. */
void log_thread_submit(struct log_thread *t, struct log_job *take_job);
/* Drains: everything appended is durable and every job is done (unless the store failed, or has had no room for a last
 * try), its callbacks are called, the threads have ended. Blocks. closed (may be NULL) is called by the loop when it no
 * longer knows of t; t is freed then. */
void log_thread_stop(struct log_thread *t, void (*closed)(void *arg));

struct log_thread_stats { uint64_t batches, appends, waiting_bytes; };
void log_thread_stats(struct log_thread *t, struct log_thread_stats *out);

#endif
