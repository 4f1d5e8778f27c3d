/* A lock state machine under test, driven by short texts. One line is one operation of one client:
 *
 *   a acquire r1 X              try                    a acquire r1+r2 S wait          until cancelled, all or nothing
 *   a acquire r1 X wait 500 ttl 1000 maxhold 9 idem k session s meta m owner o
 *   a release r1                the lock a holds       a release r1 77                 by lock_id or token
 *   a renew r1 ttl 500          a convert r1 X wait    a cancel                        its newest waiting request
 *   a retry                     its newest request again, in a new entry
 *   a force r1 because
 *   session s ttl 1000          keepalive s            end s                           drop s, adopt s (other groups)
 *   gone                        the origin's waiters leave
 *   time 500                    log time passes, the leader proposes what is due until nothing is
 *
 * The client's name is its owner. Results come as lines: "a granted r1 X token 3", "a -LOCKED r1 held by ...", ... */
#ifndef TESTS_LOCKS_LOCK_WORLD_H
#define TESTS_LOCKS_LOCK_WORLD_H

#include "nodes/locks/lock_sm.h"

enum { WORLD_CLIENTS = 8, WORLD_SESSIONS = 8 };

struct world_client {
    char name[16];
    struct buf last;          /* its newest request, encoded */
    struct request_id req;
    bool waiting;
};

struct world {
    struct lock_sm *sm;
    struct lock_sm_options opt;
    struct lock_out out;
    uint64_t index, time_ms, seq;
    struct world_client clients[WORLD_CLIENTS];
    char session_names[WORLD_SESSIONS][16];
    uint64_t sessions[WORLD_SESSIONS];
    struct buf text;          /* results of the last line */
    bool keep_answers;        /* the origin never says that it has its answers */
};

void world_init(struct world *w, uint32_t group);
void world_fini(struct world *w);
/* Runs one line; the results as text, one per line, valid until the next call. Asserts lock_sm_check afterwards. */
const char *world_do(struct world *w, const char *line);
/* Applies encoded bytes as the next entry; results are appended to w->text. */
void world_apply(struct world *w, slice_t op);
/* One line: "r1 S a*2 b, waiting c:X d:S", or "r1 free". */
void world_show(struct world *w, const char *resource, struct buf *out);
/* The lock id under which owner holds it, 0: it does not. */
uint64_t world_lock_id(struct world *w, const char *resource, const char *owner);
/* The newest token of a resource, by INFO. */
uint64_t world_token(struct world *w, const char *resource);
/* The reply to a query, borrowed until the next call. */
slice_t world_query(struct world *w, const struct lock_query *q);
/* Replaces the state machine by what a snapshot of it restores; pieces of at most piece_bytes. */
void world_reincarnate(struct world *w, size_t piece_bytes, uint64_t hash_key);
void world_snapshot(struct world *w, struct buf *out);

#endif
