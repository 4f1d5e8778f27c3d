/* The records of the log and their bounded decoder. The encoders that the node uses are declared in store.h. */
#ifndef SYN_STORAGE_LOG_CODEC_H
#define SYN_STORAGE_LOG_CODEC_H

#include "storage/store.h"

enum log_record_type {
    LOG_HARD_STATE = 1,
    LOG_ENTRIES = 2,
    LOG_SNAPSHOT_MARK = 3,
    LOG_GROUP = 4, /* only in the first block of a segment: all that older segments said of a group, entries excepted */
};

struct log_record {
    enum log_record_type type;
    uint32_t group;
    uint64_t term;         /* HARD_STATE, GROUP: current term. SNAPSHOT_MARK: term of the entry at index */
    node_id_t vote;        /* HARD_STATE, GROUP */
    uint64_t commit;       /* HARD_STATE, GROUP */
    uint64_t index;        /* ENTRIES: first index. SNAPSHOT_MARK: last index covered */
    uint32_t n_entries;    /* ENTRIES; 0 only cuts */
    slice_t run;           /* ENTRIES; borrowed */
    bool installed;        /* SNAPSHOT_MARK */
    uint64_t mark_index;   /* GROUP */
    uint64_t mark_term;    /* GROUP */
    uint64_t last_index;   /* GROUP: no entry of older segments lies beyond */
};

void log_put_group(struct buf *out, const struct log_record *g);

/* Decodes the next record and checks its shape (type, group < groups, indexes that cannot overflow), not the entries of
 * a run. False at the end (r->ok stays true) and on malformed bytes (r->ok is false). */
bool log_record_next(struct reader *r, uint32_t groups, struct log_record *out);

/* Steps over one entry of a run (the encoding of consensus.h). False when the bytes are not an entry. */
bool log_run_next(struct reader *run, uint64_t *term);

#endif
