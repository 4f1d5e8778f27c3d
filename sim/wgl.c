/* The linearizability search and its models; see wgl.h.
 *
 * Invariants: the list holds call and return entries of the operations not yet placed, by time; `done` has one bit for each
 * placed one; the memory never holds a pair twice, so no configuration is walked twice. */
#include "wgl.h"

#include "utils/assert.h"
#include "utils/hash.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    struct entry *prev, *next;
    struct entry *match; /* of a call: its return; of a return: NULL */
    size_t op;
    uint64_t at;
};

struct memo {
    uint64_t *slots; /* hashes of (set, state); 0: empty */
    size_t mask, count;
};

struct search {
    const struct wgl_model *m;
    const struct wgl_op *ops;
    size_t n, words;
    struct entry head;
    struct entry *entries;
    uint64_t *done;
    struct memo memo;
    struct wgl_state state;
    struct frame {
        struct entry *call;
        struct wgl_state before;
    } *stack;
    size_t depth;
};

static int entry_cmp(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->at != y->at) {
        return x->at < y->at ? -1 : 1;
    }
    bool xr = x->match == NULL, yr = y->match == NULL; /* calls before returns of the same instant: they overlap */
    if (xr != yr) {
        return xr ? 1 : -1;
    }
    return x->op < y->op ? -1 : x->op > y->op;
}

static void list_build(struct search *s)
{
    size_t n = s->n * 2, *ret = calloc(s->n + 1, sizeof *ret);
    s->entries = calloc(n + 1, sizeof *s->entries);
    syn_assert(s->entries != NULL && ret != NULL);
    for (size_t i = 0; i < s->n; i++) {
        s->entries[2 * i] = (struct entry){.op = i, .at = s->ops[i].call_at, .match = &s->head}; /* a mark, for the sort */
        s->entries[2 * i + 1] = (struct entry){.op = i, .at = s->ops[i].return_at};
    }
    qsort(s->entries, n, sizeof *s->entries, entry_cmp);
    for (size_t i = 0; i < n; i++) {
        if (s->entries[i].match == NULL) {
            ret[s->entries[i].op] = i;
        }
    }
    struct entry *last = &s->head;
    for (size_t i = 0; i < n; i++) {
        struct entry *e = &s->entries[i];
        if (e->match != NULL) {
            e->match = &s->entries[ret[e->op]];
        }
        e->prev = last;
        last->next = e;
        last = e;
    }
    last->next = NULL;
    free(ret);
}

static void unlink_entry(struct entry *e)
{
    e->prev->next = e->next;
    if (e->next != NULL) {
        e->next->prev = e->prev;
    }
}

static void relink_entry(struct entry *e)
{
    e->prev->next = e;
    if (e->next != NULL) {
        e->next->prev = e;
    }
}

static void lift(struct entry *call)
{
    unlink_entry(call);
    unlink_entry(call->match);
}

static void unlift(struct entry *call)
{
    relink_entry(call->match);
    relink_entry(call);
}

static uint64_t config_hash(const struct search *s)
{
    uint64_t h = hash_bytes(1, (slice_t){(const uint8_t *)s->done, s->words * 8});
    h = hash_u64(h ^ hash_bytes(2, (slice_t){(const uint8_t *)&s->state, sizeof s->state}));
    return h != 0 ? h : 1;
}

static void memo_grow(struct memo *m)
{
    size_t cap = m->mask ? (m->mask + 1) * 2 : 256;
    uint64_t *slots = calloc(cap, sizeof *slots);
    syn_assert(slots != NULL);
    for (size_t i = 0; m->slots != NULL && i <= m->mask; i++) {
        uint64_t h = m->slots[i];
        if (h != 0) {
            size_t at = h & (cap - 1);
            while (slots[at] != 0) {
                at = (at + 1) & (cap - 1);
            }
            slots[at] = h;
        }
    }
    free(m->slots);
    m->slots = slots;
    m->mask = cap - 1;
}

/* True when the pair is new. Pairs are known by 64 bits of hash: two that collide could hide a linearization, never invent one. */
static bool memo_add(struct memo *m, uint64_t h)
{
    if (m->slots == NULL || m->count * 2 > m->mask) {
        memo_grow(m);
    }
    size_t at = h & m->mask;
    while (m->slots[at] != 0) {
        if (m->slots[at] == h) {
            return false;
        }
        at = (at + 1) & m->mask;
    }
    m->slots[at] = h;
    m->count++;
    return true;
}

static void set_done(struct search *s, size_t op, bool on)
{
    uint64_t bit = (uint64_t)1 << (op & 63);
    s->done[op >> 6] = on ? s->done[op >> 6] | bit : s->done[op >> 6] & ~bit;
}

static bool is_open(const struct entry *call)
{
    return call->match->at == WGL_NEVER;
}

static bool are_alike(const struct wgl_op *a, const struct wgl_op *b)
{
    return a->kind == b->kind && a->result == b->result && memcmp(a->arg, b->arg, sizeof a->arg) == 0;
}

/* Of those that are alike the first is taken, and no long run of them where a short one explains as much. */
static bool may_be_next(const struct search *s, const struct entry *call)
{
    const struct wgl_op *op = &s->ops[call->op];
    for (const struct entry *e = s->head.next; e != call; e = e->next) {
        if (e->match != NULL && is_open(e) && are_alike(&s->ops[e->op], op)) {
            return false;
        }
    }
    uint32_t run = 1;
    const struct wgl_op *last = op;
    for (size_t i = s->depth; i > 0 && is_open(s->stack[i - 1].call); i--) {
        const struct wgl_op *before = &s->ops[s->stack[i - 1].call->op];
        run += !are_alike(before, last);
        last = before;
    }
    return s->m->open_run_max == 0 || run <= s->m->open_run_max;
}

/* Tries to place the operation of a call next. False: it cannot happen here, or the configuration was seen. */
static bool place(struct search *s, struct entry *call)
{
    struct wgl_state before = s->state;
    if (!s->m->step(&s->state, &s->ops[call->op])) {
        s->state = before;
        return false;
    }
    if (is_open(call) && memcmp(&before, &s->state, sizeof before) == 0) {
        return false; /* it changes nothing, and need not have happened */
    }
    set_done(s, call->op, true);
    if (!memo_add(&s->memo, config_hash(s))) {
        set_done(s, call->op, false);
        s->state = before;
        return false;
    }
    s->stack[s->depth++] = (struct frame){call, before};
    lift(call);
    return true;
}

static struct entry *take_back(struct search *s)
{
    struct frame *f = &s->stack[--s->depth];
    s->state = f->before;
    set_done(s, f->call->op, false);
    unlift(f->call);
    return f->call->next;
}

/* Only operations that never returned are left: those may never have happened. */
static bool only_open(const struct search *s)
{
    for (const struct entry *e = s->head.next; e != NULL; e = e->next) {
        if (e->match == NULL && e->at != WGL_NEVER) {
            return false;
        }
    }
    return true;
}

/* An operation that never returned is placed only where no other can be: most of them explain nothing, and any order of those would be tried. */
static enum wgl_verdict search_run(struct search *s, uint64_t budget, size_t *deepest, size_t *blocked)
{
    struct entry *e = s->head.next;
    bool lazy = false; /* now the calls that never returned are tried */
    size_t open = 0;
    for (size_t i = 0; i < s->n; i++) {
        open += s->ops[i].return_at == WGL_NEVER;
    }
    for (uint64_t steps = 0; s->head.next != NULL; steps++) {
        if (steps > budget) {
            return WGL_UNKNOWN;
        }
        if (s->depth + open >= s->n && only_open(s)) {
            return WGL_OK;
        }
        if (e != NULL && e->match != NULL) {
            bool placed = is_open(e) == lazy && (!lazy || may_be_next(s, e)) && place(s, e);
            lazy = lazy && !placed;
            e = placed ? s->head.next : e->next;
            continue;
        }
        if (e != NULL && e->at == WGL_NEVER) {
            e = NULL; /* from here on only open returns: nothing further is a call */
        }
        if (!lazy && open > 0) {
            lazy = true;
            e = s->head.next;
            continue;
        }
        if (s->depth >= *deepest && e != NULL) {
            *deepest = s->depth;
            *blocked = e->op;
        }
        if (s->depth == 0) {
            return WGL_VIOLATION;
        }
        lazy = is_open(s->stack[s->depth - 1].call);
        e = take_back(s);
    }
    return WGL_OK;
}

enum wgl_verdict wgl_check(const struct wgl_model *m, const struct wgl_op *ops, size_t n, uint64_t budget, size_t *deepest,
                           size_t *blocked)
{
    size_t d = 0, b = 0;
    struct search s = {.m = m, .ops = ops, .n = n, .words = n / 64 + 1};
    s.done = calloc(s.words, sizeof *s.done);
    s.stack = calloc(n + 1, sizeof *s.stack);
    syn_assert(s.done != NULL && s.stack != NULL);
    list_build(&s);
    m->init(&s.state);
    enum wgl_verdict v = search_run(&s, budget, &d, &b);
    if (deepest != NULL) {
        *deepest = d;
    }
    if (blocked != NULL) {
        *blocked = b;
    }
    free(s.memo.slots);
    free(s.entries);
    free(s.done);
    free(s.stack);
    return v;
}

static void zero_init(struct wgl_state *s)
{
    memset(s, 0, sizeof *s);
}

static bool register_step(struct wgl_state *s, const struct wgl_op *op)
{
    switch (op->kind) {
    case REG_READ: return op->result == s->w[0];
    case REG_WRITE: s->w[0] = op->arg[0]; return true;
    case REG_CAS:
        if (s->w[0] != op->arg[0]) {
            return op->result == 0;
        }
        s->w[0] = op->arg[1];
        return op->result == 1;
    default: return false;
    }
}

const struct wgl_model wgl_register = {zero_init, register_step, 0};

/* w[0] newest token, w[1] mode, w[2] number of holders, w[3..] holders in ascending order. */
enum { LOCK_HOLDERS_AT = 3, LOCK_HOLDERS_MAX = WGL_STATE_WORDS - LOCK_HOLDERS_AT };

static bool holds(const struct wgl_state *s, uint64_t owner)
{
    for (uint64_t i = 0; i < s->w[2]; i++) {
        if (s->w[LOCK_HOLDERS_AT + i] == owner) {
            return true;
        }
    }
    return false;
}

static bool lock_add(struct wgl_state *s, const struct wgl_op *op)
{
    uint64_t n = s->w[2], at = n;
    if (n > 0 && (s->w[1] == 2 || op->arg[1] == 2 || n == LOCK_HOLDERS_MAX)) {
        return false;
    }
    if (op->arg[2] != 0 && (op->arg[2] < s->w[0] || (op->arg[2] == s->w[0] && n == 0))) {
        return false;
    }
    while (at > 0 && s->w[LOCK_HOLDERS_AT + at - 1] > op->arg[0]) {
        s->w[LOCK_HOLDERS_AT + at] = s->w[LOCK_HOLDERS_AT + at - 1];
        at--;
    }
    s->w[LOCK_HOLDERS_AT + at] = op->arg[0];
    s->w[0] = op->arg[2] != 0 ? op->arg[2] : s->w[0];
    s->w[1] = op->arg[1];
    s->w[2] = n + 1;
    return true;
}

static void lock_drop(struct wgl_state *s, uint64_t owner)
{
    uint64_t k = 0, n = s->w[2];
    for (uint64_t i = 0; i < n; i++) {
        if (s->w[LOCK_HOLDERS_AT + i] != owner) {
            s->w[LOCK_HOLDERS_AT + k++] = s->w[LOCK_HOLDERS_AT + i];
        }
    }
    for (uint64_t i = k; i < n; i++) {
        s->w[LOCK_HOLDERS_AT + i] = 0;
    }
    s->w[2] = k;
    s->w[1] = k ? s->w[1] : 0;
}

static bool lock_step(struct wgl_state *s, const struct wgl_op *op)
{
    bool mine = holds(s, op->arg[0]);
    switch (op->kind) {
    case WLOCK_ACQUIRE: return !mine && lock_add(s, op);
    case WLOCK_REFUSED: return s->w[2] > 0;
    case WLOCK_STALE: return !mine;
    case WLOCK_RENEW: return mine;
    case WLOCK_RELEASE:
        lock_drop(s, op->arg[0]);
        return mine;
    case WLOCK_END:
    case WLOCK_MAYBE: lock_drop(s, op->arg[0]); return true;
    case WLOCK_CHECK: return op->arg[1] != 0 ? s->w[0] <= op->arg[2] : op->result == s->w[0];
    default: return false;
    }
}

const struct wgl_model wgl_lock = {zero_init, lock_step, 0};
