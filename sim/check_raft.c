/* What Raft and the log promise, checked in every seed at O(1) per event (docs/simulator.md, checker table).
 *
 * A model of each replica's disk is kept from the records that the node hands to its log: `tail` with all of them, `durable` with those
 * whose flush is over. Entries are known by a hash chain H(i) = h(H(i-1), term, type, payload), so that logs are compared without
 * comparing them. One canonical history per group holds what was applied first at each index. */
#include "sim_internal.h"

#include "communication/peer_codec.h"
#include "storage/log_codec.h"
#include "utils/hash.h"

#include <stdio.h>
#include <stdlib.h>

enum { TERMS_MAX = 1 << 20, TURN_CHECK_EVERY = 8, STATE_EVERY = 32 };

void raft_check_init(struct sim *s)
{
    memset(s->canon, 0, sizeof s->canon);
}

void raft_check_fini(struct sim *s)
{
    for (uint32_t g = 0; g < SIM_GROUPS_MAX; g++) {
        free(s->canon[g].entries);
        free(s->canon[g].terms);
        free(s->canon[g].chains);
    }
}

static struct term_facts *term_facts(struct sim *s, uint32_t group, uint64_t term)
{
    struct canon_group *c = &s->canon[group];
    syn_assert(term < TERMS_MAX);
    if (term >= c->terms_cap) {
        uint64_t cap = c->terms_cap ? c->terms_cap * 2 : 64;
        cap = cap > term ? cap : term + 64;
        c->terms = realloc(c->terms, cap * sizeof *c->terms);
        syn_assert(c->terms != NULL);
        memset(c->terms + c->terms_cap, 0, (cap - c->terms_cap) * sizeof *c->terms);
        c->terms_cap = cap;
    }
    return &c->terms[term];
}

/* R3: the chain value of (index, term); 0 when nobody has such an entry. */
static uint64_t *chain_slot(struct canon_group *c, uint64_t index, uint64_t term)
{
    uint64_t key = hash_u64(index ^ hash_u64(term)) | 1;
    uint64_t at = key & (c->chains_cap - 1);
    while (c->chains[at].key != 0 && c->chains[at].key != key) {
        at = (at + 1) & (c->chains_cap - 1);
    }
    if (c->chains[at].key == 0) {
        c->chains[at].key = key;
        c->chains_count++;
    }
    return &c->chains[at].chain;
}

static void chains_grow(struct canon_group *c)
{
    struct hash_slot *old = c->chains;
    uint64_t n = c->chains_cap;
    c->chains_cap = n ? n * 2 : 1024;
    c->chains = calloc(c->chains_cap, sizeof *c->chains);
    syn_assert(c->chains != NULL);
    for (uint64_t i = 0; i < n; i++) {
        if (old[i].key != 0) {
            uint64_t at = old[i].key & (c->chains_cap - 1);
            while (c->chains[at].key != 0) {
                at = (at + 1) & (c->chains_cap - 1);
            }
            c->chains[at] = old[i];
        }
    }
    free(old);
}

static uint64_t *chain_of(struct sim *s, uint32_t group, uint64_t index, uint64_t term)
{
    struct canon_group *c = &s->canon[group];
    if (c->chains_count * 2 >= c->chains_cap) {
        chains_grow(c);
    }
    return chain_slot(c, index, term);
}

static uint64_t model_last(const struct durable_group *d)
{
    uint64_t last = d->first + d->count - 1;
    return d->count > 0 || last > d->snapshot_index ? last : d->snapshot_index;
}

static void model_reset(struct durable_group *d, uint64_t first)
{
    d->first = first;
    d->count = 0;
}

static void model_push(struct durable_group *d, uint64_t term, uint64_t hash)
{
    if (d->count == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 256;
        d->hashes = realloc(d->hashes, d->cap * sizeof *d->hashes);
        d->terms = realloc(d->terms, d->cap * sizeof *d->terms);
        syn_assert(d->hashes != NULL && d->terms != NULL);
    }
    d->hashes[d->count] = hash;
    d->terms[d->count++] = term;
}

static bool model_has(const struct durable_group *d, uint64_t index)
{
    return index >= d->first && index < d->first + d->count;
}

/* H of the entry before the model's first, as far as anybody knows it. */
static uint64_t chain_before(struct sim *s, uint32_t group, const struct durable_group *d, uint64_t index, bool *known)
{
    *known = true;
    if (index == 1) {
        return 0;
    }
    if (model_has(d, index - 1)) {
        return d->hashes[index - 1 - d->first];
    }
    const struct canon_group *c = &s->canon[group];
    if (index - 1 <= c->count) {
        return *chain_of(s, group, index - 1, c->entries[index - 2].term);
    }
    *known = false;
    return 0;
}

/* Takes a run into the model, computing the chain; R3: one (index, term) has one chain. */
static void model_run(struct sim *s, struct sim_node *n, uint32_t group, struct durable_group *d, uint64_t first, slice_t run)
{
    struct reader r = reader_of(run);
    struct entry e;
    bool known;
    uint64_t h = chain_before(s, group, d, first, &known), index = first;
    if (d->count > 0 && first < d->first + d->count && first >= d->first) {
        d->count = first - d->first;
    } else if (d->count == 0 || first != d->first + d->count) {
        model_reset(d, first);
    }
    while (entry_decode(&r, &e)) {
        uint64_t *slot = chain_of(s, group, index, e.term);
        if (known) {
            h = hash_u64(h ^ hash_u64(e.term << 2 ^ e.type));
            h = hash_bytes(h, e.payload) | 1;
        } else {
            h = *slot;
            known = h != 0;
        }
        if (*slot == 0) {
            *slot = h;
        } else if (known && *slot != h) {
            sim_fail(s, "R3 log matching: n%u group %u has another entry at index %llu of term %llu", n->index + 1, group,
                     (unsigned long long)index, (unsigned long long)e.term);
            return;
        }
        model_push(d, e.term, h);
        index++;
    }
}

/* R7: one vote per term, whatever restarts there were. A vote that no disk ever held was not given: nothing spoke of it (R6). */
static void check_vote(struct sim *s, const struct sim_node *n, uint32_t group, uint64_t term, node_id_t vote)
{
    if (vote == 0 || vote == AMNESIAC_VOTE) {
        return;
    }
    node_id_t *was = &term_facts(s, group, term)->votes[n->index];
    if (*was != 0 && *was != vote) {
        sim_fail(s, "R7: n%u group %u votes for %u in term %llu after it voted for %u", n->index + 1, group, vote,
                 (unsigned long long)term, *was);
    }
    *was = vote;
}

/* R7: terms never fall. */
static void model_hard_state(struct sim *s, struct sim_node *n, struct durable_group *d, const struct log_record *rec)
{
    if (rec->term < d->term) {
        sim_fail(s, "R7: n%u group %u writes term %llu after term %llu", n->index + 1, rec->group, (unsigned long long)rec->term,
                 (unsigned long long)d->term);
        return;
    }
    d->term = rec->term;
    d->vote = rec->vote;
    if (d == &n->durable[rec->group]) {
        check_vote(s, n, rec->group, rec->term, rec->vote);
    }
}

static void model_mark(struct durable_group *d, const struct log_record *rec)
{
    if (!rec->installed) {
        return;
    }
    d->snapshot_index = rec->index > d->snapshot_index ? rec->index : d->snapshot_index;
    if (!model_has(d, rec->index) || d->terms[rec->index - d->first] != rec->term) {
        model_reset(d, rec->index + 1);
    }
}

static void model_records(struct sim *s, struct sim_node *n, struct durable_group *models, slice_t records)
{
    struct reader r = reader_of(records);
    struct log_record rec;
    while (!s->failed && log_record_next(&r, s->n_groups, &rec)) {
        struct durable_group *d = &models[rec.group];
        switch (rec.type) {
        case LOG_HARD_STATE: model_hard_state(s, n, d, &rec); break;
        case LOG_ENTRIES: model_run(s, n, rec.group, d, rec.index, rec.run); break;
        case LOG_SNAPSHOT_MARK: model_mark(d, &rec); break;
        default: break;
        }
    }
}

void raft_check_durable(struct sim *s, struct sim_node *n, slice_t records)
{
    model_records(s, n, n->durable, records);
}

/* R2: who leads only adds to its log. */
static void check_append_only(struct sim *s, struct sim_node *n, slice_t records)
{
    struct reader r = reader_of(records);
    struct log_record rec;
    while (log_record_next(&r, s->n_groups, &rec)) {
        const struct consensus *c = rec.type == LOG_ENTRIES ? node_consensus(n->node, rec.group) : NULL;
        struct consensus_status st;
        if (c == NULL) {
            continue;
        }
        consensus_status(c, &st);
        if (st.role == ROLE_LEADER && n->tail[rec.group].count > 0 && rec.index <= model_last(&n->tail[rec.group])) {
            sim_fail(s, "R2 leader append-only: n%u leads group %u and rewrites from index %llu", n->index + 1, rec.group,
                     (unsigned long long)rec.index);
        }
        s->r->entries += rec.n_entries;
        TRACE(s, "n%u group %u log entries from %llu, %u of them", n->index + 1, rec.group, (unsigned long long)rec.index, rec.n_entries);
    }
    if (!r.ok) {
        sim_fail(s, "n%u writes records that do not decode", n->index + 1);
    }
}

void raft_check_records(struct sim *s, struct sim_node *n, slice_t records)
{
    check_append_only(s, n, records);
    model_records(s, n, n->tail, records);
}

void raft_check_forget(struct sim_node *n)
{
    for (uint32_t g = 0; g < SIM_GROUPS_MAX; g++) {
        struct durable_group *both[] = {&n->durable[g], &n->tail[g]};
        for (int i = 0; i < 2; i++) {
            both[i]->term = both[i]->snapshot_index = 0;
            both[i]->vote = 0;
            model_reset(both[i], 1);
        }
    }
}

static void copy_model(struct durable_group *to, const struct durable_group *from)
{
    to->term = from->term;
    to->vote = from->vote;
    to->snapshot_index = from->snapshot_index;
    model_reset(to, from->first);
    for (uint64_t i = 0; i < from->count; i++) {
        model_push(to, from->terms[i], from->hashes[i]);
    }
}

/* W1, W2: everything that was durable is there, unless a later record that was on its way cut it. */
static void check_lost(struct sim *s, struct sim_node *n, uint32_t g, const struct durable_group *was, uint64_t last,
                       const struct durable_group *now)
{
    if (now->term < was->term || (now->term == was->term && was->vote != 0 && now->vote != was->vote && !n->unsynced_at_death)) {
        sim_fail(s, "W1: n%u group %u recovered term %llu vote %u, durable were %llu and %u", n->index + 1, g,
                 (unsigned long long)now->term, now->vote, (unsigned long long)was->term, was->vote);
        return;
    }
    const struct durable_group *tail = &n->tail[g];
    bool kept = was->count > 0 && model_has(tail, last) && tail->hashes[last - tail->first] == was->hashes[last - was->first];
    if (!kept || last <= now->snapshot_index) {
        return;
    }
    if (!model_has(now, last) || now->hashes[last - now->first] != was->hashes[last - was->first]) {
        sim_fail(s, "W1: n%u group %u: entry %llu was durable and is gone or another (recovered up to %llu)%s", n->index + 1, g,
                 (unsigned long long)last, (unsigned long long)model_last(now), n->flips ? ", after a bit flip" : "");
    }
}

void raft_check_recovered(struct sim *s, struct sim_node *n, bool lost_nothing)
{
    (void)lost_nothing;
    for (uint32_t g = 0; g < s->n_groups && !s->failed; g++) {
        const struct store_group *sg = &n->recovered.groups[g];
        struct durable_group now = {.first = sg->first_index ? sg->first_index : 1, .term = sg->term, .vote = sg->vote,
                                    .snapshot_index = sg->snapshot_index};
        if (sg->n_entries > 0) {
            model_run(s, n, g, &now, sg->first_index, buf_slice(&sg->run));
        }
        struct durable_group *was = &n->durable[g];
        if (was->first == 0) {
            was->first = n->tail[g].first = 1;
        }
        check_lost(s, n, g, was, was->first + was->count - 1, &now);
        check_vote(s, n, g, now.term, now.vote);
        copy_model(&n->durable[g], &now);
        copy_model(&n->tail[g], &now);
        free(now.hashes);
        free(now.terms);
    }
}

/* R13: a snapshot is the state that everybody had at its index. */
void raft_check_restored(struct sim *s, struct sim_node *n, uint32_t group)
{
    const struct canon_group *c = &s->canon[group];
    uint64_t index = n->last_now_ms > 0 && node_consensus(n->node, group) != NULL ? node_applied(n->node, group)
                                                                                  : n->recovered.groups[group].snapshot_index;
    struct durable_group *both[] = {&n->durable[group], &n->tail[group]};
    for (int i = 0; i < 2; i++) {
        both[i]->snapshot_index = index > both[i]->snapshot_index ? index : both[i]->snapshot_index;
    }
    if (node_locks(n->node, group) == NULL || index == 0) {
        return;
    }
    if (index > c->count) {
        sim_fail(s, "R13: n%u group %u restored a snapshot at index %llu, nobody applied more than %llu", n->index + 1, group,
                 (unsigned long long)index, (unsigned long long)c->count);
    } else if (c->entries[index - 1].digest != node_digest(n->node, group)) {
        sim_fail(s, "R13: n%u group %u restored a snapshot at index %llu whose digest differs", n->index + 1, group,
                 (unsigned long long)index);
    }
}

static bool promises(const struct sim_node *n, const struct consensus_msg *m, const char **what)
{
    const struct durable_group *d = &n->durable[m->group];
    *what = "";
    switch (m->type) {
    case MSG_VOTE:
        *what = "its own candidacy";
        return (d->term == m->term && d->vote == n->opt.self) || d->term > m->term; /* an old one binds nobody */
    case MSG_VOTE_REPLY:
        *what = "a vote";
        return m->reject || (d->term == m->term && d->vote == m->to) || d->term > m->term;
    case MSG_APPEND_REPLY:
        *what = "entries";
        return m->reject || m->quiesce || (d->term >= m->term && (m->index < d->first + d->count || m->index <= d->snapshot_index));
    default: return true;
    }
}

/* R6: nothing is promised to a peer before the disk holds it. */
void raft_check_frame(struct sim *s, struct sim_node *n, slice_t frame)
{
    const char *bad = frame_check(frame), *what;
    if (bad != NULL) {
        sim_fail(s, "n%u sends a frame that is not well formed: %s", n->index + 1, bad);
        return;
    }
    struct frame_reader r;
    struct peer_msg m;
    frame_read(&r, frame);
    while (!s->failed && frame_next(&r, &m)) {
        if (m.kind != PEER_CONSENSUS) {
            continue;
        }
        const struct consensus_msg *c = &m.u.consensus;
        if (!promises(n, c, &what)) {
            const struct durable_group *d = &n->durable[c->group];
            sim_fail(s, "R6: n%u group %u promises %s (term %llu, index %llu) but its disk has term %llu, vote %u, entries to %llu",
                     n->index + 1, c->group, what, (unsigned long long)c->term, (unsigned long long)c->index,
                     (unsigned long long)d->term, d->vote, (unsigned long long)(d->first + d->count - 1));
        }
    }
}

/* R8. */
void raft_check_turn(struct sim *s, struct sim_node *n)
{
    if (n->turns % TURN_CHECK_EVERY != 0) {
        return;
    }
    for (uint32_t g = 0; g < s->n_groups; g++) {
        const struct consensus *c = node_consensus(n->node, g);
        struct consensus_status st;
        if (c == NULL) {
            continue;
        }
        consensus_status(c, &st);
        if (st.commit < n->commit_seen[g] || st.applied > st.commit || st.commit > st.last) {
            sim_fail(s, "R8: n%u group %u: applied %llu, commit %llu (was %llu), last %llu", n->index + 1, g,
                     (unsigned long long)st.applied, (unsigned long long)st.commit, (unsigned long long)n->commit_seen[g],
                     (unsigned long long)st.last);
        }
        n->commit_seen[g] = st.commit;
    }
}

/* R5: one entry and one state at each index, for all nodes and all lives. */
void raft_check_applied(void *arg, uint32_t group, uint64_t index, uint64_t term, slice_t payload, uint64_t digest)
{
    struct sim_node *n = arg;
    struct sim *s = n->sim;
    struct canon_group *c = &s->canon[group];
    struct canon_entry now = {.term = term, .hash = hash_bytes(term, payload), .digest = digest};
    now.state = index % STATE_EVERY == 0 ? node_state_hash(n->node, group) | 1 : 0;
    n->new_entry = index == c->count + 1;
    if (index > c->count + 1) {
        sim_fail(s, "R5: n%u group %u applies index %llu before anybody applied %llu", n->index + 1, group, (unsigned long long)index,
                 (unsigned long long)c->count + 1);
        return;
    }
    if (!n->new_entry) {
        const struct canon_entry *was = &c->entries[index - 1];
        if (was->term != now.term || was->hash != now.hash) {
            sim_fail(s, "R5 state machine safety: n%u group %u applies another entry at index %llu", n->index + 1, group,
                     (unsigned long long)index);
        } else if (was->digest != now.digest || was->state != now.state) {
            sim_fail(s, "R5/K12: n%u group %u has another state after index %llu", n->index + 1, group, (unsigned long long)index);
        }
        return;
    }
    if (c->count == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 256;
        c->entries = realloc(c->entries, c->cap * sizeof *c->entries);
        syn_assert(c->entries != NULL);
    }
    struct consensus_status st;
    consensus_status(node_consensus(n->node, group), &st);
    now.commit_term = st.term;
    c->entries[c->count++] = now;
    sim_mix(s, now.hash ^ index);
    lock_check_entry(s, group, index, payload);
}

/* R1 and R4. A leader of an old term that learns of its election late need not have what later terms committed, be it an entry of an
 * older term yet. */
void raft_check_leader(void *arg, uint32_t group, uint64_t term)
{
    struct sim_node *n = arg;
    struct sim *s = n->sim;
    const struct canon_group *c = &s->canon[group];
    s->r->elections++;
    TRACE(s, "n%u leads group %u in term %llu", n->index + 1, group, (unsigned long long)term);
    node_id_t *leader = &term_facts(s, group, term)->leader;
    if (*leader != 0 && *leader != n->opt.self) {
        sim_fail(s, "R1 election safety: n%u and n%u lead group %u in term %llu", *leader, n->index + 1, group, (unsigned long long)term);
        return;
    }
    *leader = n->opt.self;
    uint64_t i = c->count;
    while (i > 0 && c->entries[i - 1].commit_term >= term) {
        i--;
    }
    const struct consensus *k = node_consensus(n->node, group);
    struct consensus_status st;
    consensus_status(k, &st);
    if (i == 0 || i <= st.snapshot || i < st.first) {
        return;
    }
    if (consensus_term_at(k, i) != c->entries[i - 1].term) {
        sim_fail(s, "R4 leader completeness: n%u leads group %u in term %llu without the committed entry %llu of term %llu", n->index + 1,
                 group, (unsigned long long)term, (unsigned long long)i, (unsigned long long)c->entries[i - 1].term);
    }
}

static const struct sim_node *leader_of(const struct sim *s, uint32_t g, struct consensus_status *best)
{
    const struct sim_node *leader = NULL;
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        const struct sim_node *n = &s->nodes[i];
        const struct consensus *c = n->up && n->busy_until_us <= s->now_us ? node_consensus(n->node, g) : NULL;
        struct consensus_status st;
        if (c == NULL) {
            continue;
        }
        consensus_status(c, &st);
        if (st.role == ROLE_LEADER && (leader == NULL || st.term > best->term)) {
            leader = n;
            *best = st;
        }
    }
    return leader;
}

static bool replica_settled(const struct sim_node *n, uint32_t g, const struct consensus_status *lead, uint64_t digest, uint64_t state)
{
    const struct consensus *c = node_consensus(n->node, g);
    return c != NULL && node_applied(n->node, g) == lead->last && node_digest(n->node, g) == digest &&
           node_state_hash(n->node, g) == state;
}

/* R16: one leader per group, and every healthy replica of its configuration has applied all of its log, with one digest. */
bool raft_settled(struct sim *s, char *why, size_t size)
{
    for (uint32_t g = 0; g < s->n_groups; g++) {
        struct consensus_status lead = {0};
        const struct sim_node *l = leader_of(s, g, &lead);
        if (l == NULL || !lead.ready || lead.commit != lead.last || node_applied(l->node, g) != lead.last) {
            snprintf(why, size, "group %u: %s", g, l == NULL ? "no leader" : "its leader has not applied its own log");
            return false;
        }
        const struct consensus_config *cfg = consensus_config_now(node_consensus(l->node, g));
        uint64_t digest = node_digest(l->node, g), state = node_state_hash(l->node, g);
        for (uint32_t i = 0; i < cfg->count; i++) {
            const struct sim_node *n = &s->nodes[cfg->members[i].id - 1];
            if (n->dead_for_good) {
                continue;
            }
            if (!n->up || !replica_settled(n, g, &lead, digest, state)) {
                snprintf(why, size, "group %u: n%u is %s, applied %llu of %llu", g, n->index + 1, n->up ? "behind" : "down",
                         n->up && node_consensus(n->node, g) ? (unsigned long long)node_applied(n->node, g) : 0,
                         (unsigned long long)lead.last);
                return false;
            }
        }
    }
    return true;
}
