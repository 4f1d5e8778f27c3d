/* CLUSTER.*: the members and groups as this node sees them, and the administrator's changes to them. */
#include "nodes/doors/cmd.h"

#include "utils/config.h"
#include "utils/hash.h"
#include "utils/limits.h"

#include <stdio.h>

static void put_field(struct buf *b, const char *name, const char *value)
{
    resp_bulk_str(b, name);
    resp_bulk_str(b, value);
}

static void put_number(struct buf *b, const char *name, uint64_t value)
{
    resp_bulk_str(b, name);
    resp_u64(b, value);
}

static uint32_t groups_led_by(const struct node *n, node_id_t id)
{
    uint32_t led = 0;
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        led += n->groups[i].leader == id;
    }
    return led;
}

static void put_member(struct node *n, struct buf *b, const struct node_member *m)
{
    bool self = m->id == n->opt.self;
    const struct node_peer *p = self ? NULL : node_peer_of(n, m->id);
    bool linked = self || (p != NULL && peer_linked(p));
    char address[300];
    snprintf(address, sizeof address, "%s:%u", m->host, m->peer_port);
    resp_map(b, 9);
    put_field(b, "id", m->name);
    put_number(b, "number", m->id);
    put_field(b, "address", address);
    put_field(b, "client_host", self ? n->opt.client_host : p != NULL ? p->client_host : "");
    put_number(b, "resp_port", self ? n->opt.resp_port : p != NULL ? p->resp_port : 0);
    put_number(b, "http_port", self ? n->opt.http_port : p != NULL ? p->http_port : 0);
    put_field(b, "state", self ? "self" : linked ? "up" : "down");
    put_number(b, "groups_led", groups_led_by(n, m->id));
    put_number(b, "silent_ms", self || p == NULL ? 0 : n->now_ms - p->heard_ms);
}

void cluster_nodes(struct node *n, struct buf *b)
{
    resp_array(b, n->opt.n_members);
    for (uint32_t i = 0; i < n->opt.n_members; i++) {
        put_member(n, b, &n->opt.members[i]);
    }
}

static const char *role_name(enum consensus_role r)
{
    static const char *const names[] = {"FOLLOWER", "CANDIDATE", "CANDIDATE", "LEADER", "LEARNER"};
    return names[r];
}

static void put_replicas(struct node *n, struct buf *b, const struct node_group *g)
{
    const struct consensus_config *c = g->hosted ? consensus_config_now(g->consensus) : &g->placement;
    struct consensus_peer_status ps[CONSENSUS_MEMBERS_MAX];
    uint32_t count = g->hosted ? consensus_peers(g->consensus, ps, CONSENSUS_MEMBERS_MAX) : 0;
    resp_bulk_str(b, "replicas");
    resp_array(b, c->count);
    for (uint32_t i = 0; i < c->count; i++) {
        uint64_t match = 0;
        const char *state = g->role == ROLE_LEADER ? "self" : "unknown";
        for (uint32_t k = 0; k < count; k++) {
            if (ps[k].id == c->members[i].id) {
                match = ps[k].match;
                state = ps[k].state;
            }
        }
        resp_map(b, 4);
        put_field(b, "id", node_name_of(n, c->members[i].id));
        put_field(b, "kind", c->members[i].voter ? "voter" : "learner");
        put_field(b, "state", state);
        put_number(b, "match", match);
    }
}

static void put_group(struct node *n, struct buf *b, const struct node_group *g)
{
    struct consensus_status st = {.leader = g->leader, .term = g->term};
    if (g->hosted) {
        consensus_status(g->consensus, &st);
    }
    resp_map(b, 12);
    put_number(b, "group", g->id);
    put_field(b, "role", g->hosted ? role_name(st.role) : "NONE");
    put_field(b, "leader", st.leader ? node_name_of(n, st.leader) : "");
    put_number(b, "term", st.term);
    put_number(b, "commit_index", st.commit);
    put_number(b, "applied_index", g->applied);
    put_number(b, "last_index", st.last);
    put_number(b, "lag", st.commit > g->applied ? st.commit - g->applied : 0);
    put_number(b, "snapshot_index", g->snapshot_index);
    resp_bulk_str(b, "quiesced");
    resp_bool(b, st.quiesced);
    put_field(b, "why_no_leader", st.leader == 0 && st.why_no_leader != NULL ? st.why_no_leader : "");
    put_replicas(n, b, g);
}

void cluster_groups(struct node *n, struct buf *b)
{
    resp_array(b, n->opt.groups);
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        put_group(n, b, &n->groups[i]);
    }
}

void handle_cluster_nodes(struct call *c)
{
    cluster_nodes(c->n, c->reply);
}

void handle_cluster_groups(struct call *c)
{
    cluster_groups(c->n, c->reply);
}

static const struct node_member *member_by_name(const struct node *n, slice_t name)
{
    for (uint32_t i = 0; i < n->opt.n_members; i++) {
        if (slice_eq(slice_str(n->opt.members[i].name), name)) {
            return &n->opt.members[i];
        }
    }
    return NULL;
}

static void members_call(struct call *c, struct request *r, uint8_t what, const struct node_member *m)
{
    members_payload(c->n, r, what, m);
    call_submit(c, r);
}

void handle_cluster_add(struct call *c)
{
    struct config_member given;
    struct buf why = {0};
    if (!config_parse_member(c->argv[1], &given, &why)) {
        call_error(c, "ERR", "%.*s", (int)why.len, (const char *)why.ptr);
        buf_fini(&why);
        return;
    }
    buf_fini(&why);
    struct node_member m = {.id = given.id, .peer_port = given.port};
    memcpy(m.name, given.name, sizeof m.name);
    memcpy(m.host, given.host, sizeof m.host);
    const struct node_member *same = member_by_name(c->n, slice_str(m.name));
    const struct node_peer *p = node_peer_of(c->n, m.id);
    if (same == NULL && (m.id == c->n->opt.self || (p != NULL && strcmp(p->member.name, m.name) != 0))) {
        call_error(c, "ERR", "the number of %s is taken by %s: choose another NODE_ID", m.name, node_name_of(c->n, m.id));
        return;
    }
    struct request *r = call_request(c, 0, REQUEST_WRITE, false);
    members_call(c, r, META_MEMBER_ADD, &m);
}

void handle_cluster_remove(struct call *c)
{
    const struct node_member *m = member_by_name(c->n, c->argv[1]);
    if (m == NULL) {
        call_error(c, "ERR", "no such member: see CLUSTER.NODES");
        return;
    }
    if (c->n->opt.n_members == 1) {
        call_error(c, "ERR", "the last member cannot be removed");
        return;
    }
    struct node_member copy = *m;
    struct request *r = call_request(c, 0, REQUEST_WRITE, false);
    members_call(c, r, META_MEMBER_REMOVE, &copy);
}

static void transfer(struct call *c, uint32_t group, node_id_t to)
{
    struct request *r = call_request(c, group, REQUEST_ADMIN, false);
    buf_put_u8(&r->payload, SERVICE_ADMIN);
    buf_put_u8(&r->payload, ADMIN_TRANSFER);
    buf_put_u32(&r->payload, to);
    call_submit(c, r);
}

void handle_cluster_transfer(struct call *c)
{
    uint64_t group;
    const struct node_member *m = member_by_name(c->n, c->argv[2]);
    if (!arg_u64(c, c->argv[1], "the group", 0, c->n->opt.groups - 1, &group)) {
        return;
    }
    if (m == NULL) {
        call_error(c, "ERR", "no such member: see CLUSTER.NODES");
        return;
    }
    transfer(c, (uint32_t)group, m->id);
}

/* Asks, group by group, for the leadership to go to its place on the ring; the answer says how many had to. */
void handle_cluster_rebalance(struct call *c)
{
    uint64_t moved = 0;
    for (uint32_t i = 0; i < c->n->opt.groups; i++) {
        struct node_group *g = &c->n->groups[i];
        if (g->placement.count > 0 && g->leader != g->placement.members[0].id) {
            members_rebalance(c->n, g);
            moved++;
        }
    }
    resp_u64(c->reply, moved);
}

void handle_cluster(struct call *c)
{
    if (slice_ieq(c->argv[1], "INFO")) {
        resp_verbatim(c->reply, "txt", SLICE_LIT("cluster_enabled:0\r\ncluster_state:ok\r\n"));
    } else if (slice_ieq(c->argv[1], "KEYSLOT") && c->argc == 3) {
        resp_int(c->reply, hash_slot(c->argv[2]));
    } else {
        call_error(c, "ERR", "This instance has cluster support disabled: any node takes any command. See CLUSTER.NODES and CLUSTER.GROUPS");
    }
}
