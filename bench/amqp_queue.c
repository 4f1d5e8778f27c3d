/* Load on a RabbitMQ quorum queue, with librabbitmq: one thread; each connection has `window` persistent messages unconfirmed.
 *
 *   amqp_queue -ports 5672,5673,5674 -c 64 -window 1 -s 10 publish      declares the quorum queue `bench` on three nodes, publishes with confirms
 *   amqp_queue -ports ... -n 100000 -batch 256 consume                  fills it, then one consumer with prefetch `batch` and acks per message
 *
 * A confirm comes when a majority of the queue's members has written and flushed the message. */
#include "driver.h"

#include <poll.h>
#include <amqp.h>
#include <amqp_tcp_socket.h>

enum { CONNS_MAX = 256 };

struct conn {
    amqp_connection_state_t c;
    uint64_t sent, confirmed; /* delivery tags: up to here */
    uint64_t begun_us[4096];  /* of the messages unconfirmed, by tag */
};

static struct {
    uint16_t ports[16];
    uint32_t n_ports, connections, window, batch;
    uint64_t seconds, warmup_s, total;
    size_t bytes;
    const char *pids;
} opt = {.connections = 64, .window = 1, .batch = 256, .seconds = 10, .warmup_s = 2, .total = 100000, .bytes = 128};

static struct conn *conns;
static struct hist latency;
static uint64_t confirmed, refused, published;
static bool measuring;
static char filler[65536];

static void check(amqp_rpc_reply_t r, const char *what)
{
    if (r.reply_type != AMQP_RESPONSE_NORMAL) {
        die("amqp: %s failed (%s)", what, r.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION ? amqp_error_string2(r.library_error) : "refused");
    }
}

static amqp_connection_state_t open_conn(uint32_t i)
{
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *s = amqp_tcp_socket_new(c);
    if (s == NULL || amqp_socket_open(s, "127.0.0.1", opt.ports[i % opt.n_ports]) != 0) {
        die("127.0.0.1:%u can not be reached", opt.ports[i % opt.n_ports]);
    }
    check(amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"), "login");
    amqp_channel_open(c, 1);
    check(amqp_get_rpc_reply(c), "channel.open");
    return c;
}

static void declare(amqp_connection_state_t c)
{
    amqp_table_entry_t arguments[2] = {0};
    arguments[0].key = amqp_cstring_bytes("x-queue-type");
    arguments[0].value.kind = AMQP_FIELD_KIND_UTF8;
    arguments[0].value.value.bytes = amqp_cstring_bytes("quorum");
    arguments[1].key = amqp_cstring_bytes("x-quorum-initial-group-size");
    arguments[1].value.kind = AMQP_FIELD_KIND_I32;
    arguments[1].value.value.i32 = 3;
    amqp_table_t table = {.num_entries = 2, .entries = arguments};
    amqp_queue_delete(c, 1, amqp_cstring_bytes("bench"), 0, 0);
    amqp_get_rpc_reply(c);
    amqp_queue_declare(c, 1, amqp_cstring_bytes("bench"), 0, 1, 0, 0, table);
    check(amqp_get_rpc_reply(c), "queue.declare");
}

static void publish_one(struct conn *k, uint64_t now)
{
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = 2};
    amqp_bytes_t body = {.len = opt.bytes, .bytes = filler};
    if (amqp_basic_publish(k->c, 1, amqp_empty_bytes, amqp_cstring_bytes("bench"), 0, 0, &properties, body) != AMQP_STATUS_OK) {
        die("amqp: publish failed");
    }
    k->begun_us[++k->sent % 4096] = now;
    published++;
}

/* A confirm names a tag, or all up to it. */
static void on_confirm(struct conn *k, uint64_t tag, bool multiple, bool ok, uint64_t now)
{
    uint64_t from = multiple ? k->confirmed + 1 : tag, count = 0;
    for (uint64_t t = from; t <= tag; t++) {
        if (k->begun_us[t % 4096] == 0) {
            continue; /* confirmed by name before */
        }
        if (measuring) {
            hist_record(&latency, now - k->begun_us[t % 4096]);
        }
        k->begun_us[t % 4096] = 0;
        count++;
    }
    while (k->confirmed < k->sent && k->begun_us[(k->confirmed + 1) % 4096] == 0) {
        k->confirmed++;
    }
    confirmed += ok ? count : 0;
    refused += ok ? 0 : count;
}

/* All frames that are there; then as many messages as were confirmed. */
static void serve(struct conn *k, bool more)
{
    amqp_frame_t f;
    struct timeval none = {0, 0};
    while (amqp_simple_wait_frame_noblock(k->c, &f, &none) == AMQP_STATUS_OK) {
        if (f.frame_type != AMQP_FRAME_METHOD) {
            continue;
        }
        if (f.payload.method.id == AMQP_BASIC_ACK_METHOD) {
            amqp_basic_ack_t *a = f.payload.method.decoded;
            on_confirm(k, a->delivery_tag, a->multiple, true, now_us());
        } else if (f.payload.method.id == AMQP_BASIC_NACK_METHOD) {
            amqp_basic_nack_t *a = f.payload.method.decoded;
            on_confirm(k, a->delivery_tag, a->multiple, false, now_us());
        } else if (f.payload.method.id == AMQP_CHANNEL_CLOSE_METHOD || f.payload.method.id == AMQP_CONNECTION_CLOSE_METHOD) {
            die("amqp: the server closed the channel");
        }
    }
    amqp_maybe_release_buffers(k->c);
    uint64_t unconfirmed = 0;
    for (uint64_t t = k->confirmed + 1; t <= k->sent; t++) {
        unconfirmed += k->begun_us[t % 4096] != 0;
    }
    while (more && unconfirmed < opt.window && k->sent - k->confirmed < 4000) {
        publish_one(k, now_us());
        unconfirmed++;
    }
}

static void turn(int wait_ms, bool more)
{
    struct pollfd fds[CONNS_MAX];
    for (uint32_t i = 0; i < opt.connections; i++) {
        fds[i] = (struct pollfd){.fd = amqp_get_sockfd(conns[i].c), .events = POLLIN};
    }
    poll(fds, opt.connections, wait_ms);
    for (uint32_t i = 0; i < opt.connections; i++) {
        if (fds[i].revents != 0) {
            serve(&conns[i], more);
        }
    }
}

static void open_all(void)
{
    conns = calloc(opt.connections, sizeof *conns);
    for (uint32_t i = 0; i < opt.connections; i++) {
        conns[i].c = open_conn(i);
        if (i == 0) {
            declare(conns[0].c);
        }
        amqp_confirm_select(conns[i].c, 1);
        check(amqp_get_rpc_reply(conns[i].c), "confirm.select");
    }
    for (uint32_t i = 0; i < opt.connections; i++) {
        serve(&conns[i], true);
    }
}

static void mode_publish(void)
{
    open_all();
    uint64_t from_us = now_us() + opt.warmup_s * 1000000, end_us = from_us + opt.seconds * 1000000;
    while (now_us() < from_us) {
        turn(10, true);
    }
    uint64_t before = confirmed;
    measuring = true;
    struct meters from = meters_read(opt.pids);
    while (now_us() < end_us) {
        turn(10, true);
    }
    struct meters to = meters_read(opt.pids);
    print_result("publish", confirmed - before, refused, from, to, &latency);
}

static void mode_consume(void)
{
    uint64_t received = 0;
    opt.connections = 4;
    opt.window = 256;
    open_all();
    while (confirmed < opt.total) {
        turn(10, published < opt.total);
    }
    amqp_connection_state_t c = open_conn(0);
    amqp_basic_qos(c, 1, 0, (uint16_t)opt.batch, 0);
    check(amqp_get_rpc_reply(c), "basic.qos");
    struct meters from = meters_read(opt.pids);
    amqp_basic_consume(c, 1, amqp_cstring_bytes("bench"), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
    check(amqp_get_rpc_reply(c), "basic.consume");
    while (received < opt.total) {
        amqp_envelope_t e;
        struct timeval wait = {30, 0};
        amqp_maybe_release_buffers(c);
        check(amqp_consume_message(c, &e, &wait, 0), "consume");
        amqp_basic_ack(c, 1, e.delivery_tag, 0);
        amqp_destroy_envelope(&e);
        received++;
    }
    struct meters to = meters_read(opt.pids);
    print_result("consume", received, 0, from, to, &latency);
}

int main(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t n = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "-ports") == 0) {
            opt.n_ports = read_ports(argv[i + 1], opt.ports, 16);
        } else if (strcmp(argv[i], "-c") == 0) {
            opt.connections = n < CONNS_MAX ? (uint32_t)n : CONNS_MAX;
        } else if (strcmp(argv[i], "-window") == 0) {
            opt.window = n < 2048 ? (uint32_t)n : 2048;
        } else if (strcmp(argv[i], "-batch") == 0) {
            opt.batch = (uint32_t)n;
        } else if (strcmp(argv[i], "-s") == 0) {
            opt.seconds = n;
        } else if (strcmp(argv[i], "-warmup") == 0) {
            opt.warmup_s = n;
        } else if (strcmp(argv[i], "-n") == 0) {
            opt.total = n;
        } else if (strcmp(argv[i], "-server-pids") == 0) {
            opt.pids = argv[i + 1];
        } else {
            die("unknown option %s", argv[i]);
        }
    }
    bool consume = argc > 1 && strcmp(argv[argc - 1], "consume") == 0;
    if (argc % 2 != 0 || opt.n_ports == 0 || (!consume && strcmp(argv[argc - 1], "publish") != 0)) {
        die("usage: amqp_queue -ports P,... [-option value]... publish|consume; see the head of bench/amqp_queue.c");
    }
    hist_init(&latency);
    (consume ? mode_consume : mode_publish)();
    return 0;
}
