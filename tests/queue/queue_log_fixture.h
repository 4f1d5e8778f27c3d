/* What the tests of queue_log share: a store on a fake disk, and messages that can be told from their offsets. */
#ifndef SYN_TESTS_QUEUE_LOG_FIXTURE_H
#define SYN_TESTS_QUEUE_LOG_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "fake_backlog.h"

/* A body of 125 bytes makes a record of 150; chunks of 1,536 bytes hold ten and are three sectors. */
enum { BODY = 125, RECORD = 25 + BODY, TOPIC = 7, HEAD = 36, CHUNK = HEAD + 10 * RECORD };
extern const struct queue_log_options SIZES;
extern struct fake_backlog disk;

int setup(void **state);
int teardown(void **state);
void append(uint32_t partition, uint64_t offset);
void append_range(uint32_t partition, uint64_t from, uint64_t to);
void assert_message(const struct queue_message *m, uint32_t partition, uint64_t offset);
enum queue_log_got get(uint32_t partition, uint64_t offset);                /* and it is the right message */
void assert_readable(uint32_t partition, uint64_t from, uint64_t to);       /* loading what must be loaded */
void write_backlog(uint32_t partition, uint64_t from, uint64_t to);         /* appended, and all of it in files */
uint32_t count_files(void);

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
