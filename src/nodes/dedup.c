/* The table of answered requests (dedup.h): one implementation for every service of a group.
 *
 * Not responsible for what an answer means, nor for requests that still wait: the owner of a table hangs those on origin.waiters.
 * Invariants: a record is in its origin's list, in the list by age and in the map, or nowhere; both windows hold at any time but for
 * FORGET_PER_APPLY per operation, so that no operation pays for many. */
#include "nodes/dedup.h"

#include "utils/assert.h"
#include "utils/hash.h"
#include "utils/limits.h"

#include <stdlib.h>

enum { FORGET_PER_APPLY = 8 };

static bool origin_eq(const struct map_node *n, const void *key)
{
    return CONTAINER_OF(n, struct origin, by_id)->id == *(const uint64_t *)key;
}

static bool record_eq(const struct map_node *n, const void *key)
{
    const struct request_id *a = &CONTAINER_OF(n, struct record, by_request)->req, *b = key;
    return a->origin == b->origin && a->seq == b->seq;
}

static bool idem_eq(const struct map_node *n, const void *key)
{
    return slice_eq(idem_name(CONTAINER_OF(n, struct idem, by_id)), *(const slice_t *)key);
}

static uint64_t request_hash(struct request_id req)
{
    return hash_u64(req.origin ^ hash_u64(req.seq));
}

void dedup_init(struct dedup *d, uint64_t hash_key, uint64_t window_ms, uint32_t window_count)
{
    *d = (struct dedup){.hash_key = hash_key, .window_ms = window_ms, .window_count = window_count};
    struct map *maps[] = {&d->origins, &d->records, &d->idems};
    struct list *lists[] = {&d->origins_all, &d->records_all, &d->idems_all};
    for (size_t i = 0; i < 3; i++) {
        map_init(maps[i]);
        list_init(lists[i]);
    }
}

struct origin *dedup_origin_find(struct dedup *d, uint64_t id)
{
    struct map_node *n = map_find(&d->origins, hash_u64(id), &id, origin_eq);
    return n != NULL ? CONTAINER_OF(n, struct origin, by_id) : NULL;
}

struct origin *dedup_origin(struct dedup *d, uint64_t id, uint64_t now_ms)
{
    struct origin *o = dedup_origin_find(d, id);
    if (o != NULL) {
        return o;
    }
    o = calloc(1, sizeof *o);
    syn_assert(o != NULL);
    o->id = id;
    o->active_ms = now_ms;
    list_init(&o->records);
    list_init(&o->waiters);
    list_push_back(&d->origins_all, &o->all);
    map_insert(&d->origins, &o->by_id, hash_u64(id));
    return o;
}

static void record_free(struct dedup *d, struct record *r)
{
    map_remove(&d->records, &r->by_request);
    list_remove(&r->in_origin);
    list_remove(&r->in_age);
    d->n_records--;
    free(r);
}

static void idem_free(struct dedup *d, struct idem *i)
{
    map_remove(&d->idems, &i->by_id);
    list_remove(&i->in_age);
    d->n_idems--;
    free(i);
}

static void forget_records(struct dedup *d, uint64_t now_ms)
{
    for (int i = 0; i < FORGET_PER_APPLY && !list_empty(&d->records_all); i++) {
        struct record *r = CONTAINER_OF(d->records_all.next, struct record, in_age);
        if (d->n_records <= d->window_count && now_ms - r->time_ms < d->window_ms) {
            break;
        }
        record_free(d, r);
    }
}

static void forget_idems(struct dedup *d, uint64_t now_ms)
{
    for (int i = 0; i < FORGET_PER_APPLY && !list_empty(&d->idems_all); i++) {
        struct idem *x = CONTAINER_OF(d->idems_all.next, struct idem, in_age);
        if (d->n_idems <= d->window_count && now_ms - x->time_ms < d->window_ms) {
            break;
        }
        idem_free(d, x);
    }
}

static void forget_origin(struct dedup *d, uint64_t now_ms)
{
    if (list_empty(&d->origins_all)) {
        return;
    }
    struct origin *o = CONTAINER_OF(d->origins_all.next, struct origin, all);
    if (now_ms - o->active_ms < d->window_ms) {
        return;
    }
    list_remove(&o->all);
    if (list_empty(&o->records) && list_empty(&o->waiters)) {
        map_remove(&d->origins, &o->by_id);
        free(o);
    } else {
        list_push_back(&d->origins_all, &o->all);
    }
}

void dedup_advance(struct dedup *d, struct request_id req, uint64_t low, uint64_t now_ms)
{
    forget_records(d, now_ms);
    forget_idems(d, now_ms);
    forget_origin(d, now_ms);
    if (req.origin == 0) {
        return;
    }
    struct origin *o = dedup_origin(d, req.origin, now_ms);
    if (o->active_ms != now_ms) {
        o->active_ms = now_ms;
        list_remove(&o->all);
        list_push_back(&d->origins_all, &o->all);
    }
    low = low < req.seq ? low : req.seq;
    o->low = low > o->low ? low : o->low;
    for (int i = 0; i < FORGET_PER_APPLY && !list_empty(&o->records); i++) {
        struct record *r = CONTAINER_OF(o->records.next, struct record, in_origin);
        if (r->req.seq >= o->low) {
            break;
        }
        record_free(d, r);
    }
}

struct record *dedup_find(struct dedup *d, struct request_id req)
{
    struct map_node *n = map_find(&d->records, request_hash(req), &req, record_eq);
    return n != NULL ? CONTAINER_OF(n, struct record, by_request) : NULL;
}

bool dedup_too_old(struct dedup *d, struct request_id req)
{
    struct origin *o = dedup_origin_find(d, req.origin);
    return o != NULL && req.seq < o->low;
}

struct idem *dedup_find_idem(struct dedup *d, slice_t id)
{
    struct map_node *n = map_find(&d->idems, hash_bytes(d->hash_key, id), &id, idem_eq);
    return n != NULL ? CONTAINER_OF(n, struct idem, by_id) : NULL;
}

void dedup_add(struct dedup *d, struct request_id req, uint64_t now_ms, uint8_t code, slice_t reply)
{
    struct record *r = malloc(sizeof *r + reply.len);
    syn_assert(r != NULL);
    *r = (struct record){.req = req, .time_ms = now_ms, .code = code, .len = (uint32_t)reply.len};
    if (reply.len > 0) {
        memcpy(r->reply, reply.ptr, reply.len);
    }
    map_insert(&d->records, &r->by_request, request_hash(req));
    list_push_back(&dedup_origin(d, req.origin, now_ms)->records, &r->in_origin);
    list_push_back(&d->records_all, &r->in_age);
    d->n_records++;
}

void dedup_add_idem(struct dedup *d, slice_t id, uint64_t now_ms, uint8_t code, slice_t reply)
{
    struct idem *x = malloc(sizeof *x + id.len + reply.len);
    syn_assert(x != NULL);
    *x = (struct idem){.time_ms = now_ms, .code = code, .id_len = (uint16_t)id.len, .reply_len = (uint32_t)reply.len};
    memcpy(x->bytes, id.ptr, id.len);
    memcpy(x->bytes + id.len, reply.ptr, reply.len);
    map_insert(&d->idems, &x->by_id, hash_bytes(d->hash_key, id));
    list_push_back(&d->idems_all, &x->in_age);
    d->n_idems++;
}

uint64_t dedup_hash(const struct dedup *d)
{
    uint64_t h = 0;
    list_each(it, (struct list *)&d->records_all) {
        const struct record *r = CONTAINER_OF(it, struct record, in_age);
        h = hash_u64(h ^ r->req.origin ^ hash_u64(r->req.seq ^ hash_u64(r->time_ms)) ^ hash_bytes(r->code, slice_of(r->reply, r->len)));
    }
    list_each(it, (struct list *)&d->idems_all) {
        const struct idem *x = CONTAINER_OF(it, struct idem, in_age);
        h = hash_u64(h ^ x->time_ms ^ hash_bytes(x->code, slice_of(x->bytes, x->id_len + x->reply_len)));
    }
    list_each(it, (struct list *)&d->origins_all) {
        const struct origin *o = CONTAINER_OF(it, struct origin, all);
        h = hash_u64(h ^ o->id ^ hash_u64(o->low ^ hash_u64(o->active_ms)));
    }
    return h;
}

static size_t rec_begin(struct buf *out, uint8_t kind)
{
    buf_put_u8(out, kind);
    buf_put_u32(out, 0);
    return out->len;
}

static void rec_end(struct buf *out, size_t start)
{
    le32_put(out->ptr + start - 4, (uint32_t)(out->len - start));
}

void dedup_save(const struct dedup *d, struct buf *out, uint8_t first_kind)
{
    list_each(it, (struct list *)&d->origins_all) {
        const struct origin *o = CONTAINER_OF(it, struct origin, all);
        size_t at = rec_begin(out, first_kind);
        buf_put_u64(out, o->id);
        buf_put_u64(out, o->low);
        buf_put_u64(out, o->active_ms);
        rec_end(out, at);
    }
    list_each(it, (struct list *)&d->records_all) {
        const struct record *r = CONTAINER_OF(it, struct record, in_age);
        size_t at = rec_begin(out, first_kind + 1);
        buf_put_u64(out, r->req.origin);
        buf_put_u64(out, r->req.seq);
        buf_put_u64(out, r->time_ms);
        buf_put_u8(out, r->code);
        buf_put_bytes(out, slice_of(r->reply, r->len));
        rec_end(out, at);
    }
    list_each(it, (struct list *)&d->idems_all) {
        const struct idem *x = CONTAINER_OF(it, struct idem, in_age);
        size_t at = rec_begin(out, first_kind + 2);
        buf_put_u64(out, x->time_ms);
        buf_put_u8(out, x->code);
        buf_put_bytes(out, idem_name(x));
        buf_put_bytes(out, idem_reply(x));
        rec_end(out, at);
    }
}

static bool restore_origin(struct dedup *d, struct reader *r, uint64_t now_ms)
{
    uint64_t id = reader_u64(r), low = reader_u64(r), active = reader_u64(r);
    if (!reader_done(r) || id == 0 || active > now_ms || dedup_origin_find(d, id) != NULL) {
        return false;
    }
    struct origin *o = dedup_origin(d, id, active);
    o->low = low;
    return true;
}

static bool restore_record(struct dedup *d, struct reader *r, uint64_t now_ms)
{
    struct request_id req = {.origin = reader_u64(r), .seq = 0};
    req.seq = reader_u64(r);
    uint64_t time = reader_u64(r);
    uint8_t code = reader_u8(r);
    slice_t reply = reader_bytes(r);
    if (!reader_done(r) || time > now_ms || dedup_origin_find(d, req.origin) == NULL || dedup_find(d, req) != NULL) {
        return false;
    }
    dedup_add(d, req, time, code, reply);
    return true;
}

static bool restore_idem(struct dedup *d, struct reader *r, uint64_t now_ms)
{
    uint64_t time = reader_u64(r);
    uint8_t code = reader_u8(r);
    slice_t id = reader_bytes(r), reply = reader_bytes(r);
    if (!reader_done(r) || time > now_ms || id.len == 0 || id.len > LIMIT_IDEM_BYTES + 8 || dedup_find_idem(d, id) != NULL) {
        return false;
    }
    dedup_add_idem(d, id, time, code, reply);
    return true;
}

bool dedup_restore(struct dedup *d, uint8_t which, slice_t body, uint64_t now_ms)
{
    struct reader r = reader_of(body);
    return which == 0 ? restore_origin(d, &r, now_ms) : which == 1 ? restore_record(d, &r, now_ms) :
           which == 2 ? restore_idem(d, &r, now_ms) : false;
}

void dedup_fini(struct dedup *d)
{
    while (!list_empty(&d->records_all)) {
        record_free(d, CONTAINER_OF(d->records_all.next, struct record, in_age));
    }
    while (!list_empty(&d->idems_all)) {
        idem_free(d, CONTAINER_OF(d->idems_all.next, struct idem, in_age));
    }
    list_each_safe(it, &d->origins_all) {
        struct origin *o = CONTAINER_OF(it, struct origin, all);
        map_remove(&d->origins, &o->by_id);
        free(o);
    }
    map_fini(&d->origins);
    map_fini(&d->records);
    map_fini(&d->idems);
}
