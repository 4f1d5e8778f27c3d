/* What the drivers of other systems' queues share: clocks, processor time, a buffered socket, and the line of JSON at the end. Header
 * only: each driver is one file that the scripts build with `gcc -Isrc bench/X.c src/utils/hist.c`. */
#ifndef BENCH_DRIVER_H
#define BENCH_DRIVER_H

#include "utils/hist.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIDS_MAX = 16 };

static inline void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static inline uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* User and system time in microseconds of the processes in a list "pid,pid"; /proc/<pid>/stat, in clock ticks. */
static inline uint64_t processes_cpu_us(const char *pids)
{
    uint64_t ticks = 0;
    for (const char *at = pids; at != NULL && *at != '\0'; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        char path[64], text[1024];
        unsigned long long user = 0, system = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", atoi(at));
        FILE *f = fopen(path, "r");
        size_t n = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
        if (f != NULL) {
            fclose(f);
        }
        text[n] = '\0';
        const char *p = strrchr(text, ')');
        if (p != NULL && sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) == 2) {
            ticks += user + system;
        }
    }
    return ticks * 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

static inline uint64_t own_cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Meters: read at the start and at the end of what is measured. */
struct meters {
    uint64_t at_us, own_us, servers_us;
};

static inline struct meters meters_read(const char *pids)
{
    return (struct meters){now_us(), own_cpu_us(), processes_cpu_us(pids)};
}

/* The result as bench/queue_table.py reads it. */
static inline void print_result(const char *mode, uint64_t messages, uint64_t errors, struct meters from, struct meters to, const struct hist *h)
{
    double seconds = (double)(to.at_us - from.at_us) / 1e6, n = messages > 0 ? (double)messages : 1;
    printf("{\"mode\":\"%s\",\"messages\":%" PRIu64 ",\"seconds\":%.3f,\"messages_per_s\":%.1f,\"errors\":%" PRIu64, mode, messages, seconds,
           (double)messages / seconds, errors);
    printf(",\"latency_us\":{\"count\":%" PRIu64 ",\"p50\":%" PRIu64 ",\"p99\":%" PRIu64 ",\"p999\":%" PRIu64 ",\"max\":%" PRIu64 "}", h->count,
           hist_percentile_us(h, 50), hist_percentile_us(h, 99), hist_percentile_us(h, 99.9), h->count ? h->max_us : 0);
    printf(",\"client_cpu_us_per_message\":%.3f,\"server_cpu_us_per_message\":%.3f}\n", (double)(to.own_us - from.own_us) / n,
           (double)(to.servers_us - from.servers_us) / n);
}

static inline int connect_loopback(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        die("127.0.0.1:%u: %s", port, strerror(errno));
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* "7001,7002,7003" -> ports; how many. */
static inline uint32_t read_ports(const char *text, uint16_t *ports, uint32_t max)
{
    uint32_t n = 0;
    for (const char *at = text; at != NULL && *at != '\0' && n < max; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        ports[n++] = (uint16_t)atoi(at);
    }
    return n;
}

#endif
