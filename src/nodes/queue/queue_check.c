/* Every invariant of the queue state machine that holds between applies: structure, Q3 dense offsets with ascending ids, Q4 one message of a key, Q5
 * one live delivery, Q8 dead is dead and nothing else, Q12 the floor of a queue topic is behind every position. O(everything). */
#include "nodes/queue/queue_internal.h"

#include "utils/hash.h"

static void check_tree(struct pend *root, uint32_t n, uint8_t state)
{
    const struct pend *r = tree_from(root, 0);
    uint32_t seen = 0;
    for (; r != NULL; r = tree_from(root, r->offset + 1)) {
        syn_assert(r->state == state);
        seen++;
    }
    syn_assert(seen == n);
}

static void check_pend(const struct pend *r)
{
    const struct position *pos = r->pos;
    const struct topic_config *c = &pos->part->topic->config;
    syn_assert(r->state != PEND_NEW && r->offset < pos->part->end);
    syn_assert(pend_find(pos, r->offset) == r);
    syn_assert(c->stream || (r->offset < pos->next && r->offset >= pos->part->start));
    syn_assert((r->state == PEND_IN_FLIGHT) == (r->consumer != NULL));
    syn_assert((r->state == PEND_DEAD) == (r->note != NULL)); /* Q8 */
    syn_assert(r->delivery <= pos->part->deliveries);
    syn_assert(r->state != PEND_IN_FLIGHT || r->delivery > 0);
    syn_assert(r->state != PEND_WAITING || timer_armed(&r->due.timer));
    syn_assert(r->state == PEND_WAITING || r->state == PEND_IN_FLIGHT || !timer_armed(&r->due.timer));
    if (!MUTANT("Q4")) {
        syn_assert((r->chain != NULL) == (r->key != 0 && r->state != PEND_DEAD));
        syn_assert(r->chain == NULL || (r->chain->active == r) == (r->state != PEND_BLOCKED)); /* Q4 */
    }
    syn_assert(r->key == 0 || c->ordered);
}

static void check_pends(const struct position *pos)
{
    uint32_t n[PEND_DEAD + 1] = {0};
    const struct pend *before = NULL;
    list_each(it, (struct list *)&pos->pends) {
        const struct pend *r = CONTAINER_OF(it, struct pend, all);
        syn_assert(before == NULL || (before->offset < r->offset && stream_id_cmp(before->id, r->id) < 0));
        check_pend(r);
        n[r->state]++;
        before = r;
    }
    syn_assert(n[PEND_IN_FLIGHT] == pos->n_in_flight && n[PEND_AVAILABLE] == pos->n_available && n[PEND_DEAD] == pos->n_dead);
    syn_assert(n[PEND_WAITING] + n[PEND_BLOCKED] == pos->n_waiting);
    syn_assert(pos->pends_by_offset.count == (size_t)position_unsettled(pos) + pos->n_dead);
    check_tree(pos->available, pos->n_available, PEND_AVAILABLE);
    check_tree(pos->dead, pos->n_dead, PEND_DEAD);
}

static void check_consumers(const struct position *pos)
{
    uint32_t n = 0, pends = 0;
    bool owner = pos->owner == NULL;
    list_each(it, (struct list *)&pos->consumers) {
        const struct consumer *c = CONTAINER_OF(it, struct consumer, all);
        uint32_t of = 0;
        uint64_t delivery = 0;
        list_each(in, (struct list *)&c->pends) {
            const struct pend *r = CONTAINER_OF(in, struct pend, in_consumer);
            syn_assert(r->consumer == c && r->state == PEND_IN_FLIGHT && r->delivery > delivery); /* Q5: numbers are not used twice */
            delivery = r->delivery;
            of++;
        }
        syn_assert(of == c->n_pends && !c->held);
        owner = owner || pos->owner == c;
        pends += of;
        n++;
    }
    syn_assert(owner && n == pos->n_consumers && pends == pos->n_in_flight && pos->consumers_by_name.count == n);
}

static void check_chains(const struct position *pos)
{
    for (struct map_node *m = map_first(&pos->keys); m != NULL; m = map_next(&pos->keys, m)) {
        const struct key_chain *ch = CONTAINER_OF(m, struct key_chain, by_key);
        syn_assert(!list_empty(&ch->pends) && ch->active != NULL && ch->active->chain == ch);
        const struct pend *before = NULL;
        list_each(it, (struct list *)&ch->pends) {
            const struct pend *r = CONTAINER_OF(it, struct pend, in_chain);
            syn_assert(r->chain == ch && r->pos == pos && (before == NULL || before->offset < r->offset));
            before = r;
        }
    }
}

static void check_messages(const struct partition *p)
{
    uint64_t before = 0, first = 0;
    for (size_t i = 0; i < p->erased.len; i++) {
        uint64_t offset = *(uint64_t *)vec_at(&p->erased, i, sizeof offset);
        syn_assert(offset > p->floor && offset < p->end && (i == 0 || offset > before));
        before = offset;
    }
    uint32_t delayed = 0;
    for (size_t i = 0; i < p->delayed.len; i++) {
        const struct delayed *d = *(struct delayed **)vec_at(&p->delayed, i, sizeof d);
        syn_assert(i == 0 || d->offset > before);
        syn_assert(d->gone || (d->offset >= p->floor && timer_armed(&d->due.timer)));
        before = d->offset;
        delayed += !d->gone;
    }
    syn_assert(delayed == p->n_delayed);
    for (size_t i = 0; i < p->marks.len; i++) {
        const struct mark *m = vec_at(&p->marks, i, sizeof *m);
        syn_assert(m->first < p->end && m->bytes <= p->bytes_total && (i == 0 ? m->first <= p->floor : m->first > p->floor && m->first > before));
        before = m->first;
    }
    syn_assert((p->marks.len > 0) == (p->floor < p->end));
    syn_assert(p->keys.len == (p->topic->config.ordered ? p->end - p->floor : 0));
    syn_assert(p->floor == p->end || (ids_covered(&p->ids, &first) == p->end && first <= p->floor));
    struct id_cursor c = {0};
    struct stream_id last = {0, 0};
    for (uint64_t offset = p->floor; offset < p->end; offset++) { /* Q3 */
        struct stream_id id = ids_get(&p->ids, &c, offset);
        syn_assert(stream_id_cmp(last, id) < 0 && stream_id_cmp(id, p->last_id) <= 0);
        last = id;
    }
}

static void check_partition(const struct partition *p)
{
    uint32_t positions = 0;
    syn_assert(p->start <= p->floor && p->floor <= p->end && !p->dirty);
    syn_assert(!p->topic->config.stream || p->start == p->floor);
    check_messages(p);
    list_each(it, (struct list *)&p->positions_all) {
        const struct position *pos = CONTAINER_OF(it, struct position, all);
        syn_assert(pos->part == p && pos->next >= p->floor && pos->next <= p->end); /* Q12 */
        check_pends(pos);
        check_consumers(pos);
        check_chains(pos);
        positions++;
    }
    syn_assert(positions == p->n_positions && p->positions.count == positions);
}

void queue_sm_check(const struct queue_sm *sm)
{
    uint64_t partitions = 0, in_flight = 0, dead = 0;
    list_each(it, (struct list *)&sm->topics_all) {
        const struct topic *t = CONTAINER_OF(it, struct topic, all);
        for (uint32_t i = 0; i < t->n_parts; i++) {
            const struct partition *p = t->parts[i];
            syn_assert(p->topic == t && (i == 0 || t->parts[i - 1]->number < p->number));
            check_partition(p);
            list_each(in, (struct list *)&p->positions_all) {
                in_flight += CONTAINER_OF(in, struct position, all)->n_in_flight;
                dead += CONTAINER_OF(in, struct position, all)->n_dead;
            }
            partitions++;
        }
    }
    syn_assert(partitions == sm->n_partitions && sm->dirty == NULL);
    syn_assert(in_flight == sm->stats.in_flight && dead == sm->stats.dead);
    queue_fences_check(sm);
    wheel_check(&sm->wheel);
}
