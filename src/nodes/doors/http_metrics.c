/* /metrics: the gauges are taken from the node when somebody looks; counters that others keep are mirrored. */
#include "nodes/doors/http_door.h"

static void add_locks(struct lock_sm_stats *sum, const struct lock_sm_stats *st)
{
    sum->held_shared += st->held_shared;
    sum->held_exclusive += st->held_exclusive;
    sum->resources += st->resources;
    sum->waiters += st->waiters;
    sum->sessions += st->sessions;
    sum->grants += st->grants;
    sum->releases += st->releases;
    sum->timeouts += st->timeouts;
    sum->deadlocks += st->deadlocks;
    sum->expirations += st->expirations;
    sum->forced += st->forced;
    sum->stale += st->stale;
    sum->bytes += st->bytes;
}

static void fill_locks(struct node *n)
{
    struct lock_sm_stats sum = {0}, st;
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        if (n->groups[i].locks != NULL) {
            lock_sm_stats(n->groups[i].locks, &st);
            add_locks(&sum, &st);
        }
    }
    struct metrics *m = &n->metrics;
    metrics_set_at(m, METRIC_ACTIVE_LOCKS, METRIC_LOCK_SHARED, sum.held_shared);
    metrics_set_at(m, METRIC_ACTIVE_LOCKS, METRIC_LOCK_EXCLUSIVE, sum.held_exclusive);
    metrics_set(m, METRIC_LOCK_RESOURCES, sum.resources);
    metrics_set(m, METRIC_LOCK_WAITERS, sum.waiters);
    metrics_set(m, METRIC_SESSIONS, sum.sessions);
    metrics_set(m, METRIC_LOCK_GRANTS_TOTAL, sum.grants);
    metrics_set(m, METRIC_LOCK_RELEASES_TOTAL, sum.releases);
    metrics_set(m, METRIC_LOCK_TIMEOUTS_TOTAL, sum.timeouts);
    metrics_set(m, METRIC_LOCK_DEADLOCKS_TOTAL, sum.deadlocks);
    metrics_set(m, METRIC_LOCK_EXPIRATIONS_TOTAL, sum.expirations);
    metrics_set(m, METRIC_LOCK_FORCED_TOTAL, sum.forced);
    metrics_set(m, METRIC_LOCK_STALE_TOTAL, sum.stale);
    metrics_set(m, METRIC_LOCK_STATE_BYTES, sum.bytes);
}

static void fill_groups(struct node *n)
{
    uint64_t led = 0, elections = 0;
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        const struct node_group *g = &n->groups[i];
        if (!g->hosted) {
            metrics_group_drop(&n->metrics, i);
            continue;
        }
        struct consensus_status st;
        consensus_status(g->consensus, &st);
        led += st.role == ROLE_LEADER;
        elections += st.elections;
        metrics_group_set(&n->metrics, i, METRIC_GROUP_TERM, st.term);
        metrics_group_set(&n->metrics, i, METRIC_GROUP_ROLE, (uint64_t)st.role);
        metrics_group_set(&n->metrics, i, METRIC_GROUP_COMMIT_INDEX, st.commit);
        metrics_group_set(&n->metrics, i, METRIC_GROUP_APPLIED_INDEX, g->applied);
        metrics_group_set(&n->metrics, i, METRIC_GROUP_LOG_ENTRIES, st.last > st.snapshot ? st.last - st.snapshot : 0);
    }
    metrics_set(&n->metrics, METRIC_CONSENSUS_GROUPS_LED, led);
    metrics_set(&n->metrics, METRIC_CONSENSUS_ELECTIONS_TOTAL, elections);
}

static void fill_node(struct node *n)
{
    uint64_t linked = 0, doors[METRIC_DOOR_COUNT] = {0};
    for (uint32_t i = 0; i < n->n_peers; i++) {
        linked += peer_linked(&n->peers[i]);
    }
    list_each(it, &n->doors->all) {
        doors[CONTAINER_OF(it, struct conn, all)->kind == DOOR_RESP ? METRIC_DOOR_RESP : METRIC_DOOR_HTTP]++;
    }
    struct metrics *m = &n->metrics;
    metrics_set(m, METRIC_PEER_LINKS, linked);
    metrics_set(m, METRIC_CLUSTER_NODES, n->opt.n_members);
    metrics_set(m, METRIC_CLUSTER_NODES_ALIVE, linked + 1);
    metrics_set_at(m, METRIC_CONNECTIONS, METRIC_DOOR_RESP, doors[METRIC_DOOR_RESP]);
    metrics_set_at(m, METRIC_CONNECTIONS, METRIC_DOOR_HTTP, doors[METRIC_DOOR_HTTP]);
    metrics_set(m, METRIC_REQUESTS_IN_FLIGHT, n->n_requests);
    metrics_set(m, METRIC_REQUESTS_PARKED, n->n_parked);
    metrics_set(m, METRIC_WAL_SPACE_LOW, n->space_low);
}

void http_metrics(struct http_call *h)
{
    struct http_answer a = {.n = h->n, .status = 200, .type = "text/plain; version=0.0.4; charset=utf-8"};
    fill_locks(h->n);
    fill_groups(h->n);
    fill_node(h->n);
    metrics_render(&h->n->metrics, node_name_of(h->n, h->n->opt.self), &a.body);
    http_send(h, &a);
    buf_fini(&a.body);
}
