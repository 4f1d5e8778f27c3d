/* The wheel against a plain list that is scanned: same timers due, same order, whatever the steps of time. */
#include "test.h"

#include "utils/assert.h"
#include "utils/prng.h"
#include "utils/timer_wheel.h"

enum { TIMERS = 200 };

struct timed {
    struct timer timer;
    int id;
    uint64_t set_no; /* model: order of setting; 0: not armed */
    uint64_t at_ms;
};

struct bench {
    struct timer_wheel wheel;
    struct timed timers[TIMERS];
    uint64_t now_ms;
    uint64_t set_no;
};

static void bench_init(struct bench *b, uint64_t now_ms)
{
    wheel_init(&b->wheel, now_ms);
    b->now_ms = now_ms;
    b->set_no = 0;
    for (int i = 0; i < TIMERS; i++) {
        b->timers[i] = (struct timed){.id = i};
        timer_init(&b->timers[i].timer);
    }
}

static void bench_set(struct bench *b, int i, uint64_t at_ms)
{
    wheel_set(&b->wheel, &b->timers[i].timer, at_ms);
    b->timers[i].set_no = ++b->set_no;
    b->timers[i].at_ms = at_ms;
}

static void bench_cancel(struct bench *b, int i)
{
    wheel_cancel(&b->wheel, &b->timers[i].timer);
    b->timers[i].set_no = 0;
}

/* The model: the armed timer due by now_ms with the least (at_ms, set_no), or NULL. */
static struct timed *model_first(struct bench *b, uint64_t now_ms)
{
    struct timed *first = NULL;
    for (int i = 0; i < TIMERS; i++) {
        struct timed *t = &b->timers[i];
        if (t->set_no == 0 || t->at_ms > now_ms) {
            continue;
        }
        if (first == NULL || t->at_ms < first->at_ms || (t->at_ms == first->at_ms && t->set_no < first->set_no)) {
            first = t;
        }
    }
    return first;
}

static void bench_advance(struct bench *b, uint64_t now_ms)
{
    struct list due;
    list_init(&due);
    wheel_advance(&b->wheel, now_ms, &due);
    b->now_ms = now_ms;
    while (!list_empty(&due)) {
        struct timed *got = CONTAINER_OF(due.next, struct timed, timer.link), *want = model_first(b, now_ms);
        assert_non_null(want);
        assert_int_equal(got->id, want->id);
        list_remove(due.next);
        want->set_no = 0;
    }
    assert_null(model_first(b, now_ms));
    wheel_check(&b->wheel);
}

static uint64_t random_span(struct prng *g)
{
    static const uint64_t spans[] = {3, 300, 70000, 20000000, 5000000000u, 100000000000u};
    return prng_below(g, spans[prng_below(g, 6)]);
}

static void next_is_a_lower_bound(struct bench *b)
{
    struct timed *first = model_first(b, UINT64_MAX);
    uint64_t next_ms = wheel_next_ms(&b->wheel);
    if (first == NULL) {
        assert_true(next_ms == UINT64_MAX);
    } else {
        assert_true(next_ms <= (first->at_ms > b->now_ms ? first->at_ms : b->now_ms));
        assert_true(next_ms >= b->now_ms);
    }
}

static void behaves_as_the_model(void **state)
{
    (void)state;
    static struct bench b;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct prng g;
        prng_init(&g, seed);
        bench_init(&b, prng_below(&g, 2) ? 0 : prng_u64(&g) >> 1);
        for (int step = 0; step < 1500; step++) {
            int i = (int)prng_below(&g, TIMERS);
            switch (prng_below(&g, 8)) {
            case 0: bench_advance(&b, b.now_ms + random_span(&g)); break;
            case 1: bench_cancel(&b, i); break;
            case 2: bench_set(&b, i, b.now_ms - (b.now_ms > 50 ? prng_below(&g, 50) : 0)); break;
            default: bench_set(&b, i, b.now_ms + random_span(&g)); break;
            }
            next_is_a_lower_bound(&b);
        }
        bench_advance(&b, b.now_ms + 200000000000u);
        wheel_fini(&b.wheel);
    }
}

/* Following wheel_next_ms from wake to wake reaches every timer at its very millisecond. */
static void following_next_finds_every_deadline(void **state)
{
    (void)state;
    static struct bench b;
    struct prng g;
    prng_init(&g, 7);
    bench_init(&b, 12345);
    for (int i = 0; i < TIMERS; i++) {
        bench_set(&b, i, b.now_ms + random_span(&g));
    }
    uint64_t wakes = 0, next_ms;
    while ((next_ms = wheel_next_ms(&b.wheel)) != UINT64_MAX) {
        struct timed *first = model_first(&b, UINT64_MAX);
        assert_true(next_ms <= first->at_ms || next_ms == b.now_ms);
        bench_advance(&b, next_ms);
        wakes++;
    }
    assert_true(wakes < TIMERS * (WHEEL_LEVELS + 1) + 64);
}

/* The same settings at the same times give one order of firing, in one step or in many. */
static void order_does_not_depend_on_steps(void **state)
{
    (void)state;
    static struct bench b;
    int orders[3][TIMERS];
    for (int run = 0; run < 3; run++) {
        struct prng g;
        prng_init(&g, 99);
        bench_init(&b, 1000);
        for (int i = 0; i < TIMERS; i++) {
            bench_set(&b, i, 1000 + prng_below(&g, i % 2 ? 40 : 90000));
        }
        struct list due;
        list_init(&due);
        static const uint64_t steps[] = {100000, 1, 733};
        for (uint64_t now_ms = 1000; now_ms < 100000; now_ms += steps[run]) {
            wheel_advance(&b.wheel, now_ms, &due);
        }
        wheel_advance(&b.wheel, 200000, &due);
        int n = 0;
        list_each(it, &due) {
            orders[run][n++] = CONTAINER_OF(it, struct timed, timer.link)->id;
        }
        assert_int_equal(n, TIMERS);
    }
    assert_memory_equal(orders[0], orders[1], sizeof orders[0]);
    assert_memory_equal(orders[0], orders[2], sizeof orders[0]);
}

static void a_due_timer_can_still_be_cancelled(void **state)
{
    (void)state;
    static struct bench b;
    bench_init(&b, 0);
    bench_set(&b, 0, 5);
    bench_set(&b, 1, 5);
    bench_set(&b, 2, 6);
    struct list due;
    list_init(&due);
    wheel_advance(&b.wheel, 10, &due);
    assert_true(timer_armed(&b.timers[1].timer));
    wheel_cancel(&b.wheel, &b.timers[1].timer);
    wheel_set(&b.wheel, &b.timers[2].timer, 300);
    assert_ptr_equal(due.next, &b.timers[0].timer.link);
    assert_ptr_equal(due.prev, &b.timers[0].timer.link);
    assert_false(timer_armed(&b.timers[1].timer));
    wheel_check(&b.wheel);
}

static void for_ever_is_a_deadline_too(void **state)
{
    (void)state;
    static struct bench b;
    bench_init(&b, 0);
    bench_set(&b, 0, UINT64_MAX);
    bench_set(&b, 1, (uint64_t)1 << 50);
    bench_advance(&b, ((uint64_t)1 << 50) - 1);
    assert_int_equal(b.timers[1].timer.at_ms, (uint64_t)1 << 50);
    bench_advance(&b, (uint64_t)1 << 50);
    assert_false(timer_armed(&b.timers[1].timer));
    bench_advance(&b, UINT64_MAX - 1);
    assert_true(timer_armed(&b.timers[0].timer));
    bench_advance(&b, UINT64_MAX);
    assert_false(timer_armed(&b.timers[0].timer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_as_the_model),
        cmocka_unit_test(following_next_finds_every_deadline),
        cmocka_unit_test(order_does_not_depend_on_steps),
        cmocka_unit_test(a_due_timer_can_still_be_cancelled),
        cmocka_unit_test(for_ever_is_a_deadline_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
