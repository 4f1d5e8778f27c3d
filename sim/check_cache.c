/* What must hold of lines and memory at every event: one writer or readers (MC1), versions that only grow (MC8), dirty lines that are flushed in time and not
 * lost at a shutdown (MC12), and at the end nothing under way and directories that name whoever has a line (MC4).
 *
 * A line counts by what its node would serve at its own clock now, even while it stands still. What an owner may lose is written down for the history
 * (check_cache_history.c): when it died, or when its lease was over, with writes that memory does not have. */
#include "sim_cache.h"

#include "nodes/cache/cache_sm.h"
#include "nodes/cache/cacher.h"
#include "nodes/cache/home.h"

#include <stdio.h>
#include <stdlib.h>

enum { CHURN_EVERY = 32, LATE_FLUSH_US = 5000000, FLUSH_SLACK_MS = 60 };

static bool is_alone(uint8_t state)
{
    return state == MESI_E || state == MESI_M || state == MESI_MF;
}

static bool is_shared(uint8_t state)
{
    return state == MESI_S || state == MESI_MS;
}

static uint64_t mono_to_us(const struct sim_node *n, uint64_t ms)
{
    return ms <= n->mono_base_ms ? n->boot_us : n->boot_us + (ms - n->mono_base_ms) * UINT64_C(1000000000) / (uint64_t)(1000000 + n->rate_ppm);
}

/* MC1: somebody at this node may read it; then nobody elsewhere may write it, and the other way round. */
static void check_alone(struct sim *s, const struct sim_node *n, uint32_t k, uint8_t state)
{
    const struct csim_key *key = &s->cache->keys[k];
    for (uint32_t i = 0; i < s->n_nodes && !s->failed; i++) {
        const struct sim_node *other = &s->nodes[i];
        struct cacher_view v;
        if (other == n || !other->up) {
            continue;
        }
        node_cache_line(other->node, slice_str(key->name), sim_node_mono_ms(s, other), &v);
        if ((is_alone(state) && (is_alone(v.state) || is_shared(v.state))) || (is_shared(state) && is_alone(v.state))) {
            sim_fail(s, "MC1: n%u has %s in %s while n%u has it in %s", n->index + 1, key->name, MESI_STATE_NAMES[state], i + 1, MESI_STATE_NAMES[v.state]);
        }
    }
}

static void loss_add(struct sim *s, const struct csim_loss *l)
{
    struct sim_cache *q = s->cache;
    if (q->n_losses == q->cap_losses) {
        q->cap_losses = q->cap_losses ? q->cap_losses * 2 : 64;
        q->losses = realloc(q->losses, q->cap_losses * sizeof *q->losses);
        syn_assert(q->losses != NULL);
    }
    q->losses[q->n_losses++] = *l;
}

static void loss_to(struct sim *s, const struct csim_key *key, const struct csim_memory *m)
{
    struct csim_loss l = {m->key, key->losses, key->loss_from_us, m->hash, m->len, m->token, m->timed};
    loss_add(s, &l);
}

/* From here on, or since its lease was over, the key may be what memory has, or has had since. */
static void loss_begins(struct sim *s, const struct sim_node *n, uint32_t k, const struct csim_line *was)
{
    const struct sim_cache *q = s->cache;
    struct csim_key *key = &s->cache->keys[k];
    static const struct csim_memory nothing = {0};
    struct csim_memory first = nothing;
    key->losses++;
    key->loss_from_us = was->dirty && was->lease_end_us < s->now_us ? was->lease_end_us : s->now_us;
    key->late_until_us = s->now_us + LATE_FLUSH_US;
    first.key = k;
    for (uint64_t i = q->n_memory; i > 0; i--) {
        const struct csim_memory *m = &q->memory[i - 1];
        if (m->key == k && m->at_us >= key->loss_from_us) {
            loss_to(s, key, m);
        } else if (m->key == k) {
            first = *m;
            break;
        }
    }
    loss_to(s, key, &first);
    s->r->lost_lines++;
    TRACE(s, "n%u may lose what it wrote to %s, from %llu us on", n->index + 1, key->name, (unsigned long long)key->loss_from_us);
}

static void check_line(struct sim *s, struct sim_node *n, uint32_t k, uint64_t now_ms)
{
    struct csim_line *was = &s->cache->lines[n->index][k];
    struct cacher_view v;
    node_cache_line(n->node, slice_str(s->cache->keys[k].name), now_ms, &v);
    if (v.state != MESI_I && (is_alone(v.state) || is_shared(v.state))) {
        check_alone(s, n, k, (uint8_t)v.state);
    }
    if (v.orphan && !was->orphan) {
        loss_begins(s, n, k, was);
    }
    if (was->state != v.state) {
        TRACE(s, "n%u has %s in %s%s", n->index + 1, s->cache->keys[k].name, MESI_STATE_NAMES[v.state], v.orphan ? ", after its lease" : "");
    }
    *was = (struct csim_line){v.dirty, v.orphan, mono_to_us(n, v.lease_end_ms), v.dirty_since_ms, (uint8_t)v.state};
}

void cache_check_step(struct sim *s, struct sim_node *n)
{
    if (!s->cache->on || !n->up) {
        return;
    }
    uint64_t now_ms = sim_node_mono_ms(s, n);
    uint32_t to = s->cache->back || n->turns % CHURN_EVERY == 0 ? CSIM_KEYS : CSIM_CHURN_AT;
    for (uint32_t k = 0; k < to && !s->failed; k++) {
        check_line(s, n, k, now_ms);
    }
}

/* MC12: what is dirty for long is being flushed. */
static void check_flushing(struct sim *s, const struct sim_node *n, uint32_t k, const struct csim_line *l)
{
    uint64_t slack = FLUSH_SLACK_MS + s->mean_us[FAULT_LATE_TIMER] / 1000 + n->slow_cpu_us / 1000;
    if (l->state == MESI_M && !l->orphan && l->dirty_since_ms + s->cache->flush_ms + slack < n->last_turn_ms) {
        sim_fail(s, "MC12: n%u died with %s dirty for %llu ms, and had not begun to flush it", n->index + 1, s->cache->keys[k].name,
                 (unsigned long long)(n->last_turn_ms - l->dirty_since_ms));
    }
}

void cache_check_died(struct sim *s, struct sim_node *n, bool asked)
{
    for (uint32_t k = 0; s->cache->on && k < CSIM_KEYS; k++) {
        struct csim_line *l = &s->cache->lines[n->index][k];
        if (l->dirty && !l->orphan) {
            check_flushing(s, n, k, l);
            s->r->lost_at_stop += asked;
            loss_begins(s, n, k, l);
        }
        *l = (struct csim_line){0};
    }
}

/* --- memory */

static void memory_add(struct sim_cache *q, const struct csim_memory *m)
{
    if (q->n_memory == q->cap_memory) {
        q->cap_memory = q->cap_memory ? q->cap_memory * 2 : 256;
        q->memory = realloc(q->memory, q->cap_memory * sizeof *q->memory);
        syn_assert(q->memory != NULL);
    }
    q->memory[q->n_memory++] = *m;
}

static void memory_became(struct sim *s, uint32_t k)
{
    struct csim_key *key = &s->cache->keys[k];
    struct cache_item it;
    uint64_t version;
    if (!node_cache_memory(s->applying->node, slice_str(key->name), &it, &version)) {
        return;
    }
    if (version < key->version) {
        sim_fail(s, "MC8: the version of %s falls from %llu to %llu", key->name, (unsigned long long)key->version, (unsigned long long)version);
    }
    key->version = version;
    struct csim_memory m = {.key = k, .at_us = s->now_us, .timed = it.exists && it.expire_ms != 0, .token = it.guard.len > 0 ? it.token : 0};
    m.hash = it.exists ? cache_hash(CSIM_HASH_NONE, it.value) : 0;
    m.len = it.exists ? it.value.len : 0;
    for (size_t i = 0; it.exists && k >= CSIM_COUNTER_AT && k < CSIM_TIMED_AT && i < it.value.len; i++) {
        m.len = (i > 0 ? m.len * 10 : 0) + (uint64_t)(it.value.ptr[i] - '0');
    }
    memory_add(s->cache, &m);
    if (s->now_us < key->late_until_us) { /* the same loss, with what memory has now */
        loss_to(s, key, &m);
    }
}

static uint32_t key_number(const struct sim *s, slice_t name)
{
    for (uint32_t k = 0; k < CSIM_KEYS; k++) {
        if (slice_eq(name, slice_str(s->cache->keys[k].name))) {
            return k;
        }
    }
    return CSIM_KEYS;
}

void cache_check_applied(void *arg, uint32_t group, uint64_t index, uint64_t time_ms, slice_t op, const struct cache_out *out)
{
    struct sim_node *n = arg;
    struct sim *s = n->sim;
    (void)time_ms;
    if (!s->cache->on || index != s->canon[group].count + 1 || op.len == 0) {
        return; /* the first node to apply it speaks for all: their states are compared (R5) */
    }
    for (uint32_t i = 0; i < out->n_touched && !s->failed; i++) {
        uint32_t k = key_number(s, out->touched[i].key);
        if (k < CSIM_KEYS) {
            TRACE(s, "group %u index %llu: %s has version %llu, entry kind %u%s", group, (unsigned long long)index, s->cache->keys[k].name,
                  (unsigned long long)out->touched[i].version, op.ptr[0], out->touched[i].exists ? "" : ", gone");
            memory_became(s, k);
            s->cache->keys[k].late_until_us = op.ptr[0] == CACHE_ENTRY_FENCE ? 0 : s->cache->keys[k].late_until_us;
        }
    }
    for (uint32_t k = 0; k < CSIM_KEYS && op.ptr[0] == CACHE_ENTRY_CLEAR && !s->failed; k++) {
        if (node_cache_group(n->node, slice_str(s->cache->keys[k].name)) == group) {
            memory_became(s, k);
        }
    }
}

/* --- the end */

static bool is_named(const struct home_key_info *d, node_id_t node)
{
    bool named = d->owner == node;
    for (uint32_t i = 0; i < d->n_sharers; i++) {
        named |= d->sharers[i] == node;
    }
    return named;
}

/* The home that leads in the newest term, if any. */
static bool directory_of(const struct sim *s, uint32_t k, struct home_key_info *out)
{
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        if (s->nodes[i].up && node_cache_home(s->nodes[i].node, slice_str(s->cache->keys[k].name), out)) {
            return true;
        }
    }
    return false;
}

static bool key_settled(const struct sim *s, uint32_t k, char *why, size_t size)
{
    struct home_key_info d;
    bool has_home = directory_of(s, k, &d);
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        const struct sim_node *n = &s->nodes[i];
        struct cacher_view v = {0};
        if (n->up) {
            node_cache_line(n->node, slice_str(s->cache->keys[k].name), sim_node_mono_ms(s, n), &v);
        }
        bool has = is_alone((uint8_t)v.state) || is_shared((uint8_t)v.state);
        if (has && (!has_home || !is_named(&d, i + 1) || (is_alone((uint8_t)v.state) && d.owner != i + 1))) {
            snprintf(why, size, "MC4: n%u has %s in %s, and its home does not know", i + 1, s->cache->keys[k].name, MESI_STATE_NAMES[v.state]);
            return false;
        }
    }
    return true;
}

bool cache_settled(struct sim *s, char *why, size_t size)
{
    for (uint32_t i = 0; s->cache->on && i < s->n_nodes; i++) {
        if (s->nodes[i].up && cache_serves(s, i) && !node_cache_quiet(s->nodes[i].node)) {
            snprintf(why, size, "MC4: n%u still has transactions of the cache under way", i + 1);
            return false;
        }
    }
    for (uint32_t k = 0; s->cache->on && k < CSIM_KEYS; k++) {
        if (!key_settled(s, k, why, size)) {
            return false;
        }
    }
    return true;
}

void cache_trace(struct sim *s)
{
    for (uint32_t i = 0; s->cache->on && i < s->n_nodes; i++) {
        for (uint32_t k = 0; k < CSIM_KEYS && s->nodes[i].up; k++) {
            const struct sim_node *n = &s->nodes[i];
            struct cacher_view v;
            struct home_key_info d = {0};
            node_cache_line(n->node, slice_str(s->cache->keys[k].name), sim_node_mono_ms(s, n), &v);
            bool home = node_cache_home(n->node, slice_str(s->cache->keys[k].name), &d);
            if (v.state > MESI_M || v.dirty || home) {
                TRACE(s, "n%u %s of group %u: line %s%s, home %s owner %u sharers %u, lease ends at %llu of %llu ms", i + 1, s->cache->keys[k].name,
                      node_cache_group(n->node, slice_str(s->cache->keys[k].name)), MESI_STATE_NAMES[v.state], v.dirty ? " dirty" : "", home ? HOME_STATE_NAMES[d.state] : "-", d.owner, d.n_sharers, (unsigned long long)v.lease_end_ms,
                      (unsigned long long)sim_node_mono_ms(s, n));
            }
        }
    }
}
