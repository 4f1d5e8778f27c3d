/* A load generator's connections: opened before the load, written in one piece a turn, opened again on the next node when they break. */
#ifndef SYN_CLI_BENCH_NET_H
#define SYN_CLI_BENCH_NET_H

#include "cli/resp_client.h"
#include "utils/buf.h"

enum { NET_RETRY_US = 2000, NET_RECONNECT_US = 10000 };

/* A queue of numbers; its capacity is the caller's promise. */
struct bench_ring {
    uint32_t *v;
    uint32_t cap, head, count;
};
void bench_ring_init(struct bench_ring *r, uint32_t cap);
void bench_ring_fini(struct bench_ring *r);
void bench_ring_push(struct bench_ring *r, uint32_t v);
uint32_t bench_ring_pop(struct bench_ring *r);
static inline uint32_t bench_ring_first(const struct bench_ring *r) { return r->v[r->head]; }

struct bench_conn {
    int fd; /* -1: down */
    uint32_t endpoint;
    uint64_t again_us; /* when to try to connect next, while down */
    struct buf in, out;
    struct bench_ring flight; /* lanes whose answers are to come: RESP answers in the order of the commands */
    bool dirty, want_out;
};

struct bench_net {
    const struct endpoint *endpoints;
    uint32_t n_endpoints;
    const char *password; /* NULL: none */
    struct bench_conn *conns;
    uint32_t n_conns, down;
    uint64_t reconnects;
    /* An answer stands at the front of `in`: take it and the head of c->flight, and say how many bytes it *used; *more when it is not whole.
     * False: it makes no sense, and the connection is given up. */
    bool (*take)(void *owner, struct bench_conn *c, slice_t in, size_t *used, uint64_t now, bool *more);
    /* The connection broke while this lane's answer was to come; c->flight is being emptied. */
    void (*lost)(void *owner, uint32_t lane, uint64_t now);
    /* A line with a process id came on stdin, and that process was killed. */
    void (*killed)(void *owner, uint64_t now);
    void *owner;
    int epoll;
    uint32_t *dirty;
    uint32_t n_dirty;
};

/* Opens n connections over the endpoints in turn, each for up to flight_max commands in flight; with kill_from_stdin it listens there. False with a
 * sentence in why; bench_net_close either way. The members above `epoll` are the caller's to set before, but for conns and n_conns. */
bool bench_net_open(struct bench_net *n, uint32_t conns, uint32_t flight_max, bool kill_from_stdin, char *why, size_t why_size);
void bench_net_close(struct bench_net *n);

/* A command of `lane` was appended to c->out. */
void bench_net_sent(struct bench_net *n, struct bench_conn *c, uint32_t lane);

/* One turn: sends what was appended, opens what is down, waits until until_us at the latest, takes what arrived. */
void bench_net_turn(struct bench_net *n, uint64_t until_us);

#endif
