/* Memory behind the cache: its life, how a key's item changes, holders, looking, digest. See cache_sm.h, docs/cache.md.
 *
 * Invariants: K12 nothing here depends on a clock, an address, a hash key or a table's order. MC8 a key's version never falls.
 * M1: sum, bytes and keys are those of the cells in the table; the heap has those with an expiry. cache_sm_check looks. */
#include "nodes/cache/cache_sm_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

void cache_out_init(struct cache_out *o)
{
    *o = (struct cache_out){0};
}

void cache_out_clear(struct cache_out *o)
{
    buf_clear(&o->replies);
    o->n_results = 0;
    o->n_touched = 0;
}

void cache_out_fini(struct cache_out *o)
{
    buf_fini(&o->replies);
    free(o->results);
    free(o->touched);
    *o = (struct cache_out){0};
}

static struct cache_table *table_new(uint64_t hash_key)
{
    struct cache_table *t = malloc(sizeof *t);
    syn_assert(t != NULL);
    sm_table_init(t, hash_key);
    return t;
}

struct cache_sm *cache_sm_new(const struct cache_sm_options *o)
{
    struct cache_sm *m = calloc(1, sizeof *m);
    syn_assert(m != NULL);
    m->opt = *o;
    m->bound = o->memory_bytes;
    m->table = table_new(o->hash_key);
    graves_init(&m->graves);
    dedup_init(&m->dedup, o->hash_key, o->dedup_ms, o->dedup_count);
    list_init(&m->cleared);
    sm_fills_init(m);
    return m;
}

/* The table and the heap as they are will be freed. */
static void clear_later(struct cache_sm *m)
{
    struct cleared *x = malloc(sizeof *x);
    syn_assert(x != NULL);
    *x = (struct cleared){.table = m->table, .due = m->due};
    list_push_back(&m->cleared, &x->link);
    m->table = NULL;
    m->due = (struct cache_due){0};
}

void cache_sm_free(struct cache_sm *m)
{
    cache_sm_snapshot_abort(m);
    clear_later(m);
    list_each_safe(it, &m->cleared) {
        struct cleared *x = CONTAINER_OF(it, struct cleared, link);
        table_free_some(x->table, SIZE_MAX);
        due_free_some(&x->due, UINT32_MAX);
        free(x->table);
        free(x);
    }
    sm_fills_fini(m);
    graves_fini(&m->graves);
    dedup_fini(&m->dedup);
    buf_fini(&m->snap.out);
    buf_fini(&m->restore.in);
    buf_fini(&m->change.value);
    buf_fini(&m->names);
    free(m);
}

struct cell *sm_cell(const struct cache_sm *m, slice_t key)
{
    struct cell **at = table_find(m->table, key);
    return at != NULL ? *at : NULL;
}

uint64_t sm_version(struct cache_sm *m, slice_t key, const struct cell *c)
{
    return c != NULL ? c->version : graves_version(&m->graves, grave_hash(key));
}

static void count_in(struct cache_sm *m, const struct cell *c)
{
    m->sum += cell_hash(c);
    m->stats.bytes += cell_cost(c);
    m->stats.keys += c->key_bits & CELL_EXISTS ? 1 : 0;
}

static void count_out(struct cache_sm *m, const struct cell *c)
{
    m->sum -= cell_hash(c);
    m->stats.bytes -= cell_cost(c);
    m->stats.keys -= c->key_bits & CELL_EXISTS ? 1 : 0;
}

static void drop(struct cache_sm *m, struct cell *c, slice_t key, uint64_t version)
{
    graves_add(&m->graves, grave_hash(key), version);
    if (c == NULL) {
        return;
    }
    if (c->key_bits & CELL_DUE) {
        due_remove(&m->due, c);
    }
    table_remove(m->table, c);
    free(c);
}

/* The cell with the item, in place or as another cell in the same place. */
static struct cell *rewrite(struct cache_sm *m, struct cell *c, slice_t key, const struct cache_item *item)
{
    uint64_t expire_ms = item->exists ? item->expire_ms : 0;
    bool moves = cell_expire_ms(c) != expire_ms;
    if (moves && (c->key_bits & CELL_DUE)) {
        due_remove(&m->due, c);
    }
    struct cell *now = c;
    if (!cell_write(c, item)) {
        now = cell_new(key, item);
        *table_find(m->table, key) = now;
        if (!moves && expire_ms != 0) {
            due_replace(&m->due, c, now);
        }
        free(c);
    }
    if (moves && expire_ms != 0) {
        due_add(&m->due, now);
    }
    return now;
}

struct cell *sm_put(struct cache_sm *m, struct cell *c, slice_t key, const struct cache_item *item, uint64_t version)
{
    bool filled = c != NULL && c->key_bits & CELL_FILLED;
    if (version == m->index) {
        sm_fill_end(m, key); /* F2; a key that is due keeps its version, and whoever fills it */
    }
    if (c != NULL) {
        syn_assert(version >= c->version); /* MC8 */
        sm_snap_touch(m, c);
        count_out(m, c);
        if (filled && !item->exists) {
            sm_stale_keep(m, c);
        }
    }
    if (item->exists) {
        sm_stale_drop(m, key); /* F4 */
    }
    if (!item->exists && item->guard.len == 0) {
        drop(m, c, key, version);
        return NULL;
    }
    if (c != NULL) {
        c = rewrite(m, c, key, item);
    } else {
        c = cell_new(key, item);
        table_insert(m->table, c);
        if (c->key_bits & CELL_DUE) {
            due_add(&m->due, c);
        }
    }
    c->key_bits = (uint16_t)((c->key_bits & ~CELL_FILLED) | (filled && item->exists ? CELL_FILLED : 0));
    c->version = version;
    c->saved = m->snap.number;
    count_in(m, c);
    return c;
}

void sm_mark_filled(struct cache_sm *m, struct cell *c)
{
    syn_assert(c->key_bits & CELL_EXISTS);
    count_out(m, c);
    c->key_bits |= CELL_FILLED;
    count_in(m, c);
}

uint64_t cache_sm_bound(const struct cache_sm *m)
{
    return m->bound;
}

/* Of keys there may be more than that already: they stay, and what they take may only become less. */
void sm_set_bound(struct cache_sm *m, uint64_t bytes)
{
    m->bound = bytes;
    sm_stale_fit(m);
}

bool sm_has_room(struct cache_sm *m, uint64_t old_cost, uint64_t new_cost)
{
    if (m->bound == 0 || new_cost <= old_cost) {
        return true;
    }
    uint64_t need = m->stats.bytes - old_cost + new_cost;
    while (need + m->fills.bytes + m->stales.bytes > m->bound && sm_stale_give_way(m)) {
    }
    return need + m->fills.bytes + m->stales.bytes <= m->bound;
}

/* The cells are freed over the next applies; a snapshot that is under way still reads them. */
void sm_clear(struct cache_sm *m)
{
    clear_later(m);
    m->table = table_new(m->opt.hash_key);
    graves_clear(&m->graves, m->index);
    m->sum = m->stats.bytes = m->stats.keys = 0;
    sm_fills_fini(m);
    sm_fills_init(m);
}

void sm_clear_step(struct cache_sm *m)
{
    list_each_safe(it, &m->cleared) {
        struct cleared *x = CONTAINER_OF(it, struct cleared, link);
        if (m->snap.active && m->snap.walk == x->table) {
            continue;
        }
        bool cells_gone = table_free_some(x->table, CLEAR_BUCKETS), due_gone = due_free_some(&x->due, CLEAR_DUE);
        if (cells_gone && due_gone) {
            list_remove(it);
            free(x->table);
            free(x);
        }
        return;
    }
}

static uint32_t holder_place(const struct cache_sm *m, uint32_t node)
{
    uint32_t i = 0;
    while (i < m->n_holders && m->holders[i] < node) {
        i++;
    }
    return i;
}

bool cache_sm_holds(const struct cache_sm *m, uint32_t node)
{
    uint32_t i = holder_place(m, node);
    return i < m->n_holders && m->holders[i] == node;
}

bool sm_hold(struct cache_sm *m, uint32_t node)
{
    if (cache_sm_holds(m, node) || m->n_holders == CACHE_HOLDERS_MAX) {
        return cache_sm_holds(m, node);
    }
    uint32_t i = holder_place(m, node);
    memmove(&m->holders[i + 1], &m->holders[i], (m->n_holders - i) * sizeof m->holders[0]);
    m->holders[i] = node;
    m->n_holders++;
    return true;
}

void sm_unhold(struct cache_sm *m, uint32_t node)
{
    if (cache_sm_holds(m, node)) {
        uint32_t i = holder_place(m, node);
        m->n_holders--;
        memmove(&m->holders[i], &m->holders[i + 1], (m->n_holders - i) * sizeof m->holders[0]);
    }
}

uint32_t cache_sm_holders(const struct cache_sm *m, uint32_t *out)
{
    memcpy(out, m->holders, m->n_holders * sizeof *out);
    return m->n_holders;
}

void cache_sm_get(struct cache_sm *m, slice_t key, uint64_t now_ms, struct cache_item *item, uint64_t *version)
{
    const struct cell *c = sm_cell(m, key);
    *version = sm_version(m, key, c);
    *item = c != NULL ? cell_item(c) : (struct cache_item){0};
    if (c == NULL || !cell_lives(c, now_ms)) {
        item->exists = false;
        item->value = SLICE_NONE;
        item->expire_ms = 0;
    }
}

uint64_t cache_sm_next_due_ms(const struct cache_sm *m)
{
    return m->due.n > 0 ? m->due.entries[0].at_ms : UINT64_MAX;
}

void cache_sm_stats(const struct cache_sm *m, struct cache_sm_stats *s)
{
    *s = m->stats;
    s->bound = m->bound;
    s->with_expiry = m->due.n;
    s->fills = m->fills.n;
    s->stales = m->stales.n;
    s->fill_bytes = m->fills.bytes + m->stales.bytes;
}

struct scan { uint64_t now_ms; uint32_t found; void (*fn)(void *arg, slice_t key); void *arg; };

static void scan_cell(void *arg, struct cell *c)
{
    struct scan *s = arg;
    if (cell_lives(c, s->now_ms)) {
        s->found++;
        s->fn(s->arg, cell_key(c));
    }
}

uint64_t cache_sm_scan(struct cache_sm *m, uint64_t cursor, uint32_t count, uint64_t now_ms, void (*fn)(void *arg, slice_t key), void *arg)
{
    struct scan s = {.now_ms = now_ms, .fn = fn, .arg = arg};
    uint64_t looks = (uint64_t)count * 10; /* buckets may be empty, or hold what has expired: a call ends nevertheless, as Redis' does */
    do {
        cursor = table_walk(m->table, cursor, scan_cell, &s);
    } while (cursor != 0 && s.found < count && looks-- > 0);
    return cursor;
}

uint64_t cache_sm_digest(const struct cache_sm *m)
{
    uint64_t h = hash_u64(m->history ^ hash_u64(m->sum));
    h = hash_u64(h ^ m->graves.sum ^ hash_u64(m->graves.forgotten));
    for (uint32_t i = 0; i < m->n_holders; i++) {
        h = hash_u64(h ^ m->holders[i]);
    }
    return hash_u64(h ^ m->index ^ hash_u64(m->stats.bytes) ^ m->fills.sum ^ m->stales.sum);
}

static void check_cell(void *arg, struct cell *c)
{
    struct cache_sm *seen = arg;
    struct cache_item item = cell_item(c);
    syn_assert(item.exists || (item.guard.len > 0 && item.value.len == 0 && item.expire_ms == 0));
    syn_assert(cell_cost(c) == item_cost(cell_key(c), &item));
    syn_assert(c->version <= seen->index);
    count_in(seen, c);
    seen->due.n += c->key_bits & CELL_DUE ? 1 : 0;
}

void cache_sm_check(const struct cache_sm *m)
{
    struct cache_sm seen = {.index = m->index};
    table_check(m->table);
    table_each(m->table, check_cell, &seen);
    syn_assert(seen.sum == m->sum && seen.stats.bytes == m->stats.bytes && seen.stats.keys == m->stats.keys && seen.due.n == m->due.n); /* M1 */
    due_check(&m->due);
    graves_check(&m->graves);
    sm_fills_check(m);
    for (uint32_t i = 1; i < m->n_holders; i++) {
        syn_assert(m->holders[i - 1] < m->holders[i]);
    }
}
