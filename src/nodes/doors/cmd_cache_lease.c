/* CACHE.LEASE, and SET with FILL: words, options, and the entries of a right's end, by its fill or by ABANDON (docs/cache.md, "Filling a miss").
 *
 * Not here: who waits for a right (cache_lease.c). */
#include "nodes/doors/cache_lease.h"
#include "nodes/doors/cmd.h"

#include "utils/limits.h"

#include <stdlib.h>

enum { FILL_MS = 5000 };

static bool lease_words(struct call *c, struct lease_words *o)
{
    const struct { const char *word; uint64_t *to, min, max; } words[] = {
        {"WAIT", &o->wait_ms, 0, LIMIT_WAIT_MS_MAX}, {"STALE", &o->stale_ms, 0, LIMIT_TTL_MS}, {"FILL", &o->fill_ms, 1, CACHE_FILL_MS_MAX}, {"ABANDON", &o->token, 0, UINT64_MAX}};
    for (uint32_t i = 2; i < c->argc; i += 2) {
        uint32_t k = 0;
        while (k < 4 && !slice_ieq(c->argv[i], words[k].word)) {
            k++;
        }
        if (k == 4 || i + 1 == c->argc || (k == 3 && c->argc != 4)) {
            call_error(c, "ERR", "syntax error: CACHE.LEASE key [WAIT ms] [STALE ms] [FILL ms], or CACHE.LEASE key ABANDON token");
            return false;
        }
        if (!arg_u64(c, c->argv[i + 1], words[k].word, words[k].min, words[k].max, words[k].to)) {
            return false;
        }
        o->abandon |= k == 3;
    }
    return true;
}

void lease_put_fill(struct buf *out, enum cache_multi multi, uint64_t wall_ms, slice_t key, uint64_t token, slice_t op)
{
    struct buf o = {0};
    buf_put_u64(&o, token);
    buf_append_slice(&o, op);
    buf_put_u8(out, (uint8_t)multi);
    buf_put_u64(out, wall_ms);
    buf_put_u32(out, 1);
    cache_put_op(out, key, buf_slice(&o));
    buf_fini(&o);
}

static void done_fill(struct node *n, struct request *r, slice_t reply)
{
    struct reader in = reader_of(reply);
    if (reply.len > 0 && reply.ptr[0] == '-') {
        door_done(n, r, reply);
        return;
    }
    reader_u64(&in), reader_u32(&in);
    slice_t resp = reader_bytes(&in);
    door_done(n, r, in.ok ? resp : slice_str(ANSWER_NOT_UNDERSTOOD));
}

static void submit_fill(struct call *c, enum cache_multi multi, uint64_t token, slice_t op)
{
    if (!call_alone(c)) {
        return;
    }
    struct request *r = call_request(c, cache_group(c->n, c->argv[1]), REQUEST_WRITE, false);
    r->done = done_fill;
    buf_put_u8(&r->payload, SERVICE_CACHE);
    cache_put_head(&r->payload, CACHE_ENTRY_ATOMIC, request_id_of(c->n, r), request_low(c->n, r->group, false));
    lease_put_fill(&r->payload, multi, c->n->wall_ms, c->argv[1], token, op);
    call_submit(c, r);
}

static bool answered_here(struct call *c, slice_t key)
{
    struct cache_item item;
    struct cache_place at = cache_place(c->n, key);
    if (!cacher_hit(c->n->cache.cacher, at, key, &item) || !item.exists) {
        return false;
    }
    struct buf value = {0};
    resp_bulk(&value, item.value);
    lease_put_hit(c->n, c->reply, at.group, key, buf_slice(&value));
    buf_fini(&value);
    if (track_wants(c->conn)) {
        track_read(c->n, c->conn, key);
    }
    return true;
}

void handle_cache_lease(struct call *c)
{
    struct lease_words o = {.fill_ms = FILL_MS};
    if (!cache_key_ok(c, c->argv[1]) || !lease_words(c, &o)) {
        return;
    }
    if (o.abandon) {
        submit_fill(c, CACHE_MULTI_ABANDON, o.token, SLICE_NONE);
        return;
    }
    if (!answered_here(c, c->argv[1])) {
        lease_join(c, &o);
    }
}

/* Where FILL stands among SET's options; 0: nowhere. Words behind others may be anything. */
static uint32_t find_fill(const slice_t *argv, uint32_t argc)
{
    static const struct { const char *word; uint32_t words; } skipped[] = {{"EX", 1}, {"PX", 1}, {"EXAT", 1}, {"PXAT", 1}, {"IFEQ", 1}, {"IFNE", 1}, {"FENCE", 2}};
    for (uint32_t i = 3; i < argc; i++) {
        if (slice_ieq(argv[i], "FILL")) {
            return i;
        }
        for (size_t k = 0; k < sizeof skipped / sizeof skipped[0]; k++) {
            if (slice_ieq(argv[i], skipped[k].word)) {
                i += skipped[k].words;
                break;
            }
        }
    }
    return 0;
}

/* SET; with FILL it is an entry of its own, which memory judges: a line knows of no rights. */
void handle_cache_set(struct call *c)
{
    uint32_t at = find_fill(c->argv, c->argc);
    uint64_t token;
    if (at == 0) {
        handle_cache_op(c);
        return;
    }
    if (at + 1 == c->argc) {
        call_error(c, "ERR", "syntax error: FILL token, the token that CACHE.LEASE gave");
        return;
    }
    if (!cache_key_ok(c, c->argv[1]) || !arg_u64(c, c->argv[at + 1], "the token of FILL", 0, UINT64_MAX, &token)) {
        return;
    }
    slice_t *argv = malloc(c->argc * sizeof *argv);
    struct buf op = {0};
    enum cache_access access;
    syn_assert(argv != NULL);
    memcpy(argv, c->argv, at * sizeof *argv);
    memcpy(argv + at, c->argv + at + 2, (c->argc - at - 2) * sizeof *argv);
    if (cache_op_encode(argv, c->argc - 2, &op, &access, c->reply)) {
        submit_fill(c, CACHE_MULTI_FILL, token, buf_slice(&op));
    }
    buf_fini(&op);
    free(argv);
}
