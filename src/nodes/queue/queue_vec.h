/* struct vec: an array of equal items that is pushed at the end and popped at the front, for what a partition keeps by offset. Popping moves the
 * rest only when half of the memory is unused, so both cost O(1) on average. */
#ifndef SYN_NODES_QUEUE_QUEUE_VEC_H
#define SYN_NODES_QUEUE_QUEUE_VEC_H

#include "utils/assert.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct vec {
    uint8_t *ptr; /* owned */
    size_t head, len, cap; /* items [head, head + len) of cap */
};

static inline void *vec_at(const struct vec *v, size_t i, size_t width) { return v->ptr + (v->head + i) * width; }

static inline void vec_fini(struct vec *v)
{
    free(v->ptr);
    *v = (struct vec){0};
}

/* Room for one more at the end, counted already. */
static inline void *vec_push(struct vec *v, size_t width)
{
    if (v->head + v->len == v->cap) {
        if (v->head > 0 && v->head >= v->len) {
            memmove(v->ptr, v->ptr + v->head * width, v->len * width);
            v->head = 0;
        } else {
            v->cap = v->cap ? v->cap * 2 : 16;
            v->ptr = realloc(v->ptr, v->cap * width);
            syn_assert(v->ptr != NULL);
        }
    }
    return vec_at(v, v->len++, width);
}

static inline void vec_pop_front(struct vec *v, size_t n, size_t width)
{
    syn_assert(n <= v->len);
    v->head += n;
    v->len -= n;
    if (v->len == 0 && v->cap > 1024) {
        vec_fini(v);
    } else if (v->len == 0) {
        v->head = 0;
    } else if (v->cap > 1024 && v->len * 4 < v->cap) {
        memmove(v->ptr, v->ptr + v->head * width, v->len * width);
        v->head = 0;
        v->cap /= 2;
        v->ptr = realloc(v->ptr, v->cap * width);
        syn_assert(v->ptr != NULL);
    }
}

/* The item goes between i - 1 and i; O(len - i). */
static inline void *vec_insert(struct vec *v, size_t i, size_t width)
{
    vec_push(v, width);
    memmove((uint8_t *)vec_at(v, i, width) + width, vec_at(v, i, width), (v->len - 1 - i) * width);
    return vec_at(v, i, width);
}

static inline void *vec_last(const struct vec *v, size_t width) { return vec_at(v, v->len - 1, width); }

#endif
