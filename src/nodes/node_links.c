/* Links to the other nodes: who dials whom, HELLO, frames in and out, and noticing that a peer is gone.
 *
 * One connection per pair of nodes; the node with the smaller number dials. HELLO is the first message in both directions and
 * settles who speaks: cluster key, node number, uuid of the data directory, incarnation. Everything a turn has for a peer
 * leaves as one frame. A closed link tells consensus at once (T27).
 *
 * Invariants: L1 no message is handled before HELLO was accepted. L2 a frame is checked whole before any of it is acted upon.
 * L3 an older incarnation of a known data directory is refused (N13); so is a second data directory under a number whose
 * link is alive (H1). */
#include "nodes/node_internal.h"

#include "communication/peer_auth.h"
#include "utils/hash.h"
#include "utils/limits.h"
#include "utils/mutant.h"

#include <stdio.h>
#include <stdlib.h>

enum { DIAL_FIRST_MS = 20, DIAL_MS_MAX = 250, HELLO_MS_MAX = 3000, ORIGIN_GONE_MS = 5000, SILENT_ELECTIONS = 3 };

static bool link_eq(const struct map_node *m, const void *key)
{
    return CONTAINER_OF(m, struct link, by_id)->id == *(const link_id_t *)key;
}

static struct link *link_find(struct node *n, link_id_t id)
{
    struct map_node *m = map_find(&n->links, hash_u64(id), &id, link_eq);
    return m != NULL ? CONTAINER_OF(m, struct link, by_id) : NULL;
}

bool peer_linked(const struct node_peer *p)
{
    return p->link != 0 && p->hello_seen;
}

static bool we_dial(const struct node *n, const struct node_peer *p)
{
    return n->opt.self < p->member.id;
}

void links_add_peer(struct node *n, const struct node_member *m)
{
    if (m->id == n->opt.self || node_peer_of(n, m->id) != NULL) {
        return;
    }
    syn_assert(n->n_peers < NODE_MEMBERS_MAX);
    struct node_peer *p = &n->peers[n->n_peers++];
    *p = (struct node_peer){.member = *m};
    p->dial_at_ms = we_dial(n, p) ? n->now_ms : UINT64_MAX;
}

void links_start(struct node *n)
{
    for (uint32_t i = 0; i < n->opt.n_members; i++) {
        links_add_peer(n, &n->opt.members[i]);
    }
}

static void link_log_close(struct node *n, const struct link *l, const char *why)
{
    uint64_t held;
    if (log_limit_pass(&n->link_log, n->now_ms, &held)) {
        node_log(n, LOG_WARN, "closing link with %s: %s", l->peer ? node_name_of(n, l->peer) : "an unknown peer", why);
    } else {
        metrics_add(&n->metrics, METRIC_LOG_LINES_HELD_BACK_TOTAL, 1);
    }
}

static void link_close(struct node *n, struct link *l, const char *why)
{
    link_log_close(n, l, why);
    effects_add(n->fx, EF_LINK_CLOSE)->link = l->id;
    links_down(n, l->id);
}

static void link_refuse(struct node *n, struct link *l, const char *why)
{
    metrics_refused(&n->metrics, REFUSED_PEER);
    link_close(n, l, why);
}

static void hello_send(struct node *n, struct link *l, uint64_t peer_nonce)
{
    struct peer_msg m = {.kind = PEER_HELLO};
    struct peer_hello *h = &m.u.hello;
    h->version = PEER_WIRE_VERSION;
    h->cluster_key = n->opt.cluster_key;
    h->cluster_id = n->cluster_id;
    h->node = n->opt.self;
    h->to = l->peer;
    h->uuid = n->opt.node_uuid;
    h->incarnation = n->opt.incarnation;
    h->fresh = n->fresh;
    h->name = slice_str(node_name_of(n, n->opt.self));
    h->client_host = slice_str(n->opt.client_host);
    h->resp_port = n->opt.resp_port;
    h->http_port = n->opt.http_port;
    h->nonce = l->nonce;
    uint8_t mac[PEER_MAC_BYTES];
    if (n->opt.peer_secret[0] != '\0' && peer_nonce != 0) {
        peer_mac(slice_str(n->opt.peer_secret), h, peer_nonce, mac);
        h->mac = slice_of(mac, sizeof mac);
    }
    struct effect *e = effects_add(n->fx, EF_LINK_SEND);
    e->link = l->id;
    struct frame_builder f;
    frame_begin(&f, &e->data);
    frame_add(&f, &m);
    frame_end(&f);
}

void links_up(struct node *n, link_id_t id, node_id_t peer)
{
    struct link *l = calloc(1, sizeof *l);
    syn_assert(l != NULL && link_find(n, id) == NULL);
    l->id = id;
    l->peer = peer;
    l->accepted = peer == 0;
    l->opened_ms = n->now_ms;
    l->nonce = prng_u64(&n->prng) | 1;
    map_insert(&n->links, &l->by_id, hash_u64(id));
    if (peer != 0) {
        hello_send(n, l, 0);
    }
}

/* The reason to refuse a HELLO, or NULL. */
static const char *hello_invalid(struct node *n, const struct link *l, const struct peer_hello *h)
{
    struct node_peer *p = node_peer_of(n, h->node);
    if (h->version != PEER_WIRE_VERSION) {
        return "it speaks another wire version: upgrade the nodes to versions that overlap";
    }
    if (h->cluster_key != n->opt.cluster_key) {
        return "its GROUPS, CONSENSUS_TYPE, VIRTUAL_NODES, CACHE_LEASE or CACHE_WRITE_POLICY differ: make them equal";
    }
    if (h->cluster_id != 0 && n->cluster_id != 0 && h->cluster_id != n->cluster_id) {
        return "it belongs to another cluster: check the addresses in CLUSTER_NODES";
    }
    if (h->node == n->opt.self) {
        return "it has this node's own NODE_ID: give each node its own";
    }
    if (p == NULL) {
        return "its NODE_ID is not a member of this cluster: CLUSTER.ADD it first";
    }
    if (l->peer != 0 && l->peer != h->node) {
        return "another node answers at this address: check CLUSTER_NODES";
    }
    if (h->to != 0 && h->to != n->opt.self) {
        return "it means to talk to another node: check its CLUSTER_NODES";
    }
    if (p->uuid == h->uuid && h->incarnation < p->incarnation) {
        return "it is an earlier start of a node that has been restarted since";
    }
    if (p->uuid != 0 && p->uuid != h->uuid && peer_linked(p) && p->link != l->id && n->now_ms - p->heard_ms < n->opt.election_ms_max) {
        return "two processes with different data directories use this NODE_ID";
    }
    return NULL;
}

static void peer_replace_link(struct node *n, struct node_peer *p, struct link *l)
{
    if (p->link != 0 && p->link != l->id) {
        struct link *old = link_find(n, p->link);
        if (old != NULL) {
            link_close(n, old, "a newer one took its place");
        }
    }
    p->link = l->id;
    p->hello_seen = true;
    p->dial_failures = 0;
    p->dial_at_ms = UINT64_MAX;
}

static void hello_accepted(struct node *n, struct link *l, const struct peer_hello *h)
{
    struct node_peer *p = node_peer_of(n, h->node);
    uint64_t origin = node_origin(h->uuid, h->incarnation);
    if (p->origin != 0 && p->origin != origin) {
        route_origin_gone(n, p->origin);
        reads_forget(n, h->node);
    }
    p->origin = origin;
    p->uuid = h->uuid;
    p->incarnation = h->incarnation;
    p->fresh = h->fresh;
    p->resp_port = (uint16_t)h->resp_port;
    p->http_port = (uint16_t)h->http_port;
    snprintf(p->client_host, sizeof p->client_host, "%.*s", (int)h->client_host.len, (const char *)h->client_host.ptr);
    l->peer = h->node;
    l->hello_seen = true;
    p->dialling = false;
    peer_replace_link(n, p, l);
    p->heard_ms = n->now_ms;
    p->gone_told = false;
    node_log(n, LOG_INFO, "linked with %s%s", node_name_of(n, h->node), h->fresh ? ", which started empty" : "");
    members_announce(n, p);
    members_tell_led(n, p);
    n->parked_retry_ms = 0;
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        struct node_group *g = &n->groups[i];
        if (g->hosted) {
            g->rejoin_retry_ms = 0;
            rejoin_ask(n, g);
            group_touch(n, g);
        }
    }
}

/* With a PEER_SECRET the exchange is: dialler HELLO, acceptor HELLO + mac over the dialler's nonce, dialler HELLO + mac over the
 * acceptor's nonce; each side believes the other only after a good mac. Without one, the first HELLO of each side is enough. */
static void link_on_hello(struct node *n, struct link *l, const struct peer_hello *h)
{
    const char *why = hello_invalid(n, l, h);
    if (why != NULL) {
        link_refuse(n, l, why);
        return;
    }
    bool secret = n->opt.peer_secret[0] != '\0';
    bool first = !l->hello_sent_back;
    if (l->accepted && first) {
        l->hello_sent_back = true;
        l->peer = h->node;
        hello_send(n, l, h->nonce);
    } else if (!l->accepted && secret && first) {
        l->hello_sent_back = true;
        hello_send(n, l, h->nonce);
    }
    if (secret && h->mac.len == 0) {
        if (l->accepted && first) {
            return; /* its proof comes with its second HELLO */
        }
        link_refuse(n, l, "it has no PEER_SECRET: set the same one on every node");
        return;
    }
    if (secret && !peer_mac_valid(slice_str(n->opt.peer_secret), h, l->nonce)) {
        link_refuse(n, l, "its PEER_SECRET differs");
        return;
    }
    if (!l->hello_seen) {
        hello_accepted(n, l, h);
    }
}

static void on_consensus(struct node *n, struct node_peer *p, const struct consensus_msg *m)
{
    if (m->group >= n->opt.groups || m->from != p->member.id || m->to != n->opt.self) {
        metrics_refused(&n->metrics, REFUSED_PEER);
        return;
    }
    struct node_group *g = &n->groups[m->group];
    if (!g->hosted) {
        if (m->type != MSG_APPEND && m->type != MSG_HEARTBEAT && m->type != MSG_SNAPSHOT) {
            return;
        }
        struct consensus_recovered r = {0}; /* a new home for this group: its leader will fill it */
        group_host(n, g, &r);
        rejoin_forgotten(n, g);
        node_log(n, LOG_INFO, "group %u: hosting a replica", g->id);
    }
    if (g->term > 0 && m->term > g->term + LIMIT_TERM_JUMP) { /* it would leave no room for elections (I38) */
        metrics_refused(&n->metrics, REFUSED_PEER);
        return;
    }
    if (m->type == MSG_APPEND && m->n_entries > 0 && node_is_heavy(n, 5)) {
        return; /* as if it had been lost: it comes again when the disk has caught up */
    }
    consensus_step(g->consensus, m, n->now_ms);
    group_touch(n, g);
}

static void on_forward_reply(struct node *n, struct node_peer *p, const struct peer_forward_reply *f)
{
    if (f->status == FORWARD_OK) {
        request_answer(n, f->req, f->payload);
    } else {
        request_refused(n, f->req, f->status, f->leader, p->member.id);
    }
}

/* What asks and answers once must not be done or believed twice, whatever the link does with a frame. */
static bool is_copy(struct node *n, struct link *l, uint64_t number)
{
    if (number <= l->number_seen && !MUTANT("N2")) {
        metrics_refused(&n->metrics, REFUSED_REPLAY);
        return true;
    }
    l->number_seen = number;
    return false;
}

static void on_message(struct node *n, struct link *l, const struct peer_msg *m)
{
    if (m->kind == PEER_HELLO) {
        link_on_hello(n, l, &m->u.hello);
        return;
    }
    struct node_peer *p = node_peer_of(n, l->peer);
    if (!l->hello_seen || p == NULL) {
        link_refuse(n, l, "it spoke before its HELLO was accepted");
        return;
    }
    switch (m->kind) {
    case PEER_CONSENSUS: on_consensus(n, p, &m->u.consensus); break;
    case PEER_FORWARD:
        if (!is_copy(n, l, m->u.forward.number)) {
            route_on_forward(n, p, &m->u.forward);
        }
        break;
    case PEER_FORWARD_REPLY:
        if (!is_copy(n, l, m->u.forward_reply.number)) {
            on_forward_reply(n, p, &m->u.forward_reply);
        }
        break;
    case PEER_PROBE: probe_on(n, &m->u.probe); break;
    case PEER_PLACEMENT: members_on_placement(n, &m->u.placement); break;
    case PEER_CACHE:
        cache_stay_awake(n);
        cache_on_peer(n, p->member.id, m->u.cache.messages);
        break;
    case PEER_QUEUE_CHANGED:
        doors_group_changed(n, m->u.queue_changed.topic, m->u.queue_changed.group, m->u.queue_changed.generation);
        break;
    default: SYN_UNREACHABLE();
    }
}

void links_frame(struct node *n, link_id_t id, slice_t body)
{
    struct link *l = link_find(n, id);
    if (l == NULL) {
        return; /* closed by us while its last frames were on their way */
    }
    const char *why = frame_check(body);
    if (why != NULL) {
        link_refuse(n, l, why);
        return;
    }
    metrics_add(&n->metrics, METRIC_PEER_FRAMES_IN_TOTAL, 1);
    metrics_add(&n->metrics, METRIC_PEER_BYTES_IN_TOTAL, body.len);
    struct node_peer *p = node_peer_of(n, l->peer);
    if (p != NULL && l->hello_seen) {
        p->heard_ms = n->now_ms;
    }
    struct frame_reader r;
    struct peer_msg m;
    frame_read(&r, body);
    while (frame_next(&r, &m)) {
        on_message(n, l, &m);
        l = link_find(n, id);
        if (l == NULL) {
            return;
        }
    }
}

void links_down(struct node *n, link_id_t id)
{
    struct link *l = link_find(n, id);
    if (l == NULL) {
        return;
    }
    struct node_peer *p = node_peer_of(n, l->peer);
    map_remove(&n->links, &l->by_id);
    if (p != NULL && p->link == id) {
        p->link = 0;
        p->hello_seen = false;
        p->frame_open = false;
        buf_clear(&p->out);
        node_log(n, LOG_WARN, "lost the link with %s", node_name_of(n, p->member.id));
        route_peer_lost(n, p->member.id);
        doors_cache_unlinked(n, p->member.id);
        for (uint32_t i = 0; i < n->opt.groups; i++) {
            if (n->groups[i].hosted) {
                consensus_peer_lost(n->groups[i].consensus, p->member.id, n->now_ms);
                group_touch(n, &n->groups[i]);
            }
        }
    }
    if (p != NULL && p->link == 0 && we_dial(n, p)) {
        if (!l->hello_seen) {
            links_dial_failed(n, p->member.id); /* it was refused: as if it had not answered */
        } else {
            p->dialling = false;
            p->dial_at_ms = n->now_ms + prng_range(&n->prng, DIAL_FIRST_MS / 2, DIAL_FIRST_MS);
        }
    }
    free(l);
}

void links_no_frame(struct node *n, link_id_t id, const char *why)
{
    struct link *l = link_find(n, id);
    if (l != NULL) {
        metrics_refused(&n->metrics, REFUSED_PEER);
        link_log_close(n, l, why);
        links_down(n, id);
    }
}

void links_dial_failed(struct node *n, node_id_t peer)
{
    struct node_peer *p = node_peer_of(n, peer);
    if (p == NULL) {
        return;
    }
    p->dialling = false;
    uint64_t wait = DIAL_FIRST_MS << (p->dial_failures < 6 ? p->dial_failures : 6);
    wait = wait > DIAL_MS_MAX ? DIAL_MS_MAX : wait;
    p->dial_failures++;
    p->dial_at_ms = n->now_ms + prng_range(&n->prng, wait / 2, wait);
}

/* A link that stays silent although heartbeats are due is closed: half-open connections never say so themselves. */
static void link_timers(struct node *n, struct node_peer *p)
{
    if (p->link == 0 && !p->dialling && we_dial(n, p) && n->now_ms >= p->dial_at_ms) {
        p->dialling = true;
        struct effect *e = effects_add(n->fx, EF_DIAL);
        e->peer = p->member.id;
        buf_printf(&e->data, "%s:%u", p->member.host, p->member.peer_port);
    }
    if (peer_linked(p) && n->now_ms - p->heard_ms > SILENT_ELECTIONS * (uint64_t)n->opt.election_ms_max) {
        link_close(n, link_find(n, p->link), "silent for too long");
    }
    if (p->link == 0 && p->origin != 0 && !p->gone_told && n->now_ms - p->heard_ms > ORIGIN_GONE_MS) {
        p->gone_told = true;
        route_origin_gone(n, p->origin);
    }
}

static void links_drop_mute(struct node *n)
{
    struct map_node *m = map_first(&n->links);
    while (m != NULL) {
        struct link *l = CONTAINER_OF(m, struct link, by_id);
        m = map_next(&n->links, m);
        if (!l->hello_seen && n->now_ms - l->opened_ms > HELLO_MS_MAX) {
            link_refuse(n, l, "no HELLO in time");
            return; /* the map changed; the next turn looks again */
        }
    }
}

void links_timers(struct node *n)
{
    bool keepalive = n->now_ms >= n->keepalive_ms;
    if (keepalive) {
        n->keepalive_ms = n->now_ms + n->opt.election_ms_max;
        links_drop_mute(n);
        members_keepalive_next(n);
    }
    for (uint32_t i = 0; i < n->n_peers; i++) {
        struct node_peer *p = &n->peers[i];
        link_timers(n, p);
        if (keepalive && peer_linked(p)) {
            members_keepalive(n, p); /* quiesced groups say nothing; the link must still be heard */
        }
    }
}

uint64_t links_deadline(const struct node *n)
{
    uint64_t at = n->keepalive_ms;
    for (uint32_t i = 0; i < n->n_peers; i++) {
        const struct node_peer *p = &n->peers[i];
        if (p->link == 0 && !p->dialling && we_dial(n, p) && p->dial_at_ms < at) {
            at = p->dial_at_ms;
        }
    }
    return at;
}

static const struct peer_msg *numbered(struct node_peer *p, const struct peer_msg *m, struct peer_msg *copy)
{
    if (m->kind != PEER_FORWARD && m->kind != PEER_FORWARD_REPLY) {
        return m;
    }
    *copy = *m;
    uint64_t *number = m->kind == PEER_FORWARD ? &copy->u.forward.number : &copy->u.forward_reply.number;
    *number = ++p->numbers_sent;
    return copy;
}

void links_send(struct node *n, struct node_peer *p, const struct peer_msg *m)
{
    (void)n;
    struct peer_msg copy;
    syn_assert(peer_linked(p));
    if (!p->frame_open) {
        buf_clear(&p->out);
        frame_begin(&p->frame, &p->out);
        p->frame_open = true;
        p->frames = 1;
    }
    frame_add(&p->frame, numbered(p, m, &copy));
    if (p->out.len - p->frame.start > FRAME_SOFT_BYTES) {
        frame_end(&p->frame);
        frame_begin(&p->frame, &p->out);
        p->frames++;
    }
}

void links_flush(struct node *n)
{
    for (uint32_t i = 0; i < n->n_peers; i++) {
        struct node_peer *p = &n->peers[i];
        if (!p->frame_open) {
            continue;
        }
        frame_end(&p->frame);
        p->frame_open = false;
        if (p->out.len == 0 || !peer_linked(p)) {
            continue;
        }
        metrics_add(&n->metrics, METRIC_PEER_FRAMES_OUT_TOTAL, p->frames);
        metrics_add(&n->metrics, METRIC_PEER_BYTES_OUT_TOTAL, p->out.len);
        struct effect *e = effects_add(n->fx, EF_LINK_SEND);
        e->link = p->link;
        buf_swap(&e->data, &p->out);
        buf_clear(&p->out);
    }
}

void links_fini(struct node *n)
{
    struct map_node *m;
    while ((m = map_first(&n->links)) != NULL) {
        map_remove(&n->links, m);
        free(CONTAINER_OF(m, struct link, by_id));
    }
    map_fini(&n->links);
    for (uint32_t i = 0; i < n->n_peers; i++) {
        buf_fini(&n->peers[i].out);
    }
}
