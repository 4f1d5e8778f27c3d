/* Sessions: what ends together. Group 0 owns them; other groups adopt the ones that hold something there (docs/locks.md).
 *
 * Invariants: K4 a grant needs a session that is alive in the entry that grants. S49 a session that has ended is never renewed. The
 * end of a session frees everything it holds in this group in one entry; group 0 keeps the record until every attached group
 * has confirmed; elsewhere a dropped session is remembered for dedup_ms, so that nothing late brings it back. */
#include "nodes/locks/lock_internal.h"

#include "communication/resp.h"
#include "utils/hash.h"

#include <stdio.h>
#include <stdlib.h>

enum { SESSION_TTL_MS_DEFAULT = 30000 };

static bool session_eq(const struct map_node *n, const void *key)
{
    return CONTAINER_OF(n, struct session, by_id)->id == *(const uint64_t *)key;
}

struct session *session_find(struct lock_sm *sm, uint64_t id)
{
    struct map_node *n = map_find(&sm->sessions, hash_u64(id), &id, session_eq);
    return n != NULL ? CONTAINER_OF(n, struct session, by_id) : NULL;
}

struct session *session_new(struct lock_sm *sm, uint64_t id, uint64_t ttl_ms, slice_t name)
{
    struct session *s = calloc(1, sizeof *s + name.len);
    syn_assert(s != NULL && session_find(sm, id) == NULL);
    s->id = id;
    s->ttl_ms = ttl_ms;
    s->created_ms = sm->time_ms;
    s->due.kind = DUE_SESSION;
    timer_init(&s->due.timer);
    list_init(&s->holders);
    list_init(&s->waiters);
    s->name_len = (uint16_t)name.len;
    if (name.len > 0) {
        memcpy(s->name, name.ptr, name.len);
    }
    map_insert(&sm->sessions, &s->by_id, hash_u64(id));
    list_push_back(&sm->sessions_all, &s->all);
    sm->stats.sessions++;
    return s;
}

void session_arm(struct lock_sm *sm, struct session *s)
{
    if (sm->opt.group == 0 && !s->ended) {
        due_set(sm, &s->due, sm->time_ms + s->ttl_ms);
    }
}

void session_free(struct lock_sm *sm, struct session *s)
{
    syn_assert(s->ended && list_empty(&s->holders) && list_empty(&s->waiters));
    due_clear(sm, &s->due);
    map_remove(&sm->sessions, &s->by_id);
    list_remove(&s->all);
    free(s->groups);
    free(s);
}

/* In a group other than 0: remembers an id that must not come back. */
static struct session *session_tombstone(struct lock_sm *sm, uint64_t id)
{
    struct session *s = session_new(sm, id, 0, SLICE_NONE);
    sm->stats.sessions--;
    s->ended = true;
    s->ended_ms = sm->time_ms;
    list_remove(&s->all);
    list_push_back(&sm->sessions_ended, &s->all);
    return s;
}

static int holder_order(const void *a, const void *b)
{
    const struct holder *x = *(struct holder *const *)a, *y = *(struct holder *const *)b;
    if (x->lock_id != y->lock_id) {
        return x->lock_id < y->lock_id ? -1 : 1;
    }
    slice_t p = resource_name(x->resource), q = resource_name(y->resource);
    int c = memcmp(p.ptr, q.ptr, p.len < q.len ? p.len : q.len);
    return c != 0 ? c : p.len < q.len ? -1 : p.len > q.len;
}

/* In an order that a restored replica shares, whatever the order of its lists: it shows in the results (K12). */
static void free_holders(struct lock_sm *sm, struct session *s)
{
    uint32_t n = 0, count = s->n_holders;
    struct holder **all = malloc((count + 1) * sizeof *all);
    syn_assert(all != NULL);
    list_each(it, &s->holders) {
        all[n++] = CONTAINER_OF(it, struct holder, in_session);
    }
    syn_assert(n == count);
    qsort(all, n, sizeof *all, holder_order);
    for (uint32_t i = 0; i < n; i++) {
        struct holder *h = all[i];
        waiters_of_holder_gone(sm, h);
        lock_event(sm, LOCK_EV_EXPIRED, h->resource, h->owner, h->lock_id, h->token);
        holder_free(sm, h);
    }
    free(all);
}

void session_end(struct lock_sm *sm, struct session *s)
{
    syn_assert(!s->ended);
    s->ended = true;
    s->ended_ms = sm->time_ms;
    sm->stats.sessions--;
    due_clear(sm, &s->due);
    list_remove(&s->all);
    list_push_back(&sm->sessions_ended, &s->all);
    while (!list_empty(&s->waiters) && !MUTANT("S43")) {
        waiter_refuse(sm, CONTAINER_OF(s->waiters.next, struct waiter, in_session), "NOSESSION", "the session ended while its request waited");
    }
    free_holders(sm, s);
}

void session_settle(struct lock_sm *sm, struct session *s)
{
    if (sm->opt.group == 0 && s->ended && s->n_groups == 0 && list_empty(&s->waiters)) {
        session_free(sm, s);
    }
}

bool session_attach(struct session *s, uint32_t group)
{
    for (uint32_t i = 0; i < s->n_groups; i++) {
        if (s->groups[i] == group) {
            return true;
        }
    }
    if (s->n_groups == s->cap_groups) {
        s->cap_groups = s->cap_groups ? s->cap_groups * 2 : 4;
        s->groups = realloc(s->groups, s->cap_groups * sizeof *s->groups);
        syn_assert(s->groups != NULL);
    }
    s->groups[s->n_groups++] = group;
    return true;
}

static void session_detached(struct session *s, uint32_t group)
{
    for (uint32_t i = 0; i < s->n_groups; i++) {
        if (s->groups[i] == group) {
            s->groups[i] = s->groups[--s->n_groups];
            return;
        }
    }
}

/* Outside group 0 an ended session goes once nothing late can name it any more; a few per apply, the oldest first. */
void sessions_forget(struct lock_sm *sm)
{
    for (int i = 0; i < 4 && sm->opt.group != 0 && !list_empty(&sm->sessions_ended); i++) {
        struct session *s = CONTAINER_OF(sm->sessions_ended.next, struct session, all);
        if (sm->time_ms - s->ended_ms < sm->opt.dedup_ms || !list_empty(&s->waiters)) {
            return;
        }
        session_free(sm, s);
    }
}

static void reply_ok(struct lock_sm *sm, const struct lock_op *op)
{
    resp_simple(reply_begin(sm), "OK");
    reply_end(sm, op->req, op->idem, LOCK_DONE);
}

static void reply_nosession(struct lock_sm *sm, const struct lock_op *op)
{
    reply_error(sm, op->req, op->idem, "NOSESSION", "session %llu has ended or never was: create one with SESSION.CREATE",
                (unsigned long long)op->session);
}

static void op_create(struct lock_sm *sm, const struct lock_op *op)
{
    if (sm->stats.sessions >= LIMIT_SESSIONS) {
        reply_error(sm, op->req, op->idem, "LIMIT", "%llu sessions exist, the limit; end some", (unsigned long long)sm->stats.sessions);
        return;
    }
    struct session *s = session_new(sm, index_token(sm), op->ttl_ms ? op->ttl_ms : SESSION_TTL_MS_DEFAULT, op->owner);
    session_arm(sm, s);
    char text[24];
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)s->id);
    resp_bulk(reply_begin(sm), slice_of(text, (size_t)n));
    reply_end(sm, op->req, op->idem, LOCK_DONE);
}

static void op_keepalive(struct lock_sm *sm, const struct lock_op *op, struct session *s)
{
    if (s == NULL || (s->ended && !MUTANT("S49a"))) {
        reply_nosession(sm, op);
        return;
    }
    s->renewals++;
    session_arm(sm, s);
    resp_u64(reply_begin(sm), s->ttl_ms);
    reply_end(sm, op->req, op->idem, LOCK_DONE);
}

static void op_drop(struct lock_sm *sm, const struct lock_op *op, struct session *s)
{
    if (s == NULL) {
        session_tombstone(sm, op->session);
    } else if (!s->ended) {
        session_end(sm, s);
    }
    reply_ok(sm, op);
}

static void op_alive(struct lock_sm *sm, const struct lock_op *op, struct session *s)
{
    if (op->kind == LOCK_OP_SESSION_ADOPT && s == NULL) {
        session_new(sm, op->session, op->ttl_ms, SLICE_NONE);
    } else if (s == NULL || s->ended) {
        reply_nosession(sm, op);
        return;
    } else if (op->kind == LOCK_OP_SESSION_ATTACH) {
        session_attach(s, op->group);
    } else if (op->kind == LOCK_OP_SESSION_END) {
        session_end(sm, s);
        session_settle(sm, s);
    }
    reply_ok(sm, op);
}

void lock_op_session(struct lock_sm *sm, const struct lock_op *op)
{
    struct session *s = op->session ? session_find(sm, op->session) : NULL;
    switch (op->kind) {
    case LOCK_OP_SESSION_CREATE: op_create(sm, op); break;
    case LOCK_OP_SESSION_KEEPALIVE: op_keepalive(sm, op, s); break;
    case LOCK_OP_SESSION_DROP: op_drop(sm, op, s); break;
    case LOCK_OP_SESSION_DETACHED:
        if (s != NULL && s->ended) {
            session_detached(s, op->group);
            session_settle(sm, s);
        }
        reply_ok(sm, op);
        break;
    default: op_alive(sm, op, s); break;
    }
}

void lock_sm_unconfirmed(const struct lock_sm *sm, uint32_t max, void (*fn)(void *arg, uint64_t session, uint32_t group), void *arg)
{
    uint32_t n = 0;
    list_each(it, (struct list *)&sm->sessions_ended) {
        const struct session *s = CONTAINER_OF(it, struct session, all);
        for (uint32_t i = 0; i < s->n_groups; i++) {
            if (n++ == max) {
                return;
            }
            fn(arg, s->id, s->groups[i]);
        }
    }
}
