/* The bytes of a benchmark: commands from templates, replies by the shortest look that tells what they are. */
#ifndef SYN_CLI_BENCH_WIRE_H
#define SYN_CLI_BENCH_WIRE_H

#include "utils/slice.h"

enum { WIRE_COMMAND_MAX = 192, WIRE_NAME_BYTES = 21, WIRE_ID_MAX = 24, WIRE_LANES_MAX = 9999999 };

struct bench_wire {
    bool redis;
    char run[5]; /* part of every name: an earlier run's leftovers are other locks */
    char acquire_head[96], acquire_tail[96], release_head[48];
    uint32_t acquire_head_len, acquire_tail_len, release_head_len;
};

/* redis: SET name 1 NX PX ttl and DEL name; else LOCK.ACQUIRE name EXCLUSIVE TTL ttl and LOCK.RELEASE name id. */
void wire_init(struct bench_wire *w, bool redis, uint64_t ttl_ms, const char run[5]);

/* Write one command for the round-th lock of a lane; return its bytes, at most WIRE_COMMAND_MAX. */
size_t wire_acquire(const struct bench_wire *w, uint8_t *out, uint32_t lane, uint32_t round);
size_t wire_release(const struct bench_wire *w, uint8_t *out, uint32_t lane, uint32_t round, slice_t lock_id);

enum wire_answer { WIRE_MORE, WIRE_DONE, WIRE_REFUSED, WIRE_BAD };
/* Looks at the reply at the start of in. WIRE_DONE: *what is the lock_id of a grant (empty for redis and releases). WIRE_REFUSED:
 * *what is the error's first word, or "NIL" / "ZERO" when redis did not do it. WIRE_BAD: not RESP, or a grant without lock_id. */
enum wire_answer wire_reply(const struct bench_wire *w, slice_t in, bool acquire, size_t *used, slice_t *what);

#endif
