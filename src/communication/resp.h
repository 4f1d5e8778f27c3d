/* RESP2 and RESP3 (redis.io/docs/reference/protocol-spec): commands in, replies out. Pure.
 *
 * Inside Synaxis every reply is RESP3 bytes; resp_convert writes them for a connection's protocol, resp_to_json for HTTP. */
#ifndef SYN_COMMUNICATION_RESP_H
#define SYN_COMMUNICATION_RESP_H

#include "utils/buf.h"
#include "utils/slice.h"

struct resp_limits { uint32_t args_max; uint32_t bulk_bytes_max; uint32_t inline_bytes_max; uint64_t command_bytes_max; };

/* Resumable: remembers how far an incomplete command was scanned, so that bytes are looked at once. argv points into the
 * caller's input and is valid until that moves. args_max slices are allocated once, lazily growing (bounded by limits). */
struct resp_parser {
    struct resp_limits limits;
    slice_t *argv;
    uint32_t cap;
    uint32_t argc;
    size_t scanned;
    uint32_t want;
    bool in_multibulk;
    struct buf unquoted; /* words of an inline command */
    char text[48];       /* a reason that names a byte */
};
void resp_parser_init(struct resp_parser *p, const struct resp_limits *limits);
void resp_parser_fini(struct resp_parser *p);
bool resp_parser_is_idle(const struct resp_parser *p);                /* between commands: none has begun */
void resp_parser_set_limits(struct resp_parser *p, const struct resp_limits *limits); /* e.g. after AUTH; between commands */

enum resp_status { RESP_OK, RESP_MORE, RESP_BAD };
/* Parses one command at the start of in. RESP_OK: p->argc, p->argv set (argc 0: an empty line or *0, to be ignored) and *used
 * bytes belong to it. RESP_MORE: call again with the same start and more bytes. RESP_BAD: *reason is the text after "-ERR
 * Protocol error: " exactly as Redis words it; the connection must be closed after sending it. */
enum resp_status resp_parse(struct resp_parser *p, slice_t in, size_t *used, const char **reason);

/* A command of few short words, at once and without a parser's memory. argv points into the input. */
enum { RESP_SHORT_WORDS = 8, RESP_SHORT_BYTES = 1024 };
struct resp_short { slice_t argv[RESP_SHORT_WORDS]; uint32_t argc; size_t size; };
/* True: a whole command begins here, and an idle parser would read the same. False: that says nothing of the input; see resp_parse. */
bool resp_short(slice_t in, struct resp_short *out);

/* Writers, all RESP3. */
void resp_simple(struct buf *out, const char *s);                      /* +OK; CR/LF become spaces */
void resp_error(struct buf *out, const char *word, const char *fmt, ...) __attribute__((format(printf, 3, 4))); /* -WORD text; CR/LF become spaces, but go at its end */
void resp_put_line(struct buf *out, char type, slice_t text);         /* '+' or '-'; CR/LF become spaces */
void resp_int(struct buf *out, int64_t v);
void resp_u64(struct buf *out, uint64_t v);                            /* as an integer while it fits, else a bulk string */
void resp_bulk(struct buf *out, slice_t s);
void resp_bulk_str(struct buf *out, const char *s);
void resp_null(struct buf *out);                                       /* _ */
void resp_bool(struct buf *out, bool v);
void resp_double(struct buf *out, double v);
void resp_array(struct buf *out, uint32_t n);
void resp_map(struct buf *out, uint32_t n);                            /* n pairs follow */
void resp_set(struct buf *out, uint32_t n);
void resp_push(struct buf *out, uint32_t n);                           /* >n */
void resp_verbatim(struct buf *out, const char *format3, slice_t s);   /* =len txt:... */

/* Appends a well-formed RESP3 reply for a connection speaking proto 2 or 3 (2: maps flat, nulls $-1, booleans :0/:1, doubles
 * and verbatim strings as bulk; pushes have no RESP2 form and are left out). */
void resp_convert(struct buf *out, slice_t resp3, int proto);
/* The same as JSON: maps are objects, errors {"error": text, "code": WORD}; integers beyond 2^53 and those under keys in
 * id_keys (NULL-terminated, may be NULL) become strings; bytes that are not UTF-8 become {"encoding":"base64","data":...}. */
void resp_to_json(struct buf *out, slice_t resp3, const char *const *id_keys);

/* Reading replies back (doors, tests, simulator clients, the command line): a cursor over RESP2 or RESP3 bytes, no recursion. */
enum resp_type { RT_NONE, RT_SIMPLE, RT_ERROR, RT_INT, RT_BULK, RT_NULL, RT_BOOL, RT_DOUBLE, RT_ARRAY, RT_MAP, RT_SET, RT_PUSH, RT_VERBATIM, RT_BIG };
struct resp_value { enum resp_type type; slice_t str; int64_t num; double real; uint32_t count; };
/* Length in bytes of the whole first reply in `in`, 0 when incomplete, SIZE_MAX when malformed (depth over 16, bad lengths). */
size_t resp_reply_size(slice_t in);
/* Reads one value head (or scalar) and advances; aggregates are followed by their elements. False at end or malformed. */
bool resp_next(struct reader *r, struct resp_value *v);
/* Skips one whole value. */
bool resp_skip(struct reader *r);
/* Finds `key` in the map (RESP3 %) or flat array (RESP2 *) that `reply` is, and reads the value's head. */
bool resp_map_get(slice_t reply, const char *key, struct resp_value *v);
/* The same, but the bytes of the whole value, elements included. */
bool resp_map_value(slice_t reply, const char *key, slice_t *value);

#endif
