/* Words for what happens in the test cluster: messages, states, and the report of a broken invariant (cluster.h). */
#include <stdarg.h>
#include <stdio.h>

#include "cluster_parts.h"

const char *role_name(enum consensus_role role)
{
    static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader", "learner"};
    return roles[role];
}

const char *msg_type_name(enum msg_type type)
{
    static const char *const names[] = {"NONE", "PRE_VOTE", "PRE_VOTE_REPLY", "VOTE", "VOTE_REPLY", "APPEND", "APPEND_REPLY",
                                        "HEARTBEAT", "HEARTBEAT_REPLY", "SNAPSHOT", "SNAPSHOT_REPLY", "TIMEOUT_NOW"};
    return names[type];
}

static void print_node(const struct cluster *k, node_id_t id)
{
    const struct node *d = &k->nodes[id];
    if (d->c == NULL) {
        fprintf(stderr, "  %u is down\n", id);
        return;
    }
    struct consensus_status st;
    consensus_status(d->c, &st);
    fprintf(stderr, "  %u %s term %llu leader %u log %llu..%llu/%llu commit %llu durable %llu%s, knows", id, role_name(st.role),
            U(st.term), st.leader, U(st.first), U(st.last), U(st.last_term), U(st.commit), U(st.durable),
            st.quiesced ? " quiesced" : "");
    struct consensus_peer_status peers[CONSENSUS_MEMBERS_MAX];
    uint32_t n = consensus_peers(d->c, peers, CONSENSUS_MEMBERS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        fprintf(stderr, " %u%s %s %llu/%llu", peers[i].id, peers[i].voter ? "" : "(learner)", peers[i].state, U(peers[i].match),
                U(peers[i].next));
    }
    fprintf(stderr, "\n");
}

void cluster_fail(const struct cluster *k, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "at %llu ms: ", (unsigned long long)k->now_ms);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    for (node_id_t i = 1; i <= k->n; i++) {
        print_node(k, i);
    }
    abort();
}

void cluster_print_msg(struct buf *out, const struct consensus_msg *m)
{
    buf_printf(out, "%u->%u %s term %llu", m->from, m->to, msg_type_name(m->type), U(m->term));
    bool reply = m->type == MSG_PRE_VOTE_REPLY || m->type == MSG_VOTE_REPLY;
    if (!reply && m->type != MSG_HEARTBEAT && m->type != MSG_TIMEOUT_NOW) {
        buf_printf(out, " at %llu/%llu", U(m->index), U(m->log_term));
    }
    if (m->type == MSG_APPEND || m->type == MSG_HEARTBEAT || m->type == MSG_HEARTBEAT_REPLY) {
        buf_printf(out, " commit %llu", U(m->commit));
    }
    if (m->type == MSG_HEARTBEAT || m->type == MSG_HEARTBEAT_REPLY) {
        buf_printf(out, " round %llu", U(m->ctx));
    }
    if (m->type == MSG_SNAPSHOT || m->type == MSG_SNAPSHOT_REPLY) {
        buf_printf(out, " offset %llu", U(m->hint));
    }
    if (m->type == MSG_APPEND_REPLY && m->reject) {
        buf_printf(out, " hint %llu", U(m->hint));
    }
    if (m->type == MSG_VOTE && m->ctx != 0) {
        buf_append_str(out, " transfer");
    }
    if (m->type == MSG_SNAPSHOT) {
        buf_printf(out, " bytes %zu", m->data.len);
    }
    buf_append_str(out, m->reject ? " REJECT" : "");
    buf_append_str(out, m->quiesce ? (m->type == MSG_SNAPSHOT ? " last" : m->type == MSG_APPEND ? " silent" : " quiesce") : "");
    struct reader r = reader_of(m->data);
    struct entry e;
    uint64_t i = m->index;
    while (m->type == MSG_APPEND && entry_decode(&r, &e)) {
        static const char *const kinds[] = {"", "", "noop", "config"};
        buf_printf(out, " [%llu/%llu %s%.*s]", U(++i), U(e.term), kinds[e.type], e.type == ENTRY_NORMAL ? (int)e.payload.len : 0,
                   (const char *)e.payload.ptr);
    }
}
