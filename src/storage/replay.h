/* What a sequence of records makes of one group's log: the meaning of the log, apart from where its bytes lie. */
#ifndef SYN_STORAGE_REPLAY_H
#define SYN_STORAGE_REPLAY_H

#include "storage/log_codec.h"

struct replay {
    bool exists;
    uint64_t term;
    node_id_t vote;
    uint64_t commit;
    uint64_t mark_index;
    uint64_t mark_term;
    uint64_t base;       /* entries held: base + 1 ... base + count */
    uint64_t count;
    uint64_t cap;
    uint64_t *at;        /* owned; offset of each held entry in run */
    struct buf run;
};

void replay_fini(struct replay *g);
/* Applies one record. NULL, or why it cannot follow what came before (damage or an own bug; never accepted).
 * first: this is the oldest segment, whose LOG_GROUP records are the state to start from; later ones repeat it. */
const char *replay_apply(struct replay *g, const struct log_record *r, bool first);
/* Joins the log with the newest whole snapshot (0: none). NULL, or the reason of the gap between them (W7, D15). */
const char *replay_join_snapshot(struct replay *g, uint64_t index, uint64_t term);
static inline uint64_t replay_last(const struct replay *g) { return g->base + g->count; }

#endif
