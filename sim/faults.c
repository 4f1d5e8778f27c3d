/* What goes wrong, how often, and when it stops (docs/simulator.md, fault table).
 *
 * Each seed switches every kind on or off with equal chance and draws its intensity (swarm testing, Groce et al. 2012): a run
 * without a fault reaches states that a run with all of them never does. Faults that happen at a moment are events here; those
 * that befall a frame, a flush or a start are drawn where that happens, by chance().
 *
 * Invariants: F1 at most one node ever loses its disk, so a majority of memories survives. F2 after faults_heal nothing new goes
 * wrong, and a quorum is whole; what is left broken stays so. */
#include "sim_queue.h"

#include <stdlib.h>

static const char *const NAMES[FAULT_COUNT] = {
#define X(name, text, what) text,
    SIM_FAULTS(X)
#undef X
};

static const char *const WHAT[FAULT_COUNT] = {
#define X(name, text, what) what,
    SIM_FAULTS(X)
#undef X
};

const char *fault_name(enum sim_fault f)
{
    return NAMES[f];
}

const char *fault_what(enum sim_fault f)
{
    return WHAT[f];
}

void fire(struct sim *s, enum sim_fault f)
{
    s->r->fired[f]++;
}

/* Kinds that are events, with the range of their mean interval in milliseconds. */
static const struct timed {
    enum sim_fault fault;
    uint32_t every_ms_min, every_ms_max;
} TIMED[] = {
    {FAULT_NET_CUT, 500, 8000},      {FAULT_NET_HALF_OPEN, 2000, 15000}, {FAULT_NET_PARTITION, 3000, 15000},
    {FAULT_NET_ISOLATE, 2000, 15000}, {FAULT_NET_ONE_WAY, 1000, 10000},  {FAULT_NET_BRIDGE, 4000, 15000},
    {FAULT_NET_CLOG, 1000, 10000},   {FAULT_NET_FLAP, 4000, 20000},      {FAULT_NET_SLOW, 3000, 15000},
    {FAULT_CRASH, 1000, 12000},      {FAULT_CRASH_EFFECT, 1000, 12000},  {FAULT_CRASH_LOOP, 8000, 30000},
    {FAULT_POWER_NODE, 2000, 15000}, {FAULT_POWER_ALL, 8000, 30000},     {FAULT_PAUSE, 1000, 12000},
    {FAULT_SHUTDOWN, 4000, 20000},   {FAULT_SLOW_CPU, 4000, 15000},      {FAULT_DISK_FULL, 5000, 20000},
    {FAULT_DISK_SLOW, 4000, 20000},  {FAULT_CLOCK_WALL, 1000, 10000},    {FAULT_OP_TRANSFER, 1000, 10000},
    {FAULT_OP_REMOVE, 6000, 20000},
};

enum { TIMED_COUNT = sizeof TIMED / sizeof TIMED[0] };

/* Chances per occasion (frame, flush, start, request), in millionths. */
static const struct rated {
    enum sim_fault fault;
    uint32_t ppm_min, ppm_max, mean_us_max;
} RATED[] = {
    {FAULT_NET_LOSS, 1000, 150000, 0},          {FAULT_NET_DUP, 1000, 200000, 3000000},
    {FAULT_NET_REORDER, 1000, 200000, 200000},  {FAULT_NET_TAIL, 1000, 50000, 500000},
    {FAULT_NET_CORRUPT, 200, 5000, 0},          {FAULT_NET_TRUNCATE, 100, 3000, 0},
    {FAULT_NET_LATE, 300000, 1000000, 5000000}, {FAULT_WIPE, 100000, 500000, 0},
    {FAULT_LATE_TIMER, 10000, 500000, 100000},  {FAULT_DISK_SLOW, 1000, 20000, 400000},
    {FAULT_DISK_SYNC_FAIL, 100, 3000, 0},       {FAULT_DISK_WRITE_FAIL, 100, 3000, 0},
    {FAULT_DISK_READ_FAIL, 100000, 500000, 0},  {FAULT_DISK_FLIP, 100000, 500000, 0},
    {FAULT_CLIENT_DIES, 5000, 80000, 0},        {FAULT_CLIENT_RETRY, 100000, 900000, 0},
    {FAULT_CLIENT_PAUSE, 10000, 100000, 0},     {FAULT_CLIENT_FLOOD, 2000, 20000, 0},
    {FAULT_CLIENT_SPLIT, 20000, 300000, 0},
};

void faults_draw(struct sim *s)
{
    struct prng *g = &s->prng;
    for (uint32_t f = 0; f < FAULT_COUNT; f++) {
        bool on = prng_chance(g, 500000);
        uint64_t bit = (uint64_t)1 << f;
        s->on[f] = (on || (s->o.faults_on & bit)) && !(s->o.faults_off & bit);
    }
    for (size_t i = 0; i < sizeof RATED / sizeof RATED[0]; i++) {
        const struct rated *r = &RATED[i];
        uint64_t top = prng_chance(g, 300000) ? r->ppm_max : r->ppm_min + (r->ppm_max - r->ppm_min) / 8;
        s->ppm[r->fault] = (uint32_t)prng_range(g, r->ppm_min, top);
        s->mean_us[r->fault] = r->mean_us_max ? prng_range(g, r->mean_us_max / 50, r->mean_us_max) : 0;
    }
    for (uint32_t i = 0; i < TIMED_COUNT; i++) {
        uint64_t every = prng_range(g, TIMED[i].every_ms_min, TIMED[i].every_ms_max) * 1000;
        if (TIMED[i].fault != FAULT_DISK_SLOW) {
            s->mean_us[TIMED[i].fault] = every;
        }
    }
    s->latency_us_min = (uint32_t)prng_range(g, 30, 500);
    s->latency_us_mean = (uint32_t)(prng_chance(g, 300000) ? prng_range(g, 2000, 30000) : prng_range(g, 50, 2000));
    s->disk_us_min = (uint32_t)prng_range(g, 20, 500);
    s->disk_us_mean = (uint32_t)(prng_chance(g, 300000) ? prng_range(g, 2000, 20000) : prng_range(g, 100, 3000));
}

static uint64_t interval(struct sim *s, enum sim_fault f)
{
    uint64_t mean = s->mean_us[f];
    if (f == FAULT_DISK_SLOW) {
        mean = 8000000;
    }
    return 500000 + draw_exp(&s->prng, mean);
}

void faults_schedule(struct sim *s)
{
    for (uint32_t i = 0; i < TIMED_COUNT; i++) {
        enum sim_fault f = TIMED[i].fault;
        if (s->on[f]) {
            sim_at(s, s->now_us + interval(s, f), SIM_FAULT, 0, f, 0, NULL);
        }
    }
}

static struct sim_node *some_node(struct sim *s)
{
    return &s->nodes[prng_below(&s->prng, s->n_nodes)];
}

/* Cuts a direction for a while; links that are up break, or only wait when it is a clog. */
static void cut(struct sim *s, uint32_t from, uint32_t to, uint64_t us, bool clog)
{
    if (from == to) {
        return;
    }
    uint64_t until = s->now_us + us;
    s->cut_until[from][to] = until > s->cut_until[from][to] ? until : s->cut_until[from][to];
    s->cut_clogs[from][to] = clog;
}

static void partition(struct sim *s, enum sim_fault f, uint64_t us)
{
    uint32_t n = s->n_nodes, half = (uint32_t)prng_range(&s->prng, 1, n > 1 ? n - 1 : 1), turn = (uint32_t)prng_below(&s->prng, n);
    uint32_t bridge = (uint32_t)prng_below(&s->prng, n);
    half = f == FAULT_NET_ISOLATE ? 1 : half;
    bool clog = prng_chance(&s->prng, 300000);
    bool one_way = f == FAULT_NET_PARTITION && prng_chance(&s->prng, 200000);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < n; k++) {
            bool a = (i + turn) % n < half, b = (k + turn) % n < half;
            bool over_bridge = f == FAULT_NET_BRIDGE && (i == bridge || k == bridge);
            if (a != b && !over_bridge && !(one_way && a)) {
                cut(s, i, k, us, clog);
            }
        }
    }
}

static void net_fault(struct sim *s, enum sim_fault f)
{
    uint32_t a = (uint32_t)prng_below(&s->prng, s->n_nodes), b = (uint32_t)prng_below(&s->prng, s->n_nodes);
    uint64_t us = 100000 + draw_exp(&s->prng, 2000000);
    switch (f) {
    case FAULT_NET_CUT: net_cut_link(s, a, b, false); return; /* counted when there was a link */
    case FAULT_NET_HALF_OPEN: net_cut_link(s, a, b, true); return;
    case FAULT_NET_ONE_WAY: cut(s, a, b, us, false); break;
    case FAULT_NET_CLOG: cut(s, a, b, us, true); return; /* counted per frame held */
    case FAULT_NET_SLOW: s->slow_until[a][b] = s->slow_until[b][a] = s->now_us + us; return;
    case FAULT_NET_FLAP:
        for (uint64_t i = 0; i < 8; i++) {
            sim_at(s, s->now_us + i * prng_range(&s->prng, 200000, 600000), SIM_FAULT_END, a, FAULT_NET_FLAP, 0, NULL);
        }
        return;
    default: partition(s, f, us); break;
    }
    fire(s, f);
}

static void flap(struct sim *s, uint32_t a)
{
    fire(s, FAULT_NET_FLAP);
    for (uint32_t b = 0; b < s->n_nodes; b++) {
        cut(s, a, b, 150000, false);
        cut(s, b, a, 150000, false);
        if (a != b) {
            net_cut_link(s, a, b, false);
        }
    }
}

static void power_all(struct sim *s)
{
    fire(s, FAULT_POWER_ALL);
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        sim_node_die(s, &s->nodes[i], DEATH_POWER);
    }
}

static void process_fault(struct sim *s, struct sim_node *n, enum sim_fault f)
{
    if (!n->up) {
        return;
    }
    switch (f) {
    case FAULT_CRASH:
        fire(s, f);
        sim_node_die(s, n, DEATH_PROCESS);
        break;
    case FAULT_POWER_NODE:
        fire(s, f);
        sim_node_die(s, n, DEATH_POWER);
        break;
    case FAULT_CRASH_EFFECT: n->crash_after_effects = (int64_t)prng_below(&s->prng, 40); break; /* counted when it happens */
    case FAULT_CRASH_LOOP:
        n->crash_loop = (uint32_t)prng_range(&s->prng, 2, 8);
        sim_node_die(s, n, DEATH_PROCESS);
        break;
    case FAULT_PAUSE:
        fire(s, f);
        sim_node_pause(s, n, 50000 + draw_exp(&s->prng, 1500000));
        break;
    case FAULT_SHUTDOWN:
        fire(s, f);
        sim_at(s, s->now_us, SIM_SHUTDOWN, n->index, 0, 0, NULL);
        break;
    case FAULT_SLOW_CPU:
        fire(s, f);
        n->slow_cpu_us = prng_range(&s->prng, 1000, 30000);
        sim_at(s, s->now_us + draw_exp(&s->prng, 3000000), SIM_FAULT_END, n->index, f, n->life, NULL);
        break;
    default: SYN_UNREACHABLE();
    }
}

static uint64_t disk_bytes(const struct sim_node *n)
{
    uint64_t sum = 0;
    for (size_t i = 0; files_mem_name(n->disk, i) != NULL; i++) {
        int64_t size = files_mem_size(n->disk, files_mem_name(n->disk, i));
        sum += size > 0 ? (uint64_t)size : 0;
    }
    return sum;
}

static void machine_fault(struct sim *s, struct sim_node *n, enum sim_fault f)
{
    fire(s, f);
    switch (f) {
    case FAULT_DISK_FULL:
        files_mem_quota(n->disk, disk_bytes(n) + prng_below(&s->prng, 4096));
        sim_at(s, s->now_us + draw_exp(&s->prng, 4000000), SIM_FAULT_END, n->index, f, 0, NULL);
        break;
    case FAULT_DISK_SLOW:
        n->slow_sync_us = prng_range(&s->prng, 20000, 1500000);
        sim_at(s, s->now_us + draw_exp(&s->prng, 3000000), SIM_FAULT_END, n->index, f, 0, NULL);
        break;
    case FAULT_CLOCK_WALL: n->wall_offset_ms += (int64_t)prng_below(&s->prng, 7200000) - 3600000; break;
    default: SYN_UNREACHABLE();
    }
}

static void inject(struct sim *s, enum sim_fault f)
{
    struct sim_node *n = some_node(s);
    TRACE(s, "fault %s", fault_name(f));
    switch (f) {
    case FAULT_NET_CUT:
    case FAULT_NET_HALF_OPEN:
    case FAULT_NET_PARTITION:
    case FAULT_NET_ISOLATE:
    case FAULT_NET_ONE_WAY:
    case FAULT_NET_BRIDGE:
    case FAULT_NET_CLOG:
    case FAULT_NET_FLAP:
    case FAULT_NET_SLOW: net_fault(s, f); break;
    case FAULT_POWER_ALL: power_all(s); break;
    case FAULT_DISK_FULL:
    case FAULT_DISK_SLOW:
    case FAULT_CLOCK_WALL: machine_fault(s, n, f); break;
    case FAULT_OP_TRANSFER:
    case FAULT_OP_REMOVE: {
        struct sim_client *c = &s->clients[prng_below(&s->prng, s->n_clients)];
        bool too_few = f == FAULT_OP_REMOVE && s->n_nodes < (s->wiped_node != 0 ? 4u : 2u); /* one that is left may be empty */
        if (c->conn >= 0 && c->expect_count < SIM_EXPECT_MAX / 2 && !too_few) {
            fire(s, f);
            uint64_t op = op_new(s, c, OP_ADMIN, 0);
            s->ops[op].lock_id = f;
            s->ops[op].token = prng_below(&s->prng, s->n_groups);
            s->ops[op].newest = prng_below(&s->prng, s->n_nodes) + 1;
            op_send(s, c, op);
        }
        break;
    }
    default: process_fault(s, n, f); break;
    }
}

static void fault_over(struct sim *s, const struct sim_event *ev)
{
    struct sim_node *n = &s->nodes[ev->node];
    switch (ev->a) {
    case FAULT_NET_FLAP:
        if (!s->healed) {
            flap(s, ev->node);
        }
        break;
    case FAULT_SLOW_CPU: n->slow_cpu_us = ev->b == n->life ? 0 : n->slow_cpu_us; break;
    case FAULT_DISK_FULL: files_mem_quota(n->disk, 0); break;
    case FAULT_DISK_SLOW: n->slow_sync_us = 0; break;
    default: break;
    }
}

void faults_event(struct sim *s, const struct sim_event *ev)
{
    if (ev->kind == SIM_FAULT_END) {
        fault_over(s, ev);
        return;
    }
    if (s->healed) {
        return;
    }
    enum sim_fault f = (enum sim_fault)ev->a;
    inject(s, f);
    sim_at(s, s->now_us + interval(s, f), SIM_FAULT, 0, f, 0, NULL);
}

/* A bit that flipped may be in messages that only its node and one that is dead have: no other is missing for good then. */
static bool may_stay_dead(const struct sim *s, const struct sim_node *n)
{
    return s->r->fired[FAULT_DISK_FLIP] == 0 || s->wiped_node == n->index + 1;
}

/* F2. In some seeds a minority stays dead for good, and the rest must live with it. */
void faults_heal(struct sim *s)
{
    s->healed = true;
    memset(s->cut_until, 0, sizeof s->cut_until);
    memset(s->slow_until, 0, sizeof s->slow_until);
    s->latency_us_mean = s->latency_us_mean < 2000 ? s->latency_us_mean : 2000;
    s->disk_us_mean = s->disk_us_mean < 3000 ? s->disk_us_mean : 3000;
    uint32_t members = s->n_nodes - (s->shrank != 0), replicas = members < SIM_REPLICAS_MAX ? members : SIM_REPLICAS_MAX;
    uint32_t spare = (replicas - 1) / 2;
    spare = sim_others_whole(s, NULL) ? spare : 0; /* who lost its disk may still be learning, and a new cluster needs all members once */
    uint32_t leave = spare > 0 && !s->queue->polite && prng_chance(&s->prng, 300000) ? (uint32_t)prng_range(&s->prng, 1, spare) : 0;
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        struct sim_node *n = &s->nodes[i];
        files_mem_fail(n->disk, FILES_MEM_OPS, 0, 0);
        files_mem_quota(n->disk, 0);
        n->slow_cpu_us = n->slow_sync_us = 0;
        n->crash_after_effects = -1;
        n->crash_loop = 0;
        n->busy_until_us = n->busy_until_us > s->now_us + 1000000 ? s->now_us + 1000000 : n->busy_until_us;
        if (leave > 0 && may_stay_dead(s, n) && prng_chance(&s->prng, 500000)) {
            leave--;
            sim_node_die(s, n, DEATH_POWER);
            n->dead_for_good = true;
        } else if (!n->up) {
            n->starting = true;
            sim_at(s, s->now_us + 1000, SIM_START, n->index, 0, 0, NULL);
        }
    }
    TRACE(s, "healed");
}
