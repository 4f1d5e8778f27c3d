/* Everything a node counts, declared once: the text of /metrics, docs/metrics.md and the checks come from these tables.
 * Names follow Prometheus' conventions: base units, counters end in _total. */
#ifndef SYN_UTILS_METRICS_TABLE_H
#define SYN_UTILS_METRICS_TABLE_H

/* X(ID, type, name, labels, help). labels: NONE, or a bounded set below; every sample also carries node_id. */
#define METRICS_TABLE(X)                                                                                                  \
    X(REQUESTS_TOTAL, COUNTER, "synaxis_requests_total", REQUEST_STATUS, "Requests answered, by kind and outcome.")       \
    X(REQUEST_LATENCY_SECONDS, SECONDS, "synaxis_request_latency_seconds", REQUEST,                                       \
      "Time from a request's arrival at this node to its reply; waits for locks are included.")                           \
    X(REQUESTS_IN_FLIGHT, GAUGE, "synaxis_requests_in_flight", NONE, "Requests taken and not answered yet.")              \
    X(REQUESTS_PARKED, GAUGE, "synaxis_requests_parked", NONE, "Requests that wait for a leader to send them to.")        \
    X(REFUSED_TOTAL, COUNTER, "synaxis_refused_total", REASON, "Input refused, by reason.")                               \
    X(CONNECTIONS, GAUGE, "synaxis_connections", DOOR, "Open client connections.")                                        \
    X(CONNECTIONS_TOTAL, COUNTER, "synaxis_connections_total", DOOR, "Client connections accepted.")                      \
    X(BYTES_IN_TOTAL, COUNTER, "synaxis_bytes_in_total", NONE, "Bytes received from clients.")                            \
    X(BYTES_OUT_TOTAL, COUNTER, "synaxis_bytes_out_total", NONE, "Bytes sent to clients.")                                \
    X(ACTIVE_LOCKS, GAUGE, "synaxis_active_locks", LOCK_TYPE, "Grants held, in the groups this node replicates.")         \
    X(LOCK_RESOURCES, GAUGE, "synaxis_lock_resources", NONE, "Resources that are held or awaited.")                       \
    X(LOCK_WAITERS, GAUGE, "synaxis_lock_waiters", NONE, "Requests that wait for a lock.")                                \
    X(SESSIONS, GAUGE, "synaxis_sessions", NONE, "Live sessions.")                                                        \
    X(LOCK_GRANTS_TOTAL, COUNTER, "synaxis_lock_grants_total", NONE, "Locks granted.")                                    \
    X(LOCK_RELEASES_TOTAL, COUNTER, "synaxis_lock_releases_total", NONE, "Locks released by their holders.")              \
    X(LOCK_TIMEOUTS_TOTAL, COUNTER, "synaxis_lock_timeouts_total", NONE, "Waits that ran out of time.")                   \
    X(LOCK_DEADLOCKS_TOTAL, COUNTER, "synaxis_lock_deadlocks_total", NONE, "Waits refused because they closed a cycle.")  \
    X(LOCK_EXPIRATIONS_TOTAL, COUNTER, "synaxis_lock_expirations_total", NONE, "Locks and sessions whose time ran out.")  \
    X(LOCK_FORCED_TOTAL, COUNTER, "synaxis_lock_forced_total", NONE, "Locks taken away by LOCK.FORCE.")                   \
    X(LOCK_STALE_TOTAL, COUNTER, "synaxis_lock_stale_total", NONE, "Commands that named a lock no longer held.")          \
    X(LOCK_STATE_BYTES, GAUGE, "synaxis_lock_state_bytes", NONE, "Memory of the lock tables, estimated.")                 \
    X(QUEUE_TOPICS, GAUGE, "synaxis_queue_topics", NONE, "Topics; 0 where group 0 is not replicated.")                    \
    X(QUEUE_PARTITIONS, GAUGE, "synaxis_queue_partitions", NONE, "Partitions in the groups this node replicates.")        \
    X(QUEUE_SIZE, GAUGE, "synaxis_queue_size", NONE,                                                                      \
      "Messages not yet given to every consumer group (nor any, without groups); of one topic: QUEUE.INFO.")              \
    X(QUEUE_BYTES, GAUGE, "synaxis_queue_bytes", NONE, "Bytes of these messages.")                                        \
    X(QUEUE_YOUNG_BYTES, GAUGE, "synaxis_queue_young_bytes", NONE,                                                        \
      "Bytes of messages in memory that the disk has not taken yet.")                                                     \
    X(QUEUE_STATE_BYTES, GAUGE, "synaxis_queue_state_bytes", NONE, "Memory of partitions and positions, estimated.")      \
    X(QUEUE_IN_FLIGHT, GAUGE, "synaxis_queue_in_flight", NONE, "Deliveries neither acknowledged nor over.")               \
    X(QUEUE_DEAD, GAUGE, "synaxis_queue_dead", NONE, "Dead letters that were not redriven.")                              \
    X(QUEUE_PUBLISHED_TOTAL, COUNTER, "synaxis_queue_published_total", NONE, "Messages published.")                       \
    X(QUEUE_DUPLICATES_TOTAL, COUNTER, "synaxis_queue_duplicates_total", NONE,                                            \
      "Publishes whose producer id was known: stored once.")                                                              \
    X(QUEUE_DELIVERIES_TOTAL, COUNTER, "synaxis_queue_deliveries_total", NONE, "Deliveries to consumers.")                \
    X(QUEUE_REDELIVERIES_TOTAL, COUNTER, "synaxis_queue_redeliveries_total", NONE,                                        \
      "Deliveries of messages that were delivered before.")                                                               \
    X(QUEUE_ACKED_TOTAL, COUNTER, "synaxis_queue_acked_total", NONE, "Deliveries acknowledged.")                          \
    X(QUEUE_NACKED_TOTAL, COUNTER, "synaxis_queue_nacked_total", NONE, "Deliveries refused by their consumers.")          \
    X(QUEUE_DEAD_LETTERS_TOTAL, COUNTER, "synaxis_queue_dead_letters_total", NONE, "Messages that died.")                 \
    X(QUEUE_REDRIVEN_TOTAL, COUNTER, "synaxis_queue_redriven_total", NONE, "Dead letters made available again.")          \
    X(QUEUE_EXPIRED_TOTAL, COUNTER, "synaxis_queue_expired_total", NONE,                                                  \
      "Messages gone by RETENTION or MAXAGE before all had consumed them.")                                               \
    X(QUEUE_STALE_RECEIPTS_TOTAL, COUNTER, "synaxis_queue_stale_receipts_total", NONE,                                    \
      "Settlements of deliveries that were over.")                                                                        \
    X(QUEUE_CONSUMER_GROUPS, GAUGE, "synaxis_queue_consumer_groups", NONE,                                                \
      "Consumer groups with members, or that had some; 0 where group 0 is not replicated.")                               \
    X(QUEUE_MEMBERS, GAUGE, "synaxis_queue_consumer_group_members", NONE, "Live members of consumer groups.")             \
    X(QUEUE_REBALANCES_TOTAL, COUNTER, "synaxis_queue_rebalances_total", NONE,                                            \
      "Changes of a consumer group's assignment.")                                                                        \
    X(QUEUE_MEMBERS_EXPIRED_TOTAL, COUNTER, "synaxis_queue_members_expired_total", NONE,                                  \
      "Members not heard of for their TTL.")                                                                              \
    X(CACHE_HITS_TOTAL, COUNTER, "synaxis_cache_hits_total", NONE, "Reads answered from a line of this node, at once.")   \
    X(CACHE_MISSES_TOTAL, COUNTER, "synaxis_cache_misses_total", NONE,                                                    \
      "Reads that had to wait for a line; with the hits, all reads of keys.")                                             \
    X(CACHE_BUS_TRANSACTIONS_TOTAL, COUNTER, "synaxis_cache_bus_transactions_total", TRANSACTION,                         \
      "What this node asked of the homes of keys, by kind.")                                                              \
    X(CACHE_LINES, GAUGE, "synaxis_cache_lines", STATE,                                                                   \
      "Lines of this node by state; I: those that wait for their place to be used again, since their lease is over.")     \
    X(CACHE_BYTES, GAUGE, "synaxis_cache_bytes", NONE, "Bytes of all lines, as CACHE_SIZE counts them.")                  \
    X(CACHE_EVICTIONS_TOTAL, COUNTER, "synaxis_cache_evictions_total", NONE, "Lines that went since CACHE_SIZE was full.") \
    X(CACHE_INVALIDATIONS_TOTAL, COUNTER, "synaxis_cache_invalidations_total", NONE,                                      \
      "Lines that went since somebody else wrote or wanted to own the key.")                                              \
    X(CACHE_DOWNGRADES_TOTAL, COUNTER, "synaxis_cache_downgrades_total", NONE,                                            \
      "Lines that went from owned to shared since somebody else read the key.")                                           \
    X(CACHE_FLUSHES_TOTAL, COUNTER, "synaxis_cache_flushes_total", NONE, "Dirty lines sent to memory.")                   \
    X(CACHE_WRITES_LOST_TOTAL, COUNTER, "synaxis_cache_writes_lost_total", NONE,                                          \
      "Dirty lines that memory refused: it has something newer.")                                                         \
    X(CACHE_LEASE_EXPIRIES_TOTAL, COUNTER, "synaxis_cache_lease_expiries_total", NONE,                                    \
      "Leases of groups that ended: in time, or since another home leads.")                                               \
    X(CACHE_SERVED_TRANSACTIONS_TOTAL, COUNTER, "synaxis_cache_served_transactions_total", TRANSACTION,                   \
      "What was asked of this node as the home of keys, by kind.")                                                        \
    X(CACHE_SENT_INVALIDATIONS_TOTAL, COUNTER, "synaxis_cache_sent_invalidations_total", NONE,                            \
      "Rounds of invalidations begun as a home; each asks every node that may have the key.")                             \
    X(CACHE_SENT_DOWNGRADES_TOTAL, COUNTER, "synaxis_cache_sent_downgrades_total", NONE,                                  \
      "Owners asked as a home to share their line.")                                                                      \
    X(CACHE_FENCES_TOTAL, COUNTER, "synaxis_cache_fences_total", NONE, "Keys fenced as a home after their owner's lease.") \
    X(CACHE_LEASES_GRANTED_TOTAL, COUNTER, "synaxis_cache_leases_granted_total", NONE, "Leases granted as a home.")       \
    X(CACHE_ACKS_OVERDUE_TOTAL, COUNTER, "synaxis_cache_acks_overdue_total", NONE,                                        \
      "Nodes that a home waited for until their lease was over.")                                                         \
    X(CACHE_DIRECTORY_KEYS, GAUGE, "synaxis_cache_directory_keys", NONE, "Keys this node knows copies of as their home.") \
    X(CACHE_MEMORY_KEYS, GAUGE, "synaxis_cache_memory_keys", NONE, "Keys in the groups this node replicates.")            \
    X(CACHE_MEMORY_BYTES, GAUGE, "synaxis_cache_memory_bytes", NONE, "Bytes of these keys and their values, as the bound of memory counts them.") \
    X(CACHE_MEMORY_BOUND_BYTES, GAUGE, "synaxis_cache_memory_bound_bytes", NONE,                                          \
      "Bytes that they may take, rights to fill and last values included: CACHE_MEMORY's part for the groups replicated here.") \
    X(CACHE_MEMORY_EXPIRING, GAUGE, "synaxis_cache_memory_keys_with_expiry", NONE, "Keys of these that have a time to live.") \
    X(CACHE_MEMORY_EXPIRED_TOTAL, COUNTER, "synaxis_cache_memory_expired_total", NONE, "Keys deleted since their time was over.") \
    X(CACHE_FLUSHES_REFUSED_TOTAL, COUNTER, "synaxis_cache_flushes_refused_total", NONE,                                  \
      "Flushes that a memory of this node refused.")                                                                      \
    X(CACHE_TRACKING_CLIENTS, GAUGE, "synaxis_cache_tracking_clients", NONE, "Connections with CLIENT TRACKING on.")      \
    X(CACHE_TRACKING_KEYS, GAUGE, "synaxis_cache_tracking_keys", NONE, "Keys whose change will be told to a connection.")  \
    X(CONSENSUS_GROUPS_LED, GAUGE, "synaxis_consensus_groups_led", NONE, "Groups this node leads.")                       \
    X(CONSENSUS_ELECTIONS_TOTAL, COUNTER, "synaxis_consensus_elections_total", NONE, "Elections this node stood in.")     \
    X(CONSENSUS_LEADER_CHANGES_TOTAL, COUNTER, "synaxis_consensus_leader_changes_total", NONE,                            \
      "Changes of a group's leader that this node saw.")                                                                  \
    X(CONSENSUS_VIEW_CHANGES_TOTAL, COUNTER, "synaxis_consensus_view_changes_total", NONE, "PBFT view changes.")          \
    X(CONSENSUS_PROPOSALS_TOTAL, COUNTER, "synaxis_consensus_proposals_total", NONE, "Entries proposed as leader.")       \
    X(CONSENSUS_BATCH_ENTRIES, AMOUNT, "synaxis_consensus_batch_entries", NONE, "Entries applied by a group in one turn.") \
    X(SNAPSHOTS_TOTAL, COUNTER, "synaxis_snapshots_total", NONE, "Snapshots written.")                                    \
    X(SNAPSHOT_INSTALLS_TOTAL, COUNTER, "synaxis_snapshot_installs_total", NONE, "Snapshots received and installed.")     \
    X(WAL_FSYNC_SECONDS, SECONDS, "synaxis_wal_fsync_seconds", NONE, "Time to make one batch of the log durable.")        \
    X(WAL_BYTES_TOTAL, COUNTER, "synaxis_wal_bytes_total", NONE, "Bytes written to the log.")                             \
    X(WAL_SIZE_BYTES, GAUGE, "synaxis_wal_size_bytes", NONE, "Size of the log's segments.")                               \
    X(WAL_SPACE_LOW, GAUGE, "synaxis_wal_space_low", NONE, "1 while writes are refused for want of disk space.")          \
    X(PEER_LINKS, GAUGE, "synaxis_peer_links", NONE, "Peers with a working connection.")                                  \
    X(PEER_FRAMES_IN_TOTAL, COUNTER, "synaxis_peer_frames_in_total", NONE, "Frames received from peers.")                 \
    X(PEER_FRAMES_OUT_TOTAL, COUNTER, "synaxis_peer_frames_out_total", NONE, "Frames sent to peers.")                     \
    X(PEER_BYTES_IN_TOTAL, COUNTER, "synaxis_peer_bytes_in_total", NONE, "Bytes received from peers.")                    \
    X(PEER_BYTES_OUT_TOTAL, COUNTER, "synaxis_peer_bytes_out_total", NONE, "Bytes sent to peers.")                        \
    X(CLUSTER_NODES, GAUGE, "synaxis_cluster_nodes", NONE, "Members of the cluster.")                                     \
    X(CLUSTER_NODES_ALIVE, GAUGE, "synaxis_cluster_nodes_alive", NONE, "Members this node hears from, itself included.")  \
    X(LOG_LINES_HELD_BACK_TOTAL, COUNTER, "synaxis_log_lines_held_back_total", NONE, "Log lines the rate limit dropped.")

/* X(ID, name, help): gauges of each group replicated here, labelled with its number. */
#define METRICS_GROUP_TABLE(X)                                                                                            \
    X(TERM, "synaxis_consensus_term", "Current term (Raft) or view (PBFT).")                                              \
    X(ROLE, "synaxis_consensus_role", "0 follower, 1 pre-candidate, 2 candidate, 3 leader, 4 learner.")                   \
    X(COMMIT_INDEX, "synaxis_consensus_commit_index", "Index of the newest entry known to be committed.")                 \
    X(APPLIED_INDEX, "synaxis_consensus_applied_index", "Index of the newest entry applied to the state machine.")        \
    X(LOG_ENTRIES, "synaxis_consensus_log_entries", "Entries of the log that no durable snapshot covers.")

/* The bounded label sets. A label's value is never something a client chose. X(ID, value) */
#define METRICS_REQUEST_TYPES(X) X(READ, "read") X(WRITE, "write") X(LOCAL, "local") X(ADMIN, "admin")
#define METRICS_LOCK_TYPES(X) X(SHARED, "shared") X(EXCLUSIVE, "exclusive")
#define METRICS_DOORS(X) X(RESP, "resp") X(HTTP, "http")
#define METRICS_TRANSACTIONS(X) X(RD, "BusRd") X(RDX, "BusRdX") X(UPGR, "BusUpgr") X(FLUSH, "Flush") X(WRITE, "write")
/* As in MESI_STATE_NAMES. */
#define METRICS_STATES(X)                                                                                                 \
    X(I, "I") X(S, "S") X(E, "E") X(M, "M") X(IS, "IS") X(ISI, "ISI") X(IM, "IM") X(SM, "SM") X(EM, "EM") X(MI, "MI")     \
    X(MS, "MS") X(MF, "MF")
/* X(ID, value, what it is) */
#define METRICS_REASONS(X)                                                                                                \
    X(RESP, "resp", "Bytes on the RESP port that are not RESP.")                                                          \
    X(HTTP, "http", "A request that is not HTTP/1.1 as RFC 9112 has it.")                                                 \
    X(JSON, "json", "A body that is not the JSON the path takes.")                                                        \
    X(ARGUMENT, "argument", "A command that is unknown, or has a bad argument.")                                          \
    X(LIMIT, "limit", "Something beyond a limit.")                                                                        \
    X(AUTH, "auth", "A wrong password.")                                                                                  \
    X(NOAUTH, "noauth", "A command before authentication, or too late a one.")                                            \
    X(CROSS_PROTOCOL, "cross_protocol", "HTTP on the RESP or peer port.")                                                 \
    X(CROSS_SITE, "cross_site", "An HTTP request that a browser sent for a page of another site.")                        \
    X(CONNECTIONS, "connections", "A connection beyond the limit.")                                                       \
    X(OUTPUT, "output", "A connection closed because its client did not read.")                                           \
    X(SLOW, "slow", "A request that took too long to arrive.")                                                            \
    X(BUSY, "busy", "A request beyond what the node takes on at once.")                                                   \
    X(PEER, "peer", "A frame of a peer that is unknown, not authenticated, or malformed.")                                \
    X(REPLAY, "replay", "A frame that was seen before.")                                                                  \
    X(FORWARD, "forward", "A forwarded request that is malformed.")                                                       \
    X(ENTRY, "entry", "A committed entry that is malformed and was not applied.")                                         \
    X(SNAPSHOT, "snapshot", "A piece of a snapshot that does not fit.")

#endif
