/* Commands that are short and whole, as nearly all are; see resp.h. What is not taken here is resp_parse's, which alone judges. */
#include "communication/resp.h"

/* The number after `mark` and its CRLF, in the one form that resp_parse takes. Returns what follows; NULL: it is not there, or too large. */
static const uint8_t *read_number(const uint8_t *p, const uint8_t *end, uint8_t mark, uint32_t *out)
{
    if (end - p < 4 || p[0] != mark || p[1] < '0' || p[1] > '9') {
        return NULL;
    }
    uint32_t v = (uint32_t)(p[1] - '0');
    for (p += 2; p < end && *p >= '0' && *p <= '9' && v > 0 && v <= RESP_SHORT_BYTES; p++) {
        v = v * 10 + (uint32_t)(*p - '0');
    }
    *out = v;
    return end - p >= 2 && p[0] == '\r' && p[1] == '\n' ? p + 2 : NULL;
}

bool resp_short(slice_t in, struct resp_short *out)
{
    const uint8_t *end = in.ptr + in.len;
    const uint8_t *p = read_number(in.ptr, end, '*', &out->argc);
    if (p == NULL || out->argc == 0 || out->argc > RESP_SHORT_WORDS) {
        return false;
    }
    for (uint32_t i = 0; i < out->argc; i++) {
        uint32_t len;
        p = read_number(p, end, '$', &len);
        if (p == NULL || len > RESP_SHORT_BYTES || end - p < (ptrdiff_t)len + 2 || p[len] != '\r' || p[len + 1] != '\n') {
            return false;
        }
        out->argv[i] = slice_of(p, len);
        p += len + 2;
    }
    out->size = (size_t)(p - in.ptr);
    return true;
}
