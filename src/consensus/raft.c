/* The Raft replica as an object: making it, stepping it, taking what it wants done, and looking in (consensus.h).
 *
 * step sorts messages by term and hands each to one function per type; the protocol itself is in raft_election.c,
 * raft_replication.c, raft_follower.c, raft_commit.c, raft_read.c, raft_config.c, raft_snapshot.c, raft_transfer.c and
 * raft_quiesce.c. Source: Ongaro and Ousterhout 2014; Ongaro 2014 (dissertation). Invariants: docs/raft.md, R1-R16;
 * consensus_check asserts those that one replica can see. */
#include "consensus/raft.h"

#include <stdlib.h>

void raft_ring_init(struct raft_ring *r, uint32_t item)
{
    *r = (struct raft_ring){.item = item};
}

void raft_ring_fini(struct raft_ring *r)
{
    free(r->items);
    *r = (struct raft_ring){0};
}

void *raft_ring_at(const struct raft_ring *r, uint32_t i)
{
    syn_assert(i < r->count);
    return (char *)r->items + (size_t)((r->head + i) & (r->cap - 1)) * r->item;
}

void *raft_ring_push(struct raft_ring *r)
{
    if (r->count == r->cap) {
        uint32_t cap = r->cap == 0 ? 8 : r->cap * 2;
        char *items = malloc((size_t)cap * r->item);
        syn_assert(items != NULL);
        for (uint32_t i = 0; i < r->count; i++) {
            memcpy(items + (size_t)i * r->item, raft_ring_at(r, i), r->item);
        }
        free(r->items);
        r->items = items;
        r->cap = cap;
        r->head = 0;
    }
    return raft_ring_at(r, r->count++);
}

void raft_ring_pop(struct raft_ring *r)
{
    syn_assert(r->count > 0);
    r->head = (r->head + 1) & (r->cap - 1);
    r->count--;
}

static void set_defaults(struct consensus_options *o)
{
    o->append_bytes_max = o->append_bytes_max != 0 ? o->append_bytes_max : 256 * 1024;
    o->inflight_bytes_max = o->inflight_bytes_max != 0 ? o->inflight_bytes_max : 1024 * 1024;
    o->inflight_msgs_max = o->inflight_msgs_max != 0 ? o->inflight_msgs_max : 128;
    o->uncommitted_bytes_max = o->uncommitted_bytes_max != 0 ? o->uncommitted_bytes_max : 32 * 1024 * 1024;
}

struct consensus *consensus_new(const struct consensus_options *o, const struct consensus_recovered *r, uint64_t now_ms)
{
    syn_assert(o->self != 0 && o->heartbeat_ms > 0);
    syn_assert(o->heartbeat_ms < o->election_ms_min && o->election_ms_min <= o->election_ms_max);
    struct consensus *c = calloc(1, sizeof *c);
    syn_assert(c != NULL);
    c->o = *o;
    set_defaults(&c->o);
    prng_init(&c->prng, o->seed);
    c->now_ms = now_ms;
    c->term = r->term;
    c->vote = r->vote;
    c->may_vote = true;
    c->role = ROLE_FOLLOWER;
    raft_log_init(&c->log, r->snapshot_index, r->snapshot_term);
    c->commit = c->applied = c->verified = c->durable = c->snap_index = r->snapshot_index;
    c->snap_term = r->snapshot_term;
    c->unstable = r->snapshot_index + 1;
    c->tell_at_ms = UINT64_MAX;
    raft_ring_init(&c->writes, sizeof(struct raft_write));
    raft_ring_init(&c->held, sizeof(struct raft_held));
    raft_ring_init(&c->reads, sizeof(struct raft_read));
    buf_init(&c->install.chunk);
    raft_config_init(c, &r->config, r->snapshot_index);
    raft_arm_election(c);
    if (raft_is_single(c)) {
        c->election_at_ms = now_ms;
    }
    return c;
}

void consensus_free(struct consensus *c)
{
    for (uint32_t i = 0; i < c->n_peers; i++) {
        free(c->peers[i].inflight);
        buf_fini(&c->peers[i].chunk);
    }
    raft_log_fini(&c->log);
    raft_ring_fini(&c->writes);
    raft_ring_fini(&c->held);
    raft_ring_fini(&c->reads);
    buf_fini(&c->install.chunk);
    free(c->configs);
    free(c);
}

void consensus_restore_entries(struct consensus *c, uint64_t first_index, slice_t run, uint32_t n_entries)
{
    syn_assert(c->taken_no == 0 && c->elections == 0);
    syn_assert(n_entries == 0 || first_index == raft_log_last(&c->log) + 1);
    struct reader r = reader_of(run);
    struct entry e;
    uint32_t n = 0;
    while (entry_decode(&r, &e)) {
        raft_log_append(&c->log, e.term, e.type, e.payload);
        if (e.type == ENTRY_CONFIG) {
            raft_config_append(c, raft_log_last(&c->log), e.payload);
        }
        n++;
    }
    syn_assert(r.ok && n == n_entries);
    c->durable = raft_log_last(&c->log);
    c->unstable = c->durable + 1;
    if (raft_is_single(c)) {
        c->election_at_ms = c->now_ms;
    }
}

void consensus_set_may_vote(struct consensus *c, bool may_vote)
{
    c->may_vote = may_vote;
    if (!may_vote && c->role != ROLE_FOLLOWER && c->role != ROLE_LEARNER) {
        raft_become_follower(c, c->term, 0);
    }
    if (may_vote) {
        c->ack_due = c->leader != 0 && c->role != ROLE_LEADER;
        raft_arm_election(c);
    }
}

struct raft_peer *raft_peer(struct consensus *c, node_id_t id)
{
    for (uint32_t i = 0; i < c->n_peers; i++) {
        if (c->peers[i].id == id) {
            return &c->peers[i];
        }
    }
    return NULL;
}

uint64_t raft_quorum(const struct consensus *c, uint64_t own, uint64_t (*value)(const struct raft_peer *p))
{
    uint64_t v[CONSENSUS_MEMBERS_MAX + 1];
    uint32_t n = 0;
    if (c->self_voter) {
        v[n++] = own;
    }
    for (uint32_t i = 0; i < c->n_peers; i++) {
        const struct raft_peer *p = &c->peers[i];
        if (!p->voter && !MUTANT("S5")) {
            continue;
        }
        uint64_t x = p->amnesiac ? 0 : value(p);
        uint32_t k = n++;
        for (; k > 0 && v[k - 1] < x; k--) {
            v[k] = v[k - 1];
        }
        v[k] = x;
    }
    uint32_t majority = c->n_voters / 2 + 1;
    return n >= majority && c->n_voters > 0 ? v[majority - 1] : 0;
}

static void held_push(struct consensus *c, struct consensus_msg m, uint64_t need)
{
    if (c->held.count >= RAFT_HELD_MSGS_MAX) {
        return;
    }
    m.group = c->o.group;
    m.from = c->o.self;
    struct raft_held *h = raft_ring_push(&c->held);
    *h = (struct raft_held){.msg = m, .need = need};
}

void raft_push(struct consensus *c, struct consensus_msg m)
{
    held_push(c, m, c->hard_dirty ? c->taken_no + 1 : c->hard_no);
}

void raft_push_free(struct consensus *c, struct consensus_msg m)
{
    /* Messages leave in order, so one that needs nothing still waits behind those that need a write. */
    held_push(c, m, 0);
}

/* A message of an older term: its sender learns ours, so that it steps down or stops asking. */
static void answer_stale(struct consensus *c, const struct consensus_msg *m)
{
    struct consensus_msg r = {.to = m->from, .term = c->term, .reject = true, .ctx = m->ctx, .index = m->index};
    switch (m->type) {
    case MSG_PRE_VOTE: r.type = MSG_PRE_VOTE_REPLY; break;
    case MSG_VOTE: r.type = MSG_VOTE_REPLY; r.ctx = m->term; break;
    case MSG_APPEND: r.type = MSG_APPEND_REPLY; break;
    case MSG_HEARTBEAT: r.type = MSG_HEARTBEAT_REPLY; break;
    case MSG_SNAPSHOT: r.type = MSG_SNAPSHOT_REPLY; break;
    default: return;
    }
    raft_push(c, r);
}

/* True when the message must not be handled: it would only disturb (4.2.3), or its term is not to be adopted yet. */
static bool ignore_newer_term(struct consensus *c, const struct consensus_msg *m)
{
    if (m->type == MSG_PRE_VOTE || (m->type == MSG_PRE_VOTE_REPLY && !m->reject)) {
        return false;
    }
    if (m->type == MSG_VOTE && m->ctx != RAFT_VOTE_TRANSFER && raft_sticky(c, m->from)) {
        return true;
    }
    raft_become_follower(c, m->term, 0);
    return false;
}

static bool is_from_leader(enum msg_type t)
{
    return t == MSG_APPEND || t == MSG_HEARTBEAT || t == MSG_SNAPSHOT;
}

/* A second leader in one term, or ourselves as one, cannot be (R1): the sender is broken. */
static bool ignore_impostor(const struct consensus *c, const struct consensus_msg *m)
{
    return is_from_leader(m->type) && (c->role == ROLE_LEADER || (c->leader != 0 && c->leader != m->from));
}

static void dispatch(struct consensus *c, const struct consensus_msg *m)
{
    switch (m->type) {
    case MSG_PRE_VOTE: raft_on_pre_vote(c, m); break;
    case MSG_PRE_VOTE_REPLY: raft_on_pre_vote_reply(c, m); break;
    case MSG_VOTE: raft_on_vote(c, m); break;
    case MSG_VOTE_REPLY: raft_on_vote_reply(c, m); break;
    case MSG_APPEND: raft_on_append(c, m); break;
    case MSG_APPEND_REPLY: raft_on_append_reply(c, m); break;
    case MSG_HEARTBEAT: raft_on_heartbeat(c, m); break;
    case MSG_HEARTBEAT_REPLY: raft_on_heartbeat_reply(c, m); break;
    case MSG_SNAPSHOT: raft_on_snapshot(c, m); break;
    case MSG_SNAPSHOT_REPLY: raft_on_snapshot_reply(c, m); break;
    case MSG_TIMEOUT_NOW: raft_on_timeout_now(c, m); break;
    case MSG_NONE:
    case MSG_CONSENSUS_MAX: SYN_UNREACHABLE();
    }
}

static void advance_clock(struct consensus *c, uint64_t now_ms)
{
    c->now_ms = now_ms > c->now_ms ? now_ms : c->now_ms;
}

void consensus_step(struct consensus *c, const struct consensus_msg *m, uint64_t now_ms)
{
    syn_assert(m->group == c->o.group && m->to == c->o.self);
    advance_clock(c, now_ms);
    if (m->from == c->o.self || m->from == 0) {
        return;
    }
    if (raft_wakes(c, m)) {
        raft_wake(c);
    }
    if (m->term < c->term) {
        answer_stale(c, m);
        return;
    }
    if ((m->term > c->term && ignore_newer_term(c, m)) || ignore_impostor(c, m)) {
        return;
    }
    if (is_from_leader(m->type)) {
        raft_heard_leader(c, m->from);
    }
    dispatch(c, m);
}

void consensus_tick(struct consensus *c, uint64_t now_ms)
{
    advance_clock(c, now_ms);
    if (c->quiesced) {
        return;
    }
    if (c->role == ROLE_LEADER) {
        raft_leader_tick(c);
    } else {
        raft_election_tick(c);
    }
}

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t consensus_deadline_ms(const struct consensus *c)
{
    if (c->quiesced) {
        return UINT64_MAX;
    }
    if (c->role == ROLE_LEADER) {
        uint64_t at = min64(c->heartbeat_at_ms, c->tell_at_ms);
        return c->transfer_to != 0 ? min64(at, c->transfer_at_ms) : at;
    }
    if (!raft_electable(c)) {
        return UINT64_MAX;
    }
    bool campaigning = c->role == ROLE_PRE_CANDIDATE || c->role == ROLE_CANDIDATE;
    return campaigning ? min64(c->election_at_ms, c->resend_at_ms) : c->election_at_ms;
}

enum propose_result consensus_propose(struct consensus *c, enum entry_type type, slice_t payload, uint64_t now_ms, uint64_t *index)
{
    raft_time(c, now_ms);
    syn_assert(type == ENTRY_NORMAL || type == ENTRY_NOOP);
    if (c->role != ROLE_LEADER) {
        return PROPOSE_NOT_LEADER;
    }
    if (c->transfer_to != 0) {
        return PROPOSE_TRANSFERRING;
    }
    uint64_t waiting = raft_log_bytes(&c->log, c->commit, raft_log_last(&c->log));
    if (waiting > 0 && waiting + payload.len > c->o.uncommitted_bytes_max) {
        return PROPOSE_BUSY;
    }
    raft_wake(c);
    raft_append_own(c, type, payload);
    *index = raft_log_last(&c->log);
    return PROPOSE_OK;
}

bool consensus_take_msg(struct consensus *c, struct consensus_msg *out)
{
    if (c->held.count > 0) {
        const struct raft_held *h = raft_ring_at(&c->held, 0);
        bool early = MUTANT("R6b") && h->msg.type == MSG_VOTE_REPLY;
        if (h->need <= c->persisted_no || early) {
            *out = h->msg;
            raft_ring_pop(&c->held);
            return true;
        }
    }
    if (c->role != ROLE_LEADER) {
        return raft_take_ack(c, out);
    }
    for (; c->send_cursor < c->n_peers; c->send_cursor++) {
        *out = (struct consensus_msg){.group = c->o.group, .from = c->o.self, .term = c->term};
        if (raft_take_peer_msg(c, &c->peers[c->send_cursor], out)) {
            return true;
        }
    }
    c->send_cursor = 0;
    return false;
}

void consensus_peer_lost(struct consensus *c, node_id_t peer, uint64_t now_ms)
{
    advance_clock(c, now_ms);
    struct raft_peer *p = raft_peer(c, peer);
    if (p != NULL) {
        p->active = false;
    }
    if (c->role == ROLE_LEADER && p != NULL) {
        raft_wake(c);
        if (p->state != PEER_SNAPSHOT) {
            raft_peer_probe(c, p);
            p->paused = true;
        }
    } else if (c->leader == peer && peer != 0) {
        raft_wake(c);
        c->leader = 0;
        uint64_t at = c->now_ms + prng_range(&c->prng, RAFT_PEER_LOST_MS_MIN, RAFT_PEER_LOST_MS_MAX);
        c->election_at_ms = min64(c->election_at_ms, at);
    }
}

static const char *why_no_leader(const struct consensus *c)
{
    if (c->leader != 0) {
        return NULL;
    }
    if (c->n_voters == 0) {
        return "this replica does not know the members of its group yet";
    }
    if (!c->may_vote) {
        return "this replica remembers nothing: it waits for all others of a new group, or to be caught up by its leader";
    }
    switch (c->role) {
    case ROLE_PRE_CANDIDATE: return "asking for a majority that would vote for this replica; too few have answered";
    case ROLE_CANDIDATE: return "standing for election; a majority of votes has not come back";
    case ROLE_LEARNER: return "this replica does not vote and has not heard from a leader";
    case ROLE_FOLLOWER: return "no leader has been heard from; an election starts when the election timeout ends";
    case ROLE_LEADER: break;
    }
    return NULL;
}

void consensus_status(const struct consensus *c, struct consensus_status *out)
{
    *out = (struct consensus_status){
        .role = c->role, .term = c->term, .leader = c->leader, .commit = c->commit, .applied = c->applied,
        .first = c->log.prev_index + 1, .last = raft_log_last(&c->log), .last_term = raft_log_last_term(&c->log),
        .snapshot = c->snap_index, .durable = c->durable, .quiesced = c->quiesced, .ready = raft_ready(c),
        .transferring_to = c->transfer_to, .elections = c->elections, .why_no_leader = why_no_leader(c)};
}

uint32_t consensus_peers(const struct consensus *c, struct consensus_peer_status *out, uint32_t max)
{
    static const char *const names[] = {[PEER_PROBE] = "probe", [PEER_REPLICATE] = "replicate", [PEER_SNAPSHOT] = "snapshot"};
    uint32_t n = c->n_peers < max ? c->n_peers : max;
    for (uint32_t i = 0; i < n; i++) {
        const struct raft_peer *p = &c->peers[i];
        bool active = p->active && c->now_ms - p->heard_ms <= c->o.election_ms_max;
        out[i] = (struct consensus_peer_status){.id = p->id, .voter = p->voter, .active = active || c->quiesced,
                                                .amnesiac = p->amnesiac, .match = p->match, .next = p->next, .state = names[p->state]};
    }
    return n;
}

uint64_t consensus_log_bytes(const struct consensus *c)
{
    return raft_log_bytes(&c->log, c->log.prev_index, raft_log_last(&c->log));
}

uint64_t consensus_durable(const struct consensus *c)
{
    return c->durable;
}

uint64_t consensus_term_at(const struct consensus *c, uint64_t index)
{
    return raft_log_term(&c->log, index);
}

bool consensus_entry_at(const struct consensus *c, uint64_t index, struct entry *out)
{
    return raft_log_entry(&c->log, index, out);
}
