/* Deadlocks whose cycle crosses groups, found by edge chasing (Chandy, Misra and Haas 1983, AND model).
 *
 * Inside a group the wait-for graph is exact and a cycle is refused at the apply that would close it. Between groups the
 * leader of a group starts a probe for each wait older than PROBE_AFTER_MS: "does the owner that it waits for wait in your
 * group?" The probe travels along such waits; when it arrives at a wait for its own initiator the cycle is closed and the
 * initiator's wait is refused by an entry of its own group, void if it no longer waits.
 *
 * A probe passes only waits with a smaller request id than its initiator's, so each cycle has one victim: its newest member
 * by that order. Messages per cycle are at most the edges between groups; hops and sends per look are bounded. */
#include "nodes/node_internal.h"

#include <stdio.h>

enum { PROBE_AFTER_MS = 50, PROBE_EVERY_MS = 100, PROBE_HOPS_MAX = 32, PROBES_PER_LOOK = 64, PROBE_PATH_BYTES_MAX = 1024 };

static int request_id_cmp(uint64_t ao, uint64_t as, uint64_t bo, uint64_t bs)
{
    if (as != bs) {
        return as < bs ? -1 : 1;
    }
    return ao < bo ? -1 : ao > bo;
}

static void probe_everywhere(struct node *n, const struct peer_probe *p)
{
    if (n->opt.groups == 1) {
        return;
    }
    struct peer_msg m = {.kind = PEER_PROBE, .u.probe = *p};
    for (uint32_t i = 0; i < n->n_peers; i++) {
        if (peer_linked(&n->peers[i])) {
            links_send(n, &n->peers[i], &m);
        }
    }
    probe_on(n, p);
}

struct probe_start {
    struct node *n;
    struct node_group *g;
};

static void probe_begin(void *arg, const struct lock_wait_edge *e)
{
    struct probe_start *s = arg;
    char path[PROBE_PATH_BYTES_MAX];
    int len = snprintf(path, sizeof path, "%.*s waits %.*s held by %.*s", (int)e->waiter_owner.len,
                       (const char *)e->waiter_owner.ptr, (int)e->resource.len, (const char *)e->resource.ptr,
                       (int)e->holder_owner.len, (const char *)e->holder_owner.ptr);
    if (len < 0 || (size_t)len >= sizeof path) {
        len = (int)sizeof path - 1;
    }
    struct peer_probe p = {
        .initiator_origin = e->waiter_req.origin,
        .initiator_seq = e->waiter_req.seq,
        .initiator_group = s->g->id,
        .initiator_owner = e->waiter_owner,
        .target_owner = e->holder_owner,
        .hops = 1,
        .path = slice_of(path, (size_t)len),
    };
    probe_everywhere(s->n, &p);
}

void probe_duty(struct node *n, struct node_group *g)
{
    if (n->opt.groups == 1 || !g->ready || g->role != ROLE_LEADER || n->now_ms < g->probe_at_ms) {
        return;
    }
    g->probe_at_ms = n->now_ms + PROBE_EVERY_MS;
    uint64_t now = group_log_now(n, g);
    struct probe_start s = {n, g};
    if (now > PROBE_AFTER_MS) {
        lock_sm_old_waits(g->locks, now - PROBE_AFTER_MS, PROBES_PER_LOOK, probe_begin, &s);
    }
}

struct probe_step {
    struct node *n;
    struct node_group *g;
    const struct peer_probe *p;
};

static void probe_edge(void *arg, const struct lock_wait_edge *e)
{
    struct probe_step *s = arg;
    const struct peer_probe *p = s->p;
    if (request_id_cmp(e->waiter_req.origin, e->waiter_req.seq, p->initiator_origin, p->initiator_seq) > 0) {
        return; /* that one's own probe will close the cycle */
    }
    char path[PROBE_PATH_BYTES_MAX];
    int len = snprintf(path, sizeof path, "%.*s, %.*s waits %.*s held by %.*s", (int)p->path.len, (const char *)p->path.ptr,
                       (int)e->waiter_owner.len, (const char *)e->waiter_owner.ptr, (int)e->resource.len,
                       (const char *)e->resource.ptr, (int)e->holder_owner.len, (const char *)e->holder_owner.ptr);
    if (len < 0 || (size_t)len >= sizeof path) {
        len = (int)sizeof path - 1;
    }
    if (slice_eq(e->holder_owner, p->initiator_owner)) {
        struct request_id victim = {p->initiator_origin, p->initiator_seq};
        route_victim(s->n, p->initiator_group, victim, slice_of(path, (size_t)len));
        return;
    }
    if (p->hops < PROBE_HOPS_MAX) {
        struct peer_probe next = *p;
        next.target_owner = e->holder_owner;
        next.hops = (uint8_t)(p->hops + 1);
        next.path = slice_of(path, (size_t)len);
        probe_everywhere(s->n, &next);
    }
}

void probe_on(struct node *n, const struct peer_probe *p)
{
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        struct node_group *g = &n->groups[i];
        if (g->role == ROLE_LEADER && g->ready && p->initiator_group < n->opt.groups) {
            struct probe_step s = {n, g, p};
            lock_sm_waits_of(g->locks, p->target_owner, probe_edge, &s);
        }
    }
}
