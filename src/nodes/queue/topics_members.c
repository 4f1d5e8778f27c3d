/* Consumer groups and their members: who is alive, who has which partition, in which generation (docs/queue.md, "Consumer groups").
 *
 * Invariants: Q5 a partition has at most one member in a generation; Q10 assignments are total and balanced (topic_assign); a generation grows
 * with every change of an assignment and never otherwise, so that an old one can be told; a JOIN of a known member only moves its deadline. */
#include "nodes/queue/topics_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

struct name_key { const void *of; slice_t name; };

static bool group_eq(const struct map_node *m, const void *key)
{
    const struct consumer_group *g = CONTAINER_OF(m, struct consumer_group, by_name);
    const struct name_key *k = key;
    return g->topic == k->of && slice_eq(consumer_group_name(g), k->name);
}

static bool member_eq(const struct map_node *x, const void *key)
{
    const struct member_row *m = CONTAINER_OF(x, struct member_row, by_name);
    const struct name_key *k = key;
    return m->group == k->of && slice_eq(member_name(m), k->name);
}

static uint64_t group_hash(const struct topics *t, const struct topic *x, slice_t name)
{
    return hash_u64(x->id ^ hash_bytes(t->opt.hash_key, name));
}

static uint64_t member_hash(const struct topics *t, const struct consumer_group *g, slice_t name)
{
    return hash_u64(g->topic->id ^ hash_bytes(t->opt.hash_key, consumer_group_name(g)) ^ hash_u64(hash_bytes(t->opt.hash_key ^ 1, name)));
}

struct consumer_group *consumer_group_find(const struct topics *t, const struct topic *x, slice_t name)
{
    struct name_key k = {x, name};
    struct map_node *m = map_find((struct map *)&t->groups_by_name, group_hash(t, x, name), &k, group_eq);
    return m != NULL ? CONTAINER_OF(m, struct consumer_group, by_name) : NULL;
}

struct consumer_group *consumer_group_new(struct topics *t, struct topic *x, slice_t name)
{
    struct consumer_group *g = calloc(1, sizeof *g + name.len);
    syn_assert(g != NULL);
    g->topic = x;
    g->name_len = (uint32_t)name.len;
    memcpy(g->name, name.ptr, name.len);
    g->since = calloc(x->config.partitions, sizeof *g->since);
    g->owner = calloc(x->config.partitions, sizeof(void *));
    syn_assert(g->since != NULL && g->owner != NULL);
    list_init(&g->members);
    list_init(&g->changing);
    g->generation = x->floor;
    list_push_back(&x->consumer_groups, &g->of_topic);
    x->n_consumer_groups++;
    t->stats.groups++;
    map_insert(&t->groups_by_name, &g->by_name, group_hash(t, x, name));
    return g;
}

struct member_row *member_row_find(const struct topics *t, const struct consumer_group *g, slice_t name)
{
    struct name_key k = {g, name};
    struct map_node *m = map_find((struct map *)&t->members_by_name, member_hash(t, g, name), &k, member_eq);
    return m != NULL ? CONTAINER_OF(m, struct member_row, by_name) : NULL;
}

struct member_row *member_row_new(struct topics *t, struct consumer_group *g, slice_t name)
{
    struct member_row *m = calloc(1, sizeof *m + name.len);
    syn_assert(m != NULL);
    m->group = g;
    m->name_len = (uint32_t)name.len;
    memcpy(m->name, name.ptr, name.len);
    timer_init(&m->timer);
    list_push_back(&g->members, &m->of_group);
    g->n_members++;
    t->stats.members++;
    map_insert(&t->members_by_name, &m->by_name, member_hash(t, g, name));
    return m;
}

static void member_row_free(struct topics *t, struct member_row *m)
{
    struct consumer_group *g = m->group;
    for (uint32_t p = 0; p < g->topic->config.partitions; p++) {
        if (g->owner[p] == m) {
            g->owner[p] = NULL;
        }
    }
    wheel_cancel(&t->wheel, &m->timer);
    map_remove(&t->members_by_name, &m->by_name);
    list_remove(&m->of_group);
    g->n_members--;
    t->stats.members--;
    free(m);
}

void consumer_group_free(struct topics *t, struct consumer_group *g)
{
    while (!list_empty(&g->members)) {
        member_row_free(t, CONTAINER_OF(g->members.next, struct member_row, of_group));
    }
    map_remove(&t->groups_by_name, &g->by_name);
    list_remove(&g->of_topic);
    list_remove(&g->changing);
    g->topic->n_consumer_groups--;
    t->stats.groups--;
    free(g->since);
    free(g->owner);
    free(g);
}

static void tell_changed(struct topics *t, struct consumer_group *g)
{
    struct topics_out *out = t->out;
    if (out == NULL) {
        return;
    }
    if (out->n_changed == out->cap_changed) {
        out->cap_changed = out->cap_changed ? out->cap_changed * 2 : 8;
        out->changed = realloc(out->changed, out->cap_changed * sizeof *out->changed);
        syn_assert(out->changed != NULL);
    }
    struct topics_changed *c = &out->changed[out->n_changed++];
    *c = (struct topics_changed){.topic = g->topic->id, .group_off = out->names.len, .group_len = g->name_len, .generation = g->generation};
    buf_append_slice(&out->names, consumer_group_name(g));
}

void members_number(const struct consumer_group *g)
{
    uint32_t place = 0;
    list_each(it, (struct list *)&g->members) {
        CONTAINER_OF(it, struct member_row, of_group)->place = place++;
    }
    syn_assert(place == g->n_members);
}

/* A new assignment, a new generation. */
static void reassign(struct topics *t, struct consumer_group *g)
{
    uint32_t partitions = g->topic->config.partitions;
    uint32_t *owner = malloc(partitions * sizeof *owner);
    struct member_row **members = malloc((g->n_members + 1) * sizeof *members);
    syn_assert(owner != NULL && members != NULL);
    members_number(g);
    list_each(it, &g->members) {
        struct member_row *m = CONTAINER_OF(it, struct member_row, of_group);
        members[m->place] = m;
    }
    for (uint32_t p = 0; p < partitions; p++) {
        owner[p] = g->owner[p] != NULL ? g->owner[p]->place : UINT32_MAX;
    }
    topic_assign(owner, partitions, g->n_members);
    g->generation++;
    g->rebalances++;
    t->stats.rebalances++;
    for (uint32_t p = 0; p < partitions; p++) {
        struct member_row *to = owner[p] != UINT32_MAX ? members[owner[p]] : NULL;
        if (to != g->owner[p]) {
            g->owner[p] = to;
            g->since[p] = g->generation;
        }
    }
    free(members);
    free(owner);
    tell_changed(t, g);
}

/* An entry that changes the members of a consumer group, few or many, changes its assignment once. */
static void mark_changed(struct topics *t, struct consumer_group *g)
{
    if (list_empty(&g->changing)) {
        list_push_back(&t->changing, &g->changing);
    }
}

static void reassign_changed(struct topics *t)
{
    while (!list_empty(&t->changing)) {
        struct consumer_group *g = CONTAINER_OF(t->changing.next, struct consumer_group, changing);
        list_remove(&g->changing);
        reassign(t, g);
    }
}

static int by_serial(const void *a, const void *b)
{
    const struct member_row *x = *(struct member_row *const *)a, *y = *(struct member_row *const *)b;
    return x->serial < y->serial ? -1 : x->serial > y->serial;
}

/* All that are due leave together, in the order of joining whatever the order of their timers (which a restored table does not know): a
 * consumer group that loses several has one new assignment. */
void members_expire(struct topics *t)
{
    struct list due;
    list_init(&due);
    wheel_advance(&t->wheel, t->time_ms, &due);
    if (list_empty(&due)) {
        return;
    }
    struct member_row **gone = malloc(t->stats.members * sizeof *gone);
    size_t n = 0;
    syn_assert(gone != NULL);
    while (!list_empty(&due)) {
        gone[n++] = CONTAINER_OF(due.next, struct member_row, timer.link);
        list_remove(due.next);
    }
    qsort(gone, n, sizeof(void *), by_serial);
    for (size_t i = 0; i < n; i++) {
        gone[i]->group->generation -= list_empty(&gone[i]->group->changing) && MUTANT("S50b");
        mark_changed(t, gone[i]->group);
        member_row_free(t, gone[i]);
        t->stats.expired_members++;
    }
    free(gone);
    reassign_changed(t);
}

static void put_assignment(struct buf *reply, const struct consumer_group *g, const struct member_row *m)
{
    buf_put_u64(reply, g->generation);
    size_t at = reply->len;
    uint32_t n = 0;
    buf_put_u32(reply, 0);
    for (uint32_t p = 0; p < g->topic->config.partitions; p++) {
        if (g->owner[p] == m) {
            buf_put_u32(reply, p);
            buf_put_u64(reply, g->since[p]);
            n++;
        }
    }
    le32_put(reply->ptr + at, n);
}

static enum topic_code join_one(struct topics *t, const struct topic_join *j, struct consumer_group **group, struct member_row **member)
{
    struct topic *x = topic_get(t, j->topic);
    if (x == NULL) {
        return TOPIC_UNKNOWN;
    }
    struct consumer_group *g = consumer_group_find(t, x, j->group);
    if (g == NULL) {
        if (x->n_consumer_groups >= LIMIT_GROUPS_PER_TOPIC) {
            return TOPIC_LIMIT;
        }
        g = consumer_group_new(t, x, j->group);
    }
    struct member_row *m = member_row_find(t, g, j->consumer);
    if (m == NULL) {
        if (g->n_members >= LIMIT_MEMBERS_PER_GROUP) {
            return TOPIC_LIMIT;
        }
        m = member_row_new(t, g, j->consumer);
        m->serial = t->next_serial++;
        mark_changed(t, g);
    }
    m->node = j->node;
    m->ttl_ms = j->ttl_ms;
    m->heard_ms = t->time_ms;
    wheel_set(&t->wheel, &m->timer, t->time_ms + m->ttl_ms);
    *group = g;
    *member = m;
    return TOPIC_DONE;
}

static bool get_join(struct reader *r, struct topic_join *j)
{
    *j = (struct topic_join){.topic = reader_u64(r)};
    j->group = reader_bytes(r);
    j->consumer = reader_bytes(r);
    j->ttl_ms = reader_u64(r);
    j->node = reader_u64(r);
    return r->ok;
}

static bool join_sane(const struct topic_join *j)
{
    return j->group.len > 0 && j->group.len <= LIMIT_CONSUMER_BYTES && j->consumer.len > 0 && j->consumer.len <= LIMIT_CONSUMER_BYTES &&
           j->ttl_ms > 0 && j->ttl_ms <= LIMIT_TTL_MS;
}

/* Once more for those that have joined is only to be heard of again: the second time writes what each has. */
static void join_all(struct topics *t, struct reader r, struct buf *reply)
{
    struct topic_join j;
    uint32_t n = reader_u32(&r);
    for (uint32_t i = 0; i < n && get_join(&r, &j); i++) {
        struct consumer_group *g = NULL;
        struct member_row *m = NULL;
        enum topic_code code = join_sane(&j) ? join_one(t, &j, &g, &m) : TOPIC_LIMIT;
        if (reply != NULL) {
            buf_put_u8(reply, (uint8_t)code);
        }
        if (reply != NULL && code == TOPIC_DONE) {
            put_assignment(reply, g, m);
        }
    }
    syn_assert(reader_done(&r));
}

/* All join first: each then hears of the one assignment with all of them. */
void topic_op_join(struct topics *t, struct reader *r, struct buf *reply)
{
    struct reader all = *r;
    struct topic_join j;
    uint32_t n = reader_u32(r);
    for (uint32_t i = 0; i < n && get_join(r, &j); i++) {
    }
    if (!reader_done(r)) {
        reply->ptr[reply->len - 1] = TOPIC_LIMIT;
        return;
    }
    join_all(t, all, NULL);
    reassign_changed(t);
    buf_put_u32(reply, n);
    join_all(t, all, reply);
    syn_assert(list_empty(&t->changing));
}

static bool get_member(struct topics *t, struct reader *r, struct topic **x, struct consumer_group **g, slice_t *consumer, struct buf *reply)
{
    uint64_t id = reader_u64(r);
    slice_t name = reader_bytes(r);
    *consumer = reader_bytes(r);
    *x = reader_done(r) ? topic_get(t, id) : NULL;
    *g = *x != NULL ? consumer_group_find(t, *x, name) : NULL;
    if (*g == NULL) {
        reply->ptr[reply->len - 1] = *x == NULL ? TOPIC_UNKNOWN : TOPIC_NO_GROUP;
    }
    return *g != NULL;
}

void topic_op_leave(struct topics *t, struct reader *r, struct buf *reply)
{
    struct topic *x;
    struct consumer_group *g;
    slice_t consumer;
    if (!get_member(t, r, &x, &g, &consumer, reply)) {
        return;
    }
    struct member_row *m = member_row_find(t, g, consumer);
    if (m == NULL) {
        reply->ptr[reply->len - 1] = TOPIC_NO_MEMBER;
        return;
    }
    put_assignment(reply, g, m);
    member_row_free(t, m);
    mark_changed(t, g);
    reassign_changed(t);
}

void topic_op_forget(struct topics *t, struct reader *r, struct buf *reply)
{
    struct topic *x;
    struct consumer_group *g;
    slice_t consumer;
    if (!get_member(t, r, &x, &g, &consumer, reply)) {
        return;
    }
    if (g->n_members > 0) {
        reply->ptr[reply->len - 1] = TOPIC_HAS_MEMBERS;
        return;
    }
    x->floor = g->generation > x->floor ? g->generation : x->floor;
    consumer_group_free(t, g);
}

void topics_groups(const struct topics *t, uint64_t topic, void (*fn)(void *arg, const struct topic_group_info *g), void *arg)
{
    const struct topic *x = topic_get(t, topic);
    if (x == NULL) {
        return;
    }
    list_each(it, (struct list *)&x->consumer_groups) {
        const struct consumer_group *g = CONTAINER_OF(it, struct consumer_group, of_topic);
        struct topic_group_info info = {.name = consumer_group_name(g), .generation = g->generation, .members = g->n_members,
                                        .rebalances = g->rebalances};
        fn(arg, &info);
    }
}

/* The partitions of each member side by side: of the one at place i from begin[i] up to begin[i + 1]. */
static void sort_parts(const struct consumer_group *g, uint32_t *parts, uint32_t *begin)
{
    members_number(g);
    memset(begin, 0, (g->n_members + 2) * sizeof *begin);
    for (uint32_t p = 0; p < g->topic->config.partitions; p++) {
        if (g->owner[p] != NULL) {
            begin[g->owner[p]->place + 2]++;
        }
    }
    for (uint32_t i = 0; i < g->n_members; i++) {
        begin[i + 2] += begin[i + 1];
    }
    for (uint32_t p = 0; p < g->topic->config.partitions; p++) {
        if (g->owner[p] != NULL) {
            parts[begin[g->owner[p]->place + 1]++] = p;
        }
    }
}

void topics_members(const struct topics *t, uint64_t topic, slice_t group, void (*fn)(void *arg, const struct topic_member_info *m), void *arg)
{
    const struct topic *x = topic_get(t, topic);
    const struct consumer_group *g = x != NULL ? consumer_group_find(t, x, group) : NULL;
    if (g == NULL) {
        return;
    }
    uint32_t *parts = malloc(x->config.partitions * sizeof *parts), *begin = malloc((g->n_members + 2) * sizeof *begin);
    syn_assert(parts != NULL && begin != NULL);
    sort_parts(g, parts, begin);
    list_each(it, (struct list *)&g->members) {
        const struct member_row *m = CONTAINER_OF(it, struct member_row, of_group);
        struct topic_member_info info = {.consumer = member_name(m), .node = m->node, .ttl_ms = m->ttl_ms, .heard_ms = m->heard_ms,
                                         .parts = parts + begin[m->place], .n_parts = begin[m->place + 1] - begin[m->place]};
        fn(arg, &info);
    }
    free(begin);
    free(parts);
}
