/* Peer authentication: one published value per primitive's use, every field counts, and passwords compare by value only. */
#include "../utils/test.h"

#include "communication/peer_auth.h"

static struct peer_hello hello(void)
{
    return (struct peer_hello){.version = 1, .cluster_key = 2, .cluster_id = 3, .node = 4, .to = 5, .uuid = 6, .incarnation = 7, .fresh = 1,
                               .name = SLICE_LIT("n4"), .client_host = SLICE_LIT("127.0.0.1"), .resp_port = 7379, .http_port = 8000, .nonce = 9};
}

/* Computed with Python's hmac and hashlib over the bytes that docs/wire.md lists. */
static void the_mac_is_the_documented_one(void **state)
{
    (void)state;
    static const uint8_t want[PEER_MAC_BYTES] = {
        0xb5, 0xea, 0x72, 0x04, 0x99, 0xd3, 0x57, 0xe3, 0x28, 0x61, 0x11, 0x44, 0x76, 0x8c, 0x45, 0xba,
        0xc8, 0x9e, 0x42, 0xff, 0x22, 0x7c, 0xca, 0x75, 0x8a, 0x6d, 0xd4, 0x81, 0x2a, 0x60, 0xb3, 0x08};
    struct peer_hello h = hello();
    uint8_t got[PEER_MAC_BYTES];
    peer_mac(SLICE_LIT("secret"), &h, 10, got);
    assert_memory_equal(got, want, sizeof want);
    h.mac = slice_of(got, sizeof got);
    assert_true(peer_mac_valid(SLICE_LIT("secret"), &h, 10));
}

static void every_field_counts(void **state)
{
    (void)state;
    struct peer_hello h = hello();
    uint8_t mac[PEER_MAC_BYTES];
    peer_mac(SLICE_LIT("secret"), &h, 10, mac);
    h.mac = slice_of(mac, sizeof mac);
    assert_false(peer_mac_valid(SLICE_LIT("secreu"), &h, 10));
    assert_false(peer_mac_valid(SLICE_LIT("secret"), &h, 11));
    assert_false(peer_mac_valid(SLICE_LIT(""), &h, 10));
#define CHANGED(field, value)                                       \
    do {                                                            \
        struct peer_hello x = h;                                    \
        x.field = value;                                            \
        assert_false(peer_mac_valid(SLICE_LIT("secret"), &x, 10));  \
    } while (0)
    CHANGED(version, 2);
    CHANGED(cluster_key, 1);
    CHANGED(cluster_id, 1);
    CHANGED(node, 1);
    CHANGED(to, 1);
    CHANGED(uuid, 1);
    CHANGED(incarnation, 1);
    CHANGED(fresh, 0);
    CHANGED(name, SLICE_LIT("n5"));
    CHANGED(name, SLICE_NONE);
    CHANGED(client_host, SLICE_LIT("127.0.0.2"));
    CHANGED(resp_port, 1);
    CHANGED(http_port, 1);
    CHANGED(nonce, 1);
    CHANGED(mac, slice_of(mac, 31));
    CHANGED(mac, SLICE_NONE);
    for (int bit = 0; bit < PEER_MAC_BYTES * 8; bit++) {
        mac[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(peer_mac_valid(SLICE_LIT("secret"), &h, 10));
        mac[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(peer_mac_valid(SLICE_LIT("secret"), &h, 10));
}

static void secrets_compare_by_value(void **state)
{
    (void)state;
    assert_true(secret_equal(SLICE_LIT("pass"), SLICE_LIT("pass")));
    assert_true(secret_equal(SLICE_LIT(""), SLICE_NONE));
    assert_false(secret_equal(SLICE_LIT("pass"), SLICE_LIT("pasS")));
    assert_false(secret_equal(SLICE_LIT("pass"), SLICE_LIT("pas")));
    assert_false(secret_equal(SLICE_LIT("pass"), SLICE_LIT("pass\0")));
    assert_false(secret_equal(SLICE_LIT("pass"), SLICE_NONE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mac_is_the_documented_one),
        cmocka_unit_test(every_field_counts),
        cmocka_unit_test(secrets_compare_by_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
