/* What the simulator's files share. Nothing outside sim/ includes this.
 *
 * Rooms: sim_run.c (one seed from start to end), sim_node.c (a process: start, events, effects, death), sim_disk.c (its log and
 * snapshots), network.c (links), faults.c (what goes wrong and when), client.c, client_reply.c and workload.c (clients),
 * check_raft.c, check_locks.c, check_history.c (what must hold). */
#ifndef SYN_SIM_SIM_INTERNAL_H
#define SYN_SIM_SIM_INTERNAL_H

#include "event_heap.h"
#include "sim.h"
#include "wgl.h"

#include "communication/messages.h"
#include "nodes/node.h"
#include "storage/files_mem.h"
#include "storage/store.h"
#include "utils/assert.h"
#include "utils/prng.h"

enum {
    SIM_NODES_MAX = 9,
    SIM_REPLICAS_MAX = 5,
    SIM_GROUPS_MAX = 16,
    SIM_CLIENTS_MAX = 32,
    SIM_RESOURCES = 12,
    SIM_HELD_MAX = 16,    /* deliveries that a client of the queue holds */
    SIM_EXPECT_MAX = 128, /* replies a client may wait for on one connection */
    TTL_MARGIN_PERCENT = 3,
};

/* What a replica that may not vote writes for its vote (nodes/node_internal.h). */
#define AMNESIAC_VOTE UINT32_MAX

enum event_kind {
    SIM_TIMER = 1,     /* a = the time it was armed for */
    SIM_TURN,          /* the node's turn ends */
    SIM_RESUME,        /* a busy node goes on with its inbox */
    SIM_FRAME,         /* data = struct packet */
    SIM_LINK_UP,       /* a = link, b = end */
    SIM_LINK_DOWN,     /* a = link, b = end */
    SIM_DIAL,          /* a = peer index */
    SIM_LOG_DONE,
    SIM_LOG_RETRY,
    SIM_SPACE,         /* a = as EV_LOG_SPACE says it */
    SIM_JOB_DONE,      /* data = struct disk_job */
    SIM_CONN_OPEN,     /* a = connection */
    SIM_CONN_DATA,     /* a = connection, data = struct buf * */
    SIM_CONN_CLOSE,    /* a = connection: the client closed it */
    SIM_REPLY,         /* a = connection, data = struct buf *: towards the client */
    SIM_HANGUP,        /* a = connection: the node closed it, or died */
    SIM_DRAINED,       /* a = connection */
    SIM_START,         /* a node starts; life 0 */
    SIM_SHUTDOWN,
    SIM_CLIENT,        /* a client's next step; a = client, b = its generation */
    SIM_FAULT,         /* a = fault */
    SIM_FAULT_END,     /* a = fault, b = argument */
};

struct packet {
    uint64_t link;
    uint32_t to_end;
    struct buf bytes;
};

/* A connection between two nodes. End 0 dialled. */
struct sim_link {
    uint64_t number;
    uint32_t node[2];
    uint64_t life[2];
    link_id_t id[2];
    bool up[2];            /* that end's node believes it is open */
    bool told[2];          /* EV_LINK_UP was delivered */
    bool broken[2];        /* towards that end: nothing passes any more */
    uint64_t last_at[2];   /* towards that end: order of delivery */
};

struct sim_conn {
    conn_id_t id;
    uint32_t client, node;
    uint64_t life;
    bool node_open, client_open, opened, paused;
    struct buf in;         /* what the node has not consumed */
    uint64_t last_to_node, last_to_client;
};

/* One append that waits for its flush; the records are kept for the durable model. */
struct log_batch {
    uint64_t seq;
    struct buf records;
};

/* What one replica's disk holds for certain (R6, W1): hashes of its log up to the last flush. */
struct durable_group {
    uint64_t term;
    node_id_t vote;
    uint64_t first;        /* index of hashes[0]; entries before are under a snapshot */
    uint64_t count, cap;
    uint64_t *hashes;      /* chain H(i) */
    uint64_t *terms;
    uint64_t snapshot_index;
};

struct sim_node {
    struct sim *sim;
    uint32_t index;
    bool new_entry;        /* the entry being applied is the first of its index anywhere */
    bool up, starting, dead_for_good, stopping;
    uint64_t life;
    struct node_options opt;
    struct node *node;
    struct store *store;
    struct files_mem *disk;
    struct store_recovery recovered;
    struct effects fx;
    uint64_t boot_us, mono_base_ms;
    int64_t rate_ppm, wall_offset_ms;
    uint64_t last_now_ms, last_turn_ms;
    uint64_t busy_until_us, turn_at_us, timer_at_us, slow_cpu_us;
    bool turn_pending, resume_pending, removed;
    struct sim_event *inbox;
    uint32_t inbox_count, inbox_cap, inbox_at;
    /* log */
    struct log_batch *queue;
    uint32_t queue_count, queue_cap, in_flight;
    bool syncing, retrying, preparing;
    uint8_t space_low; /* as EV_LOG_SPACE says it */
    uint64_t slow_sync_us;
    uint64_t last_job_at;
    struct durable_group durable[SIM_GROUPS_MAX]; /* what is on the disk for certain */
    struct durable_group tail[SIM_GROUPS_MAX];    /* with what is still on its way there */
    bool unsynced_at_death;
    bool partial_at_death;     /* some replica of it had not rejoined its group */
    uint64_t commit_seen[SIM_GROUPS_MAX];
    int64_t crash_after_effects; /* -1: no */
    uint32_t crash_loop;
    uint64_t flips, wipes;
    uint64_t read_fails;
    uint64_t turns;
};

enum op_kind {
    OP_ACQUIRE, OP_RELEASE, OP_RENEW, OP_CONVERT, OP_CHECK, OP_INFO, OP_ACQUIREALL, OP_SESSION_CREATE, OP_SESSION_KEEPALIVE,
    OP_SESSION_END, OP_PING, OP_HELLO, OP_ADMIN, OP_QUEUE, OP_CACHE,
};
enum op_status { OP_PENDING, OP_OK, OP_REFUSED, OP_STALE, OP_NOT_DONE, OP_UNKNOWN };

struct sim_op {
    uint32_t client;
    uint8_t kind, mode, status;
    bool retried, untracked;   /* untracked: not part of a linearizability check */
    uint16_t resource;
    uint64_t owner;            /* number of the acquire it belongs to; 0: none */
    uint64_t call_us, return_us;
    uint64_t token;            /* got, or asked about (CHECK) */
    uint64_t newest;           /* CHECK's answer */
    uint64_t lock_id;
    uint32_t ttl_ms, wait_ms;
    uint64_t session;
    uint32_t ask;              /* QUEUE: number of its struct queue_ask; CACHE: of its struct csim_ask */
    /* Acquires, as the canonical log has them. */
    uint32_t enqueued;         /* times seen in the log */
    uint64_t enqueue_index, grant_index, grant_us, grant_token, end_us;
    uint64_t safe_until_us;    /* K5: not expired before */
    bool granted, ended, expired, converted;
};

/* A delivery that a client of the queue works on. */
struct sim_held {
    uint32_t topic, group, partition, consumer;
    uint64_t generation, offset, delivery;
};

enum client_state { CLIENT_IDLE, CLIENT_WAITS, CLIENT_HOLDS, CLIENT_STOPPED };

struct sim_client {
    uint32_t index;
    struct prng prng;
    enum client_state state;
    uint64_t generation;       /* of its next step */
    int32_t conn;              /* -1: none */
    bool resp3, told_proto;
    uint32_t node;
    struct buf in;
    uint64_t expect[SIM_EXPECT_MAX];  /* op numbers, oldest first */
    uint32_t expect_at, expect_count;
    uint64_t op;               /* the operation it waits for (state WAITS) */
    uint64_t deadline_us;
    uint32_t tries;
    uint64_t hold;             /* acquire op that is held; 0: none */
    uint64_t value;            /* what it read from the protected resource */
    uint64_t use_until_us;
    uint32_t renews;
    bool will_write, admin_removed;
    uint64_t session;
    uint64_t session_op;
    bool queue, cache;         /* of the queue workload, of the cache's */
    struct sim_held held[SIM_HELD_MAX];
    uint32_t n_held, drain_at;
    bool brought;              /* its last CONSUME had something */
};

struct sim_resource {
    char name[32];
    uint32_t group;
    bool checked;              /* linearizability is checked */
    /* canonical (check_locks.c) */
    uint64_t holders[64];      /* op numbers */
    uint32_t n_holders;
    uint64_t token;
    uint64_t token_index;
    uint64_t last_grant_enqueue;
    /* the protected thing (K3) */
    uint64_t fence, value;
};

struct canon_entry { uint64_t term, hash, digest, state, commit_term; }; /* commit_term: at most, as who applied it first knew it; state: 0 or node_state_hash */

struct hash_slot { uint64_t key, chain; };

/* What a term saw, over all restarts. */
struct term_facts {
    node_id_t leader;
    node_id_t votes[SIM_NODES_MAX];
};

struct canon_group {
    struct canon_entry *entries; /* [i - 1] is index i */
    uint64_t count, cap;
    struct term_facts *terms;
    uint64_t terms_cap;
    struct hash_slot *chains;    /* (index, term) -> H */
    uint64_t chains_cap, chains_count;
};

struct sim {
    struct sim_options o;
    struct sim_result *r;
    struct prng prng;          /* of the world: network, faults */
    uint64_t now_us;
    struct event_heap heap;
    uint32_t n_nodes, n_groups, n_clients;
    struct sim_node nodes[SIM_NODES_MAX];
    struct sim_link *links;
    uint32_t n_links, cap_links;
    uint64_t links_base;       /* number of links[0] */
    uint64_t next_id;
    struct sim_conn *conns;
    uint32_t n_conns, cap_conns;
    /* network */
    uint64_t cut_until[SIM_NODES_MAX][SIM_NODES_MAX];
    bool cut_clogs[SIM_NODES_MAX][SIM_NODES_MAX];
    uint64_t slow_until[SIM_NODES_MAX][SIM_NODES_MAX];
    uint32_t latency_us_min, latency_us_mean;
    /* faults */
    bool on[FAULT_COUNT];
    uint32_t ppm[FAULT_COUNT];
    uint64_t mean_us[FAULT_COUNT];
    uint32_t disk_us_min, disk_us_mean;
    bool healed;
    uint64_t wiped_node;       /* index + 1; at most one node loses its disk */
    uint32_t removed;          /* member taken out by command, 0: none */
    uint32_t shrank;           /* the only member that is ever asked to go, 0: none yet; the ADD that answers it may come to nothing */
    /* clients */
    struct sim_client clients[SIM_CLIENTS_MAX];
    struct sim_op *ops;
    uint64_t n_ops, cap_ops;
    struct sim_resource resources[SIM_RESOURCES];
    struct sim_queue *queue;   /* sim_queue.h */
    struct sim_cache *cache;   /* sim_cache.h */
    /* checkers */
    struct canon_group canon[SIM_GROUPS_MAX];
    struct sim_node *applying;
    bool failed;
    uint64_t hash;
    uint32_t trace_lines;
};

/* sim_run.c */
void sim_fail(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sim_trace(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define TRACE(s, ...)                                   \
    do {                                                \
        if ((s)->o.trace || (s)->o.verbose) {           \
            sim_trace((s), __VA_ARGS__);                \
        }                                               \
    } while (0)
void sim_at(struct sim *s, uint64_t at_us, enum event_kind kind, uint32_t node, uint64_t a, uint64_t b, void *data);
void sim_mix(struct sim *s, uint64_t v); /* into the trace hash */
uint64_t draw_exp(struct prng *g, uint64_t mean); /* exponential, at most 20 means */
void fire(struct sim *s, enum sim_fault f);
static inline bool chance(struct sim *s, enum sim_fault f) { return s->on[f] && !s->healed && prng_chance(&s->prng, s->ppm[f]); }

/* sim_node.c */
void sim_node_make(struct sim *s, uint32_t index);
void sim_node_unmake(struct sim *s, struct sim_node *n);
void sim_node_start(struct sim *s, struct sim_node *n);
enum death { DEATH_PROCESS, DEATH_POWER };
void sim_node_die(struct sim *s, struct sim_node *n, enum death how);
void sim_node_event(struct sim *s, struct sim_node *n, const struct sim_event *ev); /* now, or later when it is busy */
void sim_node_give(struct sim *s, struct sim_node *n, struct event *ev);            /* one event and its effects */
bool sim_others_whole(const struct sim *s, const struct sim_node *but); /* none of them waits to join or rejoin a group */
bool sim_node_may_lose_disk(const struct sim *s, const struct sim_node *n); /* it is the only one, and the others are a majority */
void sim_node_pause(struct sim *s, struct sim_node *n, uint64_t us);
uint64_t sim_node_mono_ms(const struct sim *s, const struct sim_node *n);

/* sim_disk.c */
bool sim_disk_open(struct sim *s, struct sim_node *n);
void sim_disk_corrupt(struct sim *s, struct sim_node *n, const char *why); /* the operator replaces it; a bug when nothing was damaged */
void sim_disk_effect(struct sim *s, struct sim_node *n, struct effect *e);
void sim_disk_event(struct sim *s, struct sim_node *n, const struct sim_event *ev);
void sim_disk_drop(struct sim *s, struct sim_node *n); /* the process is gone */
void job_free(void *data);

/* network.c */
void net_dial(struct sim *s, struct sim_node *n, node_id_t peer);
void net_dial_arrives(struct sim *s, struct sim_node *n, const struct sim_event *ev);
void net_send(struct sim *s, struct sim_node *n, link_id_t id, slice_t bytes);
void net_close(struct sim *s, struct sim_node *n, link_id_t id);
void net_event(struct sim *s, struct sim_node *n, const struct sim_event *ev); /* FRAME, LINK_UP, LINK_DOWN at this node */
void net_node_gone(struct sim *s, struct sim_node *n, enum death how);
void net_cut_link(struct sim *s, uint32_t a, uint32_t b, bool half_open);
void net_sweep(struct sim *s);
bool net_is_cut(const struct sim *s, uint32_t from, uint32_t to);
uint64_t net_latency(struct sim *s);

/* faults.c */
void faults_draw(struct sim *s);
void faults_schedule(struct sim *s);
void faults_event(struct sim *s, const struct sim_event *ev);
void faults_heal(struct sim *s);

/* client.c, client_reply.c, workload.c */
void clients_start(struct sim *s);
void clients_fini(struct sim *s);
void client_step(struct sim *s, const struct sim_event *ev);
void client_wake(struct sim *s, struct sim_client *c, uint64_t after_us);
uint64_t op_new(struct sim *s, struct sim_client *c, enum op_kind kind, uint32_t resource);
void op_send(struct sim *s, struct sim_client *c, uint64_t op);
void op_write(struct sim *s, struct sim_client *c, uint64_t op, struct buf *out);
bool client_connect(struct sim *s, struct sim_client *c, uint32_t node);
void client_close(struct sim *s, struct sim_client *c);
void client_lost(struct sim *s, struct sim_client *c);
void client_input(struct sim *s, struct sim_client *c, slice_t bytes);
void client_answered(struct sim *s, struct sim_client *c, uint64_t op);
void client_forget(struct sim *s, struct sim_client *c); /* its operation has no known outcome */
void workload_next(struct sim *s, struct sim_client *c);
void workload_hold(struct sim *s, struct sim_client *c);
void workload_granted(struct sim *s, struct sim_client *c, uint64_t op);
void sim_conn_event(struct sim *s, struct sim_node *n, const struct sim_event *ev);
void sim_conn_to_client(struct sim *s, const struct sim_event *ev);
void sim_conn_reply(struct sim *s, struct sim_node *n, conn_id_t id, slice_t bytes);
void sim_conn_hangup(struct sim *s, struct sim_node *n, conn_id_t id);
void sim_conn_paused(struct sim *s, struct sim_node *n, conn_id_t id, bool paused);
void sim_conns_node_gone(struct sim *s, struct sim_node *n);
uint32_t clients_pending(const struct sim *s);

/* check_raft.c */
void raft_check_init(struct sim *s);
void raft_check_fini(struct sim *s);
void raft_check_frame(struct sim *s, struct sim_node *n, slice_t frame);
void raft_check_durable(struct sim *s, struct sim_node *n, slice_t records);
void raft_check_records(struct sim *s, struct sim_node *n, slice_t records);
void raft_check_recovered(struct sim *s, struct sim_node *n, bool lost_nothing);
void raft_check_restored(struct sim *s, struct sim_node *n, uint32_t group);
void raft_check_turn(struct sim *s, struct sim_node *n);
void raft_check_applied(void *arg, uint32_t group, uint64_t index, uint64_t term, slice_t payload, uint64_t digest);
void raft_check_leader(void *arg, uint32_t group, uint64_t term);
void raft_check_forget(struct sim_node *n); /* its disk was wiped */
bool raft_settled(struct sim *s, char *why, size_t size);

/* check_locks.c */
void lock_check_entry(struct sim *s, uint32_t group, uint64_t index, slice_t payload);
void lock_check_event(void *arg, uint32_t group, uint64_t index, int kind, slice_t resource, uint64_t token, slice_t owner);
void lock_check_granted(struct sim *s, struct sim_op *op);
void resources_init(struct sim *s);

/* check_history.c */
void history_check(struct sim *s);

#endif
