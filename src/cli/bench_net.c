/* Connections of a load generator: one epoll set, no allocation once the buffers have grown. See bench_net.h.
 *
 * Not here: what is sent and what answers mean (bench_load.c, bench_queue_load.c, bench_cache_load.c).
 * I1: an answer belongs to the lane at the head of its connection's flight. */
#include "cli/bench_net.h"

#include "utils/assert.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 1024, RECV_BYTES = 64 << 10 };

#define FROM_STDIN UINT32_MAX /* where an event's data is otherwise a connection's number */

void bench_ring_init(struct bench_ring *r, uint32_t cap)
{
    *r = (struct bench_ring){.v = calloc(cap, sizeof *r->v), .cap = cap};
    syn_assert(r->v != NULL);
}

void bench_ring_fini(struct bench_ring *r)
{
    free(r->v);
    *r = (struct bench_ring){0};
}

void bench_ring_push(struct bench_ring *r, uint32_t v)
{
    syn_assert(r->count < r->cap);
    uint32_t at = r->head + r->count++;
    r->v[at >= r->cap ? at - r->cap : at] = v;
}

uint32_t bench_ring_pop(struct bench_ring *r)
{
    syn_assert(r->count > 0);
    uint32_t v = r->v[r->head];
    r->head = r->head + 1 == r->cap ? 0 : r->head + 1;
    r->count--;
    return v;
}

void bench_net_sent(struct bench_net *n, struct bench_conn *c, uint32_t lane)
{
    bench_ring_push(&c->flight, lane);
    if (!c->dirty) {
        syn_assert(n->n_dirty < n->n_conns);
        c->dirty = true;
        n->dirty[n->n_dirty++] = (uint32_t)(c - n->conns);
    }
}

static void conn_down(struct bench_net *n, struct bench_conn *c, uint64_t now)
{
    close(c->fd);
    c->fd = -1;
    buf_clear(&c->in);
    buf_clear(&c->out);
    c->want_out = false;
    c->again_us = now + NET_RECONNECT_US;
    c->endpoint = (c->endpoint + 1) % n->n_endpoints;
    n->reconnects++;
    while (c->flight.count > 0) {
        n->lost(n->owner, bench_ring_pop(&c->flight), now);
    }
}

static void flush(struct bench_net *n, struct bench_conn *c, uint64_t now)
{
    if (c->fd < 0 || c->out.len == 0) {
        return;
    }
    ssize_t sent = send(c->fd, c->out.ptr, c->out.len, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        conn_down(n, c, now);
        return;
    }
    buf_consume(&c->out, sent > 0 ? (size_t)sent : 0);
    bool want_out = c->out.len > 0;
    if (want_out != c->want_out) {
        struct epoll_event e = {.events = EPOLLIN | (want_out ? EPOLLOUT : 0), .data.u32 = (uint32_t)(c - n->conns)};
        epoll_ctl(n->epoll, EPOLL_CTL_MOD, c->fd, &e);
        c->want_out = want_out;
    }
}

static void flush_dirty(struct bench_net *n, uint64_t now)
{
    for (uint32_t i = 0; i < n->n_dirty; i++) {
        n->conns[n->dirty[i]].dirty = false; /* only here: it is in the list until then */
        flush(n, &n->conns[n->dirty[i]], now);
    }
    n->n_dirty = 0;
}

static bool take_answers(struct bench_net *n, struct bench_conn *c, uint64_t now)
{
    size_t at = 0;
    bool more = false;
    while (at < c->in.len && !more) {
        size_t used = 0;
        if (c->flight.count == 0 || !n->take(n->owner, c, slice_of(c->in.ptr + at, c->in.len - at), &used, now, &more)) {
            return false;
        }
        at += used;
    }
    buf_consume(&c->in, at);
    return true;
}

static void on_readable(struct bench_net *n, struct bench_conn *c)
{
    ssize_t got = recv(c->fd, buf_reserve(&c->in, RECV_BYTES), RECV_BYTES, 0);
    uint64_t now = now_us();
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    c->in.len += got > 0 ? (size_t)got : 0;
    if (got <= 0 || !take_answers(n, c, now)) {
        conn_down(n, c, now);
        return;
    }
    flush(n, c, now);
}

/* A blocking AUTH on the fresh connection. */
static bool authenticate(int fd, const char *password)
{
    char command[600], answer[64];
    if (password == NULL) {
        return true;
    }
    int n = snprintf(command, sizeof command, "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n", strlen(password), password);
    if (n >= (int)sizeof command || send(fd, command, (size_t)n, MSG_NOSIGNAL) != n) {
        return false;
    }
    uint64_t deadline = now_ms() + 2000;
    while (now_ms() < deadline) {
        ssize_t got = recv(fd, answer, sizeof answer, 0);
        if (got > 0 || (got < 0 && errno != EAGAIN)) {
            return got > 0 && answer[0] == '+';
        }
        usleep(1000);
    }
    return false;
}

static bool conn_up(struct bench_net *n, struct bench_conn *c, char *why, size_t why_size)
{
    c->fd = endpoint_connect(&n->endpoints[c->endpoint], now_ms() + 1000, why, why_size);
    if (c->fd < 0) {
        return false;
    }
    if (!authenticate(c->fd, n->password)) {
        snprintf(why, why_size, "the password was refused");
        close(c->fd);
        c->fd = -1;
        return false;
    }
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)(c - n->conns)};
    return epoll_ctl(n->epoll, EPOLL_CTL_ADD, c->fd, &e) == 0;
}

static void reconnect(struct bench_net *n, uint64_t now)
{
    char why[300];
    n->down = 0;
    for (uint32_t i = 0; i < n->n_conns; i++) {
        struct bench_conn *c = &n->conns[i];
        if (c->fd < 0 && c->again_us <= now && !conn_up(n, c, why, sizeof why)) {
            c->endpoint = (c->endpoint + 1) % n->n_endpoints;
            c->again_us = now + NET_RECONNECT_US;
        }
        n->down += c->fd < 0;
    }
}

static void kill_what_stdin_says(struct bench_net *n)
{
    char line[32];
    ssize_t got = read(STDIN_FILENO, line, sizeof line - 1);
    line[got > 0 ? got : 0] = '\0';
    int pid = atoi(line);
    epoll_ctl(n->epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
    if (pid > 0 && kill(pid, SIGKILL) == 0) {
        n->killed(n->owner, now_us());
    }
}

void bench_net_turn(struct bench_net *n, uint64_t until_us)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now = now_us();
    reconnect(n, now);
    flush_dirty(n, now);
    until_us = n->down > 0 && now + NET_RECONNECT_US < until_us ? now + NET_RECONNECT_US : until_us;
    uint64_t wait = until_us > now ? until_us - now : 0;
    struct timespec t = {.tv_sec = (time_t)(wait / 1000000), .tv_nsec = (long)(wait % 1000000 * 1000)};
    int count = epoll_pwait2(n->epoll, events, EVENTS_MAX, &t, NULL);
    for (int i = 0; i < count; i++) {
        if (events[i].data.u32 == FROM_STDIN) {
            kill_what_stdin_says(n);
            continue;
        }
        struct bench_conn *c = &n->conns[events[i].data.u32];
        if (c->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
            on_readable(n, c);
        }
        if (c->fd >= 0 && (events[i].events & EPOLLOUT)) {
            flush(n, c, now);
        }
    }
}

bool bench_net_open(struct bench_net *n, uint32_t conns, uint32_t flight_max, bool kill_from_stdin, char *why, size_t why_size)
{
    n->epoll = epoll_create1(EPOLL_CLOEXEC);
    n->n_conns = conns;
    n->conns = calloc(conns, sizeof *n->conns);
    n->dirty = calloc(conns, sizeof *n->dirty);
    syn_assert(n->epoll >= 0 && n->conns != NULL && n->dirty != NULL);
    for (uint32_t i = 0; i < conns; i++) {
        n->conns[i] = (struct bench_conn){.fd = -1, .endpoint = i % n->n_endpoints};
        bench_ring_init(&n->conns[i].flight, flight_max);
    }
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = FROM_STDIN};
    if (kill_from_stdin && epoll_ctl(n->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &e) != 0) {
        snprintf(why, why_size, "stdin can not be waited for: %s", strerror(errno));
        return false;
    }
    for (uint32_t i = 0; i < conns; i++) {
        if (!conn_up(n, &n->conns[i], why, why_size)) {
            return false;
        }
    }
    return true;
}

void bench_net_close(struct bench_net *n)
{
    for (uint32_t i = 0; i < n->n_conns; i++) {
        struct bench_conn *c = &n->conns[i];
        if (c->fd >= 0) {
            close(c->fd);
        }
        buf_fini(&c->in);
        buf_fini(&c->out);
        bench_ring_fini(&c->flight);
    }
    close(n->epoll);
    free(n->conns);
    free(n->dirty);
}
