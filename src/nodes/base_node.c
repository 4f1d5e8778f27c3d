/* A node's life and the dispatch of its events (docs/architecture.md, "The way of a command").
 *
 * Responsible for: building a node from options and recovery, handing each event to the room it belongs to, and the end of a
 * turn, where batched effects leave in the order that durability demands. Not for: what any of those rooms does.
 *
 * Invariants: effects of one step leave in list order; nothing in them depends on bytes that are not durable (R6: the
 * consensus keeps such messages back until EV_LOG_DONE); log time and clocks never fall inside a node. */
#include "nodes/node_internal.h"

#include "storage/store.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { HOUSEKEEPING_MS = 100, SHUTDOWN_MS_MAX = 3000, FLUSH_MS_MIN = 300, HOLD_MS = 2 };

void node_log(struct node *n, enum log_level level, const char *fmt, ...)
{
    if (n->fx == NULL) {
        return;
    }
    struct effect *e = effects_add(n->fx, EF_LOGLINE);
    e->value = level;
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    syn_assert(len >= 0);
    buf_append(&e->data, line, (size_t)len < sizeof line ? (size_t)len : sizeof line - 1);
}

struct node_peer *node_peer_of(struct node *n, node_id_t id)
{
    for (uint32_t i = 0; i < n->n_peers; i++) {
        if (n->peers[i].member.id == id) {
            return &n->peers[i];
        }
    }
    return NULL;
}

const char *node_name_of(const struct node *n, node_id_t id)
{
    for (uint32_t i = 0; i < n->opt.n_members; i++) {
        if (n->opt.members[i].id == id) {
            return n->opt.members[i].name;
        }
    }
    return "?";
}

static void node_recover_group(struct node *n, struct node_group *g, const struct store_group *sg)
{
    struct consensus_recovered r = {.term = sg->term, .vote = sg->vote};
    bool placed_here = false;
    for (uint32_t i = 0; i < g->placement.count; i++) {
        placed_here |= g->placement.members[i].id == n->opt.self;
    }
    if (!sg->exists && !(placed_here && n->fresh)) {
        return; /* placed here later: its leader will say so */
    }
    if (sg->exists && sg->vote == GROUP_AMNESIAC) {
        r.vote = 0;
        g->amnesiac = true;
    }
    r.snapshot_index = sg->snapshot_index;
    r.snapshot_term = sg->snapshot_term;
    r.config = g->placement;
    if (placed_here == false) {
        r.config.count = 0;
    }
    g->recover = r;
    g->snapshot_index = sg->snapshot_index;
    g->recover_run = sg;
    g->hosted = true;
    g->locks = group_new_locks(n, g->id);
    queue_host(n, g);
    cache_host(n, g);
}

struct node *node_new(const struct node_options *o, const struct store_recovery *recovered, uint64_t now_ms, uint64_t wall_ms)
{
    struct node *n = calloc(1, sizeof *n);
    syn_assert(n != NULL && o->self != 0 && o->groups > 0 && o->groups <= NODE_GROUPS_MAX);
    n->opt = *o;
    n->now_ms = n->started_ms = now_ms;
    n->wall_ms = n->started_wall_ms = wall_ms;
    prng_init(&n->prng, o->seed);
    n->hash_key = prng_u64(&n->prng);
    n->origin = node_origin(o->node_uuid, o->incarnation);
    n->next_seq = 1;
    n->read_ctx_next = 1;
    n->deadline_ms = now_ms;
    map_init(&n->links);
    map_init(&n->requests);
    wheel_init(&n->wheel, now_ms);
    lock_out_init(&n->lock_out);
    queue_out_init(&n->queue_out);
    topics_out_init(&n->topics_out);
    metrics_init(&n->metrics);
    n->doors = doors_new(n);
    n->dirty = calloc(o->groups, sizeof *n->dirty);
    n->dirty_next = calloc(o->groups, sizeof *n->dirty_next);
    n->groups = calloc(o->groups, sizeof *n->groups);
    syn_assert(n->groups != NULL && n->dirty != NULL && n->dirty_next != NULL);
    n->fresh = true;
    for (uint32_t i = 0; i < o->groups; i++) {
        group_init(n, i);
    }
    members_place(n);
    for (uint32_t i = 0; i < o->groups; i++) {
        n->fresh = n->fresh && !rejoin_remembers(&recovered->groups[i]);
    }
    for (uint32_t i = 0; i < o->groups; i++) {
        node_recover_group(n, &n->groups[i], &recovered->groups[i]);
    }
    cacher_open(n);
    links_start(n);
    return n;
}

bool node_restore_piece(struct node *n, uint32_t group, slice_t piece)
{
    return snapshot_restore_piece(n, &n->groups[group], piece);
}

bool node_restore_end(struct node *n, uint32_t group)
{
    return snapshot_restore_end(n, &n->groups[group]);
}

void node_free(struct node *n)
{
    wheel_fini(&n->wheel); /* first: nothing that is freed below leaves its timer behind */
    route_fini(n);
    doors_free(n->doors);
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        group_fini(&n->groups[i]);
    }
    cacher_close(n);
    links_fini(n);
    lock_out_fini(&n->lock_out);
    queue_out_fini(&n->queue_out);
    topics_out_fini(&n->topics_out);
    metrics_fini(&n->metrics);
    map_fini(&n->requests);
    buf_fini(&n->log_buf);
    buf_fini(&n->scratch);
    free(n->waits);
    free(n->dirty);
    free(n->dirty_next);
    free(n->groups);
    free(n);
}

/* The consensus objects are made at the first event: recovery may have restored snapshots in between. */
static void node_begin(struct node *n)
{
    n->begun = true;
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        struct node_group *g = &n->groups[i];
        if (!g->hosted) {
            continue;
        }
        const struct store_group *sg = g->recover_run;
        group_host(n, g, &g->recover);
        if (sg->n_entries > 0) {
            consensus_restore_entries(g->consensus, sg->first_index, buf_slice(&sg->run), sg->n_entries);
        }
        g->recover_run = NULL;
        if (n->fresh) {
            rejoin_forgotten(n, g);
        }
        consensus_set_may_vote(g->consensus, !g->amnesiac);
        rejoin_config_seen(n, g);
        group_touch(n, g);
    }
    rejoin_begin(n);
}

static void node_log_done(struct node *n, uint64_t seq, uint64_t flush_us, uint64_t log_bytes)
{
    syn_assert(seq <= n->log_seq);
    metrics_set(&n->metrics, METRIC_WAL_SIZE_BYTES, log_bytes);
    n->log_done = seq > n->log_done ? seq : n->log_done;
    metrics_observe_us(&n->metrics, METRIC_WAL_FSYNC_SECONDS, flush_us);
    while (n->waits_count > 0) {
        struct persist_wait *w = &n->waits[n->waits_head];
        if (w->seq > n->log_done) {
            break;
        }
        struct node_group *g = &n->groups[w->group];
        consensus_persisted(g->consensus, w->persist_no);
        group_touch(n, g);
        n->waits_head = (n->waits_head + 1) % n->waits_cap;
        n->waits_count--;
    }
}

void node_shutdown(struct node *n)
{
    if (n->stopping) {
        return;
    }
    n->stopping = true;
    n->stop_at_ms = n->now_ms + SHUTDOWN_MS_MAX;
    node_log(n, LOG_INFO, "shutting down: handing over leaderships");
}

/* One hand-over per group: when all nodes stop at once, leaderships would go round among them for as long as they may take. */
static bool hand_over(struct node *n, struct node_group *g)
{
    node_id_t to = consensus_transfer_target(g->consensus);
    if (!g->handed_over && to != 0 && consensus_transfer(g->consensus, to, n->now_ms)) {
        g->handed_over = true;
        g->handed_term = g->term;
        g->transfer_retry_ms = n->now_ms + n->opt.election_ms_max;
        group_touch(n, g);
    }
    return g->handed_over && g->handed_term == g->term && n->now_ms < g->transfer_retry_ms;
}

/* With write-back: dirty lines go to memory while their homes can take them. Nodes that stop in the same moment wait for one another's. */
static bool lines_kept(struct node *n)
{
    if (!n->opt.cache_back || n->now_ms >= n->stop_at_ms - SHUTDOWN_MS_MAX / 2) {
        return false;
    }
    return !cacher_flush_all(n->cache.cacher) || n->now_ms < n->stop_at_ms - SHUTDOWN_MS_MAX + FLUSH_MS_MIN;
}

/* Hands over what this node leads; stops once nothing is left, nobody is left to take it, or the time for it is over. */
static void node_stop_duty(struct node *n)
{
    if (lines_kept(n)) {
        return;
    }
    bool leading = false;
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        struct node_group *g = &n->groups[i];
        if (g->hosted && g->role == ROLE_LEADER) {
            leading |= hand_over(n, g);
        }
    }
    bool answers = n->n_requests > 0 && members_linked(n) > (n->n_peers + 1) / 2; /* may still come */
    if (!n->stop_sent && ((!leading && !answers) || n->now_ms >= n->stop_at_ms)) {
        n->stop_sent = true;
        effects_add(n->fx, EF_STOP)->value = 0;
    }
}

static void node_timers(struct node *n)
{
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        struct node_group *g = &n->groups[i];
        if (g->hosted && group_deadline(n, g) <= n->now_ms) {
            consensus_tick(g->consensus, n->now_ms);
            group_touch(n, g);
        }
    }
    links_timers(n);
    route_timers(n);
    doors_timers(n);
    members_timers(n);
    consume_timers(n);
    cache_timers(n);
    if (n->now_ms >= n->housekeeping_ms) {
        n->housekeeping_ms = n->now_ms + HOUSEKEEPING_MS;
        for (uint32_t i = 0; i < n->opt.groups; i++) {
            struct node_group *g = &n->groups[i];
            if (g->hosted) {
                members_duty(n, g);
                rejoin_ask(n, g);
                group_session_duty(n, g);
                probe_duty(n, g);
                queue_housekeeping(n, g);
                cache_housekeeping(n, g);
            }
        }
    }
    if (n->stopping) {
        node_stop_duty(n);
    }
}

static uint64_t node_next_deadline(const struct node *n)
{
    uint64_t at = n->housekeeping_ms;
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        const struct node_group *g = &n->groups[i];
        uint64_t d = g->hosted ? group_deadline(n, g) : UINT64_MAX;
        at = d < at ? d : at;
    }
    uint64_t others[] = {links_deadline(n), wheel_next_ms(&n->wheel), doors_deadline(n), doors_queue_deadline(n), cache_deadline(n), route_deadline(n)};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        at = others[i] < at ? others[i] : at;
    }
    return at;
}

/* While a log write is on its way, what comes meanwhile is held back, to disk and to peers alike, and rides together when it is
 * done: the disk could not take it earlier, and each frame and wake-up serves more entries (T1, T10). A disk that takes longer than
 * HOLD_MS does not hold the peers back (T2). */
static bool node_holds(const struct node *n)
{
    if (n->log_done < n->log_seq) {
        return n->now_ms - n->log_began_ms < HOLD_MS;
    }
    /* Linger: those who were answered by the last batches are about to ask again; a batch of a few now would make them all wait for
     * two flushes (T9). Never with one client, never longer than a clock tick. */
    return n->batch_entries > 0 && n->batch_entries * 4 < n->batch_expected * 3 && n->now_ms == n->batch_began_ms;
}

/* A batch leaves: what to expect of the next one follows it up at once, and down slowly. */
static void node_batch_left(struct node *n)
{
    uint32_t slower = n->batch_expected - (n->batch_expected + 3) / 4; /* to nothing: one client that is left must not wait for others */
    n->batch_expected = n->batch_entries > slower ? n->batch_entries : slower;
    n->batch_entries = 0;
}

/* Groups that are touched meanwhile have their turn in the next one, which comes at once. */
static void node_turn_groups(struct node *n)
{
    uint32_t *turn = n->dirty;
    uint32_t count = n->n_dirty;
    n->dirty = n->dirty_next;
    n->dirty_next = turn;
    n->n_dirty = 0;
    for (uint32_t i = 0; i < count; i++) {
        n->groups[turn[i]].dirty = false;
    }
    for (uint32_t i = 0; i < count; i++) {
        group_turn(n, &n->groups[turn[i]]);
    }
}

/* Two passes, so that what applying proposes (session hand-overs, due expiries) still rides in this turn's write. */
static void node_turn_end(struct node *n)
{
    if (n->now_ms >= n->deadline_ms) {
        node_timers(n);
    }
    n->turn_no++;
    doors_turn(n);
    cache_turn(n);
    for (uint32_t i = 0; i < n->n_dirty; i++) {
        struct node_group *g = &n->groups[n->dirty[i]];
        group_deliver(n, g);
    }
    cache_turn(n);
    bool hold = node_holds(n);
    if (!hold) {
        node_turn_groups(n);
        node_batch_left(n);
    }
    if (n->log_buf.len > 0) {
        n->log_began_ms = n->now_ms;
        struct effect *e = effects_add(n->fx, EF_LOG);
        e->seq = n->log_seq;
        metrics_add(&n->metrics, METRIC_WAL_BYTES_TOTAL, n->log_buf.len);
        buf_swap(&e->data, &n->log_buf);
        buf_clear(&n->log_buf);
    }
    cache_flush_links(n);
    links_flush(n);
    doors_flush(n);
    n->deadline_ms = node_next_deadline(n);
    if (!hold && n->n_dirty > 0) {
        n->deadline_ms = n->now_ms;
    } else if (n->n_dirty > 0) {
        uint64_t at = n->log_done < n->log_seq ? n->log_began_ms + HOLD_MS : n->batch_began_ms + 1;
        n->deadline_ms = at < n->deadline_ms ? at : n->deadline_ms;
    }
}

static void node_dispatch(struct node *n, struct event *ev)
{
    struct node_group *g = ev->group < n->opt.groups ? &n->groups[ev->group] : NULL;
    switch (ev->type) {
    case EV_TURN_END: node_turn_end(n); break;
    case EV_TIMER: break; /* the turn's end looks at the clock */
    case EV_CONN_OPENED: doors_opened(n, ev->conn, ev->door, ev->text); break;
    case EV_CONN_DATA: ev->consumed = doors_data(n, ev->conn, ev->data); break;
    case EV_CONN_CLOSED: doors_closed(n, ev->conn); break;
    case EV_CONN_DRAINED: doors_drained(n, ev->conn); break;
    case EV_CONN_REFUSED: metrics_refused(&n->metrics, REFUSED_CONNECTIONS); break;
    case EV_LINK_UP: links_up(n, ev->link, ev->peer); break;
    case EV_LINK_FRAME: links_frame(n, ev->link, ev->data); break;
    case EV_LINK_DOWN: links_down(n, ev->link); break;
    case EV_LINK_BAD: links_no_frame(n, ev->link, ev->text); break;
    case EV_DIAL_FAILED: links_dial_failed(n, ev->peer); break;
    case EV_LOG_DONE: node_log_done(n, ev->seq, ev->value, ev->offset); break;
    case EV_LOG_SPACE: node_space(n, ev->value); break;
    case EV_SNAP_WRITTEN: snapshot_written(n, g, ev->index, ev->ok); break;
    case EV_SNAP_RAW: snapshot_raw(n, g, ev); break;
    case EV_SNAP_RAW_WRITTEN: snapshot_raw_written(n, g, ev); break;
    case EV_SNAP_PIECE: snapshot_piece(n, g, ev); break;
    case EV_BACKLOG_WRITTEN: queue_backlog_written(n, g, ev); break;
    case EV_BACKLOG_LOADED: queue_backlog_loaded(n, g, ev); break;
    case EV_SHUTDOWN: node_shutdown(n); break;
    default: SYN_UNREACHABLE();
    }
}

void node_space(struct node *n, uint64_t level)
{
    bool low = level > 0;
    n->space_full = level > 1;
    if (n->space_low != low) {
        n->space_low = low;
        n->low_bytes = 0;
        node_log(n, low ? LOG_ERROR : LOG_INFO,
                 low ? "disk is full: new writes are refused until there is room" : "disk has room again: writes go on");
    }
}

void node_step(struct node *n, struct event *ev, struct effects *fx)
{
    syn_assert(ev->now_ms >= n->now_ms);
    n->now_ms = ev->now_ms;
    n->wall_ms = ev->wall_ms;
    n->fx = fx;
    cacher_clock(n->cache.cacher, n->now_ms, n->wall_ms);
    if (!n->begun) {
        node_begin(n);
    }
    node_dispatch(n, ev);
    if (n->opt.sim_checks) {
        node_check(n);
    }
    n->fx = NULL;
}

uint64_t node_deadline_ms(const struct node *n)
{
    return n->deadline_ms;
}

uint64_t node_held_for(const struct node *n)
{
    bool idle = n->log_done < n->log_seq && n->now_ms - n->log_began_ms < HOLD_MS && n->now_ms >= n->cache.awake_until_ms;
    return idle ? n->log_seq : 0;
}

void node_check(const struct node *n)
{
    syn_assert(n->log_done <= n->log_seq);
    syn_assert(n->n_dirty <= n->opt.groups);
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        const struct node_group *g = &n->groups[i];
        if (g->hosted && g->consensus != NULL) {
            syn_assert(g->locks != NULL);
            consensus_check(g->consensus);
            queue_check(n, g);
            cache_check(n, g);
        }
    }
}

const struct consensus *node_consensus(const struct node *n, uint32_t group)
{
    return n->groups[group].hosted ? n->groups[group].consensus : NULL;
}

const struct lock_sm *node_locks(const struct node *n, uint32_t group)
{
    return n->groups[group].hosted ? n->groups[group].locks : NULL;
}

const struct queue_sm *node_queue(const struct node *n, uint32_t group)
{
    return n->groups[group].hosted ? n->groups[group].q.sm : NULL;
}

uint64_t node_digest(const struct node *n, uint32_t group)
{
    const struct node_group *g = &n->groups[group];
    return lock_sm_digest(g->locks) ^ queue_digest(g) ^ cache_digest(g);
}

uint64_t node_state_hash(const struct node *n, uint32_t group)
{
    const struct group_queue *q = &n->groups[group].q;
    return queue_sm_state_hash(q->sm) ^ (q->topics != NULL ? topics_state_hash(q->topics) : 0);
}

uint64_t node_applied(const struct node *n, uint32_t group)
{
    return n->groups[group].applied;
}

void node_observe(struct node *n, const struct node_observer *o)
{
    n->observer = o != NULL ? *o : (struct node_observer){0};
}
