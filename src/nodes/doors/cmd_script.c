/* EVAL, EVALSHA and SCRIPT for the scripts of well-known lock libraries, so that locks written for Redis run unchanged. A script is known by what it says: comments
 * and white space do not count, nor which quotes it has. Any other is refused with the command that does the same natively.
 *
 * What a known script does is one operation on one key. redlock's scripts may name several; then each key is handled by itself, but taking
 * several at once is refused: half of it could be done. */
#include "nodes/doors/cache_door.h"
#include "nodes/doors/cmd.h"

#include <openssl/sha.h>
#include <stdlib.h>

enum script_kind { SCRIPT_RELEASE, SCRIPT_EXTEND, SCRIPT_REACQUIRE, SCRIPT_LOCK_ALL, SCRIPT_EXTEND_ALL, SCRIPT_RELEASE_ALL, SCRIPT_UNKNOWN };
enum { SHA_TEXT = 40, LOADED_MAX = 64, SCRIPT_BYTES_MAX = 4096 };

#define OWNER_ELSE_0 "localtoken=redis.call('get',KEYS[1])ifnottokenortoken~=ARGV[1]thenreturn0end"
#define SET_ALL "fori,keyinipairs(KEYS)doredis.call('set',key,ARGV[1],'PX',ARGV[2])endreturn#KEYS"

/* argc: ARGV's least number. sha: of the text that the library sends, where it sends that alone. */
static const struct known { const char *text, *sha; enum script_kind kind; uint32_t argc; } KNOWN[] = {
    /* redis-py's Lock */
    {OWNER_ELSE_0 "redis.call('del',KEYS[1])return1", "c3f8721cbb97f72bc19e972846bd7aaf91901658", SCRIPT_RELEASE, 1},
    {OWNER_ELSE_0 "localexpiration=redis.call('pttl',KEYS[1])ifnotexpirationthenexpiration=0endifexpiration<0thenreturn0end"
                  "localnewttl=ARGV[2]ifARGV[3]=='0'thennewttl=ARGV[2]+expirationendredis.call('pexpire',KEYS[1],newttl)return1",
     "a4e8783852e6b949f9ef3a97212805108459a890", SCRIPT_EXTEND, 3},
    {OWNER_ELSE_0 "redis.call('pexpire',KEYS[1],ARGV[2])return1", "1cac51482acf5858da00f6d685d68f886cd6b6b2", SCRIPT_REACQUIRE, 2},
    /* redlock for Node.js, 4 and 5 */
    {"fori,keyinipairs(KEYS)doifredis.call('exists',key)==1thenreturn0endend" SET_ALL, "96da70f7716f27d278a5218544df37fd8b0a5e4c", SCRIPT_LOCK_ALL, 2},
    {"fori,keyinipairs(KEYS)doifredis.call('get',key)~=ARGV[1]thenreturn0endend" SET_ALL, "aed6f382e410db8ba7926d4e5e9aab410bf2a78a", SCRIPT_EXTEND_ALL,
     2},
    {"localcount=0fori,keyinipairs(KEYS)doifredis.call('get',key)==ARGV[1]thenredis.pcall('del',key)count=count+1endendreturncount",
     "e4612211c9f8f51c257e26e056b0a654b3187242", SCRIPT_RELEASE_ALL, 1},
    /* redis.io, "Distributed locks", as most programs have it */
    {"ifredis.call('get',KEYS[1])==ARGV[1]thenreturnredis.call('del',KEYS[1])elsereturn0end", "", SCRIPT_RELEASE, 1},
    {"ifredis.call('GET',KEYS[1])==ARGV[1]thenreturnredis.call('DEL',KEYS[1])elsereturn0end", "", SCRIPT_RELEASE, 1},
    {"ifredis.call('get',KEYS[1])==ARGV[1]thenreturnredis.call('pexpire',KEYS[1],ARGV[2])elsereturn0end", "", SCRIPT_REACQUIRE, 2},
};
enum { KNOWN_COUNT = sizeof KNOWN / sizeof KNOWN[0] };

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void normalise(slice_t text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '-' && i + 1 < text.len && text.ptr[i + 1] == '-') {
            while (i < text.len && text.ptr[i] != '\n') {
                i++;
            }
        } else if (!is_space(text.ptr[i])) {
            buf_put_u8(out, text.ptr[i] == '"' ? '\'' : text.ptr[i]);
        }
    }
    if (out->len > 0 && out->ptr[out->len - 1] == ';') {
        out->len--;
    }
}

static const struct known *known_by_text(slice_t text)
{
    struct buf b = {0};
    const struct known *found = NULL;
    if (text.len <= SCRIPT_BYTES_MAX) {
        normalise(text, &b);
    }
    for (uint32_t i = 0; i < KNOWN_COUNT && found == NULL && b.len > 0; i++) {
        found = slice_eq(buf_slice(&b), slice_str(KNOWN[i].text)) ? &KNOWN[i] : NULL;
    }
    buf_fini(&b);
    return found;
}

static void sha_of(slice_t text, char out[SHA_TEXT + 1])
{
    unsigned char raw[SHA_DIGEST_LENGTH];
    SHA1(text.ptr, text.len, raw);
    for (int i = 0; i < SHA_DIGEST_LENGTH; i++) {
        out[2 * i] = "0123456789abcdef"[raw[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[raw[i] & 15];
    }
    out[SHA_TEXT] = '\0';
}

/* Scripts that were loaded on this node under a hash that is not in the table. */
static const struct known *known_by_sha(const struct cache_doors *d, slice_t sha)
{
    for (uint32_t i = 0; i < KNOWN_COUNT; i++) {
        if (KNOWN[i].sha[0] != '\0' && slice_ieq(sha, KNOWN[i].sha)) {
            return &KNOWN[i];
        }
    }
    for (uint32_t i = 0; i < d->n_loaded; i++) {
        if (slice_ieq(sha, d->loaded[i].sha)) {
            return &KNOWN[d->loaded[i].known];
        }
    }
    return NULL;
}

static void remember(struct cache_doors *d, const struct known *k, const char *sha)
{
    if (known_by_sha(d, slice_str(sha)) == NULL) {
        struct loaded_script *to = &d->loaded[d->n_loaded < LOADED_MAX ? d->n_loaded++ : LOADED_MAX - 1];
        memcpy(to->sha, sha, SHA_TEXT + 1);
        to->known = (uint32_t)(k - KNOWN);
    }
}

static void refuse(struct call *c)
{
    call_error(c, "ERR", "only the scripts of known lock libraries are run here: to delete or renew a key that is still yours use DELEX key IFEQ value and "
                         "PEXPIRE key ms IFEQ value, and for locks LOCK.ACQUIRE");
}

static void one_key(struct call *c, const struct known *k, const slice_t *keys, const slice_t *args)
{
    bool adds = k->kind == SCRIPT_EXTEND && slice_eq(args[2], slice_str("0"));
    const slice_t release[] = {SLICE_LIT("DELEX"), keys[0], SLICE_LIT("IFEQ"), args[0]};
    if (k->kind == SCRIPT_RELEASE) {
        cache_submit(c, release, 4, NULL, 0);
        return;
    }
    const slice_t extend[] = {SLICE_LIT("PEXPIRE"), keys[0], args[1], SLICE_LIT("IFEQ"), args[0], SLICE_LIT("ADD")};
    cache_submit(c, extend, adds ? 6 : 5, NULL, 0);
}

static void all_keys(struct call *c, const struct known *k, const slice_t *keys, uint32_t n, const slice_t *args)
{
    if (n > 1 && k->kind != SCRIPT_RELEASE_ALL) {
        call_error(c, "ERR", "this script may name one key here: several are not taken in one step. LOCK.ACQUIREALL does that");
        return;
    }
    struct cache_join *j = cache_join_new(c, JOIN_SUM, n);
    for (uint32_t i = 0; i < n; i++) {
        const slice_t release[] = {SLICE_LIT("DELEX"), keys[i], SLICE_LIT("IFEQ"), args[0]};
        if (k->kind == SCRIPT_RELEASE_ALL) {
            cache_submit(c, release, 4, j, i);
            continue;
        }
        const slice_t lock[] = {SLICE_LIT("SET"), keys[i], args[0], SLICE_LIT("PX"), args[1], SLICE_LIT("NX")};
        const slice_t extend[] = {SLICE_LIT("SET"), keys[i], args[0], SLICE_LIT("PX"), args[1], SLICE_LIT("IFEQ"), args[0]};
        cache_submit(c, k->kind == SCRIPT_LOCK_ALL ? lock : extend, k->kind == SCRIPT_LOCK_ALL ? 6 : 7, j, i);
    }
}

/* argv: name, script or hash, numkeys, keys, arguments. */
static void run(struct call *c, const struct known *k)
{
    uint64_t n = 0;
    slice_t count = c->argv[2];
    for (size_t i = 0; i < count.len && n <= c->argc; i++) {
        if (count.ptr[i] < '0' || count.ptr[i] > '9') {
            call_error(c, "ERR", "value is not an integer or out of range");
            return;
        }
        n = n * 10 + (uint64_t)(count.ptr[i] - '0');
    }
    if (count.len == 0 || n > c->argc - 3) {
        call_error(c, "ERR", "Number of keys can't be greater than number of args");
        return;
    }
    uint32_t args = c->argc - 3 - (uint32_t)n;
    bool single = k->kind <= SCRIPT_REACQUIRE;
    if (n == 0 || (single && n != 1) || args < k->argc) {
        call_error(c, "ERR", "this script takes %s and %u arguments", single ? "one key" : "keys", k->argc);
        return;
    }
    const slice_t *keys = c->argv + 3;
    for (uint32_t i = 0; i < n; i++) {
        if (!cache_key_ok(c, keys[i])) {
            return;
        }
    }
    if (single) {
        one_key(c, k, keys, keys + n);
    } else {
        all_keys(c, k, keys, (uint32_t)n, keys + n);
    }
}

void handle_eval(struct call *c)
{
    const struct known *k = known_by_text(c->argv[1]);
    if (k == NULL) {
        refuse(c);
        return;
    }
    char sha[SHA_TEXT + 1];
    sha_of(c->argv[1], sha);
    remember(c->n->doors->cache, k, sha);
    run(c, k);
}

void handle_evalsha(struct call *c)
{
    const struct known *k = known_by_sha(c->n->doors->cache, c->argv[1]);
    if (k == NULL) {
        call_error(c, "NOSCRIPT", "No matching script. Please use EVAL.");
        return;
    }
    run(c, k);
}

static void script_exists(struct call *c)
{
    resp_array(c->reply, c->argc - 2);
    for (uint32_t i = 2; i < c->argc; i++) {
        resp_int(c->reply, known_by_sha(c->n->doors->cache, c->argv[i]) != NULL);
    }
}

void handle_script(struct call *c)
{
    slice_t sub = c->argv[1];
    if (slice_ieq(sub, "LOAD") && c->argc == 3) {
        const struct known *k = known_by_text(c->argv[2]);
        if (k == NULL) {
            refuse(c);
            return;
        }
        char sha[SHA_TEXT + 1];
        sha_of(c->argv[2], sha);
        remember(c->n->doors->cache, k, sha);
        resp_bulk_str(c->reply, sha);
    } else if (slice_ieq(sub, "EXISTS") && c->argc > 2) {
        script_exists(c);
    } else if (slice_ieq(sub, "FLUSH")) {
        c->n->doors->cache->n_loaded = 0;
        resp_simple(c->reply, "OK");
    } else {
        call_error(c, "ERR", "unknown subcommand or wrong number of arguments for '%.*s'. Try SCRIPT HELP.", shown_length(sub),
                   (const char *)sub.ptr);
    }
}
