/* The oracles of the test cluster: what no single replica can see (cluster.h). R1 election safety, R3 log matching by a hash
 * chain, R4 leader completeness, R5 state machine safety against one canonical history, R6 and R7 against the durable
 * image, R9 and the counting of commits against every disk. */
#include "cluster_parts.h"

#include "utils/hash.h"

uint64_t chain_hash(uint64_t prev, uint64_t term, enum entry_type type, slice_t payload)
{
    return hash_u64(hash_bytes(prev ^ hash_u64(term * 4 + (uint64_t)type), payload));
}

static void grow_chains(struct cluster *k);

/* R3: whoever has an entry (index, term) has the same log up to it. */
void check_chain(struct cluster *k, uint64_t index, uint64_t term, uint64_t digest)
{
    size_t mask = k->cap_chains - 1, used = 0;
    for (size_t i = hash_u64(index * 1000003 + term) & mask;; i = (i + 1) & mask, used++) {
        struct chain *s = &k->chains[i];
        if (s->index == index && s->term == term) {
            if (s->digest != digest) {
                cluster_fail(k, "R3: logs differ below (%llu, term %llu)", U(index), U(term));
            }
            return;
        }
        if (s->index == 0) {
            *s = (struct chain){index, term, digest};
            if (used > 32) {
                grow_chains(k);
            }
            return;
        }
    }
}

static void grow_chains(struct cluster *k)
{
    struct chain *old = k->chains;
    size_t n = k->cap_chains;
    k->cap_chains *= 2;
    k->chains = must(calloc(k->cap_chains, sizeof *k->chains));
    for (size_t i = 0; i < n; i++) {
        if (old[i].index != 0) {
            check_chain(k, old[i].index, old[i].term, old[i].digest);
        }
    }
    free(old);
}

uint64_t find_chain(const struct cluster *k, uint64_t index, uint64_t term)
{
    size_t mask = k->cap_chains - 1;
    for (size_t i = hash_u64(index * 1000003 + term) & mask; k->chains[i].index != 0; i = (i + 1) & mask) {
        if (k->chains[i].index == index && k->chains[i].term == term) {
            return k->chains[i].digest;
        }
    }
    return 0;
}

static bool is_prevote(const struct consensus_msg *m)
{
    return m->type == MSG_PRE_VOTE || (m->type == MSG_PRE_VOTE_REPLY && !m->reject);
}

static void check_vote(struct cluster *k, node_id_t voter, uint64_t term, node_id_t candidate)
{
    node_id_t *v = &k->nodes[voter].votes[term % TERMS_MAX];
    if (*v != 0 && *v != candidate) {
        cluster_fail(k, "R7: node %u voted for %u and %u in term %llu", voter, *v, candidate, U(term));
    }
    *v = candidate;
}

/* R6, R7: what the message promises must be in the durable image of its sender. */
void check_promise(struct cluster *k, const struct consensus_msg *m)
{
    const struct node *d = &k->nodes[m->from];
    if (is_prevote(m)) {
        return;
    }
    const char *name = msg_type_name(m->type);
    if (d->disk.term < m->term) {
        cluster_fail(k, "R6: node %u sends %s of term %llu, durable is %llu", m->from, name, U(m->term), U(d->disk.term));
    }
    bool current = d->disk.term == m->term;
    if (m->type == MSG_VOTE || (m->type == MSG_VOTE_REPLY && !m->reject)) {
        node_id_t candidate = m->type == MSG_VOTE ? m->from : m->to;
        check_vote(k, m->from, m->term, candidate);
        if (current && d->disk.vote != candidate) {
            cluster_fail(k, "R6: node %u sends %s, its durable vote is %u", m->from, name, d->disk.vote);
        }
    }
    if (m->type == MSG_VOTE_REPLY && m->reject && m->ctx == m->term && current && d->disk.vote == m->to) {
        cluster_fail(k, "S19: node %u refuses %u, for whom it voted in term %llu", m->from, m->to, U(m->term));
    }
    if ((m->type == MSG_APPEND_REPLY || m->type == MSG_HEARTBEAT_REPLY) && !m->reject) {
        uint64_t term = consensus_term_at(d->c, m->index);
        bool there = m->index <= d->disk.snap.index || (disk_term(&d->disk, m->index) != 0 && disk_term(&d->disk, m->index) == term);
        if (!there) {
            cluster_fail(k, "R6: node %u acknowledges %llu, which is not durable there", m->from, U(m->index));
        }
    }
}

static void canon_push(struct cluster *k, uint64_t term, uint64_t digest)
{
    if (k->n_canon + 1 == k->cap_canon) {
        k->cap_canon *= 2;
        k->canon = must(realloc(k->canon, k->cap_canon * sizeof *k->canon));
    }
    k->canon[++k->n_canon] = (struct canon){term, digest};
}

/* A leader's new commit index: of its own term (R9), and durable on a majority of the voters (S3, S5, S17). */
static void check_leader_commit(const struct cluster *k, node_id_t id, const struct consensus_status *st)
{
    const struct consensus_config *config = consensus_config_now(k->nodes[id].c);
    uint64_t term = consensus_term_at(k->nodes[id].c, st->commit);
    if (term != st->term) {
        cluster_fail(k, "R9: leader %u of term %llu commits %llu of term %llu", id, U(st->term), U(st->commit), U(term));
    }
    uint32_t voters = 0, have = 0;
    for (uint32_t i = 0; i < config->count; i++) {
        if (config->members[i].voter) {
            const struct disk *d = &k->nodes[config->members[i].id].disk;
            voters++;
            have += d->snap.index >= st->commit || disk_term(d, st->commit) == term;
        }
    }
    if (have < voters / 2 + 1) {
        cluster_fail(k, "leader %u commits %llu, durable on %u of %u voters", id, U(st->commit), have, voters);
    }
}

void observe_commit(struct cluster *k, node_id_t id, const struct consensus_status *st)
{
    struct node *d = &k->nodes[id];
    if (st->commit < d->commit_seen) {
        cluster_fail(k, "R8: commit of node %u fell from %llu to %llu", id, U(d->commit_seen), U(st->commit));
    }
    bool grew = st->commit > d->commit_seen;
    d->commit_seen = st->commit;
    if (!grew) {
        return;
    }
    if (st->role == ROLE_LEADER) {
        check_leader_commit(k, id, st);
    }
    for (uint64_t i = k->n_canon + 1; i <= st->commit; i++) {
        struct entry e;
        if (!consensus_entry_at(d->c, i, &e)) {
            cluster_fail(k, "node %u committed %llu first and does not have it", id, U(i));
        }
        canon_push(k, e.term, chain_hash(i > 1 ? k->canon[i - 1].digest : 0, e.term, e.type, e.payload));
    }
    uint64_t term = consensus_term_at(d->c, st->commit);
    if (term != 0 && term != k->canon[st->commit].term) {
        cluster_fail(k, "R5: node %u commits %llu of term %llu, committed was term %llu", id, U(st->commit), U(term),
                     U(k->canon[st->commit].term));
    }
}

void observe_leader(struct cluster *k, node_id_t id, const struct consensus_status *st)
{
    struct node *d = &k->nodes[id];
    if (st->role != ROLE_LEADER || d->leader_term_seen == st->term) {
        return;
    }
    d->leader_term_seen = st->term;
    k->leader_changes++;
    node_id_t *l = &k->leaders[st->term % TERMS_MAX];
    if (*l != 0) {
        cluster_fail(k, "R1: term %llu has leaders %u and %u", U(st->term), *l, id);
    }
    *l = id;
    uint64_t last = k->n_canon;
    bool whole = last == 0 || st->snapshot >= last || consensus_term_at(d->c, last) == k->canon[last].term;
    if (!whole) {
        cluster_fail(k, "R4: leader %u of term %llu lacks committed entry %llu", id, U(st->term), U(last));
    }
}

/* R8, S14: an append moves the commit index at most to the last entry that it verified. */
void check_append_commit(const struct cluster *k, const struct consensus_msg *m)
{
    struct consensus_status st;
    consensus_status(k->nodes[m->to].c, &st);
    uint64_t before = k->nodes[m->to].commit_seen, verified = m->index + m->n_entries;
    if (m->type == MSG_APPEND && st.commit > before && st.commit > verified) {
        cluster_fail(k, "R8: node %u commits %llu by an append that ends at %llu", m->to, U(st.commit), U(verified));
    }
}
