/* One chunk as bytes: encoding, and believing nothing that was read back.
 *
 * A chunk is a header and `count` records, all fields little-endian and of fixed size (queue_log_internal.h). While it is young it is kept
 * in the form in which it is written, with the position of each record beside it, so that a message is found without decoding its neighbours.
 * What comes from a disk is checked here once and completely: checksum, header against the descriptor that asked for it, each record's
 * place and length, first and last id. After that its positions are as good as our own. */
#include "nodes/queue/queue_log_internal.h"

#include "utils/crc32c.h"

#include <stdlib.h>

enum { CHUNK_MAGIC = 0x31435153 /* "SQC1" */, CRC_FROM = 8 };

bool chunk_is_magic(const uint8_t *head)
{
    return le32_get(head) == CHUNK_MAGIC;
}

void chunk_data_begin(struct chunk_data *d)
{
    *d = (struct chunk_data){0};
    memset(buf_reserve(&d->bytes, CHUNK_HEAD_BYTES), 0, CHUNK_HEAD_BYTES);
    d->bytes.len = CHUNK_HEAD_BYTES;
}

void chunk_data_fini(struct chunk_data *d)
{
    buf_fini(&d->bytes);
    free(d->at);
    *d = (struct chunk_data){0};
}

void chunk_data_add(struct chunk_data *d, uint32_t delta, const struct queue_appended *m)
{
    syn_assert(m->body.len <= CHUNK_BYTES_MAX);
    if (d->n == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 4;
        d->at = realloc(d->at, d->cap * sizeof *d->at);
        syn_assert(d->at != NULL);
    }
    d->at[d->n++] = (uint32_t)d->bytes.len;
    uint8_t *p = buf_reserve(&d->bytes, RECORD_HEAD_BYTES + m->body.len);
    le32_put(p, delta);
    le64_put(p + 4, m->id.ms);
    le64_put(p + 12, m->id.seq);
    p[20] = m->flags;
    le32_put(p + 21, (uint32_t)m->body.len);
    d->bytes.len += RECORD_HEAD_BYTES;
    buf_append_slice(&d->bytes, m->body);
}

void chunk_data_fit(struct chunk_data *d)
{
    syn_assert(d->n > 0);
    d->bytes.ptr = realloc(d->bytes.ptr, d->bytes.len);
    d->bytes.cap = d->bytes.len;
    d->at = realloc(d->at, d->n * sizeof *d->at);
    d->cap = d->n;
    syn_assert(d->bytes.ptr != NULL && d->at != NULL);
}

void chunk_data_seal(struct chunk_data *d, uint64_t topic, uint32_t partition, uint64_t base)
{
    uint8_t *p = d->bytes.ptr;
    le32_put(p, CHUNK_MAGIC);
    le64_put(p + 8, topic);
    le32_put(p + 16, partition);
    le64_put(p + 20, base);
    le32_put(p + 28, d->n);
    le32_put(p + 32, (uint32_t)d->bytes.len);
    le32_put(p + 4, crc32c(0, p + CRC_FROM, d->bytes.len - CRC_FROM));
}

static uint32_t record_delta(const struct chunk_data *d, uint32_t i)
{
    return le32_get(d->bytes.ptr + d->at[i]);
}

static struct stream_id record_id(const struct chunk_data *d, uint32_t i)
{
    const uint8_t *p = d->bytes.ptr + d->at[i];
    return (struct stream_id){le64_get(p + 4), le64_get(p + 12)};
}

static bool header_is(slice_t bytes, uint64_t topic, uint32_t partition, const struct chunk *c)
{
    if (bytes.len != c->bytes || bytes.len < CHUNK_HEAD_BYTES) {
        return false;
    }
    const uint8_t *p = bytes.ptr;
    return le32_get(p) == CHUNK_MAGIC && le32_get(p + 4) == crc32c(0, p + CRC_FROM, bytes.len - CRC_FROM) && le64_get(p + 8) == topic &&
           le32_get(p + 16) == partition && le64_get(p + 20) == c->base && le32_get(p + 28) == c->count && le32_get(p + 32) == bytes.len &&
           c->count > 0 && c->count <= (bytes.len - CHUNK_HEAD_BYTES) / RECORD_HEAD_BYTES;
}

/* Positions of `count` records that fill the chunk exactly, their offsets rising from base to base + span. */
static bool index_records(struct chunk_data *d, const struct chunk *c)
{
    struct reader r = reader_of(buf_slice(&d->bytes));
    reader_take(&r, CHUNK_HEAD_BYTES);
    uint32_t last = 0;
    for (d->n = 0; d->n < c->count; d->n++) {
        d->at[d->n] = (uint32_t)(r.p - d->bytes.ptr);
        uint32_t delta = reader_u32(&r);
        reader_take(&r, 17);
        reader_bytes(&r);
        if (!r.ok || (d->n == 0 ? delta != 0 : delta <= last)) {
            return false;
        }
        last = delta;
    }
    return reader_done(&r) && last == c->span && id_equal(record_id(d, 0), c->first_id) && id_equal(record_id(d, d->n - 1), c->last_id);
}

bool chunk_data_load(struct chunk_data *d, slice_t bytes, uint64_t topic, uint32_t partition, const struct chunk *c)
{
    *d = (struct chunk_data){0};
    if (!header_is(bytes, topic, partition, c)) {
        return false;
    }
    d->bytes = (struct buf){.ptr = malloc(bytes.len), .len = bytes.len, .cap = bytes.len};
    d->at = malloc(c->count * sizeof *d->at);
    d->cap = c->count;
    syn_assert(d->bytes.ptr != NULL && d->at != NULL);
    memcpy(d->bytes.ptr, bytes.ptr, bytes.len);
    if (!index_records(d, c)) {
        chunk_data_fini(d);
        return false;
    }
    return true;
}

struct queue_message chunk_data_message(const struct chunk_data *d, uint64_t base, uint32_t i)
{
    syn_assert(i < d->n);
    const uint8_t *p = d->bytes.ptr + d->at[i];
    return (struct queue_message){.offset = base + le32_get(p), .id = record_id(d, i), .flags = p[20],
                                  .body = slice_of(p + RECORD_HEAD_BYTES, le32_get(p + 21))};
}

/* Without gaps before it, record i has delta i; with some, it is further to the front. */
uint32_t chunk_data_find(const struct chunk_data *d, uint32_t delta)
{
    if (delta < d->n && record_delta(d, delta) == delta) {
        return delta;
    }
    uint32_t lo = 0, hi = delta < d->n ? delta : d->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (record_delta(d, mid) < delta) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

uint32_t chunk_data_find_id(const struct chunk_data *d, struct stream_id id)
{
    uint32_t lo = 0, hi = d->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (id_less(record_id(d, mid), id)) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}
