/* The body of a message: what doors put in and take out; the state machine never looks inside. */
#ifndef SYN_NODES_QUEUE_MESSAGE_H
#define SYN_NODES_QUEUE_MESSAGE_H

#include "utils/buf.h"

/* Native: u64 wall_ms, u8 has_key, key (u32 length, bytes) when it has one, u16 n headers, (name, value) each as bytes, then the payload
 * to the end. Stream fields (MESSAGE_FIELDS): u32 n, then n byte strings, names and values in turn. */
struct message {
    uint64_t wall_ms;
    bool has_key;
    slice_t key;
    uint32_t n_headers;
    slice_t headers;       /* to be read with message_next_header */
    slice_t payload;
};
void message_put(struct buf *out, uint64_t wall_ms, const slice_t *key /* NULL: none */, uint32_t n_headers, const slice_t *names_values, slice_t payload);
bool message_get(slice_t body, struct message *m);
bool message_next_header(struct reader *r, slice_t *name, slice_t *value);

#endif
