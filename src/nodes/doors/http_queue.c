/* Queues over HTTP: JSON fields to the arguments of the QUEUE.* commands (share/openapi.json); their replies to JSON are http_queue_view.c's.
 *
 * A command that must wait for its topic's row is put off with its own copy of the arguments (queue_topics.c) and answers in its reply
 * place, whatever the door. */
#include "nodes/doors/http_door.h"
#include "nodes/doors/queue_door.h"

#include <stdlib.h>

enum { MESSAGES_MAX = 1000, RECEIPTS_MAX = 10000, HEADERS_MAX = 64, MAX_MESSAGES_DEFAULT = 10, RECEIPT_BYTES = 96 };

/* Arguments as they come; what is made for them (numbers, decoded bytes) lives until args_fini. */
struct args {
    slice_t *v;
    uint32_t n, cap;
    struct made { struct made *next; } *made;
};

static void arg(struct args *a, slice_t s)
{
    if (a->n == a->cap) {
        a->cap = a->cap ? a->cap * 2 : 32;
        a->v = realloc(a->v, a->cap * sizeof *a->v);
        syn_assert(a->v != NULL);
    }
    a->v[a->n++] = s;
}

static void arg_str(struct args *a, const char *s)
{
    arg(a, slice_str(s));
}

/* A copy that lives as long as the arguments. */
static slice_t keep(struct args *a, slice_t s)
{
    struct made *m = malloc(sizeof *m + s.len);
    syn_assert(m != NULL);
    m->next = a->made;
    a->made = m;
    if (s.len > 0) {
        memcpy(m + 1, s.ptr, s.len);
    }
    return slice_of(m + 1, s.len);
}

static slice_t number(struct args *a, uint64_t v)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%llu", (unsigned long long)v);
    return keep(a, slice_of(text, (size_t)n));
}

static void option(struct args *a, const char *name, slice_t value)
{
    if (value.len > 0) {
        arg_str(a, name);
        arg(a, value);
    }
}

static void option_number(struct args *a, const char *name, uint64_t v)
{
    if (v != UINT64_MAX) {
        arg_str(a, name);
        arg(a, number(a, v));
    }
}

static void args_fini(struct args *a)
{
    while (a->made != NULL) {
        struct made *m = a->made;
        a->made = m->next;
        free(m);
    }
    free(a->v);
}

/* One POST from its body to its command: the fields it takes, and what makes arguments of them. False: refused, in->why says so. */
struct post {
    const char *const *fields;
    bool (*fill)(struct http_call *h, struct json_in *in, struct args *a);
    http_view_fn view;
};

static void post(struct http_call *h, const struct post *p)
{
    struct json_in in;
    struct args a = {0};
    if (http_body(h, &in, p->fields)) {
        if (p->fill(h, &in, &a)) {
            http_command(h, a.v, a.n, p->view);
        } else {
            http_bad_field(h, &in);
        }
    }
    json_end(&in);
    args_fini(&a);
}

static bool take_header(void *arg_, slice_t key, slice_t value)
{
    struct args *a = arg_;
    arg_str(a, "HEADER");
    arg(a, key);
    arg(a, value);
    return true;
}

/* "fence": {"resource": name, "token": number}. */
static bool fence_option(struct json_in *in, struct args *a)
{
    static const char *const fields[] = {"resource", "token", NULL};
    struct json_in fence;
    slice_t resource = SLICE_NONE;
    uint64_t token = 0;
    if (!json_object_in(in, "fence", &fence) || fence.root == NULL) {
        return fence.root == NULL;
    }
    if (!json_only(&fence, fields) || !json_text(&fence, "resource", true, LIMIT_KEY_BYTES, &resource) || !json_id(&fence, "token", true, &token)) {
        snprintf(in->why, sizeof in->why, "fence: %.200s", fence.why);
        return false;
    }
    arg_str(a, "FENCE");
    arg(a, resource);
    arg(a, number(a, token));
    return true;
}

/* Options of one message, behind what is there already. */
static bool message_options(struct json_in *in, struct args *a, slice_t idem)
{
    slice_t id = idem;
    uint64_t delay_ms = UINT64_MAX;
    if (!json_text(in, "id", false, LIMIT_IDEM_BYTES, &id) || !json_duration_named(in, NULL, "delay_ms", 0, LIMIT_TTL_MS, &delay_ms)) {
        return false;
    }
    slice_t key = SLICE_NONE;
    if (!json_text(in, "key", false, LIMIT_KEY_BYTES, &key)) {
        return false;
    }
    option(a, "KEY", key);
    option(a, "ID", id);
    option_number(a, "DELAY", delay_ms);
    return fence_option(in, a) && json_pairs(in, "headers", HEADERS_MAX, take_header, a);
}

static bool payload(struct json_in *in, struct args *a)
{
    struct buf bytes = {0};
    bool ok = json_bytes(in, "payload", LIMIT_VALUE_BYTES, &bytes);
    if (ok) {
        arg(a, keep(a, buf_slice(&bytes)));
    }
    buf_fini(&bytes);
    return ok;
}

static bool why(struct json_in *in, const char *text)
{
    snprintf(in->why, sizeof in->why, "%s", text);
    return false;
}

/* Payload, how many words follow, and these. */
static bool one_of_many(struct json_in *in, struct args *a)
{
    static const char *const fields[] = {"payload", "encoding", "key", "id", "delay_ms", "headers", "fence", NULL};
    if (!json_only(in, fields) || !payload(in, a)) {
        return false;
    }
    uint32_t at = a->n;
    arg(a, SLICE_NONE);
    if (!message_options(in, a, SLICE_NONE)) {
        return false;
    }
    slice_t words = number(a, a->n - at - 1);
    a->v[at] = words;
    return true;
}

static bool many(struct json_in *in, struct args *a, size_t count)
{
    static const char *const alone[] = {"payload", "encoding", "key", "id", "delay_ms", "headers", "fence"};
    for (size_t i = 0; i < sizeof alone / sizeof alone[0]; i++) {
        if (json_has(in, alone[i])) {
            return why(in, "messages is a list of messages: their fields belong into it");
        }
    }
    arg(a, number(a, count));
    for (size_t i = 0; i < count; i++) {
        struct json_in item;
        if (!json_list_object(in, "messages", i, &item)) {
            return false;
        }
        if (!one_of_many(&item, a)) {
            snprintf(in->why, sizeof in->why, "messages[%zu]: %.200s", i, item.why);
            return false;
        }
    }
    return true;
}

void http_publish(struct http_call *h)
{
    static const char *const fields[] = {"topic", "payload", "encoding", "key", "id", "delay_ms", "headers", "fence", "messages", NULL};
    struct json_in in;
    struct args a = {0};
    slice_t topic = SLICE_NONE;
    size_t count = 0;
    if (http_body(h, &in, fields)) {
        arg_str(&a, "QUEUE.PUBLISH");
        bool ok = json_text(&in, "topic", true, LIMIT_KEY_BYTES, &topic) && json_list(&in, "messages", MESSAGES_MAX, &count);
        arg(&a, topic);
        if (ok && count > 0 && many(&in, &a, count)) {
            http_command_as(h, &queue_publish_many, a.v, a.n, view_published_many);
        } else if (ok && count == 0 && payload(&in, &a) && message_options(&in, &a, h->req->idempotency_key)) {
            http_command(h, a.v, a.n, view_published);
        } else {
            http_bad_field(h, &in);
        }
    }
    json_end(&in);
    args_fini(&a);
}

static bool fill_consume(struct http_call *h, struct json_in *in, struct args *a)
{
    slice_t topic = SLICE_NONE, group = SLICE_NONE, consumer = SLICE_NONE;
    uint64_t count = MAX_MESSAGES_DEFAULT, wait_ms = 0, visibility_ms = UINT64_MAX;
    (void)h;
    if (!json_text(in, "topic", true, LIMIT_KEY_BYTES, &topic) || !json_text(in, "consumer_group", true, LIMIT_CONSUMER_BYTES, &group) ||
        !json_text(in, "consumer_id", true, LIMIT_CONSUMER_BYTES, &consumer) ||
        !json_count(in, "max_messages", 1, LIMIT_CLAIM_MESSAGES, &count) ||
        !json_duration_named(in, "timeout", "wait_ms", 0, LIMIT_TTL_MS, &wait_ms) ||
        !json_duration_named(in, NULL, "visibility_ms", 10, LIMIT_TTL_MS, &visibility_ms)) {
        return false;
    }
    arg_str(a, "QUEUE.CONSUME");
    arg(a, topic);
    option(a, "GROUP", group);
    option(a, "CONSUMER", consumer);
    option_number(a, "COUNT", count);
    option_number(a, "BLOCK", wait_ms > 0 ? wait_ms : UINT64_MAX);
    option_number(a, "VISIBILITY", visibility_ms);
    return true;
}

void http_consume(struct http_call *h)
{
    static const char *const fields[] = {"topic",   "consumer_group", "consumer_id",   "max_messages",
                                         "timeout", "wait_ms",        "visibility_ms", NULL};
    post(h, &(struct post){fields, fill_consume, view_consumed});
}

/* Command, topic, GROUP group. */
static bool fill_group(struct json_in *in, struct args *a, const char *command)
{
    slice_t topic = SLICE_NONE, group = SLICE_NONE;
    if (!json_text(in, "topic", true, LIMIT_KEY_BYTES, &topic) || !json_text(in, "consumer_group", true, LIMIT_CONSUMER_BYTES, &group)) {
        return false;
    }
    arg_str(a, command);
    arg(a, topic);
    option(a, "GROUP", group);
    return true;
}

/* "receipt", or the same under the name that the older specification has for it. */
static bool fill_receipt(struct json_in *in, struct args *a, bool *has)
{
    slice_t receipt = SLICE_NONE, named = SLICE_NONE;
    if (!json_text(in, "receipt", false, RECEIPT_BYTES, &receipt) || !json_text(in, "message_id", false, RECEIPT_BYTES, &named)) {
        return false;
    }
    if (receipt.len > 0 && named.len > 0) {
        return why(in, "receipt and message_id exclude each other: both take a receipt");
    }
    *has = receipt.len > 0 || named.len > 0;
    if (*has) {
        arg(a, receipt.len > 0 ? receipt : named);
    }
    return true;
}

static bool fill_ack(struct http_call *h, struct json_in *in, struct args *a)
{
    size_t count = 0;
    bool has = false;
    (void)h;
    if (!fill_group(in, a, "QUEUE.ACK") || !fill_receipt(in, a, &has) || !json_list(in, "receipts", RECEIPTS_MAX, &count)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        slice_t receipt = SLICE_NONE;
        if (!json_list_text(in, "receipts", i, RECEIPT_BYTES, &receipt)) {
            return false;
        }
        arg(a, receipt);
    }
    return has || count > 0 || why(in, "receipt (a string) or receipts (a list of them) is missing");
}

void http_ack(struct http_call *h)
{
    static const char *const fields[] = {"topic", "consumer_group", "receipt", "receipts", "message_id", NULL};
    post(h, &(struct post){fields, fill_ack, view_acked});
}

static bool fill_nack(struct http_call *h, struct json_in *in, struct args *a)
{
    slice_t mode = SLICE_NONE, reason = SLICE_NONE;
    uint64_t delay_ms = UINT64_MAX;
    bool has = false;
    (void)h;
    if (!fill_group(in, a, "QUEUE.NACK") || !fill_receipt(in, a, &has) || !json_text(in, "mode", false, 16, &mode) ||
        !json_text(in, "reason", false, LIMIT_REASON_BYTES, &reason) ||
        !json_duration_named(in, NULL, "delay_ms", 0, LIMIT_TTL_MS, &delay_ms)) {
        return false;
    }
    if (!has) {
        return why(in, "receipt is missing: a string, as /consume gave it");
    }
    if (mode.len > 0 && !slice_ieq(mode, "fail") && !slice_ieq(mode, "silent") && !slice_ieq(mode, "fatal")) {
        return why(in, "mode must be \"fail\", \"silent\" or \"fatal\"");
    }
    if (mode.len > 0) {
        arg(a, mode);
    }
    option_number(a, "DELAY", delay_ms);
    option(a, "REASON", reason);
    return true;
}

void http_nack(struct http_call *h)
{
    static const char *const fields[] = {"topic", "consumer_group", "receipt", "message_id", "delay_ms", "mode", "reason", NULL};
    post(h, &(struct post){fields, fill_nack, view_nacked});
}

static bool fill_extend(struct http_call *h, struct json_in *in, struct args *a)
{
    uint64_t ms = UINT64_MAX;
    bool has = false;
    (void)h;
    if (!fill_group(in, a, "QUEUE.EXTEND") || !fill_receipt(in, a, &has) || !json_duration_named(in, NULL, "ms", 0, LIMIT_TTL_MS, &ms)) {
        return false;
    }
    if (!has || ms == UINT64_MAX) {
        return why(in, has ? "ms is missing: milliseconds from now" : "receipt is missing: a string, as /consume gave it");
    }
    arg(a, number(a, ms));
    return true;
}

void http_extend(struct http_call *h)
{
    static const char *const fields[] = {"topic", "consumer_group", "receipt", "message_id", "ms", NULL};
    post(h, &(struct post){fields, fill_extend, view_extended});
}

static bool fill_redrive(struct http_call *h, struct json_in *in, struct args *a)
{
    uint64_t count = UINT64_MAX;
    (void)h;
    if (!fill_group(in, a, "QUEUE.REDRIVE") || !json_count(in, "count", 1, UINT32_MAX, &count)) {
        return false;
    }
    option_number(a, "COUNT", count);
    return true;
}

void http_redrive(struct http_call *h)
{
    static const char *const fields[] = {"topic", "consumer_group", "count", NULL};
    post(h, &(struct post){fields, fill_redrive, view_redriven});
}

static bool fill_create(struct http_call *h, struct json_in *in, struct args *a)
{
    static const struct { const char *field, *word; uint64_t max; } numbers[] = {
        {"partitions", "PARTITIONS", LIMIT_PARTITIONS},   {"max_deliver", "MAXDELIVER", 1000000},
        {"visibility_ms", "VISIBILITY", LIMIT_TTL_MS},    {"retention_bytes", "RETENTION", INT64_MAX},
        {"max_age_ms", "MAXAGE", INT64_MAX},              {"backoff_ms", "BACKOFF", LIMIT_TTL_MS},
        {"backoff_max_ms", "BACKOFFMAX", LIMIT_TTL_MS},   {"replicas", "REPLICAS", 15}};
    slice_t topic = SLICE_NONE, ordered = SLICE_NONE;
    (void)h;
    if (!json_text(in, "topic", true, LIMIT_KEY_BYTES, &topic) || !json_text(in, "ordered", false, 8, &ordered)) {
        return false;
    }
    arg_str(a, "QUEUE.CREATE");
    arg(a, topic);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        uint64_t v = UINT64_MAX;
        if (!json_count(in, numbers[i].field, 0, numbers[i].max, &v)) {
            return false;
        }
        option_number(a, numbers[i].word, v);
    }
    option(a, "ORDERED", ordered);
    return true;
}

void http_topic_create(struct http_call *h)
{
    static const char *const fields[] = {"topic",      "partitions",     "max_deliver", "visibility_ms", "retention_bytes", "max_age_ms",
                                         "backoff_ms", "backoff_max_ms", "replicas",    "ordered",       NULL};
    post(h, &(struct post){fields, fill_create, view_topic_created});
}

void http_topics(struct http_call *h)
{
    const slice_t argv[] = {SLICE_LIT("QUEUE.LIST")};
    http_command(h, argv, 1, view_topics);
}

/* /topic/{topic}, or /topic/{topic}/dlq?group=g. A topic whose own name ends so is reached by RESP. */
void http_topic(struct http_call *h)
{
    static const char tail[] = "/dlq";
    slice_t group, count;
    size_t n = sizeof tail - 1;
    if (h->rest.len <= n || memcmp(h->rest.ptr + h->rest.len - n, tail, n) != 0) {
        const slice_t argv[] = {SLICE_LIT("QUEUE.INFO"), h->rest};
        http_command(h, argv, 2, view_topic);
        return;
    }
    if (!http_query(h->req, "group", &group)) {
        http_refuse(h, 400, "ERR", NULL, "name the consumer group: ?group=");
        return;
    }
    slice_t argv[] = {SLICE_LIT("QUEUE.DLQ"), slice_of(h->rest.ptr, h->rest.len - n), SLICE_LIT("GROUP"), group, SLICE_LIT("COUNT"), SLICE_NONE};
    bool counted = http_query(h->req, "count", &count);
    argv[5] = counted ? count : SLICE_NONE;
    http_command(h, argv, counted ? 6 : 4, view_dead);
}

void http_topic_delete(struct http_call *h)
{
    const slice_t argv[] = {SLICE_LIT("QUEUE.DELETE"), h->rest};
    http_command(h, argv, 2, view_topic_deleted);
}

void http_group(struct http_call *h)
{
    slice_t topic;
    if (!http_query(h->req, "topic", &topic)) {
        http_refuse(h, 400, "ERR", NULL, "name the topic: ?topic=");
        return;
    }
    const slice_t argv[] = {SLICE_LIT("QUEUE.GROUPS"), topic, SLICE_LIT("GROUP"), h->rest};
    http_command_as(h, &queue_group_info, argv, 4, view_group);
}
