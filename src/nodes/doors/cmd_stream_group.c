/* Redis Streams' consumer groups: XGROUP and XACK, and what the files about groups share: subcommands, and Redis' words for a group that is not there.
 * Ids become offsets where the state machine wants those; replies are Redis' own.
 *
 * Not here: XCLAIM and XAUTOCLAIM (cmd_stream_claim.c), XREADGROUP (cmd_stream_read.c), XINFO and XPENDING (cmd_stream_info.c). */
#include "nodes/doors/cmd.h"
#include "nodes/doors/cmd_stream.h"
#include "nodes/doors/queue_door.h"

void call_no_group(struct call *c, slice_t key, slice_t group)
{
    call_error(c, "NOGROUP", "No such key '%.*s' or consumer group '%.*s'", shown_length(key), (const char *)key.ptr, shown_length(group), (const char *)group.ptr);
}

void fail_no_group(struct multi *m, slice_t group, const char *where)
{
    struct buf b = {0};
    slice_t key = topic_name(m->topic);
    resp_error(&b, "NOGROUP", "No such key '%.*s' or consumer group '%.*s'%s", shown_length(key), (const char *)key.ptr, shown_length(group),
               (const char *)group.ptr, where);
    multi_fail(m, buf_slice(&b));
    buf_fini(&b);
}

void fail_no_group_for_key(struct multi *m)
{
    struct buf b = {0};
    slice_t key = topic_name(m->topic), group = buf_slice(&m->name);
    resp_error(&b, "NOGROUP", "No such consumer group '%.*s' for key name '%.*s'", shown_length(group), (const char *)group.ptr, shown_length(key),
               (const char *)key.ptr);
    multi_fail(m, buf_slice(&b));
    buf_fini(&b);
}

const struct subcommand *call_subcommand(struct call *c, const struct subcommand *table, size_t n)
{
    const struct subcommand *found = NULL;
    for (size_t i = 0; i < n && found == NULL; i++) {
        found = slice_ieq(c->argv[1], table[i].word) ? &table[i] : NULL;
    }
    if (found == NULL && slice_ieq(c->argv[1], "HELP") && c->argc == 2) {
        resp_array(c->reply, (uint32_t)n);
        for (size_t i = 0; i < n; i++) {
            resp_simple(c->reply, table[i].help);
        }
    } else if (found == NULL) {
        call_error(c, "ERR", "unknown subcommand '%.*s'. Try %s HELP.", shown_length(c->argv[1]), (const char *)c->argv[1].ptr, c->cmd->name);
    } else if (found->arity < 0 ? c->argc < (uint32_t)-found->arity : c->argc != (uint32_t)found->arity) {
        call_error(c, "ERR", "wrong number of arguments for '%s' command", found->name);
        found = NULL;
    }
    return found;
}

void call_bad_syntax(struct call *c)
{
    call_error(c, "ERR", "unknown subcommand or wrong number of arguments for '%.*s'. Try %s HELP.", shown_length(c->argv[1]),
               (const char *)c->argv[1].ptr, c->cmd->name);
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
        fail_no_group_for_key(m);
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

static void call_needs_key(struct call *c)
{
    call_error(c, "ERR", "The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to "
               "create an empty stream automatically.");
}

static void xgroup_create(struct call *c, bool seek)
{
    bool make = false;
    for (uint32_t i = 5; i < c->argc; i++) {
        int64_t read;
        if (slice_ieq(c->argv[i], "MKSTREAM") && !seek) {
            make = true;
        } else if (!slice_ieq(c->argv[i], "ENTRIESREAD") || i + 1 == c->argc) {
            call_bad_syntax(c);
            return;
        } else if (!arg_stream_int(c, c->argv[++i], NULL, &read)) {
            return;
        } else if (read < -1) {
            call_error(c, "ERR", "value for ENTRIESREAD must be positive or -1");
            return; /* else it is forgotten: lag is counted from offsets here */
        }
    }
    struct stream_id from;
    slice_t id = c->argv[4];
    if (make && !slice_eq(id, SLICE_LIT("$")) && !arg_stream_id(c, id, 0, &from)) {
        return; /* before the stream is made */
    }
    struct topic_ref *t = call_stream(c, c->argv[2], make ? WANT_OR_CREATE_STREAM : WANT_IF_THERE);
    if (t != NULL) {
        group_at(c, t, id, seek);
    } else if (c->missing) {
        call_needs_key(c);
    }
}

static void xgroup_change(struct call *c, enum group_action action, slice_t consumer)
{
    struct topic_ref *t = call_stream(c, c->argv[2], WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            call_needs_key(c);
        }
        return;
    }
    struct multi *m = multi_new(c, t, take_group, end_int);
    m->args[0] = action;
    buf_append_slice(&m->name, c->argv[3]);
    submit_group(m, consumer, SEEK_BEGIN, 0);
    multi_begin(m);
}

enum { XGROUP_CREATE, XGROUP_SETID, XGROUP_DESTROY, XGROUP_CREATECONSUMER, XGROUP_DELCONSUMER, XGROUP_COUNT };

static const struct subcommand XGROUP[XGROUP_COUNT] = {
    [XGROUP_CREATE] = {"CREATE", -5, "xgroup|create",
                       "CREATE key group id|$ [MKSTREAM] [ENTRIESREAD n]: makes a consumer group that reads behind id."},
    [XGROUP_SETID] = {"SETID", -5, "xgroup|setid", "SETID key group id|$ [ENTRIESREAD n]: lets a consumer group go on behind id."},
    [XGROUP_DESTROY] = {"DESTROY", 4, "xgroup|destroy", "DESTROY key group: removes a consumer group with what it has pending."},
    [XGROUP_CREATECONSUMER] = {"CREATECONSUMER", 5, "xgroup|createconsumer", "CREATECONSUMER key group consumer: makes a consumer."},
    [XGROUP_DELCONSUMER] = {"DELCONSUMER", 5, "xgroup|delconsumer",
                            "DELCONSUMER key group consumer: removes a consumer with what it has pending."},
};

void handle_xgroup(struct call *c)
{
    const struct subcommand *sub = call_subcommand(c, XGROUP, XGROUP_COUNT);
    if (sub == NULL || !arg_name(c, c->argv[3], "the group", LIMIT_CONSUMER_BYTES)) {
        return;
    }
    switch (sub - XGROUP) {
    case XGROUP_CREATE: xgroup_create(c, false); return;
    case XGROUP_SETID: xgroup_create(c, true); return;
    case XGROUP_DESTROY: xgroup_change(c, GROUP_DESTROY, SLICE_NONE); return;
    default: break;
    }
    if (arg_name(c, c->argv[4], "the consumer", LIMIT_CONSUMER_BYTES)) {
        xgroup_change(c, sub - XGROUP == XGROUP_DELCONSUMER ? GROUP_DELETE_CONSUMER : GROUP_CREATE_CONSUMER, c->argv[4]);
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
    struct topic_ref *t = call_stream(c, c->argv[1], WANT_IF_THERE);
    if (t == NULL) {
        if (c->missing) {
            resp_int(c->reply, 0);
        }
        return;
    }
    struct buf items = {0};
    for (uint32_t i = 3; i < c->argc; i++) {
        struct settle_item it = {.kind = SETTLE_ACK, .by_id = true};
        if (!arg_stream_id(c, c->argv[i], 0, &it.id)) {
            buf_fini(&items);
            return;
        }
        queue_put_settle_item(&items, &it);
    }
    struct multi *m = multi_new(c, t, take_ack, end_int);
    m->missing_ok = true;
    struct request *r = multi_op(m, t->groups[0], QUEUE_OP_SETTLE, 0);
    queue_put_settle(&r->payload, t->id, c->argv[2], c->argc - 3);
    buf_append_slice(&r->payload, buf_slice(&items));
    request_submit(c->n, r);
    multi_begin(m);
    buf_fini(&items);
}
