/* Log lines: formatting, escaping, levels, and a limit for lines that others can provoke. Pure: the time comes in, the line
 * goes to a sink that the owner provides. */
#ifndef SYN_UTILS_LOG_H
#define SYN_UTILS_LOG_H

#include "utils/buf.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Where lines go. `line` ends in a newline and is valid for the call. */
struct log_sink {
    void *arg;
    void (*write)(void *arg, enum log_level level, slice_t line);
};

struct logger {
    enum log_level level;   /* lines below it are dropped */
    enum log_format format;
    char node[64];          /* name shown in every line; empty: none */
    struct log_sink sink;
    struct buf line;        /* scratch */
};

void logger_init(struct logger *l, enum log_level level, enum log_format format, const char *node, struct log_sink sink);
void logger_fini(struct logger *l);
/* wall_ms: Unix time in milliseconds. text: any bytes; what could forge or colour a line is escaped. */
void logger_write(struct logger *l, uint64_t wall_ms, enum log_level level, slice_t text);

const char *log_level_name(enum log_level level); /* "debug", "info", "warn", "error" */

/* Appends one line with its newline:
 *   text  2026-01-31T23:59:59.123Z warn  n1 peer n2 is gone
 *   JSON  {"ts":"2026-01-31T23:59:59.123Z","level":"warn","node":"n1","msg":"peer n2 is gone"}
 * At most LIMIT_LOG_LINE_BYTES of text, then "..." in its place. */
void log_line(struct buf *out, enum log_format format, uint64_t wall_ms, enum log_level level, const char *node, slice_t text);
/* Appends s with control characters, DEL, C1 controls, backslashes and bytes that are not UTF-8 as \xNN (backslash: \\). */
void log_escape_text(struct buf *out, slice_t s);
/* Appends s as the inside of a JSON string (RFC 8259); bytes that are not UTF-8 as U+FFFD. */
void log_escape_json(struct buf *out, slice_t s);
/* Appends the UTC time of wall_ms as 2026-01-31T23:59:59.123Z. */
void log_time(struct buf *out, uint64_t wall_ms);

/* Lets LIMIT_LOG_LINES_PER_SECOND lines of one source pass in each second of now_ms. */
struct log_limit {
    uint64_t window_ms; /* the second in which `lines` passed */
    uint32_t lines;
    uint64_t held_back; /* since the last line that passed */
};
/* True: write the line, and mention *held_back earlier ones when not 0. A zeroed struct is a fresh limit. */
bool log_limit_pass(struct log_limit *l, uint64_t now_ms, uint64_t *held_back);

#endif
