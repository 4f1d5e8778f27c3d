/* struct slab: many small blocks, close together.
 *
 * malloc spends 8 bytes on a block, rounds it up to 16, and leaves gaps where blocks of several sizes come and go. Here a block costs 2 bytes and what rounds it
 * up to its class: 1.5 on average up to 128 bytes, a fiftieth beyond. Who frees a block says its size. Blocks are not aligned.
 *
 * Blocks of a class lie in pages. A page without blocks goes back to malloc; each class keeps one at most. Pages of a class begin small and reach 16 KiB. */
#ifndef SYN_UTILS_SLAB_H
#define SYN_UTILS_SLAB_H

#include "utils/list.h"

#include <stdint.h>

enum { SLAB_CLASSES = 81, SLAB_BLOCK_MAX = 1024 }; /* what is larger is malloc's */

struct slab_class {
    struct list open;    /* pages with room, from the one that is filled next */
    size_t bytes;        /* of all its pages */
};
struct slab { struct slab_class classes[SLAB_CLASSES]; };

void slab_init(struct slab *s);                      /* its address must stay */
void slab_fini(struct slab *s);                      /* all blocks have been freed */
void *slab_alloc(struct slab *s, size_t size);       /* never NULL */
void slab_free(struct slab *s, void *block, size_t size);
size_t slab_cost(size_t size);                       /* bytes that a block of this size takes, all told but for pages that are not full */

#endif
