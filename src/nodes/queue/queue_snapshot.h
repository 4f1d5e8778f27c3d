/* What a snapshot of the queue state machine is made of; shared by what writes it and what reads it. */
#ifndef SYN_NODES_QUEUE_QUEUE_SNAPSHOT_H
#define SYN_NODES_QUEUE_QUEUE_SNAPSHOT_H

#include "nodes/queue/queue_internal.h"

/* 1-3: dedup_save. */
enum queue_record_kind { QREC_HEAD = 10, QREC_TOPIC, QREC_PARTITION, QREC_POSITION, QREC_END, QREC_FENCES };
enum { QUEUE_COUNTERS = 10 };

/* The counters that are replicated; gauges are counted anew. */
static inline void queue_counters(struct queue_sm_stats *s, uint64_t *out[QUEUE_COUNTERS])
{
    uint64_t *const counters[QUEUE_COUNTERS] = {&s->published, &s->duplicates,    &s->delivered, &s->redelivered, &s->acked,
                                                &s->nacked,    &s->dead_lettered, &s->redriven,  &s->expired,     &s->stale};
    memcpy(out, counters, sizeof counters);
}

#endif
