/* Between lines.c, which stores lines, and lines_policy.c, which orders them. Nothing else includes this. */
#ifndef SYN_NODES_CACHE_LINES_INTERNAL_H
#define SYN_NODES_CACHE_LINES_INTERNAL_H

#include "nodes/cache/lines.h"
#include "utils/assert.h"

enum { CHUNK_LINES = 512 };
struct line_chunk {
    uint32_t used;             /* lines */
    uint32_t free;             /* index of the first slot that has none, which are linked by `chain` */
    uint32_t before, after;    /* its neighbours among the chunks with room */
    struct line lines[CHUNK_LINES];
};

static inline struct line *line_at(const struct lines *s, uint32_t at)
{
    return &s->chunks[at / CHUNK_LINES]->lines[at % CHUNK_LINES];
}

/* lines_policy.c */
void policy_init(struct lines *s);
void policy_fini(struct lines *s);
void policy_insert(struct lines *s, struct line *l, uint32_t at);   /* it is new, `at` is its index */
uint32_t policy_remove(struct lines *s, struct line *l);            /* returns its index */
void policy_check(const struct lines *s);

#endif
