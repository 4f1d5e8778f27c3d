/* What the files of the test cluster share: the disk image, the oracles, printing. */
#ifndef TESTS_CONSENSUS_CLUSTER_PARTS_H
#define TESTS_CONSENSUS_CLUSTER_PARTS_H

#include <stdlib.h>

#include "cluster.h"

#define U(x) ((unsigned long long)(x))

static inline void *must(void *p)
{
    if (p == NULL) {
        abort();
    }
    return p;
}

/* cluster_disk.c */
uint64_t disk_last(const struct disk *d);
uint64_t disk_term(const struct disk *d, uint64_t index);
void disk_cut(struct disk *d, uint64_t from);
void disk_apply(const struct cluster *k, struct disk *d, const struct write *w); /* one write becomes durable */
void disk_install(struct disk *d, const struct snapshot *s); /* a snapshot becomes the newest; a suffix that fits stays */

/* cluster_oracle.c */
uint64_t chain_hash(uint64_t prev, uint64_t term, enum entry_type type, slice_t payload);
void check_chain(struct cluster *k, uint64_t index, uint64_t term, uint64_t digest);
uint64_t find_chain(const struct cluster *k, uint64_t index, uint64_t term);
void check_promise(struct cluster *k, const struct consensus_msg *m);
void check_append_commit(const struct cluster *k, const struct consensus_msg *m);
void observe_commit(struct cluster *k, node_id_t id, const struct consensus_status *st);
void observe_leader(struct cluster *k, node_id_t id, const struct consensus_status *st);

/* cluster_print.c */
const char *role_name(enum consensus_role role);
const char *msg_type_name(enum msg_type type);

#endif
