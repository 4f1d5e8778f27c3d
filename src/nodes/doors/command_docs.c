/* COMMAND, COMMAND INFO, COMMAND DOCS: what redis-cli completes and explains commands from. The arguments of DOCS are made from
 * the one-line syntax in the command table, so that there is one place to change. */
#include "nodes/doors/cmd.h"

#include <stdio.h>

static void lower(const char *s, char *out, size_t size)
{
    size_t i = 0;
    for (; s[i] != '\0' && i + 1 < size; i++) {
        out[i] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] + 32 : s[i]);
    }
    out[i] = '\0';
}

static void put_flags(struct buf *b, uint32_t flags)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } names[] = {{CMD_READ, "readonly"}, {CMD_WRITE, "write"}, {CMD_BLOCKING, "blocking"},
                 {CMD_ADMIN, "admin"},   {CMD_FAST, "fast"},   {CMD_NO_AUTH, "no_auth"}};
    uint32_t n = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        n += (flags & names[i].bit) != 0;
    }
    resp_set(b, n);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (flags & names[i].bit) {
            resp_simple(b, names[i].name);
        }
    }
}

static void put_info(struct buf *b, const struct command *cmd)
{
    char name[80];
    lower(cmd->name, name, sizeof name);
    resp_array(b, 10);
    resp_bulk_str(b, name);
    resp_int(b, cmd->arity);
    put_flags(b, cmd->flags);
    resp_int(b, cmd->first_key);
    resp_int(b, cmd->last_key);
    resp_int(b, cmd->key_step);
    resp_set(b, 0);
    resp_array(b, 0);
    resp_array(b, 0);
    resp_array(b, 0);
}

/* One top-level word of a syntax line: a plain word, <A | B>, or [...], which may nest. */
static slice_t next_word(slice_t *rest)
{
    size_t i = 0;
    int depth = 0;
    while (rest->len > 0 && rest->ptr[0] == ' ') {
        *rest = slice_of(rest->ptr + 1, rest->len - 1);
    }
    for (; i < rest->len; i++) {
        uint8_t ch = rest->ptr[i];
        depth += (ch == '[' || ch == '<') - (ch == ']' || ch == '>');
        if (depth == 0 && ch == ' ') {
            break;
        }
    }
    slice_t w = slice_of(rest->ptr, i);
    *rest = slice_of(rest->ptr + i, rest->len - i);
    return w;
}

static uint32_t count_words(const char *syntax)
{
    slice_t rest = slice_str(syntax);
    uint32_t n = 0;
    while (next_word(&rest).len > 0) {
        n++;
    }
    return n;
}

/* [TOKEN value] becomes a token and a value; <A | B> a text; anything else its own name. Redis-cli shows what is given here. */
static void put_argument(struct buf *b, slice_t w)
{
    bool optional = w.len > 2 && w.ptr[0] == '[';
    slice_t in = w;
    if (w.len > 2 && (w.ptr[0] == '[' || w.ptr[0] == '<')) {
        in = slice_of(w.ptr + 1, w.len - 2);
    }
    slice_t rest = in;
    slice_t token = next_word(&rest);
    bool has_token = optional && rest.len > 1 && token.len > 0 && token.ptr[0] >= 'A' && token.ptr[0] <= 'Z' &&
                     memchr(in.ptr, '|', in.len) == NULL;
    resp_map(b, 2 + (uint32_t)optional + (uint32_t)has_token);
    resp_bulk_str(b, "name");
    resp_bulk(b, has_token ? slice_of(rest.ptr + 1, rest.len - 1) : in);
    resp_bulk_str(b, "type");
    resp_bulk_str(b, "string");
    if (has_token) {
        resp_bulk_str(b, "token");
        resp_bulk(b, token);
    }
    if (optional) {
        resp_bulk_str(b, "flags");
        resp_set(b, 1);
        resp_simple(b, "optional");
    }
}

static void put_docs(struct buf *b, const struct command *cmd)
{
    char name[80];
    lower(cmd->name, name, sizeof name);
    resp_bulk_str(b, name);
    uint32_t args = count_words(cmd->syntax);
    resp_map(b, args > 0 ? 5 : 4);
    resp_bulk_str(b, "summary");
    resp_bulk_str(b, cmd->summary);
    resp_bulk_str(b, "since");
    resp_bulk_str(b, cmd->since);
    resp_bulk_str(b, "group");
    resp_bulk_str(b, cmd->group);
    resp_bulk_str(b, "complexity");
    resp_bulk_str(b, "O(1)");
    if (args == 0) {
        return;
    }
    resp_bulk_str(b, "arguments");
    resp_array(b, args);
    slice_t rest = slice_str(cmd->syntax), w;
    while ((w = next_word(&rest)).len > 0) {
        put_argument(b, w);
    }
}

static void command_docs(struct call *c)
{
    if (c->argc == 2) {
        resp_map(c->reply, command_count());
        for (uint32_t i = 0; i < command_count(); i++) {
            put_docs(c->reply, command_at(i));
        }
        return;
    }
    uint32_t known = 0;
    for (uint32_t i = 2; i < c->argc; i++) {
        known += command_find(c->n->doors, c->argv[i]) != NULL;
    }
    resp_map(c->reply, known);
    for (uint32_t i = 2; i < c->argc; i++) {
        const struct command *cmd = command_find(c->n->doors, c->argv[i]);
        if (cmd != NULL) {
            put_docs(c->reply, cmd);
        }
    }
}

static void command_info(struct call *c, uint32_t from)
{
    uint32_t n = c->argc > from ? c->argc - from : command_count();
    resp_array(c->reply, n);
    for (uint32_t i = 0; i < n; i++) {
        const struct command *cmd = c->argc > from ? command_find(c->n->doors, c->argv[from + i]) : command_at(i);
        if (cmd == NULL) {
            resp_null(c->reply);
        } else {
            put_info(c->reply, cmd);
        }
    }
}

static void command_list(struct call *c)
{
    resp_array(c->reply, command_count());
    for (uint32_t i = 0; i < command_count(); i++) {
        char name[80];
        lower(command_at(i)->name, name, sizeof name);
        resp_bulk_str(c->reply, name);
    }
}

static void command_getkeys(struct call *c)
{
    const struct command *cmd = c->argc > 2 ? command_find(c->n->doors, c->argv[2]) : NULL;
    if (cmd == NULL) {
        call_error(c, "ERR", "Invalid command specified");
    } else if (cmd->first_key == 0 || c->argc <= 2 + (uint32_t)cmd->first_key) {
        call_error(c, "ERR", "The command has no key arguments");
    } else {
        resp_array(c->reply, 1);
        resp_bulk(c->reply, c->argv[2 + cmd->first_key]);
    }
}

void handle_command(struct call *c)
{
    if (c->argc == 1) {
        command_info(c, 1);
    } else if (slice_ieq(c->argv[1], "COUNT")) {
        resp_u64(c->reply, command_count());
    } else if (slice_ieq(c->argv[1], "DOCS")) {
        command_docs(c);
    } else if (slice_ieq(c->argv[1], "INFO")) {
        command_info(c, 2);
    } else if (slice_ieq(c->argv[1], "LIST")) {
        command_list(c);
    } else if (slice_ieq(c->argv[1], "GETKEYS")) {
        command_getkeys(c);
    } else {
        call_error(c, "ERR", "unknown subcommand. Try COMMAND HELP.");
    }
}
