/* The Authorization header; see http_auth.h. */
#include "communication/http_auth.h"

#include <sodium.h>

static bool scheme_is(slice_t s, const char *name, slice_t *rest)
{
    size_t n = strlen(name);
    if (s.len <= n || s.ptr[n] != ' ' || !slice_ieq(slice_of(s.ptr, n), name)) {
        return false;
    }
    while (n < s.len && s.ptr[n] == ' ') {
        n++;
    }
    *rest = slice_of(s.ptr + n, s.len - n);
    return true;
}

bool http_credentials(slice_t authorization, struct buf *scratch, slice_t *user, slice_t *password)
{
    slice_t rest;
    *user = SLICE_NONE;
    if (scheme_is(authorization, "Bearer", &rest)) {
        *password = rest;
        return true;
    }
    if (!scheme_is(authorization, "Basic", &rest)) {
        return false;
    }
    size_t len = 0;
    buf_clear(scratch);
    uint8_t *out = buf_reserve(scratch, rest.len + 1);
    if (sodium_base642bin(out, rest.len, (const char *)rest.ptr, rest.len, NULL, &len, NULL, sodium_base64_VARIANT_ORIGINAL) != 0) {
        return false;
    }
    const uint8_t *colon = memchr(out, ':', len);
    if (colon == NULL) {
        return false;
    }
    *user = slice_of(out, (size_t)(colon - out));
    *password = slice_of(colon + 1, len - user->len - 1);
    return true;
}
