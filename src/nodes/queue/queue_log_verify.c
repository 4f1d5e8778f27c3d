/* Looks at a backlog file that comes from a peer, as its bytes come in pieces of any length: chunk after chunk, each with its checksum, each filled
 * up with zeros to a multiple of SECTOR_BYTES. It knows no table: which chunks are needed is said later, by the snapshot (queue_log_restore). */
#include "nodes/queue/queue_log_verify.h"

#include "nodes/queue/queue_log_internal.h"
#include "utils/crc32c.h"
#include "utils/mutant.h"

enum { VERIFY_CRC_FROM = 8 };
_Static_assert(sizeof((struct backlog_check *)0)->head == CHUNK_HEAD_BYTES, "a header fits exactly");

static bool take_header(struct backlog_check *c, slice_t *bytes)
{
    size_t need = CHUNK_HEAD_BYTES - c->have, take = bytes->len < need ? bytes->len : need;
    memcpy(c->head + c->have, bytes->ptr, take);
    c->have += (uint32_t)take;
    *bytes = slice_of(bytes->ptr + take, bytes->len - take);
    if (c->have < CHUNK_HEAD_BYTES) {
        return true;
    }
    uint32_t len = le32_get(c->head + 32);
    if (!chunk_is_magic(c->head) || len <= CHUNK_HEAD_BYTES || len > CHUNK_BYTES_MAX) {
        return false;
    }
    c->left = len - CHUNK_HEAD_BYTES;
    c->pad = (SECTOR_BYTES - len % SECTOR_BYTES) % SECTOR_BYTES;
    c->crc = crc32c(0, c->head + VERIFY_CRC_FROM, CHUNK_HEAD_BYTES - VERIFY_CRC_FROM);
    return true;
}

static bool take_records(struct backlog_check *c, slice_t *bytes)
{
    size_t take = bytes->len < c->left ? bytes->len : c->left;
    c->crc = crc32c(c->crc, bytes->ptr, take);
    c->left -= (uint32_t)take;
    *bytes = slice_of(bytes->ptr + take, bytes->len - take);
    if (c->left == 0 && c->pad == 0) {
        c->have = 0;
    }
    return c->left > 0 || c->crc == le32_get(c->head + 4) || MUTANT("W13");
}

static bool take_pad(struct backlog_check *c, slice_t *bytes)
{
    size_t take = bytes->len < c->pad ? bytes->len : c->pad;
    uint8_t any = 0;
    for (size_t i = 0; i < take; i++) {
        any |= bytes->ptr[i];
    }
    c->pad -= (uint32_t)take;
    c->have = c->pad == 0 ? 0 : c->have;
    *bytes = slice_of(bytes->ptr + take, bytes->len - take);
    return any == 0;
}

bool queue_log_check_bytes(struct backlog_check *c, slice_t bytes, bool end)
{
    bool ok = true;
    while (ok && bytes.len > 0) {
        ok = c->have < CHUNK_HEAD_BYTES ? take_header(c, &bytes) : c->left > 0 ? take_records(c, &bytes) : take_pad(c, &bytes);
    }
    return ok && (!end || c->have == 0 || (c->have == CHUNK_HEAD_BYTES && c->left == 0));
}
