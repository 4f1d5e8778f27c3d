/* The HTTP door's connections: bytes to requests, replies to responses, and the clocks of slow clients (I25, I26).
 *
 * Responsible for: one reply place per request, so that pipelined responses leave in order (D1); who may ask (REQUIREPASS); the
 * response around a reply or an error. Not for: what a path means (http_routes.c) or HTTP's grammar (communication/http.c).
 *
 * A request that changes or reads locks becomes the RESP command of the same name, with the same checks and words; its reply is
 * turned into JSON by the view that its path chose. */
#include "nodes/doors/http_door.h"

#include "communication/http_auth.h"
#include "communication/peer_auth.h"
#include "utils/limits.h"

#include <stdlib.h>

void http_write_error(struct buf *body, const char *code, slice_t text)
{
    enum error_word word;
    bool known = error_find(slice_str(code), &word);
    buf_append_str(body, "{");
    json_key(body, "error");
    buf_put_u8(body, '"');
    log_escape_json(body, text);
    buf_put_u8(body, '"');
    json_key(body, "code");
    json_put_str(body, code);
    json_key(body, "detail");
    json_put_str(body, known ? error_table[word].todo : "Correct the request.");
}

/* "a waits x held by b, b waits y held by a": the text of a DEADLOCK, edge by edge. */
static void write_cycle(struct buf *body, slice_t text)
{
    json_key(body, "cycle");
    buf_put_u8(body, '[');
    for (size_t at = 0, i = 0; i <= text.len; i++) {
        if (i == text.len || (text.ptr[i] == ',' && i + 1 < text.len && text.ptr[i + 1] == ' ')) {
            buf_append_str(body, at > 0 ? ",\"" : "\"");
            log_escape_json(body, slice_of(text.ptr + at, i - at));
            buf_put_u8(body, '"');
            at = i + 2;
        }
    }
    buf_put_u8(body, ']');
}

/* "-WORD text": the word chooses the status (utils/errors.h). */
static void error_answer(struct http_answer *a, slice_t resp3)
{
    struct reader r = reader_of(resp3);
    struct resp_value v;
    char code[32];
    enum error_word word;
    resp_next(&r, &v);
    const uint8_t *space = v.str.len ? memchr(v.str.ptr, ' ', v.str.len) : NULL;
    size_t n = space != NULL ? (size_t)(space - v.str.ptr) : v.str.len;
    slice_t text = space != NULL ? slice_of(space + 1, v.str.len - n - 1) : v.str;
    snprintf(code, sizeof code, "%.*s", (int)(n < sizeof code ? n : 0), (const char *)v.str.ptr);
    bool known = error_find(slice_str(code), &word);
    a->status = known ? error_http_status(word) : 500;
    http_write_error(&a->body, code, text);
    if (known && word == ERROR_DEADLOCK) {
        write_cycle(&a->body, text);
    }
    buf_put_u8(&a->body, '}');
}

static const char *extra_headers(int status)
{
    switch (status) {
    case 401: return "WWW-Authenticate: Basic realm=\"synaxis\", charset=\"UTF-8\"\r\n";
    case 503: return "Retry-After: 1\r\n";
    default: return NULL;
    }
}

void http_write(struct node *n, const struct door_slot *s, const struct http_answer *a, struct buf *out)
{
    slice_t body = buf_slice(&a->body);
    const char *extra = a->extra != NULL ? a->extra : extra_headers(a->status);
    http_response(out, a->status, a->type, body, !s->http_close, extra, n->wall_ms);
    if (s->http_head) {
        out->len -= body.len;
    }
}

/* A command's reply, RESP3, in its turn. */
void http_door_reply(struct node *n, struct conn *c, const struct door_slot *s, slice_t reply)
{
    if (s->view == NULL) {
        buf_append_slice(&c->out, reply);
        return;
    }
    struct http_answer a = {.n = n, .status = 200, .type = HTTP_JSON};
    if (reply.len > 0 && reply.ptr[0] == '-') {
        error_answer(&a, reply);
    } else {
        s->view(&a, reply);
    }
    http_write(n, s, &a, &c->out);
    buf_fini(&a.body);
}

void http_send(struct http_call *h, const struct http_answer *a)
{
    struct buf *b = &h->n->doors->scratch;
    struct door_slot *s = conn_slot(h->conn, h->slot);
    buf_clear(b);
    http_write(h->n, s, a, b);
    metrics_request(&h->n->metrics, METRIC_REQUEST_LOCAL, a->status < 400 ? SLICE_LIT("+OK") : SLICE_LIT("-ERR"), 0);
    conn_reply(h->n, h->conn, h->slot, buf_slice(b));
}

void http_refuse(struct http_call *h, int status, const char *code, const char *extra, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct http_answer a = {.n = h->n, .status = status, .type = HTTP_JSON, .extra = extra};
    http_write_error(&a.body, code, slice_str(text));
    buf_put_u8(&a.body, '}');
    http_send(h, &a);
    buf_fini(&a.body);
}

void http_command(struct http_call *h, const slice_t *argv, uint32_t argc, http_view_fn view)
{
    const struct command *cmd = command_find(h->n->doors, argv[0]);
    syn_assert(cmd != NULL);
    http_command_as(h, cmd, argv, argc, view);
}

void http_command_as(struct http_call *h, const struct command *cmd, const slice_t *argv, uint32_t argc, http_view_fn view)
{
    struct node *n = h->n;
    struct call c = {.n = n, .conn = h->conn, .cmd = cmd, .argc = argc, .argv = argv, .reply = &n->doors->scratch, .slot = h->slot};
    buf_clear(c.reply);
    n->doors->total_commands++;
    h->conn->last_command = c.cmd;
    conn_slot(h->conn, h->slot)->view = view;
    c.cmd->fn(&c);
    syn_assert(!c.again); /* only locks of a RESP connection's own session are put off */
    if (!c.later) {
        metrics_request(&n->metrics, METRIC_REQUEST_LOCAL, buf_slice(c.reply), 0);
        conn_reply(n, h->conn, h->slot, buf_slice(c.reply));
    }
}

void http_door_wrong_password(struct node *n, struct conn *c, uint64_t slot)
{
    struct http_call h = {.n = n, .conn = c, .slot = slot};
    http_refuse(&h, 401, "WRONGPASS", NULL, "user and password do not match");
}

/* Probes and metrics are for machines that know no password. */
static bool is_open_path(slice_t path)
{
    return slice_eq(path, SLICE_LIT("/livez")) || slice_eq(path, SLICE_LIT("/readyz")) || slice_eq(path, SLICE_LIT("/metrics"));
}

static bool authorized(struct http_call *h)
{
    slice_t wanted = slice_str(h->n->opt.requirepass), user, password;
    if (wanted.len == 0 || is_open_path(h->req->path)) {
        return true;
    }
    if (h->req->authorization.len == 0) {
        metrics_refused(&h->n->metrics, REFUSED_NOAUTH);
        http_refuse(h, 401, "NOAUTH", NULL, "send Authorization: Basic (user default) or Bearer with the password");
        return false;
    }
    struct buf scratch = {0};
    bool ok = http_credentials(h->req->authorization, &scratch, &user, &password) &&
              (user.len == 0 || slice_eq(user, SLICE_LIT("default"))) && secret_equal(wanted, password);
    buf_fini(&scratch);
    if (!ok && !conn_guessed(h->n, h->conn, h->slot)) {
        http_door_wrong_password(h->n, h->conn, h->slot);
    }
    return ok;
}

/* Pages may read what they can see anyway; they may not make their visitors' browsers change anything here. */
static bool from_another_site(struct http_call *h)
{
    const struct http_request *r = h->req;
    if (r->method == METHOD_GET || r->method == METHOD_HEAD || !http_is_cross_site(r->host, r->origin, r->fetch_site)) {
        return false;
    }
    slice_t origin = r->origin.len > 0 ? r->origin : SLICE_LIT("unknown");
    int shown = (int)(origin.len < LIMIT_ERROR_ECHO_BYTES ? origin.len : LIMIT_ERROR_ECHO_BYTES);
    metrics_refused(&h->n->metrics, REFUSED_CROSS_SITE);
    http_refuse(h, 403, "NOPERM", NULL, "a browser sent this for a page of another site (Origin %.*s): only pages of this host may",
                shown, (const char *)origin.ptr);
    return true;
}

static void serve(struct node *n, struct conn *c, const struct http_request *req)
{
    struct http_call h = {.n = n, .conn = c, .req = req, .slot = call_take_slot(c)};
    struct door_slot *s = conn_slot(c, h.slot);
    s->http_close = !req->keep_alive || n->stopping;
    s->http_head = req->method == METHOD_HEAD;
    c->commands++;
    if (s->http_close) {
        conn_close(n, c);
    }
    if (!from_another_site(&h) && authorized(&h)) {
        http_route(&h);
    }
}

/* The last response of a connection whose bytes make no sense, or come too slowly. */
static void refuse_connection(struct node *n, struct conn *c, int status, const char *reason)
{
    struct http_request none = {0};
    struct http_call h = {.n = n, .conn = c, .req = &none, .slot = call_take_slot(c)};
    conn_slot(c, h.slot)->http_close = true;
    conn_close(n, c);
    http_refuse(&h, status, "ERR", status == 405 ? "Allow: GET, HEAD, POST, PUT, DELETE\r\n" : NULL, "%s", reason);
}

size_t http_door_data(struct node *n, struct conn *c, slice_t data)
{
    size_t at = 0;
    if (c->http == NULL) {
        c->http = http_parser_new();
    }
    http_parser_note_time(c->http, n->now_ms);
    while (at < data.len && !c->closing) {
        if (c->guess_until_ms != 0 || c->next_slot - c->first_slot >= LIMIT_HTTP_PIPELINE || c->unsent_bytes + c->out.len >= HTTP_PAUSE_OUTPUT_BYTES) {
            conn_pause(n, c);
            break;
        }
        struct http_request req;
        size_t used;
        int status;
        const char *reason;
        enum http_result r = http_parse(c->http, slice_of(data.ptr + at, data.len - at), &used, &req, &status, &reason);
        if (r == HTTP_MORE) {
            if (c->first_slot == c->next_slot && http_parser_wants_continue(c->http)) {
                conn_bytes(n, c, SLICE_LIT("HTTP/1.1 100 Continue\r\n\r\n"));
            }
            break;
        }
        if (r == HTTP_BAD) {
            metrics_refused(&n->metrics, REFUSED_HTTP);
            refuse_connection(n, c, status, reason);
            break;
        }
        at += used;
        serve(n, c, &req);
    }
    return c->closing ? data.len : at;
}

void http_door_fini(struct conn *c)
{
    http_parser_free(c->http);
}

void http_door_timers(struct node *n, struct conn *c)
{
    if (c->closing) {
        return;
    }
    if (c->http != NULL && http_parser_overdue(c->http, n->now_ms)) {
        metrics_refused(&n->metrics, REFUSED_SLOW);
        refuse_connection(n, c, 408, "the request took too long to arrive");
    } else if (c->first_slot == c->next_slot && n->now_ms - c->last_ms >= LIMIT_HTTP_IDLE_MS) {
        conn_close(n, c);
    }
}
