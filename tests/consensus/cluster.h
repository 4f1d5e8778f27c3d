/* A cluster of consensus replicas in one process and virtual time, with a disk and a network that can be made to fail,
 * and the checkers R1-R11 and R13 of docs/raft.md over everything it does. Used by the transcripts and the random test.
 *
 * A broken invariant prints what broke and aborts. All randomness comes from the seed. */
#ifndef TESTS_CONSENSUS_CLUSTER_H
#define TESTS_CONSENSUS_CLUSTER_H

#include "consensus/consensus.h"
#include "utils/prng.h"

enum { NODES_MAX = 8, TERMS_MAX = 4096, SNAPSHOT_BLOB_BYTES = 300, SNAPSHOT_CHUNK_BYTES = 120 };

struct disk_entry {
    uint64_t term;
    enum entry_type type;
    struct buf payload;
};

struct snapshot {
    uint64_t index;
    uint64_t term;
    uint64_t digest; /* hash chain over every entry up to index */
    struct consensus_config config;
};

struct disk { /* what a crash leaves */
    uint64_t term;
    node_id_t vote;
    struct snapshot snap;
    struct disk_entry *entries; /* those after snap.index */
    size_t count;
    size_t cap;
};

struct write {
    struct consensus_persist p;
    struct buf run;
    uint64_t done_at_ms;
};

struct node {
    struct consensus *c; /* NULL: down */
    struct disk disk;
    struct write *writes;
    size_t n_writes;
    size_t cap_writes;
    uint64_t applied;
    uint64_t digest;
    uint64_t commit_seen;
    uint64_t leader_term_seen;
    struct buf install;       /* the snapshot file being received: not durable */
    struct snapshot installing;
    bool install_ready;       /* all of it is here; complete_install makes it durable */
    struct consensus_status status; /* as of the last pump */
    node_id_t votes[TERMS_MAX];
};

struct packet {
    struct consensus_msg m;
    struct buf data;
    uint64_t at_ms;
    uint64_t no;
};

struct cluster {
    uint32_t n; /* nodes are 1..n */
    struct node nodes[NODES_MAX + 1];
    uint64_t now_ms;
    struct prng prng;
    struct consensus_config initial;
    struct consensus_options options;
    uint64_t snapshot_keep;
    struct packet *packets;
    size_t n_packets;
    size_t cap_packets;
    uint64_t packet_no;
    bool blocked[NODES_MAX + 1][NODES_MAX + 1];

    uint32_t loss_ppm, dup_ppm;
    uint32_t delay_ms_max, disk_ms_max;
    bool manual; /* transcripts: nothing is delivered or written unless told */
    struct buf *trace;

    /* Oracles. */
    struct canon { uint64_t term; uint64_t digest; } *canon; /* canon[i]: the entry committed at i; canon[0] unused */
    uint64_t n_canon;
    size_t cap_canon;
    node_id_t leaders[TERMS_MAX];
    struct chain { uint64_t index, term, digest; } *chains; /* (index, term) -> digest of the log up to it: open hash */
    size_t cap_chains;
    uint64_t read_floor[4096];
    uint64_t reads_asked, reads_done, applied_total, leader_changes, crashes, snapshots_sent, configs_done;
};

/* append_bytes_max 0: the default. */
void cluster_init(struct cluster *k, uint32_t n, uint32_t voters, uint64_t seed, uint32_t append_bytes_max);
void cluster_fini(struct cluster *k);
void cluster_start(struct cluster *k, node_id_t id);
/* Loses everything that was not durable, except the first `writes_kept` writes in flight. */
void cluster_crash(struct cluster *k, node_id_t id, size_t writes_kept);
/* Takes and carries out everything the node wants done, then checks it. */
void cluster_pump(struct cluster *k, node_id_t id);
void cluster_complete_write(struct cluster *k, node_id_t id);
void cluster_complete_install(struct cluster *k, node_id_t id);
void cluster_snapshot(struct cluster *k, node_id_t id);
bool cluster_propose(struct cluster *k, node_id_t id, slice_t payload);
bool cluster_read(struct cluster *k, node_id_t id);
/* Delivers packet i. */
void cluster_deliver(struct cluster *k, size_t i);
void cluster_drop(struct cluster *k, size_t i);
/* One step of virtual time: due packets, due writes, due timers. */
void cluster_run(struct cluster *k, uint64_t ms);
node_id_t cluster_leader(const struct cluster *k); /* of the highest term; 0: none */
void cluster_print_msg(struct buf *out, const struct consensus_msg *m);
__attribute__((noreturn, format(printf, 2, 3))) void cluster_fail(const struct cluster *k, const char *fmt, ...);

#endif
