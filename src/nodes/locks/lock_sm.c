/* The lock state machine's front: life, dispatch of applied operations, results and events, digest. See lock_sm.h, docs/locks.md.
 *
 * Invariants: K12 nothing here depends on a clock, an address, a hash key or a table's order; every operation is answered at most
 * once per request (R15); after each apply no waiter is left that could be granted (K7: regrant_all ends every apply). */
#include "nodes/locks/lock_internal.h"

#include "communication/resp.h"
#include "utils/hash.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void lock_out_init(struct lock_out *o)
{
    *o = (struct lock_out){0};
}

void lock_out_clear(struct lock_out *o)
{
    buf_clear(&o->replies);
    buf_clear(&o->names);
    o->n_results = 0;
    o->n_events = 0;
}

void lock_out_fini(struct lock_out *o)
{
    buf_fini(&o->replies);
    buf_fini(&o->names);
    free(o->results);
    free(o->events);
    *o = (struct lock_out){0};
}

static struct lock_result *out_add_result(struct lock_out *o)
{
    if (o->n_results == o->cap_results) {
        o->cap_results = o->cap_results ? o->cap_results * 2 : 64;
        o->results = realloc(o->results, o->cap_results * sizeof *o->results);
        syn_assert(o->results != NULL);
    }
    return &o->results[o->n_results++];
}

struct lock_sm *lock_sm_new(const struct lock_sm_options *o)
{
    struct lock_sm *sm = calloc(1, sizeof *sm);
    syn_assert(sm != NULL && o->default_ttl_ms > 0);
    sm->opt = *o;
    struct map *maps[] = {&sm->resources, &sm->owners, &sm->sessions, &sm->waiters, &sm->waiting_idems};
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++) {
        map_init(maps[i]);
    }
    struct list *lists[] = {&sm->resources_all, &sm->retained,    &sm->sessions_all, &sm->sessions_ended,
                            &sm->due, &sm->waiters_all};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        list_init(lists[i]);
    }
    dedup_init(&sm->dedup, o->hash_key, o->dedup_ms, o->dedup_count);
    wheel_init(&sm->wheel, 0);
    sm->next_serial = 1;
    return sm;
}

static void free_resources(struct list *l)
{
    list_each_safe(it, l) {
        struct resource *r = CONTAINER_OF(it, struct resource, all);
        list_each_safe(h, &r->holders) {
            struct holder *x = CONTAINER_OF(h, struct holder, in_resource);
            free(x->meta);
            free(x);
        }
        free(r);
    }
}

void lock_sm_free(struct lock_sm *sm)
{
    struct map_node *m;
    lock_sm_snapshot_abort(sm);
    while ((m = map_first(&sm->waiters)) != NULL) {
        struct waiter *w = CONTAINER_OF(m, struct waiter, by_request);
        map_remove(&sm->waiters, m);
        free(w->meta);
        free(w->idem);
        free(w);
    }
    free_resources(&sm->resources_all);
    free_resources(&sm->retained);
    while ((m = map_first(&sm->owners)) != NULL) {
        struct owner *o = CONTAINER_OF(m, struct owner, by_name);
        map_remove(&sm->owners, m);
        free(o->waits);
        free(o);
    }
    while ((m = map_first(&sm->sessions)) != NULL) {
        struct session *s = CONTAINER_OF(m, struct session, by_id);
        map_remove(&sm->sessions, m);
        free(s->groups);
        free(s);
    }
    dedup_fini(&sm->dedup);
    map_fini(&sm->resources);
    map_fini(&sm->owners);
    map_fini(&sm->sessions);
    map_fini(&sm->waiters);
    map_fini(&sm->waiting_idems);
    buf_fini(&sm->snap.out);
    if (sm->restore != NULL) {
        buf_fini(&sm->restore->in);
        map_fini(&sm->restore->waiters);
        free(sm->restore);
    }
    free(sm);
}

struct lock_bytes *lock_bytes_new(slice_t s)
{
    if (s.len == 0) {
        return NULL;
    }
    struct lock_bytes *b = malloc(sizeof *b + s.len);
    syn_assert(b != NULL);
    b->len = (uint32_t)s.len;
    memcpy(b->bytes, s.ptr, s.len);
    return b;
}

struct buf *reply_begin(struct lock_sm *sm)
{
    struct lock_result *r = out_add_result(sm->out);
    r->reply_off = sm->out->replies.len;
    return &sm->out->replies;
}

void reply_end(struct lock_sm *sm, struct request_id req, slice_t idem, enum lock_code code)
{
    struct lock_out *o = sm->out;
    struct lock_result *r = &o->results[o->n_results - 1];
    r->req = req;
    r->code = code;
    r->reply_len = o->replies.len - r->reply_off;
    slice_t reply = lock_out_reply(o, r);
    sm->digest = hash_u64(sm->digest ^ hash_bytes((uint64_t)code, reply));
    if (code != LOCK_NEED_ATTACH) {
        lock_remember(sm, req, idem, code, reply);
    }
    if (req.origin == 0) {
        o->replies.len = r->reply_off;
        o->n_results--;
    }
}

void reply_error(struct lock_sm *sm, struct request_id req, slice_t idem, const char *word, const char *fmt, ...)
{
    char text[1536];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    resp_error(reply_begin(sm), word, "%s", text);
    reply_end(sm, req, idem, LOCK_ERROR);
}

void lock_event(struct lock_sm *sm, enum lock_event_kind kind, const struct resource *r, const struct owner *o, uint64_t lock_id,
                uint64_t token)
{
    struct lock_out *out = sm->out;
    if (!out->want_events) {
        return;
    }
    if (out->n_events == out->cap_events) {
        out->cap_events = out->cap_events ? out->cap_events * 2 : 64;
        out->events = realloc(out->events, out->cap_events * sizeof *out->events);
        syn_assert(out->events != NULL);
    }
    struct lock_event *e = &out->events[out->n_events++];
    *e = (struct lock_event){.kind = kind, .lock_id = lock_id, .token = token};
    e->resource_off = out->names.len;
    e->resource_len = r->name_len;
    buf_append_slice(&out->names, resource_name(r));
    e->owner_off = out->names.len;
    e->owner_len = o ? o->name_len : 0;
    if (o != NULL) {
        buf_append_slice(&out->names, owner_name(o));
    }
}

static void dispatch(struct lock_sm *sm, const struct lock_op *op)
{
    switch (op->kind) {
    case LOCK_OP_ACQUIRE: lock_op_acquire(sm, op); break;
    case LOCK_OP_RELEASE: lock_op_release(sm, op); break;
    case LOCK_OP_RENEW: lock_op_renew(sm, op); break;
    case LOCK_OP_CONVERT: lock_op_convert(sm, op); break;
    case LOCK_OP_FORCE: lock_op_force(sm, op); break;
    case LOCK_OP_CANCEL: lock_op_cancel(sm, op); break;
    case LOCK_OP_ORIGIN_GONE: lock_op_origin_gone(sm, op); break;
    case LOCK_OP_DUE: lock_op_due(sm, op->items); break;
    case LOCK_OP_VICTIM: lock_op_victim(sm, op); break;
    case LOCK_OP_SESSION_CREATE:
    case LOCK_OP_SESSION_KEEPALIVE:
    case LOCK_OP_SESSION_END:
    case LOCK_OP_SESSION_ATTACH:
    case LOCK_OP_SESSION_ADOPT:
    case LOCK_OP_SESSION_DROP:
    case LOCK_OP_SESSION_DETACHED: lock_op_session(sm, op); break;
    case LOCK_OP_MAX: SYN_UNREACHABLE();
    }
}

void lock_sm_apply(struct lock_sm *sm, uint64_t index, uint64_t term, uint64_t time_ms, slice_t bytes, struct lock_out *out)
{
    slice_t names[LIMIT_ACQUIREALL_NAMES];
    struct lock_op op;
    syn_assert(index > sm->index && time_ms >= sm->time_ms);
    sm->index = index;
    sm->term = term;
    sm->time_ms = time_ms;
    sm->out = out;
    sm->digest = hash_u64(sm->digest ^ hash_bytes(index, bytes));
    if (MUTANT("S21")) {
        sm->digest ^= (uint64_t)(uintptr_t)sm;
    }
    if (!lock_op_decode(bytes, &op, names, LIMIT_ACQUIREALL_NAMES)) {
        sm->stats.refused_malformed++;
        sm->out = NULL;
        return;
    }
    dedup_advance(&sm->dedup, op.req, op.low, sm->time_ms);
    if (op.req.origin == 0 || !lock_known(sm, &op)) {
        dispatch(sm, &op);
        regrant_all(sm);
    }
    sessions_forget(sm);
    sm->out = NULL;
}

void lock_sm_stats(const struct lock_sm *sm, struct lock_sm_stats *out)
{
    *out = sm->stats;
    out->resources = sm->resources.count - sm->n_retained;
    out->waiters = sm->waiters.count;
    out->owners = sm->owners.count;
    uint64_t held = sm->stats.held_shared + sm->stats.held_exclusive;
    out->bytes = held * sizeof(struct holder) + sm->resources.count * (sizeof(struct resource) + 16) +
                 sm->owners.count * (sizeof(struct owner) + 16) + sm->waiters.count * (sizeof(struct waiter) + sizeof(struct place)) +
                 sm->sessions.count * sizeof(struct session) + sm->dedup.n_records * (sizeof(struct record) + 128);
}

uint64_t lock_sm_digest(const struct lock_sm *sm)
{
    return sm->digest;
}

static uint64_t hash_bytes_or_none(uint64_t h, const struct lock_bytes *b)
{
    return b != NULL ? hash_u64(h ^ hash_bytes(5, slice_of(b->bytes, b->len))) : h;
}

static uint64_t hash_holder(uint64_t h, const struct holder *x)
{
    h = hash_u64(h ^ hash_bytes(1, owner_name(x->owner)));
    h = hash_u64(h ^ x->lock_id);
    h = hash_u64(h ^ x->token);
    h = hash_u64(h ^ ((uint64_t)x->ttl_ms << 32 | x->maxhold_ms));
    h = hash_u64(h ^ ((uint64_t)x->count << 8 | x->mode));
    h = hash_u64(h ^ ((uint64_t)x->renewals << 40 | x->granted_ms));
    h = hash_bytes_or_none(h, x->meta);
    return hash_u64(h ^ (x->session ? x->session->id : 0));
}

static uint64_t hash_resource(const struct resource *r)
{
    uint64_t h = hash_u64(hash_bytes(2, resource_name(r)) ^ r->token);
    list_each(it, &r->holders) {
        h = hash_holder(h, CONTAINER_OF(it, struct holder, in_resource));
    }
    list_each(it, &r->places) {
        const struct place *p = CONTAINER_OF(it, struct place, in_resource);
        const struct waiter *w = p->waiter;
        h = hash_u64(h ^ hash_bytes(w->mode, owner_name(w->owner)));
        h = hash_u64(h ^ w->req.origin ^ hash_u64(w->req.seq) ^ w->until_ms);
        h = hash_u64(h ^ (w->session ? w->session->id : 0) ^ (w->converts ? hash_u64(w->converts->lock_id) : 0));
        h = hash_u64(h ^ ((uint64_t)w->ttl_ms << 32 | w->maxhold_ms) ^ ((uint64_t)p->ahead << 63) ^ hash_u64(w->began_ms));
        h = hash_bytes_or_none(hash_bytes_or_none(h, w->meta), w->idem);
    }
    return h;
}

static uint64_t hash_session(const struct session *s)
{
    uint64_t h = hash_u64(s->id ^ hash_u64(s->ttl_ms + s->ended + ((uint64_t)s->n_groups << 8)));
    for (uint32_t i = 0; i < s->n_groups; i++) {
        h = hash_u64(h ^ s->groups[i]);
    }
    h = hash_u64(h ^ ((uint64_t)s->renewals << 40 | s->ended_ms));
    return hash_u64(h ^ hash_bytes(6, slice_of(s->name, s->name_len)));
}

uint64_t lock_sm_state_hash(const struct lock_sm *sm)
{
    uint64_t sum = sm->floor;
    const struct list *lists[] = {&sm->resources_all, &sm->retained};
    for (int i = 0; i < 2; i++) {
        list_each(it, (struct list *)lists[i]) {
            sum += hash_resource(CONTAINER_OF(it, struct resource, all));
        }
    }
    const struct list *sessions[] = {&sm->sessions_all, &sm->sessions_ended};
    for (int i = 0; i < 2; i++) {
        list_each(it, (struct list *)sessions[i]) {
            sum += hash_session(CONTAINER_OF(it, struct session, all));
        }
    }
    return sum + dedup_hash(&sm->dedup);
}

static void check_resource(const struct resource *r)
{
    uint32_t holders = 0, places = 0;
    list_each(it, &r->holders) {
        const struct holder *h = CONTAINER_OF(it, struct holder, in_resource);
        syn_assert(h->resource == r && h->mode == r->mode && h->count > 0);
        syn_assert(h->token <= r->token);
        holders++;
    }
    bool ahead = true;
    list_each(it, &r->places) {
        const struct place *p = CONTAINER_OF(it, struct place, in_resource);
        syn_assert(p->resource == r && (ahead || !p->ahead));
        ahead = p->ahead;
        places++;
    }
    syn_assert(holders == r->n_holders && places == r->n_places);
    syn_assert(holders <= 1 || r->mode == LOCK_SHARED); /* K1 */
    syn_assert(holders > 0 || places > 0);
}

/* K7 no waiter could be granted; K4 none belongs to an ended session. */
static void check_waiters(const struct lock_sm *sm)
{
    uint64_t before = 0;
    list_each(it, (struct list *)&sm->waiters_all) {
        struct waiter *w = CONTAINER_OF(it, struct waiter, all);
        syn_assert(w->serial > before && w->owner->waits->n > 0);
        syn_assert(w->session == NULL || !w->session->ended);
        syn_assert(w->converts == NULL || (w->converts->owner == w->owner && w->n == 1));
        syn_assert(!waiter_grantable(w));
        before = w->serial;
    }
}

void lock_sm_check(const struct lock_sm *sm)
{
    list_each(it, (struct list *)&sm->resources_all) {
        const struct resource *r = CONTAINER_OF(it, struct resource, all);
        check_resource(r);
    }
    check_waiters(sm);
    syn_assert(sm->regrants == NULL && sm->rechecks == NULL);
    list_each(it, (struct list *)&sm->retained) {
        const struct resource *r = CONTAINER_OF(it, struct resource, all);
        syn_assert(r->n_holders == 0 && r->n_places == 0);
    }
    wheel_check(&sm->wheel);
}
