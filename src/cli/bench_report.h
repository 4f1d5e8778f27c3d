/* What a benchmark found, for people and for programs. */
#ifndef SYN_CLI_BENCH_REPORT_H
#define SYN_CLI_BENCH_REPORT_H

#include "cli/bench_load.h"

void bench_print_text(FILE *f, const struct bench_plan *plan, const struct bench_result *r);
void bench_print_json(FILE *f, const struct bench_plan *plan, const struct bench_result *r);

#endif
