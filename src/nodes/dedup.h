/* Requests that were answered before: by (origin, sequence) for nodes that ask again after a change of leader, by a client's own id for
 * clients that ask again from anywhere (R15, K10, Q9). Part of the replicated state of each service of a group, bounded by count and by
 * log time, in snapshots.
 *
 * An origin says with each request below which sequence number it has all its answers (low): their records go, and an entry with
 * such a number that is still in the log (it was proposed twice) does nothing (S47). */
#ifndef SYN_NODES_DEDUP_H
#define SYN_NODES_DEDUP_H

#include "utils/buf.h"
#include "utils/list.h"
#include "utils/map.h"

/* Who asks: the node instance that received the command (uuid mixed with incarnation, never 0), and its own count. The same
 * pair is the same request, however often it arrives (R15). origin 0: the leader itself (expiries), never answered. */
struct request_id {
    uint64_t origin;
    uint64_t seq;
};

struct origin {
    struct map_node by_id;
    struct list records;     /* struct record, in the order of applying */
    struct list waiters;     /* of the owner of this table: what waits for an answer of this origin */
    struct list all;         /* dedup.origins_all, least recently active first */
    uint64_t id;
    uint64_t low;            /* requests before this were answered, or given up by the origin */
    uint64_t active_ms;
};

/* An answered request that may be asked again. */
struct record {
    struct map_node by_request;
    struct list in_origin;
    struct list in_age;      /* dedup.records_all */
    struct request_id req;
    uint64_t time_ms;
    uint8_t code;
    uint32_t len;
    uint8_t reply[];
};

/* An answer under a client's own id. */
struct idem {
    struct map_node by_id;
    struct list in_age;      /* dedup.idems_all */
    uint64_t time_ms;
    uint8_t code;
    uint16_t id_len;
    uint32_t reply_len;
    uint8_t bytes[];         /* id, then reply */
};
static inline slice_t idem_reply(const struct idem *i) { return slice_of(i->bytes + i->id_len, i->reply_len); }
static inline slice_t idem_name(const struct idem *i) { return slice_of(i->bytes, i->id_len); }

struct dedup {
    uint64_t hash_key;       /* for ids given by clients */
    uint64_t window_ms;      /* by log time */
    uint32_t window_count;
    struct map origins, records, idems;
    struct list origins_all, records_all, idems_all;
    uint32_t n_records, n_idems;
};

void dedup_init(struct dedup *d, uint64_t hash_key, uint64_t window_ms, uint32_t window_count);
void dedup_fini(struct dedup *d);
struct origin *dedup_origin(struct dedup *d, uint64_t id, uint64_t now_ms);      /* made when missing */
struct origin *dedup_origin_find(struct dedup *d, uint64_t id);                  /* NULL: unknown */
/* A request of req.origin with this low arrives at log time now_ms: forgets by low, age and count, a few at a time. */
void dedup_advance(struct dedup *d, struct request_id req, uint64_t low, uint64_t now_ms);
struct record *dedup_find(struct dedup *d, struct request_id req);               /* NULL: not answered, or forgotten */
bool dedup_too_old(struct dedup *d, struct request_id req);                      /* below its origin's low: does nothing */
struct idem *dedup_find_idem(struct dedup *d, slice_t id);
/* Adds; the caller has looked that it is not there. Used by applies and when restoring. */
void dedup_add(struct dedup *d, struct request_id req, uint64_t now_ms, uint8_t code, slice_t reply);
void dedup_add_idem(struct dedup *d, slice_t id, uint64_t now_ms, uint8_t code, slice_t reply);
/* Equal on replicas with equal histories. */
uint64_t dedup_hash(const struct dedup *d);
/* One record each: u8 first_kind for an origin, + 1 for a record, + 2 for an idem; u32 length; body. In an order that restores to an equal
 * table. */
void dedup_save(const struct dedup *d, struct buf *out, uint8_t first_kind);
/* Takes the body of an origin (which 0), record (1) or idem (2) as saved at log time now_ms; false: malformed. */
bool dedup_restore(struct dedup *d, uint8_t which, slice_t body, uint64_t now_ms);

#endif
