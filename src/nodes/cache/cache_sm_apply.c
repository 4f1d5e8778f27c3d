/* What an entry does to memory: batches of ops, flushes, fences, holders, expiries, clearing; and requests that come again.
 *
 * An entry is looked through to its end before any of it is done: damaged bytes change nothing. A request with a record is answered from it (R15).
 * MC8: a flush is taken while the key's version is the one that its owner was granted. Of a key that is absent that is the version it had when it went; for
 * one that has expired, the version of what expired, so that an owner's newer value outlives it. */
#include "nodes/cache/cache_sm_internal.h"

#include "communication/resp.h"
#include "utils/hash.h"
#include "utils/limits.h"
#include "utils/mutant.h"

#include <stdio.h>
#include <stdlib.h>

enum { BATCH_FETCH = 16 };

struct entry {
    enum cache_entry_kind kind;
    struct request_id req;
    uint64_t low;
    struct reader body;
};

static struct cache_result *add_result(struct cache_sm *m, struct request_id req)
{
    struct cache_out *o = m->out;
    if (o->n_results == o->cap_results) {
        o->cap_results = o->cap_results ? o->cap_results * 2 : 16;
        o->results = realloc(o->results, o->cap_results * sizeof *o->results);
        syn_assert(o->results != NULL);
    }
    syn_assert(o->replies.len <= UINT32_MAX);
    struct cache_result *r = &o->results[o->n_results++];
    *r = (struct cache_result){.req = req, .reply_off = (uint32_t)o->replies.len, .first_touched = o->n_touched};
    return r;
}

void sm_touched(struct cache_sm *m, slice_t key, uint64_t version, bool exists)
{
    struct cache_out *o = m->out;
    if (o->n_touched == o->cap_touched) {
        o->cap_touched = o->cap_touched ? o->cap_touched * 2 : 16;
        o->touched = realloc(o->touched, o->cap_touched * sizeof *o->touched);
        syn_assert(o->touched != NULL);
    }
    o->touched[o->n_touched++] = (struct cache_touched){.key = slice_of(NULL, key.len), .version = version, .exists = exists};
    buf_append_slice(&m->names, key);
}

/* names may have moved while it grew: keys are pointed into it when an entry is done. */
static void point_at_names(struct cache_sm *m, uint32_t first)
{
    const uint8_t *at = m->names.ptr;
    for (uint32_t i = first; i < m->out->n_touched && at != NULL; i++) { /* NULL: all of them are the empty key */
        m->out->touched[i].key.ptr = at;
        at += m->out->touched[i].key.len;
    }
}

static void put_versions(struct buf *out, uint64_t before, uint64_t version, bool exists)
{
    buf_put_u64(out, before);
    buf_put_u64(out, version);
    buf_put_u8(out, exists);
}

/* A reply that is all there is of a result. */
static void answer(struct cache_sm *m, const char *resp, uint64_t before, uint64_t version, bool exists)
{
    buf_put_u32(&m->out->replies, 1);
    buf_put_bytes(&m->out->replies, slice_str(resp));
    put_versions(&m->out->replies, before, version, exists);
}

/* The item after the change; false: it stays as it was. */
static bool changed_item(const struct cache_change *ch, struct cache_item *item)
{
    switch (ch->kind) {
    case CACHE_KEEP: break;
    case CACHE_PUT:
        item->exists = true;
        item->value = buf_slice(&ch->value);
        item->expire_ms = ch->expire_ms;
        break;
    case CACHE_EXPIRE: item->expire_ms = ch->expire_ms; break;
    case CACHE_DELETE:
        item->exists = false;
        item->value = SLICE_NONE;
        item->expire_ms = 0;
        break;
    }
    if (ch->guarded) {
        item->guard = ch->guard;
        item->token = ch->token;
    }
    return ch->kind != CACHE_KEEP || ch->guarded;
}

void sm_say_full(struct buf *out)
{
    resp_error(out, "OOM", "command not allowed when used memory > 'maxmemory'.");
}

/* *at: the key's cell, before and after. */
static bool run_on(struct cache_sm *m, struct cell **at, const struct batch_op *o, uint64_t wall_ms, struct buf *out)
{
    struct cell *c = *at;
    struct cache_item item = c != NULL ? cell_item(c) : (struct cache_item){0};
    size_t start = out->len;
    cache_op_run(o->op, &item, (struct cache_clock){m->now_ms, wall_ms}, &m->change, out);
    if (cache_op_ends_fill(o->op)) {
        sm_fill_end(m, o->key); /* F2: whether it found anything to do or not */
    }
    if (!changed_item(&m->change, &item)) {
        return false;
    }
    if (m->change.kind == CACHE_PUT && !sm_has_room(m, c != NULL ? cell_cost(c) : 0, item_cost(o->key, &item))) {
        out->len = start;
        sm_say_full(out);
        return false;
    }
    *at = sm_put(m, c, o->key, &item, m->index);
    sm_touched(m, o->key, m->index, item.exists);
    return true;
}

bool sm_run(struct cache_sm *m, const struct batch_op *o, uint64_t wall_ms, struct buf *out)
{
    struct cell *c = sm_cell(m, o->key);
    return run_on(m, &c, o, wall_ms, out);
}

static bool batch_valid(struct reader r)
{
    struct batch_op o;
    reader_u64(&r);
    uint32_t n = reader_u32(&r);
    if (!r.ok || n == 0 || n > reader_left(&r) / 8) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!next_op(&r, &o) || !cache_op_valid(o.op)) {
            return false;
        }
    }
    return reader_done(&r);
}

static void batch_op_run(struct cache_sm *m, const struct batch_op *o, uint64_t hash, uint64_t wall_ms, struct buf *out)
{
    struct cell **found = table_find_hashed(m->table, hash, o->key), *c = found != NULL ? *found : NULL;
    uint64_t before = sm_version(m, o->key, c);
    buf_put_u32(out, 0);
    size_t at = out->len;
    bool changed = run_on(m, &c, o, wall_ms, out);
    le32_put(out->ptr + at - 4, (uint32_t)(out->len - at));
    put_versions(out, before, changed ? m->index : before, c != NULL && cell_lives(c, m->now_ms));
}

/* A few ops at a time, whose keys are fetched together: in a memory larger than the processor's caches each would wait for it twice. */
static void batch_run(struct cache_sm *m, struct reader r)
{
    struct buf *out = &m->out->replies;
    struct batch_op ops[BATCH_FETCH];
    uint64_t hashes[BATCH_FETCH], wall_ms = reader_u64(&r);
    uint32_t left = reader_u32(&r);
    buf_put_u32(out, left);
    while (left > 0) {
        uint32_t n = left < BATCH_FETCH ? left : BATCH_FETCH;
        for (uint32_t i = 0; i < n; i++) {
            bool ok = next_op(&r, &ops[i]);
            syn_assert(ok); /* batch_valid */
            hashes[i] = table_hash(m->table, ops[i].key);
        }
        table_fetch_buckets(m->table, hashes, n);
        table_fetch_cells(m->table, hashes, n);
        for (uint32_t i = 0; i < n; i++) {
            batch_op_run(m, &ops[i], hashes[i], wall_ms, out);
        }
        left -= n;
    }
}

static void atomic_run(struct cache_sm *m, struct reader r)
{
    struct buf *out = &m->out->replies;
    buf_put_u32(out, 1);
    buf_put_u32(out, 0);
    size_t at = out->len;
    bool changed = multi_run(m, r, out);
    le32_put(out->ptr + at - 4, (uint32_t)(out->len - at));
    put_versions(out, 0, changed ? m->index : 0, changed);
}

struct flush { slice_t key; uint64_t base; struct cache_item item; };

static bool get_flush(struct reader r, struct flush *f)
{
    f->key = reader_bytes(&r);
    f->base = reader_u64(&r);
    return cache_get_item(&r, &f->item) && reader_done(&r) && f->key.len <= LIMIT_KEY_BYTES && f->item.value.len <= LIMIT_COMMAND_BYTES;
}

/* An owner's value was acknowledged to its client: the bound of memory does not refuse it. */
static void flush_run(struct cache_sm *m, const struct flush *f)
{
    struct cell *c = sm_cell(m, f->key);
    uint64_t version = sm_version(m, f->key, c);
    bool fits = f->base < m->index && (c != NULL ? f->base == version : f->base >= version);
    if (!fits && !MUTANT("S64")) {
        m->stats.flushes_refused++;
        answer(m, "-STALE memory has a newer version\r\n", version, 0, c != NULL && cell_lives(c, m->now_ms));
        return;
    }
    sm_put(m, c, f->key, &f->item, m->index);
    sm_touched(m, f->key, m->index, f->item.exists);
    answer(m, "+OK\r\n", version, m->index, f->item.exists);
}

static bool get_fence(struct reader r, slice_t *key)
{
    *key = reader_bytes(&r);
    return reader_done(&r) && key->len <= LIMIT_KEY_BYTES;
}

static void fence_run(struct cache_sm *m, slice_t key)
{
    struct cell *c = sm_cell(m, key);
    uint64_t before = sm_version(m, key, c);
    struct cache_item item = c != NULL ? cell_item(c) : (struct cache_item){0};
    bool lives = c != NULL && cell_lives(c, m->now_ms);
    sm_put(m, c, key, &item, m->index);
    sm_touched(m, key, m->index, lives);
    answer(m, "+OK\r\n", before, m->index, lives);
}

/* Its reply is no RESP. */
static void lease_run(struct cache_sm *m, struct reader r)
{
    struct buf *out = &m->out->replies;
    struct cache_lease_ask a;
    bool ok = get_lease(r, &a);
    syn_assert(ok);
    buf_put_u32(out, 1);
    buf_put_u32(out, 0);
    size_t at = out->len;
    sm_lease_run(m, &a, out);
    le32_put(out->ptr + at - 4, (uint32_t)(out->len - at));
    put_versions(out, 0, 0, false);
}

/* A due key keeps its version: what an owner has that was granted this value, without its expiry, may still come. */
static void due_run(struct cache_sm *m, uint64_t due_ms)
{
    uint64_t until_ms = due_ms < m->now_ms ? due_ms : m->now_ms;
    uint32_t n = 0;
    for (; n < CACHE_DUE_MAX && cache_sm_next_due_ms(m) <= until_ms; n++) {
        struct cell *c = m->due.entries[0].cell;
        struct cache_item item = cell_item(c);
        uint64_t version = c->version;
        item.exists = false;
        item.expire_ms = 0;
        item.value = SLICE_NONE;
        sm_touched(m, cell_key(c), version, false);
        sm_put(m, c, cell_key(c), &item, version);
        m->stats.expired++;
    }
    char reply[32];
    snprintf(reply, sizeof reply, ":%u\r\n", n);
    answer(m, reply, 0, 0, false);
}

static bool get_entry(slice_t bytes, struct entry *e)
{
    *e = (struct entry){.body = reader_of(bytes)};
    struct reader *r = &e->body;
    e->kind = reader_u8(r);
    if (!cache_entry_is_bare(e->kind)) {
        e->req.origin = reader_u64(r);
        e->req.seq = reader_u64(r);
        e->low = reader_u64(r);
    }
    return r->ok && e->kind > 0 && e->kind < CACHE_ENTRY_MAX;
}

/* The whole body is what the kind says. */
static bool is_valid(const struct entry *e)
{
    struct reader r = e->body;
    struct flush f;
    struct cache_lease_ask a;
    slice_t key;
    switch (e->kind) {
    case CACHE_ENTRY_BATCH: return batch_valid(r);
    case CACHE_ENTRY_ATOMIC: return multi_valid(r);
    case CACHE_ENTRY_FLUSH: return get_flush(r, &f);
    case CACHE_ENTRY_FENCE:
    case CACHE_ENTRY_UNFILL: return get_fence(r, &key);
    case CACHE_ENTRY_LEASE: return get_lease(r, &a);
    case CACHE_ENTRY_HOLD:
    case CACHE_ENTRY_UNHOLD: reader_u32(&r); return reader_done(&r);
    case CACHE_ENTRY_DUE:
    case CACHE_ENTRY_BOUND: reader_u64(&r); return reader_done(&r);
    case CACHE_ENTRY_CLEAR: return reader_done(&r);
    case CACHE_ENTRY_MAX: break;
    }
    return false;
}

static void dispatch(struct cache_sm *m, const struct entry *e)
{
    struct reader r = e->body;
    struct flush f;
    slice_t key;
    switch (e->kind) {
    case CACHE_ENTRY_BATCH: batch_run(m, r); break;
    case CACHE_ENTRY_ATOMIC: atomic_run(m, r); break;
    case CACHE_ENTRY_FLUSH:
        if (get_flush(r, &f)) {
            flush_run(m, &f);
        }
        break;
    case CACHE_ENTRY_FENCE:
        if (get_fence(r, &key)) {
            fence_run(m, key);
        }
        break;
    case CACHE_ENTRY_HOLD: {
        bool held = sm_hold(m, reader_u32(&r));
        answer(m, held ? "+OK\r\n" : "-LIMIT too many holders\r\n", 0, 0, held);
        break;
    }
    case CACHE_ENTRY_UNHOLD:
        sm_unhold(m, reader_u32(&r));
        answer(m, "+OK\r\n", 0, 0, false);
        break;
    case CACHE_ENTRY_DUE: due_run(m, reader_u64(&r)); break;
    case CACHE_ENTRY_CLEAR:
        sm_clear(m);
        answer(m, "+OK\r\n", 0, m->index, false);
        break;
    case CACHE_ENTRY_LEASE: lease_run(m, r); break;
    case CACHE_ENTRY_UNFILL:
        if (get_fence(r, &key)) {
            sm_fill_end(m, key);
            answer(m, "+OK\r\n", 0, 0, false);
        }
        break;
    case CACHE_ENTRY_BOUND:
        sm_set_bound(m, reader_u64(&r));
        answer(m, "+OK\r\n", 0, 0, false);
        break;
    case CACHE_ENTRY_MAX: SYN_UNREACHABLE();
    }
}

/* True: it was answered before, or its origin has its answer. */
static bool is_known(struct cache_sm *m, struct request_id req)
{
    const struct record *old = dedup_find(&m->dedup, req);
    if (old != NULL) {
        struct cache_result *res = add_result(m, req);
        buf_append_slice(&m->out->replies, slice_of(old->reply, old->len));
        res->reply_len = old->len;
        res->repeated = true;
    }
    return old != NULL || dedup_too_old(&m->dedup, req);
}

static void run(struct cache_sm *m, const struct entry *e)
{
    dedup_advance(&m->dedup, e->req, e->low, m->now_ms);
    if (e->req.origin != 0 && is_known(m, e->req)) {
        return;
    }
    add_result(m, e->req);
    dispatch(m, e);
    struct cache_out *o = m->out;
    struct cache_result *res = &o->results[o->n_results - 1];
    res->reply_len = (uint32_t)(o->replies.len - res->reply_off);
    res->n_touched = o->n_touched - res->first_touched;
    point_at_names(m, res->first_touched);
    slice_t reply = slice_of(o->replies.ptr + res->reply_off, res->reply_len);
    m->history = hash_bytes(m->history, reply);
    if (e->req.origin != 0) {
        dedup_add(&m->dedup, e->req, m->now_ms, 0, reply);
    }
}

void cache_sm_apply(struct cache_sm *m, uint64_t index, uint64_t now_ms, slice_t entry, struct cache_out *out)
{
    struct entry e;
    syn_assert(index > m->index && now_ms >= m->now_ms);
    m->index = index;
    m->now_ms = now_ms;
    m->out = out;
    m->history = hash_u64(hash_bytes(m->history, entry) ^ index);
    buf_clear(&m->names);
    sm_stale_step(m);
    if (get_entry(entry, &e) && is_valid(&e)) {
        run(m, &e);
    }
    table_step(m->table);
    sm_clear_step(m);
    m->out = NULL;
}
