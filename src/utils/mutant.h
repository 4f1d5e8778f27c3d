/* Planted faults. MUTANT("S23") is constant false in every ordinary build; with -Dmutants=true it is true for the one
 * fault that is selected, so that a run of the tests can show that they would catch it. The names are those of the
 * scenarios they undo. */
#ifndef SYN_UTILS_MUTANT_H
#define SYN_UTILS_MUTANT_H

#ifdef SYN_MUTANTS
#include <stdbool.h>

/* True when `name` is the selected fault: the last mutant_select, else the environment variable SYN_MUTANT. */
bool mutant_active(const char *name);
/* Selects one fault; NULL or "" selects none. `name` is borrowed for the life of the process. */
void mutant_select(const char *name);
#define MUTANT(name) mutant_active(name)
#else
#define MUTANT(name) 0
#endif

#endif
