/* Sessions over groups, and waiters that give up: the small internal requests a node sends on its clients' behalf.
 *
 * A session lives in group 0. Before another group holds something of it, the node that serves the client (1) has group 0
 * record the attachment, (2) has the group adopt the session, (3) sends the client's request again. When a session ends, group
 * 0's leader has each attached group drop what it held, and records each confirmation (docs/locks.md, "Sessions over groups").
 * Every step is idempotent; a crash in between only means that a step is taken again. */
#include "nodes/node_internal.h"

#include "communication/resp.h"
#include "utils/limits.h"

static void submit_op(struct node *n, uint32_t group, struct lock_op *op, request_done_fn done, uint64_t arg, uint64_t arg2)
{
    struct request *r = request_new(n, group, REQUEST_WRITE, false, done);
    r->arg = arg;
    r->arg2 = arg2;
    op->req = request_id_of(n, r);
    op->low = request_low(n, group, false);
    buf_put_u8(&r->payload, SERVICE_LOCKS);
    lock_op_encode(&r->payload, op);
    request_submit(n, r);
}

static bool is_error(slice_t reply)
{
    return reply.len > 0 && reply.ptr[0] == '-';
}

static void done_nothing(struct node *n, struct request *r, slice_t reply)
{
    (void)n;
    (void)r;
    (void)reply;
}

void route_internal(struct node *n, uint32_t group, struct lock_op *op)
{
    submit_op(n, group, op, done_nothing, 0, 0);
}

void route_cancel_waiter(struct node *n, const struct request *r)
{
    struct lock_op op = {.kind = LOCK_OP_CANCEL, .target = request_id_of(n, r)};
    submit_op(n, r->group, &op, done_nothing, 0, 0);
}

static void done_adopt(struct node *n, struct request *r, slice_t reply)
{
    if (is_error(reply)) {
        request_refuse(n, r->arg, reply);
    } else {
        request_again(n, r->arg);
    }
}

static void done_attach(struct node *n, struct request *r, slice_t reply)
{
    if (is_error(reply)) {
        request_refuse(n, r->arg, reply);
        return;
    }
    uint64_t waiting = r->arg;
    uint32_t group;
    if (request_group(n, waiting, &group)) {
        struct lock_op op = {.kind = LOCK_OP_SESSION_ADOPT, .session = r->arg2};
        submit_op(n, group, &op, done_adopt, waiting, r->arg2);
    }
}

void route_attach(struct node *n, struct request *r)
{
    slice_t names[LIMIT_ACQUIREALL_NAMES];
    struct lock_op op;
    slice_t bytes = buf_slice(&r->payload);
    syn_assert(bytes.len > 1 && bytes.ptr[0] == SERVICE_LOCKS);
    bool ok = lock_op_decode(slice_of(bytes.ptr + 1, bytes.len - 1), &op, names, LIMIT_ACQUIREALL_NAMES);
    syn_assert(ok && op.session != 0);
    struct lock_op attach = {.kind = LOCK_OP_SESSION_ATTACH, .session = op.session, .group = r->group};
    submit_op(n, 0, &attach, done_attach, r->seq, op.session);
}

static void done_detached(struct node *n, struct request *r, slice_t reply)
{
    (void)r;
    (void)reply;
    syn_assert(n->drops_in_flight > 0);
    n->drops_in_flight--;
}

static void done_drop(struct node *n, struct request *r, slice_t reply)
{
    if (is_error(reply)) {
        n->drops_in_flight--;
        return;
    }
    struct lock_op op = {.kind = LOCK_OP_SESSION_DETACHED, .session = r->arg, .group = (uint32_t)r->arg2};
    submit_op(n, 0, &op, done_detached, r->arg, r->arg2);
}

void route_session_drop(struct node *n, uint64_t session, uint32_t group)
{
    n->drops_in_flight++;
    struct lock_op op = {.kind = LOCK_OP_SESSION_DROP, .session = session};
    submit_op(n, group, &op, done_drop, session, group);
}

/* A node instance is gone for good (restarted, or silent for long): the groups led here forget its waiters. */
void route_origin_gone(struct node *n, uint64_t origin)
{
    for (uint32_t i = 0; i < n->opt.groups; i++) {
        for (uint64_t w = 0; w < 2 && group_leads(&n->groups[i]); w++) {
            struct lock_op op = {.kind = LOCK_OP_ORIGIN_GONE, .target = {.origin = origin | w}};
            submit_op(n, i, &op, done_nothing, 0, 0);
        }
    }
}

/* A cycle over groups was closed by a probe: the wait that started it is refused by an entry of its group. */
void route_victim(struct node *n, uint32_t group, struct request_id victim, slice_t cycle)
{
    struct lock_op op = {.kind = LOCK_OP_VICTIM, .target = victim, .reason = cycle};
    submit_op(n, group, &op, done_nothing, 0, 0);
}
