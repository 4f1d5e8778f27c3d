/* The one interface between the node and an agreement protocol (docs/architecture.md, "Consensus").
 *
 * One `struct consensus` is one group's replica. It is a pure object: it is stepped with messages, time and completions
 * of its own disk writes, and what it wants done is taken from it afterwards in this order, once per loop turn:
 *
 *   1. consensus_take_persist   what must be written (hard state, entries, a cut); numbered by persist_no; until false
 *   2. consensus_take_msg       messages that may leave now. A message that promises something (a vote, an append
 *                               acknowledgement) is held inside until consensus_persisted(persist_no) has covered it,
 *                               so whoever takes a message may send it at once (R6)
 *   3. consensus_take_committed committed entries, in order, each exactly once
 *   4. consensus_take_read      reads whose index is confirmed
 *
 * Entries are opaque bytes here. Raft stands behind it today; PBFT implements the same table of functions.
 * All times are milliseconds of one monotonic clock; all randomness comes from the seed in the options. */
#ifndef SYN_CONSENSUS_CONSENSUS_H
#define SYN_CONSENSUS_CONSENSUS_H

#include "utils/buf.h"
#include "utils/slice.h"

enum { CONSENSUS_MEMBERS_MAX = 16 };

/* Numeric identity of a node; 0 is nobody. Names map to numbers in utils/config. */
typedef uint32_t node_id_t;

enum consensus_role { ROLE_FOLLOWER, ROLE_PRE_CANDIDATE, ROLE_CANDIDATE, ROLE_LEADER, ROLE_LEARNER };

/* Entry types. The log treats all alike; CONFIG entries carry an encoded struct consensus_config. */
enum entry_type { ENTRY_NORMAL = 1, ENTRY_NOOP = 2, ENTRY_CONFIG = 3 };

struct consensus_member {
    node_id_t id;
    bool voter;    /* false: learner, never counted for votes, commit, or CheckQuorum (R10) */
    uint64_t disk; /* which data directory of that node is meant; 0: its first one. Another one is a lost disk (P8) */
};

enum { CONSENSUS_MEMBER_BYTES = 13 }; /* encoded; a configuration is one byte more */

struct consensus_config {
    uint32_t count;
    struct consensus_member members[CONSENSUS_MEMBERS_MAX];
};

void consensus_config_encode(const struct consensus_config *c, struct buf *out);
/* False when the bytes are not a configuration (count, duplicate ids, zero id, trailing bytes). */
bool consensus_config_decode(slice_t s, struct consensus_config *out);

struct entry {
    uint64_t index;
    uint64_t term;
    enum entry_type type;
    slice_t payload; /* borrowed from the group's log until it is compacted or cut */
};

/* Entries travel and rest in one encoding, on the wire (MSG_APPEND.entries) and in the log (storage/log_codec.h):
 * per entry u64 term, u8 type, u32 length, payload; little-endian; consecutive indexes. */
enum { ENTRY_HEADER_BYTES = 13 };
void entry_encode(struct buf *out, uint64_t term, enum entry_type type, slice_t payload);
/* Reads the next entry of a run (index is the caller's to count). False at the end or on malformed bytes (r->ok tells). */
bool entry_decode(struct reader *r, struct entry *out);

/* Messages between replicas of a group. Field use per type: docs/raft.md, message table. */
enum msg_type {
    MSG_NONE = 0,
    MSG_PRE_VOTE, MSG_PRE_VOTE_REPLY,
    MSG_VOTE, MSG_VOTE_REPLY,
    MSG_APPEND, MSG_APPEND_REPLY,         /* without entries: a probe, or only the commit index */
    MSG_HEARTBEAT, MSG_HEARTBEAT_REPLY,   /* liveness, commit index and read rounds; never carries entries */
    MSG_SNAPSHOT, MSG_SNAPSHOT_REPLY,     /* one chunk of a snapshot, and how far it was received */
    MSG_TIMEOUT_NOW,                      /* leadership transfer: start an election at once, without PreVote */
    MSG_CONSENSUS_MAX
};

struct consensus_msg {
    enum msg_type type;
    uint32_t group;
    node_id_t from;
    node_id_t to;
    uint64_t term;      /* sender's term (for PreVote: the term it would campaign in) */
    uint64_t index;     /* last or previous index; match index in replies; snapshot's last index */
    uint64_t log_term;  /* term of the entry at index */
    uint64_t commit;
    uint64_t ctx;       /* read round (heartbeat), probe number (append), campaign (votes): echoed in the reply */
    uint64_t hint;      /* conflict index, byte offset of a snapshot chunk, or the verified index (heartbeat reply) */
    bool reject;        /* replies: refused */
    bool quiesce;       /* heartbeat: go to sleep after this one. snapshot: this is the last chunk. append: no answer wanted
                         * when it fits. replies to these: the sender lost its disk, do not count it (P8) */
    slice_t data;       /* append: run of entries; snapshot: chunk. Borrowed until the next step of the group */
    uint32_t n_entries; /* append: how many entries data holds */
};

struct consensus_persist {
    uint64_t persist_no;   /* grows by one per taken write */
    bool hard_state;       /* term and vote below changed and must be durable with this write */
    uint64_t term;
    node_id_t vote;
    uint64_t commit;       /* a hint for recovery only */
    uint64_t first_index;  /* entries [first_index, first_index + n_entries): replaces everything at and beyond */
    uint32_t n_entries;
    slice_t entries;       /* the run; borrowed until the next step of the group */
};

struct consensus_status {
    enum consensus_role role;
    uint64_t term;
    node_id_t leader;      /* 0: unknown */
    uint64_t commit;
    uint64_t applied;      /* handed out by take_committed */
    uint64_t first;        /* first index still in memory */
    uint64_t last;
    uint64_t last_term;
    uint64_t snapshot;     /* index of the newest durable snapshot */
    uint64_t durable;      /* last own entry known durable */
    bool quiesced;
    bool ready;            /* leader, and an entry of its own term is committed (reads and grants may be served) */
    node_id_t transferring_to;
    uint32_t elections;    /* campaigns started since start */
    const char *why_no_leader; /* one sentence, NULL when there is one */
};

struct consensus_peer_status { node_id_t id; bool voter; bool active; bool amnesiac; uint64_t match; uint64_t next; const char *state; };

struct consensus_options {
    uint32_t group;
    node_id_t self;
    uint64_t seed;
    uint32_t election_ms_min;     /* ELECTION_TIMEOUT_MIN */
    uint32_t election_ms_max;     /* ELECTION_TIMEOUT_MAX */
    uint32_t heartbeat_ms;        /* HEARTBEAT_INTERVAL */
    uint32_t append_bytes_max;    /* one append message, default 256 KiB */
    uint32_t inflight_bytes_max;  /* per follower, default 1 MiB */
    uint32_t inflight_msgs_max;   /* per follower, default 128 */
    uint64_t uncommitted_bytes_max; /* leader: beyond this propose answers PROPOSE_BUSY, default 32 MiB */
};

/* What recovery found; entries follow through consensus_restore_entries before the first tick. */
struct consensus_recovered {
    uint64_t term;
    node_id_t vote;
    uint64_t snapshot_index; /* 0: none; the initial configuration then stands at index 0 */
    uint64_t snapshot_term;
    struct consensus_config config; /* as of snapshot_index */
};

enum propose_result { PROPOSE_OK, PROPOSE_NOT_LEADER, PROPOSE_BUSY, PROPOSE_TRANSFERRING, PROPOSE_CONFIG_PENDING, PROPOSE_BAD_CONFIG };

struct consensus; /* opaque */

struct consensus *consensus_new(const struct consensus_options *o, const struct consensus_recovered *r, uint64_t now_ms);
void consensus_free(struct consensus *c);
/* Appends recovered, already durable entries; first_index continues the log. Only before the first step or tick. */
void consensus_restore_entries(struct consensus *c, uint64_t first_index, slice_t run, uint32_t n_entries);

/* False refuses voting and campaigning until it is set: a node that lost its disk (P8). It still receives entries and
 * says how far it is, marked so that the leader counts it for nothing. Default true. */
void consensus_set_may_vote(struct consensus *c, bool may_vote);

void consensus_tick(struct consensus *c, uint64_t now_ms);
uint64_t consensus_deadline_ms(const struct consensus *c); /* when tick wants to be called next; UINT64_MAX: never */
/* msg came from a peer: it was validated by consensus_msg_invalid. Wrong-group or wrong-addressee is the caller's bug. */
void consensus_step(struct consensus *c, const struct consensus_msg *msg, uint64_t now_ms);
/* NULL when a message from outside is well formed; otherwise the reason (a metric label). Checks what needs no state:
 * type, term > 0, indexes that do not overflow, entries contiguous and n_entries right, sizes. */
const char *consensus_msg_invalid(const struct consensus_msg *msg);

/* Leader only. On PROPOSE_OK *index is the entry's place; the payload was copied. */
enum propose_result consensus_propose(struct consensus *c, enum entry_type type, slice_t payload, uint64_t now_ms, uint64_t *index);
/* One server at a time (Ongaro 2014, 4.1), refused before an entry of this term is committed (S10). */
enum propose_result consensus_change_config(struct consensus *c, const struct consensus_config *next, uint64_t now_ms, uint64_t *index);
/* Starts handing leadership to `to`; proposals answer PROPOSE_TRANSFERRING until it is over or has timed out. */
bool consensus_transfer(struct consensus *c, node_id_t to, uint64_t now_ms);
/* The best follower to hand over to: the voter with the highest match, active; 0 when there is none. */
node_id_t consensus_transfer_target(const struct consensus *c);
/* The socket to `peer` closed: if it led this group, PreVote starts after 10-30 ms random (T27). Also wakes from quiescence. */
void consensus_peer_lost(struct consensus *c, node_id_t peer, uint64_t now_ms);
/* Wakes a quiesced replica (its leader's node is suspected, or there is work). */
void consensus_wake(struct consensus *c, uint64_t now_ms);
/* Leader: peer hears of the commit index with this turn's messages, rather than with the next entries or after RAFT_COMMIT_TELL_MS: somebody
 * there waits for what was just committed. */
void consensus_tell(struct consensus *c, node_id_t peer);
/* Leader: allows or forbids going quiescent when there is nothing in flight (the node knows the nearest deadline). */
void consensus_allow_quiesce(struct consensus *c, bool allowed, uint64_t now_ms);

/* Linearizable read (ReadIndex, Ongaro 2014, 6.4). Leader only and ready; ctx comes back through take_read together
 * with the index the state machine must have applied. Rounds are numbered by the replica itself (S1). */
bool consensus_read(struct consensus *c, uint64_t ctx, uint64_t now_ms);

bool consensus_take_persist(struct consensus *c, struct consensus_persist *out);
void consensus_persisted(struct consensus *c, uint64_t persist_no); /* everything up to persist_no is durable */
bool consensus_take_msg(struct consensus *c, struct consensus_msg *out);
bool consensus_take_committed(struct consensus *c, struct entry *out);
bool consensus_take_read(struct consensus *c, uint64_t *ctx, uint64_t *index);

/* Snapshots. The node makes them (it owns the state machine); the replica decides who needs one.
 * A snapshot of index is durable on this node, and so is its log (index <= consensus_durable): the log may forget entries up to
 * and including keep_from - 1. */
/* The first index that is worth keeping behind a snapshot of index, for followers that are a little behind: at most so many entries and bytes. */
uint64_t consensus_keep_from(const struct consensus *c, uint64_t index, uint64_t entries_max, uint64_t bytes_max);
void consensus_snapshot_made(struct consensus *c, uint64_t index, uint64_t term, uint64_t keep_from);
/* A follower needs a snapshot: the replica asks for bytes [offset, ...) of the newest one, for `to`. */
bool consensus_wants_chunk(struct consensus *c, node_id_t *to, uint64_t *snapshot_index, uint64_t *offset);
/* When a follower that is being sent a snapshot last asked for a further chunk; 0: none did. A newer snapshot makes it start over. */
uint64_t consensus_chunk_asked_ms(const struct consensus *c);
/* Answers it (last: the final chunk). data is copied. A failed read passes SLICE_NONE with last = false. */
void consensus_chunk(struct consensus *c, node_id_t to, uint64_t snapshot_index, uint64_t offset, slice_t data, bool last);
/* A follower received a chunk in order: the node must write it. The chunk counts (and is acknowledged) only once
 * consensus_install_progress confirms it. Offsets restart at 0 for a new snapshot. */
struct consensus_install { uint64_t index; uint64_t term; uint64_t offset; slice_t data; bool last; };
bool consensus_take_install(struct consensus *c, struct consensus_install *out);
void consensus_install_progress(struct consensus *c, uint64_t index, uint64_t received);
/* The whole snapshot is durable and restored into the state machine: the log restarts after it (S15, S16), unless it has
 * the entry at index with this term: then what follows it stays. From the last take_install until this call (or
 * install_failed) take_committed hands out nothing. */
void consensus_installed(struct consensus *c, uint64_t index, uint64_t term, const struct consensus_config *config);
/* The received file was bad: forget it, tell the leader to start over. */
void consensus_install_failed(struct consensus *c, uint64_t index);

void consensus_status(const struct consensus *c, struct consensus_status *out);
/* The configuration in force (latest in the log, committed or not), and the one as of `applied` for snapshots. */
const struct consensus_config *consensus_config_now(const struct consensus *c);
const struct consensus_config *consensus_config_applied(const struct consensus *c);
uint32_t consensus_peers(const struct consensus *c, struct consensus_peer_status *out, uint32_t max);
/* Term of the entry at index; 0 when the log does not have it. */
uint64_t consensus_durable(const struct consensus *c); /* the last entry that is on this node's disk */
uint64_t consensus_log_bytes(const struct consensus *c); /* encoded bytes of the entries in memory */
uint64_t consensus_term_at(const struct consensus *c, uint64_t index);
/* The entry at index, for a node that must look at the tail (time of the last entry); false when not in memory. */
bool consensus_entry_at(const struct consensus *c, uint64_t index, struct entry *out);
/* Every invariant of the replica that holds between steps; asserts. */
void consensus_check(const struct consensus *c);

#endif
