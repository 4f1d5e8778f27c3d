/* What a benchmark of the cache found, for people and for programs. */
#ifndef SYN_CLI_BENCH_CACHE_REPORT_H
#define SYN_CLI_BENCH_CACHE_REPORT_H

#include "cli/bench_cache_load.h"

void bench_cache_print_text(FILE *f, const struct cache_plan *plan, const struct cache_result *r);
void bench_cache_print_json(FILE *f, const struct cache_plan *plan, const struct cache_result *r);

#endif
