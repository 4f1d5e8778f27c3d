/* The lines of a cacher: found by group and key, in the order of use, within the bound of CACHE_SIZE. */
#include "nodes/cache/cacher_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

struct line_name { uint32_t group; slice_t key; };

static bool line_is(const struct map_node *n, const void *arg)
{
    const struct line *l = CONTAINER_OF(n, struct line, by_key);
    const struct line_name *k = arg;
    return l->group == k->group && slice_eq(slice_of(l->key, l->key_len), k->key);
}

static uint64_t name_hash(const struct cacher *c, uint32_t group, slice_t key)
{
    return hash_bytes(c->o.hash_key ^ group, key);
}

struct line *line_find(struct cacher *c, uint32_t group, slice_t key)
{
    struct line_name k = {group, key};
    struct map_node *n = map_find(&c->lines, name_hash(c, group, key), &k, line_is);
    if (n == NULL) {
        return NULL;
    }
    struct line *l = CONTAINER_OF(n, struct line, by_key);
    bool stable = l->flight == NULL && l->state != MESI_M;
    if (stable && l->life != c->groups[group].life) { /* its lease is over */
        line_free(c, l);
        return NULL;
    }
    return l;
}

struct line *line_make(struct cacher *c, uint32_t group, slice_t key)
{
    struct line *l = calloc(1, sizeof *l + key.len);
    syn_assert(l != NULL);
    l->group = group;
    l->life = c->groups[group].life;
    l->key_len = (uint32_t)key.len;
    memcpy(l->key, key.ptr, key.len);
    map_insert(&c->lines, &l->by_key, name_hash(c, group, key));
    list_push_front(&c->lru, &l->lru);
    c->bytes += LINE_COST + key.len;
    c->stats.lines++;
    return l;
}

void line_free(struct cacher *c, struct line *l)
{
    syn_assert(l->flight == NULL);
    line_set_dirty(c, l, false);
    line_drop(c, l);
    map_remove(&c->lines, &l->by_key);
    list_remove(&l->lru);
    c->bytes -= LINE_COST + l->key_len;
    c->stats.lines--;
    free(l);
}

void line_use(struct cacher *c, struct line *l)
{
    if (c->lru.next != &l->lru) {
        list_remove(&l->lru);
        list_push_front(&c->lru, &l->lru);
    }
}

void line_drop(struct cacher *c, struct line *l)
{
    c->bytes -= l->value_len + l->guard_len;
    free(l->value);
    free(l->guard);
    l->value = l->guard = NULL;
    l->value_len = l->guard_len = 0;
    l->token = 0;
    l->exists = false;
    l->expire_ms = 0;
}

static void put_bytes(uint8_t **to, uint32_t *len, slice_t from)
{
    if (*len != from.len || *to == NULL) {
        *to = realloc(*to, from.len > 0 ? from.len : 1);
        syn_assert(*to != NULL);
    }
    *len = (uint32_t)from.len;
    if (from.len > 0) {
        memmove(*to, from.ptr, from.len);
    }
}

void line_put(struct cacher *c, struct line *l, const struct cache_item *it)
{
    if (!it->exists && it->guard.len == 0) {
        line_drop(c, l);
        return;
    }
    c->bytes -= l->value_len + l->guard_len;
    put_bytes(&l->value, &l->value_len, it->value);
    if (it->guard.len > 0) {
        put_bytes(&l->guard, &l->guard_len, it->guard);
    }
    l->token = it->token;
    l->exists = it->exists;
    l->expire_ms = it->expire_ms;
    c->bytes += l->value_len + l->guard_len;
}

struct cache_item line_item(const struct cacher *c, const struct line *l)
{
    bool gone = l->expire_ms != 0 && l->expire_ms <= c->now_ms;
    return (struct cache_item){.exists = l->exists && !gone, .value = slice_of(l->value, l->exists && !gone ? l->value_len : 0),
                               .expire_ms = gone ? 0 : l->expire_ms, .guard = slice_of(l->guard, l->guard_len), .token = l->token};
}

void line_set_dirty(struct cacher *c, struct line *l, bool dirty)
{
    if (dirty && l->dirty.next == NULL) {
        list_push_back(&c->groups[l->group].dirty, &l->dirty);
        l->dirty_since_ms = c->now_ms;
        c->stats.dirty++;
    } else if (!dirty && l->dirty.next != NULL) {
        list_remove(&l->dirty);
        l->dirty.next = l->dirty.prev = NULL;
        c->stats.dirty--;
    }
}

static bool too_much(const struct cacher *c)
{
    return (c->o.entries_max > 0 && c->stats.lines > c->o.entries_max) || (c->o.bytes_max > 0 && c->bytes > c->o.bytes_max);
}

/* From the least recently used on. A line in a transaction stays; a dirty one begins its flush and stays until memory has it (MC9). */
void lines_trim(struct cacher *c, struct line *keep)
{
    uint32_t looks = 64;
    for (struct list *it = c->lru.prev; it != &c->lru && too_much(c) && looks > 0; looks--) {
        struct line *l = CONTAINER_OF(it, struct line, lru);
        it = it->prev;
        if (l == keep || l->flight != NULL) {
            continue;
        }
        c->stats.evicted++;
        cacher_step(c, l, MESI_EVICT, NULL, NULL);
    }
}

struct flight *flight_of(struct cacher *c, struct line *l)
{
    if (l->flight == NULL) {
        struct flight *f = calloc(1, sizeof *f);
        syn_assert(f != NULL);
        f->line = l;
        f->retry_ms = UINT64_MAX;
        list_init(&f->waiters);
        list_push_back(&c->flights, &f->by_time);
        c->groups[l->group].flights++;
        c->stats.busy++;
        l->flight = f;
    }
    return l->flight;
}

void flight_end(struct cacher *c, struct line *l)
{
    struct flight *f = l->flight;
    syn_assert(f != NULL && list_empty(&f->waiters) && f->writes == 0);
    list_remove(&f->by_time);
    if (f->in_group.next != NULL) {
        list_remove(&f->in_group);
    }
    c->groups[l->group].flights--;
    c->stats.busy--;
    free(f);
    l->flight = NULL;
}
