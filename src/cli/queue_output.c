/* Messages as lines, and an end by signal, for queue consume and queue tail.
 *
 * A payload is written as it is, since what reads the pipe wants its bytes; on a terminal, control characters are escaped. */
#include "cli/queue_output.h"

#include "cli/cli_output.h"
#include "communication/resp.h"

#include <unistd.h>

volatile sig_atomic_t queue_stop;

slice_t queue_next_message(struct reader *r)
{
    const uint8_t *from = r->p;
    return resp_skip(r) ? slice_of(from, (size_t)(r->p - from)) : SLICE_NONE;
}

void queue_put_message(struct cli *c, slice_t message)
{
    struct resp_value v;
    if (c->opt.json) {
        output_json(c->out, message);
        return;
    }
    if (!resp_map_get(message, "payload", &v)) {
        return;
    }
    if (c->out == stdout && isatty(STDOUT_FILENO)) {
        output_text(c->out, v.str);
    } else {
        fwrite(v.str.ptr, 1, v.str.len, c->out);
    }
    fputc('\n', c->out);
}

static void on_signal(int number)
{
    (void)number;
    queue_stop = 1;
}

void queue_catch_signals(struct queue_signals *before)
{
    struct sigaction stop = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};
    queue_stop = 0;
    sigaction(SIGINT, &stop, &before->interrupt);
    sigaction(SIGTERM, &stop, &before->terminate);
    sigaction(SIGPIPE, &ignore, &before->pipe);
}

void queue_restore_signals(const struct queue_signals *before)
{
    sigaction(SIGINT, &before->interrupt, NULL);
    sigaction(SIGTERM, &before->terminate, NULL);
    sigaction(SIGPIPE, &before->pipe, NULL);
}
