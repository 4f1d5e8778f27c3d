/* Commands that look at values: OBJECT, MEMORY USAGE, and LCS, which looks at two, each by itself as MGET does. */
#include "nodes/doors/cache_door.h"
#include "nodes/doors/cmd.h"

#include "communication/resp.h"

#include <stdio.h>

static void help(struct call *c, const char *name, const char *const *lines, uint32_t n)
{
    char first[128];
    snprintf(first, sizeof first, "%s <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", name);
    resp_array(c->reply, n + 3);
    resp_simple(c->reply, first);
    for (uint32_t i = 0; i < n; i++) {
        resp_simple(c->reply, lines[i]);
    }
    resp_simple(c->reply, "HELP");
    resp_simple(c->reply, "    Prints this help.");
}

static void object_help(struct call *c)
{
    static const char *const lines[] = {
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
    };
    if (c->argc == 2) {
        help(c, "OBJECT", lines, sizeof lines / sizeof lines[0]);
    } else {
        call_error(c, "ERR", "wrong number of arguments for 'object|help' command");
    }
}

/* The seconds are this node's: they are known here, and go with the op, which knows whether there is such a key. */
static void object_idletime(struct call *c)
{
    char idle[16];
    int n = snprintf(idle, sizeof idle, "%u", cacher_idle_s(c->n->cache.cacher, cache_group(c->n, c->argv[2]), c->argv[2]));
    const slice_t argv[] = {c->argv[0], c->argv[1], c->argv[2], slice_of(idle, (size_t)n)};
    cache_submit(c, argv, 4, NULL, 0);
}

void handle_cache_object(struct call *c)
{
    bool idle = slice_ieq(c->argv[1], "IDLETIME");
    if (slice_ieq(c->argv[1], "HELP")) {
        object_help(c);
    } else if (idle && c->argc != 3) {
        call_error(c, "ERR", "wrong number of arguments for 'object|idletime' command");
    } else if (c->argc < 3 || cache_key_ok(c, c->argv[2])) { /* of too few words, what is missing is said there */
        idle ? object_idletime(c) : cache_submit(c, c->argv, c->argc, NULL, 0);
    }
}

void handle_memory(struct call *c)
{
    static const char *const lines[] = {
        "DOCTOR",
        "    Return memory problems reports.",
        "PURGE",
        "    Attempt to purge dirty pages for reclamation by the allocator.",
        "USAGE <key> [SAMPLES <count>]",
        "    Return memory in bytes used by <key> and its value. Nested values are",
        "    sampled up to <count> times (default: 5, 0 means sample all).",
    };
    if (slice_ieq(c->argv[1], "DOCTOR") && c->argc == 2) {
        resp_bulk_str(c->reply, "Nothing to report.");
    } else if (slice_ieq(c->argv[1], "PURGE") && c->argc == 2) {
        resp_simple(c->reply, "OK"); /* the allocator gives back by itself */
    } else if (slice_ieq(c->argv[1], "HELP") && c->argc == 2) {
        help(c, "MEMORY", lines, sizeof lines / sizeof lines[0]);
    } else if (c->argc < 3 || cache_key_ok(c, c->argv[2])) {
        cache_submit(c, c->argv, c->argc, NULL, 0);
    }
}

void handle_cache_lcs(struct call *c)
{
    struct lcs_options o;
    if (!cache_key_ok(c, c->argv[1]) || !cache_key_ok(c, c->argv[2]) || !lcs_options_of(c->argv + 3, c->argc - 3, &o, c->reply)) {
        return;
    }
    struct cache_join *j = cache_join_new(c, JOIN_LCS, 2);
    j->lcs = o;
    for (uint32_t i = 0; i < 2; i++) {
        const slice_t argv[] = {SLICE_LIT("GET"), c->argv[i + 1]};
        cache_submit(c, argv, 2, j, i);
    }
}
