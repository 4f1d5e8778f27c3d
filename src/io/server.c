/* Start and stop of a node's process: settings, directory, store, doors; and the refusals of each with one line that says why. */
#include "io/server.h"

#include "io/files_posix.h"
#include "io/shell.h"
#include "nodes/queue/queue_log_verify.h"
#include "storage/store.h"
#include "utils/assert.h"
#include "utils/config.h"
#include "utils/hash.h"
#include "utils/prng.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXIT_USAGE = 2, EXIT_DATA = 65, EXIT_UNAVAILABLE = 69, EXIT_IO = 74, SEGMENT_BYTES = 16 * 1024 * 1024, CONFIG_FILE_BYTES_MAX = 1024 * 1024 };
static const uint64_t MIB = 1024 * 1024;

extern char **environ;

static bool read_file(void *arg, const char *path, struct buf *out, const char **why)
{
    (void)arg;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        *why = strerror(errno);
        return false;
    }
    ssize_t n;
    do {
        n = read(fd, buf_reserve(out, 4096), 4096);
        out->len += n > 0 ? (size_t)n : 0;
    } while (n > 0 && out->len < CONFIG_FILE_BYTES_MAX);
    close(fd);
    *why = n < 0 ? strerror(errno) : "the file is larger than 1 MiB";
    return n == 0;
}

static void write_line(void *arg, enum log_level level, slice_t line)
{
    (void)arg;
    (void)level;
    size_t at = 0;
    while (at < line.len) {
        ssize_t n = write(STDERR_FILENO, line.ptr + at, line.len - at);
        if (n < 0 && errno != EINTR) {
            return;
        }
        at += n > 0 ? (size_t)n : 0;
    }
}

static int say(const struct buf *text, int code)
{
    fprintf(stderr, "synaxis: %.*s\n", (int)text->len, (const char *)text->ptr);
    return code;
}

/* What must be equal on all nodes of a cluster: GROUPS, CONSENSUS_TYPE and the settings of the ring. Not the members: they change. */
static uint64_t cluster_key(const struct config *c)
{
    uint64_t sum = hash_u64(config_number(c, SETTING_GROUPS));
    sum = hash_u64(sum ^ config_number(c, SETTING_VIRTUAL_NODES));
    sum = hash_u64(sum ^ config_number(c, SETTING_CACHE_LEASE)); /* what one grants, all rely on */
    sum = hash_bytes(sum, slice_str(config_text(c, SETTING_CACHE_WRITE_POLICY)));
    return hash_bytes(sum, slice_str(config_text(c, SETTING_CONSENSUS_TYPE)));
}

static uint64_t random_u64(void)
{
    uint64_t v;
    ssize_t n = getrandom(&v, sizeof v, 0);
    syn_assert(n == sizeof v);
    return v;
}

/* Entries since the last snapshot, entries kept behind it and young messages: a share of a quarter each, over all groups. */
static void messages_memory(struct node_options *o)
{
    uint64_t all = (uint64_t)o->groups * MIB > 80 * MIB ? (uint64_t)o->groups * MIB : 80 * MIB;
    uint64_t share = all / 4 / o->groups;
    o->held_bytes_max = all;
    o->snapshot_log_bytes = o->queue_young_bytes = share < 4 * MIB ? share : 4 * MIB;
}

static void node_options_of(const struct config *c, struct node_options *o)
{
    memset(o, 0, sizeof *o);
    const struct config_member *self = config_self(c);
    o->self = self->id;
    o->seed = random_u64();
    o->n_members = c->n_members;
    for (uint32_t i = 0; i < c->n_members; i++) {
        o->members[i].id = c->members[i].id;
        memcpy(o->members[i].name, c->members[i].name, sizeof o->members[i].name);
        memcpy(o->members[i].host, c->members[i].host, sizeof o->members[i].host);
        o->members[i].peer_port = c->members[i].port;
    }
    o->groups = (uint32_t)config_number(c, SETTING_GROUPS);
    o->replication_factor = (uint32_t)config_number(c, SETTING_REPLICATION_FACTOR);
    o->virtual_nodes = (uint32_t)config_number(c, SETTING_VIRTUAL_NODES);
    o->election_ms_min = (uint32_t)config_number(c, SETTING_ELECTION_TIMEOUT_MIN);
    o->election_ms_max = (uint32_t)config_number(c, SETTING_ELECTION_TIMEOUT_MAX);
    o->heartbeat_ms = (uint32_t)config_number(c, SETTING_HEARTBEAT_INTERVAL);
    o->request_timeout_ms = (uint32_t)config_number(c, SETTING_REQUEST_TIMEOUT);
    o->max_retries = (uint32_t)config_number(c, SETTING_MAX_RETRIES);
    o->lock_ttl_ms = config_number(c, SETTING_LOCK_TTL);
    o->num_partitions = (uint32_t)config_number(c, SETTING_NUM_PARTITIONS);
    o->max_deliver = (uint32_t)config_number(c, SETTING_MAX_DELIVERY_ATTEMPTS);
    o->ack_timeout_ms = config_number(c, SETTING_ACK_TIMEOUT);
    o->resp_port = (uint16_t)config_number(c, SETTING_RESP_PORT);
    o->http_port = (uint16_t)config_number(c, SETTING_NODE_PORT);
    messages_memory(o);
    o->cache_back = strcmp(config_text(c, SETTING_CACHE_WRITE_POLICY), "back") == 0;
    o->cache_s3fifo = strcmp(config_text(c, SETTING_CACHE_POLICY), "s3fifo") == 0;
    uint64_t size = config_number(c, SETTING_CACHE_SIZE);
    bool bytes = config_is_bytes(c, SETTING_CACHE_SIZE);
    o->cache_bytes = bytes ? size : 0;
    o->cache_entries = bytes ? 0 : size;
    o->cache_memory_bytes = config_number(c, SETTING_CACHE_MEMORY);
    o->cache_lease_ms = config_number(c, SETTING_CACHE_LEASE);
    o->cache_flush_ms = config_number(c, SETTING_CACHE_FLUSH_INTERVAL);
    o->queue_cache_bytes = 2 * 1024 * 1024;
    o->cluster_key = cluster_key(c);
    snprintf(o->client_host, sizeof o->client_host, "%s", self->host);
    snprintf(o->requirepass, sizeof o->requirepass, "%s", config_text(c, SETTING_REQUIREPASS));
    snprintf(o->peer_secret, sizeof o->peer_secret, "%s", config_text(c, SETTING_PEER_SECRET));
}

/* Settings that are understood but whose part of the product is not in this version: refused by name rather than ignored. */
static bool unsupported(const struct config *c, struct buf *error)
{
    static const enum setting texts[] = {SETTING_TLS_CERT, SETTING_TLS_KEY, SETTING_TLS_CA, SETTING_ACL_FILE, SETTING_PEER_KEYS};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (config_text(c, texts[i])[0] != '\0') {
            buf_printf(error, "%s is not supported by this version: unset it", setting_table[texts[i]].name);
            return true;
        }
    }
    if (strcmp(config_text(c, SETTING_CONSENSUS_TYPE), "raft") != 0) {
        buf_append_str(error, "CONSENSUS_TYPE=pbft is not supported by this version: it takes raft");
        return true;
    }
    if (strcmp(config_text(c, SETTING_STATE_STORE), "embedded") != 0) {
        buf_append_str(error, "STATE_STORE=redis is not supported by this version: it takes embedded");
        return true;
    }
    return false;
}

struct server {
    struct config config;
    struct logger logger;
    struct files files;
    struct store *store;
    struct store_recovery recovered;
    struct node_options options;
    struct shell *shell;
};

static int store_exit(enum store_status st)
{
    switch (st) {
    case STORE_CORRUPT:
    case STORE_MISMATCH: return EXIT_DATA;
    case STORE_LOCKED: return EXIT_UNAVAILABLE;
    default: return EXIT_IO;
    }
}

static int server_open_store(struct server *sv)
{
    struct buf error = {0};
    const char *dir = config_text(&sv->config, SETTING_DATA_DIR);
    enum store_status st = files_posix_open(dir, &sv->files, &error);
    int code = 0;
    if (st != STORE_OK) {
        code = say(&error, st == STORE_LOCKED ? EXIT_UNAVAILABLE : EXIT_IO);
        buf_fini(&error);
        return code;
    }
    struct store_options o = {
        .node_uuid_seed = random_u64(),
        .self = sv->options.self,
        .node_name = slice_str(config_self(&sv->config)->name),
        .cluster_key = sv->options.cluster_key,
        .groups = sv->options.groups,
        .segment_bytes = SEGMENT_BYTES,
        .backlog_check = queue_log_check_bytes,
    };
    st = store_open(&sv->files, &o, &sv->store, &sv->recovered, &error);
    if (st != STORE_OK) {
        code = say(&error, store_exit(st));
        files_posix_close(&sv->files);
    }
    buf_fini(&error);
    return code;
}

struct restore {
    struct server *sv;
    uint32_t group;
};

static bool restore_piece(void *arg, slice_t piece)
{
    struct restore *r = arg;
    return node_restore_piece(r->sv->shell->node, r->group, piece);
}

static int server_restore(struct server *sv)
{
    for (uint32_t i = 0; i < sv->options.groups; i++) {
        uint64_t index = sv->recovered.groups[i].snapshot_index;
        struct restore r = {sv, i};
        if (index == 0) {
            continue;
        }
        enum store_status st = store_snapshot_load(sv->store, i, index, restore_piece, &r);
        if (st != STORE_OK || !node_restore_end(sv->shell->node, i)) {
            fprintf(stderr, "synaxis: the snapshot of group %u at index %llu cannot be restored: %s; move DATA_DIR away and let the "
                            "node rejoin\n", i, (unsigned long long)index, st != STORE_OK ? store_error(sv->store) : "its content is malformed");
            return EXIT_DATA;
        }
    }
    return 0;
}

static int listen_one(struct server *sv, uint16_t port, int what, const char *setting)
{
    const char *host = config_text(&sv->config, SETTING_NODE_HOST);
    if (strcmp(host, "localhost") == 0) {
        host = "127.0.0.1";
    }
    int rc = shell_listen(sv->shell, host, port, what);
    if (rc != 0) {
        fprintf(stderr, "synaxis: cannot listen on %s:%u (%s): %s\n", host, port, setting, uv_strerror(rc));
    }
    return rc == 0 ? 0 : EXIT_UNAVAILABLE;
}

static int server_listen(struct server *sv)
{
    int rc = listen_one(sv, (uint16_t)config_number(&sv->config, SETTING_PEER_PORT), 0, "PEER_PORT");
    rc = rc ? rc : listen_one(sv, sv->options.resp_port, DOOR_RESP, "RESP_PORT");
    rc = rc ? rc : listen_one(sv, sv->options.http_port, DOOR_HTTP, "NODE_PORT");
    uint16_t metrics = (uint16_t)config_number(&sv->config, SETTING_METRICS_PORT);
    if (rc == 0 && metrics != 0 && metrics != sv->options.http_port) {
        rc = listen_one(sv, metrics, DOOR_HTTP, "METRICS_PORT");
    }
    return rc;
}

static void server_logger(struct server *sv)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    enum log_level level = LOG_INFO;
    for (int i = 0; i < 4; i++) {
        if (strcmp(config_text(&sv->config, SETTING_LOG_LEVEL), levels[i]) == 0) {
            level = (enum log_level)i;
        }
    }
    const char *format = config_text(&sv->config, SETTING_LOG_FORMAT);
    bool text = strcmp(format, "text") == 0 || (strcmp(format, "auto") == 0 && isatty(STDERR_FILENO));
    struct log_sink sink = {NULL, write_line};
    logger_init(&sv->logger, level, text ? LOG_FORMAT_TEXT : LOG_FORMAT_JSON, config_self(&sv->config)->name, sink);
}

static void raise_fd_limit(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

static void announce(struct server *sv)
{
    char text[512];
    snprintf(text, sizeof text, "synaxis %s: node %s of %u, %u groups; RESP %u, HTTP %u; data in %s%s", SYNAXIS_VERSION,
             config_self(&sv->config)->name, sv->options.n_members, sv->options.groups, sv->options.resp_port, sv->options.http_port,
             config_text(&sv->config, SETTING_DATA_DIR), sv->recovered.fresh ? " (new)" : "");
    shell_log(sv->shell, LOG_INFO, text);
    if (sv->recovered.torn_bytes > 0) {
        snprintf(text, sizeof text, "the log ended in an unfinished write: %llu bytes cut, none of them acknowledged",
                 (unsigned long long)sv->recovered.torn_bytes);
        shell_log(sv->shell, LOG_WARN, text);
    }
    buf_put_u8(&sv->config.warnings, 0);
    for (char *line = strtok((char *)sv->config.warnings.ptr, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        shell_log(sv->shell, LOG_WARN, line);
    }
}

static int server_run(struct server *sv)
{
    sv->shell = calloc(1, sizeof *sv->shell);
    syn_assert(sv->shell != NULL);
    shell_init(sv->shell, &sv->logger);
    sv->options.node_uuid = sv->recovered.node_uuid;
    sv->options.incarnation = sv->recovered.incarnation;
    sv->options.fresh = sv->recovered.fresh;
    sv->shell->node = node_new(&sv->options, &sv->recovered, shell_now_ms(sv->shell), shell_wall_ms());
    int code = server_restore(sv);
    code = code ? code : server_listen(sv);
    if (code == 0 && !disk_start(sv->shell, sv->store)) {
        fprintf(stderr, "synaxis: no threads for the log could be started\n");
        code = EXIT_UNAVAILABLE;
    }
    if (code == 0) {
        announce(sv);
        code = shell_run(sv->shell);
        log_thread_stop(sv->shell->log, NULL);
        shell_log(sv->shell, LOG_INFO, "stopped");
    }
    shell_fini(sv->shell);
    node_free(sv->shell->node);
    free(sv->shell);
    return code;
}

static int server_start(struct server *sv)
{
    struct buf error = {0};
    if (unsupported(&sv->config, &error)) {
        int code = say(&error, EXIT_USAGE);
        buf_fini(&error);
        return code;
    }
    signal(SIGPIPE, SIG_IGN);
    umask(077);
    raise_fd_limit();
    node_options_of(&sv->config, &sv->options);
    int code = server_open_store(sv);
    if (code != 0) {
        return code;
    }
    server_logger(sv);
    code = server_run(sv);
    store_recovered_free(&sv->recovered);
    store_close(sv->store);
    files_posix_close(&sv->files);
    logger_fini(&sv->logger);
    return code;
}

int server_main(int argc, char **argv)
{
    struct server *sv = calloc(1, sizeof *sv);
    syn_assert(sv != NULL);
    struct buf text = {0};
    struct config_input in = {.argc = argc, .argv = argv, .env = environ, .read_file = read_file};
    int code = 0;
    if (!config_load(&sv->config, &in, &text)) {
        code = say(&text, EXIT_USAGE);
    } else if (sv->config.action == CONFIG_HELP || sv->config.action == CONFIG_PRINT) {
        if (sv->config.action == CONFIG_HELP) {
            config_help(&text);
        } else {
            config_print(&sv->config, &text);
        }
        fwrite(text.ptr, 1, text.len, stdout);
    } else if (sv->config.action == CONFIG_CHECK) {
        puts("the settings are good");
    } else {
        code = server_start(sv);
    }
    config_fini(&sv->config);
    buf_fini(&text);
    free(sv);
    return code;
}
