/* Links between nodes: streams that keep order and lose nothing until they break, as TCP does; and, in seeds that say so, frames
 * that are lost, doubled, overtaken or damaged on a link that stays up, which the protocol must bear all the same.
 *
 * Responsible for: dialling, frames on their way, partitions by direction, and when each end learns that a link is gone. Every frame
 * that leaves is shown to check_raft.c first. Not for: choosing faults (faults.c).
 *
 * Invariants: X1 without frame faults, an end sees a prefix of what the other sent, in order. X2 a damaged frame is refused. X3 a
 * frame never reaches another life of a node than the one that its link belongs to. */
#include "sim_internal.h"

#include "communication/peer_codec.h"

#include <stdlib.h>

enum { FRAME_BYTES_MAX = 8 * 1024 * 1024, DIAL_TIMEOUT_US = 1000000, SLOW_BYTES_PER_S = 4096, LINKS_SWEEP = 4096 };

uint64_t net_latency(struct sim *s)
{
    return s->latency_us_min + draw_exp(&s->prng, s->latency_us_mean);
}

static struct sim_link *link_at(struct sim *s, uint64_t number)
{
    if (number < s->links_base || number - s->links_base >= s->n_links) {
        return NULL;
    }
    return &s->links[number - s->links_base];
}

/* The newest links are looked at first: ids grow. */
static struct sim_link *link_of(struct sim *s, const struct sim_node *n, link_id_t id, uint32_t *end)
{
    for (uint32_t i = s->n_links; i-- > 0;) {
        struct sim_link *l = &s->links[i];
        for (uint32_t e = 0; e < 2; e++) {
            if (l->id[e] == id && l->node[e] == n->index) {
                *end = e;
                return l;
            }
        }
    }
    return NULL;
}

static bool link_dead(const struct sim *s, const struct sim_link *l)
{
    bool gone = true;
    for (uint32_t e = 0; e < 2; e++) {
        const struct sim_node *n = &s->nodes[l->node[e]];
        gone = gone && (!l->up[e] || !n->up || n->life != l->life[e]);
    }
    return gone;
}

/* Forgets links at the front that both ends have forgotten. */
void net_sweep(struct sim *s)
{
    uint32_t drop = 0;
    while (drop < s->n_links && link_dead(s, &s->links[drop])) {
        drop++;
    }
    if (drop > 0) {
        memmove(s->links, s->links + drop, (s->n_links - drop) * sizeof *s->links);
        s->n_links -= drop;
        s->links_base += drop;
    }
}

bool net_is_cut(const struct sim *s, uint32_t from, uint32_t to)
{
    return s->cut_until[from][to] > s->now_us;
}

void net_dial(struct sim *s, struct sim_node *n, node_id_t peer)
{
    syn_assert(peer >= 1 && peer <= s->n_nodes);
    sim_at(s, s->now_us + net_latency(s) * 2, SIM_DIAL, n->index, peer - 1, 0, NULL);
}

static struct sim_link *link_add(struct sim *s)
{
    if (s->n_links == s->cap_links) {
        s->cap_links = s->cap_links ? s->cap_links * 2 : 64;
        s->links = realloc(s->links, s->cap_links * sizeof *s->links);
        syn_assert(s->links != NULL);
    }
    struct sim_link *l = &s->links[s->n_links];
    *l = (struct sim_link){.number = s->links_base + s->n_links};
    s->n_links++;
    return l;
}

void net_dial_arrives(struct sim *s, struct sim_node *n, const struct sim_event *ev)
{
    struct sim_node *to = &s->nodes[ev->a];
    if (!n->up || n->life != ev->life) {
        return;
    }
    bool cut = net_is_cut(s, n->index, to->index) || net_is_cut(s, to->index, n->index);
    if (ev->b == 0 && cut) { /* SYNs are lost: the attempt ends after a while */
        sim_at(s, s->now_us + DIAL_TIMEOUT_US, SIM_DIAL, n->index, ev->a, 1, NULL);
        return;
    }
    if (ev->b != 0 || !to->up) {
        struct event e = {.type = EV_DIAL_FAILED, .peer = to->opt.self};
        sim_node_give(s, n, &e); /* a busy node learns a little early: harmless */
        return;
    }
    struct sim_link *l = link_add(s);
    for (uint32_t e = 0; e < 2; e++) {
        struct sim_node *x = e == 0 ? n : to;
        l->node[e] = x->index;
        l->life[e] = x->life;
        l->id[e] = s->next_id++;
        l->up[e] = true;
        l->last_at[e] = s->now_us;
    }
    uint64_t number = l->number;
    sim_at(s, s->now_us, SIM_LINK_UP, to->index, number, 1, NULL);
    sim_at(s, s->now_us + net_latency(s), SIM_LINK_UP, n->index, number, 0, NULL);
}

static void deliver(struct sim *s, struct sim_link *l, uint32_t end, slice_t bytes, uint64_t at)
{
    struct packet *p = calloc(1, sizeof *p);
    syn_assert(p != NULL);
    p->link = l->number;
    p->to_end = end;
    buf_append_slice(&p->bytes, bytes);
    struct sim_event ev = {.at_us = at, .kind = SIM_FRAME, .node = l->node[end], .life = l->life[end], .data = p};
    heap_push(&s->heap, ev);
}

static void damage(struct sim *s, struct buf *b)
{
    b->ptr[prng_below(&s->prng, b->len)] ^= (uint8_t)prng_range(&s->prng, 1, 255);
}

static void link_down_at(struct sim *s, const struct sim_link *l, uint32_t end, uint64_t at)
{
    struct sim_event ev = {.at_us = at, .kind = SIM_LINK_DOWN, .node = l->node[end], .life = l->life[end], .a = l->number, .b = end};
    heap_push(&s->heap, ev);
}

/* When a frame that leaves now arrives; 0: never. Keeps the order of the stream unless a fault says otherwise. */
static uint64_t arrival(struct sim *s, struct sim_link *l, uint32_t end, size_t bytes)
{
    uint32_t from = l->node[1 - end], to = l->node[end];
    uint64_t at = s->now_us + net_latency(s);
    if (net_is_cut(s, from, to)) {
        if (!s->cut_clogs[from][to]) {
            l->broken[end] = true; /* a stream cannot go on behind a hole */
            return 0;
        }
        fire(s, FAULT_NET_CLOG);
        at += s->cut_until[from][to] - s->now_us;
    }
    if (s->slow_until[from][to] > s->now_us) {
        fire(s, FAULT_NET_SLOW);
        at = (l->last_at[end] > at ? l->last_at[end] : at) + (uint64_t)bytes * 1000000 / SLOW_BYTES_PER_S;
    }
    if (chance(s, FAULT_NET_TAIL)) {
        fire(s, FAULT_NET_TAIL);
        at += draw_exp(&s->prng, s->mean_us[FAULT_NET_TAIL]);
    }
    if (chance(s, FAULT_NET_REORDER)) {
        fire(s, FAULT_NET_REORDER);
        return at + draw_exp(&s->prng, s->mean_us[FAULT_NET_REORDER]);
    }
    at = at > l->last_at[end] ? at : l->last_at[end];
    l->last_at[end] = at;
    return at;
}

/* Breaks a link in both directions; ends learn at different times, a half-open end only by silence. */
static void link_break(struct sim *s, struct sim_link *l, bool half_open)
{
    uint32_t deaf = half_open ? (uint32_t)prng_below(&s->prng, 2) : 2;
    for (uint32_t e = 0; e < 2; e++) {
        l->broken[e] = true;
        if (e != deaf && l->up[e]) {
            link_down_at(s, l, e, s->now_us + draw_exp(&s->prng, 50000));
        }
    }
}

static void send_frame(struct sim *s, struct sim_link *l, uint32_t end, slice_t frame)
{
    s->r->frames++;
    if (l->broken[end]) {
        return;
    }
    if (chance(s, FAULT_NET_TRUNCATE)) {
        fire(s, FAULT_NET_TRUNCATE);
        link_break(s, l, false);
        return;
    }
    if (chance(s, FAULT_NET_LOSS)) {
        fire(s, FAULT_NET_LOSS);
        return;
    }
    uint64_t at = arrival(s, l, end, frame.len);
    if (at != 0) {
        deliver(s, l, end, frame, at);
    }
    if (at != 0 && chance(s, FAULT_NET_DUP)) {
        fire(s, FAULT_NET_DUP);
        deliver(s, l, end, frame, at + draw_exp(&s->prng, s->mean_us[FAULT_NET_DUP]));
    }
}

void net_send(struct sim *s, struct sim_node *n, link_id_t id, slice_t bytes)
{
    uint32_t end;
    struct sim_link *l = link_of(s, n, id, &end);
    if (l == NULL || !l->up[end]) {
        return;
    }
    while (bytes.len > 0) {
        slice_t body;
        size_t used;
        const char *reason = NULL;
        if (frame_split(bytes, FRAME_BYTES_MAX, &body, &used, &reason) != FRAME_OK) {
            sim_fail(s, "n%u sends bytes that are no whole frame", n->index + 1);
            return;
        }
        raft_check_frame(s, n, body);
        send_frame(s, l, 1 - end, slice_of(bytes.ptr, used));
        bytes = slice_of(bytes.ptr + used, bytes.len - used);
    }
}

void net_close(struct sim *s, struct sim_node *n, link_id_t id)
{
    uint32_t end;
    struct sim_link *l = link_of(s, n, id, &end);
    if (l == NULL || !l->up[end]) {
        return;
    }
    l->up[end] = false;
    l->broken[end] = true;
    if (l->up[1 - end] && !l->broken[1 - end]) {
        uint64_t at = s->now_us + net_latency(s);
        at = at > l->last_at[1 - end] ? at : l->last_at[1 - end];
        link_down_at(s, l, 1 - end, at);
    }
}

static void give_link_down(struct sim *s, struct sim_node *n, struct sim_link *l, uint32_t end)
{
    l->up[end] = false;
    l->broken[end] = true;
    struct event e = {.type = EV_LINK_DOWN, .link = l->id[end]};
    sim_node_give(s, n, &e);
}

static void give_frame(struct sim *s, struct sim_node *n, struct packet *p)
{
    struct sim_link *l = link_at(s, p->link);
    uint32_t end = p->to_end;
    if (l == NULL || !l->up[end] || !l->told[end] || l->life[end] != n->life) {
        return; /* closed by this end */
    }
    bool damaged = false;
    if (chance(s, FAULT_NET_CORRUPT)) {
        fire(s, FAULT_NET_CORRUPT);
        damage(s, &p->bytes);
        damaged = true;
    }
    slice_t body;
    size_t used;
    const char *reason = NULL;
    enum frame_status st = frame_split(buf_slice(&p->bytes), FRAME_BYTES_MAX, &body, &used, &reason);
    if (st != FRAME_OK) {
        uint64_t number = l->number;
        if (!damaged) {
            sim_fail(s, "n%u: an undamaged frame was refused: %s", n->index + 1, reason ? reason : "incomplete");
            return;
        }
        if (l->up[1 - end]) {
            link_down_at(s, l, 1 - end, s->now_us + net_latency(s));
        }
        give_link_down(s, n, link_at(s, number), end);
        return;
    }
    if (damaged) {
        sim_fail(s, "n%u: a frame with flipped bits passed its checksum", n->index + 1);
        return;
    }
    struct event e = {.type = EV_LINK_FRAME, .link = l->id[end], .data = body};
    sim_node_give(s, n, &e);
}

void net_event(struct sim *s, struct sim_node *n, const struct sim_event *ev)
{
    if (ev->kind == SIM_FRAME) {
        give_frame(s, n, ev->data);
        return;
    }
    struct sim_link *l = link_at(s, ev->a);
    uint32_t end = (uint32_t)ev->b;
    if (l == NULL || !l->up[end] || l->life[end] != n->life) {
        return;
    }
    if (ev->kind == SIM_LINK_DOWN) {
        if (l->told[end]) {
            give_link_down(s, n, l, end);
        } else {
            l->up[end] = false;
            if (end == 0) {
                struct event e = {.type = EV_DIAL_FAILED, .peer = l->node[1] + 1};
                sim_node_give(s, n, &e);
            }
        }
        return;
    }
    l->told[end] = true;
    struct event e = {.type = EV_LINK_UP, .link = l->id[end], .peer = end == 0 ? l->node[1] + 1 : 0};
    sim_node_give(s, n, &e);
}

/* The other ends learn soon when a kernel lives on to say so, late or never when the machine is gone; frames on their way arrive,
 * some of them long after the node was started again. */
void net_node_gone(struct sim *s, struct sim_node *n, enum death how)
{
    for (uint32_t i = 0; i < s->n_links; i++) {
        struct sim_link *l = &s->links[i];
        for (uint32_t e = 0; e < 2; e++) {
            if (l->node[e] != n->index || !l->up[e]) {
                continue;
            }
            l->up[e] = false;
            if (!l->up[1 - e]) {
                continue;
            }
            uint64_t at = s->now_us + net_latency(s);
            at = at > l->last_at[1 - e] ? at : l->last_at[1 - e];
            if (how == DEATH_POWER) {
                at += draw_exp(&s->prng, 3000000);
            } else if (chance(s, FAULT_NET_LATE)) {
                fire(s, FAULT_NET_LATE);
                at += draw_exp(&s->prng, s->mean_us[FAULT_NET_LATE]);
            }
            link_down_at(s, l, 1 - e, at);
        }
    }
}

void net_cut_link(struct sim *s, uint32_t a, uint32_t b, bool half_open)
{
    for (uint32_t i = 0; i < s->n_links; i++) {
        struct sim_link *l = &s->links[i];
        bool between = (l->node[0] == a && l->node[1] == b) || (l->node[0] == b && l->node[1] == a);
        if (between && (l->up[0] || l->up[1])) {
            fire(s, half_open ? FAULT_NET_HALF_OPEN : FAULT_NET_CUT);
            link_break(s, l, half_open);
        }
    }
}
