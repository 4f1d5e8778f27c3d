/* SCAN, KEYS, RANDOMKEY and DBSIZE: what the groups' memories have, asked of one leader after the other. With write-back a key that only its owner has is not
 * among them until it is flushed. */
#include "nodes/doors/cache_door.h"
#include "nodes/doors/cmd.h"

#include "utils/glob.h"
#include "utils/limits.h"

#include <stdio.h>
#include <stdlib.h>

enum { SCAN_PAGE = 5000, SCAN_COUNT = 10 };

enum keys_kind { KEYS_ALL, KEYS_SCAN, KEYS_COUNT, KEYS_RANDOM };

/* One command's way through the groups. */
struct keys_walk {
    struct list link;
    enum keys_kind kind;
    conn_id_t conn;
    uint64_t slot;
    uint32_t group, asked;
    uint64_t cursor;
    uint32_t count;
    bool no_type;               /* SCAN ... TYPE something else */
    bool by_match;              /* the empty pattern matches the empty key */
    struct buf match;
    uint64_t found;
    struct buf out;
};

static void walk_ask(struct node *n, struct keys_walk *w);

static void walk_free(struct keys_walk *w)
{
    list_remove(&w->link);
    buf_fini(&w->match);
    buf_fini(&w->out);
    free(w);
}

void keys_walks_free(struct doors *d)
{
    while (!list_empty(&d->keys_walks)) {
        walk_free(CONTAINER_OF(d->keys_walks.next, struct keys_walk, link));
    }
}

static void walk_end(struct node *n, struct keys_walk *w, slice_t error)
{
    struct buf out = {0};
    struct conn *conn = conn_find(n, w->conn);
    if (error.len > 0) {
        buf_append_slice(&out, error);
    } else if (w->kind == KEYS_COUNT) {
        resp_int(&out, (int64_t)w->found);
    } else if (w->kind == KEYS_RANDOM) {
        w->found > 0 ? buf_append_slice(&out, buf_slice(&w->out)) : resp_null(&out);
    } else {
        if (w->kind == KEYS_SCAN) {
            char next[24];
            uint64_t cursor = w->group < n->opt.groups ? w->cursor * n->opt.groups + w->group : 0;
            int len = snprintf(next, sizeof next, "%llu", (unsigned long long)cursor);
            resp_array(&out, 2);
            resp_bulk(&out, slice_of(next, (size_t)len));
        }
        resp_array(&out, (uint32_t)w->found);
        buf_append_slice(&out, buf_slice(&w->out));
    }
    if (conn != NULL) {
        conn_reply(n, conn, w->slot, buf_slice(&out));
    }
    buf_fini(&out);
    walk_free(w);
}

static bool take_keys(struct keys_walk *w, struct reader *r)
{
    w->cursor = reader_u64(r);
    uint32_t n = reader_u32(r);
    for (uint32_t i = 0; i < n && r->ok; i++) {
        slice_t key = reader_bytes(r);
        if (w->kind == KEYS_RANDOM && w->found > 0) {
            continue;
        }
        if (!w->no_type && (!w->by_match || glob_match(buf_slice(&w->match), key))) {
            resp_bulk(&w->out, key);
            w->found++;
        }
    }
    return r->ok;
}

/* True: the walk is over. */
static bool walk_take(struct node *n, struct keys_walk *w, struct reader *r)
{
    if (w->kind == KEYS_COUNT) {
        w->found += reader_u64(r);
        w->group++;
        return w->group == n->opt.groups;
    }
    if (!take_keys(w, r)) {
        return true;
    }
    if (w->kind == KEYS_RANDOM) { /* once round, and what is before the place where it began */
        w->group = w->cursor == 0 ? (w->group + 1) % n->opt.groups : w->group;
        w->asked += w->cursor == 0;
        return w->found > 0 || w->asked > n->opt.groups;
    }
    w->group += w->cursor == 0;
    bool enough = w->kind == KEYS_SCAN;
    return enough || w->group == n->opt.groups;
}

static void walk_done(struct node *n, struct request *r, slice_t reply)
{
    struct keys_walk *w = (struct keys_walk *)(uintptr_t)r->arg;
    if (reply.len == 0 || reply.ptr[0] == '-') {
        walk_end(n, w, reply.len > 0 ? reply : slice_str("-ERR the leader's answer was not understood (mixed versions?)\r\n"));
        return;
    }
    struct reader in = reader_of(slice_of(reply.ptr + 1, reply.len - 1));
    if (walk_take(n, w, &in) || conn_find(n, w->conn) == NULL || w->out.len > LIMIT_FRAME_BYTES) {
        walk_end(n, w, w->out.len > LIMIT_FRAME_BYTES ? slice_str("-LIMIT the reply would be too large: use SCAN\r\n") : SLICE_NONE);
    } else {
        walk_ask(n, w);
    }
}

static void walk_ask(struct node *n, struct keys_walk *w)
{
    struct request *r = request_new(n, w->group, REQUEST_READ, false, walk_done);
    r->arg = (uint64_t)(uintptr_t)w;
    buf_put_u8(&r->payload, SERVICE_CACHE);
    buf_put_u8(&r->payload, w->kind == KEYS_COUNT ? CACHE_QUERY_COUNT : CACHE_QUERY_SCAN);
    if (w->kind != KEYS_COUNT) {
        buf_put_u64(&r->payload, w->cursor);
        buf_put_u32(&r->payload, w->kind == KEYS_SCAN ? w->count : w->kind == KEYS_RANDOM ? 1 : SCAN_PAGE);
    }
    request_submit(n, r);
}

static struct keys_walk *walk_new(struct call *c, enum keys_kind kind)
{
    struct keys_walk *w = calloc(1, sizeof *w);
    syn_assert(w != NULL);
    *w = (struct keys_walk){.kind = kind, .conn = c->conn->id, .slot = c->slot};
    list_push_back(&c->n->doors->keys_walks, &w->link);
    c->later = true;
    return w;
}

void handle_dbsize(struct call *c)
{
    walk_ask(c->n, walk_new(c, KEYS_COUNT));
}

void handle_keys(struct call *c)
{
    struct keys_walk *w = walk_new(c, KEYS_ALL);
    w->by_match = true;
    buf_append_slice(&w->match, c->argv[1]);
    walk_ask(c->n, w);
}

/* Some key: the first from a random place on. */
void handle_randomkey(struct call *c)
{
    struct keys_walk *w = walk_new(c, KEYS_RANDOM);
    w->group = (uint32_t)prng_range(&c->n->prng, 0, c->n->opt.groups - 1);
    w->cursor = prng_u64(&c->n->prng) & UINT32_MAX;
    walk_ask(c->n, w);
}

static bool scan_cursor(slice_t s, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9' || *out > (UINT64_MAX - 9) / 10) {
            return false;
        }
        *out = *out * 10 + (uint64_t)(s.ptr[i] - '0');
    }
    return s.len > 0;
}

void handle_scan(struct call *c)
{
    uint64_t cursor, count = SCAN_COUNT;
    slice_t match = SLICE_NONE;
    bool no_type = false, by_match = false;
    if (!scan_cursor(c->argv[1], &cursor)) {
        call_error(c, "ERR", "invalid cursor");
        return;
    }
    for (uint32_t i = 2; i < c->argc; i += 2) {
        bool has = i + 1 < c->argc;
        if (has && slice_ieq(c->argv[i], "MATCH")) {
            match = c->argv[i + 1];
            by_match = true;
        } else if (has && slice_ieq(c->argv[i], "COUNT")) {
            bool below = c->argv[i + 1].len > 1 && c->argv[i + 1].ptr[0] == '-';
            if (!scan_cursor(slice_of(c->argv[i + 1].ptr + below, c->argv[i + 1].len - below), &count) || count > INT64_MAX) {
                call_error(c, "ERR", "value is not an integer or out of range");
                return;
            }
            if (below || count == 0) {
                call_error(c, "ERR", "syntax error");
                return;
            }
        } else if (has && slice_ieq(c->argv[i], "TYPE")) {
            no_type = !slice_ieq(c->argv[i + 1], "string");
        } else {
            call_error(c, "ERR", "syntax error");
            return;
        }
    }
    struct keys_walk *w = walk_new(c, KEYS_SCAN);
    w->group = (uint32_t)(cursor % c->n->opt.groups);
    w->cursor = cursor / c->n->opt.groups;
    w->count = count < SCAN_PAGE ? (uint32_t)count : SCAN_PAGE;
    w->no_type = no_type;
    w->by_match = by_match;
    buf_append_slice(&w->match, match);
    walk_ask(c->n, w);
}
