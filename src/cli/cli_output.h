/* Replies as people read them: columns, listings, and never a raw control character on a terminal. */
#ifndef SYN_CLI_CLI_OUTPUT_H
#define SYN_CLI_CLI_OUTPUT_H

#include "cli/cli_args.h"
#include "utils/buf.h"

enum { TABLE_COLUMNS_MAX = 24 };

/* Rows of equal width in one buffer; cells in reading order, the first row being the titles. */
struct table {
    struct buf bytes;
    uint32_t *ends; /* of each cell in bytes */
    uint32_t cells, cap, columns;
};
void table_init(struct table *t, uint32_t columns);
void table_fini(struct table *t);
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_cell_text(struct table *t, slice_t text);
void table_print(const struct cli *c, const struct table *t);

/* Writes text with control characters, DEL and backslashes as \xNN. */
void output_text(FILE *f, slice_t text);

/* The reply as one line of JSON; lock ids, tokens and sessions are strings, as over HTTP. */
void output_json(FILE *f, slice_t reply);
extern const char *const OUTPUT_ID_KEYS[];

/* An array of maps as a table whose titles are the keys of the first; a map as 'key value' lines, inner arrays of maps as tables
 * below; text as it is. */
void output_reply(const struct cli *c, slice_t reply);

#endif
