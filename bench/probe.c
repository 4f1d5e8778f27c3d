/* Prints what this machine can do, before anything is compared on it: fdatasync of a 4 KiB overwrite by one writer (F1) and by
 * three writers on files of their own at once (F3), and a loopback TCP round trip (L). One line of JSON, medians and 99th
 * percentiles in microseconds.
 *
 *   cc -O2 -pthread -o probe bench/probe.c && ./probe DIRECTORY [ROUNDS]
 *
 * The file is written full of zeros and synced first, as the log's segments are: overwriting written blocks costs one flush,
 * appending would add the file system's journal. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 256, WRITERS = 3 };

struct writer {
    char path[4096];
    int rounds;
    uint32_t *us;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void *write_and_sync(void *arg)
{
    struct writer *w = arg;
    static const char block[BLOCK];
    int fd = open(w->path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        die(w->path);
    }
    for (int i = 0; i < BLOCKS; i++) {
        if (pwrite(fd, block, BLOCK, (off_t)i * BLOCK) != BLOCK) {
            die("write");
        }
    }
    fsync(fd);
    for (int i = 0; i < w->rounds; i++) {
        uint64_t from = now_ns();
        if (pwrite(fd, block, BLOCK, (off_t)(i % BLOCKS) * BLOCK) != BLOCK || fdatasync(fd) != 0) {
            die("fdatasync");
        }
        w->us[i] = (uint32_t)((now_ns() - from) / 1000);
    }
    close(fd);
    unlink(w->path);
    return NULL;
}

static void print_times(const char *name, uint32_t *us, size_t n, const char *end)
{
    qsort(us, n, sizeof *us, by_value);
    printf("\"%s\":{\"p50\":%u,\"p99\":%u}%s", name, us[n / 2], us[n * 99 / 100], end);
}

static void measure_disk(const char *directory, const char *name, int writers, int rounds)
{
    struct writer w[WRITERS];
    pthread_t threads[WRITERS];
    uint32_t *us = malloc(sizeof *us * (size_t)(writers * rounds));
    for (int i = 0; i < writers; i++) {
        w[i] = (struct writer){.rounds = rounds, .us = us + i * rounds};
        snprintf(w[i].path, sizeof w[i].path, "%s/probe.%d.%d", directory, (int)getpid(), i);
        if (pthread_create(&threads[i], NULL, write_and_sync, &w[i]) != 0) {
            die("thread");
        }
    }
    for (int i = 0; i < writers; i++) {
        pthread_join(threads[i], NULL);
    }
    print_times(name, us, (size_t)(writers * rounds), ",");
    free(us);
}

static void echo(int fd)
{
    char b[64];
    ssize_t n;
    while ((n = read(fd, b, sizeof b)) > 0 && write(fd, b, (size_t)n) == n) {
    }
    _exit(0);
}

static int connected_pair(pid_t *child)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&a, &len) != 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        die("loopback");
    }
    int peer = accept(listener, NULL, NULL);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *child = fork();
    if (*child == 0) {
        close(fd);
        echo(peer);
    }
    close(peer);
    close(listener);
    return fd;
}

static void measure_loopback(int rounds)
{
    pid_t child;
    fflush(stdout);
    int fd = connected_pair(&child);
    uint32_t *us = malloc(sizeof *us * (size_t)rounds);
    char b[64] = {0};
    for (int i = 0; i < rounds; i++) {
        uint64_t from = now_ns();
        if (write(fd, b, sizeof b) != sizeof b || read(fd, b, sizeof b) != sizeof b) {
            die("loopback");
        }
        us[i] = (uint32_t)((now_ns() - from) / 1000);
    }
    close(fd);
    waitpid(child, NULL, 0);
    print_times("loopback_us", us, (size_t)rounds, "}\n");
    free(us);
}

int main(int argc, char **argv)
{
    int rounds = argc > 2 ? atoi(argv[2]) : 2000;
    if (argc < 2 || rounds < 100) {
        fprintf(stderr, "usage: probe DIRECTORY [ROUNDS, at least 100]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    printf("{");
    measure_disk(argv[1], "fdatasync_1_us", 1, rounds);
    measure_disk(argv[1], "fdatasync_3_us", WRITERS, rounds);
    measure_loopback(rounds * 5);
    return 0;
}
