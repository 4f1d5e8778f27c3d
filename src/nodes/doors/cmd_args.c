/* Arguments of commands: numbers, modes, names; each refusal says what was given and what is accepted. */
#include "nodes/doors/door.h"

#include "utils/hash.h"
#include "utils/limits.h"

/* Strict decimal digits: no sign, no blanks, no leading zeros but "0" itself (I13). */
static bool parse_u64(slice_t s, uint64_t *out)
{
    uint64_t v = 0;
    if (s.len == 0 || s.len > 20 || (s.len > 1 && s.ptr[0] == '0')) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        uint64_t d = (uint64_t)s.ptr[i] - '0';
        if (s.ptr[i] < '0' || s.ptr[i] > '9' || v > (UINT64_MAX - d) / 10) {
            return false;
        }
        v = v * 10 + d;
    }
    *out = v;
    return true;
}

bool arg_u64(struct call *c, slice_t s, const char *what, uint64_t min, uint64_t max, uint64_t *out)
{
    if (!parse_u64(s, out) || *out < min || *out > max) {
        call_error(c, "ERR", "%s must be a whole number between %llu and %llu", what, (unsigned long long)min, (unsigned long long)max);
        return false;
    }
    return true;
}

bool arg_mode(struct call *c, slice_t s, enum lock_mode *out)
{
    if (slice_ieq(s, "EXCLUSIVE") || slice_ieq(s, "X")) {
        *out = LOCK_EXCLUSIVE;
    } else if (slice_ieq(s, "SHARED") || slice_ieq(s, "S")) {
        *out = LOCK_SHARED;
    } else {
        call_error(c, "ERR", "the mode must be SHARED or EXCLUSIVE");
        return false;
    }
    return true;
}

bool arg_name(struct call *c, slice_t s, const char *what, size_t max)
{
    if (s.len == 0 || s.len > max) {
        call_error(c, s.len == 0 ? "ERR" : "LIMIT", "%s must have between 1 and %zu bytes, not %zu", what, max, s.len);
        return false;
    }
    return true;
}

/* A lock_id as printed, or as HTTP prints it: "id@resource". */
bool arg_lock_id(struct call *c, slice_t s, uint64_t *out)
{
    const uint8_t *at = s.len ? memchr(s.ptr, '@', s.len) : NULL;
    slice_t digits = at != NULL ? slice_of(s.ptr, (size_t)(at - s.ptr)) : s;
    if (!parse_u64(digits, out)) {
        call_error(c, "ERR", "the lock_id must be the one that LOCK.ACQUIRE answered, or the token");
        return false;
    }
    return true;
}

