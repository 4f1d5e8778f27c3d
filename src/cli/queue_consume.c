/* synaxis queue consume: a member of a consumer group whose messages become lines on standard output.
 *
 * I1: a message is acknowledged after its line was written and flushed; so one that was not seen is delivered again, and after a crash some
 * are seen twice. Nothing polls: the server holds the question until there is a message.
 * SIGINT and SIGTERM end it in order: the claim under way is withdrawn by closing its connection, and the consumer leaves its group, so
 * that another member gets its partitions at once. */
#include "cli/cli.h"
#include "cli/cli_ask.h"
#include "cli/cli_output.h"
#include "cli/commands.h"
#include "cli/queue_output.h"
#include "communication/resp.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { CLAIM_COUNT = 100, CLAIM_BLOCK_MS = 5000, EARLY_PAUSE_MS = 100 };

struct consumer {
    struct cli *c;
    struct resp_client client;
    char name[128];
    uint64_t received, acked;
    struct buf receipts;            /* of the batch; lens[i] bytes each */
    size_t lens[CLAIM_COUNT];
    uint32_t n;
};

static void remember_receipt(struct consumer *k, slice_t message)
{
    struct resp_value v;
    if (k->n < CLAIM_COUNT && resp_map_get(message, "receipt", &v) && v.type != RT_NULL) {
        buf_append_slice(&k->receipts, v.str);
        k->lens[k->n++] = v.str.len;
    }
}

/* Asks for messages; they are written to c->out and their receipts kept. *count: how many. */
static int claim(struct consumer *k, uint64_t block_ms, uint32_t *count)
{
    struct cli *c = k->c;
    struct words w = {.n = 0};
    struct resp_value v;
    slice_t reply;
    uint64_t left = c->opt.count == CLI_UNSET ? CLAIM_COUNT : c->opt.count - k->received;
    words_add(&w, "QUEUE.CONSUME");
    words_add(&w, c->argv[0]);
    words_add(&w, "GROUP");
    words_add(&w, c->opt.group);
    words_add(&w, "CONSUMER");
    words_add(&w, k->name);
    words_add(&w, "COUNT");
    words_number(&w, left < CLAIM_COUNT ? left : CLAIM_COUNT);
    if (block_ms > 0) {
        words_add(&w, "BLOCK");
        words_number(&w, block_ms);
    }
    if (c->opt.visibility_ms != CLI_UNSET) {
        words_add(&w, "VISIBILITY");
        words_number(&w, c->opt.visibility_ms);
    }
    *count = 0;
    uint64_t wait_ms = c->opt.timeout_ms + block_ms;
    enum call_status s = resp_call(&k->client, now_ms() + wait_ms, w.v, w.n, &reply);
    if (s != CALL_OK) {
        return queue_stop != 0 ? CLI_OK : cli_no_answer(c, &k->client, s, wait_ms);
    }
    struct reader r = reader_of(reply);
    if (!resp_next(&r, &v) || (v.type != RT_ARRAY && v.type != RT_NULL)) {
        return cli_refused(c, reply);
    }
    for (uint32_t i = 0; v.type == RT_ARRAY && i < v.count; i++) {
        slice_t message = queue_next_message(&r);
        queue_put_message(c, message);
        remember_receipt(k, message);
        ++*count;
    }
    return CLI_OK;
}

/* I1: only after the batch's lines are out. */
static int acknowledge(struct consumer *k)
{
    struct cli *c = k->c;
    slice_t argv[4 + CLAIM_COUNT] = {SLICE_LIT("QUEUE.ACK"), slice_str(c->argv[0]), SLICE_LIT("GROUP"), slice_str(c->opt.group)};
    struct resp_value v;
    slice_t reply;
    size_t at = 0;
    for (uint32_t i = 0; i < k->n; i++) {
        argv[4 + i] = slice_of(k->receipts.ptr + at, k->lens[i]);
        at += k->lens[i];
    }
    enum call_status s = resp_call(&k->client, now_ms() + c->opt.timeout_ms, argv, 4 + k->n, &reply);
    if (s != CALL_OK) {
        return queue_stop != 0 ? CLI_OK : cli_no_answer(c, &k->client, s, c->opt.timeout_ms);
    }
    struct reader r = reader_of(reply);
    if (!resp_next(&r, &v) || v.type != RT_INT) {
        return cli_refused(c, reply);
    }
    k->acked += (uint64_t)v.num;
    if ((uint64_t)v.num < k->n && !c->opt.quiet) {
        fprintf(c->err, "synaxis: queue consume: %" PRIu64 " of %u acknowledgements came too late; those messages are delivered again\n",
                k->n - (uint64_t)v.num, k->n);
    }
    return CLI_OK;
}

/* A server that answers at once though it was asked to wait (a member that has no partition, say) is not flooded with questions. */
static void nothing_came(uint64_t asked_ms)
{
    struct timespec t = {.tv_nsec = EARLY_PAUSE_MS * 1000000};
    if (now_ms() - asked_ms < EARLY_PAUSE_MS) {
        nanosleep(&t, NULL);
    }
}

static int consume(struct consumer *k)
{
    struct cli *c = k->c;
    int code = CLI_OK;
    bool ends = c->opt.block_ms != CLI_UNSET;
    uint64_t block_ms = ends ? c->opt.block_ms : CLAIM_BLOCK_MS, moved_ms = now_ms();
    while (code == CLI_OK && queue_stop == 0 && k->received < c->opt.count) {
        uint32_t count;
        uint64_t asked_ms = now_ms();
        buf_clear(&k->receipts);
        k->n = 0;
        code = claim(k, block_ms, &count);
        if (count == 0 && (code != CLI_OK || (ends && now_ms() - moved_ms >= block_ms))) {
            break;
        }
        if (count == 0) {
            nothing_came(asked_ms);
            continue;
        }
        moved_ms = now_ms();
        if (fflush(c->out) != 0) {
            fprintf(c->err, "synaxis: queue consume: standard output: %s\n  %u messages were not acknowledged and are delivered again.\n",
                    strerror(errno), count);
            return CLI_FAILED;
        }
        k->received += count;
        if (code == CLI_OK && k->n > 0 && !c->opt.no_ack) {
            code = acknowledge(k);
        }
    }
    return code;
}

/* Best effort: a member that is not heard of is taken out by its TTL too. */
static void leave(struct consumer *k)
{
    struct words w = {.n = 0};
    slice_t reply;
    words_add(&w, "QUEUE.LEAVE");
    words_add(&w, k->c->argv[0]);
    words_add(&w, "GROUP");
    words_add(&w, k->c->opt.group);
    words_add(&w, "CONSUMER");
    words_add(&w, k->name);
    k->client.stop = NULL;
    resp_call(&k->client, now_ms() + k->c->opt.timeout_ms, w.v, w.n, &reply);
}

int cmd_queue_consume(struct cli *c)
{
    struct consumer k = {.c = c};
    struct queue_signals before;
    char id[17], host[64] = "?";
    if (!queue_needs_group(c)) {
        return CLI_USAGE;
    }
    gethostname(host, sizeof host - 1);
    cli_random_id(id);
    snprintf(k.name, sizeof k.name, "cli:%s/%d/%s", host, (int)getpid(), id);
    if (c->opt.consumer != NULL) {
        snprintf(k.name, sizeof k.name, "%s", c->opt.consumer);
    }
    int code = cli_client(c, &k.client);
    if (code != CLI_OK) {
        return code;
    }
    buf_init(&k.receipts);
    queue_catch_signals(&before);
    k.client.stop = &queue_stop;
    code = consume(&k);
    leave(&k);
    queue_restore_signals(&before);
    if (c->err == stderr && isatty(STDERR_FILENO) && !c->opt.quiet) {
        fprintf(c->err, "%" PRIu64 " messages, %" PRIu64 " acknowledged\n", k.received, k.acked);
    }
    buf_fini(&k.receipts);
    resp_client_fini(&k.client);
    return code;
}
