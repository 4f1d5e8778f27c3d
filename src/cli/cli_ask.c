/* Addresses, one question, and the words for a refusal.
 *
 * Not here: sockets (resp_client.c). An error is told in three parts: what happened, why (the server's sentence), what to do (the
 * table of utils/errors.h). Bytes of a server reach a terminal only escaped. */
#include "cli/cli_ask.h"

#include "cli/cli.h"
#include "cli/cli_output.h"
#include "communication/resp.h"
#include "utils/assert.h"
#include "utils/errors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>

#define DEFAULT_NODES "127.0.0.1:7379,127.0.0.1:7389,127.0.0.1:7399"

void words_add(struct words *w, const char *s)
{
    syn_assert(w->n < WORDS_MAX);
    w->v[w->n++] = slice_str(s);
}

void words_number(struct words *w, uint64_t v)
{
    syn_assert(w->n < WORDS_MAX);
    snprintf(w->text[w->n], sizeof w->text[0], "%" PRIu64, v);
    words_add(w, w->text[w->n]);
}

void words_idem(struct words *w)
{
    words_add(w, "IDEM");
    syn_assert(w->n < WORDS_MAX);
    cli_random_id(w->text[w->n]);
    words_add(w, w->text[w->n]);
}

void cli_random_id(char out[17])
{
    uint64_t r = 0;
    ssize_t n = getrandom(&r, sizeof r, 0);
    syn_assert(n == (ssize_t)sizeof r);
    snprintf(out, 17, "%016" PRIx64, r);
}

int cli_endpoints(struct cli *c, struct endpoint *out, uint32_t *n)
{
    const char *text = c->opt.nodes != NULL ? c->opt.nodes : getenv("SYNAXIS_NODES");
    const char *port = getenv("RESP_PORT"), *host = getenv("NODE_HOST");
    char own[300], why[300];
    if (text == NULL && port != NULL) {
        bool any = host == NULL || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
        snprintf(own, sizeof own, "%s:%s", any ? "127.0.0.1" : host, port);
        text = own;
    }
    *n = endpoints_parse(text != NULL ? text : DEFAULT_NODES, out, why, sizeof why);
    if (*n == 0) {
        fprintf(c->err, "synaxis: --nodes: %s\n", why);
        return CLI_USAGE;
    }
    return CLI_OK;
}

int cli_client(struct cli *c, struct resp_client *client)
{
    struct endpoint endpoints[ENDPOINTS_MAX];
    uint32_t n;
    int code = cli_endpoints(c, endpoints, &n);
    if (code == CLI_OK) {
        resp_client_init(client, endpoints, n, c->opt.password != NULL ? c->opt.password : getenv("SYNAXIS_PASSWORD"));
    }
    return code;
}

static int code_of(enum error_word e)
{
    switch (e) {
    case ERROR_LOADING:
    case ERROR_UNCERTAIN:
    case ERROR_NOQUORUM:
        return CLI_NO_QUORUM;
    case ERROR_LOCKED:
    case ERROR_TIMEOUT:
    case ERROR_DEADLOCK:
    case ERROR_UNBLOCKED:
        return CLI_NOT_ACQUIRED;
    default:
        return CLI_FAILED;
    }
}

int cli_refused(struct cli *c, slice_t error_reply)
{
    struct reader r = reader_of(error_reply);
    struct resp_value v = {0};
    enum error_word e;
    if (!resp_next(&r, &v) || v.type != RT_ERROR) {
        fprintf(c->err, "synaxis: %s: the answer is not of the expected form\n", c->command->path);
        return CLI_FAILED;
    }
    fprintf(c->err, "synaxis: %s: ", c->command->path);
    output_text(c->err, v.str);
    fputc('\n', c->err);
    if (!error_find(v.str, &e)) {
        return CLI_FAILED;
    }
    if (e != ERROR_ERR) {
        fprintf(c->err, "  %s %s\n", error_table[e].what, error_table[e].todo);
    }
    return code_of(e);
}

int cli_no_answer(struct cli *c, const struct resp_client *client, enum call_status status, uint64_t waited_ms)
{
    if (status == CALL_TIMEOUT) {
        fprintf(c->err,
                "synaxis: %s: %s\n  The node was silent for %" PRIu64 " ms; what was asked for may or may not have happened. Look with"
                " synaxis status, or wait longer with --timeout.\n",
                c->command->path, client->why, waited_ms);
        return CLI_TIMEOUT;
    }
    fprintf(c->err, "synaxis: %s: no node could be reached (%u tried; the last: %s)\n", c->command->path, client->n_endpoints,
            client->why);
    fprintf(c->err, "  Start a cluster (./run, or synaxis server), or name its addresses with --nodes or SYNAXIS_NODES.\n");
    return CLI_NO_QUORUM;
}

int cli_ask(struct cli *c, struct resp_client *client, const struct words *w, uint64_t extra_ms, slice_t *reply)
{
    uint64_t wait_ms = c->opt.timeout_ms + extra_ms;
    enum call_status status = resp_call(client, now_ms() + wait_ms, w->v, w->n, reply);
    if (status != CALL_OK) {
        return cli_no_answer(c, client, status, wait_ms);
    }
    return resp_error_word(*reply).len > 0 ? cli_refused(c, *reply) : CLI_OK;
}

int cli_ask_and_show(struct cli *c, const struct words *w, uint64_t extra_ms)
{
    struct resp_client client;
    slice_t reply;
    int code = cli_client(c, &client);
    if (code != CLI_OK) {
        return code;
    }
    code = cli_ask(c, &client, w, extra_ms, &reply);
    if (code == CLI_OK && c->opt.json) {
        output_json(c->out, reply);
    } else if (code == CLI_OK) {
        output_reply(c, reply);
    }
    resp_client_fini(&client);
    return code;
}
