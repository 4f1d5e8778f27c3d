/* A look at commands that are still to be parsed; see resp.h. */
#include "communication/resp.h"

enum { PEEK_WORDS_MAX = 8, PEEK_BYTES_MAX = 1024 };

/* The number after `mark`, and its line's end. */
static bool peek_number(slice_t in, size_t *at, uint8_t mark, uint32_t most, uint32_t *out)
{
    size_t i = *at;
    uint32_t v = 0;
    if (i >= in.len || in.ptr[i] != mark) {
        return false;
    }
    for (i++; i < in.len && in.ptr[i] >= '0' && in.ptr[i] <= '9' && v <= most; i++) {
        v = v * 10 + (uint32_t)(in.ptr[i] - '0');
    }
    *at = i + 2;
    *out = v;
    return v <= most && *at <= in.len && in.ptr[i] == '\r';
}

bool resp_peek(slice_t in, slice_t *name, slice_t *key, size_t *used)
{
    size_t at = 0;
    uint32_t words, len;
    if (!peek_number(in, &at, '*', PEEK_WORDS_MAX, &words) || words < 2) {
        return false;
    }
    for (uint32_t i = 0; i < words; i++) {
        if (!peek_number(in, &at, '$', PEEK_BYTES_MAX, &len) || in.len - at < len + 2u) {
            return false;
        }
        if (i < 2) {
            *(i == 0 ? name : key) = slice_of(in.ptr + at, len);
        }
        at += len + 2;
    }
    *used = at;
    return true;
}
