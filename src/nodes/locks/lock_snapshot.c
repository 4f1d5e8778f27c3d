/* Snapshots of the lock state machine without stopping it, and restoring one.
 *
 * A cut is consistent as of snapshot_begin: sessions, waiting requests and remembered answers are written then (they are few, and
 * bounded); resources follow in slices, and one that changes before its turn is written first, as it was (snap_touch). Records are
 * u8 kind, u32 length, body; the first is the head, the last one carries how many resources there were. Order within the file carries no meaning except
 * that waiters come before the resources that queue them. */
#include "nodes/locks/lock_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

enum record_kind { REC_HEAD = 1, REC_SESSION, REC_ORIGIN, REC_RECORD, REC_IDEM, REC_WAITER, REC_RESOURCE, REC_END };
enum { RECORD_BYTES_MAX = 64 * 1024 * 1024, RESOURCES_PER_SLICE_MAX = 4096 };

static size_t rec_begin(struct buf *out, enum record_kind kind)
{
    buf_put_u8(out, (uint8_t)kind);
    buf_put_u32(out, 0);
    return out->len;
}

static void rec_end(struct buf *out, size_t start)
{
    le32_put(out->ptr + start - 4, (uint32_t)(out->len - start));
}

static void save_head(const struct lock_sm *sm, struct buf *out)
{
    size_t at = rec_begin(out, REC_HEAD);
    buf_put_u64(out, sm->index);
    buf_put_u64(out, sm->term);
    buf_put_u64(out, sm->time_ms);
    buf_put_u64(out, sm->digest);
    buf_put_u64(out, sm->floor);
    buf_put_u64(out, sm->next_serial);
    const uint64_t counts[] = {sm->stats.grants,      sm->stats.releases, sm->stats.timeouts, sm->stats.deadlocks,
                               sm->stats.expirations, sm->stats.forced,   sm->stats.stale};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        buf_put_u64(out, counts[i]);
    }
    rec_end(out, at);
}

static void save_session(const struct session *s, struct buf *out)
{
    size_t at = rec_begin(out, REC_SESSION);
    buf_put_u64(out, s->id);
    buf_put_u64(out, s->ttl_ms);
    buf_put_u64(out, s->created_ms);
    buf_put_u64(out, s->ended_ms);
    buf_put_u64(out, timer_armed(&s->due.timer) ? s->due.timer.at_ms : 0);
    buf_put_u32(out, s->renewals);
    buf_put_u8(out, s->ended);
    buf_put_bytes(out, slice_of(s->name, s->name_len));
    buf_put_u32(out, s->n_groups);
    for (uint32_t i = 0; i < s->n_groups; i++) {
        buf_put_u32(out, s->groups[i]);
    }
    rec_end(out, at);
}

static void put_bytes(struct buf *out, const struct lock_bytes *b)
{
    buf_put_bytes(out, b ? slice_of(b->bytes, b->len) : SLICE_NONE);
}

static void save_waiter(const struct waiter *w, struct buf *out)
{
    size_t at = rec_begin(out, REC_WAITER);
    buf_put_u64(out, w->serial);
    buf_put_u64(out, w->req.origin);
    buf_put_u64(out, w->req.seq);
    buf_put_bytes(out, owner_name(w->owner));
    buf_put_u64(out, w->session ? w->session->id : 0);
    buf_put_u64(out, w->converts ? w->converts->lock_id : 0);
    buf_put_u64(out, w->began_ms);
    buf_put_u64(out, w->until_ms);
    buf_put_u32(out, w->ttl_ms);
    buf_put_u32(out, w->maxhold_ms);
    buf_put_u8(out, w->mode);
    put_bytes(out, w->meta);
    put_bytes(out, w->idem);
    buf_put_u32(out, w->n);
    rec_end(out, at);
}

static void save_holder(const struct holder *h, struct buf *out)
{
    buf_put_bytes(out, owner_name(h->owner));
    buf_put_u64(out, h->session ? h->session->id : 0);
    buf_put_u64(out, h->lock_id);
    buf_put_u64(out, h->token);
    buf_put_u64(out, h->granted_ms);
    buf_put_u64(out, timer_armed(&h->due.timer) ? h->due.timer.at_ms : 0);
    buf_put_u32(out, h->ttl_ms);
    buf_put_u32(out, h->maxhold_ms);
    buf_put_u32(out, h->renewals);
    buf_put_u32(out, h->count);
    buf_put_u8(out, h->mode);
    put_bytes(out, h->meta);
}

static void save_resource(struct lock_sm *sm, struct resource *r)
{
    struct buf *out = &sm->snap.out;
    r->saved = sm->snap.number;
    sm->snap.count++;
    size_t at = rec_begin(out, REC_RESOURCE);
    buf_put_bytes(out, resource_name(r));
    buf_put_u64(out, r->token);
    buf_put_u64(out, r->serial);
    buf_put_u32(out, r->n_holders);
    list_each(it, &r->holders) {
        save_holder(CONTAINER_OF(it, struct holder, in_resource), out);
    }
    buf_put_u32(out, r->n_places);
    list_each(it, &r->places) {
        const struct waiter *w = CONTAINER_OF(it, struct place, in_resource)->waiter;
        uint32_t which = 0;
        while (&w->places[which].in_resource != it) {
            which++;
        }
        buf_put_u64(out, w->serial);
        buf_put_u32(out, which);
        buf_put_u8(out, w->places[which].ahead);
    }
    rec_end(out, at);
}

void snap_touch(struct lock_sm *sm, struct resource *r)
{
    if (sm->snap.active && r->saved != sm->snap.number) {
        save_resource(sm, r);
    }
}

void snap_leave(struct lock_sm *sm, struct resource *r)
{
    if (!sm->snap.active) {
        return;
    }
    snap_touch(sm, r);
    if (sm->snap.cursor == &r->all) {
        sm->snap.cursor = r->all.next;
    }
}

/* In the order of serials: each owner's, session's and origin's list is rebuilt in that order. */
static void save_waiters(const struct lock_sm *sm, struct buf *out)
{
    list_each(it, (struct list *)&sm->waiters_all) {
        save_waiter(CONTAINER_OF(it, struct waiter, all), out);
    }
}

void lock_sm_snapshot_begin(struct lock_sm *sm)
{
    syn_assert(!sm->snap.active);
    sm->snap.active = true;
    sm->snap.number++;
    sm->snap.count = 0;
    buf_clear(&sm->snap.out);
    struct buf *out = &sm->snap.out;
    save_head(sm, out);
    list_each(it, &sm->sessions_all) {
        save_session(CONTAINER_OF(it, struct session, all), out);
    }
    list_each(it, &sm->sessions_ended) {
        save_session(CONTAINER_OF(it, struct session, all), out);
    }
    dedup_save(&sm->dedup, out, REC_ORIGIN);
    save_waiters(sm, out);
    list_each(it, &sm->retained) {
        save_resource(sm, CONTAINER_OF(it, struct resource, all));
    }
    sm->snap.cursor = sm->resources_all.next;
}

bool lock_sm_snapshot_step(struct lock_sm *sm, size_t max_bytes, struct buf *out)
{
    struct lock_snap *s = &sm->snap;
    syn_assert(s->active);
    for (int i = 0; i < RESOURCES_PER_SLICE_MAX && s->out.len < max_bytes && s->cursor != &sm->resources_all; i++) {
        struct resource *r = CONTAINER_OF(s->cursor, struct resource, all);
        s->cursor = s->cursor->next;
        snap_touch(sm, r);
    }
    bool done = s->cursor == &sm->resources_all;
    if (done) {
        size_t at = rec_begin(&s->out, REC_END);
        buf_put_u64(&s->out, s->count);
        rec_end(&s->out, at);
        s->active = false;
    }
    buf_append_slice(out, buf_slice(&s->out));
    buf_clear(&s->out);
    return done;
}

void lock_sm_snapshot_abort(struct lock_sm *sm)
{
    sm->snap.active = false;
    buf_clear(&sm->snap.out);
}

static bool load_head(struct lock_sm *sm, struct reader *r)
{
    sm->index = reader_u64(r);
    sm->term = reader_u64(r);
    sm->time_ms = reader_u64(r);
    sm->digest = reader_u64(r);
    sm->floor = reader_u64(r);
    sm->next_serial = reader_u64(r);
    uint64_t *const counts[] = {&sm->stats.grants,      &sm->stats.releases, &sm->stats.timeouts, &sm->stats.deadlocks,
                                &sm->stats.expirations, &sm->stats.forced,   &sm->stats.stale};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        *counts[i] = reader_u64(r);
    }
    return reader_done(r);
}

static bool load_session(struct lock_sm *sm, struct reader *r)
{
    uint64_t id = reader_u64(r), ttl = reader_u64(r), created = reader_u64(r), ended = reader_u64(r), due = reader_u64(r);
    uint32_t renewals = reader_u32(r);
    bool over = reader_u8(r) != 0;
    slice_t name = reader_bytes(r);
    uint32_t groups = reader_u32(r);
    if (!r->ok || id == 0 || name.len > LIMIT_SESSION_NAME_BYTES || groups > 65536 || session_find(sm, id) != NULL) {
        return false;
    }
    struct session *s = session_new(sm, id, ttl, name);
    s->created_ms = created;
    s->ended_ms = ended;
    s->renewals = renewals;
    for (uint32_t i = 0; i < groups; i++) {
        session_attach(s, reader_u32(r));
    }
    if (over) {
        s->ended = true;
        sm->stats.sessions--;
        list_remove(&s->all);
        list_push_back(&sm->sessions_ended, &s->all);
    } else if (due != 0) {
        due_set(sm, &s->due, due);
    }
    return reader_done(r);
}

static bool load_waiter(struct lock_sm *sm, struct reader *r)
{
    uint64_t serial = reader_u64(r);
    struct request_id req = {.origin = reader_u64(r), .seq = 0};
    req.seq = reader_u64(r);
    slice_t owner = reader_bytes(r);
    uint64_t session = reader_u64(r), converts = reader_u64(r), began = reader_u64(r), until = reader_u64(r);
    uint32_t ttl = reader_u32(r), maxhold = reader_u32(r);
    uint8_t mode = reader_u8(r);
    slice_t meta = reader_bytes(r), idem = reader_bytes(r);
    uint32_t n = reader_u32(r);
    struct session *s = session ? session_find(sm, session) : NULL;
    if (!reader_done(r) || owner.len == 0 || owner.len > 4 * LIMIT_OWNER_BYTES || n == 0 || n > LIMIT_ACQUIREALL_NAMES || (session && (s == NULL || s->ended)) ||
        (mode != LOCK_SHARED && mode != LOCK_EXCLUSIVE) || waiter_find(sm, req) != NULL || serial <= sm->restore->serial ||
        meta.len > LIMIT_META_BYTES || idem.len > LIMIT_IDEM_BYTES || (idem.len > 0 && waiter_find_idem(sm, idem) != NULL)) {
        return false;
    }
    struct waiter *w = calloc(1, sizeof *w + n * sizeof w->places[0]);
    syn_assert(w != NULL);
    w->owner = owner_get(sm, owner);
    w->session = s;
    w->req = req;
    w->began_ms = began;
    w->until_ms = until;
    w->ttl_ms = ttl;
    w->maxhold_ms = maxhold;
    w->mode = mode;
    w->meta = lock_bytes_new(meta);
    w->idem = lock_bytes_new(idem);
    w->serial = serial;
    w->converts_id = converts;
    w->n = n;
    w->due.kind = DUE_WAITER;
    timer_init(&w->due.timer);
    for (uint32_t i = 0; i < n; i++) {
        w->places[i].waiter = w;
        list_init(&w->places[i].in_resource);
    }
    waiter_list(sm, w);
    map_insert(&sm->restore->waiters, &w->by_serial, hash_u64(serial));
    sm->restore->serial = serial;
    if (until != UINT64_MAX) {
        due_set(sm, &w->due, until);
    }
    return true;
}

static bool load_holder(struct lock_sm *sm, struct resource *res, struct reader *r)
{
    slice_t owner = reader_bytes(r);
    uint64_t session = reader_u64(r), lock_id = reader_u64(r), token = reader_u64(r), granted = reader_u64(r), due = reader_u64(r);
    uint32_t ttl = reader_u32(r), maxhold = reader_u32(r), renewals = reader_u32(r), count = reader_u32(r);
    uint8_t mode = reader_u8(r);
    slice_t meta = reader_bytes(r);
    struct session *s = session ? session_find(sm, session) : NULL;
    bool mode_ok = mode == LOCK_SHARED || mode == LOCK_EXCLUSIVE;
    if (!r->ok || owner.len == 0 || owner.len > 4 * LIMIT_OWNER_BYTES || count == 0 || !mode_ok || token > res->token || meta.len > LIMIT_META_BYTES ||
        (session && (s == NULL || s->ended)) ||
        (res->n_holders > 0 && (mode == LOCK_EXCLUSIVE || res->mode == LOCK_EXCLUSIVE))) {
        return false;
    }
    struct owner *o = owner_get(sm, owner);
    if (holder_of(res, o) != NULL) {
        return false;
    }
    struct holder *h = holder_new(sm, res, o, s, mode);
    h->lock_id = lock_id;
    h->token = token;
    h->granted_ms = granted;
    h->ttl_ms = ttl;
    h->maxhold_ms = maxhold;
    h->renewals = renewals;
    h->count = count;
    h->meta = lock_bytes_new(meta);
    if (due != 0) {
        due_set(sm, &h->due, due);
    }
    return true;
}

static bool serial_eq(const struct map_node *n, const void *key)
{
    return CONTAINER_OF(n, struct waiter, by_serial)->serial == *(const uint64_t *)key;
}

static bool load_place(struct lock_sm *sm, struct resource *res, struct reader *r)
{
    uint64_t serial = reader_u64(r);
    uint32_t which = reader_u32(r);
    bool ahead = reader_u8(r) != 0;
    struct map_node *m = map_find(&sm->restore->waiters, hash_u64(serial), &serial, serial_eq);
    struct waiter *w = m != NULL ? CONTAINER_OF(m, struct waiter, by_serial) : NULL;
    if (!r->ok || w == NULL || which >= w->n || w->places[which].resource != NULL) {
        return false;
    }
    w->places[which].resource = res;
    w->places[which].ahead = ahead;
    list_push_back(&res->places, &w->places[which].in_resource);
    res->n_places++;
    if (w->converts_id != 0) {
        w->converts = holder_find(res, w->converts_id);
        return w->converts != NULL && w->converts->owner == w->owner && w->n == 1;
    }
    return true;
}

/* Merges two lists that are sorted by serial; both heads are emptied or left sorted. */
static void resources_merge(struct list *into, struct list *from)
{
    struct list *at = into->next;
    while (!list_empty(from)) {
        struct list *n = from->next;
        while (at != into && CONTAINER_OF(at, struct resource, all)->serial < CONTAINER_OF(n, struct resource, all)->serial) {
            at = at->next;
        }
        list_remove(n);
        list_push_back(at, n);
    }
}

/* Resources arrive in any order; LOCK.LIST and the next snapshot walk them by serial. Bottom-up merge sort: runs[i] holds 2^i. */
static void resources_sort(struct list *l)
{
    struct list runs[32], one;
    for (int i = 0; i < 32; i++) {
        list_init(&runs[i]);
    }
    list_init(&one);
    while (!list_empty(l)) {
        struct list *n = l->next;
        list_remove(n);
        list_push_back(&one, n);
        int i = 0;
        for (; i < 31 && !list_empty(&runs[i]); i++) {
            resources_merge(&one, &runs[i]);
        }
        resources_merge(&runs[i], &one);
    }
    for (int i = 0; i < 32; i++) {
        resources_merge(l, &runs[i]);
    }
}

static bool load_resource(struct lock_sm *sm, struct reader *r)
{
    slice_t name = reader_bytes(r);
    uint64_t token = reader_u64(r), serial = reader_u64(r);
    uint32_t holders = reader_u32(r);
    if (!r->ok || name.len == 0 || name.len > LIMIT_KEY_BYTES || resource_find(sm, name) != NULL) {
        return false;
    }
    struct resource *res = resource_get(sm, name);
    res->token = token;
    res->serial = serial;
    for (uint32_t i = 0; i < holders; i++) {
        if (!load_holder(sm, res, r)) {
            return false;
        }
    }
    uint32_t places = reader_u32(r);
    for (uint32_t i = 0; i < places; i++) {
        if (!load_place(sm, res, r)) {
            return false;
        }
    }
    sm->restore->expected++;
    if (res->n_holders == 0 && res->n_places == 0) {
        resource_rest(sm, res);
    }
    return reader_done(r);
}

static bool load_end(struct lock_sm *sm, struct reader *r)
{
    uint64_t count = reader_u64(r);
    if (!reader_done(r) || count != sm->restore->expected) {
        return false;
    }
    for (struct map_node *m = map_first(&sm->waiters); m != NULL; m = map_next(&sm->waiters, m)) {
        const struct waiter *w = CONTAINER_OF(m, struct waiter, by_request);
        for (uint32_t i = 0; i < w->n; i++) {
            if (w->places[i].resource == NULL) {
                return false;
            }
        }
    }
    resources_sort(&sm->resources_all);
    sm->restore->done = true;
    return true;
}

static bool load_any(struct lock_sm *sm, uint8_t kind, slice_t body)
{
    struct reader r = reader_of(body);
    uint64_t serial = sm->next_serial;
    bool ok = false;
    if ((kind == REC_HEAD) == sm->restore->head) {
        return false;
    }
    switch (kind) {
    case REC_HEAD: sm->restore->head = true; return load_head(sm, &r);
    case REC_ORIGIN:
    case REC_RECORD:
    case REC_IDEM: ok = dedup_restore(&sm->dedup, kind - REC_ORIGIN, body, sm->time_ms); break;
    case REC_SESSION: ok = load_session(sm, &r); break;
    case REC_WAITER: ok = load_waiter(sm, &r); break;
    case REC_RESOURCE: ok = load_resource(sm, &r); break;
    case REC_END: ok = load_end(sm, &r); break;
    default: break;
    }
    sm->next_serial = serial;
    return ok;
}

bool lock_sm_restore_piece(struct lock_sm *sm, slice_t piece)
{
    if (sm->restore == NULL) {
        sm->restore = calloc(1, sizeof *sm->restore);
        syn_assert(sm->restore != NULL);
        map_init(&sm->restore->waiters);
    }
    struct lock_restore *re = sm->restore;
    buf_append_slice(&re->in, piece);
    size_t at = 0;
    while (!re->bad && re->in.len - at >= 5) {
        uint32_t len = le32_get(re->in.ptr + at + 1);
        if (len > RECORD_BYTES_MAX || re->done) {
            re->bad = true;
        } else if (re->in.len - at - 5 < len) {
            break;
        } else {
            re->bad = !load_any(sm, re->in.ptr[at], slice_of(re->in.ptr + at + 5, len));
            at += 5 + (size_t)len;
        }
    }
    buf_consume(&re->in, at);
    return !re->bad;
}

bool lock_sm_restore_end(struct lock_sm *sm)
{
    struct lock_restore *re = sm->restore;
    bool ok = re != NULL && re->done && !re->bad && re->in.len == 0;
    if (re != NULL) {
        buf_fini(&re->in);
        map_fini(&re->waiters);
        free(re);
        sm->restore = NULL;
    }
    return ok;
}
