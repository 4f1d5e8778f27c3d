/* A replica that lost its disk, or never had one, and how it gets its vote.
 *
 * It may have voted and acknowledged what it no longer knows (P8): until it has rejoined it neither votes nor counts, and says so on
 * disk (GROUP_AMNESIAC). It asks its leader to be a learner with the disk it has now; once it has applied a configuration that
 * names this disk it is whole again: a learner's configuration is committed without it, by a majority of the others in a term at
 * least as high as any in which a forgotten vote could still elect somebody, and all that it forgot lies before (docs/raft.md).
 * Configurations that name no disk, or an older one, prove nothing: they may be read again from the log.
 *
 * A wholly new cluster is told apart by a majority of members that all remember nothing. */
#include "nodes/node_internal.h"

enum { REJOIN_EVERY_MS = 300, BOOTSTRAP_WAIT_MS = 1000 };

bool rejoin_remembers(const struct store_group *sg)
{
    return sg->exists && (sg->vote != GROUP_AMNESIAC || sg->term > 0 || sg->n_entries > 0 || sg->snapshot_index > 0);
}

/* Replaces the recovered hard state; the records of a turn are one write, all of it or nothing. */
static void put_hard_state(struct node *n, struct node_group *g, node_id_t vote)
{
    struct consensus_status st;
    consensus_status(g->consensus, &st);
    if (n->log_buf.len == 0) {
        n->log_seq++;
    }
    log_put_hard_state(&n->log_buf, g->id, st.term, vote, st.commit);
}

void rejoin_forgotten(struct node *n, struct node_group *g)
{
    g->amnesiac = true;
    consensus_set_may_vote(g->consensus, false);
    put_hard_state(n, g, GROUP_AMNESIAC);
}

/* An amnesiac replica has not voted in any term, so there is no vote to keep. */
static void remember(struct node *n, struct node_group *g)
{
    g->amnesiac = false;
    put_hard_state(n, g, 0);
    consensus_set_may_vote(g->consensus, true);
    group_touch(n, g);
}

void rejoin_config_seen(struct node *n, struct node_group *g)
{
    if (!g->amnesiac) {
        return;
    }
    const struct consensus_config *c = consensus_config_applied(g->consensus);
    int at = config_find(c, n->opt.self);
    if (at >= 0 && c->members[at].disk == n->opt.node_uuid) {
        remember(n, g);
        node_log(n, LOG_INFO, "group %u: rejoined with an empty disk, and may vote when the leader says so", g->id);
    }
}

void rejoin_bootstrap(struct node *n)
{
    uint32_t fresh = 1;
    for (uint32_t i = 0; i < n->n_peers; i++) {
        fresh += peer_linked(&n->peers[i]) && n->peers[i].fresh;
    }
    bool all = fresh == n->opt.n_members;
    if (!n->fresh || fresh <= n->opt.n_members / 2 || (!all && n->now_ms - n->started_ms < BOOTSTRAP_WAIT_MS)) {
        return;
    }
    n->fresh = false;
    node_log(n, LOG_INFO, "a new cluster: %u of %u members start empty", fresh, n->opt.n_members);
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        if (n->groups[i].hosted && n->groups[i].amnesiac) {
            remember(n, &n->groups[i]);
        }
    }
}

void rejoin_ask(struct node *n, struct node_group *g)
{
    if (!g->amnesiac || n->now_ms < g->rejoin_retry_ms) {
        return;
    }
    g->rejoin_retry_ms = n->now_ms + REJOIN_EVERY_MS;
    for (uint32_t i = 0; i < n->n_peers; i++) {
        struct node_peer *p = &n->peers[i];
        if (!peer_linked(p)) {
            continue;
        }
        struct buf op = {0};
        buf_put_u8(&op, SERVICE_ADMIN);
        buf_put_u8(&op, ADMIN_REJOIN);
        buf_put_u32(&op, n->opt.self);
        struct peer_msg m = {.kind = PEER_FORWARD};
        m.u.forward = (struct peer_forward){.kind = FORWARD_ADMIN, .group = g->id, .payload = buf_slice(&op)};
        links_send(n, p, &m); /* whoever leads acts on it; the others answer that they do not */
        buf_fini(&op);
    }
}

void rejoin_admit(struct node *n, struct node_group *g, node_id_t who)
{
    struct consensus_config next = *consensus_config_now(g->consensus);
    const struct node_peer *p = node_peer_of(n, who);
    int at = config_find(&next, who);
    if (p == NULL || p->uuid == 0 || at < 0 || next.members[at].disk == p->uuid) {
        return;
    }
    next.members[at].voter = false;
    next.members[at].disk = p->uuid;
    members_change(n, g, &next, "making a learner of (it starts with an empty disk)", who);
}
