/* XREAD and XREADGROUP: from a place of the reader's own, or for a consumer group.
 *
 * XREAD with BLOCK first looks at all keys, then has the leader of each key's group keep the question until there is something; it is asked anew
 * before a request's time is over. XREADGROUP with > is a claim like QUEUE.CONSUME's; with an id it is the consumer's own pending messages. */
#include "nodes/doors/cmd.h"
#include "nodes/doors/cmd_stream.h"
#include "nodes/doors/queue_door.h"

#include <stdlib.h>

enum { STEP_INFO = 0, STEP_LOOK = 1, STEP_WAIT = 2, STEP_SHIFT = 16, XREAD_KEYS_MAX = 64, XREAD_COUNT = 1000, FILLED_BYTES = 2 * 1024 * 1024 };

struct xread_key { struct topic_ref *topic; struct stream_id after; };

struct read_options { uint32_t count; bool block, no_ack; uint64_t block_ms; uint32_t keys_at, n_keys; slice_t group, consumer; };

static bool read_block(struct call *c, slice_t s, struct read_options *o)
{
    int64_t ms;
    if (!arg_stream_int(c, s, "timeout is not an integer or out of range", &ms)) {
        return false;
    }
    if (ms < 0) {
        call_error(c, "ERR", "timeout is negative");
        return false;
    }
    o->block = true;
    o->block_ms = ms < LIMIT_TTL_MS ? (uint64_t)ms : LIMIT_TTL_MS;
    return true;
}

/* One option at *i; false: an error was told, or (no error) there is none that is known. */
static bool read_option(struct call *c, uint32_t *i, bool group, struct read_options *o)
{
    slice_t word = c->argv[*i];
    bool value = *i + 1 < c->argc, names = slice_ieq(word, "GROUP") && *i + 2 < c->argc;
    if (slice_ieq(word, "COUNT") && value) {
        int64_t v;
        if (!arg_stream_int(c, c->argv[*i + 1], NULL, &v)) {
            return false;
        }
        o->count = v <= 0 || v > LIMIT_CLAIM_MESSAGES ? LIMIT_CLAIM_MESSAGES : (uint32_t)v;
        *i += 2;
    } else if (slice_ieq(word, "BLOCK") && value) {
        if (!read_block(c, c->argv[*i + 1], o)) {
            return false;
        }
        *i += 2;
    } else if (!group && (names || slice_ieq(word, "NOACK"))) {
        call_error(c, "ERR", "The %s option is only supported by XREADGROUP. You called XREAD instead.", names ? "GROUP" : "NOACK");
        return false;
    } else if (slice_ieq(word, "NOACK")) {
        o->no_ack = true;
        *i += 1;
    } else if (names) {
        o->group = c->argv[*i + 1];
        o->consumer = c->argv[*i + 2];
        *i += 3;
    } else {
        call_error(c, "ERR", "syntax error");
        return false;
    }
    return true;
}

static bool read_options(struct call *c, bool group, struct read_options *o)
{
    *o = (struct read_options){.count = XREAD_COUNT};
    for (uint32_t i = 1; o->keys_at == 0 && i < c->argc;) {
        if (slice_ieq(c->argv[i], "STREAMS") && i + 1 < c->argc) {
            o->keys_at = i + 1;
        } else if (!read_option(c, &i, group, o)) {
            return false;
        }
    }
    uint32_t rest = o->keys_at > 0 ? c->argc - o->keys_at : 0;
    if (rest % 2 != 0) {
        call_error(c, "ERR", "Unbalanced '%s' list of streams: for each stream key an ID or '%c' must be specified.",
                   group ? "xreadgroup" : "xread", group ? '>' : '$');
    } else if (rest == 0) {
        call_error(c, "ERR", "syntax error");
    }
    o->n_keys = rest / 2;
    return rest != 0 && rest % 2 == 0;
}

static struct xread_key *keys_of(struct multi *m)
{
    return (struct xread_key *)(void *)m->name.ptr;
}

static void ask_key(struct multi *m, uint32_t i, uint32_t step)
{
    struct xread_key *k = &keys_of(m)[i];
    struct queue_query q = {.kind = step == STEP_INFO ? QQ_INFO : QQ_RANGE, .topic = k->topic->id, .by_id = true, .first = k->after,
                            .last = {UINT64_MAX, UINT64_MAX}, .count = m->want};
    if (++q.first.seq == 0) {
        q.first.ms++;
    }
    if (step == STEP_WAIT) {
        uint64_t left = m->args[2] > m->n->now_ms ? m->args[2] - m->n->now_ms : 1, most = m->n->opt.request_timeout_ms / 2;
        q.wait_ms = (uint32_t)(left < most ? left : most);
    }
    m->args[0]++;
    request_submit(m->n, multi_query(m, k->topic->groups[0], i | step << STEP_SHIFT, &q));
}

static void put_entries(struct multi *m, uint32_t i, struct reader *r, uint32_t n)
{
    struct conn *c = conn_find(m->n, m->conn);
    struct queue_message msg;
    multi_row_begin(m, i);
    put_streams_key(&m->out, c != NULL ? c->proto : 3, topic_name(keys_of(m)[i].topic));
    resp_array(&m->out, n);
    for (uint32_t k = 0; k < n && fill_get_message(r, &msg); k++) {
        put_stream_entry(&m->out, &msg);
    }
    multi_row_end(m);
    m->rows++;
}

/* In the order in which the streams were named. */
static void end_xread(struct multi *m, struct buf *reply)
{
    const struct conn *c = conn_find(m->n, m->conn);
    if (m->rows == 0) {
        resp_null(reply);
        return;
    }
    put_streams_head(reply, c != NULL ? c->proto : 3, m->rows);
    for (uint32_t i = 0; i < m->args[3]; i++) {
        for (uint32_t k = 0; k < m->n_order; k++) {
            if (m->order[k].key == i) {
                buf_append(reply, m->out.ptr + m->order[k].off, m->order[k].len);
            }
        }
    }
}

/* Answered with what there is; questions that still wait are not waited for. */
static void reply_now(struct multi *m)
{
    struct conn *c = conn_find(m->n, m->conn);
    if (c != NULL) {
        struct buf reply = {0};
        end_xread(m, &reply);
        metrics_request(&m->n->metrics, METRIC_REQUEST_READ, buf_slice(&reply), m->n->now_ms - m->began_ms);
        conn_reply(m->n, c, m->slot, buf_slice(&reply));
        buf_fini(&reply);
    }
    m->conn = 0;
}

/* All answers of a round are in and nothing was found. */
static void next_round(struct multi *m)
{
    if (m->rows > 0 || m->args[1] == 0 || conn_find(m->n, m->conn) == NULL || m->n->now_ms >= m->args[2]) {
        return;
    }
    for (uint32_t i = 0; i < m->args[3]; i++) {
        ask_key(m, i, STEP_WAIT);
    }
}

static void take_xread(struct multi *m, uint32_t part, slice_t reply)
{
    struct reader r = reader_of(reply);
    uint32_t i = part & 0xffff, step = part >> STEP_SHIFT;
    struct xread_key *k = &keys_of(m)[i];
    m->args[0]--;
    reader_u8(&r);
    uint32_t n = reader_u32(&r);
    if (step == STEP_INFO && n > 0) {
        reader_take(&r, 4 + 9 * 8);
        k->after.ms = reader_u64(&r);
        k->after.seq = reader_u64(&r);
    } else if (step != STEP_INFO && n > 0 && m->conn != 0) {
        put_entries(m, i, &r, n);
        if (step == STEP_WAIT) {
            reply_now(m);
        }
    }
    if (m->args[0] == 0 && m->conn != 0) {
        next_round(m);
    }
}

void handle_xread(struct call *c)
{
    struct read_options o;
    struct xread_key keys[XREAD_KEYS_MAX];
    bool last[XREAD_KEYS_MAX];
    uint32_t n = 0;
    if (!read_options(c, false, &o)) {
        return;
    }
    if (o.n_keys > XREAD_KEYS_MAX) {
        call_error(c, "LIMIT", "XREAD takes at most %d streams", XREAD_KEYS_MAX);
        return;
    }
    for (uint32_t i = 0; i < o.n_keys; i++) {
        slice_t id = c->argv[o.keys_at + o.n_keys + i];
        keys[n].after = (struct stream_id){0};
        last[n] = slice_eq(id, SLICE_LIT("$"));
        if (slice_eq(id, SLICE_LIT(">"))) {
            call_error(c, "ERR", "The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.");
            return;
        }
        if (!last[n] && !arg_stream_id(c, id, 0, &keys[n].after)) {
            return;
        }
        c->missing = false;
        keys[n].topic = call_stream(c, c->argv[o.keys_at + i], o.block ? WANT_OR_CREATE_STREAM : WANT_IF_THERE);
        if (keys[n].topic != NULL) {
            n++;
        } else if (!c->missing) {
            return;
        }
    }
    if (n == 0) {
        resp_null(c->reply);
        return;
    }
    struct multi *m = multi_new(c, keys[0].topic, take_xread, end_xread);
    m->missing_ok = true;
    m->want = o.count;
    m->args[1] = o.block;
    m->args[2] = !o.block ? 0 : o.block_ms > 0 ? c->n->now_ms + o.block_ms : UINT64_MAX;
    m->args[3] = n;
    buf_append(&m->name, keys, n * sizeof keys[0]);
    for (uint32_t i = 0; i < n; i++) {
        ask_key(m, i, last[i] ? STEP_INFO : STEP_LOOK);
    }
    multi_begin(m);
}

/* XREADGROUP with an id: what the consumer has pending behind it. Step 0: a page of rows, until there are enough, 1: the messages. `side`: the
 * names; `name`: offset and id of each row. */
static void history_messages(struct multi *m, struct reader *r, uint32_t n)
{
    struct queue_message msg;
    size_t all = reader_left(r);
    for (uint32_t i = 0; i < n && fill_get_message(r, &msg); i++) {
        if (msg.flags == 255 && all - reader_left(r) >= FILLED_BYTES) {
            return; /* not deleted, but beyond what one answer holds: the reader goes on behind its last id */
        }
        if (msg.flags == 255) {
            const uint8_t *row = m->name.ptr + (size_t)i * 24;
            msg.id = (struct stream_id){le64_get(row + 8), le64_get(row + 16)};
        }
        put_stream_entry(&m->out, &msg);
        m->rows++;
    }
}

static void ask_history_messages(struct multi *m)
{
    struct buf offsets = {0};
    for (size_t at = 0; at < m->name.len; at += 24) {
        buf_put_u64(&offsets, le64_get(m->name.ptr + at));
    }
    struct queue_query q = {.kind = QQ_FETCH, .topic = m->topic->id, .count = (uint32_t)(offsets.len / 8), .ids = buf_slice(&offsets)};
    request_submit(m->n, multi_query(m, m->topic->groups[0], 1, &q));
    buf_fini(&offsets);
}

static void take_history(struct multi *m, uint32_t step, slice_t reply)
{
    struct reader r = reader_of(reply);
    uint8_t code = reader_u8(&r);
    uint32_t n = reader_u32(&r);
    slice_t group = slice_of(m->side.ptr, m->args[2]), consumer = slice_of(m->side.ptr + group.len, m->side.len - group.len);
    if (code == QUEUE_NO_GROUP) {
        fail_no_group(m, group, " in XREADGROUP with GROUP option");
        return;
    }
    if (step == 1) {
        history_messages(m, &r, n);
        return;
    }
    struct pending_row p = {0};
    struct stream_id after = {m->args[0], m->args[1]};
    for (uint32_t i = 0; i < n && m->name.len / 24 < m->want && get_pending_row(&r, &p); i++) {
        if (stream_id_less(after, p.id)) {
            buf_put_u64(&m->name, p.offset);
            buf_put_u64(&m->name, p.id.ms);
            buf_put_u64(&m->name, p.id.seq);
        }
    }
    if (n == PENDING_PAGE && m->name.len / 24 < m->want) {
        ask_pending(m, 0, group, consumer, p.offset + 1);
    } else if (m->name.len > 0) {
        ask_history_messages(m);
    }
}

static void end_history(struct multi *m, struct buf *reply)
{
    const struct conn *c = conn_find(m->n, m->conn);
    int proto = c != NULL ? c->proto : 3;
    put_streams_head(reply, proto, 1);
    put_streams_key(reply, proto, topic_name(m->topic));
    resp_array(reply, m->rows);
    buf_append_slice(reply, buf_slice(&m->out));
}

static void read_history(struct call *c, struct topic_ref *t, const struct read_options *o, struct stream_id after)
{
    struct multi *m = multi_new(c, t, take_history, end_history);
    m->want = o->count;
    m->args[0] = after.ms;
    m->args[1] = after.seq;
    m->args[2] = o->group.len;
    buf_append_slice(&m->side, o->group);
    buf_append_slice(&m->side, o->consumer);
    ask_pending(m, 0, o->group, o->consumer, 0);
    multi_begin(m);
}

void handle_xreadgroup(struct call *c)
{
    struct read_options o;
    struct stream_id after = {0};
    if (!read_options(c, true, &o)) {
        return;
    }
    if (o.group.len == 0 || !arg_name(c, o.group, "the group", LIMIT_CONSUMER_BYTES) ||
        !arg_name(c, o.consumer, "the consumer", LIMIT_CONSUMER_BYTES)) {
        if (o.group.len == 0) {
            call_error(c, "ERR", "Missing GROUP option for XREADGROUP");
        }
        return;
    }
    if (o.n_keys != 1) {
        call_error(c, "ERR", "XREADGROUP takes one stream: streams live in different groups, and a message must not be taken for a reply that fails");
        return;
    }
    slice_t key = c->argv[o.keys_at], id = c->argv[o.keys_at + 1];
    bool fresh = slice_eq(id, SLICE_LIT(">"));
    if (slice_eq(id, SLICE_LIT("$"))) {
        call_error(c, "ERR", "The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a "
                   "proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.");
        return;
    }
    if (!fresh && !arg_stream_id(c, id, 0, &after)) {
        return;
    }
    struct topic_ref *t = call_stream(c, key, WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            call_error(c, "NOGROUP", "No such key '%.*s' or consumer group '%.*s' in XREADGROUP with GROUP option", (int)key.len,
                       (const char *)key.ptr, (int)o.group.len, (const char *)o.group.ptr);
        }
        return;
    }
    if (!fresh) {
        read_history(c, t, &o, after);
        return;
    }
    struct consume_options co = {.count = o.count, .block = o.block, .block_ms = o.block_ms, .no_ack = o.no_ack, .view = VIEW_STREAM};
    struct member *m = t->config.stream ? member_of_stream(c->n, t, o.group, o.consumer) : member_get(c->n, t, o.group, o.consumer);
    consume_begin(c, m, &co);
}
