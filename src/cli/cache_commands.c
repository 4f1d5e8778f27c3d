/* synaxis cache get, set, del, state, stats, invalidate: one question each.
 *
 * Values are bytes: what cache get writes to a file or a pipe is the value and nothing else, a terminal sees control characters escaped. A question is
 * asked again on the next node when its answer is lost, as resp_call does; not so SET with a condition, which would find its own value. */
#include "cli/cli.h"
#include "cli/cli_ask.h"
#include "cli/cli_output.h"
#include "cli/commands.h"
#include "communication/resp.h"
#include "utils/limits.h"

#include <unistd.h>

static void show_value(struct cli *c, slice_t value)
{
    if (isatty(fileno(c->out))) {
        output_text(c->out, value);
        fputc('\n', c->out);
    } else {
        fwrite(value.ptr, 1, value.len, c->out);
    }
}

int cmd_cache_get(struct cli *c)
{
    struct words w = {.n = 0};
    struct resp_client client;
    struct resp_value v = {0};
    slice_t reply;
    int code = cli_client(c, &client);
    if (code != CLI_OK) {
        return code;
    }
    words_add(&w, "CACHE.GET");
    words_add(&w, c->argv[0]);
    code = cli_ask(c, &client, &w, 0, &reply);
    if (code == CLI_OK) {
        bool there = resp_map_get(reply, "value", &v) && v.type == RT_BULK;
        if (c->opt.json) {
            output_json(c->out, reply);
        } else if (there) {
            show_value(c, v.str);
        } else {
            fprintf(c->err, "synaxis: cache get: there is no key '%s'\n", c->argv[0]);
        }
        code = there ? CLI_OK : CLI_NO_KEY;
    }
    resp_client_fini(&client);
    return code;
}

/* All of standard input. False, with a line: it is too long for a value. */
static bool read_value(struct cli *c, struct buf *value)
{
    size_t got;
    do {
        got = fread(buf_reserve(value, 64 << 10), 1, 64 << 10, stdin);
        value->len += got;
    } while (got > 0 && value->len <= LIMIT_VALUE_BYTES);
    if (value->len > LIMIT_VALUE_BYTES) {
        fprintf(c->err, "synaxis: cache set: a value has at most %d bytes\n", LIMIT_VALUE_BYTES);
    }
    return value->len <= LIMIT_VALUE_BYTES;
}

static void keep_reply(void *arg, uint32_t i, slice_t reply)
{
    (void)i;
    buf_append_slice(arg, reply);
}

/* Without a second try: whether the first did it cannot be told afterwards. */
static int ask_once(struct cli *c, struct resp_client *client, const struct words *w, struct buf *reply)
{
    struct buf command = {0};
    slice_t refusal = SLICE_NONE;
    resp_command(&command, w->v, w->n);
    enum call_status status = resp_pipeline(client, now_ms() + c->opt.timeout_ms, buf_slice(&command), 1, keep_reply, reply, &refusal);
    buf_fini(&command);
    if (refusal.len > 0) {
        return cli_refused(c, refusal);
    }
    if (status != CALL_OK) {
        return cli_no_answer(c, client, status, c->opt.timeout_ms);
    }
    return resp_error_word(buf_slice(reply)).len > 0 ? cli_refused(c, buf_slice(reply)) : CLI_OK;
}

static int ask_set(struct cli *c, struct resp_client *client, const struct words *w, struct buf *reply)
{
    slice_t answer;
    if (c->opt.nx || c->opt.xx) {
        return ask_once(c, client, w, reply);
    }
    int code = cli_ask(c, client, w, 0, &answer);
    if (code == CLI_OK) {
        buf_append_slice(reply, answer);
    }
    return code;
}

static int show_set(struct cli *c, slice_t reply)
{
    bool done = reply.len > 0 && reply.ptr[0] == '+';
    if (c->opt.json) {
        fprintf(c->out, "{\"set\":%s}\n", done ? "true" : "false");
    } else if (done) {
        fputs("OK\n", c->out);
    }
    if (!done) {
        fprintf(c->err, "synaxis: cache set: not set: %s\n", c->opt.nx ? "there is such a key (--nx)" : "there is no such key (--xx)");
    }
    return done ? CLI_OK : CLI_FAILED;
}

static int set_value(struct cli *c, slice_t value)
{
    struct words w = {.n = 0};
    struct resp_client client;
    struct buf reply = {0};
    int code = cli_client(c, &client);
    if (code != CLI_OK) {
        return code;
    }
    words_add(&w, "SET");
    words_add(&w, c->argv[0]);
    w.v[w.n++] = value;
    if (c->opt.ttl_given) {
        words_add(&w, "PX");
        words_number(&w, c->opt.ttl_ms);
    }
    if (c->opt.nx || c->opt.xx) {
        words_add(&w, c->opt.nx ? "NX" : "XX");
    }
    code = ask_set(c, &client, &w, &reply);
    if (code == CLI_OK) {
        code = show_set(c, buf_slice(&reply));
    }
    buf_fini(&reply);
    resp_client_fini(&client);
    return code;
}

int cmd_cache_set(struct cli *c)
{
    struct buf value = {0};
    int code = CLI_USAGE;
    if (c->opt.nx && c->opt.xx) {
        fprintf(c->err, "synaxis: cache set: --nx and --xx exclude each other\n");
    } else if (strcmp(c->argv[1], "-") != 0) {
        code = set_value(c, slice_str(c->argv[1]));
    } else if (read_value(c, &value)) {
        code = set_value(c, buf_slice(&value));
    }
    buf_fini(&value);
    return code;
}

static int of_keys(struct cli *c, const char *command)
{
    struct words w = {.n = 0};
    words_add(&w, command);
    for (int i = 0; i < c->argc; i++) {
        words_add(&w, c->argv[i]);
    }
    return cli_ask_and_show(c, &w, 0);
}

int cmd_cache_del(struct cli *c)
{
    return of_keys(c, "DEL");
}

int cmd_cache_state(struct cli *c)
{
    return of_keys(c, "CACHE.STATE");
}

int cmd_cache_invalidate(struct cli *c)
{
    return of_keys(c, "CACHE.INVALIDATE");
}

/* A map of numbers as a table of two columns. */
static void show_stats(struct cli *c, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct resp_value map = {0}, name, value;
    struct table t;
    table_init(&t, 2);
    table_cell(&t, "COUNT");
    table_cell(&t, "VALUE");
    bool ok = resp_next(&r, &map);
    uint32_t n = ok && map.type == RT_MAP ? map.count : map.count / 2; /* RESP2 has flat arrays */
    for (uint32_t i = 0; i < n && resp_next(&r, &name) && resp_next(&r, &value); i++) {
        table_cell_text(&t, name.str);
        value.type == RT_INT ? table_cell(&t, "%lld", (long long)value.num) : table_cell_text(&t, value.str);
    }
    table_print(c, &t);
    table_fini(&t);
}

int cmd_cache_stats(struct cli *c)
{
    struct words w = {.n = 0};
    struct resp_client client;
    slice_t reply;
    int code = cli_client(c, &client);
    if (code != CLI_OK) {
        return code;
    }
    words_add(&w, "CACHE.STATS");
    code = cli_ask(c, &client, &w, 0, &reply);
    if (code == CLI_OK && c->opt.json) {
        output_json(c->out, reply);
    } else if (code == CLI_OK) {
        show_stats(c, reply);
    }
    resp_client_fini(&client);
    return code;
}
