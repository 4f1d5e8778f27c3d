/* libFuzzer: the HTTP parser. The first byte is where the input is cut; requests and refusals must be the same in pieces, and everything
 * handed out within its limits (I20-I30). */
#include "communication/http.h"
#include "communication/http_auth.h"
#include "communication/http_path.h"
#include "utils/assert.h"
#include "utils/limits.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void log_request(struct buf *log, const struct http_request *r)
{
    syn_assert(r->path.len > 0 && r->path.ptr[0] == '/' && utf8_valid(r->path));
    syn_assert(r->body.len <= LIMIT_HTTP_BODY_BYTES && r->n_params <= HTTP_PARAMS_MAX && r->path.len <= LIMIT_HTTP_LINE_BYTES);
    buf_put_u8(log, (uint8_t)r->method);
    buf_put_bytes(log, r->path);
    buf_put_bytes(log, r->body);
    buf_put_bytes(log, r->content_type);
    buf_put_bytes(log, r->idempotency_key);
    buf_put_bytes(log, r->authorization);
    buf_put_bytes(log, r->host);
    buf_put_bytes(log, r->origin);
    buf_put_u8(log, http_is_cross_site(r->host, r->origin, r->fetch_site));
    for (uint32_t i = 0; i < r->n_params; i++) {
        buf_put_bytes(log, r->params[i].name);
        buf_put_bytes(log, r->params[i].value);
    }
    buf_put_u8(log, r->keep_alive);
}

static void run(slice_t in, size_t first, struct buf *log)
{
    struct http_parser *p = http_parser_new();
    size_t done = 0, there = first;
    for (;;) {
        uint8_t *copy = malloc(there - done + 1);
        syn_assert(copy != NULL);
        memcpy(copy, in.ptr + done, there - done);
        size_t used = 0;
        int status = 0;
        const char *reason = NULL;
        struct http_request r;
        enum http_result st = http_parse(p, slice_of(copy, there - done), &used, &r, &status, &reason);
        free(copy);
        if (st == HTTP_OK) {
            syn_assert(used > 0 && used <= there - done);
            log_request(log, &r);
            done += used;
        } else if (st == HTTP_BAD || there == in.len) {
            syn_assert(st != HTTP_BAD || (status >= 400 && reason != NULL));
            buf_printf(log, "%d", st == HTTP_BAD ? status : 0);
            break;
        } else {
            there = there + 5 < in.len ? there + 5 : in.len;
        }
    }
    http_parser_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    slice_t in = slice_of(data + 1, size - 1);
    struct buf whole = {0}, cut = {0};
    run(in, in.len, &whole);
    run(in, in.len ? data[0] % (in.len + 1) : 0, &cut);
    syn_assert(slice_eq(buf_slice(&whole), buf_slice(&cut)));
    buf_fini(&whole);
    buf_fini(&cut);
    return 0;
}
