/* synaxis status: which nodes are up, who leads each group, how far everybody is, and one sentence of verdict.
 *
 * Not here: metrics, /health. Members come from the first node that answers; each member that is up is then asked itself, and a
 * group is shown as its own leader sees it, since only a leader knows how far its followers are. */
#include "cli/cli.h"
#include "cli/cli_ask.h"
#include "cli/cli_output.h"
#include "cli/commands.h"
#include "communication/resp.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

enum { GROUPS_SHOWN_MAX = 4096 };

struct member {
    char id[80], address[320], state[16];
    uint64_t leads, silent_ms;
    struct endpoint resp;
    bool has_endpoint, answered;
};

struct group {
    char leader[80], role[16], why[160];
    uint64_t id, term, commit, applied, last, worst_lag;
    char replicas[512];
    bool known, by_leader;
};

struct view {
    struct member members[ENDPOINTS_MAX];
    uint32_t n_members, n_up;
    struct group *groups;
    uint32_t n_groups, n_led;
    uint64_t worst_lag;
    char verdict[400];
};

static void copy_text(slice_t map, const char *key, char *out, size_t size)
{
    struct resp_value v;
    out[0] = '\0';
    if (resp_map_get(map, key, &v)) {
        snprintf(out, size, "%.*s", (int)(v.str.len < size ? v.str.len : size - 1), (const char *)v.str.ptr);
    }
}

static uint64_t number(slice_t map, const char *key)
{
    struct resp_value v;
    return resp_map_get(map, key, &v) && v.type == RT_INT && v.num > 0 ? (uint64_t)v.num : 0;
}

/* The next whole value at r, as bytes. */
static slice_t take_value(struct reader *r)
{
    const uint8_t *start = r->p;
    return resp_skip(r) ? slice_of(start, (size_t)(r->p - start)) : SLICE_NONE;
}

static uint32_t open_array(slice_t reply, struct reader *r)
{
    struct resp_value v;
    *r = reader_of(reply);
    return resp_next(r, &v) && v.type == RT_ARRAY ? v.count : 0;
}

static void read_member(struct view *view, slice_t map)
{
    if (view->n_members == ENDPOINTS_MAX) {
        return;
    }
    struct member *m = &view->members[view->n_members++];
    uint64_t port = number(map, "resp_port");
    copy_text(map, "id", m->id, sizeof m->id);
    copy_text(map, "state", m->state, sizeof m->state);
    copy_text(map, "client_host", m->resp.host, sizeof m->resp.host);
    m->leads = number(map, "groups_led");
    m->silent_ms = number(map, "silent_ms");
    m->has_endpoint = m->resp.host[0] != '\0' && port > 0 && port < 65536;
    m->resp.port = (uint16_t)port;
    if (m->has_endpoint) {
        char host[ENDPOINT_HOST_BYTES];
        memcpy(host, m->resp.host, sizeof host);
        snprintf(m->address, sizeof m->address, "%s:%u", host, m->resp.port);
    } else {
        copy_text(map, "address", m->address, sizeof m->address);
    }
}

static int read_members(struct cli *c, struct resp_client *client, struct view *view)
{
    struct words w = {.n = 0};
    struct reader r;
    slice_t reply;
    words_add(&w, "CLUSTER.NODES");
    int code = cli_ask(c, client, &w, 0, &reply);
    uint32_t n = code == CLI_OK ? open_array(reply, &r) : 0;
    for (uint32_t i = 0; i < n; i++) {
        read_member(view, take_value(&r));
    }
    return code;
}

/* "n1 n2 n3:-12": the replicas, each with how far it is behind when it is. */
static void read_replicas(struct group *g, slice_t map)
{
    struct resp_value v;
    struct reader r = reader_of(map);
    size_t used = 0;
    g->worst_lag = 0;
    g->replicas[0] = '\0';
    if (!resp_next(&r, &v)) {
        return;
    }
    for (uint32_t i = 0; i < v.count; i++) {
        slice_t key = take_value(&r), value = take_value(&r);
        struct reader k = reader_of(key), list;
        struct resp_value name;
        if (!resp_next(&k, &name) || !slice_eq(name.str, SLICE_LIT("replicas"))) {
            continue;
        }
        for (uint32_t n = open_array(value, &list); n > 0; n--) {
            slice_t one = take_value(&list);
            char id[80], state[16];
            copy_text(one, "id", id, sizeof id);
            copy_text(one, "state", state, sizeof state);
            uint64_t match = number(one, "match");
            uint64_t lag = g->by_leader && strcmp(state, "self") != 0 && strcmp(id, g->leader) != 0 && g->commit > match ? g->commit - match : 0;
            g->worst_lag = lag > g->worst_lag ? lag : g->worst_lag;
            int len = snprintf(g->replicas + used, sizeof g->replicas - used, lag > 0 ? "%s%s:-%" PRIu64 : "%s%s", used ? " " : "", id, lag);
            used = used + (size_t)len < sizeof g->replicas ? used + (size_t)len : sizeof g->replicas - 1;
        }
    }
}

static void read_group(struct view *view, slice_t map)
{
    uint64_t id = number(map, "group");
    char role[16];
    if (id >= view->n_groups) {
        return;
    }
    struct group *g = &view->groups[id];
    copy_text(map, "role", role, sizeof role);
    bool by_leader = strcmp(role, "LEADER") == 0;
    uint64_t term = number(map, "term");
    if (g->known && (g->by_leader || !by_leader) && (!by_leader || term <= g->term)) {
        return; /* what a leader said stands, unless a leader of a later term says otherwise */
    }
    *g = (struct group){.id = id, .known = true, .by_leader = by_leader, .term = term};
    memcpy(g->role, role, sizeof role);
    copy_text(map, "leader", g->leader, sizeof g->leader);
    copy_text(map, "why_no_leader", g->why, sizeof g->why);
    g->commit = number(map, "commit_index");
    g->applied = number(map, "applied_index");
    g->last = number(map, "last_index");
    read_replicas(g, map);
}

static bool grow_groups(struct view *view, uint32_t n)
{
    if (n > view->n_groups && n <= GROUPS_SHOWN_MAX) {
        struct group *grown = realloc(view->groups, n * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        memset(grown + view->n_groups, 0, (n - view->n_groups) * sizeof *grown);
        view->groups = grown;
        view->n_groups = n;
    }
    return true;
}

static bool read_groups(struct cli *c, struct resp_client *client, struct view *view)
{
    slice_t command = SLICE_LIT("CLUSTER.GROUPS"), reply;
    struct reader r;
    if (resp_call(client, now_ms() + c->opt.timeout_ms, &command, 1, &reply) != CALL_OK) {
        return false;
    }
    uint32_t n = open_array(reply, &r);
    if (n == 0 || !grow_groups(view, n)) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        read_group(view, take_value(&r));
    }
    return true;
}

static void ask_member(struct cli *c, struct view *view, struct member *m, const char *password)
{
    struct resp_client one;
    if (!m->has_endpoint) {
        return;
    }
    resp_client_init(&one, &m->resp, 1, password);
    m->answered = read_groups(c, &one, view);
    resp_client_fini(&one);
}

static void judge(struct view *view)
{
    uint32_t leaderless = 0;
    for (uint32_t i = 0; i < view->n_members; i++) {
        view->n_up += strcmp(view->members[i].state, "down") != 0;
    }
    for (uint32_t i = 0; i < view->n_groups; i++) {
        struct group *g = &view->groups[i];
        view->n_led += g->known && g->leader[0] != '\0';
        leaderless += !g->known || g->leader[0] == '\0';
        view->worst_lag = g->worst_lag > view->worst_lag ? g->worst_lag : view->worst_lag;
    }
    snprintf(view->verdict, sizeof view->verdict, "%s: %u of %u nodes up, %u of %u groups have a leader, largest lag %" PRIu64 " entries",
             leaderless > 0 || view->n_groups == 0 ? "NOT SERVING"
             : view->n_up < view->n_members        ? "DEGRADED"
                                                   : "OK",
             view->n_up, view->n_members, view->n_led, view->n_groups, view->worst_lag);
}

static int look(struct cli *c, struct view *view)
{
    struct resp_client client;
    int code = cli_client(c, &client);
    if (code != CLI_OK) {
        return code;
    }
    code = read_members(c, &client, view);
    if (code == CLI_OK) {
        read_groups(c, &client, view);
        for (uint32_t i = 0; i < view->n_members; i++) {
            struct member *m = &view->members[i];
            if (strcmp(m->state, "up") == 0) {
                ask_member(c, view, m, client.password);
            }
        }
        judge(view);
    }
    resp_client_fini(&client);
    return code;
}

static void print_members(const struct cli *c, const struct view *view)
{
    struct table t;
    table_init(&t, 5);
    static const char *const titles[] = {"NODE", "STATE", "RESP", "LEADS", "SILENT"};
    for (uint32_t i = 0; i < 5; i++) {
        table_cell(&t, "%s", titles[i]);
    }
    for (uint32_t i = 0; i < view->n_members; i++) {
        const struct member *m = &view->members[i];
        table_cell(&t, "%s", m->id);
        table_cell(&t, "%s", strcmp(m->state, "self") == 0 ? "up" : m->state);
        table_cell(&t, "%s", m->address);
        table_cell(&t, "%" PRIu64, m->leads);
        table_cell(&t, "%" PRIu64 " ms", m->silent_ms);
    }
    table_print(c, &t);
    table_fini(&t);
}

static void print_groups(const struct cli *c, const struct view *view)
{
    struct table t;
    table_init(&t, 7);
    static const char *const titles[] = {"GROUP", "LEADER", "TERM", "COMMIT", "APPLIED", "LAG", "REPLICAS"};
    for (uint32_t i = 0; i < 7; i++) {
        table_cell(&t, "%s", titles[i]);
    }
    for (uint32_t i = 0; i < view->n_groups; i++) {
        const struct group *g = &view->groups[i];
        table_cell(&t, "%u", i);
        table_cell(&t, "%s%s%s", g->leader[0] ? g->leader : "none", g->leader[0] || !g->why[0] ? "" : ": ", g->leader[0] ? "" : g->why);
        table_cell(&t, "%" PRIu64, g->term);
        table_cell(&t, "%" PRIu64, g->commit);
        table_cell(&t, "%" PRIu64, g->applied);
        table_cell(&t, "%" PRIu64, g->worst_lag);
        table_cell(&t, "%s", g->replicas);
    }
    table_print(c, &t);
    table_fini(&t);
}

static void put_json_text(struct buf *b, const char *key, const char *value)
{
    resp_bulk_str(b, key);
    resp_bulk_str(b, value);
}

static void put_json_number(struct buf *b, const char *key, uint64_t value)
{
    resp_bulk_str(b, key);
    resp_u64(b, value);
}

static void print_json(const struct cli *c, const struct view *view)
{
    struct buf b;
    buf_init(&b);
    resp_map(&b, 6);
    put_json_text(&b, "verdict", view->verdict);
    put_json_number(&b, "nodes_up", view->n_up);
    put_json_number(&b, "groups_led", view->n_led);
    put_json_number(&b, "largest_lag", view->worst_lag);
    resp_bulk_str(&b, "nodes");
    resp_array(&b, view->n_members);
    for (uint32_t i = 0; i < view->n_members; i++) {
        const struct member *m = &view->members[i];
        resp_map(&b, 5);
        put_json_text(&b, "id", m->id);
        put_json_text(&b, "state", strcmp(m->state, "self") == 0 ? "up" : m->state);
        put_json_text(&b, "resp", m->address);
        put_json_number(&b, "groups_led", m->leads);
        put_json_number(&b, "silent_ms", m->silent_ms);
    }
    resp_bulk_str(&b, "groups");
    resp_array(&b, view->n_groups);
    for (uint32_t i = 0; i < view->n_groups; i++) {
        const struct group *g = &view->groups[i];
        resp_map(&b, 7);
        put_json_number(&b, "group", i);
        put_json_text(&b, "leader", g->leader);
        put_json_number(&b, "term", g->term);
        put_json_number(&b, "commit_index", g->commit);
        put_json_number(&b, "applied_index", g->applied);
        put_json_number(&b, "lag", g->worst_lag);
        put_json_text(&b, "why_no_leader", g->why);
    }
    output_json(c->out, buf_slice(&b));
    buf_fini(&b);
}

static void print_view(const struct cli *c, const struct view *view)
{
    if (c->opt.json) {
        print_json(c, view);
        return;
    }
    bool good = strncmp(view->verdict, "OK", 2) == 0;
    fprintf(c->out, "%s%s%s\n\n", c->color ? (good ? "\033[32m" : "\033[31m") : "", view->verdict, c->color ? "\033[0m" : "");
    print_members(c, view);
    fputc('\n', c->out);
    print_groups(c, view);
}

static int show_once(struct cli *c)
{
    struct view *view = calloc(1, sizeof *view);
    if (view == NULL) {
        return CLI_FAILED;
    }
    int code = look(c, view);
    if (code == CLI_OK) {
        print_view(c, view);
        code = view->n_groups > 0 && view->n_led == view->n_groups ? CLI_OK : CLI_NO_QUORUM;
    }
    free(view->groups);
    free(view);
    return code;
}

int cmd_status(struct cli *c)
{
    if (!c->opt.watch) {
        return show_once(c);
    }
    for (;;) {
        if (c->color && !c->opt.json) {
            fputs("\033[H\033[2J", c->out);
        }
        show_once(c);
        if (fflush(c->out) != 0) {
            return CLI_FAILED;
        }
        struct timespec t = {.tv_sec = (time_t)(c->opt.interval_ms / 1000), .tv_nsec = (long)(c->opt.interval_ms % 1000 * 1000000)};
        nanosleep(&t, NULL);
    }
}
