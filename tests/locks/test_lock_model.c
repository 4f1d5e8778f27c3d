/* Visits every state of three owners and two resources that their operations reach, up to a depth, and compares the lock state
 * machine with the reference model after each: test_lock_model [DEPTH [STATES]]. Without a depth it ends when no new state is left.
 *
 * States are told apart by the model (the state machine's own differ by tokens). Each is kept as a snapshot and restored for
 * every operation tried in it. Asserted: K1, K7 and structure (lock_sm_check), K2 tokens rise, K6 and K8 (the model's order and its
 * deadlocks, found by reduction), K9 what was freed is stale, K10 a repeated request changes nothing and has the same answer,
 * K11 a cancelled request does not come back, and a snapshot restores to the same hash. Owner c holds by a session. */
#include "lock_model.h"
#include "lock_world.h"

#include "utils/assert.h"
#include "utils/hash.h"

#include <stdio.h>
#include <stdlib.h>

enum { TABLE = 1 << 20 };

static const char *const owners[MODEL_OWNERS] = {"a", "b", "c"};
static const char *const resources[MODEL_RESOURCES] = {"r1", "r2"};

struct state {
    struct model model;
    struct buf snapshot;
    uint64_t hash, digest;
    uint64_t index, seq, session;
    struct request_id req[WORLD_CLIENTS];
    char names[WORLD_CLIENTS][16];
    bool waiting[WORLD_CLIENTS];
    int parent, depth;
    char step[64];
};

static struct state *states;
static int n_states, cap_states, *table;
static long n_transitions;

static void fail(int s, const char *step, const char *what)
{
    char *path[256];
    int n = 0;
    for (int at = s; at > 0 && n < 256; at = states[at].parent) {
        path[n++] = states[at].step;
    }
    while (n-- > 0) {
        fprintf(stderr, "  %s\n", path[n]);
    }
    fprintf(stderr, "  %s\n%s\n", step, what);
    exit(1);
}

static void restore(const struct state *s, struct world *w)
{
    world_init(w, 0);
    bool ok = lock_sm_restore_piece(w->sm, buf_slice(&s->snapshot)) && lock_sm_restore_end(w->sm);
    syn_assert(ok && lock_sm_digest(w->sm) == s->digest);
    syn_assert(lock_sm_state_hash(w->sm) == s->hash);
    w->index = s->index;
    w->seq = s->seq;
    w->sessions[0] = s->session;
    snprintf(w->session_names[0], sizeof w->session_names[0], "s");
    for (int i = 0; i < WORLD_CLIENTS; i++) {
        w->clients[i].req = s->req[i];
        w->clients[i].waiting = s->waiting[i];
        memcpy(w->clients[i].name, s->names[i], sizeof s->names[i]);
    }
}

/* True when the model's state is new. */
static bool remember(const struct model *m, struct world *w, int parent, const char *step)
{
    uint64_t h = hash_bytes(1, slice_of(m, sizeof *m));
    int at = (int)(h & (TABLE - 1));
    for (; table[at] != 0; at = (at + 1) & (TABLE - 1)) {
        if (memcmp(&states[table[at] - 1].model, m, sizeof *m) == 0) {
            return false;
        }
    }
    if (n_states == cap_states) {
        cap_states = cap_states ? cap_states * 2 : 1024;
        states = realloc(states, (size_t)cap_states * sizeof *states);
        syn_assert(states != NULL && cap_states < TABLE);
    }
    struct state *s = &states[n_states++];
    table[at] = n_states;
    *s = (struct state){.model = *m, .hash = lock_sm_state_hash(w->sm), .digest = lock_sm_digest(w->sm), .index = w->index, .seq = w->seq,
                        .session = w->sessions[0], .parent = parent, .depth = parent >= 0 ? states[parent].depth + 1 : 0};
    for (int i = 0; i < WORLD_CLIENTS; i++) {
        s->req[i] = w->clients[i].req;
        s->waiting[i] = w->clients[i].waiting;
        memcpy(s->names[i], w->clients[i].name, sizeof s->names[i]);
    }
    snprintf(s->step, sizeof s->step, "%s", step);
    world_snapshot(w, &s->snapshot);
    return true;
}

/* As world_show, holders sorted by name. */
static void model_show(const struct model *m, int r, struct buf *out)
{
    unsigned char mode = M_NONE;
    for (int o = 0; o < MODEL_OWNERS; o++) {
        mode = m->holds[r][o].mode > mode ? m->holds[r][o].mode : mode;
    }
    buf_printf(out, "%s %s", resources[r], mode == M_NONE ? "free" : mode == M_SHARED ? "S" : "X");
    for (int o = 0; o < MODEL_OWNERS; o++) {
        if (m->holds[r][o].mode != M_NONE) {
            buf_printf(out, m->holds[r][o].count > 1 ? " %s*%d" : " %s", owners[o], m->holds[r][o].count);
        }
    }
    for (int i = 0; i < MODEL_OWNERS && m->queue[r][i].owner >= 0; i++) {
        int o = m->queue[r][i].owner;
        buf_printf(out, "%s %s:%c", i == 0 ? ", waiting" : "", owners[o], m->waits[o].mode == M_SHARED ? 'S' : 'X');
    }
    buf_append_str(out, "\n");
}

static void world_show_sorted(struct world *w, int r, struct buf *out)
{
    struct buf raw = {0};
    world_show(w, resources[r], &raw);
    buf_put_u8(&raw, 0);
    char *text = (char *)raw.ptr, *waiting = strchr(text, ',');
    if (waiting != NULL) {
        *waiting = '\0';
    }
    const char *words[2 + MODEL_OWNERS] = {"", ""};
    char *save = NULL;
    int n = 0;
    for (char *word = strtok_r(text, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        words[n++] = word;
    }
    buf_printf(out, "%s %s", words[0], words[1]);
    for (char who = 'a'; who <= 'c'; who++) {
        for (int i = 2; i < n; i++) {
            if (words[i][0] == who) {
                buf_printf(out, " %s", words[i]);
            }
        }
    }
    buf_printf(out, "%s%s\n", waiting != NULL ? "," : "", waiting != NULL ? waiting + 1 : "");
    buf_fini(&raw);
}

static bool same_state(struct world *w, const struct model *m)
{
    struct buf real = {0}, want = {0};
    for (int r = 0; r < MODEL_RESOURCES; r++) {
        world_show_sorted(w, r, &real);
        model_show(m, r, &want);
    }
    bool same = slice_eq(buf_slice(&real), buf_slice(&want));
    if (!same) {
        fprintf(stderr, "the state machine says\n%.*sthe model says\n%.*s", (int)real.len, (char *)real.ptr, (int)want.len, (char *)want.ptr);
    }
    buf_fini(&real);
    buf_fini(&want);
    return same;
}

static enum model_answer answer_of(const char *line)
{
    static const struct {
        const char *text;
        enum model_answer answer;
    } words[] = {{"granted", M_GRANTED}, {"-LOCKED", M_LOCKED}, {"-DEADLOCK", M_DEADLOCK}, {"-STALE", M_STALE}, {"-NOSESSION", M_GONE}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strncmp(line, words[i].text, strlen(words[i].text)) == 0) {
            return words[i].answer;
        }
    }
    return M_NO_ANSWER;
}

/* Compares the answers; every token granted anew is above all the resource had, and no two are the same (K2). */
static const char *check_answers(const char *text, const struct model *before, const struct model_answers *want, uint64_t *newest)
{
    struct model_answers got = {{M_NO_ANSWER, M_NO_ANSWER, M_NO_ANSWER}};
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
        int o = line[0] - 'a', r = -1;
        char mode = 0;
        unsigned long long token = 0;
        if (line[1] != ' ' || o < 0 || o >= MODEL_OWNERS) {
            continue;
        }
        got.of[o] = answer_of(line + 2);
        if (sscanf(line + 2, "granted r%d %c token %llu", &r, &mode, &token) == 3) {
            bool held = before->holds[r - 1][o].mode >= (mode == 'X' ? M_EXCLUSIVE : M_SHARED);
            if (!held && token <= newest[r - 1]) {
                return "K2: a token that is not newer";
            }
            newest[r - 1] = token > newest[r - 1] ? token : newest[r - 1];
        }
    }
    return memcmp(&got, want, sizeof got) == 0 ? NULL : "the answers differ from the model's";
}

struct trial {
    int from;
    struct model model;
    struct model_answers answers;
    struct world w;
    char step[64];
    int client; /* whose request it was, to be repeated; -1: none */
};

static void begin(struct trial *t, int from, int client)
{
    *t = (struct trial){.from = from, .model = states[from].model, .client = client};
    restore(&states[from], &t->w);
}

static void finish(struct trial *t, bool cancelled)
{
    const struct model *before = &states[t->from].model;
    uint64_t newest[MODEL_RESOURCES];
    for (int r = 0; r < MODEL_RESOURCES; r++) {
        newest[r] = world_token(&t->w, resources[r]);
    }
    n_transitions++;
    char *text = strdup(world_do(&t->w, t->step));
    const char *wrong = check_answers(text, before, &t->answers, newest);
    if (wrong != NULL) {
        fprintf(stderr, "%sthe model answers %d %d %d\n", text, t->answers.of[0], t->answers.of[1], t->answers.of[2]);
        fail(t->from, t->step, wrong);
    }
    if (!same_state(&t->w, &t->model)) {
        fail(t->from, t->step, "the states differ");
    }
    if (model_deadlocked(&t->model)) {
        fail(t->from, t->step, "K8: a deadlock was left");
    }
    if (strcmp(t->step, "end s") == 0) {
        world_do(&t->w, "session s ttl 100000");
    }
    remember(&t->model, &t->w, t->from, t->step);
    if (t->client >= 0) {
        char retry[32];
        snprintf(retry, sizeof retry, "%s retry", owners[t->client]);
        const char *again = world_do(&t->w, retry);
        size_t mine = strlen(again);
        if (!cancelled && mine > 0 && strncmp(again, text, mine) != 0 && strstr(text, again) == NULL) {
            fprintf(stderr, "first %sthen %s", text, again);
            fail(t->from, t->step, "K10: the repeated request had another answer");
        }
        if (!same_state(&t->w, &t->model)) {
            fail(t->from, retry, "K10, K11: the repeated request changed something");
        }
    }
    free(text);
    world_fini(&t->w);
}

static void try_acquire(int from, int o, unsigned set, enum model_mode mode, bool wait)
{
    const struct model *m = &states[from].model;
    for (int r = 0; r < MODEL_RESOURCES; r++) {
        if ((set >> r & 1) && m->holds[r][o].mode >= mode && m->holds[r][o].count >= MODEL_COUNT_MAX) {
            return;
        }
    }
    struct trial t;
    begin(&t, from, o);
    snprintf(t.step, sizeof t.step, "%s acquire %s %c%s%s", owners[o], set == 3 ? "r1+r2" : resources[set >> 1], mode == M_SHARED ? 'S' : 'X',
             wait ? " wait" : "", o == 2 ? " session s" : "");
    model_acquire(&t.model, o, set, mode, wait, &t.answers);
    finish(&t, false);
}

static void try_convert(int from, int o, int r, enum model_mode mode, bool wait)
{
    struct trial t;
    begin(&t, from, o);
    snprintf(t.step, sizeof t.step, "%s convert %s %c%s", owners[o], resources[r], mode == M_SHARED ? 'S' : 'X', wait ? " wait" : "");
    model_convert(&t.model, o, r, mode, wait, &t.answers);
    finish(&t, false);
}

/* By x, on the owner's behalf: an owner that waits may lose what it holds too. Then once more, which must be stale. */
static void try_release(int from, int o, int r)
{
    struct trial t;
    begin(&t, from, -1);
    uint64_t id = world_lock_id(&t.w, resources[r], owners[o]);
    snprintf(t.step, sizeof t.step, "x release %s %llu", resources[r], (unsigned long long)id);
    bool last = t.model.holds[r][o].count == 1;
    model_release(&t.model, o, r, &t.answers);
    finish(&t, false);
    if (last) {
        restore(&states[from], &t.w);
        world_do(&t.w, t.step);
        const char *text = world_do(&t.w, t.step);
        if (strncmp(text, "x -STALE", 8) != 0 || !same_state(&t.w, &t.model)) {
            fail(from, t.step, "K9: a lock that was freed was released again");
        }
        world_fini(&t.w);
    }
}

static void try_others(int from)
{
    const struct model *m = &states[from].model;
    for (int r = 0; r < MODEL_RESOURCES; r++) {
        struct trial t;
        begin(&t, from, -1);
        snprintf(t.step, sizeof t.step, "x force %s because", resources[r]);
        model_force(&t.model, r, &t.answers);
        finish(&t, false);
    }
    struct trial t;
    begin(&t, from, -1);
    snprintf(t.step, sizeof t.step, "end s");
    model_end(&t.model, 2, &t.answers);
    finish(&t, false);
    for (int o = 0; o < MODEL_OWNERS; o++) {
        if (m->waits[o].resources != 0) {
            begin(&t, from, -1);
            snprintf(t.step, sizeof t.step, "%s cancel", owners[o]);
            model_leave(&t.model, o, &t.answers);
            finish(&t, true);
        }
    }
}

static void expand(int from)
{
    for (int o = 0; o < MODEL_OWNERS; o++) {
        bool waits = states[from].model.waits[o].resources != 0;
        for (unsigned set = 1; set <= 3 && !waits; set++) {
            for (int mode = M_SHARED; mode <= M_EXCLUSIVE; mode++) {
                try_acquire(from, o, set, mode, true);
                try_acquire(from, o, set, mode, false);
            }
        }
        for (int r = 0; r < MODEL_RESOURCES; r++) {
            if (states[from].model.holds[r][o].mode == M_NONE) {
                continue;
            }
            try_release(from, o, r);
            for (int mode = M_SHARED; mode <= M_EXCLUSIVE && !waits; mode++) {
                try_convert(from, o, r, mode, true);
                try_convert(from, o, r, mode, false);
            }
        }
    }
    try_others(from);
}

int main(int argc, char **argv)
{
    int depth = argc > 1 ? atoi(argv[1]) : 1000, most = argc > 2 ? atoi(argv[2]) : 1000000;
    table = calloc(TABLE, sizeof *table);
    syn_assert(table != NULL);
    struct world w;
    struct model m;
    world_init(&w, 0);
    model_init(&m);
    world_do(&w, "session s ttl 100000");
    remember(&m, &w, -1, "");
    world_fini(&w);
    int at = 0;
    for (; at < n_states && at < most && states[at].depth < depth; at++) {
        expand(at);
    }
    printf("%d states, %d of them expanded (depth %d), %ld transitions%s\n", n_states, at, states[at - 1].depth, n_transitions,
           at == n_states ? ": all there are" : "");
    for (int i = 0; i < n_states; i++) {
        buf_fini(&states[i].snapshot);
    }
    free(states);
    free(table);
    return 0;
}
