/* Pages and inodes of the files in memory; see files_mem.h and docs/disk.md, "Crash model".
 *
 * `now` is what reads see, `disk` what a power failure leaves; a bit per sector says where an unsynced write made them
 * differ. Of several unsynced writes to one sector only the last is remembered. Names are files_mem.c's business. */
#include "storage/files_mem_inode.h"

#include "utils/assert.h"

#include <stdlib.h>
#include <string.h>

void *mem_grow(void *p, size_t n, size_t size)
{
    p = realloc(p, n * size);
    syn_assert(p != NULL);
    return p;
}

static struct page *page_ref(struct page *p)
{
    if (p != NULL) {
        p->refs++;
    }
    return p;
}

static void page_unref(struct page *p)
{
    if (p != NULL && --p->refs == 0) {
        free(p);
    }
}

struct page *page_own(struct page **slot)
{
    struct page *p = *slot;
    if (p != NULL && p->refs == 1) {
        return p;
    }
    struct page *q = calloc(1, sizeof *q);
    syn_assert(q != NULL);
    q->refs = 1;
    if (p != NULL) {
        memcpy(q->data, p->data, PAGE);
        page_unref(p);
    }
    return *slot = q;
}

static void page_share(struct page **dst, struct page *src)
{
    if (*dst != src) {
        page_unref(*dst);
        *dst = page_ref(src);
    }
}

const uint8_t *page_bytes(const struct page *p)
{
    static const uint8_t zeros[PAGE];
    return p ? p->data : zeros;
}

struct inode *inode_new(void)
{
    struct inode *i = calloc(1, sizeof *i);
    syn_assert(i != NULL);
    i->refs = 1;
    return i;
}

struct inode *inode_ref(struct inode *i)
{
    if (i != NULL) {
        i->refs++;
    }
    return i;
}

void inode_unref(struct inode *i)
{
    if (i == NULL || --i->refs > 0) {
        return;
    }
    for (size_t k = 0; k < i->pages; k++) {
        page_unref(i->now[k]);
        page_unref(i->disk[k]);
    }
    free(i->now);
    free(i->disk);
    free(i->dirty);
    free(i);
}

struct inode *inode_clone(const struct inode *i)
{
    struct inode *c = inode_new();
    c->size_now = i->size_now;
    c->size_disk = i->size_disk;
    c->pages = i->pages;
    if (i->pages > 0) {
        c->now = mem_grow(NULL, i->pages, sizeof *c->now);
        c->disk = mem_grow(NULL, i->pages, sizeof *c->disk);
        c->dirty = mem_grow(NULL, i->pages, 1);
        memcpy(c->dirty, i->dirty, i->pages);
    }
    for (size_t k = 0; k < i->pages; k++) {
        c->now[k] = page_ref(i->now[k]);
        c->disk[k] = page_ref(i->disk[k]);
    }
    return c;
}

static void inode_reserve(struct inode *i, uint64_t size)
{
    size_t n = (size_t)((size + PAGE - 1) / PAGE);
    if (n <= i->pages) {
        return;
    }
    i->now = mem_grow(i->now, n, sizeof *i->now);
    i->disk = mem_grow(i->disk, n, sizeof *i->disk);
    i->dirty = mem_grow(i->dirty, n, 1);
    for (; i->pages < n; i->pages++) {
        i->now[i->pages] = i->disk[i->pages] = NULL;
        i->dirty[i->pages] = 0;
    }
}

static bool is_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

void inode_write(struct inode *i, const uint8_t *p, size_t n, uint64_t off)
{
    inode_reserve(i, off + n);
    for (size_t done = 0; done < n;) {
        size_t k = (size_t)((off + done) / PAGE), at = (size_t)((off + done) % PAGE);
        size_t len = n - done < PAGE - at ? n - done : PAGE - at;
        if (len == PAGE && is_zero(p + done, len)) {
            page_share(&i->now[k], NULL);
        } else if (i->now[k] != NULL || !is_zero(p + done, len)) {
            memcpy(page_own(&i->now[k])->data + at, p + done, len);
        }
        for (size_t s = at / FILES_MEM_SECTOR; s * FILES_MEM_SECTOR < at + len; s++) {
            i->dirty[k] = (uint8_t)(i->dirty[k] | 1u << s);
        }
        done += len;
    }
    if (off + n > i->size_now) {
        i->size_now = off + n;
    }
}

void inode_truncate(struct inode *i, uint64_t size)
{
    inode_reserve(i, size);
    uint64_t old = i->size_now;
    i->size_now = size;
    for (size_t k = (size_t)(size / PAGE); k < i->pages && size < old; k++) {
        size_t keep = (uint64_t)k * PAGE < size ? (size_t)(size % PAGE) : 0;
        if (i->now[k] == NULL) {
            continue;
        }
        if (keep == 0) {
            page_share(&i->now[k], NULL);
        } else {
            memset(page_own(&i->now[k])->data + keep, 0, PAGE - keep);
        }
        i->dirty[k] = 0xff;
    }
}

void inode_sync(struct inode *i)
{
    for (size_t k = 0; k < i->pages; k++) {
        if (i->dirty[k] != 0) {
            page_share(&i->disk[k], i->now[k]);
            i->dirty[k] = 0;
        }
    }
    i->size_disk = i->size_now;
}

void inode_uncache(struct inode *i)
{
    for (size_t k = 0; k < i->pages; k++) {
        if (i->dirty[k] == 0) {
            page_share(&i->now[k], i->disk[k]);
        }
    }
}

static void crash_sector(struct inode *i, size_t k, size_t s, struct prng *g)
{
    size_t at = s * FILES_MEM_SECTOR;
    const uint8_t *now = page_bytes(i->now[k]) + at;
    uint64_t fate = prng_below(g, 100);
    if (fate < 45) { /* kept */
        memcpy(page_own(&i->disk[k])->data + at, now, FILES_MEM_SECTOR);
    } else if (fate < 85) { /* dropped */
        return;
    } else if (fate < 95) { /* torn */
        memcpy(page_own(&i->disk[k])->data + at, now, (size_t)prng_below(g, FILES_MEM_SECTOR));
    } else { /* garbled */
        uint8_t *p = page_own(&i->disk[k])->data + at;
        for (size_t b = 0; b < FILES_MEM_SECTOR; b++) {
            p[b] = (uint8_t)prng_u64(g);
        }
    }
}

void inode_crash(struct inode *i, struct prng *g)
{
    uint64_t mood = prng_below(g, 4); /* whole files survive or vanish often enough to be seen */
    if (i->size_now != i->size_disk && (mood == 0 || prng_below(g, 2) == 0)) {
        i->size_disk = i->size_now;
    }
    for (size_t k = 0; k < i->pages; k++) {
        for (size_t s = 0; s < SECTORS && i->dirty[k] != 0; s++) {
            bool dirty = (i->dirty[k] >> s & 1) != 0;
            bool differs = i->now[k] != i->disk[k];
            if (dirty && differs && mood == 0) {
                memcpy(page_own(&i->disk[k])->data + s * FILES_MEM_SECTOR,
                       page_bytes(i->now[k]) + s * FILES_MEM_SECTOR, FILES_MEM_SECTOR);
            } else if (dirty && mood > 1) {
                crash_sector(i, k, s, g);
            }
        }
        i->dirty[k] = 0;
        if ((uint64_t)k * PAGE >= i->size_disk) {
            page_share(&i->disk[k], NULL);
        } else if (i->size_disk - (uint64_t)k * PAGE < PAGE && i->disk[k] != NULL) {
            size_t keep = (size_t)(i->size_disk % PAGE);
            memset(page_own(&i->disk[k])->data + keep, 0, PAGE - keep);
        }
        page_share(&i->now[k], i->disk[k]);
    }
    i->size_now = i->size_disk;
}
