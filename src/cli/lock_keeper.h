/* Renews one lock on its own thread, so that nothing the caller waits for can make it late, and tells when it is lost. */
#ifndef SYN_CLI_LOCK_KEEPER_H
#define SYN_CLI_LOCK_KEEPER_H

#include "cli/resp_client.h"

struct lock_keeper;

/* Takes over the connected client *take_client (emptied). granted_ms: a now_ms() at or before the moment the lock's TTL began; the
 * lock is believed in until granted_ms + ttl_ms and no longer, whatever the network does (monotonic clocks). NULL: no thread. */
struct lock_keeper *lock_keeper_start(struct resp_client *take_client, const char *resource, const char *lock_id, uint64_t ttl_ms,
                                      uint64_t granted_ms, bool renew_at_once);

/* Readable once the lock is lost. */
int lock_keeper_fd(const struct lock_keeper *k);

/* After lock_keeper_fd became readable: why, and until when (now_ms) nobody else can have the lock; 0: somebody may already. */
const char *lock_keeper_why(const struct lock_keeper *k);
uint64_t lock_keeper_safe_until_ms(const struct lock_keeper *k);

/* Ends the thread, gives the client back into *client (the caller's to fini). True when the lock was still held. */
bool lock_keeper_stop(struct lock_keeper *k, struct resp_client *client);

#endif
