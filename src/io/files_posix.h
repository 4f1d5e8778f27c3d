/* struct files on a real directory. Safe for several threads as long as each handle is used by one at a time. */
#ifndef SYN_IO_FILES_POSIX_H
#define SYN_IO_FILES_POSIX_H

#include "storage/files.h"
#include "storage/store.h"

/* Creates the directory (0700) when it is missing and takes the lock on its file LOCK. STORE_LOCKED when another process
 * has it, STORE_FAILED for anything else; then *error says what and what to do, and *out is untouched. */
enum store_status files_posix_open(const char *dir, struct files *out, struct buf *error);
/* Gives the lock back. Handles opened through f must be closed before. */
void files_posix_close(struct files *f);

#endif
