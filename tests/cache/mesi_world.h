/* A few cachers, their home, a memory and a network that a test decides everything about: one group, keys "0", "1", ... */
#ifndef SYN_TESTS_MESI_WORLD_H
#define SYN_TESTS_MESI_WORLD_H

#include "nodes/cache/cacher.h"
#include "nodes/cache/home.h"

enum { WORLD_NODES = 3, WORLD_KEYS = 2, WORLD_BAG = 64, WORLD_LOG = 32, WORLD_OPS = 32, WORLD_HOMES = 3, WORLD_LEASE_MS = 100000 };

struct world_msg { bool used; uint8_t to_home; /* number of the home, or 255 */ uint8_t node; /* receiver, or sender to a home */ struct buf bytes; };
enum world_log_kind { LOG_WRITE = 1, LOG_FLUSH, LOG_FENCE, LOG_HOLD };
struct world_log { enum world_log_kind kind; uint8_t node, key; uint64_t txn, base, cookie; uint8_t value; };
struct world_op { bool used, write, done; uint8_t node, key, value, least; };
struct world_memory { uint64_t version; uint8_t value; };

struct world {
    uint32_t n_nodes, n_keys;
    bool back;
    uint64_t directory;                  /* keys at most; 0: no bound */
    uint64_t now_ms, epoch, index;
    struct cacher *cachers[WORLD_NODES];
    struct cacher_io cacher_io[WORLD_NODES];
    uint32_t lives[WORLD_NODES];
    struct home *homes[WORLD_HOMES];
    uint8_t home_node[WORLD_HOMES];
    uint32_t n_homes;                    /* the last one is the home; those before may live on, deposed */
    bool held[WORLD_NODES];
    struct world_memory memory[WORLD_KEYS];
    struct world_msg bag[WORLD_BAG];
    struct world_log log[WORLD_LOG];     /* proposed, not applied */
    uint32_t n_log;
    struct world_op ops[WORLD_OPS];
    uint32_t n_ops;
    uint8_t acked[WORLD_KEYS];           /* newest value that was acknowledged; values of a key grow in the order of writes */
    uint8_t next_value[WORLD_KEYS];
    uint32_t lost;                       /* writes that a crash or an ended lease may have lost (back) */
    struct { uint64_t ticket; uint8_t node, key; uint64_t cookie, before; } held_replies[WORLD_LOG];
    uint32_t n_held;
    const char *broken;                  /* what went wrong, or NULL */
};

struct world_ref { struct world *w; uint8_t number; }; /* arg of the callbacks */

void world_open(struct world *w, uint32_t nodes, uint32_t keys, bool back, uint64_t directory);
void world_close(struct world *w);
void world_read(struct world *w, uint8_t node, uint8_t key);
void world_write(struct world *w, uint8_t node, uint8_t key);
void world_deliver(struct world *w, uint32_t i, bool keep); /* keep: it may come again */
void world_drop(struct world *w, uint32_t i);
void world_apply(struct world *w);                          /* the oldest entry of the log */
void world_tick(struct world *w, uint64_t ms);
void world_crash(struct world *w, uint8_t node, bool keep_log); /* and a new home when it led: on the next node */
void world_new_home(struct world *w, bool keep_log);        /* leadership moves; the old one does not know yet */
void world_evict(struct world *w, uint8_t node, uint8_t key);
void world_drain(struct world *w);                          /* no more faults: everything must come to an end */
uint64_t world_digest(struct world *w);
void world_check(struct world *w);                          /* MC1, MC2: sets broken */

#endif
