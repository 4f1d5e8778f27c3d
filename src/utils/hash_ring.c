/* The consistent hash ring, placement of groups with bounded loads, and slots; see hash_ring.h.
 *
 * Not responsible for carrying a placement out (nodes/node_members.c walks there one server at a time).
 *
 * Placement in two passes. Replicas: groups in ascending order, each takes the first distinct nodes clockwise that have
 * room below the cap. A greedy choice could leave room on fewer nodes than a later group needs; the rest stays placeable
 * exactly when sum(min(room_i, left)) >= left x replicas (Gale-Ryser), so a node whose choice would break that is passed
 * over. Leaders: a matching of groups to their replicas under a cap that starts at the mean rounded up and grows only
 * when no chain of hand-overs can make room; with the replica cap it can never pass ceil(1.25 x mean) (Hall). */
#include "utils/hash_ring.h"

#include "utils/assert.h"
#include "utils/hash.h"

#include <stdlib.h>

enum { RING_HASH_KEY = 0x52494e47 }; /* "RING"; not secret: placement must be the same everywhere */

#define NONE UINT32_MAX

static void *new_array(size_t n, size_t size)
{
    void *p = calloc(n > 0 ? n : 1, size);
    syn_assert(p != NULL);
    return p;
}

static int by_hash(const void *a, const void *b)
{
    const struct ring_point *x = a, *y = b;
    if (x->hash != y->hash) {
        return x->hash < y->hash ? -1 : 1;
    }
    return x->node < y->node ? -1 : x->node > y->node;
}

void ring_init(struct hash_ring *r, const uint32_t *ids, uint32_t n, uint32_t virtual_nodes)
{
    syn_assert(n > 0 && virtual_nodes > 0);
    syn_assert(virtual_nodes <= UINT32_MAX / n);
    r->count = n * virtual_nodes;
    r->nodes = n;
    r->points = new_array(r->count, sizeof *r->points);
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t id = ids[i / virtual_nodes];
        r->points[i] = (struct ring_point){hash_u64(hash_u64(id) + i % virtual_nodes), id};
    }
    qsort(r->points, r->count, sizeof *r->points, by_hash);
}

void ring_fini(struct hash_ring *r)
{
    free(r->points);
    *r = (struct hash_ring){0};
}

/* Index of the first point at or after hash, going round. */
static uint32_t ring_at(const struct hash_ring *r, uint64_t hash)
{
    uint32_t lo = 0, hi = r->count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (r->points[mid].hash < hash) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo == r->count ? 0 : lo;
}

uint32_t ring_owner(const struct hash_ring *r, slice_t key)
{
    return r->points[ring_at(r, hash_bytes(RING_HASH_KEY, key))].node;
}

static bool holds(const uint32_t *ids, uint32_t n, uint32_t id)
{
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

uint32_t ring_replicas(const struct hash_ring *r, slice_t key, uint32_t want, uint32_t *out)
{
    uint32_t got = 0, at = ring_at(r, hash_bytes(RING_HASH_KEY, key));
    want = want < r->nodes ? want : r->nodes;
    for (uint32_t i = 0; i < r->count && got < want; i++) {
        uint32_t node = r->points[(at + i) % r->count].node;
        if (!holds(out, got, node)) {
            out[got++] = node;
        }
    }
    return got;
}

/* Nodes are positions in `ids` below; the ring is built over positions' ids and translated back through `ids`. */
struct placement {
    struct hash_ring ring;
    uint32_t *ids;      /* ascending */
    uint32_t n;
    uint32_t groups, replicas;
    uint32_t *room;     /* per node: replicas it may still take */
    uint32_t *rows;     /* groups x replicas positions */
    uint32_t *leader;   /* per group: position, or NONE */
    uint32_t *leads;    /* per node */
    uint32_t leads_max;
    uint32_t *via;      /* per node, in the search: the group whose leadership would move here */
    uint32_t *queue;    /* nodes */
};

static int by_id(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint32_t position_of(const struct placement *p, uint32_t id)
{
    const uint32_t *at = bsearch(&id, p->ids, p->n, sizeof id, by_id);
    syn_assert(at != NULL);
    return (uint32_t)(at - p->ids);
}

/* ceil(1.25 x total / n) */
static uint32_t bounded_load(uint64_t total, uint32_t n)
{
    return (uint32_t)((total * 5 + 4 * (uint64_t)n - 1) / (4 * (uint64_t)n));
}

static void placement_init(struct placement *p, const uint32_t *ids, uint32_t n, uint32_t virtual_nodes, uint32_t groups,
                           uint32_t replicas)
{
    syn_assert(n > 0 && groups > 0 && replicas > 0 && replicas <= n);
    *p = (struct placement){.n = n, .groups = groups, .replicas = replicas};
    ring_init(&p->ring, ids, n, virtual_nodes);
    p->ids = new_array(n, sizeof *p->ids);
    memcpy(p->ids, ids, n * sizeof *ids);
    qsort(p->ids, n, sizeof *p->ids, by_id);
    p->room = new_array(n, sizeof *p->room);
    p->rows = new_array((size_t)groups * replicas, sizeof *p->rows);
    p->leader = new_array(groups, sizeof *p->leader);
    p->leads = new_array(n, sizeof *p->leads);
    p->via = new_array(n, sizeof *p->via);
    p->queue = new_array(n, sizeof *p->queue);
    for (uint32_t i = 0; i < n; i++) {
        syn_assert(i == 0 || p->ids[i - 1] < p->ids[i]);
        p->room[i] = bounded_load((uint64_t)groups * replicas, n);
    }
    p->leads_max = (groups + n - 1) / n;
}

static void placement_fini(struct placement *p)
{
    ring_fini(&p->ring);
    free(p->ids);
    free(p->room);
    free(p->rows);
    free(p->leader);
    free(p->leads);
    free(p->via);
    free(p->queue);
}

/* With `left` groups still to place, this one included: how many nodes with less room than `left` it may take. */
static uint64_t scarce_choices(const struct placement *p, uint32_t left)
{
    uint64_t room = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        room += p->room[i] < left - 1 ? p->room[i] : left - 1;
    }
    syn_assert(room + p->n >= (uint64_t)(left - 1) * p->replicas);
    uint64_t needed = (uint64_t)(left - 1) * p->replicas;
    return room > needed ? room - needed : 0;
}

static void place_replicas(struct placement *p, uint32_t group)
{
    uint32_t *row = &p->rows[(size_t)group * p->replicas];
    uint32_t got = 0, left = p->groups - group, at = ring_at(&p->ring, hash_u64(hash_u64(group) ^ RING_HASH_KEY));
    uint64_t scarce = scarce_choices(p, left);
    for (uint32_t i = 0; i < p->ring.count && got < p->replicas; i++) {
        uint32_t node = position_of(p, p->ring.points[(at + i) % p->ring.count].node);
        if (p->room[node] == 0 || holds(row, got, node)) {
            continue;
        }
        if (p->room[node] < left) {
            if (scarce == 0) {
                continue;
            }
            scarce--;
        }
        row[got++] = node;
    }
    syn_assert(got == p->replicas);
    for (uint32_t i = 0; i < got; i++) {
        p->room[row[i]]--;
    }
}

/* Queues the replicas of `group` that the search has not seen, remembering that they would take over its leadership. */
static uint32_t offer(struct placement *p, uint32_t group, uint32_t tail)
{
    for (uint32_t i = 0; i < p->replicas; i++) {
        uint32_t node = p->rows[(size_t)group * p->replicas + i];
        if (p->via[node] == NONE) {
            p->via[node] = group;
            p->queue[tail++] = node;
        }
    }
    return tail;
}

/* The nearest node, over any number of hand-overs, that can lead one more group so that `group` gets a leader; or NONE. */
static uint32_t find_free_leader(struct placement *p, uint32_t group)
{
    for (uint32_t i = 0; i < p->n; i++) {
        p->via[i] = NONE;
    }
    uint32_t tail = offer(p, group, 0);
    for (uint32_t head = 0; head < tail; head++) {
        uint32_t node = p->queue[head];
        if (p->leads[node] < p->leads_max) {
            return node;
        }
        for (uint32_t g = 0; g < p->groups; g++) {
            if (p->leader[g] == node) {
                tail = offer(p, g, tail);
            }
        }
    }
    return NONE;
}

static void place_leader(struct placement *p, uint32_t group)
{
    uint32_t node = find_free_leader(p, group);
    for (; node == NONE; node = find_free_leader(p, group)) {
        p->leads_max++;
        syn_assert(p->leads_max <= bounded_load(p->groups, p->n));
    }
    p->leads[node]++;
    for (;;) {
        uint32_t g = p->via[node], was = p->leader[g];
        p->leader[g] = node;
        if (g == group) {
            return;
        }
        node = was;
    }
}

void ring_place(const uint32_t *ids, uint32_t n, uint32_t virtual_nodes, uint32_t groups, uint32_t replicas, uint32_t *out)
{
    struct placement p;
    placement_init(&p, ids, n, virtual_nodes, groups, replicas);
    for (uint32_t g = 0; g < groups; g++) {
        place_replicas(&p, g);
        p.leader[g] = NONE;
    }
    for (uint32_t g = 0; g < groups; g++) {
        place_leader(&p, g);
    }
    for (uint32_t g = 0; g < groups; g++) {
        uint32_t *row = &out[(size_t)g * replicas], filled = 0;
        row[filled++] = p.ids[p.leader[g]];
        for (uint32_t i = 0; i < replicas; i++) {
            uint32_t node = p.rows[(size_t)g * replicas + i];
            if (node != p.leader[g]) {
                row[filled++] = p.ids[node];
            }
        }
        syn_assert(filled == replicas);
    }
    placement_fini(&p);
}

void ring_place_group(const uint32_t *ids, uint32_t n, uint32_t virtual_nodes, uint32_t groups, uint32_t replicas,
                      uint32_t group, uint32_t *out)
{
    syn_assert(group < groups);
    uint32_t *all = new_array((size_t)groups * replicas, sizeof *all);
    ring_place(ids, n, virtual_nodes, groups, replicas, all);
    memcpy(out, &all[(size_t)group * replicas], replicas * sizeof *out);
    free(all);
}

uint32_t slot_group(uint16_t slot, uint32_t groups)
{
    syn_assert(slot < RING_SLOTS && groups > 0);
    return (uint32_t)((uint64_t)slot * groups / RING_SLOTS);
}

uint32_t name_group(slice_t name, uint32_t groups)
{
    return slot_group(hash_slot(name), groups);
}

uint32_t lock_group(slice_t resource, uint32_t groups)
{
    return hash_tag(resource).ptr != NULL ? name_group(resource, groups) : 0;
}
