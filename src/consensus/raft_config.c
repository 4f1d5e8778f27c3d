/* Members: which configuration is in force, and changing it one server at a time (Ongaro 2014, 4.1 to 4.3).
 *
 * The newest configuration in the log is in force, committed or not. Those that are not yet applied are kept beside the
 * log with the one before them, so that cutting an entry restores what was in force before it even when that entry has
 * been compacted (S11). Not responsible for deciding who should be a member.
 * Keeps R10: one change at a time, none before this term has committed (S10), learners counted for nothing (S5). */
#include "consensus/raft.h"

#include <stdlib.h>

static const struct consensus_member *find(const struct consensus_config *config, node_id_t id)
{
    for (uint32_t i = 0; i < config->count; i++) {
        if (config->members[i].id == id) {
            return &config->members[i];
        }
    }
    return NULL;
}

static void peer_fini(struct raft_peer *p)
{
    free(p->inflight);
    buf_fini(&p->chunk);
    *p = (struct raft_peer){0};
}

/* Makes the peers those of the configuration in force, in its order; who stays keeps what is known of it. */
static void sync_peers(struct consensus *c)
{
    const struct consensus_config *config = consensus_config_now(c);
    struct raft_peer old[CONSENSUS_MEMBERS_MAX];
    uint32_t n_old = c->n_peers;
    memcpy(old, c->peers, sizeof old);
    memset(c->peers, 0, sizeof c->peers);
    c->n_peers = c->n_voters = 0;
    c->send_cursor = 0;
    for (uint32_t i = 0; i < config->count; i++) {
        const struct consensus_member *m = &config->members[i];
        c->n_voters += m->voter;
        if (m->id == c->o.self) {
            continue;
        }
        struct raft_peer *p = &c->peers[c->n_peers++];
        for (uint32_t k = 0; k < n_old; k++) {
            if (old[k].id == m->id) {
                *p = old[k];
                old[k] = (struct raft_peer){0};
            }
        }
        if (p->id == 0) {
            p->id = m->id;
            p->inflight = malloc(c->o.inflight_msgs_max * sizeof *p->inflight);
            syn_assert(p->inflight != NULL);
            p->active = true;
            raft_peer_reset(c, p);
        }
        p->voter = m->voter;
    }
    for (uint32_t k = 0; k < n_old; k++) {
        peer_fini(&old[k]);
    }
    const struct consensus_member *self = find(config, c->o.self);
    c->self_voter = self != NULL && self->voter;
    if (!c->self_voter && c->role == ROLE_FOLLOWER) {
        c->role = ROLE_LEARNER;
    } else if (c->self_voter && c->role == ROLE_LEARNER) {
        c->role = ROLE_FOLLOWER;
        raft_arm_election(c);
    }
    if (c->transfer_to != 0 && find(config, c->transfer_to) == NULL) {
        raft_transfer_clear(c);
    }
}

static void push(struct consensus *c, uint64_t index, const struct consensus_config *config)
{
    if (c->n_configs == c->configs_cap) {
        c->configs_cap = c->configs_cap == 0 ? 4 : c->configs_cap * 2;
        c->configs = realloc(c->configs, c->configs_cap * sizeof *c->configs);
        syn_assert(c->configs != NULL);
    }
    c->configs[c->n_configs++] = (struct raft_config_at){.index = index, .config = *config};
}

void raft_config_init(struct consensus *c, const struct consensus_config *config, uint64_t index)
{
    struct consensus_config copy = *config; /* may be one of ours */
    c->n_configs = 0;
    push(c, index, &copy);
    sync_peers(c);
}

void raft_config_append(struct consensus *c, uint64_t index, slice_t payload)
{
    struct consensus_config config;
    bool ok = consensus_config_decode(payload, &config);
    syn_assert(ok && c->n_configs > 0);
    syn_assert(index > c->configs[c->n_configs - 1].index);
    push(c, index, &config);
    sync_peers(c);
}

void raft_config_cut(struct consensus *c, uint64_t from)
{
    uint32_t n = c->n_configs;
    while (n > 1 && c->configs[n - 1].index >= from) {
        n--;
    }
    if (n != c->n_configs) {
        c->n_configs = n;
        sync_peers(c);
    }
}

void raft_config_applied_to(struct consensus *c, uint64_t index)
{
    uint32_t keep = 0;
    while (keep + 1 < c->n_configs && c->configs[keep + 1].index <= index) {
        keep++;
    }
    memmove(c->configs, c->configs + keep, (c->n_configs - keep) * sizeof *c->configs);
    c->n_configs -= keep;
}

/* A leader that committed its own removal hands over and steps down (4.2.2). */
void raft_config_committed(struct consensus *c, uint64_t old_commit)
{
    uint64_t at = c->configs[c->n_configs - 1].index;
    if (at > old_commit && at <= c->commit && !c->self_voter) {
        raft_transfer_away(c);
        raft_become_follower(c, c->term, 0);
    }
}

/* A replica may be needed to lead until the entry that removes it is committed: only it may have that entry (4.2.2). */
bool raft_config_stands(const struct consensus *c)
{
    bool stands = c->self_voter;
    for (uint32_t i = c->n_configs - 1; !stands && i > 0 && c->configs[i].index > c->commit; i--) {
        const struct consensus_member *self = find(&c->configs[i - 1].config, c->o.self);
        stands = self != NULL && self->voter;
    }
    return stands;
}

const struct consensus_config *consensus_config_now(const struct consensus *c)
{
    return &c->configs[c->n_configs - 1].config;
}

const struct consensus_config *consensus_config_applied(const struct consensus *c)
{
    return &c->configs[0].config;
}

/* Exactly one member joins, leaves, changes between learner and voter, or has another disk, and a voter remains. Nobody votes with a
 * disk that was not a learner's first: a learner has applied all that the lost disk may have helped to commit. */
static bool is_one_step(const struct consensus_config *now, const struct consensus_config *next)
{
    uint32_t changes = 0, voters = 0;
    for (uint32_t i = 0; i < next->count; i++) {
        const struct consensus_member *m = &next->members[i], *was = find(now, m->id);
        bool other_disk = was != NULL && was->disk != m->disk;
        if (m->id == 0 || find(next, m->id) != m || (other_disk && m->voter)) {
            return false;
        }
        changes += was == NULL || was->voter != m->voter || other_disk;
        voters += m->voter;
    }
    for (uint32_t i = 0; i < now->count; i++) {
        changes += find(next, now->members[i].id) == NULL;
    }
    return changes == 1 && voters > 0;
}

/* A learner that is far behind would make the next commit wait for its catching up (4.2.1). */
static bool promotes_laggard(const struct consensus *c, const struct consensus_config *next)
{
    for (uint32_t i = 0; i < c->n_peers; i++) {
        const struct raft_peer *p = &c->peers[i];
        const struct consensus_member *m = find(next, p->id);
        if (m != NULL && m->voter && !p->voter) {
            return p->match + RAFT_CATCH_UP_ENTRIES < raft_log_last(&c->log) || p->amnesiac;
        }
    }
    return false;
}

enum propose_result consensus_change_config(struct consensus *c, const struct consensus_config *next, uint64_t now_ms, uint64_t *index)
{
    raft_time(c, now_ms);
    if (c->role != ROLE_LEADER) {
        return PROPOSE_NOT_LEADER;
    }
    if (c->transfer_to != 0) {
        return PROPOSE_TRANSFERRING;
    }
    if ((!raft_ready(c) || c->configs[c->n_configs - 1].index > c->applied) && !MUTANT("S10")) {
        return PROPOSE_CONFIG_PENDING;
    }
    if (next->count > CONSENSUS_MEMBERS_MAX || !is_one_step(consensus_config_now(c), next)) {
        return PROPOSE_BAD_CONFIG;
    }
    if (promotes_laggard(c, next)) {
        return PROPOSE_BUSY;
    }
    raft_wake(c);
    struct buf b;
    buf_init(&b);
    consensus_config_encode(next, &b);
    raft_append_own(c, ENTRY_CONFIG, buf_slice(&b));
    buf_fini(&b);
    *index = raft_log_last(&c->log);
    return PROPOSE_OK;
}

void raft_config_check(const struct consensus *c)
{
    syn_assert(c->n_configs > 0);
    for (uint32_t i = 0; i < c->n_configs; i++) {
        const struct raft_config_at *at = &c->configs[i];
        struct entry e;
        struct consensus_config config;
        syn_assert(at->index <= raft_log_last(&c->log));
        syn_assert((i == 0) == (at->index <= c->applied));
        if (i > 0) {
            syn_assert(at->index > c->configs[i - 1].index);
            syn_assert(raft_log_entry(&c->log, at->index, &e) && e.type == ENTRY_CONFIG);
            syn_assert(consensus_config_decode(e.payload, &config) && config.count == at->config.count);
        }
    }
    uint32_t voters = 0, others = 0;
    const struct consensus_config *now = consensus_config_now(c);
    for (uint32_t i = 0; i < now->count; i++) {
        voters += now->members[i].voter;
        others += now->members[i].id != c->o.self;
    }
    syn_assert(voters == c->n_voters && others == c->n_peers);
}
