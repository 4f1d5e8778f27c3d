/* CLIENT TRACKING, CACHING and TRACKINGINFO with Redis' options and errors, and SUBSCRIBE to the one channel that there is: that of REDIRECT. */
#include "nodes/doors/cache_door.h"
#include "nodes/doors/cmd.h"

#include "utils/limits.h"

enum { PREFIXES_MAX = 1024 };

struct tracking { bool bcast, optin, optout, noloop; uint64_t redirect; struct buf prefixes; uint32_t n_prefixes; };

static bool take_redirect(struct call *c, slice_t id, struct tracking *t)
{
    if (t->redirect != 0) {
        call_error(c, "ERR", "A client can only redirect to a single other client");
        return false;
    }
    uint64_t v = 0;
    bool number = id.len > 0 && id.len < 19;
    for (size_t i = 0; i < id.len && number; i++) {
        number = id.ptr[i] >= '0' && id.ptr[i] <= '9';
        v = v * 10 + (uint64_t)(id.ptr[i] - '0');
    }
    if (!number) {
        call_error(c, "ERR", "value is not an integer or out of range");
        return false;
    }
    struct conn *to = conn_find(c->n, v);
    if (to == NULL || to->kind != DOOR_RESP) {
        call_error(c, "ERR", "The client ID you want redirect to does not exist");
        return false;
    }
    t->redirect = v;
    return true;
}

static bool take_options(struct call *c, struct tracking *t)
{
    for (uint32_t i = 3; i < c->argc; i++) {
        bool more = i + 1 < c->argc;
        if (slice_ieq(c->argv[i], "REDIRECT") && more) {
            if (!take_redirect(c, c->argv[++i], t)) {
                return false;
            }
        } else if (slice_ieq(c->argv[i], "BCAST")) {
            t->bcast = true;
        } else if (slice_ieq(c->argv[i], "OPTIN")) {
            t->optin = true;
        } else if (slice_ieq(c->argv[i], "OPTOUT")) {
            t->optout = true;
        } else if (slice_ieq(c->argv[i], "NOLOOP")) {
            t->noloop = true;
        } else if (slice_ieq(c->argv[i], "PREFIX") && more) {
            buf_put_bytes(&t->prefixes, c->argv[++i]);
            t->n_prefixes++;
        } else {
            call_error(c, "ERR", "syntax error");
            return false;
        }
    }
    return true;
}

static bool overlap(slice_t a, slice_t b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    return slice_eq(slice_of(a.ptr, n), slice_of(b.ptr, n));
}

static void say_overlap(struct call *c, slice_t a, const char *which, slice_t b)
{
    call_error(c, "ERR", "Prefix '%.*s' overlaps with %s prefix '%.*s'. Prefixes for a single client must not overlap.", (int)(a.len < 128 ? a.len : 128),
               (const char *)a.ptr, which, (int)(b.len < 128 ? b.len : 128), (const char *)b.ptr);
}

/* Each against those that the connection has, then against those that follow it. */
static bool prefixes_fit(struct call *c, const struct tracking *t)
{
    struct reader r = reader_of(buf_slice(&t->prefixes));
    for (uint32_t i = 0; i < t->n_prefixes; i++) {
        slice_t one = reader_bytes(&r);
        struct reader old = reader_of(buf_slice(&c->conn->prefixes)), rest = r;
        for (uint32_t k = 0; k < c->conn->n_prefixes; k++) {
            slice_t other = reader_bytes(&old);
            if (overlap(one, other)) {
                say_overlap(c, one, "an existing", other);
                return false;
            }
        }
        for (uint32_t k = i + 1; k < t->n_prefixes; k++) {
            slice_t other = reader_bytes(&rest);
            if (overlap(one, other)) {
                say_overlap(c, one, "another provided", other);
                return false;
            }
        }
    }
    return true;
}

/* What does not go together, with each other or with what is on already; NULL: all does. */
static const char *conflict(const struct conn *k, const struct tracking *t, bool back)
{
    if (!t->bcast && t->n_prefixes > 0) {
        return "PREFIX option requires BCAST mode to be enabled";
    }
    if (k->tracking && k->track_bcast != t->bcast) {
        return "You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.";
    }
    if (t->bcast && (t->optin || t->optout)) {
        return "OPTIN and OPTOUT are not compatible with BCAST";
    }
    if (t->optin && t->optout) {
        return "You can't specify both OPTIN mode and OPTOUT mode";
    }
    if (k->tracking && ((t->optin && k->track_optout) || (t->optout && k->track_optin))) {
        return "You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.";
    }
    if (t->bcast && back) {
        return "BCAST needs CACHE_WRITE_POLICY through: with back a node writes what it owns without telling anybody. Without BCAST, what was read is tracked";
    }
    if (t->redirect == 0 && k->proto < 3) {
        return "CLIENT TRACKING needs RESP3, or REDIRECT to a connection that has it or has sent SUBSCRIBE " TRACK_CHANNEL;
    }
    return t->n_prefixes + k->n_prefixes > PREFIXES_MAX ? "too many prefixes: the most is 1024" : NULL;
}

/* Into its place: they are shown in order. */
static void prefix_insert(struct conn *k, slice_t prefix)
{
    struct buf all = {0};
    struct reader r = reader_of(buf_slice(&k->prefixes));
    bool done = false;
    for (uint32_t i = 0; i < k->n_prefixes; i++) {
        slice_t other = reader_bytes(&r);
        size_t n = prefix.len < other.len ? prefix.len : other.len;
        if (!done && memcmp(prefix.ptr, other.ptr, n) < 0) { /* none begins with another: they differ in these */
            buf_put_bytes(&all, prefix);
            done = true;
        }
        buf_put_bytes(&all, other);
    }
    if (!done) {
        buf_put_bytes(&all, prefix);
    }
    buf_swap(&k->prefixes, &all);
    buf_fini(&all);
    k->n_prefixes++;
}

static void tracking_on(struct call *c, const struct tracking *t)
{
    struct conn *k = c->conn;
    const char *why = conflict(k, t, c->n->opt.cache_back);
    if (why != NULL) {
        call_error(c, "ERR", "%s", why);
        return;
    }
    if (t->bcast && !prefixes_fit(c, t)) {
        return;
    }
    k->tracking = true;
    k->track_optin = t->optin;
    k->track_optout = t->optout;
    k->track_noloop = t->noloop;
    k->track_redirect = t->redirect;
    k->track_broken = false;
    if (!t->bcast) {
        resp_simple(c->reply, "OK");
        return;
    }
    struct reader r = reader_of(buf_slice(&t->prefixes));
    for (uint32_t i = 0; i < t->n_prefixes; i++) {
        prefix_insert(k, reader_bytes(&r));
    }
    if (t->n_prefixes == 0 && k->n_prefixes == 0) { /* of all keys */
        buf_put_bytes(&k->prefixes, SLICE_NONE);
        k->n_prefixes = 1;
    }
    bcast_begin(c);
}

void tracking_off(struct node *n, struct conn *c)
{
    track_forget(n->doors, c);
    bcast_end(n, c);
    c->track_optin = c->track_optout = c->track_noloop = c->track_broken = false;
    c->track_redirect = 0;
}

void client_tracking(struct call *c)
{
    struct tracking t = {0};
    if (take_options(c, &t)) {
        if (slice_ieq(c->argv[2], "ON")) {
            tracking_on(c, &t);
        } else if (slice_ieq(c->argv[2], "OFF")) {
            tracking_off(c->n, c->conn);
            resp_simple(c->reply, "OK");
        } else {
            call_error(c, "ERR", "syntax error");
        }
    }
    buf_fini(&t.prefixes);
}

/* CLIENT CACHING <YES | NO>: of the next command. */
void client_caching(struct call *c)
{
    bool yes = slice_ieq(c->argv[2], "YES");
    if (!c->conn->tracking) {
        call_error(c, "ERR", "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled");
    } else if (!yes && !slice_ieq(c->argv[2], "NO")) {
        call_error(c, "ERR", "syntax error");
    } else if (yes ? !c->conn->track_optin : !c->conn->track_optout) {
        call_error(c, "ERR", yes ? "CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode." :
                                   "CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");
    } else {
        c->conn->caching = yes ? 1 : 2;
        resp_simple(c->reply, "OK");
    }
}

void client_tracking_info(struct call *c)
{
    const struct conn *k = c->conn;
    const char *flags[6];
    uint32_t n = 0;
    flags[n++] = k->tracking ? "on" : "off";
    if (k->track_bcast) {
        flags[n++] = "bcast";
    }
    if (k->track_optin || k->track_optout) {
        flags[n++] = k->track_optin ? "optin" : "optout";
        if (k->caching != 0) {
            flags[n++] = k->track_optin ? "caching-yes" : "caching-no";
        }
    }
    if (k->track_noloop) {
        flags[n++] = "noloop";
    }
    if (k->track_broken) {
        flags[n++] = "broken_redirect";
    }
    resp_map(c->reply, 3);
    resp_bulk_str(c->reply, "flags");
    resp_set(c->reply, n);
    for (uint32_t i = 0; i < n; i++) {
        resp_bulk_str(c->reply, flags[i]);
    }
    resp_bulk_str(c->reply, "redirect");
    k->tracking ? resp_u64(c->reply, k->track_redirect) : resp_int(c->reply, -1);
    resp_bulk_str(c->reply, "prefixes");
    resp_array(c->reply, k->n_prefixes);
    struct reader r = reader_of(buf_slice(&k->prefixes));
    for (uint32_t i = 0; i < k->n_prefixes; i++) {
        resp_bulk(c->reply, reader_bytes(&r));
    }
}

/* --- the channel */

static bool the_channel(struct call *c)
{
    if (c->argc == 2 && slice_eq(c->argv[1], SLICE_LIT(TRACK_CHANNEL))) {
        return true;
    }
    call_error(c, "ERR", "there is one channel, " TRACK_CHANNEL " of CLIENT TRACKING REDIRECT; messages have queues and streams: QUEUE.CONSUME, XREAD");
    return false;
}

static void subscription(struct call *c, const char *what, bool channel)
{
    c->conn->proto < 3 ? resp_array(c->reply, 3) : resp_push(c->reply, 3);
    resp_bulk_str(c->reply, what);
    channel ? resp_bulk_str(c->reply, TRACK_CHANNEL) : resp_null(c->reply);
    resp_int(c->reply, c->conn->subscribed);
}

void handle_subscribe(struct call *c)
{
    if (the_channel(c)) {
        c->conn->subscribed = true;
        subscription(c, "subscribe", true);
    }
}

void handle_unsubscribe(struct call *c)
{
    if (c->argc == 1 || the_channel(c)) {
        bool had = c->conn->subscribed;
        c->conn->subscribed = false;
        subscription(c, "unsubscribe", had || c->argc > 1);
    }
}

/* True: a connection of RESP2 in a channel may not send this. */
bool subscribed_refuses(struct call *c)
{
    const command_fn allowed[] = {handle_subscribe, handle_unsubscribe, handle_ping, handle_quit, handle_reset};
    bool may = false;
    if (!c->conn->subscribed || c->conn->proto == 3) {
        return false;
    }
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++) {
        may |= c->cmd->fn == allowed[i];
    }
    char name[64];
    size_t n = 0;
    for (; !may && c->cmd->name[n] != '\0' && n + 1 < sizeof name; n++) {
        name[n] = (char)(c->cmd->name[n] >= 'A' && c->cmd->name[n] <= 'Z' ? c->cmd->name[n] + 32 : c->cmd->name[n]);
    }
    if (!may) {
        call_error(c, "ERR", "Can't execute '%.*s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context", (int)n, name);
    }
    return !may;
}
