/* Walks everything that a few nodes, their home and the network between them can do with one or two keys, on the real cacher and home: every order of
 * messages, with messages lost and doubled, a node that crashes, a home that changes, leases that end, lines that are evicted. A state is reached by replaying
 * the steps that lead to it; states that were seen before are not walked again. In each: one writer or many readers, nothing older than what was acknowledged is
 * read (MC1, MC2, MC5); and from each everything comes to an end, with nothing transient left (MC4, MC13).
 *
 *   test_mesi [BUDGET [N]]      states at most per scenario (only the Nth); prints how many there were, and whether that is all of them */
#include "mesi_world.h"

#include "utils/assert.h"
#include "utils/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum step_kind { STEP_READ, STEP_WRITE, STEP_DELIVER, STEP_DOUBLE, STEP_DROP, STEP_APPLY, STEP_TICK, STEP_LEASE, STEP_CRASH, STEP_HOME, STEP_EVICT };
enum { PATH_MAX_STEPS = 60, STEP_KINDS = STEP_EVICT + 1 };

struct step { uint8_t kind, a, b; };

struct scenario {
    const char *name;
    uint32_t nodes, keys;
    bool back;
    const char *start;        /* what was done and came to its end before: "r1" a read at node 1, "w0" a write at node 0; of key 0 */
    uint64_t directory;       /* keys that the home remembers at most */
    uint8_t most[STEP_KINDS]; /* how often, at most; DELIVER and APPLY without bound */
};

struct state { uint32_t from; struct step by; uint8_t depth; };

struct walk {
    const struct scenario *s;
    struct state *states;
    uint32_t n, cap;
    uint64_t *seen;
    uint64_t mask;
    uint64_t steps, drains;
};

static bool seen_add(struct walk *k, uint64_t digest)
{
    uint64_t at = hash_u64(digest) & k->mask;
    digest |= digest == 0;
    while (k->seen[at] != 0 && k->seen[at] != digest) {
        at = (at + 1) & k->mask;
    }
    bool fresh = k->seen[at] == 0;
    k->seen[at] = digest;
    return fresh;
}

static void do_step(struct world *w, struct step s)
{
    switch ((enum step_kind)s.kind) {
    case STEP_READ: world_read(w, s.a, s.b); break;
    case STEP_WRITE: world_write(w, s.a, s.b); break;
    case STEP_DELIVER: world_deliver(w, s.a, false); break;
    case STEP_DOUBLE: world_deliver(w, s.a, true); break;
    case STEP_DROP: world_drop(w, s.a); break;
    case STEP_APPLY: world_apply(w); break;
    case STEP_TICK: world_tick(w, 3000); break;
    case STEP_LEASE: world_tick(w, WORLD_LEASE_MS + WORLD_LEASE_MS / 8); break;
    case STEP_CRASH: world_crash(w, s.a, s.b != 0); break;
    case STEP_HOME: world_new_home(w, s.b != 0); break;
    case STEP_EVICT: world_evict(w, s.a, s.b); break;
    }
}

static const char *const STEP_NAMES[] = {"read", "write", "deliver", "double", "drop", "apply", "tick", "lease", "crash", "home", "evict"};

static uint32_t path_of(const struct walk *k, uint32_t at, struct step *out, uint8_t used[STEP_KINDS])
{
    uint32_t n = k->states[at].depth;
    memset(used, 0, STEP_KINDS);
    for (uint32_t i = n; i > 0; i--) {
        out[i - 1] = k->states[at].by;
        used[out[i - 1].kind]++;
        at = k->states[at].from;
    }
    return n;
}

static void begin(const struct walk *k, struct world *w)
{
    world_open(w, k->s->nodes, k->s->keys, k->s->back, k->s->directory);
    for (const char *p = k->s->start; *p != '\0'; p += 2) {
        do_step(w, (struct step){p[0] == 'r' ? STEP_READ : STEP_WRITE, (uint8_t)(p[1] - '0'), 0});
        world_drain(w);
    }
}

static void replay(const struct walk *k, struct world *w, const struct step *path, uint32_t n)
{
    begin(k, w);
    for (uint32_t i = 0; i < n; i++) {
        do_step(w, path[i]);
    }
}

static int show(const struct walk *k, const char *why, const struct step *path, uint32_t n)
{
    printf("%s: %s\n", k->s->name, why);
    static struct world w;
    begin(k, &w);
    for (uint32_t i = 0; i < n; i++) {
        const struct world_msg *m = &w.bag[path[i].a % WORLD_BAG];
        bool msg = path[i].kind == STEP_DELIVER || path[i].kind == STEP_DOUBLE || path[i].kind == STEP_DROP;
        printf("  %2u %s %u %u", i, STEP_NAMES[path[i].kind], path[i].a, path[i].b);
        if (msg && m->used) {
            printf("  (kind %u %s n%u)", m->bytes.ptr[0], m->to_home == 255 ? "to" : "from", m->node);
        }
        do_step(&w, path[i]);
        for (uint8_t key = 0; key < k->s->keys; key++) {
            struct home_key_info info;
            home_info(w.homes[w.n_homes - 1], slice_of(&"01"[key], 1), &info);
            printf("  |");
            for (uint32_t c = 0; c < k->s->nodes; c++) {
                uint64_t v;
                printf(" %s", MESI_STATE_NAMES[cacher_state(w.cachers[c], 0, slice_of(&"01"[key], 1), &v)]);
            }
            printf(" home %s", HOME_STATE_NAMES[info.state]);
        }
        printf("\n");
    }
    world_close(&w);
    return 1;
}

static void add(struct walk *k, uint32_t from, struct step by)
{
    k->states[k->n++] = (struct state){from, by, (uint8_t)(k->states[from].depth + 1)};
}

/* Every step that may follow, by the counts of the scenario. */
static uint32_t choices(const struct walk *k, const struct world *w, const uint8_t used[STEP_KINDS], struct step *out)
{
    const uint8_t *most = k->s->most;
    uint32_t n = 0;
    for (uint8_t kind = STEP_READ; kind <= STEP_WRITE; kind++) {
        for (uint8_t c = 0; used[kind] < most[kind] && c < k->s->nodes; c++) {
            for (uint8_t key = 0; key < k->s->keys; key++) {
                out[n++] = (struct step){kind, c, key};
            }
        }
    }
    for (uint8_t i = 0; i < WORLD_BAG; i++) {
        if (w->bag[i].used) {
            out[n++] = (struct step){STEP_DELIVER, i, 0};
            if (used[STEP_DOUBLE] < most[STEP_DOUBLE]) {
                out[n++] = (struct step){STEP_DOUBLE, i, 0};
            }
            if (used[STEP_DROP] < most[STEP_DROP]) {
                out[n++] = (struct step){STEP_DROP, i, 0};
            }
        }
    }
    if (w->n_log > 0) {
        out[n++] = (struct step){STEP_APPLY, 0, 0};
    }
    for (uint8_t kind = STEP_TICK; kind <= STEP_LEASE; kind++) {
        if (used[kind] < most[kind]) {
            out[n++] = (struct step){kind, 0, 0};
        }
    }
    for (uint8_t c = 0; used[STEP_CRASH] < most[STEP_CRASH] && c < k->s->nodes; c++) {
        out[n++] = (struct step){STEP_CRASH, c, 0};
        out[n++] = (struct step){STEP_CRASH, c, 1};
    }
    for (uint8_t keep = 0; used[STEP_HOME] < most[STEP_HOME] && keep < 2; keep++) {
        out[n++] = (struct step){STEP_HOME, 0, keep};
    }
    for (uint8_t c = 0; used[STEP_EVICT] < most[STEP_EVICT] && c < k->s->nodes; c++) {
        for (uint8_t key = 0; key < k->s->keys; key++) {
            uint64_t v;
            enum mesi_state s = cacher_state(w->cachers[c], 0, slice_of(&"01"[key], 1), &v);
            if (s == MESI_S || s == MESI_E || s == MESI_M) {
                out[n++] = (struct step){STEP_EVICT, c, key};
            }
        }
    }
    return n;
}

static int explore(const struct scenario *s, uint32_t budget)
{
    struct walk k = {.s = s, .cap = budget};
    static struct world w;
    static struct step next[512];
    struct step path[PATH_MAX_STEPS + 1];
    uint8_t used[STEP_KINDS];
    for (k.mask = 1; k.mask < 2ull * budget; k.mask *= 2) {
    }
    k.mask--;
    k.states = calloc(k.cap, sizeof *k.states);
    k.seen = calloc(k.mask + 1, sizeof *k.seen);
    syn_assert(k.states != NULL && k.seen != NULL);
    k.n = 1;
    bool closed = true;
    int failed = 0;
    for (uint32_t at = 0; at < k.n && !failed; at++) {
        uint32_t depth = path_of(&k, at, path, used);
        replay(&k, &w, path, depth);
        uint32_t n = choices(&k, &w, used, next);
        world_drain(&w);
        k.drains++;
        if (w.broken != NULL) {
            failed = show(&k, w.broken, path, depth);
        }
        world_close(&w);
        for (uint32_t i = 0; i < n && !failed; i++) {
            replay(&k, &w, path, depth);
            do_step(&w, next[i]);
            world_check(&w);
            k.steps++;
            uint64_t digest = world_digest(&w);
            for (uint32_t c = 0; c < STEP_KINDS; c++) {
                bool counts = c != STEP_DELIVER && c != STEP_APPLY;
                digest = hash_u64(digest ^ (counts ? used[c] + (uint32_t)(next[i].kind == c) : 0u));
            }
            path[depth] = next[i];
            if (w.broken != NULL) {
                failed = show(&k, w.broken, path, depth + 1);
            } else if (k.n == k.cap || depth + 1 == PATH_MAX_STEPS) {
                closed = false;
            } else if (seen_add(&k, digest)) {
                add(&k, at, next[i]);
            }
            world_close(&w);
        }
    }
    printf("%-44s %8u states %9llu steps %s\n", s->name, k.n, (unsigned long long)k.steps, failed ? "BROKEN" : closed ? "all of them" : "(budget)");
    fflush(stdout);
    free(k.states);
    free(k.seen);
    return failed;
}

#define MOST(r, w, dup, drop, tick, lease, crash, home, evict) \
    {[STEP_READ] = r, [STEP_WRITE] = w, [STEP_DOUBLE] = dup, [STEP_DROP] = drop, [STEP_TICK] = tick, [STEP_LEASE] = lease, [STEP_CRASH] = crash, \
     [STEP_HOME] = home, [STEP_EVICT] = evict}

int main(int argc, char **argv)
{
    uint32_t budget = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 20000;
    const struct scenario all[] = {
        {"through, 3 nodes x 1 key", 3, 1, false, "", 0, MOST(1, 1, 0, 0, 0, 0, 0, 0, 0)},
        {"through, 3 x 1, two writes and a read", 3, 1, false, "r1", 0, MOST(1, 2, 0, 0, 0, 0, 0, 0, 0)},
        {"through, 3 x 1, doubled and lost", 3, 1, false, "r1r2", 0, MOST(1, 1, 1, 1, 1, 0, 0, 0, 0)},
        {"through, 2 x 1, an old answer comes again", 2, 1, false, "r1", 0, MOST(1, 2, 1, 0, 0, 0, 0, 0, 0)},
        {"through, 3 x 1, nobody answers for long", 3, 1, false, "r1r2", 0, MOST(0, 1, 0, 1, 3, 0, 0, 0, 0)},
        {"through, 3 x 1, a home change", 3, 1, false, "r1", 0, MOST(1, 1, 0, 0, 1, 0, 0, 1, 0)},
        {"through, 3 x 1, a home change, a lease ends", 3, 1, false, "r1", 0, MOST(0, 1, 0, 0, 0, 1, 0, 1, 0)},
        {"through, 3 x 1, a crash", 3, 1, false, "r1r2", 0, MOST(1, 1, 0, 0, 1, 0, 1, 0, 0)},
        {"through, 3 x 1, leases end, evictions", 3, 1, false, "r1", 0, MOST(1, 1, 0, 0, 0, 1, 0, 0, 1)},
        {"through, 2 nodes x 2 keys", 2, 2, false, "", 0, MOST(1, 2, 0, 0, 0, 0, 0, 0, 0)},
        {"through, 2 x 2, a directory of one", 2, 2, false, "", 1, MOST(2, 1, 0, 0, 0, 0, 0, 0, 0)},
        {"back, 2 x 2, a directory of one", 2, 2, true, "w1", 1, MOST(2, 1, 0, 0, 0, 0, 0, 0, 0)},
        {"back, 3 nodes x 1 key", 3, 1, true, "", 0, MOST(1, 1, 0, 0, 0, 0, 0, 0, 0)},
        {"back, 3 x 1, two writes and a read", 3, 1, true, "w1", 0, MOST(1, 2, 0, 0, 0, 0, 0, 0, 0)},
        {"back, 3 x 1, doubled and lost", 3, 1, true, "w1", 0, MOST(1, 1, 1, 1, 1, 0, 0, 0, 0)},
        {"back, 2 x 1, an old answer comes again", 2, 1, true, "w1", 0, MOST(1, 2, 1, 0, 0, 0, 0, 0, 0)},
        {"back, 3 x 1, a home change", 3, 1, true, "w1", 0, MOST(1, 1, 0, 0, 1, 0, 0, 1, 0)},
        {"back, 3 x 1, a crash", 3, 1, true, "w1", 0, MOST(1, 1, 0, 0, 1, 0, 1, 0, 0)},
        {"back, 3 x 1, a dirty owner's lease ends", 3, 1, true, "w1", 0, MOST(0, 1, 0, 1, 1, 1, 0, 0, 0)},
        {"back, 2 x 1, a dirty owner's lease ends", 2, 1, true, "w1", 0, MOST(1, 1, 0, 1, 0, 1, 0, 0, 0)},
        {"back, 3 x 1, evictions and the interval", 3, 1, true, "w1", 0, MOST(1, 1, 0, 0, 0, 1, 0, 0, 1)},
        {"back, 2 nodes x 2 keys", 2, 2, true, "", 0, MOST(1, 2, 0, 0, 0, 0, 0, 0, 0)},
    };
    uint32_t only = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
    int failed = 0;
    for (uint32_t i = 0; i < sizeof all / sizeof *all; i++) {
        failed |= only == 0 || only == i + 1 ? explore(&all[i], budget) : 0;
    }
    return failed;
}
