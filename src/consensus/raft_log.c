/* Entries of one group in arena chunks, found by index in O(1) (raft_log.h).
 *
 * Not responsible for what an entry means, nor for what is durable or committed: raft.c and its neighbours know that.
 * Source: docs/raft.md, "The log in memory".
 * Invariants: slots are dense; terms never fall from one entry to the next; pos grows by the encoded length of each
 * entry; entries of one chunk lie back to back in index order. */
#include "consensus/raft_log.h"

#include <stdlib.h>

#include "utils/assert.h"

struct raft_log_chunk {
    uint32_t cap;
    uint32_t len;
    uint8_t data[];
};

static void *checked(void *p)
{
    syn_assert(p != NULL);
    return p;
}

void raft_log_init(struct raft_log *l, uint64_t prev_index, uint64_t prev_term)
{
    syn_assert((prev_index == 0) == (prev_term == 0));
    *l = (struct raft_log){.prev_index = prev_index, .prev_term = prev_term};
}

void raft_log_fini(struct raft_log *l)
{
    for (size_t i = 0; i < l->chunk_count; i++) {
        free(l->chunks[l->chunk_head + i]);
    }
    free(l->chunks);
    free(l->slots);
    free(l->spare);
    *l = (struct raft_log){0};
}

static const struct raft_log_slot *slot_at(const struct raft_log *l, uint64_t index)
{
    syn_assert(raft_log_has(l, index));
    return &l->slots[l->head + (size_t)(index - l->prev_index - 1)];
}

static struct raft_log_chunk *chunk_at(const struct raft_log *l, uint32_t no)
{
    uint32_t i = no - l->chunk_base;
    syn_assert(i < l->chunk_count);
    return l->chunks[l->chunk_head + i];
}

static uint64_t pos_at(const struct raft_log *l, uint64_t index)
{
    if (index <= l->prev_index) {
        return l->prev_pos;
    }
    uint64_t last = raft_log_last(l);
    return last == l->prev_index ? l->prev_pos : slot_at(l, index < last ? index : last)->pos;
}

uint64_t raft_log_term(const struct raft_log *l, uint64_t index)
{
    if (index == l->prev_index) {
        return l->prev_term;
    }
    return raft_log_has(l, index) ? slot_at(l, index)->term : 0;
}

uint64_t raft_log_bytes(const struct raft_log *l, uint64_t from, uint64_t to)
{
    uint64_t a = pos_at(l, from), b = pos_at(l, to);
    return b > a ? b - a : 0;
}

/* Room for one more item at the end of a head/count array: reuses the space before head when it is half the array. */
static void *grow(void *items, size_t *head, size_t count, size_t *cap, size_t item, size_t first)
{
    if (*head + count < *cap) {
        return items;
    }
    if (*head > 0 && *head >= *cap / 2) {
        memmove(items, (char *)items + *head * item, count * item);
        *head = 0;
        return items;
    }
    *cap = *cap == 0 ? first : *cap * 2;
    return checked(realloc(items, *cap * item));
}

static struct raft_log_chunk *chunk_new(struct raft_log *l, uint32_t need)
{
    struct raft_log_chunk *c = l->spare;
    if (need <= RAFT_LOG_CHUNK_BYTES && c != NULL) {
        l->spare = NULL;
    } else {
        uint32_t cap = need > RAFT_LOG_CHUNK_BYTES ? need : RAFT_LOG_CHUNK_BYTES;
        c = checked(malloc(sizeof *c + cap));
        c->cap = cap;
    }
    c->len = 0;
    return c;
}

static void chunk_release(struct raft_log *l, struct raft_log_chunk *c)
{
    if (l->spare == NULL && c->cap == RAFT_LOG_CHUNK_BYTES) {
        l->spare = c;
    } else {
        free(c);
    }
}

/* Where the next entry of n bytes goes; makes its slot. */
static uint8_t *place(struct raft_log *l, uint64_t term, uint32_t n)
{
    struct raft_log_chunk *c = l->chunk_count > 0 ? l->chunks[l->chunk_head + l->chunk_count - 1] : NULL;
    if (c == NULL || c->cap - c->len < n) {
        l->chunks = grow(l->chunks, &l->chunk_head, l->chunk_count, &l->chunk_cap, sizeof *l->chunks, 4);
        c = chunk_new(l, n);
        l->chunks[l->chunk_head + l->chunk_count++] = c;
    }
    uint64_t pos = pos_at(l, raft_log_last(l)) + n;
    l->slots = grow(l->slots, &l->head, l->count, &l->cap, sizeof *l->slots, 64);
    l->slots[l->head + l->count++] = (struct raft_log_slot){
        .term = term, .pos = pos, .chunk = l->chunk_base + (uint32_t)l->chunk_count - 1, .off = c->len};
    uint8_t *p = c->data + c->len;
    c->len += n;
    return p;
}

void raft_log_append(struct raft_log *l, uint64_t term, enum entry_type type, slice_t payload)
{
    syn_assert(term > 0 && term >= raft_log_last_term(l));
    syn_assert(payload.len <= UINT32_MAX - ENTRY_HEADER_BYTES);
    uint8_t *p = place(l, term, (uint32_t)payload.len + ENTRY_HEADER_BYTES);
    le64_put(p, term);
    p[8] = (uint8_t)type;
    le32_put(p + 9, (uint32_t)payload.len);
    if (payload.len > 0) {
        memcpy(p + ENTRY_HEADER_BYTES, payload.ptr, payload.len);
    }
}

void raft_log_append_encoded(struct raft_log *l, uint64_t term, slice_t encoded)
{
    syn_assert(term > 0 && term >= raft_log_last_term(l));
    syn_assert(encoded.len >= ENTRY_HEADER_BYTES && encoded.len <= UINT32_MAX && le64_get(encoded.ptr) == term);
    memcpy(place(l, term, (uint32_t)encoded.len), encoded.ptr, encoded.len);
}

void raft_log_cut(struct raft_log *l, uint64_t from)
{
    syn_assert(from > l->prev_index && from <= raft_log_last(l) + 1);
    if (from > raft_log_last(l)) {
        return;
    }
    struct raft_log_slot first = *slot_at(l, from);
    l->count = (size_t)(from - l->prev_index - 1);
    while (l->chunk_base + (uint32_t)l->chunk_count - 1 != first.chunk) {
        chunk_release(l, l->chunks[l->chunk_head + --l->chunk_count]);
    }
    chunk_at(l, first.chunk)->len = first.off;
    if (first.off == 0 || l->count == 0) {
        chunk_release(l, l->chunks[l->chunk_head + --l->chunk_count]);
    }
    syn_assert(raft_log_last(l) == from - 1);
}

void raft_log_drop(struct raft_log *l, uint64_t upto)
{
    syn_assert(upto >= l->prev_index && upto <= raft_log_last(l));
    if (upto == l->prev_index) {
        return;
    }
    struct raft_log_slot s = *slot_at(l, upto);
    size_t n = (size_t)(upto - l->prev_index);
    l->head += n;
    l->count -= n;
    l->prev_index = upto;
    l->prev_term = s.term;
    l->prev_pos = s.pos;
    uint32_t keep = l->count > 0 ? l->slots[l->head].chunk : l->chunk_base + (uint32_t)l->chunk_count;
    while (l->chunk_base != keep) {
        chunk_release(l, l->chunks[l->chunk_head++]);
        l->chunk_count--;
        l->chunk_base++;
    }
}

void raft_log_restart(struct raft_log *l, uint64_t index, uint64_t term)
{
    raft_log_drop(l, raft_log_last(l));
    syn_assert(l->count == 0 && l->chunk_count == 0);
    l->prev_index = index;
    l->prev_term = term;
}

uint32_t raft_log_run(const struct raft_log *l, uint64_t from, uint64_t bytes_max, slice_t *run)
{
    if (!raft_log_has(l, from)) {
        *run = SLICE_NONE;
        return 0;
    }
    const struct raft_log_slot *first = slot_at(l, from);
    uint64_t start = pos_at(l, from - 1);
    size_t lo = 1, hi = (size_t)(raft_log_last(l) - from + 1); /* the answer is in [lo, hi] */
    while (lo < hi) {
        size_t mid = lo + (hi - lo + 1) / 2;
        const struct raft_log_slot *s = &first[mid - 1];
        if (s->chunk == first->chunk && s->pos - start <= bytes_max) {
            lo = mid;
        } else {
            hi = mid - 1;
        }
    }
    *run = slice_of(chunk_at(l, first->chunk)->data + first->off, (size_t)(first[lo - 1].pos - start));
    return (uint32_t)lo;
}

bool raft_log_entry(const struct raft_log *l, uint64_t index, struct entry *out)
{
    if (!raft_log_has(l, index)) {
        return false;
    }
    const struct raft_log_slot *s = slot_at(l, index);
    const uint8_t *p = chunk_at(l, s->chunk)->data + s->off;
    *out = (struct entry){.index = index, .term = s->term, .type = (enum entry_type)p[8],
                          .payload = slice_of(p + ENTRY_HEADER_BYTES, le32_get(p + 9))};
    return true;
}

uint64_t raft_log_floor(const struct raft_log *l, uint64_t index, uint64_t term)
{
    uint64_t lo = l->prev_index, hi = raft_log_last(l);
    hi = index < hi ? index : hi;
    if (l->prev_term > term) {
        return l->prev_index - 1;
    }
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo + 1) / 2;
        if (raft_log_term(l, mid) <= term) {
            lo = mid;
        } else {
            hi = mid - 1;
        }
    }
    return lo;
}

void raft_log_check(const struct raft_log *l, bool whole)
{
    syn_assert((l->prev_index == 0) == (l->prev_term == 0));
    syn_assert(l->head + l->count <= l->cap);
    syn_assert(l->chunk_head + l->chunk_count <= l->chunk_cap);
    syn_assert((l->count > 0) == (l->chunk_count > 0));
    if (l->count > 0) {
        syn_assert(slot_at(l, l->prev_index + 1)->chunk == l->chunk_base);
        syn_assert(slot_at(l, raft_log_last(l))->chunk == l->chunk_base + (uint32_t)l->chunk_count - 1);
    }
    uint64_t term = l->prev_term;
    for (uint64_t i = l->prev_index + 1; whole && i <= raft_log_last(l); i++) {
        struct entry e;
        syn_assert(raft_log_entry(l, i, &e));
        syn_assert(e.term >= term);
        syn_assert(pos_at(l, i) - pos_at(l, i - 1) == e.payload.len + ENTRY_HEADER_BYTES);
        term = e.term;
    }
}
