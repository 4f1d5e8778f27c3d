/* What this node's part in the cache counts, summed over groups: for INFO, CACHE.STATS and /metrics.
 *
 * Responsible for: that a count never falls while the node lives. A home ends with its leadership and a memory with its replica; what they counted goes into
 * node_cache.past. Not for: what this node's lines count (cacher.h). */
#include "nodes/node_internal.h"

/* Both are nothing but counts. */
static void add(void *to, const void *from, size_t size)
{
    uint64_t *sum = to;
    const uint64_t *v = from;
    for (size_t i = 0; i < size / sizeof *v; i++) {
        sum[i] += v[i];
    }
}

void cache_counts(const struct node *n, struct cache_counts *out)
{
    *out = n->cache.past;
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        const struct group_cache *q = &n->groups[i].cache;
        struct home_stats h;
        struct cache_sm_stats m;
        if (q->home != NULL) {
            home_stats(q->home, &h);
            add(&out->home, &h, sizeof h);
            out->homes++;
        }
        if (q->sm != NULL) {
            cache_sm_stats(q->sm, &m);
            add(&out->memory, &m, sizeof m);
        }
    }
}

void cache_end_home(struct group_cache *q)
{
    struct home_stats h;
    if (q->home != NULL) {
        home_stats(q->home, &h);
        h.keys = 0;
        add(&q->n->cache.past.home, &h, sizeof h);
        home_free(q->home);
        q->home = NULL;
    }
}

void cache_end_sm(struct group_cache *q)
{
    struct cache_sm_stats m;
    cache_sm_stats(q->sm, &m);
    m.keys = m.bytes = m.bound = m.with_expiry = m.fills = m.stales = m.fill_bytes = 0;
    add(&q->n->cache.past.memory, &m, sizeof m);
    cache_sm_free(q->sm);
    q->sm = NULL;
}
