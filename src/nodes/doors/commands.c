/* The command table: every RESP command once, with what COMMAND DOCS, the router and docs/commands.md say about it; and the
 * one place where a command is looked up, checked and executed.
 *
 * Unknown commands, wrong arity and missing authentication are answered in Redis' own words (clients match on them). */
#include "nodes/doors/cmd.h"

#include "utils/hash.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define OPTIONS_ACQUIRE \
    "[OWNER owner] [SESSION session | CONNECTION] [TTL milliseconds] [MAXHOLD milliseconds] [WAIT milliseconds] [META bytes] [IDEM id]"

static const struct command COMMANDS[] = {
    {"LOCK.ACQUIRE", -3, CMD_WRITE | CMD_BLOCKING, handle_lock_acquire, "lock",
     "Takes a lock, or waits for it in the order of arrival. Replies with its lock_id and fencing token.",
     "resource <SHARED | EXCLUSIVE> " OPTIONS_ACQUIRE, "0.1.0", 1, 1, 1},
    {"LOCK.ACQUIREALL", -4, CMD_WRITE | CMD_BLOCKING, handle_lock_acquireall, "lock",
     "Takes several locks in one step, all or none. The resources must share a group: give them one {tag}.",
     "<SHARED | EXCLUSIVE> numresources resource [resource ...] " OPTIONS_ACQUIRE, "0.1.0", 3, 3, 1},
    {"LOCK.RELEASE", -3, CMD_WRITE, handle_lock_release, "lock", "Releases a lock by its lock_id or token, from any connection.",
     "resource lock_id [IDEM id]", "0.1.0", 1, 1, 1},
    {"LOCK.RENEW", -3, CMD_WRITE, handle_lock_renew, "lock", "Gives a held lock a new time to live.",
     "resource lock_id [TTL milliseconds] [IDEM id]", "0.1.0", 1, 1, 1},
    {"LOCK.CONVERT", -4, CMD_WRITE | CMD_BLOCKING, handle_lock_convert, "lock",
     "Upgrades a held lock to EXCLUSIVE (perhaps waiting for the other readers) or downgrades it to SHARED, in place.",
     "resource lock_id <SHARED | EXCLUSIVE> [WAIT milliseconds] [IDEM id]", "0.1.0", 1, 1, 1},
    {"LOCK.CHECK", 3, CMD_READ, handle_lock_check, "lock", "Says whether no newer token of the resource was granted.", "resource token",
     "0.1.0", 1, 1, 1},
    {"FENCE.CHECK", 3, CMD_READ, handle_lock_check, "lock", "The same as LOCK.CHECK.", "resource token", "0.1.0", 1, 1, 1},
    {"LOCK.INFO", 2, CMD_READ, handle_lock_info, "lock", "Shows holders, waiters and the newest token of a resource.", "resource", "0.1.0",
     1, 1, 1},
    {"LOCK.LIST", -1, CMD_READ, handle_lock_list, "lock", "Lists locks that are held or waited for, page by page.",
     "[MATCH pattern] [GROUP group] [CURSOR cursor] [COUNT count]", "0.1.0", 0, 0, 0},
    {"LOCK.WAITGRAPH", -1, CMD_READ, handle_lock_waitgraph, "lock", "Shows who waits for whom, as edges or as Graphviz text.",
     "[DOT] [GROUP group]", "0.1.0", 0, 0, 0},
    {"LOCK.WATCH", 2, CMD_READ, handle_lock_watch, "lock",
     "Pushes what happens to a resource (RESP3): granted, released, expired, forced, contended.", "resource", "0.1.0", 1, 1, 1},
    {"LOCK.UNWATCH", 2, CMD_READ, handle_lock_unwatch, "lock", "Ends LOCK.WATCH.", "resource", "0.1.0", 1, 1, 1},
    {"LOCK.FORCE", -4, CMD_WRITE | CMD_ADMIN, handle_lock_force, "lock", "Frees a resource from its holders by name. The reason is logged.",
     "resource REASON reason [IDEM id]", "0.1.0", 1, 1, 1},
    {"SESSION.CREATE", -1, CMD_WRITE, handle_session_create, "session", "Begins a session; what it holds ends with it.",
     "[TTL milliseconds] [NAME name] [IDEM id]", "0.1.0", 0, 0, 0},
    {"SESSION.KEEPALIVE", 2, CMD_WRITE, handle_session_keepalive, "session", "Renews a session for its time to live.", "session", "0.1.0", 0,
     0, 0},
    {"SESSION.END", 2, CMD_WRITE, handle_session_end, "session", "Ends a session and frees everything it holds.", "session", "0.1.0", 0, 0, 0},
    {"SESSION.LIST", 1, CMD_READ, handle_session_list, "session", "Lists the sessions.", "", "0.1.0", 0, 0, 0},
    {"QUEUE.CREATE", -2, CMD_WRITE, handle_queue_create, "queue", "Makes a topic; again with the same options it changes nothing.",
     "topic [PARTITIONS count] [REPLICAS count] [MAXDELIVER count] [VISIBILITY milliseconds] [RETENTION bytes] [MAXAGE milliseconds] "
     "[BACKOFF milliseconds] [BACKOFFMAX milliseconds] [ORDERED <key | none>]",
     "0.2.0", 0, 0, 0},
    {"QUEUE.ALTER", -4, CMD_WRITE, handle_queue_alter, "queue", "Changes a topic's options, all but PARTITIONS and ORDERED.",
     "topic [MAXDELIVER count] [VISIBILITY milliseconds] [RETENTION bytes] [MAXAGE milliseconds] [BACKOFF milliseconds] "
     "[BACKOFFMAX milliseconds]",
     "0.2.0", 0, 0, 0},
    {"QUEUE.DELETE", 2, CMD_WRITE, handle_queue_delete, "queue", "Deletes a topic with all its messages and consumer groups.", "topic", "0.2.0",
     0, 0, 0},
    {"QUEUE.LIST", 1, CMD_READ, handle_queue_list, "queue", "Lists the topics.", "", "0.2.0", 0, 0, 0},
    {"QUEUE.PUBLISH", -3, CMD_WRITE, handle_queue_publish, "queue",
     "Publishes a message; answered topic:partition:offset once a majority has it on disk. Makes the topic if there is none.",
     "topic payload [KEY key] [ID id] [DELAY milliseconds] [HEADER name value [HEADER name value ...]] [FENCE resource token]", "0.2.0", 0, 0, 0},
    {"QUEUE.PUBLISHBATCH", -4, CMD_WRITE, handle_queue_publishbatch, "queue", "Publishes several messages, each with its own answer.",
     "topic numpayloads payload [payload ...] [KEY key] [DELAY milliseconds] [HEADER name value [HEADER name value ...]] [FENCE resource token]", "0.2.0", 0, 0, 0},
    {"QUEUE.CONSUME", -6, CMD_WRITE | CMD_BLOCKING, handle_queue_consume, "queue",
     "Takes messages for a consumer of a group, which joins by itself; they come again unless acknowledged in time.",
     "topic GROUP group CONSUMER consumer [COUNT count] [BLOCK milliseconds] [VISIBILITY milliseconds]", "0.2.0", 0, 0, 0},
    {"QUEUE.ACK", -5, CMD_WRITE, handle_queue_ack, "queue", "Acknowledges deliveries: their messages are done for the group.",
     "topic GROUP group receipt [receipt ...]", "0.2.0", 0, 0, 0},
    {"QUEUE.NACK", -5, CMD_WRITE, handle_queue_nack, "queue",
     "Gives a delivery back: after a delay, uncounted (SILENT), or to the dead letters at once (FATAL).",
     "topic GROUP group receipt [DELAY milliseconds] [SILENT | FAIL | FATAL] [REASON reason]", "0.2.0", 0, 0, 0},
    {"QUEUE.EXTEND", 6, CMD_WRITE, handle_queue_extend, "queue", "Moves the visibility deadline of a delivery to so long from now.",
     "topic GROUP group receipt milliseconds", "0.2.0", 0, 0, 0},
    {"QUEUE.JOIN", -6, CMD_WRITE, handle_queue_join, "queue", "Makes a consumer a member of its group and shows its partitions.",
     "topic GROUP group CONSUMER consumer [TTL milliseconds]", "0.2.0", 0, 0, 0},
    {"QUEUE.LEAVE", 6, CMD_WRITE, handle_queue_leave, "queue", "Takes a consumer out of its group; what it has in flight is available at once.",
     "topic GROUP group CONSUMER consumer", "0.2.0", 0, 0, 0},
    {"QUEUE.GROUPS", -2, CMD_READ, handle_queue_groups, "queue", "Lists a topic's consumer groups, or the members of one.",
     "topic [MEMBERS group]", "0.2.0", 0, 0, 0},
    {"QUEUE.LAG", 4, CMD_READ, handle_queue_lag, "queue", "Shows how far behind a consumer group is, in messages and time.",
     "topic GROUP group", "0.2.0", 0, 0, 0},
    {"QUEUE.INFO", 2, CMD_READ, handle_queue_info, "queue", "Shows a topic, its partitions and the positions of its consumer groups.", "topic",
     "0.2.0", 0, 0, 0},
    {"QUEUE.PEEK", -4, CMD_READ, handle_queue_peek, "queue", "Reads messages of a partition without taking them.",
     "topic partition offset [COUNT count]", "0.2.0", 0, 0, 0},
    {"QUEUE.SEEK", -5, CMD_WRITE, handle_queue_seek, "queue",
     "Moves a consumer group to the beginning, the end, an offset, or a time (Unix milliseconds).",
     "topic GROUP group <BEGIN | END | OFFSET offset | TIME time | offset-or-time> [PARTITION partition]", "0.2.0", 0, 0, 0},
    {"QUEUE.FORGET", 4, CMD_WRITE, handle_queue_forget, "queue",
     "Forgets a consumer group without members: its position, and what was kept for it only.", "topic GROUP group", "0.2.0", 0, 0, 0},
    {"QUEUE.DLQ", -4, CMD_READ, handle_queue_dlq, "queue", "Lists the dead letters of a consumer group with count and reason.",
     "topic GROUP group [COUNT count]", "0.2.0", 0, 0, 0},
    {"QUEUE.REDRIVE", -4, CMD_WRITE, handle_queue_redrive, "queue", "Makes dead letters available again, oldest first.",
     "topic GROUP group [COUNT count]", "0.2.0", 0, 0, 0},
    {"GET", 2, CMD_READ | CMD_FAST, handle_cache_get, "string", "Returns the value of a key.", "key", "0.3.0", 1, 1, 1},
    {"SET", -3, CMD_WRITE, handle_cache_set, "string", "Sets a key, whatever it had; or only under a condition.",
     "key value [NX | XX | IFEQ value | IFNE value] [GET] [EX seconds | PX milliseconds | EXAT unix-seconds | PXAT unix-milliseconds | KEEPTTL] "
     "[FENCE resource token] [FILL token]",
     "0.3.0", 1, 1, 1},
    {"SETNX", 3, CMD_WRITE | CMD_FAST, handle_cache_op, "string", "Sets a key that does not exist.", "key value", "0.3.0", 1, 1, 1},
    {"SETEX", 4, CMD_WRITE, handle_cache_op, "string", "Sets a key with a time to live in seconds.", "key seconds value", "0.3.0", 1, 1, 1},
    {"PSETEX", 4, CMD_WRITE, handle_cache_op, "string", "Sets a key with a time to live in milliseconds.", "key milliseconds value", "0.3.0", 1, 1, 1},
    {"GETSET", 3, CMD_WRITE | CMD_FAST, handle_cache_op, "string", "Sets a key and returns what it had.", "key value", "0.3.0", 1, 1, 1},
    {"GETDEL", 2, CMD_WRITE | CMD_FAST, handle_cache_op, "string", "Returns a value and deletes the key.", "key", "0.3.0", 1, 1, 1},
    {"GETEX", -2, CMD_WRITE | CMD_FAST, handle_cache_op, "string", "Returns a value and sets its time to live.",
     "key [EX seconds | PX milliseconds | EXAT unix-seconds | PXAT unix-milliseconds | PERSIST]", "0.3.0", 1, 1, 1},
    {"APPEND", 3, CMD_WRITE | CMD_FAST, handle_cache_op, "string", "Appends to a value; returns its length.", "key value", "0.3.0", 1, 1, 1},
    {"STRLEN", 2, CMD_READ | CMD_FAST, handle_cache_op, "string", "Returns the length of a value.", "key", "0.3.0", 1, 1, 1},
    {"SETRANGE", 4, CMD_WRITE, handle_cache_op, "string", "Overwrites a part of a value.", "key offset value", "0.3.0", 1, 1, 1},
    {"GETRANGE", 4, CMD_READ, handle_cache_op, "string", "Returns a part of a value.", "key start end", "0.3.0", 1, 1, 1},
    {"SUBSTR", 4, CMD_READ, handle_cache_op, "string", "The same as GETRANGE.", "key start end", "0.3.0", 1, 1, 1},
    {"INCR", 2, CMD_WRITE | CMD_FAST, handle_cache_op, "string", "Adds one to an integer.", "key", "0.3.0", 1, 1, 1},
    {"DECR", 2, CMD_WRITE | CMD_FAST, handle_cache_op, "string", "Takes one from an integer.", "key", "0.3.0", 1, 1, 1},
    {"INCRBY", 3, CMD_WRITE | CMD_FAST, handle_cache_op, "string", "Adds to an integer.", "key increment", "0.3.0", 1, 1, 1},
    {"DECRBY", 3, CMD_WRITE | CMD_FAST, handle_cache_op, "string", "Takes from an integer.", "key decrement", "0.3.0", 1, 1, 1},
    {"INCRBYFLOAT", 3, CMD_WRITE | CMD_FAST, handle_cache_op, "string", "Adds to a number with a fraction.", "key increment", "0.3.0", 1, 1, 1},
    {"MGET", -2, CMD_READ | CMD_FAST, handle_cache_mget, "string", "Returns the values of several keys.", "key [key ...]", "0.3.0", 1, -1, 1},
    {"MSET", -3, CMD_WRITE, handle_cache_mset, "string", "Sets several keys, each by itself.", "key value [key value ...]", "0.3.0", 1, -1, 2},
    {"LCS", -3, CMD_READ, handle_cache_lcs, "string", "Finds the longest common subsequence of two values, each read by itself.",
     "key1 key2 [LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]", "0.3.0", 1, 2, 1},
    {"MSETNX", -3, CMD_WRITE | CMD_ALONE, handle_cache_msetnx, "string", "Sets several keys of one group in one step, if none exists.",
     "key value [key value ...]", "0.3.0", 1, -1, 2},
    {"DEL", -2, CMD_WRITE, handle_cache_del, "generic", "Deletes keys, each by itself; returns how many there were.", "key [key ...]", "0.3.0", 1, -1, 1},
    {"UNLINK", -2, CMD_WRITE | CMD_FAST, handle_cache_del, "generic", "The same as DEL.", "key [key ...]", "0.3.0", 1, -1, 1},
    {"DELEX", -2, CMD_WRITE | CMD_FAST, handle_cache_op, "generic", "Deletes a key, perhaps only if its value is, or is not, a given one.",
     "key [IFEQ value | IFNE value]", "0.3.0", 1, 1, 1},
    {"EXISTS", -2, CMD_READ | CMD_FAST, handle_cache_exists, "generic", "Counts the keys that exist.", "key [key ...]", "0.3.0", 1, -1, 1},
    {"TOUCH", -2, CMD_READ | CMD_FAST, handle_cache_exists, "generic", "Counts the keys that exist, and uses them.", "key [key ...]", "0.3.0", 1, -1, 1},
    {"TYPE", 2, CMD_READ | CMD_FAST, handle_cache_op, "generic", "Says string, or none.", "key", "0.3.0", 1, 1, 1},
    {"EXPIRE", -3, CMD_WRITE | CMD_FAST, handle_cache_op, "generic", "Sets a time to live in seconds.", "key seconds [NX | XX | GT | LT] [IFEQ value [ADD]]", "0.3.0", 1, 1, 1},
    {"PEXPIRE", -3, CMD_WRITE | CMD_FAST, handle_cache_op, "generic", "Sets a time to live in milliseconds; IFEQ: if it has this value; ADD: to what is left.", "key milliseconds [NX | XX | GT | LT] [IFEQ value [ADD]]",
     "0.3.0", 1, 1, 1},
    {"EXPIREAT", -3, CMD_WRITE | CMD_FAST, handle_cache_op, "generic", "Sets when a key goes, in Unix seconds.", "key unix-seconds [NX | XX | GT | LT]",
     "0.3.0", 1, 1, 1},
    {"PEXPIREAT", -3, CMD_WRITE | CMD_FAST, handle_cache_op, "generic", "Sets when a key goes, in Unix milliseconds.",
     "key unix-milliseconds [NX | XX | GT | LT]", "0.3.0", 1, 1, 1},
    {"TTL", 2, CMD_READ | CMD_FAST, handle_cache_op, "generic", "Returns the seconds that a key has left.", "key", "0.3.0", 1, 1, 1},
    {"PTTL", 2, CMD_READ | CMD_FAST, handle_cache_op, "generic", "Returns the milliseconds that a key has left.", "key", "0.3.0", 1, 1, 1},
    {"EXPIRETIME", 2, CMD_READ | CMD_FAST, handle_cache_op, "generic", "Returns when a key goes, in Unix seconds.", "key", "0.3.0", 1, 1, 1},
    {"PEXPIRETIME", 2, CMD_READ | CMD_FAST, handle_cache_op, "generic", "Returns when a key goes, in Unix milliseconds.", "key", "0.3.0", 1, 1, 1},
    {"PERSIST", 2, CMD_WRITE | CMD_FAST, handle_cache_op, "generic", "Takes a key's time to live away.", "key", "0.3.0", 1, 1, 1},
    {"RENAME", 3, CMD_WRITE | CMD_ALONE, handle_cache_rename, "generic", "Renames a key; both names must share a group.", "key newkey", "0.3.0", 1, 2, 1},
    {"RENAMENX", 3, CMD_WRITE | CMD_ALONE, handle_cache_renamenx, "generic", "Renames a key to a name that does not exist.", "key newkey", "0.3.0", 1, 2, 1},
    {"COPY", -3, CMD_WRITE | CMD_ALONE, handle_cache_copy, "generic", "Copies a value to another key of its group.", "source destination [DB 0] [REPLACE]", "0.3.0",
     1, 2, 1},
    {"SETBIT", 4, CMD_WRITE, handle_cache_op, "bitmap", "Sets one bit of a value; returns what it was.", "key offset value", "0.3.0", 1, 1, 1},
    {"GETBIT", 3, CMD_READ | CMD_FAST, handle_cache_op, "bitmap", "Returns one bit of a value.", "key offset", "0.3.0", 1, 1, 1},
    {"BITCOUNT", -2, CMD_READ, handle_cache_op, "bitmap", "Counts the bits that are set.", "key [start end [BYTE | BIT]]", "0.3.0", 1, 1, 1},
    {"BITPOS", -3, CMD_READ, handle_cache_op, "bitmap", "Finds the first bit that is set, or clear.", "key bit [start [end [BYTE | BIT]]]", "0.3.0", 1, 1, 1},
    {"OBJECT", -2, CMD_READ, handle_cache_object, "generic", "Shows how a value is kept.", "<ENCODING | REFCOUNT | IDLETIME | FREQ> key | HELP", "0.3.0", 2, 2, 1},
    {"RANDOMKEY", 1, CMD_READ | CMD_ALONE, handle_randomkey, "generic", "Returns some key.", "", "0.3.0", 0, 0, 0},
    {"KEYS", 2, CMD_READ | CMD_ALONE, handle_keys, "generic", "Lists the keys that match a pattern.", "pattern", "0.3.0", 0, 0, 0},
    {"SCAN", -2, CMD_READ | CMD_ALONE, handle_scan, "generic", "Lists keys page by page.", "cursor [MATCH pattern] [COUNT count] [TYPE type]", "0.3.0", 0, 0, 0},
    {"FLUSHALL", -1, CMD_WRITE | CMD_ALONE, handle_cache_flushall, "server", "Deletes all keys.", "[ASYNC | SYNC]", "0.3.0", 0, 0, 0},
    {"FLUSHDB", -1, CMD_WRITE | CMD_ALONE, handle_cache_flushall, "server", "Deletes all keys.", "[ASYNC | SYNC]", "0.3.0", 0, 0, 0},
    {"EVAL", -3, CMD_WRITE, handle_eval, "script", "Runs a script of a known lock library; any other is refused.",
     "script numkeys [key [key ...]] [arg [arg ...]]", "0.3.0", 0, 0, 0},
    {"EVALSHA", -3, CMD_WRITE, handle_evalsha, "script", "The same by the SHA-1 of its text.", "sha1 numkeys [key [key ...]] [arg [arg ...]]", "0.3.0", 0, 0, 0},
    {"SCRIPT", -2, CMD_READ, handle_script, "script", "Loads a known script, says whether one is known, forgets those that were loaded.",
     "<LOAD script | EXISTS sha1 [sha1 ...] | FLUSH>", "0.3.0", 0, 0, 0},
    {"CACHE.GET", 2, CMD_READ | CMD_FAST, handle_cache_look, "cache", "Returns a value with its version, and the state of this node's line.", "key",
     "0.3.0", 1, 1, 1},
    {"CACHE.LEASE", -2, CMD_WRITE | CMD_BLOCKING, handle_cache_lease, "cache",
     "Returns a value; of a key that is missing it gives one caller the right to fill it, with SET ... FILL, and lets the others wait.",
     "key [WAIT milliseconds] [STALE milliseconds] [FILL milliseconds] [ABANDON token]", "0.3.0", 1, 1, 1},
    {"CACHE.STATE", 2, CMD_READ | CMD_ALONE, handle_cache_state, "cache", "Shows memory and directory of a key at its home, and its line on every node.", "key", "0.3.0", 1, 1, 1},
    {"CACHE.INVALIDATE", 2, CMD_WRITE, handle_cache_invalidate, "cache", "Drops the copies of a key on all nodes; returns how many there were.", "key",
     "0.3.0", 1, 1, 1},
    {"CACHE.FLUSH", 1, CMD_WRITE | CMD_ALONE, handle_cache_flush, "cache", "Writes this node's dirty lines to memory; answered when they are there.", "", "0.3.0", 0, 0, 0},
    {"CACHE.STATS", 1, CMD_READ, handle_cache_stats, "cache", "Counts lines, hits, misses, bus transactions and leases of this node.", "", "0.3.0",
     0, 0, 0},
    {"XADD", -5, CMD_WRITE | CMD_FAST, handle_xadd, "stream", "Appends an entry to a stream, which is made if there is none.",
     "key [NOMKSTREAM] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> field value [field value ...]", "0.2.0", 1, 1, 1},
    {"XLEN", 2, CMD_READ | CMD_FAST, handle_xlen, "stream", "Counts the entries of a stream.", "key", "0.2.0", 1, 1, 1},
    {"XRANGE", -4, CMD_READ, handle_xrange, "stream", "Reads entries between two ids.", "key start end [COUNT count]", "0.2.0", 1, 1, 1},
    {"XREVRANGE", -4, CMD_READ, handle_xrevrange, "stream", "Reads entries between two ids, newest first.", "key end start [COUNT count]",
     "0.2.0", 1, 1, 1},
    {"XREAD", -4, CMD_READ | CMD_BLOCKING, handle_xread, "stream", "Reads entries of streams behind given ids; may wait for them.",
     "[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]", "0.2.0", 0, 0, 0},
    {"XREADGROUP", -7, CMD_WRITE | CMD_BLOCKING, handle_xreadgroup, "stream", "Reads new or own pending entries for a consumer of a group.",
     "GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key id", "0.2.0", 0, 0, 0},
    {"XACK", -4, CMD_WRITE | CMD_FAST, handle_xack, "stream", "Acknowledges entries.", "key group id [id ...]", "0.2.0", 1, 1, 1},
    {"XDEL", -3, CMD_WRITE | CMD_FAST, handle_xdel, "stream", "Deletes entries.", "key id [id ...]", "0.2.0", 1, 1, 1},
    {"XTRIM", -4, CMD_WRITE, handle_xtrim, "stream", "Deletes the oldest entries.", "key <MAXLEN | MINID> [= | ~] threshold [LIMIT count]",
     "0.2.0", 1, 1, 1},
    {"XGROUP", -2, CMD_WRITE, handle_xgroup, "stream", "Makes, moves and destroys consumer groups; makes and deletes consumers.",
     "subcommand [argument ...]", "0.2.0", 2, 2, 1},
    {"XPENDING", -3, CMD_READ, handle_xpending, "stream", "Shows what was delivered and not acknowledged.",
     "key group [[IDLE milliseconds] start end count [consumer]]", "0.2.0", 1, 1, 1},
    {"XCLAIM", -6, CMD_WRITE | CMD_FAST, handle_xclaim, "stream", "Takes over pending entries.",
     "key group consumer min-idle-time id [id ...] [IDLE milliseconds] [TIME unix-time] [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID id]",
     "0.2.0", 1, 1, 1},
    {"XAUTOCLAIM", -6, CMD_WRITE | CMD_FAST, handle_xautoclaim, "stream", "Takes over pending entries that are idle for long.",
     "key group consumer min-idle-time start [COUNT count] [JUSTID]", "0.2.0", 1, 1, 1},
    {"XINFO", -2, CMD_READ, handle_xinfo, "stream", "Shows a stream, its groups or their consumers.", "<STREAM | GROUPS | CONSUMERS> key [group]",
     "0.2.0", 2, 2, 1},
    {"XSETID", -3, CMD_WRITE | CMD_FAST, handle_xsetid, "stream", "Sets a stream's last id.",
     "key last-id [ENTRIESADDED count] [MAXDELETEDID id]", "0.2.0", 1, 1, 1},
    {"CLUSTER.NODES", 1, CMD_READ, handle_cluster_nodes, "cluster", "Shows the members as this node sees them.", "", "0.1.0", 0, 0, 0},
    {"CLUSTER.GROUPS", 1, CMD_READ, handle_cluster_groups, "cluster", "Shows leader, term, commit and lag of each group.", "", "0.1.0", 0, 0, 0},
    {"CLUSTER.ADD", 2, CMD_WRITE | CMD_ADMIN, handle_cluster_add, "cluster", "Adds a member; groups move to it one server at a time.",
     "id@host:port", "0.1.0", 0, 0, 0},
    {"CLUSTER.REMOVE", 2, CMD_WRITE | CMD_ADMIN, handle_cluster_remove, "cluster", "Removes a member; its groups move away first.", "id",
     "0.1.0", 0, 0, 0},
    {"CLUSTER.TRANSFER", 3, CMD_WRITE | CMD_ADMIN, handle_cluster_transfer, "cluster", "Hands the leadership of a group to a node.",
     "group id", "0.1.0", 0, 0, 0},
    {"CLUSTER.REBALANCE", 1, CMD_WRITE | CMD_ADMIN, handle_cluster_rebalance, "cluster", "Moves every leadership to its place on the ring now.",
     "", "0.1.0", 0, 0, 0},
    {"CLUSTER", -2, CMD_READ, handle_cluster, "cluster", "Redis Cluster's command: answers that cluster mode is off; see CLUSTER.NODES.",
     "subcommand", "0.1.0", 0, 0, 0},
    {"PING", -1, CMD_FAST, handle_ping, "connection", "Answers PONG, or the message.", "[message]", "0.1.0", 0, 0, 0},
    {"ECHO", 2, CMD_FAST, handle_echo, "connection", "Answers the message.", "message", "0.1.0", 0, 0, 0},
    {"HELLO", -1, CMD_FAST | CMD_NO_AUTH | CMD_ALONE, handle_hello, "connection", "Chooses the protocol version; may authenticate and name.",
     "[protover [AUTH username password] [SETNAME clientname]]", "0.1.0", 0, 0, 0},
    {"AUTH", -2, CMD_FAST | CMD_NO_AUTH, handle_auth, "connection", "Authenticates the connection.", "[username] password", "0.1.0", 0, 0, 0},
    {"QUIT", -1, CMD_FAST | CMD_NO_AUTH, handle_quit, "connection", "Closes the connection.", "", "0.1.0", 0, 0, 0},
    {"RESET", 1, CMD_FAST | CMD_NO_AUTH | CMD_ALONE, handle_reset, "connection", "Brings the connection back to its first state.", "", "0.1.0", 0, 0, 0},
    {"SUBSCRIBE", -2, CMD_FAST, handle_subscribe, "connection", "Takes the invalidations of CLIENT TRACKING ... REDIRECT; there are no other channels.",
     "channel [channel ...]", "0.3.0", 0, 0, 0},
    {"UNSUBSCRIBE", -1, CMD_FAST, handle_unsubscribe, "connection", "Ends SUBSCRIBE.", "[channel [channel ...]]", "0.3.0", 0, 0, 0},
    {"SELECT", 2, CMD_FAST, handle_select, "connection", "Accepts database 0, the only one.", "index", "0.1.0", 0, 0, 0},
    {"CLIENT", -2, CMD_READ, handle_client, "connection", "Names, lists and closes client connections.", "subcommand [argument ...]", "0.1.0", 0,
     0, 0},
    {"COMMAND", -1, CMD_READ, handle_command, "server", "Describes the commands.", "[COUNT | LIST | INFO | DOCS | GETKEYS] [argument ...]",
     "0.1.0", 0, 0, 0},
    {"INFO", -1, CMD_READ, handle_info, "server", "Shows facts and counters of this node.", "[section ...]", "0.1.0", 0, 0, 0},
    {"CONFIG", -2, CMD_ADMIN, handle_config, "server", "Reads and sets run-time settings.", "<GET pattern ... | SET name value ... | RESETSTAT>",
     "0.1.0", 0, 0, 0},
    {"DBSIZE", 1, CMD_READ | CMD_ALONE, handle_dbsize, "server", "Counts the keys.", "", "0.1.0", 0, 0, 0},
    {"TIME", 1, CMD_FAST, handle_time, "server", "Shows this node's wall clock.", "", "0.1.0", 0, 0, 0},
    {"ROLE", 1, CMD_FAST, handle_role, "server", "Answers master: every node takes every command.", "", "0.1.0", 0, 0, 0},
    {"WAIT", 3, CMD_FAST, handle_wait, "server", "Answers how many replicas hold what was acknowledged: a majority always does.",
     "numreplicas timeout", "0.1.0", 0, 0, 0},
    {"SLOWLOG", -2, CMD_ADMIN, handle_slowlog, "server", "Shows slow commands.", "subcommand [argument]", "0.1.0", 0, 0, 0},
    {"LATENCY", -2, CMD_ADMIN, handle_latency, "server", "Shows latency spikes.", "subcommand [argument ...]", "0.1.0", 0, 0, 0},
    {"MEMORY", -2, CMD_READ, handle_memory, "server", "Estimates what a key costs in memory.", "<USAGE key [SAMPLES count] | DOCTOR | PURGE | HELP>", "0.1.0", 2, 2, 1},
    {"MODULE", -2, CMD_ADMIN, handle_module, "server", "Lists modules: there are none.", "LIST", "0.1.0", 0, 0, 0},
    {"SHUTDOWN", -1, CMD_ADMIN, handle_shutdown, "server", "Hands over leaderships and stops this node.", "[NOSAVE | SAVE]", "0.1.0", 0, 0, 0},
};

enum { COMMAND_COUNT = sizeof COMMANDS / sizeof COMMANDS[0], NAME_BYTES_MAX = 64 };

uint32_t command_count(void)
{
    return COMMAND_COUNT;
}

const struct command *command_at(uint32_t i)
{
    syn_assert(i < COMMAND_COUNT);
    return &COMMANDS[i];
}

static size_t upper(slice_t name, uint8_t *out)
{
    if (name.len > NAME_BYTES_MAX) {
        return 0;
    }
    for (size_t i = 0; i < name.len; i++) {
        uint8_t ch = name.ptr[i];
        out[i] = (uint8_t)(ch >= 'a' && ch <= 'z' ? ch - 32 : ch);
    }
    return name.len;
}

void commands_build(struct doors *d)
{
    uint32_t size = 16;
    while (size < COMMAND_COUNT * 4) {
        size *= 2;
    }
    d->table = calloc(size, sizeof *d->table);
    syn_assert(d->table != NULL);
    d->table_mask = size - 1;
    for (uint32_t i = 0; i < COMMAND_COUNT; i++) {
        uint32_t at = (uint32_t)hash_bytes(0, slice_str(COMMANDS[i].name)) & d->table_mask;
        while (d->table[at] != NULL) {
            at = (at + 1) & d->table_mask;
        }
        d->table[at] = &COMMANDS[i];
    }
}

void commands_fini(struct doors *d)
{
    free(d->table);
}

const struct command *command_find(const struct doors *d, slice_t name)
{
    uint8_t up[NAME_BYTES_MAX];
    slice_t s = slice_of(up, upper(name, up));
    uint32_t at = (uint32_t)hash_bytes(0, s) & d->table_mask;
    while (d->table[at] != NULL && !slice_eq(slice_str(d->table[at]->name), s)) {
        at = (at + 1) & d->table_mask;
    }
    return d->table[at];
}

void call_error(struct call *c, const char *word, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_clear(c->reply);
    resp_error(c->reply, word, "%s", text);
}

/* Redis' own words: the name and the first arguments, each cut to 128 bytes (I15). */
static void unknown_command(struct call *c)
{
    struct buf t = {0};
    size_t n0 = c->argv[0].len < 128 ? c->argv[0].len : 128;
    buf_printf(&t, "unknown command '%.*s', with args beginning with: ", (int)n0, (const char *)c->argv[0].ptr);
    for (uint32_t i = 1; i < c->argc && t.len < 128 + n0; i++) {
        size_t len = c->argv[i].len < 128 ? c->argv[i].len : 128;
        buf_printf(&t, "'%.*s' ", (int)len, (const char *)c->argv[i].ptr);
    }
    resp_error(c->reply, "ERR", "%.*s", (int)t.len, (const char *)t.ptr);
    buf_fini(&t);
}

static void wrong_arity(struct call *c)
{
    char name[NAME_BYTES_MAX + 1];
    size_t i = 0;
    for (; c->cmd->name[i] != '\0'; i++) {
        name[i] = (char)(c->cmd->name[i] >= 'A' && c->cmd->name[i] <= 'Z' ? c->cmd->name[i] + 32 : c->cmd->name[i]);
    }
    name[i] = '\0';
    call_error(c, "ERR", "wrong number of arguments for '%s' command", name);
}

static bool arity_ok(const struct command *cmd, uint32_t argc)
{
    return cmd->arity >= 0 ? argc == (uint32_t)cmd->arity : argc >= (uint32_t)-cmd->arity;
}

struct request *call_request(struct call *c, uint32_t group, enum request_kind kind, bool waits)
{
    struct request *r = request_new(c->n, group, kind, waits, door_done);
    r->conn = c->conn->id;
    r->metric = c->cmd->flags & CMD_WRITE ? METRIC_REQUEST_WRITE : METRIC_REQUEST_READ;
    return r;
}

/* Takes the reply place first: the request may be answered before request_submit returns. */
void call_submit(struct call *c, struct request *r)
{
    c->later = true;
    r->slot = c->slot;
    c->conn->slots[c->slot & (c->conn->slots_cap - 1)].req = r->seq;
    request_submit(c->n, r);
}

void door_done(struct node *n, struct request *r, slice_t reply)
{
    metrics_request(&n->metrics, r->metric, reply, n->now_ms - r->began_ms);
    struct conn *c = conn_find(n, r->conn);
    if (c != NULL) {
        conn_reply(n, c, r->slot, reply);
    }
}

bool call_alone(struct call *c)
{
    struct conn *conn = c->conn;
    c->again = conn->kind == DOOR_RESP && conn->first_slot + 1 < conn->next_slot;
    conn->alone = true;
    return !c->again;
}

/* A connection asks for one command more often than not. */
static const struct command *find_again(const struct doors *d, const struct command *last, slice_t name)
{
    return last != NULL && slice_ieq(name, last->name) ? last : command_find(d, name);
}

bool command_execute(struct call *c)
{
    struct node *n = c->n;
    struct conn *conn = c->conn;
    c->reply = &n->doors->scratch;
    buf_clear(c->reply);
    c->cmd = find_again(n->doors, conn->last_command, c->argv[0]);
    c->slot = call_take_slot(conn);
    n->doors->total_commands++;
    conn->commands++;
    if (c->cmd == NULL) {
        unknown_command(c);
    } else if (!arity_ok(c->cmd, c->argc)) {
        wrong_arity(c);
    } else if (!conn->authenticated && !(c->cmd->flags & CMD_NO_AUTH)) {
        call_error(c, "NOAUTH", "Authentication required.");
    } else if (!subscribed_refuses(c) && (!(c->cmd->flags & CMD_ALONE) || call_alone(c))) {
        conn->last_command = c->cmd;
        c->cmd->fn(c);
        if (conn->caching != 0 && c->cmd->fn != handle_client) {
            conn->caching = 0;
        }
    }
    if (c->again) {
        conn->next_slot--;
        return true;
    }
    if (!c->later) {
        slice_t reply = buf_slice(c->reply);
        metrics_request(&n->metrics, METRIC_REQUEST_LOCAL, reply, 0);
        conn_reply(n, conn, c->slot, reply);
    }
    return false;
}
