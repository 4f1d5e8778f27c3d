/* The ids of a partition's messages, by offset and back: what a delivery shows and what XACK names.
 *
 * Ids ascend with offsets. Messages of one entry share a millisecond and count up, so they are kept as runs: (ms above the former run,
 * seq, length) as variable-length integers, in blocks that can be found by their first offset or id. A batch costs four bytes, and so
 * does a message alone. */
#include "nodes/queue/queue_internal.h"

enum { RUN_BYTES_MAX = 30 };

static struct id_block *block_at(const struct id_index *ix, size_t i)
{
    return *(struct id_block **)vec_at(&ix->blocks, i, sizeof(struct id_block *));
}

static uint16_t put_varint(uint8_t *p, uint16_t at, uint64_t v)
{
    for (; v >= 128; v >>= 7) {
        p[at++] = (uint8_t)(v | 128);
    }
    p[at++] = (uint8_t)v;
    return at;
}

/* False: it ends too early. Bits beyond 64 are lost. */
static bool get_varint(const struct id_block *b, size_t *at, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; *at < b->used && shift < 64; shift += 7) {
        uint8_t x = b->bytes[(*at)++];
        *v |= (uint64_t)(x & 127) << shift;
        if (x < 128) {
            return true;
        }
    }
    return false;
}

static struct id_block *block_new(struct id_index *ix, uint64_t offset, struct stream_id id)
{
    struct id_block *b = malloc(sizeof *b);
    syn_assert(b != NULL);
    b->first = b->run_first = offset;
    b->base = b->run = id;
    b->run_n = 1;
    b->used = 0;
    *(struct id_block **)vec_push(&ix->blocks, sizeof b) = b;
    return b;
}

/* The ms of the run before the last is not kept: a run is stored as its distance from the block's first id. */
void ids_append(struct id_index *ix, uint64_t offset, struct stream_id id)
{
    struct id_block *b = ix->blocks.len > 0 ? block_at(ix, ix->blocks.len - 1) : NULL;
    if (b == NULL) {
        block_new(ix, offset, id);
        return;
    }
    syn_assert(offset == b->run_first + b->run_n);
    if (id.ms == b->run.ms && id.seq == b->run.seq + b->run_n && b->run_n < UINT32_MAX) {
        b->run_n++;
        return;
    }
    if (b->used + RUN_BYTES_MAX > ID_BLOCK_BYTES) {
        block_new(ix, offset, id);
        return;
    }
    b->used = put_varint(b->bytes, b->used, b->run.ms - b->base.ms);
    b->used = put_varint(b->bytes, b->used, b->run.seq);
    b->used = put_varint(b->bytes, b->used, b->run_n);
    b->run = id;
    b->run_first = offset;
    b->run_n = 1;
}

static void cursor_open(struct id_cursor *c, const struct id_block *b)
{
    *c = (struct id_cursor){.block = b, .run_first = b->first};
}

/* The next run of its block; false: there is none. */
static bool cursor_next(struct id_cursor *c)
{
    const struct id_block *b = c->block;
    c->run_first += c->run_n;
    if (c->run_first == b->run_first) {
        c->run = b->run;
        c->run_n = b->run_n;
        c->at = b->used;
        return true;
    }
    uint64_t ms, seq, n;
    if (!get_varint(b, &c->at, &ms) || !get_varint(b, &c->at, &seq) || !get_varint(b, &c->at, &n)) {
        return false;
    }
    c->run = (struct stream_id){b->base.ms + ms, seq};
    c->run_n = n;
    return true;
}

/* The last block that begins at or before offset. */
static const struct id_block *block_of(const struct id_index *ix, uint64_t offset)
{
    size_t low = 0, high = ix->blocks.len;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (block_at(ix, mid)->first <= offset) {
            low = mid;
        } else {
            high = mid;
        }
    }
    return block_at(ix, low);
}

struct stream_id ids_get(const struct id_index *ix, struct id_cursor *c, uint64_t offset)
{
    const struct id_block *b = c->block;
    if (b == NULL || offset < c->run_first || offset >= b->run_first + b->run_n) {
        syn_assert(ix->blocks.len > 0);
        cursor_open(c, block_of(ix, offset));
    }
    while (offset >= c->run_first + c->run_n) {
        bool more = cursor_next(c);
        syn_assert(more);
    }
    return (struct stream_id){c->run.ms, c->run.seq + (offset - c->run_first)};
}

uint64_t ids_find(const struct id_index *ix, struct stream_id id, uint64_t end)
{
    size_t low = 0, high = ix->blocks.len;
    if (high == 0) {
        return end;
    }
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (stream_id_cmp(block_at(ix, mid)->base, id) <= 0) {
            low = mid;
        } else {
            high = mid;
        }
    }
    const struct id_block *b = block_at(ix, low);
    struct id_cursor c;
    cursor_open(&c, b);
    do {
        bool more = cursor_next(&c);
        syn_assert(more);
        if (stream_id_cmp(id, c.run) <= 0) {
            return c.run_first;
        }
        if (id.ms == c.run.ms && id.seq - c.run.seq < c.run_n) {
            return c.run_first + (id.seq - c.run.seq);
        }
    } while (c.run_first != b->run_first);
    return b->run_first + b->run_n;
}

void ids_trim(struct id_index *ix, uint64_t floor)
{
    while (ix->blocks.len > 0) {
        struct id_block *b = block_at(ix, 0);
        if (b->run_first + b->run_n > floor) {
            break;
        }
        free(b);
        vec_pop_front(&ix->blocks, 1, sizeof b);
    }
}

void ids_fini(struct id_index *ix)
{
    ids_trim(ix, UINT64_MAX);
    vec_fini(&ix->blocks);
}

uint64_t ids_covered(const struct id_index *ix, uint64_t *first)
{
    *first = 0;
    if (ix->blocks.len == 0) {
        return 0;
    }
    const struct id_block *last = block_at(ix, ix->blocks.len - 1);
    *first = block_at(ix, 0)->first;
    return last->run_first + last->run_n;
}

void ids_save(const struct id_index *ix, struct buf *out)
{
    buf_put_u32(out, (uint32_t)ix->blocks.len);
    for (size_t i = 0; i < ix->blocks.len; i++) {
        const struct id_block *b = block_at(ix, i);
        const uint64_t fields[] = {b->first, b->base.ms, b->base.seq, b->run.ms, b->run.seq, b->run_first};
        for (size_t k = 0; k < sizeof fields / sizeof fields[0]; k++) {
            buf_put_u64(out, fields[k]);
        }
        buf_put_u32(out, b->run_n);
        buf_put_bytes(out, slice_of(b->bytes, b->used));
    }
}

/* A block from a snapshot: its runs must lead to its last one, ids ascending. */
static bool block_sound(const struct id_block *b)
{
    struct id_cursor c;
    cursor_open(&c, b);
    struct stream_id after = b->base;
    uint64_t before = 0;
    for (bool first = true; first || c.run_first != b->run_first; first = false) {
        before = c.run_first + c.run_n;
        if (before > b->run_first || !cursor_next(&c) || c.run_n == 0 || c.run_n > UINT32_MAX || c.run.seq > UINT64_MAX - c.run_n ||
            stream_id_cmp(c.run, after) < 0 || (first && stream_id_cmp(c.run, b->base) != 0)) {
            return false;
        }
        after = (struct stream_id){c.run.ms, c.run.seq + (c.run_n - 1)};
    }
    return c.at == b->used;
}

bool ids_load(struct id_index *ix, uint64_t floor, uint64_t end, struct reader *r)
{
    uint32_t n = reader_u32(r);
    uint64_t at = 0;
    struct stream_id last = {0, 0};
    for (uint32_t i = 0; i < n && r->ok; i++) {
        uint64_t first = reader_u64(r);
        struct stream_id base = {reader_u64(r), 0};
        base.seq = reader_u64(r);
        struct id_block *b = block_new(ix, first, base);
        b->run.ms = reader_u64(r);
        b->run.seq = reader_u64(r);
        b->run_first = reader_u64(r);
        b->run_n = reader_u32(r);
        slice_t bytes = reader_bytes(r);
        if (!r->ok || bytes.len > ID_BLOCK_BYTES || (i > 0 && (first != at || stream_id_cmp(base, last) <= 0))) {
            return false;
        }
        b->used = (uint16_t)bytes.len;
        if (bytes.len > 0) {
            memcpy(b->bytes, bytes.ptr, bytes.len);
        }
        if (!block_sound(b)) {
            return false;
        }
        at = b->run_first + b->run_n;
        last = (struct stream_id){b->run.ms, b->run.seq + (b->run_n - 1)};
    }
    uint64_t first = 0;
    bool all = floor == end || (ids_covered(ix, &first) == end && first <= floor);
    return r->ok && all;
}
