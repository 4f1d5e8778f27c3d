/* What settings must have to do with each other before a node may start (bad input I44, operator faults H1 and H2). Each
 * refusal names the settings and what to set; a warning stops nothing. */
#include "utils/config_internal.h"

static uint64_t number(const struct config *c, enum setting s) { return c->values[s].number; }
static bool empty(const struct config *c, enum setting s) { return c->values[s].text.len == 0; }

static bool is_loopback(const char *host)
{
    bool address = strspn(host, "0123456789.") == strlen(host); /* not a name that merely begins like one */
    return (address && strncmp(host, "127.", 4) == 0) || strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}

static bool check_times(struct config *c, struct buf *error)
{
    unsigned long long min = number(c, SETTING_ELECTION_TIMEOUT_MIN), max = number(c, SETTING_ELECTION_TIMEOUT_MAX),
                       heartbeat = number(c, SETTING_HEARTBEAT_INTERVAL);
    if (min > max) {
        buf_printf(error, "ELECTION_TIMEOUT_MIN=%llu is above ELECTION_TIMEOUT_MAX=%llu", min, max);
        return false;
    }
    if (heartbeat >= min) {
        buf_printf(error, "HEARTBEAT_INTERVAL=%llu must be below ELECTION_TIMEOUT_MIN=%llu, or no leader lasts", heartbeat, min);
        return false;
    }
    if (heartbeat * 2 > min) {
        buf_printf(&c->warnings, "HEARTBEAT_INTERVAL=%llu is over half of ELECTION_TIMEOUT_MIN=%llu: one late heartbeat "
                   "starts an election\n", heartbeat, min);
    }
    if (min == max) {
        buf_printf(&c->warnings, "ELECTION_TIMEOUT_MIN and ELECTION_TIMEOUT_MAX are equal: split votes will repeat\n");
    }
    return true;
}

static bool check_size(struct config *c, struct buf *error)
{
    bool pbft = number(c, SETTING_CONSENSUS_TYPE) == 1;
    uint64_t rf = number(c, SETTING_REPLICATION_FACTOR), min_quorum = number(c, SETTING_MIN_QUORUM);
    if (pbft && (c->n_members < 4 || c->n_members % 3 != 1)) {
        buf_printf(error, "CONSENSUS_TYPE=pbft needs 3f+1 nodes (4, 7, 10, ...), CLUSTER_NODES has %u", c->n_members);
        return false;
    }
    if (rf > c->n_members) {
        if (config_is_set(c, SETTING_REPLICATION_FACTOR)) {
            buf_printf(&c->warnings, "REPLICATION_FACTOR=%llu is more than the %u nodes of CLUSTER_NODES; %u are used\n",
                       (unsigned long long)rf, c->n_members, c->n_members);
        }
        rf = c->values[SETTING_REPLICATION_FACTOR].number = c->n_members;
    }
    if (min_quorum > rf / 2 + 1) {
        buf_printf(error, "MIN_QUORUM=%llu is more than the majority, %llu, of %llu replicas", (unsigned long long)min_quorum,
                   (unsigned long long)(rf / 2 + 1), (unsigned long long)rf);
        return false;
    }
    if (!pbft && c->n_members % 2 == 0) {
        buf_printf(&c->warnings, "CLUSTER_NODES has %u nodes: an even number survives no more failures than %u\n", c->n_members,
                   c->n_members - 1);
    }
    if (number(c, SETTING_GROUPS) == 0) {
        c->values[SETTING_GROUPS].number = 2 * c->n_members;
    }
    return true;
}

static bool check_ports(struct config *c, struct buf *error)
{
    static const enum setting ports[] = {SETTING_RESP_PORT, SETTING_PEER_PORT, SETTING_NODE_PORT, SETTING_METRICS_PORT};
    for (size_t i = 0; i < sizeof ports / sizeof *ports; i++) {
        for (size_t j = 0; j < i; j++) {
            if (number(c, ports[i]) == number(c, ports[j])) {
                buf_printf(error, "%s and %s are both %llu; they must differ", setting_table[ports[j]].name,
                           setting_table[ports[i]].name, (unsigned long long)number(c, ports[i]));
                return false;
            }
        }
    }
    if (number(c, SETTING_PEER_PORT) != config_self(c)->port) {
        buf_printf(&c->warnings, "PEER_PORT=%llu is not the port of %s in CLUSTER_NODES (%u): peers will dial that one\n",
                   (unsigned long long)number(c, SETTING_PEER_PORT), config_self(c)->name, config_self(c)->port);
    }
    return true;
}

/* Reachable from elsewhere means protected: a stranger must neither be a client nor a member. */
static bool check_exposure(struct config *c, struct buf *error)
{
    const char *host = config_text(c, SETTING_NODE_HOST);
    bool clients = !empty(c, SETTING_REQUIREPASS) || !empty(c, SETTING_ACL_FILE);
    bool peers = !empty(c, SETTING_PEER_SECRET) || !empty(c, SETTING_PEER_KEYS);
    if (is_loopback(host) || (clients && peers)) {
        return true;
    }
    buf_printf(error, "NODE_HOST=%s can be reached from other machines: set ", host);
    buf_append_str(error, clients ? "" : "REQUIREPASS or ACL_FILE for clients");
    buf_append_str(error, clients || peers ? "" : " and ");
    buf_append_str(error, peers ? "" : "PEER_SECRET (or PEER_KEYS) for peers");
    buf_append_str(error, ", or NODE_HOST=127.0.0.1");
    return false;
}

static bool check_pairs(struct config *c, struct buf *error)
{
    if (empty(c, SETTING_TLS_CERT) != empty(c, SETTING_TLS_KEY)) {
        buf_printf(error, "%s is set without %s; TLS needs both", empty(c, SETTING_TLS_CERT) ? "TLS_KEY" : "TLS_CERT",
                   empty(c, SETTING_TLS_CERT) ? "TLS_CERT" : "TLS_KEY");
        return false;
    }
    if (!empty(c, SETTING_TLS_CA) && empty(c, SETTING_TLS_CERT)) {
        buf_append_str(error, "TLS_CA is set without TLS_CERT and TLS_KEY");
        return false;
    }
    if (number(c, SETTING_STATE_STORE) == 1 && empty(c, SETTING_REDIS_URL)) {
        buf_append_str(error, "STATE_STORE=redis needs REDIS_URL");
        return false;
    }
    return true;
}

bool config_cross_check(struct config *c, struct buf *error)
{
    return check_times(c, error) && check_size(c, error) && check_ports(c, error) && check_exposure(c, error) &&
           check_pairs(c, error);
}
