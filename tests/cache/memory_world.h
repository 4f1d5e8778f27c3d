/* Two memories with different tables that are told the same, for the tests of cache_sm. Everything asserts: replies, touched keys and digests are equal.
 *
 * One world per program: `mem`. An entry is put together in mem.entry, applied by mem_apply, and its only result looked at with mem_reply. */
#ifndef TESTS_CACHE_MEMORY_WORLD_H
#define TESTS_CACHE_MEMORY_WORLD_H

#include "fake_ops.h"
#include "nodes/cache/cache_sm.h"
#include "utils/prng.h"

#include "../utils/test.h"

struct mem_applied { uint64_t index, now_ms; struct buf entry; };
struct memory_world {
    struct prng g;
    struct cache_sm *sm[2];
    struct cache_out out[2];
    uint64_t index, now_ms, seq;
    struct buf entry;
    bool logging;
    struct mem_applied *since; /* what was applied since logging became true */
    size_t n_since;
};
extern struct memory_world mem;

struct mem_reply { slice_t resp; uint64_t before, version; bool exists; };

int mem_begin(void **state);  /* cmocka set-up and teardown */
int mem_end(void **state);
struct cache_sm *mem_new(uint64_t hash_key, uint64_t memory_bytes);
void mem_forget_log(void);
slice_t mem_key(uint32_t k);  /* good until the fourth call after this one */
void mem_apply(void);
struct mem_reply mem_reply(uint32_t at);
void mem_assert_reply(const char *resp);
/* Begin mem.entry anew. */
void mem_put_head(enum cache_entry_kind kind);
void mem_put_batch(uint32_t n);
void mem_put_multi(enum cache_multi kind, uint32_t n);
void mem_put_op(slice_t key, enum fake_kind kind, uint64_t number, slice_t bytes); /* of a batch or multi */
void mem_run_op(slice_t key, enum fake_kind kind, uint64_t number, const char *bytes); /* one op as an entry of its own */
void mem_due(uint64_t until_ms);

#endif
