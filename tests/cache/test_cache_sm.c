/* Memory behind the cache against a naive model, on replicas whose tables differ; test_cache_sm_cases.c has what the model does not reach.
 *
 * The model is told of every entry and says what each key then has. A second replica with another hash key applies the same, and is now and then replaced by one
 * restored from a snapshot that was taken in slices while entries went on (MC8, R5, R15, K12). */
#include "memory_world.h"

#include <stdio.h>
#include <stdlib.h>

enum { KEYS = 400, VALUE_MAX = 200, STEPS = 60000, SEEDS = 3 };

struct model_key { bool exists, guarded; uint32_t len; uint8_t value[2 * VALUE_MAX]; uint64_t expire_ms, token, version; };

static struct model_key model[KEYS];
static struct buf saved; /* of the snapshot that is under way; what is applied since it was begun is logged */
static uint64_t saved_digest;

static int begin(void **state)
{
    memset(model, 0, sizeof model);
    return mem_begin(state);
}

static int end(void **state)
{
    buf_fini(&saved);
    return mem_end(state);
}

static bool model_lives(const struct model_key *x)
{
    return x->exists && (x->expire_ms == 0 || x->expire_ms > mem.now_ms);
}

static void model_delete(struct model_key *x, uint64_t version)
{
    x->exists = false;
    x->len = 0;
    x->expire_ms = 0;
    x->version = version;
}

static void assert_model_key(uint32_t k, const struct cache_sm *m)
{
    struct cache_item it;
    uint64_t version;
    const struct model_key *x = &model[k];
    cache_sm_get((struct cache_sm *)m, mem_key(k), mem.now_ms, &it, &version);
    assert_true(it.exists == model_lives(x));
    assert_true(version == x->version);
    assert_true(slice_eq(it.value, slice_of(x->value, model_lives(x) ? x->len : 0)));
    assert_true(it.expire_ms == (model_lives(x) ? x->expire_ms : 0));
    assert_true((it.guard.len > 0) == x->guarded && it.token == x->token);
}

static void assert_model(void)
{
    uint64_t first_due = UINT64_MAX, keys = 0;
    for (uint32_t k = 0; k < KEYS; k++) {
        assert_model_key(k, mem.sm[0]);
        assert_model_key(k, mem.sm[1]);
        keys += model[k].exists;
        first_due = model[k].exists && model[k].expire_ms != 0 && model[k].expire_ms < first_due ? model[k].expire_ms : first_due;
    }
    struct cache_sm_stats s;
    cache_sm_stats(mem.sm[0], &s);
    assert_int_equal(s.keys, keys);
    assert_true(cache_sm_next_due_ms(mem.sm[0]) == first_due);
    cache_sm_check(mem.sm[0]);
    cache_sm_check(mem.sm[1]);
}

struct model_op { uint32_t key; enum fake_kind kind; uint64_t number; uint32_t len; uint8_t bytes[VALUE_MAX]; };

static void model_run(const struct model_op *o, uint64_t index)
{
    struct model_key *x = &model[o->key];
    switch (o->kind) {
    case FAKE_FENCED:
        if (o->number < x->token) {
            return;
        }
        x->guarded = true;
        x->token = o->number;
        x->expire_ms = 0;
        break;
    case FAKE_SET: x->expire_ms = o->number; break;
    case FAKE_APPEND:
        if (model_lives(x)) {
            memcpy(x->value + x->len, o->bytes, o->len);
            x->len += o->len;
            x->version = index;
            return;
        }
        x->expire_ms = 0;
        break;
    case FAKE_DEL:
        if (model_lives(x)) {
            model_delete(x, index);
        }
        return;
    case FAKE_EXPIRE:
        if (model_lives(x)) {
            x->expire_ms = o->number;
            x->version = index;
        }
        return;
    default: return;
    }
    memcpy(x->value, o->bytes, o->len);
    x->len = o->len;
    x->exists = true;
    x->version = index;
}

static uint64_t random_expiry(void)
{
    return prng_below(&mem.g, 3) ? 0 : mem.now_ms + 1 + prng_below(&mem.g, prng_below(&mem.g, 2) ? 5 : 300);
}

static void random_op(struct model_op *o)
{
    o->key = (uint32_t)prng_below(&mem.g, KEYS);
    o->kind = (enum fake_kind)prng_range(&mem.g, 1, FAKE_MAX - 1);
    o->kind = o->kind == FAKE_APPEND && model[o->key].len > VALUE_MAX ? FAKE_SET : o->kind;
    o->number = o->kind == FAKE_FENCED ? prng_below(&mem.g, 1000) : random_expiry();
    o->len = (uint32_t)prng_below(&mem.g, prng_below(&mem.g, 4) ? 24 : VALUE_MAX / 8);
    for (uint32_t i = 0; i < o->len; i++) {
        o->bytes[i] = (uint8_t)prng_u64(&mem.g);
    }
}

static void step_batch(void)
{
    struct model_op ops[6];
    uint32_t n = (uint32_t)prng_range(&mem.g, 1, 6);
    mem_put_batch(n);
    for (uint32_t i = 0; i < n; i++) {
        random_op(&ops[i]);
        mem_put_op(mem_key(ops[i].key), ops[i].kind, ops[i].number, slice_of(ops[i].bytes, ops[i].len));
    }
    mem_apply();
    for (uint32_t i = 0; i < n; i++) {
        struct mem_reply x = mem_reply(i);
        assert_true(x.before == model[ops[i].key].version);
        model_run(&ops[i], mem.index);
        assert_true(x.version == model[ops[i].key].version && x.exists == model_lives(&model[ops[i].key]));
    }
}

static void step_flush(void)
{
    uint32_t k = (uint32_t)prng_below(&mem.g, KEYS);
    struct model_key *x = &model[k];
    bool late = prng_below(&mem.g, 3) == 0 && x->version > 0;
    uint64_t base = late ? prng_below(&mem.g, x->version) : x->version;
    struct cache_item it = {.exists = prng_below(&mem.g, 4) != 0, .guard = x->guarded ? SLICE_LIT("lock") : SLICE_NONE, .token = x->token};
    it.value = it.exists ? SLICE_LIT("flushed value") : SLICE_NONE;
    it.expire_ms = it.exists ? random_expiry() : 0;
    mem_put_head(CACHE_ENTRY_FLUSH);
    buf_put_bytes(&mem.entry, mem_key(k));
    buf_put_u64(&mem.entry, base);
    cache_put_item(&mem.entry, &it);
    mem_apply();
    assert_true(mem_reply(0).version == (late ? 0 : mem.index));
    if (!late) {
        model_delete(x, mem.index);
        x->exists = it.exists;
        x->expire_ms = it.expire_ms;
        x->len = (uint32_t)it.value.len;
        memcpy(x->value, "flushed value", it.value.len);
    }
}

static void step_fence(void)
{
    uint32_t k = (uint32_t)prng_below(&mem.g, KEYS);
    mem_put_head(CACHE_ENTRY_FENCE);
    buf_put_bytes(&mem.entry, mem_key(k));
    mem_apply();
    assert_true(mem_reply(0).before == model[k].version && mem_reply(0).version == mem.index);
    model[k].version = mem.index;
}

static void step_due(void)
{
    mem_due(mem.now_ms + prng_below(&mem.g, 100));
    for (uint32_t k = 0; k < KEYS; k++) {
        if (model[k].exists && !model_lives(&model[k])) {
            model_delete(&model[k], model[k].version);
        }
    }
}

static void step_clear(void)
{
    mem_put_head(CACHE_ENTRY_CLEAR);
    mem_apply();
    for (uint32_t k = 0; k < KEYS; k++) {
        model[k] = (struct model_key){.version = mem.index};
    }
}

static void model_move(struct model_key *to, const struct model_key *from)
{
    to->exists = true;
    to->len = from->len;
    memcpy(to->value, from->value, from->len);
    to->expire_ms = from->expire_ms;
    to->version = mem.index;
}

static void step_move(void)
{
    uint32_t a = (uint32_t)prng_below(&mem.g, KEYS), b = (uint32_t)prng_below(&mem.g, KEYS);
    enum cache_multi kind = (enum cache_multi)prng_range(&mem.g, CACHE_MULTI_RENAME, CACHE_MULTI_COPY_REPLACE);
    bool copies = kind == CACHE_MULTI_COPY || kind == CACHE_MULTI_COPY_REPLACE, careful = kind == CACHE_MULTI_RENAMENX || kind == CACHE_MULTI_COPY;
    struct model_key *from = &model[a], *to = &model[b];
    mem_put_multi(kind, 2);
    cache_put_op(&mem.entry, mem_key(a), SLICE_NONE);
    cache_put_op(&mem.entry, mem_key(b), SLICE_NONE);
    mem_apply();
    if (copies && a == b) {
        mem_assert_reply("-ERR source and destination objects are the same\r\n");
    } else if (!model_lives(from)) {
        mem_assert_reply(copies ? ":0\r\n" : "-ERR no such key\r\n");
    } else if (careful && model_lives(to)) {
        mem_assert_reply(":0\r\n");
    } else {
        mem_assert_reply(kind == CACHE_MULTI_RENAME ? "+OK\r\n" : ":1\r\n");
        if (a != b) {
            model_move(to, from);
        }
        if (a != b && !copies) {
            model_delete(from, mem.index);
        }
    }
}

static void step_msetnx(void)
{
    struct model_op ops[2];
    bool free_keys = true;
    mem_put_multi(CACHE_MULTI_MSETNX, 2);
    for (int i = 0; i < 2; i++) {
        random_op(&ops[i]);
        ops[i].kind = FAKE_SET;
        ops[i].number = 0;
        free_keys = free_keys && !model_lives(&model[ops[i].key]);
        mem_put_op(mem_key(ops[i].key), FAKE_SET, 0, slice_of(ops[i].bytes, ops[i].len));
    }
    mem_apply();
    mem_assert_reply(free_keys ? ":1\r\n" : ":0\r\n");
    for (int i = 0; i < 2 && free_keys; i++) {
        model_run(&ops[i], mem.index);
    }
}

/* A valid entry cut anywhere is none. */
static void step_damage(void)
{
    step_batch();
    mem.entry.len = prng_below(&mem.g, mem.entry.len);
    mem_apply();
    assert_int_equal(mem.out[0].n_results + mem.out[0].n_touched, 0);
}

/* The same request again: the same reply, and nothing changes. */
static void step_again(void)
{
    step_batch();
    struct buf before = {0};
    buf_append_slice(&before, buf_slice(&mem.out[0].replies));
    mem_apply();
    assert_true(mem.out[0].n_results == 1 && mem.out[0].results[0].repeated && mem.out[0].n_touched == 0);
    assert_true(slice_eq(buf_slice(&before), buf_slice(&mem.out[0].replies)));
    buf_fini(&before);
}

/* The second replica is thrown away for one that was restored from what the first one wrote, in pieces of any size. */
static void replace_replica(void)
{
    struct cache_sm *fresh = mem_new(prng_u64(&mem.g), 0);
    for (size_t at = 0, n; at < saved.len; at += n) {
        n = prng_range(&mem.g, 1, 3000);
        n = n < saved.len - at ? n : saved.len - at;
        assert_true(cache_sm_restore_piece(fresh, slice_of(saved.ptr + at, n)));
    }
    assert_true(cache_sm_restore_end(fresh));
    assert_true(cache_sm_digest(fresh) == saved_digest);
    for (size_t i = 0; i < mem.n_since; i++) {
        cache_out_clear(&mem.out[1]);
        cache_sm_apply(fresh, mem.since[i].index, mem.since[i].now_ms, buf_slice(&mem.since[i].entry), &mem.out[1]);
    }
    assert_true(cache_sm_digest(fresh) == cache_sm_digest(mem.sm[0]));
    cache_sm_free(mem.sm[1]);
    mem.sm[1] = fresh;
}

static void step_snapshot(void)
{
    if (!mem.logging) {
        buf_clear(&saved);
        cache_sm_snapshot_begin(mem.sm[0]);
        saved_digest = cache_sm_digest(mem.sm[0]);
        mem.logging = true;
    } else if (prng_below(&mem.g, 20) == 0) {
        cache_sm_snapshot_abort(mem.sm[0]);
        mem.logging = false;
        mem_forget_log();
    } else if (cache_sm_snapshot_step(mem.sm[0], prng_below(&mem.g, 400), &saved)) {
        mem.logging = false;
        replace_replica();
        mem_forget_log();
    }
}

/* Nothing of the model: the digests and the snapshots tell. */
static void step_hold(void)
{
    buf_clear(&mem.entry);
    cache_put_head(&mem.entry, prng_below(&mem.g, 2) ? CACHE_ENTRY_HOLD : CACHE_ENTRY_UNHOLD, (struct request_id){0}, 0);
    buf_put_u32(&mem.entry, (uint32_t)prng_below(&mem.g, 10));
    mem_apply();
}

static void step(void)
{
    uint64_t what = prng_below(&mem.g, 1000);
    mem.now_ms += prng_below(&mem.g, 4);
    if (what < 600) {
        step_batch();
    } else if (what < 700) {
        step_snapshot();
    } else if (what < 760) {
        step_flush();
    } else if (what < 800) {
        step_fence();
    } else if (what < 850) {
        step_due();
    } else if (what < 900) {
        step_move();
    } else if (what < 930) {
        step_msetnx();
    } else if (what < 960) {
        step_damage();
    } else if (what < 970) {
        step_hold();
    } else if (what < 998) {
        step_again();
    } else {
        step_clear();
    }
}

static void test_model(void **state)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        prng_init(&mem.g, seed);
        for (int i = 0; i < STEPS / SEEDS; i++) {
            step();
            if (i % 64 == 0) {
                assert_model();
            }
        }
        assert_model();
        end(state);
        begin(state);
    }
}

/* A snapshot with any bit turned or any end cut off is refused, or restores to something whole; it never crashes. */
static void test_damaged_snapshot(void **state)
{
    (void)state;
    prng_init(&mem.g, 12);
    for (int i = 0; i < 200; i++) {
        step_batch();
    }
    cache_sm_snapshot_begin(mem.sm[0]);
    while (!cache_sm_snapshot_step(mem.sm[0], 1000, &saved)) {
    }
    for (int i = 0; i < 3000; i++) {
        struct cache_sm *fresh = mem_new(3, 0);
        struct buf bytes = {0};
        buf_append_slice(&bytes, buf_slice(&saved));
        if (i % 2) {
            bytes.len = prng_below(&mem.g, bytes.len);
        } else {
            bytes.ptr[prng_below(&mem.g, bytes.len)] ^= (uint8_t)(1u << prng_below(&mem.g, 8));
        }
        bool ok = cache_sm_restore_piece(fresh, buf_slice(&bytes)) && cache_sm_restore_end(fresh);
        assert_false(ok && i % 2);
        if (ok) {
            cache_sm_check(fresh);
        }
        cache_sm_free(fresh);
        buf_fini(&bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_model, begin, end),
        cmocka_unit_test_setup_teardown(test_damaged_snapshot, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
