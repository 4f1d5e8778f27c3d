/* JSON bodies: what is refused before and by the parser (I31), what the accessors say, and what is written. */
#include "../utils/test.h"

#include "communication/http_auth.h"
#include "communication/json.h"
#include "utils/limits.h"

static void i31_bodies_that_are_not_ours(void **state)
{
    (void)state;
    static const char *const bad[] = {"", " ", "null", "[]", "\"x\"", "1", "{", "{\"a\":1}x", "{\"a\":1,\"a\":2}", "{\"a\":1e400}", "{\"a\":\"\\ud800\"}",
                                      "{\"a\":\"\\udc00\\ud800\"}", "{\"a\":\"\\u0000\"}", "{\"a\":NaN}", "{a:1}", "{\"a\":01}", "{\"a\":\"\xff\"}",
                                      "{\"a\":\"\xc0\xaf\"}", "{\"a\":\"\xed\xa0\x80\"}", "{\"a\":1,}", "{\"a\":'x'}", "{\"a\":99999999999999999999}",
                                      "{\"a\":\"\n\"}", "{\"a\":[1,2}", "\xef\xbb\xbf{}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct json_in in;
        if (json_begin(&in, slice_str(bad[i]))) {
            fail_msg("%s was taken", bad[i]);
        }
        assert_true(in.why[0] != '\0');
        json_end(&in);
    }
    struct json_in in;
    assert_false(json_begin(&in, SLICE_LIT("{\"a\":\"x\0y\"}")));
    json_end(&in);
}

static bool begins(const struct buf *b)
{
    struct json_in in;
    bool ok = json_begin(&in, buf_slice(b));
    json_end(&in);
    return ok;
}

static void nest(struct buf *b, const char *open, const char *close, int n)
{
    buf_clear(b);
    buf_append_str(b, "{\"a\":");
    for (int i = 0; i < n; i++) {
        buf_append_str(b, open);
    }
    buf_append_str(b, "1");
    for (int i = 0; i < n; i++) {
        buf_append_str(b, close);
    }
    buf_append_str(b, "}");
}

static void i31_depth_and_size_have_an_end(void **state)
{
    (void)state;
    struct buf b = {0};
    nest(&b, "[", "]", LIMIT_JSON_DEPTH - 1);
    assert_true(begins(&b));
    nest(&b, "[", "]", LIMIT_JSON_DEPTH);
    assert_false(begins(&b));
    nest(&b, "{\"b\":", "}", LIMIT_JSON_DEPTH);
    assert_false(begins(&b));
    nest(&b, "[", "]", 100000);
    assert_false(begins(&b));
    buf_clear(&b);
    buf_append_str(&b, "{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[\",\"b\":[]}"); /* brackets in strings do not nest */
    assert_true(begins(&b));
    buf_clear(&b);
    buf_append_str(&b, "{\"a\":\"");
    memset(buf_reserve(&b, LIMIT_HTTP_BODY_BYTES), 'x', LIMIT_HTTP_BODY_BYTES);
    b.len += LIMIT_HTTP_BODY_BYTES - 8;
    buf_append_str(&b, "\"}");
    assert_int_equal(b.len, LIMIT_HTTP_BODY_BYTES);
    assert_true(begins(&b));
    b.len -= 2;
    buf_append_str(&b, "x\"}");
    assert_false(begins(&b));
    buf_fini(&b);
}

static void fields_are_asked_for_by_name(void **state)
{
    (void)state;
    struct json_in in;
    slice_t s = SLICE_LIT("before");
    uint64_t n = 77;
    assert_true(json_begin(&in, SLICE_LIT("{\"s\":\"text\",\"e\":\"\",\"nul\":null,\"i\":5,\"big\":\"18446744073709551615\",\"over\":\"18446744073709551616\","
                                          "\"neg\":-1,\"sign\":\"+1\"}")));
    assert_true(json_text(&in, "s", true, 4, &s));
    assert_true(slice_eq(s, SLICE_LIT("text")));
    assert_false(json_text(&in, "s", true, 3, &s));
    assert_string_equal(in.why, "s must be a string of 1 to 3 bytes");
    assert_false(json_text(&in, "e", false, 10, &s));
    assert_false(json_text(&in, "i", false, 10, &s));
    assert_true(json_text(&in, "absent", false, 10, &s));
    assert_true(json_text(&in, "nul", false, 10, &s));
    assert_false(json_text(&in, "absent", true, 10, &s));
    assert_string_equal(in.why, "absent is missing: a string of 1 to 10 bytes");
    assert_true(json_id(&in, "i", true, &n) && n == 5);
    assert_true(json_id(&in, "big", true, &n) && n == UINT64_MAX);
    n = 77;
    assert_false(json_id(&in, "over", true, &n));
    assert_false(json_id(&in, "neg", true, &n));
    assert_false(json_id(&in, "sign", true, &n));
    assert_false(json_id(&in, "e", true, &n));
    assert_true(json_id(&in, "absent", false, &n) && n == 77);
    assert_string_equal(in.why, "e must be a 64-bit number as a string of digits");
    assert_true(json_has(&in, "nul"));
    assert_false(json_has(&in, "absent"));
    static const char *const some[] = {"s", "e", NULL};
    assert_false(json_only(&in, some));
    assert_string_equal(in.why, "unknown field 'nul'; this path takes s, e");
    json_end(&in);
}

static void durations_are_seconds_or_milliseconds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        uint64_t ms;
    } cases[] = {{"{}", true, 9},
                 {"{\"ttl\":30}", true, 30000},
                 {"{\"ttl\":0.25}", true, 250},
                 {"{\"ttl_ms\":1500}", true, 1500},
                 {"{\"ttl_ms\":100}", true, 100},
                 {"{\"ttl_ms\":99}", false, 9},
                 {"{\"ttl_ms\":60001}", false, 9},
                 {"{\"ttl\":60}", true, 60000},
                 {"{\"ttl\":60.001}", false, 9},
                 {"{\"ttl\":-1}", false, 9},
                 {"{\"ttl\":0}", false, 9},
                 {"{\"ttl\":1e300}", false, 9},
                 {"{\"ttl_ms\":-1}", false, 9},
                 {"{\"ttl_ms\":1.5}", false, 9},
                 {"{\"ttl\":\"soon\"}", false, 9},
                 {"{\"ttl\":true}", false, 9},
                 {"{\"ttl\":9223372036854775807}", false, 9},
                 {"{\"ttl\":1,\"ttl_ms\":1000}", false, 9}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct json_in in;
        uint64_t ms = 9;
        assert_true(json_begin(&in, slice_str(cases[i].text)));
        if (json_duration(&in, "ttl", 100, 60000, &ms) != cases[i].ok || ms != cases[i].ms) {
            fail_msg("%s: %llu, %s", cases[i].text, (unsigned long long)ms, in.why);
        }
        json_end(&in);
    }
}

static void text_is_written(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_append_str(&b, "{");
    json_key(&b, "a");
    json_put_str(&b, "x\"\\\x7f\x01");
    json_key(&b, "b");
    json_put_str(&b, "18446744073709551615");
    json_key(&b, "c");
    json_put_string(&b, SLICE_LIT("\xff"));
    json_key(&b, "d");
    json_put_string(&b, SLICE_LIT("{"));
    json_key(&b, "e");
    json_put_string(&b, SLICE_NONE);
    buf_append_str(&b, "}");
    struct json_in in;
    assert_true(json_begin(&in, buf_slice(&b)));
    slice_t s;
    uint64_t n;
    assert_true(json_text(&in, "a", true, 100, &s) && slice_eq(s, SLICE_LIT("x\"\\\x7f\x01")));
    assert_true(json_id(&in, "b", true, &n) && n == UINT64_MAX);
    assert_true(json_text(&in, "d", true, 100, &s) && slice_eq(s, SLICE_LIT("{")));
    assert_true(json_has(&in, "c") && json_has(&in, "e"));
    json_end(&in);
    buf_fini(&b);
}

/* The vectors of RFC 4648 section 10. */
static void base64_is_the_standard_one(void **state)
{
    (void)state;
    static const char *const want[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    for (size_t n = 0; n <= 6; n++) {
        struct buf b = {0};
        json_put_base64(&b, slice_of("foobar", n));
        assert_true(slice_eq(buf_slice(&b), slice_str(want[n])));
        buf_fini(&b);
    }
}

static void credentials_are_read(void **state)
{
    (void)state;
    struct buf scratch = {0};
    slice_t user, password;
    assert_true(http_credentials(SLICE_LIT("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), &scratch, &user, &password)); /* RFC 7617 */
    assert_true(slice_eq(user, SLICE_LIT("Aladdin")) && slice_eq(password, SLICE_LIT("open sesame")));
    assert_true(http_credentials(SLICE_LIT("bearer  abc:d"), &scratch, &user, &password));
    assert_true(user.len == 0 && slice_eq(password, SLICE_LIT("abc:d")));
    static const char *const bad[] = {"", "Basic", "Basic ", "Basic !", "Basic QWxhZGRpbg==", "Digest x", "Bearer", "Basic QQ"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (http_credentials(slice_str(bad[i]), &scratch, &user, &password)) {
            fail_msg("%s was taken", bad[i]);
        }
    }
    buf_fini(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(i31_bodies_that_are_not_ours),
        cmocka_unit_test(i31_depth_and_size_have_an_end),
        cmocka_unit_test(fields_are_asked_for_by_name),
        cmocka_unit_test(durations_are_seconds_or_milliseconds),
        cmocka_unit_test(text_is_written),
        cmocka_unit_test(base64_is_the_standard_one),
        cmocka_unit_test(credentials_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
