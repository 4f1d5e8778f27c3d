/* A stand-in for cache_ops.h with the fewest ops that do everything memory can be asked for, so that a naive model can follow them:
 * u8 kind, u64 time or token, then bytes. */
#ifndef TESTS_CACHE_FAKE_OPS_H
#define TESTS_CACHE_FAKE_OPS_H

#include "nodes/cache/cache_ops.h"

enum fake_kind {
    FAKE_GET = 1,
    FAKE_SET,     /* value, expires at `number`, 0: never */
    FAKE_APPEND,  /* value, keeps the expiry */
    FAKE_DEL,
    FAKE_EXPIRE,  /* at `number`, 0: never */
    FAKE_FENCED,  /* sets the value, under the guard "lock" with token `number`; refused below the newest token */
    FAKE_MAX
};
void fake_op(struct buf *out, enum fake_kind kind, uint64_t number, slice_t bytes);

#endif
