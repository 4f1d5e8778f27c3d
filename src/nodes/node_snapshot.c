/* Snapshots of a group: made in slices while applying goes on, read for followers, received, restored.
 *
 * The file's content is four kinds of part, each with its length in front: a head (u32 version, u64 time, configuration, member list), the
 * topics (group 0, else empty), the table of this node's backlog chunks, and then pieces of the state machines (u8 service, u32 length, bytes)
 * as they emit them. The backlog files that the table names go with the file (EF_SNAP_ATTACH). A snapshot exists once the store says that it is durable; only then may the log
 * forget what it covers (W7), and only then is a received one acknowledged (S15). What is applied may be ahead of our own disk
 * (others made the majority): our own snapshot counts only once the log, too, is durable up to its index, so that the log has no gap. */
#include "nodes/node_internal.h"

#include <stdlib.h>

enum {
    SNAPSHOT_VERSION = 3,
    SLICE_BYTES = 256 * 1024,
    SLICE_EVERY_MS = 1,
    CHUNK_BYTES = 256 * 1024,
    HEAD_BYTES_MAX = 256 * 1024,
    TABLE_BYTES_MAX = 256 * 1024 * 1024,
    PIECE_BYTES_MAX = 80 * 1024 * 1024,
    KEEP_ENTRIES = 20000,
    KEEP_BYTES = 4 * 1024 * 1024,
    TRANSFER_PAUSE_MS = 2000,
    TRANSFER_LIMITS = 8,
    ROOM_MS = 1000,
    ROOM_BYTES = 64 * 1024, /* of entries: with fewer there is nothing to let go of */
};

/* What a snapshot is restored into: the group's own empty machines at start-up, new ones while the old still serve. */
struct restore_into {
    struct lock_sm *locks;
    struct group_queue *q;
    struct cache_sm *cache;
};

static void head_encode(const struct node *n, const struct node_group *g, struct buf *out)
{
    struct buf h = {0}, config = {0};
    buf_put_u32(&h, SNAPSHOT_VERSION);
    buf_put_u64(&h, g->snap.time_ms);
    consensus_config_encode(consensus_config_applied(g->consensus), &config);
    buf_put_bytes(&h, buf_slice(&config));
    struct buf members = {0};
    members_snapshot(n, &members);
    buf_put_bytes(&h, buf_slice(&members));
    buf_put_bytes(out, buf_slice(&h));
    buf_fini(&members);
    buf_fini(&config);
    buf_fini(&h);
}

static bool head_decode(slice_t bytes, struct group_install *in, slice_t *members)
{
    struct reader r = reader_of(bytes);
    uint32_t version = reader_u32(&r);
    in->time_ms = reader_u64(&r);
    slice_t config = reader_bytes(&r);
    *members = reader_bytes(&r);
    return reader_done(&r) && version == SNAPSHOT_VERSION && consensus_config_decode(config, &in->config);
}

static uint64_t snapshot_threshold(const struct node *n, const struct node_group *g)
{
    uint64_t least = n->opt.snapshot_log_bytes, most = 8 * least, last = g->last_snapshot_bytes;
    if (node_is_heavy(n, 3)) {
        return least / 16;
    }
    return last < least || node_is_heavy(n, 2) ? least : last < most ? last : most;
}

/* A newer snapshot would make the follower that is being sent this one start over: it may wait, but the log may not grow for ever. */
static bool wait_for_transfer(const struct node *n, const struct node_group *g)
{
    uint64_t asked = consensus_chunk_asked_ms(g->consensus);
    return asked > 0 && n->now_ms < asked + TRANSFER_PAUSE_MS && !node_is_heavy(n, 3) && g->bytes_since_snapshot <= TRANSFER_LIMITS * n->opt.snapshot_log_bytes;
}

/* Without room for a next segment only a snapshot lets go of the older ones, and of backlog files that nobody needs any more: it is tried
 * now and then, since it takes a little room itself. */
static bool wants_room(struct node *n, struct node_group *g)
{
    if (n->space_full || n->now_ms < g->room_ms || g->bytes_since_snapshot < ROOM_BYTES) {
        return false;
    }
    g->room_ms = n->now_ms + ROOM_MS;
    return true;
}

void snapshot_maybe_begin(struct node *n, struct node_group *g)
{
    bool want = n->space_low ? wants_room(n, g) : g->bytes_since_snapshot >= snapshot_threshold(n, g);
    if (g->snap.making || g->install.loading || !want || g->applied == 0 || wait_for_transfer(n, g)) {
        return;
    }
    g->bytes_since_snapshot = 0;
    g->snap = (struct group_snapshot){.making = true, .index = g->applied, .term = g->applied_term, .time_ms = g->applied_time,
                                      .next_step_ms = n->now_ms};
    lock_sm_snapshot_begin(g->locks);
    queue_snapshot_begin(n, g);
    cache_sm_snapshot_begin(g->cache.sm);
}

static void snapshot_abort(struct node_group *g)
{
    lock_sm_snapshot_abort(g->locks);
    queue_snapshot_abort(g);
    cache_sm_snapshot_abort(g->cache.sm);
}

/* A piece of the part whose turn it is. True: that was the part's last. */
static bool next_piece(struct node_group *g, struct buf *out)
{
    const struct group_snapshot *s = &g->snap;
    size_t at = out->len;
    buf_put_u8(out, s->queue_done ? SERVICE_CACHE : s->locks_done ? SERVICE_QUEUE : SERVICE_LOCKS);
    buf_put_u32(out, 0);
    bool end = s->queue_done ? cache_sm_snapshot_step(g->cache.sm, SLICE_BYTES, out) :
               s->locks_done ? queue_sm_snapshot_step(g->q.sm, SLICE_BYTES, out) : lock_sm_snapshot_step(g->locks, SLICE_BYTES, out);
    le32_put(out->ptr + at + 1, (uint32_t)(out->len - at - 5));
    return end;
}

/* One slice of what is left: the side parts, then the locks, the queue and the cache. True: that was the last. */
static bool next_slice(struct node_group *g, struct buf *out)
{
    struct group_snapshot *s = &g->snap;
    struct buf *side = &g->q.side;
    if (g->q.side_at < side->len) {
        size_t left = side->len - g->q.side_at, take = left < SLICE_BYTES ? left : SLICE_BYTES;
        buf_append(out, side->ptr + g->q.side_at, take);
        g->q.side_at += take;
        return false;
    }
    bool end = next_piece(g, out), last = end && s->queue_done;
    s->queue_done |= end && s->locks_done;
    s->locks_done |= end;
    return last;
}

/* Before the first bytes are written: the files that must be durable with the last. */
static void snapshot_attach(struct node *n, struct node_group *g)
{
    struct effect *e = effects_add(n->fx, EF_SNAP_ATTACH);
    e->group = g->id;
    e->index = g->snap.index;
    buf_append_slice(&e->data, buf_slice(&g->q.files));
}

void snapshot_step(struct node *n, struct node_group *g)
{
    struct group_snapshot *s = &g->snap;
    if (!s->making || s->all_written || n->now_ms < s->next_step_ms) {
        return;
    }
    struct buf data = {0};
    if (s->offset == 0) {
        head_encode(n, g, &data);
    }
    bool last = next_slice(g, &data);
    if (s->offset == 0) {
        snapshot_attach(n, g);
    }
    struct effect *e = effects_add(n->fx, EF_SNAP_WRITE);
    e->group = g->id;
    e->index = s->index;
    e->term = s->term;
    e->offset = s->offset;
    e->last = last;
    s->offset += data.len;
    s->all_written = last;
    g->last_snapshot_bytes = last ? s->offset : g->last_snapshot_bytes;
    s->next_step_ms = n->now_ms + SLICE_EVERY_MS;
    buf_swap(&e->data, &data);
    buf_fini(&data);
}

static void snapshot_trim(struct node *n)
{
    struct effect *e = effects_add(n->fx, EF_TRIM);
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        const struct node_group *g = &n->groups[i];
        buf_put_u64(&e->data, g->hosted ? g->snapshot_index : UINT64_MAX);
    }
}

void snapshot_written(struct node *n, struct node_group *g, uint64_t index, bool ok)
{
    if (!g->snap.making || g->snap.index != index) {
        return;
    }
    g->snap.making = false;
    if (!ok) {
        if (!g->snap.all_written) {
            snapshot_abort(g);
        }
        g->bytes_since_snapshot = n->opt.snapshot_log_bytes / 2;
        node_log(n, LOG_WARN, "group %u: the snapshot at index %llu could not be written", g->id, (unsigned long long)index);
        return;
    }
    metrics_add(&n->metrics, METRIC_SNAPSHOTS_TOTAL, 1);
    if (index > g->snapshot_index) {
        g->snap.written = true;
        g->snap.making = true;
        group_touch(n, g);
    }
}

/* Entries behind a snapshot are for followers that are a little behind; all groups' together may be a quarter of what is held. */
static uint64_t keep_bytes(const struct node *n)
{
    uint64_t share = n->opt.held_bytes_max / 4 / n->opt.groups;
    uint64_t most = share > 0 && share < KEEP_BYTES ? share : KEEP_BYTES;
    return node_is_heavy(n, 3) ? most / 8 : most;
}

void snapshot_finish(struct node *n, struct node_group *g)
{
    struct group_snapshot *s = &g->snap;
    if (!s->making || !s->written || consensus_durable(g->consensus) < s->index) {
        return;
    }
    s->making = false;
    g->snapshot_index = s->index;
    uint64_t keep = consensus_keep_from(g->consensus, s->index, KEEP_ENTRIES, keep_bytes(n));
    consensus_snapshot_made(g->consensus, s->index, s->term, keep);
    snapshot_trim(n);
    queue_backlog_keep(n, g);
    group_touch(n, g);
}

void snapshot_serve(struct node *n, struct node_group *g)
{
    node_id_t to;
    uint64_t index, offset;
    while (consensus_wants_chunk(g->consensus, &to, &index, &offset)) {
        struct effect *e = effects_add(n->fx, EF_SNAP_READ_RAW);
        e->group = g->id;
        e->index = index;
        e->offset = offset;
        e->value = CHUNK_BYTES;
        e->peer = to;
    }
}

void snapshot_raw(struct node *n, struct node_group *g, const struct event *ev)
{
    consensus_chunk(g->consensus, ev->peer, ev->index, ev->offset, ev->ok ? ev->data : SLICE_NONE, ev->ok && ev->last);
    group_touch(n, g);
}

void snapshot_take_install(struct node *n, struct node_group *g)
{
    struct consensus_install in;
    while (consensus_take_install(g->consensus, &in)) {
        if (g->snap.making && !g->snap.all_written) {
            snapshot_abort(g);
            g->snap.making = false;
        }
        g->install.index = in.index;
        g->install.term = in.term;
        struct effect *e = effects_add(n->fx, EF_SNAP_WRITE_RAW);
        e->group = g->id;
        e->index = in.index;
        e->term = in.term;
        e->offset = in.offset;
        e->last = in.last;
        buf_append_slice(&e->data, in.data);
    }
}

static void install_begin(struct node *n, struct node_group *g)
{
    struct group_install *in = &g->install;
    in->locks = group_new_locks(n, g->id);
    in->cache = cache_new_sm(n, g->id);
    queue_prepare_install(n, g, &in->q);
}

static void install_reset(struct node_group *g)
{
    if (g->install.locks != NULL) {
        lock_sm_free(g->install.locks);
    }
    if (g->install.cache != NULL) {
        cache_sm_free(g->install.cache);
    }
    queue_fini(&g->install.q);
    buf_fini(&g->install.in);
    g->install = (struct group_install){0};
}

static void install_failed(struct node *n, struct node_group *g, const char *why)
{
    node_log(n, LOG_WARN, "group %u: received snapshot at index %llu refused: %s", g->id, (unsigned long long)g->install.index, why);
    uint64_t index = g->install.index;
    install_reset(g);
    consensus_install_failed(g->consensus, index);
    group_touch(n, g);
}

/* The leader's disk gave what is not what it was given: whoever has it whole shall lead, and send it (damaged_duty). */
static void tell_damaged(struct node *n, const struct node_group *g)
{
    struct node_peer *p = node_peer_of(n, g->leader);
    if (p == NULL || !peer_linked(p)) {
        return;
    }
    struct buf op = {0};
    buf_put_u8(&op, SERVICE_ADMIN);
    buf_put_u8(&op, ADMIN_DAMAGED);
    struct peer_msg m = {.kind = PEER_FORWARD};
    m.u.forward = (struct peer_forward){.kind = FORWARD_ADMIN, .group = g->id, .payload = buf_slice(&op)};
    links_send(n, p, &m);
    buf_fini(&op);
}

void snapshot_raw_written(struct node *n, struct node_group *g, const struct event *ev)
{
    if (ev->index != g->install.index) {
        return;
    }
    if (!ev->ok) {
        if (ev->value != 0) {
            tell_damaged(n, g);
        }
        install_failed(n, g, ev->value != 0 ? "its checksums are wrong" : "it could not be written");
        return;
    }
    consensus_install_progress(g->consensus, ev->index, ev->offset);
    group_touch(n, g);
    if (ev->last && !g->install.loading) {
        g->install.loading = true;
        install_begin(n, g);
        struct effect *e = effects_add(n->fx, EF_SNAP_LOAD);
        e->group = g->id;
        e->index = ev->index;
    }
}

/* The next part, when all of it is there: u32 length and bytes, before it a service byte when it is a piece. */
static bool next_part(struct group_install *in, size_t *at, uint8_t *service, slice_t *part, uint32_t max, bool *bad)
{
    size_t prefix = service != NULL ? 1 : 0, left = in->in.len - *at;
    if (left < prefix + 4) {
        return false;
    }
    const uint8_t *p = in->in.ptr + *at;
    uint32_t len = le32_get(p + prefix);
    *bad = len > max;
    if (*bad || left < prefix + 4 + (size_t)len) {
        return false;
    }
    if (service != NULL) {
        *service = p[0];
    }
    *part = slice_of(p + prefix + 4, len);
    *at += prefix + 4 + len;
    return true;
}

static bool take_head(struct node *n, struct node_group *g, struct group_install *in, slice_t part)
{
    slice_t members;
    if (!head_decode(part, in, &members)) {
        return false;
    }
    struct reader mr = reader_of(members);
    return g->id != 0 || members_restore(n, &mr);
}

static bool take_part(struct node *n, struct node_group *g, struct group_install *in, uint8_t service, slice_t part)
{
    struct restore_into to = {in->locks != NULL ? in->locks : g->locks, in->q.sm != NULL ? &in->q : &g->q,
                              in->cache != NULL ? in->cache : g->cache.sm};
    switch (in->stage) {
    case INSTALL_HEAD: in->stage = INSTALL_TOPICS; return take_head(n, g, in, part);
    case INSTALL_TOPICS: in->stage = INSTALL_TABLE; return to.q->topics != NULL ? topics_restore(to.q->topics, part) : part.len == 0;
    case INSTALL_TABLE: in->stage = INSTALL_PIECES; return queue_log_restore(to.q->log, part);
    default: break;
    }
    return service == SERVICE_LOCKS ? lock_sm_restore_piece(to.locks, part) :
           service == SERVICE_QUEUE ? queue_sm_restore_piece(to.q->sm, part) :
           service == SERVICE_CACHE ? cache_sm_restore_piece(to.cache, part) : false;
}

static bool install_feed(struct node *n, struct node_group *g, slice_t piece)
{
    struct group_install *in = &g->install;
    static const uint32_t most[] = {[INSTALL_HEAD] = HEAD_BYTES_MAX, [INSTALL_TOPICS] = TABLE_BYTES_MAX,
                                    [INSTALL_TABLE] = TABLE_BYTES_MAX, [INSTALL_PIECES] = PIECE_BYTES_MAX};
    buf_append_slice(&in->in, piece);
    size_t at = 0;
    bool bad = false, ok = true;
    uint8_t service = 0;
    slice_t part;
    while (ok && next_part(in, &at, in->stage == INSTALL_PIECES ? &service : NULL, &part, most[in->stage], &bad)) {
        ok = take_part(n, g, in, service, part);
    }
    buf_consume(&in->in, at);
    return ok && !bad;
}

static bool install_complete(const struct group_install *in, struct restore_into to)
{
    return in->stage == INSTALL_PIECES && in->in.len == 0 && lock_sm_restore_end(to.locks) && queue_sm_restore_end(to.q->sm) &&
           cache_sm_restore_end(to.cache);
}

void snapshot_piece(struct node *n, struct node_group *g, const struct event *ev)
{
    struct group_install *in = &g->install;
    if (!in->loading || ev->index != in->index) {
        return;
    }
    if (!ev->ok || !install_feed(n, g, ev->data)) {
        install_failed(n, g, "its content is malformed");
        return;
    }
    if (!ev->last) {
        return;
    }
    if (!install_complete(in, (struct restore_into){in->locks, &in->q, in->cache})) {
        install_failed(n, g, "its content is incomplete");
        return;
    }
    lock_sm_free(g->locks);
    g->locks = in->locks;
    in->locks = NULL;
    cache_end_sm(&g->cache);
    g->cache.sm = in->cache;
    in->cache = NULL;
    queue_install(n, g, &in->q);
    g->applied = in->index;
    g->applied_term = in->term;
    g->applied_time = in->time_ms;
    g->last_time = in->time_ms > g->last_time ? in->time_ms : g->last_time;
    g->snapshot_index = in->index;
    g->bytes_since_snapshot = 0;
    g->snap.making = false;
    if (n->log_buf.len == 0) {
        n->log_seq++;
    }
    log_put_snapshot_mark(&n->log_buf, g->id, in->index, in->term, true);
    consensus_installed(g->consensus, in->index, in->term, &in->config);
    metrics_add(&n->metrics, METRIC_SNAPSHOT_INSTALLS_TOTAL, 1);
    node_log(n, LOG_INFO, "group %u: caught up by a snapshot at index %llu", g->id, (unsigned long long)in->index);
    install_reset(g);
    rejoin_config_seen(n, g);
    group_touch(n, g);
}

bool snapshot_restore_piece(struct node *n, struct node_group *g, slice_t piece)
{
    return install_feed(n, g, piece);
}

bool snapshot_restore_end(struct node *n, struct node_group *g)
{
    (void)n;
    bool ok = install_complete(&g->install, (struct restore_into){g->locks, &g->q, g->cache.sm});
    if (ok) {
        g->recover.config = g->install.config;
        g->applied_time = g->last_time = g->install.time_ms;
    }
    install_reset(g);
    return ok;
}
