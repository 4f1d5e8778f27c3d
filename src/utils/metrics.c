/* Counting and rendering of metrics; see metrics.h. Responsible for the numbers' places and their text; not for when
 * something counts, and not for serving it. A label's value comes from an enum of the table, never from a client, so the
 * number of series is bounded by the build and by GROUPS. */
#include "utils/metrics.h"

#include "utils/assert.h"

#include <stdlib.h>

enum metric_type { TYPE_COUNTER, TYPE_GAUGE, TYPE_SECONDS, TYPE_AMOUNT };
enum metric_labels { LABELS_NONE, LABELS_REQUEST, LABELS_REQUEST_STATUS, LABELS_LOCK_TYPE, LABELS_DOOR, LABELS_TRANSACTION, LABELS_STATE, LABELS_REASON };

static const char *const type_names[] = {"counter", "gauge", "histogram", "histogram"};

static const struct layout {
    enum metric_type type;
    enum metric_labels labels;
    uint32_t at;
    uint32_t label_cells;
} layouts[METRIC_COUNT] = {
#define X(id, type, name, labels, help) {TYPE_##type, LABELS_##labels, METRIC_AT_##id, METRIC_LABEL_CELLS_##labels},
    METRICS_TABLE(X)
#undef X
};

#define TYPE_NAME_COUNTER "counter"
#define TYPE_NAME_GAUGE "gauge"
#define TYPE_NAME_SECONDS "histogram"
#define TYPE_NAME_AMOUNT "histogram"
#define LABEL_NAMES_NONE ""
#define LABEL_NAMES_REQUEST "request_type"
#define LABEL_NAMES_REQUEST_STATUS "request_type, status"
#define LABEL_NAMES_LOCK_TYPE "lock_type"
#define LABEL_NAMES_DOOR "door"
#define LABEL_NAMES_TRANSACTION "transaction"
#define LABEL_NAMES_STATE "state"
#define LABEL_NAMES_REASON "reason"

const struct metric_info metrics_info[METRIC_COUNT] = {
#define X(id, type, name, labels, help) {TYPE_NAME_##type, name, LABEL_NAMES_##labels, help},
    METRICS_TABLE(X)
#undef X
};

const struct metric_info metrics_group_info[METRIC_GROUP_COUNT] = {
#define X(id, name, help) {"gauge", name, "group", help},
    METRICS_GROUP_TABLE(X)
#undef X
};

const struct metric_info metrics_reason_info[REFUSED_COUNT] = {
#define X(id, value, what) {"", value, "", what},
    METRICS_REASONS(X)
#undef X
};

#define X(id, value) value,
static const char *const request_values[] = {METRICS_REQUEST_TYPES(X)};
static const char *const lock_values[] = {METRICS_LOCK_TYPES(X)};
static const char *const door_values[] = {METRICS_DOORS(X)};
static const char *const transaction_values[] = {METRICS_TRANSACTIONS(X)};
static const char *const state_values[] = {METRICS_STATES(X)};
#undef X

/* Upper bounds of the buckets; the last bucket, +Inf, follows. */
static const uint64_t bounds_us[METRIC_BOUNDS] = {100,   250,    500,    1000,   2500,    5000,    10000,   25000,
                                                  50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000};
static const char *const bounds_us_text[METRIC_BOUNDS] = {"0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005",
                                                          "0.01",   "0.025",   "0.05",   "0.1",   "0.25",   "0.5",
                                                          "1",      "2.5",     "5",      "10"};

void metrics_init(struct metrics *m)
{
    *m = (struct metrics){0};
}

void metrics_fini(struct metrics *m)
{
    free(m->groups);
    *m = (struct metrics){0};
}

static uint32_t cell_of(enum metric_id id, uint32_t label)
{
    syn_assert(id < METRIC_COUNT && label < layouts[id].label_cells);
    syn_assert(layouts[id].type == TYPE_COUNTER || layouts[id].type == TYPE_GAUGE);
    return layouts[id].at + label;
}

void metrics_add_at(struct metrics *m, enum metric_id id, uint32_t label, uint64_t n)
{
    m->cells[cell_of(id, label)] += n;
}

void metrics_set_at(struct metrics *m, enum metric_id id, uint32_t label, uint64_t value)
{
    m->cells[cell_of(id, label)] = value;
}

uint64_t metrics_get_at(const struct metrics *m, enum metric_id id, uint32_t label)
{
    return m->cells[cell_of(id, label)];
}

void metrics_add(struct metrics *m, enum metric_id id, uint64_t n)
{
    syn_assert(layouts[id].labels == LABELS_NONE);
    metrics_add_at(m, id, 0, n);
}

void metrics_set(struct metrics *m, enum metric_id id, uint64_t value)
{
    syn_assert(layouts[id].labels == LABELS_NONE);
    metrics_set_at(m, id, 0, value);
}

uint64_t metrics_get(const struct metrics *m, enum metric_id id)
{
    syn_assert(layouts[id].labels == LABELS_NONE);
    return metrics_get_at(m, id, 0);
}

static uint64_t bound_of(enum metric_type type, uint32_t i)
{
    return type == TYPE_SECONDS ? bounds_us[i] : (uint64_t)1 << i;
}

static void observe(struct metrics *m, enum metric_id id, uint32_t label, uint64_t value)
{
    const struct layout *l = &layouts[id];
    syn_assert(label < l->label_cells);
    uint64_t *cells = &m->cells[l->at + label * METRIC_HISTOGRAM_CELLS];
    uint32_t i = 0;
    while (i < METRIC_BOUNDS && value > bound_of(l->type, i)) {
        i++;
    }
    cells[i]++;
    cells[METRIC_BOUNDS + 1] += value;
}

void metrics_observe_us(struct metrics *m, enum metric_id id, uint64_t us)
{
    syn_assert(layouts[id].type == TYPE_SECONDS && layouts[id].labels == LABELS_NONE);
    observe(m, id, 0, us);
}

void metrics_observe(struct metrics *m, enum metric_id id, uint64_t amount)
{
    syn_assert(layouts[id].type == TYPE_AMOUNT && layouts[id].labels == LABELS_NONE);
    observe(m, id, 0, amount);
}

void metrics_refused(struct metrics *m, enum refused_reason reason)
{
    metrics_add_at(m, METRIC_REFUSED_TOTAL, reason, 1);
}

/* Statuses: 0 ok, then the error words, then any other error. */
static uint32_t status_of(slice_t reply)
{
    enum error_word word;
    if (reply.len == 0 || reply.ptr[0] != '-') {
        return 0;
    }
    return error_find(reply, &word) ? 1 + (uint32_t)word : METRIC_STATUS_COUNT - 1;
}

void metrics_request(struct metrics *m, enum metric_request_type type, slice_t reply, uint64_t latency_ms)
{
    syn_assert(type < METRIC_REQUEST_COUNT);
    metrics_add_at(m, METRIC_REQUESTS_TOTAL, type * METRIC_STATUS_COUNT + status_of(reply), 1);
    observe(m, METRIC_REQUEST_LATENCY_SECONDS, type, latency_ms * 1000);
}

void metrics_group_set(struct metrics *m, uint32_t group, enum metric_group_id id, uint64_t value)
{
    syn_assert(id < METRIC_GROUP_COUNT && group < 1u << 20);
    if (group >= m->groups_count) {
        uint32_t count = group + 1 > m->groups_count * 2 ? group + 1 : m->groups_count * 2;
        struct metrics_group *groups = realloc(m->groups, count * sizeof *groups);
        syn_assert(groups != NULL);
        memset(groups + m->groups_count, 0, (count - m->groups_count) * sizeof *groups);
        m->groups = groups;
        m->groups_count = count;
    }
    m->groups[group].present = true;
    m->groups[group].values[id] = value;
}

void metrics_group_drop(struct metrics *m, uint32_t group)
{
    if (group < m->groups_count) {
        m->groups[group] = (struct metrics_group){0};
    }
}

static void put_lower(struct buf *out, const char *s)
{
    for (; *s != '\0'; s++) {
        buf_put_u8(out, (uint8_t)(*s >= 'A' && *s <= 'Z' ? *s + 32 : *s));
    }
}

/* A label's value: backslash, quote and newline escaped (exposition format 0.0.4). */
static void put_value(struct buf *out, const char *s)
{
    for (; *s != '\0'; s++) {
        if (*s == '\\' || *s == '"') {
            buf_put_u8(out, '\\');
        }
        buf_append_str(out, *s == '\n' ? "\\n" : (char[2]){*s, '\0'});
    }
}

static void put_status(struct buf *out, uint32_t status)
{
    if (status == 0) {
        buf_append_str(out, "ok");
    } else if (status == METRIC_STATUS_COUNT - 1) {
        buf_append_str(out, "other");
    } else {
        put_lower(out, error_table[status - 1].word);
    }
}

static void put_labels(struct buf *out, const char *node, enum metric_labels labels, uint32_t label)
{
    buf_append_str(out, "{node_id=\"");
    put_value(out, node);
    buf_append_str(out, "\"");
    switch (labels) {
    case LABELS_NONE: break;
    case LABELS_REQUEST: buf_printf(out, ",request_type=\"%s\"", request_values[label]); break;
    case LABELS_REQUEST_STATUS:
        buf_printf(out, ",request_type=\"%s\",status=\"", request_values[label / METRIC_STATUS_COUNT]);
        put_status(out, label % METRIC_STATUS_COUNT);
        buf_append_str(out, "\"");
        break;
    case LABELS_LOCK_TYPE: buf_printf(out, ",lock_type=\"%s\"", lock_values[label]); break;
    case LABELS_DOOR: buf_printf(out, ",door=\"%s\"", door_values[label]); break;
    case LABELS_TRANSACTION: buf_printf(out, ",transaction=\"%s\"", transaction_values[label]); break;
    case LABELS_STATE: buf_printf(out, ",state=\"%s\"", state_values[label]); break;
    case LABELS_REASON: buf_printf(out, ",reason=\"%s\"", metrics_reason_info[label].name); break;
    }
}

static void put_head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_seconds(struct buf *out, uint64_t us)
{
    buf_printf(out, "%llu.%06llu\n", (unsigned long long)(us / 1000000), (unsigned long long)(us % 1000000));
}

static void put_u64(struct buf *out, uint64_t v)
{
    buf_printf(out, "%llu\n", (unsigned long long)v);
}

static void render_histogram(const struct metrics *m, enum metric_id id, uint32_t label, const char *node, struct buf *out)
{
    const struct layout *l = &layouts[id];
    const uint64_t *cells = &m->cells[l->at + label * METRIC_HISTOGRAM_CELLS];
    const char *name = metrics_info[id].name;
    uint64_t below = 0;
    for (uint32_t i = 0; i <= METRIC_BOUNDS; i++) {
        below += cells[i];
        buf_printf(out, "%s_bucket", name);
        put_labels(out, node, l->labels, label);
        if (i == METRIC_BOUNDS) {
            buf_append_str(out, ",le=\"+Inf\"} ");
        } else if (l->type == TYPE_SECONDS) {
            buf_printf(out, ",le=\"%s\"} ", bounds_us_text[i]);
        } else {
            buf_printf(out, ",le=\"%llu\"} ", (unsigned long long)bound_of(l->type, i));
        }
        put_u64(out, below);
    }
    buf_printf(out, "%s_sum", name);
    put_labels(out, node, l->labels, label);
    buf_append_str(out, "} ");
    if (l->type == TYPE_SECONDS) {
        put_seconds(out, cells[METRIC_BOUNDS + 1]);
    } else {
        put_u64(out, cells[METRIC_BOUNDS + 1]);
    }
    buf_printf(out, "%s_count", name);
    put_labels(out, node, l->labels, label);
    buf_append_str(out, "} ");
    put_u64(out, below);
}

/* Of requests by status only what has happened: most of the combinations never do. */
static bool shown(const struct metrics *m, const struct layout *l, uint32_t label)
{
    return l->labels != LABELS_REQUEST_STATUS || label % METRIC_STATUS_COUNT == 0 || m->cells[l->at + label] > 0;
}

static void render_metric(const struct metrics *m, enum metric_id id, const char *node, struct buf *out)
{
    const struct layout *l = &layouts[id];
    put_head(out, metrics_info[id].name, type_names[l->type], metrics_info[id].help);
    for (uint32_t label = 0; label < l->label_cells; label++) {
        if (l->type == TYPE_SECONDS || l->type == TYPE_AMOUNT) {
            render_histogram(m, id, label, node, out);
        } else if (shown(m, l, label)) {
            buf_append_str(out, metrics_info[id].name);
            put_labels(out, node, l->labels, label);
            buf_append_str(out, "} ");
            put_u64(out, m->cells[l->at + label]);
        }
    }
}

static void render_groups(const struct metrics *m, const char *node, struct buf *out)
{
    for (int id = 0; id < METRIC_GROUP_COUNT; id++) {
        const struct metric_info *info = &metrics_group_info[id];
        put_head(out, info->name, info->type, info->help);
        for (uint32_t g = 0; g < m->groups_count; g++) {
            if (m->groups[g].present) {
                buf_append_str(out, info->name);
                put_labels(out, node, LABELS_NONE, 0);
                buf_printf(out, ",group=\"%u\"} ", g);
                put_u64(out, m->groups[g].values[id]);
            }
        }
    }
}

static void render_process(const struct metrics_process *p, struct buf *out)
{
    const struct { const char *name, *help; uint64_t value; } gauges[] = {
        {"process_resident_memory_bytes", "Resident memory size in bytes.", p->resident_bytes},
        {"process_virtual_memory_bytes", "Virtual memory size in bytes.", p->virtual_bytes},
        {"process_open_fds", "Number of open file descriptors.", p->open_fds},
        {"process_max_fds", "Maximum number of open file descriptors.", p->max_fds},
        {"process_start_time_seconds", "Start time of the process since the Unix epoch.", p->started_wall_ms / 1000},
    };
    if (p->started_wall_ms == 0) {
        return;
    }
    put_head(out, "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.");
    buf_append_str(out, "process_cpu_seconds_total ");
    put_seconds(out, p->cpu_us);
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++) {
        put_head(out, gauges[i].name, "gauge", gauges[i].help);
        buf_printf(out, "%s %llu\n", gauges[i].name, (unsigned long long)gauges[i].value);
    }
}

void metrics_render(const struct metrics *m, const char *node, struct buf *out)
{
    put_head(out, "synaxis_build_info", "gauge", "1; the version of the program is a label.");
    buf_append_str(out, "synaxis_build_info");
    put_labels(out, node, LABELS_NONE, 0);
    buf_printf(out, ",version=\"%s\"} 1\n", SYNAXIS_VERSION);
    for (int id = 0; id < METRIC_COUNT; id++) {
        render_metric(m, (enum metric_id)id, node, out);
    }
    render_groups(m, node, out);
    render_process(&m->process, out);
}
