/* Commands of the queue benchmark, and the quick look at their replies. */
#include "cli/bench_queue_wire.h"

#include "cli/resp_client.h"
#include "communication/resp.h"
#include "utils/assert.h"

#include <inttypes.h>
#include <stdio.h>

static void word(struct buf *out, const char *text)
{
    buf_printf(out, "$%zu\r\n%s\r\n", strlen(text), text);
}

static void put_hex(uint8_t *out, uint64_t v)
{
    for (int i = QUEUE_STAMP_BYTES - 1; i >= 0; i--) {
        out[i] = (uint8_t)"0123456789abcdef"[v & 15];
        v >>= 4;
    }
}

void queue_wire_publish(struct buf *out, const char *topic, uint32_t batch, uint32_t bytes, uint64_t stamp)
{
    syn_assert(bytes >= QUEUE_STAMP_BYTES && batch > 0);
    buf_printf(out, batch > 1 ? "*%u\r\n$18\r\nQUEUE.PUBLISHBATCH\r\n" : "*%u\r\n$13\r\nQUEUE.PUBLISH\r\n", batch > 1 ? batch + 3 : 3);
    word(out, topic);
    if (batch > 1) {
        char n[12];
        snprintf(n, sizeof n, "%u", batch);
        word(out, n);
    }
    for (uint32_t i = 0; i < batch; i++) {
        buf_printf(out, "$%u\r\n", bytes);
        uint8_t *payload = buf_reserve(out, bytes + 2);
        put_hex(payload, stamp);
        memset(payload + QUEUE_STAMP_BYTES, 'x', bytes - QUEUE_STAMP_BYTES);
        payload[bytes] = '\r';
        payload[bytes + 1] = '\n';
        out->len += bytes + 2;
    }
}

void queue_wire_consume(struct buf *out, const char *topic, const char *consumer, uint32_t count, uint64_t block_ms)
{
    char n[24];
    buf_append_str(out, "*10\r\n$13\r\nQUEUE.CONSUME\r\n");
    word(out, topic);
    word(out, "GROUP");
    word(out, QUEUE_BENCH_GROUP);
    word(out, "CONSUMER");
    word(out, consumer);
    snprintf(n, sizeof n, "%u", count);
    word(out, "COUNT");
    word(out, n);
    snprintf(n, sizeof n, "%" PRIu64, block_ms);
    word(out, "BLOCK");
    word(out, n);
}

void queue_wire_receipt(struct buf *receipts, slice_t receipt)
{
    buf_printf(receipts, "$%zu\r\n", receipt.len);
    buf_append_slice(receipts, receipt);
    buf_append_str(receipts, "\r\n");
}

void queue_wire_ack(struct buf *out, const char *topic, uint32_t n, slice_t receipts)
{
    buf_printf(out, "*%u\r\n$9\r\nQUEUE.ACK\r\n", n + 4);
    word(out, topic);
    word(out, "GROUP");
    word(out, QUEUE_BENCH_GROUP);
    buf_append_slice(out, receipts);
}

uint64_t queue_wire_stamp(slice_t payload)
{
    uint64_t v = 0;
    for (size_t i = 0; i < QUEUE_STAMP_BYTES; i++) {
        uint8_t ch = i < payload.len ? payload.ptr[i] : 0;
        if ((ch < '0' || ch > '9') && (ch < 'a' || ch > 'f')) {
            return 0;
        }
        v = v << 4 | (uint64_t)(ch <= '9' ? ch - '0' : ch - 'a' + 10);
    }
    return v;
}

slice_t queue_wire_error(slice_t reply)
{
    if (reply.len > 0 && reply.ptr[0] == '*') {
        const uint8_t *at = memmem(reply.ptr, reply.len, "\r\n-", 3);
        return at != NULL ? resp_error_word(slice_of(at + 2, reply.len - (size_t)(at + 2 - reply.ptr))) : SLICE_NONE;
    }
    return resp_error_word(reply);
}
