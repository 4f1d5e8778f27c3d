/* Words of SET, GETEX, EXPIRE and their like: options in any order, times, conditions. Refusals are in Redis' words and in its order. */
#include "nodes/cache/cache_op_internal.h"

#include "communication/resp.h"
#include "utils/limits.h"

static bool syntax_error(struct op_words *w)
{
    resp_error(w->error, "ERR", "syntax error");
    return false;
}

static bool bad_time(struct op_words *w)
{
    resp_error(w->error, "ERR", "invalid expire time in '%s' command", w->name);
    return false;
}

bool words_none(struct op_words *w)
{
    (void)w;
    return true;
}

static bool take_value(struct op_words *w, slice_t s, slice_t *out)
{
    if (s.len > LIMIT_VALUE_BYTES) {
        resp_error(w->error, "ERR", "string exceeds maximum allowed size (proto-max-bulk-len)");
        return false;
    }
    *out = s;
    return true;
}

bool words_value(struct op_words *w)
{
    return take_value(w, w->argv[2], &w->op->value);
}

/* The forms of an expiry among options. */
enum expiry { EXPIRY_NONE, EX, PX, EXAT, PXAT, KEEPTTL, PERSIST };

struct expiry_words { enum expiry kind; slice_t amount; };

static bool take_amount(struct op_words *w, const struct expiry_words *e)
{
    int64_t v;
    bool seconds = e->kind == EX || e->kind == EXAT;
    if (!words_int(w, e->amount, &v)) {
        return false;
    }
    if (v <= 0 || (seconds && v > INT64_MAX / 1000)) {
        return bad_time(w);
    }
    v *= seconds ? 1000 : 1;
    w->op->time = e->kind == EX || e->kind == PX ? OP_TIME_IN : OP_TIME_AT;
    w->op->time_ms = v;
    return w->op->time == OP_TIME_AT || v <= OP_TTL_MS_MAX || bad_time(w);
}

static bool take_expiry(struct op_words *w, const struct expiry_words *e)
{
    switch (e->kind) {
    case EXPIRY_NONE: return true;
    case KEEPTTL: w->op->time = OP_TIME_KEEP; return true;
    case PERSIST: w->op->time = OP_TIME_PERSIST; return true;
    default: return take_amount(w, e);
    }
}

/* An expiry at argv[*i]: takes it with what follows it. False: there is none, or one of another form was there before. */
static bool expiry_word(struct op_words *w, uint32_t *i, struct expiry_words *e)
{
    static const char *const names[] = {[EX] = "EX", [PX] = "PX", [EXAT] = "EXAT", [PXAT] = "PXAT", [KEEPTTL] = "KEEPTTL", [PERSIST] = "PERSIST"};
    for (enum expiry k = EX; k <= PERSIST; k++) {
        bool amount = k < KEEPTTL;
        if (!slice_ieq(w->argv[*i], names[k])) {
            continue;
        }
        if ((e->kind != EXPIRY_NONE && e->kind != k) || (amount && *i + 1 >= w->argc)) {
            return false;
        }
        e->kind = k;
        e->amount = amount ? w->argv[++*i] : SLICE_NONE;
        return true;
    }
    return false;
}

/* NX, XX, IFEQ and IFNE exclude each other; a word may come twice where it may come once. */
static bool condition_word(struct op_words *w, uint32_t *i)
{
    static const struct { const char *word; uint32_t flag; bool compares; } words[] = {
        {"NX", OP_NX, false}, {"XX", OP_XX, false}, {"IFEQ", OP_IFEQ, true}, {"IFNE", OP_IFNE, true},
    };
    uint32_t others = w->op->flags & (OP_NX | OP_XX | OP_IFEQ | OP_IFNE);
    for (size_t k = 0; k < sizeof words / sizeof words[0]; k++) {
        if (!slice_ieq(w->argv[*i], words[k].word)) {
            continue;
        }
        if ((others & ~words[k].flag) != 0 || (words[k].compares && *i + 1 >= w->argc)) {
            return false;
        }
        w->op->flags |= words[k].flag;
        w->op->other = words[k].compares ? w->argv[++*i] : SLICE_NONE;
        return true;
    }
    return false;
}

static bool parse_token(slice_t s, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s.len; i++) {
        uint64_t d = (uint64_t)s.ptr[i] - '0';
        if (d > 9 || v > (UINT64_MAX - d) / 10) {
            return false;
        }
        v = v * 10 + d;
    }
    *out = v;
    return s.len > 0;
}

/* FENCE resource token, at argv[i] and behind. */
static bool take_fence(struct op_words *w, uint32_t i)
{
    struct op *o = w->op;
    o->guard = w->argv[i + 1];
    if (o->guard.len == 0 || o->guard.len > LIMIT_KEY_BYTES) {
        resp_error(w->error, o->guard.len == 0 ? "ERR" : "LIMIT", "the resource of FENCE must have between 1 and %d bytes, not %zu", LIMIT_KEY_BYTES, o->guard.len);
        return false;
    }
    if (!parse_token(w->argv[i + 2], &o->token)) {
        resp_error(w->error, "ERR", "the token of FENCE must be a whole number between 0 and %llu", (unsigned long long)UINT64_MAX);
        return false;
    }
    o->flags |= OP_FENCE;
    return true;
}

bool words_set(struct op_words *w)
{
    struct expiry_words e = {0};
    uint32_t fence = 0;
    for (uint32_t i = 3; i < w->argc; i++) {
        if (slice_ieq(w->argv[i], "GET")) {
            w->op->flags |= OP_OLD;
        } else if (slice_ieq(w->argv[i], "FENCE") && i + 2 < w->argc) {
            fence = i;
            i += 2;
        } else if (!condition_word(w, &i) && !expiry_word(w, &i, &e)) {
            return syntax_error(w);
        }
    }
    if (e.kind == PERSIST) {
        return syntax_error(w);
    }
    return take_expiry(w, &e) && (fence == 0 || take_fence(w, fence)) && take_value(w, w->op->other, &w->op->other) && words_value(w);
}

bool words_setex(struct op_words *w)
{
    struct expiry_words e = {w->op->flags & OP_SECONDS ? EX : PX, w->argv[2]};
    w->op->flags = 0;
    return take_expiry(w, &e) && take_value(w, w->argv[3], &w->op->value);
}

/* Without options it is a GET. */
bool words_getex(struct op_words *w)
{
    struct expiry_words e = {0};
    for (uint32_t i = 2; i < w->argc; i++) {
        if (!expiry_word(w, &i, &e)) {
            return syntax_error(w);
        }
    }
    if (e.kind == KEEPTTL) {
        return syntax_error(w);
    }
    w->op->kind = e.kind == EXPIRY_NONE ? OP_GET : OP_GETEX;
    return take_expiry(w, &e);
}

static bool expire_options(struct op_words *w)
{
    static const struct { const char *word; uint32_t flag; } words[] = {{"NX", OP_NX}, {"XX", OP_XX}, {"GT", OP_GT}, {"LT", OP_LT}};
    struct op *o = w->op;
    for (uint32_t i = 3; i < w->argc; i++) {
        uint32_t flag = 0;
        if (slice_ieq(w->argv[i], "IFEQ") && i + 1 < w->argc) {
            o->flags |= OP_IFEQ;
            o->other = w->argv[++i];
            continue;
        }
        if (slice_ieq(w->argv[i], "ADD") && o->flags & OP_IFEQ && o->time == OP_TIME_IN) {
            o->flags |= OP_ADD;
            continue;
        }
        for (size_t k = 0; k < sizeof words / sizeof words[0]; k++) {
            flag |= slice_ieq(w->argv[i], words[k].word) ? words[k].flag : 0;
        }
        if (flag == 0) {
            size_t n = w->argv[i].len < LIMIT_ERROR_ECHO_BYTES ? w->argv[i].len : LIMIT_ERROR_ECHO_BYTES;
            resp_error(w->error, "ERR", "Unsupported option %.*s", (int)n, (const char *)w->argv[i].ptr);
            return false;
        }
        o->flags |= flag;
    }
    const char *clash = o->flags & OP_NX && o->flags & (OP_XX | OP_GT | OP_LT) ? "NX and XX, GT or LT"
                        : o->flags & OP_GT && o->flags & OP_LT                 ? "GT and LT"
                                                                               : NULL;
    if (clash != NULL) {
        resp_error(w->error, "ERR", "%s options at the same time are not compatible", clash);
    }
    return clash == NULL;
}

/* Times that are over are allowed here: they delete. */
bool words_expire(struct op_words *w)
{
    struct op *o = w->op;
    bool seconds = o->flags & OP_SECONDS;
    o->time = o->flags & OP_UNIX ? OP_TIME_AT : OP_TIME_IN;
    o->flags = 0;
    if (!expire_options(w) || !words_int(w, w->argv[2], &o->time_ms)) {
        return false;
    }
    if (seconds && (o->time_ms > INT64_MAX / 1000 || o->time_ms < INT64_MIN / 1000)) {
        return bad_time(w);
    }
    o->time_ms *= seconds ? 1000 : 1;
    return o->time == OP_TIME_AT || o->time_ms <= OP_TTL_MS_MAX || bad_time(w);
}

bool words_delex(struct op_words *w)
{
    struct op *o = w->op;
    if (w->argc == 2) {
        o->kind = OP_DEL;
        return true;
    }
    uint32_t i = 2;
    if (!condition_word(w, &i) || i != 3 || o->flags & (OP_NX | OP_XX)) {
        return syntax_error(w);
    }
    return take_value(w, o->other, &o->other);
}
