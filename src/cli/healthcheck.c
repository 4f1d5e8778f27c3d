/* synaxis healthcheck: one HTTP GET of /readyz on the node beside us, for containers and supervisors that have no curl. */
#include "cli/cli.h"
#include "cli/cli_output.h"
#include "cli/commands.h"
#include "cli/resp_client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Reads until the peer closes, the deadline passes or b is full enough; what came is in b. */
static void read_all(int fd, uint64_t deadline_ms, struct buf *b)
{
    while (b->len < 64 * 1024) {
        uint64_t now = now_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= deadline_ms || poll(&p, 1, (int)(deadline_ms - now)) == 0) {
            return;
        }
        ssize_t n = recv(fd, buf_reserve(b, 4096), 4096, 0);
        if (n > 0) {
            b->len += (size_t)n;
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            return;
        }
    }
}

static int ask_readyz(struct cli *c, const struct endpoint *e)
{
    static const char request[] = "GET /readyz?verbose HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    uint64_t deadline = now_ms() + c->opt.timeout_ms;
    char why[512];
    struct buf b;
    int fd = endpoint_connect(e, deadline, why, sizeof why);
    if (fd < 0) {
        fprintf(c->err, "synaxis: healthcheck: %s\n", why);
        return CLI_FAILED;
    }
    buf_init(&b);
    if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)sizeof request - 1) {
        read_all(fd, deadline, &b);
    }
    close(fd);
    bool ready = b.len > 12 && memcmp(b.ptr, "HTTP/1.", 7) == 0 && memcmp(b.ptr + 8, " 200", 4) == 0;
    const uint8_t *body = b.len > 0 ? memmem(b.ptr, b.len, "\r\n\r\n", 4) : NULL;
    if (body != NULL) {
        fwrite(body + 4, 1, (size_t)(b.ptr + b.len - body - 4), ready ? c->out : c->err);
        fputc('\n', ready ? c->out : c->err);
    } else {
        fprintf(c->err, "synaxis: healthcheck: %s:%u did not answer within %llu ms\n", e->host, e->port,
                (unsigned long long)c->opt.timeout_ms);
    }
    buf_fini(&b);
    return ready ? CLI_OK : CLI_FAILED;
}

int cmd_healthcheck(struct cli *c)
{
    struct endpoint e[ENDPOINTS_MAX];
    const char *port = getenv("NODE_PORT");
    char own[64], why[300];
    snprintf(own, sizeof own, "127.0.0.1:%s", port != NULL ? port : "8000");
    if (endpoints_parse(c->opt.http != NULL ? c->opt.http : own, e, why, sizeof why) != 1) {
        fprintf(c->err, "synaxis: healthcheck: --http wants one host:port\n");
        return CLI_USAGE;
    }
    return ask_readyz(c, &e[0]);
}
