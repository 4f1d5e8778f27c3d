/* libFuzzer: ops of the cache as they come from a peer or a disk. What cache_op_valid takes can be run on any item: on none, on one with a number, on one with
 * bytes, and leaves one whole reply and a change that fits it. The same run again is the same. */
#include "communication/resp.h"
#include "nodes/cache/cache_ops.h"
#include "utils/assert.h"
#include "utils/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct cache_item items[] = {
    {.exists = false},
    {.exists = true, .value = {(const uint8_t *)"-17.5", 3}, .expire_ms = 2000},
    {.exists = true, .value = {(const uint8_t *)"1e17", 4}, .expire_ms = 500},
    {.exists = true, .value = {(const uint8_t *)"\xff\x00zz", 4}, .guard = {(const uint8_t *)"l", 1}, .token = 9},
    {.exists = true, .value = {(const uint8_t *)"", 0}},
};

static void run(slice_t op, const struct cache_item *item)
{
    const struct cache_clock clock = {1000, 5000};
    struct cache_change one = {0}, two = {0};
    struct buf reply = {0}, again = {0};
    cache_op_run(op, item, clock, &one, &reply);
    cache_op_run(op, item, clock, &two, &again);
    syn_assert(resp_reply_size(buf_slice(&reply)) == reply.len && slice_eq(buf_slice(&reply), buf_slice(&again)));
    syn_assert(one.kind == two.kind && one.expire_ms == two.expire_ms && slice_eq(buf_slice(&one.value), buf_slice(&two.value)));
    syn_assert(one.value.len <= LIMIT_VALUE_BYTES && (one.kind == CACHE_PUT || one.value.len == 0));
    syn_assert(!cache_op_overwrites(op) || (one.kind == CACHE_PUT && !one.guarded));
    syn_assert(one.expire_ms == 0 || one.expire_ms > clock.now_ms);
    buf_fini(&one.value);
    buf_fini(&two.value);
    buf_fini(&reply);
    buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    slice_t op = slice_of(data, size);
    bool overwrites = cache_op_overwrites(op);
    if (!cache_op_valid(op)) {
        syn_assert(!overwrites);
        return 0;
    }
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) {
        run(op, &items[i]);
    }
    return 0;
}
