/* Every message between nodes, declared once (docs/wire.md has the same table).
 *
 * A frame is u32 length, u32 crc32c of the body, then the body: a msgpack array of messages; each message is a msgpack
 * array [kind, fields...] in the order of its struct. One frame per peer and loop turn. Unknown kinds, missing or extra
 * fields, wrong types and trailing bytes refuse the whole frame (I34-I37, I39). */
#ifndef SYN_COMMUNICATION_MESSAGES_H
#define SYN_COMMUNICATION_MESSAGES_H

#include "consensus/consensus.h"
#include "utils/buf.h"

enum { PEER_WIRE_VERSION = 1, PEER_FRAME_HEADER_BYTES = 8 };

enum peer_kind {
    PEER_HELLO = 1,      /* first on every link, in both directions */
    PEER_CONSENSUS,      /* a consensus_msg of a group */
    PEER_FORWARD,        /* a command or query for a group that the sender believes the receiver leads */
    PEER_FORWARD_REPLY,
    PEER_PROBE,          /* deadlock edge chasing between groups */
    PEER_PLACEMENT,      /* the replica set and leader of a group, as its leader knows them */
    PEER_QUEUE_CHANGED,  /* a consumer group has a new assignment: the receiver's members of it join anew */
    PEER_CACHE,          /* messages between lines and homes (docs/cache.md) */
    PEER_KIND_MAX
};

struct peer_hello {
    uint32_t version;      /* PEER_WIRE_VERSION */
    uint64_t cluster_key;  /* must be equal: GROUPS, CONSENSUS_TYPE and the settings of the ring (H2) */
    uint64_t cluster_id;   /* made when the cluster was; 0: not known yet. Different ones are different clusters (H1) */
    node_id_t node;
    node_id_t to;          /* whom the sender means to talk to */
    uint64_t uuid;         /* of the data directory: a changed one is a node that lost its disk (P8) */
    uint64_t incarnation;  /* starts of that directory: an older one is a stale process (N13) */
    uint8_t fresh;         /* 1: its data directory remembered nothing when it started */
    slice_t name;
    slice_t client_host;   /* where its RESP and HTTP doors listen, for CLUSTER.NODES */
    uint32_t resp_port;
    uint32_t http_port;
    slice_t mac;           /* HMAC over the fields and the receiver's nonce when PEER_SECRET is set, else empty */
    uint64_t nonce;
};

enum forward_kind { FORWARD_WRITE = 1, FORWARD_READ = 2, FORWARD_ADMIN = 3 };
enum forward_status { FORWARD_OK = 0, FORWARD_NOT_LEADER = 1, FORWARD_BUSY = 2, FORWARD_NEED_ATTACH = 3, FORWARD_NOT_READY = 4, FORWARD_FULL = 5 };

struct peer_forward {
    uint8_t kind;          /* enum forward_kind */
    uint32_t group;
    uint64_t req;          /* sender's request number; echoed */
    slice_t payload;       /* service byte and operation, or query */
    uint64_t number;       /* ascending on a link, over FORWARD and FORWARD_REPLY: what is not is a copy, and dropped */
};

struct peer_forward_reply {
    uint64_t req;
    uint8_t status;        /* enum forward_status */
    node_id_t leader;      /* NOT_LEADER: who is, 0 when unknown */
    slice_t payload;       /* RESP3 bytes when OK */
    uint64_t number;       /* as in peer_forward */
};

struct peer_probe {
    uint64_t initiator_origin, initiator_seq; /* the waiting request that started the chase */
    uint32_t initiator_group;
    slice_t initiator_owner;
    slice_t target_owner;  /* whose waits the receiver is asked for */
    uint8_t hops;
    slice_t path;          /* text of the cycle so far, at most 1 KiB */
};

struct peer_placement {
    uint32_t group;
    node_id_t leader;
    uint64_t term;
    slice_t config;        /* consensus_config_encode */
};

struct peer_queue_changed {
    uint64_t topic;
    slice_t group;
    uint64_t generation;
};

struct peer_cache {
    slice_t messages;      /* one after the other (nodes/cache/cache_msg.h) */
};

struct peer_msg {
    enum peer_kind kind;
    union {
        struct peer_hello hello;
        struct consensus_msg consensus;
        struct peer_forward forward;
        struct peer_forward_reply forward_reply;
        struct peer_probe probe;
        struct peer_placement placement;
        struct peer_queue_changed queue_changed;
        struct peer_cache cache;
    } u;
};

#endif
