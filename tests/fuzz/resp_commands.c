/* libFuzzer: the RESP command parser. The first two bytes choose the limits and where the input is cut; the commands read from the
 * pieces must be those read from the whole, the memory held must stay within the limits (I1-I12). */
#include "communication/resp.h"
#include "utils/assert.h"
#include "utils/limits.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct resp_limits OPEN = {LIMIT_RESP_ARGS, LIMIT_VALUE_BYTES, LIMIT_INLINE_BYTES, LIMIT_COMMAND_BYTES};
static const struct resp_limits STRANGER = {LIMIT_PREAUTH_ARGS, 64, 128, 512};

/* The bytes are copied for each call: an argument that outlived its input is then a use after free. */
static void run(const struct resp_limits *limits, slice_t in, size_t first, struct buf *log)
{
    struct resp_parser p;
    resp_parser_init(&p, limits);
    size_t done = 0, there = first;
    for (;;) {
        uint8_t *copy = malloc(there - done + 1);
        syn_assert(copy != NULL);
        memcpy(copy, in.ptr + done, there - done);
        size_t used = 0;
        const char *reason = NULL;
        enum resp_status st = resp_parse(&p, slice_of(copy, there - done), &used, &reason);
        for (uint32_t i = 0; st == RESP_OK && i < p.argc; i++) {
            buf_put_bytes(log, p.argv[i]);
        }
        free(copy);
        syn_assert(p.cap <= 2 * limits->args_max && p.unquoted.cap <= 2 * limits->inline_bytes_max + 64);
        if (st == RESP_OK) {
            syn_assert(used > 0 && used <= there - done && p.argc <= limits->args_max);
            buf_put_u8(log, ';');
            done += used;
        } else if (st == RESP_BAD || there == in.len) {
            buf_append_str(log, st == RESP_BAD ? reason : "more");
            break;
        } else {
            there = there + 7 < in.len ? there + 7 : in.len;
        }
    }
    resp_parser_fini(&p);
}

/* A short command is what the parser reads. */
static void check_short(slice_t in)
{
    struct resp_short s;
    if (!resp_short(in, &s)) {
        return;
    }
    struct resp_parser p;
    size_t used = 0;
    const char *reason = NULL;
    resp_parser_init(&p, &OPEN);
    enum resp_status st = resp_parse(&p, in, &used, &reason);
    syn_assert(st == RESP_OK && used == s.size && p.argc == s.argc);
    for (uint32_t i = 0; i < s.argc; i++) {
        syn_assert(s.argv[i].ptr == p.argv[i].ptr && s.argv[i].len == p.argv[i].len);
    }
    resp_parser_fini(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    const struct resp_limits *limits = data[0] & 1 ? &STRANGER : &OPEN;
    slice_t in = slice_of(data + 2, size - 2);
    struct buf whole = {0}, cut = {0};
    run(limits, in, in.len, &whole);
    run(limits, in, in.len ? data[1] % (in.len + 1) : 0, &cut);
    syn_assert(slice_eq(buf_slice(&whole), buf_slice(&cut)));
    check_short(in);
    buf_fini(&whole);
    buf_fini(&cut);
    return 0;
}
