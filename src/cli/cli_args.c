/* The option table, reading options, and finding what a misspelt word was meant to be.
 *
 * Not here: which commands exist (cli.c). Options may stand before, between and behind operands and end at "--"; for a command
 * that runs another program they end at the second operand, so that the program's own options stay its own. */
#include "cli/cli_args.h"

#include "utils/assert.h"
#include "utils/limits.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct cli_options, field)
const struct cli_option CLI_OPTIONS[] = {
    {"nodes", 'n', OPT_TEXT, AT(nodes), 0, 0, "HOST:PORT,...", "RESP addresses to try in turn (SYNAXIS_NODES)"},
    {"password", 'a', OPT_TEXT, AT(password), 0, 0, "PASSWORD", "authenticate (better: SYNAXIS_PASSWORD, which ps does not show)"},
    {"timeout", 't', OPT_DURATION, AT(timeout_ms), 1, 3600000, "TIME", "give up on an answer after this long (default 5s)"},
    {"json", 0, OPT_FLAG, AT(json), 0, 0, NULL, "print JSON"},
    {"help", 'h', OPT_FLAG, AT(help), 0, 0, NULL, "print this help"},
    {"watch", 'w', OPT_FLAG, AT(watch), 0, 0, NULL, "print again and again until interrupted"},
    {"interval", 0, OPT_DURATION, AT(interval_ms), 50, 3600000, "TIME", "between two prints of --watch (default 1s)"},
    {"ttl", 0, OPT_DURATION, AT(ttl_ms), LIMIT_TTL_MS_MIN, LIMIT_EXPIRY_MS, "TIME", "time to live of the lock, session or key"},
    {"wait", 0, OPT_DURATION, AT(wait_ms), 0, LIMIT_TTL_MS, "TIME", "wait this long for the lock"},
    {"mode", 0, OPT_TEXT, AT(mode), 0, 0, "MODE", "exclusive (default) or shared"},
    {"owner", 0, OPT_TEXT, AT(owner), 0, 0, "ID", "owner of the lock (default: this process)"},
    {"meta", 0, OPT_TEXT, AT(meta), 0, 0, "TEXT", "text kept with the lock for others to read"},
    {"kill", 0, OPT_FLAG, AT(kill), 0, 0, NULL, "when the lock is lost: TERM, then KILL (default)"},
    {"warn", 0, OPT_FLAG, AT(warn), 0, 0, NULL, "when the lock is lost: say so and let the command go on"},
    {"grace", 0, OPT_DURATION, AT(grace_ms), 0, 3600000, "TIME", "between TERM and KILL (default 5s)"},
    {"quiet", 'q', OPT_FLAG, AT(quiet), 0, 0, NULL, "say nothing on stderr but errors"},
    {"match", 0, OPT_TEXT, AT(match), 0, 0, "PATTERN", "only names that match, as in 'orders*'"},
    {"dot", 0, OPT_FLAG, AT(dot), 0, 0, NULL, "print the graph for Graphviz"},
    {"name", 0, OPT_TEXT, AT(name), 0, 0, "TEXT", "name of the session, for lists; of the topic to use, which exists; the front of all keys"},
    {"reason", 0, OPT_TEXT, AT(reason), 0, 0, "TEXT", "why; it is kept in the log"},
    {"http", 0, OPT_TEXT, AT(http), 0, 0, "HOST:PORT", "HTTP address of the node (default 127.0.0.1:NODE_PORT)"},
    {"target", 0, OPT_TEXT, AT(target), 0, 0, "KIND", "synaxis (default) or redis: SET NX PX and DEL"},
    {"seconds", 's', OPT_NUMBER, AT(seconds), 1, 86400, "N", "measured time (default 10)"},
    {"warmup", 0, OPT_NUMBER, AT(warmup_s), 0, 3600, "N", "seconds before measuring (default 2, at most --seconds)"},
    {"connections", 'c', OPT_NUMBER, AT(connections), 1, 10000, "N", "connections, over all nodes in turn (default 64)"},
    {"resources", 0, OPT_NUMBER, AT(resources), 1, 1000000, "N", "distinct locks that each lane takes in turn (default 1)"},
    {"pipeline", 'P', OPT_NUMBER, AT(pipeline), 1, 1000, "N", "lanes per connection: what it has in flight (default 1)"},
    {"rate", 'r', OPT_NUMBER, AT(rate), 1, 10000000, "N", "open loop: N pairs, messages or operations a second, latency from the scheduled time"},
    {"server-pids", 0, OPT_TEXT, AT(server_pids), 0, 0, "PID,...", "report these processes' CPU time per operation or message"},
    {"gaps", 0, OPT_DURATION, AT(gaps_ms), 1, 60000, "TIME", "list every time without any grant that was longer than this"},
    {"kill-from-stdin", 0, OPT_FLAG, AT(kill_from_stdin), 0, 0, NULL, "kill -9 the process id read from stdin; report the time to the next success"},
    {"hold", 0, OPT_NUMBER, AT(hold), 1, 100000000, "N", "acquire N distinct locks once, release none, and end"},
    {"partitions", 0, OPT_NUMBER, AT(partitions), 1, 65536, "N", "partitions of the topic, for ever"},
    {"replicas", 0, OPT_NUMBER, AT(replicas), 1, 15, "N", "nodes that hold each message"},
    {"max-deliver", 0, OPT_NUMBER, AT(max_deliver), 0, UINT32_MAX, "N", "deliveries after which a message is dead (0: no limit)"},
    {"visibility", 0, OPT_DURATION, AT(visibility_ms), 1, 86400000, "TIME", "an unacknowledged message is delivered again after this long"},
    {"retention", 0, OPT_NUMBER, AT(retention), 0, INT64_MAX, "BYTES", "keep this much of each partition, consumed or not (0: until consumed)"},
    {"max-age", 0, OPT_DURATION, AT(max_age_ms), 0, INT64_MAX, "TIME", "keep messages this long, consumed or not (0: until consumed)"},
    {"backoff", 0, OPT_DURATION, AT(backoff_ms), 0, 86400000, "TIME", "pause before the second delivery; doubles with each"},
    {"backoff-max", 0, OPT_DURATION, AT(backoff_max_ms), 0, 86400000, "TIME", "longest pause between deliveries"},
    {"ordered", 0, OPT_TEXT, AT(ordered), 0, 0, "key|none", "key: a message waits for earlier ones of its key to be acknowledged"},
    {"group", 'g', OPT_TEXT, AT(group), 0, 0, "NAME", "consumer group"},
    {"consumer", 0, OPT_TEXT, AT(consumer), 0, 0, "NAME", "name of this consumer in its group (default: this process)"},
    {"count", 0, OPT_NUMBER, AT(count), 1, UINT32_MAX, "N", "at most this many messages"},
    {"block", 0, OPT_DURATION, AT(block_ms), 0, 86400000, "TIME", "end when nothing came for this long (default: go on until interrupted)"},
    {"no-ack", 0, OPT_FLAG, AT(no_ack), 0, 0, NULL, "do not acknowledge: the messages are delivered again"},
    {"key", 'k', OPT_TEXT, AT(key), 0, 0, "KEY", "key of every message; messages of one key go to one partition"},
    {"key-sep", 0, OPT_TEXT, AT(key_sep), 0, 0, "TEXT", "each line is KEY, this text, PAYLOAD"},
    {"id", 0, OPT_TEXT, AT(id), 0, 0, "ID", "the message's id: published again under it, it is the same message"},
    {"id-prefix", 0, OPT_TEXT, AT(id_prefix), 0, 0, "TEXT", "line n has the id TEXTn: the same input again publishes nothing twice"},
    {"delay", 0, OPT_DURATION, AT(delay_ms), 0, INT64_MAX, "TIME", "deliver no earlier than this"},
    {"header", 'H', OPT_LIST, AT(headers), 0, 0, "NAME=VALUE", "header of every message; may be given again"},
    {"file", 'f', OPT_TEXT, AT(file), 0, 0, "FILE", "read lines from FILE instead of standard input"},
    {"follow", 'f', OPT_FLAG, AT(follow), 0, 0, NULL, "go on with what is published from now on, until interrupted"},
    {"batch", 'B', OPT_NUMBER, AT(batch), 1, 10000, "N", "messages in one QUEUE.PUBLISHBATCH (default: one in a QUEUE.PUBLISH)"},
    {"bytes", 0, OPT_NUMBER, AT(bytes), 16, 65536, "N", "bytes of each payload or value (default 128)"},
    {"fill", 0, OPT_NUMBER, AT(fill), 1, 100000000, "N", "consume: messages published before the clock starts (default 100000)"},
    {"nx", 0, OPT_FLAG, AT(nx), 0, 0, NULL, "only when there is no such key; else exit code 1"},
    {"xx", 0, OPT_FLAG, AT(xx), 0, 0, NULL, "only when there is such a key; else exit code 1"},
    {"keys", 0, OPT_NUMBER, AT(keys), 1, 10000000, "N", "keys that are read and written (default 10000)"},
    {"reads", 0, OPT_NUMBER, AT(reads), 0, 100, "N", "mixed: of a hundred operations so many are reads (default 90)"},
    {"zipf", 0, OPT_TEXT, AT(zipf), 0, 0, "EXPONENT", "choose keys by Zipf's law, as in 0.99 (default 0: all alike)"},
    {"preload", 0, OPT_FLAG, AT(preload), 0, 0, NULL, "set every key once before the clock starts"},
    {"consumers", 0, OPT_NUMBER, AT(consumers), 1, 1000, "N", "consumers of one group (default 1)"},
};
const uint32_t CLI_OPTION_COUNT = sizeof CLI_OPTIONS / sizeof CLI_OPTIONS[0];

static bool word_in(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)) != NULL; p += n) {
        if ((p == list || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0')) {
            return true;
        }
    }
    return false;
}

bool cli_takes(const struct cli_command *command, const struct cli_option *option)
{
    return word_in("nodes password timeout json help", option->name) || word_in(command->options, option->name);
}

void cli_options_init(struct cli_options *o)
{
    *o = (struct cli_options){
        .timeout_ms = 5000,
        .ttl_ms = 30000,
        .grace_ms = 5000,
        .interval_ms = 1000,
        .mode = "exclusive",
        .target = "synaxis",
        .seconds = 10,
        .warmup_s = UINT64_MAX,
        .connections = 64,
        .resources = 1,
        .pipeline = 1,
        .partitions = CLI_UNSET,
        .replicas = CLI_UNSET,
        .max_deliver = CLI_UNSET,
        .visibility_ms = CLI_UNSET,
        .retention = CLI_UNSET,
        .max_age_ms = CLI_UNSET,
        .backoff_ms = CLI_UNSET,
        .backoff_max_ms = CLI_UNSET,
        .delay_ms = CLI_UNSET,
        .block_ms = CLI_UNSET,
        .count = CLI_UNSET,
        .batch = 1,
        .bytes = 128,
        .fill = 100000,
        .consumers = 1,
        .keys = 10000,
        .reads = CLI_UNSET,
    };
}

bool cli_duration(const char *text, uint64_t *ms)
{
    static const struct { const char *unit; uint64_t ms; } units[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (end == text || errno != 0 || text[0] < '0' || text[0] > '9') {
        return false;
    }
    for (uint32_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(end, units[i].unit) == 0 && v <= UINT64_MAX / units[i].ms) {
            *ms = v * units[i].ms;
            return true;
        }
    }
    return false;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Edit distance with one row (Wagner and Fischer 1974); words beyond 31 characters are nobody's typing error. */
static uint32_t distance(const char *a, const char *b)
{
    uint32_t row[32], n = (uint32_t)strlen(b);
    if (n > 31) {
        return UINT32_MAX;
    }
    for (uint32_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (uint32_t i = 1; a[i - 1] != '\0'; i++) {
        uint32_t diagonal = row[0];
        row[0] = i;
        for (uint32_t j = 1; j <= n; j++) {
            uint32_t above = row[j];
            row[j] = smaller(smaller(above, row[j - 1]) + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[n];
}

const char *cli_nearest(const char *word, const char *const *words, uint32_t count)
{
    const char *best = NULL;
    uint32_t best_distance = (uint32_t)(strlen(word) / 3 + 2);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t d = distance(word, words[i]);
        if (d < best_distance) {
            best = words[i];
            best_distance = d;
        }
    }
    return best;
}

static const struct cli_option *find_option(const struct cli_command *command, const char *name, size_t len, char letter)
{
    for (uint32_t i = 0; i < CLI_OPTION_COUNT; i++) {
        const struct cli_option *o = &CLI_OPTIONS[i];
        bool same = name != NULL ? strlen(o->name) == len && memcmp(o->name, name, len) == 0 : o->letter == letter && letter != 0;
        if (same && cli_takes(command, o)) {
            return o;
        }
    }
    return NULL;
}

static void say_unknown(struct cli *c, const char *word)
{
    const char *names[128];
    uint32_t n = 0;
    syn_assert(CLI_OPTION_COUNT <= 128);
    for (uint32_t i = 0; i < CLI_OPTION_COUNT; i++) {
        if (cli_takes(c->command, &CLI_OPTIONS[i])) {
            names[n++] = CLI_OPTIONS[i].name;
        }
    }
    const char *near = word[1] == '-' ? cli_nearest(word + 2, names, n) : NULL;
    fprintf(c->err, "synaxis: %s takes no option %s%s%s%s; see synaxis %s --help\n", c->command->path, word, near ? " (did you mean --" : "",
            near ? near : "", near ? "?)" : "", c->command->path);
}

static bool add_to_list(struct cli *c, const struct cli_option *o, struct cli_list *list, const char *value)
{
    if (list->n == CLI_LIST_MAX) {
        fprintf(c->err, "synaxis: --%s: at most %d of them\n", o->name, CLI_LIST_MAX);
        return false;
    }
    list->v[list->n++] = value;
    return true;
}

static bool set_option(struct cli *c, const struct cli_option *o, const char *value)
{
    char *field = (char *)&c->opt + o->offset;
    uint64_t v = 0;
    if (o->kind == OPT_FLAG) {
        *(bool *)(void *)field = true;
        return true;
    }
    if (o->kind == OPT_TEXT) {
        *(const char **)(void *)field = value;
        return true;
    }
    if (o->kind == OPT_LIST) {
        return add_to_list(c, o, (struct cli_list *)(void *)field, value);
    }
    char *end;
    errno = 0;
    bool ok = o->kind == OPT_DURATION ? cli_duration(value, &v)
                                      : (v = strtoull(value, &end, 10), end != value && *end == '\0' && errno == 0 && value[0] != '-');
    if (!ok || v < o->min || v > o->max) {
        fprintf(c->err, "synaxis: --%s %s: want a %s from %llu to %llu%s\n", o->name, value, o->kind == OPT_DURATION ? "time" : "number",
                (unsigned long long)o->min, (unsigned long long)o->max, o->kind == OPT_DURATION ? " ms, as in 500, 500ms, 10s, 5m" : "");
        return false;
    }
    *(uint64_t *)(void *)field = v;
    c->opt.wait_given |= o->offset == AT(wait_ms);
    c->opt.ttl_given |= o->offset == AT(ttl_ms);
    return true;
}

/* Reads the option at words[*i], and its value from the same or the next word. */
static bool read_option(struct cli *c, int n, char **words, int *i)
{
    const char *word = words[*i], *value = NULL;
    const struct cli_option *o;
    if (word[1] == '-') {
        const char *equals = strchr(word, '=');
        o = find_option(c->command, word + 2, equals ? (size_t)(equals - word - 2) : strlen(word + 2), 0);
        value = equals ? equals + 1 : NULL;
    } else {
        o = find_option(c->command, NULL, 0, word[1]);
        value = word[2] != '\0' ? word + 2 : NULL;
    }
    if (o == NULL) {
        say_unknown(c, word);
        return false;
    }
    if (o->kind == OPT_FLAG ? value != NULL : value == NULL && *i + 1 >= n) {
        fprintf(c->err, "synaxis: --%s %s\n", o->name, o->kind == OPT_FLAG ? "takes no value" : "needs a value");
        return false;
    }
    return set_option(c, o, value != NULL || o->kind == OPT_FLAG ? value : words[++*i]);
}

static bool count_operands(struct cli *c)
{
    if (c->opt.help || (c->argc >= c->command->operands_min && c->argc <= c->command->operands_max)) {
        return true;
    }
    fprintf(c->err, "synaxis: %s: %s operands\n  usage: synaxis %s [options] %s\n", c->command->path,
            c->argc < c->command->operands_min ? "too few" : "too many", c->command->path, c->command->operands);
    return false;
}

bool cli_parse(struct cli *c, int n, char **words)
{
    c->argv = words;
    c->argc = 0;
    bool only_operands = false;
    for (int i = 0; i < n; i++) {
        if (c->command->rest && c->argc == 1 && (words[i][0] != '-' || strcmp(words[i], "--") == 0)) {
            only_operands = true;
            i += strcmp(words[i], "--") == 0;
            if (i == n) {
                break;
            }
        }
        if (only_operands || words[i][0] != '-' || words[i][1] == '\0') {
            words[c->argc++] = words[i];
        } else if (strcmp(words[i], "--") == 0) {
            only_operands = true;
        } else if (!read_option(c, n, words, &i)) {
            return false;
        }
    }
    if (c->argc < n) {
        words[c->argc] = NULL; /* operands moved forward; what stood here is read */
    }
    return count_operands(c);
}
