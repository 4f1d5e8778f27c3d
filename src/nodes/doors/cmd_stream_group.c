/* Redis Streams' consumer groups: XGROUP, XACK, XPENDING, XCLAIM, XAUTOCLAIM, XINFO. Ids become offsets where the state machine wants those;
 * replies are Redis' own. */
#include "nodes/doors/cmd.h"
#include "nodes/doors/queue_door.h"

#include <stdlib.h>

static void no_group(struct call *c, slice_t key, slice_t group)
{
    call_error(c, "NOGROUP", "No such key '%.*s' or consumer group '%.*s'", (int)(key.len < 64 ? key.len : 64), (const char *)key.ptr,
               (int)(group.len < 64 ? group.len : 64), (const char *)group.ptr);
}

static void fail_no_group(struct multi *m)
{
    struct buf b = {0};
    resp_error(&b, "NOGROUP", "No such consumer group '%.*s' for key name '%.*s'", (int)m->name.len, (const char *)m->name.ptr,
               (int)(m->topic->name_len < 64 ? m->topic->name_len : 64), m->topic->name);
    multi_fail(m, buf_slice(&b));
    buf_fini(&b);
}

static void end_int(struct multi *m, struct buf *reply)
{
    resp_int(reply, (int64_t)m->sum);
}

static void end_ok(struct multi *m, struct buf *reply)
{
    (void)m;
    resp_simple(reply, "OK");
}

/* XGROUP. The action is in args[0]; step 1: where an id is. */
static void submit_group(struct multi *m, slice_t consumer, enum seek_to start, uint64_t offset)
{
    struct request *r = multi_op(m, m->topic->groups[0], m->args[1] ? QUEUE_OP_SEEK : QUEUE_OP_GROUP, 0);
    if (m->args[1]) {
        queue_put_seek(&r->payload, &(struct queue_seek){.topic = m->topic->id, .group = buf_slice(&m->name), .to = start, .offset = offset});
    } else {
        queue_put_group(&r->payload, &(struct queue_group){.topic = m->topic->id, .group = buf_slice(&m->name), .consumer = consumer,
                                                           .action = (enum group_action)m->args[0], .start = start, .offset = offset});
    }
    request_submit(m->n, r);
}

static void take_group(struct multi *m, uint32_t step, slice_t reply)
{
    struct reader r = reader_of(reply);
    uint8_t code = reader_u8(&r);
    if (step == 1) {
        submit_group(m, SLICE_NONE, SEEK_OFFSET, reader_u64(&r));
    } else if (code == QUEUE_GROUP_EXISTS) {
        multi_fail(m, SLICE_LIT("-BUSYGROUP Consumer Group name already exists\r\n"));
    } else if (code == QUEUE_NO_GROUP && m->args[0] == GROUP_DESTROY) {
        m->sum = 0;
    } else if (code == QUEUE_NO_GROUP) {
        fail_no_group(m);
    } else if (code == QUEUE_LIMIT) {
        multi_fail(m, SLICE_LIT("-LIMIT the stream has as many consumer groups, or the group as many consumers, as it may\r\n"));
    } else {
        m->sum = m->args[0] == GROUP_DESTROY ? 1 : reader_u64(&r);
    }
}

static void group_at(struct call *c, struct topic_ref *t, slice_t id, bool seek)
{
    struct stream_id from;
    bool end = slice_eq(id, SLICE_LIT("$"));
    if (!end && !arg_stream_id(c, id, 0, &from)) {
        return;
    }
    struct multi *m = multi_new(c, t, take_group, end_ok);
    m->args[0] = GROUP_CREATE;
    m->args[1] = seek;
    buf_append_slice(&m->name, c->argv[3]);
    if (end || (from.ms == 0 && from.seq == 0)) {
        submit_group(m, SLICE_NONE, end ? SEEK_END : SEEK_BEGIN, 0);
    } else {
        struct queue_query q = {.kind = QQ_SEEK, .topic = t->id, .by_id = true, .first = from};
        if (++q.first.seq == 0) {
            q.first.ms++;
        }
        request_submit(c->n, multi_query(m, t->groups[0], 1, &q));
    }
    multi_begin(m);
}

static void xgroup_create(struct call *c, bool seek)
{
    bool make = false;
    for (uint32_t i = 5; i < c->argc; i++) {
        if (slice_ieq(c->argv[i], "MKSTREAM") && !seek) {
            make = true;
        } else if (slice_ieq(c->argv[i], "ENTRIESREAD") && i + 1 < c->argc) {
            i++; /* lag is counted from offsets here */
        } else {
            call_error(c, "ERR", "syntax error");
            return;
        }
    }
    struct topic_ref *t = call_stream(c, c->argv[2], make ? WANT_OR_CREATE_STREAM : WANT_IF_THERE);
    if (t != NULL) {
        group_at(c, t, c->argv[4], seek);
    } else if (c->missing) {
        call_error(c, "ERR", "The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to "
                   "create an empty stream automatically.");
    }
}

static void xgroup_change(struct call *c, enum group_action action, slice_t consumer)
{
    struct topic_ref *t = call_stream(c, c->argv[2], WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            call_error(c, "ERR", "The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option "
                       "to create an empty stream automatically.");
        }
        return;
    }
    struct multi *m = multi_new(c, t, take_group, end_int);
    m->args[0] = action;
    buf_append_slice(&m->name, c->argv[3]);
    submit_group(m, consumer, SEEK_BEGIN, 0);
    multi_begin(m);
}

void handle_xgroup(struct call *c)
{
    slice_t sub = c->argv[1];
    bool names = c->argc >= 4 && arg_name(c, c->argv[3], "the group", LIMIT_CONSUMER_BYTES) &&
                 (c->argc < 5 || slice_ieq(sub, "CREATE") || slice_ieq(sub, "SETID") || arg_name(c, c->argv[4], "the consumer", LIMIT_CONSUMER_BYTES));
    if (c->argc >= 4 && !names) {
        return;
    }
    if (slice_ieq(sub, "CREATE") && c->argc >= 5) {
        xgroup_create(c, false);
    } else if (slice_ieq(sub, "SETID") && c->argc >= 5) {
        xgroup_create(c, true);
    } else if (slice_ieq(sub, "DESTROY") && c->argc == 4) {
        xgroup_change(c, GROUP_DESTROY, SLICE_NONE);
    } else if (slice_ieq(sub, "CREATECONSUMER") && c->argc == 5) {
        xgroup_change(c, GROUP_CREATE_CONSUMER, c->argv[4]);
    } else if (slice_ieq(sub, "DELCONSUMER") && c->argc == 5) {
        xgroup_change(c, GROUP_DELETE_CONSUMER, c->argv[4]);
    } else {
        call_error(c, "ERR", "unknown subcommand or wrong number of arguments for '%.*s'. Try XGROUP CREATE key group id [MKSTREAM], SETID, DESTROY, "
                   "CREATECONSUMER, DELCONSUMER.", (int)(sub.len < 64 ? sub.len : 64), (const char *)sub.ptr);
    }
}

static void take_ack(struct multi *m, uint32_t part, slice_t reply)
{
    (void)part;
    struct reader r = reader_of(reply);
    if (reader_u8(&r) != QUEUE_DONE) {
        return;
    }
    uint32_t n = reader_u32(&r);
    for (uint32_t i = 0; i < n; i++) {
        m->sum += reader_u8(&r) == SETTLE_OK;
    }
}

void handle_xack(struct call *c)
{
    struct buf items = {0};
    for (uint32_t i = 3; i < c->argc; i++) {
        struct settle_item it = {.kind = SETTLE_ACK, .by_id = true};
        if (!arg_stream_id(c, c->argv[i], 0, &it.id)) {
            buf_fini(&items);
            return;
        }
        queue_put_settle_item(&items, &it);
    }
    struct topic_ref *t = call_stream(c, c->argv[1], WANT_IF_THERE);
    if (t != NULL) {
        struct multi *m = multi_new(c, t, take_ack, end_int);
        m->missing_ok = true;
        struct request *r = multi_op(m, t->groups[0], QUEUE_OP_SETTLE, 0);
        queue_put_settle(&r->payload, t->id, c->argv[2], c->argc - 3);
        buf_append_slice(&r->payload, buf_slice(&items));
        request_submit(c->n, r);
        multi_begin(m);
    } else if (c->missing) {
        resp_int(c->reply, 0);
    }
    buf_fini(&items);
}

struct pending_row { slice_t consumer; uint64_t offset; struct stream_id id; uint64_t idle_ms, deliveries; };

static bool get_pending_row(struct reader *r, struct pending_row *p)
{
    p->consumer = reader_bytes(r);
    p->offset = reader_u64(r);
    p->id.ms = reader_u64(r);
    p->id.seq = reader_u64(r);
    p->idle_ms = reader_u64(r);
    p->deliveries = reader_u64(r);
    reader_take(r, 16); /* generation, delivery */
    return r->ok;
}

/* XPENDING key group: how many, from where to where, per consumer. Step 0: the rows. */
static void take_summary(struct multi *m, uint32_t step, slice_t reply)
{
    struct reader r = reader_of(reply);
    uint8_t code = reader_u8(&r);
    uint32_t n = reader_u32(&r);
    if (code == QUEUE_NO_GROUP) {
        fail_no_group(m);
        return;
    }
    if (step == 1) { /* consumers with what they have */
        for (uint32_t i = 0; i < n; i++) {
            slice_t name = reader_bytes(&r);
            uint64_t pending = reader_u64(&r);
            reader_take(&r, 16);
            if (pending > 0) {
                char text[24];
                int len = snprintf(text, sizeof text, "%llu", (unsigned long long)pending);
                resp_array(&m->out, 2);
                resp_bulk(&m->out, name);
                resp_bulk(&m->out, slice_of(text, (size_t)len));
                m->rows++;
            }
        }
        return;
    }
    struct pending_row p;
    for (uint32_t i = 0; i < n && get_pending_row(&r, &p); i++) {
        if (i == 0) {
            m->args[0] = p.id.ms;
            m->args[1] = p.id.seq;
        }
        m->args[2] = p.id.ms;
        m->args[3] = p.id.seq;
    }
    m->sum = n;
    struct queue_query q = {.kind = QQ_CONSUMERS, .topic = m->topic->id, .name = buf_slice(&m->name)};
    request_submit(m->n, multi_query(m, m->topic->groups[0], 1, &q));
}

static void end_summary(struct multi *m, struct buf *b)
{
    resp_array(b, 4);
    resp_int(b, (int64_t)m->sum);
    if (m->sum == 0) {
        resp_null(b);
        resp_null(b);
        resp_null(b);
        return;
    }
    put_stream_id(b, (struct stream_id){m->args[0], m->args[1]});
    put_stream_id(b, (struct stream_id){m->args[2], m->args[3]});
    resp_array(b, m->rows);
    buf_append_slice(b, buf_slice(&m->out));
}

/* XPENDING key group [IDLE ms] start end count [consumer]. */
struct pending_filter { struct stream_id first, last; uint64_t idle_ms; };

static void take_pending(struct multi *m, uint32_t part, slice_t reply)
{
    (void)part;
    struct reader r = reader_of(reply);
    struct pending_filter f;
    struct pending_row p;
    memcpy(&f, m->args, sizeof f.first + sizeof f.last);
    if (reader_u8(&r) == QUEUE_NO_GROUP) {
        fail_no_group(m);
        return;
    }
    uint32_t n = reader_u32(&r);
    for (uint32_t i = 0; i < n && get_pending_row(&r, &p) && m->rows < m->want; i++) {
        bool low = p.id.ms < f.first.ms || (p.id.ms == f.first.ms && p.id.seq < f.first.seq);
        bool high = p.id.ms > f.last.ms || (p.id.ms == f.last.ms && p.id.seq > f.last.seq);
        if (low || high || p.idle_ms < m->sum) {
            continue;
        }
        resp_array(&m->out, 4);
        put_stream_id(&m->out, p.id);
        resp_bulk(&m->out, p.consumer);
        resp_int(&m->out, (int64_t)p.idle_ms);
        resp_int(&m->out, (int64_t)p.deliveries);
        m->rows++;
    }
}

static void end_rows(struct multi *m, struct buf *reply)
{
    resp_array(reply, m->rows);
    buf_append_slice(reply, buf_slice(&m->out));
}

void handle_xpending(struct call *c)
{
    uint32_t i = 3;
    uint64_t idle = 0, count = 0;
    struct stream_id first = {0}, last = {0};
    bool summary = c->argc == 3;
    if (!summary && slice_ieq(c->argv[3], "IDLE") && c->argc > 4) {
        if (!arg_u64(c, c->argv[4], "IDLE", 0, UINT64_MAX / 2, &idle)) {
            return;
        }
        i = 5;
    }
    if (!summary && (c->argc < i + 3 || c->argc > i + 4)) {
        call_error(c, "ERR", "syntax error");
        return;
    }
    if (!summary && (!arg_stream_id(c, c->argv[i], 0, &first) || !arg_stream_id(c, c->argv[i + 1], UINT64_MAX, &last) ||
                     !arg_u64(c, c->argv[i + 2], "count", 0, UINT32_MAX, &count))) {
        return;
    }
    struct topic_ref *t = call_stream(c, c->argv[1], WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            no_group(c, c->argv[1], c->argv[2]);
        }
        return;
    }
    struct multi *m = multi_new(c, t, summary ? take_summary : take_pending, summary ? end_summary : end_rows);
    struct queue_query q = {.kind = QQ_PENDING, .topic = t->id, .name = c->argv[2], .count = LIMIT_PENDING_PER_POSITION};
    buf_append_slice(&m->name, c->argv[2]);
    if (!summary) {
        const uint64_t args[4] = {first.ms, first.seq, last.ms, last.seq};
        memcpy(m->args, args, sizeof args);
        m->sum = idle;
        m->want = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
        q.ids = c->argc == i + 4 ? c->argv[i + 3] : SLICE_NONE;
    }
    request_submit(c->n, multi_query(m, t->groups[0], 0, &q));
    multi_begin(m);
}

/* XCLAIM and XAUTOCLAIM. `take` waits in m->name, encoded, until ids are offsets (step 0); step 1: what was taken; step 2: the id of the next. */
static void put_taken(struct multi *m, struct reader *r, uint32_t n, bool just_id)
{
    struct delivery d;
    struct queue_message msg;
    for (uint32_t i = 0; i < n && queue_get_delivery(r, &d) && fill_get_message(r, &msg); i++) {
        if (just_id) {
            put_stream_id(&m->out, d.id);
        } else {
            msg.id = d.id;
            put_stream_entry(&m->out, &msg);
        }
        m->rows++;
    }
}

static void submit_take(struct multi *m, const struct queue_take *o)
{
    struct request *r = multi_op(m, m->topic->groups[0], QUEUE_OP_TAKE, 1);
    queue_put_take(&r->payload, o);
    request_submit(m->n, r);
}

static struct queue_take take_of(struct multi *m)
{
    struct queue_take o;
    memcpy(&o, m->name.ptr, sizeof o);
    size_t at = sizeof o;
    o.topic = m->topic->id;
    o.group = slice_of(m->name.ptr + at, o.group.len);
    o.consumer = slice_of(m->name.ptr + at + o.group.len, o.consumer.len);
    return o;
}

static void keep_take(struct multi *m, const struct queue_take *o)
{
    buf_append(&m->name, o, sizeof *o);
    buf_append_slice(&m->name, o->group);
    buf_append_slice(&m->name, o->consumer);
}

static void fail_take(struct multi *m)
{
    struct queue_take o = take_of(m);
    struct buf b = {0};
    resp_error(&b, "NOGROUP", "No such key '%.*s' or consumer group '%.*s'", (int)(m->topic->name_len < 64 ? m->topic->name_len : 64), m->topic->name,
               (int)o.group.len, (const char *)o.group.ptr);
    multi_fail(m, buf_slice(&b));
    buf_fini(&b);
}

static void take_claim(struct multi *m, uint32_t step, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct queue_take o = take_of(m);
    if (reader_u8(&r) != QUEUE_DONE) {
        fail_take(m);
        return;
    }
    if (step == 1) {
        reader_u64(&r);
        uint32_t n = reader_u32(&r);
        put_taken(m, &r, n, o.just_id);
        return;
    }
    struct buf offsets = {0};
    uint32_t n = reader_u32(&r);
    o.n = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t offset = reader_u64(&r);
        if (offset != UINT64_MAX) {
            buf_put_u64(&offsets, offset);
            o.n++;
        }
    }
    o.offsets = buf_slice(&offsets);
    if (o.n > 0) {
        submit_take(m, &o);
    }
    buf_fini(&offsets);
}

static bool claim_options(struct call *c, uint32_t from, struct queue_take *o)
{
    for (uint32_t i = from; i < c->argc; i++) {
        uint64_t v = 0;
        slice_t word = c->argv[i];
        bool value = i + 1 < c->argc;
        if (slice_ieq(word, "FORCE")) {
            o->force = true;
        } else if (slice_ieq(word, "JUSTID")) {
            o->just_id = true;
        } else if (slice_ieq(word, "IDLE") && value && arg_u64(c, c->argv[i + 1], "IDLE", 0, UINT64_MAX / 2, &o->idle_ms)) {
            i++;
        } else if (slice_ieq(word, "TIME") && value && arg_u64(c, c->argv[i + 1], "TIME", 0, UINT64_MAX / 2, &v)) {
            o->idle_ms = c->n->wall_ms > v ? c->n->wall_ms - v : 0;
            i++;
        } else if (slice_ieq(word, "RETRYCOUNT") && value && arg_u64(c, c->argv[i + 1], "RETRYCOUNT", 0, UINT32_MAX - 1, &v)) {
            o->retries = (uint32_t)v;
            i++;
        } else if (slice_ieq(word, "LASTID") && value) {
            i++;
        } else {
            if (c->reply->len == 0) {
                call_error(c, "ERR", "Unrecognized XCLAIM option '%.*s'", (int)(word.len < 64 ? word.len : 64), (const char *)word.ptr);
            }
            return false;
        }
    }
    return true;
}

void handle_xclaim(struct call *c)
{
    struct queue_take o = {.group = c->argv[2], .consumer = c->argv[3], .idle_ms = UINT64_MAX, .retries = UINT32_MAX};
    struct buf ids = {0};
    uint32_t i = 5;
    if (!arg_u64(c, c->argv[4], "min-idle-time", 0, UINT64_MAX / 2, &o.min_idle_ms) || !arg_name(c, o.consumer, "the consumer", LIMIT_CONSUMER_BYTES)) {
        return;
    }
    for (; i < c->argc && c->argv[i].len > 0 && c->argv[i].ptr[0] >= '0' && c->argv[i].ptr[0] <= '9'; i++) {
        struct stream_id id;
        if (!arg_stream_id(c, c->argv[i], 0, &id)) {
            buf_fini(&ids);
            return;
        }
        buf_put_u64(&ids, id.ms);
        buf_put_u64(&ids, id.seq);
    }
    struct topic_ref *t = NULL;
    if (ids.len == 0) {
        call_error(c, "ERR", "Invalid stream ID specified as stream command argument");
    } else if (claim_options(c, i, &o)) {
        t = call_stream(c, c->argv[1], WANT_IF_THERE);
        if (t == NULL && c->missing) {
            no_group(c, c->argv[1], c->argv[2]);
        }
    }
    if (t != NULL) {
        struct multi *m = multi_new(c, t, take_claim, end_rows);
        keep_take(m, &o);
        struct queue_query q = {.kind = QQ_RESOLVE, .topic = t->id, .count = (uint32_t)(ids.len / 16), .ids = buf_slice(&ids)};
        request_submit(c->n, multi_query(m, t->groups[0], 0, &q));
        multi_begin(m);
    }
    buf_fini(&ids);
}

static void take_autoclaim(struct multi *m, uint32_t step, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct queue_take o = take_of(m);
    if (reader_u8(&r) != QUEUE_DONE) {
        fail_take(m);
        return;
    }
    if (step == 0) {
        o.from = reader_u64(&r);
        submit_take(m, &o);
    } else if (step == 1) {
        uint64_t next = reader_u64(&r);
        uint32_t n = reader_u32(&r);
        put_taken(m, &r, n, o.just_id);
        if (next != UINT64_MAX) {
            uint8_t offset[8];
            le64_put(offset, next);
            struct queue_query q = {.kind = QQ_FETCH, .topic = m->topic->id, .count = 1, .ids = slice_of(offset, sizeof offset)};
            request_submit(m->n, multi_query(m, m->topic->groups[0], 2, &q));
        }
    } else {
        struct queue_message msg;
        reader_u32(&r);
        if (fill_get_message(&r, &msg) && msg.flags != 255) {
            m->args[0] = msg.id.ms;
            m->args[1] = msg.id.seq;
        }
    }
}

static void end_autoclaim(struct multi *m, struct buf *b)
{
    resp_array(b, 3);
    put_stream_id(b, (struct stream_id){m->args[0], m->args[1]});
    resp_array(b, m->rows);
    buf_append_slice(b, buf_slice(&m->out));
    resp_array(b, 0);
}

void handle_xautoclaim(struct call *c)
{
    struct queue_take o = {.group = c->argv[2], .consumer = c->argv[3], .idle_ms = UINT64_MAX, .retries = UINT32_MAX, .count = 100};
    struct stream_id start;
    if (!arg_u64(c, c->argv[4], "min-idle-time", 0, UINT64_MAX / 2, &o.min_idle_ms) || !arg_name(c, o.consumer, "the consumer", LIMIT_CONSUMER_BYTES) ||
        !arg_stream_id(c, c->argv[5], 0, &start)) {
        return;
    }
    for (uint32_t i = 6; i < c->argc; i++) {
        uint64_t v;
        if (slice_ieq(c->argv[i], "JUSTID")) {
            o.just_id = true;
        } else if (slice_ieq(c->argv[i], "COUNT") && i + 1 < c->argc) {
            if (!arg_u64(c, c->argv[++i], "COUNT", 1, LIMIT_CLAIM_MESSAGES, &v)) {
                return;
            }
            o.count = (uint32_t)v;
        } else {
            call_error(c, "ERR", "syntax error");
            return;
        }
    }
    struct topic_ref *t = call_stream(c, c->argv[1], WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            no_group(c, c->argv[1], c->argv[2]);
        }
        return;
    }
    struct multi *m = multi_new(c, t, take_autoclaim, end_autoclaim);
    keep_take(m, &o);
    struct queue_query q = {.kind = QQ_SEEK, .topic = t->id, .by_id = true, .first = start};
    request_submit(c->n, multi_query(m, t->groups[0], 0, &q));
    multi_begin(m);
}
