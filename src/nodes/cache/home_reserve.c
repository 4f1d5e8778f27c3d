/* Keys that are kept from new owners while a command over several keys waits for them (docs/cache.md, "Commands over several keys").
 *
 * Not responsible for the command, which its node keeps and asks again, nor for what is granted: home.c looks whether a key is reserved. */
#include "nodes/cache/home_internal.h"

#include <stdlib.h>

static void reservation_begin(struct home *h, struct home_key *k)
{
    k->reserved = malloc(sizeof *k->reserved);
    syn_assert(k->reserved != NULL);
    *k->reserved = (struct reservation){.key = k, .until_ms = h->now_ms + HOME_RESERVE_MS};
    list_push_back(&h->reserved, &k->reserved->link);
}

void reservation_end(struct home_key *k)
{
    if (k->reserved != NULL) {
        list_remove(&k->reserved->link);
        free(k->reserved);
        k->reserved = NULL;
    }
}

/* It is not made longer while it lasts, and when it is over those who wait for the key come before further commands: neither starves the other. */
bool home_settle(struct home *h, slice_t key)
{
    struct home_key *k = home_key_make(h, key);
    if (k->reserved == NULL && k->writes > 0 && !list_empty(&k->asking)) {
        return false;
    }
    if (k->reserved == NULL) {
        reservation_begin(h, k);
    }
    if (home_key_settled(k)) {
        return true;
    }
    home_key_take_back(h, k);
    return false;
}

static void unreserve(struct home *h, struct home_key *k)
{
    reservation_end(k);
    home_key_go_on(h, k);
}

void home_unreserve(struct home *h, slice_t key)
{
    struct home_key *k = home_key_find(h, key);
    if (k != NULL) {
        unreserve(h, k);
    }
}

void reservations_timers(struct home *h)
{
    while (reservations_deadline(h) <= h->now_ms) {
        unreserve(h, CONTAINER_OF(h->reserved.next, struct reservation, link)->key);
    }
}

uint64_t reservations_deadline(const struct home *h)
{
    return list_empty(&h->reserved) ? UINT64_MAX : CONTAINER_OF(h->reserved.next, struct reservation, link)->until_ms;
}
