/* The log thread and the upkeep thread (docs/disk.md, "Threads"; T1, T4, T5, W1, W5, W8).
 *
 * Responsible for group commit: what arrives during a sync rides in the next one, as one append and one sync. Not for what
 * is written (the node) or how (the store).
 * Invariants: done(seq) is posted only after store_sync answered OK for a batch with seq in it (W1); after FAILED nothing
 * is posted as done (W5); a batch that finds no room is kept and tried again, never dropped or reordered (W8).
 * Everything shared is under `mutex`; each thread works on what it took out of the lists. */
#include "io/log_thread.h"

#include "utils/assert.h"

#include <stdio.h>
#include <stdlib.h>

enum { RETRY_MS = 500, READS_IN_A_ROW = 16 };

struct outbox { /* for the loop's thread */
    bool done;
    uint64_t done_seq;
    uint64_t sync_us;
    bool failed;
    enum store_status failed_status;
    char failed_text[512];
    struct log_job *jobs;
    struct log_job **jobs_end;
    int low; /* as space() says it */
};

struct log_thread {
    struct store *store;
    struct log_thread_callbacks cb;
    uv_async_t async;
    uv_thread_t log;
    uv_thread_t upkeep;
    uv_mutex_t mutex;
    uv_cond_t log_wake;
    uv_cond_t upkeep_wake;
    uv_cond_t done_wake;       /* a batch is done, for who naps until then */
    struct buf waiting;        /* appended, not yet taken by the log thread */
    uint64_t waiting_seq;
    struct log_job *jobs;
    struct log_job **jobs_end;
    struct log_job *reads;     /* BACKLOG_READ */
    struct log_job **reads_end;
    uint32_t reads_in_a_row;   /* while other jobs waited */
    struct outbox out;
    bool stopping;
    bool upkeep_stopping;
    bool dead;                 /* the store failed */
    bool log_full;
    bool prepare_full;
    struct log_thread_stats stats;
    int told_low;             /* loop thread only */
    bool told_failed;
    void (*closed)(void *arg);
};

static void post_failure(struct log_thread *t, enum store_status st, const char *text)
{
    uv_mutex_lock(&t->mutex);
    t->dead = true;
    if (!t->out.failed) {
        t->out.failed = true;
        t->out.failed_status = st;
        snprintf(t->out.failed_text, sizeof t->out.failed_text, "%s", text);
    }
    uv_cond_signal(&t->log_wake);
    uv_cond_signal(&t->upkeep_wake);
    uv_cond_signal(&t->done_wake);
    uv_mutex_unlock(&t->mutex);
    uv_async_send(&t->async);
}

/* Call with the mutex held. */
static void update_space(struct log_thread *t)
{
    int low = t->log_full ? 2 : t->prepare_full ? 1 : 0;
    if (low != t->out.low) {
        t->out.low = low;
        uv_async_send(&t->async);
    }
}

static void set_full(struct log_thread *t, bool *which, bool full)
{
    uv_mutex_lock(&t->mutex);
    *which = full;
    update_space(t);
    uv_mutex_unlock(&t->mutex);
}

/* Takes all that waits. False: the thread ends. */
static bool take_batch(struct log_thread *t, struct buf *batch, uint64_t *seq)
{
    uv_mutex_lock(&t->mutex);
    while (t->waiting.len == 0 && t->waiting_seq == *seq && !t->stopping && !t->dead) {
        uv_cond_wait(&t->log_wake, &t->mutex);
    }
    bool work = !t->dead && (t->waiting.len > 0 || t->waiting_seq != *seq);
    buf_swap(&t->waiting, batch);
    *seq = t->waiting_seq;
    t->stats.batches += work;
    uv_mutex_unlock(&t->mutex);
    return work;
}

/* Waits for room, at most until the next try is due. False: stopping, this was the last try. */
static bool wait_for_room(struct log_thread *t)
{
    uv_mutex_lock(&t->mutex);
    bool go_on = !t->stopping && !t->dead;
    if (go_on) {
        uv_cond_timedwait(&t->log_wake, &t->mutex, RETRY_MS * 1000000ull);
    }
    uv_mutex_unlock(&t->mutex);
    return go_on;
}

static enum store_status write_batch(struct log_thread *t, slice_t records)
{
    enum store_status st = records.len > 0 ? store_append(t->store, records) : STORE_OK;
    while (st == STORE_FULL) {
        set_full(t, &t->log_full, true);
        bool go_on = wait_for_room(t);
        st = store_append(t->store, records);
        if (!go_on) {
            break;
        }
    }
    if (st == STORE_OK) {
        st = store_sync(t->store);
    }
    return st;
}

static void log_main(void *arg)
{
    struct log_thread *t = arg;
    struct buf batch = {0};
    uint64_t seq = 0;
    while (take_batch(t, &batch, &seq)) {
        uint64_t from = uv_hrtime();
        enum store_status st = write_batch(t, buf_slice(&batch));
        buf_clear(&batch);
        if (st != STORE_OK) {
            post_failure(t, st, st == STORE_FULL ? "no room on the disk for what was in flight" : store_error(t->store));
            break;
        }
        bool needs = store_needs_prepare(t->store);
        uv_mutex_lock(&t->mutex);
        t->log_full = false;
        update_space(t);
        t->out.done = true;
        t->out.done_seq = seq;
        t->out.sync_us = (uv_hrtime() - from) / 1000;
        uv_cond_signal(&t->done_wake);
        if (needs) {
            uv_cond_signal(&t->upkeep_wake);
        }
        uv_mutex_unlock(&t->mutex);
        uv_async_send(&t->async);
    }
    buf_fini(&batch);
}

static bool gather(void *arg, slice_t piece)
{
    buf_append_slice(arg, piece);
    return true;
}

static enum store_status run_trim(struct store *s, const struct log_job *j)
{
    size_t n = j->data.len / 8;
    uint64_t *limit = calloc(n + 1, sizeof *limit);
    syn_assert(limit != NULL);
    for (size_t i = 0; i < n; i++) {
        limit[i] = le64_get(j->data.ptr + 8 * i);
    }
    enum store_status st = store_trim(s, limit);
    free(limit);
    return st;
}

static enum store_status run_keep(struct store *s, const struct log_job *j)
{
    size_t n = j->data.len / 8;
    uint64_t *files = calloc(n + 1, sizeof *files);
    syn_assert(files != NULL);
    for (size_t i = 0; i < n; i++) {
        files[i] = le64_get(j->data.ptr + 8 * i);
    }
    enum store_status st = store_backlog_keep(s, j->group, files, n);
    free(files);
    return st;
}

static enum store_status run_kind(struct store *s, struct log_job *j)
{
    switch (j->kind) {
    case LOG_JOB_SNAPSHOT_WRITE:
        return store_snapshot_write(s, j->group, j->index, j->term, j->offset, buf_slice(&j->data), j->last);
    case LOG_JOB_SNAPSHOT_ABORT:
        store_snapshot_abort(s, j->group);
        return STORE_OK;
    case LOG_JOB_READ_RAW:
        buf_clear(&j->data);
        return store_snapshot_read_raw(s, j->group, j->index, j->offset, j->max, &j->data, &j->last);
    case LOG_JOB_WRITE_RAW:
        return store_snapshot_write_raw(s, j->group, j->index, j->term, j->offset, buf_slice(&j->data), j->last);
    case LOG_JOB_LOAD:
        buf_clear(&j->data);
        return store_snapshot_load(s, j->group, j->index, gather, &j->data);
    case LOG_JOB_TRIM:
        return run_trim(s, j);
    case LOG_JOB_ATTACH:
        return store_snapshot_attach(s, j->group, j->index, buf_slice(&j->data));
    case LOG_JOB_BACKLOG_WRITE:
        return store_backlog_write(s, j->group, j->index, j->offset, buf_slice(&j->data));
    case LOG_JOB_BACKLOG_READ:
        buf_clear(&j->data);
        return store_backlog_read(s, j->group, j->index, j->offset, j->max, &j->data);
    case LOG_JOB_BACKLOG_KEEP:
        return run_keep(s, j);
    }
    SYN_UNREACHABLE();
}

static void run_job(struct log_thread *t, struct log_job *j)
{
    j->status = run_kind(t->store, j);
    if (j->status != STORE_OK) {
        snprintf(j->text, sizeof j->text, "%s", store_upkeep_error(t->store));
    }
    if (j->status == STORE_FAILED) {
        post_failure(t, j->status, store_upkeep_error(t->store));
    }
    j->next = NULL;
    uv_mutex_lock(&t->mutex);
    *t->out.jobs_end = j;
    t->out.jobs_end = &j->next;
    uv_mutex_unlock(&t->mutex);
    uv_async_send(&t->async);
}

/* The next segment comes before any job; a full disk is asked again each RETRY_MS. */
static void prepare_if_needed(struct log_thread *t)
{
    if (!store_needs_prepare(t->store)) {
        return;
    }
    enum store_status st = store_prepare(t->store);
    set_full(t, &t->prepare_full, st == STORE_FULL);
    if (st == STORE_FAILED) {
        post_failure(t, st, store_upkeep_error(t->store));
    }
    uv_mutex_lock(&t->mutex);
    if (st == STORE_OK) {
        uv_cond_signal(&t->log_wake);
    }
    uv_mutex_unlock(&t->mutex);
}

/* Takes a read if there is one, since a consumer waits for it; but reads that never end do not keep the log from being cut. */
static struct log_job *next_job(struct log_thread *t)
{
    bool read = t->reads != NULL && (t->jobs == NULL || t->reads_in_a_row < READS_IN_A_ROW);
    struct log_job *j = read ? t->reads : t->jobs;
    t->reads_in_a_row = read && t->jobs != NULL ? t->reads_in_a_row + 1 : 0;
    if (read) {
        t->reads = j->next;
        t->reads_end = t->reads == NULL ? &t->reads : t->reads_end;
    } else if (j != NULL) {
        t->jobs = j->next;
        t->jobs_end = t->jobs == NULL ? &t->jobs : t->jobs_end;
    }
    return j;
}

static void upkeep_main(void *arg)
{
    struct log_thread *t = arg;
    for (;;) {
        prepare_if_needed(t);
        uv_mutex_lock(&t->mutex);
        bool idle = t->jobs == NULL && t->reads == NULL && !t->upkeep_stopping;
        if (idle && t->prepare_full && !t->dead) {
            uv_cond_timedwait(&t->upkeep_wake, &t->mutex, RETRY_MS * 1000000ull);
        } else if (idle && !store_needs_prepare(t->store)) {
            uv_cond_wait(&t->upkeep_wake, &t->mutex);
        }
        struct log_job *j = next_job(t);
        bool end = j == NULL && t->upkeep_stopping;
        uv_mutex_unlock(&t->mutex);
        if (end) {
            return;
        }
        if (j != NULL) {
            run_job(t, j);
        }
    }
}

/* Everything in the outbox becomes callbacks, on the loop's thread. */
static void deliver(struct log_thread *t)
{
    uv_mutex_lock(&t->mutex);
    struct outbox o = t->out;
    if (o.jobs == NULL) {
        o.jobs_end = &o.jobs;
    }
    t->out.done = false;
    t->out.jobs = NULL;
    t->out.jobs_end = &t->out.jobs;
    uv_mutex_unlock(&t->mutex);
    if (o.done) {
        t->cb.done(t->cb.arg, o.done_seq, o.sync_us);
    }
    if (o.low != t->told_low) {
        t->told_low = o.low;
        t->cb.space(t->cb.arg, o.low);
    }
    while (o.jobs != NULL) {
        struct log_job *j = o.jobs;
        o.jobs = j->next;
        if (j->finished != NULL) {
            j->finished(t->cb.arg, j);
        }
        buf_fini(&j->data);
        free(j);
    }
    if (o.failed && !t->told_failed) {
        t->told_failed = true;
        t->cb.failed(t->cb.arg, o.failed_status, o.failed_text);
    }
}

static void on_async(uv_async_t *h)
{
    deliver(h->data);
}

struct log_thread *log_thread_start(struct store *store, uv_loop_t *loop, const struct log_thread_callbacks *callbacks)
{
    struct log_thread *t = calloc(1, sizeof *t);
    syn_assert(t != NULL);
    t->store = store;
    t->cb = *callbacks;
    t->jobs_end = &t->jobs;
    t->reads_end = &t->reads;
    t->out.jobs_end = &t->out.jobs;
    if (uv_async_init(loop, &t->async, on_async) != 0) {
        free(t);
        return NULL;
    }
    t->async.data = t;
    syn_assert(uv_mutex_init(&t->mutex) == 0 && uv_cond_init(&t->log_wake) == 0 && uv_cond_init(&t->upkeep_wake) == 0 &&
               uv_cond_init(&t->done_wake) == 0);
    syn_assert(uv_thread_create(&t->log, log_main, t) == 0 && uv_thread_create(&t->upkeep, upkeep_main, t) == 0);
    return t;
}

void log_thread_wait(struct log_thread *t, uint64_t seq, uint32_t us)
{
    uint64_t end = uv_hrtime() + us * 1000ull, now = 0;
    uv_mutex_lock(&t->mutex);
    while (t->out.done_seq < seq && !t->dead && (now = uv_hrtime()) < end) {
        uv_cond_timedwait(&t->done_wake, &t->mutex, end - now);
    }
    uv_mutex_unlock(&t->mutex);
}

void log_thread_append(struct log_thread *t, struct buf *take_records, uint64_t seq)
{
    uv_mutex_lock(&t->mutex);
    syn_assert(seq > t->waiting_seq && !t->stopping);
    if (t->waiting.len == 0) {
        buf_swap(&t->waiting, take_records);
    } else {
        buf_append_slice(&t->waiting, buf_slice(take_records));
    }
    buf_clear(take_records);
    t->waiting_seq = seq;
    t->stats.appends++;
    uv_cond_signal(&t->log_wake);
    uv_mutex_unlock(&t->mutex);
}

struct log_job *log_job_new(enum log_job_kind kind, uint32_t group, uint64_t index)
{
    struct log_job *j = calloc(1, sizeof *j);
    syn_assert(j != NULL);
    j->kind = kind;
    j->group = group;
    j->index = index;
    return j;
}

void log_thread_submit(struct log_thread *t, struct log_job *take_job)
{
    take_job->next = NULL;
    uv_mutex_lock(&t->mutex);
    syn_assert(!t->stopping);
    if (take_job->kind == LOG_JOB_BACKLOG_READ) {
        *t->reads_end = take_job;
        t->reads_end = &take_job->next;
    } else {
        *t->jobs_end = take_job;
        t->jobs_end = &take_job->next;
    }
    uv_cond_signal(&t->upkeep_wake);
    uv_mutex_unlock(&t->mutex);
}

static void on_closed(uv_handle_t *h)
{
    struct log_thread *t = h->data;
    void (*closed)(void *arg) = t->closed;
    void *arg = t->cb.arg;
    uv_cond_destroy(&t->log_wake);
    uv_cond_destroy(&t->upkeep_wake);
    uv_cond_destroy(&t->done_wake);
    uv_mutex_destroy(&t->mutex);
    buf_fini(&t->waiting);
    free(t);
    if (closed != NULL) {
        closed(arg);
    }
}

void log_thread_stop(struct log_thread *t, void (*closed)(void *arg))
{
    uv_mutex_lock(&t->mutex);
    t->stopping = true;
    uv_cond_signal(&t->log_wake);
    uv_mutex_unlock(&t->mutex);
    uv_thread_join(&t->log);
    uv_mutex_lock(&t->mutex);
    t->upkeep_stopping = true;
    uv_cond_signal(&t->upkeep_wake);
    uv_mutex_unlock(&t->mutex);
    uv_thread_join(&t->upkeep);
    deliver(t);
    t->closed = closed;
    uv_close((uv_handle_t *)&t->async, on_closed);
}

void log_thread_stats(struct log_thread *t, struct log_thread_stats *out)
{
    uv_mutex_lock(&t->mutex);
    *out = t->stats;
    out->waiting_bytes = t->waiting.len;
    uv_mutex_unlock(&t->mutex);
}
