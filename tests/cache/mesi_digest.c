/* A number for a state of the world: two states have the same when, whatever is done from there, both do the same but for names.
 *
 * All that decides what happens next is in it; names are replaced by their rank among those of their kind that are still there:
 *  - transactions of a node and key: they are compared for equality, and a new one is above all;
 *  - what a home says about a key (seq), per epoch: compared by order, a new one is above all;
 *  - versions of a key: likewise, 0 stays 0; of all keys together where one entry writes several;
 *  - ops that wait: what they do and what they may return, not their number; ops that ended are gone;
 *  - the network is a multiset; nodes have no names: they are numbered in the order of their own digests (who leads goes along, as does the order of holders), and
 *    of the ways to number equal ones the least digest counts.
 * Left out are counters, keys' places in tables, and `low` of a flush, which only memory's forgetting reads. Times are as they are. */
#include "mesi_world.h"

#include "nodes/cache/cacher_internal.h"
#include "nodes/cache/home_internal.h"
#include "utils/assert.h"
#include "utils/hash.h"

enum { NAMES = 128, PERMUTATIONS = 6 };

struct names { uint64_t v[NAMES]; uint32_t n; };

struct view {                 /* of one digest */
    const struct world *w;
    struct names txns[WORLD_NODES][WORLD_KEYS], seqs[WORLD_HOMES + 1][WORLD_KEYS], versions[WORLD_KEYS];
    uint64_t node[WORLD_NODES];              /* all of a node but its number */
    uint64_t mail[WORLD_NODES];              /* messages to and from it */
    struct cache_msg msgs[WORLD_BAG];
    bool collecting;
};

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

/* The first walk collects names, the second asks for ranks. */
static uint64_t rank(struct view *v, struct names *names, uint64_t x)
{
    uint32_t below = 0;
    if (v->collecting) {
        for (uint32_t i = 0; i < names->n; i++) {
            if (names->v[i] == x) {
                return 0;
            }
        }
        syn_assert(names->n < NAMES);
        names->v[names->n++] = x;
        return 0;
    }
    for (uint32_t i = 0; i < names->n; i++) {
        below += names->v[i] < x;
    }
    return below + 1;
}

static uint64_t txn_of(struct view *v, uint32_t node, uint8_t key, uint64_t txn)
{
    return txn == 0 ? 0 : rank(v, &v->txns[node][key], txn);
}

static uint64_t seq_of(struct view *v, uint64_t epoch, uint8_t key, uint64_t seq)
{
    syn_assert(epoch <= WORLD_HOMES);
    return rank(v, &v->seqs[epoch][key], seq);
}

static uint64_t version_of(struct view *v, uint8_t key, uint64_t version)
{
    return version == 0 ? 0 : rank(v, &v->versions[v->w->o.keys > 1 ? 0 : key], version);
}

static uint8_t key_of(slice_t name)
{
    return (uint8_t)(name.ptr[0] - '0');
}

static slice_t key_name(uint8_t key)
{
    static const char names[] = "01234567";
    return slice_of(names + key, 1);
}

static uint64_t op_of(const struct world *w, uint64_t cookie)
{
    const struct world_op *o = &w->ops[cookie];
    return 1u | (uint64_t)o->write << 1 | (uint64_t)o->done << 2 | (uint64_t)o->key << 3 | (uint64_t)o->value << 8 | (uint64_t)o->least << 16 | (uint64_t)o->ever << 24;
}

static uint64_t item_of(const struct cache_item *it)
{
    return it->exists ? 1u + it->value.ptr[0] : 0;
}

/* --- a node */

static uint64_t flight_digest(struct view *v, uint32_t node, uint8_t key, const struct flight *f)
{
    uint64_t h = mix(txn_of(v, node, key, f->txn), f->snoop_epoch);
    h = f->snoop_epoch != 0 ? mix(h, seq_of(v, f->snoop_epoch, key, f->snoop_seq)) : h;
    h = mix(mix(h, f->asked_ms), f->retry_ms);
    h = mix(h, (f->tries < 6 ? f->tries : 6) | (uint64_t)f->writes << 8 | (uint64_t)f->unsure << 16 | (uint64_t)(f->in_group.next != NULL) << 17);
    h = mix(h, version_of(v, key, f->newest));
    list_each(it, (struct list *)&f->waiters) {
        const struct waiter *x = CONTAINER_OF(it, struct waiter, link);
        h = mix(h, op_of(v->w, x->cookie) << 2 | (uint64_t)x->old << 1 | x->access);
    }
    return h;
}

static uint64_t line_digest(struct view *v, uint32_t node, uint8_t key)
{
    const struct cacher *c = v->w->cachers[node];
    const struct line *l = lines_find(&c->lines, 0, key_name(key));
    const struct flight *f = l != NULL ? line_flight(l) : NULL;
    txn_of(v, node, key, c->next_txn);
    if (l == NULL || (f == NULL && l->state != MESI_M && l->life != c->groups[0].life)) {
        return 1; /* none, or none that is left when it is looked for */
    }
    struct cache_item it = lines_item(l);
    uint64_t h = mix(l->state | (uint64_t)(l->life == c->groups[0].life) << 8, item_of(&it));
    h = mix(h, version_of(v, key, l->version));
    h = line_is_dirty(l) ? mix(h, line_more(l)->dirty_since_ms) : h;
    return f != NULL ? mix(h, flight_digest(v, node, key, f)) : h;
}

static uint64_t cacher_of(struct view *v, uint32_t node)
{
    const struct cacher_group *g = &v->w->cachers[node]->groups[0];
    uint64_t h = mix(g->epoch | g->report_epoch << 8 | g->reported_epoch << 16 | (uint64_t)v->w->held[node] << 24 | (uint64_t)v->w->lives[node] << 25, g->lease_end_ms);
    h = mix(mix(h, g->ask_again_ms), g->wanted_ms);
    for (uint8_t key = 0; key < v->w->o.keys; key++) {
        h = mix(h, line_digest(v, node, key));
        h = mix(h, txn_of(v, node, key, v->w->flushed[node][key].txn));
        h = mix(h, version_of(v, key, v->w->flushed[node][key].version));
    }
    if (!list_empty(&g->dirty)) {
        h = mix(h, line_key(dirty_of(g->dirty.next)->line).ptr[0]);
    }
    for (uint32_t i = 0; i < v->w->n_ops; i++) {
        h += v->w->ops[i].node == node && !v->w->ops[i].done ? mix(7, op_of(v->w, i)) : 0;
    }
    return h;
}

/* --- the network */

static uint64_t write_digest(struct view *v, const struct world_write *x)
{
    uint64_t h = mix(x->kind, x->n | (uint64_t)x->repeated << 8 | (uint64_t)x->unsure << 9 | (uint64_t)x->refused << 10 | x->epoch << 16);
    for (uint32_t p = 0; p < x->n; p++) {
        uint8_t key = x->parts[p].key;
        h = mix(mix(h, op_of(v->w, x->parts[p].cookie)), x->ours[p]);
        h = mix(mix(h, version_of(v, key, x->version)), version_of(v, key, x->before[p]));
        h = x->ours[p] ? mix(h, seq_of(v, x->epoch, key, x->seq[p])) : h;
    }
    return h;
}

static uint64_t msg_digest(struct view *v, uint32_t node, const struct cache_msg *m)
{
    uint64_t h = mix(m->kind | (uint64_t)m->grant << 8 | (uint64_t)m->dirty << 16, m->epoch);
    bool of_time = m->kind == CACHE_MSG_LEASE || m->kind == CACHE_MSG_GRANT;
    if (of_time || m->key.len == 0) {
        return mix(mix(h, m->txn), m->version);
    }
    uint8_t key = key_of(m->key);
    h = mix(mix(h, key), txn_of(v, node, key, m->txn));
    h = m->seq != 0 ? mix(h, seq_of(v, m->epoch, key, m->seq)) : h;
    return mix(mix(h, version_of(v, key, m->version)), item_of(&m->item));
}

static void read_mail(struct view *v)
{
    for (uint32_t i = 0; i < WORLD_BAG; i++) {
        const struct world_msg *m = &v->w->bag[i];
        if (m->used && m->bytes[0] < MSG_REQUEST) {
            struct reader r = reader_of(slice_of(m->bytes, m->len));
            bool ok = cache_msg_get(&r, &v->msgs[i]);
            syn_assert(ok);
        }
    }
}

static void mail_digest(struct view *v)
{
    for (uint32_t i = 0; i < WORLD_BAG; i++) {
        const struct world_msg *m = &v->w->bag[i];
        if (!m->used) {
            continue;
        }
        struct world_write x;
        bool is_write = m->bytes[0] >= MSG_REQUEST;
        if (is_write) {
            memcpy(&x, m->bytes + 1, sizeof x);
        }
        uint64_t h = is_write ? mix(m->bytes[0], write_digest(v, &x)) : mix(m->to_home, msg_digest(v, m->node, &v->msgs[i]));
        v->mail[m->node] += hash_u64(h);
    }
}

/* --- homes and memory, with nodes numbered as `as` says */

static uint64_t slots(const struct home *h, uint64_t set, const uint8_t *as)
{
    uint64_t out = 0;
    for (; set != 0; set &= set - 1) {
        out |= 1ull << as[h->holders[__builtin_ctzll(set)].node - 1];
    }
    return out;
}

static uint64_t slot(const struct home *h, uint8_t at, const uint8_t *as)
{
    return at == NO_SLOT ? NO_SLOT : as[h->holders[at].node - 1];
}

static uint64_t key_digest(struct view *v, const struct home *h, uint8_t key, const uint8_t *as)
{
    const struct home_key *k = home_key_find((struct home *)h, key_name(key));
    if (k == NULL) {
        return 3;
    }
    uint64_t x = mix(k->state | slot(h, k->owner, as) << 8 | slots(h, k->sharers, as) << 16 | slots(h, k->waiting, as) << 24, k->writes | (uint64_t)k->flushes << 32);
    if (k->snooping.next != NULL) {
        x = mix(mix(x, k->snoop_kind | (uint64_t)(k->tries < 6 ? k->tries : 6) << 8), seq_of(v, h->o.epoch, key, k->snoop_seq));
        x = mix(x, k->resend_ms);
    }
    if (k->flush_txn != 0) {
        x = mix(mix(x, slot(h, k->flush_slot, as)), txn_of(v, h->holders[k->flush_slot].node - 1, key, k->flush_txn));
    }
    if (k->state == HOME_OF || k->state == HOME_XF) {
        x = mix(mix(x, slot(h, k->awaited_slot, as)), txn_of(v, h->holders[k->awaited_slot].node - 1, key, k->awaited_txn));
    }
    x = k->writes > 0 ? mix(x, version_of(v, key, k->newest)) : x;
    x = k->reserved != NULL ? mix(x, k->reserved->until_ms) : x;
    list_each(it, (struct list *)&k->asking) {
        const struct asking *a = CONTAINER_OF(it, struct asking, link);
        x = mix(mix(x, slot(h, a->slot, as) << 8 | a->kind), txn_of(v, h->holders[a->slot].node - 1, key, a->txn));
    }
    list_each(it, (struct list *)&k->tickets) {
        const struct ticket *t = CONTAINER_OF(it, struct ticket_ref, in_key)->ticket;
        x = mix(mix(x, t->keys | (uint64_t)t->closed << 8), version_of(v, key, t->no));
    }
    return x;
}

static uint64_t home_of(struct view *v, const struct home *h, const uint8_t *as)
{
    uint64_t x = mix(h->o.epoch | (uint64_t)h->active << 8 | (uint64_t)h->vouching << 9, h->vouched_ms);
    x = h->active ? x : mix(x, h->began_ms);
    x = h->vouching ? mix(x, h->vouch_ms) : x;
    for (uint8_t key = 0; key < v->w->o.keys; key++) {
        x = mix(x, key_digest(v, h, key, as));
    }
    if (h->o.keys_max > 0) {
        list_each(it, (struct list *)&h->order) {
            x = mix(x, CONTAINER_OF(it, struct home_key, order)->key[0]);
        }
    }
    for (uint32_t i = 0; i < h->n_holders; i++) {
        const struct holder *o = &h->holders[i];
        x = mix(x, as[o->node - 1] | (uint64_t)o->reported << 8 | (uint64_t)o->held << 9 | (uint64_t)o->hold_asked << 10 | (uint64_t)o->waits << 11);
        x = mix(mix(x, o->until_ms), o->waits ? o->asked_txn : 0);
        x = mix(x, !h->active ? o->tell_ms : 0);
        for (uint8_t key = 0; key < v->w->o.keys; key++) {
            x = mix(x, txn_of(v, o->node - 1, key, o->refused_txn));
        }
    }
    return x;
}

static uint64_t log_digest(struct view *v, const uint8_t *as)
{
    uint64_t h = 0;
    for (uint32_t i = 0; i < v->w->n_log; i++) {
        const struct world_log *e = &v->w->log[i];
        h = mix(h, e->kind | (e->kind == LOG_FENCE || e->kind == LOG_DUE ? 0u : (uint64_t)as[e->node] << 8) | (uint64_t)e->key << 16 | (uint64_t)e->value << 24);
        h = e->kind == LOG_FLUSH ? mix(mix(h, txn_of(v, e->node, e->key, e->txn)), version_of(v, e->key, e->base)) : h;
        h = e->kind == LOG_WRITE ? mix(h, write_digest(v, &e->write)) : h;
    }
    for (uint32_t i = 0; i < v->w->n_waiting; i++) {
        const struct world_write *x = &v->w->waiting[i];
        h += mix(mix(mix(17, as[x->node]), version_of(v, x->parts[0].key, v->w->tickets[i])), write_digest(v, x));
    }
    return h;
}

static uint64_t memory_digest(struct view *v)
{
    const struct world *w = v->w;
    uint64_t h = w->now_ms ^ w->n_homes << 20;
    for (uint8_t key = 0; key < w->o.keys; key++) {
        h = mix(mix(h, version_of(v, key, w->memory[key].version)), w->memory[key].value);
        h = mix(h, w->ever[key] | (uint64_t)w->floor[key] << 8 | (uint64_t)w->next_value[key] << 16 | (uint64_t)w->lossy[key] << 24 | (uint64_t)w->cleared[key] << 25 | (uint64_t)w->dead[key] << 32);
        h = mix(h, w->children[key]);
        for (uint8_t x = 1; x <= w->next_value[key]; x++) {
            h = mix(h, w->order[key][x] | (uint64_t)w->parent[key][x] << 8);
        }
    }
    return h;
}

static uint64_t node_of(const struct view *v, uint32_t node)
{
    return v->node[node] ^ hash_u64(v->mail[node]);
}

/* In this order nodes ascend by what they are, which no numbering changes: the others need not be looked at. */
static bool ascends(const struct view *v, const uint8_t *as)
{
    bool ok = true;
    for (uint32_t i = 0; i < v->w->o.nodes; i++) {
        for (uint32_t j = 0; j < v->w->o.nodes; j++) {
            ok = ok && (as[i] >= as[j] || node_of(v, i) <= node_of(v, j));
        }
    }
    return ok;
}

static uint64_t as_numbered(struct view *v, const uint8_t *as)
{
    const struct world *w = v->w;
    uint64_t h = log_digest(v, as), nodes[WORLD_NODES] = {0};
    for (uint32_t i = 0; i < w->n_homes; i++) {
        h = mix(h, w->homes[i] != NULL ? home_of(v, w->homes[i], as) : 1);
    }
    h = mix(h, as[w->home_node[w->n_homes - 1]]);
    for (uint32_t i = 0; i < w->o.nodes; i++) {
        nodes[as[i]] = node_of(v, i);
    }
    for (uint32_t i = 0; i < w->o.nodes; i++) {
        h = mix(h, nodes[i]);
    }
    return h;
}

static void walk_nodes(struct view *v)
{
    for (uint32_t i = 0; i < v->w->o.nodes; i++) {
        v->node[i] = cacher_of(v, i);
        v->mail[i] = 0;
    }
    mail_digest(v);
}

uint64_t world_digest(const struct world *w)
{
    static const uint8_t ways[PERMUTATIONS][WORLD_NODES] = {{0, 1, 2}, {1, 0, 2}, {0, 2, 1}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static struct view v;
    v.w = w;
    for (uint32_t i = 0; i < w->o.keys; i++) {
        v.versions[i].n = 0;
        for (uint32_t j = 0; j < WORLD_NODES; j++) {
            v.txns[j][i].n = 0;
        }
        for (uint32_t j = 0; j <= WORLD_HOMES; j++) {
            v.seqs[j][i].n = 0;
        }
    }
    v.collecting = true;
    read_mail(&v);
    walk_nodes(&v);
    as_numbered(&v, ways[0]);
    uint64_t memory = memory_digest(&v), best = UINT64_MAX;
    v.collecting = false;
    memory = memory_digest(&v);
    walk_nodes(&v);
    for (uint32_t i = 0; i < (w->o.nodes == 3 ? 6 : 2); i++) {
        uint64_t h = ascends(&v, ways[i]) ? as_numbered(&v, ways[i]) : UINT64_MAX;
        best = h < best ? h : best;
    }
    return hash_u64(mix(best, memory));
}
