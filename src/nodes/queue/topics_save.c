/* Topics saved whole and restored, hashed and checked. A table is small: rows, members, remembered answers. */
#include "nodes/queue/topics_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

enum { SAVE_VERSION = 1, KIND_ORIGIN = 1, KIND_TOPIC = 4, KIND_GROUP = 5, KIND_END = 6 };

static size_t rec_begin(struct buf *out, uint8_t kind)
{
    buf_put_u8(out, kind);
    buf_put_u32(out, 0);
    return out->len;
}

static void rec_end(struct buf *out, size_t start)
{
    le32_put(out->ptr + start - 4, (uint32_t)(out->len - start));
}

static void save_topic(const struct topics *t, const struct topic *x, struct buf *out)
{
    size_t at = rec_begin(out, KIND_TOPIC);
    struct topic_row row = topic_row_of(x);
    topic_put_row(out, &row);
    buf_put_u8(out, x->deleted);
    buf_append(out, x->unconfirmed, t->opt.groups);
    rec_end(out, at);
}

static void save_group(const struct consumer_group *g, struct buf *out)
{
    size_t at = rec_begin(out, KIND_GROUP);
    buf_put_u64(out, g->topic->id);
    buf_put_bytes(out, consumer_group_name(g));
    buf_put_u64(out, g->generation);
    buf_put_u64(out, g->rebalances);
    buf_put_u32(out, g->n_members);
    uint32_t place = 0;
    list_each(it, (struct list *)&g->members) {
        struct member_row *m = CONTAINER_OF(it, struct member_row, of_group);
        m->place = place++;
        buf_put_bytes(out, member_name(m));
        buf_put_u64(out, m->node);
        buf_put_u64(out, m->ttl_ms);
        buf_put_u64(out, m->heard_ms);
        buf_put_u64(out, m->serial);
    }
    for (uint32_t p = 0; p < g->topic->config.partitions; p++) {
        buf_put_u64(out, g->since[p]);
        buf_put_u32(out, g->owner[p] != NULL ? g->owner[p]->place : UINT32_MAX);
    }
    rec_end(out, at);
}

void topics_save(const struct topics *t, struct buf *out)
{
    buf_put_u32(out, SAVE_VERSION);
    const uint64_t head[] = {t->index, t->term, t->time_ms, t->digest, t->next_serial, t->stats.rebalances, t->stats.expired_members};
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++) {
        buf_put_u64(out, head[i]);
    }
    dedup_save(&t->dedup, out, KIND_ORIGIN);
    const struct list *lists[] = {&t->all, &t->deleted};
    for (int i = 0; i < 2; i++) {
        list_each(it, (struct list *)lists[i]) {
            const struct topic *x = CONTAINER_OF(it, struct topic, all);
            save_topic(t, x, out);
            list_each(g, (struct list *)&x->consumer_groups) {
                save_group(CONTAINER_OF(g, struct consumer_group, of_topic), out);
            }
        }
    }
    rec_end(out, rec_begin(out, KIND_END));
}

static bool load_topic(struct topics *t, slice_t body)
{
    struct reader r = reader_of(body);
    uint32_t *groups = malloc(LIMIT_PARTITIONS * sizeof *groups);
    struct topic_row row;
    syn_assert(groups != NULL);
    bool ok = topic_get_row(&r, &row, groups);
    bool deleted = reader_u8(&r) != 0;
    slice_t unconfirmed = reader_take(&r, t->opt.groups);
    struct topic_row other;
    ok = ok && reader_done(&r) && row.id > 0 && topic_get(t, row.id) == NULL && (deleted || !topics_find(t, row.name, &other));
    for (uint32_t p = 0; ok && p < row.config.partitions; p++) {
        ok = groups[p] < t->opt.groups;
    }
    if (ok) {
        struct topic *x = topics_new_row(t, row.id, row.name, &row.config);
        x->version = row.version;
        memcpy(x->groups, groups, row.config.partitions * sizeof *groups);
        x->n_unconfirmed = 0;
        for (uint32_t g = 0; g < t->opt.groups; g++) {
            x->unconfirmed[g] = unconfirmed.ptr[g] != 0;
            x->n_unconfirmed += x->unconfirmed[g];
        }
        if (deleted) {
            topic_delete(t, x);
        }
    }
    free(groups);
    return ok;
}

static bool load_members(struct topics *t, struct consumer_group *g, struct reader *r, struct member_row **members, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        slice_t name = reader_bytes(r);
        if (!r->ok || name.len == 0 || name.len > LIMIT_CONSUMER_BYTES || member_row_find(t, g, name) != NULL) {
            return false;
        }
        struct member_row *m = members[i] = member_row_new(t, g, name);
        m->node = reader_u64(r);
        m->ttl_ms = reader_u64(r);
        m->heard_ms = reader_u64(r);
        m->serial = reader_u64(r);
        if (m->ttl_ms == 0 || m->ttl_ms > LIMIT_TTL_MS || m->heard_ms > t->time_ms) {
            return false;
        }
    }
    for (uint32_t p = 0; p < g->topic->config.partitions; p++) {
        g->since[p] = reader_u64(r);
        uint32_t place = reader_u32(r);
        if (place != UINT32_MAX && place >= n) {
            return false;
        }
        g->owner[p] = place != UINT32_MAX ? members[place] : NULL;
    }
    return reader_done(r);
}

static bool load_group(struct topics *t, slice_t body)
{
    struct reader r = reader_of(body);
    struct topic *x = topic_get(t, reader_u64(&r));
    slice_t name = reader_bytes(&r);
    if (!r.ok || x == NULL || name.len == 0 || name.len > LIMIT_CONSUMER_BYTES || consumer_group_find(t, x, name) != NULL) {
        return false;
    }
    struct consumer_group *g = consumer_group_new(t, x, name);
    g->generation = reader_u64(&r);
    g->rebalances = reader_u64(&r);
    uint32_t n = reader_u32(&r);
    if (!r.ok || n > LIMIT_MEMBERS_PER_GROUP) {
        return false;
    }
    struct member_row **members = calloc(n + 1, sizeof *members);
    syn_assert(members != NULL);
    bool ok = load_members(t, g, &r, members, n);
    free(members);
    return ok;
}

/* The order of timers of one instant carries no meaning (members_expire). */
static void arm_all(struct topics *t)
{
    list_each(it, &t->all) {
        struct topic *x = CONTAINER_OF(it, struct topic, all);
        list_each(gi, &x->consumer_groups) {
            list_each(mi, &CONTAINER_OF(gi, struct consumer_group, of_topic)->members) {
                struct member_row *m = CONTAINER_OF(mi, struct member_row, of_group);
                wheel_set(&t->wheel, &m->timer, m->heard_ms + m->ttl_ms);
            }
        }
    }
}

static bool load_head(struct topics *t, struct reader *r)
{
    uint32_t version = reader_u32(r);
    uint64_t *const head[] = {&t->index, &t->term, &t->time_ms, &t->digest, &t->next_serial, &t->stats.rebalances, &t->stats.expired_members};
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++) {
        *head[i] = reader_u64(r);
    }
    return r->ok && version == SAVE_VERSION;
}

bool topics_restore(struct topics *t, slice_t saved)
{
    struct reader r = reader_of(saved);
    syn_assert(t->index == 0 && list_empty(&t->all));
    if (!load_head(t, &r)) {
        return false;
    }
    while (reader_left(&r) > 0) {
        uint8_t kind = reader_u8(&r);
        slice_t body = reader_bytes(&r);
        bool ok = r.ok && (kind >= KIND_ORIGIN && kind < KIND_TOPIC ? dedup_restore(&t->dedup, kind - KIND_ORIGIN, body, t->time_ms) :
                           kind == KIND_TOPIC ? load_topic(t, body) : kind == KIND_GROUP ? load_group(t, body) : kind == KIND_END);
        if (!ok) {
            return false;
        }
        if (kind == KIND_END) {
            arm_all(t);
            return reader_done(&r);
        }
    }
    return false;
}

static uint64_t hash_group(const struct consumer_group *g)
{
    uint64_t h = hash_u64(hash_bytes(3, consumer_group_name(g)) ^ hash_u64(g->generation) ^ g->rebalances);
    list_each(it, (struct list *)&g->members) {
        const struct member_row *m = CONTAINER_OF(it, struct member_row, of_group);
        h = hash_u64(h ^ hash_bytes(4, member_name(m)) ^ m->node ^ hash_u64(m->ttl_ms) ^ hash_u64(m->heard_ms ^ hash_u64(m->serial)));
    }
    for (uint32_t p = 0; p < g->topic->config.partitions; p++) {
        h = hash_u64(h ^ g->since[p] ^ (g->owner[p] != NULL ? hash_bytes(5, member_name(g->owner[p])) : 0));
    }
    return h;
}

uint64_t topics_state_hash(const struct topics *t)
{
    uint64_t sum = dedup_hash(&t->dedup) + t->next_serial;
    const struct list *lists[] = {&t->all, &t->deleted};
    for (int i = 0; i < 2; i++) {
        list_each(it, (struct list *)lists[i]) {
            const struct topic *x = CONTAINER_OF(it, struct topic, all);
            struct buf b = {0};
            save_topic(t, x, &b);
            uint64_t h = hash_bytes(2, buf_slice(&b));
            buf_fini(&b);
            list_each(g, (struct list *)&x->consumer_groups) {
                h = hash_u64(h ^ hash_group(CONTAINER_OF(g, struct consumer_group, of_topic)));
            }
            sum += h;
        }
    }
    return sum;
}

static void check_group(const struct consumer_group *g)
{
    uint32_t n = 0, partitions = g->topic->config.partitions;
    list_each(it, (struct list *)&g->members) {
        const struct member_row *m = CONTAINER_OF(it, struct member_row, of_group);
        uint32_t has = 0;
        syn_assert(m->group == g && timer_armed(&m->timer));
        for (uint32_t p = 0; p < partitions; p++) {
            has += g->owner[p] == m;
        }
        syn_assert(has >= partitions / g->n_members && has <= partitions / g->n_members + 1); /* Q10 */
        n++;
    }
    syn_assert(n == g->n_members);
    for (uint32_t p = 0; p < partitions; p++) {
        syn_assert((g->owner[p] == NULL) == (n == 0)); /* total */
        syn_assert(g->since[p] <= g->generation);
    }
}

void topics_check(const struct topics *t)
{
    uint64_t before = 0;
    list_each(it, (struct list *)&t->all) {
        const struct topic *x = CONTAINER_OF(it, struct topic, all);
        syn_assert(!x->deleted && x->id > before && x->version >= x->id);
        before = x->id;
        list_each(g, (struct list *)&x->consumer_groups) {
            check_group(CONTAINER_OF(g, struct consumer_group, of_topic));
        }
    }
    wheel_check(&t->wheel);
}
