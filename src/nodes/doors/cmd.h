/* The handlers of every RESP command; the table in commands.c names each once. */
#ifndef SYN_NODES_DOORS_CMD_H
#define SYN_NODES_DOORS_CMD_H

#include "nodes/doors/door.h"

/* cmd_lock.c */
void handle_lock_acquire(struct call *c);
void handle_lock_acquireall(struct call *c);
void handle_lock_release(struct call *c);
void handle_lock_renew(struct call *c);
void handle_lock_convert(struct call *c);
void handle_lock_force(struct call *c);
/* cmd_lock_query.c */
void handle_lock_check(struct call *c);
void handle_lock_info(struct call *c);
void handle_lock_list(struct call *c);
void handle_lock_waitgraph(struct call *c);
void handle_lock_watch(struct call *c);
void handle_lock_unwatch(struct call *c);
void handle_session_create(struct call *c);
void handle_session_keepalive(struct call *c);
void handle_session_end(struct call *c);
void handle_session_list(struct call *c);
/* cmd_conn.c */
void handle_ping(struct call *c);
void handle_echo(struct call *c);
void handle_hello(struct call *c);
void handle_auth(struct call *c);
void handle_quit(struct call *c);
void handle_reset(struct call *c);
void handle_select(struct call *c);
void handle_client(struct call *c);
/* cmd_tracking.c */
void handle_subscribe(struct call *c);
void handle_unsubscribe(struct call *c);
/* cmd_server.c */
void handle_command(struct call *c);
void handle_info(struct call *c);
void handle_config(struct call *c);
void handle_time(struct call *c);
void handle_role(struct call *c);
void handle_wait(struct call *c);
void handle_slowlog(struct call *c);
void handle_latency(struct call *c);
void handle_shutdown(struct call *c);
void handle_module(struct call *c);
/* cmd_queue.c */
void handle_queue_create(struct call *c);
void handle_queue_alter(struct call *c);
void handle_queue_delete(struct call *c);
void handle_queue_publish(struct call *c);
void handle_queue_publishbatch(struct call *c);
void handle_queue_consume(struct call *c);
void handle_queue_join(struct call *c);
void handle_queue_leave(struct call *c);
void handle_queue_ack(struct call *c);
void handle_queue_nack(struct call *c);
void handle_queue_extend(struct call *c);
void handle_queue_seek(struct call *c);
void handle_queue_redrive(struct call *c);
void handle_queue_forget(struct call *c);
/* cmd_queue_query.c */
void handle_queue_list(struct call *c);
void handle_queue_info(struct call *c);
void handle_queue_groups(struct call *c);
void handle_queue_lag(struct call *c);
void handle_queue_peek(struct call *c);
void handle_queue_dlq(struct call *c);
/* cmd_stream.c */
void handle_xadd(struct call *c);
void handle_xlen(struct call *c);
void handle_xrange(struct call *c);
void handle_xrevrange(struct call *c);
void handle_xdel(struct call *c);
void handle_xtrim(struct call *c);
void handle_xsetid(struct call *c);
/* cmd_stream_read.c */
void handle_xread(struct call *c);
void handle_xreadgroup(struct call *c);
/* cmd_stream_group.c, cmd_stream_claim.c, cmd_stream_info.c */
void handle_xgroup(struct call *c);
void handle_xack(struct call *c);
void handle_xpending(struct call *c);
void handle_xclaim(struct call *c);
void handle_xautoclaim(struct call *c);
void handle_xinfo(struct call *c);
/* cmd_cache.c */
void handle_cache_op(struct call *c);
/* cmd_cache_lease.c */
void handle_cache_set(struct call *c);
void handle_cache_lease(struct call *c);
/* cmd_cache.c */
void handle_cache_get(struct call *c);
void handle_cache_del(struct call *c);
void handle_cache_exists(struct call *c);
void handle_cache_mget(struct call *c);
void handle_cache_mset(struct call *c);
void handle_cache_msetnx(struct call *c);
void handle_cache_rename(struct call *c);
void handle_cache_renamenx(struct call *c);
void handle_cache_copy(struct call *c);
void handle_cache_flushall(struct call *c);
void handle_cache_look(struct call *c);
void handle_cache_state(struct call *c);
void handle_cache_invalidate(struct call *c);
void handle_cache_stats(struct call *c);
/* cmd_cache_look.c */
void handle_cache_object(struct call *c);
void handle_memory(struct call *c);
void handle_cache_lcs(struct call *c);
/* cmd_cache_flush.c */
void handle_cache_flush(struct call *c);
/* cmd_script.c */
void handle_eval(struct call *c);
void handle_evalsha(struct call *c);
void handle_script(struct call *c);
/* cmd_cache_keys.c */
void handle_dbsize(struct call *c);
void handle_keys(struct call *c);
void handle_randomkey(struct call *c);
void handle_scan(struct call *c);
/* cmd_cluster.c */
void handle_cluster_nodes(struct call *c);
void handle_cluster_groups(struct call *c);
void handle_cluster_add(struct call *c);
void handle_cluster_remove(struct call *c);
void handle_cluster_transfer(struct call *c);
void handle_cluster_rebalance(struct call *c);
void handle_cluster(struct call *c);

#endif
