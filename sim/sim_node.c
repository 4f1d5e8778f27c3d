/* One process of the cluster: start, events, effects in list order, death.
 *
 * Responsible for: a node's clocks, its turns (what comes within a few microseconds shares one, as one poll does in src/io), its
 * inbox while it stands still, carrying effects out. Not for: disks (sim_disk.c), links (network.c), client connections (client.c).
 *
 * Invariants: N1 no event reaches a node that is down, nor one of another life. N2 events to one node keep their order while it is
 * busy. N3 effects are carried out in list order, and what follows a death in the list never happens. */
#include "sim_cache.h"
#include "sim_queue.h"

#include "nodes/locks/lock_sm.h"

#include <stdio.h>
#include <stdlib.h>

enum { TURN_US_MIN = 5, TURN_US_MAX = 60, START_RETRY_US = 300000, INBOX_MAX = 20000, WALL_BASE_S = 1700000000 };

uint64_t sim_node_mono_ms(const struct sim *s, const struct sim_node *n)
{
    uint64_t us = s->now_us - n->boot_us;
    return n->mono_base_ms + us * (uint64_t)(1000000 + n->rate_ppm) / 1000000000;
}

/* The earliest time at which the node's clock shows ms. */
static uint64_t mono_to_us(const struct sim_node *n, uint64_t ms)
{
    uint64_t mono_us = (ms - n->mono_base_ms) * 1000;
    return n->boot_us + mono_us * 1000000 / (uint64_t)(1000000 + n->rate_ppm) + 2;
}

static void options_fill(struct sim *s, struct sim_node *n)
{
    struct node_options *o = &n->opt;
    memset(o, 0, sizeof *o);
    o->self = n->index + 1;
    o->n_members = s->n_nodes;
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        o->members[i].id = i + 1;
        snprintf(o->members[i].name, sizeof o->members[i].name, "n%u", i + 1);
        snprintf(o->members[i].host, sizeof o->members[i].host, "h%u", i + 1);
        o->members[i].peer_port = 7380;
    }
    o->groups = s->n_groups;
    o->replication_factor = s->n_nodes < SIM_REPLICAS_MAX ? s->n_nodes : SIM_REPLICAS_MAX;
    o->virtual_nodes = 16;
    o->election_ms_min = 150;
    o->election_ms_max = 300;
    o->heartbeat_ms = 50;
    o->request_timeout_ms = 2000;
    o->max_retries = 3;
    o->lock_ttl_ms = 3000;
    o->num_partitions = 3;
    o->max_deliver = 3;
    o->ack_timeout_ms = 2000;
    snprintf(o->client_host, sizeof o->client_host, "h%u", n->index + 1);
    o->resp_port = 7379;
    o->http_port = 8000;
    o->snapshot_log_bytes = s->on[FAULT_OP_SNAPSHOT] ? prng_range(&s->prng, 3000, 20000) : 1 << 24;
    o->sim_checks = true;
    queue_options(s, o);
    cache_options(s, o);
    o->cluster_key = 7;
}

void sim_node_make(struct sim *s, uint32_t index)
{
    struct sim_node *n = &s->nodes[index];
    *n = (struct sim_node){.sim = s, .index = index, .crash_after_effects = -1};
    n->disk = files_mem_new();
    effects_init(&n->fx);
    options_fill(s, n);
}

static void event_free(struct sim_event *ev)
{
    if (ev->kind == SIM_FRAME && ev->data != NULL) {
        struct packet *p = ev->data;
        buf_fini(&p->bytes);
        free(p);
    } else if ((ev->kind == SIM_CONN_DATA || ev->kind == SIM_REPLY) && ev->data != NULL) {
        buf_fini(ev->data);
        free(ev->data);
    } else if (ev->kind == SIM_JOB_DONE && ev->data != NULL) {
        job_free(ev->data);
    }
}

void sim_node_unmake(struct sim *s, struct sim_node *n)
{
    (void)s;
    for (uint32_t i = n->inbox_at; i < n->inbox_count; i++) {
        event_free(&n->inbox[i]);
    }
    free(n->inbox);
    effects_fini(&n->fx);
    files_mem_free(n->disk);
    for (uint32_t g = 0; g < SIM_GROUPS_MAX; g++) {
        free(n->durable[g].hashes);
        free(n->durable[g].terms);
        free(n->tail[g].hashes);
        free(n->tail[g].terms);
    }
    for (uint32_t i = 0; i < n->queue_cap; i++) {
        buf_fini(&n->queue[i].records);
    }
    free(n->queue);
}

static void arm_timer(struct sim *s, struct sim_node *n)
{
    uint64_t ms = node_deadline_ms(n->node);
    if (ms == UINT64_MAX) {
        return;
    }
    uint64_t at = ms <= n->last_now_ms ? s->now_us + 1000 : mono_to_us(n, ms);
    at = at <= s->now_us ? s->now_us + 1 : at;
    if (chance(s, FAULT_LATE_TIMER)) {
        fire(s, FAULT_LATE_TIMER);
        at += prng_below(&s->prng, s->mean_us[FAULT_LATE_TIMER]);
    }
    if (n->timer_at_us <= s->now_us || at < n->timer_at_us) {
        n->timer_at_us = at;
        sim_at(s, at, SIM_TIMER, n->index, at, 0, NULL);
    }
}

static void on_logline(struct sim *s, struct sim_node *n, struct effect *e)
{
    TRACE(s, "n%u log %.*s", n->index + 1, (int)(e->data.len < 180 ? e->data.len : 180), (const char *)e->data.ptr);
}

static void effect_carry(struct sim *s, struct sim_node *n, struct effect *e)
{
    switch (e->type) {
    case EF_LOG:
    case EF_SNAP_WRITE:
    case EF_SNAP_READ_RAW:
    case EF_SNAP_WRITE_RAW:
    case EF_SNAP_LOAD:
    case EF_SNAP_ATTACH:
    case EF_BACKLOG_WRITE:
    case EF_BACKLOG_READ:
    case EF_BACKLOG_KEEP:
    case EF_TRIM: sim_disk_effect(s, n, e); break;
    case EF_REPLY: sim_conn_reply(s, n, e->conn, buf_slice(&e->data)); break;
    case EF_CLOSE_CONN: sim_conn_hangup(s, n, e->conn); break;
    case EF_PAUSE_CONN: sim_conn_paused(s, n, e->conn, true); break;
    case EF_RESUME_CONN: sim_conn_paused(s, n, e->conn, false); break;
    case EF_LINK_SEND: net_send(s, n, e->link, buf_slice(&e->data)); break;
    case EF_LINK_CLOSE: net_close(s, n, e->link); break;
    case EF_DIAL: net_dial(s, n, e->peer); break;
    case EF_LOGLINE: on_logline(s, n, e); break;
    case EF_STOP: n->stopping = true; break;
    default: SYN_UNREACHABLE();
    }
}

/* N3. A death between two effects is drawn beforehand (faults.c). */
static void effects_carry(struct sim *s, struct sim_node *n)
{
    uint64_t life = n->life;
    for (uint32_t i = 0; i < n->fx.count && !s->failed; i++) {
        struct effect *e = &n->fx.items[i];
        if (e->type != EF_LOGLINE) {
            sim_mix(s, (uint64_t)e->type << 32 ^ n->index ^ e->data.len << 8);
        }
        if (n->crash_after_effects >= 0 && e->type != EF_LOGLINE && n->crash_after_effects-- == 0) {
            fire(s, FAULT_CRASH_EFFECT);
            sim_node_die(s, n, prng_chance(&s->prng, 500000) ? DEATH_POWER : DEATH_PROCESS);
            return;
        }
        effect_carry(s, n, e);
        if (!n->up || n->life != life) {
            return;
        }
    }
    effects_clear(&n->fx);
    if (n->stopping) {
        TRACE(s, "n%u stopped by request", n->index + 1);
        sim_node_die(s, n, DEATH_PROCESS);
    }
}

void sim_node_give(struct sim *s, struct sim_node *n, struct event *ev)
{
    syn_assert(n->up);
    ev->now_ms = sim_node_mono_ms(s, n);
    ev->wall_ms = (uint64_t)((int64_t)(WALL_BASE_S * 1000ull + s->now_us / 1000) + n->wall_offset_ms);
    n->last_now_ms = ev->now_ms;
    s->r->steps++;
    s->applying = n;
    sim_mix(s, (uint64_t)ev->type << 40 ^ (uint64_t)n->index << 32 ^ ev->data.len);
    effects_clear(&n->fx);
    node_step(n->node, ev, &n->fx);
    s->applying = NULL;
    cache_check_step(s, n);
    if (ev->type != EV_TURN_END && !n->turn_pending) {
        n->turn_pending = true;
        sim_at(s, s->now_us + prng_range(&s->prng, TURN_US_MIN, TURN_US_MAX), SIM_TURN, n->index, 0, 0, NULL);
    }
    effects_carry(s, n);
}

static void turn_end(struct sim *s, struct sim_node *n)
{
    uint64_t life = n->life;
    n->turn_pending = false;
    struct event ev = {.type = EV_TURN_END};
    sim_node_give(s, n, &ev);
    if (!n->up || n->life != life) {
        return;
    }
    n->turns++;
    n->last_turn_ms = n->last_now_ms;
    raft_check_turn(s, n);
    arm_timer(s, n);
    if (n->slow_cpu_us > 0 && !s->healed) {
        sim_node_pause(s, n, prng_below(&s->prng, n->slow_cpu_us));
    }
}

static void node_now(struct sim *s, struct sim_node *n, const struct sim_event *ev)
{
    switch (ev->kind) {
    case SIM_TIMER:
        if (ev->a == n->timer_at_us) {
            n->timer_at_us = 0;
            turn_end(s, n);
        }
        break;
    case SIM_TURN:
        if (n->turn_pending) {
            turn_end(s, n);
        }
        break;
    case SIM_FRAME:
    case SIM_LINK_UP:
    case SIM_LINK_DOWN: net_event(s, n, ev); break;
    case SIM_LOG_DONE:
    case SIM_LOG_RETRY:
    case SIM_SPACE:
    case SIM_JOB_DONE: sim_disk_event(s, n, ev); break;
    case SIM_CONN_OPEN:
    case SIM_CONN_DATA:
    case SIM_CONN_CLOSE:
    case SIM_DRAINED: sim_conn_event(s, n, ev); break;
    case SIM_SHUTDOWN: {
        struct event e = {.type = EV_SHUTDOWN};
        sim_node_give(s, n, &e);
        break;
    }
    default: SYN_UNREACHABLE();
    }
}

static void inbox_add(struct sim *s, struct sim_node *n, const struct sim_event *ev)
{
    if (n->inbox_count == n->inbox_cap) {
        n->inbox_cap = n->inbox_cap ? n->inbox_cap * 2 : 64;
        n->inbox = realloc(n->inbox, n->inbox_cap * sizeof *n->inbox);
        syn_assert(n->inbox != NULL);
    }
    n->inbox[n->inbox_count++] = *ev;
    if (!n->resume_pending) {
        n->resume_pending = true;
        sim_at(s, n->busy_until_us, SIM_RESUME, n->index, 0, 0, NULL);
    }
}

static void inbox_clear(struct sim_node *n)
{
    for (uint32_t i = n->inbox_at; i < n->inbox_count; i++) {
        event_free(&n->inbox[i]);
    }
    n->inbox_at = n->inbox_count = 0;
    n->resume_pending = false;
}

static void resume(struct sim *s, struct sim_node *n)
{
    uint64_t life = n->life;
    n->resume_pending = false;
    while (n->inbox_at < n->inbox_count) {
        if (n->busy_until_us > s->now_us) {
            n->resume_pending = true;
            sim_at(s, n->busy_until_us, SIM_RESUME, n->index, 0, 0, NULL);
            return;
        }
        struct sim_event ev = n->inbox[n->inbox_at++];
        node_now(s, n, &ev);
        event_free(&ev);
        if (!n->up || n->life != life || s->failed) {
            return;
        }
    }
    n->inbox_at = n->inbox_count = 0;
}

void sim_node_event(struct sim *s, struct sim_node *n, const struct sim_event *ev)
{
    struct sim_event e = *ev;
    if (!n->up || ev->life != n->life) {
        event_free(&e);
        return;
    }
    if (ev->kind == SIM_RESUME) {
        if (n->resume_pending) {
            resume(s, n);
        }
        return;
    }
    if (n->busy_until_us > s->now_us || n->inbox_at < n->inbox_count) {
        inbox_add(s, n, ev);
        return;
    }
    node_now(s, n, ev);
    event_free(&e);
}

void sim_node_pause(struct sim *s, struct sim_node *n, uint64_t us)
{
    uint64_t until = s->now_us + us;
    n->busy_until_us = until > n->busy_until_us ? until : n->busy_until_us;
}

static bool restore_piece(void *arg, slice_t piece)
{
    struct sim_node *n = arg;
    return node_restore_piece(n->node, (uint32_t)n->last_job_at, piece);
}

/* Snapshots of recovery, as src/io/server.c does it. False: the directory cannot be used. */
static bool restore_groups(struct sim *s, struct sim_node *n)
{
    for (uint32_t g = 0; g < s->n_groups; g++) {
        uint64_t index = n->recovered.groups[g].snapshot_index;
        if (index == 0) {
            continue;
        }
        n->last_job_at = g;
        if (store_snapshot_load(n->store, g, index, restore_piece, n) != STORE_OK || !node_restore_end(n->node, g)) {
            return false;
        }
    }
    n->last_job_at = 0;
    return true;
}

static void start_clocks(struct sim *s, struct sim_node *n)
{
    n->boot_us = s->now_us;
    n->mono_base_ms = 1 + prng_below(&s->prng, 1000000);
    n->rate_ppm = 0;
    if (s->on[FAULT_CLOCK_DRIFT]) {
        fire(s, FAULT_CLOCK_DRIFT);
        n->rate_ppm = (int64_t)prng_range(&s->prng, 0, 20000) - 10000;
    }
}

static void start_wiped(struct sim *s, struct sim_node *n)
{
    n->wipes++;
    n->partial_at_death = true;
    files_mem_free(n->disk);
    n->disk = files_mem_new();
    raft_check_forget(n);
    TRACE(s, "n%u its disk is replaced by an empty one", n->index + 1);
}

void sim_node_start(struct sim *s, struct sim_node *n)
{
    if (n->up || n->dead_for_good) {
        return;
    }
    n->starting = false;
    if (!sim_disk_open(s, n)) {
        n->starting = true;
        sim_at(s, s->now_us + START_RETRY_US, SIM_START, n->index, 0, 0, NULL);
        return;
    }
    start_clocks(s, n);
    n->life++;
    n->opt.seed = prng_u64(&s->prng);
    n->opt.node_uuid = n->recovered.node_uuid;
    n->opt.incarnation = n->recovered.incarnation;
    n->opt.fresh = n->recovered.fresh;
    n->opt.sim_checks = prng_chance(&s->prng, 300000);
    n->last_now_ms = n->mono_base_ms;
    n->node = node_new(&n->opt, &n->recovered, n->mono_base_ms, WALL_BASE_S * 1000ull);
    n->up = true;
    n->space_low = 0;
    n->stopping = n->turn_pending = n->syncing = n->retrying = n->preparing = false;
    n->queue_count = n->in_flight = 0;
    n->timer_at_us = n->busy_until_us = n->slow_cpu_us = n->slow_sync_us = 0;
    memset(n->commit_seen, 0, sizeof n->commit_seen);
    if (!restore_groups(s, n)) { /* a snapshot is read in full only now */
        sim_node_die(s, n, DEATH_PROCESS);
        sim_disk_corrupt(s, n, "a snapshot cannot be restored");
        return;
    }
    n->flips = 0; /* it hit nothing that matters, or the checks have said so */
    for (uint32_t g = 0; g < s->n_groups; g++) {
        if (n->recovered.groups[g].snapshot_index != 0) {
            raft_check_restored(s, n, g);
        }
    }
    struct node_observer o = {.arg = n, .applied = raft_check_applied, .lock_event = lock_check_event, .became_leader = raft_check_leader,
                              .queue_applied = queue_check_applied, .topics_applied = topics_check_applied, .cache_applied = cache_check_applied};
    node_observe(n->node, &o);
    TRACE(s, "n%u starts, life %llu, incarnation %llu%s", n->index + 1, (unsigned long long)n->life,
          (unsigned long long)n->opt.incarnation, n->opt.fresh ? ", fresh" : "");
    s->r->restarts++;
    n->turn_pending = true;
    sim_at(s, s->now_us + TURN_US_MAX, SIM_TURN, n->index, 0, 0, NULL);
    if (n->crash_loop > 0 && !s->healed) {
        n->crash_loop--;
        fire(s, FAULT_CRASH_LOOP);
        n->crash_after_effects = (int64_t)prng_below(&s->prng, 60);
    }
}

static bool is_whole(const struct sim *s, const struct sim_node *n)
{
    bool whole = node_is_whole(n->node);
    for (uint32_t g = 0; g < s->n_groups; g++) {
        whole = whole && n->durable[g].vote != AMNESIAC_VOTE; /* it may know more than its disk does */
    }
    return whole;
}

bool sim_others_whole(const struct sim *s, const struct sim_node *but)
{
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        const struct sim_node *n = &s->nodes[i];
        if (n != but && (n->up ? !is_whole(s, n) : n->partial_at_death || n->life == 0)) {
            return false;
        }
    }
    return true;
}

bool sim_node_may_lose_disk(const struct sim *s, const struct sim_node *n)
{
    uint32_t members = s->n_nodes - (s->shrank != 0);
    return members >= 3 && (s->wiped_node == 0 || s->wiped_node == n->index + 1) && sim_others_whole(s, n);
}

static void maybe_wipe(struct sim *s, struct sim_node *n, bool must)
{
    if (must || (sim_node_may_lose_disk(s, n) && chance(s, FAULT_WIPE))) {
        s->wiped_node = n->index + 1;
        fire(s, FAULT_WIPE);
        start_wiped(s, n);
    }
}

void sim_node_die(struct sim *s, struct sim_node *n, enum death how)
{
    if (!n->up) {
        return;
    }
    TRACE(s, "n%u dies (%s)", n->index + 1, how == DEATH_POWER ? "power" : "process");
    n->up = false;
    n->life++;
    n->crash_after_effects = -1;
    inbox_clear(n);
    net_node_gone(s, n, how);
    sim_conns_node_gone(s, n);
    n->partial_at_death = !is_whole(s, n);
    cache_check_died(s, n, n->stopping);
    node_free(n->node);
    n->node = NULL;
    sim_disk_drop(s, n);
    if (how == DEATH_POWER) {
        files_mem_crash(n->disk, &s->prng);
    } else {
        files_mem_kill(n->disk);
    }
    effects_clear(&n->fx);
    if (!s->healed) {
        maybe_wipe(s, n, false);
    }
    if (!n->starting) {
        n->starting = true;
        uint64_t down = prng_chance(&s->prng, 500000) ? prng_range(&s->prng, 1000, 300000) : draw_exp(&s->prng, 2000000);
        sim_at(s, s->now_us + down, SIM_START, n->index, 0, 0, NULL);
    }
}
