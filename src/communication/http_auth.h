/* The Authorization header (RFC 7617 Basic, RFC 6750 Bearer). Pure. */
#ifndef SYN_COMMUNICATION_HTTP_AUTH_H
#define SYN_COMMUNICATION_HTTP_AUTH_H

#include "utils/buf.h"

/* Basic: user and password out of the base64 (slices of scratch). Bearer: the token as the password, no user. False: neither. */
bool http_credentials(slice_t authorization, struct buf *scratch, slice_t *user, slice_t *password);

/* A browser was made to send this by a page of another site: Origin names another host and port than Host, or is opaque ("null"), or
 * Sec-Fetch-Site says so (Fetch, "Origin header"; Fetch Metadata). No page can leave these headers out or choose them. */
bool http_is_cross_site(slice_t host, slice_t origin, slice_t fetch_site);

#endif
