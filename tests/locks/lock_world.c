/* See lock_world.h. Tokens in the texts are log indexes (epoch 0), counted from 1 in each world. */
#include "lock_world.h"

#include "communication/resp.h"
#include "utils/assert.h"
#include "utils/limits.h"
#include "utils/mutant.h"

#include <stdio.h>
#include <stdlib.h>

enum { ORIGIN = 77, WORDS_MAX = 32 };

void world_init(struct world *w, uint32_t group)
{
    *w = (struct world){.opt = {.group = group, .hash_key = 11, .default_ttl_ms = 30000, .dedup_ms = 120000, .dedup_count = 1000, .retained_count = 4}};
    w->sm = lock_sm_new(&w->opt);
    w->time_ms = 1000;
    w->seq = 1;
    lock_out_init(&w->out);
    w->out.want_events = true;
}

void world_fini(struct world *w)
{
    for (int i = 0; i < WORLD_CLIENTS; i++) {
        buf_fini(&w->clients[i].last);
    }
    buf_fini(&w->text);
    lock_out_fini(&w->out);
    lock_sm_free(w->sm);
}

static struct world_client *client(struct world *w, const char *name)
{
    for (int i = 0; i < WORLD_CLIENTS; i++) {
        struct world_client *c = &w->clients[i];
        if (c->name[0] == '\0') {
            snprintf(c->name, sizeof c->name, "%s", name);
        }
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    syn_assert(!"too many clients");
    return NULL;
}

static uint64_t *session(struct world *w, const char *name)
{
    for (int i = 0; i < WORLD_SESSIONS; i++) {
        if (w->session_names[i][0] == '\0') {
            snprintf(w->session_names[i], sizeof w->session_names[i], "%s", name);
        }
        if (strcmp(w->session_names[i], name) == 0) {
            return &w->sessions[i];
        }
    }
    syn_assert(!"too many sessions");
    return NULL;
}

static struct world_client *client_of(struct world *w, struct request_id req)
{
    for (int i = 0; i < WORLD_CLIENTS; i++) {
        if (w->clients[i].req.seq == req.seq && w->clients[i].name[0] != '\0') {
            return &w->clients[i];
        }
    }
    return NULL;
}

static char mode_letter(slice_t mode)
{
    return mode.ptr[0] == 'S' ? 'S' : 'X';
}

static void put_granted(struct buf *out, slice_t map, const char *who)
{
    struct resp_value resource, mode, token, id, waited;
    bool ok = resp_map_get(map, "resource", &resource) && resp_map_get(map, "mode", &mode) && resp_map_get(map, "token", &token) &&
              resp_map_get(map, "lock_id", &id) && resp_map_get(map, "waited_ms", &waited);
    syn_assert(ok);
    char token_text[24];
    snprintf(token_text, sizeof token_text, "%lld", (long long)token.num);
    buf_printf(out, "%s granted %.*s %c token %s", who, (int)resource.str.len, (const char *)resource.str.ptr, mode_letter(mode.str), token_text);
    if (!slice_eq(id.str, slice_str(token_text))) {
        buf_printf(out, " lock_id %.*s", (int)id.str.len, (const char *)id.str.ptr);
    }
    if (waited.num > 0) {
        buf_printf(out, " waited %lld ms", (long long)waited.num);
    }
    buf_append_str(out, "\n");
}

static void put_reply(struct buf *out, const char *who, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct resp_value v;
    if (reply.len == 0 || resp_reply_size(reply) != reply.len || !resp_next(&r, &v)) {
        buf_printf(out, "%s %s\n", who, reply.len == 0 ? "needs to attach" : "NOT A REPLY");
        return;
    }
    if (v.type == RT_MAP && resp_map_get(reply, "freed", &v)) {
        buf_printf(out, "%s freed %lld\n", who, (long long)v.num);
    } else if (v.type == RT_MAP) {
        put_granted(out, reply, who);
    } else if (v.type == RT_ARRAY) {
        for (uint32_t i = 0; i < v.count; i++) {
            const uint8_t *at = r.p;
            bool ok = resp_skip(&r);
            syn_assert(ok);
            put_granted(out, slice_of(at, (size_t)(r.p - at)), who);
        }
    } else if (v.type == RT_INT) {
        buf_printf(out, "%s :%lld\n", who, (long long)v.num);
    } else {
        buf_printf(out, "%s %s%.*s\n", who, v.type == RT_ERROR ? "-" : "", (int)v.str.len, (const char *)v.str.ptr);
    }
}

void world_apply(struct world *w, slice_t op)
{
    lock_out_clear(&w->out);
    w->index++;
    lock_sm_apply(w->sm, w->index, 1, w->time_ms, op, &w->out);
    for (uint32_t i = 0; i < w->out.n_results; i++) {
        const struct lock_result *r = &w->out.results[i];
        struct world_client *c = client_of(w, r->req);
        if (c != NULL) {
            c->waiting = false;
        }
        put_reply(&w->text, c != NULL ? c->name : "?", lock_out_reply(&w->out, r));
    }
    if (!MUTANT("S48-phantom")) { /* its ghosts are no lawful state; what they do is to be seen, not their being there */
        lock_sm_check(w->sm);
    }
}

static void send(struct world *w, struct world_client *c, struct lock_op *op)
{
    op->req = (struct request_id){ORIGIN, w->seq++};
    op->low = op->req.seq;
    for (int i = 0; i < WORLD_CLIENTS; i++) {
        if (w->clients[i].waiting && w->clients[i].req.seq < op->low) {
            op->low = w->clients[i].req.seq;
        }
    }
    op->low = w->keep_answers ? 1 : op->low;
    c->req = op->req;
    c->waiting = true;
    buf_clear(&c->last);
    lock_op_encode(&c->last, op);
    world_apply(w, buf_slice(&c->last));
}

uint64_t world_lock_id(struct world *w, const char *resource, const char *owner)
{
    struct lock_query q = {.kind = LOCK_Q_INFO, .resource = slice_str(resource)};
    slice_t reply = world_query(w, &q);
    struct reader r = reader_of(reply);
    struct resp_value v, who, id;
    uint64_t found = 0;
    for (int i = 0; i < 9 && resp_next(&r, &v); i++) {
    }
    bool ok = resp_next(&r, &v) && resp_next(&r, &v);
    syn_assert(ok && v.type == RT_ARRAY);
    for (uint32_t i = 0; i < v.count; i++) {
        const uint8_t *at = r.p;
        ok = resp_skip(&r);
        slice_t map = slice_of(at, (size_t)(r.p - at));
        ok = ok && resp_map_get(map, "owner", &who) && resp_map_get(map, "lock_id", &id);
        syn_assert(ok);
        if (slice_eq(who.str, slice_str(owner))) {
            char text[24];
            snprintf(text, sizeof text, "%.*s", (int)id.str.len, (const char *)id.str.ptr);
            found = strtoull(text, NULL, 10);
        }
    }
    return found;
}

static void put_options(struct world *w, struct lock_op *op, char **words, int n)
{
    for (int i = 0; i < n; i++) {
        bool value = i + 1 < n;
        if (strcmp(words[i], "wait") == 0 && !(value && words[i + 1][0] >= '0' && words[i + 1][0] <= '9')) {
            op->wait_ms = LOCK_WAIT_FOREVER;
            continue;
        }
        syn_assert(value);
        uint64_t number = strtoull(words[i + 1], NULL, 10);
        slice_t text = slice_str(words[i + 1]);
        op->wait_ms = strcmp(words[i], "wait") == 0 ? number : op->wait_ms;
        op->ttl_ms = strcmp(words[i], "ttl") == 0 ? number : op->ttl_ms;
        op->maxhold_ms = strcmp(words[i], "maxhold") == 0 ? number : op->maxhold_ms;
        op->idem = strcmp(words[i], "idem") == 0 ? text : op->idem;
        op->meta = strcmp(words[i], "meta") == 0 ? text : op->meta;
        op->owner = strcmp(words[i], "owner") == 0 ? text : op->owner;
        op->session = strcmp(words[i], "session") == 0 ? *session(w, words[i + 1]) : op->session;
        i++;
    }
}

static enum lock_mode mode_of(const char *word)
{
    syn_assert(strcmp(word, "X") == 0 || strcmp(word, "S") == 0);
    return word[0] == 'X' ? LOCK_EXCLUSIVE : LOCK_SHARED;
}

static void do_acquire(struct world *w, struct world_client *c, char **words, int n)
{
    slice_t names[LIMIT_ACQUIREALL_NAMES];
    struct lock_op op = {.kind = LOCK_OP_ACQUIRE, .resources = names, .mode = mode_of(words[1]), .owner = slice_str(c->name)};
    char *save = NULL;
    for (char *name = strtok_r(words[0], "+", &save); name != NULL; name = strtok_r(NULL, "+", &save)) {
        names[op.n++] = slice_str(name);
    }
    put_options(w, &op, words + 2, n - 2);
    send(w, c, &op);
}

static void do_held(struct world *w, struct world_client *c, enum lock_op_kind kind, char **words, int n)
{
    slice_t name = slice_str(words[0]);
    struct lock_op op = {.kind = kind, .n = 1, .resources = &name};
    int at = 1;
    if (kind == LOCK_OP_CONVERT) {
        op.mode = mode_of(words[at++]);
    }
    if (kind == LOCK_OP_FORCE) {
        op.reason = slice_str(words[at++]);
    } else {
        bool given = n > at && words[at][0] >= '0' && words[at][0] <= '9';
        op.lock_id = given ? strtoull(words[at++], NULL, 10) : world_lock_id(w, words[0], c->name);
    }
    put_options(w, &op, words + at, n - at);
    send(w, c, &op);
}

static void do_session(struct world *w, enum lock_op_kind kind, char **words, int n)
{
    struct lock_op op = {.kind = kind, .session = kind == LOCK_OP_SESSION_CREATE ? 0 : *session(w, words[1])};
    op.owner = kind == LOCK_OP_SESSION_CREATE ? slice_str(words[1]) : SLICE_NONE;
    if (kind == LOCK_OP_SESSION_ATTACH || kind == LOCK_OP_SESSION_DETACHED) {
        op.group = (uint32_t)atoi(words[2]);
    } else {
        put_options(w, &op, words + 2, n - 2);
    }
    if (kind == LOCK_OP_SESSION_ADOPT && op.session == 0) {
        op.session = *session(w, words[1]) = 1000000 + w->seq;
    }
    send(w, client(w, "session"), &op);
    if (kind == LOCK_OP_SESSION_CREATE) {
        *session(w, words[1]) = w->index;
    }
}

static void do_time(struct world *w, uint64_t ms)
{
    struct buf due = {0};
    w->time_ms += ms;
    while (lock_sm_due(w->sm, w->time_ms, 2, &due)) {
        world_apply(w, buf_slice(&due));
        buf_clear(&due);
    }
    buf_fini(&due);
}

static bool do_global(struct world *w, char **words, int n)
{
    static const struct {
        const char *word;
        enum lock_op_kind kind;
    } sessions[] = {{"session", LOCK_OP_SESSION_CREATE}, {"keepalive", LOCK_OP_SESSION_KEEPALIVE}, {"end", LOCK_OP_SESSION_END},
                    {"drop", LOCK_OP_SESSION_DROP},      {"adopt", LOCK_OP_SESSION_ADOPT},         {"attach", LOCK_OP_SESSION_ATTACH},
                    {"detached", LOCK_OP_SESSION_DETACHED}};
    for (size_t i = 0; i < sizeof sessions / sizeof sessions[0]; i++) {
        if (strcmp(words[0], sessions[i].word) == 0) {
            do_session(w, sessions[i].kind, words, n);
            return true;
        }
    }
    if (strcmp(words[0], "time") == 0) {
        do_time(w, strtoull(words[1], NULL, 10));
    } else if (strcmp(words[0], "gone") == 0) {
        struct lock_op op = {.kind = LOCK_OP_ORIGIN_GONE, .req = {1, w->seq++}, .target = {.origin = ORIGIN}};
        struct buf b = {0};
        lock_op_encode(&b, &op);
        world_apply(w, buf_slice(&b));
        buf_fini(&b);
    } else {
        return false;
    }
    return true;
}

static void do_cancel(struct world *w, struct world_client *c)
{
    struct lock_op op = {.kind = LOCK_OP_CANCEL, .req = {ORIGIN, w->seq++}, .target = c->req};
    struct buf b = {0};
    lock_op_encode(&b, &op);
    world_apply(w, buf_slice(&b));
    buf_fini(&b);
    c->waiting = false;
}

const char *world_do(struct world *w, const char *line)
{
    char copy[512], *words[WORDS_MAX], *save = NULL;
    int n = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok_r(copy, " ", &save); word != NULL && n < WORDS_MAX; word = strtok_r(NULL, " ", &save)) {
        words[n++] = word;
    }
    buf_clear(&w->text);
    if (n > 0 && !do_global(w, words, n)) {
        struct world_client *c = client(w, words[0]);
        const char *verb = words[1];
        if (strcmp(verb, "acquire") == 0) {
            do_acquire(w, c, words + 2, n - 2);
        } else if (strcmp(verb, "cancel") == 0) {
            do_cancel(w, c);
        } else if (strcmp(verb, "retry") == 0) {
            world_apply(w, buf_slice(&c->last));
        } else {
            enum lock_op_kind kind = strcmp(verb, "release") == 0   ? LOCK_OP_RELEASE
                                     : strcmp(verb, "renew") == 0   ? LOCK_OP_RENEW
                                     : strcmp(verb, "convert") == 0 ? LOCK_OP_CONVERT
                                                                    : LOCK_OP_FORCE;
            do_held(w, c, kind, words + 2, n - 2);
        }
    }
    buf_put_u8(&w->text, 0);
    w->text.len--;
    return (const char *)w->text.ptr;
}

slice_t world_query(struct world *w, const struct lock_query *q)
{
    buf_clear(&w->out.replies);
    lock_sm_query(w->sm, w->time_ms, q, &w->out.replies);
    return buf_slice(&w->out.replies);
}

uint64_t world_token(struct world *w, const char *resource)
{
    struct lock_query q = {.kind = LOCK_Q_INFO, .resource = slice_str(resource)};
    struct resp_value v;
    bool ok = resp_map_get(world_query(w, &q), "token", &v);
    syn_assert(ok);
    return (uint64_t)v.num;
}

static void show_rows(struct reader *r, bool holders, struct buf *out)
{
    struct resp_value v, owner, x;
    bool ok = resp_next(r, &v) && resp_next(r, &v);
    syn_assert(ok && v.type == RT_ARRAY);
    for (uint32_t i = 0; i < v.count; i++) {
        const uint8_t *at = r->p;
        ok = resp_skip(r);
        slice_t map = slice_of(at, (size_t)(r->p - at));
        ok = ok && resp_map_get(map, "owner", &owner) && resp_map_get(map, holders ? "count" : "mode", &x);
        syn_assert(ok);
        buf_printf(out, "%s %.*s", i == 0 && !holders ? ", waiting" : "", (int)owner.str.len, (const char *)owner.str.ptr);
        if (!holders) {
            buf_printf(out, ":%c", mode_letter(x.str));
        } else if (x.num > 1) {
            buf_printf(out, "*%lld", (long long)x.num);
        }
    }
}

void world_show(struct world *w, const char *resource, struct buf *out)
{
    struct lock_query q = {.kind = LOCK_Q_INFO, .resource = slice_str(resource)};
    slice_t reply = world_query(w, &q);
    struct resp_value state;
    struct reader r = reader_of(reply);
    bool ok = resp_map_get(reply, "state", &state);
    syn_assert(ok);
    buf_printf(out, "%s %s", resource, state.str.ptr[0] == 'F' ? "free" : state.str.ptr[0] == 'S' ? "S" : "X");
    for (int i = 0; i < 9; i++) {
        struct resp_value v;
        ok = resp_next(&r, &v);
        syn_assert(ok);
    }
    show_rows(&r, true, out);
    show_rows(&r, false, out);
}

void world_snapshot(struct world *w, struct buf *out)
{
    lock_sm_snapshot_begin(w->sm);
    while (!lock_sm_snapshot_step(w->sm, 256, out)) {
    }
}

void world_reincarnate(struct world *w, size_t piece_bytes, uint64_t hash_key)
{
    struct buf snap = {0};
    world_snapshot(w, &snap);
    uint64_t hash = lock_sm_state_hash(w->sm), digest = lock_sm_digest(w->sm);
    lock_sm_free(w->sm);
    w->opt.hash_key = hash_key;
    w->sm = lock_sm_new(&w->opt);
    for (size_t at = 0; at < snap.len; at += piece_bytes) {
        size_t n = snap.len - at < piece_bytes ? snap.len - at : piece_bytes;
        bool ok = lock_sm_restore_piece(w->sm, slice_of(snap.ptr + at, n));
        syn_assert(ok);
    }
    bool ok = lock_sm_restore_end(w->sm);
    syn_assert(ok);
    syn_assert(lock_sm_state_hash(w->sm) == hash && lock_sm_digest(w->sm) == digest);
    lock_sm_check(w->sm);
    buf_fini(&snap);
}
