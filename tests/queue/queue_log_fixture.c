/* What the tests of queue_log share; see queue_log_fixture.h. */
#include "queue_log_fixture.h"

const struct queue_log_options SIZES = {.file_base = 100, .chunk_bytes = CHUNK, .young_bytes = 4 * CHUNK, .cache_bytes = 4 * (CHUNK + 40), .file_bytes = 4 * CHUNK};

struct fake_backlog disk;

int setup(void **state)
{
    (void)state;
    fake_init(&disk, &SIZES);
    return 0;
}

int teardown(void **state)
{
    (void)state;
    queue_log_check(disk.q);
    fake_fini(&disk);
    return 0;
}

static void body_of(uint32_t partition, uint64_t offset, uint8_t body[BODY])
{
    memset(body, (int)(offset % 251), BODY);
    le64_put(body, offset);
    le32_put(body + 8, partition);
}

void append(uint32_t partition, uint64_t offset)
{
    uint8_t body[BODY];
    body_of(partition, offset, body);
    struct queue_appended m = {.topic = TOPIC, .partition = partition, .offset = offset, .id = {1000 + offset / 4, offset % 4},
                               .flags = (uint8_t)(offset % 3), .body = slice_of(body, BODY)};
    queue_log_append(disk.q, &m);
    queue_log_check(disk.q);
}

void append_range(uint32_t partition, uint64_t from, uint64_t to)
{
    for (uint64_t o = from; o < to; o++) {
        append(partition, o);
    }
}

void assert_message(const struct queue_message *m, uint32_t partition, uint64_t offset)
{
    uint8_t body[BODY];
    body_of(partition, offset, body);
    assert_int_equal(m->offset, offset);
    assert_int_equal(m->id.ms, 1000 + offset / 4);
    assert_int_equal(m->id.seq, offset % 4);
    assert_int_equal(m->flags, offset % 3);
    assert_true(slice_eq(m->body, slice_of(body, BODY)));
}

enum queue_log_got get(uint32_t partition, uint64_t offset)
{
    struct queue_message m;
    enum queue_log_got got = queue_log_get(disk.q, TOPIC, partition, offset, &m);
    if (got == QUEUE_LOG_OK) {
        assert_message(&m, partition, offset);
    }
    return got;
}

void assert_readable(uint32_t partition, uint64_t from, uint64_t to)
{
    for (uint64_t o = from; o < to; o++) {
        enum queue_log_got got = get(partition, o);
        if (got == QUEUE_LOG_LOADING) {
            fake_read_all(&disk);
            got = get(partition, o);
        }
        assert_int_equal(got, QUEUE_LOG_OK);
    }
    queue_log_check(disk.q);
}

uint32_t count_files(void)
{
    struct buf b = {0};
    queue_log_files(disk.q, &b);
    uint32_t n = (uint32_t)(b.len / 8);
    buf_fini(&b);
    return n;
}

void write_backlog(uint32_t partition, uint64_t from, uint64_t to)
{
    struct buf table = {0}, files = {0};
    append_range(partition, from, to);
    queue_log_snapshot(disk.q, &table, &files);
    fake_write_all(&disk);
    assert_int_equal(queue_log_young_bytes(disk.q), 0);
    buf_fini(&table);
    buf_fini(&files);
}
