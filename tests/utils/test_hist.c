/* Percentiles against the sorted values themselves: never below, at most one part in a thousand above. */
#include "test.h"

#include "utils/hist.h"
#include "utils/prng.h"

enum { VALUES = 20000 };

static struct hist a;
static uint64_t values[VALUES];

static int by_value(const void *x, const void *y)
{
    uint64_t u = *(const uint64_t *)x, v = *(const uint64_t *)y;
    return u < v ? -1 : u > v;
}

static void percentiles_are_within_a_thousandth(void **state)
{
    (void)state;
    struct prng g;
    prng_init(&g, 3);
    hist_init(&a);
    for (int i = 0; i < VALUES; i++) {
        values[i] = prng_below(&g, (uint64_t)1 << (1 + prng_below(&g, 25)));
        hist_record(&a, values[i]);
    }
    qsort(values, VALUES, sizeof values[0], by_value);
    static const double percents[] = {0.01, 1, 10, 50, 90, 99, 99.9, 99.99, 100};
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        size_t rank = (size_t)(percents[i] * VALUES / 100 + 0.999999);
        uint64_t exact = values[(rank < 1 ? 1 : rank) - 1], got = hist_percentile_us(&a, percents[i]);
        assert_true(got >= exact);
        assert_true(got - exact <= exact / 1000 + 1);
    }
    assert_int_equal(hist_percentile_us(&a, 100), values[VALUES - 1]);
    assert_int_equal(a.min_us, values[0]);
}

static void every_value_has_one_counter(void **state)
{
    (void)state;
    for (uint64_t us = 0; us <= HIST_US_MAX; us += us < 10000 ? 1 : us / 997) {
        hist_init(&a);
        hist_record(&a, us);
        hist_record(&a, HIST_US_MAX);
        uint64_t got = hist_percentile_us(&a, 50);
        assert_true(got >= us && got - us <= us / 1000);
    }
}

static void too_long_counts_and_shows_as_the_maximum(void **state)
{
    (void)state;
    hist_init(&a);
    assert_int_equal(hist_percentile_us(&a, 99), 0);
    assert_true(hist_mean_us(&a) == 0);
    hist_record(&a, 100);
    hist_record(&a, (uint64_t)1 << 40);
    assert_int_equal(hist_percentile_us(&a, 50), 100);
    assert_true(hist_percentile_us(&a, 100) == (uint64_t)1 << 40);
    assert_int_equal(a.count, 2);
}

static void the_mean_is_exact(void **state)
{
    (void)state;
    hist_init(&a);
    for (uint64_t i = 1; i <= 9999; i++) {
        hist_record(&a, i);
    }
    assert_true(hist_mean_us(&a) == 5000.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_within_a_thousandth),
        cmocka_unit_test(every_value_has_one_counter),
        cmocka_unit_test(too_long_counts_and_shows_as_the_maximum),
        cmocka_unit_test(the_mean_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
