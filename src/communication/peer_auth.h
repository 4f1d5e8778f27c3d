/* Proof that a peer knows PEER_SECRET: HMAC-SHA-256 (RFC 2104, FIPS 198-1) over its HELLO and our nonce. Pure. */
#ifndef SYN_COMMUNICATION_PEER_AUTH_H
#define SYN_COMMUNICATION_PEER_AUTH_H

#include "communication/messages.h"

enum { PEER_MAC_BYTES = 32 };

/* The mac that the sender of h owes to a receiver whose nonce it was shown. */
void peer_mac(slice_t secret, const struct peer_hello *h, uint64_t receiver_nonce, uint8_t out[PEER_MAC_BYTES]);
/* Constant time in the mac. */
bool peer_mac_valid(slice_t secret, const struct peer_hello *h, uint64_t our_nonce);
/* Compares secrets in time that depends on the lengths of neither's common part (passwords, I14). */
bool secret_equal(slice_t a, slice_t b);

#endif
