/* Request targets: percent-decoding and the refusals that go with it (RFC 3986). Shared by http.c and its tests. */
#ifndef SYN_COMMUNICATION_HTTP_PATH_H
#define SYN_COMMUNICATION_HTTP_PATH_H

#include "communication/http.h"

/* Splits the target of a request line, decodes path and query into `text` and sets path, query, params of *r (slices of `text`
 * and of `target`). NULL: fine; else why not (400). */
const char *http_target(slice_t target, struct buf *text, struct http_request *r);
/* The bytes are UTF-8 (RFC 3629: no overlong forms, no surrogates) without NUL. */
bool utf8_valid(slice_t s);

#endif
