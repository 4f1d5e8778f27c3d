/* The queue state machine's front: life, log time, dispatch of applied operations, replies, digest. See queue_sm.h, docs/queue.md.
 *
 * Invariants: K12 nothing here depends on a clock, an address, a hash key or a table's order; every request is answered at most once
 * (R15) except a CLAIM that found nothing, which is not remembered; what is due by an entry's log time is done before the entry. */
#include "nodes/queue/queue_internal.h"

#include "utils/hash.h"

void queue_out_init(struct queue_out *o)
{
    *o = (struct queue_out){0};
}

void queue_out_clear(struct queue_out *o)
{
    buf_clear(&o->replies);
    o->n_results = o->n_appended = o->n_trimmed = o->n_woken = 0;
}

void queue_out_fini(struct queue_out *o)
{
    buf_fini(&o->replies);
    free(o->results);
    free(o->appended);
    free(o->trimmed);
    free(o->woken);
    *o = (struct queue_out){0};
}

/* Room for one more item of `width` bytes. */
static void grow(void **items, uint32_t n, uint32_t *cap, size_t width)
{
    if (n == *cap) {
        *cap = *cap ? *cap * 2 : 64;
        *items = realloc(*items, *cap * width);
        syn_assert(*items != NULL);
    }
}

void queue_emit_appended(struct queue_sm *sm, const struct queue_appended *m)
{
    struct queue_out *o = sm->out;
    grow((void **)&o->appended, o->n_appended, &o->cap_appended, sizeof *m);
    o->appended[o->n_appended++] = *m;
}

void queue_emit_trimmed(struct queue_sm *sm, const struct partition *p, uint64_t start)
{
    struct queue_out *o = sm->out;
    grow((void **)&o->trimmed, o->n_trimmed, &o->cap_trimmed, sizeof *o->trimmed);
    o->trimmed[o->n_trimmed++] = (struct queue_trimmed){p->topic->id, p->number, start};
}

void queue_emit_woken(struct queue_sm *sm, struct partition *p)
{
    struct queue_out *o = sm->out;
    if (p->woken_index == sm->index) {
        return;
    }
    p->woken_index = sm->index;
    grow((void **)&o->woken, o->n_woken, &o->cap_woken, sizeof *o->woken);
    o->woken[o->n_woken++] = (struct queue_woken){p->topic->id, p->number};
}

struct queue_sm *queue_sm_new(const struct queue_sm_options *o)
{
    struct queue_sm *sm = calloc(1, sizeof *sm);
    syn_assert(sm != NULL);
    sm->opt = *o;
    map_init(&sm->topics);
    list_init(&sm->topics_all);
    list_init(&sm->partitions);
    dedup_init(&sm->dedup, o->hash_key, o->dedup_ms, o->dedup_count);
    queue_fences_init(sm);
    wheel_init(&sm->wheel, 0);
    sm->next_serial = 1;
    return sm;
}

void queue_sm_free(struct queue_sm *sm)
{
    if (sm == NULL) {
        return;
    }
    queue_sm_snapshot_abort(sm);
    queue_restore_drop(sm);
    list_each_safe(it, &sm->topics_all) {
        topic_free(sm, CONTAINER_OF(it, struct topic, all));
    }
    map_fini(&sm->topics);
    vec_fini(&sm->dropped);
    queue_fences_fini(sm);
    dedup_fini(&sm->dedup);
    while (sm->slabs != NULL) {
        struct pend_slab *next = sm->slabs->next;
        free(sm->slabs);
        sm->slabs = next;
    }
    while (sm->free_chains != NULL) {
        struct key_chain *next = sm->free_chains->next_free;
        free(sm->free_chains);
        sm->free_chains = next;
    }
    free(sm->due);
    buf_fini(&sm->snap.out);
    free(sm);
}

static struct queue_result *add_result(struct queue_sm *sm)
{
    struct queue_out *o = sm->out;
    grow((void **)&o->results, o->n_results, &o->cap_results, sizeof *o->results);
    struct queue_result *r = &o->results[o->n_results++];
    *r = (struct queue_result){.req = sm->head.req, .kind = sm->head.kind, .reply_off = o->replies.len};
    return r;
}

struct buf *queue_reply(struct queue_sm *sm, enum queue_code code)
{
    add_result(sm);
    buf_put_u8(&sm->out->replies, (uint8_t)code);
    return &sm->out->replies;
}

void queue_reply_u64(struct queue_sm *sm, enum queue_code code, uint64_t value)
{
    buf_put_u64(queue_reply(sm, code), value);
}

void queue_reply_limit(struct queue_sm *sm, const char *which)
{
    buf_append_str(queue_reply(sm, QUEUE_LIMIT), which);
}

/* The operation has left one result: into the digest and the memory of answers; nobody asked for that of origin 0. */
static void reply_end(struct queue_sm *sm, uint32_t results)
{
    struct queue_out *o = sm->out;
    syn_assert(o->n_results == results + 1);
    struct queue_result *r = &o->results[results];
    r->reply_len = o->replies.len - r->reply_off;
    slice_t reply = slice_of(o->replies.ptr + r->reply_off, r->reply_len);
    sm->digest = hash_u64(sm->digest ^ hash_bytes(sm->head.kind, reply));
    if (r->req.origin == 0) {
        o->replies.len = r->reply_off;
        o->n_results--;
    } else if (!r->again) {
        dedup_add(&sm->dedup, r->req, sm->time_ms, 0, reply);
    }
}

/* Answered before: the same answer again, or nothing at all when its origin has all answers up to here. */
static bool known(struct queue_sm *sm, struct reader body)
{
    if (sm->head.req.origin == 0) {
        return false;
    }
    const struct record *rec = dedup_find(&sm->dedup, sm->head.req);
    if (rec == NULL) {
        return dedup_too_old(&sm->dedup, sm->head.req);
    }
    struct queue_result *r = add_result(sm);
    if (sm->head.kind == QUEUE_OP_CLAIM || sm->head.kind == QUEUE_OP_TAKE) {
        r->topic = reader_u64(&body);
    }
    r->reply_len = rec->len;
    buf_append_slice(&sm->out->replies, slice_of(rec->reply, rec->len));
    return true;
}

static void op_tick(struct queue_sm *sm, struct reader *r)
{
    if (!reader_done(r)) {
        sm->stats.refused_malformed++;
        return;
    }
    queue_reply(sm, QUEUE_DONE);
}

/* Each decodes all of its operation before it changes anything, counts a malformed one, and else leaves exactly one result. */
static void dispatch(struct queue_sm *sm, struct reader *r)
{
    static void (*const ops[QUEUE_OP_MAX])(struct queue_sm *, struct reader *) = {
        [QUEUE_OP_OPEN] = queue_op_open,       [QUEUE_OP_DROP] = queue_op_drop,     [QUEUE_OP_PUBLISH] = queue_op_publish,
        [QUEUE_OP_CLAIM] = queue_op_claim,     [QUEUE_OP_SETTLE] = queue_op_settle, [QUEUE_OP_RELEASE] = queue_op_release,
        [QUEUE_OP_TICK] = op_tick,             [QUEUE_OP_GROUP] = queue_op_group,   [QUEUE_OP_SEEK] = queue_op_seek,
        [QUEUE_OP_REDRIVE] = queue_op_redrive, [QUEUE_OP_TRIM] = queue_op_trim,     [QUEUE_OP_ERASE] = queue_op_erase,
        [QUEUE_OP_SET_ID] = queue_op_set_id,   [QUEUE_OP_TAKE] = queue_op_take,
    };
    uint32_t results = sm->out->n_results;
    ops[sm->head.kind](sm, r);
    if (sm->out->n_results > results) {
        reply_end(sm, results);
    }
}

/* Ages run on with log time and are set right by what doors say the time is; they never fall. */
static void advance_time(struct queue_sm *sm, uint64_t time_ms, uint64_t wall_ms)
{
    uint64_t ran = add_sat(sm->wall_ms, sm->wall_ms > 0 ? time_ms - sm->time_ms : 0);
    sm->time_ms = time_ms;
    sm->wall_ms = wall_ms > ran ? wall_ms : ran;
}

void queue_sm_apply(struct queue_sm *sm, uint64_t index, uint64_t term, uint64_t time_ms, slice_t op, struct queue_out *out)
{
    struct reader r = reader_of(op);
    syn_assert(index > sm->index && time_ms >= sm->time_ms);
    sm->head = (struct queue_head){0};
    bool ok = queue_get_head(&r, &sm->head);
    sm->index = index;
    sm->term = term;
    sm->out = out;
    sm->digest = hash_u64(sm->digest ^ hash_bytes(index, op));
    advance_time(sm, time_ms, ok ? sm->head.wall_ms : 0);
    queue_due_all(sm);
    parts_settle(sm);
    if (ok) {
        dedup_advance(&sm->dedup, sm->head.req, sm->head.low, time_ms);
        if (!known(sm, r)) {
            dispatch(sm, &r);
            parts_settle(sm);
        }
    } else {
        sm->stats.refused_malformed++;
    }
    sm->out = NULL;
}

bool queue_sm_answered(const struct queue_sm *sm, struct request_id req)
{
    return dedup_find((struct dedup *)(uintptr_t)&sm->dedup, req) != NULL;
}

uint64_t queue_sm_next_due_ms(const struct queue_sm *sm)
{
    return wheel_next_ms(&sm->wheel);
}

uint64_t queue_sm_digest(const struct queue_sm *sm)
{
    return sm->digest;
}
