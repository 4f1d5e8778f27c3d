/* XINFO and XPENDING: what a stream, its consumer groups and their consumers are like, and what is pending, in Redis' fields. */
#include "nodes/doors/cmd.h"
#include "nodes/doors/cmd_stream.h"
#include "nodes/doors/queue_door.h"

#include <stdlib.h>

bool get_pending_row(struct reader *r, struct pending_row *p)
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

void ask_pending(struct multi *m, uint32_t step, slice_t group, slice_t consumer, uint64_t from)
{
    struct queue_query q = {.kind = QQ_PENDING, .topic = m->topic->id, .name = group, .ids = consumer, .first = {from, 0}, .count = PENDING_PAGE};
    request_submit(m->n, multi_query(m, m->topic->groups[0], step, &q));
}

/* Redis lists consumer groups and consumers in the order of their names. */
struct named_row { slice_t name; uint64_t v[3]; };

static int by_name(const void *a, const void *b)
{
    const struct named_row *x = a, *y = b;
    size_t len = x->name.len < y->name.len ? x->name.len : y->name.len;
    int order = len > 0 ? memcmp(x->name.ptr, y->name.ptr, len) : 0;
    return order != 0 ? order : x->name.len < y->name.len ? -1 : x->name.len > y->name.len;
}

static void sort_named_rows(struct named_row *rows, uint32_t n)
{
    if (n > 1) {
        qsort(rows, n, sizeof *rows, by_name);
    }
}

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
    uint64_t length = row.v[ROW_END] - row.v[ROW_START] - row.v[ROW_DELETED];
    put_field(b, "length", length);
    put_field(b, "radix-tree-keys", length > 0);
    put_field(b, "radix-tree-nodes", 1 + (length > 0));
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

static void put_group(struct multi *m, const struct info_row *row, slice_t name, const uint64_t *v)
{
    resp_map(&m->out, 6);
    resp_bulk_str(&m->out, "name");
    resp_bulk(&m->out, name);
    put_field(&m->out, "consumers", v[15]);
    put_field(&m->out, "pending", v[2]);
    put_id_field(&m->out, "last-delivered-id", (struct stream_id){v[13], v[14]});
    put_field(&m->out, "entries-read", row->v[ROW_ADDED] > v[6] ? row->v[ROW_ADDED] - v[6] : 0);
    put_field(&m->out, "lag", v[6]);
    m->rows++;
}

static void take_groups(struct multi *m, uint32_t step, slice_t reply)
{
    (void)step;
    struct reader r = reader_of(reply);
    struct info_row row = {0};
    if (!get_info(&r, &row)) {
        return;
    }
    struct named_row *names = calloc(row.groups + 1, sizeof *names);
    uint64_t (*v)[16] = calloc(row.groups + 1, sizeof *v);
    syn_assert(names != NULL && v != NULL);
    for (uint32_t i = 0; i < row.groups; i++) {
        names[i] = (struct named_row){.name = reader_bytes(&r), .v = {i}};
        reader_bytes(&r);
        for (size_t k = 0; k < 16; k++) {
            v[i][k] = reader_u64(&r);
        }
    }
    sort_named_rows(names, r.ok ? row.groups : 0);
    for (uint32_t i = 0; r.ok && i < row.groups; i++) {
        put_group(m, &row, names[i].name, v[names[i].v[0]]);
    }
    free(names);
    free(v);
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
        fail_no_group_for_key(m);
        return;
    }
    uint32_t n = reader_u32(&r);
    struct named_row *rows = calloc(n + 1, sizeof *rows);
    syn_assert(rows != NULL);
    for (uint32_t i = 0; i < n; i++) {
        rows[i].name = reader_bytes(&r);
        for (size_t k = 0; k < 3; k++) {
            rows[i].v[k] = reader_u64(&r);
        }
    }
    sort_named_rows(rows, n);
    for (uint32_t i = 0; i < n; i++) {
        resp_map(&m->out, 4);
        resp_bulk_str(&m->out, "name");
        resp_bulk(&m->out, rows[i].name);
        put_field(&m->out, "pending", rows[i].v[0]);
        put_field(&m->out, "idle", rows[i].v[1]);
        put_field(&m->out, "inactive", rows[i].v[2]);
        m->rows++;
    }
    free(rows);
}

enum { XINFO_STREAM, XINFO_GROUPS, XINFO_CONSUMERS, XINFO_COUNT };

static const struct subcommand XINFO[XINFO_COUNT] = {
    [XINFO_STREAM] = {"STREAM", -3, "xinfo|stream", "STREAM key [FULL [COUNT n]]: shows a stream."},
    [XINFO_GROUPS] = {"GROUPS", 3, "xinfo|groups", "GROUPS key: shows the consumer groups of a stream."},
    [XINFO_CONSUMERS] = {"CONSUMERS", 4, "xinfo|consumers", "CONSUMERS key group: shows the consumers of a group."},
};

/* FULL and its COUNT are checked and no more. */
static bool stream_options(struct call *c)
{
    int64_t count;
    bool full = c->argc == 3 || slice_ieq(c->argv[3], "FULL");
    if (!full || c->argc == 5 || c->argc > 6 || (c->argc == 6 && !slice_ieq(c->argv[4], "COUNT"))) {
        call_bad_syntax(c);
        return false;
    }
    return c->argc < 6 || arg_stream_int(c, c->argv[5], NULL, &count);
}

void handle_xinfo(struct call *c)
{
    static const struct { multi_part_fn part; multi_end_fn end; } ANSWERS[XINFO_COUNT] = {
        [XINFO_STREAM] = {take_stream, end_stream}, [XINFO_GROUPS] = {take_groups, end_rows}, [XINFO_CONSUMERS] = {take_consumers, end_rows},
    };
    const struct subcommand *sub = call_subcommand(c, XINFO, XINFO_COUNT);
    if (sub == NULL || (sub - XINFO == XINFO_STREAM && !stream_options(c))) {
        return;
    }
    bool consumers = sub - XINFO == XINFO_CONSUMERS;
    struct topic_ref *t = call_stream(c, c->argv[2], WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            call_error(c, "ERR", "no such key");
        }
        return;
    }
    struct multi *m = multi_new(c, t, ANSWERS[sub - XINFO].part, ANSWERS[sub - XINFO].end);
    struct queue_query q = {.kind = consumers ? QQ_CONSUMERS : QQ_INFO, .topic = t->id, .name = consumers ? c->argv[3] : SLICE_NONE};
    m->missing_ok = !consumers;
    if (consumers) {
        buf_append_slice(&m->name, c->argv[3]);
    }
    request_submit(c->n, multi_query(m, t->groups[0], 0, &q));
    multi_begin(m);
}

/* XPENDING key group: how many, from where to where, per consumer. Step 0: a page of rows, 1: consumers with what they have. */
static void take_pending_of_consumers(struct multi *m, struct reader *r, uint32_t n)
{
    struct named_row *rows = calloc(n + 1, sizeof *rows);
    syn_assert(rows != NULL);
    for (uint32_t i = 0; i < n; i++) {
        rows[i].name = reader_bytes(r);
        rows[i].v[0] = reader_u64(r);
        reader_take(r, 16);
    }
    sort_named_rows(rows, n);
    for (uint32_t i = 0; i < n; i++) {
        if (rows[i].v[0] > 0) {
            char text[24];
            int len = snprintf(text, sizeof text, "%llu", (unsigned long long)rows[i].v[0]);
            resp_array(&m->out, 2);
            resp_bulk(&m->out, rows[i].name);
            resp_bulk(&m->out, slice_of(text, (size_t)len));
            m->rows++;
        }
    }
    free(rows);
}

static void take_summary(struct multi *m, uint32_t step, slice_t reply)
{
    struct reader r = reader_of(reply);
    uint8_t code = reader_u8(&r);
    uint32_t n = reader_u32(&r);
    if (code == QUEUE_NO_GROUP) {
        fail_no_group(m, buf_slice(&m->name), "");
        return;
    }
    if (step == 1) {
        take_pending_of_consumers(m, &r, n);
        return;
    }
    struct pending_row p = {0};
    for (uint32_t i = 0; i < n && get_pending_row(&r, &p); i++) {
        if (m->sum++ == 0) {
            m->args[0] = p.id.ms;
            m->args[1] = p.id.seq;
        }
        m->args[2] = p.id.ms;
        m->args[3] = p.id.seq;
    }
    if (n == PENDING_PAGE) {
        ask_pending(m, 0, buf_slice(&m->name), SLICE_NONE, p.offset + 1);
        return;
    }
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

/* XPENDING key group [IDLE ms] start end count [consumer]. A page at a time, until there are enough. */
struct pending_filter { struct stream_id first, last; uint64_t idle_ms; };

static void take_pending(struct multi *m, uint32_t part, slice_t reply)
{
    (void)part;
    struct reader r = reader_of(reply);
    struct pending_filter f;
    struct pending_row p = {0};
    memcpy(&f, m->args, sizeof f);
    if (reader_u8(&r) == QUEUE_NO_GROUP) {
        fail_no_group(m, buf_slice(&m->name), "");
        return;
    }
    uint32_t n = reader_u32(&r);
    for (uint32_t i = 0; i < n && get_pending_row(&r, &p) && m->rows < m->want; i++) {
        if (stream_id_less(p.id, f.first) || stream_id_less(f.last, p.id) || p.idle_ms < f.idle_ms) {
            continue;
        }
        resp_array(&m->out, 4);
        put_stream_id(&m->out, p.id);
        resp_bulk(&m->out, p.consumer);
        resp_int(&m->out, (int64_t)p.idle_ms);
        resp_int(&m->out, (int64_t)p.deliveries);
        m->rows++;
    }
    if (n == PENDING_PAGE && m->rows < m->want && !stream_id_less(f.last, p.id)) {
        ask_pending(m, 0, buf_slice(&m->name), buf_slice(&m->side), p.offset + 1);
    }
}

static bool pending_filter(struct call *c, struct pending_filter *f, int64_t *count, slice_t *consumer)
{
    int64_t idle = 0;
    bool with_idle = c->argc > 4 && slice_ieq(c->argv[3], "IDLE");
    uint32_t i = with_idle ? 5 : 3;
    if (c->argc > 9 || c->argc < i + 3) {
        call_error(c, "ERR", "syntax error");
        return false;
    }
    if ((with_idle && !arg_stream_int(c, c->argv[4], NULL, &idle)) || !arg_stream_int(c, c->argv[i + 2], NULL, count) ||
        !arg_stream_bound(c, c->argv[i], true, &f->first) || !arg_stream_bound(c, c->argv[i + 1], false, &f->last)) {
        return false;
    }
    f->idle_ms = idle > 0 ? (uint64_t)idle : 0;
    *consumer = c->argc > i + 3 ? c->argv[i + 3] : SLICE_NONE;
    return true;
}

void handle_xpending(struct call *c)
{
    int64_t count = 0;
    slice_t consumer = SLICE_NONE;
    struct pending_filter f = {0};
    bool summary = c->argc == 3;
    if (!summary && !pending_filter(c, &f, &count, &consumer)) {
        return;
    }
    struct topic_ref *t = call_stream(c, c->argv[1], WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            call_no_group(c, c->argv[1], c->argv[2]);
        }
        return;
    }
    struct multi *m = multi_new(c, t, summary ? take_summary : take_pending, summary ? end_summary : end_rows);
    buf_append_slice(&m->name, c->argv[2]);
    buf_append_slice(&m->side, consumer);
    if (!summary) {
        memcpy(m->args, &f, sizeof f);
        m->want = count < 0 ? 0 : count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
    }
    ask_pending(m, 0, c->argv[2], consumer, 0);
    multi_begin(m);
}
