/* Pages of equal blocks (Bonwick: "The slab allocator", USENIX 1994), found without a table: before each block stands its number in the page.
 *
 * L1: a page is among its class's open ones if and only if it has room.
 * L2: of the open pages of a class, one at most has no blocks.
 * Under AddressSanitizer blocks are 8 bytes apart and poisoned while nobody has them. */
#include "utils/slab.h"

#include "utils/assert.h"

#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
enum { HEAD_BYTES = 8, GRAIN_BYTES = 8 };
#else
#define ASAN_POISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
enum { HEAD_BYTES = 2, GRAIN_BYTES = 2 };
#endif

enum {
    STEP = 4,               /* between classes up to EVEN_MAX; each doubling after it has STEPS of them */
    EVEN_MAX_BITS = 7,
    EVEN_MAX = 1 << EVEN_MAX_BITS,
    STEPS_BITS = 4,
    STEPS = 1 << STEPS_BITS,
    MALLOC_BYTES = 16,      /* what glibc's adds to a page */
    PAGE_MIN = 256,
    PAGE_MAX = 16384,
    NO_SLOT = UINT16_MAX,
};

struct slab_page {
    struct list link;       /* slab_class.open; unlinked while it is full */
    uint32_t bytes;
    uint16_t class, slots, used;
    uint16_t fresh;         /* slots from here on were never used */
    uint16_t free;          /* the first of those that were; a free slot's number is that of the next */
    _Alignas(8) uint8_t bytes_of_slots[];
};

static unsigned class_of(size_t size)
{
    if (size <= EVEN_MAX) {
        return (unsigned)((size + STEP - 1) / STEP);
    }
    unsigned bits = 63u - (unsigned)__builtin_clzll(size - 1); /* size is beyond 1 << bits, and not beyond twice that */
    return EVEN_MAX / STEP + 1 + (bits - EVEN_MAX_BITS) * STEPS + (unsigned)((size - 1 - ((size_t)1 << bits)) >> (bits - STEPS_BITS));
}

static size_t block_bytes(unsigned class)
{
    if (class <= EVEN_MAX / STEP) {
        return (size_t)class * STEP;
    }
    unsigned at = class - EVEN_MAX / STEP - 1, bits = EVEN_MAX_BITS + at / STEPS;
    return ((size_t)1 << bits) + ((size_t)(at % STEPS + 1) << (bits - STEPS_BITS));
}

static size_t slot_bytes(unsigned class)
{
    return HEAD_BYTES + (block_bytes(class) + GRAIN_BYTES - 1) / GRAIN_BYTES * GRAIN_BYTES;
}

void slab_init(struct slab *s)
{
    _Static_assert(SLAB_BLOCK_MAX == 1 << (EVEN_MAX_BITS + 3) && SLAB_CLASSES == EVEN_MAX / STEP + 1 + 3 * STEPS, "three doublings after the even steps");
    for (unsigned i = 0; i < SLAB_CLASSES; i++) {
        s->classes[i].bytes = 0;
        list_init(&s->classes[i].open);
    }
}

static void page_free(struct slab_class *k, struct slab_page *p)
{
    list_remove(&p->link);
    k->bytes -= p->bytes;
    ASAN_UNPOISON_MEMORY_REGION(p, p->bytes);
    free(p);
}

void slab_fini(struct slab *s)
{
    for (unsigned i = 0; i < SLAB_CLASSES; i++) {
        struct slab_class *k = &s->classes[i];
        list_each_safe(it, &k->open) {
            struct slab_page *p = CONTAINER_OF(it, struct slab_page, link);
            syn_assert(p->used == 0);
            page_free(k, p);
        }
        syn_assert(k->bytes == 0);
    }
}

/* A quarter of all the others of its class, so that what is not full does not cost much. */
static void page_add(struct slab_class *k, unsigned class)
{
    size_t want = k->bytes / 4 < PAGE_MIN ? PAGE_MIN : k->bytes / 4 < PAGE_MAX ? k->bytes / 4 : PAGE_MAX;
    size_t room = want - MALLOC_BYTES - sizeof(struct slab_page), slot = slot_bytes(class), n = room >= slot ? room / slot : 1;
    size_t bytes = sizeof(struct slab_page) + n * slot;
    struct slab_page *p = malloc(bytes);
    syn_assert(p != NULL);
    *p = (struct slab_page){.bytes = (uint32_t)bytes, .class = (uint16_t)class, .slots = (uint16_t)n, .free = NO_SLOT};
    ASAN_POISON_MEMORY_REGION(p->bytes_of_slots, n * slot);
    list_push_front(&k->open, &p->link);
    k->bytes += bytes;
}

static uint16_t number_get(const uint8_t *slot)
{
    uint16_t number;
    memcpy(&number, slot, sizeof number);
    return number;
}

static void number_put(uint8_t *slot, uint16_t number)
{
    memcpy(slot, &number, sizeof number);
}

void *slab_alloc(struct slab *s, size_t size)
{
    if (size > SLAB_BLOCK_MAX) {
        void *block = malloc(size);
        syn_assert(block != NULL);
        return block;
    }
    unsigned class = class_of(size);
    struct slab_class *k = &s->classes[class];
    if (list_empty(&k->open)) {
        page_add(k, class);
    }
    struct slab_page *p = CONTAINER_OF(k->open.next, struct slab_page, link);
    uint16_t at = p->free != NO_SLOT ? p->free : p->fresh++;
    uint8_t *slot = p->bytes_of_slots + at * slot_bytes(class);
    ASAN_UNPOISON_MEMORY_REGION(slot, HEAD_BYTES + size);
    p->free = p->free != NO_SLOT ? number_get(slot) : NO_SLOT;
    number_put(slot, at);
    if (++p->used == p->slots) {
        list_remove(&p->link); /* L1 */
    }
    return slot + HEAD_BYTES;
}

void slab_free(struct slab *s, void *block, size_t size)
{
    if (size > SLAB_BLOCK_MAX) {
        free(block);
        return;
    }
    unsigned class = class_of(size);
    struct slab_class *k = &s->classes[class];
    uint8_t *slot = (uint8_t *)block - HEAD_BYTES;
    uint16_t at = number_get(slot);
    struct slab_page *p = CONTAINER_OF(slot - at * slot_bytes(class), struct slab_page, bytes_of_slots);
    syn_assert(p->class == class && at < p->fresh && p->used > 0);
    number_put(slot, p->free);
    p->free = at;
    ASAN_POISON_MEMORY_REGION(block, slot_bytes(class) - HEAD_BYTES);
    if (p->used-- == p->slots) {
        list_push_front(&k->open, &p->link); /* L1 */
    }
    if (p->used == 0 && k->open.next != k->open.prev) {
        page_free(k, p); /* L2 */
    }
}

size_t slab_cost(size_t size)
{
    enum { ROUND = 16 };
    return size > SLAB_BLOCK_MAX ? (size + 8 + ROUND - 1) / ROUND * ROUND : slot_bytes(class_of(size));
}
