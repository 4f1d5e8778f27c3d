/* Raft behind consensus.h: the replica's state and what its files share. Included by src/consensus/raft*.c only.
 *
 * The protocol in numbered steps, the message table and the invariants are in docs/raft.md; the order in which effects
 * leave is in consensus.h. One replica is used by one thread. */
#ifndef SYN_CONSENSUS_RAFT_H
#define SYN_CONSENSUS_RAFT_H

#include "consensus/consensus.h"
#include "consensus/raft_log.h"
#include "utils/assert.h"
#include "utils/mutant.h"
#include "utils/prng.h"

enum {
    RAFT_PEER_LOST_MS_MIN = 10,       /* a closed socket to the leader: campaign after 10-30 ms (T27) */
    RAFT_PEER_LOST_MS_MAX = 30,
    RAFT_COMMIT_TELL_MS = 2,          /* an idle leader tells a new commit index after this long, not at once */
    RAFT_PROBE_BYTES_MAX = 16 * 1024, /* a probe may be refused: it carries little */
    RAFT_RESEND_BEATS = 3,            /* heartbeats without an acknowledgement before what is in flight counts as lost */
    RAFT_CATCH_UP_ENTRIES = 1024,     /* a learner further behind than this is not made a voter */
    RAFT_HELD_MSGS_MAX = 4096,        /* more held messages than this are dropped like lost ones */
    RAFT_VOTE_TRANSFER = 1            /* MSG_VOTE.ctx: the leader asked for this election; stickiness does not apply */
};

enum raft_peer_state { PEER_PROBE, PEER_REPLICATE, PEER_SNAPSHOT };
enum raft_answer { ANSWER_NONE, ANSWER_YES, ANSWER_NO };

/* What a replica knows of another member. The first group is kept by every role, the rest by the leader. */
struct raft_peer {
    node_id_t id;
    bool voter;
    enum raft_answer vote; /* in the current (pre-)campaign */

    enum raft_peer_state state;
    bool paused;           /* PROBE: one is out, or the socket is closed: wait for a sign of life */
    bool amnesiac;         /* it lost its disk: replicate to it, count it for nothing (P8) */
    bool heartbeat_due;
    bool tell_due;         /* it should hear of the commit index although there is nothing else to send */
    bool active;           /* heard from since the socket last closed */
    uint64_t match;        /* durable there and equal to our log */
    uint64_t next;         /* first entry not yet sent */
    uint64_t probe_no;     /* grows with every return to PROBE; answers to older ones are stale */
    uint64_t heard_ms;
    uint64_t acked_ms;     /* when match last grew, or when the first of what is in flight was sent */
    uint64_t commit_told;
    uint64_t commit_known; /* its own commit index as of its last heartbeat reply */
    uint64_t read_round;   /* newest read round it has confirmed */
    uint64_t *inflight;    /* owned ring of inflight_msgs_max: last index of each append that was not acknowledged */
    uint32_t inflight_head;
    uint32_t inflight_count;

    uint64_t snap_index;   /* SNAPSHOT: which one is being sent; 0: the newest when the next chunk is asked for */
    uint64_t snap_term;
    uint64_t snap_offset;  /* first byte it does not have */
    uint64_t chunk_ms;     /* when the current chunk was asked for */
    uint64_t asked_ms;     /* when it last wanted a further chunk; 0: never */
    bool chunk_asked;      /* wants_chunk handed it out, or it was sent and not yet answered */
    bool chunk_ready;      /* chunk holds bytes for take_msg */
    bool chunk_last;
    struct buf chunk;
};

struct raft_config_at {
    uint64_t index;
    struct consensus_config config;
};

/* Growable rings. items is a power of two long. */
struct raft_write { uint64_t no; uint64_t last; }; /* a write in flight; last: what it makes durable, lowered by a cut */
struct raft_read { uint64_t ctx; uint64_t index; uint64_t round; };
struct raft_held { struct consensus_msg msg; uint64_t need; };

struct raft_ring { void *items; uint32_t item; uint32_t cap; uint32_t head; uint32_t count; };
void raft_ring_init(struct raft_ring *r, uint32_t item);
void raft_ring_fini(struct raft_ring *r);
void *raft_ring_push(struct raft_ring *r);             /* the new last item, uninitialised */
void *raft_ring_at(const struct raft_ring *r, uint32_t i); /* i-th from the front */
void raft_ring_pop(struct raft_ring *r);

/* A snapshot being received. */
struct raft_install {
    uint64_t index; /* 0: none */
    uint64_t term;
    uint64_t leader_term; /* of the leader that sent its first chunk */
    uint64_t received;
    bool pending;   /* chunk holds bytes the node has not confirmed */
    bool taken;
    bool last;
    bool restoring; /* the last chunk was handed out: nothing is applied until the node has installed it or failed */
    struct buf chunk;
};

struct consensus {
    struct consensus_options o;
    struct prng prng;
    uint64_t now_ms;

    enum consensus_role role;
    uint64_t term;
    node_id_t vote;
    node_id_t leader;
    bool may_vote;
    bool quiesced;
    bool allow_quiesce;
    struct raft_log log;
    uint64_t commit;
    uint64_t applied;
    uint64_t verified; /* follower: this term's leader has shown that our log equals its own up to here */

    /* Durability (raft_persist.c). */
    bool hard_dirty;
    uint64_t hard_no;       /* the write that carries the newest taken term and vote */
    uint64_t taken_no;
    uint64_t persisted_no;
    uint64_t unstable;      /* first entry not yet handed out for writing */
    uint64_t durable;
    struct raft_ring writes; /* struct raft_write */
    struct raft_ring held;   /* struct raft_held */

    /* Elections. */
    uint64_t heard_ms;      /* from the leader */
    uint64_t election_ms;   /* this attempt's timeout */
    uint64_t election_at_ms;
    uint64_t resend_at_ms;
    uint32_t elections;
    bool campaign_transfer;

    /* Follower: the acknowledgement owed to the leader, sent once per turn (raft_replication.c). */
    bool ack_due;
    uint64_t ack_sent;
    uint64_t ack_ctx;

    /* Leader. */
    uint64_t term_start;    /* index of this term's no-op */
    uint64_t heartbeat_at_ms;
    uint64_t tell_at_ms;
    uint32_t send_cursor;
    uint64_t read_round;
    bool round_open;        /* read_round was numbered but no heartbeat has carried it yet */
    struct raft_ring reads; /* struct raft_read */
    node_id_t transfer_to;
    uint64_t transfer_at_ms; /* when it is given up */

    /* Members. */
    struct raft_peer peers[CONSENSUS_MEMBERS_MAX];
    uint32_t n_peers;
    uint32_t n_voters;
    bool self_voter;
    struct raft_config_at *configs; /* owned; [0] is the one in force at `applied`, the rest follow in the log */
    uint32_t n_configs;
    uint32_t configs_cap;

    /* Snapshots. */
    uint64_t snap_index;
    uint64_t snap_term;
    struct raft_install install;
};

/* raft.c */
struct raft_peer *raft_peer(struct consensus *c, node_id_t id); /* NULL: not a member */
void raft_push(struct consensus *c, struct consensus_msg m);    /* fills group and from; leaves once the term is durable */
void raft_push_free(struct consensus *c, struct consensus_msg m); /* the same for one that promises nothing: leaves at once */
static inline bool raft_is_single(const struct consensus *c) { return c->self_voter && c->n_voters == 1; }
/* The value that a majority of voters has reached; own is this replica's, values are given per peer. */
uint64_t raft_quorum(const struct consensus *c, uint64_t own, uint64_t (*value)(const struct raft_peer *p));

/* raft_persist.c */
void raft_cut(struct consensus *c, uint64_t from); /* truncates the log and everything said about what it loses */
bool raft_hard_durable(const struct consensus *c);

/* raft_election.c */
void raft_become_follower(struct consensus *c, uint64_t term, node_id_t leader);
void raft_become_candidate(struct consensus *c, bool transfer);
void raft_campaign(struct consensus *c);
void raft_arm_election(struct consensus *c); /* draws a new timeout */
void raft_heard_leader(struct consensus *c, node_id_t leader);
bool raft_electable(const struct consensus *c);
bool raft_sticky(const struct consensus *c, node_id_t candidate);
void raft_election_tick(struct consensus *c);
bool raft_lost_quorum(const struct consensus *c);
void raft_election_persisted(struct consensus *c);
void raft_on_pre_vote(struct consensus *c, const struct consensus_msg *m);
void raft_on_pre_vote_reply(struct consensus *c, const struct consensus_msg *m);
void raft_on_vote(struct consensus *c, const struct consensus_msg *m);
void raft_on_vote_reply(struct consensus *c, const struct consensus_msg *m);

/* raft_replication.c: the leader's side */
void raft_append_own(struct consensus *c, enum entry_type type, slice_t payload);
void raft_peer_probe(struct consensus *c, struct raft_peer *p);
void raft_peer_reset(struct consensus *c, struct raft_peer *p);
void raft_peer_matched(struct consensus *c, struct raft_peer *p, uint64_t match, bool recount);
void raft_on_append_reply(struct consensus *c, const struct consensus_msg *m);
void raft_on_heartbeat_reply(struct consensus *c, const struct consensus_msg *m);
void raft_leader_tick(struct consensus *c);
bool raft_take_peer_msg(struct consensus *c, struct raft_peer *p, struct consensus_msg *out);

/* raft_follower.c */
void raft_on_append(struct consensus *c, const struct consensus_msg *m);
void raft_on_heartbeat(struct consensus *c, const struct consensus_msg *m);
bool raft_take_ack(struct consensus *c, struct consensus_msg *out);

/* raft_commit.c */
void raft_commit_to(struct consensus *c, uint64_t index);
void raft_leader_commit(struct consensus *c);
bool raft_ready(const struct consensus *c);

/* raft_read.c */
void raft_reads_drop(struct consensus *c);

/* raft_config.c */
void raft_config_init(struct consensus *c, const struct consensus_config *config, uint64_t index);
void raft_config_append(struct consensus *c, uint64_t index, slice_t payload);
void raft_config_cut(struct consensus *c, uint64_t from);
void raft_config_applied_to(struct consensus *c, uint64_t index);
void raft_config_committed(struct consensus *c, uint64_t old_commit);
bool raft_config_stands(const struct consensus *c); /* this replica may stand for election */
void raft_config_check(const struct consensus *c);

/* raft_snapshot.c */
void raft_on_snapshot(struct consensus *c, const struct consensus_msg *m);
void raft_on_snapshot_reply(struct consensus *c, const struct consensus_msg *m);
void raft_peer_snapshot(struct consensus *c, struct raft_peer *p);
void raft_snapshot_beat(struct consensus *c, struct raft_peer *p);
bool raft_take_chunk(struct consensus *c, struct raft_peer *p, struct consensus_msg *out);

/* raft_transfer.c */
void raft_transfer_try(struct consensus *c);
void raft_transfer_clear(struct consensus *c);
void raft_transfer_tick(struct consensus *c);
void raft_transfer_away(struct consensus *c);
void raft_on_timeout_now(struct consensus *c, const struct consensus_msg *m);

/* raft_quiesce.c */
/* A sleeping replica has not been told the time: whoever wakes it must, or CheckQuorum counts its followers' silence meanwhile. */
static inline void raft_time(struct consensus *c, uint64_t now_ms) { c->now_ms = now_ms > c->now_ms ? now_ms : c->now_ms; }
void raft_wake(struct consensus *c);
bool raft_wakes(const struct consensus *c, const struct consensus_msg *m);
bool raft_try_quiesce(struct consensus *c);
void raft_sleep(struct consensus *c, const struct consensus_msg *m); /* follower: at the leader's last heartbeat */

#endif
