/* Load on a NATS JetStream stream, over NATS' plain text protocol: one thread, one epoll set, so that the client's own processor time takes
 * as little as possible from servers on the same machine. (Its official Go client costs several times as much.)
 *
 *   nats_queue -ports 7001,7002,7003 setup                      stream `bench`, subjects bench.*, 3 replicas, file storage
 *   nats_queue -ports ... -c 64 -window 1 -s 10 publish         each connection has `window` messages unacknowledged
 *   nats_queue -ports ... -n 100000 -batch 256 consume          fills the stream, then one pull consumer with explicit acks
 *                                                             connected to the server that leads the consumer, or with -at-leader 0 not
 *   nats_queue -ports ... -rate 1000 -s 10 latency              publish to deliver, open loop, time stamps in the payload
 *
 * A publish carries a reply subject of its own; JetStream answers there once a majority of the stream's replicas has the message. (It
 * does not flush to disk first: NATS 2.9 flushes every two minutes.) An acknowledgement of a consumer is a plain publish, as NATS'
 * clients send it; with -ack-sync each is confirmed. */
#include "driver.h"

#include <sys/epoll.h>

enum { CONNS_MAX = 512, IN_BYTES = 1 << 20, OUT_BYTES = 1 << 20, PAYLOAD_MAX = 65536, SETUP_US = 20000000 };

struct conn {
    int fd;
    uint8_t *in, *out;
    size_t in_len, out_len, out_at;
    bool want_out;
};

struct message {
    const char *subject, *reply;
    const uint8_t *payload;
    size_t bytes;
    bool headers; /* a status such as "no messages": not a message of the stream */
};

static struct {
    uint16_t ports[16];
    uint32_t n_ports, connections, window, batch, partitions;
    uint64_t seconds, warmup_s, total, rate;
    size_t bytes;
    const char *pids;
    bool ack_sync, at_leader;
    int replicas;
} opt = {.connections = 64, .window = 1, .batch = 256, .partitions = 1, .seconds = 10, .warmup_s = 2, .total = 100000, .rate = 1000, .bytes = 128,
         .replicas = 3, .at_leader = true};

static struct conn conns[CONNS_MAX];
static int epoll_fd;
static uint8_t filler[PAYLOAD_MAX];

/* What the present mode counts. */
static struct {
    uint64_t published, acked, errors, received, asked, confirmed, begun_us[CONNS_MAX * 1024];
    struct hist latency;
    bool measuring, stopping;
} load;

static void flush_conn(struct conn *c)
{
    while (c->out_at < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            break;
        }
        if (n <= 0) {
            die("a connection broke: %s", strerror(errno));
        }
        c->out_at += (size_t)n;
    }
    bool want = c->out_at < c->out_len;
    if (!want) {
        c->out_at = c->out_len = 0;
    }
    if (want != c->want_out) {
        struct epoll_event e = {.events = EPOLLIN | (want ? EPOLLOUT : 0), .data.u32 = (uint32_t)(c - conns)};
        epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
        c->want_out = want;
    }
}

static void put(struct conn *c, const void *bytes, size_t n)
{
    if (c->out_len + n > OUT_BYTES) {
        die("the window is too large for the output buffer");
    }
    memcpy(c->out + c->out_len, bytes, n);
    c->out_len += n;
}

/* PUB subject [reply] bytes */
static void publish(struct conn *c, const char *subject, const char *reply, const void *payload, size_t bytes)
{
    char head[512];
    int n = snprintf(head, sizeof head, "PUB %s %s %zu\r\n", subject, reply, bytes);
    put(c, head, (size_t)n);
    put(c, payload, bytes);
    put(c, "\r\n", 2);
}

/* Cuts "MSG subject sid [reply] bytes" in place. */
static bool parse_head(char *line, struct message *m, size_t *total)
{
    char *save = NULL, *words[6] = {0};
    int n = 0;
    for (char *w = strtok_r(line, " ", &save); w != NULL && n < 6; w = strtok_r(NULL, " ", &save)) {
        words[n++] = w;
    }
    m->headers = words[0][0] == 'H';
    int sizes = m->headers ? 2 : 1;
    if (n < 3 + sizes) {
        return false;
    }
    m->subject = words[1];
    m->reply = n > 3 + sizes ? words[3] : NULL;
    *total = strtoul(words[n - 1], NULL, 10);
    m->bytes = *total;
    return true;
}

typedef void (*on_message)(struct conn *c, const struct message *m, uint64_t now);

/* All whole messages of the input; returns the bytes used. */
static size_t take_input(struct conn *c, on_message handler, uint64_t now)
{
    size_t at = 0;
    for (;;) {
        uint8_t *line = c->in + at, *end = memmem(line, c->in_len - at, "\r\n", 2);
        if (end == NULL) {
            return at;
        }
        size_t head = (size_t)(end - line) + 2;
        if (line[0] == 'M' || line[0] == 'H') {
            char text[512];
            size_t total;
            struct message m;
            if (head > sizeof text) {
                die("a line of %zu bytes", head);
            }
            memcpy(text, line, head - 2);
            text[head - 2] = '\0';
            if (!parse_head(text, &m, &total)) {
                die("not understood: %s", text);
            }
            if (c->in_len - at < head + total + 2) {
                return at;
            }
            m.payload = line + head;
            at += head + total + 2;
            handler(c, &m, now);
            continue;
        }
        at += head;
        if (line[0] == 'P' && line[1] == 'I') {
            put(c, "PONG\r\n", 6);
        } else if (line[0] == '-') {
            die("the server says %.*s", (int)head, (char *)line);
        }
    }
}

static void turn(uint64_t until_us, on_message handler)
{
    struct epoll_event events[256];
    uint64_t now = now_us(), wait = until_us > now ? until_us - now : 0;
    struct timespec t = {.tv_sec = (time_t)(wait / 1000000), .tv_nsec = (long)(wait % 1000000 * 1000)};
    int n = epoll_pwait2(epoll_fd, events, 256, &t, NULL);
    for (int i = 0; i < n; i++) {
        struct conn *c = &conns[events[i].data.u32];
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
            ssize_t got = recv(c->fd, c->in + c->in_len, IN_BYTES - c->in_len, MSG_DONTWAIT);
            if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
                die("a server closed its connection");
            }
            c->in_len += got > 0 ? (size_t)got : 0;
            size_t used = take_input(c, handler, now_us());
            c->in_len -= used;
            memmove(c->in, c->in + used, c->in_len);
        }
        flush_conn(c);
    }
}

static void open_conns(uint32_t count)
{
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (uint32_t i = 0; i < count; i++) {
        struct conn *c = &conns[i];
        char hello[256];
        c->fd = connect_loopback(opt.ports[i % opt.n_ports]);
        c->in = malloc(IN_BYTES);
        c->out = malloc(OUT_BYTES);
        int n = snprintf(hello, sizeof hello,
                         "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"1\",\"protocol\":1,\"headers\":true,"
                         "\"no_responders\":true}\r\nSUB _B%d.%u.> 1\r\n",
                         (int)getpid(), i);
        put(c, hello, (size_t)n);
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
        flush_conn(c);
    }
}

/* --- One request and its answer, for what comes before the load. */

static char answer[65536];

static void keep_answer(struct conn *c, const struct message *m, uint64_t now)
{
    (void)c, (void)now;
    snprintf(answer, sizeof answer, "%.*s", (int)m->bytes, (const char *)m->payload);
}

static bool request(const char *subject, const char *json)
{
    char reply[64];
    uint64_t deadline = now_us() + 5000000;
    snprintf(reply, sizeof reply, "_B%d.0.r", (int)getpid());
    answer[0] = '\0';
    publish(&conns[0], subject, reply, json, strlen(json));
    flush_conn(&conns[0]);
    while (answer[0] == '\0' && now_us() < deadline) {
        turn(deadline, keep_answer);
    }
    return answer[0] == '{' && strstr(answer, "\"error\"") == NULL;
}

static void must(const char *subject, const char *json)
{
    uint64_t deadline = now_us() + SETUP_US;
    while (!request(subject, json)) {
        if (now_us() > deadline) {
            die("%s: %s", subject, answer);
        }
        usleep(200000);
    }
}

static void setup(void)
{
    char json[512];
    open_conns(1);
    request("$JS.API.STREAM.DELETE.bench", "");
    snprintf(json, sizeof json,
             "{\"name\":\"bench\",\"subjects\":[\"bench.*\"],\"retention\":\"limits\",\"max_consumers\":-1,\"max_msgs\":-1,\"max_bytes\":-1,"
             "\"max_age\":0,\"max_msg_size\":-1,\"storage\":\"file\",\"discard\":\"old\",\"num_replicas\":%d}",
             opt.replicas);
    must("$JS.API.STREAM.CREATE.bench", json);
    fprintf(stderr, "%s\n", answer);
}

static void make_consumer(void)
{
    request("$JS.API.CONSUMER.DELETE.bench.puller", "");
    must("$JS.API.CONSUMER.DURABLE.CREATE.bench.puller",
         "{\"stream_name\":\"bench\",\"config\":{\"durable_name\":\"puller\",\"deliver_policy\":\"all\",\"ack_policy\":\"explicit\","
         "\"ack_wait\":30000000000,\"max_deliver\":-1,\"max_ack_pending\":20000,\"max_waiting\":512,\"replay_policy\":\"instant\"}}");
}

/* --- Publish: a slot is one message on its way; its answer's subject names it. */

static void publish_slot(uint32_t conn, uint32_t slot, uint64_t now)
{
    char subject[32], reply[64];
    snprintf(subject, sizeof subject, "bench.%" PRIu64, load.published % opt.partitions);
    snprintf(reply, sizeof reply, "_B%d.%u.%u", (int)getpid(), conn, slot);
    load.begun_us[conn * 1024 + slot] = now;
    load.published++;
    publish(&conns[conn], subject, reply, filler, opt.bytes);
}

static bool another_message(void)
{
    return !load.stopping && (opt.total == 0 || load.published < opt.total);
}

static void on_published(struct conn *c, const struct message *m, uint64_t now)
{
    uint32_t conn = (uint32_t)(c - conns), slot = (uint32_t)strtoul(strrchr(m->subject, '.') + 1, NULL, 10);
    bool ok = !m->headers && memmem(m->payload, m->bytes, "\"seq\":", 6) != NULL;
    load.acked += ok;
    if (load.measuring) {
        load.errors += !ok;
        hist_record(&load.latency, now - load.begun_us[conn * 1024 + slot]);
    }
    if (another_message()) {
        publish_slot(conn, slot, now);
    }
}

static void start_slots(uint32_t connections, uint32_t window)
{
    for (uint32_t i = 0; i < connections * window && another_message(); i++) {
        publish_slot(i % connections, i / connections, now_us());
    }
    for (uint32_t i = 0; i < connections; i++) {
        flush_conn(&conns[i]);
    }
}

static void mode_publish(void)
{
    opt.total = 0;
    open_conns(opt.connections);
    start_slots(opt.connections, opt.window);
    uint64_t from_us = now_us() + opt.warmup_s * 1000000, end_us = from_us + opt.seconds * 1000000;
    while (now_us() < from_us) {
        turn(from_us, on_published);
    }
    uint64_t before = load.acked;
    load.measuring = true;
    struct meters from = meters_read(opt.pids);
    while (now_us() < end_us) {
        turn(end_us, on_published);
    }
    struct meters to = meters_read(opt.pids);
    load.measuring = false;
    print_result("publish", load.acked - before, load.errors, from, to, &load.latency);
}

/* --- Consume: requests for `batch` messages, a new one before the last is used up; each message acknowledged by name. */

static void fill(void)
{
    start_slots(4, 256);
    while (load.acked < opt.total) {
        turn(now_us() + 100000, on_published);
    }
}

static void pull(struct conn *c)
{
    char json[96], reply[64];
    int n = snprintf(json, sizeof json, "{\"batch\":%u,\"expires\":30000000000}", opt.batch);
    snprintf(reply, sizeof reply, "_B%d.%u.m", (int)getpid(), (uint32_t)(c - conns));
    publish(c, "$JS.API.CONSUMER.MSG.NEXT.bench.puller", reply, json, (size_t)n);
    load.asked += opt.batch;
}

static void on_delivered(struct conn *c, const struct message *m, uint64_t now)
{
    char confirm[64] = "";
    if (m->headers || m->reply == NULL) {
        load.confirmed += !m->headers && m->subject[strlen(m->subject) - 1] == 'a'; /* the answer to an acknowledgement that asked for one */
        return;
    }
    if (load.measuring) {
        uint64_t begun;
        memcpy(&begun, m->payload, sizeof begun);
        hist_record(&load.latency, begun != 0 ? now - begun : 0);
    }
    load.received++;
    if (opt.ack_sync) {
        snprintf(confirm, sizeof confirm, "_B%d.%u.a", (int)getpid(), (uint32_t)(c - conns));
    }
    publish(c, m->reply, confirm, "+ACK", 4);
    if (load.asked - load.received <= opt.batch && !load.stopping) {
        pull(c);
    }
}

/* All delivered and acknowledged as the server counts: the floor below which nothing is pending has reached the last message. */
static bool acks_are_done(void)
{
    char floor[64];
    snprintf(floor, sizeof floor, "\"ack_floor\":{\"consumer_seq\":%" PRIu64, opt.total);
    return request("$JS.API.CONSUMER.INFO.bench.puller", "") && strstr(answer, floor) != NULL && strstr(answer, "\"num_ack_pending\":0") != NULL;
}

/* A connection to the server that leads the consumer, or with -at-leader 0 to another, which passes the messages on: a third more work, and the
 * greater part of what makes two runs differ when it is left to chance. */
static struct conn *connection_of_puller(void)
{
    request("$JS.API.CONSUMER.INFO.bench.puller", "");
    const char *leader = strstr(answer, "\"leader\":\"s");
    uint32_t number = leader != NULL ? (uint32_t)(leader[11] - '1') : 0;
    return &conns[(number + !opt.at_leader) % opt.n_ports];
}

static void mode_consume(void)
{
    open_conns(4);
    fill();
    make_consumer();
    usleep(500000);
    struct conn *puller = connection_of_puller();
    load.measuring = true;
    struct meters from = meters_read(opt.pids);
    pull(puller);
    flush_conn(puller);
    uint64_t deadline = now_us() + 120000000;
    while ((load.received < opt.total || (opt.ack_sync && load.confirmed < opt.total)) && now_us() < deadline) {
        turn(now_us() + 100000, on_delivered);
    }
    struct meters to = meters_read(opt.pids); /* the last plain acknowledgements may still be under way: that is how NATS' clients count too */
    load.stopping = true;
    while (!acks_are_done() && now_us() < deadline) {
        usleep(10000);
    }
    if (now_us() >= deadline) {
        die("not all was acknowledged: %s", answer);
    }
    hist_init(&load.latency); /* the age of what was stored before is no latency */
    print_result("consume", load.received, 0, from, to, &load.latency);
}

/* --- Latency: message i is due at start + i/rate; its payload carries when it was due. */

static void mode_latency(void)
{
    open_conns(2);
    make_consumer();
    uint64_t start_us = now_us() + 100000, from_us = start_us + opt.warmup_s * 1000000, end_us = from_us + opt.seconds * 1000000, sent = 0;
    uint64_t due_us = start_us;
    struct meters from = {0};
    pull(&conns[0]);
    flush_conn(&conns[0]);
    while (now_us() < end_us) {
        while ((due_us = start_us + sent * 1000000 / opt.rate) <= now_us()) {
            memcpy(filler, &due_us, sizeof due_us);
            publish(&conns[1], "bench.0", "_void", filler, opt.bytes);
            sent++;
        }
        flush_conn(&conns[1]);
        if (!load.measuring && now_us() >= from_us) {
            load.measuring = true;
            from = meters_read(opt.pids);
        }
        turn(due_us < end_us ? due_us : end_us, on_delivered);
    }
    struct meters to = meters_read(opt.pids);
    print_result("latency", load.latency.count, 0, from, to, &load.latency);
}

static void read_options(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        uint64_t n = strtoull(value, NULL, 10);
        if (strcmp(name, "-ports") == 0) {
            opt.n_ports = read_ports(value, opt.ports, 16);
        } else if (strcmp(name, "-c") == 0) {
            opt.connections = n < CONNS_MAX ? (uint32_t)n : CONNS_MAX;
        } else if (strcmp(name, "-window") == 0) {
            opt.window = n < 1024 ? (uint32_t)n : 1024;
        } else if (strcmp(name, "-batch") == 0) {
            opt.batch = (uint32_t)n;
        } else if (strcmp(name, "-s") == 0) {
            opt.seconds = n;
        } else if (strcmp(name, "-warmup") == 0) {
            opt.warmup_s = n;
        } else if (strcmp(name, "-n") == 0) {
            opt.total = n;
        } else if (strcmp(name, "-rate") == 0) {
            opt.rate = n;
        } else if (strcmp(name, "-bytes") == 0) {
            opt.bytes = n >= 8 && n <= PAYLOAD_MAX ? n : 128;
        } else if (strcmp(name, "-server-pids") == 0) {
            opt.pids = value;
        } else if (strcmp(name, "-ack-sync") == 0) {
            opt.ack_sync = n != 0;
        } else if (strcmp(name, "-at-leader") == 0) {
            opt.at_leader = n != 0;
        } else if (strcmp(name, "-replicas") == 0) {
            opt.replicas = (int)n;
        } else {
            die("unknown option %s", name);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*run)(void); } modes[] = {
        {"setup", setup}, {"publish", mode_publish}, {"consume", mode_consume}, {"latency", mode_latency}};
    if (argc < 2 || argc % 2 != 0) {
        die("usage: nats_queue [-option value]... setup|publish|consume|latency; see the head of bench/nats_queue.c");
    }
    read_options(argc, argv);
    hist_init(&load.latency);
    for (uint32_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(argv[argc - 1], modes[i].name) == 0 && opt.n_ports > 0) {
            modes[i].run();
            return 0;
        }
    }
    die("no mode %s, or no -ports", argv[argc - 1]);
}
