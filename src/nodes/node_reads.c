/* Linearizable reads at the leader (ReadIndex, Ongaro 2014, 6.4): all reads that arrive in a turn share one round.
 *
 * A read waits twice: for the round (is this still the leader?), then until the state machine has applied the index that the
 * round names. Invariants: a read's index is at least the commit index at its arrival (R11); a context is never used twice;
 * reads of a lost leadership are never answered, their askers ask the next leader. */
#include "nodes/node_internal.h"

#include "communication/resp.h"
#include "utils/limits.h"

#include <stdlib.h>

bool reads_add(struct node *n, struct node_group *g, uint64_t req, node_id_t from, slice_t query)
{
    struct pending_read *rd = calloc(1, sizeof *rd);
    syn_assert(rd != NULL && group_leads(g));
    rd->req = req;
    rd->from = from;
    buf_append_slice(&rd->query, query);
    list_push_back(&g->reads, &rd->link);
    group_touch(n, g);
    return true;
}

/* One round for every read that has none yet. Those of an earlier, unfinished round keep theirs. */
bool reads_ask(struct node *n, struct node_group *g)
{
    uint64_t ctx = 0;
    list_each(it, &g->reads) {
        struct pending_read *rd = CONTAINER_OF(it, struct pending_read, link);
        if (rd->ctx != 0) {
            continue;
        }
        if (ctx == 0) {
            ctx = n->read_ctx_next++;
            if (!consensus_read(g->consensus, ctx, n->now_ms)) {
                return false;
            }
        }
        rd->ctx = ctx;
    }
    return ctx != 0;
}

void reads_confirmed(struct node *n, struct node_group *g)
{
    (void)n;
    uint64_t ctx, index;
    while (consensus_take_read(g->consensus, &ctx, &index)) {
        list_each(it, &g->reads) {
            struct pending_read *rd = CONTAINER_OF(it, struct pending_read, link);
            if (rd->ctx == ctx) {
                rd->confirmed = true;
                rd->index = index;
            }
        }
    }
}

static void read_free(struct pending_read *rd)
{
    list_remove(&rd->link);
    buf_fini(&rd->query);
    free(rd);
}

void reads_answer(struct node *n, uint64_t req, node_id_t from, enum forward_status status, slice_t reply)
{
    if (from == 0) {
        if (status == FORWARD_OK) {
            request_answer(n, req, reply);
        } else {
            request_again(n, req);
        }
        return;
    }
    struct node_peer *p = node_peer_of(n, from);
    if (p != NULL && peer_linked(p)) {
        struct peer_msg m = {.kind = PEER_FORWARD_REPLY};
        m.u.forward_reply.req = req;
        m.u.forward_reply.status = (uint8_t)status;
        m.u.forward_reply.payload = reply;
        links_send(n, p, &m);
    }
}

/* False: the answer comes later (fill_query). */
static bool read_execute(struct node *n, struct node_group *g, const struct pending_read *rd, struct buf *reply)
{
    slice_t query = buf_slice(&rd->query);
    struct lock_query q;
    struct queue_query qq;
    if (query.len > 1 && query.ptr[0] == SERVICE_LOCKS && lock_query_decode(slice_of(query.ptr + 1, query.len - 1), &q)) {
        lock_sm_query(g->locks, group_log_now(n, g), &q, reply);
    } else if (query.len > 1 && query.ptr[0] == SERVICE_QUEUE && queue_query_decode(slice_of(query.ptr + 1, query.len - 1), &qq)) {
        if (!queue_query_execute(n, g, &qq, reply)) {
            fill_query(n, g, rd->req, rd->from, &qq);
            return false;
        }
    } else if (query.len > 1 && query.ptr[0] == SERVICE_CACHE) {
        return cache_query_execute(n, g, slice_of(query.ptr + 1, query.len - 1), reply);
    } else {
        resp_error(reply, "ERR", "the query was not understood by the leader (mixed versions?)");
    }
    if (reply->len > LIMIT_FRAME_BYTES) { /* sixty thousand waiters, say: it may have to travel, and no field of a frame takes more */
        buf_clear(reply);
        resp_error(reply, "LIMIT", "the reply would be larger than %d bytes", LIMIT_FRAME_BYTES);
    }
    return true;
}

void reads_serve(struct node *n, struct node_group *g)
{
    if (list_empty(&g->reads)) {
        return;
    }
    struct buf reply;
    buf_init(&reply);
    list_each_safe(it, &g->reads) {
        struct pending_read *rd = CONTAINER_OF(it, struct pending_read, link);
        if (!rd->confirmed || rd->index > g->applied) {
            continue;
        }
        buf_clear(&reply);
        if (read_execute(n, g, rd, &reply)) {
            reads_answer(n, rd->req, rd->from, FORWARD_OK, buf_slice(&reply));
        }
        read_free(rd);
    }
    buf_fini(&reply);
}

/* That process is gone: its number may live again, with other requests of the same numbers. */
void reads_forget(struct node *n, node_id_t from)
{
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        list_each_safe(it, &n->groups[i].reads) {
            struct pending_read *rd = CONTAINER_OF(it, struct pending_read, link);
            if (rd->from == from) {
                read_free(rd);
            }
        }
        if (n->groups[i].q.sm != NULL) {
            queue_claims_drop(n, &n->groups[i], from);
            fills_drop(n, &n->groups[i], from, true);
        }
    }
}

/* Leadership is over (or began anew): nobody may be answered from here. Our own askers are sent again by the router. */
void reads_drop(struct node *n, struct node_group *g)
{
    list_each_safe(it, &g->reads) {
        struct pending_read *rd = CONTAINER_OF(it, struct pending_read, link);
        if (rd->from != 0) {
            reads_answer(n, rd->req, rd->from, FORWARD_NOT_READY, SLICE_NONE);
        } else {
            request_park(n, rd->req);
        }
        read_free(rd);
    }
}
