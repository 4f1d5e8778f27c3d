/* The format of a snapshot file: header, list of attached backlog files, compressed chunks, end. The same bytes on every node. */
#ifndef SYN_STORAGE_SNAPSHOT_FILE_H
#define SYN_STORAGE_SNAPSHOT_FILE_H

#include "storage/store.h"

enum {
    SNAPSHOT_CHUNK_MAX = 1 << 20, /* uncompressed bytes in one chunk */
    SNAPSHOT_HEADER_BYTES = 40,   /* then, when files are attached: (u64 number, u64 bytes) each, u32 crc32c of them */
    SNAPSHOT_ATTACHED_MAX = 16000, /* the list is 250 KiB; files of 16 MiB make 250 GB */
    SNAPSHOT_CHUNK_HEADER_BYTES = 12,
    SNAPSHOT_END_BYTES = 32,
};

/* Why it is no list of attached files: pairs, numbers ascending, none empty, all together less than 2^62 bytes. NULL: it is one. */
const char *snapshot_list_bad(slice_t attached);
/* attached: a list as above, of at most SNAPSHOT_ATTACHED_MAX. */
void snapshot_put_header(struct buf *out, uint32_t group, uint64_t index, uint64_t term, slice_t attached);
/* Bytes of header and list, when `in` begins with all of them; 0: more are needed; SIZE_MAX: malformed. The list is appended to attached. */
size_t snapshot_get_header(slice_t in, uint32_t group, uint64_t index, struct buf *attached, const char **why);
/* One chunk of 1 ... SNAPSHOT_CHUNK_MAX bytes; ordinal counts from 0. */
void snapshot_put_chunk(struct buf *out, uint32_t ordinal, slice_t raw);
/* file_bytes, file_crc: of everything before the end record. */
void snapshot_put_end(struct buf *out, uint32_t chunks, uint64_t raw_bytes, uint64_t file_bytes, uint32_t file_crc);

enum snapshot_result { SNAPSHOT_OK, SNAPSHOT_BAD, SNAPSHOT_IO };

/* Header, list and end only: cheap, for start-up; attached (may be NULL) gets the list. *why is the reason (BAD) or *err the errno (IO). */
enum snapshot_result snapshot_peek(const struct files *f, int fd, uint32_t group, uint64_t index, uint64_t *term,
                                   uint64_t *bytes, struct buf *attached, const char **why, int *err);
/* Everything, in bounded memory whatever the file says (I42); fn (may be NULL) sees the pieces, each verified before,
 * and stops the walk by returning false. */
enum snapshot_result snapshot_walk(const struct files *f, int fd, uint32_t group, uint64_t index, uint64_t term,
                                   bool (*fn)(void *arg, slice_t piece), void *arg, const char **why, int *err);

#endif
