/* Inside the queue's doors: topics as this node knows them, publishes on their way in batches, members that consume here. */
#ifndef SYN_NODES_DOORS_QUEUE_DOOR_H
#define SYN_NODES_DOORS_QUEUE_DOOR_H

#include "nodes/doors/door.h"
#include "nodes/queue/message.h"
#include "utils/limits.h"

#include <stdio.h>

enum { RETRY_TOPIC_MS = 5 }; /* a group that does not know a topic yet is asked again after so long */

enum topic_state { TOPIC_NOT_ASKED, TOPIC_ASKED, TOPIC_KNOWN, TOPIC_MISSING };

/* A topic by name, as group 0 last described it. Never freed while the node lives: replies on their way point to it. */
struct topic_ref {
    struct map_node by_name, by_id;
    enum topic_state state;
    uint64_t id, version;
    struct topic_config config;
    uint32_t *groups;           /* owned; config.partitions of them */
    uint32_t turn;              /* partition of messages without a key ... */
    uint64_t turn_no;           /* ... that come in this loop turn */
    bool refreshing;
    uint32_t opening;           /* groups that are told of it; TOPIC_ASKED until they know */
    struct list put_off;        /* calls that wait for the row */
    struct buf error;           /* why it could not be had; RESP */
    uint32_t name_len;
    char name[];
};
static inline slice_t topic_name(const struct topic_ref *t) { return slice_of(t->name, t->name_len); }

/* cmd_queue.c: arguments */
bool arg_option(struct call *c, uint32_t i, slice_t *v);     /* the value behind option i */
bool arg_unknown(struct call *c, slice_t word);               /* refuses; false */
bool arg_group(struct call *c, uint32_t at, slice_t *group);  /* GROUP name */

extern const struct command queue_publish_many; /* for the HTTP door */
/* cmd_queue_query.c: a consumer group as one map: members, generation, lag; topic GROUP group */
extern const struct command queue_group_info;

/* queue_topics.c */
enum topic_want {
    WANT_TOPIC,
    WANT_FRESH,            /* as group 0 has it now, not as this node last saw it: where the options themselves are read or changed */
    WANT_IF_THERE,         /* missing: c->missing is set, no error */
    WANT_OR_CREATE,
    WANT_OR_CREATE_STREAM
};
/* The row of a topic. NULL: the call was put off until it is known (c->later), or answered with an error. */
struct topic_ref *call_topic(struct call *c, slice_t name, enum topic_want want);
struct topic_ref *topic_named(struct node *n, slice_t name);   /* asked for or not */
bool topic_has_group(const struct topic_ref *t, uint32_t group);
void topic_put_open(struct buf *out, const struct topic_ref *t, uint32_t group); /* OPEN for a group of its */
struct topic_ref *topic_by_id(struct node *n, uint64_t id);
void topic_learn(struct node *n, struct topic_ref *t, const struct topic_row *row);
void topic_refresh(struct node *n, struct topic_ref *t);     /* a group did not know it: asks for its row beside what goes on */
/* Takes group 0's answer about its row. False: there is no such topic. */
bool topic_take_row(struct node *n, struct topic_ref *t, slice_t reply);
struct request *topic_row_request(struct node *n, struct topic_ref *t, request_done_fn done); /* asks for it; the caller submits */
struct topic_config topic_defaults(const struct node *n, bool stream);
uint32_t topic_partition_of(struct node *n, struct topic_ref *t, const slice_t *key, slice_t dedup);
/* Runs a call again later, with its arguments: when the topic is known, or (topic NULL) at a time. */
void call_put_off(struct call *c, struct topic_ref *t);
void put_off_timers(struct node *n);
void queue_topics_fini(struct doors *d);
/* An error word for a topic_code or queue_code that is not DONE. */
void topic_code_error(struct buf *b, uint8_t code, slice_t topic);

/* queue_publish.c */
enum publish_view { VIEW_MESSAGE_ID, VIEW_STREAM_ID };
/* Adds one message to this turn's batch; its reply goes to place `at` of the call's reply (multi NULL: it is the reply). */
struct publish_multi;
struct publish_multi *publish_multi_new(struct call *c, uint32_t n);
void publish_add(struct call *c, struct topic_ref *t, struct publish_item *it, enum publish_view view, struct publish_multi *multi, uint32_t at);
void publish_flush(struct node *n);
void publish_timers(struct node *n);
void queue_publish_fini(struct doors *d);

/* queue_members.c */
struct member_part { uint32_t partition; uint64_t since; uint32_t group; };
struct member {
    struct map_node by_key;
    struct list all;
    struct topic_ref *topic;
    uint64_t topic_id;
    bool joined, joining, rejoin;
    bool stream;                /* of a bare stream: no assignment, no generations */
    uint64_t generation;
    struct member_part *parts;  /* owned; sorted by group, then partition */
    uint32_t n_parts;
    uint64_t ttl_ms, heard_ms, used_ms;
    conn_id_t conn;             /* while it is open, the member lives */
    uint32_t rotate;
    bool idle;                  /* its last consume found nothing at once: the next waits everywhere from the start */
    struct list consumes;       /* struct consume.of_member */
    uint16_t group_len, consumer_len;
    char bytes[];               /* group, consumer */
};
static inline slice_t member_group(const struct member *m) { return slice_of(m->bytes, m->group_len); }
static inline slice_t member_consumer(const struct member *m) { return slice_of(m->bytes + m->group_len, m->consumer_len); }
struct member *member_get(struct node *n, struct topic_ref *t, slice_t group, slice_t consumer);
struct member *member_of_stream(struct node *n, struct topic_ref *t, slice_t group, slice_t consumer);
struct member *member_find(struct node *n, struct topic_ref *t, slice_t group, slice_t consumer);
void member_join(struct node *n, struct member *m);          /* consumes of it go on when the answer is there */
void member_left(struct node *n, struct member *m);          /* forgets it; its consumes are answered */
uint64_t members_deadline(const struct node *n);
void queue_members_fini(struct doors *d);

/* queue_consume.c */
/* Streams: XREADGROUP's view of the same. */
enum consume_view { VIEW_QUEUE, VIEW_STREAM };
struct consume_options { uint32_t count; uint64_t block_ms; bool block; uint64_t visibility_ms; bool no_ack; enum consume_view view; };
void consume_begin(struct call *c, struct member *m, const struct consume_options *o);
void consumes_of_member(struct node *n, struct member *m, slice_t error); /* its assignment is new, or (error) it cannot join */
/* Its assignment is what it was, or (error) cannot be had now: for those that asked for it. */
void consumes_joined(struct node *n, struct member *m, slice_t error);
void consumes_closed(struct node *n, struct conn *c);
uint64_t consume_deadline(const struct node *n);
void queue_consume_fini(struct doors *d);

/* queue_consume_claims.c */
/* Deliveries that nobody will handle are available again at once, uncounted. items: SETTLE items. */
void queue_give_back(struct node *n, uint32_t group, uint64_t topic, slice_t consumer_group, uint32_t count, slice_t items);

/* queue_view.c */
void put_receipt(struct buf *b, const struct receipt *r);    /* a bulk string */
bool get_receipt(slice_t s, struct receipt *r);
void put_message_id(struct buf *b, const struct topic_ref *t, uint32_t partition, uint64_t offset);
/* The map of one message as QUEUE.CONSUME and QUEUE.PEEK show it. */
void put_message(struct buf *b, const struct topic_ref *t, const struct delivery *d, uint32_t partition, const struct queue_message *m);
/* [id, [field, value ...]]; the fields of a native message are payload, key and its headers. */
void put_stream_entry(struct buf *b, const struct queue_message *m);
void put_stream_id(struct buf *b, struct stream_id id);
/* XREAD and XREADGROUP: RESP3 has a map of keys, RESP2 an array of pairs. */
void put_streams_head(struct buf *b, int proto, uint32_t n);
void put_streams_key(struct buf *b, int proto, slice_t key);

/* queue_multi.c: one call, requests to several groups */
struct multi;
struct multi_row { uint32_t key; size_t off, len; };
typedef void (*multi_part_fn)(struct multi *m, uint32_t part, slice_t reply); /* an answer of part; errors begin with '-' */
typedef void (*multi_end_fn)(struct multi *m, struct buf *reply);
struct multi {
    struct list link;
    struct node *n;
    conn_id_t conn;
    uint64_t slot;
    struct topic_ref *topic;
    uint32_t left;
    bool of_group_0;             /* its answers begin with a topic_code */
    bool missing_ok;             /* a group that does not know the topic (yet) counts as one that has nothing */
    uint32_t missing;
    bool verified;               /* then: group 0 was asked whether the topic is still there */
    bool keep_errors;            /* an error counts in `stale` and ends nothing */
    struct buf error;            /* the first error */
    multi_part_fn part;
    multi_end_fn end;
    uint64_t sum, stale;
    uint32_t want, rows;
    struct buf out, side, name;  /* for the handlers */
    struct multi_row *order;     /* owned; rows of `out` with their keys: multi_put_rows sorts by them */
    uint32_t n_order, cap_order;
    enum metric_request_type metric;
    uint64_t began_ms;
    uint64_t args[8];
    uint64_t parts_asked[LIMIT_PARTITIONS / 64];
    enum publish_view view;
};
/* What is appended to `out` from begin to end is one row; answers come in any order, rows are put in the order of keys. */
void multi_row_begin(struct multi *m, uint32_t key);
void multi_row_end(struct multi *m);
void multi_put_rows(struct multi *m, struct buf *reply);     /* an array of them */
void multi_fail(struct multi *m, slice_t error); /* the first error is the reply */
struct multi *multi_new(struct call *c, struct topic_ref *t, multi_part_fn part, multi_end_fn end);
/* One more request of it, with its head: the caller appends the operation or query and submits it. */
struct request *multi_op(struct multi *m, uint32_t group, enum queue_op_kind kind, uint32_t part);
struct request *multi_topic_op(struct multi *m, enum topic_op_kind kind);      /* to group 0 */
struct request *multi_query(struct multi *m, uint32_t group, uint32_t part, const struct queue_query *q);
void multi_begin(struct multi *m);                           /* all are submitted; it may end at once */
void queue_multi_fini(struct doors *d);
/* A numbered operation on its way to a group: SERVICE_QUEUE or SERVICE_TOPICS and its head. The caller appends the rest and submits. */
struct request *queue_request(struct node *n, uint32_t group, enum queue_op_kind kind, request_done_fn done);
struct request *topics_request(struct node *n, enum topic_op_kind kind, request_done_fn done);

#endif
