/* The commands of one key, by name; an op's way from words to bytes, and from bytes to what it does. See cache_ops.h.
 *
 * O1: what an op does depends on nothing but its bytes, the item and the clock. O2: op_put(op_get(bytes)) is bytes: an op has one form.
 * O3: a reply that is an error leaves the item as it was. */
#include "nodes/cache/cache_op_internal.h"

#include "communication/resp.h"
#include "utils/assert.h"
#include "utils/limits.h"

/* What a key costs in memory beyond key and value, with the allocator (docs/cache.md, "Bounds"). */
enum { USAGE = 52, USAGE_DUE = 85 };

struct command {
    const char *name;             /* as Redis writes it in errors */
    enum op_kind kind;
    uint32_t argc_min, argc_max;  /* 0: any number */
    uint32_t flags;               /* the op has from the start */
    bool (*words)(struct op_words *w);
};

/* Those that are asked most come first: it is searched in order. EXISTS, TOUCH, DEL and UNLINK of many keys are many ops. */
static const struct command commands[] = {
    {"get", OP_GET, 2, 2, 0, words_none},
    {"set", OP_SET, 3, 0, 0, words_set},
    {"del", OP_DEL, 2, 2, 0, words_none},
    {"exists", OP_EXISTS, 2, 2, 0, words_none},
    {"incr", OP_INCRBY, 2, 2, 0, words_incr},
    {"expire", OP_EXPIRE, 3, 0, OP_SECONDS, words_expire},
    {"ttl", OP_TTL, 2, 2, OP_SECONDS, words_none},
    {"pttl", OP_TTL, 2, 2, 0, words_none},
    {"pexpire", OP_EXPIRE, 3, 0, 0, words_expire},
    {"setex", OP_SET, 4, 4, OP_SECONDS, words_setex},
    {"psetex", OP_SET, 4, 4, 0, words_setex},
    {"setnx", OP_SET, 3, 3, OP_NX | OP_COUNT, words_value},
    {"getset", OP_SET, 3, 3, OP_OLD, words_value},
    {"getdel", OP_GETDEL, 2, 2, 0, words_none},
    {"getex", OP_GETEX, 2, 0, 0, words_getex},
    {"incrby", OP_INCRBY, 3, 3, 0, words_incrby},
    {"decr", OP_INCRBY, 2, 2, 0, words_decr},
    {"decrby", OP_INCRBY, 3, 3, 0, words_decrby},
    {"incrbyfloat", OP_INCRBYFLOAT, 3, 3, 0, words_float},
    {"append", OP_APPEND, 3, 3, 0, words_value},
    {"strlen", OP_STRLEN, 2, 2, 0, words_none},
    {"getrange", OP_GETRANGE, 4, 4, 0, words_range},
    {"substr", OP_GETRANGE, 4, 4, 0, words_range},
    {"setrange", OP_SETRANGE, 4, 4, 0, words_setrange},
    {"unlink", OP_DEL, 2, 2, 0, words_none},
    {"delex", OP_DELEX, 2, 4, 0, words_delex},
    {"touch", OP_EXISTS, 2, 2, 0, words_none},
    {"type", OP_TYPE, 2, 2, 0, words_none},
    {"expireat", OP_EXPIRE, 3, 0, OP_SECONDS | OP_UNIX, words_expire},
    {"pexpireat", OP_EXPIRE, 3, 0, OP_UNIX, words_expire},
    {"expiretime", OP_TTL, 2, 2, OP_SECONDS | OP_UNIX, words_none},
    {"pexpiretime", OP_TTL, 2, 2, OP_UNIX, words_none},
    {"persist", OP_PERSIST, 2, 2, 0, words_none},
    {"getbit", OP_GETBIT, 3, 3, 0, words_getbit},
    {"setbit", OP_SETBIT, 4, 4, 0, words_setbit},
    {"bitcount", OP_BITCOUNT, 2, 0, 0, words_bitcount},
    {"bitpos", OP_BITPOS, 3, 0, 0, words_bitpos},
};

/* OBJECT and MEMORY have their key behind a word of its own. */
static const struct command objects[] = {
    {"object|encoding", OP_ENCODING, 3, 3, 0, words_none},
    {"object|refcount", OP_REFCOUNT, 3, 3, 0, words_none},
    {"object|freq", OP_FREQ, 3, 3, 0, words_none},
    {"object|idletime", OP_IDLETIME, 4, 4, 0, words_idle},
    {"memory|usage", OP_USAGE, 3, 0, 0, words_usage},
};

static int echo_len(slice_t s)
{
    return s.len < LIMIT_ERROR_ECHO_BYTES ? (int)s.len : LIMIT_ERROR_ECHO_BYTES;
}

bool cache_op_is_object(slice_t name)
{
    return slice_ieq(name, "OBJECT") || slice_ieq(name, "MEMORY");
}

static const struct command *find_object(slice_t name, slice_t word)
{
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++) {
        const char *bar = strchr(objects[i].name, '|');
        if (slice_ieq(word, bar + 1) && (objects[i].name[0] == 'o') == slice_ieq(name, "OBJECT")) {
            return &objects[i];
        }
    }
    return NULL;
}

static const struct command *find_command(const slice_t *argv, uint32_t argc, struct buf *error)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (slice_ieq(argv[0], commands[i].name)) {
            return &commands[i];
        }
    }
    const struct command *c = NULL;
    if (!cache_op_is_object(argv[0])) {
        resp_error(error, "ERR", "unknown command '%.*s'", echo_len(argv[0]), (const char *)argv[0].ptr);
    } else if (argc < 2) {
        resp_error(error, "ERR", "wrong number of arguments for '%s' command", slice_ieq(argv[0], "OBJECT") ? "object" : "memory");
    } else if ((c = find_object(argv[0], argv[1])) == NULL) {
        resp_error(error, "ERR", "unknown subcommand '%.*s'. Try %s HELP.", echo_len(argv[1]), (const char *)argv[1].ptr,
                   slice_ieq(argv[0], "OBJECT") ? "OBJECT" : "MEMORY");
    }
    return c;
}

bool cache_op_encode(const slice_t *argv, uint32_t argc, struct buf *op, enum cache_access *access, struct buf *error)
{
    syn_assert(argc > 0);
    const struct command *c = find_command(argv, argc, error);
    if (c == NULL) {
        return false;
    }
    if (argc < c->argc_min || (c->argc_max != 0 && argc > c->argc_max)) {
        resp_error(error, "ERR", "wrong number of arguments for '%s' command", c->name);
        return false;
    }
    bool is_object = cache_op_is_object(argv[0]);
    if (argv[is_object ? 2 : 1].len > LIMIT_KEY_BYTES) {
        resp_error(error, "LIMIT", "a key has at most %d bytes, not %zu", LIMIT_KEY_BYTES, argv[is_object ? 2 : 1].len);
        return false;
    }
    struct op o = {.kind = c->kind, .flags = c->flags};
    if (!c->words(&(struct op_words){argv, argc, c->name, &o, error})) {
        return false;
    }
    op_put(op, &o);
    *access = o.kind < OP_READS_END ? CACHE_READS : CACHE_WRITES;
    return true;
}

bool cache_op_valid(slice_t op)
{
    struct op o;
    return op_get(op, &o);
}

bool cache_op_peeks(slice_t op)
{
    return op.len > 0 && op.ptr[0] >= OP_ENCODING && op.ptr[0] < OP_READS_END;
}

bool cache_op_overwrites(slice_t op)
{
    struct op o;
    return op_get(op, &o) && o.kind == OP_SET && o.flags == 0 && (o.time == OP_TIME_NONE || o.time == OP_TIME_IN);
}

bool cache_op_ends_fill(slice_t op)
{
    struct op o;
    return op_get(op, &o) && o.kind >= OP_SET && o.kind != OP_GETEX && o.kind != OP_EXPIRE && o.kind != OP_PERSIST;
}

uint8_t *run_put(struct op_run *r, size_t n, uint64_t expire_ms)
{
    struct cache_change *out = r->out;
    syn_assert(n <= LIMIT_VALUE_BYTES && out->value.len == 0);
    out->kind = CACHE_PUT;
    out->expire_ms = expire_ms;
    uint8_t *p = buf_reserve(&out->value, n + 1); /* somewhere, even if it is empty */
    out->value.len = n;
    return p;
}

void run_delete(struct op_run *r)
{
    r->out->kind = r->lives ? CACHE_DELETE : CACHE_KEEP;
}

bool run_too_long(struct op_run *r, uint64_t n)
{
    if (n > LIMIT_VALUE_BYTES) {
        resp_error(r->reply, "ERR", "string exceeds maximum allowed size (proto-max-bulk-len)");
        return true;
    }
    return false;
}

void run_value(struct op_run *r)
{
    if (r->lives) {
        resp_bulk(r->reply, r->value);
    } else {
        resp_null(r->reply);
    }
}

/* What is said of a value that is there. */
static void run_about(struct op_run *r, int64_t v)
{
    if (r->lives) {
        resp_int(r->reply, v);
    } else {
        resp_null(r->reply);
    }
}

static void run_freq(struct op_run *r)
{
    if (r->lives) {
        resp_error(r->reply, "ERR", "An LFU maxmemory policy is not selected, access frequency not tracked. "
                   "Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.");
    } else {
        resp_null(r->reply);
    }
}

static void run_read(struct op_run *r)
{
    switch (r->op->kind) {
    case OP_GET: run_value(r); return;
    case OP_STRLEN: resp_int(r->reply, (int64_t)r->value.len); return;
    case OP_GETRANGE: run_getrange(r); return;
    case OP_EXISTS: resp_int(r->reply, r->lives); return;
    case OP_TYPE: resp_simple(r->reply, r->lives ? "string" : "none"); return;
    case OP_TTL: run_ttl(r); return;
    case OP_GETBIT: run_getbit(r); return;
    case OP_BITCOUNT: run_bitcount(r); return;
    case OP_BITPOS: run_bitpos(r); return;
    case OP_ENCODING: run_encoding(r); return;
    case OP_REFCOUNT: run_about(r, 1); return;
    case OP_IDLETIME: run_about(r, r->op->a); return;
    case OP_USAGE: run_about(r, r->op->a + (int64_t)r->value.len + (r->expire_ms != 0 ? USAGE_DUE : USAGE)); return;
    case OP_FREQ: run_freq(r); return;
    default: SYN_UNREACHABLE();
    }
}

static void run_write(struct op_run *r)
{
    switch (r->op->kind) {
    case OP_SET: run_set(r); return;
    case OP_GETDEL: run_getdel(r); return;
    case OP_GETEX: run_getex(r); return;
    case OP_APPEND: run_append(r); return;
    case OP_SETRANGE: run_setrange(r); return;
    case OP_INCRBY: run_incrby(r); return;
    case OP_INCRBYFLOAT: run_incrbyfloat(r); return;
    case OP_DEL: run_del(r); return;
    case OP_DELEX: run_delex(r); return;
    case OP_EXPIRE: run_expire(r); return;
    case OP_PERSIST: run_persist(r); return;
    case OP_SETBIT: run_setbit(r); return;
    default: SYN_UNREACHABLE();
    }
}

void cache_op_run(slice_t op, const struct cache_item *in, struct cache_clock clock, struct cache_change *out, struct buf *reply)
{
    struct op o;
    bool valid = op_get(op, &o);
    syn_assert(valid);
    buf_clear(&out->value);
    *out = (struct cache_change){.kind = CACHE_KEEP, .value = out->value};
    struct op_run r = {.op = &o, .in = in, .clock = clock, .out = out, .reply = reply};
    r.lives = in->exists && (in->expire_ms == 0 || in->expire_ms > clock.now_ms);
    r.value = r.lives ? in->value : SLICE_NONE;
    r.expire_ms = r.lives ? in->expire_ms : 0;
    size_t before = reply->len;
    if (o.kind < OP_READS_END) {
        run_read(&r);
        syn_assert(out->kind == CACHE_KEEP && !out->guarded);
    } else {
        run_write(&r);
    }
    syn_assert(reply->len > before);
    syn_assert(reply->ptr[before] != '-' || (out->kind == CACHE_KEEP && !out->guarded)); /* O3 */
}
