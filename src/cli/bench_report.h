/* What a benchmark found, for people and for programs. */
#ifndef SYN_CLI_BENCH_REPORT_H
#define SYN_CLI_BENCH_REPORT_H

#include "cli/bench_load.h"

void bench_print_text(FILE *f, const struct bench_plan *plan, const struct bench_result *r);
void bench_print_json(FILE *f, const struct bench_plan *plan, const struct bench_result *r);

/* Pieces that other reports use: what was refused, left out, or cut short by a kill; one line of percentiles; "NAME_us":{...}, and "errors":{...}, with the comma. */
void bench_print_text_tally(FILE *f, const struct bench_tally *t, const char *things, const char *answer);
void bench_print_text_line(FILE *f, const char *name, const struct hist *h);
void bench_print_json_hist(FILE *f, const char *name, const struct hist *h);
void bench_print_json_errors(FILE *f, const struct bench_errors *e);

#endif
