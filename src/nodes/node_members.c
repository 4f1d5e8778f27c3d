/* Who belongs to the cluster, which nodes hold which group, and how a group moves one server at a time.
 *
 * The member list is CLUSTER_NODES until the meta group (0) changes it. The hash ring over the members gives each group its
 * replica set; the group's leader walks its configuration towards that set by learners: add a learner, wait until it has
 * caught up, promote it, then demote and remove what is too much (docs/raft.md, "Membership").
 * Replicas that lost their disk are node_rejoin.c's. */
#include "nodes/node_internal.h"

#include "communication/resp.h"

#include <stdio.h>
#include <stdlib.h>

enum { DUTY_EVERY_MS = 200, CAUGHT_UP_ENTRIES = 1000, SETTLED_MS = 3000 };

void members_place(struct node *n)
{
    uint32_t ids[NODE_MEMBERS_MAX] = {0};
    for (uint32_t i = 0; i < n->opt.n_members; i++) {
        ids[i] = n->opt.members[i].id;
    }
    uint32_t rf = n->opt.replication_factor < n->opt.n_members ? n->opt.replication_factor : n->opt.n_members;
    rf = rf < CONSENSUS_MEMBERS_MAX ? rf : CONSENSUS_MEMBERS_MAX;
    uint32_t *rows = calloc((size_t)n->opt.groups * rf, sizeof *rows);
    syn_assert(rows != NULL);
    ring_place(ids, n->opt.n_members, n->opt.virtual_nodes, n->opt.groups, rf, rows);
    for (uint32_t g = 0; g < n->opt.groups; g++) {
        struct consensus_config *out = &n->groups[g].placement;
        out->count = rf;
        for (uint32_t i = 0; i < rf; i++) {
            out->members[i] = (struct consensus_member){.id = rows[g * rf + i], .voter = true};
        }
    }
    free(rows);
}

int config_find(const struct consensus_config *c, node_id_t id)
{
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->members[i].id == id) {
            return (int)i;
        }
    }
    return -1;
}

bool members_peer_state(const struct node_group *g, node_id_t id, struct consensus_peer_status *out)
{
    struct consensus_peer_status ps[CONSENSUS_MEMBERS_MAX];
    uint32_t count = consensus_peers(g->consensus, ps, CONSENSUS_MEMBERS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (ps[i].id == id) {
            *out = ps[i];
            return true;
        }
    }
    return false;
}

static bool caught_up(const struct node_group *g, node_id_t id)
{
    struct consensus_status st;
    struct consensus_peer_status ps;
    consensus_status(g->consensus, &st);
    return members_peer_state(g, id, &ps) && ps.active && ps.match > 0 && ps.match + CAUGHT_UP_ENTRIES >= st.last;
}

bool members_change(struct node *n, struct node_group *g, const struct consensus_config *next, const char *what, node_id_t who)
{
    uint64_t index;
    if (consensus_change_config(g->consensus, next, n->now_ms, &index) != PROPOSE_OK) {
        return false;
    }
    node_log(n, LOG_INFO, "group %u: %s %s", g->id, what, node_name_of(n, who));
    group_touch(n, g);
    return true;
}

/* Would a majority of these voters carry the group now? A configuration that waits for who is down, or has lost its disk, stops it. */
bool members_would_carry(const struct node *n, const struct node_group *g, const struct consensus_config *c)
{
    uint32_t voters = 0, there = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        struct consensus_peer_status ps;
        node_id_t id = c->members[i].id;
        voters += c->members[i].voter;
        there += c->members[i].voter && (id == n->opt.self || (members_peer_state(g, id, &ps) && ps.active && ps.match > 0 && !ps.amnesiac));
    }
    return there > voters / 2;
}

static bool config_add(struct consensus_config *c, node_id_t id, uint64_t disk)
{
    if (c->count == CONSENSUS_MEMBERS_MAX) {
        return false;
    }
    c->members[c->count++] = (struct consensus_member){.id = id, .voter = false, .disk = disk};
    return true;
}

static void config_drop(struct consensus_config *c, int at)
{
    for (uint32_t i = (uint32_t)at; i + 1 < c->count; i++) {
        c->members[i] = c->members[i + 1];
    }
    c->count--;
}

/* One step from the configuration in force towards `want`; additions before removals. */
static void members_step(struct node *n, struct node_group *g, const struct consensus_config *want)
{
    struct consensus_config next = *consensus_config_now(g->consensus);
    bool growing = false;
    for (uint32_t i = 0; i < want->count; i++) {
        node_id_t id = want->members[i].id;
        int at = config_find(&next, id);
        if (at < 0) {
            const struct node_peer *p = node_peer_of(n, id);
            if (config_add(&next, id, p != NULL ? p->uuid : n->opt.node_uuid)) {
                members_change(n, g, &next, "adding learner", id);
            }
            return;
        }
        if (!next.members[at].voter) {
            growing = true;
            if (caught_up(g, id)) {
                next.members[at].voter = true;
                members_change(n, g, &next, "promoting", id);
                return;
            }
        }
    }
    for (uint32_t i = 0; i < next.count && !growing; i++) {
        node_id_t id = next.members[i].id;
        if (config_find(want, id) >= 0) {
            continue;
        }
        if (id == n->opt.self) {
            node_id_t to = consensus_transfer_target(g->consensus);
            if (to != 0 && config_find(want, to) >= 0) {
                consensus_transfer(g->consensus, to, n->now_ms);
                group_touch(n, g);
            }
            continue;
        }
        config_drop(&next, (int)i);
        if (!members_would_carry(n, g, &next)) {
            return;
        }
        members_change(n, g, &next, "removing", id);
        return;
    }
}

static bool config_is(const struct consensus_config *c, const struct consensus_config *want)
{
    bool same = c->count == want->count;
    for (uint32_t i = 0; same && i < want->count; i++) {
        int at = config_find(c, want->members[i].id);
        same = at >= 0 && c->members[at].voter;
    }
    return same;
}

/* Leaders go where the ring wants them, so that they are spread over the nodes; never soon after a change (S7). */
static void lead_where_placed(struct node *n, struct node_group *g)
{
    node_id_t preferred = g->placement.count > 0 ? g->placement.members[0].id : 0;
    if (preferred == 0 || preferred == n->opt.self || n->stopping || n->now_ms - g->led_since_ms < SETTLED_MS ||
        n->now_ms < g->transfer_retry_ms) {
        return;
    }
    struct consensus_peer_status ps;
    struct consensus_status st;
    consensus_status(g->consensus, &st);
    if (members_peer_state(g, preferred, &ps) && ps.active && ps.voter && ps.match + 100 >= st.last && st.transferring_to == 0) {
        g->transfer_retry_ms = n->now_ms + SETTLED_MS;
        node_log(n, LOG_INFO, "group %u: handing leadership to %s, its place on the ring", g->id, node_name_of(n, preferred));
        consensus_transfer(g->consensus, preferred, n->now_ms);
        group_touch(n, g);
    }
}

/* The first leader of group 0 gives the cluster its identity: from then on nodes of other clusters are refused (H1). */
static void name_cluster(struct node *n, struct node_group *g)
{
    uint64_t index;
    struct buf op = {0};
    buf_put_u8(&op, SERVICE_META);
    buf_put_u8(&op, META_CLUSTER_ID);
    buf_put_u64(&op, prng_u64(&n->prng) | 1);
    group_propose(n, g, buf_slice(&op), &index);
    buf_fini(&op);
}

void members_duty(struct node *n, struct node_group *g)
{
    if (g->role != ROLE_LEADER || !g->ready || n->now_ms < g->members_retry_ms) {
        return;
    }
    g->members_retry_ms = n->now_ms + DUTY_EVERY_MS;
    if (g->id == 0 && n->cluster_id == 0) {
        name_cluster(n, g);
    }
    if (!config_is(consensus_config_now(g->consensus), &g->placement)) {
        members_step(n, g, &g->placement);
    } else {
        lead_where_placed(n, g);
    }
}

static bool admin_transfer(struct node *n, struct node_group *g, node_id_t to, struct buf *reply)
{
    int at = config_find(consensus_config_now(g->consensus), to);
    if (to == n->opt.self) {
        resp_simple(reply, "OK");
    } else if (at < 0 || !consensus_config_now(g->consensus)->members[at].voter) {
        resp_error(reply, "ERR", "node %s is not a voter of group %u: see CLUSTER.GROUPS", node_name_of(n, to), g->id);
    } else if (!consensus_transfer(g->consensus, to, n->now_ms)) {
        resp_error(reply, "BUSY", "a transfer is on its way, or %s cannot be reached: retry later", node_name_of(n, to));
    } else {
        g->transfer_retry_ms = n->now_ms + 10 * SETTLED_MS;
        group_touch(n, g);
        resp_simple(reply, "OK");
    }
    return true;
}

bool admin_for_any_node(slice_t op)
{
    return op.len > 1 && (op.ptr[1] == ADMIN_MEMBERS || op.ptr[1] == ADMIN_REJOIN || op.ptr[1] == ADMIN_FRESH);
}

bool admin_execute(struct node *n, struct node_group *g, node_id_t from, slice_t op, struct buf *reply)
{
    struct reader r = reader_of(op);
    uint8_t service = reader_u8(&r), what = reader_u8(&r);
    if (service != SERVICE_ADMIN || !r.ok) {
        resp_error(reply, "ERR", "admin request not understood (mixed versions?)");
        return true;
    }
    if (what == ADMIN_REJOIN) {
        uint32_t who = reader_u32(&r);
        if (r.ok && who == from) {
            rejoin_asked(n, g, who);
        }
        resp_simple(reply, "OK");
    } else if (what == ADMIN_FRESH) {
        rejoin_told_fresh(n, g, from);
        resp_simple(reply, "OK");
    } else if (what == ADMIN_DAMAGED) {
        g->q.damaged = true;
        resp_simple(reply, "OK");
    } else if (what == ADMIN_TRANSFER) {
        uint32_t to = reader_u32(&r);
        return admin_transfer(n, g, to, reply);
    } else if (what == ADMIN_MEMBERS) {
        if (!members_restore(n, &r)) {
            metrics_refused(&n->metrics, REFUSED_PEER);
        }
        resp_simple(reply, "OK");
    } else {
        resp_error(reply, "ERR", "admin request not understood (mixed versions?)");
    }
    return true;
}

void members_snapshot(const struct node *n, struct buf *out)
{
    buf_put_u64(out, n->cluster_id);
    buf_put_u64(out, n->members_version);
    buf_put_u32(out, n->opt.n_members);
    for (uint32_t i = 0; i < n->opt.n_members; i++) {
        const struct node_member *m = &n->opt.members[i];
        buf_put_u32(out, m->id);
        buf_put_bytes(out, slice_str(m->name));
        buf_put_bytes(out, slice_str(m->host));
        buf_put_u16(out, m->peer_port);
    }
}

static bool member_decode(struct reader *r, struct node_member *m)
{
    *m = (struct node_member){.id = reader_u32(r)};
    slice_t name = reader_bytes(r), host = reader_bytes(r);
    m->peer_port = reader_u16(r);
    if (!r->ok || m->id == 0 || name.len == 0 || name.len >= sizeof m->name || host.len == 0 || host.len >= sizeof m->host) {
        return false;
    }
    memcpy(m->name, name.ptr, name.len);
    memcpy(m->host, host.ptr, host.len);
    return true;
}

/* The member list changed: links, placements. Links to removed members are left to close by themselves. */
static void members_changed(struct node *n)
{
    for (uint32_t i = 0; i < n->opt.n_members; i++) {
        links_add_peer(n, &n->opt.members[i]);
    }
    members_place(n);
}

bool members_restore(struct node *n, struct reader *r)
{
    uint64_t cluster_id = reader_u64(r), version = reader_u64(r);
    uint32_t count = reader_u32(r);
    if (!r->ok || count == 0 || count > NODE_MEMBERS_MAX) {
        return false;
    }
    struct node_member *list = calloc(count, sizeof *list);
    syn_assert(list != NULL);
    bool ok = true;
    for (uint32_t i = 0; i < count && ok; i++) {
        ok = member_decode(r, &list[i]);
    }
    if (ok && n->cluster_id == 0) {
        n->cluster_id = cluster_id;
    }
    if (ok && version > n->members_version) {
        n->members_version = version;
        n->opt.n_members = count;
        memcpy(n->opt.members, list, count * sizeof *list);
        members_changed(n);
    }
    free(list);
    return ok;
}

static void members_broadcast(struct node *n)
{
    for (uint32_t i = 0; i < n->n_peers; i++) {
        if (peer_linked(&n->peers[i])) {
            members_announce(n, &n->peers[i]);
        }
    }
}

/* The first one in the log counts. */
static void apply_cluster_id(struct node *n, const struct node_group *g, struct reader *r)
{
    uint64_t id = reader_u64(r);
    if (reader_done(r) && g->id == 0 && n->cluster_id == 0) {
        n->cluster_id = id;
        if (group_leads(g)) {
            members_broadcast(n);
        }
    }
}

void members_apply(struct node *n, struct node_group *g, uint64_t index, slice_t op)
{
    struct reader r = reader_of(op);
    uint8_t what = reader_u8(&r);
    if (what == META_CLUSTER_ID) {
        apply_cluster_id(n, g, &r);
        return;
    }
    struct request_id req = {.origin = reader_u64(&r), .seq = reader_u64(&r)};
    struct node_member m;
    struct buf reply = {0};
    if (g->id != 0 || !member_decode(&r, &m) || index <= n->members_version) {
        return;
    }
    int at = -1;
    for (uint32_t i = 0; i < n->opt.n_members; i++) {
        if (n->opt.members[i].id == m.id) {
            at = (int)i;
        }
    }
    if (what == META_MEMBER_ADD && at < 0 && n->opt.n_members < NODE_MEMBERS_MAX) {
        n->opt.members[n->opt.n_members++] = m;
    } else if (what == META_MEMBER_ADD && at >= 0) {
        n->opt.members[at] = m;
    } else if (what == META_MEMBER_REMOVE && at >= 0 && n->opt.n_members > 1) {
        n->opt.members[at] = n->opt.members[--n->opt.n_members];
    }
    n->members_version = index;
    members_changed(n);
    node_log(n, LOG_INFO, "member %s %s; the cluster has %u", m.name, what == META_MEMBER_ADD ? "added" : "removed", n->opt.n_members);
    if (group_leads(g)) {
        members_broadcast(n);
    }
    resp_simple(&reply, "OK");
    group_send_result(n, g, req, buf_slice(&reply));
    buf_fini(&reply);
}

void members_announce(struct node *n, struct node_peer *to)
{
    if (n->members_version == 0 && n->cluster_id == 0) {
        return;
    }
    struct buf op = {0};
    buf_put_u8(&op, SERVICE_ADMIN);
    buf_put_u8(&op, ADMIN_MEMBERS);
    members_snapshot(n, &op);
    struct peer_msg m = {.kind = PEER_FORWARD};
    m.u.forward = (struct peer_forward){.kind = FORWARD_ADMIN, .group = 0, .payload = buf_slice(&op)};
    links_send(n, to, &m);
    buf_fini(&op);
}

static void tell_leader(struct node *n, struct node_peer *to, const struct node_group *g)
{
    struct buf config = {0};
    struct peer_msg m = {.kind = PEER_PLACEMENT};
    consensus_config_encode(&g->placement, &config);
    m.u.placement = (struct peer_placement){
        .group = g->id, .leader = group_leads(g) ? n->opt.self : 0, .term = g->term, .config = buf_slice(&config)};
    links_send(n, to, &m);
    buf_fini(&config);
}

/* Once for all peers: were each told of another group, some might never hear of some. */
void members_keepalive_next(struct node *n)
{
    uint32_t at = n->gossip_at;
    do {
        at = (at + 1) % n->opt.groups;
    } while (at != n->gossip_at && !group_leads(&n->groups[at]));
    n->gossip_at = at;
}

void members_keepalive(struct node *n, struct node_peer *to)
{
    tell_leader(n, to, &n->groups[n->gossip_at]);
}

void members_tell_led(struct node *n, struct node_peer *to)
{
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        const struct node_group *g = &n->groups[i];
        if (group_leads(g) && config_find(&g->placement, to->member.id) < 0) {
            tell_leader(n, to, g);
        }
    }
}

void members_tell_of(struct node *n, const struct node_group *g)
{
    for (uint32_t i = 0; i < n->n_peers; i++) {
        if (peer_linked(&n->peers[i]) && config_find(&g->placement, n->peers[i].member.id) < 0) {
            tell_leader(n, &n->peers[i], g);
        }
    }
}

void members_on_placement(struct node *n, const struct peer_placement *p)
{
    if (p->group >= n->opt.groups || p->leader == 0) {
        return;
    }
    struct node_group *g = &n->groups[p->group];
    if (!g->hosted && p->term >= g->term) {
        bool other = g->leader != p->leader;
        g->term = p->term;
        g->leader = p->leader;
        if (other) {
            cacher_home_changed(n->cache.cacher, g->id);
        }
    } else if (g->hosted && p->term >= g->heard_term && p->leader != n->opt.self) {
        bool other = g->heard_leader != p->leader && !group_takes_part(n, g);
        g->heard_term = p->term;
        g->heard_leader = p->leader;
        if (other) {
            cacher_home_changed(n->cache.cacher, g->id);
        }
    }
}

bool members_may_change(const struct node *n)
{
    for (uint32_t i = 0; i < n->opt.groups && n->members_version == 0; i++) {
        if (n->groups[i].leader == 0 && n->groups[i].term == 0) {
            return false;
        }
    }
    return true;
}

void members_payload(struct node *n, struct request *r, uint8_t what, const struct node_member *m)
{
    struct request_id id = request_id_of(n, r);
    buf_put_u8(&r->payload, SERVICE_META);
    buf_put_u8(&r->payload, what);
    buf_put_u64(&r->payload, id.origin);
    buf_put_u64(&r->payload, id.seq);
    buf_put_u32(&r->payload, m->id);
    buf_put_bytes(&r->payload, slice_str(m->name));
    buf_put_bytes(&r->payload, slice_str(m->host));
    buf_put_u16(&r->payload, m->peer_port);
}

static void done_rebalance(struct node *n, struct request *r, slice_t reply)
{
    (void)n;
    (void)r;
    (void)reply;
}

void members_rebalance(struct node *n, struct node_group *g)
{
    struct request *r = request_new(n, g->id, REQUEST_ADMIN, false, done_rebalance);
    buf_put_u8(&r->payload, SERVICE_ADMIN);
    buf_put_u8(&r->payload, ADMIN_TRANSFER);
    buf_put_u32(&r->payload, g->placement.members[0].id);
    request_submit(n, r);
}
