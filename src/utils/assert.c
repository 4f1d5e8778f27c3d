/* The one place where a broken invariant ends the process. */
#include "utils/assert.h"

#include <stdio.h>
#include <stdlib.h>

void syn_assert_failed(const char *file, int line, const char *expr)
{
    fprintf(stderr, "%s:%d: invariant broken: %s\n", file, line, expr);
    abort();
}
