/* synaxis queue tail: the last messages of a topic, and with --follow those that come, without taking part.
 *
 * A consumer group of its own would wait at the server instead of asking, but it would also count: a topic without other groups would lose
 * what tail has seen, and a tail that was killed would keep every message from then on. So tail asks for the partitions' ends (QUEUE.INFO)
 * every --interval and reads (QUEUE.PEEK) those that grew: one small question when nothing happens. */
#include "cli/cli.h"
#include "cli/cli_ask.h"
#include "cli/commands.h"
#include "cli/queue_output.h"
#include "communication/resp.h"

#include <stdlib.h>
#include <time.h>

enum { PEEK_COUNT = 256, LAST_DEFAULT = 10 };

struct place {
    uint64_t partition, start, end, next; /* next: the first offset not shown */
};

struct tail {
    struct cli *c;
    struct resp_client client;
    struct place *places;
    uint32_t n;
};

static bool number_of(slice_t map, const char *key, uint64_t *out)
{
    struct resp_value v;
    bool found = resp_map_get(map, key, &v) && v.type == RT_INT && v.num >= 0;
    *out = found ? (uint64_t)v.num : 0;
    return found;
}

/* INFO's rows of partitions, wherever in the reply they stand: the array whose maps have a partition, a start and an end. */
static bool partition_rows(slice_t info, struct reader *rows, uint32_t *n)
{
    struct reader r = reader_of(info);
    struct resp_value map, v, found;
    if (!resp_next(&r, &map) || map.type != RT_MAP) {
        return false;
    }
    for (uint32_t i = 0; i < map.count && resp_skip(&r); i++) {
        struct reader value = r, first;
        bool array = resp_next(&value, &v) && v.type == RT_ARRAY && v.count > 0;
        first = value;
        if (array && resp_map_get(queue_next_message(&first), "partition", &found)) {
            *rows = value;
            *n = v.count;
            return true;
        }
        if (!resp_skip(&r)) {
            return false;
        }
    }
    return false;
}

static int read_ends(struct tail *t)
{
    struct words w = {.n = 0};
    struct reader rows;
    slice_t reply;
    uint32_t n = 0;
    words_add(&w, "QUEUE.INFO");
    words_add(&w, t->c->argv[0]);
    int code = cli_ask(t->c, &t->client, &w, 0, &reply);
    if (code != CLI_OK) {
        return queue_stop != 0 ? CLI_OK : code;
    }
    if (!partition_rows(reply, &rows, &n)) {
        return cli_refused(t->c, reply);
    }
    if (t->places == NULL) {
        t->places = calloc(n > 0 ? n : 1, sizeof *t->places);
        t->n = n;
    }
    for (uint32_t i = 0; i < n && i < t->n && t->places != NULL; i++) {
        struct place *p = &t->places[i];
        slice_t row = queue_next_message(&rows);
        if (!number_of(row, "partition", &p->partition) || !number_of(row, "end", &p->end)) {
            return cli_refused(t->c, reply);
        }
        number_of(row, "start", &p->start);
        p->next = p->next < p->start ? p->start : p->next;
    }
    return CLI_OK;
}

/* Shows one page of a partition. *moved: how many messages. */
static int show_page(struct tail *t, struct place *p, uint32_t *moved)
{
    struct words w = {.n = 0};
    struct resp_value v;
    slice_t reply;
    uint64_t want = p->end - p->next;
    words_add(&w, "QUEUE.PEEK");
    words_add(&w, t->c->argv[0]);
    words_number(&w, p->partition);
    words_number(&w, p->next);
    words_add(&w, "COUNT");
    words_number(&w, want < PEEK_COUNT ? want : PEEK_COUNT);
    *moved = 0;
    int code = cli_ask(t->c, &t->client, &w, 0, &reply);
    struct reader r = reader_of(reply);
    if (code != CLI_OK || !resp_next(&r, &v) || v.type != RT_ARRAY) {
        return code != CLI_OK && queue_stop != 0 ? CLI_OK : code;
    }
    for (uint32_t i = 0; i < v.count; i++) {
        slice_t message = queue_next_message(&r);
        struct resp_value id;
        if (resp_map_get(message, "id", &id) && id.str.len > 0) {
            const uint8_t *colon = memrchr(id.str.ptr, ':', id.str.len);
            uint64_t offset = colon != NULL ? strtoull((const char *)colon + 1, NULL, 10) : p->next; /* \r ends it */
            p->next = offset >= p->next ? offset + 1 : p->next + 1;
        }
        queue_put_message(t->c, message);
        ++*moved;
    }
    return CLI_OK;
}

static int show_new(struct tail *t)
{
    int code = CLI_OK;
    for (uint32_t i = 0; i < t->n && code == CLI_OK; i++) {
        struct place *p = &t->places[i];
        uint32_t moved = 1;
        while (code == CLI_OK && p->next < p->end && moved > 0 && queue_stop == 0) {
            code = show_page(t, p, &moved);
        }
        p->next = code == CLI_OK && moved == 0 ? p->end : p->next; /* what is gone in the middle is passed over */
    }
    if (fflush(t->c->out) != 0) {
        return CLI_FAILED;
    }
    return code;
}

/* Where to begin: the last --count messages of each partition. */
static void set_out(struct tail *t)
{
    uint64_t last = t->c->opt.count != CLI_UNSET ? t->c->opt.count : LAST_DEFAULT;
    for (uint32_t i = 0; i < t->n; i++) {
        struct place *p = &t->places[i];
        p->next = p->end - p->start > last ? p->end - last : p->start;
    }
}

static void pause_ms(uint64_t ms)
{
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000 * 1000000)};
    nanosleep(&t, NULL); /* a signal ends it */
}

int cmd_queue_tail(struct cli *c)
{
    struct tail t = {.c = c};
    struct queue_signals before;
    int code = cli_client(c, &t.client);
    if (code != CLI_OK) {
        return code;
    }
    queue_catch_signals(&before);
    t.client.stop = &queue_stop;
    code = read_ends(&t);
    if (code == CLI_OK) {
        set_out(&t);
        code = show_new(&t);
    }
    while (c->opt.follow && code == CLI_OK && queue_stop == 0) {
        pause_ms(c->opt.interval_ms);
        code = queue_stop == 0 ? read_ends(&t) : CLI_OK;
        code = code == CLI_OK && queue_stop == 0 ? show_new(&t) : code;
    }
    queue_restore_signals(&before);
    resp_client_fini(&t.client);
    free(t.places);
    return code;
}
