/* The command table and the way from argv to a command; help, version and the shell's completion are printed from the table.
 *
 * Not here: `server` and `sim` (src/main.c), options (cli_args.c), commands. Data goes to stdout, talk to stderr; colour only on a terminal
 * and without NO_COLOR. */
#include "cli/cli.h"

#include "cli/commands.h"
#include "utils/assert.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MANY = 1 << 20, KEYS_MAX = 20 };

#define TOPIC_SETTINGS "replicas max-deliver visibility retention max-age backoff backoff-max"

const struct cli_command CLI_COMMANDS[] = {
    {"status", cmd_status, "", 0, 0, false, "watch interval", "Shows who leads each group, how far everybody is, and whether all is well.",
     "synaxis status\nsynaxis status --watch\nsynaxis status --json | jq .verdict"},
    {"lock run", cmd_lock_run, "NAME -- COMMAND [ARG...]", 2, MANY, true, "ttl wait mode owner meta kill warn grace quiet",
     "Holds a lock while a command runs; renews it, and ends the command when it is lost.",
     "synaxis lock run nightly -- ./backup.sh\nsynaxis lock run nightly --wait 0 -- ./backup.sh   # not if somebody else is at it: exit 4"},
    {"lock acquire", cmd_lock_acquire, "NAME", 1, 1, false, "ttl wait mode owner meta", "Takes a lock and prints its lock_id and fencing token.",
     "synaxis lock acquire orders --ttl 1m --wait 10s\nsynaxis lock acquire orders --mode shared --json"},
    {"lock release", cmd_lock_release, "NAME LOCK_ID", 2, 2, false, "", "Releases a lock by its lock_id or token.", "synaxis lock release orders 4711"},
    {"lock renew", cmd_lock_renew, "NAME LOCK_ID", 2, 2, false, "ttl", "Gives a held lock a new time to live.",
     "synaxis lock renew orders 4711 --ttl 1m"},
    {"lock check", cmd_lock_check, "NAME TOKEN", 2, 2, false, "", "Exit code 0 when no newer fencing token was granted, else 1.",
     "synaxis lock check orders $SYNAXIS_TOKEN"},
    {"lock info", cmd_lock_info, "NAME", 1, 1, false, "", "Shows holders, waiters and the newest token of a lock.", "synaxis lock info orders"},
    {"lock list", cmd_lock_list, "", 0, 0, false, "match", "Lists locks that are held or waited for.", "synaxis lock list --match 'orders*'"},
    {"lock graph", cmd_lock_graph, "", 0, 0, false, "dot", "Shows who waits for whom.", "synaxis lock graph --dot | dot -Tsvg >waits.svg"},
    {"lock force", cmd_lock_force, "NAME", 1, 1, false, "reason", "Takes a lock away from its holders; the reason is logged.",
     "synaxis lock force orders --reason 'holder is gone, ticket 12'"},
    {"session create", cmd_session_create, "", 0, 0, false, "ttl name", "Begins a session and prints its id.", "synaxis session create --ttl 30s"},
    {"session keepalive", cmd_session_keepalive, "SESSION", 1, 1, false, "", "Renews a session.", "synaxis session keepalive 42"},
    {"session end", cmd_session_end, "SESSION", 1, 1, false, "", "Ends a session and frees all it holds.", "synaxis session end 42"},
    {"session list", cmd_session_list, "", 0, 0, false, "", "Lists the sessions.", "synaxis session list"},
    {"queue create", cmd_queue_create, "TOPIC", 1, 1, false, "partitions ordered " TOPIC_SETTINGS, "Makes a topic; again with the same settings is no error.",
     "synaxis queue create orders --partitions 6 --max-deliver 5 --visibility 30s\nsynaxis queue create audit --retention 1073741824"},
    {"queue alter", cmd_queue_alter, "TOPIC", 1, 1, false, TOPIC_SETTINGS, "Changes the settings that are given, and no others.",
     "synaxis queue alter orders --visibility 1m"},
    {"queue delete", cmd_queue_delete, "TOPIC", 1, 1, false, "", "Deletes a topic and all its messages.", "synaxis queue delete orders"},
    {"queue list", cmd_queue_list, "", 0, 0, false, "", "Lists the topics.", "synaxis queue list"},
    {"queue publish", cmd_queue_publish, "TOPIC [PAYLOAD]", 1, 2, false, "key key-sep id id-prefix delay header file quiet",
     "Publishes one message, or each line of standard input or a file. A lost answer is asked for again under the message's id: nothing is published twice.",
     "synaxis queue publish orders 'one message' --key alice\nsynaxis queue publish orders --key-sep , <orders.csv\n"
     "synaxis queue publish orders -f orders.txt --id-prefix import7-   # safe to run again"},
    {"queue consume", cmd_queue_consume, "TOPIC", 1, 1, false, "group consumer count block visibility no-ack quiet",
     "Writes a consumer group's messages to standard output, a line each; acknowledges a line after it was written.",
     "synaxis queue consume orders --group billing | ./bill\nsynaxis queue consume orders --group billing --block 0 --json   # what is there now"},
    {"queue tail", cmd_queue_tail, "TOPIC", 1, 1, false, "follow count interval",
     "Shows the last messages of each partition without consuming them. With --follow it asks for new ones every --interval, since a waiting\n"
     "consumer group would keep messages, or let them go.",
     "synaxis queue tail orders\nsynaxis queue tail orders -f --count 1 --json"},
    {"queue groups", cmd_queue_groups, "TOPIC", 1, 1, false, "", "Lists the consumer groups of a topic.", "synaxis queue groups orders"},
    {"queue lag", cmd_queue_lag, "TOPIC", 1, 1, false, "group", "Shows how far a consumer group is behind.", "synaxis queue lag orders --group billing"},
    {"queue info", cmd_queue_info, "TOPIC", 1, 1, false, "", "Shows a topic's settings and partitions.", "synaxis queue info orders"},
    {"queue peek", cmd_queue_peek, "TOPIC PARTITION OFFSET", 3, 3, false, "count", "Shows messages where they lie.",
     "synaxis queue peek orders 0 4711 --count 3"},
    {"queue seek", cmd_queue_seek, "TOPIC OFFSET|TIME|BEGIN|END", 2, 2, false, "group", "Moves a consumer group to another place.",
     "synaxis queue seek orders BEGIN --group billing"},
    {"queue dlq", cmd_queue_dlq, "TOPIC", 1, 1, false, "group count", "Lists a consumer group's dead messages, with the reason.",
     "synaxis queue dlq orders --group billing"},
    {"queue redrive", cmd_queue_redrive, "TOPIC", 1, 1, false, "group count", "Lets dead messages be delivered again; prints how many.",
     "synaxis queue redrive orders --group billing --count 100"},
    {"queue forget", cmd_queue_forget, "TOPIC", 1, 1, false, "group",
     "Forgets a consumer group that has no members: its position, and what was kept for it only.", "synaxis queue forget orders --group billing"},
    {"cache get", cmd_cache_get, "KEY", 1, 1, false, "", "Writes a key's value; exit code 6 when there is no such key. With --json also its version and the line's state.",
     "synaxis cache get price:7\nsynaxis cache get logo >logo.png"},
    {"cache set", cmd_cache_set, "KEY VALUE|-", 2, 2, false, "ttl nx xx", "Sets a key to a value, or to all of standard input (-).",
     "synaxis cache set price:7 12.50 --ttl 10m\nsynaxis cache set logo - <logo.png\nsynaxis cache set leader $HOSTNAME --nx --ttl 30s"},
    {"cache del", cmd_cache_del, "KEY...", 1, KEYS_MAX, false, "", "Deletes keys; prints how many there were.", "synaxis cache del price:7 price:8"},
    {"cache state", cmd_cache_state, "KEY", 1, 1, false, "", "Shows a key's home and epoch, and the state and version of its line on every node.",
     "synaxis cache state price:7"},
    {"cache stats", cmd_cache_stats, "", 0, 0, false, "", "Shows what one node's lines, homes and memory have counted.",
     "synaxis cache stats --nodes 127.0.0.1:7379\nsynaxis cache stats --json | jq '.hits / (.hits + .misses)'"},
    {"cache invalidate", cmd_cache_invalidate, "KEY", 1, 1, false, "",
     "Drops the copies of a key on all nodes; prints how many there were. The value stays in memory.", "synaxis cache invalidate price:7"},
    {"bench lock", cmd_bench_lock, "", 0, 0, false,
     "target connections seconds warmup resources pipeline rate server-pids gaps kill-from-stdin hold ttl quiet",
     "Measures acquire and release pairs, as fast as they go or at a given rate.",
     "synaxis bench lock -c 64 -s 10\nsynaxis bench lock -c 64 --rate 5000 --json\nsynaxis bench lock --target redis --nodes 127.0.0.1:6379"},
    {"bench queue", cmd_bench_queue, "[publish|consume|latency]", 0, 1, false,
     "connections seconds warmup pipeline batch bytes partitions rate fill count consumers name server-pids kill-from-stdin quiet",
     "Measures publishing, consuming with acknowledgements, or the time from publish to delivery, on a topic of its own (or --name's).",
     "synaxis bench queue -c 64 -s 10\nsynaxis bench queue publish -c 4 -P 16 --batch 64 --partitions 6\n"
     "synaxis bench queue consume --fill 100000 --count 256\nsynaxis bench queue latency --rate 1000 --json"},
    {"bench cache", cmd_bench_cache, "[get|set|mixed]", 0, 1, false,
     "connections seconds warmup pipeline keys zipf reads bytes preload rate name server-pids kill-from-stdin quiet",
     "Measures GET and SET of keys, as fast as they go or at a given rate, at every node of --nodes in turn; any server that speaks RESP will do.",
     "synaxis bench cache -c 50 -P 16 --preload\nsynaxis bench cache mixed --reads 95 --zipf 0.99 --keys 1000000 --preload\n"
     "synaxis bench cache set --rate 20000 --json"},
    {"healthcheck", cmd_healthcheck, "", 0, 0, false, "http", "Exit code 0 when the node on this machine is ready to serve.",
     "synaxis healthcheck"},
    {"completion", cmd_completion, "bash", 0, 1, false, "", "Prints a completion script for the shell.",
     "synaxis completion bash >/etc/bash_completion.d/synaxis"},
    {"version", cmd_version, "", 0, 0, false, "", "Prints the version.", "synaxis version"},
    {"help", cmd_help, "[COMMAND...]", 0, 2, false, "", "Prints help.", "synaxis help lock run"},
};
const uint32_t CLI_COMMAND_COUNT = sizeof CLI_COMMANDS / sizeof CLI_COMMANDS[0];

static void print_overview(FILE *f)
{
    fputs("synaxis: locks that are really exclusive, queues that lose nothing, a cache that is never stale\n\n"
          "  synaxis lock run nightly -- ./backup.sh     hold a lock while a command runs\n"
          "  synaxis queue consume orders -g billing     messages as lines, acknowledged when written\n"
          "  synaxis cache state price:7                 who has a copy of a key, and in which state\n"
          "  synaxis status                              who leads, who lags\n\n"
          "Commands:\n",
          f);
    fprintf(f, "  %-18s %s\n", "server", "Runs a node; settings come from the environment or flags (server --help).");
    for (uint32_t i = 0; i < CLI_COMMAND_COUNT; i++) {
        fprintf(f, "  %-18s %s\n", CLI_COMMANDS[i].path, CLI_COMMANDS[i].summary);
    }
    fprintf(f, "  %-18s %s\n", "sim", "Runs the simulator: one seed, one history (sim --help).");
    fputs("\nEvery command has --help. Nodes: --nodes, SYNAXIS_NODES, RESP_PORT, else 127.0.0.1:7379,7389,7399.\n"
          "Exit codes: 0 done, 1 not done, 2 usage, 3 no quorum, 4 lock not acquired, 5 lock lost, 6 no such key,\n"
          "124 no answer in time.\n",
          f);
}

static void print_indented(FILE *f, const char *lines)
{
    while (*lines != '\0') {
        size_t n = strcspn(lines, "\n");
        fprintf(f, "  %.*s\n", (int)n, lines);
        lines += n + (lines[n] == '\n');
    }
}

static void print_command_help(FILE *f, const struct cli_command *command)
{
    print_indented(f, command->examples);
    fprintf(f, "\n%s\n\nusage: synaxis %s [options] %s\n\noptions:\n", command->summary, command->path, command->operands);
    for (uint32_t i = 0; i < CLI_OPTION_COUNT; i++) {
        const struct cli_option *o = &CLI_OPTIONS[i];
        if (cli_takes(command, o)) {
            char left[64];
            snprintf(left, sizeof left, "%s%c%s--%s%s%s", o->letter ? "-" : "", o->letter ? o->letter : ' ', o->letter ? ", " : "   ", o->name,
                     o->argument ? " " : "", o->argument ? o->argument : "");
            fprintf(f, "  %-28s %s\n", left, o->help);
        }
    }
}

/* Prints help for the first word or two; for one word with several commands (lock), all of them. */
static int print_help_for(struct cli *c, char **words, int n)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < CLI_COMMAND_COUNT && n > 0; i++) {
        const char *path = CLI_COMMANDS[i].path;
        size_t first = strcspn(path, " ");
        bool same = strlen(words[0]) == first && strncmp(words[0], path, first) == 0;
        if (same && (n < 2 || path[first] == '\0' || strcmp(words[1], path + first + 1) == 0)) {
            fputs(found++ ? "\n\n" : "", c->out);
            print_command_help(c->out, &CLI_COMMANDS[i]);
        }
    }
    if (n == 0) {
        print_overview(c->out);
    } else if (found == 0) {
        fprintf(c->err, "synaxis: no help for '%s'; synaxis help lists the commands\n", words[0]);
    }
    return n == 0 || found > 0 ? CLI_OK : CLI_USAGE;
}

int cmd_help(struct cli *c)
{
    return print_help_for(c, c->argv, c->argc);
}

int cmd_version(struct cli *c)
{
    fprintf(c->out, c->opt.json ? "{\"version\":\"%s\"}\n" : "synaxis %s\n", SYNAXIS_VERSION);
    return CLI_OK;
}

/* The second words of commands that begin with `first`, or all first words when it is NULL; space separated, each once. */
static void print_words(FILE *f, const char *first)
{
    const char *last = "";
    for (uint32_t i = 0; i < CLI_COMMAND_COUNT; i++) {
        const char *path = CLI_COMMANDS[i].path;
        size_t n = strcspn(path, " ");
        if (first == NULL && strncmp(last, path, n + 1) != 0 && (strncmp(last, path, n) != 0 || last[n] != ' ')) {
            fprintf(f, "%.*s ", (int)n, path);
        } else if (first != NULL && strncmp(first, path, n) == 0 && first[n] == '\0' && path[n] == ' ') {
            fprintf(f, "%s ", path + n + 1);
        }
        last = path;
    }
}

int cmd_completion(struct cli *c)
{
    if (c->argc > 0 && strcmp(c->argv[0], "bash") != 0) {
        fprintf(c->err, "synaxis: completion: only bash is known\n");
        return CLI_USAGE;
    }
    fputs("# bash completion for synaxis; printed by: synaxis completion bash\n_synaxis() {\n"
          "    local word=${COMP_WORDS[COMP_CWORD]} command=\"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" list=\n"
          "    if [ \"$COMP_CWORD\" = 1 ]; then\n        list=\"server sim ",
          c->out);
    print_words(c->out, NULL);
    fputs("\"\n    else\n        case \"$command\" in\n", c->out);
    for (uint32_t i = 0; i < CLI_COMMAND_COUNT; i++) {
        const struct cli_command *command = &CLI_COMMANDS[i];
        fprintf(c->out, "        \"%s\"%s) list=\"", command->path, strchr(command->path, ' ') ? "" : "*");
        for (uint32_t k = 0; k < CLI_OPTION_COUNT; k++) {
            if (cli_takes(command, &CLI_OPTIONS[k])) {
                fprintf(c->out, "--%s ", CLI_OPTIONS[k].name);
            }
        }
        fputs("\" ;;\n", c->out);
    }
    static const char *const parents[] = {"lock", "session", "queue", "cache", "bench"};
    for (uint32_t i = 0; i < sizeof parents / sizeof parents[0]; i++) {
        fprintf(c->out, "        \"%s \"*) list=\"", parents[i]);
        print_words(c->out, parents[i]);
        fputs("\" ;;\n", c->out);
    }
    fputs("        esac\n    fi\n    mapfile -t COMPREPLY < <(compgen -W \"$list\" -- \"$word\")\n}\n"
          "complete -o default -F _synaxis synaxis\n",
          c->out);
    return CLI_OK;
}

/* The command that words begin with, *used of them its path. */
static const struct cli_command *find_command(int n, char **words, int *used)
{
    for (uint32_t i = 0; i < CLI_COMMAND_COUNT; i++) {
        const char *path = CLI_COMMANDS[i].path, *space = strchr(path, ' ');
        size_t first = space != NULL ? (size_t)(space - path) : strlen(path);
        if (strlen(words[0]) != first || strncmp(words[0], path, first) != 0) {
            continue;
        }
        if (space == NULL || (n > 1 && strcmp(words[1], space + 1) == 0)) {
            *used = space == NULL ? 1 : 2;
            return &CLI_COMMANDS[i];
        }
    }
    return NULL;
}

static int unknown_command(struct cli *c, int n, char **words)
{
    const char *paths[64], *near;
    char typed[64];
    syn_assert(CLI_COMMAND_COUNT <= 64);
    for (uint32_t i = 0; i < CLI_COMMAND_COUNT; i++) {
        paths[i] = CLI_COMMANDS[i].path;
    }
    snprintf(typed, sizeof typed, "%s%s%s", words[0], n > 1 && words[1][0] != '-' ? " " : "", n > 1 && words[1][0] != '-' ? words[1] : "");
    near = cli_nearest(typed, paths, CLI_COMMAND_COUNT);
    if (near == NULL) {
        near = cli_nearest(words[0], paths, CLI_COMMAND_COUNT);
    }
    fprintf(c->err, "synaxis: no command '%s'%s%s%s; synaxis help lists them\n", typed, near ? " (did you mean '" : "", near ? near : "",
            near ? "'?)" : "");
    return CLI_USAGE;
}

/* "cache" alone: which of its commands? False: no command begins with that word. */
static bool half_command(struct cli *c, const char *word)
{
    bool found = false;
    size_t len = strlen(word);
    for (uint32_t i = 0; i < CLI_COMMAND_COUNT; i++) {
        const char *path = CLI_COMMANDS[i].path;
        if (strncmp(path, word, len) == 0 && path[len] == ' ') {
            found ? fprintf(c->err, ", %s", path + len + 1) : fprintf(c->err, "synaxis: %s: which of its commands? %s", word, path + len + 1);
            found = true;
        }
    }
    if (found) {
        fprintf(c->err, "; see synaxis %s --help\n", word);
    }
    return found;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

int cli_dispatch(struct cli *c, int n, char **words)
{
    int used = 0;
    if (n == 0 || is_help(words[0])) {
        print_overview(n == 0 ? c->err : c->out);
        return n == 0 ? CLI_USAGE : CLI_OK;
    }
    if (strcmp(words[0], "--version") == 0 || strcmp(words[0], "-V") == 0) {
        return cmd_version(c);
    }
    c->command = find_command(n, words, &used);
    if (c->command == NULL && n == 1 && half_command(c, words[0])) {
        return CLI_USAGE;
    }
    if (c->command == NULL) {
        bool family = n == 2 && is_help(words[1]);
        return family ? print_help_for(c, words, 1) : unknown_command(c, n, words);
    }
    if (!cli_parse(c, n - used, words + used)) {
        return CLI_USAGE;
    }
    if (c->opt.help) {
        print_command_help(c->out, c->command);
        return CLI_OK;
    }
    return c->command->run(c);
}

int cli_main(int argc, char **argv)
{
    const char *no_color = getenv("NO_COLOR");
    struct cli c = {.out = stdout, .err = stderr};
    c.color = isatty(STDOUT_FILENO) && (no_color == NULL || no_color[0] == '\0');
    cli_options_init(&c.opt);
    int code = cli_dispatch(&c, argc - 1, argv + 1);
    return fflush(stdout) != 0 && code == CLI_OK ? CLI_FAILED : code;
}
