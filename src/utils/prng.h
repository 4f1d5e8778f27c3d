/* A seeded generator (xoshiro256**, Blackman and Vigna 2018; seeded by splitmix64). The only randomness of the pure
 * folders: whoever owns the seed owns the run. Not for secrets. */
#ifndef SYN_UTILS_PRNG_H
#define SYN_UTILS_PRNG_H

#include <stdbool.h>
#include <stdint.h>

struct prng {
    uint64_t s[4];
};

void prng_init(struct prng *g, uint64_t seed);
uint64_t prng_u64(struct prng *g);
uint64_t prng_below(struct prng *g, uint64_t n);                /* 0 <= result < n; n > 0 */
uint64_t prng_range(struct prng *g, uint64_t lo, uint64_t hi);  /* lo <= result <= hi */
bool prng_chance(struct prng *g, uint32_t per_million);

#endif
