/* Writing RESP3; see resp.h. Small integers, the common case on the lock path, are formatted without printf. */
#include "communication/resp.h"

#include "utils/assert.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum { ERROR_FIRST_BYTES = 256, HEAD_BYTES_MAX = 24 };

static size_t digits_at(uint8_t *p, uint64_t v)
{
    size_t n = 1;
    for (uint64_t left = v; left >= 10; left /= 10) {
        n++;
    }
    for (size_t i = n; i > 0; v /= 10) {
        p[--i] = (uint8_t)('0' + v % 10);
    }
    return n;
}

/* A type and a number with its CRLF, in a reserve of HEAD_BYTES_MAX. */
static size_t head_at(uint8_t *p, char type, uint64_t n)
{
    p[0] = (uint8_t)type;
    size_t at = 1 + digits_at(p + 1, n);
    p[at] = '\r';
    p[at + 1] = '\n';
    return at + 2;
}

static void put_crlf(struct buf *out)
{
    buf_append(out, "\r\n", 2);
}

static void put_head(struct buf *out, char type, uint64_t n)
{
    out->len += head_at(buf_reserve(out, HEAD_BYTES_MAX), type, n);
}

/* What a line may not hold would end it, and begin a reply that nobody gave. */
static void end_line(struct buf *out, size_t from)
{
    for (size_t i = from; i < out->len; i++) {
        if (out->ptr[i] == '\r' || out->ptr[i] == '\n') {
            out->ptr[i] = ' ';
        }
    }
    put_crlf(out);
}

void resp_put_line(struct buf *out, char type, slice_t text)
{
    syn_assert(type == '+' || type == '-');
    buf_put_u8(out, (uint8_t)type);
    size_t from = out->len;
    buf_append_slice(out, text);
    end_line(out, from);
}

void resp_simple(struct buf *out, const char *s)
{
    resp_put_line(out, '+', slice_str(s));
}

void resp_error(struct buf *out, const char *word, const char *fmt, ...)
{
    syn_assert(word != NULL && fmt != NULL);
    buf_put_u8(out, '-');
    buf_append_str(out, word);
    buf_put_u8(out, ' ');
    size_t from = out->len;
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf((char *)buf_reserve(out, ERROR_FIRST_BYTES), ERROR_FIRST_BYTES, fmt, ap);
    va_end(ap);
    if (n >= ERROR_FIRST_BYTES) {
        vsnprintf((char *)buf_reserve(out, (size_t)n + 1), (size_t)n + 1, fmt, again);
    }
    va_end(again);
    out->len += n > 0 ? (size_t)n : 0;
    while (out->len > from && (out->ptr[out->len - 1] == '\r' || out->ptr[out->len - 1] == '\n')) {
        out->len--; /* as Redis does */
    }
    end_line(out, from);
}

void resp_int(struct buf *out, int64_t v)
{
    if (v < 0) {
        buf_append(out, ":-", 2);
        out->len += digits_at(buf_reserve(out, HEAD_BYTES_MAX), 0 - (uint64_t)v);
        put_crlf(out);
    } else {
        put_head(out, ':', (uint64_t)v);
    }
}

void resp_u64(struct buf *out, uint64_t v)
{
    if (v <= INT64_MAX) {
        resp_int(out, (int64_t)v);
        return;
    }
    char text[24];
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)v);
    resp_bulk(out, slice_of(text, (size_t)n));
}

void resp_bulk(struct buf *out, slice_t s)
{
    uint8_t *p = buf_reserve(out, HEAD_BYTES_MAX + s.len + 2);
    size_t at = head_at(p, '$', s.len);
    if (s.len > 0) {
        memcpy(p + at, s.ptr, s.len);
    }
    memcpy(p + at + s.len, "\r\n", 2);
    out->len += at + s.len + 2;
}

void resp_bulk_str(struct buf *out, const char *s)
{
    resp_bulk(out, slice_str(s));
}

void resp_null(struct buf *out)
{
    buf_append(out, "_\r\n", 3);
}

void resp_bool(struct buf *out, bool v)
{
    buf_append(out, v ? "#t\r\n" : "#f\r\n", 4);
}

void resp_double(struct buf *out, double v)
{
    if (isnan(v) || isinf(v)) {
        buf_append_str(out, isnan(v) ? ",nan\r\n" : v > 0 ? ",inf\r\n" : ",-inf\r\n");
        return;
    }
    buf_printf(out, ",%.17g\r\n", v);
}

void resp_array(struct buf *out, uint32_t n)
{
    put_head(out, '*', n);
}

void resp_map(struct buf *out, uint32_t n)
{
    put_head(out, '%', n);
}

void resp_set(struct buf *out, uint32_t n)
{
    put_head(out, '~', n);
}

void resp_push(struct buf *out, uint32_t n)
{
    put_head(out, '>', n);
}

void resp_verbatim(struct buf *out, const char *format3, slice_t s)
{
    put_head(out, '=', s.len + 4);
    buf_append(out, format3, 3);
    buf_put_u8(out, ':');
    buf_append_slice(out, s);
    put_crlf(out);
}
