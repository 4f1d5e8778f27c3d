/* Depth first: a step, and when the state was seen before, back; else on from there. Going back is a copy of the arena.
 *
 * Why this is all of a scenario's states:
 *  - From each state every step is taken that its bounds leave: any message is delivered, doubled or lost, the log's next entry applied, any fault happens. There
 *    is no bound on depth.
 *  - A state is what mesi_digest.c says, and how often each bounded step was taken. Two states with one digest differ in names alone; a chance collision of 64
 *    bits hides a state with a probability of n^2 / 2^65 (n = 10^8: 1 in 3,000).
 *  - A message is lost last, when nothing else is under way: until then it may as well be late, and what is sent again is what was lost. Where a path bites its tail
 *    each one is lost for the look at the end.
 *  - Messages that their receiver would leave unread now and ever (mesi_check.c) are removed: a state with and one without do the same.
 *  - That all comes to an end is looked for (world_drain) in states that are still, where nothing is to be delivered or applied, and in those where a path bites
 *    its tail. From any other state deliveries and entries alone lead to one of the two. (There are such rounds: two that want to own a key may each time have
 *    the invalidation overtake the data. The drain delivers in rounds, as links that keep their order do.) */
#include "mesi_walk.h"

#include "arena.h"
#include "utils/assert.h"
#include "utils/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 1000, CHOICES_MAX = 400, CHECK_EVERY = 100000 };

struct step { uint8_t kind, a, b; };

struct frame {
    struct step *choices;
    uint32_t n, at;
    uint64_t digest;
    uint8_t used[STEP_KINDS];
    void *image;
    size_t image_cap;
};

struct walk {
    const struct scenario *s;
    struct world *w;
    uint64_t budget;
    struct frame *frames;
    uint32_t depth;
    uint64_t *seen, mask;
    void *scratch;
    size_t scratch_cap;
    struct walk_result r;
};

static const char *const STEP_NAMES[] = {"read", "write", "twice", "pair", "joint", "clear", "expire", "deliver", "double", "drop", "apply", "tick", "interval", "lease", "crash",
                                         "home", "evict", "refuse"};

/* --- states that were seen */

static bool seen_put(uint64_t *seen, uint64_t mask, uint64_t digest)
{
    uint64_t at = digest & mask;
    while (seen[at] != 0 && seen[at] != digest) {
        at = (at + 1) & mask;
    }
    bool fresh = seen[at] == 0;
    seen[at] = digest;
    return fresh;
}

static uint64_t *seen_new(uint64_t mask)
{
    uint64_t *seen = calloc(mask + 1, sizeof *seen);
    syn_assert(seen != NULL);
    return seen;
}

static bool seen_add(struct walk *k, uint64_t digest)
{
    if (k->r.states * 10 > k->mask * 7) {
        uint64_t mask = k->mask * 2 + 1, *more = seen_new(mask);
        for (uint64_t i = 0; i <= k->mask; i++) {
            if (k->seen[i] != 0) {
                seen_put(more, mask, k->seen[i]);
            }
        }
        free(k->seen);
        k->seen = more;
        k->mask = mask;
    }
    bool fresh = seen_put(k->seen, k->mask, digest);
    k->r.states += fresh;
    return fresh;
}

/* --- steps */

static void do_step(struct world *w, struct step s)
{
    arena_enter();
    switch ((enum step_kind)s.kind) {
    case STEP_READ: world_read(w, s.a, s.b); break;
    case STEP_WRITE: world_write(w, s.a, s.b); break;
    case STEP_TWICE: world_write_two(w, s.a, s.b, s.b); break;
    case STEP_PAIR: world_write_two(w, s.a, 0, 1); break;
    case STEP_JOINT: world_write_joint(w, s.a, false); break;
    case STEP_CLEAR: world_write_joint(w, s.a, true); break;
    case STEP_EXPIRE: world_expire(w, s.b); break;
    case STEP_DELIVER: world_deliver(w, s.a, false); break;
    case STEP_DOUBLE: world_deliver(w, s.a, true); break;
    case STEP_DROP: world_drop(w, s.a); break;
    case STEP_APPLY: world_apply(w); break;
    case STEP_TICK: world_tick(w, 3000); break;
    case STEP_INTERVAL: world_tick(w, WORLD_LEASE_MS / 2 + 1); break;
    case STEP_LEASE: world_tick(w, WORLD_LEASE_MS + WORLD_LEASE_MS / 8); break;
    case STEP_CRASH: world_crash(w, s.a, s.b / FATES, s.b % FATES); break;
    case STEP_HOME: world_new_home(w, s.a, s.b); break;
    case STEP_EVICT: world_evict(w, s.a, s.b); break;
    case STEP_REFUSE: world_refuse(w, s.a); break;
    case STEP_KINDS: break;
    }
    world_tidy(w);
    world_check(w);
    arena_leave();
}

static bool can_evict(struct world *w, uint8_t node, uint8_t key)
{
    uint64_t version;
    enum mesi_state s = cacher_state(w->cachers[node], 0, slice_of(&"01"[key], 1), &version);
    return s == MESI_S || s == MESI_E || s == MESI_M;
}

static bool is_fault(uint8_t kind)
{
    return kind == STEP_DOUBLE || kind == STEP_DROP || (kind >= STEP_TICK && kind < STEP_KINDS);
}

static bool fits(const struct walk *k, uint8_t kind, const uint8_t *used)
{
    uint32_t faults = 0;
    for (uint8_t i = 0; k->s->faults > 0 && is_fault(kind) && i < STEP_KINDS; i++) {
        faults += is_fault(i) ? used[i] : 0u;
    }
    return used[kind] < k->s->most[kind] && (faults == 0 || faults < k->s->faults);
}

static struct step *put(struct step *out, uint8_t kind, uint8_t a, uint8_t b)
{
    *out = (struct step){kind, a, b};
    return out + 1;
}

static struct step *put_ops(const struct walk *k, const uint8_t *used, struct step *out)
{
    for (uint8_t kind = STEP_READ; kind <= STEP_EXPIRE; kind++) {
        bool of_key = kind <= STEP_TWICE || kind == STEP_EXPIRE, of_node = kind != STEP_EXPIRE;
        for (uint8_t node = 0; fits(k, kind, used) && node < (of_node ? k->s->o.nodes : 1); node++) {
            for (uint8_t key = 0; key < (of_key ? k->s->o.keys : 1); key++) {
                out = put(out, kind, node, key);
            }
        }
    }
    return out;
}

static bool can_be_lost(const struct world_msg *m)
{
    return m->used && m->bytes[0] < MSG_REQUEST; /* the others are asked again until they are answered, and done once */
}

/* Nothing else is under way. */
static bool is_last(const struct walk *k, uint32_t i)
{
    bool used = k->w->bag[i].used, last;
    k->w->bag[i].used = false;
    last = world_is_still(k->w);
    k->w->bag[i].used = used;
    return last;
}

static struct step *put_messages(const struct walk *k, const uint8_t *used, struct step *out)
{
    for (uint8_t i = 0; i < WORLD_BAG; i++) {
        const struct world_msg *m = &k->w->bag[i];
        if (!m->used || !world_is_ready(k->w, m)) {
            continue;
        }
        out = put(out, STEP_DELIVER, i, 0);
        bool once = !can_be_lost(m);
        out = !once && fits(k, STEP_DOUBLE, used) ? put(out, STEP_DOUBLE, i, 0) : out;
        out = !once && fits(k, STEP_DROP, used) && is_last(k, i) ? put(out, STEP_DROP, i, 0) : out;
        out = once && fits(k, STEP_REFUSE, used) && world_can_refuse(m) ? put(out, STEP_REFUSE, i, 0) : out;
    }
    return k->w->n_log > 0 ? put(out, STEP_APPLY, 0, 0) : out;
}

static struct step *put_faults(const struct walk *k, const uint8_t *used, struct step *out)
{
    uint8_t nodes = (uint8_t)k->s->o.nodes, home = k->w->home_node[k->w->n_homes - 1];
    for (uint8_t kind = STEP_TICK; kind <= STEP_LEASE; kind++) {
        out = fits(k, kind, used) ? put(out, kind, 0, 0) : out;
    }
    for (uint8_t node = 0; node < nodes; node++) {
        for (uint8_t other = 0; other < nodes; other++) {
            for (uint8_t fate = 0; fate < FATES; fate++) {
                bool told = node == home ? other != node : other == 0 && fate == 0;
                out = fits(k, STEP_CRASH, used) && told ? put(out, STEP_CRASH, node, (uint8_t)(other * FATES + fate)) : out;
            }
        }
        for (uint8_t fate = 0; node != home && fate < FATES; fate++) {
            out = fits(k, STEP_HOME, used) ? put(out, STEP_HOME, node, fate) : out;
        }
        for (uint8_t key = 0; key < k->s->o.keys; key++) {
            out = fits(k, STEP_EVICT, used) && can_evict(k->w, node, key) ? put(out, STEP_EVICT, node, key) : out;
        }
    }
    return out;
}

/* --- what happened */

static void show_step(struct walk *k, struct step s, uint32_t i)
{
    const struct world_msg *m = &k->w->bag[s.a % WORLD_BAG];
    printf("  %2u %s %u %u", i, STEP_NAMES[s.kind], s.a, s.b);
    if (s.kind == STEP_DELIVER || s.kind == STEP_REFUSE || s.kind == STEP_DOUBLE || s.kind == STEP_DROP) {
        printf("  (kind %u %s n%u)", m->bytes[0], m->to_home == TO_CACHER ? "to" : "from", m->node);
    }
    do_step(k->w, s);
    for (uint8_t key = 0; key < k->s->o.keys; key++) {
        struct home_key_info info;
        home_info(k->w->homes[k->w->n_homes - 1], slice_of(&"01"[key], 1), &info);
        printf("  |");
        for (uint32_t c = 0; c < k->s->o.nodes; c++) {
            uint64_t v;
            printf(" %s", MESI_STATE_NAMES[cacher_state(k->w->cachers[c], 0, slice_of(&"01"[key], 1), &v)]);
        }
        printf(" home %s memory %u", HOME_STATE_NAMES[info.state], k->w->memory[key].value);
    }
    printf("\n");
}

static void begin(struct walk *k)
{
    arena_enter();
    k->w = world_open(&k->s->o);
    for (const char *p = k->s->start; *p != '\0'; p += 2) {
        uint8_t node = (uint8_t)(p[1] - '0');
        if (p[0] == 'r') {
            world_read(k->w, node, 0);
        } else if (p[0] == 'e') {
            world_evict(k->w, node, 0);
        } else {
            world_write(k->w, node, 0);
        }
        world_drain(k->w);
    }
    world_tidy(k->w);
    arena_leave();
}

static void show(struct walk *k)
{
    printf("%s: %s\n", k->s->name, k->w->broken);
    begin(k);
    for (uint32_t i = 0; i < k->depth; i++) {
        show_step(k, k->frames[i].choices[k->frames[i].at - 1], i);
    }
    k->r.failed = true;
}

/* --- the walk */

static void *save(void **image, size_t *cap)
{
    size_t need = arena_image_bytes();
    if (need > *cap) {
        *cap = need * 2;
        free(*image);
        *image = malloc(*cap);
        syn_assert(*image != NULL);
    }
    arena_save(*image);
    return *image;
}

static bool drain_from(struct walk *k)
{
    k->r.drains++;
    save(&k->scratch, &k->scratch_cap);
    arena_enter();
    world_drain(k->w);
    arena_leave();
    if (k->w->broken != NULL) {
        return false;
    }
    arena_load(k->scratch);
    return true;
}

/* As it is, and with each message lost that may be. */
static void drain_round(struct walk *k, const uint8_t *used)
{
    bool ok = drain_from(k);
    for (uint32_t i = 0; ok && fits(k, STEP_DROP, used) && i < WORLD_BAG; i++) {
        struct world_msg *m = &k->w->bag[i];
        if (can_be_lost(m)) {
            m->used = false;
            ok = drain_from(k);
            m->used = ok;
        }
    }
}

/* Another order in each state: a walk that ends early has been everywhere a little. */
static void shuffle(struct step *steps, uint32_t n, uint64_t digest)
{
    for (uint32_t i = n; i > 1; i--) {
        digest = hash_u64(digest);
        struct step swap = steps[i - 1];
        steps[i - 1] = steps[digest % i];
        steps[digest % i] = swap;
    }
}

static void enter(struct walk *k, uint64_t digest, const uint8_t *used)
{
    syn_assert(k->depth < DEPTH_MAX);
    struct frame *f = &k->frames[k->depth++];
    struct step all[CHOICES_MAX];
    memcpy(f->used, used, sizeof f->used);
    struct step *end = put_faults(k, f->used, put_messages(k, f->used, put_ops(k, f->used, all)));
    f->n = (uint32_t)(end - all);
    f->at = 0;
    f->digest = digest;
    f->choices = realloc(f->choices, (f->n + 1) * sizeof *f->choices);
    syn_assert(f->choices != NULL && f->n <= CHOICES_MAX);
    memcpy(f->choices, all, f->n * sizeof *all);
    shuffle(f->choices, f->n, digest);
    save(&f->image, &f->image_cap);
}

static uint64_t digest_of(struct walk *k, const uint8_t *used)
{
    uint64_t digest = world_digest(k->w);
    for (uint32_t i = 0; i < STEP_KINDS; i++) {
        digest = digest * 31 + (i != STEP_DELIVER && i != STEP_APPLY ? used[i] : 0u);
    }
    digest = hash_u64(digest);
    return digest | (digest == 0);
}

static bool goes_round(const struct walk *k, uint64_t digest)
{
    for (uint32_t i = 0; i + 1 < k->depth; i++) {
        if (k->frames[i].digest == digest) {
            return true;
        }
    }
    return false;
}

static void one_step(struct walk *k, struct frame *f)
{
    struct step s = f->choices[f->at++];
    uint8_t used[STEP_KINDS];
    arena_load(f->image);
    do_step(k->w, s);
    k->r.steps++;
    memcpy(used, f->used, sizeof used);
    used[s.kind] = (uint8_t)(used[s.kind] + (s.kind != STEP_DELIVER && s.kind != STEP_APPLY));
    uint64_t digest = digest_of(k, used);
    if (k->w->broken == NULL && !seen_add(k, digest)) {
        if (goes_round(k, digest)) {
            drain_round(k, used);
        }
    } else if (k->w->broken == NULL && (!world_is_still(k->w) || drain_from(k))) {
        enter(k, digest, used);
    }
    if (k->w->broken != NULL) {
        show(k);
    }
    if (k->r.steps % CHECK_EVERY == 0) {
        arena_check();
    }
}

struct walk_result walk(const struct scenario *s, uint64_t budget)
{
    static const uint8_t none[STEP_KINDS];
    struct walk k = {.s = s, .mask = (1u << 16) - 1};
    k.seen = seen_new(k.mask);
    k.frames = calloc(DEPTH_MAX, sizeof *k.frames);
    syn_assert(k.frames != NULL);
    begin(&k);
    uint64_t digest = digest_of(&k, none);
    seen_add(&k, digest);
    enter(&k, digest, none);
    while (k.depth > 0 && !k.r.failed && (budget == 0 || k.r.states < budget)) {
        struct frame *f = &k.frames[k.depth - 1];
        if (f->at == f->n) {
            k.depth--;
        } else {
            one_step(&k, f);
        }
    }
    k.r.closed = k.depth == 0;
    for (uint32_t i = 0; i < DEPTH_MAX; i++) {
        free(k.frames[i].choices);
        free(k.frames[i].image);
    }
    free(k.frames);
    free(k.seen);
    free(k.scratch);
    return k.r;
}
