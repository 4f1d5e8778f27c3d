/* Redis Streams over topics of one partition: XADD, XLEN, XRANGE, XREVRANGE, XDEL, XTRIM, XSETID. XREAD and consumer groups
 * are cmd_stream_read.c's and cmd_stream_group.c's. Replies and error words are Redis' own; what differs is listed in docs/queue.md, "Streams". */
#include "nodes/doors/cmd.h"
#include "nodes/doors/queue_door.h"

#include <stdlib.h>

enum { RANGE_PAGE = 1000, RANGE_BYTES_MAX = 3 * 1024 * 1024 };

#define INVALID_ID "Invalid stream ID specified as stream command argument"

static bool number(slice_t s, uint64_t *out)
{
    uint64_t v = 0;
    if (s.len == 0 || s.len > 20) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        uint64_t d = (uint64_t)s.ptr[i] - '0';
        if (s.ptr[i] < '0' || s.ptr[i] > '9' || v > (UINT64_MAX - d) / 10) {
            return false;
        }
        v = v * 10 + d;
    }
    *out = v;
    return true;
}

bool arg_stream_id(struct call *c, slice_t s, uint64_t no_seq, struct stream_id *id)
{
    const uint8_t *dash = s.len > 0 ? memchr(s.ptr, '-', s.len) : NULL;
    if (slice_eq(s, SLICE_LIT("-"))) {
        *id = (struct stream_id){0, 0};
        return true;
    }
    if (slice_eq(s, SLICE_LIT("+"))) {
        *id = (struct stream_id){UINT64_MAX, UINT64_MAX};
        return true;
    }
    slice_t ms = dash != NULL ? slice_of(s.ptr, (size_t)(dash - s.ptr)) : s;
    slice_t seq = dash != NULL ? slice_of(dash + 1, s.len - ms.len - 1) : SLICE_NONE;
    id->seq = no_seq;
    if (!number(ms, &id->ms) || (dash != NULL && !number(seq, &id->seq))) {
        call_error(c, "ERR", INVALID_ID);
        return false;
    }
    return true;
}

struct topic_ref *call_stream(struct call *c, slice_t key, enum topic_want want)
{
    struct topic_ref *t = call_topic(c, key, want);
    if (t != NULL && t->config.partitions != 1) {
        call_error(c, "WRONGTYPE", "Operation against a key holding the wrong kind of value: topic '%.*s' has %u partitions; Streams commands "
                   "take one (QUEUE.* takes any)", (int)(t->name_len < 64 ? t->name_len : 64), t->name, t->config.partitions);
        return NULL;
    }
    return t;
}

struct trim_options { bool maxlen, minid; uint64_t keep; struct stream_id id; };

/* MAXLEN|MINID [=|~] threshold [LIMIT count] at i. ~ is done exactly. */
static bool trim_options(struct call *c, uint32_t *i, struct trim_options *o)
{
    bool maxlen = slice_ieq(c->argv[*i], "MAXLEN");
    *i += 1;
    if (*i < c->argc && (slice_eq(c->argv[*i], SLICE_LIT("=")) || slice_eq(c->argv[*i], SLICE_LIT("~")))) {
        *i += 1;
    }
    if (*i >= c->argc || (o->maxlen || o->minid)) {
        call_error(c, "ERR", o->maxlen || o->minid ? "syntax error, MAXLEN and MINID options at the same time are not compatible" : "syntax error");
        return false;
    }
    o->maxlen = maxlen;
    o->minid = !maxlen;
    if (maxlen && !number(c->argv[*i], &o->keep)) {
        call_error(c, "ERR", "value is not an integer or out of range");
        return false;
    }
    if (!maxlen && !arg_stream_id(c, c->argv[*i], 0, &o->id)) {
        return false;
    }
    *i += 1;
    if (*i + 1 < c->argc && slice_ieq(c->argv[*i], "LIMIT")) {
        uint64_t limit;
        if (!number(c->argv[*i + 1], &limit)) {
            call_error(c, "ERR", "value is not an integer or out of range");
            return false;
        }
        *i += 2;
    }
    return true;
}

/* "*", "ms-*" or a full id. */
static bool add_id(struct call *c, slice_t s, struct publish_item *it)
{
    if (slice_eq(s, SLICE_LIT("*"))) {
        return true;
    }
    if (s.len > 2 && s.ptr[s.len - 1] == '*' && s.ptr[s.len - 2] == '-') {
        it->flags |= MESSAGE_ID_AUTO_SEQ;
        if (!number(slice_of(s.ptr, s.len - 2), &it->id.ms)) {
            call_error(c, "ERR", INVALID_ID);
            return false;
        }
        return true;
    }
    it->flags |= MESSAGE_ID;
    if (!arg_stream_id(c, s, 0, &it->id)) {
        return false;
    }
    if (it->id.ms == 0 && it->id.seq == 0) {
        call_error(c, "ERR", "The ID specified in XADD must be greater than 0-0");
        return false;
    }
    return true;
}

static void trimmed_aside(struct node *n, struct request *r, slice_t reply)
{
    (void)n;
    (void)r;
    (void)reply;
}

/* XADD MINID: which offset the id is, then the trim, beside the addition. */
static void minid_found(struct node *n, struct request *r, slice_t reply)
{
    struct reader rd = reader_of(reply);
    if (reply.len == 9 && reader_u8(&rd) == QUEUE_DONE) {
        uint64_t start = reader_u64(&rd);
        struct request *t = queue_request(n, r->group, QUEUE_OP_TRIM, trimmed_aside);
        queue_put_trim(&t->payload, &(struct queue_trim){.topic = r->arg, .start = start});
        request_submit(n, t);
    }
}

static void trim_minid_aside(struct node *n, const struct topic_ref *t, struct stream_id id)
{
    struct request *r = request_new(n, t->groups[0], REQUEST_READ, false, minid_found);
    struct queue_query q = {.kind = QQ_SEEK, .topic = t->id, .by_id = true, .first = id};
    r->arg = t->id;
    buf_put_u8(&r->payload, SERVICE_QUEUE);
    queue_query_encode(&r->payload, &q);
    request_submit(n, r);
}

void handle_xadd(struct call *c)
{
    struct publish_item it = {.flags = MESSAGE_FIELDS, .trim_maxlen = UINT64_MAX};
    struct trim_options trim = {0};
    bool make = true;
    uint32_t i = 2;
    while (i < c->argc) {
        if (slice_ieq(c->argv[i], "NOMKSTREAM")) {
            make = false;
            i++;
        } else if (slice_ieq(c->argv[i], "MAXLEN") || slice_ieq(c->argv[i], "MINID")) {
            if (!trim_options(c, &i, &trim)) {
                return;
            }
        } else {
            break;
        }
    }
    if (i >= c->argc || !add_id(c, c->argv[i], &it)) {
        if (i >= c->argc) {
            call_error(c, "ERR", "syntax error");
        }
        return;
    }
    uint32_t fields = c->argc - ++i;
    if (fields < 2 || fields % 2 != 0) {
        call_error(c, "ERR", "wrong number of arguments for 'xadd' command");
        return;
    }
    struct topic_ref *t = call_stream(c, c->argv[1], make ? WANT_OR_CREATE_STREAM : WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            resp_null(c->reply);
        }
        return;
    }
    struct buf *body = &c->n->doors->body;
    buf_clear(body);
    buf_put_u32(body, fields);
    for (; i < c->argc; i++) {
        buf_put_bytes(body, c->argv[i]);
    }
    it.body = buf_slice(body);
    it.trim_maxlen = trim.maxlen ? trim.keep : UINT64_MAX;
    publish_add(c, t, &it, VIEW_STREAM_ID, NULL, 0);
    if (trim.minid) {
        trim_minid_aside(c->n, t, trim.id);
    }
}

/* The one partition's row out of an INFO answer. False: its group does not know it yet. */
static bool info_row(slice_t reply, uint64_t *start, uint64_t *end, uint64_t *deleted, struct stream_id *last)
{
    struct reader r = reader_of(reply);
    reader_u8(&r);
    if (reader_u32(&r) == 0) {
        return false;
    }
    reader_u32(&r);
    *start = reader_u64(&r);
    *end = reader_u64(&r);
    *deleted = reader_u64(&r);
    for (int i = 0; i < 6; i++) {
        reader_u64(&r); /* bytes, delayed, published, expired, first id */
    }
    last->ms = reader_u64(&r);
    last->seq = reader_u64(&r);
    return r.ok;
}

static void take_len(struct multi *m, uint32_t part, slice_t reply)
{
    (void)part;
    uint64_t start, end, deleted;
    struct stream_id last;
    m->sum = info_row(reply, &start, &end, &deleted, &last) ? end - start - deleted : 0;
}

static void end_sum(struct multi *m, struct buf *reply)
{
    resp_int(reply, (int64_t)m->sum);
}

void handle_xlen(struct call *c)
{
    struct topic_ref *t = call_stream(c, c->argv[1], WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            resp_int(c->reply, 0);
        }
        return;
    }
    struct multi *m = multi_new(c, t, take_len, end_sum);
    m->missing_ok = true;
    request_submit(c->n, multi_query(m, t->groups[0], 0, &(struct queue_query){.kind = QQ_INFO, .topic = t->id}));
    multi_begin(m);
}

/* XRANGE in pages: each goes on behind (or before) the last id of the one before. */
static void ask_range(struct multi *m)
{
    struct queue_query q = {.kind = QQ_RANGE, .topic = m->topic->id, .by_id = true, .reverse = m->stale != 0,
                            .first = {m->args[0], m->args[1]}, .last = {m->args[2], m->args[3]},
                            .count = m->want - m->rows < RANGE_PAGE ? m->want - m->rows : RANGE_PAGE};
    request_submit(m->n, multi_query(m, m->topic->groups[0], 0, &q));
}

static bool id_next(struct stream_id *id)
{
    if (++id->seq == 0) {
        id->ms++;
    }
    return id->ms != 0 || id->seq != 0;
}

static bool id_before(struct stream_id *id)
{
    if (id->ms == 0 && id->seq == 0) {
        return false;
    }
    id->ms -= id->seq == 0;
    id->seq--;
    return true;
}

static void take_range(struct multi *m, uint32_t part, slice_t reply)
{
    (void)part;
    struct reader r = reader_of(reply);
    reader_u8(&r);
    uint32_t n = reader_u32(&r);
    struct queue_message msg = {0};
    for (uint32_t i = 0; i < n && fill_get_message(&r, &msg); i++) {
        put_stream_entry(&m->out, &msg);
        m->rows++;
    }
    if (m->out.len > RANGE_BYTES_MAX) {
        multi_fail(m, SLICE_LIT("-LIMIT the reply would be larger than 3 MB: ask with COUNT, and go on behind the last id\r\n"));
        return;
    }
    struct stream_id at = msg.id;
    if (n > 0 && m->rows < m->want && (m->stale ? id_before(&at) : id_next(&at))) {
        m->args[m->stale ? 2 : 0] = at.ms;
        m->args[m->stale ? 3 : 1] = at.seq;
        ask_range(m);
    }
}

static void end_range(struct multi *m, struct buf *reply)
{
    resp_array(reply, m->rows);
    buf_append_slice(reply, buf_slice(&m->out));
}

static bool range_bound(struct call *c, slice_t s, bool start, struct stream_id *id)
{
    bool open = s.len > 1 && s.ptr[0] == '(';
    slice_t digits = open ? slice_of(s.ptr + 1, s.len - 1) : s;
    if (!arg_stream_id(c, digits, start ? 0 : UINT64_MAX, id)) {
        return false;
    }
    if (open && !(start ? id_next(id) : id_before(id))) {
        call_error(c, "ERR", start ? "invalid start ID for the interval" : "invalid end ID for the interval");
        return false;
    }
    return true;
}

static void range(struct call *c, bool reverse)
{
    struct stream_id first, last;
    uint64_t count = UINT32_MAX;
    if (!range_bound(c, c->argv[reverse ? 3 : 2], true, &first) || !range_bound(c, c->argv[reverse ? 2 : 3], false, &last)) {
        return;
    }
    if (c->argc != 4 && (c->argc != 6 || !slice_ieq(c->argv[4], "COUNT"))) {
        call_error(c, "ERR", "syntax error");
        return;
    }
    if (c->argc == 6 && !number(c->argv[5], &count)) {
        call_error(c, "ERR", "value is not an integer or out of range");
        return;
    }
    struct topic_ref *t = call_stream(c, c->argv[1], WANT_IF_THERE);
    if (t == NULL || count == 0) {
        if (c->missing || t != NULL) {
            resp_array(c->reply, 0);
        }
        return;
    }
    struct multi *m = multi_new(c, t, take_range, end_range);
    m->missing_ok = true;
    m->want = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
    m->stale = reverse;
    const uint64_t args[4] = {first.ms, first.seq, last.ms, last.seq};
    memcpy(m->args, args, sizeof args);
    ask_range(m);
    multi_begin(m);
}

void handle_xrange(struct call *c)
{
    range(c, false);
}

void handle_xrevrange(struct call *c)
{
    range(c, true);
}

/* XDEL: ids to offsets, then one operation. */
static void take_del(struct multi *m, uint32_t step, slice_t reply)
{
    struct reader r = reader_of(reply);
    reader_u8(&r);
    if (step == 1) {
        m->sum = reader_u64(&r);
        return;
    }
    struct buf offsets = {0};
    uint32_t n = reader_u32(&r), found = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t offset = reader_u64(&r);
        if (offset != UINT64_MAX) {
            buf_put_u64(&offsets, offset);
            found++;
        }
    }
    if (found > 0) {
        struct request *e = multi_op(m, m->topic->groups[0], QUEUE_OP_ERASE, 1);
        queue_put_erase(&e->payload, &(struct queue_erase){.topic = m->topic->id, .n = found, .offsets = buf_slice(&offsets)});
        request_submit(m->n, e);
    }
    buf_fini(&offsets);
}

void handle_xdel(struct call *c)
{
    struct buf ids = {0};
    for (uint32_t i = 2; i < c->argc; i++) {
        struct stream_id id;
        if (!arg_stream_id(c, c->argv[i], 0, &id)) {
            buf_fini(&ids);
            return;
        }
        buf_put_u64(&ids, id.ms);
        buf_put_u64(&ids, id.seq);
    }
    struct topic_ref *t = call_stream(c, c->argv[1], WANT_IF_THERE);
    if (t != NULL) {
        struct multi *m = multi_new(c, t, take_del, end_sum);
        m->missing_ok = true;
        struct queue_query q = {.kind = QQ_RESOLVE, .topic = t->id, .count = c->argc - 2, .ids = buf_slice(&ids)};
        request_submit(c->n, multi_query(m, t->groups[0], 0, &q));
        multi_begin(m);
    } else if (c->missing) {
        resp_int(c->reply, 0);
    }
    buf_fini(&ids);
}

/* XTRIM. step 0: how long it is, 1: where an id is, 2: how many went; MAXLEN looks again, since what was deleted leaves holes. */
static void submit_trim(struct multi *m, uint64_t start)
{
    struct request *r = multi_op(m, m->topic->groups[0], QUEUE_OP_TRIM, 2);
    queue_put_trim(&r->payload, &(struct queue_trim){.topic = m->topic->id, .start = start});
    request_submit(m->n, r);
}

static void ask_len(struct multi *m)
{
    request_submit(m->n, multi_query(m, m->topic->groups[0], 0, &(struct queue_query){.kind = QQ_INFO, .topic = m->topic->id}));
}

static void take_trim(struct multi *m, uint32_t step, slice_t reply)
{
    struct reader r = reader_of(reply);
    uint64_t start, end, deleted;
    struct stream_id last;
    reader_u8(&r);
    if (step == 1) {
        submit_trim(m, reader_u64(&r));
    } else if (step == 2) {
        m->sum += reader_u64(&r);
        if (m->args[1]) {
            ask_len(m);
        }
    } else if (info_row(reply, &start, &end, &deleted, &last) && end - start - deleted > m->args[0]) {
        submit_trim(m, start + (end - start - deleted - m->args[0]));
    }
}

void handle_xtrim(struct call *c)
{
    struct trim_options o = {0};
    uint32_t i = 2;
    if (!slice_ieq(c->argv[2], "MAXLEN") && !slice_ieq(c->argv[2], "MINID")) {
        call_error(c, "ERR", "syntax error, XTRIM must be called with either MAXLEN or MINID");
        return;
    }
    if (!trim_options(c, &i, &o)) {
        return;
    }
    if (i != c->argc) {
        call_error(c, "ERR", "syntax error");
        return;
    }
    struct topic_ref *t = call_stream(c, c->argv[1], WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            resp_int(c->reply, 0);
        }
        return;
    }
    struct multi *m = multi_new(c, t, take_trim, end_sum);
    m->missing_ok = true;
    m->args[0] = o.keep;
    m->args[1] = o.maxlen;
    if (o.maxlen) {
        ask_len(m);
    } else {
        struct queue_query q = {.kind = QQ_SEEK, .topic = t->id, .by_id = true, .first = o.id};
        request_submit(c->n, multi_query(m, t->groups[0], 1, &q));
    }
    multi_begin(m);
}

static void take_set_id(struct multi *m, uint32_t part, slice_t reply)
{
    (void)part;
    if (reply.ptr[0] == QUEUE_BAD_ID) {
        multi_fail(m, SLICE_LIT("-ERR The ID specified in XSETID is smaller than the target stream top item\r\n"));
    }
}

static void end_ok(struct multi *m, struct buf *reply)
{
    (void)m;
    resp_simple(reply, "OK");
}

void handle_xsetid(struct call *c)
{
    struct queue_set_id o = {.added = UINT64_MAX};
    if (!arg_stream_id(c, c->argv[2], 0, &o.id)) {
        return;
    }
    for (uint32_t i = 3; i + 1 < c->argc; i += 2) {
        struct stream_id ignored;
        bool ok = slice_ieq(c->argv[i], "ENTRIESADDED") ? number(c->argv[i + 1], &o.added) :
                  slice_ieq(c->argv[i], "MAXDELETEDID") && arg_stream_id(c, c->argv[i + 1], 0, &ignored);
        if (!ok) {
            call_error(c, "ERR", "syntax error");
            return;
        }
    }
    struct topic_ref *t = call_stream(c, c->argv[1], WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            call_error(c, "ERR", "no such key");
        }
        return;
    }
    struct multi *m = multi_new(c, t, take_set_id, end_ok);
    struct request *r = multi_op(m, t->groups[0], QUEUE_OP_SET_ID, 0);
    o.topic = t->id;
    queue_put_set_id(&r->payload, &o);
    request_submit(c->n, r);
    multi_begin(m);
}
