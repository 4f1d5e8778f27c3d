/* The queue part of a group's replica: operations applied, their results sent, what is due proposed, topics carried to their groups.
 *
 * Not responsible for: consumers that wait (node_claims.c), putting messages into answers (node_fills.c), where messages lie
 * (node_queue_log.c). Invariants: a message is handed to queue_log in the step that applies it (Q3: nothing uncommitted is ever
 * readable, S56); a result goes to a local asker from every replica, to a remote one from the leader (G3); at most one TICK of this
 * leadership is in flight (G4). */
#include "nodes/node_internal.h"

enum { DEDUP_MS = 120000, DEDUP_COUNT = 100000, DUE_RETRY_MS = 20, SPACE_RETRY_MS = 100, CARRY_RETRY_MS = 50, CARRY_MAX = 256, TIDY_MS = 1000, DAMAGED_RETRY_MS = 5000,
       CHECK_TURNS = 16 };

static void machines_new(struct node *n, struct node_group *g, struct group_queue *q)
{
    q->n = n;
    q->group = g->id;
    list_init(&q->parked);
    list_init(&q->fills);
    map_init(&q->parked_by_req);
    map_init(&q->parked_at);
    q->sm = queue_new_sm(n, g->id);
    q->log = queue_log_make(n, g, q);
    q->topics = g->id == 0 ? queue_new_topics(n) : NULL;
}

void queue_host(struct node *n, struct node_group *g)
{
    if (g->q.sm == NULL) {
        machines_new(n, g, &g->q);
    }
}

void queue_prepare_install(struct node *n, struct node_group *g, struct group_queue *q)
{
    machines_new(n, g, q);
}

/* The log's callbacks know their group_queue by its address: the new one moves in behind it. */
void queue_install(struct node *n, struct node_group *g, struct group_queue *take_q)
{
    struct group_queue *q = &g->q;
    queue_claims_drop(n, g, 0);
    fills_drop(n, g, 0, false);
    queue_sm_free(q->sm);
    queue_log_free(q->log);
    if (q->topics != NULL) {
        topics_free(q->topics);
    }
    q->sm = take_q->sm;
    q->log = take_q->log;
    q->topics = take_q->topics;
    queue_log_set_owner(q->log, q);
    map_fini(&take_q->parked_by_req);
    map_fini(&take_q->parked_at);
    *take_q = (struct group_queue){0};
    route_leader_changed(n, g); /* what was applied meanwhile is answered from the table of answered requests */
    queue_backlog_keep(n, g);
}

/* Both machines of a group apply its entries in order, so that all replicas ask the same locks. */
static bool lock_fence(void *arg, slice_t resource, uint64_t token, uint64_t *newest)
{
    const struct node_group *g = arg;
    return lock_sm_fenced(g->locks, resource, token, newest);
}

struct queue_sm *queue_new_sm(const struct node *n, uint32_t group)
{
    struct queue_sm_options o = {.group = group, .hash_key = n->hash_key, .dedup_ms = DEDUP_MS, .dedup_count = DEDUP_COUNT, .lock_fence = lock_fence,
                                 .lock_arg = &n->groups[group]};
    return queue_sm_new(&o);
}

struct topics *queue_new_topics(const struct node *n)
{
    struct topics_options o = {.groups = n->opt.groups, .hash_key = n->hash_key, .dedup_ms = DEDUP_MS, .dedup_count = DEDUP_COUNT};
    return topics_new(&o);
}

void queue_fini(struct group_queue *q)
{
    if (q->sm == NULL) {
        return;
    }
    claims_free(q);
    fills_free(q);
    queue_sm_free(q->sm);
    queue_log_free(q->log);
    if (q->topics != NULL) {
        topics_free(q->topics);
    }
    buf_fini(&q->side);
    buf_fini(&q->files);
    map_fini(&q->parked_by_req);
    map_fini(&q->parked_at);
    q->sm = NULL;
}

uint64_t queue_digest(const struct node_group *g)
{
    uint64_t d = queue_sm_digest(g->q.sm);
    return g->q.topics != NULL ? d ^ topics_digest(g->q.topics) : d;
}

/* Looking at everything after every event would be all that a checked run does. */
void queue_check(const struct node *n, const struct node_group *g)
{
    if ((n->turn_no + g->id) % CHECK_TURNS == 0) {
        queue_sm_check(g->q.sm);
        queue_log_check(g->q.log);
        if (g->q.topics != NULL) {
            topics_check(g->q.topics);
        }
    }
}

/* Messages must be taken before the entry's bytes go. */
void queue_apply(struct node *n, struct node_group *g, uint64_t index, uint64_t term, slice_t op)
{
    struct queue_out *out = &n->queue_out;
    uint32_t first = out->n_results;
    queue_sm_apply(g->q.sm, index, term, g->applied_time, op, out);
    if (n->observer.queue_applied != NULL) {
        n->observer.queue_applied(n->observer.arg, g->id, index, g->applied_time, op, out, first);
    }
    for (uint32_t i = 0; i < out->n_appended; i++) {
        queue_log_append(g->q.log, &out->appended[i]);
    }
    for (uint32_t i = 0; i < out->n_trimmed; i++) {
        const struct queue_trimmed *t = &out->trimmed[i];
        queue_log_trim(g->q.log, t->topic, t->partition, t->start);
    }
    out->n_appended = 0;
    out->n_trimmed = 0;
}

void queue_topics_apply(struct node *n, struct node_group *g, uint64_t index, uint64_t term, slice_t op)
{
    if (g->q.topics == NULL) {
        metrics_refused(&n->metrics, REFUSED_ENTRY);
        return;
    }
    uint32_t first = n->topics_out.n_results;
    topics_apply(g->q.topics, index, term, g->applied_time, op, &n->topics_out);
    if (n->observer.topics_applied != NULL) {
        n->observer.topics_applied(n->observer.arg, index, op, &n->topics_out, first);
    }
}

static bool has_messages(const struct queue_result *r, slice_t reply)
{
    return (r->kind == QUEUE_OP_CLAIM || r->kind == QUEUE_OP_TAKE) && reply.len > 0 && reply.ptr[0] == QUEUE_DONE;
}

static void deliver_results(struct node *n, struct node_group *g)
{
    struct queue_out *out = &n->queue_out;
    for (uint32_t i = 0; i < out->n_results; i++) {
        const struct queue_result *r = &out->results[i];
        slice_t reply = slice_of(out->replies.ptr + r->reply_off, r->reply_len);
        if (r->kind == QUEUE_OP_CLAIM && queue_claim_applied(n, g, r)) {
            continue;
        }
        if (has_messages(r, reply)) {
            fill_deliveries(n, g, r, reply);
        } else {
            group_send_result(n, g, r->req, reply);
        }
    }
    out->n_results = 0;
    buf_clear(&out->replies);
}

/* The nodes of a consumer group's members hear of a new assignment at once; a lost word is made up for by their next JOIN. */
struct tell {
    struct node *n;
    struct peer_msg msg;
    uint32_t told;
};

static void tell_member(void *arg, const struct topic_member_info *m)
{
    struct tell *t = arg;
    if (m->node == t->n->opt.self) {
        return; /* its own replica has told it */
    }
    struct node_peer *p = node_peer_of(t->n, (node_id_t)m->node);
    if (p == NULL || !peer_linked(p)) {
        return;
    }
    uint32_t bit = (uint32_t)(p - t->n->peers);
    syn_assert(bit < NODE_MEMBERS_MAX);
    if ((t->n->told_nodes >> bit & 1) == 0) {
        t->n->told_nodes |= 1ull << bit;
        links_send(t->n, p, &t->msg);
    }
}

static void deliver_topics(struct node *n, struct node_group *g)
{
    struct topics_out *out = &n->topics_out;
    for (uint32_t i = 0; i < out->n_results; i++) {
        const struct topics_result *r = &out->results[i];
        group_send_result(n, g, r->req, slice_of(out->replies.ptr + r->reply_off, r->reply_len));
    }
    for (uint32_t i = 0; i < out->n_changed; i++) {
        const struct topics_changed *c = &out->changed[i];
        slice_t name = slice_of(out->names.ptr + c->group_off, c->group_len);
        doors_group_changed(n, c->topic, name, c->generation);
        if (group_leads(g)) {
            struct tell t = {.n = n, .msg = {.kind = PEER_QUEUE_CHANGED}};
            t.msg.u.queue_changed.topic = c->topic;
            t.msg.u.queue_changed.group = name;
            t.msg.u.queue_changed.generation = c->generation;
            n->told_nodes = 0;
            topics_members(g->q.topics, c->topic, name, tell_member, &t);
        }
    }
    topics_out_clear(out);
}

void queue_deliver(struct node *n, struct node_group *g)
{
    deliver_results(n, g);
    struct queue_out *out = &n->queue_out;
    for (uint32_t i = 0; i < out->n_woken && g->q.n_parked > 0; i++) {
        queue_claims_wake(n, g, out->woken[i].topic, out->woken[i].partition);
    }
    if (g->q.n_waiting_fills > 0 && (out->n_woken > 0 || n->now_ms >= g->q.fills_at_ms)) {
        fills_go_on(n, g);
    }
    queue_out_clear(out);
    if (g->q.topics != NULL) {
        deliver_topics(n, g);
    }
    if (g->q.due_index != 0 && g->applied >= g->q.due_index) {
        g->q.due_index = 0;
    }
    if (g->q.topics_due_index != 0 && g->applied >= g->q.topics_due_index) {
        g->q.topics_due_index = 0;
    }
}

uint64_t queue_next_due_ms(const struct node_group *g)
{
    uint64_t at = g->q.due_index == 0 ? queue_sm_next_due_ms(g->q.sm) : UINT64_MAX;
    uint64_t topics = g->q.topics != NULL && g->q.topics_due_index == 0 ? topics_next_due_ms(g->q.topics) : UINT64_MAX;
    return at < topics ? at : topics;
}

static bool propose_tick(struct node *n, struct node_group *g, bool topics, uint64_t *index)
{
    struct buf op = {0};
    buf_put_u8(&op, topics ? SERVICE_TOPICS : SERVICE_QUEUE);
    if (topics) {
        topic_put_head(&op, &(struct topic_head){.kind = TOPIC_OP_TICK});
    } else {
        queue_put_head(&op, &(struct queue_head){.kind = QUEUE_OP_TICK, .wall_ms = n->wall_ms});
    }
    bool ok = group_propose(n, g, buf_slice(&op), index) == PROPOSE_OK;
    if (!ok) {
        g->q.due_retry_ms = n->now_ms + DUE_RETRY_MS;
    }
    buf_fini(&op);
    return ok;
}

void queue_due_duty(struct node *n, struct node_group *g)
{
    struct group_queue *q = &g->q;
    if (!g->ready || n->now_ms < q->due_retry_ms) {
        return;
    }
    if (n->space_low) {
        q->due_retry_ms = n->now_ms + SPACE_RETRY_MS;
        return;
    }
    uint64_t now = group_log_now(n, g), index;
    if (q->due_index == 0 && queue_sm_next_due_ms(q->sm) <= now && propose_tick(n, g, false, &index)) {
        q->due_index = index;
    }
    if (q->topics != NULL && q->topics_due_index == 0 && topics_next_due_ms(q->topics) <= now && propose_tick(n, g, true, &index)) {
        q->topics_due_index = index;
    }
}

/* Group 0's leader: what other groups must hear of topics, until each has confirmed. */
static void done_confirm(struct node *n, struct request *r, slice_t reply)
{
    (void)r;
    (void)reply;
    syn_assert(n->carries_in_flight > 0);
    n->carries_in_flight--;
}

static void done_carry(struct node *n, struct request *r, slice_t reply)
{
    if (reply.len != 1 || reply.ptr[0] != QUEUE_DONE) {
        n->carries_in_flight--;
        return;
    }
    struct request *c = request_new(n, 0, REQUEST_WRITE, false, done_confirm);
    buf_put_u8(&c->payload, SERVICE_TOPICS);
    topic_put_head(&c->payload, &(struct topic_head){.kind = TOPIC_OP_CONFIRM, .req = request_id_of(n, c), .low = request_low(n, 0, false)});
    topic_put_confirm(&c->payload, &(struct topic_confirm){.topic = r->arg, .version = r->arg2, .group = r->group});
    request_submit(n, c);
}

static void carry(void *arg, const struct topic_row *row, uint32_t group, bool open)
{
    struct node *n = arg;
    if (group >= n->opt.groups) {
        return;
    }
    n->carries_in_flight++;
    struct request *r = request_new(n, group, REQUEST_WRITE, false, done_carry);
    r->arg = row->id;
    r->arg2 = row->version;
    struct queue_head h = {.kind = open ? QUEUE_OP_OPEN : QUEUE_OP_DROP, .req = request_id_of(n, r), .low = request_low(n, group, false),
                           .wall_ms = n->wall_ms};
    buf_put_u8(&r->payload, SERVICE_QUEUE);
    queue_put_head(&r->payload, &h);
    if (open) {
        struct buf parts = {0};
        struct queue_open o = {.topic = row->id, .version = row->version, .name = row->name, .config = row->config};
        for (uint32_t p = 0; p < row->config.partitions; p++) {
            if (row->groups[p] == group) {
                buf_put_u32(&parts, p);
                o.n_parts++;
            }
        }
        o.parts = buf_slice(&parts);
        queue_put_open(&r->payload, &o);
        buf_fini(&parts);
    } else {
        queue_put_drop(&r->payload, row->id);
    }
    request_submit(n, r);
}

/* The row must not be looked at while requests are made of it: submitting one may apply nothing, but answers may come at once. */
void queue_carry_duty(struct node *n, struct node_group *g)
{
    if (g->q.topics != NULL && group_leads(g) && g->ready && n->carries_in_flight == 0 && n->now_ms >= g->q.carry_retry_ms) {
        g->q.carry_retry_ms = n->now_ms + CARRY_RETRY_MS;
        topics_unconfirmed(g->q.topics, CARRY_MAX, carry, n);
    }
}

/* This disk does not give back what it was given: whoever has the messages whole shall lead. */
static void damaged_duty(struct node *n, struct node_group *g)
{
    struct group_queue *q = &g->q;
    if (!q->damaged || n->now_ms < q->damaged_retry_ms) {
        return;
    }
    q->damaged = false;
    q->damaged_retry_ms = n->now_ms + DAMAGED_RETRY_MS;
    node_log(n, LOG_ERROR, "group %u: messages on this node's disk cannot be read or are damaged; if this goes on, move the data directory away and let "
             "the node rejoin", g->id);
    node_id_t to = group_leads(g) ? consensus_transfer_target(g->consensus) : 0;
    if (to != 0 && consensus_transfer(g->consensus, to, n->now_ms)) {
        group_touch(n, g);
    }
}

void queue_housekeeping(struct node *n, struct node_group *g)
{
    queue_carry_duty(n, g);
    if (n->now_ms >= g->q.tidy_ms) {
        g->q.tidy_ms = n->now_ms + TIDY_MS;
        queue_log_tidy(g->q.log);
        if (!list_empty(&g->q.fills)) {
            fills_go_on(n, g);
        }
        damaged_duty(n, g);
    }
}

void queue_leader_lost(struct node *n, struct node_group *g)
{
    g->q.due_index = 0;
    g->q.topics_due_index = 0;
    queue_claims_drop(n, g, 0);
    fills_drop(n, g, 0, true);
}
