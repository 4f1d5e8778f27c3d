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

/* CRC-16/XMODEM, eight bytes at a time (Kounavis and Berry 2005): every command's key passes here. A table holds, of each byte, what it does to the sum when so many
 * bytes follow. The sum is linear in the bits, so a row is made of what its eight bits do. */
#define ENTRY(v, a, b, c, d, e, f, g, h)                                                                                                    \
    (((v) & 1 ? a : 0) ^ ((v) & 2 ? b : 0) ^ ((v) & 4 ? c : 0) ^ ((v) & 8 ? d : 0) ^ ((v) & 16 ? e : 0) ^ ((v) & 32 ? f : 0) ^              \
     ((v) & 64 ? g : 0) ^ ((v) & 128 ? h : 0))
#define ENTRIES_4(v, ...) ENTRY(v, __VA_ARGS__), ENTRY((v) + 1, __VA_ARGS__), ENTRY((v) + 2, __VA_ARGS__), ENTRY((v) + 3, __VA_ARGS__)
#define ENTRIES_16(v, ...) ENTRIES_4(v, __VA_ARGS__), ENTRIES_4((v) + 4, __VA_ARGS__), ENTRIES_4((v) + 8, __VA_ARGS__), ENTRIES_4((v) + 12, __VA_ARGS__)
#define ENTRIES_64(v, ...) ENTRIES_16(v, __VA_ARGS__), ENTRIES_16((v) + 16, __VA_ARGS__), ENTRIES_16((v) + 32, __VA_ARGS__), ENTRIES_16((v) + 48, __VA_ARGS__)
#define ENTRIES(...) {ENTRIES_64(0, __VA_ARGS__), ENTRIES_64(64, __VA_ARGS__), ENTRIES_64(128, __VA_ARGS__), ENTRIES_64(192, __VA_ARGS__)}

static const uint16_t CRC16[8][256] = {
    ENTRIES(0x1021, 0x2042, 0x4084, 0x8108, 0x1231, 0x2462, 0x48c4, 0x9188),
    ENTRIES(0x3331, 0x6662, 0xccc4, 0x89a9, 0x0373, 0x06e6, 0x0dcc, 0x1b98),
    ENTRIES(0x3730, 0x6e60, 0xdcc0, 0xa9a1, 0x4363, 0x86c6, 0x1dad, 0x3b5a),
    ENTRIES(0x76b4, 0xed68, 0xcaf1, 0x85c3, 0x1ba7, 0x374e, 0x6e9c, 0xdd38),
    ENTRIES(0xaa51, 0x4483, 0x8906, 0x022d, 0x045a, 0x08b4, 0x1168, 0x22d0),
    ENTRIES(0x45a0, 0x8b40, 0x06a1, 0x0d42, 0x1a84, 0x3508, 0x6a10, 0xd420),
    ENTRIES(0xb861, 0x60e3, 0xc1c6, 0x93ad, 0x377b, 0x6ef6, 0xddec, 0xabf9),
    ENTRIES(0x47d3, 0x8fa6, 0x0f6d, 0x1eda, 0x3db4, 0x7b68, 0xf6d0, 0xfd81),
};

uint16_t crc16(slice_t s)
{
    const uint8_t *p = s.ptr, *end = p + s.len;
    uint16_t crc = 0;
    for (; end - p >= 8; p += 8) {
        crc = (uint16_t)(CRC16[7][p[0] ^ crc >> 8] ^ CRC16[6][p[1] ^ (crc & 255)] ^ CRC16[5][p[2]] ^ CRC16[4][p[3]] ^ CRC16[3][p[4]] ^
                         CRC16[2][p[5]] ^ CRC16[1][p[6]] ^ CRC16[0][p[7]]);
    }
    for (; p < end; p++) {
        crc = (uint16_t)(crc << 8 ^ CRC16[0][crc >> 8 ^ *p]);
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
