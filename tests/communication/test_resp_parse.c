/* The RESP command parser: what it reads, what it refuses and in which words (I1-I12, I32), and that the answer never depends on
 * where the bytes were cut. hiredis' sdssplitargs, which is Redis' own, is the oracle for inline commands. */
#include "../utils/test.h"

#include "communication/resp.h"
#include "utils/limits.h"
#include "utils/prng.h"

#include <hiredis/sds.h>

static const struct resp_limits LIMITS = {LIMIT_RESP_ARGS, LIMIT_VALUE_BYTES, LIMIT_INLINE_BYTES, LIMIT_COMMAND_BYTES};

/* Parses one command at the start of in, which is copied to memory of exactly its size: a byte read beyond it is seen by the
 * sanitizers, and an argument kept from the last call is seen by everybody. Writes what came of it to `log`. */
static enum resp_status parse_copy(struct resp_parser *p, slice_t in, size_t *used, struct buf *log)
{
    uint8_t *copy = malloc(in.len ? in.len : 1);
    assert_non_null(copy);
    if (in.len > 0) {
        memcpy(copy, in.ptr, in.len);
    }
    const char *reason = NULL;
    enum resp_status st = resp_parse(p, slice_of(copy, in.len), used, &reason);
    if (st == RESP_OK) {
        for (uint32_t i = 0; i < p->argc; i++) {
            buf_printf(log, "%s%zu:", i ? " " : "", p->argv[i].len);
            buf_append_slice(log, p->argv[i]);
        }
        buf_append_str(log, ";");
    } else if (st == RESP_BAD) {
        assert_non_null(reason);
        buf_printf(log, "BAD %s", reason);
    }
    free(copy);
    return st;
}

/* A connection that receives `in` in pieces that end at multiples of `step` counted from `first`. */
static void run(const struct resp_limits *limits, slice_t in, size_t first, size_t step, struct buf *log)
{
    struct resp_parser p;
    resp_parser_init(&p, limits);
    size_t done = 0, there = first;
    for (;;) {
        size_t used = 0;
        enum resp_status st = parse_copy(&p, slice_of(in.ptr + done, there - done), &used, log);
        if (st == RESP_BAD || (st == RESP_MORE && there == in.len)) {
            break;
        }
        if (st == RESP_MORE) {
            there = there + step < in.len ? there + step : in.len;
        } else {
            assert_true(used > 0);
            done += used;
        }
    }
    if (done < in.len) {
        buf_printf(log, "(%zu left)", in.len - done);
    }
    resp_parser_fini(&p);
}

static void expect_limits(const struct resp_limits *limits, slice_t in, const char *want)
{
    struct buf whole = {0}, cut = {0};
    run(limits, in, in.len, 1, &whole);
    if (want != NULL && !slice_eq(buf_slice(&whole), slice_str(want))) {
        fail_msg("%.*s\ngot  %.*s\nwant %s", (int)in.len, (const char *)in.ptr, (int)whole.len, (const char *)whole.ptr, want);
    }
    size_t cuts = in.len < 300 ? in.len : 300;
    for (size_t i = 0; i <= cuts; i++) {
        buf_clear(&cut);
        run(limits, in, i == cuts ? 0 : i, i == cuts ? 1 : in.len, &cut);
        if (in.len > 4096 && i == cuts) {
            break;
        }
        if (!slice_eq(buf_slice(&whole), buf_slice(&cut))) {
            fail_msg("cut at %zu: %.*s", i, (int)cut.len, (const char *)cut.ptr);
        }
    }
    buf_fini(&whole);
    buf_fini(&cut);
}

static void expect(slice_t in, const char *want)
{
    expect_limits(&LIMITS, in, want);
}

#define EXPECT(in, want) expect(SLICE_LIT(in), want)

static void commands_are_read(void **state)
{
    (void)state;
    EXPECT("*1\r\n$4\r\nPING\r\n", "4:PING;");
    EXPECT("*2\r\n$4\r\nECHO\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n", "4:ECHO 0:;4:PING;");
    EXPECT("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\na\r\nbc\r\n", "3:SET 1:k 5:a\r\nbc;");
    EXPECT("PING\r\nPING\n\r\n  ECHO   a\tb \r\n", "4:PING;4:PING;;4:ECHO 1:a 1:b;");
    EXPECT("*2\r\n$4\r\nECHO\r\n$5\r\nab", "(20 left)");
    EXPECT("", "");
}

static void quotes_of_inline_commands(void **state)
{
    (void)state;
    EXPECT("ECHO \"a b\"\r\n", "4:ECHO 3:a b;");
    EXPECT("ECHO 'a \\'b' \"\\x41\\n\\\"\" \"\"\r\n", "4:ECHO 4:a 'b 3:A\n\" 0:;");
    EXPECT("ECHO \"a\r\n", "BAD unbalanced quotes in request(9 left)");
    EXPECT("ECHO \"a\"b\r\n", "BAD unbalanced quotes in request(11 left)");
    EXPECT("ECHO 'a\r\n", "BAD unbalanced quotes in request(9 left)");
}

static void i1_lengths_that_would_overflow(void **state)
{
    (void)state;
    EXPECT("*1\r\n$9223372036854775807\r\n", "BAD invalid bulk length(26 left)");
    EXPECT("*1\r\n$18446744073709551615\r\n", "BAD invalid bulk length(27 left)");
    EXPECT("*1\r\n$1048577\r\n", "BAD invalid bulk length(14 left)");
    EXPECT("*1\r\n$1048576\r\n", "(14 left)");
    struct resp_parser p;
    resp_parser_init(&p, &LIMITS);
    size_t used;
    const char *reason;
    assert_int_equal(resp_parse(&p, SLICE_LIT("*1024\r\n$1048576\r\nabc"), &used, &reason), RESP_MORE);
    assert_int_equal(p.cap, 0); /* nothing is allocated for what was only announced */
    resp_parser_fini(&p);
}

static void i2_negative_lengths(void **state)
{
    (void)state;
    EXPECT("*1\r\n$-1\r\n", "BAD invalid bulk length(9 left)");
    EXPECT("*1\r\n$-2\r\n", "BAD invalid bulk length(9 left)");
    EXPECT("*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n", ";;4:PING;");
    EXPECT("*-0\r\n", "BAD invalid multibulk length(5 left)");
}

static void i3_counts_that_would_overflow(void **state)
{
    (void)state;
    EXPECT("*2147483648\r\n", "BAD invalid multibulk length(13 left)");
    EXPECT("*99999999999999999999\r\n", "BAD invalid multibulk length(23 left)");
    EXPECT("*4294967297\r\n$4\r\nPING\r\n", "BAD invalid multibulk length(23 left)");
    EXPECT("*111111111111111111111111111111", "BAD invalid multibulk length(31 left)");
}

static void i4_lengths_are_strict_digits(void **state)
{
    (void)state;
    static const char *const lengths[] = {"+5", " 5", "5 ", "05", "0005", "0x5", "5a", "", "-", "--1", "-0", "5\t", "1e1", "00"};
    struct buf in = {0};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        buf_clear(&in);
        buf_printf(&in, "*1\r\n$%s\r\nhello\r\n", lengths[i]);
        struct buf want = {0};
        buf_printf(&want, "BAD invalid bulk length(%zu left)%c", in.len, 0);
        expect(buf_slice(&in), (const char *)want.ptr);
        buf_clear(&in);
        buf_clear(&want);
        buf_printf(&in, "*%s\r\n", lengths[i]);
        buf_printf(&want, "BAD invalid multibulk length(%zu left)%c", in.len, 0);
        expect(buf_slice(&in), (const char *)want.ptr);
        buf_fini(&want);
    }
    EXPECT("*1\n$4\nPING\n", "BAD invalid multibulk length(11 left)");
    EXPECT("*1\rx", "BAD invalid multibulk length(4 left)");
    buf_fini(&in);
}

static void i5_arrays_do_not_nest(void **state)
{
    (void)state;
    EXPECT("*1\r\n*1\r\n*1\r\n", "BAD expected '$', got '*'(12 left)");
    struct buf in = {0};
    for (int i = 0; i < 100000; i++) {
        buf_append_str(&in, "*1\r\n");
    }
    expect(buf_slice(&in), "BAD expected '$', got '*'(400000 left)");
    buf_fini(&in);
}

static void i6_many_empty_arguments(void **state)
{
    (void)state;
    struct buf in = {0};
    buf_printf(&in, "*%d\r\n", LIMIT_RESP_ARGS);
    for (int i = 0; i < LIMIT_RESP_ARGS; i++) {
        buf_append_str(&in, "$0\r\n\r\n");
    }
    struct resp_parser p;
    size_t used;
    const char *reason;
    resp_parser_init(&p, &LIMITS);
    assert_int_equal(resp_parse(&p, buf_slice(&in), &used, &reason), RESP_OK);
    assert_int_equal(p.argc, LIMIT_RESP_ARGS);
    assert_int_equal(used, in.len);
    assert_true(p.cap <= 2 * LIMIT_RESP_ARGS);
    resp_parser_fini(&p);
    EXPECT("*1025\r\n$0\r\n\r\n", "BAD invalid multibulk length(13 left)");
    EXPECT("*1048576\r\n$0\r\n\r\n", "BAD invalid multibulk length(16 left)");
    buf_fini(&in);
}

static void i7_bulk_ends_in_crlf(void **state)
{
    (void)state;
    EXPECT("*1\r\n$4\r\nPINGxx", "BAD expected CRLF after bulk(14 left)");
    EXPECT("*1\r\n$4\r\nPING\r\r", "BAD expected CRLF after bulk(14 left)");
    EXPECT("*1\r\n$4\r\nPING\n\n", "BAD expected CRLF after bulk(14 left)");
    EXPECT("*1\r\n$4\r\nPINGS\r\n", "BAD expected CRLF after bulk(15 left)");
}

static void i8_inline_without_end(void **state)
{
    (void)state;
    struct buf in = {0};
    memset(buf_reserve(&in, LIMIT_INLINE_BYTES), 'x', LIMIT_INLINE_BYTES);
    in.len = LIMIT_INLINE_BYTES - 1;
    expect(buf_slice(&in), "(4095 left)");
    in.len = LIMIT_INLINE_BYTES;
    expect(buf_slice(&in), "BAD too big inline request(4096 left)");
    in.ptr[LIMIT_INLINE_BYTES - 1] = '\n';
    struct resp_parser p;
    size_t used;
    const char *reason;
    resp_parser_init(&p, &LIMITS);
    assert_int_equal(resp_parse(&p, buf_slice(&in), &used, &reason), RESP_OK);
    assert_int_equal(p.argv[0].len, LIMIT_INLINE_BYTES - 1);
    resp_parser_fini(&p);
    buf_fini(&in);
}

static void i9_strangers_are_held_to_little(void **state)
{
    (void)state;
    const struct resp_limits preauth = {LIMIT_PREAUTH_ARGS, LIMIT_PREAUTH_ARG_BYTES, LIMIT_PREAUTH_ARG_BYTES, LIMIT_PREAUTH_BYTES};
    expect_limits(&preauth, SLICE_LIT("*9\r\n"), "BAD invalid multibulk length(4 left)");
    expect_limits(&preauth, SLICE_LIT("*2\r\n$4\r\nAUTH\r\n$1025\r\n"), "BAD invalid bulk length(21 left)");
    expect_limits(&preauth, SLICE_LIT("*8\r\n$1\r\na\r\n"), "(11 left)");
    expect_limits(&preauth, SLICE_LIT("a b c d e f g h i\r\n"), "BAD too many arguments(19 left)");
    struct resp_parser p;
    size_t used;
    const char *reason;
    resp_parser_init(&p, &preauth);
    assert_int_equal(resp_parse(&p, SLICE_LIT("*8\r\n$1\r\na\r\n$1\r\nb\r\n$10"), &used, &reason), RESP_MORE);
    assert_true(p.cap * sizeof *p.argv + p.unquoted.cap <= 4096);
    resp_parser_fini(&p);
}

static void a_command_is_bounded_as_a_whole(void **state)
{
    (void)state;
    const struct resp_limits small = {8, 100, 64, 120};
    expect_limits(&small, SLICE_LIT("*2\r\n$4\r\nECHO\r\n$100\r\n"), "(20 left)");
    expect_limits(&small, SLICE_LIT("*3\r\n$4\r\nECHO\r\n$5\r\nhello\r\n$100\r\n"), "BAD invalid bulk length(31 left)");
}

static void i11_reply_types_from_a_client(void **state)
{
    (void)state;
    EXPECT("%1\r\n$1\r\na\r\n$1\r\nb\r\n", "BAD expected '*', got '%'(18 left)");
    static const char heads[] = "$+-:_#,(!=%~>|";
    for (size_t i = 0; i < sizeof heads - 1; i++) {
        struct buf in = {0}, want = {0};
        buf_printf(&in, "%c1\r\n", heads[i]);
        buf_printf(&want, "BAD expected '*', got '%c'(4 left)%c", heads[i], 0);
        expect(buf_slice(&in), (const char *)want.ptr);
        buf_clear(&in);
        buf_clear(&want);
        buf_printf(&in, "*2\r\n$1\r\na\r\n%c1\r\n", heads[i]);
        if (heads[i] != '$') {
            buf_printf(&want, "BAD expected '$', got '%c'(15 left)%c", heads[i], 0);
            expect(buf_slice(&in), (const char *)want.ptr);
        }
        buf_fini(&in);
        buf_fini(&want);
    }
    EXPECT("*1\r\n\n", "BAD expected '$', got '?'(5 left)");
}

static void i12_arguments_are_any_bytes(void **state)
{
    (void)state;
    static const char raw[] = "*2\r\n$4\r\nECHO\r\n$6\r\n\0\r\n\xff\r\n\r\n";
    struct resp_parser p;
    size_t used;
    const char *reason;
    resp_parser_init(&p, &LIMITS);
    assert_int_equal(resp_parse(&p, SLICE_LIT(raw), &used, &reason), RESP_OK);
    assert_true(slice_eq(p.argv[1], SLICE_LIT("\0\r\n\xff\r\n")));
    resp_parser_fini(&p);
    expect(SLICE_LIT(raw), NULL);
}

static void i32_a_browser_on_this_port(void **state)
{
    (void)state;
    static const char *const lines[] = {"POST / HTTP/1.1", "post x", "Host: here", "HOST: here", "GET / HTTP/1.1", "OPTIONS * HTTP/1.0",
                                        "DELETE /lock/a HTTP/1.1"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct buf in = {0}, want = {0};
        buf_printf(&in, "%s\r\nSET a b\r\n", lines[i]);
        buf_printf(&want, "BAD HTTP on the RESP port: the HTTP door has a port of its own(%zu left)%c", in.len, 0);
        expect(buf_slice(&in), (const char *)want.ptr);
        buf_fini(&in);
        buf_fini(&want);
    }
    EXPECT("GET /key\r\nPOSTER a\r\n", "3:GET 4:/key;6:POSTER 1:a;");
}

/* A line of the bytes that mean something, and a few that do not. */
static void random_line(struct prng *g, struct buf *line)
{
    static const char alphabet[] = " \t\v\f\"\"''\\\\xn4aAz\0\r";
    uint64_t n = prng_below(g, 24);
    buf_clear(line);
    for (uint64_t i = 0; i < n; i++) {
        buf_put_u8(line, (uint8_t)alphabet[prng_below(g, sizeof alphabet - 1)]);
    }
}

static void inline_commands_split_as_redis_splits_them(void **state)
{
    (void)state;
    struct prng g;
    prng_init(&g, 8);
    struct buf line = {0};
    struct resp_parser p;
    resp_parser_init(&p, &LIMITS);
    for (int i = 0; i < 200000; i++) {
        random_line(&g, &line);
        buf_put_u8(&line, 'Q'); /* neither a RESP head in front nor an HTTP word */
        memmove(line.ptr + 1, line.ptr, line.len - 1);
        line.ptr[0] = 'Q';
        buf_put_u8(&line, '\0');
        bool cr = line.ptr[line.len - 2] == '\r'; /* taken for the end of the line, as Redis does */
        line.ptr[line.len - 2] = cr ? '\0' : line.ptr[line.len - 2];
        int argc = 0;
        sds *argv = sdssplitargs((const char *)line.ptr, &argc);
        line.ptr[line.len - 1] = '\n';
        line.ptr[line.len - 2] = cr ? '\r' : line.ptr[line.len - 2];
        size_t used = 0;
        const char *reason = NULL;
        enum resp_status st = resp_parse(&p, buf_slice(&line), &used, &reason);
        assert_int_equal(st, argv == NULL ? RESP_BAD : RESP_OK);
        if (argv != NULL) {
            assert_int_equal(used, line.len);
            assert_int_equal(p.argc, argc);
            for (int k = 0; k < argc; k++) {
                if (!slice_eq(p.argv[k], slice_of(argv[k], sdslen(argv[k])))) {
                    fail_msg("word %d of <%.*s>: <%.*s>, Redis <%s>", k, (int)line.len, (const char *)line.ptr, (int)p.argv[k].len,
                             (const char *)p.argv[k].ptr, argv[k]);
                }
                sdsfree(argv[k]);
            }
            free(argv);
        }
    }
    resp_parser_fini(&p);
    buf_fini(&line);
}

static void random_commands_come_back(void **state)
{
    (void)state;
    struct prng g;
    prng_init(&g, 15);
    struct buf in = {0}, want = {0}, got = {0};
    for (int round = 0; round < 300; round++) {
        buf_clear(&in);
        buf_clear(&want);
        for (uint64_t n = prng_range(&g, 1, 6); n > 0; n--) {
            uint32_t argc = (uint32_t)prng_below(&g, 7);
            resp_array(&in, argc);
            for (uint32_t i = 0; i < argc; i++) {
                uint8_t arg[64];
                size_t len = prng_below(&g, sizeof arg);
                for (size_t k = 0; k < len; k++) {
                    arg[k] = (uint8_t)prng_u64(&g);
                }
                resp_bulk(&in, slice_of(arg, len));
                buf_printf(&want, "%s%zu:", i ? " " : "", len);
                buf_append(&want, arg, len);
            }
            buf_append_str(&want, ";");
        }
        for (int cut = 0; cut < 8; cut++) {
            buf_clear(&got);
            run(&LIMITS, buf_slice(&in), prng_below(&g, in.len), prng_range(&g, 1, 40), &got);
            assert_true(slice_eq(buf_slice(&got), buf_slice(&want)));
        }
    }
    buf_fini(&in);
    buf_fini(&want);
    buf_fini(&got);
}

/* True: resp_parse reads the same. The bytes are copied, so that nothing behind them is looked at unseen. */
static bool is_short(slice_t in)
{
    struct resp_parser p;
    struct resp_short s;
    size_t used;
    const char *reason;
    uint8_t *copy = malloc(in.len > 0 ? in.len : 1);
    assert_non_null(copy);
    memcpy(copy, in.ptr, in.len);
    bool yes = resp_short(slice_of(copy, in.len), &s);
    resp_parser_init(&p, &LIMITS);
    if (yes) {
        assert_int_equal(resp_parse(&p, slice_of(copy, in.len), &used, &reason), RESP_OK);
        assert_true(s.size == used && s.argc == p.argc);
        for (uint32_t i = 0; i < s.argc; i++) {
            assert_true(s.argv[i].ptr == p.argv[i].ptr && s.argv[i].len == p.argv[i].len);
        }
    }
    resp_parser_fini(&p);
    free(copy);
    return yes;
}

static void a_short_command_is_read_as_the_parser_reads_it(void **state)
{
    (void)state;
    slice_t in = SLICE_LIT("*3\r\n$3\r\nSET\r\n$5\r\nk\r\nyz\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    size_t size = in.len - (sizeof "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" - 1);
    for (size_t n = 0; n <= in.len; n++) {
        assert_true(is_short(slice_of(in.ptr, n)) == (n >= size));
    }
    assert_true(is_short(SLICE_LIT("*1\r\n$4\r\nPING\r\n")));
    assert_true(is_short(SLICE_LIT("*1\r\n$12\r\nCACHE.STATS_\r\n")));
    const char *no[] = {"", "*", "GET k\r\n", "*0\r\n", "*00\r\n", "*9\r\n", "*01\r\n$4\r\nPING\r\n", "*+1\r\n$4\r\nPING\r\n", "*-1\r\n", "*1 \r\n$4\r\nPING\r\n",
                        "*1\n$4\r\nPING\r\n", "*1\r\n$04\r\nPING\r\n", "*1\r\n$4\rPPING\r\n", "*1\r\n$4\r\nPINGxx", "*1\r\n$4\r\nPING\rx", "*1\r\n$\r\nPING\r\n",
                        "*2\r\n$3\r\nGET\r\n:1\r\n", "*2\r\n$9999999999\r\n", "*9999999999\r\n", "*1\r\n$-1\r\n", "*1\r\n$00\r\n\r\n", "*2\r\n$3\r\nGET\r\n$1025\r\n"};
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        assert_false(is_short(slice_str(no[i])));
    }
}

/* No byte reaches beyond the input or an assert, and the answer never depends on the cut. */
static void random_bytes_are_read_the_same_in_pieces(void **state)
{
    (void)state;
    static const char alphabet[] = "**$$012345-\r\n\r\n\r\n ab\"'%\0";
    struct prng g;
    prng_init(&g, 3);
    struct buf in = {0};
    for (int round = 0; round < 4000; round++) {
        buf_clear(&in);
        for (uint64_t n = prng_below(&g, 40); n > 0; n--) {
            buf_put_u8(&in, (uint8_t)alphabet[prng_below(&g, sizeof alphabet - 1)]);
        }
        expect(buf_slice(&in), NULL);
    }
    buf_fini(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_read),
        cmocka_unit_test(quotes_of_inline_commands),
        cmocka_unit_test(i1_lengths_that_would_overflow),
        cmocka_unit_test(i2_negative_lengths),
        cmocka_unit_test(i3_counts_that_would_overflow),
        cmocka_unit_test(i4_lengths_are_strict_digits),
        cmocka_unit_test(i5_arrays_do_not_nest),
        cmocka_unit_test(i6_many_empty_arguments),
        cmocka_unit_test(i7_bulk_ends_in_crlf),
        cmocka_unit_test(i8_inline_without_end),
        cmocka_unit_test(i9_strangers_are_held_to_little),
        cmocka_unit_test(a_command_is_bounded_as_a_whole),
        cmocka_unit_test(i11_reply_types_from_a_client),
        cmocka_unit_test(i12_arguments_are_any_bytes),
        cmocka_unit_test(i32_a_browser_on_this_port),
        cmocka_unit_test(inline_commands_split_as_redis_splits_them),
        cmocka_unit_test(random_commands_come_back),
        cmocka_unit_test(a_short_command_is_read_as_the_parser_reads_it),
        cmocka_unit_test(random_bytes_are_read_the_same_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
