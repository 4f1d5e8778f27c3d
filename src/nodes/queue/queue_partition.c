/* Partitions: offsets, what is kept about messages beside their bodies, and which of them go.
 *
 * Invariants: Q3 offsets are dense and ids ascend; Q12 the floor of a queue topic without retention never passes a position's next, that of a
 * log rises by RETENTION and MAXAGE only (what is lost to somebody is counted as expired), that of a stream by TRIM, MAXLEN and ERASE;
 * whatever the floor, `start` of a queue topic stays at or below every pend. Floor and start are looked at once per apply (part_dirty).
 *
 * RETENTION and MAXAGE go by marks, a share of the bound each, so they are exact to an eighth. */
#include "nodes/queue/queue_internal.h"

static struct mark *mark_at(const struct partition *p, size_t i)
{
    return vec_at(&p->marks, i, sizeof(struct mark));
}

static struct delayed *delayed_at(const struct partition *p, size_t i)
{
    return *(struct delayed **)vec_at(&p->delayed, i, sizeof(struct delayed *));
}

size_t part_erased_from(const struct partition *p, uint64_t offset)
{
    size_t low = 0, high = p->erased.len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (*(const uint64_t *)vec_at(&p->erased, mid, sizeof(uint64_t)) < offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

bool part_erased(const struct partition *p, uint64_t offset)
{
    size_t i = p->erased.len > 0 ? part_erased_from(p, offset) : 0;
    return i < p->erased.len && *(const uint64_t *)vec_at(&p->erased, i, sizeof(uint64_t)) == offset;
}

bool part_deleted(const struct partition *p, uint64_t offset)
{
    return offset < p->floor || part_erased(p, offset);
}

uint64_t part_live(const struct partition *p)
{
    return p->end - p->floor - p->erased.len;
}

/* Bytes before the floor: exact at a mark, in proportion between two. */
uint64_t part_bytes(const struct partition *p)
{
    if (p->marks.len == 0) {
        return 0;
    }
    const struct mark *m = mark_at(p, 0);
    uint64_t next = p->marks.len > 1 ? mark_at(p, 1)->first : p->end;
    uint64_t until = p->marks.len > 1 ? mark_at(p, 1)->bytes : p->bytes_total;
    uint64_t gone = (uint64_t)((unsigned __int128)(until - m->bytes) * (p->floor - m->first) / (next - m->first));
    return p->bytes_total - m->bytes - gone;
}

uint64_t part_min_next(const struct partition *p)
{
    uint64_t min = UINT64_MAX;
    list_each(it, (struct list *)&p->positions_all) {
        uint64_t next = CONTAINER_OF(it, struct position, all)->next;
        min = next < min ? next : min;
    }
    if (MUTANT("Q12") && p->n_positions > 0) {
        return CONTAINER_OF(p->positions_all.prev, struct position, all)->next;
    }
    return min;
}

static void mark_add(struct queue_sm *sm, struct partition *p, uint64_t bytes)
{
    const struct topic_config *c = &p->topic->config;
    uint64_t share = c->retention_bytes / MARK_SHARE, bound = MARK_BYTES;
    bound = c->retention_bytes > 0 && share < bound ? share : bound;
    struct mark *m = p->marks.len > 0 ? vec_last(&p->marks, sizeof *m) : NULL;
    if (m == NULL || p->end - m->first >= MARK_MESSAGES || p->bytes_total - m->bytes >= bound ||
        (c->max_age_ms > 0 && sm->wall_ms - m->first_ms >= c->max_age_ms / MARK_SHARE)) {
        m = vec_push(&p->marks, sizeof *m);
        *m = (struct mark){.first = p->end, .bytes = p->bytes_total, .first_ms = sm->wall_ms};
    }
    m->last_ms = sm->wall_ms;
    p->bytes_total += bytes;
}

struct delayed *part_delayed(const struct partition *p, uint64_t offset)
{
    size_t low = 0, high = p->delayed.len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (delayed_at(p, mid)->offset < offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    struct delayed *d = low < p->delayed.len ? delayed_at(p, low) : NULL;
    return d != NULL && d->offset == offset && !d->gone ? d : NULL;
}

void part_delay(struct queue_sm *sm, struct partition *p, uint64_t offset, uint64_t at_ms)
{
    struct delayed *d = calloc(1, sizeof *d);
    syn_assert(d != NULL);
    d->due.kind = QDUE_DELAYED;
    timer_init(&d->due.timer);
    d->part = p;
    d->offset = offset;
    wheel_set(&sm->wheel, &d->due.timer, at_ms);
    *(struct delayed **)vec_push(&p->delayed, sizeof d) = d;
    p->n_delayed++;
}

/* Taken out at the front at once, in the middle when half of them are gone. */
void part_delayed_gone(struct queue_sm *sm, struct delayed *d)
{
    struct partition *p = d->part;
    if (!d->gone) {
        d->gone = true;
        wheel_cancel(&sm->wheel, &d->due.timer);
        p->n_delayed--;
    }
    while (p->delayed.len > 0 && delayed_at(p, 0)->gone) {
        free(delayed_at(p, 0));
        vec_pop_front(&p->delayed, 1, sizeof d);
    }
    if (p->delayed.len > 16 && p->delayed.len > 2 * (size_t)p->n_delayed) {
        size_t n = 0;
        for (size_t i = 0; i < p->delayed.len; i++) {
            d = delayed_at(p, i);
            if (d->gone) {
                free(d);
            } else {
                *(struct delayed **)vec_at(&p->delayed, n++, sizeof d) = d;
            }
        }
        p->delayed.len = n;
    }
}

void part_dirty(struct queue_sm *sm, struct partition *p)
{
    if (!p->dirty) {
        p->dirty = true;
        p->next_dirty = sm->dirty;
        sm->dirty = p;
    }
}

/* Positions that had not got there go there: what they miss is expired. */
static void positions_raise(struct queue_sm *sm, struct partition *p, uint64_t to, uint64_t erased)
{
    uint64_t low = UINT64_MAX;
    list_each(it, &p->positions_all) {
        struct position *pos = CONTAINER_OF(it, struct position, all);
        low = pos->next < low ? pos->next : low;
        pos->next = pos->next < to ? to : pos->next;
    }
    low = p->n_positions == 0 || low < p->floor ? p->floor : low;
    if (low < to && !p->topic->config.stream) {
        uint64_t n = to - low;
        n -= erased < n ? erased : n;
        p->expired += n;
        sm->stats.expired += n;
    }
}

uint64_t part_raise(struct queue_sm *sm, struct partition *p, uint64_t to)
{
    to = to < p->end ? to : p->end;
    if (to <= p->floor) {
        return 0;
    }
    size_t erased = part_erased_from(p, to);
    uint64_t low = part_min_next(p), n = to - p->floor - erased;
    low = low < p->floor || low == UINT64_MAX ? p->floor : low;
    positions_raise(sm, p, to, low < to ? erased - part_erased_from(p, low) : 0);
    if (p->topic->config.ordered) {
        vec_pop_front(&p->keys, to - p->floor, sizeof(uint32_t));
    }
    p->floor = to;
    vec_pop_front(&p->erased, erased, sizeof(uint64_t));
    while (p->marks.len > 0 && (p->marks.len > 1 ? mark_at(p, 1)->first : p->end) <= to) {
        vec_pop_front(&p->marks, 1, sizeof(struct mark));
    }
    while (p->delayed.len > 0 && delayed_at(p, 0)->offset < to) {
        part_delayed_gone(sm, delayed_at(p, 0));
    }
    ids_trim(&p->ids, to);
    part_dirty(sm, p);
    return n;
}

/* How far RETENTION and MAXAGE let the floor rise. */
static uint64_t retention_floor(const struct queue_sm *sm, const struct partition *p)
{
    const struct topic_config *c = &p->topic->config;
    uint64_t floor = p->floor;
    for (size_t i = 0; i < p->marks.len; i++) {
        const struct mark *m = mark_at(p, i);
        bool last = i + 1 == p->marks.len;
        bool big = c->retention_bytes > 0 && !last && p->bytes_total - m->bytes > c->retention_bytes;
        bool old = c->max_age_ms > 0 && sm->wall_ms >= add_sat(m->last_ms, c->max_age_ms);
        if (!big && !old) {
            break;
        }
        floor = last ? p->end : mark_at(p, i + 1)->first;
    }
    return floor;
}

static uint64_t part_lowest(const struct partition *p)
{
    uint64_t low = p->floor;
    list_each(it, (struct list *)&p->positions_all) {
        const struct position *pos = CONTAINER_OF(it, struct position, all);
        if (!list_empty(&pos->pends)) {
            uint64_t first = CONTAINER_OF(pos->pends.next, struct pend, all)->offset;
            low = first < low ? first : low;
        }
    }
    return low;
}

static void age_arm(struct queue_sm *sm, struct partition *p)
{
    uint64_t age = p->topic->config.max_age_ms;
    if (age == 0 || p->marks.len == 0 || p->topic->config.stream) {
        wheel_cancel(&sm->wheel, &p->age.timer);
        return;
    }
    uint64_t at = add_sat(mark_at(p, 0)->last_ms, age);
    at = add_sat(sm->time_ms, at > sm->wall_ms ? at - sm->wall_ms : 0);
    if (!timer_armed(&p->age.timer) || p->age.timer.at_ms != at) {
        wheel_set(&sm->wheel, &p->age.timer, at);
    }
}

static void part_settle(struct queue_sm *sm, struct partition *p)
{
    const struct topic_config *c = &p->topic->config;
    if (!c->stream) {
        uint64_t next = part_min_next(p);
        part_raise(sm, p, topic_is_log(p->topic) ? retention_floor(sm, p) : next == UINT64_MAX ? p->floor : next);
        age_arm(sm, p);
    }
    size_t front = 0; /* erased ones at the front go with it */
    while (front < p->erased.len && *(uint64_t *)vec_at(&p->erased, front, sizeof(uint64_t)) == p->floor + front) {
        front++;
    }
    part_raise(sm, p, p->floor + front);
    uint64_t start = c->stream ? p->floor : part_lowest(p);
    if (start > p->start) {
        p->start = start;
        queue_emit_trimmed(sm, p, start);
    }
}

void parts_settle(struct queue_sm *sm)
{
    while (sm->dirty != NULL) {
        struct partition *p = sm->dirty;
        sm->dirty = p->next_dirty;
        part_settle(sm, p);
        p->dirty = false;
        p->next_dirty = NULL;
    }
}

void part_fini(struct queue_sm *sm, struct partition *p)
{
    p->dirty = true; /* nothing of it is to be looked at any more */
    list_each_safe(it, &p->positions_all) {
        position_free(sm, CONTAINER_OF(it, struct position, all));
    }
    for (size_t i = 0; i < p->delayed.len; i++) {
        wheel_cancel(&sm->wheel, &delayed_at(p, i)->due.timer);
        free(delayed_at(p, i));
    }
    wheel_cancel(&sm->wheel, &p->age.timer);
    map_fini(&p->positions);
    ids_fini(&p->ids);
    vec_fini(&p->marks);
    vec_fini(&p->keys);
    vec_fini(&p->erased);
    vec_fini(&p->delayed);
}

/* An id above the partition's last: the client's, half of it, or the time. */
static bool choose_id(const struct queue_sm *sm, const struct partition *p, const struct publish_item *it, struct stream_id *id)
{
    const struct stream_id last = p->last_id;
    if (it->flags & MESSAGE_ID) {
        *id = it->id;
        return stream_id_cmp(it->id, last) > 0;
    }
    bool half = (it->flags & MESSAGE_ID_AUTO_SEQ) != 0;
    uint64_t ms = half ? it->id.ms : sm->head.wall_ms;
    if (ms > last.ms) {
        *id = (struct stream_id){ms, 0};
        return true;
    }
    if (half && (ms < last.ms || last.seq == UINT64_MAX)) {
        return false;
    }
    *id = last.seq < UINT64_MAX ? (struct stream_id){last.ms, last.seq + 1} : (struct stream_id){last.ms + 1, 0};
    return last.seq < UINT64_MAX || last.ms < UINT64_MAX;
}

static void part_append(struct queue_sm *sm, struct partition *p, const struct publish_item *it, struct stream_id id)
{
    mark_add(sm, p, it->body.len);
    ids_append(&p->ids, p->end, id);
    if (p->topic->config.ordered) {
        *(uint32_t *)vec_push(&p->keys, sizeof(uint32_t)) = it->key_hash;
    }
    if (it->delay_ms > 0) {
        part_delay(sm, p, p->end, add_sat(sm->time_ms, it->delay_ms));
    } else {
        queue_emit_woken(sm, p);
    }
    queue_emit_appended(sm, &(struct queue_appended){p->topic->id, p->number, p->end, id, it->flags, it->body});
    p->end += MUTANT("Q3") && p->end % 32 == 9 ? 2 : 1;
    p->last_id = id;
    p->entries_added++;
    p->published++;
    sm->stats.published++;
    if (topic_is_log(p->topic)) {
        part_dirty(sm, p);
    }
    if (it->trim_maxlen < part_live(p)) {
        /* The lowest floor above which trim_maxlen are left. */
        uint64_t to = p->floor, left = part_live(p) - it->trim_maxlen;
        for (size_t i = 0; i < p->erased.len && *(uint64_t *)vec_at(&p->erased, i, sizeof(uint64_t)) - to <= left; i++) {
            uint64_t hole = *(uint64_t *)vec_at(&p->erased, i, sizeof(uint64_t));
            left -= hole - to;
            to = hole + 1;
        }
        part_raise(sm, p, to + left);
    }
}

/* A producer's id: the topic, then what the client gave. Its value: partition, offset, id (Q9). */
static slice_t dedup_key(const struct publish_item *it, uint8_t key[8 + LIMIT_IDEM_BYTES])
{
    le64_put(key, it->topic);
    memcpy(key + 8, it->dedup.ptr, it->dedup.len);
    return slice_of(key, 8 + it->dedup.len);
}

static bool is_duplicate(struct queue_sm *sm, const struct publish_item *it, uint64_t *offset, struct stream_id *id)
{
    uint8_t key[8 + LIMIT_IDEM_BYTES];
    if (it->dedup.len == 0 || MUTANT("S55")) {
        return false;
    }
    const struct idem *known = dedup_find_idem(&sm->dedup, dedup_key(it, key));
    if (known == NULL) {
        return false;
    }
    struct reader r = reader_of(idem_reply(known));
    reader_u32(&r);
    *offset = reader_u64(&r);
    id->ms = reader_u64(&r);
    id->seq = reader_u64(&r);
    sm->stats.duplicates++;
    return true;
}

static void remember(struct queue_sm *sm, const struct publish_item *it, uint64_t offset, struct stream_id id)
{
    uint8_t key[8 + LIMIT_IDEM_BYTES], value[28];
    le32_put(value, it->partition);
    le64_put(value + 4, offset);
    le64_put(value + 12, id.ms);
    le64_put(value + 20, id.seq);
    slice_t name = dedup_key(it, key);
    if (dedup_find_idem(&sm->dedup, name) == NULL) {
        dedup_add_idem(&sm->dedup, name, sm->time_ms, 0, slice_of(value, sizeof value));
    }
}

static enum publish_status publish_one(struct queue_sm *sm, const struct publish_item *it, uint64_t *offset, struct stream_id *id)
{
    struct topic *t = topic_find(sm, it->topic);
    struct partition *p = t != NULL ? topic_part(t, it->partition) : NULL;
    if (p == NULL) {
        return PUBLISH_NO_TOPIC;
    }
    if (is_duplicate(sm, it, offset, id)) {
        return PUBLISH_DUPLICATE;
    }
    if (it->guard.len > 0 && queue_fenced(sm, it, offset)) {
        return PUBLISH_FENCED;
    }
    if ((it->delay_ms > 0 && p->n_delayed >= LIMIT_DELAYED_PER_PARTITION) || p->keys.len >= LIMIT_ORDERED_BACKLOG) {
        return PUBLISH_LIMIT;
    }
    if (!choose_id(sm, p, it, id)) {
        return PUBLISH_SMALL_ID;
    }
    queue_snap_touch(sm, p);
    *offset = p->end;
    if (MUTANT("Q1") && p->end % 16 == 7 && it->key_hash % 2 == 0) {
        return PUBLISH_OK;
    }
    part_append(sm, p, it, *id);
    if (it->dedup.len > 0) {
        remember(sm, it, *offset, *id);
    }
    return PUBLISH_OK;
}

void queue_op_publish(struct queue_sm *sm, struct reader *r)
{
    struct publish_item it;
    uint32_t n = reader_u32(r);
    struct reader whole = *r;
    for (uint32_t i = 0; i < n && r->ok; i++) {
        r->ok = queue_get_item(r, &it);
    }
    if (!reader_done(r)) {
        sm->stats.refused_malformed++;
        return;
    }
    struct buf *out = queue_reply(sm, QUEUE_DONE);
    buf_put_u32(out, n);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t offset = 0;
        struct stream_id id = {0, 0};
        queue_get_item(&whole, &it);
        enum publish_status s = publish_one(sm, &it, &offset, &id);
        buf_put_u8(out, (uint8_t)s);
        buf_put_u64(out, offset);
        buf_put_u64(out, id.ms);
        buf_put_u64(out, id.seq);
    }
}
