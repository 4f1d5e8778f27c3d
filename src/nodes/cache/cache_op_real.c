/* Decimal numbers of INCRBYFLOAT, with the precision they have in Redis on x86-64: 64 bits of mantissa, rounded to even. They are computed in integers,
 * because a replica on another processor, whose long double is another, must find the same digits.
 *
 * What is read is what strtold reads in the C locale (C17 7.22.1.3): decimal and hexadecimal digits, exponents, inf. Numbers too small to have 64 bits keep
 * them here: it can be seen in none of the 17 decimals that are printed. */
#include "nodes/cache/cache_op_internal.h"

#include "utils/assert.h"

/* Redis takes texts of less than 5 KiB. The largest that is computed with is 5,119 digits with an exponent that brings it near 10^-4951. */
enum { TEXT_MAX = 5 * 1024, LIMBS_MAX = 1100, DIGITS_10_MAX = 4933, DIGITS_10_MIN = -4951, EXPONENT_MAX = 1000 * 1000 };

/* Little-endian limbs; no leading zeros. */
struct big { uint32_t n; uint32_t limb[LIMBS_MAX]; };

static void big_mul_add(struct big *b, uint32_t factor, uint32_t add)
{
    uint64_t carry = add;
    for (uint32_t i = 0; i < b->n; i++) {
        carry += (uint64_t)b->limb[i] * factor;
        b->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry != 0) {
        syn_assert(b->n < LIMBS_MAX);
        b->limb[b->n++] = (uint32_t)carry;
    }
}

/* Divides by 10^digits, digits at most 9; the rest. */
static uint32_t big_div_10(struct big *b, uint32_t digits)
{
    static const uint32_t powers[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    uint64_t rest = 0;
    if (digits == 9) { /* the constant makes it a multiplication */
        for (uint32_t i = b->n; i-- > 0;) {
            rest = rest << 32 | b->limb[i];
            b->limb[i] = (uint32_t)(rest / 1000000000);
            rest %= 1000000000;
        }
    } else {
        for (uint32_t i = b->n; i-- > 0;) {
            rest = rest << 32 | b->limb[i];
            b->limb[i] = (uint32_t)(rest / powers[digits]);
            rest %= powers[digits];
        }
    }
    while (b->n > 0 && b->limb[b->n - 1] == 0) {
        b->n--;
    }
    return (uint32_t)rest;
}

static uint32_t big_bits(const struct big *b)
{
    return b->n == 0 ? 0 : b->n * 32 - (uint32_t)__builtin_clz(b->limb[b->n - 1]);
}

static void big_shift_left(struct big *b, uint32_t bits)
{
    uint32_t limbs = bits / 32;
    big_mul_add(b, 1u << bits % 32, 0);
    syn_assert(b->n + limbs <= LIMBS_MAX);
    memmove(b->limb + limbs, b->limb, b->n * sizeof b->limb[0]);
    memset(b->limb, 0, limbs * sizeof b->limb[0]);
    b->n += limbs;
}

static uint64_t big_bit(const struct big *b, uint32_t i)
{
    return b->limb[i / 32] >> i % 32 & 1;
}

/* m * 2^e plus less than a unit of m, of which `half` and `more` say whether it is at least a half, and anything but that. */
static struct real rounded(uint64_t m, int64_t e, bool half, bool more)
{
    struct real v = {.m = m, .e = (int32_t)e};
    if (half && (more || (m & 1))) {
        v.m++;
        if (v.m == 0) {
            v.m = UINT64_C(1) << 63;
            v.e++;
        }
    }
    v.infinite = v.e > REAL_EXP_MAX;
    return v;
}

/* b * 2^e, and a little more when `more`. b is not 0. */
static struct real big_round(const struct big *b, int64_t e, bool more)
{
    uint32_t bits = big_bits(b);
    uint64_t m = 0;
    for (uint32_t i = 0; i < 64; i++) {
        m = m << 1 | (i < bits ? big_bit(b, bits - 1 - i) : 0);
    }
    bool half = bits > 64 && big_bit(b, bits - 65);
    for (uint32_t i = 0; !more && i + 65 < bits; i++) {
        more = big_bit(b, i);
    }
    return rounded(m, e + (int64_t)bits - 64, half, more);
}

/* Too large and too small are refused, as strtold's ERANGE is. */
static bool in_range(const struct real *v)
{
    bool zero = v->e < REAL_EXP_MIN || (v->e == REAL_EXP_MIN && v->m == UINT64_C(1) << 63);
    return !v->infinite && !zero;
}

/* digits * 10^e. */
static bool from_decimal(struct big *digits, int64_t e, struct real *out)
{
    bool more = false;
    if (e >= 0) {
        for (; e >= 9; e -= 9) {
            big_mul_add(digits, 1000000000, 0);
        }
        for (; e > 0; e--) {
            big_mul_add(digits, 10, 0);
        }
        *out = big_round(digits, 0, false);
        return in_range(out);
    }
    uint32_t divisor_bits = (uint32_t)(-e * 3322 / 1000 + 1), bits = big_bits(digits); /* 3.322 is more than log2(10) */
    uint32_t shift = bits < divisor_bits + 67 ? divisor_bits + 67 - bits : 0;
    big_shift_left(digits, shift);
    for (; e <= -9; e += 9) {
        more |= big_div_10(digits, 9) != 0;
    }
    more |= big_div_10(digits, (uint32_t)-e) != 0;
    *out = big_round(digits, -(int64_t)shift, more);
    return in_range(out);
}

static int digit_of(uint8_t c, bool hex)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 32;
    return hex && c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What stands behind e or p, at s[i]: the rest of the text, all of it. */
static bool parse_exponent(slice_t s, size_t i, int64_t *out)
{
    bool negative = i < s.len && s.ptr[i] == '-';
    int64_t v = 0;
    i += i < s.len && (s.ptr[i] == '-' || s.ptr[i] == '+');
    if (i == s.len) {
        return false;
    }
    for (; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') {
            return false;
        }
        v = v < EXPONENT_MAX ? v * 10 + (s.ptr[i] - '0') : v; /* more makes no difference */
    }
    *out = negative ? -v : v;
    return true;
}

struct scan { struct big digits; int64_t places; int64_t significant; size_t end; };

/* Several digits at once: as many as one factor of 32 bits takes. */
struct chunk { uint32_t value, scale; };

static void take_chunk(struct big *b, struct chunk *c)
{
    if (c->scale > 1) {
        big_mul_add(b, c->scale, c->value);
    }
    *c = (struct chunk){0, 1};
}

/* Digits with at most one point; false: there is no digit. */
static bool scan_digits(slice_t s, size_t i, bool hex, struct scan *x)
{
    enum { SCALE_FULL = 100 * 1000 * 1000 }; /* reached by 10^8 and 16^7: either fits 32 bits */
    bool point = false, any = false;
    struct chunk c = {0, 1};
    x->digits.n = 0;
    x->places = x->significant = 0;
    for (; i < s.len; i++) {
        int d = digit_of(s.ptr[i], hex);
        if (d < 0 && (s.ptr[i] != '.' || point)) {
            break;
        }
        if (d < 0) {
            point = true;
            continue;
        }
        any = true;
        x->places += point;
        if (x->significant > 0 || d > 0) {
            x->significant++;
            c.value = c.value * (hex ? 16 : 10) + (uint32_t)d;
            c.scale *= hex ? 16 : 10;
        }
        if (c.scale >= SCALE_FULL) {
            take_chunk(&x->digits, &c);
        }
    }
    take_chunk(&x->digits, &c);
    x->end = i;
    return any;
}

bool real_parse(slice_t s, struct real *out)
{
    if (s.len == 0 || s.len >= TEXT_MAX) {
        return false;
    }
    struct scan x;
    bool negative = s.ptr[0] == '-';
    size_t at = negative || s.ptr[0] == '+';
    slice_t rest = slice_of(s.ptr + at, s.len - at);
    if (slice_ieq(rest, "inf") || slice_ieq(rest, "infinity")) {
        *out = (struct real){.negative = negative, .infinite = true};
        return true;
    }
    bool hex = rest.len > 2 && rest.ptr[0] == '0' && (rest.ptr[1] | 32) == 'x';
    int64_t e = 0;
    if (!scan_digits(rest, hex ? 2 : 0, hex, &x)) {
        return false;
    }
    if (x.end < rest.len && ((rest.ptr[x.end] | 32) != (hex ? 'p' : 'e') || !parse_exponent(rest, x.end + 1, &e))) {
        return false;
    }
    *out = (struct real){0};
    if (x.significant > 0 && hex) {
        e -= 4 * x.places;
        *out = big_round(&x.digits, e, false);
        if (!in_range(out)) {
            return false;
        }
    } else if (x.significant > 0) {
        e -= x.places;
        if (e + x.significant > DIGITS_10_MAX || e + x.significant < DIGITS_10_MIN || !from_decimal(&x.digits, e, out)) {
            return false;
        }
    }
    out->negative = negative;
    return true;
}

typedef unsigned __int128 wide;

/* s * 2^e and a little more when `more`; s has bits below bit 64 only if they were not shifted out. */
static struct real wide_round(wide s, int64_t e, bool more)
{
    uint64_t high = (uint64_t)(s >> 64);
    int shift = high != 0 ? __builtin_clzll(high) : 64 + __builtin_clzll((uint64_t)s);
    s <<= shift;
    uint64_t low = (uint64_t)s;
    return rounded((uint64_t)(s >> 64), e + 64 - shift, low >> 63, more || low << 1 != 0);
}

struct real real_add(struct real a, struct real b)
{
    if (a.infinite || b.infinite) {
        syn_assert(!(a.infinite && b.infinite));
        return a.infinite ? a : b;
    }
    if (a.m == 0 || b.m == 0) {
        return a.m == 0 ? b : a;
    }
    if (a.e < b.e || (a.e == b.e && a.m < b.m)) {
        struct real t = a;
        a = b;
        b = t;
    }
    int64_t d = (int64_t)a.e - b.e;
    wide x = (wide)a.m << 62, y = (wide)b.m << 62;
    bool more = d > 0 && (d >= 126 ? true : (y & (((wide)1 << d) - 1)) != 0);
    y = d >= 126 ? 0 : y >> d;
    bool subtract = a.negative != b.negative;
    wide s = subtract ? x - y - more : x + y; /* what was cut off goes too, but for a rest */
    if (s == 0) {
        return (struct real){0};
    }
    struct real v = wide_round(s, (int64_t)a.e - 62, more);
    v.negative = a.negative;
    return v;
}

static void print_big(struct buf *out, struct big *b)
{
    uint32_t groups[LIMBS_MAX], n = 0;
    while (b->n > 0) {
        groups[n++] = big_div_10(b, 9);
    }
    buf_printf(out, "%u", groups[--n]);
    while (n > 0) {
        buf_printf(out, "%09u", groups[--n]);
    }
}

/* A whole number of 2^64 or more. */
static void print_large(struct buf *out, struct real v)
{
    struct big b = {.n = 2, .limb = {(uint32_t)v.m, (uint32_t)(v.m >> 32)}};
    big_shift_left(&b, (uint32_t)v.e);
    buf_append(out, "-", v.negative);
    print_big(out, &b);
}

void real_print(struct buf *out, struct real v)
{
    const uint64_t unit = UINT64_C(100000000000000000);
    syn_assert(!v.infinite);
    if (v.m != 0 && v.e >= 0) {
        print_large(out, v);
        return;
    }
    wide x = (wide)v.m * unit, q = 0;
    if (v.e > -128) {
        int shift = -v.e;
        q = shift == 0 ? x : x >> shift;
        wide rest = shift == 0 ? 0 : x & (((wide)1 << shift) - 1), half = shift == 0 ? 1 : (wide)1 << (shift - 1);
        q += rest > half || (rest == half && (q & 1));
    }
    uint64_t whole = (uint64_t)(q / unit), fraction = (uint64_t)(q % unit);
    int digits = 17;
    buf_append(out, "-", v.negative && q != 0);
    buf_printf(out, "%llu", (unsigned long long)whole);
    if (fraction != 0) {
        for (; fraction % 10 == 0; fraction /= 10) {
            digits--;
        }
        buf_printf(out, ".%0*llu", digits, (unsigned long long)fraction);
    }
}
