/* The log thread and the upkeep thread on real files: order, group commit, draining, snapshots beside appends, and the
 * lock file. Meant to be run under ThreadSanitizer too. Nothing here depends on how long anything takes. */
#include "fixture.h"

#include "io/files_posix.h"
#include "io/log_thread.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { APPENDS = 3000, SNAPSHOTS = 40 };

struct world {
    uv_loop_t loop;
    uv_idle_t idle;
    struct log_thread *log;
    char dir[64];
    struct files files;
    struct store *store;
    struct model model;
    uint64_t sent;
    uint64_t done;
    uint64_t failures;
    enum store_status failure;
    uint64_t low;
    uint64_t enough;
    unsigned jobs_wanted;
    unsigned jobs_done;
    uint64_t snapshot;
    bool closed;
    void (*act)(struct world *w);
};

static void on_done(void *arg, uint64_t upto_seq, uint64_t sync_us)
{
    struct world *w = arg;
    (void)sync_us;
    assert_true(upto_seq > w->done && upto_seq <= w->sent);
    w->done = upto_seq;
}

static void on_failed(void *arg, enum store_status status, const char *text)
{
    struct world *w = arg;
    assert_true(strlen(text) > 10);
    w->failure = status;
    w->failures++;
}

static void on_space(void *arg, int low)
{
    struct world *w = arg;
    w->low += low;
    w->enough += !low;
}

static void on_closed(void *arg)
{
    ((struct world *)arg)->closed = true;
}

static enum store_status world_open(struct world *w, struct store_recovery *r)
{
    struct buf error = {0};
    enum store_status st = files_posix_open(w->dir, &w->files, &error);
    if (st == STORE_OK) {
        struct store_options o = fixture_options();
        st = store_open(&w->files, &o, &w->store, r, &error);
    }
    if (st != STORE_OK && st != STORE_LOCKED) {
        printf("%.*s\n", (int)error.len, (const char *)error.ptr);
    }
    buf_fini(&error);
    return st;
}

static struct world *world_new(const char *dir)
{
    struct world *w = calloc(1, sizeof *w);
    struct store_recovery r;
    assert_non_null(w);
    snprintf(w->dir, sizeof w->dir, "%s", dir ? dir : "/tmp/synaxis-log-XXXXXX");
    if (dir == NULL) {
        assert_non_null(mkdtemp(w->dir));
    }
    uv_loop_init(&w->loop);
    assert_int_equal(world_open(w, &r), STORE_OK);
    assert_true(r.fresh);
    store_recovered_free(&r);
    struct log_thread_callbacks cb = {w, on_done, on_failed, on_space};
    w->log = log_thread_start(w->store, &w->loop, &cb);
    assert_non_null(w->log);
    return w;
}

static void world_stop(struct world *w)
{
    log_thread_stop(w->log, on_closed);
    if (w->act != NULL) {
        uv_close((uv_handle_t *)&w->idle, NULL);
    }
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_true(w->closed);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

static void remove_one(void *arg, const char *name)
{
    struct files *f = arg;
    f->unlink(f->ctx, name);
}

static void world_free(struct world *w)
{
    w->files.list(w->files.ctx, remove_one, &w->files);
    files_posix_close(&w->files);
    rmdir(w->dir);
    free(w);
}

static void on_idle(uv_idle_t *h)
{
    struct world *w = h->data;
    w->act(w);
}

static void run_until(struct world *w, void (*act)(struct world *w), bool (*over)(const struct world *w))
{
    w->act = act;
    uv_idle_init(&w->loop, &w->idle);
    w->idle.data = w;
    uv_idle_start(&w->idle, on_idle);
    while (!over(w)) {
        uv_run(&w->loop, UV_RUN_ONCE);
    }
}

static void on_job(void *arg, struct log_job *job)
{
    struct world *w = arg;
    if (job->status != STORE_OK) {
        fail_msg("job %d answered %d: %s", job->kind, job->status, job->text);
    }
    if (job->kind == LOG_JOB_SNAPSHOT_WRITE && job->last) {
        w->snapshot = job->index;
    }
    if (job->kind == LOG_JOB_LOAD) {
        struct buf want = {0};
        snapshot_bytes(&want, job->group, job->index);
        assert_true(slice_eq(buf_slice(&want), buf_slice(&job->data)));
        buf_fini(&want);
    }
    w->jobs_done++;
}

static void submit(struct world *w, struct log_job *j)
{
    j->finished = on_job;
    w->jobs_wanted++;
    log_thread_submit(w->log, j);
}

static void submit_snapshot(struct world *w, uint64_t index)
{
    struct log_job *j = log_job_new(LOG_JOB_SNAPSHOT_WRITE, 0, index);
    snapshot_bytes(&j->data, 0, index);
    j->term = 1;
    j->last = true;
    submit(w, j);
    submit(w, log_job_new(LOG_JOB_LOAD, 0, index));
    j = log_job_new(LOG_JOB_READ_RAW, 0, index);
    j->max = 64;
    submit(w, j);
    j = log_job_new(LOG_JOB_TRIM, 0, 0);
    buf_put_u64(&j->data, index);
    buf_put_u64(&j->data, UINT64_MAX / 2);
    buf_put_u64(&j->data, UINT64_MAX / 2);
    submit(w, j);
}

static void append_some(struct world *w, uint32_t n)
{
    struct buf b = {0};
    struct buf run = {0};
    for (uint32_t i = 0; i < n; i++) {
        put_entry(&run, 0, w->sent + 1 + i, 1);
    }
    log_put_entries(&b, 0, w->sent + 1, n, buf_slice(&run));
    w->sent += n;
    log_thread_append(w->log, &b, w->sent);
    assert_int_equal(b.len, 0);
    buf_fini(&run);
    buf_fini(&b);
}

static void hammer(struct world *w)
{
    if (w->sent < APPENDS && w->sent < w->done + 200) {
        append_some(w, 1 + (uint32_t)(w->sent % 4));
    }
    uint64_t index = w->done / (APPENDS / SNAPSHOTS) * (APPENDS / SNAPSHOTS);
    if (index > w->snapshot && w->jobs_done == w->jobs_wanted) {
        submit_snapshot(w, index);
    }
}

static bool hammered(const struct world *w)
{
    return w->sent >= APPENDS && w->done == w->sent && w->jobs_done == w->jobs_wanted;
}

static void test_hammer_and_recover(void **state)
{
    (void)state;
    struct world *w = world_new(NULL);
    struct store_recovery r;
    run_until(w, hammer, hammered);
    struct log_thread_stats st;
    log_thread_stats(w->log, &st);
    assert_true(st.batches <= st.appends && st.waiting_bytes == 0);
    assert_true(w->snapshot > 0 && w->failures == 0 && w->low == 0);
    world_stop(w);
    store_abandon(w->store);
    files_posix_close(&w->files);
    assert_int_equal(world_open(w, &r), STORE_OK);
    assert_int_equal(r.groups[0].snapshot_index, w->snapshot);
    assert_int_equal(r.groups[0].first_index + r.groups[0].n_entries, w->sent + 1);
    assert_int_equal(r.incarnation, 2);
    struct buf want = {0};
    for (uint64_t i = w->snapshot + 1; i <= w->sent; i++) {
        put_entry(&want, 0, i, 1);
    }
    assert_true(slice_eq(buf_slice(&want), buf_slice(&r.groups[0].run)));
    buf_fini(&want);
    store_recovered_free(&r);
    store_close(w->store);
    world_free(w);
}

/* Stop right after appending: all of it is durable and reported before stop returns. */
static void test_stop_drains(void **state)
{
    (void)state;
    struct world *w = world_new(NULL);
    for (int i = 0; i < 300; i++) {
        append_some(w, 1);
    }
    submit_snapshot(w, 10);
    world_stop(w);
    assert_int_equal(w->done, 300);
    assert_int_equal(w->jobs_done, w->jobs_wanted);
    store_close(w->store);
    world_free(w);
}

static atomic_int sync_fails;
static int (*real_sync)(void *ctx, int fd);

static int failing_sync(void *ctx, int fd)
{
    return atomic_load(&sync_fails) ? -EIO : real_sync(ctx, fd);
}

static bool has_failed(const struct world *w)
{
    return w->failures > 0;
}

static void append_one(struct world *w)
{
    if (w->sent < w->done + 10) {
        append_some(w, 1);
    }
}

/* W5: a failed fdatasync is reported once, and nothing after it is ever reported as done. */
static void test_failed_sync_stops_everything(void **state)
{
    (void)state;
    struct world *w = world_new(NULL);
    world_stop(w);
    store_close(w->store);
    files_posix_close(&w->files);
    struct buf error = {0};
    struct store_recovery r;
    struct store_options o = fixture_options();
    assert_int_equal(files_posix_open(w->dir, &w->files, &error), STORE_OK);
    real_sync = w->files.sync;
    struct files files = w->files;
    files.sync = failing_sync;
    assert_int_equal(store_open(&files, &o, &w->store, &r, &error), STORE_OK);
    store_recovered_free(&r);
    struct log_thread_callbacks cb = {w, on_done, on_failed, on_space};
    uv_loop_init(&w->loop);
    w->closed = false;
    w->log = log_thread_start(w->store, &w->loop, &cb);
    atomic_store(&sync_fails, 1);
    run_until(w, append_one, has_failed);
    assert_int_equal(w->failure, STORE_FAILED);
    atomic_store(&sync_fails, 0);
    uint64_t done = w->done;
    append_some(w, 1);
    world_stop(w);
    assert_int_equal(w->done, done);
    assert_int_equal(w->failures, 1);
    store_close(w->store);
    buf_fini(&error);
    world_free(w);
}

static void test_lock_file(void **state)
{
    (void)state;
    struct world *w = world_new(NULL);
    struct files other;
    struct buf error = {0};
    assert_int_equal(files_posix_open(w->dir, &other, &error), STORE_LOCKED);
    assert_true(error.len > 20);
    buf_clear(&error);
    assert_int_equal(files_posix_open("/proc/none/of/this", &other, &error), STORE_FAILED);
    assert_true(error.len > 20);
    struct stat st;
    assert_int_equal(stat(w->dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    world_stop(w);
    store_close(w->store);
    assert_int_equal(w->files.open(w->files.ctx, "none", false), -ENOENT);
    assert_int_equal(w->files.sync(w->files.ctx, 1 << 20), -EBADF);
    assert_int_equal(w->files.unlink(w->files.ctx, "none"), -ENOENT);
    buf_fini(&error);
    world_free(w);
}

static bool is_low(const struct world *w) { return w->low > 0; }
static bool is_enough(const struct world *w) { return w->enough > 0 && w->done == w->sent; }
static void nothing(struct world *w) { (void)w; }

static void fill(struct world *w)
{
    if (w->sent < w->done + 50) {
        append_some(w, 3);
    }
}

/* W8 on a real, tiny file system; needs root. The batch that found no room is written when there is some again. */
static void test_full_tmpfs(void **state)
{
    (void)state;
    char dir[] = "/tmp/synaxis-full-XXXXXX";
    assert_non_null(mkdtemp(dir));
    if (geteuid() != 0 || mount("none", dir, "tmpfs", 0, "size=256k") != 0) {
        rmdir(dir);
        skip();
    }
    struct world *w = world_new(dir);
    run_until(w, fill, is_low);
    uv_idle_stop(&w->idle);
    assert_int_equal(mount("none", dir, "tmpfs", MS_REMOUNT, "size=8m"), 0);
    w->act = nothing;
    uv_idle_start(&w->idle, on_idle);
    while (!is_enough(w)) {
        uv_run(&w->loop, UV_RUN_ONCE);
    }
    assert_int_equal(w->failures, 0);
    world_stop(w);
    store_abandon(w->store);
    files_posix_close(&w->files);
    struct store_recovery r;
    assert_int_equal(world_open(w, &r), STORE_OK);
    assert_int_equal(r.groups[0].n_entries, w->sent);
    store_recovered_free(&r);
    store_close(w->store);
    files_posix_close(&w->files);
    umount(dir);
    rmdir(dir);
    free(w);
}

/* Nothing is taken by the upkeep thread until the job that it is at may open its file. */
static uv_sem_t gate_reached, gate_open;
static int (*real_open)(void *ctx, const char *path, bool create);

static int gated_open(void *ctx, const char *path, bool create)
{
    if (strcmp(path, "back-00000000-00000000000000ff") == 0) {
        uv_sem_post(&gate_reached);
        uv_sem_wait(&gate_open);
    }
    return real_open(ctx, path, create);
}

enum { BACKLOG_JOBS = 40 };
static enum log_job_kind seen[2 * BACKLOG_JOBS];
static unsigned n_seen;

static void on_backlog_job(void *arg, struct log_job *job)
{
    seen[n_seen++] = job->kind;
    if (job->kind == LOG_JOB_BACKLOG_READ) {
        assert_true(job->data.len == 512 && job->data.ptr[0] == (uint8_t)job->offset);
    }
    on_job(arg, job);
}

static void submit_backlog(struct world *w, enum log_job_kind kind, uint64_t file, uint64_t offset)
{
    struct log_job *j = log_job_new(kind, 0, file);
    j->offset = offset;
    j->max = 512;
    for (size_t i = 0; kind == LOG_JOB_BACKLOG_WRITE && i < 512; i++) {
        buf_put_u8(&j->data, (uint8_t)offset);
    }
    if (kind == LOG_JOB_BACKLOG_KEEP || kind == LOG_JOB_ATTACH) {
        buf_put_u64(&j->data, 1);
    }
    if (kind == LOG_JOB_ATTACH) {
        buf_put_u64(&j->data, 512);
    }
    submit(w, j);
    j->finished = on_backlog_job;
}

static void reopen_with_gate(struct world *w)
{
    struct store_options o = fixture_options();
    struct store_recovery r;
    struct buf error = {0};
    world_stop(w);
    store_close(w->store);
    real_open = w->files.open;
    struct files files = w->files;
    files.open = gated_open;
    uv_sem_init(&gate_reached, 0);
    uv_sem_init(&gate_open, 0);
    assert_int_equal(store_open(&files, &o, &w->store, &r, &error), STORE_OK);
    store_recovered_free(&r);
    buf_fini(&error);
    struct log_thread_callbacks cb = {w, on_done, on_failed, on_space};
    uv_loop_init(&w->loop);
    w->closed = false;
    w->log = log_thread_start(w->store, &w->loop, &cb);
}

/* Reads come first, all other jobs in the order given, and after 16 of them one other has its turn. */
static void test_reads_come_first(void **state)
{
    (void)state;
    struct world *w = world_new(NULL);
    reopen_with_gate(w);
    submit_backlog(w, LOG_JOB_BACKLOG_WRITE, 1, 0);
    submit_backlog(w, LOG_JOB_BACKLOG_WRITE, 0xff, 0); /* when it stands there, what is asked for above is written */
    uv_sem_wait(&gate_reached);
    for (unsigned i = 0; i < 3; i++) {
        submit_backlog(w, LOG_JOB_BACKLOG_WRITE, 2, 512 * i);
    }
    submit_backlog(w, LOG_JOB_ATTACH, 5, 0);
    struct log_job *j = log_job_new(LOG_JOB_SNAPSHOT_WRITE, 0, 5);
    snapshot_bytes(&j->data, 0, 5);
    j->term = 1;
    j->last = true;
    submit(w, j);
    j->finished = on_backlog_job;
    submit_backlog(w, LOG_JOB_BACKLOG_KEEP, 0, 0);
    for (unsigned i = 0; i < BACKLOG_JOBS; i++) {
        submit_backlog(w, LOG_JOB_BACKLOG_READ, 1, 0);
    }
    uv_sem_post(&gate_open);
    world_stop(w);
    assert_int_equal(n_seen, 8 + BACKLOG_JOBS);
    static const enum log_job_kind others[] = {LOG_JOB_BACKLOG_WRITE, LOG_JOB_BACKLOG_WRITE, LOG_JOB_BACKLOG_WRITE, LOG_JOB_BACKLOG_WRITE,
                                               LOG_JOB_BACKLOG_WRITE, LOG_JOB_ATTACH, LOG_JOB_SNAPSHOT_WRITE, LOG_JOB_BACKLOG_KEEP};
    for (unsigned i = 0, other = 0; i < n_seen; i++) {
        bool read = (i >= 2 && i < 18) || (i >= 19 && i < 35) || (i >= 36 && i < 44);
        assert_int_equal(seen[i], read ? LOG_JOB_BACKLOG_READ : others[other++]);
    }
    assert_true(snapshot_is(w->store, 0, 5));
    store_close(w->store);
    uv_sem_destroy(&gate_reached);
    uv_sem_destroy(&gate_open);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hammer_and_recover),
        cmocka_unit_test(test_stop_drains),
        cmocka_unit_test(test_failed_sync_stops_everything),
        cmocka_unit_test(test_reads_come_first),
        cmocka_unit_test(test_lock_file),
        cmocka_unit_test(test_full_tmpfs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
