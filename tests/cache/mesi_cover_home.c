/* See mesi_cover.h. */
#include "mesi_cover.h"

uint8_t cover_home[HOME_STATES][HOME_EVENTS];

static int cover(const struct home_cell *cell)
{
    (&cover_home[0][0])[cell - &HOME_TABLE[0][0]] = 1;
    return CELL_UNREAD;
}

#define CELL_UNREAD cover(cell)
#include "nodes/cache/home.c" // NOLINT
