/* synaxis lock acquire, release, renew, force, check, info, list, graph: one question each.
 *
 * Not here: lock run (lock_run.c). Whatever changes something carries IDEM, so that trying again on the next node does it once. */
#include "cli/cli.h"
#include "cli/cli_ask.h"
#include "cli/cli_output.h"
#include "cli/commands.h"
#include "communication/resp.h"

#include <inttypes.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

const char *lock_mode_word(struct cli *c)
{
    if (strcasecmp(c->opt.mode, "exclusive") == 0) {
        return "EXCLUSIVE";
    }
    if (strcasecmp(c->opt.mode, "shared") == 0) {
        return "SHARED";
    }
    fprintf(c->err, "synaxis: --mode %s: want exclusive or shared\n", c->opt.mode);
    return NULL;
}

int cmd_lock_acquire(struct cli *c)
{
    struct words w = {.n = 0};
    char id[17], owner[128], host[64] = "?";
    const char *mode = lock_mode_word(c);
    if (mode == NULL) {
        return CLI_USAGE;
    }
    gethostname(host, sizeof host - 1);
    cli_random_id(id);
    snprintf(owner, sizeof owner, "cli:%s/%d/%s", host, (int)getpid(), id);
    words_add(&w, "LOCK.ACQUIRE");
    words_add(&w, c->argv[0]);
    words_add(&w, mode);
    words_add(&w, "OWNER");
    words_add(&w, c->opt.owner != NULL ? c->opt.owner : owner);
    words_add(&w, "TTL");
    words_number(&w, c->opt.ttl_ms);
    if (c->opt.wait_ms > 0) {
        words_add(&w, "WAIT");
        words_number(&w, c->opt.wait_ms);
    }
    if (c->opt.meta != NULL) {
        words_add(&w, "META");
        words_add(&w, c->opt.meta);
    }
    words_idem(&w);
    return cli_ask_and_show(c, &w, c->opt.wait_ms);
}

int cmd_lock_release(struct cli *c)
{
    struct words w = {.n = 0};
    words_add(&w, "LOCK.RELEASE");
    words_add(&w, c->argv[0]);
    words_add(&w, c->argv[1]);
    words_idem(&w);
    return cli_ask_and_show(c, &w, 0);
}

int cmd_lock_renew(struct cli *c)
{
    struct words w = {.n = 0};
    words_add(&w, "LOCK.RENEW");
    words_add(&w, c->argv[0]);
    words_add(&w, c->argv[1]);
    words_add(&w, "TTL");
    words_number(&w, c->opt.ttl_ms);
    words_idem(&w);
    return cli_ask_and_show(c, &w, 0);
}

int cmd_lock_force(struct cli *c)
{
    struct words w = {.n = 0};
    if (c->opt.reason == NULL || c->opt.reason[0] == '\0') {
        fprintf(c->err, "synaxis: lock force: takes a lock away from its holder; say why with --reason (it is kept in the log)\n");
        return CLI_USAGE;
    }
    words_add(&w, "LOCK.FORCE");
    words_add(&w, c->argv[0]);
    words_add(&w, "REASON");
    words_add(&w, c->opt.reason);
    words_idem(&w);
    return cli_ask_and_show(c, &w, 0);
}

/* 0: the token is the newest; 1: a newer one was granted, and is printed. */
int cmd_lock_check(struct cli *c)
{
    struct words w = {.n = 0};
    struct resp_client client;
    struct resp_value v;
    slice_t reply;
    int code = cli_client(c, &client);
    if (code != CLI_OK) {
        return code;
    }
    words_add(&w, "LOCK.CHECK");
    words_add(&w, c->argv[0]);
    words_add(&w, c->argv[1]);
    code = cli_ask(c, &client, &w, 0, &reply);
    if (code == CLI_OK) {
        struct reader r = reader_of(reply);
        bool newest = resp_next(&r, &v) && v.type == RT_INT && v.num == 1;
        if (c->opt.json) {
            output_json(c->out, reply);
        } else {
            fputs(newest ? "newest\n" : "stale: a newer token was granted\n", c->out);
        }
        code = newest ? CLI_OK : CLI_FAILED;
    }
    resp_client_fini(&client);
    return code;
}

int cmd_lock_info(struct cli *c)
{
    struct words w = {.n = 0};
    words_add(&w, "LOCK.INFO");
    words_add(&w, c->argv[0]);
    return cli_ask_and_show(c, &w, 0);
}

/* Reads the head of reply, which must be an array; how many elements, -1 when it is none. */
static int64_t array_count(slice_t reply)
{
    struct reader r = reader_of(reply);
    struct resp_value v;
    return resp_next(&r, &v) && v.type == RT_ARRAY ? (int64_t)v.count : -1;
}

/* Appends the elements of the array that follows at r. */
static uint32_t append_elements(struct buf *rows, struct reader *r)
{
    struct resp_value v;
    if (!resp_next(r, &v) || v.type != RT_ARRAY) {
        return 0;
    }
    buf_append(rows, r->p, reader_left(r));
    return v.count;
}

/* The pages of one group's list, from cursor 0 until it comes back as 0. */
static int list_group(struct cli *c, struct resp_client *client, uint32_t group, struct buf *rows, uint32_t *count)
{
    uint64_t cursor = 0;
    do {
        struct words w = {.n = 0};
        struct resp_value v;
        slice_t reply;
        words_add(&w, "LOCK.LIST");
        words_add(&w, "GROUP");
        words_number(&w, group);
        words_add(&w, "CURSOR");
        words_number(&w, cursor);
        if (c->opt.match != NULL) {
            words_add(&w, "MATCH");
            words_add(&w, c->opt.match);
        }
        int code = cli_ask(c, client, &w, 0, &reply);
        if (code != CLI_OK) {
            return code;
        }
        struct reader r = reader_of(reply);
        if (!resp_next(&r, &v) || v.type != RT_ARRAY || v.count != 2 || !resp_next(&r, &v)) {
            return cli_refused(c, reply);
        }
        char text[32] = {0};
        memcpy(text, v.str.ptr, v.str.len < sizeof text - 1 ? v.str.len : 0);
        cursor = v.type == RT_INT ? (uint64_t)v.num : strtoull(text, NULL, 10);
        *count += append_elements(rows, &r);
    } while (cursor != 0);
    return CLI_OK;
}

/* Rows gathered over all groups, shown as one array. */
static void show_rows(struct cli *c, const struct buf *rows, uint32_t count)
{
    struct buf all;
    buf_init(&all);
    resp_array(&all, count);
    buf_append(&all, rows->ptr, rows->len);
    if (c->opt.json) {
        output_json(c->out, buf_slice(&all));
    } else {
        output_reply(c, buf_slice(&all));
    }
    buf_fini(&all);
}

static int count_groups(struct cli *c, struct resp_client *client, uint32_t *groups)
{
    struct words w = {.n = 0};
    slice_t reply;
    words_add(&w, "CLUSTER.GROUPS");
    int code = cli_ask(c, client, &w, 0, &reply);
    int64_t n = code == CLI_OK ? array_count(reply) : 0;
    *groups = n > 0 ? (uint32_t)n : 0;
    return code;
}

static int graph_group(struct cli *c, struct resp_client *client, uint32_t group, struct buf *rows, uint32_t *count)
{
    struct words w = {.n = 0};
    slice_t reply;
    words_add(&w, "LOCK.WAITGRAPH");
    words_add(&w, "GROUP");
    words_number(&w, group);
    int code = cli_ask(c, client, &w, 0, &reply);
    struct reader r = reader_of(reply);
    *count += code == CLI_OK ? append_elements(rows, &r) : 0;
    return code;
}

/* Runs one of the two above on each group; what is held or waited for may be in any of them. */
static int over_groups(struct cli *c, int (*each)(struct cli *, struct resp_client *, uint32_t, struct buf *, uint32_t *),
                       struct buf *rows, uint32_t *count)
{
    struct resp_client client;
    uint32_t groups = 0;
    int code = cli_client(c, &client);
    if (code != CLI_OK) {
        return code;
    }
    code = count_groups(c, &client, &groups);
    for (uint32_t g = 0; g < groups && code == CLI_OK; g++) {
        code = each(c, &client, g, rows, count);
    }
    resp_client_fini(&client);
    return code;
}

int cmd_lock_list(struct cli *c)
{
    struct buf rows;
    uint32_t count = 0;
    buf_init(&rows);
    int code = over_groups(c, list_group, &rows, &count);
    if (code == CLI_OK) {
        show_rows(c, &rows, count);
    }
    buf_fini(&rows);
    return code;
}

static void put_dot_name(FILE *f, slice_t name)
{
    fputc('"', f);
    for (size_t i = 0; i < name.len; i++) {
        uint8_t ch = name.ptr[i];
        if (ch == '"' || ch == '\\') {
            fputc('\\', f);
        }
        fputc(ch < 0x20 || ch == 0x7f ? '?' : ch, f);
    }
    fputc('"', f);
}

/* Edges of all groups as one Graphviz digraph: waiter -> holder, labelled with what is waited for. */
static void show_dot(struct cli *c, const struct buf *rows, uint32_t count)
{
    struct reader r = reader_of(buf_slice(rows));
    fputs("digraph waits {\n  rankdir=LR;\n", c->out);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *start = r.p;
        struct resp_value waiter, holder, resource;
        if (!resp_skip(&r)) {
            break;
        }
        slice_t edge = slice_of(start, (size_t)(r.p - start));
        if (resp_map_get(edge, "waiter", &waiter) && resp_map_get(edge, "holder", &holder) &&
            resp_map_get(edge, "resource", &resource)) {
            fputs("  ", c->out);
            put_dot_name(c->out, waiter.str);
            fputs(" -> ", c->out);
            put_dot_name(c->out, holder.str);
            fputs(" [label=", c->out);
            put_dot_name(c->out, resource.str);
            fputs("];\n", c->out);
        }
    }
    fputs("}\n", c->out);
}

int cmd_lock_graph(struct cli *c)
{
    struct buf rows;
    uint32_t count = 0;
    buf_init(&rows);
    int code = over_groups(c, graph_group, &rows, &count);
    if (code == CLI_OK && c->opt.dot) {
        show_dot(c, &rows, count);
    } else if (code == CLI_OK) {
        show_rows(c, &rows, count);
        if (count == 0 && !c->opt.json) {
            fputs("nobody waits\n", c->err);
        }
    }
    buf_fini(&rows);
    return code;
}
