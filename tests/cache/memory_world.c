/* Two memories and the entries they are told; see memory_world.h. */
#include "memory_world.h"

#include <stdio.h>
#include <stdlib.h>

struct memory_world mem;

struct cache_sm *mem_new(uint64_t hash_key, uint64_t memory_bytes)
{
    return cache_sm_new(&(struct cache_sm_options){.hash_key = hash_key, .memory_bytes = memory_bytes, .dedup_ms = 1000, .dedup_count = 100});
}

int mem_begin(void **state)
{
    (void)state;
    mem = (struct memory_world){.now_ms = 1000};
    for (int i = 0; i < 2; i++) {
        mem.sm[i] = mem_new(7 + (uint64_t)i, 0);
        cache_out_init(&mem.out[i]);
    }
    return 0;
}

void mem_forget_log(void)
{
    for (size_t i = 0; i < mem.n_since; i++) {
        buf_fini(&mem.since[i].entry);
    }
    mem.n_since = 0;
}

int mem_end(void **state)
{
    (void)state;
    mem_forget_log();
    free(mem.since);
    for (int i = 0; i < 2; i++) {
        cache_sm_check(mem.sm[i]);
        cache_sm_free(mem.sm[i]);
        cache_out_fini(&mem.out[i]);
    }
    buf_fini(&mem.entry);
    return 0;
}

slice_t mem_key(uint32_t k)
{
    static char names[4][64];
    static int turn;
    char *name = names[turn++ % 4];
    int n = snprintf(name, sizeof names[0], k % 3 ? "key:%u" : "a-key-of-a-rather-long-name:%u", k);
    return slice_of(name, (size_t)n);
}

static void assert_same_out(void)
{
    assert_int_equal(mem.out[0].n_results, mem.out[1].n_results);
    assert_int_equal(mem.out[0].n_touched, mem.out[1].n_touched);
    assert_true(slice_eq(buf_slice(&mem.out[0].replies), buf_slice(&mem.out[1].replies)));
    for (uint32_t i = 0; i < mem.out[0].n_touched; i++) {
        assert_true(slice_eq(mem.out[0].touched[i].key, mem.out[1].touched[i].key));
        assert_true(mem.out[0].touched[i].version == mem.out[1].touched[i].version && mem.out[0].touched[i].exists == mem.out[1].touched[i].exists);
    }
}

void mem_apply(void)
{
    mem.index += 1 + prng_below(&mem.g, 2);
    for (int i = 0; i < 2; i++) {
        cache_out_clear(&mem.out[i]);
        cache_sm_apply(mem.sm[i], mem.index, mem.now_ms, buf_slice(&mem.entry), &mem.out[i]);
    }
    assert_same_out();
    assert_true(cache_sm_digest(mem.sm[0]) == cache_sm_digest(mem.sm[1]));
    if (mem.logging) {
        mem.since = realloc(mem.since, (mem.n_since + 1) * sizeof *mem.since);
        mem.since[mem.n_since] = (struct mem_applied){.index = mem.index, .now_ms = mem.now_ms};
        buf_append_slice(&mem.since[mem.n_since++].entry, buf_slice(&mem.entry));
    }
}

/* The at-th reply of the only result. */
struct mem_reply mem_reply(uint32_t at)
{
    assert_int_equal(mem.out[0].n_results, 1);
    struct reader r = reader_of(slice_of(mem.out[0].replies.ptr + mem.out[0].results[0].reply_off, mem.out[0].results[0].reply_len));
    struct mem_reply x = {0};
    uint32_t n = reader_u32(&r);
    assert_true(at < n);
    for (uint32_t i = 0; i < n; i++) {
        slice_t resp = reader_bytes(&r);
        uint64_t before = reader_u64(&r), version = reader_u64(&r);
        bool exists = reader_u8(&r) != 0;
        x = i == at ? (struct mem_reply){resp, before, version, exists} : x;
    }
    assert_true(reader_done(&r));
    return x;
}

void mem_assert_reply(const char *resp)
{
    struct mem_reply x = mem_reply(0);
    if (!slice_eq(x.resp, slice_str(resp))) {
        fail_msg("answered %.*s instead of %s", (int)x.resp.len, (const char *)x.resp.ptr, resp);
    }
}

static struct request_id next_request(void)
{
    return (struct request_id){5, ++mem.seq};
}

void mem_put_head(enum cache_entry_kind kind)
{
    buf_clear(&mem.entry);
    cache_put_head(&mem.entry, kind, next_request(), mem.seq > 20 ? mem.seq - 20 : 0);
}

void mem_put_op(slice_t key, enum fake_kind kind, uint64_t number, slice_t bytes)
{
    struct buf op = {0};
    fake_op(&op, kind, number, bytes);
    cache_put_op(&mem.entry, key, buf_slice(&op));
    buf_fini(&op);
}

void mem_run_op(slice_t key, enum fake_kind kind, uint64_t number, const char *bytes)
{
    mem_put_batch(1);
    mem_put_op(key, kind, number, slice_str(bytes));
    mem_apply();
}

void mem_put_batch(uint32_t n)
{
    mem_put_head(CACHE_ENTRY_BATCH);
    buf_put_u64(&mem.entry, mem.now_ms);
    buf_put_u32(&mem.entry, n);
}

void mem_put_multi(enum cache_multi kind, uint32_t n)
{
    mem_put_head(CACHE_ENTRY_ATOMIC);
    buf_put_u8(&mem.entry, (uint8_t)kind);
    buf_put_u64(&mem.entry, 0);
    buf_put_u32(&mem.entry, n);
}

void mem_due(uint64_t until_ms)
{
    buf_clear(&mem.entry);
    cache_put_head(&mem.entry, CACHE_ENTRY_DUE, (struct request_id){0}, 0);
    buf_put_u64(&mem.entry, until_ms);
    mem_apply();
}
