/* Probes and views of the node itself: /livez, /readyz, /health, /raft/state, /cluster, /openapi.json. They answer at once, from what this node knows.
 *
 * Alive: the loop turns; never a question of quorum, so that nobody restarts a node because others are gone. Ready: every group
 * replicated here knows its leader, has applied nearly all that is committed, and counts in its majorities; the disk takes writes, and no shutdown is on. */
#include "nodes/doors/http_door.h"

enum { READY_LAG_MAX = 1000 };

static const char *const ID_KEYS[] = {"token", NULL};

/* One sentence about what keeps the group from being ready, or false. */
static bool group_unready(struct node *n, const struct node_group *g, char *why, size_t size)
{
    struct consensus_status st;
    if (!g->hosted) {
        return false;
    }
    consensus_status(g->consensus, &st);
    if (st.leader == 0) {
        snprintf(why, size, "group %u: %s", g->id, st.why_no_leader != NULL ? st.why_no_leader : "no leader");
        return true;
    }
    if (st.commit > g->applied + READY_LAG_MAX) {
        snprintf(why, size, "group %u: %llu entries behind its leader %s", g->id, (unsigned long long)(st.commit - g->applied),
                 node_name_of(n, st.leader));
        return true;
    }
    if (!group_is_whole(n, g)) {
        snprintf(why, size, "group %u: catching up; this replica does not count in majorities yet", g->id);
        return true;
    }
    return false;
}

/* Appends one JSON string per reason; returns how many. */
static uint32_t unready_reasons(struct node *n, struct buf *b)
{
    char why[256];
    uint32_t count = 0;
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        if (group_unready(n, &n->groups[i], why, sizeof why)) {
            buf_append_str(b, count++ > 0 ? "," : "");
            json_put_str(b, why);
        }
    }
    if (n->space_low) {
        buf_append_str(b, count++ > 0 ? "," : "");
        json_put_str(b, "the disk is full: writes are refused");
    }
    if (n->stopping) {
        buf_append_str(b, count++ > 0 ? "," : "");
        json_put_str(b, "shutting down");
    }
    return count;
}

void http_livez(struct http_call *h)
{
    struct http_answer a = {.n = h->n, .status = 200, .type = HTTP_TEXT};
    buf_append_str(&a.body, "ok\n");
    http_send(h, &a);
    buf_fini(&a.body);
}

static void write_verbose(struct node *n, struct buf *b)
{
    char why[256];
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        const struct node_group *g = &n->groups[i];
        if (group_unready(n, g, why, sizeof why)) {
            buf_printf(b, "[-] %s\n", why);
        } else if (g->hosted) {
            buf_printf(b, "[+] group %u: leader %s, applied %llu\n", g->id, node_name_of(n, g->leader), (unsigned long long)g->applied);
        }
    }
    buf_printf(b, "%s\n%s\n", n->space_low ? "[-] disk: full, writes are refused" : "[+] disk: takes writes",
               n->stopping ? "[-] shutdown: in progress" : "[+] shutdown: none");
}

void http_readyz(struct http_call *h)
{
    struct buf reasons = {0};
    slice_t v;
    bool ready = unready_reasons(h->n, &reasons) == 0;
    struct http_answer a = {.n = h->n, .status = ready ? 200 : 503, .type = HTTP_TEXT};
    if (http_query(h->req, "verbose", &v)) {
        write_verbose(h->n, &a.body);
    }
    buf_append_str(&a.body, ready ? "ok\n" : "not ready\n");
    http_send(h, &a);
    buf_fini(&a.body);
    buf_fini(&reasons);
}

void http_health(struct http_call *h)
{
    struct node *n = h->n;
    struct buf reasons = {0};
    bool ready = unready_reasons(n, &reasons) == 0;
    struct http_answer a = {.n = n, .status = ready ? 200 : 503, .type = HTTP_JSON};
    struct buf *b = &a.body;
    buf_printf(b, "{\"status\":\"%s\",\"live\":true,\"ready\":%s,\"reasons\":[", ready ? "ok" : "degraded", ready ? "true" : "false");
    buf_append_slice(b, buf_slice(&reasons));
    buf_append_str(b, "],\"node_id\":");
    json_put_str(b, node_name_of(n, n->opt.self));
    buf_printf(b, ",\"version\":\"%s\",\"uptime_ms\":%llu}", SYNAXIS_VERSION, (unsigned long long)(n->now_ms - n->started_ms));
    http_send(h, &a);
    buf_fini(&a.body);
    buf_fini(&reasons);
}

static const char *role_in_state(enum consensus_role r)
{
    return r == ROLE_LEADER ? "LEADER" : r == ROLE_FOLLOWER || r == ROLE_LEARNER ? "FOLLOWER" : "CANDIDATE";
}

/* The groups of CLUSTER.GROUPS as JSON. */
static void put_groups(struct node *n, struct buf *b)
{
    struct buf resp = {0};
    cluster_groups(n, &resp);
    json_key(b, "groups");
    resp_to_json(b, buf_slice(&resp), ID_KEYS);
    buf_fini(&resp);
}

/* The top level is group 0, where members and sessions live. */
void http_raft_state(struct http_call *h)
{
    struct node *n = h->n;
    const struct node_group *g = &n->groups[0];
    struct consensus_status st = {.leader = g->leader, .term = g->term, .role = ROLE_LEARNER};
    if (g->hosted) {
        consensus_status(g->consensus, &st);
    }
    struct http_answer a = {.n = n, .status = 200, .type = HTTP_JSON};
    struct buf *b = &a.body;
    buf_append_str(b, "{\"node_id\":");
    json_put_str(b, node_name_of(n, n->opt.self));
    buf_printf(b, ",\"role\":\"%s\",\"term\":%llu,\"leader\":", role_in_state(st.role), (unsigned long long)st.term);
    if (st.leader != 0) {
        json_put_str(b, node_name_of(n, st.leader));
    } else {
        buf_append_str(b, "null");
    }
    buf_printf(b, ",\"commit_index\":%llu,\"applied_index\":%llu", (unsigned long long)st.commit, (unsigned long long)g->applied);
    put_groups(n, b);
    buf_put_u8(b, '}');
    http_send(h, &a);
    buf_fini(&a.body);
}

void http_openapi(struct http_call *h)
{
    struct http_answer a = {.n = h->n, .status = 200, .type = HTTP_JSON};
    buf_append(&a.body, openapi_json, openapi_json_bytes);
    http_send(h, &a);
    buf_fini(&a.body);
}

void http_cluster(struct http_call *h)
{
    struct http_answer a = {.n = h->n, .status = 200, .type = HTTP_JSON};
    struct buf resp = {0};
    cluster_nodes(h->n, &resp);
    buf_append_str(&a.body, "{\"node_id\":");
    json_put_str(&a.body, node_name_of(h->n, h->n->opt.self));
    json_key(&a.body, "nodes");
    resp_to_json(&a.body, buf_slice(&resp), ID_KEYS);
    put_groups(h->n, &a.body);
    buf_put_u8(&a.body, '}');
    http_send(h, &a);
    buf_fini(&a.body);
    buf_fini(&resp);
}
