/* Redis Streams over topics of one partition: XADD, XLEN, XRANGE, XREVRANGE, XDEL, XTRIM, XSETID. XREAD is
 * cmd_stream_read.c's, consumer groups are cmd_stream_group.c's and cmd_stream_claim.c's. Replies and error words are Redis' own; what differs is listed in docs/queue.md, "Streams". */
#include "nodes/doors/cmd.h"
#include "nodes/doors/cmd_stream.h"
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

bool arg_stream_int(struct call *c, slice_t s, const char *error, int64_t *out)
{
    bool minus = s.len > 0 && s.ptr[0] == '-';
    slice_t digits = slice_of(s.ptr + minus, s.len - minus);
    uint64_t v = 0;
    bool strict = digits.len > 0 && (digits.ptr[0] != '0' || (digits.len == 1 && !minus));
    if (!strict || !number(digits, &v) || v > INT64_MAX) {
        call_error(c, "ERR", "%s", error != NULL ? error : "value is not an integer or out of range");
        return false;
    }
    *out = minus ? -(int64_t)v : (int64_t)v;
    return true;
}

bool get_stream_id(slice_t s, uint64_t no_seq, struct stream_id *id)
{
    const uint8_t *dash = s.len > 0 ? memchr(s.ptr, '-', s.len) : NULL;
    slice_t ms = dash != NULL ? slice_of(s.ptr, (size_t)(dash - s.ptr)) : s;
    slice_t seq = dash != NULL ? slice_of(dash + 1, s.len - ms.len - 1) : SLICE_NONE;
    id->seq = no_seq;
    return number(ms, &id->ms) && (dash == NULL || number(seq, &id->seq));
}

bool arg_stream_id(struct call *c, slice_t s, uint64_t no_seq, struct stream_id *id)
{
    if (!get_stream_id(s, no_seq, id)) {
        call_error(c, "ERR", INVALID_ID);
        return false;
    }
    return true;
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

bool arg_stream_bound(struct call *c, slice_t s, bool start, struct stream_id *id)
{
    bool open = s.len > 1 && s.ptr[0] == '(';
    if (slice_eq(s, SLICE_LIT("-"))) {
        *id = (struct stream_id){0, 0};
        return true;
    }
    if (slice_eq(s, SLICE_LIT("+"))) {
        *id = (struct stream_id){UINT64_MAX, UINT64_MAX};
        return true;
    }
    if (!arg_stream_id(c, open ? slice_of(s.ptr + 1, s.len - 1) : s, start ? 0 : UINT64_MAX, id)) {
        return false;
    }
    if (open && !(start ? id_next(id) : id_before(id))) {
        call_error(c, "ERR", start ? "invalid start ID for the interval" : "invalid end ID for the interval");
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

/* What XADD and XTRIM say before an id. LIMIT bounds the work of ~ in Redis; here ~ is done exactly. */
struct trim_options { bool maxlen, minid, approx, limited, no_make; uint64_t keep; struct stream_id id; };

/* MAXLEN|MINID [=|~] threshold at i. */
static bool trim_threshold(struct call *c, uint32_t *i, struct trim_options *o)
{
    int64_t keep = 0;
    bool maxlen = slice_ieq(c->argv[*i], "MAXLEN");
    if (o->maxlen || o->minid) {
        call_error(c, "ERR", "syntax error, MAXLEN and MINID options at the same time are not compatible");
        return false;
    }
    *i += 1;
    bool exact = slice_eq(c->argv[*i], SLICE_LIT("="));
    o->approx = slice_eq(c->argv[*i], SLICE_LIT("~")) && *i + 1 < c->argc;
    *i += o->approx || (exact && *i + 1 < c->argc);
    if (!(maxlen ? arg_stream_int(c, c->argv[*i], NULL, &keep) : arg_stream_id(c, c->argv[*i], 0, &o->id))) {
        return false;
    }
    if (keep < 0) {
        call_error(c, "ERR", "The MAXLEN argument must be >= 0.");
        return false;
    }
    o->keep = (uint64_t)keep;
    o->maxlen = maxlen;
    o->minid = !maxlen;
    *i += 1;
    return true;
}

static bool trim_limit(struct call *c, uint32_t *i, struct trim_options *o)
{
    int64_t limit;
    if (!arg_stream_int(c, c->argv[*i + 1], NULL, &limit)) {
        return false;
    }
    if (limit < 0) {
        call_error(c, "ERR", "The LIMIT argument must be >= 0.");
        return false;
    }
    o->limited = true;
    *i += 2;
    return true;
}

/* From i on; stops at the first word that is none of them. */
static bool trim_options(struct call *c, uint32_t *i, bool add, struct trim_options *o)
{
    bool ok = true, option = true;
    while (ok && option && *i < c->argc) {
        bool value = *i + 1 < c->argc;
        if (value && (slice_ieq(c->argv[*i], "MAXLEN") || slice_ieq(c->argv[*i], "MINID"))) {
            ok = trim_threshold(c, i, o);
        } else if (value && slice_ieq(c->argv[*i], "LIMIT")) {
            ok = trim_limit(c, i, o);
        } else if (add && slice_ieq(c->argv[*i], "NOMKSTREAM")) {
            o->no_make = true;
            *i += 1;
        } else {
            option = false;
        }
    }
    return ok;
}

static bool trim_options_fit(struct call *c, bool add, const struct trim_options *o)
{
    const char *error = NULL;
    if (o->limited && !o->maxlen && !o->minid) {
        error = "syntax error, LIMIT cannot be used without specifying a trimming strategy";
    } else if (!add && !o->maxlen && !o->minid) {
        error = "syntax error, XTRIM must be called with either MAXLEN or MINID";
    } else if (o->limited && !o->approx) {
        error = "syntax error, LIMIT cannot be used without the special ~ option";
    }
    if (error != NULL) {
        call_error(c, "ERR", "%s", error);
    }
    return error == NULL;
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
    return arg_stream_id(c, s, 0, &it->id);
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
    uint32_t i = 2;
    if (!trim_options(c, &i, true, &trim) || (i < c->argc && !add_id(c, c->argv[i], &it)) || !trim_options_fit(c, true, &trim)) {
        return;
    }
    uint32_t fields = i < c->argc ? c->argc - ++i : 0;
    if (fields < 2 || fields % 2 != 0) {
        call_error(c, "ERR", "wrong number of arguments for 'xadd' command");
        return;
    }
    if (it.flags & MESSAGE_ID && it.id.ms == 0 && it.id.seq == 0) {
        call_error(c, "ERR", "The ID specified in XADD must be greater than 0-0");
        return;
    }
    struct topic_ref *t = call_stream(c, c->argv[1], trim.no_make ? WANT_IF_THERE : WANT_OR_CREATE_STREAM);
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

static void range(struct call *c, bool reverse)
{
    struct stream_id first, last;
    int64_t count = UINT32_MAX;
    bool ok = arg_stream_bound(c, c->argv[reverse ? 3 : 2], true, &first) && arg_stream_bound(c, c->argv[reverse ? 2 : 3], false, &last);
    for (uint32_t i = 4; ok && i < c->argc; i += 2) {
        if (!slice_ieq(c->argv[i], "COUNT") || i + 1 == c->argc) {
            call_error(c, "ERR", "syntax error");
            return;
        }
        ok = arg_stream_int(c, c->argv[i + 1], NULL, &count);
    }
    struct topic_ref *t = ok ? call_stream(c, c->argv[1], WANT_IF_THERE) : NULL;
    if (t == NULL) {
        if (c->missing) {
            resp_array(c->reply, 0);
        }
        return;
    }
    if (count <= 0) {
        resp_null(c->reply);
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
    struct topic_ref *t = call_stream(c, c->argv[1], WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            resp_int(c->reply, 0);
        }
        return;
    }
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
    struct multi *m = multi_new(c, t, take_del, end_sum);
    m->missing_ok = true;
    struct queue_query q = {.kind = QQ_RESOLVE, .topic = t->id, .count = c->argc - 2, .ids = buf_slice(&ids)};
    request_submit(c->n, multi_query(m, t->groups[0], 0, &q));
    multi_begin(m);
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
    if (!trim_options(c, &i, false, &o)) {
        return;
    }
    if (i != c->argc) {
        call_error(c, "ERR", "syntax error");
        return;
    }
    if (!trim_options_fit(c, false, &o)) {
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

/* XSETID. Step 0: how long the stream is, when a count of entries is given; 1: done. */
static void submit_set_id(struct multi *m)
{
    struct queue_set_id o = {.topic = m->topic->id, .id = {m->args[0], m->args[1]}, .added = m->args[2]};
    struct request *r = multi_op(m, m->topic->groups[0], QUEUE_OP_SET_ID, 1);
    queue_put_set_id(&r->payload, &o);
    request_submit(m->n, r);
}

static void take_set_id(struct multi *m, uint32_t step, slice_t reply)
{
    uint64_t start, end, deleted;
    struct stream_id last;
    if (step == 1 && reply.ptr[0] == QUEUE_BAD_ID) {
        multi_fail(m, SLICE_LIT("-ERR The ID specified in XSETID is smaller than the target stream top item\r\n"));
    } else if (step == 0 && info_row(reply, &start, &end, &deleted, &last) && end - start - deleted > m->args[2]) {
        multi_fail(m, SLICE_LIT("-ERR The entries_added specified in XSETID is smaller than the target stream length\r\n"));
    } else if (step == 0) {
        submit_set_id(m);
    }
}

static void end_ok(struct multi *m, struct buf *reply)
{
    (void)m;
    resp_simple(reply, "OK");
}

static bool set_id_options(struct call *c, struct stream_id id, uint64_t *added)
{
    for (uint32_t i = 3; i < c->argc; i += 2) {
        struct stream_id deleted = {0, 0};
        int64_t v = 0;
        bool count = slice_ieq(c->argv[i], "ENTRIESADDED");
        if (i + 1 == c->argc || (!count && !slice_ieq(c->argv[i], "MAXDELETEDID"))) {
            call_error(c, "ERR", "syntax error");
            return false;
        }
        if (!(count ? arg_stream_int(c, c->argv[i + 1], NULL, &v) : arg_stream_id(c, c->argv[i + 1], 0, &deleted))) {
            return false;
        }
        if (v < 0 || stream_id_less(id, deleted)) {
            call_error(c, "ERR", v < 0 ? "entries_added must be positive" :
                       "The ID specified in XSETID is smaller than the provided max_deleted_entry_id");
            return false;
        }
        *added = count ? (uint64_t)v : *added;
    }
    return true;
}

void handle_xsetid(struct call *c)
{
    struct stream_id id;
    uint64_t added = UINT64_MAX;
    if (!arg_stream_id(c, c->argv[2], 0, &id) || !set_id_options(c, id, &added)) {
        return;
    }
    struct topic_ref *t = call_stream(c, c->argv[1], WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            call_error(c, "ERR", "no such key");
        }
        return;
    }
    struct multi *m = multi_new(c, t, take_set_id, end_ok);
    const uint64_t args[3] = {id.ms, id.seq, added};
    memcpy(m->args, args, sizeof args);
    if (added != UINT64_MAX) {
        ask_len(m);
    } else {
        submit_set_id(m);
    }
    multi_begin(m);
}
