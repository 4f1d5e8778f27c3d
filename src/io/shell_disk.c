/* Disk effects: records to the log thread, snapshot work to the upkeep thread, and their answers as events.
 *
 * A snapshot is loaded whole by the upkeep thread and handed to the node in pieces, one per loop turn, so that no turn is long. */
#include "io/shell.h"

#include "utils/assert.h"

#include <malloc.h>
#include <stdlib.h>

enum { PIECE_BYTES = 1024 * 1024, TRIM_MS = 2000, MEASURE_MS = 1000, TRIM_KEEP_BYTES = 16 * 1024 * 1024 };

/* A loaded snapshot on its way into the node. */
struct load_feed {
    uv_idle_t idle;
    struct shell *shell;
    struct log_job *job; /* only its fields; data was swapped out */
    uint32_t group;
    uint64_t index;
    struct buf data;
    size_t at;
};

static void on_feed_closed(uv_handle_t *h)
{
    struct load_feed *f = h->data;
    buf_fini(&f->data);
    free(f);
}

static void on_feed(uv_idle_t *h)
{
    struct load_feed *f = h->data;
    size_t left = f->data.len - f->at, n = left < PIECE_BYTES ? left : PIECE_BYTES;
    struct event ev = {.type = EV_SNAP_PIECE, .group = f->group, .index = f->index, .ok = true, .last = n == left,
                       .data = slice_of(f->data.ptr + f->at, n)};
    f->at += n;
    if (ev.last) {
        uv_idle_stop(h);
    }
    struct shell *s = f->shell;
    bool last = ev.last;
    shell_event(s, &ev);
    if (last) {
        uv_close((uv_handle_t *)h, on_feed_closed);
    }
}

static void feed_start(struct shell *s, struct log_job *job)
{
    struct load_feed *f = calloc(1, sizeof *f);
    syn_assert(f != NULL);
    f->shell = s;
    f->group = job->group;
    f->index = job->index;
    buf_swap(&f->data, &job->data);
    uv_idle_init(&s->loop, &f->idle);
    f->idle.data = f;
    uv_idle_start(&f->idle, on_feed);
}

/* A snapshot lets go of the log and the messages before it. Between blocks that stay, glibc keeps such memory for itself (418 MB for 72 MB in
 * use, measured); this gives it back to the system. */
static void give_back_memory(struct shell *s)
{
    uint64_t now = uv_now(&s->loop);
    if (now - s->trimmed_ms >= TRIM_MS) {
        s->trimmed_ms = now;
        malloc_trim(TRIM_KEEP_BYTES);
    }
}

static void job_done(void *arg, struct log_job *job)
{
    struct shell *s = arg;
    bool ok = job->status == STORE_OK;
    struct event ev = {.group = job->group, .index = job->index, .offset = job->offset, .last = job->last, .ok = ok};
    if (!ok) {
        shell_log(s, LOG_WARN, job->text);
    }
    switch (job->kind) {
    case LOG_JOB_SNAPSHOT_WRITE:
        if (ok && !job->last) {
            return;
        }
        ev.type = EV_SNAP_WRITTEN;
        give_back_memory(s);
        break;
    case LOG_JOB_READ_RAW:
        ev.type = EV_SNAP_RAW;
        ev.peer = (node_id_t)(uintptr_t)job->owner;
        ev.data = buf_slice(&job->data);
        break;
    case LOG_JOB_WRITE_RAW:
        ev.type = EV_SNAP_RAW_WRITTEN;
        ev.value = job->status == STORE_CORRUPT;
        ev.offset = job->offset + (uint64_t)(uintptr_t)job->owner;
        break;
    case LOG_JOB_BACKLOG_WRITE:
        ev.type = EV_BACKLOG_WRITTEN;
        break;
    case LOG_JOB_BACKLOG_READ:
        ev.type = EV_BACKLOG_LOADED;
        ev.data = buf_slice(&job->data);
        break;
    case LOG_JOB_LOAD:
        if (ok) {
            feed_start(s, job);
            return;
        }
        ev.type = EV_SNAP_PIECE;
        break;
    default: return;
    }
    shell_event(s, &ev);
}

static void disk_job(struct shell *s, enum log_job_kind kind, struct effect *e)
{
    struct log_job *job = log_job_new(kind, e->group, e->index);
    job->term = e->term;
    job->offset = e->offset;
    job->last = e->last;
    job->max = (uint32_t)e->value;
    job->finished = job_done;
    if (kind == LOG_JOB_READ_RAW) {
        job->owner = (void *)(uintptr_t)e->peer;
    } else if (kind == LOG_JOB_WRITE_RAW) {
        job->owner = (void *)(uintptr_t)e->data.len;
    }
    buf_swap(&job->data, &e->data);
    log_thread_submit(s->log, job);
}

void disk_effect(struct shell *s, struct effect *e)
{
    switch (e->type) {
    case EF_LOG: log_thread_append(s->log, &e->data, e->seq); break;
    case EF_SNAP_WRITE: disk_job(s, LOG_JOB_SNAPSHOT_WRITE, e); break;
    case EF_SNAP_READ_RAW: disk_job(s, LOG_JOB_READ_RAW, e); break;
    case EF_SNAP_WRITE_RAW: disk_job(s, LOG_JOB_WRITE_RAW, e); break;
    case EF_SNAP_LOAD: disk_job(s, LOG_JOB_LOAD, e); break;
    case EF_TRIM: disk_job(s, LOG_JOB_TRIM, e); break;
    case EF_SNAP_ATTACH: disk_job(s, LOG_JOB_ATTACH, e); break;
    case EF_BACKLOG_WRITE: disk_job(s, LOG_JOB_BACKLOG_WRITE, e); break;
    case EF_BACKLOG_READ: disk_job(s, LOG_JOB_BACKLOG_READ, e); break;
    case EF_BACKLOG_KEEP: disk_job(s, LOG_JOB_BACKLOG_KEEP, e); break;
    default: SYN_UNREACHABLE();
    }
}

static void on_log_done(void *arg, uint64_t upto, uint64_t sync_us)
{
    struct shell *s = arg;
    uint64_t now = uv_now(&s->loop);
    if (s->log_measured_ms == 0 || now - s->log_measured_ms >= MEASURE_MS) {
        struct store_stats stats;
        store_stats(s->store, &stats);
        s->log_measured_ms = now;
        s->log_bytes = stats.log_bytes;
    }
    struct event ev = {.type = EV_LOG_DONE, .seq = upto, .value = sync_us, .offset = s->log_bytes};
    shell_event(s, &ev);
}

/* W5: nothing that was not synced may be believed any more. The process ends; its supervisor starts it again from the disk. */
static void on_log_failed(void *arg, enum store_status status, const char *text)
{
    struct shell *s = arg;
    (void)status;
    shell_log(s, LOG_ERROR, text);
    s->stopping = true;
    s->exit_code = 74; /* EX_IOERR */
    uv_stop(&s->loop);
}

static void on_log_space(void *arg, int level)
{
    struct event ev = {.type = EV_LOG_SPACE, .value = (uint64_t)level};
    shell_event(arg, &ev);
}

bool disk_start(struct shell *s, struct store *store)
{
    struct log_thread_callbacks cb = {.arg = s, .done = on_log_done, .failed = on_log_failed, .space = on_log_space};
    s->store = store;
    s->log = log_thread_start(store, &s->loop, &cb);
    return s->log != NULL;
}
