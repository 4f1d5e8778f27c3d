/* HTTP/1.1 requests in, responses out (RFC 9110, RFC 9112). Pure: bytes and times come in, bytes go out.
 *
 * The grammar is llhttp's; what it leaves to its user, or lets pass, is refused here (docs/wire.md, "HTTP"). */
#ifndef SYN_COMMUNICATION_HTTP_H
#define SYN_COMMUNICATION_HTTP_H

#include "utils/buf.h"
#include "utils/slice.h"

enum http_method { METHOD_GET = 1, METHOD_HEAD, METHOD_POST, METHOD_PUT, METHOD_DELETE, METHOD_OPTIONS, METHOD_PATCH, METHOD_OTHER };

struct http_param {
    slice_t name, value; /* decoded */
};

enum { HTTP_PARAMS_MAX = 16 };

/* A whole request. Slices point into the parser and are valid until its next http_parse. */
struct http_request {
    enum http_method method;
    slice_t path;            /* decoded, begins with '/', valid UTF-8 without NUL and without "." and ".." segments */
    slice_t query;           /* as it was sent, without '?' */
    struct http_param params[HTTP_PARAMS_MAX];
    uint32_t n_params;
    slice_t body;            /* chunks joined */
    slice_t content_type;    /* as sent; empty: none */
    slice_t idempotency_key;
    slice_t authorization;
    slice_t host;
    slice_t origin, fetch_site; /* Origin, Sec-Fetch-Site: browsers say for whose page they ask; empty: no browser, or its own page */
    bool keep_alive;         /* the connection may carry another request */
    bool expect_continue;    /* the client waits, or waited, for "100 Continue" before its body */
};

enum http_result { HTTP_OK, HTTP_MORE, HTTP_BAD };

struct http_parser;
struct http_parser *http_parser_new(void);
void http_parser_free(struct http_parser *p); /* NULL is fine */

/* Parses one request at the start of `in`. HTTP_OK: *out is set and *used bytes belong to it. HTTP_MORE: call again with the same
 * start and more bytes (what was seen is not looked at again). HTTP_BAD: answer *bad_status with the sentence *reason, then
 * close: where the next request begins is not known. */
enum http_result http_parse(struct http_parser *p, slice_t in, size_t *used, struct http_request *out, int *bad_status,
                            const char **reason);

/* True once for a request whose head is complete, whose body is not, and whose client waits for "100 Continue". */
bool http_parser_wants_continue(struct http_parser *p);
/* Tells the time before http_parse, so that overdue can be said later. */
void http_parser_note_time(struct http_parser *p, uint64_t now_ms);
/* A request has begun and takes too long: its head over LIMIT_HTTP_HEADER_MS, its body over LIMIT_HTTP_BODY_MS or slower than
 * LIMIT_HTTP_BODY_RATE (I25, I26). */
bool http_parser_overdue(const struct http_parser *p, uint64_t now_ms);
/* A request has begun and is not complete. */
bool http_parser_busy(const struct http_parser *p);

/* The decoded value of a query parameter; false: not there. Without '=' the value is empty. */
bool http_query(const struct http_request *r, const char *name, slice_t *out);

/* Appends a whole response. content_type NULL: no body and no type. extra_headers: whole lines with CRLF, or NULL. wall_ms: Unix
 * time for Date; 0 leaves it out. */
void http_response(struct buf *out, int status, const char *content_type, slice_t body, bool keep_alive, const char *extra_headers,
                   uint64_t wall_ms);
const char *http_status_text(int status); /* "Not Found"; "Unknown" for codes that are never sent here */

#endif
