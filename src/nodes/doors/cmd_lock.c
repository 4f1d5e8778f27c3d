/* LOCK.* commands that change something: options to one operation, one entry of the resource's group.
 *
 * A lock without OWNER, SESSION or CONNECTION is owned by its own request: two such acquires of one resource exclude each
 * other, whatever connection they came from (connection pools; docs/decisions/002-owner-of-a-lock.md). */
#include "nodes/doors/cmd.h"

#include "utils/limits.h"

#include <stdio.h>

/* Everything after the resource and mode of ACQUIRE, ACQUIREALL. */
struct acquire_options {
    slice_t owner, meta, idem;
    uint64_t session, ttl_ms, maxhold_ms, wait_ms;
    bool connection;
};

static bool option_value(struct call *c, uint32_t i, slice_t *v)
{
    if (i + 1 >= c->argc) {
        call_error(c, "ERR", "syntax error: %.*s needs a value", (int)c->argv[i].len, (const char *)c->argv[i].ptr);
        return false;
    }
    *v = c->argv[i + 1];
    return true;
}

static bool option_wait(struct call *c, slice_t v, uint64_t *wait_ms)
{
    if (slice_ieq(v, "FOREVER")) {
        *wait_ms = LOCK_WAIT_FOREVER;
        return true;
    }
    return arg_u64(c, v, "WAIT", 0, LIMIT_TTL_MS, wait_ms);
}

static bool acquire_option(struct call *c, uint32_t *i, struct acquire_options *o)
{
    slice_t word = c->argv[*i], v;
    if (slice_ieq(word, "CONNECTION")) {
        o->connection = true;
        *i += 1;
        return true;
    }
    if (!option_value(c, *i, &v)) {
        return false;
    }
    *i += 2;
    if (slice_ieq(word, "OWNER")) {
        o->owner = v;
        return arg_name(c, v, "OWNER", LIMIT_OWNER_BYTES);
    }
    if (slice_ieq(word, "SESSION")) {
        return arg_u64(c, v, "SESSION", 1, UINT64_MAX, &o->session);
    }
    if (slice_ieq(word, "TTL")) {
        return arg_u64(c, v, "TTL", 1, LIMIT_TTL_MS, &o->ttl_ms);
    }
    if (slice_ieq(word, "MAXHOLD")) {
        return arg_u64(c, v, "MAXHOLD", 1, LIMIT_TTL_MS, &o->maxhold_ms);
    }
    if (slice_ieq(word, "WAIT")) {
        return option_wait(c, v, &o->wait_ms);
    }
    if (slice_ieq(word, "META")) {
        o->meta = v;
        return v.len == 0 || arg_name(c, v, "META", LIMIT_META_BYTES);
    }
    if (slice_ieq(word, "IDEM")) {
        o->idem = v;
        return arg_name(c, v, "IDEM", LIMIT_IDEM_BYTES);
    }
    call_error(c, "ERR", "syntax error: unknown option '%.*s'", shown_length(word), (const char *)word.ptr);
    return false;
}

static bool acquire_options(struct call *c, uint32_t from, struct acquire_options *o)
{
    *o = (struct acquire_options){0};
    for (uint32_t i = from; i < c->argc;) {
        if (!acquire_option(c, &i, o)) {
            return false;
        }
    }
    if (o->connection && o->session != 0) {
        call_error(c, "ERR", "syntax error: SESSION and CONNECTION exclude each other");
        return false;
    }
    return true;
}

/* CONNECTION: the connection's own session, made at its first use; until it is there the command is not consumed. */
static bool use_connection_session(struct call *c, struct acquire_options *o)
{
    if (!o->connection) {
        return true;
    }
    if (c->conn->session == 0 && !c->conn->session_failed) {
        conn_ask_session(c->n, c->conn); /* the answer may come at once */
    }
    if (c->conn->session_failed) {
        c->conn->session_failed = false;
        call_error(c, "LOADING", "no session for this connection yet: nothing was done, retry");
        return false;
    }
    if (c->conn->session == 0) {
        c->again = true;
        return false;
    }
    o->session = c->conn->session;
    return true;
}

static slice_t default_owner(struct call *c, const struct acquire_options *o, const struct request *r, char *text, size_t size)
{
    const char *node = node_name_of(c->n, c->n->opt.self);
    int len;
    if (o->owner.len > 0) {
        return o->owner;
    }
    if (o->connection) {
        len = snprintf(text, size, "connection:%s/%llu", node, (unsigned long long)c->conn->id);
    } else if (o->session != 0) {
        len = snprintf(text, size, "session:%llu", (unsigned long long)o->session);
    } else {
        len = snprintf(text, size, "request:%s/%llu/%llu", node, (unsigned long long)c->n->opt.incarnation, (unsigned long long)r->seq);
    }
    return slice_of(text, (size_t)len);
}

/* Numbers the operation and sends it on its way. */
static void submit(struct call *c, struct request *r, struct lock_op *op)
{
    op->req = request_id_of(c->n, r);
    op->low = request_low(c->n, r->group, r->waits);
    r->wait_ms = op->wait_ms;
    buf_put_u8(&r->payload, SERVICE_LOCKS);
    lock_op_encode(&r->payload, op);
    call_submit(c, r);
}

static void acquire(struct call *c, const slice_t *names, uint32_t count, enum lock_mode mode, uint32_t options_at)
{
    struct acquire_options o;
    if (!acquire_options(c, options_at, &o) || !use_connection_session(c, &o)) {
        return;
    }
    char owner[160];
    struct request *r = call_request(c, lock_group(names[0], c->n->opt.groups), REQUEST_WRITE, o.wait_ms > 0);
    struct lock_op op = {
        .kind = LOCK_OP_ACQUIRE,
        .idem = o.idem,
        .n = count,
        .resources = names,
        .mode = mode,
        .owner = default_owner(c, &o, r, owner, sizeof owner),
        .session = o.session,
        .ttl_ms = o.ttl_ms,
        .maxhold_ms = o.maxhold_ms,
        .wait_ms = o.wait_ms,
        .meta = o.meta,
    };
    submit(c, r, &op);
}

void handle_lock_acquire(struct call *c)
{
    enum lock_mode mode;
    if (arg_name(c, c->argv[1], "the resource", LIMIT_KEY_BYTES) && arg_mode(c, c->argv[2], &mode)) {
        acquire(c, &c->argv[1], 1, mode, 3);
    }
}

void handle_lock_acquireall(struct call *c)
{
    enum lock_mode mode;
    uint64_t count;
    if (!arg_mode(c, c->argv[1], &mode) || !arg_u64(c, c->argv[2], "numresources", 1, LIMIT_ACQUIREALL_NAMES, &count)) {
        return;
    }
    if (c->argc < 3 + count) {
        call_error(c, "ERR", "numresources is %llu but fewer resources follow", (unsigned long long)count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        slice_t name = c->argv[3 + i];
        if (!arg_name(c, name, "a resource", LIMIT_KEY_BYTES)) {
            return;
        }
        if (lock_group(name, c->n->opt.groups) != lock_group(c->argv[3], c->n->opt.groups)) {
            call_error(c, "CROSSGROUP", "the resources live in different groups: give them one tag, as in {orders}:1 {orders}:2");
            return;
        }
    }
    acquire(c, &c->argv[3], (uint32_t)count, mode, 3 + (uint32_t)count);
}

/* The options that RELEASE, RENEW, CONVERT and FORCE share. */
static bool held_options(struct call *c, uint32_t from, struct lock_op *op)
{
    for (uint32_t i = from; i < c->argc; i += 2) {
        slice_t word = c->argv[i], v;
        if (!option_value(c, i, &v)) {
            return false;
        }
        if (slice_ieq(word, "IDEM")) {
            op->idem = v;
            if (!arg_name(c, v, "IDEM", LIMIT_IDEM_BYTES)) {
                return false;
            }
        } else if (slice_ieq(word, "TTL") && op->kind == LOCK_OP_RENEW) {
            if (!arg_u64(c, v, "TTL", 1, LIMIT_TTL_MS, &op->ttl_ms)) {
                return false;
            }
        } else if (slice_ieq(word, "WAIT") && op->kind == LOCK_OP_CONVERT) {
            if (!option_wait(c, v, &op->wait_ms)) {
                return false;
            }
        } else if (slice_ieq(word, "REASON") && op->kind == LOCK_OP_FORCE) {
            op->reason = v;
            if (!arg_name(c, v, "REASON", LIMIT_REASON_BYTES)) {
                return false;
            }
        } else {
            call_error(c, "ERR", "syntax error: unknown option '%.*s'", shown_length(word), (const char *)word.ptr);
            return false;
        }
    }
    return true;
}

static void change_held(struct call *c, enum lock_op_kind kind, uint32_t options_at)
{
    struct lock_op op = {.kind = kind, .n = 1, .resources = &c->argv[1]};
    if (!arg_name(c, c->argv[1], "the resource", LIMIT_KEY_BYTES)) {
        return;
    }
    if (kind != LOCK_OP_FORCE && !arg_lock_id(c, c->argv[2], &op.lock_id)) {
        return;
    }
    if (kind == LOCK_OP_CONVERT && !arg_mode(c, c->argv[3], &op.mode)) {
        return;
    }
    if (!held_options(c, options_at, &op)) {
        return;
    }
    if (kind == LOCK_OP_FORCE && op.reason.len == 0) {
        call_error(c, "ERR", "LOCK.FORCE needs REASON: it is kept in the log");
        return;
    }
    struct request *r = call_request(c, lock_group(c->argv[1], c->n->opt.groups), REQUEST_WRITE, op.wait_ms > 0);
    submit(c, r, &op);
}

void handle_lock_release(struct call *c)
{
    change_held(c, LOCK_OP_RELEASE, 3);
}

void handle_lock_renew(struct call *c)
{
    change_held(c, LOCK_OP_RENEW, 3);
}

void handle_lock_convert(struct call *c)
{
    change_held(c, LOCK_OP_CONVERT, 4);
}

void handle_lock_force(struct call *c)
{
    change_held(c, LOCK_OP_FORCE, 2);
    if (c->later) {
        node_log(c->n, LOG_WARN, "LOCK.FORCE %.*s by %s: %.*s", (int)(c->argv[1].len < 128 ? c->argv[1].len : 128),
                 (const char *)c->argv[1].ptr, c->conn->remote, (int)(c->argv[3].len < 256 ? c->argv[3].len : 256),
                 (const char *)c->argv[3].ptr);
    }
}

void handle_session_create(struct call *c)
{
    struct lock_op op = {.kind = LOCK_OP_SESSION_CREATE};
    for (uint32_t i = 1; i < c->argc; i += 2) {
        slice_t word = c->argv[i], v;
        bool ok = option_value(c, i, &v);
        if (ok && slice_ieq(word, "TTL")) {
            ok = arg_u64(c, v, "TTL", 100, LIMIT_TTL_MS, &op.ttl_ms);
        } else if (ok && slice_ieq(word, "NAME")) {
            op.owner = v;
            ok = arg_name(c, v, "NAME", LIMIT_SESSION_NAME_BYTES);
        } else if (ok && slice_ieq(word, "IDEM")) {
            op.idem = v;
            ok = arg_name(c, v, "IDEM", LIMIT_IDEM_BYTES);
        } else if (ok) {
            call_error(c, "ERR", "syntax error: SESSION.CREATE takes TTL, NAME and IDEM");
            ok = false;
        }
        if (!ok) {
            return;
        }
    }
    submit(c, call_request(c, 0, REQUEST_WRITE, false), &op);
}

static void session_op(struct call *c, enum lock_op_kind kind)
{
    struct lock_op op = {.kind = kind};
    if (arg_u64(c, c->argv[1], "the session", 1, UINT64_MAX, &op.session)) {
        submit(c, call_request(c, 0, REQUEST_WRITE, false), &op);
    }
}

void handle_session_keepalive(struct call *c)
{
    session_op(c, LOCK_OP_SESSION_KEEPALIVE);
}

void handle_session_end(struct call *c)
{
    session_op(c, LOCK_OP_SESSION_END);
}
