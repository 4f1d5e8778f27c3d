/* Prints the reference pages that come from tables in the source: settings, metrics, errors, commands. Responsible for their
 * text; the tables are config_table.h, metrics_table.h, errors.h and commands.c. The files in docs/ are what this program
 * prints; a test compares them, and `gen_docs --write DIR` rewrites them.
 *
 * Usage: gen_docs settings|metrics|errors|commands   prints one page
 *        gen_docs --check DIR                   exit code 1 when a page in DIR differs
 *        gen_docs --write DIR                   writes all pages into DIR */
#include "nodes/cache/mesi.h"
#include "nodes/doors/door.h"
#include "utils/buf.h"
#include "utils/config.h"
#include "utils/errors.h"
#include "utils/metrics.h"

#include <errno.h>
#include <stdio.h>

/* A table cell: | would end it. */
static void put_cell(struct buf *out, const char *s)
{
    buf_append_str(out, " ");
    for (; *s != '\0'; s++) {
        buf_append_str(out, *s == '|' ? "\\|" : (char[2]){*s, '\0'});
    }
    buf_append_str(out, " |");
}

static void put_accepts(struct buf *out, const struct setting_info *s)
{
    struct buf text = {0};
    setting_accepts(s, &text);
    buf_put_u8(&text, 0);
    put_cell(out, (const char *)text.ptr);
    buf_fini(&text);
}

static void print_settings(struct buf *out)
{
    buf_append_str(out,
                   "# Settings\n\n"
                   "<!-- Made from src/utils/config_table.h by tools/gen_docs.c; change that and run: gen_docs --write docs -->\n\n"
                   "Each setting `NAME` can be given in four ways; a higher one wins:\n\n"
                   "1. the flag `--name value` (lower case, dashes for underscores);\n"
                   "2. the environment variable `SYNAXIS_NAME`, or else `NAME`;\n"
                   "3. a line `NAME=value` of the file that `--config` or `SYNAXIS_CONFIG` names (`#` begins a comment line);\n"
                   "4. the default.\n\n"
                   "An empty value counts as not set. A value that is not accepted, from any source, stops the start with one "
                   "line that names\nthe setting, the value and what it takes; so does an unknown flag, file line or "
                   "`SYNAXIS_` variable. `synaxis server\n--check-config` checks without starting, `--print-config` shows every "
                   "value and where it came from.\n\n"
                   "Secrets are not taken as flags, where every user of the machine could read them: use the environment, the "
                   "file, or\n`NAME_FILE` (flag `--name-file`), which names a file whose first line is the secret. They are "
                   "shown as `***`.\n\n"
                   "In bash `GROUPS` is a variable of the shell itself and never reaches a program: write `SYNAXIS_GROUPS`.\n\n"
                   "| setting | default | takes | meaning |\n| --- | --- | --- | --- |\n");
    for (int i = 0; i < SETTING_COUNT; i++) {
        const struct setting_info *s = &setting_table[i];
        buf_printf(out, "| `%s`%s |", s->name, s->type == SETTING_TYPE_SECRET ? " (secret)" : "");
        put_cell(out, s->fallback);
        put_accepts(out, s);
        put_cell(out, s->meaning);
        buf_append_str(out, "\n");
    }
    buf_append_str(out,
                   "\n## What must agree\n\n"
                   "The start is refused when\n\n"
                   "- `HEARTBEAT_INTERVAL` is not below `ELECTION_TIMEOUT_MIN`, or that is above `ELECTION_TIMEOUT_MAX`;\n"
                   "- `CONSENSUS_TYPE=pbft` and the number of nodes is not 3f+1 (4, 7, 10, ...);\n"
                   "- `NODE_ID` is not in `CLUSTER_NODES`, or not set while that names several nodes;\n"
                   "- `CLUSTER_NODES` gives a name, an address or a node number twice, or ids to some nodes only;\n"
                   "- two of this node's ports are the same;\n"
                   "- `NODE_HOST` is not a loopback address, unless clients need a password (`REQUIREPASS` or `ACL_FILE`) and "
                   "peers a secret\n  (`PEER_SECRET` or `PEER_KEYS`);\n"
                   "- the majority of `REPLICATION_FACTOR` is smaller than `MIN_QUORUM`;\n"
                   "- `TLS_CERT` and `TLS_KEY` are not set together, or `STATE_STORE=redis` has no `REDIS_URL`.\n\n"
                   "## Node numbers\n\n"
                   "Messages and logs carry a number for each node. A name of letters, dashes and underscores that ends in 1 to "
                   "9999 has that\nnumber (`n1` is 1, `lock-12` is 12); any other name has 10000 + CRC-32C(name) mod 2^31. Two "
                   "names with the same number are\nrefused.\n");
}

static void print_metric(struct buf *out, const struct metric_info *m)
{
    buf_printf(out, "| `%s` | %s |", m->name, m->type);
    put_cell(out, m->labels);
    put_cell(out, m->help);
    buf_append_str(out, "\n");
}

static void print_metrics(struct buf *out)
{
    buf_append_str(out,
                   "# Metrics\n\n"
                   "<!-- Made from src/utils/metrics_table.h by tools/gen_docs.c; change that and run: gen_docs --write docs -->\n\n"
                   "`GET /metrics` on `NODE_PORT` (and on `METRICS_PORT` when set), Prometheus text format 0.0.4. Every `synaxis_` "
                   "sample carries\nthe label `node_id`; the table lists the others. Histograms of seconds have buckets from 100 us "
                   "to 10 s, others powers of two\nup to 32768. Labels take values from fixed sets only: no name that a client "
                   "chose becomes a series.\n\n"
                   "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n"
                   "| `synaxis_build_info` | gauge | version | 1; the version of the program is a label. |\n");
    for (int i = 0; i < METRIC_COUNT; i++) {
        print_metric(out, &metrics_info[i]);
    }
    for (int i = 0; i < METRIC_GROUP_COUNT; i++) {
        print_metric(out, &metrics_group_info[i]);
    }
    buf_append_str(out,
                   "\n`process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_virtual_memory_bytes`, "
                   "`process_open_fds`,\n`process_max_fds` and `process_start_time_seconds` are as Prometheus' own clients have "
                   "them.\n\n"
                   "`status` is `ok`, one of the words of [errors.md](errors.md) in lower case, or `other`; combinations that "
                   "never happened\nare left out.\n\n"
                   "## Reasons of synaxis_refused_total\n\n| reason | what was refused |\n| --- | --- |\n");
    for (int i = 0; i < REFUSED_COUNT; i++) {
        buf_printf(out, "| `%s` |", metrics_reason_info[i].name);
        put_cell(out, metrics_reason_info[i].help);
        buf_append_str(out, "\n");
    }
}

static void print_errors(struct buf *out)
{
    buf_append_str(out,
                   "# Error words\n\n"
                   "<!-- Made from src/utils/errors.h by tools/gen_docs.c; change that and run: gen_docs --write docs -->\n\n"
                   "The first word of a RESP error, and `code` of an HTTP error, is a contract: programs may branch on it. The "
                   "text behind it\nis for people and may change.\n\n"
                   "| word | HTTP | what happened | what to do |\n| --- | --- | --- | --- |\n");
    for (int i = 0; i < ERROR_WORD_COUNT; i++) {
        buf_printf(out, "| `%s` | %d |", error_table[i].word, error_table[i].http_status);
        put_cell(out, error_table[i].what);
        put_cell(out, error_table[i].todo);
        buf_append_str(out, "\n");
    }
}

/* Groups of commands in the order of the page. */
static const struct command_group {
    const char *name, *title, *text;
} command_groups[] = {
    {"lock", "Locks",
     "A resource is any name of 1 to 1024 bytes. What each option means, what is replied and what is refused: "
     "[locks.md](locks.md).\nOptions may come in any order.\n\n"
     "| option | meaning |\n| --- | --- |\n"
     "| `OWNER owner` | who holds it; the same owner may take it again. Without it (and without SESSION and CONNECTION) every "
     "request is an owner of its own |\n"
     "| `SESSION session` | the lock lives as long as that session |\n"
     "| `CONNECTION` | the lock lives as long as this connection |\n"
     "| `TTL milliseconds` | the lock ends that long after it was granted or last renewed; default LOCK_TTL, none with SESSION or "
     "CONNECTION |\n"
     "| `MAXHOLD milliseconds` | the lock ends that long after it was granted, whatever is renewed |\n"
     "| `WAIT milliseconds` | how long to wait in the queue, or `FOREVER`; without it the answer comes at once |\n"
     "| `META bytes` | kept with the lock and shown by LOCK.INFO |\n"
     "| `IDEM id` | asking again with the same id, on any node, is answered as the first time and not done again |\n"},
    {"stream", "Streams", "Redis Streams over topics of one partition. What differs from Redis: [queue.md](queue.md), \"Streams\".\n"},
    {"queue", "Queues", "What a topic, a consumer group and a receipt are, what is promised and what goes when: [queue.md](queue.md). Options may come in any "
     "order behind the fixed arguments.\n"},
    {"string", "Strings", "Values under keys, held coherently on every node: [cache.md](cache.md). As in Redis 7.0 unless that page says otherwise.\n"},
    {"bitmap", "Bits", "Of the same values.\n"},
    {"generic", "Keys", "Of the same values.\n"},
    {"script", "Scripts", "Those that release, extend and take locks in redis-py and redlock, in any spacing; the native commands are DELEX, PEXPIRE with IFEQ, and LOCK.*.\n"},
    {"cache", "The cache itself", "Where lines are, and what they did: [cache.md](cache.md).\n"},
    {"session", "Sessions", "A session is kept alive by its client, and what was taken under it ends with it.\n"},
    {"cluster", "Cluster", ""},
    {"connection", "Connection", "As in Redis.\n"},
    {"server", "Server", "As in Redis, as far as tools and drivers ask.\n"},
};

static void print_command(struct buf *out, const struct command *c)
{
    static const struct {
        uint32_t bit;
        const char *text;
    } notes[] = {{CMD_WRITE, "writes"}, {CMD_READ, "reads"}, {CMD_BLOCKING, "may wait"}, {CMD_ADMIN, "for operators"},
                 {CMD_FAST, "answered by the node itself"}, {CMD_NO_AUTH, "allowed before AUTH"}};
    buf_printf(out, "\n### %s\n\n```\n%s%s%s\n```\n\n%s\n\nSince %s", c->name, c->name, c->syntax[0] ? " " : "", c->syntax,
               c->summary, c->since);
    for (size_t i = 0; i < sizeof notes / sizeof notes[0]; i++) {
        if (c->flags & notes[i].bit) {
            buf_printf(out, "; %s", notes[i].text);
        }
    }
    buf_append_str(out, ".\n");
}

static void print_commands(struct buf *out)
{
    buf_append_str(out,
                   "# Commands\n\n"
                   "<!-- Made from src/nodes/doors/commands.c by tools/gen_docs.c; change that and run: gen_docs --write docs -->\n\n"
                   "These are the commands of RESP_PORT, for any Redis client, in RESP2 or (after `HELLO 3`) RESP3. Every node takes "
                   "every\ncommand. The same table answers `COMMAND DOCS`, which is what redis-cli completes and explains commands "
                   "from. Names and\noption words may be in any case. `<A | B>` is one of them, `[...]` may be left out. The first word "
                   "of an error is one of\n[errors.md](errors.md). The same operations by HTTP are in `GET /openapi.json`.\n");
    uint32_t printed = 0;
    for (size_t g = 0; g < sizeof command_groups / sizeof command_groups[0]; g++) {
        buf_printf(out, "\n## %s\n%s%s", command_groups[g].title, command_groups[g].text[0] ? "\n" : "", command_groups[g].text);
        for (uint32_t i = 0; i < command_count(); i++) {
            if (strcmp(command_at(i)->group, command_groups[g].name) == 0) {
                print_command(out, command_at(i));
                printed++;
            }
        }
    }
    syn_assert(printed == command_count());
}

static void print_cells(struct buf *out, bool line)
{
    uint32_t states = line ? MESI_STATES : HOME_STATES, events = line ? MESI_EVENTS : HOME_EVENTS;
    buf_append_str(out, "\n| in | ");
    for (uint32_t s = 0; s < states; s++) {
        buf_printf(out, "%s | ", line ? MESI_STATE_NAMES[s] : HOME_STATE_NAMES[s]);
    }
    buf_append_str(out, "\n| ---");
    for (uint32_t s = 0; s < states; s++) {
        buf_append_str(out, " | ---");
    }
    buf_append_str(out, " |\n");
    for (uint32_t e = 0; e < events; e++) {
        buf_printf(out, "| %s", line ? MESI_EVENT_NAMES[e] : HOME_EVENT_NAMES[e]);
        for (uint32_t s = 0; s < states; s++) {
            uint8_t next = line ? MESI_TABLE[s][e].next : HOME_TABLE[s][e].next;
            uint32_t actions = line ? MESI_TABLE[s][e].actions : HOME_TABLE[s][e].actions;
            buf_append_str(out, " | ");
            if (next >= CELL_UNREAD) {
                buf_append_str(out, next == CELL_NEVER ? "NEVER" : "unread");
                continue;
            }
            line ? mesi_put_actions(out, actions) : home_put_actions(out, actions);
            buf_printf(out, "%s**%s**", actions != 0 ? " " : "", line ? MESI_STATE_NAMES[next] : HOME_STATE_NAMES[next]);
        }
        buf_append_str(out, " |\n");
    }
}

static void print_cache_states(struct buf *out)
{
    buf_append_str(out, "# States of the cache\n\n"
                        "<!-- Made from src/nodes/cache/mesi_table.c by tools/gen_docs.c; change that and run: gen_docs --write docs -->\n\n"
                        "What each word means: [cache.md](cache.md), and src/nodes/cache/mesi.h. A cell says what is done and, in bold, the state that "
                        "follows.\n\n"
                        "- NEVER: it cannot happen, whatever peers send; the code asserts it.\n"
                        "- unread: such a message may come, as a copy, late, or from a peer that errs. It answers no transaction of this state, or not with what was asked.\n"
                        "  It is left unread before the table is asked; what nobody who keeps to the protocol sends is refused and counted "
                        "(`synaxis_refused_total`). A dirty\n  value in an acknowledgement that nobody waits for is a Flush.\n"
                        "- All other cells: the explorer (tests/cache/test_mesi.c) comes to each of them, or fails.\n\n"
                        "## A line at a node\n");
    print_cells(out, true);
    buf_append_str(out, "\n## A key at its home\n");
    print_cells(out, false);
}

static const struct page {
    const char *name;
    void (*print)(struct buf *out);
} pages[] = {{"settings", print_settings}, {"metrics", print_metrics}, {"errors", print_errors}, {"commands", print_commands},
           {"cache-states", print_cache_states}};

enum { PAGES = sizeof pages / sizeof *pages };

static FILE *open_page(const char *dir, const struct page *p, const char *mode)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.md", dir, p->name);
    FILE *f = fopen(path, mode);
    if (f == NULL) {
        fprintf(stderr, "gen_docs: %s: %s\n", path, strerror(errno));
    }
    return f;
}

static bool write_page(const char *dir, const struct page *p, const struct buf *text)
{
    FILE *f = open_page(dir, p, "w");
    if (f == NULL) {
        return false;
    }
    bool ok = fwrite(text->ptr, 1, text->len, f) == text->len;
    return fclose(f) == 0 && ok;
}

static bool check_page(const char *dir, const struct page *p, const struct buf *text)
{
    FILE *f = open_page(dir, p, "r");
    if (f == NULL) {
        return false;
    }
    bool same = true;
    for (size_t i = 0; same && i < text->len; i++) {
        same = fgetc(f) == text->ptr[i];
    }
    same = same && fgetc(f) == EOF;
    fclose(f);
    if (!same) {
        fprintf(stderr, "%s.md differs from what the source says; run: gen_docs --write docs\n", p->name);
    }
    return same;
}

int main(int argc, char **argv)
{
    bool check = argc == 3 && strcmp(argv[1], "--check") == 0, write = argc == 3 && strcmp(argv[1], "--write") == 0;
    bool ok = true, known = check || write;
    for (int i = 0; i < PAGES; i++) {
        bool print = argc == 2 && strcmp(argv[1], pages[i].name) == 0;
        struct buf text = {0};
        pages[i].print(&text);
        known = known || print;
        if (print) {
            fwrite(text.ptr, 1, text.len, stdout);
        } else if (check) {
            ok = check_page(argv[2], &pages[i], &text) && ok;
        } else if (write) {
            ok = write_page(argv[2], &pages[i], &text) && ok;
        }
        buf_fini(&text);
    }
    if (!known) {
        fprintf(stderr, "usage: gen_docs settings|metrics|errors|commands | --check DIR | --write DIR\n");
        return 2;
    }
    return ok ? 0 : 1;
}
