/* The list of effects a step leaves behind; see node.h. Memory is kept between turns. */
#include "nodes/node.h"

#include "utils/assert.h"

#include <stdlib.h>

void effects_init(struct effects *fx)
{
    *fx = (struct effects){0};
}

void effects_clear(struct effects *fx)
{
    fx->count = 0;
}

void effects_fini(struct effects *fx)
{
    for (uint32_t i = 0; i < fx->cap; i++) {
        buf_fini(&fx->items[i].data);
    }
    free(fx->items);
    *fx = (struct effects){0};
}

struct effect *effects_add(struct effects *fx, enum effect_type type)
{
    if (fx->count == fx->cap) {
        uint32_t cap = fx->cap ? fx->cap * 2 : 32;
        fx->items = realloc(fx->items, cap * sizeof *fx->items);
        syn_assert(fx->items != NULL);
        memset(fx->items + fx->cap, 0, (cap - fx->cap) * sizeof *fx->items);
        fx->cap = cap;
    }
    struct effect *e = &fx->items[fx->count++];
    struct buf data = e->data;
    *e = (struct effect){.type = type};
    buf_clear(&data);
    e->data = data;
    return e;
}
