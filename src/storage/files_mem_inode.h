/* A file of files_mem: two images of sparse, shared pages. Used by files_mem.c only. */
#ifndef SYN_STORAGE_FILES_MEM_INODE_H
#define SYN_STORAGE_FILES_MEM_INODE_H

#include "storage/files_mem.h"

enum { PAGE = 4096, SECTORS = PAGE / FILES_MEM_SECTOR };

struct page {
    uint32_t refs;
    uint8_t data[PAGE];
};

struct inode {
    uint32_t refs;
    uint64_t size_now;
    uint64_t size_disk;
    size_t pages;        /* length of the three tables */
    struct page **now;   /* NULL: zeros */
    struct page **disk;
    uint8_t *dirty;      /* a bit per sector of the page */
};

void *mem_grow(void *p, size_t n, size_t size); /* realloc of n elements; never fails */
struct page *page_own(struct page **slot);      /* the page for writing: made, or copied when it is shared */
const uint8_t *page_bytes(const struct page *p); /* PAGE bytes */

struct inode *inode_new(void);                   /* one reference */
struct inode *inode_ref(struct inode *i);
void inode_unref(struct inode *i);
struct inode *inode_clone(const struct inode *i); /* shares all pages */
void inode_write(struct inode *i, const uint8_t *p, size_t n, uint64_t off);
void inode_truncate(struct inode *i, uint64_t size);
void inode_uncache(struct inode *i); /* pages without unsynced writes are what the disk has */
void inode_sync(struct inode *i);
void inode_crash(struct inode *i, struct prng *g);

#endif
