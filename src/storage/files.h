/* The file operations that the store needs, as a table: io/files_posix.c does them on a real directory, storage/files_mem.c
 * in memory with the crash model of docs/disk.md (unsynced sectors are kept, dropped, torn or garbled; renames wait for the
 * directory's sync). All calls block; they run on the log thread, never on the loop.
 * Results are 0 or a count, or a negative errno. Paths are relative to the data directory, without slashes at the ends. */
#ifndef SYN_STORAGE_FILES_H
#define SYN_STORAGE_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct files {
    void *ctx;
    int (*open)(void *ctx, const char *path, bool create);             /* >= 0: a handle */
    void (*close)(void *ctx, int fd);
    ssize_t (*pread)(void *ctx, int fd, void *p, size_t n, uint64_t off);       /* may be short only at end of file */
    ssize_t (*pwrite)(void *ctx, int fd, const void *p, size_t n, uint64_t off); /* whole n, or an error */
    int (*sync)(void *ctx, int fd);                                    /* fdatasync */
    int (*uncache)(void *ctx, int fd);                                 /* after sync: reads come from the device from now on */
    int64_t (*size)(void *ctx, int fd);
    int (*truncate)(void *ctx, int fd, uint64_t size);
    int (*rename)(void *ctx, const char *from, const char *to);
    int (*unlink)(void *ctx, const char *path);
    int (*sync_dir)(void *ctx);
    /* Calls fn for each name in the directory, in ascending order. */
    int (*list)(void *ctx, void (*fn)(void *arg, const char *name), void *arg);
};

#endif
