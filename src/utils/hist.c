/* Durations counted in log2 buckets with linear sub-buckets; see hist.h. Responsible for recording without allocation and
 * for reading percentiles back; not for when to record. The counter of a value is monotone in the value, and the counters
 * cover the range without gap: counter_of(counter_end(i)) == i and counter_of(counter_end(i) + 1) == i + 1. */
#include "utils/hist.h"

#include "utils/assert.h"

#include <string.h>

static uint32_t counter_of(uint64_t us)
{
    us = us < HIST_US_MAX ? us : HIST_US_MAX;
    int top = 63 - __builtin_clzll(us | (2 * HIST_HALF - 1)); /* at least HIST_SUB_BITS - 1 */
    int shift = top - (HIST_SUB_BITS - 1);
    return (uint32_t)shift * HIST_HALF + (uint32_t)(us >> shift);
}

static uint64_t counter_end(uint32_t i)
{
    if (i < 2 * HIST_HALF) {
        return i;
    }
    uint32_t shift = i / HIST_HALF - 1;
    uint64_t sub = i - shift * HIST_HALF;
    return ((sub + 1) << shift) - 1;
}

void hist_init(struct hist *h)
{
    memset(h, 0, sizeof *h);
    h->min_us = UINT64_MAX;
}

void hist_record(struct hist *h, uint64_t us)
{
    uint32_t i = counter_of(us);
    syn_assert(i < HIST_COUNTERS);
    h->counters[i]++;
    h->count++;
    h->sum_us += us;
    h->min_us = us < h->min_us ? us : h->min_us;
    h->max_us = us > h->max_us ? us : h->max_us;
}

/* How many recorded values lie at or below the percentile: at least one, at most all. */
static uint64_t rank_of(const struct hist *h, double percent)
{
    double share = percent < 0 ? 0 : percent > 100 ? 1 : percent / 100;
    double exact = share * (double)h->count - 1e-9 * (double)h->count; /* 99.9 % of 1000 is 999, not a hair more */
    uint64_t rank = exact > 0 ? (uint64_t)exact : 0;
    rank += (double)rank < exact ? 1 : 0;
    return rank < 1 ? 1 : rank > h->count ? h->count : rank;
}

uint64_t hist_percentile_us(const struct hist *h, double percent)
{
    if (h->count == 0) {
        return 0;
    }
    uint64_t rank = rank_of(h, percent), seen = 0;
    for (uint32_t i = 0; i < counter_of(h->max_us); i++) {
        seen += h->counters[i];
        if (seen >= rank) {
            uint64_t end_us = counter_end(i);
            return end_us < h->max_us ? end_us : h->max_us;
        }
    }
    return h->max_us;
}

double hist_mean_us(const struct hist *h)
{
    return h->count > 0 ? (double)h->sum_us / (double)h->count : 0;
}
