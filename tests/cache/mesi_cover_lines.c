/* See mesi_cover.h. */
#include "mesi_cover.h"

static int cover(const struct mesi_cell *cell)
{
    (&cover_cacher[0][0])[cell - &MESI_TABLE[0][0]] = 1;
    return CELL_UNREAD;
}

#define CELL_UNREAD cover(cell)
#include "nodes/cache/cacher_lines.c" // NOLINT
