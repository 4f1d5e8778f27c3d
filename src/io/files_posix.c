/* The store's files on a real directory (docs/disk.md, "Files"; D8, D9, D14).
 *
 * Responsible for whole reads and writes (short ones and EINTR go on), and for the lock that keeps two processes apart.
 * Not for deciding what an error means: that is the store's.
 * Everything is relative to one directory handle, so that moving the directory away under a running process does not
 * make it write somewhere else. */
#include "io/files_posix.h"

#include "utils/assert.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct files_posix {
    int dir;
    int lock;
};

static int posix_open(void *ctx, const char *path, bool create)
{
    const struct files_posix *p = ctx;
    int fd;
    do {
        fd = openat(p->dir, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

static void posix_close(void *ctx, int fd)
{
    (void)ctx;
    close(fd);
}

static ssize_t posix_pread(void *ctx, int fd, void *p, size_t n, uint64_t off)
{
    (void)ctx;
    size_t done = 0;
    while (done < n) {
        ssize_t r = pread(fd, (char *)p + done, n - done, (off_t)(off + done));
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0) {
            return -errno;
        }
        if (r == 0) {
            break;
        }
        done += (size_t)r;
    }
    return (ssize_t)done;
}

static ssize_t posix_pwrite(void *ctx, int fd, const void *p, size_t n, uint64_t off)
{
    (void)ctx;
    size_t done = 0;
    while (done < n) {
        ssize_t r = pwrite(fd, (const char *)p + done, n - done, (off_t)(off + done));
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r <= 0) {
            return r < 0 ? -errno : -EIO;
        }
        done += (size_t)r;
    }
    return (ssize_t)n;
}

/* An interrupted fdatasync is repeated; any other failure is final and must not be (W5). */
static int posix_sync(void *ctx, int fd)
{
    (void)ctx;
    int r;
    do {
        r = fdatasync(fd);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

/* Clean pages go; the kernel does it at once for pages that nobody maps or locks. A file system without a page cache has none to drop. */
static int posix_uncache(void *ctx, int fd)
{
    (void)ctx;
    int err = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return err == EINVAL || err == ENOSYS ? 0 : -err;
}

static int64_t posix_size(void *ctx, int fd)
{
    (void)ctx;
    struct stat st;
    return fstat(fd, &st) < 0 ? -errno : (int64_t)st.st_size;
}

static int posix_truncate(void *ctx, int fd, uint64_t size)
{
    (void)ctx;
    int r;
    do {
        r = ftruncate(fd, (off_t)size);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int posix_rename(void *ctx, const char *from, const char *to)
{
    const struct files_posix *p = ctx;
    return renameat(p->dir, from, p->dir, to) < 0 ? -errno : 0;
}

static int posix_unlink(void *ctx, const char *path)
{
    const struct files_posix *p = ctx;
    return unlinkat(p->dir, path, 0) < 0 ? -errno : 0;
}

static int posix_sync_dir(void *ctx)
{
    const struct files_posix *p = ctx;
    int r;
    do {
        r = fsync(p->dir);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int not_hidden(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int posix_list(void *ctx, void (*fn)(void *arg, const char *name), void *arg)
{
    const struct files_posix *p = ctx;
    struct dirent **names = NULL;
    int n = scandirat(p->dir, ".", &names, not_hidden, by_bytes);
    if (n < 0) {
        return -errno;
    }
    for (int i = 0; i < n; i++) {
        fn(arg, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    return 0;
}

static enum store_status refuse(struct files_posix *p, struct buf *error, const char *what, const char *dir, int err)
{
    buf_printf(error, "cannot %s %s: %s", what, dir, strerror(err));
    if (p->lock >= 0) {
        close(p->lock);
    }
    if (p->dir >= 0) {
        close(p->dir);
    }
    free(p);
    return err == EWOULDBLOCK ? STORE_LOCKED : STORE_FAILED;
}

enum store_status files_posix_open(const char *dir, struct files *out, struct buf *error)
{
    struct files_posix *p = malloc(sizeof *p);
    syn_assert(p != NULL);
    *p = (struct files_posix){-1, -1};
    if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
        return refuse(p, error, "create the data directory", dir, errno);
    }
    p->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->dir < 0) {
        return refuse(p, error, "open the data directory", dir, errno);
    }
    p->lock = openat(p->dir, "LOCK", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (p->lock < 0) {
        return refuse(p, error, "write in the data directory", dir, errno);
    }
    if (flock(p->lock, LOCK_EX | LOCK_NB) < 0) {
        return refuse(p, error, errno == EWOULDBLOCK ? "use the data directory: another process is running on"
                                                     : "lock the data directory", dir, errno);
    }
    *out = (struct files){p,          posix_open,     posix_close,  posix_pread,  posix_pwrite,   posix_sync,
                          posix_uncache, posix_size, posix_truncate, posix_rename, posix_unlink, posix_sync_dir, posix_list};
    return STORE_OK;
}

void files_posix_close(struct files *f)
{
    struct files_posix *p = f->ctx;
    close(p->lock); /* closing releases the lock; the file stays, so that nobody can hold a lock on a deleted one */
    close(p->dir);
    free(p);
    f->ctx = NULL;
}
