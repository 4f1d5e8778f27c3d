/* LCS: the longest common subsequence of two values, with Redis' options and replies. */
#ifndef SYN_NODES_CACHE_CACHE_LCS_H
#define SYN_NODES_CACHE_CACHE_LCS_H

#include "utils/buf.h"

struct lcs_options {
    bool len, idx, with_match_len;
    int64_t match_len_min;
};

/* What follows the two keys. False: `error` has one RESP error. */
bool lcs_options_of(const slice_t *words, uint32_t n, struct lcs_options *o, struct buf *error);
/* The reply as RESP3. Work and transient memory are (a.len + 1) * (b.len + 1) cells of four bytes; beyond a value's greatest length an error, as in a Redis whose
 * proto-max-bulk-len is that. */
void lcs_reply(slice_t a, slice_t b, const struct lcs_options *o, struct buf *reply);

#endif
