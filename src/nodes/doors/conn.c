/* Client connections: their bytes in, their replies out in the order of their commands, back-pressure, and what ends with them.
 *
 * Invariants: D1 replies leave in the order of the commands that asked for them; a blocked command holds the replies behind it,
 * not their execution. D2 a connection that does not read its replies is closed once its output passes the limit (I10, L5);
 * before that its commands are no longer read. D3 what a connection waits for is cancelled when it closes. D4 commands of one key or one resource meet
 * in its order by themselves; one that is about many, or about the connection, begins when all before it are answered, and none begins before its end. */
#include "nodes/doors/cache_door.h"
#include "nodes/doors/door.h"
#include "nodes/doors/queue_door.h"

#include "utils/hash.h"
#include "utils/limits.h"

#include <stdio.h>
#include <stdlib.h>

enum { SLOTS_FIRST = 4, PAUSE_OUTPUT_BYTES = 1024 * 1024, CLOSE_MS = 2000, AHEAD = 16 };

static bool conn_eq(const struct map_node *m, const void *key)
{
    return CONTAINER_OF(m, struct conn, by_id)->id == *(const conn_id_t *)key;
}

struct conn *conn_find(struct node *n, conn_id_t id)
{
    struct map_node *m = map_find(&n->doors->conns, hash_u64(id), &id, conn_eq);
    return m != NULL ? CONTAINER_OF(m, struct conn, by_id) : NULL;
}

struct doors *doors_new(struct node *n)
{
    struct doors *d = calloc(1, sizeof *d);
    syn_assert(d != NULL);
    map_init(&d->conns);
    map_init(&d->watches);
    list_init(&d->all);
    list_init(&d->dirty);
    list_init(&d->walks);
    list_init(&d->keys_walks);
    cache_doors_init(d);
    struct list *lists[] = {&d->put_off, &d->put_off_fresh, &d->batches, &d->batches_sent, &d->publish_retries, &d->publish_multis, &d->members_all, &d->joins,
                            &d->consumes, &d->multis};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        list_init(lists[i]);
    }
    map_init(&d->topics);
    map_init(&d->topics_by_id);
    map_init(&d->members);
    wheel_init(&d->consume_wheel, n->now_ms);
    d->next_timer_ms = UINT64_MAX;
    commands_build(d);
    return d;
}

static void resp_limits_of(const struct node *n, const struct conn *c, struct resp_limits *l)
{
    bool open = c->authenticated || n->opt.requirepass[0] == '\0';
    *l = (struct resp_limits){
        .args_max = open ? LIMIT_RESP_ARGS : LIMIT_PREAUTH_ARGS,
        .bulk_bytes_max = open ? LIMIT_VALUE_BYTES : LIMIT_PREAUTH_ARG_BYTES,
        .inline_bytes_max = LIMIT_INLINE_BYTES,
        .command_bytes_max = open ? LIMIT_COMMAND_BYTES : LIMIT_PREAUTH_BYTES,
    };
}

void conn_set_authenticated(struct node *n, struct conn *c, bool yes)
{
    c->authenticated = yes;
    c->stranger_ms = n->now_ms;
    struct resp_limits l;
    resp_limits_of(n, c, &l);
    resp_parser_set_limits(&c->resp, &l);
}

void doors_opened(struct node *n, conn_id_t id, enum door_kind kind, const char *remote)
{
    struct doors *d = n->doors;
    struct conn *c = calloc(1, sizeof *c);
    syn_assert(c != NULL && conn_find(n, id) == NULL);
    c->id = id;
    c->kind = kind;
    c->proto = 2;
    c->opened_ms = c->last_ms = c->stranger_ms = n->now_ms;
    c->authenticated = n->opt.requirepass[0] == '\0';
    snprintf(c->remote, sizeof c->remote, "%s", remote ? remote : "?");
    list_init(&c->dirty);
    list_init(&c->crowd);
    list_init(&c->watches);
    list_init(&c->consumes);
    list_init(&c->tracked);
    list_init(&c->of_bcast);
    struct resp_limits l;
    resp_limits_of(n, c, &l);
    resp_parser_init(&c->resp, &l);
    map_insert(&d->conns, &c->by_id, hash_u64(id));
    list_push_back(&d->all, &c->all);
    d->n_conns++;
    d->total_conns++;
    metrics_add_at(&n->metrics, METRIC_CONNECTIONS_TOTAL, kind == DOOR_RESP ? METRIC_DOOR_RESP : METRIC_DOOR_HTTP, 1);
    conn_clock_opened(n, c);
}

static void conn_free(struct doors *d, struct conn *c)
{
    track_forget(d, c);
    map_remove(&d->conns, &c->by_id);
    list_remove(&c->all);
    list_remove(&c->dirty);
    list_remove(&c->crowd);
    d->n_conns--;
    for (uint32_t i = 0; i < c->slots_cap; i++) {
        buf_fini(&c->slots[i].reply);
    }
    free(c->slots);
    buf_fini(&c->out);
    buf_fini(&c->prefixes);
    resp_parser_fini(&c->resp);
    http_door_fini(c);
    free(c);
}

void conn_touch(struct node *n, struct conn *c)
{
    if (list_empty(&c->dirty)) {
        list_push_back(&n->doors->dirty, &c->dirty);
    }
}

void conn_bytes(struct node *n, struct conn *c, slice_t bytes)
{
    buf_append_slice(&c->out, bytes);
    conn_touch(n, c);
}

void conn_notify(struct node *n, struct conn *c, slice_t resp3)
{
    if (!c->closing) {
        resp_convert(&c->out, resp3, c->proto);
        conn_touch(n, c);
    }
}

void conn_push(struct node *n, struct conn *c, slice_t resp3)
{
    if (c->proto == 3 && !c->closing) {
        conn_bytes(n, c, resp3);
    }
}

struct door_slot *conn_slot(struct conn *c, uint64_t slot)
{
    syn_assert(slot >= c->first_slot && slot < c->next_slot);
    return &c->slots[slot & (c->slots_cap - 1)];
}

static uint64_t conn_new_slot(struct conn *c)
{
    uint64_t used = c->next_slot - c->first_slot;
    if (used == c->slots_cap) {
        uint32_t cap = c->slots_cap ? c->slots_cap * 2 : SLOTS_FIRST;
        struct door_slot *s = calloc(cap, sizeof *s);
        syn_assert(s != NULL);
        for (uint64_t i = c->first_slot; i < c->next_slot; i++) {
            s[i & (cap - 1)] = c->slots[i & (c->slots_cap - 1)];
        }
        free(c->slots);
        c->slots = s;
        c->slots_cap = cap;
    }
    struct door_slot *s = &c->slots[c->next_slot & (c->slots_cap - 1)];
    struct buf keep = s->reply;
    buf_clear(&keep);
    *s = (struct door_slot){.reply = keep};
    return c->next_slot++;
}

static void write_reply(struct node *n, struct conn *c, const struct door_slot *s, slice_t reply)
{
    if (c->kind == DOOR_HTTP) {
        http_door_reply(n, c, s, reply);
    } else {
        resp_convert(&c->out, reply, c->proto);
    }
}

/* Input that was understood and not taken, by the word of its error. Bytes that were not understood are counted where they came. */
static void count_refusal(struct node *n, slice_t error)
{
    static const struct {
        enum error_word word;
        enum refused_reason reason;
    } rows[] = {{ERROR_ERR, REFUSED_ARGUMENT}, {ERROR_NOPROTO, REFUSED_ARGUMENT}, {ERROR_LIMIT, REFUSED_LIMIT},
                {ERROR_NOAUTH, REFUSED_NOAUTH}, {ERROR_BUSY, REFUSED_BUSY}};
    enum error_word word;
    if (!error_find(error, &word)) {
        return;
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].word == word) {
            metrics_refused(&n->metrics, rows[i].reason);
        }
    }
}

void conn_reply(struct node *n, struct conn *c, uint64_t slot, slice_t resp3)
{
    if (resp3.len > 0 && resp3.ptr[0] == '-') {
        count_refusal(n, resp3);
    }
    conn_answer(n, c, slot, resp3);
}

/* D1: writes what became the oldest, and everything behind it that was waiting only for that. */
void conn_answer(struct node *n, struct conn *c, uint64_t slot, slice_t resp3)
{
    struct door_slot *s = conn_slot(c, slot);
    syn_assert(!s->done);
    s->done = true;
    s->req = 0;
    if (slot != c->first_slot) {
        buf_append_slice(&s->reply, resp3);
        return;
    }
    write_reply(n, c, s, resp3);
    c->first_slot++;
    while (c->first_slot < c->next_slot) {
        s = conn_slot(c, c->first_slot);
        if (!s->done) {
            break;
        }
        write_reply(n, c, s, buf_slice(&s->reply));
        c->first_slot++;
    }
    conn_touch(n, c);
}

void conn_close(struct node *n, struct conn *c)
{
    if (!c->closing) {
        c->closing = true;
        conn_touch(n, c);
    }
}

void conn_pause(struct node *n, struct conn *c)
{
    if (!c->paused) {
        c->paused = true;
        effects_add(n->fx, EF_PAUSE_CONN)->conn = c->id;
    }
}

static bool waits_alone(const struct conn *c)
{
    return c->alone && c->first_slot < c->next_slot;
}

void conn_resume(struct node *n, struct conn *c)
{
    uint64_t most = c->kind == DOOR_RESP ? LIMIT_PIPELINE : LIMIT_HTTP_PIPELINE;
    if (c->paused && !c->retry && !waits_alone(c) && c->guess_until_ms == 0 && c->next_slot - c->first_slot < most && c->unsent_bytes < PAUSE_OUTPUT_BYTES) {
        c->paused = false;
        effects_add(n->fx, EF_RESUME_CONN)->conn = c->id;
    }
}

void conn_refuse(struct node *n, struct conn *c, enum refused_reason counted, const char *word, const char *text)
{
    struct buf b = {0};
    resp_error(&b, word, "%s", text);
    uint64_t slot = conn_new_slot(c);
    conn_answer(n, c, slot, buf_slice(&b));
    buf_fini(&b);
    metrics_refused(&n->metrics, counted);
    conn_close(n, c);
}

static void conn_protocol_error(struct node *n, struct conn *c, const char *reason)
{
    char text[256];
    snprintf(text, sizeof text, "Protocol error: %s", reason);
    bool http = strncmp(reason, "HTTP ", 5) == 0;
    conn_refuse(n, c, http ? REFUSED_CROSS_PROTOCOL : REFUSED_RESP, "ERR", text);
}

/* Short commands that were read before their turn, so that the lines of all their keys come into the processor's cache at once. */
struct ahead {
    struct ahead_command { struct resp_short words; bool placed; struct cache_place place; } commands[AHEAD];
    uint32_t next, n;
    size_t end;  /* of those that were read */
    bool over;   /* what follows is not short: the connection's parser reads it when its turn comes */
};
_Static_assert((int)RESP_SHORT_WORDS <= LIMIT_PREAUTH_ARGS && (int)RESP_SHORT_BYTES <= LIMIT_PREAUTH_ARG_BYTES &&
               RESP_SHORT_WORDS * (RESP_SHORT_BYTES + 16) <= LIMIT_PREAUTH_BYTES, "short commands are within every connection's limits");

static void read_ahead(struct node *n, struct ahead *a, slice_t data)
{
    uint32_t hashes[AHEAD], n_hashes = 0;
    a->next = 0;
    for (a->n = 0; !a->over && a->n < AHEAD; a->n++) {
        struct ahead_command *k = &a->commands[a->n];
        if (!resp_short(slice_of(data.ptr + a->end, data.len - a->end), &k->words)) {
            a->over = true;
            break;
        }
        a->end += k->words.size;
        k->placed = k->words.argc > 1 && k->words.argv[0].len == 3; /* GET, SET, DEL */
        if (k->placed) {
            k->place = cache_place(n, k->words.argv[1]);
            hashes[n_hashes++] = k->place.hash;
        }
    }
    if (n_hashes > 1) {
        cacher_expect(n->cache.cacher, hashes, n_hashes);
    }
}

/* The next command into the call; argc 0: nothing to do. */
static enum resp_status read_next(struct ahead *a, slice_t data, struct call *c, size_t *size, const char **reason)
{
    struct resp_parser *p = &c->conn->resp;
    if (a->next == a->n) {
        read_ahead(c->n, a, data);
    }
    if (a->next < a->n) {
        const struct ahead_command *k = &a->commands[a->next++];
        c->argv = k->words.argv;
        c->argc = k->words.argc;
        c->placed = k->placed;
        c->place = k->place;
        *size = k->words.size;
        return RESP_OK;
    }
    enum resp_status st = resp_parse(p, slice_of(data.ptr + a->end, data.len - a->end), size, reason);
    if (st == RESP_OK) {
        c->argv = p->argv;
        c->argc = p->argc;
        a->end += *size;
        a->over = false;
    }
    return st;
}

static size_t resp_door_data(struct node *n, struct conn *c, slice_t data)
{
    size_t at = 0;
    struct ahead ahead;
    ahead.next = ahead.n = 0;
    ahead.end = 0;
    ahead.over = !resp_parser_is_idle(&c->resp);
    while (at < data.len && !c->closing) {
        if (c->guess_until_ms != 0 || waits_alone(c) || c->next_slot - c->first_slot >= LIMIT_PIPELINE || c->unsent_bytes + c->out.len >= PAUSE_OUTPUT_BYTES) {
            conn_pause(n, c);
            break;
        }
        c->alone = false;
        struct call call = {.n = n, .conn = c};
        size_t size = 0;
        const char *reason = NULL;
        enum resp_status st = read_next(&ahead, data, &call, &size, &reason);
        if (st == RESP_MORE) {
            break;
        }
        if (st == RESP_BAD) {
            conn_protocol_error(n, c, reason);
            return data.len;
        }
        if (call.argc > 0 && command_execute(&call)) {
            c->retry = !c->alone;
            conn_pause(n, c);
            break;
        }
        at += size;
    }
    return c->closing ? data.len : at;
}

size_t doors_data(struct node *n, conn_id_t id, slice_t data)
{
    struct conn *c = conn_find(n, id);
    if (c == NULL || c->closing) {
        return data.len;
    }
    c->last_ms = n->now_ms;
    metrics_add(&n->metrics, METRIC_BYTES_IN_TOTAL, data.len > c->seen_bytes ? data.len - c->seen_bytes : 0);
    size_t used = c->kind == DOOR_RESP ? resp_door_data(n, c, data) : http_door_data(n, c, data);
    c->seen_bytes = data.len - used;
    conn_clock_data(n, c);
    return used;
}

static void end_session(struct node *n, uint64_t session)
{
    struct lock_op op = {.kind = LOCK_OP_SESSION_END, .session = session};
    route_internal(n, 0, &op);
}

void doors_closed(struct node *n, conn_id_t id)
{
    struct conn *c = conn_find(n, id);
    if (c == NULL) {
        return;
    }
    for (uint64_t i = c->first_slot; i < c->next_slot; i++) {
        struct door_slot *s = conn_slot(c, i);
        if (!s->done && s->req != 0) {
            request_cancel(n, s->req);
        }
    }
    if (c->session != 0) {
        end_session(n, c->session);
    }
    consumes_closed(n, c);
    watch_drop_all(n, c);
    tracking_off(n, c);
    conn_free(n->doors, c);
}

void doors_drained(struct node *n, conn_id_t id)
{
    struct conn *c = conn_find(n, id);
    if (c != NULL) {
        c->unsent_bytes = 0;
        conn_resume(n, c);
    }
}

/* The first time the driver lets what was sent leave and the client close; a second time, CLOSE_MS later, it does not wait. */
void conn_close_now(struct node *n, struct conn *c)
{
    c->close_ms = n->now_ms + CLOSE_MS;
    doors_wake(n, c->close_ms);
    effects_add(n->fx, EF_CLOSE_CONN)->conn = c->id;
}

void doors_flush(struct node *n)
{
    struct doors *d = n->doors;
    cache_crowd_turn(n);
    while (!list_empty(&d->dirty)) {
        struct conn *c = CONTAINER_OF(d->dirty.next, struct conn, dirty);
        list_remove(&c->dirty);
        if (c->out.len > 0) {
            metrics_add(&n->metrics, METRIC_BYTES_OUT_TOTAL, c->out.len);
            c->unsent_bytes += c->out.len;
            struct effect *e = effects_add(n->fx, EF_REPLY);
            e->conn = c->id;
            buf_swap(&e->data, &c->out);
            buf_clear(&c->out);
        }
        if (c->unsent_bytes > LIMIT_OUTPUT_BYTES && c->close_ms == 0) {
            metrics_refused(&n->metrics, REFUSED_OUTPUT);
            c->closing = true;
            conn_close_now(n, c);
        } else if (c->closing && c->close_ms == 0 && c->first_slot == c->next_slot) {
            conn_close_now(n, c);
        } else if (!c->closing) {
            conn_resume(n, c);
        }
    }
}

/* The answer of an internal SESSION_CREATE for a connection's own locks. */
static void done_conn_session(struct node *n, struct request *r, slice_t reply)
{
    struct conn *c = conn_find(n, r->arg);
    struct reader rd = reader_of(reply);
    struct resp_value v;
    uint64_t id = 0;
    if (resp_next(&rd, &v) && v.type == RT_BULK) {
        for (size_t i = 0; i < v.str.len; i++) {
            id = id * 10 + (uint64_t)(v.str.ptr[i] - '0');
        }
    }
    if (c == NULL) {
        if (id != 0) {
            end_session(n, id);
        }
        return;
    }
    c->session = id;
    c->session_asked = id != 0;
    c->session_failed = id == 0;
    c->session_renew_ms = n->now_ms + CONN_SESSION_TTL_MS / 3;
    doors_wake(n, c->session_renew_ms);
    c->retry = false;
    conn_resume(n, c);
}

void conn_ask_session(struct node *n, struct conn *c)
{
    if (c->session_asked) {
        return;
    }
    c->session_asked = true;
    struct request *r = request_new(n, 0, REQUEST_WRITE, false, done_conn_session);
    r->arg = c->id;
    struct lock_op op = {.kind = LOCK_OP_SESSION_CREATE, .ttl_ms = CONN_SESSION_TTL_MS, .owner = SLICE_LIT("connection")};
    op.req = request_id_of(n, r);
    op.low = request_low(n, 0, false);
    buf_put_u8(&r->payload, SERVICE_LOCKS);
    lock_op_encode(&r->payload, &op);
    request_submit(n, r);
}

void doors_free(struct doors *d)
{
    queue_consume_fini(d);
    queue_multi_fini(d);
    queue_members_fini(d);
    queue_publish_fini(d);
    queue_topics_fini(d);
    buf_fini(&d->body);
    list_each_safe(it, &d->all) {
        struct conn *c = CONTAINER_OF(it, struct conn, all);
        watch_forget(d, c);
        conn_free(d, c);
    }
    map_fini(&d->conns);
    map_fini(&d->watches);
    walks_free(d);
    keys_walks_free(d);
    cache_doors_free(d);
    commands_fini(d);
    buf_fini(&d->scratch);
    free(d);
}

uint64_t call_take_slot(struct conn *c)
{
    return conn_new_slot(c);
}
