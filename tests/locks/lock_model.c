/* See lock_model.h. Deadlock is not looked for as a cycle here but as what it means: let everyone who can go on finish, again and
 * again; whoever still waits then, waits for ever (graph reduction, Holt 1972). */
#include "lock_model.h"

#include <string.h>

void model_init(struct model *m)
{
    memset(m, 0, sizeof *m);
    memset(m->queue, -1, sizeof m->queue);
    for (int r = 0; r < MODEL_RESOURCES; r++) {
        for (int i = 0; i < MODEL_OWNERS; i++) {
            m->queue[r][i].ahead = false;
        }
    }
}

static bool others_allow(const struct model *m, int o, int r, unsigned char mode)
{
    for (int x = 0; x < MODEL_OWNERS; x++) {
        if (x != o && (m->holds[r][x].mode == M_EXCLUSIVE || (m->holds[r][x].mode == M_SHARED && mode == M_EXCLUSIVE))) {
            return false;
        }
    }
    return true;
}

/* What it holds is enough. */
static bool has(const struct model *m, int o, int r, unsigned char mode)
{
    return m->holds[r][o].mode >= mode;
}

static void take(struct model *m, int o, int r, unsigned char mode)
{
    if (has(m, o, r, mode)) {
        m->holds[r][o].count++;
    } else {
        m->holds[r][o].count = m->holds[r][o].count ? m->holds[r][o].count : 1;
        m->holds[r][o].mode = mode;
    }
}

static void queue_remove(struct model *m, int o)
{
    for (int x = 0; x < MODEL_OWNERS; x++) {
        if (m->waits[o].resources != 0 && m->waits[x].resources != 0 && m->waits[x].rank > m->waits[o].rank) {
            m->waits[x].rank--;
        }
    }
    for (int r = 0; r < MODEL_RESOURCES; r++) {
        int n = 0;
        for (int i = 0; i < MODEL_OWNERS; i++) {
            if (m->queue[r][i].owner != o) {
                m->queue[r][n++] = m->queue[r][i];
            }
        }
        for (; n < MODEL_OWNERS; n++) {
            m->queue[r][n].owner = -1;
            m->queue[r][n].ahead = false;
        }
    }
    memset(&m->waits[o], 0, sizeof m->waits[o]);
}

static void enqueue(struct model *m, int o, int r)
{
    bool ahead = m->holds[r][o].mode != M_NONE;
    int n = 0;
    while (m->queue[r][n].owner >= 0 && (!ahead || m->queue[r][n].ahead)) {
        n++;
    }
    memmove(&m->queue[r][n + 1], &m->queue[r][n], (size_t)(MODEL_OWNERS - n - 1) * sizeof m->queue[r][0]);
    m->queue[r][n].owner = (signed char)o;
    m->queue[r][n].ahead = ahead;
}

static bool may_go(const struct model *m, int o)
{
    for (int r = 0; r < MODEL_RESOURCES; r++) {
        if ((m->waits[o].resources >> r & 1) && !has(m, o, r, m->waits[o].mode) &&
            (m->queue[r][0].owner != o || !others_allow(m, o, r, m->waits[o].mode))) {
            return false;
        }
    }
    return m->waits[o].resources != 0;
}

static void grant(struct model *m, int o)
{
    for (int r = 0; r < MODEL_RESOURCES; r++) {
        if (m->waits[o].resources >> r & 1) {
            take(m, o, r, m->waits[o].mode);
        }
    }
    queue_remove(m, o);
}

static void settle(struct model *m, struct model_answers *a)
{
    for (int o = 0; o < MODEL_OWNERS;) {
        if (may_go(m, o)) {
            grant(m, o);
            a->of[o] = M_GRANTED;
            o = 0;
        } else {
            o++;
        }
    }
}

bool model_deadlocked(const struct model *now)
{
    struct model m = *now;
    struct model_answers none;
    for (bool progress = true; progress;) {
        progress = false;
        for (int o = 0; o < MODEL_OWNERS; o++) {
            bool holds = false;
            for (int r = 0; r < MODEL_RESOURCES && m.waits[o].resources == 0; r++) {
                holds |= m.holds[r][o].mode != M_NONE;
                memset(&m.holds[r][o], 0, sizeof m.holds[r][o]);
            }
            progress |= holds;
        }
        settle(&m, &none);
    }
    for (int o = 0; o < MODEL_OWNERS; o++) {
        if (m.waits[o].resources != 0) {
            return true;
        }
    }
    return false;
}

static void wait_or_refuse(struct model *m, int o, unsigned resources, unsigned char mode, bool converts, bool wait, struct model_answers *a)
{
    if (!wait) {
        a->of[o] = M_LOCKED;
        return;
    }
    for (int r = 0; r < MODEL_RESOURCES; r++) {
        if (resources >> r & 1) {
            enqueue(m, o, r);
        }
    }
    m->waits[o].rank = 0;
    for (int x = 0; x < MODEL_OWNERS; x++) {
        if (x != o && m->waits[x].resources != 0) {
            m->waits[o].rank++;
        }
    }
    m->waits[o].resources = (unsigned char)resources;
    m->waits[o].mode = mode;
    m->waits[o].converts = converts;
    if (model_deadlocked(m)) {
        queue_remove(m, o);
        a->of[o] = M_DEADLOCK;
    }
}

void model_acquire(struct model *m, int o, unsigned resources, enum model_mode mode, bool wait, struct model_answers *a)
{
    bool free = true;
    for (int r = 0; r < MODEL_RESOURCES; r++) {
        if (resources >> r & 1) {
            bool pass = has(m, o, r, mode) || (m->holds[r][o].mode != M_NONE && others_allow(m, o, r, mode));
            free = free && (pass || (m->queue[r][0].owner < 0 && others_allow(m, o, r, mode)));
        }
    }
    if (!free) {
        bool single = (resources & (resources - 1)) == 0;
        bool converts = single && m->holds[resources >> 1][o].mode != M_NONE;
        wait_or_refuse(m, o, resources, mode, converts, wait, a);
        return;
    }
    for (int r = 0; r < MODEL_RESOURCES; r++) {
        if (resources >> r & 1) {
            take(m, o, r, mode);
        }
    }
    a->of[o] = M_GRANTED;
    settle(m, a);
}

void model_convert(struct model *m, int o, int r, enum model_mode mode, bool wait, struct model_answers *a)
{
    if (mode == M_SHARED || has(m, o, r, mode) || others_allow(m, o, r, mode)) {
        m->holds[r][o].mode = mode;
        a->of[o] = M_GRANTED;
        settle(m, a);
    } else {
        wait_or_refuse(m, o, 1u << r, mode, true, wait, a);
    }
}

/* To where it would stand had it not held the resource. */
static void stand_in_turn(struct model *m, int o, int r)
{
    int at = 0;
    while (m->queue[r][at].owner != o) {
        at++;
    }
    m->queue[r][at].ahead = false;
    while (at + 1 < MODEL_OWNERS && m->queue[r][at + 1].owner >= 0 &&
           (m->queue[r][at + 1].ahead || m->waits[(int)m->queue[r][at + 1].owner].rank < m->waits[o].rank)) {
        signed char next = m->queue[r][at + 1].owner;
        m->queue[r][at].owner = next;
        m->queue[r][at].ahead = m->queue[r][at + 1].ahead;
        m->queue[r][++at].owner = (signed char)o;
        m->queue[r][at].ahead = false;
    }
}

/* It holds the resource no longer: nothing to convert, and no reason to stand ahead of those who came before. True when it stands
 * in turn from now on. */
static bool lost(struct model *m, int o, int r, struct model_answers *a)
{
    bool held = m->holds[r][o].mode != M_NONE;
    memset(&m->holds[r][o], 0, sizeof m->holds[r][o]);
    if (held && (m->waits[o].resources >> r & 1)) {
        if (m->waits[o].converts) {
            queue_remove(m, o);
            a->of[o] = M_STALE;
        } else {
            stand_in_turn(m, o, r);
            return true;
        }
    }
    return false;
}

/* Who lost its place ahead may now wait for somebody who waits for it. */
static void settle_lost(struct model *m, int o, struct model_answers *a)
{
    settle(m, a);
    if (m->waits[o].resources != 0 && model_deadlocked(m)) {
        queue_remove(m, o);
        a->of[o] = M_DEADLOCK;
        settle(m, a);
    }
}

void model_release(struct model *m, int o, int r, struct model_answers *a)
{
    if (m->holds[r][o].count == 1) {
        if (lost(m, o, r, a)) {
            settle_lost(m, o, a);
        }
    } else {
        m->holds[r][o].count--;
    }
    settle(m, a);
}

void model_force(struct model *m, int r, struct model_answers *a)
{
    bool moved[MODEL_OWNERS];
    for (int o = 0; o < MODEL_OWNERS; o++) {
        moved[o] = lost(m, o, r, a);
    }
    settle(m, a);
    for (int o = 0; o < MODEL_OWNERS; o++) {
        if (moved[o]) {
            settle_lost(m, o, a);
        }
    }
}

void model_leave(struct model *m, int o, struct model_answers *a)
{
    queue_remove(m, o);
    settle(m, a);
}

void model_end(struct model *m, int o, struct model_answers *a)
{
    if (m->waits[o].resources != 0) {
        a->of[o] = M_GONE;
    }
    queue_remove(m, o);
    for (int r = 0; r < MODEL_RESOURCES; r++) {
        lost(m, o, r, a);
    }
    settle(m, a);
}
