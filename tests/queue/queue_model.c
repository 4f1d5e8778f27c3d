/* See queue_model.h. Slow and plain on purpose; shares nothing with the state machine but its header. */
#include "queue_model.h"

#include "utils/assert.h"

/* Somebody of this key is out, or stands before it. */
static bool key_busy(const struct model_part *p, const struct model_group *g, uint64_t offset)
{
    for (uint64_t i = 0; i < g->next && p->key[offset] != 0; i++) {
        enum model_state s = g->copy[i].state;
        if (i != offset && p->key[i] == p->key[offset] && (s == M_IN_FLIGHT || s == M_AVAILABLE || s == M_WAITING)) {
            return true;
        }
    }
    return false;
}

static void ready(struct model *m, struct model_copy *c, uint64_t at_ms)
{
    c->at_ms = at_ms;
    c->state = at_ms > m->now ? M_WAITING : M_AVAILABLE;
}

/* A key has become free: the first that waits for it is next. */
static void unblock(struct model *m, struct model_part *p, struct model_group *g)
{
    for (uint64_t i = 0; i < g->next; i++) {
        if (g->copy[i].state == M_BLOCKED && !key_busy(p, g, i)) {
            ready(m, &g->copy[i], g->copy[i].deliveries == 0 && g->copy[i].delivery == 0 ? p->not_before[i] : 0);
        }
    }
}

static void fail(struct model *m, struct model_part *p, struct model_group *g, struct model_copy *c, uint64_t delay)
{
    if (m->config.max_deliver > 0 && c->deliveries >= m->config.max_deliver) {
        c->state = M_DEAD;
        unblock(m, p, g);
        return;
    }
    if (delay == SETTLE_DELAY_DEFAULT) {
        delay = m->config.backoff_ms;
        for (uint32_t i = 1; i < c->deliveries; i++) {
            delay = delay * 2 < m->config.backoff_ms_max ? delay * 2 : m->config.backoff_ms_max;
        }
        delay = delay < m->config.backoff_ms_max ? delay : m->config.backoff_ms_max;
    }
    ready(m, c, delay > 0 ? m->now + delay : 0);
}

void model_time(struct model *m, uint64_t now)
{
    m->now = now;
    for (int k = 0; k < MODEL_PARTS; k++) {
        for (int n = 0; n < MODEL_GROUPS; n++) {
            struct model_group *g = &m->parts[k].groups[n];
            for (uint64_t i = 0; i < g->next; i++) {
                struct model_copy *c = &g->copy[i];
                if (c->state == M_WAITING && c->at_ms <= now) {
                    c->state = M_AVAILABLE;
                } else if (c->state == M_IN_FLIGHT && c->at_ms <= now) {
                    fail(m, &m->parts[k], g, c, SETTLE_DELAY_DEFAULT);
                }
            }
        }
    }
}

void model_publish(struct model *m, uint32_t part, uint32_t key, uint64_t delay)
{
    struct model_part *p = &m->parts[part];
    syn_assert(p->end < MODEL_MESSAGES);
    p->key[p->end] = m->config.ordered ? key : 0;
    p->not_before[p->end] = delay ? m->now + delay : 0;
    p->end++;
}

static void deliver(struct model *m, struct model_group *g, uint64_t offset, uint32_t part, int consumer, struct delivery *d)
{
    struct model_copy *c = &g->copy[offset];
    c->state = M_IN_FLIGHT;
    c->deliveries++;
    c->generation = g->generation;
    c->at_ms = m->now + m->config.visibility_ms;
    c->consumer = consumer;
    *d = (struct delivery){{part, g->generation, offset, 0}, c->deliveries, {0, 0}};
}

/* It begins at the partition's start: with what others still have. */
static void group_make(struct model *m, struct model_part *p, struct model_group *g)
{
    g->made = true;
    g->owner = -1;
    g->next = p->floor;
    for (uint64_t i = 0; i < p->floor; i++) {
        g->copy[i].state = M_DONE;
    }
    for (uint64_t i = 0; i < p->floor && m->config.retention_bytes == 0; i++) {
        for (int n = 0; n < MODEL_GROUPS; n++) {
            const struct model_copy *c = &p->groups[n].copy[i];
            if (p->groups[n].made && &p->groups[n] != g && c->state != M_DONE && c->state != M_BACKLOG) {
                if (key_busy(p, g, i)) {
                    g->copy[i].state = M_BLOCKED;
                } else {
                    ready(m, &g->copy[i], c->delivery == 0 ? p->not_before[i] : 0);
                }
            }
        }
    }
}

int model_claim(struct model *m, uint32_t part, int group, int consumer, uint64_t generation, uint32_t count, struct delivery *got)
{
    struct model_part *p = &m->parts[part];
    struct model_group *g = &p->groups[group];
    int n = 0;
    if (!g->made) {
        group_make(m, p, g);
    }
    if (generation < g->generation || (generation == g->generation && g->owner >= 0 && g->owner != consumer)) {
        return -1;
    }
    g->generation = generation;
    g->owner = consumer;
    for (uint64_t i = 0; i < g->next && n < (int)count; i++) {
        if (g->copy[i].state == M_AVAILABLE) {
            deliver(m, g, i, part, consumer, &got[n++]);
        }
    }
    for (; g->next < p->end && n < (int)count; g->next++) {
        struct model_copy *c = &g->copy[g->next];
        if (key_busy(p, g, g->next)) {
            c->state = M_BLOCKED;
        } else if (p->not_before[g->next] > m->now) {
            ready(m, c, p->not_before[g->next]);
        } else {
            deliver(m, g, g->next, part, consumer, &got[n++]);
        }
    }
    return n;
}

bool model_settle(struct model *m, uint32_t part, int group, const struct settle_item *it)
{
    struct model_part *p = &m->parts[part];
    struct model_group *g = &p->groups[group];
    struct model_copy *c = &g->copy[it->receipt.offset];
    if (c->state != M_IN_FLIGHT || it->receipt.delivery != c->delivery || it->receipt.generation != c->generation || c->generation != g->generation) {
        return false;
    }
    if (it->kind == SETTLE_ACK) {
        c->state = M_DONE;
        unblock(m, p, g);
    } else if (it->kind == SETTLE_EXTEND) {
        c->at_ms = m->now + it->delay_ms;
    } else if (it->mode == NACK_FATAL) {
        c->state = M_DEAD;
        unblock(m, p, g);
    } else if (it->mode == NACK_SILENT) {
        c->deliveries--;
        ready(m, c, it->delay_ms == SETTLE_DELAY_DEFAULT ? 0 : m->now + it->delay_ms);
    } else {
        fail(m, p, g, c, it->delay_ms);
    }
    return true;
}

void model_release(struct model *m, int group, int consumer)
{
    for (int k = 0; k < MODEL_PARTS; k++) {
        struct model_group *g = &m->parts[k].groups[group];
        for (uint64_t i = 0; i < g->next; i++) {
            if (g->copy[i].state == M_IN_FLIGHT && g->copy[i].consumer == consumer) {
                g->copy[i].deliveries--;
                ready(m, &g->copy[i], 0);
            }
        }
        g->owner = g->owner == consumer ? -1 : g->owner;
    }
}

uint32_t model_redrive(struct model *m, int group, uint32_t count)
{
    uint32_t n = 0;
    for (int k = 0; k < MODEL_PARTS; k++) {
        struct model_group *g = &m->parts[k].groups[group];
        for (uint64_t i = 0; i < g->next && n < count; i++) {
            if (g->copy[i].state == M_DEAD) {
                g->copy[i].deliveries = 0;
                g->copy[i].state = M_BLOCKED;
                if (!key_busy(&m->parts[k], g, i)) {
                    ready(m, &g->copy[i], 0);
                }
                n++;
            }
        }
    }
    return n;
}

void model_floor(struct model *m, uint32_t part)
{
    struct model_part *p = &m->parts[part];
    uint64_t low = UINT64_MAX;
    for (int n = 0; n < MODEL_GROUPS; n++) {
        if (p->groups[n].made) {
            low = p->groups[n].next < low ? p->groups[n].next : low;
        }
    }
    if (m->config.retention_bytes == 0 && low != UINT64_MAX && low > p->floor) {
        p->floor = low;
    }
}

bool model_there(const struct model *m, uint32_t part, uint64_t offset)
{
    const struct model_part *p = &m->parts[part];
    bool held = offset >= p->floor && offset < p->end;
    for (int n = 0; n < MODEL_GROUPS; n++) {
        enum model_state s = p->groups[n].copy[offset].state;
        held = held || (p->groups[n].made && s != M_DONE && s != M_BACKLOG);
    }
    return held;
}

bool model_consumed(const struct model_part *p, uint64_t offset)
{
    bool all = true, any = false;
    for (int n = 0; n < MODEL_GROUPS; n++) {
        any = any || p->groups[n].made;
        all = all && (!p->groups[n].made || offset < p->groups[n].next);
    }
    return any && all;
}

uint64_t model_start(const struct model *m, uint32_t part)
{
    uint64_t start = 0;
    while (start < m->parts[part].floor && !model_there(m, part, start)) {
        start++;
    }
    return start;
}

uint32_t model_count(const struct model_part *p, int group, enum model_state state)
{
    uint32_t n = 0;
    for (uint64_t i = 0; i < p->groups[group].next; i++) {
        n += p->groups[group].copy[i].state == state;
    }
    return n;
}
