/* JSON bodies in and JSON text out (RFC 8259). Pure.
 *
 * Reading is jansson's, behind a check of depth and size that needs no recursion (I31). A body is one object; its fields are asked
 * for by name, and every refusal names the field and what it takes. */
#ifndef SYN_COMMUNICATION_JSON_H
#define SYN_COMMUNICATION_JSON_H

#include "utils/buf.h"
#include "utils/slice.h"

struct json_t;

struct json_in {
    struct json_t *root; /* owned */
    char why[256];       /* after a false answer: what was wrong, for the client */
};

/* True: the text is one object, without duplicate names, at most LIMIT_JSON_DEPTH deep. Call json_end in either case. */
bool json_begin(struct json_in *in, slice_t text);
void json_end(struct json_in *in);
/* False: there is a field that `names` (NULL-terminated) does not list. */
bool json_only(struct json_in *in, const char *const *names);
bool json_has(const struct json_in *in, const char *name);

/* Absent fields leave *out alone and answer true unless `need`. Slices point into the document. */
bool json_text(struct json_in *in, const char *name, bool need, size_t bytes_max, slice_t *out);
/* A number in milliseconds under <name>_ms, or in seconds (fractions allowed) under <name>; min and max in milliseconds. */
bool json_duration(struct json_in *in, const char *name, uint64_t min_ms, uint64_t max_ms, uint64_t *out_ms);
/* The same for fields whose names do not follow that pattern: `seconds` or `ms` may be NULL. */
bool json_duration_named(struct json_in *in, const char *seconds, const char *ms, uint64_t min_ms, uint64_t max_ms, uint64_t *out_ms);
/* A 64-bit number as a string of digits or as a number. */
bool json_id(struct json_in *in, const char *name, bool need, uint64_t *out);

/* json_list.c. A whole number. */
bool json_count(struct json_in *in, const char *name, uint64_t min, uint64_t max, uint64_t *out);
/* A list: absent is none, else 1 to max of them; then its items. An object's item is borrowed: no json_end. */
bool json_list(struct json_in *in, const char *name, size_t max, size_t *n);
bool json_list_object(struct json_in *in, const char *name, size_t i, struct json_in *item);
/* An object in a field; absent: item->root is NULL. Borrowed, as above. */
bool json_object_in(struct json_in *in, const char *name, struct json_in *item);
bool json_list_text(struct json_in *in, const char *name, size_t i, size_t bytes_max, slice_t *out);
/* An object whose values are strings; fn answers false to refuse any more. */
bool json_pairs(struct json_in *in, const char *name, size_t max, bool (*fn)(void *arg, slice_t key, slice_t value), void *arg);
/* Appends a field's bytes: of base64 when "encoding" beside it says so; other JSON than a string is taken as its text. */
bool json_bytes(struct json_in *in, const char *name, size_t bytes_max, struct buf *out);
/* The same, and bytes in the form that json_put_string writes: {"encoding":"base64","data":"..."}. */
bool json_value(struct json_in *in, const char *name, size_t bytes_max, struct buf *out);

/* Writing. A string that is not UTF-8 (or holds NUL) becomes {"encoding":"base64","data":"..."}. */
void json_put_string(struct buf *out, slice_t s);
void json_put_str(struct buf *out, const char *s);
void json_put_base64(struct buf *out, slice_t s);      /* without quotes */
/* {"a":1,"b":..}: json_key writes the comma when one is due, the quoted name and the colon. */
void json_key(struct buf *out, const char *name);

#endif
