/* Links to peers on libuv: dialling, accepting, cutting the stream into frames, sending what a turn has for a peer at once. */
#include "io/shell.h"

#include "utils/assert.h"
#include "utils/hash.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

enum { LINK_QUEUE_BYTES_MAX = 64 * 1024 * 1024 };

struct link_write {
    uv_write_t req;
    struct buf data;
};

struct dial {
    uv_getaddrinfo_t lookup;
    uv_connect_t connect;
    struct peer_link *link;    /* NULL: it ended meanwhile */
    char host[256];
    char port[8];
};

static bool link_eq(const struct map_node *m, const void *key)
{
    return CONTAINER_OF(m, struct peer_link, by_id)->id == *(const link_id_t *)key;
}

static struct peer_link *link_find(struct shell *s, link_id_t id)
{
    struct map_node *m = map_find(&s->links, hash_u64(id), &id, link_eq);
    return m != NULL ? CONTAINER_OF(m, struct peer_link, by_id) : NULL;
}

static void on_closed(uv_handle_t *h)
{
    struct peer_link *l = h->data;
    buf_fini(&l->in);
    free(l);
}

/* What was going on is over: returns its link, or NULL when that ended meanwhile. */
static struct peer_link *dial_end(struct dial *d)
{
    struct peer_link *l = d->link;
    if (l != NULL) {
        list_remove(&l->dialling);
        l->dial = NULL;
    }
    free(d);
    return l;
}

/* why: frame_split's reason, or NULL when the connection ended by itself. */
static void link_end(struct peer_link *l, bool tell, const char *why)
{
    if (l->closing) {
        return;
    }
    struct shell *s = l->shell;
    l->closing = true;
    if (l->up) {
        map_remove(&s->links, &l->by_id);
    }
    if (l->dial != NULL) { /* its callback comes after this, and may come after on_closed */
        list_remove(&l->dialling);
        l->dial->link = NULL;
        l->dial = NULL;
    }
    bool was_up = l->up;
    link_id_t id = l->id;
    node_id_t peer = l->peer;
    uv_close((uv_handle_t *)&l->tcp, on_closed);
    if (!tell) {
        return;
    }
    enum event_type type = !was_up ? EV_DIAL_FAILED : why != NULL ? EV_LINK_BAD : EV_LINK_DOWN;
    struct event ev = {.type = type, .link = id, .peer = peer, .text = why};
    shell_event(s, &ev);
}

static void link_drop(struct peer_link *l, bool tell)
{
    link_end(l, tell, NULL);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    struct peer_link *l = h->data;
    *out = uv_buf_init((char *)buf_reserve(&l->in, READ_BYTES), READ_BYTES);
}

static void link_frames(struct peer_link *l)
{
    struct shell *s = l->shell;
    link_id_t id = l->id;
    size_t at = 0;
    while (at < l->in.len) {
        slice_t body;
        size_t used;
        const char *reason = NULL;
        enum frame_status st =
            frame_split(slice_of(l->in.ptr + at, l->in.len - at), s->frame_bytes_max, &body, &used, &reason);
        if (st == FRAME_MORE) {
            break;
        }
        if (st == FRAME_BAD) {
            link_end(l, true, reason);
            return;
        }
        struct event ev = {.type = EV_LINK_FRAME, .link = id, .data = body};
        shell_event(s, &ev);
        if (link_find(s, id) == NULL) {
            return;
        }
        at += used;
    }
    buf_consume(&l->in, at);
}

static void on_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *b)
{
    (void)b;
    struct peer_link *l = stream->data;
    if (nread < 0) {
        link_drop(l, true);
    } else if (nread > 0) {
        l->in.len += (size_t)nread;
        link_frames(l);
    }
}

static void link_up(struct peer_link *l)
{
    struct shell *s = l->shell;
    uv_tcp_nodelay(&l->tcp, 1);
    shell_tune(&l->tcp);
    l->up = true;
    l->id = s->next_id++;
    map_insert(&s->links, &l->by_id, hash_u64(l->id));
    uv_read_start((uv_stream_t *)&l->tcp, on_alloc, on_read);
    struct event ev = {.type = EV_LINK_UP, .link = l->id, .peer = l->peer};
    shell_event(s, &ev);
}

static struct peer_link *link_new(struct shell *s, node_id_t peer)
{
    struct peer_link *l = calloc(1, sizeof *l);
    syn_assert(l != NULL);
    l->shell = s;
    l->peer = peer;
    uv_tcp_init(&s->loop, &l->tcp);
    l->tcp.data = l;
    return l;
}

void peers_accept(struct listener *listener)
{
    struct peer_link *l = link_new(listener->shell, 0);
    if (uv_accept((uv_stream_t *)&listener->tcp, (uv_stream_t *)&l->tcp) != 0) {
        link_drop(l, false);
        return;
    }
    link_up(l);
}

static void on_connected(uv_connect_t *req, int status)
{
    struct dial *d = CONTAINER_OF(req, struct dial, connect);
    struct peer_link *l = dial_end(d);
    if (l == NULL) {
        return;
    }
    if (status != 0) {
        link_drop(l, true);
    } else {
        link_up(l);
    }
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *res)
{
    struct dial *d = CONTAINER_OF(req, struct dial, lookup);
    int rc = status;
    if (rc == 0 && d->link != NULL) {
        rc = uv_tcp_connect(&d->connect, &d->link->tcp, res->ai_addr, on_connected);
    }
    uv_freeaddrinfo(res);
    if (d->link == NULL) {
        dial_end(d);
    } else if (rc != 0) {
        link_drop(dial_end(d), true);
    }
}

void peers_dial(struct shell *s, node_id_t peer, slice_t address)
{
    struct dial *d = calloc(1, sizeof *d);
    syn_assert(d != NULL && address.len < sizeof d->host);
    memcpy(d->host, address.ptr, address.len);
    char *colon = strrchr(d->host, ':');
    syn_assert(colon != NULL && strlen(colon + 1) < sizeof d->port);
    memcpy(d->port, colon + 1, strlen(colon + 1));
    *colon = '\0';
    d->link = link_new(s, peer);
    d->link->dial = d;
    list_push_back(&s->dials, &d->link->dialling);
    struct sockaddr_storage a;
    int rc = uv_ip4_addr(d->host, atoi(d->port), (struct sockaddr_in *)&a);
    if (rc == 0) {
        rc = uv_tcp_connect(&d->connect, &d->link->tcp, (struct sockaddr *)&a, on_connected);
    } else {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
        rc = uv_getaddrinfo(&s->loop, &d->lookup, on_resolved, d->host, d->port, &hints);
    }
    if (rc != 0) {
        link_drop(dial_end(d), true);
    }
}

static void on_written(uv_write_t *req, int status)
{
    struct link_write *w = CONTAINER_OF(req, struct link_write, req);
    struct peer_link *l = req->handle->data;
    buf_fini(&w->data);
    free(w);
    if (status < 0) {
        link_drop(l, true);
    }
}

void peers_send(struct shell *s, struct effect *e)
{
    struct peer_link *l = link_find(s, e->link);
    if (l == NULL) {
        return;
    }
    uv_stream_t *stream = (uv_stream_t *)&l->tcp;
    size_t sent = 0;
    if (uv_stream_get_write_queue_size(stream) == 0) {
        uv_buf_t b = uv_buf_init((char *)e->data.ptr, (unsigned)e->data.len);
        int n = uv_try_write(stream, &b, 1);
        if (n < 0 && n != UV_EAGAIN) {
            link_drop(l, true);
            return;
        }
        sent = n > 0 ? (size_t)n : 0;
    } else if (uv_stream_get_write_queue_size(stream) > LINK_QUEUE_BYTES_MAX) {
        shell_log(s, LOG_WARN, "a peer reads too slowly: closing its link");
        link_drop(l, true);
        return;
    }
    if (sent < e->data.len) {
        struct link_write *w = calloc(1, sizeof *w);
        syn_assert(w != NULL);
        buf_append(&w->data, e->data.ptr + sent, e->data.len - sent);
        uv_buf_t b = uv_buf_init((char *)w->data.ptr, (unsigned)w->data.len);
        uv_write(&w->req, stream, &b, 1, on_written);
    }
}

void peers_close(struct shell *s, link_id_t id)
{
    struct peer_link *l = link_find(s, id);
    if (l != NULL) {
        link_drop(l, false);
    }
}

void peers_close_all(struct shell *s)
{
    struct map_node *m;
    while ((m = map_first(&s->links)) != NULL) {
        link_drop(CONTAINER_OF(m, struct peer_link, by_id), false);
    }
    while (!list_empty(&s->dials)) {
        link_drop(CONTAINER_OF(s->dials.next, struct peer_link, dialling), false);
    }
}
