/* What is not in Redis 7.0, or cannot be seen through a client: IFEQ, IFNE, DELEX, fencing tokens, changes beside replies, clocks, bytes that are no ops, and the
 * arithmetic of INCRBYFLOAT against the processor's own. All else is compared with Redis: tests/process/test_cache_ops.py. */
#include "nodes/cache/cache_op_internal.h"
#include "utils/limits.h"
#include "utils/prng.h"

#include "../utils/test.h"

#include <errno.h>
#include <float.h>
#include <math.h>

enum { WORDS_MAX = 16, NOW_MS = 5000000, WALL_MS = 1700000000 };

/* One key. */
static struct { bool exists; struct buf value, guard; uint64_t expire_ms, token; } item;
static struct cache_change change;
static struct buf op, reply;
static enum cache_access access;
static struct cache_clock now = {NOW_MS, WALL_MS};

static int fini(void **state)
{
    (void)state;
    buf_fini(&item.value);
    buf_fini(&item.guard);
    buf_fini(&change.value);
    buf_fini(&op);
    buf_fini(&reply);
    return 0;
}

static bool encode(const char *line)
{
    slice_t argv[WORDS_MAX];
    uint32_t argc = 0;
    for (const char *p = line; *p != 0 && argc < WORDS_MAX;) {
        size_t n = strcspn(p, " ");
        argv[argc++] = n == 2 && memcmp(p, "''", 2) == 0 ? SLICE_LIT("") : slice_of(p, n);
        p += n + (p[n] == ' ');
    }
    buf_clear(&op);
    buf_clear(&reply);
    return cache_op_encode(argv, argc, &op, &access, &reply);
}

static struct cache_item current(void)
{
    return (struct cache_item){item.exists, buf_slice(&item.value), item.expire_ms, buf_slice(&item.guard), item.token};
}

static void run_op(slice_t bytes)
{
    struct cache_item it = current();
    buf_clear(&reply);
    assert_true(cache_op_valid(bytes));
    cache_op_run(bytes, &it, now, &change, &reply);
    if (change.kind == CACHE_PUT) {
        item.exists = true;
        buf_clear(&item.value);
        buf_append_slice(&item.value, buf_slice(&change.value));
    }
    item.expire_ms = change.kind == CACHE_PUT || change.kind == CACHE_EXPIRE ? change.expire_ms : item.expire_ms;
    item.exists = item.exists && change.kind != CACHE_DELETE;
    if (change.guarded) {
        buf_clear(&item.guard);
        buf_append_slice(&item.guard, change.guard);
        item.token = change.token;
    }
}

/* The command's reply begins so. */
static void expect(const char *line, const char *want)
{
    if (encode(line)) {
        run_op(buf_slice(&op));
    }
    if (reply.len < strlen(want) || memcmp(reply.ptr, want, strlen(want)) != 0) {
        fail_msg("%s: %.*s instead of %s", line, (int)reply.len, (const char *)reply.ptr, want);
    }
}

static void expect_change(const char *line, enum cache_change_kind kind)
{
    assert_true(encode(line));
    run_op(buf_slice(&op));
    if (change.kind != kind) {
        fail_msg("%s: change %d instead of %d", line, change.kind, kind);
    }
}

static void start(void)
{
    item.exists = false;
    item.expire_ms = item.token = 0;
    item.guard.len = 0;
    now = (struct cache_clock){NOW_MS, WALL_MS};
}

static void test_conditions_on_the_value(void **state)
{
    (void)state;
    start();
    expect("SET k new IFEQ old", "_");
    expect("EXISTS k", ":0");
    expect("SET k old IFNE old", "+OK");
    expect("SET k new IFNE old", "_");
    expect("SET k new IFEQ other", "_");
    expect("SET k new IFEQ old GET", "$3\r\nold");
    expect("SET k newer IFEQ old GET", "$3\r\nnew");
    expect("GET k", "$3\r\nnew");
    expect("SET k '' IFEQ new EX 100", "+OK");
    expect("TTL k", ":100");
    expect("SET k v IFEQ '' KEEPTTL", "+OK");
    expect("TTL k", ":100");
    expect("SET k v IFEQ", "-ERR syntax error");
    expect("SET k v NX IFEQ v", "-ERR syntax error");
    expect("SET k v IFNE v XX", "-ERR syntax error");
    expect("SET k v IFNE v IFEQ v", "-ERR syntax error");
    expect("SET k v ifeq v ifeq w", "_");
}

static void test_delex(void **state)
{
    (void)state;
    start();
    expect("DELEX k", ":0");
    expect("DELEX k IFEQ v", ":0");
    expect("DELEX k IFNE v", ":0");
    expect("SET k v", "+OK");
    expect("DELEX k IFEQ w", ":0");
    expect("DELEX k IFNE v", ":0");
    expect("DELEX k IFEQ v", ":1");
    expect("EXISTS k", ":0");
    expect("SET k v", "+OK");
    expect("DELEX k ifne w", ":1");
    expect("SET k v", "+OK");
    expect("DELEX k", ":1");
    expect("DELEX k IFEQ", "-ERR syntax error");
    expect("DELEX k NX", "-ERR syntax error");
    expect("DELEX k v IFEQ", "-ERR syntax error");
    expect("DELEX k NX v", "-ERR syntax error");
    expect("DELEX k IFEQ v w", "-ERR wrong number of arguments for 'delex' command");
}

/* O4 */
static void test_fencing_tokens(void **state)
{
    (void)state;
    start();
    expect("SET k a FENCE lock 7", "+OK");
    expect("SET k b FENCE lock 6", "-FENCED token 6 of 'lock' is old, 7 was seen");
    assert_true(change.kind == CACHE_KEEP && !change.guarded);
    expect("GET k", "$1\r\na");
    expect("SET k c FENCE lock 7", "+OK");
    assert_true(change.kind == CACHE_PUT && !change.guarded);
    expect("SET k d FENCE lock 9 NX", "_"); /* seen, though nothing was written */
    assert_true(change.kind == CACHE_KEEP && change.guarded && change.token == 9);
    expect("SET k e FENCE lock 8", "-FENCED");
    expect("DEL k", ":1");
    expect("SET k f FENCE lock 8 NX", "-FENCED");
    expect("SET k g", "+OK"); /* who gives no token is not held back */
    expect("SET k h FENCE lock 8 GET", "-FENCED");
    expect("SET k i FENCE other 1 GET", "$1\r\ng");
    expect("SET k j FENCE lock 1", "+OK"); /* one guard is remembered, the newest */
    expect("SET k l FENCE lock 18446744073709551615", "+OK");
    expect("SET k m FENCE lock 18446744073709551614", "-FENCED");
    expect("SET k m FENCE lock 18446744073709551616", "-ERR the token of FENCE must be a whole number between 0 and 18446744073709551615");
    expect("SET k m FENCE lock -1", "-ERR the token of FENCE");
    expect("SET k m FENCE lock ''", "-ERR the token of FENCE");
    expect("SET k m FENCE '' 1", "-ERR the resource of FENCE");
    expect("SET k m FENCE lock", "-ERR syntax error");
    expect("SET k m EX 0 FENCE lock 1", "-ERR invalid expire time in 'set' command");
}

static void test_what_changes(void **state)
{
    (void)state;
    start();
    expect_change("APPEND k ''", CACHE_PUT);
    expect_change("APPEND k ''", CACHE_KEEP);
    expect_change("SETRANGE k 3 ''", CACHE_KEEP);
    expect_change("SETBIT k 7 0", CACHE_PUT);
    expect_change("SETBIT k 7 0", CACHE_KEEP);
    expect_change("SETBIT k 7 1", CACHE_PUT);
    expect_change("PERSIST k", CACHE_KEEP);
    expect_change("EXPIRE k 10", CACHE_EXPIRE);
    expect_change("EXPIRE k 10 NX", CACHE_KEEP);
    expect_change("GETEX k PERSIST", CACHE_EXPIRE);
    expect_change("GETEX k PERSIST", CACHE_KEEP);
    expect_change("GETEX k EXAT 1", CACHE_DELETE);
    expect_change("GETDEL k", CACHE_KEEP);
    expect_change("DEL k", CACHE_KEEP);
    expect_change("EXPIRE k 10", CACHE_KEEP);
    expect_change("SET k v XX", CACHE_KEEP);
    expect_change("SET k v EXAT 1", CACHE_KEEP);
    expect_change("SETNX k v", CACHE_PUT);
    expect_change("SET k v EXAT 1", CACHE_DELETE);
    expect_change("INCR k", CACHE_PUT);
    expect_change("EXPIRE k -1", CACHE_DELETE);
}

static void test_reads_and_overwrites(void **state)
{
    static const struct { const char *line; bool writes, overwrites; } ops[] = {
        {"GET k", false, false}, {"GETEX k", false, false}, {"GETEX k PERSIST", true, false}, {"TOUCH k", false, false}, {"BITPOS k 1", false, false},
        {"PEXPIRETIME k", false, false}, {"OBJECT ENCODING k", false, false}, {"SET k v", true, true}, {"SET k v PX 5", true, true}, {"SETEX k 5 v", true, true},
        {"PSETEX k 5 v", true, true}, {"SET k v EXAT 5", true, false}, {"SET k v KEEPTTL", true, false}, {"SET k v GET", true, false}, {"GETSET k v", true, false},
        {"SETNX k v", true, false}, {"SET k v XX", true, false}, {"SET k v IFEQ v", true, false}, {"SET k v FENCE l 1", true, false}, {"DEL k", true, false},
        {"DELEX k IFEQ v", true, false}, {"APPEND k v", true, false}, {"EXPIRE k 5", true, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        assert_true(encode(ops[i].line));
        if ((access == CACHE_WRITES) != ops[i].writes || cache_op_overwrites(buf_slice(&op)) != ops[i].overwrites) {
            fail_msg("%s", ops[i].line);
        }
    }
}

/* The item's clock counts for itself: Unix time is another. */
static void test_clocks(void **state)
{
    (void)state;
    start();
    expect("SET k v PX 1000", "+OK");
    assert_int_equal(item.expire_ms, NOW_MS + 1000);
    expect("PEXPIRETIME k", ":1700001000");
    expect("PEXPIREAT k 1700003000 GT", ":1");
    assert_int_equal(item.expire_ms, NOW_MS + 3000);
    expect("PEXPIREAT k 1700002999 GT", ":0");
    expect("PEXPIRE k 3000 LT", ":0");
    now.now_ms += 2500;
    now.wall_ms += 2500;
    expect("PTTL k", ":500");
    expect("TTL k", ":1");
    expect("PEXPIRETIME k", ":1700003000");
    now.now_ms += 499;
    expect("GET k", "$1\r\nv");
    now.now_ms++;
    expect("GET k", "_");
    expect("TTL k", ":-2");
    expect("APPEND k x", ":1");
    expect("TTL k", ":-1");
    expect("PEXPIRE k 9223336852482686975", ":1"); /* the most there is */
    expect("PEXPIRE k 9223336852482686976", "-ERR invalid expire time in 'pexpire' command");
    expect("PEXPIREAT k 9223372036854775807", ":1");
    expect("PTTL k", ":92233720");
    expect("PEXPIREAT k -9223372036854775808", ":1");
    expect("EXISTS k", ":0");
}

static void test_limits(void **state)
{
    (void)state;
    start();
    static uint8_t bytes[LIMIT_VALUE_BYTES + 1];
    slice_t set[] = {SLICE_LIT("SET"), SLICE_LIT("k"), slice_of(bytes, LIMIT_VALUE_BYTES + 1)};
    buf_clear(&reply);
    assert_false(cache_op_encode(set, 3, &op, &access, &reply));
    set[2].len--;
    buf_clear(&op);
    assert_true(cache_op_encode(set, 3, &op, &access, &reply));
    run_op(buf_slice(&op));
    expect("APPEND k x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    expect("SETRANGE k 1048575 xy", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    expect("SETRANGE k 1048575 x", ":1048576");
    expect("SETBIT k 8388607 1", ":0");
    set[1] = slice_of(bytes, LIMIT_KEY_BYTES + 1);
    buf_clear(&reply);
    assert_false(cache_op_encode(set, 3, &op, &access, &reply));
    assert_memory_equal(reply.ptr, "-LIMIT a key has at most 1024 bytes, not 1025", 45);
}

/* Ops of commands, damaged: what is refused is refused, what is not can be run, and has no second form (O2). */
static void test_damaged_ops(void **state)
{
    static const char *const lines[] = {
        "GET k", "TTL k", "SET k value PX 7 NX GET", "SET k v IFEQ w FENCE lock 5", "GETEX k EX 5", "EXPIRE k -5 GT", "INCRBYFLOAT k -1.5", "SETRANGE k 3 abc", "SETBIT k 9 1",
        "BITCOUNT k 1 2 BIT", "BITPOS k 0 1", "GETRANGE k 1 -1", "DELEX k IFNE v", "INCRBY k 5", "GETBIT k 3", "APPEND k v",
    };
    (void)state;
    start();
    struct prng g;
    prng_init(&g, 11);
    struct buf again = {0};
    uint32_t valid = 0;
    for (uint32_t i = 0; i < 60000; i++) {
        assert_true(encode(lines[prng_below(&g, sizeof lines / sizeof lines[0])]));
        for (uint64_t hits = prng_below(&g, 4); hits > 0 && op.len > 0; hits--) {
            uint64_t at = prng_below(&g, op.len);
            uint64_t byte = prng_below(&g, 2) ? prng_u64(&g) : (uint64_t)op.ptr[at] ^ UINT64_C(1) << prng_below(&g, 8);
            op.ptr[at] = (uint8_t)byte;
            op.len -= prng_below(&g, 8) == 0;
        }
        struct op o;
        if (!op_get(buf_slice(&op), &o)) {
            assert_false(cache_op_overwrites(buf_slice(&op)));
            continue;
        }
        valid++;
        buf_clear(&again);
        op_put(&again, &o);
        assert_true(slice_eq(buf_slice(&again), buf_slice(&op)));
        run_op(buf_slice(&op));
        item.exists = item.exists && item.value.len < 4096;
    }
    assert_true(valid > 15000);
    assert_false(cache_op_valid(SLICE_NONE));
    buf_fini(&again);
}

#if LDBL_MANT_DIG == 64

static void native(char *text, size_t room, long double v)
{
    int n = snprintf(text, room, "%.17Lf", v);
    while (text[n - 1] == '0') {
        n--;
    }
    n -= text[n - 1] == '.';
    text[n] = 0;
    if (strcmp(text, "-0") == 0) {
        strcpy(text, "0");
    }
}

static void random_number(struct prng *g, char *text, size_t room)
{
    static const char *const some[] = {"0", "1", "-1", "0.5", "18446744073709551615", "18446744073709551616", "0.1", "1e17", "1e-17", "5e-18", "1e4932", "-1e4932", "3e-4951", "0x1p-16445"};
    uint64_t a = prng_u64(g), b = prng_u64(g);
    switch (prng_below(g, 5)) {
    case 0: snprintf(text, room, "%s", some[prng_below(g, sizeof some / sizeof some[0])]); return;
    case 1: snprintf(text, room, "%s%llu.%llu", a & 1 ? "-" : "", (unsigned long long)(a >> prng_below(g, 64)), (unsigned long long)b); return;
    case 2: snprintf(text, room, "%s%llu%llu.%llue%d", a & 1 ? "-" : "", (unsigned long long)a, (unsigned long long)b, (unsigned long long)a, (int)prng_below(g, 10100) - 5050); return;
    case 3: snprintf(text, room, "%s0x%llx.%llxp%d", a & 1 ? "-" : "", (unsigned long long)a, (unsigned long long)b, (int)prng_below(g, 200) - 140); return;
    default: snprintf(text, room, "%s%llue%d", a & 1 ? "-" : "", (unsigned long long)(a >> prng_below(g, 64)), (int)prng_below(g, 60) - 40); return;
    }
}

/* Redis' rule: what strtold takes whole, and neither overflows nor vanishes. */
static bool native_parse(const char *text, long double *v)
{
    char *end;
    errno = 0;
    *v = strtold(text, &end);
    return *end == 0 && end != text && !(errno == ERANGE && (isinf(*v) || *v == 0)) && !isnan(*v);
}

static void test_reals_as_the_processor(void **state)
{
    (void)state;
    static char x[128], y[128], want[6000];
    struct prng g;
    struct buf got = {0};
    prng_init(&g, 7);
    for (uint32_t i = 0; i < 3000; i++) {
        long double a, b;
        struct real p, q;
        random_number(&g, x, sizeof x);
        random_number(&g, y, sizeof y);
        assert_int_equal(real_parse(slice_str(x), &p), native_parse(x, &a));
        assert_int_equal(real_parse(slice_str(y), &q), native_parse(y, &b));
        if (!native_parse(x, &a) || !native_parse(y, &b)) {
            continue;
        }
        for (int k = 0; k < 3; k++) { /* a sum goes on without being printed */
            p = real_add(p, q);
            a += b;
            assert_int_equal(p.infinite, isinf(a) != 0);
            if (p.infinite) {
                break;
            }
            buf_clear(&got);
            real_print(&got, p);
            native(want, sizeof want, a);
            if (got.len != strlen(want) || memcmp(got.ptr, want, got.len) != 0) {
                fail_msg("%s + %s: %.*s instead of %s", x, y, (int)got.len, (const char *)got.ptr, want);
            }
        }
    }
    buf_fini(&got);
}

#else

static void test_reals_as_the_processor(void **state)
{
    (void)state;
    skip();
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conditions_on_the_value), cmocka_unit_test(test_delex), cmocka_unit_test(test_fencing_tokens), cmocka_unit_test(test_what_changes),
        cmocka_unit_test(test_reads_and_overwrites), cmocka_unit_test(test_clocks), cmocka_unit_test(test_limits), cmocka_unit_test(test_damaged_ops),
        cmocka_unit_test(test_reals_as_the_processor),
    };
    return cmocka_run_group_tests(tests, NULL, fini);
}
