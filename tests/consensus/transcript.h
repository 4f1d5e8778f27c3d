/* Scripted clusters in virtual time: a file holds commands at the left margin and, indented, all that happened. */
#ifndef TESTS_CONSENSUS_TRANSCRIPT_H
#define TESTS_CONSENSUS_TRANSCRIPT_H

#include "utils/buf.h"

/* Runs the commands of `text` (indented lines are skipped) and appends the whole transcript to out: each command, each
 * comment and blank line as it was, and after each command its trace. Unknown commands abort. */
void transcript_run(slice_t text, struct buf *out);

/* Runs every *.txt of the folder in the order of their names; rewrite replaces those that differ. Returns how many
 * differed, or -1 when there are none. */
int transcript_folder(const char *folder, bool rewrite);

#endif
