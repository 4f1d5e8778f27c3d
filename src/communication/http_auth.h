/* The Authorization header (RFC 7617 Basic, RFC 6750 Bearer). Pure. */
#ifndef SYN_COMMUNICATION_HTTP_AUTH_H
#define SYN_COMMUNICATION_HTTP_AUTH_H

#include "utils/buf.h"

/* Basic: user and password out of the base64 (slices of scratch). Bearer: the token as the password, no user. False: neither. */
bool http_credentials(slice_t authorization, struct buf *scratch, slice_t *user, slice_t *password);

#endif
