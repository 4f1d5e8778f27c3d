/* The cluster of cluster.h: carries out what replicas want done, and shows every step to the oracles. */
#include "cluster_parts.h"

#include "utils/assert.h"

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
        cluster_fail(k, "node %u sends an invalid %s: %s", m->from, msg_type_name(m->type), reason);
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
    bool ok = consensus_config_decode(reader_take(&r, 1 + (size_t)members * CONSENSUS_MEMBER_BYTES), &s->config);
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
    disk_install(&d->disk, s);
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
    disk_install(&d->disk, &s);
    uint64_t keep = s.index + 1 > k->snapshot_keep ? s.index + 1 - k->snapshot_keep : 1;
    consensus_snapshot_made(d->c, s.index, s.term, keep);
    cluster_pump(k, id);
}

static void print_role(struct cluster *k, node_id_t id, const struct consensus_status *was, const struct consensus_status *st)
{
    if (k->trace != NULL && (was->role != st->role || was->term != st->term)) {
        buf_printf(k->trace, "  %u is %s in term %llu\n", id, role_name(st->role), U(st->term));
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
        syn_assert(offset == 0 || consensus_chunk_asked_ms(d->c) > 0);
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
    return consensus_propose(k->nodes[id].c, ENTRY_NORMAL, payload, k->now_ms, &index) == PROPOSE_OK;
}

bool cluster_read(struct cluster *k, node_id_t id)
{
    uint64_t ctx = k->reads_asked + 1;
    if (!consensus_read(k->nodes[id].c, ctx, k->now_ms)) {
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
