/* Versions of keys that are gone, so that an owner's late value does not bring one back (MC8).
 *
 * The newest GRAVES_MAX deletions are known one by one: a key nobody ever wrote, or that went long ago, is not taken for one that has just gone because others
 * did. Of older ones only the greatest version is known. Keys are told apart by 64 bits of hash: two that share them share the later version, which is a
 * version either may not flush below. */
#include "nodes/cache/cache_sm_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

struct grave {
    struct map_node by_hash;
    struct list in_age;
    uint64_t version;
};

static uint64_t digest_of(const struct grave *x)
{
    return hash_u64(x->by_hash.hash ^ hash_u64(x->version));
}

static bool any(const struct map_node *n, const void *key)
{
    (void)n;
    (void)key;
    return true;
}

uint64_t grave_hash(slice_t key)
{
    return hash_bytes(0x6772617665732e31u, key);
}

void graves_init(struct cache_graves *g)
{
    *g = (struct cache_graves){0};
    map_init(&g->by_hash);
    list_init(&g->all);
}

static void grave_free(struct cache_graves *g, struct grave *x)
{
    map_remove(&g->by_hash, &x->by_hash);
    list_remove(&x->in_age);
    g->sum -= digest_of(x);
    g->n--;
    free(x);
}

void graves_fini(struct cache_graves *g)
{
    list_each_safe(it, &g->all) {
        grave_free(g, CONTAINER_OF(it, struct grave, in_age));
    }
    map_fini(&g->by_hash);
}

static struct grave *find(struct cache_graves *g, uint64_t hash)
{
    struct map_node *n = map_find(&g->by_hash, hash, NULL, any);
    return n != NULL ? CONTAINER_OF(n, struct grave, by_hash) : NULL;
}

void graves_add(struct cache_graves *g, uint64_t hash, uint64_t version)
{
    struct grave *x = find(g, hash);
    if (x != NULL) {
        version = version > x->version ? version : x->version;
        grave_free(g, x);
    }
    x = malloc(sizeof *x);
    syn_assert(x != NULL);
    x->version = version;
    map_insert(&g->by_hash, &x->by_hash, hash);
    list_push_back(&g->all, &x->in_age);
    g->sum += digest_of(x);
    if (g->n++ == GRAVES_MAX) {
        struct grave *oldest = CONTAINER_OF(g->all.next, struct grave, in_age);
        g->forgotten = oldest->version > g->forgotten ? oldest->version : g->forgotten;
        grave_free(g, oldest);
    }
}

void graves_clear(struct cache_graves *g, uint64_t version)
{
    graves_fini(g);
    graves_init(g);
    g->forgotten = version;
}

uint64_t graves_version(struct cache_graves *g, uint64_t hash)
{
    const struct grave *x = find(g, hash);
    return x != NULL ? x->version : g->forgotten;
}

void graves_save(const struct cache_graves *g, struct buf *out)
{
    buf_put_u64(out, g->forgotten);
    buf_put_u32(out, g->n);
    list_each(it, (struct list *)&g->all) {
        const struct grave *x = CONTAINER_OF(it, struct grave, in_age);
        buf_put_u64(out, x->by_hash.hash);
        buf_put_u64(out, x->version);
    }
}

bool graves_restore(struct cache_graves *g, struct reader *r, uint64_t index)
{
    uint64_t forgotten = reader_u64(r);
    uint32_t n = reader_u32(r);
    if (!r->ok || n > GRAVES_MAX || forgotten > index || g->n > 0) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint64_t hash = reader_u64(r), version = reader_u64(r);
        if (!r->ok || version > index || find(g, hash) != NULL) {
            return false;
        }
        graves_add(g, hash, version);
    }
    g->forgotten = forgotten;
    return reader_done(r);
}

void graves_check(const struct cache_graves *g)
{
    uint64_t sum = 0;
    uint32_t n = 0;
    list_each(it, (struct list *)&g->all) {
        sum += digest_of(CONTAINER_OF(it, struct grave, in_age));
        n++;
    }
    syn_assert(sum == g->sum && n == g->n && n == g->by_hash.count && n <= GRAVES_MAX);
}
