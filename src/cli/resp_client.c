/* One command at a time over one connection, with a deadline on everything.
 *
 * Not here: what replies mean. Sockets are non-blocking and every wait is a poll that ends at the deadline. A connection that
 * failed in any way is closed, never reused: a late reply could be taken for another command's. */
#include "cli/resp_client.h"

#include "communication/resp.h"
#include "utils/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECT_MS = 1000, RETRY_MS = 50, STOP_MS = 100 /* how long a wait may not notice *stop */ };

uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t now_ms(void)
{
    return now_us() / 1000;
}

static bool parse_one(const char *text, size_t len, struct endpoint *e)
{
    const char *colon = memrchr(text, ':', len);
    if (colon == NULL || colon == text) {
        return false;
    }
    const char *host = text;
    size_t host_len = (size_t)(colon - text);
    if (host[0] == '[' && colon[-1] == ']') {
        host++;
        host_len -= 2;
    }
    char port[8] = {0}, *end;
    size_t port_len = len - (size_t)(colon + 1 - text);
    if (host_len == 0 || host_len >= sizeof e->host || port_len == 0 || port_len >= sizeof port) {
        return false;
    }
    memcpy(port, colon + 1, port_len);
    unsigned long number = strtoul(port, &end, 10);
    if (*end != '\0' || number == 0 || number > 65535) {
        return false;
    }
    memcpy(e->host, host, host_len);
    e->host[host_len] = '\0';
    e->port = (uint16_t)number;
    return true;
}

uint32_t endpoints_parse(const char *text, struct endpoint *out, char *why, size_t why_size)
{
    uint32_t n = 0;
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ",");
        if (n == ENDPOINTS_MAX || !parse_one(p, len, &out[n])) {
            snprintf(why, why_size, "'%.*s' is no address; want host:port,host:port,...", (int)(len < 100 ? len : 100), p);
            return 0;
        }
        n++;
        p += len;
        if (*p == '\0') {
            return n;
        }
    }
}

/* True when the socket is ready for what before the deadline, and before *stop (which may be NULL) is set. */
static bool wait_socket(int fd, short what, uint64_t deadline_ms, const volatile sig_atomic_t *stop)
{
    uint64_t longest_ms = stop != NULL ? STOP_MS : 60000;
    for (;;) {
        uint64_t now = now_ms();
        if (now >= deadline_ms || (stop != NULL && *stop != 0)) {
            return false;
        }
        uint64_t left = deadline_ms - now;
        struct pollfd p = {.fd = fd, .events = what};
        int n = poll(&p, 1, (int)(left > longest_ms ? longest_ms : left));
        if (n > 0 || (n < 0 && errno != EINTR)) {
            return true;
        }
    }
}

static void socket_options(int fd)
{
    int on = 1, idle_s = 5, every_s = 2, probes = 3;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static int connect_address(const struct addrinfo *a, uint64_t deadline_ms, int *error)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        *error = errno;
        return -1;
    }
    socket_options(fd);
    *error = connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
    if (*error == EINPROGRESS) {
        socklen_t len = sizeof *error;
        *error = ETIMEDOUT;
        if (wait_socket(fd, POLLOUT, deadline_ms, NULL)) {
            getsockopt(fd, SOL_SOCKET, SO_ERROR, error, &len);
        }
    }
    if (*error == 0) {
        return fd;
    }
    close(fd);
    return -1;
}

int endpoint_connect(const struct endpoint *e, uint64_t deadline_ms, char *why, size_t why_size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    char port[8];
    snprintf(port, sizeof port, "%u", e->port);
    int bad = getaddrinfo(e->host, port, &hints, &list);
    if (bad != 0) {
        snprintf(why, why_size, "%s:%u: %s", e->host, e->port, gai_strerror(bad));
        return -1;
    }
    int fd = -1, error = 0;
    for (struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
        fd = connect_address(a, deadline_ms, &error);
    }
    freeaddrinfo(list);
    if (fd < 0) {
        snprintf(why, why_size, "%s:%u: %s", e->host, e->port, strerror(error));
    }
    return fd;
}

void resp_client_init(struct resp_client *c, const struct endpoint *endpoints, uint32_t n, const char *password)
{
    syn_assert(n > 0 && n <= ENDPOINTS_MAX);
    *c = (struct resp_client){.n_endpoints = n, .password = password, .fd = -1};
    memcpy(c->endpoints, endpoints, n * sizeof *endpoints);
    buf_init(&c->in);
}

void resp_client_close(struct resp_client *c)
{
    if (c->fd >= 0) {
        close(c->fd);
    }
    c->fd = -1;
    c->reply_len = 0;
    buf_clear(&c->in);
}

void resp_client_fini(struct resp_client *c)
{
    resp_client_close(c);
    buf_fini(&c->in);
}

static void fail(struct resp_client *c, const char *what)
{
    const struct endpoint *e = &c->endpoints[c->at];
    snprintf(c->why, sizeof c->why, "%s:%u: %s", e->host, e->port, what);
    resp_client_close(c);
}

void resp_command(struct buf *out, const slice_t *argv, uint32_t argc)
{
    buf_printf(out, "*%u\r\n", argc);
    for (uint32_t i = 0; i < argc; i++) {
        buf_printf(out, "$%zu\r\n", argv[i].len);
        buf_append_slice(out, argv[i]);
        buf_append_str(out, "\r\n");
    }
}

static bool send_all(struct resp_client *c, uint64_t deadline_ms, slice_t bytes)
{
    size_t sent = 0;
    while (sent < bytes.len) {
        ssize_t n = send(c->fd, bytes.ptr + sent, bytes.len - sent, MSG_NOSIGNAL);
        if (n > 0) {
            sent += (size_t)n;
        } else if (n >= 0 || (errno != EAGAIN && errno != EINTR) || !wait_socket(c->fd, POLLOUT, deadline_ms, c->stop)) {
            return false;
        }
    }
    return true;
}

static bool send_command(struct resp_client *c, uint64_t deadline_ms, const slice_t *argv, uint32_t argc)
{
    struct buf out;
    buf_init(&out);
    resp_command(&out, argv, argc);
    bool ok = send_all(c, deadline_ms, buf_slice(&out));
    buf_fini(&out);
    return ok;
}

static enum call_status read_more(struct resp_client *c, uint64_t deadline_ms)
{
    if (!wait_socket(c->fd, POLLIN, deadline_ms, c->stop)) {
        fail(c, "no answer in time");
        return CALL_TIMEOUT;
    }
    ssize_t n = recv(c->fd, buf_reserve(&c->in, 16384), 16384, 0);
    if (n > 0) {
        c->in.len += (size_t)n;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        fail(c, n == 0 ? "the connection was closed" : strerror(errno));
        return CALL_UNREACHABLE;
    }
    return CALL_OK;
}

/* Reads until a whole reply is at the front of in; pushes on the way are dropped. */
static enum call_status read_reply(struct resp_client *c, uint64_t deadline_ms, slice_t *reply)
{
    for (;;) {
        size_t n = c->in.len > 0 ? resp_reply_size(buf_slice(&c->in)) : 0;
        if (n == SIZE_MAX) {
            fail(c, "the answer is not RESP: is this a Synaxis RESP port?");
            return CALL_UNREACHABLE;
        }
        if (n > 0 && c->in.ptr[0] == '>') {
            buf_consume(&c->in, n);
        } else if (n > 0) {
            c->reply_len = n;
            *reply = slice_of(c->in.ptr, n);
            return CALL_OK;
        } else {
            enum call_status s = read_more(c, deadline_ms);
            if (s != CALL_OK) {
                return s;
            }
        }
    }
}

static enum call_status exchange(struct resp_client *c, uint64_t deadline_ms, const slice_t *argv, uint32_t argc, slice_t *reply)
{
    buf_consume(&c->in, c->reply_len);
    c->reply_len = 0;
    if (!send_command(c, deadline_ms, argv, argc)) {
        fail(c, "the connection was closed");
        return CALL_UNREACHABLE;
    }
    return read_reply(c, deadline_ms, reply);
}

/* HELLO 3 also authenticates; a refusal becomes the command's own reply, so that the user sees NOAUTH or WRONGPASS. */
static enum call_status greet(struct resp_client *c, uint64_t deadline_ms, slice_t *reply)
{
    slice_t hello[] = {SLICE_LIT("HELLO"), SLICE_LIT("3"), SLICE_LIT("AUTH"), SLICE_LIT("default"),
                       slice_str(c->password != NULL ? c->password : "")};
    return exchange(c, deadline_ms, hello, c->password != NULL ? 5 : 2, reply);
}

/* Connects when there is no connection; *reply is empty, or the error with which the node refused the greeting. */
static enum call_status be_connected(struct resp_client *c, uint64_t deadline_ms, slice_t *reply)
{
    *reply = SLICE_NONE;
    if (c->fd >= 0) {
        return CALL_OK;
    }
    uint64_t limit = now_ms() + CONNECT_MS;
    c->fd = endpoint_connect(&c->endpoints[c->at], limit < deadline_ms ? limit : deadline_ms, c->why, sizeof c->why);
    if (c->fd < 0) {
        return CALL_UNREACHABLE;
    }
    enum call_status s = greet(c, deadline_ms, reply);
    if (s == CALL_OK && resp_error_word(*reply).len == 0) {
        *reply = SLICE_NONE;
    }
    return s;
}

static enum call_status call_once(struct resp_client *c, uint64_t deadline_ms, const slice_t *argv, uint32_t argc, slice_t *reply)
{
    enum call_status s = be_connected(c, deadline_ms, reply);
    if (s != CALL_OK || reply->len > 0) {
        return s;
    }
    return exchange(c, deadline_ms, argv, argc, reply);
}

slice_t resp_error_word(slice_t reply)
{
    if (reply.len == 0 || (reply.ptr[0] != '-' && reply.ptr[0] != '!')) {
        return SLICE_NONE;
    }
    const uint8_t *from = reply.ptr + 1, *end = reply.ptr + reply.len;
    if (reply.ptr[0] == '!') {
        const uint8_t *line = memchr(from, '\n', (size_t)(end - from));
        from = line != NULL ? line + 1 : end;
    }
    const uint8_t *p = from;
    while (p < end && *p != ' ' && *p != '\r') {
        p++;
    }
    return slice_of(from, (size_t)(p - from));
}

bool resp_worth_retrying(slice_t reply)
{
    static const char *const words[] = {"LOADING", "UNCERTAIN", "NOQUORUM", "BUSY"};
    slice_t word = resp_error_word(reply);
    for (uint32_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (slice_ieq(word, words[i])) {
            return true;
        }
    }
    return false;
}

static void pause_until(uint64_t at_ms)
{
    struct timespec t = {.tv_sec = (time_t)(at_ms / 1000), .tv_nsec = (long)(at_ms % 1000 * 1000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
    }
}

enum call_status resp_call(struct resp_client *c, uint64_t deadline_ms, const slice_t *argv, uint32_t argc, slice_t *reply)
{
    uint32_t failures = 0;
    for (;;) {
        enum call_status s = call_once(c, deadline_ms, argv, argc, reply);
        uint64_t next_ms = now_ms() + RETRY_MS;
        if (s == CALL_OK && (!resp_worth_retrying(*reply) || next_ms >= deadline_ms)) {
            return s;
        }
        if (s != CALL_OK) {
            c->at = (c->at + 1) % c->n_endpoints;
        }
        if (s == CALL_TIMEOUT) {
            return s;
        }
        if (s == CALL_UNREACHABLE) {
            if (++failures > c->n_endpoints) { /* every address once, and the first again: it may have been a stale connection */
                return s;
            }
        }
        if (s == CALL_OK || failures == c->n_endpoints) {
            pause_until(next_ms < deadline_ms ? next_ms : deadline_ms);
        }
        if (now_ms() >= deadline_ms) {
            return s;
        }
    }
}

static enum call_status pipeline_once(struct resp_client *c, uint64_t deadline_ms, slice_t commands, uint32_t n,
                                      void (*fn)(void *arg, uint32_t i, slice_t reply), void *arg, slice_t *refusal)
{
    enum call_status s = be_connected(c, deadline_ms, refusal);
    if (s != CALL_OK || refusal->len > 0) {
        return s;
    }
    buf_consume(&c->in, c->reply_len);
    c->reply_len = 0;
    if (!send_all(c, deadline_ms, commands)) {
        fail(c, "the connection was closed");
        return CALL_UNREACHABLE;
    }
    for (uint32_t i = 0; i < n; i++) {
        slice_t reply;
        s = read_reply(c, deadline_ms, &reply);
        if (s != CALL_OK) {
            return s;
        }
        fn(arg, i, reply);
        buf_consume(&c->in, c->reply_len);
        c->reply_len = 0;
    }
    return CALL_OK;
}

enum call_status resp_pipeline(struct resp_client *c, uint64_t deadline_ms, slice_t commands, uint32_t n,
                               void (*fn)(void *arg, uint32_t i, slice_t reply), void *arg, slice_t *refusal)
{
    enum call_status s = pipeline_once(c, deadline_ms, commands, n, fn, arg, refusal);
    if (s != CALL_OK) {
        c->at = (c->at + 1) % c->n_endpoints;
    }
    return s;
}
