/* What queue consume and queue tail share: messages as lines, and an end by signal. */
#ifndef SYN_CLI_QUEUE_OUTPUT_H
#define SYN_CLI_QUEUE_OUTPUT_H

#include "cli/cli_args.h"
#include "utils/buf.h"

#include <signal.h>

/* One message to c->out: its payload and a newline, or with --json all of it. */
void queue_put_message(struct cli *c, slice_t message);

/* Moves r over one value and returns its bytes. */
slice_t queue_next_message(struct reader *r);

/* Not 0 once SIGINT or SIGTERM came. */
extern volatile sig_atomic_t queue_stop;

struct queue_signals {
    struct sigaction interrupt, terminate, pipe;
};
/* From here on SIGINT and SIGTERM set queue_stop, and a closed pipe is a failed write. */
void queue_catch_signals(struct queue_signals *before);
void queue_restore_signals(const struct queue_signals *before);

#endif
