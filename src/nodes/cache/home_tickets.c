/* Replies that wait: each written key that older copies of may be read holds its ticket back (docs/cache.md, "Writing through"). A ticket that nothing holds back
 * is told to who listens ("Listening") before its reply leaves.
 *
 * Invariant: a ticket is released once, when no older copy of its keys can be read, and every listener whose lease lives has answered its notices. */
#include "nodes/cache/home_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

/* One written key, for all listeners. */
struct notice {
    struct map_node by_seq;
    struct list link;        /* home.notices */
    struct ticket *ticket;
    uint64_t seq, waiting, resend_ms;
    node_id_t writer;
    bool all;                /* every key of the group */
    uint32_t tries, key_len;
    uint8_t key[];
};

void tickets_init(struct home *h)
{
    map_init(&h->tickets);
    map_init(&h->notices_by_seq);
    list_init(&h->notices);
}

static void notice_free(struct home *h, struct notice *x)
{
    map_remove(&h->notices_by_seq, &x->by_seq);
    list_remove(&x->link);
    free(x);
}

void tickets_free(struct home *h)
{
    list_each_safe(it, &h->notices) {
        notice_free(h, CONTAINER_OF(it, struct notice, link));
    }
    struct map_node *n = map_first(&h->tickets);
    while (n != NULL) {
        struct ticket *t = CONTAINER_OF(n, struct ticket, by_no);
        n = map_next(&h->tickets, n);
        free(t);
    }
    map_fini(&h->tickets);
    map_fini(&h->notices_by_seq);
}

static bool ticket_is(const struct map_node *n, const void *no)
{
    return CONTAINER_OF(n, struct ticket, by_no)->no == *(const uint64_t *)no;
}

static struct ticket *ticket_of(struct home *h, uint64_t no, bool make)
{
    struct map_node *n = map_find(&h->tickets, hash_u64(no), &no, ticket_is);
    if (n != NULL || !make) {
        return n != NULL ? CONTAINER_OF(n, struct ticket, by_no) : NULL;
    }
    struct ticket *t = calloc(1, sizeof *t);
    syn_assert(t != NULL);
    t->no = no;
    map_insert(&h->tickets, &t->by_no, hash_u64(no));
    return t;
}

static void ticket_over(struct home *h, uint64_t no);

void ticket_waits(struct home *h, struct home_key *k, uint64_t ticket)
{
    struct ticket_ref *r = malloc(sizeof *r);
    syn_assert(r != NULL);
    r->ticket = ticket_of(h, ticket, true);
    r->ticket->keys++;
    list_push_back(&k->tickets, &r->in_key);
}

static void ticket_free(struct home *h, struct ticket *t)
{
    map_remove(&h->tickets, &t->by_no);
    free(t);
}

/* Releasing a reply may look at the key again, and forget it. */
void tickets_release(struct home *h, struct home_key *k)
{
    k->pins++;
    struct list done;
    list_init(&done);
    while (!list_empty(&k->tickets)) {
        struct list *it = k->tickets.next;
        list_remove(it);
        list_push_back(&done, it);
    }
    while (!list_empty(&done)) {
        struct ticket_ref *r = CONTAINER_OF(done.next, struct ticket_ref, in_key);
        struct ticket *t = r->ticket;
        list_remove(&r->in_key);
        free(r);
        if (--t->keys == 0 && t->closed) {
            uint64_t no = t->no;
            ticket_free(h, t);
            ticket_over(h, no);
        }
    }
    k->pins--;
}

void home_close(struct home *h, uint64_t ticket)
{
    struct ticket *t = ticket_of(h, ticket, false);
    if (t == NULL) {
        ticket_over(h, ticket);
    } else if (t->keys == 0) {
        ticket_free(h, t);
        ticket_over(h, ticket);
    } else {
        t->closed = true;
    }
}

/* --- who listens */

static bool listens(const struct home *h, uint32_t slot)
{
    return (h->holders[slot].listen_seq & 1) != 0 && home_holder_lives(h, (uint8_t)slot);
}

void holder_listens(struct home *h, struct holder *o, uint64_t seq)
{
    if (seq > o->listen_seq) { /* an older one came late */
        h->n_listeners += (uint32_t)(seq & 1) - (uint32_t)(o->listen_seq & 1);
        o->listen_seq = seq;
    }
}

bool home_is_listened(const struct home *h)
{
    return h->n_listeners > 0;
}

static uint64_t listeners(const struct home *h)
{
    uint64_t all = 0;
    for (uint32_t i = 0; h->n_listeners > 0 && i < h->n_holders; i++) {
        all |= listens(h, i) ? 1ull << i : 0;
    }
    return all;
}

static void notice_send(struct home *h, struct notice *x)
{
    uint64_t pause = (uint64_t)HOME_RETRY_MS_MIN << (x->tries < 5 ? x->tries : 5);
    x->resend_ms = h->now_ms + (pause < HOME_RETRY_MS_MAX ? pause : HOME_RETRY_MS_MAX);
    x->tries++;
    for (uint64_t left = x->waiting; left != 0; left &= left - 1) {
        node_id_t node = h->holders[__builtin_ctzll(left)].node;
        struct cache_msg m = {.kind = CACHE_MSG_NOTE, .group = h->o.group, .epoch = h->o.epoch, .seq = x->seq, .key = slice_of(x->key, x->key_len),
                              .version = x->all ? CACHE_NOTE_ALL : x->writer == node ? CACHE_NOTE_OWN : CACHE_NOTE_KEY};
        h->io.send(h->io.arg, node, &m);
    }
}

static void notice_add(struct home *h, struct ticket *t, uint64_t whom, node_id_t writer, bool all, slice_t key)
{
    struct notice *x = calloc(1, sizeof *x + key.len);
    syn_assert(x != NULL);
    x->ticket = t;
    x->seq = ++h->seq;
    x->waiting = whom;
    x->writer = writer;
    x->all = all;
    x->key_len = (uint32_t)key.len;
    if (key.len > 0) {
        memcpy(x->key, key.ptr, key.len);
    }
    t->keys++;
    if (list_empty(&h->notices)) {
        h->notices_ms = h->now_ms + HOME_RETRY_MS_MIN;
    }
    map_insert(&h->notices_by_seq, &x->by_seq, hash_u64(x->seq));
    list_push_back(&h->notices, &x->link);
    notice_send(h, x);
}

/* No older copy can be read any more: who listens hears of it, then the reply may leave. */
static void ticket_over(struct home *h, uint64_t no)
{
    uint64_t whom = listeners(h);
    struct home_written w = {0};
    if (whom != 0) {
        h->io.written(h->io.arg, no, &w);
    }
    if (w.n == 0 && !w.all) {
        h->io.release(h->io.arg, no);
        return;
    }
    struct ticket *t = ticket_of(h, no, true);
    struct reader r = reader_of(w.keys);
    syn_assert(t->keys == 0);
    t->closed = true;
    for (uint32_t i = 0; i < (w.all ? 1 : w.n); i++) {
        notice_add(h, t, whom, w.writer, w.all, w.all ? SLICE_NONE : reader_bytes(&r));
    }
    syn_assert(r.ok);
}

static void notice_less(struct home *h, struct notice *x, uint64_t who)
{
    x->waiting &= ~who;
    if (x->waiting != 0) {
        return;
    }
    struct ticket *t = x->ticket;
    notice_free(h, x);
    if (--t->keys == 0) {
        uint64_t no = t->no;
        ticket_free(h, t);
        h->io.release(h->io.arg, no);
    }
}

static bool seq_is(const struct map_node *n, const void *seq)
{
    return CONTAINER_OF(n, struct notice, by_seq)->seq == *(const uint64_t *)seq;
}

void notice_answered(struct home *h, uint8_t slot, uint64_t seq)
{
    struct map_node *n = map_find(&h->notices_by_seq, hash_u64(seq), &seq, seq_is);
    if (n != NULL) {
        notice_less(h, CONTAINER_OF(n, struct notice, by_seq), 1ull << slot);
    }
}

/* Whose lease is over has told its clients that everything may be old, before it was over here (MC6). */
void notices_timers(struct home *h)
{
    if (list_empty(&h->notices) || h->now_ms < h->notices_ms) {
        return;
    }
    h->notices_ms = h->now_ms + HOME_RETRY_MS_MIN;
    list_each_safe(it, &h->notices) {
        struct notice *x = CONTAINER_OF(it, struct notice, link);
        uint64_t over = 0;
        for (uint64_t left = x->waiting; left != 0; left &= left - 1) {
            uint32_t slot = (uint32_t)__builtin_ctzll(left);
            over |= home_holder_lives(h, (uint8_t)slot) ? 0 : 1ull << slot;
        }
        if (h->now_ms >= x->resend_ms && over != x->waiting) {
            notice_send(h, x);
        }
        notice_less(h, x, over);
    }
}

uint64_t notices_deadline(const struct home *h)
{
    return list_empty(&h->notices) ? UINT64_MAX : h->notices_ms;
}
