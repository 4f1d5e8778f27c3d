/* Where lines are: slots in chunks that never move, found through a table that grows by one bucket at a time (linear hashing, Litwin 1980), and their items.
 *
 * Not responsible for which line goes (lines_policy.c).
 * N1: a line stands in the chain of its hash's bucket, once. N2: bytes and n are those of the lines that are there. N3: the open chunks are those with room;
 * one of them at most has no lines. */
#include "nodes/cache/lines_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

enum {
    SEGMENT_BUCKETS = 1024,
    BUCKETS_MIN = SEGMENT_BUCKETS,
    MERGES = 2,                /* buckets that go with a line when half of them are too many: so the table is small when all lines are gone */
    DUE_BYTES = 8,
    GUARD_BYTES = 10,
};

static uint32_t *bucket_at(const struct lines *s, uint32_t at)
{
    return &s->segments[at / SEGMENT_BUCKETS][at % SEGMENT_BUCKETS];
}

static uint32_t bucket_of(const struct lines *s, uint32_t hash)
{
    uint32_t at = hash & s->mask;
    return at < s->n_buckets ? at : hash & s->mask >> 1;
}

static size_t item_offset(const struct line *l)
{
    size_t at = l->key_len + (l->bits & LINE_DUE ? DUE_BYTES : 0u);
    return at + (l->bits & LINE_GUARD ? GUARD_BYTES + (size_t)le16_get(line_block(l) + at + 8) : 0);
}

static size_t block_bytes(const struct line *l)
{
    return item_offset(l) + l->value_len;
}

uint64_t lines_cost(const struct line *l)
{
    return LINE_COST + slab_cost(block_bytes(l));
}

static void write_bytes(uint8_t *to, slice_t from)
{
    if (from.len > 0 && to != from.ptr) {
        memmove(to, from.ptr, from.len);
    }
}

static void segment_add(struct lines *s)
{
    uint32_t n = s->n_buckets / SEGMENT_BUCKETS;
    if ((n & (n - 1)) == 0) { /* room for a power of two of them */
        s->segments = realloc(s->segments, (n ? (size_t)n * 2 : 1) * sizeof *s->segments);
        syn_assert(s->segments != NULL);
    }
    s->segments[n] = malloc(SEGMENT_BUCKETS * sizeof **s->segments);
    syn_assert(s->segments[n] != NULL);
}

void lines_init(struct lines *s, const struct lines_options *o)
{
    *s = (struct lines){.o = *o, .open_chunk = LINES_NONE};
    slab_init(&s->slab);
    segment_add(s);
    s->n_buckets = BUCKETS_MIN;
    s->mask = BUCKETS_MIN - 1;
    memset(s->segments[0], 0xff, SEGMENT_BUCKETS * sizeof **s->segments);
    policy_init(s);
}

void lines_fini(struct lines *s)
{
    for (struct line *l = lines_next(s, NULL); l != NULL; l = lines_next(s, l)) {
        slab_free(&s->slab, line_block(l), block_bytes(l));
    }
    slab_fini(&s->slab);
    for (uint32_t i = 0; i < s->n_chunks; i++) {
        free(s->chunks[i]);
    }
    for (uint32_t i = 0; i < (s->n_buckets + SEGMENT_BUCKETS - 1) / SEGMENT_BUCKETS; i++) {
        free(s->segments[i]);
    }
    free(s->chunks);
    free(s->segments);
    policy_fini(s);
}

/* One more bucket, which takes its share of the lines of one. */
static void bucket_split(struct lines *s)
{
    uint32_t fresh = s->n_buckets;
    if (fresh % SEGMENT_BUCKETS == 0) {
        segment_add(s);
    }
    s->n_buckets++;
    s->mask = fresh > s->mask ? s->mask << 1 | 1 : s->mask;
    uint32_t *to = bucket_at(s, fresh), *from = bucket_at(s, fresh & s->mask >> 1);
    *to = LINES_NONE;
    while (*from != LINES_NONE) {
        uint32_t at = *from;
        struct line *l = line_at(s, at);
        if ((l->hash & s->mask) != fresh) {
            from = &l->chain;
            continue;
        }
        *from = l->chain;
        l->chain = *to;
        *to = at;
    }
}

/* The last bucket goes back into the one it came from. */
static void bucket_merge(struct lines *s)
{
    uint32_t last = s->n_buckets - 1, first = *bucket_at(s, last), *to = bucket_at(s, last & s->mask >> 1);
    while (*to != LINES_NONE) {
        to = &line_at(s, *to)->chain;
    }
    *to = first;
    s->n_buckets = last;
    s->mask = last == (s->mask >> 1) + 1 ? s->mask >> 1 : s->mask;
    if (last % SEGMENT_BUCKETS == 0) {
        free(s->segments[last / SEGMENT_BUCKETS]);
    }
}

uint32_t lines_hash(const struct lines *s, uint32_t group, slice_t key)
{
    return (uint32_t)hash_bytes(s->o.hash_key ^ group, key);
}

struct line *lines_find(const struct lines *s, uint32_t group, slice_t key)
{
    return lines_find_hashed(s, lines_hash(s, group, key), group, key);
}

struct line *lines_find_hashed(const struct lines *s, uint32_t hash, uint32_t group, slice_t key)
{
    for (uint32_t at = *bucket_at(s, bucket_of(s, hash)); at != LINES_NONE;) {
        struct line *l = line_at(s, at);
        if (l->hash == hash && l->group == group && slice_eq(line_key(l), key)) {
            return l;
        }
        at = l->chain;
    }
    return NULL;
}

/* Each step needs of memory what the one before has asked for, and has asked for all of it before it waits for any. */
void lines_expect(const struct lines *s, const uint32_t *hashes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        __builtin_prefetch(bucket_at(s, bucket_of(s, hashes[i])));
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = *bucket_at(s, bucket_of(s, hashes[i]));
        if (at != LINES_NONE) {
            __builtin_prefetch(line_at(s, at));
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = *bucket_at(s, bucket_of(s, hashes[i]));
        if (at != LINES_NONE) {
            __builtin_prefetch(line_at(s, at)->block);
        }
    }
}

static void chunk_open(struct lines *s, uint32_t at)
{
    struct line_chunk *c = s->chunks[at];
    c->before = LINES_NONE;
    c->after = s->open_chunk;
    if (c->after != LINES_NONE) {
        s->chunks[c->after]->before = at;
    }
    s->open_chunk = at;
}

static void chunk_close(struct lines *s, const struct line_chunk *c)
{
    if (c->after != LINES_NONE) {
        s->chunks[c->after]->before = c->before;
    }
    *(c->before != LINES_NONE ? &s->chunks[c->before]->after : &s->open_chunk) = c->after;
}

/* The number of a chunk that went, or one more. */
static uint32_t chunk_number(struct lines *s)
{
    if (s->chunks_gone > 0) {
        uint32_t at = 0;
        while (s->chunks[at] != NULL) {
            at++;
        }
        s->chunks_gone--;
        return at;
    }
    uint32_t at = s->n_chunks;
    if ((at & (at - 1)) == 0) {
        s->chunks = realloc(s->chunks, (at ? (size_t)at * 2 : 1) * sizeof *s->chunks);
        syn_assert(s->chunks != NULL);
    }
    syn_assert(at < UINT32_MAX / CHUNK_LINES);
    s->n_chunks++;
    return at;
}

static void chunk_add(struct lines *s)
{
    uint32_t at = chunk_number(s);
    struct line_chunk *c = malloc(sizeof *c);
    syn_assert(c != NULL);
    c->used = 0;
    c->free = at * CHUNK_LINES;
    for (uint32_t i = 0; i < CHUNK_LINES; i++) {
        c->lines[i] = (struct line){.chain = at * CHUNK_LINES + i + 1, .state = UINT8_MAX};
    }
    s->chunks[at] = c;
    chunk_open(s, at);
}

static uint32_t slot_take(struct lines *s)
{
    if (s->open_chunk == LINES_NONE) {
        chunk_add(s);
    }
    struct line_chunk *c = s->chunks[s->open_chunk];
    uint32_t at = c->free;
    c->free = line_at(s, at)->chain;
    if (++c->used == CHUNK_LINES) {
        chunk_close(s, c);
    }
    return at;
}

static void slot_give(struct lines *s, uint32_t at)
{
    struct line_chunk *c = s->chunks[at / CHUNK_LINES];
    *line_at(s, at) = (struct line){.chain = c->free, .state = UINT8_MAX};
    c->free = at;
    if (c->used-- == CHUNK_LINES) {
        chunk_open(s, at / CHUNK_LINES);
    }
    if (c->used == 0 && (c->before != LINES_NONE || c->after != LINES_NONE)) { /* N3 */
        chunk_close(s, c);
        free(c);
        s->chunks[at / CHUNK_LINES] = NULL;
        s->chunks_gone++;
    }
}

struct line *lines_insert(struct lines *s, uint32_t group, slice_t key)
{
    syn_assert(group <= UINT16_MAX && key.len <= UINT16_MAX);
    uint32_t at = slot_take(s), hash = lines_hash(s, group, key);
    struct line *l = line_at(s, at);
    *l = (struct line){.hash = hash, .group = (uint16_t)group, .key_len = (uint16_t)key.len};
    l->block = slab_alloc(&s->slab, key.len);
    write_bytes(l->block, key);
    if (++s->n > s->n_buckets) {
        bucket_split(s);
    }
    uint32_t *bucket = bucket_at(s, bucket_of(s, hash));
    l->chain = *bucket;
    *bucket = at;
    s->bytes += lines_cost(l);
    policy_insert(s, l, at);
    return l;
}

void lines_remove(struct lines *s, struct line *l)
{
    uint32_t at = policy_remove(s, l);
    syn_assert(line_at(s, at) == l && !l->is_aside);
    uint32_t *it = bucket_at(s, bucket_of(s, l->hash));
    while (*it != at) {
        syn_assert(*it != LINES_NONE); /* N1 */
        it = &line_at(s, *it)->chain;
    }
    *it = l->chain;
    s->bytes -= lines_cost(l);
    slab_free(&s->slab, line_block(l), block_bytes(l));
    slot_give(s, at);
    s->n--;
    for (int i = 0; i < MERGES && s->n < s->n_buckets / 2 && s->n_buckets > BUCKETS_MIN; i++) {
        bucket_merge(s);
    }
}

bool lines_are_too_many(const struct lines *s, uint64_t leaving, uint64_t leaving_bytes)
{
    return (s->o.entries_max > 0 && s->n - leaving > s->o.entries_max) || (s->o.bytes_max > 0 && s->bytes - leaving_bytes > s->o.bytes_max);
}

struct line *lines_next(const struct lines *s, const struct line *l)
{
    uint32_t at = l != NULL ? l->older : s->main.newest;
    if (at == LINES_NONE && (l == NULL || !(l->bits & LINE_SMALL))) {
        at = s->small.newest;
    }
    return at != LINES_NONE ? line_at(s, at) : NULL;
}

struct cache_item lines_item(const struct line *l)
{
    const uint8_t *p = line_block(l) + l->key_len;
    struct cache_item item = {.exists = l->bits & LINE_EXISTS};
    if (l->bits & LINE_DUE) {
        item.expire_ms = le64_get(p);
        p += DUE_BYTES;
    }
    if (l->bits & LINE_GUARD) {
        item.token = le64_get(p);
        item.guard = slice_of(p + GUARD_BYTES, le16_get(p + 8));
        p += GUARD_BYTES + item.guard.len;
    }
    item.value = slice_of(p, l->value_len);
    return item;
}

/* The line's bits say what of the item there is. Equal layout: in place, the item's slices may be what is overwritten. */
static void write_item(uint8_t *p, uint8_t bits, const struct cache_item *item)
{
    if (bits & LINE_DUE) {
        le64_put(p, item->expire_ms);
        p += DUE_BYTES;
    }
    if (bits & LINE_GUARD) {
        le64_put(p, item->token);
        le16_put(p + 8, (uint16_t)item->guard.len);
        write_bytes(p + GUARD_BYTES, item->guard);
        p += GUARD_BYTES + item->guard.len;
    }
    write_bytes(p, item->value);
}

void lines_put(struct lines *s, struct line *l, const struct cache_item *item)
{
    enum { ITEM_BITS = LINE_EXISTS | LINE_HELD | LINE_DUE | LINE_GUARD };
    struct cache_item it = *item;
    size_t guard_was = l->bits & LINE_GUARD ? lines_item(l).guard.len : 0;
    syn_assert(it.guard.len <= UINT16_MAX && it.value.len < 1u << 23);
    bool guarded = it.guard.len > 0;
    if (!it.exists) {
        it.value = SLICE_NONE;
        it.expire_ms = 0;
    }
    uint8_t bits = (uint8_t)((it.exists ? LINE_EXISTS : 0) | (it.exists || guarded ? LINE_HELD : 0) | (it.expire_ms != 0 ? LINE_DUE : 0) | (guarded ? LINE_GUARD : 0));
    uint8_t other = (uint8_t)(l->bits & ~ITEM_BITS);
    s->bytes -= lines_cost(l);
    if (bits != (l->bits & ITEM_BITS) || guard_was != it.guard.len || l->value_len != it.value.len) {
        size_t size = l->key_len + (bits & LINE_DUE ? DUE_BYTES : 0u) + (guarded ? GUARD_BYTES + it.guard.len : 0) + it.value.len;
        uint8_t *block = slab_alloc(&s->slab, size);
        write_bytes(block, line_key(l));
        write_item(block + l->key_len, bits, &it);
        slab_free(&s->slab, line_block(l), block_bytes(l));
        *(l->is_aside ? &l->aside->block : &l->block) = block;
    } else {
        write_item(line_block(l) + l->key_len, bits, &it);
    }
    l->bits = other | bits;
    l->value_len = (uint32_t)it.value.len & 0x7fffff;
    s->bytes += lines_cost(l);
}

void lines_drop(struct lines *s, struct line *l)
{
    lines_put(s, l, &(struct cache_item){0});
}

static void check_chunks(const struct lines *s)
{
    uint32_t lines = 0, gone = 0, open = 0, empty = 0;
    for (uint32_t i = 0; i < s->n_chunks; i++) {
        const struct line_chunk *c = s->chunks[i];
        gone += c == NULL;
        lines += c != NULL ? c->used : 0;
        open += c != NULL && c->used < CHUNK_LINES;
        empty += c != NULL && c->used == 0;
    }
    syn_assert(lines == s->n && gone == s->chunks_gone && empty <= 1);
    uint32_t before = LINES_NONE;
    for (uint32_t at = s->open_chunk; at != LINES_NONE; at = s->chunks[at]->after) {
        syn_assert(s->chunks[at]->before == before && s->chunks[at]->used < CHUNK_LINES);
        before = at;
        open--;
    }
    syn_assert(open == 0); /* N3 */
}

void lines_check(const struct lines *s)
{
    uint64_t bytes = 0, n = 0;
    for (const struct line *l = lines_next(s, NULL); l != NULL; l = lines_next(s, l)) {
        syn_assert(lines_find(s, l->group, line_key(l)) == l); /* N1 */
        bytes += lines_cost(l);
        n++;
    }
    syn_assert(n == s->n && bytes == s->bytes); /* N2 */
    syn_assert(s->n_buckets <= (uint64_t)s->mask + 1 && s->n_buckets > s->mask / 2);
    check_chunks(s);
    policy_check(s);
}
