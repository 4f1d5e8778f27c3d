/* /metrics: the gauges are taken from the node when somebody looks; counters that others keep are mirrored. */
#include "nodes/doors/cache_door.h"
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

void queue_stats_of(const struct node *n, struct queue_sm_stats *sum, struct topics_stats *topics, uint64_t *young)
{
    *sum = (struct queue_sm_stats){0};
    *topics = (struct topics_stats){0};
    *young = 0;
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        const struct group_queue *q = &n->groups[i].q;
        struct queue_sm_stats st;
        if (q->sm == NULL) {
            continue;
        }
        queue_sm_stats(q->sm, &st);
        const uint64_t *from = (const uint64_t *)&st;
        uint64_t *to = (uint64_t *)sum;
        for (size_t k = 0; k < sizeof st / sizeof *from; k++) { /* nothing but counts */
            to[k] += from[k];
        }
        *young += queue_log_young_bytes(q->log);
        if (q->topics != NULL) {
            topics_stats(q->topics, topics);
        }
    }
}

/* Without labels: a topic's name is a client's word, and there may be 100,000 of them. */
static void fill_queues(struct node *n)
{
    struct queue_sm_stats s;
    struct topics_stats t;
    uint64_t young;
    struct metrics *m = &n->metrics;
    queue_stats_of(n, &s, &t, &young);
    metrics_set(m, METRIC_QUEUE_TOPICS, t.topics);
    metrics_set(m, METRIC_QUEUE_PARTITIONS, s.partitions);
    metrics_set(m, METRIC_QUEUE_SIZE, s.messages);
    metrics_set(m, METRIC_QUEUE_BYTES, s.bytes);
    metrics_set(m, METRIC_QUEUE_YOUNG_BYTES, young);
    metrics_set(m, METRIC_QUEUE_STATE_BYTES, s.memory);
    metrics_set(m, METRIC_QUEUE_IN_FLIGHT, s.in_flight);
    metrics_set(m, METRIC_QUEUE_DEAD, s.dead);
    metrics_set(m, METRIC_QUEUE_PUBLISHED_TOTAL, s.published);
    metrics_set(m, METRIC_QUEUE_DUPLICATES_TOTAL, s.duplicates);
    metrics_set(m, METRIC_QUEUE_DELIVERIES_TOTAL, s.delivered);
    metrics_set(m, METRIC_QUEUE_REDELIVERIES_TOTAL, s.redelivered);
    metrics_set(m, METRIC_QUEUE_ACKED_TOTAL, s.acked);
    metrics_set(m, METRIC_QUEUE_NACKED_TOTAL, s.nacked);
    metrics_set(m, METRIC_QUEUE_DEAD_LETTERS_TOTAL, s.dead_lettered);
    metrics_set(m, METRIC_QUEUE_REDRIVEN_TOTAL, s.redriven);
    metrics_set(m, METRIC_QUEUE_EXPIRED_TOTAL, s.expired);
    metrics_set(m, METRIC_QUEUE_STALE_RECEIPTS_TOTAL, s.stale);
    metrics_set(m, METRIC_QUEUE_CONSUMER_GROUPS, t.groups);
    metrics_set(m, METRIC_QUEUE_MEMBERS, t.members);
    metrics_set(m, METRIC_QUEUE_REBALANCES_TOTAL, t.rebalances);
    metrics_set(m, METRIC_QUEUE_MEMBERS_EXPIRED_TOTAL, t.expired_members);
}

_Static_assert((int)METRIC_STATE_COUNT == (int)MESI_STATES, "every state has a label");

static void fill_lines(struct metrics *m, const struct cacher_stats *s)
{
    for (uint32_t i = 0; i < MESI_STATES; i++) {
        metrics_set_at(m, METRIC_CACHE_LINES, i, s->by_state[i]);
    }
    metrics_set(m, METRIC_CACHE_HITS_TOTAL, s->hits);
    metrics_set(m, METRIC_CACHE_MISSES_TOTAL, s->misses);
    metrics_set_at(m, METRIC_CACHE_BUS_TRANSACTIONS_TOTAL, METRIC_TRANSACTION_RD, s->gets);
    metrics_set_at(m, METRIC_CACHE_BUS_TRANSACTIONS_TOTAL, METRIC_TRANSACTION_RDX, s->getx);
    metrics_set_at(m, METRIC_CACHE_BUS_TRANSACTIONS_TOTAL, METRIC_TRANSACTION_UPGR, s->upgr);
    metrics_set_at(m, METRIC_CACHE_BUS_TRANSACTIONS_TOTAL, METRIC_TRANSACTION_FLUSH, s->flushes);
    metrics_set_at(m, METRIC_CACHE_BUS_TRANSACTIONS_TOTAL, METRIC_TRANSACTION_WRITE, s->writes);
    metrics_set(m, METRIC_CACHE_BYTES, s->bytes);
    metrics_set(m, METRIC_CACHE_EVICTIONS_TOTAL, s->evicted);
    metrics_set(m, METRIC_CACHE_INVALIDATIONS_TOTAL, s->invalidated);
    metrics_set(m, METRIC_CACHE_DOWNGRADES_TOTAL, s->downgraded);
    metrics_set(m, METRIC_CACHE_FLUSHES_TOTAL, s->flushes);
    metrics_set(m, METRIC_CACHE_WRITES_LOST_TOTAL, s->lost);
    metrics_set(m, METRIC_CACHE_LEASE_EXPIRIES_TOTAL, s->lease_ends);
}

static void fill_homes(struct metrics *m, const struct home_stats *h)
{
    metrics_set_at(m, METRIC_CACHE_SERVED_TRANSACTIONS_TOTAL, METRIC_TRANSACTION_RD, h->bus_rd);
    metrics_set_at(m, METRIC_CACHE_SERVED_TRANSACTIONS_TOTAL, METRIC_TRANSACTION_RDX, h->bus_rdx);
    metrics_set_at(m, METRIC_CACHE_SERVED_TRANSACTIONS_TOTAL, METRIC_TRANSACTION_UPGR, h->bus_upgr);
    metrics_set_at(m, METRIC_CACHE_SERVED_TRANSACTIONS_TOTAL, METRIC_TRANSACTION_FLUSH, h->flushes);
    metrics_set_at(m, METRIC_CACHE_SERVED_TRANSACTIONS_TOTAL, METRIC_TRANSACTION_WRITE, h->writes);
    metrics_set(m, METRIC_CACHE_SENT_INVALIDATIONS_TOTAL, h->invs);
    metrics_set(m, METRIC_CACHE_SENT_DOWNGRADES_TOTAL, h->downs);
    metrics_set(m, METRIC_CACHE_FENCES_TOTAL, h->fences);
    metrics_set(m, METRIC_CACHE_LEASES_GRANTED_TOTAL, h->leases);
    metrics_set(m, METRIC_CACHE_ACKS_OVERDUE_TOTAL, h->overdue);
    metrics_set(m, METRIC_CACHE_DIRECTORY_KEYS, h->keys);
}

/* Nothing here looks at every line or key: there may be millions. */
static void fill_cache(struct node *n)
{
    struct cacher_stats s;
    struct cache_counts k;
    struct metrics *m = &n->metrics;
    uint64_t tracking = 0;
    list_each(it, &n->doors->all) {
        tracking += CONTAINER_OF(it, struct conn, all)->tracking;
    }
    cacher_stats(n->cache.cacher, &s);
    cache_counts(n, &k);
    fill_lines(m, &s);
    fill_homes(m, &k.home);
    metrics_set(m, METRIC_CACHE_MEMORY_KEYS, k.memory.keys);
    metrics_set(m, METRIC_CACHE_MEMORY_BYTES, k.memory.bytes);
    metrics_set(m, METRIC_CACHE_MEMORY_BOUND_BYTES, k.memory.bound);
    metrics_set(m, METRIC_CACHE_MEMORY_EXPIRING, k.memory.with_expiry);
    metrics_set(m, METRIC_CACHE_MEMORY_EXPIRED_TOTAL, k.memory.expired);
    metrics_set(m, METRIC_CACHE_FLUSHES_REFUSED_TOTAL, k.memory.flushes_refused);
    metrics_set(m, METRIC_CACHE_TRACKING_CLIENTS, tracking);
    metrics_set(m, METRIC_CACHE_TRACKING_KEYS, n->doors->cache->tracked.count);
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
    fill_queues(h->n);
    fill_cache(h->n);
    fill_groups(h->n);
    fill_node(h->n);
    metrics_render(&h->n->metrics, node_name_of(h->n, h->n->opt.self), &a.body);
    http_send(h, &a);
    buf_fini(&a.body);
}
