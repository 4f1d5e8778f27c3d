/* Replies and queries of the lock service, as RESP3. Queries change nothing and are answered by the leader after a read round. */
#include "nodes/locks/lock_internal.h"

#include "utils/glob.h"

#include "communication/resp.h"

#include <stdio.h>
#include <stdlib.h>

static void put_id(struct buf *b, uint64_t id)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)id);
    resp_bulk(b, slice_of(text, (size_t)n));
}

static void put_grant(struct buf *b, const struct holder *h, uint64_t waited_ms)
{
    resp_map(b, 7);
    resp_bulk_str(b, "lock_id");
    put_id(b, h->lock_id);
    resp_bulk_str(b, "resource");
    resp_bulk(b, resource_name(h->resource));
    resp_bulk_str(b, "mode");
    resp_bulk_str(b, mode_name(h->mode));
    resp_bulk_str(b, "owner");
    resp_bulk(b, owner_name(h->owner));
    resp_bulk_str(b, "token");
    resp_u64(b, h->token);
    resp_bulk_str(b, "ttl_ms");
    resp_u64(b, h->ttl_ms ? h->ttl_ms : h->session ? h->session->ttl_ms : 0);
    resp_bulk_str(b, "waited_ms");
    resp_u64(b, waited_ms);
}

void reply_grants(struct lock_sm *sm, struct request_id req, slice_t idem, struct holder *const *granted, uint32_t n, uint64_t waited_ms)
{
    struct buf *b = reply_begin(sm);
    if (n > 1) {
        resp_array(b, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        put_grant(b, granted[i], waited_ms);
    }
    reply_end(sm, req, idem, LOCK_DONE);
}

static uint64_t ttl_left(const struct due *d, uint64_t now)
{
    return timer_armed(&d->timer) && d->timer.at_ms > now ? d->timer.at_ms - now : 0;
}

static void put_holder(struct buf *b, const struct holder *h, uint64_t now)
{
    resp_map(b, 9);
    resp_bulk_str(b, "owner");
    resp_bulk(b, owner_name(h->owner));
    resp_bulk_str(b, "lock_id");
    put_id(b, h->lock_id);
    resp_bulk_str(b, "token");
    resp_u64(b, h->token);
    resp_bulk_str(b, "mode");
    resp_bulk_str(b, mode_name(h->mode));
    resp_bulk_str(b, "count");
    resp_u64(b, h->count);
    resp_bulk_str(b, "session");
    put_id(b, h->session ? h->session->id : 0);
    resp_bulk_str(b, "held_ms");
    resp_u64(b, now > h->granted_ms ? now - h->granted_ms : 0);
    resp_bulk_str(b, "ttl_ms");
    resp_u64(b, ttl_left(h->session && !h->ttl_ms ? &h->session->due : &h->due, now));
    resp_bulk_str(b, "meta");
    resp_bulk(b, h->meta ? slice_of(h->meta->bytes, h->meta->len) : SLICE_LIT(""));
}

static void put_waiter(struct buf *b, const struct waiter *w, uint64_t now)
{
    resp_map(b, 5);
    resp_bulk_str(b, "owner");
    resp_bulk(b, owner_name(w->owner));
    resp_bulk_str(b, "mode");
    resp_bulk_str(b, mode_name(w->mode));
    resp_bulk_str(b, "converts");
    resp_bool(b, w->converts != NULL);
    resp_bulk_str(b, "waited_ms");
    resp_u64(b, now > w->began_ms ? now - w->began_ms : 0);
    resp_bulk_str(b, "wait_left_ms");
    resp_int(b, w->until_ms == UINT64_MAX ? -1 : w->until_ms > now ? (int64_t)(w->until_ms - now) : 0);
}

static void query_info(const struct lock_sm *sm, uint64_t now, slice_t name, struct buf *b)
{
    const struct resource *r = resource_find((struct lock_sm *)sm, name);
    const char *state = r == NULL || r->n_holders == 0 ? "FREE" : mode_name(r->mode);
    resp_map(b, 6);
    resp_bulk_str(b, "resource");
    resp_bulk(b, name);
    resp_bulk_str(b, "state");
    resp_bulk_str(b, state);
    resp_bulk_str(b, "token");
    resp_u64(b, r ? r->token : 0);
    resp_bulk_str(b, "queue_length");
    resp_u64(b, r ? r->n_places : 0);
    resp_bulk_str(b, "holders");
    resp_array(b, r ? r->n_holders : 0);
    if (r != NULL) {
        list_each(it, (struct list *)&r->holders) {
            put_holder(b, CONTAINER_OF(it, struct holder, in_resource), now);
        }
    }
    resp_bulk_str(b, "waiters");
    resp_array(b, r ? r->n_places : 0);
    if (r != NULL) {
        list_each(it, (struct list *)&r->places) {
            put_waiter(b, CONTAINER_OF(it, struct place, in_resource)->waiter, now);
        }
    }
}

/* 1 while the token's lock is held, or while nothing newer was granted; of a forgotten resource the safe answer is 0. */
static void query_check(const struct lock_sm *sm, slice_t name, uint64_t token, struct buf *b)
{
    struct resource *r = resource_find((struct lock_sm *)sm, name);
    uint64_t newest = r != NULL ? r->token : token > sm->floor ? 0 : sm->floor;
    struct holder *h = r != NULL ? holder_find(r, token) : NULL;
    if ((h != NULL && h->token == token) || (r != NULL && token == newest && token != 0)) {
        resp_int(b, 1);
        return;
    }
    resp_array(b, 2);
    resp_int(b, 0);
    resp_u64(b, newest);
}

bool lock_sm_fenced(const struct lock_sm *sm, slice_t resource, uint64_t token, uint64_t *newest)
{
    struct resource *r = resource_find((struct lock_sm *)sm, resource);
    const struct holder *h = r != NULL ? holder_find(r, token) : NULL;
    if (r == NULL || token >= r->token || (h != NULL && h->token == token)) {
        return false;
    }
    *newest = r->token;
    return true;
}

static void put_lock_row(struct buf *b, const struct resource *r)
{
    const struct holder *h = list_empty(&r->holders) ? NULL : CONTAINER_OF(r->holders.next, struct holder, in_resource);
    resp_map(b, 6);
    resp_bulk_str(b, "resource");
    resp_bulk(b, resource_name(r));
    resp_bulk_str(b, "state");
    resp_bulk_str(b, h ? mode_name(r->mode) : "FREE");
    resp_bulk_str(b, "holders");
    resp_u64(b, r->n_holders);
    resp_bulk_str(b, "waiters");
    resp_u64(b, r->n_places);
    resp_bulk_str(b, "token");
    resp_u64(b, r->token);
    resp_bulk_str(b, "owner");
    resp_bulk(b, h ? owner_name(h->owner) : SLICE_LIT(""));
}

/* By serial: the list is in the order of creation, the cursor is the last serial looked at. Few rows match a narrow pattern: the
 * reply may be short, even empty, while the cursor leads on. */
enum { LIST_LOOKS_MAX = 20000, EDGES_MAX = 10000 };

static void query_list(const struct lock_sm *sm, const struct lock_query *q, struct buf *b)
{
    struct buf rows = {0};
    uint32_t n = 0, looked = 0, max = q->count && q->count < LIMIT_LIST_REPLY ? q->count : LIMIT_LIST_REPLY;
    uint64_t last = 0, next = 0;
    list_each(it, (struct list *)&sm->resources_all) {
        const struct resource *r = CONTAINER_OF(it, struct resource, all);
        if (r->serial <= q->cursor) {
            continue;
        }
        if (n == max || looked++ == LIST_LOOKS_MAX) {
            next = last;
            break;
        }
        last = r->serial;
        if (q->match.len == 0 || glob_match(q->match, resource_name(r))) {
            put_lock_row(&rows, r);
            n++;
        }
    }
    resp_array(b, 2);
    put_id(b, next);
    resp_array(b, n);
    buf_append_slice(b, buf_slice(&rows));
    buf_fini(&rows);
}

/* Quoted; what would end the quotes or the line is escaped. */
static void put_dot_name(struct buf *b, slice_t name)
{
    buf_put_u8(b, '"');
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '"' || name.ptr[i] == '\\') {
            buf_put_u8(b, '\\');
        }
        buf_put_u8(b, name.ptr[i] < ' ' ? '.' : name.ptr[i]);
    }
    buf_put_u8(b, '"');
}

static void put_edge(struct buf *b, bool dot, const struct waiter *w, const struct resource *r, const struct owner *to, uint64_t now)
{
    if (dot) {
        buf_append_str(b, "  ");
        put_dot_name(b, owner_name(w->owner));
        buf_append_str(b, " -> ");
        put_dot_name(b, owner_name(to));
        buf_append_str(b, " [label=");
        put_dot_name(b, resource_name(r));
        buf_append_str(b, "];\n");
        return;
    }
    resp_map(b, 5);
    resp_bulk_str(b, "waiter");
    resp_bulk(b, owner_name(w->owner));
    resp_bulk_str(b, "resource");
    resp_bulk(b, resource_name(r));
    resp_bulk_str(b, "holder");
    resp_bulk(b, owner_name(to));
    resp_bulk_str(b, "mode");
    resp_bulk_str(b, mode_name(w->mode));
    resp_bulk_str(b, "waited_ms");
    resp_u64(b, now > w->began_ms ? now - w->began_ms : 0);
}

static uint32_t put_edges(const struct resource *r, uint64_t now, bool dot, uint32_t max, struct buf *b)
{
    uint32_t n = 0;
    list_each(it, (struct list *)&r->places) {
        const struct waiter *w = CONTAINER_OF(it, struct place, in_resource)->waiter;
        list_each(hit, (struct list *)&r->holders) {
            const struct holder *h = CONTAINER_OF(hit, struct holder, in_resource);
            if (n < max && holder_blocks(h, w)) {
                put_edge(b, dot, w, r, h->owner, now);
                n++;
            }
        }
        if (it->prev != &r->places && n < max) {
            const struct waiter *ahead = CONTAINER_OF(it->prev, struct place, in_resource)->waiter;
            if (ahead->owner != w->owner) {
                put_edge(b, dot, w, r, ahead->owner, now);
                n++;
            }
        }
    }
    return n;
}

static void query_waitgraph(const struct lock_sm *sm, uint64_t now, bool dot, struct buf *b)
{
    struct buf edges = {0};
    uint32_t n = 0;
    list_each(it, (struct list *)&sm->resources_all) {
        const struct resource *r = CONTAINER_OF(it, struct resource, all);
        if (r->n_places > 0 && n < EDGES_MAX) {
            n += put_edges(r, now, dot, EDGES_MAX - n, &edges);
        }
    }
    if (dot) {
        struct buf text = {0};
        buf_append_str(&text, "digraph waits {\n");
        buf_append_slice(&text, buf_slice(&edges));
        buf_append_str(&text, "}\n");
        resp_verbatim(b, "txt", buf_slice(&text));
        buf_fini(&text);
    } else {
        resp_array(b, n);
        buf_append_slice(b, buf_slice(&edges));
    }
    buf_fini(&edges);
}

static void query_sessions(const struct lock_sm *sm, uint64_t now, const struct lock_query *q, struct buf *b)
{
    uint32_t n = 0, max = q->count ? q->count : LIMIT_LIST_REPLY;
    struct buf rows = {0};
    list_each(it, (struct list *)&sm->sessions_all) {
        const struct session *s = CONTAINER_OF(it, struct session, all);
        if (n++ == max) {
            n--;
            break;
        }
        resp_map(&rows, 6);
        resp_bulk_str(&rows, "session");
        put_id(&rows, s->id);
        resp_bulk_str(&rows, "name");
        resp_bulk(&rows, slice_of(s->name, s->name_len));
        resp_bulk_str(&rows, "ttl_ms");
        resp_u64(&rows, s->ttl_ms);
        resp_bulk_str(&rows, "ttl_left_ms");
        resp_u64(&rows, ttl_left(&s->due, now));
        resp_bulk_str(&rows, "locks");
        resp_u64(&rows, s->n_holders);
        resp_bulk_str(&rows, "groups");
        resp_u64(&rows, s->n_groups);
    }
    resp_array(b, n);
    buf_append_slice(b, buf_slice(&rows));
    buf_fini(&rows);
}

static void query_stats(const struct lock_sm *sm, struct buf *b)
{
    struct lock_sm_stats st;
    lock_sm_stats(sm, &st);
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"held_shared", st.held_shared}, {"held_exclusive", st.held_exclusive}, {"resources", st.resources},
        {"waiters", st.waiters},         {"sessions", st.sessions},             {"owners", st.owners},
        {"grants", st.grants},           {"releases", st.releases},             {"timeouts", st.timeouts},
        {"deadlocks", st.deadlocks},     {"expirations", st.expirations},       {"forced", st.forced},
        {"stale", st.stale},             {"bytes", st.bytes},
    };
    resp_map(b, sizeof rows / sizeof rows[0]);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        resp_bulk_str(b, rows[i].name);
        resp_u64(b, rows[i].value);
    }
}

void lock_sm_query(const struct lock_sm *sm, uint64_t now, const struct lock_query *q, struct buf *b)
{
    switch (q->kind) {
    case LOCK_Q_INFO: query_info(sm, now, q->resource, b); break;
    case LOCK_Q_CHECK: query_check(sm, q->resource, q->token, b); break;
    case LOCK_Q_LIST: query_list(sm, q, b); break;
    case LOCK_Q_WAITGRAPH: query_waitgraph(sm, now, false, b); break;
    case LOCK_Q_DOT: query_waitgraph(sm, now, true, b); break;
    case LOCK_Q_SESSIONS: query_sessions(sm, now, q, b); break;
    case LOCK_Q_STATS: query_stats(sm, b); break;
    case LOCK_Q_MAX: SYN_UNREACHABLE();
    }
}

static void edges_of(const struct waiter *w, void (*fn)(void *arg, const struct lock_wait_edge *e), void *arg)
{
    for (uint32_t i = 0; i < w->n; i++) {
        const struct resource *r = w->places[i].resource;
        struct lock_wait_edge e = {.waiter_owner = owner_name(w->owner), .waiter_req = w->req, .resource = resource_name(r),
                                   .since_ms = w->began_ms};
        list_each(it, (struct list *)&r->holders) {
            const struct holder *h = CONTAINER_OF(it, struct holder, in_resource);
            if (holder_blocks(h, w)) {
                e.holder_owner = owner_name(h->owner);
                fn(arg, &e);
            }
        }
        const struct list *prev = w->places[i].in_resource.prev;
        if (prev != &r->places) {
            const struct waiter *ahead = CONTAINER_OF(prev, struct place, in_resource)->waiter;
            if (ahead->owner != w->owner) {
                e.holder_owner = owner_name(ahead->owner);
                fn(arg, &e);
            }
        }
    }
}

void lock_sm_waits_of(const struct lock_sm *sm, slice_t owner, void (*fn)(void *arg, const struct lock_wait_edge *e), void *arg)
{
    const struct owner *o = owner_find((struct lock_sm *)sm, owner);
    if (o != NULL && o->waits != NULL) {
        list_each(it, &o->waits->list) {
            edges_of(CONTAINER_OF(it, struct waiter, in_owner), fn, arg);
        }
    }
}

void lock_sm_old_waits(const struct lock_sm *sm, uint64_t since_ms, uint32_t max, void (*fn)(void *arg, const struct lock_wait_edge *e), void *arg)
{
    uint32_t n = 0;
    list_each(it, (struct list *)&sm->waiters_all) {
        const struct waiter *w = CONTAINER_OF(it, struct waiter, all);
        if (w->began_ms <= since_ms && n++ < max) {
            edges_of(w, fn, arg);
        }
    }
}
