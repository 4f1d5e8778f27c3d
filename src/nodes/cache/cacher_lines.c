/* The lines of a cacher: what lines.h does not know of them, which is leases, dirt and transactions, and that they stay within CACHE_SIZE.
 *
 * A line in a transaction is pinned: it is no victim, and is never freed (S59). */
#include "nodes/cache/cacher_internal.h"

#include <stdlib.h>

enum { CROWD_LINES_MIN = 8, CROWD_BYTES_MIN = 64 * 1024 };

struct cache_place cacher_place(const struct cacher *c, uint32_t group, slice_t key)
{
    return (struct cache_place){group, lines_hash(&c->lines, group, key)};
}

struct line *line_find(struct cacher *c, uint32_t group, slice_t key)
{
    return line_find_at(c, cacher_place(c, group, key), key);
}

struct line *line_find_at(struct cacher *c, struct cache_place at, slice_t key)
{
    struct line *l = lines_find_hashed(&c->lines, at.hash, at.group, key);
    if (l == NULL) {
        return NULL;
    }
    if (l->life != c->groups[at.group].life && l->state != MESI_M && line_flight(l) == NULL) {
        /* Its lease is over: it has been I since (lines_lapse), with nobody who looked. */
        const struct mesi_cell *cell = &MESI_TABLE[l->state][MESI_LOST];
        syn_assert(cell->next < CELL_UNREAD && cell->next == MESI_I);
        line_free(c, l);
        return NULL;
    }
    return l;
}

static bool is_clean(uint8_t state)
{
    return state == MESI_S || state == MESI_E;
}

uint8_t line_counted_as(const struct cacher *c, const struct line *l)
{
    return is_clean(l->state) && l->life != c->groups[l->group].life ? MESI_I : l->state;
}

static void count(struct cacher *c, const struct line *l, uint64_t n)
{
    uint8_t state = line_counted_as(c, l);
    c->stats.by_state[state] += n;
    if (is_clean(state)) {
        c->groups[l->group].clean[state == MESI_E] += n;
    }
}

void line_set_state(struct cacher *c, struct line *l, uint8_t state)
{
    if (l->state != state) {
        count(c, l, UINT64_MAX);
        c->leaving_bytes -= l->state == MESI_MI ? lines_cost(l) : 0; /* as when it began: it has not changed meanwhile */
        l->state = state;
        c->leaving_bytes += l->state == MESI_MI ? lines_cost(l) : 0;
        count(c, l, 1);
    }
}

/* Its clean lines are I without being looked at: by their life. */
void lines_lapse(struct cacher *c, uint32_t group)
{
    struct cacher_group *g = &c->groups[group];
    c->stats.by_state[MESI_S] -= g->clean[0];
    c->stats.by_state[MESI_E] -= g->clean[1];
    c->stats.by_state[MESI_I] += g->clean[0] + g->clean[1];
    g->clean[0] = g->clean[1] = 0;
    g->life++;
}

void cacher_expect(const struct cacher *c, const uint32_t *hashes, uint32_t n)
{
    lines_expect(&c->lines, hashes, n);
}

struct line *line_make(struct cacher *c, uint32_t group, slice_t key)
{
    struct line *l = lines_insert(&c->lines, group, key);
    l->life = c->groups[group].life;
    count(c, l, 1);
    return l;
}

void line_free(struct cacher *c, struct line *l)
{
    syn_assert(line_flight(l) == NULL);
    line_set_dirty(c, l, false);
    count(c, l, UINT64_MAX);
    lines_remove(&c->lines, l);
}

void line_drop(struct cacher *c, struct line *l)
{
    lines_drop(&c->lines, l);
}

void line_put(struct cacher *c, struct line *l, const struct cache_item *it)
{
    struct cache_item item = *it;
    if (item.guard.len == 0 && item.exists && (l->bits & LINE_GUARD)) {
        item.guard = lines_item(l).guard;
    }
    lines_put(&c->lines, l, &item);
}

struct cache_item line_item(const struct cacher *c, const struct line *l)
{
    struct cache_item it = lines_item(l);
    if (it.expire_ms != 0 && it.expire_ms <= c->now_ms) {
        it.exists = false;
        it.value = SLICE_NONE;
        it.expire_ms = 0;
    }
    return it;
}

static struct line_more *more_of(struct line *l)
{
    if (line_more(l) == NULL) {
        struct line_more *x = calloc(1, sizeof *x);
        syn_assert(x != NULL);
        x->line = l;
        line_put_aside(l, &x->aside);
    }
    return line_more(l);
}

static void more_end(struct line *l)
{
    struct line_more *x = line_more(l);
    if (!x->is_dirty && !x->in_flight) {
        line_end_aside(l);
        free(x);
    }
}

void line_set_dirty(struct cacher *c, struct line *l, bool dirty)
{
    if (dirty && !line_is_dirty(l)) {
        struct line_more *x = more_of(l);
        x->is_dirty = true;
        x->dirty_since_ms = c->now_ms;
        list_push_back(&c->groups[l->group].dirty, &x->dirty);
        c->stats.dirty++;
    } else if (!dirty && line_is_dirty(l)) {
        list_remove(&line_more(l)->dirty);
        line_more(l)->is_dirty = false;
        c->stats.dirty--;
        more_end(l);
    }
}

/* As long as there are too many, beside those that wait for their flush. A line in a transaction stays; a dirty one begins its flush and stays until memory has it
 * (MC9). */
void lines_trim(struct cacher *c, struct line *keep)
{
    for (uint32_t looks = 64; lines_are_too_many(&c->lines, c->stats.by_state[MESI_MI], c->leaving_bytes) && looks > 0; looks--) {
        struct line *l = lines_victim(&c->lines, keep);
        if (l == NULL) {
            return;
        }
        c->stats.evicted++;
        cacher_step(c, l, MESI_EVICT, NULL, NULL);
    }
}

bool cacher_is_crowded(const struct cacher *c)
{
    uint64_t n = c->o.entries_max, bytes = c->o.bytes_max;
    uint64_t more = n / 8 > CROWD_LINES_MIN ? n / 8 : CROWD_LINES_MIN;
    return c->o.back && ((n > 0 && c->lines.n >= n + more) || (bytes > 0 && c->lines.bytes >= bytes + bytes / 8 + CROWD_BYTES_MIN));
}

struct flight *flight_of(struct cacher *c, struct line *l)
{
    if (line_flight(l) == NULL) {
        struct line_more *x = more_of(l);
        struct flight *f = &x->flight;
        *f = (struct flight){.line = l, .retry_ms = UINT64_MAX};
        list_init(&f->waiters);
        list_push_back(&c->flights, &f->by_time);
        c->groups[l->group].flights++;
        c->stats.busy++;
        x->in_flight = true;
        l->bits |= LINE_PINNED;
    }
    return line_flight(l);
}

void flight_end(struct cacher *c, struct line *l)
{
    struct flight *f = line_flight(l);
    syn_assert(f != NULL && list_empty(&f->waiters) && f->writes == 0);
    list_remove(&f->by_time);
    if (f->in_group.next != NULL) {
        list_remove(&f->in_group);
    }
    c->groups[l->group].flights--;
    c->stats.busy--;
    line_more(l)->in_flight = false;
    l->bits = (uint8_t)(l->bits & ~LINE_PINNED);
    more_end(l);
}

uint64_t cacher_flush_mark(const struct cacher *c)
{
    return c->next_txn;
}

bool cacher_flushed(const struct cacher *c, uint64_t mark)
{
    bool done = true;
    for (uint32_t i = 0; i < c->o.groups; i++) {
        const struct list *flushes = &c->groups[i].flushes; /* ascending */
        done = done && (list_empty(flushes) || CONTAINER_OF(flushes->next, struct flight, in_group)->txn > mark);
    }
    return done;
}

void cacher_look(const struct cacher *c, uint32_t group, slice_t key, uint64_t now_ms, struct cacher_view *out)
{
    const struct cacher_group *g = &c->groups[group];
    const struct line *l = lines_find(&c->lines, group, key);
    bool lives = l != NULL && now_ms < g->lease_end_ms && l->life == g->life;
    *out = (struct cacher_view){.state = l != NULL ? (enum mesi_state)l->state : MESI_I, .lease_end_ms = g->lease_end_ms};
    if (l != NULL && line_is_dirty(l)) {
        out->dirty = true;
        out->orphan = !lives;
        out->dirty_since_ms = line_more(l)->dirty_since_ms;
    }
    bool readable = out->state == MESI_S || out->state == MESI_E || out->state == MESI_M || out->state == MESI_MS || out->state == MESI_MF;
    if (readable && !lives) {
        out->state = MESI_I;
    }
}
