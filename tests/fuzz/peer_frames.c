/* libFuzzer: frames between nodes. The first byte chooses: bytes as they came from the network, or a body to which a right head is made (so
 * that the checksum does not keep the fuzzer out). What is taken must survive being written and read again (I34-I37, I39). */
#include "communication/peer_codec.h"
#include "utils/assert.h"
#include "utils/crc32c.h"
#include "utils/limits.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Written anew, a body is in its shortest form: from there on it must not change any more. */
static void write_again(slice_t body, struct buf *out)
{
    struct frame_builder f;
    struct frame_reader r;
    struct peer_msg m;
    frame_begin(&f, out);
    frame_read(&r, body);
    while (frame_next(&r, &m)) {
        frame_add(&f, &m);
    }
    syn_assert(r.reason == NULL);
    frame_end(&f);
}

static void check(slice_t frame)
{
    slice_t body, again;
    size_t used = 0;
    const char *reason = NULL;
    enum frame_status st = frame_split(frame, LIMIT_FRAME_BYTES, &body, &used, &reason);
    if (st != FRAME_OK) {
        syn_assert(st == FRAME_MORE || reason != NULL);
        return;
    }
    syn_assert(used <= frame.len);
    if (frame_check(body) != NULL) {
        return;
    }
    struct buf once = {0}, twice = {0};
    write_again(body, &once);
    if (once.len > 0) {
        syn_assert(frame_split(buf_slice(&once), UINT32_MAX, &again, &used, &reason) == FRAME_OK && frame_check(again) == NULL);
        write_again(again, &twice);
        syn_assert(slice_eq(buf_slice(&once), buf_slice(&twice)));
    }
    buf_fini(&once);
    buf_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    if (data[0] & 1) {
        check(slice_of(data + 1, size - 1));
        return 0;
    }
    uint8_t *frame = malloc(PEER_FRAME_HEADER_BYTES + size - 1);
    syn_assert(frame != NULL);
    le32_put(frame, (uint32_t)(size - 1));
    le32_put(frame + 4, crc32c(0, data + 1, size - 1));
    memcpy(frame + PEER_FRAME_HEADER_BYTES, data + 1, size - 1);
    check(slice_of(frame, PEER_FRAME_HEADER_BYTES + size - 1));
    free(frame);
    return 0;
}
