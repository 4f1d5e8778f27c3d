/* Hashes for tables whose keys come from clients: keyed, so that no client can choose collisions. And crc16 for slots. */
#ifndef SYN_UTILS_HASH_H
#define SYN_UTILS_HASH_H

#include "utils/slice.h"

/* A keyed 64-bit hash of s (wyhash-style multiply and fold over 16-byte stripes). Not for secrets. */
uint64_t hash_bytes(uint64_t key, slice_t s);
/* A 64-bit mix of one integer (splitmix64 finaliser). */
uint64_t hash_u64(uint64_t x);
/* CRC-16/XMODEM, as Redis Cluster uses for slots: crc16("123456789") == 0x31c3. */
uint16_t crc16(slice_t s);
/* The slot of a name: crc16 of the part in {braces} when there is a non-empty one, of the whole otherwise, mod 16384
 * (Redis Cluster specification, "hash tags"). */
uint16_t hash_slot(slice_t name);
/* The tag of a name, or SLICE_NONE when it has none. */
slice_t hash_tag(slice_t name);

#endif
