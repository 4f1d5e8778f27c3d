/* Cells by key: a hash table of 64-byte buckets, each with seven cells and a byte of each one's hash, so that a look-up reads one line of the processor's
 * cache and one cell. A bucket that is full goes on in another one.
 *
 * Growing and shrinking move a few buckets at a time from `old` to `now`. Buckets lie in segments that come when they are first written to and go when they
 * are moved: no operation takes, clears or gives back more than one segment.
 *
 * T1: a cell stands once, in the chain of its hash's bucket: of old when that one was not moved yet, else of now. */
#include "nodes/cache/cache_sm_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

enum {
    BUCKET_CELLS = 7,
    BUCKET_LINK = BUCKET_CELLS - 1, /* slot of the next bucket of a chain */
    BUCKET_CHAINED = 1 << 7,        /* in `used` */
    SEGMENT_BUCKETS = 256,
    BUCKETS_MIN = 16,
    FILL_MAX = 6,                   /* cells per bucket: beyond, the table doubles; below an eighth of it it halves */
    MOVE_BUCKETS = 16,              /* of old, looked at in one step, unless ... */
    MOVE_CELLS = 16,                /* ... so many cells were in them */
};

struct bucket {
    uint8_t tags[BUCKET_CELLS];     /* top bytes of the hashes */
    uint8_t used;                   /* bits of slots with a cell; BUCKET_CHAINED: the last slot is the next bucket */
    void *slots[BUCKET_CELLS];
};
_Static_assert(sizeof(struct bucket) == 64, "a bucket is one line of the processor's cache");

static struct bucket *next_of(const struct bucket *b)
{
    return b->used & BUCKET_CHAINED ? b->slots[BUCKET_LINK] : NULL;
}

uint64_t table_hash(const struct cache_table *t, slice_t key)
{
    return hash_bytes(t->hash_key, key);
}

static struct bucket *buckets_new(size_t n)
{
    struct bucket *b = aligned_alloc(sizeof *b, n * sizeof *b);
    syn_assert(b != NULL);
    memset(b, 0, n * sizeof *b);
    return b;
}

static void half_init(struct half *h, size_t buckets)
{
    h->mask = buckets - 1;
    h->n_segments = (buckets + SEGMENT_BUCKETS - 1) / SEGMENT_BUCKETS;
    h->segments = calloc(h->n_segments, sizeof *h->segments);
    syn_assert(h->segments != NULL);
}

/* The first bucket of the chain, NULL: nothing was ever put there. */
static struct bucket *half_bucket(const struct half *h, size_t at)
{
    struct bucket *segment = h->segments != NULL ? h->segments[at / SEGMENT_BUCKETS] : NULL;
    return segment != NULL ? &segment[at % SEGMENT_BUCKETS] : NULL;
}

static struct bucket *half_bucket_made(struct half *h, size_t at)
{
    struct bucket **segment = &h->segments[at / SEGMENT_BUCKETS];
    if (*segment == NULL) {
        *segment = buckets_new(h->mask + 1 < SEGMENT_BUCKETS ? h->mask + 1 : SEGMENT_BUCKETS);
    }
    return &(*segment)[at % SEGMENT_BUCKETS];
}

void sm_table_init(struct cache_table *t, uint64_t hash_key)
{
    *t = (struct cache_table){.hash_key = hash_key};
}

static void **chain_find(struct bucket *b, uint64_t hash, slice_t key)
{
    uint8_t tag = (uint8_t)(hash >> 56);
    for (; b != NULL; b = next_of(b)) {
        unsigned cells = b->used & (b->used & BUCKET_CHAINED ? (1u << BUCKET_LINK) - 1 : (1u << BUCKET_CELLS) - 1);
        for (; cells != 0; cells &= cells - 1) {
            int i = __builtin_ctz(cells);
            if (b->tags[i] == tag && slice_eq(cell_key(b->slots[i]), key)) {
                return &b->slots[i];
            }
        }
    }
    return NULL;
}

/* The first bucket of the chain that a hash's cell is in, if it is anywhere (T1). */
static struct bucket *hash_bucket(const struct cache_table *t, uint64_t hash)
{
    bool in_old = t->old.segments != NULL && (hash & t->old.mask) >= t->moved;
    const struct half *h = in_old ? &t->old : &t->now;
    return half_bucket(h, hash & h->mask);
}

struct cell **table_find_hashed(const struct cache_table *t, uint64_t hash, slice_t key)
{
    return (struct cell **)chain_find(hash_bucket(t, hash), hash, key);
}

struct cell **table_find(const struct cache_table *t, slice_t key)
{
    return table_find_hashed(t, table_hash(t, key), key);
}

void table_fetch_buckets(const struct cache_table *t, const uint64_t *hashes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        __builtin_prefetch(hash_bucket(t, hashes[i]));
    }
}

void table_fetch_cells(const struct cache_table *t, const uint64_t *hashes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct bucket *b = hash_bucket(t, hashes[i]);
        for (int at = 0; b != NULL && at < BUCKET_CELLS; at++) {
            if (b->tags[at] == (uint8_t)(hashes[i] >> 56)) {
                __builtin_prefetch(b->slots[at], 1);
            }
        }
    }
}

static void chain_add(struct bucket *b, uint64_t hash, struct cell *c)
{
    for (struct bucket *next = next_of(b); next != NULL; next = next_of(b)) {
        if ((b->used & ((1u << BUCKET_LINK) - 1)) != (1u << BUCKET_LINK) - 1) {
            break;
        }
        b = next;
    }
    unsigned free_slots = ~b->used & (b->used & BUCKET_CHAINED ? (1u << BUCKET_LINK) - 1 : (1u << BUCKET_CELLS) - 1);
    if (free_slots == 0) {
        struct bucket *more = buckets_new(1);
        more->slots[0] = b->slots[BUCKET_LINK];
        more->tags[0] = b->tags[BUCKET_LINK];
        more->used = 1;
        b->slots[BUCKET_LINK] = more;
        b->used = (uint8_t)((b->used & ((1u << BUCKET_LINK) - 1)) | BUCKET_CHAINED);
        b = more;
        free_slots = 2;
    }
    int i = __builtin_ctz(free_slots);
    b->slots[i] = c;
    b->tags[i] = (uint8_t)(hash >> 56);
    b->used = (uint8_t)(b->used | 1u << i);
}

/* Takes the cell out of the chain that begins with b; a bucket that is empty then leaves it, but for the first one. */
static bool chain_remove(struct bucket *b, const struct cell *c)
{
    for (struct bucket *before = NULL; b != NULL; before = b, b = next_of(b)) {
        int n = b->used & BUCKET_CHAINED ? BUCKET_LINK : BUCKET_CELLS;
        for (int i = 0; i < n; i++) {
            if (!(b->used >> i & 1) || b->slots[i] != c) {
                continue;
            }
            b->used = (uint8_t)(b->used & ~(1u << i));
            if (before != NULL && (b->used & ~BUCKET_CHAINED) == 0) {
                before->slots[BUCKET_LINK] = next_of(b);
                before->used = (uint8_t)(next_of(b) != NULL ? before->used : before->used & ~BUCKET_CHAINED);
                free(b);
            }
            return true;
        }
    }
    return false;
}

static void chain_each(const struct bucket *b, cell_fn fn, void *arg)
{
    for (; b != NULL; b = next_of(b)) {
        int n = b->used & BUCKET_CHAINED ? BUCKET_LINK : BUCKET_CELLS;
        for (int i = 0; i < n; i++) {
            if (b->used >> i & 1) {
                fn(arg, b->slots[i]);
            }
        }
    }
}

/* Frees what hangs on the first bucket and empties that. */
static void chain_drop(struct bucket *b)
{
    for (struct bucket *it = next_of(b), *next; it != NULL; it = next) {
        next = next_of(it);
        free(it);
    }
    b->used = 0;
}

struct mover { struct cache_table *t; size_t cells; };

static void move_cell(void *arg, struct cell *c)
{
    struct mover *mv = arg;
    uint64_t hash = table_hash(mv->t, cell_key(c));
    chain_add(half_bucket_made(&mv->t->now, hash & mv->t->now.mask), hash, c);
    mv->cells++;
}

static void half_bucket_done(struct half *h, size_t at)
{
    if (at % SEGMENT_BUCKETS == SEGMENT_BUCKETS - 1 || at == h->mask) {
        free(h->segments[at / SEGMENT_BUCKETS]);
        h->segments[at / SEGMENT_BUCKETS] = NULL;
    }
    if (at == h->mask) {
        free(h->segments);
        *h = (struct half){0};
    }
}

void table_step(struct cache_table *t)
{
    struct mover mv = {.t = t};
    for (int i = 0; i < MOVE_BUCKETS && mv.cells < MOVE_CELLS && t->old.segments != NULL; i++) {
        struct bucket *b = half_bucket(&t->old, t->moved);
        if (b != NULL) {
            chain_each(b, move_cell, &mv);
            chain_drop(b);
        }
        half_bucket_done(&t->old, t->moved++);
        t->moved = t->old.segments != NULL ? t->moved : 0;
    }
}

static void resize_if_due(struct cache_table *t)
{
    if (t->now.segments == NULL) {
        half_init(&t->now, BUCKETS_MIN);
    }
    size_t buckets = t->now.mask + 1, want = buckets;
    if (t->count > buckets * FILL_MAX) {
        want = buckets * 2;
    } else if (buckets > BUCKETS_MIN && t->count < buckets * FILL_MAX / 8) {
        want = buckets / 2;
    }
    if (want != buckets && t->old.segments == NULL) {
        t->old = t->now;
        t->moved = 0;
        half_init(&t->now, want);
    }
}

void table_insert(struct cache_table *t, struct cell *c)
{
    uint64_t hash = table_hash(t, cell_key(c));
    t->count++;
    resize_if_due(t);
    if (t->old.segments != NULL && (hash & t->old.mask) >= t->moved) {
        chain_add(half_bucket_made(&t->old, hash & t->old.mask), hash, c);
    } else {
        chain_add(half_bucket_made(&t->now, hash & t->now.mask), hash, c);
    }
    table_step(t);
}

void table_remove(struct cache_table *t, struct cell *c)
{
    uint64_t hash = table_hash(t, cell_key(c));
    bool in_old = t->old.segments != NULL && (hash & t->old.mask) >= t->moved;
    const struct half *h = in_old ? &t->old : &t->now;
    bool found = chain_remove(half_bucket(h, hash & h->mask), c);
    syn_assert(found && t->count > 0);
    t->count--;
    resize_if_due(t);
    table_step(t);
}

static uint64_t reverse_bits(uint64_t v)
{
    v = (v >> 1 & 0x5555555555555555u) | (v & 0x5555555555555555u) << 1;
    v = (v >> 2 & 0x3333333333333333u) | (v & 0x3333333333333333u) << 2;
    v = (v >> 4 & 0x0f0f0f0f0f0f0f0fu) | (v & 0x0f0f0f0f0f0f0f0fu) << 4;
    return __builtin_bswap64(v);
}

/* Counts in the bits of the mask from the top down: what a bucket splits into when the table doubles lies next to each other in this order, so that a cursor
 * means the same in a table of any size (Redis, dictScan). */
static uint64_t cursor_next(uint64_t cursor, uint64_t mask)
{
    return reverse_bits(reverse_bits(cursor | ~mask) + 1);
}

uint64_t table_walk(const struct cache_table *t, uint64_t cursor, cell_fn fn, void *arg)
{
    if (t->now.segments == NULL) {
        return 0;
    }
    if (t->old.segments == NULL) {
        chain_each(half_bucket(&t->now, cursor & t->now.mask), fn, arg);
        return cursor_next(cursor, t->now.mask);
    }
    const struct half *small = t->now.mask < t->old.mask ? &t->now : &t->old, *large = small == &t->now ? &t->old : &t->now;
    chain_each(half_bucket(small, cursor & small->mask), fn, arg);
    do {
        chain_each(half_bucket(large, cursor & large->mask), fn, arg);
        cursor = cursor_next(cursor, large->mask);
    } while (cursor & (small->mask ^ large->mask));
    return cursor;
}

static void free_cell(void *arg, struct cell *c)
{
    (void)arg;
    free(c);
}

/* A table that is freed has `moved` count its buckets: first those of old, from where moving had stopped, then those of now. */
bool table_free_some(struct cache_table *t, size_t buckets)
{
    for (; buckets > 0; buckets--) {
        struct half *h = t->old.segments != NULL ? &t->old : &t->now;
        if (h->segments == NULL) {
            return true;
        }
        struct bucket *b = half_bucket(h, t->moved);
        if (b != NULL) {
            chain_each(b, free_cell, NULL);
            chain_drop(b);
        }
        half_bucket_done(h, t->moved++);
        t->moved = h->segments == NULL ? 0 : t->moved;
    }
    return t->old.segments == NULL && t->now.segments == NULL;
}

void table_each(const struct cache_table *t, cell_fn fn, void *arg)
{
    const struct half *halves[] = {&t->now, &t->old};
    for (int i = 0; i < 2; i++) {
        for (size_t at = 0; halves[i]->segments != NULL && at <= halves[i]->mask; at++) {
            chain_each(half_bucket(halves[i], at), fn, arg);
        }
    }
}

struct checker { const struct cache_table *t; uint64_t count; };

static void check_cell(void *arg, struct cell *c)
{
    struct checker *k = arg;
    struct cell **at = table_find(k->t, cell_key(c));
    syn_assert(at != NULL && *at == c); /* T1 */
    k->count++;
}

void table_check(const struct cache_table *t)
{
    struct checker k = {.t = t};
    table_each(t, check_cell, &k);
    syn_assert(k.count == t->count);
}
