/* Consumers that wait for messages, at the leader of a group (docs/queue.md, "Claims").
 *
 * A claim that arrives is put into the log only when it would find something; else, if it may wait, it is parked here, in memory: no
 * entry, no polling. It is proposed when something became available at one of its partitions, or right behind a PUBLISH to one, in the
 * same batch. Not responsible for what a claim takes (queue_sm) nor for the messages in its answer (node_fills.c).
 *
 * Invariants: C1 a claim is in the log at most once at a time. C2 each claim is answered, or withdrawn by its asker, or forgotten with the
 * leadership; askers then ask the next leader under the same number (Q2 of node_route.c). */
#include "nodes/node_internal.h"

#include "utils/hash.h"
#include "utils/limits.h"

#include <stdlib.h>

struct parked_at { /* one partition that somebody waits at */
    struct map_node by_key;
    uint64_t topic;
    uint32_t partition;
    struct list claims; /* parked_link.at */
};

struct parked_link {
    struct list at;
    struct parked_at *where;
    struct parked *claim;
};

struct parked {
    struct list all;
    struct map_node by_req;
    struct request_id req;
    node_id_t from;      /* 0: our own request */
    uint64_t seq;
    bool wait;
    bool proposed;
    struct buf op;       /* owned; claim points into it */
    struct queue_claim claim;
    uint32_t n_links;
    struct parked_link links[];
};

struct at_key { uint64_t topic; uint32_t partition; };

static bool at_eq(const struct map_node *m, const void *key)
{
    const struct parked_at *a = CONTAINER_OF(m, struct parked_at, by_key);
    const struct at_key *k = key;
    return a->topic == k->topic && a->partition == k->partition;
}

static bool req_eq(const struct map_node *m, const void *key)
{
    const struct request_id *a = &CONTAINER_OF(m, struct parked, by_req)->req, *b = key;
    return a->origin == b->origin && a->seq == b->seq;
}

static uint64_t req_hash(struct request_id r)
{
    return hash_u64(r.origin ^ hash_u64(r.seq));
}

static struct parked_at *at_find(struct group_queue *q, uint64_t topic, uint32_t partition)
{
    struct at_key k = {topic, partition};
    struct map_node *m = map_find(&q->parked_at, hash_u64(topic ^ hash_u64(partition)), &k, at_eq);
    return m != NULL ? CONTAINER_OF(m, struct parked_at, by_key) : NULL;
}

static struct parked_at *at_get(struct group_queue *q, uint64_t topic, uint32_t partition)
{
    struct parked_at *a = at_find(q, topic, partition);
    if (a == NULL) {
        a = calloc(1, sizeof *a);
        syn_assert(a != NULL);
        a->topic = topic;
        a->partition = partition;
        list_init(&a->claims);
        map_insert(&q->parked_at, &a->by_key, hash_u64(topic ^ hash_u64(partition)));
    }
    return a;
}

static struct parked *parked_find(struct group_queue *q, struct request_id req)
{
    struct map_node *m = map_find(&q->parked_by_req, req_hash(req), &req, req_eq);
    return m != NULL ? CONTAINER_OF(m, struct parked, by_req) : NULL;
}

static void parked_free(struct group_queue *q, struct parked *p)
{
    for (uint32_t i = 0; i < p->n_links; i++) {
        struct parked_at *a = p->links[i].where;
        list_remove(&p->links[i].at);
        if (list_empty(&a->claims)) {
            map_remove(&q->parked_at, &a->by_key);
            free(a);
        }
    }
    list_remove(&p->all);
    map_remove(&q->parked_by_req, &p->by_req);
    syn_assert(q->n_parked > 0);
    q->n_parked--;
    buf_fini(&p->op);
    free(p);
}

/* False: not a claim as queue_codec.c writes it. */
static bool claim_decode(slice_t op, struct queue_head *h, struct queue_claim *c)
{
    struct reader r = reader_of(op);
    return queue_get_head(&r, h) && h->kind == QUEUE_OP_CLAIM && queue_get_claim(&r, c) && c->n_parts <= LIMIT_PARTITIONS;
}

static struct parked *parked_new(struct group_queue *q, node_id_t from, uint64_t seq, bool wait, slice_t op)
{
    struct queue_head h;
    struct queue_claim c;
    if (!claim_decode(op, &h, &c)) {
        return NULL;
    }
    struct parked *p = calloc(1, sizeof *p + c.n_parts * sizeof p->links[0]);
    syn_assert(p != NULL);
    buf_append_slice(&p->op, op);
    bool ok = claim_decode(buf_slice(&p->op), &h, &p->claim);
    syn_assert(ok);
    p->req = h.req;
    p->from = from;
    p->seq = seq;
    p->wait = wait;
    struct reader r = reader_of(p->claim.parts);
    for (uint32_t i = 0; i < p->claim.n_parts; i++) {
        uint32_t partition = reader_u32(&r);
        reader_u64(&r);
        struct parked_link *l = &p->links[p->n_links++];
        l->claim = p;
        l->where = at_get(q, p->claim.topic, partition);
        list_push_back(&l->where->claims, &l->at);
    }
    list_push_back(&q->parked, &p->all);
    map_insert(&q->parked_by_req, &p->by_req, req_hash(p->req));
    q->n_parked++;
    return p;
}

static void answer_nothing(struct node *n, struct node_group *g, struct parked *p)
{
    uint8_t bytes[5] = {QUEUE_DONE, 0, 0, 0, 0};
    struct request_id req = p->req;
    parked_free(&g->q, p);
    group_send_result(n, g, req, slice_of(bytes, sizeof bytes));
}

static enum propose_result parked_propose(struct node *n, struct node_group *g, struct parked *p)
{
    struct buf payload = {0};
    uint64_t index;
    syn_assert(!p->proposed);
    buf_put_u8(&payload, SERVICE_QUEUE);
    buf_append_slice(&payload, buf_slice(&p->op));
    enum propose_result r = group_propose(n, g, buf_slice(&payload), &index);
    p->proposed = r == PROPOSE_OK;
    buf_fini(&payload);
    return r;
}

enum forward_status queue_claim_take(struct node *n, struct node_group *g, node_id_t from, uint64_t seq, slice_t payload)
{
    if (!g->ready) {
        return FORWARD_NOT_READY;
    }
    if (payload.len <= CLAIM_OP_AT) {
        metrics_refused(&n->metrics, REFUSED_FORWARD);
        return FORWARD_OK;
    }
    slice_t op = slice_of(payload.ptr + CLAIM_OP_AT, payload.len - CLAIM_OP_AT);
    struct queue_head h;
    struct queue_claim c;
    if (!claim_decode(op, &h, &c)) {
        metrics_refused(&n->metrics, REFUSED_FORWARD);
        return FORWARD_OK;
    }
    if (parked_find(&g->q, h.req) != NULL) {
        return FORWARD_OK; /* asked again; C1 */
    }
    struct parked *p = parked_new(&g->q, from, seq, payload.ptr[1] != 0, op);
    syn_assert(p != NULL);
    if (queue_sm_answered(g->q.sm, p->req) || queue_sm_available(g->q.sm, &p->claim)) {
        switch (parked_propose(n, g, p)) {
        case PROPOSE_OK: break;
        case PROPOSE_BUSY: parked_free(&g->q, p); return FORWARD_BUSY;
        case PROPOSE_NOT_LEADER: parked_free(&g->q, p); return FORWARD_NOT_LEADER;
        default: parked_free(&g->q, p); return FORWARD_NOT_READY;
        }
    } else if (!p->wait) {
        answer_nothing(n, g, p);
    }
    return FORWARD_OK;
}

void queue_claim_cancel(struct node *n, struct node_group *g, node_id_t from, uint64_t seq)
{
    list_each_safe(it, &g->q.parked) {
        struct parked *p = CONTAINER_OF(it, struct parked, all);
        if (p->from == from && p->seq == seq) {
            p->wait = false;
            if (!p->proposed) {
                answer_nothing(n, g, p);
            }
            return;
        }
    }
}

bool queue_claim_applied(struct node *n, struct node_group *g, const struct queue_result *r)
{
    struct parked *p = parked_find(&g->q, r->req);
    if (p == NULL) {
        return r->again; /* a follower, or a leader that came after it: whoever asked asks again */
    }
    p->proposed = false;
    if (!r->again) {
        parked_free(&g->q, p);
        return false;
    }
    if (!p->wait) {
        answer_nothing(n, g, p);
    } else if (queue_sm_available(g->q.sm, &p->claim)) {
        parked_propose(n, g, p);
    }
    return true;
}

/* Not taken by the log now: the next message, or TICK, tries again. */
void queue_claims_wake(struct node *n, struct node_group *g, uint64_t topic, uint32_t partition)
{
    struct parked_at *a = at_find(&g->q, topic, partition);
    if (a == NULL || !g->ready) {
        return;
    }
    list_each(it, &a->claims) {
        struct parked *p = CONTAINER_OF(it, struct parked_link, at)->claim;
        if (!p->proposed && queue_sm_available(g->q.sm, &p->claim)) {
            parked_propose(n, g, p);
        }
    }
}

void queue_claims_behind(struct node *n, struct node_group *g, slice_t op)
{
    struct reader r = reader_of(op);
    struct queue_head h;
    if (g->q.n_parked == 0 || !g->ready || !queue_get_head(&r, &h) || h.kind != QUEUE_OP_PUBLISH) {
        return;
    }
    uint32_t count = reader_u32(&r);
    struct publish_item it;
    for (uint32_t i = 0; i < count && queue_get_item(&r, &it); i++) {
        struct parked_at *a = it.delay_ms == 0 ? at_find(&g->q, it.topic, it.partition) : NULL;
        if (a == NULL) {
            continue;
        }
        list_each(l, &a->claims) {
            struct parked *p = CONTAINER_OF(l, struct parked_link, at)->claim;
            if (!p->proposed) {
                parked_propose(n, g, p);
            }
        }
    }
}

void claims_free(struct group_queue *q)
{
    while (!list_empty(&q->parked)) {
        parked_free(q, CONTAINER_OF(q->parked.next, struct parked, all));
    }
}

void queue_claims_drop(struct node *n, struct node_group *g, node_id_t from)
{
    (void)n;
    list_each_safe(it, &g->q.parked) {
        struct parked *p = CONTAINER_OF(it, struct parked, all);
        if (from == 0 || p->from == from) {
            parked_free(&g->q, p);
        }
    }
}
