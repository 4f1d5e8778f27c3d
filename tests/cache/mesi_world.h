/* A few cachers, their home, a memory and a network that a test decides everything about: one group, keys "0", "1", ... All of it lies in an arena (arena.h), so
 * that a state can be saved and put back. */
#ifndef SYN_TESTS_MESI_WORLD_H
#define SYN_TESTS_MESI_WORLD_H

#include "nodes/cache/cacher.h"
#include "nodes/cache/home.h"

enum {
    WORLD_NODES = 3, WORLD_KEYS = 2, WORLD_BAG = 40, WORLD_LOG = 16, WORLD_OPS = 16, WORLD_HOMES = 3, WORLD_VALUES = 24, WORLD_PARTS = 2,
    WORLD_MSG_BYTES = 128, WORLD_LEASE_MS = 100000, TO_CACHER = 255, OVER_ANY = 255
};

/* A write on its way to memory: of one entry, so its parts have one version. */
enum write_kind { WRITE_BATCH = 1, WRITE_JOINT, WRITE_CLEAR }; /* ops of one node; a command over several keys; FLUSHALL: the last two are nobody's */
struct world_part { uint8_t key, value, cookie; };
struct world_write {
    uint8_t kind, node, n, repeated;
    struct world_part parts[WORLD_PARTS];
    uint8_t ours[WORLD_PARTS];            /* in the answer */
    uint8_t unsure, refused;              /* in the answer: it may or may not have been done; it was not */
    uint64_t epoch, version, before[WORLD_PARTS], seq[WORLD_PARTS];
};

enum { MSG_REQUEST = 200, MSG_RESULT };   /* beside enum cache_msg_kind: bytes[0] of a message; then a struct world_write */
struct world_msg { bool used; uint8_t to_home; /* number of the home, or TO_CACHER */ uint8_t node; /* receiver, or sender to a home */ uint8_t len; uint8_t bytes[WORLD_MSG_BYTES]; uint32_t sent; /* in this order */ };
enum world_log_kind { LOG_WRITE = 1, LOG_FLUSH, LOG_FENCE, LOG_HOLD, LOG_DUE };
struct world_log { enum world_log_kind kind; uint8_t node, key, value; uint64_t txn, base; struct world_write write; };
struct world_op { bool write, done; uint8_t node, key, value, least, ever; };
struct world_memory { uint64_t version; uint8_t value; };
struct world;
struct world_ref { struct world *w; uint8_t number; }; /* arg of the callbacks */

struct world_options {
    uint32_t nodes, keys;
    bool back;
    bool counts;                          /* writes look at the value they replace */
    uint64_t directory;                   /* keys at most; 0: no bound */
};

struct world {
    struct world_options o;
    uint64_t now_ms, epoch, index;
    struct cacher *cachers[WORLD_NODES];
    struct world_ref cacher_refs[WORLD_NODES], home_refs[WORLD_HOMES];
    uint32_t lives[WORLD_NODES];
    struct home *homes[WORLD_HOMES];
    uint8_t home_node[WORLD_HOMES];
    uint32_t n_homes;                     /* the last one is the home; those before may live on, deposed */
    bool held[WORLD_NODES];
    struct world_memory memory[WORLD_KEYS];
    struct { uint64_t txn, version; } flushed[WORLD_NODES][WORLD_KEYS]; /* memory answers a repeated flush as before */
    struct world_msg bag[WORLD_BAG];
    struct world_log log[WORLD_LOG];      /* proposed, not applied */
    uint32_t n_log, sent;
    struct world_write waiting[WORLD_LOG]; /* applied, the reply is not released; version is the ticket */
    uint64_t tickets[WORLD_LOG];
    uint32_t n_waiting;
    struct world_op ops[WORLD_OPS];
    uint32_t n_ops;
    struct world_write turn;              /* writes through of this turn of a node */
    bool in_turn;
    /* What must hold. A key's values are ordered by when memory (through) or owners (back) took them. */
    uint8_t order[WORLD_KEYS][WORLD_VALUES]; /* 0: not taken */
    uint8_t last_order[WORLD_KEYS];
    uint8_t parent[WORLD_KEYS][WORLD_VALUES]; /* counts: the value that it replaced */
    uint32_t children[WORLD_KEYS];        /* values that are a parent */
    uint32_t dead[WORLD_KEYS];            /* values that were lost and seen to be */
    uint8_t ever[WORLD_KEYS];             /* newest value that was acknowledged */
    uint8_t floor[WORLD_KEYS];            /* the same, but for what may be lost (back) */
    uint8_t next_value[WORLD_KEYS];
    bool lossy[WORLD_KEYS];               /* a write may have been lost */
    bool cleared[WORLD_KEYS];             /* by FLUSHALL, which does not wait for what owners have written */
    const char *broken;                   /* what went wrong, or NULL */
};

struct world *world_open(const struct world_options *o); /* there is one at a time */
void world_read(struct world *w, uint8_t node, uint8_t key);
void world_write(struct world *w, uint8_t node, uint8_t key);
void world_write_two(struct world *w, uint8_t node, uint8_t a, uint8_t b); /* in one turn: one entry when they go through */
void world_write_joint(struct world *w, uint8_t node, bool clear);         /* all keys at once, past the lines */
void world_expire(struct world *w, uint8_t key);            /* memory changes by itself */
void world_deliver(struct world *w, uint32_t i, bool keep); /* keep: it may come again */
bool world_is_ready(struct world *w, const struct world_msg *m); /* else it waits for a home that is active */
void world_drop(struct world *w, uint32_t i);
bool world_can_refuse(const struct world_msg *m);
void world_refuse(struct world *w, uint32_t i);             /* a write that was not proposed: memory is full, say */
void world_apply(struct world *w);                          /* the oldest entry of the log */
void world_tick(struct world *w, uint64_t ms);
/* What becomes of writes that were proposed or not answered yet. */
enum world_fate { FATE_LOST, FATE_DONE, FATE_UNSURE, FATES };
void world_crash(struct world *w, uint8_t node, uint8_t next, enum world_fate fate); /* and a new home when it led: on next */
void world_new_home(struct world *w, uint8_t node, enum world_fate fate);  /* leadership moves; the old one does not know yet */
void world_evict(struct world *w, uint8_t node, uint8_t key);

void world_broken(struct world *w, const char *why);
uint8_t world_newer(const struct world *w, uint8_t key, uint8_t a, uint8_t b);

/* mesi_check.c */
void world_took(struct world *w, uint8_t key, uint8_t value, uint8_t over); /* a write was done on a value; OVER_ANY: it did not look */
void world_acknowledged(struct world *w, const struct world_op *o);
void world_answered(struct world *w, const struct world_op *o, uint8_t value); /* a read */
void world_may_lose(struct world *w, uint8_t key);          /* what memory does not have */
void world_tidy(struct world *w);                           /* messages that change nothing, whenever they come, go */
void world_check(struct world *w);                          /* MC1, MC2, MC4, MC12: sets broken */
bool world_is_still(struct world *w);                       /* nothing happens before time passes */
void world_drain(struct world *w);                          /* no more faults: everything must come to an end */
/* mesi_digest.c */
uint64_t world_digest(const struct world *w);

#endif
