/* Keys at their home do what HOME_TABLE says: events come from cachers, and from entries that are proposed and applied.
 *
 * Invariants: whoever may have a copy is in `sharers` or is `owner` (MC4). While `waiting` is not empty no data of the key leaves (reads wait). A cacher counts
 * once, however often it answers: `waiting` is a set (MC7), and an answer names the snoop by its seq. */
#include "nodes/cache/home_internal.h"

#include "utils/hash.h"
#include "utils/mutant.h"

#include <stdlib.h>

enum { BOUND_LOOKS = 4 };

struct home *home_new(const struct home_options *o, const struct home_io *io, uint64_t now_ms, const node_id_t *holders, uint32_t n)
{
    struct home *h = calloc(1, sizeof *h);
    syn_assert(h != NULL && n <= HOME_HOLDERS_MAX);
    h->o = *o;
    h->io = *io;
    h->now_ms = h->began_ms = now_ms;
    for (uint32_t i = 0; i < n; i++) {
        h->holders[h->n_holders++] = (struct holder){.node = holders[i], .held = true, .tell_ms = now_ms};
    }
    h->active = n == 0 || MUTANT("S65");
    map_init(&h->keys);
    tickets_init(h);
    list_init(&h->snooping);
    list_init(&h->reserved);
    list_init(&h->order);
    return h;
}

static void asking_free(struct home_key *k)
{
    list_each_safe(it, &k->asking) {
        list_remove(it);
        free(CONTAINER_OF(it, struct asking, link));
    }
}

void home_free(struct home *h)
{
    list_each_safe(it, &h->order) {
        struct home_key *k = CONTAINER_OF(it, struct home_key, order);
        asking_free(k);
        list_each_safe(ref, &k->tickets) {
            free(CONTAINER_OF(ref, struct ticket_ref, in_key));
        }
        free(k->reserved);
        free(k);
    }
    tickets_free(h);
    map_fini(&h->keys);
    free(h);
}

void home_clock(struct home *h, uint64_t now_ms)
{
    h->now_ms = now_ms;
}

bool home_is_active(const struct home *h)
{
    return h->active;
}

static bool key_is(const struct map_node *n, const void *arg)
{
    const struct home_key *k = CONTAINER_OF(n, struct home_key, by_key);
    return slice_eq(slice_of(k->key, k->key_len), *(const slice_t *)arg);
}

struct home_key *home_key_find(struct home *h, slice_t key)
{
    struct map_node *n = map_find(&h->keys, hash_bytes(h->o.hash_key, key), &key, key_is);
    return n != NULL ? CONTAINER_OF(n, struct home_key, by_key) : NULL;
}

static uint64_t bit(uint8_t slot)
{
    return slot == NO_SLOT ? 0 : 1ull << slot;
}

static uint64_t copies(const struct home_key *k)
{
    return k->sharers | bit(k->owner);
}

static bool is_stable(const struct home_key *k)
{
    return k->state == HOME_I || k->state == HOME_S || k->state == HOME_O;
}

static void snoop(struct home *h, struct home_key *k, enum cache_msg_kind kind, uint64_t whom);

/* Cachers give clean lines up without a word, so the directory would only grow. A few of the oldest are looked at each time. */
static void keys_bound(struct home *h, const struct home_key *but)
{
    for (int i = 0; h->o.keys_max > 0 && h->keys.count > h->o.keys_max && i < BOUND_LOOKS; i++) {
        struct home_key *k = CONTAINER_OF(h->order.next, struct home_key, order);
        list_remove(&k->order);
        list_push_back(&h->order, &k->order);
        if (k != but && is_stable(k) && copies(k) != 0 && k->pins == 0) {
            k->state = HOME_X; /* as for a new owner, and then there is none */
            snoop(h, k, CACHE_MSG_INV, copies(k));
        }
    }
}

struct home_key *home_key_make(struct home *h, slice_t key)
{
    struct home_key *k = home_key_find(h, key);
    if (k != NULL) {
        return k;
    }
    k = calloc(1, sizeof *k + key.len);
    syn_assert(k != NULL);
    k->owner = k->flush_slot = NO_SLOT;
    k->key_len = (uint32_t)key.len;
    memcpy(k->key, key.ptr, key.len);
    list_init(&k->asking);
    list_init(&k->tickets);
    map_insert(&h->keys, &k->by_key, hash_bytes(h->o.hash_key, key));
    list_push_back(&h->order, &k->order);
    keys_bound(h, k);
    return k;
}

static void key_tidy(struct home *h, struct home_key *k)
{
    if (k->pins == 0 && k->reserved == NULL && k->state == HOME_I && k->writes == 0 && k->flushes == 0 && list_empty(&k->asking) && list_empty(&k->tickets)) {
        syn_assert(k->waiting == 0 && k->sharers == 0 && k->owner == NO_SLOT);
        map_remove(&h->keys, &k->by_key);
        list_remove(&k->order);
        free(k);
    }
}

/* The newest snoop, to everybody who has not answered it. */
static void snoop_send(struct home *h, struct home_key *k)
{
    struct cache_msg m = {.kind = k->snoop_kind, .group = h->o.group, .epoch = h->o.epoch, .seq = k->snoop_seq, .key = slice_of(k->key, k->key_len)};
    uint64_t pause = (uint64_t)HOME_RETRY_MS_MIN << (k->tries < 5 ? k->tries : 5);
    k->resend_ms = h->now_ms + (pause < HOME_RETRY_MS_MAX ? pause : HOME_RETRY_MS_MAX);
    k->tries++;
    for (uint64_t left = k->waiting; left != 0; left &= left - 1) {
        h->io.send(h->io.arg, h->holders[__builtin_ctzll(left)].node, &m);
    }
}

static void snoop(struct home *h, struct home_key *k, enum cache_msg_kind kind, uint64_t whom)
{
    k->snoop_seq = ++h->seq;
    k->snoop_kind = (uint8_t)kind;
    k->waiting |= whom;
    k->tries = 0;
    h->stats.invs += kind == CACHE_MSG_INV;
    h->stats.downs += kind == CACHE_MSG_DOWN;
    if (k->snooping.next == NULL) {
        list_push_back(&h->snooping, &k->snooping);
    }
    snoop_send(h, k);
}

static void snoop_over(struct home_key *k)
{
    if (k->snooping.next != NULL) {
        list_remove(&k->snooping);
        k->snooping.next = k->snooping.prev = NULL;
    }
}

static void send_data(struct home *h, struct home_key *k, uint8_t slot, uint64_t txn, enum cache_grant grant, const struct cache_item *item, uint64_t version)
{
    struct cache_msg m = {.kind = CACHE_MSG_DATA, .grant = (uint8_t)grant, .group = h->o.group, .epoch = h->o.epoch, .txn = txn, .seq = ++h->seq,
                          .version = version, .key = slice_of(k->key, k->key_len), .item = *item};
    if (grant == CACHE_GRANT_S) {
        k->sharers |= bit(slot);
    } else {
        k->sharers &= ~bit(slot);
        k->owner = slot;
    }
    h->io.send(h->io.arg, h->holders[slot].node, &m);
}

static void grant(struct home *h, struct home_key *k, uint8_t slot, uint64_t txn, enum cache_grant what)
{
    struct cache_item item = {0};
    uint64_t version = 0;
    h->io.lookup(h->io.arg, slice_of(k->key, k->key_len), &item, &version);
    send_data(h, k, slot, txn, what, &item, version);
}

/* Nobody becomes an owner of a key that somebody has the right to fill: its writes would not be heard of before they are flushed, some of them never. */
static bool is_filling(struct home *h, const struct home_key *k)
{
    return h->io.filling != NULL && h->io.filling(h->io.arg, slice_of(k->key, k->key_len));
}

/* Reads that wait, answered with what the owner sent. */
static void pass_on(struct home *h, struct home_key *k, const struct cache_msg *dirty)
{
    list_each_safe(it, &k->asking) {
        struct asking *a = CONTAINER_OF(it, struct asking, link);
        if (a->kind == CACHE_MSG_GETS) {
            send_data(h, k, a->slot, a->txn, CACHE_GRANT_S, &dirty->item, dirty->version);
            list_remove(it);
            free(a);
        }
    }
}

static void wait_here(struct home_key *k, uint8_t slot, uint8_t kind, uint64_t txn)
{
    list_each(it, &k->asking) {
        struct asking *a = CONTAINER_OF(it, struct asking, link);
        if (a->slot == slot) {
            a->txn = txn; /* asked again, or for more */
            a->kind = kind;
            return;
        }
    }
    struct asking *a = malloc(sizeof *a);
    syn_assert(a != NULL);
    *a = (struct asking){.slot = slot, .kind = kind, .txn = txn};
    list_push_back(&k->asking, &a->link);
}

/* False: the log does not take it now. */
static bool propose_flush(struct home *h, struct home_key *k, uint8_t slot, const struct cache_msg *m)
{
    if (k->flush_txn == m->txn && k->flush_slot == slot) {
        return true; /* in the log */
    }
    if (!h->io.flush(h->io.arg, h->holders[slot].node, m)) {
        return false;
    }
    k->flush_txn = m->txn;
    k->flush_slot = slot;
    k->flushes++;
    h->stats.flushes++;
    return true;
}

/* What an owner wrote over memory's value. Else it is of a time before the line was granted to others, and again: a copy of an old request did that. */
static bool is_newest(struct home *h, const struct home_key *k, const struct cache_msg *dirty)
{
    struct cache_item item = {0};
    uint64_t version = 0;
    h->io.lookup(h->io.arg, slice_of(k->key, k->key_len), &item, &version);
    return dirty->version >= version;
}

struct cause { uint8_t slot; uint8_t kind; uint64_t txn, version; const struct cache_msg *m; };

static void step(struct home *h, struct home_key *k, enum home_event ev, const struct cause *c);

/* The name of a stable state is who has copies: one that gave its copy up for a write is none of them. Who asked to own keeps the copy it may have, until it owns:
 * what it asked may be a copy of an older question, and it reads on. */
static void rename_state(struct home_key *k)
{
    if (is_stable(k)) {
        k->state = k->owner != NO_SLOT ? HOME_O : k->sharers != 0 ? HOME_S : HOME_I;
    }
}

/* With write-back: whoever is granted a line before a command over several keys is in memory could write what that command then takes away, and before a
 * flush is, could read what that changes: its owner may have crashed since. And who were granted a line that such a command waits for would hold it up again. */
static bool must_wait(const struct home *h, const struct home_key *k)
{
    return h->o.back && (k->writes > 0 || k->reserved != NULL || (k->flushes > 0 && is_stable(k)));
}

static void request(struct home *h, struct home_key *k, uint8_t slot, uint8_t kind, uint64_t txn)
{
    if (must_wait(h, k)) {
        wait_here(k, slot, kind, txn);
        return;
    }
    if (kind != CACHE_MSG_GETS && is_filling(h, k)) {
        h->io.unfill(h->io.arg, slice_of(k->key, k->key_len));
        return; /* asked again when the right has ended */
    }
    bool read = kind == CACHE_MSG_GETS, others = (copies(k) & ~bit(slot)) != 0 && !(kind == CACHE_MSG_UPGR && MUTANT("S60"));
    bool owned = k->owner != NO_SLOT && k->owner != slot;
    enum home_event ev = read ? (owned ? HOME_GETS_O : HOME_GETS) : others ? HOME_GETX_O : HOME_GETX;
    step(h, k, ev, &(struct cause){.slot = slot, .kind = kind, .txn = txn});
}

bool home_key_settled(const struct home_key *k)
{
    return k->owner == NO_SLOT && k->flushes == 0 && is_stable(k);
}

static void next(struct home *h, struct home_key *k)
{
    if (k->reserved != NULL && home_key_settled(k) && h->io.settled != NULL) {
        h->io.settled(h->io.arg);
    }
    while (is_stable(k) && !must_wait(h, k) && !list_empty(&k->asking)) {
        struct asking *a = CONTAINER_OF(k->asking.next, struct asking, link);
        struct asking one = *a;
        list_remove(&a->link);
        free(a);
        request(h, k, one.slot, one.kind, one.txn);
        if (!list_empty(&k->asking) && CONTAINER_OF(k->asking.prev, struct asking, link)->slot == one.slot) {
            struct list *it = k->asking.prev; /* it waits for an answer now: it keeps its place before those that came later */
            list_remove(it);
            list_push_front(&k->asking, it);
        }
    }
}

static void tell_flushed(struct home *h, const struct home_key *k, uint8_t slot, uint64_t txn, uint64_t version)
{
    struct cache_msg m = {.kind = CACHE_MSG_FLUSHED, .group = h->o.group, .epoch = h->o.epoch, .txn = txn, .version = version,
                          .key = slice_of(k->key, k->key_len)};
    if (slot != NO_SLOT) {
        h->io.send(h->io.arg, h->holders[slot].node, &m);
    }
}

/* Its log may take nothing now, for a leadership that moves say: then it is asked again with the snoops. */
void home_fence_key(struct home *h, struct home_key *k)
{
    if (h->io.fence(h->io.arg, slice_of(k->key, k->key_len))) {
        h->stats.fences++;
        snoop_over(k);
        return;
    }
    k->resend_ms = h->now_ms + HOME_RETRY_MS_MIN;
    if (k->snooping.next == NULL) {
        list_push_back(&h->snooping, &k->snooping);
    }
}

static void step(struct home *h, struct home_key *k, enum home_event ev, const struct cause *c)
{
    const struct home_cell *cell = &HOME_TABLE[k->state][ev];
    uint32_t act = cell->actions;
    uint8_t slot = c->slot;
    syn_assert(cell->next < CELL_UNREAD);
    if (act & HACT_CLEAR) {
        k->sharers = 0;
        k->owner = NO_SLOT;
    }
    if (act & HACT_SHARE && k->owner != NO_SLOT) {
        k->sharers |= bit(k->owner);
        k->owner = NO_SLOT;
    }
    k->state = cell->next;
    if (act & HACT_WAIT) {
        wait_here(k, slot, c->kind, c->txn);
    }
    if (act & HACT_GRANT_E && is_filling(h, k)) {
        grant(h, k, slot, c->txn, CACHE_GRANT_S); /* rename_state says so */
    } else if (act & (HACT_GRANT_S | HACT_GRANT_E | HACT_GRANT_M)) {
        grant(h, k, slot, c->txn, act & HACT_GRANT_S ? CACHE_GRANT_S : act & HACT_GRANT_E ? CACHE_GRANT_E : CACHE_GRANT_M);
    }
    if (act & HACT_DOWN) {
        snoop(h, k, CACHE_MSG_DOWN, bit(k->owner));
    }
    if (act & HACT_INV) {
        snoop(h, k, CACHE_MSG_INV, copies(k) & ~bit(slot));
    }
    if (ev == HOME_ACKD) { /* others may come again meanwhile, sent twice */
        k->awaited_txn = c->m->txn;
        k->awaited_slot = slot;
    }
    if (act & HACT_FLUSH) {
        propose_flush(h, k, slot, c->m);
    }
    if (act & HACT_PASS) {
        pass_on(h, k, c->m);
    }
    if (act & HACT_FENCE) {
        k->waiting = 0;
        snoop_over(k);
        home_fence_key(h, k);
    }
    if (act & HACT_TELL) {
        tell_flushed(h, k, slot, c->txn, c->version);
    }
    rename_state(k);
    if (act & HACT_NEXT) {
        next(h, k);
    }
}

/* One answer to the newest snoop, or the end of a lease instead of it. */
void home_acked(struct home *h, struct home_key *k, uint8_t slot, const struct cache_msg *dirty, bool over)
{
    k->waiting &= ~bit(slot);
    if (dirty != NULL && (k->owner != slot || !is_newest(h, k, dirty))) {
        dirty = NULL; /* a former owner that was not told yet that memory has it: others may still have to answer */
    }
    bool inv = k->snoop_kind == CACHE_MSG_INV;
    struct cause c = {.slot = slot, .m = dirty};
    if (over && h->o.back && !MUTANT("S66") && k->owner == slot) {
        step(h, k, HOME_OVER, &c);
        return;
    }
    if (inv) {
        k->sharers &= ~bit(slot);
        k->owner = k->owner == slot ? NO_SLOT : k->owner;
    }
    if (dirty != NULL) {
        step(h, k, HOME_ACKD, &c);
    }
    if (k->waiting == 0) {
        snoop_over(k);
        if (dirty == NULL || k->state == HOME_W) {
            step(h, k, HOME_ACK, &c);
        }
        tickets_release(h, k);
        key_tidy(h, k);
    }
}

static void on_ack(struct home *h, uint8_t slot, const struct cache_msg *m)
{
    struct home_key *k = home_key_find(h, m->key);
    bool answers = k != NULL && k->waiting & bit(slot) && (m->seq == k->snoop_seq || MUTANT("S63")), taken = true;
    if (m->dirty) { /* if late: it is never dropped, memory judges by the version */
        k = home_key_make(h, m->key);
        taken = propose_flush(h, k, slot, m);
    }
    if (answers && taken) {
        home_acked(h, k, slot, m->dirty ? m : NULL, false);
    } else if (m->dirty) { /* not taken: asked again, until its lease is over */
        key_tidy(h, k);
    }
}

static void on_request(struct home *h, uint8_t slot, const struct cache_msg *m)
{
    if (!h->active || slot == NO_SLOT || !home_holder_lives(h, slot)) {
        return; /* asked again under a lease */
    }
    struct home_key *k = home_key_make(h, m->key);
    h->stats.bus_rd += m->kind == CACHE_MSG_GETS;
    h->stats.bus_rdx += m->kind == CACHE_MSG_GETX;
    h->stats.bus_upgr += m->kind == CACHE_MSG_UPGR;
    request(h, k, slot, m->kind, m->txn);
}

/* Of who has not reported until this home had to begin: others may have read what memory had instead, so what it writes is lost, however often it comes. */
static void on_flush(struct home *h, uint8_t slot, const struct cache_msg *m)
{
    struct home_key *k = home_key_make(h, m->key);
    struct holder *o = &h->holders[slot];
    bool in_log = k->flush_txn == m->txn && k->flush_slot == slot;
    bool is_out = h->active || (h->o.unholds && !o->held);
    if (is_out && !o->reported && !in_log && m->txn > o->refused_txn) {
        o->refused_txn = m->txn;
    }
    if (m->txn <= o->refused_txn && !in_log) {
        tell_flushed(h, k, slot, m->txn, 0);
    } else {
        step(h, k, HOME_FLUSH, &(struct cause){.slot = slot, .m = m});
    }
    key_tidy(h, k);
}

bool home_on(struct home *h, node_id_t from, const struct cache_msg *m)
{
    uint8_t slot = home_holder(h, from);
    if (m->kind == CACHE_MSG_LEASE) {
        holder_on_lease(h, from, m);
        return true;
    }
    if (!h->o.back && (m->dirty || m->kind == CACHE_MSG_FLUSH)) {
        return false; /* nobody is dirty */
    }
    if (m->epoch != h->o.epoch || slot == NO_SLOT) {
        return true; /* older: it hears of ours with EPOCH; newer: so do we, soon */
    }
    switch (m->kind) {
    case CACHE_MSG_GETS:
    case CACHE_MSG_GETX:
    case CACHE_MSG_UPGR: on_request(h, slot, m); break;
    case CACHE_MSG_ACK: on_ack(h, slot, m); break;
    case CACHE_MSG_FLUSH: on_flush(h, slot, m); break;
    case CACHE_MSG_NOTED: notice_answered(h, slot, m->seq); break;
    case CACHE_MSG_REPORT: holder_on_report(h, from); break;
    default: return false;
    }
    return true;
}

void home_proposed(struct home *h, node_id_t writer, slice_t key)
{
    struct home_key *k = home_key_make(h, key);
    uint8_t slot = writer != 0 ? home_holder(h, writer) : NO_SLOT;
    k->writes++;
    h->stats.writes++;
    bool others = (copies(k) & ~bit(slot)) != 0;
    k->sharers &= ~bit(slot); /* its own copy is not read from now on, until it is owned anew */
    k->owner = k->owner == slot ? NO_SLOT : k->owner;
    step(h, k, others ? HOME_WRITE_O : HOME_WRITE, &(struct cause){.slot = slot});
}

/* The writer's own copy went when it was proposed. If it has one now, it gave the write up and read again: what is older than the write. */
void home_applied(struct home *h, slice_t key, uint64_t ticket)
{
    struct home_key *k = home_key_make(h, key);
    k->newest = ticket;
    if (copies(k) != 0) { /* somebody got a copy since it was proposed */
        step(h, k, HOME_WRITE_O, &(struct cause){.slot = NO_SLOT});
    }
    if (k->waiting != 0) {
        ticket_waits(h, k, ticket);
    }
    key_tidy(h, k);
}

bool home_owned(struct home *h, node_id_t writer, slice_t key, uint64_t ticket, uint64_t *seq)
{
    struct home_key *k = home_key_find(h, key);
    uint8_t slot = writer != 0 ? home_holder(h, writer) : NO_SLOT;
    syn_assert(k == NULL || k->writes > 0);
    *seq = h->seq;
    if (k == NULL) {
        return false;
    }
    k->writes--;
    if (writer == 0 && k->writes == 0) { /* the last of the commands that were proposed meanwhile */
        reservation_end(k);
    }
    bool ours = slot != NO_SLOT && home_holder_lives(h, slot) && k->state == HOME_I && !must_wait(h, k) && k->newest == ticket && list_empty(&k->asking);
    if (ours) {
        k->state = HOME_O;
        k->owner = slot;
        *seq = ++h->seq;
    }
    next(h, k);
    key_tidy(h, k);
    return ours;
}

void home_applied_all(struct home *h, uint64_t ticket)
{
    list_each_safe(it, &h->order) { /* the map may be moved while a key is looked up */
        struct home_key *k = CONTAINER_OF(it, struct home_key, order);
        if (copies(k) != 0 || k->writes > 0) {
            home_applied(h, slice_of(k->key, k->key_len), ticket);
        }
    }
}

void home_flushed(struct home *h, node_id_t from, slice_t key, uint64_t txn, uint64_t version)
{
    struct home_key *k = home_key_make(h, key);
    uint8_t slot = home_holder(h, from);
    bool awaits = k->state == HOME_OF || k->state == HOME_XF;
    k->flushes -= k->flushes > 0;
    if (k->flush_txn == txn && k->flush_slot == slot) {
        k->flush_txn = 0;
        k->flush_slot = NO_SLOT;
    }
    bool ours = awaits && k->awaited_txn == txn && k->awaited_slot == slot;
    syn_assert(!awaits || k->waiting == 0);
    if (!awaits || ours) {
        step(h, k, HOME_FLUSHED, &(struct cause){.slot = slot, .txn = txn, .version = version});
    } else {
        tell_flushed(h, k, slot, txn, version); /* one that was sent twice: what this key waits for is not in memory yet */
    }
    next(h, k);
    key_tidy(h, k);
}

void home_fenced(struct home *h, slice_t key)
{
    struct home_key *k = home_key_find(h, key);
    if (k != NULL) {
        step(h, k, HOME_FENCED, &(struct cause){.slot = NO_SLOT});
        tickets_release(h, k);
        key_tidy(h, k);
    }
}

void home_key_take_back(struct home *h, struct home_key *k)
{
    if (k->state == HOME_O) {
        k->state = HOME_X; /* as for a new owner, and then there is none */
        snoop(h, k, CACHE_MSG_INV, bit(k->owner));
    }
}

void home_key_go_on(struct home *h, struct home_key *k)
{
    next(h, k);
    key_tidy(h, k);
}

void home_info(struct home *h, slice_t key, struct home_key_info *out)
{
    struct home_key *k = home_key_find(h, key);
    *out = (struct home_key_info){.state = k != NULL ? (enum home_state)k->state : HOME_I};
    for (uint64_t left = k != NULL ? k->sharers : 0; left != 0; left &= left - 1) {
        out->sharers[out->n_sharers++] = h->holders[__builtin_ctzll(left)].node;
    }
    out->owner = k != NULL && k->owner != NO_SLOT ? h->holders[k->owner].node : 0;
}

void home_stats(const struct home *h, struct home_stats *s)
{
    *s = h->stats;
    s->keys = h->keys.count;
}

bool home_quiet(const struct home *h)
{
    return list_empty(&h->snooping) && list_empty(&h->notices);
}
