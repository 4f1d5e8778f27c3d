/* Keyed hashing and slots; see hash.h. */
#include "utils/hash.h"

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t read_up_to_8(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    memcpy(&v, p, n);
    return v;
}

uint64_t hash_bytes(uint64_t key, slice_t s)
{
    const uint64_t k0 = 0xa0761d6478bd642fu, k1 = 0xe7037ed1a0b428dbu, k2 = 0x8ebc6af09c88c6e3u;
    const uint8_t *p = s.ptr;
    size_t n = s.len;
    uint64_t h = mix(key ^ k0, s.len ^ k1);
    for (; n >= 16; p += 16, n -= 16) {
        uint64_t a = read_up_to_8(p, 8), b = read_up_to_8(p + 8, 8);
        h = mix(a ^ h ^ k1, b ^ k2 ^ key);
    }
    uint64_t a = 0, b = 0;
    if (n > 8) {
        a = read_up_to_8(p, 8);
        b = read_up_to_8(p + 8, n - 8);
    } else if (n > 0) {
        a = read_up_to_8(p, n);
    }
    return mix(k1 ^ s.len, mix(a ^ h ^ k1, b ^ h ^ k2 ^ key));
}

uint64_t hash_u64(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Four bits at a time: every command's key passes here, and 16 entries stay in the cache. */
uint16_t crc16(slice_t s)
{
    static const uint16_t table[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
                                        0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};
    uint16_t crc = 0;
    for (size_t i = 0; i < s.len; i++) {
        crc = (uint16_t)(crc << 4 ^ table[crc >> 12 ^ s.ptr[i] >> 4]);
        crc = (uint16_t)(crc << 4 ^ table[crc >> 12 ^ (s.ptr[i] & 15)]);
    }
    return crc;
}

slice_t hash_tag(slice_t name)
{
    const uint8_t *open = name.len ? memchr(name.ptr, '{', name.len) : NULL;
    if (open == NULL) {
        return SLICE_NONE;
    }
    size_t rest = (size_t)(name.ptr + name.len - open - 1);
    const uint8_t *close = rest ? memchr(open + 1, '}', rest) : NULL;
    if (close == NULL || close == open + 1) {
        return SLICE_NONE;
    }
    return slice_of(open + 1, (size_t)(close - open - 1));
}

uint16_t hash_slot(slice_t name)
{
    slice_t tag = hash_tag(name);
    return crc16(tag.ptr ? tag : name) & 16383;
}
