/* Server commands: INFO, CONFIG and the small ones that clients and tools ask for. */
#include "nodes/doors/cache_door.h"
#include "nodes/doors/cmd.h"

#include <stdio.h>

static bool wants(const struct call *c, const char *section)
{
    if (c->argc == 1) {
        return true;
    }
    for (uint32_t i = 1; i < c->argc; i++) {
        if (slice_ieq(c->argv[i], section) || slice_ieq(c->argv[i], "all") || slice_ieq(c->argv[i], "everything") ||
            slice_ieq(c->argv[i], "default")) {
            return true;
        }
    }
    return false;
}

static void info_server(struct node *n, struct buf *b)
{
    uint64_t up = (n->now_ms - n->started_ms) / 1000;
    buf_printf(b, "# Server\r\nredis_version:%s\r\nsynaxis_version:%s\r\nredis_mode:standalone\r\nserver_name:synaxis\r\n", REDIS_VERSION,
               SYNAXIS_VERSION);
    buf_printf(b, "node_id:%s\r\nrun_id:%016llx%016llx\r\ntcp_port:%u\r\nhttp_port:%u\r\nuptime_in_seconds:%llu\r\nuptime_in_days:%llu\r\n",
               node_name_of(n, n->opt.self), (unsigned long long)n->opt.node_uuid, (unsigned long long)n->opt.incarnation,
               n->opt.resp_port, n->opt.http_port, (unsigned long long)up, (unsigned long long)up / 86400);
}

static void info_clients(struct node *n, struct buf *b)
{
    buf_printf(b, "# Clients\r\nconnected_clients:%llu\r\nblocked_clients:%llu\r\nmaxclients:10000\r\n",
               (unsigned long long)n->doors->n_conns, (unsigned long long)n->n_requests);
}

static void info_stats(struct node *n, struct buf *b)
{
    buf_printf(b, "# Stats\r\ntotal_connections_received:%llu\r\ntotal_commands_processed:%llu\r\n",
               (unsigned long long)n->doors->total_conns, (unsigned long long)n->doors->total_commands);
    buf_printf(b, "total_net_input_bytes:%llu\r\ntotal_net_output_bytes:%llu\r\nrequests_in_flight:%llu\r\nrequests_parked:%llu\r\n",
               (unsigned long long)metrics_get(&n->metrics, METRIC_BYTES_IN_TOTAL),
               (unsigned long long)metrics_get(&n->metrics, METRIC_BYTES_OUT_TOTAL), (unsigned long long)n->n_requests,
               (unsigned long long)n->n_parked);
    struct cacher_stats s;
    struct cache_counts k;
    cacher_stats(n->cache.cacher, &s);
    cache_counts(n, &k);
    buf_printf(b, "expired_keys:%llu\r\nevicted_keys:%llu\r\nkeyspace_hits:%llu\r\nkeyspace_misses:%llu\r\ntracking_total_keys:%llu\r\n",
               (unsigned long long)k.memory.expired, (unsigned long long)s.evicted, (unsigned long long)s.hits, (unsigned long long)s.misses,
               (unsigned long long)n->doors->cache->tracked.count);
}

static void info_cache(struct node *n, struct buf *b)
{
    struct cacher_stats s;
    struct cache_counts k;
    cacher_stats(n->cache.cacher, &s);
    cache_counts(n, &k);
    const struct { const char *name; uint64_t value; } rows[] = {
        {"cache_lines", s.lines}, {"cache_bytes", s.bytes}, {"cache_dirty", s.dirty}, {"cache_hits", s.hits}, {"cache_misses", s.misses},
        {"cache_invalidations", s.invalidated}, {"cache_downgrades", s.downgraded}, {"cache_flushes", s.flushes}, {"cache_evictions", s.evicted},
        {"cache_writes_lost", s.lost}, {"cache_lease_expiries", s.lease_ends}, {"cache_homes", k.homes}, {"cache_directory_keys", k.home.keys},
        {"cache_memory_keys", k.memory.keys}, {"cache_memory_bytes", k.memory.bytes}, {"cache_memory_bound", k.memory.bound}};
    buf_printf(b, "# Cache\r\ncache_write_policy:%s\r\n", n->opt.cache_back ? "back" : "through");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buf_printf(b, "%s:%llu\r\n", rows[i].name, (unsigned long long)rows[i].value);
    }
}

static void info_synaxis(struct node *n, struct buf *b)
{
    uint32_t led = 0, without = 0, linked = 0;
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        led += group_leads(&n->groups[i]);
        without += n->groups[i].leader == 0;
    }
    for (uint32_t i = 0; i < n->n_peers; i++) {
        linked += peer_linked(&n->peers[i]);
    }
    buf_printf(b, "# Synaxis\r\ncluster_members:%u\r\npeers_linked:%u\r\ngroups:%u\r\ngroups_led:%u\r\ngroups_without_leader:%u\r\nspace_low:%d\r\n",
               n->opt.n_members, linked, n->opt.groups, led, without, n->space_low);
}

static void info_locks(struct node *n, struct buf *b)
{
    struct lock_sm_stats sum = {0}, st;
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        if (n->groups[i].locks == NULL) {
            continue;
        }
        lock_sm_stats(n->groups[i].locks, &st);
        sum.held_shared += st.held_shared;
        sum.held_exclusive += st.held_exclusive;
        sum.waiters += st.waiters;
        sum.sessions += st.sessions;
        sum.grants += st.grants;
        sum.deadlocks += st.deadlocks;
        sum.expirations += st.expirations;
    }
    buf_printf(b, "# Locks\r\nlocks_shared:%llu\r\nlocks_exclusive:%llu\r\nlock_waiters:%llu\r\nsessions:%llu\r\nlock_grants:%llu\r\n"
                  "lock_deadlocks:%llu\r\nlock_expirations:%llu\r\n",
               (unsigned long long)sum.held_shared, (unsigned long long)sum.held_exclusive, (unsigned long long)sum.waiters,
               (unsigned long long)sum.sessions, (unsigned long long)sum.grants, (unsigned long long)sum.deadlocks,
               (unsigned long long)sum.expirations);
}

static void info_queues(struct node *n, struct buf *b)
{
    struct queue_sm_stats s;
    struct topics_stats t;
    uint64_t young;
    queue_stats_of(n, &s, &t, &young);
    const struct { const char *name; uint64_t value; } rows[] = {
        {"topics", t.topics}, {"queue_partitions", s.partitions}, {"queue_messages", s.messages}, {"queue_bytes", s.bytes},
        {"queue_young_bytes", young}, {"queue_in_flight", s.in_flight}, {"queue_dead", s.dead}, {"queue_published", s.published},
        {"queue_duplicates", s.duplicates}, {"queue_deliveries", s.delivered}, {"queue_redeliveries", s.redelivered},
        {"queue_acked", s.acked}, {"queue_dead_letters", s.dead_lettered}, {"queue_expired", s.expired},
        {"consumer_groups", t.groups}, {"consumer_group_members", t.members}, {"queue_rebalances", t.rebalances}};
    buf_append_str(b, "# Queues\r\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buf_printf(b, "%s:%llu\r\n", rows[i].name, (unsigned long long)rows[i].value);
    }
}

void handle_info(struct call *c)
{
    struct buf b = {0};
    static const struct {
        const char *name;
        void (*fn)(struct node *n, struct buf *b);
    } sections[] = {{"server", info_server}, {"clients", info_clients}, {"stats", info_stats}, {"locks", info_locks}, {"queues", info_queues},
                  {"cache", info_cache}, {"synaxis", info_synaxis}};
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (wants(c, sections[i].name)) {
            sections[i].fn(c->n, &b);
            buf_append_str(&b, "\r\n");
        }
    }
    if (wants(c, "persistence")) {
        buf_append_str(&b, "# Persistence\r\nloading:0\r\naof_enabled:1\r\n\r\n");
    }
    if (wants(c, "replication")) {
        buf_append_str(&b, "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\r\n");
    }
    if (wants(c, "keyspace")) {
        buf_append_str(&b, "# Keyspace\r\n");
    }
    resp_verbatim(c->reply, "txt", buf_slice(&b));
    buf_fini(&b);
}

/* Settings that Redis tools look at, and ours that can be read; only what can change at run time can be set. */
static bool config_value(const struct node *n, const char *name, char *out, size_t size)
{
    static const struct {
        const char *name, *value;
    } fixed[] = {{"save", ""},          {"appendonly", "yes"}, {"appendfsync", "always"},
                 {"databases", "1"},    {"timeout", "0"},      {"maxclients", "10000"},   {"maxmemory-policy", "noeviction"},
                 {"replica-read-only", "no"}};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        if (strcmp(fixed[i].name, name) == 0) {
            snprintf(out, size, "%s", fixed[i].value);
            return true;
        }
    }
    const struct {
        const char *name;
        uint64_t value;
    } live[] = {{"lock-ttl", n->opt.lock_ttl_ms},
                {"request-timeout", n->opt.request_timeout_ms},
                {"heartbeat-interval", n->opt.heartbeat_ms},
                {"election-timeout-min", n->opt.election_ms_min},
                {"election-timeout-max", n->opt.election_ms_max},
                {"groups", n->opt.groups},
                {"maxmemory", n->opt.cache_memory_bytes}};
    for (size_t i = 0; i < sizeof live / sizeof live[0]; i++) {
        if (strcmp(live[i].name, name) == 0) {
            snprintf(out, size, "%llu", (unsigned long long)live[i].value);
            return true;
        }
    }
    return false;
}

static const char *const CONFIG_NAMES[] = {"save", "appendonly", "appendfsync", "maxmemory", "databases", "timeout", "maxclients",
                                           "maxmemory-policy", "replica-read-only", "lock-ttl", "request-timeout",
                                           "heartbeat-interval", "election-timeout-min", "election-timeout-max", "groups"};

static void config_get(struct call *c)
{
    uint32_t n = 0;
    struct buf b = {0};
    for (size_t k = 0; k < sizeof CONFIG_NAMES / sizeof CONFIG_NAMES[0]; k++) {
        bool match = false;
        for (uint32_t i = 2; i < c->argc && !match; i++) {
            match = slice_ieq(c->argv[i], CONFIG_NAMES[k]) || slice_eq(c->argv[i], SLICE_LIT("*"));
        }
        char value[64];
        if (match && config_value(c->n, CONFIG_NAMES[k], value, sizeof value)) {
            resp_bulk_str(&b, CONFIG_NAMES[k]);
            resp_bulk_str(&b, value);
            n++;
        }
    }
    resp_map(c->reply, n);
    buf_append_slice(c->reply, buf_slice(&b));
    buf_fini(&b);
}

static void config_set(struct call *c)
{
    uint64_t v;
    if (c->argc != 4) {
        call_error(c, "ERR", "wrong number of arguments for 'config|set' command");
    } else if (slice_ieq(c->argv[2], "request-timeout")) {
        if (arg_u64(c, c->argv[3], "request-timeout", 10, 600000, &v)) {
            c->n->opt.request_timeout_ms = (uint32_t)v;
            resp_simple(c->reply, "OK");
        }
    } else {
        call_error(c, "ERR", "'%.*s' cannot be set at run time: set it in the environment and restart this node",
                   shown_length(c->argv[2]), (const char *)c->argv[2].ptr);
    }
}

void handle_config(struct call *c)
{
    if (slice_ieq(c->argv[1], "GET") && c->argc > 2) {
        config_get(c);
    } else if (slice_ieq(c->argv[1], "SET")) {
        config_set(c);
    } else if (slice_ieq(c->argv[1], "RESETSTAT")) {
        resp_simple(c->reply, "OK");
    } else {
        call_error(c, "ERR", "unknown subcommand. CONFIG GET name ..., CONFIG SET name value, CONFIG RESETSTAT");
    }
}

void handle_time(struct call *c)
{
    char s[24], us[24];
    snprintf(s, sizeof s, "%llu", (unsigned long long)c->n->wall_ms / 1000);
    snprintf(us, sizeof us, "%llu", (unsigned long long)(c->n->wall_ms % 1000) * 1000);
    resp_array(c->reply, 2);
    resp_bulk_str(c->reply, s);
    resp_bulk_str(c->reply, us);
}

void handle_role(struct call *c)
{
    resp_array(c->reply, 3);
    resp_bulk_str(c->reply, "master");
    resp_int(c->reply, 0);
    resp_array(c->reply, 0);
}

/* What was acknowledged is on a majority: the others of that majority are the replicas that hold it. */
void handle_wait(struct call *c)
{
    uint32_t rf = c->n->opt.replication_factor < c->n->opt.n_members ? c->n->opt.replication_factor : c->n->opt.n_members;
    resp_int(c->reply, rf / 2);
}

void handle_slowlog(struct call *c)
{
    if (slice_ieq(c->argv[1], "GET")) {
        resp_array(c->reply, 0);
    } else if (slice_ieq(c->argv[1], "LEN")) {
        resp_int(c->reply, 0);
    } else {
        resp_simple(c->reply, "OK");
    }
}

void handle_latency(struct call *c)
{
    if (slice_ieq(c->argv[1], "RESET")) {
        resp_int(c->reply, 0);
    } else {
        resp_array(c->reply, 0);
    }
}

void handle_module(struct call *c)
{
    resp_array(c->reply, 0);
}

void handle_shutdown(struct call *c)
{
    node_shutdown(c->n);
    resp_simple(c->reply, "OK");
}
