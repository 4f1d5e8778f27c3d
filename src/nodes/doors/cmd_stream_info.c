/* XINFO: what a stream, its consumer groups and their consumers are like, in Redis' fields. */
#include "nodes/doors/cmd.h"
#include "nodes/doors/queue_door.h"

static void put_field(struct buf *b, const char *name, uint64_t v)
{
    resp_bulk_str(b, name);
    resp_int(b, (int64_t)v);
}

static void put_id_field(struct buf *b, const char *name, struct stream_id id)
{
    resp_bulk_str(b, name);
    put_stream_id(b, id);
}

struct info_row { uint64_t v[14]; uint32_t groups; };
enum { ROW_START, ROW_END, ROW_DELETED, ROW_BYTES, ROW_DELAYED, ROW_PUBLISHED, ROW_EXPIRED, ROW_FIRST_MS, ROW_FIRST_SEQ, ROW_LAST_MS, ROW_LAST_SEQ,
       ROW_ADDED, ROW_DELETED_MS, ROW_DELETED_SEQ };

static bool get_info(struct reader *r, struct info_row *row)
{
    reader_u8(r);
    if (reader_u32(r) == 0) {
        return false;
    }
    reader_u32(r);
    for (size_t i = 0; i < sizeof row->v / sizeof row->v[0]; i++) {
        row->v[i] = reader_u64(r);
    }
    row->groups = reader_u32(r);
    return r->ok;
}

static void ask_edge(struct multi *m, bool newest)
{
    struct queue_query q = {.kind = QQ_RANGE, .topic = m->topic->id, .last = {UINT64_MAX, 0}, .count = 1, .reverse = newest};
    request_submit(m->n, multi_query(m, m->topic->groups[0], newest ? 2 : 1, &q));
}

/* Step 0: the row, 1: the first entry, 2: the last. */
static void take_stream(struct multi *m, uint32_t step, slice_t reply)
{
    struct reader r = reader_of(reply);
    if (step > 0) {
        struct queue_message msg;
        reader_u8(&r);
        bool has = reader_u32(&r) > 0 && fill_get_message(&r, &msg);
        resp_bulk_str(&m->out, step == 1 ? "first-entry" : "last-entry");
        if (has) {
            put_stream_entry(&m->out, &msg);
        } else {
            resp_null(&m->out);
        }
        if (step == 1) {
            ask_edge(m, true);
        }
        return;
    }
    struct info_row row = {0};
    get_info(&r, &row);
    struct buf *b = &m->out;
    put_field(b, "length", row.v[ROW_END] - row.v[ROW_START] - row.v[ROW_DELETED]);
    put_field(b, "radix-tree-keys", 1);
    put_field(b, "radix-tree-nodes", 2);
    put_id_field(b, "last-generated-id", (struct stream_id){row.v[ROW_LAST_MS], row.v[ROW_LAST_SEQ]});
    put_id_field(b, "max-deleted-entry-id", (struct stream_id){row.v[ROW_DELETED_MS], row.v[ROW_DELETED_SEQ]});
    put_field(b, "entries-added", row.v[ROW_ADDED]);
    put_id_field(b, "recorded-first-entry-id", (struct stream_id){row.v[ROW_FIRST_MS], row.v[ROW_FIRST_SEQ]});
    put_field(b, "groups", row.groups);
    ask_edge(m, false);
}

static void end_stream(struct multi *m, struct buf *reply)
{
    resp_map(reply, 10);
    buf_append_slice(reply, buf_slice(&m->out));
}

static void take_groups(struct multi *m, uint32_t step, slice_t reply)
{
    (void)step;
    struct reader r = reader_of(reply);
    struct info_row row = {0};
    if (!get_info(&r, &row)) {
        return;
    }
    for (uint32_t i = 0; i < row.groups; i++) {
        slice_t name = reader_bytes(&r);
        reader_bytes(&r);
        uint64_t v[16];
        for (size_t k = 0; k < 16; k++) {
            v[k] = reader_u64(&r);
        }
        if (!r.ok) {
            return;
        }
        resp_map(&m->out, 6);
        resp_bulk_str(&m->out, "name");
        resp_bulk(&m->out, name);
        put_field(&m->out, "consumers", v[15]);
        put_field(&m->out, "pending", v[2]);
        put_id_field(&m->out, "last-delivered-id", (struct stream_id){v[13], v[14]});
        put_field(&m->out, "entries-read", row.v[ROW_ADDED] > v[6] ? row.v[ROW_ADDED] - v[6] : 0);
        put_field(&m->out, "lag", v[6]);
        m->rows++;
    }
}

static void end_rows(struct multi *m, struct buf *reply)
{
    resp_array(reply, m->rows);
    buf_append_slice(reply, buf_slice(&m->out));
}

static void take_consumers(struct multi *m, uint32_t step, slice_t reply)
{
    (void)step;
    struct reader r = reader_of(reply);
    if (reader_u8(&r) == QUEUE_NO_GROUP) {
        struct buf b = {0};
        resp_error(&b, "NOGROUP", "No such consumer group '%.*s' for key name '%.*s'", (int)m->name.len, (const char *)m->name.ptr,
                   (int)(m->topic->name_len < 64 ? m->topic->name_len : 64), m->topic->name);
        multi_fail(m, buf_slice(&b));
        buf_fini(&b);
        return;
    }
    uint32_t n = reader_u32(&r);
    for (uint32_t i = 0; i < n; i++) {
        slice_t name = reader_bytes(&r);
        uint64_t pending = reader_u64(&r), idle = reader_u64(&r), inactive = reader_u64(&r);
        resp_map(&m->out, 4);
        resp_bulk_str(&m->out, "name");
        resp_bulk(&m->out, name);
        put_field(&m->out, "pending", pending);
        put_field(&m->out, "idle", idle);
        put_field(&m->out, "inactive", inactive);
        m->rows++;
    }
}

void handle_xinfo(struct call *c)
{
    bool stream = slice_ieq(c->argv[1], "STREAM"), groups = slice_ieq(c->argv[1], "GROUPS"), consumers = slice_ieq(c->argv[1], "CONSUMERS");
    bool arity = stream ? c->argc >= 3 : groups ? c->argc == 3 : c->argc == 4;
    if ((!stream && !groups && !consumers) || !arity) {
        call_error(c, "ERR", "unknown subcommand or wrong number of arguments. Try XINFO STREAM key, XINFO GROUPS key, XINFO CONSUMERS key group.");
        return;
    }
    struct topic_ref *t = call_stream(c, c->argv[2], WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            call_error(c, "ERR", "no such key");
        }
        return;
    }
    struct multi *m = multi_new(c, t, stream ? take_stream : groups ? take_groups : take_consumers, stream ? end_stream : end_rows);
    struct queue_query q = {.kind = consumers ? QQ_CONSUMERS : QQ_INFO, .topic = t->id, .name = consumers ? c->argv[3] : SLICE_NONE};
    m->missing_ok = !consumers;
    if (consumers) {
        buf_append_slice(&m->name, c->argv[3]);
    }
    request_submit(c->n, multi_query(m, t->groups[0], 0, &q));
    multi_begin(m);
}
