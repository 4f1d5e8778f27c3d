/* Who leads: PreVote, votes, and every change of role.
 *
 * Not responsible for what a leader does afterwards (raft_replication.c) nor for handing over (raft_transfer.c).
 * Source: Ongaro and Ousterhout 2014, 5.2 and 5.4.1; Ongaro 2014, 4.2.3 (disruptive servers), 9.6 (PreVote).
 * Keeps R1 (one leader a term), R2, R7 (one vote a term, for ever), R4 (a candidate's log must be as new as the voter's).
 * Granting a pre-vote changes nothing: no term, no vote, no timer, no contact (S8). */
#include "consensus/raft.h"

/* Who may stand: a voter that remembers what it voted. */
bool raft_electable(const struct consensus *c)
{
    return c->may_vote && raft_config_stands(c);
}

void raft_arm_election(struct consensus *c)
{
    c->election_ms = prng_range(&c->prng, c->o.election_ms_min, c->o.election_ms_max);
    c->election_at_ms = c->now_ms + c->election_ms;
}

static bool is_majority(const struct consensus *c, uint32_t n)
{
    return n >= c->n_voters / 2 + 1;
}

static uint32_t count_votes(const struct consensus *c, enum raft_answer answer)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_peers; i++) {
        n += (c->peers[i].voter || MUTANT("S5")) && c->peers[i].vote == answer;
    }
    return n;
}

static void ask_all(struct consensus *c)
{
    struct consensus_msg m = {.term = c->term, .index = raft_log_last(&c->log), .log_term = raft_log_last_term(&c->log)};
    bool pre = c->role == ROLE_PRE_CANDIDATE;
    m.type = pre ? MSG_PRE_VOTE : MSG_VOTE;
    m.term += pre;
    m.ctx = pre ? c->elections : c->campaign_transfer ? RAFT_VOTE_TRANSFER : 0;
    for (uint32_t i = 0; i < c->n_peers; i++) {
        const struct raft_peer *p = &c->peers[i];
        bool answered = p->vote == ANSWER_YES || (p->vote == ANSWER_NO && !pre); /* who still hears the leader may stop */
        if (!p->voter || answered) {
            continue;
        }
        m.to = p->id;
        if (pre) {
            raft_push_free(c, m);
        } else {
            raft_push(c, m);
        }
    }
    c->resend_at_ms = c->now_ms + c->o.heartbeat_ms;
}

static void start_campaign(struct consensus *c, enum consensus_role role)
{
    syn_assert(raft_electable(c) && c->role != ROLE_LEADER);
    c->role = role;
    c->leader = 0;
    c->quiesced = false;
    for (uint32_t i = 0; i < c->n_peers; i++) {
        c->peers[i].vote = ANSWER_NONE;
    }
    raft_arm_election(c);
}

static void become_pre_candidate(struct consensus *c)
{
    start_campaign(c, ROLE_PRE_CANDIDATE);
    c->elections++; /* numbers the attempt: answers to an earlier one do not count */
    ask_all(c);
}

void raft_become_candidate(struct consensus *c, bool transfer)
{
    if (c->role != ROLE_PRE_CANDIDATE) {
        c->elections++;
    }
    start_campaign(c, ROLE_CANDIDATE);
    c->term++;
    c->vote = c->o.self;
    c->hard_dirty = true;
    c->verified = c->commit;
    c->ack_due = false;
    c->campaign_transfer = transfer;
    ask_all(c);
}

void raft_campaign(struct consensus *c)
{
    if (raft_is_single(c) || MUTANT("S7")) {
        raft_become_candidate(c, false);
    } else {
        become_pre_candidate(c);
    }
}

static void become_leader(struct consensus *c)
{
    syn_assert(c->role == ROLE_CANDIDATE && c->vote == c->o.self && raft_hard_durable(c));
    c->role = ROLE_LEADER;
    c->leader = c->o.self;
    c->send_cursor = 0;
    c->heartbeat_at_ms = (c->now_ms / c->o.heartbeat_ms + 1) * c->o.heartbeat_ms;
    c->tell_at_ms = UINT64_MAX;
    raft_reads_drop(c);
    raft_transfer_clear(c);
    for (uint32_t i = 0; i < c->n_peers; i++) {
        raft_peer_reset(c, &c->peers[i]);
    }
    c->term_start = raft_log_last(&c->log) + 1;
    raft_append_own(c, ENTRY_NOOP, SLICE_NONE);
}

static void leave_leader(struct consensus *c)
{
    syn_assert(c->role == ROLE_LEADER);
    raft_reads_drop(c);
    raft_transfer_clear(c);
    c->tell_at_ms = UINT64_MAX;
    for (uint32_t i = 0; i < c->n_peers; i++) {
        raft_peer_reset(c, &c->peers[i]);
    }
}

/* From every role: a newer term, the leader of this term, lost votes, or a leader that lost its majority. */
void raft_become_follower(struct consensus *c, uint64_t term, node_id_t leader)
{
    syn_assert(term >= c->term && leader != c->o.self);
    if (c->role == ROLE_LEADER) {
        leave_leader(c);
    }
    bool was_follower = c->role == ROLE_FOLLOWER || c->role == ROLE_LEARNER;
    if (term > c->term) {
        c->term = term;
        c->vote = 0;
        c->hard_dirty = true;
        c->verified = c->commit;
        c->ack_due = false;
        c->ack_sent = 0;
    }
    c->role = c->self_voter ? ROLE_FOLLOWER : ROLE_LEARNER;
    c->leader = leader;
    c->quiesced = false;
    if (!was_follower) {
        raft_arm_election(c);
    }
}

void raft_heard_leader(struct consensus *c, node_id_t leader)
{
    syn_assert(c->role != ROLE_LEADER);
    if (c->leader != leader || (c->role != ROLE_FOLLOWER && c->role != ROLE_LEARNER)) {
        raft_become_follower(c, c->term, leader);
        c->ack_sent = 0;
    }
    c->heard_ms = c->now_ms;
    c->election_at_ms = c->now_ms + c->election_ms;
}

/* "If a server receives a RequestVote request within the minimum election timeout of hearing from a current leader, it
 * does not update its term or grant its vote" (4.2.3). The leader itself may ask: then it no longer leads (S8). */
bool raft_sticky(const struct consensus *c, node_id_t candidate)
{
    if (MUTANT("S7")) {
        return false;
    }
    if (c->role == ROLE_LEADER) {
        return true;
    }
    bool led = c->leader != 0 || MUTANT("S8");
    return led && c->leader != candidate && c->now_ms < c->heard_ms + c->o.election_ms_min;
}

/* CheckQuorum: the latest moment at which a majority was still with us. */
static uint64_t peer_heard(const struct raft_peer *p)
{
    return p->heard_ms;
}

void raft_election_tick(struct consensus *c)
{
    if (!raft_electable(c)) {
        return;
    }
    if (c->now_ms >= c->election_at_ms) {
        raft_campaign(c);
    } else if ((c->role == ROLE_PRE_CANDIDATE || c->role == ROLE_CANDIDATE) && c->now_ms >= c->resend_at_ms) {
        ask_all(c); /* a request or its answer may have been lost (S19) */
    }
}

bool raft_lost_quorum(const struct consensus *c)
{
    return c->now_ms > raft_quorum(c, c->now_ms, peer_heard) + c->o.election_ms_max;
}

static bool is_log_new_enough(const struct consensus *c, const struct consensus_msg *m)
{
    uint64_t last_term = raft_log_last_term(&c->log);
    return m->log_term > last_term || (m->log_term == last_term && m->index >= raft_log_last(&c->log));
}

void raft_on_pre_vote(struct consensus *c, const struct consensus_msg *m)
{
    if (!c->may_vote) {
        return;
    }
    bool grant = m->term > c->term && is_log_new_enough(c, m) && !raft_sticky(c, m->from);
    struct consensus_msg r = {.type = MSG_PRE_VOTE_REPLY, .to = m->from, .ctx = m->ctx, .reject = !grant};
    r.term = grant ? m->term : c->term;
    if (grant) {
        if (MUTANT("S8")) {
            c->heard_ms = c->now_ms;
        }
        raft_push_free(c, r);
    } else if (c->term > 0) {
        raft_push(c, r);
    }
}

static void tally(struct consensus *c)
{
    bool ready = c->role == ROLE_PRE_CANDIDATE || raft_hard_durable(c);
    if (ready && is_majority(c, count_votes(c, ANSWER_YES) + c->self_voter)) {
        if (c->role == ROLE_PRE_CANDIDATE) {
            raft_become_candidate(c, false);
        } else {
            become_leader(c);
        }
    } else if (count_votes(c, ANSWER_NO) + c->n_voters / 2 + 1 > c->n_voters) {
        raft_become_follower(c, c->term, 0);
    }
}

void raft_on_pre_vote_reply(struct consensus *c, const struct consensus_msg *m)
{
    struct raft_peer *p = raft_peer(c, m->from);
    bool mine = m->ctx == c->elections && (m->reject || m->term == c->term + 1);
    if (c->role == ROLE_PRE_CANDIDATE && p != NULL && mine) {
        p->vote = m->reject ? ANSWER_NO : ANSWER_YES;
        tally(c);
    }
}

void raft_on_vote(struct consensus *c, const struct consensus_msg *m)
{
    if (!c->may_vote) {
        return;
    }
    /* "If votedFor is null or candidateId, and candidate's log is at least as up-to-date" (5.2, 5.4.1). Asked again by
     * the candidate it voted for, a voter says yes again: the first answer may have been lost (S19). */
    bool again = c->vote == m->from && !MUTANT("S19");
    bool grant = again || (c->vote == 0 && c->leader == 0 && is_log_new_enough(c, m));
    if (grant && !again) {
        syn_assert(c->role == ROLE_FOLLOWER || c->role == ROLE_LEARNER || c->role == ROLE_PRE_CANDIDATE);
        c->vote = m->from;
        c->hard_dirty = true;
        raft_become_follower(c, c->term, 0);
        raft_arm_election(c);
    }
    raft_push(c, (struct consensus_msg){.type = MSG_VOTE_REPLY, .to = m->from, .term = c->term, .ctx = m->term,
                                        .reject = !grant});
}

void raft_on_vote_reply(struct consensus *c, const struct consensus_msg *m)
{
    struct raft_peer *p = raft_peer(c, m->from);
    if (c->role == ROLE_CANDIDATE && p != NULL && m->ctx == c->term) { /* else it answers an earlier campaign */
        p->vote = m->reject ? ANSWER_NO : ANSWER_YES;
        tally(c);
    }
}

/* The candidate's vote for itself counts once it is durable; until then its requests were held too. */
void raft_election_persisted(struct consensus *c)
{
    if (c->role == ROLE_CANDIDATE && raft_hard_durable(c)) {
        tally(c);
    }
}
