/* Topics as this node knows them: rows of group 0, kept until a group says that it does not know the topic (Q11).
 *
 * A call that needs a row which is not here is put off, with its arguments and its reply place, and run again when the row has come; calls of
 * one connection for one topic stay in their order. Not responsible for what topics are (topics.h). */
#include "nodes/doors/queue_door.h"

#include "utils/hash.h"

#include <stdlib.h>

enum { RING_POINTS_MAX = 16384 };

struct put_off {
    struct list link;
    conn_id_t conn;
    uint64_t slot;
    uint64_t at_ms;
    uint64_t began_ms;
    const struct command *cmd;
    bool asked_create;
    uint32_t argc;
    slice_t *argv;
    struct buf bytes;
};

static bool name_eq(const struct map_node *m, const void *key)
{
    return slice_eq(topic_name(CONTAINER_OF(m, struct topic_ref, by_name)), *(const slice_t *)key);
}

static bool id_eq(const struct map_node *m, const void *key)
{
    return CONTAINER_OF(m, struct topic_ref, by_id)->id == *(const uint64_t *)key;
}

struct topic_ref *topic_named(struct node *n, slice_t name)
{
    struct doors *d = n->doors;
    uint64_t h = hash_bytes(n->hash_key, name);
    struct map_node *m = map_find(&d->topics, h, &name, name_eq);
    if (m != NULL) {
        return CONTAINER_OF(m, struct topic_ref, by_name);
    }
    struct topic_ref *t = calloc(1, sizeof *t + name.len);
    syn_assert(t != NULL);
    t->name_len = (uint32_t)name.len;
    memcpy(t->name, name.ptr, name.len);
    list_init(&t->put_off);
    map_insert(&d->topics, &t->by_name, h);
    return t;
}

struct topic_ref *topic_by_id(struct node *n, uint64_t id)
{
    struct map_node *m = map_find(&n->doors->topics_by_id, hash_u64(id), &id, id_eq);
    return m != NULL ? CONTAINER_OF(m, struct topic_ref, by_id) : NULL;
}

static void put_off_free(struct put_off *p)
{
    list_remove(&p->link);
    free(p->argv);
    buf_fini(&p->bytes);
    free(p);
}

static struct put_off *put_off_new(struct call *c)
{
    struct put_off *p = calloc(1, sizeof *p);
    syn_assert(p != NULL);
    *p = (struct put_off){.conn = c->conn->id, .slot = c->slot, .cmd = c->cmd, .argc = c->argc, .asked_create = c->asked_create};
    p->began_ms = c->began_ms != 0 ? c->began_ms : c->n->now_ms;
    p->argv = malloc(c->argc * sizeof *p->argv);
    syn_assert(p->argv != NULL);
    for (uint32_t i = 0; i < c->argc; i++) {
        buf_append_slice(&p->bytes, c->argv[i]);
    }
    size_t at = 0;
    for (uint32_t i = 0; i < c->argc; i++) {
        p->argv[i] = slice_of(p->bytes.ptr + at, c->argv[i].len);
        at += c->argv[i].len;
    }
    p->at_ms = c->n->now_ms + RETRY_TOPIC_MS;
    c->later = true;
    return p;
}

void call_put_off(struct call *c, struct topic_ref *t)
{
    struct put_off *p = put_off_new(c);
    list_push_back(t != NULL ? &t->put_off : &c->n->doors->put_off, &p->link);
    if (t == NULL) {
        doors_wake(c->n, p->at_ms);
    }
}

static void run_again(struct node *n, struct put_off *p)
{
    struct conn *conn = conn_find(n, p->conn);
    if (conn != NULL) {
        struct buf reply = {0};
        struct call c = {.n = n, .conn = conn, .cmd = p->cmd, .slot = p->slot, .argc = p->argc, .argv = p->argv, .reply = &reply,
                         .again_run = true, .asked_create = p->asked_create, .began_ms = p->began_ms};
        p->cmd->fn(&c);
        if (!c.later) {
            metrics_request(&n->metrics, METRIC_REQUEST_LOCAL, buf_slice(&reply), n->now_ms - p->began_ms);
            conn_reply(n, conn, p->slot, buf_slice(&reply));
        }
        buf_fini(&reply);
    }
    put_off_free(p);
}

/* Those that are put off anew meanwhile come later. */
static void run_all(struct node *n, struct list *from)
{
    struct list now;
    list_init(&now);
    while (!list_empty(from)) {
        struct list *it = from->next;
        list_remove(it);
        list_push_back(&now, it);
    }
    while (!list_empty(&now)) {
        run_again(n, CONTAINER_OF(now.next, struct put_off, link));
    }
}

void put_off_timers(struct node *n)
{
    struct doors *d = n->doors;
    struct list now;
    list_init(&now);
    list_each_safe(it, &d->put_off) {
        struct put_off *p = CONTAINER_OF(it, struct put_off, link);
        if (p->at_ms <= n->now_ms) {
            list_remove(it);
            list_push_back(&now, it);
        } else {
            doors_wake(n, p->at_ms);
        }
    }
    while (!list_empty(&now)) {
        run_again(n, CONTAINER_OF(now.next, struct put_off, link));
    }
}

struct topic_config topic_defaults(const struct node *n, bool stream)
{
    if (stream) {
        return (struct topic_config){.partitions = 1, .stream = 1};
    }
    return (struct topic_config){.partitions = n->opt.num_partitions, .max_deliver = n->opt.max_deliver, .visibility_ms = n->opt.ack_timeout_ms,
                                 .backoff_ms = 1000, .backoff_ms_max = 60000};
}

void topic_learn(struct node *n, struct topic_ref *t, const struct topic_row *row)
{
    if (t->state == TOPIC_KNOWN && t->version > row->version) {
        return;
    }
    if (t->id != row->id) {
        if (t->id != 0) {
            map_remove(&n->doors->topics_by_id, &t->by_id);
        }
        t->id = row->id;
        map_insert(&n->doors->topics_by_id, &t->by_id, hash_u64(t->id));
    }
    t->version = row->version;
    t->config = row->config;
    t->groups = realloc(t->groups, row->config.partitions * sizeof *t->groups);
    syn_assert(t->groups != NULL);
    memcpy(t->groups, row->groups, row->config.partitions * sizeof *t->groups);
    t->state = TOPIC_KNOWN;
}

void topic_code_error(struct buf *b, uint8_t code, slice_t topic)
{
    int len = (int)(topic.len < LIMIT_ERROR_ECHO_BYTES ? topic.len : LIMIT_ERROR_ECHO_BYTES);
    const char *name = (const char *)topic.ptr;
    switch (code) {
    case TOPIC_UNKNOWN: resp_error(b, "NOTOPIC", "no such topic '%.*s': QUEUE.CREATE makes it, QUEUE.LIST shows those there are", len, name); break;
    case TOPIC_EXISTS: resp_error(b, "TOPICEXISTS", "topic '%.*s' exists with other options: QUEUE.INFO shows them, QUEUE.ALTER changes them", len, name); break;
    case TOPIC_BAD_CHANGE: resp_error(b, "ERR", "PARTITIONS and ORDERED of topic '%.*s' cannot change: create another topic", len, name); break;
    case TOPIC_NO_GROUP: resp_error(b, "NOGROUP", "no such consumer group for topic '%.*s'", len, name); break;
    case TOPIC_HAS_MEMBERS: resp_error(b, "ERR", "the consumer group has members: they must leave first"); break;
    default: resp_error(b, "LIMIT", "a bound on topics, consumer groups or members was reached (%u)", code); break;
    }
}

bool topic_has_group(const struct topic_ref *t, uint32_t group)
{
    for (uint32_t p = 0; p < t->config.partitions; p++) {
        if (t->groups[p] == group) {
            return true;
        }
    }
    return false;
}

void topic_put_open(struct buf *out, const struct topic_ref *t, uint32_t group)
{
    struct buf parts = {0};
    struct queue_open o = {.topic = t->id, .version = t->version, .name = topic_name(t), .config = t->config};
    for (uint32_t p = 0; p < t->config.partitions; p++) {
        if (t->groups[p] == group) {
            buf_put_u32(&parts, p);
            o.n_parts++;
        }
    }
    o.parts = buf_slice(&parts);
    queue_put_open(out, &o);
    buf_fini(&parts);
}

/* A group that cannot be told now is told by group 0's leader. */
static void done_open(struct node *n, struct request *r, slice_t reply)
{
    struct topic_ref *t = (struct topic_ref *)(uintptr_t)r->arg;
    (void)reply;
    if (--t->opening == 0) {
        t->state = t->state == TOPIC_ASKED ? TOPIC_KNOWN : t->state;
        run_all(n, &t->put_off);
    }
}

/* A topic that was made for these calls: they wait until its groups know it, else those that are there already would be overtaken
 * by later ones (a pipeline's order). */
static void open_groups(struct node *n, struct topic_ref *t)
{
    uint64_t groups[LIMIT_PARTITIONS / 64] = {0};
    t->state = TOPIC_ASKED;
    t->opening = 1;
    for (uint32_t p = 0; p < t->config.partitions; p++) {
        groups[t->groups[p] / 64] |= 1ull << (t->groups[p] % 64);
    }
    for (uint32_t g = 0; g < n->opt.groups; g++) {
        if (groups[g / 64] >> (g % 64) & 1) {
            struct request *r = queue_request(n, g, QUEUE_OP_OPEN, done_open);
            r->arg = (uintptr_t)t;
            topic_put_open(&r->payload, t, g);
            t->opening++;
            request_submit(n, r);
        }
    }
    if (--t->opening == 0) {
        t->state = TOPIC_KNOWN;
    }
}

static void done_row(struct node *n, struct request *r, slice_t reply)
{
    struct topic_ref *t = (struct topic_ref *)(uintptr_t)r->arg;
    if (t->state != TOPIC_ASKED) { /* learned meanwhile, by a call that looked for itself */
        run_all(n, &t->put_off);
        return;
    }
    uint32_t *groups = malloc(LIMIT_PARTITIONS * sizeof *groups);
    syn_assert(groups != NULL);
    struct reader rd = reader_of(reply);
    uint8_t code = reader_u8(&rd);
    struct topic_row row;
    buf_clear(&t->error);
    t->state = TOPIC_MISSING;
    if (reply.len > 0 && reply.ptr[0] == '-') {
        buf_append_slice(&t->error, reply);
    } else if (code == TOPIC_DONE && topic_get_row(&rd, &row, groups)) {
        t->state = TOPIC_NOT_ASKED;
        topic_learn(n, t, &row);
        if (r->arg2 != 0 && reader_u8(&rd) == 1) {
            open_groups(n, t);
        }
    } else {
        topic_code_error(&t->error, code == TOPIC_DONE ? TOPIC_UNKNOWN : code, topic_name(t));
    }
    free(groups);
    if (t->state != TOPIC_ASKED) {
        run_all(n, &t->put_off);
    }
}

bool topic_take_row(struct node *n, struct topic_ref *t, slice_t reply)
{
    uint32_t *groups = malloc(LIMIT_PARTITIONS * sizeof *groups);
    syn_assert(groups != NULL);
    struct reader rd = reader_of(reply);
    uint8_t code = reader_u8(&rd);
    struct topic_row row;
    if (code == TOPIC_DONE && topic_get_row(&rd, &row, groups)) {
        topic_learn(n, t, &row);
    } else if (code == TOPIC_UNKNOWN && t->state == TOPIC_KNOWN) {
        t->state = TOPIC_NOT_ASKED;
    }
    free(groups);
    return code != TOPIC_UNKNOWN;
}

static void done_refresh(struct node *n, struct request *r, slice_t reply)
{
    struct topic_ref *t = (struct topic_ref *)(uintptr_t)r->arg;
    t->refreshing = false;
    topic_take_row(n, t, reply);
}

/* One call's own look at the row. */
static void done_fresh(struct node *n, struct request *r, slice_t reply)
{
    struct put_off *p = (struct put_off *)(uintptr_t)r->arg2;
    struct conn *conn = conn_find(n, p->conn);
    if (reply.len > 0 && reply.ptr[0] == '-') {
        if (conn != NULL) {
            metrics_request(&n->metrics, METRIC_REQUEST_LOCAL, reply, n->now_ms - p->began_ms);
            conn_reply(n, conn, p->slot, reply);
        }
        put_off_free(p);
        return;
    }
    topic_take_row(n, (struct topic_ref *)(uintptr_t)r->arg, reply);
    run_again(n, p);
}

struct request *topic_row_request(struct node *n, struct topic_ref *t, request_done_fn done)
{
    struct request *r = request_new(n, 0, REQUEST_READ, false, done);
    r->arg = (uintptr_t)t;
    struct queue_query q = {.kind = QQ_TOPIC, .name = topic_name(t)};
    buf_put_u8(&r->payload, SERVICE_QUEUE);
    queue_query_encode(&r->payload, &q);
    return r;
}

void topic_refresh(struct node *n, struct topic_ref *t)
{
    if (t->refreshing || t->state != TOPIC_KNOWN) {
        return;
    }
    t->refreshing = true;
    request_submit(n, topic_row_request(n, t, done_refresh));
}

static void ask(struct node *n, struct topic_ref *t, enum topic_want want)
{
    t->state = TOPIC_ASKED;
    if (want < WANT_OR_CREATE) {
        request_submit(n, topic_row_request(n, t, done_row));
        return;
    }
    struct request *r = topics_request(n, TOPIC_OP_CREATE, done_row);
    r->arg = (uintptr_t)t;
    r->arg2 = 1;
    struct topic_create o = {.name = topic_name(t), .maybe = true, .config = topic_defaults(n, want == WANT_OR_CREATE_STREAM)};
    topic_put_create(&r->payload, &o);
    request_submit(n, r);
}

struct topic_ref *call_topic(struct call *c, slice_t name, enum topic_want want)
{
    if (!arg_name(c, name, "the topic", LIMIT_KEY_BYTES)) {
        return NULL;
    }
    struct topic_ref *t = topic_named(c->n, name);
    if (t->state == TOPIC_KNOWN && want == WANT_FRESH && !c->again_run) {
        struct request *r = topic_row_request(c->n, t, done_fresh);
        struct put_off *p = put_off_new(c);
        list_push_back(&c->n->doors->put_off_fresh, &p->link);
        r->arg2 = (uintptr_t)p;
        request_submit(c->n, r);
        return NULL;
    }
    if (t->state == TOPIC_KNOWN) {
        return t;
    }
    bool look = want < WANT_OR_CREATE;
    bool answered = t->state == TOPIC_MISSING && c->again_run && (look || c->asked_create);
    if (answered) {
        static const char none[] = "-NOTOPIC";
        c->missing = want == WANT_IF_THERE && t->error.len >= sizeof none && memcmp(t->error.ptr, none, sizeof none - 1) == 0;
        if (c->missing) {
            return NULL;
        }
        buf_clear(c->reply);
        buf_append_slice(c->reply, buf_slice(&t->error));
        return NULL;
    }
    c->asked_create = !look;
    call_put_off(c, t);
    if (t->state != TOPIC_ASKED) {
        ask(c->n, t, want);
    }
    return NULL;
}

/* The same on every node: a function of the number of partitions and VIRTUAL_NODES. */
static const struct hash_ring *ring_of(struct node *n, uint32_t partitions)
{
    struct doors *d = n->doors;
    for (uint32_t i = 0; i < d->n_rings; i++) {
        if (d->rings[i].nodes == partitions) {
            return &d->rings[i];
        }
    }
    d->rings = realloc(d->rings, (d->n_rings + 1) * sizeof *d->rings);
    uint32_t *ids = malloc(partitions * sizeof *ids);
    syn_assert(d->rings != NULL && ids != NULL);
    for (uint32_t i = 0; i < partitions; i++) {
        ids[i] = i;
    }
    uint32_t points = RING_POINTS_MAX / partitions;
    points = points < 16 ? 16 : points;
    ring_init(&d->rings[d->n_rings], ids, partitions, n->opt.virtual_nodes < points ? n->opt.virtual_nodes : points);
    free(ids);
    return &d->rings[d->n_rings++];
}

uint32_t topic_partition_of(struct node *n, struct topic_ref *t, const slice_t *key, slice_t dedup)
{
    uint32_t partitions = t->config.partitions;
    if (partitions == 1) {
        return 0;
    }
    if (key != NULL || dedup.len > 0) {
        return ring_owner(ring_of(n, partitions), key != NULL ? *key : dedup);
    }
    if (t->turn_no != n->turn_no) { /* those of one loop turn stay together: one batch, one entry */
        t->turn_no = n->turn_no;
        t->turn++;
    }
    return t->turn % partitions;
}

struct request *queue_request(struct node *n, uint32_t group, enum queue_op_kind kind, request_done_fn done)
{
    struct request *r = request_new(n, group, REQUEST_WRITE, false, done);
    struct queue_head h = {.kind = kind, .req = request_id_of(n, r), .low = request_low(n, group, false), .wall_ms = n->wall_ms};
    buf_put_u8(&r->payload, SERVICE_QUEUE);
    queue_put_head(&r->payload, &h);
    return r;
}

struct request *topics_request(struct node *n, enum topic_op_kind kind, request_done_fn done)
{
    struct request *r = request_new(n, 0, REQUEST_WRITE, false, done);
    buf_put_u8(&r->payload, SERVICE_TOPICS);
    topic_put_head(&r->payload, &(struct topic_head){.kind = kind, .req = request_id_of(n, r), .low = request_low(n, 0, false)});
    return r;
}

void queue_topics_fini(struct doors *d)
{
    struct map_node *m;
    while ((m = map_first(&d->topics)) != NULL) {
        struct topic_ref *t = CONTAINER_OF(m, struct topic_ref, by_name);
        map_remove(&d->topics, m);
        while (!list_empty(&t->put_off)) {
            put_off_free(CONTAINER_OF(t->put_off.next, struct put_off, link));
        }
        free(t->groups);
        buf_fini(&t->error);
        free(t);
    }
    struct list *const lists[] = {&d->put_off, &d->put_off_fresh};
    for (int i = 0; i < 2; i++) {
        while (!list_empty(lists[i])) {
            put_off_free(CONTAINER_OF(lists[i]->next, struct put_off, link));
        }
    }
    for (uint32_t i = 0; i < d->n_rings; i++) {
        ring_fini(&d->rings[i]);
    }
    free(d->rings);
    map_fini(&d->topics);
    map_fini(&d->topics_by_id);
}
