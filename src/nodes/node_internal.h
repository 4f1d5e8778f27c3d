/* Inside a node: the structs that the files of this room share. Nothing outside src/nodes includes this.
 *
 * Rooms: base_node.c (life and dispatch), node_group.c (one group's turn: persist, send, apply), node_route.c (requests to
 * whoever leads), node_reads.c (ReadIndex), node_links.c (peers), node_snapshot.c, node_members.c, node_probe.c (deadlocks
 * across groups); doors/ turns client bytes into requests. */
#ifndef SYN_NODES_NODE_INTERNAL_H
#define SYN_NODES_NODE_INTERNAL_H

#include "communication/messages.h"
#include "communication/peer_codec.h"
#include "consensus/consensus.h"
#include "nodes/locks/lock_sm.h"
#include "nodes/node.h"
#include "nodes/node_cache.h"
#include "nodes/node_queue.h"
#include "storage/store.h"
#include "utils/assert.h"
#include "utils/errors.h"
#include "utils/hash_ring.h"
#include "utils/list.h"
#include "utils/log.h"
#include "utils/map.h"
#include "utils/metrics.h"
#include "utils/prng.h"
#include "utils/timer_wheel.h"

/* First byte of an entry's operation and of a forwarded payload: which part of the group's state machine it is for. */
enum service {
    SERVICE_LOCKS = 1,
    SERVICE_META = 2,
    SERVICE_ADMIN = 3,
    SERVICE_QUEUE = 4,
    SERVICE_TOPICS = 5,
    SERVICE_CLAIM = 6,        /* forwarded only: a claim that may wait at the leader (node_claims.c) */
    SERVICE_CACHE = 8,
    SERVICE_CLAIM_CANCEL = 7, /* forwarded only: u64 number of the claim that is withdrawn */
};

/* An entry's payload: u64 log time, u8 service, operation. */
enum { ENTRY_TIME_BYTES = 8 };

/* Vote written by a replica that remembers nothing of its votes (P8): recovery keeps it from voting. */
#define GROUP_AMNESIAC UINT32_MAX

/* To a write whose reply has another form than is expected. */
#define ANSWER_NOT_UNDERSTOOD "-UNCERTAIN the leader's answer was not understood (mixed versions?)\r\n"

struct conn;
struct request;
struct doors;

enum request_kind { REQUEST_WRITE = FORWARD_WRITE, REQUEST_READ = FORWARD_READ, REQUEST_ADMIN = FORWARD_ADMIN };

enum request_state {
    REQUEST_PARKED,   /* no leader to send it to yet */
    REQUEST_SENT,     /* forwarded to `sent_to` */
    REQUEST_PROPOSED, /* in our own log */
    REQUEST_READING,  /* waiting for a read round of ours */
};

/* Called once with the reply (RESP3). The request is freed by the caller of the callback afterwards. */
typedef void (*request_done_fn)(struct node *n, struct request *r, slice_t reply);

struct request {
    struct map_node by_seq;
    struct list in_group;      /* node_group.pending[waits], ascending seq */
    struct timer timer;        /* gives up at its time */
    uint64_t seq;
    uint32_t group;
    enum request_kind kind;
    enum request_state state;
    bool waits;                /* may be answered much later (WAIT): its sequence is counted apart */
    bool not_ready;            /* is what a leader said of it last */
    uint32_t uncertain;        /* how often it was sent or proposed without a word that it was not done: it may have happened */
    uint64_t wait_ms;
    node_id_t sent_to;
    uint32_t tries;
    uint64_t began_ms;
    struct buf payload;        /* service byte and operation or query */
    request_done_fn done;
    conn_id_t conn;            /* 0: internal */
    uint64_t slot;             /* the connection's reply place */
    uint64_t arg;              /* for `done` */
    uint64_t arg2;
    enum metric_request_type metric;
};

struct pending_read {
    struct list link;
    uint64_t ctx;
    bool confirmed;
    uint64_t index;
    uint64_t req;              /* request number, ours or the peer's */
    node_id_t from;            /* 0: our own request */
    struct buf query;
};

struct group_snapshot {        /* being made */
    bool making;
    bool all_written;          /* handed to the store */
    bool written;              /* durable */
    uint64_t index, term, offset;
    uint64_t time_ms;          /* applied_time at index */
    uint64_t next_step_ms;
    bool locks_done, queue_done; /* the locks' pieces are out, the queue's follow, then the cache's */
};

enum install_stage { INSTALL_HEAD, INSTALL_TOPICS, INSTALL_TABLE, INSTALL_PIECES };

struct group_install {         /* being received */
    bool loading;
    uint64_t index, term;
    struct lock_sm *locks;     /* being restored */
    struct cache_sm *cache;
    struct group_queue q;
    uint8_t stage;             /* enum install_stage */
    struct buf in;             /* bytes of an unfinished part */
    struct consensus_config config;
    uint64_t time_ms;
};

struct node_group {
    uint32_t id;
    bool hosted;
    bool dirty;                /* in node.dirty: has something to take this turn */
    bool amnesiac;             /* lost its disk, or never had a say: no votes until it has rejoined (node_rejoin.c) */
    node_id_t fresh[CONSENSUS_MEMBERS_MAX];  /* other replicas that said that they remember nothing */
    uint32_t n_fresh;
    struct consensus_recovered recover;      /* between node_new and the first event */
    const struct store_group *recover_run;
    struct consensus *consensus;
    struct lock_sm *locks;
    struct group_queue q;
    struct group_cache cache;
    struct list pending[2];    /* our own requests for this group: [0] immediate, [1] waiting */

    /* What was seen at the end of the last turn, to notice changes. */
    enum consensus_role role;
    uint64_t term;
    bool ready;
    node_id_t leader;          /* hint; also kept for groups that are not hosted here */
    node_id_t heard_leader;    /* what others say, while our replica does not take part */
    uint64_t heard_term;
    struct consensus_config placement;

    /* Log time (milliseconds, never falls). */
    uint64_t last_time;        /* of the newest entry applied or proposed: what we propose is not older */
    uint64_t applied_time;     /* of the entries applied alone: the only time the state machine may see (K12) */
    uint64_t lead_time;        /* log time when we became leader ... */
    uint64_t lead_at_ms;       /* ... and our clock then */

    uint64_t applied, applied_term;
    uint64_t due_index;        /* our LOCK_OP_DUE in flight; 0: none */
    uint64_t due_retry_ms;
    uint64_t sessions_retry_ms;
    uint32_t observed_events;
    struct list reads;         /* struct pending_read */

    uint64_t bytes_since_snapshot;
    uint64_t held_bytes;        /* its part of the node's */
    uint64_t last_snapshot_bytes;
    uint64_t room_ms;           /* when the next snapshot may be tried for the room it makes */
    struct group_snapshot snap;
    struct group_install install;
    uint64_t snapshot_index;
    uint64_t members_retry_ms; /* next look at placement against configuration */
    uint64_t rejoin_retry_ms;
    uint64_t transfer_retry_ms;
    bool handed_over;          /* at shutdown, in handed_term */
    uint64_t handed_term;
    uint64_t probe_at_ms;
    uint64_t led_since_ms;
};

struct node_peer {
    struct node_member member;
    link_id_t link;            /* 0: none; valid once HELLO came in */
    bool hello_seen;
    uint64_t uuid, incarnation;
    uint64_t origin;           /* of its requests (waiting ones: | 1) */
    bool fresh;
    char client_host[256];
    uint16_t resp_port, http_port;
    uint64_t heard_ms;
    uint64_t dial_at_ms;       /* next attempt; UINT64_MAX: the peer dials us, or an attempt is on its way */
    uint32_t dial_failures;
    bool dialling;
    bool gone_told;            /* the groups led here were told that its former instance is gone */
    struct buf out;            /* this turn's frame */
    struct frame_builder frame;
    bool frame_open;
    uint32_t frames;          /* in out, the open one too */
    uint64_t numbers_sent;     /* of FORWARD and FORWARD_REPLY messages */
};

struct link {
    struct map_node by_id;
    link_id_t id;
    node_id_t peer;            /* 0 until HELLO on an accepted link */
    bool accepted;
    bool hello_sent_back;
    bool hello_seen;
    uint64_t nonce;            /* ours for this link, echoed through the peer's mac */
    uint64_t opened_ms;
    uint64_t number_seen;      /* of the newest FORWARD or FORWARD_REPLY */
};

struct persist_wait { uint64_t seq; uint32_t group; uint64_t persist_no; };

struct node {
    struct node_options opt;
    uint64_t now_ms, wall_ms, started_ms, started_wall_ms;
    uint64_t turn_no;          /* of the loop turn */
    struct prng prng;
    uint64_t hash_key;
    uint64_t origin;           /* of our immediate requests; | 1 for waiting ones */
    bool fresh;
    bool begun;
    bool stopping;
    bool stop_sent;
    uint64_t stop_at_ms;
    bool space_low, space_full; /* no next segment; not even this one takes more */
    uint64_t low_bytes;         /* taken while low */
    uint64_t held_bytes;        /* entries and young messages in memory */
    bool failed;

    struct node_group *groups; /* opt.groups of them */
    uint32_t *dirty, *dirty_next;
    uint32_t n_dirty;

    struct node_peer peers[NODE_MEMBERS_MAX];
    uint32_t n_peers;          /* without ourselves */
    uint64_t cluster_id;       /* made by the first leader of group 0; 0: not known yet */
    struct log_limit link_log;
    uint64_t members_version;  /* index of the meta entry that set the member list last; 0: CLUSTER_NODES */
    struct map links;          /* by link id */

    uint64_t next_seq;
    struct map requests;       /* by seq */
    struct request *free_requests;
    uint64_t n_requests, n_parked;
    uint64_t parked_retry_ms;
    uint32_t drops_in_flight;
    uint32_t carries_in_flight; /* OPEN and DROP of topics on their way to other groups */
    uint64_t told_nodes;       /* by number of peer, while a change is told */
    struct timer_wheel wheel;

    uint64_t log_seq, log_done, log_began_ms;
    uint32_t batch_entries;    /* proposed here and not yet on their way */
    uint32_t batch_expected;
    uint64_t batch_began_ms;
    struct buf log_buf;        /* this turn's records */
    struct persist_wait *waits; /* ring */
    uint32_t waits_head, waits_count, waits_cap;

    struct lock_out lock_out;
    struct queue_out queue_out;
    struct topics_out topics_out;
    struct node_cache cache;
    uint64_t read_ctx_next;
    uint64_t housekeeping_ms, keepalive_ms;
    uint32_t gossip_at;
    struct buf scratch;

    struct doors *doors;
    struct metrics metrics;
    struct effects *fx;        /* during a step */
    struct node_observer observer;
    uint64_t deadline_ms;
};

/* base_node.c */
void node_log(struct node *n, enum log_level level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
struct node_peer *node_peer_of(struct node *n, node_id_t id);
const char *node_name_of(const struct node *n, node_id_t id); /* "?" when unknown */

void node_space(struct node *n, uint64_t level);
void node_shutdown(struct node *n);
/* Who a node instance is in request ids: never 0, lowest bit 0 (waiting requests set it). */
uint64_t node_origin(uint64_t uuid, uint64_t incarnation);

/* node_group.c */
struct lock_sm *group_new_locks(const struct node *n, uint32_t id);
void group_init(struct node *n, uint32_t id);
void group_host(struct node *n, struct node_group *g, const struct consensus_recovered *r);
void group_fini(struct node_group *g);
void group_touch(struct node *n, struct node_group *g);  /* take what it has at the end of this turn */
bool group_leads(const struct node_group *g);
/* Is there a replica here that counts? One that was removed knows no leader for ever, or one of an older term: its node asks as if it had none. */
bool group_takes_part(const struct node *n, const struct node_group *g);
node_id_t group_leader_hint(const struct node *n, const struct node_group *g); /* by our replica, or by what others say; 0: nobody knows */
uint64_t group_log_now(const struct node *n, const struct node_group *g);
/* Leader: puts service byte and operation into the log under the current log time. */
enum propose_result group_propose(struct node *n, struct node_group *g, slice_t payload, uint64_t *index);
void group_weigh(struct node *n, struct node_group *g);  /* counts anew what it holds in memory */
bool node_is_heavy(const struct node *n, uint32_t quarters); /* more is held than so many quarters of held_bytes_max */
void group_turn(struct node *n, struct node_group *g);   /* persist and messages; then apply, replies, duties */
void group_session_duty(struct node *n, struct node_group *g); /* group 0's leader: ended sessions to the other groups */
void group_deliver(struct node *n, struct node_group *g);
/* Answers request `req` of whichever node asked: here by every replica, elsewhere by the leader only (G3). */
void group_send_result(struct node *n, struct node_group *g, struct request_id req, slice_t reply);
uint64_t group_deadline(const struct node *n, const struct node_group *g);

/* node_route.c */
struct request *request_new(struct node *n, uint32_t group, enum request_kind kind, bool waits, request_done_fn done);
struct request_id request_id_of(const struct node *n, const struct request *r);
uint64_t request_low(const struct node *n, uint32_t group, bool waits);
void request_submit(struct node *n, struct request *r);  /* takes it; answers through done, perhaps at once */
void request_cancel(struct node *n, uint64_t seq);       /* its client is gone */
void request_answer(struct node *n, uint64_t seq, slice_t reply);
void request_refuse(struct node *n, uint64_t seq, slice_t reply);  /* not done, for this reason; UNCERTAIN when an earlier attempt may be */
void request_refused(struct node *n, uint64_t seq, enum forward_status status, node_id_t leader, node_id_t from);
void route_leader_changed(struct node *n, struct node_group *g);
void route_peer_lost(struct node *n, node_id_t peer);
void route_timers(struct node *n);
uint64_t route_deadline(const struct node *n); /* of those that are parked; the wheel has its own */
void request_again(struct node *n, uint64_t seq);
void request_park(struct node *n, uint64_t seq);
void request_withdraw_claim(struct node *n, uint64_t seq); /* a claim that waits is answered soon, empty unless it was granted */
bool request_group(struct node *n, uint64_t seq, uint32_t *group); /* false: the request is gone */
void route_on_forward(struct node *n, struct node_peer *p, const struct peer_forward *f);
void route_no_leader(const struct node *n, struct buf *b); /* -NOQUORUM or -LOADING: nothing was done */
void route_fini(struct node *n);

/* node_sessions.c */
void route_attach(struct node *n, struct request *r);    /* the group does not know the request's session yet */
void route_cancel_waiter(struct node *n, const struct request *r);
void route_session_drop(struct node *n, uint64_t session, uint32_t group); /* group 0's leader: carry an end to a group */
void route_internal(struct node *n, uint32_t group, struct lock_op *op);   /* nobody waits for the answer */
void route_origin_gone(struct node *n, uint64_t origin);
void route_victim(struct node *n, uint32_t group, struct request_id victim, slice_t cycle);

/* node_reads.c */
void reads_answer(struct node *n, uint64_t req, node_id_t from, enum forward_status status, slice_t reply);
bool reads_add(struct node *n, struct node_group *g, uint64_t req, node_id_t from, slice_t query);
bool reads_ask(struct node *n, struct node_group *g);    /* one round for all that have none; false: nobody had none */
void reads_confirmed(struct node *n, struct node_group *g);
void reads_forget(struct node *n, node_id_t from);              /* that process is gone */
void reads_drop(struct node *n, struct node_group *g);   /* leadership lost: everyone asks again */
void reads_serve(struct node *n, struct node_group *g);

/* node_links.c */
enum { FRAME_SOFT_BYTES = 1024 * 1024 };
void links_add_peer(struct node *n, const struct node_member *m);
void links_start(struct node *n);
void links_up(struct node *n, link_id_t id, node_id_t peer);
void links_frame(struct node *n, link_id_t id, slice_t body);
void links_down(struct node *n, link_id_t id);
void links_no_frame(struct node *n, link_id_t id, const char *why); /* its bytes were refused, and it is closed */
void links_dial_failed(struct node *n, node_id_t peer);
void links_timers(struct node *n);
uint64_t links_deadline(const struct node *n);
void links_send(struct node *n, struct node_peer *p, const struct peer_msg *m); /* into this turn's frame; lost when down */
void links_flush(struct node *n);
bool peer_linked(const struct node_peer *p);
void links_fini(struct node *n);

/* node_snapshot.c */
void snapshot_maybe_begin(struct node *n, struct node_group *g);
void snapshot_step(struct node *n, struct node_group *g);
void snapshot_written(struct node *n, struct node_group *g, uint64_t index, bool ok);
void snapshot_finish(struct node *n, struct node_group *g);     /* once the log is durable so far, too */
void snapshot_serve(struct node *n, struct node_group *g);      /* followers that want chunks */
void snapshot_raw(struct node *n, struct node_group *g, const struct event *ev);
void snapshot_take_install(struct node *n, struct node_group *g);
void snapshot_raw_written(struct node *n, struct node_group *g, const struct event *ev);
void snapshot_piece(struct node *n, struct node_group *g, const struct event *ev);
bool snapshot_restore_piece(struct node *n, struct node_group *g, slice_t piece);
bool snapshot_restore_end(struct node *n, struct node_group *g);

/* node_rejoin.c */
bool rejoin_remembers(const struct store_group *sg);            /* recovery: this replica may have voted or acknowledged */
void rejoin_forgotten(struct node *n, struct node_group *g);    /* no votes from now on, and after a restart neither */
void rejoin_ask(struct node *n, struct node_group *g);          /* amnesiac replica: asks its leader */
void rejoin_asked(struct node *n, struct node_group *g, node_id_t who);     /* its leader admits it, others say if they are new, too */
bool group_is_whole(const struct node *n, const struct node_group *g); /* this replica counts, or has none of it to count */
void rejoin_told_fresh(struct node *n, struct node_group *g, node_id_t who); /* that replica remembers nothing either */
void rejoin_config_seen(struct node *n, struct node_group *g);  /* after a configuration was applied */
void rejoin_begin(struct node *n);                              /* groups without other replicas */

/* node_members.c */
void members_place(struct node *n);                             /* every group's replica set, by the ring */
void members_duty(struct node *n, struct node_group *g);        /* leader: one step towards the placement */
void members_apply(struct node *n, struct node_group *g, uint64_t index, slice_t op);
void members_admin(struct node *n, struct node_peer *from, const struct peer_forward *f);
bool members_peer_state(const struct node_group *g, node_id_t id, struct consensus_peer_status *out);
bool members_would_carry(const struct node *n, const struct node_group *g, const struct consensus_config *c);
uint32_t members_linked(const struct node *n);                   /* and this node itself */
int config_find(const struct consensus_config *c, node_id_t id); /* -1: not a member */
bool members_change(struct node *n, struct node_group *g, const struct consensus_config *next, const char *what, node_id_t who);
void members_snapshot(const struct node *n, struct buf *out);
bool members_restore(struct node *n, struct reader *r);
void members_announce(struct node *n, struct node_peer *to);
/* Keeps a quiet link heard, and tells of one group that is led here, each time of the next; _next once for all peers. */
void members_keepalive_next(struct node *n);
void members_keepalive(struct node *n, struct node_peer *to);
/* Whoever has no replica of a group that is led here hears so at once: this peer of all, all peers of this one. */
void members_tell_led(struct node *n, struct node_peer *to);
void members_tell_of(struct node *n, const struct node_group *g);
void members_on_placement(struct node *n, const struct peer_placement *p);
/* A group begins with the members that the cluster was created with (node_rejoin.c): until every group has had a leader none is added or
 * removed. Asked of the leader of group 0. */
bool members_may_change(const struct node *n);
void members_payload(struct node *n, struct request *r, uint8_t what, const struct node_member *m); /* META_MEMBER_* */
void members_rebalance(struct node *n, struct node_group *g);   /* leadership to its place on the ring, now */
enum { META_MEMBER_ADD = 1, META_MEMBER_REMOVE = 2, META_CLUSTER_ID = 3 };
enum { ADMIN_REJOIN = 1, ADMIN_TRANSFER = 2, ADMIN_MEMBERS = 3, ADMIN_FRESH = 4, ADMIN_DAMAGED = 5 };
bool admin_for_any_node(slice_t op); /* not only for the one that leads */
bool admin_execute(struct node *n, struct node_group *g, node_id_t from, slice_t op, struct buf *reply);

/* node_probe.c */
void probe_duty(struct node *n, struct node_group *g);
void probe_on(struct node *n, const struct peer_probe *p);

/* doors/ */
struct doors *doors_new(struct node *n);
void doors_free(struct doors *d);
void doors_opened(struct node *n, conn_id_t id, enum door_kind kind, const char *remote);
size_t doors_data(struct node *n, conn_id_t id, slice_t data);
void doors_closed(struct node *n, conn_id_t id);
void doors_drained(struct node *n, conn_id_t id);
void doors_flush(struct node *n);                                /* one EF_REPLY per connection that has something */
void doors_timers(struct node *n);
uint64_t doors_deadline(const struct node *n);
uint64_t doors_queue_deadline(const struct node *n);             /* members to be heard of, consumes whose time is over */
void members_timers(struct node *n);
void consume_timers(struct node *n);
void doors_group_changed(struct node *n, uint64_t topic, slice_t group, uint64_t generation); /* its members join anew */
void doors_turn(struct node *n);                                 /* batches of the turn are sent on their way */
void doors_lock_events(struct node *n, struct node_group *g, const struct lock_out *out);
bool doors_want_events(const struct node *n);

#endif
