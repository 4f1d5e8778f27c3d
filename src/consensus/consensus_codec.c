/* Bytes of what an agreement protocol exchanges: entries, configurations, and the check of a message that came from outside.
 *
 * Not responsible for framing (communication/peer_codec.c) or for log records (storage/log_codec.c). Stateless: whatever
 * needs the replica's state is refused in the handlers. Source: docs/raft.md, "Message table".
 * Invariant: a message that passes consensus_msg_invalid can reach no assert in any handler. */
#include "consensus/consensus.h"
#include "utils/assert.h"

enum { APPEND_DATA_BYTES_MAX = 1 << 30 };
/* Indexes and terms stay far from where adding to them could wrap. */
static const uint64_t NUMBER_MAX = UINT64_C(1) << 62;

void consensus_config_encode(const struct consensus_config *c, struct buf *out)
{
    syn_assert(c->count <= CONSENSUS_MEMBERS_MAX);
    buf_put_u8(out, (uint8_t)c->count);
    for (uint32_t i = 0; i < c->count; i++) {
        buf_put_u32(out, c->members[i].id);
        buf_put_u8(out, c->members[i].voter ? 1 : 0);
        buf_put_u64(out, c->members[i].disk);
    }
}

bool consensus_config_decode(slice_t s, struct consensus_config *out)
{
    struct reader r = reader_of(s);
    *out = (struct consensus_config){.count = reader_u8(&r)};
    if (!r.ok || out->count > CONSENSUS_MEMBERS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < out->count; i++) {
        struct consensus_member *m = &out->members[i];
        m->id = reader_u32(&r);
        uint8_t voter = reader_u8(&r);
        m->voter = voter == 1;
        m->disk = reader_u64(&r);
        if (!r.ok || m->id == 0 || voter > 1) {
            return false;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (out->members[k].id == m->id) {
                return false;
            }
        }
    }
    return reader_done(&r);
}

void entry_encode(struct buf *out, uint64_t term, enum entry_type type, slice_t payload)
{
    syn_assert(payload.len <= UINT32_MAX - ENTRY_HEADER_BYTES);
    buf_put_u64(out, term);
    buf_put_u8(out, (uint8_t)type);
    buf_put_bytes(out, payload);
}

static bool entry_malformed(struct reader *r)
{
    r->ok = false;
    return false;
}

bool entry_decode(struct reader *r, struct entry *out)
{
    if (!r->ok || r->p == r->end) {
        return false;
    }
    if (reader_left(r) < ENTRY_HEADER_BYTES) {
        return entry_malformed(r);
    }
    const uint8_t *p = r->p;
    uint32_t len = le32_get(p + 9);
    if (p[8] < ENTRY_NORMAL || p[8] > ENTRY_CONFIG || len > reader_left(r) - ENTRY_HEADER_BYTES) {
        return entry_malformed(r);
    }
    out->index = 0;
    out->term = le64_get(p);
    out->type = (enum entry_type)p[8];
    out->payload = slice_of(p + ENTRY_HEADER_BYTES, len);
    r->p += ENTRY_HEADER_BYTES + len;
    return true;
}

static const char *entries_invalid(const struct consensus_msg *m)
{
    struct reader r = reader_of(m->data);
    struct entry e;
    uint64_t term = m->log_term;
    uint32_t n = 0;
    while (entry_decode(&r, &e)) {
        if (e.term == 0 || e.term < term || e.term > m->term) {
            return "entry_term";
        }
        struct consensus_config config;
        if (e.type == ENTRY_CONFIG && (!consensus_config_decode(e.payload, &config) || config.count == 0)) {
            return "entry_config";
        }
        term = e.term;
        n++;
    }
    if (!r.ok) {
        return "entry_malformed";
    }
    return n == m->n_entries ? NULL : "entry_count";
}

static const char *snapshot_invalid(const struct consensus_msg *m)
{
    if (m->index == 0 || m->log_term == 0) {
        return "snapshot_position";
    }
    if (m->hint > NUMBER_MAX) {
        return "offset_too_large";
    }
    return m->data.len == 0 && !m->quiesce ? "snapshot_empty_chunk" : NULL;
}

const char *consensus_msg_invalid(const struct consensus_msg *m)
{
    if (m->type <= MSG_NONE || m->type >= MSG_CONSENSUS_MAX) {
        return "type";
    }
    if (m->from == 0 || m->to == 0 || m->from == m->to) {
        return "address";
    }
    if (m->term == 0 || m->term > NUMBER_MAX || m->log_term > m->term) {
        return "term";
    }
    if (m->index > NUMBER_MAX || m->commit > NUMBER_MAX) {
        return "index_too_large";
    }
    if (m->data.len > APPEND_DATA_BYTES_MAX) {
        return "data_too_large";
    }
    if (m->type != MSG_APPEND && m->n_entries != 0) {
        return "entries_unexpected";
    }
    if (m->type != MSG_APPEND && m->type != MSG_SNAPSHOT && m->data.len != 0) {
        return "data_unexpected";
    }
    bool position = m->type == MSG_PRE_VOTE || m->type == MSG_VOTE || m->type == MSG_APPEND;
    if (position && (m->index == 0) != (m->log_term == 0)) {
        return "position";
    }
    if (m->type == MSG_APPEND) {
        return entries_invalid(m);
    }
    return m->type == MSG_SNAPSHOT ? snapshot_invalid(m) : NULL;
}
