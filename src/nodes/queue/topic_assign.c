/* Pure rules of placement: which group gets a partition, which member gets a partition (docs/queue.md; Q10). */
#include "nodes/queue/topics.h"

#include "utils/assert.h"
#include "utils/hash.h"
#include "utils/hash_ring.h"
#include "utils/mutant.h"

#include <stdlib.h>

void topic_place(slice_t name, uint32_t partitions, uint32_t groups, uint32_t *out)
{
    uint32_t first = name_group(name, groups);
    bool tagged = hash_tag(name).len > 0;
    for (uint32_t p = 0; p < partitions; p++) {
        out[p] = tagged ? first : (first + p) % groups;
    }
}

/* The first `partitions mod members` members, by what they hold already, may keep one more than the others. */
static uint32_t *quotas(const uint32_t *owner, uint32_t partitions, uint32_t members)
{
    uint32_t *has = calloc(members, sizeof *has), *quota = malloc(members * sizeof *quota);
    syn_assert(has != NULL && quota != NULL);
    uint32_t least = partitions / members, more = partitions % members;
    for (uint32_t p = 0; p < partitions; p++) {
        if (owner[p] != UINT32_MAX) {
            has[owner[p]]++;
        }
    }
    for (uint32_t m = 0; m < members; m++) {
        bool keeps = more > 0 && has[m] > least;
        quota[m] = least + keeps;
        more -= keeps;
    }
    for (uint32_t m = 0; m < members && more > 0; m++) {
        if (quota[m] == least) {
            quota[m]++;
            more--;
        }
    }
    free(has);
    return quota;
}

void topic_assign(uint32_t *owner, uint32_t partitions, uint32_t members)
{
    if (members == 0) {
        for (uint32_t p = 0; p < partitions; p++) {
            owner[p] = UINT32_MAX;
        }
        return;
    }
    for (uint32_t p = 0; p < partitions && MUTANT("Q10"); p++) {
        owner[p] = UINT32_MAX;
    }
    uint32_t *left = quotas(owner, partitions, members);
    for (uint32_t p = 0; p < partitions; p++) {
        syn_assert(owner[p] == UINT32_MAX || owner[p] < members);
        if (owner[p] != UINT32_MAX && left[owner[p]] > 0) {
            left[owner[p]]--;
        } else {
            owner[p] = UINT32_MAX;
        }
    }
    uint32_t next = 0;
    for (uint32_t p = 0; p < partitions; p++) {
        if (owner[p] != UINT32_MAX) {
            continue;
        }
        while (left[next] == 0) {
            next++;
            syn_assert(next < members);
        }
        owner[p] = next;
        left[next]--;
    }
    free(left);
}
