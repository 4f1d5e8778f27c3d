/* What connections do with time: sessions kept alive, strangers and half commands that take too long, wrong passwords in a row.
 *
 * Invariants: D4 a connection that has not authenticated goes after LIMIT_PREAUTH_MS (I9). D5 a command that was begun comes to its
 * end, or the connection does, LIMIT_RESP_STALL_MS after its last byte (I9); between commands a client may be silent for ever. D6 a
 * wrong password waits for its answer, the longer the more of them came from that address (I14); a right one never waits, so that
 * nobody can lock out others by guessing. */
#include "nodes/doors/door.h"
#include "nodes/doors/queue_door.h"

#include "utils/hash.h"
#include "utils/limits.h"

enum { HTTP_TIMER_MS = 1000, GUESSES_FREE = 10, GUESS_MS = 1000, GUESS_MS_MAX = 4000, GUESSES_MAX = 1000 };

void doors_wake(struct node *n, uint64_t at_ms)
{
    struct doors *d = n->doors;
    d->next_timer_ms = at_ms < d->next_timer_ms ? at_ms : d->next_timer_ms;
}

void conn_clock_opened(struct node *n, struct conn *c)
{
    if (c->kind == DOOR_HTTP) {
        doors_wake(n, n->now_ms + HTTP_TIMER_MS);
    } else if (!c->authenticated) {
        doors_wake(n, c->stranger_ms + LIMIT_PREAUTH_MS);
    }
}

/* When the connection has taken too long, UINT64_MAX: it owes nothing. Bytes that wait because we do not read are no debt. */
static uint64_t overdue_ms(const struct conn *c)
{
    if (c->kind == DOOR_HTTP || c->closing) {
        return UINT64_MAX;
    }
    if (!c->authenticated) {
        return c->stranger_ms + LIMIT_PREAUTH_MS;
    }
    return c->seen_bytes > 0 && !c->paused ? c->last_ms + LIMIT_RESP_STALL_MS : UINT64_MAX;
}

void conn_clock_data(struct node *n, struct conn *c)
{
    doors_wake(n, overdue_ms(c));
}

static struct guesses *guesses_of(struct node *n, const struct conn *c)
{
    slice_t address = slice_str(c->remote);
    while (address.len > 0 && address.ptr[address.len - 1] != ':') {
        address.len--; /* the port is new each time */
    }
    struct guesses *g = &n->doors->guesses[hash_bytes(0, address) % GUESS_PLACES];
    uint64_t forgiven = (n->now_ms - g->at_ms) / GUESS_MS;
    g->count -= forgiven < g->count ? (uint32_t)forgiven : g->count;
    g->at_ms += forgiven * GUESS_MS;
    return g;
}

bool conn_guessed(struct node *n, struct conn *c, uint64_t slot)
{
    struct guesses *g = guesses_of(n, c);
    metrics_refused(&n->metrics, REFUSED_AUTH);
    g->count += g->count < GUESSES_MAX;
    if (g->count <= GUESSES_FREE) {
        return false;
    }
    uint64_t wait = (uint64_t)GUESS_MS * (g->count / GUESSES_FREE);
    c->guess_until_ms = n->now_ms + (wait < GUESS_MS_MAX ? wait : GUESS_MS_MAX);
    c->guess_slot = slot;
    conn_pause(n, c);
    doors_wake(n, c->guess_until_ms);
    return true;
}

static void guess_answer(struct node *n, struct conn *c)
{
    c->guess_until_ms = 0;
    if (c->kind == DOOR_HTTP) {
        http_door_wrong_password(n, c, c->guess_slot);
    } else {
        conn_reply(n, c, c->guess_slot, SLICE_LIT("-" WRONG_PASSWORD "\r\n"));
    }
    conn_resume(n, c);
}

static void session_renew(struct node *n, struct conn *c)
{
    struct lock_op op = {.kind = LOCK_OP_SESSION_KEEPALIVE, .session = c->session};
    route_internal(n, 0, &op);
    c->session_renew_ms = n->now_ms + CONN_SESSION_TTL_MS / 3;
}

static void conn_timers(struct node *n, struct conn *c)
{
    if (c->close_ms != 0) {
        if (n->now_ms >= c->close_ms) {
            conn_close_now(n, c);
        }
        doors_wake(n, c->close_ms);
        return;
    }
    if (c->guess_until_ms != 0 && n->now_ms >= c->guess_until_ms) {
        guess_answer(n, c);
    }
    if (c->kind == DOOR_HTTP) {
        http_door_timers(n, c);
        doors_wake(n, n->now_ms + HTTP_TIMER_MS);
    } else if (n->now_ms >= overdue_ms(c)) {
        if (c->authenticated) {
            conn_refuse(n, c, REFUSED_SLOW, "ERR", "Protocol error: the command came to no end within 60 s");
        } else {
            conn_refuse(n, c, REFUSED_NOAUTH, "NOAUTH", "not authenticated within 5 s");
        }
    }
    if (c->session != 0 && n->now_ms >= c->session_renew_ms) {
        session_renew(n, c);
    }
    if (c->session != 0) {
        doors_wake(n, c->session_renew_ms);
    }
    if (c->guess_until_ms != 0) {
        doors_wake(n, c->guess_until_ms);
    }
    doors_wake(n, overdue_ms(c));
}

void doors_timers(struct node *n)
{
    struct doors *d = n->doors;
    if (n->now_ms < d->next_timer_ms) {
        return;
    }
    d->next_timer_ms = UINT64_MAX;
    list_each(it, &d->all) {
        conn_timers(n, CONTAINER_OF(it, struct conn, all));
    }
    put_off_timers(n);
    publish_timers(n);
    cache_doors_timers(n);
}

uint64_t doors_deadline(const struct node *n)
{
    return n->doors->next_timer_ms;
}
