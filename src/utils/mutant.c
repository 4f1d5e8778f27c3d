/* Which planted fault is on. Responsible for the one process-wide variable of the tree, which exists in builds with
 * -Dmutants=true only; an ordinary build compiles this file to nothing. Not responsible for the faults themselves: they
 * stand where the code they undo stands, behind MUTANT(name). The environment is read here and not by the caller so that
 * every test program can be run with a fault without knowing of it. */
#include "utils/mutant.h"

#ifdef SYN_MUTANTS
#include <stdlib.h>
#include <string.h>

static const char *selected;

void mutant_select(const char *name)
{
    selected = name != NULL ? name : "";
}

bool mutant_active(const char *name)
{
    if (selected == NULL) {
        mutant_select(getenv("SYN_MUTANT"));
    }
    return strcmp(selected, name) == 0;
}
#else
typedef int mutant_none; /* ISO C forbids an empty translation unit */
#endif
