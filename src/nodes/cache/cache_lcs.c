/* LCS by dynamic programming: cell (i, j) is the length for the first i bytes of a and the first j of b; the way back from the last cell tells the bytes and
 * the ranges. Which of several sequences of the same length is told is part of the reply: the way back is Redis', step by step. */
#include "nodes/cache/cache_lcs.h"

#include "communication/resp.h"
#include "nodes/cache/cache_op_internal.h"
#include "utils/assert.h"
#include "utils/limits.h"

#include <stdlib.h>

bool lcs_options_of(const slice_t *words, uint32_t n, struct lcs_options *o, struct buf *error)
{
    *o = (struct lcs_options){0};
    for (uint32_t i = 0; i < n; i++) {
        if (slice_ieq(words[i], "IDX")) {
            o->idx = true;
        } else if (slice_ieq(words[i], "LEN")) {
            o->len = true;
        } else if (slice_ieq(words[i], "WITHMATCHLEN")) {
            o->with_match_len = true;
        } else if (slice_ieq(words[i], "MINMATCHLEN") && i + 1 < n) {
            if (!number_parse(words[++i], &o->match_len_min)) {
                resp_error(error, "ERR", "value is not an integer or out of range");
                return false;
            }
        } else {
            resp_error(error, "ERR", "syntax error");
            return false;
        }
    }
    if (o->len && o->idx) {
        resp_error(error, "ERR", "If you want both the length and indexes, please just use IDX.");
    }
    return !(o->len && o->idx);
}

struct lcs { slice_t a, b; uint32_t *cells; };

static uint32_t *cell(const struct lcs *l, size_t i, size_t j)
{
    return &l->cells[i * (l->b.len + 1) + j];
}

static void fill(const struct lcs *l)
{
    for (size_t i = 1; i <= l->a.len; i++) {
        for (size_t j = 1; j <= l->b.len; j++) {
            uint32_t up = *cell(l, i - 1, j), left = *cell(l, i, j - 1);
            *cell(l, i, j) = l->a.ptr[i - 1] == l->b.ptr[j - 1] ? *cell(l, i - 1, j - 1) + 1 : up > left ? up : left;
        }
    }
}

/* Bytes that follow each other in both: from a_from to a_to, as long from b_from. */
struct range { bool open; size_t a_from, a_to, b_from, b_to; };
struct ranges { const struct lcs_options *o; struct buf out; uint32_t n; };

static void range_close(struct ranges *all, struct range *r)
{
    size_t len = r->a_to - r->a_from + 1;
    r->open = false;
    if ((int64_t)len < all->o->match_len_min) {
        return;
    }
    resp_array(&all->out, all->o->with_match_len ? 3 : 2);
    resp_array(&all->out, 2);
    resp_u64(&all->out, r->a_from);
    resp_u64(&all->out, r->a_to);
    resp_array(&all->out, 2);
    resp_u64(&all->out, r->b_from);
    resp_u64(&all->out, r->b_to);
    if (all->o->with_match_len) {
        resp_u64(&all->out, len);
    }
    all->n++;
}

/* From the last cell to the first; the ranges come in that order. bytes: as many as the last cell says. */
static void walk_back(const struct lcs *l, struct ranges *all, uint8_t *bytes)
{
    size_t i = l->a.len, j = l->b.len, left = *cell(l, i, j);
    struct range r = {0};
    while (i > 0 && j > 0) {
        if (l->a.ptr[i - 1] == l->b.ptr[j - 1]) {
            syn_assert(left > 0 && (!r.open || (r.a_from == i && r.b_from == j)));
            bytes[--left] = l->a.ptr[i - 1];
            r = (struct range){true, i - 1, r.open ? r.a_to : i - 1, j - 1, r.open ? r.b_to : j - 1};
            i--;
            j--;
            if (i == 0 || j == 0) {
                range_close(all, &r);
            }
        } else {
            *cell(l, i - 1, j) > *cell(l, i, j - 1) ? i-- : j--;
            if (r.open) {
                range_close(all, &r);
            }
        }
    }
}

static void put_reply(const struct lcs *l, const struct lcs_options *o, struct buf *reply)
{
    uint32_t len = *cell(l, l->a.len, l->b.len);
    if (o->len) {
        resp_int(reply, len);
        return;
    }
    struct ranges all = {.o = o};
    uint8_t *bytes = malloc(len + 1u);
    syn_assert(bytes != NULL);
    walk_back(l, &all, bytes);
    if (o->idx) {
        resp_map(reply, 2);
        resp_bulk_str(reply, "matches");
        resp_array(reply, all.n);
        buf_append_slice(reply, buf_slice(&all.out));
        resp_bulk_str(reply, "len");
        resp_int(reply, len);
    } else {
        resp_bulk(reply, slice_of(bytes, len));
    }
    free(bytes);
    buf_fini(&all.out);
}

void lcs_reply(slice_t a, slice_t b, const struct lcs_options *o, struct buf *reply)
{
    uint64_t cells = (uint64_t)(a.len + 1) * (b.len + 1);
    if (cells * sizeof(uint32_t) > LIMIT_VALUE_BYTES) {
        resp_error(reply, "ERR", "Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
        return;
    }
    struct lcs l = {a, b, calloc(cells, sizeof *l.cells)};
    syn_assert(l.cells != NULL);
    fill(&l);
    put_reply(&l, o, reply);
    free(l.cells);
}
