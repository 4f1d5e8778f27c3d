/* See mesi_world.h. The ops are this test's own: 'R'; 'W' and a value, which overwrites; 'A' and a value, which replaces what it finds.
 *
 * What a node does beside cachers and homes is here as node_cache.c does it: a home begins when the log of its predecessors is applied, writes that were not
 * answered are asked again at the next home and done once, a command over several keys waits until nobody owns them. */
#include "mesi_world.h"

#include "arena.h"
#include "utils/assert.h"

#include <stdlib.h>
#include <string.h>

static struct world *current; /* cache_op_run has no other way to it */

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

void cache_op_run(slice_t op, const struct cache_item *in, struct cache_clock clock, struct cache_change *out, struct buf *reply)
{
    (void)clock;
    uint8_t found = in->exists ? in->value.ptr[0] : 0;
    buf_clear(&out->value);
    out->kind = CACHE_KEEP;
    out->guarded = false;
    out->expire_ms = 0;
    buf_put_u8(reply, found);
    if (op.ptr[0] == 'R') {
        return;
    }
    world_took(current, op.ptr[2], op.ptr[1], op.ptr[0] == 'A' ? found : OVER_ANY);
    out->kind = CACHE_PUT;
    buf_put_u8(&out->value, op.ptr[1]);
}

void world_broken(struct world *w, const char *why)
{
    w->broken = w->broken != NULL ? w->broken : why;
}

uint8_t world_newer(const struct world *w, uint8_t key, uint8_t a, uint8_t b)
{
    return w->order[key][a] > w->order[key][b] ? a : b;
}

static slice_t key_name(uint8_t key)
{
    static const char names[] = "01234567";
    return slice_of(names + key, 1);
}

static uint8_t key_of(slice_t name)
{
    return (uint8_t)(name.ptr[0] - '0');
}

static struct home *home_now(struct world *w)
{
    return w->homes[w->n_homes - 1];
}

/* --- the network */

static void bag_add(struct world *w, uint8_t to_home, uint8_t node, slice_t bytes)
{
    struct world_msg *free_one = NULL;
    syn_assert(bytes.len <= WORLD_MSG_BYTES);
    for (uint32_t i = 0; i < WORLD_BAG; i++) {
        struct world_msg *m = &w->bag[i];
        if (!m->used) {
            free_one = free_one != NULL ? free_one : m;
        } else if (m->to_home == to_home && m->node == node && slice_eq(slice_of(m->bytes, m->len), bytes)) {
            return; /* sent again before it arrived */
        }
    }
    if (free_one == NULL) {
        world_broken(w, "the network holds too many messages: something is sent without end");
        return;
    }
    *free_one = (struct world_msg){.used = true, .to_home = to_home, .node = node, .len = (uint8_t)bytes.len, .sent = ++w->sent};
    memcpy(free_one->bytes, bytes.ptr, bytes.len);
}

static void bag_add_msg(struct world *w, uint8_t to_home, uint8_t node, const struct cache_msg *m)
{
    struct buf b = {0};
    cache_msg_put(&b, m);
    bag_add(w, to_home, node, buf_slice(&b));
    buf_fini(&b);
}

static void bag_add_write(struct world *w, uint8_t kind, uint8_t node, const struct world_write *write)
{
    uint8_t bytes[1 + sizeof *write];
    bytes[0] = kind;
    memcpy(bytes + 1, write, sizeof *write);
    bag_add(w, kind == MSG_REQUEST ? 0 : TO_CACHER, node, slice_of(bytes, sizeof bytes));
}

static struct world_write write_in(const uint8_t *bytes)
{
    struct world_write write;
    memcpy(&write, bytes + 1, sizeof write);
    return write;
}

/* --- what cachers and homes call */

static void from_cacher(void *arg, const struct cache_msg *m)
{
    struct world_ref *r = arg;
    bag_add_msg(r->w, (uint8_t)(r->w->n_homes - 1), r->number, m);
}

static void from_home(void *arg, node_id_t to, const struct cache_msg *m)
{
    struct world_ref *r = arg;
    bag_add_msg(r->w, TO_CACHER, (uint8_t)(to - 1), m);
}

static void on_reply(void *arg, uint64_t cookie, slice_t resp)
{
    struct world_ref *r = arg;
    struct world_op *o = &r->w->ops[cookie];
    if (o->done) {
        world_broken(r->w, "an op was answered twice");
    }
    o->done = true;
    if (o->write) {
        world_acknowledged(r->w, o);
    } else {
        world_answered(r->w, o, resp.ptr[0]);
    }
}

static void on_write(void *arg, uint32_t group, slice_t key, slice_t op, uint64_t cookie)
{
    (void)group;
    struct world_ref *r = arg;
    struct world *w = r->w;
    struct world_write alone = {.kind = WRITE_BATCH, .node = r->number}, *write = w->in_turn ? &w->turn : &alone;
    write->parts[write->n++] = (struct world_part){key_of(key), op.ptr[1], (uint8_t)cookie};
    if (!w->in_turn) {
        bag_add_write(w, MSG_REQUEST, r->number, write);
    }
}

static void lookup(void *arg, slice_t key, struct cache_item *item, uint64_t *version)
{
    struct world_ref *r = arg;
    struct world_memory *m = &r->w->memory[key_of(key)];
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
    if (!leads(r)) {
        return false;
    }
    syn_assert(w->n_log < WORLD_LOG);
    w->log[w->n_log++] = e;
    return true;
}

static bool on_flush(void *arg, node_id_t from, const struct cache_msg *m)
{
    return log_add(arg, (struct world_log){.kind = LOG_FLUSH, .node = (uint8_t)(from - 1), .key = key_of(m->key), .txn = m->txn, .base = m->version,
                                           .value = m->item.exists ? m->item.value.ptr[0] : 0});
}

static bool on_fence(void *arg, slice_t key)
{
    return log_add(arg, (struct world_log){.kind = LOG_FENCE, .key = key_of(key)});
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

static void on_release(void *arg, uint64_t ticket)
{
    struct world_ref *r = arg;
    struct world *w = r->w;
    for (uint32_t i = 0; leads(r) && i < w->n_waiting; i++) {
        if (w->tickets[i] != ticket) {
            continue;
        }
        struct world_write write = w->waiting[i];
        w->n_waiting--;
        memmove(&w->waiting[i], &w->waiting[i + 1], (w->n_waiting - i) * sizeof *w->waiting);
        memmove(&w->tickets[i], &w->tickets[i + 1], (w->n_waiting - i) * sizeof *w->tickets);
        for (uint32_t p = 0; p < write.n; p++) {
            uint64_t seq = 0;
            bool counted = write.kind != WRITE_CLEAR; /* FLUSHALL names no keys */
            bool ours = counted && home_owned(w->homes[r->number], write.kind == WRITE_BATCH ? write.node + 1u : 0, key_name(write.parts[p].key), ticket, &seq);
            write.ours[p] = ours && !write.repeated;
            write.seq[p] = write.ours[p] ? seq : 0;
        }
        write.epoch = w->epoch;
        bag_add_write(w, MSG_RESULT, write.node, &write);
        return;
    }
}

/* --- who there is */

static void cacher_open(struct world *w, uint8_t node)
{
    w->cacher_refs[node] = (struct world_ref){w, node};
    struct cacher_options o = {.groups = 1, .hash_key = 1, .back = w->o.back, .lease_ms = WORLD_LEASE_MS, .flush_ms = 50000,
                               .first_txn = (uint64_t)w->lives[node] * 1000};
    struct cacher_io io = {.arg = &w->cacher_refs[node], .send = from_cacher, .reply = on_reply, .write = on_write};
    w->cachers[node] = cacher_new(&o, &io);
    cacher_clock(w->cachers[node], w->now_ms, w->now_ms);
}

static void home_open(struct world *w, uint8_t node)
{
    node_id_t holders[WORLD_NODES];
    uint32_t n = 0, at = w->n_homes++;
    syn_assert(at < WORLD_HOMES);
    for (uint32_t i = 0; i < w->o.nodes; i++) {
        if (w->held[i]) {
            holders[n++] = i + 1;
        }
    }
    w->home_refs[at] = (struct world_ref){w, (uint8_t)at};
    struct home_options o = {.epoch = ++w->epoch, .lease_ms = WORLD_LEASE_MS, .hash_key = 2, .back = w->o.back, .keys_max = w->o.directory};
    struct home_io io = {&w->home_refs[at], from_home, lookup, on_flush, on_fence, on_hold, on_vouch, on_release, NULL, NULL, NULL, NULL};
    w->home_node[at] = node;
    w->homes[at] = home_new(&o, &io, w->now_ms, holders, n);
    home_timers(w->homes[at]);
}

struct world *world_open(const struct world_options *o)
{
    struct world *w = arena_open(sizeof *w);
    current = w;
    w->o = *o;
    w->now_ms = 1000000;
    for (uint8_t i = 0; i < o->nodes; i++) {
        cacher_open(w, i);
    }
    home_open(w, 0);
    return w;
}

/* --- ops */

static uint8_t op_new(struct world *w, uint8_t node, uint8_t key, bool write)
{
    syn_assert(w->n_ops < WORLD_OPS && w->next_value[key] + 1 < WORLD_VALUES);
    struct world_op *o = &w->ops[w->n_ops];
    *o = (struct world_op){.write = write, .node = node, .key = key, .least = w->floor[key], .ever = w->ever[key]};
    o->value = write ? ++w->next_value[key] : 0;
    return (uint8_t)w->n_ops++;
}

static void op(struct world *w, uint8_t node, uint8_t key, bool write)
{
    uint8_t cookie = op_new(w, node, key, write);
    uint8_t bytes[] = {!write ? 'R' : w->o.counts ? 'A' : 'W', w->ops[cookie].value, key};
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

void world_write_two(struct world *w, uint8_t node, uint8_t a, uint8_t b)
{
    w->turn = (struct world_write){.kind = WRITE_BATCH, .node = node};
    w->in_turn = true;
    op(w, node, a, true);
    op(w, node, b, true);
    w->in_turn = false;
    if (w->turn.n > 0) {
        bag_add_write(w, MSG_REQUEST, node, &w->turn);
    }
}

void world_write_joint(struct world *w, uint8_t node, bool clear)
{
    struct world_write write = {.kind = clear ? WRITE_CLEAR : WRITE_JOINT, .node = node, .n = (uint8_t)w->o.keys};
    for (uint8_t key = 0; key < w->o.keys; key++) {
        uint8_t cookie = op_new(w, node, key, true);
        write.parts[key] = (struct world_part){key, w->ops[cookie].value, cookie};
    }
    bag_add_write(w, MSG_REQUEST, node, &write);
}

void world_expire(struct world *w, uint8_t key)
{
    log_add(&w->home_refs[w->n_homes - 1], (struct world_log){.kind = LOG_DUE, .key = key, .value = ++w->next_value[key]});
}

/* --- messages arrive */

static void on_result(struct world *w, struct cacher *c, const struct world_write *write)
{
    for (uint32_t p = 0; p < write->n; p++) {
        const struct world_part *part = &write->parts[p];
        struct world_op *o = &w->ops[part->cookie];
        if (o->done) {
            continue; /* who asked is gone */
        }
        o->done = true;
        if (!write->unsure && !write->refused) {
            world_acknowledged(w, o);
        }
        uint8_t bytes[] = {w->o.counts ? 'A' : 'W', o->value, part->key};
        enum cacher_outcome out = write->unsure ? CACHER_UNSURE : write->refused ? CACHER_NOT_DONE : write->ours[p] ? CACHER_DONE_OWNED : CACHER_DONE;
        if (write->kind == WRITE_BATCH) {
            cacher_wrote(c, 0, key_name(part->key), slice_of(bytes, sizeof bytes), out, write->epoch, write->before[p], write->version, write->seq[p]);
        }
    }
}

static void to_cacher(struct world *w, uint8_t node, slice_t bytes)
{
    struct cacher *c = w->cachers[node];
    cacher_clock(c, w->now_ms, w->now_ms);
    if (bytes.ptr[0] == MSG_RESULT) {
        struct world_write write = write_in(bytes.ptr);
        on_result(w, c, &write);
        return;
    }
    struct reader r = reader_of(bytes);
    struct cache_msg m;
    bool ok = cache_msg_get(&r, &m);
    syn_assert(ok && reader_done(&r));
    cacher_on(c, &m);
}

static bool all_settled(struct world *w, const struct world_write *write)
{
    bool all = true;
    for (uint32_t p = 0; w->o.back && write->kind == WRITE_JOINT && p < write->n; p++) {
        all &= home_settle(home_now(w), key_name(write->parts[p].key));
    }
    return all;
}

/* False: not yet, it is asked again. */
static bool on_request(struct world *w, const struct world_write *write)
{
    struct home *h = home_now(w);
    home_clock(h, w->now_ms);
    if (!all_settled(w, write)) {
        return false;
    }
    for (uint32_t p = 0; write->kind != WRITE_CLEAR && p < write->n; p++) {
        home_proposed(h, write->kind == WRITE_BATCH ? write->node + 1u : 0, key_name(write->parts[p].key));
    }
    log_add(&w->home_refs[w->n_homes - 1], (struct world_log){.kind = LOG_WRITE, .node = write->node, .write = *write});
    return true;
}

static void to_home(struct world *w, uint8_t home, uint8_t node, slice_t bytes)
{
    struct home *h = w->homes[home];
    if (h == NULL) {
        return;
    }
    struct reader r = reader_of(bytes);
    struct cache_msg m;
    bool ok = cache_msg_get(&r, &m);
    syn_assert(ok && reader_done(&r));
    home_clock(h, w->now_ms);
    home_on(h, node + 1u, &m);
}

bool world_is_ready(struct world *w, const struct world_msg *m)
{
    return m->bytes[0] != MSG_REQUEST || home_is_active(home_now(w));
}

void world_deliver(struct world *w, uint32_t i, bool keep)
{
    struct world_msg m = w->bag[i];
    if (!m.used || !world_is_ready(w, &m)) {
        return;
    }
    if (m.bytes[0] == MSG_REQUEST) { /* those are de-duplicated before they come here */
        struct world_write write = write_in(m.bytes);
        w->bag[i].used = !on_request(w, &write);
        return;
    }
    w->bag[i].used = keep && m.bytes[0] != MSG_RESULT;
    if (m.to_home == TO_CACHER) {
        to_cacher(w, m.node, slice_of(m.bytes, m.len));
    } else {
        to_home(w, m.to_home, m.node, slice_of(m.bytes, m.len));
    }
}

void world_drop(struct world *w, uint32_t i)
{
    if (w->bag[i].bytes[0] < MSG_REQUEST) {
        w->bag[i].used = false;
    }
}

bool world_can_refuse(const struct world_msg *m)
{
    struct world_write write = write_in(m->bytes);
    return m->bytes[0] == MSG_REQUEST && write.kind == WRITE_BATCH && !write.repeated;
}

void world_refuse(struct world *w, uint32_t i)
{
    struct world_write write = write_in(w->bag[i].bytes);
    w->bag[i].used = false;
    write.refused = true;
    bag_add_write(w, MSG_RESULT, write.node, &write);
}

/* --- memory. h NULL: nobody leads, the entry is of an earlier home */

static void apply_flush(struct world *w, struct home *h, const struct world_log *e)
{
    struct world_memory *m = &w->memory[e->key];
    uint64_t version = 0;
    if (w->flushed[e->node][e->key].txn == e->txn) {
        version = w->flushed[e->node][e->key].version; /* answered before */
    } else if (m->version == e->base) {
        m->value = e->value;
        version = m->version = ++w->index;
    } else if (w->cleared[e->key]) {
        world_may_lose(w, e->key);
    } else if (!w->lossy[e->key] && e->txn > w->flushed[e->node][e->key].txn) { /* else one of an earlier time */
        world_broken(w, "MC8: an owner under a live lease has lost its write");
    }
    if (e->txn > w->flushed[e->node][e->key].txn) {
        w->flushed[e->node][e->key].txn = e->txn;
        w->flushed[e->node][e->key].version = version;
    }
    if (h != NULL) {
        home_flushed(h, e->node + 1u, key_name(e->key), e->txn, version);
    }
}

static void put(struct world *w, uint8_t key, uint8_t value, bool looks)
{
    struct world_memory *m = &w->memory[key];
    if (looks && w->order[key][m->value] < w->order[key][w->floor[key]]) {
        world_broken(w, "MC2: a command at memory did not see what was acknowledged");
    }
    world_took(w, key, value, looks && w->o.counts ? m->value : OVER_ANY);
    m->value = value;
    m->version = w->index;
}

static void apply_write(struct world *w, struct home *h, struct world_write *write)
{
    uint64_t ticket = ++w->index;
    for (uint32_t p = 0; !write->repeated && p < write->n; p++) {
        write->before[p] = w->memory[write->parts[p].key].version;
        put(w, write->parts[p].key, write->parts[p].value, write->kind != WRITE_CLEAR);
        write->version = ticket;
        w->cleared[write->parts[p].key] |= write->kind == WRITE_CLEAR;
    }
    if (h == NULL) {
        return;
    }
    syn_assert(w->n_waiting < WORLD_LOG);
    w->tickets[w->n_waiting] = ticket;
    w->waiting[w->n_waiting++] = *write;
    if (write->kind == WRITE_CLEAR) {
        home_applied_all(h, ticket);
    }
    for (uint32_t p = 0; write->kind != WRITE_CLEAR && p < write->n; p++) {
        home_applied(h, key_name(write->parts[p].key), ticket);
    }
    home_close(h, ticket);
}

static void apply_due(struct world *w, struct home *h, const struct world_log *e)
{
    struct world_memory *m = &w->memory[e->key];
    uint64_t version = m->version;
    w->index++;
    put(w, e->key, e->value, false);
    m->version = w->o.back ? version : m->version; /* an owner's newer value outlives what expired */
    if (h != NULL) {
        home_applied(h, key_name(e->key), w->index);
        home_close(h, w->index);
    }
}

static void apply(struct world *w, struct home *h, struct world_log *e)
{
    switch (e->kind) {
    case LOG_WRITE: apply_write(w, h, &e->write); break;
    case LOG_FLUSH: apply_flush(w, h, e); break;
    case LOG_DUE: apply_due(w, h, e); break;
    case LOG_FENCE:
        w->memory[e->key].version = ++w->index;
        world_may_lose(w, e->key);
        if (h != NULL) {
            home_fenced(h, key_name(e->key));
        }
        break;
    case LOG_HOLD:
        w->held[e->node] = true;
        if (h != NULL) {
            home_held(h, e->node + 1u);
        }
        break;
    }
}

void world_apply(struct world *w)
{
    if (w->n_log > 0) {
        struct world_log e = w->log[0];
        memmove(w->log, w->log + 1, --w->n_log * sizeof *w->log);
        home_clock(home_now(w), w->now_ms);
        apply(w, home_now(w), &e);
    }
}

/* --- time and faults */

void world_tick(struct world *w, uint64_t ms)
{
    w->now_ms += ms;
    for (uint32_t i = 0; i < w->o.nodes; i++) {
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

/* Who asked for a write hears nothing from a home that went: asks again, or gives up. */
static void ask_again(struct world *w, struct world_write write, enum world_fate fate)
{
    if (w->ops[write.parts[0].cookie].done) {
        return; /* its node has crashed */
    }
    write.unsure = fate == FATE_UNSURE;
    write.repeated |= write.version != 0 && !write.unsure;
    bag_add_write(w, write.unsure ? MSG_RESULT : MSG_REQUEST, write.node, &write);
}

static bool is_dirty_at(struct world *w, uint8_t node, uint8_t key)
{
    uint64_t version;
    enum mesi_state s = cacher_state(w->cachers[node], 0, key_name(key), &version);
    return s == MESI_M || s == MESI_MI || s == MESI_MS || s == MESI_MF;
}

void world_new_home(struct world *w, uint8_t node, enum world_fate fate)
{
    struct world_log log[WORLD_LOG];
    uint32_t n = w->n_log;
    memcpy(log, w->log, sizeof log);
    w->n_log = 0;
    for (uint32_t i = 0; i < w->n_waiting; i++) {
        ask_again(w, w->waiting[i], fate);
    }
    w->n_waiting = 0;
    for (uint32_t i = 0; i < n; i++) { /* the new home begins behind the log of the old one */
        if (fate != FATE_LOST) {
            apply(w, NULL, &log[i]);
        }
        if (log[i].kind == LOG_WRITE) {
            ask_again(w, log[i].write, fate);
        }
        if (log[i].kind == LOG_FLUSH && fate == FATE_LOST && !is_dirty_at(w, log[i].node, log[i].key)) {
            world_may_lose(w, log[i].key); /* its owner, who would send it again, has crashed */
        }
    }
    home_open(w, node);
    cacher_clock(w->cachers[node], w->now_ms, w->now_ms); /* the others hear of it from the new home */
    cacher_home_changed(w->cachers[node], 0);
}

static void forget_node(struct world *w, uint8_t node)
{
    for (uint32_t i = 0; i < WORLD_BAG; i++) {
        bool theirs = w->bag[i].used && w->bag[i].node == node;
        w->bag[i].used = w->bag[i].used && !theirs;
    }
    for (uint32_t i = 0; i < w->n_ops; i++) {
        w->ops[i].done |= w->ops[i].node == node;
    }
    for (uint8_t key = 0; key < w->o.keys; key++) {
        if (is_dirty_at(w, node, key)) {
            world_may_lose(w, key);
        }
    }
}

void world_crash(struct world *w, uint8_t node, uint8_t next, enum world_fate fate)
{
    forget_node(w, node);
    cacher_free(w->cachers[node]);
    w->lives[node]++;
    cacher_open(w, node);
    if (w->home_node[w->n_homes - 1] == node) {
        uint32_t old = w->n_homes - 1;
        world_new_home(w, next, fate);
        home_free(w->homes[old]);
        w->homes[old] = NULL;
    }
}

void world_evict(struct world *w, uint8_t node, uint8_t key)
{
    cacher_clock(w->cachers[node], w->now_ms, w->now_ms);
    cacher_drop(w->cachers[node], 0, key_name(key));
}
