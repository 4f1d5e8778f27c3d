/* The model of positions that the canonical log is held against: one record for each message and consumer group.
 *
 * It is written from docs/queue.md and knows nothing of how the state machine keeps things: a message is new, out with one consumer, free to be
 * delivered again, dead, done, or was gone before the consumer group came. */
#include "sim_queue.h"

#include "utils/hash.h"

#include <stdio.h>
#include <stdlib.h>

static bool is_over(const struct model_pend *x)
{
    return x->state == MODEL_DONE || x->state == MODEL_NOT_MINE;
}

static void slots_grow(struct hash_slot **slots, uint64_t *cap)
{
    struct hash_slot *old = *slots;
    uint64_t n = *cap;
    *cap = n ? n * 2 : 1024;
    *slots = calloc(*cap, sizeof **slots);
    syn_assert(*slots != NULL);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = old[i].key & (*cap - 1);
        while (old[i].key != 0 && (*slots)[at].key != 0) {
            at = (at + 1) & (*cap - 1);
        }
        if (old[i].key != 0) {
            (*slots)[at] = old[i];
        }
    }
    free(old);
}

uint64_t *model_slot(struct hash_slot **slots, uint64_t *cap, uint64_t *count, uint64_t key)
{
    key |= 1;
    if (*count * 2 >= *cap) {
        slots_grow(slots, cap);
    }
    uint64_t at = key & (*cap - 1);
    while ((*slots)[at].key != 0 && (*slots)[at].key != key) {
        at = (at + 1) & (*cap - 1);
    }
    *count += (*slots)[at].key == 0;
    (*slots)[at].key = key;
    return &(*slots)[at].chain;
}

struct model_topic *model_topic_of(struct sim *s, uint64_t id, uint32_t *number)
{
    for (uint32_t i = 0; i < QSIM_TOPICS; i++) {
        struct model_topic *t = &s->queue->topics[i];
        if (t->checked && t->id == id && id != 0) {
            *number = i;
            return t;
        }
    }
    return NULL;
}

struct model_pend *model_pend(struct model_position *pos, uint64_t offset)
{
    if (offset >= pos->cap) {
        uint64_t cap = pos->cap ? pos->cap * 2 : 64;
        cap = cap > offset ? cap : offset + 64;
        pos->pends = realloc(pos->pends, cap * sizeof *pos->pends);
        syn_assert(pos->pends != NULL);
        memset(pos->pends + pos->cap, 0, (cap - pos->cap) * sizeof *pos->pends);
        pos->cap = cap;
    }
    return &pos->pends[offset];
}

/* A new consumer group gets what some other one has not done yet; everything, when it is the first. */
void model_position_open(struct sim *s, struct model_topic *t, struct model_partition *p, uint32_t group)
{
    struct model_position *pos = &p->positions[group];
    bool first = true;
    (void)s;
    for (uint32_t g = 0; g < QSIM_GROUPS; g++) {
        first = first && !p->positions[g].exists;
    }
    pos->exists = true;
    for (uint64_t o = 0; o < p->count && !first && !t->retains; o++) {
        bool wanted = false;
        for (uint32_t g = 0; g < QSIM_GROUPS; g++) {
            wanted = wanted || (g != group && p->positions[g].exists && !is_over(model_pend(&p->positions[g], o)));
        }
        if (!wanted) {
            model_pend(pos, o)->state = MODEL_NOT_MINE;
        }
    }
}

void model_set_out(struct model_position *pos, struct model_pend *x, bool out)
{
    pos->out += out;
    pos->out -= x->state == MODEL_OUT;
    pos->dead -= x->state == MODEL_DEAD;
    x->state = out ? MODEL_OUT : MODEL_FREE;
}

void model_die(struct model_position *pos, struct model_pend *x)
{
    model_set_out(pos, x, false);
    x->state = MODEL_DEAD;
    x->died = true;
    pos->dead++;
}

static uint64_t backoff_ms(const struct topic_config *c, uint32_t deliveries)
{
    uint64_t ms = c->backoff_ms;
    for (uint32_t i = 1; i < deliveries && ms < c->backoff_ms_max; i++) {
        ms *= 2;
    }
    return ms < c->backoff_ms_max ? ms : c->backoff_ms_max;
}

/* A NACK that counts, or the visibility deadline (Q8: dead at the limit). */
void model_fail(struct model_topic *t, struct model_position *pos, struct model_pend *x, uint64_t now_ms, uint64_t delay_ms)
{
    if (t->config.max_deliver > 0 && x->deliveries >= t->config.max_deliver) {
        model_die(pos, x);
        return;
    }
    model_set_out(pos, x, false);
    x->not_before_ms = now_ms + (delay_ms == SETTLE_DELAY_DEFAULT ? backoff_ms(&t->config, x->deliveries) : delay_ms);
}

static void position_due(struct sim_queue *q, struct model_topic *t, struct model_partition *p, struct model_position *pos, uint64_t now_ms,
                         uint64_t *next)
{
    (void)q;
    for (uint64_t o = 0; o < p->count && o < pos->cap && pos->out > 0; o++) {
        struct model_pend *x = &pos->pends[o];
        if (x->state != MODEL_OUT) {
            continue;
        }
        if (x->deadline_ms <= now_ms) {
            model_fail(t, pos, x, now_ms, SETTLE_DELAY_DEFAULT);
        } else {
            *next = x->deadline_ms < *next ? x->deadline_ms : *next;
        }
    }
}

void model_due(struct sim *s, uint32_t group, uint64_t now_ms)
{
    struct sim_queue *q = s->queue;
    if (now_ms < q->due_ms[group]) {
        return;
    }
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < QSIM_TOPICS; i++) {
        struct model_topic *t = &q->topics[i];
        for (uint32_t k = 0; t->checked && t->id != 0 && k < t->config.partitions; k++) {
            struct model_partition *p = &t->parts[k];
            for (uint32_t g = 0; g < QSIM_GROUPS && p->group == group; g++) {
                position_due(q, t, p, &p->positions[g], now_ms, &next);
            }
        }
    }
    q->due_ms[group] = next;
}

/* Q12: nothing that a consumer group has not done is below the start. */
static void compare_start(struct sim *s, const struct model_topic *t, uint32_t k, struct model_partition *p, const struct partition_info *info)
{
    bool any = false;
    if (info->end != p->count) {
        sim_fail(s, "Q3: %s:%u ends at %llu, %llu messages were appended", t->name, k, (unsigned long long)info->end, (unsigned long long)p->count);
    }
    for (uint32_t g = 0; g < QSIM_GROUPS && !t->retains; g++) {
        struct model_position *pos = &p->positions[g];
        any = any || pos->exists;
        for (uint64_t o = 0; pos->exists && o < info->start && o < p->count; o++) {
            if (!is_over(model_pend(pos, o))) {
                sim_fail(s, "Q12: %s:%u starts at %llu but g%u has not done %llu", t->name, k, (unsigned long long)info->start, g, (unsigned long long)o);
                return;
            }
        }
    }
    if (!any && !t->retains && info->start > 0) {
        sim_fail(s, "Q12: %s:%u starts at %llu though nobody consumes it", t->name, k, (unsigned long long)info->start);
    }
}

static void compare_position(struct sim *s, const struct queue_sm *sm, const struct model_topic *t, uint32_t k, struct model_position *pos, uint32_t g)
{
    char name[8];
    struct group_info info;
    snprintf(name, sizeof name, "g%u", g);
    bool there = queue_sm_group(sm, t->id, k, slice_str(name), &info);
    if (there != pos->exists) {
        sim_fail(s, "Q1: %s:%u g%u is %sthere", t->name, k, g, there ? "" : "not ");
    } else if (there && (info.pending != pos->out || info.dead != pos->dead || info.generation != pos->generation)) {
        sim_fail(s, "Q8: %s:%u g%u has %llu in flight, %llu dead, generation %llu; by the log %llu, %llu, %llu", t->name, k, g,
                 (unsigned long long)info.pending, (unsigned long long)info.dead, (unsigned long long)info.generation,
                 (unsigned long long)pos->out, (unsigned long long)pos->dead, (unsigned long long)pos->generation);
    }
}

void model_compare(struct sim *s, const struct sim_node *n, uint32_t group)
{
    const struct queue_sm *sm = node_queue(n->node, group);
    for (uint32_t i = 0; i < QSIM_TOPICS && !s->failed; i++) {
        struct model_topic *t = &s->queue->topics[i];
        for (uint32_t k = 0; t->checked && t->id != 0 && k < t->config.partitions && !s->failed; k++) {
            struct model_partition *p = &t->parts[k];
            struct partition_info info;
            if (p->group != group || !queue_sm_partition(sm, t->id, k, &info)) {
                continue;
            }
            compare_start(s, t, k, p, &info);
            for (uint32_t g = 0; g < QSIM_GROUPS && !s->failed; g++) {
                compare_position(s, sm, t, k, &p->positions[g], g);
            }
        }
    }
}

static uint64_t left_of(struct model_partition *p, uint32_t g)
{
    uint64_t left = 0;
    for (uint64_t o = 0; o < p->count; o++) {
        const struct model_pend *x = p->positions[g].exists ? model_pend(&p->positions[g], o) : NULL;
        left += x == NULL || (!is_over(x) && x->state != MODEL_DEAD);
    }
    return left;
}

uint64_t model_left(struct sim *s, char *why, size_t size)
{
    uint64_t all = 0;
    for (uint32_t i = 0; i < s->queue->n_topics; i++) {
        struct model_topic *t = &s->queue->topics[i];
        for (uint32_t k = 0; t->checked && !t->retains && t->id != 0 && k < t->config.partitions; k++) {
            for (uint32_t g = 0; g < s->queue->n_groups; g++) {
                uint64_t left = left_of(&t->parts[k], g);
                if (left > 0 && all == 0) {
                    snprintf(why, size, "%s:%u g%u: %llu of %llu messages are neither done nor dead (Q1, Q7)", t->name, k, g,
                             (unsigned long long)left, (unsigned long long)t->parts[k].count);
                }
                all += left;
            }
        }
    }
    return all;
}
