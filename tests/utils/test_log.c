/* Log lines: time, escaping of what could forge or colour a line, levels, the limit per source. */
#include "test.h"

#include "utils/limits.h"
#include "utils/log.h"

static void assert_text(struct buf *b, const char *want)
{
    buf_put_u8(b, 0);
    assert_string_equal((const char *)b->ptr, want);
    buf_clear(b);
}

static void times_are_utc_and_gregorian(void **state)
{
    (void)state;
    static const struct { uint64_t ms; const char *text; } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {951782399999, "2000-02-28T23:59:59.999Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {1709164800001, "2024-02-29T00:00:00.001Z"},
        {1735689599123, "2024-12-31T23:59:59.123Z"},
        {4107542400000, "2100-03-01T00:00:00.000Z"},
    };
    struct buf b = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        log_time(&b, cases[i].ms);
        assert_text(&b, cases[i].text);
    }
    buf_fini(&b);
}

static void a_line_in_both_formats(void **state)
{
    (void)state;
    struct buf b = {0};
    log_line(&b, LOG_FORMAT_TEXT, 951782399999, LOG_WARN, "n1", SLICE_LIT("peer n2 is gone"));
    assert_text(&b, "2000-02-28T23:59:59.999Z warn  n1 peer n2 is gone\n");
    log_line(&b, LOG_FORMAT_TEXT, 0, LOG_ERROR, "", SLICE_LIT("x"));
    assert_text(&b, "1970-01-01T00:00:00.000Z error x\n");
    log_line(&b, LOG_FORMAT_JSON, 951782399999, LOG_INFO, "n1", SLICE_LIT("say \"hi\""));
    assert_text(&b, "{\"ts\":\"2000-02-28T23:59:59.999Z\",\"level\":\"info\",\"node\":\"n1\",\"msg\":\"say \\\"hi\\\"\"}\n");
    buf_fini(&b);
}

/* Every byte, and every pair of bytes: no control character comes out, whatever goes in. */
static void no_bytes_can_forge_a_line(void **state)
{
    (void)state;
    struct buf b = {0};
    for (unsigned v = 0; v < 65536; v++) {
        uint8_t in[2] = {(uint8_t)(v >> 8), (uint8_t)v};
        log_escape_text(&b, slice_of(in, 2));
        buf_put_u8(&b, '|');
        log_escape_json(&b, slice_of(in, 2));
        for (size_t i = 0; i < b.len; i++) {
            assert_true(b.ptr[i] >= 0x20 && b.ptr[i] != 0x7f);
            assert_false(b.ptr[i] == 0xc2 && i + 1 < b.len && b.ptr[i + 1] < 0xa0);
        }
        buf_clear(&b);
    }
    buf_fini(&b);
}

static void escapes_are_readable(void **state)
{
    (void)state;
    struct buf b = {0};
    log_escape_text(&b, SLICE_LIT("a\nb\x1b[31mc\\d\xff\xc3\xa9\xc0\xaf\xe2\x80\xae"));
    assert_text(&b, "a\\x0ab\\x1b[31mc\\\\d\\xff\xc3\xa9\\xc0\\xaf\\xe2\\x80\\xae");
    log_escape_json(&b, SLICE_LIT("a\nb\"\\\xff\xc3\xa9\xe2\x80\xa8\xed\xa0\x80"));
    assert_text(&b, "a\\u000ab\\\"\\\\\\ufffd\xc3\xa9\\u2028\\ufffd\\ufffd\\ufffd");
    buf_fini(&b);
}

static void long_text_is_cut(void **state)
{
    (void)state;
    static uint8_t text[LIMIT_LOG_LINE_BYTES * 2];
    memset(text, 'a', sizeof text);
    struct buf b = {0};
    log_line(&b, LOG_FORMAT_TEXT, 0, LOG_INFO, "n1", slice_of(text, sizeof text));
    assert_true(b.len < LIMIT_LOG_LINE_BYTES + 100);
    assert_memory_equal(b.ptr + b.len - 4, "...\n", 4);
    buf_fini(&b);
}

static int lines_written;

static void count_line(void *arg, enum log_level level, slice_t line)
{
    (void)level;
    *(int *)arg += 1;
    assert_true(line.len > 0 && line.ptr[line.len - 1] == '\n');
}

static void levels_below_are_dropped(void **state)
{
    (void)state;
    struct logger l;
    logger_init(&l, LOG_WARN, LOG_FORMAT_TEXT, "n1", (struct log_sink){&lines_written, count_line});
    logger_write(&l, 0, LOG_DEBUG, SLICE_LIT("a"));
    logger_write(&l, 0, LOG_INFO, SLICE_LIT("a"));
    assert_int_equal(lines_written, 0);
    logger_write(&l, 0, LOG_WARN, SLICE_LIT("a"));
    logger_write(&l, 0, LOG_ERROR, SLICE_LIT("a"));
    assert_int_equal(lines_written, 2);
    logger_fini(&l);
}

static void a_source_writes_one_line_a_second(void **state)
{
    (void)state;
    struct log_limit l = {0};
    uint64_t held_back = 99;
    assert_true(log_limit_pass(&l, 5000, &held_back));
    assert_int_equal(held_back, 0);
    for (int i = 1; i < 900; i++) {
        assert_false(log_limit_pass(&l, 5000 + (uint64_t)i, &held_back));
    }
    assert_true(log_limit_pass(&l, 6000, &held_back));
    assert_int_equal(held_back, 899);
    assert_true(log_limit_pass(&l, 9000, &held_back));
    assert_int_equal(held_back, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_utc_and_gregorian),   cmocka_unit_test(a_line_in_both_formats),
        cmocka_unit_test(no_bytes_can_forge_a_line),     cmocka_unit_test(escapes_are_readable),
        cmocka_unit_test(long_text_is_cut),              cmocka_unit_test(levels_below_are_dropped),
        cmocka_unit_test(a_source_writes_one_line_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
