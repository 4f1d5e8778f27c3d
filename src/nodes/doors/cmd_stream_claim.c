/* XCLAIM and XAUTOCLAIM: messages that are pending change their consumer. Both ask for offsets first, then take (QUEUE_OP_TAKE), which waits in
 * `name` meanwhile.
 *
 * Not here: XGROUP, XACK (cmd_stream_group.c), XPENDING, which shows the rows that are looked through here (cmd_stream_info.c). */
#include "nodes/doors/cmd.h"
#include "nodes/doors/cmd_stream.h"
#include "nodes/doors/queue_door.h"

static void end_rows(struct multi *m, struct buf *reply)
{
    resp_array(reply, m->rows);
    buf_append_slice(reply, buf_slice(&m->out));
}

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

/* The take waits in `name` until its offsets are known: itself, its names, then (XCLAIM) its ids. Offsets so far are in `side`. */
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

static struct stream_id claim_id(const struct multi *m, uint32_t i)
{
    const uint8_t *at = m->name.ptr + m->name.len - (size_t)m->want * 16 + (size_t)i * 16;
    return (struct stream_id){le64_get(at), le64_get(at + 8)};
}

static void submit_take(struct multi *m, const struct queue_take *o)
{
    struct request *r = multi_op(m, m->topic->groups[0], QUEUE_OP_TAKE, 1);
    queue_put_take(&r->payload, o);
    request_submit(m->n, r);
}

/* False: it failed. */
static bool take_answered(struct multi *m, slice_t reply)
{
    struct queue_take o = take_of(m);
    if (reply.ptr[0] == QUEUE_NO_GROUP) {
        fail_no_group(m, o.group, "");
    } else if (reply.ptr[0] != QUEUE_DONE) {
        multi_fail(m, SLICE_LIT("-LIMIT the group has as many consumers as it may\r\n"));
    }
    return reply.ptr[0] == QUEUE_DONE;
}

/* XCLAIM. Step 0: the offsets of the ids that are there, 2: rows of what is pending, in which those that were deleted still are, 1: what was
 * taken. */
static void claim_found(struct multi *m)
{
    struct queue_take o = take_of(m);
    struct buf offsets = {0};
    for (uint32_t i = 0; i < m->want; i++) {
        uint64_t offset = le64_get(m->side.ptr + (size_t)i * 8);
        if (offset != UINT64_MAX) {
            buf_put_u64(&offsets, offset);
            o.n++;
        }
    }
    if (o.n > 0) {
        o.offsets = buf_slice(&offsets);
        submit_take(m, &o);
    }
    buf_fini(&offsets);
}

static uint32_t claim_missing(const struct multi *m)
{
    uint32_t missing = 0;
    for (uint32_t i = 0; i < m->want; i++) {
        missing += le64_get(m->side.ptr + (size_t)i * 8) == UINT64_MAX;
    }
    return missing;
}

/* Rows kept for looking up: offset, ms and seq of each; both offsets and ids rise. */
enum { KEPT_ROW = 24 };

static uint32_t keep_rows(struct buf *rows, struct reader *r)
{
    struct pending_row p;
    uint32_t n = reader_u32(r);
    for (uint32_t i = 0; i < n && get_pending_row(r, &p); i++) {
        buf_put_u64(rows, p.offset);
        buf_put_u64(rows, p.id.ms);
        buf_put_u64(rows, p.id.seq);
    }
    return n;
}

static struct stream_id kept_id(const uint8_t *row)
{
    return (struct stream_id){le64_get(row + 8), le64_get(row + 16)};
}

/* The first row whose id (by_id) or offset is not below the one that is looked for; NULL: there is none. */
static const uint8_t *kept_row(const struct buf *rows, bool by_id, struct stream_id id, uint64_t offset)
{
    size_t low = 0, high = rows->len / KEPT_ROW;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const uint8_t *row = rows->ptr + mid * KEPT_ROW;
        if (by_id ? stream_id_less(kept_id(row), id) : le64_get(row) < offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < rows->len / KEPT_ROW ? rows->ptr + low * KEPT_ROW : NULL;
}

static void claim_pending(struct multi *m, struct reader *r)
{
    struct buf rows = {0};
    struct queue_take o = take_of(m);
    uint32_t n = keep_rows(&rows, r);
    for (uint32_t i = 0; i < m->want; i++) {
        struct stream_id id = claim_id(m, i);
        uint8_t *place = m->side.ptr + (size_t)i * 8;
        const uint8_t *row = le64_get(place) == UINT64_MAX ? kept_row(&rows, true, id, 0) : NULL;
        if (row != NULL && !stream_id_less(id, kept_id(row))) {
            le64_put(place, le64_get(row));
        }
    }
    if (n == PENDING_PAGE && claim_missing(m) > 0) {
        ask_pending(m, 2, o.group, SLICE_NONE, le64_get(rows.ptr + rows.len - KEPT_ROW) + 1);
    } else {
        claim_found(m);
    }
    buf_fini(&rows);
}

static void take_claim(struct multi *m, uint32_t step, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct queue_take o = take_of(m);
    if (!take_answered(m, reply)) {
        return;
    }
    reader_u8(&r);
    if (step == 1) {
        reader_u64(&r);
        uint32_t n = reader_u32(&r);
        put_taken(m, &r, n, o.just_id);
    } else if (step == 2) {
        claim_pending(m, &r);
    } else {
        reader_u32(&r);
        buf_append(&m->side, r.p, reader_left(&r));
        if (claim_missing(m) > 0) {
            ask_pending(m, 2, o.group, SLICE_NONE, 0);
        } else {
            claim_found(m);
        }
    }
}

static bool claim_number(struct call *c, slice_t s, const char *option, int64_t *v)
{
    char error[64];
    snprintf(error, sizeof error, "Invalid %s option argument for XCLAIM", option);
    return arg_stream_int(c, s, error, v);
}

static bool claim_options(struct call *c, uint32_t from, struct queue_take *o)
{
    for (uint32_t i = from; i < c->argc; i++) {
        int64_t v = 0;
        struct stream_id last;
        slice_t word = c->argv[i];
        bool value = i + 1 < c->argc, ok = true;
        if (slice_ieq(word, "FORCE")) {
            o->force = true;
        } else if (slice_ieq(word, "JUSTID")) {
            o->just_id = true;
        } else if (slice_ieq(word, "IDLE") && value) {
            ok = claim_number(c, c->argv[++i], "IDLE", &v);
            o->idle_ms = v > 0 ? (uint64_t)v : 0;
        } else if (slice_ieq(word, "TIME") && value) {
            ok = claim_number(c, c->argv[++i], "TIME", &v);
            o->idle_ms = v >= 0 && (uint64_t)v < c->n->wall_ms ? c->n->wall_ms - (uint64_t)v : 0;
        } else if (slice_ieq(word, "RETRYCOUNT") && value) {
            ok = claim_number(c, c->argv[++i], "RETRYCOUNT", &v);
            o->retries = v >= 0 && v < UINT32_MAX ? (uint32_t)v : UINT32_MAX;
        } else if (slice_ieq(word, "LASTID") && value) {
            ok = arg_stream_id(c, c->argv[++i], 0, &last);
        } else {
            call_error(c, "ERR", "Unrecognized XCLAIM option '%.*s'", shown_length(word), (const char *)word.ptr);
            return false;
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}

static void claim(struct call *c, struct topic_ref *t, struct queue_take *o, slice_t ids)
{
    struct multi *m = multi_new(c, t, take_claim, end_rows);
    keep_take(m, o);
    buf_append_slice(&m->name, ids);
    m->want = (uint32_t)(ids.len / 16);
    if (m->want == 0) {
        ask_pending(m, 2, o->group, SLICE_NONE, UINT64_MAX); /* is there such a group? */
    } else {
        struct queue_query q = {.kind = QQ_RESOLVE, .topic = t->id, .count = m->want, .ids = ids};
        request_submit(c->n, multi_query(m, t->groups[0], 0, &q));
    }
    multi_begin(m);
}

void handle_xclaim(struct call *c)
{
    struct queue_take o = {.group = c->argv[2], .consumer = c->argv[3], .idle_ms = UINT64_MAX, .retries = UINT32_MAX};
    struct topic_ref *t = call_stream(c, c->argv[1], WANT_IF_THERE);
    int64_t idle;
    if (t == NULL) {
        if (c->missing) {
            call_no_group(c, c->argv[1], c->argv[2]);
        }
        return;
    }
    if (!arg_stream_int(c, c->argv[4], "Invalid min-idle-time argument for XCLAIM", &idle) ||
        !arg_name(c, o.consumer, "the consumer", LIMIT_CONSUMER_BYTES)) {
        return;
    }
    o.min_idle_ms = idle > 0 ? (uint64_t)idle : 0;
    struct buf ids = {0};
    struct stream_id id;
    uint32_t i = 5;
    for (; i < c->argc && get_stream_id(c->argv[i], 0, &id); i++) {
        buf_put_u64(&ids, id.ms);
        buf_put_u64(&ids, id.seq);
    }
    if (claim_options(c, i, &o)) {
        claim(c, t, &o, buf_slice(&ids));
    }
    buf_fini(&ids);
}

/* XAUTOCLAIM. Step 3: rows of what is pending, which name what turns out to be deleted: all, then, when they begin below the id asked for, from
 * where that id is (step 0; places of what was trimmed are not known by id). 1: what was taken, 2: the id to go on with, when no row has it.
 * args[0..1]: that id. args[4..5]: the id asked for, args[6]: its place was looked up. */
enum { AUTOCLAIM_LOOKS = 10 }; /* queue_op_take looks at so many times COUNT */

static bool row_id(const struct multi *m, uint64_t offset, struct stream_id *id)
{
    const uint8_t *row = kept_row(&m->side, false, (struct stream_id){0, 0}, offset);
    if (row == NULL || le64_get(row) != offset) {
        return false;
    }
    *id = kept_id(row);
    return true;
}

static void ask_autoclaim_rows(struct multi *m, const struct queue_take *o)
{
    uint64_t count = (uint64_t)o->count * AUTOCLAIM_LOOKS + 1;
    struct queue_query q = {.kind = QQ_PENDING, .topic = m->topic->id, .name = o->group, .first = {o->from, 0},
                            .count = count < PENDING_PAGE ? (uint32_t)count : PENDING_PAGE};
    request_submit(m->n, multi_query(m, m->topic->groups[0], 3, &q));
}

static void autoclaim_taken(struct multi *m, struct reader *r, bool just_id)
{
    uint64_t next = reader_u64(r);
    uint32_t n = reader_u32(r);
    struct stream_id id;
    put_taken(m, r, n, just_id);
    m->args[3] = m->out.len;
    for (uint32_t gone = reader_u32(r); gone > 0; gone--) {
        if (row_id(m, reader_u64(r), &id)) {
            put_stream_id(&m->out, id);
            m->sum++;
        }
    }
    if (next != UINT64_MAX && row_id(m, next, &id)) {
        m->args[0] = id.ms;
        m->args[1] = id.seq;
    } else if (next != UINT64_MAX) {
        uint8_t offset[8];
        le64_put(offset, next);
        struct queue_query q = {.kind = QQ_FETCH, .topic = m->topic->id, .count = 1, .ids = slice_of(offset, sizeof offset)};
        request_submit(m->n, multi_query(m, m->topic->groups[0], 2, &q));
    }
}

static void take_autoclaim(struct multi *m, uint32_t step, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct queue_take o = take_of(m);
    if (!take_answered(m, reply)) {
        return;
    }
    reader_u8(&r);
    struct stream_id start = {m->args[4], m->args[5]};
    if (step == 0) {
        o.from = reader_u64(&r);
        memcpy(m->name.ptr, &o, sizeof o);
        ask_autoclaim_rows(m, &o);
    } else if (step == 3) {
        buf_clear(&m->side);
        uint32_t n = keep_rows(&m->side, &r);
        bool from_0 = start.ms == 0 && start.seq == 0, below = n == 0 || stream_id_less(kept_id(m->side.ptr), start);
        if (!from_0 && below && m->args[6] == 0) {
            struct queue_query q = {.kind = QQ_SEEK, .topic = m->topic->id, .by_id = true, .first = start};
            m->args[6] = 1;
            request_submit(m->n, multi_query(m, m->topic->groups[0], 0, &q));
        } else {
            o.from = from_0 || below ? o.from : le64_get(m->side.ptr);
            submit_take(m, &o);
        }
    } else if (step == 1) {
        autoclaim_taken(m, &r, o.just_id);
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
    buf_append(b, m->out.ptr, m->args[3]);
    resp_array(b, (uint32_t)m->sum);
    buf_append(b, m->out.ptr + m->args[3], m->out.len - m->args[3]);
}

static bool autoclaim_options(struct call *c, struct queue_take *o)
{
    for (uint32_t i = 6; i < c->argc; i++) {
        int64_t v;
        if (slice_ieq(c->argv[i], "JUSTID")) {
            o->just_id = true;
        } else if (!slice_ieq(c->argv[i], "COUNT") || i + 1 == c->argc) {
            call_error(c, "ERR", "syntax error");
            return false;
        } else if (!arg_stream_int(c, c->argv[++i], "COUNT must be > 0", &v)) {
            return false;
        } else if (v < 1) {
            call_error(c, "ERR", "COUNT must be > 0");
            return false;
        } else {
            o->count = v < LIMIT_CLAIM_MESSAGES ? (uint32_t)v : LIMIT_CLAIM_MESSAGES;
        }
    }
    return true;
}

void handle_xautoclaim(struct call *c)
{
    struct queue_take o = {.group = c->argv[2], .consumer = c->argv[3], .idle_ms = UINT64_MAX, .retries = UINT32_MAX, .count = 100};
    struct stream_id start;
    int64_t idle;
    if (!arg_stream_int(c, c->argv[4], "Invalid min-idle-time argument for XAUTOCLAIM", &idle) ||
        !arg_stream_bound(c, c->argv[5], true, &start) || !autoclaim_options(c, &o) ||
        !arg_name(c, o.consumer, "the consumer", LIMIT_CONSUMER_BYTES)) {
        return;
    }
    o.min_idle_ms = idle > 0 ? (uint64_t)idle : 0;
    struct topic_ref *t = call_stream(c, c->argv[1], WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            call_no_group(c, c->argv[1], c->argv[2]);
        }
        return;
    }
    struct multi *m = multi_new(c, t, take_autoclaim, end_autoclaim);
    keep_take(m, &o);
    m->args[4] = start.ms;
    m->args[5] = start.seq;
    ask_autoclaim_rows(m, &o);
    multi_begin(m);
}
