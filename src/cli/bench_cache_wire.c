/* Templates, as in bench_wire.c: no allocation per operation, no parsing of what is not needed. The law of Zipf is drawn from a table of sums, by bisection:
 * 8 bytes a key, and no power is computed while the clock runs. */
#include "cli/bench_cache_wire.h"

#include "cli/resp_client.h"
#include "communication/resp.h"
#include "utils/assert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { DIGITS = 9 };

void zipf_init(struct zipf *z, uint32_t n, double exponent)
{
    syn_assert(n > 0 && exponent >= 0);
    *z = (struct zipf){.n = n};
    if (exponent == 0) {
        return;
    }
    double sum = 0;
    z->sums = calloc(n, sizeof *z->sums);
    syn_assert(z->sums != NULL);
    for (uint32_t i = 0; i < n; i++) {
        z->sums[i] = sum += pow(i + 1.0, -exponent);
    }
}

void zipf_fini(struct zipf *z)
{
    free(z->sums);
}

uint32_t zipf_draw(const struct zipf *z, struct prng *g)
{
    if (z->sums == NULL) {
        return (uint32_t)prng_below(g, z->n);
    }
    double at = (double)(prng_u64(g) >> 11) * 0x1p-53 * z->sums[z->n - 1];
    uint32_t low = 0, high = z->n - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (z->sums[middle] <= at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void cache_wire_init(struct cache_wire *w, const char *prefix, uint32_t bytes)
{
    size_t len = strlen(prefix);
    syn_assert(len <= CACHE_PREFIX_MAX);
    *w = (struct cache_wire){0};
    snprintf(w->get_head, sizeof w->get_head, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s:", len + 1 + DIGITS, prefix);
    snprintf(w->set_head, sizeof w->set_head, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s:", len + 1 + DIGITS, prefix);
    buf_printf(&w->set_tail, "\r\n$%u\r\n", bytes);
    memset(buf_reserve(&w->set_tail, bytes), 'x', bytes);
    w->set_tail.len += bytes;
    buf_append_str(&w->set_tail, "\r\n");
}

void cache_wire_fini(struct cache_wire *w)
{
    buf_fini(&w->set_tail);
}

static void put_key(struct buf *out, uint32_t key)
{
    uint8_t *digits = buf_reserve(out, DIGITS);
    for (int i = DIGITS - 1; i >= 0; i--) {
        digits[i] = (uint8_t)('0' + key % 10);
        key /= 10;
    }
    out->len += DIGITS;
}

void cache_wire_get(const struct cache_wire *w, struct buf *out, uint32_t key)
{
    buf_append_str(out, w->get_head);
    put_key(out, key);
    buf_append(out, "\r\n", 2);
}

void cache_wire_set(const struct cache_wire *w, struct buf *out, uint32_t key)
{
    buf_append_str(out, w->set_head);
    put_key(out, key);
    buf_append_slice(out, buf_slice(&w->set_tail));
}

enum cache_answer cache_wire_reply(slice_t in, bool set, size_t *used, slice_t *what)
{
    size_t n = resp_reply_size(in);
    if (n == 0 || n == SIZE_MAX) {
        return n == 0 ? CACHE_MORE : CACHE_BAD;
    }
    *used = n;
    switch (in.ptr[0]) {
    case '-': *what = resp_error_word(slice_of(in.ptr, n)); return CACHE_REFUSED;
    case '+': return set ? CACHE_DONE : CACHE_BAD;
    case '_': return set ? CACHE_BAD : CACHE_ABSENT;
    case '$': return set ? CACHE_BAD : in.ptr[1] == '-' ? CACHE_ABSENT : CACHE_DONE;
    default: return CACHE_BAD;
    }
}
