/* The HTTP/1.1 request parser; see http.h. The grammar and the body framing are llhttp's (RFC 9112).
 *
 * Responsible for: the head byte by byte before llhttp sees it (line ends, folding, sizes: I24, I27), what the headers must be for
 * the framing to have one reading only (I20-I22), sizes of bodies and chunk decoration (I23), time (I25, I26). Not for: what a path means.
 *
 * H1 no byte reaches llhttp before the head scan let it pass. H2 everything kept is bounded by limits.h before it is kept.
 * H3 after HTTP_BAD nothing more is parsed: the caller closes, and no byte behind a malformed request is ever a request. */
#include "communication/http.h"

#include "communication/http_path.h"
#include "utils/assert.h"
#include "utils/limits.h"
#include "utils/mutant.h"

#include <llhttp.h>
#include <stdlib.h>

enum header_id {
    HEADER_HOST,
    HEADER_CONTENT_LENGTH,
    HEADER_TRANSFER_ENCODING,
    HEADER_CONTENT_TYPE,
    HEADER_CONTENT_ENCODING,
    HEADER_EXPECT,
    HEADER_IDEMPOTENCY_KEY,
    HEADER_AUTHORIZATION,
    HEADER_ORIGIN,
    HEADER_SEC_FETCH_SITE,
    HEADER_COUNT
};

static const char *const HEADER_NAMES[HEADER_COUNT] = {
    "host", "content-length", "transfer-encoding", "content-type", "content-encoding", "expect", "idempotency-key", "authorization",
    "origin", "sec-fetch-site",
};

/* Chunk sizes, extensions and trailers, beside what they carry: the least chunk carries one byte in six. */
enum { CHUNK_OVERHEAD_BYTES = 16 * 1024, CHUNK_OVERHEAD_FACTOR = 6, CHUNK_STEP_BYTES = 4096, EMPTY_LINE_BYTES_MAX = 4,
       BODY_KEPT_BYTES = 64 * 1024 /* between requests: ten thousand connections must not keep ten thousand large bodies */ };

struct header {
    uint32_t count;
    struct buf value;
};

struct head_scan {
    size_t line_bytes;    /* of the current line, CRLF included */
    size_t header_bytes;
    uint32_t lines;       /* complete, the request line is the first */
    size_t empty_bytes;   /* CRLF before the request line */
    uint8_t last;
    bool colon;           /* the current line has one */
    bool done;
    int bad_status;       /* of the byte that did not pass */
    const char *reason;
};

struct http_parser {
    llhttp_t ll;
    llhttp_settings_t settings;
    struct head_scan head;
    size_t scanned;         /* bytes of the request that were looked at */
    size_t head_bytes;
    bool begun;
    bool head_done, complete, keep_alive, continue_told;
    enum header_id current; /* HEADER_COUNT: a header that nobody wants */
    struct buf target, name, text, body;
    struct header headers[HEADER_COUNT];
    int bad_status;
    const char *reason;
    uint64_t now_ms, begun_ms, body_ms;
};

static int refuse(struct http_parser *p, int status, const char *reason)
{
    if (p->bad_status == 0) {
        p->bad_status = status;
        p->reason = reason;
    }
    return -1;
}

static int on_url(llhttp_t *ll, const char *at, size_t len)
{
    struct http_parser *p = ll->data;
    buf_append(&p->target, at, len);
    return 0;
}

static int on_header_field(llhttp_t *ll, const char *at, size_t len)
{
    struct http_parser *p = ll->data;
    if (!p->head_done) {
        buf_append(&p->name, at, len);
    }
    return 0;
}

static int on_header_field_complete(llhttp_t *ll)
{
    struct http_parser *p = ll->data;
    if (p->head_done) {
        return 0; /* a trailer: none of them means anything here */
    }
    p->current = HEADER_COUNT;
    for (int i = 0; i < HEADER_COUNT; i++) {
        if (slice_ieq(buf_slice(&p->name), HEADER_NAMES[i])) {
            p->current = (enum header_id)i;
            p->headers[i].count++;
        }
    }
    buf_clear(&p->name);
    return 0;
}

static int on_header_value(llhttp_t *ll, const char *at, size_t len)
{
    struct http_parser *p = ll->data;
    if (!p->head_done && p->current != HEADER_COUNT) {
        buf_append(&p->headers[p->current].value, at, len);
    }
    return 0;
}

static slice_t header_value(const struct http_parser *p, enum header_id id)
{
    slice_t s = buf_slice(&p->headers[id].value);
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

/* The body's length has one reading, or the request is refused: two parties that read it differently let one smuggle. */
static int check_framing(struct http_parser *p)
{
    uint32_t lengths = p->headers[HEADER_CONTENT_LENGTH].count, codings = p->headers[HEADER_TRANSFER_ENCODING].count;
    slice_t length = header_value(p, HEADER_CONTENT_LENGTH);
    if (lengths > 0 && codings > 0) {
        return refuse(p, 400, "Content-Length and Transfer-Encoding exclude each other");
    }
    if (codings > 0 && p->ll.http_minor == 0) {
        return refuse(p, 400, "HTTP/1.0 has no Transfer-Encoding");
    }
    if (codings > 1 || (codings == 1 && !slice_ieq(header_value(p, HEADER_TRANSFER_ENCODING), "chunked"))) {
        return refuse(p, 501, "the only Transfer-Encoding here is chunked");
    }
    for (size_t i = 0; i < length.len; i++) {
        if (length.ptr[i] < '0' || length.ptr[i] > '9') {
            return refuse(p, 400, "Content-Length must be digits");
        }
    }
    if (lengths > 1 || (lengths == 1 && (length.len == 0 || length.len > 19))) {
        return refuse(p, 400, "Content-Length must be one number");
    }
    if (lengths == 1 && p->ll.content_length > LIMIT_HTTP_BODY_BYTES && !MUTANT("I31_BODY")) {
        return refuse(p, 413, "the body is larger than 1 MiB");
    }
    return 0;
}

static int check_headers(struct http_parser *p)
{
    if (p->ll.http_major != 1 || p->ll.http_minor > 1) {
        return refuse(p, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    }
    if (p->ll.method == HTTP_CONNECT || p->ll.method == HTTP_TRACE) {
        return refuse(p, 405, "CONNECT and TRACE are not offered");
    }
    if (p->headers[HEADER_HOST].count > 1 || (p->headers[HEADER_HOST].count == 0 && p->ll.http_minor == 1)) {
        return refuse(p, 400, "a request needs exactly one Host header");
    }
    for (int i = HEADER_CONTENT_TYPE; i < HEADER_COUNT; i++) {
        if (p->headers[i].count > 1) {
            return refuse(p, 400, "a header that may come once came twice");
        }
    }
    if (p->headers[HEADER_EXPECT].count == 1 && !slice_ieq(header_value(p, HEADER_EXPECT), "100-continue")) {
        return refuse(p, 417, "the only expectation met here is 100-continue");
    }
    if (header_value(p, HEADER_CONTENT_ENCODING).len > 0 && !slice_ieq(header_value(p, HEADER_CONTENT_ENCODING), "identity")) {
        return refuse(p, 415, "compressed bodies are not taken");
    }
    return 0;
}

static int on_headers_complete(llhttp_t *ll)
{
    struct http_parser *p = ll->data;
    p->head_done = true;
    p->body_ms = p->now_ms;
    if (check_headers(p) != 0 || check_framing(p) != 0) {
        return -1;
    }
    ll->upgrade = 0; /* an offer that is not taken up (RFC 9110 section 7.8) */
    return 0;
}

static int on_chunk_header(llhttp_t *ll)
{
    struct http_parser *p = ll->data;
    if (ll->content_length > LIMIT_HTTP_BODY_BYTES - p->body.len) {
        return refuse(p, 413, "the body is larger than 1 MiB");
    }
    return 0;
}

static int on_body(llhttp_t *ll, const char *at, size_t len)
{
    struct http_parser *p = ll->data;
    syn_assert(MUTANT("I31_BODY") || p->body.len + len <= LIMIT_HTTP_BODY_BYTES); /* both framings were held to it before */
    buf_append(&p->body, at, len);
    return 0;
}

static int on_message_complete(llhttp_t *ll)
{
    struct http_parser *p = ll->data;
    p->complete = true;
    p->keep_alive = ll->http_minor == 1 && llhttp_should_keep_alive(ll);
    return HPE_PAUSED;
}

struct http_parser *http_parser_new(void)
{
    struct http_parser *p = calloc(1, sizeof *p);
    syn_assert(p != NULL);
    llhttp_settings_init(&p->settings);
    p->settings.on_url = on_url;
    p->settings.on_header_field = on_header_field;
    p->settings.on_header_field_complete = on_header_field_complete;
    p->settings.on_header_value = on_header_value;
    p->settings.on_headers_complete = on_headers_complete;
    p->settings.on_chunk_header = on_chunk_header;
    p->settings.on_body = on_body;
    p->settings.on_message_complete = on_message_complete;
    return p;
}

void http_parser_free(struct http_parser *p)
{
    if (p == NULL) {
        return;
    }
    struct buf *const bufs[] = {&p->target, &p->name, &p->text, &p->body};
    for (size_t i = 0; i < sizeof bufs / sizeof bufs[0]; i++) {
        buf_fini(bufs[i]);
    }
    for (int i = 0; i < HEADER_COUNT; i++) {
        buf_fini(&p->headers[i].value);
    }
    free(p);
}

static void begin(struct http_parser *p)
{
    llhttp_init(&p->ll, HTTP_REQUEST, &p->settings);
    p->ll.data = p;
    p->head = (struct head_scan){0};
    p->scanned = p->head_bytes = 0;
    p->begun = true;
    p->head_done = p->complete = p->continue_told = false;
    p->current = HEADER_COUNT;
    p->begun_ms = p->now_ms;
    buf_clear(&p->target);
    buf_clear(&p->name);
    if (p->body.cap > BODY_KEPT_BYTES) {
        buf_fini(&p->body);
    }
    buf_clear(&p->body);
    for (int i = 0; i < HEADER_COUNT; i++) {
        p->headers[i].count = 0;
        buf_clear(&p->headers[i].value);
    }
}

static bool refuse_head(struct head_scan *h, int status, const char *reason)
{
    h->bad_status = status;
    h->reason = reason;
    return false;
}

/* The end of a line. */
static bool head_line(struct head_scan *h)
{
    bool empty = h->line_bytes == 2;
    if (empty && h->lines == 0) {
        h->empty_bytes += 2;
        if (h->empty_bytes > EMPTY_LINE_BYTES_MAX) {
            return refuse_head(h, 400, "empty lines instead of a request");
        }
    } else if (empty) {
        h->done = true;
    } else {
        if (h->lines > 0 && !h->colon) {
            return refuse_head(h, 400, "a header without a colon");
        }
        if (++h->lines > LIMIT_HTTP_HEADERS + 1) {
            return refuse_head(h, 431, "more than 64 headers");
        }
    }
    h->line_bytes = 0;
    h->colon = false;
    return true;
}

/* One byte of the head. Strict where llhttp's versions differ: CRLF and nothing else ends a line. */
static bool head_byte(struct head_scan *h, uint8_t c)
{
    if (c == 0 || (c == '\n' && h->last != '\r') || (h->last == '\r' && c != '\n')) {
        return refuse_head(h, 400, "a line of the head must end in CRLF and contain neither CR, LF nor NUL");
    }
    if (h->lines > 0 && h->line_bytes == 0 && (c == ' ' || c == '\t')) {
        return refuse_head(h, 400, "folded headers are not taken");
    }
    if (h->lines == 0 && c == ' ' && h->last == ' ') {
        return refuse_head(h, 400, "the parts of a request line are separated by one space");
    }
    if (h->lines > 0 && c == ':' && !h->colon) {
        if (h->line_bytes == 0 || h->last == ' ' || h->last == '\t') {
            return refuse_head(h, 400, "a header's name must stand directly before its colon");
        }
        h->colon = true;
    }
    h->line_bytes++;
    if (h->lines == 0 && h->line_bytes > LIMIT_HTTP_LINE_BYTES) {
        return refuse_head(h, 414, "the request line is longer than 8 KiB");
    }
    h->header_bytes += h->lines > 0;
    if (h->header_bytes > LIMIT_HTTP_HEADER_BYTES) {
        return refuse_head(h, 431, "the headers are longer than 16 KiB together");
    }
    h->last = c;
    return c != '\n' || head_line(h);
}

static bool is_chunked(const struct http_parser *p)
{
    return p->head_done && p->headers[HEADER_TRANSFER_ENCODING].count > 0;
}

/* How many of the bytes from p->scanned on may go to llhttp (H1): the head up to its end, or up to the byte that is refused;
 * then the body; chunks in small steps, so that their decoration is weighed before much of it was read. */
static size_t scan(struct http_parser *p, slice_t in)
{
    size_t left = in.len - p->scanned, i = p->scanned;
    if (p->head.done) {
        return is_chunked(p) && left > CHUNK_STEP_BYTES ? CHUNK_STEP_BYTES : left;
    }
    while (i < in.len && !p->head.done) {
        if (!head_byte(&p->head, in.ptr[i])) {
            break;
        }
        i++;
    }
    p->head_bytes = i;
    return i - p->scanned;
}

static int status_of(llhttp_errno_t e)
{
    return e == HPE_INVALID_VERSION || e == HPE_PAUSED_H2_UPGRADE ? 505 : 400;
}

static enum http_result finish(struct http_parser *p, struct http_request *out)
{
    static const struct {
        uint8_t from;
        enum http_method to;
    } methods[] = {{HTTP_GET, METHOD_GET},       {HTTP_HEAD, METHOD_HEAD},       {HTTP_POST, METHOD_POST}, {HTTP_PUT, METHOD_PUT},
                   {HTTP_DELETE, METHOD_DELETE}, {HTTP_OPTIONS, METHOD_OPTIONS}, {HTTP_PATCH, METHOD_PATCH}};
    *out = (struct http_request){.method = METHOD_OTHER, .body = buf_slice(&p->body), .keep_alive = p->keep_alive};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (methods[i].from == p->ll.method) {
            out->method = methods[i].to;
        }
    }
    const char *why = http_target(buf_slice(&p->target), &p->text, out);
    if (why != NULL) {
        refuse(p, 400, why);
        return HTTP_BAD;
    }
    out->content_type = header_value(p, HEADER_CONTENT_TYPE);
    out->idempotency_key = header_value(p, HEADER_IDEMPOTENCY_KEY);
    out->authorization = header_value(p, HEADER_AUTHORIZATION);
    out->host = header_value(p, HEADER_HOST);
    out->origin = header_value(p, HEADER_ORIGIN);
    out->fetch_site = header_value(p, HEADER_SEC_FETCH_SITE);
    out->expect_continue = p->headers[HEADER_EXPECT].count > 0;
    return HTTP_OK;
}

/* Feeds what the scan let pass. HTTP_OK: the message is complete and p->scanned is its length. */
static enum http_result feed(struct http_parser *p, slice_t in)
{
    while (p->scanned < in.len) {
        size_t n = scan(p, in);
        const char *at = (const char *)in.ptr + p->scanned;
        llhttp_errno_t e = llhttp_execute(&p->ll, at, n);
        if (p->complete && e == HPE_PAUSED) {
            p->scanned = (size_t)((const uint8_t *)llhttp_get_error_pos(&p->ll) - in.ptr);
            return HTTP_OK;
        }
        if (e != HPE_OK) {
            refuse(p, status_of(e), llhttp_get_error_reason(&p->ll) ? llhttp_get_error_reason(&p->ll) : "malformed request");
            return HTTP_BAD;
        }
        p->scanned += n;
        if (p->head.bad_status != 0) { /* after what llhttp says of the bytes before it: the cut must not change the answer */
            refuse(p, p->head.bad_status, p->head.reason);
            return HTTP_BAD;
        }
        if (is_chunked(p) && p->scanned - p->head_bytes > p->body.len * (1 + CHUNK_OVERHEAD_FACTOR) + CHUNK_OVERHEAD_BYTES) {
            refuse(p, 400, "chunk extensions or trailers larger than their chunks");
            return HTTP_BAD;
        }
    }
    return HTTP_MORE;
}

enum http_result http_parse(struct http_parser *p, slice_t in, size_t *used, struct http_request *out, int *bad_status,
                            const char **reason)
{
    *used = 0;
    enum http_result r = HTTP_BAD;
    if (p->bad_status == 0) {
        if (in.len == 0) {
            return HTTP_MORE;
        }
        if (!p->begun) {
            begin(p);
        }
        r = feed(p, in);
    }
    if (r == HTTP_OK) {
        r = finish(p, out);
        *used = p->scanned;
        p->begun = false;
    }
    *bad_status = p->bad_status;
    *reason = p->reason;
    return r;
}

bool http_parser_wants_continue(struct http_parser *p)
{
    bool yes = p->begun && p->head_done && !p->continue_told && p->body.len == 0 && p->headers[HEADER_EXPECT].count > 0;
    p->continue_told |= yes;
    return yes;
}

void http_parser_note_time(struct http_parser *p, uint64_t now_ms)
{
    p->now_ms = now_ms;
}

bool http_parser_busy(const struct http_parser *p)
{
    return p->begun;
}

bool http_parser_overdue(const struct http_parser *p, uint64_t now_ms)
{
    if (!p->begun) {
        return false;
    }
    if (!p->head_done) {
        return now_ms - p->begun_ms >= LIMIT_HTTP_HEADER_MS;
    }
    uint64_t age = now_ms - p->body_ms;
    return age >= LIMIT_HTTP_BODY_MS || (age >= LIMIT_HTTP_BODY_GRACE_MS && p->body.len < age / 1000 * LIMIT_HTTP_BODY_RATE);
}
