/* Shows that the tests would catch each planted fault: test_raft_mutants FOLDER [--mutant NAME]. For every fault a child
 * process runs the transcripts and random seeds with that fault selected; it must fail, and without a fault it must not.
 * Needs a build with -Dmutants=true. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "random_run.h"
#include "transcript.h"
#include "utils/mutant.h"

enum { SEEDS_PER_MUTANT = 40 };

static const struct {
    const char *name;
    const char *what;
} mutants[] = {
    {"S1", "a read counts acknowledgements of an earlier round"},
    {"S2", "a fresh leader answers reads before its no-op is committed"},
    {"S3", "a leader counts itself before its own write is durable"},
    {"S5", "learners are counted for votes and commit"},
    {"S7", "no PreVote and no stickiness"},
    {"S8", "granting a pre-vote counts as hearing from a leader"},
    {"S9", "a transfer that timed out is never given up"},
    {"S10", "members are changed before the term has committed, or twice at once"},
    {"S11", "cutting a configuration entry leaves it in force"},
    {"S13", "entries of older terms are committed by counting"},
    {"S14", "a follower commits past what the message verified"},
    {"S15", "a snapshot is acknowledged before it is durable"},
    {"S17", "an old write speaks for entries that replaced its own"},
    {"S19", "a voter refuses the candidate it voted for when asked again"},
    {"R6a", "an append is acknowledged before it is durable"},
    {"R6b", "a vote is answered before it is durable"},
    {"R7", "the vote is not written"},
    {"R8", "the commit index falls"},
};

static void run_all(const char *folder)
{
    if (transcript_folder(folder, false) != 0) {
        _exit(1);
    }
    struct random_totals t = {0};
    for (uint64_t seed = 1; seed <= SEEDS_PER_MUTANT; seed++) {
        random_run(seed, &t);
    }
    _exit(0);
}

/* The transcripts catch most; the random runs are asked alone too, since they see what no script thought of. */
static bool survives(const char *name, const char *folder, bool random_only)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        dup2(null, STDOUT_FILENO);
#ifdef SYN_MUTANTS
        mutant_select(name);
#else
        (void)name;
#endif
        if (!random_only) {
            run_all(folder);
        }
        struct random_totals t = {0};
        for (uint64_t seed = 1; seed <= SEEDS_PER_MUTANT; seed++) {
            random_run(seed, &t);
        }
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
    const char *only = argc > 3 && strcmp(argv[2], "--mutant") == 0 ? argv[3] : NULL;
    if (argc < 2) {
        fprintf(stderr, "usage: test_raft_mutants FOLDER [--mutant NAME]\n");
        return 2;
    }
    if (!survives("", argv[1], false)) {
        fprintf(stderr, "the tests fail without any fault\n");
        return 1;
    }
    int alive = 0, by_random = 0, n = 0;
    for (size_t i = 0; i < sizeof mutants / sizeof mutants[0]; i++) {
        if (only != NULL && strcmp(only, mutants[i].name) != 0) {
            continue;
        }
        bool random = !survives(mutants[i].name, argv[1], true);
        bool killed = random || !survives(mutants[i].name, argv[1], false);
        printf("%-4s %-8s %-12s %s\n", mutants[i].name, killed ? "killed" : "SURVIVED", random ? "random" : "transcript",
               mutants[i].what);
        n++;
        alive += !killed;
        by_random += random;
    }
    printf("%d mutants, %d killed (%d by random runs alone), %d survived\n", n, n - alive, by_random, alive);
    return n > 0 && alive == 0 ? 0 : 1;
}
