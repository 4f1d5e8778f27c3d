/* What must hold of a world, looked at from inside: in every state MC1 (an owner, or readers), MC2 (nothing older than what was acknowledged is read), MC4 (the
 * directory names who has lines), MC12 (what was acknowledged is in memory or at an owner); of answers MC5; from every state MC13 (all ends, nothing transient
 * is left).
 *
 * `back` may lose what an owner did not flush when it crashes, is fenced off, or is not heard of until a new home begins. `floor` falls then to what memory
 * has, and all goes on holding from there. What was read away so never comes back (`dead`). */
#include "mesi_world.h"

#include "nodes/cache/cacher_internal.h"
#include "nodes/cache/home_internal.h"
#include "utils/assert.h"

static slice_t key_name(uint8_t key)
{
    static const char names[] = "01234567";
    return slice_of(names + key, 1);
}

static bool is_dirty(uint8_t s)
{
    return s == MESI_M || s == MESI_MI || s == MESI_MS || s == MESI_MF;
}

static bool is_owner(uint8_t s)
{
    return s == MESI_E || s == MESI_M || s == MESI_MF;
}

static bool is_readable(uint8_t s)
{
    return is_owner(s) || s == MESI_S || s == MESI_MS;
}

static const struct line *line_at_node(const struct world *w, uint32_t node, uint8_t key)
{
    return lines_find(&w->cachers[node]->lines, 0, key_name(key));
}

static bool can_read(const struct world *w, uint32_t node, const struct line *l)
{
    const struct cacher_group *g = &w->cachers[node]->groups[0];
    bool over = line_flight(l) == NULL && l->state != MESI_M && l->life != g->life;
    return is_readable(l->state) && w->now_ms < g->lease_end_ms && !over;
}

static uint8_t value_in(const struct line *l)
{
    struct cache_item it = lines_item(l);
    return it.exists ? it.value.ptr[0] : 0;
}

static bool older(const struct world *w, uint8_t key, uint8_t a, uint8_t b)
{
    return w->order[key][a] < w->order[key][b];
}

/* The newest value that memory has, or will get. */
static uint8_t newest_held(const struct world *w, uint8_t key)
{
    uint8_t best = w->memory[key].value;
    for (uint32_t i = 0; i < w->o.nodes; i++) {
        const struct line *l = line_at_node(w, i, key);
        best = l != NULL && is_dirty(l->state) ? world_newer(w, key, best, value_in(l)) : best;
    }
    for (uint32_t i = 0; i < w->n_log; i++) {
        const struct world_log *e = &w->log[i];
        best = e->kind == LOG_FLUSH && e->key == key ? world_newer(w, key, best, e->value) : best;
    }
    return best;
}

void world_took(struct world *w, uint8_t key, uint8_t value, uint8_t over)
{
    if (w->order[key][value] != 0) {
        if (w->parent[key][value] != over) {
            world_broken(w, "MC2: a line follows a write on another value than memory did");
        }
        return;
    }
    w->order[key][value] = ++w->last_order[key];
    w->parent[key][value] = over;
    if (over == OVER_ANY) {
        return;
    }
    if (w->dead[key] >> over & 1 || older(w, key, over, w->floor[key])) {
        world_broken(w, "MC2: a write did not see what was acknowledged before it");
    }
    if (w->children[key] >> over & 1 && !w->lossy[key]) {
        world_broken(w, "MC2: two writes counted from one value");
    }
    w->children[key] |= 1u << over;
}

void world_acknowledged(struct world *w, const struct world_op *o)
{
    w->ever[o->key] = world_newer(w, o->key, o->value, w->ever[o->key]);
    w->floor[o->key] = world_newer(w, o->key, o->value, w->floor[o->key]);
}

void world_answered(struct world *w, const struct world_op *o, uint8_t value)
{
    if (older(w, o->key, value, o->least)) {
        world_broken(w, "MC5: a read returned less than what was acknowledged before it began");
    }
    if (w->dead[o->key] >> value & 1) {
        world_broken(w, "MC12: a write that was lost came back");
    }
    for (uint8_t x = 1; x <= w->next_value[o->key]; x++) {
        bool lost = older(w, o->key, value, x) && !older(w, o->key, o->ever, x);
        w->dead[o->key] |= lost ? 1u << x : 0;
    }
    w->ever[o->key] = world_newer(w, o->key, value, w->ever[o->key]); /* what was seen must be seen from then on */
    if (!w->lossy[o->key] || !older(w, o->key, newest_held(w, o->key), value)) { /* else its owner and memory's log went while it was under way to the reader */
        w->floor[o->key] = world_newer(w, o->key, value, w->floor[o->key]);
    }
}

void world_may_lose(struct world *w, uint8_t key)
{
    if (!w->o.back) {
        return; /* nothing: a write through is in memory before it is acknowledged */
    }
    uint8_t has = w->memory[key].value;
    w->lossy[key] = true;
    w->floor[key] = older(w, key, has, w->floor[key]) ? has : w->floor[key];
    for (uint32_t i = 0; i < w->n_ops; i++) {
        struct world_op *o = &w->ops[i];
        o->least = o->key == key && older(w, key, has, o->least) ? has : o->least;
    }
}

/* --- messages that change nothing */

/* Would the cacher leave it unread, now and at any later time? Transactions and epochs only grow, and a lease that was over when it came stays over. */
static bool cacher_ignores(const struct world *w, uint8_t node, const struct cache_msg *m)
{
    const struct cacher *c = w->cachers[node];
    if (m->epoch != c->groups[0].epoch) {
        return m->epoch < c->groups[0].epoch; /* answered with the epoch, which no home needs */
    }
    const struct line *l = lines_find(&c->lines, 0, m->key);
    const struct flight *f = l != NULL ? line_flight(l) : NULL;
    switch (m->kind) {
    case CACHE_MSG_DATA: return f == NULL || f->txn != m->txn;
    case CACHE_MSG_FLUSHED: return f == NULL || f->txn != m->txn || f->in_group.next == NULL;
    case CACHE_MSG_GRANT: return m->txn + m->version - m->version / LEASE_MARGIN <= w->now_ms;
    default: return false;
    }
}

static bool home_ignores(const struct world *w, const struct world_msg *msg, const struct cache_msg *m)
{
    struct home *h = w->homes[msg->to_home];
    if (h == NULL || m->kind == CACHE_MSG_EPOCH || (m->kind != CACHE_MSG_LEASE && m->epoch != h->o.epoch)) {
        return true;
    }
    if (m->kind != CACHE_MSG_ACK || m->dirty) {
        return false;
    }
    const struct home_key *k = home_key_find(h, m->key);
    uint8_t slot = home_holder(h, msg->node + 1u);
    bool counts = k != NULL && slot != NO_SLOT && k->waiting >> slot & 1 && (k->snoop_seq == m->seq);
#ifdef SYN_MUTANTS
    counts |= k != NULL; /* the fault may be that it counts */
#endif
    return !counts;
}

void world_tidy(struct world *w)
{
    for (uint32_t i = 0; i < WORLD_BAG; i++) {
        struct world_msg *msg = &w->bag[i];
        if (!msg->used || msg->bytes[0] >= MSG_REQUEST) {
            continue;
        }
        struct cache_msg m;
        struct reader r = reader_of(slice_of(msg->bytes, msg->len));
        bool ok = cache_msg_get(&r, &m);
        syn_assert(ok);
        msg->used = !(msg->to_home == TO_CACHER ? cacher_ignores(w, msg->node, &m) : home_ignores(w, msg, &m));
    }
}

/* --- every state */

/* A new home began without a word from who may be dirty. */
static void look_for_loss(struct world *w)
{
    const struct home *h = w->homes[w->n_homes - 1];
    for (uint32_t i = 0; h->active && i < h->n_holders; i++) {
        for (uint8_t key = 0; !h->holders[i].reported && key < w->o.keys; key++) {
            const struct line *l = line_at_node(w, h->holders[i].node - 1u, key);
            if (l != NULL && is_dirty(l->state)) {
                world_may_lose(w, key);
            }
        }
    }
}

static void check_directory(struct world *w, uint32_t node, uint8_t key, const struct line *l)
{
    struct home *h = w->homes[w->n_homes - 1];
    if (w->cachers[node]->groups[0].epoch != h->o.epoch) {
        return; /* of an earlier home: this one waits for its report */
    }
    struct home_key_info info;
    home_info(h, key_name(key), &info);
    bool named = info.owner == node + 1;
    for (uint32_t i = 0; i < info.n_sharers; i++) {
        named |= info.sharers[i] == node + 1 && !is_owner(l->state);
    }
    if (!named) {
        world_broken(w, "MC4: the directory does not name who has a line");
    }
}

static void check_line(struct world *w, uint32_t node, uint8_t key, const struct line *l)
{
    uint8_t value = value_in(l);
    if (older(w, key, value, w->floor[key])) {
        world_broken(w, "MC2: a line holds less than what was acknowledged");
    }
    if (w->dead[key] >> value & 1) {
        world_broken(w, "MC12: a line holds a write that was lost");
    }
    check_directory(w, node, key, l);
}

static void check_key(struct world *w, uint8_t key)
{
    uint32_t readers = 0, owners = 0;
    for (uint32_t i = 0; i < w->o.nodes; i++) {
        const struct line *l = line_at_node(w, i, key);
        if (l != NULL && can_read(w, i, l)) {
            readers++;
            owners += is_owner(l->state);
            check_line(w, i, key, l);
        }
    }
    if (owners > 1 || (owners == 1 && readers > 1)) {
        world_broken(w, "MC1: an owner beside another copy");
    }
    if (older(w, key, newest_held(w, key), w->floor[key])) {
        world_broken(w, "MC12: what was acknowledged is nowhere");
    }
}

void world_check(struct world *w)
{
    look_for_loss(w);
    for (uint8_t key = 0; key < w->o.keys; key++) {
        check_key(w, key);
    }
}

/* --- the end */

/* A command that waits for owners comes again and again. */
static bool knocks(const struct world *w, const struct world_msg *m)
{
    return w->o.back && m->bytes[0] == MSG_REQUEST && m->bytes[1] == WRITE_JOINT;
}

bool world_is_still(struct world *w)
{
    bool still = w->n_log == 0;
    for (uint32_t i = 0; still && i < WORLD_BAG; i++) {
        const struct world_msg *m = &w->bag[i];
        still = !m->used || !world_is_ready(w, m) || knocks(w, m);
    }
    return still;
}

static bool is_over(struct world *w)
{
    struct home *h = w->homes[w->n_homes - 1];
    bool over = home_is_active(h) && home_quiet(h) && w->n_waiting == 0 && w->n_log == 0;
    for (uint32_t i = 0; i < w->n_ops; i++) {
        over = over && w->ops[i].done;
    }
    for (uint32_t i = 0; i < w->o.nodes; i++) {
        over = over && cacher_quiet(w->cachers[i]);
    }
    for (uint8_t key = 0; over && key < w->o.keys; key++) {
        const struct home_key *k = home_key_find(h, key_name(key));
        over = k == NULL || ((k->state == HOME_I || k->state == HOME_S || k->state == HOME_O) && list_empty(&k->asking) && list_empty(&k->tickets) &&
                             k->writes == 0 && k->flushes == 0);
    }
    return over && h->tickets.count == 0;
}

/* The one that was sent next after a given one. */
static struct world_msg *next_sent(struct world *w, uint32_t after, uint32_t until)
{
    struct world_msg *first = NULL;
    for (uint32_t i = 0; i < WORLD_BAG; i++) {
        struct world_msg *m = &w->bag[i];
        bool fits = m->used && m->sent > after && m->sent <= until;
        first = fits && (first == NULL || m->sent < first->sent) ? m : first;
    }
    return first;
}

/* All that was sent until now, in that order. */
static bool deliver_all(struct world *w)
{
    bool any = w->n_log > 0;
    uint32_t at = 0, until = w->sent;
    for (struct world_msg *m; (m = next_sent(w, at, until)) != NULL;) {
        bool knock = knocks(w, m), ready = world_is_ready(w, m);
        at = m->sent;
        world_deliver(w, (uint32_t)(m - w->bag), false);
        any |= ready && !(knock && m->used && m->sent == at);
        world_tidy(w);
        world_check(w);
    }
    world_apply(w);
    world_check(w);
    return any;
}

void world_drain(struct world *w)
{
    for (int round = 0; round < 80 && w->broken == NULL; round++) {
        bool any = deliver_all(w);
        if (!any && is_over(w)) {
            return;
        }
        if (!any) {
            world_tick(w, round < 50 ? 1000 : WORLD_LEASE_MS);
            world_check(w);
        }
    }
    world_broken(w, "MC13: something never ends");
}
