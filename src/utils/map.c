/* Intrusive chained hash table, two tables while it grows or shrinks; see map.h. */
#include "utils/map.h"

#include "utils/assert.h"

#include <stdlib.h>

/* Per operation: few full buckets, so that no call is slow, and many empty ones, so that a shrinking map keeps up. */
enum { MAP_MIN_BUCKETS = 16, MAP_DRAIN_FULL = 4, MAP_DRAIN_BUCKETS = 32 };

static void table_init(struct map_table *t, size_t buckets)
{
    t->buckets = calloc(buckets, sizeof *t->buckets);
    syn_assert(t->buckets != NULL);
    t->mask = buckets - 1;
}

static void table_fini(struct map_table *t)
{
    free(t->buckets);
    *t = (struct map_table){0};
}

static void table_push(struct map_table *t, struct map_node *n)
{
    struct map_node **b = &t->buckets[n->hash & t->mask];
    n->next = *b;
    *b = n;
}

void map_init(struct map *m)
{
    *m = (struct map){0};
}

void map_fini(struct map *m)
{
    table_fini(&m->now);
    table_fini(&m->old);
    m->count = 0;
    m->drained = 0;
}

static void map_drain(struct map *m)
{
    int full = 0;
    for (int i = 0; i < MAP_DRAIN_BUCKETS && full < MAP_DRAIN_FULL && m->old.buckets != NULL; i++) {
        struct map_node *n = m->old.buckets[m->drained];
        full += n != NULL;
        while (n != NULL) {
            struct map_node *next = n->next;
            table_push(&m->now, n);
            n = next;
        }
        m->old.buckets[m->drained] = NULL;
        if (m->drained++ == m->old.mask) {
            table_fini(&m->old);
            m->drained = 0;
        }
    }
}

static void map_resize_if_due(struct map *m)
{
    if (m->now.buckets == NULL) {
        table_init(&m->now, MAP_MIN_BUCKETS);
        return;
    }
    if (m->old.buckets != NULL) {
        return;
    }
    size_t buckets = m->now.mask + 1, want = buckets;
    if (m->count > buckets) {
        want = buckets * 2;
    } else if (buckets > MAP_MIN_BUCKETS && m->count * 8 < buckets) {
        want = buckets / 2;
    }
    if (want != buckets) {
        m->old = m->now;
        m->drained = 0;
        table_init(&m->now, want);
    }
}

static struct map_node *table_find(const struct map_table *t, uint64_t hash, const void *key, map_eq_fn eq)
{
    if (t->buckets == NULL) {
        return NULL;
    }
    struct map_node *n = t->buckets[hash & t->mask];
    while (n != NULL && !(n->hash == hash && eq(n, key))) {
        n = n->next;
    }
    return n;
}

struct map_node *map_find(struct map *m, uint64_t hash, const void *key, map_eq_fn eq)
{
    map_drain(m);
    struct map_node *n = table_find(&m->now, hash, key, eq);
    return n != NULL ? n : table_find(&m->old, hash, key, eq);
}

void map_insert(struct map *m, struct map_node *n, uint64_t hash)
{
    map_drain(m);
    map_resize_if_due(m);
    n->hash = hash;
    table_push(&m->now, n);
    m->count++;
}

static bool table_unlink(struct map_table *t, struct map_node *n)
{
    if (t->buckets == NULL) {
        return false;
    }
    struct map_node **p = &t->buckets[n->hash & t->mask];
    while (*p != NULL && *p != n) {
        p = &(*p)->next;
    }
    if (*p == NULL) {
        return false;
    }
    *p = n->next;
    n->next = NULL;
    return true;
}

void map_remove(struct map *m, struct map_node *n)
{
    bool found = table_unlink(&m->now, n) || table_unlink(&m->old, n);
    syn_assert(found);
    syn_assert(m->count > 0);
    m->count--;
    map_drain(m);
    map_resize_if_due(m);
}

static struct map_node *table_from(const struct map_table *t, size_t bucket)
{
    if (t->buckets == NULL) {
        return NULL;
    }
    for (; bucket <= t->mask; bucket++) {
        if (t->buckets[bucket] != NULL) {
            return t->buckets[bucket];
        }
    }
    return NULL;
}

struct map_node *map_first(const struct map *m)
{
    struct map_node *n = table_from(&m->now, 0);
    return n != NULL ? n : table_from(&m->old, 0);
}

static bool table_holds(const struct map_table *t, const struct map_node *n)
{
    if (t->buckets == NULL) {
        return false;
    }
    const struct map_node *it = t->buckets[n->hash & t->mask];
    while (it != NULL && it != n) {
        it = it->next;
    }
    return it == n;
}

struct map_node *map_next(const struct map *m, struct map_node *prev)
{
    if (prev->next != NULL) {
        return prev->next;
    }
    if (m->old.buckets == NULL || table_holds(&m->now, prev)) {
        struct map_node *n = table_from(&m->now, (prev->hash & m->now.mask) + 1);
        return n != NULL ? n : table_from(&m->old, 0);
    }
    return table_from(&m->old, (prev->hash & m->old.mask) + 1);
}
