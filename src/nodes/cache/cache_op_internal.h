/* Inside cache_op*.c: an op taken apart, and what these files do for each other. The surface is cache_ops.h. */
#ifndef SYN_NODES_CACHE_CACHE_OP_INTERNAL_H
#define SYN_NODES_CACHE_CACHE_OP_INTERNAL_H

#include "nodes/cache/cache_ops.h"

/* What an op does. Numbers are in logs: new ones go before their end mark, none is used again. */
enum op_kind {
    OP_GET = 1, OP_STRLEN, OP_GETRANGE, OP_EXISTS, OP_TYPE, OP_TTL, OP_GETBIT, OP_BITCOUNT, OP_BITPOS, OP_ENCODING, OP_REFCOUNT, OP_FREQ,
    OP_IDLETIME, OP_USAGE,
    OP_READS_END,
    OP_SET = 64, OP_GETDEL, OP_GETEX, OP_APPEND, OP_SETRANGE, OP_INCRBY, OP_INCRBYFLOAT, OP_DEL, OP_DELEX, OP_EXPIRE, OP_PERSIST, OP_SETBIT,
    OP_WRITES_END,
};

enum op_flag {
    OP_NX = 1 << 0, OP_XX = 1 << 1,            /* SET: if it is absent, there; EXPIRE: if it has no expiry, one */
    OP_GT = 1 << 2, OP_LT = 1 << 3,            /* EXPIRE: if the new one is later, sooner */
    OP_IFEQ = 1 << 4, OP_IFNE = 1 << 5,        /* SET, DELEX: by what the value is, see `other` */
    OP_FENCE = 1 << 6,                         /* SET: unless a newer token of `guard` was seen */
    OP_OLD = 1 << 7,                           /* SET: the reply is the value that was */
    OP_COUNT = 1 << 8,                         /* SET: the reply is 1 or 0 */
    OP_SECONDS = 1 << 9, OP_UNIX = 1 << 10,    /* TTL: in seconds; since 1970 */
    OP_FROM = 1 << 11, OP_TO = 1 << 12,        /* BITCOUNT, BITPOS: from a, to b */
    OP_BITS = 1 << 13,                         /* BITCOUNT, BITPOS: a and b count bits */
    OP_NEGATIVE = 1 << 14,                     /* INCRBYFLOAT: the sign; BITPOS: looks for a 0 */
    OP_ADD = 1 << 15,                          /* EXPIRE: to what is left of the expiry that there is */
};

/* What becomes of the expiry. */
enum op_time { OP_TIME_NONE = 0, OP_TIME_IN, OP_TIME_AT, OP_TIME_KEEP, OP_TIME_PERSIST, OP_TIME_END };

struct op {
    enum op_kind kind;
    uint32_t flags;
    enum op_time time;
    int64_t time_ms;       /* IN: from now; AT: since 1970 */
    int64_t a, b;          /* INCRBY: a. IDLETIME: the seconds a. USAGE: of a key of a bytes. Ranges: a to b. SETRANGE, SETBIT, GETBIT: offset a; SETBIT: bit b. INCRBYFLOAT: exponent a, mantissa b */
    slice_t value;         /* SET, APPEND, SETRANGE */
    slice_t other;         /* with IFEQ or IFNE */
    slice_t guard;         /* with FENCE ... */
    uint64_t token;        /* ... and its token */
};

/* A number of 64 bits of mantissa and 15 of exponent, as x87's long double: m * 2^e, m's highest bit set, or 0. */
struct real { bool negative, infinite; uint64_t m; int32_t e; };
enum { REAL_EXP_MAX = 16384 - 64, REAL_EXP_MIN = -16446 - 63 };

/* Bounds that both the door's parser and cache_op_valid hold. A time to live may not lead beyond what a clock can show. */
#define OP_TTL_MS_MAX (INT64_MAX - (INT64_C(1) << 45))

/* cache_op_codec.c */
void op_put(struct buf *out, const struct op *o);
bool op_get(slice_t bytes, struct op *o);   /* false: not what op_put writes */

/* cache_op_words.c: one function a form of arguments. False: `error` has the reply. */
struct op_words { const slice_t *argv; uint32_t argc; const char *name; struct op *op; struct buf *error; };
bool words_none(struct op_words *w);
bool words_value(struct op_words *w);
bool words_set(struct op_words *w);
bool words_setex(struct op_words *w);
bool words_getex(struct op_words *w);
bool words_expire(struct op_words *w);
bool words_delex(struct op_words *w);

/* cache_op_words_numbers.c */
bool words_int(struct op_words *w, slice_t s, int64_t *out);
bool words_incr(struct op_words *w);
bool words_decr(struct op_words *w);
bool words_incrby(struct op_words *w);
bool words_decrby(struct op_words *w);
bool words_float(struct op_words *w);
bool words_range(struct op_words *w);
bool words_setrange(struct op_words *w);
bool words_getbit(struct op_words *w);
bool words_setbit(struct op_words *w);
bool words_bitcount(struct op_words *w);
bool words_bitpos(struct op_words *w);
bool words_idle(struct op_words *w);
bool words_usage(struct op_words *w);

/* cache_op_number.c */
bool number_parse(slice_t s, int64_t *out); /* as Redis prints it and no other way */
slice_t number_print(char text[21], int64_t v);

/* cache_op_real.c */
bool real_parse(slice_t s, struct real *out);                      /* what strtold takes whole, but NaN, too large, too small */
struct real real_add(struct real a, struct real b);                /* rounds to even; may be infinite; not of two infinities */
void real_print(struct buf *out, struct real v);                   /* %.17Lf without trailing zeros; finite */

/* One op at work. `value` is empty when the item does not live. */
struct op_run {
    const struct op *op;
    const struct cache_item *in;
    bool lives;
    slice_t value;
    uint64_t expire_ms;
    struct cache_clock clock;
    struct cache_change *out;
    struct buf *reply;
};
/* The change becomes a value of n bytes with that expiry; where they go. */
uint8_t *run_put(struct op_run *r, size_t n, uint64_t expire_ms);
void run_delete(struct op_run *r);
bool run_too_long(struct op_run *r, uint64_t n); /* true: said so */
void run_value(struct op_run *r);                /* replies the value, or null */

/* cache_op_expire.c */
bool run_deadline(const struct op_run *r, uint64_t *expire_ms); /* of IN and AT; false: it is over */
void run_ttl(struct op_run *r);
void run_expire(struct op_run *r);
void run_persist(struct op_run *r);
void run_getex(struct op_run *r);

/* cache_op_set.c */
void run_set(struct op_run *r);
void run_del(struct op_run *r);
void run_delex(struct op_run *r);
void run_getdel(struct op_run *r);

/* cache_op_string.c */
void run_append(struct op_run *r);
void run_setrange(struct op_run *r);
void run_getrange(struct op_run *r);
void run_incrby(struct op_run *r);
void run_incrbyfloat(struct op_run *r);
void run_encoding(struct op_run *r);

/* cache_op_bits.c */
void run_getbit(struct op_run *r);
void run_setbit(struct op_run *r);
void run_bitcount(struct op_run *r);
void run_bitpos(struct op_run *r);

#endif
