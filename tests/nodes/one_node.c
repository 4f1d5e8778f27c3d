/* One node in virtual time; see one_node.h. The driver is the smallest one that keeps node.h's contract: effects in list order,
 * a turn's end after each burst, log writes durable before the next turn. */
#include "one_node.h"

#include "utils/assert.h"

#include <stdio.h>
#include <stdlib.h>

static void one_event(struct one_node *o, struct event *ev);

static void one_log(struct one_node *o, struct effect *e)
{
    syn_assert(store_append(o->store, buf_slice(&e->data)) == STORE_OK);
    syn_assert(store_sync(o->store) == STORE_OK);
    o->log_seq = e->seq;
}

static void one_offer(struct one_node *o, conn_id_t id)
{
    struct one_conn *c = &o->conns[id];
    if (!c->open || c->paused || c->in.len == 0) {
        return;
    }
    struct buf in = c->in;
    c->in = (struct buf){0};
    struct event ev = {.type = EV_CONN_DATA, .conn = id, .data = buf_slice(&in)};
    one_event(o, &ev);
    buf_consume(&in, ev.consumed);
    syn_assert(c->in.len == 0);
    c->in = in;
}

static void one_effect(struct one_node *o, struct effect *e)
{
    struct one_conn *c = e->conn > 0 && e->conn <= ONE_CONNS_MAX ? &o->conns[e->conn] : NULL;
    switch (e->type) {
    case EF_LOG: one_log(o, e); break;
    case EF_REPLY:
        buf_append_slice(&c->out, buf_slice(&e->data));
        one_event(o, &(struct event){.type = EV_CONN_DRAINED, .conn = e->conn});
        break;
    case EF_CLOSE_CONN: one_close(o, e->conn); break;
    case EF_PAUSE_CONN: c->paused = true; break;
    case EF_RESUME_CONN:
        c->paused = false;
        one_offer(o, e->conn);
        break;
    case EF_DIAL:
        o->dials++;
        one_event(o, &(struct event){.type = EV_DIAL_FAILED, .peer = e->peer});
        break;
    case EF_STOP: o->stopped = true; break;
    default: break;
    }
}

static void one_event(struct one_node *o, struct event *ev)
{
    struct effects fx;
    effects_init(&fx);
    ev->now_ms = o->now_ms;
    ev->wall_ms = 1700000000000 + o->now_ms;
    node_step(o->node, ev, &fx);
    for (uint32_t i = 0; i < fx.count; i++) {
        one_effect(o, &fx.items[i]);
    }
    effects_fini(&fx);
}

/* Turns until the log is still and nothing is left to say at this instant. */
static void one_settle(struct one_node *o)
{
    for (int i = 0; i < 8; i++) {
        uint64_t done = o->log_seq;
        one_event(o, &(struct event){.type = EV_TURN_END});
        if (o->log_seq != done) {
            one_event(o, &(struct event){.type = EV_LOG_DONE, .seq = o->log_seq, .value = 100});
        } else if (node_deadline_ms(o->node) > o->now_ms) {
            return;
        }
    }
}

void one_run(struct one_node *o, uint64_t ms)
{
    uint64_t end = o->now_ms + ms;
    one_settle(o);
    while (o->now_ms < end) {
        uint64_t at = node_deadline_ms(o->node);
        at = at > o->now_ms ? at : o->now_ms + 1;
        o->now_ms = at < end ? at : end;
        one_settle(o);
    }
}

void one_start(struct one_node *o, uint32_t members)
{
    memset(o, 0, sizeof *o);
    o->mem = files_mem_new();
    o->files = files_mem_table(o->mem);
    o->now_ms = 1000;
    struct node_options *n = &o->options;
    *n = (struct node_options){.self = 1, .seed = 7, .n_members = members, .groups = 2, .replication_factor = 3, .virtual_nodes = 16,
                               .election_ms_min = 150, .election_ms_max = 300, .heartbeat_ms = 50, .request_timeout_ms = 500,
                               .lock_ttl_ms = 5000, .num_partitions = 6, .max_deliver = 3, .ack_timeout_ms = 5000, .resp_port = 7379, .http_port = 8000, .snapshot_log_bytes = 1 << 20,
                               .cache_entries = 1000, .cache_lease_ms = 2000, .cache_flush_ms = 200,
                               .sim_checks = true};
    for (uint32_t i = 0; i < members; i++) {
        n->members[i].id = i + 1;
        n->members[i].peer_port = (uint16_t)(7380 + i);
        snprintf(n->members[i].name, sizeof n->members[i].name, "n%u", i + 1);
        snprintf(n->members[i].host, sizeof n->members[i].host, "127.0.0.1");
    }
    struct store_options so = {.node_uuid_seed = 5, .self = 1, .node_name = SLICE_LIT("n1"), .groups = 2, .segment_bytes = 64 * 1024};
    struct buf error = {0};
    syn_assert(store_open(&o->files, &so, &o->store, &o->recovered, &error) == STORE_OK);
    buf_fini(&error);
    n->node_uuid = o->recovered.node_uuid;
    n->incarnation = o->recovered.incarnation;
    n->fresh = o->recovered.fresh;
    o->node = node_new(n, &o->recovered, o->now_ms, 1700000000000);
    one_run(o, 1000);
}

void one_stop(struct one_node *o)
{
    node_free(o->node);
    store_recovered_free(&o->recovered);
    store_close(o->store);
    files_mem_free(o->mem);
    for (int i = 0; i <= ONE_CONNS_MAX; i++) {
        buf_fini(&o->conns[i].in);
        buf_fini(&o->conns[i].out);
    }
}

void one_open(struct one_node *o, conn_id_t id, enum door_kind kind)
{
    o->conns[id].open = true;
    one_event(o, &(struct event){.type = EV_CONN_OPENED, .conn = id, .door = kind, .text = "127.0.0.1:5"});
}

void one_close(struct one_node *o, conn_id_t id)
{
    if (o->conns[id].open) {
        o->conns[id].open = false;
        one_event(o, &(struct event){.type = EV_CONN_CLOSED, .conn = id});
    }
}

void one_send(struct one_node *o, conn_id_t id, const char *bytes)
{
    buf_append_str(&o->conns[id].in, bytes);
    one_offer(o, id);
    one_settle(o);
}

const char *one_take(struct one_node *o, conn_id_t id)
{
    static char text[64 * 1024];
    struct buf *out = &o->conns[id].out;
    size_t n = out->len < sizeof text - 1 ? out->len : sizeof text - 1;
    memcpy(text, out->ptr ? out->ptr : (const uint8_t *)"", n);
    text[n] = '\0';
    buf_clear(out);
    return text;
}

const char *one_ask(struct one_node *o, conn_id_t id, const char *command)
{
    one_send(o, id, command);
    one_send(o, id, "\r\n");
    one_run(o, 20);
    return one_take(o, id);
}
