/* A node as a pure object: events in, effects out (docs/architecture.md, "The way of a command").
 *
 * node_step(node, event, effects) never reads a clock, socket, file, environment or random source. Time comes in the event,
 * randomness from the seed in the options. The shell (src/io) and the simulator (sim/) are two drivers of the same object:
 *
 *   - deliver events as they happen; after every burst deliver EV_TURN_END, which is when batched effects come out
 *     (one log write, one frame per peer, one reply buffer per connection);
 *   - carry effects out IN LIST ORDER. Nothing the node emits depends on bytes that are not durable: what waits for the disk
 *     stays inside until EV_LOG_DONE (R6);
 *   - call with EV_TIMER (or any event) no later than node_deadline_ms.
 *
 * All times: milliseconds of this node's monotonic clock, except wall_ms (Unix time, for display only). */
#ifndef SYN_NODES_NODE_H
#define SYN_NODES_NODE_H

#include "consensus/consensus.h"
#include "utils/buf.h"
#include "utils/slice.h"

typedef uint64_t conn_id_t; /* client connection, chosen by the driver, never reused */
typedef uint64_t link_id_t; /* connection to a peer, chosen by the driver, never reused */

enum event_type {
    EV_TURN_END = 1,
    EV_TIMER,
    EV_CONN_OPENED,      /* conn, door, text = remote address */
    EV_CONN_DATA,        /* conn, data = all unconsumed bytes; the node sets `consumed` */
    EV_CONN_CLOSED,      /* conn */
    EV_CONN_DRAINED,     /* conn: everything sent so far has left; the node may resume a paused reader */
    EV_CONN_REFUSED,     /* a client beyond the limit on connections was turned away */
    EV_LINK_UP,          /* link, peer = the node dialled, 0 when the peer dialled us */
    EV_LINK_FRAME,       /* link, data = one whole frame body (peer_codec.h: frame_split did the framing) */
    EV_LINK_DOWN,        /* link */
    EV_LINK_BAD,         /* link, text: the driver closed it because frame_split refused its bytes, for this reason */
    EV_DIAL_FAILED,      /* peer */
    EV_LOG_DONE,         /* seq: every EF_LOG up to seq is durable; value = microseconds of the flush, offset = size of the log */
    EV_LOG_SPACE,        /* value = 1: no room for a next segment of the log, 2: none in this one, 0: there is room again */
    EV_SNAP_WRITTEN,     /* group, index, ok: EF_SNAP_WRITE with last is durable (or failed) */
    EV_SNAP_RAW,         /* group, index, offset, data, last, ok: answer to EF_SNAP_READ_RAW; peer echoed */
    EV_SNAP_RAW_WRITTEN, /* group, index, offset = bytes received so far, last, ok: answer to EF_SNAP_WRITE_RAW; value = 1: what came is damaged */
    EV_SNAP_PIECE,       /* group, index, data, last, ok: answer to EF_SNAP_LOAD, in pieces */
    EV_BACKLOG_WRITTEN,  /* group, index = file, offset, ok: answer to EF_BACKLOG_WRITE (written, not synced) */
    EV_BACKLOG_LOADED,   /* group, index = file, offset, data, ok: answer to EF_BACKLOG_READ */
    EV_SHUTDOWN,         /* hand over leaderships, refuse new work, then EF_STOP */
};

enum door_kind { DOOR_RESP = 1, DOOR_HTTP = 2 };

struct event {
    enum event_type type;
    uint64_t now_ms;
    uint64_t wall_ms;
    conn_id_t conn;
    link_id_t link;
    node_id_t peer;
    enum door_kind door;
    slice_t data;
    size_t consumed;   /* out, EV_CONN_DATA: bytes the node is done with; the driver keeps the rest and appends to it */
    const char *text;
    uint64_t seq;
    uint64_t value;
    uint32_t group;
    uint64_t index;
    uint64_t offset;
    bool last;
    bool ok;
};

enum effect_type {
    EF_LOG = 1,        /* seq, data = records for store_append; then store_sync; then EV_LOG_DONE(seq) */
    EF_REPLY,          /* conn, data */
    EF_CLOSE_CONN,     /* conn: after what was sent has left and the client has closed, or at once when it comes a second time */
    EF_PAUSE_CONN,     /* conn: stop reading from it (back-pressure) */
    EF_RESUME_CONN,    /* conn */
    EF_LINK_SEND,      /* link, data = one frame (or more) */
    EF_LINK_CLOSE,     /* link */
    EF_DIAL,           /* peer, text in data = "host:port" */
    EF_SNAP_WRITE,     /* group, index, term, offset, data, last */
    EF_SNAP_READ_RAW,  /* group, index, offset, value = at most so many bytes, peer: for whom (echoed) */
    EF_SNAP_WRITE_RAW, /* group, index, term, offset, data, last */
    EF_SNAP_LOAD,      /* group, index */
    EF_SNAP_ATTACH,    /* group, index, data = pairs (u64 file, u64 bytes): files that must be durable with that snapshot; before its first write */
    EF_BACKLOG_WRITE,  /* group, index = file, offset = its end so far, data */
    EF_BACKLOG_READ,   /* group, index = file, offset, value = bytes */
    EF_BACKLOG_KEEP,   /* group, data = u64 numbers: all other files of the group may go but those of its newest durable snapshot */
    EF_TRIM,           /* data = u64 snapshot index of each group, little-endian: store_trim */
    EF_LOGLINE,        /* value = level (enum log_level), data = text */
    EF_STOP,           /* value = exit code */
};

struct effect {
    enum effect_type type;
    conn_id_t conn;
    link_id_t link;
    node_id_t peer;
    uint64_t seq;
    uint64_t value;
    uint32_t group;
    uint64_t index;
    uint64_t term;
    uint64_t offset;
    bool last;
    struct buf data; /* owned by the effects list; a driver may buf_swap it out */
};

struct effects {
    struct effect *items;
    uint32_t count;
    uint32_t cap;
};
void effects_init(struct effects *fx);
void effects_clear(struct effects *fx); /* keeps the memory of items and of their buffers */
void effects_fini(struct effects *fx);
/* A new, zeroed effect at the end (its data buffer empty but perhaps with capacity). */
struct effect *effects_add(struct effects *fx, enum effect_type type);

enum { NODE_MEMBERS_MAX = 64, NODE_GROUPS_MAX = 1024 };

struct node_member {
    node_id_t id;
    char name[64];
    char host[256];
    uint16_t peer_port;
};

struct node_options {
    node_id_t self;
    uint64_t seed;
    uint32_t n_members;               /* CLUSTER_NODES, self included */
    struct node_member members[NODE_MEMBERS_MAX];
    uint32_t groups;
    uint32_t replication_factor;      /* voters per group, at most n_members */
    uint32_t virtual_nodes;
    uint32_t election_ms_min, election_ms_max, heartbeat_ms;
    uint32_t request_timeout_ms;      /* how long a request without a leader is parked */
    uint32_t max_retries;
    uint64_t lock_ttl_ms;
    uint32_t num_partitions;          /* of a topic that does not say */
    uint32_t max_deliver;             /* likewise: deliveries before a message is dead */
    uint64_t ack_timeout_ms;          /* likewise: visibility timeout */
    char client_host[256];
    uint16_t resp_port, http_port;
    char requirepass[256];            /* empty: no password */
    char peer_secret[256];
    uint64_t snapshot_log_bytes;      /* a group is snapshotted after so many bytes of entries, or as many as its last snapshot had, up to 8 times
                                       * this: memory holds the entries since, and writing a large state must not cost more than they did */
    uint64_t queue_young_bytes, queue_cache_bytes, queue_file_bytes; /* as in queue_log.h; 0: its defaults */
    uint32_t queue_chunk_bytes;
    bool cache_back, cache_s3fifo;    /* CACHE_WRITE_POLICY, CACHE_POLICY */
    uint64_t cache_entries, cache_bytes; /* CACHE_SIZE: one of them, the other 0 */
    uint64_t cache_lease_ms, cache_flush_ms;
    uint64_t cache_memory_bytes;      /* CACHE_MEMORY, of all groups: a group that this node leads gets its part; 0: the bound stays */
    uint64_t cache_directory_keys;    /* of all homes of a node; 0: the default */
    uint64_t held_bytes_max;          /* entries and young messages in memory, all groups together: beyond it publishes are refused (BUSY), and what
                                       * leaders send waits at them while this node's disk catches up; 0: no bound */
    bool sim_checks;                  /* run *_check after every event */
    /* Identity and what recovery found (storage/store.h), filled by the driver. */
    uint64_t cluster_key;
    uint64_t node_uuid;
    uint64_t incarnation;
    bool fresh;
};

struct store_recovery;
struct node;

struct node *node_new(const struct node_options *o, const struct store_recovery *recovered, uint64_t now_ms, uint64_t wall_ms);
/* Between node_new and the first step: the pieces of each recovered group's newest snapshot, in order, then end. False: bad. */
bool node_restore_piece(struct node *n, uint32_t group, slice_t piece);
bool node_restore_end(struct node *n, uint32_t group);
void node_free(struct node *n);

void node_step(struct node *n, struct event *ev, struct effects *fx);
uint64_t node_deadline_ms(const struct node *n);
/* The number of the EF_LOG for which everything is held back; 0: nothing is. Until EV_LOG_DONE the driver may leave its sockets alone:
 * what comes meanwhile is taken in one go then. 0 also while the cache is asked for what no log has to do with (docs/decisions/006). */
uint64_t node_held_for(const struct node *n);
void node_check(const struct node *n);

/* Look-ins for drivers, checkers and tests; read only. */
const struct consensus *node_consensus(const struct node *n, uint32_t group); /* NULL: not a replica of it */
struct lock_sm;
const struct lock_sm *node_locks(const struct node *n, uint32_t group);
bool node_is_whole(const struct node *n); /* no replica here waits to join or rejoin its group (P8) */
uint64_t node_applied(const struct node *n, uint32_t group);
struct queue_sm;
struct topics;
const struct queue_sm *node_queue(const struct node *n, uint32_t group);
uint64_t node_digest(const struct node *n, uint32_t group);     /* as `applied` below tells it */
uint64_t node_state_hash(const struct node *n, uint32_t group); /* of the queue's machines; O(n) */
/* What this node's line of a key would be at its clock now_ms, though it may not have looked at it yet. */
struct cacher_view;
struct cache_item;
struct home_key_info;
uint32_t node_cache_group(const struct node *n, slice_t key);
void node_cache_line(const struct node *n, slice_t key, uint64_t now_ms, struct cacher_view *out);
bool node_cache_memory(const struct node *n, slice_t key, struct cache_item *item, uint64_t *version); /* as applied here; false: no replica */
bool node_cache_home(const struct node *n, slice_t key, struct home_key_info *out);                    /* false: the home is elsewhere */
bool node_cache_quiet(const struct node *n); /* nothing of the cache is under way (MC4) */
struct queue_out;
struct cache_out;
struct topics_out;
/* Called for every entry as it is applied, and for every grant/release it caused; NULL switches it off. For checkers. Operations of the queue
 * come before `applied` does: with the log time they were applied at, and what they put out (its results from `first` on are this one's). */
struct node_observer {
    void *arg;
    void (*applied)(void *arg, uint32_t group, uint64_t index, uint64_t term, slice_t payload, uint64_t digest);
    void (*lock_event)(void *arg, uint32_t group, uint64_t index, int kind, slice_t resource, uint64_t token, slice_t owner);
    void (*became_leader)(void *arg, uint32_t group, uint64_t term);
    void (*queue_applied)(void *arg, uint32_t group, uint64_t index, uint64_t time_ms, slice_t op, const struct queue_out *out, uint32_t first);
    void (*cache_applied)(void *arg, uint32_t group, uint64_t index, uint64_t time_ms, slice_t op, const struct cache_out *out);
    void (*topics_applied)(void *arg, uint64_t index, slice_t op, const struct topics_out *out, uint32_t first);
};
void node_observe(struct node *n, const struct node_observer *o);

#endif
