/* A group's messages on this node: queue_log's reads and writes as effects, and what snapshots say of it.
 *
 * Not responsible for what is kept where (queue_log.c) nor for files (storage/backlog.c). A backlog file is removed only when neither this
 * node's queue_log nor the newest durable snapshot of the group names it. */
#include "nodes/node_internal.h"

#include "utils/hash.h"

enum { FILE_NUMBERS_BITS = 20 };

static void on_write(void *arg, uint64_t file, uint64_t offset, struct buf *take_data)
{
    struct group_queue *q = arg;
    struct effect *e = effects_add(q->n->fx, EF_BACKLOG_WRITE);
    e->group = q->group;
    e->index = file;
    e->offset = offset;
    buf_swap(&e->data, take_data);
}

static void on_read(void *arg, uint64_t file, uint64_t offset, uint32_t bytes)
{
    struct group_queue *q = arg;
    struct effect *e = effects_add(q->n->fx, EF_BACKLOG_READ);
    e->group = q->group;
    e->index = file;
    e->offset = offset;
    e->value = bytes;
}

static bool on_needed(void *arg, uint64_t topic, uint32_t partition, uint64_t from, uint64_t to)
{
    struct group_queue *q = arg;
    return queue_sm_needs(q->sm, topic, partition, from, to);
}

/* Numbers of files are unique among all nodes, starts and instances: a replica takes over another's files under their names. */
struct queue_log *queue_log_make(struct node *n, struct node_group *g, struct group_queue *q)
{
    uint64_t base = hash_u64(n->origin ^ hash_u64((uint64_t)g->id << 32 | ++g->q.logs_made));
    struct queue_log_options o = {
        .chunk_bytes = n->opt.queue_chunk_bytes,
        .young_bytes = n->opt.queue_young_bytes,
        .cache_bytes = n->opt.queue_cache_bytes,
        .file_bytes = n->opt.queue_file_bytes,
        .arg = q,
        .file_base = (base >> FILE_NUMBERS_BITS << FILE_NUMBERS_BITS) + 1,
        .write = on_write,
        .read = on_read,
        .needed = on_needed,
    };
    return queue_log_new(&o);
}

void queue_backlog_written(struct node *n, struct node_group *g, const struct event *ev)
{
    queue_log_written(g->q.log, ev->index, ev->offset, ev->ok);
    group_weigh(n, g);
}

void queue_backlog_loaded(struct node *n, struct node_group *g, const struct event *ev)
{
    queue_log_loaded(g->q.log, ev->index, ev->offset, ev->data, ev->ok);
    fills_go_on(n, g);
}

void queue_backlog_keep(struct node *n, struct node_group *g)
{
    struct effect *e = effects_add(n->fx, EF_BACKLOG_KEEP);
    e->group = g->id;
    queue_log_files(g->q.log, &e->data);
}

/* The small parts, written whole: they come before the state machines' own pieces. */
void queue_snapshot_begin(struct node *n, struct node_group *g)
{
    struct group_queue *q = &g->q;
    (void)n;
    buf_clear(&q->side);
    buf_clear(&q->files);
    q->side_at = 0;
    q->attached = false;
    struct buf part = {0};
    if (q->topics != NULL) {
        topics_save(q->topics, &part);
    }
    buf_put_bytes(&q->side, buf_slice(&part));
    buf_clear(&part);
    queue_log_snapshot(q->log, &part, &q->files);
    buf_put_bytes(&q->side, buf_slice(&part));
    buf_fini(&part);
    queue_sm_snapshot_begin(q->sm);
}

void queue_snapshot_abort(struct node_group *g)
{
    queue_sm_snapshot_abort(g->q.sm);
    buf_fini(&g->q.side);
    buf_fini(&g->q.files);
}
