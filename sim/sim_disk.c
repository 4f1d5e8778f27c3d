/* A process' disk: the log thread and the upkeep thread of src/io/log_thread.c, in virtual time.
 *
 * One flush is in flight at a time; what queues meanwhile rides the next one. Snapshot jobs run one after the other beside it.
 * Responsible also for opening the directory at a start, and for telling the durable model what a flush made durable.
 *
 * Invariants: S1 EV_LOG_DONE(seq) is given only after store_sync covered every append up to seq. S2 a store that failed ends its
 * process at once (W5). */
#include "sim_internal.h"
#include "nodes/queue/queue_log_verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { SEGMENT_BYTES = 256 * 1024, RETRY_US = 50000, PIECE_BYTES = 64 * 1024 };

struct disk_job {
    enum effect_type type;
    uint32_t group;
    uint64_t index, term, offset;
    uint32_t max;
    node_id_t peer;
    bool last;
    struct buf data;
};

void job_free(void *data)
{
    struct disk_job *j = data;
    buf_fini(&j->data);
    free(j);
}

/* A flipped bit in the middle of what is synced: the log must notice, or it hit bytes that nobody needs. */
static bool flip_a_bit(struct sim *s, struct sim_node *n)
{
    const char *name;
    size_t count = 0;
    while (files_mem_name(n->disk, count) != NULL) {
        count++;
    }
    if (count == 0) {
        return false;
    }
    name = files_mem_name(n->disk, prng_below(&s->prng, count));
    int64_t size = files_mem_size(n->disk, name);
    if (size <= 0) {
        return false;
    }
    uint64_t span = (uint64_t)size < 16384 ? (uint64_t)size : 16384;
    return files_mem_flip(n->disk, name, prng_below(&s->prng, span), (unsigned)prng_below(&s->prng, 8));
}

static void faults_before_open(struct sim *s, struct sim_node *n)
{
    files_mem_fail(n->disk, FILES_MEM_OPS, 0, 0);
    files_mem_quota(n->disk, 0);
    if (sim_node_may_lose_disk(s, n) && n->life > 0 && chance(s, FAULT_DISK_FLIP) && flip_a_bit(s, n)) {
        s->wiped_node = n->index + 1;
        n->flips++;
        fire(s, FAULT_DISK_FLIP);
        TRACE(s, "n%u a bit of its disk flips", n->index + 1);
    }
    if (n->life > 0 && chance(s, FAULT_DISK_READ_FAIL)) {
        fire(s, FAULT_DISK_READ_FAIL);
        files_mem_fail(n->disk, FILES_MEM_PREAD, prng_range(&s->prng, 1, 8), EIO);
        n->read_fails++;
    }
}

void sim_disk_corrupt(struct sim *s, struct sim_node *n, const char *why)
{
    TRACE(s, "n%u does not start: %s", n->index + 1, why);
    if (n->flips == 0) {
        sim_fail(s, "n%u: its directory is refused as corrupt though nothing was damaged: %s", n->index + 1, why);
        return;
    }
    n->flips = 0;
    n->wipes++;
    n->partial_at_death = true;
    files_mem_free(n->disk);
    n->disk = files_mem_new();
    raft_check_forget(n);
}

bool sim_disk_open(struct sim *s, struct sim_node *n)
{
    faults_before_open(s, n);
    struct files files = files_mem_table(n->disk);
    struct buf error = {0};
    struct store_options o = {
        .node_uuid_seed = prng_u64(&s->prng),
        .self = n->opt.self,
        .node_name = slice_str(n->opt.members[n->index].name),
        .cluster_key = n->opt.cluster_key,
        .groups = s->n_groups,
        .segment_bytes = SEGMENT_BYTES,
        .backlog_check = queue_log_check_bytes,
    };
    enum store_status st = store_open(&files, &o, &n->store, &n->recovered, &error);
    files_mem_fail(n->disk, FILES_MEM_OPS, 0, 0);
    if (st == STORE_OK && n->flips > 0 && n->recovered.torn_bytes > 0) {
        /* Nothing yet says that the last block was synced: a flip in it is taken for a torn tail (docs/disk.md, "Limits"). */
        store_abandon(n->store);
        n->store = NULL;
        store_recovered_free(&n->recovered);
        st = STORE_CORRUPT;
        buf_append_str(&error, "the last block is torn, or a bit of it flipped");
    }
    if (st == STORE_OK) {
        raft_check_recovered(s, n, n->flips == 0);
    } else if (st == STORE_CORRUPT || st == STORE_MISMATCH) {
        buf_put_u8(&error, 0);
        sim_disk_corrupt(s, n, (const char *)error.ptr);
    } else if (st == STORE_FAILED) {
        TRACE(s, "n%u does not start: %.*s", n->index + 1, (int)error.len, (const char *)error.ptr);
    }
    buf_fini(&error);
    return st == STORE_OK;
}

void sim_disk_drop(struct sim *s, struct sim_node *n)
{
    (void)s;
    n->unsynced_at_death = n->queue_count > 0;
    store_abandon(n->store);
    n->store = NULL;
    store_recovered_free(&n->recovered);
    for (uint32_t i = 0; i < n->queue_count; i++) {
        buf_clear(&n->queue[i].records);
    }
    n->queue_count = n->in_flight = 0;
    n->syncing = false;
}

static void store_broke(struct sim *s, struct sim_node *n)
{
    TRACE(s, "n%u the store failed: %s", n->index + 1, store_error(n->store));
    sim_node_die(s, n, DEATH_PROCESS);
}

static void space(struct sim *s, struct sim_node *n, uint8_t level)
{
    if (n->space_low != level) {
        n->space_low = level;
        sim_at(s, s->now_us, SIM_SPACE, n->index, level, 0, NULL);
    }
}

static uint64_t flush_us(struct sim *s, struct sim_node *n)
{
    uint64_t us = s->disk_us_min + draw_exp(&s->prng, s->disk_us_mean);
    if (n->slow_sync_us > 0 && !s->healed) {
        us += draw_exp(&s->prng, n->slow_sync_us);
    }
    if (chance(s, FAULT_DISK_SLOW)) {
        fire(s, FAULT_DISK_SLOW);
        us += draw_exp(&s->prng, s->mean_us[FAULT_DISK_SLOW]);
    }
    return us;
}

static void arm_disk_faults(struct sim *s, struct sim_node *n)
{
    if (chance(s, FAULT_DISK_SYNC_FAIL)) {
        fire(s, FAULT_DISK_SYNC_FAIL);
        files_mem_fail(n->disk, FILES_MEM_SYNC, 1, EIO);
    }
    if (chance(s, FAULT_DISK_WRITE_FAIL)) {
        fire(s, FAULT_DISK_WRITE_FAIL);
        files_mem_fail(n->disk, FILES_MEM_PWRITE, 1, EIO);
    }
}

/* Writes all that waits; the flush is over after its latency. */
static void flush_begin(struct sim *s, struct sim_node *n)
{
    if (n->syncing || n->retrying || n->queue_count == 0) {
        return;
    }
    arm_disk_faults(s, n);
    for (uint32_t i = n->in_flight; i < n->queue_count; i++) {
        enum store_status st = store_append(n->store, buf_slice(&n->queue[i].records));
        if (st == STORE_FULL) {
            n->retrying = true;
            sim_at(s, s->now_us + RETRY_US, SIM_LOG_RETRY, n->index, 0, 0, NULL);
            space(s, n, 2);
            return;
        }
        if (st != STORE_OK) {
            store_broke(s, n);
            return;
        }
        n->in_flight = i + 1;
    }
    n->syncing = true;
    sim_at(s, s->now_us + flush_us(s, n), SIM_LOG_DONE, n->index, 0, 0, NULL);
}

static void queue_add(struct sim_node *n, struct effect *e)
{
    if (n->queue_count == n->queue_cap) {
        uint32_t cap = n->queue_cap ? n->queue_cap * 2 : 16;
        n->queue = realloc(n->queue, cap * sizeof *n->queue);
        syn_assert(n->queue != NULL);
        memset(n->queue + n->queue_cap, 0, (cap - n->queue_cap) * sizeof *n->queue);
        n->queue_cap = cap;
    }
    struct log_batch *b = &n->queue[n->queue_count++];
    b->seq = e->seq;
    buf_clear(&b->records);
    buf_swap(&b->records, &e->data);
}

/* The first `count` batches are durable now. */
static uint64_t queue_take(struct sim *s, struct sim_node *n, uint32_t count)
{
    uint64_t seq = n->queue[count - 1].seq;
    for (uint32_t i = 0; i < count; i++) {
        raft_check_durable(s, n, buf_slice(&n->queue[i].records));
    }
    uint32_t left = n->queue_count - count;
    for (uint32_t i = 0; i < left; i++) {
        struct log_batch t = n->queue[i];
        n->queue[i] = n->queue[i + count];
        n->queue[i + count] = t;
    }
    n->queue_count = left;
    n->in_flight -= count;
    return seq;
}

static void upkeep(struct sim *s, struct sim_node *n)
{
    if (!store_needs_prepare(n->store)) {
        return;
    }
    enum store_status st = store_prepare(n->store);
    if (st == STORE_FULL) {
        space(s, n, 1);
        if (!n->preparing) {
            n->preparing = true;
            sim_at(s, s->now_us + RETRY_US, SIM_LOG_RETRY, n->index, 1, 0, NULL);
        }
    } else if (st != STORE_OK) {
        store_broke(s, n);
    } else if (!n->retrying) {
        space(s, n, 0);
    }
}

static void flush_end(struct sim *s, struct sim_node *n)
{
    uint64_t life = n->life;
    uint32_t count = n->in_flight;
    n->syncing = false;
    enum store_status st = s->o.canary == CANARY_SYNC_LIE ? STORE_OK : store_sync(n->store);
    if (st != STORE_OK) {
        store_broke(s, n);
        return;
    }
    struct event ev = {.type = EV_LOG_DONE, .seq = queue_take(s, n, count), .value = 100};
    TRACE(s, "n%u flushed up to batch %llu", n->index + 1, (unsigned long long)ev.seq);
    sim_node_give(s, n, &ev);
    if (!n->up || n->life != life) {
        return;
    }
    space(s, n, 0);
    upkeep(s, n);
    if (n->up && n->life == life) {
        flush_begin(s, n);
    }
}

/* Jobs of the upkeep thread: one after the other. */
static void job_add(struct sim *s, struct sim_node *n, struct effect *e)
{
    struct disk_job *j = calloc(1, sizeof *j);
    syn_assert(j != NULL);
    j->type = e->type;
    j->group = e->group;
    j->index = e->index;
    j->term = e->term;
    j->offset = e->offset;
    j->max = (uint32_t)e->value;
    j->peer = e->peer;
    j->last = e->last;
    buf_swap(&j->data, &e->data);
    uint64_t at = n->last_job_at > s->now_us ? n->last_job_at : s->now_us;
    bool syncs = e->type != EF_BACKLOG_WRITE && e->type != EF_BACKLOG_READ; /* a slow disk is slow to flush */
    at += 100 + draw_exp(&s->prng, s->disk_us_mean * 2 + n->slow_sync_us / (syncs ? 1 : 50));
    n->last_job_at = at;
    sim_at(s, at, SIM_JOB_DONE, n->index, 0, 0, j);
}

static bool gather(void *arg, slice_t piece)
{
    buf_append_slice(arg, piece);
    return true;
}

/* The pieces of a loaded snapshot, one event each. */
static void give_pieces(struct sim *s, struct sim_node *n, const struct disk_job *j, slice_t all)
{
    uint64_t life = n->life;
    size_t at = 0;
    do {
        size_t left = all.len - at, len = left < PIECE_BYTES ? left : PIECE_BYTES;
        struct event ev = {.type = EV_SNAP_PIECE, .group = j->group, .index = j->index, .ok = true, .last = len == left,
                           .data = slice_of(all.ptr + at, len)};
        at += len;
        sim_node_give(s, n, &ev);
        if (ev.last && n->up && n->life == life) {
            s->r->installs++;
            raft_check_restored(s, n, j->group);
        }
    } while (at < all.len && n->up && n->life == life);
}

static void job_load(struct sim *s, struct sim_node *n, struct disk_job *j)
{
    struct buf all = {0};
    enum store_status st = store_snapshot_load(n->store, j->group, j->index, gather, &all);
    if (st == STORE_OK) {
        give_pieces(s, n, j, buf_slice(&all));
    } else {
        struct event ev = {.type = EV_SNAP_PIECE, .group = j->group, .index = j->index, .ok = false};
        sim_node_give(s, n, &ev);
    }
    buf_fini(&all);
}

static void job_trim(struct sim_node *n, const struct disk_job *j, enum store_status *st)
{
    uint64_t limits[SIM_GROUPS_MAX] = {0};
    for (size_t i = 0; i < j->data.len / 8 && i < SIM_GROUPS_MAX; i++) {
        limits[i] = le64_get(j->data.ptr + 8 * i);
    }
    *st = store_trim(n->store, limits);
}

static void job_keep(struct sim_node *n, const struct disk_job *j, enum store_status *st)
{
    size_t count = j->data.len / 8;
    uint64_t *files = malloc((count + 1) * sizeof *files);
    syn_assert(files != NULL);
    for (size_t i = 0; i < count; i++) {
        files[i] = le64_get(j->data.ptr + 8 * i);
    }
    *st = store_backlog_keep(n->store, j->group, files, count);
    free(files);
}

static void job_done(struct sim *s, struct sim_node *n, struct disk_job *j)
{
    struct event ev = {.group = j->group, .index = j->index, .offset = j->offset, .last = j->last};
    enum store_status st = STORE_OK;
    size_t sent = j->data.len;
    switch (j->type) {
    case EF_SNAP_WRITE:
        st = store_snapshot_write(n->store, j->group, j->index, j->term, j->offset, buf_slice(&j->data), j->last);
        s->r->snapshots += st == STORE_OK && j->last;
        if (j->last && s->on[FAULT_OP_SNAPSHOT]) {
            fire(s, FAULT_OP_SNAPSHOT);
        }
        ev.type = st == STORE_OK && !j->last ? 0 : EV_SNAP_WRITTEN;
        break;
    case EF_SNAP_READ_RAW:
        buf_clear(&j->data);
        st = store_snapshot_read_raw(n->store, j->group, j->index, j->offset, j->max, &j->data, &ev.last);
        ev.type = EV_SNAP_RAW;
        ev.peer = j->peer;
        ev.data = buf_slice(&j->data);
        break;
    case EF_SNAP_WRITE_RAW:
        st = store_snapshot_write_raw(n->store, j->group, j->index, j->term, j->offset, buf_slice(&j->data), j->last);
        ev.type = EV_SNAP_RAW_WRITTEN;
        ev.value = st == STORE_CORRUPT;
        ev.offset = j->offset + sent;
        break;
    case EF_SNAP_LOAD: job_load(s, n, j); return;
    case EF_TRIM: job_trim(n, j, &st); break;
    case EF_SNAP_ATTACH: st = store_snapshot_attach(n->store, j->group, j->index, buf_slice(&j->data)); break;
    case EF_BACKLOG_WRITE:
        st = store_backlog_write(n->store, j->group, j->index, j->offset, buf_slice(&j->data));
        ev.type = EV_BACKLOG_WRITTEN;
        break;
    case EF_BACKLOG_READ:
        buf_clear(&j->data);
        st = store_backlog_read(n->store, j->group, j->index, j->offset, j->max, &j->data);
        ev.type = EV_BACKLOG_LOADED;
        ev.data = buf_slice(&j->data);
        break;
    case EF_BACKLOG_KEEP: job_keep(n, j, &st); break;
    default: SYN_UNREACHABLE();
    }
    ev.ok = st == STORE_OK;
    TRACE(s, "n%u disk job %u of group %u: %llu at %llu, %zu bytes: %u", n->index + 1, j->type, j->group, (unsigned long long)j->index,
          (unsigned long long)j->offset, sent, st);
    if (st == STORE_FAILED) {
        store_broke(s, n);
    } else if (ev.type != 0) {
        sim_node_give(s, n, &ev);
    }
}

void sim_disk_effect(struct sim *s, struct sim_node *n, struct effect *e)
{
    if (e->type != EF_LOG) {
        job_add(s, n, e);
        return;
    }
    TRACE(s, "n%u writes batch %llu, %zu bytes", n->index + 1, (unsigned long long)e->seq, e->data.len);
    raft_check_records(s, n, buf_slice(&e->data));
    queue_add(n, e);
    flush_begin(s, n);
}

void sim_disk_event(struct sim *s, struct sim_node *n, const struct sim_event *ev)
{
    switch (ev->kind) {
    case SIM_LOG_DONE: flush_end(s, n); break;
    case SIM_LOG_RETRY:
        if (ev->a != 0) {
            n->preparing = false;
            upkeep(s, n);
            break;
        }
        n->retrying = false;
        flush_begin(s, n);
        break;
    case SIM_SPACE: {
        struct event e = {.type = EV_LOG_SPACE, .value = ev->a};
        sim_node_give(s, n, &e);
        break;
    }
    case SIM_JOB_DONE: job_done(s, n, ev->data); break;
    default: SYN_UNREACHABLE();
    }
}
