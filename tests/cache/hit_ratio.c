/* Hit ratios of the policies on synthetic traces, as the table of docs/cache.md, "Bounds": hit_ratio [REQUESTS]
 *
 * 100,000 keys. zipf: the k-th key is asked for in proportion to 1 / k^a. scan over zipf: in every 20,000 requests, 10,000 in a row ask for keys that nobody asks
 * for twice. loop: 5,000 keys in turn, for ever, among a tenth of zipf(0.9). The first tenth of a trace warms up and does not count. */
#include "nodes/cache/lines.h"
#include "utils/prng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { KEYS = 100000, SCAN_PERIOD = 20000, SCAN_LENGTH = 10000, LOOP_KEYS = 5000 };

enum trace { ZIPF_09, ZIPF_10, SCAN, LOOP, TRACES };
static const char *const names[TRACES] = {"zipf(0.9)", "zipf(1.0)", "scan over zipf(1.0)", "loop of 5 % over zipf(0.9)"};

static double sums[2][KEYS]; /* of weights up to a key, for a = 0.9 and 1.0 */

static void weigh(double *sum, double a)
{
    double total = 0;
    for (int i = 0; i < KEYS; i++) {
        total += 1 / pow(i + 1, a);
        sum[i] = total;
    }
}

static uint32_t zipf(struct prng *g, const double *sum)
{
    double at = (double)(prng_u64(g) >> 11) / 9007199254740992.0 * sum[KEYS - 1];
    uint32_t lo = 0, hi = KEYS - 1;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (sum[mid] < at) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static uint32_t next_key(enum trace t, struct prng *g, uint32_t i)
{
    switch (t) {
    case ZIPF_09: return zipf(g, sums[0]);
    case ZIPF_10: return zipf(g, sums[1]);
    case SCAN: return i % SCAN_PERIOD < SCAN_LENGTH ? KEYS + i : zipf(g, sums[1]);
    case LOOP: return prng_below(g, 10) == 0 ? zipf(g, sums[0]) : KEYS + i % LOOP_KEYS;
    case TRACES: break;
    }
    return 0;
}

static double hit_ratio(enum trace t, enum lines_policy policy, uint32_t size, uint32_t requests)
{
    struct lines s;
    struct prng g;
    uint32_t hits = 0, counted = 0;
    lines_init(&s, &(struct lines_options){.hash_key = 1, .entries_max = size, .policy = policy});
    prng_init(&g, 7);
    for (uint32_t i = 0; i < requests; i++) {
        uint32_t k = next_key(t, &g, i);
        slice_t key = slice_of(&k, sizeof k);
        struct line *l = lines_find(&s, 0, key);
        counted += i >= requests / 10;
        if (l != NULL) {
            lines_touch(&s, l);
            hits += i >= requests / 10;
            continue;
        }
        l = lines_insert(&s, 0, key);
        struct line *gone = lines_are_too_many(&s, 0, 0) ? lines_victim(&s, l) : NULL;
        if (gone != NULL) {
            lines_remove(&s, gone);
        }
    }
    lines_fini(&s);
    return 100.0 * hits / counted;
}

int main(int argc, char **argv)
{
    uint32_t requests = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 2000000;
    weigh(sums[0], 0.9);
    weigh(sums[1], 1.0);
    printf("| requests | lines, of keys | `lru` | `s3fifo` |\n| --- | --- | --- | --- |\n");
    for (int t = 0; t < TRACES; t++) {
        for (uint32_t percent = 1; percent <= 10; percent += 9) {
            uint32_t size = KEYS / 100 * percent;
            printf("| %s | %u %% | %.1f %% | %.1f %% |\n", names[t], percent, hit_ratio((enum trace)t, LINES_LRU, size, requests),
                   hit_ratio((enum trace)t, LINES_S3FIFO, size, requests));
        }
    }
    return 0;
}
