/* The members of consumer groups that consume by this node: they join in group 0, are kept alive, and learn their partitions.
 *
 * One JOIN carries all that must be heard of; a member lives while its last connection is open, or it was used within its TTL. Not
 * responsible for who gets what (topics.h) nor for taking messages (queue_consume.c). */
#include "nodes/doors/queue_door.h"

#include "utils/hash.h"

#include <stdlib.h>

enum { MEMBER_TTL_MS = 10000, JOIN_ITEMS_MAX = 512, JOIN_RETRY_MS = 20 };

struct member_key { uint64_t topic; slice_t group, consumer; };

static bool key_eq(const struct map_node *x, const void *key)
{
    const struct member *m = CONTAINER_OF(x, struct member, by_key);
    const struct member_key *k = key;
    return m->topic_id == k->topic && slice_eq(member_group(m), k->group) && slice_eq(member_consumer(m), k->consumer);
}

static uint64_t key_hash(const struct node *n, const struct member_key *k)
{
    return hash_u64(k->topic ^ hash_bytes(n->hash_key, k->group) ^ hash_u64(hash_bytes(n->hash_key ^ 1, k->consumer)));
}

struct member *member_find(struct node *n, struct topic_ref *t, slice_t group, slice_t consumer)
{
    struct member_key k = {t->id, group, consumer};
    struct map_node *x = map_find(&n->doors->members, key_hash(n, &k), &k, key_eq);
    return x != NULL ? CONTAINER_OF(x, struct member, by_key) : NULL;
}

/* A bare stream has one partition, which all consumers of a group read. */
struct member *member_of_stream(struct node *n, struct topic_ref *t, slice_t group, slice_t consumer)
{
    struct member *m = member_get(n, t, group, consumer);
    if (!m->stream) {
        m->stream = m->joined = true;
        m->parts = malloc(sizeof *m->parts);
        syn_assert(m->parts != NULL);
        m->parts[0] = (struct member_part){.group = t->groups[0]};
        m->n_parts = 1;
    }
    return m;
}

struct member *member_get(struct node *n, struct topic_ref *t, slice_t group, slice_t consumer)
{
    struct member *m = member_find(n, t, group, consumer);
    if (m == NULL) {
        struct member_key k = {t->id, group, consumer};
        m = calloc(1, sizeof *m + group.len + consumer.len);
        syn_assert(m != NULL);
        *m = (struct member){.topic = t, .topic_id = t->id, .ttl_ms = MEMBER_TTL_MS, .group_len = (uint16_t)group.len,
                             .consumer_len = (uint16_t)consumer.len};
        memcpy(m->bytes, group.ptr, group.len);
        memcpy(m->bytes + group.len, consumer.ptr, consumer.len);
        list_init(&m->consumes);
        map_insert(&n->doors->members, &m->by_key, key_hash(n, &k));
        list_push_back(&n->doors->members_all, &m->all);
    }
    m->used_ms = n->now_ms;
    return m;
}

static void member_free(struct doors *d, struct member *m)
{
    map_remove(&d->members, &m->by_key);
    list_remove(&m->all);
    free(m->parts);
    free(m);
}

void member_left(struct node *n, struct member *m)
{
    struct buf b = {0};
    resp_error(&b, "UNBLOCKED", "the consumer left its group");
    consumes_of_member(n, m, buf_slice(&b));
    buf_fini(&b);
    if (m->joining) {
        m->joined = false; /* freed when the answer is there */
        m->used_ms = 0;
    } else {
        member_free(n->doors, m);
    }
}

static int by_group(const void *a, const void *b)
{
    const struct member_part *x = a, *y = b;
    if (x->group != y->group) {
        return x->group < y->group ? -1 : 1;
    }
    return x->partition < y->partition ? -1 : x->partition > y->partition;
}

/* Reads one member's answer; m NULL: only past it. */
static bool take_joined(struct node *n, struct member *m, struct reader *r, uint8_t *code)
{
    *code = reader_u8(r);
    if (*code != TOPIC_DONE) {
        return r->ok;
    }
    uint64_t generation = reader_u64(r);
    uint32_t count = reader_u32(r);
    if (!r->ok || count > LIMIT_PARTITIONS) {
        return false;
    }
    struct member_part *parts = malloc((count + 1) * sizeof *parts);
    syn_assert(parts != NULL);
    for (uint32_t i = 0; i < count; i++) {
        parts[i].partition = reader_u32(r);
        parts[i].since = reader_u64(r);
        bool known = m != NULL && parts[i].partition < m->topic->config.partitions && m->topic->id == m->topic_id;
        parts[i].group = known ? m->topic->groups[parts[i].partition] : 0;
    }
    if (m == NULL || !r->ok || generation < m->generation) {
        free(parts);
        return r->ok;
    }
    qsort(parts, count, sizeof *parts, by_group);
    free(m->parts);
    m->parts = parts;
    m->n_parts = count;
    m->generation = generation;
    m->heard_ms = n->now_ms;
    return true;
}

/* The members asked for, in order; freed with the request. */
struct join {
    struct list link;
    uint32_t n;
    struct member *members[];
};

static void join_answer(struct node *n, struct member *m, uint8_t code, uint64_t before, slice_t whole)
{
    bool was = m->joined;
    m->joining = false;
    if (m->used_ms == 0 && list_empty(&m->consumes)) {
        member_free(n->doors, m);
        return;
    }
    if (code == 0xff && was) {
        consumes_joined(n, m, whole); /* nobody may wait for ever for an assignment that nobody can give */
    } else if (code == 0xff || code == TOPIC_UNKNOWN) {
        struct buf b = {0};
        if (code == TOPIC_UNKNOWN) {
            topic_refresh(n, m->topic);
            topic_code_error(&b, code, topic_name(m->topic));
        } else {
            buf_append_slice(&b, whole);
        }
        m->joined = false;
        consumes_of_member(n, m, buf_slice(&b));
        buf_fini(&b);
    } else if (code != TOPIC_DONE) {
        struct buf b = {0};
        topic_code_error(&b, code, topic_name(m->topic));
        m->joined = false;
        consumes_of_member(n, m, buf_slice(&b));
        buf_fini(&b);
    } else {
        m->joined = true;
        if (!was || m->generation != before) {
            consumes_of_member(n, m, SLICE_NONE);
        } else {
            consumes_joined(n, m, SLICE_NONE);
        }
    }
    if (m->rejoin) {
        m->rejoin = false;
        member_join(n, m);
    }
}

static void join_done(struct node *n, struct request *r, slice_t reply)
{
    struct join *j = (struct join *)(uintptr_t)r->arg;
    struct reader rd = reader_of(reply);
    bool ok = reader_u8(&rd) == TOPIC_DONE && reader_u32(&rd) == j->n;
    list_remove(&j->link);
    for (uint32_t i = 0; i < j->n; i++) {
        struct member *m = j->members[i];
        uint64_t before = m->generation;
        uint8_t code = 0xff;
        if (ok && !take_joined(n, m, &rd, &code)) {
            ok = false;
            code = 0xff;
        }
        join_answer(n, m, code, before, reply);
    }
    free(j);
}

/* When the first of them must be heard of again. */
static void note_due(struct doors *d, const struct member *m)
{
    uint64_t due = m->heard_ms + m->ttl_ms / 3;
    d->members_ms = due < d->members_ms ? due : d->members_ms;
}

static void join_send(struct node *n, struct join *j)
{
    struct request *r = topics_request(n, TOPIC_OP_JOIN, join_done);
    r->arg = (uintptr_t)j;
    list_push_back(&n->doors->joins, &j->link);
    topic_put_join(&r->payload, j->n);
    for (uint32_t i = 0; i < j->n; i++) {
        struct member *m = j->members[i];
        m->joining = true;
        m->heard_ms = n->now_ms;
        note_due(n->doors, m);
        topic_put_join_item(&r->payload, &(struct topic_join){.topic = m->topic_id, .group = member_group(m), .consumer = member_consumer(m),
                                                              .ttl_ms = m->ttl_ms, .node = n->opt.self});
    }
    request_submit(n, r);
}

void member_join(struct node *n, struct member *m)
{
    if (m->joining) {
        m->rejoin = true;
        return;
    }
    struct join *j = malloc(sizeof *j + sizeof j->members[0]);
    syn_assert(j != NULL);
    j->n = 1;
    j->members[0] = m;
    join_send(n, j);
}

/* Someone joined, left or died: all members of that group that are ours ask what they have now. */
void doors_group_changed(struct node *n, uint64_t topic, slice_t group, uint64_t generation)
{
    list_each_safe(it, &n->doors->members_all) {
        struct member *m = CONTAINER_OF(it, struct member, all);
        if (m->topic_id == topic && slice_eq(member_group(m), group) && m->generation < generation && m->joined) {
            member_join(n, m);
        }
    }
}

static bool member_alive(struct node *n, const struct member *m)
{
    return !list_empty(&m->consumes) || (m->conn != 0 && conn_find(n, m->conn) != NULL) || n->now_ms - m->used_ms < m->ttl_ms;
}

/* Those that are due are heard of together; those that nobody uses any more are let go, and leave by their TTL. */
void members_timers(struct node *n)
{
    struct doors *d = n->doors;
    if (n->now_ms < d->members_ms || list_empty(&d->members_all)) {
        return;
    }
    struct join *j = NULL;
    uint64_t next = n->now_ms + MEMBER_TTL_MS / 3;
    list_each_safe(it, &d->members_all) {
        struct member *m = CONTAINER_OF(it, struct member, all);
        if (m->joining) {
            continue;
        }
        if (!member_alive(n, m)) {
            member_free(d, m);
            continue;
        }
        if (m->stream) {
            continue;
        }
        uint64_t due = m->heard_ms + m->ttl_ms / 3;
        if (due > n->now_ms) {
            next = due < next ? due : next;
            continue;
        }
        if (j == NULL) {
            j = malloc(sizeof *j + JOIN_ITEMS_MAX * sizeof j->members[0]);
            syn_assert(j != NULL);
            j->n = 0;
        }
        j->members[j->n++] = m;
        if (j->n == JOIN_ITEMS_MAX) {
            next = n->now_ms;
            break;
        }
    }
    d->members_ms = next;
    if (j != NULL) {
        join_send(n, j);
    }
}

uint64_t members_deadline(const struct node *n)
{
    return list_empty(&n->doors->members_all) ? UINT64_MAX : n->doors->members_ms;
}

void queue_members_fini(struct doors *d)
{
    while (!list_empty(&d->joins)) {
        struct join *j = CONTAINER_OF(d->joins.next, struct join, link);
        list_remove(&j->link);
        free(j);
    }
    while (!list_empty(&d->members_all)) {
        member_free(d, CONTAINER_OF(d->members_all.next, struct member, all));
    }
    map_fini(&d->members);
}
