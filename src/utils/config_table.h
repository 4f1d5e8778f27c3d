/* Every setting of a node, declared once: the parser, `synaxis server --help` and docs/settings.md come from this table. */
#ifndef SYN_UTILS_CONFIG_TABLE_H
#define SYN_UTILS_CONFIG_TABLE_H

/* X(NAME, type, default, min, max, choices, meaning)
 *   TEXT     bytes without control characters, at most max long       SECRET  the same, never shown; NAME_FILE reads it
 *   NAME     a node's name                                            MEMBERS id@host:port,... or host:port,...
 *   HOST     a name or address                                        NUMBER  min to max
 *   PORT     min to max (min 0: 0 switches it off)                    MS      a duration, min to max milliseconds
 *   CHOICE   one of choices, separated by |                           ROLES   some of choices, separated by commas
 *   CAPACITY entries, or bytes when it has a unit                     BYTES  min to max bytes */
#define CONFIG_TABLE(X)                                                                                                   \
    X(NODE_ID, NAME, "", 0, 63, "",                                                                                       \
      "This node's name, one of those in CLUSTER_NODES. n1 when CLUSTER_NODES is not set.")                               \
    X(NODE_HOST, HOST, "127.0.0.1", 0, 255, "",                                                                           \
      "Address to listen on. Beyond loopback only with a password for clients and a secret for peers.")                   \
    X(NODE_PORT, PORT, "8000", 1, 65535, "", "HTTP: API, health, metrics, console.")                                      \
    X(NODE_TYPE, ROLES, "lock_manager,queue_node,cache_node", 0, 0, "lock_manager|queue_node|cache_node",                 \
      "Which services this node serves.")                                                                                 \
    X(CLUSTER_NODES, MEMBERS, "", 0, 65536, "",                                                                           \
      "All members and their peer addresses, the same on each: id@host:port,... or host:port,... (then n1, n2, ... in "   \
      "this order). Not set: a cluster of one node.")                                                                     \
    X(RESP_PORT, PORT, "7379", 1, 65535, "", "Redis protocol, for clients.")                                              \
    X(PEER_PORT, PORT, "7380", 1, 65535, "", "For the other nodes. Not set: the port of this node in CLUSTER_NODES.")     \
    X(METRICS_PORT, PORT, "0", 0, 65535, "", "A second port for /metrics; 0: on NODE_PORT only.")                         \
    X(DATA_DIR, TEXT, "data", 0, 1023, "", "Directory of the log and snapshots; one node's own.")                         \
    X(STATE_STORE, CHOICE, "embedded", 0, 0, "embedded|redis",                                                            \
      "Where log and snapshots live: in DATA_DIR, or in the Redis server of REDIS_URL.")                                  \
    X(REDIS_URL, SECRET, "", 0, 1023, "", "redis://[user:password@]host:port[/db], for STATE_STORE=redis.")               \
    X(CONSENSUS_TYPE, CHOICE, "raft", 0, 0, "raft|pbft",                                                                  \
      "raft survives crashes of a minority; pbft survives f lying members of 3f+1.")                                      \
    X(ELECTION_TIMEOUT_MIN, MS, "150", 10, 60000, "", "A follower that hears no leader for so long stands for election.") \
    X(ELECTION_TIMEOUT_MAX, MS, "300", 10, 120000, "", "Upper end of the random election time-out.")                      \
    X(HEARTBEAT_INTERVAL, MS, "50", 1, 30000, "", "How often a leader shows that it lives; below ELECTION_TIMEOUT_MIN.")  \
    X(REQUEST_TIMEOUT, MS, "3000", 10, 600000, "", "How long a request waits for a leader before it is answered LOADING.") \
    X(MAX_RETRIES, NUMBER, "3", 0, 100, "", "How often a request is sent on again when its leader changes.")              \
    X(REPLICATION_FACTOR, NUMBER, "3", 1, 15, "", "Replicas of each group; at most the number of nodes.")                 \
    X(MIN_QUORUM, NUMBER, "0", 0, 15, "",                                                                                 \
      "Refuse to start when the majority of REPLICATION_FACTOR is smaller than this; 0: any. It never changes what a "    \
      "majority is.")                                                                                                     \
    X(GROUPS, NUMBER, "0", 0, 1024, "",                                                                                   \
      "Consensus groups, fixed when the cluster is created; 0: two per node.")                                            \
    X(NUM_PARTITIONS, NUMBER, "6", 1, 4096, "", "Partitions of a topic that does not say.")                               \
    X(VIRTUAL_NODES, NUMBER, "128", 1, 4096, "", "Points of each node on the hash ring; the same on every node.")         \
    X(ACK_TIMEOUT, MS, "30000", 1, 86400000, "", "Visibility time-out: an unacknowledged message is delivered again.")    \
    X(MAX_DELIVERY_ATTEMPTS, NUMBER, "5", 1, 1000, "", "Deliveries before a message goes to the dead letter topic.")      \
    X(LOCK_TTL, MS, "30000", 10, 86400000, "", "Time to live of a lock or session that names none.")                      \
    X(CACHE_SIZE, CAPACITY, "64mb", 1, 1099511627776, "", "Cache of this node: entries (1000) or bytes (64mb).")          \
    X(CACHE_MEMORY, BYTES, "8gb", 1048576, 1099511627776, "",                                                             \
      "Memory behind the cache, of all keys: beyond it writes are refused (OOM), nothing is evicted. The same on every node; a group's part follows its leader.") \
    X(CACHE_POLICY, CHOICE, "lru", 0, 0, "lru|s3fifo",                                                                    \
      "Which line goes when the cache is full: lru, or s3fifo, which lets a scan pass by.")                               \
    X(CACHE_WRITE_POLICY, CHOICE, "through", 0, 0, "through|back",                                                        \
      "Fixed when the cluster is created. through: a write is acknowledged once replicated. back: at once; a crash loses what was not flushed yet.") \
    X(CACHE_FLUSH_INTERVAL, MS, "1000", 10, 600000, "", "back: the oldest unflushed write is at most this old.")          \
    X(CACHE_LEASE, MS, "2000", 100, 60000, "",                                                                            \
      "How long a node may serve its cached lines without hearing from home. Fixed when the cluster is created.")          \
    X(LOG_LEVEL, CHOICE, "info", 0, 0, "debug|info|warn|error", "Log lines below this are not written.")                  \
    X(LOG_FORMAT, CHOICE, "auto", 0, 0, "text|json|auto", "auto: text on a terminal, JSON lines elsewhere.")              \
    X(TLS_CERT, TEXT, "", 0, 1023, "", "Certificate chain (PEM file); with TLS_KEY, all ports speak TLS.")                \
    X(TLS_KEY, TEXT, "", 0, 1023, "", "Private key of TLS_CERT (PEM file).")                                              \
    X(TLS_CA, TEXT, "", 0, 1023, "", "Authority that peers' certificates must come from (PEM file).")                     \
    X(REQUIREPASS, SECRET, "", 0, 255, "", "Password of clients (AUTH, HTTP basic); empty: none needed.")                 \
    X(ACL_FILE, TEXT, "", 0, 1023, "", "File of users, their passwords and permissions.")                                 \
    X(PEER_SECRET, SECRET, "", 16, 255, "", "Shared by all nodes; a peer proves that it knows it.")                       \
    X(PEER_KEYS, TEXT, "", 0, 1023, "", "Directory of the peers' public keys and this node's own (synaxis keygen).")

#endif
