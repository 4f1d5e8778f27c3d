/* What the words of a command line mean: one table of commands, one of options; help and completion are printed from them. */
#ifndef SYN_CLI_CLI_ARGS_H
#define SYN_CLI_CLI_ARGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { CLI_LIST_MAX = 16 };
#define CLI_UNSET UINT64_MAX /* a number that was not given, where the server's default is wanted */

struct cli_list {
    const char *v[CLI_LIST_MAX];
    uint32_t n;
};

/* Every option of every command; a command reads the ones that its row in the table names. */
struct cli_options {
    const char *nodes, *password, *owner, *meta, *mode, *match, *name, *reason, *target, *server_pids, *http;
    uint64_t timeout_ms, ttl_ms, wait_ms, grace_ms, interval_ms;
    uint64_t seconds, warmup_s, connections, resources, pipeline, rate, gaps_ms, hold;
    /* Queues; numbers of a topic's settings are CLI_UNSET unless given. */
    const char *group, *consumer, *key, *key_sep, *id, *id_prefix, *file, *ordered;
    struct cli_list headers; /* NAME=VALUE each */
    uint64_t partitions, replicas, max_deliver, visibility_ms, retention, max_age_ms, backoff_ms, backoff_max_ms, delay_ms, block_ms, count;
    uint64_t batch, bytes, fill, consumers;
    /* Cache. */
    const char *zipf;
    uint64_t keys, reads;
    bool json, help, version, watch, dot, kill, warn, quiet, wait_given, ttl_given, kill_from_stdin, no_ack, follow, nx, xx, preload;
};

struct cli {
    FILE *out, *err;
    struct cli_options opt;
    const struct cli_command *command;
    char **argv; /* operands, argc of them, NULL behind the last */
    int argc;
    bool color; /* out is a terminal and NO_COLOR is not set */
};

struct cli_command {
    const char *path; /* one or two words */
    int (*run)(struct cli *c);
    const char *operands;    /* as help shows them */
    int operands_min, operands_max;
    bool rest;               /* everything from the second operand on belongs to another program */
    const char *options;     /* names, separated by spaces */
    const char *summary;
    const char *examples;    /* lines */
};

struct cli_option {
    const char *name;
    char letter; /* 0: none */
    enum { OPT_FLAG, OPT_NUMBER, OPT_DURATION, OPT_TEXT, OPT_LIST } kind; /* a list's option may be given again */
    size_t offset; /* into struct cli_options */
    uint64_t min, max;
    const char *argument;
    const char *help;
};

extern const struct cli_option CLI_OPTIONS[];
extern const uint32_t CLI_OPTION_COUNT;

/* True when the command takes the option (every command takes --nodes, --password, --timeout, --json and --help). */
bool cli_takes(const struct cli_command *command, const struct cli_option *option);

/* Defaults, before any word is read. */
void cli_options_init(struct cli_options *o);

/* Reads options and operands of c->command from words (reordered in place: operands end up in front). False: a line about it
 * was written to c->err. */
bool cli_parse(struct cli *c, int n, char **words);

/* "500" and "500ms" are milliseconds; s, m and h are the units one expects. False: not a duration. */
bool cli_duration(const char *text, uint64_t *ms);

/* Of count words, the one nearest to `word` by edit distance when it is near enough to be meant, else NULL. */
const char *cli_nearest(const char *word, const char *const *words, uint32_t count);

#endif
