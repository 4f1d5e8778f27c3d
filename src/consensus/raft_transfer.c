/* Leadership transfer (Ongaro 2014, 3.10): stop proposals, bring the target level, tell it to stand at once.
 *
 * Not responsible for when to hand over; the node does it at shutdown and on command.
 * Invariant (S9): transfer_to is cleared by every change of role, by the target leaving, and after one election timeout. */
#include "consensus/raft.h"

void raft_transfer_clear(struct consensus *c)
{
    c->transfer_to = 0;
}

/* Tells the target to stand once it has everything; again with every heartbeat, since the message may be lost. */
void raft_transfer_try(struct consensus *c)
{
    struct raft_peer *p = c->transfer_to != 0 ? raft_peer(c, c->transfer_to) : NULL;
    if (p != NULL && p->match == raft_log_last(&c->log)) {
        raft_push(c, (struct consensus_msg){.type = MSG_TIMEOUT_NOW, .to = p->id, .term = c->term});
    }
}

void raft_transfer_tick(struct consensus *c)
{
    if (c->transfer_to != 0 && c->now_ms >= c->transfer_at_ms && !MUTANT("S9")) {
        raft_transfer_clear(c);
    }
}

bool consensus_transfer(struct consensus *c, node_id_t to, uint64_t now_ms)
{
    raft_time(c, now_ms);
    struct raft_peer *p = raft_peer(c, to);
    if (c->role != ROLE_LEADER || c->transfer_to != 0 || p == NULL || !p->voter || p->amnesiac) {
        return false;
    }
    raft_wake(c);
    c->transfer_to = to;
    c->transfer_at_ms = c->now_ms + c->o.election_ms_max;
    raft_transfer_try(c);
    return true;
}

node_id_t consensus_transfer_target(const struct consensus *c)
{
    const struct raft_peer *best = NULL;
    for (uint32_t i = 0; i < c->n_peers && c->role == ROLE_LEADER; i++) {
        const struct raft_peer *p = &c->peers[i];
        bool fit = p->voter && !p->amnesiac && p->active && (c->quiesced || c->now_ms - p->heard_ms <= c->o.election_ms_max);
        if (fit && (best == NULL || p->match > best->match)) {
            best = p;
        }
    }
    return best != NULL ? best->id : 0;
}

/* A leader that is leaving names no successor but lets the best follower stand without waiting for a timeout. */
void raft_transfer_away(struct consensus *c)
{
    node_id_t to = consensus_transfer_target(c);
    if (to != 0) {
        raft_push(c, (struct consensus_msg){.type = MSG_TIMEOUT_NOW, .to = to, .term = c->term});
    }
}

void raft_on_timeout_now(struct consensus *c, const struct consensus_msg *m)
{
    bool following = c->role == ROLE_FOLLOWER || c->role == ROLE_LEARNER;
    if (following && raft_electable(c) && (c->leader == 0 || c->leader == m->from)) {
        raft_become_candidate(c, true);
    }
}
