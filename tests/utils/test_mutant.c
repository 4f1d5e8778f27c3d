/* A planted fault is off in an ordinary build and answers to its own name only in a build that has them. */
#include "test.h"

#include "utils/mutant.h"

static void one_fault_at_a_time(void **state)
{
    (void)state;
#ifdef SYN_MUTANTS
    mutant_select("S23");
    assert_true(MUTANT("S23"));
    assert_false(MUTANT("S2"));
    assert_false(MUTANT("S230"));
    mutant_select(NULL);
    assert_false(MUTANT("S23"));
#else
    assert_false(MUTANT("S23"));
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_fault_at_a_time)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
