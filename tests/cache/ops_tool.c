/* A server of one connection for tests/process/test_cache_ops.py: commands from stdin, replies to stdout, values in memory. Commands of one key go through
 * cache_ops.h, as at a node; FLUSHALL empties it. What reaches cache_op_run was looked at by cache_op_valid first. */
#include "nodes/cache/cache_ops.h"

#include "communication/resp.h"
#include "utils/assert.h"
#include "utils/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { KEYS_MAX = 64 };

struct entry { struct buf key, value, guard; bool exists; uint64_t expire_ms, token; };

static struct entry entries[KEYS_MAX];
static struct buf op, reply;
static struct cache_change change;

static struct entry *entry_of(slice_t key)
{
    for (int i = 0; i < KEYS_MAX; i++) {
        if (entries[i].key.len == 0) {
            buf_append_slice(&entries[i].key, key);
        }
        if (slice_eq(buf_slice(&entries[i].key), key)) {
            return &entries[i];
        }
    }
    fprintf(stderr, "more than %d keys\n", KEYS_MAX);
    exit(1);
}

static void forget_all(void)
{
    for (int i = 0; i < KEYS_MAX; i++) {
        entries[i].exists = false;
        entries[i].guard.len = 0;
        entries[i].token = 0;
    }
    resp_simple(&reply, "OK");
}

static void take(struct entry *e)
{
    switch (change.kind) {
    case CACHE_KEEP: break;
    case CACHE_PUT:
        e->exists = true;
        buf_swap(&e->value, &change.value);
        e->expire_ms = change.expire_ms;
        break;
    case CACHE_EXPIRE: e->expire_ms = change.expire_ms; break;
    case CACHE_DELETE: e->exists = false; break;
    }
    if (change.guarded) {
        buf_clear(&e->guard);
        buf_append_slice(&e->guard, change.guard);
        e->token = change.token;
    }
}

static uint64_t unix_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void run(const slice_t *argv, uint32_t argc)
{
    enum cache_access access;
    if (slice_ieq(argv[0], "FLUSHALL")) {
        forget_all();
        return;
    }
    buf_clear(&op);
    if (!cache_op_encode(argv, argc, &op, &access, &reply)) {
        return;
    }
    syn_assert(cache_op_valid(buf_slice(&op)));
    struct entry *e = entry_of(argv[cache_op_is_object(argv[0]) ? 2 : 1]);
    struct cache_item item = {e->exists, buf_slice(&e->value), e->expire_ms, buf_slice(&e->guard), e->token};
    uint64_t now = unix_ms();
    cache_op_run(buf_slice(&op), &item, (struct cache_clock){now - 1000, now}, &change, &reply); /* a line's clock is not Unix time */
    syn_assert(access == CACHE_WRITES || change.kind == CACHE_KEEP);
    take(e);
}

static void flush_replies(void)
{
    size_t at = 0;
    while (at < reply.len) {
        ssize_t n = write(STDOUT_FILENO, reply.ptr + at, reply.len - at);
        if (n <= 0) {
            exit(1);
        }
        at += (size_t)n;
    }
    buf_clear(&reply);
}

/* All commands that are whole; false: bytes that are none. */
static bool run_all(struct resp_parser *p, struct buf *in)
{
    size_t used, done = 0;
    const char *reason;
    enum resp_status status;
    while ((status = resp_parse(p, slice_of(in->ptr + done, in->len - done), &used, &reason)) == RESP_OK) {
        if (p->argc > 0) {
            run(p->argv, p->argc);
        }
        done += used;
    }
    buf_consume(in, done);
    if (status == RESP_BAD) {
        fprintf(stderr, "%s\n", reason);
    }
    return status != RESP_BAD;
}

int main(void)
{
    static struct buf in;
    static struct resp_parser p;
    const struct resp_limits limits = {.args_max = LIMIT_RESP_ARGS, .bulk_bytes_max = LIMIT_COMMAND_BYTES, .inline_bytes_max = LIMIT_INLINE_BYTES,
                                       .command_bytes_max = 2 * LIMIT_COMMAND_BYTES};
    resp_parser_init(&p, &limits);
    for (;;) {
        ssize_t n = read(STDIN_FILENO, buf_reserve(&in, 65536), 65536);
        if (n <= 0) {
            return n == 0 ? 0 : 1;
        }
        in.len += (size_t)n;
        if (!run_all(&p, &in)) {
            return 1;
        }
        flush_replies();
    }
}
