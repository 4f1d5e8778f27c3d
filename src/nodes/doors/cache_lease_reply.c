/* What the callers of CACHE.LEASE are answered: hit, fill, wait or stale, each a map whose first field is `result`.
 *
 * Not here: when they are (cache_lease.c). */
#include "nodes/doors/cache_lease.h"

static void caller_answer(struct node *n, struct lease_caller *l, slice_t reply)
{
    struct conn *c = conn_find(n, l->conn);
    if (c != NULL) {
        conn_reply(n, c, l->slot, reply);
    }
    lease_caller_free(l);
}

static void put_result(struct buf *b, const char *result, uint32_t fields)
{
    resp_map(b, 1 + fields);
    resp_bulk_str(b, "result");
    resp_bulk_str(b, result);
}

static void put_u64(struct buf *b, const char *name, uint64_t v)
{
    resp_bulk_str(b, name);
    resp_u64(b, v);
}

void lease_put_hit(struct node *n, struct buf *b, uint32_t group, slice_t key, slice_t value_resp)
{
    uint64_t version;
    cacher_state(n->cache.cacher, group, key, &version);
    put_result(b, "hit", 2);
    resp_bulk_str(b, "value");
    buf_append_slice(b, value_resp);
    put_u64(b, "version", version);
}

void lease_answer_round(struct node *n, struct lease_wait *w, slice_t reply)
{
    list_each_safe(it, &w->callers) {
        struct lease_caller *l = CONTAINER_OF(it, struct lease_caller, link);
        if (!l->fresh) {
            caller_answer(n, l, reply);
        }
    }
}

void lease_answer_hit(struct node *n, struct lease_wait *w, slice_t reply)
{
    list_each_safe(it, &w->callers) {
        struct lease_caller *l = CONTAINER_OF(it, struct lease_caller, link);
        struct conn *reader = l->tracks ? conn_find(n, l->conn) : NULL;
        if (l->fresh) {
            continue;
        }
        caller_answer(n, l, reply);
        if (reader != NULL && reader->tracking) {
            track_read(n, reader, lease_key(w));
        }
    }
}

void lease_answer_wait(struct node *n, struct lease_caller *l, uint64_t left_ms)
{
    struct buf b = {0};
    put_result(&b, "wait", 1);
    put_u64(&b, "wait_ms", left_ms);
    caller_answer(n, l, buf_slice(&b));
    buf_fini(&b);
}

void lease_answer_fill(struct node *n, struct lease_caller *l, uint64_t token, uint64_t fill_ms)
{
    struct buf b = {0};
    put_result(&b, "fill", 2);
    put_u64(&b, "token", token);
    put_u64(&b, "fill_ms", fill_ms);
    caller_answer(n, l, buf_slice(&b));
    buf_fini(&b);
}

void lease_answer_stale(struct node *n, struct lease_caller *l, const struct lease_held *h)
{
    struct buf b = {0};
    put_result(&b, "stale", 3);
    resp_bulk_str(&b, "value");
    resp_bulk(&b, h->value);
    put_u64(&b, "version", h->version);
    put_u64(&b, "age_ms", h->age_ms);
    caller_answer(n, l, buf_slice(&b));
    buf_fini(&b);
}
