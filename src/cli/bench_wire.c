/* Templates and the quick look at replies. No allocation, no parsing of what is not needed: the generator's own processor time
 * must stay small beside the server's, since both share the machine. */
#include "cli/bench_wire.h"

#include "communication/resp.h"
#include "utils/assert.h"

#include <inttypes.h>
#include <stdio.h>

void wire_init(struct bench_wire *w, bool redis, uint64_t ttl_ms, const char run[5])
{
    char ttl[24];
    int ttl_len = snprintf(ttl, sizeof ttl, "%" PRIu64, ttl_ms);
    *w = (struct bench_wire){.redis = redis};
    memcpy(w->run, run, 5);
    const char *head = redis ? "*6\r\n$3\r\nSET\r\n$21\r\n" : "*5\r\n$12\r\nLOCK.ACQUIRE\r\n$21\r\n";
    const char *release = redis ? "*2\r\n$3\r\nDEL\r\n$21\r\n" : "*3\r\n$12\r\nLOCK.RELEASE\r\n$21\r\n";
    const char *tail = redis ? "\r\n$1\r\n1\r\n$2\r\nNX\r\n$2\r\nPX" : "\r\n$9\r\nEXCLUSIVE\r\n$3\r\nTTL";
    w->acquire_head_len = (uint32_t)snprintf(w->acquire_head, sizeof w->acquire_head, "%s", head);
    w->acquire_tail_len = (uint32_t)snprintf(w->acquire_tail, sizeof w->acquire_tail, "%s\r\n$%d\r\n%s\r\n", tail, ttl_len, ttl);
    w->release_head_len = (uint32_t)snprintf(w->release_head, sizeof w->release_head, "%s", release);
}

static void put_digits(uint8_t *out, uint32_t v)
{
    for (int i = 6; i >= 0; i--) {
        out[i] = (uint8_t)('0' + v % 10);
        v /= 10;
    }
}

/* b<run>:<lane>:<round>: of one length, so that every command is */
static size_t put_name(const struct bench_wire *w, uint8_t *out, uint32_t lane, uint32_t round)
{
    out[0] = 'b';
    memcpy(out + 1, w->run, 4);
    out[5] = ':';
    put_digits(out + 6, lane);
    out[13] = ':';
    put_digits(out + 14, round);
    return WIRE_NAME_BYTES;
}

size_t wire_acquire(const struct bench_wire *w, uint8_t *out, uint32_t lane, uint32_t round)
{
    size_t n = w->acquire_head_len;
    memcpy(out, w->acquire_head, n);
    n += put_name(w, out + n, lane, round);
    memcpy(out + n, w->acquire_tail, w->acquire_tail_len);
    return n + w->acquire_tail_len;
}

size_t wire_release(const struct bench_wire *w, uint8_t *out, uint32_t lane, uint32_t round, slice_t lock_id)
{
    size_t n = w->release_head_len;
    memcpy(out, w->release_head, n);
    n += put_name(w, out + n, lane, round);
    out[n++] = '\r';
    out[n++] = '\n';
    if (!w->redis) {
        syn_assert(lock_id.len > 0 && lock_id.len <= WIRE_ID_MAX);
        out[n++] = '$';
        if (lock_id.len >= 10) {
            out[n++] = (uint8_t)('0' + lock_id.len / 10);
        }
        out[n++] = (uint8_t)('0' + lock_id.len % 10);
        out[n++] = '\r';
        out[n++] = '\n';
        memcpy(out + n, lock_id.ptr, lock_id.len);
        n += lock_id.len;
        out[n++] = '\r';
        out[n++] = '\n';
    }
    return n;
}

/* The digits of the value after the key lock_id, as an integer or a bulk string. */
static bool find_lock_id(slice_t reply, slice_t *id)
{
    const uint8_t *end = reply.ptr + reply.len, *p = memmem(reply.ptr, reply.len, "\r\nlock_id\r\n", 11);
    if (p == NULL || p + 11 >= end) {
        return false;
    }
    p += 11;
    if (*p == '$') {
        p = memchr(p, '\n', (size_t)(end - p));
    }
    if (p == NULL || ++p >= end) {
        return false;
    }
    const uint8_t *stop = memchr(p, '\r', (size_t)(end - p));
    *id = slice_of(p, stop != NULL ? (size_t)(stop - p) : 0);
    return id->len > 0 && id->len <= WIRE_ID_MAX;
}

static slice_t first_word(slice_t line)
{
    size_t n = 0;
    while (n < line.len && line.ptr[n] != ' ' && line.ptr[n] != '\r') {
        n++;
    }
    return slice_of(line.ptr, n);
}

enum wire_answer wire_reply(const struct bench_wire *w, slice_t in, bool acquire, size_t *used, slice_t *what)
{
    size_t n = resp_reply_size(in);
    if (n == 0) {
        return WIRE_MORE;
    }
    if (n == SIZE_MAX) {
        return WIRE_BAD;
    }
    *used = n;
    *what = SLICE_NONE;
    slice_t reply = slice_of(in.ptr, n);
    switch (in.ptr[0]) {
    case '-':
        *what = first_word(slice_of(in.ptr + 1, n - 1));
        return WIRE_REFUSED;
    case '$':
    case '_':
        *what = SLICE_LIT("NIL");
        return WIRE_REFUSED;
    case ':':
        *what = SLICE_LIT("ZERO");
        return acquire && !w->redis ? WIRE_BAD : in.ptr[1] == '0' ? WIRE_REFUSED : WIRE_DONE;
    case '+':
        return w->redis ? WIRE_DONE : WIRE_BAD;
    default:
        return acquire && !w->redis && find_lock_id(reply, what) ? WIRE_DONE : WIRE_BAD;
    }
}
