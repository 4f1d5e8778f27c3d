/* What a node of the test cluster has on disk: terms and votes, entries, the newest snapshot (cluster.h). */
#include "cluster_parts.h"

uint64_t disk_last(const struct disk *d)
{
    return d->snap.index + d->count;
}

uint64_t disk_term(const struct disk *d, uint64_t index)
{
    if (index == d->snap.index) {
        return d->snap.term;
    }
    return index > d->snap.index && index <= disk_last(d) ? d->entries[index - d->snap.index - 1].term : 0;
}

void disk_cut(struct disk *d, uint64_t from)
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

void disk_apply(const struct cluster *k, struct disk *d, const struct write *w)
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

void disk_install(struct disk *d, const struct snapshot *s)
{
    bool keep = disk_term(d, s->index) == s->term;
    if (keep) {
        disk_drop(d, s->index);
    } else {
        disk_cut(d, 0);
    }
    d->snap = *s;
}
