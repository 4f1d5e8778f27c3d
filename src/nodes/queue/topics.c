/* The topics of group 0: rows, their placement, and which groups have heard of them (topics.h).
 *
 * Not responsible for members (topics_members.c) nor for saving (topics_save.c). Invariants: a topic's id is the index of its entry, never used
 * twice; a partition never changes its group (Q11); a deleted topic is remembered until every group has confirmed that it dropped it. */
#include "nodes/queue/topics_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

void topics_out_init(struct topics_out *o)
{
    *o = (struct topics_out){0};
}

void topics_out_clear(struct topics_out *o)
{
    buf_clear(&o->replies);
    buf_clear(&o->names);
    o->n_results = 0;
    o->n_changed = 0;
}

void topics_out_fini(struct topics_out *o)
{
    buf_fini(&o->replies);
    buf_fini(&o->names);
    free(o->results);
    free(o->changed);
    *o = (struct topics_out){0};
}

static bool name_eq(const struct map_node *m, const void *key)
{
    return slice_eq(topic_row_name(CONTAINER_OF(m, struct topic, by_name)), *(const slice_t *)key);
}

static bool id_eq(const struct map_node *m, const void *key)
{
    return CONTAINER_OF(m, struct topic, by_id)->id == *(const uint64_t *)key;
}

static struct topic *find_name(const struct topics *t, slice_t name)
{
    struct map_node *m = map_find((struct map *)&t->by_name, hash_bytes(t->opt.hash_key, name), &name, name_eq);
    return m != NULL ? CONTAINER_OF(m, struct topic, by_name) : NULL;
}

struct topic *topic_find_any(const struct topics *t, uint64_t id)
{
    struct map_node *m = map_find((struct map *)&t->by_id, hash_u64(id), &id, id_eq);
    return m != NULL ? CONTAINER_OF(m, struct topic, by_id) : NULL;
}

struct topic *topic_get(const struct topics *t, uint64_t id)
{
    struct topic *x = topic_find_any(t, id);
    return x != NULL && !x->deleted ? x : NULL;
}

struct topics *topics_new(const struct topics_options *o)
{
    struct topics *t = calloc(1, sizeof *t);
    syn_assert(t != NULL && o->groups > 0);
    t->opt = *o;
    dedup_init(&t->dedup, o->hash_key, o->dedup_ms, o->dedup_count);
    struct map *maps[] = {&t->by_name, &t->by_id, &t->groups_by_name, &t->members_by_name};
    for (size_t i = 0; i < 4; i++) {
        map_init(maps[i]);
    }
    list_init(&t->all);
    list_init(&t->deleted);
    list_init(&t->changing);
    wheel_init(&t->wheel, 0);
    t->next_serial = 1;
    return t;
}

void topics_free(struct topics *t)
{
    struct list *lists[] = {&t->all, &t->deleted};
    for (int i = 0; i < 2; i++) {
        while (!list_empty(lists[i])) {
            struct topic *x = CONTAINER_OF(lists[i]->next, struct topic, all);
            if (!x->deleted) {
                topic_delete(t, x);
            }
            topic_drop(t, x);
        }
    }
    wheel_fini(&t->wheel);
    dedup_fini(&t->dedup);
    map_fini(&t->by_name);
    map_fini(&t->by_id);
    map_fini(&t->groups_by_name);
    map_fini(&t->members_by_name);
    free(t);
}

static void set_unconfirmed(struct topics *t, struct topic *x)
{
    memset(x->unconfirmed, 0, t->opt.groups);
    t->n_unconfirmed -= x->n_unconfirmed;
    x->n_unconfirmed = 0;
    for (uint32_t p = 0; p < x->config.partitions; p++) {
        x->n_unconfirmed += !x->unconfirmed[x->groups[p]];
        x->unconfirmed[x->groups[p]] = 1;
    }
    t->n_unconfirmed += x->n_unconfirmed;
}

struct topic *topics_new_row(struct topics *t, uint64_t id, slice_t name, const struct topic_config *config)
{
    struct topic *x = calloc(1, sizeof *x + name.len);
    syn_assert(x != NULL && config->partitions > 0);
    x->id = x->version = id;
    x->config = *config;
    x->name_len = (uint32_t)name.len;
    memcpy(x->name, name.ptr, name.len);
    x->groups = calloc(config->partitions, sizeof *x->groups);
    x->unconfirmed = calloc(t->opt.groups, 1);
    syn_assert(x->groups != NULL && x->unconfirmed != NULL);
    list_init(&x->consumer_groups);
    topic_place(name, config->partitions, t->opt.groups, x->groups);
    set_unconfirmed(t, x);
    map_insert(&t->by_name, &x->by_name, hash_bytes(t->opt.hash_key, name));
    map_insert(&t->by_id, &x->by_id, hash_u64(id));
    list_push_back(&t->all, &x->all);
    t->n_topics++;
    return x;
}

void topic_delete(struct topics *t, struct topic *x)
{
    syn_assert(!x->deleted);
    while (!list_empty(&x->consumer_groups)) {
        consumer_group_free(t, CONTAINER_OF(x->consumer_groups.next, struct consumer_group, of_topic));
    }
    map_remove(&t->by_name, &x->by_name);
    list_remove(&x->all);
    list_push_back(&t->deleted, &x->all);
    x->deleted = true;
    t->n_topics--;
}

void topic_drop(struct topics *t, struct topic *x)
{
    syn_assert(x->deleted);
    map_remove(&t->by_id, &x->by_id);
    list_remove(&x->all);
    t->n_unconfirmed -= x->n_unconfirmed;
    free(x->groups);
    free(x->unconfirmed);
    free(x);
}

struct topic_row topic_row_of(const struct topic *x)
{
    return (struct topic_row){.id = x->id, .version = x->version, .name = topic_row_name(x), .config = x->config, .groups = x->groups};
}

static bool same_config(const struct topic_config *a, const struct topic_config *b)
{
    return a->partitions == b->partitions && a->max_deliver == b->max_deliver && a->visibility_ms == b->visibility_ms &&
           a->retention_bytes == b->retention_bytes && a->max_age_ms == b->max_age_ms && a->backoff_ms == b->backoff_ms &&
           a->backoff_ms_max == b->backoff_ms_max && a->ordered == b->ordered && a->stream == b->stream;
}

/* The first byte of a reply is there already: TOPIC_DONE until something is wrong. */
static void refuse(struct buf *reply, size_t at, enum topic_code code)
{
    reply->len = at + 1;
    reply->ptr[at] = (uint8_t)code;
}

static void put_row(struct buf *reply, const struct topic *x, bool changed)
{
    struct topic_row row = topic_row_of(x);
    topic_put_row(reply, &row);
    buf_put_u8(reply, changed);
}

static bool get_create(struct reader *r, struct topic_create *o)
{
    o->name = reader_bytes(r);
    o->maybe = reader_u8(r) != 0;
    return topic_get_config(r, &o->config) && reader_done(r) && o->name.len > 0 && o->name.len <= LIMIT_KEY_BYTES;
}

static void op_create(struct topics *t, struct reader *r, struct buf *reply, size_t at)
{
    struct topic_create o;
    if (!get_create(r, &o)) {
        refuse(reply, at, TOPIC_LIMIT);
        return;
    }
    struct topic *x = find_name(t, o.name);
    if (x != NULL && !o.maybe && !same_config(&x->config, &o.config)) {
        refuse(reply, at, TOPIC_EXISTS);
    } else if (x != NULL) {
        put_row(reply, x, false);
    } else if (t->n_topics >= LIMIT_TOPICS) {
        refuse(reply, at, TOPIC_LIMIT);
    } else {
        put_row(reply, topics_new_row(t, t->index, o.name, &o.config), true);
    }
}

static void op_alter(struct topics *t, struct reader *r, struct buf *reply, size_t at)
{
    struct topic_create o;
    bool sane = get_create(r, &o);
    struct topic *x = sane ? find_name(t, o.name) : NULL;
    if (x == NULL) {
        refuse(reply, at, sane ? TOPIC_UNKNOWN : TOPIC_LIMIT);
    } else if (o.config.partitions != x->config.partitions || o.config.ordered != x->config.ordered || o.config.stream != x->config.stream) {
        refuse(reply, at, TOPIC_BAD_CHANGE);
    } else if (same_config(&o.config, &x->config)) {
        put_row(reply, x, false);
    } else {
        x->config = o.config;
        x->version = t->index;
        set_unconfirmed(t, x);
        put_row(reply, x, true);
    }
}

static void op_delete(struct topics *t, struct reader *r, struct buf *reply, size_t at)
{
    slice_t name = reader_bytes(r);
    struct topic *x = reader_done(r) ? find_name(t, name) : NULL;
    if (x == NULL) {
        refuse(reply, at, TOPIC_UNKNOWN);
        return;
    }
    topic_delete(t, x);
    x->version = t->index;
    set_unconfirmed(t, x);
}

static void op_confirm(struct topics *t, struct reader *r)
{
    uint64_t id = reader_u64(r), version = reader_u64(r);
    uint32_t group = reader_u32(r);
    struct topic *x = reader_done(r) ? topic_find_any(t, id) : NULL;
    if (x == NULL || x->version != version || group >= t->opt.groups || !x->unconfirmed[group]) {
        return;
    }
    x->unconfirmed[group] = 0;
    x->n_unconfirmed--;
    t->n_unconfirmed--;
    if (x->deleted && x->n_unconfirmed == 0) {
        topic_drop(t, x);
    }
}

static void execute(struct topics *t, enum topic_op_kind kind, struct reader *r, struct buf *reply)
{
    size_t at = reply->len;
    buf_put_u8(reply, TOPIC_DONE);
    switch (kind) {
    case TOPIC_OP_CREATE: op_create(t, r, reply, at); break;
    case TOPIC_OP_ALTER: op_alter(t, r, reply, at); break;
    case TOPIC_OP_DELETE: op_delete(t, r, reply, at); break;
    case TOPIC_OP_CONFIRM: op_confirm(t, r); break;
    case TOPIC_OP_JOIN: topic_op_join(t, r, reply); break;
    case TOPIC_OP_LEAVE: topic_op_leave(t, r, reply); break;
    case TOPIC_OP_FORGET: topic_op_forget(t, r, reply); break;
    case TOPIC_OP_TICK: break;
    case TOPIC_OP_MAX: SYN_UNREACHABLE();
    }
    t->stats.refused_malformed += !reader_done(r);
}

static struct topics_result *add_result(struct topics_out *o, struct request_id req)
{
    if (o->n_results == o->cap_results) {
        o->cap_results = o->cap_results ? o->cap_results * 2 : 16;
        o->results = realloc(o->results, o->cap_results * sizeof *o->results);
        syn_assert(o->results != NULL);
    }
    struct topics_result *r = &o->results[o->n_results++];
    *r = (struct topics_result){.req = req, .reply_off = o->replies.len};
    return r;
}

void topics_apply(struct topics *t, uint64_t index, uint64_t term, uint64_t time_ms, slice_t op, struct topics_out *out)
{
    struct reader r = reader_of(op);
    struct topic_head h;
    syn_assert(index > t->index && time_ms >= t->time_ms);
    t->index = index;
    t->term = term;
    t->time_ms = time_ms;
    t->out = out;
    t->digest = hash_u64(t->digest ^ hash_bytes(index, op));
    members_expire(t);
    if (!topic_get_head(&r, &h)) {
        t->stats.refused_malformed++;
        t->out = NULL;
        return;
    }
    dedup_advance(&t->dedup, h.req, h.low, time_ms);
    if (h.req.origin == 0) {
        struct buf none = {0};
        execute(t, h.kind, &r, &none);
        buf_fini(&none);
        t->out = NULL;
        return;
    }
    const struct record *known = dedup_find(&t->dedup, h.req);
    if (known != NULL || !dedup_too_old(&t->dedup, h.req)) {
        struct topics_result *res = add_result(out, h.req);
        uint32_t which = out->n_results - 1;
        if (known != NULL) {
            buf_append(&out->replies, known->reply, known->len);
        } else {
            execute(t, h.kind, &r, &out->replies);
            res = &out->results[which];
            dedup_add(&t->dedup, h.req, time_ms, 0, slice_of(out->replies.ptr + res->reply_off, out->replies.len - res->reply_off));
        }
        res->reply_len = out->replies.len - res->reply_off;
    }
    t->out = NULL;
}

uint64_t topics_next_due_ms(const struct topics *t)
{
    return wheel_next_ms(&t->wheel);
}

bool topics_find(const struct topics *t, slice_t name, struct topic_row *out)
{
    const struct topic *x = find_name(t, name);
    if (x != NULL) {
        *out = topic_row_of(x);
    }
    return x != NULL;
}

bool topics_find_id(const struct topics *t, uint64_t id, struct topic_row *out)
{
    const struct topic *x = topic_get(t, id);
    if (x != NULL) {
        *out = topic_row_of(x);
    }
    return x != NULL;
}

void topics_list(const struct topics *t, uint64_t after, bool (*fn)(void *arg, const struct topic_row *row), void *arg)
{
    list_each(it, (struct list *)&t->all) {
        const struct topic *x = CONTAINER_OF(it, struct topic, all);
        struct topic_row row = topic_row_of(x);
        if (x->id > after && !fn(arg, &row)) {
            return;
        }
    }
}

void topics_unconfirmed(const struct topics *t, uint32_t max, void (*fn)(void *arg, const struct topic_row *row, uint32_t group, bool open), void *arg)
{
    const struct list *lists[] = {&t->deleted, &t->all};
    uint64_t left = t->n_unconfirmed < max ? t->n_unconfirmed : max; /* mostly none, however many topics there are */
    for (int i = 0; i < 2; i++) {
        for (const struct list *it = lists[i]->next; left > 0 && it != lists[i]; it = it->next) {
            const struct topic *x = CONTAINER_OF(it, struct topic, all);
            struct topic_row row = topic_row_of(x);
            for (uint32_t g = 0; g < t->opt.groups && x->n_unconfirmed > 0 && left > 0; g++) {
                if (x->unconfirmed[g]) {
                    left--;
                    fn(arg, &row, g, !x->deleted);
                }
            }
        }
    }
}

void topics_stats(const struct topics *t, struct topics_stats *out)
{
    *out = t->stats;
    out->topics = t->n_topics;
}

uint64_t topics_digest(const struct topics *t)
{
    return t->digest;
}
