/* Client connections (RESP and HTTP) on libuv: bytes to the node, replies back, back-pressure.
 *
 * Bytes are read into one buffer of the shell and handed to the node in place; only what the node leaves (an incomplete
 * command) is copied into the connection. Replies go out with one uv_try_write; what the socket does not take is queued. */
#include "io/shell.h"

#include "utils/assert.h"
#include "utils/hash.h"

#include <stdio.h>
#include <stdlib.h>

enum { LINGER_BYTES_MAX = 1024 * 1024 };

struct client_write {
    uv_write_t req;
    struct buf data;
};

static bool client_eq(const struct map_node *m, const void *key)
{
    return CONTAINER_OF(m, struct client, by_id)->id == *(const conn_id_t *)key;
}

static struct client *client_find(struct shell *s, conn_id_t id)
{
    struct map_node *m = map_find(&s->clients, hash_u64(id), &id, client_eq);
    return m != NULL ? CONTAINER_OF(m, struct client, by_id) : NULL;
}

static void on_closed(uv_handle_t *h)
{
    struct client *c = h->data;
    buf_fini(&c->in);
    free(c);
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    (void)req;
    (void)status; /* the end comes with the client's, or with the node's second EF_CLOSE_CONN */
}

/* The connection is over: tells the node and frees it. Safe to call twice. */
static void client_drop(struct client *c, bool tell)
{
    if (c->closing) {
        return;
    }
    struct shell *s = c->shell;
    c->closing = true;
    map_remove(&s->clients, &c->by_id);
    s->n_clients--;
    uv_close((uv_handle_t *)&c->tcp, on_closed);
    if (tell) {
        struct event ev = {.type = EV_CONN_CLOSED, .conn = c->id};
        shell_event(s, &ev);
    }
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    struct client *c = h->data;
    if (c->in.len == 0) {
        *out = uv_buf_init((char *)c->shell->read_buf, READ_BYTES);
    } else {
        *out = uv_buf_init((char *)buf_reserve(&c->in, READ_BYTES), READ_BYTES);
    }
}

static void client_deliver(struct client *c, slice_t data)
{
    struct event ev = {.type = EV_CONN_DATA, .conn = c->id, .data = data};
    conn_id_t id = c->id;
    struct shell *s = c->shell;
    shell_event(s, &ev);
    c = client_find(s, id);
    if (c == NULL || c->lingering) {
        return;
    }
    syn_assert(ev.consumed <= data.len);
    if (data.ptr == c->in.ptr) {
        buf_consume(&c->in, ev.consumed);
    } else if (ev.consumed < data.len) {
        buf_append(&c->in, data.ptr + ev.consumed, data.len - ev.consumed);
    }
    if (c->in.len == 0 && c->in.cap > READ_BYTES) {
        buf_fini(&c->in);
    }
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *b)
{
    struct client *c = stream->data;
    if (nread == 0) {
        return;
    }
    if (nread < 0) {
        client_drop(c, true);
        return;
    }
    if (c->lingering) {
        return;
    }
    if ((uint8_t *)b->base == c->shell->read_buf) {
        client_deliver(c, slice_of(b->base, (size_t)nread));
    } else {
        c->in.len += (size_t)nread;
        client_deliver(c, buf_slice(&c->in));
    }
}

static void client_read(struct client *c, bool on)
{
    if (on && !c->reading) {
        uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
    } else if (!on && c->reading) {
        uv_read_stop((uv_stream_t *)&c->tcp);
    }
    c->reading = on;
}

static void client_remote(struct client *c, char *text, size_t size)
{
    struct sockaddr_storage a;
    int len = sizeof a;
    char ip[INET6_ADDRSTRLEN] = "?";
    int port = 0;
    if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&a, &len) == 0) {
        if (a.ss_family == AF_INET6) {
            struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a;
            uv_ip6_name(v6, ip, sizeof ip);
            port = ntohs(v6->sin6_port);
        } else {
            struct sockaddr_in *v4 = (struct sockaddr_in *)&a;
            uv_ip4_name(v4, ip, sizeof ip);
            port = ntohs(v4->sin_port);
        }
    }
    snprintf(text, size, "%s:%d", ip, port);
}

static void on_refused(uv_handle_t *h)
{
    free(h->data);
}

/* Said as far as it fits into the socket's buffer. */
static void client_refuse(struct client *c)
{
    static char full_resp[] = "-ERR max number of clients reached\r\n";
    static char full_http[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    char *text = c->door == DOOR_RESP ? full_resp : full_http;
    uv_buf_t b = uv_buf_init(text, (unsigned)strlen(text));
    uv_try_write((uv_stream_t *)&c->tcp, &b, 1);
    uv_close((uv_handle_t *)&c->tcp, on_refused);
    struct event ev = {.type = EV_CONN_REFUSED};
    shell_event(c->shell, &ev);
}

void clients_accept(struct listener *l)
{
    struct shell *s = l->shell;
    struct client *c = calloc(1, sizeof *c);
    syn_assert(c != NULL);
    c->shell = s;
    c->door = (enum door_kind)l->what;
    uv_tcp_init(&s->loop, &c->tcp);
    c->tcp.data = c;
    if (uv_accept((uv_stream_t *)&l->tcp, (uv_stream_t *)&c->tcp) != 0) {
        uv_close((uv_handle_t *)&c->tcp, on_refused);
        return;
    }
    if (s->n_clients >= s->max_clients) {
        client_refuse(c);
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    c->id = s->next_id++;
    map_insert(&s->clients, &c->by_id, hash_u64(c->id));
    s->n_clients++;
    char remote[64];
    client_remote(c, remote, sizeof remote);
    struct event ev = {.type = EV_CONN_OPENED, .conn = c->id, .door = c->door, .text = remote};
    shell_event(s, &ev);
    client_read(c, true);
}

static void client_drained(struct client *c)
{
    struct event ev = {.type = EV_CONN_DRAINED, .conn = c->id};
    shell_event(c->shell, &ev);
}

static void on_written(uv_write_t *req, int status)
{
    struct client_write *w = CONTAINER_OF(req, struct client_write, req);
    struct client *c = req->handle->data;
    buf_fini(&w->data);
    free(w);
    c->writes--;
    if (status < 0) {
        client_drop(c, true);
    } else if (c->writes == 0) {
        client_drained(c);
    }
}

void clients_reply(struct shell *s, struct effect *e)
{
    struct client *c = client_find(s, e->conn);
    if (c == NULL) {
        return;
    }
    size_t sent = 0;
    if (c->writes == 0) {
        uv_buf_t b = uv_buf_init((char *)e->data.ptr, (unsigned)e->data.len);
        int n = uv_try_write((uv_stream_t *)&c->tcp, &b, 1);
        if (n < 0 && n != UV_EAGAIN) {
            client_drop(c, true);
            return;
        }
        sent = n > 0 ? (size_t)n : 0;
    }
    if (sent == e->data.len) {
        client_drained(c);
        return;
    }
    struct client_write *w = calloc(1, sizeof *w);
    syn_assert(w != NULL);
    buf_append(&w->data, e->data.ptr + sent, e->data.len - sent);
    uv_buf_t b = uv_buf_init((char *)w->data.ptr, (unsigned)w->data.len);
    c->writes++;
    uv_write(&w->req, (uv_stream_t *)&c->tcp, &b, 1, on_written);
}

/* Our side ends after what was sent; what still comes is read and thrown away. Closing over unread bytes would reset the
 * connection, and the reset would take the last reply from the client (RFC 9112 section 9.6). */
void clients_close(struct shell *s, conn_id_t id)
{
    struct client *c = client_find(s, id);
    if (c == NULL) {
        return;
    }
    bool much = uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) >= LINGER_BYTES_MAX;
    if (c->lingering || much || uv_shutdown(&c->shutdown, (uv_stream_t *)&c->tcp, on_shutdown) != 0) {
        client_drop(c, true);
        return;
    }
    c->lingering = true;
    buf_fini(&c->in);
    client_read(c, true);
}

void clients_pause(struct shell *s, conn_id_t id)
{
    struct client *c = client_find(s, id);
    if (c != NULL && !c->lingering) {
        client_read(c, false);
    }
}

/* What was left over is offered again at once: no new byte may ever come. */
void clients_resume(struct shell *s, conn_id_t id)
{
    struct client *c = client_find(s, id);
    if (c == NULL || c->lingering) {
        return;
    }
    client_read(c, true);
    if (c->in.len > 0) {
        client_deliver(c, buf_slice(&c->in));
    }
}

void clients_close_all(struct shell *s)
{
    struct map_node *m;
    while ((m = map_first(&s->clients)) != NULL) {
        client_drop(CONTAINER_OF(m, struct client, by_id), false);
    }
}
