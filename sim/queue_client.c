/* Requests of the queue workload as bytes, and what replies mean; every reply is read to its end and handed to the checkers.
 *
 * Not responsible for what is asked (queue_work.c) nor for what must hold (check_queue*.c). */
#include "sim_queue.h"

#include "communication/resp.h"
#include "utils/errors.h"
#include "utils/hash.h"

#include <stdio.h>

/* Words of one request; their number is written before them. */
struct words {
    struct buf b;
    uint32_t n;
};

static void word(struct words *w, const char *text)
{
    buf_printf(&w->b, "$%zu\r\n%s\r\n", strlen(text), text);
    w->n++;
}

static void number(struct words *w, uint64_t v)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)v);
    word(w, text);
}

static void named(struct words *w, const char *name, uint64_t v)
{
    word(w, name);
    number(w, v);
}

uint64_t queue_consumer_hash(uint32_t consumer)
{
    char text[16];
    snprintf(text, sizeof text, "c%u", consumer);
    return hash_bytes(3, slice_str(text));
}

/* "m<op>:" and a pattern, `size` bytes at least. */
void queue_payload(struct buf *out, uint64_t op, uint32_t size)
{
    buf_printf(out, "m%llu:", (unsigned long long)op);
    while (out->len < size) {
        buf_put_u8(out, (uint8_t)('a' + (op + out->len) % 26));
    }
}

static void group_words(struct words *w, const struct queue_ask *a, bool consumer)
{
    char text[16];
    word(w, "GROUP");
    snprintf(text, sizeof text, "g%u", a->group);
    word(w, text);
    if (consumer) {
        word(w, "CONSUMER");
        snprintf(text, sizeof text, "c%u", a->consumer);
        word(w, text);
    }
}

static void create_words(struct words *w, const struct model_topic *t)
{
    const struct topic_config *c = &t->config;
    named(w, "PARTITIONS", c->partitions);
    named(w, "MAXDELIVER", c->max_deliver);
    named(w, "VISIBILITY", c->visibility_ms);
    named(w, "BACKOFF", c->backoff_ms);
    named(w, "BACKOFFMAX", c->backoff_ms_max);
    if (c->ordered) {
        word(w, "ORDERED");
        word(w, "key");
    }
    if (c->retention_bytes > 0) {
        named(w, "RETENTION", c->retention_bytes);
    }
}

static void publish_words(struct words *w, const struct queue_ask *a, uint64_t op)
{
    char text[32];
    struct buf payload = {0};
    queue_payload(&payload, op, a->size);
    buf_put_u8(&payload, 0);
    word(w, (const char *)payload.ptr);
    buf_fini(&payload);
    if (a->key != QSIM_NONE) {
        word(w, "KEY");
        snprintf(text, sizeof text, "k%u", a->key);
        word(w, text);
    }
    if (a->has_id) {
        word(w, "ID");
        snprintf(text, sizeof text, "p%llu", (unsigned long long)op);
        word(w, text);
    }
    if (a->ms != UINT64_MAX) {
        named(w, "DELAY", a->ms);
    }
}

static void receipt_words(struct words *w, const struct queue_ask *a)
{
    for (uint32_t i = 0; i < a->n_receipts; i++) {
        char text[96];
        const struct receipt *r = &a->receipts[i];
        snprintf(text, sizeof text, "%u-%llu-%llu-%llu", r->partition, (unsigned long long)r->generation, (unsigned long long)r->offset,
                 (unsigned long long)r->delivery);
        word(w, text);
    }
}

static void settle_words(struct words *w, const struct queue_ask *a)
{
    static const char *const MODES[] = {[NACK_FAIL] = "FAIL", [NACK_SILENT] = "SILENT", [NACK_FATAL] = "FATAL"};
    group_words(w, a, false);
    receipt_words(w, a);
    if (a->kind == ASK_EXTEND) {
        number(w, a->ms);
    } else if (a->kind == ASK_NACK) {
        word(w, MODES[a->mode]);
        if (a->ms != UINT64_MAX) {
            named(w, "DELAY", a->ms);
        }
    }
}

static void consume_words(struct words *w, const struct queue_ask *a)
{
    group_words(w, a, true);
    named(w, "COUNT", a->count);
    if (a->ms != UINT64_MAX) {
        named(w, "BLOCK", a->ms);
    }
}

static void peek_words(struct words *w, const struct queue_ask *a)
{
    number(w, a->partition);
    number(w, a->offset);
    named(w, "COUNT", a->count);
}

void queue_ask_write(struct sim *s, uint64_t op, struct buf *out)
{
    static const char *const COMMANDS[] = {
        [ASK_CREATE] = "QUEUE.CREATE", [ASK_DELETE] = "QUEUE.DELETE", [ASK_PUBLISH] = "QUEUE.PUBLISH", [ASK_CONSUME] = "QUEUE.CONSUME",
        [ASK_ACK] = "QUEUE.ACK",       [ASK_NACK] = "QUEUE.NACK",     [ASK_EXTEND] = "QUEUE.EXTEND",   [ASK_JOIN] = "QUEUE.JOIN",
        [ASK_LEAVE] = "QUEUE.LEAVE",   [ASK_REDRIVE] = "QUEUE.REDRIVE", [ASK_PEEK] = "QUEUE.PEEK",     [ASK_DLQ] = "QUEUE.DLQ",
        [ASK_INFO] = "QUEUE.INFO",     [ASK_LAG] = "QUEUE.LAG",       [ASK_SEEK] = "QUEUE.SEEK",
    };
    const struct queue_ask *a = queue_ask_of(s, &s->ops[op]);
    const struct model_topic *t = &s->queue->topics[a->topic];
    struct words w = {0};
    word(&w, COMMANDS[a->kind]);
    word(&w, t->name);
    switch (a->kind) {
    case ASK_CREATE: create_words(&w, t); break;
    case ASK_PUBLISH: publish_words(&w, a, op); break;
    case ASK_CONSUME: consume_words(&w, a); break;
    case ASK_ACK:
    case ASK_NACK:
    case ASK_EXTEND: settle_words(&w, a); break;
    case ASK_JOIN:
        group_words(&w, a, true);
        if (a->ms != UINT64_MAX) {
            named(&w, "TTL", a->ms);
        }
        break;
    case ASK_LEAVE: group_words(&w, a, true); break;
    case ASK_REDRIVE:
    case ASK_DLQ:
        group_words(&w, a, false);
        named(&w, "COUNT", a->count);
        break;
    case ASK_LAG: group_words(&w, a, false); break;
    case ASK_SEEK:
        group_words(&w, a, false);
        word(&w, a->mode ? "BEGIN" : "END");
        break;
    case ASK_PEEK: peek_words(&w, a); break;
    default: break;
    }
    buf_printf(out, "*%u\r\n", w.n);
    buf_append_slice(out, buf_slice(&w.b));
    buf_fini(&w.b);
}

static bool digits(slice_t s, size_t *at, uint64_t *out)
{
    size_t from = *at;
    *out = 0;
    for (; *at < s.len && s.ptr[*at] >= '0' && s.ptr[*at] <= '9'; (*at)++) {
        *out = *out * 10 + (uint64_t)(s.ptr[*at] - '0');
    }
    return *at > from;
}

static void surprise(struct sim *s, const struct queue_ask *a, slice_t reply)
{
    sim_fail(s, "a client that asked %u of a queue was answered %.*s", a->kind, (int)(reply.len < 160 ? reply.len : 160), (const char *)reply.ptr);
}

/* topic:partition:offset */
static void on_published(struct sim *s, uint64_t op, const struct resp_value *v, slice_t reply)
{
    struct queue_ask *a = queue_ask_of(s, &s->ops[op]);
    size_t at = strlen(s->queue->topics[a->topic].name) + 1;
    uint64_t partition, offset;
    bool ok = v->type == RT_BULK && digits(v->str, &at, &partition);
    at++;
    if (!ok || !digits(v->str, &at, &offset) || at != v->str.len) {
        surprise(s, a, reply);
    } else if (a->topic != QSIM_SCRATCH) {
        queue_check_published(s, op, (uint32_t)partition, offset);
    }
}

/* Calls fn for each element of an array. */
static void each_of(struct sim *s, struct sim_client *c, uint64_t op, slice_t reply)
{
    struct reader r = reader_of(reply);
    struct resp_value v;
    const struct queue_ask *a = queue_ask_of(s, &s->ops[op]);
    if (!resp_next(&r, &v) || v.type != RT_ARRAY || (a->kind == ASK_CONSUME && v.count > a->count)) {
        surprise(s, a, reply);
        return;
    }
    for (uint32_t i = 0; i < v.count && !s->failed && a->topic != QSIM_SCRATCH; i++) {
        const uint8_t *from = r.p;
        if (!resp_skip(&r)) {
            surprise(s, a, reply);
            return;
        }
        slice_t map = slice_of(from, (size_t)(r.p - from));
        if (a->kind == ASK_CONSUME) {
            queue_check_message(s, c, op, map);
        } else if (a->kind == ASK_PEEK) {
            queue_check_peeked(s, &s->ops[op], map);
        } else if (a->kind == ASK_DLQ) {
            queue_check_dead(s, &s->ops[op], map);
        }
    }
}

void queue_on_ok(struct sim *s, struct sim_client *c, uint64_t op, slice_t reply)
{
    struct sim_op *o = &s->ops[op];
    struct queue_ask *a = queue_ask_of(s, o);
    struct reader r = reader_of(reply);
    struct resp_value v;
    resp_next(&r, &v);
    o->status = OP_OK;
    switch (a->kind) {
    case ASK_CREATE: s->queue->topics[a->topic].made = true; break;
    case ASK_PUBLISH: on_published(s, op, &v, reply); break;
    case ASK_CONSUME:
    case ASK_PEEK:
    case ASK_DLQ: each_of(s, c, op, reply); break;
    case ASK_ACK:
    case ASK_NACK:
    case ASK_EXTEND:
        if (v.type != RT_INT || v.num < 1 || v.num > a->n_receipts) {
            surprise(s, a, reply);
        } else {
            queue_check_settled(s, o, v.num, false);
        }
        break;
    default: break;
    }
}

/* ERR is never an answer to what this workload asks; nor is a second topic of one name. */
void queue_on_error(struct sim *s, struct sim_op *o, slice_t text)
{
    const struct queue_ask *a = queue_ask_of(s, o);
    enum error_word w = ERROR_ERR;
    bool known = error_find(text, &w);
    if (!known || w == ERROR_ERR || (w == ERROR_TOPICEXISTS && a->topic != QSIM_SCRATCH)) {
        surprise(s, a, text);
    } else if (w == ERROR_UNCERTAIN) {
        s->r->answers_uncertain++;
        o->status = OP_UNKNOWN;
    } else {
        o->status = OP_NOT_DONE;
        if (w == ERROR_STALERECEIPT) {
            queue_check_settled(s, o, 0, true);
        } else {
            queue_check_refused(s, o);
        }
    }
}
