/* Leases of a cacher, and what is sent again until it is answered.
 *
 * A lease counts from when it was asked for and ends early (LEASE_MARGIN), so that it is over here before its home can think so (MC6). When it ends, or another
 * home leads, the group's lines are I at once: clean ones by their `life`, dirty ones flush to whoever leads. */
#include "nodes/cache/cacher_internal.h"

bool lease_lives(const struct cacher *c, const struct cacher_group *g)
{
    return c->now_ms < g->lease_end_ms;
}

static void lease_ask(struct cacher *c, uint32_t group)
{
    struct cacher_group *g = &c->groups[group];
    struct cache_msg m = {.kind = CACHE_MSG_LEASE, .group = group, .epoch = g->epoch, .txn = c->now_ms, .seq = c->listen_seq};
    g->asked_ms = c->now_ms;
    g->ask_again_ms = c->now_ms + (lease_lives(c, g) ? c->o.lease_ms / (2 * LEASE_RENEWALS) : RETRY_MS_MIN) + 1;
    c->io.send(c->io.arg, &m);
}

void lease_want(struct cacher *c, uint32_t group)
{
    struct cacher_group *g = &c->groups[group];
    g->wanted_ms = c->now_ms;
    if (!lease_lives(c, g) && c->now_ms >= g->ask_again_ms) {
        lease_ask(c, group);
    }
}

void flight_retry_at(struct cacher *c, struct flight *f, uint64_t at_ms)
{
    f->retry_ms = at_ms;
    c->next_retry_ms = at_ms < c->next_retry_ms ? at_ms : c->next_retry_ms;
}

static enum cache_msg_kind request_of(uint8_t state)
{
    return state == MESI_IM ? CACHE_MSG_GETX : state == MESI_SM ? CACHE_MSG_UPGR : CACHE_MSG_GETS;
}

/* Once a transaction, however often it is sent. */
static void count_request(struct cacher *c, enum cache_msg_kind kind)
{
    c->stats.gets += kind == CACHE_MSG_GETS;
    c->stats.getx += kind == CACHE_MSG_GETX;
    c->stats.upgr += kind == CACHE_MSG_UPGR;
}

void flight_send(struct cacher *c, struct line *l)
{
    struct flight *f = line_flight(l);
    struct cacher_group *g = &c->groups[l->group];
    bool is_flush = f->in_group.next != NULL;
    uint64_t pause = (uint64_t)RETRY_MS_MIN << (f->tries < 6 ? f->tries : 6);
    flight_retry_at(c, f, c->now_ms + (pause < RETRY_MS_MAX ? pause : RETRY_MS_MAX));
    if (!is_flush && !lease_lives(c, g)) {
        return; /* sent with the grant */
    }
    struct cache_msg m = {.group = l->group, .epoch = g->epoch, .txn = f->txn, .key = line_key(l)};
    f->tries++;
    if (is_flush) {
        m.kind = CACHE_MSG_FLUSH;
        m.low = CONTAINER_OF(g->flushes.next, struct flight, in_group)->txn;
        m.version = l->version;
        m.item = line_item(c, l);
        m.item.expire_ms = m.item.expire_ms != 0 ? m.item.expire_ms - c->now_ms : 0;
    } else {
        m.kind = (uint8_t)request_of(l->state);
        if (f->asked_ms == 0) {
            f->asked_ms = c->now_ms + (c->now_ms == 0);
            count_request(c, m.kind);
        }
    }
    c->io.send(c->io.arg, &m);
}

static void send_unsent(struct cacher *c, uint32_t group)
{
    list_each(it, &c->flights) {
        struct flight *f = CONTAINER_OF(it, struct flight, by_time);
        if (f->line->group == group && f->asked_ms == 0 && f->txn != 0 && f->writes == 0) {
            flight_send(c, f->line);
        }
    }
}

static void take_grant(struct cacher *c, const struct cache_msg *m)
{
    struct cacher_group *g = &c->groups[m->group];
    uint64_t end = m->txn + m->version - m->version / LEASE_MARGIN;
    if (m->txn > c->now_ms || m->version > c->o.lease_ms * 2 || end <= c->now_ms || end <= g->lease_end_ms) {
        return;
    }
    bool lived = lease_lives(c, g);
    if (!lived && g->lease_end_ms != 0) {
        lease_end(c, m->group);
    }
    g->lease_end_ms = end;
    g->ask_again_ms = c->now_ms + c->o.lease_ms / LEASE_RENEWALS;
    if (!lived) {
        send_unsent(c, m->group);
    }
}

void lease_on_grant(struct cacher *c, const struct cache_msg *m)
{
    take_grant(c, m);
    listen_on_grant(c, m);
}

void lease_try_report(struct cacher *c, uint32_t group)
{
    struct cacher_group *g = &c->groups[group];
    if (g->report_epoch == 0 || !list_empty(&g->flushes)) {
        return;
    }
    struct cache_msg m = {.kind = CACHE_MSG_REPORT, .group = group, .epoch = g->report_epoch};
    g->reported_epoch = g->report_epoch;
    g->report_epoch = 0;
    c->io.send(c->io.arg, &m);
}

void lease_on_epoch(struct cacher *c, const struct cache_msg *m)
{
    struct cacher_group *g = &c->groups[m->group];
    g->report_epoch = m->epoch;
    if (g->reported_epoch == m->epoch) { /* asked again: the report was lost */
        struct cache_msg again = {.kind = CACHE_MSG_REPORT, .group = m->group, .epoch = m->epoch};
        g->report_epoch = 0;
        c->io.send(c->io.arg, &again);
        return;
    }
    lease_try_report(c, m->group);
}

void lease_end(struct cacher *c, uint32_t group)
{
    struct cacher_group *g = &c->groups[group];
    c->stats.lease_ends += g->lease_end_ms != 0;
    g->lease_end_ms = 0;
    g->ask_again_ms = 0;
    lines_lapse(c, group);
    listen_lost(c, group);
    if (c->io.lost != NULL) {
        c->io.lost(c->io.arg, group);
    }
    struct list dirty;
    list_init(&dirty);
    while (!list_empty(&g->dirty)) {
        struct list *it = g->dirty.next;
        list_remove(it);
        list_push_back(&dirty, it);
    }
    while (!list_empty(&dirty)) {
        struct list *it = dirty.next;
        list_remove(it);
        list_push_back(&g->dirty, it);
        cacher_step(c, dirty_of(it)->line, MESI_LOST, NULL, NULL);
    }
    struct list *it = c->flights.next;
    while (it != &c->flights) {
        struct flight *f = CONTAINER_OF(it, struct flight, by_time);
        it = it->next;
        if (f->line->group == group && f->in_group.next == NULL) {
            cacher_step(c, f->line, MESI_LOST, NULL, NULL); /* waits for its answer still: the flight stays */
        }
    }
}

void cacher_home_changed(struct cacher *c, uint32_t group)
{
    struct cacher_group *g = &c->groups[group];
    g->ask_again_ms = 0;
    list_each(it, &c->flights) {
        struct flight *f = CONTAINER_OF(it, struct flight, by_time);
        if (f->line->group == group && f->retry_ms != UINT64_MAX) {
            f->tries = 0;
            flight_retry_at(c, f, c->now_ms);
        }
    }
}

static void flush_due(struct cacher *c, struct cacher_group *g)
{
    list_each_safe(it, &g->dirty) {
        struct line_more *x = dirty_of(it);
        if (x->dirty_since_ms + c->o.flush_ms > c->now_ms) {
            break;
        }
        list_remove(it); /* behind those that are not due: its flush is on its way */
        list_push_back(&g->dirty, it);
        x->dirty_since_ms = c->now_ms;
        if (x->line->state == MESI_M) {
            cacher_step(c, x->line, MESI_TICK, NULL, NULL);
        }
    }
}

static bool is_wanted(const struct cacher *c, const struct cacher_group *g)
{
    return (c->listen_seq & 1) != 0 || g->flights > 0 || !list_empty(&g->dirty) || (g->wanted_ms != 0 && g->wanted_ms + c->o.lease_ms > c->now_ms);
}

void cacher_timers(struct cacher *c)
{
    for (uint32_t i = 0; i < c->o.groups; i++) {
        struct cacher_group *g = &c->groups[i];
        if (g->lease_end_ms != 0 && !lease_lives(c, g)) {
            lease_end(c, i);
        }
        if (is_wanted(c, g) && c->now_ms >= g->ask_again_ms) {
            lease_ask(c, i);
        }
        flush_due(c, g);
    }
    if (c->now_ms < c->next_retry_ms) {
        return;
    }
    c->next_retry_ms = UINT64_MAX;
    struct list *it = c->flights.next;
    while (it != &c->flights) {
        struct flight *f = CONTAINER_OF(it, struct flight, by_time);
        it = it->next;
        if (f->retry_ms <= c->now_ms) {
            flight_send(c, f->line);
        } else if (f->retry_ms < c->next_retry_ms) {
            c->next_retry_ms = f->retry_ms;
        }
    }
}

uint64_t cacher_deadline(const struct cacher *c)
{
    uint64_t at = c->next_retry_ms;
    for (uint32_t i = 0; i < c->o.groups; i++) {
        const struct cacher_group *g = &c->groups[i];
        if (g->lease_end_ms != 0 && g->lease_end_ms < at) {
            at = g->lease_end_ms;
        }
        if (is_wanted(c, g) && g->ask_again_ms < at) {
            at = g->ask_again_ms;
        }
        if (!list_empty(&g->dirty)) {
            uint64_t due = dirty_of(g->dirty.next)->dirty_since_ms + c->o.flush_ms;
            at = due < at ? due : at;
        }
    }
    return at;
}
