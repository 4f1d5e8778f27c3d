/* Newest fencing tokens that publishes came with, by topic and resource: one with an older token is refused (docs/queue.md, "Fenced publishes").
 *
 * N1: a token never falls while it is remembered. N2: at most FENCES_BYTES_MAX are remembered in a group; beyond, the pair that no publish came with for longest is
 * forgotten. N3: all of it is replicated, and the locks that are asked besides are those of the same group as of the same entry. */
#include "nodes/queue/queue_internal.h"

#include "utils/hash.h"

enum { FENCES_BYTES_MAX = 8 * 1024 * 1024, FENCE_COST = 32 /* its place in the map, the allocator */ };

struct fence {
    struct map_node by_name;
    struct list in_use;        /* the one that was seen last is last */
    uint64_t topic, token;
    uint16_t len;
    uint8_t resource[];
};

struct fence_name { uint64_t topic; slice_t resource; };

static slice_t fence_resource(const struct fence *f)
{
    return slice_of(f->resource, f->len);
}

static bool fence_is(const struct map_node *n, const void *arg)
{
    const struct fence *f = CONTAINER_OF(n, struct fence, by_name);
    const struct fence_name *name = arg;
    return f->topic == name->topic && slice_eq(fence_resource(f), name->resource);
}

static uint64_t name_hash(const struct queue_sm *sm, const struct fence_name *name)
{
    return hash_u64(hash_bytes(sm->opt.hash_key, name->resource) ^ name->topic);
}

static struct fence *fence_find(const struct queue_sm *sm, const struct fence_name *name)
{
    struct map_node *n = sm->fences.n > 0 ? map_find((struct map *)&sm->fences.by_name, name_hash(sm, name), name, fence_is) : NULL;
    return n != NULL ? CONTAINER_OF(n, struct fence, by_name) : NULL;
}

static uint64_t fence_cost(const struct fence *f)
{
    return sizeof *f + f->len + FENCE_COST;
}

static void fence_free(struct queue_sm *sm, struct fence *f)
{
    map_remove(&sm->fences.by_name, &f->by_name);
    list_remove(&f->in_use);
    sm->fences.n--;
    sm->fences.bytes -= fence_cost(f);
    free(f);
}

static void fence_add(struct queue_sm *sm, const struct fence_name *name, uint64_t token)
{
    struct fence *f = malloc(sizeof *f + name->resource.len);
    syn_assert(f != NULL);
    f->topic = name->topic;
    f->token = token;
    f->len = (uint16_t)name->resource.len;
    memcpy(f->resource, name->resource.ptr, name->resource.len);
    map_insert(&sm->fences.by_name, &f->by_name, name_hash(sm, name));
    list_push_back(&sm->fences.in_use, &f->in_use);
    sm->fences.n++;
    sm->fences.bytes += fence_cost(f);
    while (sm->fences.bytes > FENCES_BYTES_MAX) { /* N2 */
        fence_free(sm, CONTAINER_OF(sm->fences.in_use.next, struct fence, in_use));
    }
}

bool queue_fenced(struct queue_sm *sm, const struct publish_item *it, uint64_t *newest)
{
    const struct fence_name name = {it->topic, it->guard};
    struct fence *f = fence_find(sm, &name);
    if (f != NULL && it->token < f->token) {
        *newest = f->token;
        return true;
    }
    if (sm->opt.lock_fence != NULL && sm->opt.lock_fence(sm->opt.lock_arg, it->guard, it->token, newest)) { /* N3 */
        return true;
    }
    if (f == NULL) {
        fence_add(sm, &name, it->token);
    } else {
        f->token = it->token; /* N1 */
        list_remove(&f->in_use);
        list_push_back(&sm->fences.in_use, &f->in_use);
    }
    return false;
}

void queue_fences_drop(struct queue_sm *sm, uint64_t topic)
{
    list_each_safe(it, &sm->fences.in_use) {
        struct fence *f = CONTAINER_OF(it, struct fence, in_use);
        if (f->topic == topic) {
            fence_free(sm, f);
        }
    }
}

void queue_fences_init(struct queue_sm *sm)
{
    map_init(&sm->fences.by_name);
    list_init(&sm->fences.in_use);
}

void queue_fences_fini(struct queue_sm *sm)
{
    list_each_safe(it, &sm->fences.in_use) {
        fence_free(sm, CONTAINER_OF(it, struct fence, in_use));
    }
    map_fini(&sm->fences.by_name);
}

/* The one that goes first is first. */
void queue_fences_save(const struct queue_sm *sm, struct buf *out)
{
    buf_put_u32(out, sm->fences.n);
    list_each(it, (struct list *)&sm->fences.in_use) {
        const struct fence *f = CONTAINER_OF(it, struct fence, in_use);
        buf_put_u64(out, f->topic);
        buf_put_u64(out, f->token);
        buf_put_bytes(out, fence_resource(f));
    }
}

bool queue_fences_load(struct queue_sm *sm, struct reader *r)
{
    uint32_t n = reader_u32(r);
    bool ok = sm->fences.n == 0;
    for (uint32_t i = 0; ok && r->ok && i < n; i++) {
        struct fence_name name = {.topic = reader_u64(r)};
        uint64_t token = reader_u64(r);
        name.resource = reader_bytes(r);
        ok = r->ok && name.resource.len > 0 && name.resource.len <= LIMIT_KEY_BYTES && topic_find(sm, name.topic) != NULL && fence_find(sm, &name) == NULL;
        if (ok) {
            fence_add(sm, &name, token);
        }
    }
    return ok && reader_done(r) && sm->fences.n == n;
}

void queue_fences_check(const struct queue_sm *sm)
{
    uint64_t bytes = 0;
    uint32_t n = 0;
    list_each(it, (struct list *)&sm->fences.in_use) {
        const struct fence *f = CONTAINER_OF(it, struct fence, in_use);
        syn_assert(topic_find(sm, f->topic) != NULL);
        bytes += fence_cost(f);
        n++;
    }
    syn_assert(n == sm->fences.n && n == sm->fences.by_name.count && bytes == sm->fences.bytes && bytes <= FENCES_BYTES_MAX);
}
