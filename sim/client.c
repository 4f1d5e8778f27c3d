/* Clients and their connections: bytes to a node, bytes back, closing, losing, asking again elsewhere.
 *
 * Responsible for: connections as streams with a delay (order kept), what a node has not consumed, back-pressure, a client's life
 * from one step to the next. Not for: what it asks (workload.c) nor what it was told (client_reply.c).
 *
 * Invariants: C1 a client waits for replies in the order of its requests. C2 whoever waits either gets a reply or loses the
 * connection; in phase two nobody gives up. */
#include "sim_cache.h"
#include "sim_queue.h"

#include <stdlib.h>

enum { GIVE_UP_US = 9000000, CLIENT_LATENCY_US = 150 };

static uint64_t client_latency(struct sim *s)
{
    return 20 + draw_exp(&s->prng, CLIENT_LATENCY_US);
}

static struct buf *bytes_new(slice_t bytes)
{
    struct buf *b = calloc(1, sizeof *b);
    syn_assert(b != NULL);
    buf_append_slice(b, bytes);
    return b;
}

/* To the node of a connection, in order. */
static void to_node(struct sim *s, struct sim_conn *k, enum event_kind kind, void *data)
{
    uint64_t at = s->now_us + client_latency(s);
    at = at > k->last_to_node ? at : k->last_to_node;
    k->last_to_node = at;
    struct sim_event ev = {.at_us = at, .kind = kind, .node = k->node, .life = k->life, .a = (uint64_t)(k - s->conns), .data = data};
    heap_push(&s->heap, ev);
}

static void to_client(struct sim *s, struct sim_conn *k, enum event_kind kind, uint64_t delay, void *data)
{
    uint64_t at = s->now_us + delay;
    at = at > k->last_to_client ? at : k->last_to_client;
    k->last_to_client = at;
    sim_at(s, at, kind, k->node, (uint64_t)(k - s->conns), 0, data);
}

bool client_connect(struct sim *s, struct sim_client *c, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];
    if (!n->up) {
        return false;
    }
    if (s->n_conns == s->cap_conns) {
        s->cap_conns = s->cap_conns ? s->cap_conns * 2 : 256;
        s->conns = realloc(s->conns, s->cap_conns * sizeof *s->conns);
        syn_assert(s->conns != NULL);
    }
    struct sim_conn *k = &s->conns[s->n_conns];
    *k = (struct sim_conn){.id = s->n_conns + 1, .client = c->index, .node = node, .life = n->life, .client_open = true, .node_open = true};
    c->conn = (int32_t)s->n_conns++;
    c->node = node;
    c->expect_at = c->expect_count = 0;
    buf_clear(&c->in);
    to_node(s, k, SIM_CONN_OPEN, NULL);
    c->told_proto = false;
    return true;
}

void client_close(struct sim *s, struct sim_client *c)
{
    if (c->conn < 0) {
        return;
    }
    struct sim_conn *k = &s->conns[c->conn];
    k->client_open = false;
    to_node(s, k, SIM_CONN_CLOSE, NULL);
    c->conn = -1;
    c->expect_count = 0;
}

void client_wake(struct sim *s, struct sim_client *c, uint64_t after_us)
{
    c->generation++;
    struct sim_event ev = {.at_us = s->now_us + after_us, .kind = SIM_CLIENT, .a = c->index, .b = c->generation};
    heap_push(&s->heap, ev);
}

void op_send(struct sim *s, struct sim_client *c, uint64_t op)
{
    syn_assert(c->conn >= 0 && c->expect_count < SIM_EXPECT_MAX);
    struct buf out = {0};
    op_write(s, c, op, &out);
    c->expect[(c->expect_at + c->expect_count++) % SIM_EXPECT_MAX] = op;
    struct sim_conn *k = &s->conns[c->conn];
    slice_t all = buf_slice(&out);
    if (all.len > 2 && chance(s, FAULT_CLIENT_SPLIT)) {
        fire(s, FAULT_CLIENT_SPLIT);
        size_t cut = 1 + prng_below(&s->prng, all.len - 1);
        to_node(s, k, SIM_CONN_DATA, bytes_new(slice_of(all.ptr, cut)));
        all = slice_of(all.ptr + cut, all.len - cut);
    }
    to_node(s, k, SIM_CONN_DATA, bytes_new(all));
    buf_fini(&out);
}

uint64_t op_new(struct sim *s, struct sim_client *c, enum op_kind kind, uint32_t resource)
{
    if (s->n_ops == s->cap_ops) {
        s->cap_ops = s->cap_ops ? s->cap_ops * 2 : 1024;
        s->ops = realloc(s->ops, s->cap_ops * sizeof *s->ops);
        syn_assert(s->ops != NULL);
    }
    struct sim_op *o = &s->ops[s->n_ops];
    *o = (struct sim_op){.client = c->index, .kind = (uint8_t)kind, .resource = (uint16_t)resource, .call_us = s->now_us};
    return s->n_ops++;
}

static uint32_t other_node(struct sim *s, const struct sim_client *c)
{
    return (c->node + 1 + (uint32_t)prng_below(&s->prng, s->n_nodes)) % s->n_nodes;
}

/* Asks again with the same owner and IDEM id, elsewhere. */
static bool try_again(struct sim *s, struct sim_client *c)
{
    struct sim_op *o = &s->ops[c->op];
    bool may = o->kind == OP_QUEUE ? queue_may_retry(s, o) : o->kind == OP_CACHE ? cache_may_retry(s, o) : o->kind == OP_ACQUIRE && !o->untracked;
    if (!may || c->tries >= 4 || !chance(s, FAULT_CLIENT_RETRY)) {
        return false;
    }
    client_close(s, c);
    if (!client_connect(s, c, other_node(s, c))) {
        return false;
    }
    fire(s, FAULT_CLIENT_RETRY);
    c->tries++;
    o->retried = true;
    op_send(s, c, c->op);
    c->deadline_us = s->now_us + o->wait_ms * 1000ull + GIVE_UP_US;
    client_wake(s, c, o->wait_ms * 1000ull + GIVE_UP_US);
    return true;
}

void client_forget(struct sim *s, struct sim_client *c)
{
    if (c->state == CLIENT_WAITS && c->op != 0) {
        if (try_again(s, c)) {
            return;
        }
        s->ops[c->op].status = OP_UNKNOWN;
        s->ops[c->op].return_us = s->now_us;
    }
    c->op = 0;
    c->hold = 0;
    c->state = CLIENT_IDLE;
    client_wake(s, c, prng_range(&s->prng, 1000, 200000));
}

void client_lost(struct sim *s, struct sim_client *c)
{
    c->conn = -1;
    c->expect_count = 0;
    buf_clear(&c->in);
    if (c->state == CLIENT_WAITS) {
        client_forget(s, c);
    }
}

void client_step(struct sim *s, const struct sim_event *ev)
{
    struct sim_client *c = &s->clients[ev->a];
    if (ev->b != c->generation) {
        return;
    }
    switch (c->state) {
    case CLIENT_IDLE:
        if (c->cache) {
            cache_next(s, c);
        } else if (c->queue) {
            queue_next(s, c);
        } else if (s->healed) {
            c->state = CLIENT_STOPPED;
        } else {
            workload_next(s, c);
        }
        break;
    case CLIENT_HOLDS:
        if (c->queue) {
            queue_hold(s, c);
        } else {
            workload_hold(s, c);
        }
        break;
    case CLIENT_WAITS:
        if (!s->healed) { /* C2 */
            client_close(s, c);
            client_forget(s, c);
        }
        break;
    case CLIENT_STOPPED: break;
    }
}

void clients_start(struct sim *s)
{
    s->cap_ops = 1024;
    s->ops = calloc(s->cap_ops, sizeof *s->ops);
    syn_assert(s->ops != NULL);
    s->n_ops = 1; /* number 0 is no operation */
    for (uint32_t i = 0; i < s->n_clients; i++) {
        struct sim_client *c = &s->clients[i];
        *c = (struct sim_client){.index = i, .conn = -1, .cache = cache_client(s, i)};
        c->queue = !c->cache && queue_client(s, i);
        prng_init(&c->prng, prng_u64(&s->prng));
        c->resp3 = prng_chance(&c->prng, 500000);
        client_wake(s, c, 300000 + prng_below(&s->prng, 1000000));
    }
}

void clients_fini(struct sim *s)
{
    for (uint32_t i = 0; i < s->n_clients; i++) {
        buf_fini(&s->clients[i].in);
    }
    for (uint32_t i = 0; i < s->n_conns; i++) {
        buf_fini(&s->conns[i].in);
    }
    free(s->conns);
    free(s->ops);
}

uint32_t clients_pending(const struct sim *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_clients; i++) {
        n += s->clients[i].state != CLIENT_STOPPED || (s->clients[i].conn >= 0 && s->clients[i].expect_count > 0);
    }
    return n;
}

static void offer(struct sim *s, struct sim_node *n, struct sim_conn *k)
{
    if (k->paused || !k->opened || k->in.len == 0) {
        return;
    }
    uint64_t number = (uint64_t)(k - s->conns), life = n->life;
    struct event ev = {.type = EV_CONN_DATA, .conn = k->id, .data = buf_slice(&k->in)};
    sim_node_give(s, n, &ev);
    k = &s->conns[number];
    if (n->up && n->life == life) {
        if (ev.consumed > k->in.len) {
            sim_fail(s, "n%u consumed more than it was given", n->index + 1);
            return;
        }
        buf_consume(&k->in, ev.consumed);
    }
}

void sim_conn_event(struct sim *s, struct sim_node *n, const struct sim_event *ev)
{
    struct sim_conn *k = &s->conns[ev->a];
    struct event e = {.conn = k->id};
    if (!k->node_open) {
        return;
    }
    switch (ev->kind) {
    case SIM_CONN_OPEN:
        k->opened = true;
        e.type = EV_CONN_OPENED;
        e.door = DOOR_RESP;
        e.text = "client:1";
        sim_node_give(s, n, &e);
        break;
    case SIM_CONN_DATA:
        if (ev->data != NULL) {
            buf_append_slice(&k->in, buf_slice(ev->data));
        }
        offer(s, n, k);
        break;
    case SIM_CONN_CLOSE:
        k->node_open = false;
        e.type = EV_CONN_CLOSED;
        sim_node_give(s, n, &e);
        break;
    case SIM_DRAINED:
        e.type = EV_CONN_DRAINED;
        sim_node_give(s, n, &e);
        break;
    default: SYN_UNREACHABLE();
    }
}

static struct sim_conn *conn_of(struct sim *s, const struct sim_node *n, conn_id_t id)
{
    if (id == 0 || id > s->n_conns) {
        sim_fail(s, "n%u names connection %llu, which never was", n->index + 1, (unsigned long long)id);
        return NULL;
    }
    struct sim_conn *k = &s->conns[id - 1];
    return k->node == n->index && k->life == n->life && k->node_open ? k : NULL;
}

void sim_conn_reply(struct sim *s, struct sim_node *n, conn_id_t id, slice_t bytes)
{
    struct sim_conn *k = conn_of(s, n, id);
    if (k == NULL) {
        return;
    }
    to_client(s, k, SIM_REPLY, client_latency(s), bytes_new(bytes));
    sim_at(s, s->now_us + 20, SIM_DRAINED, n->index, id - 1, 0, NULL);
}

void sim_conn_hangup(struct sim *s, struct sim_node *n, conn_id_t id)
{
    struct sim_conn *k = conn_of(s, n, id);
    if (k != NULL) {
        to_client(s, k, SIM_HANGUP, client_latency(s), NULL);
        sim_at(s, s->now_us, SIM_CONN_CLOSE, n->index, id - 1, 0, NULL);
    }
}

void sim_conn_paused(struct sim *s, struct sim_node *n, conn_id_t id, bool paused)
{
    struct sim_conn *k = conn_of(s, n, id);
    if (k == NULL) {
        return;
    }
    k->paused = paused;
    if (!paused && k->in.len > 0) { /* what was left over is offered again: no new byte may ever come */
        sim_at(s, s->now_us, SIM_CONN_DATA, n->index, id - 1, 0, NULL);
    }
}

void sim_conn_to_client(struct sim *s, const struct sim_event *ev)
{
    struct sim_conn *k = &s->conns[ev->a];
    struct sim_client *c = &s->clients[k->client];
    if (ev->kind == SIM_HANGUP) {
        if (k->client_open) {
            k->client_open = false;
            client_lost(s, c);
        }
        return;
    }
    if (k->client_open) {
        client_input(s, c, buf_slice(ev->data));
    }
    buf_fini(ev->data);
    free(ev->data);
}

void sim_conns_node_gone(struct sim *s, struct sim_node *n)
{
    for (uint32_t i = 0; i < s->n_conns; i++) {
        struct sim_conn *k = &s->conns[i];
        if (k->node == n->index && k->node_open) {
            k->node_open = false;
            buf_fini(&k->in);
            if (k->client_open) {
                to_client(s, k, SIM_HANGUP, client_latency(s) + draw_exp(&s->prng, 20000), NULL);
            }
        }
    }
}
