/* The command line of the simulator: which seeds, how long, on how many processes, and what to print (docs/simulator.md).
 *
 * Each process runs its share of the seeds and passes its totals through a pipe. A seed that fails is run again with a trace, and
 * printed with the line that replays it. An assertion of the node's own ends the process: the signal handler says which seed it was. */
#include "sim.h"

#include "utils/assert.h"
#include "utils/mutant.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SIM_COMMIT
#define SIM_COMMIT "unknown"
#endif

enum { JOBS_MAX = 16, TRACE_TAIL_BYTES = 6000, ENOUGH_SEEDS = 500, MARK_BYTES = 256 };

struct command {
    struct sim_options o;
    uint64_t from, to;
    double minutes;
    uint32_t jobs;
    bool json, twice, quiet, list_faults;
    const char *mutant;
    const char *replay;
};

struct totals {
    uint64_t seeds, failed, twice, first_failed;
    struct sim_result sum; /* its counters only */
};

/* What the handler of SIGABRT prints; the one process-wide variable here, because a signal handler has no other way. */
static char replay_line[MARK_BYTES];

static void on_abort(int signum)
{
    (void)signum;
    ssize_t n = write(STDERR_FILENO, replay_line, strlen(replay_line));
    (void)n;
}

static const char *const WORKS[] = {"", " --work locks", " --work queues", " --work both", " --work cache", " --work all"};

static void replay_text(const struct sim_options *o, const char *mutant, char *out, size_t size)
{
    snprintf(out, size, "replay: synaxis sim --seed %llu --nodes %u --groups %u --clients %u --seconds %u%s%s%s%s --trace   (commit %s)\n",
             (unsigned long long)o->seed, o->nodes, o->groups, o->clients, o->seconds, o->lite ? " --lite" : "", WORKS[o->work],
             mutant ? " --mutant " : "", mutant ? mutant : "", SIM_COMMIT);
}

static void print_usage(FILE *f)
{
    fputs("usage: synaxis sim [--seed N | --seeds A..B | --minutes M | --replay FILE] [--lite] [--work locks|queues|both|cache|all] [--nodes N] [--groups N]\n"
          "                   [--clients N] [--seconds S] [--jobs N] [--off fault,...] [--on fault,...] [--only fault,...]\n"
          "                   [--twice] [--canary sync-lie] [--mutant NAME] [--trace] [--verbose] [--quiet] [--summary json] [--list-faults]\n",
          f);
}

static int usage(const char *why)
{
    fprintf(stderr, "synaxis sim: %s\n", why);
    print_usage(stderr);
    return 2;
}

static bool fault_bits(const char *list, uint64_t *bits)
{
    char text[1024];
    snprintf(text, sizeof text, "%s", list);
    for (char *save = NULL, *w = strtok_r(text, ",", &save); w != NULL; w = strtok_r(NULL, ",", &save)) {
        bool known = strcmp(w, "all") == 0;
        *bits |= known ? ~(uint64_t)0 : 0;
        for (uint32_t f = 0; f < FAULT_COUNT; f++) {
            if (strcmp(w, fault_name((enum sim_fault)f)) == 0) {
                *bits |= (uint64_t)1 << f;
                known = true;
            }
        }
        if (!known) {
            return false;
        }
    }
    return true;
}

static bool take_flag(struct command *c, const char *a)
{
    bool *flags[] = {&c->o.lite, &c->o.trace, &c->o.verbose, &c->twice, &c->quiet, &c->list_faults};
    const char *names[] = {"--lite", "--trace", "--verbose", "--twice", "--quiet", "--list-faults"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(a, names[i]) == 0) {
            *flags[i] = true;
            return true;
        }
    }
    return false;
}

static const char *take_work(struct command *c, const char *v)
{
    static const char *const names[] = {[SIM_WORK_LOCKS] = "locks", [SIM_WORK_QUEUES] = "queues", [SIM_WORK_BOTH] = "both", [SIM_WORK_CACHE] = "cache",
                                        [SIM_WORK_ALL] = "all"};
    for (uint32_t w = SIM_WORK_LOCKS; w <= SIM_WORK_ALL; w++) {
        if (strcmp(v, names[w]) == 0) {
            c->o.work = w;
            return NULL;
        }
    }
    return "--work takes locks, queues, both, cache or all";
}

static const char *take_value(struct command *c, const char *a, const char *v)
{
    unsigned long long from, to;
    uint64_t bits = 0;
    if (strcmp(a, "--seed") == 0) {
        c->from = c->to = strtoull(v, NULL, 0);
    } else if (strcmp(a, "--seeds") == 0) {
        if (sscanf(v, "%llu..%llu", &from, &to) != 2 || to < from) {
            return "--seeds takes A..B";
        }
        c->from = from;
        c->to = to;
    } else if (strcmp(a, "--minutes") == 0) {
        c->minutes = strtod(v, NULL);
    } else if (strcmp(a, "--nodes") == 0) {
        c->o.nodes = (uint32_t)strtoul(v, NULL, 10);
        return c->o.nodes >= 1 && c->o.nodes <= 9 ? NULL : "--nodes takes 1 to 9";
    } else if (strcmp(a, "--groups") == 0) {
        c->o.groups = (uint32_t)strtoul(v, NULL, 10);
        return c->o.groups <= 16 ? NULL : "--groups takes up to 16";
    } else if (strcmp(a, "--clients") == 0) {
        c->o.clients = (uint32_t)strtoul(v, NULL, 10);
        return c->o.clients <= 32 ? NULL : "--clients takes up to 32";
    } else if (strcmp(a, "--work") == 0) {
        return take_work(c, v);
    } else if (strcmp(a, "--seconds") == 0) {
        c->o.seconds = (uint32_t)strtoul(v, NULL, 10);
    } else if (strcmp(a, "--jobs") == 0) {
        c->jobs = (uint32_t)strtoul(v, NULL, 10);
        return c->jobs >= 1 && c->jobs <= JOBS_MAX ? NULL : "--jobs takes 1 to 16";
    } else if (strcmp(a, "--off") == 0) {
        return fault_bits(v, &c->o.faults_off) ? NULL : "--off names no such fault";
    } else if (strcmp(a, "--on") == 0) {
        return fault_bits(v, &c->o.faults_on) ? NULL : "--on names no such fault";
    } else if (strcmp(a, "--only") == 0) {
        bool ok = fault_bits(v, &bits);
        c->o.faults_on |= bits;
        c->o.faults_off |= ~bits;
        return ok ? NULL : "--only names no such fault";
    } else if (strcmp(a, "--canary") == 0) {
        c->o.canary = strcmp(v, "sync-lie") == 0 ? CANARY_SYNC_LIE : CANARY_NONE;
        return c->o.canary != CANARY_NONE ? NULL : "--canary takes sync-lie";
    } else if (strcmp(a, "--mutant") == 0) {
        c->mutant = v;
    } else if (strcmp(a, "--replay") == 0) {
        c->replay = v;
    } else if (strcmp(a, "--summary") == 0) {
        c->json = strcmp(v, "json") == 0;
        return c->json ? NULL : "--summary takes json";
    } else {
        return "unknown option";
    }
    return NULL;
}

static const char *parse(struct command *c, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (take_flag(c, argv[i])) {
            continue;
        }
        if (i + 1 >= argc) {
            return "unknown option, or one without its value";
        }
        const char *why = take_value(c, argv[i], argv[i + 1]);
        if (why != NULL) {
            return why;
        }
        i++;
    }
    return NULL;
}

static void add_counters(struct sim_result *sum, const struct sim_result *r)
{
    for (uint32_t f = 0; f < FAULT_COUNT; f++) {
        sum->fired[f] += r->fired[f];
    }
    const uint64_t *from = &r->events;
    uint64_t *to = &sum->events;
    for (size_t i = 0; i < (size_t)(&r->answers_uncertain - &r->events) + 1; i++) {
        to[i] += from[i];
    }
}

static void report_failure(const struct command *c, const struct sim_options *o, const struct sim_result *r)
{
    struct sim_options again = *o;
    struct sim_result t;
    again.trace = true;
    sim_run(&again, &t);
    size_t skip = t.trace.len > TRACE_TAIL_BYTES && !o->trace ? t.trace.len - TRACE_TAIL_BYTES : 0;
    printf("SEED %llu FAILED: %s\n", (unsigned long long)o->seed, r->reason);
    if (!c->quiet && !o->verbose) {
        fwrite(t.trace.ptr + skip, 1, t.trace.len - skip, stdout);
    }
    if (t.trace_hash != r->trace_hash) {
        printf("NOT DETERMINISTIC: the second run has another trace\n");
    }
    fputs(replay_line, stdout);
    fflush(stdout);
    buf_fini(&t.trace);
}

static void run_seed(const struct command *c, uint64_t seed, struct totals *t)
{
    struct sim_options o = c->o;
    struct sim_result r;
    o.seed = seed;
    replay_text(&o, c->mutant, replay_line, sizeof replay_line);
    sim_run(&o, &r);
    t->seeds++;
    add_counters(&t->sum, &r);
    if (!r.failed && (c->twice || seed % 100 == 37)) { /* one in a hundred is run twice: the same seed is the same run (A19) */
        struct sim_result again;
        sim_run(&o, &again);
        t->twice++;
        if (again.trace_hash != r.trace_hash) {
            r.failed = true;
            snprintf(r.reason, sizeof r.reason, "determinism: two runs of one seed differ");
        }
        buf_fini(&again.trace);
    }
    if (r.failed) {
        t->first_failed = t->failed++ == 0 ? seed : t->first_failed;
        report_failure(c, &o, &r);
    }
    buf_fini(&r.trace);
}

static double seconds_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* The seeds of one process: every jobs-th. */
static void run_share(const struct command *c, uint32_t job, struct totals *t)
{
    double end = seconds_now() + c->minutes * 60;
    for (uint64_t seed = c->from + job; c->minutes > 0 ? seconds_now() < end : seed <= c->to; seed += c->jobs) {
        run_seed(c, seed, t);
        if (t->failed > 0 && (c->mutant != NULL || c->o.canary != CANARY_NONE || t->failed >= 10)) {
            return;
        }
    }
}

static void run_file(const struct command *c, struct totals *t)
{
    FILE *f = fopen(c->replay, "r");
    char line[512];
    if (f == NULL) {
        fprintf(stderr, "synaxis sim: cannot read %s\n", c->replay);
        t->failed++;
        return;
    }
    while (fgets(line, sizeof line, f) != NULL) { /* "SEED [options]", # begins a comment */
        char *argv[32], *save = NULL;
        int argc = 0;
        argv[argc++] = line;
        char *seed = strtok_r(line, " \t\n", &save);
        if (seed == NULL || seed[0] == '#') {
            continue;
        }
        for (char *w; argc < 31 && (w = strtok_r(NULL, " \t\n", &save)) != NULL && w[0] != '#';) {
            argv[argc++] = w;
        }
        struct command one = *c;
        if (parse(&one, argc, argv) != NULL) {
            fprintf(stderr, "synaxis sim: %s: bad options at seed %s\n", c->replay, seed);
            t->failed++;
            continue;
        }
        run_seed(&one, strtoull(seed, NULL, 0), t);
    }
    fclose(f);
}

static void add_totals(struct totals *sum, const struct totals *t)
{
    sum->first_failed = sum->failed == 0 && t->failed > 0 ? t->first_failed : sum->first_failed;
    sum->seeds += t->seeds;
    sum->failed += t->failed;
    sum->twice += t->twice;
    add_counters(&sum->sum, &t->sum);
}

/* More than one process: totals come back through pipes; one that died counts as a failure. */
static bool run_jobs(const struct command *c, struct totals *sum)
{
    int fds[JOBS_MAX][2];
    pid_t pids[JOBS_MAX];
    bool good = true;
    fflush(NULL);
    for (uint32_t i = 0; i < c->jobs; i++) {
        if (pipe(fds[i]) != 0 || (pids[i] = fork()) < 0) {
            perror("synaxis sim");
            return false;
        }
        if (pids[i] == 0) {
            struct totals t = {0};
            run_share(c, i, &t);
            fflush(NULL);
            _exit(write(fds[i][1], &t, sizeof t) == sizeof t ? 0 : 1);
        }
        close(fds[i][1]);
    }
    for (uint32_t i = 0; i < c->jobs; i++) {
        struct totals t;
        int status = 0;
        bool got = read(fds[i][0], &t, sizeof t) == sizeof t;
        waitpid(pids[i], &status, 0);
        close(fds[i][0]);
        if (got && status == 0) {
            add_totals(sum, &t);
        } else {
            good = false;
        }
    }
    return good;
}

/* A kind that never fired in a long run is a hole in the test, not good luck. */
static uint32_t silent_faults(const struct command *c, const struct totals *t, bool print)
{
    uint32_t n = 0;
    for (uint32_t f = 0; f < FAULT_COUNT; f++) {
        bool off = c->o.faults_off >> f & 1;
        if (!off && t->sum.fired[f] == 0) {
            n++;
            if (print) {
                printf("never fired: %s\n", fault_name((enum sim_fault)f));
            }
        }
    }
    return n;
}

static void print_text(const struct command *c, const struct totals *t, double took)
{
    const struct sim_result *s = &t->sum;
    double hours = (double)s->virtual_ms / 3.6e6;
    printf("%llu seeds, %llu failed, %llu run twice; %.2f simulated hours in %.1f s (%.0f seeds/min, %.0f x real time)\n",
           (unsigned long long)t->seeds, (unsigned long long)t->failed, (unsigned long long)t->twice, hours, took,
           (double)t->seeds / took * 60, hours * 3600 / took);
    printf("events %llu, steps %llu, frames %llu, entries %llu, requests %llu (ok %llu, refused %llu, uncertain %llu), grants %llu\n",
           (unsigned long long)s->events, (unsigned long long)s->steps, (unsigned long long)s->frames, (unsigned long long)s->entries,
           (unsigned long long)s->ops, (unsigned long long)s->answers_ok, (unsigned long long)s->answers_error,
           (unsigned long long)s->answers_uncertain, (unsigned long long)s->grants);
    printf("starts %llu, elections %llu, snapshots %llu, installs %llu; history operations %llu, unknown verdicts %llu\n",
           (unsigned long long)s->restarts, (unsigned long long)s->elections, (unsigned long long)s->snapshots,
           (unsigned long long)s->installs, (unsigned long long)s->checked_ops, (unsigned long long)s->unknown);
    printf("published %llu, delivered %llu, of which again %llu, acknowledged %llu, dead %llu, damaged %llu\n", (unsigned long long)s->publishes,
           (unsigned long long)s->deliveries, (unsigned long long)s->redelivered, (unsigned long long)s->acks, (unsigned long long)s->dead,
           (unsigned long long)s->holes);
    printf("dirty lines of the cache that were given up %llu, at a stop %llu; histories of keys undecided %llu\n", (unsigned long long)s->lost_lines,
           (unsigned long long)s->lost_at_stop, (unsigned long long)s->undecided);
    printf("faults:");
    for (uint32_t f = 0; f < FAULT_COUNT; f++) {
        printf(" %s %llu", fault_name((enum sim_fault)f), (unsigned long long)s->fired[f]);
    }
    printf("\n");
    if (t->seeds >= ENOUGH_SEEDS) {
        silent_faults(c, t, true);
    }
}

static void print_json(const struct totals *t, double took)
{
    const struct sim_result *s = &t->sum;
    printf("{\"commit\":\"%s\",\"seeds\":%llu,\"failed\":%llu,\"seconds\":%.1f,\"virtual_ms\":%llu,\"events\":%llu,\"steps\":%llu,"
           "\"entries\":%llu,\"requests\":%llu,\"grants\":%llu,\"unknown\":%llu,\"faults\":{",
           SIM_COMMIT, (unsigned long long)t->seeds, (unsigned long long)t->failed, took, (unsigned long long)s->virtual_ms,
           (unsigned long long)s->events, (unsigned long long)s->steps, (unsigned long long)s->entries, (unsigned long long)s->ops,
           (unsigned long long)s->grants, (unsigned long long)s->unknown);
    for (uint32_t f = 0; f < FAULT_COUNT; f++) {
        printf("%s\"%s\":%llu", f ? "," : "", fault_name((enum sim_fault)f), (unsigned long long)s->fired[f]);
    }
    printf("}}\n");
}

static bool select_mutant(const char *name)
{
#ifdef SYN_MUTANTS
    mutant_select(name);
    return true;
#else
    (void)name;
    return false;
#endif
}

static int list_faults(void)
{
    for (uint32_t f = 0; f < FAULT_COUNT; f++) {
        printf("%-18s %s\n", fault_name((enum sim_fault)f), fault_what((enum sim_fault)f));
    }
    return 0;
}

int sim_main(int argc, char **argv)
{
    struct command c = {.from = 1, .to = 100, .jobs = 1};
    struct totals t = {0};
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        print_usage(stdout);
        return 0;
    }
    const char *why = parse(&c, argc, argv);
    if (why != NULL) {
        return usage(why);
    }
    if (c.list_faults) {
        return list_faults();
    }
    if (c.mutant != NULL && !select_mutant(c.mutant)) {
        return usage("--mutant needs a build with -Dmutants=true");
    }
    signal(SIGABRT, on_abort);
    double began = seconds_now();
    bool good = true;
    if (c.replay != NULL) {
        run_file(&c, &t);
    } else if (c.jobs > 1) {
        good = run_jobs(&c, &t);
    } else {
        run_share(&c, 0, &t);
    }
    double took = seconds_now() - began;
    if (c.json) {
        print_json(&t, took);
    } else {
        print_text(&c, &t, took);
    }
    bool silent = t.seeds >= ENOUGH_SEEDS && c.o.faults_on == 0 && silent_faults(&c, &t, false) > 0;
    return good && t.failed == 0 && t.sum.unknown == 0 && !silent ? 0 : 1;
}
