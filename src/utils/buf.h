/* struct buf: a growable byte buffer; and struct reader: a bounded little-endian decoder over borrowed bytes.
 *
 * Everything that goes to disk or wire is written field by field with these; a struct is never copied out.
 * Growing never fails towards the caller: out of memory aborts (limits.h keeps what can ask for memory bounded). */
#ifndef SYN_UTILS_BUF_H
#define SYN_UTILS_BUF_H

#include "utils/slice.h"

struct buf {
    uint8_t *ptr; /* owned; NULL while cap == 0 */
    size_t len;
    size_t cap;
};

void buf_init(struct buf *b);
void buf_fini(struct buf *b);                  /* frees; b is empty and reusable afterwards */
uint8_t *buf_grow(struct buf *b, size_t n);    /* buf_reserve where there is no room yet */
void buf_append_str(struct buf *b, const char *s);
/* Appends without a terminating zero; the same for its arguments. */
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_consume(struct buf *b, size_t n);     /* drops n <= len bytes from the front (moves the rest) */
void buf_swap(struct buf *a, struct buf *b);

/* Room for n more bytes; returns where they go, len unchanged. */
static inline uint8_t *buf_reserve(struct buf *b, size_t n)
{
    return b->cap - b->len >= n && b->ptr != NULL ? b->ptr + b->len : buf_grow(b, n);
}
/* src must not lie in b: growing may move it. */
static inline void buf_append(struct buf *b, const void *src, size_t n)
{
    if (n > 0) {
        memcpy(buf_reserve(b, n), src, n);
        b->len += n;
    }
}
static inline void buf_clear(struct buf *b) { b->len = 0; }
static inline slice_t buf_slice(const struct buf *b) { return slice_of(b->ptr, b->len); }
static inline void buf_append_slice(struct buf *b, slice_t s) { buf_append(b, s.ptr, s.len); }

static inline void le16_put(uint8_t *p, uint16_t v) { p[0] = (uint8_t)v; p[1] = (uint8_t)(v >> 8); }
static inline void le32_put(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}
static inline void le64_put(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}
static inline uint16_t le16_get(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t le32_get(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t le64_get(const uint8_t *p) { return (uint64_t)le32_get(p) | (uint64_t)le32_get(p + 4) << 32; }

static inline void buf_put_u8(struct buf *b, uint8_t v)
{
    *buf_reserve(b, 1) = v;
    b->len += 1;
}
static inline void buf_put_u16(struct buf *b, uint16_t v)
{
    le16_put(buf_reserve(b, 2), v);
    b->len += 2;
}
static inline void buf_put_u32(struct buf *b, uint32_t v)
{
    le32_put(buf_reserve(b, 4), v);
    b->len += 4;
}
static inline void buf_put_u64(struct buf *b, uint64_t v)
{
    le64_put(buf_reserve(b, 8), v);
    b->len += 8;
}
void buf_put_bytes(struct buf *b, slice_t s); /* u32 length, then the bytes */

/* After the first field that does not fit, ok is false and every later get returns 0 or SLICE_NONE. */
struct reader {
    const uint8_t *p;
    const uint8_t *end;
    bool ok;
};

static inline struct reader reader_of(slice_t s) { return (struct reader){s.ptr, s.ptr ? s.ptr + s.len : s.ptr, true}; }
static inline size_t reader_left(const struct reader *r) { return (size_t)(r->end - r->p); }
static inline bool reader_done(const struct reader *r) { return r->ok && r->p == r->end; }
uint8_t reader_u8(struct reader *r);
uint16_t reader_u16(struct reader *r);
uint32_t reader_u32(struct reader *r);
uint64_t reader_u64(struct reader *r);
slice_t reader_bytes(struct reader *r);             /* u32 length, then that many bytes, borrowed */
slice_t reader_take(struct reader *r, size_t n);    /* exactly n bytes, borrowed */

#endif
