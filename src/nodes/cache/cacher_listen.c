/* A node that listens: the homes of all groups tell it of every write through, before it is answered (docs/cache.md, "Listening").
 *
 * Invariant: from when cacher_hears is true, whatever changes a key is told (cacher_io.told) before it is acknowledged to anybody, or the end of a lease is. */
#include "nodes/cache/cacher_internal.h"

void cacher_listen(struct cacher *c, bool on)
{
    syn_assert(((c->listen_seq & 1) != 0) != on);
    c->listen_seq = ++c->next_txn << 1 | on;
    for (uint32_t i = 0; i < c->o.groups; i++) {
        c->groups[i].hears = false;
        c->groups[i].ask_again_ms = 0; /* the homes are told at once */
    }
}

bool cacher_hears(const struct cacher *c)
{
    bool all = true;
    for (uint32_t i = 0; i < c->o.groups; i++) {
        all = all && c->groups[i].hears && lease_lives(c, &c->groups[i]);
    }
    return all;
}

static void tell(struct cacher *c, uint32_t group, slice_t key, bool all)
{
    if (c->io.told != NULL) {
        c->io.told(c->io.arg, group, key, all);
    }
}

/* The home has this number of ours, or a later one: it knew that we listen when it granted. */
void listen_on_grant(struct cacher *c, const struct cache_msg *m)
{
    struct cacher_group *g = &c->groups[m->group];
    if ((c->listen_seq & 1) != 0 && !g->hears && m->seq >= c->listen_seq && lease_lives(c, g)) {
        g->hears = true;
        tell(c, m->group, SLICE_NONE, true);
    }
}

void listen_lost(struct cacher *c, uint32_t group)
{
    if (c->groups[group].hears) {
        c->groups[group].hears = false;
        tell(c, group, SLICE_NONE, true);
    }
}

void listen_on_note(struct cacher *c, const struct cache_msg *m)
{
    struct cache_msg a = {.kind = CACHE_MSG_NOTED, .group = m->group, .epoch = m->epoch, .seq = m->seq};
    struct line *l = m->version == CACHE_NOTE_OWN ? line_find(c, m->group, m->key) : NULL;
    bool answered = l == NULL || line_flight(l) == NULL || line_flight(l)->writes == 0;
    if ((c->listen_seq & 1) != 0 && answered) { /* else our write is not: who wrote is known when it is */
        tell(c, m->group, m->key, m->version == CACHE_NOTE_ALL);
    }
    c->io.send(c->io.arg, &a);
}
