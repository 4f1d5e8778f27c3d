/* What a benchmark of a queue found, for people and for programs. */
#ifndef SYN_CLI_BENCH_QUEUE_REPORT_H
#define SYN_CLI_BENCH_QUEUE_REPORT_H

#include "cli/bench_queue_load.h"

void bench_queue_print_text(FILE *f, const struct queue_plan *plan, const struct queue_result *r);
void bench_queue_print_json(FILE *f, const struct queue_plan *plan, const struct queue_result *r);

#endif
