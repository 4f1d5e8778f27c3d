/* Between a command and the cluster: which addresses, what a refusal means, and how replies are shown. */
#ifndef SYN_CLI_CLI_ASK_H
#define SYN_CLI_CLI_ASK_H

#include "cli/cli_args.h"
#include "cli/resp_client.h"

enum { WORDS_MAX = 24 };

/* A command under construction; slices borrow what the caller passes, numbers are kept in text. */
struct words {
    slice_t v[WORDS_MAX];
    uint32_t n;
    char text[WORDS_MAX][48];
};
void words_add(struct words *w, const char *s);
void words_number(struct words *w, uint64_t v);
/* IDEM and an id that no other call has: what makes trying again safe. */
void words_idem(struct words *w);

/* 16 random hexadecimal digits and a NUL. */
void cli_random_id(char out[17]);

/* The addresses of --nodes, else SYNAXIS_NODES, else NODE_HOST:RESP_PORT when RESP_PORT is set (the server's own settings), else the
 * three of ./run. CLI_USAGE with a line on c->err when they are malformed. */
int cli_endpoints(struct cli *c, struct endpoint *out, uint32_t *n);

/* Prepares a client from the options and the environment; resp_client_fini when CLI_OK. */
int cli_client(struct cli *c, struct resp_client *client);

/* Sends w and waits for the answer, --timeout plus extra_ms (of a wait) long. CLI_OK: *reply is no error. Otherwise the exit code,
 * after saying on c->err what happened, why, and what to do. */
int cli_ask(struct cli *c, struct resp_client *client, const struct words *w, uint64_t extra_ms, slice_t *reply);

/* Asks once and shows the answer, as --json or as people read it. */
int cli_ask_and_show(struct cli *c, const struct words *w, uint64_t extra_ms);

/* What a failed call means: its exit code, its sentences on c->err. waited_ms: how long it was given. */
int cli_no_answer(struct cli *c, const struct resp_client *client, enum call_status status, uint64_t waited_ms);

/* The exit code that an error reply means, and its sentences on c->err. */
int cli_refused(struct cli *c, slice_t error_reply);

#endif
