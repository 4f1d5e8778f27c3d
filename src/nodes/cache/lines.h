/* The lines of a node: found by group and key, bounded by entries or bytes, with a policy that says which goes first (docs/cache.md, "Bounds"). Pure.
 *
 * A line costs LINE_COST, beside its key and value, which lie in one block of a slab (slab.h). Its address does not change while it lives.
 * What a line's state means is the cacher's affair. */
#ifndef SYN_NODES_CACHE_LINES_H
#define SYN_NODES_CACHE_LINES_H

#include "nodes/cache/cache_ops.h"
#include "utils/slab.h"

enum lines_policy { LINES_LRU, LINES_S3FIFO };
#define LINES_NONE UINT32_MAX

/* What the cacher keeps of a line that is dirty or in a transaction begins with this: few lines have it, and it stands where others have their block. */
struct line_aside { uint8_t *block; };
struct line {
    uint64_t version;
    union {
        uint8_t *block;        /* owned: key, then [expiry] [guard] value */
        struct line_aside *aside;
    };
    uint32_t hash;
    uint32_t chain;            /* next line of the table's bucket */
    uint32_t newer, older;     /* neighbours in its queue */
    uint32_t value_len : 23;
    uint32_t is_aside : 1;     /* aside has the block */
    uint32_t used_high_s : 8;  /* when it was last used, in seconds: see line_used_s */
    uint32_t life;             /* of the lease that it belongs to */
    uint16_t group;
    uint16_t key_len;
    uint8_t state;             /* enum mesi_state */
    uint8_t bits;              /* LINE_*, and how often it was used in the top two */
    uint16_t used_low_s;
};
/* Bytes a line is counted with beyond its block: itself, a slot of the table, a ghost. */
enum { LINE_COST = sizeof(struct line) + sizeof(uint32_t) + sizeof(uint16_t) };
enum {
    LINE_EXISTS = 1,           /* the value does; else the key is known to be absent */
    LINE_HELD = 2,             /* there is an item: a value, or the guard of one that went */
    LINE_DUE = 4,
    LINE_GUARD = 8,
    LINE_PINNED = 16,          /* never a victim: set and cleared by the cacher */
    LINE_SMALL = 32,           /* s3fifo: in the small queue */
    LINE_USED = 64,            /* one use; three at most */
};
/* A clock of seconds that starts anew after 194 days, as Redis'. */
enum { LINE_CLOCK = (1 << 24) - 1 };
static inline uint32_t line_used_s(const struct line *l) { return (uint32_t)l->used_high_s << 16 | l->used_low_s; }
static inline void line_use(struct line *l, uint32_t now_s)
{
    l->used_high_s = now_s >> 16 & 0xff;
    l->used_low_s = (uint16_t)now_s;
}
static inline uint8_t *line_block(const struct line *l) { return l->is_aside ? l->aside->block : l->block; }
static inline slice_t line_key(const struct line *l) { return slice_of(line_block(l), l->key_len); }
/* The cacher's from now on, until it takes it back; aside outlives that. */
static inline void line_put_aside(struct line *l, struct line_aside *aside)
{
    aside->block = l->block;
    l->aside = aside;
    l->is_aside = true;
}
static inline void line_end_aside(struct line *l)
{
    l->block = l->aside->block;
    l->is_aside = false;
}

struct lines_options {
    uint64_t hash_key;
    uint64_t entries_max;      /* 0: by bytes alone */
    uint64_t bytes_max;        /* 0: by entries alone; LINE_COST and slab_cost of the block count */
    enum lines_policy policy;
};

struct line_queue { uint32_t newest, oldest, n; };
/* Hashes of lines that went without being used twice: sets of the newest few, each forgetting its oldest. */
struct ghost_set { uint16_t marks[8]; };
struct lines {
    struct lines_options o;
    struct line_chunk **chunks; /* lines by index; NULL: a chunk that went */
    uint32_t n_chunks, chunks_gone;
    uint32_t open_chunk;       /* the first chunk with room; LINES_NONE: there is none */
    struct slab slab;
    uint32_t **segments;       /* of the table: first line of each bucket */
    uint32_t n_buckets, mask;
    uint32_t n;
    uint64_t bytes;
    struct line_queue main, small;
    struct ghost_set *ghosts;
    uint32_t n_ghost_sets;
};

void lines_init(struct lines *s, const struct lines_options *o);
void lines_fini(struct lines *s);                        /* aside is not freed */
/* Fetches the lines of these hashes into the processor's cache; see cacher_expect. */
void lines_expect(const struct lines *s, const uint32_t *hashes, uint32_t n);
uint32_t lines_hash(const struct lines *s, uint32_t group, slice_t key);
struct line *lines_find(const struct lines *s, uint32_t group, slice_t key);
struct line *lines_find_hashed(const struct lines *s, uint32_t hash, uint32_t group, slice_t key); /* hash: lines_hash of them */
/* The key must not be there; group < 65536. The line has no item, state 0. */
struct line *lines_insert(struct lines *s, uint32_t group, slice_t key);
void lines_remove(struct lines *s, struct line *l);
void lines_touch(struct lines *s, struct line *l);       /* it was used: no allocation, O(1) */
uint64_t lines_cost(const struct line *l);             /* its bytes, of which lines.bytes is the sum */
/* leaving: of those that are there, how many are on their way out already, and their bytes. */
bool lines_are_too_many(const struct lines *s, uint64_t leaving, uint64_t leaving_bytes);
/* Which line should go, not keep and none that is pinned; NULL: none was found among the first few. It stays until the caller removes it. */
struct line *lines_victim(struct lines *s, const struct line *keep);
/* Every line once: after NULL the first, after the last NULL. Nothing may be inserted, removed or touched meanwhile. */
struct line *lines_next(const struct lines *s, const struct line *l);

/* The item may lie in the line itself. Without value and guard the line holds nothing afterwards. */
void lines_put(struct lines *s, struct line *l, const struct cache_item *item);
void lines_drop(struct lines *s, struct line *l);        /* it holds nothing, not even absence */
struct cache_item lines_item(const struct line *l);       /* as put, borrowed; expired or not */
void lines_check(const struct lines *s);                 /* asserts everything; O(lines) */

#endif
