/* The loop's turns: events in as they happen, one EV_TURN_END per iteration, effects out in list order.
 *
 * A turn ends in the check phase, right after poll, so everything that one poll delivered is one batch; and in the prepare
 * phase for what timers did. Nothing here blocks: the log and the snapshots have threads of their own. */
#include "io/shell.h"

#include "utils/assert.h"
#include "utils/limits.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { NAP_US = 400 };

uint64_t shell_now_ms(const struct shell *s)
{
    return (uv_hrtime() - s->clock_base_ns) / 1000000 + 1;
}

uint64_t shell_wall_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void shell_log(const struct shell *s, enum log_level level, const char *text)
{
    logger_write(s->logger, shell_wall_ms(), level, slice_str(text));
}

static void shell_stop(struct shell *s, int code)
{
    if (!s->stopping) {
        s->stopping = true;
        s->exit_code = code;
        uv_stop(&s->loop);
    }
}

static void shell_effect(struct shell *s, struct effect *e)
{
    switch (e->type) {
    case EF_REPLY: clients_reply(s, e); break;
    case EF_CLOSE_CONN: clients_close(s, e->conn); break;
    case EF_PAUSE_CONN: clients_pause(s, e->conn); break;
    case EF_RESUME_CONN: clients_resume(s, e->conn); break;
    case EF_LINK_SEND: peers_send(s, e); break;
    case EF_LINK_CLOSE: peers_close(s, e->link); break;
    case EF_DIAL: peers_dial(s, e->peer, buf_slice(&e->data)); break;
    case EF_LOG:
    case EF_SNAP_WRITE:
    case EF_SNAP_READ_RAW:
    case EF_SNAP_WRITE_RAW:
    case EF_SNAP_LOAD:
    case EF_SNAP_ATTACH:
    case EF_BACKLOG_WRITE:
    case EF_BACKLOG_READ:
    case EF_BACKLOG_KEEP:
    case EF_TRIM: disk_effect(s, e); break;
    case EF_LOGLINE:
        buf_put_u8(&e->data, 0);
        shell_log(s, (enum log_level)e->value, (const char *)e->data.ptr);
        break;
    case EF_STOP: shell_stop(s, (int)e->value); break;
    default: SYN_UNREACHABLE();
    }
}

/* An effect may lead to another event at once (a reply that left, a refused dial): its effects have a list of their own. */
void shell_event(struct shell *s, struct event *ev)
{
    syn_assert(s->depth < 8);
    struct effects fx = s->depth < 2 ? s->spare[s->depth] : (struct effects){0};
    uint32_t depth = s->depth++;
    ev->now_ms = shell_now_ms(s);
    ev->wall_ms = shell_wall_ms();
    node_step(s->node, ev, &fx);
    if (ev->type != EV_TURN_END) {
        s->turn_open = true;
    }
    for (uint32_t i = 0; i < fx.count; i++) {
        shell_effect(s, &fx.items[i]);
    }
    effects_clear(&fx);
    s->depth--;
    if (depth < 2) {
        s->spare[depth] = fx;
    } else {
        effects_fini(&fx);
    }
}

static void on_timer(uv_timer_t *t)
{
    struct shell *s = t->data;
    s->timer_at_ms = UINT64_MAX;
    s->turn_open = true;
}

static void shell_arm(struct shell *s)
{
    uint64_t at = node_deadline_ms(s->node);
    if (at == s->timer_at_ms) {
        return;
    }
    s->timer_at_ms = at;
    if (at == UINT64_MAX) {
        uv_timer_stop(&s->timer);
        return;
    }
    uint64_t now = shell_now_ms(s);
    uv_update_time(&s->loop);
    uv_timer_start(&s->timer, on_timer, at > now ? at - now : 0, 0);
}

static void shell_turn(struct shell *s)
{
    if (node_deadline_ms(s->node) <= shell_now_ms(s)) {
        s->turn_open = true;
    }
    for (int rounds = 0; s->turn_open && rounds < 4; rounds++) {
        s->turn_open = false;
        struct event ev = {.type = EV_TURN_END};
        shell_event(s, &ev);
    }
    shell_arm(s);
}

/* While a log write is on its way the node would only keep what the sockets bring. Each wake-up for a few of them costs more than the
 * few, so the loop sleeps until the write is done, but not long: a slow disk must not keep peers waiting (T1, T19). */
static void shell_nap(struct shell *s)
{
    uint64_t seq = node_held_for(s->node);
    if (seq != 0 && !s->stopping) {
        log_thread_wait(s->log, seq, NAP_US);
    }
}

static void on_prepare(uv_prepare_t *p)
{
    shell_turn(p->data);
    shell_nap(p->data);
}

static void on_check(uv_check_t *c)
{
    shell_turn(c->data);
}

static void on_signal(uv_signal_t *sig, int signum)
{
    struct shell *s = sig->data;
    if (signum == SIGHUP) {
        shell_log(s, LOG_INFO, "SIGHUP: nothing to reload");
        return;
    }
    if (s->signals++ > 0) {
        shell_log(s, LOG_WARN, "second signal: stopping at once");
        shell_stop(s, 0);
        return;
    }
    struct event ev = {.type = EV_SHUTDOWN};
    shell_event(s, &ev);
}

static void signal_start(struct shell *s, uv_signal_t *sig, int signum)
{
    uv_signal_init(&s->loop, sig);
    sig->data = s;
    uv_signal_start(sig, on_signal, signum);
}

void shell_init(struct shell *s, struct logger *logger)
{
    s->logger = logger;
    s->clock_base_ns = uv_hrtime();
    s->timer_at_ms = UINT64_MAX;
    s->next_id = 1;
    s->frame_bytes_max = 8 * 1024 * 1024;
    s->max_clients = LIMIT_CONNECTIONS;
    map_init(&s->clients);
    map_init(&s->links);
    list_init(&s->dials);
    int rc = uv_loop_init(&s->loop);
    syn_assert(rc == 0);
    uv_prepare_init(&s->loop, &s->prepare);
    uv_check_init(&s->loop, &s->check);
    uv_timer_init(&s->loop, &s->timer);
    s->prepare.data = s->check.data = s->timer.data = s;
    signal_start(s, &s->sigterm, SIGTERM);
    signal_start(s, &s->sigint, SIGINT);
    signal_start(s, &s->sighup, SIGHUP);
}

static void on_connection(uv_stream_t *server, int status)
{
    struct listener *l = server->data;
    if (status < 0) {
        shell_log(l->shell, LOG_WARN, uv_strerror(status)); /* EMFILE: libuv drops the connection and goes on */
        return;
    }
    if (l->what == 0) {
        peers_accept(l);
    } else {
        clients_accept(l);
    }
}

/* Small messages that each wake somebody gain nothing from a paced congestion control (BBR arms a timer per segment): Reno for
 * ours, where the kernel has it (docs/decisions/003-congestion-control.md). Accepted sockets inherit it. */
void shell_tune(uv_tcp_t *tcp)
{
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)tcp, &fd) == 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    }
}

int shell_listen(struct shell *s, const char *host, uint16_t port, int what)
{
    struct sockaddr_storage addr;
    int rc = uv_ip4_addr(host, port, (struct sockaddr_in *)&addr);
    if (rc != 0) {
        rc = uv_ip6_addr(host, port, (struct sockaddr_in6 *)&addr);
    }
    if (rc != 0) {
        return rc;
    }
    syn_assert(s->n_listeners < sizeof s->listeners / sizeof s->listeners[0]);
    struct listener *l = &s->listeners[s->n_listeners++];
    l->shell = s;
    l->what = what;
    l->tcp.data = l;
    uv_tcp_init(&s->loop, &l->tcp);
    rc = uv_tcp_bind(&l->tcp, (struct sockaddr *)&addr, 0);
    shell_tune(&l->tcp);
    if (rc == 0) {
        rc = uv_listen((uv_stream_t *)&l->tcp, 1024, on_connection);
    }
    return rc;
}

int shell_run(struct shell *s)
{
    uv_prepare_start(&s->prepare, on_prepare);
    uv_check_start(&s->check, on_check);
    s->turn_open = true;
    while (!s->stopping) {
        uv_run(&s->loop, UV_RUN_DEFAULT);
    }
    return s->exit_code;
}

static void close_handle(uv_handle_t *h, void *arg)
{
    (void)arg;
    if (!uv_is_closing(h)) {
        uv_close(h, NULL);
    }
}

void shell_fini(struct shell *s)
{
    clients_close_all(s);
    peers_close_all(s);
    uv_walk(&s->loop, close_handle, NULL);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    uv_loop_close(&s->loop);
    map_fini(&s->clients);
    map_fini(&s->links);
    effects_fini(&s->spare[0]);
    effects_fini(&s->spare[1]);
}
