/* The follower's side of replication: appends, heartbeats, and the acknowledgement it owes.
 *
 * There is one acknowledgement per turn whatever came in, and it never says more than is durable here; it is made when
 * taken, from `verified` (this term's leader showed that the logs are equal so far) and `durable`.
 * Source: Ongaro and Ousterhout 2014, 5.3. Keeps R3, R6, R8: the commit index follows only what this message verified
 * (S14); entries at or below it are never compared, cut or replaced (S18). */
#include "consensus/raft.h"

static void reject_append(struct consensus *c, const struct consensus_msg *m)
{
    uint64_t hint = raft_log_floor(&c->log, m->index, m->log_term);
    hint = hint > c->commit ? hint : c->commit; /* at or below it we agree anyway */
    raft_push(c, (struct consensus_msg){.type = MSG_APPEND_REPLY, .to = m->from, .term = c->term, .reject = true,
                                        .index = m->index, .hint = hint, .log_term = raft_log_term(&c->log, hint),
                                        .ctx = m->ctx, .quiesce = !c->may_vote});
}

static void append_entry(struct consensus *c, const struct entry *e)
{
    slice_t encoded = slice_of(e->payload.ptr - ENTRY_HEADER_BYTES, e->payload.len + ENTRY_HEADER_BYTES);
    raft_log_append_encoded(&c->log, e->term, encoded);
    if (e->type == ENTRY_CONFIG) {
        raft_config_append(c, raft_log_last(&c->log), e->payload);
    }
}

/* "If an existing entry conflicts with a new one (same index but different terms), delete the existing entry and all that
 * follow it; append any new entries not already in the log" (figure 2). False: the sender contradicts itself. */
static bool append_entries(struct consensus *c, const struct consensus_msg *m)
{
    struct reader r = reader_of(m->data);
    struct entry e;
    uint64_t index = m->index;
    while (entry_decode(&r, &e)) {
        index++;
        if (index <= c->commit) {
            continue;
        }
        if (index <= raft_log_last(&c->log)) {
            if (raft_log_term(&c->log, index) == e.term) {
                continue;
            }
            if (index <= c->verified) {
                return false;
            }
            raft_cut(c, index);
        }
        if (e.term < raft_log_last_term(&c->log)) {
            return false;
        }
        append_entry(c, &e);
    }
    return true;
}

void raft_on_append(struct consensus *c, const struct consensus_msg *m)
{
    uint64_t end = m->index + m->n_entries;
    bool fits = m->index <= c->commit || (m->index <= raft_log_last(&c->log) && raft_log_term(&c->log, m->index) == m->log_term);
    if (!fits) {
        reject_append(c, m);
        return;
    }
    if (end > c->commit && !append_entries(c, m)) {
        return;
    }
    uint64_t checked = end > c->commit ? end : c->commit;
    c->verified = checked > c->verified ? checked : c->verified;
    uint64_t upto = MUTANT("S14") ? raft_log_last(&c->log) : checked;
    if (MUTANT("R8")) {
        upto = end < raft_log_last(&c->log) ? end : raft_log_last(&c->log);
    }
    raft_commit_to(c, m->commit < upto ? m->commit : upto);
    if (!m->quiesce) {
        if (!c->ack_due && m->index > c->ack_sent) {
            c->ack_sent = m->index; /* a part worth reporting is one beyond what the leader took for granted */
        }
        c->ack_due = true;
        c->ack_ctx = m->ctx;
    }
}

static uint64_t acknowledged(const struct consensus *c)
{
    uint64_t durable = MUTANT("R6a") ? raft_log_last(&c->log) : c->durable;
    return c->verified < durable ? c->verified : durable;
}

bool raft_take_ack(struct consensus *c, struct consensus_msg *out)
{
    if (c->leader == 0 || !raft_hard_durable(c)) {
        return false;
    }
    uint64_t match = acknowledged(c);
    bool whole = match == c->verified;
    if (!c->ack_due || (!whole && match <= c->ack_sent)) {
        return false;
    }
    *out = (struct consensus_msg){.type = MSG_APPEND_REPLY, .group = c->o.group, .from = c->o.self, .to = c->leader,
                                  .term = c->term, .index = match, .ctx = c->ack_ctx, .quiesce = !c->may_vote};
    c->ack_sent = match;
    c->ack_due = !whole;
    return true;
}

/* Fields of the reply: how far we acknowledge (heals a lost acknowledgement), how far we have verified (shows the leader
 * that an append was lost, or that we restarted), and our commit index (the leader may let the group sleep). */
void raft_on_heartbeat(struct consensus *c, const struct consensus_msg *m)
{
    raft_commit_to(c, m->commit < c->verified ? m->commit : c->verified);
    raft_sleep(c, m);
    raft_push(c, (struct consensus_msg){.type = MSG_HEARTBEAT_REPLY, .to = m->from, .term = c->term, .ctx = m->ctx,
                                        .index = acknowledged(c), .hint = c->verified, .commit = c->commit,
                                        .quiesce = !c->may_vote});
}
