/* What every room stands on: buffers and readers, hashes and checksums against published values, generator, lists. */
#include "test.h"

#include "utils/buf.h"
#include "utils/crc32c.h"
#include "utils/hash.h"
#include "utils/list.h"
#include "utils/prng.h"

static void what_is_put_is_read(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_put_u8(&b, 0xab);
    buf_put_u16(&b, 0x1234);
    buf_put_u32(&b, 0xdeadbeef);
    buf_put_u64(&b, 0x0102030405060708);
    buf_put_bytes(&b, SLICE_LIT("hello"));
    buf_put_bytes(&b, SLICE_NONE);
    static const uint8_t wire[] = {0xab, 0x34, 0x12, 0xef, 0xbe, 0xad, 0xde, 8, 7, 6, 5, 4, 3, 2, 1};
    assert_memory_equal(b.ptr, wire, sizeof wire);
    struct reader r = reader_of(buf_slice(&b));
    assert_int_equal(reader_u8(&r), 0xab);
    assert_int_equal(reader_u16(&r), 0x1234);
    assert_int_equal(reader_u32(&r), 0xdeadbeef);
    assert_true(reader_u64(&r) == 0x0102030405060708);
    assert_true(slice_eq(reader_bytes(&r), SLICE_LIT("hello")));
    assert_int_equal(reader_bytes(&r).len, 0);
    assert_true(reader_done(&r));
    buf_fini(&b);
}

/* Every prefix of a message is refused, and a length that lies takes nothing. */
static void readers_stop_at_the_end(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_put_u64(&b, 7);
    buf_put_bytes(&b, SLICE_LIT("hello"));
    for (size_t n = 0; n < b.len; n++) {
        struct reader r = reader_of(slice_of(b.ptr, n));
        reader_u64(&r);
        reader_bytes(&r);
        assert_false(reader_done(&r));
        assert_int_equal(reader_u32(&r), 0);
        assert_false(r.ok);
    }
    struct reader r = reader_of(SLICE_LIT("\xff\xff\xff\xff"));
    assert_null(reader_bytes(&r).ptr);
    assert_false(r.ok);
    r = reader_of(SLICE_NONE);
    reader_take(&r, 0);
    assert_true(reader_done(&r));
    buf_fini(&b);
}

static void buffers_grow_and_shrink(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < 1000; i++) {
        buf_printf(&b, "%d,", i);
    }
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
    assert_memory_equal(b.ptr + b.len - 8, "998,999,", 8);
    buf_consume(&b, b.len - 4);
    assert_true(slice_eq(buf_slice(&b), SLICE_LIT("999,")));
    buf_consume(&b, 4);
    assert_int_equal(b.len, 0);
    buf_append(&b, NULL, 0);
    buf_fini(&b);
    assert_non_null(buf_reserve(&b, 0));
    buf_fini(&b);
}

/* Bit by bit, as the standard says. */
static uint16_t slow_crc16(const uint8_t *p, size_t n)
{
    uint16_t crc = 0;
    for (size_t i = 0; i < n * 8; i++) {
        unsigned bit = p[i / 8] >> (7 - i % 8) & 1;
        crc = (uint16_t)((crc >> 15 ^ bit) != 0 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc;
}

static void crc16_of_every_length(void **state)
{
    (void)state;
    uint8_t bytes[64];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 151 + 37);
    }
    for (size_t n = 0; n <= sizeof bytes; n++) {
        assert_int_equal(crc16(slice_of(bytes, n)), slow_crc16(bytes, n));
    }
    for (unsigned v = 0; v < 256; v++) {
        for (size_t at = 0; at < 24; at++) {
            bytes[at] = (uint8_t)v;
            assert_int_equal(crc16(slice_of(bytes, 24)), slow_crc16(bytes, 24));
        }
    }
}

static void checksums_have_their_published_values(void **state)
{
    (void)state;
    static uint8_t bytes[1000];
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c_portable(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa); /* RFC 3720 B.4: 32 zeros */
    assert_int_equal(crc16(SLICE_LIT("123456789")), 0x31c3);
    assert_int_equal(hash_slot(SLICE_LIT("foo")), 12182); /* Redis Cluster: CLUSTER KEYSLOT foo */
    assert_int_equal(hash_slot(SLICE_LIT("somekey")), 11058);
    struct prng g;
    prng_init(&g, 1);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)prng_u64(&g);
    }
    for (size_t n = 0; n < sizeof bytes; n++) {
        uint32_t whole = crc32c(0, bytes, n);
        assert_int_equal(whole, crc32c_portable(0, bytes, n));
        assert_int_equal(whole, crc32c(crc32c(0, bytes, n / 3), bytes + n / 3, n - n / 3));
    }
}

static void tags_are_those_of_redis_cluster(void **state)
{
    (void)state;
    assert_true(slice_eq(hash_tag(SLICE_LIT("{user1000}.following")), SLICE_LIT("user1000")));
    assert_null(hash_tag(SLICE_LIT("foo{}{bar}")).ptr);
    assert_true(slice_eq(hash_tag(SLICE_LIT("foo{{bar}}zap")), SLICE_LIT("{bar")));
    assert_true(slice_eq(hash_tag(SLICE_LIT("foo{bar}{zap}")), SLICE_LIT("bar")));
    assert_null(hash_tag(SLICE_LIT("foo{")).ptr);
    assert_null(hash_tag(SLICE_LIT("}foo")).ptr);
    assert_null(hash_tag(SLICE_NONE).ptr);
    assert_int_equal(hash_slot(SLICE_LIT("a{foo}b")), 12182);
}

static void hashes_depend_on_key_and_every_byte(void **state)
{
    (void)state;
    uint8_t bytes[70] = {0};
    for (size_t n = 0; n <= 64; n++) {
        uint64_t h = hash_bytes(1, slice_of(bytes, n));
        assert_true(h == hash_bytes(1, slice_of(bytes, n)));
        assert_true(h != hash_bytes(2, slice_of(bytes, n)));
        assert_true(h != hash_bytes(1, slice_of(bytes, n + 1)));
        for (size_t i = 0; i < n; i++) {
            bytes[i] = 1;
            assert_true(h != hash_bytes(1, slice_of(bytes, n)));
            bytes[i] = 0;
        }
    }
}

static void the_generator_is_the_published_one(void **state)
{
    (void)state;
    struct prng g = {{1, 2, 3, 4}};
    assert_true(prng_u64(&g) == 11520); /* xoshiro256** from state 1, 2, 3, 4 */
    assert_true(prng_u64(&g) == 0);
    assert_true(prng_u64(&g) == 1509978240);
    for (int i = 0; i < 10000; i++) {
        assert_in_range(prng_range(&g, 5, 7), 5, 7);
        assert_true(prng_below(&g, 3) < 3);
    }
    assert_true(prng_range(&g, 0, UINT64_MAX) != prng_range(&g, 0, UINT64_MAX));
    assert_false(prng_chance(&g, 0));
    assert_true(prng_chance(&g, 1000000));
}

static void lists_link_and_unlink(void **state)
{
    (void)state;
    struct list head, n[3];
    list_init(&head);
    for (int i = 0; i < 3; i++) {
        list_push_back(&head, &n[i]);
    }
    list_each_safe(it, &head) {
        list_remove(it);
        list_remove(it);
    }
    assert_true(list_empty(&head));
    list_push_front(&head, &n[0]);
    list_push_front(&head, &n[1]);
    assert_ptr_equal(head.next, &n[1]);
    assert_ptr_equal(head.prev, &n[0]);
}

static void words_compare_without_case(void **state)
{
    (void)state;
    assert_true(slice_ieq(SLICE_LIT("LoCk.AcQuire"), "lock.acquire"));
    assert_false(slice_ieq(SLICE_LIT("lock"), "lock."));
    assert_false(slice_ieq(SLICE_LIT("@"), "`"));
    assert_true(slice_eq(SLICE_NONE, slice_of("x", 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc16_of_every_length),
        cmocka_unit_test(what_is_put_is_read),
        cmocka_unit_test(readers_stop_at_the_end),
        cmocka_unit_test(buffers_grow_and_shrink),
        cmocka_unit_test(checksums_have_their_published_values),
        cmocka_unit_test(tags_are_those_of_redis_cluster),
        cmocka_unit_test(hashes_depend_on_key_and_every_byte),
        cmocka_unit_test(the_generator_is_the_published_one),
        cmocka_unit_test(lists_link_and_unlink),
        cmocka_unit_test(words_compare_without_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
