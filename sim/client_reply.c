/* Requests as bytes, and what replies mean for the operation that waited for them.
 *
 * Every reply is read to its end; one that does not parse, comes unasked, or says what no such request can be told fails the seed. */
#include "sim_cache.h"
#include "sim_queue.h"

#include "communication/resp.h"
#include "utils/errors.h"

#include <stdio.h>

static void put(struct buf *b, const char *text)
{
    buf_printf(b, "$%zu\r\n%s\r\n", strlen(text), text);
}

static void put_number(struct buf *b, uint64_t v)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)v);
    put(b, text);
}

static const char *mode_word(uint8_t mode)
{
    return mode == 2 ? "EXCLUSIVE" : "SHARED";
}

/* The words after resource and mode; counts them into *n. */
static void acquire_words(struct sim *s, const struct sim_op *o, uint64_t number, struct buf *b, uint32_t *n)
{
    char owner[32];
    bool shared_owner = strcmp(s->resources[o->resource].name, "again") == 0;
    unsigned long long id = shared_owner ? o->client % 2 : number;
    snprintf(owner, sizeof owner, "%c%llu", shared_owner ? 'a' : 'o', id);
    put(b, "OWNER");
    put(b, owner);
    *n += 2;
    if (o->session == UINT64_MAX) {
        put(b, "CONNECTION");
        *n += 1;
    } else if (o->session != 0) {
        put(b, "SESSION");
        put_number(b, o->session);
        *n += 2;
    } else {
        put(b, "TTL");
        put_number(b, o->ttl_ms);
        *n += 2;
    }
    if (o->wait_ms > 0) {
        put(b, "WAIT");
        put_number(b, o->wait_ms);
        *n += 2;
    }
    if (!o->untracked) {
        put(b, "IDEM");
        put(b, owner);
        *n += 2;
    }
}

static void acquire_write(struct sim *s, const struct sim_op *o, uint64_t number, struct buf *out)
{
    struct buf b = {0};
    uint32_t n = 3;
    if (o->kind == OP_ACQUIRE) {
        put(&b, "LOCK.ACQUIRE");
        put(&b, s->resources[o->resource].name);
        put(&b, mode_word(o->mode));
    } else {
        put(&b, "LOCK.ACQUIREALL");
        put(&b, mode_word(o->mode));
        put(&b, "3");
        put(&b, "{all}1");
        put(&b, "{all}2");
        put(&b, "{all}3");
        n = 6;
    }
    acquire_words(s, o, number, &b, &n);
    buf_printf(out, "*%u\r\n", n);
    buf_append_slice(out, buf_slice(&b));
    buf_fini(&b);
}

static void admin_write(struct sim *s, const struct sim_op *o, struct buf *out)
{
    char text[64];
    if (o->lock_id == FAULT_OP_TRANSFER) {
        buf_append_str(out, "*3\r\n");
        put(out, "CLUSTER.TRANSFER");
        put_number(out, o->token);
        snprintf(text, sizeof text, "n%u", (unsigned)o->newest);
    } else if (s->removed == 0) {
        s->shrank = s->shrank ? s->shrank : (uint32_t)o->newest;
        s->removed = s->shrank;
        buf_append_str(out, "*2\r\n");
        put(out, "CLUSTER.REMOVE");
        snprintf(text, sizeof text, "n%u", s->removed);
    } else {
        buf_append_str(out, "*2\r\n");
        put(out, "CLUSTER.ADD");
        snprintf(text, sizeof text, "n%u@h%u:7380", s->removed, s->removed);
        s->removed = 0;
    }
    put(out, text);
}

static void held_write(const struct sim_resource *r, const char *word, uint64_t id, uint32_t n, struct buf *out)
{
    buf_printf(out, "*%u\r\n", n);
    put(out, word);
    put(out, r->name);
    put_number(out, id);
}

void op_write(struct sim *s, struct sim_client *c, uint64_t op, struct buf *out)
{
    const struct sim_op *o = &s->ops[op];
    const struct sim_resource *r = &s->resources[o->resource];
    (void)c;
    switch (o->kind) {
    case OP_ACQUIRE:
    case OP_ACQUIREALL: acquire_write(s, o, op, out); break;
    case OP_RELEASE: held_write(r, "LOCK.RELEASE", o->lock_id, 3, out); break;
    case OP_RENEW:
        held_write(r, "LOCK.RENEW", o->lock_id, 5, out);
        put(out, "TTL");
        put_number(out, o->ttl_ms);
        break;
    case OP_CONVERT:
        held_write(r, "LOCK.CONVERT", o->lock_id, 4, out);
        put(out, mode_word(o->mode));
        break;
    case OP_CHECK: held_write(r, "LOCK.CHECK", o->token, 3, out); break;
    case OP_INFO:
        buf_append_str(out, "*2\r\n");
        put(out, "LOCK.INFO");
        put(out, r->name);
        break;
    case OP_SESSION_CREATE:
        buf_append_str(out, "*3\r\n");
        put(out, "SESSION.CREATE");
        put(out, "TTL");
        put_number(out, o->ttl_ms);
        break;
    case OP_SESSION_KEEPALIVE:
    case OP_SESSION_END:
        buf_append_str(out, "*2\r\n");
        put(out, o->kind == OP_SESSION_END ? "SESSION.END" : "SESSION.KEEPALIVE");
        put_number(out, o->session);
        break;
    case OP_PING: buf_append_str(out, "PING\r\n"); break;
    case OP_HELLO: buf_append_str(out, "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"); break;
    case OP_ADMIN: admin_write(s, o, out); break;
    case OP_QUEUE: queue_ask_write(s, op, out); break;
    case OP_CACHE: cache_ask_write(s, op, out); break;
    default: SYN_UNREACHABLE();
    }
}

static uint64_t number_of(const struct resp_value *v)
{
    uint64_t id = 0;
    if (v->type == RT_INT) {
        return (uint64_t)v->num;
    }
    for (size_t i = 0; i < v->str.len; i++) {
        id = id * 10 + (uint64_t)(v->str.ptr[i] - '0');
    }
    return id;
}

static void surprise(struct sim *s, const struct sim_op *o, slice_t reply)
{
    sim_fail(s, "client %u: operation %u was answered %.*s", o->client, o->kind, (int)(reply.len < 160 ? reply.len : 160),
             (const char *)reply.ptr);
}

static void on_error(struct sim *s, struct sim_op *o, slice_t reply, slice_t text)
{
    enum error_word w;
    s->r->answers_error++;
    if (o->kind == OP_QUEUE) {
        queue_on_error(s, o, text);
        return;
    }
    if (o->kind == OP_CACHE) {
        cache_on_error(s, o, text);
        return;
    }
    if (!error_find(text, &w) || (w == ERROR_ERR && o->kind != OP_ADMIN)) {
        surprise(s, o, reply);
        return;
    }
    switch (w) {
    case ERROR_LOCKED: o->status = OP_REFUSED; break;
    case ERROR_STALE: o->status = OP_STALE; break;
    case ERROR_UNCERTAIN:
        s->r->answers_uncertain++;
        o->status = OP_UNKNOWN;
        break;
    default: o->status = OP_NOT_DONE; break;
    }
}

static void on_grant(struct sim *s, struct sim_op *o, slice_t reply)
{
    struct resp_value v;
    slice_t map = reply;
    if (o->kind == OP_ACQUIREALL) { /* the first of three maps */
        struct reader r = reader_of(reply);
        resp_next(&r, &v);
        map = slice_of(r.p, reader_left(&r));
        map.len = resp_reply_size(map);
    }
    if (!resp_map_get(map, "token", &v)) {
        surprise(s, o, reply);
        return;
    }
    o->token = number_of(&v);
    if (!resp_map_get(map, "lock_id", &v)) {
        surprise(s, o, reply);
        return;
    }
    o->lock_id = number_of(&v);
}

static void on_ok(struct sim *s, struct sim_op *o, slice_t reply, const struct resp_value *v, struct reader *r)
{
    struct resp_value newest;
    s->r->answers_ok++;
    o->status = OP_OK;
    switch (o->kind) {
    case OP_ACQUIRE:
    case OP_ACQUIREALL:
    case OP_CONVERT: on_grant(s, o, reply); break;
    case OP_CHECK:
        o->newest = 0;
        if (v->type == RT_ARRAY && resp_next(r, &newest) && resp_next(r, &newest)) {
            o->newest = number_of(&newest);
        } else if (v->type != RT_INT) {
            surprise(s, o, reply);
        }
        break;
    case OP_SESSION_CREATE: o->session = number_of(v); break;
    case OP_PING:
        if (v->type != RT_SIMPLE || !slice_eq(v->str, SLICE_LIT("PONG"))) {
            surprise(s, o, reply);
        }
        break;
    case OP_RELEASE:
    case OP_RENEW:
        if (v->type != RT_INT || v->num != 1) {
            surprise(s, o, reply);
        }
        break;
    default: break;
    }
}

/* K5: from here on, so long, nobody may take the lock away by time. */
static void note_safe(struct sim *s, struct sim_op *o)
{
    if (o->status != OP_OK || o->session != 0) {
        return;
    }
    uint64_t safe = o->call_us + o->ttl_ms * 1000ull * (100 - TTL_MARGIN_PERCENT) / 100 - 3000;
    struct sim_op *lock = o->kind == OP_RENEW ? &s->ops[o->owner] : o->kind == OP_ACQUIRE && !o->retried ? o : NULL;
    if (lock != NULL && safe > lock->safe_until_us) {
        if (lock->ended && lock->expired && lock->end_us < safe) {
            sim_fail(s, "K5: o%llu expired although it was renewed or granted in time", (unsigned long long)(lock - s->ops));
        }
        lock->safe_until_us = safe;
    }
}

static void answered(struct sim *s, struct sim_client *c, uint64_t op, slice_t reply)
{
    struct sim_op *o = &s->ops[op];
    struct reader r = reader_of(reply);
    struct resp_value v;
    o->return_us = s->now_us;
    if (!resp_next(&r, &v)) {
        surprise(s, o, reply);
        return;
    }
    if (v.type == RT_ERROR) {
        on_error(s, o, reply, v.str);
    } else if (o->kind == OP_QUEUE) {
        s->r->answers_ok++;
        queue_on_ok(s, c, op, reply);
    } else if (o->kind == OP_CACHE) {
        s->r->answers_ok++;
        cache_on_ok(s, op, reply);
    } else {
        on_ok(s, o, reply, &v, &r);
    }
    TRACE(s, "client %u op %llu kind %u %s: %.*s", c->index, (unsigned long long)op, o->kind, s->resources[o->resource].name,
          (int)(reply.len < 60 ? reply.len : 60), (const char *)reply.ptr);
    if (!s->failed && (o->kind == OP_ACQUIRE || o->kind == OP_ACQUIREALL) && o->status == OP_OK &&
        strcmp(s->resources[o->resource].name, "again") != 0) {
        lock_check_granted(s, o);
    }
    note_safe(s, o);
    sim_mix(s, op << 8 ^ o->status ^ o->token << 20);
    client_answered(s, c, op);
}

void client_input(struct sim *s, struct sim_client *c, slice_t bytes)
{
    buf_append_slice(&c->in, bytes);
    int32_t conn = c->conn;
    size_t at = 0;
    while (!s->failed && at < c->in.len) {
        slice_t in = slice_of(c->in.ptr + at, c->in.len - at);
        size_t len = resp_reply_size(in);
        if (len == 0) {
            break;
        }
        if (len == SIZE_MAX || c->expect_count == 0) {
            sim_fail(s, "client %u was sent %s: %.*s", c->index, len == SIZE_MAX ? "malformed bytes" : "a reply it did not ask for",
                     (int)(in.len < 120 ? in.len : 120), (const char *)in.ptr);
            return;
        }
        uint64_t op = c->expect[c->expect_at];
        c->expect_at = (c->expect_at + 1) % SIM_EXPECT_MAX;
        c->expect_count--;
        at += len;
        answered(s, c, op, slice_of(in.ptr, len));
        if (c->conn != conn || conn < 0) {
            return; /* it closed the connection: the rest is not read */
        }
    }
    buf_consume(&c->in, at);
}
