/* struct hist: counts of durations in fixed memory, precise to three digits (the layout of HdrHistogram, Tene 2012):
 * values up to 2047 us each have a counter; every further power of two has 1024 counters of equal width.
 *
 * Range 0 us to 60 s; longer values count in the last counter, while max_us keeps them exactly. About 136 KiB: for
 * benchmarks and tests; what a node exports uses the coarse buckets of metrics.h. */
#ifndef SYN_UTILS_HIST_H
#define SYN_UTILS_HIST_H

#include <stdint.h>

enum {
    HIST_SUB_BITS = 11,                       /* 2048 sub-buckets: an error below 1/1024 */
    HIST_HALF = 1 << (HIST_SUB_BITS - 1),
    HIST_VALUE_BITS = 26,                     /* 2^26 us = 67 s */
    HIST_COUNTERS = (HIST_VALUE_BITS - HIST_SUB_BITS + 2) * HIST_HALF,
    HIST_US_MAX = 60 * 1000 * 1000,
};

struct hist {
    uint64_t count;
    uint64_t sum_us;
    uint64_t min_us; /* UINT64_MAX while empty */
    uint64_t max_us;
    uint64_t counters[HIST_COUNTERS];
};

void hist_init(struct hist *h);
void hist_record(struct hist *h, uint64_t us);

/* The value in microseconds that percent (0 to 100) of the recorded ones do not exceed, rounded up to the end of its
 * counter but never above max_us; 0 when empty. */
uint64_t hist_percentile_us(const struct hist *h, double percent);
double hist_mean_us(const struct hist *h); /* 0 when empty */

#endif
