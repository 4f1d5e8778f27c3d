/* What a load generator measures beside its own times: processor time, and what was refused. */
#ifndef SYN_CLI_BENCH_METERS_H
#define SYN_CLI_BENCH_METERS_H

#include "utils/slice.h"

enum { BENCH_ERRORS_MAX = 16, BENCH_PIDS_MAX = 16 };

struct bench_meters {
    uint64_t elapsed_us, client_cpu_us, server_cpu_us[BENCH_PIDS_MAX];
};
/* Meters start at 0 by subtracting what they show (end false), and end by adding it. */
void bench_meters_read(struct bench_meters *m, const int *pids, uint32_t n_pids, bool end);
/* Processor time of all servers. */
uint64_t bench_meters_servers_us(const struct bench_meters *m, uint32_t n_pids);

struct bench_error {
    char word[24];
    uint64_t count;
};
struct bench_errors {
    struct bench_error v[BENCH_ERRORS_MAX];
    uint32_t n;
};
/* Counts a word; when there are too many different ones, with the last. */
void bench_errors_count(struct bench_errors *e, slice_t word);

#endif
