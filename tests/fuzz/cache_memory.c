/* libFuzzer: the cache's memory. The first byte chooses: entries as a log or a peer left them, after which a snapshot must bring an equal memory; such a snapshot
 * with bytes changed; or any bytes as one. What is restored is whole, and what is not is refused. */
#include "nodes/cache/cache_sm.h"
#include "utils/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ENTRIES = 0, CHANGED = 1, KINDS = 3, ENTRY_MAX = 1024 };

static struct cache_sm *memory_new(void)
{
    struct cache_sm_options o = {.hash_key = 5, .memory_bytes = 64 * 1024, .dedup_ms = 1000, .dedup_count = 8};
    return cache_sm_new(&o);
}

/* u16 length, u8 time that passes, the entry; again and again. */
static void apply(struct cache_sm *m, struct reader *r)
{
    struct cache_out out;
    uint64_t index = 0, now_ms = 1;
    cache_out_init(&out);
    while (reader_left(r) >= 3) {
        size_t len = reader_u16(r) % ENTRY_MAX;
        now_ms += reader_u8(r) * 10u;
        len = len < reader_left(r) ? len : reader_left(r);
        slice_t entry = slice_of(r->p, len);
        r->p += len;
        cache_out_clear(&out);
        cache_sm_apply(m, ++index, now_ms, entry, &out);
        for (uint32_t i = 0; i < out.n_results; i++) {
            syn_assert(out.results[i].reply_off + out.results[i].reply_len <= out.replies.len);
        }
    }
    cache_out_fini(&out);
    cache_sm_check(m);
}

static void save(struct cache_sm *m, struct buf *out)
{
    cache_sm_snapshot_begin(m);
    while (!cache_sm_snapshot_step(m, 64, out)) {
    }
}

static bool restore(struct cache_sm *m, slice_t from)
{
    bool ok = true;
    for (size_t at = 0; ok && at < from.len; at += 61) {
        ok = cache_sm_restore_piece(m, slice_of(from.ptr + at, from.len - at < 61 ? from.len - at : 61));
    }
    ok = ok && cache_sm_restore_end(m);
    if (ok) {
        cache_sm_check(m);
    }
    return ok;
}

/* u16 place, u8 bits; again and again, until the entries begin. */
static void change(struct buf *b, struct reader *r)
{
    for (uint8_t n = reader_u8(r) % 16; n > 0 && b->len > 0; n--) {
        size_t at = reader_u16(r);
        b->ptr[at % b->len] ^= reader_u8(r);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    struct reader r = reader_of(slice_of(data + 1, size - 1));
    struct cache_sm *one = memory_new(), *two = memory_new();
    struct buf bytes = {0};
    if (data[0] % KINDS == ENTRIES || data[0] % KINDS == CHANGED) {
        struct reader entries = r;
        if (data[0] % KINDS == CHANGED) {
            entries.p += reader_left(&r) < 64 ? reader_left(&r) : 64;
        }
        apply(one, &entries);
        save(one, &bytes);
        if (data[0] % KINDS == CHANGED) {
            change(&bytes, &r);
        }
    } else {
        buf_append(&bytes, r.p, reader_left(&r));
    }
    bool whole = restore(two, buf_slice(&bytes));
    syn_assert(data[0] % KINDS != ENTRIES || (whole && cache_sm_digest(one) == cache_sm_digest(two)));
    buf_fini(&bytes);
    cache_sm_free(one);
    cache_sm_free(two);
    return 0;
}
