/* See mesi_world.h. The ops are this test's own: 'R', or 'W' and a value; a value's order is that in which memory (through) or owners (back) took it. */
#include "mesi_world.h"

#include "utils/assert.h"
#include "utils/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MSG_REQUEST = 200, MSG_RESULT = 201, ORDERS = 256 };

static uint32_t order_of[WORLD_KEYS][ORDERS], last_order;
static struct { uint64_t txn, version; } flushed[WORLD_NODES][WORLD_KEYS];

bool cache_op_valid(slice_t op)
{
    return op.len > 0;
}

bool cache_op_peeks(slice_t op)
{
    (void)op;
    return false;
}

bool cache_op_overwrites(slice_t op)
{
    return op.ptr[0] == 'W';
}

static void take_order(uint8_t key, uint8_t value)
{
    if (order_of[key][value] == 0) {
        order_of[key][value] = ++last_order;
    }
}

void cache_op_run(slice_t op, const struct cache_item *in, struct cache_clock clock, struct cache_change *out, struct buf *reply)
{
    (void)clock;
    buf_clear(&out->value);
    out->kind = CACHE_KEEP;
    out->guarded = false;
    out->expire_ms = 0;
    if (op.ptr[0] == 'R') {
        buf_put_u8(reply, in->exists ? in->value.ptr[0] : 0);
        return;
    }
    take_order(op.ptr[2], op.ptr[1]);
    out->kind = CACHE_PUT;
    buf_put_u8(&out->value, op.ptr[1]);
    buf_put_u8(reply, 255);
}

static void broken(struct world *w, const char *why)
{
    w->broken = w->broken != NULL ? w->broken : why;
}

static slice_t key_name(uint8_t key)
{
    static const char names[] = "01234567";
    return slice_of(names + key, 1);
}

static void bag_add(struct world *w, uint8_t to_home, uint8_t node, slice_t bytes)
{
    struct world_msg *free_one = NULL;
    for (uint32_t i = 0; i < WORLD_BAG; i++) {
        struct world_msg *m = &w->bag[i];
        if (!m->used) {
            free_one = free_one != NULL ? free_one : m;
        } else if (m->to_home == to_home && m->node == node && slice_eq(buf_slice(&m->bytes), bytes)) {
            return; /* sent again before it arrived */
        }
    }
    if (free_one == NULL) {
        broken(w, "the network holds too many messages: something is sent without end");
        return;
    }
    free_one->used = true;
    free_one->to_home = to_home;
    free_one->node = node;
    buf_clear(&free_one->bytes);
    buf_append_slice(&free_one->bytes, bytes);
}

static void from_cacher(void *arg, const struct cache_msg *m)
{
    struct world_ref *r = arg;
    struct buf b = {0};
    cache_msg_put(&b, m);
    bag_add(r->w, (uint8_t)(r->w->n_homes - 1), r->number, buf_slice(&b));
    buf_fini(&b);
}

static void from_home(void *arg, node_id_t to, const struct cache_msg *m)
{
    struct world_ref *r = arg;
    struct buf b = {0};
    cache_msg_put(&b, m);
    bag_add(r->w, 255, (uint8_t)(to - 1), buf_slice(&b));
    buf_fini(&b);
}

static void on_reply(void *arg, uint64_t cookie, slice_t resp)
{
    struct world_ref *r = arg;
    struct world *w = r->w;
    struct world_op *o = &w->ops[cookie];
    if (o->done) {
        broken(w, "an op was answered twice");
    }
    o->done = true;
    if (o->write) {
        w->acked[o->key] = order_of[o->key][o->value] > order_of[o->key][w->acked[o->key]] ? o->value : w->acked[o->key];
    } else if (w->lost == 0 && order_of[o->key][resp.ptr[0]] < order_of[o->key][o->least]) {
        broken(w, "MC5: a read returned less than what was acknowledged before it began");
    }
}

static void on_write(void *arg, uint32_t group, slice_t key, slice_t op, uint64_t cookie)
{
    (void)group;
    struct world_ref *r = arg;
    uint8_t bytes[] = {MSG_REQUEST, (uint8_t)(key.ptr[0] - '0'), op.ptr[1], (uint8_t)cookie};
    bag_add(r->w, (uint8_t)(r->w->n_homes - 1), r->number, slice_of(bytes, sizeof bytes));
}

static void lookup(void *arg, slice_t key, struct cache_item *item, uint64_t *version)
{
    struct world_ref *r = arg;
    struct world_memory *m = &r->w->memory[key.ptr[0] - '0'];
    *item = (struct cache_item){.exists = m->value != 0, .value = slice_of(&m->value, m->value != 0)};
    *version = m->version;
}

static bool leads(const struct world_ref *r)
{
    return r->number == r->w->n_homes - 1;
}

static bool log_add(const struct world_ref *r, struct world_log e)
{
    struct world *w = r->w;
    if (!leads(r) || w->n_log == WORLD_LOG) {
        return false;
    }
    w->log[w->n_log++] = e;
    return true;
}

static bool on_flush(void *arg, node_id_t from, const struct cache_msg *m)
{
    return log_add(arg, (struct world_log){.kind = LOG_FLUSH, .node = (uint8_t)(from - 1), .key = (uint8_t)(m->key.ptr[0] - '0'), .txn = m->txn,
                                           .base = m->version, .value = m->item.exists ? m->item.value.ptr[0] : 0});
}

static bool on_fence(void *arg, slice_t key)
{
    return log_add(arg, (struct world_log){.kind = LOG_FENCE, .key = (uint8_t)(key.ptr[0] - '0')});
}

static bool on_hold(void *arg, node_id_t node)
{
    return log_add(arg, (struct world_log){.kind = LOG_HOLD, .node = (uint8_t)(node - 1)});
}

static void on_vouch(void *arg)
{
    struct world_ref *r = arg;
    if (leads(r)) {
        home_vouched(r->w->homes[r->number], r->w->now_ms);
    }
}

static void result(struct world *w, uint8_t node, uint8_t key, uint64_t cookie, bool ours, uint64_t epoch, uint64_t before, uint64_t version, uint64_t seq,
                   bool orphan)
{
    struct buf b = {0};
    buf_put_u8(&b, MSG_RESULT);
    buf_put_u8(&b, key);
    buf_put_u8(&b, (uint8_t)cookie);
    buf_put_u8(&b, ours);
    buf_put_u8(&b, orphan);
    buf_put_u64(&b, epoch);
    buf_put_u64(&b, before);
    buf_put_u64(&b, version);
    buf_put_u64(&b, seq);
    bag_add(w, 255, node, buf_slice(&b));
    buf_fini(&b);
}

static void on_release(void *arg, uint64_t ticket)
{
    struct world_ref *r = arg;
    struct world *w = r->w;
    for (uint32_t i = 0; i < w->n_held; i++) {
        if (w->held_replies[i].ticket == ticket && leads(r)) {
            uint8_t node = w->held_replies[i].node, key = w->held_replies[i].key;
            uint64_t seq, cookie = w->held_replies[i].cookie, before = w->held_replies[i].before;
            w->held_replies[i] = w->held_replies[--w->n_held];
            bool ours = home_owned(w->homes[r->number], node + 1u, key_name(key), ticket, &seq);
            result(w, node, key, cookie, ours, w->epoch, before, ticket, seq, false);
            return;
        }
    }
}

static void cacher_open(struct world *w, uint8_t node)
{
    static struct world_ref refs[WORLD_NODES];
    refs[node] = (struct world_ref){w, node};
    struct cacher_options o = {.groups = 1, .hash_key = 1, .back = w->back, .lease_ms = WORLD_LEASE_MS, .flush_ms = 50000,
                               .first_txn = (uint64_t)w->lives[node] * 1000};
    struct cacher_io io = {.arg = &refs[node], .send = from_cacher, .reply = on_reply, .write = on_write};
    w->cachers[node] = cacher_new(&o, &io);
    cacher_clock(w->cachers[node], w->now_ms, w->now_ms);
}

static void home_open(struct world *w, uint8_t node)
{
    static struct world_ref refs[WORLD_HOMES];
    node_id_t holders[WORLD_NODES];
    uint32_t n = 0, at = w->n_homes++;
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        if (w->held[i]) {
            holders[n++] = i + 1;
        }
    }
    refs[at] = (struct world_ref){w, (uint8_t)at};
    struct home_options o = {.epoch = ++w->epoch, .lease_ms = WORLD_LEASE_MS, .hash_key = 2, .back = w->back, .keys_max = w->directory};
    struct home_io io = {&refs[at], from_home, lookup, on_flush, on_fence, on_hold, on_vouch, on_release, NULL, NULL, NULL};
    w->home_node[at] = node;
    w->homes[at] = home_new(&o, &io, w->now_ms, holders, n);
    home_timers(w->homes[at]);
}

void world_open(struct world *w, uint32_t nodes, uint32_t keys, bool back, uint64_t directory)
{
    memset(w, 0, sizeof *w);
    memset(order_of, 0, sizeof order_of);
    memset(flushed, 0, sizeof flushed);
    last_order = 0;
    w->n_nodes = nodes;
    w->n_keys = keys;
    w->back = back;
    w->directory = directory;
    w->now_ms = 1000000;
    for (uint8_t i = 0; i < nodes; i++) {
        cacher_open(w, i);
    }
    home_open(w, 0);
}

void world_close(struct world *w)
{
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        cacher_free(w->cachers[i]);
    }
    for (uint32_t i = 0; i < w->n_homes; i++) {
        if (w->homes[i] != NULL) {
            home_free(w->homes[i]);
        }
    }
    for (uint32_t i = 0; i < WORLD_BAG; i++) {
        buf_fini(&w->bag[i].bytes);
    }
}

static void op(struct world *w, uint8_t node, uint8_t key, bool write)
{
    syn_assert(w->n_ops < WORLD_OPS);
    uint64_t cookie = w->n_ops++;
    struct world_op *o = &w->ops[cookie];
    *o = (struct world_op){.used = true, .write = write, .node = node, .key = key, .least = w->acked[key]};
    o->value = write ? ++w->next_value[key] : 0;
    uint8_t bytes[] = {write ? 'W' : 'R', o->value, key};
    cacher_clock(w->cachers[node], w->now_ms, w->now_ms);
    cacher_op(w->cachers[node], 0, key_name(key), slice_of(bytes, sizeof bytes), write ? CACHE_WRITES : CACHE_READS, cookie);
}

void world_read(struct world *w, uint8_t node, uint8_t key)
{
    op(w, node, key, false);
}

void world_write(struct world *w, uint8_t node, uint8_t key)
{
    op(w, node, key, true);
}

static void to_cacher(struct world *w, uint8_t node, slice_t bytes)
{
    struct cacher *c = w->cachers[node];
    struct reader r = reader_of(bytes);
    cacher_clock(c, w->now_ms, w->now_ms);
    if (bytes.ptr[0] != MSG_RESULT) {
        struct cache_msg m;
        bool ok = cache_msg_get(&r, &m);
        syn_assert(ok && reader_done(&r));
        cacher_on(c, &m);
        return;
    }
    reader_u8(&r);
    uint8_t key = reader_u8(&r), cookie = reader_u8(&r), ours = reader_u8(&r);
    reader_u8(&r);
    uint64_t epoch = reader_u64(&r), before = reader_u64(&r), version = reader_u64(&r), seq = reader_u64(&r);
    struct world_op *o = &w->ops[cookie];
    if (o->done) {
        return; /* who asked is gone */
    }
    uint8_t bytes_of_op[] = {'W', o->value, key};
    o->done = true;
    if (version != 0) {
        w->acked[key] = order_of[key][o->value] > order_of[key][w->acked[key]] ? o->value : w->acked[key];
    }
    enum cacher_outcome out = version == 0 ? CACHER_UNSURE : ours ? CACHER_DONE_OWNED : CACHER_DONE;
    cacher_wrote(c, 0, key_name(key), slice_of(bytes_of_op, sizeof bytes_of_op), out, epoch, before, version, seq);
}

static void to_home(struct world *w, uint8_t home, uint8_t node, slice_t bytes)
{
    struct home *h = w->homes[home];
    home_clock(h, w->now_ms);
    if (bytes.ptr[0] == MSG_REQUEST) {
        uint8_t key = bytes.ptr[1];
        home_proposed(h, node + 1u, key_name(key));
        log_add(&(struct world_ref){w, home}, (struct world_log){.kind = LOG_WRITE, .node = node, .key = key, .value = bytes.ptr[2], .cookie = bytes.ptr[3]});
        return;
    }
    struct reader r = reader_of(bytes);
    struct cache_msg m;
    bool ok = cache_msg_get(&r, &m);
    syn_assert(ok && reader_done(&r));
    home_on(h, node + 1u, &m);
}

/* A request waits for an active home, and so does an answer that a former home owed. */
static bool is_ready(struct world *w, const struct world_msg *m)
{
    struct home *h = w->homes[w->n_homes - 1];
    const uint8_t *p = m->bytes.ptr;
    bool waits = (m->to_home != 255 && p[0] == MSG_REQUEST) || (m->to_home == 255 && p[0] == MSG_RESULT && p[4] != 0);
    return !waits || home_is_active(h);
}

void world_deliver(struct world *w, uint32_t i, bool keep)
{
    struct world_msg *m = &w->bag[i];
    if (!m->used || !is_ready(w, m)) {
        return;
    }
    struct buf bytes = {0};
    uint8_t home = m->to_home, node = m->node;
    buf_append_slice(&bytes, buf_slice(&m->bytes));
    bool once = bytes.ptr[0] >= MSG_REQUEST; /* those are de-duplicated before they come here */
    m->used = keep && !once;
    if (home == 255) {
        to_cacher(w, node, buf_slice(&bytes));
    } else {
        home = bytes.ptr[0] == MSG_REQUEST ? (uint8_t)(w->n_homes - 1) : home;
        if (w->homes[home] != NULL) {
            to_home(w, home, node, buf_slice(&bytes));
        }
    }
    buf_fini(&bytes);
}

void world_drop(struct world *w, uint32_t i)
{
    if (w->bag[i].used && w->bag[i].bytes.ptr[0] < MSG_REQUEST) {
        w->bag[i].used = false;
    }
}

static void apply_flush(struct world *w, struct home *h, const struct world_log *e)
{
    struct world_memory *m = &w->memory[e->key];
    uint64_t version;
    if (flushed[e->node][e->key].txn == e->txn) {
        version = flushed[e->node][e->key].version; /* answered before */
    } else if (m->version == e->base) {
        m->value = e->value;
        version = m->version = ++w->index;
    } else {
        struct cacher_stats st;
        cacher_stats(w->cachers[e->node], &st);
        if (st.lease_ends == 0 && w->lives[e->node] == 0) {
            broken(w, "MC8: an owner under a live lease has lost its write");
        }
        version = 0;
        w->lost++;
    }
    flushed[e->node][e->key].txn = e->txn;
    flushed[e->node][e->key].version = version;
    home_flushed(h, e->node + 1u, key_name(e->key), e->txn, version);
}

void world_apply(struct world *w)
{
    if (w->n_log == 0) {
        return;
    }
    struct home *h = w->homes[w->n_homes - 1];
    struct world_log e = w->log[0];
    struct world_memory *m = &w->memory[e.key];
    memmove(w->log, w->log + 1, --w->n_log * sizeof *w->log);
    home_clock(h, w->now_ms);
    switch (e.kind) {
    case LOG_WRITE: {
        uint64_t before = m->version, version = ++w->index;
        bool orphan = e.txn != 0;
        take_order(e.key, e.value);
        m->value = e.value;
        m->version = version;
        if (orphan) {
            result(w, e.node, e.key, e.cookie, false, w->epoch, before, version, 0, true);
            return;
        }
        w->held_replies[w->n_held].ticket = version;
        w->held_replies[w->n_held].node = e.node;
        w->held_replies[w->n_held].key = e.key;
        w->held_replies[w->n_held].cookie = e.cookie;
        w->held_replies[w->n_held++].before = before;
        home_applied(h, key_name(e.key), version);
        home_close(h, version);
        break;
    }
    case LOG_FLUSH: apply_flush(w, h, &e); break;
    case LOG_FENCE:
        m->version = ++w->index;
        w->lost++;
        home_fenced(h, key_name(e.key));
        break;
    case LOG_HOLD:
        w->held[e.node] = true;
        home_held(h, e.node + 1u);
        break;
    }
}

void world_tick(struct world *w, uint64_t ms)
{
    w->now_ms += ms;
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        cacher_clock(w->cachers[i], w->now_ms, w->now_ms);
        cacher_timers(w->cachers[i]);
    }
    for (uint32_t i = 0; i < w->n_homes; i++) {
        if (w->homes[i] != NULL) {
            home_clock(w->homes[i], w->now_ms);
            home_timers(w->homes[i]);
        }
    }
}

void world_new_home(struct world *w, bool keep_log)
{
    if (w->n_homes == WORLD_HOMES) {
        return;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->n_log; i++) {
        if (keep_log) {
            w->log[i].txn = w->log[i].kind == LOG_WRITE ? 1 : w->log[i].txn;
            w->log[kept++] = w->log[i];
        } else if (w->log[i].kind == LOG_WRITE) {
            result(w, w->log[i].node, w->log[i].key, w->log[i].cookie, false, w->epoch, 0, 0, 0, false); /* nobody can say */
        }
    }
    w->n_log = kept;
    for (uint32_t i = 0; i < w->n_held; i++) {
        result(w, w->held_replies[i].node, w->held_replies[i].key, w->held_replies[i].cookie, false, w->epoch + 1, w->held_replies[i].before,
               w->held_replies[i].ticket, 0, true);
    }
    w->n_held = 0;
    uint8_t next = (uint8_t)((w->home_node[w->n_homes - 1] + 1) % w->n_nodes);
    home_open(w, next);
    cacher_clock(w->cachers[next], w->now_ms, w->now_ms); /* the others hear of it from the new home */
    cacher_home_changed(w->cachers[next], 0);
}

void world_crash(struct world *w, uint8_t node, bool keep_log)
{
    for (uint32_t i = 0; i < WORLD_BAG; i++) {
        bool theirs = w->bag[i].used && w->bag[i].node == node;
        w->bag[i].used = w->bag[i].used && !theirs;
    }
    struct cacher_stats st;
    cacher_stats(w->cachers[node], &st);
    w->lost += st.dirty > 0;
    for (uint32_t i = 0; i < w->n_ops; i++) {
        w->ops[i].done |= w->ops[i].node == node;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->n_held; i++) {
        if (w->held_replies[i].node != node) {
            w->held_replies[kept++] = w->held_replies[i];
        }
    }
    bool led = w->home_node[w->n_homes - 1] == node;
    if (led) {
        w->n_held = kept;
    }
    cacher_free(w->cachers[node]);
    w->lives[node]++;
    cacher_open(w, node);
    if (led && w->n_homes < WORLD_HOMES) {
        uint32_t old = w->n_homes - 1;
        world_new_home(w, keep_log);
        home_free(w->homes[old]);
        w->homes[old] = NULL;
    }
}

void world_evict(struct world *w, uint8_t node, uint8_t key)
{
    cacher_clock(w->cachers[node], w->now_ms, w->now_ms);
    cacher_drop(w->cachers[node], 0, key_name(key));
}

static bool is_readable(enum mesi_state s)
{
    return s == MESI_S || s == MESI_E || s == MESI_M || s == MESI_MS || s == MESI_MF;
}

void world_check(struct world *w)
{
    for (uint8_t key = 0; key < w->n_keys; key++) {
        uint32_t readers = 0, owners = 0;
        for (uint32_t i = 0; i < w->n_nodes; i++) {
            uint64_t version;
            struct cache_item it;
            cacher_clock(w->cachers[i], w->now_ms, w->now_ms);
            cacher_check(w->cachers[i]);
            enum mesi_state s = cacher_state(w->cachers[i], 0, key_name(key), &version);
            owners += s == MESI_E || s == MESI_M || s == MESI_MF;
            readers += is_readable(s);
            if (is_readable(s) && cacher_hit(w->cachers[i], 0, key_name(key), &it) && w->lost == 0) {
                uint8_t value = it.exists ? it.value.ptr[0] : 0;
                if (order_of[key][value] < order_of[key][w->acked[key]]) {
                    broken(w, "MC2: a line holds less than what was acknowledged");
                }
            }
        }
        if (owners > 1 || (owners == 1 && readers > 1)) {
            broken(w, "MC1: an owner beside another copy");
        }
    }
}

void world_drain(struct world *w)
{
    for (int round = 0; round < 60 && w->broken == NULL; round++) {
        bool any = false;
        for (uint32_t i = 0; i < WORLD_BAG; i++) {
            if (w->bag[i].used && is_ready(w, &w->bag[i])) {
                world_deliver(w, i, false);
                any = true;
                world_check(w);
            }
        }
        any |= w->n_log > 0;
        world_apply(w);
        bool over = !any && w->n_log == 0 && home_is_active(w->homes[w->n_homes - 1]);
        for (uint32_t i = 0; i < w->n_ops; i++) {
            over = over && w->ops[i].done;
        }
        for (uint32_t i = 0; i < w->n_nodes; i++) {
            over = over && cacher_quiet(w->cachers[i]);
        }
        if (over && home_quiet(w->homes[w->n_homes - 1])) {
            return;
        }
        if (!any) {
            world_tick(w, round < 40 ? 1000 : WORLD_LEASE_MS);
        }
    }
    broken(w, "MC13: something never ends");
}

uint64_t world_digest(struct world *w)
{
    uint64_t sum = hash_u64(w->epoch ^ w->index << 8 ^ w->lost << 16 ^ w->n_homes << 24);
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        sum = hash_u64(sum ^ cacher_digest(w->cachers[i]) ^ w->lives[i] << 3 ^ (uint64_t)w->held[i] << 9);
    }
    for (uint32_t i = 0; i < w->n_homes; i++) {
        sum = hash_u64(sum ^ (w->homes[i] != NULL ? home_digest(w->homes[i]) : 1));
    }
    for (uint32_t i = 0; i < w->n_keys; i++) {
        sum = hash_u64(sum ^ w->memory[i].version ^ (uint64_t)w->memory[i].value << 32 ^ (uint64_t)w->acked[i] << 40 ^ (uint64_t)w->next_value[i] << 48);
    }
    uint64_t bag = 0;
    for (uint32_t i = 0; i < WORLD_BAG; i++) {
        const struct world_msg *m = &w->bag[i];
        bag += m->used ? hash_u64(hash_bytes(m->to_home * 256u + m->node + 1, buf_slice(&m->bytes))) : 0;
    }
    sum = hash_u64(sum ^ bag);
    for (uint32_t i = 0; i < w->n_log; i++) {
        const struct world_log *e = &w->log[i];
        sum = hash_u64(sum ^ e->kind ^ (uint64_t)e->node << 8 ^ (uint64_t)e->key << 16 ^ e->txn << 24 ^ e->base << 32 ^ (uint64_t)e->value << 40 ^ e->cookie << 48);
    }
    for (uint32_t i = 0; i < w->n_ops; i++) {
        const struct world_op *o = &w->ops[i];
        sum = hash_u64(sum ^ o->done ^ (uint64_t)o->write << 1 ^ (uint64_t)o->node << 2 ^ (uint64_t)o->key << 5 ^ (uint64_t)o->least << 8);
    }
    return hash_u64(sum ^ w->n_held);
}
