/* HTTP/1.1: what a request becomes, what is refused with which status (I20-I30), that no cut changes either, and what is answered. */
#include "../utils/test.h"

#include "communication/http.h"
#include "communication/http_auth.h"
#include "communication/http_path.h"
#include "utils/limits.h"
#include "utils/prng.h"

/* Parses from memory of exactly the size of in, and writes what came of it to `log`: "POST /path?query [body] keep;" or "400". */
static enum http_result parse_copy(struct http_parser *p, slice_t in, size_t *used, struct buf *log)
{
    static const char *const methods[] = {"?", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "OTHER"};
    uint8_t *copy = malloc(in.len ? in.len : 1);
    assert_non_null(copy);
    if (in.len > 0) {
        memcpy(copy, in.ptr, in.len);
    }
    struct http_request r;
    int status = 0;
    const char *reason = NULL;
    enum http_result st = http_parse(p, slice_of(copy, in.len), used, &r, &status, &reason);
    if (st == HTTP_OK) {
        buf_printf(log, "%s %.*s", methods[r.method], (int)r.path.len, (const char *)r.path.ptr);
        for (uint32_t i = 0; i < r.n_params; i++) {
            buf_printf(log, "%c%.*s=%.*s", i ? '&' : '?', (int)r.params[i].name.len, (const char *)r.params[i].name.ptr,
                       (int)r.params[i].value.len, (const char *)r.params[i].value.ptr);
        }
        if (r.body.len > 0) {
            buf_append_str(log, " [");
            buf_append_slice(log, r.body);
            buf_append_str(log, "]");
        }
        buf_append_str(log, r.keep_alive ? " keep;" : " close;");
    } else if (st == HTTP_BAD) {
        assert_non_null(reason);
        assert_true(status >= 400);
        buf_printf(log, "%d", status);
        struct http_request none;
        assert_int_equal(http_parse(p, SLICE_LIT("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), used, &none, &status, &reason), HTTP_BAD); /* H3 */
    }
    free(copy);
    return st;
}

static void run(slice_t in, size_t first, size_t step, struct buf *log)
{
    struct http_parser *p = http_parser_new();
    size_t done = 0, there = first;
    for (;;) {
        size_t used = 0;
        enum http_result st = parse_copy(p, slice_of(in.ptr + done, there - done), &used, log);
        if (st == HTTP_BAD || (st == HTTP_MORE && there == in.len)) {
            break;
        }
        if (st == HTTP_MORE) {
            there = there + step < in.len ? there + step : in.len;
        } else {
            assert_true(used > 0);
            done += used;
        }
    }
    if (http_parser_busy(p)) {
        buf_append_str(log, log->len == 0 || log->ptr[log->len - 1] == ';' ? "more" : "");
    }
    http_parser_free(p);
}

static void expect(slice_t in, const char *want)
{
    struct buf whole = {0}, cut = {0};
    run(in, in.len, 1, &whole);
    if (want != NULL && !slice_eq(buf_slice(&whole), slice_str(want))) {
        fail_msg("%.*s\ngot  %.*s\nwant %s", (int)(in.len < 600 ? in.len : 600), (const char *)in.ptr, (int)whole.len, (const char *)whole.ptr, want);
    }
    size_t cuts = in.len < 400 ? in.len : 40;
    for (size_t i = 0; i <= cuts; i++) {
        buf_clear(&cut);
        run(in, i == cuts ? 0 : i, i < cuts ? in.len : in.len < 4096 ? 1 : 997, &cut);
        if (!slice_eq(buf_slice(&whole), buf_slice(&cut))) {
            fail_msg("cut at %zu: %.*s, whole: %.*s", i, (int)cut.len, (const char *)cut.ptr, (int)whole.len, (const char *)whole.ptr);
        }
    }
    buf_fini(&whole);
    buf_fini(&cut);
}

#define EXPECT(in, want) expect(SLICE_LIT(in), want)
#define GET(headers) "GET /a HTTP/1.1\r\nHost: x\r\n" headers "\r\n"
#define POST(headers, body) "POST /a HTTP/1.1\r\nHost: x\r\n" headers "\r\n" body
#define CHUNKED(body) POST("Transfer-Encoding: chunked\r\n", body)

static void requests_are_read(void **state)
{
    (void)state;
    EXPECT(GET(""), "GET /a keep;");
    EXPECT(GET("Connection: close\r\n"), "GET /a close;");
    EXPECT("GET /a HTTP/1.0\r\n\r\n", "GET /a close;");
    EXPECT(POST("Content-Length: 5\r\n", "hello"), "POST /a [hello] keep;");
    EXPECT(POST("Content-Length: 0\r\n", ""), "POST /a keep;");
    EXPECT(CHUNKED("5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n"), "POST /a [hello!] keep;");
    EXPECT(CHUNKED("1\r\na\r\n0\r\nTrailer: b\r\n\r\n") GET(""), "POST /a [a] keep;GET /a keep;");
    EXPECT(GET("") POST("Content-Length: 1\r\n", "b") GET(""), "GET /a keep;POST /a [b] keep;GET /a keep;");
    EXPECT("\r\n" GET(""), "GET /a keep;");
    EXPECT("HEAD /a?b HTTP/1.1\r\nHost:\r\n\r\n", "HEAD /a?b= keep;");
    EXPECT("GET http://x/b?c=d HTTP/1.1\r\nHost: x\r\n\r\n", "GET /b?c=d keep;");
    EXPECT("GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", "GET / keep;");
    EXPECT("PROPFIND /a HTTP/1.1\r\nHost: x\r\n\r\n", "OTHER /a keep;");
    EXPECT("GET /a HTTP/1.1\r\nHo", "more");
    EXPECT("", "");
}

static void headers_that_matter_are_kept(void **state)
{
    (void)state;
    static const char in[] = POST("content-type:  application/json ; charset=utf-8 \r\nIDEMPOTENCY-KEY: k1\r\nAuthorization: Bearer t\r\n"
                                  "Origin: http://a\r\nSec-Fetch-Site: same-origin\r\nExpect: 100-Continue\r\nX-Other: y\r\nContent-Length: 2\r\n", "{}");
    struct http_parser *p = http_parser_new();
    struct http_request r;
    size_t used;
    int status;
    const char *reason;
    assert_int_equal(http_parse(p, slice_of(in, sizeof in - 3), &used, &r, &status, &reason), HTTP_MORE);
    assert_true(http_parser_wants_continue(p));
    assert_false(http_parser_wants_continue(p)); /* once */
    assert_int_equal(http_parse(p, SLICE_LIT(in), &used, &r, &status, &reason), HTTP_OK);
    assert_true(slice_eq(r.content_type, SLICE_LIT("application/json ; charset=utf-8")));
    assert_true(slice_eq(r.idempotency_key, SLICE_LIT("k1")));
    assert_true(slice_eq(r.authorization, SLICE_LIT("Bearer t")));
    assert_true(slice_eq(r.origin, SLICE_LIT("http://a")) && slice_eq(r.fetch_site, SLICE_LIT("same-origin")));
    assert_true(slice_eq(r.host, SLICE_LIT("x")));
    assert_true(r.expect_continue);
    assert_int_equal(http_parse(p, SLICE_LIT(GET("")), &used, &r, &status, &reason), HTTP_OK);
    assert_int_equal(r.content_type.len + r.idempotency_key.len + r.authorization.len + r.body.len + r.origin.len + r.fetch_site.len, 0); /* nothing stays for the next */
    assert_false(r.expect_continue || http_parser_wants_continue(p));
    http_parser_free(p);
}

static void pages_of_other_sites_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *host, *origin, *fetch_site;
        bool cross;
    } rows[] = {{"a:8000", "", "", false}, /* no browser */
                {"a:8000", "", "none", false}, /* typed into a browser */
                {"a:8000", "http://a:8000", "same-origin", false},
                {"A:8000", "https://a:8000", "", false}, /* TLS ends in front of us */
                {"a:8000", "http://b", "", true},
                {"a:8000", "http://a:3000", "same-site", true},
                {"a:8000", "http://a:8000.b", "", true},
                {"a:8000", "null", "", true},
                {"a:8000", "a:8000", "", true},
                {"", "http://", "", false},
                {"", "http://a", "", true},
                {"a:8000", "", "cross-site", true},
                {"a:8000", "http://a:8000", "Cross-Site", true}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (http_is_cross_site(slice_str(rows[i].host), slice_str(rows[i].origin), slice_str(rows[i].fetch_site)) != rows[i].cross) {
            fail_msg("Host %s, Origin %s, Sec-Fetch-Site %s", rows[i].host, rows[i].origin, rows[i].fetch_site);
        }
    }
}

static void i20_both_length_and_chunked(void **state)
{
    (void)state;
    EXPECT(POST("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n" GET("")), "400");
    EXPECT(POST("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n" GET("")), "400");
}

static void i21_lengths_that_disagree_or_are_not_digits(void **state)
{
    (void)state;
    EXPECT(POST("Content-Length: 1\r\nContent-Length: 2\r\n", "ab"), "400");
    EXPECT(POST("Content-Length: 1\r\nContent-Length: 1\r\n", "a"), "400");
    static const char *const lengths[] = {"+5", "-1", "5,5", "5, 5", "0x5", "5 5", "", " ", "99999999999999999999", "18446744073709551617", "5a", "\t+5"};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct buf in = {0};
        buf_printf(&in, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length:%s\r\n\r\nabcde", lengths[i]);
        expect(buf_slice(&in), "400");
        buf_fini(&in);
    }
}

static void i22_transfer_encodings_we_do_not_know(void **state)
{
    (void)state;
    static const char *const codings[] = {"identity", "gzip", "gzip, chunked", "chunked, identity", "xchunked", "chunked, chunked", "\"chunked\"", ""};
    for (size_t i = 0; i < sizeof codings / sizeof codings[0]; i++) {
        struct buf in = {0}, log = {0};
        buf_printf(&in, "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: %s\r\n\r\n0\r\n\r\n", codings[i]);
        run(buf_slice(&in), in.len, 1, &log);
        if (!slice_eq(buf_slice(&log), SLICE_LIT("400")) && !slice_eq(buf_slice(&log), SLICE_LIT("501"))) {
            fail_msg("%s: %.*s", codings[i], (int)log.len, (const char *)log.ptr);
        }
        expect(buf_slice(&in), NULL);
        buf_fini(&in);
        buf_fini(&log);
    }
    EXPECT(POST("Transfer-Encoding: gzip\r\n", "0\r\n\r\n"), "501");
    EXPECT(POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "400");
    EXPECT("POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400");
}

static void i23_chunks_that_lie(void **state)
{
    (void)state;
    EXPECT(CHUNKED("-1\r\na\r\n0\r\n\r\n"), "400");
    EXPECT(CHUNKED("0x1\r\na\r\n0\r\n\r\n"), "400");
    EXPECT(CHUNKED("g\r\n"), "400");
    EXPECT(CHUNKED("\r\n"), "400");
    EXPECT(CHUNKED("1\r\nab\r\n0\r\n\r\n"), "400");
    EXPECT(CHUNKED("1\nab\n0\n\n"), "400");
    EXPECT(CHUNKED("ffffffffffffffff\r\na"), "413");
    EXPECT(CHUNKED("10000000000000000\r\na"), "400");
    EXPECT(CHUNKED("100001\r\na"), "413");
    EXPECT(CHUNKED("5\r\nhello\r\nffffc\r\na"), "413"); /* 5 + 1048572 */
    EXPECT(CHUNKED("5\r\nhello\r\nffffb\r\na"), "more");
    struct buf in = {0};
    buf_append_str(&in, CHUNKED("1;"));
    memset(buf_reserve(&in, 1000000), 'x', 1000000);
    in.len += 1000000;
    expect(buf_slice(&in), "400");
    buf_clear(&in);
    buf_append_str(&in, CHUNKED("0\r\n"));
    for (int i = 0; i < 10000; i++) {
        buf_append_str(&in, "T: a\r\n");
    }
    expect(buf_slice(&in), "400");
    buf_clear(&in);
    buf_append_str(&in, CHUNKED(""));
    for (int i = 0; i < 100000; i++) {
        buf_append_str(&in, "1\r\na\r\n"); /* the least chunks are still taken */
    }
    buf_append_str(&in, "0\r\n\r\n");
    struct buf log = {0};
    run(buf_slice(&in), in.len, 1, &log);
    assert_int_equal(log.len, 100000 + strlen("POST /a [] keep;"));
    buf_fini(&log);
    buf_fini(&in);
}

static void i24_heads_that_are_not_heads(void **state)
{
    (void)state;
    EXPECT(GET("X: a\r\n folded\r\n"), "400");
    EXPECT(GET("X: a\r\n\tfolded\r\n"), "400");
    EXPECT(GET("X : a\r\n"), "400");
    EXPECT(GET("X\t: a\r\n"), "400");
    EXPECT(GET(": a\r\n"), "400");
    EXPECT(GET("no colon\r\n"), "400");
    EXPECT(GET("a b: c\r\n"), "400");
    EXPECT(GET("X: a\0b\r\n"), "400");
    EXPECT(GET("X: a\rb\r\n"), "400");
    EXPECT(GET("X: a\nY: b\r\n"), "400");
    EXPECT(GET("X: a\x01" "b\r\n"), "400");
    EXPECT("GET /a HTTP/1.1\nHost: x\n\n", "400");
    EXPECT("GET /a\r HTTP/1.1\r\nHost: x\r\n\r\n", "400");
    EXPECT("GET /a HTTP/1.1\r\n\r\n", "400");
    EXPECT(GET("Host: x\r\n"), "400");
    EXPECT(GET("host: y\r\n"), "400");
    EXPECT(GET("Authorization: a\r\nAuthorization: b\r\n"), "400");
    EXPECT("\r\n\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n", "400");
    EXPECT(" GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "400");
    EXPECT("GET  /a HTTP/1.1\r\nHost: x\r\n\r\n", "400");
    EXPECT("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "400");
    EXPECT("GET /a HTTP/2.0\r\nHost: x\r\n\r\n", "505");
    EXPECT("GET /a HTTP/0.9\r\n\r\n", "505");
    EXPECT("GET /a\r\n\r\n", "505");
    EXPECT("BREW /a HTTP/1.1\r\nHost: x\r\n\r\n", "400");
    EXPECT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505");
    EXPECT("*1\r\n$4\r\nPING\r\n", "400");
}

static void i25_a_head_has_ten_seconds(void **state)
{
    (void)state;
    struct http_parser *p = http_parser_new();
    struct http_request r;
    size_t used;
    int status;
    const char *reason;
    http_parser_note_time(p, 5000);
    assert_false(http_parser_overdue(p, 1000 * 1000)); /* nothing has begun */
    assert_int_equal(http_parse(p, SLICE_LIT("G"), &used, &r, &status, &reason), HTTP_MORE);
    http_parser_note_time(p, 14000);
    assert_int_equal(http_parse(p, SLICE_LIT("GE"), &used, &r, &status, &reason), HTTP_MORE); /* a drip does not buy time */
    assert_false(http_parser_overdue(p, 5000 + LIMIT_HTTP_HEADER_MS - 1));
    assert_true(http_parser_overdue(p, 5000 + LIMIT_HTTP_HEADER_MS));
    http_parser_free(p);
}

static void i26_a_body_has_a_pace(void **state)
{
    (void)state;
    struct http_parser *p = http_parser_new();
    struct http_request r;
    size_t used;
    int status;
    const char *reason;
    struct buf in = {0};
    buf_append_str(&in, POST("Content-Length: 1000000\r\n", ""));
    http_parser_note_time(p, 1000);
    assert_int_equal(http_parse(p, buf_slice(&in), &used, &r, &status, &reason), HTTP_MORE);
    assert_false(http_parser_overdue(p, 1000 + LIMIT_HTTP_BODY_GRACE_MS - 1));
    assert_true(http_parser_overdue(p, 1000 + LIMIT_HTTP_BODY_GRACE_MS));
    memset(buf_reserve(&in, 20 * LIMIT_HTTP_BODY_RATE), 'b', 20 * LIMIT_HTTP_BODY_RATE);
    in.len += 20 * LIMIT_HTTP_BODY_RATE;
    assert_int_equal(http_parse(p, buf_slice(&in), &used, &r, &status, &reason), HTTP_MORE);
    assert_false(http_parser_overdue(p, 1000 + 20 * 1000));
    assert_true(http_parser_overdue(p, 1000 + 21 * 1000));
    assert_true(http_parser_overdue(p, 1000 + LIMIT_HTTP_BODY_MS));
    http_parser_free(p);
    buf_fini(&in);
}

static void put_many(struct buf *in, const char *s, int n)
{
    for (int i = 0; i < n; i++) {
        buf_append_str(in, s);
    }
}

static void i27_sizes_have_an_end(void **state)
{
    (void)state;
    struct buf in = {0};
    buf_append_str(&in, "GET /");
    put_many(&in, "a", LIMIT_HTTP_LINE_BYTES - 16); /* 5 before, 11 behind */
    buf_append_str(&in, " HTTP/1.1\r\nHost: x\r\n\r\n");
    struct buf log = {0};
    run(buf_slice(&in), in.len, 1, &log);
    assert_true(log.len > LIMIT_HTTP_LINE_BYTES - 16);
    buf_fini(&log);
    buf_clear(&in);
    buf_append_str(&in, "GET /");
    put_many(&in, "a", LIMIT_HTTP_LINE_BYTES - 15);
    buf_append_str(&in, " HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(buf_slice(&in), "414");
    buf_clear(&in);
    buf_append_str(&in, "GET /a HTTP/1.1\r\nHost: x\r\n");
    put_many(&in, "X: a\r\n", LIMIT_HTTP_HEADERS - 1);
    size_t most = in.len;
    buf_append_str(&in, "\r\n");
    expect(buf_slice(&in), "GET /a keep;");
    in.len = most;
    buf_append_str(&in, "X: a\r\n\r\n");
    expect(buf_slice(&in), "431");
    buf_clear(&in);
    buf_append_str(&in, "GET /a HTTP/1.1\r\nHost: x\r\nX: ");
    put_many(&in, "a", LIMIT_HTTP_HEADER_BYTES);
    expect(buf_slice(&in), "431");
    buf_fini(&in);
}

static void i27_targets(void **state)
{
    (void)state;
    static const struct {
        const char *target, *want;
    } cases[] = {
        {"/", "/"}, {"/a%20b+c", "/a b+c"}, {"/lock/%C3%A9", "/lock/\xc3\xa9"}, {"/a%2Fb", "/a/b"}, {"/a//b/", "/a//b/"}, {"/...", "/..."},
        {"/a?x=1&y=%26+z&&w", "/a?x=1&y=& z&w="}, {"/?", "/"}, {"/a?b=c=d", "/a?b=c=d"}, {"http://h:1/a", "/a"}, {"HTTP://h?q=/", NULL},
        {"/%00", NULL}, {"/a/../b", NULL}, {"/..", NULL}, {"/a/%2e%2e", NULL}, {"/.", NULL}, {"/a/./b", NULL}, {"/%2e%2e%2fetc", NULL},
        {"/%", NULL}, {"/%4", NULL}, {"/%zz", NULL}, {"/%c0%af", NULL}, {"/%ff", NULL}, {"/%ed%a0%80", NULL}, {"/%f4%90%80%80", NULL},
        {"/%e2%82", NULL}, {"/a#b", NULL}, {"a", NULL}, {"*", NULL}, {"", NULL}, {"/a?x=%00", NULL}, {"/a?x=%ff", NULL}, {"/a?%=1", NULL},
        {"/?1&2&3&4&5&6&7&8&9&10&11&12&13&14&15&16&17", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf text = {0}, got = {0};
        struct http_request r;
        const char *why = http_target(slice_str(cases[i].target), &text, &r);
        if ((why == NULL) != (cases[i].want != NULL)) {
            fail_msg("%s: %s", cases[i].target, why ? why : "taken");
        }
        if (why == NULL) {
            buf_append_slice(&got, r.path);
            for (uint32_t k = 0; k < r.n_params; k++) {
                buf_append_str(&got, k ? "&" : "?");
                buf_append_slice(&got, r.params[k].name);
                buf_append_str(&got, "=");
                buf_append_slice(&got, r.params[k].value);
            }
            if (!slice_eq(buf_slice(&got), slice_str(cases[i].want))) {
                fail_msg("%s: %.*s", cases[i].target, (int)got.len, (const char *)got.ptr);
            }
        }
        buf_fini(&text);
        buf_fini(&got);
    }
}

static void query_parameters_are_found(void **state)
{
    (void)state;
    struct buf text = {0};
    struct http_request r;
    slice_t v;
    assert_null(http_target(SLICE_LIT("/readyz?verbose&limit=10&limit=20"), &text, &r));
    assert_true(http_query(&r, "verbose", &v));
    assert_int_equal(v.len, 0);
    assert_true(http_query(&r, "limit", &v));
    assert_true(slice_eq(v, SLICE_LIT("10")));
    assert_false(http_query(&r, "lim", &v));
    buf_fini(&text);
}

static void i29_expectations_upgrades_and_tunnels(void **state)
{
    (void)state;
    EXPECT(POST("Expect: 100-continue\r\nContent-Length: 1\r\n", "a"), "POST /a [a] keep;");
    EXPECT(POST("Expect: 200-ok\r\nContent-Length: 1\r\n", "a"), "417");
    EXPECT(POST("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1\r\n", "a"), "400");
    EXPECT(GET("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n") GET(""), "GET /a keep;GET /a keep;");
    EXPECT(GET("Upgrade: websocket\r\nConnection: upgrade\r\n"), "GET /a keep;");
    EXPECT("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", "405");
    EXPECT("TRACE /a HTTP/1.1\r\nHost: x\r\n\r\n", "405");
}

static void i30_compressed_bodies(void **state)
{
    (void)state;
    EXPECT(POST("Content-Encoding: gzip\r\nContent-Length: 1\r\n", "a"), "415");
    EXPECT(POST("Content-Encoding: identity\r\nContent-Length: 1\r\n", "a"), "POST /a [a] keep;");
    EXPECT(GET("Range: bytes=0-,0-,0-\r\n"), "GET /a keep;");
}

static void i31_bodies_over_the_limit(void **state)
{
    (void)state;
    EXPECT(POST("Content-Length: 1048577\r\n", "{"), "413");
    EXPECT(POST("Content-Length: 1048576\r\n", "{"), "more");
    EXPECT(POST("Content-Length: 9223372036854775807\r\n", "{"), "413");
}

static void random_bytes_are_read_the_same_in_pieces(void **state)
{
    (void)state;
    static const char *const parts[] = {"GET ", "POST ", "/a", "?x=1", " HTTP/1.1\r\n", "Host: x\r\n", "Content-Length: 3\r\n", "\r\n", "abc",
                                        "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n", "0\r\n\r\n", "\n", ":", " ", "X: y\r\n", "Connection: close\r\n"};
    struct prng g;
    prng_init(&g, 5);
    struct buf in = {0};
    for (int round = 0; round < 3000; round++) {
        buf_clear(&in);
        buf_append_str(&in, prng_below(&g, 2) ? "GET /a HTTP/1.1\r\nHost: x\r\n" : "");
        for (uint64_t n = prng_below(&g, 12); n > 0; n--) {
            buf_append_str(&in, parts[prng_below(&g, sizeof parts / sizeof parts[0])]);
        }
        if (in.len > 0 && prng_below(&g, 4) == 0) {
            in.ptr[prng_below(&g, in.len)] = (uint8_t)prng_u64(&g);
        }
        expect(buf_slice(&in), NULL);
    }
    buf_fini(&in);
}

static void responses_are_written(void **state)
{
    (void)state;
    struct buf b = {0};
    http_response(&b, 200, "application/json", SLICE_LIT("{}"), true, NULL, 784111777000);
    assert_true(slice_eq(buf_slice(&b), SLICE_LIT("HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n"
                                                  "X-Content-Type-Options: nosniff\r\nContent-Length: 2\r\nCache-Control: no-store\r\n\r\n{}")));
    buf_clear(&b);
    http_response(&b, 503, NULL, SLICE_NONE, false, "Retry-After: 1\r\n", 0);
    assert_true(slice_eq(buf_slice(&b), SLICE_LIT("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nCache-Control: no-store\r\n"
                                                  "Connection: close\r\nRetry-After: 1\r\n\r\n")));
    static const struct {
        uint64_t ms;
        const char *date;
    } dates[] = {{1000, "Thu, 01 Jan 1970 00:00:01 GMT"}, {951782400000, "Tue, 29 Feb 2000 00:00:00 GMT"},
                 {1709251199999, "Thu, 29 Feb 2024 23:59:59 GMT"}, {4102444800000, "Fri, 01 Jan 2100 00:00:00 GMT"},
                 {4107542400000, "Mon, 01 Mar 2100 00:00:00 GMT"}};
    for (size_t i = 0; i < sizeof dates / sizeof dates[0]; i++) {
        buf_clear(&b);
        http_response(&b, 204, NULL, SLICE_NONE, true, NULL, dates[i].ms);
        assert_non_null(memmem(b.ptr, b.len, dates[i].date, strlen(dates[i].date)));
        assert_null(memmem(b.ptr, b.len, "Content-Length", 14));
    }
    assert_string_equal(http_status_text(418), "Unknown");
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_read),
        cmocka_unit_test(headers_that_matter_are_kept),
        cmocka_unit_test(pages_of_other_sites_are_told),
        cmocka_unit_test(i20_both_length_and_chunked),
        cmocka_unit_test(i21_lengths_that_disagree_or_are_not_digits),
        cmocka_unit_test(i22_transfer_encodings_we_do_not_know),
        cmocka_unit_test(i23_chunks_that_lie),
        cmocka_unit_test(i24_heads_that_are_not_heads),
        cmocka_unit_test(i25_a_head_has_ten_seconds),
        cmocka_unit_test(i26_a_body_has_a_pace),
        cmocka_unit_test(i27_sizes_have_an_end),
        cmocka_unit_test(i27_targets),
        cmocka_unit_test(query_parameters_are_found),
        cmocka_unit_test(i29_expectations_upgrades_and_tunnels),
        cmocka_unit_test(i30_compressed_bodies),
        cmocka_unit_test(i31_bodies_over_the_limit),
        cmocka_unit_test(random_bytes_are_read_the_same_in_pieces),
        cmocka_unit_test(responses_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
