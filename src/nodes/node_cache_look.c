/* Look-ins at the cache for checkers (node.h): they change nothing, not even what a look would otherwise find out. */
#include "nodes/node_internal.h"

#include "nodes/doors/cache_door.h"

uint32_t node_cache_group(const struct node *n, slice_t key)
{
    return cache_group(n, key);
}

void node_cache_line(const struct node *n, slice_t key, uint64_t now_ms, struct cacher_view *out)
{
    cacher_look(n->cache.cacher, cache_group(n, key), key, now_ms, out);
}

bool node_cache_memory(const struct node *n, slice_t key, struct cache_item *item, uint64_t *version)
{
    const struct node_group *g = &n->groups[cache_group(n, key)];
    if (g->cache.sm == NULL) {
        return false;
    }
    cache_sm_get(g->cache.sm, key, g->applied_time, item, version);
    return true;
}

bool node_cache_home(const struct node *n, slice_t key, struct home_key_info *out)
{
    const struct node_group *g = &n->groups[cache_group(n, key)];
    if (g->cache.home == NULL) {
        return false;
    }
    home_info(g->cache.home, key, out);
    return true;
}

bool node_cache_quiet(const struct node *n)
{
    bool quiet = cacher_quiet(n->cache.cacher) && list_empty(&n->cache.batches) && list_empty(&n->cache.filling);
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        const struct group_cache *q = &n->groups[i].cache;
        quiet = quiet && (q->home == NULL || (home_quiet(q->home) && list_empty(&q->held)));
    }
    return quiet;
}
