/* Files in memory with a crash model; see files_mem.h and docs/disk.md, "Crash model".
 *
 * Responsible for names, handles and faults; the bytes are files_mem_inode.c's. The directory is two tables of names
 * (now, and what is durable) and the ordered list of changes between them. */
#include "storage/files_mem.h"

#include "storage/files_mem_inode.h"
#include "utils/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 64, DIR_MAX = 4096 };

struct name {
    char name[NAME_MAX_BYTES];
    struct inode *inode;
};

struct names {
    struct name *v; /* ascending */
    size_t n;
};

/* A change of the directory: inode gets the name `to` (empty: none), and loses the name `from` (empty: none). */
struct change {
    char from[NAME_MAX_BYTES];
    char to[NAME_MAX_BYTES];
    struct inode *inode;
};

struct handle {
    int fd;
    struct inode *inode;
    char path[NAME_MAX_BYTES];
};

struct files_mem {
    struct names now;
    struct names disk;
    struct change *changes;
    size_t n_changes;
    struct handle *handles;
    size_t n_handles;
    int next_fd; /* never used twice, so that a dead store cannot reach a new one's files */
    uint64_t ops[FILES_MEM_OPS + 1];
    uint64_t fail_at[FILES_MEM_OPS + 1];
    int fail_err[FILES_MEM_OPS + 1];
    uint64_t quota;
    void (*on_op)(void *arg, enum files_mem_op op, const char *path);
    void *on_op_arg;
};

static void copy_name(char dst[NAME_MAX_BYTES], const char *src)
{
    size_t n = strlen(src);
    syn_assert(n < NAME_MAX_BYTES);
    memset(dst, 0, NAME_MAX_BYTES);
    memcpy(dst, src, n);
}

static size_t names_at(const struct names *d, const char *name)
{
    size_t lo = 0, hi = d->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (strcmp(d->v[mid].name, name) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static struct inode *names_find(const struct names *d, const char *name)
{
    size_t i = names_at(d, name);
    return i < d->n && strcmp(d->v[i].name, name) == 0 ? d->v[i].inode : NULL;
}

static void names_remove(struct names *d, const char *name)
{
    size_t i = names_at(d, name);
    if (i < d->n && strcmp(d->v[i].name, name) == 0) {
        inode_unref(d->v[i].inode);
        memmove(&d->v[i], &d->v[i + 1], (d->n - i - 1) * sizeof *d->v);
        d->n--;
    }
}

static void names_set(struct names *d, const char *name, struct inode *inode)
{
    inode_ref(inode);
    names_remove(d, name);
    size_t i = names_at(d, name);
    d->v = mem_grow(d->v, d->n + 1, sizeof *d->v);
    memmove(&d->v[i + 1], &d->v[i], (d->n - i) * sizeof *d->v);
    copy_name(d->v[i].name, name);
    d->v[i].inode = inode;
    d->n++;
}

static void names_clear(struct names *d)
{
    for (size_t i = 0; i < d->n; i++) {
        inode_unref(d->v[i].inode);
    }
    free(d->v);
    *d = (struct names){0};
}

static void names_copy(struct names *dst, const struct names *src)
{
    names_clear(dst);
    for (size_t i = 0; i < src->n; i++) {
        names_set(dst, src->v[i].name, src->v[i].inode);
    }
}

static void change_apply(struct names *d, const struct change *c)
{
    if (c->from[0] != 0 && names_find(d, c->from) == c->inode) {
        names_remove(d, c->from);
    }
    if (c->to[0] != 0) {
        names_set(d, c->to, c->inode);
    }
}

static void change_push(struct files_mem *m, const char *from, const char *to, struct inode *inode)
{
    m->changes = mem_grow(m->changes, m->n_changes + 1, sizeof *m->changes);
    struct change *c = &m->changes[m->n_changes++];
    *c = (struct change){.inode = inode_ref(inode)};
    copy_name(c->from, from);
    copy_name(c->to, to);
    change_apply(&m->now, c);
}

static void changes_clear(struct files_mem *m)
{
    for (size_t i = 0; i < m->n_changes; i++) {
        inode_unref(m->changes[i].inode);
    }
    free(m->changes);
    m->changes = NULL;
    m->n_changes = 0;
}

/* Counts the operation, lets the test look, and answers the planned fault. */
static int begin(struct files_mem *m, enum files_mem_op op, const char *path)
{
    if (m->on_op != NULL) {
        m->on_op(m->on_op_arg, op, path);
    }
    enum files_mem_op kinds[] = {op, FILES_MEM_OPS};
    int err = 0;
    for (size_t i = 0; i < 2; i++) {
        m->ops[kinds[i]]++;
        if (m->fail_at[kinds[i]] == m->ops[kinds[i]] && op != FILES_MEM_LIST) {
            m->fail_at[kinds[i]] = 0;
            err = -m->fail_err[kinds[i]];
        }
    }
    return err;
}

static struct handle *handle_of(struct files_mem *m, int fd)
{
    for (size_t i = 0; i < m->n_handles; i++) {
        if (m->handles[i].fd == fd) {
            return &m->handles[i];
        }
    }
    return NULL;
}

static bool has_room(const struct files_mem *m, uint64_t more)
{
    uint64_t used = 0;
    for (size_t i = 0; i < m->now.n; i++) {
        used += m->now.v[i].inode->size_now;
    }
    return m->quota == 0 || used + more <= m->quota;
}

static int mem_open(void *ctx, const char *path, bool create)
{
    struct files_mem *m = ctx;
    int err = begin(m, FILES_MEM_OPEN, path);
    if (err != 0) {
        return err;
    }
    struct inode *i = names_find(&m->now, path);
    if (i == NULL) {
        if (!create) {
            return -ENOENT;
        }
        i = inode_new();
        change_push(m, "", path, i);
        inode_unref(i);
    }
    m->handles = mem_grow(m->handles, m->n_handles + 1, sizeof *m->handles);
    struct handle *h = &m->handles[m->n_handles++];
    *h = (struct handle){.fd = m->next_fd++, .inode = inode_ref(i)};
    copy_name(h->path, path);
    return h->fd;
}

static void mem_close(void *ctx, int fd)
{
    struct files_mem *m = ctx;
    struct handle *h = handle_of(m, fd);
    if (h != NULL) {
        inode_unref(h->inode);
        *h = m->handles[--m->n_handles];
    }
}

static ssize_t mem_pread(void *ctx, int fd, void *p, size_t n, uint64_t off)
{
    struct files_mem *m = ctx;
    struct handle *h = handle_of(m, fd);
    if (h == NULL) {
        return -EBADF;
    }
    int err = begin(m, FILES_MEM_PREAD, h->path);
    if (err != 0) {
        return err;
    }
    const struct inode *i = h->inode;
    if (off >= i->size_now) {
        return 0;
    }
    n = n < i->size_now - off ? n : (size_t)(i->size_now - off);
    for (size_t done = 0; done < n;) {
        size_t at = (size_t)((off + done) % PAGE);
        size_t len = n - done < PAGE - at ? n - done : PAGE - at;
        memcpy((uint8_t *)p + done, page_bytes(i->now[(off + done) / PAGE]) + at, len);
        done += len;
    }
    return (ssize_t)n;
}

static ssize_t mem_pwrite(void *ctx, int fd, const void *p, size_t n, uint64_t off)
{
    struct files_mem *m = ctx;
    struct handle *h = handle_of(m, fd);
    if (h == NULL) {
        return -EBADF;
    }
    int err = begin(m, FILES_MEM_PWRITE, h->path);
    if (err != 0) {
        if (n > FILES_MEM_SECTOR && (off + n <= h->inode->size_now || has_room(m, off + n - h->inode->size_now))) {
            inode_write(h->inode, p, n / 2, off);
        }
        return err;
    }
    if (off + n > h->inode->size_now && !has_room(m, off + n - h->inode->size_now)) {
        size_t half = n / 2;
        if (half > FILES_MEM_SECTOR && (off + half <= h->inode->size_now || has_room(m, off + half - h->inode->size_now))) {
            inode_write(h->inode, p, half, off);
        }
        return -ENOSPC;
    }
    inode_write(h->inode, p, n, off);
    return (ssize_t)n;
}

static int mem_sync(void *ctx, int fd)
{
    struct files_mem *m = ctx;
    struct handle *h = handle_of(m, fd);
    if (h == NULL) {
        return -EBADF;
    }
    int err = begin(m, FILES_MEM_SYNC, h->path);
    if (err != 0) {
        memset(h->inode->dirty, 0, h->inode->pages);
        return err;
    }
    inode_sync(h->inode);
    return 0;
}

static int mem_uncache(void *ctx, int fd)
{
    struct handle *h = handle_of(ctx, fd);
    if (h == NULL) {
        return -EBADF;
    }
    inode_uncache(h->inode);
    return 0;
}

static int64_t mem_size(void *ctx, int fd)
{
    struct handle *h = handle_of(ctx, fd);
    return h ? (int64_t)h->inode->size_now : -EBADF;
}

static int mem_truncate(void *ctx, int fd, uint64_t size)
{
    struct files_mem *m = ctx;
    struct handle *h = handle_of(m, fd);
    if (h == NULL) {
        return -EBADF;
    }
    int err = begin(m, FILES_MEM_TRUNCATE, h->path);
    if (err != 0) {
        return err;
    }
    if (size > h->inode->size_now && !has_room(m, size - h->inode->size_now)) {
        return -ENOSPC;
    }
    inode_truncate(h->inode, size);
    return 0;
}

static int mem_rename(void *ctx, const char *from, const char *to)
{
    struct files_mem *m = ctx;
    int err = begin(m, FILES_MEM_RENAME, from);
    if (err != 0) {
        return err;
    }
    struct inode *i = names_find(&m->now, from);
    if (i == NULL) {
        return -ENOENT;
    }
    change_push(m, from, to, i);
    return 0;
}

static int mem_unlink(void *ctx, const char *path)
{
    struct files_mem *m = ctx;
    int err = begin(m, FILES_MEM_UNLINK, path);
    if (err != 0) {
        return err;
    }
    struct inode *i = names_find(&m->now, path);
    if (i == NULL) {
        return -ENOENT;
    }
    change_push(m, path, "", i);
    return 0;
}

static int mem_sync_dir(void *ctx)
{
    struct files_mem *m = ctx;
    int err = begin(m, FILES_MEM_SYNC_DIR, "");
    if (err == 0) {
        names_copy(&m->disk, &m->now);
    }
    changes_clear(m);
    return err;
}

static int mem_list(void *ctx, void (*fn)(void *arg, const char *name), void *arg)
{
    struct files_mem *m = ctx;
    begin(m, FILES_MEM_LIST, "");
    for (size_t i = 0; i < m->now.n; i++) {
        fn(arg, m->now.v[i].name);
    }
    return 0;
}

struct files files_mem_table(struct files_mem *m)
{
    return (struct files){m,        mem_open,     mem_close,  mem_pread,  mem_pwrite,   mem_sync,
                          mem_uncache, mem_size, mem_truncate, mem_rename, mem_unlink, mem_sync_dir, mem_list};
}

struct files_mem *files_mem_new(void)
{
    struct files_mem *m = calloc(1, sizeof *m);
    syn_assert(m != NULL);
    m->next_fd = 3;
    return m;
}

void files_mem_kill(struct files_mem *m)
{
    for (size_t i = 0; i < m->n_handles; i++) {
        inode_unref(m->handles[i].inode);
    }
    free(m->handles);
    m->handles = NULL;
    m->n_handles = 0;
    memset(m->fail_at, 0, sizeof m->fail_at);
}

void files_mem_free(struct files_mem *m)
{
    if (m != NULL) {
        files_mem_kill(m);
        changes_clear(m);
        names_clear(&m->now);
        names_clear(&m->disk);
        free(m);
    }
}

/* Inodes met on one side and their copies, so that names keep pointing at one file. */
struct twins {
    struct inode *from[DIR_MAX];
    struct inode *to[DIR_MAX];
    size_t n;
};

static struct inode *twin(struct twins *t, struct inode *i)
{
    for (size_t k = 0; k < t->n; k++) {
        if (t->from[k] == i) {
            return t->to[k];
        }
    }
    syn_assert(t->n < DIR_MAX);
    t->from[t->n] = i;
    return t->to[t->n++] = inode_clone(i);
}

struct files_mem *files_mem_clone(const struct files_mem *m)
{
    struct twins *t = calloc(1, sizeof *t);
    syn_assert(t != NULL);
    struct files_mem *c = files_mem_new();
    for (size_t i = 0; i < m->disk.n; i++) {
        names_set(&c->disk, m->disk.v[i].name, twin(t, m->disk.v[i].inode));
    }
    names_copy(&c->now, &c->disk);
    for (size_t i = 0; i < m->n_changes; i++) {
        change_push(c, m->changes[i].from, m->changes[i].to, twin(t, m->changes[i].inode));
    }
    for (size_t k = 0; k < t->n; k++) {
        inode_unref(t->to[k]);
    }
    free(t);
    c->quota = m->quota;
    c->next_fd = m->next_fd;
    return c;
}

void files_mem_crash(struct files_mem *m, struct prng *g)
{
    files_mem_kill(m);
    for (size_t i = 0; i < m->n_changes; i++) {
        if (prng_below(g, 2) == 0) {
            change_apply(&m->disk, &m->changes[i]);
        }
    }
    changes_clear(m);
    names_copy(&m->now, &m->disk);
    for (size_t i = 0; i < m->now.n; i++) {
        inode_crash(m->now.v[i].inode, g);
    }
}

bool files_mem_all_durable(const struct files_mem *m)
{
    for (size_t i = 0; i < m->now.n; i++) {
        const struct inode *n = m->now.v[i].inode;
        bool clean = n->size_now == n->size_disk;
        for (size_t k = 0; k < n->pages && clean; k++) {
            clean = n->dirty[k] == 0 && memcmp(page_bytes(n->now[k]), page_bytes(n->disk[k]), PAGE) == 0;
        }
        if (!clean || names_find(&m->disk, m->now.v[i].name) != n) {
            return false;
        }
    }
    return m->n_changes == 0;
}

void files_mem_fail(struct files_mem *m, enum files_mem_op op, uint64_t nth, int err)
{
    m->fail_at[op] = nth == 0 ? 0 : m->ops[op] + nth;
    m->fail_err[op] = err;
}

void files_mem_quota(struct files_mem *m, uint64_t bytes)
{
    m->quota = bytes;
}

void files_mem_on_op(struct files_mem *m, void (*fn)(void *arg, enum files_mem_op op, const char *path), void *arg)
{
    m->on_op = fn;
    m->on_op_arg = arg;
}

uint64_t files_mem_ops(const struct files_mem *m, enum files_mem_op op)
{
    return m->ops[op];
}

bool files_mem_flip(struct files_mem *m, const char *path, uint64_t byte, unsigned bit)
{
    struct inode *i = names_find(&m->now, path);
    if (i == NULL || byte >= i->size_now) {
        return false;
    }
    struct page **sides[] = {&i->now[byte / PAGE], &i->disk[byte / PAGE]};
    for (size_t k = 0; k < 2; k++) {
        uint8_t *p = page_own(sides[k])->data + byte % PAGE;
        *p = (uint8_t)(*p ^ 1u << (bit & 7));
    }
    return true;
}

const char *files_mem_name(const struct files_mem *m, size_t i)
{
    return i < m->now.n ? m->now.v[i].name : NULL;
}

int64_t files_mem_size(const struct files_mem *m, const char *path)
{
    struct inode *i = names_find(&m->now, path);
    return i ? (int64_t)i->size_now : -ENOENT;
}
