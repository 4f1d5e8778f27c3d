/* struct map: an intrusive hash table with incremental resizing.
 *
 * The caller's struct embeds a map_node and computes the hash (hash.h, keyed for client bytes). Resizing moves a few
 * buckets per operation, so no single call is O(n). Iteration order depends on hashes: code whose result must be the
 * same on every replica never iterates a map (invariant K12). */
#ifndef SYN_UTILS_MAP_H
#define SYN_UTILS_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_node {
    struct map_node *next;
    uint64_t hash;
};

struct map_table {
    struct map_node **buckets; /* owned */
    size_t mask;               /* number of buckets - 1; a power of two */
};

struct map {
    struct map_table now;
    struct map_table old;  /* being drained while old.buckets != NULL */
    size_t drained;        /* buckets of old already moved */
    size_t count;
};

typedef bool (*map_eq_fn)(const struct map_node *n, const void *key);

void map_init(struct map *m);
void map_fini(struct map *m); /* frees the tables, not the nodes */
/* The node with this hash for which eq(node, key) holds, or NULL. */
struct map_node *map_find(struct map *m, uint64_t hash, const void *key, map_eq_fn eq);
/* n must not be in the map, nor any node equal to it. */
void map_insert(struct map *m, struct map_node *n, uint64_t hash);
/* n must be in the map. */
void map_remove(struct map *m, struct map_node *n);
/* A walk in no particular order: map_first, then map_next until NULL. The map must not change meanwhile, and map_find
 * changes it: it moves buckets of a table that is being resized. */
struct map_node *map_first(const struct map *m);
struct map_node *map_next(const struct map *m, struct map_node *prev);

#endif
