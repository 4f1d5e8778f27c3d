/* The leader's side of replication: what to send to whom, and what the answers mean.
 *
 * Messages are made when they are taken, so that all proposals of a turn travel in one append per follower, in parallel
 * with the leader's own write. A peer is in PROBE (one small append out, looking for where the logs agree), REPLICATE
 * (appends pipelined within a window of messages and bytes) or SNAPSHOT (raft_snapshot.c).
 * Source: Ongaro and Ousterhout 2014, 5.3; Ongaro 2014, 10.2. Any message may be lost, late, doubled or out of order:
 * match only grows, and a heartbeat reply that shows a gap brings a peer back to PROBE. Keeps R2, R3. */
#include "consensus/raft.h"

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void raft_append_own(struct consensus *c, enum entry_type type, slice_t payload)
{
    syn_assert(c->role == ROLE_LEADER);
    raft_log_append(&c->log, c->term, type, payload);
    if (type == ENTRY_CONFIG) {
        raft_config_append(c, raft_log_last(&c->log), payload);
    }
}

static void inflight_clear(struct raft_peer *p)
{
    p->inflight_head = p->inflight_count = 0;
}

static void inflight_push(const struct consensus *c, struct raft_peer *p, uint64_t last)
{
    syn_assert(p->inflight_count < c->o.inflight_msgs_max);
    uint32_t at = p->inflight_head + p->inflight_count++;
    p->inflight[at < c->o.inflight_msgs_max ? at : at - c->o.inflight_msgs_max] = last;
}

static void inflight_acked(const struct consensus *c, struct raft_peer *p, uint64_t match)
{
    while (p->inflight_count > 0 && p->inflight[p->inflight_head] <= match) {
        p->inflight_head = p->inflight_head + 1 < c->o.inflight_msgs_max ? p->inflight_head + 1 : 0;
        p->inflight_count--;
    }
}

/* Nothing is known of the peer: at the start of a term, and when it joins. */
void raft_peer_reset(struct consensus *c, struct raft_peer *p)
{
    p->state = PEER_PROBE;
    p->match = 0;
    p->next = raft_log_last(&c->log) + 1;
    p->probe_no++;
    p->paused = p->amnesiac = p->heartbeat_due = p->tell_due = false;
    p->heard_ms = p->acked_ms = c->now_ms; /* it has one election timeout to answer before CheckQuorum counts it out */
    p->commit_told = p->commit_known = p->read_round = 0;
    p->snap_index = 0;
    p->chunk_asked = p->chunk_ready = false;
    inflight_clear(p);
}

void raft_peer_probe(struct consensus *c, struct raft_peer *p)
{
    p->state = PEER_PROBE;
    p->next = p->match + 1;
    p->paused = false;
    p->probe_no++;
    p->acked_ms = c->now_ms;
    inflight_clear(p);
}

static void replicate(struct raft_peer *p)
{
    p->state = PEER_REPLICATE;
    p->next = p->match + 1;
    p->paused = false;
    p->chunk_asked = p->chunk_ready = false;
    inflight_clear(p);
}

/* The peer has everything up to match, durably. May commit, and so may end this leadership. recount: the match did not
 * grow but counts from now on. */
void raft_peer_matched(struct consensus *c, struct raft_peer *p, uint64_t match, bool recount)
{
    if (match > raft_log_last(&c->log)) {
        return; /* nobody can have more of our log than we do */
    }
    bool grew = match > p->match;
    if (grew) {
        p->match = match;
        p->acked_ms = c->now_ms;
        inflight_acked(c, p, match);
    }
    if (p->state == PEER_PROBE || (p->state == PEER_SNAPSHOT && p->match >= c->log.prev_index)) {
        replicate(p);
    } else if (p->state == PEER_SNAPSHOT && p->snap_index != 0 && p->match >= p->snap_index) {
        raft_peer_snapshot(c, p); /* it has that one, but the log has moved on: the next one */
    }
    p->next = p->next > p->match ? p->next : p->match + 1;
    if (grew || recount) {
        raft_transfer_try(c);
        raft_leader_commit(c);
    }
}

/* True when the peer counts from now on: it has told that it may vote again. */
static bool heard(struct consensus *c, struct raft_peer *p, const struct consensus_msg *m)
{
    p->active = true;
    p->heard_ms = c->now_ms;
    if (m->quiesce && !p->amnesiac) { /* it lost its disk and what it had acknowledged (P8) */
        p->match = 0;
        raft_peer_probe(c, p);
        p->next = raft_log_last(&c->log) + 1;
    }
    bool recovered = p->amnesiac && !m->quiesce;
    p->amnesiac = m->quiesce;
    return recovered;
}

/* "the leader decrements nextIndex and retries" (5.3), by whole terms: the peer named its newest entry that could still
 * agree, and ours of at most that term is the next candidate. */
static void back_off(struct consensus *c, struct raft_peer *p, const struct consensus_msg *m)
{
    uint64_t agree = raft_log_floor(&c->log, min64(m->hint, m->index), m->log_term);
    uint64_t next = min64(agree + 1, m->index);
    p->match = m->quiesce ? 0 : p->match; /* it counts for nothing, and may have lost its disk once more */
    raft_peer_probe(c, p);
    p->next = next > p->match ? next : p->match + 1;
}

static bool ignore_reject(const struct raft_peer *p, const struct consensus_msg *m)
{
    return p->state == PEER_SNAPSHOT || m->ctx != p->probe_no || (m->index <= p->match && !m->quiesce) || m->index >= p->next;
}

void raft_on_append_reply(struct consensus *c, const struct consensus_msg *m)
{
    struct raft_peer *p = raft_peer(c, m->from);
    if (c->role != ROLE_LEADER || p == NULL) {
        return;
    }
    bool recovered = heard(c, p, m);
    if (!m->reject) {
        raft_peer_matched(c, p, m->index, recovered);
    } else if (!ignore_reject(p, m)) {
        back_off(c, p, m);
    }
}

void raft_on_heartbeat_reply(struct consensus *c, const struct consensus_msg *m)
{
    struct raft_peer *p = raft_peer(c, m->from);
    if (c->role != ROLE_LEADER || p == NULL || m->reject) {
        return;
    }
    bool recovered = heard(c, p, m);
    p->read_round = m->ctx > p->read_round && m->ctx <= c->read_round ? m->ctx : p->read_round;
    p->commit_known = m->commit;
    if (m->index > p->match || recovered) {
        raft_peer_matched(c, p, m->index, recovered); /* an acknowledgement got lost */
        if (c->role != ROLE_LEADER) {
            return;
        }
    }
    bool overdue = c->now_ms >= p->acked_ms + (uint64_t)RAFT_RESEND_BEATS * c->o.heartbeat_ms;
    if (p->state == PEER_PROBE) {
        p->paused = false;
    } else if (p->state == PEER_REPLICATE && m->hint + 1 < p->next && overdue) {
        raft_peer_probe(c, p); /* what was sent did not arrive, or the peer restarted and forgot what it had verified */
    } else if (p->state == PEER_SNAPSHOT) {
        raft_snapshot_beat(c, p);
    }
}

static void beat(struct consensus *c)
{
    bool sleeping = raft_try_quiesce(c);
    if (!sleeping) {
        raft_transfer_try(c);
    }
    for (uint32_t i = 0; i < c->n_peers; i++) {
        c->peers[i].heartbeat_due = true;
    }
    c->heartbeat_at_ms = (c->now_ms / c->o.heartbeat_ms + 1) * c->o.heartbeat_ms;
}

void raft_leader_tick(struct consensus *c)
{
    if (raft_lost_quorum(c)) {
        raft_become_follower(c, c->term, 0); /* CheckQuorum: nobody may wait for a leader that cannot commit (6.2) */
        return;
    }
    raft_transfer_tick(c);
    if (c->now_ms >= c->tell_at_ms) {
        c->tell_at_ms = UINT64_MAX;
        for (uint32_t i = 0; i < c->n_peers; i++) {
            c->peers[i].tell_due = c->peers[i].commit_told < c->commit;
        }
    }
    if (c->now_ms >= c->heartbeat_at_ms) {
        beat(c);
    }
}

void consensus_tell(struct consensus *c, node_id_t peer)
{
    struct raft_peer *p = raft_peer(c, peer);
    if (c->role == ROLE_LEADER && p != NULL) {
        p->tell_due = p->commit_told < c->commit;
    }
}

static bool is_window_open(const struct consensus *c, const struct raft_peer *p)
{
    return p->inflight_count < c->o.inflight_msgs_max &&
           raft_log_bytes(&c->log, p->match, p->next - 1) < c->o.inflight_bytes_max;
}

/* quiesce in an append asks for no answer when it fits: it only brings the commit index. */
static void make_append(struct consensus *c, struct raft_peer *p, struct consensus_msg *out, uint64_t bytes_max)
{
    out->type = MSG_APPEND;
    out->to = p->id;
    out->index = p->next - 1;
    out->log_term = raft_log_term(&c->log, out->index);
    out->commit = c->commit;
    out->ctx = p->probe_no;
    out->n_entries = raft_log_run(&c->log, p->next, bytes_max, &out->data);
    p->commit_told = min64(c->commit, out->index + out->n_entries);
    p->tell_due = false;
}

static bool take_append(struct consensus *c, struct raft_peer *p, struct consensus_msg *out)
{
    if (p->state == PEER_SNAPSHOT) {
        return false;
    }
    if (p->next <= c->log.prev_index) {
        raft_peer_snapshot(c, p);
        return false;
    }
    if (p->state == PEER_PROBE) {
        if (p->paused) {
            return false;
        }
        make_append(c, p, out, min64(c->o.append_bytes_max, RAFT_PROBE_BYTES_MAX));
        p->paused = true;
        return true;
    }
    if (p->next <= raft_log_last(&c->log) && is_window_open(c, p)) {
        if (p->inflight_count == 0) {
            p->acked_ms = c->now_ms;
        }
        make_append(c, p, out, c->o.append_bytes_max);
        p->next += out->n_entries;
        inflight_push(c, p, p->next - 1);
        return true;
    }
    if (p->tell_due && p->next > raft_log_last(&c->log)) {
        make_append(c, p, out, 0);
        out->quiesce = true;
        return true;
    }
    return false;
}

/* The next message for one peer. A heartbeat comes after appends, so that its reply speaks for them too. */
bool raft_take_peer_msg(struct consensus *c, struct raft_peer *p, struct consensus_msg *out)
{
    if (take_append(c, p, out) || raft_take_chunk(c, p, out)) {
        return true;
    }
    if (!p->heartbeat_due) {
        return false;
    }
    p->heartbeat_due = false;
    c->round_open = false;
    out->type = MSG_HEARTBEAT;
    out->to = p->id;
    out->commit = min64(c->commit, p->match);
    out->ctx = c->read_round;
    out->quiesce = c->quiesced;
    return true;
}
