/* LOCK.WATCH: RESP3 pushes about a resource, from the node that applies the group's entries.
 *
 * A push is ["lock", resource, event, token, owner]; events are granted, released, expired, forced, contended, converted. */
#include "nodes/doors/door.h"

#include "utils/hash.h"

#include <stdlib.h>

static bool watch_eq(const struct map_node *m, const void *key)
{
    const struct watch *w = CONTAINER_OF(m, struct watch, by_name);
    return slice_eq(slice_of(w->name, w->name_len), *(const slice_t *)key);
}

static struct watch *watch_first(struct doors *d, uint64_t key, slice_t name)
{
    struct map_node *m = map_find(&d->watches, hash_bytes(key, name), &name, watch_eq);
    return m != NULL ? CONTAINER_OF(m, struct watch, by_name) : NULL;
}

/* The first watch of a name is in the map; others of that name hang off its `same` list. */
void watch_add(struct node *n, struct conn *c, slice_t name)
{
    struct doors *d = n->doors;
    list_each(it, &c->watches) {
        struct watch *w = CONTAINER_OF(it, struct watch, of_conn);
        if (slice_eq(slice_of(w->name, w->name_len), name)) {
            return;
        }
    }
    struct watch *w = calloc(1, sizeof *w + name.len);
    syn_assert(w != NULL);
    w->conn = c->id;
    w->name_len = name.len;
    memcpy(w->name, name.ptr, name.len);
    list_init(&w->same);
    list_push_back(&c->watches, &w->of_conn);
    struct watch *first = watch_first(d, n->hash_key, name);
    if (first != NULL) {
        list_push_back(&first->same, &w->same);
    } else {
        map_insert(&d->watches, &w->by_name, hash_bytes(n->hash_key, name));
        w->in_map = true;
    }
    d->n_watches++;
}

static void watch_free(struct doors *d, struct watch *w)
{
    if (w->in_map) {
        uint64_t hash = w->by_name.hash;
        map_remove(&d->watches, &w->by_name);
        if (!list_empty(&w->same)) {
            struct watch *heir = CONTAINER_OF(w->same.next, struct watch, same);
            heir->in_map = true;
            map_insert(&d->watches, &heir->by_name, hash);
        }
    }
    list_remove(&w->same);
    list_remove(&w->of_conn);
    d->n_watches--;
    free(w);
}

bool watch_remove(struct node *n, struct conn *c, slice_t name)
{
    list_each_safe(it, &c->watches) {
        struct watch *w = CONTAINER_OF(it, struct watch, of_conn);
        if (slice_eq(slice_of(w->name, w->name_len), name)) {
            watch_free(n->doors, w);
            return true;
        }
    }
    return false;
}

void watch_forget(struct doors *d, struct conn *c)
{
    list_each_safe(it, &c->watches) {
        watch_free(d, CONTAINER_OF(it, struct watch, of_conn));
    }
}

void watch_drop_all(struct node *n, struct conn *c)
{
    watch_forget(n->doors, c);
}

bool doors_want_events(const struct node *n)
{
    return n->doors->n_watches > 0;
}

static const char *event_name(enum lock_event_kind kind)
{
    switch (kind) {
    case LOCK_EV_GRANTED: return "granted";
    case LOCK_EV_RELEASED: return "released";
    case LOCK_EV_EXPIRED: return "expired";
    case LOCK_EV_FORCED: return "forced";
    case LOCK_EV_CONTENDED: return "contended";
    case LOCK_EV_CONVERTED: return "converted";
    }
    SYN_UNREACHABLE();
}

static void watch_tell(struct node *n, const struct watch *w, slice_t push)
{
    struct conn *c = conn_find(n, w->conn);
    if (c != NULL) {
        conn_push(n, c, push);
    }
}

void doors_lock_events(struct node *n, struct node_group *g, const struct lock_out *out)
{
    (void)g;
    struct buf push = {0};
    for (uint32_t i = 0; i < out->n_events; i++) {
        const struct lock_event *e = &out->events[i];
        slice_t name = slice_of(out->names.ptr + e->resource_off, e->resource_len);
        struct watch *first = watch_first(n->doors, n->hash_key, name);
        if (first == NULL) {
            continue;
        }
        buf_clear(&push);
        resp_push(&push, 5);
        resp_bulk_str(&push, "lock");
        resp_bulk(&push, name);
        resp_bulk_str(&push, event_name(e->kind));
        resp_u64(&push, e->token);
        resp_bulk(&push, slice_of(out->names.ptr + e->owner_off, e->owner_len));
        watch_tell(n, first, buf_slice(&push));
        list_each(it, &first->same) {
            watch_tell(n, CONTAINER_OF(it, struct watch, same), buf_slice(&push));
        }
    }
    buf_fini(&push);
}
