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

static bool same_authority(slice_t a, slice_t b)
{
    for (size_t i = 0; i < a.len && a.len == b.len; i++) {
        uint8_t x = a.ptr[i], y = b.ptr[i];
        x = (uint8_t)(x >= 'A' && x <= 'Z' ? x + 32 : x);
        y = (uint8_t)(y >= 'A' && y <= 'Z' ? y + 32 : y);
        if (x != y) {
            return false;
        }
    }
    return a.len == b.len;
}

bool http_is_cross_site(slice_t host, slice_t origin, slice_t fetch_site)
{
    if (slice_ieq(fetch_site, "cross-site")) {
        return true;
    }
    if (origin.len == 0) {
        return false;
    }
    const uint8_t *scheme_end = memmem(origin.ptr, origin.len, "://", 3);
    return scheme_end == NULL || !same_authority(host, slice_of(scheme_end + 3, origin.len - (size_t)(scheme_end + 3 - origin.ptr)));
}
