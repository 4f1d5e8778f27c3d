/* Consistent hashing (Karger et al. 1997) with virtual nodes: who owns a key, which nodes replicate a group. And which
 * group a name belongs to. Everything here is a function of its arguments alone: the same on every node and for ever. */
#ifndef SYN_UTILS_HASH_RING_H
#define SYN_UTILS_HASH_RING_H

#include "utils/slice.h"

enum { RING_SLOTS = 16384 };

struct ring_point {
    uint64_t hash;
    uint32_t node; /* id */
};

struct hash_ring {
    struct ring_point *points; /* owned; ascending by hash, then node */
    uint32_t count;            /* of points */
    uint32_t nodes;            /* distinct ids */
};

/* A ring of `virtual_nodes` points for each of n distinct node ids; the order of the ids does not matter. Both > 0. */
void ring_init(struct hash_ring *r, const uint32_t *ids, uint32_t n, uint32_t virtual_nodes);
void ring_fini(struct hash_ring *r);
/* The node that owns key: that of the first point at or after the key's hash, going round. */
uint32_t ring_owner(const struct hash_ring *r, slice_t key);
/* The first `want` distinct nodes from the key's place on, its owner first; fewer when the ring has fewer. Returns how many. */
uint32_t ring_replicas(const struct hash_ring *r, slice_t key, uint32_t want, uint32_t *out);

/* Places groups 0..groups-1 on n nodes (distinct ids, any order), `replicas` nodes each (1 <= replicas <= n), by the ring
 * with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016): a group goes to the first nodes after its hash that have room.
 *   - no node holds more than ceil(1.25 x mean) replicas, none leads more than ceil(1.25 x mean) groups; leaders are spread
 *     as evenly as the replica sets allow;
 *   - a node that comes or goes moves about 1/n of the replicas.
 * out: groups x replicas ids, row g being group g's nodes, its preferred leader first. O(groups x replicas) after sorting
 * the ring; callers keep the result until the members change. */
void ring_place(const uint32_t *ids, uint32_t n, uint32_t virtual_nodes, uint32_t groups, uint32_t replicas, uint32_t *out);
/* Row `group` of ring_place; computes all of it. */
void ring_place_group(const uint32_t *ids, uint32_t n, uint32_t virtual_nodes, uint32_t groups, uint32_t replicas,
                      uint32_t group, uint32_t *out);

/* The group of a slot (hash.h), 0 <= slot < RING_SLOTS: even, contiguous ranges. Fixed with `groups` for a cluster's life. */
uint32_t slot_group(uint16_t slot, uint32_t groups);
/* The group of a topic, key or queue name: that of its slot. */
uint32_t name_group(slice_t name, uint32_t groups);
/* The group of a lock resource: 0 without a {tag}, so that deadlocks among untagged locks are found in one place; else
 * the group of its tag's slot. */
uint32_t lock_group(slice_t resource, uint32_t groups);

#endif
