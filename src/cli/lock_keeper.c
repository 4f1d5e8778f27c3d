/* The renewal thread of `lock run`.
 *
 * I1: the lock counts as held until (start of the last successful renewal) + TTL by the monotonic clock. A renewal's own duration
 *     is on the safe side, since the server's TTL began no earlier than the command was sent.
 * I2: it is reported lost when the server says STALE, or when less than a fifth of the TTL is left, so that there is time to stop
 *     the command before somebody else can hold the lock. */
#include "cli/lock_keeper.h"

#include "cli/cli_ask.h"
#include "communication/resp.h"
#include "utils/assert.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { AGAIN_MS = 100 };

struct lock_keeper {
    struct resp_client client;
    const char *resource;
    char lock_id[32];
    uint64_t ttl_ms, base_ms; /* base_ms: start of the last successful renewal */
    bool renew_at_once;
    pthread_t thread;
    int stop_fd, lost_fd;
    bool lost; /* written by the thread before lost_fd is signalled, read after */
    uint64_t safe_until_ms;
    char why[600];
};

/* True when asked to stop before at_ms. */
static bool stopped_by(const struct lock_keeper *k, uint64_t at_ms)
{
    uint64_t now = now_ms();
    struct pollfd p = {.fd = k->stop_fd, .events = POLLIN};
    return poll(&p, 1, at_ms > now ? (int)(at_ms - now) : 0) > 0;
}

static void signal_fd(int fd)
{
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof one);
    syn_assert(n == (ssize_t)sizeof one);
}

static void lose(struct lock_keeper *k, uint64_t safe_until_ms)
{
    k->lost = true;
    k->safe_until_ms = safe_until_ms;
    signal_fd(k->lost_fd);
}

enum renewal { RENEWED, REFUSED, UNKNOWN };

static enum renewal renew(struct lock_keeper *k, uint64_t deadline_ms)
{
    struct words w = {.n = 0};
    slice_t reply;
    words_add(&w, "LOCK.RENEW");
    words_add(&w, k->resource);
    words_add(&w, k->lock_id);
    words_add(&w, "TTL");
    words_number(&w, k->ttl_ms);
    words_idem(&w);
    if (resp_call(&k->client, deadline_ms, w.v, w.n, &reply) != CALL_OK) {
        snprintf(k->why, sizeof k->why, "no renewal got through: %s", k->client.why);
        return UNKNOWN;
    }
    slice_t word = resp_error_word(reply);
    if (word.len == 0) {
        return RENEWED;
    }
    snprintf(k->why, sizeof k->why, "%.*s", (int)(reply.len < 500 ? reply.len - 3 : 500), (const char *)reply.ptr + 1);
    return slice_eq(word, SLICE_LIT("STALE")) ? REFUSED : UNKNOWN;
}

static void *keep(void *arg)
{
    struct lock_keeper *k = arg;
    uint64_t next_ms = k->renew_at_once ? 0 : k->base_ms + k->ttl_ms / 4;
    while (!stopped_by(k, next_ms)) {
        uint64_t started_ms = now_ms(), give_up_ms = k->base_ms + k->ttl_ms - k->ttl_ms / 5; /* I2 */
        enum renewal what = UNKNOWN;
        if (started_ms < give_up_ms) {
            uint64_t third_ms = started_ms + k->ttl_ms / 3;
            what = renew(k, third_ms < give_up_ms ? third_ms : give_up_ms);
        }
        if (what == RENEWED) {
            k->base_ms = started_ms; /* I1 */
            next_ms = started_ms + k->ttl_ms / 4;
        } else if (what == REFUSED) {
            lose(k, 0);
            return NULL;
        } else if (now_ms() >= give_up_ms) {
            lose(k, k->base_ms + k->ttl_ms);
            return NULL;
        } else {
            next_ms = now_ms() + (k->ttl_ms / 20 < AGAIN_MS ? k->ttl_ms / 20 : AGAIN_MS);
        }
    }
    return NULL;
}

struct lock_keeper *lock_keeper_start(struct resp_client *take_client, const char *resource, const char *lock_id, uint64_t ttl_ms,
                                      uint64_t granted_ms, bool renew_at_once)
{
    struct lock_keeper *k = calloc(1, sizeof *k);
    if (k == NULL) {
        return NULL;
    }
    k->resource = resource;
    snprintf(k->lock_id, sizeof k->lock_id, "%s", lock_id);
    k->ttl_ms = ttl_ms;
    k->base_ms = granted_ms;
    k->renew_at_once = renew_at_once;
    k->stop_fd = eventfd(0, EFD_CLOEXEC);
    k->lost_fd = eventfd(0, EFD_CLOEXEC);
    k->client = *take_client;
    if (k->stop_fd < 0 || k->lost_fd < 0 || pthread_create(&k->thread, NULL, keep, k) != 0) {
        free(k);
        return NULL;
    }
    resp_client_init(take_client, k->client.endpoints, k->client.n_endpoints, k->client.password);
    return k;
}

int lock_keeper_fd(const struct lock_keeper *k)
{
    return k->lost_fd;
}

const char *lock_keeper_why(const struct lock_keeper *k)
{
    return k->why;
}

uint64_t lock_keeper_safe_until_ms(const struct lock_keeper *k)
{
    return k->safe_until_ms;
}

bool lock_keeper_stop(struct lock_keeper *k, struct resp_client *client)
{
    signal_fd(k->stop_fd);
    pthread_join(k->thread, NULL);
    bool held = !k->lost;
    *client = k->client;
    close(k->stop_fd);
    close(k->lost_fd);
    free(k);
    return held;
}
