/* The commands of the table in cli.c. Each returns an exit code of cli.h. */
#ifndef SYN_CLI_COMMANDS_H
#define SYN_CLI_COMMANDS_H

#include "cli/cli_args.h"

int cmd_status(struct cli *c);
int cmd_healthcheck(struct cli *c);
int cmd_lock_acquire(struct cli *c);
int cmd_lock_release(struct cli *c);
int cmd_lock_renew(struct cli *c);
int cmd_lock_force(struct cli *c);
int cmd_lock_check(struct cli *c);
int cmd_lock_info(struct cli *c);
int cmd_lock_list(struct cli *c);
int cmd_lock_graph(struct cli *c);
int cmd_lock_run(struct cli *c);
int cmd_session_create(struct cli *c);
int cmd_session_keepalive(struct cli *c);
int cmd_session_end(struct cli *c);
int cmd_session_list(struct cli *c);
int cmd_queue_create(struct cli *c);
int cmd_queue_alter(struct cli *c);
int cmd_queue_delete(struct cli *c);
int cmd_queue_list(struct cli *c);
int cmd_queue_publish(struct cli *c);
int cmd_queue_consume(struct cli *c);
int cmd_queue_tail(struct cli *c);
int cmd_queue_groups(struct cli *c);
int cmd_queue_lag(struct cli *c);
int cmd_queue_info(struct cli *c);
int cmd_queue_peek(struct cli *c);
int cmd_queue_seek(struct cli *c);
int cmd_queue_dlq(struct cli *c);
int cmd_queue_redrive(struct cli *c);
int cmd_queue_forget(struct cli *c);
int cmd_cache_get(struct cli *c);
int cmd_cache_set(struct cli *c);
int cmd_cache_del(struct cli *c);
int cmd_cache_state(struct cli *c);
int cmd_cache_stats(struct cli *c);
int cmd_cache_invalidate(struct cli *c);
int cmd_bench_lock(struct cli *c);
int cmd_bench_queue(struct cli *c);
int cmd_bench_cache(struct cli *c);
int cmd_completion(struct cli *c);
int cmd_version(struct cli *c);
int cmd_help(struct cli *c);

/* The table, for help, completion and tests. */
extern const struct cli_command CLI_COMMANDS[];
extern const uint32_t CLI_COMMAND_COUNT;

/* Finds the command that words (behind the program's name, reordered in place) begin with, reads its options and runs it. c->out,
 * c->err, c->color and default options are set by the caller. Returns an exit code. */
int cli_dispatch(struct cli *c, int n, char **words);

/* True when --group was given; otherwise says on c->err that it is needed. */
bool queue_needs_group(struct cli *c);

/* --mode as the word of the protocol; NULL with a line on c->err when it is neither. */
const char *lock_mode_word(struct cli *c);

#endif
