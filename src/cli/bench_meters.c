/* Processor time from /proc and getrusage, and counts of refusals by their first word. */
#include "cli/bench_meters.h"

#include "cli/resp_client.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* User and system time of a process in microseconds, from /proc/<pid>/stat; 0 when it is gone. */
static uint64_t process_cpu_us(int pid)
{
    char path[64], text[1024];
    unsigned long long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    size_t n = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f != NULL) {
        fclose(f);
    }
    text[n] = '\0';
    const char *p = strrchr(text, ')'); /* the name may hold anything */
    if (p == NULL || sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2) {
        return 0;
    }
    return (user + system) * 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

static uint64_t own_cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

void bench_meters_read(struct bench_meters *m, const int *pids, uint32_t n_pids, bool end)
{
    uint64_t sign = end ? 1 : UINT64_MAX;
    m->client_cpu_us += sign * own_cpu_us();
    for (uint32_t i = 0; i < n_pids; i++) {
        m->server_cpu_us[i] += sign * process_cpu_us(pids[i]);
    }
    m->elapsed_us += sign * now_us();
}

uint64_t bench_meters_servers_us(const struct bench_meters *m, uint32_t n_pids)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n_pids; i++) {
        sum += m->server_cpu_us[i];
    }
    return sum;
}

void bench_errors_count(struct bench_errors *e, slice_t word)
{
    for (uint32_t i = 0; i < e->n; i++) {
        if (slice_eq(slice_str(e->v[i].word), word)) {
            e->v[i].count++;
            return;
        }
    }
    struct bench_error *one = &e->v[e->n < BENCH_ERRORS_MAX ? e->n++ : BENCH_ERRORS_MAX - 1];
    size_t n = word.len < sizeof one->word - 1 ? word.len : sizeof one->word - 1;
    memcpy(one->word, word.ptr, n);
    one->word[n] = '\0';
    one->count++;
}
