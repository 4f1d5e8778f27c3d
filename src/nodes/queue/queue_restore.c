/* Restoring the queue state machine from the pieces of a snapshot, cut anywhere. What is malformed is refused whole and never asserts: every number
 * is checked against the invariants before anything relies on it. */
#include "nodes/queue/queue_snapshot.h"

enum { RECORD_BYTES_MAX = 1 << 30 };

static struct stream_id get_id(struct reader *r)
{
    struct stream_id id = {reader_u64(r), 0};
    id.seq = reader_u64(r);
    return id;
}

static bool load_head(struct queue_sm *sm, struct reader *r)
{
    uint64_t *const fields[] = {&sm->index, &sm->term, &sm->time_ms, &sm->wall_ms, &sm->digest, &sm->next_serial};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        *fields[i] = reader_u64(r);
    }
    uint64_t *counts[QUEUE_COUNTERS];
    queue_counters(&sm->stats, counts);
    for (size_t i = 0; i < QUEUE_COUNTERS; i++) {
        *counts[i] = reader_u64(r);
    }
    uint32_t n = reader_u32(r);
    for (uint32_t i = 0; i < n && r->ok; i++) {
        struct dropped *d = vec_push(&sm->dropped, sizeof *d);
        d->topic = reader_u64(r);
        d->time_ms = reader_u64(r);
        r->ok = r->ok && d->time_ms <= sm->time_ms;
    }
    wheel_init(&sm->wheel, sm->time_ms);
    return reader_done(r);
}

static bool load_topic(struct queue_sm *sm, struct reader *r)
{
    struct queue_open o;
    if (!queue_get_open(r, &o) || o.n_parts != 0 || topic_find(sm, o.topic) != NULL) {
        return false;
    }
    struct topic *t = topic_new(sm, o.topic, o.name);
    t->version = o.version;
    t->config = o.config;
    return true;
}

/* From the floor or before it, ascending, wall time too. */
static bool load_marks(struct partition *p, struct reader *r)
{
    uint32_t n = reader_u32(r);
    const struct mark *before = NULL;
    for (uint32_t i = 0; i < n && r->ok; i++) {
        struct mark m = {.first = reader_u64(r)};
        m.bytes = reader_u64(r);
        m.first_ms = reader_u64(r);
        m.last_ms = reader_u64(r);
        bool ok = m.first < p->end && m.bytes <= p->bytes_total && m.first_ms <= m.last_ms && (i > 0 || m.first <= p->floor) &&
                  (before == NULL || (m.first > before->first && m.first > p->floor && m.bytes >= before->bytes && m.first_ms >= before->last_ms));
        if (!r->ok || !ok) {
            return false;
        }
        *(struct mark *)vec_push(&p->marks, sizeof m) = m;
        before = vec_last(&p->marks, sizeof m);
    }
    return r->ok && (p->marks.len > 0) == (p->end > p->floor);
}

static bool load_keys(struct partition *p, struct reader *r)
{
    uint32_t n = reader_u32(r);
    for (uint32_t i = 0; i < n && r->ok; i++) {
        *(uint32_t *)vec_push(&p->keys, sizeof(uint32_t)) = reader_u32(r);
    }
    return r->ok && n == (p->topic->config.ordered ? p->end - p->floor : 0);
}

static bool load_erased(struct partition *p, struct reader *r)
{
    uint32_t n = reader_u32(r);
    uint64_t least = p->floor;
    for (uint32_t i = 0; i < n && r->ok; i++) {
        uint64_t offset = reader_u64(r);
        if (!r->ok || offset < least || offset >= p->end) {
            return false;
        }
        *(uint64_t *)vec_push(&p->erased, sizeof offset) = offset;
        least = offset + 1;
    }
    return r->ok;
}

static bool load_delayed(struct queue_sm *sm, struct partition *p, struct reader *r)
{
    uint32_t n = reader_u32(r);
    uint64_t least = p->floor;
    for (uint32_t i = 0; i < n && r->ok; i++) {
        uint64_t offset = reader_u64(r), at = reader_u64(r);
        if (!r->ok || offset < least || offset >= p->end) {
            return false;
        }
        part_delay(sm, p, offset, at);
        least = offset + 1;
    }
    return r->ok;
}

static bool load_partition(struct queue_sm *sm, struct reader *r)
{
    struct queue_restore *re = sm->restore;
    struct topic *t = topic_find(sm, reader_u64(r));
    uint32_t number = reader_u32(r);
    if (!r->ok || t == NULL || re->positions_left > 0 || topic_part(t, number) != NULL) {
        return false;
    }
    uint64_t serial = sm->next_serial;
    struct partition *p = topic_add_part(sm, t, number);
    sm->next_serial = serial;
    uint64_t *const fields[] = {&p->serial,        &p->start,     &p->floor,   &p->end,        &p->deliveries,
                                &p->entries_added, &p->published, &p->expired, &p->bytes_total};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        *fields[i] = reader_u64(r);
    }
    p->last_id = get_id(r);
    p->max_deleted_id = get_id(r);
    uint64_t age_at = reader_u64(r);
    bool ok = r->ok && p->start <= p->floor && p->floor <= p->end && load_marks(p, r) && load_keys(p, r) && load_erased(p, r) &&
              load_delayed(sm, p, r) && ids_load(&p->ids, p->floor, p->end, r);
    if (age_at != UINT64_MAX) {
        wheel_set(&sm->wheel, &p->age.timer, age_at);
    }
    re->part = p;
    re->positions_left = reader_u32(r);
    re->count++;
    return ok && reader_done(r);
}

/* A key's pends: all but the one that is not BLOCKED wait for that one. */
static bool load_key(struct queue_sm *sm, struct pend *r, uint8_t state)
{
    if (r->key == 0 || state == PEND_DEAD || MUTANT("Q4")) {
        return state != PEND_BLOCKED;
    }
    struct key_chain *ch = chain_get(sm, r->pos, r->key);
    chain_insert(ch, r);
    if (state == PEND_BLOCKED) {
        return true;
    }
    bool only = ch->active == NULL;
    ch->active = only ? r : ch->active;
    return only;
}

static bool load_state(struct queue_sm *sm, struct pend *r, uint8_t state, struct consumer *c, struct reader *in)
{
    if (!load_key(sm, r, state)) {
        return false;
    }
    if (state == PEND_IN_FLIGHT) {
        pend_set_in_flight(sm, r, c, reader_u64(in));
    } else if (state == PEND_AVAILABLE) {
        pend_set_available(r);
    } else if (state == PEND_WAITING) {
        pend_set_waiting(sm, r);
    } else if (state == PEND_BLOCKED) {
        pend_set_blocked(r);
    } else {
        uint64_t wall_ms = reader_u64(in);
        slice_t reason = reader_bytes(in);
        pend_set_dead(sm, r, wall_ms, slice_of(reason.ptr, reason.len < LIMIT_REASON_BYTES ? reason.len : LIMIT_REASON_BYTES));
    }
    return in->ok;
}

/* One pend of consumer c, or, without one, one that is not in flight. */
static bool load_pend(struct queue_sm *sm, struct position *pos, struct consumer *c, struct reader *in)
{
    uint8_t state = reader_u8(in);
    uint64_t offset = reader_u64(in);
    struct stream_id id = get_id(in);
    bool right = c != NULL ? state == PEND_IN_FLIGHT : state > PEND_IN_FLIGHT && state <= PEND_DEAD;
    if (!in->ok || !right || offset >= pos->part->end || pend_find(pos, offset) != NULL) {
        return false;
    }
    struct pend *r = pend_new(sm, pos, offset, id);
    r->deliveries = reader_u32(in);
    r->key = reader_u32(in);
    r->delivery = reader_u64(in);
    r->generation = reader_u64(in);
    r->delivered_ms = reader_u64(in);
    r->visibility_ms = reader_u64(in);
    r->not_before_ms = reader_u64(in);
    bool ok = in->ok && r->delivery <= pos->part->deliveries && r->generation <= pos->generation;
    return ok && (r->key == 0 || pos->part->topic->config.ordered) && load_state(sm, r, state, c, in);
}

static bool load_consumer(struct queue_sm *sm, struct position *pos, struct reader *r)
{
    slice_t name = reader_bytes(r);
    if (!r->ok || name.len == 0 || name.len > LIMIT_KEY_BYTES || consumer_find(sm, pos, name) != NULL) {
        return false;
    }
    struct consumer *c = consumer_get(sm, pos, name);
    bool owner = reader_u8(r) != 0;
    if (owner && pos->owner != NULL) {
        return false;
    }
    pos->owner = owner ? c : pos->owner;
    c->seen_ms = reader_u64(r);
    c->active_ms = reader_u64(r);
    uint32_t n = reader_u32(r);
    uint64_t delivery = 0;
    for (uint32_t i = 0; i < n && r->ok; i++) {
        if (!load_pend(sm, pos, c, r)) {
            return false;
        }
        uint64_t now = CONTAINER_OF(c->pends.prev, struct pend, in_consumer)->delivery;
        if (now <= delivery) {
            return false;
        }
        delivery = now;
    }
    return r->ok;
}

static bool chains_sound(const struct position *pos)
{
    for (struct map_node *n = map_first(&pos->keys); n != NULL; n = map_next(&pos->keys, n)) {
        if (CONTAINER_OF(n, struct key_chain, by_key)->active == NULL) {
            return false;
        }
    }
    return true;
}

/* Ids ascend with offsets; what is below the start of a queue topic's partition is gone for everybody. */
static bool pends_sound(const struct position *pos)
{
    const struct pend *before = NULL;
    list_each(it, (struct list *)&pos->pends) {
        const struct pend *r = CONTAINER_OF(it, struct pend, all);
        if ((before != NULL && stream_id_cmp(before->id, r->id) >= 0) ||
            (!pos->part->topic->config.stream && (r->offset < pos->part->start || r->offset >= pos->next))) {
            return false;
        }
        before = r;
    }
    return true;
}

static bool load_position(struct queue_sm *sm, struct reader *r)
{
    struct queue_restore *re = sm->restore;
    slice_t name = reader_bytes(r);
    if (!r->ok || re->positions_left == 0 || name.len == 0 || name.len > LIMIT_KEY_BYTES || position_find(sm, re->part, name) != NULL) {
        return false;
    }
    re->positions_left--;
    uint64_t serial = sm->next_serial;
    struct position *pos = position_new(sm, re->part, name);
    sm->next_serial = serial;
    uint64_t *const fields[] = {&pos->serial,      &pos->generation, &pos->next,          &pos->delivered,
                                &pos->redelivered, &pos->acked,      &pos->dead_lettered, &pos->redriven};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        *fields[i] = reader_u64(r);
    }
    pos->last_id = get_id(r);
    uint32_t consumers = reader_u32(r);
    if (!r->ok || pos->next < re->part->floor || pos->next > re->part->end) {
        return false;
    }
    for (uint32_t i = 0; i < consumers; i++) {
        if (!load_consumer(sm, pos, r)) {
            return false;
        }
    }
    uint32_t n = reader_u32(r);
    for (uint32_t i = 0; i < n; i++) {
        if (!load_pend(sm, pos, NULL, r)) {
            return false;
        }
    }
    return reader_done(r) && chains_sound(pos) && pends_sound(pos);
}

static bool load_end(struct queue_sm *sm, struct reader *r)
{
    uint64_t count = reader_u64(r);
    sm->restore->done = reader_done(r) && count == sm->restore->count && sm->restore->positions_left == 0;
    return sm->restore->done;
}

static bool load_any(struct queue_sm *sm, uint8_t kind, slice_t body)
{
    struct reader r = reader_of(body);
    if ((kind == QREC_HEAD) == sm->restore->head) {
        return false;
    }
    switch (kind) {
    case QREC_HEAD: sm->restore->head = true; return load_head(sm, &r);
    case QREC_TOPIC: return load_topic(sm, &r);
    case QREC_PARTITION: return load_partition(sm, &r);
    case QREC_POSITION: return load_position(sm, &r);
    case QREC_END: return load_end(sm, &r);
    case QREC_FENCES: return queue_fences_load(sm, &r);
    default: return dedup_restore(&sm->dedup, (uint8_t)(kind - 1), body, sm->time_ms);
    }
}

bool queue_sm_restore_piece(struct queue_sm *sm, slice_t piece)
{
    if (sm->restore == NULL) {
        syn_assert(sm->index == 0 && list_empty(&sm->topics_all));
        sm->restore = calloc(1, sizeof *sm->restore);
        syn_assert(sm->restore != NULL);
    }
    struct queue_restore *re = sm->restore;
    if (piece.len > 0) {
        buf_append_slice(&re->in, piece);
    }
    size_t at = 0;
    while (!re->bad && re->in.len - at >= 5) {
        uint32_t len = le32_get(re->in.ptr + at + 1);
        if (len > RECORD_BYTES_MAX || re->done) {
            re->bad = true;
        } else if (re->in.len - at - 5 < len) {
            break;
        } else {
            re->bad = !load_any(sm, re->in.ptr[at], slice_of(re->in.ptr + at + 5, len));
            at += 5 + (size_t)len;
        }
    }
    buf_consume(&re->in, at);
    return !re->bad;
}

void queue_restore_drop(struct queue_sm *sm)
{
    if (sm->restore != NULL) {
        buf_fini(&sm->restore->in);
        free(sm->restore);
        sm->restore = NULL;
    }
}

bool queue_sm_restore_end(struct queue_sm *sm)
{
    const struct queue_restore *re = sm->restore;
    bool ok = re != NULL && re->done && !re->bad && re->in.len == 0;
    queue_restore_drop(sm);
    return ok;
}
