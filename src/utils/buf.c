/* Growable buffers and bounded readers; see buf.h. */
#include "utils/buf.h"

#include "utils/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buf_init(struct buf *b)
{
    *b = (struct buf){0};
}

void buf_fini(struct buf *b)
{
    free(b->ptr);
    *b = (struct buf){0};
}

uint8_t *buf_grow(struct buf *b, size_t n)
{
    syn_assert(n <= SIZE_MAX / 4 && b->len <= SIZE_MAX / 4);
    size_t cap = b->cap ? b->cap : 64;
    while (cap < b->len + n) {
        cap *= 2;
    }
    uint8_t *p = realloc(b->ptr, cap);
    syn_assert(p != NULL);
    b->ptr = p;
    b->cap = cap;
    return b->ptr + b->len;
}

void buf_append_str(struct buf *b, const char *s)
{
    buf_append(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    size_t room = b->cap - b->len;
    int n = vsnprintf((char *)(b->ptr ? b->ptr + b->len : NULL), b->ptr ? room : 0, fmt, ap);
    va_end(ap);
    syn_assert(n >= 0);
    if ((size_t)n >= room) {
        uint8_t *p = buf_reserve(b, (size_t)n + 1);
        va_start(ap, fmt);
        vsnprintf((char *)p, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    b->len += (size_t)n;
}

void buf_consume(struct buf *b, size_t n)
{
    syn_assert(n <= b->len);
    if (n == b->len) {
        b->len = 0;
        return;
    }
    memmove(b->ptr, b->ptr + n, b->len - n);
    b->len -= n;
}

void buf_swap(struct buf *a, struct buf *b)
{
    struct buf t = *a;
    *a = *b;
    *b = t;
}

void buf_put_bytes(struct buf *b, slice_t s)
{
    syn_assert(s.len <= UINT32_MAX);
    buf_put_u32(b, (uint32_t)s.len);
    buf_append(b, s.ptr, s.len);
}

slice_t reader_take(struct reader *r, size_t n)
{
    if (!r->ok || reader_left(r) < n) {
        r->ok = false;
        return SLICE_NONE;
    }
    slice_t s = slice_of(r->p, n);
    r->p = n > 0 ? r->p + n : r->p; /* an empty reader may stand at NULL */
    return s;
}

uint8_t reader_u8(struct reader *r)
{
    slice_t s = reader_take(r, 1);
    return s.ptr ? s.ptr[0] : 0;
}

uint16_t reader_u16(struct reader *r)
{
    slice_t s = reader_take(r, 2);
    return s.ptr ? le16_get(s.ptr) : 0;
}

uint32_t reader_u32(struct reader *r)
{
    slice_t s = reader_take(r, 4);
    return s.ptr ? le32_get(s.ptr) : 0;
}

uint64_t reader_u64(struct reader *r)
{
    slice_t s = reader_take(r, 8);
    return s.ptr ? le64_get(s.ptr) : 0;
}

slice_t reader_bytes(struct reader *r)
{
    uint32_t n = reader_u32(r);
    return reader_take(r, n);
}
