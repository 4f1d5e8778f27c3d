/* xoshiro256**; see prng.h. */
#include "utils/prng.h"

#include "utils/assert.h"

static uint64_t splitmix64(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

void prng_init(struct prng *g, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        g->s[i] = splitmix64(&seed);
    }
}

uint64_t prng_u64(struct prng *g)
{
    uint64_t *s = g->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t prng_below(struct prng *g, uint64_t n)
{
    syn_assert(n > 0);
    return (uint64_t)(((unsigned __int128)prng_u64(g) * n) >> 64);
}

uint64_t prng_range(struct prng *g, uint64_t lo, uint64_t hi)
{
    syn_assert(lo <= hi);
    return hi - lo == UINT64_MAX ? prng_u64(g) : lo + prng_below(g, hi - lo + 1);
}

bool prng_chance(struct prng *g, uint32_t per_million)
{
    return prng_below(g, 1000000) < per_million;
}
