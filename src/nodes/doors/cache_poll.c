/* CACHE.STATE and CACHE.INVALIDATE: all nodes are asked about their lines of one key, and for CACHE.STATE its home about memory and the directory.
 *
 * Who has no link is not waited for, nor who loses it meanwhile; who has one and is silent, for POLL_MS. */
#include "nodes/doors/cache_door.h"

#include <stdlib.h>

enum { POLL_MS = 300 };

static void poll_free(struct cache_poll *p)
{
    list_remove(&p->link);
    buf_fini(&p->key);
    buf_fini(&p->home);
    free(p);
}

void cache_polls_free(struct cache_doors *d)
{
    list_each_safe(it, &d->polls) {
        poll_free(CONTAINER_OF(it, struct cache_poll, link));
    }
}

static bool can_ask(struct node *n, node_id_t node)
{
    const struct node_peer *p = node_peer_of(n, node);
    return node == n->opt.self || (p != NULL && peer_linked(p));
}

static const char *name_or_unknown(struct node *n, node_id_t id)
{
    return id == n->opt.self || node_peer_of(n, id) != NULL ? node_name_of(n, id) : "unknown";
}

/* epoch, version, exists, directory, owner, sharers: the home's words, or that it said none. */
static void put_home(struct node *n, const struct cache_poll *p, struct buf *out)
{
    struct reader r = reader_of(buf_slice(&p->home));
    reader_u8(&r);
    uint64_t epoch = reader_u64(&r), version = reader_u64(&r);
    bool exists = reader_u8(&r) == 1;
    uint8_t state = reader_u8(&r);
    node_id_t owner = reader_u32(&r);
    uint32_t sharers = reader_u32(&r);
    bool known = r.ok && state < HOME_STATES && reader_left(&r) == (size_t)sharers * 4;
    resp_bulk_str(out, "epoch");
    resp_u64(out, known ? epoch : p->epoch);
    resp_bulk_str(out, "exists");
    known ? resp_int(out, exists) : resp_null(out);
    resp_bulk_str(out, "version");
    known ? resp_u64(out, version) : resp_null(out);
    resp_bulk_str(out, "directory");
    resp_bulk_str(out, known ? HOME_STATE_NAMES[state] : "unknown");
    resp_bulk_str(out, "owner");
    known && owner != 0 ? resp_bulk_str(out, name_or_unknown(n, owner)) : resp_null(out);
    resp_bulk_str(out, "sharers");
    resp_array(out, known ? sharers : 0);
    for (uint32_t i = 0; known && i < sharers; i++) {
        resp_bulk_str(out, name_or_unknown(n, reader_u32(&r)));
    }
}

static void put_state(struct node *n, const struct cache_poll *p, struct buf *out)
{
    const struct node_group *g = &n->groups[p->group];
    resp_map(out, 10);
    resp_bulk_str(out, "key");
    resp_bulk(out, buf_slice(&p->key));
    resp_bulk_str(out, "group");
    resp_int(out, p->group);
    resp_bulk_str(out, "home");
    g->leader != 0 ? resp_bulk_str(out, node_name_of(n, g->leader)) : resp_null(out);
    put_home(n, p, out);
    resp_bulk_str(out, "nodes");
    resp_array(out, p->n_nodes);
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        enum poll_answer answer = p->nodes[i].answer;
        resp_map(out, 3);
        resp_bulk_str(out, "node");
        resp_bulk_str(out, name_or_unknown(n, p->nodes[i].node));
        resp_bulk_str(out, "state");
        resp_bulk_str(out, answer == POLL_SEEN ? MESI_STATE_NAMES[p->nodes[i].state] : answer == POLL_WAITS ? "unknown" : "unreachable");
        resp_bulk_str(out, "version");
        resp_u64(out, p->nodes[i].version);
    }
}

static void poll_end(struct node *n, struct cache_poll *p)
{
    struct buf out = {0};
    int64_t had = 0;
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        had += p->nodes[i].answer == POLL_SEEN && p->nodes[i].state != MESI_I;
    }
    if (p->drop) {
        resp_int(&out, had);
    } else {
        put_state(n, p, &out);
    }
    cache_reply_to(n, p->conn, p->slot, buf_slice(&out));
    buf_fini(&out);
    poll_free(p);
}

static void one_less(struct node *n, struct cache_poll *p)
{
    syn_assert(p->left > 0);
    if (--p->left == 0) {
        poll_end(n, p);
    }
}

/* Answers come in later turns, or at the end of this one: never before all are asked. */
static void done_home(struct node *n, struct request *r, slice_t reply)
{
    list_each(it, &n->doors->cache->polls) {
        struct cache_poll *p = CONTAINER_OF(it, struct cache_poll, link);
        if (p->txn == r->arg && p->home_asked != 0) {
            p->home_asked = 0;
            buf_append_slice(&p->home, reply.len > 0 && reply.ptr[0] == 1 ? reply : SLICE_NONE);
            one_less(n, p);
            return;
        }
    }
}

static void ask_home(struct node *n, struct cache_poll *p)
{
    node_id_t home = n->groups[p->group].leader;
    if (home == 0 || !can_ask(n, home)) {
        return;
    }
    struct request *r = request_new(n, p->group, REQUEST_READ, false, done_home);
    r->arg = p->txn;
    buf_put_u8(&r->payload, SERVICE_CACHE);
    buf_put_u8(&r->payload, CACHE_QUERY_STATE);
    buf_put_bytes(&r->payload, buf_slice(&p->key));
    p->home_asked = home;
    p->left++;
    request_submit(n, r);
}

static void add_node(struct node *n, struct cache_poll *p, node_id_t node)
{
    bool asked = can_ask(n, node);
    p->nodes[p->n_nodes].node = node;
    p->nodes[p->n_nodes++].answer = asked ? POLL_WAITS : POLL_UNREACHABLE;
    p->left += asked;
    if (asked) {
        struct cache_msg m = {.kind = CACHE_MSG_LOOK, .group = p->group, .txn = p->txn, .dirty = p->drop, .key = buf_slice(&p->key)};
        cache_send(n, node, &m);
    }
}

void cache_poll_begin(struct call *c, slice_t key, bool drop)
{
    struct node *n = c->n;
    struct cache_poll *p = calloc(1, sizeof *p);
    syn_assert(p != NULL);
    *p = (struct cache_poll){.conn = c->conn->id, .slot = c->slot, .txn = ++n->doors->cache->next_txn, .until_ms = n->now_ms + POLL_MS, .drop = drop,
                             .group = cache_group(n, key), .epoch = n->groups[cache_group(n, key)].term};
    buf_append_slice(&p->key, key);
    list_push_back(&n->doors->cache->polls, &p->link);
    doors_wake(n, p->until_ms);
    c->later = true;
    add_node(n, p, n->opt.self); /* its answer comes at the end of the turn */
    for (uint32_t i = 0; i < n->n_peers; i++) {
        add_node(n, p, n->peers[i].member.id);
    }
    if (!drop) {
        ask_home(n, p);
    }
}

/* Another node looks at our line, and may have it dropped when it is clean. */
static void on_look(struct node *n, node_id_t from, const struct cache_msg *m)
{
    struct cache_msg a = {.kind = CACHE_MSG_SEEN, .group = m->group, .txn = m->txn, .key = m->key};
    cacher_clock(n->cache.cacher, n->now_ms, n->wall_ms);
    a.grant = (uint8_t)cacher_state(n->cache.cacher, m->group, m->key, &a.version);
    a.epoch = n->groups[m->group].term;
    if (m->dirty) {
        cacher_drop(n->cache.cacher, m->group, m->key);
        cache_unfill(&n->groups[m->group], m->key);
    }
    cache_send(n, from, &a);
}

void doors_cache_seen(struct node *n, node_id_t from, const struct cache_msg *m)
{
    if (m->kind == CACHE_MSG_LOOK) {
        on_look(n, from, m);
        return;
    }
    list_each(it, &n->doors->cache->polls) {
        struct cache_poll *p = CONTAINER_OF(it, struct cache_poll, link);
        for (uint32_t i = 0; p->txn == m->txn && i < p->n_nodes; i++) {
            if (p->nodes[i].node == from && p->nodes[i].answer == POLL_WAITS && m->grant < MESI_STATES) {
                p->nodes[i].answer = POLL_SEEN;
                p->nodes[i].state = m->grant;
                p->nodes[i].version = m->version;
                p->epoch = m->epoch > p->epoch ? m->epoch : p->epoch;
                one_less(n, p);
                return;
            }
        }
    }
}

void doors_cache_unlinked(struct node *n, node_id_t peer)
{
    list_each_safe(it, &n->doors->cache->polls) {
        struct cache_poll *p = CONTAINER_OF(it, struct cache_poll, link);
        uint32_t gone = p->home_asked == peer;
        p->home_asked = gone ? 0 : p->home_asked;
        for (uint32_t i = 0; i < p->n_nodes; i++) {
            if (p->nodes[i].node == peer && p->nodes[i].answer == POLL_WAITS) {
                p->nodes[i].answer = POLL_UNREACHABLE;
                gone++;
            }
        }
        syn_assert(p->left >= gone);
        p->left -= gone;
        if (gone > 0 && p->left == 0) {
            poll_end(n, p);
        }
    }
}

void cache_polls_timers(struct node *n)
{
    list_each_safe(it, &n->doors->cache->polls) {
        struct cache_poll *p = CONTAINER_OF(it, struct cache_poll, link);
        if (n->now_ms >= p->until_ms) {
            poll_end(n, p);
        } else {
            doors_wake(n, p->until_ms);
        }
    }
}
