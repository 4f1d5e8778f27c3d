/* Who may have lines of this group, and until when.
 *
 * A lease is granted from the time at which it is certain that nobody else led: the begin of a confirmed ReadIndex round. So a home of a later epoch, which waits for
 * CACHE_LEASE before it takes writes, cannot be overtaken by a lease of an earlier one (MC11). A cacher that does not answer a snoop is taken to have answered
 * when its lease is over: it has ended earlier there (MC6). */
#include "nodes/cache/home_internal.h"

#include "utils/mutant.h"

enum { VOUCH_RETRY_MS = 100, TELL_EVERY_MS = 50, FORGET_RETRY_MS = 500 };

uint8_t home_holder(const struct home *h, node_id_t node)
{
    for (uint32_t i = 0; i < h->n_holders; i++) {
        if (h->holders[i].node == node) {
            return (uint8_t)i;
        }
    }
    return NO_SLOT;
}

bool home_holder_lives(const struct home *h, uint8_t slot)
{
    return h->holders[slot].until_ms > h->now_ms;
}

static bool is_vouched(const struct home *h)
{
    return h->vouched_ms != 0 && h->now_ms < h->vouched_ms + h->o.lease_ms / 2;
}

static void grant_lease(struct home *h, struct holder *o)
{
    uint64_t until = h->vouched_ms + h->o.lease_ms;
    o->waits = false;
    o->until_ms = until > o->until_ms ? until : o->until_ms;
    h->stats.leases++;
    struct cache_msg m = {.kind = CACHE_MSG_GRANT, .group = h->o.group, .epoch = h->o.epoch, .txn = o->asked_txn, .seq = o->listen_seq, .version = until - h->now_ms};
    h->io.send(h->io.arg, o->node, &m);
}

static void vouch(struct home *h)
{
    if (!h->vouching || h->now_ms >= h->vouch_ms + VOUCH_RETRY_MS) {
        h->vouching = true;
        h->vouch_ms = h->now_ms;
        h->io.vouch(h->io.arg);
    }
}

static void try_grant(struct home *h, struct holder *o)
{
    if (!o->waits || !h->active || !o->reported || o->leaves) {
        return;
    }
    if (!o->held) {
        o->hold_asked = o->hold_asked || h->io.hold(h->io.arg, o->node);
    } else if (is_vouched(h)) {
        grant_lease(h, o);
    } else {
        vouch(h);
    }
}

void holder_on_lease(struct home *h, node_id_t from, const struct cache_msg *m)
{
    uint8_t slot = home_holder(h, from);
    if (slot == NO_SLOT) {
        if (h->n_holders == HOME_HOLDERS_MAX) {
            return;
        }
        slot = (uint8_t)h->n_holders++;
        h->holders[slot] = (struct holder){.node = from};
    }
    struct holder *o = &h->holders[slot];
    if (m->epoch != h->o.epoch || !o->reported) { /* first it gives up what it may have of an older epoch */
        struct cache_msg e = {.kind = CACHE_MSG_EPOCH, .group = h->o.group, .epoch = h->o.epoch};
        h->io.send(h->io.arg, from, &e);
    }
    holder_listens(h, o, m->seq);
    o->waits = true;
    o->asked_txn = m->txn;
    try_grant(h, o);
}

/* When every lease of an earlier home is over. */
static uint64_t active_at(const struct home *h)
{
    return h->began_ms + h->o.lease_ms + h->o.lease_ms / 16;
}

static void try_begin(struct home *h)
{
    bool all = true;
    for (uint32_t i = 0; i < h->n_holders; i++) {
        all = all && (h->holders[i].reported || !h->holders[i].held);
    }
    bool may_leave_out = !(h->o.back && h->o.unholds);
    if (!h->active && (all || (may_leave_out && h->now_ms >= active_at(h)))) {
        h->active = true;
        for (uint32_t i = 0; i < h->n_holders; i++) {
            try_grant(h, &h->holders[i]);
        }
    }
}

void holder_on_report(struct home *h, node_id_t from)
{
    struct holder *o = &h->holders[home_holder(h, from)];
    o->reported = true;
    try_begin(h);
    try_grant(h, o);
}

void home_held(struct home *h, node_id_t node)
{
    uint8_t slot = home_holder(h, node);
    if (slot != NO_SLOT) {
        h->holders[slot].held = true;
        try_grant(h, &h->holders[slot]);
    }
}

void home_left(struct home *h, node_id_t node)
{
    uint8_t slot = home_holder(h, node);
    if (slot != NO_SLOT && h->holders[slot].held) {
        h->holders[slot].leaves = true;
    }
}

/* A home that begins without it waits for no lease of it: there must be none, of this home or an earlier one. */
static uint64_t forget_at(const struct home *h, const struct holder *o)
{
    bool late = h->o.back && h->o.unholds && !h->active && !o->reported;
    uint64_t over = o->reported || o->until_ms > active_at(h) ? o->until_ms : active_at(h);
    return !o->held || !(late || o->leaves) ? UINT64_MAX : over > o->forget_ms ? over : o->forget_ms;
}

node_id_t home_to_forget(struct home *h)
{
    for (uint32_t i = 0; i < h->n_holders; i++) {
        struct holder *o = &h->holders[i];
        if (h->now_ms >= forget_at(h, o)) {
            o->forget_ms = h->now_ms + FORGET_RETRY_MS;
            o->leaves = true; /* it may report before memory has forgotten it */
            return o->node;
        }
    }
    return 0;
}

void home_unheld(struct home *h, node_id_t node)
{
    uint8_t slot = home_holder(h, node);
    if (slot != NO_SLOT) {
        h->holders[slot].held = h->holders[slot].hold_asked = h->holders[slot].leaves = false;
        try_begin(h);
        try_grant(h, &h->holders[slot]);
    }
}

void home_vouched(struct home *h, uint64_t begun_ms)
{
    h->vouching = false;
    h->vouched_ms = begun_ms > h->vouched_ms ? begun_ms : h->vouched_ms;
    for (uint32_t i = 0; i < h->n_holders; i++) {
        try_grant(h, &h->holders[i]);
    }
}

static void resend(struct home *h)
{
    struct list todo;
    list_init(&todo);
    while (!list_empty(&h->snooping)) {
        struct list *it = h->snooping.next;
        list_remove(it);
        list_push_back(&todo, it);
    }
    while (!list_empty(&todo)) {
        struct home_key *k = CONTAINER_OF(todo.next, struct home_key, snooping);
        list_remove(&k->snooping);
        list_push_back(&h->snooping, &k->snooping);
        if (k->state == HOME_L) {
            if (h->now_ms >= k->resend_ms) {
                home_fence_key(h, k);
            }
            continue;
        }
        uint64_t over = 0;
        for (uint64_t left = k->waiting; left != 0; left &= left - 1) {
            uint8_t slot = (uint8_t)__builtin_ctzll(left);
            over |= home_holder_lives(h, slot) && !(k->tries > 1 && MUTANT("S62")) ? 0 : 1ull << slot;
        }
        if (over == 0 && h->now_ms >= k->resend_ms) {
            struct cache_msg m = {.kind = k->snoop_kind, .group = h->o.group, .epoch = h->o.epoch, .seq = k->snoop_seq, .key = slice_of(k->key, k->key_len)};
            uint64_t pause = (uint64_t)HOME_RETRY_MS_MIN << (k->tries < 5 ? k->tries : 5);
            k->resend_ms = h->now_ms + (pause < HOME_RETRY_MS_MAX ? pause : HOME_RETRY_MS_MAX);
            k->tries++;
            for (uint64_t left = k->waiting; left != 0; left &= left - 1) {
                h->io.send(h->io.arg, h->holders[__builtin_ctzll(left)].node, &m);
            }
        }
        while (over != 0) {
            uint8_t slot = (uint8_t)__builtin_ctzll(over);
            over &= over - 1;
            h->stats.overdue++;
            bool last = over == 0; /* the key may be gone afterwards */
            home_acked(h, k, slot, NULL, true);
            if (last) {
                break;
            }
        }
    }
}

void home_timers(struct home *h)
{
    try_begin(h);
    for (uint32_t i = 0; i < h->n_holders; i++) {
        struct holder *o = &h->holders[i];
        if (!h->active && o->held && !o->reported && h->now_ms >= o->tell_ms) {
            struct cache_msg e = {.kind = CACHE_MSG_EPOCH, .group = h->o.group, .epoch = h->o.epoch};
            o->tell_ms = h->now_ms + TELL_EVERY_MS;
            h->io.send(h->io.arg, o->node, &e);
        }
        if (o->waits && (o->hold_asked || o->held)) {
            try_grant(h, o);
        }
    }
    resend(h);
    reservations_timers(h);
    notices_timers(h);
}

uint64_t home_deadline(const struct home *h)
{
    uint64_t at = notices_deadline(h), reserved = reservations_deadline(h);
    at = reserved < at ? reserved : at;
    if (!h->active) { /* instants that stay where they are, however often somebody asks meanwhile */
        at = h->now_ms < active_at(h) ? active_at(h) : at;
        for (uint32_t i = 0; i < h->n_holders; i++) {
            const struct holder *o = &h->holders[i];
            at = o->held && !o->reported && o->tell_ms < at ? o->tell_ms : at;
        }
    }
    for (uint32_t i = 0; i < h->n_holders; i++) {
        uint64_t due = forget_at(h, &h->holders[i]);
        at = due < at ? due : at;
    }
    if (h->vouching) {
        at = h->vouch_ms + VOUCH_RETRY_MS < at ? h->vouch_ms + VOUCH_RETRY_MS : at;
    }
    list_each(it, (struct list *)&h->snooping) {
        const struct home_key *k = CONTAINER_OF(it, struct home_key, snooping);
        uint64_t due = k->resend_ms;
        for (uint64_t left = k->waiting; left != 0; left &= left - 1) {
            uint64_t until = h->holders[__builtin_ctzll(left)].until_ms;
            due = until < due ? until : due;
        }
        at = due < at ? due : at;
    }
    return at;
}
