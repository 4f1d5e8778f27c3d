/* Frames between nodes: bytes <-> struct peer_msg (messages.h). Pure; slices of decoded messages point into the frame. */
#ifndef SYN_COMMUNICATION_PEER_CODEC_H
#define SYN_COMMUNICATION_PEER_CODEC_H

#include "communication/messages.h"

/* Building: begin once, add any number, end patches length, count and checksum. `out` may already hold other bytes. */
struct frame_builder { struct buf *out; size_t start; uint32_t count; };
void frame_begin(struct frame_builder *f, struct buf *out);
void frame_add(struct frame_builder *f, const struct peer_msg *m);
void frame_end(struct frame_builder *f); /* a frame without messages is taken back */

enum frame_status { FRAME_OK, FRAME_MORE, FRAME_BAD };
/* Finds one whole frame at the start of in: FRAME_OK sets *body and *used; FRAME_BAD sets *reason (a metric label) and the
 * link must be closed. Never needs more than PEER_FRAME_HEADER_BYTES to refuse a bad length. */
enum frame_status frame_split(slice_t in, uint32_t frame_bytes_max, slice_t *body, size_t *used, const char **reason);

/* Walks the messages of a body. next returns true with *m set; false at the end, or with *reason set when malformed
 * (structure, types, ranges, consensus_msg_invalid). Check the whole body with frame_check before acting on any of it. */
struct frame_reader { slice_t body; size_t at; uint32_t left; const char *reason; };
const char *frame_check(slice_t body); /* NULL: every message is well formed */
void frame_read(struct frame_reader *r, slice_t body);
bool frame_next(struct frame_reader *r, struct peer_msg *m);

#endif
