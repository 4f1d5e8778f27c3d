/* Requests of the cache workload as bytes, and what replies say about the keys they name.
 *
 * A value names the event that wrote it: "v<event>." and padding, what is appended "a<event>.", a counter is set to 1000 times its event. So whatever is read
 * anywhere says which writes were done. Not responsible for what is asked (cache_work.c) nor for what must hold (check_cache*.c). */
#include "sim_cache.h"

#include "communication/resp.h"
#include "utils/errors.h"

#include <stdio.h>

enum { COUNTER_STEP = 1000, LONG_EVERY = 17, LONG_BYTES = 300 };

/* Words of one request; their number is written before them. */
struct words {
    struct buf b;
    uint32_t n;
};

static void word_bytes(struct words *w, slice_t s)
{
    buf_printf(&w->b, "$%zu\r\n", s.len);
    buf_append_slice(&w->b, s);
    buf_append_str(&w->b, "\r\n");
    w->n++;
}

static void word(struct words *w, const char *text)
{
    word_bytes(w, slice_str(text));
}

static void number(struct words *w, uint64_t v)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)v);
    word(w, text);
}

static bool is_counter(uint32_t key)
{
    return key >= CSIM_COUNTER_AT && key < CSIM_TIMED_AT;
}

void cache_value(const struct sim_cache *q, uint64_t event, struct buf *out)
{
    const struct csim_event *e = &q->events[event];
    if (is_counter(e->key)) {
        buf_printf(out, "%llu", (unsigned long long)(event * COUNTER_STEP));
        return;
    }
    buf_printf(out, "%c%llu.", e->kind == CSIM_APPEND ? 'a' : 'v', (unsigned long long)event);
    while (e->kind != CSIM_APPEND && event % LONG_EVERY == 0 && out->len < LONG_BYTES) {
        buf_put_u8(out, 'p');
    }
}

uint64_t cache_hash(uint64_t h, slice_t bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        h = (h ^ bytes.ptr[i]) * UINT64_C(1099511628211);
    }
    return h;
}

static void value_word(struct words *w, const struct sim_cache *q, uint64_t event)
{
    struct buf v = {0};
    cache_value(q, event, &v);
    word_bytes(w, buf_slice(&v));
    buf_fini(&v);
}

static void set_words(struct words *w, const struct sim_cache *q, uint64_t event)
{
    const struct csim_event *e = &q->events[event];
    value_word(w, q, event);
    switch (e->kind) {
    case CSIM_SETNX: word(w, "NX"); break;
    case CSIM_SETXX: word(w, "XX"); break;
    case CSIM_SETGET: word(w, "GET"); break;
    case CSIM_SETPX:
        word(w, "PX");
        number(w, e->arg);
        break;
    case CSIM_IFEQ:
        word(w, "IFEQ");
        value_word(w, q, e->arg);
        break;
    case CSIM_FENCE:
        word(w, "FENCE");
        word(w, "guard");
        number(w, e->arg);
        break;
    default: break;
    }
}

static void one_words(struct words *w, const struct sim_cache *q, uint64_t event)
{
    static const char *const NAMES[CSIM_KINDS_END] = {
        [CSIM_GET] = "GET",     [CSIM_SET] = "SET",       [CSIM_SETNX] = "SET",   [CSIM_SETXX] = "SET",     [CSIM_SETGET] = "SET",
        [CSIM_SETPX] = "SET",   [CSIM_DEL] = "DEL",       [CSIM_GETDEL] = "GETDEL", [CSIM_IFEQ] = "SET",    [CSIM_DELEX] = "DELEX",
        [CSIM_APPEND] = "APPEND", [CSIM_INCR] = "INCR",   [CSIM_EXPIRE] = "PEXPIRE", [CSIM_PERSIST] = "PERSIST", [CSIM_FENCE] = "SET",
    };
    const struct csim_event *e = &q->events[event];
    word(w, NAMES[e->kind]);
    word(w, q->keys[e->key].name);
    switch (e->kind) {
    case CSIM_GET:
    case CSIM_DEL:
    case CSIM_GETDEL:
    case CSIM_INCR:
    case CSIM_PERSIST: break;
    case CSIM_DELEX:
        word(w, "IFEQ");
        value_word(w, q, e->arg);
        break;
    case CSIM_APPEND: value_word(w, q, event); break;
    case CSIM_EXPIRE: number(w, e->arg); break;
    default: set_words(w, q, event); break;
    }
}

static void several_words(struct words *w, const struct sim_cache *q, const struct csim_ask *a, const char *name, bool values)
{
    word(w, name);
    for (uint32_t i = 0; i < a->n; i++) {
        word(w, q->keys[q->events[a->first + i].key].name);
        if (values) {
            value_word(w, q, a->first + i);
        }
    }
}

static void scratch_words(struct words *w, const struct sim_cache *q, const struct csim_ask *a, const char *name)
{
    uint32_t other = CSIM_SCRATCH_AT + (a->key == CSIM_SCRATCH_AT);
    word(w, name);
    word(w, q->keys[a->key].name);
    word(w, q->keys[other].name);
}

void cache_ask_write(struct sim *s, uint64_t op, struct buf *out)
{
    const struct sim_cache *q = s->cache;
    const struct csim_ask *a = cache_ask_of(s, &s->ops[op]);
    struct words w = {0};
    switch ((enum csim_form)a->form) {
    case CSIM_FORM_ONE: one_words(&w, q, a->first); break;
    case CSIM_FORM_MGET: several_words(&w, q, a, "MGET", false); break;
    case CSIM_FORM_MSET: several_words(&w, q, a, "MSET", true); break;
    case CSIM_FORM_MSETNX: several_words(&w, q, a, "MSETNX", true); break;
    case CSIM_FORM_RENAME: scratch_words(&w, q, a, "RENAME"); break;
    case CSIM_FORM_COPY: scratch_words(&w, q, a, "COPY"); break;
    case CSIM_FORM_FLUSHALL: word(&w, "FLUSHALL"); break;
    case CSIM_FORM_FLUSH: word(&w, "CACHE.FLUSH"); break;
    case CSIM_FORM_INVALIDATE:
        word(&w, "CACHE.INVALIDATE");
        word(&w, q->keys[a->key].name);
        break;
    }
    buf_printf(out, "*%u\r\n", w.n);
    buf_append_slice(out, buf_slice(&w.b));
    buf_fini(&w.b);
}

static void surprise(struct sim *s, const struct sim_op *o, slice_t reply)
{
    const struct csim_ask *a = cache_ask_of(s, o);
    sim_fail(s, "a client that asked the cache form %u, kind %u, was answered %.*s", a->form, a->n > 0 ? s->cache->events[a->first].kind : 0,
             (int)(reply.len < 160 ? reply.len : 160), (const char *)reply.ptr);
}

static void seen(struct sim *s, uint64_t event)
{
    struct sim_cache *q = s->cache;
    if (event < q->n_events && s->now_us < q->events[event].seen_us) {
        q->events[event].seen_us = s->now_us;
    }
}

/* A value was told to a client: its writes were done by now. */
static uint64_t value_seen(struct sim *s, uint32_t key, slice_t v)
{
    uint64_t n = 0;
    for (size_t i = 0; i < v.len; i++) {
        bool digit = v.ptr[i] >= '0' && v.ptr[i] <= '9';
        n = digit ? n * 10 + (uint64_t)(v.ptr[i] - '0') : 0;
        if (digit && i + 1 < v.len && v.ptr[i + 1] == '.') {
            seen(s, n);
        }
    }
    if (is_counter(key) && n >= COUNTER_STEP) {
        seen(s, n / COUNTER_STEP);
    }
    return cache_hash(CSIM_HASH_NONE, v);
}

static bool bulk_result(struct sim *s, struct csim_event *e, const struct resp_value *v)
{
    e->known = v->type == RT_BULK || v->type == RT_NULL;
    e->result = v->type == RT_BULK ? value_seen(s, e->key, v->str) : 0;
    return e->known;
}

static bool one_result(struct sim *s, struct csim_event *e, const struct resp_value *v)
{
    switch (e->kind) {
    case CSIM_GET:
    case CSIM_SETGET:
    case CSIM_GETDEL: return bulk_result(s, e, v);
    case CSIM_DEL:
    case CSIM_DELEX:
    case CSIM_APPEND:
    case CSIM_EXPIRE:
    case CSIM_PERSIST:
    case CSIM_INCR:
        e->known = v->type == RT_INT;
        e->result = (uint64_t)v->num;
        if (e->kind == CSIM_INCR && e->known) {
            seen(s, e->result / COUNTER_STEP);
        }
        return e->known;
    default:
        e->known = (v->type == RT_SIMPLE && slice_eq(v->str, SLICE_LIT("OK"))) || v->type == RT_NULL;
        e->result = v->type == RT_SIMPLE;
        return e->known && (e->result == 1 || e->kind == CSIM_SETNX || e->kind == CSIM_SETXX || e->kind == CSIM_IFEQ);
    }
}

/* Each element of an array is one key's. */
static bool mget_results(struct sim *s, const struct csim_ask *a, struct reader *r, const struct resp_value *head)
{
    struct resp_value v;
    bool ok = head->type == RT_ARRAY && head->count == a->n;
    for (uint32_t i = 0; i < a->n && ok; i++) {
        ok = resp_next(r, &v) && bulk_result(s, &s->cache->events[a->first + i], &v);
    }
    return ok;
}

static bool results(struct sim *s, const struct csim_ask *a, struct reader *r, const struct resp_value *v)
{
    struct sim_cache *q = s->cache;
    switch ((enum csim_form)a->form) {
    case CSIM_FORM_ONE: return one_result(s, &q->events[a->first], v);
    case CSIM_FORM_MGET: return mget_results(s, a, r, v);
    case CSIM_FORM_MSET:
    case CSIM_FORM_FLUSHALL:
    case CSIM_FORM_MSETNX:
        for (uint32_t i = 0; i < a->n; i++) {
            q->events[a->first + i].known = true;
            q->events[a->first + i].result = a->form == CSIM_FORM_MSETNX ? (uint64_t)v->num : 1;
        }
        return a->form == CSIM_FORM_MSETNX ? v->type == RT_INT && (v->num == 0 || v->num == 1) : v->type == RT_SIMPLE;
    default: return true;
    }
}

void cache_on_ok(struct sim *s, uint64_t op, slice_t reply)
{
    struct sim_op *o = &s->ops[op];
    struct reader r = reader_of(reply);
    struct resp_value v;
    resp_next(&r, &v);
    o->status = OP_OK;
    if (!results(s, cache_ask_of(s, o), &r, &v)) {
        surprise(s, o, reply);
    }
}

void cache_on_error(struct sim *s, struct sim_op *o, slice_t text)
{
    const struct csim_ask *a = cache_ask_of(s, o);
    struct csim_event *e = a->n > 0 ? &s->cache->events[a->first] : NULL;
    enum error_word w = ERROR_ERR;
    bool known = error_find(text, &w);
    bool several = a->form == CSIM_FORM_MSET || a->form == CSIM_FORM_FLUSHALL; /* some of it may be done */
    if (known && w == ERROR_FENCED && e != NULL && e->kind == CSIM_FENCE) {
        o->status = OP_OK;
        e->known = true;
        e->result = 0;
    } else if (known && w == ERROR_ERR && a->form == CSIM_FORM_RENAME) {
        o->status = OP_OK; /* there is no such key */
    } else if (!known || w == ERROR_ERR) {
        surprise(s, o, text);
    } else if (w == ERROR_UNCERTAIN || several) {
        s->r->answers_uncertain++;
        o->status = OP_UNKNOWN;
    } else {
        o->status = OP_NOT_DONE;
    }
}
