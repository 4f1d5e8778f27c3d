/* What is asked of a group's memory and of its home, once it is certain that this node leads: pages of keys, counts, a key's state. The reply is the cache's own bytes
 * (node_cache.h). */
#include "nodes/node_internal.h"

#include "communication/resp.h"

struct scan { struct buf *out; uint32_t n; };

static void scan_key(void *arg, slice_t key)
{
    struct scan *s = arg;
    buf_put_bytes(s->out, key);
    s->n++;
}

static void answer_scan(struct node_group *g, uint64_t now, struct reader *r, struct buf *reply)
{
    uint64_t cursor = reader_u64(r);
    uint32_t count = reader_u32(r);
    struct scan s = {.out = reply};
    size_t at = reply->len;
    buf_put_u64(reply, 0);
    buf_put_u32(reply, 0);
    uint64_t next = cache_sm_scan(g->cache.sm, cursor, count, now, scan_key, &s);
    le64_put(reply->ptr + at, next);
    le32_put(reply->ptr + at + 8, s.n);
}

static void answer_state(struct node_group *g, uint64_t now, struct reader *r, struct buf *reply)
{
    slice_t key = reader_bytes(r);
    struct cache_item item;
    struct home_key_info info = {0};
    uint64_t version;
    cache_sm_get(g->cache.sm, key, now, &item, &version);
    if (g->cache.home != NULL) {
        home_info(g->cache.home, key, &info);
    }
    buf_put_u64(reply, g->term);
    buf_put_u64(reply, version);
    buf_put_u8(reply, item.exists);
    buf_put_u8(reply, (uint8_t)info.state);
    buf_put_u32(reply, info.owner);
    buf_put_u32(reply, info.n_sharers);
    for (uint32_t i = 0; i < info.n_sharers; i++) {
        buf_put_u32(reply, info.sharers[i]);
    }
}

/* Replies are the cache's own bytes (node_cache.h); an error is RESP. */
bool cache_query_execute(struct node *n, struct node_group *g, slice_t query, struct buf *reply)
{
    struct reader r = reader_of(query);
    uint64_t now = group_log_now(n, g);
    struct cache_sm_stats st;
    buf_put_u8(reply, 1);
    switch (reader_u8(&r)) {
    case CACHE_QUERY_VOUCH: cache_vouched(n, g, query); return false;
    case CACHE_QUERY_SCAN: answer_scan(g, now, &r, reply); return true;
    case CACHE_QUERY_STATE: answer_state(g, now, &r, reply); return true;
    case CACHE_QUERY_COUNT:
        cache_sm_stats(g->cache.sm, &st);
        buf_put_u64(reply, st.keys);
        buf_put_u64(reply, st.bytes);
        return true;
    default:
        buf_clear(reply);
        resp_error(reply, "ERR", "the query was not understood by the leader (mixed versions?)");
        return true;
    }
}
