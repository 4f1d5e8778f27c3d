/* struct files in memory, with the crash model of docs/disk.md: what was not synced may be kept, dropped, torn or garbled,
 * sector by sector; names wait for the directory's sync. And every fault a disk has. One thread only.
 *
 * Pages are sparse and shared between clones (copy on write), so a zero-filled segment costs almost nothing and a clone
 * of a whole directory can be made at every operation. */
#ifndef SYN_STORAGE_FILES_MEM_H
#define SYN_STORAGE_FILES_MEM_H

#include "storage/files.h"
#include "utils/prng.h"

enum { FILES_MEM_SECTOR = 512 };

enum files_mem_op {
    FILES_MEM_OPEN, FILES_MEM_PREAD, FILES_MEM_PWRITE, FILES_MEM_SYNC, FILES_MEM_TRUNCATE, FILES_MEM_RENAME,
    FILES_MEM_UNLINK, FILES_MEM_SYNC_DIR, FILES_MEM_LIST, FILES_MEM_OPS
};

struct files_mem;

struct files_mem *files_mem_new(void);
void files_mem_free(struct files_mem *m);
struct files files_mem_table(struct files_mem *m); /* valid as long as m */
/* The same files, durable and not, without handles, hooks and faults. */
struct files_mem *files_mem_clone(const struct files_mem *m);

/* The power fails: each unsynced sector is {kept, dropped, garbled, torn}, each pending name change kept or dropped.
 * Handles become invalid (using one answers -EBADF; closing one is harmless). Faults are switched off. */
void files_mem_crash(struct files_mem *m, struct prng *g);
/* The process dies, the machine does not: handles become invalid, unsynced bytes stay as they are, still unsynced. */
void files_mem_kill(struct files_mem *m);
/* Every named file is in its durable state exactly what it is now: nothing is left to lose. */
bool files_mem_all_durable(const struct files_mem *m);

/* The nth operation from now of this kind (FILES_MEM_OPS: of any kind but list and close) answers -err, once. n 0: off.
 * A failed sync drops what it should have written and marks it clean: a second one succeeds without it (S28).
 * A failed write of more than a sector leaves its first half behind, at a file's end too. */
void files_mem_fail(struct files_mem *m, enum files_mem_op op, uint64_t nth, int err);
/* -ENOSPC once the files' sizes together would pass bytes; half of what was to be written stays, if that fits. 0: no limit. */
void files_mem_quota(struct files_mem *m, uint64_t bytes);
/* Called before each operation; it may clone m. */
void files_mem_on_op(struct files_mem *m, void (*fn)(void *arg, enum files_mem_op op, const char *path), void *arg);
uint64_t files_mem_ops(const struct files_mem *m, enum files_mem_op op); /* so far; FILES_MEM_OPS: of every kind */

/* Rot: flips one bit of a synced byte (now and durable). False when there is no such file or byte. */
bool files_mem_flip(struct files_mem *m, const char *path, uint64_t byte, unsigned bit);
/* The files' names in ascending order; NULL beyond the last. */
const char *files_mem_name(const struct files_mem *m, size_t i);
int64_t files_mem_size(const struct files_mem *m, const char *path); /* -ENOENT */

#endif
