/* Inside the message store of a group (queue_log.h): its records, shared by queue_log*.c. Nothing else includes this.
 *
 * A partition has chunks by ascending offsets. A chunk is OPEN (the last one, still growing), CLOSED (complete, in memory), WRITING (handed
 * to options.write, still in memory) or STORED (in a file; perhaps a copy in the cache). Invariants, kept by all of these files and proved
 * by queue_log_check:
 *   L1 chunks of a partition ascend and do not overlap; only its last one may be OPEN
 *   L2 young_bytes is the sum of the encoded bytes of all chunks that are not STORED
 *   L3 a file's live bytes are those of the chunks STORED in it and of the writes to it on their way
 *   L4 the cache holds at most cache_bytes, or one chunk; at most LOADS_MAX reads are on their way, never two of one place
 *   L5 every place of a file is handed to write at most once; a chunk leaves memory only when its write succeeded, or nobody needs it */
#ifndef SYN_NODES_QUEUE_QUEUE_LOG_INTERNAL_H
#define SYN_NODES_QUEUE_QUEUE_LOG_INTERNAL_H

#include "nodes/queue/queue_log.h"
#include "utils/assert.h"
#include "utils/list.h"
#include "utils/map.h"

enum {
    CHUNK_HEAD_BYTES = 36,             /* u32 magic, u32 crc32c of the rest, u64 topic, u32 partition, u64 base, u32 count, u32 bytes */
    RECORD_HEAD_BYTES = 25,            /* u32 offset - base, u64 id.ms, u64 id.seq, u8 flags, u32 length; then the body */
    CHUNK_BYTES_MAX = 32 * 1024 * 1024,/* far above the largest message; what a restored table may make us read at once */
    FILE_BYTES_MAX = 1024 * 1024 * 1024,
    SECTOR_BYTES = 512,                /* chunks begin at multiples of it in their files, as the store wants it */
    LOADS_MAX = 32,                    /* reads on their way; more are asked for when those are answered */
    SWEEP_CHUNKS = 256,                /* looked at by one queue_log_tidy: 40,000 of them in under three minutes at one call a second */
    MOVES_MAX = 4,                     /* chunks of mostly dead files on their way to a new place */
    TRIM_LOOKS = 16,                   /* chunks below an earlier start that one trim looks at again; the others wait for the sweep */
};

/* The encoded bytes of a chunk and where its records begin. */
struct chunk_data {
    struct buf bytes;
    uint32_t *at; /* owned; position of each record */
    uint32_t n, cap;
};

enum chunk_state { CHUNK_OPEN = 0, CHUNK_CLOSED, CHUNK_WRITING, CHUNK_STORED };

/* 40,000 of these describe 10 GB. They move within their partition: they are named by (partition, base). */
struct chunk {
    uint64_t base;                     /* its first offset */
    uint32_t span;                     /* its last offset - base */
    uint32_t count;                    /* messages; 0: released, about to be taken out */
    uint32_t bytes : 26;               /* encoded, header included */
    uint32_t state : 2;
    uint32_t damaged : 1;              /* STORED: reading it failed; tried again after the next sweep */
    uint32_t moving : 1;               /* STORED: a struct move is about it */
    uint32_t restored : 1;             /* from a table: not believed against what is appended */
    uint32_t at;                       /* STORED: where in its file */
    struct stream_id first_id, last_id;
    union {
        struct young *young;           /* not STORED; owned */
        struct log_file *file;         /* STORED */
    };
};
_Static_assert(sizeof(struct chunk) <= 64, "a backlog of 10 GB must be described in less than 3 MB");

struct part {
    struct map_node by_id;
    struct list all;                   /* queue_log.parts, in the order of creation */
    uint64_t topic;
    uint32_t partition;
    uint64_t start;                    /* the highest that was trimmed to */
    struct chunk *chunks;              /* owned; chunks[head .. head + n) of cap are in use */
    uint32_t head, n, cap;
};

struct young {
    struct list link;                  /* queue_log.open or .closed, by serial; WRITING: in none */
    struct part *part;
    uint64_t base;
    uint64_t serial;                   /* age */
    struct chunk_data data;
    struct log_file *file;             /* WRITING: where to */
    uint32_t at;
};

struct log_file {
    struct map_node by_number;
    struct list all;
    uint64_t number;
    uint64_t live;                     /* bytes of living chunks (L3) */
    uint64_t extent;                   /* end of the last chunk that was written to it, or named in the table */
    uint64_t need;                     /* of the snapshot being made: bytes of it that must be durable */
    uint32_t writes;                   /* on their way, living or not */
    bool pinned;                       /* named by the newest snapshot made of this queue_log */
};

/* A write on its way. */
struct write {
    struct map_node by_place;
    struct list all;
    struct log_file *file;
    uint32_t at, bytes;
    struct part *part;                 /* of the chunk (part, base); NULL: it is gone */
    uint64_t base;
    bool move;                         /* of a chunk that is STORED elsewhere until this is done */
};

/* A read on its way, or a chunk in the cache. */
struct load {
    struct map_node by_place;
    struct list link;                  /* ready: queue_log.cache, last used first; else queue_log.loads */
    uint64_t file;
    uint32_t at;
    uint64_t topic, base;
    uint32_t partition;
    struct chunk_data data;            /* ready */
    bool ready;
    bool ahead;                        /* ready: whether to read ahead was already considered */
};

/* A chunk of a mostly dead file that is read and written anew. */
struct move {
    struct list link;
    struct part *part;
    uint64_t base;
    bool writing;                      /* else it waits to be read */
};

struct queue_log {
    struct queue_log_options o;
    struct map parts_by_id;
    struct list parts;
    struct list open, closed;          /* struct young, oldest first */
    uint64_t next_serial;
    uint64_t young_bytes;              /* L2 */
    uint64_t writing_bytes;            /* of them, those of WRITING chunks */
    struct map files_by_number;
    struct list files;
    struct log_file *current;          /* the file being appended to; NULL: none */
    uint64_t current_at, next_file;
    struct map writes_by_place;
    struct list writes;
    bool failing;                      /* the last answer to a write was no: one chunk at a time is tried ... */
    bool may_retry;                    /* ... once in a while */
    struct map loads_by_place;
    struct list loads, cache;
    uint32_t n_loads;                  /* on their way */
    uint64_t cache_used;
    struct list moves;
    uint32_t n_moves;
    struct part *sweep_part;           /* where the next sweep goes on; NULL: from the first partition */
    uint64_t sweep_offset;
};

static inline struct chunk *part_chunk(const struct part *p, uint32_t i) { return &p->chunks[p->head + i]; }
static inline uint64_t chunk_last(const struct chunk *c) { return c->base + c->span; }
static inline bool id_less(struct stream_id a, struct stream_id b) { return a.ms != b.ms ? a.ms < b.ms : a.seq < b.seq; }
static inline bool id_equal(struct stream_id a, struct stream_id b) { return a.ms == b.ms && a.seq == b.seq; }

/* queue_log_chunk.c: one chunk's bytes. */
bool chunk_is_magic(const uint8_t *head);
void chunk_data_begin(struct chunk_data *d);
void chunk_data_add(struct chunk_data *d, uint32_t delta, const struct queue_appended *m);
void chunk_data_fit(struct chunk_data *d); /* gives back what it will not grow into */
void chunk_data_fini(struct chunk_data *d);
/* Fills in the header: the bytes are what goes to disk. */
void chunk_data_seal(struct chunk_data *d, uint64_t topic, uint32_t partition, uint64_t base);
/* d becomes a copy of `bytes` with an index when they are exactly the chunk that was asked for, record by record. False: d is empty. */
bool chunk_data_load(struct chunk_data *d, slice_t bytes, uint64_t topic, uint32_t partition, const struct chunk *c);
struct queue_message chunk_data_message(const struct chunk_data *d, uint64_t base, uint32_t i);
uint32_t chunk_data_find(const struct chunk_data *d, uint32_t delta);           /* the first record at or behind it; n: none */
uint32_t chunk_data_find_id(const struct chunk_data *d, struct stream_id id);   /* the first with an id >= id; n: none */
static inline uint64_t chunk_data_memory(const struct chunk_data *d) { return d->bytes.len + (uint64_t)d->n * sizeof *d->at; }

/* queue_log_part.c: partitions and their chunks. */
struct part *part_find(struct queue_log *q, uint64_t topic, uint32_t partition);
struct part *part_get(struct queue_log *q, uint64_t topic, uint32_t partition);
void part_free(struct queue_log *q, struct part *p); /* its chunks too */
struct chunk *part_push(struct part *p);
uint32_t part_search(const struct part *p, uint64_t offset);            /* the first chunk that ends at or behind offset; n: none */
uint32_t part_search_id(const struct part *p, struct stream_id id);     /* the first whose last id is >= id; n: none */
struct chunk *part_at(const struct part *p, uint64_t base);             /* the one with that base, or NULL */
bool chunk_needed(const struct queue_log *q, const struct part *p, const struct chunk *c);
/* Frees what a chunk holds and counts it off everywhere; part_compact takes released ones of [from, to) out. */
void chunk_release(struct queue_log *q, struct part *p, struct chunk *c);
void part_compact(struct part *p, uint32_t from, uint32_t to);
void chunk_drop(struct queue_log *q, struct part *p, uint64_t base);

/* queue_log_write.c: files, what goes into them. */
struct log_file *file_find(struct queue_log *q, uint64_t number);
struct log_file *file_new(struct queue_log *q, uint64_t number);
void file_rest(struct queue_log *q, struct log_file *f); /* frees it when nothing refers to it */
void young_close(struct queue_log *q, struct young *y);
void young_write(struct queue_log *q, struct young *y);
void log_spill(struct queue_log *q);
void move_write(struct queue_log *q, struct part *p, const struct chunk *c, const struct chunk_data *d);
void write_forget(struct write *w); /* its chunk is gone: what it wrote is dead */
struct write *write_find(struct queue_log *q, uint64_t file, uint64_t at);

/* queue_log_tidy.c: chunks that are MOVING. */
void move_forget(struct queue_log *q, struct part *p, struct chunk *c);
void move_loaded(struct queue_log *q, struct part *p, struct chunk *c, const struct chunk_data *d);
void move_written(struct queue_log *q, struct part *p, struct chunk *c, const struct write *w, bool ok);

/* queue_log_read.c: the cache. */
uint64_t place_hash(uint64_t file, uint64_t at);
struct load *load_find(struct queue_log *q, uint64_t file, uint64_t at);
bool load_ask(struct queue_log *q, const struct part *p, const struct chunk *c, uint32_t max); /* false: so many are on their way */
void load_free(struct queue_log *q, struct load *l);
void cache_forget(struct queue_log *q, const struct chunk *c); /* STORED: it is gone, or moved */

void log_clear(struct queue_log *q); /* queue_log.c: as if new, with its options */

#endif
