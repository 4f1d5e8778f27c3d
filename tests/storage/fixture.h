/* What the store's tests share: a model of the log in versions, payloads that can be told apart, and comparison. */
#ifndef SYN_TESTS_STORAGE_FIXTURE_H
#define SYN_TESTS_STORAGE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "storage/files_mem.h"
#include "storage/store.h"

enum { GROUPS = 3, ENTRIES_MAX = 600, SEGMENT = 64 * 1024 };

struct model_group {
    uint64_t term;
    node_id_t vote;
    uint64_t commit;
    uint64_t base;                  /* entries base + 1 ... last */
    uint64_t last;
    uint64_t terms[ENTRIES_MAX];    /* by index */
    uint64_t snapshot_term[ENTRIES_MAX]; /* of a snapshot at that index, when one was begun */
};

struct model {
    struct model_group g[GROUPS];
};

struct store_options fixture_options(void);
/* Opens and fails the test with the store's message unless the status is OK. */
struct store *fixture_open(struct files_mem *m, struct store_recovery *r);
enum store_status fixture_try_open(struct files_mem *m, struct store **s, struct store_recovery *r, struct buf *error);

/* The payload of an entry is a function of its place, so that any mix-up shows. */
size_t payload_len(uint32_t group, uint64_t index, uint64_t term);
void put_entry(struct buf *run, uint32_t group, uint64_t index, uint64_t term);
/* Encodes entries [first, first + n) of term and applies them to the model. */
void model_entries(struct model *m, struct buf *records, uint32_t group, uint64_t first, uint32_t n, uint64_t term);
void model_hard_state(struct model *m, struct buf *records, uint32_t group, uint64_t term, node_id_t vote, uint64_t commit);
void model_mark(struct model *m, struct buf *records, uint32_t group, uint64_t index, uint64_t term, bool installed);
/* Is what was recovered this version of the model, seen through the snapshots that were recovered? */
bool model_equals(const struct model *m, const struct store_recovery *r);

void snapshot_bytes(struct buf *out, uint32_t group, uint64_t index);
enum store_status snapshot_make(struct store *s, uint32_t group, uint64_t index, uint64_t term);
/* Loads the newest snapshot of the group and compares its bytes. */
bool snapshot_is(struct store *s, uint32_t group, uint64_t index);

/* Appends the records, syncs, and empties the buffer. */
void append_sync(struct store *s, struct buf *records);
/* Appends hard states of group 2, also to the model, until the log has so many segments. */
void append_until(struct store *s, struct model *m, uint64_t segments);
/* Opens and abandons: what a start would find. */
enum store_status reopen(struct files_mem *disk, struct store_recovery *r, struct buf *error);
/* Bytes of all files together. */
uint64_t disk_used(const struct files_mem *disk);
/* The whole file into an empty buffer. */
void disk_read(struct files_mem *disk, const char *name, struct buf *out);

#endif
