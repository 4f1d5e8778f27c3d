/* Replies of the queue's commands as JSON (share/openapi.json). Offsets are 64 bits and go as strings; bytes that are not UTF-8 go as base64:
 * a payload with "encoding":"base64" beside it, any other string as {"encoding":"base64","data":...}. */
#include "communication/http_path.h"
#include "nodes/doors/http_door.h"

static const char *const OFFSET_KEYS[] = {"start", "end", "next", "offset", NULL};

static void put_whole(struct http_answer *a, const char *name, slice_t reply)
{
    buf_put_u8(&a->body, '{');
    json_key(&a->body, name);
    resp_to_json(&a->body, reply, OFFSET_KEYS);
    buf_put_u8(&a->body, '}');
}

/* Elements of an array, one after the other. False: no more. */
struct each { struct reader r; uint32_t left; };

static struct each each_of(slice_t reply)
{
    struct each e = {.r = reader_of(reply)};
    struct resp_value head;
    e.left = resp_next(&e.r, &head) && head.type == RT_ARRAY ? head.count : 0;
    return e;
}

static bool each_next(struct each *e, slice_t *one)
{
    const uint8_t *at = e->r.p;
    if (e->left == 0 || !resp_skip(&e->r)) {
        return false;
    }
    e->left--;
    *one = slice_of(at, (size_t)(e->r.p - at));
    return true;
}

static slice_t text_of(slice_t reply)
{
    struct reader r = reader_of(reply);
    struct resp_value v = {0};
    resp_next(&r, &v);
    return v.str;
}

static slice_t map_text(slice_t reply, const char *key)
{
    struct resp_value v = {0};
    return resp_map_get(reply, key, &v) && (v.type == RT_BULK || v.type == RT_SIMPLE) ? v.str : SLICE_NONE;
}

/* The two last numbers of topic:partition:offset or of partition-generation-offset-delivery. */
static void put_place(struct buf *b, slice_t id)
{
    size_t end = id.len, colon = id.len;
    for (size_t i = id.len; i > 0; i--) {
        if (id.ptr[i - 1] == ':') {
            if (colon != id.len) {
                end = i;
                break;
            }
            colon = i - 1;
        }
    }
    json_key(b, "partition");
    buf_append(b, id.ptr + end, colon - end);
    json_key(b, "offset");
    buf_put_u8(b, '"');
    buf_append(b, id.ptr + colon + 1, id.len - colon - 1);
    buf_put_u8(b, '"');
}

static void put_published(struct buf *b, slice_t reply)
{
    slice_t id = text_of(reply);
    buf_put_u8(b, '{');
    json_key(b, "message_id");
    json_put_string(b, id);
    put_place(b, id);
    buf_put_u8(b, '}');
}

void view_published(struct http_answer *a, slice_t reply)
{
    put_published(&a->body, reply);
}

/* "-WORD text" as the object that errors are everywhere. */
static enum error_word put_error(struct buf *b, slice_t reply)
{
    slice_t line = text_of(reply);
    const uint8_t *space = line.len > 0 ? memchr(line.ptr, ' ', line.len) : NULL;
    size_t n = space != NULL ? (size_t)(space - line.ptr) : line.len;
    char code[32];
    enum error_word word = ERROR_ERR;
    snprintf(code, sizeof code, "%.*s", (int)(n < sizeof code ? n : 0), (const char *)line.ptr);
    error_find(slice_str(code), &word);
    http_write_error(b, code, space != NULL ? slice_of(space + 1, line.len - n - 1) : line);
    buf_put_u8(b, '}');
    return word;
}

/* Each message has its own answer; the status is an error's when none was taken. */
void view_published_many(struct http_answer *a, slice_t reply)
{
    struct each e = each_of(reply);
    slice_t one;
    uint32_t count = 0, taken = 0;
    enum error_word first = ERROR_ERR;
    buf_append_str(&a->body, "{\"messages\":[");
    while (each_next(&e, &one)) {
        if (count++ > 0) {
            buf_put_u8(&a->body, ',');
        }
        if (one.ptr[0] == '-') {
            enum error_word word = put_error(&a->body, one);
            first = count == 1 ? word : first;
        } else {
            put_published(&a->body, one);
            taken++;
        }
    }
    buf_append_str(&a->body, "]}");
    a->status = count > 0 && taken == 0 ? error_http_status(first) : 200;
}

static void put_payload(struct buf *b, slice_t message)
{
    slice_t whole = SLICE_NONE;
    struct resp_value v = {0};
    json_key(b, "payload");
    if (resp_map_get(message, "payload", &v) && v.type != RT_BULK) { /* a stream's entry: its fields */
        resp_map_value(message, "payload", &whole);
        resp_to_json(b, whole, NULL);
    } else if (utf8_valid(v.str)) {
        json_put_string(b, v.str);
    } else {
        buf_put_u8(b, '"');
        json_put_base64(b, v.str);
        buf_put_u8(b, '"');
        json_key(b, "encoding");
        json_put_str(b, "base64");
    }
}

static void put_rest(struct buf *b, slice_t message, const char *name)
{
    slice_t whole;
    if (resp_map_value(message, name, &whole)) {
        json_key(b, name);
        resp_to_json(b, whole, NULL);
    }
}

static void put_message_head(struct buf *b, slice_t message)
{
    slice_t id = map_text(message, "id");
    buf_put_u8(b, '{');
    json_key(b, "message_id");
    json_put_string(b, id);
    put_place(b, id);
    put_rest(b, message, "receipt");
    put_rest(b, message, "key");
    put_payload(b, message);
    put_rest(b, message, "headers");
    put_rest(b, message, "timestamp");
    put_rest(b, message, "deliveries");
}

static void put_messages(struct http_answer *a, slice_t reply)
{
    struct each e = each_of(reply);
    slice_t one;
    bool first = true;
    buf_append_str(&a->body, "{\"messages\":[");
    while (each_next(&e, &one)) {
        if (!first) {
            buf_put_u8(&a->body, ',');
        }
        first = false;
        put_message_head(&a->body, one);
        put_rest(&a->body, one, "reason");
        put_rest(&a->body, one, "died");
        buf_put_u8(&a->body, '}');
    }
    buf_append_str(&a->body, "]}");
}

void view_consumed(struct http_answer *a, slice_t reply)
{
    put_messages(a, reply);
}

void view_dead(struct http_answer *a, slice_t reply)
{
    put_messages(a, reply);
}

static void put_number(struct http_answer *a, const char *name, slice_t reply)
{
    put_whole(a, name, reply);
}

void view_acked(struct http_answer *a, slice_t reply)
{
    put_number(a, "acked", reply);
}

void view_nacked(struct http_answer *a, slice_t reply)
{
    put_number(a, "nacked", reply);
}

void view_extended(struct http_answer *a, slice_t reply)
{
    put_number(a, "extended", reply);
}

void view_redriven(struct http_answer *a, slice_t reply)
{
    put_number(a, "redriven", reply);
}

void view_topics(struct http_answer *a, slice_t reply)
{
    put_whole(a, "topics", reply);
}

void view_topic(struct http_answer *a, slice_t reply)
{
    resp_to_json(&a->body, reply, OFFSET_KEYS);
}

void view_group(struct http_answer *a, slice_t reply)
{
    resp_to_json(&a->body, reply, OFFSET_KEYS);
}

void view_topic_created(struct http_answer *a, slice_t reply)
{
    (void)reply;
    a->status = 201;
    buf_append_str(&a->body, "{\"created\":true}");
}

void view_topic_deleted(struct http_answer *a, slice_t reply)
{
    (void)reply;
    buf_append_str(&a->body, "{\"deleted\":true}");
}
