/* The queue benchmark's bytes. */
#ifndef SYN_CLI_BENCH_QUEUE_WIRE_H
#define SYN_CLI_BENCH_QUEUE_WIRE_H

#include "utils/buf.h"

enum { QUEUE_STAMP_BYTES = 16 }; /* hexadecimal digits at the front of each payload */

/* QUEUE.PUBLISH, or QUEUE.PUBLISHBATCH when batch > 1, of payloads of `bytes` that begin with stamp. */
void queue_wire_publish(struct buf *out, const char *topic, uint32_t batch, uint32_t bytes, uint64_t stamp);
void queue_wire_consume(struct buf *out, const char *topic, const char *consumer, uint32_t count, uint64_t block_ms);

/* QUEUE.ACK is written in two parts, since its words are counted first: receipts are gathered, then the command made. */
void queue_wire_receipt(struct buf *receipts, slice_t receipt);
void queue_wire_ack(struct buf *out, const char *topic, uint32_t n, slice_t receipts);

/* The stamp of a payload, 0 when it has none. */
uint64_t queue_wire_stamp(slice_t payload);

/* The first word of the first error in a reply: of the reply itself, or of an element of its array. Empty: none. */
slice_t queue_wire_error(slice_t reply);

#define QUEUE_BENCH_GROUP "bench"

#endif
