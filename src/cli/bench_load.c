/* The generator's loop: connections, lanes, schedules. See bench_load.h for the two loops.
 *
 * Not here: bytes (bench_wire.c), printing (bench_report.c).
 * I1: an answer belongs to the lane at the head of its connection's queue: RESP answers in the order of the commands.
 * I2: a lane is in exactly one place: in flight, asleep after a refusal, free, or down with its connection. */
#include "cli/bench_load.h"

#include "cli/bench_wire.h"
#include "cli/cli_ask.h"
#include "communication/resp.h"
#include "utils/assert.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 1024, ANSWER_BYTES = 512, ABANDONED_US = 1000, RETRY_US = 2000, RECONNECT_US = 10000, DRAIN_US = 2000000, BAR_US = 200000 };

#define FROM_STDIN UINT32_MAX /* where an event's data is otherwise a connection's number */

struct lane {
    uint32_t conn, round;
    bool releasing;
    uint8_t id_len;
    uint8_t id[WIRE_ID_MAX];
    uint64_t begun_us; /* when the pair was to begin: what its latency counts from */
    uint64_t sent_us;  /* when the command in flight was handed over */
};

struct ring { /* of lane numbers; capacity is never exceeded, by I2 */
    uint32_t *v;
    uint32_t cap, head, count;
};

struct conn {
    int fd;
    uint32_t endpoint;
    uint64_t again_us; /* when to try to connect next, while fd is -1 */
    uint8_t *in, *out;
    size_t in_cap, in_len, out_cap, out_len;
    struct ring flight; /* I1 */
    bool dirty, want_out;
};

struct load {
    const struct bench_plan *plan;
    struct bench_result *res;
    struct bench_wire wire;
    int epoll;
    struct conn *conns;
    struct lane *lanes;
    uint32_t n_lanes, in_flight, down;
    struct ring asleep, idle;
    uint32_t *dirty;
    uint32_t n_dirty;
    uint64_t *wake_us; /* per lane, while asleep; all sleep equally long, so the ring is in order */
    uint64_t start_us, measure_from_us, end_us, scheduled, held_next;
    uint64_t last_grant_us, unix_offset_us, bar_us, bar_pairs, total_pairs;
    bool measuring, draining;
};

static void ring_init(struct ring *r, uint32_t cap)
{
    *r = (struct ring){.v = calloc(cap, sizeof *r->v), .cap = cap};
    syn_assert(r->v != NULL);
}

static void ring_push(struct ring *r, uint32_t v)
{
    syn_assert(r->count < r->cap);
    uint32_t at = r->head + r->count++;
    r->v[at >= r->cap ? at - r->cap : at] = v;
}

static uint32_t ring_pop(struct ring *r)
{
    syn_assert(r->count > 0);
    uint32_t v = r->v[r->head];
    r->head = r->head + 1 == r->cap ? 0 : r->head + 1;
    r->count--;
    return v;
}

static void count_error(struct load *l, slice_t word)
{
    struct bench_result *r = l->res;
    if (!l->measuring) {
        return;
    }
    for (uint32_t i = 0; i < r->n_errors; i++) {
        if (slice_eq(slice_str(r->errors[i].word), word)) {
            r->errors[i].count++;
            return;
        }
    }
    struct bench_error *e = &r->errors[r->n_errors < BENCH_ERRORS_MAX ? r->n_errors++ : BENCH_ERRORS_MAX - 1];
    size_t n = word.len < sizeof e->word - 1 ? word.len : sizeof e->word - 1;
    memcpy(e->word, word.ptr, n);
    e->word[n] = '\0';
    e->count++;
}

static void mark_dirty(struct load *l, struct conn *c)
{
    if (!c->dirty) {
        syn_assert(l->n_dirty < l->plan->connections);
        c->dirty = true;
        l->dirty[l->n_dirty++] = (uint32_t)(c - l->conns);
    }
}

/* Appends the lane's next command to its connection's output. */
static void issue(struct load *l, uint32_t number, uint64_t now_us)
{
    struct lane *lane = &l->lanes[number];
    struct conn *c = &l->conns[lane->conn];
    syn_assert(c->out_cap - c->out_len >= WIRE_COMMAND_MAX);
    uint8_t *out = c->out + c->out_len;
    c->out_len += lane->releasing ? wire_release(&l->wire, out, number, lane->round, slice_of(lane->id, lane->id_len))
                                  : wire_acquire(&l->wire, out, number, lane->round);
    lane->sent_us = now_us;
    ring_push(&c->flight, number);
    l->in_flight++;
    mark_dirty(l, c);
}

static bool another_allowed(const struct load *l)
{
    return !l->draining && (l->plan->hold == 0 || l->held_next < l->plan->hold);
}

/* Begins a pair: in hold mode with a name that nobody has taken yet. */
static void begin(struct load *l, uint32_t number, uint64_t begun_us, uint64_t now_us)
{
    struct lane *lane = &l->lanes[number];
    lane->releasing = false;
    lane->begun_us = begun_us;
    lane->round = l->plan->hold > 0 ? (uint32_t)l->held_next++ : (lane->round + 1) % l->plan->resources;
    issue(l, number, now_us);
}

/* The lane's pair is over (or failed): what next. */
static void next_pair(struct load *l, uint32_t number, uint64_t now_us)
{
    if (another_allowed(l) && l->plan->rate == 0) {
        begin(l, number, now_us, now_us);
    } else {
        ring_push(&l->idle, number);
    }
}

/* At each grant, and at the end of the measured time, so that a gap that never closed is seen too. */
static void note_gap(struct load *l, uint64_t now_us)
{
    struct bench_result *r = l->res;
    if (l->plan->gaps_us > 0 && l->last_grant_us > 0 && now_us - l->last_grant_us > l->plan->gaps_us && r->n_gaps < BENCH_GAPS_MAX) {
        r->gaps[r->n_gaps++] = (struct bench_gap){l->last_grant_us + l->unix_offset_us, now_us + l->unix_offset_us};
    }
    l->last_grant_us = now_us;
}

static void on_granted(struct load *l, uint32_t number, slice_t id, uint64_t now_us)
{
    struct lane *lane = &l->lanes[number];
    if (!l->draining) {
        note_gap(l, now_us);
    }
    if (l->res->killed_us > 0 && l->res->failover_us == 0 && lane->sent_us > l->res->killed_us + ABANDONED_US) {
        l->res->failover_us = now_us - l->res->killed_us;
    }
    if (l->measuring) {
        hist_record(&l->res->acquire, now_us - lane->begun_us);
        l->res->acquired++;
    }
    if (l->plan->hold > 0) {
        l->total_pairs++;
        next_pair(l, number, now_us);
        return;
    }
    memcpy(lane->id, id.ptr, id.len);
    lane->id_len = (uint8_t)id.len;
    lane->releasing = true;
    issue(l, number, now_us);
}

static void on_released(struct load *l, uint32_t number, uint64_t now_us)
{
    struct lane *lane = &l->lanes[number];
    l->total_pairs++;
    if (l->measuring) {
        hist_record(&l->res->release, now_us - lane->sent_us);
        hist_record(&l->res->pair, now_us - lane->begun_us);
        l->res->pairs++;
    }
    next_pair(l, number, now_us);
}

/* A refusal is counted and the pair given up; after a pause the lane begins another. */
static void on_refused(struct load *l, uint32_t number, slice_t word, uint64_t now_us)
{
    count_error(l, word);
    l->wake_us[number] = now_us + RETRY_US;
    ring_push(&l->asleep, number);
}

static void conn_down(struct load *l, struct conn *c, uint64_t now_us)
{
    close(c->fd);
    c->fd = -1;
    c->in_len = c->out_len = 0;
    c->want_out = false;
    c->again_us = now_us + RECONNECT_US;
    c->endpoint = (c->endpoint + 1) % l->plan->n_endpoints;
    l->res->reconnects++;
    while (c->flight.count > 0) {
        l->in_flight--;
        on_refused(l, ring_pop(&c->flight), SLICE_LIT("(closed)"), now_us);
    }
}

static void flush(struct load *l, struct conn *c, uint64_t now_us)
{
    if (c->fd < 0 || c->out_len == 0) {
        return;
    }
    ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        conn_down(l, c, now_us);
        return;
    }
    c->out_len -= n > 0 ? (size_t)n : 0;
    memmove(c->out, c->out + (n > 0 ? n : 0), c->out_len);
    bool want_out = c->out_len > 0;
    if (want_out != c->want_out) {
        struct epoll_event e = {.events = EPOLLIN | (want_out ? EPOLLOUT : 0), .data.u32 = (uint32_t)(c - l->conns)};
        epoll_ctl(l->epoll, EPOLL_CTL_MOD, c->fd, &e);
        c->want_out = want_out;
    }
}

/* One answer of a connection; false when its bytes make no sense. */
static bool take_answer(struct load *l, struct conn *c, slice_t in, size_t *used, uint64_t now_us, bool *more)
{
    uint32_t number = c->flight.v[c->flight.head];
    bool acquire = !l->lanes[number].releasing;
    slice_t what;
    enum wire_answer a = wire_reply(&l->wire, in, acquire, used, &what);
    *more = a == WIRE_MORE;
    if (a == WIRE_MORE || a == WIRE_BAD) {
        return a == WIRE_MORE;
    }
    ring_pop(&c->flight); /* I1 */
    l->in_flight--;
    if (a == WIRE_REFUSED) {
        on_refused(l, number, what, now_us);
    } else if (acquire) {
        on_granted(l, number, what, now_us);
    } else {
        on_released(l, number, now_us);
    }
    return true;
}

static bool answers(struct load *l, struct conn *c, uint64_t now_us)
{
    size_t at = 0;
    bool more = false;
    while (at < c->in_len && !more) {
        size_t used = 0;
        if (c->flight.count == 0 || !take_answer(l, c, slice_of(c->in + at, c->in_len - at), &used, now_us, &more)) {
            return false;
        }
        at += used;
    }
    c->in_len -= at;
    memmove(c->in, c->in + at, c->in_len);
    return true;
}

static void on_readable(struct load *l, struct conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, 0);
    uint64_t now = now_us();
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    c->in_len += n > 0 ? (size_t)n : 0;
    if (n <= 0 || !answers(l, c, now)) {
        conn_down(l, c, now);
        return;
    }
    flush(l, c, now);
}

/* A blocking AUTH on the fresh connection. */
static bool authenticate(int fd, const char *password)
{
    char command[600], answer[64];
    if (password == NULL) {
        return true;
    }
    int n = snprintf(command, sizeof command, "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n", strlen(password), password);
    if (n >= (int)sizeof command || send(fd, command, (size_t)n, MSG_NOSIGNAL) != n) {
        return false;
    }
    uint64_t deadline = now_ms() + 2000;
    while (now_ms() < deadline) {
        ssize_t got = recv(fd, answer, sizeof answer, 0);
        if (got > 0 || (got < 0 && errno != EAGAIN)) {
            return got > 0 && answer[0] == '+';
        }
        usleep(1000);
    }
    return false;
}

static bool conn_up(struct load *l, struct conn *c, char *why, size_t why_size)
{
    c->fd = endpoint_connect(&l->plan->endpoints[c->endpoint], now_ms() + 1000, why, why_size);
    if (c->fd < 0) {
        return false;
    }
    if (!authenticate(c->fd, l->plan->password)) {
        snprintf(why, why_size, "the password was refused");
        close(c->fd);
        c->fd = -1;
        return false;
    }
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)(c - l->conns)};
    return epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &e) == 0;
}

static void reconnect(struct load *l, uint64_t now_us)
{
    char why[300];
    for (uint32_t i = 0; i < l->plan->connections; i++) {
        struct conn *c = &l->conns[i];
        if (c->fd < 0 && c->again_us <= now_us && !conn_up(l, c, why, sizeof why)) {
            c->endpoint = (c->endpoint + 1) % l->plan->n_endpoints;
            c->again_us = now_us + RECONNECT_US;
        }
        l->down += c->fd < 0;
    }
}

static void wake_sleepers(struct load *l, uint64_t now_us)
{
    for (uint32_t n = l->asleep.count; n > 0; n--) {
        uint32_t number = l->asleep.v[l->asleep.head];
        if (l->wake_us[number] > now_us) {
            return;
        }
        ring_pop(&l->asleep);
        if (l->conns[l->lanes[number].conn].fd < 0) {
            l->wake_us[number] = now_us + RETRY_US;
            ring_push(&l->asleep, number);
        } else {
            next_pair(l, number, now_us);
        }
    }
}

/* Open loop: begins what was scheduled up to now, as far as lanes are free. What waits keeps its scheduled time. */
static uint64_t begin_scheduled(struct load *l, uint64_t now_us)
{
    uint64_t rate = l->plan->rate, next_us = UINT64_MAX;
    while (rate > 0 && !l->draining) {
        next_us = l->start_us + l->scheduled * 1000000 / rate;
        if (next_us > now_us) {
            return next_us;
        }
        if (l->idle.count == 0) {
            return UINT64_MAX; /* an answer will free a lane and wake us */
        }
        uint32_t number = ring_pop(&l->idle);
        if (l->conns[l->lanes[number].conn].fd < 0) {
            l->wake_us[number] = now_us + RETRY_US;
            ring_push(&l->asleep, number);
            continue;
        }
        begin(l, number, next_us, now_us);
        l->scheduled++;
    }
    return next_us;
}

static void flush_dirty(struct load *l, uint64_t now_us)
{
    for (uint32_t i = 0; i < l->n_dirty; i++) {
        l->conns[l->dirty[i]].dirty = false; /* only here: it is in the list until then */
        flush(l, &l->conns[l->dirty[i]], now_us);
    }
    l->n_dirty = 0;
}

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

/* Meters start at 0 by subtracting what they show, and end by adding it. */
static void read_meters(struct load *l, bool end)
{
    struct bench_result *r = l->res;
    uint64_t sign = end ? 1 : UINT64_MAX;
    r->client_cpu_us += sign * own_cpu_us();
    for (uint32_t i = 0; i < l->plan->n_pids; i++) {
        r->server_cpu_us[i] += sign * process_cpu_us(l->plan->pids[i]);
    }
    r->elapsed_us += sign * now_us();
}

static void change_phase(struct load *l, uint64_t now_us)
{
    bool held_all = l->plan->hold > 0 && l->held_next >= l->plan->hold && l->in_flight == 0;
    if (!l->measuring && !l->draining && now_us >= l->measure_from_us) {
        l->measuring = true;
        read_meters(l, false);
    }
    if (l->measuring && (now_us >= l->end_us || held_all)) {
        l->measuring = false;
        l->draining = true;
        read_meters(l, true);
        note_gap(l, now_us);
        uint64_t due = l->plan->rate > 0 ? (l->end_us - l->start_us) * l->plan->rate / 1000000 : 0;
        l->res->unsent = due > l->scheduled ? due - l->scheduled : 0;
    }
}

static void show_bar(struct load *l, uint64_t now_us)
{
    if (l->plan->bar == NULL || now_us < l->bar_us) {
        return;
    }
    uint64_t done = now_us - l->start_us, all = l->end_us - l->start_us;
    uint64_t percent = l->plan->hold > 0 ? l->held_next * 100 / l->plan->hold : done * 100 / all;
    percent = percent > 100 ? 100 : percent;
    fprintf(l->plan->bar, "\r[%.*s%*s] %3u%% %9.0f %s/s%s ", (int)(percent / 4), "#########################", (int)(25 - percent / 4), "",
            (unsigned)percent, (double)(l->total_pairs - l->bar_pairs) * 1e6 / (double)BAR_US, l->plan->hold > 0 ? "locks" : "pairs",
            l->measuring ? "" : " (warm-up)");
    fflush(l->plan->bar);
    l->bar_pairs = l->total_pairs;
    l->bar_us = now_us + BAR_US;
}

static uint64_t wake_at(const struct load *l, uint64_t scheduled_us, uint64_t now_us)
{
    uint64_t at = now_us + 50000;
    at = scheduled_us < at ? scheduled_us : at;
    if (l->asleep.count > 0 && l->wake_us[l->asleep.v[l->asleep.head]] < at) {
        at = l->wake_us[l->asleep.v[l->asleep.head]];
    }
    if (l->down > 0 && now_us + RECONNECT_US < at) {
        at = now_us + RECONNECT_US;
    }
    return at;
}

static void kill_what_stdin_says(struct load *l)
{
    char line[32];
    ssize_t n = read(STDIN_FILENO, line, sizeof line - 1);
    line[n > 0 ? n : 0] = '\0';
    int pid = atoi(line);
    epoll_ctl(l->epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
    if (pid > 0 && kill(pid, SIGKILL) == 0) {
        l->res->killed_us = now_us();
    }
}

static void turn(struct load *l, uint64_t until_us)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now = now_us(), wait = until_us > now ? until_us - now : 0;
    struct timespec t = {.tv_sec = (time_t)(wait / 1000000), .tv_nsec = (long)(wait % 1000000 * 1000)};
    int n = epoll_pwait2(l->epoll, events, EVENTS_MAX, &t, NULL);
    for (int i = 0; i < n; i++) {
        if (events[i].data.u32 == FROM_STDIN) {
            kill_what_stdin_says(l);
            continue;
        }
        struct conn *c = &l->conns[events[i].data.u32];
        if (c->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
            on_readable(l, c);
        }
        if (c->fd >= 0 && (events[i].events & EPOLLOUT)) {
            flush(l, c, now);
        }
    }
}

static void loop(struct load *l)
{
    uint64_t now = now_us(), drained_us = l->end_us + DRAIN_US;
    while (!l->draining || (l->in_flight > 0 && now < drained_us)) {
        change_phase(l, now);
        l->down = 0;
        reconnect(l, now);
        wake_sleepers(l, now);
        uint64_t scheduled_us = begin_scheduled(l, now);
        flush_dirty(l, now);
        show_bar(l, now);
        turn(l, wake_at(l, scheduled_us, now));
        now = now_us();
    }
}

static bool load_open(struct load *l, char *why, size_t why_size)
{
    const struct bench_plan *p = l->plan;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->n_lanes = p->connections * p->pipeline;
    l->conns = calloc(p->connections, sizeof *l->conns);
    l->lanes = calloc(l->n_lanes, sizeof *l->lanes);
    l->dirty = calloc(p->connections, sizeof *l->dirty);
    l->wake_us = calloc(l->n_lanes, sizeof *l->wake_us);
    syn_assert(l->epoll >= 0 && l->conns != NULL && l->lanes != NULL && l->dirty != NULL && l->wake_us != NULL);
    ring_init(&l->asleep, l->n_lanes);
    ring_init(&l->idle, l->n_lanes);
    for (uint32_t i = 0; i < p->connections; i++) {
        struct conn *c = &l->conns[i];
        *c = (struct conn){.fd = -1, .endpoint = i % p->n_endpoints};
        c->in_cap = (size_t)p->pipeline * ANSWER_BYTES + 4096;
        c->out_cap = ((size_t)p->pipeline + 1) * WIRE_COMMAND_MAX;
        c->in = malloc(c->in_cap);
        c->out = malloc(c->out_cap);
        syn_assert(c->in != NULL && c->out != NULL);
        ring_init(&c->flight, p->pipeline);
    }
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = FROM_STDIN};
    if (p->kill_from_stdin && epoll_ctl(l->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &e) != 0) {
        snprintf(why, why_size, "stdin can not be waited for: %s", strerror(errno));
        return false;
    }
    for (uint32_t i = 0; i < p->connections; i++) {
        if (!conn_up(l, &l->conns[i], why, why_size)) {
            return false;
        }
    }
    return true;
}

static void load_close(struct load *l)
{
    for (uint32_t i = 0; i < l->plan->connections; i++) {
        struct conn *c = &l->conns[i];
        if (c->fd >= 0) {
            close(c->fd);
        }
        free(c->in);
        free(c->out);
        free(c->flight.v);
    }
    close(l->epoll);
    free(l->conns);
    free(l->lanes);
    free(l->dirty);
    free(l->wake_us);
    free(l->asleep.v);
    free(l->idle.v);
}

static void start_lanes(struct load *l)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t now = now_us();
    l->unix_offset_us = (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000 - now;
    l->start_us = l->bar_us = now;
    l->measure_from_us = now + l->plan->warmup_us;
    l->end_us = l->measure_from_us + l->plan->measure_us;
    for (uint32_t i = 0; i < l->n_lanes; i++) {
        l->lanes[i].conn = i % l->plan->connections;
        if (another_allowed(l) && l->plan->rate == 0) {
            begin(l, i, now, now);
        } else {
            ring_push(&l->idle, i);
        }
    }
}

bool bench_load_run(const struct bench_plan *plan, struct bench_result *out, char *why, size_t why_size)
{
    struct load l = {.plan = plan, .res = out};
    char id[17];
    memset(out, 0, sizeof *out);
    hist_init(&out->acquire);
    hist_init(&out->release);
    hist_init(&out->pair);
    cli_random_id(id);
    id[4] = '\0';
    wire_init(&l.wire, plan->redis, plan->ttl_ms, id);
    bool ok = load_open(&l, why, why_size);
    if (ok) {
        start_lanes(&l);
        loop(&l);
        if (plan->bar != NULL) {
            fputs("\r\033[K", plan->bar);
        }
    }
    load_close(&l);
    return ok;
}
