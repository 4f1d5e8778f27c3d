/* Sleep: an idle group costs no messages and no timers (T11).
 *
 * A leader with nothing to do tells its followers with one last heartbeat; those that are exactly as far as it is stop
 * their election timers. Whether the leader's node lives is then watched per node, not per group: whoever learns that it
 * died calls consensus_peer_lost or consensus_wake. Source: docs/raft.md, "Quiescence".
 * Invariant: a quiesced replica has nothing uncommitted, unapplied, unwritten or unanswered. */
#include "consensus/raft.h"

static bool is_settled(const struct consensus *c)
{
    uint64_t last = raft_log_last(&c->log);
    return c->commit == last && c->applied == last && c->durable == last && raft_hard_durable(c) &&
           c->writes.count == 0;
}

bool raft_try_quiesce(struct consensus *c)
{
    syn_assert(c->role == ROLE_LEADER && !c->quiesced);
    if (!c->allow_quiesce || !raft_ready(c) || !is_settled(c) || c->reads.count > 0 || c->transfer_to != 0) {
        return false;
    }
    for (uint32_t i = 0; i < c->n_peers; i++) {
        const struct raft_peer *p = &c->peers[i];
        bool recent = p->active && c->now_ms - p->heard_ms < c->o.election_ms_min;
        if (!recent || p->amnesiac || p->state != PEER_REPLICATE || p->commit_known != c->commit || p->match != c->commit) {
            return false;
        }
    }
    c->quiesced = true;
    return true;
}

/* Followers: the leader's last heartbeat. True when this replica sleeps now. */
static bool accepts(const struct consensus *c, const struct consensus_msg *m)
{
    return m->quiesce && m->term == c->term && m->commit == raft_log_last(&c->log) && is_settled(c) && !c->install.pending &&
           c->may_vote;
}

bool raft_wakes(const struct consensus *c, const struct consensus_msg *m)
{
    if (!c->quiesced) {
        return false;
    }
    if (m->type == MSG_HEARTBEAT) {
        return !accepts(c, m);
    }
    bool content = m->type == MSG_HEARTBEAT_REPLY && m->term == c->term && m->commit == c->commit && m->hint == c->commit;
    return !content;
}

void raft_sleep(struct consensus *c, const struct consensus_msg *m)
{
    if (accepts(c, m) && (c->role == ROLE_FOLLOWER || c->role == ROLE_LEARNER)) {
        c->quiesced = true;
    }
}

void raft_wake(struct consensus *c)
{
    if (!c->quiesced) {
        return;
    }
    c->quiesced = false;
    c->heard_ms = c->now_ms;
    if (c->role != ROLE_LEADER) {
        c->election_at_ms = c->now_ms + c->election_ms;
        return;
    }
    for (uint32_t i = 0; i < c->n_peers; i++) {
        c->peers[i].heard_ms = c->now_ms;
        c->peers[i].heartbeat_due = true;
    }
    c->heartbeat_at_ms = (c->now_ms / c->o.heartbeat_ms + 1) * c->o.heartbeat_ms;
}

void consensus_wake(struct consensus *c, uint64_t now_ms)
{
    raft_time(c, now_ms);
    raft_wake(c);
}

void consensus_allow_quiesce(struct consensus *c, bool allowed, uint64_t now_ms)
{
    raft_time(c, now_ms);
    c->allow_quiesce = allowed;
    if (!allowed && c->role == ROLE_LEADER) {
        raft_wake(c);
    }
}
