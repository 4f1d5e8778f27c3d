/* Runs a range of random seeds: test_raft_random [FIRST [COUNT]]. A failing seed prints itself and aborts; give it as
 * FIRST with COUNT 1 to see it alone. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "random_run.h"

static volatile unsigned long long current;

static void on_abort(int sig)
{
    char line[64];
    int n = snprintf(line, sizeof line, "failing seed: %llu\n", current);
    if (write(STDERR_FILENO, line, (size_t)n) < 0) {
        _exit(3);
    }
    signal(sig, SIG_DFL);
}

int main(int argc, char **argv)
{
    unsigned long long first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    unsigned long long count = argc > 2 ? strtoull(argv[2], NULL, 10) : 300;
    struct random_totals t = {0};
    signal(SIGABRT, on_abort);
    for (unsigned long long i = 0; i < count; i++) {
        current = first + i;
        random_run(current, &t);
    }
    printf("%llu seeds, %.1f virtual hours, %llu entries applied, %llu reads, %llu leaders, %llu crashes, %llu snapshots sent, "
           "%llu changes of members\n", count, (double)t.virtual_ms / 3600000.0, (unsigned long long)t.applied,
           (unsigned long long)t.reads, (unsigned long long)t.leader_changes, (unsigned long long)t.crashes,
           (unsigned long long)t.snapshots, (unsigned long long)t.configs);
    return 0;
}
