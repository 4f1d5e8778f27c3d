/* Locks and sessions over HTTP: JSON fields to the arguments of the RESP command, its reply to JSON (share/openapi.json).
 *
 * A lock_id here is "id@resource", so that release, renew and convert need nothing else. Ids and tokens are strings. */
#include "nodes/doors/http_door.h"

#include "utils/limits.h"

enum { ARGS_MAX = 24, NUMBERS_MAX = 6 };

struct args {
    slice_t v[ARGS_MAX];
    uint32_t n;
    char numbers[NUMBERS_MAX][24];
    uint32_t n_numbers;
};

static void arg(struct args *a, slice_t s)
{
    syn_assert(a->n < ARGS_MAX);
    a->v[a->n++] = s;
}

static void arg_option(struct args *a, const char *name, slice_t value)
{
    if (value.len > 0) {
        arg(a, slice_str(name));
        arg(a, value);
    }
}

static slice_t number(struct args *a, uint64_t v)
{
    syn_assert(a->n_numbers < NUMBERS_MAX);
    char *text = a->numbers[a->n_numbers++];
    int n = snprintf(text, sizeof a->numbers[0], "%llu", (unsigned long long)v);
    return slice_of(text, (size_t)n);
}

static void arg_number(struct args *a, const char *name, uint64_t v)
{
    if (v > 0) {
        arg(a, slice_str(name));
        arg(a, number(a, v));
    }
}

static const char *const ID_KEYS[] = {"token", "lock_id", "session", "id", NULL};

static slice_t map_text(slice_t reply, const char *key)
{
    struct resp_value v;
    return resp_map_get(reply, key, &v) && (v.type == RT_BULK || v.type == RT_SIMPLE) ? v.str : SLICE_NONE;
}

static uint64_t map_number(slice_t reply, const char *key)
{
    struct resp_value v;
    return resp_map_get(reply, key, &v) && v.type == RT_INT ? (uint64_t)v.num : 0;
}

/* Tokens are integers while they fit into 63 bits, then strings. */
static void put_token(struct buf *b, slice_t reply, const char *name, const char *key)
{
    struct resp_value v = {0};
    resp_map_get(reply, key, &v);
    json_key(b, name);
    buf_put_u8(b, '"');
    buf_append_slice(b, v.str);
    buf_put_u8(b, '"');
}

static void put_field(struct buf *b, const char *name, slice_t value)
{
    json_key(b, name);
    json_put_string(b, value);
}

static void put_count(struct buf *b, const char *name, uint64_t v)
{
    json_key(b, name);
    buf_printf(b, "%llu", (unsigned long long)v);
}

static const char *mode_in_json(slice_t mode)
{
    return slice_ieq(mode, "SHARED") ? "shared" : "exclusive";
}

/* The grant of ACQUIRE and CONVERT. */
static void view_grant(struct http_answer *a, slice_t reply)
{
    struct buf *b = &a->body;
    slice_t resource = map_text(reply, "resource"), id = map_text(reply, "lock_id");
    uint64_t ttl_ms = map_number(reply, "ttl_ms");
    struct buf name = {0};
    buf_append_slice(&name, id);
    buf_put_u8(&name, '@');
    buf_append_slice(&name, resource);
    buf_put_u8(b, '{');
    put_field(b, "lock_id", buf_slice(&name));
    put_token(b, reply, "fencing_token", "token");
    put_field(b, "resource_id", resource);
    put_field(b, "lock_type", slice_str(mode_in_json(map_text(reply, "mode"))));
    put_field(b, "client_id", map_text(reply, "owner"));
    put_count(b, "ttl_ms", ttl_ms);
    put_count(b, "waited_ms", map_number(reply, "waited_ms"));
    json_key(b, "expires_at");
    buf_append_str(b, ttl_ms > 0 ? "\"" : "null");
    if (ttl_ms > 0) {
        log_time(b, a->n->wall_ms + ttl_ms);
        buf_put_u8(b, '"');
    }
    buf_put_u8(b, '}');
    buf_fini(&name);
}

/* "exclusive" or "shared", as the command spells it. */
static bool lock_type(struct json_in *in, bool need, slice_t *out)
{
    slice_t s = SLICE_NONE;
    if (!json_text(in, "lock_type", need, LIMIT_KEY_BYTES, &s)) {
        return false;
    }
    if (s.len > 0 && !slice_ieq(s, "exclusive") && !slice_ieq(s, "shared")) {
        snprintf(in->why, sizeof in->why, "lock_type must be \"exclusive\" or \"shared\"");
        return false;
    }
    *out = s.len > 0 ? s : SLICE_LIT("exclusive");
    return true;
}

void http_lock_acquire(struct http_call *h)
{
    static const char *const fields[] = {"resource_id", "lock_type", "client_id", "ttl",  "ttl_ms",      "timeout",
                                         "wait_ms",     "session",   "meta",      "max_hold_ms", NULL};
    struct json_in in;
    struct args a = {0};
    slice_t resource = SLICE_NONE, type = SLICE_NONE, client = SLICE_NONE, meta = SLICE_NONE;
    uint64_t ttl_ms = 0, wait_ms = 0, hold_ms = 0, session = 0;
    if (http_body(h, &in, fields)) {
        if (json_text(&in, "resource_id", true, LIMIT_KEY_BYTES, &resource) && lock_type(&in, false, &type) &&
            json_text(&in, "client_id", false, LIMIT_OWNER_BYTES, &client) && json_duration(&in, "ttl", 1, LIMIT_TTL_MS, &ttl_ms) &&
            json_duration_named(&in, "timeout", "wait_ms", 0, LIMIT_TTL_MS, &wait_ms) &&
            json_duration_named(&in, NULL, "max_hold_ms", 1, LIMIT_TTL_MS, &hold_ms) && json_id(&in, "session", false, &session) &&
            json_text(&in, "meta", false, LIMIT_META_BYTES, &meta)) {
            arg(&a, SLICE_LIT("LOCK.ACQUIRE"));
            arg(&a, resource);
            arg(&a, type);
            arg_option(&a, "OWNER", client);
            arg_number(&a, "SESSION", session);
            arg_number(&a, "TTL", ttl_ms);
            arg_number(&a, "WAIT", wait_ms);
            arg_number(&a, "MAXHOLD", hold_ms);
            arg_option(&a, "META", meta);
            arg_option(&a, "IDEM", h->req->idempotency_key);
            http_command(h, a.v, a.n, view_grant);
        } else {
            http_bad_field(h, &in);
        }
    }
    json_end(&in);
}

/* lock_id "id@resource", or the bare id with resource_id beside it. */
static bool held_lock(struct json_in *in, slice_t *resource, slice_t *id)
{
    slice_t given = SLICE_NONE;
    if (!json_text(in, "lock_id", true, LIMIT_KEY_BYTES + 24, id) || !json_text(in, "resource_id", false, LIMIT_KEY_BYTES, &given)) {
        return false;
    }
    const uint8_t *at = memchr(id->ptr, '@', id->len);
    *resource = given;
    if (at != NULL) {
        *resource = slice_of(at + 1, id->len - (size_t)(at + 1 - id->ptr));
        id->len = (size_t)(at - id->ptr);
    }
    if (resource->len == 0 || (given.len > 0 && !slice_eq(given, *resource))) {
        snprintf(in->why, sizeof in->why, at == NULL ? "lock_id must be \"id@resource\", or come with resource_id"
                                                     : "lock_id and resource_id name different resources");
        return false;
    }
    return true;
}

static void view_released(struct http_answer *a, slice_t reply)
{
    (void)reply;
    buf_append_str(&a->body, "{\"released\":true}");
}

static void view_renewed(struct http_answer *a, slice_t reply)
{
    (void)reply;
    buf_append_str(&a->body, "{\"renewed\":true}");
}

void http_lock_release(struct http_call *h)
{
    static const char *const fields[] = {"lock_id", "resource_id", "client_id", NULL};
    struct json_in in;
    slice_t resource, id;
    if (http_body(h, &in, fields)) {
        if (held_lock(&in, &resource, &id)) {
            struct args a = {.v = {SLICE_LIT("LOCK.RELEASE"), resource, id}, .n = 3};
            arg_option(&a, "IDEM", h->req->idempotency_key);
            http_command(h, a.v, a.n, view_released);
        } else {
            http_bad_field(h, &in);
        }
    }
    json_end(&in);
}

void http_lock_renew(struct http_call *h)
{
    static const char *const fields[] = {"lock_id", "resource_id", "client_id", "ttl", "ttl_ms", NULL};
    struct json_in in;
    slice_t resource, id;
    uint64_t ttl_ms = 0;
    if (http_body(h, &in, fields)) {
        if (held_lock(&in, &resource, &id) && json_duration(&in, "ttl", 1, LIMIT_TTL_MS, &ttl_ms)) {
            struct args a = {.v = {SLICE_LIT("LOCK.RENEW"), resource, id}, .n = 3};
            arg_number(&a, "TTL", ttl_ms);
            arg_option(&a, "IDEM", h->req->idempotency_key);
            http_command(h, a.v, a.n, view_renewed);
        } else {
            http_bad_field(h, &in);
        }
    }
    json_end(&in);
}

void http_lock_convert(struct http_call *h)
{
    static const char *const fields[] = {"lock_id", "resource_id", "client_id", "lock_type", "timeout", "wait_ms", NULL};
    struct json_in in;
    slice_t resource, id, type;
    uint64_t wait_ms = 0;
    if (http_body(h, &in, fields)) {
        if (held_lock(&in, &resource, &id) && lock_type(&in, true, &type) &&
            json_duration_named(&in, "timeout", "wait_ms", 0, LIMIT_TTL_MS, &wait_ms)) {
            struct args a = {.v = {SLICE_LIT("LOCK.CONVERT"), resource, id, type}, .n = 4};
            arg_number(&a, "WAIT", wait_ms);
            arg_option(&a, "IDEM", h->req->idempotency_key);
            http_command(h, a.v, a.n, view_grant);
        } else {
            http_bad_field(h, &in);
        }
    }
    json_end(&in);
}

static void view_forced(struct http_answer *a, slice_t reply)
{
    buf_put_u8(&a->body, '{');
    put_count(&a->body, "freed", map_number(reply, "freed"));
    put_token(&a->body, reply, "fencing_token", "token");
    buf_put_u8(&a->body, '}');
}

void http_lock_force(struct http_call *h)
{
    static const char *const fields[] = {"resource_id", "reason", NULL};
    struct json_in in;
    slice_t resource = SLICE_NONE, reason = SLICE_NONE;
    if (http_body(h, &in, fields)) {
        if (json_text(&in, "resource_id", true, LIMIT_KEY_BYTES, &resource) && json_text(&in, "reason", true, LIMIT_REASON_BYTES, &reason)) {
            struct args a = {.v = {SLICE_LIT("LOCK.FORCE"), resource, SLICE_LIT("REASON"), reason}, .n = 4};
            arg_option(&a, "IDEM", h->req->idempotency_key);
            http_command(h, a.v, a.n, view_forced);
        } else {
            http_bad_field(h, &in);
        }
    }
    json_end(&in);
}

/* The owners of `holders`, as JSON strings. */
static void put_owners(struct buf *b, slice_t holders)
{
    struct reader r = reader_of(holders);
    struct resp_value head;
    bool first = true;
    if (!resp_next(&r, &head)) {
        return;
    }
    for (uint32_t i = 0; i < head.count; i++) {
        const uint8_t *at = r.p;
        if (!resp_skip(&r)) {
            return;
        }
        if (!first) {
            buf_put_u8(b, ',');
        }
        json_put_string(b, map_text(slice_of(at, (size_t)(r.p - at)), "owner"));
        first = false;
    }
}

static void view_info(struct http_answer *a, slice_t reply)
{
    struct buf *b = &a->body;
    slice_t state = map_text(reply, "state"), holders = SLICE_LIT("*0\r\n"), waiters = SLICE_LIT("*0\r\n");
    resp_map_value(reply, "holders", &holders);
    resp_map_value(reply, "waiters", &waiters);
    buf_put_u8(b, '{');
    put_field(b, "resource_id", map_text(reply, "resource"));
    put_field(b, "state", state);
    json_key(b, "exclusive_owner");
    size_t at = b->len;
    if (slice_ieq(state, "EXCLUSIVE")) {
        put_owners(b, holders);
    }
    if (b->len == at) {
        buf_append_str(b, "null");
    }
    json_key(b, "shared_owners");
    buf_put_u8(b, '[');
    if (slice_ieq(state, "SHARED")) {
        put_owners(b, holders);
    }
    buf_put_u8(b, ']');
    put_token(b, reply, "fencing_token", "token");
    put_count(b, "queue_length", map_number(reply, "queue_length"));
    json_key(b, "holders");
    resp_to_json(b, holders, ID_KEYS);
    json_key(b, "waiters");
    resp_to_json(b, waiters, ID_KEYS);
    buf_put_u8(b, '}');
}

void http_lock_info(struct http_call *h)
{
    const slice_t argv[] = {SLICE_LIT("LOCK.INFO"), h->rest};
    http_command(h, argv, 2, view_info);
}

/* [cursor, [lock ...]] */
static void view_locks(struct http_answer *a, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct resp_value head, cursor = {0};
    resp_next(&r, &head);
    resp_next(&r, &cursor);
    buf_put_u8(&a->body, '{');
    json_key(&a->body, "locks");
    resp_to_json(&a->body, slice_of(r.p, reader_left(&r)), ID_KEYS);
    put_field(&a->body, "cursor", cursor.str);
    buf_put_u8(&a->body, '}');
}

static void query_option(struct http_call *h, struct args *a, const char *param, const char *option)
{
    slice_t v;
    if (http_query(h->req, param, &v)) {
        arg(a, slice_str(option));
        arg(a, v);
    }
}

void http_locks(struct http_call *h)
{
    struct args a = {.v = {SLICE_LIT("LOCK.LIST")}, .n = 1};
    query_option(h, &a, "match", "MATCH");
    query_option(h, &a, "group", "GROUP");
    query_option(h, &a, "cursor", "CURSOR");
    query_option(h, &a, "count", "COUNT");
    http_command(h, a.v, a.n, view_locks);
}

static void view_edges(struct http_answer *a, slice_t reply)
{
    buf_append_str(&a->body, "{\"edges\":");
    resp_to_json(&a->body, reply, ID_KEYS);
    buf_put_u8(&a->body, '}');
}

static void view_dot(struct http_answer *a, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct resp_value v = {0};
    resp_next(&r, &v);
    a->type = "text/vnd.graphviz; charset=utf-8";
    buf_append_slice(&a->body, v.str);
}

void http_locks_graph(struct http_call *h)
{
    struct args a = {.v = {SLICE_LIT("LOCK.WAITGRAPH")}, .n = 1};
    slice_t format = SLICE_LIT("json");
    http_query(h->req, "format", &format);
    bool dot = slice_eq(format, SLICE_LIT("dot"));
    if (!dot && !slice_eq(format, SLICE_LIT("json"))) {
        http_refuse(h, 400, "ERR", NULL, "format must be json or dot");
        return;
    }
    if (dot) {
        arg(&a, SLICE_LIT("DOT"));
    }
    query_option(h, &a, "group", "GROUP");
    http_command(h, a.v, a.n, dot ? view_dot : view_edges);
}

static void view_session(struct http_answer *a, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct resp_value v = {0};
    resp_next(&r, &v);
    a->status = 201;
    buf_put_u8(&a->body, '{');
    put_field(&a->body, "session", v.str);
    buf_put_u8(&a->body, '}');
}

void http_session_create(struct http_call *h)
{
    static const char *const fields[] = {"ttl", "ttl_ms", "name", NULL};
    struct json_in in;
    slice_t name = SLICE_NONE;
    uint64_t ttl_ms = 0;
    if (http_body(h, &in, fields)) {
        if (json_duration(&in, "ttl", 100, LIMIT_TTL_MS, &ttl_ms) && json_text(&in, "name", false, LIMIT_SESSION_NAME_BYTES, &name)) {
            struct args a = {.v = {SLICE_LIT("SESSION.CREATE")}, .n = 1};
            arg_number(&a, "TTL", ttl_ms);
            arg_option(&a, "NAME", name);
            arg_option(&a, "IDEM", h->req->idempotency_key);
            http_command(h, a.v, a.n, view_session);
        } else {
            http_bad_field(h, &in);
        }
    }
    json_end(&in);
}

static void view_kept(struct http_answer *a, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct resp_value v = {0};
    resp_next(&r, &v);
    buf_put_u8(&a->body, '{');
    put_count(&a->body, "ttl_ms", (uint64_t)v.num);
    buf_put_u8(&a->body, '}');
}

void http_session_keepalive(struct http_call *h)
{
    const slice_t argv[] = {SLICE_LIT("SESSION.KEEPALIVE"), h->rest};
    http_command(h, argv, 2, view_kept);
}

static void view_ended(struct http_answer *a, slice_t reply)
{
    (void)reply;
    buf_append_str(&a->body, "{\"ended\":true}");
}

void http_session_end(struct http_call *h)
{
    const slice_t argv[] = {SLICE_LIT("SESSION.END"), h->rest};
    http_command(h, argv, 2, view_ended);
}

static void view_sessions(struct http_answer *a, slice_t reply)
{
    buf_append_str(&a->body, "{\"sessions\":");
    resp_to_json(&a->body, reply, ID_KEYS);
    buf_put_u8(&a->body, '}');
}

void http_sessions(struct http_call *h)
{
    const slice_t argv[] = {SLICE_LIT("SESSION.LIST")};
    http_command(h, argv, 1, view_sessions);
}
