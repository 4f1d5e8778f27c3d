/* What the files of the Streams commands share: Redis' notions of numbers, ids and intervals, with Redis' words for what is wrong with them. */
#ifndef SYN_NODES_DOORS_CMD_STREAM_H
#define SYN_NODES_DOORS_CMD_STREAM_H

#include "nodes/doors/queue_door.h"

/* cmd_stream.c */
/* The stream of a command; NULL: put off, answered, or (c->missing) there is none. */
struct topic_ref *call_stream(struct call *c, slice_t key, enum topic_want want);
bool arg_stream_id(struct call *c, slice_t s, uint64_t no_seq, struct stream_id *id); /* ms or ms-seq; - and + */
bool arg_stream_int(struct call *c, slice_t s, const char *error, int64_t *out); /* error NULL: Redis' usual words */
bool get_stream_id(slice_t s, uint64_t no_seq, struct stream_id *id);            /* ms or ms-seq; says nothing */
/* One end of an interval: - and +, an id, or "(" and an id that is not meant itself. */
bool arg_stream_bound(struct call *c, slice_t s, bool start, struct stream_id *id);

static inline bool stream_id_less(struct stream_id a, struct stream_id b) { return a.ms < b.ms || (a.ms == b.ms && a.seq < b.seq); }

/* cmd_stream_info.c: rows of what is pending, as QQ_PENDING answers them, a page at a time */
enum { PENDING_PAGE = 10000 };
struct pending_row { slice_t consumer; uint64_t offset; struct stream_id id; uint64_t idle_ms, deliveries; };
bool get_pending_row(struct reader *r, struct pending_row *p);
/* Asks for the page that begins at an offset; of one consumer alone unless that is empty. */
void ask_pending(struct multi *m, uint32_t step, slice_t group, slice_t consumer, uint64_t from);

/* cmd_stream_group.c */
void call_no_group(struct call *c, slice_t key, slice_t group);
void fail_no_group(struct multi *m, slice_t group, const char *where); /* where: what follows the names */
void fail_no_group_for_key(struct multi *m); /* the group is m->name */
/* A subcommand with its arity as in struct command; the whole command counts. */
struct subcommand { const char *word; int arity; const char *name, *help; };
/* The one that is called; NULL: HELP was answered, or what is wrong. */
const struct subcommand *call_subcommand(struct call *c, const struct subcommand *table, size_t n);
void call_bad_syntax(struct call *c); /* arguments of a subcommand that fit nothing */

#endif
