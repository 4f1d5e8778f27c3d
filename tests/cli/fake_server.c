/* A RESP server in a thread, for tests: accepts, parses with the product's own parser, and lets the test answer each command. Its thread
 * takes no signals, so that those meant for the code under test reach it. */
#include "fake_server.h"

#include "cli/commands.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { CONNS_MAX = 64, WORDS_MAX_ = 32 };

struct fake_conn {
    int fd;
    struct resp_parser parser;
    struct buf in;
};

struct fake_server {
    fake_handler handler;
    void *arg;
    int listener, stop_fd;
    uint16_t port;
    uint32_t commands; /* atomic */
    pthread_t thread;
    struct fake_conn conns[CONNS_MAX];
    uint32_t n_conns;
};

static void accept_one(struct fake_server *s)
{
    static const struct resp_limits limits = {.args_max = 256, .bulk_bytes_max = 65536, .inline_bytes_max = 4096, .command_bytes_max = 1 << 20};
    int fd = accept(s->listener, NULL, NULL);
    assert_true(fd >= 0 && s->n_conns < CONNS_MAX);
    struct fake_conn *c = &s->conns[s->n_conns++];
    c->fd = fd;
    resp_parser_init(&c->parser, &limits);
    buf_init(&c->in);
}

static void drop(struct fake_server *s, uint32_t i)
{
    close(s->conns[i].fd);
    resp_parser_fini(&s->conns[i].parser);
    buf_fini(&s->conns[i].in);
    s->conns[i] = s->conns[--s->n_conns];
}

static enum fake_verdict answer(struct fake_server *s, struct resp_parser *p, struct buf *out)
{
    if (slice_ieq(p->argv[0], "HELLO")) {
        resp_map(out, 1);
        resp_bulk_str(out, "proto");
        resp_int(out, 3);
        return FAKE_REPLY;
    }
    enum fake_verdict v = s->handler(s->arg, p->argc, p->argv, out);
    __atomic_add_fetch(&s->commands, 1, __ATOMIC_SEQ_CST);
    return v;
}

/* False when the connection is to be closed. */
static bool serve(struct fake_server *s, struct fake_conn *c)
{
    ssize_t n = recv(c->fd, buf_reserve(&c->in, 65536), 65536, 0);
    if (n <= 0) {
        return false;
    }
    c->in.len += (size_t)n;
    size_t used;
    const char *reason;
    while (resp_parse(&c->parser, buf_slice(&c->in), &used, &reason) == RESP_OK) {
        struct buf out;
        buf_init(&out);
        enum fake_verdict v = answer(s, &c->parser, &out);
        if (v == FAKE_REPLY && send(c->fd, out.ptr, out.len, MSG_NOSIGNAL) != (ssize_t)out.len) {
            v = FAKE_CLOSE;
        }
        buf_fini(&out);
        buf_consume(&c->in, used);
        if (v == FAKE_CLOSE) {
            return false;
        }
    }
    return true;
}

static void *server_loop(void *arg)
{
    struct fake_server *s = arg;
    for (;;) {
        struct pollfd fds[CONNS_MAX + 2] = {{.fd = s->stop_fd, .events = POLLIN}, {.fd = s->listener, .events = POLLIN}};
        uint32_t n = s->n_conns;
        for (uint32_t i = 0; i < n; i++) {
            fds[i + 2] = (struct pollfd){.fd = s->conns[i].fd, .events = POLLIN};
        }
        poll(fds, n + 2, -1);
        if (fds[0].revents) {
            break;
        }
        for (uint32_t i = n; i-- > 0;) {
            if (fds[i + 2].revents && !serve(s, &s->conns[i])) {
                drop(s, i);
            }
        }
        if (fds[1].revents) {
            accept_one(s);
        }
    }
    while (s->n_conns > 0) {
        drop(s, 0);
    }
    return NULL;
}

struct fake_server *fake_server_start(fake_handler handler, void *arg)
{
    struct fake_server *s = calloc(1, sizeof *s);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    s->handler = handler;
    s->arg = arg;
    s->stop_fd = eventfd(0, 0);
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s->listener, 64), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &len), 0);
    s->port = ntohs(a.sin_port);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the thread under test */
    assert_int_equal(pthread_create(&s->thread, NULL, server_loop, s), 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return s;
}

uint16_t fake_server_port(const struct fake_server *s)
{
    return s->port;
}

uint32_t fake_server_commands(struct fake_server *s)
{
    return __atomic_load_n(&s->commands, __ATOMIC_SEQ_CST);
}

void fake_server_stop(struct fake_server *s)
{
    uint64_t one = 1;
    assert_int_equal(write(s->stop_fd, &one, sizeof one), sizeof one);
    pthread_join(s->thread, NULL);
    close(s->listener);
    close(s->stop_fd);
    free(s);
}

enum fake_verdict fake_locks(void *arg, uint32_t argc, const slice_t *argv, struct buf *out)
{
    (void)arg;
    (void)argc;
    if (!slice_ieq(argv[0], "LOCK.ACQUIRE")) {
        resp_int(out, 1);
        return FAKE_REPLY;
    }
    resp_array(out, 8); /* as RESP2 has it; what reads maps reads this too */
    resp_bulk_str(out, "resource");
    resp_bulk(out, argv[1]);
    resp_bulk_str(out, "lock_id");
    resp_int(out, 281474976710657);
    resp_bulk_str(out, "token");
    resp_int(out, 42);
    resp_bulk_str(out, "waited_ms");
    resp_int(out, 0);
    return FAKE_REPLY;
}

struct fake_output fake_run(const uint16_t *ports, const char *words)
{
    struct fake_output o = {0};
    size_t out_len, err_len, used = 0;
    char nodes[256] = "", *copy = strdup(words), *argv[WORDS_MAX_ + 1];
    int argc = 0;
    for (; *ports != 0; ports++) {
        used += (size_t)snprintf(nodes + used, sizeof nodes - used, "%s127.0.0.1:%u", used ? "," : "", *ports);
    }
    setenv("SYNAXIS_NODES", nodes, 1);
    for (char *p = strtok(copy, " "); p != NULL && argc < WORDS_MAX_; p = strtok(NULL, " ")) {
        argv[argc++] = p;
    }
    argv[argc] = NULL;
    struct cli c = {.out = open_memstream(&o.out, &out_len), .err = open_memstream(&o.err, &err_len)};
    cli_options_init(&c.opt);
    o.code = cli_dispatch(&c, argc, argv);
    fclose(c.out);
    fclose(c.err);
    free(copy);
    return o;
}

void fake_output_free(struct fake_output *o)
{
    free(o->out);
    free(o->err);
}
