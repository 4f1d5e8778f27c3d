/* The script language of the transcripts in tests/transcripts/raft (transcript.h):
 *
 *   cluster N [V]            N nodes, of which the first V (default all) are the initial voters; nothing moves unless told
 *   campaign ID              time goes on to ID's deadline and only ID notices
 *   tick MS [ID]             time goes on by MS; every node (or ID) is ticked
 *   limit BYTES              of one append, for clusters made after it
 *   persist ID|all [N]       the disk finishes all writes in flight, or the first N
 *   deliver [A->B|to ID]     delivers what is under way now (between A and B, to ID), in order
 *   drop [A->B|to ID]        loses it instead
 *   run [MS]                 deliver and persist until nothing moves; with MS also ticks every 10 ms for so long
 *   block A B, heal          cuts both directions between A and B; heals all cuts
 *   crash ID [KEPT], restart ID, lost ID PEER       KEPT writes in flight reach the disk; the socket to PEER closes
 *   propose ID TEXT..., read ID [N], transfer ID TO, config ID 1v 2v 3l, snapshot ID [KEEP], install ID
 *   quiesce on|off, wake ID, vote ID on|off, quiet on|off (no trace), print */
#include "transcript.h"

#include <stdio.h>
#include <stdlib.h>

#include "cluster.h"

enum { WORDS_MAX = 12 };

struct script {
    struct cluster k;
    bool open;
    struct buf trace;
    struct buf *out;
    bool quiet;
    bool quiesce;
    uint32_t append_bytes_max;
    char *words[WORDS_MAX];
    int n;
};

static node_id_t id_at(const struct script *s, int i)
{
    node_id_t id = i < s->n ? (node_id_t)strtoul(s->words[i], NULL, 10) : 0;
    if (id == 0 || id > s->k.n) {
        cluster_fail(&s->k, "script: %s wants a node as word %d", s->words[0], i);
    }
    return id;
}

static uint64_t number_at(const struct script *s, int i, uint64_t otherwise)
{
    return i < s->n ? strtoull(s->words[i], NULL, 10) : otherwise;
}

static bool is(const struct script *s, int i, const char *word)
{
    return i < s->n && strcmp(s->words[i], word) == 0;
}

static bool up(const struct script *s, node_id_t id)
{
    return s->k.nodes[id].c != NULL;
}

static void allow_quiesce(struct script *s)
{
    for (node_id_t i = 1; i <= s->k.n; i++) {
        if (up(s, i)) {
            consensus_allow_quiesce(s->k.nodes[i].c, s->quiesce, s->k.now_ms);
        }
    }
}

static void do_tick(struct script *s, node_id_t only)
{
    for (node_id_t i = 1; i <= s->k.n; i++) {
        if (up(s, i) && (only == 0 || only == i) && consensus_deadline_ms(s->k.nodes[i].c) <= s->k.now_ms) {
            consensus_tick(s->k.nodes[i].c, s->k.now_ms);
            cluster_pump(&s->k, i);
        }
    }
}

static bool do_persist(struct script *s, node_id_t only, uint64_t n)
{
    bool any = false;
    for (node_id_t i = 1; i <= s->k.n; i++) {
        if (!up(s, i) || (only != 0 && only != i) || s->k.nodes[i].n_writes == 0) {
            continue;
        }
        any = true;
        for (uint64_t k = 0; k < n && s->k.nodes[i].n_writes > 0; k++) {
            cluster_complete_write(&s->k, i);
        }
        cluster_pump(&s->k, i);
    }
    return any;
}

/* "2->3", "to 3" or nothing: which packets a command means. */
static bool selects(const struct script *s, const struct consensus_msg *m)
{
    unsigned from, to;
    if (s->n == 1) {
        return true;
    }
    if (is(s, 1, "to")) {
        return m->to == id_at(s, 2);
    }
    if (sscanf(s->words[1], "%u->%u", &from, &to) != 2) {
        cluster_fail(&s->k, "script: %s does not name a link", s->words[1]);
    }
    return m->from == from && m->to == to;
}

static bool do_packets(struct script *s, bool deliver)
{
    struct cluster *k = &s->k;
    uint64_t until = k->packet_no;
    bool any = false;
    for (size_t i = 0; i < k->n_packets && k->packets[i].no <= until;) {
        if (!selects(s, &k->packets[i].m)) {
            i++;
            continue;
        }
        any = true;
        if (!deliver) {
            cluster_drop(k, i);
            continue;
        }
        if (k->trace != NULL) {
            buf_printf(k->trace, "  < ");
            struct consensus_msg m = k->packets[i].m;
            m.data = SLICE_NONE;
            cluster_print_msg(k->trace, &m);
            buf_append_str(k->trace, up(s, m.to) && !k->blocked[m.from][m.to] ? "\n" : " (lost)\n");
        }
        cluster_deliver(k, i);
    }
    return any;
}

static void settle(struct script *s)
{
    char *word = "deliver";
    s->words[0] = word;
    s->n = 1;
    for (int i = 0; i < 200; i++) {
        bool moved = do_packets(s, true);
        moved |= do_persist(s, 0, UINT64_MAX);
        if (!moved) {
            return;
        }
    }
    cluster_fail(&s->k, "script: run does not come to rest");
}

static void do_run(struct script *s)
{
    uint64_t end = s->k.now_ms + number_at(s, 1, 0);
    settle(s);
    while (s->k.now_ms < end) {
        s->k.now_ms += 10;
        do_tick(s, 0);
        settle(s);
    }
}

static void do_config(struct script *s)
{
    static const char *const results[] = {"ok", "not leader", "busy", "transferring", "config pending", "bad config"};
    struct consensus_config next = {0};
    for (int i = 2; i < s->n; i++) {
        char *end;
        next.members[next.count].id = (node_id_t)strtoul(s->words[i], &end, 10);
        next.members[next.count++].voter = *end == 'v';
    }
    uint64_t index = 0;
    enum propose_result r = consensus_change_config(s->k.nodes[id_at(s, 1)].c, &next, s->k.now_ms, &index);
    buf_printf(&s->trace, "  %s%s", results[r], r == PROPOSE_OK ? "" : "\n");
    if (r == PROPOSE_OK) {
        buf_printf(&s->trace, ", entry %llu\n", (unsigned long long)index);
    }
    cluster_pump(&s->k, id_at(s, 1));
}

static void do_propose(struct script *s)
{
    static const char *const results[] = {"ok", "not leader", "busy", "transferring", "config pending", "bad config"};
    uint64_t index = 0;
    node_id_t id = id_at(s, 1);
    enum propose_result r = PROPOSE_OK;
    for (int i = 2; i < s->n && r == PROPOSE_OK; i++) {
        r = consensus_propose(s->k.nodes[id].c, ENTRY_NORMAL, slice_str(s->words[i]), s->k.now_ms, &index);
    }
    if (r != PROPOSE_OK) {
        buf_printf(&s->trace, "  %s\n", results[r]);
    }
    cluster_pump(&s->k, id);
}

static void print_one(struct script *s, node_id_t id)
{
    static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader", "learner"};
    struct consensus_status st;
    consensus_status(s->k.nodes[id].c, &st);
    buf_printf(&s->trace, "  %u %s term %llu leader %u log %llu..%llu/%llu commit %llu durable %llu%s%s", id, roles[st.role],
               (unsigned long long)st.term, st.leader, (unsigned long long)st.first, (unsigned long long)st.last,
               (unsigned long long)st.last_term, (unsigned long long)st.commit, (unsigned long long)st.durable,
               st.ready ? " ready" : "", st.quiesced ? " quiesced" : "");
    if (st.transferring_to != 0) {
        buf_printf(&s->trace, " transferring to %u", st.transferring_to);
    }
    const struct consensus_config *config = consensus_config_now(s->k.nodes[id].c);
    buf_append_str(&s->trace, " members");
    for (uint32_t i = 0; i < config->count; i++) {
        buf_printf(&s->trace, " %u%s", config->members[i].id, config->members[i].voter ? "v" : "l");
    }
    struct consensus_peer_status peers[CONSENSUS_MEMBERS_MAX];
    uint32_t n = st.role == ROLE_LEADER ? consensus_peers(s->k.nodes[id].c, peers, CONSENSUS_MEMBERS_MAX) : 0;
    for (uint32_t i = 0; i < n; i++) {
        buf_printf(&s->trace, "%s%u %s %llu", i == 0 ? " | " : ", ", peers[i].id, peers[i].state, (unsigned long long)peers[i].match);
    }
    buf_append_str(&s->trace, "\n");
}

static void do_print(struct script *s)
{
    for (node_id_t i = 1; i <= s->k.n; i++) {
        if (up(s, i)) {
            print_one(s, i);
        } else {
            buf_printf(&s->trace, "  %u is down\n", i);
        }
    }
}

static void do_cluster(struct script *s)
{
    if (s->open) {
        cluster_fini(&s->k);
    }
    uint32_t n = (uint32_t)number_at(s, 1, 3);
    cluster_init(&s->k, n, (uint32_t)number_at(s, 2, n), 42, s->append_bytes_max);
    s->k.manual = true;
    s->k.trace = &s->trace;
    s->open = true;
}

static void do_campaign(struct script *s)
{
    node_id_t id = id_at(s, 1);
    uint64_t at = consensus_deadline_ms(s->k.nodes[id].c);
    if (at != UINT64_MAX && at > s->k.now_ms) {
        s->k.now_ms = at;
    }
    do_tick(s, id);
}

static bool do_fault(struct script *s)
{
    struct cluster *k = &s->k;
    if (is(s, 0, "crash")) {
        cluster_crash(k, id_at(s, 1), number_at(s, 2, 0));
    } else if (is(s, 0, "restart")) {
        cluster_start(k, id_at(s, 1));
        allow_quiesce(s);
    } else if (is(s, 0, "lost")) {
        consensus_peer_lost(k->nodes[id_at(s, 1)].c, id_at(s, 2), k->now_ms);
        cluster_pump(k, id_at(s, 1));
    } else if (is(s, 0, "block")) {
        k->blocked[id_at(s, 1)][id_at(s, 2)] = k->blocked[id_at(s, 2)][id_at(s, 1)] = true;
    } else if (is(s, 0, "heal")) {
        memset(k->blocked, 0, sizeof k->blocked);
    } else {
        return false;
    }
    return true;
}

static bool do_node(struct script *s)
{
    struct cluster *k = &s->k;
    node_id_t id = s->n > 1 ? (node_id_t)number_at(s, 1, 0) : 0;
    if (is(s, 0, "read")) {
        for (uint64_t n = number_at(s, 2, 1); n > 0; n--) {
            buf_append_str(&s->trace, cluster_read(k, id_at(s, 1)) ? "" : "  refused\n");
        }
    } else if (is(s, 0, "transfer")) {
        buf_append_str(&s->trace, consensus_transfer(k->nodes[id_at(s, 1)].c, id_at(s, 2), k->now_ms) ? "" : "  refused\n");
    } else if (is(s, 0, "snapshot")) {
        k->snapshot_keep = number_at(s, 2, 0);
        cluster_snapshot(k, id_at(s, 1));
    } else if (is(s, 0, "install")) {
        cluster_complete_install(k, id_at(s, 1));
    } else if (is(s, 0, "wake")) {
        consensus_wake(k->nodes[id_at(s, 1)].c, k->now_ms);
    } else if (is(s, 0, "vote")) {
        consensus_set_may_vote(k->nodes[id_at(s, 1)].c, is(s, 2, "on"));
    } else {
        return false;
    }
    cluster_pump(k, id);
    return true;
}

static void execute(struct script *s)
{
    if (is(s, 0, "cluster")) {
        do_cluster(s);
    } else if (is(s, 0, "campaign")) {
        do_campaign(s);
    } else if (is(s, 0, "tick")) {
        s->k.now_ms += number_at(s, 1, 0);
        do_tick(s, s->n > 2 ? id_at(s, 2) : 0);
    } else if (is(s, 0, "persist")) {
        do_persist(s, is(s, 1, "all") ? 0 : id_at(s, 1), number_at(s, 2, UINT64_MAX));
    } else if (is(s, 0, "deliver") || is(s, 0, "drop")) {
        do_packets(s, is(s, 0, "deliver"));
    } else if (is(s, 0, "run")) {
        do_run(s);
    } else if (is(s, 0, "config")) {
        do_config(s);
    } else if (is(s, 0, "propose")) {
        do_propose(s);
    } else if (is(s, 0, "quiesce")) {
        s->quiesce = is(s, 1, "on");
        allow_quiesce(s);
    } else if (is(s, 0, "limit")) {
        s->append_bytes_max = (uint32_t)number_at(s, 1, 0);
    } else if (is(s, 0, "quiet")) {
        s->quiet = is(s, 1, "on");
    } else if (is(s, 0, "print")) {
        do_print(s);
    } else if (!do_fault(s) && !do_node(s)) {
        cluster_fail(&s->k, "script: unknown command %s", s->words[0]);
    }
}

static void run_line(struct script *s, slice_t line)
{
    buf_append_slice(s->out, line);
    buf_append_str(s->out, "\n");
    if (line.len == 0 || line.ptr[0] == '#') {
        return;
    }
    char text[256];
    size_t n = line.len < sizeof text - 1 ? line.len : sizeof text - 1;
    memcpy(text, line.ptr, n);
    text[n] = '\0';
    s->n = 0;
    for (char *save = NULL, *w = strtok_r(text, " ", &save); w != NULL && s->n < WORDS_MAX; w = strtok_r(NULL, " ", &save)) {
        s->words[s->n++] = w;
    }
    buf_clear(&s->trace);
    execute(s);
    if (!s->quiet) {
        buf_append_slice(s->out, buf_slice(&s->trace));
    }
}

void transcript_run(slice_t text, struct buf *out)
{
    static struct script s;
    memset(&s, 0, sizeof s);
    s.out = out;
    buf_init(&s.trace);
    for (size_t i = 0; i < text.len;) {
        const uint8_t *end = memchr(text.ptr + i, '\n', text.len - i);
        size_t n = end != NULL ? (size_t)(end - text.ptr) - i : text.len - i;
        if (!(n >= 2 && text.ptr[i] == ' ')) {
            run_line(&s, slice_of(text.ptr + i, n));
        }
        i += n + 1;
    }
    if (s.open) {
        cluster_fini(&s.k);
    }
    buf_fini(&s.trace);
}
