/* synaxis queue publish: an argument, or each line of standard input or a file, is one message.
 *
 * What has arrived by now is one batch, sent in one piece: a slow pipe is published line by line, a file in batches of BATCH_LINES. Every
 * message has an id (--id-prefix or a random one, and the number of its line), so that a batch whose answers were lost is sent again to the next
 * node and nothing is in the topic twice. Within a batch a refused line is tried again after the others.
 * I1: a line is done when its answer was read; nothing is read beyond a line that was refused for good. */
#include "cli/cli.h"
#include "cli/cli_ask.h"
#include "cli/cli_output.h"
#include "cli/commands.h"
#include "communication/resp.h"
#include "utils/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BATCH_LINES = 512, READ_BYTES = 64 << 10, LINE_BYTES_MAX = 16 << 20, BATCH_BYTES = 1 << 20, BAR_MS = 200, PAUSE_MS = 50, FIRST_BAR_MS = 500 };

struct line {
    slice_t text;
    uint64_t number; /* from 1 */
    bool done;
};

struct publisher {
    struct cli *c;
    struct resp_client client;
    char id_prefix[256];
    slice_t key_sep;
    struct buf in;             /* what was read; the batch's lines point into it */
    struct line lines[BATCH_LINES];
    uint32_t n, asked[BATCH_LINES], n_asked; /* asked: which lines the commands under way are for */
    uint64_t number, published, bytes_done, bytes_all; /* bytes_all: of a regular file, else 0 */
    uint64_t begun_ms, bar_ms;
    bool single, bar;
    int code;
    struct buf error;
};

/* Appends QUEUE.PUBLISH for one line. False, with a sentence: it has no key. */
static bool put_line(struct publisher *p, const struct line *l, struct buf *out)
{
    const struct cli_options *o = &p->c->opt;
    slice_t argv[10 + 3 * CLI_LIST_MAX], key = o->key != NULL ? slice_str(o->key) : SLICE_NONE, payload = l->text;
    char id[300], delay[24];
    uint32_t n = 0;
    if (p->key_sep.len > 0) {
        const uint8_t *at = memmem(payload.ptr, payload.len, p->key_sep.ptr, p->key_sep.len);
        if (at == NULL) {
            fprintf(p->c->err, "synaxis: queue publish: line %" PRIu64 " has no '%s' (--key-sep)\n", l->number, o->key_sep);
            return false;
        }
        key = slice_of(payload.ptr, (size_t)(at - payload.ptr));
        payload = slice_of(at + p->key_sep.len, payload.len - key.len - p->key_sep.len);
    }
    snprintf(id, sizeof id, "%s%" PRIu64, p->id_prefix, l->number);
    argv[n++] = SLICE_LIT("QUEUE.PUBLISH");
    argv[n++] = slice_str(p->c->argv[0]);
    argv[n++] = payload;
    if (key.ptr != NULL) {
        argv[n++] = SLICE_LIT("KEY");
        argv[n++] = key;
    }
    argv[n++] = SLICE_LIT("ID");
    argv[n++] = slice_str(p->single && o->id != NULL ? o->id : id);
    if (o->delay_ms != CLI_UNSET) {
        snprintf(delay, sizeof delay, "%" PRIu64, o->delay_ms);
        argv[n++] = SLICE_LIT("DELAY");
        argv[n++] = slice_str(delay);
    }
    for (uint32_t i = 0; i < o->headers.n; i++) {
        const char *equals = strchr(o->headers.v[i], '=');
        argv[n++] = SLICE_LIT("HEADER");
        argv[n++] = slice_of(o->headers.v[i], (size_t)(equals - o->headers.v[i]));
        argv[n++] = slice_str(equals + 1);
    }
    syn_assert(n <= sizeof argv / sizeof argv[0]);
    resp_command(out, argv, n);
    return true;
}

static void show_id(struct publisher *p, uint64_t number, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct resp_value v;
    if (!resp_next(&r, &v)) {
        return;
    }
    if (p->c->opt.json) {
        struct buf b;
        buf_init(&b);
        resp_to_json(&b, reply, NULL);
        fprintf(p->c->out, "{\"line\":%" PRIu64 ",\"id\":%.*s}\n", number, (int)b.len, (const char *)b.ptr);
        buf_fini(&b);
    } else if (p->single) {
        output_text(p->c->out, v.str);
        fputc('\n', p->c->out);
    }
}

static void on_reply(void *arg, uint32_t i, slice_t reply)
{
    struct publisher *p = arg;
    struct line *l = &p->lines[p->asked[i]];
    if (resp_error_word(reply).len == 0) {
        l->done = true; /* I1 */
        p->published++;
        show_id(p, l->number, reply);
    } else if (p->code == CLI_OK && !resp_worth_retrying(reply)) {
        p->code = cli_refused(p->c, reply);
        fprintf(p->c->err, "  That was line %" PRIu64 ".\n", l->number);
    } else {
        buf_clear(&p->error);
        buf_append_slice(&p->error, reply);
    }
}

static void show_bar(struct publisher *p)
{
    uint64_t now = now_ms();
    if (!p->bar || now < p->bar_ms) {
        return;
    }
    p->bar_ms = now + BAR_MS;
    double seconds = (double)(now - p->begun_ms) / 1e3;
    fprintf(p->c->err, "\r\033[K%" PRIu64 " messages, %.0f/s", p->published, (double)p->published / seconds);
    if (p->bytes_all > 0) {
        fprintf(p->c->err, ", %u%%", (unsigned)(p->bytes_done * 100 / p->bytes_all));
    }
    fflush(p->c->err);
}

static void pause_ms(uint64_t ms)
{
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000 * 1000000)};
    nanosleep(&t, NULL);
}

/* Sends what of the batch is not done; returns how many were left, and the connection's state. */
static uint32_t send_rest(struct publisher *p, uint64_t deadline_ms, enum call_status *status)
{
    struct buf out;
    slice_t refusal;
    uint64_t before = p->published;
    buf_init(&out);
    p->n_asked = 0;
    for (uint32_t i = 0; i < p->n && p->code == CLI_OK; i++) {
        if (!p->lines[i].done) {
            p->asked[p->n_asked++] = i;
            p->code = put_line(p, &p->lines[i], &out) ? CLI_OK : CLI_FAILED;
        }
    }
    p->n_asked -= p->code != CLI_OK; /* those before a line that cannot be sent are sent */
    *status = p->n_asked == 0 ? CALL_OK : resp_pipeline(&p->client, deadline_ms, buf_slice(&out), p->n_asked, on_reply, p, &refusal);
    if (*status == CALL_OK && p->n_asked > 0 && refusal.len > 0) {
        p->code = cli_refused(p->c, refusal);
    }
    buf_fini(&out);
    return p->n_asked - (uint32_t)(p->published - before);
}

/* Until all of the batch is answered, refused for good, or nothing moved for --timeout. */
static void publish_batch(struct publisher *p)
{
    enum call_status status = CALL_OK;
    uint64_t wait_ms = p->c->opt.timeout_ms, deadline = now_ms() + wait_ms, unreachable = 0;
    uint32_t left = p->n, before;
    do {
        before = left;
        left = send_rest(p, deadline, &status);
        unreachable = status == CALL_UNREACHABLE && left == before ? unreachable + 1 : 0;
        if (left < before) {
            deadline = now_ms() + wait_ms;
        }
        show_bar(p);
        if (left > 0 && p->code == CLI_OK && now_ms() < deadline) {
            pause_ms(PAUSE_MS);
        }
    } while (left > 0 && p->code == CLI_OK && now_ms() < deadline && unreachable <= p->client.n_endpoints);
    if (left > 0 && p->code == CLI_OK) {
        p->code = status != CALL_OK ? cli_no_answer(p->c, &p->client, status, wait_ms) : cli_refused(p->c, buf_slice(&p->error));
    }
}

/* Publishes all whole lines of the input; at its end the last one too, though no newline ends it. */
static void publish_lines(struct publisher *p, bool end)
{
    size_t at = 0;
    while (p->code == CLI_OK && at < p->in.len) {
        size_t from = at;
        p->n = 0;
        while (p->n < BATCH_LINES && at < p->in.len && at - from < BATCH_BYTES) {
            const uint8_t *line = p->in.ptr + at, *newline = memchr(line, '\n', p->in.len - at);
            if (newline == NULL && !end) {
                break;
            }
            size_t len = newline != NULL ? (size_t)(newline - line) : p->in.len - at;
            p->lines[p->n++] = (struct line){.text = slice_of(line, len), .number = ++p->number};
            at += len + (newline != NULL);
        }
        if (p->n == 0) {
            break;
        }
        p->bytes_done += at - from;
        publish_batch(p);
    }
    buf_consume(&p->in, at);
}

static void publish_stream(struct publisher *p, int fd)
{
    ssize_t n = 1;
    while (p->code == CLI_OK && n > 0) {
        n = read(fd, buf_reserve(&p->in, READ_BYTES), READ_BYTES);
        if (n < 0 && errno == EINTR) {
            n = 1;
            continue;
        }
        if (n < 0 || p->in.len > LINE_BYTES_MAX) {
            fprintf(p->c->err, "synaxis: queue publish: %s\n", n < 0 ? strerror(errno) : "a line of more than 16 MiB");
            p->code = CLI_FAILED;
            return;
        }
        p->in.len += (size_t)n;
        publish_lines(p, n == 0);
    }
}

static int check_options(struct cli *c)
{
    const struct cli_options *o = &c->opt;
    const char *wrong = NULL;
    for (uint32_t i = 0; i < o->headers.n; i++) {
        if (strchr(o->headers.v[i], '=') == NULL || o->headers.v[i][0] == '=') {
            wrong = "--header wants NAME=VALUE";
        }
    }
    if (c->argc == 2 && (o->file != NULL || o->key_sep != NULL || o->id_prefix != NULL)) {
        wrong = "--file, --key-sep and --id-prefix are for lines, not for a message given as an argument";
    } else if (c->argc == 1 && o->id != NULL) {
        wrong = "--id is for one message given as an argument; lines have --id-prefix";
    } else if (o->key != NULL && o->key_sep != NULL) {
        wrong = "--key and --key-sep exclude each other";
    } else if (o->id_prefix != NULL && strlen(o->id_prefix) > 200) {
        wrong = "--id-prefix is longer than 200 bytes";
    }
    if (wrong != NULL) {
        fprintf(c->err, "synaxis: queue publish: %s\n", wrong);
    }
    return wrong != NULL ? CLI_USAGE : CLI_OK;
}

static void publish_file(struct publisher *p)
{
    const char *name = p->c->opt.file;
    bool own = name != NULL && strcmp(name, "-") != 0;
    int fd = own ? open(name, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    struct stat st;
    if (fd < 0) {
        fprintf(p->c->err, "synaxis: queue publish: %s: %s\n", name, strerror(errno));
        p->code = CLI_FAILED;
        return;
    }
    p->bytes_all = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    publish_stream(p, fd);
    if (own) {
        close(fd);
    }
}

static void summary(struct publisher *p)
{
    struct cli *c = p->c;
    if (p->bar && p->published > 0) {
        fputs("\r\033[K", c->err);
    }
    if (!p->single && (!c->opt.quiet || p->code != CLI_OK)) {
        fprintf(c->err, "%" PRIu64 " messages published in %.1f s\n", p->published, (double)(now_ms() - p->begun_ms) / 1e3);
    }
    if (!p->single && p->code != CLI_OK && c->opt.id_prefix == NULL && p->published > 0) {
        fputs("  With --id-prefix the same input can be published again, and nothing twice.\n", c->err);
    }
}

int cmd_queue_publish(struct cli *c)
{
    int code = check_options(c);
    struct publisher *p = code == CLI_OK ? calloc(1, sizeof *p) : NULL;
    if (p == NULL) {
        return code != CLI_OK ? code : CLI_FAILED;
    }
    char random[17];
    cli_random_id(random);
    p->c = c;
    p->single = c->argc == 2;
    p->bar = !c->opt.quiet && c->err == stderr && isatty(STDERR_FILENO);
    p->begun_ms = now_ms();
    p->bar_ms = p->begun_ms + FIRST_BAR_MS;
    p->key_sep = c->opt.key_sep != NULL ? slice_str(c->opt.key_sep) : SLICE_NONE;
    snprintf(p->id_prefix, sizeof p->id_prefix, "%s%s", c->opt.id_prefix != NULL ? c->opt.id_prefix : random, c->opt.id_prefix != NULL ? "" : "-");
    buf_init(&p->in);
    buf_init(&p->error);
    p->code = cli_client(c, &p->client);
    if (p->code == CLI_OK) {
        if (p->single) {
            p->lines[0] = (struct line){.text = slice_str(c->argv[1]), .number = ++p->number};
            p->n = 1;
            publish_batch(p);
        } else {
            publish_file(p);
        }
        summary(p);
        resp_client_fini(&p->client);
    }
    code = p->code;
    buf_fini(&p->in);
    buf_fini(&p->error);
    free(p);
    return code;
}
