/* A binary heap in an array. Responsible for order only; see event_heap.h. */
#include "event_heap.h"

#include "utils/assert.h"

#include <stdlib.h>

void heap_init(struct event_heap *h)
{
    *h = (struct event_heap){.next_seq = 1};
}

void heap_fini(struct event_heap *h)
{
    free(h->items);
    *h = (struct event_heap){0};
}

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

void heap_push(struct event_heap *h, struct sim_event ev)
{
    if (h->count == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 1024;
        h->items = realloc(h->items, h->cap * sizeof *h->items);
        syn_assert(h->items != NULL);
    }
    ev.seq = h->next_seq++;
    uint32_t at = h->count++;
    while (at > 0) {
        uint32_t up = (at - 1) / 2;
        if (!before(&ev, &h->items[up])) {
            break;
        }
        h->items[at] = h->items[up];
        at = up;
    }
    h->items[at] = ev;
}

bool heap_pop(struct event_heap *h, struct sim_event *out)
{
    if (h->count == 0) {
        return false;
    }
    *out = h->items[0];
    struct sim_event last = h->items[--h->count];
    uint32_t at = 0;
    for (;;) {
        uint32_t down = 2 * at + 1;
        if (down >= h->count) {
            break;
        }
        if (down + 1 < h->count && before(&h->items[down + 1], &h->items[down])) {
            down++;
        }
        if (!before(&h->items[down], &last)) {
            break;
        }
        h->items[at] = h->items[down];
        at = down;
    }
    if (h->count > 0) {
        h->items[at] = last;
    }
    return true;
}
