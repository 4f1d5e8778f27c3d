/* Everything that a few nodes, their home and the network between them can do with one or two keys, on the real cacher and home: every order of messages, with
 * messages lost and doubled, a node that crashes, a home that changes, leases that end, lines that are evicted. mesi_walk.c walks, mesi_check.c says what must
 * hold, here are the scenarios: who there is, what happened before, and how often each thing may happen.
 *
 *   test_mesi              each scenario to its end, or to its budget; fails when a cell of the tables that has a next state is used by none
 *   test_mesi 0            each to its end, however long that takes
 *   test_mesi BUDGET [N]   states at most in each (only in the Nth) */
#include "mesi_cover.h"
#include "mesi_walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define W(n, k) {.nodes = n, .keys = k, .counts = true}
#define B(n, k) {.nodes = n, .keys = k, .back = true, .counts = true}
#define OVER(n, k) {.nodes = n, .keys = k} /* writes do not look at what they replace */
#define WD(n, k, d) {.nodes = n, .keys = k, .counts = true, .directory = d}
#define BD(n, k, d) {.nodes = n, .keys = k, .back = true, .counts = true, .directory = d}
#define R [STEP_READ]
#define WR [STEP_WRITE]
#define DUP [STEP_DOUBLE]
#define DROP [STEP_DROP]
#define TICK [STEP_TICK]
#define LEASE [STEP_LEASE]
#define CRASH [STEP_CRASH]
#define HOME [STEP_HOME]
#define EVICT [STEP_EVICT]
#define INTERVAL [STEP_INTERVAL]
#define EXPIRE [STEP_EXPIRE]
#define CLEAR [STEP_CLEAR]
#define REFUSE [STEP_REFUSE]
#define LOSSES {R = 1, WR = 1, DUP = 1, DROP = 1, CRASH = 1, HOME = 1}
#define ALL_FAULTS {R = 1, WR = 1, DUP = 1, DROP = 1, TICK = 1, LEASE = 1, CRASH = 1, HOME = 1, EVICT = 1}

/* All nodes have a lease; node 0 has no line, node 1 none (through) or a dirty one (back), node 2 owns (through) or has none. */
#define W3 "r0e0r1e1r2"
#define B3 "r0e0r2e2w1"
#define W2 "r0e0r1"
#define B2 "r0e0w1"

static const struct scenario all[] = {
    {"through 3x1: from nothing", W(3, 1), "", {R = 1, WR = 1}, 0, 0},
    {"through 3x1: two writes, a read", W(3, 1), W3, {R = 1, WR = 2}, 150000, 0},
    {"through 3x1: two reads, a write", W(3, 1), W3, {R = 2, WR = 1}, 0, 0},
    {"through 3x1: doubled and lost", W(3, 1), W3, {R = 1, WR = 1, DUP = 1, DROP = 1}, 0, 0},
    {"through 3x1: lost, asked again", W(3, 1), W3, {R = 1, WR = 1, DROP = 1, TICK = 1}, 0, 0},
    {"through 3x1: sharers, lost, asked again", W(3, 1), "r0r1r2", {WR = 1, DROP = 1, TICK = 2}, 0, 0},
    {"through 3x1: leases end", W(3, 1), W3, {R = 1, WR = 1, LEASE = 1}, 0, 0},
    {"through 3x1: a crash", W(3, 1), W3, {R = 1, WR = 1, CRASH = 1, EVICT = 1}, 0, 0},
    {"through 3x1: a home change", W(3, 1), W3, {R = 1, WR = 1, HOME = 1}, 150000, 0},
    {"through 2x1: a home change, leases end", W(2, 1), W2, {R = 1, WR = 1, LEASE = 1, HOME = 1}, 150000, 0},
    {"through 2x1: an old answer comes again", W(2, 1), W2, {R = 1, WR = 2, DUP = 1}, 0, 0},
    {"through 2x1: two writes in one turn", W(2, 1), W2, {R = 1, WR = 1, [STEP_TWICE] = 1}, 0, 0},
    {"through 2x1: memory changes by itself", W(2, 1), W2, {R = 1, WR = 1, EXPIRE = 1, EVICT = 1}, 0, 0},
    {"through 2x1: refused", W(2, 1), "r0r1w1", {R = 1, WR = 1, REFUSE = 1}, 0, 0},
    {"through 2x1: overwritten, refused", OVER(2, 1), W2, {R = 1, WR = 1, REFUSE = 1}, 0, 0},
    {"through 2x2: writes and a read", W(2, 2), W2, {R = 1, WR = 2}, 0, 0},
    {"through 2x2: doubled", W(2, 2), W2, {R = 1, WR = 1, DUP = 1}, 0, 0},
    {"through 2x2: a crash", W(2, 2), W2, {R = 1, WR = 1, CRASH = 1}, 0, 0},
    {"through 2x2: a home change", W(2, 2), W2, {R = 1, WR = 1, HOME = 1}, 0, 0},
    {"through 2x2: both keys in one entry", W(2, 2), W2, {R = 1, WR = 1, [STEP_PAIR] = 1}, 0, 0},
    {"through 2x2: a command over both keys", W(2, 2), W2, {WR = 1, [STEP_JOINT] = 1}, 0, 0},
    {"through 2x2: FLUSHALL", W(2, 2), W2, {R = 1, WR = 1, CLEAR = 1}, 0, 0},
    {"through 2x2: a directory of one", WD(2, 2, 1), W2, {R = 2, WR = 1}, 0, 0},
    {"back 3x1: from nothing", B(3, 1), "", {R = 1, WR = 1}, 0, 0},
    {"back 3x1: two writes, a read", B(3, 1), B3, {R = 1, WR = 2}, 0, 0},
    {"back 3x1: two reads, a write", B(3, 1), B3, {R = 2, WR = 1}, 0, 0},
    {"back 3x1: doubled and lost", B(3, 1), B3, {R = 1, WR = 1, DUP = 1, DROP = 1}, 0, 0},
    {"back 3x1: lost, asked again", B(3, 1), B3, {R = 1, WR = 1, DROP = 1, TICK = 1}, 150000, 0},
    {"back 3x1: leases end", B(3, 1), B3, {R = 1, WR = 1, LEASE = 1}, 150000, 0},
    {"back 3x1: a crash", B(3, 1), B3, {R = 1, WR = 1, CRASH = 1, EVICT = 1}, 0, 0},
    {"back 3x1: a home change", B(3, 1), B3, {R = 1, WR = 1, HOME = 1}, 0, 0},
    {"back 2x1: an owner's lease ends", B(2, 1), B2, {R = 1, WR = 1, DROP = 1, LEASE = 1}, 0, 0},
    {"back 2x1: a home change, leases end", B(2, 1), B2, {WR = 1, R = 1, LEASE = 1, HOME = 1}, 150000, 0},
    {"back 2x1: the interval, lost, doubled", B(2, 1), B2, {WR = 1, DUP = 1, DROP = 1, INTERVAL = 1}, 150000, 0},
    {"back 2x1: the interval, a home change", B(2, 1), B2, {R = 1, INTERVAL = 1, HOME = 1}, 0, 0},
    {"back 2x1: an old question comes again", B(2, 1), "r0e0r1", {R = 1, WR = 2, DUP = 1}, 0, 0},
    {"back 2x1: old questions come again", B(2, 1), "r0e0r1e1", {R = 1, WR = 2, DUP = 2}, 0, 0},
    {"back 2x1: an eviction, leases end", B(2, 1), B2, {R = 2, LEASE = 1, EVICT = 1}, 0, 0},
    {"back 2x1: memory expires, leases end", B(2, 1), B2, {R = 1, LEASE = 1, EXPIRE = 1}, 0, 0},
    {"back 2x1: FLUSHALL", B(2, 1), B2, {R = 1, WR = 1, CLEAR = 1}, 0, 0},
    {"back 2x1: FLUSHALL, the interval", B(2, 1), B2, {R = 1, INTERVAL = 1, CLEAR = 1}, 0, 0},
    {"back 2x1: FLUSHALL, leases end", B(2, 1), B2, {WR = 1, LEASE = 1, CLEAR = 1}, 0, 0},
    {"back 3x1: a command beside lines", B(3, 1), B3, {R = 1, WR = 1, [STEP_JOINT] = 1}, 0, 0},
    {"back 2x2: writes and a read", B(2, 2), B2, {R = 1, WR = 2}, 0, 0},
    {"back 2x2: doubled", B(2, 2), B2, {R = 1, WR = 1, DUP = 1}, 0, 0},
    {"back 2x2: a crash", B(2, 2), B2, {R = 1, WR = 1, CRASH = 1}, 0, 0},
    {"back 2x2: a home change", B(2, 2), B2, {R = 1, WR = 1, HOME = 1}, 0, 0},
    {"back 2x2: a command over both keys", B(2, 2), B2, {R = 1, WR = 1, [STEP_JOINT] = 1}, 0, 0},
    {"back 2x2: a directory of one", BD(2, 2, 1), B2, {R = 2, WR = 1}, 0, 0},
    {"through 3x1: any two of doubled, lost, a crash, a home change", W(3, 1), W3, LOSSES, 30000, 2},
    {"through 2x2: any two of doubled, lost, a crash, a home change", W(2, 2), W2, LOSSES, 30000, 2},
    {"back 3x1: any two of doubled, lost, a crash, a home change", B(3, 1), B3, LOSSES, 30000, 2},
    {"back 2x2: any two of doubled, lost, a crash, a home change", B(2, 2), B2, LOSSES, 30000, 2},
    {"through 3x1: all faults", W(3, 1), W3, ALL_FAULTS, 30000, 0},
    {"through 2x2: all faults", W(2, 2), W2, ALL_FAULTS, 30000, 0},
    {"back 3x1: all faults", B(3, 1), B3, ALL_FAULTS, 30000, 0},
    {"back 2x2: all faults", B(2, 2), B2, ALL_FAULTS, 30000, 0},
};

static double seconds(clock_t since)
{
    return (double)(clock() - since) / CLOCKS_PER_SEC;
}

static bool one(const struct scenario *s, uint64_t budget, struct walk_result *sum)
{
    clock_t began = clock();
    struct walk_result r = walk(s, budget);
    printf("%-62s %10llu states %11llu steps %8llu drains %6.1f s  %s\n", s->name, (unsigned long long)r.states, (unsigned long long)r.steps,
           (unsigned long long)r.drains, seconds(began), r.failed ? "BROKEN" : r.closed ? "closed" : "budget");
    fflush(stdout);
    sum->states += r.states;
    sum->steps += r.steps;
    return r.failed;
}

/* Cells with a next state that nothing came to: each is named. */
static uint32_t unused_cells(void)
{
    uint32_t unused = 0, cells = 0;
    for (uint32_t i = 0; i < MESI_STATES * MESI_EVENTS; i++) {
        bool can = MESI_TABLE[i / MESI_EVENTS][i % MESI_EVENTS].next < CELL_UNREAD;
        cells += can;
        if (can && !cover_cacher[i / MESI_EVENTS][i % MESI_EVENTS]) {
            printf("no scenario comes to: a line in %s, %s\n", MESI_STATE_NAMES[i / MESI_EVENTS], MESI_EVENT_NAMES[i % MESI_EVENTS]);
            unused++;
        }
    }
    for (uint32_t i = 0; i < HOME_STATES * HOME_EVENTS; i++) {
        bool can = HOME_TABLE[i / HOME_EVENTS][i % HOME_EVENTS].next < CELL_UNREAD;
        cells += can;
        if (can && !cover_home[i / HOME_EVENTS][i % HOME_EVENTS]) {
            printf("no scenario comes to: a key in %s, %s\n", HOME_STATE_NAMES[i / HOME_EVENTS], HOME_EVENT_NAMES[i % HOME_EVENTS]);
            unused++;
        }
    }
    printf("%u of %u cells were used\n", cells - unused, cells);
    return unused;
}

int main(int argc, char **argv)
{
    uint64_t budget = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    uint32_t only = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
    struct walk_result sum = {0};
    clock_t began = clock();
    bool failed = false;
    for (uint32_t i = 0; i < sizeof all / sizeof *all && !failed; i++) {
        if (only == 0 || only == i + 1) {
            failed |= one(&all[i], argc > 1 ? budget : all[i].budget, &sum);
        }
    }
    printf("%llu states, %llu steps, %.0f s\n", (unsigned long long)sum.states, (unsigned long long)sum.steps, seconds(began));
    uint32_t unused = only == 0 ? unused_cells() : 0;
    return failed || (argc == 1 && unused > 0);
}
