/* Drives the cache of a cluster as bench/cache.sh asks, one command at a time where a latency is measured; blocking sockets, no threads.
 *
 *   cache_driver -ports P1[,P2,P3] [-first K] [-n N] [-bytes B] [-pause-us U] MODE
 *
 *   fill      SET of N keys, key:<12 digits> from K on, each at node (key mod nodes); as fast as it goes
 *   read      GET of the same keys at every node
 *   share     time: SET of a key that the two other nodes share; each key once, the writer is the node that filled it
 *   miss      time: GET of a key that another node has modified; each key once
 *   failover  -keys A,B,...: key i is written again and again at node i mod nodes; a process id on stdin is killed, and the time is
 *             taken until the first answer to a write that was sent a millisecond or more after it
 *
 * -pause-us: so long before each command that is timed, so that what earlier ones began is over.
 * A line of JSON on stdout. In share and miss what prepares a key is not in its time: it is done for 64 keys, then these are measured. */
#include "driver.h"

#include <poll.h>
#include <signal.h>

enum { NODES_MAX = 3, BATCH = 64, INPUT = 1 << 16, KEYS_MAX = 16, PIPELINE = 128, ABANDONED_US = 1000, FAILOVER_S = 20 };

struct node {
    int fd;
    char in[INPUT];
    size_t at, len;
};

struct setup {
    struct node nodes[NODES_MAX];
    uint32_t n_nodes, first, n, bytes, pause_us;
    char value[INPUT / 2];
};
static struct setup s;

/* --- RESP, as much as GET and SET need */

static void send_all(struct node *node, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = send(node->fd, bytes, n, MSG_NOSIGNAL);
        if (done <= 0) {
            die("send: %s", strerror(errno));
        }
        bytes += done;
        n -= (size_t)done;
    }
}

/* A reply at the front of what was read: its bytes; 0: more must come. */
static size_t reply_bytes(const struct node *node)
{
    const char *from = node->in + node->at, *end = node->in + node->len, *line = memchr(from, '\n', (size_t)(end - from));
    if (line == NULL) {
        return 0;
    }
    size_t head = (size_t)(line + 1 - from);
    if (*from == '+' || *from == ':' || *from == '-' || *from == '_') {
        return head;
    }
    long value = *from == '$' ? strtol(from + 1, NULL, 10) : -2;
    if (value < -1 || value > INPUT / 2) {
        die("this is no answer to GET or SET: %.*s", (int)head, from);
    }
    size_t all = value < 0 ? head : head + (size_t)value + 2;
    return (size_t)(end - from) >= all ? all : 0;
}

static void more(struct node *node)
{
    memmove(node->in, node->in + node->at, node->len - node->at);
    node->len -= node->at;
    node->at = 0;
    ssize_t got = recv(node->fd, node->in + node->len, sizeof node->in - node->len, 0);
    if (got <= 0) {
        die("a node closed its connection");
    }
    node->len += (size_t)got;
}

/* Waits for one reply; its first byte. */
static char take(struct node *node)
{
    size_t n;
    while ((n = reply_bytes(node)) == 0) {
        more(node);
    }
    char kind = node->in[node->at];
    if (kind == '-') {
        die("refused: %.*s", (int)n, node->in + node->at);
    }
    node->at += n;
    return kind;
}

static size_t put_get(char *out, size_t size, uint32_t key)
{
    return (size_t)snprintf(out, size, "*2\r\n$3\r\nGET\r\n$16\r\nkey:%012u\r\n", key);
}

static size_t put_set(char *out, size_t size, uint32_t key)
{
    return (size_t)snprintf(out, size, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012u\r\n$%u\r\n%.*s\r\n", key, s.bytes, (int)s.bytes, s.value);
}

static void send_one(struct node *node, uint32_t key, bool set)
{
    char out[INPUT];
    send_all(node, out, set ? put_set(out, sizeof out, key) : put_get(out, sizeof out, key));
}

static uint64_t timed(struct node *node, uint32_t key, bool set)
{
    uint64_t from = now_us();
    send_one(node, key, set);
    if (take(node) != (set ? '+' : '$')) {
        die("key %u has no value", key);
    }
    return now_us() - from;
}

/* --- many at once */

/* Keys key, key + step, ... below end at one node, PIPELINE in flight. */
static void stream(struct node *node, uint32_t key, uint32_t end, uint32_t step, bool set)
{
    uint32_t next = key;
    for (uint32_t in_flight = 0; next < end || in_flight > 0;) {
        char out[INPUT];
        size_t n = 0;
        while (next < end && in_flight < PIPELINE && n + s.bytes + 128 < sizeof out) {
            n += set ? put_set(out + n, sizeof out - n, next) : put_get(out + n, sizeof out - n, next);
            next += step;
            in_flight++;
        }
        send_all(node, out, n);
        for (uint32_t half = in_flight > PIPELINE / 2 && next < end ? PIPELINE / 2 : 0; in_flight > half; in_flight--) {
            take(node);
        }
    }
}

static void fill(void)
{
    for (uint32_t i = 0; i < s.n_nodes; i++) {
        uint32_t first = s.first + (i + s.n_nodes - s.first % s.n_nodes) % s.n_nodes;
        stream(&s.nodes[i], first, s.first + s.n, s.n_nodes, true);
    }
}

static void read_all(void)
{
    for (uint32_t i = 0; i < s.n_nodes; i++) {
        stream(&s.nodes[i], s.first, s.first + s.n, 1, false);
    }
}

static void on_each(uint32_t from, uint32_t to, uint32_t shift, bool set)
{
    for (uint32_t key = from; key < to; key++) {
        struct node *node = &s.nodes[(key + shift) % s.n_nodes];
        send_one(node, key, set);
        take(node);
    }
}

static void share_or_miss(struct hist *h, bool share)
{
    uint32_t end = s.first + s.n;
    for (uint32_t from = s.first; from < end; from += BATCH) {
        uint32_t to = from + BATCH < end ? from + BATCH : end;
        on_each(from, to, share ? 1 : 0, !share); /* shared by another, or modified by who has it */
        if (share) {
            on_each(from, to, 2, false);
        }
        for (uint32_t key = from; key < to; key++) {
            if (s.pause_us > 0) {
                usleep(s.pause_us);
            }
            hist_record(h, timed(&s.nodes[share ? key % s.n_nodes : (key + 1) % s.n_nodes], key, share));
        }
    }
}

/* --- failover */

static void kill_what_stdin_says(uint64_t *killed_us)
{
    char line[32];
    ssize_t got = read(STDIN_FILENO, line, sizeof line - 1);
    line[got > 0 ? got : 0] = '\0';
    if (atoi(line) <= 0 || kill(atoi(line), SIGKILL) != 0) {
        die("there is nothing to kill: %s", line);
    }
    *killed_us = now_us();
}

static uint64_t write_key(struct node *node, const char *key)
{
    char out[512];
    int n = snprintf(out, sizeof out, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$1\r\nv\r\n", strlen(key), key);
    send_all(node, out, (size_t)n);
    return now_us();
}

static void failover(const char *const *keys, uint32_t n_keys)
{
    struct pollfd fds[NODES_MAX + 1];
    uint64_t sent_us[NODES_MAX], killed_us = 0, failover_us = 0, errors = 0, end_us = now_us() + FAILOVER_S * 1000000ull;
    for (uint32_t i = 0; i < s.n_nodes; i++) {
        fds[i] = (struct pollfd){.fd = s.nodes[i].fd, .events = POLLIN};
        sent_us[i] = write_key(&s.nodes[i], keys[i % n_keys]);
    }
    while (failover_us == 0 && now_us() < end_us) {
        fds[s.n_nodes] = (struct pollfd){.fd = killed_us == 0 ? STDIN_FILENO : -1, .events = POLLIN};
        poll(fds, s.n_nodes + 1, 1000);
        if (killed_us == 0 && fds[s.n_nodes].revents != 0) {
            kill_what_stdin_says(&killed_us);
        }
        for (uint32_t i = 0; i < s.n_nodes; i++) {
            struct node *node = &s.nodes[i];
            if (!(fds[i].revents & (POLLIN | POLLHUP))) {
                continue;
            }
            more(node);
            size_t n = reply_bytes(node);
            if (n == 0) {
                continue;
            }
            bool refused = node->in[node->at] == '-';
            errors += refused;
            failover_us = !refused && failover_us == 0 && killed_us > 0 && sent_us[i] > killed_us + ABANDONED_US ? now_us() - killed_us : failover_us;
            node->at += n;
            sent_us[i] = write_key(node, keys[i % n_keys]);
        }
    }
    printf("{\"killed\":%s,\"failover_us\":%" PRIu64 ",\"errors\":%" PRIu64 "}\n", killed_us > 0 ? "true" : "false", failover_us, errors);
}

static uint32_t split(char *list, const char **out, uint32_t max)
{
    uint32_t n = 0;
    for (char *word = strtok(list, ","); word != NULL && n < max; word = strtok(NULL, ",")) {
        out[n++] = word;
    }
    return n;
}

static void open_nodes(const char *ports)
{
    uint16_t numbers[NODES_MAX];
    s.n_nodes = read_ports(ports, numbers, NODES_MAX);
    for (uint32_t i = 0; i < s.n_nodes; i++) {
        s.nodes[i].fd = connect_loopback(numbers[i]);
    }
    if (s.n_nodes == 0) {
        die("-ports: of which nodes?");
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[argc - 1] : "", *ports = "", *keys[KEYS_MAX] = {"key:0"};
    uint32_t n_keys = 1;
    struct hist h;
    s.n = 1000;
    s.bytes = 32;
    for (int i = 1; i + 2 < argc; i += 2) {
        ports = strcmp(argv[i], "-ports") == 0 ? argv[i + 1] : ports;
        s.first = strcmp(argv[i], "-first") == 0 ? (uint32_t)atol(argv[i + 1]) : s.first;
        s.n = strcmp(argv[i], "-n") == 0 ? (uint32_t)atol(argv[i + 1]) : s.n;
        s.bytes = strcmp(argv[i], "-bytes") == 0 ? (uint32_t)atol(argv[i + 1]) : s.bytes;
        s.pause_us = strcmp(argv[i], "-pause-us") == 0 ? (uint32_t)atol(argv[i + 1]) : s.pause_us;
        n_keys = strcmp(argv[i], "-keys") == 0 ? split(argv[i + 1], keys, KEYS_MAX) : n_keys;
    }
    if (s.bytes == 0 || s.bytes > INPUT / 4) {
        die("-bytes: 1 to %d", INPUT / 4);
    }
    memset(s.value, 'x', s.bytes);
    hist_init(&h);
    open_nodes(ports);
    struct meters from = meters_read(NULL);
    if (strcmp(mode, "failover") == 0) {
        failover(keys, n_keys);
        return 0;
    }
    if (strcmp(mode, "fill") == 0) {
        fill();
    } else if (strcmp(mode, "read") == 0) {
        read_all();
    } else if ((strcmp(mode, "share") == 0 || strcmp(mode, "miss") == 0) && s.n_nodes == NODES_MAX) {
        share_or_miss(&h, strcmp(mode, "share") == 0);
    } else {
        die("usage: see the head of bench/cache_driver.c");
    }
    print_result(mode, s.n, 0, from, meters_read(NULL), &h);
    return 0;
}
