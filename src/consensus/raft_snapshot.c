/* Snapshots on their way to a follower that needs entries the log no longer has, and the log giving up what they cover.
 *
 * One chunk per follower is out at a time; the follower asks for the offset it wants, so a lost, doubled or late chunk
 * costs a round trip and nothing else, and nobody waits for a peer that is being sent a snapshot. A received chunk counts
 * once the node has it on disk, the snapshot once it is durable and restored (S15, S16).
 * Not responsible for making, storing or reading snapshots: the node does. Source: Ongaro 2014, 5. Keeps R6, R13. */
#include "consensus/raft.h"

void raft_peer_snapshot(struct consensus *c, struct raft_peer *p)
{
    syn_assert(c->role == ROLE_LEADER && c->snap_index >= c->log.prev_index);
    p->state = PEER_SNAPSHOT;
    p->snap_index = 0;
    p->snap_offset = 0;
    p->chunk_asked = p->chunk_ready = false;
    p->inflight_head = p->inflight_count = 0;
}

static void restart_sending(struct raft_peer *p)
{
    p->snap_index = 0;
    p->snap_offset = 0;
    p->chunk_asked = p->chunk_ready = false;
}

bool consensus_wants_chunk(struct consensus *c, node_id_t *to, uint64_t *snapshot_index, uint64_t *offset)
{
    if (c->role != ROLE_LEADER) {
        return false;
    }
    for (uint32_t i = 0; i < c->n_peers; i++) {
        struct raft_peer *p = &c->peers[i];
        if (p->state != PEER_SNAPSHOT && p->next <= c->log.prev_index) {
            raft_peer_snapshot(c, p);
        }
        if (p->state != PEER_SNAPSHOT || p->chunk_asked || !p->active) {
            continue;
        }
        if (p->snap_index == 0 || p->snap_index <= p->match) {
            p->snap_index = c->snap_index;
            p->snap_term = c->snap_term;
            p->snap_offset = 0;
        }
        p->chunk_asked = true;
        p->chunk_ms = c->now_ms;
        *to = p->id;
        *snapshot_index = p->snap_index;
        *offset = p->snap_offset;
        return true;
    }
    return false;
}

void consensus_chunk(struct consensus *c, node_id_t to, uint64_t snapshot_index, uint64_t offset, slice_t data, bool last)
{
    struct raft_peer *p = raft_peer(c, to);
    bool awaited = c->role == ROLE_LEADER && p != NULL && p->state == PEER_SNAPSHOT && p->chunk_asked && !p->chunk_ready &&
                   p->snap_index == snapshot_index && p->snap_offset == offset;
    if (!awaited) {
        return;
    }
    if (data.len == 0 && !last) {
        restart_sending(p); /* the file is gone: a newer snapshot took its place */
        p->chunk_asked = c->snap_index == snapshot_index; /* or could not be read: again after a while */
        return;
    }
    buf_clear(&p->chunk);
    buf_append_slice(&p->chunk, data);
    p->chunk_last = last;
    p->chunk_ready = true;
}

bool raft_take_chunk(struct consensus *c, struct raft_peer *p, struct consensus_msg *out)
{
    if (p->state != PEER_SNAPSHOT || !p->chunk_ready) {
        return false;
    }
    p->chunk_ready = false;
    p->chunk_ms = c->now_ms;
    out->type = MSG_SNAPSHOT;
    out->to = p->id;
    out->index = p->snap_index;
    out->log_term = p->snap_term;
    out->commit = c->commit;
    out->hint = p->snap_offset;
    out->quiesce = p->chunk_last;
    out->data = buf_slice(&p->chunk);
    return true;
}

/* A heartbeat reply while a chunk is out: it may have been lost. */
void raft_snapshot_beat(struct consensus *c, struct raft_peer *p)
{
    if (p->chunk_asked && c->now_ms >= p->chunk_ms + c->o.election_ms_max) {
        p->chunk_asked = p->chunk_ready = false;
    }
}

void raft_on_snapshot_reply(struct consensus *c, const struct consensus_msg *m)
{
    struct raft_peer *p = raft_peer(c, m->from);
    if (c->role != ROLE_LEADER || p == NULL) {
        return;
    }
    p->active = true;
    p->heard_ms = c->now_ms;
    if (p->state != PEER_SNAPSHOT || p->snap_index != m->index) {
        return;
    }
    if (m->reject) {
        restart_sending(p);
    } else if (m->hint != p->snap_offset) {
        p->snap_offset = m->hint;
        p->asked_ms = c->now_ms;
        p->chunk_asked = p->chunk_ready = false;
    }
}

uint64_t consensus_chunk_asked_ms(const struct consensus *c)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < c->n_peers && c->role == ROLE_LEADER; i++) {
        const struct raft_peer *p = &c->peers[i];
        at = p->state == PEER_SNAPSHOT && p->asked_ms > at ? p->asked_ms : at;
    }
    return at;
}

static void reply(struct consensus *c, uint64_t index, uint64_t wanted, bool reject)
{
    if (c->leader != 0 && c->role != ROLE_LEADER) {
        raft_push(c, (struct consensus_msg){.type = MSG_SNAPSHOT_REPLY, .to = c->leader, .term = c->term, .index = index,
                                            .hint = wanted, .reject = reject, .quiesce = !c->may_vote});
    }
}

static void install_reset(struct raft_install *in)
{
    buf_clear(&in->chunk);
    *in = (struct raft_install){.chunk = in->chunk};
}

/* True when the snapshot brings nothing: what it covers is here already. Then it is answered like an append. */
static bool ignore_covered(struct consensus *c, const struct consensus_msg *m)
{
    if (m->index > c->commit && raft_log_term(&c->log, m->index) != m->log_term) {
        return false;
    }
    uint64_t upto = m->index > c->commit ? m->index : c->commit;
    c->verified = upto > c->verified ? upto : c->verified;
    raft_commit_to(c, upto);
    c->ack_due = true;
    return true;
}

static bool ignore_chunk(const struct consensus *c, const struct consensus_msg *m)
{
    const struct raft_install *in = &c->install;
    bool older = in->index != 0 && m->index < in->index && m->term <= in->leader_term;
    return older || in->restoring || in->pending;
}

void raft_on_snapshot(struct consensus *c, const struct consensus_msg *m)
{
    struct raft_install *in = &c->install;
    if (in->restoring || ignore_covered(c, m) || ignore_chunk(c, m)) {
        return;
    }
    /* Another leader's snapshot of the same index has other bytes: its files have names of their own. */
    if (in->index != m->index || in->term != m->log_term || in->leader_term != m->term) {
        install_reset(in);
        in->index = m->index;
        in->term = m->log_term;
        in->leader_term = m->term;
    }
    if (m->hint != in->received) {
        reply(c, in->index, in->received, false);
        return;
    }
    buf_clear(&in->chunk);
    buf_append_slice(&in->chunk, m->data);
    in->pending = true;
    in->taken = false;
    in->last = m->quiesce;
    if (MUTANT("S15") && m->quiesce) {
        raft_push(c, (struct consensus_msg){.type = MSG_APPEND_REPLY, .to = m->from, .term = c->term, .index = m->index});
    }
}

bool consensus_take_install(struct consensus *c, struct consensus_install *out)
{
    struct raft_install *in = &c->install;
    if (!in->pending || in->taken) {
        return false;
    }
    if (in->index <= c->commit) { /* entries overtook the snapshot */
        install_reset(in);
        return false;
    }
    in->taken = true;
    in->restoring = in->last;
    *out = (struct consensus_install){.index = in->index, .term = in->term, .offset = in->received,
                                      .data = buf_slice(&in->chunk), .last = in->last};
    return true;
}

void consensus_install_progress(struct consensus *c, uint64_t index, uint64_t received)
{
    struct raft_install *in = &c->install;
    if (in->index != index || !in->pending || !in->taken || received < in->received) {
        return;
    }
    in->received = received;
    if (!in->last) {
        in->pending = false;
        reply(c, index, received, false);
    }
}

void consensus_install_failed(struct consensus *c, uint64_t index)
{
    if (c->install.index == index) {
        install_reset(&c->install);
        reply(c, index, 0, true);
    }
}

void consensus_installed(struct consensus *c, uint64_t index, uint64_t term, const struct consensus_config *config)
{
    if (c->install.index == index) {
        install_reset(&c->install);
    }
    if (index <= c->applied) {
        return;
    }
    if (raft_log_term(&c->log, index) == term) {
        /* "If instead the snapshot describes a prefix of its log, then entries following it are still valid" (7). */
        raft_log_drop(&c->log, index);
    } else {
        syn_assert(c->role != ROLE_LEADER && index > c->commit);
        c->verified = index;
        raft_cut(c, c->commit + 1); /* what is in flight now speaks for committed entries only */
        raft_log_restart(&c->log, index, term);
    }
    c->commit = index > c->commit ? index : c->commit;
    c->applied = index;
    c->snap_index = index;
    c->snap_term = term;
    c->unstable = c->unstable > index ? c->unstable : index + 1;
    c->durable = c->durable > index ? c->durable : index;
    c->verified = c->verified > index ? c->verified : index;
    if (raft_log_last(&c->log) == index) {
        raft_config_init(c, config, index);
    } else {
        raft_config_applied_to(c, index);
        c->configs[0] = (struct raft_config_at){.index = index, .config = *config};
    }
    c->ack_due = true;
}

uint64_t consensus_keep_from(const struct consensus *c, uint64_t index, uint64_t entries_max, uint64_t bytes_max)
{
    uint64_t low = c->log.prev_index + 1, high = index + 1;
    low = index > entries_max && index - entries_max > low ? index - entries_max : low;
    while (low < high) { /* the first from which on the bytes fit */
        uint64_t mid = low + (high - low) / 2;
        if (raft_log_bytes(&c->log, mid - 1, index) <= bytes_max) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return low;
}

void consensus_snapshot_made(struct consensus *c, uint64_t index, uint64_t term, uint64_t keep_from)
{
    syn_assert(index <= c->applied && index <= c->durable && keep_from <= index + 1);
    if (index <= c->snap_index) {
        return;
    }
    syn_assert(raft_log_term(&c->log, index) == term);
    c->snap_index = index;
    c->snap_term = term;
    if (keep_from > c->log.prev_index + 1) {
        raft_log_drop(&c->log, keep_from - 1);
    }
}
