/* A node by itself in virtual time: memory files that are durable at once, client connections as byte buffers. For tests of
 * doors, routing and members that need no network. */
#ifndef SYN_TESTS_NODES_ONE_NODE_H
#define SYN_TESTS_NODES_ONE_NODE_H

#include "nodes/node.h"
#include "storage/files_mem.h"
#include "storage/store.h"

enum { ONE_CONNS_MAX = 16 };

struct one_conn {
    bool open, paused;
    struct buf in;   /* not consumed yet */
    struct buf out;  /* what the node answered */
};

struct one_node {
    struct files_mem *mem;
    struct files files;
    struct store *store;
    struct store_recovery recovered;
    struct node_options options;
    struct node *node;
    struct effects fx;
    uint64_t now_ms;
    uint64_t log_seq;
    struct one_conn conns[ONE_CONNS_MAX + 1];
    bool stopped;
    uint32_t dials;
};

/* A cluster of `members` nodes of which only this one exists; 1 elects itself. */
void one_start(struct one_node *o, uint32_t members);
void one_stop(struct one_node *o);
/* Lets time pass, turn by turn, at most ms. */
void one_run(struct one_node *o, uint64_t ms);
void one_open(struct one_node *o, conn_id_t id, enum door_kind kind);
void one_close(struct one_node *o, conn_id_t id);
void one_send(struct one_node *o, conn_id_t id, const char *bytes);
/* An inline command; returns what had been answered when nothing more happened (at most ms later), as text, and forgets it. */
const char *one_ask(struct one_node *o, conn_id_t id, const char *command);
const char *one_take(struct one_node *o, conn_id_t id);

#endif
