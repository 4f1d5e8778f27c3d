/* struct timer_wheel: a hierarchical timing wheel (Varghese and Lauck 1987, scheme 7): 4 levels of 256 slots, 1 ms ticks.
 *
 * Times are milliseconds of the owner's clock, any clock that never falls (a node's monotonic one, a group's log time).
 * Setting and cancelling are O(1), a timer moves at most four times before it is due, and advancing jumps from one
 * occupied slot to the next, so that an idle week costs nothing. Deadlines more than 2^32 ms ahead park beside the last
 * level and are looked at again when their 2^32 ms window begins.
 *
 * What is due comes out in ascending at_ms, timers of one instant in the order in which they were set, no matter in how
 * many steps the time was advanced (K12: the same on every replica). */
#ifndef SYN_UTILS_TIMER_WHEEL_H
#define SYN_UTILS_TIMER_WHEEL_H

#include "utils/list.h"

#include <stdint.h>

enum { WHEEL_LEVELS = 4, WHEEL_SLOT_BITS = 8, WHEEL_SLOTS = 1 << WHEEL_SLOT_BITS };

/* Embedded in what it times; the wheel allocates nothing. Both fields are the wheel's to write. */
struct timer {
    struct list link;
    uint64_t at_ms;
};

struct timer_wheel {
    uint64_t now_ms;                                     /* everything due up to here has come out or is in `overdue` */
    uint64_t occupied[WHEEL_LEVELS][WHEEL_SLOTS / 64];   /* bit set = slot not empty */
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
    struct list beyond;                                  /* more than 2^32 ms ahead, in the order of setting */
    struct list overdue;                                 /* set for a time not after now_ms, in the order of setting */
};

/* An unarmed timer. Every timer is initialised before its first use. */
static inline void timer_init(struct timer *t)
{
    list_init(&t->link);
    t->at_ms = 0;
}

/* In a wheel, or in a list of due timers that has not been emptied yet. */
static inline bool timer_armed(const struct timer *t) { return !list_empty(&t->link); }

void wheel_init(struct timer_wheel *w, uint64_t now_ms);
/* Unlinks every timer that is still armed; owns no memory. */
void wheel_fini(struct timer_wheel *w);
/* Arms t for at_ms; an armed timer is moved and counts as newly set. at_ms <= now_ms is due at the next advance. */
void wheel_set(struct timer_wheel *w, struct timer *t, uint64_t at_ms);
/* Disarms t, in the wheel or in a due list of it alike; nothing happens when it is not armed. */
void wheel_cancel(struct timer_wheel *w, struct timer *t);
/* Requires now_ms >= w->now_ms. Appends what is due (at_ms <= now_ms) to `due`, an initialised list; the caller takes
 * timers out of it with list_remove before it handles them, and may set and cancel any timer meanwhile. */
void wheel_advance(struct timer_wheel *w, uint64_t now_ms, struct list *due);
/* No timer is due before this time: exact within the next 256 ms window, else the start of the window that holds the
 * next one. UINT64_MAX: no timer is armed. */
uint64_t wheel_next_ms(const struct timer_wheel *w);
/* Asserts the invariants T1-T3 of timer_wheel.c over the whole wheel; O(timers). */
void wheel_check(const struct timer_wheel *w);

#endif
