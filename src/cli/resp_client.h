/* A small RESP3 client over blocking calls with deadlines, for the command line: one connection at a time, the next address
 * when one fails. Not for programs (libsynaxis) and not for load (bench_loop.h). */
#ifndef SYN_CLI_RESP_CLIENT_H
#define SYN_CLI_RESP_CLIENT_H

#include "utils/buf.h"

#include <signal.h>

enum { ENDPOINTS_MAX = 64, ENDPOINT_HOST_BYTES = 256 };

struct endpoint {
    char host[ENDPOINT_HOST_BYTES];
    uint16_t port;
};

/* Reads "host:port,host:port,..." ([v6]:port too). Returns how many, 0 with a sentence in why when malformed. */
uint32_t endpoints_parse(const char *text, struct endpoint *out, char *why, size_t why_size);

/* Monotonic clocks; deadlines below are in now_ms(). */
uint64_t now_ms(void);
uint64_t now_us(void);

/* Opens a TCP connection (no delay, keep-alive probes). Returns the socket, or -1 with a sentence in why. */
int endpoint_connect(const struct endpoint *e, uint64_t deadline_ms, char *why, size_t why_size);

enum call_status {
    CALL_OK,          /* a reply is there; it may be an error reply */
    CALL_TIMEOUT,     /* the deadline passed */
    CALL_UNREACHABLE, /* no address could be connected to, or each closed the connection */
};

struct resp_client {
    struct endpoint endpoints[ENDPOINTS_MAX];
    uint32_t n_endpoints, at;
    const char *password; /* borrowed; NULL: none */
    int fd;               /* -1: not connected */
    struct buf in;
    size_t reply_len; /* of the reply at the front of in that the last call returned */
    char why[512];    /* of the last failure, naming the address */
    const volatile sig_atomic_t *stop; /* borrowed, may be NULL: when it is not 0 every wait ends as if its deadline had passed */
};

void resp_client_init(struct resp_client *c, const struct endpoint *endpoints, uint32_t n, const char *password);
void resp_client_fini(struct resp_client *c);
void resp_client_close(struct resp_client *c);

/* Sends one command, waits for its reply (RESP3 bytes, borrowed until the next call). After a connection failure the next
 * address is tried, each once; the replies LOADING, UNCERTAIN, NOQUORUM and BUSY are tried again until the deadline, and the last
 * of them is then returned. So a command that changes something must carry IDEM. */
enum call_status resp_call(struct resp_client *c, uint64_t deadline_ms, const slice_t *argv, uint32_t argc, slice_t *reply);

/* Sends n whole commands at once and hands the reply to number i (from 0, in order) to fn. CALL_OK: all were answered, or the connection was
 * refused, *refusal then being the error reply (otherwise empty). Anything else: those for which fn was not called may or may not have happened;
 * nothing is tried again, but the next call goes to the next address. */
enum call_status resp_pipeline(struct resp_client *c, uint64_t deadline_ms, slice_t commands, uint32_t n,
                               void (*fn)(void *arg, uint32_t i, slice_t reply), void *arg, slice_t *refusal);

/* Appends a command of argc words. */
void resp_command(struct buf *out, const slice_t *argv, uint32_t argc);

/* True for the replies that resp_call tries again: what was asked for is worth trying again after a pause. */
bool resp_worth_retrying(slice_t reply);

/* The first word of an error reply; empty when the reply is no error. */
slice_t resp_error_word(slice_t reply);

#endif
