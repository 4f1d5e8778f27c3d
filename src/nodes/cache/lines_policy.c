/* Which line goes: least recently used, or S3-FIFO (Yang, Zhang, Qiu, Yue, Vigfusson: "FIFO queues are all you need for cache eviction", SOSP 2023).
 *
 * S3-FIFO: what is new enters a small queue, a tenth of all lines. What is used there more than once moves on to the main queue; the rest goes, and leaves its
 * hash behind as a ghost: who comes back in time enters the main queue at once. In the main queue the oldest line goes unless it was used, which costs it one use
 * and another round. A use is one saturating counter: nothing moves on a hit.
 *
 * P1: each line stands in one queue, that of its bit LINE_SMALL. LRU has the main queue alone.
 * A pinned line that would be next goes back to its queue's new end: it is not looked at again and again. */
#include "nodes/cache/lines_internal.h"

#include <stdlib.h>

enum {
    SMALL_SHARE = 10,          /* the small queue has a tenth */
    USES_TO_STAY = 2,          /* in the small queue: moves on */
    USES_MAX = 3,
    USES_SHIFT = 6,            /* where LINE_USED is */
    LOOKS_MAX = 64,            /* lines looked at for one victim: then the next that may go does, used or not */
    GHOST_WAYS = 8,
};

static unsigned uses(const struct line *l)
{
    return l->bits >> USES_SHIFT;
}

static void set_uses(struct line *l, unsigned n)
{
    l->bits = (uint8_t)((l->bits & (LINE_USED - 1)) | n << USES_SHIFT);
}

static struct line_queue *queue_of(struct lines *s, const struct line *l)
{
    return l->bits & LINE_SMALL ? &s->small : &s->main;
}

static void push(struct lines *s, struct line_queue *q, struct line *l, uint32_t at)
{
    l->newer = LINES_NONE;
    l->older = q->newest;
    if (q->newest != LINES_NONE) {
        line_at(s, q->newest)->newer = at;
    } else {
        q->oldest = at;
    }
    q->newest = at;
    q->n++;
}

/* Returns the line's index: its neighbours know it. */
static uint32_t unlink_line(struct lines *s, struct line_queue *q, struct line *l)
{
    uint32_t at = l->newer != LINES_NONE ? line_at(s, l->newer)->older : q->newest;
    if (l->newer != LINES_NONE) {
        line_at(s, l->newer)->older = l->older;
    } else {
        q->newest = l->older;
    }
    if (l->older != LINES_NONE) {
        line_at(s, l->older)->newer = l->newer;
    } else {
        q->oldest = l->newer;
    }
    q->n--;
    return at;
}

static void to_newest(struct lines *s, struct line_queue *q, struct line *l)
{
    uint32_t at = unlink_line(s, q, l);
    push(s, q, l, at);
}

void policy_init(struct lines *s)
{
    s->main = s->small = (struct line_queue){LINES_NONE, LINES_NONE, 0};
}

void policy_fini(struct lines *s)
{
    free(s->ghosts);
}

/* A ghost's mark is never 0. The set is chosen by the hash's top bits, the mark is its low ones. */
static struct ghost_set *ghost_set(const struct lines *s, uint32_t hash)
{
    return &s->ghosts[(uint64_t)hash * s->n_ghost_sets >> 32];
}

static uint16_t ghost_mark(uint32_t hash)
{
    uint16_t mark = (uint16_t)hash;
    return mark != 0 ? mark : 1;
}

/* As many ghosts as lines: when those have doubled every set becomes two, and both have the old one's marks. */
static void ghosts_fit(struct lines *s)
{
    uint32_t want = s->n_ghost_sets ? s->n_ghost_sets : 16;
    if (s->ghosts == NULL) {
        s->ghosts = calloc(want, sizeof *s->ghosts);
        syn_assert(s->ghosts != NULL);
        s->n_ghost_sets = want;
    }
    if ((uint64_t)want * GHOST_WAYS * 3 / 2 >= s->n || want > UINT32_MAX / 4) {
        return;
    }
    s->ghosts = realloc(s->ghosts, (size_t)want * 2 * sizeof *s->ghosts);
    syn_assert(s->ghosts != NULL);
    for (uint32_t i = want; i > 0; i--) {
        s->ghosts[2 * i - 1] = s->ghosts[2 * i - 2] = s->ghosts[i - 1];
    }
    s->n_ghost_sets = want * 2;
}

static void ghost_add(struct lines *s, uint32_t hash)
{
    ghosts_fit(s);
    struct ghost_set *g = ghost_set(s, hash);
    memmove(&g->marks[1], &g->marks[0], sizeof g->marks - sizeof g->marks[0]);
    g->marks[0] = ghost_mark(hash);
}

/* True: it was there; it is no more. */
static bool ghost_take(struct lines *s, uint32_t hash)
{
    if (s->ghosts == NULL) {
        return false;
    }
    struct ghost_set *g = ghost_set(s, hash);
    for (int i = 0; i < GHOST_WAYS; i++) {
        if (g->marks[i] == ghost_mark(hash)) {
            memmove(&g->marks[i], &g->marks[i + 1], (size_t)(GHOST_WAYS - 1 - i) * sizeof g->marks[0]);
            g->marks[GHOST_WAYS - 1] = 0;
            return true;
        }
    }
    return false;
}

void policy_insert(struct lines *s, struct line *l, uint32_t at)
{
    if (s->o.policy == LINES_S3FIFO && !ghost_take(s, l->hash)) {
        l->bits |= LINE_SMALL;
    }
    push(s, queue_of(s, l), l, at);
}

uint32_t policy_remove(struct lines *s, struct line *l)
{
    return unlink_line(s, queue_of(s, l), l);
}

void lines_touch(struct lines *s, struct line *l)
{
    if (s->o.policy == LINES_S3FIFO) {
        set_uses(l, uses(l) < USES_MAX ? uses(l) + 1 : USES_MAX);
    } else if (l->newer != LINES_NONE) {
        to_newest(s, &s->main, l);
    }
}

/* The oldest of the small queue: it goes (true), or it moves on. */
static bool small_goes(struct lines *s, struct line *l, bool must)
{
    if (uses(l) >= USES_TO_STAY && !must) {
        uint32_t at = unlink_line(s, &s->small, l);
        l->bits = (uint8_t)(l->bits & ~LINE_SMALL);
        set_uses(l, 0);
        push(s, &s->main, l, at);
        return false;
    }
    ghost_add(s, l->hash);
    return true;
}

static bool main_goes(struct lines *s, struct line *l, bool must)
{
    if (s->o.policy == LINES_LRU || uses(l) == 0 || must) {
        return true;
    }
    set_uses(l, uses(l) - 1);
    to_newest(s, &s->main, l);
    return false;
}

struct line *lines_victim(struct lines *s, const struct line *keep)
{
    for (uint32_t looks = 0; looks < 2 * LOOKS_MAX && s->n > 0; looks++) {
        bool small = s->small.n > 0 && ((uint64_t)s->small.n * SMALL_SHARE >= s->n || s->main.n == 0);
        small = looks >= LOOKS_MAX && s->small.n > 0 && s->main.n > 0 ? looks % 2 : small; /* one of them may be pinned as a whole */
        struct line_queue *q = small ? &s->small : &s->main;
        struct line *l = line_at(s, q->oldest);
        if (l == keep || (l->bits & LINE_PINNED)) {
            to_newest(s, q, l);
        } else if (small ? small_goes(s, l, looks >= LOOKS_MAX) : main_goes(s, l, looks >= LOOKS_MAX)) {
            return l;
        }
    }
    return NULL;
}

static void check_queue(const struct lines *s, const struct line_queue *q, bool small)
{
    uint32_t n = 0, newer = LINES_NONE;
    for (uint32_t at = q->newest; at != LINES_NONE; at = line_at(s, at)->older) {
        const struct line *l = line_at(s, at);
        syn_assert(l->newer == newer && (l->bits & LINE_SMALL) == (small ? LINE_SMALL : 0)); /* P1 */
        newer = at;
        n++;
    }
    syn_assert(q->oldest == newer && q->n == n);
}

void policy_check(const struct lines *s)
{
    check_queue(s, &s->main, false);
    check_queue(s, &s->small, true);
    syn_assert(s->o.policy == LINES_S3FIFO || s->small.n == 0);
    _Static_assert(LINE_COST < 64, "what a line costs beyond key and value");
}
