/* Which cells of the two tables were used. The sources that read the tables are compiled into this test once more (mesi_cover_cacher.c, mesi_cover_home.c,
 * mesi_cover_lines.c): each looks at every cell that it is about to follow, to see that it is not NEVER or UNREAD, and that is where it is noted. */
#ifndef SYN_TESTS_MESI_COVER_H
#define SYN_TESTS_MESI_COVER_H

#include "nodes/cache/mesi.h"

extern uint8_t cover_cacher[MESI_STATES][MESI_EVENTS], cover_home[HOME_STATES][HOME_EVENTS];

#endif
