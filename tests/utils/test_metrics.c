/* Metrics: counts land in their own cells, histograms add up, the text is what Prometheus' own checker accepts. */
#include "test.h"

#include "utils/metrics.h"

static struct metrics m;

static bool has(const struct buf *b, const char *text)
{
    return memmem(b->ptr, b->len, text, strlen(text)) != NULL;
}

static void fill(void)
{
    metrics_init(&m);
    metrics_request(&m, METRIC_REQUEST_WRITE, SLICE_LIT("+OK\r\n"), 3);
    metrics_request(&m, METRIC_REQUEST_WRITE, SLICE_LIT("-LOCKED held by a\r\n"), 0);
    metrics_request(&m, METRIC_REQUEST_READ, SLICE_LIT("-WHATEVER x\r\n"), 60000);
    metrics_refused(&m, REFUSED_SNAPSHOT);
    metrics_set_at(&m, METRIC_ACTIVE_LOCKS, METRIC_LOCK_SHARED, 7);
    metrics_set_at(&m, METRIC_ACTIVE_LOCKS, METRIC_LOCK_EXCLUSIVE, 9);
    metrics_set_at(&m, METRIC_CACHE_BUS_TRANSACTIONS_TOTAL, METRIC_TRANSACTION_UPGR, 4);
    metrics_set_at(&m, METRIC_CACHE_LINES, METRIC_STATE_MF, 5);
    metrics_add(&m, METRIC_BYTES_IN_TOTAL, 1000);
    metrics_observe_us(&m, METRIC_WAL_FSYNC_SECONDS, 100);
    metrics_observe_us(&m, METRIC_WAL_FSYNC_SECONDS, 101);
    metrics_observe_us(&m, METRIC_WAL_FSYNC_SECONDS, 20000000);
    metrics_observe(&m, METRIC_CONSENSUS_BATCH_ENTRIES, 0);
    metrics_observe(&m, METRIC_CONSENSUS_BATCH_ENTRIES, 32768);
    metrics_observe(&m, METRIC_CONSENSUS_BATCH_ENTRIES, 32769);
    metrics_group_set(&m, 3, METRIC_GROUP_TERM, 12);
    metrics_group_set(&m, 3, METRIC_GROUP_ROLE, 3);
    metrics_group_set(&m, 900, METRIC_GROUP_TERM, 2);
    m.process = (struct metrics_process){1500000, 1 << 20, 1 << 30, 12, 1024, 1700000000000};
}

static void counts_are_shown_under_their_labels(void **state)
{
    (void)state;
    struct buf b = {0};
    fill();
    metrics_group_drop(&m, 900);
    metrics_render(&m, "n1", &b);
    static const char *const lines[] = {
        "synaxis_requests_total{node_id=\"n1\",request_type=\"write\",status=\"ok\"} 1\n",
        "synaxis_requests_total{node_id=\"n1\",request_type=\"write\",status=\"locked\"} 1\n",
        "synaxis_requests_total{node_id=\"n1\",request_type=\"read\",status=\"other\"} 1\n",
        "synaxis_requests_total{node_id=\"n1\",request_type=\"admin\",status=\"ok\"} 0\n",
        "synaxis_request_latency_seconds_bucket{node_id=\"n1\",request_type=\"write\",le=\"0.0025\"} 1\n",
        "synaxis_request_latency_seconds_bucket{node_id=\"n1\",request_type=\"write\",le=\"0.005\"} 2\n",
        "synaxis_request_latency_seconds_sum{node_id=\"n1\",request_type=\"write\"} 0.003000\n",
        "synaxis_request_latency_seconds_count{node_id=\"n1\",request_type=\"read\"} 1\n",
        "synaxis_refused_total{node_id=\"n1\",reason=\"snapshot\"} 1\n",
        "synaxis_refused_total{node_id=\"n1\",reason=\"resp\"} 0\n",
        "synaxis_active_locks{node_id=\"n1\",lock_type=\"shared\"} 7\n",
        "synaxis_active_locks{node_id=\"n1\",lock_type=\"exclusive\"} 9\n",
        "synaxis_cache_bus_transactions_total{node_id=\"n1\",transaction=\"BusUpgr\"} 4\n",
        "synaxis_cache_bus_transactions_total{node_id=\"n1\",transaction=\"write\"} 0\n",
        "synaxis_cache_served_transactions_total{node_id=\"n1\",transaction=\"Flush\"} 0\n",
        "synaxis_cache_lines{node_id=\"n1\",state=\"MF\"} 5\n",
        "synaxis_cache_lines{node_id=\"n1\",state=\"I\"} 0\n",
        "synaxis_wal_fsync_seconds_bucket{node_id=\"n1\",le=\"0.0001\"} 1\n",
        "synaxis_wal_fsync_seconds_bucket{node_id=\"n1\",le=\"0.00025\"} 2\n",
        "synaxis_wal_fsync_seconds_bucket{node_id=\"n1\",le=\"10\"} 2\n",
        "synaxis_wal_fsync_seconds_bucket{node_id=\"n1\",le=\"+Inf\"} 3\n",
        "synaxis_wal_fsync_seconds_sum{node_id=\"n1\"} 20.000201\n",
        "synaxis_consensus_batch_entries_bucket{node_id=\"n1\",le=\"32768\"} 2\n",
        "synaxis_consensus_batch_entries_bucket{node_id=\"n1\",le=\"+Inf\"} 3\n",
        "synaxis_consensus_term{node_id=\"n1\",group=\"3\"} 12\n",
        "process_cpu_seconds_total 1.500000\n",
        "synaxis_build_info{node_id=\"n1\",version=\"",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (!has(&b, lines[i])) {
            fail_msg("missing: %s", lines[i]);
        }
    }
    assert_false(has(&b, "group=\"900\""));
    assert_false(has(&b, "group=\"0\""));
    assert_false(has(&b, "request_type=\"admin\",status=\"locked\""));
    buf_fini(&b);
    metrics_fini(&m);
}

static void every_cell_belongs_to_one_metric(void **state)
{
    (void)state;
    metrics_init(&m);
    for (int r = 0; r < REFUSED_COUNT; r++) {
        metrics_refused(&m, (enum refused_reason)r);
    }
    for (int i = 0; i < METRIC_CELLS; i++) {
        bool refused = i >= METRIC_AT_REFUSED_TOTAL && i <= METRIC_AT_REFUSED_TOTAL_LAST;
        assert_int_equal(m.cells[i], refused ? 1 : 0);
    }
    assert_int_equal(metrics_get_at(&m, METRIC_REFUSED_TOTAL, REFUSED_RESP), 1);
    metrics_set(&m, METRIC_LOG_LINES_HELD_BACK_TOTAL, 5);
    assert_int_equal(m.cells[METRIC_CELLS - 1], 5);
    metrics_fini(&m);
}

static void a_name_cannot_break_the_text(void **state)
{
    (void)state;
    struct buf b = {0};
    metrics_init(&m);
    metrics_render(&m, "a\"b\\c\nd", &b);
    assert_true(has(&b, "{node_id=\"a\\\"b\\\\c\\nd\"}"));
    buf_fini(&b);
    metrics_fini(&m);
}

/* Runs only where promtool is installed (Debian: prometheus). */
static void promtool_accepts_the_text(void **state)
{
    (void)state;
    if (system("command -v promtool >/dev/null 2>&1") != 0) {
        print_message("promtool is not installed: skipped\n");
        return;
    }
    struct buf b = {0};
    fill();
    metrics_render(&m, "n1", &b);
    FILE *pipe = popen("promtool check metrics", "w");
    assert_non_null(pipe);
    assert_int_equal(fwrite(b.ptr, 1, b.len, pipe), b.len);
    assert_int_equal(pclose(pipe), 0);
    buf_fini(&b);
    metrics_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_shown_under_their_labels),
        cmocka_unit_test(every_cell_belongs_to_one_metric),
        cmocka_unit_test(a_name_cannot_break_the_text),
        cmocka_unit_test(promtool_accepts_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
