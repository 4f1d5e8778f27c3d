/* The script language of the transcripts in tests/transcripts/queue (../consensus/transcript.h). Virtual log time begins at 1000, Unix time
 * at 1700000000000; both go on with `tick` and `wait` only.
 *
 *   topic PARTITIONS [deliver=N] [visibility=MS] [backoff=MS] [backoff_max=MS] [ordered=1] [retention=BYTES] [age=MS]; alter, the same
 *   publish P TEXT... [key=K] [delay=MS] [id=PRODUCER'S]     one batch
 *   join G CONSUMER... [ttl=MS]                              one JOIN; each then knows what it was told, until it joins again
 *   leave G CONSUMER                                         as QUEUE.LEAVE: out of the consumer group, and what it has is given back
 *   claim G CONSUMER COUNT [P:GENERATION...] [visibility=MS] [rotate=N]    by default from what it was told
 *   ack|nack|extend G RECEIPT... [delay=MS] [mode=fail|silent|fatal] [reason=WORD]
 *   seek G P begin|end|OFFSET, seek G P time=UNIX_MS; redrive G COUNT; forget G (as QUEUE.FORGET)
 *   tick MS        time goes on; what is due is done when it is due: the leader proposes a TICK, of group 0 or of the partitions
 *   wait MS        time goes on and nothing is proposed
 *   again          the last operation on partitions is proposed once more, under its request number
 *   restore        both state machines are replaced by what a snapshot of them says
 *   cut, step BYTES, install     a snapshot begins; so much more of it is written; it replaces the state machine, and what was applied since
 *                  is applied to it: asserts that it comes to the same
 *   print, quiet on|off (no trace) */
#include "queue_transcript.h"

#include "../consensus/transcript.h"
#include "utils/assert.h"
#include "utils/hash.h"

#include <stdlib.h>

static bool is(const struct script *s, int i, const char *word)
{
    return i < s->n && strcmp(s->words[i], word) == 0;
}

static const char *text_at(const struct script *s, int i)
{
    if (i >= s->n) {
        script_fail(s, "wants more words");
    }
    return s->words[i];
}

static uint64_t number_at(const struct script *s, int i)
{
    char *end;
    uint64_t v = strtoull(text_at(s, i), &end, 10);
    if (*end != '\0') {
        script_fail(s, "wants a number");
    }
    return v;
}

static const char *option(const struct script *s, const char *name)
{
    size_t n = strlen(name);
    for (int i = 0; i < s->n_options; i++) {
        if (strncmp(s->options[i], name, n) == 0 && s->options[i][n] == '=') {
            return s->options[i] + n + 1;
        }
    }
    return NULL;
}

static uint64_t option_number(const struct script *s, const char *name, uint64_t otherwise)
{
    const char *v = option(s, name);
    return v != NULL ? strtoull(v, NULL, 10) : otherwise;
}

/* After each operation on the partitions: into the log that a snapshot is followed by, and into the trace. */
static void applied(struct script *s)
{
    if (s->cutting) {
        syn_assert(s->n_log < SCRIPT_LOG);
        struct script_entry *e = &s->log[s->n_log++];
        buf_append_slice(&e->op, buf_slice(&s->q.op));
        e->index = s->q.index;
        e->time_ms = s->q.time_ms;
    }
    print_queue(s);
}

static void apply(struct script *s)
{
    world_apply(&s->q);
    applied(s);
}

static void set_config(struct script *s)
{
    struct topic_config *c = &s->config;
    c->max_deliver = (uint32_t)option_number(s, "deliver", c->max_deliver);
    c->visibility_ms = option_number(s, "visibility", c->visibility_ms);
    c->backoff_ms = (uint32_t)option_number(s, "backoff", c->backoff_ms);
    c->backoff_ms_max = (uint32_t)option_number(s, "backoff_max", c->backoff_ms_max);
    c->retention_bytes = option_number(s, "retention", c->retention_bytes);
    c->max_age_ms = option_number(s, "age", c->max_age_ms);
    c->ordered = (uint8_t)option_number(s, "ordered", c->ordered);
}

/* CREATE or ALTER in group 0, then the OPEN that its leader carries to the group of the partitions. */
static void config_topic(struct script *s, enum topic_op_kind kind)
{
    struct topic_create c = {.name = SLICE_LIT("{t}opic"), .config = s->config};
    topic_world_begin(&s->t, kind);
    topic_put_create(&s->t.op, &c);
    topic_world_apply(&s->t);
    print_topics(s);
    if (s->t.code == TOPIC_DONE) {
        syn_assert(s->t.row.id == WORLD_TOPIC);
        world_open(&s->q, s->t.row.version, &s->t.row.config, s->t.row.config.partitions);
        applied(s);
    }
}

static void do_topic(struct script *s)
{
    if (s->open) {
        script_fail(s, "one topic in a script");
    }
    world_init(&s->q);
    topic_world_init(&s->t);
    s->open = true;
    s->t.index = WORLD_TOPIC - 1; /* a topic's id is the index of the entry that makes it */
    s->config = (struct topic_config){.max_deliver = 5, .visibility_ms = 30000, .backoff_ms = 1000, .backoff_ms_max = 60000};
    s->config.partitions = (uint32_t)number_at(s, 1);
    syn_assert(s->config.partitions <= SCRIPT_PARTS);
    set_config(s);
    config_topic(s, TOPIC_OP_CREATE);
}

static void do_publish(struct script *s)
{
    const char *key = option(s, "key"), *id = option(s, "id");
    struct publish_item it = {.topic = WORLD_TOPIC, .partition = (uint32_t)number_at(s, 1), .trim_maxlen = UINT64_MAX};
    it.delay_ms = option_number(s, "delay", 0);
    it.key_hash = key != NULL ? (uint32_t)hash_bytes(1, slice_str(key)) | 1 : 0;
    it.dedup = id != NULL ? slice_str(id) : SLICE_NONE;
    world_begin(&s->q, QUEUE_OP_PUBLISH);
    queue_put_publish(&s->q.op, (uint32_t)s->n - 2);
    for (int i = 2; i < s->n; i++) {
        it.body = slice_str(s->words[i]);
        queue_put_item(&s->q.op, &it);
    }
    apply(s);
}

static struct script_member *member_of(struct script *s, const char *group, const char *name, bool make)
{
    for (uint32_t i = 0; i < s->n_members; i++) {
        if (strcmp(s->members[i].group, group) == 0 && strcmp(s->members[i].name, name) == 0) {
            return &s->members[i];
        }
    }
    if (!make || s->n_members == SCRIPT_MEMBERS || strlen(group) >= SCRIPT_NAME || strlen(name) >= SCRIPT_NAME) {
        script_fail(s, "names a consumer that has not joined, or one too many");
    }
    struct script_member *m = &s->members[s->n_members++];
    *m = (struct script_member){0};
    memcpy(m->group, group, strlen(group));
    memcpy(m->name, name, strlen(name));
    return m;
}

static void do_join(struct script *s)
{
    topic_world_begin(&s->t, TOPIC_OP_JOIN);
    topic_put_join(&s->t.op, (uint32_t)s->n - 2);
    for (int i = 2; i < s->n; i++) {
        struct topic_join j = {.topic = WORLD_TOPIC, .group = slice_str(s->words[1]), .consumer = slice_str(s->words[i]), .node = 3};
        j.ttl_ms = option_number(s, "ttl", 10000);
        topic_put_join_item(&s->t.op, &j);
    }
    topic_world_apply(&s->t);
    for (int i = 2; i < s->n && s->t.code == TOPIC_DONE; i++) {
        struct script_member *m = member_of(s, s->words[1], s->words[i], true);
        m->told = s->t.joined[i - 2];
        print_told(s, m->name, &m->told);
    }
    print_topics(s);
}

static void do_leave(struct script *s)
{
    slice_t group = slice_str(text_at(s, 1)), consumer = slice_str(text_at(s, 2));
    topic_world_leave(&s->t, WORLD_TOPIC, s->words[1], s->words[2]);
    print_topics(s);
    world_begin(&s->q, QUEUE_OP_RELEASE);
    queue_put_release(&s->q.op, &(struct queue_release){WORLD_TOPIC, group, consumer});
    apply(s);
}

static void put_part(struct buf *parts, uint64_t partition, uint64_t generation)
{
    buf_put_u32(parts, (uint32_t)partition);
    buf_put_u64(parts, generation);
}

static void do_claim(struct script *s)
{
    struct buf parts = {0};
    struct queue_claim c = {.topic = WORLD_TOPIC, .group = slice_str(text_at(s, 1)), .consumer = slice_str(text_at(s, 2))};
    c.count = (uint32_t)number_at(s, 3);
    c.visibility_ms = option_number(s, "visibility", 0);
    c.rotate = (uint32_t)option_number(s, "rotate", 0);
    for (int i = 4; i < s->n; i++) {
        char *end;
        uint64_t partition = strtoull(s->words[i], &end, 10);
        put_part(&parts, partition, strtoull(end + (*end == ':'), NULL, 10));
    }
    for (uint32_t i = 0; s->n == 4 && i < member_of(s, s->words[1], s->words[2], false)->told.n; i++) {
        const struct joined *told = &member_of(s, s->words[1], s->words[2], false)->told;
        put_part(&parts, told->partition[i], told->since[i]);
    }
    c.n_parts = (uint32_t)(parts.len / 12);
    c.parts = buf_slice(&parts);
    world_begin(&s->q, QUEUE_OP_CLAIM);
    queue_put_claim(&s->q.op, &c);
    apply(s);
    buf_fini(&parts);
}

/* "partition-generation-offset-delivery" */
static struct receipt receipt_of(const struct script *s, const char *text)
{
    uint64_t v[4] = {0};
    char *end = NULL;
    for (int i = 0; i < 4; i++) {
        v[i] = strtoull(text, &end, 10);
        if (end == text || *end != (i < 3 ? '-' : '\0')) {
            script_fail(s, "wants a receipt");
        }
        text = end + 1;
    }
    return (struct receipt){(uint32_t)v[0], v[1], v[2], v[3]};
}

static void do_settle(struct script *s, enum settle_kind kind)
{
    const char *mode = option(s, "mode"), *reason = option(s, "reason");
    struct settle_item it = {.kind = kind, .delay_ms = option_number(s, "delay", SETTLE_DELAY_DEFAULT)};
    it.mode = mode == NULL || strcmp(mode, "fail") == 0 ? NACK_FAIL : strcmp(mode, "silent") == 0 ? NACK_SILENT : NACK_FATAL;
    it.reason = reason != NULL ? slice_str(reason) : SLICE_NONE;
    world_begin(&s->q, QUEUE_OP_SETTLE);
    queue_put_settle(&s->q.op, WORLD_TOPIC, slice_str(text_at(s, 1)), (uint32_t)s->n - 2);
    for (int i = 2; i < s->n; i++) {
        it.receipt = receipt_of(s, s->words[i]);
        queue_put_settle_item(&s->q.op, &it);
    }
    apply(s);
}

static void do_seek(struct script *s)
{
    struct queue_seek o = {.topic = WORLD_TOPIC, .partition = (uint32_t)number_at(s, 2), .group = slice_str(s->words[1]), .to = SEEK_OFFSET};
    if (option(s, "time") != NULL) { /* as QUEUE.SEEK: the partition's group first says which offset that is */
        o.offset = queue_sm_find_id(s->q.sm, WORLD_TOPIC, o.partition, (struct stream_id){option_number(s, "time", 0), 0});
        buf_printf(&s->trace, "  time is offset %llu\n", (unsigned long long)o.offset);
    } else if (is(s, 3, "begin") || is(s, 3, "end")) {
        o.to = is(s, 3, "end") ? SEEK_END : SEEK_BEGIN;
    } else {
        o.offset = number_at(s, 3);
    }
    world_begin(&s->q, QUEUE_OP_SEEK);
    queue_put_seek(&s->q.op, &o);
    apply(s);
}

static void do_redrive(struct script *s)
{
    world_begin(&s->q, QUEUE_OP_REDRIVE);
    queue_put_redrive(&s->q.op, &(struct queue_redrive){WORLD_TOPIC, slice_str(text_at(s, 1)), (uint32_t)number_at(s, 2)});
    apply(s);
}

/* Group 0 first: it knows whether anybody is a member. */
static void do_forget(struct script *s)
{
    enum topic_code code = topic_world_forget(&s->t, WORLD_TOPIC, text_at(s, 1));
    print_topics(s);
    for (uint32_t p = 0; p < s->config.partitions && (code == TOPIC_DONE || code == TOPIC_NO_GROUP); p++) {
        world_begin(&s->q, QUEUE_OP_GROUP);
        queue_put_group(&s->q.op, &(struct queue_group){WORLD_TOPIC, p, slice_str(s->words[1]), SLICE_NONE, GROUP_DESTROY, 0, 0});
        apply(s);
    }
}

/* The trace of what happened now, if anything did, under its time. */
static void print_moment(struct script *s, size_t from)
{
    if (s->trace.len > from) {
        struct buf rest = {0};
        buf_append(&rest, s->trace.ptr + from, s->trace.len - from);
        s->trace.len = from;
        buf_printf(&s->trace, "  at %llu\n", (unsigned long long)s->q.time_ms);
        buf_append_slice(&s->trace, buf_slice(&rest));
        buf_fini(&rest);
    }
}

static void do_tick(struct script *s)
{
    uint64_t end = s->q.time_ms + number_at(s, 1), was = 0;
    while (true) {
        uint64_t parts = queue_sm_next_due_ms(s->q.sm), topics = topics_next_due_ms(s->t.t);
        uint64_t now = parts < topics ? parts : topics;
        now = now < s->q.time_ms ? s->q.time_ms : now;
        if (now > end) {
            break;
        }
        syn_assert(now > was); /* what is due is done */
        was = now;
        size_t from = s->trace.len;
        topic_world_tick(&s->t, now - s->t.time_ms);
        print_topics(s);
        world_tick(&s->q, now - s->q.time_ms);
        applied(s);
        print_moment(s, from);
    }
    s->q.wall_ms += end - s->q.time_ms;
    s->q.time_ms = s->t.time_ms = end;
}

static void do_cut(struct script *s)
{
    syn_assert(!s->cutting);
    s->cutting = true;
    s->saved_all = false;
    s->cut_hash = queue_sm_state_hash(s->q.sm);
    buf_clear(&s->saved);
    queue_sm_snapshot_begin(s->q.sm);
}

static void do_step(struct script *s, size_t bytes)
{
    if (!s->cutting || s->saved_all) {
        script_fail(s, "has nothing to go on with");
    }
    s->saved_all = queue_sm_snapshot_step(s->q.sm, bytes, &s->saved);
    buf_append_str(&s->trace, s->saved_all ? "  that was all of it\n" : "  there is more\n");
}

static void do_install(struct script *s)
{
    while (!s->saved_all) {
        do_step(s, SIZE_MAX);
    }
    struct queue_sm *sm = queue_sm_new(&(struct queue_sm_options){.hash_key = 99, .dedup_ms = 120000, .dedup_count = 1000});
    bool ok = queue_sm_restore_piece(sm, buf_slice(&s->saved)) && queue_sm_restore_end(sm);
    syn_assert(ok);
    queue_sm_check(sm);
    syn_assert(queue_sm_state_hash(sm) == s->cut_hash);
    for (uint32_t i = 0; i < s->n_log; i++) {
        struct script_entry *e = &s->log[i];
        queue_out_clear(&s->q.out);
        queue_sm_apply(sm, e->index, 1, e->time_ms, buf_slice(&e->op), &s->q.out);
        buf_clear(&e->op);
    }
    queue_sm_check(sm);
    syn_assert(queue_sm_state_hash(sm) == queue_sm_state_hash(s->q.sm) && queue_sm_digest(sm) == queue_sm_digest(s->q.sm));
    buf_printf(&s->trace, "  the state of the cut, and %u entries later the same\n", s->n_log);
    queue_sm_free(s->q.sm);
    s->q.sm = sm;
    s->cutting = false;
    s->n_log = 0;
    print_changes(s);
}

static bool do_time(struct script *s)
{
    if (is(s, 0, "tick")) {
        do_tick(s);
    } else if (is(s, 0, "wait")) {
        s->q.time_ms = s->t.time_ms = s->q.time_ms + number_at(s, 1);
        s->q.wall_ms += number_at(s, 1);
    } else if (is(s, 0, "restore")) {
        world_restore(&s->q, 50);
        topic_world_restore(&s->t);
        print_changes(s);
    } else if (is(s, 0, "cut")) {
        do_cut(s);
    } else if (is(s, 0, "step")) {
        do_step(s, number_at(s, 1));
    } else if (is(s, 0, "install")) {
        do_install(s);
    } else {
        return false;
    }
    return true;
}

static bool do_consumer(struct script *s)
{
    if (is(s, 0, "join")) {
        do_join(s);
    } else if (is(s, 0, "leave")) {
        do_leave(s);
    } else if (is(s, 0, "claim")) {
        do_claim(s);
    } else if (is(s, 0, "ack")) {
        do_settle(s, SETTLE_ACK);
    } else if (is(s, 0, "nack")) {
        do_settle(s, SETTLE_NACK);
    } else if (is(s, 0, "extend")) {
        do_settle(s, SETTLE_EXTEND);
    } else {
        return false;
    }
    return true;
}

static void execute(struct script *s)
{
    if (is(s, 0, "topic")) {
        do_topic(s);
    } else if (!s->open) {
        script_fail(s, "comes before a topic");
    } else if (is(s, 0, "alter")) {
        set_config(s);
        config_topic(s, TOPIC_OP_ALTER);
    } else if (is(s, 0, "publish")) {
        do_publish(s);
    } else if (is(s, 0, "seek")) {
        do_seek(s);
    } else if (is(s, 0, "redrive")) {
        do_redrive(s);
    } else if (is(s, 0, "forget")) {
        do_forget(s);
    } else if (is(s, 0, "again")) {
        apply(s);
    } else if (is(s, 0, "print")) {
        print_all(s);
    } else if (is(s, 0, "quiet")) {
        s->quiet = is(s, 1, "on");
    } else if (!do_time(s) && !do_consumer(s)) {
        script_fail(s, "is no command");
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
    s->n = s->n_options = 0;
    for (char *save = NULL, *w = strtok_r(text, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
        syn_assert(s->n < SCRIPT_WORDS && s->n_options < SCRIPT_WORDS);
        if (strchr(w, '=') != NULL) {
            s->options[s->n_options++] = w;
        } else {
            s->words[s->n++] = w;
        }
    }
    buf_clear(&s->trace);
    execute(s);
    if (!s->quiet) {
        buf_append_slice(s->out, buf_slice(&s->trace));
    }
}

static void script_fini(struct script *s)
{
    if (s->open) {
        world_fini(&s->q);
        topic_world_fini(&s->t);
    }
    for (uint32_t i = 0; i < SCRIPT_LOG; i++) {
        buf_fini(&s->log[i].op);
    }
    buf_fini(&s->saved);
    buf_fini(&s->trace);
    buf_fini(&s->before);
    buf_fini(&s->after);
}

void transcript_run(slice_t text, struct buf *out)
{
    static struct script s;
    memset(&s, 0, sizeof s);
    s.out = out;
    for (size_t i = 0; i < text.len;) {
        const uint8_t *end = memchr(text.ptr + i, '\n', text.len - i);
        size_t n = end != NULL ? (size_t)(end - text.ptr) - i : text.len - i;
        if (!(n >= 2 && text.ptr[i] == ' ')) {
            run_line(&s, slice_of(text.ptr + i, n));
        }
        i += n + 1;
    }
    script_fini(&s);
}
