/* The cluster of cluster.h: carries out what replicas want done and holds every step against the oracles. */
#include "cluster.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "utils/hash.h"

#define U(x) ((unsigned long long)(x))

static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader", "learner"};

static void print_node(const struct cluster *k, node_id_t id)
{
    const struct node *d = &k->nodes[id];
    if (d->c == NULL) {
        fprintf(stderr, "  %u is down\n", id);
        return;
    }
    struct consensus_status st;
    consensus_status(d->c, &st);
    fprintf(stderr, "  %u %s term %llu leader %u log %llu..%llu/%llu commit %llu durable %llu%s, knows", id, roles[st.role],
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

static uint64_t chain_hash(uint64_t prev, uint64_t term, enum entry_type type, slice_t payload)
{
    return hash_u64(hash_bytes(prev ^ hash_u64(term * 4 + (uint64_t)type), payload));
}

static void *must(void *p)
{
    if (p == NULL) {
        abort();
    }
    return p;
}

static void grow_chains(struct cluster *k);

/* R3: whoever has an entry (index, term) has the same log up to it. */
static void check_chain(struct cluster *k, uint64_t index, uint64_t term, uint64_t digest)
{
    size_t mask = k->cap_chains - 1, used = 0;
    for (size_t i = hash_u64(index * 1000003 + term) & mask;; i = (i + 1) & mask, used++) {
        struct chain *s = &k->chains[i];
        if (s->index == index && s->term == term) {
            if (s->digest != digest) {
                cluster_fail(k, "R3: logs differ below (%llu, term %llu)", U(index), U(term));
            }
            return;
        }
        if (s->index == 0) {
            *s = (struct chain){index, term, digest};
            if (used > 32) {
                grow_chains(k);
            }
            return;
        }
    }
}

static void grow_chains(struct cluster *k)
{
    struct chain *old = k->chains;
    size_t n = k->cap_chains;
    k->cap_chains *= 2;
    k->chains = must(calloc(k->cap_chains, sizeof *k->chains));
    for (size_t i = 0; i < n; i++) {
        if (old[i].index != 0) {
            check_chain(k, old[i].index, old[i].term, old[i].digest);
        }
    }
    free(old);
}

static uint64_t find_chain(const struct cluster *k, uint64_t index, uint64_t term)
{
    size_t mask = k->cap_chains - 1;
    for (size_t i = hash_u64(index * 1000003 + term) & mask; k->chains[i].index != 0; i = (i + 1) & mask) {
        if (k->chains[i].index == index && k->chains[i].term == term) {
            return k->chains[i].digest;
        }
    }
    return 0;
}

/* ---- disk ---- */

static uint64_t disk_last(const struct disk *d)
{
    return d->snap.index + d->count;
}

static uint64_t disk_term(const struct disk *d, uint64_t index)
{
    if (index == d->snap.index) {
        return d->snap.term;
    }
    return index > d->snap.index && index <= disk_last(d) ? d->entries[index - d->snap.index - 1].term : 0;
}

static void disk_cut(struct disk *d, uint64_t from)
{
    while (d->count > 0 && disk_last(d) >= from) {
        buf_fini(&d->entries[--d->count].payload);
    }
}

static void disk_push(struct disk *d, const struct entry *e)
{
    if (d->count == d->cap) {
        d->cap = d->cap == 0 ? 16 : d->cap * 2;
        d->entries = must(realloc(d->entries, d->cap * sizeof *d->entries));
    }
    struct disk_entry *n = &d->entries[d->count++];
    *n = (struct disk_entry){.term = e->term, .type = e->type};
    buf_append_slice(&n->payload, e->payload);
}

static void disk_drop(struct disk *d, uint64_t upto)
{
    size_t n = 0;
    while (n < d->count && d->snap.index + n + 1 <= upto) {
        buf_fini(&d->entries[n++].payload);
    }
    memmove(d->entries, d->entries + n, (d->count - n) * sizeof *d->entries);
    d->count -= n;
}

static void disk_apply(const struct cluster *k, struct disk *d, const struct write *w)
{
    if (w->p.hard_state) {
        if (w->p.term < d->term || (w->p.term == d->term && d->vote != 0 && d->vote != w->p.vote)) {
            cluster_fail(k, "R7: durable vote of term %llu changed from %u to %u", U(d->term), d->vote, w->p.vote);
        }
        d->term = w->p.term;
        d->vote = w->p.vote;
    }
    if (w->p.n_entries == 0) {
        return;
    }
    if (w->p.first_index > disk_last(d) + 1) {
        cluster_fail(k, "a write at %llu leaves a gap after %llu", U(w->p.first_index), U(disk_last(d)));
    }
    disk_cut(d, w->p.first_index);
    struct reader r = reader_of(buf_slice(&w->run));
    struct entry e;
    for (uint64_t i = w->p.first_index; entry_decode(&r, &e); i++) {
        if (i > d->snap.index) {
            disk_push(d, &e);
        }
    }
}

static void install_snapshot_on_disk(struct disk *d, const struct snapshot *s)
{
    bool keep = disk_term(d, s->index) == s->term;
    if (keep) {
        disk_drop(d, s->index);
    } else {
        disk_cut(d, 0);
    }
    d->snap = *s;
}

/* ---- nodes ---- */

void cluster_init(struct cluster *k, uint32_t n, uint32_t voters, uint64_t seed, uint32_t append_bytes_max)
{
    memset(k, 0, sizeof *k);
    k->n = n;
    prng_init(&k->prng, seed);
    k->initial.count = voters;
    for (uint32_t i = 0; i < voters; i++) {
        k->initial.members[i] = (struct consensus_member){.id = i + 1, .voter = true};
    }
    k->options = (struct consensus_options){.group = 7, .election_ms_min = 150, .election_ms_max = 300, .heartbeat_ms = 50,
                                            .append_bytes_max = append_bytes_max};
    k->cap_chains = 4096;
    k->chains = must(calloc(k->cap_chains, sizeof *k->chains));
    k->cap_canon = 1024;
    k->canon = must(calloc(k->cap_canon, sizeof *k->canon));
    k->now_ms = 1000;
    for (node_id_t i = 1; i <= n; i++) {
        k->nodes[i].disk.snap.config = k->initial;
        cluster_start(k, i);
    }
}

static void forget_volatile(struct node *d)
{
    for (size_t i = 0; i < d->n_writes; i++) {
        buf_fini(&d->writes[i].run);
    }
    d->n_writes = 0;
    buf_clear(&d->install);
    d->install_ready = false;
}

void cluster_fini(struct cluster *k)
{
    for (node_id_t i = 1; i <= k->n; i++) {
        struct node *d = &k->nodes[i];
        if (d->c != NULL) {
            consensus_free(d->c);
        }
        forget_volatile(d);
        disk_cut(&d->disk, 0);
        free(d->disk.entries);
        free(d->writes);
        buf_fini(&d->install);
    }
    for (size_t i = 0; i < k->n_packets; i++) {
        buf_fini(&k->packets[i].data);
    }
    free(k->packets);
    free(k->chains);
    free(k->canon);
}

void cluster_start(struct cluster *k, node_id_t id)
{
    struct node *d = &k->nodes[id];
    struct consensus_options o = k->options;
    o.self = id;
    o.seed = prng_u64(&k->prng);
    struct consensus_recovered r = {.term = d->disk.term, .vote = d->disk.vote, .snapshot_index = d->disk.snap.index,
                                    .snapshot_term = d->disk.snap.term, .config = d->disk.snap.config};
    d->c = consensus_new(&o, &r, k->now_ms);
    struct buf run;
    buf_init(&run);
    for (size_t i = 0; i < d->disk.count; i++) {
        entry_encode(&run, d->disk.entries[i].term, d->disk.entries[i].type, buf_slice(&d->disk.entries[i].payload));
    }
    consensus_restore_entries(d->c, d->disk.snap.index + 1, buf_slice(&run), (uint32_t)d->disk.count);
    buf_fini(&run);
    d->applied = d->commit_seen = d->disk.snap.index;
    d->digest = d->disk.snap.digest;
    cluster_pump(k, id);
}

void cluster_crash(struct cluster *k, node_id_t id, size_t writes_kept)
{
    struct node *d = &k->nodes[id];
    for (size_t i = 0; i < d->n_writes && i < writes_kept; i++) {
        disk_apply(k, &d->disk, &d->writes[i]);
    }
    consensus_free(d->c);
    d->c = NULL;
    forget_volatile(d);
    k->crashes++;
    for (node_id_t i = 1; i <= k->n; i++) {
        if (i != id && k->nodes[i].c != NULL && !k->blocked[id][i] && !k->manual) {
            consensus_peer_lost(k->nodes[i].c, id, k->now_ms);
        }
    }
}

void cluster_complete_write(struct cluster *k, node_id_t id)
{
    struct node *d = &k->nodes[id];
    struct write w = d->writes[0];
    memmove(d->writes, d->writes + 1, (d->n_writes - 1) * sizeof *d->writes);
    d->n_writes--;
    disk_apply(k, &d->disk, &w);
    buf_fini(&w.run);
    consensus_persisted(d->c, w.p.persist_no);
}

/* ---- oracles ---- */

static const char *const type_names[] = {"NONE", "PRE_VOTE", "PRE_VOTE_REPLY", "VOTE", "VOTE_REPLY", "APPEND", "APPEND_REPLY",
                                         "HEARTBEAT", "HEARTBEAT_REPLY", "SNAPSHOT", "SNAPSHOT_REPLY", "TIMEOUT_NOW"};

static bool is_prevote(const struct consensus_msg *m)
{
    return m->type == MSG_PRE_VOTE || (m->type == MSG_PRE_VOTE_REPLY && !m->reject);
}

static void check_vote(struct cluster *k, node_id_t voter, uint64_t term, node_id_t candidate)
{
    node_id_t *v = &k->nodes[voter].votes[term % TERMS_MAX];
    if (*v != 0 && *v != candidate) {
        cluster_fail(k, "R7: node %u voted for %u and %u in term %llu", voter, *v, candidate, U(term));
    }
    *v = candidate;
}

/* R6, R7: what the message promises must be in the durable image of its sender. */
static void check_promise(struct cluster *k, const struct consensus_msg *m)
{
    const struct node *d = &k->nodes[m->from];
    if (is_prevote(m)) {
        return;
    }
    const char *name = type_names[m->type];
    if (d->disk.term < m->term) {
        cluster_fail(k, "R6: node %u sends %s of term %llu, durable is %llu", m->from, name, U(m->term), U(d->disk.term));
    }
    bool current = d->disk.term == m->term;
    if (m->type == MSG_VOTE || (m->type == MSG_VOTE_REPLY && !m->reject)) {
        node_id_t candidate = m->type == MSG_VOTE ? m->from : m->to;
        check_vote(k, m->from, m->term, candidate);
        if (current && d->disk.vote != candidate) {
            cluster_fail(k, "R6: node %u sends %s, its durable vote is %u", m->from, name, d->disk.vote);
        }
    }
    if (m->type == MSG_VOTE_REPLY && m->reject && m->ctx == m->term && current && d->disk.vote == m->to) {
        cluster_fail(k, "S19: node %u refuses %u, for whom it voted in term %llu", m->from, m->to, U(m->term));
    }
    if ((m->type == MSG_APPEND_REPLY || m->type == MSG_HEARTBEAT_REPLY) && !m->reject) {
        uint64_t term = consensus_term_at(d->c, m->index);
        bool there = m->index <= d->disk.snap.index || (disk_term(&d->disk, m->index) != 0 && disk_term(&d->disk, m->index) == term);
        if (!there) {
            cluster_fail(k, "R6: node %u acknowledges %llu, which is not durable there", m->from, U(m->index));
        }
    }
}

static void canon_push(struct cluster *k, uint64_t term, uint64_t digest)
{
    if (k->n_canon + 1 == k->cap_canon) {
        k->cap_canon *= 2;
        k->canon = must(realloc(k->canon, k->cap_canon * sizeof *k->canon));
    }
    k->canon[++k->n_canon] = (struct canon){term, digest};
}

/* A leader's new commit index: of its own term (R9), and durable on a majority of the voters (S3, S5, S17). */
static void check_leader_commit(const struct cluster *k, node_id_t id, const struct consensus_status *st)
{
    const struct consensus_config *config = consensus_config_now(k->nodes[id].c);
    uint64_t term = consensus_term_at(k->nodes[id].c, st->commit);
    if (term != st->term) {
        cluster_fail(k, "R9: leader %u of term %llu commits %llu of term %llu", id, U(st->term), U(st->commit), U(term));
    }
    uint32_t voters = 0, have = 0;
    for (uint32_t i = 0; i < config->count; i++) {
        if (config->members[i].voter) {
            const struct disk *d = &k->nodes[config->members[i].id].disk;
            voters++;
            have += d->snap.index >= st->commit || disk_term(d, st->commit) == term;
        }
    }
    if (have < voters / 2 + 1) {
        cluster_fail(k, "leader %u commits %llu, durable on %u of %u voters", id, U(st->commit), have, voters);
    }
}

static void observe_commit(struct cluster *k, node_id_t id, const struct consensus_status *st)
{
    struct node *d = &k->nodes[id];
    if (st->commit < d->commit_seen) {
        cluster_fail(k, "R8: commit of node %u fell from %llu to %llu", id, U(d->commit_seen), U(st->commit));
    }
    bool grew = st->commit > d->commit_seen;
    d->commit_seen = st->commit;
    if (!grew) {
        return;
    }
    if (st->role == ROLE_LEADER) {
        check_leader_commit(k, id, st);
    }
    for (uint64_t i = k->n_canon + 1; i <= st->commit; i++) {
        struct entry e;
        if (!consensus_entry_at(d->c, i, &e)) {
            cluster_fail(k, "node %u committed %llu first and does not have it", id, U(i));
        }
        canon_push(k, e.term, chain_hash(i > 1 ? k->canon[i - 1].digest : 0, e.term, e.type, e.payload));
    }
    uint64_t term = consensus_term_at(d->c, st->commit);
    if (term != 0 && term != k->canon[st->commit].term) {
        cluster_fail(k, "R5: node %u commits %llu of term %llu, committed was term %llu", id, U(st->commit), U(term),
                     U(k->canon[st->commit].term));
    }
}

static void observe_leader(struct cluster *k, node_id_t id, const struct consensus_status *st)
{
    struct node *d = &k->nodes[id];
    if (st->role != ROLE_LEADER || d->leader_term_seen == st->term) {
        return;
    }
    d->leader_term_seen = st->term;
    k->leader_changes++;
    node_id_t *l = &k->leaders[st->term % TERMS_MAX];
    if (*l != 0) {
        cluster_fail(k, "R1: term %llu has leaders %u and %u", U(st->term), *l, id);
    }
    *l = id;
    uint64_t last = k->n_canon;
    bool whole = last == 0 || st->snapshot >= last || consensus_term_at(d->c, last) == k->canon[last].term;
    if (!whole) {
        cluster_fail(k, "R4: leader %u of term %llu lacks committed entry %llu", id, U(st->term), U(last));
    }
}

/* ---- carrying out ---- */

void cluster_print_msg(struct buf *out, const struct consensus_msg *m)
{
    buf_printf(out, "%u->%u %s term %llu", m->from, m->to, type_names[m->type], U(m->term));
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

static void send_packet(struct cluster *k, const struct consensus_msg *m)
{
    if (k->n_packets == k->cap_packets) {
        k->cap_packets = k->cap_packets == 0 ? 64 : k->cap_packets * 2;
        k->packets = must(realloc(k->packets, k->cap_packets * sizeof *k->packets));
    }
    struct packet *p = &k->packets[k->n_packets++];
    *p = (struct packet){.m = *m, .no = ++k->packet_no};
    buf_append_slice(&p->data, m->data);
    p->at_ms = k->now_ms + (k->delay_ms_max > 0 ? prng_range(&k->prng, 0, k->delay_ms_max) : 0);
    if (k->loss_ppm > 0 && prng_chance(&k->prng, 5000)) {
        p->at_ms += prng_range(&k->prng, 100, 4000); /* a message delivered when everybody has forgotten it */
    }
}

static void on_msg(struct cluster *k, const struct consensus_msg *m)
{
    const char *reason = consensus_msg_invalid(m);
    if (reason != NULL) {
        cluster_fail(k, "node %u sends an invalid %s: %s", m->from, type_names[m->type], reason);
    }
    check_promise(k, m);
    k->snapshots_sent += m->type == MSG_SNAPSHOT && m->quiesce;
    if (k->trace != NULL) {
        buf_append_str(k->trace, "  > ");
        cluster_print_msg(k->trace, m);
        buf_append_str(k->trace, "\n");
    }
    if (m->to > k->n || (k->loss_ppm > 0 && prng_chance(&k->prng, k->loss_ppm))) {
        return;
    }
    send_packet(k, m);
    if (k->dup_ppm > 0 && prng_chance(&k->prng, k->dup_ppm)) {
        send_packet(k, m);
    }
}

static void on_persist(struct cluster *k, node_id_t id, const struct consensus_persist *p)
{
    struct node *d = &k->nodes[id];
    if (d->n_writes == d->cap_writes) {
        d->cap_writes = d->cap_writes == 0 ? 8 : d->cap_writes * 2;
        d->writes = must(realloc(d->writes, d->cap_writes * sizeof *d->writes));
    }
    struct write *w = &d->writes[d->n_writes++];
    *w = (struct write){.p = *p, .done_at_ms = k->now_ms + (k->disk_ms_max > 0 ? prng_range(&k->prng, 0, k->disk_ms_max) : 0)};
    buf_append_slice(&w->run, p->entries);
    struct reader r = reader_of(p->entries);
    struct entry e;
    uint64_t before = p->first_index - 1, term = consensus_term_at(d->c, before);
    uint64_t digest = before == 0 ? 0 : find_chain(k, before, term);
    for (uint64_t i = p->first_index; entry_decode(&r, &e); i++) {
        digest = chain_hash(digest, e.term, e.type, e.payload);
        check_chain(k, i, e.term, digest);
    }
    if (k->trace != NULL) {
        buf_printf(k->trace, "  %u writes #%llu", id, U(p->persist_no));
        if (p->hard_state) {
            buf_printf(k->trace, " term %llu vote %u", U(p->term), p->vote);
        }
        if (p->n_entries > 0) {
            buf_printf(k->trace, " entries %llu..%llu", U(p->first_index), U(p->first_index + p->n_entries - 1));
        }
        buf_append_str(k->trace, "\n");
    }
}

static void on_committed(struct cluster *k, node_id_t id, const struct entry *e)
{
    struct node *d = &k->nodes[id];
    if (e->index != d->applied + 1) {
        cluster_fail(k, "node %u applies %llu after %llu", id, U(e->index), U(d->applied));
    }
    d->digest = chain_hash(d->digest, e->term, e->type, e->payload);
    d->applied = e->index;
    k->applied_total++;
    if (e->index <= k->n_canon && k->canon[e->index].digest != d->digest) {
        cluster_fail(k, "R5: node %u applies another entry at %llu than was committed", id, U(e->index));
    }
    if (k->trace != NULL) {
        buf_printf(k->trace, "  %u applies %llu/%llu %.*s\n", id, U(e->index), U(e->term),
                   e->type == ENTRY_NORMAL ? (int)e->payload.len : 0, (const char *)e->payload.ptr);
    }
}

static void on_read(struct cluster *k, node_id_t id, uint64_t ctx, uint64_t index)
{
    k->reads_done++;
    if (index < k->read_floor[ctx % 4096]) {
        cluster_fail(k, "R11: node %u answers a read at %llu, committed when it was asked was %llu", id, U(index),
                     U(k->read_floor[ctx % 4096]));
    }
    if (k->trace != NULL) {
        buf_printf(k->trace, "  %u read %llu confirmed at %llu\n", id, U(ctx), U(index));
    }
}

static void snapshot_blob(const struct snapshot *s, struct buf *out)
{
    buf_put_u64(out, s->index);
    buf_put_u64(out, s->term);
    buf_put_u64(out, s->digest);
    consensus_config_encode(&s->config, out);
    while (out->len < SNAPSHOT_BLOB_BYTES) {
        buf_put_u8(out, (uint8_t)out->len);
    }
}

static void on_wants_chunk(struct cluster *k, node_id_t id, node_id_t to, uint64_t index, uint64_t offset)
{
    const struct snapshot *s = &k->nodes[id].disk.snap;
    if (s->index != index || offset > SNAPSHOT_BLOB_BYTES) {
        consensus_chunk(k->nodes[id].c, to, index, offset, SLICE_NONE, false);
        return;
    }
    struct buf b;
    buf_init(&b);
    snapshot_blob(s, &b);
    size_t n = b.len - offset < SNAPSHOT_CHUNK_BYTES ? b.len - offset : SNAPSHOT_CHUNK_BYTES;
    consensus_chunk(k->nodes[id].c, to, index, offset, slice_of(b.ptr + offset, n), offset + n == b.len);
    buf_fini(&b);
}

static void on_install(struct cluster *k, node_id_t id, const struct consensus_install *in)
{
    struct node *d = &k->nodes[id];
    if (in->offset == 0) {
        buf_clear(&d->install);
    }
    if (in->offset != d->install.len) {
        cluster_fail(k, "node %u is given offset %llu after %zu bytes", id, U(in->offset), d->install.len);
    }
    buf_append_slice(&d->install, in->data);
    if (k->trace != NULL) {
        buf_printf(k->trace, "  %u receives snapshot %llu bytes %zu%s\n", id, U(in->index), d->install.len, in->last ? " last" : "");
    }
    if (!in->last) {
        consensus_install_progress(d->c, in->index, d->install.len);
        return;
    }
    struct reader r = reader_of(buf_slice(&d->install));
    struct snapshot *s = &d->installing;
    s->index = reader_u64(&r);
    s->term = reader_u64(&r);
    s->digest = reader_u64(&r);
    uint8_t members = r.ok ? *r.p : 0;
    bool ok = consensus_config_decode(reader_take(&r, 1 + (size_t)members * 5), &s->config);
    if (!ok || s->index != in->index || s->term != in->term) {
        cluster_fail(k, "node %u received a damaged snapshot", id);
    }
    d->install_ready = true;
}

void cluster_complete_install(struct cluster *k, node_id_t id)
{
    struct node *d = &k->nodes[id];
    if (!d->install_ready) {
        return;
    }
    while (d->n_writes > 0) {
        cluster_complete_write(k, id);
    }
    const struct snapshot *s = &d->installing;
    if (s->digest != k->canon[s->index].digest || s->term != k->canon[s->index].term) {
        cluster_fail(k, "R13: node %u installs a snapshot of %llu that differs from what was committed", id, U(s->index));
    }
    d->install_ready = false;
    buf_clear(&d->install);
    if (s->index <= d->applied) {
        cluster_fail(k, "node %u applied %llu while it restored the snapshot of %llu", id, U(d->applied), U(s->index));
    }
    install_snapshot_on_disk(&d->disk, s);
    d->applied = s->index;
    d->digest = s->digest;
    check_chain(k, s->index, s->term, s->digest);
    consensus_installed(d->c, s->index, s->term, &s->config);
}

void cluster_snapshot(struct cluster *k, node_id_t id)
{
    struct node *d = &k->nodes[id];
    if (d->install_ready || d->applied <= d->disk.snap.index) {
        return;
    }
    struct snapshot s = {.index = d->applied, .term = consensus_term_at(d->c, d->applied), .digest = d->digest,
                         .config = *consensus_config_applied(d->c)};
    while (d->n_writes > 0) {
        cluster_complete_write(k, id);
    }
    install_snapshot_on_disk(&d->disk, &s);
    uint64_t keep = s.index + 1 > k->snapshot_keep ? s.index + 1 - k->snapshot_keep : 1;
    consensus_snapshot_made(d->c, s.index, s.term, keep);
    cluster_pump(k, id);
}

static void print_role(struct cluster *k, node_id_t id, const struct consensus_status *was, const struct consensus_status *st)
{
    if (k->trace != NULL && (was->role != st->role || was->term != st->term)) {
        buf_printf(k->trace, "  %u is %s in term %llu\n", id, roles[st->role], U(st->term));
    }
}

void cluster_pump(struct cluster *k, node_id_t id)
{
    struct node *d = &k->nodes[id];
    if (d->c == NULL) {
        return;
    }
    struct consensus_status st;
    consensus_check(d->c);
    consensus_status(d->c, &st);
    print_role(k, id, &d->status, &st);
    d->status = st;
    observe_leader(k, id, &st);
    observe_commit(k, id, &st);
    struct consensus_persist p;
    while (consensus_take_persist(d->c, &p)) {
        on_persist(k, id, &p);
    }
    node_id_t to;
    uint64_t index, offset;
    while (consensus_wants_chunk(d->c, &to, &index, &offset)) {
        on_wants_chunk(k, id, to, index, offset);
    }
    struct consensus_install in;
    while (consensus_take_install(d->c, &in)) {
        on_install(k, id, &in);
    }
    struct consensus_msg m;
    while (consensus_take_msg(d->c, &m)) {
        on_msg(k, &m);
    }
    struct entry e;
    while (consensus_take_committed(d->c, &e)) {
        on_committed(k, id, &e);
    }
    uint64_t ctx;
    while (consensus_take_read(d->c, &ctx, &index)) {
        on_read(k, id, ctx, index);
    }
    consensus_check(d->c);
}

bool cluster_propose(struct cluster *k, node_id_t id, slice_t payload)
{
    uint64_t index;
    return consensus_propose(k->nodes[id].c, ENTRY_NORMAL, payload, &index) == PROPOSE_OK;
}

bool cluster_read(struct cluster *k, node_id_t id)
{
    uint64_t ctx = k->reads_asked + 1;
    if (!consensus_read(k->nodes[id].c, ctx)) {
        return false;
    }
    k->reads_asked = ctx;
    k->read_floor[ctx % 4096] = k->n_canon;
    return true;
}

void cluster_drop(struct cluster *k, size_t i)
{
    buf_fini(&k->packets[i].data);
    memmove(k->packets + i, k->packets + i + 1, (k->n_packets - i - 1) * sizeof *k->packets);
    k->n_packets--;
}

/* R8, S14: an append moves the commit index at most to the last entry that it verified. */
static void check_append_commit(const struct cluster *k, const struct consensus_msg *m)
{
    struct consensus_status st;
    consensus_status(k->nodes[m->to].c, &st);
    uint64_t before = k->nodes[m->to].commit_seen, verified = m->index + m->n_entries;
    if (m->type == MSG_APPEND && st.commit > before && st.commit > verified) {
        cluster_fail(k, "R8: node %u commits %llu by an append that ends at %llu", m->to, U(st.commit), U(verified));
    }
}

void cluster_deliver(struct cluster *k, size_t i)
{
    struct packet p = k->packets[i];
    k->packets[i].data = (struct buf){0};
    cluster_drop(k, i);
    if (k->nodes[p.m.to].c != NULL && !k->blocked[p.m.from][p.m.to]) {
        p.m.data = buf_slice(&p.data);
        consensus_step(k->nodes[p.m.to].c, &p.m, k->now_ms);
        check_append_commit(k, &p.m);
        cluster_pump(k, p.m.to);
    }
    buf_fini(&p.data);
}

void cluster_run(struct cluster *k, uint64_t ms)
{
    k->now_ms += ms;
    for (size_t i = 0, n = k->n_packets; i < n && i < k->n_packets;) {
        if (k->packets[i].at_ms <= k->now_ms) {
            cluster_deliver(k, i);
            n--;
        } else {
            i++;
        }
    }
    for (node_id_t id = 1; id <= k->n; id++) {
        struct node *d = &k->nodes[id];
        bool worked = false;
        while (d->c != NULL && d->n_writes > 0 && d->writes[0].done_at_ms <= k->now_ms) {
            cluster_complete_write(k, id);
            worked = true;
        }
        if (d->c != NULL && d->install_ready && (k->disk_ms_max == 0 || prng_chance(&k->prng, 100000))) {
            cluster_complete_install(k, id);
            worked = true;
        }
        if (d->c != NULL && consensus_deadline_ms(d->c) <= k->now_ms) {
            consensus_tick(d->c, k->now_ms);
            worked = true;
        }
        if (worked) {
            cluster_pump(k, id);
        }
    }
}

node_id_t cluster_leader(const struct cluster *k)
{
    node_id_t leader = 0;
    uint64_t term = 0;
    for (node_id_t i = 1; i <= k->n; i++) {
        struct consensus_status st;
        if (k->nodes[i].c == NULL) {
            continue;
        }
        consensus_status(k->nodes[i].c, &st);
        if (st.role == ROLE_LEADER && st.term > term) {
            leader = i;
            term = st.term;
        }
    }
    return leader;
}
