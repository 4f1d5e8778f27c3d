/* A disk for queue_log in memory: writes and reads wait until a test answers them. */
#ifndef SYN_TESTS_FAKE_BACKLOG_H
#define SYN_TESTS_FAKE_BACKLOG_H

#include "nodes/queue/queue_log.h"

enum { FAKE_FILES = 4096, FAKE_QUEUE = 4096 };

struct fake_file { uint64_t number; struct buf bytes; uint64_t issued; bool failed, gone; };
struct fake_request { uint64_t file, offset, seq; uint32_t bytes; struct buf data; };

struct fake_backlog {
    struct queue_log *q;
    struct fake_file files[FAKE_FILES];
    uint32_t n_files;
    struct fake_request writes[FAKE_QUEUE], reads[FAKE_QUEUE]; /* first in, first out */
    uint32_t n_writes, n_reads;
    uint64_t write_seq, written_seq; /* of the newest issued, of the newest answered */
    uint64_t all_writes, all_reads, failed_writes;
    uint64_t needed_from;            /* default of `needed`: anything at or behind this offset */
    bool (*needed)(struct fake_backlog *b, uint64_t topic, uint32_t partition, uint64_t from, uint64_t to); /* NULL: needed_from */
    void *arg;
};

void fake_init(struct fake_backlog *b, const struct queue_log_options *sizes);
void fake_restart(struct fake_backlog *b, const struct queue_log_options *sizes); /* a new, empty queue_log on the same files */
void fake_fini(struct fake_backlog *b);
struct fake_file *fake_file(struct fake_backlog *b, uint64_t number); /* NULL: not there */
/* Answers the oldest; false: none waits. */
bool fake_write(struct fake_backlog *b, bool ok);
bool fake_read(struct fake_backlog *b, bool ok, bool flip);
void fake_write_all(struct fake_backlog *b);
void fake_read_all(struct fake_backlog *b);

#endif
