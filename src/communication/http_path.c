/* Request targets; see http_path.h. Decoding happens once and before anything is compared, so that no two spellings of a path
 * lead to different places (I27: %00, "..", overlong UTF-8). */
#include "communication/http_path.h"

static int hex_value(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool decode(slice_t s, bool plus_is_space, struct buf *out)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (c == '%') {
            if (s.len - i < 3 || hex_value(s.ptr[i + 1]) < 0 || hex_value(s.ptr[i + 2]) < 0) {
                return false;
            }
            c = (uint8_t)(hex_value(s.ptr[i + 1]) * 16 + hex_value(s.ptr[i + 2]));
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        buf_put_u8(out, c);
    }
    return true;
}

/* How many bytes the character at s takes, 0 when it is none. */
static size_t utf8_char(const uint8_t *s, size_t left)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    if (n <= 1 || n > left) {
        return n <= left ? n : 0;
    }
    uint32_t code = s[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if (s[i] >> 6 != 2) {
            return 0;
        }
        code = code << 6 | (s[i] & 0x3fu);
    }
    bool ok = code >= least[n] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
    return ok ? n : 0;
}

bool utf8_valid(slice_t s)
{
    for (size_t i = 0; i < s.len;) {
        size_t n = utf8_char(s.ptr + i, s.len - i);
        if (n == 0 || s.ptr[i] == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

static bool has_dot_segment(slice_t path)
{
    size_t start = 0;
    for (size_t i = 0; i <= path.len; i++) {
        if (i == path.len || path.ptr[i] == '/') {
            size_t n = i - start;
            if ((n == 1 || n == 2) && path.ptr[start] == '.' && path.ptr[start + n - 1] == '.') {
                return true;
            }
            start = i + 1;
        }
    }
    return false;
}

/* Parameters are decoded behind the path in the same buffer; as it may move, they are offsets until all are there. */
static const char *decode_params(slice_t query, struct buf *text, struct http_request *r)
{
    size_t at = 0, ends[HTTP_PARAMS_MAX * 2 + 1];
    ends[0] = text->len;
    while (at < query.len) {
        const uint8_t *amp = memchr(query.ptr + at, '&', query.len - at);
        slice_t pair = slice_of(query.ptr + at, amp != NULL ? (size_t)(amp - query.ptr) - at : query.len - at);
        at += pair.len + 1;
        if (pair.len == 0) {
            continue;
        }
        if (r->n_params == HTTP_PARAMS_MAX) {
            return "too many query parameters";
        }
        const uint8_t *eq = memchr(pair.ptr, '=', pair.len);
        size_t name = eq != NULL ? (size_t)(eq - pair.ptr) : pair.len;
        slice_t value = eq != NULL ? slice_of(eq + 1, pair.len - name - 1) : SLICE_NONE;
        size_t *e = &ends[r->n_params * 2 + 1];
        bool ok = decode(slice_of(pair.ptr, name), true, text);
        e[0] = text->len;
        ok = ok && decode(value, true, text);
        e[1] = text->len;
        if (!ok || !utf8_valid(slice_of(text->ptr + e[-1], e[1] - e[-1]))) {
            return "the query is not percent-encoded UTF-8";
        }
        r->n_params++;
    }
    for (uint32_t i = 0; i < r->n_params; i++) {
        const size_t *e = &ends[i * 2];
        r->params[i] = (struct http_param){slice_of(text->ptr + e[0], e[1] - e[0]), slice_of(text->ptr + e[1], e[2] - e[1])};
    }
    return NULL;
}

/* An absolute-form target names the server first; RFC 9112 section 3.2.2 asks servers to take it. */
static slice_t without_authority(slice_t t)
{
    static const char scheme[] = "http://";
    size_t n = sizeof scheme - 1;
    if (t.len <= n || !slice_ieq(slice_of(t.ptr, n), scheme)) {
        return t;
    }
    while (n < t.len && t.ptr[n] != '/' && t.ptr[n] != '?') {
        n++;
    }
    return n < t.len ? slice_of(t.ptr + n, t.len - n) : SLICE_LIT("/");
}

const char *http_target(slice_t target, struct buf *text, struct http_request *r)
{
    buf_clear(text);
    r->n_params = 0;
    target = without_authority(target);
    if (target.len == 0 || target.ptr[0] != '/') {
        return "the request target must be a path";
    }
    const uint8_t *mark = memchr(target.ptr, '?', target.len);
    slice_t path = slice_of(target.ptr, mark != NULL ? (size_t)(mark - target.ptr) : target.len);
    r->query = mark != NULL ? slice_of(mark + 1, target.len - path.len - 1) : SLICE_NONE;
    if (memchr(target.ptr, '#', target.len) != NULL) {
        return "a fragment does not belong into a request";
    }
    if (!decode(path, false, text) || !utf8_valid(buf_slice(text))) {
        return "the path is not percent-encoded UTF-8";
    }
    if (has_dot_segment(buf_slice(text))) {
        return "the path has a segment . or ..";
    }
    size_t path_len = text->len;
    const char *why = decode_params(r->query, text, r);
    r->path = slice_of(text->ptr, path_len);
    return why;
}

bool http_query(const struct http_request *r, const char *name, slice_t *out)
{
    for (uint32_t i = 0; i < r->n_params; i++) {
        if (slice_eq(r->params[i].name, slice_str(name))) {
            *out = r->params[i].value;
            return true;
        }
    }
    return false;
}
