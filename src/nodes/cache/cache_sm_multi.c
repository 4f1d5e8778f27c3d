/* Commands over several keys of a group, in one entry: MSETNX, RENAME, RENAMENX, COPY, with Redis' replies.
 *
 * A guard belongs to the name of a key, not to its value: it stays where it is when the value moves. */
#include "nodes/cache/cache_sm_internal.h"

#include "communication/resp.h"

struct multi {
    enum cache_multi kind;
    uint64_t wall_ms;
    uint32_t n;
};

static bool is_fill(enum cache_multi kind)
{
    return kind == CACHE_MULTI_FILL || kind == CACHE_MULTI_ABANDON;
}

static bool get_multi(struct reader *r, struct multi *x)
{
    x->kind = reader_u8(r);
    x->wall_ms = reader_u64(r);
    x->n = reader_u32(r);
    return r->ok && x->kind > 0 && x->kind < CACHE_MULTI_MAX && x->n > 0 && x->n <= reader_left(r) / 8 && (x->kind == CACHE_MULTI_MSETNX || x->n == (is_fill(x->kind) ? 1 : 2));
}

static bool op_valid(enum cache_multi kind, slice_t op)
{
    switch (kind) {
    case CACHE_MULTI_MSETNX: return cache_op_valid(op);
    case CACHE_MULTI_FILL: return op.len > 8 && cache_op_valid(slice_of(op.ptr + 8, op.len - 8));
    case CACHE_MULTI_ABANDON: return op.len == 8;
    default: return op.len == 0;
    }
}

bool multi_valid(struct reader r)
{
    struct multi x;
    struct batch_op o;
    if (!get_multi(&r, &x)) {
        return false;
    }
    for (uint32_t i = 0; i < x.n; i++) {
        if (!next_op(&r, &o) || !op_valid(x.kind, o.op)) {
            return false;
        }
    }
    return reader_done(&r);
}

static bool lives(const struct cache_sm *m, slice_t key)
{
    const struct cell *c = sm_cell(m, key);
    return c != NULL && cell_lives(c, m->now_ms);
}

static bool any_lives(const struct cache_sm *m, struct reader r, uint32_t n)
{
    struct batch_op o;
    for (uint32_t i = 0; i < n && next_op(&r, &o); i++) {
        if (lives(m, o.key)) {
            return true;
        }
    }
    return false;
}

/* What all the values will cost together, as if no key were there twice. */
static bool all_have_room(struct cache_sm *m, struct reader r, const struct multi *x)
{
    uint64_t cost = 0;
    struct batch_op o;
    struct buf unused = {0};
    for (uint32_t i = 0; i < x->n && next_op(&r, &o); i++) {
        struct cache_item item = {0};
        cache_op_run(o.op, &item, (struct cache_clock){m->now_ms, x->wall_ms}, &m->change, &unused);
        item = (struct cache_item){.exists = m->change.kind == CACHE_PUT, .value = buf_slice(&m->change.value), .expire_ms = m->change.expire_ms};
        cost += item_cost(o.key, &item);
        buf_clear(&unused);
    }
    buf_fini(&unused);
    return sm_has_room(m, 0, cost);
}

static bool msetnx(struct cache_sm *m, struct reader r, const struct multi *x, struct buf *out)
{
    if (any_lives(m, r, x->n)) {
        resp_int(out, 0);
        return false;
    }
    if (!all_have_room(m, r, x)) {
        sm_say_full(out);
        return false;
    }
    struct batch_op o;
    struct buf unused = {0};
    bool changed = false;
    for (uint32_t i = 0; i < x->n && next_op(&r, &o); i++) {
        changed |= sm_run(m, &o, x->wall_ms, &unused);
    }
    buf_fini(&unused);
    resp_int(out, 1);
    return changed;
}

/* Value and expiry of a live key under another name. */
static bool copy_to(struct cache_sm *m, slice_t from, slice_t to, bool bounded)
{
    struct cache_item item = cell_item(sm_cell(m, from));
    struct cell *c = sm_cell(m, to);
    struct cache_item was = c != NULL ? cell_item(c) : (struct cache_item){0};
    item.guard = was.guard;
    item.token = was.token;
    if (bounded && !sm_has_room(m, c != NULL ? cell_cost(c) : 0, item_cost(to, &item))) {
        return false;
    }
    sm_put(m, c, to, &item, m->index);
    sm_touched(m, to, m->index, true);
    return true;
}

static void remove_key(struct cache_sm *m, slice_t key)
{
    struct cell *c = sm_cell(m, key);
    struct cache_item item = cell_item(c);
    item.exists = false;
    item.value = SLICE_NONE;
    item.expire_ms = 0;
    sm_put(m, c, key, &item, m->index);
    sm_touched(m, key, m->index, false);
}

static bool rename_key(struct cache_sm *m, slice_t from, slice_t to, bool nx, struct buf *out)
{
    if (!lives(m, from)) {
        resp_error(out, "ERR", "no such key");
        return false;
    }
    if (nx && lives(m, to)) {
        resp_int(out, 0);
        return false;
    }
    bool moves = !slice_eq(from, to);
    if (moves) {
        copy_to(m, from, to, false);
        remove_key(m, from);
    }
    if (nx) {
        resp_int(out, 1);
    } else {
        resp_simple(out, "OK");
    }
    return moves;
}

static bool copy_key(struct cache_sm *m, slice_t from, slice_t to, bool replace, struct buf *out)
{
    if (slice_eq(from, to)) {
        resp_error(out, "ERR", "source and destination objects are the same");
        return false;
    }
    if (!lives(m, from) || (lives(m, to) && !replace)) {
        resp_int(out, 0);
        return false;
    }
    if (!copy_to(m, from, to, true)) {
        sm_say_full(out);
        return false;
    }
    resp_int(out, 1);
    return true;
}

bool multi_run(struct cache_sm *m, struct reader r, struct buf *out)
{
    struct multi x;
    struct batch_op a = {0}, b = {0};
    bool ok = get_multi(&r, &x);
    syn_assert(ok);
    if (x.kind == CACHE_MULTI_MSETNX) {
        return msetnx(m, r, &x, out);
    }
    ok = next_op(&r, &a) && (is_fill(x.kind) || next_op(&r, &b));
    syn_assert(ok);
    switch (x.kind) {
    case CACHE_MULTI_RENAME: return rename_key(m, a.key, b.key, false, out);
    case CACHE_MULTI_RENAMENX: return rename_key(m, a.key, b.key, true, out);
    case CACHE_MULTI_COPY: return copy_key(m, a.key, b.key, false, out);
    case CACHE_MULTI_COPY_REPLACE: return copy_key(m, a.key, b.key, true, out);
    case CACHE_MULTI_FILL: return sm_fill_run(m, &a, x.wall_ms, out);
    case CACHE_MULTI_ABANDON: sm_abandon_run(m, &a, out); return false;
    case CACHE_MULTI_MSETNX:
    case CACHE_MULTI_MAX: break;
    }
    SYN_UNREACHABLE();
}
