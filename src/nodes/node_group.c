/* One group's replica inside a node: what it takes from its consensus object in a turn, and how entries are applied.
 *
 * Responsible for: log time, proposals, applying committed entries to the group's state machine and sending their results to
 * whoever asked, noticing changes of leadership, proposing what is due. Not for: where requests come from (node_route.c) nor
 * for how agreement is reached (consensus.h).
 *
 * Invariants: G1 entries are applied in index order, each once. G2 log time never falls within a group, across leaders
 * (a new leader goes on from the newest time in its log). G3 a result is sent to a remote asker only by the leader, to a local
 * one by every replica that applies it: the second answer to a request finds it gone and is dropped. G4 at most one DUE entry
 * of this leadership is in flight (K5). */
#include "nodes/node_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

enum { DUE_ITEMS_MAX = 256, DUE_RETRY_MS = 20, QUIESCE_FAR_MS = 2000 };

uint64_t node_origin(uint64_t uuid, uint64_t incarnation)
{
    uint64_t h = hash_u64(uuid ^ hash_u64(incarnation)) & ~(uint64_t)1;
    return h != 0 ? h : 2;
}

struct lock_sm *group_new_locks(const struct node *n, uint32_t id)
{
    struct lock_sm_options o = {
        .group = id,
        .hash_key = n->hash_key,
        .default_ttl_ms = n->opt.lock_ttl_ms,
        .dedup_ms = 120000,
        .dedup_count = 100000,
        .retained_count = 100000,
    };
    return lock_sm_new(&o);
}

void group_init(struct node *n, uint32_t id)
{
    struct node_group *g = &n->groups[id];
    *g = (struct node_group){.id = id};
    list_init(&g->pending[0]);
    list_init(&g->pending[1]);
    list_init(&g->reads);
    list_init(&g->cache.held);
}

void group_host(struct node *n, struct node_group *g, const struct consensus_recovered *r)
{
    syn_assert(g->consensus == NULL);
    struct consensus_options o = {
        .group = g->id,
        .self = n->opt.self,
        .seed = prng_u64(&n->prng),
        .election_ms_min = n->opt.election_ms_min,
        .election_ms_max = n->opt.election_ms_max,
        .heartbeat_ms = n->opt.heartbeat_ms,
        .append_bytes_max = 256 * 1024,
        .inflight_bytes_max = 1024 * 1024,
        .inflight_msgs_max = 128,
        .uncommitted_bytes_max = 32 * 1024 * 1024,
    };
    g->consensus = consensus_new(&o, r, n->now_ms);
    g->hosted = true;
    if (g->locks == NULL) {
        g->locks = group_new_locks(n, g->id);
    }
    queue_host(n, g);
    cache_host(n, g);
    g->applied = r->snapshot_index;
    g->applied_term = r->snapshot_term;
    g->term = r->term;
}

void group_fini(struct node_group *g)
{
    if (g->consensus != NULL) {
        consensus_free(g->consensus);
    }
    if (g->locks != NULL) {
        lock_sm_free(g->locks);
    }
    queue_fini(&g->q);
    cache_fini(&g->cache);
    if (g->install.cache != NULL) {
        cache_sm_free(g->install.cache);
    }
    if (g->install.locks != NULL) {
        lock_sm_free(g->install.locks);
    }
    buf_fini(&g->install.in);
    queue_fini(&g->install.q);
    list_each_safe(it, &g->reads) {
        struct pending_read *rd = CONTAINER_OF(it, struct pending_read, link);
        buf_fini(&rd->query);
        free(rd);
    }
}

void group_touch(struct node *n, struct node_group *g)
{
    if (!g->dirty) {
        g->dirty = true;
        syn_assert(n->n_dirty < n->opt.groups);
        n->dirty[n->n_dirty++] = g->id;
    }
}

bool group_leads(const struct node_group *g)
{
    return g->hosted && g->role == ROLE_LEADER;
}

bool group_takes_part(const struct node *n, const struct node_group *g)
{
    bool led = g->leader != 0 && g->heard_term <= g->term;
    return g->hosted && (led || config_find(&g->placement, n->opt.self) >= 0);
}

node_id_t group_leader_hint(const struct node *n, const struct node_group *g)
{
    return !g->hosted || group_takes_part(n, g) ? g->leader : g->heard_leader;
}

uint64_t group_log_now(const struct node *n, const struct node_group *g)
{
    uint64_t t = g->lead_time + (n->now_ms - g->lead_at_ms);
    return t > g->last_time ? t : g->last_time;
}

enum propose_result group_propose(struct node *n, struct node_group *g, slice_t payload, uint64_t *index)
{
    uint64_t time = group_log_now(n, g);
    buf_clear(&n->scratch);
    buf_put_u64(&n->scratch, time);
    buf_append_slice(&n->scratch, payload);
    enum propose_result r = consensus_propose(g->consensus, ENTRY_NORMAL, buf_slice(&n->scratch), n->now_ms, index);
    if (r == PROPOSE_OK) {
        g->last_time = time;
        group_touch(n, g);
        if (n->batch_entries++ == 0) {
            n->batch_began_ms = n->now_ms;
        }
        metrics_add(&n->metrics, METRIC_CONSENSUS_PROPOSALS_TOTAL, 1);
    }
    return r;
}

static uint64_t entry_time(const struct entry *e)
{
    return e->type == ENTRY_NORMAL && e->payload.len >= ENTRY_TIME_BYTES ? le64_get(e->payload.ptr) : 0;
}

/* G2: the newest time anywhere in our log, committed or not; all of it will be committed before what we propose. */
static uint64_t newest_log_time(const struct node_group *g, const struct consensus_status *st)
{
    for (uint64_t i = st->last; i > g->applied; i--) {
        struct entry e;
        if (consensus_entry_at(g->consensus, i, &e) && entry_time(&e) != 0) {
            uint64_t t = entry_time(&e);
            return t > g->last_time ? t : g->last_time;
        }
    }
    return g->last_time;
}

static void group_became_leader(struct node *n, struct node_group *g, const struct consensus_status *st)
{
    g->last_time = newest_log_time(g, st);
    g->lead_time = g->last_time;
    g->lead_at_ms = n->now_ms;
    g->led_since_ms = n->now_ms;
    node_log(n, LOG_INFO, "group %u: leading in term %llu", g->id, (unsigned long long)st->term);
    if (n->observer.became_leader != NULL) {
        n->observer.became_leader(n->observer.arg, g->id, st->term);
    }
}

/* Compares with what the last turn saw; the only place that reacts to a change of role, term or leader. */
static void group_notice(struct node *n, struct node_group *g)
{
    struct consensus_status st;
    consensus_status(g->consensus, &st);
    bool leads = st.role == ROLE_LEADER, led = g->role == ROLE_LEADER;
    bool new_reign = leads && (!led || st.term != g->term);
    bool changed = st.leader != g->leader || leads != led || (leads && st.term != g->term);
    g->role = st.role;
    g->term = st.term;
    if (new_reign) {
        group_became_leader(n, g, &st);
    }
    if (changed) {
        g->leader = st.leader;
        g->due_index = 0;
        g->ready = false;
        reads_drop(n, g);
        queue_leader_lost(n, g);
        cache_leader_lost(n, g);
        route_leader_changed(n, g);
        metrics_add(&n->metrics, METRIC_CONSENSUS_LEADER_CHANGES_TOTAL, 1);
        if (!leads && led) {
            node_log(n, LOG_INFO, "group %u: no longer leading (term %llu, leader %s)", g->id,
                     (unsigned long long)st.term, st.leader ? node_name_of(n, st.leader) : "unknown");
        }
    }
    if (leads && !g->ready && st.ready && g->applied == st.commit) {
        g->ready = true;
        lock_sm_lead(g->locks, group_log_now(n, g));
        cache_lead(n, g);
        members_tell_of(n, g);
    }
}

static void send_result(struct node *n, struct node_group *g, const struct lock_result *r, slice_t reply)
{
    uint64_t origin = r->req.origin & ~(uint64_t)1;
    if (origin == n->origin) {
        if (r->code == LOCK_NEED_ATTACH) {
            request_refused(n, r->req.seq, FORWARD_NEED_ATTACH, 0, n->opt.self);
        } else {
            request_answer(n, r->req.seq, reply);
        }
        return;
    }
    if (!group_leads(g)) {
        return;
    }
    for (uint32_t i = 0; i < n->n_peers; i++) {
        struct node_peer *p = &n->peers[i];
        if (p->origin == origin && peer_linked(p)) {
            struct peer_msg m = {.kind = PEER_FORWARD_REPLY};
            m.u.forward_reply.req = r->req.seq;
            m.u.forward_reply.status = r->code == LOCK_NEED_ATTACH ? FORWARD_NEED_ATTACH : FORWARD_OK;
            m.u.forward_reply.leader = n->opt.self;
            m.u.forward_reply.payload = reply;
            links_send(n, p, &m);
            return;
        }
    }
}

void group_send_result(struct node *n, struct node_group *g, struct request_id req, slice_t reply)
{
    struct lock_result r = {.req = req, .code = LOCK_DONE};
    send_result(n, g, &r, reply);
}

static void apply_normal(struct node *n, struct node_group *g, const struct entry *e)
{
    struct reader r = reader_of(e->payload);
    uint64_t time = reader_u64(&r);
    uint8_t service = reader_u8(&r);
    if (!r.ok) {
        metrics_refused(&n->metrics, REFUSED_ENTRY);
        return;
    }
    g->applied_time = time > g->applied_time ? time : g->applied_time;
    g->last_time = time > g->last_time ? time : g->last_time;
    slice_t op = slice_of(r.p, reader_left(&r));
    if (service == SERVICE_LOCKS) {
        lock_sm_apply(g->locks, e->index, e->term, g->applied_time, op, &n->lock_out);
    } else if (service == SERVICE_META) {
        members_apply(n, g, e->index, op);
    } else if (service == SERVICE_QUEUE) {
        queue_apply(n, g, e->index, e->term, op);
    } else if (service == SERVICE_TOPICS) {
        queue_topics_apply(n, g, e->index, e->term, op);
    } else if (service == SERVICE_CACHE) {
        cache_apply(n, g, e->index, op);
    } else {
        metrics_refused(&n->metrics, REFUSED_ENTRY);
    }
}

static void group_apply_committed(struct node *n, struct node_group *g)
{
    struct entry e;
    uint64_t before = g->applied;
    struct lock_out *out = &n->lock_out;
    lock_out_clear(out);
    out->want_events = doors_want_events(n) || n->observer.lock_event != NULL;
    while (consensus_take_committed(g->consensus, &e)) {
        syn_assert(e.index == g->applied + 1);
        if (e.type == ENTRY_NORMAL) {
            apply_normal(n, g, &e);
        } else if (e.type == ENTRY_CONFIG) {
            rejoin_config_seen(n, g);
        }
        g->applied = e.index;
        g->applied_term = e.term;
        g->bytes_since_snapshot += e.payload.len + ENTRY_HEADER_BYTES;
        if (n->observer.applied != NULL) {
            n->observer.applied(n->observer.arg, g->id, e.index, e.term, e.payload,
                                lock_sm_digest(g->locks) ^ queue_digest(g) ^ cache_digest(g));
        }
        if (n->observer.lock_event != NULL) {
            for (uint32_t i = g->observed_events; i < out->n_events; i++) {
                const struct lock_event *ev = &out->events[i];
                n->observer.lock_event(n->observer.arg, g->id, e.index, (int)ev->kind,
                                       slice_of(out->names.ptr + ev->resource_off, ev->resource_len), ev->token,
                                       slice_of(out->names.ptr + ev->owner_off, ev->owner_len));
            }
            g->observed_events = out->n_events;
        }
    }
    g->observed_events = 0;
    if (g->applied > before) {
        metrics_observe(&n->metrics, METRIC_CONSENSUS_BATCH_ENTRIES, g->applied - before);
    }
    for (uint32_t i = 0; i < out->n_results; i++) {
        send_result(n, g, &out->results[i], lock_out_reply(out, &out->results[i]));
    }
    if (out->n_events > 0 && doors_want_events(n)) {
        doors_lock_events(n, g, out);
    }
    queue_deliver(n, g);
    if (g->due_index != 0 && g->applied >= g->due_index) {
        g->due_index = 0;
    }
}

/* G4: what has come due is put into the log by the leader, one batch at a time. */
static void group_due_duty(struct node *n, struct node_group *g)
{
    if (!g->ready || g->due_index != 0 || n->now_ms < g->due_retry_ms) {
        return;
    }
    uint64_t now = group_log_now(n, g);
    if (lock_sm_next_due_ms(g->locks) > now) {
        return;
    }
    struct buf op;
    buf_init(&op);
    buf_put_u8(&op, SERVICE_LOCKS);
    uint64_t index;
    if (lock_sm_due(g->locks, now, DUE_ITEMS_MAX, &op)) {
        if (group_propose(n, g, buf_slice(&op), &index) == PROPOSE_OK) {
            g->due_index = index;
        } else {
            g->due_retry_ms = n->now_ms + DUE_RETRY_MS;
        }
    }
    buf_fini(&op);
}

/* Ended sessions (group 0) are carried to the groups that hold something of them until each has confirmed. */
static void carry_session_end(void *arg, uint64_t session, uint32_t group)
{
    struct node *n = arg;
    if (group < n->opt.groups) {
        route_session_drop(n, session, group);
    }
}

void group_session_duty(struct node *n, struct node_group *g)
{
    if (g->id == 0 && g->role == ROLE_LEADER && g->ready && n->drops_in_flight == 0 && n->now_ms >= g->sessions_retry_ms) {
        g->sessions_retry_ms = n->now_ms + 200;
        lock_sm_unconfirmed(g->locks, 64, carry_session_end, n);
    }
}

void group_deliver(struct node *n, struct node_group *g)
{
    group_notice(n, g);
    group_apply_committed(n, g);
    group_notice(n, g);
    reads_confirmed(n, g);
    reads_serve(n, g);
    if (g->role == ROLE_LEADER) {
        group_due_duty(n, g);
        queue_due_duty(n, g);
        cache_due_duty(n, g);
    }
}

static void group_wait_persist(struct node *n, struct node_group *g, uint64_t persist_no)
{
    if (n->waits_count == n->waits_cap) {
        uint32_t cap = n->waits_cap ? n->waits_cap * 2 : 64;
        struct persist_wait *w = calloc(cap, sizeof *w);
        syn_assert(w != NULL);
        for (uint32_t i = 0; i < n->waits_count; i++) {
            w[i] = n->waits[(n->waits_head + i) % n->waits_cap];
        }
        free(n->waits);
        n->waits = w;
        n->waits_cap = cap;
        n->waits_head = 0;
    }
    n->waits[(n->waits_head + n->waits_count++) % n->waits_cap] =
        (struct persist_wait){.seq = n->log_seq, .group = g->id, .persist_no = persist_no};
}

/* The records of this turn share one write: the first one opens it. */
static void group_take_persist(struct node *n, struct node_group *g)
{
    struct consensus_persist p;
    while (consensus_take_persist(g->consensus, &p)) {
        if (n->log_buf.len == 0) {
            n->log_seq++;
        }
        if (p.hard_state) {
            log_put_hard_state(&n->log_buf, g->id, p.term, g->amnesiac ? GROUP_AMNESIAC : p.vote, p.commit);
        }
        if (p.n_entries > 0) {
            log_put_entries(&n->log_buf, g->id, p.first_index, p.n_entries, p.entries);
        }
        if (!p.hard_state && p.n_entries == 0) {
            log_put_hard_state(&n->log_buf, g->id, g->term, g->amnesiac ? GROUP_AMNESIAC : p.vote, p.commit);
        }
        group_wait_persist(n, g, p.persist_no);
    }
}

/* Log time. */
static uint64_t group_next_due_ms(const struct node_group *g)
{
    uint64_t locks = lock_sm_next_due_ms(g->locks), queue = queue_next_due_ms(g), cache = cache_next_due_ms(g);
    uint64_t first = locks < queue ? locks : queue;
    return first < cache ? first : cache;
}

void group_weigh(struct node *n, struct node_group *g)
{
    uint64_t now = consensus_log_bytes(g->consensus) + queue_log_young_bytes(g->q.log);
    n->held_bytes += now - g->held_bytes;
    g->held_bytes = now;
}

bool node_is_heavy(const struct node *n, uint32_t quarters)
{
    return n->opt.held_bytes_max > 0 && n->held_bytes > n->opt.held_bytes_max / 4 * quarters;
}

void group_turn(struct node *n, struct node_group *g)
{
    if (g->role == ROLE_LEADER) {
        if (!list_empty(&g->reads) && reads_ask(n, g)) {
            group_touch(n, g); /* alone in its group it has its answer already */
        }
        uint64_t due = g->ready ? group_next_due_ms(g) : 0;
        uint64_t now = group_log_now(n, g);
        bool far = due > now && due - now > QUIESCE_FAR_MS;
        consensus_allow_quiesce(g->consensus, far && list_empty(&g->reads) && g->due_index == 0 && !g->snap.making, n->now_ms);
    }
    group_take_persist(n, g);
    struct consensus_msg m;
    while (consensus_take_msg(g->consensus, &m)) {
        struct node_peer *p = node_peer_of(n, m.to);
        if (p != NULL && peer_linked(p)) {
            struct peer_msg pm = {.kind = PEER_CONSENSUS, .u.consensus = m};
            links_send(n, p, &pm);
        }
    }
    snapshot_serve(n, g);
    snapshot_take_install(n, g);
    snapshot_finish(n, g);
    snapshot_maybe_begin(n, g);
    snapshot_step(n, g);
    group_weigh(n, g);
}

/* Our clock's time for a log time, not before a retry that was put off. */
static uint64_t wake_at(const struct node *n, const struct node_group *g, uint64_t due, uint64_t retry_ms)
{
    if (due == UINT64_MAX) {
        return UINT64_MAX;
    }
    uint64_t now = group_log_now(n, g), at = due <= now ? n->now_ms : n->now_ms + (due - now);
    return at < retry_ms ? retry_ms : at;
}

uint64_t group_deadline(const struct node *n, const struct node_group *g)
{
    uint64_t at = g->consensus != NULL ? consensus_deadline_ms(g->consensus) : UINT64_MAX;
    if (g->snap.making && !g->snap.all_written && g->snap.next_step_ms < at) {
        at = g->snap.next_step_ms;
    }
    if (g->role == ROLE_LEADER && g->ready) {
        uint64_t locks = g->due_index == 0 ? wake_at(n, g, lock_sm_next_due_ms(g->locks), g->due_retry_ms) : UINT64_MAX;
        uint64_t queue = wake_at(n, g, queue_next_due_ms(g), g->q.due_retry_ms);
        uint64_t cache = wake_at(n, g, cache_next_due_ms(g), g->cache.due_retry_ms);
        at = locks < at ? locks : at;
        at = queue < at ? queue : at;
        at = cache < at ? cache : at;
        uint64_t fills = fills_deadline(&g->q);
        at = fills < at ? fills : at;
    }
    return at;
}
