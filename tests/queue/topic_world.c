/* See topic_world.h. Asserts itself that replies are well formed and that invariants hold; what they should say is the tests' business. */
#include "topic_world.h"

#include "utils/assert.h"

struct topics *topic_world_table(uint64_t hash_key)
{
    return topics_new(&(struct topics_options){.groups = TOPIC_WORLD_GROUPS, .hash_key = hash_key, .dedup_ms = 120000, .dedup_count = 1000});
}

void topic_world_init(struct topic_world *w)
{
    *w = (struct topic_world){.t = topic_world_table(5), .time_ms = 1000, .origin = 1};
    topics_out_init(&w->out);
}

void topic_world_fini(struct topic_world *w)
{
    topics_free(w->t);
    topics_out_fini(&w->out);
    buf_fini(&w->op);
}

void topic_world_begin(struct topic_world *w, enum topic_op_kind kind)
{
    buf_clear(&w->op);
    w->seq++;
    struct topic_head h = {.kind = kind, .req = {w->origin, w->origin ? w->seq : 0}, .low = w->seq > 8 ? w->seq - 8 : 0};
    topic_put_head(&w->op, &h);
}

static void take_joined(struct topic_world *w, struct reader *r, enum topic_code code)
{
    syn_assert(w->n < TOPIC_WORLD_JOINS);
    struct joined *j = &w->joined[w->n++];
    j->code = code;
    j->generation = 0;
    j->n = 0;
    if (code != TOPIC_DONE) {
        return;
    }
    j->generation = reader_u64(r);
    j->n = reader_u32(r);
    syn_assert(j->n <= LIMIT_PARTITIONS);
    for (uint32_t i = 0; i < j->n; i++) {
        j->partition[i] = reader_u32(r);
        j->since[i] = reader_u64(r);
        syn_assert(j->since[i] > 0 && j->since[i] <= j->generation && (i == 0 || j->partition[i] > j->partition[i - 1]));
    }
}

static void take_reply(struct topic_world *w, enum topic_op_kind kind, struct reader r)
{
    w->code = (enum topic_code)reader_u8(&r);
    if (w->code == TOPIC_DONE && (kind == TOPIC_OP_CREATE || kind == TOPIC_OP_ALTER)) {
        bool ok = topic_get_row(&r, &w->row, w->groups);
        w->changed = reader_u8(&r) != 0;
        syn_assert(ok);
    } else if (w->code == TOPIC_DONE && kind == TOPIC_OP_JOIN) {
        uint32_t n = reader_u32(&r);
        for (uint32_t i = 0; i < n; i++) {
            take_joined(w, &r, (enum topic_code)reader_u8(&r));
        }
    } else if (kind == TOPIC_OP_LEAVE && w->code == TOPIC_DONE) {
        take_joined(w, &r, w->code);
    }
    syn_assert(reader_done(&r));
}

static void check_unconfirmed(void *arg, const struct topic_row *row, uint32_t group, bool open)
{
    struct topic_row found;
    syn_assert(group < TOPIC_WORLD_GROUPS && open == topics_find_id(arg, row->id, &found));
}

void topic_world_apply(struct topic_world *w)
{
    struct reader op = reader_of(buf_slice(&w->op));
    struct topic_head h = {0};
    topics_out_clear(&w->out);
    w->answered = w->changed = false;
    w->code = TOPIC_DONE;
    w->n = 0;
    topics_apply(w->t, ++w->index, 1, w->time_ms, buf_slice(&w->op), &w->out);
    topics_check(w->t);
    topics_unconfirmed(w->t, UINT32_MAX, check_unconfirmed, w->t);
    syn_assert(w->out.n_results <= 1);
    if (w->out.n_results == 1) {
        const struct topics_result *res = &w->out.results[0];
        bool ok = topic_get_head(&op, &h);
        syn_assert(ok && res->req.origin == h.req.origin && res->req.seq == h.req.seq);
        w->answered = true;
        take_reply(w, h.kind, reader_of(slice_of(w->out.replies.ptr + res->reply_off, res->reply_len)));
    }
}

void topic_world_restore(struct topic_world *w)
{
    struct buf b = {0}, again = {0};
    struct topics *t = topic_world_table(99);
    topics_save(w->t, &b);
    bool ok = topics_restore(t, buf_slice(&b));
    syn_assert(ok);
    topics_check(t);
    syn_assert(topics_state_hash(t) == topics_state_hash(w->t) && topics_digest(t) == topics_digest(w->t));
    topics_save(t, &again);
    syn_assert(slice_eq(buf_slice(&b), buf_slice(&again)));
    topics_free(w->t);
    w->t = t;
    buf_fini(&b);
    buf_fini(&again);
}

struct topic_config topic_world_config(uint32_t partitions)
{
    return (struct topic_config){.partitions = partitions, .max_deliver = 5, .visibility_ms = 30000, .backoff_ms = 100, .backoff_ms_max = 1000};
}

uint64_t topic_world_create(struct topic_world *w, const char *name, uint32_t partitions)
{
    struct topic_create c = {.name = slice_str(name), .config = topic_world_config(partitions)};
    topic_world_begin(w, TOPIC_OP_CREATE);
    topic_put_create(&w->op, &c);
    topic_world_apply(w);
    return w->code == TOPIC_DONE ? w->row.id : 0;
}

enum topic_code topic_world_join(struct topic_world *w, uint64_t topic, const char *group, const char *consumer, uint64_t ttl_ms)
{
    struct topic_join j = {.topic = topic, .group = slice_str(group), .consumer = slice_str(consumer), .ttl_ms = ttl_ms, .node = 3};
    topic_world_begin(w, TOPIC_OP_JOIN);
    topic_put_join(&w->op, 1);
    topic_put_join_item(&w->op, &j);
    topic_world_apply(w);
    syn_assert(w->n == 1);
    return w->joined[0].code;
}

static enum topic_code member_op(struct topic_world *w, enum topic_op_kind kind, uint64_t topic, const char *group, const char *consumer)
{
    struct topic_member m = {.topic = topic, .group = slice_str(group), .consumer = slice_str(consumer)};
    topic_world_begin(w, kind);
    topic_put_member(&w->op, &m);
    topic_world_apply(w);
    return w->code;
}

enum topic_code topic_world_leave(struct topic_world *w, uint64_t topic, const char *group, const char *consumer)
{
    return member_op(w, TOPIC_OP_LEAVE, topic, group, consumer);
}

enum topic_code topic_world_forget(struct topic_world *w, uint64_t topic, const char *group)
{
    return member_op(w, TOPIC_OP_FORGET, topic, group, "");
}

void topic_world_confirm(struct topic_world *w, uint64_t topic, uint64_t version, uint32_t group)
{
    struct topic_confirm c = {.topic = topic, .version = version, .group = group};
    topic_world_begin(w, TOPIC_OP_CONFIRM);
    topic_put_confirm(&w->op, &c);
    topic_world_apply(w);
}

enum topic_code topic_world_delete(struct topic_world *w, const char *name)
{
    topic_world_begin(w, TOPIC_OP_DELETE);
    topic_put_delete(&w->op, slice_str(name));
    topic_world_apply(w);
    return w->code;
}

void topic_world_tick(struct topic_world *w, uint64_t ms)
{
    w->time_ms += ms;
    topic_world_begin(w, TOPIC_OP_TICK);
    topic_world_apply(w);
}

struct wanted { slice_t name; struct topic_group_info *out; bool found; };

static void want_group(void *arg, const struct topic_group_info *g)
{
    struct wanted *x = arg;
    if (slice_eq(g->name, x->name)) {
        *x->out = *g;
        x->found = true;
    }
}

bool topic_world_group(const struct topic_world *w, uint64_t topic, const char *group, struct topic_group_info *out)
{
    struct wanted x = {slice_str(group), out, false};
    topics_groups(w->t, topic, want_group, &x);
    return x.found;
}
