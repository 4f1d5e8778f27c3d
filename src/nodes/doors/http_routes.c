/* The paths of the HTTP door, once each: method, path and what answers (share/openapi.json describes the same). */
#include "nodes/doors/http_door.h"

struct route {
    const char *path; /* ends in '/': a prefix, and something must follow it */
    enum http_method method;
    void (*fn)(struct http_call *h);
};

/* Paths before prefixes. */
static const struct route ROUTES[] = {
    {"/livez", METHOD_GET, http_livez},
    {"/readyz", METHOD_GET, http_readyz},
    {"/health", METHOD_GET, http_health},
    {"/metrics", METHOD_GET, http_metrics},
    {"/openapi.json", METHOD_GET, http_openapi},
    {"/raft/state", METHOD_GET, http_raft_state},
    {"/cluster", METHOD_GET, http_cluster},
    {"/lock/acquire", METHOD_POST, http_lock_acquire},
    {"/lock/release", METHOD_POST, http_lock_release},
    {"/lock/renew", METHOD_POST, http_lock_renew},
    {"/lock/convert", METHOD_POST, http_lock_convert},
    {"/lock/force", METHOD_POST, http_lock_force},
    {"/lock/", METHOD_GET, http_lock_info},
    {"/locks", METHOD_GET, http_locks},
    {"/locks/graph", METHOD_GET, http_locks_graph},
    {"/session", METHOD_POST, http_session_create},
    {"/session/", METHOD_PUT, http_session_keepalive},
    {"/session/", METHOD_DELETE, http_session_end},
    {"/sessions", METHOD_GET, http_sessions},
    {"/publish", METHOD_POST, http_publish},
    {"/consume", METHOD_POST, http_consume},
    {"/ack", METHOD_POST, http_ack},
    {"/nack", METHOD_POST, http_nack},
    {"/extend", METHOD_POST, http_extend},
    {"/redrive", METHOD_POST, http_redrive},
    {"/topics", METHOD_GET, http_topics},
    {"/topic", METHOD_POST, http_topic_create},
    {"/topic/", METHOD_GET, http_topic},
    {"/topic/", METHOD_DELETE, http_topic_delete},
    {"/group/", METHOD_GET, http_group},
    {"/cache", METHOD_POST, http_cache_set},
    {"/cache/invalidate", METHOD_POST, http_cache_invalidate},
    {"/cache/", METHOD_GET, http_cache_get},
    {"/stats", METHOD_GET, http_stats},
};
enum { ROUTE_COUNT = sizeof ROUTES / sizeof ROUTES[0] };

static bool route_matches(const struct route *r, slice_t path, slice_t *rest)
{
    size_t n = strlen(r->path);
    *rest = SLICE_NONE;
    if (r->path[n - 1] != '/') {
        return slice_eq(path, slice_str(r->path));
    }
    if (path.len <= n || memcmp(path.ptr, r->path, n) != 0) {
        return false;
    }
    *rest = slice_of(path.ptr + n, path.len - n);
    return true;
}

static const char *method_name(enum http_method m)
{
    static const char *const names[] = {"", "GET", "HEAD", "POST", "PUT", "DELETE"};
    return names[m];
}

void http_route(struct http_call *h)
{
    enum http_method method = h->req->method == METHOD_HEAD ? METHOD_GET : h->req->method;
    char allow[96] = "Allow: ";
    size_t at = strlen(allow), none = at;
    for (int i = 0; i < ROUTE_COUNT; i++) {
        slice_t rest;
        if (!route_matches(&ROUTES[i], h->req->path, &rest)) {
            continue;
        }
        if (ROUTES[i].method == method) {
            h->rest = rest;
            ROUTES[i].fn(h);
            return;
        }
        at += (size_t)snprintf(allow + at, sizeof allow - at, "%s%s", at > none ? ", " : "", method_name(ROUTES[i].method));
        if (ROUTES[i].method == METHOD_GET) {
            at += (size_t)snprintf(allow + at, sizeof allow - at, ", HEAD");
        }
    }
    if (at == none) {
        http_refuse(h, 404, "ERR", NULL, "no such path: GET /openapi.json lists them");
        return;
    }
    snprintf(allow + at, sizeof allow - at, "\r\n");
    http_refuse(h, 405, "ERR", allow, "the path does not take this method");
}

void http_bad_field(struct http_call *h, const struct json_in *in)
{
    metrics_refused(&h->n->metrics, REFUSED_JSON);
    http_refuse(h, 400, "ERR", NULL, "%s", in->why);
}

/* Any Content-Type, or none: curl calls its -d a form. What a browser was made to post is told by its Origin (door_http.c). */
bool http_body(struct http_call *h, struct json_in *in, const char *const *fields)
{
    *in = (struct json_in){0};
    if (!json_begin(in, h->req->body) || !json_only(in, fields)) {
        http_bad_field(h, in);
        return false;
    }
    return true;
}
