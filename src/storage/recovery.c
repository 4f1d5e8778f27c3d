/* Reading the log at start (docs/disk.md, "Recovery"; W2, W3, W9, S23, S25, S30, S31).
 *
 * Responsible for walking the chain of blocks, for telling a torn tail from damage, and for cutting the former. What
 * records mean is replay.c's.
 * Invariants: what is returned is an exact prefix that contains everything that was ever synced (W2). A bad block is cut
 * only when nothing shows that it was durable: no later block carries a number of a durable block at or beyond it, and
 * the identity's floor is below it (W3). Memory is bounded by the bytes that are really in the files (I42). */
#include "storage/store_private.h"

#include "utils/crc32c.h"
#include "utils/mutant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { WINDOW = 64 * 1024 };

struct scan {
    struct store *s;
    struct replay *groups;
    const uint64_t *numbers;
    size_t n;
    size_t at;            /* the segment being read */
    int fd;
    uint64_t size;
    uint64_t off;
    bool begun;           /* a first block was accepted: next and prev are known */
    uint64_t next;
    uint32_t prev_crc;
    size_t last_at;       /* the segment of the last block that was accepted, and where it ended */
    uint64_t last_off;
    bool torn;
    struct buf body;
    struct buf *error;
};

#define ADVICE "; restore this node: move its data directory away and let it rejoin with CLUSTER.REMOVE and CLUSTER.ADD"

static enum store_status corrupt(struct scan *c, const char *why)
{
    char name[FILE_NAME_BYTES];
    segment_name(name, c->numbers[c->at]);
    buf_printf(c->error, "%s, offset %" PRIu64 ", block %" PRIu64 ": %s" ADVICE, name, c->off, c->next, why);
    return STORE_CORRUPT;
}

static enum store_status broken(struct scan *c, const char *what, int err)
{
    char name[FILE_NAME_BYTES];
    segment_name(name, c->numbers[c->at]);
    buf_printf(c->error, "cannot %s %s: %s", what, name, strerror(-err));
    return STORE_FAILED;
}

static void scan_close(struct scan *c)
{
    if (c->fd >= 0) {
        c->s->files.close(c->s->files.ctx, c->fd);
        c->fd = -1;
    }
}

static enum store_status scan_open(struct scan *c, size_t at)
{
    const struct files *f = &c->s->files;
    char name[FILE_NAME_BYTES];
    scan_close(c);
    c->at = at;
    c->off = 0;
    segment_name(name, c->numbers[at]);
    c->fd = f->open(f->ctx, name, false);
    int64_t size = c->fd < 0 ? c->fd : f->size(f->ctx, c->fd);
    if (size < 0) {
        return broken(c, "open", (int)size);
    }
    c->size = (uint64_t)size;
    return c->size < SEGMENT_BYTES_MIN ? corrupt(c, "the file was cut short") : STORE_OK;
}

/* Reads up to n bytes at off; bytes beyond the end of the file are zeros. 0 or -errno. */
static int read_at(struct scan *c, uint8_t *p, size_t n, uint64_t off)
{
    ssize_t got = c->s->files.pread(c->s->files.ctx, c->fd, p, n, off);
    if (got < 0) {
        return (int)got;
    }
    memset(p + got, 0, n - (size_t)got);
    return 0;
}

static bool is_ours(const struct scan *c, const struct block_header *h)
{
    return MUTANT("S30") || (h->node_uuid == c->s->identity.node_uuid && h->segment == c->numbers[c->at]);
}

/* Looks through the rest of the open segment: is all of it zero, and does a block in it prove that c->next was durable? */
static int search_rest(struct scan *c, bool *zero, bool *proof)
{
    uint8_t *w = malloc(WINDOW);
    int err = w == NULL ? -ENOMEM : 0;
    for (uint64_t off = c->off; err == 0 && off < c->size; off += WINDOW) {
        err = read_at(c, w, WINDOW, off);
        bool blank = err == 0 && w[0] == 0 && memcmp(w, w + 1, WINDOW - 1) == 0;
        *zero = *zero && blank;
        for (size_t i = 0; err == 0 && !blank && i < WINDOW; i += BLOCK_ALIGN) {
            struct block_header h;
            *proof = *proof || (block_header_decode(w + i, &h) == BLOCK_OK && is_ours(c, &h) && h.synced >= c->next);
        }
    }
    free(w);
    return err;
}

/* The block at c->off cannot follow. Decides between a torn tail and damage over this and all later segments. */
static enum store_status judge(struct scan *c, const char *why)
{
    struct scan later = *c;
    bool zero = true, proof = false;
    int err = search_rest(c, &zero, &proof);
    later.fd = -1;
    enum store_status st = STORE_OK;
    for (size_t i = c->at + 1; st == STORE_OK && err == 0 && i < c->n && !proof; i++) {
        st = scan_open(&later, i);
        bool ignored = true;
        err = st == STORE_OK ? search_rest(&later, &ignored, &proof) : 0;
    }
    scan_close(&later);
    if (st != STORE_OK || err != 0) {
        return st != STORE_OK ? st : broken(c, "read", err);
    }
    if (!MUTANT("S23") && (proof || c->next <= c->s->identity.floor)) {
        return corrupt(c, why);
    }
    c->torn = true;
    return STORE_OK;
}

static const char *replay_body(struct scan *c, bool first)
{
    struct reader r = reader_of(buf_slice(&c->body));
    struct log_record rec;
    uint32_t n = 0;
    while (log_record_next(&r, c->s->options.groups, &rec)) {
        bool preamble = c->off == 0 && n < c->s->options.groups;
        if ((rec.type == LOG_GROUP) != preamble || (preamble && rec.group != n)) {
            return "a preamble is missing or misplaced";
        }
        n++;
        const char *why = replay_apply(&c->groups[rec.group], &rec, first);
        if (why != NULL) {
            return why;
        }
        log_group_apply(c->s, &rec);
    }
    if (!reader_done(&r)) {
        return "a record is malformed though its checksum is right";
    }
    return c->off == 0 && n < c->s->options.groups ? "a preamble is missing" : NULL;
}

/* A sound header in this place must be the next one; anything else was never a matter of a lost write (D5, D6, S31). */
static const char *out_of_place(struct scan *c, const struct block_header *h)
{
    if (!MUTANT("S30") && h->node_uuid != c->s->identity.node_uuid) {
        return "this block was written by another node";
    }
    if (!MUTANT("S30") && h->segment != c->numbers[c->at]) {
        return "this block belongs to another segment: the file was renamed or copied";
    }
    if (h->segment_bytes > c->size) {
        return "the file is shorter than it was: it was cut";
    }
    if ((h->kind == BLOCK_PREAMBLE) != (c->off == 0)) {
        return "a segment begins in the middle of another";
    }
    if (c->off == 0 && c->at > 0 && (!c->begun || c->last_at + 1 != c->at)) {
        return "the segment before this one is empty";
    }
    bool dense = c->begun ? h->number == c->next && h->prev_crc == c->prev_crc : c->numbers[0] > 1 || h->number == 1;
    return dense || MUTANT("S30") || (MUTANT("S31") && c->off == 0) ? NULL : "blocks before this one are missing";
}

enum step { STEP_BLOCK, STEP_BAD, STEP_STOP };

/* Reads the block at c->off. BLOCK: accepted, replayed, c moved on. BAD: *why says what is wrong with it. */
static enum step read_block(struct scan *c, const char **why, enum store_status *st)
{
    uint8_t header[BLOCK_HEADER_BYTES];
    struct block_header h;
    int err = read_at(c, header, sizeof header, c->off);
    if (err != 0) {
        *st = broken(c, "read", err);
        return STEP_STOP;
    }
    enum block_check check = block_header_decode(header, &h);
    if (check != BLOCK_OK) {
        *why = check == BLOCK_ZERO ? "a block is missing" : "the checksum of a block's header is wrong";
        return STEP_BAD;
    }
    const char *misplaced = out_of_place(c, &h);
    if (misplaced != NULL) {
        *st = corrupt(c, misplaced);
        return STEP_STOP;
    }
    *why = "the checksum of a block's body is wrong";
    if (block_span(h.body_len) > c->size - c->off) {
        return STEP_BAD;
    }
    buf_clear(&c->body);
    err = read_at(c, buf_reserve(&c->body, h.body_len), h.body_len, c->off + BLOCK_HEADER_BYTES);
    c->body.len = h.body_len;
    if (err != 0) {
        *st = broken(c, "read", err);
        return STEP_STOP;
    }
    if (crc32c(0, c->body.ptr, c->body.len) != h.body_crc) {
        return STEP_BAD;
    }
    if (c->off == 0) {
        segments_add(c->s, c->numbers[c->at], c->size, false);
    }
    const char *senseless = replay_body(c, !c->begun);
    if (senseless != NULL) {
        *st = corrupt(c, senseless);
        return STEP_STOP;
    }
    c->begun = true;
    c->next = h.number + 1;
    c->prev_crc = h.header_crc;
    c->off += block_span(h.body_len);
    return STEP_BLOCK;
}

/* Only what the device holds may count. The page cache may hold more: bytes that a process wrote and did not live to sync, which this
 * sync writes; and bytes whose sync failed, which the kernel keeps, marked clean, so that they read well and no later sync writes
 * them (Rebello 2020; W5). Those are dropped. All of it is in the segment that was being written or in the one made ahead. */
static enum store_status forget_cache(struct scan *c)
{
    const struct files *f = &c->s->files;
    int err = f->sync(f->ctx, c->fd);
    if (err == 0 && !MUTANT("W5")) {
        err = f->uncache(f->ctx, c->fd);
    }
    return err == 0 ? STORE_OK : broken(c, "sync", err);
}

static enum store_status read_segment(struct scan *c)
{
    enum store_status st = scan_open(c, c->at);
    if (st == STORE_OK && c->at + 2 >= c->n) {
        st = forget_cache(c);
    }
    while (st == STORE_OK && c->off + BLOCK_ALIGN <= c->size) {
        const char *why = NULL;
        enum step step = read_block(c, &why, &st);
        if (step == STEP_STOP) {
            return st;
        }
        if (step == STEP_BLOCK) {
            c->last_at = c->at;
            c->last_off = c->off;
            continue;
        }
        bool zero = true, proof = false;
        int err = search_rest(c, &zero, &proof);
        if (err != 0) {
            return broken(c, "read", err);
        }
        /* Zeros to the end were never written: the chain goes on in the next segment, if anywhere. */
        return zero ? STORE_OK : judge(c, why);
    }
    return st;
}

/* Zeros from off to the last byte that is not zero, synced: a stale block must not be found behind new ones (S25). */
static enum store_status cut(struct scan *c, uint64_t off, uint64_t *torn_bytes)
{
    uint8_t *w = malloc(WINDOW);
    uint64_t last = off;
    int err = w == NULL ? -ENOMEM : 0;
    for (uint64_t o = off; err == 0 && o < c->size; o += WINDOW) {
        err = read_at(c, w, WINDOW, o);
        for (size_t i = 0; err == 0 && i < WINDOW; i++) {
            last = w[i] != 0 ? o + i + 1 : last;
        }
    }
    free(w);
    last = last < c->size ? last : c->size;
    *torn_bytes += last - off;
    if (err == 0 && last > off && !MUTANT("S25")) {
        err = segment_zero(&c->s->files, c->fd, off, last);
    }
    return err == 0 ? STORE_OK : broken(c, "cut the torn end of", err);
}

/* Segments behind the end hold nothing that ever counted. */
static enum store_status drop_later(struct scan *c)
{
    const struct files *f = &c->s->files;
    for (size_t i = c->n; i-- > c->last_at + 1;) {
        char name[FILE_NAME_BYTES];
        segment_name(name, c->numbers[i]);
        int err = f->unlink(f->ctx, name);
        err = err == 0 ? f->sync_dir(f->ctx) : err;
        if (err != 0) {
            c->at = i;
            return broken(c, "remove", err);
        }
    }
    return STORE_OK;
}

/* Leaves the last segment open for the writer. */
static enum store_status adopt(struct scan *c, uint64_t *torn_bytes)
{
    struct store *s = c->s;
    enum store_status st = scan_open(c, c->last_at);
    if (st == STORE_OK) {
        st = cut(c, c->last_off, torn_bytes);
    }
    int err = st == STORE_OK ? s->files.sync(s->files.ctx, c->fd) : 0;
    if (st != STORE_OK || err != 0) {
        return st != STORE_OK ? st : broken(c, "sync", err);
    }
    s->log.file = (struct segment_file){c->fd, c->numbers[c->last_at], c->size};
    c->fd = -1;
    s->log.off = c->last_off;
    s->log.next_block = c->next;
    s->log.prev_crc = c->prev_crc;
    atomic_store(&s->synced, c->next - 1);
    return STORE_OK;
}

static enum store_status read_all(struct scan *c)
{
    enum store_status st = STORE_OK;
    for (c->at = 0; st == STORE_OK && !c->torn && c->at < c->n; c->at++) {
        if (c->at > 0 && c->numbers[c->at] != c->numbers[c->at - 1] + 1) {
            c->off = 0;
            return corrupt(c, "the segment before this one is missing");
        }
        st = read_segment(c);
    }
    return st;
}

enum store_status recovery_run(struct store *s, const uint64_t *numbers, size_t n, struct replay *groups,
                               uint64_t *torn_bytes, struct buf *error)
{
    struct scan c = {.s = s, .groups = groups, .numbers = numbers, .n = n, .fd = -1, .next = 1, .error = error};
    enum store_status st = read_all(&c);
    if (st == STORE_OK && (!c.begun || (c.next <= s->identity.floor && !MUTANT("S23")))) {
        buf_printf(error, "the log ends before block %" PRIu64 ", but block %" PRIu64 " was written: its files were "
                   "deleted or emptied" ADVICE, c.next, s->identity.floor);
        st = STORE_CORRUPT;
    }
    if (st == STORE_OK && c.torn && c.at - 1 != c.last_at) {
        *torn_bytes += BLOCK_ALIGN; /* the first block of a segment, which goes as a whole */
    }
    st = st == STORE_OK ? drop_later(&c) : st;
    st = st == STORE_OK ? adopt(&c, torn_bytes) : st;
    scan_close(&c);
    buf_fini(&c.body);
    return st;
}
