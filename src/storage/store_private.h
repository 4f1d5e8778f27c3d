/* The inside of the store, shared by store*.c, segments.c, recovery.c and snapshot*.c only.
 *
 * Two threads may use a store at a time (docs/disk.md, "Threads"): the log side owns `struct log_writer`, the upkeep side
 * owns `struct snapshots` and the spare; what both touch is under `lock`, in atomics, or under `prepare_lock`. */
#ifndef SYN_STORAGE_STORE_PRIVATE_H
#define SYN_STORAGE_STORE_PRIVATE_H

#include "storage/block.h"
#include "storage/identity.h"
#include "storage/replay.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    SEGMENT_BYTES_MIN = 64 * 1024,
    SEGMENT_BYTES_FIRST = 1024 * 1024,
    SEGMENT_DOUBLINGS = 16,
    SEGMENT_ZERO_SLICE = 512 * 1024, /* zeros are written and synced in slices, so that the log's own syncs get between */
    FILE_NAME_BYTES = 64,
    ERROR_BYTES = 512,
};

#define SPARE_NAME "spare.tmp"
#define PREPARE_NAME "prepare.tmp"

struct segment { /* one that holds blocks; the last in the list is being written */
    uint64_t number;
    uint64_t bytes;
    uint64_t *max_index; /* owned, per group: no entry in this segment lies beyond */
};

struct segment_file { /* open for writing */
    int fd;          /* -1: none */
    uint64_t number;
    uint64_t bytes;
};

struct log_group { /* what the next preamble will say */
    uint64_t term;
    node_id_t vote;
    uint64_t commit;
    uint64_t mark_index;
    uint64_t mark_term;
    uint64_t last_index; /* upper bound: an installed snapshot may have cut the log without this side knowing */
};

struct log_writer {
    struct segment_file file;
    uint64_t off;          /* where the next block goes */
    uint64_t scratch_end;  /* bytes of a write that failed for lack of room may lie before this offset ... */
    uint64_t scratch_segment; /* ... of this segment */
    uint64_t next_block;
    uint32_t prev_crc;
    bool dirty;
    struct log_group *groups;
    struct buf block;
};

struct snapshot_writer {
    int fd;                /* -1: nothing in progress */
    bool raw;
    uint64_t index;
    uint64_t term;
    uint64_t received;     /* bytes given by the caller so far: the offset of the next chunk */
    uint64_t raw_bytes;    /* uncompressed, in the file so far */
    uint64_t file_bytes;
    uint32_t file_crc;
    uint32_t chunks;
    struct buf attached;   /* pairs: named by store_snapshot_attach, or by the header of what is received */
    uint64_t attach_index; /* the snapshot that `attached` was named for; 0: none */
    bool attach_refused;   /* ... and that must not be written */
    struct buf head;       /* received: what there is of header and list, until they are complete ... */
    size_t head_bytes;     /* ... and then how long they are; 0: not yet */
    uint64_t attached_bytes;
    struct backlog_check check; /* of the attached file that is being received */
};

struct snapshot {
    _Atomic uint64_t index; /* newest durable; 0: none */
    uint64_t term;
    uint64_t bytes;
    struct buf attached;    /* pairs: backlog files that it needs, and how much of each */
    bool verified;          /* all of it was read and found whole since it was opened or made */
    struct snapshot_writer writer;
};

struct store {
    struct files files;
    struct store_options options; /* node_name is borrowed from identity */
    struct identity identity;     /* constant after open; floor is filled in for each write from `synced` */
    struct log_writer log;
    struct snapshot *snapshots;   /* per group */
    bool have_spare;              /* a recycled segment waits as SPARE_NAME; under prepare_lock */

    pthread_mutex_t prepare_lock; /* making the next segment, and the identity file */
    pthread_mutex_t lock;         /* segments, ready */
    struct segment *segments;
    size_t n_segments;
    struct segment_file ready;    /* zeroed, synced, named; fd -1: none */

    _Atomic uint64_t synced;      /* last durable block */
    _Atomic bool failed;          /* set once, after fatal was written */
    char fatal[ERROR_BYTES];
    char log_error[ERROR_BYTES];      /* written by the log side only */
    char upkeep_error[ERROR_BYTES];   /* written by the upkeep side only */
    _Atomic(const char *) last_error;
    _Atomic uint64_t appends, syncs, bytes, snapshot_bytes;
};

void segment_name(char out[FILE_NAME_BYTES], uint64_t number);
bool segment_number(const char *name, uint64_t *number);
void snapshot_name(char out[FILE_NAME_BYTES], uint32_t group, uint64_t index);
bool snapshot_name_parse(const char *name, uint32_t *group, uint64_t *index);

/* Turns a failed file operation into a status: FULL for lack of room when may_be_full, otherwise the store is poisoned. */
enum store_status store_io_error(struct store *s, bool may_be_full, char text[ERROR_BYTES], const char *what,
                                 const char *path, int err);
bool store_is_failed(const struct store *s);

/* segments.c */
/* Puts the segment at the end of the list; was_ready: it was the ready one, which in the same step there is no more
 * (between the two, upkeep would make another file of the same number). */
void segments_add(struct store *s, uint64_t number, uint64_t bytes, bool was_ready);
void segments_note(struct store *s, uint32_t group, uint64_t index);              /* in the last one */
int segment_zero(const struct files *f, int fd, uint64_t from, uint64_t to);      /* and sync; 0 or -errno */
enum store_status segment_extend(struct store *s, struct segment_file *f, uint64_t bytes);
/* What append does when upkeep came too late. */
enum store_status segments_prepare_now(struct store *s);
enum store_status store_write_floor(struct store *s);

/* What a record changes in what the writer knows; also used by recovery, so that both count alike. */
void log_group_apply(struct store *s, const struct log_record *r);

/* backlog.c */
void backlog_name(char out[FILE_NAME_BYTES], uint32_t group, uint64_t number);
bool backlog_name_parse(const char *name, uint32_t *group, uint64_t *number);
uint64_t backlog_total(slice_t attached);                     /* bytes */
/* Makes the attached files durable; they must be as long as the list says. */
enum store_status backlog_sync(struct store *s, uint32_t group, slice_t attached);
/* The bytes of the virtual sequence of attached files, from `at` on. 0, or -errno; -ENODATA: one is missing or short. */
int backlog_read_attached(struct store *s, uint32_t group, slice_t attached, uint64_t at, size_t n, struct buf *out);
/* 0, or -errno; -EBADMSG: options.backlog_check found damage. */
int backlog_write_attached(struct store *s, uint32_t group, struct snapshot_writer *w, uint64_t at, slice_t bytes);
/* Received files get their names; before, they are under .tmp. One that is here already and longer stays as it is. */
int backlog_publish(struct store *s, uint32_t group, slice_t attached);
void backlog_forget_received(struct store *s, uint32_t group, slice_t attached);

/* recovery.c: reads the log, cuts a torn tail, leaves the writer where the next block goes. groups: one per group. */
enum store_status recovery_run(struct store *s, const uint64_t *numbers, size_t n, struct replay *groups,
                               uint64_t *torn_bytes, struct buf *error);

#endif
