/* What the tests of backlog files share: bytes that tell their place, lists of attached files, and a peer to receive from. */
#ifndef SYN_TESTS_STORAGE_BACKLOG_FIXTURE_H
#define SYN_TESTS_STORAGE_BACKLOG_FIXTURE_H

#include "fixture.h"

enum { BACKLOG_LIST_MAX = 8 };

struct backlog_list {
    size_t n;
    struct { uint64_t file, bytes; } v[BACKLOG_LIST_MAX];
};

/* Appends bytes [from, to): what is at a place of a file is a function of group, number and place. */
enum store_status backlog_put(struct store *s, uint32_t group, uint64_t file, uint64_t from, uint64_t to);
/* The file's first bytes can be read and are what they should be. */
bool backlog_is(struct store *s, uint32_t group, uint64_t file, uint64_t bytes);
bool backlog_list_is(struct store *s, uint32_t group, const struct backlog_list *l);
size_t backlog_count(const struct files_mem *disk, uint32_t group); /* files under their final names */
void backlog_pairs(struct buf *out, const struct backlog_list *l);
/* Attaches and writes; the content is snapshot_bytes. */
enum store_status backlog_snapshot(struct store *s, uint32_t group, uint64_t index, uint64_t term, const struct backlog_list *l);
/* Another node's store, with these files (each `more` bytes longer than the list says) and that snapshot. */
struct store *backlog_peer(struct files_mem *disk, uint32_t group, uint64_t index, uint64_t term, const struct backlog_list *l, uint64_t more);
/* Raw, in pieces of at most `step`; the bit at byte flip_at is flipped on the way (-1: none). */
enum store_status backlog_transfer(struct store *from, struct store *to, uint32_t group, uint64_t index, uint64_t term, uint32_t step,
                                   int64_t flip_at);

#endif
