/* The fields of every message between nodes, once: encoder, decoder and docs/wire.md's table all walk these rows.
 *
 * F(message, member, type, max): max is the greatest number for integers, the greatest length for BYTES. */
#ifndef SYN_COMMUNICATION_PEER_FIELDS_H
#define SYN_COMMUNICATION_PEER_FIELDS_H

#define PEER_FIELDS(F) \
    F(HELLO, u.hello.version, U32, UINT32_MAX) \
    F(HELLO, u.hello.cluster_key, U64, UINT64_MAX) \
    F(HELLO, u.hello.cluster_id, U64, UINT64_MAX) \
    F(HELLO, u.hello.node, U32, UINT32_MAX - 1) \
    F(HELLO, u.hello.to, U32, UINT32_MAX - 1) \
    F(HELLO, u.hello.uuid, U64, UINT64_MAX) \
    F(HELLO, u.hello.incarnation, U64, UINT64_MAX) \
    F(HELLO, u.hello.fresh, U8, 1) \
    F(HELLO, u.hello.name, BYTES, 63) \
    F(HELLO, u.hello.client_host, BYTES, 255) \
    F(HELLO, u.hello.resp_port, U32, 65535) \
    F(HELLO, u.hello.http_port, U32, 65535) \
    F(HELLO, u.hello.mac, BYTES, 32) \
    F(HELLO, u.hello.nonce, U64, UINT64_MAX) \
    F(CONSENSUS, u.consensus.type, U32, MSG_CONSENSUS_MAX - 1) \
    F(CONSENSUS, u.consensus.group, U32, UINT32_MAX) \
    F(CONSENSUS, u.consensus.from, U32, UINT32_MAX - 1) \
    F(CONSENSUS, u.consensus.to, U32, UINT32_MAX - 1) \
    F(CONSENSUS, u.consensus.term, U64, UINT64_MAX) \
    F(CONSENSUS, u.consensus.index, U64, UINT64_MAX) \
    F(CONSENSUS, u.consensus.log_term, U64, UINT64_MAX) \
    F(CONSENSUS, u.consensus.commit, U64, UINT64_MAX) \
    F(CONSENSUS, u.consensus.ctx, U64, UINT64_MAX) \
    F(CONSENSUS, u.consensus.hint, U64, UINT64_MAX) \
    F(CONSENSUS, u.consensus.reject, BOOL, 1) \
    F(CONSENSUS, u.consensus.quiesce, BOOL, 1) \
    F(CONSENSUS, u.consensus.n_entries, U32, UINT32_MAX) \
    F(CONSENSUS, u.consensus.data, BYTES, LIMIT_FRAME_BYTES) \
    F(FORWARD, u.forward.kind, U8, FORWARD_ADMIN) \
    F(FORWARD, u.forward.group, U32, UINT32_MAX) \
    F(FORWARD, u.forward.req, U64, UINT64_MAX) \
    F(FORWARD, u.forward.payload, BYTES, LIMIT_FRAME_BYTES) \
    F(FORWARD, u.forward.number, U64, UINT64_MAX) \
    F(FORWARD_REPLY, u.forward_reply.req, U64, UINT64_MAX) \
    F(FORWARD_REPLY, u.forward_reply.status, U8, FORWARD_FULL) \
    F(FORWARD_REPLY, u.forward_reply.leader, U32, UINT32_MAX - 1) \
    F(FORWARD_REPLY, u.forward_reply.payload, BYTES, LIMIT_FRAME_BYTES) \
    F(FORWARD_REPLY, u.forward_reply.number, U64, UINT64_MAX) \
    F(PROBE, u.probe.initiator_origin, U64, UINT64_MAX) \
    F(PROBE, u.probe.initiator_seq, U64, UINT64_MAX) \
    F(PROBE, u.probe.initiator_group, U32, UINT32_MAX) \
    F(PROBE, u.probe.initiator_owner, BYTES, LIMIT_OWNER_BYTES) \
    F(PROBE, u.probe.target_owner, BYTES, LIMIT_OWNER_BYTES) \
    F(PROBE, u.probe.hops, U8, 255) \
    F(PROBE, u.probe.path, BYTES, 1024) \
    F(PLACEMENT, u.placement.group, U32, UINT32_MAX) \
    F(PLACEMENT, u.placement.leader, U32, UINT32_MAX - 1) \
    F(PLACEMENT, u.placement.term, U64, UINT64_MAX) \
    F(PLACEMENT, u.placement.config, BYTES, 1024) \
    F(QUEUE_CHANGED, u.queue_changed.topic, U64, UINT64_MAX) \
    F(QUEUE_CHANGED, u.queue_changed.group, BYTES, LIMIT_KEY_BYTES) \
    F(QUEUE_CHANGED, u.queue_changed.generation, U64, UINT64_MAX) \
    F(CACHE, u.cache.messages, BYTES, LIMIT_FRAME_BYTES)

#endif
