/* Log records to bytes and back (docs/disk.md, "Records").
 *
 * Responsible for the shape of single records. Not for blocks, checksums (block.c), or for what records mean in
 * sequence (replay.c). The entries inside a run keep the encoding of consensus.h byte for byte.
 * Invariants: no record begins with a zero byte, so that zeros never decode (S30); the decoder never reads beyond its
 * slice and allocates nothing (I42). */
#include "storage/log_codec.h"

#include "utils/assert.h"

enum { ENTRY_TYPE_MAX = ENTRY_CONFIG };

void log_put_hard_state(struct buf *out, uint32_t group, uint64_t term, node_id_t vote, uint64_t commit)
{
    buf_put_u8(out, LOG_HARD_STATE);
    buf_put_u32(out, group);
    buf_put_u64(out, term);
    buf_put_u32(out, vote);
    buf_put_u64(out, commit);
}

void log_put_entries(struct buf *out, uint32_t group, uint64_t first_index, uint32_t n_entries, slice_t run)
{
    syn_assert(first_index > 0);
    syn_assert(run.len >= (size_t)n_entries * ENTRY_HEADER_BYTES && (n_entries > 0 || run.len == 0));
    buf_put_u8(out, LOG_ENTRIES);
    buf_put_u32(out, group);
    buf_put_u64(out, first_index);
    buf_put_u32(out, n_entries);
    buf_put_bytes(out, run);
}

void log_put_snapshot_mark(struct buf *out, uint32_t group, uint64_t index, uint64_t term, bool installed)
{
    buf_put_u8(out, LOG_SNAPSHOT_MARK);
    buf_put_u32(out, group);
    buf_put_u64(out, index);
    buf_put_u64(out, term);
    buf_put_u8(out, installed);
}

void log_put_group(struct buf *out, const struct log_record *g)
{
    buf_put_u8(out, LOG_GROUP);
    buf_put_u32(out, g->group);
    buf_put_u64(out, g->term);
    buf_put_u32(out, g->vote);
    buf_put_u64(out, g->commit);
    buf_put_u64(out, g->mark_index);
    buf_put_u64(out, g->mark_term);
    buf_put_u64(out, g->last_index);
}

static void read_fields(struct reader *r, struct log_record *out)
{
    switch (out->type) {
    case LOG_HARD_STATE:
    case LOG_GROUP:
        out->term = reader_u64(r);
        out->vote = reader_u32(r);
        out->commit = reader_u64(r);
        if (out->type == LOG_GROUP) {
            out->mark_index = reader_u64(r);
            out->mark_term = reader_u64(r);
            out->last_index = reader_u64(r);
            r->ok = r->ok && out->last_index >= out->mark_index && out->last_index < UINT64_MAX / 2;
        }
        break;
    case LOG_ENTRIES:
        out->index = reader_u64(r);
        out->n_entries = reader_u32(r);
        out->run = reader_bytes(r);
        r->ok = r->ok && out->index > 0 && out->index < UINT64_MAX / 2 &&
                out->run.len >= (size_t)out->n_entries * ENTRY_HEADER_BYTES;
        break;
    case LOG_SNAPSHOT_MARK:
        out->index = reader_u64(r);
        out->term = reader_u64(r);
        out->installed = reader_u8(r) != 0;
        r->ok = r->ok && out->index < UINT64_MAX / 2;
        break;
    default:
        r->ok = false;
    }
}

bool log_record_next(struct reader *r, uint32_t groups, struct log_record *out)
{
    if (!r->ok || r->p == r->end) {
        return false;
    }
    *out = (struct log_record){.type = (enum log_record_type)reader_u8(r)};
    out->group = reader_u32(r);
    read_fields(r, out);
    r->ok = r->ok && out->group < groups;
    return r->ok;
}

bool log_run_next(struct reader *run, uint64_t *term)
{
    *term = reader_u64(run);
    uint8_t type = reader_u8(run);
    reader_bytes(run);
    run->ok = run->ok && type > 0 && type <= ENTRY_TYPE_MAX;
    return run->ok;
}
