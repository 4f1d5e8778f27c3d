/* Replies: written, read back, brought down to RESP2 and turned into JSON. hiredis reads what is written for RESP2 clients, jansson what
 * is written for HTTP; random replies of every shape must survive all of it, and every prefix must be told from a whole. */
#include "../utils/test.h"

#include "communication/resp.h"
#include "utils/prng.h"

#include <hiredis/hiredis.h>
#include <jansson.h>
#include <math.h>

static void expect_bytes(const struct buf *got, const char *want)
{
    if (!slice_eq(buf_slice(got), slice_str(want))) {
        fail_msg("got  %.*s\nwant %s", (int)got->len, (const char *)got->ptr, want);
    }
}

static void writers_write_resp3(void **state)
{
    (void)state;
    struct buf b = {0};
    resp_simple(&b, "OK");
    resp_simple(&b, "a\r\n:1\r");
    resp_error(&b, "LOCKED", "held by %s\r\n", "a\r\n+OK\n");
    resp_int(&b, -7);
    resp_int(&b, INT64_MIN);
    resp_u64(&b, INT64_MAX);
    resp_u64(&b, UINT64_MAX);
    expect_bytes(&b, "+OK\r\n+a  :1 \r\n-LOCKED held by a  +OK\r\n:-7\r\n:-9223372036854775808\r\n:9223372036854775807\r\n"
                     "$20\r\n18446744073709551615\r\n");
    buf_clear(&b);
    resp_map(&b, 1);
    resp_bulk_str(&b, "k");
    resp_set(&b, 2);
    resp_null(&b);
    resp_bool(&b, true);
    resp_push(&b, 3);
    resp_bool(&b, false);
    resp_double(&b, 0.5);
    resp_array(&b, 0);
    resp_double(&b, -INFINITY);
    resp_double(&b, NAN);
    resp_verbatim(&b, "txt", SLICE_LIT("a\r\nb"));
    expect_bytes(&b, "%1\r\n$1\r\nk\r\n~2\r\n_\r\n#t\r\n>3\r\n#f\r\n,0.5\r\n*0\r\n,-inf\r\n,nan\r\n=8\r\ntxt:a\r\nb\r\n");
    buf_fini(&b);
}

static void values_are_read_back(void **state)
{
    (void)state;
    struct reader r = reader_of(SLICE_LIT("+OK\r\n-ERR no\r\n:-12\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n_\r\n#t\r\n,1.5\r\n=7\r\ntxt:abc\r\n(123\r\n"
                                          "*2\r\n%1\r\n~0\r\n>1\r\n!5\r\nE\r\nrr\r\n"));
    static const struct {
        enum resp_type type;
        const char *str;
        int64_t num;
        uint32_t count;
    } want[] = {{RT_SIMPLE, "OK", 0, 0}, {RT_ERROR, "ERR no", 0, 0}, {RT_INT, "-12", -12, 0}, {RT_BULK, "a\r\n", 0, 0},
                {RT_NULL, NULL, 0, 0},   {RT_NULL, NULL, 0, 0},     {RT_NULL, NULL, 0, 0},   {RT_BOOL, "t", 1, 0},
                {RT_DOUBLE, "1.5", 0, 0}, {RT_VERBATIM, "abc", 0, 0}, {RT_BIG, "123", 0, 0},  {RT_ARRAY, NULL, 0, 2},
                {RT_MAP, NULL, 0, 1},    {RT_SET, NULL, 0, 0},      {RT_PUSH, NULL, 0, 1},   {RT_ERROR, "E\r\nrr", 0, 0}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct resp_value v;
        assert_true(resp_next(&r, &v));
        assert_int_equal(v.type, want[i].type);
        assert_int_equal(v.num, want[i].num);
        assert_int_equal(v.count, want[i].count);
        if (want[i].str != NULL) {
            assert_true(slice_eq(v.str, slice_str(want[i].str)));
        }
    }
    assert_true(reader_done(&r));
}

static void malformed_replies_are_told_from_incomplete_ones(void **state)
{
    (void)state;
    static const char *const bad[] = {"x\r\n", ":1\n", ":a\r\n", ":\r\n", ":99999999999999999999\r\n", "$-2\r\n", "$1\r\nabc", "$+\r\n",
                                      "*-2\r\n", "*2147483648\r\n", "#x\r\n", "_x\r\n", ",1.5x\r\n", ",\r\n", "=3\r\nabc\r\n", "\n", "\r\n",
                                      "*1\r\n?\r\n", "$9e18\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"
                                      "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"};
    static const char *const more[] = {"", "+", "+OK", "+OK\r", ":1\r", "$5\r\nab", "$5\r\nabcde\r", "*2\r\n:1\r\n", "%1\r\n:1\r\n", "*1\r\n", "=9\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (resp_reply_size(slice_str(bad[i])) != SIZE_MAX) {
            fail_msg("%s is malformed", bad[i]);
        }
    }
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        if (resp_reply_size(slice_str(more[i])) != 0) {
            fail_msg("%s is incomplete", more[i]);
        }
    }
}

static void fields_of_maps_are_found(void **state)
{
    (void)state;
    static const char map[] = "%3\r\n$1\r\na\r\n*2\r\n:1\r\n:2\r\n$1\r\nb\r\n:7\r\n+c\r\n_\r\n";
    static const char flat[] = "*6\r\n$1\r\na\r\n*2\r\n:1\r\n:2\r\n$1\r\nb\r\n:7\r\n$1\r\nc\r\n$-1\r\n";
    for (int i = 0; i < 2; i++) {
        slice_t s = i ? SLICE_LIT(flat) : SLICE_LIT(map);
        struct resp_value v;
        assert_true(resp_map_get(s, "b", &v));
        assert_int_equal(v.num, 7);
        assert_true(resp_map_get(s, "c", &v));
        assert_int_equal(v.type, RT_NULL);
        assert_true(resp_map_get(s, "a", &v));
        assert_int_equal(v.count, 2);
        assert_false(resp_map_get(s, "d", &v));
        assert_false(resp_map_get(slice_of(s.ptr, 20), "b", &v));
    }
}

static void converted(const char *in, const char *want)
{
    struct buf b = {0};
    resp_convert(&b, slice_str(in), 2);
    expect_bytes(&b, want);
    buf_clear(&b);
    resp_convert(&b, slice_str(in), 3);
    expect_bytes(&b, in);
    buf_fini(&b);
}

static void resp2_clients_get_resp2(void **state)
{
    (void)state;
    converted("%2\r\n$1\r\na\r\n#t\r\n$1\r\nb\r\n_\r\n", "*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n$-1\r\n");
    converted("~2\r\n,1.5\r\n=7\r\ntxt:abc\r\n", "*2\r\n$3\r\n1.5\r\n$3\r\nabc\r\n");
    converted("+OK\r\n-ERR no\r\n:5\r\n#f\r\n", "+OK\r\n-ERR no\r\n:5\r\n:0\r\n");
    converted("!13\r\nERR no\r\n+OK\r\n\r\n", "-ERR no  +OK  \r\n"); /* one reply, not three */
    converted("*2\r\n!3\r\na\nb\r\n+a\rb\r\n", "*2\r\n-a b\r\n+a b\r\n");
    struct buf b = {0};
    resp_convert(&b, SLICE_LIT(">1\r\n:1\r\n"), 2);
    assert_int_equal(b.len, 0);
}

static const char *const ID_KEYS[] = {"token", "tokens", NULL};

static void expect_json(slice_t in, const char *want)
{
    struct buf b = {0};
    resp_to_json(&b, in, ID_KEYS);
    expect_bytes(&b, want);
    buf_fini(&b);
}

static void replies_become_json(void **state)
{
    (void)state;
    expect_json(SLICE_LIT("+OK\r\n"), "\"OK\"");
    expect_json(SLICE_LIT("-LOCKED held by b\r\n"), "{\"error\":\"held by b\",\"code\":\"LOCKED\"}");
    expect_json(SLICE_LIT("%3\r\n+n\r\n:5\r\n+token\r\n:7\r\n+tokens\r\n*2\r\n:1\r\n:2\r\n"),
                "{\"n\":5,\"token\":\"7\",\"tokens\":[\"1\",\"2\"]}");
    expect_json(SLICE_LIT("%1\r\n+tokens\r\n*1\r\n%2\r\n+n\r\n:1\r\n+token\r\n:2\r\n"), "{\"tokens\":[{\"n\":1,\"token\":\"2\"}]}");
    expect_json(SLICE_LIT("*3\r\n:9007199254740992\r\n:9007199254740993\r\n:-9007199254740993\r\n"),
                "[9007199254740992,\"9007199254740993\",\"-9007199254740993\"]");
    expect_json(SLICE_LIT("*5\r\n_\r\n#t\r\n#f\r\n,0.5\r\n,inf\r\n"), "[null,true,false,0.5,null]");
    expect_json(SLICE_LIT("$3\r\na\"\n\r\n"), "\"a\\\"\\u000a\"");
    expect_json(SLICE_LIT("$2\r\n\xff\x01\r\n"), "{\"encoding\":\"base64\",\"data\":\"/wE=\"}");
    expect_json(SLICE_LIT("%1\r\n$1\r\n\xff\r\n:1\r\n"), "{\"/w==\":1}");
    expect_json(SLICE_LIT("%1\r\n:12\r\n*0\r\n"), "{\"12\":[]}");
    expect_json(SLICE_LIT("*2\r\n%1\r\n+a\r\n"), "[{\"a\":null}]"); /* cut short: still JSON */
    expect_json(SLICE_LIT("garbage"), "null");
}

static void random_reply(struct prng *g, struct buf *b, int depth)
{
    uint8_t bytes[24];
    size_t len = prng_below(g, sizeof bytes);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)prng_u64(g);
    }
    switch (prng_below(g, depth > 0 ? 12 : 8)) {
    case 0: resp_simple(b, "OK"); return;
    case 1: resp_error(b, "BUSY", "number %d", (int)prng_below(g, 100)); return;
    case 2: resp_int(b, (int64_t)(prng_u64(g) >> prng_below(g, 64))); return;
    case 3: resp_bulk(b, slice_of(bytes, len)); return;
    case 4: resp_null(b); return;
    case 5: resp_bool(b, prng_below(g, 2) == 1); return;
    case 6: resp_double(b, (double)prng_below(g, 1000) / 8); return;
    case 7: resp_verbatim(b, "txt", slice_of(bytes, len)); return;
    case 8:
    case 9: {
        uint32_t n = (uint32_t)prng_below(g, 4);
        resp_map(b, n);
        for (uint32_t i = 0; i < n; i++) {
            resp_error(b, "K", "%u", i);
            b->ptr[b->len - 6] = '+'; /* "-K 0": names must differ for JSON */
            random_reply(g, b, depth - 1);
        }
        return;
    }
    default: {
        uint32_t n = (uint32_t)prng_below(g, 4);
        (prng_below(g, 2) ? resp_array : resp_set)(b, n);
        for (uint32_t i = 0; i < n; i++) {
            random_reply(g, b, depth - 1);
        }
    }
    }
}

/* What hiredis, which knows RESP2 only, makes of the converted reply. */
static void hiredis_reads(slice_t resp2)
{
    redisReader *r = redisReaderCreate();
    void *reply = NULL;
    assert_int_equal(redisReaderFeed(r, (const char *)resp2.ptr, resp2.len), REDIS_OK);
    assert_int_equal(redisReaderGetReply(r, &reply), REDIS_OK);
    assert_non_null(reply);
    freeReplyObject(reply);
    void *second = NULL;
    assert_int_equal(redisReaderGetReply(r, &second), REDIS_OK);
    assert_null(second);
    redisReaderFree(r);
}

static void jansson_reads(slice_t json)
{
    json_error_t e;
    json_t *v = json_loadb((const char *)json.ptr, json.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (v == NULL) {
        fail_msg("%s: %.*s", e.text, (int)json.len, (const char *)json.ptr);
    }
    json_decref(v);
}

static void random_replies_survive_everything(void **state)
{
    (void)state;
    struct prng g;
    prng_init(&g, 21);
    struct buf b = {0}, two = {0}, json = {0};
    for (int i = 0; i < 20000; i++) {
        buf_clear(&b);
        buf_clear(&two);
        buf_clear(&json);
        random_reply(&g, &b, 5);
        assert_int_equal(resp_reply_size(buf_slice(&b)), b.len);
        resp_convert(&two, buf_slice(&b), 2);
        assert_int_equal(resp_reply_size(buf_slice(&two)), two.len);
        hiredis_reads(buf_slice(&two));
        resp_to_json(&json, buf_slice(&b), ID_KEYS);
        jansson_reads(buf_slice(&json));
        if (i < 500) {
            for (size_t n = 0; n < b.len; n++) {
                assert_int_equal(resp_reply_size(slice_of(b.ptr, n)), 0);
                buf_clear(&json);
                resp_to_json(&json, slice_of(b.ptr, n), NULL);
                jansson_reads(buf_slice(&json));
            }
        }
        b.ptr[prng_below(&g, b.len)] ^= (uint8_t)(1u << prng_below(&g, 8)); /* damage: any answer, but an answer */
        (void)resp_reply_size(buf_slice(&b));
        buf_clear(&json);
        resp_to_json(&json, buf_slice(&b), NULL);
    }
    buf_fini(&b);
    buf_fini(&two);
    buf_fini(&json);
}

static void i36_depth_has_an_end(void **state)
{
    (void)state;
    struct buf b = {0}, json = {0};
    for (int i = 0; i < 100000; i++) {
        buf_append_str(&b, "*1\r\n");
    }
    assert_true(resp_reply_size(buf_slice(&b)) == SIZE_MAX);
    resp_to_json(&json, buf_slice(&b), NULL);
    jansson_reads(buf_slice(&json));
    struct reader r = reader_of(buf_slice(&b));
    assert_false(resp_skip(&r));
    buf_fini(&b);
    buf_fini(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writers_write_resp3),
        cmocka_unit_test(values_are_read_back),
        cmocka_unit_test(malformed_replies_are_told_from_incomplete_ones),
        cmocka_unit_test(fields_of_maps_are_found),
        cmocka_unit_test(resp2_clients_get_resp2),
        cmocka_unit_test(replies_become_json),
        cmocka_unit_test(random_replies_survive_everything),
        cmocka_unit_test(i36_depth_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
