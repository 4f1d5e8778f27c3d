/* The trace of a queue transcript (queue_transcript.h). The state machine is asked for its whole visible state after each operation; the lines that
 * are not as they were are the operation's effects, so that none can be missed for want of being thought of. */
#include "queue_transcript.h"

#include <stdio.h>
#include <stdlib.h>

typedef unsigned long long ull;

void script_fail(const struct script *s, const char *what)
{
    fprintf(stderr, "script: %s %s\n", s->n > 0 ? s->words[0] : "(no word)", what);
    abort();
}

static void print_slice(struct buf *out, slice_t s)
{
    buf_printf(out, "%.*s", (int)s.len, (const char *)s.ptr);
}

/* ", word n" when there are any. */
static void print_count(struct buf *out, const char *word, uint64_t n)
{
    if (n > 0) {
        buf_printf(out, ", %s %llu", word, (ull)n);
    }
}

struct place { struct script *s; struct buf *out; uint32_t partition; slice_t group; };

static void print_dead(void *arg, const struct dead_info *d)
{
    struct place *at = arg;
    print_slice(at->out, at->group);
    buf_printf(at->out, "/%u dead %llu: deliveries %u, ", at->partition, (ull)d->offset, d->deliveries);
    print_slice(at->out, d->reason);
    buf_append_str(at->out, "\n");
}

static void print_position(void *arg, const struct group_info *g)
{
    struct place *at = arg;
    at->group = g->name;
    print_slice(at->out, g->name);
    buf_printf(at->out, "/%u: generation %llu of ", at->partition, (ull)g->generation);
    print_slice(at->out, g->owner.len > 0 ? g->owner : SLICE_LIT("nobody"));
    buf_printf(at->out, ", next %llu", (ull)g->next);
    print_count(at->out, "in flight", g->pending);
    print_count(at->out, "available", g->available);
    print_count(at->out, "waiting", g->waiting);
    print_count(at->out, "dead", g->dead);
    buf_append_str(at->out, "\n");
    queue_sm_dead(at->s->q.sm, WORLD_TOPIC, at->partition, g->name, 0, UINT32_MAX, print_dead, at);
}

static void print_part(void *arg, uint32_t partition)
{
    struct place *at = arg;
    struct partition_info p = world_part(&at->s->q, partition);
    at->partition = partition;
    buf_printf(at->out, "partition %u: offsets %llu..%llu", partition, (ull)p.start, (ull)p.end);
    print_count(at->out, "delayed", p.delayed);
    print_count(at->out, "gone in the middle", p.deleted);
    print_count(at->out, "expired", p.expired);
    buf_append_str(at->out, "\n");
    queue_sm_groups(at->s->q.sm, WORLD_TOPIC, partition, print_position, at);
}

static void print_state(struct script *s, struct buf *out)
{
    struct place at = {s, out, 0, SLICE_NONE};
    buf_clear(out);
    queue_sm_partitions(s->q.sm, WORLD_TOPIC, print_part, &at);
}

static slice_t next_line(slice_t text, size_t *at)
{
    const uint8_t *end = memchr(text.ptr + *at, '\n', text.len - *at);
    slice_t line = slice_of(text.ptr + *at, (size_t)(end - text.ptr) - *at);
    *at += line.len + 1;
    return line;
}

static slice_t key_of(slice_t line)
{
    const uint8_t *colon = memchr(line.ptr, ':', line.len);
    return slice_of(line.ptr, (size_t)(colon - line.ptr));
}

/* The line that is the same, or has the same key. */
static bool holds(slice_t text, slice_t want, bool key)
{
    for (size_t i = 0; i < text.len;) {
        slice_t line = next_line(text, &i);
        if (slice_eq(key ? key_of(line) : line, want)) {
            return true;
        }
    }
    return false;
}

void print_changes(struct script *s)
{
    print_state(s, &s->after);
    slice_t before = buf_slice(&s->before), after = buf_slice(&s->after);
    for (size_t i = 0; i < before.len;) {
        slice_t key = key_of(next_line(before, &i));
        if (!holds(after, key, true)) {
            buf_printf(&s->trace, "  | %.*s: no more\n", (int)key.len, (const char *)key.ptr);
        }
    }
    for (size_t i = 0; i < after.len;) {
        slice_t line = next_line(after, &i);
        if (!holds(before, line, false)) {
            buf_printf(&s->trace, "  | %.*s\n", (int)line.len, (const char *)line.ptr);
        }
    }
    buf_swap(&s->before, &s->after);
}

static void print_published(struct script *s, struct reader r)
{
    static const char *const words[] = {"published", "known already,", "no topic,", "small id,", "limit,"};
    reader_u8(&r);
    for (uint32_t n = reader_u32(&r); n > 0; n--) {
        uint8_t status = reader_u8(&r);
        uint64_t offset = reader_u64(&r), ms = reader_u64(&r), seq = reader_u64(&r);
        buf_printf(&s->trace, "  = %s offset %llu id %llu-%llu\n", words[status], (ull)offset, (ull)ms, (ull)seq);
    }
}

static void print_delivered(struct script *s)
{
    if (s->q.n == 0) {
        buf_append_str(&s->trace, "  = nothing\n");
    }
    for (uint32_t i = 0; i < s->q.n; i++) {
        const struct delivery *d = &s->q.got[i];
        buf_printf(&s->trace, "  = %u-%llu-%llu-%llu deliveries %u\n", d->receipt.partition, (ull)d->receipt.generation, (ull)d->receipt.offset,
                   (ull)d->receipt.delivery, d->deliveries);
    }
}

static void print_reply(struct script *s, const struct queue_result *res)
{
    static const char *const codes[] = {"done", "no topic", "no group", "group exists", "old generation", "bad id", "limit"};
    static const char *const settled[] = {"ok", "stale", "no group"};
    if (s->q.code != QUEUE_DONE) {
        buf_printf(&s->trace, "  = %s", codes[s->q.code]);
        buf_printf(&s->trace, s->q.code == QUEUE_OLD_GENERATION ? ", at least %llu\n" : "\n", (ull)s->q.value);
    } else if (res->kind == QUEUE_OP_PUBLISH) {
        print_published(s, reader_of(slice_of(s->q.out.replies.ptr + res->reply_off, res->reply_len)));
    } else if (res->kind == QUEUE_OP_CLAIM) {
        print_delivered(s);
    } else if (res->kind == QUEUE_OP_SETTLE) {
        for (uint32_t i = 0; i < s->q.n; i++) {
            buf_printf(&s->trace, "  = %s\n", settled[s->q.status[i]]);
        }
    } else if (res->kind >= QUEUE_OP_GROUP && res->kind <= QUEUE_OP_ERASE) {
        buf_printf(&s->trace, "  = %llu\n", (ull)s->q.value);
    }
}

void print_queue(struct script *s)
{
    const struct queue_out *o = &s->q.out;
    if (o->n_results == 1) {
        print_reply(s, &o->results[0]);
    }
    for (uint32_t i = 0; i < o->n_appended; i++) {
        buf_printf(&s->trace, "  > stored %u:%llu ", o->appended[i].partition, (ull)o->appended[i].offset);
        print_slice(&s->trace, o->appended[i].body);
        buf_append_str(&s->trace, "\n");
    }
    for (uint32_t i = 0; i < o->n_trimmed; i++) {
        buf_printf(&s->trace, "  > gone: %u below %llu\n", o->trimmed[i].partition, (ull)o->trimmed[i].start);
    }
    for (uint32_t i = 0; i < o->n_woken; i++) {
        buf_printf(&s->trace, "  > woken: who waits at %u\n", o->woken[i].partition);
    }
    print_changes(s);
}

static struct script_assignment *assignment_of(struct script *s, slice_t group)
{
    uint32_t i = 0;
    while (i < s->n_groups && !slice_eq(slice_str(s->groups[i].group), group)) {
        i++;
    }
    if (i == s->n_groups) {
        if (i == SCRIPT_MEMBERS || group.len >= SCRIPT_NAME) {
            script_fail(s, "too many groups, or too long a name");
        }
        s->groups[s->n_groups++] = (struct script_assignment){0};
        memcpy(s->groups[i].group, group.ptr, group.len);
    }
    return &s->groups[i];
}

struct assigning { struct buf *out; struct script_assignment now; };

static void assign_member(void *arg, const struct topic_member_info *m)
{
    struct assigning *a = arg;
    buf_append_str(a->out, ", ");
    print_slice(a->out, m->consumer);
    for (uint32_t i = 0; i < m->n_parts; i++) {
        buf_printf(a->out, " %u", m->parts[i]);
        memcpy(a->now.owner[m->parts[i]], m->consumer.ptr, m->consumer.len);
    }
}

static void print_assignment(struct script *s, const struct topics_changed *c)
{
    slice_t group = slice_of(s->t.out.names.ptr + c->group_off, c->group_len);
    struct script_assignment *known = assignment_of(s, group);
    struct assigning a = {.out = &s->trace};
    uint32_t moved = 0;
    memcpy(a.now.group, known->group, sizeof a.now.group);
    buf_printf(&s->trace, "  | %s: generation %llu", a.now.group, (ull)c->generation);
    topics_members(s->t.t, WORLD_TOPIC, group, assign_member, &a);
    for (uint32_t p = 0; p < s->config.partitions; p++) {
        moved += known->owner[p][0] != '\0' && strcmp(known->owner[p], a.now.owner[p]) != 0;
    }
    buf_printf(&s->trace, "; %u taken away\n", moved);
    *known = a.now;
}

void print_topics(struct script *s)
{
    static const char *const codes[] = {"done", "unknown topic", "exists", "may not change", "limit", "no group", "has members", "no member"};
    if (s->t.answered && s->t.code != TOPIC_DONE) {
        buf_printf(&s->trace, "  = %s\n", codes[s->t.code]);
    }
    for (uint32_t i = 0; i < s->t.out.n_changed; i++) {
        print_assignment(s, &s->t.out.changed[i]);
    }
}

/* "0@1": partition 0, which it has had since generation 1. */
void print_told(struct script *s, const char *consumer, const struct joined *j)
{
    buf_printf(&s->trace, "  = %s: generation %llu,", consumer, (ull)j->generation);
    for (uint32_t i = 0; i < j->n; i++) {
        buf_printf(&s->trace, " %u@%llu", j->partition[i], (ull)j->since[i]);
    }
    buf_append_str(&s->trace, j->n > 0 ? "\n" : " nothing\n");
}

static void print_in_flight(void *arg, const struct pending_info *p)
{
    struct place *at = arg;
    buf_append_str(at->out, "  ");
    print_slice(at->out, at->group);
    buf_printf(at->out, "/%u in flight: %u-%llu-%llu-%llu with ", at->partition, at->partition, (ull)p->generation, (ull)p->offset, (ull)p->delivery);
    print_slice(at->out, p->consumer);
    buf_printf(at->out, " for %llu ms, deliveries %u\n", (ull)p->idle_ms, p->deliveries);
}

static void print_counters(void *arg, const struct group_info *g)
{
    struct place *at = arg;
    at->group = g->name;
    buf_append_str(at->out, "  ");
    print_slice(at->out, g->name);
    buf_printf(at->out, "/%u so far: delivered %llu, of these again %llu, acknowledged %llu, died %llu, redriven %llu; lag %llu\n", at->partition,
               (ull)g->delivered, (ull)g->redelivered, (ull)g->acked, (ull)g->dead_lettered, (ull)g->redriven, (ull)g->lag);
    queue_sm_pending(at->s->q.sm, WORLD_TOPIC, at->partition, g->name, at->s->q.time_ms, 0, UINT32_MAX, print_in_flight, at);
}

static void print_part_counters(void *arg, uint32_t partition)
{
    struct place *at = arg;
    at->partition = partition;
    queue_sm_groups(at->s->q.sm, WORLD_TOPIC, partition, print_counters, at);
}

void print_all(struct script *s)
{
    struct place at = {s, &s->trace, 0, SLICE_NONE};
    print_state(s, &s->after);
    slice_t state = buf_slice(&s->after);
    buf_printf(&s->trace, "  now %llu\n", (ull)s->q.time_ms);
    for (size_t i = 0; i < state.len;) {
        slice_t line = next_line(state, &i);
        buf_printf(&s->trace, "  %.*s\n", (int)line.len, (const char *)line.ptr);
    }
    queue_sm_partitions(s->q.sm, WORLD_TOPIC, print_part_counters, &at);
}
