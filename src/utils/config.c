/* Where settings come from, which source wins, and how they are shown; see config.h. Not responsible for what a value means
 * (config_value.c), for members (config_members.c) or for settings that contradict each other (config_check.c).
 *
 * Sources are read weakest first: defaults, file, environment, flags; the first bad value anywhere stops the start, so
 * that a mistake that is hidden today does not surface on the day something else changes. */
#include "utils/config_internal.h"

#include "utils/assert.h"
#include "utils/log.h"

#include <stdio.h>

const struct setting_info setting_table[SETTING_COUNT] = {
#define X(name, type, fallback, min, max, choices, meaning) \
    {#name, SETTING_TYPE_##type, fallback, min, max, choices, meaning},
    CONFIG_TABLE(X)
#undef X
};

struct loading {
    struct config *c;
    const struct config_input *in;
    struct buf *error;
    const char *file; /* the one of --config */
};

static slice_t shown(const struct setting_info *s, slice_t value)
{
    return s->type == SETTING_TYPE_SECRET && value.len > 0 ? SLICE_LIT("***") : value;
}

/* One value from one source; `where` ends the sentence of a refusal. */
static bool set_value(struct loading *l, enum setting s, slice_t value, enum setting_source source, const char *where)
{
    const struct setting_info *info = &setting_table[s];
    struct setting_value *v = &l->c->values[s], parsed = {0};
    if (value.len == 0) {
        return true;
    }
    if (!setting_parse(info, value, &parsed)) {
        buf_printf(l->error, "%s=", info->name);
        log_escape_text(l->error, shown(info, value));
        buf_printf(l->error, " (%s): it takes ", where);
        setting_accepts(info, l->error);
        return false;
    }
    buf_clear(&v->text);
    buf_append_slice(&v->text, value);
    buf_put_u8(&v->text, 0);
    v->text.len--;
    v->source = source;
    v->number = parsed.number;
    v->is_bytes = parsed.is_bytes;
    return true;
}

static void set_default(struct config *c, enum setting s)
{
    struct setting_value *v = &c->values[s];
    slice_t text = slice_str(setting_table[s].fallback);
    bool ok = text.len == 0 || setting_parse(&setting_table[s], text, v);
    syn_assert(ok);
    buf_append_slice(&v->text, text);
    buf_put_u8(&v->text, 0);
    v->text.len--;
}

static uint8_t fold(uint8_t b)
{
    return b >= 'a' && b <= 'z' ? (uint8_t)(b - 32) : b == '-' ? '_' : b;
}

static bool same_name(slice_t a, const char *name)
{
    if (a.len != strlen(name)) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (fold(a.ptr[i]) != (uint8_t)name[i]) {
            return false;
        }
    }
    return true;
}

static bool find_setting(slice_t name, enum setting *out)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        if (same_name(name, setting_table[i].name)) {
            *out = (enum setting)i;
            return true;
        }
    }
    return false;
}

/* Edit distance (Levenshtein) to a setting's name, for "did you mean". */
static uint32_t distance(slice_t a, const char *b)
{
    uint32_t row[64];
    size_t n = strlen(b);
    syn_assert(n < sizeof row / sizeof *row);
    for (size_t j = 0; j <= n; j++) {
        row[j] = (uint32_t)j;
    }
    for (size_t i = 0; i < a.len; i++) {
        uint32_t diagonal = row[0];
        row[0] = (uint32_t)i + 1;
        for (size_t j = 1; j <= n; j++) {
            uint32_t change = diagonal + (fold(a.ptr[i]) != (uint8_t)b[j - 1]);
            uint32_t least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            diagonal = row[j];
            row[j] = change < least ? change : least;
        }
    }
    return row[n];
}

static bool refuse_unknown(struct loading *l, slice_t name, const char *prefix, const char *where)
{
    uint32_t nearest = UINT32_MAX;
    int best = 0;
    slice_t head = slice_of(name.ptr, name.len < 128 ? name.len : 128);
    for (int i = 0; i < SETTING_COUNT; i++) {
        uint32_t d = distance(head, setting_table[i].name);
        if (d < nearest) {
            nearest = d;
            best = i;
        }
    }
    buf_append_str(l->error, prefix);
    log_escape_text(l->error, head);
    buf_printf(l->error, " (%s) is no setting; the nearest is %s", where, setting_table[best].name);
    return false;
}

static bool read_file(struct loading *l, const char *path, const char *what, struct buf *out)
{
    const char *why = "files cannot be read here";
    if (l->in->read_file != NULL && l->in->read_file(l->in->arg, path, out, &why)) {
        return true;
    }
    buf_printf(l->error, "%s names ", what);
    log_escape_text(l->error, slice_str(path));
    buf_printf(l->error, ": %s", why);
    return false;
}

/* NAME_FILE of a secret: the file's first line is the value. */
static bool set_from_file(struct loading *l, enum setting s, const char *path, enum setting_source source, const char *where)
{
    struct buf contents, what;
    buf_init(&contents);
    buf_init(&what);
    buf_printf(&what, "%s_FILE%c", setting_table[s].name, 0);
    bool ok = read_file(l, path, (const char *)what.ptr, &contents);
    if (ok) {
        slice_t rest = slice_of(contents.len > 0 ? (const void *)contents.ptr : "", contents.len), line = SLICE_NONE;
        config_next(&rest, '\n', &line);
        ok = set_value(l, s, line, source, where);
    }
    if (contents.ptr != NULL) {
        explicit_bzero(contents.ptr, contents.cap);
    }
    buf_fini(&contents);
    buf_fini(&what);
    return ok;
}

/* A secret's NAME_FILE; no other setting has one. */
static bool find_secret_file(slice_t name, enum setting *out)
{
    static const size_t suffix = sizeof "_FILE" - 1;
    if (name.len <= suffix || !same_name(slice_of(name.ptr + name.len - suffix, suffix), "_FILE")) {
        return false;
    }
    return find_setting(slice_of(name.ptr, name.len - suffix), out) && setting_table[*out].type == SETTING_TYPE_SECRET;
}

static slice_t unquoted(slice_t s)
{
    bool quoted = s.len >= 2 && (s.ptr[0] == '"' || s.ptr[0] == '\'') && s.ptr[s.len - 1] == s.ptr[0];
    return quoted ? slice_of(s.ptr + 1, s.len - 2) : s;
}

static bool load_line(struct loading *l, slice_t line, unsigned number)
{
    char where[32];
    snprintf(where, sizeof where, "file, line %u", number);
    slice_t rest = line, name;
    enum setting s;
    if (line.len == 0 || line.ptr[0] == '#') {
        return true;
    }
    config_next(&rest, '=', &name);
    if (rest.ptr == NULL) {
        buf_printf(l->error, "line %u of the configuration file is not NAME=value", number);
        return false;
    }
    if (find_setting(name, &s)) {
        return set_value(l, s, unquoted(config_trim(rest)), FROM_FILE, where);
    }
    if (find_secret_file(name, &s)) {
        struct buf path;
        buf_init(&path);
        buf_append_slice(&path, unquoted(config_trim(rest)));
        buf_put_u8(&path, 0);
        bool ok = set_from_file(l, s, (const char *)path.ptr, FROM_FILE, where);
        buf_fini(&path);
        return ok;
    }
    return refuse_unknown(l, name, "", where);
}

static bool load_file(struct loading *l)
{
    struct buf contents;
    buf_init(&contents);
    bool ok = l->file == NULL || read_file(l, l->file, "--config", &contents);
    slice_t rest = buf_slice(&contents), line;
    for (unsigned n = 1; ok && config_next(&rest, '\n', &line); n++) {
        ok = load_line(l, line, n);
    }
    buf_fini(&contents);
    return ok;
}

static const char prefix[] = "SYNAXIS_";
/* Names with our prefix that are not settings: the file, and what `synaxis lock run` hands to its command. */
static bool is_other_variable(slice_t name)
{
    return same_name(name, "CONFIG") || same_name(name, "TOKEN");
}

static bool load_variable(struct loading *l, const char *variable, bool prefixed)
{
    const char *equals = strchr(variable, '=');
    size_t skip = sizeof prefix - 1;
    enum setting s;
    if (equals == NULL || (strncmp(variable, prefix, skip) == 0) != prefixed) {
        return true;
    }
    const char *start = prefixed ? variable + skip : variable;
    slice_t name = slice_of(start, (size_t)(equals - start));
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '-' || (name.ptr[i] >= 'a' && name.ptr[i] <= 'z')) {
            return !prefixed || refuse_unknown(l, name, prefix, "environment"); /* variables are spelt in capitals */
        }
    }
    if (find_setting(name, &s)) {
        return set_value(l, s, config_trim(slice_str(equals + 1)), FROM_ENVIRONMENT, "environment");
    }
    if (find_secret_file(name, &s)) {
        return equals[1] == '\0' || set_from_file(l, s, equals + 1, FROM_ENVIRONMENT, "environment");
    }
    return !prefixed || is_other_variable(name) || refuse_unknown(l, name, prefix, "environment");
}

static bool load_environment(struct loading *l)
{
    for (int prefixed = 0; prefixed < 2; prefixed++) {
        for (char *const *e = l->in->env; e != NULL && *e != NULL; e++) {
            if (!load_variable(l, *e, prefixed)) {
                return false;
            }
        }
    }
    return true;
}

static bool set_flag(struct loading *l, slice_t name, const char *value)
{
    enum setting s;
    if (find_setting(name, &s)) {
        if (value[0] == '\0' || setting_table[s].type == SETTING_TYPE_SECRET) {
            buf_printf(l->error, "--%.*s: %s", (int)name.len, (const char *)name.ptr,
                       value[0] == '\0' ? "a value is missing"
                                        : "a secret on the command line can be read by every user; use the environment, the "
                                          "file, or the flag with -file");
            return false;
        }
        return set_value(l, s, slice_str(value), FROM_FLAG, "flag");
    }
    if (find_secret_file(name, &s)) {
        return set_from_file(l, s, value, FROM_FLAG, "flag");
    }
    return refuse_unknown(l, name, "--", "flag");
}

static bool find_action(const char *arg, enum config_action *out)
{
    static const struct { const char *flag; enum config_action action; } actions[] = {
        {"--check-config", CONFIG_CHECK}, {"--print-config", CONFIG_PRINT}, {"--help", CONFIG_HELP}, {"-h", CONFIG_HELP}};
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        if (strcmp(arg, actions[i].flag) == 0) {
            *out = actions[i].action;
            return true;
        }
    }
    return false;
}

/* All flags; only --config and the actions when `early`, before the weaker sources are read. */
static bool load_flags(struct loading *l, bool early)
{
    for (int i = 0; i < l->in->argc; i++) {
        const char *arg = l->in->argv[i], *equals = strchr(arg, '=');
        if (find_action(arg, &l->c->action)) {
            continue;
        }
        if (strncmp(arg, "--", 2) != 0 || arg[2] == '\0') {
            buf_append_str(l->error, "unexpected argument ");
            log_escape_text(l->error, slice_str(arg));
            return false;
        }
        slice_t name = slice_of(arg + 2, equals != NULL ? (size_t)(equals - arg - 2) : strlen(arg + 2));
        const char *value = equals != NULL ? equals + 1 : i + 1 < l->in->argc ? l->in->argv[++i] : "";
        if (same_name(name, "CONFIG")) {
            l->file = value;
        } else if (!early && !set_flag(l, name, value)) {
            return false;
        }
    }
    return true;
}

static void find_file_variable(struct loading *l)
{
    static const char name[] = "SYNAXIS_CONFIG=";
    for (char *const *e = l->in->env; e != NULL && *e != NULL; e++) {
        if (strncmp(*e, name, sizeof name - 1) == 0 && (*e)[sizeof name - 1] != '\0') {
            l->file = *e + sizeof name - 1;
        }
    }
}

bool config_load(struct config *c, const struct config_input *in, struct buf *error)
{
    struct loading l = {c, in, error, NULL};
    memset(c, 0, sizeof *c);
    for (int i = 0; i < SETTING_COUNT; i++) {
        set_default(c, (enum setting)i);
    }
    find_file_variable(&l);
    if (!load_flags(&l, true)) {
        return false;
    }
    if (c->action == CONFIG_HELP) {
        return true;
    }
    return load_file(&l) && load_environment(&l) && load_flags(&l, false) && config_read_members(c, error) &&
           config_cross_check(c, error);
}

void config_fini(struct config *c)
{
    for (int i = 0; i < SETTING_COUNT; i++) {
        struct buf *text = &c->values[i].text;
        if (text->ptr != NULL && setting_table[i].type == SETTING_TYPE_SECRET) {
            explicit_bzero(text->ptr, text->cap);
        }
        buf_fini(text);
    }
    buf_fini(&c->warnings);
}

uint64_t config_number(const struct config *c, enum setting s)
{
    return c->values[s].number;
}

bool config_is_bytes(const struct config *c, enum setting s)
{
    return c->values[s].is_bytes;
}

const char *config_text(const struct config *c, enum setting s)
{
    return (const char *)c->values[s].text.ptr;
}

void config_print(const struct config *c, struct buf *out)
{
    static const char *const sources[] = {"default", "file", "environment", "flag"};
    for (int i = 0; i < SETTING_COUNT; i++) {
        const struct setting_value *v = &c->values[i];
        size_t start = out->len;
        buf_printf(out, "%s=", setting_table[i].name);
        log_escape_text(out, shown(&setting_table[i], buf_slice(&v->text)));
        size_t width = out->len - start;
        buf_printf(out, "%*s# %s", (int)(width < 46 ? 46 - width : 1), "", sources[v->source]);
        if (i == SETTING_PEER_PORT || i == SETTING_GROUPS || i == SETTING_REPLICATION_FACTOR) {
            buf_printf(out, ", used: %llu", (unsigned long long)v->number);
        }
        buf_append_str(out, "\n");
    }
    for (uint32_t i = 0; i < c->n_members; i++) {
        const struct config_member *m = &c->members[i];
        buf_printf(out, "# %s %s is node %u at %s:%u\n", i == c->self ? "this node" : "peer", m->name, m->id, m->host, m->port);
    }
}

static void append_flag(const char *name, struct buf *out)
{
    buf_append_str(out, "--");
    for (; *name != '\0'; name++) {
        buf_put_u8(out, (uint8_t)(*name == '_' ? '-' : *name >= 'A' && *name <= 'Z' ? *name + 32 : *name));
    }
}

void config_help(struct buf *out)
{
    buf_append_str(out,
                   "Usage: synaxis server [--config FILE] [--name value]...\n\n"
                   "Each setting is a flag, an environment variable (NAME or SYNAXIS_NAME) or a line NAME=value of FILE;\n"
                   "flags win over the environment, that over the file. Secrets are not taken as flags: use NAME_FILE.\n\n"
                   "  --config FILE     read settings from FILE (also SYNAXIS_CONFIG)\n"
                   "  --check-config    check all settings and exit\n"
                   "  --print-config    print all settings and where they came from, and exit\n"
                   "  --help            print this and exit\n\n");
    for (int i = 0; i < SETTING_COUNT; i++) {
        const struct setting_info *s = &setting_table[i];
        buf_append_str(out, "  ");
        append_flag(s->name, out);
        buf_append_str(out, s->type == SETTING_TYPE_SECRET ? "-file FILE   (" : "   (");
        buf_printf(out, "%s, default %s)\n      %s\n      Takes ", s->name, s->fallback[0] != '\0' ? s->fallback : "none",
                   s->meaning);
        setting_accepts(s, out);
        buf_append_str(out, ".\n");
    }
}
