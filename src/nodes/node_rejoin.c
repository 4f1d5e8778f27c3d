/* A replica that lost its disk, or never had one, and how it gets its vote.
 *
 * It may have voted and acknowledged what it no longer knows (P8): until it has rejoined it neither votes nor counts, and says so on
 * disk (GROUP_AMNESIAC). It asks its leader to be a learner with the disk it has now; once it has applied a configuration that
 * names this disk it is whole again: a learner's configuration is committed without it, by a majority of the others in a term at
 * least as high as any in which a forgotten vote could still elect somebody, and all that it forgot lies before (docs/raft.md).
 * Configurations that name no disk, or an older one, prove nothing: they may be read again from the log.
 *
 * In a wholly new cluster no replica of a group has a term or an entry. Who has heard that from all the others of its group has nothing
 * forgotten, and votes; a majority would not do: a member that lost its disk and one that heard nothing yet could begin again without
 * the one that knows better. So the first start of a group waits until all its replicas were there once. */
#include "nodes/node_internal.h"

enum { REJOIN_EVERY_MS = 300 };

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

static bool is_fresh(const struct node_group *g)
{
    struct consensus_status st;
    consensus_status(g->consensus, &st);
    return st.term == 0 && st.last == 0;
}

bool group_is_whole(const struct node *n, const struct node_group *g)
{
    if (g->consensus == NULL) {
        return false; /* nothing is known before the first event */
    }
    const struct consensus_config *c = consensus_config_now(g->consensus);
    int at = config_find(c, n->opt.self);
    return !g->amnesiac && (at < 0 || c->members[at].voter);
}

bool node_is_whole(const struct node *n)
{
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        if (n->groups[i].hosted && !group_is_whole(n, &n->groups[i])) {
            return false;
        }
    }
    return true;
}

void rejoin_begin(struct node *n)
{
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        struct node_group *g = &n->groups[i];
        if (g->hosted && g->amnesiac && is_fresh(g) && g->placement.count == 1) {
            remember(n, g); /* there is nobody who could know better */
        }
    }
}

static void tell_fresh(struct node *n, const struct node_group *g, struct node_peer *to)
{
    struct buf op = {0};
    buf_put_u8(&op, SERVICE_ADMIN);
    buf_put_u8(&op, ADMIN_FRESH);
    struct peer_msg m = {.kind = PEER_FORWARD};
    m.u.forward = (struct peer_forward){.kind = FORWARD_ADMIN, .group = g->id, .payload = buf_slice(&op)};
    links_send(n, to, &m);
    buf_fini(&op);
}

/* Has every other replica said in this life of ours that it remembers nothing? It was true when they said it, after we forgot. */
static bool all_told(const struct node *n, const struct node_group *g)
{
    for (uint32_t i = 0; i < g->placement.count; i++) {
        node_id_t id = g->placement.members[i].id;
        bool told = id == n->opt.self;
        for (uint32_t k = 0; k < g->n_fresh && !told; k++) {
            told = g->fresh[k] == id;
        }
        if (!told) {
            return false;
        }
    }
    return true;
}

void rejoin_told_fresh(struct node *n, struct node_group *g, node_id_t who)
{
    if (!g->hosted || !g->amnesiac || !is_fresh(g) || config_find(&g->placement, who) < 0) {
        return;
    }
    bool known = false;
    for (uint32_t k = 0; k < g->n_fresh; k++) {
        known |= g->fresh[k] == who;
    }
    if (!known && g->n_fresh < CONSENSUS_MEMBERS_MAX) {
        g->fresh[g->n_fresh++] = who;
    }
    if (all_told(n, g)) {
        remember(n, g);
        if (g->id == 0) {
            node_log(n, LOG_INFO, "a new cluster: no member of group 0 has anything to remember");
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

static void admit(struct node *n, struct node_group *g, node_id_t who)
{
    struct consensus_config next = *consensus_config_now(g->consensus);
    const struct node_peer *p = node_peer_of(n, who);
    struct consensus_peer_status ps;
    int at = config_find(&next, who);
    if (!members_peer_state(g, who, &ps) || !ps.amnesiac) {
        return; /* it asked before it heard that the cluster is new */
    }
    if (p == NULL || p->uuid == 0 || at < 0 || next.members[at].disk == p->uuid) {
        return;
    }
    next.members[at].voter = false;
    next.members[at].disk = p->uuid;
    if (members_would_carry(n, g, &next)) {
        members_change(n, g, &next, "making a learner of (it starts with an empty disk)", who);
    }
}

void rejoin_asked(struct node *n, struct node_group *g, node_id_t who)
{
    struct node_peer *p = node_peer_of(n, who);
    if (group_leads(g) && g->ready) {
        admit(n, g, who);
    } else if (g->hosted && is_fresh(g) && p != NULL && peer_linked(p)) {
        tell_fresh(n, g, p);
    }
}
