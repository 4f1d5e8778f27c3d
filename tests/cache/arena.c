/* See arena.h. Blocks come from free lists by size class, else from the end. An image is what is in use, from the first block to the end.
 *
 * Blocks of 16 KiB and more have places of their own, and only their first bytes are saved: they are the chunks of lines.c, whose lines behind the first few are
 * written once, when a chunk is made, always with the same (arena_check looks). */
#include "arena.h"

#include "utils/assert.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD = 16, CLASSES = 20, LARGE_MIN = 16384, LARGE_BYTES = 65536, LARGES = 8, LARGE_SAVED = 1024, SMALL_BYTES = 1 << 20 };

struct arena {
    size_t used;                        /* of small[] */
    void *free_ones[CLASSES];
    bool large_used[LARGES];
    _Alignas(16) uint8_t small[SMALL_BYTES];
};

static struct arena arena;
static _Alignas(16) uint8_t larges[LARGES][LARGE_BYTES];
static bool entered;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static bool is_large(const void *p)
{
    return (const uint8_t *)p >= larges[0] && (const uint8_t *)p < larges[LARGES];
}

static bool is_ours(const void *p)
{
    return is_large(p) || ((const uint8_t *)p >= arena.small && (const uint8_t *)p < arena.small + SMALL_BYTES);
}

static size_t class_of(size_t n)
{
    size_t c = 0;
    while (((size_t)16 << c) < n) {
        c++;
    }
    return c;
}

static void *large_take(size_t n)
{
    syn_assert(n <= LARGE_BYTES);
    for (size_t i = 0; i < LARGES; i++) {
        if (!arena.large_used[i]) {
            arena.large_used[i] = true;
            return larges[i];
        }
    }
    SYN_UNREACHABLE();
}

static void *take(size_t n)
{
    if (n >= LARGE_MIN) {
        return large_take(n);
    }
    size_t c = class_of(n);
    void *p = arena.free_ones[c];
    if (p != NULL) {
        memcpy(&arena.free_ones[c], p, sizeof p);
        return p;
    }
    syn_assert(arena.used + HEAD + ((size_t)16 << c) <= SMALL_BYTES);
    uint8_t *at = arena.small + arena.used;
    memcpy(at, &c, sizeof c);
    arena.used += HEAD + ((size_t)16 << c);
    return at + HEAD;
}

static size_t class_at(const void *p)
{
    size_t c;
    memcpy(&c, (const uint8_t *)p - HEAD, sizeof c);
    return c;
}

static void give(void *p)
{
    if (is_large(p)) {
        arena.large_used[(size_t)((uint8_t *)p - larges[0]) / LARGE_BYTES] = false;
        return;
    }
    size_t c = class_at(p);
    memcpy(p, &arena.free_ones[c], sizeof p);
    arena.free_ones[c] = p;
}

void *__wrap_malloc(size_t n)
{
    return entered ? take(n) : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    if (!entered) {
        return __real_calloc(n, size);
    }
    void *p = take(n * size);
    return memset(p, 0, n * size);
}

void __wrap_free(void *p)
{
    if (!is_ours(p)) {
        __real_free(p);
    } else {
        give(p);
    }
}

void *__wrap_realloc(void *p, size_t n)
{
    if (!is_ours(p) && (p != NULL || !entered)) {
        return __real_realloc(p, n);
    }
    syn_assert(!is_large(p));
    size_t had = p != NULL ? (size_t)16 << class_at(p) : 0;
    if (p != NULL && n <= had) {
        return p;
    }
    void *q = take(n);
    if (p != NULL) {
        memcpy(q, p, had);
        give(p);
    }
    return q;
}

void *arena_open(size_t root_bytes)
{
    memset(&arena, 0, offsetof(struct arena, small));
    void *root = take(root_bytes);
    return memset(root, 0, root_bytes);
}

void arena_enter(void)
{
    entered = true;
}

void arena_leave(void)
{
    entered = false;
}

static size_t small_image(void)
{
    return offsetof(struct arena, small) + arena.used;
}

size_t arena_image_bytes(void)
{
    return small_image() + (size_t)LARGES * LARGE_SAVED;
}

size_t arena_save(void *to)
{
    uint8_t *p = to;
    memcpy(p, &arena, small_image());
    p += small_image();
    for (size_t i = 0; i < LARGES; i++) {
        if (arena.large_used[i]) {
            memcpy(p, larges[i], LARGE_SAVED);
            p += LARGE_SAVED;
        }
    }
    return (size_t)(p - (uint8_t *)to);
}

void arena_load(const void *from)
{
    const uint8_t *p = from;
    memcpy(&arena, p, offsetof(struct arena, small));
    memcpy(arena.small, p + offsetof(struct arena, small), arena.used);
    p += small_image();
    for (size_t i = 0; i < LARGES; i++) {
        if (arena.large_used[i]) {
            memcpy(larges[i], p, LARGE_SAVED);
            p += LARGE_SAVED;
        }
    }
}

void arena_check(void)
{
    const uint8_t *like = NULL;
    for (size_t i = 0; i < LARGES; i++) {
        if (arena.large_used[i]) {
            syn_assert(like == NULL || memcmp(like + LARGE_SAVED, larges[i] + LARGE_SAVED, LARGE_MIN - LARGE_SAVED) == 0);
            like = larges[i];
        }
    }
}
