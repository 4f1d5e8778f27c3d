/* Topics saved whole and restored, hashed and checked. A table is small: rows, members, remembered answers. */
#include "nodes/queue/topics_internal.h"

#include "utils/hash.h"

#include <stdlib.h>

enum { SAVE_VERSION = 2, KIND_ORIGIN = 1, KIND_TOPIC = 4, KIND_GROUP = 5, KIND_END = 6 };

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
    buf_put_u64(out, x->floor);
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
    members_number(g);
    list_each(it, (struct list *)&g->members) {
        const struct member_row *m = CONTAINER_OF(it, struct member_row, of_group);
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

/* Live rows come first, by id; then what is being dropped, each once, as long as a group has not confirmed it. */
static bool row_fits(const struct topics *t, const struct topic_row *row, bool deleted)
{
    struct topic_row other;
    uint64_t last = list_empty(&t->all) ? 0 : CONTAINER_OF(t->all.prev, struct topic, all)->id;
    if (row->id == 0 || row->version < row->id || row->version > t->index || topic_find_any(t, row->id) != NULL) {
        return false;
    }
    for (uint32_t p = 0; p < row->config.partitions; p++) {
        if (row->groups[p] >= t->opt.groups) {
            return false;
        }
    }
    return deleted || (row->id > last && list_empty(&t->deleted) && !topics_find(t, row->name, &other));
}

static bool add_row(struct topics *t, const struct topic_row *row, slice_t unconfirmed, uint64_t floor, bool deleted)
{
    struct topic *x = topics_new_row(t, row->id, row->name, &row->config);
    x->version = row->version;
    x->floor = floor;
    memcpy(x->groups, row->groups, row->config.partitions * sizeof *x->groups);
    t->n_unconfirmed -= x->n_unconfirmed;
    x->n_unconfirmed = 0;
    for (uint32_t g = 0; g < t->opt.groups; g++) {
        x->unconfirmed[g] = unconfirmed.ptr[g] != 0;
        x->n_unconfirmed += x->unconfirmed[g];
    }
    t->n_unconfirmed += x->n_unconfirmed;
    if (deleted) {
        topic_delete(t, x);
    }
    return !deleted || x->n_unconfirmed > 0;
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
    uint64_t floor = reader_u64(&r);
    ok = ok && reader_done(&r) && row_fits(t, &row, deleted) && add_row(t, &row, unconfirmed, floor, deleted);
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
        if (m->ttl_ms == 0 || m->ttl_ms > LIMIT_TTL_MS || m->heard_ms > t->time_ms || m->serial >= t->next_serial) {
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

/* What is wrong with an assignment, or NULL. One rule for what this node made (asserted) and for what came in a snapshot (refused). */
static const char *group_wrong(const struct consumer_group *g)
{
    uint32_t *has = calloc(g->n_members + 1, sizeof *has), partitions = g->topic->config.partitions;
    uint32_t least = g->n_members > 0 ? partitions / g->n_members : 0;
    uint64_t before = 0;
    const char *why = g->n_members > 0 && g->generation == 0 ? "members, but no generation" : NULL;
    syn_assert(has != NULL);
    members_number(g);
    for (uint32_t p = 0; p < partitions; p++) {
        why = (g->owner[p] == NULL) != (g->n_members == 0) ? "Q10: not total" : g->since[p] > g->generation ? "Q5: since is to come" : why;
        if (g->owner[p] != NULL) {
            has[g->owner[p]->place]++;
        }
    }
    list_each(it, (struct list *)&g->members) {
        const struct member_row *m = CONTAINER_OF(it, struct member_row, of_group);
        why = has[m->place] < least || has[m->place] > least + 1 ? "Q10: not balanced" : m->serial <= before ? "not in the order of joining" : why;
        before = m->serial;
    }
    free(has);
    return why;
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
    bool ok = load_members(t, g, &r, members, n) && group_wrong(g) == NULL;
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
    syn_assert(list_empty(&g->changing));
    syn_assert(group_wrong(g) == NULL);
    list_each(it, (struct list *)&g->members) {
        const struct member_row *m = CONTAINER_OF(it, struct member_row, of_group);
        syn_assert(m->group == g && timer_armed(&m->timer));
    }
}

static uint32_t count_unconfirmed(const struct topics *t, const struct topic *x)
{
    uint32_t n = 0;
    for (uint32_t g = 0; g < t->opt.groups; g++) {
        n += x->unconfirmed[g];
    }
    syn_assert(n == x->n_unconfirmed);
    return n;
}

void topics_check(const struct topics *t)
{
    uint64_t before = 0, unconfirmed = 0;
    list_each(it, (struct list *)&t->all) {
        const struct topic *x = CONTAINER_OF(it, struct topic, all);
        syn_assert(!x->deleted && x->id > before && x->version >= x->id);
        before = x->id;
        unconfirmed += count_unconfirmed(t, x);
        list_each(g, (struct list *)&x->consumer_groups) {
            check_group(CONTAINER_OF(g, struct consumer_group, of_topic));
        }
    }
    list_each(it, (struct list *)&t->deleted) {
        const struct topic *x = CONTAINER_OF(it, struct topic, all);
        syn_assert(x->deleted && x->n_unconfirmed > 0 && list_empty(&x->consumer_groups));
        unconfirmed += count_unconfirmed(t, x);
    }
    syn_assert(unconfirmed == t->n_unconfirmed && list_empty(&t->changing));
    wheel_check(&t->wheel);
}
