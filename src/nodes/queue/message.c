/* Message bodies: key, headers and payload as the doors see them (message.h). */
#include "nodes/queue/message.h"

#include "utils/assert.h"

void message_put(struct buf *out, uint64_t wall_ms, const slice_t *key, uint32_t n_headers, const slice_t *names_values, slice_t payload)
{
    syn_assert(n_headers <= UINT16_MAX);
    buf_put_u64(out, wall_ms);
    buf_put_u8(out, key != NULL);
    if (key != NULL) {
        buf_put_bytes(out, *key);
    }
    buf_put_u16(out, (uint16_t)n_headers);
    for (uint32_t i = 0; i < 2 * n_headers; i++) {
        buf_put_bytes(out, names_values[i]);
    }
    buf_append_slice(out, payload);
}

bool message_get(slice_t body, struct message *m)
{
    struct reader r = reader_of(body);
    *m = (struct message){0};
    m->wall_ms = reader_u64(&r);
    m->has_key = reader_u8(&r) != 0;
    if (m->has_key) {
        m->key = reader_bytes(&r);
    }
    m->n_headers = reader_u16(&r);
    const uint8_t *from = r.p;
    for (uint32_t i = 0; i < 2 * m->n_headers; i++) {
        reader_bytes(&r);
    }
    if (!r.ok) {
        *m = (struct message){0};
        return false;
    }
    m->headers = slice_of(from, (size_t)(r.p - from));
    m->payload = slice_of(r.p, reader_left(&r));
    return true;
}

bool message_next_header(struct reader *r, slice_t *name, slice_t *value)
{
    *name = reader_bytes(r);
    *value = reader_bytes(r);
    return r->ok;
}
