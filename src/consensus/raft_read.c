/* Linearizable reads without a log entry (ReadIndex, Ongaro 2014, 6.4).
 *
 * A read notes the commit index and waits until a majority of voters has answered a heartbeat of a round that was
 * numbered after the read came. Rounds are numbered here, never by the caller, and every read of a turn shares one (S1).
 * Not responsible for waiting until the state machine has applied the index. Keeps R11, S2. */
#include "consensus/raft.h"

static uint64_t peer_round(const struct raft_peer *p)
{
    return p->read_round;
}

bool consensus_read(struct consensus *c, uint64_t ctx, uint64_t now_ms)
{
    raft_time(c, now_ms);
    if (c->role != ROLE_LEADER || (!raft_ready(c) && !MUTANT("S2"))) {
        return false;
    }
    raft_wake(c);
    if (!c->round_open && !(MUTANT("S1") && c->read_round > 0)) {
        c->round_open = true;
        c->read_round++;
        for (uint32_t i = 0; i < c->n_peers; i++) {
            c->peers[i].heartbeat_due |= c->peers[i].voter;
        }
    }
    struct raft_read *r = raft_ring_push(&c->reads);
    *r = (struct raft_read){.ctx = ctx, .index = c->commit, .round = c->read_round};
    return true;
}

bool consensus_take_read(struct consensus *c, uint64_t *ctx, uint64_t *index)
{
    if (c->reads.count == 0) {
        return false;
    }
    syn_assert(c->role == ROLE_LEADER);
    const struct raft_read *r = raft_ring_at(&c->reads, 0);
    if (r->round > raft_quorum(c, c->read_round, peer_round)) {
        return false;
    }
    *ctx = r->ctx;
    *index = r->index;
    raft_ring_pop(&c->reads);
    return true;
}

void raft_reads_drop(struct consensus *c)
{
    while (c->reads.count > 0) {
        raft_ring_pop(&c->reads);
    }
    c->round_open = false;
}
