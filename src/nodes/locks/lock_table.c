/* Resources and holders: acquire, release, renew, convert, force.
 *
 * Invariants: K1 a resource has no holder, one EXCLUSIVE or any number of SHARED. K2 its token only grows: it is the log index of
 * the grant, or the next number when one entry grants a resource several times (adjacent readers). K6 nobody is granted while somebody who came earlier waits, but for
 * re-entrance and for upgrades, which go first. K9 release, renew and convert act on the named lock_id or answer -STALE. */
#include "nodes/locks/lock_internal.h"

#include "communication/resp.h"
#include "utils/hash.h"

#include <stdlib.h>

static bool resource_eq(const struct map_node *n, const void *key)
{
    return slice_eq(resource_name(CONTAINER_OF(n, struct resource, by_name)), *(const slice_t *)key);
}

struct resource *resource_find(struct lock_sm *sm, slice_t name)
{
    struct map_node *n = map_find(&sm->resources, hash_bytes(sm->opt.hash_key, name), &name, resource_eq);
    return n != NULL ? CONTAINER_OF(n, struct resource, by_name) : NULL;
}

static bool is_free(const struct resource *r)
{
    return r->n_holders == 0 && r->n_places == 0;
}

/* A free resource that is asked for again leaves the remembered ones. */
static void resource_wake(struct lock_sm *sm, struct resource *r)
{
    if (is_free(r)) {
        snap_touch(sm, r);
        snap_leave(sm, r);
        list_remove(&r->all);
        sm->n_retained--;
        r->serial = sm->next_serial++;
        list_push_back(&sm->resources_all, &r->all);
    }
}

struct resource *resource_get(struct lock_sm *sm, slice_t name)
{
    uint64_t hash = hash_bytes(sm->opt.hash_key, name);
    struct map_node *n = map_find(&sm->resources, hash, &name, resource_eq);
    if (n != NULL) {
        struct resource *r = CONTAINER_OF(n, struct resource, by_name);
        resource_wake(sm, r);
        return r;
    }
    struct resource *r = malloc(sizeof *r + name.len);
    syn_assert(r != NULL);
    *r = (struct resource){.name_len = (uint16_t)name.len, .serial = sm->next_serial++, .saved = sm->snap.number};
    memcpy(r->name, name.ptr, name.len);
    list_init(&r->holders);
    list_init(&r->places);
    list_push_back(&sm->resources_all, &r->all);
    map_insert(&sm->resources, &r->by_name, hash);
    return r;
}

static void resource_free(struct lock_sm *sm, struct resource *r)
{
    map_remove(&sm->resources, &r->by_name);
    list_remove(&r->all);
    free(r);
}

void resource_rest(struct lock_sm *sm, struct resource *r)
{
    if (!is_free(r) || r->regrant) {
        return;
    }
    snap_leave(sm, r);
    if (r->token == 0) {
        resource_free(sm, r);
        return;
    }
    list_remove(&r->all);
    list_push_back(&sm->retained, &r->all);
    sm->n_retained++;
    while (sm->n_retained > sm->opt.retained_count) {
        struct resource *oldest = CONTAINER_OF(sm->retained.next, struct resource, all);
        sm->floor = oldest->token > sm->floor ? oldest->token : sm->floor;
        snap_touch(sm, oldest);
        snap_leave(sm, oldest);
        resource_free(sm, oldest);
        sm->n_retained--;
    }
}

/* The shorter of the two lists is walked. */
struct holder *holder_of(struct resource *r, struct owner *o)
{
    if (o->n_holds < r->n_holders) {
        list_each(it, &o->holds) {
            struct holder *h = CONTAINER_OF(it, struct holder, in_owner);
            if (h->resource == r) {
                return h;
            }
        }
        return NULL;
    }
    list_each(it, &r->holders) {
        struct holder *h = CONTAINER_OF(it, struct holder, in_resource);
        if (h->owner == o) {
            return h;
        }
    }
    return NULL;
}

struct holder *holder_find(struct resource *r, uint64_t lock_id)
{
    list_each(it, &r->holders) {
        struct holder *h = CONTAINER_OF(it, struct holder, in_resource);
        if (h->lock_id == lock_id || h->token == lock_id) {
            return h;
        }
    }
    return NULL;
}

bool lock_compatible(struct resource *r, uint8_t mode, struct owner *o)
{
    if (r->n_holders == 0) {
        return true;
    }
    if (mode == LOCK_SHARED && r->mode == LOCK_SHARED) {
        return true;
    }
    struct holder *own = holder_of(r, o);
    return own != NULL && (own->mode >= mode || r->n_holders == 1);
}

static void count_mode(struct lock_sm *sm, uint8_t mode, int by)
{
    uint64_t *c = mode == LOCK_SHARED ? &sm->stats.held_shared : &sm->stats.held_exclusive;
    *c += (uint64_t)(int64_t)by;
}

struct holder *holder_new(struct lock_sm *sm, struct resource *r, struct owner *o, struct session *s, uint8_t mode)
{
    struct holder *h = malloc(sizeof *h);
    syn_assert(h != NULL);
    *h = (struct holder){.resource = r, .owner = o, .session = s, .mode = mode, .count = 1};
    h->due.kind = DUE_HOLDER;
    timer_init(&h->due.timer);
    list_push_back(&r->holders, &h->in_resource);
    list_push_back(&o->holds, &h->in_owner);
    list_init(&h->in_session);
    if (s != NULL) {
        list_push_back(&s->holders, &h->in_session);
        s->n_holders++;
    }
    r->n_holders++;
    r->mode = mode;
    o->n_holds++;
    count_mode(sm, mode, 1);
    return h;
}

/* Its own TTL and MAXHOLD, whichever comes first; a renewal restarts the first, nothing moves the second. */
void holder_arm(struct lock_sm *sm, struct holder *h)
{
    uint64_t at = h->ttl_ms ? sm->time_ms + h->ttl_ms : UINT64_MAX;
    uint64_t max = h->maxhold_ms ? h->granted_ms + h->maxhold_ms : UINT64_MAX;
    at = max < at ? max : at;
    if (at == UINT64_MAX) {
        due_clear(sm, &h->due);
    } else {
        due_set(sm, &h->due, at);
    }
}

void holder_free(struct lock_sm *sm, struct holder *h)
{
    struct resource *r = h->resource;
    snap_touch(sm, r);
    due_clear(sm, &h->due);
    list_remove(&h->in_resource);
    list_remove(&h->in_owner);
    if (h->session != NULL) {
        list_remove(&h->in_session);
        h->session->n_holders--;
    }
    r->n_holders--;
    h->owner->n_holds--;
    count_mode(sm, h->mode, -1);
    owner_rest(sm, h->owner);
    free(h->meta);
    free(h);
    regrant_mark(sm, r);
}

static void stale(struct lock_sm *sm, const struct lock_op *op, const struct resource *r)
{
    sm->stats.stale++;
    reply_error(sm, op->req, op->idem, "STALE", "%.*s: lock_id %llu is not held; current token %llu", (int)op->resources[0].len,
                (const char *)op->resources[0].ptr, (unsigned long long)op->lock_id, (unsigned long long)(r ? r->token : 0));
}

/* Another one's lock first: that is what stands in the way. */
static const struct holder *first_holder(const struct resource *r, const struct owner *o)
{
    const struct holder *h = CONTAINER_OF(r->holders.next, struct holder, in_resource);
    return h->owner == o && r->n_holders > 1 ? CONTAINER_OF(h->in_resource.next, struct holder, in_resource) : h;
}

void describe_blocked(const struct resource *r, const struct owner *o, struct buf *out)
{
    if (r->n_holders == 0) {
        buf_printf(out, "%.*s is waited for by %u that came earlier", (int)r->name_len, (const char *)r->name, r->n_places);
        return;
    }
    const struct holder *h = first_holder(r, o);
    buf_printf(out, "%.*s held by %.*s %s token %llu (+ %u more), %u waiting", (int)r->name_len, (const char *)r->name,
               (int)h->owner->name_len, (const char *)h->owner->name, mode_name(h->mode), (unsigned long long)h->token,
               r->n_holders - 1, r->n_places);
}

static void refuse_locked(struct lock_sm *sm, const struct lock_op *op, const struct resource *r, const struct owner *o)
{
    struct buf text = {0};
    describe_blocked(r, o, &text);
    reply_error(sm, op->req, op->idem, "LOCKED", "%.*s; retry or use WAIT", (int)text.len, (const char *)text.ptr);
    buf_fini(&text);
}

/* Grants now what the operation names: everything was found compatible. */
static void grant_now(struct lock_sm *sm, const struct lock_op *op, struct resource **rs, struct owner *o, struct session *s)
{
    struct holder *granted[LIMIT_ACQUIREALL_NAMES];
    for (uint32_t i = 0; i < op->n; i++) {
        struct lock_grant g = {.resource = rs[i], .owner = o, .session = s, .mode = (uint8_t)op->mode, .ttl_ms = op->ttl_ms,
                               .maxhold_ms = op->maxhold_ms, .meta = op->meta};
        granted[i] = lock_grant(sm, &g);
    }
    reply_grants(sm, op->req, op->idem, granted, op->n, 0);
}

/* K2: above everything this resource ever had, even after it was forgotten (floor). */
static uint64_t next_token(const struct lock_sm *sm, const struct resource *r)
{
    uint64_t least = r->token != 0 ? r->token : sm->floor, index = index_token(sm);
    if (MUTANT("S45")) {
        return r->n_holders + r->n_places + 1;
    }
    return index > least ? index : least + 1;
}

struct holder *lock_grant(struct lock_sm *sm, const struct lock_grant *g)
{
    struct resource *r = g->resource;
    snap_touch(sm, r);
    struct holder *h = holder_of(r, g->owner);
    sm->stats.grants++;
    if (h != NULL && h->mode >= g->mode) {
        h->count++;
        h->renewals++;
        holder_arm(sm, h);
        return h;
    }
    if (h != NULL) {
        lock_upgrade(sm, h);
        return h;
    }
    uint64_t token = next_token(sm, r);
    h = holder_new(sm, r, g->owner, g->session, g->mode);
    h->lock_id = h->token = r->token = token;
    h->granted_ms = sm->time_ms;
    h->maxhold_ms = (uint32_t)g->maxhold_ms;
    h->ttl_ms = (uint32_t)(g->ttl_ms ? g->ttl_ms : g->session ? 0 : sm->opt.default_ttl_ms);
    h->meta = lock_bytes_new(g->meta);
    holder_arm(sm, h);
    lock_event(sm, LOCK_EV_GRANTED, r, g->owner, h->lock_id, h->token);
    recheck_mark(sm, g->owner);
    return h;
}

/* The only holder becomes EXCLUSIVE: a new token, the same lock_id. */
void lock_upgrade(struct lock_sm *sm, struct holder *h)
{
    struct resource *r = h->resource;
    syn_assert(r->n_holders == 1 && h->mode == LOCK_SHARED);
    snap_touch(sm, r);
    count_mode(sm, h->mode, -1);
    count_mode(sm, LOCK_EXCLUSIVE, 1);
    h->mode = r->mode = LOCK_EXCLUSIVE;
    h->token = r->token = next_token(sm, r);
    h->renewals++;
    holder_arm(sm, h);
    lock_event(sm, LOCK_EV_CONVERTED, r, h->owner, h->lock_id, h->token);
    recheck_mark(sm, h->owner);
}

/* The first resource that cannot be had at once, or NULL. Re-entrance passes the queue (K6). */
static struct resource *first_blocked(struct resource **rs, uint32_t n, uint8_t mode, struct owner *o)
{
    for (uint32_t i = 0; i < n; i++) {
        struct holder *own = holder_of(rs[i], o);
        bool again = own != NULL && (own->mode >= mode || rs[i]->n_holders == 1);
        bool barging = MUTANT("S46") && mode == LOCK_SHARED;
        if (!again && ((rs[i]->n_places > 0 && !barging && !MUTANT("K6")) || !lock_compatible(rs[i], mode, o))) {
            return rs[i];
        }
    }
    return NULL;
}

static bool duplicate_names(const struct lock_op *op)
{
    for (uint32_t i = 1; i < op->n; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (slice_eq(op->resources[i], op->resources[k])) {
                return true;
            }
        }
    }
    return false;
}

/* Names the limit that would be passed, or NULL. */
static const char *acquire_limit(struct resource **rs, const struct lock_op *op)
{
    for (uint32_t i = 0; i < op->n; i++) {
        if (rs[i]->n_places >= LIMIT_WAITERS_PER_RESOURCE) {
            return "65536 already wait for the resource, the limit";
        }
        if (rs[i]->n_holders >= LIMIT_HOLDERS_PER_RESOURCE) {
            return "65536 already share the resource, the limit";
        }
    }
    return NULL;
}

/* A lock that its owner holds SHARED and asks for EXCLUSIVE is converted. */
static void wait_or_refuse(struct lock_sm *sm, const struct lock_op *op, struct resource **rs, struct owner *o, struct session *s)
{
    const char *limit = acquire_limit(rs, op);
    struct holder *own = op->n == 1 ? holder_of(rs[0], o) : NULL;
    if (own != NULL) {
        lock_wait(sm, op, o, own->session, rs, own);
        return;
    }
    if (limit != NULL) {
        reply_error(sm, op->req, op->idem, "LIMIT", "%s; retry later", limit);
        return;
    }
    lock_wait(sm, op, o, s, rs, NULL);
}

/* The session an operation names; false when it was answered instead (unknown, ended). */
static bool acquire_session(struct lock_sm *sm, const struct lock_op *op, struct session **s)
{
    *s = NULL;
    if (op->session == 0) {
        return true;
    }
    *s = session_find(sm, op->session);
    if (*s != NULL && (!(*s)->ended || MUTANT("K4"))) {
        return true;
    }
    if (*s == NULL && sm->opt.group != 0) {
        reply_begin(sm);
        reply_end(sm, op->req, SLICE_NONE, LOCK_NEED_ATTACH);
        return false;
    }
    reply_error(sm, op->req, op->idem, "NOSESSION", "session %llu has ended or never was: create one with SESSION.CREATE",
                (unsigned long long)op->session);
    return false;
}

void lock_op_acquire(struct lock_sm *sm, const struct lock_op *op)
{
    struct session *s;
    if (!acquire_session(sm, op, &s)) {
        return;
    }
    if (duplicate_names(op)) {
        reply_error(sm, op->req, op->idem, "ERR", "a resource is named twice: name each once");
        return;
    }
    if (sm->resources.count + op->n > LIMIT_LOCKS_PER_GROUP) {
        reply_error(sm, op->req, op->idem, "LIMIT", "the group has %llu locks, its limit", (unsigned long long)sm->resources.count);
        return;
    }
    struct resource *rs[LIMIT_ACQUIREALL_NAMES];
    struct owner *o = owner_get(sm, op->owner);
    for (uint32_t i = 0; i < op->n; i++) {
        rs[i] = resource_get(sm, op->resources[i]);
    }
    o->n_holds++; /* keeps it while the operation runs */
    struct resource *blocked = first_blocked(rs, op->n, (uint8_t)op->mode, o);
    if (blocked == NULL) {
        grant_now(sm, op, rs, o, s);
    } else if (op->wait_ms == 0) {
        refuse_locked(sm, op, blocked, o);
    } else {
        wait_or_refuse(sm, op, rs, o, s);
    }
    o->n_holds--;
    owner_rest(sm, o);
    for (uint32_t i = 0; i < op->n; i++) {
        resource_rest(sm, rs[i]);
    }
}

/* The lock an operation names, or NULL after -STALE. */
static struct holder *named_holder(struct lock_sm *sm, const struct lock_op *op)
{
    struct resource *r = resource_find(sm, op->resources[0]);
    struct holder *h = r != NULL ? holder_find(r, op->lock_id) : NULL;
    if (h == NULL && r != NULL && r->n_holders > 0 && MUTANT("K9")) {
        h = CONTAINER_OF(r->holders.next, struct holder, in_resource);
    }
    if (h == NULL) {
        stale(sm, op, r);
    }
    return h;
}

void lock_op_release(struct lock_sm *sm, const struct lock_op *op)
{
    struct holder *h = named_holder(sm, op);
    if (h == NULL) {
        return;
    }
    sm->stats.releases++;
    snap_touch(sm, h->resource);
    if (--h->count == 0) {
        waiters_of_holder_gone(sm, h);
        lock_event(sm, LOCK_EV_RELEASED, h->resource, h->owner, h->lock_id, h->token);
        holder_free(sm, h);
    }
    resp_int(reply_begin(sm), 1);
    reply_end(sm, op->req, op->idem, LOCK_DONE);
}

void lock_op_renew(struct lock_sm *sm, const struct lock_op *op)
{
    struct resource *r = MUTANT("S49a") ? resource_find(sm, op->resources[0]) : NULL;
    struct holder *h = r != NULL && r->n_holders > 0 ? CONTAINER_OF(r->holders.next, struct holder, in_resource) : named_holder(sm, op);
    if (h == NULL) {
        return;
    }
    snap_touch(sm, h->resource);
    h->renewals++;
    h->ttl_ms = (uint32_t)(op->ttl_ms ? op->ttl_ms : h->ttl_ms);
    holder_arm(sm, h);
    resp_int(reply_begin(sm), 1);
    reply_end(sm, op->req, op->idem, LOCK_DONE);
}

static void reply_converted(struct lock_sm *sm, const struct lock_op *op, struct holder *h)
{
    reply_grants(sm, op->req, op->idem, &h, 1, 0);
}

static void convert(struct lock_sm *sm, const struct lock_op *op, struct holder *h)
{
    struct resource *r = h->resource;
    if (h->mode == op->mode) {
        reply_converted(sm, op, h);
    } else if (op->mode == LOCK_SHARED) {
        snap_touch(sm, r);
        count_mode(sm, h->mode, -1);
        count_mode(sm, LOCK_SHARED, 1);
        h->mode = r->mode = LOCK_SHARED;
        lock_event(sm, LOCK_EV_CONVERTED, r, h->owner, h->lock_id, h->token);
        reply_converted(sm, op, h);
        regrant_mark(sm, r);
    } else if (r->n_holders == 1) {
        lock_upgrade(sm, h);
        reply_converted(sm, op, h);
    } else if (op->wait_ms == 0) {
        refuse_locked(sm, op, r, h->owner);
    } else {
        lock_wait(sm, op, h->owner, h->session, &r, h);
    }
}

void lock_op_convert(struct lock_sm *sm, const struct lock_op *op)
{
    struct holder *h = named_holder(sm, op);
    if (h != NULL) {
        convert(sm, op, h);
    }
}

void lock_op_force(struct lock_sm *sm, const struct lock_op *op)
{
    struct resource *r = resource_find(sm, op->resources[0]);
    uint64_t freed = 0;
    if (r != NULL && r->n_holders > 0) {
        snap_touch(sm, r);
        r->token = next_token(sm, r);
        while (!list_empty(&r->holders)) {
            struct holder *h = CONTAINER_OF(r->holders.next, struct holder, in_resource);
            waiters_of_holder_gone(sm, h);
            lock_event(sm, LOCK_EV_FORCED, r, h->owner, h->lock_id, h->token);
            holder_free(sm, h);
            freed++;
        }
        sm->stats.forced += freed;
    }
    struct buf *b = reply_begin(sm);
    resp_map(b, 2);
    resp_bulk_str(b, "freed");
    resp_u64(b, freed);
    resp_bulk_str(b, "token");
    resp_u64(b, r ? r->token : 0);
    reply_end(sm, op->req, op->idem, LOCK_DONE);
}
