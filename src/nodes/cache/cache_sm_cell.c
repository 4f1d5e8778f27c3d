/* A key of memory as one allocation: version, lengths, then what it has of expiry and guard, key and value, without gaps.
 *
 * Not responsible for where cells are found (cache_sm_table.c, cache_sm_due.c). A cell's fields are read byte by byte: nothing in it is aligned. */
#include "nodes/cache/cache_sm_internal.h"

#include "utils/hash.h"
#include "utils/limits.h"

#include <stdlib.h>

enum { DUE_BYTES = 12, GUARD_BYTES = 10 };
_Static_assert((int)LIMIT_KEY_BYTES <= (int)CELL_KEY, "a key's length fits into its bits");

/* Hashes that decide what replicas compare have a key of their own: options.hash_key is for tables. */
static const uint64_t DIGEST_KEY = 0x63656c6c73756d31u;

static const uint8_t *guard_at(const struct cell *c)
{
    return c->bytes + (c->key_bits & CELL_DUE ? DUE_BYTES : 0);
}

static size_t key_at(const struct cell *c)
{
    size_t at = c->key_bits & CELL_DUE ? DUE_BYTES : 0;
    return at + (c->key_bits & CELL_GUARD ? GUARD_BYTES + (size_t)le16_get(c->bytes + at + 8) : 0);
}

static size_t item_size(slice_t key, const struct cache_item *item)
{
    size_t guard = item->guard.len > 0 ? GUARD_BYTES + item->guard.len : 0;
    return sizeof(struct cell) + (item->exists && item->expire_ms != 0 ? DUE_BYTES : 0) + guard + key.len + (item->exists ? item->value.len : 0);
}

static uint16_t item_bits(slice_t key, const struct cache_item *item)
{
    bool due = item->exists && item->expire_ms != 0;
    return (uint16_t)(key.len | (item->exists ? CELL_EXISTS : 0) | (due ? CELL_DUE : 0) | (item->guard.len > 0 ? CELL_GUARD : 0));
}

slice_t cell_key(const struct cell *c)
{
    return slice_of(c->bytes + key_at(c), c->key_bits & CELL_KEY);
}

uint64_t cell_expire_ms(const struct cell *c)
{
    return c->key_bits & CELL_DUE ? le64_get(c->bytes) : 0;
}

uint32_t cell_due_place(const struct cell *c)
{
    syn_assert(c->key_bits & CELL_DUE);
    return le32_get(c->bytes + 8);
}

void cell_set_due_place(struct cell *c, uint32_t place)
{
    syn_assert(c->key_bits & CELL_DUE);
    le32_put(c->bytes + 8, place);
}

struct cache_item cell_item(const struct cell *c)
{
    slice_t key = cell_key(c);
    struct cache_item item = {.exists = c->key_bits & CELL_EXISTS, .value = slice_of(key.ptr + key.len, c->value_len), .expire_ms = cell_expire_ms(c)};
    if (c->key_bits & CELL_GUARD) {
        const uint8_t *g = guard_at(c);
        item.token = le64_get(g);
        item.guard = slice_of(g + GUARD_BYTES, le16_get(g + 8));
    }
    return item;
}

uint64_t cell_cost(const struct cell *c)
{
    return sizeof *c + key_at(c) + (c->key_bits & CELL_KEY) + c->value_len + CELL_COST + (c->key_bits & CELL_DUE ? sizeof(struct due_entry) : 0);
}

uint64_t item_cost(slice_t key, const struct cache_item *item)
{
    bool due = item->exists && item->expire_ms != 0;
    return item->exists || item->guard.len > 0 ? item_size(key, item) + CELL_COST + (due ? sizeof(struct due_entry) : 0) : 0;
}

static void put(uint8_t *to, slice_t from)
{
    if (from.len > 0 && to != from.ptr) {
        memmove(to, from.ptr, from.len);
    }
}

/* bits and lengths are set: the rest, but for the key. */
static void write_item(struct cell *c, const struct cache_item *item)
{
    if (c->key_bits & CELL_DUE) {
        le64_put(c->bytes, item->expire_ms);
    }
    if (c->key_bits & CELL_GUARD) {
        uint8_t *g = c->bytes + (guard_at(c) - c->bytes);
        le64_put(g, item->token);
        le16_put(g + 8, (uint16_t)item->guard.len);
        put(g + GUARD_BYTES, item->guard);
    }
    if (c->key_bits & CELL_EXISTS) {
        put(c->bytes + key_at(c) + (c->key_bits & CELL_KEY), item->value);
    }
}

struct cell *cell_new(slice_t key, const struct cache_item *item)
{
    syn_assert(item->exists || item->guard.len > 0);
    syn_assert(key.len <= LIMIT_KEY_BYTES && item->guard.len <= UINT16_MAX && item->value.len <= UINT32_MAX);
    struct cell *c = malloc(item_size(key, item));
    syn_assert(c != NULL);
    *c = (struct cell){.value_len = item->exists ? (uint32_t)item->value.len : 0, .key_bits = item_bits(key, item)};
    if (c->key_bits & CELL_DUE) {
        le32_put(c->bytes + 8, UINT32_MAX);
    }
    write_item(c, item);
    put(c->bytes + key_at(c), key);
    return c;
}

bool cell_write(struct cell *c, const struct cache_item *item)
{
    slice_t key = cell_key(c);
    struct cache_item was = cell_item(c);
    if ((c->key_bits & ~CELL_FILLED) != item_bits(key, item) || was.guard.len != item->guard.len || was.value.len != (item->exists ? item->value.len : 0)) {
        return false;
    }
    write_item(c, item);
    return true;
}

uint64_t cell_hash(const struct cell *c)
{
    struct cache_item item = cell_item(c);
    uint64_t h = hash_bytes(DIGEST_KEY, cell_key(c)) ^ hash_u64(c->version);
    h = hash_u64(h ^ item.expire_ms) + (item.exists ? 1 : 0);
    h = hash_bytes(h, item.value) + (c->key_bits & CELL_FILLED ? 1 : 0);
    return item.guard.len > 0 ? hash_u64(hash_bytes(h, item.guard) ^ item.token) : h;
}
