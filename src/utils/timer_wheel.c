/* Hierarchical timing wheel; see timer_wheel.h.
 *
 * Responsible for when a timer is due and in which order; not for what is done then. Where a timer waits depends only on
 * its deadline and on the wheel's time: the level is the highest byte in which the two differ, the slot is that byte of
 * the deadline. Hence
 *   T1  every timer stands where place_of(at_ms, now_ms) says (in the wheel, at_ms > now_ms);
 *   T2  timers of one instant are always in one list, in the order of setting;
 *   T3  a slot's bit is set exactly when its list is not empty;
 * and the next list to look at is the first occupied slot of the lowest occupied level: all deadlines of a level come
 * before all of the next one. Time that passes without reaching that slot's start leaves every place as it was. */
#include "utils/timer_wheel.h"

#include "utils/assert.h"

#include <string.h>

enum { LEVEL_OVERDUE = -1, LEVEL_BEYOND = WHEEL_LEVELS };

struct place {
    int level;
    unsigned slot;
};

static struct place place_of(uint64_t at_ms, uint64_t now_ms)
{
    if (at_ms <= now_ms) {
        return (struct place){LEVEL_OVERDUE, 0};
    }
    int level = (63 - __builtin_clzll(at_ms ^ now_ms)) / WHEEL_SLOT_BITS;
    if (level >= WHEEL_LEVELS) {
        return (struct place){LEVEL_BEYOND, 0};
    }
    return (struct place){level, (unsigned)(at_ms >> (level * WHEEL_SLOT_BITS)) & (WHEEL_SLOTS - 1)};
}

static void slot_mark(struct timer_wheel *w, struct place p, bool occupied)
{
    uint64_t bit = (uint64_t)1 << (p.slot % 64);
    uint64_t *word = &w->occupied[p.level][p.slot / 64];
    *word = occupied ? *word | bit : *word & ~bit;
}

static void wheel_place(struct timer_wheel *w, struct timer *t)
{
    struct place p = place_of(t->at_ms, w->now_ms);
    if (p.level == LEVEL_OVERDUE) {
        list_push_back(&w->overdue, &t->link);
    } else if (p.level == LEVEL_BEYOND) {
        list_push_back(&w->beyond, &t->link);
    } else {
        list_push_back(&w->slots[p.level][p.slot], &t->link);
        slot_mark(w, p, true);
    }
}

void wheel_init(struct timer_wheel *w, uint64_t now_ms)
{
    w->now_ms = now_ms;
    memset(w->occupied, 0, sizeof w->occupied);
    list_init(&w->beyond);
    list_init(&w->overdue);
    for (int level = 0; level < WHEEL_LEVELS; level++) {
        for (int slot = 0; slot < WHEEL_SLOTS; slot++) {
            list_init(&w->slots[level][slot]);
        }
    }
}

static void list_drain(struct list *l)
{
    while (!list_empty(l)) {
        list_remove(l->next);
    }
}

void wheel_fini(struct timer_wheel *w)
{
    for (int level = 0; level < WHEEL_LEVELS; level++) {
        for (int slot = 0; slot < WHEEL_SLOTS; slot++) {
            list_drain(&w->slots[level][slot]);
        }
    }
    list_drain(&w->beyond);
    list_drain(&w->overdue);
    memset(w->occupied, 0, sizeof w->occupied);
}

void wheel_cancel(struct timer_wheel *w, struct timer *t)
{
    if (!timer_armed(t)) {
        return;
    }
    list_remove(&t->link);
    struct place p = place_of(t->at_ms, w->now_ms);
    if (p.level >= 0 && p.level < WHEEL_LEVELS && list_empty(&w->slots[p.level][p.slot])) {
        slot_mark(w, p, false);
    }
}

void wheel_set(struct timer_wheel *w, struct timer *t, uint64_t at_ms)
{
    wheel_cancel(w, t);
    t->at_ms = at_ms;
    wheel_place(w, t);
}

/* The first occupied slot of the lowest occupied level. All its bits are ahead of now_ms (T1), so no wrapping around. */
static bool first_occupied(const struct timer_wheel *w, struct place *out)
{
    for (int level = 0; level < WHEEL_LEVELS; level++) {
        for (unsigned word = 0; word < WHEEL_SLOTS / 64; word++) {
            uint64_t bits = w->occupied[level][word];
            if (bits != 0) {
                *out = (struct place){level, word * 64 + (unsigned)__builtin_ctzll(bits)};
                return true;
            }
        }
    }
    return false;
}

static uint64_t window_start(uint64_t now_ms, struct place p)
{
    unsigned shift = (unsigned)p.level * WHEEL_SLOT_BITS;
    uint64_t above = now_ms >> (shift + WHEEL_SLOT_BITS) << (shift + WHEEL_SLOT_BITS);
    return above | (uint64_t)p.slot << shift;
}

/* Start of the 2^32 ms window of the earliest parked timer. */
static uint64_t beyond_start(const struct timer_wheel *w)
{
    uint64_t first = UINT64_MAX;
    list_each(it, &w->beyond) {
        uint64_t at_ms = CONTAINER_OF(it, struct timer, link)->at_ms;
        first = at_ms < first ? at_ms : first;
    }
    return first >> 32 << 32;
}

uint64_t wheel_next_ms(const struct timer_wheel *w)
{
    struct place p;
    if (!list_empty(&w->overdue)) {
        return w->now_ms;
    }
    if (first_occupied(w, &p)) {
        return window_start(w->now_ms, p);
    }
    return list_empty(&w->beyond) ? UINT64_MAX : ((w->now_ms >> 32) + 1) << 32;
}

static struct timer *timer_of(struct list *link)
{
    return CONTAINER_OF(link, struct timer, link);
}

/* Merges two runs linked by next and ended by NULL; equal deadlines keep a before b. */
static struct list *merge(struct list *a, struct list *b)
{
    struct list head, *tail = &head;
    while (a != NULL && b != NULL) {
        struct list **first = timer_of(b)->at_ms < timer_of(a)->at_ms ? &b : &a;
        tail->next = *first;
        tail = *first;
        *first = (*first)->next;
    }
    tail->next = a != NULL ? a : b;
    return head.next;
}

/* Stable, bottom up: bins[i] holds a sorted run of 2^i timers. Runs in lower bins came later. */
static void list_sort(struct list *l)
{
    struct list *bins[64] = {NULL};
    l->prev->next = NULL;
    for (struct list *it = l->next, *next; it != NULL; it = next) {
        next = it->next;
        it->next = NULL;
        int i = 0;
        for (; bins[i] != NULL; i++) {
            it = merge(bins[i], it);
            bins[i] = NULL;
        }
        bins[i] = it;
    }
    struct list *all = NULL;
    for (int i = 0; i < 64; i++) {
        all = bins[i] != NULL ? merge(bins[i], all) : all;
    }
    list_init(l);
    while (all != NULL) {
        struct list *next = all->next;
        list_push_back(l, all);
        all = next;
    }
}

/* Moves all of `from` to the end of `to`. */
static void list_splice(struct list *to, struct list *from)
{
    if (list_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

/* Places what stood in a list anew under the time that has come; the timers of that very instant are due. */
static void wheel_cascade(struct timer_wheel *w, struct list *slot, struct list *due)
{
    struct list moving;
    list_init(&moving);
    list_splice(&moving, slot);
    while (!list_empty(&moving)) {
        struct timer *t = timer_of(moving.next);
        list_remove(&t->link);
        if (t->at_ms <= w->now_ms) {
            syn_assert(t->at_ms == w->now_ms);
            list_push_back(due, &t->link);
        } else {
            wheel_place(w, t);
        }
    }
}

/* One jump, to the next occupied window that starts by now_ms. False: there is none. */
static bool wheel_jump(struct timer_wheel *w, uint64_t now_ms, struct list *due)
{
    struct place p;
    bool in_levels = first_occupied(w, &p);
    if (!in_levels && list_empty(&w->beyond)) {
        return false;
    }
    /* Skipping whole windows for parked timers costs a walk over them, so only when one may have begun. */
    uint64_t next_ms = in_levels ? window_start(w->now_ms, p) : ((w->now_ms >> 32) + 1) << 32;
    if (next_ms > now_ms) {
        return false;
    }
    if (in_levels) {
        w->now_ms = next_ms;
        slot_mark(w, p, false);
        wheel_cascade(w, &w->slots[p.level][p.slot], due);
        return true;
    }
    next_ms = beyond_start(w);
    w->now_ms = next_ms < now_ms ? next_ms : now_ms;
    wheel_cascade(w, &w->beyond, due);
    return true;
}

void wheel_advance(struct timer_wheel *w, uint64_t now_ms, struct list *due)
{
    syn_assert(now_ms >= w->now_ms);
    if (!list_empty(&w->overdue)) {
        list_sort(&w->overdue);
        list_splice(due, &w->overdue);
    }
    while (wheel_jump(w, now_ms, due)) {
    }
    w->now_ms = now_ms;
}

static void slot_check(const struct timer_wheel *w, int level, unsigned slot)
{
    const struct list *l = &w->slots[level][slot];
    bool marked = (w->occupied[level][slot / 64] >> (slot % 64) & 1) != 0;
    syn_assert(marked == !list_empty(l));
    list_each(it, l) {
        struct place p = place_of(CONTAINER_OF(it, struct timer, link)->at_ms, w->now_ms);
        syn_assert(p.level == level && p.slot == slot);
    }
}

void wheel_check(const struct timer_wheel *w)
{
    for (int level = 0; level < WHEEL_LEVELS; level++) {
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) {
            slot_check(w, level, slot);
        }
    }
    list_each(it, &w->beyond) {
        syn_assert(place_of(CONTAINER_OF(it, struct timer, link)->at_ms, w->now_ms).level == LEVEL_BEYOND);
    }
    list_each(it, &w->overdue) {
        syn_assert(CONTAINER_OF(it, struct timer, link)->at_ms <= w->now_ms);
    }
}
