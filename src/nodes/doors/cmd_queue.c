/* QUEUE.* commands on topics, messages and members. Settling and moving are cmd_queue_settle.c's, what only looks is cmd_queue_query.c's. */
#include "nodes/doors/cmd.h"
#include "nodes/doors/queue_door.h"

#include "utils/hash.h"

#include <stdlib.h>

enum { HEADERS_MAX = 64 };

bool arg_option(struct call *c, uint32_t i, slice_t *v)
{
    if (i + 1 >= c->argc) {
        call_error(c, "ERR", "syntax error: %.*s needs a value", shown_length(c->argv[i]), (const char *)c->argv[i].ptr);
        return false;
    }
    *v = c->argv[i + 1];
    return true;
}

bool arg_unknown(struct call *c, slice_t word)
{
    call_error(c, "ERR", "syntax error: unknown option '%.*s'", shown_length(word), (const char *)word.ptr);
    return false;
}

static bool config_number_option(struct call *c, slice_t word, slice_t v, struct topic_config *o, bool *known)
{
    uint64_t x = 0;
    *known = true;
    if (slice_ieq(word, "PARTITIONS")) {
        bool ok = arg_u64(c, v, "PARTITIONS", 1, LIMIT_PARTITIONS, &x);
        o->partitions = (uint32_t)x;
        return ok;
    }
    if (slice_ieq(word, "MAXDELIVER")) {
        bool ok = arg_u64(c, v, "MAXDELIVER", 0, 1000000, &x);
        o->max_deliver = (uint32_t)x;
        return ok;
    }
    if (slice_ieq(word, "VISIBILITY")) {
        return arg_u64(c, v, "VISIBILITY", 10, LIMIT_TTL_MS, &o->visibility_ms);
    }
    if (slice_ieq(word, "RETENTION")) {
        return arg_u64(c, v, "RETENTION", 0, UINT64_MAX / 2, &o->retention_bytes);
    }
    if (slice_ieq(word, "MAXAGE")) {
        return arg_u64(c, v, "MAXAGE", 0, UINT64_MAX / 2, &o->max_age_ms);
    }
    if (slice_ieq(word, "BACKOFF")) {
        bool ok = arg_u64(c, v, "BACKOFF", 0, LIMIT_TTL_MS, &x);
        o->backoff_ms = (uint32_t)x;
        return ok;
    }
    if (slice_ieq(word, "BACKOFFMAX")) {
        bool ok = arg_u64(c, v, "BACKOFFMAX", 0, LIMIT_TTL_MS, &x);
        o->backoff_ms_max = (uint32_t)x;
        return ok;
    }
    *known = false;
    return true;
}

static bool config_option(struct call *c, uint32_t i, struct topic_config *o)
{
    slice_t word = c->argv[i], v;
    bool known;
    uint64_t x;
    if (!arg_option(c, i, &v) || !config_number_option(c, word, v, o, &known)) {
        return false;
    }
    if (known) {
        return true;
    }
    if (slice_ieq(word, "ORDERED")) {
        o->ordered = slice_ieq(v, "key");
        if (!o->ordered && !slice_ieq(v, "none")) {
            call_error(c, "ERR", "ORDERED must be key or none");
            return false;
        }
        return true;
    }
    if (slice_ieq(word, "REPLICAS")) {
        uint32_t has = c->n->opt.replication_factor < c->n->opt.n_members ? c->n->opt.replication_factor : c->n->opt.n_members;
        if (!arg_u64(c, v, "REPLICAS", 1, 15, &x)) {
            return false;
        }
        if (x > has) {
            call_error(c, "ERR", "REPLICAS %llu: this cluster keeps %u copies of everything (REPLICATION_FACTOR)", (unsigned long long)x, has);
            return false;
        }
        return true;
    }
    if (slice_ieq(word, "DLQ")) {
        call_error(c, "ERR", "DLQ: dead letters stay in their topic, with count and reason; QUEUE.DLQ topic GROUP group lists them");
        return false;
    }
    return arg_unknown(c, word);
}

static bool config_options(struct call *c, uint32_t from, struct topic_config *o)
{
    for (uint32_t i = from; i < c->argc; i += 2) {
        if (!config_option(c, i, o)) {
            return false;
        }
    }
    o->backoff_ms_max = o->backoff_ms_max < o->backoff_ms ? o->backoff_ms : o->backoff_ms_max;
    return true;
}

enum { PART_OF_GROUP_0 = UINT32_MAX };

static bool refused_by_group_0(struct multi *m, slice_t reply)
{
    if (reply.ptr[0] == TOPIC_DONE) {
        return false;
    }
    struct buf b = {0};
    topic_code_error(&b, reply.ptr[0], buf_slice(&m->name));
    multi_fail(m, buf_slice(&b));
    buf_fini(&b);
    return true;
}

/* CREATE and ALTER: the topic's groups hear of it before the answer, so that what is done next finds it there. One that does not answer
 * is told by the leader of group 0 later. */
static void topic_changed(struct multi *m, uint32_t part, slice_t reply)
{
    if (part != PART_OF_GROUP_0 || refused_by_group_0(m, reply)) {
        return;
    }
    struct topic_ref *t = m->topic;
    topic_take_row(m->n, t, reply);
    m->keep_errors = true;
    for (uint32_t g = 0; t->state == TOPIC_KNOWN && g < m->n->opt.groups; g++) {
        if (topic_has_group(t, g)) {
            struct request *r = multi_op(m, g, QUEUE_OP_OPEN, g);
            topic_put_open(&r->payload, t, g);
            request_submit(m->n, r);
        }
    }
}

static void end_ok(struct multi *m, struct buf *reply)
{
    (void)m;
    resp_simple(reply, "OK");
}

static void change_topic(struct call *c, struct topic_ref *t, enum topic_op_kind kind, const struct topic_config *config)
{
    struct multi *m = multi_new(c, t, topic_changed, end_ok);
    struct request *r = multi_topic_op(m, kind);
    r->arg2 = PART_OF_GROUP_0;
    buf_append_slice(&m->name, c->argv[1]);
    topic_put_create(&r->payload, &(struct topic_create){.name = c->argv[1], .config = *config});
    request_submit(c->n, r);
    multi_begin(m);
}

void handle_queue_create(struct call *c)
{
    struct topic_config config = topic_defaults(c->n, false);
    if (arg_name(c, c->argv[1], "the topic", LIMIT_KEY_BYTES) && config_options(c, 2, &config)) {
        change_topic(c, topic_named(c->n, c->argv[1]), TOPIC_OP_CREATE, &config);
    }
}

void handle_queue_alter(struct call *c)
{
    struct topic_ref *t = call_topic(c, c->argv[1], WANT_FRESH);
    if (t != NULL) {
        struct topic_config config = t->config;
        if (config_options(c, 2, &config)) {
            change_topic(c, t, TOPIC_OP_ALTER, &config);
        }
    }
}

/* Group 0 has let go of the name: now its groups drop what they have, before the answer, so that no door whose row is old can store a
 * message that is dropped behind its acknowledgement. A group that does not answer is asked again by the leader of group 0. */
static void deleted(struct multi *m, uint32_t part, slice_t reply)
{
    if (part != PART_OF_GROUP_0 || refused_by_group_0(m, reply)) {
        return;
    }
    if (m->topic->state == TOPIC_KNOWN && m->topic->id == m->args[0]) {
        m->topic->state = TOPIC_NOT_ASKED;
    }
    m->keep_errors = true;
    for (uint32_t g = 0; g < m->n->opt.groups; g++) {
        if (m->parts_asked[g / 64] >> (g % 64) & 1) {
            struct request *r = multi_op(m, g, QUEUE_OP_DROP, g);
            queue_put_drop(&r->payload, m->args[0]);
            request_submit(m->n, r);
        }
    }
}

static void end_deleted(struct multi *m, struct buf *reply)
{
    if (m->stale > 0) {
        resp_error(reply, "UNCERTAIN", "the topic is deleted, but %llu of its groups did not confirm in time that they dropped its messages",
                   (unsigned long long)m->stale);
    } else {
        resp_simple(reply, "OK");
    }
}

void handle_queue_delete(struct call *c)
{
    struct topic_ref *t = call_topic(c, c->argv[1], WANT_FRESH);
    if (t == NULL) {
        return;
    }
    struct multi *m = multi_new(c, t, deleted, end_deleted);
    struct request *r = multi_topic_op(m, TOPIC_OP_DELETE);
    r->arg2 = PART_OF_GROUP_0;
    m->args[0] = t->id;
    buf_append_slice(&m->name, topic_name(t));
    for (uint32_t p = 0; p < t->config.partitions; p++) {
        m->parts_asked[t->groups[p] / 64] |= 1ull << (t->groups[p] % 64);
    }
    topic_put_delete(&r->payload, topic_name(t));
    request_submit(c->n, r);
    multi_begin(m);
}

struct publish_options {
    slice_t key, id;
    bool has_key;
    slice_t guard;         /* FENCE, empty: none */
    uint64_t delay_ms, token;
    uint32_t n_headers;
    slice_t headers[2 * HEADERS_MAX];
};

static bool publish_options(struct call *c, uint32_t from, struct publish_options *o)
{
    o->key = o->id = o->guard = SLICE_NONE;
    o->has_key = false;
    o->delay_ms = 0;
    o->n_headers = 0;
    for (uint32_t i = from; i < c->argc; i += 2) {
        slice_t word = c->argv[i], v;
        if (!arg_option(c, i, &v)) {
            return false;
        }
        bool ok = true;
        if (slice_ieq(word, "KEY")) {
            o->key = v;
            o->has_key = true;
            ok = v.len <= LIMIT_KEY_BYTES || arg_name(c, v, "KEY", LIMIT_KEY_BYTES);
        } else if (slice_ieq(word, "ID") || slice_ieq(word, "IDEM")) {
            o->id = v;
            ok = arg_name(c, v, "ID", LIMIT_IDEM_BYTES);
        } else if (slice_ieq(word, "DELAY")) {
            ok = arg_u64(c, v, "DELAY", 0, LIMIT_TTL_MS, &o->delay_ms);
        } else if (slice_ieq(word, "FENCE")) {
            if (i + 2 >= c->argc) {
                call_error(c, "ERR", "syntax error: FENCE resource token");
                return false;
            }
            o->guard = v;
            ok = arg_name(c, v, "the resource of FENCE", LIMIT_KEY_BYTES) && arg_u64(c, c->argv[i + 2], "the token of FENCE", 0, UINT64_MAX, &o->token);
            i++;
        } else if (slice_ieq(word, "HEADER")) {
            if (i + 2 >= c->argc || o->n_headers == HEADERS_MAX) {
                call_error(c, "ERR", "syntax error: HEADER name value, at most %d of them", HEADERS_MAX);
                return false;
            }
            o->headers[2 * o->n_headers] = v;
            o->headers[2 * o->n_headers++ + 1] = c->argv[i + 2];
            ok = arg_name(c, v, "a header's name", LIMIT_KEY_BYTES);
            i++;
        } else {
            ok = arg_unknown(c, word);
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}

static void publish_one(struct call *c, struct topic_ref *t, slice_t payload, const struct publish_options *o, struct publish_multi *multi, uint32_t at)
{
    struct buf *body = &c->n->doors->body;
    struct publish_item it = {.delay_ms = o->delay_ms, .dedup = o->id, .trim_maxlen = UINT64_MAX, .guard = o->guard, .token = o->token};
    it.partition = topic_partition_of(c->n, t, o->has_key ? &o->key : NULL, o->id);
    if (o->has_key) {
        uint64_t h = hash_bytes(0x6b6579, o->key); /* the same on every node: it goes into the log */
        it.key_hash = (uint32_t)(h ^ h >> 32) | 1u;
    }
    buf_clear(body);
    message_put(body, c->n->wall_ms, o->has_key ? &o->key : NULL, o->n_headers, o->headers, payload);
    it.body = buf_slice(body);
    publish_add(c, t, &it, VIEW_MESSAGE_ID, multi, at);
}

void handle_queue_publish(struct call *c)
{
    struct publish_options o;
    if (!publish_options(c, 3, &o)) {
        return;
    }
    struct topic_ref *t = call_topic(c, c->argv[1], WANT_OR_CREATE);
    if (t != NULL) {
        publish_one(c, t, c->argv[2], &o, NULL, 0);
    }
}

void handle_queue_publishbatch(struct call *c)
{
    uint64_t count;
    struct publish_options o;
    if (!arg_u64(c, c->argv[2], "the number of payloads", 1, LIMIT_RESP_ARGS, &count)) {
        return;
    }
    if (c->argc < 3 + count) {
        call_error(c, "ERR", "the number of payloads is %llu but fewer follow", (unsigned long long)count);
        return;
    }
    if (!publish_options(c, 3 + (uint32_t)count, &o)) {
        return;
    }
    if (o.id.len > 0) {
        call_error(c, "ERR", "ID names one message: a batch takes KEY, DELAY, HEADER and FENCE");
        return;
    }
    struct topic_ref *t = call_topic(c, c->argv[1], WANT_OR_CREATE);
    if (t == NULL) {
        return;
    }
    struct publish_multi *m = publish_multi_new(c, (uint32_t)count);
    for (uint32_t i = 0; i < count; i++) {
        publish_one(c, t, c->argv[3 + i], &o, m, i);
    }
}

/* Messages with options of their own: topic, how many, then of each the payload, the number of its options' words and these. No client of
 * RESP sends it: a pipeline of QUEUE.PUBLISH is the same there. */
static void publish_many(struct call *c)
{
    uint64_t count, words;
    struct publish_options o;
    uint32_t at = 3;
    struct topic_ref *t = call_topic(c, c->argv[1], WANT_OR_CREATE);
    if (t == NULL || !arg_u64(c, c->argv[2], "the number of messages", 1, UINT32_MAX, &count)) {
        return;
    }
    uint32_t whole = c->argc;
    for (uint64_t i = 0; i < count; i++, at += 2 + (uint32_t)words) {
        syn_assert(at + 1 < whole);
        if (!arg_u64(c, c->argv[at + 1], "the number of words", 0, whole - at - 2, &words)) {
            return;
        }
        c->argc = at + 2 + (uint32_t)words;
        bool ok = publish_options(c, at + 2, &o);
        c->argc = whole;
        if (!ok) {
            return;
        }
    }
    struct publish_multi *m = publish_multi_new(c, (uint32_t)count);
    at = 3;
    for (uint32_t i = 0; i < count; i++, at += 2 + (uint32_t)words) {
        arg_u64(c, c->argv[at + 1], "the number of words", 0, whole, &words);
        c->argc = at + 2 + (uint32_t)words;
        publish_options(c, at + 2, &o);
        c->argc = whole;
        publish_one(c, t, c->argv[at], &o, m, i);
    }
}

const struct command queue_publish_many = {.name = "QUEUE.PUBLISH", .flags = CMD_WRITE, .fn = publish_many};

/* GROUP g at the place where every command but PUBLISH has it. */
bool arg_group(struct call *c, uint32_t at, slice_t *group)
{
    if (at + 1 >= c->argc || !slice_ieq(c->argv[at], "GROUP")) {
        call_error(c, "ERR", "syntax error: GROUP name must follow the topic");
        return false;
    }
    *group = c->argv[at + 1];
    return arg_name(c, *group, "GROUP", LIMIT_CONSUMER_BYTES);
}

struct member_options { slice_t group, consumer; uint64_t ttl_ms; struct consume_options o; };

static bool member_option(struct call *c, uint32_t i, struct member_options *m, bool consume)
{
    slice_t word = c->argv[i], v;
    uint64_t x;
    if (!arg_option(c, i, &v)) {
        return false;
    }
    if (slice_ieq(word, "GROUP")) {
        m->group = v;
        return arg_name(c, v, "GROUP", LIMIT_CONSUMER_BYTES);
    }
    if (slice_ieq(word, "CONSUMER")) {
        m->consumer = v;
        return arg_name(c, v, "CONSUMER", LIMIT_CONSUMER_BYTES);
    }
    if (!consume && slice_ieq(word, "TTL")) {
        return arg_u64(c, v, "TTL", 100, LIMIT_TTL_MS, &m->ttl_ms);
    }
    if (consume && slice_ieq(word, "COUNT")) {
        bool ok = arg_u64(c, v, "COUNT", 1, LIMIT_CLAIM_MESSAGES, &x);
        m->o.count = (uint32_t)x;
        return ok;
    }
    if (consume && slice_ieq(word, "BLOCK")) {
        m->o.block = true;
        return arg_u64(c, v, "BLOCK", 0, LIMIT_TTL_MS, &m->o.block_ms);
    }
    if (consume && slice_ieq(word, "VISIBILITY")) {
        return arg_u64(c, v, "VISIBILITY", 10, LIMIT_TTL_MS, &m->o.visibility_ms);
    }
    return arg_unknown(c, word);
}

static bool member_options(struct call *c, struct member_options *m, bool consume)
{
    *m = (struct member_options){.o = {.count = 1}};
    for (uint32_t i = 2; i < c->argc; i += 2) {
        if (!member_option(c, i, m, consume)) {
            return false;
        }
    }
    if (m->group.len == 0 || m->consumer.len == 0) {
        call_error(c, "ERR", "syntax error: GROUP and CONSUMER must be given");
        return false;
    }
    return true;
}

void handle_queue_consume(struct call *c)
{
    struct member_options m;
    if (!member_options(c, &m, true)) {
        return;
    }
    struct topic_ref *t = call_topic(c, c->argv[1], WANT_OR_CREATE);
    if (t != NULL) {
        consume_begin(c, member_get(c->n, t, m.group, m.consumer), &m.o);
    }
}

/* JOIN and LEAVE: what the member has, or had. */
static void joined(struct multi *m, uint32_t part, slice_t reply)
{
    (void)part;
    struct reader r = reader_of(reply);
    uint8_t code = reader_u8(&r);
    if (code == TOPIC_DONE && m->args[0] == TOPIC_OP_JOIN) {
        reader_u32(&r);
        code = reader_u8(&r);
    }
    if (code != TOPIC_DONE && code != TOPIC_NO_MEMBER) {
        struct buf b = {0};
        topic_code_error(&b, code, topic_name(m->topic));
        multi_fail(m, buf_slice(&b));
        buf_fini(&b);
        return;
    }
    m->sum = code == TOPIC_DONE ? reader_u64(&r) : 0;
    m->rows = code == TOPIC_DONE ? reader_u32(&r) : 0;
    for (uint32_t i = 0; i < m->rows; i++) {
        uint32_t partition = reader_u32(&r);
        uint64_t since = reader_u64(&r);
        resp_int(&m->out, partition);
        (void)since;
    }
}

static void end_joined(struct multi *m, struct buf *reply)
{
    resp_map(reply, 2);
    resp_bulk_str(reply, "generation");
    resp_int(reply, (int64_t)m->sum);
    resp_bulk_str(reply, "partitions");
    resp_array(reply, m->rows);
    buf_append_slice(reply, buf_slice(&m->out));
}

void handle_queue_join(struct call *c)
{
    struct member_options o;
    if (!member_options(c, &o, false)) {
        return;
    }
    struct topic_ref *t = call_topic(c, c->argv[1], WANT_OR_CREATE);
    if (t == NULL) {
        return;
    }
    struct member *member = member_get(c->n, t, o.group, o.consumer);
    member->ttl_ms = o.ttl_ms > 0 ? o.ttl_ms : member->ttl_ms;
    member->conn = c->conn->id;
    member_join(c->n, member); /* this node keeps it alive from now on */
    struct multi *m = multi_new(c, t, joined, end_joined);
    m->args[0] = TOPIC_OP_JOIN;
    struct request *r = multi_topic_op(m, TOPIC_OP_JOIN);
    topic_put_join(&r->payload, 1);
    topic_put_join_item(&r->payload, &(struct topic_join){.topic = t->id, .group = o.group, .consumer = o.consumer, .ttl_ms = member->ttl_ms,
                                                          .node = c->n->opt.self});
    request_submit(c->n, r);
    multi_begin(m);
}

/* What it has in flight is available at once, in every group of the topic. */
static void left(struct multi *m, uint32_t part, slice_t reply)
{
    (void)part;
    if (reply.ptr[0] != TOPIC_DONE && reply.ptr[0] != TOPIC_NO_MEMBER) {
        struct buf b = {0};
        topic_code_error(&b, reply.ptr[0], topic_name(m->topic));
        multi_fail(m, buf_slice(&b));
        buf_fini(&b);
        return;
    }
    m->sum = reply.ptr[0] == TOPIC_DONE;
}

static void end_sum(struct multi *m, struct buf *reply)
{
    resp_int(reply, (int64_t)m->sum);
}

static void released(struct node *n, struct request *r, slice_t reply)
{
    (void)n;
    (void)r;
    (void)reply;
}

void handle_queue_leave(struct call *c)
{
    struct member_options o;
    struct topic_ref *t = member_options(c, &o, false) ? call_topic(c, c->argv[1], WANT_TOPIC) : NULL;
    if (t == NULL) {
        return;
    }
    struct node *n = c->n;
    struct member *member = member_find(n, t, o.group, o.consumer);
    if (member != NULL) {
        member_left(n, member);
    }
    struct multi *m = multi_new(c, t, left, end_sum);
    struct request *r = multi_topic_op(m, TOPIC_OP_LEAVE);
    struct topic_member who = {.topic = t->id, .group = o.group, .consumer = o.consumer};
    topic_put_member(&r->payload, &who);
    request_submit(n, r);
    for (uint32_t g = 0; g < n->opt.groups; g++) {
        bool has = false;
        for (uint32_t p = 0; p < t->config.partitions; p++) {
            has |= t->groups[p] == g;
        }
        if (has) {
            struct request *rel = queue_request(n, g, QUEUE_OP_RELEASE, released);
            queue_put_release(&rel->payload, &(struct queue_release){.topic = t->id, .group = o.group, .consumer = o.consumer});
            request_submit(n, rel);
        }
    }
    multi_begin(m);
}
