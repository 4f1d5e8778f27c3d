/* Lines do what MESI_TABLE says: events come from ops, from writes that end, and from the home.
 *
 * Invariants: a line that is not stable has a flight, and a flight's line is never freed (S59). Reads are answered from S, E, M, MS, MF under a live lease only.
 * A value that came after a snoop it does not know of is used once, for those that asked before the snoop (S57). Ops on a line are done in their order: behind
 * one that waits, all wait, so that a client reads what it wrote before in its pipeline, and nothing of what it writes after. */
#include "nodes/cache/cacher_internal.h"

#include "utils/hash.h"
#include "utils/mutant.h"

#include <stdlib.h>

struct cacher *cacher_new(const struct cacher_options *o, const struct cacher_io *io)
{
    struct cacher *c = calloc(1, sizeof *c);
    syn_assert(c != NULL && o->groups > 0 && o->groups <= UINT16_MAX + 1u);
    c->o = *o;
    c->io = *io;
    c->groups = calloc(o->groups, sizeof *c->groups);
    syn_assert(c->groups != NULL);
    for (uint32_t i = 0; i < o->groups; i++) {
        list_init(&c->groups[i].dirty);
        list_init(&c->groups[i].flushes);
    }
    c->next_retry_ms = UINT64_MAX;
    c->next_txn = o->first_txn;
    c->listen_seq = o->first_txn << 1;
    lines_init(&c->lines, &(struct lines_options){o->hash_key, o->entries_max, o->bytes_max, o->policy});
    list_init(&c->flights);
    return c;
}

static void waiters_free(struct flight *f)
{
    list_each_safe(it, &f->waiters) {
        list_remove(it);
        free(CONTAINER_OF(it, struct waiter, link));
    }
}

void cacher_free(struct cacher *c)
{
    for (struct line *l; (l = lines_next(&c->lines, NULL)) != NULL;) {
        if (line_flight(l) != NULL) {
            waiters_free(line_flight(l));
            line_flight(l)->writes = 0;
            flight_end(c, l);
        }
        line_free(c, l);
    }
    lines_fini(&c->lines);
    buf_fini(&c->reply);
    buf_fini(&c->change.value);
    free(c->groups);
    free(c);
}

void cacher_clock(struct cacher *c, uint64_t now_ms, uint64_t wall_ms)
{
    syn_assert(now_ms >= c->now_ms);
    c->now_ms = now_ms;
    c->now_s = (uint32_t)(now_ms / 1000) & LINE_CLOCK;
    c->wall_ms = wall_ms;
}

static bool is_readable(uint8_t state)
{
    return state == MESI_S || state == MESI_E || state == MESI_M || state == MESI_MS || state == MESI_MF;
}

/* A clean line whose time to live is over by this clock, which counted from when it was asked for: memory may have the value still. It is no answer. */
static bool is_over(const struct cacher *c, const struct line *l)
{
    if (!(l->bits & LINE_DUE) || (l->state != MESI_S && l->state != MESI_E) || line_flight(l) != NULL) {
        return false;
    }
    return lines_item(l).expire_ms <= c->now_ms;
}

static bool has_waiters(const struct line *l)
{
    return line_flight(l) != NULL && !list_empty(&line_flight(l)->waiters);
}

bool cacher_hit(struct cacher *c, struct cache_place at, slice_t key, struct cache_item *item)
{
    struct cacher_group *g = &c->groups[at.group];
    if (!lease_lives(c, g)) {
        return false;
    }
    struct line *l = line_find_at(c, at, key);
    if (l == NULL || !is_readable(l->state) || has_waiters(l) || is_over(c, l)) {
        return false;
    }
    lines_touch(&c->lines, l);
    line_use(l, c->now_s);
    *item = line_item(c, l);
    g->wanted_ms = c->now_ms;
    c->stats.hits++;
    return true;
}

/* The op on the line's value: its reply leaves, and what it changes is in the line. */
static void run(struct cacher *c, struct line *l, slice_t op, uint64_t cookie)
{
    struct cache_item it = line_item(c, l);
    buf_clear(&c->reply);
    cache_op_run(op, &it, (struct cache_clock){c->now_ms, c->wall_ms}, &c->change, &c->reply);
    c->io.reply(c->io.arg, cookie, buf_slice(&c->reply));
}

/* What the op changed, into the line. True: it changed something. */
static bool take_change(struct cacher *c, struct line *l)
{
    const struct cache_change *ch = &c->change;
    struct cache_item it = line_item(c, l);
    if (ch->guarded) {
        it.guard = ch->guard;
        it.token = ch->token;
    }
    switch (ch->kind) {
    case CACHE_KEEP: break;
    case CACHE_PUT:
        it.exists = true;
        it.value = buf_slice(&ch->value);
        it.expire_ms = ch->expire_ms;
        break;
    case CACHE_EXPIRE: it.expire_ms = ch->expire_ms; break;
    case CACHE_DELETE:
        it.exists = false;
        it.value = SLICE_NONE;
        it.expire_ms = 0;
        break;
    }
    if (ch->kind != CACHE_KEEP || ch->guarded) {
        line_put(c, l, &it);
    }
    return ch->kind != CACHE_KEEP || ch->guarded;
}

static void waiter_add(struct cacher *c, struct line *l, slice_t op, enum cache_access access, uint64_t cookie)
{
    struct waiter *w = malloc(sizeof *w + op.len);
    syn_assert(w != NULL);
    w->cookie = cookie;
    w->op_len = (uint32_t)op.len;
    w->access = (uint8_t)access;
    w->old = false;
    memcpy(w->op, op.ptr, op.len);
    list_push_back(&flight_of(c, l)->waiters, &w->link);
}

/* A new transaction of this line: GETS, GETX or UPGR by its state. */
static void ask(struct cacher *c, struct line *l)
{
    struct flight *f = flight_of(c, l);
    f->txn = ++c->next_txn;
    f->asked_ms = 0;
    f->tries = 0;
    lease_want(c, l->group);
    flight_send(c, l);
}

static void flush(struct cacher *c, struct line *l)
{
    struct flight *f = flight_of(c, l);
    if (f->in_group.next == NULL) { /* one flush of a line at a time, its value does not change meanwhile */
        f->txn = ++c->next_txn;
        f->tries = 0;
        list_push_back(&c->groups[l->group].flushes, &f->in_group);
        c->stats.flushes++;
    }
    flight_send(c, l);
}

static void op_on_line(struct cacher *c, struct line *l, slice_t op, enum cache_access access, uint64_t cookie);

/* Those that waited, once more, in their order. */
static void wake(struct cacher *c, struct line *l)
{
    struct flight *f = line_flight(l);
    struct list todo;
    list_init(&todo);
    while (f != NULL && !list_empty(&f->waiters)) {
        struct list *it = f->waiters.next;
        list_remove(it);
        list_push_back(&todo, it);
    }
    bool stable = is_readable(l->state) || l->state == MESI_I;
    if (f != NULL && stable && f->writes == 0 && l->state != MESI_MS && l->state != MESI_MF) {
        flight_end(c, l);
    }
    while (!list_empty(&todo)) {
        struct waiter *w = CONTAINER_OF(todo.next, struct waiter, link);
        list_remove(&w->link);
        if (has_waiters(l)) {
            list_push_back(&line_flight(l)->waiters, &w->link);
            continue;
        }
        op_on_line(c, l, slice_of(w->op, w->op_len), (enum cache_access)w->access, w->cookie);
        free(w);
    }
}

/* Reads that asked before the snoop, answered from what came; none that stands behind a write, whose value it must see. */
static void serve_once(struct cacher *c, struct line *l, const struct cache_msg *m)
{
    struct flight *f = line_flight(l);
    struct cache_item it = m->item;
    bool expired = it.expire_ms != 0 && f->asked_ms + it.expire_ms <= c->now_ms;
    it.exists = it.exists && !expired;
    it.expire_ms = it.expire_ms != 0 ? f->asked_ms + it.expire_ms : 0;
    list_each_safe(link, &f->waiters) {
        struct waiter *w = CONTAINER_OF(link, struct waiter, link);
        if (w->access != CACHE_READS) {
            return;
        }
        if (w->old || f->snoop_epoch == 0) {
            list_remove(&w->link);
            buf_clear(&c->reply);
            cache_op_run(slice_of(w->op, w->op_len), &it, (struct cache_clock){c->now_ms, c->wall_ms}, &c->change, &c->reply);
            c->io.reply(c->io.arg, w->cookie, buf_slice(&c->reply));
            free(w);
        }
    }
}

static void install(struct cacher *c, struct line *l, const struct cache_msg *m)
{
    syn_assert(!is_readable(l->state));
    l->life = c->groups[l->group].life;
    if (m == NULL) {
        return; /* a write of ours: its value is in the line already */
    }
    struct cache_item it = m->item;
    it.expire_ms = it.expire_ms != 0 ? line_flight(l)->asked_ms + it.expire_ms : 0;
    line_put(c, l, &it);
    l->version = m->version;
}

static void ack(struct cacher *c, struct line *l, const struct cache_msg *snoop, bool dirty)
{
    struct cache_msg a = {.kind = CACHE_MSG_ACK, .group = l->group, .epoch = snoop->epoch, .seq = snoop->seq, .key = line_key(l)};
    if (dirty && !MUTANT("S61")) {
        struct flight *f = line_flight(l);
        if (f == NULL || f->in_group.next == NULL) {
            f = flight_of(c, l);
            f->txn = ++c->next_txn;
            f->tries = 0;
            flight_retry_at(c, f, c->now_ms + RETRY_MS_MIN);
            list_push_back(&c->groups[l->group].flushes, &f->in_group);
            c->stats.flushes++;
        }
        a.dirty = true;
        a.txn = f->txn;
        a.low = CONTAINER_OF(c->groups[l->group].flushes.next, struct flight, in_group)->txn;
        a.version = l->version;
        a.item = line_item(c, l);
        a.item.expire_ms = a.item.expire_ms != 0 ? a.item.expire_ms - c->now_ms : 0;
    }
    c->io.send(c->io.arg, &a);
}

static void count_snoop(struct cacher *c, enum mesi_event ev, uint8_t from)
{
    bool had = is_readable(from) || from == MESI_SM || from == MESI_EM;
    c->stats.invalidated += ev == MESI_INV && had;
    c->stats.downgraded += ev == MESI_DOWN && had;
}

static void tell_gone(struct cacher *c, const struct line *l)
{
    if (c->io.gone != NULL) {
        c->io.gone(c->io.arg, l->group, line_key(l));
    }
}

void cacher_step(struct cacher *c, struct line *l, enum mesi_event ev, const struct cache_msg *m, struct waiter *w)
{
    (void)w;
    const struct mesi_cell *cell = &MESI_TABLE[l->state][ev];
    uint8_t from = l->state;
    uint32_t act = cell->actions;
    syn_assert(cell->next < CELL_UNREAD);
    if (act & ACT_INSTALL) {
        install(c, l, m);
    }
    if (act & ACT_ONCE) {
        serve_once(c, l, m);
    }
    if (act & (ACT_ACK | ACT_ACKD)) {
        count_snoop(c, ev, from);
        ack(c, l, m, (act & ACT_ACKD) != 0);
    }
    line_set_state(c, l, cell->next);
    if (is_readable(from) && !is_readable(cell->next)) {
        tell_gone(c, l);
    }
    if (act & ACT_DROP) {
        line_drop(c, l);
    }
    if (act & ACT_BASE) {
        l->version = m->version;
    }
    if (act & ACT_COUNT) {
        c->stats.lost++;
    }
    bool is_dirty = l->state == MESI_M || l->state == MESI_MI || l->state == MESI_MS || l->state == MESI_MF;
    line_set_dirty(c, l, is_dirty);
    if (act & ACT_FLUSH) {
        flush(c, l);
    }
    if (act & ACT_AGAIN && line_flight(l)->writes == 0) {
        ask(c, l);
    }
    if (from == MESI_MS || from == MESI_MF || from == MESI_MI) {
        if (!is_dirty && line_flight(l) != NULL && line_flight(l)->in_group.next != NULL) {
            list_remove(&line_flight(l)->in_group);
            line_flight(l)->in_group.next = line_flight(l)->in_group.prev = NULL;
        }
    }
    if (act & ACT_WAKE) {
        c->fresh = ev == MESI_DATA_M ? l : NULL;
        wake(c, l);
        c->fresh = NULL;
    }
    bool idle = line_flight(l) == NULL || (list_empty(&line_flight(l)->waiters) && line_flight(l)->writes == 0);
    if (l->state == MESI_I && idle) {
        if (line_flight(l) != NULL) {
            flight_end(c, l);
        }
        line_free(c, l);
    } else if (act & ACT_INSTALL) {
        lines_trim(c, l);
    }
}

/* The line is where the op finds it; it may be gone afterwards. */
static void op_on_line(struct cacher *c, struct line *l, slice_t op, enum cache_access access, uint64_t cookie)
{
    enum mesi_event ev = access == CACHE_READS ? MESI_PRRD : c->o.back ? MESI_PRWB : MESI_PRWR;
    bool stale = ev == MESI_PRWB && l->state == MESI_E && !line_item(c, l).exists && l != c->fresh; /* memory may forget when what is absent went */
    const struct mesi_cell *cell = &MESI_TABLE[stale ? MESI_S : l->state][ev];
    uint32_t act = cell->actions;
    bool stalls = (act & ACT_STALL) && cell->next == l->state;
    if (has_waiters(l) && !stalls) { /* behind those, whatever the line would do now */
        waiter_add(c, l, op, access, cookie);
        return;
    }
    syn_assert(cell->next < CELL_UNREAD);
    if (act & ACT_HIT) {
        run(c, l, op, cookie);
        return;
    }
    if (act & ACT_DO) {
        run(c, l, op, cookie);
        if (take_change(c, l)) {
            if (l->state != cell->next) { /* else it is dirty already */
                line_set_state(c, l, cell->next);
                line_set_dirty(c, l, true);
            }
            tell_gone(c, l);
        }
        return;
    }
    if (is_readable(l->state) && !is_readable(cell->next)) {
        tell_gone(c, l);
    }
    line_set_state(c, l, cell->next);
    if (act & ACT_STALL) {
        waiter_add(c, l, op, access, cookie);
    }
    if (act & ACT_WRITE) {
        struct flight *f = flight_of(c, l);
        f->asked_ms = f->writes == 0 ? c->now_ms : f->asked_ms;
        f->writes++;
        c->stats.writes++;
        c->io.write(c->io.arg, l->group, line_key(l), op, cookie);
    }
    if (act & (ACT_GETS | ACT_GETX | ACT_UPGR)) {
        ask(c, l);
    }
}

void cacher_op(struct cacher *c, uint32_t group, slice_t key, slice_t op, enum cache_access access, uint64_t cookie)
{
    cacher_op_at(c, cacher_place(c, group, key), key, op, access, cookie);
}

void cacher_op_at(struct cacher *c, struct cache_place at, slice_t key, slice_t op, enum cache_access access, uint64_t cookie)
{
    struct cacher_group *g = &c->groups[at.group];
    if (g->lease_end_ms != 0 && !lease_lives(c, g)) {
        lease_end(c, at.group);
    }
    g->wanted_ms = c->now_ms;
    uint32_t used_s = cache_op_peeks(op) ? c->now_s - cacher_idle_s(c, at.group, key) : c->now_s;
    struct line *l = line_find_at(c, at, key);
    if (l != NULL && is_over(c, l)) {
        cacher_step(c, l, MESI_EVICT, NULL, NULL);
        l = NULL;
    }
    bool hit = l != NULL && is_readable(l->state);
    c->stats.hits += access == CACHE_READS && hit;
    c->stats.misses += access == CACHE_READS && !hit;
    if (l == NULL) {
        l = line_make(c, at.group, key);
    } else {
        lines_touch(&c->lines, l);
    }
    line_use(l, used_s);
    op_on_line(c, l, op, access, cookie);
    lines_trim(c, NULL);
}

uint32_t cacher_idle_s(const struct cacher *c, uint32_t group, slice_t key)
{
    const struct line *l = lines_find(&c->lines, group, key);
    return l != NULL ? (c->now_s - line_used_s(l)) & LINE_CLOCK : 0;
}

bool cacher_cancel(struct cacher *c, uint64_t cookie)
{
    list_each(it, &c->flights) {
        struct flight *f = CONTAINER_OF(it, struct flight, by_time);
        list_each_safe(link, &f->waiters) {
            struct waiter *w = CONTAINER_OF(link, struct waiter, link);
            if (w->cookie == cookie) {
                list_remove(&w->link);
                free(w);
                return true; /* the transaction goes on: its end is the line's */
            }
        }
    }
    return false;
}

/* The value that our own copy has once this write of ours is in memory, if that can be known here. */
static void follow(struct cacher *c, struct line *l, slice_t op, uint64_t before, uint64_t version)
{
    uint64_t end = lines_item(l).expire_ms;
    bool over = end != 0 && end <= c->now_ms; /* here: it may have lived still where the write was done */
    bool has_copy = !over && (l->state == MESI_SM || l->state == MESI_EM || (l->bits & LINE_HELD));
    if (!cache_op_overwrites(op) && !(has_copy && l->version == before)) {
        line_drop(c, l);
        l->version = 0;
        return;
    }
    struct cache_item it = line_item(c, l);
    if (cache_op_overwrites(op)) {
        it = (struct cache_item){.guard = it.guard, .token = it.token};
    }
    buf_clear(&c->reply);
    uint64_t sent = line_flight(l)->asked_ms; /* a time to live counts from before the home counts it */
    cache_op_run(op, &it, (struct cache_clock){sent, c->wall_ms - (c->now_ms - sent)}, &c->change, &c->reply);
    take_change(c, l);
    l->version = version;
}

void cacher_wrote(struct cacher *c, uint32_t group, slice_t key, slice_t op, enum cacher_outcome outcome, uint64_t epoch, uint64_t before, uint64_t version,
                  uint64_t seq)
{
    struct cacher_group *g = &c->groups[group];
    struct line *l = line_find(c, group, key);
    syn_assert(l != NULL && line_flight(l) != NULL && line_flight(l)->writes > 0);
    struct flight *f = line_flight(l);
    f->writes--;
    f->unsure |= outcome == CACHER_UNSURE;
    if ((outcome == CACHER_DONE || outcome == CACHER_DONE_OWNED) && version >= f->newest) { /* answers may come in another order; one entry's have one version */
        follow(c, l, op, before, version);
        f->newest = version;
    }
    if (f->writes > 0) {
        return;
    }
    bool snooped = f->snoop_epoch == epoch && f->snoop_seq > seq && !MUTANT("S58");
    bool ours = outcome == CACHER_DONE_OWNED && epoch == g->epoch && lease_lives(c, g) && !snooped && !f->unsure && l->version == version &&
                version == f->newest;
    bool failed = outcome == CACHER_NOT_DONE && !f->unsure && l->life == g->life && lease_lives(c, g);
    f->unsure = false;
    f->newest = 0;
    cacher_step(c, l, ours ? MESI_DONE_E : failed ? MESI_FAILED : MESI_DONE, NULL, NULL);
}

/* Is what the home sent older than a snoop that was seen here since this was asked for? */
static bool is_old(const struct flight *f, const struct cache_msg *m)
{
    return f->snoop_epoch == m->epoch && f->snoop_seq > m->seq;
}

/* It came so late that its time to live is over here, which says nothing of memory. */
static bool is_late(const struct cacher *c, const struct flight *f, const struct cache_msg *m)
{
    return m->item.exists && m->item.expire_ms != 0 && f->asked_ms + m->item.expire_ms <= c->now_ms;
}

static bool is_reading(const struct line *l)
{
    return l->state == MESI_IS || l->state == MESI_ISI;
}

/* Of a transaction that is a question, and was sent. */
static bool asks(const struct line *l, const struct flight *f)
{
    bool owning = l->state == MESI_IM || l->state == MESI_SM;
    return (is_reading(l) || (owning && f->writes == 0)) && f->asked_ms != 0;
}

/* A home answers BusRd with S or E, BusRdX and BusUpgr with M. */
static bool is_what_was_asked(const struct line *l, uint8_t grant)
{
    return is_reading(l) ? grant != CACHE_GRANT_M : grant == CACHE_GRANT_M;
}

static bool on_data(struct cacher *c, const struct cache_msg *m)
{
    struct cacher_group *g = &c->groups[m->group];
    struct line *l = line_find(c, m->group, m->key);
    struct flight *f = l != NULL ? line_flight(l) : NULL;
    if (f == NULL || f->txn != m->txn || !asks(l, f)) {
        return true; /* a copy, or an answer to what was given up */
    }
    if (!is_what_was_asked(l, m->grant)) {
        return false;
    }
    if (!lease_lives(c, g) || is_late(c, f, m)) {
        cacher_step(c, l, MESI_LOST, m, NULL); /* who sent it may lead no more: asked again, under a lease */
        return true;
    }
    enum mesi_event ev = m->grant == CACHE_GRANT_S ? MESI_DATA_S : m->grant == CACHE_GRANT_E ? MESI_DATA_E : MESI_DATA_M;
    cacher_step(c, l, is_old(f, m) && !MUTANT("S57") ? MESI_DATA_OLD : ev, m, NULL);
    return true;
}

static void on_snoop(struct cacher *c, const struct cache_msg *m)
{
    enum mesi_event ev = m->kind == CACHE_MSG_INV ? MESI_INV : MESI_DOWN;
    struct line *l = line_find(c, m->group, m->key);
    if (l == NULL || (l->state == MESI_IS && MUTANT("S59"))) {
        const struct mesi_cell *cell = &MESI_TABLE[MESI_I][ev];
        syn_assert(cell->next < CELL_UNREAD && cell->actions == ACT_ACK);
        struct cache_msg a = {.kind = CACHE_MSG_ACK, .group = m->group, .epoch = m->epoch, .seq = m->seq, .key = m->key};
        c->io.send(c->io.arg, &a);
        return;
    }
    struct flight *f = line_flight(l);
    if (f != NULL) {
        bool newer = m->epoch > f->snoop_epoch || (m->epoch == f->snoop_epoch && m->seq > f->snoop_seq);
        f->snoop_seq = newer ? m->seq : f->snoop_seq;
        f->snoop_epoch = newer ? m->epoch : f->snoop_epoch;
        list_each(it, &f->waiters) {
            struct waiter *w = CONTAINER_OF(it, struct waiter, link);
            w->old |= ev == MESI_INV && newer && l->state == MESI_IS;
        }
    }
    cacher_step(c, l, ev, m, NULL);
}

static void on_flushed(struct cacher *c, const struct cache_msg *m)
{
    struct line *l = line_find(c, m->group, m->key);
    if (l != NULL && line_flight(l) != NULL && line_flight(l)->txn == m->txn && line_flight(l)->in_group.next != NULL) {
        cacher_step(c, l, m->version != 0 ? MESI_FLUSHED : MESI_REFUSED, m, NULL);
        lease_try_report(c, m->group);
    }
}

bool cacher_on(struct cacher *c, const struct cache_msg *m)
{
    syn_assert(m->group < c->o.groups);
    struct cacher_group *g = &c->groups[m->group];
    if (m->epoch < g->epoch) {
        struct cache_msg newer = {.kind = CACHE_MSG_EPOCH, .group = m->group, .epoch = g->epoch};
        c->io.send(c->io.arg, &newer);
        return true;
    }
    if (m->epoch > g->epoch) {
        lease_end(c, m->group);
        g->epoch = m->epoch;
    }
    switch (m->kind) {
    case CACHE_MSG_DATA: return on_data(c, m);
    case CACHE_MSG_INV:
    case CACHE_MSG_DOWN: on_snoop(c, m); break;
    case CACHE_MSG_FLUSHED: on_flushed(c, m); break;
    case CACHE_MSG_GRANT: lease_on_grant(c, m); break;
    case CACHE_MSG_EPOCH: lease_on_epoch(c, m); break;
    case CACHE_MSG_NOTE: listen_on_note(c, m); break;
    default: return false;
    }
    return true;
}

void cacher_drop(struct cacher *c, uint32_t group, slice_t key)
{
    struct line *l = line_find(c, group, key);
    if (l != NULL && line_flight(l) == NULL) {
        cacher_step(c, l, MESI_EVICT, NULL, NULL);
    }
}

bool cacher_flush_all(struct cacher *c)
{
    for (uint32_t i = 0; i < c->o.groups; i++) {
        list_each_safe(it, &c->groups[i].dirty) {
            struct line *l = dirty_of(it)->line;
            if (l->state == MESI_M) {
                cacher_step(c, l, MESI_EVICT, NULL, NULL);
            }
        }
    }
    return c->stats.dirty == 0;
}

enum mesi_state cacher_state(struct cacher *c, uint32_t group, slice_t key, uint64_t *version)
{
    struct line *l = line_find(c, group, key);
    bool readable = l != NULL && is_readable(l->state);
    *version = l != NULL ? l->version : 0;
    return l == NULL || (readable && !lease_lives(c, &c->groups[group])) ? MESI_I : (enum mesi_state)l->state;
}

bool cacher_quiet(const struct cacher *c)
{
    return list_empty(&c->flights);
}

void cacher_stats(const struct cacher *c, struct cacher_stats *s)
{
    *s = c->stats;
    s->lines = c->lines.n;
    s->bytes = c->lines.bytes;
}

void cacher_check(const struct cacher *c)
{
    uint64_t by_state[MESI_STATES] = {0}, dirty = 0, busy = 0, leaving_bytes = 0;
    lines_check(&c->lines);
    for (const struct line *l = lines_next(&c->lines, NULL); l != NULL; l = lines_next(&c->lines, l)) {
        by_state[line_counted_as(c, l)]++;
        dirty += line_is_dirty(l);
        busy += line_flight(l) != NULL;
        leaving_bytes += l->state == MESI_MI ? lines_cost(l) : 0;
    }
    syn_assert(memcmp(by_state, c->stats.by_state, sizeof by_state) == 0);
    syn_assert(dirty == c->stats.dirty && busy == c->stats.busy && leaving_bytes == c->leaving_bytes);
}
