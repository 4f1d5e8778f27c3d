/* The loop that all loads share: connect, fill, warm up, measure, drain, with a progress bar. A load is what its lanes send and what answers mean.
 *
 * A lane is one client with at most one command under way. It is in exactly one place: in flight, asleep after a refusal, idle, or where its load keeps it.
 * Closed loop (rate 0): a lane begins again at once; this finds the saturation. Open loop: commands begin at start + i/rate whether or not earlier ones are done,
 * and latency counts from that scheduled time, so that a stall is not hidden by the load waiting for it (coordinated omission). */
#ifndef SYN_CLI_BENCH_LOOP_H
#define SYN_CLI_BENCH_LOOP_H

#include "cli/bench_net.h"
#include "cli/bench_plan.h"

enum { BENCH_BAR_US = 200000 }; /* between two looks of the bar */

enum bench_phase { BENCH_FILLING, BENCH_WARMING, BENCH_MEASURING, BENCH_DRAINING, BENCH_DONE };

/* What a load answers the loop. */
struct bench_load {
    struct bench_conn *(*conn_of)(void *load, uint32_t lane);
    void (*begin)(void *load, uint32_t lane, uint64_t due_us, uint64_t now);    /* open loop: an idle lane whose connection is up begins what is due */
    void (*woken)(void *load, uint32_t lane, uint64_t now);                     /* its nap is over and its connection up */
    bool (*take)(void *load, struct bench_conn *c, slice_t in, size_t *used, uint64_t now, bool *more); /* as in bench_net.h */
    void (*lost)(void *load, uint32_t lane, uint64_t now);
    void (*fill)(void *load, uint64_t now);       /* each turn of FILLING: goes on to another phase when it is over */
    bool (*measured)(void *load, uint64_t now);   /* is there nothing more to measure? NULL: when the time is over */
    bool (*drained)(const void *load);            /* has all come that is to come? NULL: when nothing is in flight */
    void (*show)(void *load, uint64_t now);       /* writes the bar */
};

struct bench_loop {
    const struct bench_load *is;
    void *load;
    const struct bench_run *run;
    struct bench_tally *tally;
    uint32_t batch;              /* what counts against the rate in one command */
    struct bench_net net;
    uint32_t n_lanes, in_flight; /* in_flight: as the load counts it */
    struct bench_ring asleep, idle;
    uint64_t *wake_us;           /* per lane, while asleep; all sleep equally long, so the ring is in order */
    enum bench_phase phase;
    uint64_t start_us, measure_from_us, end_us, scheduled, bar_us;
};

/* Opens the connections and makes room for lanes; `is`, load, run, tally and batch are set, the rest is zero. False with a sentence in why; bench_loop_close either
 * way, which completes the tally. */
bool bench_loop_open(struct bench_loop *l, uint32_t conns, uint32_t lanes, uint32_t flight_max, char *why, size_t why_size);
void bench_loop_close(struct bench_loop *l);
/* From bench_loop_clock, or from FILLING, until all is drained. */
void bench_loop_run(struct bench_loop *l);
void bench_loop_clock(struct bench_loop *l, uint64_t now);    /* warm-up begins */
void bench_loop_measure(struct bench_loop *l);                /* measuring begins */

/* The clock runs: commands begin. */
static inline bool bench_loop_begins(const struct bench_loop *l) { return l->phase == BENCH_WARMING || l->phase == BENCH_MEASURING; }
void bench_loop_sleep(struct bench_loop *l, uint32_t lane, uint64_t now);
/* Counts the word while measuring; the lane sleeps. */
void bench_loop_refused(struct bench_loop *l, uint32_t lane, slice_t word, uint64_t now);
/* A command that was sent then was answered: the first that was sent a millisecond or more after a kill ends the failover. */
void bench_loop_answered(struct bench_loop *l, uint64_t sent_us, uint64_t now);

#endif
