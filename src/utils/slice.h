/* slice_t: borrowed, immutable bytes. Owns nothing; valid as long as the memory it was cut from. */
#ifndef SYN_UTILS_SLICE_H
#define SYN_UTILS_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const uint8_t *ptr;
    size_t len;
} slice_t;

#define SLICE_NONE ((slice_t){NULL, 0})
#define SLICE_LIT(s) ((slice_t){(const uint8_t *)(s), sizeof(s) - 1})

static inline slice_t slice_of(const void *ptr, size_t len)
{
    return (slice_t){(const uint8_t *)ptr, len};
}

static inline slice_t slice_str(const char *s)
{
    return slice_of(s, strlen(s));
}

static inline bool slice_eq(slice_t a, slice_t b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* ASCII case-insensitive comparison, for protocol words. */
static inline bool slice_ieq(slice_t a, const char *word)
{
    size_t n = strlen(word);
    if (a.len != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t x = a.ptr[i], y = (uint8_t)word[i];
        x = (uint8_t)(x >= 'A' && x <= 'Z' ? x + 32 : x);
        y = (uint8_t)(y >= 'A' && y <= 'Z' ? y + 32 : y);
        if (x != y) {
            return false;
        }
    }
    return true;
}

#endif
