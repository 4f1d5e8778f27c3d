/* The block: what one store_append writes. A fixed header, the records, zeros up to the next sector boundary. */
#ifndef SYN_STORAGE_BLOCK_H
#define SYN_STORAGE_BLOCK_H

#include "utils/buf.h"

enum {
    BLOCK_MAGIC = 0x4c4e5953,   /* "SYNL" */
    BLOCK_FORMAT = 1,
    BLOCK_HEADER_BYTES = 72,
    BLOCK_ALIGN = 512,          /* a block never shares a disk sector with another: a torn sector cannot reach a synced block */
    BLOCK_BODY_MAX = 1 << 30,
};

enum block_kind {
    BLOCK_PREAMBLE = 1, /* the first of its segment: a LOG_GROUP record per group, then records */
    BLOCK_RECORDS = 2,
    BLOCK_END = 3,      /* a clean stop; no body */
};

struct block_header {
    uint16_t kind;
    uint64_t node_uuid;
    uint64_t segment;       /* number of the segment this was written to */
    uint64_t segment_bytes; /* length of that segment's file: a shorter file was cut by somebody else */
    uint64_t number;        /* dense over the life of the log, from 1 */
    uint64_t synced;        /* the last block known durable when this one was written; 0: none */
    uint32_t body_len;
    uint32_t prev_crc;      /* header checksum of the block before (0 before block 1): the chain */
    uint32_t body_crc;
    uint32_t header_crc;    /* over everything above, filled by block_seal */
};

enum block_check { BLOCK_OK, BLOCK_ZERO, BLOCK_BAD };

static inline uint64_t block_span(uint64_t body_len)
{
    return (BLOCK_HEADER_BYTES + body_len + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN;
}

/* Makes a whole block of b, which holds room for the header and then the body: fills the header, pads with zeros. */
void block_seal(struct buf *b, struct block_header *h);
/* Reads a header. ZERO: all its bytes are zero. BAD: not a header of this format, or its checksum is wrong. */
enum block_check block_header_decode(const uint8_t p[BLOCK_HEADER_BYTES], struct block_header *out);

#endif
