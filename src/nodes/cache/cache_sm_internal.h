/* Inside memory behind the cache: its records, shared by cache_sm*.c. Nothing else includes this.
 *
 * A key is one allocation (struct cell): 16 bytes, what it has of expiry and guard, key, value. The table points at cells; cells with an expiry stand in a heap,
 * too. Keys that are gone leave a grave for a while: 8 bytes of hash and the version they had. */
#ifndef SYN_NODES_CACHE_CACHE_SM_INTERNAL_H
#define SYN_NODES_CACHE_CACHE_SM_INTERNAL_H

#include "nodes/cache/cache_sm.h"
#include "utils/assert.h"
#include "utils/limits.h"
#include "utils/list.h"
#include "utils/map.h"

enum {
    CELL_KEY = 0x0fff,         /* bits of key_bits that are the length */
    CELL_FILLED = 0x1000,      /* it was filled by the right to: when it goes its last value is kept for a while */
    CELL_EXISTS = 0x2000,      /* it has a value; without one it remembers a guard */
    CELL_DUE = 0x4000,         /* bytes begin with u64 expiry, u32 place in the heap */
    CELL_GUARD = 0x8000,       /* then u64 token, u16 length, resource */
    CELL_COST = 32,            /* bytes a key is counted with beyond its cell: place in the table, allocator */
    GRAVES_MAX = 32768,        /* deletions remembered one by one; beyond, the floor speaks for them */
    CLEAR_BUCKETS = 64,        /* of a cleared table freed in each apply, ... */
    CLEAR_DUE = 1 << 16,       /* ... and entries of its heap */
};

struct cell {
    uint64_t version;
    uint32_t value_len;
    uint16_t key_bits;
    uint16_t saved;            /* number of the snapshot that has it, or that began before it was made */
    uint8_t bytes[];           /* [expiry] [guard] key value */
};

/* cache_sm_cell.c: pure layout */
struct cell *cell_new(slice_t key, const struct cache_item *item);  /* item exists, or has a guard */
bool cell_write(struct cell *c, const struct cache_item *item);     /* in place; false: it needs another size, nothing was done */
slice_t cell_key(const struct cell *c);
struct cache_item cell_item(const struct cell *c);
uint64_t cell_expire_ms(const struct cell *c);                      /* 0: never */
uint32_t cell_due_place(const struct cell *c);
void cell_set_due_place(struct cell *c, uint32_t place);
uint64_t cell_cost(const struct cell *c);
uint64_t item_cost(slice_t key, const struct cache_item *item);     /* of the cell it would be; 0: none */
uint64_t cell_hash(const struct cell *c);                           /* equal on all replicas */
static inline bool cell_lives(const struct cell *c, uint64_t now_ms)
{
    return (c->key_bits & CELL_EXISTS) && !((c->key_bits & CELL_DUE) && cell_expire_ms(c) <= now_ms);
}

/* cache_sm_table.c: cells by key */
struct bucket;
struct half { struct bucket **segments; size_t mask; size_t n_segments; };   /* mask: number of buckets - 1; segments NULL: no table */
struct cache_table {
    struct half now, old;      /* old: being moved into now, bucket by bucket */
    size_t moved;              /* buckets of old that are done */
    uint64_t hash_key;
    uint64_t count;
};
typedef void (*cell_fn)(void *arg, struct cell *c);
void sm_table_init(struct cache_table *t, uint64_t hash_key);
struct cell **table_find(const struct cache_table *t, slice_t key); /* where the cell stands, until the next insert, remove or step */
uint64_t table_hash(const struct cache_table *t, slice_t key);
struct cell **table_find_hashed(const struct cache_table *t, uint64_t hash, slice_t key); /* the same, of table_hash(t, key) */
/* Many keys are about to be found: what they need of memory is asked for at once, first the buckets, then the cells. Changes nothing. */
void table_fetch_buckets(const struct cache_table *t, const uint64_t *hashes, uint32_t n);
void table_fetch_cells(const struct cache_table *t, const uint64_t *hashes, uint32_t n);
void table_insert(struct cache_table *t, struct cell *c);           /* its key is not there */
void table_remove(struct cache_table *t, struct cell *c);
void table_step(struct cache_table *t);                             /* a little of a move that is under way */
/* Calls fn for the cells at a cursor; returns the next one, 0: that was all. Cells that are there from cursor 0 to the end are seen at least once,
 * whatever is inserted and removed between the calls. */
uint64_t table_walk(const struct cache_table *t, uint64_t cursor, cell_fn fn, void *arg);
bool table_free_some(struct cache_table *t, size_t buckets);        /* cells too; true: all is freed */
void table_each(const struct cache_table *t, cell_fn fn, void *arg); /* every cell, once */
void table_check(const struct cache_table *t);

/* cache_sm_due.c: cells by expiry */
struct due_entry { uint64_t at_ms; struct cell *cell; };
struct cache_due { struct due_entry *entries; uint32_t n, cap; };
void due_add(struct cache_due *d, struct cell *c);
void due_remove(struct cache_due *d, struct cell *c);
void due_replace(struct cache_due *d, const struct cell *old, struct cell *c); /* same key and expiry */
bool due_free_some(struct cache_due *d, uint32_t entries);         /* they are in no cell's use any more; true: all is freed */
void due_check(const struct cache_due *d);

/* cache_sm_graves.c: versions of keys that are gone */
struct cache_graves {
    struct map by_hash;
    struct list all;           /* oldest first */
    uint32_t n;
    uint64_t forgotten;        /* greatest version among those that are not remembered any more */
    uint64_t sum;              /* of hashes, for the digest */
};
void graves_init(struct cache_graves *g);
void graves_fini(struct cache_graves *g);
void graves_add(struct cache_graves *g, uint64_t hash, uint64_t version);
void graves_clear(struct cache_graves *g, uint64_t version);        /* every key that is not there had at most this version */
uint64_t graves_version(struct cache_graves *g, uint64_t hash);
void graves_save(const struct cache_graves *g, struct buf *out);
bool graves_restore(struct cache_graves *g, struct reader *r, uint64_t index);
void graves_check(const struct cache_graves *g);
uint64_t grave_hash(slice_t key);                                   /* equal on all replicas */

/* cache_sm_fill.c: rights to fill a key that is absent, and last values of keys that were filled */
struct fill {
    struct map_node by_key;
    struct list in_age;
    uint64_t token;            /* index of the entry that gave it */
    uint64_t until_ms;         /* from then on the next who asks gets it */
    uint32_t key_len;
    uint8_t key[];
};
struct cache_fills { struct map by_key; struct list all; uint32_t n; uint64_t bytes, sum; };
struct stale {
    struct map_node by_key;
    struct list in_age;
    uint64_t version, gone_ms; /* when it expired or was deleted */
    uint32_t key_len, value_len;
    uint8_t bytes[];           /* key, value */
};
struct cache_stales { struct map by_key; struct list all; uint32_t n; uint64_t bytes, sum; };

/* What FLUSHALL took away, until it is freed. */
struct cleared { struct list link; struct cache_table *table; struct cache_due due; };

struct cache_snap {
    bool active;
    uint16_t number;
    struct cache_table *walk;  /* the table as it was at begin; it may have been cleared since */
    uint64_t cursor, count;
    bool walked;
    struct buf out;
};
struct cache_restore {
    struct buf in;
    uint64_t expected_sum, expected_graves;
    bool head, done, bad;
};

struct cache_sm {
    struct cache_sm_options opt;
    uint64_t index, now_ms;    /* of the newest entry */
    uint64_t bound;            /* of memory, in bytes; 0: none */
    struct cache_table *table;
    struct cache_due due;
    struct cache_graves graves;
    struct dedup dedup;
    struct cache_fills fills;
    struct cache_stales stales;
    uint32_t holders[CACHE_HOLDERS_MAX], n_holders;
    uint64_t sum;              /* of all cells' hashes */
    uint64_t history;          /* of all entries and what they answered */
    struct cache_sm_stats stats;
    struct list cleared;
    struct cache_snap snap;
    struct cache_restore restore;
    struct cache_change change;
    struct buf names;          /* of touched keys */
    struct cache_out *out;     /* during an apply */
};

/* cache_sm.c */
struct cell *sm_cell(const struct cache_sm *m, slice_t key);        /* NULL: neither value nor guard */
uint64_t sm_version(struct cache_sm *m, slice_t key, const struct cell *c);
/* The key's item becomes this one, which may lie in the cell itself; the cell or NULL as sm_cell found it. Returns what sm_cell would find now. */
struct cell *sm_put(struct cache_sm *m, struct cell *c, slice_t key, const struct cache_item *item, uint64_t version);
void sm_set_bound(struct cache_sm *m, uint64_t bytes);
bool sm_has_room(struct cache_sm *m, uint64_t old_cost, uint64_t new_cost); /* last values give way */
void sm_mark_filled(struct cache_sm *m, struct cell *c);            /* it has been written by this entry */
void sm_clear(struct cache_sm *m);
void sm_clear_step(struct cache_sm *m);
bool sm_hold(struct cache_sm *m, uint32_t node);                    /* false: there are too many */
void sm_unhold(struct cache_sm *m, uint32_t node);

/* cache_sm_codec.c */
bool cache_entry_is_bare(enum cache_entry_kind kind);               /* it has no request head */

/* cache_sm_apply.c */
struct batch_op { slice_t key, op; };
bool next_op(struct reader *r, struct batch_op *o);                 /* of a batch or an atomic entry */
void sm_touched(struct cache_sm *m, slice_t key, uint64_t version, bool exists);
void sm_say_full(struct buf *out);                                  /* the error of who finds no room */
/* Runs one op on one key, its reply goes to out. True: the key has changed. */
bool sm_run(struct cache_sm *m, const struct batch_op *o, uint64_t wall_ms, struct buf *out);
/* cache_sm_multi.c: what follows the head of an atomic entry; true: something has changed. */
bool multi_valid(struct reader r);
bool multi_run(struct cache_sm *m, struct reader r, struct buf *out);

/* cache_sm_fill.c */
struct cache_lease_ask { slice_t key; uint64_t fill_ms, stale_ms; };
bool get_lease(struct reader r, struct cache_lease_ask *a);
void sm_lease_run(struct cache_sm *m, const struct cache_lease_ask *a, struct buf *out);
bool sm_fill_run(struct cache_sm *m, const struct batch_op *o, uint64_t wall_ms, struct buf *out); /* true: the key has changed */
void sm_abandon_run(struct cache_sm *m, const struct batch_op *o, struct buf *out);
void sm_fill_end(struct cache_sm *m, slice_t key);                  /* whoever has the right to fill it comes too late */
void sm_stale_keep(struct cache_sm *m, const struct cell *c);       /* its value is about to go */
void sm_stale_drop(struct cache_sm *m, slice_t key);                /* it has a value again */
void sm_stale_step(struct cache_sm *m);                             /* those that are too old go */
void sm_stale_fit(struct cache_sm *m);                              /* the bound of memory, which their own follows, has changed */
bool sm_stale_give_way(struct cache_sm *m);                         /* the oldest goes; false: there is none */
void sm_fills_init(struct cache_sm *m);
void sm_fills_fini(struct cache_sm *m);
void sm_fills_save(const struct cache_sm *m, struct buf *out);
bool sm_fills_restore(struct cache_sm *m, struct reader *r);
void sm_fills_check(const struct cache_sm *m);

/* cache_sm_snapshot.c: the cell is about to change or to go */
void sm_snap_touch(struct cache_sm *m, struct cell *c);

#endif
