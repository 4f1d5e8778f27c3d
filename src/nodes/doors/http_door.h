/* Inside the HTTP door: one request on its way, and the answer made for it. */
#ifndef SYN_NODES_DOORS_HTTP_DOOR_H
#define SYN_NODES_DOORS_HTTP_DOOR_H

#include "communication/http.h"
#include "communication/json.h"
#include "nodes/doors/door.h"

#include <stdarg.h>
#include <stdio.h>

enum { HTTP_PAUSE_OUTPUT_BYTES = 1024 * 1024 };

#define HTTP_JSON "application/json"
#define HTTP_TEXT "text/plain; charset=utf-8"

/* A request being answered. `rest` is what the route's prefix left of the path. */
struct http_call {
    struct node *n;
    struct conn *conn;
    const struct http_request *req;
    uint64_t slot;
    slice_t rest;
};

struct http_answer {
    struct node *n;
    int status;
    const char *type;  /* NULL: no body */
    const char *extra; /* header lines with CRLF, or NULL */
    struct buf body;
};

/* door_http.c: each fills the request's reply place. */
void http_send(struct http_call *h, const struct http_answer *a);
/* code: an error word. extra: header lines or NULL. */
void http_refuse(struct http_call *h, int status, const char *code, const char *extra, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Executes a RESP command; its reply, now or later, goes through `view`, errors through the table of words. */
void http_command(struct http_call *h, const slice_t *argv, uint32_t argc, http_view_fn view);
/* The same for a command that is not in the table. */
void http_command_as(struct http_call *h, const struct command *cmd, const slice_t *argv, uint32_t argc, http_view_fn view);
void http_write(struct node *n, const struct door_slot *s, const struct http_answer *a, struct buf *out);
/* {"error":..,"code":..,"detail":..  without the closing brace. */
void http_write_error(struct buf *body, const char *code, slice_t text);

/* http_routes.c */
void http_route(struct http_call *h);
/* The body as one JSON object with none but the named fields; false: refused. json_end in either case. */
bool http_body(struct http_call *h, struct json_in *in, const char *const *fields);
/* 400 with what json_* said. */
void http_bad_field(struct http_call *h, const struct json_in *in);

/* http_lock.c */
void http_lock_acquire(struct http_call *h);
void http_lock_release(struct http_call *h);
void http_lock_renew(struct http_call *h);
void http_lock_convert(struct http_call *h);
void http_lock_force(struct http_call *h);
void http_lock_info(struct http_call *h);
void http_locks(struct http_call *h);
void http_locks_graph(struct http_call *h);
void http_session_create(struct http_call *h);
void http_session_keepalive(struct http_call *h);
void http_session_end(struct http_call *h);
void http_sessions(struct http_call *h);

/* http_queue.c */
void http_publish(struct http_call *h);
void http_consume(struct http_call *h);
void http_ack(struct http_call *h);
void http_nack(struct http_call *h);
void http_extend(struct http_call *h);
void http_redrive(struct http_call *h);
void http_topics(struct http_call *h);
void http_topic_create(struct http_call *h);
void http_topic(struct http_call *h);           /* and its dead letters */
void http_topic_delete(struct http_call *h);
void http_group(struct http_call *h);

/* http_cache.c */
void http_cache_get(struct http_call *h);
void http_cache_set(struct http_call *h);
void http_cache_invalidate(struct http_call *h);
void http_stats(struct http_call *h);

/* http_queue_view.c: replies of the queue's commands as JSON */
void view_published(struct http_answer *a, slice_t reply);
void view_published_many(struct http_answer *a, slice_t reply);
void view_consumed(struct http_answer *a, slice_t reply);
void view_acked(struct http_answer *a, slice_t reply);
void view_nacked(struct http_answer *a, slice_t reply);
void view_extended(struct http_answer *a, slice_t reply);
void view_redriven(struct http_answer *a, slice_t reply);
void view_topics(struct http_answer *a, slice_t reply);
void view_topic(struct http_answer *a, slice_t reply);
void view_topic_created(struct http_answer *a, slice_t reply);
void view_topic_deleted(struct http_answer *a, slice_t reply);
void view_dead(struct http_answer *a, slice_t reply);
void view_group(struct http_answer *a, slice_t reply);

/* share/openapi.json, embedded at build time. */
extern const unsigned char openapi_json[];
extern const size_t openapi_json_bytes;

/* http_status.c */
void http_openapi(struct http_call *h);
void http_livez(struct http_call *h);
void http_readyz(struct http_call *h);
void http_health(struct http_call *h);
void http_raft_state(struct http_call *h);
void http_cluster(struct http_call *h);

/* http_metrics.c */
void http_metrics(struct http_call *h);

#endif
