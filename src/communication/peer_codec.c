/* Frames between nodes: length, checksum, a msgpack array of messages; see peer_codec.h and peer_fields.h.
 *
 * Tokens are libmpack's; nothing is allocated, nothing nests deeper than a message in the frame's array, every declared length is
 * held against the bytes that are there before it is believed (I34-I37). A message is an array of exactly its fields. */
#include "communication/peer_codec.h"

#include "communication/peer_auth.h"
#include "communication/peer_fields.h"
#include "utils/assert.h"
#include "utils/crc32c.h"
#include "utils/limits.h"
#include "utils/mutant.h"

#include <mpack.h>
#include <stddef.h>

enum field_type { FIELD_BOOL, FIELD_U8, FIELD_U32, FIELD_U64, FIELD_BYTES };

struct field {
    enum peer_kind kind;
    enum field_type type;
    size_t offset;
    uint64_t max;
};

#define FIELD_ROW(message, member, ftype, fmax) {PEER_##message, FIELD_##ftype, offsetof(struct peer_msg, member), fmax},
static const struct field FIELDS[] = {PEER_FIELDS(FIELD_ROW)};
enum { FIELD_COUNT = sizeof FIELDS / sizeof FIELDS[0], HEAD_BYTES = PEER_FRAME_HEADER_BYTES + 5 };

/* Rows of one kind are consecutive. */
struct span {
    uint32_t first, count;
};

#define COUNT_ROW(message, member, ftype, fmax) +(PEER_##message == kind)
#define BEFORE_ROW(message, member, ftype, fmax) +(PEER_##message < kind)
static struct span fields_of(enum peer_kind kind)
{
    return (struct span){(uint32_t)(0 PEER_FIELDS(BEFORE_ROW)), (uint32_t)(0 PEER_FIELDS(COUNT_ROW))};
}

static void put_token(struct buf *out, mpack_token_t t)
{
    mpack_tokbuf_t tb;
    mpack_tokbuf_init(&tb);
    char *p = (char *)buf_reserve(out, 16);
    size_t left = 16;
    int rc = mpack_write(&tb, &p, &left, &t);
    syn_assert(rc == MPACK_OK || t.type == MPACK_TOKEN_BIN);
    out->len += 16 - left;
}

static void put_be32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

void frame_begin(struct frame_builder *f, struct buf *out)
{
    *f = (struct frame_builder){.out = out, .start = out->len};
    buf_reserve(out, HEAD_BYTES);
    out->len += HEAD_BYTES;
}

static uint64_t field_number(const struct field *d, const void *at)
{
    switch (d->type) {
    case FIELD_BOOL: return *(const bool *)at;
    case FIELD_U8: return *(const uint8_t *)at;
    case FIELD_U32: {
        uint32_t v;
        memcpy(&v, at, sizeof v);
        return v;
    }
    case FIELD_U64: return *(const uint64_t *)at;
    case FIELD_BYTES: break;
    }
    SYN_UNREACHABLE();
}

/* The hot numbers are small: one byte each, without the library's general path. */
static void put_number(struct buf *out, uint64_t v)
{
    if (v < 128) {
        buf_put_u8(out, (uint8_t)v);
    } else {
        put_token(out, mpack_pack_uint(v));
    }
}

void frame_add(struct frame_builder *f, const struct peer_msg *m)
{
    struct span s = fields_of(m->kind);
    syn_assert(s.count > 0);
    put_token(f->out, mpack_pack_array(s.count + 1));
    put_number(f->out, (uint64_t)m->kind);
    for (uint32_t i = s.first; i < s.first + s.count; i++) {
        const struct field *d = &FIELDS[i];
        const void *at = (const char *)m + d->offset;
        if (d->type == FIELD_BYTES) {
            const slice_t *b = at;
            syn_assert(b->len <= d->max);
            put_token(f->out, mpack_pack_bin((mpack_uint32_t)b->len));
            buf_append_slice(f->out, *b);
        } else {
            put_number(f->out, field_number(d, at));
        }
    }
    f->count++;
}

void frame_end(struct frame_builder *f)
{
    if (f->count == 0) {
        f->out->len = f->start;
        return;
    }
    uint8_t *head = f->out->ptr + f->start;
    uint8_t *body = head + PEER_FRAME_HEADER_BYTES;
    size_t len = f->out->len - f->start - PEER_FRAME_HEADER_BYTES;
    syn_assert(len <= UINT32_MAX);
    body[0] = 0xdd; /* array 32 */
    put_be32(body + 1, f->count);
    le32_put(head, (uint32_t)len);
    le32_put(head + 4, crc32c(0, body, len));
}

enum frame_status frame_split(slice_t in, uint32_t frame_bytes_max, slice_t *body, size_t *used, const char **reason)
{
    if (in.len < PEER_FRAME_HEADER_BYTES) {
        return FRAME_MORE;
    }
    uint32_t len = le32_get(in.ptr);
    if (len < 6 || len > frame_bytes_max) {
        *reason = "frame length out of range";
        return FRAME_BAD;
    }
    if (in.len - PEER_FRAME_HEADER_BYTES < len) {
        return FRAME_MORE;
    }
    *body = slice_of(in.ptr + PEER_FRAME_HEADER_BYTES, len);
    if (crc32c(0, body->ptr, len) != le32_get(in.ptr + 4) && !MUTANT("FRAME_CRC")) {
        *reason = "frame checksum differs";
        return FRAME_BAD;
    }
    *used = PEER_FRAME_HEADER_BYTES + (size_t)len;
    return FRAME_OK;
}

static bool take_token(struct frame_reader *r, mpack_token_t *t)
{
    mpack_tokbuf_t tb;
    mpack_tokbuf_init(&tb);
    const char *p = (const char *)r->body.ptr + r->at;
    size_t left = r->body.len - r->at;
    if (left == 0 || mpack_read(&tb, &p, &left, t) != MPACK_OK) {
        r->reason = "malformed msgpack";
        return false;
    }
    r->at = r->body.len - left;
    return true;
}

static bool take_number(struct frame_reader *r, uint64_t max, uint64_t *out)
{
    if (r->at < r->body.len && r->body.ptr[r->at] < 128) {
        *out = r->body.ptr[r->at++];
    } else {
        mpack_token_t t;
        if (!take_token(r, &t)) {
            return false;
        }
        if (t.type != MPACK_TOKEN_UINT) {
            r->reason = "field has the wrong type";
            return false;
        }
        *out = mpack_unpack_uint(t);
    }
    if (*out > max) {
        r->reason = "field out of range";
        return false;
    }
    return true;
}

static bool take_bytes(struct frame_reader *r, uint64_t max, slice_t *out)
{
    mpack_token_t t;
    if (!take_token(r, &t)) {
        return false;
    }
    if (t.type != MPACK_TOKEN_BIN || t.length > max || t.length > r->body.len - r->at) {
        r->reason = t.type != MPACK_TOKEN_BIN ? "field has the wrong type" : "bytes longer than allowed or than the frame";
        return false;
    }
    *out = slice_of(r->body.ptr + r->at, t.length);
    r->at += t.length;
    return true;
}

static bool take_field(struct frame_reader *r, const struct field *d, void *at)
{
    uint64_t v;
    if (d->type == FIELD_BYTES) {
        return take_bytes(r, d->max, at);
    }
    if (!take_number(r, d->max, &v)) {
        return false;
    }
    switch (d->type) {
    case FIELD_BOOL: *(bool *)at = v != 0; break;
    case FIELD_U8: *(uint8_t *)at = (uint8_t)v; break;
    case FIELD_U32: {
        uint32_t small = (uint32_t)v;
        memcpy(at, &small, sizeof small);
        break;
    }
    case FIELD_U64: *(uint64_t *)at = v; break;
    case FIELD_BYTES: SYN_UNREACHABLE();
    }
    return true;
}

static bool take_array(struct frame_reader *r, uint64_t max, uint32_t *count)
{
    mpack_token_t t;
    if (!take_token(r, &t)) {
        return false;
    }
    if (t.type != MPACK_TOKEN_ARRAY || t.length > max) {
        r->reason = "an array was expected, of what the frame can hold";
        return false;
    }
    *count = t.length;
    return true;
}

void frame_read(struct frame_reader *r, slice_t body)
{
    *r = (struct frame_reader){.body = body};
    take_array(r, body.len, &r->left);
}

/* Names and hosts go into replies, pages and logs: one word of visible ASCII each. */
static bool is_visible(slice_t s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] <= ' ' || s.ptr[i] > '~') {
            return false;
        }
    }
    return true;
}

static const char *hello_invalid(const struct peer_hello *h)
{
    if (h->node == 0 || h->name.len == 0) {
        return "a HELLO without node or name";
    }
    if (h->mac.len != 0 && h->mac.len != PEER_MAC_BYTES) {
        return "a HELLO with half a mac";
    }
    return is_visible(h->name) && is_visible(h->client_host) ? NULL : "a HELLO whose name or host is not visible ASCII";
}

/* What a decoded message must satisfy beyond the ranges of its fields. */
static const char *message_invalid(const struct peer_msg *m)
{
    switch (m->kind) {
    case PEER_CONSENSUS: return consensus_msg_invalid(&m->u.consensus);
    case PEER_HELLO: return hello_invalid(&m->u.hello);
    case PEER_FORWARD: return m->u.forward.kind == 0 || m->u.forward.payload.len == 0 ? "an empty forward" : NULL;
    case PEER_PROBE:
        return m->u.probe.initiator_owner.len == 0 || m->u.probe.target_owner.len == 0 ? "a probe without owners" : NULL;
    default: return NULL;
    }
}

bool frame_next(struct frame_reader *r, struct peer_msg *m)
{
    uint32_t count;
    uint64_t kind;
    if (r->reason != NULL) {
        return false;
    }
    if (r->left == 0) {
        r->reason = r->at != r->body.len ? "bytes behind the last message" : NULL;
        return false;
    }
    r->left--;
    if (!take_array(r, 64, &count) || !take_number(r, PEER_KIND_MAX - 1, &kind)) {
        return false;
    }
    *m = (struct peer_msg){.kind = (enum peer_kind)kind};
    struct span s = fields_of(m->kind);
    if (s.count == 0 || count != s.count + 1) {
        r->reason = s.count == 0 ? "unknown kind of message" : "wrong number of fields";
        return false;
    }
    for (uint32_t i = s.first; i < s.first + s.count; i++) {
        if (!take_field(r, &FIELDS[i], (char *)m + FIELDS[i].offset)) {
            return false;
        }
    }
    r->reason = message_invalid(m);
    return r->reason == NULL;
}

const char *frame_check(slice_t body)
{
    struct frame_reader r;
    struct peer_msg m;
    frame_read(&r, body);
    while (frame_next(&r, &m)) {
    }
    return r.reason;
}
