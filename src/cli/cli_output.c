/* Tables and listings from replies, without knowing the command: keys become titles.
 *
 * Not here: what to ask. Inner values that are neither scalars nor arrays of maps are shown as JSON. No recursion: a listing is one
 * level deep, the rest is resp_to_json's. */
#include "cli/cli_output.h"

#include "communication/resp.h"
#include "utils/assert.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

const char *const OUTPUT_ID_KEYS[] = {"lock_id", "token", "session", "session_id", "fencing_token", "newest", "cursor", NULL};

void output_text(FILE *f, slice_t text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t ch = text.ptr[i];
        if (ch < 0x20 || ch == 0x7f || ch == '\\') {
            fprintf(f, "\\x%02x", ch);
        } else {
            fputc(ch, f);
        }
    }
}

void output_json(FILE *f, slice_t reply)
{
    struct buf b;
    buf_init(&b);
    resp_to_json(&b, reply, OUTPUT_ID_KEYS);
    fwrite(b.ptr, 1, b.len, f);
    fputc('\n', f);
    buf_fini(&b);
}

void table_init(struct table *t, uint32_t columns)
{
    syn_assert(columns > 0 && columns <= TABLE_COLUMNS_MAX);
    *t = (struct table){.columns = columns};
    buf_init(&t->bytes);
}

void table_fini(struct table *t)
{
    buf_fini(&t->bytes);
    free(t->ends);
}

static void end_cell(struct table *t)
{
    if (t->cells == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->ends = realloc(t->ends, t->cap * sizeof *t->ends);
        syn_assert(t->ends != NULL);
    }
    t->ends[t->cells++] = (uint32_t)t->bytes.len;
}

void table_cell(struct table *t, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    table_cell_text(t, slice_str(text));
}

void table_cell_text(struct table *t, slice_t text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < 0x20 || text.ptr[i] == 0x7f) {
            buf_printf(&t->bytes, "\\x%02x", text.ptr[i]);
        } else {
            buf_append(&t->bytes, &text.ptr[i], 1);
        }
    }
    end_cell(t);
}

static slice_t cell_at(const struct table *t, uint32_t i)
{
    uint32_t from = i == 0 ? 0 : t->ends[i - 1];
    return slice_of(t->bytes.ptr + from, t->ends[i] - from);
}

void table_print(const struct cli *c, const struct table *t)
{
    uint32_t widths[TABLE_COLUMNS_MAX] = {0};
    for (uint32_t i = 0; i < t->cells; i++) {
        size_t len = cell_at(t, i).len;
        if (len > widths[i % t->columns]) {
            widths[i % t->columns] = (uint32_t)len;
        }
    }
    for (uint32_t i = 0; i < t->cells; i++) {
        slice_t cell = cell_at(t, i);
        bool last = i % t->columns == t->columns - 1, bold = c->color && i < t->columns;
        fprintf(c->out, "%s%.*s%s", bold ? "\033[1m" : "", (int)cell.len, (const char *)cell.ptr, bold ? "\033[0m" : "");
        fprintf(c->out, "%*s", last ? 0 : (int)(widths[i % t->columns] - cell.len + 2), "");
        if (last) {
            fputc('\n', c->out);
        }
    }
}

static void title(struct table *t, slice_t key)
{
    char text[64];
    size_t n = key.len < sizeof text - 1 ? key.len : sizeof text - 1;
    for (size_t i = 0; i < n; i++) {
        uint8_t ch = key.ptr[i];
        text[i] = (char)(ch >= 'a' && ch <= 'z' ? ch - 32 : ch);
    }
    table_cell_text(t, slice_of(text, n));
}

/* Moves r over one value and appends it as text for a cell: scalars as they are, the rest as JSON, "-" for nothing. */
static void value_text(struct reader *r, struct buf *out)
{
    struct reader head = *r;
    struct resp_value v;
    const uint8_t *start = r->p;
    if (!resp_next(&head, &v) || !resp_skip(r)) {
        return;
    }
    switch (v.type) {
    case RT_SIMPLE:
    case RT_ERROR:
    case RT_BULK:
    case RT_VERBATIM:
    case RT_BIG:
        buf_append_slice(out, v.str);
        break;
    case RT_INT:
        buf_printf(out, "%" PRId64, v.num);
        break;
    case RT_BOOL:
        buf_append_str(out, v.num ? "yes" : "no");
        break;
    case RT_DOUBLE:
        buf_printf(out, "%g", v.real);
        break;
    case RT_NULL:
        buf_append_str(out, "-");
        break;
    default:
        if (v.count == 0) {
            buf_append_str(out, "-");
            break;
        }
        resp_to_json(out, slice_of(start, (size_t)(r->p - start)), OUTPUT_ID_KEYS);
        break;
    }
}

/* True when the value at r is an array of maps, at least one. */
static bool is_rows(struct reader r)
{
    struct resp_value v;
    return resp_next(&r, &v) && v.type == RT_ARRAY && v.count > 0 && resp_next(&r, &v) && v.type == RT_MAP && v.count > 0 &&
           v.count <= TABLE_COLUMNS_MAX;
}

static void add_row(struct table *t, struct reader *r, bool titles)
{
    struct buf text;
    struct resp_value map, key;
    buf_init(&text);
    bool ok = resp_next(r, &map) && map.type == RT_MAP;
    for (uint32_t i = 0; i < t->columns; i++) {
        buf_clear(&text);
        if (ok && i < map.count && resp_next(r, &key)) {
            value_text(r, &text);
        }
        if (titles) {
            title(t, ok && i < map.count ? key.str : SLICE_NONE);
        } else {
            table_cell_text(t, buf_slice(&text));
        }
    }
    for (uint32_t i = t->columns; ok && i < map.count; i++) {
        resp_skip(r);
        resp_skip(r);
    }
    buf_fini(&text);
}

/* Moves r over an array of maps and prints it; the first map's keys are the titles. */
static void print_rows(const struct cli *c, struct reader *r)
{
    struct table t;
    struct resp_value v;
    resp_next(r, &v);
    uint32_t rows = v.count;
    struct reader first = *r, peek = *r;
    resp_next(&peek, &v);
    table_init(&t, v.count);
    add_row(&t, &first, true);
    for (uint32_t i = 0; i < rows; i++) {
        add_row(&t, r, false);
    }
    table_print(c, &t);
    table_fini(&t);
}

static void print_line(const struct cli *c, slice_t key, struct reader *r)
{
    struct buf text;
    buf_init(&text);
    value_text(r, &text);
    output_text(c->out, key);
    fprintf(c->out, "%*s", key.len < 14 ? (int)(15 - key.len) : 1, "");
    output_text(c->out, buf_slice(&text));
    fputc('\n', c->out);
    buf_fini(&text);
}

static void print_map(const struct cli *c, struct reader *r, uint32_t pairs)
{
    struct resp_value key;
    for (uint32_t i = 0; i < pairs && resp_next(r, &key); i++) {
        if (is_rows(*r)) {
            output_text(c->out, key.str);
            fputs(":\n", c->out);
            print_rows(c, r);
        } else {
            print_line(c, key.str, r);
        }
    }
}

static void print_text(const struct cli *c, struct reader *r)
{
    struct buf text;
    buf_init(&text);
    value_text(r, &text);
    fwrite(text.ptr, 1, text.len, c->out);
    if (text.len == 0 || text.ptr[text.len - 1] != '\n') {
        fputc('\n', c->out);
    }
    buf_fini(&text);
}

void output_reply(const struct cli *c, slice_t reply)
{
    struct reader r = reader_of(reply), head = r;
    struct resp_value v;
    if (is_rows(r)) {
        print_rows(c, &r);
    } else if (resp_next(&head, &v) && v.type == RT_MAP) {
        print_map(c, &head, v.count);
    } else if (v.type != RT_ARRAY || v.count > 0) {
        print_text(c, &r);
    }
}
