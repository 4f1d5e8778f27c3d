/* Peer authentication; see peer_auth.h. The primitives are libsodium's. */
#include "communication/peer_auth.h"

#include <sodium.h>

_Static_assert(PEER_MAC_BYTES == crypto_auth_hmacsha256_BYTES, "the mac is an HMAC-SHA-256");

void peer_mac(slice_t secret, const struct peer_hello *h, uint64_t receiver_nonce, uint8_t out[PEER_MAC_BYTES])
{
    struct buf b = {0};
    buf_append_str(&b, "synaxis hello");
    buf_put_u32(&b, h->version);
    buf_put_u64(&b, h->cluster_key);
    buf_put_u64(&b, h->cluster_id);
    buf_put_u32(&b, h->node);
    buf_put_u32(&b, h->to);
    buf_put_u64(&b, h->uuid);
    buf_put_u64(&b, h->incarnation);
    buf_put_u8(&b, h->fresh);
    buf_put_bytes(&b, h->name);
    buf_put_bytes(&b, h->client_host);
    buf_put_u32(&b, h->resp_port);
    buf_put_u32(&b, h->http_port);
    buf_put_u64(&b, h->nonce);
    buf_put_u64(&b, receiver_nonce);
    crypto_auth_hmacsha256_state st;
    crypto_auth_hmacsha256_init(&st, secret.ptr, secret.len);
    crypto_auth_hmacsha256_update(&st, b.ptr, b.len);
    crypto_auth_hmacsha256_final(&st, out);
    buf_fini(&b);
}

bool peer_mac_valid(slice_t secret, const struct peer_hello *h, uint64_t our_nonce)
{
    uint8_t want[PEER_MAC_BYTES];
    peer_mac(secret, h, our_nonce, want);
    return h->mac.len == PEER_MAC_BYTES && sodium_memcmp(want, h->mac.ptr, PEER_MAC_BYTES) == 0;
}

bool secret_equal(slice_t a, slice_t b)
{
    uint8_t ha[crypto_hash_sha256_BYTES], hb[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(ha, a.ptr, a.len);
    crypto_hash_sha256(hb, b.ptr, b.len);
    return sodium_memcmp(ha, hb, sizeof ha) == 0;
}
