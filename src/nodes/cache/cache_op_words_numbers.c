/* Words that are numbers: increments, ranges, offsets, bits. Refusals are in Redis' words. */
#include "nodes/cache/cache_op_internal.h"

#include "communication/resp.h"
#include "utils/limits.h"

bool words_int(struct op_words *w, slice_t s, int64_t *out)
{
    if (!number_parse(s, out)) {
        resp_error(w->error, "ERR", "value is not an integer or out of range");
        return false;
    }
    return true;
}

bool words_incr(struct op_words *w)
{
    w->op->a = 1;
    return true;
}

bool words_decr(struct op_words *w)
{
    w->op->a = -1;
    return true;
}

bool words_incrby(struct op_words *w)
{
    return words_int(w, w->argv[2], &w->op->a);
}

bool words_decrby(struct op_words *w)
{
    int64_t v;
    if (!words_int(w, w->argv[2], &v)) {
        return false;
    }
    if (v == INT64_MIN) {
        resp_error(w->error, "ERR", "decrement would overflow");
        return false;
    }
    w->op->a = -v;
    return true;
}

bool words_float(struct op_words *w)
{
    struct real v;
    if (!real_parse(w->argv[2], &v)) {
        resp_error(w->error, "ERR", "value is not a valid float");
        return false;
    }
    if (v.infinite) {
        resp_error(w->error, "ERR", "increment would produce NaN or Infinity");
        return false;
    }
    w->op->a = v.e;
    w->op->b = (int64_t)v.m;
    w->op->flags = v.negative && v.m != 0 ? OP_NEGATIVE : 0;
    return true;
}

bool words_range(struct op_words *w)
{
    return words_int(w, w->argv[2], &w->op->a) && words_int(w, w->argv[3], &w->op->b);
}

bool words_setrange(struct op_words *w)
{
    if (!words_int(w, w->argv[2], &w->op->a)) {
        return false;
    }
    if (w->op->a < 0) {
        resp_error(w->error, "ERR", "offset is out of range");
        return false;
    }
    w->op->value = w->argv[3];
    if (w->op->value.len > LIMIT_VALUE_BYTES) {
        resp_error(w->error, "ERR", "string exceeds maximum allowed size (proto-max-bulk-len)");
        return false;
    }
    return true;
}

bool words_getbit(struct op_words *w)
{
    if (!number_parse(w->argv[2], &w->op->a) || w->op->a < 0 || w->op->a / 8 >= LIMIT_VALUE_BYTES) {
        resp_error(w->error, "ERR", "bit offset is not an integer or out of range");
        return false;
    }
    return true;
}

bool words_setbit(struct op_words *w)
{
    if (!words_getbit(w)) {
        return false;
    }
    if (!number_parse(w->argv[3], &w->op->b) || (w->op->b != 0 && w->op->b != 1)) {
        resp_error(w->error, "ERR", "bit is not an integer or out of range");
        return false;
    }
    return true;
}

/* BYTE or BIT at argv[i], the last word. */
static bool unit_word(struct op_words *w, uint32_t i)
{
    if (i + 1 != w->argc || (!slice_ieq(w->argv[i], "BIT") && !slice_ieq(w->argv[i], "BYTE"))) {
        resp_error(w->error, "ERR", "syntax error");
        return false;
    }
    w->op->flags |= slice_ieq(w->argv[i], "BIT") ? OP_BITS : 0;
    return true;
}

bool words_bitcount(struct op_words *w)
{
    if (w->argc == 2) {
        return true;
    }
    if (w->argc == 3 || w->argc > 5) {
        return unit_word(w, w->argc); /* half a range, or more than one */
    }
    w->op->flags = OP_FROM | OP_TO;
    return words_range(w) && (w->argc == 4 || unit_word(w, 4));
}

bool words_bitpos(struct op_words *w)
{
    int64_t bit;
    struct op *o = w->op;
    if (!words_int(w, w->argv[2], &bit)) {
        return false;
    }
    if (bit != 0 && bit != 1) {
        resp_error(w->error, "ERR", "The bit argument must be 1 or 0.");
        return false;
    }
    if (w->argc > 6) {
        return unit_word(w, 5); /* says so before it looks at numbers */
    }
    o->flags = (bit == 0 ? OP_NEGATIVE : 0) | (w->argc > 3 ? OP_FROM : 0) | (w->argc > 4 ? OP_TO : 0);
    if (w->argc > 3 && !words_int(w, w->argv[3], &o->a)) {
        return false;
    }
    return (w->argc <= 5 || unit_word(w, 5)) && (w->argc <= 4 || words_int(w, w->argv[4], &o->b));
}

/* The door has put the seconds behind the key. */
bool words_idle(struct op_words *w)
{
    return words_int(w, w->argv[3], &w->op->a);
}

/* [SAMPLES count]: a string has no parts to choose from. */
bool words_usage(struct op_words *w)
{
    int64_t samples = 0;
    w->op->a = (int64_t)w->argv[2].len;
    for (uint32_t i = 3; i < w->argc; i += 2) {
        if (!slice_ieq(w->argv[i], "SAMPLES") || i + 1 >= w->argc) {
            resp_error(w->error, "ERR", "syntax error");
            return false;
        }
        if (!words_int(w, w->argv[i + 1], &samples)) {
            return false;
        }
        if (samples < 0) {
            resp_error(w->error, "ERR", "syntax error");
            return false;
        }
    }
    return true;
}
