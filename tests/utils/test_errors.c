/* Every word can be found again from the text that begins with it, and has what the docs and HTTP need. */
#include "test.h"

#include "utils/errors.h"
#include "utils/limits.h"

static void words_are_found_in_replies(void **state)
{
    (void)state;
    for (int i = 0; i < ERROR_WORD_COUNT; i++) {
        char text[128];
        snprintf(text, sizeof text, "-%s some text\r\n", error_table[i].word);
        enum error_word found;
        assert_true(error_find(slice_str(text), &found));
        assert_int_equal(found, i);
        assert_true(error_find(slice_str(error_table[i].word), &found));
        assert_int_equal(found, i);
    }
    enum error_word found;
    assert_false(error_find(slice_str("-LOCKEDOUT x"), &found));
    assert_false(error_find(slice_str("LOCK"), &found));
    assert_false(error_find(SLICE_NONE, &found));
    assert_false(error_find(SLICE_LIT("-"), &found));
}

static void each_has_a_status_and_advice(void **state)
{
    (void)state;
    for (int i = 0; i < ERROR_WORD_COUNT; i++) {
        assert_in_range(error_table[i].http_status, 400, 599);
        assert_true(strlen(error_table[i].what) > 10);
        assert_true(strlen(error_table[i].todo) > 5);
    }
    assert_int_equal(error_http_status(ERROR_TIMEOUT), 408);
    assert_string_equal(error_word(ERROR_NOQUORUM), "NOQUORUM");
}

/* The bounds fit into one another: what one door lets through, the next one carries. */
static void limits_agree(void **state)
{
    (void)state;
    assert_true(LIMIT_VALUE_BYTES + LIMIT_KEY_BYTES < LIMIT_COMMAND_BYTES);
    assert_true(LIMIT_ACQUIREALL_NAMES < LIMIT_RESP_ARGS);
    assert_true(LIMIT_ACQUIREALL_NAMES * LIMIT_KEY_BYTES < LIMIT_COMMAND_BYTES);
    assert_true(LIMIT_PREAUTH_ARGS * LIMIT_PREAUTH_ARG_BYTES <= LIMIT_PREAUTH_BYTES);
    assert_true(LIMIT_COMMAND_BYTES * 2 <= LIMIT_FRAME_BYTES);
    assert_true(LIMIT_TTL_MS_MIN < LIMIT_TTL_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_found_in_replies),
        cmocka_unit_test(each_has_a_status_and_advice),
        cmocka_unit_test(limits_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
