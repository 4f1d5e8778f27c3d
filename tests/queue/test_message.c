/* Message bodies: what goes in comes out, and no bytes from a client can make more of it than a refusal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "nodes/queue/message.h"
#include "utils/prng.h"

static void assert_slice(slice_t s, const char *text)
{
    assert_true(slice_eq(s, slice_str(text)));
}

static void test_round_trip(void **state)
{
    (void)state;
    struct buf b = {0};
    slice_t key = SLICE_LIT("order-7");
    slice_t headers[] = {SLICE_LIT("content-type"), SLICE_LIT("text/plain"), SLICE_LIT("empty"), SLICE_NONE};
    message_put(&b, 1700000000123, &key, 2, headers, SLICE_LIT("hello"));
    struct message m;
    assert_true(message_get(buf_slice(&b), &m));
    assert_int_equal(m.wall_ms, 1700000000123);
    assert_true(m.has_key);
    assert_slice(m.key, "order-7");
    assert_slice(m.payload, "hello");
    assert_int_equal(m.n_headers, 2);
    struct reader r = reader_of(m.headers);
    slice_t name, value;
    assert_true(message_next_header(&r, &name, &value));
    assert_slice(name, "content-type");
    assert_slice(value, "text/plain");
    assert_true(message_next_header(&r, &name, &value));
    assert_slice(name, "empty");
    assert_int_equal(value.len, 0);
    assert_true(reader_done(&r));
    assert_false(message_next_header(&r, &name, &value));
    buf_fini(&b);
}

static void test_bare(void **state)
{
    (void)state;
    struct buf b = {0};
    message_put(&b, 0, NULL, 0, NULL, SLICE_NONE);
    struct message m;
    assert_true(message_get(buf_slice(&b), &m));
    assert_false(m.has_key);
    assert_int_equal(m.n_headers, 0);
    assert_int_equal(m.payload.len, 0);
    b.len = 0;
    slice_t empty = SLICE_NONE;
    message_put(&b, 5, &empty, 0, NULL, SLICE_LIT("x"));
    assert_true(message_get(buf_slice(&b), &m));
    assert_true(m.has_key); /* an empty key is a key */
    assert_int_equal(m.key.len, 0);
    assert_false(message_get(SLICE_NONE, &m));
    buf_fini(&b);
}

/* Cut anywhere before the payload it is refused; in the payload it is another payload. */
static void test_cut(void **state)
{
    (void)state;
    struct buf b = {0};
    slice_t key = SLICE_LIT("k"), headers[] = {SLICE_LIT("n"), SLICE_LIT("v")};
    message_put(&b, 1, &key, 1, headers, SLICE_LIT("payload"));
    size_t head = b.len - 7;
    for (size_t n = 0; n <= b.len; n++) {
        struct message m;
        uint8_t *copy = test_malloc(n + 1);
        memcpy(copy, b.ptr, n);
        assert_int_equal(message_get(slice_of(copy, n), &m), n >= head);
        assert_int_equal(m.payload.len, n >= head ? n - head : 0);
        test_free(copy);
    }
    buf_fini(&b);
}

static void test_noise(void **state)
{
    (void)state;
    struct prng g;
    prng_init(&g, 8);
    for (int i = 0; i < 20000; i++) {
        uint8_t bytes[64];
        size_t n = prng_below(&g, sizeof bytes + 1);
        for (size_t k = 0; k < n; k++) {
            bytes[k] = (uint8_t)(prng_chance(&g, 700000) ? prng_below(&g, 4) : prng_u64(&g));
        }
        struct message m;
        if (message_get(slice_of(bytes, n), &m)) {
            struct reader r = reader_of(m.headers);
            slice_t name, value;
            for (uint32_t k = 0; k < m.n_headers; k++) {
                assert_true(message_next_header(&r, &name, &value));
            }
            assert_true(reader_done(&r));
            assert_ptr_equal(m.headers.ptr + m.headers.len, m.payload.ptr);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_bare),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
