/* Long random runs: the queue state machine beside the model of queue_model.h, every claim, status and count compared; a second state machine that is
 * taken through a snapshot at every few steps and must stay the same; operations cut short and with flipped bits, which must never assert.
 *
 * test_queue_model [SEED [STEPS]] */
#include "queue_model.h"
#include "queue_world.h"

#include "utils/assert.h"
#include "utils/prng.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const groups[MODEL_GROUPS] = {"g", "h"};
static const char *const consumers[] = {"a", "b", "c"};
enum { CONSUMERS = 3, HELD = 64, BODY = 50 };

struct run {
    struct queue_world w;
    struct model m;
    struct prng g;
    struct queue_world twin;       /* the same operations; restored from its own snapshot now and then */
    struct { int group; struct receipt r; } held[HELD]; /* some deliveries, old ones too */
    uint64_t generation[MODEL_PARTS][MODEL_GROUPS];
};
static struct run run;

static bool chance(uint32_t percent)
{
    return prng_below(&run.g, 100) < percent;
}

/* The other one applies the bytes that w applied last. */
static void twin_apply(void)
{
    struct run *r = &run;
    buf_clear(&r->twin.op);
    buf_append_slice(&r->twin.op, buf_slice(&r->w.op));
    r->twin.time_ms = r->w.time_ms;
    world_apply(&r->twin);
    syn_assert(r->twin.out.replies.len == r->w.out.replies.len);
    syn_assert(r->w.out.replies.len == 0 || memcmp(r->twin.out.replies.ptr, r->w.out.replies.ptr, r->w.out.replies.len) == 0);
    syn_assert(r->twin.out.n_woken == r->w.out.n_woken && r->twin.out.n_trimmed == r->w.out.n_trimmed);
    for (uint32_t i = 0; i < r->w.out.n_woken; i++) {
        syn_assert(r->twin.out.woken[i].partition == r->w.out.woken[i].partition);
    }
    syn_assert(queue_sm_digest(r->twin.sm) == queue_sm_digest(r->w.sm));
    syn_assert(queue_sm_next_due_ms(r->twin.sm) == queue_sm_next_due_ms(r->w.sm));
}

/* A log's floor is up to the marks: it must be within an eighth of what RETENTION says, and is taken over from the state machine. Messages
 * of a log are of one size here, so that its bytes tell the floor. */
static void follow_retention(uint32_t part)
{
    struct model_part *p = &run.m.parts[part];
    uint64_t bound = run.m.config.retention_bytes, bytes = world_part(&run.w, part).bytes;
    if (bound == 0) {
        return;
    }
    uint64_t floor = p->end - bytes / BODY;
    syn_assert(bytes % BODY == 0 && floor >= p->floor && bytes <= bound + bound / 8 + BODY);
    syn_assert(floor == p->floor || bytes + bound / 8 + BODY >= bound);
    for (uint64_t i = p->floor; i < floor; i++) {
        p->expired += !model_consumed(p, i);
    }
    for (int n = 0; n < MODEL_GROUPS; n++) {
        struct model_group *g = &p->groups[n];
        for (; g->made && g->next < floor; g->next++) {
            g->copy[g->next].state = M_DONE;
        }
    }
    p->floor = floor;
}

static void compare(uint32_t part)
{
    struct model_part *p = &run.m.parts[part];
    follow_retention(part);
    model_floor(&run.m, part);
    struct partition_info info = world_part(&run.w, part);
    syn_assert(info.end == p->end);
    syn_assert(info.start == model_start(&run.m, part) && info.expired == p->expired);
    for (uint64_t i = 0; i < p->end; i += 1 + p->end / 16) {
        syn_assert(queue_sm_deleted(run.w.sm, WORLD_TOPIC, part, i) == !model_there(&run.m, part, i));
        syn_assert(queue_sm_needs(run.w.sm, WORLD_TOPIC, part, i, i) == model_there(&run.m, part, i));
    }
    for (int n = 0; n < MODEL_GROUPS; n++) {
        if (p->groups[n].made) {
            struct group_info g = world_group(&run.w, part, groups[n]);
            syn_assert(g.next == p->groups[n].next && g.pending == model_count(p, n, M_IN_FLIGHT));
            syn_assert(g.available == model_count(p, n, M_AVAILABLE) && g.dead == model_count(p, n, M_DEAD));
            syn_assert(g.waiting == model_count(p, n, M_WAITING) + model_count(p, n, M_BLOCKED));
        }
    }
}

static void after(void)
{
    twin_apply();
    for (uint32_t k = 0; k < MODEL_PARTS; k++) {
        compare(k);
    }
}

static void do_publish(void)
{
    uint32_t part = (uint32_t)prng_below(&run.g, MODEL_PARTS);
    static const uint8_t body[128];
    struct publish_item it = {.partition = part, .body = slice_of(body, run.m.config.retention_bytes > 0 ? BODY : prng_below(&run.g, 100))};
    it.key_hash = (uint32_t)prng_below(&run.g, 4);
    it.delay_ms = chance(15) ? 1 + prng_below(&run.g, 400) : 0;
    enum publish_status s = world_publish(&run.w, &it);
    syn_assert(s == PUBLISH_OK);
    model_publish(&run.m, part, it.key_hash, it.delay_ms);
}

static void do_claim(void)
{
    uint32_t part = (uint32_t)prng_below(&run.g, MODEL_PARTS), count = 1 + (uint32_t)prng_below(&run.g, 5);
    int group = (int)prng_below(&run.g, MODEL_GROUPS), consumer = (int)prng_below(&run.g, CONSUMERS);
    uint64_t *generation = &run.generation[part][group];
    *generation += chance(20) || *generation == 0;
    uint64_t mine = *generation - (chance(10) && *generation > 1);
    struct delivery want[8];
    int n = model_claim(&run.m, part, group, consumer, mine, count, want);
    world_claim(&run.w, groups[group], consumers[consumer], part, mine, count);
    if (n < 0) {
        syn_assert(run.w.code == QUEUE_OLD_GENERATION);
        return;
    }
    syn_assert(run.w.code == QUEUE_DONE && run.w.n == (uint32_t)n);
    for (int i = 0; i < n; i++) {
        const struct delivery *d = &run.w.got[i];
        syn_assert(d->receipt.offset == want[i].receipt.offset && d->deliveries == want[i].deliveries);
        syn_assert(d->receipt.generation == want[i].receipt.generation && d->receipt.partition == part);
        run.m.parts[part].groups[group].copy[d->receipt.offset].delivery = d->receipt.delivery;
        uint64_t at = prng_below(&run.g, HELD);
        run.held[at].group = group;
        run.held[at].r = d->receipt;
    }
}

static void do_settle(void)
{
    uint64_t at = prng_below(&run.g, HELD);
    if (run.held[at].r.delivery == 0) {
        return;
    }
    struct settle_item it = {.kind = SETTLE_ACK, .receipt = run.held[at].r, .delay_ms = SETTLE_DELAY_DEFAULT};
    if (chance(40)) {
        it.kind = SETTLE_NACK;
        it.mode = (enum nack_mode)(chance(20) ? NACK_FATAL : prng_below(&run.g, 2));
        it.delay_ms = chance(50) ? SETTLE_DELAY_DEFAULT : 1 + prng_below(&run.g, 300);
    } else if (chance(10)) {
        it.kind = SETTLE_EXTEND;
        it.delay_ms = 1 + prng_below(&run.g, 500);
    }
    bool ok = model_settle(&run.m, it.receipt.partition, run.held[at].group, &it);
    enum settle_status s = world_settle(&run.w, groups[run.held[at].group], &it);
    syn_assert(s == (ok ? SETTLE_OK : SETTLE_STALE));
}

static void do_release(void)
{
    int group = (int)prng_below(&run.g, MODEL_GROUPS), consumer = (int)prng_below(&run.g, CONSUMERS);
    world_begin(&run.w, QUEUE_OP_RELEASE);
    queue_put_release(&run.w.op, &(struct queue_release){WORLD_TOPIC, slice_str(groups[group]), slice_str(consumers[consumer])});
    model_release(&run.m, group, consumer);
    world_apply(&run.w);
}

static void do_redrive(void)
{
    int group = (int)prng_below(&run.g, MODEL_GROUPS);
    uint32_t count = (uint32_t)prng_below(&run.g, 6);
    world_begin(&run.w, QUEUE_OP_REDRIVE);
    queue_put_redrive(&run.w.op, &(struct queue_redrive){WORLD_TOPIC, slice_str(groups[group]), count});
    uint32_t n = model_redrive(&run.m, group, count);
    world_apply(&run.w);
    syn_assert(run.w.code == QUEUE_NO_GROUP || run.w.value == n);
}

static void one_step(void)
{
    uint64_t pass = chance(30) ? prng_below(&run.g, 60) : 0;
    run.w.time_ms += pass;
    run.w.wall_ms += pass;
    model_time(&run.m, run.w.time_ms);
    for (uint32_t k = 0; k < MODEL_PARTS; k++) {
        model_floor(&run.m, k);
    }
    uint64_t index = run.w.index;
    switch (prng_below(&run.g, 12)) {
    case 0: case 1: case 2: case 3: do_publish(); break;
    case 4: case 5: case 6: do_claim(); break;
    case 7: case 8: case 9: do_settle(); break;
    case 10: chance(50) ? do_release() : do_redrive(); break;
    default: world_tick(&run.w, 0); break;
    }
    if (run.w.index == index) {
        world_tick(&run.w, 0);
    }
    after();
}

static void model_run(uint64_t seed, int steps, bool ordered, uint64_t retention)
{
    struct topic_config c = {.max_deliver = 3, .visibility_ms = 300, .backoff_ms = 40, .backoff_ms_max = 100};
    c.ordered = ordered;
    c.retention_bytes = retention;
    memset(&run, 0, sizeof run);
    prng_init(&run.g, seed);
    world_init(&run.w);
    world_init(&run.twin);
    run.m.config = c;
    for (int k = 0; k < MODEL_PARTS; k++) {
        for (int n = 0; n < MODEL_GROUPS; n++) {
            run.m.parts[k].groups[n].owner = -1;
        }
    }
    world_open(&run.w, 1, &c, MODEL_PARTS);
    twin_apply();
    for (int i = 0; i < steps; i++) {
        one_step();
        if (i % 3 == 0) {
            world_restore(&run.twin, 1 + prng_below(&run.g, 500));
            syn_assert(queue_sm_state_hash(run.twin.sm) == queue_sm_state_hash(run.w.sm));
        }
    }
    world_fini(&run.w);
    world_fini(&run.twin);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    int steps = argc > 2 ? atoi(argv[2]) : 3000;
    uint64_t first = seed ? seed : 1, last = seed ? seed : 6;
    for (uint64_t s = first; s <= last; s++) {
        model_run(s, steps, false, 0);
        model_run(s, steps, true, 0);
        model_run(s, steps, false, 2000);
        model_run(s, steps, true, 1000);
        printf("seed %llu\n", (unsigned long long)s);
    }
    return 0;
}
