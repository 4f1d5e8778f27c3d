/* Owners: who holds and who waits, by name. An owner exists while it does either. */
#include "nodes/locks/lock_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

static bool owner_eq(const struct map_node *n, const void *key)
{
    return slice_eq(owner_name(CONTAINER_OF(n, struct owner, by_name)), *(const slice_t *)key);
}

struct owner *owner_find(struct lock_sm *sm, slice_t name)
{
    struct map_node *n = map_find(&sm->owners, hash_bytes(sm->opt.hash_key, name), &name, owner_eq);
    return n != NULL ? CONTAINER_OF(n, struct owner, by_name) : NULL;
}

struct owner *owner_get(struct lock_sm *sm, slice_t name)
{
    uint64_t hash = hash_bytes(sm->opt.hash_key, name);
    struct map_node *n = map_find(&sm->owners, hash, &name, owner_eq);
    if (n != NULL) {
        return CONTAINER_OF(n, struct owner, by_name);
    }
    struct owner *o = malloc(sizeof *o + name.len);
    syn_assert(o != NULL);
    *o = (struct owner){.name_len = (uint16_t)name.len};
    memcpy(o->name, name.ptr, name.len);
    list_init(&o->holds);
    map_insert(&sm->owners, &o->by_name, hash);
    return o;
}

struct owner_waits *owner_waits_get(struct owner *o)
{
    if (o->waits == NULL) {
        o->waits = malloc(sizeof *o->waits);
        syn_assert(o->waits != NULL);
        *o->waits = (struct owner_waits){.owner = o, .node.is_owner = true};
        list_init(&o->waits->list);
    }
    return o->waits;
}

void owner_waits_rest(struct owner *o)
{
    if (o->waits != NULL && o->waits->n == 0 && !o->waits->recheck) {
        free(o->waits);
        o->waits = NULL;
    }
}

void owner_rest(struct lock_sm *sm, struct owner *o)
{
    if (o->n_holds == 0 && o->waits == NULL) {
        map_remove(&sm->owners, &o->by_name);
        free(o);
    }
}
