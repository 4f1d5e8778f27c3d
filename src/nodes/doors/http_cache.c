/* The cache over HTTP: values as text or base64, with version and the state of this node's line (share/openapi.json). */
#include "nodes/doors/http_door.h"

#include "nodes/doors/cache_door.h"
#include "utils/limits.h"

static void put_number(struct buf *b, const char *name, uint64_t v)
{
    json_key(b, name);
    buf_printf(b, "%llu", (unsigned long long)v);
}

/* {"key", "value", "version", "state"}; 404 when there is none. */
static void view_entry(struct http_answer *a, slice_t reply)
{
    struct resp_value v;
    if (!resp_map_get(reply, "value", &v) || v.type == RT_NULL) {
        a->status = 404;
        http_write_error(&a->body, "NOKEY", SLICE_LIT("there is no such key"));
        buf_put_u8(&a->body, '}');
        return;
    }
    resp_to_json(&a->body, reply, (const char *const[]){"version", NULL});
}

void http_cache_get(struct http_call *h)
{
    const slice_t argv[] = {SLICE_LIT("CACHE.GET"), h->rest};
    http_command(h, argv, 2, view_entry);
}

static void view_ok(struct http_answer *a, slice_t reply)
{
    (void)reply;
    buf_append_str(&a->body, "{\"ok\":true}");
}

void http_cache_set(struct http_call *h)
{
    static const char *const fields[] = {"key", "value", "ttl", "ttl_ms", NULL};
    struct json_in in;
    slice_t key = SLICE_NONE;
    struct buf value = {0};
    uint64_t ttl_ms = 0;
    if (http_body(h, &in, fields)) {
        if (json_text(&in, "key", true, LIMIT_KEY_BYTES, &key) && json_value(&in, "value", LIMIT_VALUE_BYTES, &value) &&
            json_duration(&in, "ttl", 1, LIMIT_EXPIRY_MS, &ttl_ms)) {
            char ms[24];
            int n = snprintf(ms, sizeof ms, "%llu", (unsigned long long)ttl_ms);
            const slice_t argv[] = {SLICE_LIT("SET"), key, buf_slice(&value), SLICE_LIT("PX"), slice_of(ms, (size_t)n)};
            http_command(h, argv, ttl_ms > 0 ? 5 : 3, view_ok);
        } else {
            http_bad_field(h, &in);
        }
    }
    json_end(&in);
    buf_fini(&value);
}

static void view_dropped(struct http_answer *a, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct resp_value v = {0};
    resp_next(&r, &v);
    buf_put_u8(&a->body, '{');
    put_number(&a->body, "copies", (uint64_t)v.num);
    buf_put_u8(&a->body, '}');
}

void http_cache_invalidate(struct http_call *h)
{
    static const char *const fields[] = {"key", NULL};
    struct json_in in;
    slice_t key = SLICE_NONE;
    if (http_body(h, &in, fields)) {
        if (json_text(&in, "key", true, LIMIT_KEY_BYTES, &key)) {
            const slice_t argv[] = {SLICE_LIT("CACHE.INVALIDATE"), key};
            http_command(h, argv, 2, view_dropped);
        } else {
            http_bad_field(h, &in);
        }
    }
    json_end(&in);
}

/* Of this node. */
void http_stats(struct http_call *h)
{
    struct cacher_stats s;
    cacher_stats(h->n->cache.cacher, &s);
    struct http_answer a = {.n = h->n, .status = 200, .type = HTTP_JSON};
    uint64_t looks = s.hits + s.misses;
    buf_put_u8(&a.body, '{');
    put_number(&a.body, "hits", s.hits);
    put_number(&a.body, "misses", s.misses);
    json_key(&a.body, "hit_rate");
    buf_printf(&a.body, "%.4f", looks > 0 ? (double)s.hits / (double)looks : 0.0);
    put_number(&a.body, "invalidations", s.invalidated);
    put_number(&a.body, "flushes", s.flushes);
    put_number(&a.body, "evictions", s.evicted);
    put_number(&a.body, "dirty", s.dirty);
    put_number(&a.body, "cache_size", s.lines);
    put_number(&a.body, "cache_bytes", s.bytes);
    buf_put_u8(&a.body, '}');
    http_send(h, &a);
    buf_fini(&a.body);
}
