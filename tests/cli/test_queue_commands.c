/* The queue's commands against a broker in the same process: lines become messages once each though answers are refused or lost, messages
 * become lines, and an acknowledgement follows its line. */
#include "cli/cli.h"
#include "fake_server.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { MESSAGES_MAX = 4096, TEXT_MAX = 64, PARTITIONS = 2 };

struct stored {
    char payload[TEXT_MAX], key[TEXT_MAX], id[TEXT_MAX], headers[TEXT_MAX];
    uint32_t partition, offset;
    bool acked;
};

/* Written by the server's thread while a command runs, read by the test after it ended. */
struct broker {
    struct stored m[MESSAGES_MAX];
    uint32_t n, ends[PARTITIONS], next, calls, busy_every, close_every, left, claims, acks;
    char last[512];
    bool forever; /* a claim that finds nothing is never answered */
    uint32_t infos, grow_at; /* at this question for INFO one more message is there */
};

static void keep(char *out, slice_t s)
{
    size_t n = s.len < TEXT_MAX - 1 ? s.len : TEXT_MAX - 1;
    memcpy(out, n > 0 ? s.ptr : (const uint8_t *)"", n);
    out[n] = '\0';
}

static slice_t after(uint32_t argc, const slice_t *argv, const char *word)
{
    for (uint32_t i = 2; i + 1 < argc; i++) {
        if (slice_ieq(argv[i], word)) {
            return argv[i + 1];
        }
    }
    return SLICE_NONE;
}

static void put_id(struct buf *out, const struct stored *s)
{
    char id[64];
    snprintf(id, sizeof id, "t:%u:%u", s->partition, s->offset);
    resp_bulk_str(out, id);
}

static void on_publish(struct broker *b, uint32_t argc, const slice_t *argv, struct buf *out)
{
    slice_t id = after(argc, argv, "ID");
    for (uint32_t i = 0; i < b->n; i++) {
        if (slice_eq(slice_str(b->m[i].id), id)) {
            put_id(out, &b->m[i]);
            return;
        }
    }
    struct stored *s = &b->m[b->n];
    keep(s->payload, argv[2]);
    keep(s->id, id);
    keep(s->key, after(argc, argv, "KEY"));
    keep(s->headers, after(argc, argv, "HEADER"));
    s->partition = b->n++ % PARTITIONS;
    s->offset = b->ends[s->partition]++;
    put_id(out, s);
}

static void put_message(struct buf *out, const struct stored *s, bool receipt)
{
    char text[64];
    resp_map(out, receipt ? 4 : 3);
    resp_bulk_str(out, "id");
    put_id(out, s);
    resp_bulk_str(out, "key");
    resp_null(out);
    resp_bulk_str(out, "payload");
    resp_bulk_str(out, s->payload);
    if (receipt) {
        snprintf(text, sizeof text, "%u-1-%u-1", s->partition, s->offset);
        resp_bulk_str(out, "receipt");
        resp_bulk_str(out, text);
    }
}

static enum fake_verdict on_consume(struct broker *b, uint32_t argc, const slice_t *argv, struct buf *out)
{
    uint32_t count = (uint32_t)strtoul((const char *)after(argc, argv, "COUNT").ptr, NULL, 10), left = b->n - b->next;
    count = count < left ? count : left;
    b->claims++;
    if (count == 0) {
        resp_null(out);
        return b->forever ? FAKE_SILENT : FAKE_REPLY;
    }
    resp_array(out, count);
    for (uint32_t i = 0; i < count; i++) {
        put_message(out, &b->m[b->next++], true);
    }
    return FAKE_REPLY;
}

static void on_ack(struct broker *b, uint32_t argc, const slice_t *argv, struct buf *out)
{
    int64_t n = 0;
    for (uint32_t i = 4; i < argc; i++) {
        uint32_t partition, offset;
        assert_int_equal(sscanf((const char *)argv[i].ptr, "%u-1-%u-1", &partition, &offset), 2);
        for (uint32_t k = 0; k < b->n; k++) {
            if (b->m[k].partition == partition && b->m[k].offset == offset) {
                n += !b->m[k].acked;
                b->m[k].acked = true;
            }
        }
    }
    b->acks++;
    resp_int(out, n);
}

static void on_info(struct broker *b, struct buf *out)
{
    if (++b->infos == b->grow_at) {
        struct stored *s = &b->m[b->n];
        strcpy(s->payload, "late");
        s->partition = b->n++ % PARTITIONS;
        s->offset = b->ends[s->partition]++;
    }
    resp_map(out, 3);
    resp_bulk_str(out, "topic");
    resp_bulk_str(out, "t");
    resp_bulk_str(out, "partitions");
    resp_int(out, PARTITIONS);
    resp_bulk_str(out, "places");
    resp_array(out, PARTITIONS);
    for (uint32_t i = 0; i < PARTITIONS; i++) {
        resp_map(out, 3);
        resp_bulk_str(out, "partition");
        resp_int(out, i);
        resp_bulk_str(out, "start");
        resp_int(out, 0);
        resp_bulk_str(out, "end");
        resp_int(out, b->ends[i]);
    }
}

static void on_peek(struct broker *b, uint32_t argc, const slice_t *argv, struct buf *out)
{
    uint32_t partition = (uint32_t)strtoul((const char *)argv[2].ptr, NULL, 10), from = (uint32_t)strtoul((const char *)argv[3].ptr, NULL, 10);
    uint32_t count = (uint32_t)strtoul((const char *)after(argc, argv, "COUNT").ptr, NULL, 10), n = b->ends[partition] - from;
    n = n < count ? n : count;
    resp_array(out, n);
    for (uint32_t i = 0; i < b->n; i++) {
        if (b->m[i].partition == partition && b->m[i].offset >= from && b->m[i].offset < from + n) {
            put_message(out, &b->m[i], false);
        }
    }
}

static enum fake_verdict broker_answer(void *arg, uint32_t argc, const slice_t *argv, struct buf *out)
{
    struct broker *b = arg;
    size_t used = 0;
    for (uint32_t i = 0; i < argc && used < sizeof b->last - 1; i++) {
        used += (size_t)snprintf(b->last + used, sizeof b->last - used, "%s%.*s", i ? " " : "", (int)argv[i].len, (const char *)argv[i].ptr);
    }
    b->calls++;
    if (b->busy_every && b->calls % b->busy_every == 0) {
        resp_error(out, "BUSY", "later");
    } else if (slice_ieq(argv[0], "QUEUE.PUBLISH")) {
        on_publish(b, argc, argv, out);
    } else if (slice_ieq(argv[0], "QUEUE.CONSUME")) {
        return on_consume(b, argc, argv, out);
    } else if (slice_ieq(argv[0], "QUEUE.ACK")) {
        on_ack(b, argc, argv, out);
    } else if (slice_ieq(argv[0], "QUEUE.INFO")) {
        on_info(b, out);
    } else if (slice_ieq(argv[0], "QUEUE.PEEK")) {
        on_peek(b, argc, argv, out);
    } else {
        b->left += slice_ieq(argv[0], "QUEUE.LEAVE");
        resp_simple(out, "OK");
    }
    return b->close_every && b->calls % b->close_every == 0 ? FAKE_CLOSE : FAKE_REPLY; /* done, but the answer is lost */
}

static struct fake_output ask(struct broker *b, const char *words)
{
    struct fake_server *s = fake_server_start(broker_answer, b);
    uint16_t ports[] = {fake_server_port(s), 0};
    struct fake_output o = fake_run(ports, words);
    fake_server_stop(s);
    return o;
}

/* Runs and forgets what was printed. */
static void run(struct broker *b, const char *words, int code)
{
    struct fake_output o = ask(b, words);
    if (o.code != code) {
        fail_msg("%s: exit code %d, not %d: %s", words, o.code, code, o.err);
    }
    fake_output_free(&o);
}

static char path[] = "/tmp/synaxis-test-queue.XXXXXX";

/* A file of `text`; its name is in path. */
static void write_file(const char *text)
{
    strcpy(path, "/tmp/synaxis-test-queue.XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void write_lines(uint32_t n)
{
    struct buf b;
    buf_init(&b);
    for (uint32_t i = 1; i <= n; i++) {
        buf_printf(&b, "message %u\n", i);
    }
    buf_append(&b, "", 1);
    write_file((const char *)b.ptr);
    buf_fini(&b);
}

static struct broker *broker(void)
{
    struct broker *b = calloc(1, sizeof *b);
    assert_non_null(b);
    return b;
}

static void an_argument_is_one_message(void **state)
{
    (void)state;
    struct broker *b = broker();
    struct fake_output o = ask(b, "queue publish t hello --key alice --header kind=greeting --delay 2s --id 7");
    assert_int_equal(o.code, CLI_OK);
    assert_string_equal(o.out, "t:0:0\n");
    assert_string_equal(b->last, "QUEUE.PUBLISH t hello KEY alice ID 7 DELAY 2000 HEADER kind greeting");
    fake_output_free(&o);
    free(b);
}

static void lines_are_messages_in_order(void **state)
{
    (void)state;
    struct broker *b = broker();
    char words[200];
    write_file("first\n\nthird without an end");
    snprintf(words, sizeof words, "queue publish t -f %s --id-prefix in-", path);
    run(b, words, CLI_OK);
    assert_int_equal(b->n, 3);
    assert_string_equal(b->m[0].payload, "first");
    assert_string_equal(b->m[1].payload, "");
    assert_string_equal(b->m[2].payload, "third without an end");
    assert_string_equal(b->m[2].id, "in-3");
    run(b, words, CLI_OK); /* again: nothing twice */
    assert_int_equal(b->n, 3);
    unlink(path);
    free(b);
}

static void nothing_is_lost_or_doubled(void **state)
{
    (void)state;
    static const struct { uint32_t busy_every, close_every; } cases[] = {{0, 0}, {7, 0}, {0, 101}, {13, 97}};
    char words[200];
    write_lines(1500);
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct broker *b = broker();
        b->busy_every = cases[i].busy_every;
        b->close_every = cases[i].close_every;
        snprintf(words, sizeof words, "queue publish t -f %s -q", path);
        run(b, words, CLI_OK);
        assert_int_equal(b->n, 1500);
        free(b);
    }
    unlink(path);
}

static void keys_come_from_the_lines(void **state)
{
    (void)state;
    struct broker *b = broker();
    char words[200];
    write_file("alice=>a=>b\n=>no key\nbad line\nnever sent\n");
    snprintf(words, sizeof words, "queue publish t -f %s --key-sep =>", path);
    struct fake_output o = ask(b, words);
    assert_int_equal(o.code, CLI_FAILED);
    assert_non_null(strstr(o.err, "line 3"));
    assert_non_null(strstr(o.err, "2 messages published"));
    assert_int_equal(b->n, 2);
    assert_string_equal(b->m[0].key, "alice");
    assert_string_equal(b->m[0].payload, "a=>b");
    assert_string_equal(b->m[1].key, "");
    fake_output_free(&o);
    unlink(path);
    free(b);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    struct broker *b = broker();
    static const char *const wrong[] = {"queue publish t x --key-sep ,", "queue publish t x -f /dev/null", "queue publish t --id 7",
                                        "queue publish t x --header none", "queue publish t --key a --key-sep ,", "queue consume t",
                                        "queue lag t", "queue alter t", "queue create t --ordered both", "queue seek t --group g"};
    for (uint32_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        run(b, wrong[i], CLI_USAGE);
    }
    assert_int_equal(b->calls, 0);
    run(b, "queue publish t -f /nonexistent", CLI_FAILED);
    free(b);
}

static void consumed_lines_are_acknowledged(void **state)
{
    (void)state;
    struct broker *b = broker();
    run(b, "queue publish t one", CLI_OK);
    run(b, "queue publish t two", CLI_OK);
    run(b, "queue publish t three", CLI_OK);
    struct fake_output o = ask(b, "queue consume t --group g --count 2");
    assert_int_equal(o.code, CLI_OK);
    assert_string_equal(o.out, "one\ntwo\n");
    assert_true(b->m[0].acked && b->m[1].acked && !b->m[2].acked);
    assert_int_equal(b->left, 1);
    fake_output_free(&o);
    o = ask(b, "queue consume t --group g --block 0 --no-ack --json");
    assert_int_equal(o.code, CLI_OK);
    assert_non_null(strstr(o.out, "\"payload\":\"three\""));
    assert_non_null(strstr(o.out, "\"receipt\":\"0-1-1-1\""));
    assert_non_null(strstr(o.out, "\"key\":null"));
    assert_false(b->m[2].acked);
    fake_output_free(&o);
    free(b);
}

static void many_messages_in_batches(void **state)
{
    (void)state;
    struct broker *b = broker();
    char words[200];
    write_lines(350);
    snprintf(words, sizeof words, "queue publish t -q -f %s", path);
    run(b, words, CLI_OK);
    run(b, "queue consume t --group g --block 0", CLI_OK);
    for (uint32_t i = 0; i < b->n; i++) {
        assert_true(b->m[i].acked);
    }
    assert_int_equal(b->acks, 4);
    unlink(path);
    free(b);
}

static void terminate_me_later(void)
{
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        usleep(400000);
        kill(parent, SIGTERM);
        _exit(0);
    }
}

static void a_signal_ends_a_wait_in_order(void **state)
{
    (void)state;
    struct broker *b = broker();
    b->forever = true;
    terminate_me_later();
    run(b, "queue consume t --group g", CLI_OK);
    assert_int_equal(b->left, 1);
    free(b);
}

static void tail_shows_the_last_of_each_partition(void **state)
{
    (void)state;
    struct broker *b = broker();
    char words[200];
    write_lines(600);
    snprintf(words, sizeof words, "queue publish t -q -f %s", path);
    run(b, words, CLI_OK);
    struct fake_output o = ask(b, "queue tail t --count 2");
    assert_int_equal(o.code, CLI_OK);
    assert_string_equal(o.out, "message 597\nmessage 599\nmessage 598\nmessage 600\n");
    assert_int_equal(b->claims, 0);
    fake_output_free(&o);
    o = ask(b, "queue tail t --count 300 --json");
    uint32_t lines = 0;
    for (const char *p = o.out; (p = strchr(p, '\n')) != NULL; p++) {
        lines++;
    }
    assert_int_equal(lines, 600);
    fake_output_free(&o);
    unlink(path);
    free(b);
}

static void tail_follows_until_a_signal(void **state)
{
    (void)state;
    struct broker *b = broker();
    run(b, "queue publish t early", CLI_OK);
    b->grow_at = 3;
    terminate_me_later();
    struct fake_output o = ask(b, "queue tail t -f --interval 50ms");
    assert_int_equal(o.code, CLI_OK);
    assert_string_equal(o.out, "early\nlate\n");
    assert_true(b->infos > 3 && b->left == 0);
    fake_output_free(&o);
    free(b);
}

static void questions_are_sent_as_they_are_meant(void **state)
{
    (void)state;
    static const struct { const char *words, *command; } cases[] = {
        {"queue create t --partitions 6 --max-deliver 5 --visibility 30s --backoff 1s --backoff-max 1m --ordered key",
         "QUEUE.CREATE t PARTITIONS 6 MAXDELIVER 5 VISIBILITY 30000 BACKOFF 1000 BACKOFFMAX 60000 ORDERED key"},
        {"queue create t --replicas 3 --retention 1000 --max-age 1h", "QUEUE.CREATE t REPLICAS 3 RETENTION 1000 MAXAGE 3600000"},
        {"queue alter t --max-deliver 0", "QUEUE.ALTER t MAXDELIVER 0"},
        {"queue delete t", "QUEUE.DELETE t"},
        {"queue list", "QUEUE.LIST"},
        {"queue groups t", "QUEUE.GROUPS t"},
        {"queue lag t --group g", "QUEUE.LAG t GROUP g"},
        {"queue seek t BEGIN -g g", "QUEUE.SEEK t GROUP g BEGIN"},
        {"queue dlq t -g g --count 5", "QUEUE.DLQ t GROUP g COUNT 5"},
        {"queue redrive t -g g", "QUEUE.REDRIVE t GROUP g"},
        {"queue forget t -g g", "QUEUE.FORGET t GROUP g"}};
    struct broker *b = broker();
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run(b, cases[i].words, CLI_OK);
        assert_string_equal(b->last, cases[i].command);
    }
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_argument_is_one_message),
        cmocka_unit_test(lines_are_messages_in_order),
        cmocka_unit_test(nothing_is_lost_or_doubled),
        cmocka_unit_test(keys_come_from_the_lines),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(consumed_lines_are_acknowledged),
        cmocka_unit_test(many_messages_in_batches),
        cmocka_unit_test(a_signal_ends_a_wait_in_order),
        cmocka_unit_test(tail_shows_the_last_of_each_partition),
        cmocka_unit_test(tail_follows_until_a_signal),
        cmocka_unit_test(questions_are_sent_as_they_are_meant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
