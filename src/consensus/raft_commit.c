/* The commit index: how a leader finds it, how it moves, and the committed entries going out in order.
 *
 * Not responsible for applying: the node does that with what consensus_take_committed hands out.
 * Source: Ongaro and Ousterhout 2014, 5.3 and 5.4.2. Keeps R8 (never falls) and R9 (only entries of the current term
 * are committed by counting), S3 (a leader counts itself only for what is durable here). */
#include "consensus/raft.h"

static uint64_t peer_match(const struct raft_peer *p)
{
    return p->match;
}

bool raft_ready(const struct consensus *c)
{
    return c->role == ROLE_LEADER && c->commit >= c->term_start;
}

void raft_commit_to(struct consensus *c, uint64_t index)
{
    syn_assert(index <= raft_log_last(&c->log));
    if (index <= c->commit && !MUTANT("R8")) {
        return;
    }
    uint64_t old = c->commit;
    c->commit = index;
    if (c->role == ROLE_LEADER) {
        if (c->tell_at_ms == UINT64_MAX) {
            c->tell_at_ms = c->now_ms + RAFT_COMMIT_TELL_MS;
        }
        raft_config_committed(c, old);
    }
}

void raft_leader_commit(struct consensus *c)
{
    syn_assert(c->role == ROLE_LEADER);
    uint64_t own = MUTANT("S3") ? raft_log_last(&c->log) : c->durable;
    uint64_t index = raft_quorum(c, own, peer_match);
    /* "Only log entries from the leader's current term are committed by counting replicas" (5.4.2). */
    if (index > c->commit && (raft_log_term(&c->log, index) == c->term || MUTANT("S13"))) {
        raft_commit_to(c, index);
    }
}

bool consensus_take_committed(struct consensus *c, struct entry *out)
{
    if (c->applied >= c->commit || c->install.restoring) {
        return false;
    }
    bool found = raft_log_entry(&c->log, c->applied + 1, out);
    syn_assert(found);
    c->applied++;
    if (out->type == ENTRY_CONFIG) {
        raft_config_applied_to(c, c->applied);
    }
    return true;
}
