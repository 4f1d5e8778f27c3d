/* Is a history linearizable? Wing and Gong 1993 with Lowe's improvements (2016, "Testing for linearizability"): a linked list of
 * calls and returns, lift and unlift, and a memory of (set of linearized operations, state) pairs that were already tried.
 *
 * A model is a state of at most WGL_STATE_WORDS words and a step function. An operation whose outcome nobody learned has
 * return_at = WGL_NEVER: it may take effect at any time after its call, or never. Operations of different objects are checked
 * apart (P-compositionality, Horn and Kroening 2015): the caller partitions. */
#ifndef SYN_SIM_WGL_H
#define SYN_SIM_WGL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WGL_STATE_WORDS = 12 };
#define WGL_NEVER UINT64_MAX

struct wgl_state {
    uint64_t w[WGL_STATE_WORDS];
};

struct wgl_op {
    uint64_t call_at, return_at; /* any clock that all operations share; a return is after an equal call */
    uint32_t kind;               /* the model's */
    uint64_t arg[3];
    uint64_t result;
};

struct wgl_model {
    void (*init)(struct wgl_state *s);
    /* True when op with its result can happen in state *s; *s becomes the state after it. */
    bool (*step)(struct wgl_state *s, const struct wgl_op *op);
    /* So many operations that never returned, one after the other, explain whatever such can explain; those that are alike count once. 0: no such bound. */
    uint32_t open_run_max;
};

enum wgl_verdict { WGL_OK, WGL_VIOLATION, WGL_UNKNOWN };

/* ops: in any order. budget: so many steps at most, then WGL_UNKNOWN. *deepest: how many operations the best attempt placed, and
 * blocked[] (may be NULL) the index of the first operation it could not place. */
enum wgl_verdict wgl_check(const struct wgl_model *m, const struct wgl_op *ops, size_t n, uint64_t budget, size_t *deepest,
                           size_t *blocked);

/* A register: kind REG_WRITE (arg 0), REG_READ (result), REG_CAS (arg 0 -> arg 1, result 1 when it happened). */
enum { REG_READ, REG_WRITE, REG_CAS };
extern const struct wgl_model wgl_register;

/* A lock. arg[0] owner (never 0), arg[1] mode (1 shared, 2 exclusive), arg[2] token. */
enum {
    WLOCK_ACQUIRE,   /* granted with the token in arg[2] (0: nobody learned it) */
    WLOCK_REFUSED,   /* found it held: legal only when it is held in a way that excludes arg[1] */
    WLOCK_RELEASE,   /* arg[0] held it */
    WLOCK_STALE,     /* arg[0] did not hold it */
    WLOCK_RENEW,     /* arg[0] held it */
    WLOCK_END,       /* it was taken from arg[0], if it had it: expiry, end of a session */
    WLOCK_CHECK,     /* arg[1] set: no token newer than arg[2] was given; else: result is the newest one */
    WLOCK_MAYBE,     /* release with unknown outcome: does nothing when arg[0] does not hold it */
};
extern const struct wgl_model wgl_lock;

#endif
