/* How messages, their ids and their receipts look in replies: to QUEUE.CONSUME and QUEUE.PEEK as maps, to the Streams commands as Redis' entries.
 *
 * Not here: what HTTP answers (http_queue_view.c), and who is given what (queue_consume.c). */
#include "nodes/doors/queue_door.h"

void put_receipt(struct buf *b, const struct receipt *r)
{
    char text[96];
    int len = snprintf(text, sizeof text, "%u-%llu-%llu-%llu", r->partition, (unsigned long long)r->generation,
                       (unsigned long long)r->offset, (unsigned long long)r->delivery);
    resp_bulk(b, slice_of(text, (size_t)len));
}

static bool receipt_number(slice_t s, size_t *at, uint64_t max, uint64_t *out)
{
    size_t from = *at;
    uint64_t v = 0;
    for (; *at < s.len && s.ptr[*at] >= '0' && s.ptr[*at] <= '9'; (*at)++) {
        uint64_t d = (uint64_t)(s.ptr[*at] - '0');
        if (v > (max - d) / 10) {
            return false;
        }
        v = v * 10 + d;
    }
    *out = v;
    return *at > from;
}

bool get_receipt(slice_t s, struct receipt *r)
{
    size_t at = 0;
    uint64_t v[4];
    for (int i = 0; i < 4; i++) {
        if (!receipt_number(s, &at, i == 0 ? UINT32_MAX : UINT64_MAX, &v[i]) || (i < 3 && (at >= s.len || s.ptr[at++] != '-'))) {
            return false;
        }
    }
    *r = (struct receipt){.partition = (uint32_t)v[0], .generation = v[1], .offset = v[2], .delivery = v[3]};
    return at == s.len;
}

void put_message_id(struct buf *b, const struct topic_ref *t, uint32_t partition, uint64_t offset)
{
    char tail[48];
    uint8_t text[LIMIT_KEY_BYTES + sizeof tail];
    int len = snprintf(tail, sizeof tail, ":%u:%llu", partition, (unsigned long long)offset);
    memcpy(text, t->name, t->name_len);
    memcpy(text + t->name_len, tail, (size_t)len);
    resp_bulk(b, slice_of(text, t->name_len + (size_t)len));
}

static void put_stream_fields(struct buf *b, slice_t body)
{
    struct reader r = reader_of(body);
    uint32_t n = reader_u32(&r);
    resp_array(b, n);
    for (uint32_t i = 0; i < n; i++) {
        resp_bulk(b, reader_bytes(&r));
    }
}

/* A native message seen as a stream entry. */
static void put_native_fields(struct buf *b, slice_t body)
{
    struct message msg;
    slice_t name, value;
    message_get(body, &msg);
    resp_array(b, 2 + 2 * msg.has_key + 2 * msg.n_headers);
    resp_bulk_str(b, "payload");
    resp_bulk(b, msg.payload);
    if (msg.has_key) {
        resp_bulk_str(b, "key");
        resp_bulk(b, msg.key);
    }
    struct reader r = reader_of(msg.headers);
    for (uint32_t i = 0; i < msg.n_headers && message_next_header(&r, &name, &value); i++) {
        resp_bulk(b, name);
        resp_bulk(b, value);
    }
}

static void put_headers(struct buf *b, const struct message *msg)
{
    struct reader r = reader_of(msg->headers);
    slice_t name, value;
    resp_bulk_str(b, "headers");
    resp_map(b, msg->n_headers);
    for (uint32_t i = 0; i < msg->n_headers && message_next_header(&r, &name, &value); i++) {
        resp_bulk(b, name);
        resp_bulk(b, value);
    }
}

void put_message(struct buf *b, const struct topic_ref *t, const struct delivery *d, uint32_t partition, const struct queue_message *m)
{
    struct message msg = {0};
    bool fields = m->flags != 255 && (m->flags & MESSAGE_FIELDS) != 0;
    if (!fields && m->flags != 255) {
        message_get(m->body, &msg);
    }
    resp_map(b, d != NULL ? 7 : 5);
    resp_bulk_str(b, "id");
    put_message_id(b, t, partition, m->offset);
    resp_bulk_str(b, "key");
    if (msg.has_key) {
        resp_bulk(b, msg.key);
    } else {
        resp_null(b);
    }
    resp_bulk_str(b, "payload");
    if (fields) {
        put_stream_fields(b, m->body);
    } else {
        resp_bulk(b, msg.payload);
    }
    put_headers(b, &msg);
    resp_bulk_str(b, "timestamp");
    resp_int(b, (int64_t)(fields ? m->id.ms : msg.wall_ms));
    if (d != NULL) {
        resp_bulk_str(b, "deliveries");
        resp_int(b, d->deliveries);
        resp_bulk_str(b, "receipt");
        put_receipt(b, &d->receipt);
    }
}

void put_stream_id(struct buf *b, struct stream_id id)
{
    char text[48];
    int len = snprintf(text, sizeof text, "%llu-%llu", (unsigned long long)id.ms, (unsigned long long)id.seq);
    resp_bulk(b, slice_of(text, (size_t)len));
}

void put_stream_entry(struct buf *b, const struct queue_message *m)
{
    resp_array(b, 2);
    put_stream_id(b, m->id);
    if (m->flags == 255) {
        resp_null(b);
    } else if (m->flags & MESSAGE_FIELDS) {
        put_stream_fields(b, m->body);
    } else {
        put_native_fields(b, m->body);
    }
}

void put_streams_head(struct buf *b, int proto, uint32_t n)
{
    if (proto == 3) {
        resp_map(b, n);
    } else {
        resp_array(b, n);
    }
}

void put_streams_key(struct buf *b, int proto, slice_t key)
{
    if (proto != 3) {
        resp_array(b, 2);
    }
    resp_bulk(b, key);
}
