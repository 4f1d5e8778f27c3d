/* Snapshots of the cache's memory without stopping it, and restoring one.
 *
 * A cut is consistent as of snapshot_begin: what is bounded (holders, deletions, remembered answers) is written then; cells follow in slices, in the order of
 * a cursor that stays good while the table changes, and one that changes or goes before its turn is written first, as it was (sm_snap_touch). Records are u8 kind,
 * u32 length, body; the first is the head, the last one has how many cells there were. The order of cells carries no meaning. */
#include "nodes/cache/cache_sm_internal.h"

#include "utils/limits.h"

#include <stdlib.h>

enum record_kind { REC_HEAD = 1, REC_ORIGIN, REC_RECORD, REC_IDEM, REC_GRAVES, REC_CELL, REC_END, REC_FILLS, REC_CELL_FILLED, REC_BOUND };
enum { RECORD_BYTES_MAX = 64 * 1024 * 1024, WALKS_PER_SLICE_MAX = 1024 };

static size_t rec_begin(struct buf *out, enum record_kind kind)
{
    buf_put_u8(out, (uint8_t)kind);
    buf_put_u32(out, 0);
    return out->len;
}

static void rec_end(struct buf *out, size_t start)
{
    syn_assert(out->len - start <= UINT32_MAX);
    le32_put(out->ptr + start - 4, (uint32_t)(out->len - start));
}

static void save_head(const struct cache_sm *m, struct buf *out)
{
    size_t at = rec_begin(out, REC_HEAD);
    const uint64_t fields[] = {m->index, m->now_ms, m->history, m->sum, m->graves.sum, m->stats.expired, m->stats.flushes_refused};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        buf_put_u64(out, fields[i]);
    }
    buf_put_u32(out, m->n_holders);
    for (uint32_t i = 0; i < m->n_holders; i++) {
        buf_put_u32(out, m->holders[i]);
    }
    rec_end(out, at);
}

/* Left out while it is what a new memory begins with. */
static void save_bound(const struct cache_sm *m, struct buf *out)
{
    if (m->bound != m->opt.memory_bytes) {
        size_t at = rec_begin(out, REC_BOUND);
        buf_put_u64(out, m->bound);
        rec_end(out, at);
    }
}

static void save_cell(struct cache_sm *m, struct cell *c)
{
    struct buf *out = &m->snap.out;
    struct cache_item item = cell_item(c);
    c->saved = m->snap.number;
    m->snap.count++;
    size_t at = rec_begin(out, c->key_bits & CELL_FILLED ? REC_CELL_FILLED : REC_CELL);
    buf_put_bytes(out, cell_key(c));
    buf_put_u64(out, c->version);
    cache_put_item(out, &item);
    rec_end(out, at);
}

void sm_snap_touch(struct cache_sm *m, struct cell *c)
{
    if (m->snap.active && c->saved != m->snap.number) {
        save_cell(m, c);
    }
}

static void save_if_due(void *arg, struct cell *c)
{
    sm_snap_touch(arg, c);
}

static void forget_mark(void *arg, struct cell *c)
{
    (void)arg;
    c->saved = 0;
}

void cache_sm_snapshot_begin(struct cache_sm *m)
{
    struct cache_snap *s = &m->snap;
    syn_assert(!s->active);
    if (++s->number == 0) { /* once in 65536 snapshots: marks of the last time round would look like this one's */
        table_each(m->table, forget_mark, NULL);
        s->number = 1;
    }
    s->active = true;
    s->walk = m->table;
    s->walked = false;
    s->cursor = s->count = 0;
    buf_clear(&s->out);
    save_head(m, &s->out);
    save_bound(m, &s->out);
    dedup_save(&m->dedup, &s->out, REC_ORIGIN);
    size_t at = rec_begin(&s->out, REC_GRAVES);
    graves_save(&m->graves, &s->out);
    rec_end(&s->out, at);
    if (m->fills.n > 0 || m->stales.n > 0) {
        at = rec_begin(&s->out, REC_FILLS);
        sm_fills_save(m, &s->out);
        rec_end(&s->out, at);
    }
}

bool cache_sm_snapshot_step(struct cache_sm *m, size_t bytes, struct buf *out)
{
    struct cache_snap *s = &m->snap;
    syn_assert(s->active);
    for (int i = 0; i < WALKS_PER_SLICE_MAX && s->out.len < bytes && !s->walked; i++) {
        s->cursor = table_walk(s->walk, s->cursor, save_if_due, m);
        s->walked = s->cursor == 0;
    }
    bool done = s->walked;
    if (done) {
        size_t at = rec_begin(&s->out, REC_END);
        buf_put_u64(&s->out, s->count);
        rec_end(&s->out, at);
        s->active = false;
        s->walk = NULL;
    }
    buf_append_slice(out, buf_slice(&s->out));
    buf_clear(&s->out);
    return done;
}

void cache_sm_snapshot_abort(struct cache_sm *m)
{
    m->snap.active = false;
    m->snap.walk = NULL;
    buf_clear(&m->snap.out);
}

static bool load_head(struct cache_sm *m, struct reader *r)
{
    uint64_t *fields[] = {&m->index, &m->now_ms, &m->history, &m->restore.expected_sum, &m->restore.expected_graves, &m->stats.expired,
                          &m->stats.flushes_refused};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        *fields[i] = reader_u64(r);
    }
    uint32_t n = reader_u32(r);
    bool ok = r->ok && n <= CACHE_HOLDERS_MAX;
    for (uint32_t i = 0; ok && i < n; i++) {
        uint32_t node = reader_u32(r);
        ok = r->ok && (m->n_holders == 0 || m->holders[m->n_holders - 1] < node) && sm_hold(m, node);
    }
    return ok && reader_done(r);
}

static bool load_bound(struct cache_sm *m, struct reader *r)
{
    m->bound = reader_u64(r);
    return reader_done(r);
}

static bool load_cell(struct cache_sm *m, struct reader *r, bool filled)
{
    slice_t key = reader_bytes(r);
    uint64_t version = reader_u64(r);
    struct cache_item item;
    if (!cache_get_item(r, &item) || !reader_done(r) || key.len > LIMIT_KEY_BYTES || version > m->index || (!item.exists && item.guard.len == 0) ||
        (!item.exists && (filled || item.expire_ms != 0)) || sm_cell(m, key) != NULL) {
        return false;
    }
    sm_put(m, NULL, key, &item, version);
    if (filled) {
        sm_mark_filled(m, sm_cell(m, key));
    }
    return true;
}

static bool load_end(struct cache_sm *m, struct reader *r)
{
    uint64_t count = reader_u64(r);
    m->restore.done = true;
    return reader_done(r) && count == m->table->count && m->sum == m->restore.expected_sum && m->graves.sum == m->restore.expected_graves;
}

static bool load_any(struct cache_sm *m, uint8_t kind, slice_t body)
{
    struct reader r = reader_of(body);
    if ((kind == REC_HEAD) == m->restore.head) {
        return false;
    }
    switch (kind) {
    case REC_HEAD: m->restore.head = true; return load_head(m, &r);
    case REC_ORIGIN:
    case REC_RECORD:
    case REC_IDEM: return dedup_restore(&m->dedup, kind - REC_ORIGIN, body, m->now_ms);
    case REC_GRAVES: return graves_restore(&m->graves, &r, m->index);
    case REC_CELL: return load_cell(m, &r, false);
    case REC_CELL_FILLED: return load_cell(m, &r, true);
    case REC_FILLS: return sm_fills_restore(m, &r);
    case REC_BOUND: return load_bound(m, &r);
    case REC_END: return load_end(m, &r);
    default: return false;
    }
}

bool cache_sm_restore_piece(struct cache_sm *m, slice_t piece)
{
    struct cache_restore *re = &m->restore;
    buf_append_slice(&re->in, piece);
    size_t at = 0;
    while (!re->bad && re->in.len - at >= 5) {
        uint32_t len = le32_get(re->in.ptr + at + 1);
        if (len > RECORD_BYTES_MAX || re->done) {
            re->bad = true;
        } else if (re->in.len - at - 5 < len) {
            break;
        } else {
            re->bad = !load_any(m, re->in.ptr[at], slice_of(re->in.ptr + at + 5, len));
            at += 5 + (size_t)len;
        }
    }
    buf_consume(&re->in, at);
    if (re->done && re->in.len == 0) {
        buf_fini(&re->in);
    }
    return !re->bad;
}

bool cache_sm_restore_end(const struct cache_sm *m)
{
    return m->restore.done && !m->restore.bad && m->restore.in.len == 0;
}
