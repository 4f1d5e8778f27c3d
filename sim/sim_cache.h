/* The cache's part of the simulator: what clients ask of it, and what must hold of what they are told and of the nodes' lines (docs/simulator.md, "Cache").
 *
 * Rooms: cache_work.c (what clients do), cache_client.c (requests and replies as bytes), check_cache.c (lines and memory, after every event),
 * check_cache_history.c (linearizability of each key). */
#ifndef SYN_SIM_SIM_CACHE_H
#define SYN_SIM_SIM_CACHE_H

#include "sim_internal.h"

enum {
    CSIM_REGISTERS = 4,    /* keys by what is done to them: these are wanted by everybody, */
    CSIM_COUNTER_AT = 4,   /* two are counters, */
    CSIM_TIMED_AT = 6,     /* two expire, */
    CSIM_FENCED_AT = 8,    /* one is written with fencing tokens, */
    CSIM_PAIR_AT = 9,      /* two share a tag, */
    CSIM_SCRATCH_AT = 11,  /* two are renamed and copied, and their values are not checked, */
    CSIM_CHURN_AT = 13,    /* and the rest pass through */
    CSIM_KEYS = 61,
};

/* What happens to one key: a request of one key is one, MGET, MSET and MSETNX are one for each. */
enum csim_kind {
    CSIM_GET = 1, CSIM_SET, CSIM_SETNX, CSIM_SETXX, CSIM_SETGET, CSIM_SETPX, CSIM_DEL, CSIM_GETDEL, CSIM_IFEQ, CSIM_DELEX, CSIM_APPEND, CSIM_INCR, CSIM_EXPIRE,
    CSIM_PERSIST, CSIM_FENCE, CSIM_CLEAR, CSIM_KINDS_END,
};

/* Requests that are not one csim_kind of one key. */
enum csim_form { CSIM_FORM_ONE = 0, CSIM_FORM_MGET, CSIM_FORM_MSET, CSIM_FORM_MSETNX, CSIM_FORM_RENAME, CSIM_FORM_COPY, CSIM_FORM_FLUSHALL, CSIM_FORM_INVALIDATE,
                 CSIM_FORM_FLUSH };

struct csim_event {
    uint64_t op;               /* of the request */
    uint8_t kind;
    bool known;                /* result is what the client was told */
    uint32_t key;
    uint64_t result;           /* hash of a value, 0: none; a number; 1 or 0 */
    uint64_t arg;              /* milliseconds, a token, or the event whose value is compared with */
    uint64_t seen_us;          /* somebody was told its value: it was done by then; UINT64_MAX: nobody was */
};

struct csim_ask {
    uint8_t form;
    uint32_t key;              /* of forms without events */
    uint64_t first;            /* its events */
    uint32_t n;
};

/* What an owner had not flushed when it died or its lease was over may be lost: the key's value is then what memory has. */
struct csim_loss {
    uint32_t key, number;      /* the same number: at most one of them happens */
    uint64_t from_us;
    uint64_t hash, len, token;
    bool timed;
};

/* What memory had of a key from then on, as the canonical log has it. */
struct csim_memory {
    uint32_t key;
    bool timed;
    uint64_t at_us, hash, len, token;
};

/* A key's line at a node, as it was after the node's last event. */
struct csim_line {
    bool dirty, orphan;
    uint64_t lease_end_us, dirty_since_ms;
    uint8_t state;
};

struct csim_key {
    char name[16];
    uint32_t group;
    uint64_t last_set;         /* the newest event that wrote a value of its own */
    uint64_t version;          /* of memory (MC8) */
    uint32_t losses;
    uint64_t loss_from_us;     /* of the newest of its losses */
    uint64_t late_until_us;    /* until then a flush of who lost the key may still come */
};

struct sim_cache {
    bool on, alone;            /* alone: no locks, no queues */
    bool back;
    struct prng prng;
    uint32_t entries, contended;
    uint64_t lease_ms, flush_ms, directory_keys;
    struct csim_key keys[CSIM_KEYS];
    struct csim_line lines[SIM_NODES_MAX][CSIM_KEYS];
    struct csim_ask *asks;
    uint64_t n_asks, cap_asks;
    struct csim_event *events;
    uint64_t n_events, cap_events;
    struct csim_memory *memory; /* of all keys, in the order of time */
    uint64_t n_memory, cap_memory;
    struct csim_loss *losses;
    uint64_t n_losses, cap_losses;
};

/* cache_work.c */
void cache_sim_open(struct sim *s);
void cache_sim_close(struct sim *s);
bool cache_client(const struct sim *s, uint32_t index);
bool cache_serves(const struct sim *s, uint32_t node); /* after the heal: whoever is asked there should get an answer */
void cache_options(struct sim *s, struct node_options *o);
void cache_next(struct sim *s, struct sim_client *c);
void cache_client_answered(struct sim *s, struct sim_client *c, uint64_t op);
bool cache_may_retry(struct sim *s, const struct sim_op *o);
struct csim_ask *cache_ask_of(struct sim *s, const struct sim_op *o);

/* cache_client.c */
void cache_ask_write(struct sim *s, uint64_t op, struct buf *out);
void cache_on_ok(struct sim *s, uint64_t op, slice_t reply);
void cache_on_error(struct sim *s, struct sim_op *o, slice_t text);
/* The bytes that an event writes or appends; a hash of bytes that goes on where another one ended. */
void cache_value(const struct sim_cache *q, uint64_t event, struct buf *out);
uint64_t cache_hash(uint64_t h, slice_t bytes);
#define CSIM_HASH_NONE UINT64_C(14695981039346656037)

/* check_cache.c */
void cache_check_step(struct sim *s, struct sim_node *n);              /* after each of its events */
void cache_check_died(struct sim *s, struct sim_node *n, bool asked);  /* before the node is freed; asked: it was to stop */
void cache_check_applied(void *arg, uint32_t group, uint64_t index, uint64_t time_ms, slice_t op, const struct cache_out *out);
void cache_trace(struct sim *s);                                        /* keys, lines and homes that are not at rest */
bool cache_settled(struct sim *s, char *why, size_t size);

/* check_cache_history.c */
void cache_history_check(struct sim *s);

#endif
