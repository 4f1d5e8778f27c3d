/* Walks every state that a scenario can reach (mesi_walk.c says how and why that is all of them). */
#ifndef SYN_TESTS_MESI_WALK_H
#define SYN_TESTS_MESI_WALK_H

#include "mesi_world.h"

enum step_kind {
    STEP_READ, STEP_WRITE, STEP_TWICE /* two writes of a key in one turn */, STEP_PAIR /* of two keys */, STEP_JOINT, STEP_CLEAR, STEP_EXPIRE, STEP_DELIVER, STEP_DOUBLE,
    STEP_DROP, STEP_APPLY, STEP_TICK, STEP_INTERVAL /* CACHE_FLUSH_INTERVAL */, STEP_LEASE, STEP_CRASH, STEP_HOME, STEP_EVICT,
    STEP_REFUSE, STEP_KINDS
};

struct scenario {
    const char *name;
    struct world_options o;
    const char *start;        /* what was done and came to its end before: "r1" a read at node 1, "w0" a write at node 0; of key 0 */
    uint8_t most[STEP_KINDS]; /* how often, at most; DELIVER and APPLY without bound */
    uint64_t budget;          /* states at most in a short run; 0: all */
    uint8_t faults;           /* at most so many steps in all that are neither an op, a delivery nor an entry; 0: as many as `most` says */
};

struct walk_result { uint64_t states, steps, drains; bool closed, failed; };

/* states at most, 0: as many as there are. Prints the way to what is wrong. */
struct walk_result walk(const struct scenario *s, uint64_t budget);

#endif
