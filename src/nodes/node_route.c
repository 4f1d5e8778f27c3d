/* Requests on their way to whoever leads their group, and their answers on the way back.
 *
 * Responsible for: numbering requests, proposing them here or forwarding them, parking them while there is no leader, asking
 * again after a change of leader (the state machine knows a request by its number, so it happens once), giving up with the
 * right word: -LOADING or -NOQUORUM when it certainly was not done, -UNCERTAIN when it may have been. Also for carrying a session to
 * the groups that hold something of it (docs/locks.md, "Sessions over groups"). Not for: what a request means.
 *
 * Invariants: Q1 every request is answered exactly once, or cancelled. Q2 a request keeps its number however often it is sent
 * (R15). Q3 only a request that was never sent or proposed is answered "certainly not done". */
#include "nodes/node_internal.h"

#include "communication/resp.h"
#include "utils/hash.h"
#include "utils/limits.h"

#include <stdio.h>
#include <stdlib.h>

/* Young messages that the disk has not taken: beyond this a group takes no more until it has. */
enum { LOW_BYTES_MAX = 6 * 1024 * 1024 /* of a segment of 16 MiB */, LOW_ENTRY_BYTES = 512 };
enum { PARKED_RETRY_MS = 10, SETTLING_RETRY_MS = 2, SETTLING_RETRIES = 8, REQUEST_KEEP_BYTES = 4096 };

static bool request_eq(const struct map_node *m, const void *key)
{
    return CONTAINER_OF(m, struct request, by_seq)->seq == *(const uint64_t *)key;
}

static struct request *request_find(struct node *n, uint64_t seq)
{
    struct map_node *m = map_find(&n->requests, hash_u64(seq), &seq, request_eq);
    return m != NULL ? CONTAINER_OF(m, struct request, by_seq) : NULL;
}

struct request *request_new(struct node *n, uint32_t group, enum request_kind kind, bool waits, request_done_fn done)
{
    syn_assert(group < n->opt.groups);
    struct request *r = n->free_requests;
    struct buf payload = {0};
    if (r != NULL) {
        n->free_requests = (struct request *)r->by_seq.next;
        payload = r->payload;
        buf_clear(&payload);
    } else {
        r = malloc(sizeof *r);
        syn_assert(r != NULL);
    }
    *r = (struct request){.seq = n->next_seq++, .group = group, .kind = kind, .waits = waits, .done = done, .began_ms = n->now_ms};
    r->payload = payload;
    timer_init(&r->timer);
    map_insert(&n->requests, &r->by_seq, hash_u64(r->seq));
    list_push_back(&n->groups[group].pending[waits], &r->in_group);
    n->n_requests++;
    return r;
}

static void request_free(struct node *n, struct request *r)
{
    map_remove(&n->requests, &r->by_seq);
    list_remove(&r->in_group);
    wheel_cancel(&n->wheel, &r->timer);
    syn_assert(n->n_requests > 0);
    n->n_requests--;
    if (r->payload.cap > REQUEST_KEEP_BYTES) {
        buf_fini(&r->payload);
    }
    r->by_seq.next = (struct map_node *)n->free_requests;
    n->free_requests = r;
}

struct request_id request_id_of(const struct node *n, const struct request *r)
{
    return (struct request_id){.origin = n->origin | (r->waits ? 1u : 0u), .seq = r->seq};
}

uint64_t request_low(const struct node *n, uint32_t group, bool waits)
{
    const struct list *l = &n->groups[group].pending[waits];
    return list_empty(l) ? n->next_seq : CONTAINER_OF(l->next, struct request, in_group)->seq;
}

static void request_finish(struct node *n, struct request *r, slice_t reply)
{
    if (r->state == REQUEST_PARKED) {
        n->n_parked--;
    }
    r->done(n, r, reply);
    request_free(n, r);
}

static void request_fail(struct node *n, struct request *r, const char *word, const char *text)
{
    struct buf b;
    buf_init(&b);
    resp_error(&b, word, "%s", text);
    request_finish(n, r, buf_slice(&b));
    buf_fini(&b);
}

static void request_set_state(struct node *n, struct request *r, enum request_state state)
{
    if (state == REQUEST_PARKED) {
        n->n_parked++;
    }
    r->state = state;
}

static bool route_forward(struct node *n, struct request *r, node_id_t to)
{
    struct node_peer *p = node_peer_of(n, to);
    if (p == NULL || !peer_linked(p)) {
        return false;
    }
    struct peer_msg m = {.kind = PEER_FORWARD};
    m.u.forward.kind = (uint8_t)r->kind;
    m.u.forward.group = r->group;
    m.u.forward.req = r->seq;
    m.u.forward.payload = buf_slice(&r->payload);
    links_send(n, p, &m);
    r->sent_to = to;
    r->uncertain += r->kind == REQUEST_WRITE;
    request_set_state(n, r, REQUEST_SENT);
    return true;
}

/* A group that has no replica here that counts: its leader as last heard, else any of its replicas, in turn. */
static node_id_t route_guess(struct node *n, struct node_group *g, struct request *r)
{
    node_id_t leader = group_leader_hint(n, g);
    struct node_peer *p = node_peer_of(n, leader);
    if (p != NULL && peer_linked(p)) {
        return leader;
    }
    for (uint32_t i = 0; i < g->placement.count; i++) {
        node_id_t id = g->placement.members[(r->tries + i) % g->placement.count].id;
        p = node_peer_of(n, id);
        if (p != NULL && peer_linked(p)) {
            return id;
        }
    }
    return 0;
}

/* The leader cannot take it now. "Nothing was done" is an answer only when no earlier attempt may still be done. */
static void route_not_taken(struct node *n, struct request *r, enum forward_status why)
{
    if (r->uncertain > 0) {
        request_set_state(n, r, REQUEST_PARKED);
        return;
    }
    request_set_state(n, r, REQUEST_PROPOSED);
    if (why == FORWARD_FULL) {
        request_fail(n, r, "FULL", "the leader's disk is full: nothing was written; free space there and retry");
    } else {
        request_fail(n, r, "BUSY", "the group has too many bytes on their way to disk: nothing was done, retry later");
    }
}

static enum forward_status route_take(struct node *n, struct node_group *g, node_id_t from, uint64_t seq, slice_t payload);

static void route_here(struct node *n, struct node_group *g, struct request *r)
{
    if (r->kind == REQUEST_READ) {
        bool taken = g->ready && reads_add(n, g, r->seq, 0, buf_slice(&r->payload));
        request_set_state(n, r, taken ? REQUEST_READING : REQUEST_PARKED);
        return;
    }
    if (r->kind == REQUEST_ADMIN) {
        struct buf reply;
        buf_init(&reply);
        if (admin_execute(n, g, n->opt.self, buf_slice(&r->payload), &reply)) {
            r->state = REQUEST_READING;
            request_finish(n, r, buf_slice(&reply));
        } else {
            request_set_state(n, r, REQUEST_PARKED);
        }
        buf_fini(&reply);
        return;
    }
    /* Its state first: a claim that finds nothing is answered, and the request freed, before this returns. */
    uint64_t seq = r->seq;
    r->uncertain++;
    request_set_state(n, r, REQUEST_PROPOSED);
    enum forward_status st = route_take(n, g, 0, seq, buf_slice(&r->payload));
    if (st == FORWARD_OK) {
        return;
    }
    r->uncertain--;
    if (st == FORWARD_FULL || st == FORWARD_BUSY) {
        route_not_taken(n, r, st);
    } else {
        r->not_ready = st == FORWARD_NOT_READY;
        request_set_state(n, r, REQUEST_PARKED);
    }
}

/* r is in no state here (just made, or taken out of its former one). May answer and free it. */
static void route_try(struct node *n, struct request *r)
{
    struct node_group *g = &n->groups[r->group];
    if (group_leads(g)) {
        route_here(n, g, r);
        return;
    }
    node_id_t to = group_takes_part(n, g) && !g->amnesiac ? g->leader : route_guess(n, g, r);
    if (to == n->opt.self || to == 0 || !route_forward(n, r, to)) {
        request_set_state(n, r, REQUEST_PARKED);
    }
}

void request_submit(struct node *n, struct request *r)
{
    if (!r->waits || r->wait_ms != LOCK_WAIT_FOREVER) {
        wheel_set(&n->wheel, &r->timer, n->now_ms + n->opt.request_timeout_ms + (r->waits ? r->wait_ms : 0));
    }
    route_try(n, r);
}

static void route_again(struct node *n, struct request *r)
{
    if (r->state == REQUEST_PARKED) {
        n->n_parked--;
    }
    r->tries++;
    route_try(n, r);
}

/* All requests of a group once more, oldest first: those sent to a former leader may be lost, Q2 makes asking harmless. */
void route_leader_changed(struct node *n, struct node_group *g)
{
    if (!group_leads(g) && g->leader == 0) {
        return;
    }
    for (int w = 0; w < 2; w++) {
        list_each_safe(it, &g->pending[w]) {
            route_again(n, CONTAINER_OF(it, struct request, in_group));
        }
    }
}

void route_peer_lost(struct node *n, node_id_t peer)
{
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        for (int w = 0; w < 2; w++) {
            list_each(it, &n->groups[i].pending[w]) {
                struct request *r = CONTAINER_OF(it, struct request, in_group);
                if (r->state == REQUEST_SENT && r->sent_to == peer) {
                    request_set_state(n, r, REQUEST_PARKED);
                }
            }
        }
    }
}

uint32_t members_linked(const struct node *n)
{
    uint32_t up = 1;
    for (uint32_t i = 0; i < n->n_peers; i++) {
        up += peer_linked(&n->peers[i]);
    }
    return up;
}

static bool is_claim(const struct request *r)
{
    return r->payload.len > 0 && r->payload.ptr[0] == SERVICE_CLAIM;
}

void route_no_leader(const struct node *n, struct buf *b)
{
    uint32_t up = members_linked(n), all = n->n_peers + 1;
    if (up <= all / 2) {
        resp_error(b, "NOQUORUM", "this node reaches %u of %u members and needs %u: nothing was done, retry or ask another node", up, all, all / 2 + 1);
    } else {
        resp_error(b, "LOADING", "no leader yet: nothing was done, retry");
    }
}

/* Was it told to come again when the owners of its keys have given them up? Also said by a leader that has just begun. */
static bool is_settling(const struct request *r)
{
    return r->not_ready && r->kind == REQUEST_WRITE && r->payload.ptr[0] == SERVICE_CACHE && r->payload.ptr[1] != CACHE_ENTRY_BATCH;
}

static void request_give_up(struct node *n, struct request *r)
{
    if (r->uncertain) {
        if (r->waits && !is_claim(r)) {
            route_cancel_waiter(n, r);
        }
        request_fail(n, r, "UNCERTAIN", "no answer in time: it may or may not have happened; ask again with the same IDEM id, or look");
    } else if (is_settling(r) && group_leader_hint(n, &n->groups[r->group]) != 0) {
        request_fail(n, r, "BUSY", "the nodes that own its keys have not given them up in time, or their leader has just begun: nothing was done, retry");
    } else {
        struct buf b = {0};
        route_no_leader(n, &b);
        request_finish(n, r, buf_slice(&b));
        buf_fini(&b);
    }
}

static void route_retry_parked(struct node *n)
{
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        for (int w = 0; w < 2; w++) {
            list_each_safe(it, &n->groups[i].pending[w]) {
                struct request *r = CONTAINER_OF(it, struct request, in_group);
                if (r->state == REQUEST_PARKED) {
                    route_again(n, r);
                }
            }
        }
    }
}

void route_timers(struct node *n)
{
    struct list due;
    list_init(&due);
    wheel_advance(&n->wheel, n->now_ms, &due);
    while (!list_empty(&due)) {
        struct request *r = CONTAINER_OF(due.next, struct request, timer.link);
        list_remove(due.next);
        request_give_up(n, r);
    }
    if (n->n_parked > 0 && n->now_ms >= n->parked_retry_ms) {
        n->parked_retry_ms = n->now_ms + PARKED_RETRY_MS;
        route_retry_parked(n);
    }
}

uint64_t route_deadline(const struct node *n)
{
    return n->n_parked > 0 ? n->parked_retry_ms : UINT64_MAX;
}

void request_answer(struct node *n, uint64_t seq, slice_t reply)
{
    struct request *r = request_find(n, seq);
    if (r != NULL) {
        request_finish(n, r, reply);
    }
}

void request_refuse(struct node *n, uint64_t seq, slice_t reply)
{
    struct request *r = request_find(n, seq);
    if (r == NULL) {
        return;
    }
    if (r->uncertain > 0) {
        request_give_up(n, r);
    } else {
        request_finish(n, r, reply);
    }
}

void request_refused(struct node *n, uint64_t seq, enum forward_status status, node_id_t leader, node_id_t from)
{
    struct request *r = request_find(n, seq);
    if (r == NULL) {
        return;
    }
    struct node_group *g = &n->groups[r->group];
    bool own = from == n->opt.self;
    bool current = own ? r->state == REQUEST_PROPOSED : r->state == REQUEST_SENT && r->sent_to == from;
    if (own && !current) {
        return; /* our replica has seen what the leader says itself: one word counts for one attempt */
    }
    r->uncertain -= r->uncertain > 0 && r->kind == REQUEST_WRITE;
    switch (status) {
    case FORWARD_NOT_LEADER:
        if (!g->hosted && leader != 0) {
            g->leader = leader;
        } else if (leader != n->opt.self) {
            g->heard_leader = leader; /* 0: who was said to lead does not, and knows no better */
        }
        /* fall through */
    case FORWARD_NOT_READY:
        if (current) {
            r->not_ready = status == FORWARD_NOT_READY;
            request_set_state(n, r, REQUEST_PARKED);
            uint64_t soon = n->now_ms + SETTLING_RETRY_MS; /* an owner takes one round and one flush */
            if (is_settling(r) && r->tries < SETTLING_RETRIES && soon < n->parked_retry_ms) {
                n->parked_retry_ms = soon;
            }
        }
        return;
    case FORWARD_BUSY:
    case FORWARD_FULL:
        if (current) {
            route_not_taken(n, r, status);
        }
        return;
    case FORWARD_NEED_ATTACH:
        if (current) {
            route_attach(n, r);
        }
        return;
    default: return;
    }
}

/* The leader's side of a forwarded request. */
void route_on_forward(struct node *n, struct node_peer *p, const struct peer_forward *f)
{
    struct peer_msg m = {.kind = PEER_FORWARD_REPLY};
    m.u.forward_reply.req = f->req;
    struct node_group *g = f->group < n->opt.groups ? &n->groups[f->group] : NULL;
    if (g == NULL || f->payload.len == 0) {
        metrics_refused(&n->metrics, REFUSED_FORWARD);
        return;
    }
    m.u.forward_reply.leader = g->leader;
    m.u.forward_reply.status = FORWARD_NOT_LEADER;
    struct buf reply = {0};
    if (f->kind == FORWARD_ADMIN) {
        if (!group_leads(g) && !admin_for_any_node(f->payload)) {
            links_send(n, p, &m);
            return;
        }
        if (!admin_execute(n, g, p->member.id, f->payload, &reply)) {
            m.u.forward_reply.status = FORWARD_NOT_READY;
        } else {
            m.u.forward_reply.status = FORWARD_OK;
            m.u.forward_reply.payload = buf_slice(&reply);
        }
    } else if (group_leads(g)) {
        if (f->kind == FORWARD_READ) {
            if (g->ready && reads_add(n, g, f->req, p->member.id, f->payload)) {
                return;
            }
            m.u.forward_reply.status = FORWARD_NOT_READY;
        } else {
            m.u.forward_reply.status = (uint8_t)route_take(n, g, p->member.id, f->req, f->payload);
            if (m.u.forward_reply.status == FORWARD_OK) {
                return;
            }
        }
    }
    links_send(n, p, &m);
    buf_fini(&reply);
}

static bool is_publish(slice_t payload)
{
    return payload.len > 1 && payload.ptr[0] == SERVICE_QUEUE && payload.ptr[1] == QUEUE_OP_PUBLISH;
}

/* What makes room, or is needed for it: while the rest of a segment is all there is, it goes on, up to LOW_BYTES_MAX. */
static bool makes_room(slice_t payload)
{
    uint8_t kind = payload.len > 1 ? payload.ptr[1] : 0;
    switch (payload.ptr[0]) {
    case SERVICE_CLAIM: return true;
    case SERVICE_LOCKS:
        return kind == LOCK_OP_RELEASE || kind == LOCK_OP_CANCEL || kind == LOCK_OP_SESSION_END || kind == LOCK_OP_SESSION_DROP ||
               kind == LOCK_OP_SESSION_DETACHED;
    case SERVICE_QUEUE:
        return kind == QUEUE_OP_SETTLE || kind == QUEUE_OP_RELEASE || kind == QUEUE_OP_DROP || kind == QUEUE_OP_TRIM || kind == QUEUE_OP_ERASE;
    case SERVICE_TOPICS:
        return kind == TOPIC_OP_JOIN || kind == TOPIC_OP_LEAVE || kind == TOPIC_OP_DELETE || kind == TOPIC_OP_CONFIRM;
    default: return false;
    }
}

static bool is_full(struct node *n, slice_t payload)
{
    if (!n->space_low) {
        return false;
    }
    if (n->space_full || !makes_room(payload) || n->low_bytes > LOW_BYTES_MAX) {
        return true;
    }
    n->low_bytes += payload.len + LOW_ENTRY_BYTES;
    return false;
}

/* A write that this leader was asked for: into the log, or to the claims that wait. */
static enum forward_status route_take(struct node *n, struct node_group *g, node_id_t from, uint64_t seq, slice_t payload)
{
    uint64_t index;
    uint8_t service = payload.ptr[0];
    if (service != SERVICE_CLAIM_CANCEL && is_full(n, payload)) {
        return FORWARD_FULL;
    }
    if (service == SERVICE_CLAIM) {
        return queue_claim_take(n, g, from, seq, payload);
    }
    if (service == SERVICE_CLAIM_CANCEL) {
        queue_claim_cancel(n, g, from, payload.len == 9 ? le64_get(payload.ptr + 1) : 0);
        return FORWARD_OK;
    }
    if (service == SERVICE_META && !members_may_change(n)) {
        return FORWARD_NOT_READY;
    }
    if (service == SERVICE_CACHE) {
        enum forward_status st = cache_take(n, g, from, payload);
        if (st != FORWARD_OK) {
            return st;
        }
    }
    if (is_publish(payload) && node_is_heavy(n, 4)) {
        return FORWARD_BUSY;
    }
    switch (group_propose(n, g, payload, &index)) {
    case PROPOSE_OK:
        if (service == SERVICE_QUEUE) {
            queue_claims_behind(n, g, slice_of(payload.ptr + 1, payload.len - 1));
        } else if (service == SERVICE_CACHE) {
            cache_proposed(n, g, from, payload);
        }
        return FORWARD_OK;
    case PROPOSE_BUSY: return FORWARD_BUSY;
    case PROPOSE_NOT_LEADER: return FORWARD_NOT_LEADER;
    default: return FORWARD_NOT_READY;
    }
}

void request_again(struct node *n, uint64_t seq)
{
    struct request *r = request_find(n, seq);
    if (r != NULL) {
        route_again(n, r);
    }
}

void request_park(struct node *n, uint64_t seq)
{
    struct request *r = request_find(n, seq);
    if (r != NULL && r->state == REQUEST_READING) {
        request_set_state(n, r, REQUEST_PARKED);
    }
}

/* Sent or not, it does not wait any more: whoever leads answers at once what it finds. */
void request_withdraw_claim(struct node *n, uint64_t seq)
{
    static const uint8_t nothing[5] = {QUEUE_DONE};
    struct request *r = request_find(n, seq);
    if (r == NULL) {
        return;
    }
    syn_assert(is_claim(r));
    r->payload.ptr[1] = 0;
    if (!timer_armed(&r->timer)) {
        wheel_set(&n->wheel, &r->timer, n->now_ms + n->opt.request_timeout_ms);
    }
    if (r->state == REQUEST_PARKED && r->uncertain == 0) {
        request_finish(n, r, slice_of(nothing, sizeof nothing));
    } else if (r->state == REQUEST_PROPOSED) {
        queue_claim_cancel(n, &n->groups[r->group], 0, seq);
    } else if (r->state == REQUEST_SENT) {
        struct node_peer *p = node_peer_of(n, r->sent_to);
        if (p != NULL && peer_linked(p)) {
            uint8_t payload[9] = {SERVICE_CLAIM_CANCEL};
            le64_put(payload + 1, seq);
            struct peer_msg m = {.kind = PEER_FORWARD};
            m.u.forward.kind = FORWARD_WRITE;
            m.u.forward.group = r->group;
            m.u.forward.payload = slice_of(payload, sizeof payload);
            links_send(n, p, &m);
        }
    }
}

bool request_group(struct node *n, uint64_t seq, uint32_t *group)
{
    struct request *r = request_find(n, seq);
    if (r != NULL) {
        *group = r->group;
    }
    return r != NULL;
}

void request_cancel(struct node *n, uint64_t seq)
{
    struct request *r = request_find(n, seq);
    if (r == NULL) {
        return;
    }
    r->conn = 0;
    if (r->waits) {
        route_cancel_waiter(n, r);
        if (r->state == REQUEST_PARKED) {
            n->n_parked--;
        }
        request_free(n, r);
    }
}

void route_fini(struct node *n)
{
    struct map_node *m;
    while ((m = map_first(&n->requests)) != NULL) {
        struct request *r = CONTAINER_OF(m, struct request, by_seq);
        map_remove(&n->requests, m);
        buf_fini(&r->payload);
        free(r);
    }
    while (n->free_requests != NULL) {
        struct request *r = n->free_requests;
        n->free_requests = (struct request *)r->by_seq.next;
        buf_fini(&r->payload);
        free(r);
    }
}
