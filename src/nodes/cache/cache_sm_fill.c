/* Rights to fill: of a key that is absent one caller at a time may have the right to put its value, and what keys that went had last (docs/cache.md, "Filling a
 * miss").
 *
 * F1: a key has one right, whose token is the index of the entry that gave it. F2: a right ends with whatever is written to its key, and with every command that
 * would have written: a fill that was begun before comes too late. F3: rights and last values count in memory's bound; last values go first when it is
 * reached. F4: a key that lives has no last value. All of it is replicated: whoever leads next judges fills as the one before did. */
#include "nodes/cache/cache_sm_internal.h"

#include "communication/resp.h"
#include "utils/hash.h"

#include <stdlib.h>

enum {
    FILLS_MAX = 65536,                  /* rights of a group */
    FILL_KEEP_MS = 60000,               /* a right whose time is over stays that long for a late fill, while nobody asks for it */
    FILL_LOOKS = 2,                     /* of the oldest rights, each time that one is given */
    STALE_KEEP_MS = 10 * 60 * 1000,     /* a last value is kept that long, ... */
    STALE_BYTES_MAX = 8 * 1024 * 1024,  /* ... and so much of them, ... */
    STALE_SHARE = 8,                    /* ... at most this part of a bounded memory */
};

static uint64_t key_hash(const struct cache_sm *m, slice_t key)
{
    return hash_bytes(m->opt.hash_key, key);
}

/* --- rights */

static slice_t fill_key(const struct fill *f)
{
    return slice_of(f->key, f->key_len);
}

static bool fill_is(const struct map_node *n, const void *key)
{
    return slice_eq(fill_key(CONTAINER_OF(n, struct fill, by_key)), *(const slice_t *)key);
}

static struct fill *fill_find(const struct cache_sm *m, slice_t key)
{
    struct map_node *n = m->fills.n > 0 ? map_find((struct map *)&m->fills.by_key, key_hash(m, key), &key, fill_is) : NULL;
    return n != NULL ? CONTAINER_OF(n, struct fill, by_key) : NULL;
}

static uint64_t fill_cost(size_t key_len)
{
    return sizeof(struct fill) + key_len + CELL_COST;
}

static uint64_t fill_digest(const struct fill *f)
{
    return hash_u64(hash_bytes(f->token, fill_key(f)) ^ hash_u64(f->until_ms));
}

static void fill_add(struct cache_sm *m, slice_t key, uint64_t token, uint64_t until_ms)
{
    struct fill *f = malloc(sizeof *f + key.len);
    syn_assert(f != NULL && fill_find(m, key) == NULL); /* F1 */
    f->token = token;
    f->until_ms = until_ms;
    f->key_len = (uint32_t)key.len;
    memcpy(f->key, key.ptr, key.len);
    map_insert(&m->fills.by_key, &f->by_key, key_hash(m, key));
    list_push_back(&m->fills.all, &f->in_age);
    m->fills.n++;
    m->fills.bytes += fill_cost(key.len);
    m->fills.sum += fill_digest(f);
}

static void fill_free(struct cache_sm *m, struct fill *f)
{
    map_remove(&m->fills.by_key, &f->by_key);
    list_remove(&f->in_age);
    m->fills.n--;
    m->fills.bytes -= fill_cost(f->key_len);
    m->fills.sum -= fill_digest(f);
    free(f);
}

/* Those who died with a right leave it behind: a few of the oldest are looked at, and go or have another turn. */
static void fills_sweep(struct cache_sm *m)
{
    uint64_t keep_ms = m->fills.n >= FILLS_MAX / 2 ? 0 : FILL_KEEP_MS;
    for (int i = 0; i < FILL_LOOKS && m->fills.n > 0; i++) {
        struct fill *f = CONTAINER_OF(m->fills.all.next, struct fill, in_age);
        if (m->now_ms >= f->until_ms && m->now_ms - f->until_ms >= keep_ms) {
            fill_free(m, f);
        } else {
            list_remove(&f->in_age);
            list_push_back(&m->fills.all, &f->in_age);
        }
    }
}

void sm_fill_end(struct cache_sm *m, slice_t key)
{
    struct fill *f = fill_find(m, key);
    if (f != NULL) {
        fill_free(m, f);
    }
}

bool cache_sm_filling(const struct cache_sm *m, slice_t key)
{
    return fill_find(m, key) != NULL;
}

/* --- last values */

static slice_t stale_key(const struct stale *s)
{
    return slice_of(s->bytes, s->key_len);
}

static bool stale_is(const struct map_node *n, const void *key)
{
    return slice_eq(stale_key(CONTAINER_OF(n, struct stale, by_key)), *(const slice_t *)key);
}

static struct stale *stale_find(const struct cache_sm *m, slice_t key)
{
    struct map_node *n = m->stales.n > 0 ? map_find((struct map *)&m->stales.by_key, key_hash(m, key), &key, stale_is) : NULL;
    return n != NULL ? CONTAINER_OF(n, struct stale, by_key) : NULL;
}

static uint64_t stale_cost(size_t key_len, size_t value_len)
{
    return sizeof(struct stale) + key_len + value_len + CELL_COST;
}

static uint64_t stale_digest(const struct stale *s)
{
    return hash_u64(hash_bytes(s->version, slice_of(s->bytes, (size_t)s->key_len + s->value_len)) ^ hash_u64(s->gone_ms ^ (uint64_t)s->key_len << 48));
}

static void stale_free(struct cache_sm *m, struct stale *s)
{
    map_remove(&m->stales.by_key, &s->by_key);
    list_remove(&s->in_age);
    m->stales.n--;
    m->stales.bytes -= stale_cost(s->key_len, s->value_len);
    m->stales.sum -= stale_digest(s);
    free(s);
}

static struct stale *stale_oldest(struct cache_sm *m)
{
    return CONTAINER_OF(m->stales.all.next, struct stale, in_age);
}

static uint64_t stale_bytes_max(const struct cache_sm *m)
{
    uint64_t share = m->bound / STALE_SHARE;
    return m->bound != 0 && share < STALE_BYTES_MAX ? share : STALE_BYTES_MAX;
}

static void stale_add(struct cache_sm *m, slice_t key, slice_t value, uint64_t version, uint64_t gone_ms)
{
    struct stale *s = malloc(sizeof *s + key.len + value.len);
    syn_assert(s != NULL && stale_find(m, key) == NULL);
    s->version = version;
    s->gone_ms = gone_ms;
    s->key_len = (uint32_t)key.len;
    s->value_len = (uint32_t)value.len;
    memcpy(s->bytes, key.ptr, key.len);
    memcpy(s->bytes + key.len, value.ptr, value.len);
    map_insert(&m->stales.by_key, &s->by_key, key_hash(m, key));
    list_push_back(&m->stales.all, &s->in_age);
    m->stales.n++;
    m->stales.bytes += stale_cost(key.len, value.len);
    m->stales.sum += stale_digest(s);
}

static void stale_make_room(struct cache_sm *m, uint64_t cost)
{
    while (m->stales.n > 0 && m->stales.bytes + cost > stale_bytes_max(m)) {
        stale_free(m, stale_oldest(m));
    }
}

void sm_stale_fit(struct cache_sm *m)
{
    stale_make_room(m, 0);
}

void sm_stale_keep(struct cache_sm *m, const struct cell *c)
{
    struct cache_item item = cell_item(c);
    slice_t key = cell_key(c);
    uint64_t cost = stale_cost(key.len, item.value.len);
    syn_assert(item.exists);
    sm_stale_drop(m, key);
    if (cost > stale_bytes_max(m)) {
        return;
    }
    stale_make_room(m, cost);
    bool expired = item.expire_ms != 0 && item.expire_ms <= m->now_ms;
    stale_add(m, key, item.value, c->version, expired ? item.expire_ms : m->now_ms);
}

void sm_stale_drop(struct cache_sm *m, slice_t key)
{
    struct stale *s = stale_find(m, key);
    if (s != NULL) {
        stale_free(m, s);
    }
}

void sm_stale_step(struct cache_sm *m)
{
    while (m->stales.n > 0 && m->now_ms - stale_oldest(m)->gone_ms > STALE_KEEP_MS) {
        stale_free(m, stale_oldest(m));
    }
}

bool sm_stale_give_way(struct cache_sm *m)
{
    if (m->stales.n > 0) {
        stale_free(m, stale_oldest(m));
        return true;
    }
    return false;
}

/* --- asking for a right, giving it up, filling */

static void put_lease(struct buf *out, enum cache_lease_kind kind, uint64_t token, uint64_t left_ms)
{
    buf_put_u8(out, (uint8_t)kind);
    buf_put_u64(out, token);
    buf_put_u64(out, left_ms);
}

/* The last value, if it is not older than what is asked for: from the cell, when it expired and nobody has deleted it yet. */
static void put_stale(struct cache_sm *m, slice_t key, const struct cell *c, uint64_t stale_ms, struct buf *out)
{
    const struct stale *s = stale_find(m, key);
    bool expired = c != NULL && c->key_bits & CELL_EXISTS && c->key_bits & CELL_FILLED;
    slice_t value = expired ? cell_item(c).value : s != NULL ? slice_of(s->bytes + s->key_len, s->value_len) : SLICE_NONE;
    uint64_t age_ms = expired ? m->now_ms - cell_expire_ms(c) : s != NULL ? m->now_ms - s->gone_ms : 0;
    bool given = (expired || s != NULL) && age_ms <= stale_ms && stale_ms > 0;
    buf_put_u8(out, given);
    buf_put_u64(out, given ? age_ms : 0);
    buf_put_u64(out, !given ? 0 : expired ? c->version : s->version);
    buf_put_bytes(out, given ? value : SLICE_NONE);
}

bool get_lease(struct reader r, struct cache_lease_ask *a)
{
    a->key = reader_bytes(&r);
    a->fill_ms = reader_u64(&r);
    a->stale_ms = reader_u64(&r);
    return reader_done(&r) && a->key.len <= LIMIT_KEY_BYTES && a->fill_ms > 0 && a->fill_ms <= CACHE_FILL_MS_MAX;
}

void sm_lease_run(struct cache_sm *m, const struct cache_lease_ask *a, struct buf *out)
{
    const struct cell *c = sm_cell(m, a->key);
    struct fill *f = fill_find(m, a->key);
    if (c != NULL && cell_lives(c, m->now_ms)) {
        put_lease(out, CACHE_LEASE_HIT, 0, 0);
    } else if (f != NULL && f->until_ms > m->now_ms) {
        put_lease(out, CACHE_LEASE_HELD, 0, f->until_ms - m->now_ms);
        put_stale(m, a->key, c, a->stale_ms, out);
    } else {
        if (f != NULL) {
            fill_free(m, f);
        }
        fills_sweep(m);
        if (m->fills.n >= FILLS_MAX || !sm_has_room(m, 0, fill_cost(a->key.len))) {
            sm_say_full(out);
            return;
        }
        fill_add(m, a->key, m->index, m->now_ms + a->fill_ms);
        put_lease(out, CACHE_LEASE_GIVEN, m->index, a->fill_ms);
    }
}

/* A right that is not the newest, or that ended, is refused (F1, F2). */
static bool holds(struct cache_sm *m, slice_t key, uint64_t token, struct buf *out)
{
    const struct fill *f = fill_find(m, key);
    const struct cell *c = sm_cell(m, key);
    if (f != NULL && f->token == token && !(c != NULL && cell_lives(c, m->now_ms))) {
        return true;
    }
    resp_error(out, "STALEFILL", "the right %llu to fill is over, nothing was written: use the value for this one answer, and ask CACHE.LEASE again",
               (unsigned long long)token);
    return false;
}

bool sm_fill_run(struct cache_sm *m, const struct batch_op *o, uint64_t wall_ms, struct buf *out)
{
    uint64_t token = le64_get(o->op.ptr);
    struct batch_op set = {o->key, slice_of(o->op.ptr + 8, o->op.len - 8)};
    if (!holds(m, o->key, token, out)) {
        return false;
    }
    bool changed = sm_run(m, &set, wall_ms, out);
    struct cell *c = sm_cell(m, o->key);
    if (changed && c != NULL && c->key_bits & CELL_EXISTS) {
        sm_mark_filled(m, c);
    }
    return changed;
}

void sm_abandon_run(struct cache_sm *m, const struct batch_op *o, struct buf *out)
{
    struct fill *f = fill_find(m, o->key);
    bool held = f != NULL && f->token == le64_get(o->op.ptr);
    if (held) {
        fill_free(m, f);
    }
    resp_int(out, held);
}

/* --- life, snapshots */

void sm_fills_init(struct cache_sm *m)
{
    m->fills = (struct cache_fills){0};
    m->stales = (struct cache_stales){0};
    map_init(&m->fills.by_key);
    map_init(&m->stales.by_key);
    list_init(&m->fills.all);
    list_init(&m->stales.all);
}

void sm_fills_fini(struct cache_sm *m)
{
    list_each_safe(it, &m->fills.all) {
        fill_free(m, CONTAINER_OF(it, struct fill, in_age));
    }
    list_each_safe(it, &m->stales.all) {
        stale_free(m, CONTAINER_OF(it, struct stale, in_age));
    }
    map_fini(&m->fills.by_key);
    map_fini(&m->stales.by_key);
}

/* In the order of their lists, which decides what goes first. */
void sm_fills_save(const struct cache_sm *m, struct buf *out)
{
    buf_put_u32(out, m->fills.n);
    list_each(it, (struct list *)&m->fills.all) {
        const struct fill *f = CONTAINER_OF(it, struct fill, in_age);
        buf_put_u64(out, f->token);
        buf_put_u64(out, f->until_ms);
        buf_put_bytes(out, fill_key(f));
    }
    buf_put_u32(out, m->stales.n);
    list_each(it, (struct list *)&m->stales.all) {
        const struct stale *s = CONTAINER_OF(it, struct stale, in_age);
        buf_put_u64(out, s->version);
        buf_put_u64(out, s->gone_ms);
        buf_put_bytes(out, stale_key(s));
        buf_put_bytes(out, slice_of(s->bytes + s->key_len, s->value_len));
    }
}

static bool load_fill(struct cache_sm *m, struct reader *r)
{
    uint64_t token = reader_u64(r), until_ms = reader_u64(r);
    slice_t key = reader_bytes(r);
    if (!r->ok || key.len > LIMIT_KEY_BYTES || token > m->index || fill_find(m, key) != NULL) {
        return false;
    }
    fill_add(m, key, token, until_ms);
    return true;
}

static bool load_stale(struct cache_sm *m, struct reader *r)
{
    uint64_t version = reader_u64(r), gone_ms = reader_u64(r);
    slice_t key = reader_bytes(r), value = reader_bytes(r);
    if (!r->ok || key.len > LIMIT_KEY_BYTES || value.len > LIMIT_COMMAND_BYTES || version > m->index || gone_ms > m->now_ms || stale_find(m, key) != NULL) {
        return false;
    }
    stale_add(m, key, value, version, gone_ms);
    return true;
}

bool sm_fills_restore(struct cache_sm *m, struct reader *r)
{
    bool ok = m->fills.n == 0 && m->stales.n == 0;
    uint32_t n = reader_u32(r);
    for (uint32_t i = 0; ok && r->ok && i < n; i++) {
        ok = i < FILLS_MAX && load_fill(m, r);
    }
    n = reader_u32(r);
    for (uint32_t i = 0; ok && r->ok && i < n; i++) {
        ok = load_stale(m, r);
    }
    return ok && reader_done(r);
}

void sm_fills_check(const struct cache_sm *m)
{
    uint64_t sum = 0, bytes = 0;
    uint32_t n = 0;
    list_each(it, (struct list *)&m->fills.all) {
        const struct fill *f = CONTAINER_OF(it, struct fill, in_age);
        sum += fill_digest(f), bytes += fill_cost(f->key_len), n++;
    }
    syn_assert(n == m->fills.n && n == m->fills.by_key.count && n <= FILLS_MAX && sum == m->fills.sum && bytes == m->fills.bytes);
    sum = bytes = n = 0;
    list_each(it, (struct list *)&m->stales.all) {
        const struct stale *s = CONTAINER_OF(it, struct stale, in_age);
        const struct cell *c = sm_cell(m, stale_key(s));
        syn_assert(c == NULL || !(c->key_bits & CELL_EXISTS)); /* F4 */
        sum += stale_digest(s), bytes += stale_cost(s->key_len, s->value_len), n++;
    }
    syn_assert(n == m->stales.n && n == m->stales.by_key.count && sum == m->stales.sum && bytes == m->stales.bytes && bytes <= stale_bytes_max(m));
}
