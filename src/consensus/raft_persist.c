/* What this replica has on disk, and which messages that lets go.
 *
 * Writes are numbered as they are taken. A write in flight remembers the last entry it will have made durable; cutting
 * the log lowers that for every write in flight, so that the completion of an old write never speaks for an entry that
 * replaced the one it carried (S17). Messages that carry this replica's term are held until term and vote are durable.
 * Not responsible for the bytes on disk (storage/). Source: docs/raft.md, "Order of effects". Keeps R6, R7. */
#include "consensus/raft.h"

bool raft_hard_durable(const struct consensus *c)
{
    return !c->hard_dirty && c->persisted_no >= c->hard_no;
}

bool consensus_take_persist(struct consensus *c, struct consensus_persist *out)
{
    if (!c->hard_dirty && c->unstable > raft_log_last(&c->log)) {
        return false;
    }
    *out = (struct consensus_persist){.persist_no = ++c->taken_no, .hard_state = c->hard_dirty, .term = c->term,
                                      .vote = MUTANT("R7") ? 0 : c->vote, .commit = c->commit,
                                      .first_index = c->unstable, .entries = SLICE_NONE};
    if (c->hard_dirty) {
        c->hard_dirty = false;
        c->hard_no = c->taken_no;
    }
    out->n_entries = raft_log_run(&c->log, c->unstable, UINT32_MAX, &out->entries);
    c->unstable += out->n_entries;
    struct raft_write *w = raft_ring_push(&c->writes);
    *w = (struct raft_write){.no = c->taken_no, .last = c->unstable - 1};
    return true;
}

void consensus_persisted(struct consensus *c, uint64_t persist_no)
{
    syn_assert(persist_no <= c->taken_no);
    if (persist_no <= c->persisted_no) {
        return;
    }
    c->persisted_no = persist_no;
    while (c->writes.count > 0) {
        const struct raft_write *w = raft_ring_at(&c->writes, 0);
        if (w->no > persist_no) {
            break;
        }
        c->durable = w->last > c->durable ? w->last : c->durable;
        raft_ring_pop(&c->writes);
    }
    syn_assert(c->durable <= raft_log_last(&c->log));
    raft_election_persisted(c);
    if (c->role == ROLE_LEADER) {
        raft_leader_commit(c);
    }
}

void raft_cut(struct consensus *c, uint64_t from)
{
    syn_assert(from > c->commit);
    syn_assert(c->role != ROLE_LEADER); /* R2 */
    raft_log_cut(&c->log, from);
    if (!MUTANT("S11")) {
        raft_config_cut(c, from);
    }
    c->unstable = c->unstable < from ? c->unstable : from;
    for (uint32_t i = 0; i < c->writes.count && !MUTANT("S17"); i++) {
        struct raft_write *w = raft_ring_at(&c->writes, i);
        w->last = w->last < from ? w->last : from - 1;
    }
    c->durable = c->durable < from ? c->durable : from - 1;
}
