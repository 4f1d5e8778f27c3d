/* Answers that carry messages: put together from queue_log, message by message, waiting where a chunk must be read from disk.
 *
 * A fill belongs to one answer: the deliveries of a claim, or a query that reads (RANGE, DEAD, SEEK). It goes on where it stopped when a chunk
 * has come, and copies each message at once, so that the cache need not hold more than one. An answer holds at most FILL_BYTES_MAX of messages
 * beyond its first: deliveries that do not fit are named behind the others, and the asker gives them back, uncounted.
 *
 * A result goes to a local asker from every replica. A remote asker whose node has a replica of the group gets a large one there, as soon as
 * that replica hears of the commit: the messages do not travel twice. */
#include "nodes/node_internal.h"

#include "communication/resp.h"
#include "utils/limits.h"

#include <stdlib.h>

enum { FILL_BYTES_MAX = 2 * 1024 * 1024, TRAVEL_DELIVERIES_MAX = 64 };

/* A message that is gone for good, in a stream or among the dead: no body. */
enum { MESSAGE_GONE = 255 };

struct fill {
    struct list link;
    bool is_query;
    node_id_t from;          /* query: 0 our own */
    uint64_t seq;            /* query: the request's number */
    struct request_id req;   /* deliveries: whom to answer */
    enum queue_op_kind kind;
    uint64_t topic;
    struct buf in;           /* the result as applied, or the query's bytes */
    size_t at;               /* how far it was read */
    uint32_t left;           /* deliveries to come */
    struct queue_query query;
    uint64_t next;           /* RANGE: the offset to look at */
    uint64_t last;           /* RANGE: the bound, resolved from an id */
    bool resolved;
    bool waiting;            /* RANGE: for a message to come */
    uint64_t until_ms;
    struct buf out;
    size_t count_at;
    uint32_t count;
    struct buf rest;         /* SETTLE items of deliveries that did not fit */
    uint32_t n_rest;
};

void fill_put_message(struct buf *out, uint64_t offset, const struct queue_message *m)
{
    buf_put_u64(out, offset);
    buf_put_u64(out, m->id.ms);
    buf_put_u64(out, m->id.seq);
    buf_put_u8(out, m->flags);
    buf_put_bytes(out, m->body);
}

bool fill_get_message(struct reader *r, struct queue_message *m)
{
    m->offset = reader_u64(r);
    m->id.ms = reader_u64(r);
    m->id.seq = reader_u64(r);
    m->flags = reader_u8(r);
    m->body = reader_bytes(r);
    return r->ok;
}

static void fill_free(struct fill *f)
{
    list_remove(&f->link);
    buf_fini(&f->in);
    buf_fini(&f->out);
    buf_fini(&f->rest);
    free(f);
}

static void count_begin(struct fill *f)
{
    f->count_at = f->out.len;
    buf_put_u32(&f->out, 0);
}

static void rest_add(struct fill *f, const struct delivery *d)
{
    struct settle_item it = {.kind = SETTLE_NACK, .mode = NACK_SILENT, .receipt = d->receipt};
    queue_put_settle_item(&f->rest, &it);
    f->n_rest++;
}

/* What cannot be read now, or is not what was written, is not gone: it is tried again when queue_log has tidied, and another replica is asked to
 * lead meanwhile (queue_housekeeping). A consumer sees what was published or nothing (Q2, Q3). */
static enum queue_log_got look_up(struct node_group *g, uint64_t topic, uint32_t partition, uint64_t offset, struct queue_message *m)
{
    enum queue_log_got got = queue_log_get(g->q.log, topic, partition, offset, m);
    if (got == QUEUE_LOG_DAMAGED) {
        g->q.damaged = true;
        return QUEUE_LOG_LOADING;
    }
    return got;
}

static bool is_stream(const struct node_group *g, uint64_t topic)
{
    struct topic_config config;
    slice_t name;
    uint64_t version;
    return queue_sm_topic(g->q.sm, topic, &config, &name, &version) && config.stream;
}

/* True: all deliveries are in `out`. Each: the delivery, then its message; a message that is gone has the flags 255 and no body. */
static bool step_deliveries(struct node *n, struct node_group *g, struct fill *f)
{
    (void)n;
    struct reader r = reader_of(slice_of(f->in.ptr + f->at, f->in.len - f->at));
    while (f->left > 0) {
        struct delivery d;
        const uint8_t *before = r.p;
        bool ok = queue_get_delivery(&r, &d);
        syn_assert(ok);
        if (f->out.len > FILL_BYTES_MAX && f->kind == QUEUE_OP_CLAIM) {
            rest_add(f, &d);
            f->left--;
            continue;
        }
        struct queue_message m;
        enum queue_log_got got = look_up(g, f->topic, d.receipt.partition, d.receipt.offset, &m);
        if (got == QUEUE_LOG_LOADING) {
            f->at = (size_t)(before - f->in.ptr);
            return false;
        }
        if (got != QUEUE_LOG_OK && !is_stream(g, f->topic)) {
            f->left--; /* its topic was deleted meanwhile */
            continue;
        }
        if (got != QUEUE_LOG_OK) {
            m = (struct queue_message){.flags = MESSAGE_GONE, .id = d.id};
        }
        queue_put_delivery(&f->out, &d);
        fill_put_message(&f->out, d.receipt.offset, &m);
        f->count++;
        f->left--;
    }
    f->at = (size_t)(r.p - f->in.ptr);
    le32_put(f->out.ptr + f->count_at, f->count);
    if (f->kind == QUEUE_OP_CLAIM) {
        buf_put_u32(&f->out, f->n_rest);
        buf_append_slice(&f->out, buf_slice(&f->rest));
    }
    buf_append(&f->out, r.p, reader_left(&r)); /* TAKE: what follows its deliveries */
    return true;
}

static uint64_t resolve(struct node_group *g, const struct fill *f, struct stream_id id, bool after, uint64_t end)
{
    if (after && ++id.seq == 0 && ++id.ms == 0) {
        return end;
    }
    uint64_t offset = queue_sm_find_id(g->q.sm, f->topic, f->query.partition, id);
    return offset < end ? offset : end;
}

/* [next, last) are the offsets to walk. */
static void range_bounds(struct node_group *g, struct fill *f, const struct partition_info *p)
{
    const struct queue_query *q = &f->query;
    if (f->resolved) {
        return;
    }
    uint64_t from = q->by_id ? resolve(g, f, q->first, false, p->end) : q->first.ms;
    uint64_t to = q->by_id ? resolve(g, f, q->last, true, p->end) : q->last.ms < UINT64_MAX ? q->last.ms + 1 : UINT64_MAX;
    f->next = from > p->start ? from : p->start;
    f->last = to < p->end ? to : p->end;
    f->resolved = true;
}

static bool step_range(struct node_group *g, struct fill *f, const struct partition_info *p)
{
    const struct queue_query *q = &f->query;
    range_bounds(g, f, p);
    if (q->wait_ms > 0 && f->count == 0) {
        f->last = p->end; /* what came meanwhile */
    }
    while (f->next < f->last && f->count < q->count && f->out.len < FILL_BYTES_MAX) {
        uint64_t offset = q->reverse ? f->last - 1 : f->next;
        struct queue_message m;
        enum queue_log_got got = QUEUE_LOG_GONE;
        if (!queue_sm_deleted(g->q.sm, f->topic, q->partition, offset)) {
            got = look_up(g, f->topic, q->partition, offset, &m);
        }
        if (got == QUEUE_LOG_LOADING) {
            return false;
        }
        if (got == QUEUE_LOG_OK) {
            fill_put_message(&f->out, offset, &m);
            f->count++;
        }
        if (q->reverse) {
            f->last = offset;
        } else {
            f->next = offset + 1;
        }
    }
    le32_put(f->out.ptr + f->count_at, f->count);
    return f->count > 0 || f->until_ms == 0;
}

/* Each offset asked for, in order. */
static bool step_fetch(struct node_group *g, struct fill *f)
{
    while (f->count < f->query.count) {
        uint64_t offset = le64_get(f->query.ids.ptr + (size_t)f->count * 8);
        struct queue_message m;
        enum queue_log_got got = QUEUE_LOG_GONE;
        if (f->out.len < FILL_BYTES_MAX && !queue_sm_deleted(g->q.sm, f->topic, f->query.partition, offset)) {
            got = look_up(g, f->topic, f->query.partition, offset, &m);
        }
        if (got == QUEUE_LOG_LOADING) {
            return false;
        }
        if (got != QUEUE_LOG_OK) {
            m = (struct queue_message){.flags = MESSAGE_GONE};
        }
        fill_put_message(&f->out, offset, &m);
        f->count++;
    }
    le32_put(f->out.ptr + f->count_at, f->count);
    return true;
}

struct one_dead { bool found; struct dead_info d; };

static void take_dead(void *arg, const struct dead_info *d)
{
    struct one_dead *o = arg;
    o->found = true;
    o->d = *d;
}

static bool step_dead(struct node_group *g, struct fill *f)
{
    const struct queue_query *q = &f->query;
    while (f->count < q->count && f->out.len < FILL_BYTES_MAX) {
        struct one_dead o = {0};
        queue_sm_dead(g->q.sm, f->topic, q->partition, q->name, f->next, 1, take_dead, &o);
        if (!o.found) {
            break;
        }
        struct queue_message m;
        enum queue_log_got got = look_up(g, f->topic, q->partition, o.d.offset, &m);
        if (got == QUEUE_LOG_LOADING) {
            return false;
        }
        if (got != QUEUE_LOG_OK) {
            m = (struct queue_message){.flags = MESSAGE_GONE, .id = o.d.id};
        }
        buf_put_u32(&f->out, o.d.deliveries);
        buf_put_u64(&f->out, o.d.died_wall_ms);
        buf_put_bytes(&f->out, o.d.reason);
        fill_put_message(&f->out, o.d.offset, &m);
        f->count++;
        f->next = o.d.offset + 1;
    }
    le32_put(f->out.ptr + f->count_at, f->count);
    return true;
}

/* For each id its offset, when exactly that message is here. */
static bool step_resolve(struct node_group *g, struct fill *f, const struct partition_info *p)
{
    while (f->count < f->query.count) {
        const uint8_t *at = f->query.ids.ptr + (size_t)f->count * 16;
        struct stream_id id = {le64_get(at), le64_get(at + 8)};
        uint64_t offset = queue_sm_find_id(g->q.sm, f->topic, f->query.partition, id), found = UINT64_MAX;
        struct queue_message m;
        if (offset < p->end && !queue_sm_deleted(g->q.sm, f->topic, f->query.partition, offset)) {
            enum queue_log_got got = look_up(g, f->topic, f->query.partition, offset, &m);
            if (got == QUEUE_LOG_LOADING) {
                return false;
            }
            found = got == QUEUE_LOG_OK && m.id.ms == id.ms && m.id.seq == id.seq ? offset : UINT64_MAX;
        }
        buf_put_u64(&f->out, found);
        f->count++;
    }
    le32_put(f->out.ptr + f->count_at, f->count);
    return true;
}

static bool step_seek(struct node_group *g, struct fill *f, const struct partition_info *p)
{
    f->out.len = f->count_at;
    buf_put_u64(&f->out, resolve(g, f, f->query.first, false, p->end));
    return true;
}

static bool step_query(struct node_group *g, struct fill *f)
{
    struct partition_info p;
    if (!queue_sm_partition(g->q.sm, f->topic, f->query.partition, &p)) {
        buf_clear(&f->out);
        buf_put_u8(&f->out, QUEUE_NO_TOPIC);
        return true;
    }
    switch (f->query.kind) {
    case QQ_RANGE: return step_range(g, f, &p);
    case QQ_DEAD: return step_dead(g, f);
    case QQ_SEEK: return step_seek(g, f, &p);
    case QQ_RESOLVE: return step_resolve(g, f, &p);
    case QQ_FETCH: return step_fetch(g, f);
    default: SYN_UNREACHABLE();
    }
}

static bool fill_step(struct node *n, struct node_group *g, struct fill *f)
{
    if (!(f->is_query ? step_query(g, f) : step_deliveries(n, g, f))) {
        return false;
    }
    if (f->is_query) {
        reads_answer(n, f->seq, f->from, FORWARD_OK, buf_slice(&f->out));
    } else {
        group_send_result(n, g, f->req, buf_slice(&f->out));
    }
    return true;
}

/* Does anyone want this answer from here? */
static bool wanted(struct node *n, struct node_group *g, struct request_id req, uint32_t deliveries)
{
    uint64_t origin = req.origin & ~(uint64_t)1;
    if (origin == n->origin) {
        return true;
    }
    if (!group_leads(g)) {
        return false;
    }
    const struct consensus_config *c = consensus_config_now(g->consensus);
    for (uint32_t i = 0; i < n->n_peers; i++) {
        if (n->peers[i].origin == origin) {
            int at = config_find(c, n->peers[i].member.id);
            bool replica = at >= 0 && c->members[at].voter;
            if (replica && deliveries > TRAVEL_DELIVERIES_MAX) {
                consensus_tell(g->consensus, n->peers[i].member.id);
                group_touch(n, g);
                return false;
            }
            return true;
        }
    }
    return false;
}

void fill_deliveries(struct node *n, struct node_group *g, const struct queue_result *r, slice_t reply)
{
    struct reader head = reader_of(slice_of(reply.ptr + 1, reply.len - 1));
    uint64_t next = r->kind == QUEUE_OP_TAKE ? reader_u64(&head) : 0;
    (void)next;
    if (!wanted(n, g, r->req, reader_u32(&head))) {
        return;
    }
    struct fill *f = calloc(1, sizeof *f);
    syn_assert(f != NULL);
    list_init(&f->link);
    f->req = r->req;
    f->kind = r->kind;
    f->topic = r->topic;
    buf_append_slice(&f->in, reply);
    struct reader rd = reader_of(buf_slice(&f->in));
    buf_put_u8(&f->out, reader_u8(&rd));
    if (r->kind == QUEUE_OP_TAKE) {
        buf_put_u64(&f->out, reader_u64(&rd));
    }
    f->left = reader_u32(&rd);
    f->at = (size_t)(rd.p - f->in.ptr);
    count_begin(f);
    if (fill_step(n, g, f)) {
        fill_free(f);
    } else {
        list_push_back(&g->q.fills, &f->link);
    }
}

void fill_query(struct node *n, struct node_group *g, uint64_t req, node_id_t from, const struct queue_query *q)
{
    struct fill *f = calloc(1, sizeof *f);
    syn_assert(f != NULL);
    list_init(&f->link);
    f->is_query = true;
    f->from = from;
    f->seq = req;
    f->topic = q->topic;
    queue_query_encode(&f->in, q);
    bool ok = queue_query_decode(buf_slice(&f->in), &f->query);
    syn_assert(ok);
    f->next = q->first.ms;
    f->until_ms = q->wait_ms > 0 ? n->now_ms + q->wait_ms : 0;
    buf_put_u8(&f->out, QUEUE_DONE);
    count_begin(f);
    if (fill_step(n, g, f)) {
        fill_free(f);
        return;
    }
    list_push_back(&g->q.fills, &f->link);
    if (f->until_ms != 0) {
        f->waiting = true;
        g->q.n_waiting_fills++;
        g->q.fills_at_ms = g->q.n_waiting_fills == 1 || f->until_ms < g->q.fills_at_ms ? f->until_ms : g->q.fills_at_ms;
    }
}

uint64_t fills_deadline(const struct group_queue *q)
{
    return q->n_waiting_fills > 0 ? q->fills_at_ms : UINT64_MAX;
}

void fills_go_on(struct node *n, struct node_group *g)
{
    uint64_t at = UINT64_MAX;
    list_each_safe(it, &g->q.fills) {
        struct fill *f = CONTAINER_OF(it, struct fill, link);
        if (f->until_ms != 0 && n->now_ms >= f->until_ms) {
            f->until_ms = 0; /* it has waited enough */
        }
        if (fill_step(n, g, f)) {
            g->q.n_waiting_fills -= f->waiting;
            fill_free(f);
        } else if (f->until_ms != 0 && f->until_ms < at) {
            at = f->until_ms;
        }
    }
    g->q.fills_at_ms = at;
}

void fills_free(struct group_queue *q)
{
    while (!list_empty(&q->fills)) {
        fill_free(CONTAINER_OF(q->fills.next, struct fill, link));
    }
}

void fills_drop(struct node *n, struct node_group *g, node_id_t from, bool reads_only)
{
    (void)n;
    list_each_safe(it, &g->q.fills) {
        struct fill *f = CONTAINER_OF(it, struct fill, link);
        if (f->is_query && (from == 0 || f->from == from)) {
            if (from == 0 && f->from != 0) {
                reads_answer(n, f->seq, f->from, FORWARD_NOT_READY, SLICE_NONE);
            } else if (from == 0) {
                request_park(n, f->seq);
            }
            g->q.n_waiting_fills -= f->waiting;
            fill_free(f);
        } else if (!reads_only) {
            g->q.n_waiting_fills -= f->waiting;
            fill_free(f);
        }
    }
}
