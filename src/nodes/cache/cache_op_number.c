/* Integers as Redis reads and prints them: no blanks, no plus, no leading zeros, no -0. */
#include "nodes/cache/cache_op_internal.h"

bool number_parse(slice_t s, int64_t *out)
{
    bool negative = s.len > 0 && s.ptr[0] == '-';
    size_t i = negative;
    uint64_t v = 0, max = (uint64_t)INT64_MAX + negative;
    if (s.len == i || s.len - i > 19 || (s.ptr[i] == '0' && s.len > 1)) {
        return false;
    }
    for (; i < s.len; i++) {
        uint64_t d = (uint64_t)s.ptr[i] - '0';
        if (d > 9 || v > (max - d) / 10) {
            return false;
        }
        v = v * 10 + d;
    }
    *out = (int64_t)(negative ? 0 - v : v);
    return true;
}

slice_t number_print(char text[21], int64_t v)
{
    uint64_t left = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    size_t at = 21;
    do {
        text[--at] = (char)('0' + left % 10);
        left /= 10;
    } while (left != 0);
    if (v < 0) {
        text[--at] = '-';
    }
    return slice_of(text + at, 21 - at);
}
