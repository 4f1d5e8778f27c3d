/* struct metrics: the counters, gauges and histograms of one node, and their Prometheus text (exposition format 0.0.4).
 * Plain numbers without locks: a node counts in its own step only. What there is stands in metrics_table.h. */
#ifndef SYN_UTILS_METRICS_H
#define SYN_UTILS_METRICS_H

#include "utils/buf.h"
#include "utils/errors.h"
#include "utils/metrics_table.h"

enum metric_id {
#define X(id, type, name, labels, help) METRIC_##id,
    METRICS_TABLE(X)
#undef X
    METRIC_COUNT
};

enum metric_group_id {
#define X(id, name, help) METRIC_GROUP_##id,
    METRICS_GROUP_TABLE(X)
#undef X
    METRIC_GROUP_COUNT
};

enum metric_request_type {
#define X(id, value) METRIC_REQUEST_##id,
    METRICS_REQUEST_TYPES(X)
#undef X
    METRIC_REQUEST_COUNT
};

enum metric_lock_type {
#define X(id, value) METRIC_LOCK_##id,
    METRICS_LOCK_TYPES(X)
#undef X
    METRIC_LOCK_COUNT
};

enum metric_door {
#define X(id, value) METRIC_DOOR_##id,
    METRICS_DOORS(X)
#undef X
    METRIC_DOOR_COUNT
};

enum metric_transaction {
#define X(id, value) METRIC_TRANSACTION_##id,
    METRICS_TRANSACTIONS(X)
#undef X
    METRIC_TRANSACTION_COUNT
};

enum metric_state {
#define X(id, value) METRIC_STATE_##id,
    METRICS_STATES(X)
#undef X
    METRIC_STATE_COUNT
};

enum refused_reason {
#define X(id, value, what) REFUSED_##id,
    METRICS_REASONS(X)
#undef X
    REFUSED_COUNT
};

enum {
    METRIC_STATUS_COUNT = 2 + ERROR_WORD_COUNT, /* ok, each error word, any other error */
    METRIC_BOUNDS = 16,                         /* of a histogram; then +Inf, then the sum */
    METRIC_HISTOGRAM_CELLS = METRIC_BOUNDS + 2,
    METRIC_LABEL_CELLS_NONE = 1,
    METRIC_LABEL_CELLS_REQUEST = METRIC_REQUEST_COUNT,
    METRIC_LABEL_CELLS_REQUEST_STATUS = METRIC_REQUEST_COUNT * METRIC_STATUS_COUNT,
    METRIC_LABEL_CELLS_LOCK_TYPE = METRIC_LOCK_COUNT,
    METRIC_LABEL_CELLS_DOOR = METRIC_DOOR_COUNT,
    METRIC_LABEL_CELLS_TRANSACTION = METRIC_TRANSACTION_COUNT,
    METRIC_LABEL_CELLS_STATE = METRIC_STATE_COUNT,
    METRIC_LABEL_CELLS_REASON = REFUSED_COUNT,
    METRIC_TYPE_CELLS_COUNTER = 1,
    METRIC_TYPE_CELLS_GAUGE = 1,
    METRIC_TYPE_CELLS_SECONDS = METRIC_HISTOGRAM_CELLS, /* recorded in microseconds, shown in seconds */
    METRIC_TYPE_CELLS_AMOUNT = METRIC_HISTOGRAM_CELLS,
};

/* Where each metric's cells begin in struct metrics. */
enum metric_cell {
#define X(id, type, name, labels, help)                                                                              \
    METRIC_AT_##id,                                                                                                  \
    METRIC_AT_##id##_LAST = METRIC_AT_##id + METRIC_LABEL_CELLS_##labels * METRIC_TYPE_CELLS_##type - 1,
    METRICS_TABLE(X)
#undef X
    METRIC_CELLS
};

/* What the process costs; the driver fills it in now and then. All 0: process_* is left out. */
struct metrics_process {
    uint64_t cpu_us;
    uint64_t resident_bytes, virtual_bytes;
    uint64_t open_fds, max_fds;
    uint64_t started_wall_ms;
};

struct metrics_group {
    bool present;
    uint64_t values[METRIC_GROUP_COUNT];
};

struct metrics {
    uint64_t cells[METRIC_CELLS];
    struct metrics_group *groups; /* owned; groups_count of them, those not `present` are not shown */
    uint32_t groups_count;
    struct metrics_process process;
};

void metrics_init(struct metrics *m);
void metrics_fini(struct metrics *m);

/* Metrics without labels. set is for gauges, and for counters that mirror a count kept elsewhere. */
void metrics_add(struct metrics *m, enum metric_id id, uint64_t n);
void metrics_set(struct metrics *m, enum metric_id id, uint64_t value);
uint64_t metrics_get(const struct metrics *m, enum metric_id id);
/* Metrics with one label: `label` is the enum value of its set. */
void metrics_add_at(struct metrics *m, enum metric_id id, uint32_t label, uint64_t n);
void metrics_set_at(struct metrics *m, enum metric_id id, uint32_t label, uint64_t value);
uint64_t metrics_get_at(const struct metrics *m, enum metric_id id, uint32_t label);
/* One observation of a histogram: microseconds (type SECONDS) or a count of things (type AMOUNT). */
void metrics_observe_us(struct metrics *m, enum metric_id id, uint64_t us);
void metrics_observe(struct metrics *m, enum metric_id id, uint64_t amount);

/* Counts one refusal of input. */
void metrics_refused(struct metrics *m, enum refused_reason reason);
/* Counts an answered request; its status comes from the first word of `reply` (RESP) when that is an error. */
void metrics_request(struct metrics *m, enum metric_request_type type, slice_t reply, uint64_t latency_ms);

/* The gauges of a group that is replicated here; the first set makes it present. group < 2^20. */
void metrics_group_set(struct metrics *m, uint32_t group, enum metric_group_id id, uint64_t value);
void metrics_group_drop(struct metrics *m, uint32_t group); /* no longer replicated here */

/* Appends all of it in the text format, every synaxis_ sample with node_id="node". */
void metrics_render(const struct metrics *m, const char *node, struct buf *out);

/* The table, for the documentation and its check. */
struct metric_info {
    const char *type;   /* "counter", "gauge", "histogram" */
    const char *name;
    const char *labels; /* comma separated, without node_id; "" for none */
    const char *help;
};
extern const struct metric_info metrics_info[METRIC_COUNT];
extern const struct metric_info metrics_group_info[METRIC_GROUP_COUNT];
extern const struct metric_info metrics_reason_info[REFUSED_COUNT]; /* name: label value; help: what it is */

#endif
