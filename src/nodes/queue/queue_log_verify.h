/* Whether a backlog file that comes from a peer is what the message store (queue_log.h) writes. */
#ifndef SYN_NODES_QUEUE_QUEUE_LOG_VERIFY_H
#define SYN_NODES_QUEUE_QUEUE_LOG_VERIFY_H

#include "storage/store.h"

/* For store_options.backlog_check: the next bytes of the file, in pieces of any length; end: there are no more. False: damaged, or cut short. */
bool queue_log_check_bytes(struct backlog_check *c, slice_t bytes, bool end);

#endif
