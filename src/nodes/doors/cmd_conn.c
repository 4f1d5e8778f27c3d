/* Connection commands: what drivers send before the user's first command (HELLO, CLIENT SETINFO ...) and what redis-cli uses.
 * Replies and error texts are Redis' own. */
#include "nodes/doors/cmd.h"

#include "communication/peer_auth.h"
#include "utils/limits.h"

#include <stdio.h>

static slice_t own_name(const struct conn *c)
{
    return slice_str(c->name);
}

static bool password_ok(struct call *c, slice_t password)
{
    return secret_equal(slice_str(c->n->opt.requirepass), password);
}

/* AUTH as Redis does it: the default user has the one password; without a configured one, AUTH with one word is an error. */
static bool authenticate(struct call *c, slice_t user, slice_t password)
{
    bool configured = c->n->opt.requirepass[0] != '\0';
    if (!slice_eq(user, SLICE_LIT("default")) || (configured && !password_ok(c, password))) {
        c->later = conn_guessed(c->n, c->conn, c->slot);
        buf_clear(c->reply);
        buf_append_str(c->reply, "-" WRONG_PASSWORD "\r\n");
        return false;
    }
    conn_set_authenticated(c->n, c->conn, true);
    return true;
}

void handle_auth(struct call *c)
{
    if (c->argc > 3) {
        call_error(c, "ERR", "syntax error");
        return;
    }
    if (c->argc == 2 && c->n->opt.requirepass[0] == '\0') {
        call_error(c, "ERR", "AUTH <password> called without any password configured for the default user. Are you sure your "
                             "configuration is correct?");
        return;
    }
    slice_t user = c->argc == 3 ? c->argv[1] : SLICE_LIT("default");
    if (authenticate(c, user, c->argv[c->argc - 1])) {
        resp_simple(c->reply, "OK");
    }
}

void handle_ping(struct call *c)
{
    if (c->argc > 2) {
        call_error(c, "ERR", "wrong number of arguments for 'ping' command");
    } else if (c->conn->subscribed && c->conn->proto < 3) {
        resp_array(c->reply, 2);
        resp_bulk_str(c->reply, "pong");
        resp_bulk(c->reply, c->argc == 2 ? c->argv[1] : SLICE_NONE);
    } else if (c->argc == 2) {
        resp_bulk(c->reply, c->argv[1]);
    } else {
        resp_simple(c->reply, "PONG");
    }
}

void handle_echo(struct call *c)
{
    resp_bulk(c->reply, c->argv[1]);
}

void handle_quit(struct call *c)
{
    resp_simple(c->reply, "OK");
    conn_close(c->n, c->conn);
}

void handle_reset(struct call *c)
{
    watch_drop_all(c->n, c->conn);
    tracking_off(c->n, c->conn);
    c->conn->subscribed = false;
    c->conn->proto = 2;
    c->conn->name[0] = '\0';
    conn_set_authenticated(c->n, c->conn, c->n->opt.requirepass[0] == '\0');
    resp_simple(c->reply, "RESET");
}

void handle_select(struct call *c)
{
    slice_t s = c->argv[1];
    bool digits = s.len > 0 && s.len < 10;
    for (size_t i = s.len > 1 && s.ptr[0] == '-'; i < s.len; i++) {
        digits = digits && s.ptr[i] >= '0' && s.ptr[i] <= '9';
    }
    if (slice_eq(s, SLICE_LIT("0"))) {
        resp_simple(c->reply, "OK");
    } else {
        call_error(c, "ERR", digits && (s.len == 1 || s.ptr[0] != '0') ? "DB index is out of range" : "value is not an integer or out of range");
    }
}

/* A name as Redis accepts it: printable, without blanks. */
static bool name_ok(slice_t s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '!' || s.ptr[i] > '~') {
            return false;
        }
    }
    return s.len < sizeof ((struct conn *)0)->name;
}

static bool set_name(struct call *c, slice_t s)
{
    if (!name_ok(s)) {
        call_error(c, "ERR", "Client names cannot contain spaces, newlines or special characters.");
        return false;
    }
    snprintf(c->conn->name, sizeof c->conn->name, "%.*s", (int)s.len, (const char *)s.ptr);
    return true;
}

static void hello_reply(struct call *c)
{
    resp_map(c->reply, 7);
    resp_bulk_str(c->reply, "server");
    resp_bulk_str(c->reply, "redis");
    resp_bulk_str(c->reply, "version");
    resp_bulk_str(c->reply, REDIS_VERSION);
    resp_bulk_str(c->reply, "proto");
    resp_int(c->reply, c->conn->proto);
    resp_bulk_str(c->reply, "id");
    resp_u64(c->reply, c->conn->id);
    resp_bulk_str(c->reply, "mode");
    resp_bulk_str(c->reply, "standalone");
    resp_bulk_str(c->reply, "role");
    resp_bulk_str(c->reply, "master");
    resp_bulk_str(c->reply, "modules");
    resp_array(c->reply, 0);
}

void handle_hello(struct call *c)
{
    int proto = c->conn->proto;
    uint32_t i = 1;
    if (c->argc > 1) {
        if (slice_eq(c->argv[1], SLICE_LIT("2")) || slice_eq(c->argv[1], SLICE_LIT("3"))) {
            proto = c->argv[1].ptr[0] - '0';
        } else {
            call_error(c, "NOPROTO", "unsupported protocol version");
            return;
        }
        i = 2;
    }
    while (i < c->argc) {
        if (slice_ieq(c->argv[i], "AUTH") && i + 2 < c->argc) {
            if (!authenticate(c, c->argv[i + 1], c->argv[i + 2])) {
                return;
            }
            i += 3;
        } else if (slice_ieq(c->argv[i], "SETNAME") && i + 1 < c->argc) {
            if (!set_name(c, c->argv[i + 1])) {
                return;
            }
            i += 2;
        } else {
            call_error(c, "ERR", "Syntax error in HELLO option '%.*s'", shown_length(c->argv[i]),
                       (const char *)c->argv[i].ptr);
            return;
        }
    }
    if (!c->conn->authenticated) {
        call_error(c, "NOAUTH", "HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH "
                                "<user> <pass> option can be used to authenticate the client and select the RESP protocol "
                                "version at the same time");
        return;
    }
    c->conn->proto = proto;
    hello_reply(c);
}

static void client_line(struct node *n, const struct conn *c, struct buf *out)
{
    char flags[8];
    snprintf(flags, sizeof flags, "%s%s%s%s", c->subscribed ? "P" : "", c->tracking ? "t" : "", c->track_broken ? "R" : "", c->track_bcast ? "B" : "");
    if (flags[0] == '\0') {
        snprintf(flags, sizeof flags, "N");
    }
    buf_printf(out, "id=%llu addr=%s laddr=? fd=0 name=%s age=%llu idle=%llu flags=%s db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=0 "
                    "qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=%llu tot-mem=0 events=r cmd=%s user=default "
                    "redir=%lld resp=%d lib-name=%s lib-ver=%s\n",
               (unsigned long long)c->id, c->remote, c->name, (unsigned long long)(n->now_ms - c->opened_ms) / 1000,
               (unsigned long long)(n->now_ms - c->last_ms) / 1000, flags, (unsigned long long)c->unsent_bytes,
               c->last_command ? c->last_command->name : "NULL", c->tracking ? (long long)c->track_redirect : -1, c->proto, c->lib_name, c->lib_ver);
}

static void client_list(struct call *c)
{
    struct buf b = {0};
    list_each(it, &c->n->doors->all) {
        client_line(c->n, CONTAINER_OF(it, struct conn, all), &b);
    }
    resp_verbatim(c->reply, "txt", buf_slice(&b));
    buf_fini(&b);
}

static void client_info(struct call *c)
{
    struct buf b = {0};
    client_line(c->n, c->conn, &b);
    resp_verbatim(c->reply, "txt", buf_slice(&b));
    buf_fini(&b);
}

static void client_setinfo(struct call *c)
{
    slice_t v = c->argv[3];
    if (!name_ok(v)) {
        call_error(c, "ERR", "lib-name and lib-ver cannot contain spaces, newlines or special characters.");
    } else if (slice_ieq(c->argv[2], "LIB-NAME")) {
        snprintf(c->conn->lib_name, sizeof c->conn->lib_name, "%.*s", (int)v.len, (const char *)v.ptr);
        resp_simple(c->reply, "OK");
    } else if (slice_ieq(c->argv[2], "LIB-VER")) {
        snprintf(c->conn->lib_ver, sizeof c->conn->lib_ver, "%.*s", (int)v.len, (const char *)v.ptr);
        resp_simple(c->reply, "OK");
    } else {
        call_error(c, "ERR", "Unrecognized option '%.*s'", shown_length(c->argv[2]),
                   (const char *)c->argv[2].ptr);
    }
}

/* CLIENT KILL addr | ID id | ADDR addr. The old form answers OK, the new one how many. */
static void client_kill(struct call *c)
{
    uint64_t killed = 0, id = 0;
    bool by_id = c->argc == 4 && slice_ieq(c->argv[2], "ID");
    bool by_addr = c->argc == 4 && slice_ieq(c->argv[2], "ADDR");
    if (c->argc != 3 && !by_id && !by_addr) {
        call_error(c, "ERR", "syntax error");
        return;
    }
    if (by_id && !arg_u64(c, c->argv[3], "client-id", 1, UINT64_MAX, &id)) {
        return;
    }
    slice_t addr = c->argv[c->argc - 1];
    list_each(it, &c->n->doors->all) {
        struct conn *other = CONTAINER_OF(it, struct conn, all);
        if (by_id ? other->id == id : slice_eq(slice_str(other->remote), addr)) {
            conn_close(c->n, other);
            killed++;
        }
    }
    if (c->argc == 3 && killed == 0) {
        call_error(c, "ERR", "No such client");
    } else if (c->argc == 3) {
        resp_simple(c->reply, "OK");
    } else {
        resp_u64(c->reply, killed);
    }
}

static void client_id(struct call *c)
{
    resp_u64(c->reply, c->conn->id);
}

static void client_getname(struct call *c)
{
    if (c->conn->name[0]) {
        resp_bulk(c->reply, own_name(c->conn));
    } else {
        resp_null(c->reply);
    }
}

static void client_setname(struct call *c)
{
    if (set_name(c, c->argv[2])) {
        resp_simple(c->reply, "OK");
    }
}

static void client_getredir(struct call *c)
{
    c->conn->tracking ? resp_u64(c->reply, c->conn->track_redirect) : resp_int(c->reply, -1);
}

/* NO-EVICT, NO-TOUCH: nothing is ever done to a client for the sake of memory. */
static void client_no(struct call *c)
{
    if (slice_ieq(c->argv[2], "ON") || slice_ieq(c->argv[2], "OFF")) {
        resp_simple(c->reply, "OK");
    } else {
        call_error(c, "ERR", "syntax error");
    }
}

static void client_help(struct call *c);

static const struct {
    const char *name, *words;
    uint32_t argc_min, argc_max; /* max 0: any number */
    command_fn fn;
} subcommands[] = {
    {"caching", "<YES | NO>", 3, 3, client_caching},
    {"getname", "", 2, 2, client_getname},
    {"getredir", "", 2, 2, client_getredir},
    {"help", "", 2, 2, client_help},
    {"id", "", 2, 2, client_id},
    {"info", "", 2, 2, client_info},
    {"kill", "<address | ID client-id | ADDR address>", 3, 0, client_kill},
    {"list", "", 2, 0, client_list},
    {"no-evict", "<ON | OFF>", 3, 3, client_no},
    {"no-touch", "<ON | OFF>", 3, 3, client_no},
    {"setinfo", "<LIB-NAME name | LIB-VER version>", 4, 4, client_setinfo},
    {"setname", "name", 3, 3, client_setname},
    {"tracking", "<ON | OFF> [REDIRECT client-id] [BCAST [PREFIX prefix ...]] [OPTIN | OPTOUT] [NOLOOP]", 3, 0, client_tracking},
    {"trackinginfo", "", 2, 2, client_tracking_info},
};
enum { SUBCOMMANDS = sizeof subcommands / sizeof subcommands[0] };

static void client_help(struct call *c)
{
    resp_array(c->reply, SUBCOMMANDS + 1);
    resp_simple(c->reply, "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    for (uint32_t i = 0; i < SUBCOMMANDS; i++) {
        char line[160];
        snprintf(line, sizeof line, "%s %s", subcommands[i].name, subcommands[i].words);
        resp_simple(c->reply, line);
    }
}

void handle_client(struct call *c)
{
    slice_t sub = c->argv[1];
    for (uint32_t i = 0; i < SUBCOMMANDS; i++) {
        if (!slice_ieq(sub, subcommands[i].name)) {
            continue;
        }
        if (c->argc < subcommands[i].argc_min || (subcommands[i].argc_max != 0 && c->argc > subcommands[i].argc_max)) {
            call_error(c, "ERR", "wrong number of arguments for 'client|%s' command", subcommands[i].name);
        } else {
            subcommands[i].fn(c);
        }
        return;
    }
    call_error(c, "ERR", "unknown subcommand '%.*s'. Try CLIENT HELP.", shown_length(sub), (const char *)sub.ptr);
}
