/* consensus_check: every invariant of one replica that holds between steps (docs/raft.md, "Invariants").
 *
 * What needs more than one replica to see (R1, R3-R5, R11, R13, R16) is checked by the tests and the simulator. */
#include "consensus/raft.h"

static void check_indexes(const struct consensus *c)
{
    uint64_t last = raft_log_last(&c->log);
    syn_assert(c->applied <= c->commit && c->commit <= last); /* R8 */
    syn_assert(c->log.prev_index <= c->snap_index && c->snap_index <= c->applied); /* R13: no gap after the snapshot */
    syn_assert(c->verified <= last);
    syn_assert(c->durable <= last && c->durable < c->unstable && c->durable >= c->snap_index);
    syn_assert(c->unstable <= last + 1 && c->unstable > c->log.prev_index);
    syn_assert(c->persisted_no <= c->taken_no && c->hard_no <= c->taken_no);
    syn_assert(raft_log_last_term(&c->log) <= c->term || last == c->snap_index);
}

static void check_writes(const struct consensus *c)
{
    uint64_t no = c->persisted_no;
    for (uint32_t i = 0; i < c->writes.count; i++) {
        const struct raft_write *w = raft_ring_at(&c->writes, i);
        syn_assert(w->no > no && w->no <= c->taken_no);
        syn_assert(w->last <= raft_log_last(&c->log)); /* S17: never more than the log it was cut to */
        no = w->no;
    }
    uint64_t need = 0;
    for (uint32_t i = 0; i < c->held.count; i++) {
        const struct raft_held *h = raft_ring_at(&c->held, i);
        syn_assert(h->msg.from == c->o.self && h->msg.to != c->o.self && h->need <= c->taken_no + 1);
        syn_assert(h->need == 0 || h->need >= need);
        need = h->need > need ? h->need : need;
    }
}

static void check_role(const struct consensus *c)
{
    syn_assert(c->role != ROLE_FOLLOWER || c->self_voter);
    syn_assert(c->role != ROLE_LEARNER || !c->self_voter);
    syn_assert((c->role == ROLE_LEADER) == (c->leader == c->o.self));
    if (c->role == ROLE_CANDIDATE || c->role == ROLE_LEADER) {
        syn_assert(c->vote == c->o.self && c->may_vote && c->term > 0);
    }
    if (c->role == ROLE_PRE_CANDIDATE || c->role == ROLE_CANDIDATE) {
        syn_assert(c->leader == 0 && !c->quiesced);
    }
    if (c->role != ROLE_LEADER) {
        syn_assert(c->transfer_to == 0 && c->reads.count == 0 && c->tell_at_ms == UINT64_MAX);
        syn_assert(!c->quiesced || c->leader != 0);
        return;
    }
    syn_assert(raft_hard_durable(c)); /* its votes were asked for with a durable term */
    syn_assert(!c->install.pending || c->install.index > 0);
}

static void check_peers(const struct consensus *c)
{
    bool target = c->transfer_to == 0;
    for (uint32_t i = 0; i < c->n_peers; i++) {
        const struct raft_peer *p = &c->peers[i];
        target |= p->id == c->transfer_to;
        syn_assert(p->id != 0 && p->id != c->o.self && p->inflight_count <= c->o.inflight_msgs_max);
        if (c->role != ROLE_LEADER) {
            continue;
        }
        syn_assert(p->match < p->next && p->next <= raft_log_last(&c->log) + 1);
        syn_assert(p->commit_told <= c->commit && p->read_round <= c->read_round);
        syn_assert(p->state == PEER_REPLICATE || p->inflight_count == 0);
        syn_assert(!p->chunk_ready || (p->state == PEER_SNAPSHOT && p->chunk_asked));
        syn_assert(!c->quiesced || (p->match == c->commit && p->state == PEER_REPLICATE));
    }
    syn_assert(target); /* S9: never to somebody who left */
    for (uint32_t i = 1; i < c->reads.count; i++) {
        const struct raft_read *a = raft_ring_at(&c->reads, i - 1), *b = raft_ring_at(&c->reads, i);
        syn_assert(a->round <= b->round && b->round <= c->read_round && a->index <= b->index && b->index <= c->commit);
    }
}

static void check_install(const struct consensus *c)
{
    const struct raft_install *in = &c->install;
    syn_assert(in->index != 0 || (!in->pending && !in->restoring && in->received == 0));
    syn_assert(!in->restoring || (in->pending && in->taken && in->last && c->applied < in->index));
}

void consensus_check(const struct consensus *c)
{
    raft_log_check(&c->log, c->log.count <= 64);
    check_indexes(c);
    check_writes(c);
    check_role(c);
    check_peers(c);
    check_install(c);
    raft_config_check(c);
}
