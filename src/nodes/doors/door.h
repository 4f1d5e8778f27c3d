/* Inside the doors: connections, commands, and how a command's reply finds its way back (docs/architecture.md, "The way of a
 * command", steps 1-4 and 8). Every reply is RESP3 bytes until it is written for its connection. */
#ifndef SYN_NODES_DOORS_DOOR_H
#define SYN_NODES_DOORS_DOOR_H

#include "communication/resp.h"
#include "nodes/node_internal.h"
#include "utils/hash_ring.h"

struct http_answer;
/* Makes an HTTP answer of a reply that is no error. */
typedef void (*http_view_fn)(struct http_answer *a, slice_t resp3);

struct door_slot {
    bool done;
    uint64_t req;        /* the request that will fill it, 0: none */
    struct buf reply;    /* RESP3, kept while earlier replies are missing */
    http_view_fn view;   /* HTTP: what to make of it; NULL: the reply is the response itself */
    bool http_close;     /* HTTP: the response says "Connection: close" */
    bool http_head;      /* HTTP: the method was HEAD, the body stays here */
};

struct watch {
    struct map_node by_name;
    struct list of_conn;
    struct list same;    /* further watches of the same resource */
    bool in_map;
    conn_id_t conn;
    size_t name_len;
    char name[];
};

struct conn {
    struct map_node by_id;
    struct list all;     /* doors.conns */
    struct list dirty;   /* doors.dirty */
    conn_id_t id;
    enum door_kind kind;
    struct buf out;      /* leaves at the end of the turn */
    bool closing;        /* nothing more is read; closed after what is owed has left */
    bool paused;         /* the driver was told not to read */
    bool retry;          /* the last command was not consumed: it waits for the connection's session, or for room */
    bool alone;          /* no further command begins before all replies that are owed have left (D4) */
    struct list crowd;   /* cache_doors.crowd while its last command waits for room in the cache, ... */
    uint64_t crowd_ms;   /* ... and since when; 0: it does not */
    bool authenticated;
    bool sent_unread;    /* replies left and EV_CONN_DRAINED has not come yet */
    int proto;           /* 2 or 3 */
    struct resp_parser resp;
    struct http_parser *http;
    uint64_t close_ms;   /* when the client's time to take the rest and close first is over; 0: not asked to close yet */
    uint64_t first_slot, next_slot;
    struct door_slot *slots; /* ring of slots_cap, a power of two */
    uint32_t slots_cap;
    uint64_t opened_ms, last_ms;
    uint64_t stranger_ms;    /* since when it is not authenticated, when it is not */
    uint64_t guess_until_ms; /* a wrong password is answered then, nothing is read before; 0: none */
    uint64_t guess_slot;
    uint64_t commands;
    uint64_t session;    /* for locks taken with CONNECTION; 0: none yet */
    bool session_asked, session_failed;
    uint64_t session_renew_ms;
    uint64_t unsent_bytes;
    size_t seen_bytes;   /* of the driver's buffer, counted already */
    struct list watches;
    struct list consumes;    /* struct consume.of_conn */
    struct list tracked;     /* struct tracker.of_conn (track.c) */
    bool tracking, track_optin, track_optout, track_noloop;
    bool track_bcast, bcast_ready; /* track_bcast.c */
    bool track_broken;       /* whom it redirects to is gone */
    bool subscribed;         /* to TRACK_CHANNEL */
    conn_id_t track_redirect; /* 0: to itself */
    struct buf prefixes;     /* n_prefixes, buf_put_bytes each */
    uint32_t n_prefixes;
    struct list of_bcast;    /* cache_doors.bcast */
    uint8_t caching;         /* CLIENT CACHING, of the next command: 1 yes, 2 no */
    const struct command *last_command; /* NULL: none yet */
    char name[64], lib_name[32], lib_ver[32], remote[64];
};

struct http_parser;
struct call;
typedef void (*command_fn)(struct call *c);

enum command_flags { CMD_READ = 1, CMD_WRITE = 2, CMD_BLOCKING = 4, CMD_ADMIN = 8, CMD_FAST = 16, CMD_NO_AUTH = 32, CMD_ALONE = 64 /* D4 */ };

struct command {
    const char *name;     /* upper case */
    int arity;            /* as Redis: negative is at least; the name counts */
    uint32_t flags;
    command_fn fn;
    const char *group;    /* for COMMAND DOCS */
    const char *summary;
    const char *syntax;   /* arguments in the notation of redis.io; COMMAND DOCS arguments are made from it */
    const char *since;
    int first_key, last_key, key_step;
};

/* One command being executed. argv[0] is its name. The slices live until the handler returns. */
struct call {
    struct node *n;
    struct conn *conn;
    const struct command *cmd;
    uint64_t slot;
    uint32_t argc;
    const slice_t *argv;
    bool placed;          /* where argv[1] is, as a key of the cache, is known: place */
    struct cache_place place;
    struct buf *reply;    /* scratch; what a handler leaves here is sent unless `later` is set */
    bool later;           /* a request was submitted: it fills the slot */
    bool again;           /* not consumed: parse it again when the connection is resumed */
    bool again_run;       /* it was put off and is run again (queue_topics.c) */
    bool asked_create;    /* then: a topic was to be made for it */
    bool missing;         /* WANT_IF_THERE: there is no such topic */
    uint64_t began_ms;    /* then: when it came; 0: now */
};

/* Wrong passwords by address; addresses may share a place. */
enum { GUESS_PLACES = 256 };

struct guesses {
    uint32_t count; /* one is forgiven each second */
    uint64_t at_ms;
};

struct doors {
    struct map conns;
    struct list all;
    struct list dirty;
    uint64_t n_conns;
    struct map watches;
    uint64_t n_watches;
    const struct command **table; /* open addressing by hash of the lower-case name */
    uint32_t table_mask;
    struct buf scratch;
    struct list walks, keys_walks; /* commands that ask one group after the other */
    uint64_t next_timer_ms;
    struct guesses guesses[GUESS_PLACES];
    uint64_t total_conns, total_commands;
    /* The queue's doors (queue_door.h). */
    struct map topics, topics_by_id;
    struct list put_off;       /* calls that are run again at a time */
    struct list put_off_fresh; /* calls that wait for a row of their own */
    struct hash_ring *rings;   /* keys to partitions, by number of partitions */
    uint32_t n_rings;
    struct publish_batch **publishing; /* by group: what this turn publishes */
    struct publish_batch *free_batches;
    struct list batches, batches_sent, publish_retries, publish_multis;
    bool walking_items;        /* of the batch that is answered now */
    struct map members;
    struct list members_all, joins;
    uint64_t members_ms;
    struct list consumes, multis;
    struct timer_wheel consume_wheel;
    struct buf body;           /* a message being encoded */
    struct cache_doors *cache; /* cache_door.h */
};

/* The level of compatibility that drivers look for, as Valkey reports it. */
#define REDIS_VERSION "7.2.4"

enum { CONN_SESSION_TTL_MS = 10000 };

/* conn.c */
void conn_set_authenticated(struct node *n, struct conn *c, bool yes);
void conn_ask_session(struct node *n, struct conn *c);                /* for CONNECTION locks; resumes when it is there */
uint64_t call_take_slot(struct conn *c);
struct conn *conn_find(struct node *n, conn_id_t id);
void conn_reply(struct node *n, struct conn *c, uint64_t slot, slice_t resp3);
void conn_answer(struct node *n, struct conn *c, uint64_t slot, slice_t resp3); /* the same, counted as nothing */
/* One error as the last reply of the connection. */
void conn_refuse(struct node *n, struct conn *c, enum refused_reason counted, const char *word, const char *text);
void conn_close_now(struct node *n, struct conn *c);
void conn_bytes(struct node *n, struct conn *c, slice_t bytes);       /* raw, into this turn's output */
void conn_push(struct node *n, struct conn *c, slice_t resp3);        /* out of band (RESP3 push), RESP3 connections only */
void conn_notify(struct node *n, struct conn *c, slice_t resp3);      /* out of band, as its protocol has it */
void conn_close(struct node *n, struct conn *c);
void conn_pause(struct node *n, struct conn *c);
void conn_resume(struct node *n, struct conn *c);
void conn_touch(struct node *n, struct conn *c);
/* A request whose answer goes to this call's reply place. */
struct request *call_request(struct call *c, uint32_t group, enum request_kind kind, bool waits);
void call_submit(struct call *c, struct request *r);
/* D4. False: it is put off until what its connection sent before is answered. */
bool call_alone(struct call *c);
struct door_slot *conn_slot(struct conn *c, uint64_t slot);
/* How much of a name that was given is shown in an error. */
static inline int shown_length(slice_t name) { return (int)(name.len < 64 ? name.len : 64); }
void call_error(struct call *c, const char *word, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* conn_clock.c */
#define WRONG_PASSWORD "WRONGPASS invalid username-password pair or user is disabled."
void doors_wake(struct node *n, uint64_t at_ms);                      /* doors_timers by then */
void conn_clock_opened(struct node *n, struct conn *c);
void conn_clock_data(struct node *n, struct conn *c);
/* A wrong password. True: too many of them came from there, the reply place is filled later. */
bool conn_guessed(struct node *n, struct conn *c, uint64_t slot);

/* commands.c */
void commands_build(struct doors *d);
void commands_fini(struct doors *d);
const struct command *command_find(const struct doors *d, slice_t name);
uint32_t command_count(void);
const struct command *command_at(uint32_t i);
void door_done(struct node *n, struct request *r, slice_t reply); /* fills the connection's reply place */
/* Executes argv for c->conn; c has nothing else but what is known of its key. True: it was not consumed. */
bool command_execute(struct call *c);

/* Arguments (cmd_args.c): they set the error in the call and return false. */
bool arg_u64(struct call *c, slice_t s, const char *what, uint64_t min, uint64_t max, uint64_t *out);
bool arg_mode(struct call *c, slice_t s, enum lock_mode *out);
bool arg_lock_id(struct call *c, slice_t s, uint64_t *out);
bool arg_name(struct call *c, slice_t s, const char *what, size_t max);

/* cmd_cluster.c: RESP3, for both doors */
void cluster_nodes(struct node *n, struct buf *b);
void cluster_groups(struct node *n, struct buf *b);

/* http_metrics.c: sums over the groups replicated here; INFO shows them too */
void queue_stats_of(const struct node *n, struct queue_sm_stats *sum, struct topics_stats *topics, uint64_t *young);

/* cmd_walk.c */
/* Asks group after group, beginning with q's cursor, and fills the call's reply place with their answers as one (LIST until
 * its count is full). only >= 0: that group alone. q->match is copied. */
void call_walk(struct call *c, const struct lock_query *q, int64_t only);
void walks_free(struct doors *d);

/* door_http.c */
size_t http_door_data(struct node *n, struct conn *c, slice_t data);
void http_door_reply(struct node *n, struct conn *c, const struct door_slot *s, slice_t reply); /* writes it to c->out */
void http_door_fini(struct conn *c);
void http_door_wrong_password(struct node *n, struct conn *c, uint64_t slot);
void http_door_timers(struct node *n, struct conn *c);

/* cache_door.c */
void cache_doors_init(struct doors *d);
void cache_doors_free(struct doors *d);
void cache_doors_timers(struct node *n);

/* cmd_cache_keys.c */
void keys_walks_free(struct doors *d);

/* track.c */
#define TRACK_CHANNEL "__redis__:invalidate"
void track_push(struct node *n, struct conn *c, const slice_t *key);  /* NULL: everything may be old */
bool track_wants(const struct conn *c);                               /* of the command that is executed now */
void track_read(struct node *n, struct conn *c, slice_t key);         /* its value was just sent */
void track_forget(struct doors *d, struct conn *c);                   /* the keys it has read; it does not track any more */

/* track_bcast.c */
void bcast_begin(struct call *c);                                     /* answers the call when every write is heard of */
void bcast_end(struct node *n, struct conn *c);
void bcast_timers(struct node *n);
void bcast_waits_free(struct doors *d);

/* cmd_tracking.c */
void client_tracking(struct call *c);
void client_caching(struct call *c);
void client_tracking_info(struct call *c);
void tracking_off(struct node *n, struct conn *c);
bool subscribed_refuses(struct call *c);                               /* the error is said */

/* watch.c */
void watch_add(struct node *n, struct conn *c, slice_t name);
bool watch_remove(struct node *n, struct conn *c, slice_t name);
void watch_forget(struct doors *d, struct conn *c);
void watch_drop_all(struct node *n, struct conn *c);

#endif
