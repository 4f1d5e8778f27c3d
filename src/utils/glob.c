/* See glob.h. Matched without backtracking beyond the last star (I19): what an earlier star took is never looked at again. */
#include "utils/glob.h"

/* One element of the pattern against one byte; *pi moves behind the element. */
static bool class_matches(slice_t p, size_t *pi, uint8_t c)
{
    size_t i = *pi + 1;
    bool no = i < p.len && p.ptr[i] == '^', found = false;
    i += no;
    while (i < p.len && p.ptr[i] != ']') {
        if (p.ptr[i] == '\\' && i + 1 < p.len) {
            found |= p.ptr[i + 1] == c;
            i += 2;
        } else if (i + 2 < p.len && p.ptr[i + 1] == '-') {
            uint8_t a = p.ptr[i], b = p.ptr[i + 2];
            found |= a <= b ? c >= a && c <= b : c >= b && c <= a;
            i += 3;
        } else {
            found |= p.ptr[i] == c;
            i++;
        }
    }
    *pi = i < p.len ? i + 1 : i;
    return found != no;
}

static bool element_matches(slice_t p, size_t *pi, uint8_t c)
{
    switch (p.ptr[*pi]) {
    case '?': ++*pi; return true;
    case '[': return class_matches(p, pi, c);
    case '\\':
        *pi += *pi + 1 < p.len;
        return p.ptr[(*pi)++] == c;
    default: return p.ptr[(*pi)++] == c;
    }
}

bool glob_match(slice_t p, slice_t s)
{
    size_t pi = 0, si = 0, star = SIZE_MAX, mark = 0;
    while (si < s.len) {
        size_t next = pi;
        if (pi < p.len && p.ptr[pi] == '*') {
            star = pi++;
            mark = si;
        } else if (pi < p.len && element_matches(p, &next, s.ptr[si])) {
            pi = next;
            si++;
        } else if (star != SIZE_MAX) {
            pi = star + 1;
            si = ++mark;
        } else {
            return false;
        }
    }
    while (pi < p.len && p.ptr[pi] == '*') {
        pi++;
    }
    return pi == p.len;
}
