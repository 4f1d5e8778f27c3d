/* Random runs (random_run.h): every seed chooses its own mix of faults, so that some are absent and others are extreme. */
#include "random_run.h"

#include <stdio.h>

#include "cluster.h"

enum { STEP_MS = 5, FAULTS_MS = 8000, ELECTION_MS = 300, HEARTBEAT_MS = 50 };

struct mix {
    uint32_t propose_ppm, read_ppm, config_ppm, crash_ppm, restart_ppm, partition_ppm, heal_ppm, snapshot_ppm, transfer_ppm;
    bool quiesce;
};

static uint32_t pick(struct prng *g, const uint32_t *choices, uint32_t n)
{
    return choices[prng_below(g, n)];
}

static struct mix choose_mix(struct cluster *k)
{
    struct prng *g = &k->prng;
    k->loss_ppm = pick(g, (uint32_t[]){0, 10000, 50000, 200000}, 4);
    k->dup_ppm = pick(g, (uint32_t[]){0, 20000, 100000}, 3);
    k->delay_ms_max = pick(g, (uint32_t[]){0, 5, 20, 80}, 4);
    k->disk_ms_max = pick(g, (uint32_t[]){0, 3, 20, 60}, 4);
    k->snapshot_keep = pick(g, (uint32_t[]){0, 5, 40}, 3);
    k->options.inflight_msgs_max = pick(g, (uint32_t[]){1, 4, 128}, 3);
    return (struct mix){.propose_ppm = pick(g, (uint32_t[]){20000, 200000, 700000}, 3),
                        .read_ppm = pick(g, (uint32_t[]){0, 100000}, 2),
                        .config_ppm = pick(g, (uint32_t[]){0, 0, 20000, 100000}, 4),
                        .crash_ppm = pick(g, (uint32_t[]){0, 500, 3000}, 3),
                        .restart_ppm = pick(g, (uint32_t[]){10000, 50000}, 2),
                        .partition_ppm = pick(g, (uint32_t[]){0, 1000, 5000}, 3),
                        .heal_ppm = pick(g, (uint32_t[]){5000, 30000}, 2),
                        .snapshot_ppm = pick(g, (uint32_t[]){0, 1000, 20000}, 3),
                        .transfer_ppm = pick(g, (uint32_t[]){0, 2000}, 2),
                        .quiesce = prng_chance(g, 300000)};
}

static void change_members(struct cluster *k, node_id_t leader)
{
    struct consensus *c = k->nodes[leader].c;
    struct consensus_config next = *consensus_config_now(c);
    node_id_t id = (node_id_t)prng_range(&k->prng, 1, k->n);
    uint32_t at = 0;
    while (at < next.count && next.members[at].id != id) {
        at++;
    }
    if (at == next.count) {
        next.members[next.count++] = (struct consensus_member){.id = id, .voter = prng_chance(&k->prng, 300000)};
    } else if (!next.members[at].voter || prng_chance(&k->prng, 300000)) {
        next.members[at].voter = !next.members[at].voter;
    } else if (next.count > 3) {
        next.members[at] = next.members[--next.count];
    }
    struct consensus_status st;
    consensus_status(c, &st);
    uint64_t index;
    if (consensus_change_config(c, &next, k->now_ms, &index) == PROPOSE_OK) {
        k->configs_done++;
        if (!st.ready) {
            cluster_fail(k, "R10: leader %u changes members before an entry of its term is committed", leader);
        }
    }
}

static void partition(struct cluster *k)
{
    bool one_way = prng_chance(&k->prng, 300000);
    uint64_t side = prng_u64(&k->prng);
    for (node_id_t a = 1; a <= k->n; a++) {
        for (node_id_t b = 1; b <= k->n; b++) {
            bool apart = (side >> a & 1) != (side >> b & 1);
            k->blocked[a][b] = apart && !(one_way && (side >> a & 1));
        }
    }
}

static void heal(struct cluster *k)
{
    memset(k->blocked, 0, sizeof k->blocked);
}

static bool chance(struct cluster *k, uint32_t ppm)
{
    return prng_chance(&k->prng, ppm);
}

static void act_on(struct cluster *k, const struct mix *m, node_id_t id)
{
    struct node *d = &k->nodes[id];
    if (d->c == NULL) {
        if (chance(k, m->restart_ppm)) {
            cluster_start(k, id);
        }
        return;
    }
    if (chance(k, m->crash_ppm)) {
        cluster_crash(k, id, prng_below(&k->prng, d->n_writes + 1));
        return;
    }
    if (chance(k, m->snapshot_ppm)) {
        cluster_snapshot(k, id);
    }
    if (d->status.role == ROLE_LEADER) {
        uint64_t number = prng_u64(&k->prng);
        if (chance(k, m->propose_ppm)) {
            for (uint64_t n = prng_range(&k->prng, 1, 4); n > 0; n--) {
                cluster_propose(k, id, slice_of(&number, 1 + number % 8));
            }
        }
        if (chance(k, m->read_ppm)) {
            cluster_read(k, id);
        }
        if (chance(k, m->config_ppm)) {
            change_members(k, id);
        }
        if (chance(k, m->transfer_ppm)) {
            consensus_transfer(d->c, (node_id_t)prng_range(&k->prng, 1, k->n), k->now_ms);
        }
        consensus_allow_quiesce(d->c, m->quiesce && chance(k, 500000), k->now_ms);
    }
    cluster_pump(k, id);
}

static void faults(struct cluster *k, const struct mix *m)
{
    for (uint64_t end = k->now_ms + FAULTS_MS; k->now_ms < end;) {
        cluster_run(k, STEP_MS);
        if (chance(k, m->partition_ppm)) {
            partition(k);
        }
        if (chance(k, m->heal_ppm)) {
            heal(k);
        }
        for (node_id_t id = 1; id <= k->n; id++) {
            act_on(k, m, id);
        }
    }
}

static void run_for(struct cluster *k, uint64_t ms)
{
    for (uint64_t end = k->now_ms + ms; k->now_ms < end;) {
        cluster_run(k, STEP_MS);
    }
}

/* What is left of the faults: everybody up, all links whole, a good disk; wanderers may still arrive. */
static void make_peace(struct cluster *k)
{
    heal(k);
    k->loss_ppm = k->dup_ppm = k->delay_ms_max = 0;
    k->disk_ms_max = 0;
    for (node_id_t id = 1; id <= k->n; id++) {
        if (k->nodes[id].c == NULL) {
            cluster_start(k, id);
        }
        consensus_allow_quiesce(k->nodes[id].c, false, k->now_ms);
        consensus_wake(k->nodes[id].c, k->now_ms);
        cluster_pump(k, id);
    }
}

static bool is_level(const struct cluster *k, node_id_t leader)
{
    const struct node *l = &k->nodes[leader];
    const struct consensus_config *config = consensus_config_now(l->c);
    bool level = l->status.ready && l->applied == l->status.last;
    for (uint32_t i = 0; i < config->count; i++) {
        const struct node *d = &k->nodes[config->members[i].id];
        level = level && d->applied == l->applied && d->digest == l->digest;
    }
    return level;
}

/* A backlog takes its time where a run chose windows of a few bytes, and it may hold a change of members that moves the
 * leadership; it must end all the same. */
static node_id_t come_level(struct cluster *k)
{
    for (uint64_t end = k->now_ms + 60000; k->now_ms < end; cluster_run(k, STEP_MS)) {
        node_id_t leader = cluster_leader(k);
        if (leader != 0 && is_level(k, leader)) {
            return leader;
        }
    }
    cluster_fail(k, "R16: the leader and its members do not come level");
}

/* R16: one leader within ten election timeouts; with the backlog gone it serves writes and reads, does not change for a
 * hundred heartbeats, and every member ends with the same digest. */
static void demand_liveness(struct cluster *k)
{
    run_for(k, 10 * ELECTION_MS);
    if (cluster_leader(k) == 0) {
        cluster_fail(k, "R16: no leader ten election timeouts after the faults ended");
    }
    node_id_t leader = come_level(k);
    uint64_t changes = k->leader_changes, reads = k->reads_done;
    bool ok = cluster_propose(k, leader, SLICE_LIT("end"));
    bool read = cluster_read(k, leader);
    cluster_pump(k, leader);
    run_for(k, 100 * HEARTBEAT_MS);
    if (!ok || !read || k->reads_done == reads) {
        cluster_fail(k, "R16: leader %u does not serve (propose %d, read %d)", leader, ok, read);
    }
    if (k->leader_changes != changes || come_level(k) != leader) {
        cluster_fail(k, "R16: the leader changed in peace");
    }
}

void random_run(uint64_t seed, struct random_totals *totals)
{
    static struct cluster k; /* large: votes of every term */
    struct prng g;
    prng_init(&g, seed);
    uint32_t voters = prng_chance(&g, 600000) ? 3 : 5;
    cluster_init(&k, voters + (uint32_t)prng_below(&g, 2), voters, seed,
                 (uint32_t[]){64, 1000, 262144}[prng_below(&g, 3)]);
    struct mix m = choose_mix(&k);
    faults(&k, &m);
    make_peace(&k);
    demand_liveness(&k);
    totals->virtual_ms += k.now_ms;
    totals->applied += k.applied_total;
    totals->reads += k.reads_done;
    totals->leader_changes += k.leader_changes;
    totals->crashes += k.crashes;
    totals->snapshots += k.snapshots_sent;
    totals->configs += k.configs_done;
    cluster_fini(&k);
}
