/* Cells by expiry: a heap of four children, whose order is the same on every replica: by time, at one instant by key.
 *
 * H1: no entry comes before its parent. H2: a cell knows its place. */
#include "nodes/cache/cache_sm_internal.h"

#include <stdlib.h>

enum { CHILDREN = 4, CAP_MIN = 64 };

static bool comes_before(const struct due_entry *a, const struct due_entry *b)
{
    if (a->at_ms != b->at_ms) {
        return a->at_ms < b->at_ms;
    }
    slice_t x = cell_key(a->cell), y = cell_key(b->cell);
    size_t n = x.len < y.len ? x.len : y.len;
    int order = n > 0 ? memcmp(x.ptr, y.ptr, n) : 0;
    return order != 0 ? order < 0 : x.len < y.len;
}

static void set(struct cache_due *d, uint32_t place, struct due_entry e)
{
    d->entries[place] = e;
    cell_set_due_place(e.cell, place);
}

static void sift_up(struct cache_due *d, uint32_t place, struct due_entry e)
{
    while (place > 0 && comes_before(&e, &d->entries[(place - 1) / CHILDREN])) {
        set(d, place, d->entries[(place - 1) / CHILDREN]);
        place = (place - 1) / CHILDREN;
    }
    set(d, place, e);
}

static void sift_down(struct cache_due *d, uint32_t place, struct due_entry e)
{
    for (;;) {
        uint64_t child = (uint64_t)place * CHILDREN + 1, end = child + CHILDREN < d->n ? child + CHILDREN : d->n, first = child;
        for (uint64_t i = child + 1; i < end; i++) {
            first = comes_before(&d->entries[i], &d->entries[first]) ? i : first;
        }
        if (child >= d->n || !comes_before(&d->entries[first], &e)) {
            break;
        }
        set(d, place, d->entries[first]);
        place = (uint32_t)first;
    }
    set(d, place, e);
}

static void set_cap(struct cache_due *d, uint32_t cap)
{
    d->entries = realloc(d->entries, cap * sizeof *d->entries);
    syn_assert(d->entries != NULL);
    d->cap = cap;
}

void due_add(struct cache_due *d, struct cell *c)
{
    if (d->n == d->cap) {
        syn_assert(d->cap < UINT32_MAX / 2);
        set_cap(d, d->cap ? d->cap * 2 : CAP_MIN);
    }
    sift_up(d, d->n++, (struct due_entry){cell_expire_ms(c), c});
}

void due_remove(struct cache_due *d, struct cell *c)
{
    uint32_t place = cell_due_place(c);
    syn_assert(place < d->n && d->entries[place].cell == c);
    struct due_entry last = d->entries[--d->n];
    if (place < d->n) {
        if (place > 0 && comes_before(&last, &d->entries[(place - 1) / CHILDREN])) {
            sift_up(d, place, last);
        } else {
            sift_down(d, place, last);
        }
    }
    if (d->cap > CAP_MIN && d->n < d->cap / 4) {
        set_cap(d, d->cap / 2);
    }
}

void due_replace(struct cache_due *d, const struct cell *old, struct cell *c)
{
    uint32_t place = cell_due_place(old);
    syn_assert(d->entries[place].cell == old && d->entries[place].at_ms == cell_expire_ms(c));
    set(d, place, (struct due_entry){cell_expire_ms(c), c});
}

/* From the end on, so that no call gives back much memory at once. */
bool due_free_some(struct cache_due *d, uint32_t entries)
{
    if (d->cap > entries) {
        set_cap(d, d->cap - entries);
        return false;
    }
    free(d->entries);
    *d = (struct cache_due){0};
    return true;
}

void due_check(const struct cache_due *d)
{
    for (uint32_t i = 0; i < d->n; i++) {
        syn_assert(d->entries[i].at_ms == cell_expire_ms(d->entries[i].cell));
        syn_assert(cell_due_place(d->entries[i].cell) == i);                                      /* H2 */
        syn_assert(i == 0 || !comes_before(&d->entries[i], &d->entries[(i - 1) / CHILDREN]));      /* H1 */
    }
}
