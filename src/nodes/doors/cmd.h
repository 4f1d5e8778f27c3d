/* The handlers of every RESP command; the table in commands.c names each once. */
#ifndef SYN_NODES_DOORS_CMD_H
#define SYN_NODES_DOORS_CMD_H

#include "nodes/doors/door.h"

/* cmd_lock.c */
void cmd_lock_acquire(struct call *c);
void cmd_lock_acquireall(struct call *c);
void cmd_lock_release(struct call *c);
void cmd_lock_renew(struct call *c);
void cmd_lock_convert(struct call *c);
void cmd_lock_force(struct call *c);
/* cmd_lock_query.c */
void cmd_lock_check(struct call *c);
void cmd_lock_info(struct call *c);
void cmd_lock_list(struct call *c);
void cmd_lock_waitgraph(struct call *c);
void cmd_lock_watch(struct call *c);
void cmd_lock_unwatch(struct call *c);
void cmd_session_create(struct call *c);
void cmd_session_keepalive(struct call *c);
void cmd_session_end(struct call *c);
void cmd_session_list(struct call *c);
/* cmd_conn.c */
void cmd_ping(struct call *c);
void cmd_echo(struct call *c);
void cmd_hello(struct call *c);
void cmd_auth(struct call *c);
void cmd_quit(struct call *c);
void cmd_reset(struct call *c);
void cmd_select(struct call *c);
void cmd_client(struct call *c);
/* cmd_server.c */
void cmd_command(struct call *c);
void cmd_info(struct call *c);
void cmd_config(struct call *c);
void cmd_dbsize(struct call *c);
void cmd_time(struct call *c);
void cmd_role(struct call *c);
void cmd_wait(struct call *c);
void cmd_slowlog(struct call *c);
void cmd_latency(struct call *c);
void cmd_memory(struct call *c);
void cmd_shutdown(struct call *c);
void cmd_module(struct call *c);
/* cmd_cluster.c */
void cmd_cluster_nodes(struct call *c);
void cmd_cluster_groups(struct call *c);
void cmd_cluster_add(struct call *c);
void cmd_cluster_remove(struct call *c);
void cmd_cluster_transfer(struct call *c);
void cmd_cluster_rebalance(struct call *c);
void cmd_cluster(struct call *c);

#endif
