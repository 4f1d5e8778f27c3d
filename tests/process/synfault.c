/* LD_PRELOAD shim of the real-process tests: makes fsync and writes fail and clocks jump, when told to.
 *
 * SYNFAULT_CONTROL names a file of 64 bytes that is mapped shared; the test writes the fields below (little-endian) and the
 * next call sees them. Only files whose name holds "DATA" of SYNFAULT_UNDER are touched: logs and sockets stay whole.
 *
 *   offset  0  i32  errno of fsync and fdatasync, 0: none        offset 16  i64  milliseconds added to the wall clock
 *           4  i32  errno of write, pwrite, pwritev, fallocate           24  i64  milliseconds added to the monotonic clock
 *           8  i32  milliseconds an fsync takes longer                   32  i64  count of faults played, written here
 *          12  i32  only the first n faults, 0: all */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
    volatile int32_t sync_errno, write_errno, sync_delay_ms, limit;
    volatile int64_t wall_ms, monotonic_ms, played;
};

static struct control none;
static struct control *control = &none;
static const char *under;

__attribute__((constructor)) static void synfault_init(void)
{
    const char *path = getenv("SYNFAULT_CONTROL");
    under = getenv("SYNFAULT_UNDER");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        control = map != MAP_FAILED ? map : &none;
        close(fd);
    }
}

static int is_target(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0 || under == NULL) {
        return 0;
    }
    path[n] = '\0';
    return strncmp(path, under, strlen(under)) == 0;
}

/* The errno to fail with, or 0. */
static int play(int fd, int32_t error)
{
    if (error == 0 || !is_target(fd)) {
        return 0;
    }
    int64_t before = __atomic_fetch_add(&control->played, 1, __ATOMIC_SEQ_CST);
    return control->limit != 0 && before >= control->limit ? 0 : error;
}

static int sync_fault(int fd)
{
    if (control->sync_delay_ms > 0 && is_target(fd)) {
        __atomic_fetch_add(&control->played, 1, __ATOMIC_SEQ_CST);
        usleep((useconds_t)control->sync_delay_ms * 1000);
    }
    return play(fd, control->sync_errno);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(fault, name, ...)                                                                                                  \
    do {                                                                                                                       \
        int e = (fault);                                                                                                       \
        if (e != 0) {                                                                                                          \
            errno = e;                                                                                                         \
            return -1;                                                                                                         \
        }                                                                                                                      \
        return NEXT(name)(__VA_ARGS__);                                                                                        \
    } while (0)

int fsync(int fd) { FAIL(sync_fault(fd), fsync, fd); }
int fdatasync(int fd) { FAIL(sync_fault(fd), fdatasync, fd); }
ssize_t write(int fd, const void *p, size_t n) { FAIL(play(fd, control->write_errno), write, fd, p, n); }
ssize_t pwrite(int fd, const void *p, size_t n, off_t at) { FAIL(play(fd, control->write_errno), pwrite, fd, p, n, at); }
ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at) { FAIL(play(fd, control->write_errno), pwrite64, fd, p, n, at); }
ssize_t writev(int fd, const struct iovec *v, int n) { FAIL(play(fd, control->write_errno), writev, fd, v, n); }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) { FAIL(play(fd, control->write_errno), pwritev, fd, v, n, at); }

int posix_fallocate(int fd, off_t at, off_t n)
{
    int e = play(fd, control->write_errno);
    return e != 0 ? e : NEXT(posix_fallocate)(fd, at, n);
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    static __typeof__(&clock_gettime) next;
    if (next == NULL) {
        next = NEXT(clock_gettime);
    }
    int r = next(id, t);
    int64_t add = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE ? control->wall_ms : control->monotonic_ms;
    if (r == 0 && add != 0 && (id <= CLOCK_MONOTONIC || (id >= CLOCK_MONOTONIC_RAW && id <= CLOCK_BOOTTIME))) {
        int64_t ns = (int64_t)t->tv_sec * 1000000000 + t->tv_nsec + add * 1000000;
        t->tv_sec = (time_t)(ns / 1000000000);
        t->tv_nsec = (long)(ns % 1000000000);
    }
    return r;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    (void)zone;
    struct timespec t;
    int r = clock_gettime(CLOCK_REALTIME, &t);
    tv->tv_sec = t.tv_sec;
    tv->tv_usec = t.tv_nsec / 1000;
    return r;
}
