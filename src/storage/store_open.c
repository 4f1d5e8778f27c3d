/* Opening a data directory (docs/disk.md, "Recovery"; W2, W6, W7, D14, D15).
 *
 * Responsible for the order of things at start: whose directory it is, leftovers, snapshots, the log (recovery.c), joining
 * the two, and counting the start. Nothing in the directory is changed before its identity was checked.
 * Invariants: until the identity has a floor nothing was ever promised, and everything found is a leftover of a creation
 * that did not finish; from then on a missing file is damage. */
#include "storage/snapshot_file.h"
#include "storage/store_private.h"

#include "utils/assert.h"
#include "utils/hash.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct names {
    char (*v)[FILE_NAME_BYTES]; /* owned */
    size_t n;
};

struct opening {
    struct store *s;
    struct names names;
    uint64_t *numbers;      /* segments, ascending; owned */
    size_t n_numbers;
    struct replay *groups;  /* owned */
    bool fresh;
    uint64_t torn_bytes;
    struct buf *error;
};

#define ADVICE "; restore this node: move its data directory away and let it rejoin with CLUSTER.REMOVE and CLUSTER.ADD"

static void collect(void *arg, const char *name)
{
    struct names *l = arg;
    size_t n = strlen(name);
    if (n >= FILE_NAME_BYTES) {
        return; /* no file of ours */
    }
    l->v = realloc(l->v, (l->n + 1) * sizeof *l->v);
    syn_assert(l->v != NULL);
    memcpy(l->v[l->n++], name, n + 1);
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name), m = strlen(suffix);
    return n > m && strcmp(name + n - m, suffix) == 0;
}

static enum store_status io_failed(struct opening *o, const char *what, const char *path, int err)
{
    buf_printf(o->error, "cannot %s %s: %s", what, path, strerror(-err));
    return err == -ENOSPC || err == -EDQUOT ? STORE_FULL : STORE_FAILED;
}

static enum store_status remove_file(struct opening *o, const char *name)
{
    const struct files *f = &o->s->files;
    int err = f->unlink(f->ctx, name);
    err = err == 0 || err == -ENOENT ? f->sync_dir(f->ctx) : err;
    return err == 0 ? STORE_OK : io_failed(o, "remove", name, err);
}

static bool holds_data(const struct names *l)
{
    uint64_t number;
    uint32_t group;
    for (size_t i = 0; i < l->n; i++) {
        if (segment_number(l->v[i], &number) || snapshot_name_parse(l->v[i], &group, &number) ||
            backlog_name_parse(l->v[i], &group, &number)) {
            return true;
        }
    }
    return false;
}

static enum store_status create_identity(struct opening *o)
{
    struct identity *id = &o->s->identity;
    if (holds_data(&o->names)) {
        buf_printf(o->error, "IDENTITY is missing beside log and snapshot files" ADVICE);
        return STORE_CORRUPT;
    }
    id->node_uuid = hash_u64(o->s->options.node_uuid_seed);
    id->node_uuid += id->node_uuid == 0;
    id->self = o->s->options.self;
    id->cluster_key = o->s->options.cluster_key;
    id->groups = o->s->options.groups;
    buf_append_slice(&id->node_name, o->s->options.node_name);
    int err = identity_write(&o->s->files, id);
    return err == 0 ? STORE_OK : io_failed(o, "write", "IDENTITY", err);
}

static enum store_status check_identity(struct opening *o)
{
    struct identity *id = &o->s->identity;
    int err = 0;
    const char *why;
    switch (identity_read(&o->s->files, id, &err)) {
    case IDENTITY_NONE:
        return create_identity(o);
    case IDENTITY_NEWER:
        buf_printf(o->error, "this data directory has format %d, this program knows up to %d; start the newer version of "
                   "the program", err, IDENTITY_FORMAT);
        return STORE_MISMATCH;
    case IDENTITY_BAD:
        buf_printf(o->error, "IDENTITY, offset 0: its checksum is wrong" ADVICE);
        return STORE_CORRUPT;
    case IDENTITY_IO:
        return io_failed(o, "read", "IDENTITY", err);
    case IDENTITY_OK:
        why = identity_mismatch(id, &o->s->options);
        if (why != NULL) {
            buf_printf(o->error, "this data directory cannot be used: %s", why);
            return STORE_MISMATCH;
        }
        return STORE_OK;
    }
    SYN_UNREACHABLE();
}

/* Temporary files always; everything when the directory was never finished. */
static enum store_status remove_leftovers(struct opening *o)
{
    enum store_status st = STORE_OK;
    for (size_t i = 0; st == STORE_OK && i < o->names.n; i++) {
        uint64_t number;
        bool unfinished = o->fresh && segment_number(o->names.v[i], &number);
        if (unfinished || has_suffix(o->names.v[i], ".tmp")) {
            st = remove_file(o, o->names.v[i]);
        }
    }
    return st;
}

static enum store_status open_snapshot(struct opening *o, uint32_t group, uint64_t index)
{
    struct store *s = o->s;
    struct snapshot *n = &s->snapshots[group];
    char name[FILE_NAME_BYTES];
    snapshot_name(name, group, index);
    int err = 0, fd = s->files.open(s->files.ctx, name, false);
    const char *why = NULL;
    if (fd < 0) {
        return io_failed(o, "open", name, fd);
    }
    enum snapshot_result r = snapshot_peek(&s->files, fd, group, index, &n->term, &n->bytes, &n->attached, &why, &err);
    s->files.close(s->files.ctx, fd);
    if (r == SNAPSHOT_BAD) {
        buf_printf(o->error, "%s: %s" ADVICE, name, why);
        return STORE_CORRUPT;
    }
    if (r == SNAPSHOT_IO) {
        return io_failed(o, "read", name, err);
    }
    atomic_store(&n->index, index);
    atomic_fetch_add(&s->snapshot_bytes, n->bytes);
    return STORE_OK;
}

/* Each backlog file that a newest snapshot needs is there; others, written since or given up, go: what they held is still in the log. */
static enum store_status check_backlogs(struct opening *o)
{
    uint32_t groups = o->s->options.groups, group;
    uint64_t number;
    bool *some = calloc(groups, sizeof *some);
    syn_assert(some != NULL);
    for (size_t i = 0; i < o->names.n; i++) {
        if (backlog_name_parse(o->names.v[i], &group, &number) && group < groups) {
            some[group] = true;
        }
    }
    enum store_status st = STORE_OK;
    for (uint32_t g = 0; st == STORE_OK && g < groups; g++) {
        st = backlog_sync(o->s, g, buf_slice(&o->s->snapshots[g].attached));
        st = st == STORE_OK && some[g] ? store_backlog_keep(o->s, g, NULL, 0) : st;
    }
    free(some);
    if (st != STORE_OK) {
        buf_append_str(o->error, store_error(o->s));
        buf_append_str(o->error, st == STORE_CORRUPT ? ADVICE : "");
    }
    return st;
}

/* The newest of each group counts; older ones were about to be removed. */
static enum store_status find_snapshots(struct opening *o)
{
    enum store_status st = STORE_OK;
    uint64_t *newest = calloc(o->s->options.groups, sizeof *newest), index;
    uint32_t group;
    syn_assert(newest != NULL);
    for (size_t i = 0; i < o->names.n; i++) {
        if (snapshot_name_parse(o->names.v[i], &group, &index) && group < o->s->options.groups && index > newest[group]) {
            newest[group] = index;
        }
    }
    for (uint32_t g = 0; st == STORE_OK && g < o->s->options.groups; g++) {
        st = newest[g] > 0 ? open_snapshot(o, g, newest[g]) : STORE_OK;
    }
    for (size_t i = 0; st == STORE_OK && i < o->names.n; i++) {
        if (snapshot_name_parse(o->names.v[i], &group, &index) && group < o->s->options.groups && index < newest[group]) {
            st = remove_file(o, o->names.v[i]);
        }
    }
    free(newest);
    return st;
}

static enum store_status create_log(struct opening *o)
{
    struct store *s = o->s;
    s->log.next_block = 1;
    enum store_status st = store_append(s, SLICE_NONE);
    st = st == STORE_OK ? store_sync(s) : st;
    if (st != STORE_OK) {
        buf_append_str(o->error, store_error(s));
    }
    return st;
}

static enum store_status read_log(struct opening *o)
{
    for (size_t i = 0; i < o->names.n; i++) { /* names ascend, and so do the numbers in them */
        uint64_t number;
        if (segment_number(o->names.v[i], &number)) {
            o->numbers = realloc(o->numbers, (o->n_numbers + 1) * sizeof *o->numbers);
            syn_assert(o->numbers != NULL);
            o->numbers[o->n_numbers++] = number;
        }
    }
    return recovery_run(o->s, o->numbers, o->n_numbers, o->groups, &o->torn_bytes, o->error);
}

static enum store_status join_snapshots(struct opening *o)
{
    for (uint32_t g = 0; g < o->s->options.groups; g++) {
        const struct snapshot *n = &o->s->snapshots[g];
        const char *why = replay_join_snapshot(&o->groups[g], atomic_load(&n->index), n->term);
        if (why != NULL) {
            buf_printf(o->error, "group %" PRIu32 ", newest whole snapshot %" PRIu64 ": %s" ADVICE, g,
                       (uint64_t)atomic_load(&n->index), why);
            return STORE_CORRUPT;
        }
    }
    return STORE_OK;
}

/* Writes down what was concluded from snapshots that the log does not mention, so that the log alone says it again. */
static enum store_status write_conclusions(struct opening *o)
{
    struct buf records = {0};
    for (uint32_t g = 0; g < o->s->options.groups; g++) {
        struct replay *r = &o->groups[g];
        struct log_group *w = &o->s->log.groups[g];
        if (r->mark_index > w->mark_index) {
            log_put_snapshot_mark(&records, g, r->mark_index, r->mark_term, true);
        }
    }
    enum store_status st = records.len > 0 ? store_append(o->s, buf_slice(&records)) : STORE_OK;
    st = st == STORE_OK ? store_sync(o->s) : st;
    for (uint32_t g = 0; g < o->s->options.groups; g++) {
        uint64_t last = replay_last(&o->groups[g]);
        o->s->log.groups[g].last_index = last > o->s->log.groups[g].mark_index ? last : o->s->log.groups[g].mark_index;
    }
    buf_fini(&records);
    if (st != STORE_OK) {
        buf_append_str(o->error, store_error(o->s));
    }
    return st;
}

static enum store_status count_start(struct opening *o)
{
    struct identity *id = &o->s->identity;
    id->incarnation++;
    id->floor = atomic_load(&o->s->synced);
    int err = identity_write(&o->s->files, id);
    return err == 0 ? STORE_OK : io_failed(o, "write", "IDENTITY", err);
}

static enum store_status open_steps(struct opening *o)
{
    struct store *s = o->s;
    int err = s->files.list(s->files.ctx, collect, &o->names);
    if (err < 0) {
        return io_failed(o, "list", "the data directory", err);
    }
    enum store_status st = check_identity(o);
    o->fresh = s->identity.floor == 0;
    st = st == STORE_OK ? remove_leftovers(o) : st;
    st = st == STORE_OK ? find_snapshots(o) : st;
    st = st == STORE_OK ? check_backlogs(o) : st;
    if (st == STORE_OK) {
        st = o->fresh ? create_log(o) : read_log(o);
    }
    st = st == STORE_OK ? join_snapshots(o) : st;
    st = st == STORE_OK ? write_conclusions(o) : st;
    return st == STORE_OK ? count_start(o) : st;
}

static void hand_over(struct opening *o, struct store_recovery *out)
{
    struct store *s = o->s;
    *out = (struct store_recovery){.fresh = o->fresh, .node_uuid = s->identity.node_uuid,
                                   .incarnation = s->identity.incarnation, .torn_bytes = o->torn_bytes,
                                   .segments = (uint32_t)s->n_segments, .n_groups = s->options.groups};
    out->groups = calloc(s->options.groups, sizeof *out->groups);
    syn_assert(out->groups != NULL);
    for (uint32_t g = 0; g < s->options.groups; g++) {
        struct replay *r = &o->groups[g];
        syn_assert(r->count <= UINT32_MAX);
        out->groups[g] = (struct store_group){
            .exists = r->exists, .term = r->term, .vote = r->vote, .commit = r->commit,
            .snapshot_index = atomic_load(&s->snapshots[g].index), .snapshot_term = s->snapshots[g].term,
            .first_index = r->base + 1, .n_entries = (uint32_t)r->count, .run = r->run};
        r->run = (struct buf){0};
    }
}

static struct store *store_new(const struct files *files, const struct store_options *options)
{
    struct store *s = calloc(1, sizeof *s);
    syn_assert(s != NULL && options->groups > 0 && options->segment_bytes >= SEGMENT_BYTES_MIN);
    syn_assert(options->segment_bytes % BLOCK_ALIGN == 0);
    s->files = *files;
    s->options = *options;
    s->log.file.fd = s->ready.fd = -1;
    s->log.groups = calloc(options->groups, sizeof *s->log.groups);
    s->snapshots = calloc(options->groups, sizeof *s->snapshots);
    syn_assert(s->log.groups != NULL && s->snapshots != NULL);
    for (uint32_t g = 0; g < options->groups; g++) {
        s->snapshots[g].writer.fd = -1;
    }
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->prepare_lock, NULL);
    atomic_store(&s->last_error, "");
    return s;
}

enum store_status store_open(const struct files *files, const struct store_options *options, struct store **out,
                             struct store_recovery *recovered, struct buf *error)
{
    struct opening o = {.s = store_new(files, options), .error = error};
    o.groups = calloc(options->groups, sizeof *o.groups);
    syn_assert(o.groups != NULL);
    *out = NULL;
    *recovered = (struct store_recovery){0};
    enum store_status st = open_steps(&o);
    o.s->options.node_name = buf_slice(&o.s->identity.node_name);
    if (st == STORE_OK) {
        hand_over(&o, recovered);
        *out = o.s;
    } else {
        store_abandon(o.s);
    }
    for (uint32_t g = 0; g < options->groups; g++) {
        replay_fini(&o.groups[g]);
    }
    free(o.groups);
    free(o.numbers);
    free(o.names.v);
    return st;
}

void store_recovered_free(struct store_recovery *r)
{
    for (uint32_t g = 0; r->groups != NULL && g < r->n_groups; g++) {
        buf_fini(&r->groups[g].run);
    }
    free(r->groups);
    *r = (struct store_recovery){0};
}
