/* libFuzzer: messages between cachers and homes. The first byte chooses: bytes as a peer's frame has them, which what is taken must be written from again; or
 * messages of any sense, made from the input, to a cacher that has ops under way and to a home that has transactions. Whatever a peer says, both stay whole. */
#include "nodes/cache/cacher.h"
#include "nodes/cache/home.h"
#include "utils/assert.h"
#include "utils/limits.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { KEYS = 4, NODES = 3, EPOCH = 3, COOKIES = 256 };

static struct cacher *cacher;
static struct home *home;
static uint64_t now_ms, tickets, writes, last_txn;
static struct buf written; /* key number each */
static bool answered[COOKIES];

static slice_t key_of(uint8_t i)
{
    static const char *const keys[KEYS] = {"a", "b", "", "longer key"};
    return slice_str(keys[i % KEYS]);
}

static void cacher_send(void *arg, const struct cache_msg *m)
{
    (void)arg;
    last_txn = m->txn != 0 ? m->txn : last_txn;
    struct buf b = {0};
    cache_msg_put(&b, m);
    struct reader r = reader_of(buf_slice(&b));
    struct cache_msg again;
    syn_assert(cache_msg_get(&r, &again) && reader_done(&r));
    buf_fini(&b);
}

static void home_send(void *arg, node_id_t to, const struct cache_msg *m)
{
    (void)arg;
    syn_assert(to >= 1 && to <= NODES);
    cacher_send(NULL, m);
}

static void on_reply(void *arg, uint64_t cookie, slice_t resp)
{
    (void)arg;
    syn_assert(resp.len > 0 && cookie < COOKIES && !answered[cookie]);
    answered[cookie] = true;
}

static void on_write(void *arg, uint32_t group, slice_t key, slice_t op, uint64_t cookie)
{
    (void)arg, (void)group, (void)op, (void)cookie;
    for (uint8_t i = 0; i < KEYS; i++) {
        if (slice_eq(key, key_of(i))) {
            buf_put_u8(&written, i);
        }
    }
}

static void lookup(void *arg, slice_t key, struct cache_item *item, uint64_t *version)
{
    (void)arg;
    *item = (struct cache_item){.exists = key.len > 0, .value = key};
    *version = 7;
}

static bool flush(void *arg, node_id_t from, const struct cache_msg *m) { (void)arg, (void)from; return m->version % 2 == 0; }
static bool fence(void *arg, slice_t key) { (void)arg; return key.len % 2 == 0; }
static bool hold(void *arg, node_id_t node) { (void)arg, (void)node; return true; }
static void vouch(void *arg) { (void)arg; }
static void release(void *arg, uint64_t ticket) { (void)arg; syn_assert(ticket <= tickets); }
static void on_written(void *arg, uint64_t ticket, struct home_written *w) { (void)arg, (void)ticket; *w = (struct home_written){.writer = 1}; }

static void begin(bool back)
{
    static const node_id_t holders[] = {1, 2};
    struct cacher_options co = {.groups = 1, .back = back, .entries_max = 3, .lease_ms = 1000, .flush_ms = 500, .first_txn = 1};
    struct cacher_io ci = {.send = cacher_send, .reply = on_reply, .write = on_write};
    struct home_options ho = {.epoch = EPOCH, .lease_ms = 1000, .back = back, .keys_max = 3};
    struct home_io hi = {.send = home_send, .lookup = lookup, .flush = flush, .fence = fence, .hold = hold, .vouch = vouch, .release = release, .written = on_written};
    now_ms = 1000;
    tickets = writes = last_txn = 0;
    buf_clear(&written);
    memset(answered, 0, sizeof answered);
    cacher = cacher_new(&co, &ci);
    cacher_clock(cacher, now_ms, now_ms);
    home = home_new(&ho, &hi, now_ms, holders, 2);
}

static void command(struct reader *r, uint64_t cookie)
{
    static const char *const names[] = {"GET", "INCR", "DEL", "PERSIST"};
    slice_t argv[] = {slice_str(names[reader_u8(r) % 4]), key_of(reader_u8(r))};
    struct buf op = {0}, error = {0};
    enum cache_access access;
    if (cache_op_encode(argv, 2, &op, &access, &error)) {
        cacher_op(cacher, 0, argv[1], buf_slice(&op), access, cookie);
    }
    buf_fini(&op);
    buf_fini(&error);
}

static void end_write(struct reader *r)
{
    if (written.len == 0) {
        return;
    }
    slice_t key = key_of(written.ptr[0]);
    slice_t argv[] = {SLICE_LIT("INCR"), key};
    struct buf op = {0}, error = {0};
    enum cache_access access;
    buf_consume(&written, 1);
    syn_assert(cache_op_encode(argv, 2, &op, &access, &error));
    uint8_t how = reader_u8(r);
    cacher_wrote(cacher, 0, key, buf_slice(&op), (enum cacher_outcome)(how % 4), EPOCH, how / 4 % 8, how / 32, reader_u8(r));
    buf_fini(&op);
    buf_fini(&error);
}

/* A message with any numbers; often those that fit. */
static bool any_message(struct reader *r, struct cache_msg *m)
{
    *m = (struct cache_msg){.kind = (uint8_t)(1 + reader_u8(r) % (CACHE_MSG_MAX - 1))};
    uint8_t bits = reader_u8(r);
    m->grant = m->kind == CACHE_MSG_DATA ? (uint8_t)(1 + bits % 3) : 0;
    m->dirty = m->kind == CACHE_MSG_ACK && (bits & 8);
    m->epoch = bits & 16 ? reader_u8(r) : EPOCH;
    m->txn = bits & 32 ? reader_u8(r) : last_txn;
    m->seq = reader_u8(r);
    m->version = bits & 64 ? reader_u64(r) : reader_u8(r);
    m->low = reader_u8(r);
    m->key = key_of(reader_u8(r));
    uint64_t left_ms = bits & 128 ? reader_u64(r) : 0;
    m->item = (struct cache_item){.exists = bits & 4, .expire_ms = left_ms};
    m->item.value = m->item.exists ? m->key : SLICE_NONE;
    struct buf b = {0};
    cache_msg_put(&b, m);
    struct reader again = reader_of(buf_slice(&b));
    struct cache_msg ignored;
    bool ok = cache_msg_get(&again, &ignored);
    buf_fini(&b);
    return ok && r->ok;
}

static void write_at_home(uint8_t node, uint8_t key)
{
    uint64_t seq, ticket = ++tickets;
    home_proposed(home, node % (NODES + 1), key_of(key));
    home_applied(home, key_of(key), ticket);
    home_close(home, ticket);
    home_owned(home, node % (NODES + 1), key_of(key), ticket, &seq);
}

static void step(struct reader *r, uint64_t *cookie)
{
    struct cache_msg m;
    uint8_t what = reader_u8(r);
    switch (what % 8) {
    case 0: command(r, (*cookie)++); break;
    case 1: end_write(r); break;
    case 2:
        now_ms += what / 8 * 20;
        cacher_clock(cacher, now_ms, now_ms);
        home_clock(home, now_ms);
        cacher_timers(cacher);
        home_timers(home);
        break;
    case 3: write_at_home(reader_u8(r), reader_u8(r)); break;
    case 4: home_vouched(home, now_ms); home_held(home, 1 + what / 8 % NODES); break;
    case 5:
        if (any_message(r, &m)) {
            cacher_on(cacher, &m);
        }
        break;
    default:
        if (any_message(r, &m)) {
            home_on(home, 1 + what / 8 % NODES, &m);
        }
    }
}

static void play(slice_t in, bool back)
{
    struct reader r = reader_of(in);
    uint64_t cookie = 0;
    begin(back);
    while (reader_left(&r) > 0 && r.ok && cookie < COOKIES) {
        step(&r, &cookie);
        cacher_check(cacher);
    }
    while (written.len > 0) {
        struct reader none = reader_of(SLICE_NONE);
        end_write(&none);
    }
    cacher_free(cacher);
    home_free(home);
    buf_fini(&written);
}

static void read_and_write(slice_t in)
{
    struct reader r = reader_of(in);
    struct cache_msg m;
    struct buf b = {0};
    while (reader_left(&r) > 0) {
        const uint8_t *from = r.p;
        if (!cache_msg_get(&r, &m)) {
            break;
        }
        syn_assert(m.key.len <= LIMIT_KEY_BYTES && m.item.value.len <= LIMIT_VALUE_BYTES && m.item.guard.len <= LIMIT_KEY_BYTES);
        buf_clear(&b);
        cache_msg_put(&b, &m);
        syn_assert(slice_eq(buf_slice(&b), slice_of(from, (size_t)(r.p - from))));
    }
    buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    slice_t rest = slice_of(data + 1, size - 1);
    if (data[0] % 3 == 0) {
        read_and_write(rest);
    } else {
        play(rest, data[0] % 3 == 1);
    }
    return 0;
}
