/* One random run of a cluster: faults for a while, then peace, in which it must converge (R16). Aborts when it does not. */
#ifndef TESTS_CONSENSUS_RANDOM_RUN_H
#define TESTS_CONSENSUS_RANDOM_RUN_H

#include <stdint.h>

struct random_totals {
    uint64_t virtual_ms, applied, reads, leader_changes, crashes, snapshots, configs;
};

void random_run(uint64_t seed, struct random_totals *totals);

#endif
