/* The simulator's calendar: a binary heap of events keyed (time, order of insertion). The order of insertion makes equal times
 * deterministic. Events own nothing here; `data` belongs to whoever handles the event. */
#ifndef SYN_SIM_EVENT_HEAP_H
#define SYN_SIM_EVENT_HEAP_H

#include <stdbool.h>
#include <stdint.h>

struct sim_event {
    uint64_t at_us;
    uint64_t seq; /* set by heap_push */
    uint32_t kind;
    uint32_t node; /* index of the node concerned */
    uint64_t life; /* which start of that node it was meant for; 0: any */
    uint64_t a, b;
    void *data;
};

struct event_heap {
    struct sim_event *items; /* owned */
    uint32_t count, cap;
    uint64_t next_seq;
};

void heap_init(struct event_heap *h);
void heap_fini(struct event_heap *h);
void heap_push(struct event_heap *h, struct sim_event ev);
/* The earliest event; false when there is none. */
bool heap_pop(struct event_heap *h, struct sim_event *out);

#endif
