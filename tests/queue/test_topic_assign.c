/* Visits every assignment of PARTITIONS partitions to up to MEMBERS members that joins, leaves and deaths reach, in all their orders (any set
 * of members may join or die at once), by the topics of group 0 themselves: test_topic_assign. It ends when no new state is left.
 *
 * A state is who is there in which order of joining, and who has which partition. Each is kept as a snapshot and restored for every
 * operation tried in it. Asserted of every step: Q5 a partition that changes its member does so in a generation above all before, one that stays keeps
 * its own; Q10 total, balanced, no more moves than balance asks for, of one member at most ceil(P/N)+1; the generation grows by one with a
 * change and stays without; two replicas agree. Then topic_assign alone, from any assignment whatever. */
#include "topic_world.h"

#include "utils/assert.h"
#include "utils/hash.h"
#include "utils/prng.h"

#include <stdio.h>
#include <stdlib.h>

enum { MEMBERS = 4, PARTITIONS = 6, NOBODY = 7, TABLE = 1 << 18, TTL_MS = 1000 };

static const char *const names[MEMBERS] = {"a", "b", "c", "d"};

struct view {
    uint32_t n;                      /* members */
    uint8_t order[MEMBERS];          /* of joining */
    uint8_t owner[PARTITIONS];
    uint64_t since[PARTITIONS];
    uint64_t generation;
};

struct state {
    uint64_t key;
    struct buf saved;
    struct view view;
    uint64_t index, time_ms, seq;
};

static struct state *states;
static uint32_t n_states, cap_states, table[TABLE];
static uint64_t n_transitions, topic;

static bool has_member(const struct view *v, uint8_t m)
{
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->order[i] == m) {
            return true;
        }
    }
    return false;
}

static void see_member(void *arg, const struct topic_member_info *m)
{
    struct view *v = arg;
    syn_assert(v->n < MEMBERS && m->consumer.len == 1);
    uint8_t who = v->order[v->n++] = m->consumer.ptr[0] - 'a';
    for (uint32_t i = 0; i < m->n_parts; i++) {
        syn_assert(m->parts[i] < PARTITIONS && v->owner[m->parts[i]] == NOBODY); /* Q5 */
        v->owner[m->parts[i]] = who;
    }
}

/* One JOIN of all of a set. */
static void join(struct topic_world *w, uint32_t set)
{
    topic_world_begin(w, TOPIC_OP_JOIN);
    topic_put_join(&w->op, (uint32_t)__builtin_popcount(set));
    for (uint32_t m = 0; m < MEMBERS; m++) {
        if (set >> m & 1) {
            topic_put_join_item(&w->op, &(struct topic_join){topic, SLICE_LIT("g"), slice_str(names[m]), TTL_MS, 1});
        }
    }
    topic_world_apply(w);
    for (uint32_t i = 0; i < w->n; i++) {
        syn_assert(w->joined[i].code == TOPIC_DONE);
    }
}

static uint32_t set_of(const struct view *v)
{
    uint32_t set = 0;
    for (uint32_t i = 0; i < v->n; i++) {
        set |= 1u << v->order[i];
    }
    return set;
}

/* One JOIN by which everybody of a set is heard of, in the order of joining. */
static void hear_of(struct topic_world *w, const struct view *v, uint32_t set)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n; i++) {
        n += set >> v->order[i] & 1;
    }
    topic_world_begin(w, TOPIC_OP_JOIN);
    topic_put_join(&w->op, n);
    for (uint32_t i = 0; i < v->n; i++) {
        if (set >> v->order[i] & 1) {
            topic_put_join_item(&w->op, &(struct topic_join){topic, SLICE_LIT("g"), slice_str(names[v->order[i]]), TTL_MS, 1});
        }
    }
    topic_world_apply(w);
    syn_assert(w->n == n && w->out.n_changed == 0);
}

/* What everyone would learn by being heard of, which changes nothing. */
static struct view look(struct topic_world *w)
{
    struct view v = {0};
    struct topic_group_info before = {0}, after = {0};
    memset(v.owner, NOBODY, sizeof v.owner);
    topics_members(w->t, topic, SLICE_LIT("g"), see_member, &v);
    bool known = topic_world_group(w, topic, "g", &before);
    if (v.n > 0) {
        hear_of(w, &v, 0xff);
        for (uint32_t i = 0; i < v.n; i++) {
            const struct joined *j = &w->joined[i];
            syn_assert(j->code == TOPIC_DONE && j->generation == before.generation);
            for (uint32_t k = 0; k < j->n; k++) {
                syn_assert(v.owner[j->partition[k]] == v.order[i]);
                v.since[j->partition[k]] = j->since[k];
            }
        }
    }
    syn_assert(known == topic_world_group(w, topic, "g", &after));
    syn_assert(after.generation == before.generation && after.rebalances == before.rebalances && after.members == v.n);
    v.generation = after.generation;
    return v;
}

static uint64_t key_of(const struct view *v)
{
    uint64_t key = 1;
    for (uint32_t i = 0; i < MEMBERS; i++) {
        key = key << 3 | (i < v->n ? v->order[i] : NOBODY);
    }
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        key = key << 3 | v->owner[p];
    }
    return key;
}

static void remember(struct topic_world *w, const struct view *v)
{
    uint64_t key = key_of(v);
    uint32_t at = hash_u64(key) & (TABLE - 1);
    for (; table[at] != 0; at = (at + 1) & (TABLE - 1)) {
        if (states[table[at] - 1].key == key) {
            return;
        }
    }
    if (n_states == cap_states) {
        cap_states = cap_states ? cap_states * 2 : 1024;
        states = realloc(states, cap_states * sizeof *states);
        syn_assert(states != NULL && cap_states < TABLE);
    }
    struct state *s = &states[n_states++];
    table[at] = n_states;
    *s = (struct state){.key = key, .view = *v, .index = w->index, .time_ms = w->time_ms, .seq = w->seq};
    topics_save(w->t, &s->saved);
}

static void enter(struct topic_world *w, uint32_t s, uint64_t hash_key)
{
    topics_free(w->t);
    w->t = topic_world_table(hash_key);
    bool ok = topics_restore(w->t, buf_slice(&states[s].saved));
    syn_assert(ok);
    w->index = states[s].index;
    w->time_ms = states[s].time_ms;
    w->seq = states[s].seq;
}

static int descending(const void *a, const void *b)
{
    return (int)*(const uint32_t *)b - (int)*(const uint32_t *)a;
}

/* How many partitions must change hands at least: those that have no member any more, and what is above a member's share. has: what each
 * member that is there now had before. */
static uint32_t moves_least(uint32_t *has, uint32_t n, uint32_t partitions)
{
    uint32_t kept = 0;
    qsort(has, n, sizeof *has, descending);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t share = partitions / n + (i < partitions % n);
        kept += has[i] < share ? has[i] : share;
    }
    return n > 0 ? partitions - kept : 0;
}

static void check_shares(const struct view *v)
{
    uint32_t has[MEMBERS] = {0};
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        syn_assert((v->owner[p] == NOBODY) == (v->n == 0)); /* Q10: total */
        if (v->owner[p] != NOBODY) {
            syn_assert(has_member(v, v->owner[p]));
            has[v->owner[p]]++;
        }
    }
    for (uint32_t i = 0; i < v->n; i++) {
        syn_assert(has[v->order[i]] >= PARTITIONS / v->n && has[v->order[i]] <= (PARTITIONS + v->n - 1) / v->n);
    }
}

/* single: one member came or went. */
static void check_step(const struct view *was, const struct view *is, bool changes, bool single)
{
    uint32_t moved = 0, n_has = 0, has[MEMBERS] = {0}, n = was->n > is->n ? was->n : is->n;
    check_shares(is);
    syn_assert(is->generation == was->generation + changes);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        if (is->owner[p] == was->owner[p]) {
            syn_assert(is->owner[p] == NOBODY || is->since[p] == was->since[p]);
        } else if (is->owner[p] != NOBODY) {
            moved++;
            syn_assert(is->since[p] == is->generation && is->generation > was->generation); /* Q5, S50b */
        }
    }
    for (uint32_t i = 0; i < is->n; i++, n_has++) {
        for (uint32_t p = 0; p < PARTITIONS; p++) {
            has[n_has] += was->owner[p] == is->order[i];
        }
    }
    syn_assert(moved == moves_least(has, is->n, PARTITIONS));
    syn_assert(!single || n == 0 || moved <= (PARTITIONS + n - 1) / n + 1); /* Q10 */
}

/* set: who leaves (one), or joins or dies (any). Both replicas do the same. */
static void step(struct topic_world *w, uint32_t s, enum topic_op_kind kind, uint32_t set)
{
    uint64_t hash = 0;
    for (int replica = 0; replica < 2; replica++) {
        const struct view was = states[s].view;
        uint32_t there = set_of(&was), who = (uint32_t)__builtin_ctz(set);
        uint32_t changes = kind == TOPIC_OP_JOIN ? set & ~there : set & there;
        enter(w, s, 5 + (uint64_t)replica);
        if (kind == TOPIC_OP_JOIN) {
            join(w, set);
            syn_assert(w->out.n_changed == (changes != 0));
        } else if (kind == TOPIC_OP_LEAVE) {
            enum topic_code code = topic_world_leave(w, topic, "g", names[who]);
            syn_assert(code == (changes != 0 ? TOPIC_DONE : TOPIC_NO_MEMBER) && w->out.n_changed == (changes != 0));
        } else {
            w->time_ms += TTL_MS / 2 + 100;
            hear_of(w, &was, ~set);
            topic_world_tick(w, TTL_MS / 2 + 100);
            syn_assert(w->out.n_changed == 1);
        }
        struct view is = look(w);
        check_step(&was, &is, changes != 0, (changes & (changes - 1)) == 0);
        syn_assert(replica == 0 || topics_state_hash(w->t) == hash);
        hash = topics_state_hash(w->t);
        if (replica == 0) {
            remember(w, &is);
        }
    }
    n_transitions++;
}

static void walk(void)
{
    struct topic_world w;
    topic_world_init(&w);
    topic = topic_world_create(&w, "t", PARTITIONS);
    topic_world_join(&w, topic, "g", names[0], TTL_MS);
    topic_world_leave(&w, topic, "g", names[0]);
    struct view first = look(&w);
    remember(&w, &first);
    for (uint32_t s = 0; s < n_states; s++) {
        uint32_t there = set_of(&states[s].view);
        for (uint32_t m = 0; m < MEMBERS; m++) {
            step(&w, s, TOPIC_OP_LEAVE, 1u << m);
        }
        for (uint32_t set = 1; set < 1u << MEMBERS; set++) {
            step(&w, s, TOPIC_OP_JOIN, set);
            if ((set & there) == set) {
                step(&w, s, TOPIC_OP_TICK, set);
            }
        }
    }
    printf("%d members, %d partitions: %u states, %llu steps\n", MEMBERS, PARTITIONS, n_states, (unsigned long long)n_transitions);
    for (uint32_t s = 0; s < n_states; s++) {
        buf_fini(&states[s].saved);
    }
    free(states);
    topic_world_fini(&w);
}

/* From any assignment, possible or not: total, balanced, as few moves as can be, and the same again changes nothing. */
static void assign_from_anywhere(void)
{
    static uint32_t owner[LIMIT_PARTITIONS], was[LIMIT_PARTITIONS], has[2000], after[2000];
    struct prng g;
    prng_init(&g, 1);
    for (int round = 0; round < 20000; round++) {
        uint32_t partitions = 1 + (uint32_t)prng_below(&g, round % 100 == 0 ? LIMIT_PARTITIONS : 40);
        uint32_t members = 1 + (uint32_t)prng_below(&g, round % 100 == 1 ? 2000 : 20), moved = 0;
        memset(has, 0, sizeof has);
        memset(after, 0, sizeof after);
        for (uint32_t p = 0; p < partitions; p++) {
            was[p] = owner[p] = prng_below(&g, 4) == 0 ? UINT32_MAX : (uint32_t)prng_below(&g, members);
            if (was[p] != UINT32_MAX) {
                has[was[p]]++;
            }
        }
        topic_assign(owner, partitions, members);
        for (uint32_t p = 0; p < partitions; p++) {
            syn_assert(owner[p] < members);
            after[owner[p]]++;
            moved += owner[p] != was[p];
        }
        for (uint32_t m = 0; m < members; m++) {
            syn_assert(after[m] >= partitions / members && after[m] <= (partitions + members - 1) / members);
        }
        syn_assert(moved == moves_least(has, members, partitions));
        memcpy(was, owner, sizeof was);
        topic_assign(owner, partitions, members);
        syn_assert(memcmp(was, owner, sizeof was) == 0);
        topic_assign(owner, partitions, 0);
        for (uint32_t p = 0; p < partitions; p++) {
            syn_assert(owner[p] == UINT32_MAX);
        }
    }
}

int main(void)
{
    assign_from_anywhere();
    walk();
    return 0;
}
