/* The shared fixture of the store's tests; see fixture.h. */
#include "fixture.h"

#include "utils/hash.h"

struct store_options fixture_options(void)
{
    return (struct store_options){.node_uuid_seed = 77, .self = 1, .node_name = SLICE_LIT("n1"), .cluster_key = 42,
                                  .groups = GROUPS, .segment_bytes = SEGMENT};
}

enum store_status fixture_try_open(struct files_mem *m, struct store **s, struct store_recovery *r, struct buf *error)
{
    struct files f = files_mem_table(m);
    struct store_options o = fixture_options();
    return store_open(&f, &o, s, r, error);
}

struct store *fixture_open(struct files_mem *m, struct store_recovery *r)
{
    struct store *s;
    struct store_recovery own;
    struct buf error = {0};
    enum store_status st = fixture_try_open(m, &s, r ? r : &own, &error);
    if (st != STORE_OK) {
        fail_msg("open answered %d: %.*s", st, (int)error.len, (const char *)error.ptr);
    }
    buf_fini(&error);
    if (r == NULL) {
        store_recovered_free(&own);
    }
    return s;
}

size_t payload_len(uint32_t group, uint64_t index, uint64_t term)
{
    uint64_t h = hash_u64(group * 1000003u + index * 7919 + term);
    return h % 11 == 0 ? 3000 + h % 9000 : h % 300;
}

void put_entry(struct buf *run, uint32_t group, uint64_t index, uint64_t term)
{
    struct buf p = {0};
    size_t n = payload_len(group, index, term);
    for (size_t i = 0; i < n; i++) {
        buf_put_u8(&p, (uint8_t)(hash_u64(group + index * 31 + term * 131 + i)));
    }
    buf_put_u64(run, term);
    buf_put_u8(run, ENTRY_NORMAL);
    buf_put_bytes(run, buf_slice(&p));
    buf_fini(&p);
}

void model_entries(struct model *m, struct buf *records, uint32_t group, uint64_t first, uint32_t n, uint64_t term)
{
    struct buf run = {0};
    struct model_group *g = &m->g[group];
    assert_true(first + n < ENTRIES_MAX);
    for (uint64_t i = first; i < first + n; i++) {
        put_entry(&run, group, i, term);
        g->terms[i] = term;
    }
    g->last = first + n - 1;
    log_put_entries(records, group, first, n, buf_slice(&run));
    buf_fini(&run);
}

void model_hard_state(struct model *m, struct buf *records, uint32_t group, uint64_t term, node_id_t vote, uint64_t commit)
{
    struct model_group *g = &m->g[group];
    g->term = term;
    g->vote = vote;
    g->commit = commit;
    log_put_hard_state(records, group, term, vote, commit);
}

static void cover(struct model_group *g, uint64_t index, uint64_t term)
{
    bool same = index > g->base && index <= g->last ? g->terms[index] == term : index <= g->base;
    if (index > g->last || !same) {
        g->last = index;
    }
    g->base = index > g->base ? index : g->base;
}

void model_mark(struct model *m, struct buf *records, uint32_t group, uint64_t index, uint64_t term, bool installed)
{
    cover(&m->g[group], index, term);
    log_put_snapshot_mark(records, group, index, term, installed);
}

static bool group_equals(struct model_group g, uint32_t group, const struct store_group *r)
{
    if (r->snapshot_index > 0) {
        cover(&g, r->snapshot_index, r->snapshot_term);
    }
    if (r->term != g.term || r->vote != g.vote || r->commit != g.commit || r->first_index != r->snapshot_index + 1 ||
        g.base != r->snapshot_index || r->n_entries != g.last - g.base) {
        return false;
    }
    struct buf run = {0};
    for (uint64_t i = g.base + 1; i <= g.last; i++) {
        put_entry(&run, group, i, g.terms[i]);
    }
    bool same = slice_eq(buf_slice(&run), buf_slice(&r->run));
    buf_fini(&run);
    return same;
}

bool model_equals(const struct model *m, const struct store_recovery *r)
{
    for (uint32_t i = 0; i < GROUPS; i++) {
        if (!group_equals(m->g[i], i, &r->groups[i])) {
            return false;
        }
    }
    return true;
}

void snapshot_bytes(struct buf *out, uint32_t group, uint64_t index)
{
    for (uint64_t i = 0; i < 900; i++) {
        buf_put_u64(out, hash_u64(group * 100 + index + i % 50));
    }
}

enum store_status snapshot_make(struct store *s, uint32_t group, uint64_t index, uint64_t term)
{
    struct buf b = {0};
    snapshot_bytes(&b, group, index);
    size_t half = b.len / 2 + 1;
    enum store_status st = store_snapshot_write(s, group, index, term, 0, slice_of(b.ptr, half), false);
    if (st == STORE_OK) {
        st = store_snapshot_write(s, group, index, term, half, slice_of(b.ptr + half, b.len - half), true);
    }
    buf_fini(&b);
    return st;
}

static bool gather(void *arg, slice_t piece)
{
    buf_append_slice(arg, piece);
    return true;
}

bool snapshot_is(struct store *s, uint32_t group, uint64_t index)
{
    struct buf want = {0}, got = {0};
    snapshot_bytes(&want, group, index);
    bool ok = store_snapshot_load(s, group, index, gather, &got) == STORE_OK && slice_eq(buf_slice(&want), buf_slice(&got));
    buf_fini(&want);
    buf_fini(&got);
    return ok;
}

void append_sync(struct store *s, struct buf *records)
{
    assert_int_equal(store_append(s, buf_slice(records)), STORE_OK);
    assert_int_equal(store_sync(s), STORE_OK);
    buf_clear(records);
}

uint64_t disk_used(const struct files_mem *disk)
{
    uint64_t n = 0;
    const char *name;
    for (size_t i = 0; (name = files_mem_name(disk, i)) != NULL; i++) {
        n += (uint64_t)files_mem_size(disk, name);
    }
    return n;
}

void disk_read(struct files_mem *disk, const char *name, struct buf *out)
{
    struct files f = files_mem_table(disk);
    int fd = f.open(f.ctx, name, false);
    size_t n = (size_t)files_mem_size(disk, name);
    assert_int_equal(f.pread(f.ctx, fd, buf_reserve(out, n), n, 0), n);
    out->len = n;
    f.close(f.ctx, fd);
}

enum store_status reopen(struct files_mem *disk, struct store_recovery *r, struct buf *error)
{
    struct store *s = NULL;
    enum store_status st = fixture_try_open(disk, &s, r, error);
    if (st == STORE_OK) {
        store_abandon(s);
    }
    return st;
}

void append_until(struct store *s, struct model *m, uint64_t segments)
{
    struct buf b = {0};
    struct store_stats st = {0};
    while (st.segments < segments) {
        model_hard_state(m, &b, 2, m->g[2].term + 1, 1, 0);
        for (int i = 0; i < 120; i++) {
            log_put_hard_state(&b, 2, m->g[2].term, 1, 0);
        }
        append_sync(s, &b);
        store_stats(s, &st);
    }
    buf_fini(&b);
}
