/* LOCK.* and SESSION.* commands that read: one query, answered by the group's leader after a confirmed read round. */
#include "nodes/doors/cmd.h"

#include "utils/limits.h"

static void ask(struct call *c, uint32_t group, const struct lock_query *q)
{
    struct request *r = call_request(c, group, REQUEST_READ, false);
    buf_put_u8(&r->payload, SERVICE_LOCKS);
    lock_query_encode(&r->payload, q);
    call_submit(c, r);
}

void handle_lock_check(struct call *c)
{
    struct lock_query q = {.kind = LOCK_Q_CHECK, .resource = c->argv[1]};
    if (arg_name(c, c->argv[1], "the resource", LIMIT_KEY_BYTES) && arg_u64(c, c->argv[2], "the token", 0, UINT64_MAX, &q.token)) {
        ask(c, lock_group(q.resource, c->n->opt.groups), &q);
    }
}

void handle_lock_info(struct call *c)
{
    struct lock_query q = {.kind = LOCK_Q_INFO, .resource = c->argv[1]};
    if (arg_name(c, c->argv[1], "the resource", LIMIT_KEY_BYTES)) {
        ask(c, lock_group(q.resource, c->n->opt.groups), &q);
    }
}

void handle_lock_list(struct call *c)
{
    struct lock_query q = {.kind = LOCK_Q_LIST, .count = 100};
    uint64_t group = 0, v = 0;
    int64_t only = -1;
    for (uint32_t i = 1; i < c->argc; i += 2) {
        if (i + 1 >= c->argc) {
            call_error(c, "ERR", "syntax error: LOCK.LIST [MATCH pattern] [GROUP group] [CURSOR cursor] [COUNT count]");
            return;
        }
        slice_t word = c->argv[i], arg = c->argv[i + 1];
        bool ok = true;
        if (slice_ieq(word, "MATCH")) {
            q.match = arg;
            ok = arg_name(c, arg, "MATCH", LIMIT_KEY_BYTES);
        } else if (slice_ieq(word, "CURSOR")) {
            ok = arg_u64(c, arg, "CURSOR", 0, UINT64_MAX, &q.cursor);
        } else if (slice_ieq(word, "GROUP")) {
            ok = arg_u64(c, arg, "GROUP", 0, c->n->opt.groups - 1, &group);
            only = (int64_t)group;
        } else if (slice_ieq(word, "COUNT")) {
            ok = arg_u64(c, arg, "COUNT", 1, 10000, &v);
            q.count = (uint32_t)v;
        } else {
            call_error(c, "ERR", "syntax error: LOCK.LIST [MATCH pattern] [GROUP group] [CURSOR cursor] [COUNT count]");
            ok = false;
        }
        if (!ok) {
            return;
        }
    }
    call_walk(c, &q, only);
}

void handle_lock_waitgraph(struct call *c)
{
    struct lock_query q = {.kind = LOCK_Q_WAITGRAPH};
    uint64_t group = 0;
    int64_t only = -1;
    for (uint32_t i = 1; i < c->argc; i++) {
        if (slice_ieq(c->argv[i], "DOT")) {
            q.kind = LOCK_Q_DOT;
        } else if (slice_ieq(c->argv[i], "GROUP") && i + 1 < c->argc) {
            if (!arg_u64(c, c->argv[++i], "GROUP", 0, c->n->opt.groups - 1, &group)) {
                return;
            }
            only = (int64_t)group;
        } else {
            call_error(c, "ERR", "syntax error: LOCK.WAITGRAPH [DOT] [GROUP group]");
            return;
        }
    }
    call_walk(c, &q, only);
}

void handle_session_list(struct call *c)
{
    struct lock_query q = {.kind = LOCK_Q_SESSIONS, .count = 10000};
    ask(c, 0, &q);
}

void handle_lock_watch(struct call *c)
{
    if (!arg_name(c, c->argv[1], "the resource", LIMIT_KEY_BYTES)) {
        return;
    }
    uint32_t group = lock_group(c->argv[1], c->n->opt.groups);
    if (c->conn->proto != 3) {
        call_error(c, "ERR", "LOCK.WATCH pushes need RESP3: send HELLO 3 first");
    } else if (!c->n->groups[group].hosted) {
        call_error(c, "ERR", "this node holds no replica of the resource's group %u: watch from one that CLUSTER.GROUPS names", group);
    } else {
        watch_add(c->n, c->conn, c->argv[1]);
        resp_simple(c->reply, "OK");
    }
}

void handle_lock_unwatch(struct call *c)
{
    resp_int(c->reply, watch_remove(c->n, c->conn, c->argv[1]));
}
