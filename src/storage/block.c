/* Block headers of the log (docs/disk.md, "Blocks"; W4).
 *
 * Responsible for the bytes of a header and its checksums, not for what follows what (recovery.c).
 * The header checksum covers the body's checksum and the previous header's, so one number names the whole history up to
 * a block. A block of zeros is never valid: the magic is not zero, whatever a checksum of nothing may be (S30). */
#include "storage/block.h"

#include "utils/assert.h"
#include "utils/crc32c.h"

enum { HEADER_CRC_AT = BLOCK_HEADER_BYTES - 4 };

void block_seal(struct buf *b, struct block_header *h)
{
    syn_assert(b->len >= BLOCK_HEADER_BYTES && b->len - BLOCK_HEADER_BYTES <= BLOCK_BODY_MAX);
    h->body_len = (uint32_t)(b->len - BLOCK_HEADER_BYTES);
    h->body_crc = crc32c(0, b->ptr + BLOCK_HEADER_BYTES, h->body_len);
    size_t pad = block_span(h->body_len) - b->len;
    memset(buf_reserve(b, pad), 0, pad);
    b->len += pad;
    uint8_t *p = b->ptr;
    le32_put(p, BLOCK_MAGIC);
    le16_put(p + 4, BLOCK_FORMAT);
    le16_put(p + 6, h->kind);
    le64_put(p + 8, h->node_uuid);
    le64_put(p + 16, h->segment);
    le64_put(p + 24, h->segment_bytes);
    le64_put(p + 32, h->number);
    le64_put(p + 40, h->synced);
    le32_put(p + 48, h->body_len);
    le32_put(p + 52, h->prev_crc);
    le32_put(p + 56, h->body_crc);
    le64_put(p + 60, 0); /* reserved */
    h->header_crc = crc32c(0, p, HEADER_CRC_AT);
    le32_put(p + HEADER_CRC_AT, h->header_crc);
}

static bool all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != 0) {
            return false;
        }
    }
    return true;
}

enum block_check block_header_decode(const uint8_t p[BLOCK_HEADER_BYTES], struct block_header *out)
{
    if (le32_get(p) != BLOCK_MAGIC) {
        return all_zero(p, BLOCK_HEADER_BYTES) ? BLOCK_ZERO : BLOCK_BAD;
    }
    *out = (struct block_header){
        .kind = le16_get(p + 6), .node_uuid = le64_get(p + 8), .segment = le64_get(p + 16),
        .segment_bytes = le64_get(p + 24), .number = le64_get(p + 32), .synced = le64_get(p + 40),
        .body_len = le32_get(p + 48), .prev_crc = le32_get(p + 52), .body_crc = le32_get(p + 56),
        .header_crc = le32_get(p + HEADER_CRC_AT),
    };
    bool ok = le16_get(p + 4) == BLOCK_FORMAT && crc32c(0, p, HEADER_CRC_AT) == out->header_crc &&
              out->kind >= BLOCK_PREAMBLE && out->kind <= BLOCK_END && out->number > 0 && out->synced < out->number &&
              out->body_len <= BLOCK_BODY_MAX && (out->kind != BLOCK_END || out->body_len == 0);
    return ok ? BLOCK_OK : BLOCK_BAD;
}
