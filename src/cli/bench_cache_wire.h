/* The cache benchmark's bytes: which key, its commands, and the quick look at their replies. */
#ifndef SYN_CLI_BENCH_CACHE_WIRE_H
#define SYN_CLI_BENCH_CACHE_WIRE_H

#include "utils/buf.h"
#include "utils/prng.h"

enum { CACHE_PREFIX_MAX = 100 };

/* Draws numbers from 0 to n - 1: number k with a probability proportional to 1 / (k + 1)^exponent. */
struct zipf {
    uint32_t n;
    double *sums; /* NULL: exponent 0 */
};
void zipf_init(struct zipf *z, uint32_t n, double exponent);
void zipf_fini(struct zipf *z);
uint32_t zipf_draw(const struct zipf *z, struct prng *g);

/* Templates of commands on prefix:<9 digits>, and a value. */
struct cache_wire {
    char get_head[CACHE_PREFIX_MAX + 64], set_head[CACHE_PREFIX_MAX + 64];
    struct buf set_tail;
};
void cache_wire_init(struct cache_wire *w, const char *prefix, uint32_t bytes);
void cache_wire_fini(struct cache_wire *w);
void cache_wire_get(const struct cache_wire *w, struct buf *out, uint32_t key);
void cache_wire_set(const struct cache_wire *w, struct buf *out, uint32_t key);

enum cache_answer { CACHE_MORE, CACHE_DONE, CACHE_ABSENT, CACHE_REFUSED, CACHE_BAD };
/* Looks at the reply at the start of in. REFUSED: *what is the error's first word. BAD: not RESP, or no answer to such a command. */
enum cache_answer cache_wire_reply(slice_t in, bool set, size_t *used, slice_t *what);

#endif
