/* synaxis queue create, alter, delete, list, groups, lag, info, peek, seek, dlq, redrive, forget: one question each.
 *
 * Not here: publish (queue_publish.c), consume (queue_consume.c), tail (queue_tail.c). Each of these may be asked again without harm, so
 * none carries an id of its own: a topic made twice with the same settings is one topic, a position is set, not moved. */
#include "cli/cli.h"
#include "cli/cli_ask.h"
#include "cli/commands.h"

#include <strings.h>

static int one_word(struct cli *c, const char *command)
{
    struct words w = {.n = 0};
    words_add(&w, command);
    words_add(&w, c->argv[0]);
    return cli_ask_and_show(c, &w, 0);
}

static void setting(struct words *w, const char *name, uint64_t value)
{
    if (value != CLI_UNSET) {
        words_add(w, name);
        words_number(w, value);
    }
}

/* The settings that were given; the server has the others' defaults (create) or leaves them (alter). */
static int with_settings(struct cli *c, const char *command)
{
    const struct cli_options *o = &c->opt;
    struct words w = {.n = 0};
    if (o->ordered != NULL && strcasecmp(o->ordered, "key") != 0 && strcasecmp(o->ordered, "none") != 0) {
        fprintf(c->err, "synaxis: --ordered %s: want key or none\n", o->ordered);
        return CLI_USAGE;
    }
    words_add(&w, command);
    words_add(&w, c->argv[0]);
    setting(&w, "PARTITIONS", o->partitions);
    setting(&w, "REPLICAS", o->replicas);
    setting(&w, "MAXDELIVER", o->max_deliver);
    setting(&w, "VISIBILITY", o->visibility_ms);
    setting(&w, "RETENTION", o->retention);
    setting(&w, "MAXAGE", o->max_age_ms);
    setting(&w, "BACKOFF", o->backoff_ms);
    setting(&w, "BACKOFFMAX", o->backoff_max_ms);
    if (o->ordered != NULL) {
        words_add(&w, "ORDERED");
        words_add(&w, o->ordered);
    }
    if (w.n == 2 && strcmp(command, "QUEUE.ALTER") == 0) {
        fprintf(c->err, "synaxis: queue alter: name a setting to change; see synaxis queue alter --help\n");
        return CLI_USAGE;
    }
    return cli_ask_and_show(c, &w, 0);
}

int cmd_queue_create(struct cli *c)
{
    return with_settings(c, "QUEUE.CREATE");
}

int cmd_queue_alter(struct cli *c)
{
    return with_settings(c, "QUEUE.ALTER");
}

int cmd_queue_delete(struct cli *c)
{
    return one_word(c, "QUEUE.DELETE");
}

int cmd_queue_list(struct cli *c)
{
    struct words w = {.n = 0};
    words_add(&w, "QUEUE.LIST");
    return cli_ask_and_show(c, &w, 0);
}

int cmd_queue_groups(struct cli *c)
{
    return one_word(c, "QUEUE.GROUPS");
}

int cmd_queue_info(struct cli *c)
{
    return one_word(c, "QUEUE.INFO");
}

int cmd_queue_peek(struct cli *c)
{
    struct words w = {.n = 0};
    words_add(&w, "QUEUE.PEEK");
    words_add(&w, c->argv[0]);
    words_add(&w, c->argv[1]);
    words_add(&w, c->argv[2]);
    setting(&w, "COUNT", c->opt.count);
    return cli_ask_and_show(c, &w, 0);
}

bool queue_needs_group(struct cli *c)
{
    if (c->opt.group != NULL && c->opt.group[0] != '\0') {
        return true;
    }
    fprintf(c->err, "synaxis: %s: name the consumer group with --group%s\n", c->command->path,
            strcmp(c->command->path, "queue consume") == 0 ? " (synaxis queue tail looks without taking part)" : "");
    return false;
}

/* command topic GROUP group, and one word more unless it is NULL */
static int of_group(struct cli *c, const char *command, const char *more)
{
    struct words w = {.n = 0};
    if (!queue_needs_group(c)) {
        return CLI_USAGE;
    }
    words_add(&w, command);
    words_add(&w, c->argv[0]);
    words_add(&w, "GROUP");
    words_add(&w, c->opt.group);
    if (more != NULL) {
        words_add(&w, more);
    }
    setting(&w, "COUNT", c->opt.count);
    return cli_ask_and_show(c, &w, 0);
}

int cmd_queue_lag(struct cli *c)
{
    return of_group(c, "QUEUE.LAG", NULL);
}

int cmd_queue_seek(struct cli *c)
{
    return of_group(c, "QUEUE.SEEK", c->argv[1]);
}

int cmd_queue_dlq(struct cli *c)
{
    return of_group(c, "QUEUE.DLQ", NULL);
}

int cmd_queue_redrive(struct cli *c)
{
    return of_group(c, "QUEUE.REDRIVE", NULL);
}

int cmd_queue_forget(struct cli *c)
{
    return of_group(c, "QUEUE.FORGET", NULL);
}
